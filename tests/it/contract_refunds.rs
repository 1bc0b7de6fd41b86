//! Guarantees of the database for refunds, tested on both kinds of database.

use pixtoll::db::grants::{self, Reservation};
use pixtoll::db::refunds::{self, Closing, RefundTransfer};
use pixtoll::db::{Db, audit, auditor, erasure};
use pixtoll::model::image::ImageState;
use pixtoll::model::payment::{Payment, PaymentState, Transfer};

use crate::contract_db::{
    NOW, at, grant_of, image_state, load, on_both, payment, put, sold, use_of,
};
use crate::support::database::{execute, number, texts};

fn transfer(number: u64) -> RefundTransfer {
    RefundTransfer {
        network: "eip155:84532",
        transaction: format!("0x{number:064x}"),
        log_index: 3,
    }
}

async fn request(db: &Db, row: &Payment, keeps_goods: bool) -> bool {
    refunds::request(db, &row.id, keeps_goods, Some("a reason"), "a test", at(10))
        .await
        .unwrap()
}

async fn close(db: &Db, row: &Payment, number: u64) -> Closing {
    refunds::close(db, &row.id, &transfer(number), "a test", at(20))
        .await
        .unwrap()
}

const NOTHING_TAKEN: Closing = Closing::Done {
    images: Vec::new(),
    renewal_undone: None,
};

#[tokio::test]
async fn only_a_settled_payment_that_the_chain_shows_is_refunded() {
    on_both(async |db| {
        for (number, state) in (1..).zip(PaymentState::ALL) {
            let row = put(&db, &payment(number), state).await;
            let is_settled = state == PaymentState::Settled;
            assert_eq!(request(&db, &row, false).await, is_settled, "{state:?}");
            assert!(!request(&db, &row, true).await, "once");
        }
        let row = put(&db, &payment(20), PaymentState::Settled).await;
        execute(
            &db,
            "UPDATE payments SET missing_reason = 'transfer_missing'",
        )
        .await;
        assert!(!request(&db, &row, false).await, "its transfer is missing");
        execute(&db, "UPDATE payments SET missing_reason = NULL").await;
        let sql = format!(
            "UPDATE payments SET resolved_ms = 1 WHERE id = '{}'",
            row.id
        );
        execute(&db, &sql).await;
        assert!(
            !request(&db, &row, false).await,
            "the operator made up for it"
        );
    })
    .await;
}

