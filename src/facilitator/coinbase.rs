//! Authentication at Coinbase's facilitator: a new JWT for each request, signed with the operator's
//! API key (docs/x402.md, Coinbase).
//!
//! The JWT is assembled here because its header carries a `nonce`. The library that writes such
//! headers depends on either a second TLS library or an RSA implementation with a known timing
//! fault. `ring` (Ed25519) and `p256` (ES256) sign.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::DecodePrivateKey as _;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use crate::system::clock::Timestamp;

/// The base URL of Coinbase's facilitator.
pub const BASE_URL: &str = "https://api.cdp.coinbase.com/platform/v2/x402";
/// How long a JWT is valid, in seconds.
const LIFE: i64 = 120;

/// An API key of Coinbase's developer platform. `Debug` shows only its id.
pub struct CdpKey {
    id: String,
    secret: Secret,
}

enum Secret {
    Ed25519(Ed25519KeyPair),
    Es256(SigningKey),
}

/// Why a text is not the secret of an API key. The message never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CdpKeyError {
    /// The text is neither of the two kinds of keys.
    #[error(
        "is neither base64 of the 64 bytes of an Ed25519 key nor a PEM private key on P-256 (PKCS#8 or SEC1)"
    )]
    Malformed,
    /// The two halves of an Ed25519 key don't match.
    #[error("is an Ed25519 key whose public half does not match its secret half")]
    Mismatched,
}

impl CdpKey {
    /// Reads a secret in any of its forms: base64 of seed and public key, or PEM, in which line
    /// breaks may be written as `\n`.
    ///
    /// # Errors
    /// [`CdpKeyError`].
    pub fn parse(id: &str, secret: &str) -> Result<Self, CdpKeyError> {
        let text = secret.replace("\\n", "\n");
        let text = text.trim().trim_matches('"').trim();
        let secret = if text.starts_with("-----BEGIN") {
            read_pem(text)?
        } else {
            read_ed25519(text)?
        };
        Ok(Self {
            id: id.to_owned(),
            secret,
        })
    }

    /// The key's id, which is not secret.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Creates a JWT for one request. `target` is host and path, without scheme or query.
    pub fn token(&self, method: &str, target: &str, now: Timestamp, nonce: [u8; 16]) -> String {
        let seconds = now.seconds();
        let header = json!({
            "alg": match &self.secret {
                Secret::Ed25519(_) => "EdDSA",
                Secret::Es256(_) => "ES256",
            },
            "kid": self.id,
            "typ": "JWT",
            "nonce": hex::encode(nonce),
        });
        let claims = json!({
            "sub": self.id,
            "iss": "cdp",
            "uris": [format!("{method} {target}")],
            "iat": seconds,
            "nbf": seconds,
            "exp": seconds.saturating_add(LIFE),
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = match &self.secret {
            Secret::Ed25519(key) => URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())),
            Secret::Es256(key) => {
                let signature: Signature = key.sign(signed.as_bytes());
                URL_SAFE_NO_PAD.encode(signature.to_bytes())
            }
        };
        format!("{signed}.{signature}")
    }
}

impl PartialEq for CdpKey {
    fn eq(&self, other: &Self) -> bool {
        let public = |key: &Self| match &key.secret {
            Secret::Ed25519(key) => key.public_key().as_ref().to_vec(),
            Secret::Es256(key) => key
                .verifying_key()
                .to_encoded_point(true)
                .as_bytes()
                .to_vec(),
        };
        self.id == other.id && public(self) == public(other)
    }
}

impl Eq for CdpKey {}

impl fmt::Debug for CdpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CdpKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn read_pem(text: &str) -> Result<Secret, CdpKeyError> {
    let key = p256::SecretKey::from_pkcs8_pem(text)
        .ok()
        .or_else(|| p256::SecretKey::from_sec1_pem(text).ok())
        .ok_or(CdpKeyError::Malformed)?;
    Ok(Secret::Es256(key.into()))
}

