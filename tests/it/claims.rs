//! Claims: payers sign in with their wallets (sign-in-with-x) and receive what they paid for, after
//! a loss of the database, without proof and with clients of version 1. Nobody else does.

use std::time::Duration;

use alloy_primitives::{Address, hex};
use pixtoll::db::audit;
use pixtoll::x402::siwx::SignedMessage;
use serde_json::{Value, json};

use crate::recover::{TOKEN, UPLOAD, back_up, recovered, restore, sign};
use crate::support::expect::known;
use crate::support::process::{Deployment, Request, SandboxProcess};
use crate::support::proxy::{Fault, NodeFault, Wallets};
use crate::support::sign_in::{
    CLAIMS, answering, only_token, request, sign_by, sign_in, with_high_s,
};
use crate::support::{Answer, TestApp, pictures, signing};

/// The verdict on a message that signs nobody in.
fn refused() -> (u16, String, Option<bool>) {
    (401, "sign_in_invalid".to_owned(), Some(false))
}

fn transaction_of(answer: &Answer) -> String {
    let receipt = answer.document("payment-response");
    receipt["transaction"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn payers_claim_what_a_restored_database_had_lost() {
    let app = TestApp::spawn().await;
    back_up(&app).await;
    let wallets = [1, 2, 3].map(signing::wallet);
    // A token that was not used, a token that was, and a direct upload of a version 1 client.
    let unused = sign(&app, TOKEN, &wallets[0]).await;
    let mut transactions = vec![app.pay(&unused).await];
    let used = sign(&app, TOKEN, &wallets[1]).await;
    let sold = app.pay(&used).await;
    app.upload_with(&sold.token(), pictures::png(6, 6)).await;
    transactions.push(sold);
    let direct = sign(&app, UPLOAD, &wallets[2]).await.as_v1();
    let sold = app.pay_with(&direct, &pictures::png(7, 7)).await;
    assert_eq!(sold.status, 200, "{}", sold.text());
    let lost = [&unused, &used, &direct];
    let paid = app.transfers().await.len();
    assert_eq!(paid, 3);

    restore(&app).await;
    let closed = app.post(CLAIMS).await;
    let verdict = (503, "recovery_required".to_owned(), Some(false));
    assert_eq!(closed.verdict(), verdict);
    assert_eq!(recovered(&app).await, 3);

    // The response to the old payments names the claim.
    for payment in lost {
        let answer = app.pay_with(payment, &pictures::png(7, 7)).await;
        assert_eq!(answer.verdict(), known(Some(true)));
        let action = &answer.json()["action"];
        assert_eq!(action["type"], "claim", "{}", answer.text());
        assert_eq!(action["url"], app.url(CLAIMS));
        assert!(answer.text().contains("POST /api/claims"));
    }
    // A stranger signs in and receives nothing.
    assert!(app.claim(&signing::wallet(9)).await.is_empty());
    for (number, (payment, wallet)) in lost.iter().zip(&wallets).enumerate() {
        let message = app.sign_in(wallet).await;
        let answer = app.claim_with(&message).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let body = answer.json();
        assert_eq!((&body["next"], &body["open"]), (&Value::Null, &json!(0)));
        let payments = body["payments"].as_array().unwrap();
        let (transaction, token) = only_token(payments);
        if let Some(sold) = transactions.get(number) {
            assert_eq!(transaction, transaction_of(sold));
        }
        let nonce = payment.authorization.nonce.to_string();
        assert_eq!(payments[0]["nonce"], nonce);
        assert_eq!(payments[0]["price"]["usd"], "0.01");
        // Whoever read the message can't use it again.
        assert_eq!(app.claim_with(&message).await.verdict(), refused());
        // The token stays claimable until it is used.
        assert_eq!(only_token(&app.claim(wallet).await).1, token);
        let picture = pictures::png(10, 10 + u32::try_from(number).unwrap());
        let uploaded = app.upload_with(&token, picture.clone()).await;
        assert_eq!(uploaded.status, 200, "{}", uploaded.text());
        assert_eq!(app.get(&uploaded.field("url")).await.bytes, picture);
        assert!(app.claim(wallet).await.is_empty());
    }
    assert_eq!(app.transfers().await.len(), paid, "nobody paid twice");
    assert!(audit::find_owed(app.db()).await.unwrap().is_empty());
    let report = app.check_ledger().await;
    assert!(report.is_balanced(), "{:?}", report.broken);
    assert_eq!((report.settled, report.chains[0].orphans.len()), (3, 0));
}

#[tokio::test]
async fn a_payer_without_proof_claims_what_is_left() {
    let app = TestApp::spawn().await;
    let wallet = signing::wallet(1);
    let buy = async |path: &str| sign(&app, path, &wallet).await;
    let uploaded = async |token: &str, seed: u64| {
        let uploaded = app
            .upload_with(token, pictures::png_seeded(5, 5, seed))
            .await;
        assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    };
    // Received: its use shows it.
    let used = app.pay(&buy(TOKEN).await).await.token();
    uploaded(&used, 1).await;
    // A token for three uploads with two left.
    let many = app.pay(&buy("/api/upload/token/year?images=3").await).await;
    uploaded(&many.token(), 2).await;
    // Version 1 clients whose responses were lost, long ago.
    let unused = app.pay(&buy(TOKEN).await.as_v1()).await.token();
    let direct = buy(UPLOAD).await.as_v1();
    let image = app.pay_with(&direct, &pictures::png(7, 7)).await;
    app.advance(Duration::from_hours(2));

    let claimed = app.claim(&wallet).await;
    assert_eq!(claimed.len(), 3, "{claimed:?}");
    let find = |bought: &str, uploads: Value| {
        let is_it = |payment: &&Value| {
            payment["bought"] == bought && payment["token"]["uploads"] == uploads
        };
        claimed.iter().find(is_it).unwrap().clone()
    };
    // Expired tokens are replaced by valid ones.
    for (before, uploads) in [(unused, 1), (many.token(), 2)] {
        let token = find("token", json!(uploads))["token"]["token"].clone();
        assert_ne!(token, before);
        uploaded(token.as_str().unwrap(), 10 + uploads).await;
    }
    let view = find("upload", Value::Null);
    assert_eq!(view["image"]["url"], image.json()["url"]);
    assert_eq!(view["image"]["deleteToken"], image.json()["deleteToken"]);
    let left = app.claim(&wallet).await;
    assert_eq!(left.len(), 2, "{left:?}");
    // A deleted image is not there any more.
    let token = [("X-Delete-Token", image.field("deleteToken"))];
    let path = format!("/api/images/{}", image.field("id"));
    assert_eq!(
        app.send("DELETE", &path, &token, Vec::new()).await.status,
        200
    );
    assert_eq!(app.claim(&wallet).await.len(), 1);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_payment_of_unknown_outcome_is_counted_and_claimed_later() {
    let app = TestApp::impatient().await;
    let wallet = signing::wallet(1);
    let payment = sign(&app, TOKEN, &wallet).await.as_v1();
    app.facilitator.next("settle", Fault::SilentBefore);
    assert_eq!(app.pay(&payment).await.status, 503);
    let message = app.sign_in(&wallet).await;
    let answer = app.claim_with(&message).await.json();
    assert_eq!(
        (&answer["open"], &answer["payments"]),
        (&json!(1), &json!([]))
    );
    app.reconcile_until(&payment, "settled").await;
    let (_, token) = only_token(&app.claim(&wallet).await);
    let uploaded = app.upload_with(&token, pictures::png(4, 4)).await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
}

#[tokio::test]
async fn what_the_operator_resolved_is_not_claimed() {
    let app = TestApp::spawn().await;
    let wallet = signing::wallet(1);
    let payment = sign(&app, TOKEN, &wallet).await;
    app.pay(&payment).await.token();
    restore(&app).await;
    assert_eq!(recovered(&app).await, 1);
    let id = payment.ledger_id();
    let now = pixtoll::system::clock::Clock::now(&app.clock);
    assert!(
        audit::resolve(app.db(), id.as_str(), "refunded", now)
            .await
            .unwrap()
    );
    assert!(app.claim(&wallet).await.is_empty());
}

#[tokio::test]
async fn a_claim_returns_one_page_after_another() {
    let app = TestApp::builder()
        .set("limits.payments_per_address_per_minute", "100000")
        .spawn()
        .await;
    let wallet = signing::wallet(1);
    for _ in 0..103 {
        let payment = sign(&app, TOKEN, &wallet).await;
        app.pay(&payment).await.token();
    }
    let page = async |query: &str| -> (Vec<Value>, Value) {
        let message = app.sign_in(&wallet).await;
        let headers = [("SIGN-IN-WITH-X", message.encode())];
        let path = format!("{CLAIMS}{query}");
        let answer = app.send("POST", &path, &headers, Vec::new()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let body = answer.json();
        (
            body["payments"].as_array().unwrap().clone(),
            body["next"].clone(),
        )
    };
    let (first, next) = page("").await;
    assert_eq!(first.len(), 100);
    let (rest, end) = page(&format!("?after={}", next.as_str().unwrap())).await;
    assert_eq!((rest.len(), end), (3, Value::Null));
    let mut ids: Vec<&Value> = first
        .iter()
        .chain(&rest)
        .map(|it| &it["ledgerId"])
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 103);
    let message = app.sign_in(&wallet).await;
    let headers = [("SIGN-IN-WITH-X", message.encode())];
    let bad = app
        .send("POST", "/api/claims?after=x", &headers, Vec::new())
        .await;
    assert_eq!(bad.error(), "invalid_parameter");
}

/// A change to a signed message, and the reason for its refusal. `true`: it is signed again.
type Change = (&'static str, bool, fn(&mut SignedMessage, &TestApp));

const CHANGES: &[Change] = &[
    ("invalid_siwx_domain_mismatch", true, |message, _| {
        "img.example.com".clone_into(&mut message.domain);
    }),
    ("invalid_siwx_uri_mismatch", true, |message, _| {
        message.uri = message.uri.replace("/api/claims", "/api/tiers");
    }),
    ("invalid_siwx_uri_mismatch", true, |message, _| {
        message.uri.push('/');
    }),
    ("invalid_siwx_message", true, |message, _| {
        "2".clone_into(&mut message.version);
    }),
    ("invalid_siwx_unsupported_chain", true, |message, _| {
        "eip155:1".clone_into(&mut message.chain_id);
    }),
    // A network that pixtoll knows and this server doesn't offer.
    ("invalid_siwx_unsupported_chain", true, |message, _| {
        "eip155:8453".clone_into(&mut message.chain_id);
    }),
    ("invalid_siwx_unsupported_chain", true, |message, _| {
        "ed25519".clone_into(&mut message.kind);
    }),
    ("invalid_siwx_message", false, |message, _| {
        message.address.make_ascii_lowercase();
    }),
    ("invalid_siwx_message", true, |message, _| {
        message.statement = Some("a\nURI: b".to_owned());
    }),
    // What the wallet showed is not what signing in does here.
    ("invalid_siwx_message", true, |message, _| {
        message.statement = Some("Delete this image.".to_owned());
    }),
    ("invalid_siwx_message", true, |message, _| {
        message.statement = None;
    }),
    ("invalid_siwx_issued_at_in_future", true, |message, app| {
        message.issued_at = at(app, 60);
    }),
    ("invalid_siwx_issued_at", true, |message, app| {
        message.issued_at = at(app, -301);
    }),
    ("invalid_siwx_issued_at", true, |message, _| {
        "today".clone_into(&mut message.issued_at);
    }),
    ("invalid_siwx_expired", true, |message, app| {
        message.expiration_time = Some(at(app, -1));
    }),
    ("invalid_siwx_not_yet_valid", true, |message, app| {
        message.not_before = Some(at(app, 60));
    }),
    ("invalid_siwx_nonce", true, |message, _| {
        "0123456789abcdef".clone_into(&mut message.nonce);
    }),
    ("invalid_siwx_nonce", true, |message, _| {
        let last = if message.nonce.ends_with('0') {
            "1"
        } else {
            "0"
        };
        message.nonce.replace_range(75.., last);
    }),
    ("invalid_siwx_malformed_signature", false, |message, _| {
        *message = with_high_s(message);
    }),
    ("invalid_siwx_malformed_signature", false, |message, _| {
        "0xzz".clone_into(&mut message.signature);
    }),
    ("invalid_siwx_signature", false, |message, _| {
        message.signature.truncate(130);
    }),
    ("invalid_siwx_signature", false, |message, _| {
        message.resources = None;
    }),
    ("invalid_siwx_signature", false, |message, _| {
        message.expiration_time = None;
    }),
    ("invalid_siwx_signature", false, |message, _| {
        message.request_id = Some(String::new());
    }),
    ("invalid_siwx_signature", false, |message, _| {
        message.address = signing::wallet(2).address().to_checksum(None);
    }),
];

/// The server's time, moved by this many seconds.
fn at(app: &TestApp, seconds: i64) -> String {
    let now = pixtoll::system::clock::Clock::now(&app.clock);
    let moved = now.seconds() + seconds;
    pixtoll::system::clock::Timestamp::from_seconds(moved).to_string()
}

#[tokio::test]
async fn a_changed_old_or_foreign_message_signs_nobody_in_and_loses_nothing() {
    let app = TestApp::builder()
        .set("limits.payments_per_address_per_minute", "100000")
        .spawn()
        .await;
    let wallet = signing::wallet(1);
    let payment = sign(&app, TOKEN, &wallet).await;
    let token = app.pay(&payment).await.token();
    let right = app.sign_in(&wallet).await;
    for (number, (reason, again, change)) in CHANGES.iter().enumerate() {
        let mut message = right.clone();
        change(&mut message, &app);
        if *again {
            sign_by(&mut message, &wallet);
        }
        let answer = app.claim_with(&message).await;
        assert_eq!(answer.verdict(), refused(), "{number}: {}", answer.text());
        assert!(
            answer.text().contains(reason),
            "{number}: {}",
            answer.text()
        );
        // With the next challenge.
        let body = answer.json();
        assert_eq!(body["action"]["type"], "claim", "{number}");
        let next = answering(&body["extensions"]["sign-in-with-x"], &wallet);
        assert_ne!(next.nonce, right.nonce);
    }
    assert_eq!(app.rows("used_nonces").await, 0);
    // Just before it expires, it signs in, once.
    app.advance(Duration::from_secs(299));
    let answer = app.claim_with(&right).await;
    assert_eq!(
        only_token(answer.json()["payments"].as_array().unwrap()).1,
        token
    );
    assert_eq!(app.claim_with(&right).await.verdict(), refused());
    let late = app.sign_in(&wallet).await;
    app.advance(Duration::from_secs(300));
    assert_eq!(app.claim_with(&late).await.verdict(), refused());
    assert_eq!(app.rows("used_nonces").await, 1);
    // The record of the nonce goes when the nonce has expired.
    app.advance(Duration::from_mins(1));
    app.app.retention.accept_clock().await.unwrap();
    app.app.retention.reap().await.unwrap();
    assert_eq!(app.rows("used_nonces").await, 0);
    assert_eq!(app.claim_with(&right).await.verdict(), refused());
}

#[tokio::test]
async fn a_message_is_read_from_the_header_or_the_body() {
    let app = TestApp::spawn().await;
    let wallet = signing::wallet(1);
    let payment = sign(&app, TOKEN, &wallet).await;
    let token = app.pay(&payment).await.token();
    let json = [("content-type", "application/json")];
    let message = app.sign_in(&wallet).await;
    let body = serde_json::to_vec(&message).unwrap();
    let answer = app.send("POST", CLAIMS, &json, body).await;
    assert_eq!(
        only_token(answer.json()["payments"].as_array().unwrap()).1,
        token
    );
    // A body without a message asks for the challenge.
    for empty in ["", "{}", " {}\n"] {
        let asked = app.send("POST", CLAIMS, &json, empty).await;
        assert_eq!(
            asked.verdict(),
            (402, "sign_in_required".to_owned(), Some(false))
        );
        let body = asked.json();
        let header = asked.document("payment-required");
        assert_eq!(body["extensions"], header["extensions"]);
        assert_eq!(body["action"]["url"], app.url(CLAIMS));
    }
    for (body, problem) in [
        ("{\"domain\": \"a\"}".to_owned(), "missing field"),
        ("nonsense".to_owned(), "not JSON"),
        (" ".repeat(20_000) + "x", "longer than the limit"),
    ] {
        let bad = app.send("POST", CLAIMS, &json, body).await;
        assert_eq!(bad.error(), "invalid_body");
        assert!(bad.text().contains(problem), "{}", bad.text());
    }
    for header in ["*", "bm9uc2Vuc2U="] {
        let bad = app
            .send("POST", CLAIMS, &[("SIGN-IN-WITH-X", header)], "")
            .await;
        assert_eq!(bad.error(), "invalid_header");
    }
    let wrong = app.get(CLAIMS).await;
    assert_eq!(wrong.error(), "method_not_allowed");
}

#[tokio::test]
async fn the_receipt_names_the_route_for_claims() {
    let app = TestApp::spawn().await;
    let first = app.sign_for("year").await;
    let second = app.sign_for("year").await.as_v1();
    for payment in [first, second] {
        let answer = app.pay(&payment).await;
        let name = match payment.wire {
            signing::Wire::V1 => "x-payment-response",
            signing::Wire::V2 => "payment-response",
        };
        let receipt = answer.document(name);
        let claims = &receipt["extensions"]["pixtoll"]["info"]["claims"];
        assert_eq!(*claims, app.url(CLAIMS), "{receipt}");
    }
}

#[tokio::test]
async fn too_many_requests_to_sign_in_are_refused() {
    let app = TestApp::builder()
        .set("limits.payments_per_address_per_minute", "20")
        .spawn()
        .await;
    let message = app.sign_in(&signing::wallet(1)).await;
    // Signatures of others cost calls to the node, and a tenth of the requests may do so.
    let mut forged = message.clone();
    sign_by(&mut forged, &signing::wallet(2));
    let mut codes = Vec::new();
    for _ in 0..4 {
        codes.push(app.claim_with(&forged).await.error());
    }
    assert_eq!(codes[..2], ["sign_in_invalid", "sign_in_invalid"]);
    assert_eq!(codes[3], "rate_limited");
    for _ in 0..20 {
        app.post(CLAIMS).await;
    }
    assert_eq!(app.post(CLAIMS).await.error(), "rate_limited");
}

/// Whether the contracts of wallets accept signatures.
fn wallets(accept: bool) -> NodeFault {
    NodeFault {
        wallets: if accept {
            Wallets::AcceptAll
        } else {
            Wallets::Asked
        },
        ..NodeFault::default()
    }
}

#[tokio::test]
async fn a_contract_wallet_signs_in_by_its_contract() {
    let app = TestApp::spawn().await;
    // The goods of a contract wallet: a payment whose payer has no key.
    let payment = app.sign_for("year").await;
    app.pay(&payment).await.token();
    let payer = Address::repeat_byte(0xc0).to_string();
    let change = format!("UPDATE payments SET payer = '{payer}'");
    crate::support::database::execute(app.db(), &change).await;
    let mut message = app.sign_in(&signing::wallet(1)).await;
    message.address.clone_from(&payer);
    message.signature = hex::encode_prefixed([7; 100]);
    // The node doesn't answer: nothing is lost.
    app.node.node(NodeFault {
        down: true,
        ..NodeFault::default()
    });
    let verdict = (503, "node_unavailable".to_owned(), Some(false));
    assert_eq!(app.claim_with(&message).await.verdict(), verdict);
    app.node.node(wallets(false));
    assert_eq!(app.claim_with(&message).await.verdict(), refused());
    app.node.node(wallets(true));
    let answer = app.claim_with(&message).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["payments"].as_array().unwrap().len(), 1);
    assert_eq!(app.claim_with(&message).await.verdict(), refused());
    // The contract speaks for its address on its own chain alone.
    let change = "UPDATE payments SET network = 'eip155:8453'";
    crate::support::database::execute(app.db(), change).await;
    let mut message = app.sign_in(&signing::wallet(1)).await;
    message.address.clone_from(&payer);
    message.signature = hex::encode_prefixed([7; 100]);
    let answer = app.claim_with(&message).await;
    assert_eq!(answer.json()["payments"], json!([]), "{}", answer.text());
    let honest = payment.authorization.from;
    let change = format!("UPDATE payments SET payer = '{honest}', network = 'eip155:84532'");
    crate::support::database::execute(app.db(), &change).await;
}

#[tokio::test]
async fn a_challenge_is_valid_on_every_server_and_signs_in_once() {
    let sandbox = SandboxProcess::start().await;
    let deployment = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url);
    let server = deployment.start().await;
    let wallet = deployment.wallet.clone();
    let (payment, bought) = deployment.sign(TOKEN, b"").await;
    let token = deployment.last_word(&bought).await.token();
    let message = sign_in(&deployment.answer(&Request::post(CLAIMS)).await, &wallet);
    server.kill().await;
    let server = deployment.start().await;
    let claimed = deployment.answer(&request(&message)).await;
    let payments = claimed.json()["payments"].as_array().unwrap().clone();
    assert_eq!(only_token(&payments).1, token);
    assert_eq!(
        deployment.answer(&request(&message)).await.verdict(),
        refused()
    );
    server.kill().await;
    let _server = deployment.start().await;
    assert_eq!(
        deployment.answer(&request(&message)).await.verdict(),
        refused()
    );
    assert_eq!(
        sandbox.transfers_to(payment.authorization.to).await.len(),
        1
    );
    deployment.check_ledger().await;
}

#[cfg(feature = "test-postgres")]
#[tokio::test]
async fn replicas_accept_a_message_once_between_them() {
    let app = TestApp::spawn().await;
    let replicas = [app.replica(1).await, app.replica(2).await];
    let wallet = signing::wallet(1);
    let payment = sign(&app, TOKEN, &wallet).await;
    let token = app.pay(&payment).await.token();
    let message = app.sign_in(&wallet).await;
    let send = async |base: &str| {
        let headers = [("SIGN-IN-WITH-X", message.encode())];
        let url = format!("{base}{CLAIMS}");
        app.send("POST", &url, &headers, Vec::new()).await
    };
    let bases = [&app.base, &replicas[0].base, &replicas[1].base];
    let answers = futures_util::future::join_all(bases.map(|base| send(base))).await;
    let claimed: Vec<&Answer> = answers.iter().filter(|it| it.status == 200).collect();
    assert_eq!(claimed.len(), 1);
    let payments = claimed[0].json()["payments"].as_array().unwrap().clone();
    assert_eq!(only_token(&payments).1, token);
    for answer in answers.iter().filter(|it| it.status != 200) {
        assert_eq!(answer.verdict(), refused());
    }
}
