//! The keys that sign receipts and offers, and their public keys.
//!
//! Both are derived from `secrets.key`. Neither is the key of the recipient of payments, which no server holds. A
//! reader trusts them because the service publishes them under its own domain.

use std::fmt;

use alloy_primitives::{Address, B256, Bytes};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use secp256k1::{Message, SECP256K1, SecretKey as Secp256k1Key};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::keys::jws;
use crate::keys::secrets::{Domain, SecretKey};

/// The two signing keys of a deployment. `Debug` shows only the ids of their public keys.
pub struct SigningKeys {
    x402: Secp256k1Key,
    receipts: Ed25519KeyPair,
    public: [PublicKey; 2],
}

/// A public key, which verifies signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicKey {
    /// The key of pixtoll's own receipts.
    Ed25519([u8; 32]),
    /// The key of x402 offers and receipts (EIP-712): its two coordinates.
    Secp256k1([u8; 64]),
}

/// A secret from which no valid key can be derived. The chance is 1 in 2^128.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no valid signing key can be derived from secrets.key: create another secret")]
pub struct Unusable;

impl SigningKeys {
    /// Derives the keys from `secret`. The same secret always gives the same keys.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn derive(secret: &SecretKey) -> Result<Self, Unusable> {
        let scalar = secret.derive(Domain::X402Key, &[]);
        let seed = secret.derive(Domain::ReceiptKey, &[]);
        let x402 = Secp256k1Key::from_byte_array(scalar).map_err(|_| Unusable)?;
        let [_, coordinates @ ..] = x402.public_key(SECP256K1).serialize_uncompressed();
        let receipts = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| Unusable)?;
        let verifies = receipts.public_key().as_ref().try_into();
        let public = [
            PublicKey::Ed25519(verifies.map_err(|_| Unusable)?),
            PublicKey::Secp256k1(coordinates),
        ];
        Ok(Self {
            x402,
            receipts,
            public,
        })
    }

    /// The public keys: that of receipts, then that of x402.
    pub const fn public(&self) -> &[PublicKey; 2] {
        &self.public
    }

    /// Signs an EIP-712 digest like a plain wallet: 65 bytes, the same for the same digest.
    pub fn sign_digest(&self, digest: &B256) -> Bytes {
        let message = Message::from_digest(digest.0);
        let signature = SECP256K1.sign_ecdsa_recoverable(message, &self.x402);
        let (id, signature) = signature.serialize_compact();
        let v = 27 + u8::from(i32::from(id) & 1 == 1);
        signature.into_iter().chain([v]).collect()
    }

    /// Signs `claims` as a compact JWS of this type. The result is the same for the same claims.
    pub fn sign_claims(&self, typ: &str, claims: &[u8]) -> String {
        let [own, _] = &self.public;
        jws::sign(&self.receipts, &own.id(), typ, claims)
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.public.iter().map(PublicKey::id))
            .finish()
    }
}

impl PublicKey {
    /// The id of the key: its JWK thumbprint (RFC 7638) with SHA-256.
    pub fn id(&self) -> String {
        // RFC 7638 prescribes this order of the members and no spaces.
        let members = match self.coordinates() {
            (x, None) => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#),
            (x, Some(y)) => {
                format!(r#"{{"crv":"secp256k1","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
        };
        URL_SAFE_NO_PAD.encode(Sha256::digest(members))
    }

    /// The key as JWK (RFC 7517). The key of x402 has a field `address` as well, because verifying an EIP-712 signature
    /// gives an address. It has no `alg`, because it signs no JWS.
    pub fn jwk(&self) -> Value {
        match self.coordinates() {
            (x, None) => json!({
                "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.id(), "x": x,
            }),
            (x, Some(y)) => json!({
                "kty": "EC", "crv": "secp256k1", "use": "sig", "kid": self.id(), "x": x, "y": y,
                "address": self.address().map(|address| address.to_checksum(None)),
            }),
        }
    }

    /// Parses a JWK. `None` for a kind that pixtoll doesn't use.
    pub fn from_jwk(jwk: &Value) -> Option<Self> {
        let part = |name: &str| -> Option<[u8; 32]> {
            let bytes = URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok()?;
            bytes.try_into().ok()
        };
        match jwk.get("crv")?.as_str()? {
            "Ed25519" => Some(Self::Ed25519(part("x")?)),
            "secp256k1" => Some(Self::Secp256k1(joined(part("x")?, part("y")?))),
            _ => None,
        }
    }

    /// The address of the key's signatures; `None` for an Ed25519 key.
    pub fn address(&self) -> Option<Address> {
        match self {
            Self::Ed25519(_) => None,
            Self::Secp256k1(point) => Some(Address::from_raw_public_key(point)),
        }
    }

    /// The kind of the key as the database spells it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "ed25519",
            Self::Secp256k1(_) => "secp256k1",
        }
    }

