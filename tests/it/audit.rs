//! The auditor (docs/payments.md, rule 13): payments that were granted on a facilitator's word are
//! checked by their transfer's log, a payment whose transfer is missing is marked for the operator, and
//! transfers that belong to no payment are reported.

use std::time::Duration;

use alloy_primitives::{B256, U256};
use pixtoll::db::auditor::{self, Voiding};
use pixtoll::system::clock::Clock;

use crate::hot::{dies_soon, remembering};
use crate::support::database::{execute, number, texts};
use crate::support::expect::known;
use crate::support::proxy::{Fault, NodeFault};
use crate::support::{Answer, Payment, TestApp, pictures, signing};

/// Longer than the pause before the first check, and than the pause after one that missed the
/// transfer.
const A_LOOK: Duration = Duration::from_mins(5);
/// Long enough for the chain to mine a block.
const A_BLOCK: Duration = Duration::from_secs(2);

/// Advances the server's time to the next check, and runs it. The chain's time only moves by the
/// time of a block, since authorizations end by it.
async fn look(app: &TestApp) {
    app.clock.advance(A_LOOK);
    app.chain_clock.advance(A_BLOCK);
    app.audit().await;
}

/// Advances the chain's time beyond the window of every authorization.
fn close_windows(app: &TestApp) {
    app.chain_clock.advance(Duration::from_mins(10));
}

/// The ledger's view of a payment's transfer: transaction, log, who proved it, whether it is still
/// checked.
async fn transfer_of(app: &TestApp, payment: &Payment) -> String {
    let id = payment.ledger_id();
    let sql = format!(
        "SELECT transaction_hash || ' ' || COALESCE(CAST(log_index AS TEXT), 'no log') || ' ' || proven_by \
         || CASE WHEN next_look_ms IS NULL THEN ' done' ELSE ' open' END FROM payments WHERE id = '{id}'"
    );
    texts(app.db(), &sql).await.remove(0)
}

/// The transaction of the last transfer to us.
async fn transaction(app: &TestApp) -> B256 {
    app.transfers().await.last().unwrap().transaction
}

/// The transaction of this payment's transfer.
async fn own_transaction(app: &TestApp, payment: &Payment) -> B256 {
    let transfers = app.transfers().await;
    let nonce = Some(payment.authorization.nonce);
    let own = transfers.iter().find(|transfer| transfer.nonce == nonce);
    own.unwrap().transaction
}

