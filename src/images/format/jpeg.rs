//! Walks JPEG files, by ITU-T T.81 (ISO/IEC 10918-1),
//! <https://www.w3.org/Graphics/JPEG/itu-t81.pdf>.
//!
//! The walk accepts the processes that browsers show: baseline, extended and progressive, with
//! Huffman coding and 8 bits a sample. It refuses lossless, hierarchical, arithmetic and 12-bit
//! images. It also refuses a height that comes after the first scan (DNL), because the limits could
//! not be checked in time. The decoder checks the content of tables and scans.

use super::reader::Reader;
use super::{FormatError, Probe, Tally, limits};

/// The start marker, and the first byte of the marker that follows.
pub(super) const SIGNATURE: &[u8] = b"\xff\xd8\xff";

pub(in crate::images) const EOI: u8 = 0xd9;
pub(in crate::images) const SOS: u8 = 0xda;
pub(in crate::images) const DRI: u8 = 0xdd;

/// Walks the segments and the entropy-coded data from the start marker to the end marker.
pub(super) fn probe(bytes: &[u8], tally: Tally) -> Result<Probe, FormatError> {
    let mut reader = Reader::new(tally.format, bytes);
    reader.take(2, "start of image")?;
    let mut walk = Walk {
        tally,
        scans: 0,
        restart: 0,
    };
    loop {
        let marker = Marker::read(&mut reader)?;
        match marker.code {
            EOI => return walk.end(&reader),
            0xc0..=0xc2 => walk.frame_header(&mut marker.segment(&mut reader)?, marker)?,
            SOS => {
                walk.scan(&marker.segment(&mut reader)?)?;
                skip_entropy_coded(&mut reader, walk.restart > 0)?;
            }
            DRI => walk.restart = marker.segment(&mut reader)?.u16_be("restart interval")?,
            // Tables, application data and comments.
            0xc4 | 0xdb | 0xe0..=0xef | 0xfe => marker.segment(&mut reader).map(drop)?,
            code => {
                let (what, offset) = (unsupported(code), marker.offset);
                return Err(reader.corrupt(format_args!(
                    "the marker FF{code:02X} at byte {offset} is {what}"
                )));
            }
        }
    }
}

const fn unsupported(code: u8) -> &'static str {
    match code {
        0xc3 | 0xc5..=0xc7 => "of a lossless or hierarchical process, which is not supported",
        0xc9..=0xcf => "of an arithmetic process, which is not supported",
        0xdc => "a late image height (DNL), which is not supported",
        0xd0..=0xd8 => "not allowed here",
        _ => "not allowed in an image",
    }
}

#[derive(Clone, Copy)]
struct Marker {
    code: u8,
    offset: usize,
}

impl Marker {
    /// Reads a marker and the fill bytes before it.
    fn read(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        let offset = reader.offset();
        let first = reader.u8("marker")?;
        if first != 0xff {
            return Err(reader.corrupt(format_args!(
                "at byte {offset} should be a marker and is {first:02X}"
            )));
        }
        loop {
            let code = reader.u8("marker")?;
            if code != 0xff {
                return Ok(Self { code, offset });
            }
        }
    }

    /// Reads the segment of the marker. The length field counts itself.
    fn segment<'a>(self, reader: &mut Reader<'a>) -> Result<Reader<'a>, FormatError> {
        let Self { code, offset } = self;
        let len = usize::from(reader.u16_be("segment length")?);
        let Some(len) = len.checked_sub(2) else {
            return Err(reader.corrupt(format_args!(
                "the segment FF{code:02X} at byte {offset} has length {len}"
            )));
        };
        reader.section(len, format_args!("segment FF{code:02X}"))
    }
}

/// What the walk has read so far.
struct Walk {
    tally: Tally,
    scans: u32,
    /// Number of units between restart markers; 0 if there are none.
    restart: u16,
}

impl Walk {
    fn frame_header(
        &mut self,
        segment: &mut Reader<'_>,
        marker: Marker,
    ) -> Result<(), FormatError> {
        let at = marker.offset;
        if self.tally.frames > 0 {
            return Err(segment.corrupt(format_args!("at byte {at} is a second frame header")));
        }
        let bits = segment.u8("sample precision")?;
        if bits != 8 {
            return Err(segment.corrupt(format_args!(
                "the frame at byte {at} has {bits} bits a sample; only 8 are supported"
            )));
        }
        let height = segment.u16_be("height")?;
        let width = segment.u16_be("width")?;
        let components = usize::from(segment.u8("component count")?);
        if width == 0 || height == 0 || !matches!(components, 1 | 3 | 4) {
            return Err(segment.corrupt(format_args!(
                "the frame at byte {at} is {width} by {height} with {components} components"
            )));
        }
        segment.take(3 * components, "components")?;
        segment.finish("frame header")?;
        let (width, height) = (u32::from(width), u32::from(height));
        self.tally.canvas(width, height)?;
        self.tally.add_frame(width, height)
    }

    fn scan(&mut self, segment: &Reader<'_>) -> Result<(), FormatError> {
        let at = segment.offset();
        if self.tally.frames == 0 {
            return Err(segment.corrupt(format_args!("the scan at byte {at} has no frame header")));
        }
        self.scans = self.scans.saturating_add(1);
        if self.scans > limits::MAX_SCANS {
            let limit = limits::MAX_SCANS;
            return Err(segment.corrupt(format_args!(
                "the scan at byte {at} is one more than the {limit} that are accepted"
            )));
        }
        Ok(())
    }

    fn end(&self, reader: &Reader<'_>) -> Result<Probe, FormatError> {
        if self.scans == 0 {
            let at = reader.offset();
            return Err(reader.corrupt(format_args!("it ends at byte {at} without a scan")));
        }
        Ok(self.tally.probe())
    }
}

/// Whether the byte pair FF `code` is part of a scan's data: an escaped FF or a restart marker. In
/// an image with restarts, also any marker that decoders skip while they search for the next
/// restart (`jpeg_resync_to_restart` in libjpeg's `jdmarker.c`).
pub(in crate::images) const fn is_in_scan(code: u8, is_restarted: bool) -> bool {
    matches!(code, 0x00 | 0xd0..=0xd7) || (is_restarted && matches!(code, 0x01..=0xbf))
}

/// Moves to the marker that ends the scan.
fn skip_entropy_coded(reader: &mut Reader<'_>, is_restarted: bool) -> Result<(), FormatError> {
    let start = reader.offset();
    loop {
        let found = reader.skip_to(0xff);
        match reader.peek(1) {
            Some(code) if found && is_in_scan(code, is_restarted) => {
                reader.take(2, "restart marker").map(drop)?;
            }
            Some(0xff) if found => reader.take(1, "fill byte").map(drop)?,
            Some(_) if found => return Ok(()),
            _ => {
                return Err(reader.corrupt(format_args!(
                    "the scan data from byte {start} on has no end"
                )));
            }
        }
    }
}

#[cfg(test)]
mod tests;
