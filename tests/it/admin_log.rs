//! The operator's log (docs/trust.md): appends never overlap, and a change shows, on both databases.

use std::sync::Arc;

use pixtoll::config::Trust as Settings;
use pixtoll::db::{Db, admin_log};
use pixtoll::model::admin_log::{Act, Entry, Head};
use pixtoll::store::Store;
use pixtoll::system::clock::ManualClock;
use pixtoll::system::random::Randomness;
use pixtoll::trust::Trust;

use crate::contract_db::{NOW, at, on_both};
use crate::support::database::{execute, texts};

fn entry(subject: &str) -> Entry {
    Entry {
        actor: "ada".to_owned(),
        act: Act::Block,
        subject: subject.to_owned(),
        reason: "a test".to_owned(),
        details: serde_json::json!({"list": "own", "count": 2}),
    }
}

fn trust(db: &Db) -> Trust {
    let clock = Arc::new(ManualClock::at(NOW));
    let settings = Settings {
        strikes: 3,
        restorable: std::time::Duration::from_hours(1),
        preserve: std::time::Duration::from_hours(1),
    };
    let randomness = Randomness::seeded(1);
    Trust::new(
        db.clone(),
        Store::in_memory(),
        clock,
        &randomness,
        settings,
        "http://i",
    )
}

/// Appends this many entries.
async fn fill(db: &Db, count: u64) -> Head {
    for number in 0..count {
        admin_log::append(db, &entry(&format!("image{number}")), at(number))
            .await
            .unwrap();
    }
    admin_log::head(db).await.unwrap().unwrap()
}

#[tokio::test]
async fn concurrent_appends_make_one_chain() {
    on_both(async |db| {
        let appends = (0..16).map(|racer| {
            let db = db.clone();
            tokio::spawn(async move {
                for round in 0..5 {
                    let subject = format!("{racer}-{round}");
                    admin_log::append(&db, &entry(&subject), NOW).await.unwrap();
                }
            })
        });
        for append in appends.collect::<Vec<_>>() {
            append.await.unwrap();
        }
        let verified = trust(&db).verify_log(None).await.unwrap();
        assert!(verified.is_intact, "{:?}", verified.fault);
        assert_eq!(verified.head.number, 80);
    })
    .await;
}

#[tokio::test]
async fn an_edited_deleted_reordered_or_cut_log_is_detected() {
    let changes: &[(&str, &str)] = &[
        (
            "UPDATE admin_log SET reason = 'another' WHERE number = 3",
            "entry 3 was changed",
        ),
        (
            "UPDATE admin_log SET at_ms = at_ms + 1 WHERE number = 1",
            "entry 1 was changed",
        ),
        (
            "UPDATE admin_log SET details = '{}' WHERE number = 5",
            "entry 5 was changed",
        ),
        (
            "DELETE FROM admin_log WHERE number = 2",
            "entry 2 is missing",
        ),
        (
            "DELETE FROM admin_log WHERE number = 5",
            "entries at the end",
        ),
        (
            "UPDATE admin_log SET number = CASE number WHEN 2 THEN -3 WHEN 3 THEN -2 ELSE number END; \
             UPDATE admin_log SET number = -number WHERE number < 0",
            "entry 2 follows another entry",
        ),
        (
            "INSERT INTO admin_log SELECT 0, at_ms, 'judge', act, subject, reason, details, \
             previous_hash, hash FROM admin_log WHERE number = 1",
            "entry 0 was inserted",
        ),
        (
            "INSERT INTO admin_log SELECT -9223372036854775807 - 1, at_ms, actor, act, subject, reason, \
             details, previous_hash, hash FROM admin_log WHERE number = 1",
            "entry -9223372036854775808 was inserted",
        ),
        ("DELETE FROM admin_log_head", "was deleted"),
        (
            "DELETE FROM admin_log WHERE number > 1; DELETE FROM admin_log_head",
            "was deleted",
        ),
    ];
    for (change, word) in changes {
        on_both(async |db| {
            let head = fill(&db, 5).await;
            assert!(trust(&db).verify_log(Some(&head)).await.unwrap().is_intact);
            for sql in change.split(';') {
                execute(&db, sql).await;
            }
            let verified = trust(&db).verify_log(None).await.unwrap();
            assert!(!verified.is_intact, "{change}");
            let fault = verified.fault.unwrap();
            assert!(fault.contains(word), "{change}: {fault}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_log_that_was_cut_with_its_head_contradicts_a_head_kept_elsewhere() {
    on_both(async |db| {
        let kept = fill(&db, 4).await;
        let third = texts(&db, "SELECT hash FROM admin_log WHERE number = 3").await;
        execute(&db, "DELETE FROM admin_log WHERE number = 4").await;
        let cut = format!(
            "UPDATE admin_log_head SET number = 3, hash = '{}'",
            third[0]
        );
        execute(&db, &cut).await;
        let trust = trust(&db);
        assert!(trust.verify_log(None).await.unwrap().is_intact);
        let verified = trust.verify_log(Some(&kept)).await.unwrap();
        assert!(!verified.is_intact);
        assert!(verified.fault.unwrap().contains("cut or rewritten"));
        // The log goes on, and an older head still fits.
        let older = Head {
            number: 3,
            hash: third[0].clone(),
        };
        admin_log::append(&db, &entry("another"), NOW)
            .await
            .unwrap();
        assert!(trust.verify_log(Some(&older)).await.unwrap().is_intact);
    })
    .await;
}

#[tokio::test]
async fn an_empty_log_is_intact_and_pages_go_backwards() {
    on_both(async |db| {
        let trust = trust(&db);
        let verified = trust.verify_log(None).await.unwrap();
        assert_eq!(
            (verified.is_intact, verified.head),
            (true, Head::of_empty_log())
        );
        fill(&db, 5).await;
        let numbers = async |before, subject: Option<&str>, most| -> Vec<i64> {
            let page = trust.log(before, subject, most).await.unwrap();
            page.iter().map(|entry| entry.number).collect()
        };
        assert_eq!(numbers(None, None, 2).await, [5, 4]);
        assert_eq!(numbers(Some(4), None, 9).await, [3, 2, 1]);
        assert_eq!(numbers(None, Some("image1"), 9).await, [2]);
    })
    .await;
}
