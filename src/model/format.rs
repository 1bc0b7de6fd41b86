//! The names of the image formats. The bytes decide which one it is, in `images::format`.
//!
//! Nothing else of the program is used here: `fuzz/` builds this file, `images::format` and `images::clean`
//! without the rest.

use std::fmt;

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
