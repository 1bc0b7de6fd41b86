//! Reads all entropy-coded data of a JPEG without reconstructing pixels, and tells whether viewers
//! show it.
//!
//! The rules are those of libjpeg-turbo, which Chromium, Pillow and libvips use. Its errors are a
//! [`Fault`], its warnings are counted. The decoder reads baseline, extended sequential and
//! progressive images with Huffman codes and 8 bits per sample.

mod bits;
mod decoder;
mod fault;
mod header;
pub(in crate::images) mod pixels;
mod progressive;
mod scan;
mod tables;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::Instant;

pub(in crate::images) use fault::{Fault, Reason};
pub(in crate::images::decode) use header::Frame;

use crate::images::format::limits::MAX_SCANS;
use decoder::Decoder;
use pixels::Small;

/// The limits of decoding one image.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::images::decode) struct Limits {
    /// When decoding stops with an error; `None` for no limit.
    pub deadline: Option<Instant>,
    /// The most pixels. A larger image is refused before memory is allocated. `None` for no limit.
    pub max_pixels: Option<u64>,
    /// Whether [`Decoded::small`] is made.
    pub keeps_small: bool,
}

/// An image that viewers show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::images::decode) struct Decoded {
    /// Size and components.
    pub frame: Frame,
    /// Number of scans that were read.
    pub scans: u32,
    /// Number of places at which libjpeg warns: impossible codes, data cut by a marker, restart
    /// markers out of sequence, and bits of progressive scans out of order. libvips gives up at
    /// 100.
    pub warnings: u32,
    /// Number of MCUs of all scans that are missing because a marker cuts the data.
    pub missing: u64,
    /// Number of MCUs of all scans.
    pub total: u64,
    /// Steps of work: MCUs that were read, and jumps over MCUs without data.
    pub steps: u64,
    /// The offset behind the last byte of the last scan's data.
    pub end: usize,
    /// The segments up to `end`, without SOI. Bytes between them belong to no segment.
    pub segments: Vec<Segment>,
    /// The offset of the marker FF D9 that ends the image, if there is one.
    pub end_of_image: Option<usize>,
    /// Standard Huffman tables (whether DC, and slot) that the file uses without defining them.
    pub standard_tables: Vec<(bool, u8)>,
    /// An eighth of the picture, if [`Limits::keeps_small`] asks for it. Of a progressive image,
    /// without the lowest bits.
    pub small: Option<Small>,
}

impl Decoded {
    /// Writes the image from its segments alone, with the standard tables that it needs. Returns
    /// `None` if the result would equal `bytes`.
    pub(in crate::images::decode) fn written(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut end = 2;
        let is_exact = self.segments.iter().all(|segment| {
            let follows = segment.range.start == end;
            end = segment.range.end;
            follows
        });
        if is_exact && self.standard_tables.is_empty() && bytes.get(end..) == Some(b"\xff\xd9") {
            return None;
        }
        let mut out = Vec::with_capacity(bytes.len() + 512);
        out.extend_from_slice(b"\xff\xd8");
        let first_scan = self
            .segments
            .iter()
            .position(|segment| segment.code == 0xda);
        for (number, segment) in self.segments.iter().enumerate() {
            if Some(number) == first_scan {
                out.extend(standard_tables(&self.standard_tables));
            }
            out.extend_from_slice(bytes.get(segment.range.clone()).unwrap_or_default());
        }
        out.extend_from_slice(b"\xff\xd9");
        Some(out)
    }
}

/// A segment of an image: its marker and content, including the data of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::images::decode) struct Segment {
    /// The second byte of the marker.
    pub code: u8,
    /// The byte range of the segment in the file.
    pub range: Range<usize>,
}

/// Reads the JPEG at the start of `data`.
pub(in crate::images::decode) fn decode(data: &[u8], limits: &Limits) -> Result<Decoded, Fault> {
    Decoder::new(data, *limits).decode()
}

/// Writes the DHT segment that defines these standard `tables`, to be inserted before the first
/// scan. Returns no bytes if there are no tables.
pub(in crate::images::decode) fn standard_tables(tables: &[(bool, u8)]) -> Vec<u8> {
    let mut contents = Vec::new();
    for &(dc, slot) in tables {
        let Some(spec) = tables::standard(dc, slot) else {
            continue;
        };
        contents.push(if dc { slot } else { 0x10 | slot });
        contents.extend(spec.counts);
        contents.extend(spec.symbols);
    }
    match u16::try_from(contents.len() + 2) {
        Ok(length) if length > 2 => [&[0xff, 0xc4], &length.to_be_bytes()[..], &contents].concat(),
        _ => Vec::new(),
    }
}
