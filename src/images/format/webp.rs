//! Walks WebP files, by RFC 9649 (container and lossless bitstream) and RFC 6386 (VP8 frame
//! header).
//!
//! The RIFF length must not exceed the file, and the chunks with their padding must fill it
//! exactly. The walk reads only the first bytes of a bitstream, for its dimensions. They must be
//! those of the canvas or frame that contains it.

use std::ops::Range;

use super::reader::Reader;
use super::{FormatError, Probe, Tally};
use crate::model::image::Format;

/// Walks the chunks of the RIFF container and those inside of animation frames.
pub(super) fn probe(bytes: &[u8], mut tally: Tally) -> Result<Probe, FormatError> {
    let mut reader = Reader::new(Format::Webp, bytes);
    reader.take(4, "RIFF signature")?;
    let len = reader.u32_le("RIFF length")?;
    let mut riff = reader.section(len as usize, "RIFF container")?;
    riff.take(4, "WEBP signature")?;
    let mut first = Chunk::read(&mut riff)?;
    match &first.kind {
        b"VP8 " | b"VP8L" => {
            let (width, height) = first.bitstream_size()?;
            tally.canvas(width, height)?;
            tally.add_frame(width, height)?;
            // Readers of the simple form stop here. A further image would be stored but never
            // shown.
            skip_unknown(&mut riff)?;
            Ok(tally.probe())
        }
        b"VP8X" => extended(&mut first, &mut riff, tally),
        _ => Err(first.corrupt("is the first chunk, which must be VP8, VP8L or VP8X")),
    }
}

/// A chunk of RIFF. Its name may be any four bytes: readers skip unknown chunks.
pub(in crate::images) struct Chunk<'a> {
    pub(in crate::images) kind: [u8; 4],
    offset: usize,
    pub(in crate::images) body: Reader<'a>,
    /// Includes the head and the padding.
    pub(in crate::images) whole: Range<usize>,
    pub(in crate::images) is_padded: bool,
}

impl<'a> Chunk<'a> {
    pub(in crate::images) fn read(reader: &mut Reader<'a>) -> Result<Self, FormatError> {
        let offset = reader.offset();
        let kind: [u8; 4] = reader.array("chunk type")?;
        let len = reader.u32_le("chunk length")?;
        let name = kind.escape_ascii();
        let body = reader.section(len as usize, format_args!("{name} chunk"))?;
        let is_padded = len % 2 == 1;
        if is_padded {
            reader.u8(format_args!("padding of the {name} chunk"))?;
        }
        Ok(Self {
            kind,
            offset,
            body,
            whole: offset..reader.offset(),
            is_padded,
        })
    }

    pub(in crate::images) fn corrupt(&self, what: &str) -> FormatError {
        let (name, offset) = (self.kind.escape_ascii(), self.offset);
        self.body
            .corrupt(format_args!("the {name} chunk at byte {offset} {what}"))
    }

    /// Width and height, from the bitstream of a `VP8 ` or `VP8L` chunk.
    pub(in crate::images) fn bitstream_size(&mut self) -> Result<(u32, u32), FormatError> {
        if &self.kind == b"VP8 " {
            self.lossy_size()
        } else {
            self.lossless_size()
        }
    }

    fn lossy_size(&mut self) -> Result<(u32, u32), FormatError> {
        const KEY_FRAME_START: [u8; 3] = [0x9d, 0x01, 0x2a];
        let tag = self.body.u24_le("VP8 frame tag")?;
        let start: [u8; 3] = self.body.array("VP8 start code")?;
        let width = u32::from(self.body.u16_le("VP8 width")? & 0x3fff);
        let height = u32::from(self.body.u16_le("VP8 height")? & 0x3fff);
        let (inter, version, shown) = (tag & 1, tag >> 1 & 7, tag >> 4 & 1);
        if inter != 0 || version > 3 || shown != 1 || start != KEY_FRAME_START {
            return Err(self.corrupt(&format!(
                "begins with tag {tag:06X}, which is not a shown key frame"
            )));
        }
        let partition = tag >> 5;
        if partition == 0 || partition as usize >= self.body.left() {
            return Err(self.corrupt(&format!(
                "is too short for a partition of {partition} bytes"
            )));
        }
        self.nonzero(width, height)
    }

    fn lossless_size(&mut self) -> Result<(u32, u32), FormatError> {
        let signature = self.body.u8("VP8L signature")?;
        let header = self.body.u32_le("VP8L header")?;
        let version = header >> 29;
        if signature != 0x2f || version != 0 {
            return Err(self.corrupt(&format!(
                "has signature {signature:02X} and version {version}, not 2F and 0"
            )));
        }
        if self.body.left() == 0 {
            return Err(self.corrupt("has no data"));
        }
        Ok(((header & 0x3fff) + 1, (header >> 14 & 0x3fff) + 1))
    }

