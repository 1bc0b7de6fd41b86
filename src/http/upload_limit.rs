//! What an upload may be: its size, and the refusals of its parts.

use super::query;
use crate::images::{Metadata, Refusal};
use crate::pricing::tiers::longest_body;

/// The size limit of an upload, and the tier that sets it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit<'a> {
    /// The tier's name, for the error message.
    pub(super) tier: &'a str,
    /// The largest image, in bytes.
    pub(super) max_bytes: u64,
}

impl Limit<'_> {
    /// The longest JSON body that can hold an image within the limit, in bytes.
    pub(super) const fn body(&self) -> u64 {
        longest_body(self.max_bytes)
    }

    /// The refusal of an image of `bytes` bytes, or of more bytes where `at_least` is set.
    pub(super) fn refuse(&self, bytes: u64, at_least: bool) -> Refusal {
        let (limit, tier) = (self.max_bytes, self.tier.to_owned());
        Refusal::TooLarge {
            bytes,
            at_least,
            limit,
            tier,
        }
    }
}

/// Parses the value of a body's field `metadata`.
pub(super) fn metadata_named(value: &str) -> Result<Metadata, Refusal> {
    Metadata::parse(value).ok_or_else(|| Refusal::BadBody(query::no_such_metadata(value)))
}

/// What a body says of the upload beside the image.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The value of its field `metadata`.
    pub(super) metadata: Option<Metadata>,
    /// The value of its field `visibility`, as it was sent.
    pub(super) visibility: Option<String>,
    /// The value of its field `viewer`, as it was sent.
    pub(super) viewer: Option<String>,
}

/// The length of `bytes` as a `u64`.
pub(super) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// The refusal of a body with this message.
pub(super) fn bad(message: &str) -> Refusal {
    Refusal::BadBody(message.to_owned())
}
