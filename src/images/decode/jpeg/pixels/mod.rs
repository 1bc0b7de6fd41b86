//! Decodes a JPEG to rows of pixels, at the full size or at a half, a quarter or an eighth of it.
//!
//! A smaller size is made from the low frequencies of each block alone. The codes of the others are
//! skipped, as the check of an upload skips all of them. Chroma with half the resolution is reduced
//! by half as much, so both meet without interpolation.
//!
//! A sequential image with one scan is decoded a row of blocks at a time. Of other images, the
//! coefficients that the size needs are kept in memory: 2 bytes each, 5 in a block at a quarter.
//!
//! The file has passed the check. Data that are missing in it become grey, as in libjpeg.

mod colour;
mod planes;
mod progressive;
mod rows;
mod sequential;
mod small;
mod transform;

use std::time::Instant;

use super::bits::{Bits, next_marker};
use super::header::{Fields, Frame, Headers, ScanHeader};
use super::scan::{Clock, Part, read_scan};
use super::tables::Table;
use super::{Fault, MAX_SCANS, Reason};
use colour::Conversion;
use planes::Planes;
use rows::Strips;
use sequential::{Stored, Streamed};

pub(super) use sequential::truncated;
pub(super) use small::Gathering;
pub(in crate::images) use small::Small;

pub(in crate::images) use transform::Side;

/// The meaning of the bytes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::images) enum Channels {
    /// One byte for each pixel.
    Grey,
    /// Red, green, blue.
    Rgb,
    /// Cyan, magenta, yellow, black; 255 is full ink.
    Cmyk,
}

/// What the segments before the first scan tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::images) struct Shape {
    /// Width in pixels, before any orientation is applied.
    pub(in crate::images) width: u32,
    /// Height in pixels, before any orientation is applied.
    pub(in crate::images) height: u32,
    /// The meaning of the bytes of a row.
    pub(in crate::images) channels: Channels,
    /// The ICC profile, if there is one.
    pub(in crate::images) profile: Option<Vec<u8>>,
    /// Bytes of coefficients that decoding keeps at the full size.
    pub(in crate::images) kept_bytes: u64,
}

/// The tables of a component: DC, then AC.
type Tables = (Box<Table>, Box<Table>);

/// Receives a row of pixels. Returns whether decoding goes on.
pub(in crate::images) type RowSink<'a> = &'a mut dyn FnMut(&[u8]) -> bool;

/// Reads the segments before the first scan.
pub(in crate::images) fn shape(data: &[u8]) -> Result<Shape, Fault> {
    let mut walk = Walk::new(data, Side::EIGHT, None);
    walk.until_scan()?;
    let frame = walk.frame()?;
    let blocks = frame.components.iter();
    let blocks = blocks.map(|part| u64::from(part.blocks_wide) * u64::from(part.blocks_high));
    let is_kept = frame.progressive || walk.parts_of_next_scan < frame.components.len();
    let bytes_of_block = 128 + if frame.progressive { 8 } else { 0 };
    Ok(Shape {
        width: u32::from(frame.width),
        height: u32::from(frame.height),
        channels: walk.conversion()?.channels(),
        profile: (!walk.profile.is_empty()).then_some(walk.profile.clone()),
        kept_bytes: if is_kept {
            blocks.sum::<u64>() * bytes_of_block
        } else {
            0
        },
    })
}

/// Decodes the image with `side` pixels for each 8, and passes its rows to `sink`, each
/// `width * side / 8` pixels long, rounded up.
///
/// # Errors
/// [`Reason::TimeLimit`] if `sink` returns `false` or `deadline` has passed.
pub(in crate::images) fn read(
    data: &[u8],
    side: Side,
    deadline: Option<Instant>,
    sink: RowSink<'_>,
) -> Result<(), Fault> {
    let mut walk = Walk::new(data, side, deadline);
    let at = walk.until_scan()?;
    walk.scans(at, sink)
}

