//! Reads the coefficients of progressive scans.
//!
//! How many bits a later scan has depends on which coefficients are not zero. So a bit is kept for
//! each coefficient, beside the values of those that the size needs.

use std::ops::Range;

use super::super::Reason;
use super::super::bits::Bits;
use super::super::header::ScanHeader;
use super::super::scan::{Clock, Coder, Part, read_scan};
use super::super::tables::Table;
use super::planes::{Layout, Plane, Planes};
use super::sequential::{extended, truncated};

/// Reads a scan into `planes`. `tables` has the table of each component, where the scan needs one.
pub(super) fn read(
    scan: &ScanHeader,
    tables: &[Option<Box<Table>>],
    bits: &mut Bits<'_>,
    planes: &mut Planes,
    (interval, clock): (u16, &mut Clock),
) -> Result<(), Reason> {
    let layouts = planes.places(scan);
    let total = layouts.total;
    let shift = scan.al;
    if scan.ss == 0 && scan.ah > 0 {
        let mut coder = DcRefine {
            layouts: layouts.parts,
            planes,
            shift,
        };
        return read_scan(&mut coder, bits, total, interval, clock).map(|_| ());
    }
    if scan.ss == 0 {
        let parts = tables.iter().flatten().zip(&layouts.parts);
        let parts = parts.map(|(table, layout)| {
            let part = Part {
                dc: table,
                ac: table,
                blocks: layout.blocks(),
                prediction: 0,
                kept: None,
            };
            (part, *layout)
        });
        let mut coder = DcFirst {
            parts: parts.collect(),
            planes,
            shift,
        };
        return read_scan(&mut coder, bits, total, interval, clock).map(|_| ());
    }
    let (Some(Some(table)), Some(layout)) = (tables.first(), layouts.parts.first()) else {
        return Ok(());
    };
    let Some(plane) = planes.part(layout.index) else {
        return Ok(());
    };
    let mut coder = Ac {
        table,
        layout: *layout,
        plane,
        band: (u32::from(scan.ss), u32::from(scan.se)),
        shift,
        is_first: scan.ah == 0,
        run: 0,
    };
    read_scan(&mut coder, bits, total, interval, clock).map(|_| ())
}

/// Reads the first scan of DC coefficients.
struct DcFirst<'a> {
    parts: Vec<(Part<'a>, Layout)>,
    planes: &'a mut Planes,
    shift: u8,
}

impl Coder for DcFirst<'_> {
    fn read(
        &mut self,
        bits: &mut Bits<'_>,
        range: Range<u32>,
        clock: &mut Clock,
    ) -> Result<u32, Reason> {
        for (part, _) in &mut self.parts {
            part.prediction = 0;
        }
        let end = range.end;
        for mcu in range {
            clock.work(1)?;
            for (part, layout) in &mut self.parts {
                let Some(plane) = self.planes.part(layout.index) else {
                    continue;
                };
                for number in 0..part.blocks {
                    part.prediction = part.prediction.wrapping_add(part.difference(bits));
                    let block = plane.block_mut(layout.block(mcu, number));
                    if let Some(dc) = block.first_mut() {
                        *dc = truncated(part.prediction << self.shift);
                    }
                }
            }
            if bits.overrun() > 0 {
                return Ok(mcu);
            }
        }
        Ok(end)
    }
}

/// Reads a later scan of DC coefficients: one bit for each block.
struct DcRefine<'a> {
    layouts: Vec<Layout>,
    planes: &'a mut Planes,
    shift: u8,
}

impl Coder for DcRefine<'_> {
    fn read(
        &mut self,
        bits: &mut Bits<'_>,
        range: Range<u32>,
        clock: &mut Clock,
    ) -> Result<u32, Reason> {
        let end = range.end;
        for mcu in range {
            clock.work(1)?;
            for layout in &self.layouts {
                let Some(plane) = self.planes.part(layout.index) else {
                    continue;
                };
                for number in 0..layout.blocks() {
                    bits.refill();
                    let bit = bits.take(1).cast_signed();
                    let block = plane.block_mut(layout.block(mcu, number));
                    if let Some(dc) = block.first_mut() {
                        *dc |= truncated(bit << self.shift);
                    }
                }
            }
            if bits.overrun() > 0 {
                return Ok(mcu);
            }
        }
        Ok(end)
    }
}

