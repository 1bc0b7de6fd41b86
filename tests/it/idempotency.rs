//! Idempotency keys of every length: one key, one charge, and a malformed one is refused before
//! anything is charged.

use serde_json::json;

use crate::support::expect::{conflict, known};
use crate::support::proxy::Fault;
use crate::support::signing::wallet;
use crate::support::{Answer, Payment, TestApp, pictures};

const TOKEN: &str = "/api/upload/token/year";

type Name = fn(Payment, &str) -> Payment;

/// The ways to send a key.
const WAYS: [(&str, Name); 3] = [
    ("header", |payment, key| payment.with_idempotency_key(key)),
    ("header of version 1", |payment, key| {
        payment.as_v1().with_idempotency_key(key)
    }),
    ("extension", |payment, key| payment.with_id(key)),
];

fn malformed() -> (u16, String, Option<bool>) {
    (400, "invalid_header".to_owned(), Some(false))
}

#[tokio::test]
async fn a_key_of_any_length_names_one_purchase() {
    let longest = "k".repeat(255);
    for (way, named) in WAYS {
        let app = TestApp::spawn().await;
        let keys = [
            "order-1",
            "1",
            "/?#[]@!$&'()*+,;=~",
            "a.key:with~others",
            &longest,
        ];
        for (count, key) in keys.into_iter().enumerate() {
            let first = named(app.sign_for("year").await, key);
            let second = named(app.sign_for("year").await, key);
            let token = app.pay(&first).await.token();
            assert_eq!(app.pay(&second).await.token(), token, "{way}, {key}");
            assert_eq!(app.transfers().await.len(), count + 1, "{way}, {key}");
            let other = named(app.sign_for("permanent").await, key);
            let answer = app.pay(&other).await;
            assert_eq!(answer.verdict(), conflict(Some(false)), "{way}, {key}");
        }
        assert!(app.check_ledger().await.is_balanced());
    }
}

