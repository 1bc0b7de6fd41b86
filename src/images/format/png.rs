//! Walks PNG and APNG files, by PNG (Third Edition), <https://www.w3.org/TR/png-3/>.
//!
//! The walk verifies the checksum of every chunk. Critical chunks must be known and in order. An
//! animation must have exactly the frames that it announces. Ancillary chunks are skipped, but for
//! compressed text and profiles, whose inflated size is limited.

use super::crc32::crc32;
use super::inflate::Compressed;
use super::limits::{MAX_DEFLATED, MAX_INFLATED};
use super::reader::Reader;
use super::{FormatError, Probe, Tally, check_frames};
use crate::model::image::Format;

pub(in crate::images) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Walks the chunks from the signature to `IEND`.
pub(super) fn probe(bytes: &[u8], tally: Tally) -> Result<Probe, FormatError> {
    let mut reader = Reader::new(Format::Png, bytes);
    reader.take(SIGNATURE.len(), "signature")?;
    let mut walk = Walk::start(Chunk::read(&mut reader)?, tally)?;
    loop {
        let chunk = Chunk::read(&mut reader)?;
        if &chunk.kind != b"IDAT" && walk.image_data == ImageData::Open {
            walk.image_data = ImageData::Closed;
        }
        match &chunk.kind {
            b"IEND" => return walk.end(&chunk),
            b"IDAT" => walk.image_data(&chunk)?,
            b"PLTE" => walk.palette(&chunk)?,
            b"acTL" => walk.animation_control(chunk)?,
            b"fcTL" => walk.frame_control(chunk)?,
            b"fdAT" => walk.frame_data(chunk)?,
            [b'A'..=b'Z', ..] => {
                return Err(
                    chunk.corrupt("is critical but unknown, or is not allowed at this place")
                );
            }
            _ => walk.count_compressed(&chunk)?,
        }
    }
}

struct Chunk<'a> {
    kind: [u8; 4],
    offset: usize,
    body: Reader<'a>,
}

