//! Where the picture goes in a variant: sizes, crop and margins.

#![expect(
    clippy::float_arithmetic,
    reason = "a scale is a ratio, and all sides are below 2^16"
)]

use crate::model::variant::{Fit, Variant};

use super::RenderError;

/// How many times as many pixels on a side a reduced picture must have as the variant. Photographs
/// of 640 by 480 at 320 have an SSIM of 0.96 to a picture resized from all pixels if it is 1.
const SPARE: f64 = 1.25;

/// The longest side of a resized picture, in pixels.
pub const MAX_SIDE: u32 = 4096;
/// The most pixels of a picture that is only converted.
pub const MAX_PIXELS: u64 = 50_000_000;

/// A rectangle in pixels of the source. It may begin and end inside of pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rectangle {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Rectangle {
    /// The same rectangle with its axes exchanged.
    pub(super) const fn turned(self) -> Self {
        Self {
            left: self.top,
            top: self.left,
            width: self.height,
            height: self.width,
        }
    }

    /// The rectangle in a picture that is `by` times as wide and high.
    fn scaled(self, by: f64) -> Self {
        Self {
            left: self.left * by,
            top: self.top * by,
            width: self.width * by,
            height: self.height * by,
        }
    }
}

/// How a picture becomes a variant. All values are for the picture as it is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Plan {
    /// The part of the picture that is shown.
    pub(super) crop: Rectangle,
    /// The size of that part in the variant.
    pub(super) size: (u32, u32),
    /// The size of the variant.
    pub(super) canvas: (u32, u32),
    /// The place of the part on the canvas.
    pub(super) offset: (u32, u32),
}

impl Plan {
    /// Plans a variant of a picture that is shown as `width` by `height` pixels.
    ///
    /// # Errors
    /// [`RenderError::TooLarge`] if a picture that keeps its size has too many pixels.
    pub(super) fn new(variant: &Variant, (width, height): (u32, u32)) -> Result<Self, RenderError> {
        let (wide, high) = (f64::from(width), f64::from(height));
        let whole = Rectangle {
            left: 0.0,
            top: 0.0,
            width: wide,
            height: high,
        };
        let plain = |size| Self {
            crop: whole,
            size,
            canvas: size,
            offset: (0, 0),
        };
        let limit = |side: u32| side.clamp(1, MAX_SIDE);
        let ratio = |side: u32, of: f64| f64::from(limit(side)) / of;
        // A single side gives a box that is as long as possible in the other direction.
        let (by, fit) = match (variant.width, variant.height) {
            (None, None) => {
                let pixels = u64::from(width) * u64::from(height);
                if pixels > MAX_PIXELS {
                    return Err(RenderError::TooManyPixels {
                        pixels,
                        limit: MAX_PIXELS,
                    });
                }
                return Ok(plain((width, height)));
            }
            (Some(w), None) => (ratio(w, wide), one_sided(variant.fit)),
            (None, Some(h)) => (ratio(h, high), one_sided(variant.fit)),
            (Some(w), Some(h)) if variant.fit == Fit::Cover => {
                return Ok(Self::cover(whole, (limit(w), limit(h))));
            }
            (Some(w), Some(h)) => (ratio(w, wide).min(ratio(h, high)), variant.fit),
        };
        let most = f64::from(MAX_SIDE) / wide.max(high);
        let by = by.min(most);
        let by = if fit == Fit::ScaleDown {
            by.min(1.0)
        } else {
            by
        };
        let size = (rounded(wide * by), rounded(high * by));
        match (fit, variant.width, variant.height) {
            (Fit::Pad, Some(w), Some(h)) => {
                let canvas = (limit(w), limit(h));
                let size = (size.0.min(canvas.0), size.1.min(canvas.1));
                Ok(Self {
                    size,
                    canvas,
                    offset: ((canvas.0 - size.0) / 2, (canvas.1 - size.1) / 2),
                    ..plain(size)
                })
            }
            _ => Ok(plain(size)),
        }
    }

    /// Fills a box, and crops the picture equally on both sides.
    fn cover(whole: Rectangle, size: (u32, u32)) -> Self {
        let (w, h) = (f64::from(size.0), f64::from(size.1));
        let by = (w / whole.width).max(h / whole.height);
        let (width, height) = ((w / by).min(whole.width), (h / by).min(whole.height));
        Self {
            crop: Rectangle {
                left: (whole.width - width) / 2.0,
                top: (whole.height - height) / 2.0,
                width,
                height,
            },
            size,
            canvas: size,
            offset: (0, 0),
        }
    }

    /// How much smaller the variant is than the source: the lower one of both directions.
    fn reduction(&self) -> f64 {
        let horizontal = self.crop.width / f64::from(self.size.0);
        let vertical = self.crop.height / f64::from(self.size.1);
        horizontal.min(vertical)
    }

    /// The part that is shown of a picture with `pixels` in place of 8.
    pub(super) fn crop_of(&self, pixels: u32) -> Rectangle {
        self.crop.scaled(f64::from(pixels) / 8.0)
    }

    /// Whether a picture with `pixels` in place of 8 has enough pixels to be resized to the variant.
    /// The decoder's own reduction is coarser than the kernel, which needs [`SPARE`] more.
    pub(super) fn is_enough(&self, pixels: u32) -> bool {
        f64::from(pixels) * self.reduction() >= 8.0 * SPARE
    }

    /// The plan for the picture as it is stored, if its axes are exchanged when it is shown.
    pub(super) const fn turned(self) -> Self {
        Self {
            crop: self.crop.turned(),
            size: (self.size.1, self.size.0),
            ..self
        }
    }
}

const fn one_sided(fit: Fit) -> Fit {
    match fit {
        Fit::ScaleDown => Fit::ScaleDown,
        Fit::Contain | Fit::Cover | Fit::Pad => Fit::Contain,
    }
}

/// The nearest whole number of pixels, at least 1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is between 1 and the longest side"
)]
fn rounded(side: f64) -> u32 {
    (side + 0.5).floor().clamp(1.0, f64::from(MAX_SIDE)) as u32
}
