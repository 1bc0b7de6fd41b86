//! API keys: secrets that upload in the name of a wallet, each within a limit of its own.

use std::fmt;

use alloy_primitives::Address;

use super::ids::draw_base62;
use super::owner::Owner;
use crate::keys::secrets::sha256_hex;
use crate::system::clock::Timestamp;
use crate::system::random::Randomness;

/// The secret of an API key: `pixtoll_` and 40 characters of base 62. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySecret(String);

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[key]")
    }
}

impl KeySecret {
    /// The beginning of every key, by which people and scanners of leaked secrets recognise one.
    pub const PREFIX: &str = "pixtoll_";
    /// The number of characters after the prefix: 238 random bits.
    const LENGTH: usize = 40;

    /// Draws a new secret.
    pub fn draw(randomness: &Randomness) -> Self {
        let rest = draw_base62(randomness, Self::LENGTH);
        Self(format!("{}{rest}", Self::PREFIX))
    }

    /// Reads a secret. `None`: the text has not the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(Self::PREFIX)?;
        let is_valid =
            rest.len() == Self::LENGTH && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_valid.then(|| Self(text.to_owned()))
    }

    /// The SHA-256 hash of the secret, which the database stores.
    pub fn hash(&self) -> String {
        sha256_hex(self.0.as_bytes())
    }

    /// The secret's characters, to be sent to the wallet once.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// An API key, as the database stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The name of the key in routes: 16 hexadecimal digits. It is no secret.
    pub id: String,
    /// The hash of its secret, see [`KeySecret::hash`].
    pub secret_hash: String,
    /// The wallet in whose name the key uploads.
    pub wallet: Address,
    /// The network on which the wallet is a contract, as a CAIP-2 id; `None`: it is a plain wallet.
    pub network: Option<String>,
    /// What the wallet calls the key.
    pub name: Option<String>,
    /// How many uploads the key may make in a UTC day.
    pub uploads_per_day: u64,
    /// When the key was made.
    pub created_at: Timestamp,
    /// Since when the key is suspended; `None`: it is not.
    pub suspended_at: Option<Timestamp>,
    /// When the key was revoked; `None`: it is not.
    pub revoked_at: Option<Timestamp>,
    /// The UTC day that `uploads_on_day` counts, in days since 1970.
    pub day: i64,
    /// How many uploads the key made on that day.
    pub uploads_on_day: u64,
    /// How many uploads the key made in all.
    pub uploads: u64,
    /// The sum of the sizes of their stored files, in bytes.
    pub bytes: u64,
    /// When the key last uploaded; `None`: never.
    pub last_used_at: Option<Timestamp>,
}

impl ApiKey {
    /// The owner of the images that the key uploads.
    pub fn owner(&self) -> Owner {
        Owner {
            wallet: self.wallet,
            network: self.network.clone(),
        }
    }

    /// How many uploads the key made on this UTC day.
    pub const fn uploads_on(&self, day: i64) -> u64 {
        // A server whose clock is a little behind sees the count of the new day.
        if self.day >= day {
            self.uploads_on_day
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_a_prefix_and_forty_letters_or_digits() {
        let secret = KeySecret::draw(&Randomness::seeded(1));
        assert_eq!(KeySecret::parse(secret.reveal()), Some(secret.clone()));
        assert_eq!(secret.reveal().len(), 48);
        assert_eq!(format!("{secret:?}"), "[key]");
        let other = KeySecret::draw(&Randomness::seeded(2));
        assert_ne!(other.hash(), secret.hash());
        let rest = "a".repeat(40);
        for text in [
            String::new(),
            rest.clone(),
            format!("pixtoll_{rest}a"),
            format!("Pixtoll_{rest}"),
            format!("pixtoll_{}-", &rest[1..]),
            format!("pixtoll_{}\u{e9}", &rest[2..]),
        ] {
            assert_eq!(KeySecret::parse(&text), None, "{text}");
        }
    }
}
