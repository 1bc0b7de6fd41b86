//! What an image is to the rest of the program.

use super::metadata::Metadata;
use super::payment::PaymentId;
use crate::clock::Timestamp;
use crate::ids::ImageId;

pub use super::format::Format;

/// Where an image stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageState {
    /// Reserved, maybe stored, not served.
    Pending,
    /// Public until it expires.
    Live,
    /// Its upload or its payment came to nothing.
    Discarded,
    /// It was public, and is being deleted: not served, and its object may still be there.
    Deleting,
    /// It was public, and is gone.
    Deleted,
}

impl ImageState {
    /// The spelling in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Live => "live",
            Self::Discarded => "discarded",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
        }
    }

    /// The state with this spelling.
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Pending,
            Self::Live,
            Self::Discarded,
            Self::Deleting,
            Self::Deleted,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }
}

/// An image as the database holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its public name.
    pub id: ImageId,
    /// Where it stands.
    pub state: ImageState,
    /// What its bytes are.
    pub format: Format,
    /// Length of the stored bytes.
    pub size_bytes: u64,
    /// Width in pixels as browsers show the image.
    pub width: u32,
    /// Height in pixels as browsers show the image.
    pub height: u32,
    /// What became of the metadata of the upload; `None`: it was uploaded before that was noted.
    pub metadata: Option<Metadata>,
    /// SHA-256 of the stored bytes, in hex.
    pub sha256: String,
    /// SHA-256 of the uploaded bytes, in hex.
    pub upload_sha256: String,
    /// The tier that it was uploaded to.
    pub tier: String,
    /// The payment that bought it; `None` for a free one.
    pub payment_id: Option<PaymentId>,
    /// When its upload was checked.
    pub created_at: Timestamp,
    /// When it became public.
    pub published_at: Option<Timestamp>,
    /// From when on it is not served; `None`: never.
    pub expires_at: Option<Timestamp>,
}

impl Image {
    /// Whether it is served at `now`.
    pub fn is_public(&self, now: Timestamp) -> bool {
        self.state == ImageState::Live && self.expires_at.is_none_or(|end| now < end)
    }

    /// The last part of its link: id and extension.
    pub fn file_name(&self) -> String {
        format!("{}.{}", self.id, self.format.extension())
    }
}
