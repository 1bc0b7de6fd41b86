//! Removals of images by the operator.

use serde::{Deserialize, Serialize};

use crate::system::clock::Timestamp;

/// Why an image was removed, as far as clients are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ground {
    /// The operator's own rules. The link answers 404.
    Policy,
    /// A legal demand. The link answers 451 (RFC 7725).
    Legal,
}

impl Ground {
    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Legal => "legal",
        }
    }

    /// Reads a name that [`Ground::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Policy, Self::Legal]
            .into_iter()
            .find(|ground| ground.as_str() == text)
    }
}

/// The removal of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Why, as far as clients are told.
    pub ground: Ground,
    /// Why, in the operator's words. Only the operator sees it.
    pub reason: String,
    /// When the image was removed.
    pub removed_at: Timestamp,
    /// When the hold on its content began; `None`: it is not held.
    pub held_at: Option<Timestamp>,
    /// Until when the hold preserves the content. After that it waits for a person's decision.
    pub hold_until: Option<Timestamp>,
    /// When the content was moved to the sealed prefix; `None`: it is not there.
    pub sealed_at: Option<Timestamp>,
    /// The reference of the report to an authority, and when it was recorded.
    pub report: Option<(String, Timestamp)>,
}
