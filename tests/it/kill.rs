//! A server that is killed at any point continues correctly with the same files: goods and money
//! move once, or neither, and the client is never asked to pay again while the payment is open
//! (docs/payments.md, rule 9).
//!
//! Each test is a flow of the paid routes with its kill points. For each kill point, a server dies
//! there by SIGKILL, another one starts with its files, and the client repeats its request. The
//! facilitator and the chain run in a separate process, which survives. A proxy in front of it
//! injects faults where a flow needs them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use pixtoll::db::Db;
use pixtoll::sandbox::Sandbox;
use tokio::sync::{Notify, Semaphore};

use crate::support::origin::{Origin, Reply};
use crate::support::process::{Deployment, Request, SandboxProcess, Server, eventually};
use crate::support::proxy::{Fault, Proxy};
use crate::support::sign_in::{CLAIMS, only_token, request, sign_in};
use crate::support::{Answer, Payment, database, pictures};

/// Limits the servers that run at once, so that none is starved.
static SLOTS: Semaphore = Semaphore::const_new(6);

const YEAR: u64 = 10_000;
const PERMANENT: u64 = 1_000_000;

/// Every list of kill points in this file.
const FLOWS: &[&[&str]] = &[
    CHEAP_TOKEN,
    DEAR_TOKEN,
    FOLLOWED,
    DIRECT_UPLOAD,
    TAKEN_OVER,
    IMPORTED,
    IMPORT_TAKEN_OVER,
    UPLOAD_WITH_TOKEN,
    FREE_UPLOAD,
    SETTLED_AGAIN,
    ABANDONED,
    LATE,
    SLOW,
    REFUSED,
    LIED_TO,
    REJECTED,
    UNVERIFIED,
    RELEASED,
    VOID,
    WINDOW_CLOSED,
    AUDITED,
    MISSED,
    ORPHANS,
    UNEXPLAINED,
    EPOCH,
    LOST,
    RECOVERED,
    CLAIMED,
    TOKEN_REPLACED,
    RENEWED,
    REAPED,
    ERASED,
    DELETED,
    VARIANT,
    REFRESHED,
    REFRESH_CLEANED,
    crate::moving::POINTS,
    crate::backup::POINTS,
    crate::store_copy::POINTS,
];

#[test]
fn the_flows_cover_exactly_the_kill_points_of_the_sources() {
    let mut in_the_source = BTreeSet::new();
    names_in(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut in_the_source,
    );
    assert!(in_the_source.len() > 50, "the kill points were not found");
    let name = |point: &&str| point.split('#').next().unwrap().to_owned();
    let tested: BTreeSet<String> = FLOWS.iter().copied().flatten().map(name).collect();
    assert_eq!(tested, in_the_source);
}

/// The names in `kill_point!("…")` of all sources.
fn names_in(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names_in(&path, names);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for use_of_it in text.split("kill_point!(\"").skip(1) {
            let name = use_of_it.split('"').next().unwrap();
            assert!(names.insert(name.to_owned()), "{name} stands twice");
        }
    }
}

const CHEAP_TOKEN: &[&str] = &[
    "chain.funds.before",
    "chain.funds.after",
    "payment.insert.before",
    "payment.insert.after",
    "verify.call.before",
    "verify.call.after",
    "payment.verified.before",
    "payment.verified.after",
    "payment.settling.before",
    "payment.settling.after",
    "settle.call.before",
    "settle.call.after",
    "payment.settled.before",
    "payment.settled.after",
    "owed.clear.before",
    "owed.clear.after",
];

#[tokio::test]
async fn a_token_of_a_cheap_tier_is_sold_once() {
    at_each(CHEAP_TOKEN, async |scene, point| {
        let (payment, request) = scene.dies_while_selling(point, "token/year", b"").await;
        scene.ends_with_a_token(&payment, &request, YEAR).await;
    })
    .await;
}

const DEAR_TOKEN: &[&str] = &[
    "settle.call.before",
    "settle.call.after",
    "chain.evidence.before",
    "chain.evidence.after",
    "payment.settled.before",
    "payment.settled.after",
];

#[tokio::test]
async fn a_token_of_an_expensive_tier_is_sold_once() {
    at_each(DEAR_TOKEN, async |scene, point| {
        let (payment, request) = scene
            .dies_while_selling(point, "token/permanent", b"")
            .await;
        scene.ends_with_a_token(&payment, &request, PERMANENT).await;
    })
    .await;
}

const FOLLOWED: &[&str] = &[
    "settle.named.before",
    "settle.named.after",
    "payment.unknown.before",
    "payment.unknown.after",
];

#[tokio::test]
async fn a_transaction_that_never_appears_is_waited_for_and_its_payment_sold_once() {
    at_each(FOLLOWED, async |scene, point| {
        let scene = scene.set("payments.timeout", "3s");
        let named = serde_json::json!({
            "success": true,
            "transaction": format!("0x{}", "11".repeat(32)),
            "network": "eip155:84532",
        });
        let named = Fault::Instead(200, named.to_string());
        scene.facilitator.next("settle", named);
        let (payment, request) = scene
            .dies_while_selling(point, "token/permanent", b"")
            .await;
        scene.ends_with_a_token(&payment, &request, PERMANENT).await;
    })
    .await;
}

const DIRECT_UPLOAD: &[&str] = &[
    "payment.insert.before",
    "payment.insert.after",
    "image.stage.before",
    "image.stage.after",
    "image.attach.after",
    "verify.call.before",
    "verify.call.after",
    "payment.verified.before",
    "payment.verified.after",
    "image.store.before",
    "image.store.after",
    "payment.settling.before",
    "payment.settling.after",
    "settle.call.before",
    "settle.call.after",
    "payment.settled.before",
    "payment.settled.after",
];

#[tokio::test]
async fn a_direct_upload_is_published_once() {
    at_each(DIRECT_UPLOAD, async |scene, point| {
        let picture = pictures::png(8, 8);
        let (payment, request) = scene.dies_while_selling(point, "year", &picture).await;
        scene.ends_with_an_image(&payment, &request, &picture).await;
    })
    .await;
}

const TAKEN_OVER: &[&str] = &[
    "lease.claim.before",
    "lease.claim.after",
    "image.stage.before",
    "image.stage.after",
    "image.attach.after",
    "image.discard.before",
    "image.discard.after",
    "object.delete.before",
    "object.delete.after",
    "image.store.before",
    "image.store.after",
    "payment.settling.before",
];

