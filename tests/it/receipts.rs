//! Receipts: signed offers and receipts of x402, pixtoll's own receipts, the public keys, and
//! `pixtoll receipt verify`. Libraries that share no code with pixtoll check the signatures.

use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, Signature};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Verifier, VerifyingKey};
use pixtoll::db::keys;
use pixtoll::keys::secrets::{SecretKey, sha256_hex};
use pixtoll::keys::signing::{PublicKey, SigningKeys};
use pixtoll::x402::offer_receipt::{OfferPayload, ReceiptPayload};
use serde_json::{Value, json};

use crate::support::database::execute;
use crate::support::{Answer, Payment, TestApp, pictures};

const YEAR: Duration = Duration::from_hours(365 * 24);
const USDC: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const NONE: [(&str, &str); 0] = [];

impl TestApp {
    /// Requests the receipts of an image with its delete token.
    pub(crate) async fn receipts(&self, image: &Answer) -> Answer {
        self.receipts_with(&image.field("id"), &image.field("deleteToken"))
            .await
    }

    async fn receipts_with(&self, id: &str, token: &str) -> Answer {
        let path = format!("/api/receipts/{id}");
        self.send("GET", &path, &[("X-Delete-Token", token)], "")
            .await
    }

    pub(crate) async fn published_keys(&self) -> Value {
        let answer = self.get("/.well-known/jwks.json").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// Buys an image with a direct upload.
    async fn buy_image(&self, tier: &str, picture: &[u8]) -> (Payment, Answer) {
        let payment = self.sign_at(&format!("/api/upload/{tier}")).await;
        let bought = self.pay_with(&payment, picture).await;
        assert_eq!(bought.status, 200, "{}", bought.text());
        (payment, bought)
    }

    /// Runs `pixtoll receipt verify` on a text. Returns its exit code and its output.
    async fn verify(&self, text: &str, more: &[&str]) -> (i32, String) {
        std::fs::write(self.folder().join("receipt"), text).unwrap();
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_pixtoll"))
            .env_clear()
            .current_dir(self.folder())
            .args(["receipt", "verify", "receipt"])
            .args(more)
            .output()
            .await
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), format!("{text}{log}"))
    }

    /// The same with the server's keys, which are saved first.
    async fn verify_by_keys(&self, text: &str) -> (i32, String) {
        self.save("keys", self.published_keys().await.to_string().as_bytes());
        self.verify(text, &["--keys", "keys"]).await
    }

    fn save(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder().join(name), bytes).unwrap();
    }
}

/// The only key with this curve.
pub(crate) fn key_of<'a>(keys: &'a Value, curve: &str) -> &'a Value {
    let mut of_curve = keys["keys"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|key| key["crv"] == curve);
    let key = of_curve.next().unwrap();
    assert!(of_curve.next().is_none(), "{keys}");
    key
}

/// Header and claims of a JWS whose signature another library has verified.
pub(crate) fn judged(jws: &str, key: &Value) -> (Value, Value) {
    let parts: Vec<&str> = jws.split('.').collect();
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let public: [u8; 32] = bytes(key["x"].as_str().unwrap()).try_into().unwrap();
    let signature: [u8; 64] = bytes(parts[2]).try_into().unwrap();
    VerifyingKey::from_bytes(&public)
        .unwrap()
        .verify(
            format!("{}.{}", parts[0], parts[1]).as_bytes(),
            &signature.into(),
        )
        .unwrap();
    let json = |text: &str| serde_json::from_slice(&bytes(text)).unwrap();
    (json(parts[0]), json(parts[1]))
}

/// The signer of a digest, recovered by another library.
fn signer(digest: B256, signature: &Value) -> Address {
    let bytes: Bytes = signature.as_str().unwrap().parse().unwrap();
    Signature::from_raw(&bytes)
        .unwrap()
        .recover_address_from_prehash(&digest)
        .unwrap()
}

fn address_of(keys: &Value) -> Address {
    let address = key_of(keys, "secp256k1")["address"].as_str().unwrap();
    address.parse().unwrap()
}

fn x402_receipt(answer: &Answer, header: &str) -> Value {
    answer.document(header)["extensions"]["offer-receipt"]["info"]["receipt"].clone()
}

