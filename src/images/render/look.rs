//! Makes the look of an image from a small picture of it.

use std::collections::BTreeMap;

use super::colour::to_srgb;
use super::picture::Picture;
use super::plan::Plan;
use super::turn::turned;
use super::{RenderError, Shrink, source};
use crate::images::decode::jpeg::pixels::{Side, Small};
use crate::model::look::Look;
use crate::model::variant::{Fit, Output, Variant};

/// The longest side of the picture from which a look is made, in pixels. `ThumbHash` takes 100, but its
/// time grows with the pixels, and its 7 waves on a side need no more than this.
const SIDE: u32 = 40;
/// The shortest that the longest side should be. A `ThumbHash` has up to 7 waves on a side.
const LEAST: u32 = 16;

/// The look of a picture of at most [`SIDE`] pixels a side, in sRGB.
pub(super) fn look_of(picture: Picture) -> Look {
    let picture = enlarged(picture.with_alpha());
    let (width, height) = (picture.width as usize, picture.height as usize);
    Look {
        thumbhash: thumbhash::rgba_to_thumb_hash(width, height, &picture.bytes),
        dominant: dominant(&picture),
    }
}

/// Repeats the pixels of a picture whose sides are too short for a `ThumbHash`.
fn enlarged(picture: Picture) -> Picture {
    let longest = picture.width.max(picture.height).max(1);
    let times = LEAST.div_ceil(longest);
    if times < 2 {
        return picture;
    }
    let (wide, high) = (picture.width * times, picture.height * times);
    let places = (0..high).flat_map(|y| (0..wide).map(move |x| (x / times, y / times)));
    let (pixels, _) = picture.bytes.as_chunks::<4>();
    let pixel = |(x, y)| pixels.get((y * picture.width + x) as usize).copied();
    Picture {
        bytes: places.filter_map(pixel).flatten().collect(),
        width: wide,
        height: high,
        ..picture
    }
}

/// The look of a stored JPEG of which the check has gathered an eighth.
pub(super) fn of_small(stored: &[u8], small: &Small, orientation: u8) -> Result<Look, RenderError> {
    let head = source::jpeg::head_of(stored)?;
    let (wide, high) = small.whole;
    let size = (Side::ONE.of(wide), Side::ONE.of(high));
    let plan = Plan::new(&preview(), small.whole)?;
    let crop = plan.crop_of(1);
    let mut shrink = Shrink::new(plan, head.channels, size, crop);
    let stride = size.0 as usize * head.channels.count();
    for row in small.bytes.chunks_exact(stride.max(1)) {
        shrink.row(row)?;
    }
    let picture = to_srgb(shrink.finish()?, &head.colours);
    Ok(look_of(turned(picture, orientation)))
}

/// The variant from which a look is made.
pub(super) const fn preview() -> Variant {
    Variant {
        width: Some(SIDE),
        height: Some(SIDE),
        fit: Fit::ScaleDown,
        quality: None,
        output: Output::Png,
    }
}

/// The mean colour of the fullest of 4096 equal boxes of the colour space. Pixels that are more
/// transparent than opaque do not count, unless all are.
fn dominant(picture: &Picture) -> [u8; 3] {
    let (pixels, _) = picture.bytes.as_chunks::<4>();
    let has_opaque = pixels.iter().any(|&[_, _, _, a]| a >= 128);
    let mut boxes: BTreeMap<[u8; 3], (u32, [u32; 3])> = BTreeMap::new();
    for &[r, g, b, a] in pixels {
        if has_opaque && a < 128 {
            continue;
        }
        let (count, sums) = boxes.entry([r >> 4, g >> 4, b >> 4]).or_default();
        *count += 1;
        for (sum, value) in sums.iter_mut().zip([r, g, b]) {
            *sum += u32::from(value);
        }
    }
    // Of equally full boxes, the first one counts.
    let fullest = boxes.into_values().rev().max_by_key(|&(count, _)| count);
    let (count, sums) = fullest.unwrap_or_default();
    sums.map(|sum| {
        let mean = (sum + count / 2).checked_div(count).unwrap_or(0);
        u8::try_from(mean).unwrap_or(u8::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::super::picture::Channels;
    use super::*;

    fn picture(pixels: &[[u8; 4]]) -> Picture {
        Picture {
            width: u32::try_from(pixels.len()).unwrap(),
            height: 1,
            channels: Channels::Rgba,
            bytes: pixels.concat(),
        }
    }

    #[test]
    fn the_dominant_colour_is_the_mean_of_the_fullest_box() {
        let pixels = [
            [200, 10, 10, 255],
            [202, 12, 10, 255],
            [0, 0, 255, 255],
            [0, 255, 0, 255],
        ];
        assert_eq!(dominant(&picture(&pixels)), [201, 11, 10]);
        let half_hidden = [[0, 0, 255, 10], [0, 0, 255, 10], [0, 255, 0, 255]];
        assert_eq!(dominant(&picture(&half_hidden)), [0, 255, 0]);
        assert_eq!(dominant(&picture(&[[9, 8, 7, 0]])), [9, 8, 7]);
    }

    #[test]
    fn a_look_of_one_pixel_is_its_colour() {
        let look = look_of(picture(&[[255, 128, 0, 255]]));
        assert_eq!(look.dominant, [255, 128, 0]);
        let (r, g, b, a) = thumbhash::thumb_hash_to_average_rgba(&look.thumbhash).unwrap();
        let orange = r > 0.97 && (0.47..0.53).contains(&g) && b < 0.03;
        assert!(orange && a > 0.97, "{r} {g} {b} {a}");
    }
}
