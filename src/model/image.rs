//! What an image is to the rest of the program. The bytes decide the format, in
//! `images::format`; here are only its names.

use std::fmt;

use super::payment::PaymentId;
use crate::clock::Timestamp;
use crate::ids::ImageId;

/// The image formats that are stored and served. There is no "other": what is none of these is
/// refused at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// PNG, and its animated form APNG.
    Png,
    /// JPEG: baseline, extended or progressive.
    Jpeg,
    /// GIF, 87a or 89a.
    Gif,
    /// WebP: lossy, lossless or animated.
    Webp,
}

impl Format {
    /// Every format once, in the order in which they are listed to people.
    pub const ALL: [Self; 4] = [Self::Png, Self::Jpeg, Self::Gif, Self::Webp];

    /// The spelling in the database; [`Format::parse`] reads it back.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Gif => "gif",
            Self::Webp => "webp",
        }
    }

    /// Reads the spelling of [`Format::as_str`] and nothing else: no aliases, no capitals.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }

    /// The file extension that our links end in, without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Gif => "gif",
            Self::Webp => "webp",
        }
    }

    /// Whether a link ending in this extension means this format. Lower case only, so that an image
    /// has few addresses in caches; `jpeg` is the one alias, because people type it.
    pub fn accepts_extension(self, extension: &str) -> bool {
        extension == self.extension() || (self == Self::Jpeg && extension == "jpeg")
    }

    /// The `Content-Type` that the image is served with.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
        }
    }
}

/// The name as people write it, for messages.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::Gif => "GIF",
            Self::Webp => "WebP",
        })
    }
}

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
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_reads_back_its_database_spelling() {
        for format in Format::ALL {
            assert_eq!(Format::parse(format.as_str()), Some(format));
        }
        for name in ["", "jpg", "PNG", "svg", "png "] {
            assert_eq!(Format::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn an_extension_means_one_format_at_most() {
        for format in Format::ALL {
            for other in Format::ALL {
                assert_eq!(format.accepts_extension(other.extension()), format == other);
            }
        }
        assert!(Format::Jpeg.accepts_extension("jpeg"));
        assert!(!Format::Jpeg.accepts_extension("JPG"));
        assert!(!Format::Png.accepts_extension("jpeg"));
        assert!(!Format::Png.accepts_extension(""));
    }

    #[test]
    fn content_types_are_the_registered_ones() {
        let types = Format::ALL.map(Format::content_type);
        assert_eq!(
            types,
            ["image/png", "image/jpeg", "image/gif", "image/webp"]
        );
    }
}