#[tokio::test]
async fn every_offer_of_a_challenge_is_signed_by_the_service() {
    let app = TestApp::spawn().await;
    let keys = app.published_keys().await;
    for path in [
        "/api/upload/token",
        "/api/upload/permanent",
        "/api/upload/token/year?images=100",
    ] {
        let challenge = app.post(path).await.document("payment-required");
        let offers = &challenge["extensions"]["offer-receipt"]["info"]["offers"];
        assert_eq!(offers.as_array().unwrap().len(), 1, "{path}");
        let (offer, accepted) = (&offers[0], &challenge["accepts"][0]);
        assert_eq!(
            (&offer["format"], &offer["acceptIndex"]),
            (&json!("eip712"), &json!(0))
        );
        let payload = &offer["payload"];
        // A client finds the offer by comparing these, byte for byte.
        for name in ["scheme", "network", "asset", "payTo", "amount"] {
            assert_eq!(payload[name], accepted[name], "{path}: {name}");
        }
        assert_eq!(payload["resourceUrl"], challenge["resource"]["url"]);
        assert_eq!(payload["version"], 1);
        // An offer is honoured for 300 seconds, and its signature promises no more.
        let left = payload["validUntil"].as_i64().unwrap() - crate::support::START;
        assert!((240..=300).contains(&left), "{left}");
        let typed: OfferPayload = serde_json::from_value(payload.clone()).unwrap();
        assert_eq!(
            signer(typed.digest(), &offer["signature"]),
            address_of(&keys)
        );
    }
}

#[tokio::test]
async fn a_payment_is_accepted_whether_or_not_it_echoes_signed_offers() {
    let app = TestApp::spawn().await;
    let spoil: [fn(&mut Value); 5] = [
        |_| {},
        |extensions| extensions["offer-receipt"] = Value::Null,
        |extensions| extensions["offer-receipt"]["info"]["offers"] = json!([7, {"format": []}]),
        |extensions| {
            extensions["offer-receipt"]["info"]["offers"][0]["payload"]["amount"] = json!("1");
        },
        |extensions| extensions["offer-receipt"] = json!("x".repeat(4096)),
    ];
    for spoil in spoil {
        let mut payment = app.sign_for("year").await;
        spoil(&mut payment.extensions);
        app.pay(&payment).await.token();
    }
    assert_eq!(app.transfers().await.len(), 5);
}

#[tokio::test]
async fn a_settlement_has_the_same_signed_receipt_in_both_versions() {
    let app = TestApp::spawn().await;
    let keys = app.published_keys().await;
    for (header, network) in [
        ("payment-response", "eip155:84532"),
        ("x-payment-response", "base-sepolia"),
    ] {
        let mut payment = app.sign_for("year").await;
        if network == "base-sepolia" {
            payment = payment.as_v1();
        }
        let answer = app.pay(&payment).await;
        let settlement = answer.document(header);
        assert_eq!(settlement["network"], network);
        let receipt = x402_receipt(&answer, header);
        let wallet = app.wallet.address().to_checksum(None);
        assert_eq!(
            receipt["payload"],
            json!({
                "version": 1, "network": "eip155:84532", "payer": wallet,
                "resourceUrl": app.url("/api/upload/token/year"),
                "issuedAt": pixtoll::system::clock::Clock::now(&app.clock).seconds(),
                "transaction": settlement["transaction"],
            })
        );
        let typed: ReceiptPayload = serde_json::from_value(receipt["payload"].clone()).unwrap();
        assert_eq!(
            signer(typed.digest(), &receipt["signature"]),
            address_of(&keys)
        );

        app.advance(Duration::from_mins(2));
        let again = app.pay(&payment).await;
        assert_eq!(again.header(header), answer.header(header));
        let (code, said) = app.verify_by_keys(&answer.header(header).unwrap()).await;
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("GOOD") && said.contains(&wallet), "{said}");
    }
}

#[tokio::test]
async fn a_copied_payment_gets_no_receipt() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    app.pay(&payment).await.token();
    let stranger = app.pay(&payment.copied_from_the_chain()).await;
    assert_eq!(
        stranger.verdict(),
        (409, "payment_known".to_owned(), Some(true))
    );
    for header in ["payment-response", "x-payment-response"] {
        assert_eq!(stranger.header(header), None);
    }
    assert!(!stranger.text().contains("signature"));
}