#[tokio::test]
async fn two_payments_at_once_under_a_short_key_are_one_purchase() {
    let app = TestApp::spawn().await;
    let mut payments = Vec::new();
    for _ in 0..8 {
        payments.push(app.sign_for("year").await.with_idempotency_key("order-1"));
    }
    let answers = app.pay_at_once(&payments, None).await;
    let tokens: Vec<String> = answers.iter().map(Answer::token).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_payer_without_more_money_gets_what_the_short_key_bought() {
    let app = TestApp::spawn().await;
    let first = app.sign_for("year").await.with_idempotency_key("order-1");
    let second = app.sign_for("year").await.with_idempotency_key("order-1");
    let token = app.pay(&first).await.token();
    app.chain.drain(app.wallet.address()).await.unwrap();
    assert_eq!(app.pay(&second).await.token(), token);
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn an_upload_under_a_short_key_is_bound_to_its_bytes() {
    let app = TestApp::spawn().await;
    let sign = async || {
        let payment = app.sign_at("/api/upload/year").await;
        payment.with_idempotency_key("order-1")
    };
    let (picture, other) = (pictures::png(8, 8), pictures::png(9, 9));
    let first = app.pay_with(&sign().await, &picture).await;
    assert_eq!(first.status, 200, "{}", first.text());
    let again = app.pay_with(&sign().await, &picture).await;
    assert_eq!(again.json(), first.json());
    let differs = app.pay_with(&sign().await, &other).await;
    assert_eq!(differs.verdict(), conflict(Some(false)));
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_key_in_quotes_is_the_key_between_them() {
    let app = TestApp::spawn().await;
    let mut tokens = Vec::new();
    for named in [
        app.sign_for("year")
            .await
            .with_idempotency_key("\"order-1\""),
        app.sign_for("year").await.with_idempotency_key("order-1"),
        app.sign_for("year").await.with_id("order-1"),
    ] {
        tokens.push(app.pay(&named).await.token());
    }
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_short_key_is_no_proof() {
    let app = TestApp::spawn().await;
    let payer = app.sign_for("year").await.with_idempotency_key("order-1");
    app.pay(&payer).await.token();
    let copy = payer.copied_from_the_chain();
    for stranger in [
        copy.with_idempotency_key("order-1"),
        copy.with_id("order-1"),
    ] {
        assert_eq!(app.pay(&stranger).await.verdict(), known(Some(true)));
    }
    // An authorization of the same payer that was published for another seller, and a guessed key.
    let mut elsewhere = app.sign_for("year").await.copied_from_the_chain();
    elsewhere.authorization.to = wallet(9).address();
    elsewhere.sign_by(&app.wallet);
    let executed = elsewhere.clone();
    app.chain
        .execute(&executed.authorization, &executed.signature)
        .await
        .unwrap();
    // One that was published for this seller, and that the ledger doesn't know.
    let published = app.sign_for("year").await.copied_from_the_chain();
    app.chain
        .execute(&published.authorization, &published.signature)
        .await
        .unwrap();
    for theft in [elsewhere, published] {
        let answer = app.pay(&theft.with_idempotency_key("order-1")).await;
        assert_ne!(answer.status, 200, "{}", answer.text());
        assert!(answer.json()["token"].is_null(), "{}", answer.text());
    }
    assert_eq!(app.facilitator.calls("settle"), 1);
}

#[tokio::test]
async fn a_malformed_key_is_refused_before_anything_is_charged() {
    let app = TestApp::spawn().await;
    let too_long = "k".repeat(256);
    let picture = pictures::png(8, 8);
    for key in [
        "",
        "order 1",
        "\"order 1\"",
        "order\t1",
        "\"\"",
        "\u{e9}",
        &too_long,
    ] {
        for path in [TOKEN, "/api/upload/year"] {
            for (way, named) in WAYS {
                // In the extension, quotes are characters as others.
                if key == "\"\"" && way == "extension" {
                    continue;
                }
                let payment = named(app.sign_at(path).await, key);
                let answer = app.pay_with(&payment, &picture).await;
                assert_eq!(
                    answer.verdict(),
                    malformed(),
                    "{way}, {key:?}: {}",
                    answer.text()
                );
                assert_eq!(answer.json()["action"]["type"], "fix_request");
                assert!(answer.text().contains("1 to 255"), "{}", answer.text());
                assert_eq!(app.state_of(&payment).await, None, "{way}, {key:?}");
            }
            let headers = [("Idempotency-Key", key)];
            let unpaid = app.send("POST", path, &headers, vec![]).await;
            assert_eq!(unpaid.verdict(), malformed(), "{key:?}: {}", unpaid.text());
        }
    }
    for id in [json!(7), json!(["order-1"]), json!({}), json!(true)] {
        let mut payment = app.sign_for("year").await;
        payment.extensions["payment-identifier"]["info"]["id"] = id.clone();
        assert_eq!(app.pay(&payment).await.verdict(), malformed(), "{id}");
    }
    assert_eq!(app.facilitator.all_calls(), 0);
    assert!(app.transfers().await.is_empty());
    let mut payment = app.sign_for("year").await;
    payment.extensions["payment-identifier"]["info"]["id"] = json!(null);
    app.pay(&payment).await.token();
}

#[tokio::test]
async fn a_malformed_key_of_a_renewal_is_refused() {
    let app = TestApp::spawn().await;
    let token = app.pay(&app.sign_for("year").await).await.token();
    let uploaded = app.upload_with(&token, pictures::png(8, 8)).await;
    let id = uploaded.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/api/images/{id}/renew");
    for (way, named) in WAYS {
        let payment = named(app.sign_at(&path).await, "order 1");
        assert_eq!(app.pay(&payment).await.verdict(), malformed(), "{way}");
    }
    let unpaid = app
        .send("POST", &path, &[("Idempotency-Key", "order 1")], vec![])
        .await;
    assert_eq!(unpaid.verdict(), malformed());
    let [first, second] = [app.sign_at(&path).await, app.sign_at(&path).await];
    let renewed = app.pay(&first.with_idempotency_key("order-1")).await;
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    let again = app.pay(&second.with_idempotency_key("order-1")).await;
    assert_eq!(again.json(), renewed.json());
    assert_eq!(app.transfers().await.len(), 2);
}

#[tokio::test]
async fn a_known_payment_is_answered_whatever_its_key() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let token = app.pay(&payment).await.token();
    let again = payment.with_idempotency_key("order 1");
    assert_eq!(app.pay(&again).await.token(), token);
}

#[tokio::test]
async fn a_short_key_is_free_again_after_a_refusal() {
    let app = TestApp::spawn().await;
    let first = app.sign_for("year").await.with_idempotency_key("order-1");
    app.facilitator
        .next("settle", Fault::refusal(200, "insufficient_funds"));
    assert_eq!(app.pay(&first).await.status, 402);
    let second = app.sign_for("year").await.with_idempotency_key("order-1");
    app.pay(&second).await.token();
    assert_eq!(app.transfers().await.len(), 1);
}
