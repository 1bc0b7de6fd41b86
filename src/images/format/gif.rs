//! Walks GIF files, by `GIF87a` and `GIF89a`, <https://www.w3.org/Graphics/GIF/spec-gif89a.txt>.
//!
//! Width and height are those of the logical screen, extended by the first frame if that is larger,
//! as browsers, Pillow and libvips do. A later frame is clipped.

use super::reader::Reader;
use super::{FormatError, Probe, Tally};
use crate::model::image::Format;

const COLOUR_TABLE: u8 = 0x80;

/// Walks the blocks from the header to the trailer.
pub(super) fn probe(bytes: &[u8], tally: Tally) -> Result<Probe, FormatError> {
    let mut reader = Reader::new(Format::Gif, bytes);
    reader.take(6, "signature")?;
    let width = u32::from(reader.u16_le("screen width")?);
    let height = u32::from(reader.u16_le("screen height")?);
    let [flags, _background, _aspect] = reader.array("screen descriptor")?;
    skip_colour_table(&mut reader, flags)?;
    let mut walk = Walk {
        screen: (width, height),
        tally,
    };
    loop {
        let at = reader.offset();
        match reader.u8("block or trailer")? {
            b'!' => extension(&mut reader)?,
            b',' => walk.image(&mut reader)?,
            b';' => return walk.end(&reader),
            other => {
                return Err(reader.corrupt(format_args!(
                    "at byte {at} should be a block or the trailer and is {other:02X}"
                )));
            }
        }
    }
}

struct Walk {
    screen: (u32, u32),
    tally: Tally,
}

impl Walk {
    fn image(&mut self, reader: &mut Reader<'_>) -> Result<(), FormatError> {
        let at = reader.offset();
        let left = u32::from(reader.u16_le("frame offset")?);
        let top = u32::from(reader.u16_le("frame offset")?);
        let width = u32::from(reader.u16_le("frame width")?);
        let height = u32::from(reader.u16_le("frame height")?);
        let flags = reader.u8("frame flags")?;
        if self.tally.frames == 0 {
            let (screen_width, screen_height) = self.screen;
            let (right, bottom) = (left + width, top + height);
            let (width, height) = (screen_width.max(right), screen_height.max(bottom));
            if width == 0 || height == 0 {
                return Err(reader.corrupt(format_args!(
                    "the screen and the first frame have a side of zero: {width} by {height}"
                )));
            }
            self.tally.canvas(width, height)?;
        }
        self.tally.add_frame(width, height)?;
        skip_colour_table(reader, flags)?;
        let code_size = reader.u8("LZW code size")?;
        if !(1..=11).contains(&code_size) {
            return Err(reader.corrupt(format_args!(
                "the frame at byte {at} has LZW code size {code_size}"
            )));
        }
        if skip_sub_blocks(reader)? == 0 {
            return Err(reader.corrupt(format_args!("the frame at byte {at} has no data")));
        }
        Ok(())
    }

    fn end(&self, reader: &Reader<'_>) -> Result<Probe, FormatError> {
        let frames = self.tally.frames;
        if frames == 0 {
            let at = reader.offset();
            return Err(reader.corrupt(format_args!("it ends at byte {at} without a frame")));
        }
        Ok(self.tally.probe())
    }
}

pub(in crate::images) fn skip_colour_table(
    reader: &mut Reader<'_>,
    flags: u8,
) -> Result<(), FormatError> {
    if flags & COLOUR_TABLE != 0 {
        let colours = 2_usize << (flags & 0x07);
        reader.take(3 * colours, "colour table")?;
    }
    Ok(())
}

fn extension(reader: &mut Reader<'_>) -> Result<(), FormatError> {
    const GRAPHIC_CONTROL: u8 = 0xf9;
    let (at, label) = (reader.offset(), reader.u8("extension label")?);
    let first = reader.peek(0);
    let len = skip_sub_blocks(reader)?;
    // Decoders trust the content of this extension alone: it must be one sub-block of four bytes.
    if label == GRAPHIC_CONTROL && (first, len) != (Some(4), 4) {
        return Err(reader.corrupt(format_args!(
            "the graphic control extension at byte {at} is not one sub-block of 4 bytes but has {len}"
        )));
    }
    Ok(())
}

/// Skips sub-blocks up to their terminator. Returns how many bytes of data they hold.
pub(in crate::images) fn skip_sub_blocks(reader: &mut Reader<'_>) -> Result<usize, FormatError> {
    let mut total: usize = 0;
    loop {
        let len = usize::from(reader.u8("sub-block length")?);
        if len == 0 {
            return Ok(total);
        }
        reader.take(len, "sub-block")?;
        total = total.saturating_add(len);
    }
}

#[cfg(test)]
mod tests;