#[tokio::test]
async fn a_receipt_binds_payment_and_bytes_of_an_image() {
    let app = TestApp::spawn().await;
    let picture = pictures::png(8, 8);
    let (payment, bought) = app.buy_image("year", &picture).await;
    let settled_at = pixtoll::system::clock::Clock::now(&app.clock);
    app.advance(Duration::from_hours(1));
    let answer = app.receipts(&bought).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    let body = answer.json();
    assert_eq!(body["keysUrl"], app.url("/.well-known/jwks.json"));
    let receipts = body["receipts"].as_array().unwrap();
    assert_eq!(receipts.len(), 1);
    let mut claims = receipts[0].clone();
    let jws = claims.as_object_mut().unwrap().remove("jws").unwrap();
    let checkout = app.app.checkout.as_ref().unwrap();
    assert_eq!(
        claims,
        json!({
            "iss": app.base,
            "kind": "upload",
            "imageId": bought.field("id"),
            "sha256": sha256_hex(&picture),
            "tier": "year",
            "amount": "10000",
            "decimals": 6,
            "uploads": 1,
            "asset": USDC,
            "network": "eip155:84532",
            "payer": payment.authorization.from.to_checksum(None),
            "payTo": checkout.catalog.pay_to().to_checksum(None),
            "transaction": app.transfers().await[0].transaction.to_string(),
            "settledAt": settled_at.to_string(),
            "createdAt": settled_at.to_string(),
            "expiresAt": settled_at.plus(YEAR).to_string(),
        })
    );
    let keys = app.published_keys().await;
    let key = key_of(&keys, "Ed25519");
    let (header, signed) = judged(jws.as_str().unwrap(), key);
    assert_eq!(
        header,
        json!({"alg": "EdDSA", "typ": "pixtoll-receipt", "kid": key["kid"]})
    );
    assert_eq!(signed, claims);
    // It is signed again each time, with the same result.
    app.advance(Duration::from_hours(1));
    assert_eq!(app.receipts(&bought).await.bytes, answer.bytes);
}

#[tokio::test]
async fn each_image_of_a_token_has_its_receipt_with_its_expiry() {
    let app = TestApp::spawn().await;
    let payment = app.sign_at("/api/upload/token/year?images=2").await;
    let token = app.pay(&payment).await.token();
    app.advance(Duration::from_mins(1));
    let mut hashes = Vec::new();
    for number in 0..2 {
        let picture = pictures::png_seeded(8, 8, number);
        let image = app.upload_with(&token, picture.clone()).await;
        let receipt = app.receipts(&image).await.json()["receipts"][0].clone();
        assert_eq!(
            (&receipt["amount"], &receipt["uploads"]),
            (&json!("20000"), &json!(2))
        );
        assert_eq!(receipt["sha256"], sha256_hex(&picture));
        assert_eq!(receipt["expiresAt"], image.json()["expiresAt"]);
        assert_ne!(receipt["createdAt"], receipt["settledAt"]);
        hashes.push(receipt["sha256"].clone());
    }
    assert_ne!(hashes[0], hashes[1]);
    let (_, kept) = app.buy_image("permanent", &pictures::png(9, 9)).await;
    let receipt = app.receipts(&kept).await.json()["receipts"][0].clone();
    assert_eq!(receipt["expiresAt"], Value::Null);
    assert!(receipt.as_object().unwrap().contains_key("expiresAt"));
    assert_eq!(receipt["amount"], "1000000");
}

#[tokio::test]
async fn a_receipt_has_the_hash_of_the_stored_bytes() {
    let app = TestApp::spawn().await;
    let [(_, with_metadata, clean), ..] = pictures::with_metadata();
    let (_, bought) = app.buy_image("year", &with_metadata).await;
    let receipt = app.receipts(&bought).await.json()["receipts"][0].clone();
    assert_eq!(receipt["sha256"], sha256_hex(&clean));
    let served = app.get(&bought.field("url")).await;
    let text = app.receipts(&bought).await.text();
    app.save("image", &served.bytes);
    app.save("other", &with_metadata);
    app.save("keys", app.published_keys().await.to_string().as_bytes());
    let by = |image| ["--keys", "keys", "--image", image];
    let (code, said) = app.verify(&text, &by("image")).await;
    assert_eq!(code, 0, "{said}");
    let (code, said) = app.verify(&text, &by("other")).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("BAD") && said.contains("sha256"), "{said}");
}

