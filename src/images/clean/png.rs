//! PNG and APNG: which chunks stay, by PNG (Third Edition), <https://www.w3.org/TR/png-3/>.
//!
//! The name inside of `iCCP` stays with the profile. Orientation in `eXIf` stays where it is: Chromium
//! applies it since 2024, if it comes before the image data. That in a compressed text chunk of
//! `ImageMagick` ("Raw profile type exif") is not read, and goes.

use std::borrow::Cow;

use super::exif::{FirstOrientation, TIFF_LEN};
use super::output::Output;
use crate::images::format::FormatError;
use crate::images::format::crc32::crc32;
use crate::images::format::png::SIGNATURE;
use crate::images::format::reader::Reader;
use crate::model::image::Format;

/// Copies the chunks that make the picture, up to `IEND`. Checksums were checked by the probe.
pub(super) fn clean(bytes: &[u8]) -> Result<Cow<'_, [u8]>, FormatError> {
    let mut reader = Reader::new(Format::Png, bytes);
    let mut output = Output::new(bytes);
    let mut orientation = FirstOrientation::default();
    let mut profiled = false;
    reader.take(SIGNATURE.len(), "signature")?;
    output.keep(0..reader.offset());
    loop {
        let start = reader.offset();
        let len = reader.u32_be("chunk length")?;
        let kind: [u8; 4] = reader.array("chunk type")?;
        let body = reader.take(len as usize, "chunk")?;
        reader.take(4, "chunk checksum")?;
        let whole = start..reader.offset();
        // Decoders look at the first profile alone: were it to go, a later one would come to be used.
        let second_profile = &kind == b"iCCP" && std::mem::replace(&mut profiled, true);
        if stays(kind, body) && !second_profile {
            output.keep(whole);
        } else if &kind == b"eXIf"
            && let Some(tiff) = orientation.replacement(body)
        {
            if body == tiff {
                output.keep(whole);
            } else {
                output.write(&exif_chunk(&tiff));
            }
        }
        if &kind == b"IEND" {
            return Ok(output.finish());
        }
    }
}

/// Whether a chunk changes how the picture looks and has a form in which decoders use it: what they
/// ignore is not worth its secrets. Suggested palettes and histograms (`sPLT`, `hIST`) serve displays
/// of 256 colours.
fn stays(kind: [u8; 4], body: &[u8]) -> bool {
    match &kind {
        b"IHDR" | b"PLTE" | b"IDAT" | b"IEND" | b"acTL" | b"fcTL" | b"fdAT" => true,
        b"tRNS" => body.len() <= 256,
        b"gAMA" => body.len() == 4,
        b"cHRM" => body.len() == 32,
        b"sRGB" => body.len() == 1,
        b"iCCP" => is_profile(body),
        b"cICP" => body.len() == 4,
        // The small letters are of drafts, from which files were written.
        b"mDCV" | b"mDCv" => body.len() == 24,
        b"cLLI" | b"cLLi" => body.len() == 8,
        b"sBIT" => matches!(body.len(), 1..=4),
        b"bKGD" => matches!(body.len(), 1 | 2 | 6),
        b"pHYs" => body.len() == 9,
        _ => false,
    }
}

/// A name and its end, and the compression method. The probe has bounded the rest. A name has at most 79
/// bytes, and the png crate takes 80: to it, a picture without that profile would look other.
fn is_profile(body: &[u8]) -> bool {
    let name_len = body.iter().take(81).position(|byte| *byte == 0);
    name_len.is_some_and(|name_len| name_len > 0 && body.get(name_len + 1) == Some(&0))
}

fn exif_chunk(tiff: &[u8; TIFF_LEN]) -> [u8; TIFF_LEN + 12] {
    let mut chunk = [0; TIFF_LEN + 12];
    let checksum = crc32([b"eXIf", tiff]).to_be_bytes();
    let fields: [&[u8]; 4] = [b"\0\0\0\x1a", b"eXIf", tiff, &checksum];
    for (place, byte) in chunk.iter_mut().zip(fields.into_iter().flatten()) {
        *place = *byte;
    }
    chunk
}

#[cfg(test)]
mod tests;
