//! Encodes lossy WebP by libwebp, with the method that it uses by default.

use webp::{Encoder, PixelLayout, WebPConfig};

use super::super::RenderError;
use super::super::picture::{Channels, Picture};

/// The longest side of a WebP image, in pixels.
const MAX_SIDE: u32 = 16_383;

/// Encodes a picture in RGB or RGBA as a file.
pub(in crate::images::render) fn encode(
    picture: &Picture,
    quality: u8,
) -> Result<Vec<u8>, RenderError> {
    let (width, height) = (picture.width, picture.height);
    if width.max(height) > MAX_SIDE {
        return Err(RenderError::SideTooLong {
            width,
            height,
            limit: MAX_SIDE,
        });
    }
    let layout = match picture.channels {
        Channels::Rgb => PixelLayout::Rgb,
        Channels::Rgba => PixelLayout::Rgba,
        Channels::Grey | Channels::Cmyk => {
            return Err(RenderError::Failed("WebP has no such channels".to_owned()));
        }
    };
    if picture.bytes.len() != picture.stride() * height as usize {
        return Err(RenderError::Failed(
            "the picture has no such size".to_owned(),
        ));
    }
    let mut config = WebPConfig::new()
        .map_err(|()| RenderError::Failed("libwebp has another version".to_owned()))?;
    config.quality = f32::from(quality);
    let encoded = Encoder::new(&picture.bytes, layout, width, height).encode_advanced(&config);
    match encoded {
        Ok(bytes) => Ok(bytes.to_vec()),
        Err(error) => Err(RenderError::Failed(format!("libwebp: {error:?}"))),
    }
}
