//! Generated pictures with as much detail as photographs, for perceptual hashes.

#![expect(clippy::float_arithmetic, reason = "pictures are made of waves")]

use jpeg_encoder::{ColorType, Encoder};

/// A picture of 8-bit RGB.
pub(crate) struct Photo {
    pub(crate) width: u16,
    pub(crate) height: u16,
    pub(crate) pixels: Vec<u8>,
}

impl Photo {
    /// Waves of many directions. Equal seeds show the same at every size, other seeds another picture.
    pub(crate) fn of(seed: u64, width: u16, height: u16) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            f64::from(u32::try_from(state >> 40).unwrap()) / f64::from(1 << 24)
        };
        let waves: Vec<[f64; 4]> = (0..12)
            .map(|_| {
                [
                    random() * 50.0 - 25.0,
                    random() * 50.0 - 25.0,
                    random() * 6.3,
                    random(),
                ]
            })
            .collect();
        let mut pixels = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let x = (f64::from(x) + 0.5) / f64::from(width);
                let y = (f64::from(y) + 0.5) / f64::from(height);
                let sum: f64 = waves
                    .iter()
                    .map(|[a, b, phase, weight]| weight * (a * x + b * y + phase).sin())
                    .sum();
                let grey = (128.0 + 45.0 * sum).clamp(0.0, 255.0);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "within 0 and 255"
                )]
                let grey = grey as u8;
                pixels.extend([grey, grey, 255 - grey / 2]);
            }
        }
        Self {
            width,
            height,
            pixels,
        }
    }

    /// One colour.
    pub(crate) fn flat(width: u16, height: u16) -> Self {
        let pixels = vec![128; usize::from(width) * usize::from(height) * 3];
        Self {
            width,
            height,
            pixels,
        }
    }

    /// Mirrored from left to right.
    pub(crate) fn mirrored(mut self) -> Self {
        for row in self.pixels.chunks_exact_mut(usize::from(self.width) * 3) {
            row.reverse();
            row.chunks_exact_mut(3).for_each(<[u8]>::reverse);
        }
        self
    }

    pub(crate) fn jpeg(&self, quality: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        Encoder::new(&mut bytes, quality)
            .encode(&self.pixels, self.width, self.height, ColorType::Rgb)
            .unwrap();
        bytes
    }
}
