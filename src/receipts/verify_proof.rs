//! Verifies public proofs offline, with public keys that were saved from a trusted source. No I/O.

use serde_json::{Map, Value};

use super::verify::{Checked, KeySet, Kind, check_jws, text_of};
use crate::model::proof::PROOF_TYPE;

const PROOF: Kind = Kind {
    typ: PROOF_TYPE,
    noun: "proof",
    time: "issuedAt",
};

/// Why a text holds no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a public proof: give a response of GET /proof.json, or its jws")]
pub struct NoProof;

/// Checks a proof as `GET /proof.json` returns it, or its JWS alone: its signature with `keys`, and its unsigned fields
/// against the signed ones.
///
/// # Errors
/// [`NoProof`] when the text has no form of a proof.
pub fn check_proof(text: &str, keys: Option<&KeySet>) -> Result<Checked, NoProof> {
    let text = text.trim();
    let (jws, beside) = match serde_json::from_str(text) {
        Ok(Value::Object(mut fields)) => {
            let Some(Value::String(jws)) = fields.remove("jws") else {
                return Err(NoProof);
            };
            // Where the keys are is no part of what is signed.
            fields.remove("keysUrl");
            (jws, fields)
        }
        Ok(_) => return Err(NoProof),
        Err(_) if text.split('.').count() == 3 => (text.to_owned(), Map::new()),
        Err(_) => return Err(NoProof),
    };
    Ok(check_jws(&jws, PROOF, &beside, keys, describe).0)
}

/// What a proof says, in a sentence.
fn describe(claims: &Value) -> String {
    let count = |pointer: &str| {
        let number = claims.pointer(pointer).and_then(Value::as_i64);
        number.map_or_else(|| "?".to_owned(), |number| number.to_string())
    };
    let ledger = match claims.pointer("/ledger/rules/checkedAt") {
        Some(Value::String(at)) => format!(
            "{} rows break a rule of its ledger (checked at {at})",
            count("/ledger/rules/brokenRows")
        ),
        _ => "its ledger was not checked yet".to_owned(),
    };
    let chain = match claims.pointer("/ledger/comparedAt") {
        Some(Value::String(at)) => format!(
            "the chain lacks {} of its settled payments, and {} transfers are unexplained (compared at {at})",
            count("/ledger/missing"),
            count("/ledger/unexplained"),
        ),
        _ => "its ledger was not compared with the chain yet".to_owned(),
    };
    format!(
        "{} says at {}{}: since {} it asked to pay {} times; of {} payments that were presented, {} settled and {} were \
         refused at no charge; {} files expired and {} were deleted earlier; {ledger}; {chain}",
        text_of(claims, "iss"),
        text_of(claims, "issuedAt"),
        match claims.get("playMoney") {
            Some(Value::Bool(true)) => ", in play money",
            _ => "",
        },
        text_of(claims, "since"),
        count("/totals/challenged"),
        count("/totals/presented"),
        count("/totals/settled"),
        count("/totals/refused"),
        count("/totals/expired"),
        count("/totals/deleted"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::keys::secrets::SecretKey;
    use crate::keys::signing::{PublicKey, SigningKeys};
    use crate::model::receipt::RECEIPT_TYPE;

    fn signing() -> SigningKeys {
        SigningKeys::derive(&SecretKey::from_bytes([7; 32])).unwrap()
    }

    fn keys() -> KeySet {
        let list: Vec<Value> = signing().public().iter().map(PublicKey::jwk).collect();
        KeySet::parse(&json!({ "keys": list }).to_string()).unwrap()
    }

    #[test]
    fn a_proof_is_checked_as_it_is_sent_and_by_its_jws() {
        let claims = json!({"iss": "https://a.example", "totals": {"settled": 2}});
        let jws = signing().sign_claims(PROOF_TYPE, claims.to_string().as_bytes());
        let mut sent = claims;
        sent["jws"] = json!(jws);
        sent["keysUrl"] = json!("https://a.example/.well-known/jwks.json");
        for text in [sent.to_string(), jws.clone()] {
            let found = check_proof(&text, Some(&keys())).unwrap();
            assert_eq!(found.problems, [""; 0]);
            assert_eq!(found.signed_by, Some(signing().public()[0].id()));
            assert!(found.says.contains("2 settled"), "{}", found.says);
        }
        sent["totals"]["settled"] = json!(3);
        let found = check_proof(&sent.to_string(), Some(&keys())).unwrap();
        assert!(found.problems[0].starts_with("totals: "), "{found:?}");
    }

    #[test]
    fn a_receipt_by_the_same_key_is_no_proof() {
        let jws = signing().sign_claims(RECEIPT_TYPE, b"{}");
        let found = check_proof(&jws, Some(&keys())).unwrap();
        assert!(found.problems[0].contains("typ"), "{found:?}");
        for text in ["", "{}", "[]", "a.b", r#"{"jws":1}"#] {
            assert_eq!(check_proof(text, None).unwrap_err(), NoProof, "{text}");
        }
    }
}
