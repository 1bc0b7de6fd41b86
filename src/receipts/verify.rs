//! Verifies receipts offline, with public keys that were saved from a trusted source. No I/O.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::evm::exact::recover;
use crate::keys::jws::{ALGORITHM, Jws};
use crate::keys::signing::PublicKey;
use crate::model::receipt::RECEIPT_TYPE;
use crate::pricing::networks;
use crate::system::clock::Timestamp;
use crate::x402::offer_receipt::{FORMAT, ReceiptPayload};

/// The published keys of a server, as saved from its `/.well-known/jwks.json`.
#[derive(Debug)]
pub struct KeySet(Vec<Known>);

#[derive(Debug)]
struct Known {
    key: PublicKey,
    retired: Option<Timestamp>,
}

/// A receipt as it was handed over: the signed part, and the unsigned fields beside it.
#[derive(Debug)]
pub enum Paper {
    /// A receipt of pixtoll.
    Own {
        /// The compact JWS.
        jws: String,
        /// The unsigned fields that the server sent with it.
        beside: Map<String, Value>,
    },
    /// A receipt of the x402 extension `offer-receipt`.
    X402 {
        /// Format, payload and signature.
        receipt: Value,
        /// The fields of the settlement response that it came with.
        beside: Map<String, Value>,
    },
}

/// The result of checking one receipt.
#[derive(Debug, PartialEq, Eq)]
pub struct Checked {
    /// What the receipt says, in a sentence.
    pub says: String,
    /// The id of the key that signed it. `None` when no keys were given, or none of them signed it.
    pub signed_by: Option<String>,
    /// The problems, one sentence each.
    pub problems: Vec<String>,
}

/// Why a text holds no receipts or no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The text has no form of a receipt.
    #[error(
        "this is not a receipt: give a response of GET /api/receipts/{{id}}, a JWS, an x402 receipt or a \
         PAYMENT-RESPONSE header"
    )]
    NoReceipt,
    /// The response holds no receipt.
    #[error(
        "the response holds no receipt: use a response of GET /api/receipts/{{id}} for a paid image"
    )]
    Empty,
    /// The text is not a JWK set with a key of pixtoll.
    #[error(
        "this is not the key list that pixtoll publishes: save it from /.well-known/jwks.json of the server"
    )]
    NoKeys,
    /// A key's id is not its own thumbprint.
    #[error(
        "a key in the list has the id of another key, so the list was changed: save it again from the server"
    )]
    Misnamed,
}

impl KeySet {
    /// Parses the content of `/.well-known/jwks.json`. Keys of unknown kinds are ignored.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        let set: Value = serde_json::from_str(text).map_err(|_| Unreadable::NoKeys)?;
        let list = set.get("keys").and_then(Value::as_array);
        let mut known = Vec::new();
        for jwk in list.ok_or(Unreadable::NoKeys)? {
            let Some(key) = PublicKey::from_jwk(jwk) else {
                continue;
            };
            if jwk.get("kid").is_some_and(|kid| *kid != key.id()) {
                return Err(Unreadable::Misnamed);
            }
            let retired = match jwk.get("retiredAt") {
                None | Some(Value::Null) => None,
                Some(at) => {
                    let at = at.as_str().and_then(Timestamp::parse);
                    Some(at.ok_or(Unreadable::NoKeys)?)
                }
            };
            known.push(Known { key, retired });
        }
        if known.is_empty() {
            return Err(Unreadable::NoKeys);
        }
        Ok(Self(known))
    }

    fn find(&self, is_it: impl Fn(&PublicKey) -> bool) -> Option<&Known> {
        self.0.iter().find(|known| is_it(&known.key))
    }
}

/// Parses the receipts in a text, in any form in which a server sends them.
///
/// # Errors
/// [`Unreadable`].
pub fn read(text: &str) -> Result<Vec<Paper>, Unreadable> {
    let text = text.trim();
    if let Ok(Value::Object(fields)) = serde_json::from_str(text) {
        return read_object(fields);
    }
    // A header may come with its name, as `curl -i` prints it.
    let word = text.rsplit(char::is_whitespace).next().unwrap_or(text);
    if Jws::parse(word).is_some() {
        return Ok(vec![Paper::Own {
            jws: word.to_owned(),
            beside: Map::new(),
        }]);
    }
    let decoded = STANDARD.decode(word).map_err(|_| Unreadable::NoReceipt)?;
    match serde_json::from_slice(&decoded) {
        Ok(Value::Object(fields)) => read_object(fields),
        _ => Err(Unreadable::NoReceipt),
    }
}

