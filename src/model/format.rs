//! The names of the image formats. `images::format` recognizes a format by its bytes.
//!
//! This file uses nothing else of the program: `fuzz/` builds it with `images::format` and
//! `images::clean` alone.

use std::fmt;

/// An image format that is stored and served. Images in any other format are rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// PNG, including animated APNG.
    Png,
    /// JPEG: baseline, extended or progressive.
    Jpeg,
    /// GIF, 87a or 89a.
    Gif,
    /// WebP: lossy, lossless or animated.
    Webp,
}

impl Format {
    /// Every format, in the order in which messages list them.
    pub const ALL: [Self; 4] = [Self::Png, Self::Jpeg, Self::Gif, Self::Webp];

    /// The format's name in the database, which [`Format::parse`] reads.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Gif => "gif",
            Self::Webp => "webp",
        }
    }

    /// Reads a name that [`Format::as_str`] wrote. Aliases and capital letters are not accepted.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }

    /// The file extension of links to images of this format, without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Gif => "gif",
            Self::Webp => "webp",
        }
    }

    /// Whether a link with this extension can name an image of this format. Only lower case is
    /// accepted, so that an image has few addresses in caches. `jpeg` is the only alias.
    pub fn accepts_extension(self, extension: &str) -> bool {
        extension == self.extension() || (self == Self::Jpeg && extension == "jpeg")
    }

    /// The `Content-Type` of images in this format.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Gif => "image/gif",
            Self::Webp => "image/webp",
        }
    }
}

/// Writes the name for messages.
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