/// A successful settle response of the facilitator that names this transaction, without calling the
/// chain.
fn word(transaction: B256) -> String {
    format!(r#"{{"success":true,"transaction":"{transaction}","network":"eip155:84532"}}"#)
}

/// Buys an image with a token: the payment, the token, the response to the upload.
async fn bought_image(app: &TestApp) -> (Payment, String, Answer) {
    let payment = app.sign_for("year").await;
    let token = app.pay(&payment).await.token();
    let uploaded = app.upload_with(&token, pictures::png(8, 8)).await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    (payment, token, uploaded)
}

/// What the payer of a voided payment receives.
fn resolved(charged: Option<bool>) -> (u16, String, Option<bool>) {
    (409, "payment_resolved".to_owned(), charged)
}

/// Why the payment is marked; "none" if it isn't.
async fn mark_of(app: &TestApp, payment: &Payment) -> String {
    let id = payment.ledger_id();
    let sql = format!("SELECT COALESCE(missing_reason, 'none') FROM payments WHERE id = '{id}'");
    texts(app.db(), &sql).await.remove(0)
}

/// Runs the auditor until it has marked every payment whose transfer is missing. Ten minutes of the
/// chain would also end the authorizations.
async fn marks(app: &TestApp) {
    for _ in 0..2 {
        look(app).await;
    }
    let earlier =
        "UPDATE payments SET missing_since_ms = missing_since_ms - 600000 WHERE missing_looks > 0";
    execute(app.db(), earlier).await;
    look(app).await;
}

/// Removes this payment's transfer and all later ones from the chain, and runs the auditor until it
/// has marked the payment.
async fn missed(app: &TestApp, payment: &Payment) {
    let forgotten = own_transaction(app, payment).await;
    assert!(app.chain.reorganise(forgotten).await.unwrap());
    marks(app).await;
    assert_eq!(mark_of(app, payment).await, "transfer_missing");
}

/// Whether `ledger check` names this payment as one whose transfer is missing, and nothing else.
async fn is_named(app: &TestApp, payment: &Payment) -> bool {
    let report = app.check_ledger().await;
    let rule = "the chain shows the transfer of a settled payment";
    let [(says, row)] = report.broken.as_slice() else {
        panic!("{:?}", report.broken);
    };
    (*says, row.row_key.as_str()) == (rule, payment.ledger_id().as_str())
}

#[tokio::test]
async fn a_transfer_is_checked_by_its_log_until_its_block_is_safe() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let token = app.pay(&payment).await.token();
    let paid = transaction(&app).await;
    assert_eq!(
        transfer_of(&app, &payment).await,
        format!("{paid} no log facilitator open")
    );
    // The next check is not due yet.
    app.audit().await;
    assert_eq!(app.node.calls("eth_getLogs"), 0);
    // It is checked until its block is safe.
    app.node.node(NodeFault {
        safe_at: Some(0),
        ..NodeFault::default()
    });
    for _ in 0..3 {
        look(&app).await;
        assert_eq!(
            transfer_of(&app, &payment).await,
            format!("{paid} 1 chain open")
        );
    }
    app.node.mend();
    app.advance(A_LOOK);
    look(&app).await;
    assert_eq!(
        transfer_of(&app, &payment).await,
        format!("{paid} 1 chain done")
    );
    let calls = app.node.all_calls();
    app.advance(Duration::from_hours(48));
    app.audit().await;
    assert_eq!(app.node.all_calls(), calls);
    assert_ne!(app.pay(&payment).await.token(), token, "two days later");
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn an_expensive_payment_is_checked_until_its_block_is_safe() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("permanent").await;
    app.pay(&payment).await.token();
    let paid = transaction(&app).await;
    assert_eq!(
        transfer_of(&app, &payment).await,
        format!("{paid} 1 chain open")
    );
    look(&app).await;
    assert_eq!(
        transfer_of(&app, &payment).await,
        format!("{paid} 1 chain done")
    );
}

#[tokio::test]
async fn a_success_with_another_transactions_hash_is_corrected_from_the_log() {
    let app = TestApp::spawn().await;
    let first = app.sign_for("year").await;
    app.pay(&first).await.token();
    let others = transaction(&app).await;
    // The money moves, and the facilitator names another payment's transaction.
    let second = app.sign_for("year").await;
    app.facilitator
        .next("settle", Fault::After(200, word(others)));
    let token = app.pay(&second).await.token();
    let own = transaction(&app).await;
    assert_ne!(own, others);
    assert!(!app.check_ledger().await.is_balanced());
    look(&app).await;
    assert_eq!(
        transfer_of(&app, &second).await,
        format!("{own} 1 chain done")
    );
    assert_eq!(
        transfer_of(&app, &first).await,
        format!("{others} 1 chain done")
    );
    assert!(app.check_ledger().await.is_balanced());
    let again = app.pay(&second).await;
    assert_eq!(again.token(), token);
    assert_eq!(
        again.document("payment-response")["transaction"],
        own.to_string()
    );
}

#[tokio::test]
async fn a_settlement_without_a_transfer_is_marked_after_ten_minutes_of_the_chain() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    app.facilitator
        .next("settle", Fault::Instead(200, word(B256::repeat_byte(0x11))));
    app.pay(&payment).await.token();
    // Only the chain's clock decides how long the transfer is missing, however many looks there
    // are.
    for _ in 0..5 {
        look(&app).await;
        assert_eq!(mark_of(&app, &payment).await, "none");
    }
    // 598 seconds of the chain after the first look, and 600.
    app.chain_clock.advance(Duration::from_secs(588));
    look(&app).await;
    assert_eq!(mark_of(&app, &payment).await, "none");
    look(&app).await;
    assert_eq!(mark_of(&app, &payment).await, "transfer_missing");
    assert!(is_named(&app, &payment).await);
    // Nothing is withheld: a person decides.
    assert_eq!(app.state_of(&payment).await.unwrap(), "settled");
    let token = app.pay(&payment).await.token();
    let stranger = payment.copied_from_the_chain();
    assert_eq!(app.pay(&stranger).await.verdict(), known(Some(true)));
    app.void(&payment).await;
    let upload = app.upload_with(&token, pictures::png(8, 8)).await;
    assert_eq!(upload.verdict(), resolved(None));
    assert_eq!(app.pay(&payment).await.verdict(), resolved(None));
    assert_eq!(app.pay(&stranger).await.verdict(), known(None));
    assert_eq!(upload.json()["action"]["type"], "contact");
    // A safe block past the window ends it.
    look(&app).await;
    let again = app.pay(&payment).await;
    assert_eq!(again.verdict(), resolved(Some(false)));
    assert_eq!(again.json()["action"]["type"], "pay");
    assert_eq!(app.pay(&stranger).await.verdict(), known(Some(false)));
    let report = app.check_ledger().await;
    assert!(report.is_balanced(), "{:?}", report.broken);
    assert_eq!((report.settled, report.voided), (0, 1));
    assert_eq!(report.settled_sum, U256::ZERO);
}

