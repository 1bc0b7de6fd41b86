//! Settling publishes an authorization and its signature on the chain. A stranger who copies them
//! from there gets nothing, whatever else they send. The payer gets the same goods again with any
//! one proof.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pixtoll::system::clock::Clock;
use serde_json::json;

use crate::support::proxy::{Fault, NodeFault};
use crate::support::signing::wallet;
use crate::support::{Answer, Payment, TestApp, client_from, pictures};

const TOKEN: &str = "/api/upload/token/year";
const UPLOAD: &str = "/api/upload/year";
const ID: &str = "an-id-of-the-payer-0001";
const KEY: &str = "a-key-of-the-payer-00001";
/// One character too short to be a proof, so that guessing it proves nothing either.
const SHORT: &str = "an-id-of-15-let";

/// Everything that a stranger can send with the data that the chain shows.
fn copies(payer: &Payment) -> Vec<(&'static str, Payment)> {
    let copy = payer.copied_from_the_chain();
    let ticket = payer.extensions["pixtoll"]["info"]["ticket"].as_str();
    // Version 1 echoes nothing, so there is no ticket to shorten.
    let cut = ticket.map_or("0", |ticket| &ticket[..31]).to_owned();
    let mut odd = copy.clone();
    odd.extensions = json!({"pixtoll": {"info": {"ticket": [1, 2]}}, "payment-identifier": 7});
    let mut other_value = copy.clone();
    other_value.authorization.valid_before += alloy_primitives::U256::from(1);
    let mut other_offer = copy.clone();
    other_offer.accepted["amount"] = json!("1");
    let mut other_network = copy.clone();
    other_network.accepted["network"] = json!("eip155:8453");
    let mut other_signature = copy.clone();
    other_signature.sign_by(&wallet(200));
    vec![
        ("no proof", copy.clone()),
        ("as version 1", copy.as_v1()),
        ("another ticket", copy.with_ticket(&"0".repeat(32))),
        ("an empty ticket", copy.with_ticket("")),
        ("the ticket but its last digit", copy.with_ticket(&cut)),
        ("another id", copy.with_id("an-id-of-the-payer-0002")),
        ("the start of the id", copy.with_id(&ID[..16])),
        ("the short id", copy.with_id(SHORT)),
        ("an empty id", copy.with_id("")),
        (
            "another key",
            copy.with_idempotency_key("a-key-of-the-payer-00002"),
        ),
        ("the short id as key", copy.with_idempotency_key(SHORT)),
        ("extensions of other types", odd),
        ("a signature by another key", other_signature),
        ("another digest", other_value),
        ("another offer", other_offer),
        ("another network", other_network),
    ]
}

/// Sends every copy to every route, from the payer's address and from another one.
async fn try_all(app: &TestApp, payer: &Payment, picture: &[u8]) -> Vec<(String, Answer)> {
    let elsewhere = client_from("127.0.0.2");
    let mut answers = Vec::new();
    for (name, copy) in copies(payer) {
        for path in [
            TOKEN,
            "/api/upload/token/permanent",
            UPLOAD,
            "/api/upload/permanent",
        ] {
            for body in [&b""[..], picture] {
                for (place, http) in [("there", &app.http), ("elsewhere", &elsewhere)] {
                    if place == "there" && is_by_address(payer, &copy) {
                        continue;
                    }
                    let mut request = http
                        .post(app.url(path))
                        .header("content-type", "image/png")
                        // An address in a header doesn't count as the sender's address.
                        .header("x-forwarded-for", "127.0.0.1")
                        .header("forwarded", "for=127.0.0.1");
                    for (header, value) in copy.headers() {
                        request = request.header(header, value);
                    }
                    let sent = request.body(body.to_vec()).send().await.unwrap();
                    let name = format!("{name}, {} bytes at {path} from {place}", body.len());
                    answers.push((name, Answer::of(sent).await));
                }
            }
        }
    }
    answers
}

/// Whether the copy counts as the payer's: the address is the proof of a version 1 client.
fn is_by_address(payer: &Payment, copy: &Payment) -> bool {
    payer.wire == copy.wire && payer.wire == crate::support::Wire::V1
}

