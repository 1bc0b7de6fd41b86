//! Values that are derived from the master key in `secrets.key`. Each use has a domain of its own,
//! so that a derived value reveals no other.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The deployment's master key: 32 bytes that never leave this type.
#[derive(Clone)]
pub struct SecretKey([u8; 32]);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The current master key, and older ones. Secrets that an older key made stay valid while that key
/// is listed.
#[derive(Debug, Clone)]
pub struct Keyring {
    current: SecretKey,
    older: Vec<SecretKey>,
}

impl From<SecretKey> for Keyring {
    fn from(current: SecretKey) -> Self {
        Self::new(current, Vec::new())
    }
}

impl Keyring {
    /// Creates a keyring. `current` makes secrets; `older` keys only recognise them.
    pub const fn new(current: SecretKey, older: Vec<SecretKey>) -> Self {
        Self { current, older }
    }

    /// The key that makes secrets.
    pub const fn current(&self) -> &SecretKey {
        &self.current
    }

    /// The number of older keys.
    pub const fn count_older(&self) -> usize {
        self.older.len()
    }

    /// All keys, the current one first.
    pub fn iter(&self) -> impl Iterator<Item = &SecretKey> {
        std::iter::once(&self.current).chain(&self.older)
    }

    /// Whether the keyring has the key with this fingerprint.
    pub fn has(&self, fingerprint: &str) -> bool {
        self.iter().any(|key| key.fingerprint() == fingerprint)
    }
}

/// The purpose of a derived value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// The upload token of a payment, a serial number and an expiry.
    UploadToken,
    /// The authentication code in an upload token.
    UploadTokenCode,
    /// The secret of an upload link: a payment, a serial number and the time of its creation.
    UploadLink,
    /// The authentication code in the secret of an upload link.
    UploadLinkCode,
    /// The secret of a free upload link.
    FreeLink,
    /// The delete token of an image and the time at which it was created.
    DeleteToken,
    /// The hash of a challenge's ticket.
    Ticket,
    /// The hash of a client's idempotency key.
    IdempotencyKey,
    /// The hash of a client's address.
    ClientAddress,
    /// The rate-limit bucket of a client, under the day's key, never the master key.
    Bucket,
    /// The key of a day, under which replicas derive the same buckets.
    DayOfRates,
    /// The fingerprint by which a database recognises its master key.
    Fingerprint,
    /// The MAC of a nonce to sign in with.
    SignIn,
    /// The MAC of a cursor in a list of a wallet.
    Cursor,
    /// The signature of a link to a private image.
    ImageLink,
    /// The secp256k1 key that signs x402 offers and receipts.
    X402Key,
    /// The Ed25519 key that signs pixtoll's own receipts.
    ReceiptKey,
}

impl Domain {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::UploadToken => b"pixtoll/upload-token/1",
            Self::UploadTokenCode => b"pixtoll/upload-token-code/1",
            Self::UploadLink => b"pixtoll/upload-link/1",
            Self::UploadLinkCode => b"pixtoll/upload-link-code/1",
            Self::FreeLink => b"pixtoll/free-link/1",
            Self::DeleteToken => b"pixtoll/delete-token/1",
            Self::Ticket => b"pixtoll/ticket/1",
            Self::IdempotencyKey => b"pixtoll/payment-id/1",
            Self::ClientAddress => b"pixtoll/client-address/1",
            Self::Bucket => b"pixtoll/bucket/1",
            Self::DayOfRates => b"pixtoll/day-of-rates/1",
            Self::Fingerprint => b"pixtoll/fingerprint/1",
            Self::SignIn => b"pixtoll/sign-in/1",
            Self::Cursor => b"pixtoll/cursor/1",
            Self::ImageLink => b"pixtoll/image-link/1",
            Self::X402Key => b"pixtoll/x402-key/1",
            Self::ReceiptKey => b"pixtoll/receipt-key/1",
        }
    }
}

impl SecretKey {
    /// Creates a key from its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// HMAC-SHA256 (RFC 2104) of `parts` in `domain`. Each part is preceded by its length, so that
    /// moving a byte from one part to the next changes the value.
    pub fn derive(&self, domain: Domain, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.mac();
        mac.update(domain.label());
        for part in parts {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// [`SecretKey::derive`], in lower-case hex.
    pub fn derive_hex(&self, domain: Domain, parts: &[&[u8]]) -> String {
        hex::encode(self.derive(domain, parts))
    }

    /// The fingerprint by which a database recognises its key. It reveals nothing else about the
    /// key.
    pub fn fingerprint(&self) -> String {
        hex::encode(
            self.derive(Domain::Fingerprint, &[])
                .first_chunk::<8>()
                .unwrap_or(&[0; 8]),
        )
    }

    #[expect(
        clippy::expect_used,
        reason = "HMAC takes a key of any length (RFC 2104)"
    )]
    fn mac(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(&self.0).expect("HMAC takes a key of any length")
    }
}

/// SHA-256, in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Whether two texts are equal, in a time that depends on their lengths only.
pub fn equal_in_constant_time(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_and_part_borders_separate_values() {
        let key = SecretKey::from_bytes([7; 32]);
        let one = key.derive(Domain::UploadToken, &[b"ab", b"c"]);
        assert_ne!(one, key.derive(Domain::UploadToken, &[b"a", b"bc"]));
        assert_ne!(one, key.derive(Domain::DeleteToken, &[b"ab", b"c"]));
        assert_ne!(
            one,
            SecretKey::from_bytes([8; 32]).derive(Domain::UploadToken, &[b"ab", b"c"])
        );
        assert_eq!(one, key.derive(Domain::UploadToken, &[b"ab", b"c"]));
    }

    #[test]
    fn a_key_prints_as_secret() {
        assert_eq!(format!("{:?}", SecretKey::from_bytes([7; 32])), "[secret]");
    }
}