#[tokio::test]
async fn receipts_are_not_shown_without_the_delete_token() {
    let app = TestApp::spawn().await;
    let (_, bought) = app.buy_image("year", &pictures::png(8, 8)).await;
    let free = app.upload_free(pictures::png(8, 8)).await;
    let wrong = "0".repeat(40);
    let ids = [
        bought.field("id"),
        free.field("id"),
        "k3v9Qw2mZr7T".to_owned(),
    ];
    let mut answers = std::collections::BTreeSet::new();
    for id in &ids {
        let path = format!("/api/receipts/{id}");
        let without = app.get(&path).await;
        assert_eq!(
            without.verdict(),
            (402, "sign_in_required".to_owned(), Some(false))
        );
        for token in [free.field("id"), wrong.clone()] {
            let headers = [("X-Delete-Token", token)];
            let answer = app.send("GET", &path, &headers, "").await;
            assert_eq!(
                answer.verdict(),
                (401, "bad_delete_token".to_owned(), Some(false))
            );
            answers.insert(answer.text().replace(id.as_str(), "ID"));
        }
        // The same as for a neighbouring path.
        let neighbour = app
            .send(
                "DELETE",
                &format!("/api/images/{id}"),
                &[("X-Delete-Token", &wrong)],
                "",
            )
            .await;
        answers.insert(neighbour.text().replace(id.as_str(), "ID"));
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    let no_id = app.receipts_with("no-id", &wrong).await;
    assert_eq!(no_id.verdict(), (404, "not_found".to_owned(), Some(false)));
}

#[tokio::test]
async fn a_free_image_has_no_receipt_and_the_error_says_why() {
    let app = TestApp::spawn().await;
    let free = app.upload_free(pictures::png(8, 8)).await;
    let answer = app.receipts(&free).await;
    assert_eq!(
        answer.verdict(),
        (404, "no_receipt".to_owned(), Some(false))
    );
    assert!(
        answer.field("message").contains("free"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn a_deleted_image_keeps_its_receipt_until_its_records_are_erased() {
    let app = TestApp::spawn().await;
    let (_, bought) = app.buy_image("year", &pictures::png(8, 8)).await;
    let before = app.receipts(&bought).await;
    let headers = [("X-Delete-Token", bought.field("deleteToken"))];
    let path = format!("/api/images/{}", bought.field("id"));
    assert_eq!(app.send("DELETE", &path, &headers, "").await.status, 200);
    assert_eq!(app.receipts(&bought).await.bytes, before.bytes);
    // Its transfer is checked on the chain first.
    app.advance(Duration::from_mins(5));
    app.audit().await;
    app.advance(YEAR + Duration::from_hours(1));
    app.app.retention.accept_clock().await.unwrap();
    let report = app.app.retention.reap().await;
    assert!(report.is_ok());
    assert_eq!(app.rows("payments").await, 0);
    let gone = app.receipts(&bought).await;
    assert_eq!(gone.verdict(), (404, "no_receipt".to_owned(), Some(false)));
}

#[tokio::test]
async fn a_voided_payment_has_no_receipt() {
    let app = TestApp::spawn().await;
    let (payment, bought) = app.buy_image("year", &pictures::png(8, 8)).await;
    app.rewind(&payment, "missing_reason = 'transfer_missing'")
        .await;
    assert_eq!(app.receipts(&bought).await.status, 200, "not decided yet");
    app.void(&payment).await;
    let void = app.receipts(&bought).await;
    assert_eq!(void.verdict(), (404, "no_receipt".to_owned(), Some(false)));
}

#[tokio::test]
async fn the_public_keys_are_published_with_their_first_use() {
    let app = TestApp::spawn().await;
    let answer = app.get("/.well-known/jwks.json").await;
    assert_eq!(
        answer.header("content-type").as_deref(),
        Some("application/jwk-set+json")
    );
    assert!(
        answer
            .header("cache-control")
            .unwrap()
            .starts_with("public")
    );
    let keys = answer.json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
    let start = pixtoll::system::clock::Timestamp::from_seconds(crate::support::START);
    for key in keys["keys"].as_array().unwrap() {
        assert_eq!(key["firstUsedAt"], start.to_string());
        assert_eq!(key["retiredAt"], Value::Null);
        assert!(key.get("d").is_none(), "a private half: {key}");
    }
    assert_ne!(
        address_of(&keys),
        app.app.checkout.as_ref().unwrap().catalog.pay_to()
    );
    let head = app.send("HEAD", "/.well-known/jwks.json", &NONE, "").await;
    assert_eq!((head.status, head.bytes.len()), (200, 0));
}

#[tokio::test]
async fn a_retired_key_stays_published_and_its_receipts_stay_valid() {
    let app = TestApp::spawn().await;
    let (_, bought) = app.buy_image("year", &pictures::png(8, 8)).await;
    let old = app.receipts(&bought).await.text();
    let old_keys = app.published_keys().await;
    app.advance(Duration::from_hours(1));
    let next = SigningKeys::derive(&SecretKey::from_bytes([9; 32])).unwrap();
    let now = pixtoll::system::clock::Clock::now(&app.clock);
    keys::use_keys(app.db(), next.public(), now).await.unwrap();

    let published = app.published_keys().await;
    let list = published["keys"].as_array().unwrap();
    assert_eq!(list.len(), 4);
    let ids: Vec<String> = next.public().map(|key| key.id()).to_vec();
    for key in list {
        let is_new = ids.contains(&key["kid"].as_str().unwrap().to_owned());
        let retired = if is_new {
            Value::Null
        } else {
            json!(now.to_string())
        };
        assert_eq!(key["retiredAt"], retired, "{key}");
    }
    let (code, said) = app.verify_by_keys(&old).await;
    assert_eq!(code, 0, "{said}");
    // A settlement that is dated after its key was retired was forged with that key.
    app.advance(Duration::from_hours(1));
    let (_, forged) = app.buy_image("year", &pictures::png(9, 9)).await;
    let forged = app.receipts(&forged).await.text();
    let (code, said) = app.verify_by_keys(&forged).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("retired"), "{said}");
    // A key that comes back into use isn't retired any more.
    let first = SigningKeys::derive(&SecretKey::from_bytes([0x42; 32])).unwrap();
    keys::use_keys(app.db(), first.public(), now).await.unwrap();
    let back = app.published_keys().await;
    for key in old_keys["keys"].as_array().unwrap() {
        assert!(back["keys"].as_array().unwrap().contains(key), "{key}");
    }
}

#[tokio::test]
async fn any_change_to_a_receipt_is_detected_and_named() {
    let app = TestApp::spawn().await;
    let (_, bought) = app.buy_image("year", &pictures::png(8, 8)).await;
    let good = app.receipts(&bought).await.json();
    let (code, said) = app.verify_by_keys(&good.to_string()).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("GOOD") && said.contains(&app.base), "{said}");

    let shown = good["receipts"][0].as_object().unwrap().clone();
    let claims: Vec<&String> = shown.keys().filter(|name| *name != "jws").collect();
    assert_eq!(claims.len(), 16);
    for name in claims {
        // Outside the signature, and then inside.
        let mut changed = good.clone();
        changed["receipts"][0][name] = json!("changed");
        let (code, said) = app.verify_by_keys(&changed.to_string()).await;
        assert_eq!(code, 1, "{name}: {said}");
        assert!(
            said.contains("BAD") && said.contains(&format!("{name}: \"changed\"")),
            "{said}"
        );
        let jws = shown["jws"].as_str().unwrap();
        let parts: Vec<&str> = jws.split('.').collect();
        let mut signed: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        signed[name] = json!("changed");
        let body = URL_SAFE_NO_PAD.encode(signed.to_string());
        changed["receipts"][0]["jws"] = json!(format!("{}.{body}.{}", parts[0], parts[2]));
        let (code, said) = app.verify_by_keys(&changed.to_string()).await;
        assert_eq!(code, 1, "{name}: {said}");
        assert!(said.contains("signature doesn't match"), "{said}");
        assert!(!said.contains("GOOD"), "{said}");
    }
    let mut more = good.clone();
    more["receipts"][0]["refundable"] = json!(true);
    let (code, said) = app.verify_by_keys(&more.to_string()).await;
    assert!(code == 1 && said.contains("refundable"), "{said}");
}

#[tokio::test]
async fn any_change_to_an_x402_receipt_is_detected() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let answer = app.pay(&payment).await;
    let settlement = answer.document("payment-response");
    let receipt = x402_receipt(&answer, "payment-response");
    for text in [settlement.to_string(), receipt.to_string()] {
        let (code, said) = app.verify_by_keys(&text).await;
        assert_eq!(code, 0, "{said}");
    }
    for name in ["transaction", "payer", "network"] {
        let mut changed = settlement.clone();
        changed[name] = json!("0x1");
        let text = STANDARD.encode(changed.to_string());
        let (code, said) = app.verify_by_keys(&text).await;
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&format!("{name}: \"0x1\"")), "{said}");
    }
    for name in receipt["payload"].as_object().unwrap().keys() {
        let mut changed = receipt.clone();
        changed["payload"][name] = match &receipt["payload"][name] {
            Value::Number(number) => json!(number.as_u64().unwrap() + 1),
            _ => json!("changed"),
        };
        let (code, said) = app.verify_by_keys(&changed.to_string()).await;
        assert_eq!(code, 1, "{name}: {said}");
        assert!(said.contains("not among the keys"), "{name}: {said}");
    }
}

