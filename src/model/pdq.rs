//! PDQ hashes: 256 bits that stay nearly the same when a picture is scaled or compressed again.

use std::fmt;
use std::str::FromStr;

/// The number of bits of a PDQ hash.
pub const BITS: usize = 256;

/// A PDQ hash. Its text is 64 hex digits, the highest bit first, as ThreatExchange writes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PdqHash([u64; 4]);

/// A text is no PDQ hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no PDQ hash: write 64 hex digits")]
pub struct NotPdq;

impl PdqHash {
    /// The hash whose bit `k` is `bits[k]`.
    pub fn of_bits(bits: &[bool; BITS]) -> Self {
        let mut words = [0; 4];
        for (word, bits) in words.iter_mut().zip(bits.chunks(64)) {
            *word = bits
                .iter()
                .rev()
                .fold(0, |word, bit| (word << 1) | u64::from(*bit));
        }
        Self(words)
    }

    /// Whether the two hashes differ in at most `distance` bits. Most pairs are decided by the first
    /// words.
    pub fn is_near(&self, other: &Self, distance: u32) -> bool {
        let mut differing = 0;
        for (one, other) in self.0.iter().zip(&other.0) {
            differing += (one ^ other).count_ones();
            if differing > distance {
                return false;
            }
        }
        true
    }
}

impl fmt::Display for PdqHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = self.0.iter().rev();
        words.try_for_each(|word| write!(f, "{word:016x}"))
    }
}

impl fmt::Debug for PdqHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PdqHash {
    type Err = NotPdq;

    fn from_str(text: &str) -> Result<Self, NotPdq> {
        let mut bytes = [0_u8; BITS / 8];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotPdq)?;
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().rev().zip(bytes.chunks_exact(8)) {
            *word = bytes
                .iter()
                .fold(0, |word, byte| (word << 8) | u64::from(*byte));
        }
        Ok(Self(words))
    }
}

/// A PDQ hash of a picture in all eight positions, and its quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// The hash of the picture as its file holds it.
    pub hash: PdqHash,
    /// The hashes of the picture turned and mirrored, `hash` among them.
    pub all: [PdqHash; 8],
    /// From 0 (flat) to 100 (detailed). Pictures without detail have arbitrary hashes.
    pub quality: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_begins_with_the_highest_bit() {
        let mut bits = [false; BITS];
        bits[255] = true;
        bits[0] = true;
        bits[70] = true;
        let hash = PdqHash::of_bits(&bits);
        let text = "8000000000000000000000000000000000000000000000400000000000000001";
        assert_eq!(hash.to_string(), text);
        assert_eq!(text.parse(), Ok(hash));
        assert_eq!(text.to_uppercase().parse(), Ok(hash));
        assert_eq!("80".parse::<PdqHash>(), Err(NotPdq));
        assert_eq!("g".repeat(64).parse::<PdqHash>(), Err(NotPdq));
    }

    #[test]
    fn hashes_are_near_up_to_the_distance() {
        let zero = PdqHash::of_bits(&[false; BITS]);
        let mut bits = [false; BITS];
        for bit in bits.iter_mut().step_by(8).take(31) {
            *bit = true;
        }
        let other = PdqHash::of_bits(&bits);
        assert!(zero.is_near(&other, 31));
        assert!(!zero.is_near(&other, 30));
        assert!(other.is_near(&other, 0));
    }
}
