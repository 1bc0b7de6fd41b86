//! Decodes the first frame of a stored image into rows of luma, for its PDQ hash. Transparent
//! pixels show white. Orientation doesn't matter, since the hash covers all eight positions.

use std::time::Duration;

use super::Pdq;
use crate::images::render::{Pixels, RenderError, Stop, rows};
use crate::model::format::Format;
use crate::model::pdq::Fingerprint;

/// How long decoding may take. The largest image takes a second or two.
const TIME: Duration = Duration::from_secs(10);

/// Computes the fingerprint of an image that passed the checks of uploads.
///
/// # Errors
/// What the decoder says. It may reject a file that browsers repair.
pub(in crate::images) fn fingerprint(
    bytes: &[u8],
    format: Format,
) -> Result<Fingerprint, RenderError> {
    let mut pdq = None;
    let mut luma = Vec::new();
    rows(
        bytes,
        format,
        &Stop::after(TIME),
        &mut |(width, height), row, pixels| {
            luma.clear();
            match pixels {
                Pixels::Grey => luma.extend(row.iter().map(|grey| f32::from(*grey))),
                Pixels::Rgb => luma.extend(row.as_chunks().0.iter().map(|rgb| of_rgb(*rgb))),
                Pixels::Rgba => luma.extend(row.as_chunks().0.iter().map(|rgba| of_rgba(*rgba))),
                Pixels::Cmyk => luma.extend(row.as_chunks().0.iter().map(|cmyk| of_cmyk(*cmyk))),
            }
            pdq.get_or_insert_with(|| Pdq::new(side(width), side(height)))
                .push(&luma);
        },
    )?;
    Ok(pdq.unwrap_or_else(|| Pdq::new(0, 0)).finish())
}

fn side(side: u32) -> usize {
    usize::try_from(side).unwrap_or(usize::MAX)
}

fn of_rgb([r, g, b]: [u8; 3]) -> f32 {
    0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)
}

/// On white, in whole steps, as image libraries compose.
fn of_rgba([r, g, b, alpha]: [u8; 4]) -> f32 {
    let alpha = f32::from(alpha) / 255.0;
    let [r, g, b] =
        [r, g, b].map(|value| (f32::from(value) * alpha + 255.0 * (1.0 - alpha)).round());
    0.299 * r + 0.587 * g + 0.114 * b
}

/// Without a profile, as Pillow converts it.
fn of_cmyk([c, m, y, k]: [u8; 4]) -> f32 {
    let paper = f32::from(255 - k) / 255.0;
    of_rgb([255 - c, 255 - m, 255 - y]) * paper
}