#[tokio::test]
async fn a_settlement_whose_nonce_was_used_elsewhere_is_marked_at_once() {
    let app = TestApp::spawn().await;
    for (cancelled, reason) in [
        (true, "authorization_canceled"),
        (false, "authorization_spent_elsewhere"),
    ] {
        let payment = app.sign_for("year").await;
        let signed = &payment.authorization;
        let transaction = B256::repeat_byte(0x12 + u8::from(cancelled));
        app.facilitator
            .next("settle", Fault::Instead(200, word(transaction)));
        app.pay(&payment).await.token();
        if cancelled {
            app.chain.cancel(signed.from, signed.nonce).await.unwrap();
        } else {
            let mut other = payment.clone();
            other.authorization.to = alloy_primitives::Address::repeat_byte(5);
            other.sign_by(&app.wallet);
            app.chain
                .execute(&other.authorization, &other.signature)
                .await
                .unwrap();
        }
        app.node.node(NodeFault {
            safe_at: Some(0),
            ..NodeFault::default()
        });
        look(&app).await;
        assert_eq!(mark_of(&app, &payment).await, reason);
        assert!(is_named(&app, &payment).await);
        app.void(&payment).await;
        look(&app).await;
        assert_eq!(app.pay(&payment).await.verdict(), resolved(None));
        app.node.mend();
        look(&app).await;
        assert_eq!(app.pay(&payment).await.verdict(), resolved(Some(false)));
        let other = {
            let mut other = payment.clone();
            other.authorization.valid_before += U256::from(1);
            other.sign_by(&app.wallet);
            other
        };
        assert_eq!(app.pay(&other).await.verdict(), known(None));
    }
    let report = app.check_ledger().await;
    assert!(report.is_balanced(), "{:?}", report.broken);
}