#[tokio::test]
async fn an_upload_that_was_verified_by_a_killed_process_is_published_once() {
    at_each(TAKEN_OVER, async |scene, point| {
        let picture = pictures::png(8, 8);
        let (payment, request) = scene
            .dies_while_selling("image.store.after", "year", &picture)
            .await;
        let server = scene.start_to_die_at(point).await;
        scene.repeats_until_death(server, &request).await;
        scene.ends_with_an_image(&payment, &request, &picture).await;
    })
    .await;
}

const IMPORTED: &[&str] = &[
    "payment.verified.after",
    "image.fetch.before",
    "image.fetch.after",
    "image.stage.before",
    "image.stage.after",
    "image.attach.after",
    "image.store.before",
    "image.store.after",
    "payment.settling.before",
    "payment.settling.after",
    "settle.call.before",
    "settle.call.after",
    "payment.settled.before",
    "payment.settled.after",
];

#[tokio::test]
async fn an_import_is_published_once() {
    let picture = pictures::png(8, 8);
    let origin = &Origin::start(Reply::Image(picture.clone())).await;
    at_each(IMPORTED, async |scene, point| {
        let scene = scene.fetching_from(origin);
        let (payment, request) = scene.dies_while_importing(point, &origin.url()).await;
        scene
            .ends_with_an_import(&payment, &request, &picture)
            .await;
    })
    .await;
}

const IMPORT_TAKEN_OVER: &[&str] = &["lease.claim.after", "payment.settling.before"];

#[tokio::test]
async fn an_import_that_a_killed_process_stored_is_not_fetched_again() {
    let picture = pictures::png(8, 8);
    at_each(IMPORT_TAKEN_OVER, async |scene, point| {
        let origin = Origin::start(Reply::Image(picture.clone())).await;
        let scene = scene.fetching_from(&origin);
        let url = origin.url();
        let (payment, request) = scene.dies_while_importing("image.store.after", &url).await;
        // What another fetch would find is not what was stored.
        origin.reply(Reply::Image(pictures::png(9, 9)));
        let server = scene.start_to_die_at(point).await;
        scene.repeats_until_death(server, &request).await;
        scene
            .ends_with_an_import(&payment, &request, &picture)
            .await;
        assert_eq!(origin.connections(), 1);
    })
    .await;
}

const UPLOAD_WITH_TOKEN: &[&str] = &[
    "token.reserve.before",
    "token.reserve.after",
    "image.put.before",
    "image.put.after",
    "token.publish.before",
    "token.publish.after",
];

#[tokio::test]
async fn a_token_is_used_once() {
    at_each(UPLOAD_WITH_TOKEN, async |scene, point| {
        let server = scene.start_to_die_at(point).await;
        let (payment, buy) = scene.deployment.sign("/api/upload/token/year", b"").await;
        let token = scene.deployment.last_word(&buy).await.token();
        let picture = pictures::png(8, 8);
        let upload = Request::post("/api/upload")
            .with("X-Upload-Token", &token)
            .with_image(&picture);
        scene.repeats_until_death(server, &upload).await;

        let _server = scene.deployment.start().await;
        let uploaded = scene.deployment.last_word(&upload).await;
        scene.serves(&uploaded, &picture).await;
        let again = scene.deployment.last_word(&upload).await;
        assert_eq!(again.field("id"), uploaded.field("id"));
        let other = upload.clone().with_other_image(&pictures::png(9, 9));
        let other = scene.deployment.last_word(&other).await;
        assert_eq!(other.verdict(), (409, "token_used".to_owned(), Some(false)));
        scene.balances_after(&payment, &[YEAR]).await;
    })
    .await;
}

const FREE_UPLOAD: &[&str] = &[
    "free.stage.before",
    "free.stage.after",
    "image.put.before",
    "image.put.after",
    "free.publish.before",
    "free.publish.after",
];

#[tokio::test]
async fn a_free_upload_is_complete_or_absent() {
    at_each(FREE_UPLOAD, async |scene, point| {
        let server = scene.start_to_die_at(point).await;
        let picture = pictures::png(8, 8);
        let upload = Request::post("/api/free").with_image(&picture);
        scene.repeats_until_death(server, &upload).await;
        let _server = scene.deployment.start().await;
        let uploaded = scene.deployment.last_word(&upload).await;
        scene.serves(&uploaded, &picture).await;
        scene.deployment.check_ledger().await;
    })
    .await;
}

const SETTLED_AGAIN: &[&str] = &[
    "payment.unknown.before",
    "payment.unknown.after",
    "lease.claim.before",
    "lease.claim.after",
    "chain.evidence.before",
    "chain.evidence.after",
    "settle.again.before",
    "settle.again.after",
    "payment.settled.before",
    "payment.settled.after",
    "chain.evidence.before#2",
    "chain.evidence.after#2",
    "lease.return.before",
    "lease.return.after",
];

#[tokio::test]
async fn a_settle_call_that_never_arrived_is_repeated_and_moves_money_once() {
    at_each(SETTLED_AGAIN, async |scene, point| {
        scene.facilitator.next("settle", oops());
        let (payment, request) = scene.dies_while_selling(point, "token/year", b"").await;
        scene.ends_with_a_token(&payment, &request, YEAR).await;
    })
    .await;
}

const ABANDONED: &[&str] = &[
    "lease.claim.before",
    "lease.claim.after",
    "payment.abandoned.before",
    "payment.abandoned.after",
    "chain.evidence.before",
    "chain.evidence.after",
    "payment.settled.before",
    "payment.settled.after",
];

#[tokio::test]
async fn a_settlement_whose_process_was_killed_is_found_on_the_chain() {
    at_each(ABANDONED, async |scene, point| {
        let (payment, request) = scene
            .dies_while_selling("settle.call.after", "token/year", b"")
            .await;
        let server = scene.start_to_die_at(point).await;
        scene.repeats_until_death(server, &request).await;
        scene.ends_with_a_token(&payment, &request, YEAR).await;
        assert_eq!(scene.facilitator.calls("settle"), 1);
    })
    .await;
}

const LATE: &[&str] = &[
    "settle.late.after",
    "payment.settled.before",
    "payment.settled.after",
];

#[tokio::test]
async fn a_late_settle_answer_loses_nothing() {
    at_each(LATE, async |scene, point| {
        let scene = scene.set("payments.timeout", "3s");
        let release = std::sync::Arc::new(Notify::new());
        let held = Fault::Late(std::sync::Arc::clone(&release));
        scene.facilitator.next("settle", held);
        let mut server = scene.start_to_die_at(point).await;
        let (payment, request) = scene.deployment.sign("/api/upload/token/year", b"").await;
        // A slow machine may not verify in time; then the request is repeated.
        let pending = eventually("an open settlement", async || {
            let answer = scene.deployment.answer(&request).await;
            (answer.error() != "facilitator_unavailable").then_some(answer)
        })
        .await;
        assert_eq!(
            pending.verdict(),
            (503, "settlement_pending".to_owned(), None)
        );
        release.notify_one();
        server.dies().await;
        scene.ends_with_a_token(&payment, &request, YEAR).await;
    })
    .await;
}

