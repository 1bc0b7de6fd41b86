//! JPEG, by ITU-T T.81 (ISO/IEC 10918-1), <https://www.w3.org/Graphics/JPEG/itu-t81.pdf>.
//!
//! The processes that browsers show are accepted: baseline, extended and progressive with Huffman
//! coding and 8 bits a sample. Lossless, hierarchical, arithmetic and 12-bit images are refused, and
//! so is a height that only comes after the first scan (DNL), because no limit could be checked.

use super::reader::Reader;
use super::{FormatError, Probe, Tally, limits};
use crate::model::image::Format;

/// Start of image and the first byte of whatever marker follows.
pub(super) const SIGNATURE: &[u8] = b"\xff\xd8\xff";

const DHT: u8 = 0xc4;
pub(in crate::images) const EOI: u8 = 0xd9;
pub(in crate::images) const SOS: u8 = 0xda;
const DQT: u8 = 0xdb;
const DRI: u8 = 0xdd;

/// Walks the segments and the entropy-coded data from the start to the end of the image.
pub(super) fn probe(bytes: &[u8]) -> Result<Probe, FormatError> {
    let mut reader = Reader::new(Format::Jpeg, bytes);
    reader.take(2, "start of image")?;
    let mut walk = Walk::default();
    loop {
        let marker = Marker::read(&mut reader)?;
        match marker.code {
            EOI => return walk.end(&reader),
            0xc0..=0xc2 => walk.frame_header(&mut marker.segment(&mut reader)?, marker)?,
            DHT => huffman_tables(&mut marker.segment(&mut reader)?)?,
            DQT => walk.quantisation_tables(&mut marker.segment(&mut reader)?)?,
            DRI => restart_interval(&mut marker.segment(&mut reader)?)?,
            SOS => {
                walk.scan_header(&mut marker.segment(&mut reader)?)?;
                skip_entropy_coded(&mut reader)?;
            }
            // Application data and comments.
            0xe0..=0xef | 0xfe => marker.segment(&mut reader).map(|_| ())?,
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
        0xd0..=0xd8 => "out of place",
        _ => "not one that an image may hold",
    }
}

#[derive(Clone, Copy)]
pub(in crate::images) struct Marker {
    pub(in crate::images) code: u8,
    pub(in crate::images) offset: usize,
}

impl Marker {
    /// Reads a marker with the fill bytes before it.
    pub(in crate::images) fn read(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
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

    /// The bytes of the marker's segment; the length that precedes them counts itself.
    pub(in crate::images) fn segment<'a>(
        self,
        reader: &mut Reader<'a>,
    ) -> Result<Reader<'a>, FormatError> {
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

#[derive(Clone, Copy, Default)]
struct Component {
    id: u8,
    /// Blocks of this component in one interleaved unit.
    blocks: u8,
    quantisation: u8,
    scanned: bool,
}

/// What has been seen so far, as far as later segments depend on it.
#[derive(Default)]
struct Walk {
    frame: Option<Frame>,
    /// Which of the four quantisation tables are defined, one bit each.
    quantisation: u8,
    scans: u32,
}

struct Frame {
    width: u16,
    height: u16,
    progressive: bool,
    components: [Component; 4],
    component_count: usize,
}

impl Walk {
    fn frame_header(
        &mut self,
        segment: &mut Reader<'_>,
        marker: Marker,
    ) -> Result<(), FormatError> {
        let at = marker.offset;
        if self.frame.is_some() {
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
        let component_count = usize::from(segment.u8("component count")?);
        if width == 0 || height == 0 || !matches!(component_count, 1 | 3 | 4) {
            return Err(segment.corrupt(format_args!(
                "the frame at byte {at} is {width} by {height} with {component_count} components"
            )));
        }
        let mut components = [Component::default(); 4];
        let mut seen = [false; 256];
        for component in components.iter_mut().take(component_count) {
            let [id, sampling, quantisation] = segment.array("component")?;
            let (across, down) = (sampling >> 4, sampling & 0x0f);
            let fresh = seen
                .get_mut(usize::from(id))
                .is_some_and(|s| !std::mem::replace(s, true));
            if !fresh || !matches!((across, down), (1..=4, 1..=4)) || quantisation > 3 {
                return Err(segment.corrupt(format_args!(
                    "component {id} of the frame at byte {at} is defined twice, or has sampling \
                     {across} by {down}, or table {quantisation}"
                )));
            }
            *component = Component {
                id,
                blocks: across * down,
                quantisation,
                scanned: false,
            };
        }
        segment.finish("frame header")?;
        let progressive = marker.code == 0xc2;
        self.frame = Some(Frame {
            width,
            height,
            progressive,
            components,
            component_count,
        });
        Tally::on_canvas(u32::from(width), u32::from(height)).map(drop)
    }

    fn quantisation_tables(&mut self, segment: &mut Reader<'_>) -> Result<(), FormatError> {
        while segment.left() > 0 {
            let (at, head) = (segment.offset(), segment.u8("quantisation table")?);
            let len = match head >> 4 {
                0 => 64,
                1 => 128,
                _ => 0,
            };
            let table = head & 0x0f;
            if len == 0 || table > 3 {
                return Err(segment.corrupt(format_args!(
                    "the quantisation table at byte {at} begins with {head:02X}"
                )));
            }
            segment.take(len, "quantisation table")?;
            self.quantisation |= 1 << table;
        }
        Ok(())
    }

    fn scan_header(&mut self, segment: &mut Reader<'_>) -> Result<(), FormatError> {
        let at = segment.offset();
        self.scans = self.scans.saturating_add(1);
        if self.scans > limits::MAX_SCANS {
            let limit = limits::MAX_SCANS;
            return Err(segment.corrupt(format_args!(
                "the scan at byte {at} is one more than the {limit} that are accepted"
            )));
        }
        let Some(frame) = self.frame.as_mut() else {
            return Err(segment.corrupt(format_args!("the scan at byte {at} has no frame header")));
        };
        let count = segment.u8("component count")?;
        let mut chosen = [0; 4];
        let Some(chosen) = chosen
            .get_mut(..usize::from(count))
            .filter(|list| !list.is_empty())
        else {
            return Err(
                segment.corrupt(format_args!("the scan at byte {at} has {count} components"))
            );
        };
        for id in chosen.iter_mut() {
            let [component, tables] = segment.array("component of a scan")?;
            *id = component;
            if tables >> 4 > 3 || tables & 0x0f > 3 {
                return Err(segment.corrupt(format_args!(
                    "the scan at byte {at} uses Huffman tables {tables:02X}"
                )));
            }
        }
        let [first, last, approximation] = segment.array("spectral selection")?;
        segment.finish("scan header")?;
        let selection = Selection {
            first,
            last,
            approximation,
        };
        if frame.progressive && !selection.is_sound(chosen.len()) {
            return Err(segment.corrupt(format_args!(
                "the scan at byte {at} selects {first} to {last}, bits {approximation:02X}"
            )));
        }
        frame
            .mark_scanned(chosen, selection, self.quantisation)
            .map_err(|what| segment.corrupt(format_args!("the scan at byte {at} {what}")))
    }

    fn end(&self, reader: &Reader<'_>) -> Result<Probe, FormatError> {
        let at = reader.offset();
        let Some(frame) = &self.frame else {
            return Err(reader.corrupt(format_args!("it ends at byte {at} without a frame")));
        };
        let mut components = frame.components.iter().take(frame.component_count);
        if let Some(Component { id, .. }) = components.find(|component| !component.scanned) {
            return Err(reader.corrupt(format_args!(
                "it ends at byte {at} without a scan of component {id}"
            )));
        }
        let (width, height) = (u32::from(frame.width), u32::from(frame.height));
        Ok(Probe {
            format: Format::Jpeg,
            width,
            height,
            frames: 1,
        })
    }
}

/// Which coefficients a progressive scan refines, and which of their bits.
#[derive(Clone, Copy)]
struct Selection {
    first: u8,
    last: u8,
    approximation: u8,
}

impl Selection {
    /// The rules of T.81, G.1.1.1: DC alone, or AC of a single component.
    const fn is_sound(self, components: usize) -> bool {
        let bits_sound = self.approximation >> 4 <= 13 && self.approximation & 0x0f <= 13;
        let band_sound = match self.first {
            0 => self.last == 0,
            first => first <= self.last && self.last <= 63 && components == 1,
        };
        bits_sound && band_sound
    }
}

impl Frame {
    fn mark_scanned(
        &mut self,
        chosen: &[u8],
        selection: Selection,
        quantisation: u8,
    ) -> Result<(), &'static str> {
        let mut blocks = 0;
        for (index, id) in chosen.iter().enumerate() {
            let mut components = self.components.iter_mut().take(self.component_count);
            let Some(component) = components.find(|component| component.id == *id) else {
                return Err("has a component that the frame has not");
            };
            if chosen.iter().take(index).any(|earlier| earlier == id) {
                return Err("has the same component twice");
            }
            if quantisation & (1 << component.quantisation) == 0 {
                return Err("needs a quantisation table that is not defined");
            }
            if component.scanned && !self.progressive {
                return Err("repeats a component of a sequential image");
            }
            component.scanned |= selection.first == 0 || !self.progressive;
            blocks += component.blocks;
        }
        if chosen.len() > 1 && blocks > 10 {
            return Err("interleaves more than 10 blocks");
        }
        Ok(())
    }
}

fn huffman_tables(segment: &mut Reader<'_>) -> Result<(), FormatError> {
    while segment.left() > 0 {
        let (at, head) = (segment.offset(), segment.u8("Huffman table")?);
        let counts: [u8; 16] = segment.array("Huffman code lengths")?;
        let codes = counts.into_iter().map(usize::from).sum();
        if head >> 4 > 1 || head & 0x0f > 3 || codes > 256 {
            return Err(segment.corrupt(format_args!(
                "the Huffman table at byte {at} begins with {head:02X} and has {codes} codes"
            )));
        }
        segment.take(codes, "Huffman values")?;
    }
    Ok(())
}

/// Moves to the marker that ends the scan: a zero after FF is data, and so are restart markers.
pub(in crate::images) fn skip_entropy_coded(reader: &mut Reader<'_>) -> Result<(), FormatError> {
    let start = reader.offset();
    loop {
        let found = reader.skip_to(0xff);
        match reader.peek(1) {
            Some(0x00 | 0xd0..=0xd7) if found => reader.take(2, "restart marker").map(drop)?,
            Some(0xff) if found => reader.take(1, "fill byte").map(drop)?,
            Some(_) if found => break,
            _ => {
                return Err(reader.corrupt(format_args!(
                    "the scan data from byte {start} on has no end"
                )));
            }
        }
    }
    if reader.offset() == start {
        return Err(reader.corrupt(format_args!("the scan at byte {start} has no data")));
    }
    Ok(())
}

fn restart_interval(segment: &mut Reader<'_>) -> Result<(), FormatError> {
    segment.u16_be("restart interval")?;
    segment.finish("restart interval")
}

#[cfg(test)]
mod tests;