#[tokio::test]
async fn a_receipt_without_anything_to_check_against_is_not_valid() {
    let app = TestApp::spawn().await;
    let (_, bought) = app.buy_image("year", &pictures::png(8, 8)).await;
    let text = app.receipts(&bought).await.text();
    let (code, said) = app.verify(&text, &[]).await;
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("NOT CHECKED") && said.contains("--keys"),
        "{said}"
    );
    assert!(!said.contains("GOOD"), "{said}");
    // The keys of another service.
    let strange = SigningKeys::derive(&SecretKey::from_bytes([3; 32])).unwrap();
    let list: Vec<Value> = strange.public().iter().map(PublicKey::jwk).collect();
    app.save("keys", json!({ "keys": list }).to_string().as_bytes());
    let (code, said) = app.verify(&text, &["--keys", "keys"]).await;
    assert!(code == 1 && said.contains("not among the keys"), "{said}");
    // Another service's key under our key id.
    let mut named = list[0].clone();
    named["kid"] = key_of(&app.published_keys().await, "Ed25519")["kid"].clone();
    app.save("keys", json!({"keys": [named]}).to_string().as_bytes());
    let (code, said) = app.verify(&text, &["--keys", "keys"]).await;
    assert!(
        code == 1 && said.contains("the id of another key"),
        "{said}"
    );
    for text in [
        "",
        "junk",
        "{}",
        "[]",
        r#"{"receipts":[]}"#,
        r#"{"success":true}"#,
        "a.b.c",
    ] {
        let (code, said) = app.verify_by_keys(text).await;
        assert_eq!(code, 1, "{text}: {said}");
        assert!(!said.contains("GOOD"), "{text}: {said}");
    }
}

