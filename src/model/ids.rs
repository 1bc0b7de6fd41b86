//! Ids of images: parsed from requests, and drawn from an injected source of randomness.

use std::fmt;

use crate::system::random::Randomness;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const LENGTH: usize = 12;

/// Draws `length` random characters of base 62.
pub(super) fn draw_base62(randomness: &Randomness, length: usize) -> String {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        for byte in randomness.bytes::<16>() {
            // 248 is the largest multiple of 62 in a byte: larger values would favour some
            // characters.
            if byte < 248 && text.len() < length {
                text.extend(
                    ALPHABET
                        .get(usize::from(byte % 62))
                        .map(|&letter| char::from(letter)),
                );
            }
        }
    }
    text
}

/// The public id of an image: 12 characters of base 62, which is 71 random bits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageId(String);

impl ImageId {
    /// The number of characters of every id.
    pub const LENGTH: usize = LENGTH;

    /// Draws a new id.
    pub fn draw(randomness: &Randomness) -> Self {
        Self(draw_base62(randomness, LENGTH))
    }

    /// Parses an id. `None`: `text` doesn't have the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.len() == LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        valid.then(|| Self(text.to_owned()))
    }

    /// Parses an id, or a link whose last path segment is the id, with or without an extension. `None`: `text` holds no
    /// id there.
    pub fn in_link(text: &str) -> Option<Self> {
        let path =
            url::Url::parse(text).map_or_else(|_| text.to_owned(), |url| url.path().to_owned());
        let name = path.rsplit('/').next().unwrap_or_default();
        Self::parse(name.split('.').next().unwrap_or_default())
    }

    /// The characters of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawn_id_parses_and_no_other_form_does() {
        let randomness = Randomness::seeded(1);
        for _ in 0..100 {
            let id = ImageId::draw(&randomness);
            assert_eq!(ImageId::parse(id.as_str()), Some(id));
        }
        for bad in [
            "",
            "k3v9Qw2mZr7",
            "k3v9Qw2mZr7T9",
            "k3v9Qw2mZr7-",
            "../../../etc",
            "k3v9Qw2mZré",
        ] {
            assert_eq!(ImageId::parse(bad), None, "{bad}");
        }
    }
}
