//! How the pages look: the operator's colours and stylesheet.

use std::path::Path;

use super::keys::SiteKeys;
use super::read::Reader;

/// The backgrounds of the pages, light and dark, as assets/site.css has them.
const PAPER: [Colour; 2] = [Colour([0xfb, 0xfa, 0xf7]), Colour([0x16, 0x15, 0x13])];
/// The least contrast between text and its background (WCAG 2.2, 1.4.3).
const LEAST_CONTRAST: f64 = 4.5;
/// The largest stylesheet.
const MAX_STYLESHEET: u64 = 64 * 1024;

/// A colour of sRGB: red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour([u8; 3]);

impl Colour {
    /// Reads `#rrggbb`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6)?;
        let mut colour = [0; 3];
        hex::decode_to_slice(digits, &mut colour).ok()?;
        Some(Self(colour))
    }

    /// The ratio of contrast of two colours (WCAG 2.2, "contrast ratio"): from 1 to 21.
    #[expect(
        clippy::float_arithmetic,
        reason = "WCAG defines contrast by real numbers; no money is counted"
    )]
    fn contrast(self, other: Self) -> f64 {
        let [one, two] = [self, other].map(|colour| colour.luminance() + 0.05);
        one.max(two) / one.min(two)
    }

    /// The relative luminance (WCAG 2.2, "relative luminance").
    #[expect(
        clippy::float_arithmetic,
        reason = "WCAG defines contrast by real numbers; no money is counted"
    )]
    fn luminance(self) -> f64 {
        let [red, green, blue] = self.0.map(|value| {
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        });
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }
}

impl std::fmt::Display for Colour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}", hex::encode(self.0))
    }
}

/// What the pages show of the operator's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The name of the service.
    pub name: String,
    /// The colour of links and buttons on a light background, and on a dark one.
    pub accents: [Colour; 2],
    /// The operator's stylesheet, which the pages load after their own.
    pub stylesheet: Option<String>,
}

/// Reads `[site]`.
pub(super) fn read(reader: &mut Reader<'_>) -> Site {
    let keys = SiteKeys::read(reader);
    let accents = [keys.accent, keys.accent_dark];
    for ((name, accent), paper) in ["site.accent", "site.accent_dark"]
        .into_iter()
        .zip(accents)
        .zip(PAPER)
    {
        let contrast = accent.contrast(paper);
        if contrast < LEAST_CONTRAST {
            let message = format!(
                "`{accent}` has a contrast of {contrast:.1} to the background {paper}; links need {LEAST_CONTRAST}"
            );
            let fix =
                "take a darker colour for the light pages, or a lighter one for the dark pages";
            reader.problem(name, message, fix);
        }
    }
    Site {
        name: keys.name,
        accents,
        stylesheet: keys.stylesheet.and_then(|file| stylesheet(reader, &file)),
    }
}

fn stylesheet(reader: &mut Reader<'_>, file: &str) -> Option<String> {
    let path = Path::new(file);
    let read = std::fs::metadata(path).and_then(|facts| {
        if facts.len() > MAX_STYLESHEET {
            let message = format!("has {} bytes; the limit is {MAX_STYLESHEET}", facts.len());
            return Err(std::io::Error::other(message));
        }
        std::fs::read_to_string(path)
    });
    match read {
        Ok(style) => Some(style),
        Err(error) => {
            let fix = "name a CSS file of at most 64 KiB that this user may read";
            reader.problem("site.stylesheet", format!("`{file}`: {error}"), fix);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contrast_is_what_wcag_computes() {
        let [black, white, grey] =
            ["#000000", "#ffffff", "#767676"].map(|text| Colour::parse(text).unwrap());
        assert!((black.contrast(white) - 21.0).abs() < 0.001);
        assert!((grey.contrast(white) - 4.54).abs() < 0.01);
        assert!((white.contrast(white) - 1.0).abs() < 0.001);
    }

    #[test]
    fn colours_have_six_hex_digits() {
        assert_eq!(Colour::parse("#c8401A").unwrap().to_string(), "#c8401a");
        for text in ["c8401a", "#c84", "#c8401g", "#c8401a00", "red", ""] {
            assert_eq!(Colour::parse(text), None, "{text}");
        }
    }

    /// The stylesheet and the check of contrast speak of the same backgrounds.
    #[test]
    fn the_stylesheet_has_these_backgrounds() {
        let style = include_str!("../../assets/site.css");
        let declared = format!("--paper: light-dark({}, {});", PAPER[0], PAPER[1]);
        assert!(style.contains(&declared), "{declared}");
    }
}
