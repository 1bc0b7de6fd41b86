//! Upload tokens. They are derived from payments, so that the same payment returns the same token,
//! and none is stored.

use std::fmt;

use super::payment::PaymentId;
use crate::keys::secrets::{Domain, Keyring, SecretKey, sha256_hex};

const DIGITS: usize = 40;

/// An upload token: 40 hexadecimal digits that spend the uploads of a payment. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct UploadToken(String);

impl fmt::Debug for UploadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[token]")
    }
}

impl UploadToken {
    /// Derives the token of a payment with this serial number.
    pub fn derive(key: &SecretKey, payment: &PaymentId, serial: u32) -> Self {
        let hex = key.derive_hex(
            Domain::UploadToken,
            &[payment.as_str().as_bytes(), &serial.to_be_bytes()],
        );
        Self(hex.chars().take(DIGITS).collect())
    }

    /// Finds the token of a payment with this serial number whose hash is `hash`, among those of
    /// all keys. `None`: the key that made it was removed.
    pub fn find(keys: &Keyring, payment: &PaymentId, serial: u32, hash: &str) -> Option<Self> {
        keys.iter()
            .map(|key| Self::derive(key, payment, serial))
            .find(|token| token.hash() == hash)
    }

    /// Reads a token, in lower or upper case. `None`: the text is not 40 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        valid.then(|| Self(text.to_ascii_lowercase()))
    }

    /// The SHA-256 hash of the token, which the database stores.
    pub fn hash(&self) -> String {
        sha256_hex(self.0.as_bytes())
    }

    /// The token's digits, to be sent to the payer.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_same_for_the_same_payment_and_serial_only() {
        let key = SecretKey::from_bytes([1; 32]);
        let (one, two) = (
            PaymentId::parse(&"a".repeat(64)).unwrap(),
            PaymentId::parse(&"b".repeat(64)).unwrap(),
        );
        let token = UploadToken::derive(&key, &one, 0);
        assert_eq!(UploadToken::derive(&key, &one, 0), token);
        assert_ne!(UploadToken::derive(&key, &one, 1), token);
        assert_ne!(UploadToken::derive(&key, &two, 0), token);
        assert_eq!(UploadToken::parse(token.reveal()), Some(token.clone()));
        assert_eq!(UploadToken::parse(&token.reveal()[1..]), None);
        assert_eq!(format!("{token:?}"), "[token]");
    }

    #[test]
    fn a_token_is_found_while_the_key_that_made_it_is_kept() {
        let payment = PaymentId::parse(&"a".repeat(64)).unwrap();
        let [old, new, other] = [1, 2, 3].map(|byte| SecretKey::from_bytes([byte; 32]));
        let keys = Keyring::new(new.clone(), vec![old.clone()]);
        for key in [&old, &new] {
            let token = UploadToken::derive(key, &payment, 4);
            let found = UploadToken::find(&keys, &payment, 4, &token.hash());
            assert_eq!(found, Some(token));
        }
        let lost = UploadToken::derive(&other, &payment, 4).hash();
        assert_eq!(UploadToken::find(&keys, &payment, 4, &lost), None);
    }
}
