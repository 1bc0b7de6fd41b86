//! Encodes PNG with 8 bits a channel.

use std::io::Write;

use png::{BitDepth, ColorType, Compression, Encoder, EncodingError};

use super::super::RenderError;
use super::super::picture::{Channels, Picture};
use super::super::stop::Stop;

/// Rows that are compressed between two looks at `stop`.
const ROWS: usize = 16;
/// Larger pictures are compressed less, in a quarter of the time.
const MANY_PIXELS: usize = 4 << 20;

pub(super) fn encode(picture: &Picture, stop: &Stop) -> Result<Vec<u8>, RenderError> {
    let failed = |error: EncodingError| RenderError::Failed(error.to_string());
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, picture.width, picture.height);
    encoder.set_color(match picture.channels {
        Channels::Grey => ColorType::Grayscale,
        Channels::Rgb => ColorType::Rgb,
        Channels::Rgba | Channels::Cmyk => ColorType::Rgba,
    });
    encoder.set_depth(BitDepth::Eight);
    let pixels = picture.width as usize * picture.height as usize;
    encoder.set_compression(if pixels > MANY_PIXELS {
        Compression::Fast
    } else {
        Compression::Balanced
    });
    let mut writer = encoder.write_header().map_err(failed)?;
    let mut stream = writer.stream_writer().map_err(failed)?;
    for rows in picture.bytes.chunks(picture.stride().max(1) * ROWS) {
        stop.check()?;
        let written = stream.write_all(rows);
        written.map_err(|error| RenderError::Failed(error.to_string()))?;
    }
    stream.finish().map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}