#[tokio::test]
async fn a_transfer_that_comes_back_clears_the_mark_and_the_goods_were_there_all_the_time() {
    let app = TestApp::builder()
        .set("payments.token_ttl", "7d")
        .spawn()
        .await;
    let (payment, _, uploaded) = bought_image(&app).await;
    let unused = app.sign_for("year").await;
    let token = app.pay(&unused).await.token();
    let link = uploaded.field("url");
    missed(&app, &payment).await;
    assert_eq!(mark_of(&app, &unused).await, "transfer_missing");
    // The node gives no answer, or an incomplete one.
    for fault in [down(), stale(&app).await] {
        app.node.node(fault);
        look_late(&app).await;
        assert_eq!(mark_of(&app, &payment).await, "transfer_missing");
        assert_eq!(app.get(&link).await.bytes, pictures::png(8, 8));
        assert_eq!(app.pay(&payment).await.field("url"), link);
    }
    app.node.mend();
    // The transfers are included again, in other blocks.
    for paid in [&payment, &unused] {
        let (signed, signature) = (&paid.authorization, &paid.signature);
        app.chain.execute(signed, signature).await.unwrap();
        assert!(app.check_ledger().await.chains[0].orphans.is_empty());
        look_late(&app).await;
        assert_eq!(mark_of(&app, paid).await, "none");
        let again = own_transaction(&app, paid).await;
        look_late(&app).await;
        assert_eq!(
            transfer_of(&app, paid).await,
            format!("{again} 1 chain done")
        );
    }
    assert_eq!(app.pay(&unused).await.token(), token);
    assert_eq!(
        app.upload_with(&token, pictures::png(9, 9)).await.status,
        200
    );
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn the_goods_of_a_voided_payment_go_and_money_that_comes_later_is_owed() {
    let app = TestApp::spawn().await;
    // From memory as well: an image that was served a moment ago isn't served any more.
    let _watch = remembering(&app.app).await;
    let (payment, token, uploaded) = bought_image(&app).await;
    let link = uploaded.field("url");
    assert_eq!(app.get(&link).await.status, 200);
    missed(&app, &payment).await;
    assert_eq!(app.get(&link).await.status, 200, "a person decides");
    app.void(&payment).await;
    dies_soon(&app, &link).await;
    for picture in [pictures::png(8, 8), pictures::png(9, 9)] {
        let upload = app.upload_with(&token, picture).await;
        assert_eq!(upload.verdict(), resolved(None));
    }
    app.app.retention.accept_clock().await.unwrap();
    app.app.retention.reap().await.unwrap();
    assert_eq!(
        texts(app.db(), "SELECT state FROM images").await,
        ["deleted"]
    );
    // The money moves after all.
    let signed = &payment.authorization;
    app.chain.execute(signed, &payment.signature).await.unwrap();
    look(&app).await;
    assert_eq!(app.pay(&payment).await.verdict(), resolved(Some(true)));
    let report = app.check_ledger().await;
    let [(says, _)] = report.broken.as_slice() else {
        panic!("{:?}", report.broken);
    };
    assert_eq!(
        *says,
        "a voided payment moved no money, or the operator made up for it"
    );
    assert_eq!(
        number(
            app.db(),
            "SELECT COUNT(*) FROM payments WHERE owed IS NOT NULL"
        )
        .await,
        1
    );
    let id = payment.ledger_id();
    let now = app.clock.now();
    assert!(
        pixtoll::db::audit::resolve(app.db(), id.as_str(), "refunded", now)
            .await
            .unwrap()
    );
    assert!(app.check_ledger().await.is_balanced());
    assert_eq!(app.pay(&payment).await.verdict(), resolved(Some(true)));
}

#[tokio::test]
async fn a_voided_direct_upload_is_gone_and_its_key_stays_taken() {
    let app = TestApp::spawn().await;
    let key = "one-purchase-of-mine";
    let payment = app
        .sign_at("/api/upload/year")
        .await
        .with_idempotency_key(key);
    let uploaded = app.pay_with(&payment, &pictures::png(8, 8)).await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    missed(&app, &payment).await;
    app.void(&payment).await;
    assert_eq!(app.get(&uploaded.field("url")).await.status, 404);
    let again = app.pay_with(&payment, &pictures::png(8, 8)).await;
    assert_eq!(again.verdict(), resolved(None));
    let other = app
        .sign_at("/api/upload/year")
        .await
        .with_idempotency_key(key);
    let other = app.pay_with(&other, &pictures::png(8, 8)).await;
    assert_eq!(other.status, 409, "{}", other.text());
    assert_eq!(app.transfers().await.len(), 0, "one key, one charge");
}

async fn checked(app: &TestApp, bytes: Vec<u8>) -> pixtoll::images::Checked {
    let tier = app.app.config.tiers.find("year").unwrap();
    let rules = pixtoll::images::Rules {
        tier: "year",
        max_bytes: tier.max_bytes,
        metadata: pixtoll::images::Metadata::Remove,
        limits: pixtoll::images::format::PixelLimits::default(),
    };
    pixtoll::images::check(bytes.into(), rules).await.unwrap()
}

#[tokio::test]
async fn an_upload_whose_payment_is_voided_meanwhile_publishes_nothing() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    app.pay(&payment).await.token();
    let id = payment.ledger_id();
    let grant = pixtoll::db::grants::find(app.db(), &id)
        .await
        .unwrap()
        .unwrap();
    let checked = checked(&app, pictures::png(8, 8)).await;
    app.rewind(&payment, "missing_reason = 'transfer_missing'")
        .await;
    app.void(&payment).await;
    let refused = app
        .app
        .images
        .upload_granted(grant, app.clock.now(), checked)
        .await;
    assert!(
        matches!(
            refused,
            Err(pixtoll::images::UploadError::Voided { charged: None })
        ),
        "{refused:?}"
    );
    assert_eq!(
        number(
            app.db(),
            "SELECT COUNT(*) FROM images WHERE state <> 'discarded'"
        )
        .await,
        0
    );
}

