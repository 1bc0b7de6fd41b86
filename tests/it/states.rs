//! Every cell of the table of states: the response to a known payment with and without proof, at
//! its own and at other routes, and the state that follows.
//!
//! States that only a killed process leaves are made by changing the row; everything else happens
//! over HTTP.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::U256;
use tokio::sync::Notify;

use crate::support::expect::{in_progress, invalid, known, pending};
use crate::support::proxy::{Fault, NodeFault};
use crate::support::{Answer, Payment, TestApp, pictures, signing};

const OTHER_ROUTES: [&str; 3] = [
    "/api/upload/token/permanent",
    "/api/upload/year",
    "/api/upload",
];
/// A row as it was when verify had succeeded.
const VERIFIED: &str =
    "state = 'verified', lease_until_ms = 0, settle_called_ms = NULL, body_sha256 = NULL";

/// A payment whose process was killed after verify.
async fn verified(app: &TestApp) -> Payment {
    let payment = app.sign_for("year").await;
    app.facilitator.next("settle", Fault::SilentBefore);
    assert_eq!(app.pay(&payment).await.verdict(), pending());
    app.rewind(&payment, VERIFIED).await;
    payment
}

/// The payer's other authorization with the same nonce.
fn with_other_digest(app: &TestApp, payment: &Payment) -> Payment {
    let mut other = payment.clone();
    other.authorization.valid_before -= U256::from(1);
    other.sign_by(&app.wallet);
    other
}