const SLOW: &[&str] = &["lease.renew.before", "lease.renew.after"];

#[tokio::test]
async fn a_lease_that_was_being_extended_is_taken_over() {
    at_each(SLOW, async |scene, point| {
        scene.facilitator.next("settle", Fault::SilentAfter);
        let (payment, request) = scene.dies_while_selling(point, "token/year", b"").await;
        scene.ends_with_a_token(&payment, &request, YEAR).await;
    })
    .await;
}

const REFUSED: &[&str] = &[
    "settle.call.after",
    "payment.failed.before",
    "payment.failed.after",
    "object.delete.before",
    "object.delete.after",
];

#[tokio::test]
async fn a_rejection_by_settle_is_final_once_it_is_recorded() {
    at_each(REFUSED, async |scene, point| {
        let refusal = Fault::refusal(200, "insufficient_funds");
        scene.facilitator.next("settle", refusal);
        let picture = pictures::png(8, 8);
        let (payment, request) = scene.dies_while_selling(point, "year", &picture).await;
        // A rejection that was not recorded is lost. Then the chain shows that nothing moved,
        // settle is called again, and the facilitator accepts.
        if matches!(point, "settle.call.after" | "payment.failed.before") {
            scene.ends_with_an_image(&payment, &request, &picture).await;
        } else {
            scene
                .ends_unpaid(&payment, &request, "payment_failed")
                .await;
        }
    })
    .await;
}

const LIED_TO: &[&str] = &[
    "payment.failed.before",
    "payment.failed.after",
    "chain.evidence.before",
    "chain.evidence.after",
    "payment.settled.before",
    "payment.settled.after",
    "owed.clear.before",
    "owed.clear.after",
];

#[tokio::test]
async fn money_that_moved_despite_a_rejection_buys_its_goods() {
    at_each(LIED_TO, async |scene, point| {
        let lie = Fault::lie(200, "insufficient_funds");
        scene.facilitator.next("settle", lie);
        let (payment, request) = scene.dies_while_selling(point, "token/year", b"").await;
        scene.ends_with_a_token(&payment, &request, YEAR).await;
    })
    .await;
}

const REJECTED: &[&str] = &[
    "verify.call.after",
    "payment.rejected.before",
    "payment.rejected.after",
    "object.delete.before",
    "object.delete.after",
];

#[tokio::test]
async fn a_rejection_by_verify_is_final_once_it_is_recorded() {
    at_each(REJECTED, async |scene, point| {
        let no = r#"{"isValid":false,"invalidReason":"insufficient_funds"}"#;
        let no = Fault::Instead(200, no.to_owned());
        scene.facilitator.next("verify", no);
        let picture = pictures::png(8, 8);
        let (payment, request) = scene.dies_while_selling(point, "year", &picture).await;
        if matches!(point, "verify.call.after" | "payment.rejected.before") {
            scene.ends_with_an_image(&payment, &request, &picture).await;
        } else {
            scene
                .ends_unpaid(&payment, &request, "payment_invalid")
                .await;
        }
    })
    .await;
}

const UNVERIFIED: &[&str] = &[
    "verify.call.after",
    "lease.return.before",
    "lease.return.after",
];

#[tokio::test]
async fn a_payment_that_verify_did_not_answer_is_verified_later() {
    at_each(UNVERIFIED, async |scene, point| {
        scene.facilitator.always("verify", oops());
        let (payment, request) = scene.dies_while_selling(point, "token/year", b"").await;
        scene.facilitator.mend();
        scene.ends_with_a_token(&payment, &request, YEAR).await;
    })
    .await;
}

const RELEASED: &[&str] = &[
    "payment.released.before",
    "payment.released.after",
    "payment.insert.before#2",
    "payment.insert.after#2",
    "image.discard.before",
    "image.discard.after",
    "object.delete.before",
    "object.delete.after",
    "object.delete.before#2",
    "object.delete.after#2",
];

#[tokio::test]
async fn an_upload_that_could_not_be_stored_is_charged_once_it_is_stored() {
    at_each(RELEASED, async |scene, point| {
        let mut server = scene.start_to_die_at(point).await;
        // A file where the store needs a folder.
        let obstacle = scene.deployment.folder().join("data/images/images");
        std::fs::write(&obstacle, "").unwrap();
        let picture = pictures::png(8, 8);
        let (payment, request) = scene.deployment.sign("/api/upload/year", &picture).await;
        let refused = scene.deployment.send(&request).await;
        std::fs::remove_file(&obstacle).unwrap();
        match refused {
            Some(refused) => {
                let expected = (500, "upload_failed".to_owned(), Some(false));
                assert_eq!(refused.verdict(), expected);
                scene.repeats_until_death(server, &request).await;
            }
            // The connection is closed before the port and the lock are free.
            None => server.dies().await,
        }
        scene.ends_with_an_image(&payment, &request, &picture).await;
    })
    .await;
}

const VOID: &[&str] = &[
    "payment.void.before",
    "payment.void.after",
    "object.delete.before",
    "object.delete.after",
];

#[tokio::test]
async fn a_payment_that_its_payer_cancelled_ends_without_money() {
    at_each(VOID, async |scene, point| {
        scene.facilitator.always("settle", oops());
        let server = scene.start_to_die_at(point).await;
        let picture = pictures::png(8, 8);
        let (payment, request) = scene.deployment.sign("/api/upload/year", &picture).await;
        let pending = scene.deployment.answer(&request).await;
        let expected = (503, "settlement_pending".to_owned(), None);
        assert_eq!(pending.verdict(), expected);
        let signed = &payment.authorization;
        let chain = scene.sandbox.chain().await;
        chain.cancel(signed.from, signed.nonce).await.unwrap();
        scene.repeats_until_death(server, &request).await;
        scene
            .ends_unpaid(&payment, &request, "payment_failed")
            .await;
    })
    .await;
}

const WINDOW_CLOSED: &[&str] = &[
    "lease.claim.before",
    "lease.claim.after",
    "payment.closed.before",
    "payment.closed.after",
];

