//! Refusals of settle by the codes that facilitators publish: what they prove is decided at once,
//! and the chain is asked before a client is told that nothing was charged.

use pixtoll::facilitator::refusals::{Proves, REFUSALS, Source};

use crate::support::TestApp;
use crate::support::expect::{failed, pending};
use crate::support::proxy::Fault;

/// Codes of Coinbase's documents, and the same without the scheme's prefix.
const MOVED_NOTHING: &[&str] = &[
    "invalid_exact_evm_payload_authorization_from_address_kyt",
    "invalid_exact_evm_payload_authorization_to_address_kyt",
    "kyt_risk_detected",
    "request_blocked_by_location",
    "preflight_validation_failed",
    "invalid_exact_evm_authorization_value",
    "invalid_exact_evm_payload_authorization_value",
    "authorization_value",
    "invalid_exact_evm_transaction_simulation_failed",
    "transaction_simulation_failed",
    "insufficient_funds",
    "insufficient_balance: 0 < 10000",
];

#[tokio::test]
async fn a_published_refusal_that_moved_nothing_ends_the_payment_at_once() {
    let app = TestApp::spawn().await;
    for (count, code) in MOVED_NOTHING.iter().enumerate() {
        // Coinbase answers a refusal with 400, the npm facilitator with 200.
        let status = if count % 2 == 0 { 400 } else { 200 };
        let payment = app.sign_for("year").await;
        app.facilitator.next("settle", Fault::refusal(status, code));
        let answer = app.pay(&payment).await;
        assert_eq!(answer.verdict(), failed(), "{code}: {}", answer.text());
        assert_eq!(app.state_of(&payment).await.as_deref(), Some("failed"));
        assert_eq!(app.facilitator.calls("settle"), count + 1, "{code}");
        let unknown = answer.text().contains("no reason that this server knows");
        assert!(!unknown, "{code}: {}", answer.text());
    }
    assert!(app.transfers().await.is_empty());
}

#[tokio::test]
async fn every_listed_code_decides_what_the_table_says() {
    let app = TestApp::builder()
        .set("limits.payments_per_address_per_minute", "0")
        .spawn()
        .await;
    for known in REFUSALS {
        if known.source == Source::Pixtoll {
            continue;
        }
        let payment = app.sign_for("year").await;
        app.facilitator
            .always("settle", Fault::refusal(200, known.code));
        let expected = if known.proves == Proves::NothingMoved {
            failed()
        } else {
            pending()
        };
        assert_eq!(
            app.pay(&payment).await.verdict(),
            expected,
            "{}",
            known.code
        );
    }
    assert!(app.transfers().await.is_empty());
}

#[tokio::test]
async fn a_refusal_is_checked_on_the_chain_before_the_payer_is_told() {
    let app = TestApp::spawn().await;
    for (count, code) in MOVED_NOTHING.iter().enumerate() {
        let payment = app.sign_for("year").await;
        // The money moved, whatever the facilitator says.
        app.facilitator.next("settle", Fault::lie(400, code));
        app.pay(&payment).await.token();
        assert_eq!(app.transfers().await.len(), count + 1, "{code}");
    }
    assert!(app.check_ledger().await.is_balanced());
}