/// Reads one image from its segments.
struct Walk<'a> {
    data: &'a [u8],
    side: Side,
    headers: Headers,
    clock: Clock,
    has_jfif: bool,
    /// The colour transform of the Adobe segment, if there is one.
    adobe: Option<u8>,
    profile: Vec<u8>,
    /// Number of components in the scan at which [`Walk::until_scan`] stopped.
    parts_of_next_scan: usize,
}

impl<'a> Walk<'a> {
    fn new(data: &'a [u8], side: Side, deadline: Option<Instant>) -> Self {
        Self {
            data,
            side,
            headers: Headers::default(),
            clock: Clock::new(deadline),
            has_jfif: false,
            adobe: None,
            profile: Vec::new(),
            parts_of_next_scan: 0,
        }
    }

    fn frame(&self) -> Result<&Frame, Fault> {
        let frame = self.headers.frame.as_ref();
        frame.ok_or_else(|| Fault::new(0, Reason::NoFrame))
    }

    fn conversion(&self) -> Result<Conversion, Fault> {
        Ok(Conversion::of(self.frame()?, self.has_jfif, self.adobe))
    }

    /// Reads segments up to the first scan. Returns the offset of its marker.
    fn until_scan(&mut self) -> Result<usize, Fault> {
        let mut at = 2;
        loop {
            let (code, start, end) = self.next(at)?;
            let body = self.data.get(start + 4..end).unwrap_or_default();
            match code {
                0xda => {
                    self.parts_of_next_scan = body.first().copied().unwrap_or(0).into();
                    return Ok(start);
                }
                0xe0 if body.starts_with(b"JFIF\0") => self.has_jfif = true,
                // The cleaner has written the parts of the profile in their order.
                0xe2 if body.starts_with(b"ICC_PROFILE\0") => {
                    self.profile.extend(body.get(14..).unwrap_or_default());
                }
                0xee if body.starts_with(b"Adobe") => self.adobe = body.get(11).copied(),
                code => self.define(code, start, body)?,
            }
            at = end;
        }
    }

    /// The code, the start and the end of the next segment.
    fn next(&self, at: usize) -> Result<(u8, usize, usize), Fault> {
        let missing = || Fault::new(self.data.len(), Reason::ScansMissing);
        let marker = next_marker(self.data, at).ok_or_else(missing)?;
        if matches!(marker.code, 0xd0..=0xd9 | 0x01) {
            return Ok((marker.code, marker.at, marker.at + 2));
        }
        let length = self.data.get(marker.at + 2..).and_then(<[u8]>::first_chunk);
        let length = usize::from(u16::from_be_bytes(*length.ok_or_else(missing)?)).max(2);
        Ok((marker.code, marker.at, marker.at + 2 + length))
    }

    /// Reads a segment that defines something for the scans behind it.
    fn define(&mut self, code: u8, at: usize, body: &[u8]) -> Result<(), Fault> {
        let fields = Fields(body);
        let defined = match code {
            0xc0..=0xc2 => self.headers.frame(code, fields),
            0xc4 => self.headers.huffman(fields),
            0xdb => self.headers.quantization(fields),
            0xdd => self.headers.restart_interval(fields),
            _ => Ok(()),
        };
        defined.map_err(Fault::at(at))
    }