    fn nonzero(&self, width: u32, height: u32) -> Result<(u32, u32), FormatError> {
        if width == 0 || height == 0 {
            return Err(self.corrupt(&format!("has a side of zero: {width} by {height}")));
        }
        Ok((width, height))
    }
}

/// Walks the extended form: `VP8X` announces the canvas and the features; then a still image or
/// frames follow.
fn extended(
    header: &mut Chunk<'_>,
    riff: &mut Reader<'_>,
    mut tally: Tally,
) -> Result<Probe, FormatError> {
    const ANIMATED: u8 = 0x02;
    const RESERVED: u8 = 0xc1;
    let [flags, _, _, _] = header.body.array("VP8X flags")?;
    if flags & RESERVED != 0 {
        return Err(header.corrupt(&format!("has reserved flags set: {flags:02X}")));
    }
    let width = header.body.u24_le("canvas width")? + 1;
    let height = header.body.u24_le("canvas height")? + 1;
    header.body.finish("VP8X chunk")?;
    tally.canvas(width, height)?;
    if flags & ANIMATED == 0 {
        one_image(riff, (width, height), header)?;
        tally.add_frame(width, height)?;
    } else {
        animation(riff, &mut tally)?;
        if tally.frames == 0 {
            return Err(header.corrupt("announces an animation without frames"));
        }
    }
    Ok(tally.probe())
}

fn animation(riff: &mut Reader<'_>, tally: &mut Tally) -> Result<(), FormatError> {
    let mut controlled = false;
    while riff.left() > 0 {
        let mut chunk = Chunk::read(riff)?;
        match &chunk.kind {
            b"ANIM" => {
                if controlled || chunk.body.left() != 6 {
                    return Err(chunk.corrupt("is a second one, or does not have 6 bytes"));
                }
                controlled = true;
            }
            b"ANMF" if controlled => animation_frame(&mut chunk, tally)?,
            b"ANMF" => return Err(chunk.corrupt("comes before the ANIM chunk")),
            b"VP8 " | b"VP8L" | b"VP8X" | b"ALPH" => {
                return Err(chunk.corrupt("is an image outside of the animation's frames"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn animation_frame(chunk: &mut Chunk<'_>, tally: &mut Tally) -> Result<(), FormatError> {
    let left = chunk.body.u24_le("frame offset")? * 2;
    let top = chunk.body.u24_le("frame offset")? * 2;
    let width = chunk.body.u24_le("frame width")? + 1;
    let height = chunk.body.u24_le("frame height")? + 1;
    let _duration_and_flags = chunk.body.u32_le("frame duration")?;
    if left + width > tally.width || top + height > tally.height {
        let (canvas_width, canvas_height) = (tally.width, tally.height);
        return Err(chunk.corrupt(&format!(
            "puts a frame of {width} by {height} at {left}, {top} on a canvas of {canvas_width} \
             by {canvas_height}"
        )));
    }
    tally.add_frame(width, height)?;
    let mut body = chunk.body.section(chunk.body.left(), "frame")?;
    one_image(&mut body, (width, height), chunk)
}

/// Reads chunks to the end of `parent`: one bitstream of this size, with or without alpha.
fn one_image(
    chunks: &mut Reader<'_>,
    size: (u32, u32),
    parent: &Chunk<'_>,
) -> Result<(), FormatError> {
    let mut alpha = false;
    let mut images = 0_u32;
    while chunks.left() > 0 {
        let mut chunk = Chunk::read(chunks)?;
        match &chunk.kind {
            b"ALPH" => {
                let head = chunk.body.u8("ALPH header")?;
                if alpha || images > 0 || head & 3 > 1 || chunk.body.left() == 0 {
                    return Err(chunk.corrupt("is not allowed here, or has an unknown compression"));
                }
                alpha = true;
            }
            b"VP8 " | b"VP8L" => {
                let found = chunk.bitstream_size()?;
                if found != size || images > 0 || (alpha && &chunk.kind == b"VP8L") {
                    let ((width, height), (want_width, want_height)) = (found, size);
                    return Err(chunk.corrupt(&format!(
                        "is {width} by {height} where one image of {want_width} by {want_height} \
                         belongs"
                    )));
                }
                images += 1;
            }
            b"VP8X" | b"ANMF" => return Err(chunk.corrupt("is not allowed here")),
            _ => {}
        }
    }
    if images == 0 {
        return Err(parent.corrupt("has no image"));
    }
    Ok(())
}

/// Reads chunks to the end and rejects those that would be a second image.
fn skip_unknown(riff: &mut Reader<'_>) -> Result<(), FormatError> {
    while riff.left() > 0 {
        let chunk = Chunk::read(riff)?;
        if matches!(
            &chunk.kind,
            b"VP8 " | b"VP8L" | b"VP8X" | b"ALPH" | b"ANIM" | b"ANMF"
        ) {
            return Err(chunk.corrupt("is not allowed here"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
