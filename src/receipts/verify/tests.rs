use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::*;
use crate::keys::secrets::SecretKey;
use crate::keys::signing::SigningKeys;

const CLAIMS: &str = r#"{"kind":"upload","settledAt":"2026-11-22T06:00:00.000Z"}"#;

fn signing() -> SigningKeys {
    SigningKeys::derive(&SecretKey::from_bytes([7; 32])).unwrap()
}

/// The keys; `retired` is when the first one was retired.
fn keys(retired: Option<&str>) -> KeySet {
    let mut list: Vec<Value> = signing().public().iter().map(PublicKey::jwk).collect();
    list[0]["retiredAt"] = json!(retired);
    list.push(json!({"kty": "RSA", "n": "x", "e": "AQAB"}));
    KeySet::parse(&json!({ "keys": list }).to_string()).unwrap()
}

fn check_text(text: &str, keys: &KeySet) -> Checked {
    let papers = read(text).unwrap();
    assert_eq!(papers.len(), 1);
    check(&papers[0], Some(keys), None)
}

#[test]
fn a_jws_alone_is_checked_by_its_key() {
    let jws = signing().sign_claims(RECEIPT_TYPE, CLAIMS.as_bytes());
    let found = check_text(&jws, &keys(None));
    assert_eq!(found.problems, [""; 0]);
    assert_eq!(found.signed_by, Some(signing().public()[0].id()));
}

#[test]
fn a_retired_key_is_valid_for_payments_settled_before() {
    let jws = signing().sign_claims(RECEIPT_TYPE, CLAIMS.as_bytes());
    let after = keys(Some("2026-11-22T06:00:00.000Z"));
    assert_eq!(check_text(&jws, &after).problems, [""; 0]);
    let before = check_text(&jws, &keys(Some("2026-11-22T05:59:59.999Z")));
    assert!(before.problems[0].contains("retired"), "{before:?}");
    let timeless = signing().sign_claims(RECEIPT_TYPE, b"{}");
    let timeless = check_text(&timeless, &after);
    assert!(timeless.problems[0].contains("when"), "{timeless:?}");
}

#[test]
fn a_jws_of_another_type_by_the_same_key_is_no_receipt() {
    let jws = signing().sign_claims("something-else", CLAIMS.as_bytes());
    let found = check_text(&jws, &keys(None));
    assert!(found.problems[0].contains("typ"), "{found:?}");
}

#[test]
fn no_header_avoids_the_check_of_the_signature() {
    let id = signing().public()[0].id();
    let of_x402 = signing().public()[1].id();
    for (header, problem) in [
        (
            json!({"alg": "none", "typ": RECEIPT_TYPE, "kid": id}),
            "alg",
        ),
        (
            json!({"alg": "HS256", "typ": RECEIPT_TYPE, "kid": id}),
            "alg",
        ),
        (
            json!({"alg": "EdDSA", "typ": RECEIPT_TYPE, "kid": id, "crit": ["b64"]}),
            "demands",
        ),
        (
            json!({"alg": "EdDSA", "typ": RECEIPT_TYPE, "kid": of_x402}),
            "no receipt",
        ),
        (
            json!({"alg": "EdDSA", "typ": RECEIPT_TYPE}),
            "not among the keys",
        ),
    ] {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let jws = format!("{}.{}.", part(&header.to_string()), part(CLAIMS));
        let found = check_text(&jws, &keys(None));
        assert_eq!(found.signed_by, None, "{header}");
        let named = found.problems.iter().any(|said| said.contains(problem));
        assert!(named, "{header}: {found:?}");
    }
}

#[test]
fn only_a_list_of_keys_with_their_own_ids_is_accepted() {
    let mut renamed = signing().public()[0].jwk();
    renamed["kid"] = json!("another");
    let mut odd = signing().public()[0].jwk();
    odd["retiredAt"] = json!("yesterday");
    for (text, why) in [
        (String::new(), Unreadable::NoKeys),
        ("{}".to_owned(), Unreadable::NoKeys),
        (r#"{"keys":[]}"#.to_owned(), Unreadable::NoKeys),
        (r#"{"keys":[{"kty":"RSA"}]}"#.to_owned(), Unreadable::NoKeys),
        (json!({"keys": [renamed]}).to_string(), Unreadable::Misnamed),
        (json!({"keys": [odd]}).to_string(), Unreadable::NoKeys),
    ] {
        assert_eq!(KeySet::parse(&text).unwrap_err(), why, "{text}");
    }
}