#[tokio::test]
async fn a_refund_is_made_once_and_its_transfer_counts_once() {
    on_both(async |db| {
        let [one, two] = [1, 2].map(payment);
        for row in [&one, &two] {
            put(&db, row, PaymentState::Settled).await;
            assert!(request(&db, row, true).await);
        }
        assert!(!refunds::is_used(&db, &transfer(1)).await.unwrap());
        // Sixteen operators record two refunds by one transfer.
        let closes = (0..16).map(|number| {
            let (db, id) = (
                db.clone(),
                if number % 2 == 0 { &one.id } else { &two.id }.clone(),
            );
            tokio::spawn(async move {
                refunds::close(&db, &id, &transfer(1), "a test", at(20))
                    .await
                    .unwrap()
            })
        });
        let closes: Vec<_> = closes.collect();
        let mut made = 0;
        for close in closes {
            made += usize::from(close.await.unwrap() == NOTHING_TAKEN);
        }
        assert_eq!(made, 1);
        assert!(refunds::is_used(&db, &transfer(1)).await.unwrap());
        let sql = "SELECT COUNT(*) FROM refunds WHERE refunded_ms IS NOT NULL";
        assert_eq!(number(&db, sql).await, 1);
        let due = if refunds::find(&db, &one.id)
            .await
            .unwrap()
            .unwrap()
            .refunded
            .is_none()
        {
            &one
        } else {
            &two
        };
        assert_eq!(close(&db, due, 1).await, Closing::Used);
        assert_eq!(close(&db, due, 2).await, NOTHING_TAKEN);
        assert_eq!(close(&db, due, 3).await, Closing::NotDue);
        assert!(
            !refunds::cancel(&db, &due.id, "a test", at(21))
                .await
                .unwrap()
        );
        // The transfer of a payment refunds none.
        let paid = load(&db, &one).await.transaction.unwrap();
        let own = RefundTransfer {
            transaction: paid.to_string(),
            log_index: 1,
            ..transfer(1)
        };
        assert!(refunds::is_used(&db, &own).await.unwrap());
        let acts = texts(&db, "SELECT details FROM admin_log ORDER BY number").await;
        let made = acts
            .iter()
            .filter(|details| details.contains("\"made\""))
            .count();
        assert_eq!((acts.len(), made), (4, 2), "{acts:?}");
        assert!(audit::find_broken(&db, NOW).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_refund_takes_the_goods_back_or_changes_nothing() {
    on_both(async |db| {
        let grant = sold(&db, 1, 3).await;
        let row = payment(1);
        let mut uploads = Vec::new();
        for number in 1..=3 {
            let image = use_of(&grant, number, NOW);
            let held = grants::reserve(&db, &grant, &image, at(300)).await.unwrap();
            assert_eq!(held, Reservation::Held);
            uploads.push(image.id);
        }
        let [live, held, pending] = [&uploads[0], &uploads[1], &uploads[2]];
        for id in [live, held] {
            let published = grants::publish(&db, &row.id, id, at(5), None).await;
            assert!(published.unwrap());
        }
        assert!(request(&db, &row, false).await);
        execute(
            &db,
            &format!("UPDATE images SET held_ms = 1 WHERE id = '{held}'"),
        )
        .await;
        assert_eq!(close(&db, &row, 1).await, Closing::Busy(held.clone()));
        assert!(!grant_of(&db, &row).await.unwrap().is_void);
        assert_eq!(image_state(&db, live).await, ImageState::Live);
        assert!(!refunds::is_used(&db, &transfer(1)).await.unwrap());
        execute(&db, "UPDATE images SET held_ms = NULL").await;
        // Goods that are owed can't be resolved otherwise while a refund is due.
        execute(&db, "UPDATE payments SET owed = 'a test'").await;
        let resolved = audit::resolve(&db, row.id.as_str(), "otherwise", at(11)).await;
        assert!(!resolved.unwrap());
        let Closing::Done { mut images, .. } = close(&db, &row, 1).await else {
            panic!("it can be refunded");
        };
        images.sort();
        let mut expected = vec![live.clone(), held.clone()];
        expected.sort();
        assert_eq!(images, expected);
        // An upload that was under way publishes nothing.
        let published = grants::publish(&db, &row.id, pending, at(6), None).await;
        assert!(!published.unwrap());
        assert!(grant_of(&db, &row).await.unwrap().is_void);
        let refunded = load(&db, &row).await;
        assert_eq!(
            (refunded.voided_at, refunded.is_charged()),
            (None, Some(true))
        );
        assert!(audit::find_owed(&db).await.unwrap().is_empty());
        assert!(audit::find_broken(&db, NOW).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_voided_payment_that_the_chain_shows_after_all_is_refunded_without_goods() {
    on_both(async |db| {
        let row = put(&db, &payment(1), PaymentState::Settled).await;
        execute(
            &db,
            "UPDATE payments SET missing_reason = 'transfer_missing'",
        )
        .await;
        auditor::void(&db, &row.id, "gone", at(5)).await.unwrap();
        assert!(!request(&db, &row, false).await, "the chain shows nothing");
        let seen = Transfer {
            transaction: row.transaction.unwrap(),
            log_index: Some(1),
        };
        let row = load(&db, &row).await;
        assert!(
            auditor::note_seen(&db, &row, seen, 18, None, 1)
                .await
                .unwrap()
        );
        assert_eq!(audit::find_broken(&db, NOW).await.unwrap().len(), 1);
        assert!(
            !request(&db, &row, true).await,
            "there are no goods to keep"
        );
        assert!(request(&db, &row, false).await);
        assert_eq!(close(&db, &row, 1).await, NOTHING_TAKEN);
        assert!(audit::find_broken(&db, NOW).await.unwrap().is_empty());
        assert!(audit::find_owed(&db).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn records_wait_for_a_refund_and_its_transfer_is_remembered() {
    on_both(async |db| {
        let row = put(&db, &payment(1), PaymentState::Settled).await;
        execute(
            &db,
            "UPDATE payments SET next_look_ms = NULL, lease_until_ms = 0",
        )
        .await;
        execute(&db, "UPDATE grants SET token_expires_ms = 0").await;
        assert!(request(&db, &row, false).await);
        let erasable = async |seconds| erasure::find_erasable(&db, at(seconds), 9).await.unwrap();
        assert!(erasable(9_999).await.is_empty(), "it is due");
        assert_eq!(close(&db, &row, 1).await, NOTHING_TAKEN);
        assert!(erasable(19).await.is_empty());
        let found = erasable(20).await;
        assert_eq!(found.len(), 1);
        assert!(
            erasure::erase_payment(&db, &found[0], Some("hash"), at(30))
                .await
                .unwrap()
        );
        // Neither reason nor transaction is left, and the transfer makes no other refund.
        assert_eq!(number(&db, "SELECT COUNT(*) FROM refunds").await, 1);
        let named =
            "SELECT COUNT(*) FROM refunds WHERE reason IS NOT NULL OR transaction_hash IS NOT NULL";
        assert_eq!(number(&db, named).await, 0);
        assert!(refunds::is_used(&db, &transfer(1)).await.unwrap());
        assert!(refunds::page(&db, "").await.unwrap().is_empty());
        assert!(audit::find_broken(&db, NOW).await.unwrap().is_empty());
    })
    .await;
}