/// Asserts that each response is 409 and contains nothing that belongs to the payer.
fn gives_nothing(answers: &[(String, Answer)], charged: Option<bool>, secrets: &[String]) {
    assert!(answers.len() > 100);
    for (name, answer) in answers {
        let verdict = (answer.status, answer.error());
        assert_eq!(verdict, (409, "payment_known".to_owned()), "{name}");
        let said = answer.charged();
        // Another digest can't have been charged: at most one of a nonce ever moves money.
        let is_other = name.starts_with("another digest");
        assert!(
            said == charged || (is_other && said == Some(false)),
            "{name}: {said:?}"
        );
        for header in [
            "payment-response",
            "x-payment-response",
            "payment-required",
            "location",
        ] {
            assert_eq!(answer.header(header), None, "{name}");
        }
        let seen = everything(answer);
        for secret in secrets {
            assert!(!seen.contains(secret.as_str()), "{name} shows {secret}");
        }
    }
}

/// Body and headers, including the decoded base64 ones.
fn everything(answer: &Answer) -> String {
    let mut seen = answer.text();
    for (name, value) in &answer.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let decoded = STANDARD.decode(&value).unwrap_or_default();
        let decoded = String::from_utf8_lossy(&decoded);
        seen.extend(["\n", name.as_str(), ": ", &value, "\n", &decoded]);
    }
    seen
}

/// The values that only the payer may know.
fn secrets_of(app: &TestApp, payer: &Payment, goods: &Answer) -> Vec<String> {
    let body = goods.json();
    let mut secrets: Vec<String> = ["token", "id", "url", "deleteToken", "sha256"]
        .iter()
        .filter_map(|field| body[*field].as_str().map(str::to_owned))
        .collect();
    assert!(!secrets.is_empty(), "{}", goods.text());
    let ticket = payer.extensions["pixtoll"]["info"]["ticket"].as_str();
    secrets.extend(ticket.map(str::to_owned));
    secrets.extend([ID.to_owned(), KEY.to_owned(), payer.signature.to_string()]);
    let receipt = everything(goods);
    assert!(receipt.contains("transaction"), "{receipt}");
    assert!(secrets.iter().all(|secret| !app.base.contains(secret)));
    secrets
}

/// A payment with every proof of version 2.
async fn proven(app: &TestApp, path: &str) -> Payment {
    let payment = app.sign_at(path).await;
    payment.with_id(ID).with_idempotency_key(KEY)
}

async fn present(app: &TestApp, payment: &Payment, picture: &[u8]) -> Answer {
    app.pay_with(payment, picture).await
}

/// A server with a short timeout for the facilitator, though long enough for a slow machine.
async fn soon_unsure() -> TestApp {
    let builder = TestApp::builder().set("payments.timeout", "2s");
    builder.spawn().await
}

/// Sends copies while the outcome is unknown, after it is settled, and after the goods are used up.
async fn nobody_else_gets_the_goods_of(app: &TestApp, payer: &Payment) {
    let picture = pictures::png(6, 6);
    app.facilitator.next("settle", Fault::SilentAfter);
    let lost = present(app, payer, &picture).await;
    assert_eq!(lost.verdict(), (503, "settlement_pending".to_owned(), None));
    app.node.node(NodeFault {
        without_logs: true,
        ..NodeFault::default()
    });
    let while_unknown = try_all(app, payer, &picture).await;
    assert_eq!(app.state_of(payer).await.as_deref(), Some("unknown"));
    app.node.mend();

    let goods = present(app, payer, &picture).await;
    assert_eq!(goods.status, 200, "{}", goods.text());
    let mut secrets = secrets_of(app, payer, &goods);
    let after_settled = try_all(app, payer, &picture).await;

    if let Some(token) = goods.json()["token"].as_str() {
        let used = app.upload_with(token, picture.clone()).await;
        assert_eq!(used.status, 200);
        let image = present(app, payer, &picture).await;
        assert_eq!(image.field("id"), used.field("id"));
        secrets.extend(secrets_of(app, payer, &image));
    }
    let after_used = try_all(app, payer, &picture).await;

    gives_nothing(&while_unknown, None, &secrets);
    gives_nothing(&after_settled, Some(true), &secrets);
    gives_nothing(&after_used, Some(true), &secrets);
    // None of the requests moved money.
    assert_eq!(app.transfers().await.len(), 1);
    assert_eq!(app.facilitator.calls("settle"), 1);
    assert_eq!(
        (app.rows("payments").await, app.rows("grants").await),
        (1, 1)
    );
}

