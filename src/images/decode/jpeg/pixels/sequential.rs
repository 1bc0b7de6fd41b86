//! Reads the coefficients of sequential scans.

use std::ops::Range;

use super::super::Reason;
use super::super::bits::Bits;
use super::super::scan::{Clock, Coder, Part};
use super::RowSink;
use super::planes::{Places, Planes};
use super::rows::Strips;

/// Reads the first `out.len()` coefficients of a block, and skips the others. Returns how many of
/// them there are up to the last one that is not zero, at least 1.
#[inline]
fn block(part: &mut Part<'_>, bits: &mut Bits<'_>, out: &mut [i16]) -> usize {
    part.prediction = part.prediction.wrapping_add(part.difference(bits));
    out.fill(0);
    if let Some(dc) = out.first_mut() {
        *dc = truncated(part.prediction);
    }
    let (mut k, mut end) = (1, 1);
    while k < out.len() {
        bits.refill();
        let symbol = bits.symbol(part.ac);
        let (zeros, size) = (symbol >> 4, symbol & 15);
        if size == 0 {
            if zeros < 15 {
                return end;
            }
            k += 16;
            continue;
        }
        k += zeros as usize;
        let value = extended(bits.take(size), size);
        if let Some(place) = out.get_mut(k) {
            *place = truncated(value);
            end = k + 1;
        }
        k += 1;
    }
    part.skip_ac(bits, u32::try_from(k).unwrap_or(64));
    end
}

/// The value of `size` bits whose first one is 0 if the value is negative.
#[inline]
pub(super) fn extended(bits: u32, size: u32) -> i32 {
    let value = bits.cast_signed();
    if size > 0 && value >> (size - 1) == 0 {
        value - (1 << size) + 1
    } else {
        value
    }
}

/// Coefficients have 16 bits, as in libjpeg.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "libjpeg keeps the low 16 bits of a coefficient"
)]
pub(in super::super) const fn truncated(value: i32) -> i16 {
    value as i16
}

/// Reads the only scan of an image, and passes each row of MCUs on as soon as it is complete.
pub(super) struct Streamed<'a> {
    parts: Vec<Part<'a>>,
    strips: &'a mut Strips,
    sink: RowSink<'a>,
    /// The next MCU to read.
    next: u32,
    /// The column of `next`.
    column: u32,
}

impl<'a> Streamed<'a> {
    pub(super) fn new(parts: Vec<Part<'a>>, strips: &'a mut Strips, sink: RowSink<'a>) -> Self {
        Self {
            parts,
            strips,
            sink,
            next: 0,
            column: 0,
        }
    }

    /// Counts an MCU, and passes its row on if it was the last one.
    fn pass(&mut self) -> Result<(), Reason> {
        self.next += 1;
        self.column += 1;
        if self.column == self.strips.mcus_wide() {
            self.column = 0;
            self.strips.show(self.sink)?;
        }
        Ok(())
    }

    /// Passes everything on that is left of an image of `total` MCUs.
    pub(super) fn end(&mut self, total: u32) -> Result<(), Reason> {
        self.finish(total)?;
        self.strips.finish(self.sink)
    }

    /// Passes the MCUs before `until` on whose data are missing: they are grey.
    fn finish(&mut self, until: u32) -> Result<(), Reason> {
        while self.next < until {
            for index in 0..self.parts.len() {
                let (h, v) = self.strips.blocks(index);
                let Some(strip) = self.strips.part(index) else {
                    continue;
                };
                for (x, y) in (0..v).flat_map(|y| (0..h).map(move |x| (x, y))) {
                    strip.write((self.column * h + x, y), &[0], 1);
                }
            }
            self.pass()?;
        }
        Ok(())
    }
}

impl Coder for Streamed<'_> {
    fn read(
        &mut self,
        bits: &mut Bits<'_>,
        range: Range<u32>,
        clock: &mut Clock,
    ) -> Result<u32, Reason> {
        self.finish(range.start)?;
        self.parts.iter_mut().for_each(|part| part.prediction = 0);
        let end = range.end;
        let mut coefficients = [0_i16; 64];
        for mcu in range {
            clock.work(1)?;
            for (index, part) in self.parts.iter_mut().enumerate() {
                let (h, v) = self.strips.blocks(index);
                let Some(strip) = self.strips.part(index) else {
                    continue;
                };
                let Some(out) = coefficients.get_mut(..strip.coefficients()) else {
                    continue;
                };
                for y in 0..v {
                    for x in 0..h {
                        let end = block(part, bits, out);
                        strip.write((self.column * h + x, y), out, end);
                    }
                }
            }
            let is_missing = bits.overrun() > 0;
            self.pass()?;
            if is_missing {
                return Ok(mcu);
            }
        }
        Ok(end)
    }
}

/// Reads one of several scans.
pub(super) struct Stored<'a> {
    parts: Vec<Part<'a>>,
    blocks: Places,
    planes: &'a mut Planes,
}

impl<'a> Stored<'a> {
    pub(super) fn new(parts: Vec<Part<'a>>, blocks: Places, planes: &'a mut Planes) -> Self {
        Self {
            parts,
            blocks,
            planes,
        }
    }
}

impl Coder for Stored<'_> {
    fn read(
        &mut self,
        bits: &mut Bits<'_>,
        range: Range<u32>,
        clock: &mut Clock,
    ) -> Result<u32, Reason> {
        self.parts.iter_mut().for_each(|part| part.prediction = 0);
        let end = range.end;
        for mcu in range {
            clock.work(1)?;
            for (part, layout) in self.parts.iter_mut().zip(&self.blocks.parts) {
                let Some(kept) = self.planes.part(layout.index) else {
                    continue;
                };
                for number in 0..layout.blocks() {
                    block(part, bits, kept.block_mut(layout.block(mcu, number)));
                }
            }
            if bits.overrun() > 0 {
                return Ok(mcu);
            }
        }
        Ok(end)
    }
}
