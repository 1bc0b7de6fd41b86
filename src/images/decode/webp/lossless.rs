//! The reader of a lossless bitstream, which reads pixels and, inside them, the codes of pixels.

use super::super::deadline::Deadline;
use super::prefix::{Bad, Bits};

/// Why the bitstream can't be decoded.
pub(super) enum Broken {
    Header,
    Short,
    Transform,
    Cache(u32),
    Code,
    TooManyCodes,
    Reference { at: usize, of: usize },
    Timeout,
}

impl From<Bad> for Broken {
    fn from(bad: Bad) -> Self {
        match bad {
            Bad::Code => Self::Code,
            Bad::TooMany => Self::TooManyCodes,
        }
    }
}

/// The pixels of an image that are used later, with the colour cache that they may come from.
pub(super) struct Kept {
    pub(super) pixels: Vec<u32>,
    pub(super) cache: Vec<u32>,
    pub(super) cache_bits: u32,
}

impl Kept {
    pub(super) fn push(&mut self, pixel: u32) {
        self.pixels.push(pixel);
        if self.cache_bits > 0 {
            let index = pixel.wrapping_mul(0x1e35_a7bd) >> (32 - self.cache_bits);
            if let Some(slot) = self.cache.get_mut(index as usize) {
                *slot = pixel;
            }
        }
    }

    pub(super) fn copy(&mut self, distance: usize, length: usize) {
        for _ in 0..length {
            let from = self.pixels.len().saturating_sub(distance);
            self.push(self.pixels.get(from).copied().unwrap_or(0));
        }
    }

    pub(super) fn cached(&mut self, index: u16) {
        self.push(self.cache.get(usize::from(index)).copied().unwrap_or(0));
    }
}

/// Reads symbols, and spends the deadline on them.
pub(super) struct Lossless<'a, 'b> {
    pub(super) bits: Bits<'a>,
    pub(super) deadline: &'b mut Deadline,
}