#[tokio::test]
async fn a_token_that_was_paid_for_is_not_given_to_a_stranger() {
    let app = soon_unsure().await;
    let payer = proven(&app, TOKEN).await;
    nobody_else_gets_the_goods_of(&app, &payer).await;
}

#[tokio::test]
async fn an_image_that_was_paid_for_is_not_given_to_a_stranger() {
    let app = soon_unsure().await;
    let payer = proven(&app, UPLOAD).await;
    nobody_else_gets_the_goods_of(&app, &payer).await;
}

#[tokio::test]
async fn goods_of_a_version_1_client_are_not_given_to_a_stranger() {
    for path in [TOKEN, UPLOAD] {
        let app = soon_unsure().await;
        let payer = app.sign_at(path).await.as_v1();
        nobody_else_gets_the_goods_of(&app, &payer).await;
    }
}

#[tokio::test]
async fn an_idempotency_key_that_is_too_short_proves_nothing() {
    let app = soon_unsure().await;
    let payer = app.sign_for("year").await;
    let payer = payer.with_id(SHORT).with_idempotency_key(SHORT);
    nobody_else_gets_the_goods_of(&app, &payer).await;
}

#[tokio::test]
async fn the_payer_gets_the_same_goods_by_each_proof_alone() {
    let picture = pictures::png(7, 7);
    for path in [TOKEN, UPLOAD] {
        let app = TestApp::spawn().await;
        let payer = proven(&app, path).await;
        let goods = present(&app, &payer, &picture).await;
        assert_eq!(goods.status, 200, "{}", goods.text());
        let bare = payer.copied_from_the_chain();
        let ticket = payer.extensions["pixtoll"]["info"]["ticket"].clone();
        let by_ticket = bare.with_ticket(ticket.as_str().unwrap());
        let by_id = bare.with_id(ID);
        let by_key = bare.with_idempotency_key(KEY);
        let by_key_in_version_1 = by_key.as_v1();
        for (name, again) in [
            ("ticket", by_ticket),
            ("id", by_id),
            ("key", by_key),
            ("key in version 1", by_key_in_version_1),
            // The header's key may come as the extension's id, and the other way round.
            ("id as key", bare.with_idempotency_key(ID)),
            ("key as id", bare.with_id(KEY)),
        ] {
            let same = present(&app, &again, &picture).await;
            assert_eq!(same.status, 200, "{name} at {path}: {}", same.text());
            assert_eq!(same.json(), goods.json(), "{name} at {path}");
        }
        assert_eq!(app.transfers().await.len(), 1);
    }
}

#[tokio::test]
async fn each_idempotency_key_of_a_payment_prevents_a_second_charge() {
    let app = TestApp::spawn().await;
    let first = proven(&app, TOKEN).await;
    let token = app.pay(&first).await.token();
    for name in ["id", "key", "both", "id as key", "key as id"] {
        let signed = app.sign_for("year").await;
        let second = match name {
            "id" => signed.with_id(ID),
            "key" => signed.with_idempotency_key(KEY),
            "both" => signed.with_id(ID).with_idempotency_key(KEY),
            "id as key" => signed.with_idempotency_key(ID),
            _ => signed.with_id(KEY),
        };
        assert_eq!(app.pay(&second).await.token(), token, "{name}");
        assert_eq!(app.transfers().await.len(), 1, "{name}");
    }
    // One of two idempotency keys is taken: the payment buys nothing, and its other key stays free.
    let signed = app.sign_for("permanent").await;
    let third = signed
        .with_id(ID)
        .with_idempotency_key("a-third-key-of-the-payer");
    let conflict = app.pay(&third).await;
    let expected = (409, "idempotency_conflict".to_owned(), Some(false));
    assert_eq!(conflict.verdict(), expected);
    assert_eq!(app.rows("payment_ids").await, 2);
    // An equal key of another payer is another key.
    let challenge = app.post(TOKEN).await;
    let now = app.clock.now();
    let other = Payment::answering(&challenge, TOKEN, &wallet(3), now).with_idempotency_key(KEY);
    assert_ne!(app.pay(&other).await.token(), token);
}