    /// The bytes of the key in hex, for the database.
    pub fn to_hex(&self) -> String {
        match self {
            Self::Ed25519(bytes) => hex::encode(bytes),
            Self::Secp256k1(bytes) => hex::encode(bytes),
        }
    }

    /// Parses a key from its kind and its bytes in hex. `None` when they don't fit together.
    pub fn parse(kind: &str, digits: &str) -> Option<Self> {
        let bytes = hex::decode(digits).ok()?;
        match kind {
            "ed25519" => Some(Self::Ed25519(bytes.try_into().ok()?)),
            "secp256k1" => Some(Self::Secp256k1(bytes.try_into().ok()?)),
            _ => None,
        }
    }

    /// The coordinates `x` and `y` in base64url; an Ed25519 key has no `y`.
    fn coordinates(&self) -> (String, Option<String>) {
        match self {
            Self::Ed25519(bytes) => (URL_SAFE_NO_PAD.encode(bytes), None),
            Self::Secp256k1(point) => {
                let (x, y) = point.split_at(32);
                (URL_SAFE_NO_PAD.encode(x), Some(URL_SAFE_NO_PAD.encode(y)))
            }
        }
    }
}

fn joined(x: [u8; 32], y: [u8; 32]) -> [u8; 64] {
    let mut point = [0; 64];
    let (left, right) = point.split_at_mut(32);
    left.copy_from_slice(&x);
    right.copy_from_slice(&y);
    point
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{address, hex};

    use super::*;
    use alloy_signer::SignerSync as _;
    use alloy_signer_local::PrivateKeySigner;

    #[test]
    fn the_id_of_a_key_is_its_thumbprint_by_rfc_7638() {
        // RFC 8037, appendix A.3.
        let known = json!({
            "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        });
        let key = PublicKey::from_jwk(&known).unwrap();
        assert_eq!(key.id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(
            key.to_hex(),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
    }

    #[test]
    fn a_key_is_parsed_from_each_of_its_forms() {
        let keys = SigningKeys::derive(&SecretKey::from_bytes([7; 32])).unwrap();
        for key in keys.public() {
            assert_eq!(PublicKey::from_jwk(&key.jwk()), Some(*key));
            assert_eq!(PublicKey::parse(key.kind(), &key.to_hex()), Some(*key));
            assert_eq!(key.jwk()["kid"], json!(key.id()));
        }
        assert_eq!(PublicKey::parse("ed25519", "00"), None);
        assert_eq!(PublicKey::from_jwk(&json!({"crv": "P-256"})), None);
    }

    #[test]
    fn a_jwk_holds_the_address_of_the_signatures() {
        // The test key of the x402 reference implementation: 0x11, 32 times.
        let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(0x11)).unwrap();
        let key = PublicKey::Secp256k1(signer.public_key().0);
        let address = address!("19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A");
        assert_eq!(key.address(), Some(address));
        assert_eq!(key.jwk()["address"], json!(address.to_checksum(None)));
        let point = hex!(
            "4f355bdcb7cc0af728ef3cceb9615d90684bb5b2ca5f859ab0f0b704075871aa"
            "385b6b1b8ead809ca67454d9683fcf2ba03456d6fe2c4abe2b07f0fbdbb2f1c1"
        );
        assert_eq!(key, PublicKey::Secp256k1(point));
    }

    #[test]
    fn a_digest_is_signed_as_by_any_other_wallet() {
        let secret = SecretKey::from_bytes([7; 32]);
        let keys = SigningKeys::derive(&secret).unwrap();
        let scalar = B256::from(secret.derive(Domain::X402Key, &[]));
        let wallet = PrivateKeySigner::from_bytes(&scalar).unwrap();
        // Beyond the order of the curve, which no digest reaches, the libraries differ.
        for byte in 0..=254 {
            let digest = B256::repeat_byte(byte);
            let same = wallet.sign_hash_sync(&digest).unwrap();
            assert_eq!(keys.sign_digest(&digest)[..], same.as_bytes(), "{byte}");
        }
    }

    #[test]
    fn each_secret_gives_its_own_keys_and_debug_shows_none() {
        let one = SigningKeys::derive(&SecretKey::from_bytes([7; 32])).unwrap();
        let same = SigningKeys::derive(&SecretKey::from_bytes([7; 32])).unwrap();
        let other = SigningKeys::derive(&SecretKey::from_bytes([8; 32])).unwrap();
        assert_eq!(one.public(), same.public());
        assert_ne!(one.public()[0], other.public()[0]);
        assert_ne!(one.public()[1], other.public()[1]);
        let ids = one.public().map(|key| key.id());
        assert_eq!(format!("{one:?}"), format!("{ids:?}"));
    }
}
