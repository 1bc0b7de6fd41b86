//! What one buyer can do to the others: wallets that are emptied in time, contract wallets, and
//! facilitators that refuse in words of their own must not stop sales.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, Bytes, U256};
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::SolValue;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::support::expect::{invalid, no_node, paused, pending, unavailable};
use crate::support::proxy::{Fault, NodeFault, Wallets};
use crate::support::signing::wallet;
use crate::support::{Payment, TestApp};

const TOKEN: &str = "/api/upload/token/year";
const PRICE: u64 = 10_000;
/// A code that nobody has published.
const OWN_CODE: &str = "transfer_declined_by_ledger";
/// As many payments as pause sales, and some more.
const MANY: u8 = 26;
/// Longer than an outcome may be unknown before sales are paused.
const LONG: Duration = Duration::from_secs(130);

/// A server without limits for the test's address.
async fn unlimited() -> TestApp {
    limited_to("30s").await
}

async fn limited_to(timeout: &str) -> TestApp {
    TestApp::builder()
        .set("payments.timeout", timeout)
        .set("limits.payments_per_address_per_minute", "0")
        .spawn()
        .await
}

/// Leaves the wallet this many atomic units.
async fn leave(app: &TestApp, payer: &PrivateKeySigner, units: u64) {
    let owned = app.chain.balance(payer.address()).await.unwrap();
    let sink = Address::repeat_byte(0x55);
    let rest = owned - U256::from(units);
    app.chain.send(payer.address(), sink, rest).await.unwrap();
}

async fn signed(app: &TestApp, payer: &PrivateKeySigner, count: u8) -> Vec<Payment> {
    let mut payments = Vec::new();
    for _ in 0..count {
        payments.push(app.sign_by(TOKEN, payer).await);
    }
    payments
}

/// Somebody else buys, long after outcomes became unknown. The reconciler has not looked at them.
async fn others_can_buy(app: &TestApp) {
    let hold =
        "UPDATE payments SET next_look_ms = next_look_ms + 100000000 WHERE state = 'unknown'";
    crate::support::database::execute(app.db(), hold).await;
    app.advance(LONG);
    app.reconcile().await;
    let honest = app.sign_by(TOKEN, &wallet(3)).await;
    app.pay(&honest).await.token();
}

#[tokio::test]
async fn a_wallet_settles_what_it_has_the_money_for() {
    for rich in [1, 3] {
        let app = unlimited().await;
        let payer = wallet(2);
        leave(&app, &payer, PRICE * rich).await;
        let payments = signed(&app, &payer, MANY).await;
        let gate = Arc::new(Semaphore::new(0));
        app.facilitator
            .always("settle", Fault::Gated(Arc::clone(&gate), OWN_CODE));
        let open = async {
            // Settle takes its time: every payment has been verified before the first is settled.
            app.facilitator.reached("verify", usize::from(MANY)).await;
            app.facilitator
                .reached("settle", usize::try_from(rich).unwrap())
                .await;
            gate.add_permits(1000);
        };
        let (answers, ()) = tokio::join!(app.pay_at_once(&payments, None), open);
        let sold = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(sold, usize::try_from(rich).unwrap());
        for refused in answers.iter().filter(|answer| answer.status != 200) {
            assert_eq!(refused.verdict(), invalid(), "{}", refused.text());
            assert!(refused.text().contains("insufficient_funds"));
        }
        assert_eq!(app.facilitator.calls("settle"), sold);
        assert_eq!(app.transfers().await.len(), sold);
        app.facilitator.mend();
        others_can_buy(&app).await;
        assert!(app.check_ledger().await.is_balanced());
    }
}

#[tokio::test]
async fn what_the_chain_has_executed_is_not_subtracted_twice() {
    let app = unlimited().await;
    let payer = wallet(2);
    leave(&app, &payer, 2 * PRICE).await;
    let [first, second] = [
        app.sign_by(TOKEN, &payer).await,
        app.sign_by(TOKEN, &payer).await,
    ];
    // The first one is executed, and its outcome is unknown here.
    app.facilitator
        .next("settle", Fault::After(502, String::new()));
    app.node.node(NodeFault {
        without_logs: true,
        ..NodeFault::default()
    });
    assert_eq!(app.pay(&first).await.verdict(), pending());
    app.pay(&second).await.token();
    app.node.mend();
    app.pay(&first).await.token();
    assert_eq!(app.transfers().await.len(), 2);
}

