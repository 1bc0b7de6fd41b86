//! Encodes AVIF by rav1e, at its fastest setting.

use ravif::{BitDepth, Encoder, Img, RGB8, RGBA8};

use super::super::RenderError;
use super::super::picture::{Channels, Picture};

/// The most pixels. The encoder takes a second and 60 MiB for each million, and can't be stopped.
const MAX_PIXELS: u64 = 9_000_000;
/// The fastest setting.
const SPEED: u8 = 10;

pub(super) fn encode(picture: Picture, quality: u8) -> Result<Vec<u8>, RenderError> {
    let pixels = u64::from(picture.width) * u64::from(picture.height);
    if pixels > MAX_PIXELS {
        return Err(RenderError::TooManyPixels {
            pixels,
            limit: MAX_PIXELS,
        });
    }
    let quality = f32::from(quality);
    let settings = Encoder::new()
        .with_quality(quality)
        .with_alpha_quality(quality)
        .with_speed(SPEED)
        .with_bit_depth(BitDepth::Eight)
        .with_num_threads(Some(1));
    let (width, height) = (picture.width as usize, picture.height as usize);
    let encoded = if picture.channels == Channels::Rgba {
        let (chunks, _) = picture.bytes.as_chunks::<4>();
        let pixels: Vec<RGBA8> = chunks
            .iter()
            .map(|&[r, g, b, a]| RGBA8 { r, g, b, a })
            .collect();
        drop(picture);
        settings.encode_rgba(Img::new(pixels.as_slice(), width, height))
    } else {
        let (chunks, _) = picture.bytes.as_chunks::<3>();
        let pixels: Vec<RGB8> = chunks.iter().map(|&[r, g, b]| RGB8 { r, g, b }).collect();
        drop(picture);
        settings.encode_rgb(Img::new(pixels.as_slice(), width, height))
    };
    match encoded {
        Ok(image) => Ok(image.avif_file),
        Err(error) => Err(RenderError::Failed(error.to_string())),
    }
}
