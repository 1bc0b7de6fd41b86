//! Compact JWS (RFC 7515) with Ed25519 (RFC 8037). Nothing else of that family is supported: no other algorithm, no
//! critical header parameters, no embedded keys.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

/// The only algorithm, as the header's `alg` spells it.
pub const ALGORITHM: &str = "EdDSA";

/// A parsed JWS. Its content can't be trusted until [`Jws::is_signed_by`] returns `true`.
#[derive(Debug, Clone)]
pub struct Jws<'a> {
    /// The header: key id, algorithm and type.
    pub header: Value,
    /// The signed JSON.
    pub claims: Value,
    signed: &'a str,
    signature: Vec<u8>,
}

/// Signs `claims`, which are JSON, with the key of this id.
pub fn sign(key: &Ed25519KeyPair, id: &str, typ: &str, claims: &[u8]) -> String {
    let header = json!({"alg": ALGORITHM, "kid": id, "typ": typ}).to_string();
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!("{}.{}", part(header.as_bytes()), part(claims));
    let signature = part(key.sign(signed.as_bytes()).as_ref());
    format!("{signed}.{signature}")
}

impl<'a> Jws<'a> {
    /// Parses `text`. `None` when it isn't three parts of base64url, the first two JSON.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let json = |part: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        Some(Self {
            header: json(header)?,
            claims: json(claims)?,
            signed,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// A field of the header that is a string.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        self.header.get(name)?.as_str()
    }

    /// Whether this key signed exactly this header and these claims.
    pub fn is_signed_by(&self, public_key: &[u8; 32]) -> bool {
        UnparsedPublicKey::new(&ED25519, public_key)
            .verify(self.signed.as_bytes(), &self.signature)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example key of RFC 8037, appendix A.
    const SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn public() -> [u8; 32] {
        URL_SAFE_NO_PAD.decode(PUBLIC).unwrap().try_into().unwrap()
    }

    fn key() -> Ed25519KeyPair {
        let seed = URL_SAFE_NO_PAD.decode(SEED).unwrap();
        Ed25519KeyPair::from_seed_unchecked(&seed).unwrap()
    }

    #[test]
    fn the_signature_is_that_of_rfc_8037() {
        let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = URL_SAFE_NO_PAD.encode(key().sign(signed.as_bytes()));
        assert_eq!(
            signature,
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
    }

    #[test]
    fn a_signed_text_is_parsed_and_any_changed_letter_is_noticed() {
        let text = sign(&key(), "k", "t", br#"{"amount":"1"}"#);
        let jws = Jws::parse(&text).unwrap();
        assert_eq!(jws.header, json!({"alg": "EdDSA", "kid": "k", "typ": "t"}));
        assert_eq!(jws.claims, json!({"amount": "1"}));
        assert!(jws.is_signed_by(&public()));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            let fits = Jws::parse(&changed).is_some_and(|jws| jws.is_signed_by(&public()));
            assert!(!fits, "{changed}");
        }
    }

    #[test]
    fn a_text_that_is_no_jws_is_none() {
        for text in [
            "",
            ".",
            "..",
            "a.b",
            "e30.e30",
            "e30.e30.*",
            "e30.x.",
            "e30=.e30.",
        ] {
            assert!(Jws::parse(text).is_none(), "{text}");
        }
    }
}
