//! Upload tokens and delete tokens. They are derived from payments and images, so that the same one
//! returns the same token, and none is stored.
//!
//! A token shows that this server made it, without a look into the database. One that the database
//! should know and doesn't is proof that the database lost commits (docs/payments.md, Lost
//! commits).

use std::fmt;
use std::time::Duration;

use subtle::ConstantTimeEq;

use super::ids::ImageId;
use super::payment::{Grant, PaymentId};
use crate::keys::secrets::{Domain, Keyring, SecretKey, sha256_hex};
use crate::system::clock::Timestamp;

/// The number of bytes in a token, and of hexadecimal digits that spell it.
const BYTES: usize = 20;
const DIGITS: usize = 2 * BYTES;

/// An upload token: 40 hexadecimal digits that spend the uploads of a payment. `Debug` hides it.
///
/// Its bytes are the second in which it expires (4), a value that nobody can guess (8), and an
/// authentication code over both (8). Without the key, all 16 bytes have to be guessed.
#[derive(Clone, PartialEq, Eq)]
pub struct UploadToken(String);

impl fmt::Debug for UploadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[token]")
    }
}

impl UploadToken {
    /// Derives the token of a payment with this serial number and this expiry.
    pub fn derive(key: &SecretKey, payment: &PaymentId, serial: u32, expires: Timestamp) -> Self {
        let expiry = seconds(expires);
        let parts: [&[u8]; 3] = [payment.as_str().as_bytes(), &serial.to_be_bytes(), &expiry];
        let value = first::<8>(&key.derive(Domain::UploadToken, &parts));
        let code = code(key, Domain::UploadTokenCode, &expiry, &value);
        Self(hex::encode([&expiry[..], &value, &code].concat()))
    }

    /// Finds the token of a payment with this serial number and expiry whose hash is `hash`, among
    /// those of all keys. `None`: the key that made it was removed.
    pub fn find(
        keys: &Keyring,
        payment: &PaymentId,
        serial: u32,
        expires: Timestamp,
        hash: &str,
    ) -> Option<Self> {
        keys.iter()
            .map(|key| Self::derive(key, payment, serial, expires))
            .find(|token| token.hash() == hash)
    }

    /// Derives the secret of an upload link with this serial number that was created at this time.
    ///
    /// It holds its creation and not its expiry. A link is valid for weeks, so an expiry would not
    /// tell whether the link is younger than a recovery of lost commits.
    pub fn derive_link(
        key: &SecretKey,
        payment: &PaymentId,
        serial: u32,
        created: Timestamp,
    ) -> Self {
        let created = seconds(created);
        let parts: [&[u8]; 3] = [payment.as_str().as_bytes(), &serial.to_be_bytes(), &created];
        let value = first::<8>(&key.derive(Domain::UploadLink, &parts));
        let code = code(key, Domain::UploadLinkCode, &created, &value);
        Self(hex::encode([&created[..], &value, &code].concat()))
    }

    /// Derives the secret of the free upload link with this id.
    pub fn derive_free(key: &SecretKey, id: &str) -> Self {
        let secret = key.derive(Domain::FreeLink, &[id.as_bytes()]);
        Self(hex::encode(first::<BYTES>(&secret)))
    }

    /// Derives what a payment grants with this serial number and this expiry: the secret of a link
    /// that is valid for `link_life`, or without one a token.
    pub fn grant(
        key: &SecretKey,
        payment: &PaymentId,
        link_life: Option<Duration>,
        serial: u32,
        expires: Timestamp,
    ) -> Self {
        match link_life {
            Some(life) => Self::derive_link(key, payment, serial, expires.minus(life)),
            None => Self::derive(key, payment, serial, expires),
        }
    }

    /// The valid token of a grant; `None`: the key that made it was removed.
    pub fn of_grant(keys: &Keyring, grant: &Grant) -> Option<Self> {
        let (id, life) = (&grant.payment_id, grant.product.link_life());
        keys.iter()
            .map(|key| Self::grant(key, id, life, grant.serial, grant.token_expires))
            .find(|token| token.hash() == grant.token_hash)
    }