#[tokio::test]
async fn a_payment_that_was_refused_beside_an_open_one_can_be_sent_again() {
    let app = unlimited().await;
    let payer = wallet(2);
    leave(&app, &payer, PRICE).await;
    let [first, second] = [
        app.sign_by(TOKEN, &payer).await,
        app.sign_by(TOKEN, &payer).await,
    ];
    app.facilitator
        .always("settle", Fault::Instead(502, String::new()));
    assert_eq!(app.pay(&first).await.verdict(), pending());
    let refused = app.pay(&second).await;
    assert_eq!(refused.verdict(), invalid());
    assert!(refused.text().contains("are being settled"));
    assert_eq!(app.state_of(&second).await.as_deref(), Some("released"));
    app.facilitator.mend();
    app.chain
        .send(wallet(3).address(), payer.address(), U256::from(PRICE))
        .await
        .unwrap();
    app.pay(&second).await.token();
    app.pay(&first).await.token();
    assert_eq!(app.transfers().await.len(), 2);
}

#[tokio::test]
async fn unknown_outcomes_of_one_payer_do_not_pause_sales() {
    let app = unlimited().await;
    app.facilitator
        .always("settle", Fault::Instead(502, String::new()));
    for payment in signed(&app, &wallet(2), MANY).await {
        assert_eq!(app.pay(&payment).await.verdict(), pending());
    }
    app.facilitator.mend();
    others_can_buy(&app).await;
}

#[tokio::test]
async fn refusals_by_codes_that_nobody_knows_do_not_pause_sales() {
    for status in [200, 400, 500] {
        let app = unlimited().await;
        app.facilitator
            .always("settle", Fault::refusal(status, OWN_CODE));
        for number in 0..MANY {
            let payment = app.sign_by(TOKEN, &wallet(100 + number)).await;
            assert_eq!(app.pay(&payment).await.verdict(), pending());
        }
        app.facilitator.mend();
        others_can_buy(&app).await;
    }
}

#[tokio::test]
async fn refusals_that_come_after_the_timeout_do_not_pause_sales() {
    let app = limited_to("1s").await;
    let gate = Arc::new(Semaphore::new(0));
    let mut payments = Vec::new();
    for number in 0..MANY {
        let payer = wallet(100 + number);
        payments.push(app.sign_by(TOKEN, &payer).await);
        // Between verify and settle, the wallet is emptied, so that settle is refused.
    }
    app.facilitator
        .always("settle", Fault::Gated(Arc::clone(&gate), OWN_CODE));
    let empty = async {
        app.facilitator.reached("settle", usize::from(MANY)).await;
        for number in 0..MANY {
            app.chain
                .drain(wallet(100 + number).address())
                .await
                .unwrap();
        }
    };
    let (answers, ()) = tokio::join!(app.pay_at_once(&payments, None), empty);
    for answer in answers {
        assert_eq!(answer.verdict(), pending());
    }
    gate.add_permits(1000);
    crate::support::process::eventually("the late refusals", async || {
        let noted = "SELECT COUNT(*) FROM payments WHERE reason IS NOT NULL";
        (crate::support::database::number(app.db(), noted).await == i64::from(MANY)).then_some(())
    })
    .await;
    app.facilitator.mend();
    others_can_buy(&app).await;
}

#[tokio::test]
async fn silence_about_many_payers_pauses_sales() {
    let app = unlimited().await;
    for number in 0..21 {
        let silence = Fault::Instead(502, String::new());
        let without_outcome = Fault::refusal(200, "settlement_pending");
        let fault = if number % 2 == 0 {
            silence
        } else {
            without_outcome
        };
        app.facilitator.always("settle", fault);
        let payment = app.sign_by(TOKEN, &wallet(100 + number)).await;
        assert_eq!(app.pay(&payment).await.verdict(), pending());
    }
    app.facilitator.mend();
    let hold =
        "UPDATE payments SET next_look_ms = next_look_ms + 100000000 WHERE state = 'unknown'";
    crate::support::database::execute(app.db(), hold).await;
    app.advance(LONG);
    app.reconcile().await;
    assert_eq!(app.post(TOKEN).await.verdict(), paused());
}

