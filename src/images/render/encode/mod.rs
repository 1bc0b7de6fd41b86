//! Encodes a picture as PNG, JPEG, WebP or AVIF, without any metadata.

mod avif;
mod jpeg;
mod png;
pub(super) mod webp;

use super::RenderError;
use super::picture::Picture;
use super::stop::Stop;
use crate::model::format::Format;
use crate::model::variant::Output;

/// The quality of a variant that names none. The values give about the same likeness to the
/// original.
const fn default_quality(output: Output) -> u8 {
    match output {
        Output::Png => 100,
        Output::Jpeg | Output::WebP => 80,
        Output::Avif => 65,
    }
}

/// The quality to encode with, 1 to 100.
pub(super) fn quality(output: Output, wanted: Option<u8>) -> u8 {
    wanted
        .unwrap_or_else(|| default_quality(output))
        .clamp(1, 100)
}

/// Encodes a picture in grey, RGB or RGBA, which was made of a file in the format `source`.
///
/// # Errors
/// [`RenderError::SideTooLong`] and [`RenderError::TooManyPixels`] if the format or its encoder
/// can't take the picture; [`RenderError::Stopped`]; [`RenderError::Failed`].
pub(super) fn encode(
    picture: Picture,
    source: Format,
    output: Output,
    wanted: Option<u8>,
    stop: &Stop,
) -> Result<Vec<u8>, RenderError> {
    let quality = quality(output, wanted);
    match output {
        Output::Png => png::encode(&picture, stop),
        Output::Jpeg => jpeg::encode(picture, quality),
        Output::WebP => webp::encode(&picture.without_useless_alpha().in_colour(), quality),
        Output::Avif => avif::encode(
            picture.without_useless_alpha().in_colour(),
            source == Format::Jpeg,
            quality,
        ),
    }
}
