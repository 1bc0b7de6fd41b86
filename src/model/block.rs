//! Blocks: content and wallets that the server refuses.

use std::fmt;
use std::str::FromStr;

use alloy_primitives::Address;

use super::pdq::PdqHash;
use crate::system::clock::Timestamp;

/// The longest name of a source, in bytes.
const LONGEST_SOURCE: usize = 64;

/// What a block refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A file with this SHA-256, as it was uploaded or as it would be stored.
    Sha256([u8; 32]),
    /// Pictures whose PDQ hash is near this one.
    Pdq(PdqHash),
    /// New purchases and uploads of a wallet.
    Wallet(Address),
}

/// The kind of a [`Target`], without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`Target::Sha256`].
    Sha256,
    /// [`Target::Pdq`].
    Pdq,
    /// [`Target::Wallet`].
    Wallet,
}

/// A block of content or of a wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What is refused.
    pub target: Target,
    /// The list that the block belongs to, or `operator`.
    pub source: String,
    /// Why, for the operator. Clients don't see it.
    pub reason: String,
    /// When the block was made.
    pub created_at: Timestamp,
    /// From when on it counts no more; `None`: it stays.
    pub expires_at: Option<Timestamp>,
}

/// The source of blocks that a person makes one by one.
pub const OPERATOR: &str = "operator";

/// Why a text names nothing that can be blocked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is nothing that can be blocked: write sha256:HEX or pdq:HEX with 64 hex digits, or wallet:0x… with 40"
)]
pub struct NotTarget(pub String);

/// Why the name of a source is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the source `{0}` is not allowed: write 1 to {LONGEST_SOURCE} letters, digits, hyphens, dots or underscores"
)]
pub struct BadSource(pub String);

impl Target {
    /// The kind of the target.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Sha256(_) => Kind::Sha256,
            Self::Pdq(_) => Kind::Pdq,
            Self::Wallet(_) => Kind::Wallet,
        }
    }

    /// The value without its kind: hex digits in lower case, or an EIP-55 address.
    pub fn value(&self) -> String {
        match self {
            Self::Sha256(hash) => hex::encode(hash),
            Self::Pdq(hash) => hash.to_string(),
            Self::Wallet(wallet) => wallet.to_string(),
        }
    }

    /// Reads a value of this kind. `None`: it is none.
    pub fn read(kind: Kind, value: &str) -> Option<Self> {
        match kind {
            Kind::Sha256 => {
                let mut hash = [0; 32];
                hex::decode_to_slice(value, &mut hash).ok()?;
                Some(Self::Sha256(hash))
            }
            Kind::Pdq => value.parse().ok().map(Self::Pdq),
            Kind::Wallet => {
                let digits = value.strip_prefix("0x").filter(|it| it.len() == 40)?;
                digits.parse().ok().map(Self::Wallet)
            }
        }
    }
}

/// `sha256:HEX`, `pdq:HEX` or `wallet:0x…`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind().as_str(), self.value())
    }
}

impl FromStr for Target {
    type Err = NotTarget;

    fn from_str(text: &str) -> Result<Self, NotTarget> {
        let found = match text.split_once(':') {
            Some((kind, value)) => Kind::parse(kind).and_then(|kind| Self::read(kind, value)),
            None => Self::read(Kind::Wallet, text),
        };
        found.ok_or_else(|| NotTarget(text.chars().take(100).collect()))
    }
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Pdq, Self::Wallet];

    /// The name in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Pdq => "pdq",
            Self::Wallet => "wallet",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl Block {
    /// Checks the name of a source.
    ///
    /// # Errors
    /// [`BadSource`].
    pub fn check_source(name: &str) -> Result<(), BadSource> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if (1..=LONGEST_SOURCE).contains(&name.len()) && name.bytes().all(fits) {
            return Ok(());
        }
        Err(BadSource(name.chars().take(100).collect()))
    }

    /// A block by a person. Its reason becomes one line, as lists have it.
    pub fn by_operator(
        target: Target,
        reason: &str,
        now: Timestamp,
        expires_at: Option<Timestamp>,
    ) -> Self {
        Self {
            target,
            source: OPERATOR.to_owned(),
            reason: one_line(reason),
            created_at: now,
            expires_at,
        }
    }
}

/// A reason without line ends.
pub fn one_line(reason: &str) -> String {
    let words: Vec<&str> = reason.split_whitespace().collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_as_it_is_written() {
        let wallet = "0x52908400098527886E0F7030069857D2E4169EE7";
        for text in [
            format!("sha256:{}", "ab".repeat(32)),
            format!("pdq:{}", "0f".repeat(32)),
            format!("wallet:{wallet}"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), text);
        }
        let small: Target = wallet.to_lowercase().parse().unwrap();
        assert_eq!(small.value(), wallet);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "sha256:",
            "sha256:abcd",
            "md5:00",
            "0x12",
            "wallet:52908400098527886E0F7030069857D2E4169EE7",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
        assert!(Block::check_source("ncmec.v2").is_ok());
        assert!(Block::check_source("").is_err() && Block::check_source("a b").is_err());
        assert_eq!(one_line("court order 7\n of\tMay "), "court order 7 of May");
    }
}