#[tokio::test]
async fn a_payment_that_missed_its_window_is_given_up() {
    at_each(WINDOW_CLOSED, async |scene, point| {
        scene.facilitator.always("verify", oops());
        let server = scene.deployment.start().await;
        let (payment, request) = scene.deployment.sign("/api/upload/token/year", b"").await;
        let unverified = scene.deployment.answer(&request).await;
        assert_eq!(unverified.error(), "facilitator_unavailable");
        server.kill().await;
        scene.age(&payment).await;

        // The reconciler gives it up, without a request.
        scene.deployment.dies_by_itself_at(point).await;
        let _server = scene.deployment.start().await;
        let id = payment.ledger_id().to_string();
        eventually("the end of the payment", async || {
            let shown = scene.deployment.run(&["ledger", "show", &id]).await;
            shown.out.contains("state        rejected").then_some(())
        })
        .await;
        let answer = scene.deployment.last_word(&request).await;
        let expected = (402, "payment_invalid".to_owned(), Some(false));
        assert_eq!(answer.verdict(), expected);
        scene.balances_after(&payment, &[]).await;
    })
    .await;
}

const AUDITED: &[&str] = &["audit.seen.before", "audit.seen.after"];

#[tokio::test]
async fn a_settlement_is_checked_by_its_log_once_despite_a_kill() {
    at_each_alone(AUDITED, async |scene, point| {
        let (payment, request) = scene.sells_and_stops().await;
        scene.is_looked_at(&payment, "looks = 0").await;
        scene.deployment.dies_by_itself_at(point).await;
        let server = scene.deployment.start().await;
        scene.until(&payment, "log_index IS NOT NULL").await;
        server.kill().await;
        scene.ends_with_a_token(&payment, &request, YEAR).await;
    })
    .await;
}

const MISSED: &[&str] = &["audit.missing.before", "audit.missing.after"];

#[tokio::test]
async fn a_missing_transfer_is_found_again_despite_a_kill() {
    at_each_alone(MISSED, async |scene, point| {
        let (payment, request) = scene.sells_and_stops().await;
        let chain = scene.forget(&payment).await;
        scene.is_looked_at(&payment, "looks = 0").await;
        scene.deployment.dies_by_itself_at(point).await;
        let server = scene.deployment.start().await;
        scene.until(&payment, "missing_looks = 1").await;
        server.kill().await;
        let (signed, signature) = (&payment.authorization, &payment.signature);
        chain.execute(signed, signature).await.unwrap();
        scene.is_looked_at(&payment, "looks = 0").await;
        let server = scene.deployment.start().await;
        scene
            .until(&payment, "log_index IS NOT NULL AND missing_looks = 0")
            .await;
        server.kill().await;
        scene.ends_with_a_token(&payment, &request, YEAR).await;
    })
    .await;
}

/// A payment whose transfer was missed twice, ten minutes ago.
const MISSED_TWICE: &str = "missing_looks = 2, missing_since_ms = 1000, missing_block = 0";

#[tokio::test]
async fn a_payment_is_marked_and_cleared_despite_a_kill() {
    at_each_alone(MISSED, async |scene, point| {
        let (payment, request) = scene.sells_and_stops().await;
        let chain = scene.forget(&payment).await;
        scene.is_looked_at(&payment, MISSED_TWICE).await;
        scene.deployment.dies_by_itself_at(point).await;
        let server = scene.deployment.start().await;
        scene
            .until(&payment, "missing_reason = 'transfer_missing'")
            .await;
        server.kill().await;
        let (signed, signature) = (&payment.authorization, &payment.signature);
        chain.execute(signed, signature).await.unwrap();
        scene.is_looked_at(&payment, "looks = 0").await;
        let server = scene.deployment.start().await;
        scene
            .until(&payment, "log_index IS NOT NULL AND missing_reason IS NULL")
            .await;
        server.kill().await;
        scene.ends_with_a_token(&payment, &request, YEAR).await;
    })
    .await;
}

const ORPHANS: &[&str] = &["orphans.note.before", "orphans.note.after"];

#[tokio::test]
async fn an_orphan_transfer_is_reported_despite_a_kill() {
    at_each_alone(ORPHANS, async |scene, point| {
        let server = scene.deployment.start().await;
        let (payment, _) = scene.deployment.sign("/api/upload/token/year", b"").await;
        eventually("the first search", async || {
            let db = scene.database().await;
            let ran = "SELECT COUNT(*) FROM jobs WHERE name = 'orphans' AND ran_ms > 0";
            let ran = database::number(&db, ran).await;
            db.close().await;
            (ran == 1).then_some(())
        })
        .await;
        server.kill().await;
        let chain = scene.sandbox.chain().await;
        let giver = alloy_primitives::Address::repeat_byte(7);
        let gift = chain.send(
            giver,
            payment.authorization.to,
            alloy_primitives::U256::from(7),
        );
        let gift = gift.await.unwrap();
        scene
            .change("UPDATE jobs SET ran_ms = 1 WHERE name = 'orphans'")
            .await;
        scene.deployment.dies_by_itself_at(point).await;
        let _server = scene.deployment.start().await;
        eventually("the search's end", async || {
            let log =
                std::fs::read_to_string(scene.deployment.folder().join("server.log")).unwrap();
            let named = log
                .lines()
                .any(|line| line.contains("an orphan") && line.contains(&gift.to_string()));
            let db = scene.database().await;
            let ran = "SELECT COUNT(*) FROM jobs WHERE name = 'orphans' AND ran_ms > 1";
            let ran = database::number(&db, ran).await;
            db.close().await;
            (named && ran == 1).then_some(())
        })
        .await;
        let ran = scene.deployment.run(&["ledger", "check"]).await;
        assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        assert!(
            ran.out.contains(&format!("transaction {gift}")),
            "{}",
            ran.out
        );
    })
    .await;
}

const UNEXPLAINED: &[&str] = &["orphans.insert.before", "orphans.insert.after"];

#[tokio::test]
async fn an_orphan_that_looks_like_a_sale_waits_for_a_decision_despite_a_kill() {
    at_each_alone(UNEXPLAINED, async |scene, point| {
        let server = scene.deployment.start().await;
        let (payment, _) = scene.deployment.sign("/api/upload/token/year", b"").await;
        server.kill().await;
        let chain = scene.sandbox.chain().await;
        let (signed, signature) = (&payment.authorization, &payment.signature);
        let transaction = chain.execute(signed, signature).await.unwrap().to_string();
        scene
            .change("UPDATE jobs SET ran_ms = 1 WHERE name = 'orphans'")
            .await;
        scene.deployment.dies_by_itself_at(point).await;
        let _server = scene.deployment.start().await;
        let offline = ["ledger", "check", "--offline"];
        eventually("the decision", async || {
            let checked = scene.deployment.run(&offline).await;
            let named = checked.out.contains("UNEXPLAINED") && checked.out.contains(&transaction);
            (named && checked.code == Some(1)).then_some(())
        })
        .await;
        let accept = ["ledger", "accept", &transaction, "--note", "a test"];
        let accepted = scene.deployment.run(&accept).await;
        assert_eq!(accepted.code, Some(0), "{}{}", accepted.out, accepted.err);
        let checked = scene.deployment.run(&["ledger", "check"]).await;
        assert_eq!(checked.code, Some(0), "{}{}", checked.out, checked.err);
    })
    .await;
}