#[tokio::test]
async fn a_node_that_fails_lags_or_stalls_marks_nothing() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let token = app.pay(&payment).await.token();
    let paid = transaction(&app).await;
    let before = NodeFault {
        stale_at: Some(0),
        ..NodeFault::default()
    };
    let without_logs = NodeFault {
        without_logs: true,
        ..NodeFault::default()
    };
    for fault in [down(), without_logs, before] {
        app.node.node(fault);
        for _ in 0..4 {
            look_late(&app).await;
        }
        assert_eq!(
            transfer_of(&app, &payment).await,
            format!("{paid} no log facilitator open")
        );
        assert_eq!(missing_looks(&app).await, 0);
    }
    // The transfer leaves the chain, and the node's newest block stays the same: that counts as one
    // missed check.
    app.node.mend();
    app.chain_clock.advance(A_BLOCK);
    assert!(app.chain.reorganise(paid).await.unwrap());
    app.chain_clock.advance(A_BLOCK);
    app.node.node(stale(&app).await);
    for _ in 0..5 {
        look_late(&app).await;
        assert_eq!(missing_looks(&app).await, 1);
    }
    // A transfer that is back in time was never missing.
    app.node.mend();
    look_late(&app).await;
    assert_eq!(missing_looks(&app).await, 2);
    app.chain
        .execute(&payment.authorization, &payment.signature)
        .await
        .unwrap();
    look(&app).await;
    assert_eq!(
        (
            missing_looks(&app).await,
            app.state_of(&payment).await.unwrap()
        ),
        (0, "settled".to_owned())
    );
    assert_eq!(app.pay(&payment).await.status, 200);
    assert!(!token.is_empty());
}

/// Runs a check after many that decided nothing: the pauses have become longer.
async fn look_late(app: &TestApp) {
    app.clock.advance(A_LOOK);
    look(app).await;
}

fn down() -> NodeFault {
    NodeFault {
        down: true,
        ..NodeFault::default()
    }
}

/// A node whose newest block stays the current one.
async fn stale(app: &TestApp) -> NodeFault {
    NodeFault {
        stale_at: Some(app.chain_head().await),
        ..NodeFault::default()
    }
}

async fn missing_looks(app: &TestApp) -> i64 {
    number(app.db(), "SELECT missing_looks FROM payments").await
}

#[tokio::test]
async fn two_auditors_check_a_payment_once() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    app.pay(&payment).await.token();
    let calls = app.node.calls("eth_getTransactionReceipt");
    app.advance(A_LOOK);
    let payments = &app.app.checkout.as_ref().unwrap().payments;
    tokio::join!(payments.audit(), payments.audit(), payments.audit());
    assert_eq!(app.node.calls("eth_getTransactionReceipt") - calls, 1);
    assert_eq!(
        auditor::find_due(app.db(), app.clock.now(), 10)
            .await
            .unwrap()
            .len(),
        0
    );
}

#[tokio::test]
async fn transfers_without_a_payment_are_searched_once_an_hour() {
    let app = TestApp::spawn().await;
    let payments = &app.app.checkout.as_ref().unwrap().payments;
    let pay_to = app.app.checkout.as_ref().unwrap().catalog.pay_to();
    let cursor = format!(
        "SELECT value FROM deployment WHERE name = 'orphans_next_block.eip155:84532.{pay_to}'"
    );
    let next_block = async || {
        texts(app.db(), &cursor)
            .await
            .remove(0)
            .parse::<u64>()
            .unwrap()
    };
    let payment = app.sign_for("year").await;
    app.pay(&payment).await.token();
    let paid_at = app.chain_head().await;
    app.advance(A_BLOCK);
    let giver = signing::wallet(9).address();
    app.chain.send(giver, pay_to, U256::from(7)).await.unwrap();
    // The search ends before the block that an open payment may account for.
    assert_eq!(payments.look_for_orphans().await, 0);
    assert_eq!(next_block().await, paid_at);
    app.audit().await;
    look(&app).await;
    assert_eq!(payments.look_for_orphans().await, 0);
    assert_eq!(next_block().await, paid_at, "not before an hour has passed");
    app.advance(Duration::from_hours(1));
    assert_eq!(payments.look_for_orphans().await, 1);
    let head = app.chain_head().await;
    assert_eq!(next_block().await, head + 1);
    // Reported once: neither by the next search nor by one on another replica.
    app.advance(Duration::from_hours(1));
    assert_eq!(payments.look_for_orphans().await, 0);
    let head = app.chain_head().await;
    assert_eq!(
        app.check_ledger().await.chains[0].orphans.len(),
        1,
        "and here always"
    );
    // A node that doesn't answer loses no transfer.
    app.advance(Duration::from_hours(1));
    app.node.node(down());
    app.chain.send(giver, pay_to, U256::from(8)).await.unwrap();
    assert_eq!(payments.look_for_orphans().await, 0);
    assert_eq!(next_block().await, head + 1);
    app.node.mend();
    payments.look_for_orphans().await;
    assert_eq!(next_block().await, head + 1, "not at once either");
    app.advance(Duration::from_mins(1));
    assert_eq!(payments.look_for_orphans().await, 1);
    assert!(next_block().await > head + 1);
}

