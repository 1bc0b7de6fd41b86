//! An image and its states.

use super::look::Look;
use super::metadata::Metadata;
use super::owner::Owner;
use super::payment::PaymentId;
use super::refresh::Refresh;
use super::visibility::Visibility;
use crate::model::ids::ImageId;
use crate::system::clock::Timestamp;

pub use super::format::Format;

/// The state of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageState {
    /// The upload is under way: the image is not served, and may be stored or not.
    Pending,
    /// The image is served until it expires.
    Live,
    /// The operator removed the image: it is not served, and can be restored.
    Removed,
    /// The upload or its payment failed. The image was never served.
    Discarded,
    /// The image is being deleted: it is not served any more, but its object may still be stored.
    Deleting,
    /// The image was served, and its object is deleted.
    Deleted,
}

impl ImageState {
    /// The state's name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Live => "live",
            Self::Removed => "removed",
            Self::Discarded => "discarded",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
        }
    }

    /// Reads a name that [`ImageState::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Pending,
            Self::Live,
            Self::Removed,
            Self::Discarded,
            Self::Deleting,
            Self::Deleted,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }
}

/// An image, as the database stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The public id, which is part of the link.
    pub id: ImageId,
    /// The state.
    pub state: ImageState,
    /// The format of the stored bytes.
    pub format: Format,
    /// The size of the stored bytes.
    pub size_bytes: u64,
    /// The width in pixels, as browsers show the image.
    pub width: u32,
    /// The height in pixels, as browsers show the image.
    pub height: u32,
    /// What the upload did with metadata; `None` for images that were uploaded before this was
    /// recorded.
    pub metadata: Option<Metadata>,
    /// What a page can show before the image is loaded; `None` for images that were uploaded before
    /// this was computed.
    pub look: Option<Look>,
    /// SHA-256 of the stored bytes, in hexadecimal.
    pub sha256: String,
    /// SHA-256 of the uploaded bytes, in hexadecimal.
    pub upload_sha256: String,
    /// The tier of the upload.
    pub tier: String,
    /// The ledger id of the payment that bought the upload; `None` for a free one.
    pub payment_id: Option<PaymentId>,
    /// The wallet that owns the image. The database fills it in from the payment when the row of a
    /// paid image is inserted, so it is `None` before that; `None` for an anonymous free upload.
    pub owner: Option<Owner>,
    /// When the uploaded bytes were checked.
    pub created_at: Timestamp,
    /// When the image was published; `None` before that.
    pub published_at: Option<Timestamp>,
    /// When the image stops being served; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// The visibility of the image: public, or private with the wallet that may make links.
    pub visibility: Visibility,
    /// How often the owner ended all signed links of the image. Links of earlier serials show
    /// nothing.
    pub link_serial: u32,
    /// The number of the content: 0 is what was uploaded or imported, and each replacement adds one
    /// or more. It is part of the key of the object.
    pub version: u32,
    /// How the image is kept up to date with its origin; `None`: it never changes.
    pub refresh: Option<Refresh>,
}

impl Image {
    /// Whether the image is served at `now`: to everybody, or by signed links.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.state == ImageState::Live && self.expires_at.is_none_or(|end| now < end)
    }

    /// Whether the image is served to everybody at `now`.
    pub fn is_public(&self, now: Timestamp) -> bool {
        self.is_live(now) && !self.visibility.is_private()
    }

    /// When the content was published, or last replaced; `None` before the publication.
    pub fn modified_at(&self) -> Option<Timestamp> {
        let replaced = self.refresh.as_ref().and_then(|it| it.replaced_at);
        replaced.or(self.published_at)
    }

    /// SHA-256 of the content that was uploaded or imported, in hexadecimal, also after a refresh
    /// has replaced it.
    pub fn first_sha256(&self) -> &str {
        let first = self.refresh.as_ref();
        first
            .and_then(|it| it.first_sha256.as_deref())
            .unwrap_or(&self.sha256)
    }

    /// The last part of the image's link: id and extension.
    pub fn file_name(&self) -> String {
        format!("{}.{}", self.id, self.format.extension())
    }
}
