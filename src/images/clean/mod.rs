//! Removes metadata from images and repairs faults that viewers tolerate.
//!
//! Cleaning removes place, camera, author, comments, thumbnails and bytes behind the end. It writes
//! a missing end and corrects wrong counts.
//!
//! [`clean`] reads a file as viewers do, browsers first. It keeps the parts that they show and
//! writes them as the specification of the format requires. Each format has a list of what is kept,
//! so new and private parts are removed. No pixel is decoded or changed. Everything that affects
//! the display is kept: orientation, display size, colour profile, animation, gain map.
//!
//! Data that hides inside of kept parts is not found: bytes behind the end of a compressed stream,
//! and the pixels themselves.
//!
//! The result must pass [`probe`](super::format::probe), which accepts only sound files.

mod exif;
mod gain_map;
mod gif;
mod icc;
mod jpeg;
mod kinds;
mod output;
mod png;
mod tiff;
mod webp;

use std::ops::Deref;

use super::decode::jpeg::pixels::Small;
use super::format::FormatError;
use crate::model::image::Format;
use crate::model::metadata::Kinds;
use crate::system::pages::Buffer;

/// The bytes of a cleaned image.
#[derive(Debug)]
pub enum Content<'a> {
    /// The whole input: nothing was removed or repaired.
    Unchanged(&'a [u8]),
    /// A copy that differs from the input.
    Changed(Buffer),
}

impl Deref for Content<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Unchanged(input) => input,
            Self::Changed(copy) => copy,
        }
    }
}

/// An image without metadata.
#[derive(Debug)]
pub struct Cleaned<'a> {
    /// The image.
    pub bytes: Content<'a>,
    /// What was removed or repaired; empty if and only if `bytes` is unchanged.
    pub removed: Kinds,
    /// The Exif orientation that browsers apply, 1 to 8; 1 if there is none.
    pub orientation: u8,
    /// The file had no end marker, or its image data ran to the end of the file. Decoding must tell
    /// whether the picture is complete.
    pub is_open: bool,
    /// Offset of the gain map, which is an image of its own.
    pub gain_map_at: Option<usize>,
    /// Decoding has rewritten a JPEG, so it must be cleaned again. That finds the new place of a
    /// gain map, and renames components that only the removed scans told apart.
    pub is_moved: bool,
    /// An eighth of the picture, which decoding gathers of a JPEG.
    pub(in crate::images) small: Option<Small>,
}

impl Cleaned<'_> {
    /// Whether viewers show width and height exchanged.
    pub const fn is_turned(&self) -> bool {
        self.orientation > 4
    }
}

/// Returns the image without metadata, at most [`GROWTH`] bytes longer than the input. Cleaning the
/// result again changes nothing.
///
/// # Errors
/// [`FormatError::Corrupt`] if the parts of the picture can't be found.
pub fn clean(bytes: &[u8], format: Format) -> Result<Cleaned<'_>, FormatError> {
    match format {
        Format::Png => png::clean(bytes),
        Format::Jpeg => jpeg::clean(bytes),
        Format::Gif => gif::clean(bytes),
        Format::Webp => webp::clean(bytes),
    }
}

/// Cleans a JPEG and drops its gain map, because the map is not a sound image.
///
/// # Errors
/// As [`clean`].
pub fn clean_base(bytes: &[u8]) -> Result<Cleaned<'_>, FormatError> {
    jpeg::clean_base(bytes)
}

/// The most bytes by which cleaning can lengthen an image: an end, a profile that had been
/// compressed better, the metadata of a gain map.
pub const GROWTH: usize = 64 * 1024;

/// For an end, a checksum, and the Exif of browsers and of libraries.
const SMALL_GROWTH: usize = 1024;
const _: () = assert!(gain_map::MAX_SEGMENTS_LEN + icc::png::MAX_GROWTH + SMALL_GROWTH <= GROWTH);

#[cfg(test)]
mod tests;
