//! A variant: the size, fit, quality and format in which a stored image is shown.
//!
//! Plain types only. `images::render` makes the pixels.

use super::format::Format;

/// The format of a variant. It is chosen by the extension of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Output {
    /// PNG with 8 bits a channel.
    Png,
    /// Baseline JPEG with chroma at half the resolution. Transparency becomes white.
    Jpeg,
    /// Lossy WebP. The only output that keeps an animation.
    WebP,
    /// AVIF with 8 bits a channel.
    Avif,
}

impl Output {
    /// Every output, in the order in which messages list them.
    pub const fn all() -> [Self; 4] {
        [Self::Png, Self::Jpeg, Self::WebP, Self::Avif]
    }

    /// The file extension of links to variants in this format, without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::WebP => "webp",
            Self::Avif => "avif",
        }
    }

    /// The `Content-Type` of variants in this format.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::WebP => "image/webp",
            Self::Avif => "image/avif",
        }
    }
}

/// How the picture is placed in the box of a variant's width and height. If only one side is given,
/// the other follows from the picture, and `Cover` and `Pad` equal `Contain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Fit {
    /// Shrinks the picture until it fits into the box. Never enlarges it.
    #[default]
    ScaleDown,
    /// Shrinks or enlarges the picture until it fits into the box and touches two of its edges.
    Contain,
    /// Fills the box, and crops what is outside of it equally from both sides.
    Cover,
    /// Like `Contain`, then centres the picture in the box. The rest is transparent, in a JPEG white.
    Pad,
}

/// The parameters that identify one variant of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Variant {
    /// Width of the box in pixels, 1 to 4096.
    pub width: Option<u32>,
    /// Height of the box in pixels, 1 to 4096. Without width and height the picture keeps its size.
    pub height: Option<u32>,
    /// How the picture is placed in the box.
    pub fit: Fit,
    /// Quality from 1 to 100. PNG ignores it. `None`: the default of the format.
    pub quality: Option<u8>,
    /// The format of the variant.
    pub output: Output,
}

impl Output {
    /// Reads the extension of a link. `jpeg` is the only alias, and only lower case is accepted.
    pub fn parse(extension: &str) -> Option<Self> {
        let mut all = Self::all().into_iter();
        all.find(|output| {
            output.extension() == extension || (*output == Self::Jpeg && extension == "jpeg")
        })
    }

    /// Whether images of `format` have this format already.
    pub fn is(self, format: Format) -> bool {
        self.content_type() == format.content_type()
    }

    /// The format of the variants of an image whose links name none: its own, WebP for a GIF.
    pub const fn of(format: Format) -> Self {
        match format {
            Format::Png => Self::Png,
            Format::Jpeg => Self::Jpeg,
            Format::Gif | Format::Webp => Self::WebP,
        }
    }
}

impl Fit {
    /// Every fit, in the order in which messages list them.
    pub const ALL: [Self; 4] = [Self::ScaleDown, Self::Contain, Self::Cover, Self::Pad];

    /// The value of the parameter `fit`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ScaleDown => "scale-down",
            Self::Contain => "contain",
            Self::Cover => "cover",
            Self::Pad => "pad",
        }
    }

    /// Reads the value of the parameter `fit`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fit| fit.as_str() == text)
    }
}

/// What stands before the number of a content in the name of its variants.
const CONTENT: char = '@';

/// The number of the content that a variant with this name was made of.
pub fn content_of(name: &str) -> u32 {
    let number = name.rsplit_once(CONTENT).map(|(_, number)| number.parse());
    number.and_then(Result::ok).unwrap_or(0)
}

impl Variant {
    /// The longest side of a box, in pixels.
    pub const LONGEST_SIDE: u32 = 4096;

    /// The name of the variant among those of its image, such as `w320-h240-cover-q80.webp`.
    pub fn name(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.width.map(|width| format!("w{width}")));
        parts.extend(self.height.map(|height| format!("h{height}")));
        if self.fit != Fit::default() {
            parts.push(self.fit.as_str().to_owned());
        }
        parts.extend(self.quality.map(|quality| format!("q{quality}")));
        if parts.is_empty() {
            parts.push("full".to_owned());
        }
        format!("{}.{}", parts.join("-"), self.output.extension())
    }

    /// The name among the variants of all contents of its image. Each content has variants of its
    /// own.
    pub fn name_of(&self, version: u32) -> String {
        match version {
            0 => self.name(),
            version => format!("{}{CONTENT}{version}", self.name()),
        }
    }

    /// The variant without parameters that change nothing for an image of this width and height, so
    /// that equal variants have one name.
    #[must_use]
    pub fn simplified(self, width: u32, height: u32) -> Self {
        let mut simple = self;
        if self.output == Output::Png {
            simple.quality = None;
        }
        match (self.width, self.height) {
            (Some(_), Some(_)) => {}
            (None, None) => simple.fit = Fit::ScaleDown,
            // The other side follows, so nothing is cropped or padded.
            _ if self.fit != Fit::ScaleDown => simple.fit = Fit::Contain,
            _ => {}
        }
        let holds = |side: Option<u32>, of_image| side.is_none_or(|side| side >= of_image);
        let is_whole = holds(self.width, width) && holds(self.height, height);
        if simple.fit == Fit::ScaleDown && is_whole {
            (simple.width, simple.height) = (None, None);
        }
        simple
    }

    /// Whether this [`simplified`](Self::simplified) variant of an image of `format` is the image
    /// itself.
    pub fn is_original(&self, format: Format) -> bool {
        let Self {
            width,
            height,
            quality,
            output,
            fit: _,
        } = *self;
        (width, height, quality) == (None, None, None) && output.is(format)
    }
}

