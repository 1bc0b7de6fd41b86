//! Encodes baseline JPEG.

use jpeg_encoder::{ColorType, Encoder};

use super::super::RenderError;
use super::super::picture::{Channels, Picture};

/// Huffman tables are made for the picture up to this many pixels: their making keeps all
/// coefficients in memory.
const MANY_PIXELS: u64 = 17 << 20;

pub(super) fn encode(picture: Picture, quality: u8) -> Result<Vec<u8>, RenderError> {
    let picture = picture.on_white();
    let (Ok(width), Ok(height)) = (u16::try_from(picture.width), u16::try_from(picture.height))
    else {
        return Err(RenderError::SideTooLong {
            width: picture.width,
            height: picture.height,
            limit: u32::from(u16::MAX),
        });
    };
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, quality);
    let pixels = u64::from(picture.width) * u64::from(picture.height);
    encoder.set_optimized_huffman_tables(pixels <= MANY_PIXELS);
    let colour = match picture.channels {
        Channels::Grey => ColorType::Luma,
        Channels::Rgb => ColorType::Rgb,
        Channels::Rgba => ColorType::Rgba,
        Channels::Cmyk => ColorType::Cmyk,
    };
    let written = encoder.encode(&picture.bytes, width, height, colour);
    written.map_err(|error| RenderError::Failed(error.to_string()))?;
    Ok(bytes)
}
