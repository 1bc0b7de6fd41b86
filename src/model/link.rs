//! Upload links: URLs that take a number of uploads until they end. The payer hands one to an agent,
//! a script or a phone, which needs no wallet.

use super::payment::{Grant, PaymentId};
use super::token::UploadToken;
use crate::keys::secrets::Keyring;
use crate::system::clock::Timestamp;

/// The name of an upload link, which is no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkId {
    /// The ledger id of the payment that bought the link.
    Paid(PaymentId),
    /// The id of a free link: 32 hexadecimal digits.
    Free(String),
}

impl LinkId {
    /// Reads an id. `None`: the text is neither 64 nor 32 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        if text.len() == 32 && text.bytes().all(is_digit) {
            return Some(Self::Free(text.to_owned()));
        }
        PaymentId::parse(text).map(Self::Paid)
    }

    /// The id's hexadecimal digits.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Paid(id) => id.as_str(),
            Self::Free(id) => id,
        }
    }
}

/// An upload link, as its owner sees it.
#[derive(Debug, Clone)]
pub struct Link {
    /// The name of the link.
    pub id: LinkId,
    /// The secret in the link's URL. `None`: the key that made it was removed, so the link takes no
    /// uploads.
    pub secret: Option<UploadToken>,
    /// The name of the tier that the link uploads to.
    pub tier: String,
    /// The number of uploads that the link takes in all.
    pub uses: u32,
    /// The number of uploads that were published.
    pub used: u32,
    /// When the link was made. A link that replaces an ended one was made later than its payment.
    pub created_at: Timestamp,
    /// When the link ends.
    pub expires_at: Timestamp,
    /// When the owner revoked the link; `None`: it is not revoked.
    pub revoked_at: Option<Timestamp>,
}

impl Link {
    /// The link of a grant; `None`: the payment bought something else.
    pub fn of_grant(keys: &Keyring, grant: &Grant) -> Option<Self> {
        let life = grant.product.link_life()?;
        Some(Self {
            id: LinkId::Paid(grant.payment_id.clone()),
            secret: UploadToken::of_grant(keys, grant),
            tier: grant.product.tier.clone(),
            uses: grant.product.uses,
            used: grant.used,
            created_at: grant.token_expires.minus(life),
            expires_at: grant.token_expires,
            revoked_at: grant.revoked_at,
        })
    }

    /// The number of uploads that are left, whether or not the link has ended.
    pub const fn left(&self) -> u32 {
        self.uses.saturating_sub(self.used)
    }
}

/// A free upload link, as the database stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeLink {
    /// The link's id: 32 hexadecimal digits.
    pub id: String,
    /// The hash of the secret, see [`UploadToken::hash`].
    pub secret_hash: String,
    /// The name of the tier when the link was made.
    pub tier: String,
    /// The number of uploads that the link takes in all.
    pub uses: u32,
    /// The number of uploads that were published.
    pub used: u32,
    /// When the link was made.
    pub created_at: Timestamp,
    /// When the link ends.
    pub expires_at: Timestamp,
    /// When the link was revoked; `None`: it is not revoked.
    pub revoked_at: Option<Timestamp>,
}

impl FreeLink {
    /// The link as its owner sees it.
    pub fn link(&self, keys: &Keyring) -> Link {
        let secrets = keys
            .iter()
            .map(|key| UploadToken::derive_free(key, &self.id));
        Link {
            id: LinkId::Free(self.id.clone()),
            secret: secrets.into_iter().find(|it| it.hash() == self.secret_hash),
            tier: self.tier.clone(),
            uses: self.uses,
            used: self.used,
            created_at: self.created_at,
            expires_at: self.expires_at,
            revoked_at: self.revoked_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_that_of_a_payment_or_of_a_free_link() {
        for text in ["a".repeat(64), "0".repeat(32)] {
            assert_eq!(LinkId::parse(&text).unwrap().as_str(), text);
        }
        for text in ["", "A", &"A".repeat(32), &"g".repeat(64), &"a".repeat(40)] {
            assert_eq!(LinkId::parse(text), None, "{text}");
        }
    }
}