/// A free image that was renewed: the response to its upload, the payment, and the response to
/// that.
async fn renewed(app: &TestApp) -> (Answer, Payment, Answer) {
    let image = app.upload_free(pictures::png(8, 8)).await;
    let path = format!("/api/images/{}/renew?tier=year", image.field("id"));
    let payment = app.sign_at(&path).await;
    let answer = app.pay(&payment).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    (image, payment, answer)
}

/// Expiry and tier of an image, and whether its owner may delete it.
async fn standing_of(app: &TestApp, image: &Answer) -> [String; 2] {
    let path = format!("/api/images/{}", image.field("id"));
    let metadata = app.get(&path).await;
    [metadata.field("expiresAt"), metadata.field("tier")]
}

async fn delete(app: &TestApp, image: &Answer) -> u16 {
    let path = format!("/api/images/{}", image.field("id"));
    let token = image.field("deleteToken");
    let headers = [("X-Delete-Token", token)];
    app.send("DELETE", &path, &headers, "").await.status
}

#[tokio::test]
async fn the_time_of_a_voided_renewal_is_taken_back() {
    let app = TestApp::spawn().await;
    let (image, payment, answer) = renewed(&app).await;
    let long = [answer.field("expiresAt"), "year".to_owned()];
    let short = [image.field("expiresAt"), "free".to_owned()];
    missed(&app, &payment).await;
    assert_eq!(standing_of(&app, &image).await, long);
    let undone = Voiding::Done {
        images: Vec::new(),
        renewal_undone: Some(true),
    };
    assert_eq!(app.void(&payment).await, undone);
    assert_eq!(standing_of(&app, &image).await, short);
    close_windows(&app);
    look(&app).await;
    assert_eq!(app.pay(&payment).await.verdict(), resolved(Some(false)));
    let report = app.check_ledger().await;
    assert!(report.is_balanced(), "{:?}", report.broken);
    assert_eq!(delete(&app, &image).await, 200);
}

#[tokio::test]
async fn the_time_of_a_voided_renewal_stays_if_the_image_was_renewed_again() {
    for tier in ["year", "permanent"] {
        let app = TestApp::spawn().await;
        let (image, payment, _) = renewed(&app).await;
        let path = format!("/api/images/{}/renew?tier={tier}", image.field("id"));
        let other = app.sign_at(&path).await;
        app.pay(&other).await;
        app.reconcile_until(&other, "settled").await;
        let metadata = format!("/api/images/{}", image.field("id"));
        let whole = app.get(&metadata).await.json();
        app.rewind(&payment, "missing_reason = 'transfer_missing'")
            .await;
        let stays = Voiding::Done {
            images: Vec::new(),
            renewal_undone: Some(false),
        };
        assert_eq!(app.void(&payment).await, stays);
        assert_eq!(app.get(&metadata).await.json(), whole);
        // The later one can still be taken back.
        app.rewind(&other, "missing_reason = 'transfer_missing'")
            .await;
        let undone = Voiding::Done {
            images: Vec::new(),
            renewal_undone: Some(true),
        };
        assert_eq!(app.void(&other).await, undone);
        assert_ne!(app.get(&metadata).await.json(), whole);
    }
}
