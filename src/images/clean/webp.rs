//! WebP: which chunks stay, by RFC 9649.
//!
//! Browsers ignore the orientation in WebP's Exif so far, image viewers and libraries apply it. It
//! stays alone, and each goes on as before. The bits that announce alpha, animation and profile are
//! the uploader's, since decoders choose by them; those of Exif and XMP say what is left.

use std::borrow::Cow;

use super::exif::FirstOrientation;
use super::output::Output;
use crate::images::format::FormatError;
use crate::images::format::reader::Reader;
use crate::images::format::webp::Chunk;
use crate::model::image::Format;

const EXIF_FLAG: u8 = 0x08;
const XMP_FLAG: u8 = 0x04;
const ANIMATION_FLAG: u8 = 0x02;

/// Copies the chunks that make the picture, and counts the bytes anew.
pub(super) fn clean(bytes: &[u8]) -> Result<Cow<'_, [u8]>, FormatError> {
    let mut reader = Reader::new(Format::Webp, bytes);
    reader.take(4, "RIFF signature")?;
    let len = reader.u32_le("RIFF length")?;
    let mut riff = reader.section(len as usize, "RIFF container")?;
    riff.take(4, "WEBP signature")?;
    let mut output = Output::new(bytes);
    output.keep(0..riff.offset());
    let mut first = Chunk::read(&mut riff)?;
    output.keep(first.offset..riff.offset());
    // Readers of the simple form look no further than the image that it begins with.
    if &first.kind == b"VP8X" {
        let flags_at = first.body.offset();
        let flags = first.body.u8("VP8X flags")?;
        let exif_flag = extended(flags, &mut riff, &mut output)?;
        let flags = flags & !(EXIF_FLAG | XMP_FLAG) | exif_flag;
        output.patch(flags_at, &[flags]);
    }
    close_chunk(&mut output, 0, &reader)?;
    Ok(output.finish())
}

/// Goes through the chunks after `VP8X`; returns the flag of Exif if there still is some.
fn extended<'a>(
    flags: u8,
    riff: &mut Reader<'a>,
    output: &mut Output<'a>,
) -> Result<u8, FormatError> {
    let animated = flags & ANIMATION_FLAG != 0;
    let mut orientation = FirstOrientation::default();
    let mut profile = false;
    let mut exif_flag = 0;
    while riff.left() > 0 {
        let mut chunk = Chunk::read(riff)?;
        let whole = chunk.offset..riff.offset();
        match &chunk.kind {
            b"VP8 " | b"VP8L" | b"ALPH" if !animated => output.keep(whole),
            b"ANIM" if animated => output.keep(whole),
            b"ANMF" if animated => frame(&mut chunk, output)?,
            // Of several, readers take the first.
            b"ICCP" if !profile => {
                profile = true;
                output.keep(whole);
            }
            b"EXIF" => {
                let body = chunk.body.rest();
                // Some encoders put in front what belongs to JPEG, and readers put up with it.
                let tiff = body.strip_prefix(b"Exif\0\0").unwrap_or(body);
                if let Some(tiff) = orientation.replacement(tiff) {
                    exif_flag = EXIF_FLAG;
                    if body == tiff {
                        output.keep(whole);
                    } else {
                        output.write(b"EXIF\x1a\0\0\0");
                        output.write(&tiff);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(exif_flag)
}

/// Copies a frame without the unknown chunks that may stand in it.
fn frame(chunk: &mut Chunk<'_>, output: &mut Output<'_>) -> Result<(), FormatError> {
    let start = output.len();
    chunk.body.take(16, "frame header")?;
    output.keep(chunk.offset..chunk.body.offset());
    while chunk.body.left() > 0 {
        let part = Chunk::read(&mut chunk.body)?;
        if matches!(&part.kind, b"ALPH" | b"VP8 " | b"VP8L") {
            output.keep(part.offset..chunk.body.offset());
        }
    }
    close_chunk(output, start, &chunk.body)
}

/// Writes the length of the chunk that began at `start` and ends here. It needs no padding: its parts
/// have theirs.
fn close_chunk(
    output: &mut Output<'_>,
    start: usize,
    reader: &Reader<'_>,
) -> Result<(), FormatError> {
    let len = output.len().saturating_sub(start + 8);
    let len = u32::try_from(len)
        .map_err(|_| reader.corrupt(format_args!("it has more than 4 GiB in one chunk")))?;
    output.patch(start + 4, &len.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests;