/// Reads a scan of a band of AC coefficients.
struct Ac<'a> {
    table: &'a Table,
    layout: Layout,
    plane: &'a mut Plane,
    /// The first and the last coefficient.
    band: (u32, u32),
    shift: u8,
    is_first: bool,
    /// Number of blocks left in the run of blocks whose band has ended.
    run: u32,
}

impl Coder for Ac<'_> {
    fn read(
        &mut self,
        bits: &mut Bits<'_>,
        range: Range<u32>,
        clock: &mut Clock,
    ) -> Result<u32, Reason> {
        self.run = 0;
        let Range { start: mut at, end } = range;
        while at < end {
            clock.work(1)?;
            if self.is_first && self.run > 0 {
                let step = self.run.min(end - at);
                self.run -= step;
                at += step;
                continue;
            }
            let place = self.layout.block(at, 0);
            if self.is_first {
                self.first(bits, place);
            } else {
                self.refine(bits, place);
            }
            if bits.overrun() > 0 {
                return Ok(at);
            }
            at += 1;
        }
        Ok(at)
    }
}

impl Ac<'_> {
    /// Reads the first bits of a block's coefficients.
    fn first(&mut self, bits: &mut Bits<'_>, place: usize) {
        let (values, Some(mask)) = self.plane.both(place) else {
            return;
        };
        let (mut k, last) = self.band;
        while k <= last {
            bits.refill();
            let symbol = bits.symbol(self.table);
            let (zeros, size) = (symbol >> 4, symbol & 15);
            k += zeros;
            if size > 0 {
                let value = truncated(extended(bits.take(size), size) << self.shift);
                if let Some(cell) = values.get_mut(k as usize) {
                    *cell = value;
                }
                let bit = 1 << k.min(63);
                *mask = if value == 0 {
                    *mask & !bit
                } else {
                    *mask | bit
                };
            } else if zeros < 15 {
                // This block ends here, and so do the next ones.
                self.run = (1 << zeros) + bits.take(zeros) - 1;
                return;
            }
            k += 1;
        }
    }

    /// Reads the next bit of a block's coefficients.
    fn refine(&mut self, bits: &mut Bits<'_>, place: usize) {
        let (values, Some(mask)) = self.plane.both(place) else {
            return;
        };
        let (mut k, last) = self.band;
        let one = truncated(1 << self.shift);
        while self.run == 0 && k <= last {
            bits.refill();
            let symbol = bits.symbol(self.table);
            let (mut zeros, size) = (symbol >> 4, symbol & 15);
            if size == 0 && zeros < 15 {
                self.run = (1 << zeros) + bits.take(zeros);
                break;
            }
            let new = match size {
                0 => 0,
                _ if bits.take(1) > 0 => one,
                _ => -one,
            };
            while k <= last {
                if *mask >> k & 1 > 0 {
                    correct(bits, values, k, one);
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                k += 1;
            }
            if new != 0 && k <= last {
                *mask |= 1 << k;
                if let Some(cell) = values.get_mut(k as usize) {
                    *cell = new;
                }
            }
            k += 1;
        }
        if self.run > 0 {
            for k in k..=last {
                if *mask >> k & 1 > 0 {
                    correct(bits, values, k, one);
                }
            }
            self.run -= 1;
        }
    }
}

/// Reads the next bit of a coefficient that is not zero.
#[inline]
fn correct(bits: &mut Bits<'_>, values: &mut [i16], k: u32, one: i16) {
    bits.refill();
    if bits.take(1) == 0 {
        return;
    }
    if let Some(value) = values
        .get_mut(k as usize)
        .filter(|value| **value & one == 0)
    {
        *value = if *value >= 0 {
            value.wrapping_add(one)
        } else {
            value.wrapping_sub(one)
        };
    }
}