const EPOCH: &[&str] = &[
    "epoch.advance.before",
    "epoch.advance.after",
    "epoch.mark.after",
];

#[tokio::test]
async fn a_server_killed_while_it_records_its_epoch_stays_current() {
    at_each(EPOCH, async |scene, point| {
        scene.deployment.dies_by_itself_at(point).await;
        let server = scene.deployment.start().await;
        let (payment, request) = scene.deployment.sign("/api/upload/token/year", b"").await;
        scene.deployment.last_word(&request).await.token();
        server.kill().await;
        scene.deployment.dies_by_itself_at(point).await;
        scene.ends_with_a_token(&payment, &request, YEAR).await;
    })
    .await;
}

const LOST: &[&str] = &["epoch.lost.before", "epoch.lost.after"];

#[tokio::test]
async fn a_lost_commit_pauses_sales_despite_a_kill() {
    at_each(LOST, async |scene, point| {
        let deployment = &scene.deployment;
        let server = deployment.start().await;
        let (payment, request) = deployment.sign("/api/upload/token/year", b"").await;
        let token = deployment.last_word(&request).await.token();
        server.kill().await;
        let db = scene.database().await;
        crate::recover::lose_everything(&db).await;
        db.close().await;
        let upload = Request::post("/api/upload").with("X-Upload-Token", &token);
        let upload = upload.with_image(&pictures::png(8, 8));
        let server = deployment.start_to_die_at(point).await;
        scene.repeats_until_death(server, &upload).await;

        let server = deployment.start().await;
        let refused = deployment.answer(&upload).await;
        let expected = (503, "recovery_required".to_owned(), None);
        assert_eq!(refused.verdict(), expected);
        let sale = Request::post("/api/upload/token/year");
        assert_eq!(deployment.answer(&sale).await.status, 503);
        let checked = deployment.run(&["ledger", "check"]).await;
        assert_eq!(checked.code, Some(1), "{}", checked.out);
        assert!(checked.out.contains("STALE: "), "{}", checked.out);
        let ran = deployment.run(&["ledger", "recover"]).await;
        assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        // The running server notices it.
        eventually("sales go on", async || {
            (deployment.answer(&sale).await.status == 402).then_some(())
        })
        .await;
        let known = (409, "payment_known".to_owned(), Some(true));
        assert_eq!(deployment.answer(&upload).await.verdict(), known);
        server.kill().await;
        scene.balances_after(&payment, &[YEAR]).await;
    })
    .await;
}

const RECOVERED: &[&str] = &[
    "recover.insert.before",
    "recover.insert.after",
    "epoch.accept.before",
    "epoch.accept.after",
];

#[tokio::test]
async fn transfers_found_on_the_chain_are_recovered_once_despite_a_kill() {
    at_each(RECOVERED, async |scene, point| {
        let payment = scene.loses_a_payment().await;
        let mut command = scene.deployment.command(&["ledger", "recover"]);
        let died = command.env("FAILPOINTS", format!("{point}=1*return"));
        assert!(!died.output().await.unwrap().status.success());
        let ran = scene.deployment.run(&["ledger", "recover"]).await;
        assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        let owed = scene.deployment.run(&["ledger", "owed"]).await;
        assert!(owed.out.contains("1 payments are owed"), "{}", owed.out);
        scene.balances_after(&payment, &[YEAR]).await;
    })
    .await;
}

const CLAIMED: &[&str] = &["signin.nonce.before", "signin.nonce.after"];

#[tokio::test]
async fn a_payer_claims_a_lost_payment_despite_a_kill() {
    at_each(CLAIMED, async |scene, point| {
        let payment = scene.loses_a_payment().await;
        let ran = scene.deployment.run(&["ledger", "recover"]).await;
        assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        let (deployment, wallet) = (&scene.deployment, &scene.deployment.wallet);
        let asks = Request::post(CLAIMS);
        let server = deployment.start_to_die_at(point).await;
        let message = sign_in(&deployment.answer(&asks).await, wallet);
        scene.repeats_until_death(server, &request(&message)).await;

        let _server = deployment.start().await;
        // The same message signs in if its nonce was not recorded.
        let again = deployment.answer(&request(&message)).await;
        let expected = if point.ends_with("before") { 200 } else { 401 };
        assert_eq!(again.status, expected, "{}", again.text());
        let message = sign_in(&deployment.answer(&asks).await, wallet);
        let claimed = deployment.answer(&request(&message)).await.json();
        let (_, token) = only_token(claimed["payments"].as_array().unwrap());
        let upload = Request::post("/api/upload").with("X-Upload-Token", &token);
        let picture = pictures::png(8, 8);
        let uploaded = deployment.answer(&upload.with_image(&picture)).await;
        scene.serves(&uploaded, &picture).await;
        scene.balances_after(&payment, &[YEAR]).await;
    })
    .await;
}

const TOKEN_REPLACED: &[&str] = &[
    "token.replace.before",
    "token.replace.after",
    "owed.clear.before#2",
    "owed.clear.after#2",
];

#[tokio::test]
async fn a_token_that_expired_unused_is_replaced_without_paying_again() {
    at_each(TOKEN_REPLACED, async |scene, point| {
        let scene = scene.set("payments.token_ttl", "1s");
        let (payment, request) = scene.dies_while_selling(point, "token/year", b"").await;
        let scene = scene.set("payments.token_ttl", "10min");
        // Ends whichever token it left: a token with time left would be returned once more.
        scene.change("UPDATE grants SET token_expires_ms = 1").await;
        scene.ends_with_a_token(&payment, &request, YEAR).await;
    })
    .await;
}

const RENEWED: &[&str] = &[
    "payment.settling.before",
    "payment.settling.after",
    "settle.call.after",
    "payment.settled.before",
    "payment.settled.after",
    "image.describe.before",
    "image.describe.after",
];

