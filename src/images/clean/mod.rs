//! Takes out of an image what is not the picture: place, camera, author, comments, thumbnails, and
//! whatever follows the container's end.
//!
//! [`clean`] walks the container once, copies what it keeps and rebuilds the few fields that count
//! bytes. What it keeps is listed for each format, so that anything new or private goes. It decodes
//! nothing and inflates nothing; pixels stay bit for bit the uploader's, and so does all that tells a
//! viewer how to show them: orientation, colour profile, animation.
//!
//! What hides inside of what is kept is not looked for: text in a colour profile, bytes behind the end
//! of a compressed stream, the pixels themselves.
//!
//! Files were accepted by [`probe`](super::format::probe) before. The walkers here share its readers,
//! so that both see the same structure, and don't repeat its checks; other bytes get an error or come
//! out in pieces, and never cause a panic.

mod exif;
mod gif;
mod jpeg;
mod output;
mod png;
mod webp;

use std::borrow::Cow;

use super::format::FormatError;
use crate::model::image::Format;

/// The image without metadata. Borrowed means that there was nothing to remove: all bytes as given.
/// New bytes are at most [`GROWTH`] longer, and [`probe`](super::format::probe) says the same of them.
pub fn clean(bytes: &[u8], format: Format) -> Result<Cow<'_, [u8]>, FormatError> {
    match format {
        Format::Png => png::clean(bytes),
        Format::Jpeg => jpeg::clean(bytes),
        Format::Gif => gif::clean(bytes),
        Format::Webp => webp::clean(bytes),
    }
}

/// How much longer a cleaned image can be: Exif may lack the end mark that ours has.
pub const GROWTH: usize = 4;

#[cfg(test)]
mod tests;
