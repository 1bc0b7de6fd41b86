//! Reads all entropy-coded data of a JPEG, without reconstructing pixels, and says whether viewers
//! show it.
//!
//! The judgement is that of libjpeg-turbo, on which Chromium, Pillow and libvips build: what is an
//! error there is a [`Fault`], what is a warning there is counted. Baseline, extended sequential
//! and progressive images with Huffman codes and 8 bits per sample are read.

mod bits;
mod decoder;
mod fault;
mod header;
mod progressive;
mod scan;
mod tables;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::Instant;

pub(in crate::images::decode) use fault::{Fault, Reason};
pub(in crate::images::decode) use header::Frame;

use crate::images::format::limits::MAX_SCANS;
use decoder::Decoder;

/// What an image may cost.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::images::decode) struct Limits {
    /// When to give up.
    pub deadline: Option<Instant>,
    /// The most pixels. An image above is refused before memory is taken. `None` for no limit.
    pub max_pixels: Option<u64>,
}

/// An image that viewers show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::images::decode) struct Decoded {
    /// Size and components.
    pub frame: Frame,
    /// Scans read.
    pub scans: u32,
    /// Places where libjpeg warns: impossible codes, data that a marker cuts short, restart markers
    /// out of sequence, and bits of progressive scans out of order. libvips gives up at 100.
    pub warnings: u32,
    /// MCUs of all scans that are missing because a marker cuts the data short.
    pub missing: u64,
    /// MCUs of all scans.
    pub total: u64,
    /// Steps of work: MCUs read, and jumps over MCUs without data.
    pub steps: u64,
    /// The offset behind the last byte of the last scan's data.
    pub end: usize,
    /// The segments up to `end`, without SOI. Bytes between them belong to none.
    pub segments: Vec<Segment>,
    /// The offset of the marker FF D9 that ends the image, if there is one.
    pub end_of_image: Option<usize>,
    /// Standard Huffman tables (whether DC, and slot) that the file uses without defining them.
    pub standard_tables: Vec<(bool, u8)>,
}

impl Decoded {
    /// The image of these segments alone, with the standard tables that it needs. `None`: that is what `bytes` are.
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

/// A segment of an image: its marker and contents, and of a scan also the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::images::decode) struct Segment {
    /// The second byte of its marker.
    pub code: u8,
    /// Its place in the file.
    pub range: Range<usize>,
}

/// Reads the JPEG at the start of `data`.
pub(in crate::images::decode) fn decode(data: &[u8], limits: &Limits) -> Result<Decoded, Fault> {
    Decoder::new(data, *limits).decode()
}

/// The DHT segment that defines the standard's `tables`, to be put before the first scan. Empty for
/// none.
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