    /// Reads all scans, and passes the rows to `sink`.
    fn scans(&mut self, mut at: usize, sink: RowSink<'_>) -> Result<(), Fault> {
        let conversion = self.conversion()?;
        let frame = self.frame()?.clone();
        let mut strips = Strips::new(&frame, self.side, conversion);
        let mut planes: Option<Planes> = None;
        let mut scans = 0;
        while let Ok((code, start, end)) = self.next(at) {
            at = end;
            let body = self.data.get(start + 4..end).unwrap_or_default();
            match code {
                0xd9 => break,
                0xda => {
                    scans += 1;
                    if scans > MAX_SCANS {
                        break;
                    }
                    let fault = Fault::at(start);
                    let scan = self.headers.scan(Fields(body)).map_err(&fault)?;
                    strips.quantize(&self.headers, &frame, &scan);
                    self.headers.imply_standard();
                    let mut bits = Bits::new(self.data, end);
                    let is_whole = scan.components.len() == frame.components.len();
                    if !frame.progressive && is_whole {
                        return self
                            .stream(&scan, &mut bits, &mut strips, sink)
                            .map_err(fault);
                    }
                    let planes = planes.get_or_insert_with(|| Planes::new(&frame, self.side));
                    let read = if frame.progressive {
                        self.refine(&frame, &scan, &mut bits, planes)
                    } else {
                        self.store(&scan, &mut bits, planes)
                    };
                    match read {
                        Ok(()) | Err(Reason::Truncated(..)) => {}
                        Err(reason) => return Err(fault(reason)),
                    }
                    at = bits.used().max(end);
                    if !frame.progressive && self.headers.all_seen() {
                        break;
                    }
                }
                code => self.define(code, start, body)?,
            }
        }
        let planes = planes.ok_or_else(|| Fault::new(at, Reason::NoScan))?;
        planes.show(&mut strips, sink).map_err(Fault::at(at))
    }

    /// Reads the only scan, and passes each row of blocks on.
    fn stream(
        &mut self,
        scan: &ScanHeader,
        bits: &mut Bits<'_>,
        strips: &mut Strips,
        sink: RowSink<'_>,
    ) -> Result<(), Reason> {
        let tables = self.tables(scan)?;
        let parts = parts(&tables);
        let total = strips.mcus();
        let interval = self.headers.restart_interval;
        let mut coder = Streamed::new(parts, strips, sink);
        match read_scan(&mut coder, bits, total, interval, &mut self.clock) {
            Ok(_) | Err(Reason::Truncated(..)) => coder.end(total),
            Err(reason) => Err(reason),
        }
    }

    /// Reads one of several scans of a sequential image.
    fn store(
        &mut self,
        scan: &ScanHeader,
        bits: &mut Bits<'_>,
        planes: &mut Planes,
    ) -> Result<(), Reason> {
        let tables = self.tables(scan)?;
        let blocks = planes.places(scan);
        let total = blocks.total;
        let interval = self.headers.restart_interval;
        let mut coder = Stored::new(parts(&tables), blocks, planes);
        read_scan(&mut coder, bits, total, interval, &mut self.clock).map(|_| ())
    }

    /// The tables of a sequential scan.
    fn tables(&self, scan: &ScanHeader) -> Result<Vec<Tables>, Reason> {
        let tables = scan.components.iter().map(|part| {
            let dc = Table::new(self.headers.table(true, part.dc)?, false);
            Ok((dc, Table::new(self.headers.table(false, part.ac)?, true)))
        });
        tables.collect()
    }

    /// Reads a scan of a progressive image.
    fn refine(
        &mut self,
        frame: &Frame,
        scan: &ScanHeader,
        bits: &mut Bits<'_>,
        planes: &mut Planes,
    ) -> Result<(), Reason> {
        // The check has counted these as warnings of libjpeg, which reads the scan all the same.
        if scan.se > 63 || scan.ss > scan.se || scan.al > 13 || frame.components.is_empty() {
            return Err(Reason::Progression([scan.ss, scan.se, scan.ah, scan.al]));
        }
        let tables = scan.components.iter().map(|part| {
            let slot = if scan.ss == 0 { part.dc } else { part.ac };
            let needs_table = scan.ss > 0 || scan.ah == 0;
            needs_table
                .then(|| Ok(Table::new(self.headers.table(scan.ss == 0, slot)?, false)))
                .transpose()
        });
        let tables = tables.collect::<Result<Vec<_>, Reason>>()?;
        let interval = self.headers.restart_interval;
        progressive::read(scan, &tables, bits, planes, (interval, &mut self.clock))
    }
}

/// The decoders of the components of a sequential scan. The number of blocks isn't used here.
fn parts(tables: &[Tables]) -> Vec<Part<'_>> {
    let readers = tables.iter().map(|(dc, ac)| Part {
        dc,
        ac,
        blocks: 0,
        prediction: 0,
        kept: None,
    });
    readers.collect()
}
