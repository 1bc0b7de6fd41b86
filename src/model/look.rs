//! What a page can show of an image before the image is loaded.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A blurred preview and the dominant colour of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The `ThumbHash` of the first frame: at most 25 bytes, for <https://evanw.github.io/thumbhash/>.
    pub thumbhash: Vec<u8>,
    /// The most frequent colour of the first frame, as sRGB.
    pub dominant: [u8; 3],
}

impl Look {
    /// The `ThumbHash` in base64, as answers and the database spell it.
    pub fn thumbhash_text(&self) -> String {
        STANDARD.encode(&self.thumbhash)
    }

    /// The dominant colour as CSS writes it: `#rrggbb`.
    pub fn dominant_text(&self) -> String {
        format!("#{}", hex::encode(self.dominant))
    }

    /// Reads what [`Look::thumbhash_text`] and [`Look::dominant_text`] wrote.
    pub fn parse(thumbhash: &str, dominant: &str) -> Option<Self> {
        let mut colour = [0; 3];
        hex::decode_to_slice(dominant.strip_prefix('#')?, &mut colour).ok()?;
        Some(Self {
            thumbhash: STANDARD.decode(thumbhash).ok()?,
            dominant: colour,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_reads_back() {
        let look = Look {
            thumbhash: vec![1, 2, 250],
            dominant: [0, 128, 255],
        };
        let (thumbhash, dominant) = (look.thumbhash_text(), look.dominant_text());
        assert_eq!((&*thumbhash, &*dominant), ("AQL6", "#0080ff"));
        assert_eq!(Look::parse(&thumbhash, &dominant), Some(look));
        for (thumbhash, dominant) in [("AQL6", "0080ff"), ("AQL6", "#0080f"), ("?", "#0080ff")] {
            assert_eq!(Look::parse(thumbhash, dominant), None);
        }
    }
}