    /// Reads a token, in lower or upper case. `None`: the text is not 40 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        decode(text).map(|bytes| Self(hex::encode(bytes)))
    }

    /// When the token expires, to the second, if one of `keys` made it. `None`: none did. Takes the
    /// same time for every token.
    pub fn find_expiry(&self, keys: &Keyring) -> Option<Timestamp> {
        self.find_stamp(keys, Domain::UploadTokenCode)
    }

    /// When the upload link with this secret was created, to the second, if one of `keys` made it.
    /// `None`: none did. Takes the same time for every secret.
    pub fn find_creation(&self, keys: &Keyring) -> Option<Timestamp> {
        self.find_stamp(keys, Domain::UploadLinkCode)
    }

    /// The time in the token, if one of `keys` made it with a code of this domain.
    fn find_stamp(&self, keys: &Keyring, domain: Domain) -> Option<Timestamp> {
        let bytes = decode(&self.0)?;
        let (stamp, rest) = bytes.split_at(4);
        let (value, given) = rest.split_at(8);
        let mut is_right = subtle::Choice::from(0);
        for key in keys.iter() {
            is_right |= code(key, domain, stamp, value).ct_eq(given);
        }
        bool::from(is_right).then(|| timestamp(stamp))
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

fn code(key: &SecretKey, domain: Domain, stamp: &[u8], value: &[u8]) -> [u8; 8] {
    first(&key.derive(domain, &[stamp, value]))
}

/// Makes and checks delete tokens: 40 hexadecimal digits that delete an image and show its
/// receipts.
///
/// Its bytes are the second in which the image was created (4), and an authentication code over that
/// and the image's id (16).
#[derive(Debug)]
pub struct DeleteToken;

impl DeleteToken {
    /// Derives the token of an image that was created at this time.
    pub fn derive(key: &SecretKey, image: &ImageId, created: Timestamp) -> String {
        let created = seconds(created);
        hex::encode([&created[..], &Self::code(key, image, &created)].concat())
    }

    /// When the image was created, to the second, if `text` is its delete token under one of
    /// `keys`. `None`: it is not. The image need not exist. Takes the same time for every text of
    /// the same length.
    pub fn find_time(keys: &Keyring, image: &ImageId, text: &str) -> Option<Timestamp> {
        // Digits of a token are lower case.
        let bytes = decode(text).filter(|bytes| hex::encode(bytes) == text)?;
        let (created, given) = bytes.split_at(4);
        let mut is_right = subtle::Choice::from(0);
        for key in keys.iter() {
            is_right |= Self::code(key, image, created).ct_eq(given);
        }
        bool::from(is_right).then(|| timestamp(created))
    }

    fn code(key: &SecretKey, image: &ImageId, created: &[u8]) -> [u8; 16] {
        first(&key.derive(Domain::DeleteToken, &[image.as_str().as_bytes(), created]))
    }
}

/// The bytes of a token. `None`: the text is not 40 hexadecimal digits.
fn decode(text: &str) -> Option<[u8; BYTES]> {
    if text.len() != DIGITS {
        return None;
    }
    let mut bytes = [0; BYTES];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

fn first<const N: usize>(bytes: &[u8; 32]) -> [u8; N] {
    let mut taken = [0; N];
    for (to, from) in taken.iter_mut().zip(bytes) {
        *to = *from;
    }
    taken
}

/// The time in whole seconds, rounded up, as a token holds it. Times before 1970 and after 2106
/// become the nearest possible one.
fn seconds(time: Timestamp) -> [u8; 4] {
    let seconds = time.millis().max(0).unsigned_abs().div_ceil(1000);
    u32::try_from(seconds).unwrap_or(u32::MAX).to_be_bytes()
}

fn timestamp(seconds: &[u8]) -> Timestamp {
    let seconds = seconds
        .iter()
        .fold(0_i64, |sum, byte| sum * 256 + i64::from(*byte));
    Timestamp::from_seconds(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRES: Timestamp = Timestamp::from_millis(1_800_000_000_400);

    fn payment(digit: &str) -> PaymentId {
        PaymentId::parse(&digit.repeat(64)).unwrap()
    }

    /// The text with another digit at this place.
    fn changed(text: &str, at: usize) -> String {
        let other = if &text[at..=at] == "0" { "1" } else { "0" };
        format!("{}{other}{}", &text[..at], &text[at + 1..])
    }

    #[test]
    fn a_token_is_the_same_for_the_same_payment_serial_and_expiry_only() {
        let key = SecretKey::from_bytes([1; 32]);
        let (one, two) = (payment("a"), payment("b"));
        let token = UploadToken::derive(&key, &one, 0, EXPIRES);
        assert_eq!(UploadToken::derive(&key, &one, 0, EXPIRES), token);
        assert_ne!(UploadToken::derive(&key, &one, 1, EXPIRES), token);
        assert_ne!(UploadToken::derive(&key, &two, 0, EXPIRES), token);
        let later = Timestamp::from_millis(EXPIRES.millis() + 1000);
        assert_ne!(UploadToken::derive(&key, &one, 0, later), token);
        assert_eq!(token.reveal().len(), 40);
        assert_eq!(UploadToken::parse(token.reveal()), Some(token.clone()));
        assert_eq!(UploadToken::parse(&token.reveal()[1..]), None);
        assert_eq!(UploadToken::parse(&"g".repeat(40)), None);
        assert_eq!(format!("{token:?}"), "[token]");
    }

    #[test]
    fn a_token_is_found_while_the_key_that_made_it_is_kept() {
        let payment = payment("a");
        let [old, new, other] = [1, 2, 3].map(|byte| SecretKey::from_bytes([byte; 32]));
        let keys = Keyring::new(new.clone(), vec![old.clone()]);
        for key in [&old, &new] {
            let token = UploadToken::derive(key, &payment, 4, EXPIRES);
            let found = UploadToken::find(&keys, &payment, 4, EXPIRES, &token.hash());
            assert_eq!(found, Some(token));
        }
        let lost = UploadToken::derive(&other, &payment, 4, EXPIRES).hash();
        let found = UploadToken::find(&keys, &payment, 4, EXPIRES, &lost);
        assert_eq!(found, None);
    }

    #[test]
    fn a_token_shows_its_expiry_under_a_key_that_made_it_and_no_other_text_does() {
        let [old, new, other] = [1, 2, 3].map(|byte| SecretKey::from_bytes([byte; 32]));
        let keys = Keyring::new(new.clone(), vec![old.clone()]);
        for key in [&old, &new] {
            let token = UploadToken::derive(key, &payment("a"), 4, EXPIRES);
            let expected = Timestamp::from_seconds(1_800_000_001);
            assert_eq!(token.find_expiry(&keys), Some(expected));
            for at in 0..40 {
                let text = changed(token.reveal(), at);
                let forged = UploadToken::parse(&text).unwrap();
                assert_eq!(forged.find_expiry(&keys), None, "digit {at}");
            }
        }
        let foreign = UploadToken::derive(&other, &payment("a"), 4, EXPIRES);
        assert_eq!(foreign.find_expiry(&keys), None);
    }

    #[test]
    fn a_delete_token_fits_one_image_and_shows_when_it_was_created() {
        let [old, new, other] = [1, 2, 3].map(|byte| SecretKey::from_bytes([byte; 32]));
        let keys = Keyring::new(new.clone(), vec![old.clone()]);
        let [one, two] = ["c5mDEBjUdqXP", "d5mDEBjUdqXP"].map(|id| ImageId::parse(id).unwrap());
        for key in [&old, &new] {
            let token = DeleteToken::derive(key, &one, EXPIRES);
            assert_eq!(token.len(), 40);
            let expected = Timestamp::from_seconds(1_800_000_001);
            assert_eq!(DeleteToken::find_time(&keys, &one, &token), Some(expected));
            assert_eq!(DeleteToken::find_time(&keys, &two, &token), None);
            for at in 0..40 {
                let text = changed(&token, at);
                assert_eq!(DeleteToken::find_time(&keys, &one, &text), None, "{at}");
            }
        }
        let foreign = DeleteToken::derive(&other, &one, EXPIRES);
        for text in [&*foreign, "", "x"] {
            assert_eq!(DeleteToken::find_time(&keys, &one, text), None);
        }
    }
}