#[tokio::test]
async fn a_renewal_is_made_once_and_releases_the_image() {
    at_each(RENEWED, async |scene, point| {
        let server = scene.start_to_die_at(point).await;
        let upload = Request::post("/api/free").with_image(&pictures::png(8, 8));
        let uploaded = scene.deployment.answer(&upload).await;
        let id = uploaded.field("id");
        let path = format!("/api/images/{id}/renew?tier=year");
        let (payment, request) = scene.deployment.sign(&path, b"").await;
        scene.repeats_until_death(server, &request).await;

        let _server = scene.deployment.start().await;
        let renewed = scene.deployment.last_word(&request).await;
        assert_eq!(renewed.status, 200, "{}", renewed.text());
        let metadata = Request::get(&format!("/api/images/{id}"));
        let metadata = scene.deployment.answer(&metadata).await;
        assert_eq!(metadata.field("expiresAt"), renewed.field("expiresAt"));
        assert_eq!(
            renewed.field("previousExpiresAt"),
            uploaded.field("expiresAt")
        );
        scene.balances_after(&payment, &[YEAR]).await;
        let delete = Request::delete(&format!("/api/images/{id}"))
            .with("X-Delete-Token", &uploaded.field("deleteToken"));
        assert_eq!(scene.deployment.last_word(&delete).await.status, 200);
    })
    .await;
}

const REAPED: &[&str] = &[
    "reap.claim.before",
    "reap.claim.after",
    "objects.delete.before",
    "objects.delete.after",
    "images.mark.before",
    "images.mark.after",
];

#[tokio::test]
async fn the_next_reaper_finishes_after_a_killed_one() {
    at_each(REAPED, async |scene, point| {
        let scene = scene.set("retention.schedule", "* * * * * *");
        let server = scene.deployment.start().await;
        let uploads = [pictures::png(8, 8), pictures::png(9, 9)];
        let uploads = uploads.map(|picture| Request::post("/api/free").with_image(&picture));
        let [expired, kept] = &uploads;
        let expired = scene.deployment.answer(expired).await;
        let kept = scene.deployment.answer(kept).await;
        server.kill().await;
        let id = expired.field("id");
        let past = format!("UPDATE images SET expires_ms = 1000 WHERE id = '{id}'");
        scene.change(&past).await;

        scene.deployment.dies_by_itself_at(point).await;
        let _server = scene.deployment.start().await;
        eventually("the end of the image", async || {
            (scene.image_state(&id).await == ["deleted"]).then_some(())
        })
        .await;
        assert!(!scene.object(&id).exists());
        scene.serves(&kept, &pictures::png(9, 9)).await;
        scene.deployment.check_ledger().await;
    })
    .await;
}

const ERASED: &[&str] = &["reap.erase.before", "reap.erase.after"];

#[tokio::test]
async fn a_payment_is_erased_completely_or_not_at_all() {
    at_each(ERASED, async |scene, point| {
        let scene = scene.set("retention.schedule", "* * * * * *");
        let server = scene.deployment.start().await;
        let picture = pictures::png(8, 8);
        let (payment, request) = scene.deployment.sign("/api/upload/year", &picture).await;
        let uploaded = scene.deployment.last_word(&request).await;
        server.kill().await;
        std::fs::remove_file(scene.object(&uploaded.field("id"))).unwrap();
        let past = "UPDATE images SET state = 'deleted', expires_ms = 1000, deleted_ms = 1000";
        scene.change(past).await;
        let past = "UPDATE grants SET token_expires_ms = 1000";
        scene.change(past).await;

        scene.deployment.dies_by_itself_at(point).await;
        let _server = scene.deployment.start().await;
        let id = uploaded.field("id");
        eventually("the end of the records", async || {
            scene.image_state(&id).await.is_empty().then_some(())
        })
        .await;
        let known = scene.deployment.last_word(&request).await;
        let expected = (409, "payment_known".to_owned(), Some(true));
        assert_eq!(known.verdict(), expected);
        scene.balances_after(&payment, &[YEAR]).await;
    })
    .await;
}

const DELETED: &[&str] = &[
    "delete.claim.before",
    "delete.claim.after",
    "objects.delete.before",
    "objects.delete.after",
    "images.mark.before",
    "images.mark.after",
];

#[tokio::test]
async fn an_interrupted_delete_is_finished_when_it_is_repeated() {
    at_each(DELETED, async |scene, point| {
        let scene = scene.set("retention.schedule", "off");
        let server = scene.start_to_die_at(point).await;
        let upload = Request::post("/api/free").with_image(&pictures::png(8, 8));
        let uploaded = scene.deployment.answer(&upload).await;
        let id = uploaded.field("id");
        let delete = Request::delete(&format!("/api/images/{id}"))
            .with("X-Delete-Token", &uploaded.field("deleteToken"));
        scene.repeats_until_death(server, &delete).await;

        let _server = scene.deployment.start().await;
        let deleted = scene.deployment.last_word(&delete).await;
        assert_eq!(deleted.status, 200, "{}", deleted.text());
        assert!(!scene.object(&id).exists());
        assert_eq!(scene.image_state(&id).await, ["deleted"]);
        let link = Request::get(&uploaded.field("url"));
        assert_eq!(scene.deployment.answer(&link).await.status, 404);
        scene.deployment.check_ledger().await;
    })
    .await;
}

const VARIANT: &[&str] = &[
    "variant.insert.before",
    "variant.insert.after",
    "variant.put.after",
];

#[tokio::test]
async fn an_interrupted_variant_is_shown_afterwards_and_deleted_with_its_image() {
    at_each(VARIANT, async |scene, point| {
        let scene = scene.set("retention.schedule", "off");
        let server = scene.start_to_die_at(point).await;
        let upload = Request::post("/api/free").with_image(&pictures::png(8, 8));
        let uploaded = scene.deployment.answer(&upload).await;
        let id = uploaded.field("id");
        let link = uploaded.field("url").replace(".png", ".jpg?w=4");
        let variant = Request::get(&link);
        scene.repeats_until_death(server, &variant).await;

        let _server = scene.deployment.start().await;
        let shown = scene.deployment.answer(&variant).await;
        assert_eq!(shown.status, 200, "{}", shown.text());
        assert!(shown.bytes.starts_with(&[0xff, 0xd8]));
        let again = scene.deployment.answer(&variant).await;
        assert_eq!(again.bytes, shown.bytes);
        let delete = Request::delete(&format!("/api/images/{id}"))
            .with("X-Delete-Token", &uploaded.field("deleteToken"));
        assert_eq!(scene.deployment.answer(&delete).await.status, 200);
        assert_eq!(scene.deployment.answer(&variant).await.status, 404);
        let folder = scene.object(&id).parent().unwrap().to_owned();
        eventually("nothing is left", async || {
            let left = std::fs::read_dir(&folder).unwrap();
            let mut left = left.map(|entry| entry.unwrap().file_name());
            let of_image = |name: std::ffi::OsString| name.to_string_lossy().starts_with(&id);
            (!left.any(of_image)).then_some(())
        })
        .await;
        scene.deployment.check_ledger().await;
    })
    .await;
}