fn read_object(mut fields: Map<String, Value>) -> Result<Vec<Paper>, Unreadable> {
    if let Some(Value::Array(list)) = fields.remove("receipts") {
        let papers: Option<Vec<Paper>> = list.into_iter().map(shown).collect();
        let papers = papers.ok_or(Unreadable::NoReceipt)?;
        return if papers.is_empty() {
            Err(Unreadable::Empty)
        } else {
            Ok(papers)
        };
    }
    if fields.contains_key("format") {
        return Ok(vec![Paper::X402 {
            receipt: Value::Object(fields),
            beside: Map::new(),
        }]);
    }
    if fields.contains_key("success") {
        let extensions = fields.remove("extensions").unwrap_or_default();
        let receipt = extensions.pointer("/offer-receipt/info/receipt");
        return Ok(vec![Paper::X402 {
            receipt: receipt.cloned().ok_or(Unreadable::Empty)?,
            beside: fields,
        }]);
    }
    let paper = shown(Value::Object(fields)).ok_or(Unreadable::NoReceipt)?;
    Ok(vec![paper])
}

fn shown(entry: Value) -> Option<Paper> {
    let Value::Object(mut beside) = entry else {
        return None;
    };
    match beside.remove("jws")? {
        Value::String(jws) => Some(Paper::Own { jws, beside }),
        _ => None,
    }
}

/// Checks a receipt: its signature with `keys`, its unsigned fields against the signed ones, and the SHA-256 of an
/// image, where one is given, against the signed one.
pub fn check(paper: &Paper, keys: Option<&KeySet>, image_sha256: Option<&str>) -> Checked {
    match paper {
        Paper::Own { jws, beside } => check_own(jws, beside, keys, image_sha256),
        Paper::X402 { receipt, beside } => check_x402(receipt, beside, keys, image_sha256),
    }
}

fn check_own(
    text: &str,
    beside: &Map<String, Value>,
    keys: Option<&KeySet>,
    image_sha256: Option<&str>,
) -> Checked {
    let Some(jws) = Jws::parse(text) else {
        return Checked {
            says: "a receipt of pixtoll".to_owned(),
            signed_by: None,
            problems: vec![
                "its jws is malformed: it must be three parts of base64url, the first two JSON"
                    .to_owned(),
            ],
        };
    };
    let mut problems = differences(beside, &jws.claims);
    for (name, expected) in [("alg", ALGORITHM), ("typ", RECEIPT_TYPE)] {
        if jws.header_text(name) != Some(expected) {
            problems.push(format!(
                "its header's {name} is not {expected}, so pixtoll did not sign it as a receipt"
            ));
        }
    }
    if jws.header.get("crit").is_some() {
        problems.push(
            "its header demands an unknown extension (crit), which pixtoll never does".to_owned(),
        );
    }
    if let Some(expected) = image_sha256 {
        let said = text_of(&jws.claims, "sha256");
        if said != expected {
            problems.push(format!(
                "sha256: {said} is signed, but the image file has {expected}"
            ));
        }
    }
    let signed_by = keys.and_then(|keys| match who_signed(&jws, keys) {
        Ok(id) => Some(id),
        Err(problem) => {
            problems.push(problem);
            None
        }
    });
    Checked {
        says: describe_own(&jws.claims),
        signed_by,
        problems,
    }
}

fn who_signed(jws: &Jws<'_>, keys: &KeySet) -> Result<String, String> {
    let id = jws.header_text("kid").unwrap_or_default();
    let Some(known) = keys.find(|key| key.id() == id) else {
        return Err(format!(
            "its key {id} is not among the keys: the receipt is of another service, or was changed"
        ));
    };
    let PublicKey::Ed25519(bytes) = &known.key else {
        return Err(format!(
            "its key {id} signs no receipts of this kind: the receipt was changed"
        ));
    };
    if !jws.is_signed_by(bytes) {
        return Err(
            "the signature doesn't match: header, claims or signature were changed".to_owned(),
        );
    }
    let settled_at = Timestamp::parse(text_of(&jws.claims, "settledAt"));
    in_time(known, settled_at)?;
    Ok(id.to_owned())
}