#[tokio::test]
async fn a_server_without_payments_still_gives_receipts() {
    let app = TestApp::builder().without_facilitator().spawn().await;
    let free = app.upload_free(pictures::png(8, 8)).await;
    assert_eq!(app.receipts(&free).await.status, 404);
    assert_eq!(
        app.published_keys().await["keys"].as_array().unwrap().len(),
        2
    );
    // A corrupted row is not listed as a key.
    execute(app.db(), "UPDATE signing_keys SET public_key = '00'").await;
    let spoilt = app.get("/.well-known/jwks.json").await;
    assert_eq!(
        spoilt.verdict(),
        (503, "database_unavailable".to_owned(), Some(false))
    );
}

#[tokio::test]
async fn each_renewal_has_its_own_receipt_even_of_a_free_image() {
    let app = TestApp::spawn().await;
    let free = app.upload_free(pictures::png(8, 8)).await;
    let (_, paid) = app.buy_image("year", &pictures::png(9, 9)).await;
    assert_eq!(app.receipts(&free).await.status, 404);
    let keys = app.published_keys().await;
    for (image, before) in [(&free, 0), (&paid, 1)] {
        let path = format!("/api/images/{}/renew?tier=year", image.field("id"));
        let payment = app.sign_at(&path).await;
        let renewed = app.pay(&payment).await;
        assert_eq!(renewed.status, 200, "{}", renewed.text());
        let receipts = app.receipts(image).await.json()["receipts"].clone();
        assert_eq!(receipts.as_array().unwrap().len(), before + 1, "{receipts}");
        let receipt = &receipts[before];
        let (_, claims) = judged(receipt["jws"].as_str().unwrap(), key_of(&keys, "Ed25519"));
        assert_eq!(claims["kind"], "renewal");
        assert_eq!(claims["tier"], "year");
        assert_eq!(claims["expiresAt"], renewed.json()["expiresAt"]);
        assert_eq!(claims["sha256"], image.json()["sha256"]);
        let transaction = renewed.document("payment-response")["transaction"].clone();
        assert_eq!(claims["transaction"], transaction);
        if before == 1 {
            assert_eq!(receipts[0]["kind"], "upload");
            assert_eq!(receipts[0]["expiresAt"], paid.json()["expiresAt"]);
        }
    }
}
