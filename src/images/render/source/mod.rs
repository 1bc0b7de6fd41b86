//! Decodes stored images to rows of pixels.
//!
//! All decoders are in safe Rust. They read files that passed the check of an upload.

mod canvas;
pub(super) mod gif;
pub(super) mod jpeg;
mod png;
pub(super) mod webp;

use super::RenderError;
use super::picture::Channels;
use super::stop::Stop;
use crate::images::decode::jpeg::pixels::Side;
use crate::model::format::Format;

/// What the channels of a picture mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Colours {
    /// The file does not say, so they are sRGB, or ink without a profile.
    Unknown,
    /// An ICC profile.
    Icc(Vec<u8>),
    /// Code points of ITU-T H.273: primaries and transfer.
    Cicp((u8, u8)),
}

/// What a decoder knows before the first row.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// Width in pixels, before any orientation is applied.
    pub(super) width: u32,
    /// Height in pixels, before any orientation is applied.
    pub(super) height: u32,
    pub(super) channels: Channels,
    pub(super) colours: Colours,
    /// Whether the decoder can return rows of a smaller picture.
    pub(super) can_reduce: bool,
    /// Bytes of memory that decoding takes at the full size.
    pub(super) memory: u64,
}

/// Receives a picture.
pub(super) trait Sink {
    /// Takes what is known before the first row. Returns how many pixels the decoder makes of 8,
    /// which must be all 8 if it can't reduce.
    fn begin(&mut self, head: Head) -> Result<Side, RenderError>;
    /// Takes the next row.
    fn row(&mut self, row: &[u8]) -> Result<(), RenderError>;
}

/// Decodes an image, of an animation the first frame, and passes its rows to `sink`.
pub(super) fn read(
    bytes: &[u8],
    format: Format,
    stop: &Stop,
    sink: &mut dyn Sink,
) -> Result<(), RenderError> {
    match format {
        Format::Jpeg => jpeg::read(bytes, stop, sink),
        Format::Png => png::read(bytes, stop, sink),
        Format::Gif => gif::read(bytes, stop, sink),
        Format::Webp => webp::read(bytes, stop, sink),
    }
}