/// A size that has a name, for pages that need no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// For lists: at most 320 pixels wide.
    Small,
    /// For columns of text: at most 800 pixels wide.
    Medium,
    /// For whole screens: at most 1600 pixels wide.
    Large,
    /// For previews of links: 1200 by 630 pixels, filled and cropped.
    Social,
}

impl Size {
    /// Every size, the smallest first.
    pub const ALL: [Self; 4] = [Self::Small, Self::Medium, Self::Large, Self::Social];

    /// The value of the parameter `size`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Small => "s",
            Self::Medium => "m",
            Self::Large => "l",
            Self::Social => "social",
        }
    }

    /// Reads the value of the parameter `size`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.as_str() == text)
    }

    /// The format of the links to this size that the server hands out. Programs that show previews
    /// of links all read JPEG; some don't read WebP.
    pub const fn output(self) -> Output {
        match self {
            Self::Small | Self::Medium | Self::Large => Output::WebP,
            Self::Social => Output::Jpeg,
        }
    }

    /// The variant of this size in a format.
    pub const fn variant(self, output: Output) -> Variant {
        let (width, height, fit) = match self {
            Self::Small => (320, None, Fit::ScaleDown),
            Self::Medium => (800, None, Fit::ScaleDown),
            Self::Large => (1600, None, Fit::ScaleDown),
            Self::Social => (1200, Some(630), Fit::Cover),
        };
        Variant {
            width: Some(width),
            height,
            fit,
            quality: None,
            output,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Variant = Variant {
        width: None,
        height: None,
        fit: Fit::ScaleDown,
        quality: None,
        output: Output::WebP,
    };

    #[test]
    fn the_name_of_a_variant_holds_the_number_of_its_content() {
        let variant = Size::Small.variant(Output::Png);
        for version in [0, 1, 4_000_000_000] {
            assert_eq!(content_of(&variant.name_of(version)), version);
        }
        assert_eq!(variant.name_of(0), variant.name());
        assert_ne!(variant.name_of(1), variant.name_of(2));
    }

    #[test]
    fn equal_variants_have_one_name() {
        let of = |width, height, fit, quality, output| {
            let variant = Variant {
                width,
                height,
                fit,
                quality,
                output,
            };
            variant.simplified(800, 600).name()
        };
        let (down, cover) = (Fit::ScaleDown, Fit::Cover);
        for (name, expected) in [
            (of(None, None, cover, None, Output::Jpeg), "full.jpg"),
            (of(Some(800), None, down, None, Output::WebP), "full.webp"),
            (
                of(Some(900), Some(600), down, Some(1), Output::WebP),
                "q1.webp",
            ),
            (of(Some(799), None, down, None, Output::WebP), "w799.webp"),
            (of(None, Some(599), down, None, Output::Avif), "h599.avif"),
            (
                of(Some(900), None, cover, Some(9), Output::Png),
                "w900-contain.png",
            ),
            (
                of(Some(900), Some(9), cover, Some(80), Output::WebP),
                "w900-h9-cover-q80.webp",
            ),
            (
                of(Some(9), Some(9), Fit::Pad, None, Output::Jpeg),
                "w9-h9-pad.jpg",
            ),
        ] {
            assert_eq!(name, expected);
        }
    }

    #[test]
    fn only_a_variant_that_changes_nothing_is_the_original() {
        assert!(PLAIN.is_original(Format::Webp));
        for format in [Format::Png, Format::Jpeg, Format::Gif] {
            assert!(!PLAIN.is_original(format));
        }
        for changed in [
            Variant {
                width: Some(9),
                ..PLAIN
            },
            Variant {
                quality: Some(80),
                ..PLAIN
            },
        ] {
            assert!(!changed.is_original(Format::Webp));
        }
    }

    #[test]
    fn values_of_parameters_read_back() {
        for fit in Fit::ALL {
            assert_eq!(Fit::parse(fit.as_str()), Some(fit));
        }
        for size in Size::ALL {
            assert_eq!(Size::parse(size.as_str()), Some(size));
        }
        for output in Output::all() {
            assert_eq!(Output::parse(output.extension()), Some(output));
        }
        assert_eq!(Output::parse("jpeg"), Some(Output::Jpeg));
        for none in ["gif", "JPG", "svg", ""] {
            assert_eq!(Output::parse(none), None);
        }
        for format in Format::ALL {
            assert_eq!(Output::of(format).is(format), format != Format::Gif);
        }
    }
}