const REFRESHED: &[&str] = &[
    "refresh.put.before",
    "refresh.put.after",
    "refresh.replace.after",
];

#[tokio::test]
async fn an_interrupted_refresh_leaves_one_whole_content_and_is_done_again() {
    at_each(REFRESHED, async |scene, point| {
        dies_refreshing(scene, point, false).await;
    })
    .await;
}

const REFRESH_CLEANED: &[&str] = &["refresh.clean.before", "refresh.clean.after"];

#[tokio::test]
async fn replaced_content_is_deleted_after_an_interruption() {
    at_each(REFRESH_CLEANED, async |scene, point| {
        dies_refreshing(scene, point, true).await;
    })
    .await;
}

/// Kills a server while it refreshes an image, or deletes what a refresh replaced.
async fn dies_refreshing(scene: Scene<'_>, point: &str, is_cleaning: bool) {
    let (first, second) = (pictures::png(8, 8), pictures::png(9, 9));
    let origin = Origin::start(Reply::Image(first.clone())).await;
    let scene = Scene {
        deployment: origin.allowed_in(scene.deployment),
        ..scene
    };
    let server = scene.deployment.start().await;
    let order = serde_json::json!({"url": origin.url(), "tier": "free", "refresh": "1h"});
    let import = Request::post("/api/import").with_other_image(order.to_string().as_bytes());
    let image = scene.deployment.answer(&import).await;
    scene.serves(&image, &first).await;
    server.kill().await;
    origin.reply(Reply::Image(second.clone()));
    let due = "UPDATE refreshes SET next_ms = 1 WHERE next_ms IS NOT NULL";
    let unclean = "UPDATE refreshes SET clean_ms = 1 WHERE clean_ms IS NOT NULL";
    scene.change(due).await;
    let link = Request::get(&image.field("url"));
    let is_new = async || {
        let shown = scene.deployment.answer(&link).await;
        assert_eq!(shown.status, 200);
        (shown.bytes == second).then_some(())
    };
    if is_cleaning {
        let server = scene.deployment.start().await;
        eventually("the new content", &is_new).await;
        server.kill().await;
        scene.change(unclean).await;
    }
    scene.deployment.dies_by_itself_at(point).await;
    scene.change(due).await;
    let server = scene.deployment.start().await;
    eventually("the new content", &is_new).await;
    server.kill().await;
    scene.change("UPDATE refreshes SET clean_ms = 1").await;
    // It writes a sidecar that the server left behind.
    scene.deployment.run(&["reap", "--accept-clock"]).await;
    let _server = scene.deployment.start().await;
    let (id, folder) = (image.field("id"), scene.object(&image.field("id")));
    let folder = folder.parent().unwrap();
    eventually("one content", async || {
        let left = std::fs::read_dir(folder).unwrap();
        let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        // The content and its sidecar.
        (left.filter(|name| name.starts_with(&id)).count() == 2).then_some(())
    })
    .await;
    scene.serves(&image, &second).await;
    scene.deployment.check_ledger().await;
}

/// A facilitator fault without an answer, where the call never arrives.
fn oops() -> Fault {
    Fault::Instead(500, "oops".to_owned())
}

/// The request to import from `url`.
fn ordering(request: Request, url: &str) -> Request {
    let order = serde_json::json!({"url": url}).to_string();
    request.with_other_image(order.as_bytes())
}

/// A deployment whose server is going to die.
struct Scene<'a> {
    deployment: Deployment,
    facilitator: Proxy,
    sandbox: &'a SandboxProcess,
    label: Label,
}

/// Prints the kill point when a test fails.
struct Label(&'static str);

impl Drop for Label {
    #[expect(
        clippy::print_stdout,
        reason = "shown with a test that failed, and with no other"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("this happened with a kill at {}", self.0);
        }
    }
}

/// Runs a test once for each of these kill points, several at a time.
async fn at_each(points: &'static [&'static str], story: impl AsyncFn(Scene<'_>, &'static str)) {
    let sandbox = SandboxProcess::start().await;
    let stories = points.iter().map(async |point| {
        let _slot = SLOTS.acquire().await.unwrap();
        let facilitator = Proxy::before(&sandbox.facilitator_url);
        let scene = Scene {
            deployment: Deployment::on(&facilitator.url, &sandbox.rpc_url),
            facilitator,
            sandbox: &sandbox,
            label: Label(point),
        };
        story(scene, point).await;
    });
    join_all(stories).await;
}

/// The same, one after the other and each with its own chain: these tests reorganise blocks.
async fn at_each_alone(
    points: &'static [&'static str],
    story: impl AsyncFn(Scene<'_>, &'static str),
) {
    for point in points {
        let one = std::slice::from_ref(point);
        at_each(one, async |scene, point| story(scene, point).await).await;
    }
}