async fn assert_known_elsewhere(app: &TestApp, payment: &Payment, charged: Option<bool>) {
    for path in OTHER_ROUTES {
        for presented in [payment.clone(), payment.copied_from_the_chain()] {
            assert_eq!(
                app.pay_at(path, &presented).await.verdict(),
                known(charged),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn a_verified_payment_continues_with_and_without_proof() {
    let app = TestApp::impatient().await;
    for (count, proven) in [true, false].into_iter().enumerate() {
        let payment = verified(&app).await;
        assert_known_elsewhere(&app, &payment, None).await;
        let other = with_other_digest(&app, &payment);
        assert_eq!(app.pay(&other).await.verdict(), known(None));
        assert_eq!(app.state_of(&payment).await.as_deref(), Some("verified"));
        let presented = if proven {
            payment.clone()
        } else {
            payment.copied_from_the_chain()
        };
        let token = app.pay(&presented).await.token();
        assert_eq!(app.pay(&payment).await.token(), token);
        assert_eq!(app.transfers().await.len(), count + 1);
    }
}

#[tokio::test]
async fn a_verified_upload_is_limited_by_its_own_terms() {
    let app = TestApp::impatient().await;
    let payment = app.sign_at("/api/upload/year").await;
    app.facilitator.next("settle", Fault::SilentBefore);
    let picture = pictures::png(8, 8);
    let open = app.pay_with(&payment, &picture).await;
    assert_eq!(open.verdict(), pending());
    // It was bought before the tier accepted larger images.
    let small = format!("{VERIFIED}, max_bytes = {}", picture.len());
    app.rewind(&payment, &small).await;
    let larger = app.pay_with(&payment, &pictures::png(64, 64)).await;
    let expected = (413, "file_too_large".to_owned(), Some(false));
    assert_eq!(larger.verdict(), expected);
    assert_eq!(app.state_of(&payment).await.as_deref(), Some("verified"));
    let uploaded = app.pay_with(&payment, &picture).await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_verified_upload_that_was_submitted_is_never_called_uncharged() {
    let app = TestApp::impatient().await;
    let payment = app.sign_at("/api/upload/year").await;
    app.facilitator.next("settle", Fault::SilentBefore);
    let picture = pictures::png(8, 8);
    assert_eq!(app.pay_with(&payment, &picture).await.verdict(), pending());
    app.rewind(&payment, VERIFIED).await;
    app.chain
        .execute(&payment.authorization, &payment.signature)
        .await
        .unwrap();
    let unreadable = app.pay_with(&payment, b"no image").await;
    let uploaded = app.upload_with(&unreadable.token(), picture).await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_verified_payment_that_is_public_on_the_chain_needs_proof() {
    let app = TestApp::impatient().await;
    let payment = verified(&app).await;
    app.chain
        .execute(&payment.authorization, &payment.signature)
        .await
        .unwrap();
    let stranger = payment.copied_from_the_chain();
    app.node.node(NodeFault {
        without_logs: true,
        ..NodeFault::default()
    });
    assert_eq!(app.pay(&stranger).await.verdict(), known(None));
    app.node.mend();
    assert_eq!(app.pay(&stranger).await.verdict(), known(Some(true)));
    app.pay(&payment).await.token();
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_used_nonce_is_not_rejected_before_its_transfer_is_known() {
    let app = TestApp::impatient().await;
    let far = Duration::from_secs(296);
    for (state, wait, is_open) in [
        ("rejected", Duration::ZERO, known(None)),
        ("failed", Duration::ZERO, pending()),
        ("released", Duration::ZERO, known(None)),
        ("released", far, pending()),
        ("verified", far, pending()),
    ] {
        let [lagging, young] = [verified(&app).await, verified(&app).await];
        let row =
            format!("state = '{state}', reason = 'test', lease_until_ms = 0, next_look_ms = 0");
        app.rewind(&lagging, &row).await;
        app.rewind(&young, &format!("{row}, confirmations = 3"))
            .await;
        for payment in [&lagging, &young] {
            app.chain
                .execute(&payment.authorization, &payment.signature)
                .await
                .unwrap();
        }
        app.advance(wait);
        // The node shows that the nonce is used, but not yet for which transfer.
        app.node.node(NodeFault {
            without_logs: true,
            ..NodeFault::default()
        });
        for _ in 0..2 {
            assert_eq!(app.pay(&lagging).await.verdict(), is_open, "{state}");
        }
        app.node.mend();
        // Or the node refuses to search for logs.
        let refusal = Fault::Instead(429, String::new());
        app.node.always("eth_getLogs", refusal);
        assert_eq!(app.pay(&lagging).await.verdict(), is_open, "{state}");
        app.node.mend();
        app.pay(&lagging).await.token();
        // The transfer may not have enough confirmations yet. A restarted payment's own request
        // sees the transfer to us.
        let is_seen = (state, wait) == ("released", Duration::ZERO);
        let is_open = if is_seen { known(Some(true)) } else { is_open };
        assert_eq!(app.pay(&young).await.verdict(), is_open, "{state}");
        let to = signing::wallet(9).address();
        for _ in 0..2 {
            app.chain
                .send(app.wallet.address(), to, U256::from(1))
                .await
                .unwrap();
        }
        app.pay(&young).await.token();
    }
    assert_eq!(app.transfers().await.len(), 10);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_payment_on_a_network_of_another_replica_is_looked_up_first() {
    let app = TestApp::impatient().await;
    let payment = verified(&app).await;
    for state in ["failed", "verified"] {
        let row = format!(
            "network = 'eip155:8453', state = '{state}', reason = 'test', lease_until_ms = 0"
        );
        app.rewind(&payment, &row).await;
        app.advance(Duration::from_secs(400));
        let answer = app.pay(&payment).await;
        assert_eq!(
            (answer.status != 402, answer.charged()),
            (true, None),
            "{state}"
        );
    }
}

#[tokio::test]
async fn a_verified_payment_ends_with_its_window_unless_it_was_transferred() {
    let app = TestApp::impatient().await;
    let paid = verified(&app).await;
    let unpaid = verified(&app).await;
    app.chain
        .execute(&paid.authorization, &paid.signature)
        .await
        .unwrap();
    app.advance(Duration::from_secs(296));
    app.pay(&paid).await.token();
    let calls = app.facilitator.calls("settle");
    assert_eq!(app.pay(&unpaid).await.verdict(), invalid());
    assert_eq!(app.state_of(&unpaid).await.as_deref(), Some("released"));
    assert_eq!(app.pay(&unpaid).await.verdict(), invalid());
    assert_eq!(
        (app.facilitator.calls("settle"), app.transfers().await.len()),
        (calls, 1)
    );
}

#[tokio::test]
async fn a_released_payment_that_is_submitted_is_paid_even_after_its_window() {
    let app = TestApp::impatient().await;
    for reconciled in [true, false] {
        let payment = verified(&app).await;
        app.rewind(
            &payment,
            "state = 'released', lease_until_ms = 0, reason = 'test'",
        )
        .await;
        app.chain
            .execute(&payment.authorization, &payment.signature)
            .await
            .unwrap();
        app.advance(Duration::from_secs(400));
        if reconciled {
            app.reconcile_until(&payment, "settled").await;
        }
        app.pay(&payment).await.token();
    }
    assert_eq!(app.transfers().await.len(), 2);
}

#[tokio::test]
async fn the_reconciler_releases_an_expired_payment_and_watches_it() {
    let app = TestApp::impatient().await;
    let payment = verified(&app).await;
    app.rewind(&payment, "next_look_ms = 0").await;
    app.reconcile_until(&payment, "released").await;
    assert_eq!(app.pay(&payment).await.verdict(), invalid());
    assert_eq!(app.transfers().await.len(), 0);
}

#[tokio::test]
async fn a_released_payment_runs_again_and_may_bind_other_bytes() {
    let app = TestApp::impatient().await;
    let payment = app.sign_at("/api/upload/year").await;
    let (first, second) = (pictures::png(8, 8), pictures::png(9, 9));
    app.facilitator.next("settle", Fault::SilentBefore);
    assert_eq!(app.pay_with(&payment, &first).await.verdict(), pending());
    let released = "state = 'released', lease_until_ms = 0, reason = 'test'";
    app.rewind(&payment, released).await;
    let uploaded = app.pay_with(&payment, &second).await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    assert_eq!(app.get(&uploaded.field("url")).await.bytes, second);
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_verified_upload_continues_with_the_bytes_of_the_new_request() {
    let app = TestApp::impatient().await;
    let payment = app.sign_at("/api/upload/year").await;
    let (first, second) = (pictures::png(8, 8), pictures::png(9, 9));
    app.facilitator.next("settle", Fault::SilentBefore);
    assert_eq!(app.pay_with(&payment, &first).await.verdict(), pending());
    app.rewind(&payment, VERIFIED).await;
    assert_eq!(
        app.pay(&payment).await.verdict(),
        (400, "no_file".to_owned(), Some(false))
    );
    let uploaded = app.pay_with(&payment, &second).await;
    assert_eq!(app.get(&uploaded.field("url")).await.bytes, second);
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_settling_payment_of_a_killed_process_is_driven_by_its_payer() {
    let app = TestApp::impatient().await;
    let payment = app.sign_for("year").await;
    app.facilitator.next("settle", Fault::SilentBefore);
    assert_eq!(app.pay(&payment).await.verdict(), pending());
    app.rewind(&payment, "state = 'settling', lease_until_ms = 0")
        .await;
    let stranger = payment.copied_from_the_chain();
    assert_eq!(app.pay(&stranger).await.verdict(), known(None));
    assert_known_elsewhere(&app, &payment, None).await;
    assert_eq!(app.state_of(&payment).await.as_deref(), Some("settling"));
    app.pay(&payment).await.token();
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn copies_wait_for_the_driver_and_then_get_payment_in_progress() {
    // The only test that takes the five seconds that a copy waits.
    let app = TestApp::builder().spawn().await;
    let (verify, settle) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let received = app.sign_for("year").await;
    let settling = app.sign_for("permanent").await;
    app.facilitator
        .next("settle", Fault::Held(Arc::clone(&settle)));
    let drive_settling = app.pay(&settling);
    let drive_received = async {
        app.facilitator.reached("settle", 1).await;
        app.facilitator
            .next("verify", Fault::Held(Arc::clone(&verify)));
        app.pay(&received).await
    };
    let copies = async {
        app.facilitator.reached("verify", 2).await;
        let stranger = settling.copied_from_the_chain();
        assert_eq!(app.pay(&stranger).await.verdict(), known(None));
        assert_eq!(
            app.pay_at("/api/upload/permanent", &settling)
                .await
                .verdict(),
            known(None)
        );
        let other = with_other_digest(&app, &received);
        assert_eq!(app.pay(&other).await.verdict(), known(None));
        let crowd = [
            vec![settling.clone(); 12],
            vec![received.clone(); 6],
            vec![received.copied_from_the_chain(); 6],
        ];
        let answers = app.pay_at_once(&crowd.concat(), None).await;
        verify.notify_one();
        settle.notify_one();
        answers
    };
    let (first, second, answers): (Answer, Answer, Vec<Answer>) =
        tokio::join!(drive_settling, drive_received, copies);
    for answer in answers {
        assert_eq!(answer.verdict(), in_progress());
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(app.pay(&settling).await.token(), first.token());
    assert_eq!(app.pay(&received).await.token(), second.token());
    assert_eq!(app.transfers().await.len(), 2);
}

#[tokio::test]
async fn a_settled_payment_answers_only_its_payer_at_its_own_route() {
    let app = TestApp::spawn().await;
    for wire in [1, 2] {
        let signed = app.sign_for("year").await;
        let payment = if wire == 1 { signed.as_v1() } else { signed };
        let answer = app.pay(&payment).await;
        let token = answer.token();
        for _ in 0..2 {
            let again = app.pay(&payment).await;
            assert_eq!(
                (again.token(), again.text()),
                (token.clone(), answer.text())
            );
            let header = if wire == 1 {
                "x-payment-response"
            } else {
                "payment-response"
            };
            assert_eq!(again.document(header), answer.document(header));
        }
        // A version 1 client is recognised by its address, which is the test's here.
        let stranger = if wire == 1 {
            let mut copy = payment.copied_from_the_chain();
            copy.wire = crate::support::Wire::V2;
            copy
        } else {
            payment.copied_from_the_chain()
        };
        let told = app.pay(&stranger).await;
        assert_eq!(told.verdict(), known(Some(true)));
        assert!(!told.text().contains(&token));
        assert_eq!(told.header("payment-response"), None);
        assert_known_elsewhere(&app, &payment, Some(true)).await;
        let other = with_other_digest(&app, &payment);
        assert_eq!(app.pay(&other).await.verdict(), known(Some(false)));
        app.advance(Duration::from_secs(400));
        assert_eq!(app.pay(&stranger).await.verdict(), known(Some(true)));
        assert_eq!(app.state_of(&payment).await.as_deref(), Some("settled"));
    }
    assert_eq!(app.transfers().await.len(), 2);
}

#[tokio::test]
async fn another_authorization_with_an_open_nonce_is_no_new_payment() {
    let app = TestApp::impatient().await;
    let payment = app.sign_for("year").await;
    app.facilitator.always("settle", Fault::SilentBefore);
    assert_eq!(app.pay(&payment).await.verdict(), pending());
    let other = with_other_digest(&app, &payment);
    let calls = app.facilitator.all_calls();
    assert_eq!(app.pay(&other).await.verdict(), known(None));
    assert_eq!(app.pay(&other.as_v1()).await.verdict(), known(None));
    assert_eq!(app.facilitator.all_calls(), calls);
}