/// Rejects a receipt for a payment that was settled after its key was retired: somebody may have found the old key.
fn in_time(known: &Known, settled_at: Option<Timestamp>) -> Result<(), String> {
    match (known.retired, settled_at) {
        (Some(retired), Some(settled)) if settled > retired => Err(format!(
            "its key {} was retired at {retired}, before the payment was settled at {settled}",
            known.key.id()
        )),
        (Some(_), None) => {
            Err("its key is retired, and it doesn't say when the payment was settled".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_x402(
    receipt: &Value,
    beside: &Map<String, Value>,
    keys: Option<&KeySet>,
    image_sha256: Option<&str>,
) -> Checked {
    let mut problems = Vec::new();
    let format = text_of(receipt, "format");
    if format != FORMAT {
        problems.push(format!(
            "its format is {format}, but pixtoll signs only {FORMAT}"
        ));
    }
    if image_sha256.is_some() {
        let message = "an x402 receipt names no image: use pixtoll's own from /api/receipts/{id}, or leave out --image";
        problems.push(message.to_owned());
    }
    let payload = receipt.get("payload").cloned().unwrap_or_default();
    problems.extend(differences(&spelled(beside), &payload));
    let mut signed_by = None;
    match serde_json::from_value::<ReceiptPayload>(payload.clone()) {
        Err(error) => problems.push(format!("its payload is not an x402 receipt: {error}")),
        Ok(payload) => match keys.map(|keys| who_signed_x402(receipt, &payload, keys)) {
            Some(Ok(id)) => signed_by = Some(id),
            Some(Err(problem)) => problems.push(problem),
            None => {}
        },
    }
    Checked {
        says: format!(
            "an x402 receipt: {} paid for {} on {} in transaction {}",
            text_of(&payload, "payer"),
            text_of(&payload, "resourceUrl"),
            text_of(&payload, "network"),
            text_of(&payload, "transaction"),
        ),
        signed_by,
        problems,
    }
}

fn who_signed_x402(
    receipt: &Value,
    payload: &ReceiptPayload,
    keys: &KeySet,
) -> Result<String, String> {
    let signature = text_of(receipt, "signature").parse();
    let signer = signature
        .ok()
        .and_then(|bytes| recover(&payload.digest(), &bytes))
        .ok_or("its signature is malformed: it must be the 65 bytes of a plain wallet, in hex")?;
    let known = keys
        .find(|key| key.address() == Some(signer))
        .ok_or_else(|| {
            format!(
                "the signature is by {signer}, which is not among the keys: payload or signature were changed, or the \
                 receipt is of another service"
            )
        })?;
    let seconds = i64::try_from(payload.issued_at).ok();
    in_time(known, seconds.map(Timestamp::from_seconds))?;
    Ok(known.key.id())
}

/// The fields of a settlement response, with the network spelled as in version 2. `success: true` is left out, because
/// a receipt exists for a success only.
fn spelled(beside: &Map<String, Value>) -> Map<String, Value> {
    let is_said =
        |(name, value): &(&String, &Value)| *name != "success" || **value != Value::Bool(true);
    let spell = |(name, value): (&String, &Value)| {
        let known = value.as_str().and_then(networks::find);
        let value = match known.filter(|_| name == "network") {
            Some(network) => Value::from(network.caip2),
            None => value.clone(),
        };
        (name.clone(), value)
    };
    beside.iter().filter(is_said).map(spell).collect()
}

/// The unsigned fields that differ from the signed ones, one sentence each.
fn differences(shown: &Map<String, Value>, signed: &Value) -> Vec<String> {
    let differs = |(name, value): (&String, &Value)| match signed.get(name) {
        Some(signed) if signed == value => None,
        Some(signed) => Some(format!("{name}: {value} is shown, but {signed} is signed")),
        None => Some(format!(
            "{name}: {value} is shown, but the signed part has no such field"
        )),
    };
    shown.iter().filter_map(differs).collect()
}

fn describe_own(claims: &Value) -> String {
    let text = |name| text_of(claims, name);
    let end = match claims.get("expiresAt").and_then(Value::as_str) {
        Some(end) => format!("kept until {end}"),
        None => "kept until the service ends".to_owned(),
    };
    format!(
        "{} says: {} of image {} (SHA-256 {}), tier {}, {end}; {} paid {} units of {} on {} to {} in transaction {}, \
         settled at {}",
        text("iss"),
        text("kind"),
        text("imageId"),
        text("sha256"),
        text("tier"),
        text("payer"),
        text("amount"),
        text("asset"),
        text("network"),
        text("payTo"),
        text("transaction"),
        text("settledAt"),
    )
}

fn text_of<'a>(document: &'a Value, name: &str) -> &'a str {
    document
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
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
                "no receipts",
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
}