impl Scene<'_> {
    /// Sells a token of a cheap tier, and stops the server.
    async fn sells_and_stops(&self) -> (Payment, Request) {
        let server = self.deployment.start().await;
        let (payment, request) = self.deployment.sign("/api/upload/token/year", b"").await;
        self.deployment.last_word(&request).await.token();
        server.kill().await;
        (payment, request)
    }

    /// Sells a token, stops the server, and deletes all its rows of the payment. Returns the lost
    /// payment.
    async fn loses_a_payment(&self) -> Payment {
        let (payment, _) = self.sells_and_stops().await;
        let db = self.database().await;
        crate::recover::lose_everything(&db).await;
        db.close().await;
        payment
    }

    /// Removes the payment's transfer from the chain.
    async fn forget(&self, payment: &Payment) -> Sandbox {
        let chain = self.sandbox.chain().await;
        let moved = chain.transfers_to(payment.authorization.to).await.unwrap();
        let transaction = moved.last().unwrap().transaction;
        assert!(chain.reorganise(transaction).await.unwrap());
        chain
    }

    /// Makes the payment look as if it was settled a while ago, so that the next auditor checks it
    /// at once.
    async fn is_looked_at(&self, payment: &Payment, set: &str) {
        let id = payment.ledger_id();
        let due = format!(
            "UPDATE payments SET next_look_ms = 0, lease_until_ms = 0, attempt = attempt + 1, \
             settled_ms = settled_ms - 60000, {set} WHERE id = '{id}'"
        );
        self.change(&due).await;
    }

    /// Waits until the payment's row fulfils `so`.
    async fn until(&self, payment: &Payment, so: &str) {
        let id = payment.ledger_id();
        let count = format!("SELECT COUNT(*) FROM payments WHERE id = '{id}' AND {so}");
        eventually(so, async || {
            let db = self.database().await;
            let found = database::number(&db, &count).await;
            db.close().await;
            (found == 1).then_some(())
        })
        .await;
    }

    fn set(mut self, key: &str, value: &str) -> Self {
        self.deployment = self.deployment.set(key, value);
        self
    }

    async fn start_to_die_at(&self, point: &str) -> Server {
        self.deployment.start_to_die_at(point).await
    }

    /// Sends a payment for `/api/upload/…` to a server that dies at `point`.
    async fn dies_while_selling(&self, point: &str, what: &str, body: &[u8]) -> (Payment, Request) {
        let server = self.start_to_die_at(point).await;
        let path = format!("/api/upload/{what}");
        let (payment, request) = self.deployment.sign(&path, body).await;
        self.repeats_until_death(server, &request).await;
        (payment, request)
    }

    /// Repeats a request until it has killed the server. No response before may ask to pay again.
    async fn repeats_until_death(&self, mut server: Server, request: &Request) {
        eventually("the server's death", async || {
            match self.deployment.send(request).await {
                Some(answer) => {
                    assert_ne!(answer.status, 402, "{}", answer.text());
                    server.ended().map(|_| ())
                }
                None => Some(()),
            }
        })
        .await;
        server.dies().await;
    }

    /// Asserts that each repeat returns the same token, for one transfer, and that the token
    /// uploads.
    async fn ends_with_a_token(&self, payment: &Payment, request: &Request, price: u64) {
        let _server = self.deployment.start().await;
        let token = self.deployment.last_word(request).await.token();
        assert_eq!(self.deployment.last_word(request).await.token(), token);
        let picture = pictures::png(8, 8);
        let upload = Request::post("/api/upload")
            .with("X-Upload-Token", &token)
            .with_image(&picture);
        let uploaded = self.deployment.last_word(&upload).await;
        self.serves(&uploaded, &picture).await;
        self.balances_after(payment, &[price]).await;
    }

    /// Asserts that each repeat returns the same image and no other, for one transfer.
    async fn ends_with_an_image(&self, payment: &Payment, request: &Request, picture: &[u8]) {
        let _server = self.deployment.start().await;
        let uploaded = self.deployment.last_word(request).await;
        self.serves(&uploaded, picture).await;
        let again = self.deployment.last_word(request).await;
        assert_eq!(again.field("id"), uploaded.field("id"));
        let other = request.clone().with_other_image(&pictures::png(9, 9));
        let other = self.deployment.last_word(&other).await;
        let expected = (409, "idempotency_conflict".to_owned(), Some(true));
        assert_eq!(other.verdict(), expected);
        self.balances_after(payment, &[YEAR]).await;
    }

    /// The same scene, whose servers may fetch from this host.
    fn fetching_from(self, origin: &Origin) -> Self {
        let deployment = origin.allowed_in(self.deployment);
        Self { deployment, ..self }
    }

    /// Starts a server that dies at this point while it imports from `url`.
    async fn dies_while_importing(&self, point: &str, url: &str) -> (Payment, Request) {
        let server = self.start_to_die_at(point).await;
        let (payment, request) = self.deployment.sign("/api/import", b"").await;
        let request = ordering(request, url).with("content-type", "application/json");
        self.repeats_until_death(server, &request).await;
        (payment, request)
    }

    /// Asserts that each repeat returns the same image and no other, for one transfer.
    async fn ends_with_an_import(&self, payment: &Payment, request: &Request, picture: &[u8]) {
        let _server = self.deployment.start().await;
        let imported = self.deployment.last_word(request).await;
        self.serves(&imported, picture).await;
        let again = self.deployment.last_word(request).await;
        assert_eq!(again.field("id"), imported.field("id"));
        let other = ordering(request.clone(), "http://example.com/other.png");
        let other = self.deployment.last_word(&other).await;
        let expected = (409, "idempotency_conflict".to_owned(), Some(true));
        assert_eq!(other.verdict(), expected);
        self.balances_after(payment, &[YEAR]).await;
    }

    /// Asserts that each repeat returns 402, and that there is no transfer.
    async fn ends_unpaid(&self, payment: &Payment, request: &Request, error: &str) {
        let _server = self.deployment.start().await;
        for _ in 0..2 {
            let answer = self.deployment.last_word(request).await;
            let expected = (402, error.to_owned(), Some(false));
            assert_eq!(answer.verdict(), expected);
        }
        self.balances_after(payment, &[]).await;
    }

    /// Asserts that the response's link serves these bytes.
    async fn serves(&self, uploaded: &Answer, picture: &[u8]) {
        assert_eq!(uploaded.status, 200, "{}", uploaded.text());
        let link = Request::get(&uploaded.field("url"));
        let served = self.deployment.answer(&link).await;
        assert_eq!((served.status, served.bytes.as_slice()), (200, picture));
    }

    async fn balances_after(&self, payment: &Payment, transfers: &[u64]) {
        let moved = self.sandbox.transfers_to(payment.authorization.to).await;
        assert_eq!(moved, transfers, "{}", self.label.0);
        self.deployment.check_ledger().await;
    }

    async fn database(&self) -> Db {
        let file = self.deployment.folder().join("data/pixtoll.db");
        database::open(&format!("sqlite:{}", file.display())).await
    }

    /// Changes rows directly in the database.
    async fn change(&self, sql: &str) {
        let db = self.database().await;
        assert!(database::execute(&db, sql).await > 0);
        db.close().await;
    }

    /// The state of an image, if it has a row.
    async fn image_state(&self, id: &str) -> Vec<String> {
        let db = self.database().await;
        let sql = format!("SELECT state FROM images WHERE id = '{id}'");
        let found = database::texts(&db, &sql).await;
        db.close().await;
        found
    }

    /// The file of an image's object.
    fn object(&self, id: &str) -> std::path::PathBuf {
        let store = self.deployment.folder().join("data/images/images");
        store.join(&id[..1]).join(&id[1..2]).join(id)
    }

    /// Makes a payment an hour older.
    async fn age(&self, payment: &Payment) {
        let db = self.database().await;
        let Db::Sqlite(sqlite) = &db else {
            panic!("it is SQLite")
        };
        let hour = i64::try_from(Duration::from_hours(1).as_secs()).unwrap();
        let aged = sqlx::query(
            "UPDATE payments SET valid_before = CAST(CAST(valid_before AS INTEGER) - $1 AS TEXT), \
             next_look_ms = 0 WHERE id = $2",
        );
        let id = payment.ledger_id();
        let aged = sqlite.execute(aged.bind(hour).bind(id.as_str())).await;
        assert_eq!(aged.unwrap().rows_affected(), 1);
        db.close().await;
    }
}
