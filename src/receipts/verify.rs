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

/// What a JWS of pixtoll is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// The `typ` of its header.
    pub(super) typ: &'static str,
    /// The word for it in messages.
    pub(super) noun: &'static str,
    /// The claim with the time that has to be before the end of its key.
    pub(super) time: &'static str,
}

const RECEIPT: Kind = Kind {
    typ: RECEIPT_TYPE,
    noun: "receipt",
    time: "settledAt",
};

fn check_own(
    text: &str,
    beside: &Map<String, Value>,
    keys: Option<&KeySet>,
    image_sha256: Option<&str>,
) -> Checked {
    let (mut checked, claims) = check_jws(text, RECEIPT, beside, keys, describe_own);
    if let (Some(expected), Some(claims)) = (image_sha256, claims) {
        let said = text_of(&claims, "sha256");
        if said != expected {
            checked.problems.push(format!(
                "sha256: {said} is signed, but the image file has {expected}"
            ));
        }
    }
    checked
}

/// Checks a JWS of a kind and the unsigned fields beside it. Returns its claims as well, where they can be read.
/// `describe` says them in a sentence.
pub(super) fn check_jws(
    text: &str,
    kind: Kind,
    beside: &Map<String, Value>,
    keys: Option<&KeySet>,
    describe: impl Fn(&Value) -> String,
) -> (Checked, Option<Value>) {
    let noun = kind.noun;
    let Some(jws) = Jws::parse(text) else {
        let malformed = Checked {
            says: format!("a {noun} of pixtoll"),
            signed_by: None,
            problems: vec![
                "its jws is malformed: it must be three parts of base64url, the first two JSON"
                    .to_owned(),
            ],
        };
        return (malformed, None);
    };
    let mut problems = differences(beside, &jws.claims);
    for (name, expected) in [("alg", ALGORITHM), ("typ", kind.typ)] {
        if jws.header_text(name) != Some(expected) {
            problems.push(format!(
                "its header's {name} is not {expected}, so pixtoll did not sign it as a {noun}"
            ));
        }
    }
    if jws.header.get("crit").is_some() {
        problems.push(
            "its header demands an unknown extension (crit), which pixtoll never does".to_owned(),
        );
    }
    let signed_by = keys.and_then(|keys| match who_signed(&jws, kind, keys) {
        Ok(id) => Some(id),
        Err(problem) => {
            problems.push(problem);
            None
        }
    });
    let checked = Checked {
        says: describe(&jws.claims),
        signed_by,
        problems,
    };
    (checked, Some(jws.claims))
}

fn who_signed(jws: &Jws<'_>, kind: Kind, keys: &KeySet) -> Result<String, String> {
    let (id, noun) = (jws.header_text("kid").unwrap_or_default(), kind.noun);
    let Some(known) = keys.find(|key| key.id() == id) else {
        return Err(format!(
            "its key {id} is not among the keys: the {noun} is of another service, or was changed"
        ));
    };
    let PublicKey::Ed25519(bytes) = &known.key else {
        return Err(format!(
            "its key {id} signs no {noun} of this kind: the {noun} was changed"
        ));
    };
    if !jws.is_signed_by(bytes) {
        return Err(
            "the signature doesn't match: header, claims or signature were changed".to_owned(),
        );
    }
    let at = Timestamp::parse(text_of(&jws.claims, kind.time));
    in_time(known, kind, at)?;
    Ok(id.to_owned())
}

/// Rejects what was signed about a time after its key was retired: somebody may have found the old key.
fn in_time(known: &Known, kind: Kind, at: Option<Timestamp>) -> Result<(), String> {
    let (noun, time) = (kind.noun, kind.time);
    match (known.retired, at) {
        (Some(retired), Some(at)) if at > retired => Err(format!(
            "its key {} was retired at {retired}, before the time of the {noun} ({time}: {at})",
            known.key.id()
        )),
        (Some(_), None) => Err(format!(
            "its key is retired, and the {noun} doesn't say when it became true ({time})"
        )),
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
    let kind = Kind {
        time: "issuedAt",
        ..RECEIPT
    };
    in_time(known, kind, seconds.map(Timestamp::from_seconds))?;
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

pub(super) fn text_of<'a>(document: &'a Value, name: &str) -> &'a str {
    document
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