// ---- contract wallets

/// A signature of a wallet that is not deployed yet (ERC-6492).
fn wrapped(inner: &[u8]) -> Bytes {
    let factory = Address::repeat_byte(0xfa);
    let parts = (
        factory,
        Bytes::from_static(b"deploy"),
        Bytes::copy_from_slice(inner),
    );
    Bytes::from([parts.abi_encode_params(), [0x64, 0x92].repeat(16)].concat())
}

/// Signatures that the payer's key did not make.
fn unsigned() -> Vec<Bytes> {
    vec![
        Bytes::from(vec![7; 96]),
        wrapped(&[7; 65]),
        Bytes::from([vec![7; 96], [0x64, 0x92].repeat(16)].concat()),
        Bytes::new(),
        Bytes::from(vec![7; 65]),
    ]
}

/// A facilitator that answers 500 to a signature that a contract rejects, as x402-rs does.
fn onchain_failure() -> Fault {
    let refusal = json!({
        "isValid": false, "invalidReason": "unexpected_error",
        "invalidReasonDetails": "execution reverted", "payer": "",
    });
    Fault::Instead(500, refusal.to_string())
}

#[tokio::test]
async fn a_signature_that_no_wallet_accepts_never_reaches_the_facilitator() {
    for (answer, name) in [
        (onchain_failure(), "a refusal under 500"),
        (Fault::Instead(500, "execution reverted".to_owned()), "text"),
    ] {
        let app = unlimited().await;
        app.facilitator.always("verify", answer);
        for signature in unsigned() {
            let payment = Payment {
                signature,
                ..app.sign_for("year").await
            };
            for payment in [payment.clone(), payment.as_v1()] {
                let answer = app.pay(&payment).await;
                assert_eq!(answer.verdict(), invalid(), "{name}: {}", answer.text());
                assert!(
                    answer
                        .text()
                        .contains("invalid_exact_evm_payload_signature")
                );
            }
        }
        assert_eq!(app.facilitator.calls("verify"), 0, "{name}");
        app.facilitator.mend();
        for number in 0..5 {
            let honest = app.sign_by(TOKEN, &wallet(100 + number)).await;
            app.pay(&honest).await.token();
        }
    }
}

#[tokio::test]
async fn contract_wallets_can_not_make_the_facilitator_count_as_down() {
    let app = unlimited().await;
    app.node.node(NodeFault {
        wallets: Wallets::AcceptAll,
        ..NodeFault::default()
    });
    // The wallet accepts the signature at the server's node, and fails at the facilitator.
    app.facilitator.always(
        "verify",
        Fault::Instead(500, "execution reverted".to_owned()),
    );
    for signature in unsigned().into_iter().cycle().take(10) {
        let payment = Payment {
            signature,
            ..app.sign_for("year").await
        };
        assert_eq!(app.pay(&payment).await.verdict(), unavailable());
    }
    assert_eq!(app.facilitator.calls("verify"), 20);
    app.facilitator.mend();
    for number in 0..5 {
        let honest = app.sign_by(TOKEN, &wallet(100 + number)).await;
        app.pay(&honest).await.token();
    }
}

#[tokio::test]
async fn a_signature_that_the_node_can_not_check_is_not_sent() {
    let app = unlimited().await;
    app.node.node(NodeFault {
        wallets: Wallets::OnlyDeployed,
        ..NodeFault::default()
    });
    let payment = Payment {
        signature: wrapped(&[7; 65]),
        ..app.sign_for("year").await
    };
    assert_eq!(app.pay(&payment).await.verdict(), no_node());
    assert_eq!(app.facilitator.calls("verify"), 0);
    assert_eq!(app.state_of(&payment).await, None);
    app.node.mend();
    assert_eq!(app.pay(&payment).await.verdict(), invalid());
}