#[tokio::test]
async fn each_proof_is_bound_when_it_is_the_only_one() {
    let app = TestApp::spawn().await;
    let elsewhere = client_from("127.0.0.2");
    for kind in ["ticket", "id", "key"] {
        let signed = app.sign_for("year").await;
        let bare = signed.copied_from_the_chain();
        let payer = match kind {
            "ticket" => signed.clone(),
            "id" => bare.with_id(&format!("{ID}-{kind}")),
            _ => bare.with_idempotency_key(&format!("{KEY}-{kind}")),
        };
        let token = app.pay(&payer).await.token();
        assert_eq!(app.pay(&payer).await.token(), token, "{kind}");
        let from_elsewhere = send_from(&elsewhere, &app, &payer).await;
        assert_eq!(from_elsewhere.token(), token, "{kind}");
        let stranger = app.pay(&bare).await;
        assert_eq!(stranger.error(), "payment_known", "{kind}");
    }
}

#[tokio::test]
async fn the_address_proves_a_version_1_client_until_its_token_expires() {
    let app = TestApp::spawn().await;
    let payer = app.sign_for("year").await.as_v1();
    let token = app.pay(&payer).await.token();
    assert_eq!(app.pay(&payer).await.token(), token);
    let elsewhere = send_from(&client_from("127.0.0.2"), &app, &payer).await;
    assert_eq!(elsewhere.error(), "payment_known");
    // The window, its margin, and the lifetime of a token that was fetched at its end.
    app.advance(Duration::from_secs(300 + 60 + 600 - 1));
    assert_eq!(app.pay(&payer).await.status, 200);
    app.advance(Duration::from_secs(1));
    let late = app.pay(&payer).await;
    assert_eq!(
        late.verdict(),
        (409, "payment_known".to_owned(), Some(true))
    );
}

#[tokio::test]
async fn a_payment_that_was_executed_before_its_first_request_buys_nothing() {
    let app = TestApp::spawn().await;
    let signed = app.sign_for("year").await.with_id(ID);
    app.chain
        .execute(&signed.authorization, &signed.signature)
        .await
        .unwrap();
    for copy in [
        signed.clone(),
        signed.copied_from_the_chain(),
        signed.as_v1(),
    ] {
        let answer = app.pay(&copy).await;
        assert_eq!(
            answer.verdict(),
            (409, "payment_known".to_owned(), Some(true))
        );
        assert_eq!(answer.header("payment-response"), None);
    }
    assert_eq!(app.calls()[..2], [0, 0]);
    assert_eq!(
        (app.rows("payments").await, app.rows("grants").await),
        (0, 0)
    );
}

#[tokio::test]
async fn an_early_copy_by_a_stranger_does_not_harm_the_payer() {
    let app = TestApp::spawn().await;
    let payer = app.sign_for("year").await.with_id(ID);
    for (name, mut copy) in copies(&payer) {
        if !name.starts_with("another ") && !name.starts_with("a signature") {
            continue;
        }
        copy.sign_by(&wallet(200));
        let answer = app.pay(&copy).await;
        assert_eq!(answer.error(), "payment_invalid", "{name}");
    }
    let token = app.pay(&payer).await.token();
    assert_eq!(app.pay(&payer).await.token(), token);
    assert_eq!(app.state_of(&payer).await.as_deref(), Some("settled"));
}

async fn send_from(http: &reqwest::Client, app: &TestApp, payment: &Payment) -> Answer {
    let mut request = http.post(app.url(&payment.path));
    for (name, value) in payment.headers() {
        request = request.header(name, value);
    }
    Answer::of(request.send().await.unwrap()).await
}