impl<'a> Chunk<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, FormatError> {
        let offset = reader.offset();
        let len = reader.u32_be("chunk length")?;
        let kind: [u8; 4] = reader.array("chunk type")?;
        if !kind.iter().all(u8::is_ascii_alphabetic) || len > u32::MAX >> 1 {
            return Err(reader.corrupt(format_args!(
                "at byte {offset} should be a chunk and is not: type '{}', length {len}",
                kind.escape_ascii()
            )));
        }
        let name = kind.escape_ascii();
        let body = reader.section(len as usize, format_args!("{name} chunk"))?;
        let chunk = Self { kind, offset, body };
        if reader.u32_be("chunk checksum")? != crc32([&kind, chunk.body.rest()]) {
            return Err(chunk.corrupt("does not match its checksum"));
        }
        Ok(chunk)
    }

    fn corrupt(&self, what: &str) -> FormatError {
        let (name, offset) = (self.kind.escape_ascii(), self.offset);
        self.body
            .corrupt(format_args!("the {name} chunk at byte {offset} {what}"))
    }

    /// The zlib stream in a chunk of text or of a profile, if it is compressed.
    fn deflated(&self) -> Option<&'a [u8]> {
        let after = |bytes: &'a [u8]| {
            let end = bytes.iter().position(|byte| *byte == 0)?;
            bytes.get(end + 1..)
        };
        let rest = after(self.body.rest())?;
        match &self.kind {
            // A name, then the compression method, which must be 0.
            b"zTXt" | b"iCCP" => rest.strip_prefix(b"\0"),
            // Keyword, flag and method; then the language and the translated keyword.
            b"iTXt" => after(after(rest.strip_prefix(b"\x01\0")?)?),
            _ => None,
        }
    }

    /// Rejects any other length, so that the fields of the chunk can be read without naming each in
    /// errors.
    fn expect_len(&self, len: usize) -> Result<(), FormatError> {
        if self.body.left() != len {
            return Err(self.corrupt(&format!("has {} bytes, not {len}", self.body.left())));
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Palette {
    Optional,
    Needed,
    Found,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ImageData {
    Missing,
    Open,
    Closed,
}

/// What later chunks depend on.
struct Walk {
    width: u32,
    height: u32,
    palette: Palette,
    image_data: ImageData,
    /// The current image or frame has no compressed data yet.
    needs_data: bool,
    /// A frame behind the default image is being read.
    in_frame: bool,
    announced: Option<u32>,
    sequence: u32,
    tally: Tally,
    compressed: Compressed,
}

impl Walk {
    fn start(mut header: Chunk<'_>, mut tally: Tally) -> Result<Self, FormatError> {
        if &header.kind != b"IHDR" {
            return Err(header.corrupt("is the first chunk, which must be IHDR"));
        }
        header.expect_len(13)?;
        let width = header.body.u32_be("width")?;
        let height = header.body.u32_be("height")?;
        if width == 0 || height == 0 {
            return Err(header.corrupt(&format!("has a side of zero: {width} by {height}")));
        }
        let [depth, colour, compression, filter, interlace] = header.body.array("header")?;
        if !matches!(
            (colour, depth),
            (0, 1 | 2 | 4 | 8 | 16) | (3, 1 | 2 | 4 | 8) | (2 | 4 | 6, 8 | 16)
        ) {
            return Err(header.corrupt(&format!(
                "has bit depth {depth}, which colour type {colour} does not allow"
            )));
        }
        if compression != 0 || filter != 0 || interlace > 1 {
            return Err(header.corrupt(&format!(
                "has compression {compression}, filter {filter} and interlace {interlace}, one of which is unknown"
            )));
        }
        tally.canvas(width, height)?;
        Ok(Self {
            width,
            height,
            palette: if colour == 3 {
                Palette::Needed
            } else {
                Palette::Optional
            },
            image_data: ImageData::Missing,
            needs_data: true,
            in_frame: false,
            announced: None,
            sequence: 0,
            tally,
            compressed: Compressed::default(),
        })
    }

    fn count_compressed(&mut self, chunk: &Chunk<'_>) -> Result<(), FormatError> {
        let Some(deflated) = chunk.deflated() else {
            return Ok(());
        };
        self.compressed.add(deflated).map_err(|_| {
            chunk.corrupt(&format!(
                "exceeds the limit: all compressed text and profiles together may have {MAX_DEFLATED} bytes, and {MAX_INFLATED} when inflated"
            ))
        })
    }

    fn palette(&mut self, chunk: &Chunk<'_>) -> Result<(), FormatError> {
        if self.palette == Palette::Found || self.image_data != ImageData::Missing {
            return Err(chunk.corrupt("is a second palette, or comes after the image data"));
        }
        let len = chunk.body.left();
        if len == 0 || len > 3 * 256 || !len.is_multiple_of(3) {
            return Err(chunk.corrupt(&format!(
                "has {len} bytes, but a palette has 3 to 768, a multiple of 3"
            )));
        }
        self.palette = Palette::Found;
        Ok(())
    }

    fn image_data(&mut self, chunk: &Chunk<'_>) -> Result<(), FormatError> {
        match self.image_data {
            ImageData::Closed => {
                return Err(
                    chunk.corrupt("is separated from the other image data by another chunk")
                );
            }
            ImageData::Open => {}
            ImageData::Missing => {
                if self.palette == Palette::Needed {
                    return Err(chunk.corrupt("needs a palette (PLTE) before it"));
                }
                match (self.announced, self.tally.frames) {
                    (None, _) => self.tally.add_frame(self.width, self.height)?,
                    // A default image outside of the animation is decoded but not shown.
                    (Some(_), 0) => self.tally.add_pixels(self.width, self.height)?,
                    (Some(_), _) => {}
                }
                self.image_data = ImageData::Open;
            }
        }
        self.needs_data &= chunk.body.left() == 0;
        Ok(())
    }

    fn animation_control(&mut self, mut chunk: Chunk<'_>) -> Result<(), FormatError> {
        if self.announced.is_some() || self.image_data != ImageData::Missing {
            return Err(chunk.corrupt("is a second one, or comes after the image data"));
        }
        chunk.expect_len(8)?;
        let frames = chunk.body.u32_be("frame count")?;
        if frames == 0 {
            return Err(chunk.corrupt("announces no frames"));
        }
        check_frames(frames)?;
        // Numbers in PNG have 31 bits. With a larger one, browsers show a still image.
        if chunk.body.u32_be("repetitions")? > u32::MAX >> 1 {
            return Err(chunk.corrupt("announces more than 2147483647 repetitions"));
        }
        self.announced = Some(frames);
        Ok(())
    }

    fn frame_control(&mut self, mut chunk: Chunk<'_>) -> Result<(), FormatError> {
        chunk.expect_len(26)?;
        self.check_sequence(&mut chunk)?;
        let width = chunk.body.u32_be("frame width")?;
        let height = chunk.body.u32_be("frame height")?;
        let left = chunk.body.u32_be("frame offset")?;
        let top = chunk.body.u32_be("frame offset")?;
        let _delay: [u8; 4] = chunk.body.array("frame delay")?;
        let [dispose, blend] = chunk.body.array("frame operations")?;
        let fits = |offset: u32, side: u32, canvas: u32| {
            side > 0 && offset.checked_add(side).is_some_and(|end| end <= canvas)
        };
        if !fits(left, width, self.width) || !fits(top, height, self.height) {
            let (canvas_width, canvas_height) = (self.width, self.height);
            return Err(chunk.corrupt(&format!(
                "puts a frame of {width} by {height} at {left}, {top} on a canvas of \
                 {canvas_width} by {canvas_height}"
            )));
        }
        if dispose > 2 || blend > 1 {
            return Err(chunk.corrupt(&format!(
                "has disposal {dispose} and blending {blend}, one of which is unknown"
            )));
        }
        if self.image_data == ImageData::Missing {
            if self.tally.frames > 0 || (width, height) != (self.width, self.height) {
                return Err(chunk.corrupt(
                    "must have the size and the place of the default image that follows",
                ));
            }
        } else {
            if self.needs_data {
                return Err(chunk.corrupt("follows an image or a frame without data"));
            }
            self.in_frame = true;
            self.needs_data = true;
        }
        self.tally.add_frame(width, height)
    }

    fn frame_data(&mut self, mut chunk: Chunk<'_>) -> Result<(), FormatError> {
        if !self.in_frame {
            return Err(chunk.corrupt("does not follow a frame control (fcTL)"));
        }
        self.check_sequence(&mut chunk)?;
        self.needs_data &= chunk.body.left() == 0;
        Ok(())
    }

    fn check_sequence(&mut self, chunk: &mut Chunk<'_>) -> Result<(), FormatError> {
        if self.announced.is_none() {
            return Err(chunk.corrupt("belongs to an animation, but no acTL chunk precedes it"));
        }
        let found = chunk.body.u32_be("sequence number")?;
        if found != self.sequence {
            let expected = self.sequence;
            return Err(chunk.corrupt(&format!("has sequence number {found}, not {expected}")));
        }
        self.sequence = self.sequence.saturating_add(1);
        Ok(())
    }

    fn end(&self, chunk: &Chunk<'_>) -> Result<Probe, FormatError> {
        chunk.expect_len(0)?;
        if self.needs_data {
            return Err(chunk.corrupt("comes before any image data"));
        }
        let frames = self.tally.frames;
        if self.announced.is_some_and(|announced| announced != frames) {
            return Err(chunk.corrupt(&format!(
                "comes after {frames} frames, but acTL announces another number"
            )));
        }
        Ok(self.tally.probe())
    }
}

#[cfg(test)]
mod tests;