fn read_ed25519(text: &str) -> Result<Secret, CdpKeyError> {
    let text: String = text.split_whitespace().collect();
    let bytes = STANDARD.decode(text).map_err(|_| CdpKeyError::Malformed)?;
    let (seed, public) = bytes
        .split_at_checked(32)
        .filter(|(_, public)| public.len() == 32)
        .ok_or(CdpKeyError::Malformed)?;
    Ed25519KeyPair::from_seed_and_public_key(seed, public)
        .map(Secret::Ed25519)
        .map_err(|_| CdpKeyError::Mismatched)
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::signature::Verifier as _;
    use p256::pkcs8::{EncodePrivateKey as _, LineEnding};
    use ring::signature::{ED25519, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;

    const TARGET: &str = "api.cdp.coinbase.com/platform/v2/x402/verify";
    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_999);

    /// A published key: RFC 8032, section 7.1, test 1.
    const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    fn ed25519_secret() -> String {
        let bytes = hex::decode(format!("{SEED}{PUBLIC}")).unwrap();
        STANDARD.encode(bytes)
    }

    /// The private key with value 1, which is public knowledge.
    fn p256_key() -> p256::SecretKey {
        let mut bytes = [0; 32];
        bytes[31] = 1;
        p256::SecretKey::from_slice(&bytes).unwrap()
    }

    fn parts(token: &str) -> (Value, Value, String, Vec<u8>) {
        let parts: Vec<&str> = token.split('.').collect();
        let [header, claims, signature] = parts.as_slice() else {
            panic!("{token}")
        };
        let json =
            |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        let signed = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        (json(header), json(claims), signed, signature)
    }

    #[test]
    fn an_ed25519_token_has_the_claims_that_coinbase_requires() {
        let key = CdpKey::parse("organizations/o/apiKeys/k", &ed25519_secret()).unwrap();
        let token = key.token("POST", TARGET, NOW, [0xab; 16]);
        let (header, claims, signed, signature) = parts(&token);
        assert_eq!(
            header,
            json!({"alg": "EdDSA", "kid": "organizations/o/apiKeys/k", "typ": "JWT",
                   "nonce": "ab".repeat(16)})
        );
        assert_eq!(
            claims,
            json!({"sub": "organizations/o/apiKeys/k", "iss": "cdp",
                   "uris": [format!("POST {TARGET}")],
                   "iat": 1_800_000_000, "nbf": 1_800_000_000, "exp": 1_800_000_120})
        );
        let public = UnparsedPublicKey::new(&ED25519, hex::decode(PUBLIC).unwrap());
        public.verify(signed.as_bytes(), &signature).unwrap();
        assert_eq!(
            key.token("POST", TARGET, NOW, [0xab; 16]),
            token,
            "the same question, the same token"
        );
    }

    #[test]
    fn a_p256_token_has_a_raw_signature_for_every_form_of_the_key() {
        let secret = p256_key();
        let pkcs8 = secret.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
        let sec1 = secret.to_sec1_pem(LineEnding::LF).unwrap().to_string();
        assert!(pkcs8.contains("BEGIN PRIVATE KEY") && sec1.contains("BEGIN EC PRIVATE KEY"));
        for spelling in [
            pkcs8.clone(),
            sec1.clone(),
            pkcs8.replace('\n', "\\n"),
            sec1.replace('\n', "\\n"),
            format!("\"{}\"", pkcs8.replace('\n', "\\n")),
            pkcs8.replace('\n', "\r\n"),
            format!("\n  {}\n\n", pkcs8.trim_end()),
        ] {
            let key = CdpKey::parse("k", &spelling).unwrap();
            let token = key.token("GET", "h/platform/v2/x402/supported", NOW, [0; 16]);
            let (header, claims, signed, signature) = parts(&token);
            assert_eq!(header["alg"], "ES256", "{spelling}");
            assert_eq!(claims["uris"][0], "GET h/platform/v2/x402/supported");
            let signature = Signature::from_slice(&signature).unwrap();
            let public = SigningKey::from(&secret);
            public
                .verifying_key()
                .verify(signed.as_bytes(), &signature)
                .unwrap();
        }
    }

    #[test]
    fn text_that_is_not_a_key_is_rejected_and_never_repeated() {
        let mut mismatched = hex::decode(format!("{SEED}{PUBLIC}")).unwrap();
        mismatched[63] ^= 1;
        for (secret, error) in [
            (STANDARD.encode(mismatched), CdpKeyError::Mismatched),
            (STANDARD.encode([1; 32]), CdpKeyError::Malformed),
            (STANDARD.encode([1; 65]), CdpKeyError::Malformed),
            ("not a key".to_owned(), CdpKeyError::Malformed),
            (String::new(), CdpKeyError::Malformed),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----".to_owned(),
                CdpKeyError::Malformed,
            ),
        ] {
            assert_eq!(CdpKey::parse("k", &secret).unwrap_err(), error);
        }
        let key = CdpKey::parse("the-id", &ed25519_secret()).unwrap();
        assert_eq!(format!("{key:?}"), "CdpKey { id: \"the-id\", .. }");
    }
}
