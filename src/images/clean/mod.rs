//! Takes out of an image what is not the picture, and mends what viewers pass over: place, camera, author, comments,
//! thumbnails and bytes behind the end go, a missing end is written, wrong counts are put right.
//!
//! [`clean`] reads a file as viewers read it (browsers before all), keeps what they show, and writes it as the
//! format's specification wants it. What it keeps is listed for each format, so that anything new or private goes.
//! It decodes no pixel; pixels stay bit for bit the uploader's, and so does all that tells a viewer how to show
//! them: orientation, display size, colour profile, animation, gain map.
//!
//! What hides inside of what is kept is not looked for: bytes behind the end of a compressed stream, the pixels
//! themselves.
//!
//! What comes out is judged by [`probe`](super::format::probe), which takes nothing but sound files.

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

use std::borrow::Cow;

use super::format::FormatError;
use crate::model::image::Format;
use crate::model::metadata::Kinds;

/// An image without metadata.
#[derive(Debug)]
pub struct Cleaned<'a> {
    /// The image. Borrowed: nothing was removed or mended, these are all bytes as given.
    pub bytes: Cow<'a, [u8]>,
    /// What was removed or mended; empty exactly where `bytes` is borrowed.
    pub removed: Kinds,
    /// Viewers show width and height exchanged.
    pub is_turned: bool,
    /// The file had no end, or its image data ran to the end of the file: whether the picture is complete, decoding has
    /// to tell.
    pub is_open: bool,
    /// Where the image of a gain map begins, which is an image of its own.
    pub gain_map_at: Option<usize>,
    /// Decoding wrote a JPEG anew. It is to be cleaned again: that says where a gain map is now, and gives names to
    /// components that only the removed scans told apart by theirs.
    pub is_moved: bool,
}

/// The image without metadata, at most [`GROWTH`] bytes longer than it came. Cleaning what comes out changes nothing.
///
/// # Errors
/// [`FormatError::Corrupt`] where the parts of the picture can't be found.
pub fn clean(bytes: &[u8], format: Format) -> Result<Cleaned<'_>, FormatError> {
    match format {
        Format::Png => png::clean(bytes),
        Format::Jpeg => jpeg::clean(bytes),
        Format::Gif => gif::clean(bytes),
        Format::Webp => webp::clean(bytes),
    }
}

/// The same, where the gain map of a JPEG was found to be no sound image: without it.
///
/// # Errors
/// As [`clean`].
pub fn clean_base(bytes: &[u8]) -> Result<Cleaned<'_>, FormatError> {
    jpeg::clean_base(bytes)
}

/// How much longer a cleaned image can be: an end, a profile that was compressed better, the metadata of a gain map.
pub const GROWTH: usize = 64 * 1024;

/// An end, a checksum, and the Exif of browsers and of libraries.
const SMALL_GROWTH: usize = 1024;
const _: () = assert!(gain_map::MAX_SEGMENTS_LEN + icc::png::MAX_GROWTH + SMALL_GROWTH <= GROWTH);

#[cfg(test)]
mod tests;
