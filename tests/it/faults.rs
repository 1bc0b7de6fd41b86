//! Failures of the facilitator, the chain's node and the payer's wallet: what the client is told at
//! each step, and that money moves at most once, and exactly once for goods.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::U256;
use pixtoll::db::Db;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::database::execute;
use crate::support::expect::{
    failed, in_progress, invalid, known, no_node, paused, pending, unavailable,
};
use crate::support::process::eventually;
use crate::support::proxy::{Fault, NodeFault};
use crate::support::{Payment, TestApp, pictures, signing};

const HASH: &str = "0x1111111111111111111111111111111111111111111111111111111111111111";
const NETWORK: &str = "eip155:84532";
/// Longer than any payment's window and the margin after it.
const LONG: Duration = Duration::from_secs(400);
/// Longer than the pause before the reconciler's first check.
const SOON: Duration = Duration::from_secs(3);

/// Settle responses that leave the outcome unknown: name, status, body.
fn unclear(app: &TestApp) -> Vec<(&'static str, u16, String)> {
    let payer = app.wallet.address().to_string();
    let success = |change: &dyn Fn(&mut Value)| {
        let mut body =
            json!({"success": true, "transaction": HASH, "network": NETWORK, "payer": payer});
        change(&mut body);
        body.to_string()
    };
    let refusal = |reason: &str, transaction: &str| {
        json!({"success": false, "errorReason": reason, "transaction": transaction, "network": NETWORK})
            .to_string()
    };
    let other = signing::wallet(77).address().to_string();
    vec![
        ("a page", 200, "<html>502 Bad Gateway</html>".to_owned()),
        (
            "a page under 502",
            502,
            "<html>502 Bad Gateway</html>".to_owned(),
        ),
        ("nothing", 200, String::new()),
        ("nothing under 500", 500, String::new()),
        ("401", 401, r#"{"error":"unauthorized"}"#.to_owned()),
        ("429", 429, String::new()),
        (
            "half of an answer",
            200,
            r#"{"success":true,"transaction":"0x11"#.to_owned(),
        ),
        ("an array", 200, "[]".to_owned()),
        (
            "success as text",
            200,
            success(&|body| body["success"] = json!("true")),
        ),
        (
            "success without a hash",
            200,
            success(&|body| body["transaction"] = json!("")),
        ),
        (
            "success with null",
            200,
            success(&|body| body["transaction"] = Value::Null),
        ),
        (
            "half a hash",
            200,
            success(&|body| body["transaction"] = json!("0x1111")),
        ),
        (
            "the zero hash",
            200,
            success(&|body| {
                body["transaction"] = json!(format!("0x{}", "0".repeat(64)));
            }),
        ),
        (
            "another network",
            200,
            success(&|body| body["network"] = json!("eip155:8453")),
        ),
        (
            "another payer",
            200,
            success(&|body| body["payer"] = json!(other)),
        ),
        ("success under 500", 500, success(&|_| {})),
        (
            "a listed reason under 500",
            500,
            refusal("insufficient_funds", ""),
        ),
        (
            "a listed reason with a hash",
            200,
            refusal("insufficient_funds", HASH),
        ),
        ("a reason of its own", 200, refusal("the_moon_is_full", "")),
        (
            "a reason of its own under 400",
            400,
            refusal("transaction_simulation", ""),
        ),
        (
            "a reason of its own under 500",
            500,
            refusal("the_moon_is_full", ""),
        ),
        ("no reason", 200, r#"{"success":false}"#.to_owned()),
        (
            "pending with a hash",
            200,
            refusal("settlement_pending", HASH),
        ),
        (
            "a used nonce",
            200,
            refusal("invalid_exact_evm_nonce_already_used", ""),
        ),
        (
            "a failed transaction",
            400,
            refusal("invalid_exact_evm_transaction_failed", HASH),
        ),
    ]
}

/// While a payment is open, strangers learn no more than that, and nobody is asked to pay again.
async fn assert_open_everywhere(app: &TestApp, payment: &Payment, name: &str) {
    let stranger = payment.copied_from_the_chain();
    assert_eq!(app.pay(&stranger).await.verdict(), known(None), "{name}");
    assert_eq!(
        app.pay(&stranger.as_v1()).await.verdict(),
        known(None),
        "{name}"
    );
    for path in [
        "/api/upload/token/permanent",
        "/api/upload/year",
        "/api/upload",
    ] {
        for presented in [payment, &stranger] {
            let answer = app.pay_at(path, presented).await;
            assert_eq!(answer.verdict(), known(None), "{name} at {path}");
        }
    }
}

#[tokio::test]
async fn an_undecided_answer_is_pending_and_the_next_request_settles() {
    let app = TestApp::spawn().await;
    for (count, (name, status, body)) in unclear(&app).into_iter().enumerate() {
        let payment = app.sign_for("year").await;
        app.facilitator
            .always("settle", Fault::Instead(status, body));
        let answer = app.pay(&payment).await;
        assert_eq!(answer.verdict(), pending(), "{name}");
        assert!(answer.header("retry-after").is_some(), "{name}");
        assert_eq!(
            app.state_of(&payment).await.as_deref(),
            Some("unknown"),
            "{name}"
        );
        assert_open_everywhere(&app, &payment, name).await;
        assert_eq!(app.transfers().await.len(), count, "{name}");
        app.facilitator.mend();
        let token = app.pay(&payment).await.token();
        assert_eq!(app.pay(&payment).await.token(), token, "{name}");
        assert_eq!(app.transfers().await.len(), count + 1, "{name}");
    }
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_transfer_behind_an_unclear_answer_is_found_on_the_chain_at_once() {
    let app = TestApp::spawn().await;
    for tier in ["year", "permanent"] {
        for (name, status, body) in unclear(&app) {
            let (paid, calls) = (app.transfers().await.len(), app.facilitator.calls("settle"));
            let payment = app.sign_for(tier).await;
            app.facilitator.always("settle", Fault::After(status, body));
            app.pay(&payment).await.token();
            assert_eq!(app.facilitator.calls("settle"), calls + 1, "{tier}, {name}");
            assert_eq!(app.transfers().await.len(), paid + 1, "{tier}, {name}");
        }
    }
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn the_reconciler_finishes_open_payments_and_the_payer_gets_the_goods() {
    let app = TestApp::impatient().await;
    let mut faults: Vec<(&str, Fault)> = unclear(&app)
        .into_iter()
        .map(|(name, status, body)| (name, Fault::Instead(status, body)))
        .collect();
    faults.push(("silence before", Fault::SilentBefore));
    faults.push(("silence after", Fault::SilentAfter));
    for (count, (name, fault)) in faults.into_iter().enumerate() {
        let payment = app.sign_for("year").await;
        app.facilitator.always("settle", fault);
        assert_eq!(app.pay(&payment).await.verdict(), pending(), "{name}");
        app.facilitator.mend();
        app.reconcile().await;
        assert_eq!(
            app.state_of(&payment).await.as_deref(),
            Some("unknown"),
            "{name}: not due"
        );
        app.reconcile_until(&payment, "settled").await;
        assert_eq!(app.transfers().await.len(), count + 1, "{name}");
        app.advance(LONG);
        let stranger = payment.copied_from_the_chain();
        assert_eq!(
            app.pay(&stranger).await.verdict(),
            known(Some(true)),
            "{name}"
        );
        app.pay(&payment).await.token();
        assert_eq!(app.transfers().await.len(), count + 1, "{name}");
    }
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_missing_answer_is_pending_and_a_repeat_finds_the_outcome() {
    let app = TestApp::impatient().await;
    for (fault, settles) in [(Fault::SilentBefore, 2), (Fault::SilentAfter, 1)] {
        let (paid, calls) = (app.transfers().await.len(), app.facilitator.calls("settle"));
        let payment = app.sign_for("permanent").await;
        app.facilitator.next("settle", fault);
        assert_eq!(app.pay(&payment).await.verdict(), pending());
        assert_open_everywhere_permanent(&app, &payment).await;
        app.pay(&payment).await.token();
        assert_eq!(app.facilitator.calls("settle"), calls + settles);
        assert_eq!(app.transfers().await.len(), paid + 1);
    }
}

async fn assert_open_everywhere_permanent(app: &TestApp, payment: &Payment) {
    for path in [
        "/api/upload/token/year",
        "/api/upload/token",
        "/api/upload/permanent",
    ] {
        assert_eq!(
            app.pay_at(path, payment).await.verdict(),
            known(None),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_missing_settlement_fails_by_the_time_of_the_chain_only() {
    let app = TestApp::spawn().await;
    app.facilitator
        .always("settle", Fault::Instead(500, String::new()));
    let payment = app.sign_for("year").await;
    assert_eq!(app.pay(&payment).await.verdict(), pending());
    // The local clock is past the window, the chain's clock is not.
    app.clock.advance(LONG);
    app.reconcile().await;
    let calls = app.facilitator.calls("settle");
    assert_eq!(app.pay(&payment).await.verdict(), pending());
    assert_eq!(
        app.facilitator.calls("settle"),
        calls,
        "too late to call settle"
    );
    app.chain_clock.advance(LONG);
    app.reconcile_until(&payment, "failed").await;
    assert_eq!(app.pay(&payment).await.verdict(), failed());
    assert_eq!(
        app.pay(&payment.copied_from_the_chain()).await.verdict(),
        failed()
    );
    assert_eq!(app.transfers().await.len(), 0);
}

#[tokio::test]
async fn a_rejection_that_proves_no_transfer_fails_the_payment() {
    let app = TestApp::spawn().await;
    let reasons = [
        "insufficient_funds",
        "invalid_exact_evm_payload_signature",
        "invalid_exact_evm_payload_authorization_valid_before",
        "invalid_payload",
        "invalid_network",
    ];
    for reason in reasons {
        for status in [200, 400] {
            let payment = app.sign_for("year").await;
            app.facilitator
                .always("settle", Fault::refusal(status, reason));
            let answer = app.pay(&payment).await;
            assert_eq!(answer.verdict(), failed(), "{reason}, {status}");
            let receipt = answer.document("payment-response");
            assert_eq!(receipt["success"], json!(false));
            assert_eq!(receipt["errorReason"], json!(reason));
            app.facilitator.mend();
            let calls = app.facilitator.calls("settle");
            assert_eq!(
                app.pay(&payment).await.verdict(),
                failed(),
                "{reason}, {status}"
            );
            let stranger = payment.copied_from_the_chain();
            assert_eq!(app.pay(&stranger).await.verdict(), known(None));
            assert_eq!(
                app.facilitator.calls("settle"),
                calls,
                "a failed payment is not settled"
            );
            app.advance(LONG);
            assert_eq!(app.pay(&stranger).await.verdict(), failed());
        }
    }
    assert_eq!(app.transfers().await.len(), 0);
}

#[tokio::test]
async fn a_rejection_is_ignored_when_the_chain_shows_the_transfer() {
    let app = TestApp::spawn().await;
    for (count, status) in [200, 400].into_iter().enumerate() {
        let payment = app.sign_for("year").await;
        app.facilitator
            .next("settle", Fault::lie(status, "insufficient_funds"));
        app.pay(&payment).await.token();
        assert_eq!(app.transfers().await.len(), count + 1);
    }
}

#[tokio::test]
async fn a_late_success_counts_although_the_node_is_down() {
    let app = TestApp::impatient().await;
    let release = Arc::new(Notify::new());
    app.facilitator
        .next("settle", Fault::Late(Arc::clone(&release)));
    let payment = app.sign_for("year").await;
    assert_eq!(app.pay(&payment).await.verdict(), pending());
    app.node.node(NodeFault {
        down: true,
        ..NodeFault::default()
    });
    assert_eq!(app.pay(&payment).await.verdict(), pending());
    release.notify_one();
    app.until(&payment, "settled").await;
    app.pay(&payment).await.token();
    assert_eq!(
        (app.facilitator.calls("settle"), app.transfers().await.len()),
        (1, 1)
    );
}

#[tokio::test]
async fn a_late_rejection_decides_nothing() {
    let app = TestApp::impatient().await;
    let release = Arc::new(Notify::new());
    app.facilitator
        .next("settle", Fault::Held(Arc::clone(&release)));
    let payment = app.sign_for("year").await;
    assert_eq!(app.pay(&payment).await.verdict(), pending());
    app.chain.drain(app.wallet.address()).await.unwrap();
    release.notify_one();
    // Settle is called again and rejected again; only a rejection of the first call would decide.
    for _ in 0..3 {
        assert_eq!(app.pay(&payment).await.verdict(), pending());
        app.advance(Duration::from_secs(10));
        app.reconcile().await;
        assert_eq!(app.state_of(&payment).await.as_deref(), Some("unknown"));
    }
    let friend = signing::wallet(9).address();
    let price = U256::from(10_000);
    app.chain
        .send(friend, app.wallet.address(), price)
        .await
        .unwrap();
    app.pay(&payment).await.token();
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_request_that_lost_its_lease_does_not_answer_for_the_payment() {
    // The first request waits in verify until its lease is over, and then receives a rejection.
    // Meanwhile a copy took over the row, and its settlement is open: the first request must not
    // receive 402.
    let app = TestApp::builder()
        .set("payments.timeout", "20s")
        .spawn()
        .await;
    let (release, settle) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let payment = app.sign_for("year").await;
    app.facilitator
        .next("verify", Fault::Held(Arc::clone(&release)));
    app.facilitator
        .next("settle", Fault::Held(Arc::clone(&settle)));
    let first = app.pay(&payment);
    let second = async {
        app.facilitator.reached("verify", 1).await;
        // The lease ends, and its next extension may notice that first.
        app.rewind(&payment, "lease_until_ms = 0").await;
        app.pay(&payment).await
    };
    let spoil = async {
        app.facilitator.reached("settle", 1).await;
        // The call that is held in verify now meets an empty wallet.
        app.chain.drain(app.wallet.address()).await.unwrap();
        release.notify_one();
        app.facilitator.reached("verify", 2).await;
        let friend = signing::wallet(9).address();
        app.until(&payment, "settling").await;
        eventually("both answers of verify", async || {
            (app.facilitator.answers("verify") == 2).then_some(())
        })
        .await;
        let price = U256::from(10_000);
        app.chain
            .send(friend, app.wallet.address(), price)
            .await
            .unwrap();
        settle.notify_one();
    };
    let (mut first, second, ()) = tokio::join!(first, second, spoil);
    if first.status == 409 {
        // The settlement took longer than a copy waits.
        assert_eq!(first.verdict(), in_progress());
        first = app.pay(&payment).await;
    }
    assert_eq!(first.token(), second.token());
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn two_settle_calls_of_one_payment_move_its_money_once() {
    // The lease of the first call runs out while the call is held. A repeat settles, then the first
    // call continues.
    let app = TestApp::builder()
        .set("payments.timeout", "20s")
        .spawn()
        .await;
    let release = Arc::new(Notify::new());
    let payment = app.sign_for("year").await;
    app.facilitator
        .next("settle", Fault::Held(Arc::clone(&release)));
    let repeat = async {
        app.facilitator.reached("settle", 1).await;
        app.rewind(&payment, "lease_until_ms = 0").await;
        let token = app.pay(&payment).await.token();
        release.notify_one();
        token
    };
    let (first, second) = tokio::join!(app.pay(&payment), repeat);
    assert_eq!(first.token(), second);
    assert_eq!(
        (app.facilitator.calls("settle"), app.transfers().await.len()),
        (2, 1)
    );
}

#[tokio::test]
async fn a_failed_verify_charges_nothing_and_can_be_repeated() {
    let app = TestApp::impatient().await;
    let faults = [
        ("silence before", Fault::SilentBefore),
        ("silence after", Fault::SilentAfter),
        ("a page", Fault::Instead(200, "<html></html>".to_owned())),
        ("nothing", Fault::Instead(500, String::new())),
        ("401", Fault::Instead(401, String::new())),
        ("429", Fault::Instead(429, String::new())),
        (
            "half an answer",
            Fault::Instead(200, r#"{"isValid":tr"#.to_owned()),
        ),
        (
            "text",
            Fault::Instead(200, r#"{"isValid":"true"}"#.to_owned()),
        ),
        (
            "null",
            Fault::Instead(200, r#"{"isValid":null}"#.to_owned()),
        ),
        (
            "no under 500",
            Fault::Instead(500, r#"{"isValid":false}"#.to_owned()),
        ),
    ];
    for (count, (name, fault)) in faults.into_iter().enumerate() {
        let payment = app.sign_for("year").await;
        app.facilitator.always("verify", fault);
        assert_eq!(app.pay(&payment).await.verdict(), unavailable(), "{name}");
        assert_eq!(
            app.state_of(&payment).await.as_deref(),
            Some("received"),
            "{name}"
        );
        let stranger = payment.copied_from_the_chain();
        assert_eq!(app.pay(&stranger).await.verdict(), unavailable(), "{name}");
        assert_eq!(
            (app.transfers().await.len(), app.facilitator.calls("settle")),
            (count, count)
        );
        app.facilitator.mend();
        app.pay(&payment).await.token();
        assert_eq!(app.transfers().await.len(), count + 1, "{name}");
    }
}

#[tokio::test]
async fn a_payment_that_verify_rejected_is_rejected_again_without_a_call() {
    let app = TestApp::spawn().await;
    let stranger = signing::wallet(77).address().to_string();
    let refusals = [
        (
            200,
            json!({"isValid": false, "invalidReason": "insufficient_funds"}),
        ),
        (
            400,
            json!({"isValid": false, "invalidReason": "the_moon_is_full"}),
        ),
        (200, json!({"isValid": true, "payer": stranger})),
    ];
    for (count, (status, body)) in refusals.into_iter().enumerate() {
        let mut payment = app.sign_for("year").await;
        app.facilitator
            .always("verify", Fault::Instead(status, body.to_string()));
        let answer = app.pay(&payment).await;
        assert_eq!(answer.verdict(), invalid(), "{body}");
        assert_eq!(app.state_of(&payment).await.as_deref(), Some("rejected"));
        app.facilitator.mend();
        let calls = app.facilitator.all_calls();
        let again = app.pay(&payment).await;
        assert_eq!((again.verdict(), again.text()), (invalid(), answer.text()));
        assert_eq!(
            app.pay(&payment.copied_from_the_chain()).await.verdict(),
            invalid()
        );
        assert_eq!(app.facilitator.all_calls(), calls);
        // Another authorization with the same nonce is a new attempt.
        payment.authorization.valid_before -= U256::from(1);
        payment.sign_by(&app.wallet);
        app.pay(&payment).await.token();
        assert_eq!(app.transfers().await.len(), count + 1);
    }
}

#[tokio::test]
async fn a_payment_that_was_never_verified_is_given_up_and_watched() {
    let app = TestApp::spawn().await;
    app.facilitator
        .always("verify", Fault::Instead(500, String::new()));
    let payment = app.sign_for("year").await;
    assert_eq!(app.pay(&payment).await.verdict(), unavailable());
    app.facilitator.mend();
    app.reconcile_until(&payment, "rejected").await;
    assert_eq!(app.pay(&payment).await.verdict(), invalid());
    for _ in 0..40 {
        app.advance(Duration::from_mins(1));
        app.reconcile().await;
    }
    let calls = app.node.all_calls();
    app.advance(Duration::from_mins(2));
    app.reconcile().await;
    assert_eq!(
        app.node.all_calls(),
        calls,
        "nothing can come of it any more"
    );
    assert_eq!(
        (app.transfers().await.len(), app.facilitator.calls("settle")),
        (0, 0)
    );
}

#[tokio::test]
async fn without_the_node_nothing_is_sold_and_no_open_payment_is_decided() {
    let app = TestApp::impatient().await;
    let down = || NodeFault {
        down: true,
        ..NodeFault::default()
    };
    let fresh = app.sign_for("year").await;
    app.node.node(down());
    let calls = app.facilitator.all_calls();
    assert_eq!(app.pay(&fresh).await.verdict(), no_node());
    assert_eq!(
        (app.facilitator.all_calls(), app.state_of(&fresh).await),
        (calls, None)
    );
    app.node.mend();
    let open = app.sign_for("year").await;
    app.facilitator.next("settle", Fault::SilentAfter);
    assert_eq!(app.pay(&open).await.verdict(), pending());
    app.node.node(down());
    for _ in 0..3 {
        assert_eq!(app.pay(&open).await.verdict(), pending());
        app.advance(LONG);
        app.reconcile().await;
    }
    assert_eq!(app.state_of(&open).await.as_deref(), Some("unknown"));
    assert_eq!(
        app.facilitator.calls("settle"),
        1,
        "the chain is asked before settle is called again"
    );
    app.node.mend();
    app.pay(&open).await.token();
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_node_that_lags_or_answers_incompletely_decides_nothing() {
    let app = TestApp::impatient().await;
    let head = app.chain_head().await;
    let faults = [
        (
            "stale",
            NodeFault {
                stale_at: Some(head),
                ..NodeFault::default()
            },
        ),
        (
            "without logs",
            NodeFault {
                without_logs: true,
                ..NodeFault::default()
            },
        ),
    ];
    for (count, (name, fault)) in faults.into_iter().enumerate() {
        for tier in ["year", "permanent"] {
            let paid = app.transfers().await.len();
            let payment = app.sign_for(tier).await;
            app.facilitator.next("settle", Fault::SilentAfter);
            assert_eq!(app.pay(&payment).await.verdict(), pending(), "{name}");
            app.node.node(fault.clone());
            for _ in 0..3 {
                assert_eq!(
                    app.pay(&payment).await.verdict(),
                    pending(),
                    "{name}, {count}"
                );
                app.advance(Duration::from_mins(3));
                app.reconcile().await;
                assert_eq!(
                    app.state_of(&payment).await.as_deref(),
                    Some("unknown"),
                    "{name}"
                );
            }
            app.node.mend();
            app.pay(&payment).await.token();
            assert_eq!(app.transfers().await.len(), paid + 1, "{name}");
        }
    }
}

#[tokio::test]
async fn a_wrong_clock_or_old_head_of_the_node_rejects_no_new_payment() {
    let app = TestApp::spawn().await;
    let head = app.chain_head().await;
    app.advance(SOON);
    let faults = [
        NodeFault {
            skew: 7200,
            ..NodeFault::default()
        },
        NodeFault {
            skew: -7200,
            ..NodeFault::default()
        },
        NodeFault {
            stale_at: Some(head),
            ..NodeFault::default()
        },
        NodeFault {
            without_logs: true,
            ..NodeFault::default()
        },
    ];
    for (count, fault) in faults.into_iter().enumerate() {
        let payment = app.sign_for("year").await;
        app.node.node(fault);
        app.pay(&payment).await.token();
        app.node.mend();
        assert_eq!(app.transfers().await.len(), count + 1);
    }
}

#[tokio::test]
async fn a_node_whose_clock_is_wrong_never_hides_a_transfer() {
    let app = TestApp::impatient().await;
    for (count, skew) in [7200, -7200].into_iter().enumerate() {
        let payment = app.sign_for("permanent").await;
        app.facilitator.next("settle", Fault::SilentAfter);
        assert_eq!(app.pay(&payment).await.verdict(), pending());
        app.node.node(NodeFault {
            skew,
            ..NodeFault::default()
        });
        app.pay(&payment).await.token();
        app.node.mend();
        assert_eq!(app.transfers().await.len(), count + 1);
    }
    // A clock that is behind keeps a payment open past its window, until the clock is right.
    let payment = app.sign_for("year").await;
    app.facilitator
        .always("settle", Fault::Instead(500, String::new()));
    assert_eq!(app.pay(&payment).await.verdict(), pending());
    app.node.node(NodeFault {
        skew: -7200,
        ..NodeFault::default()
    });
    app.advance(LONG);
    app.reconcile().await;
    assert_eq!(app.pay(&payment).await.verdict(), pending());
    app.node.mend();
    app.reconcile_until(&payment, "failed").await;
    assert_eq!(app.transfers().await.len(), 2);
}

#[tokio::test]
async fn a_payment_that_failed_by_a_wrong_clock_is_watched_until_its_end() {
    // The node reports that the window is over although it isn't, and an observer submits the
    // transfer.
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    app.facilitator
        .always("settle", Fault::Instead(500, String::new()));
    assert_eq!(app.pay(&payment).await.verdict(), pending());
    app.node.node(NodeFault {
        skew: 7200,
        ..NodeFault::default()
    });
    app.reconcile_until(&payment, "failed").await;
    for _ in 0..3 {
        app.advance(SOON);
        app.reconcile().await;
    }
    app.node.mend();
    app.chain
        .execute(&payment.authorization, &payment.signature)
        .await
        .unwrap();
    app.advance(Duration::from_mins(1));
    app.reconcile().await;
    assert_eq!(app.state_of(&payment).await.as_deref(), Some("settled"));
    app.pay(&payment).await.token();
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn an_authorization_cancelled_before_or_after_verify_buys_nothing() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let release = Arc::new(Notify::new());
    app.facilitator
        .next("verify", Fault::Held(Arc::clone(&release)));
    let cancel = async {
        app.facilitator.reached("verify", 1).await;
        cancel_nonce(&app, &payment).await;
        release.notify_one();
    };
    let (answer, ()) = tokio::join!(app.pay(&payment), cancel);
    assert_eq!(answer.verdict(), invalid());
    let payment = app.sign_for("year").await;
    app.facilitator
        .next("settle", Fault::Held(Arc::clone(&release)));
    let cancel = async {
        app.facilitator.reached("settle", 1).await;
        cancel_nonce(&app, &payment).await;
        release.notify_one();
    };
    let (answer, ()) = tokio::join!(app.pay(&payment), cancel);
    assert_eq!(answer.verdict(), failed());
    let payment = app.sign_for("year").await;
    cancel_nonce(&app, &payment).await;
    assert_eq!(
        app.pay(&payment).await.verdict(),
        known(Some(false)),
        "before first sight"
    );
    assert_eq!(app.transfers().await.len(), 0);
}

async fn cancel_nonce(app: &TestApp, payment: &Payment) {
    let nonce = payment.authorization.nonce;
    app.chain.cancel(app.wallet.address(), nonce).await.unwrap();
}

#[tokio::test]
async fn a_nonce_that_is_spent_elsewhere_buys_nothing() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let mut elsewhere = payment.clone();
    elsewhere.authorization.to = signing::wallet(9).address();
    elsewhere.sign_by(&app.wallet);
    let release = Arc::new(Notify::new());
    app.facilitator
        .next("settle", Fault::Held(Arc::clone(&release)));
    let spend = async {
        app.facilitator.reached("settle", 1).await;
        app.chain
            .execute(&elsewhere.authorization, &elsewhere.signature)
            .await
            .unwrap();
        release.notify_one();
    };
    let (answer, ()) = tokio::join!(app.pay(&payment), spend);
    assert_eq!(answer.verdict(), failed());
    assert_eq!(app.transfers().await.len(), 0);
}

#[tokio::test]
async fn a_wallet_that_is_emptied_between_verify_and_settle_buys_nothing() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("permanent").await;
    let release = Arc::new(Notify::new());
    app.facilitator
        .next("settle", Fault::Held(Arc::clone(&release)));
    let empty = async {
        app.facilitator.reached("settle", 1).await;
        app.chain.drain(app.wallet.address()).await.unwrap();
        release.notify_one();
    };
    let (answer, ()) = tokio::join!(app.pay(&payment), empty);
    assert_eq!(answer.verdict(), failed());
    let next = app.sign_for("year").await;
    assert_eq!(app.pay(&next).await.verdict(), invalid());
    assert_eq!(
        (app.transfers().await.len(), app.state_of(&next).await),
        (0, None)
    );
}

#[tokio::test]
async fn a_transfer_that_an_observer_submitted_before_settle_is_paid() {
    let app = TestApp::spawn().await;
    for (count, tier) in ["year", "permanent"].into_iter().enumerate() {
        let payment = app.sign_for(tier).await;
        let release = Arc::new(Notify::new());
        app.facilitator
            .next("settle", Fault::Held(Arc::clone(&release)));
        let observe = async {
            app.facilitator.reached("settle", count + 1).await;
            app.chain
                .execute(&payment.authorization, &payment.signature)
                .await
                .unwrap();
            release.notify_one();
        };
        let (answer, ()) = tokio::join!(app.pay(&payment), observe);
        answer.token();
        assert_eq!(app.transfers().await.len(), count + 1);
    }
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_transfer_before_the_first_request_is_listed_as_an_orphan() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let transaction = app
        .chain
        .execute(&payment.authorization, &payment.signature)
        .await
        .unwrap();
    for _ in 0..2 {
        assert_eq!(app.pay(&payment).await.verdict(), known(Some(true)));
    }
    assert_eq!(
        (app.facilitator.all_calls(), app.state_of(&payment).await),
        (0, None)
    );
    let mut report = app.check_ledger().await;
    let orphans: Vec<_> = report
        .chains
        .remove(0)
        .orphans
        .iter()
        .map(|orphan| orphan.transaction)
        .collect();
    assert_eq!(orphans, [transaction]);
}

#[tokio::test]
async fn a_transfer_just_before_verify_is_not_answered_with_a_new_offer() {
    // Verify rejects the payment since the nonce is used, but the money is ours.
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let release = Arc::new(Notify::new());
    app.facilitator
        .next("verify", Fault::Held(Arc::clone(&release)));
    let observe = async {
        app.facilitator.reached("verify", 1).await;
        app.chain
            .execute(&payment.authorization, &payment.signature)
            .await
            .unwrap();
        release.notify_one();
    };
    let (answer, ()) = tokio::join!(app.pay(&payment), observe);
    assert_eq!(answer.verdict(), known(Some(true)));
    assert_eq!(
        (app.facilitator.calls("settle"), app.transfers().await.len()),
        (0, 1)
    );
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn an_upload_paid_before_verify_publishes_no_image_without_its_bytes() {
    // The image's row is written before verify and its bytes after; the transfer comes in between.
    let app = TestApp::spawn().await;
    let payment = app.sign_at("/api/upload/year").await;
    let picture = pictures::png(8, 8);
    app.facilitator
        .always("verify", Fault::Instead(500, String::new()));
    assert_eq!(
        app.pay_with(&payment, &picture).await.verdict(),
        unavailable()
    );
    app.chain
        .execute(&payment.authorization, &payment.signature)
        .await
        .unwrap();
    app.facilitator.mend();
    assert_eq!(
        app.pay_with(&payment, &picture).await.verdict(),
        known(Some(true))
    );
    let id = payment.ledger_id();
    let images = pixtoll::db::images::find_published_by_payment(app.db(), &id)
        .await
        .unwrap();
    assert!(images.is_empty(), "{images:?}");
    assert_eq!(
        pixtoll::db::audit::find_owed(app.db()).await.unwrap().len(),
        1
    );
}

#[tokio::test]
async fn a_cheap_transfer_never_settles_a_later_expensive_payment() {
    // Two authorizations with one nonce: 0.01 for a year, and 1.00 for ever. The first is rejected
    // and then executed by its payer. While the chain is asked about it, a lagging node lets the
    // second in.
    let app = TestApp::builder()
        .set("payments.timeout", "20s")
        .spawn()
        .await;
    let cheap = app.sign_for("year").await;
    let mut dear = app.sign_for("permanent").await;
    dear.authorization.nonce = cheap.authorization.nonce;
    dear.sign_by(&app.wallet);
    let refusal = json!({"isValid": false, "invalidReason": "invalid_payload"}).to_string();
    app.facilitator.next("verify", Fault::Instead(200, refusal));
    assert_eq!(app.pay(&cheap).await.verdict(), invalid());
    let old = app.chain_head().await;
    app.advance(SOON);
    app.chain
        .execute(&cheap.authorization, &cheap.signature)
        .await
        .unwrap();
    let (logs, verify) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let asked = app.node.calls("eth_getLogs");
    app.node.next("eth_getLogs", Fault::Late(Arc::clone(&logs)));
    app.facilitator
        .next("verify", Fault::Held(Arc::clone(&verify)));
    let replace = async {
        app.node.reached("eth_getLogs", asked + 1).await;
        app.node.node(NodeFault {
            stale_at: Some(old),
            ..NodeFault::default()
        });
        let second = async {
            app.facilitator.reached("verify", 2).await;
            app.node.mend();
            logs.notify_one();
            // The proof of the first has arrived when the chain is asked for the transfer's log.
            app.node.reached("eth_getLogs", asked + 2).await;
            verify.notify_one();
        };
        tokio::join!(app.pay(&dear), second).0
    };
    let (first, second) = tokio::join!(app.pay(&cheap), replace);
    assert_ne!(first.status, 200, "{}", first.text());
    assert_ne!(second.status, 200, "{}", second.text());
    let settled = app.check_ledger().await;
    assert!(settled.settled_sum <= U256::from(10_000), "{settled:?}");
    assert!(settled.is_balanced(), "{:?}", settled.broken);
}

/// More payers with open outcomes than are allowed for two minutes.
const TOO_MANY_OPEN: u8 = 21;

/// Leaves payments of many payers with an unknown outcome, by this settle response. The reconciler
/// doesn't run, so they stay open.
async fn leave_too_many_open(app: &TestApp, answer: Fault) {
    app.facilitator.always("settle", answer);
    for number in 0..TOO_MANY_OPEN {
        let payer = signing::wallet(100 + number);
        let open = app.sign_by("/api/upload/token/year", &payer).await;
        assert_eq!(app.pay(&open).await.verdict(), pending());
    }
    app.facilitator.mend();
    let hold =
        "UPDATE payments SET next_look_ms = next_look_ms + 100000000 WHERE state = 'unknown'";
    assert_eq!(execute(app.db(), hold).await, 21);
}

#[tokio::test]
async fn too_many_unknown_outcomes_pause_sales_until_they_are_resolved() {
    let app = TestApp::builder()
        .set("limits.payments_per_address_per_minute", "0")
        .spawn()
        .await;
    let settled = app.sign_for("year").await;
    let token = app.pay(&settled).await.token();
    let (early, late) = (app.sign_for("year").await, app.sign_for("year").await);
    leave_too_many_open(&app, Fault::Instead(500, String::new())).await;
    app.advance(Duration::from_secs(119));
    app.reconcile().await;
    app.pay(&early).await.token();
    app.advance(Duration::from_secs(1));
    app.reconcile().await;
    let before = (app.calls(), app.transfers().await.len());
    for path in ["/api/upload/token", "/api/upload/year"] {
        assert_eq!(app.post(path).await.verdict(), paused(), "{path}");
    }
    assert_eq!(app.pay(&late).await.verdict(), paused());
    assert_eq!(app.state_of(&late).await, None);
    assert_eq!((app.calls(), app.transfers().await.len()), before);
    assert_eq!(
        app.pay(&settled).await.token(),
        token,
        "what was paid for is given"
    );
    let resume = "UPDATE payments SET next_look_ms = 1 WHERE state = 'unknown'";
    execute(app.db(), resume).await;
    app.reconcile().await;
    app.reconcile().await;
    assert_eq!(app.post("/api/upload/token").await.status, 402);
    app.pay(&late).await.token();
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn transfers_that_fail_on_the_chain_do_not_pause_sales() {
    let app = TestApp::builder()
        .set("limits.payments_per_address_per_minute", "0")
        .spawn()
        .await;
    let reverted = "invalid_exact_evm_transaction_failed";
    leave_too_many_open(&app, Fault::refusal(200, reverted)).await;
    app.advance(Duration::from_mins(3));
    app.reconcile().await;
    let honest = app.sign_for("year").await;
    app.pay(&honest).await.token();
}

#[tokio::test]
async fn a_transfer_that_could_not_be_recorded_is_never_denied() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let (forbid, allow) = match app.db() {
        Db::Sqlite(_) => (
            "CREATE TRIGGER no_grants BEFORE INSERT ON grants BEGIN SELECT RAISE(ABORT, 'no'); END",
            "DROP TRIGGER no_grants",
        ),
        Db::Postgres(_) => (
            "ALTER TABLE grants ADD CONSTRAINT no_grants CHECK (uses < 0) NOT VALID",
            "ALTER TABLE grants DROP CONSTRAINT no_grants",
        ),
    };
    execute(app.db(), forbid).await;
    // The money moved, and the facilitator reports that it didn't.
    app.facilitator
        .next("settle", Fault::lie(200, "insufficient_funds"));
    for _ in 0..2 {
        let answer = app.pay(&payment).await;
        let unknown = (503, "database_unavailable".to_owned(), None);
        assert_eq!(answer.verdict(), unknown, "{}", answer.text());
        assert_eq!(app.state_of(&payment).await.as_deref(), Some("failed"));
    }
    execute(app.db(), allow).await;
    app.pay(&payment).await.token();
    assert_eq!(app.transfers().await.len(), 1);
    app.check_ledger().await;
}
