//! AC scans of progressive images.
//!
//! The number of bits in a later scan depends on which coefficients are not zero. So one bit is
//! kept for each coefficient, and no values.

use std::ops::Range;

use super::bits::Bits;
use super::fault::Reason;
use super::scan::{Clock, Coder};
use super::tables::Table;

/// An AC scan of one component.
pub(super) struct AcScan<'a> {
    pub(super) table: &'a Table,
    /// First coefficient of the band, at least 1.
    pub(super) ss: u32,
    /// Last coefficient of the band, at most 63.
    pub(super) se: u32,
    pub(super) al: u32,
    /// For each block, a bit for each coefficient that is not zero.
    pub(super) masks: &'a mut [u64],
    /// Number of blocks left in the run of blocks whose band has ended.
    pub(super) run: u32,
}

/// Reads the first scan of a band.
pub(super) struct AcFirst<'a>(pub(super) AcScan<'a>);

/// Reads a later scan of a band, which contains one more bit of each coefficient.
pub(super) struct AcRefine<'a>(pub(super) AcScan<'a>);

impl AcScan<'_> {
    /// Reads the length of the run that symbol `length << 4` begins, including this block.
    fn start_run(&mut self, bits: &mut Bits<'_>, length: u32) {
        self.run = (1 << length) + bits.take(length);
    }

    /// Reads the first bits of a block's coefficients. Returns the new mask.
    fn first(&mut self, bits: &mut Bits<'_>, mask: u64) -> u64 {
        let (mut k, mut mask) = (self.ss, mask);
        while k <= self.se {
            bits.refill();
            let symbol = bits.symbol(self.table);
            let (zeros, size) = (symbol >> 4, symbol & 15);
            k += zeros;
            if size > 0 {
                // libjpeg keeps 16 bits of the shifted value, so a large one can become 0.
                let value = bits.take(size);
                let kept = 16 - self.al;
                // A first bit of 0 marks a negative value, whose low bits are those of value + 1.
                let low = if value >> (size - 1) == 0 {
                    value.wrapping_add(1)
                } else {
                    value
                };
                let bit = 1 << k.min(63);
                if size < kept || low & ((1 << kept) - 1) != 0 {
                    mask |= bit;
                } else {
                    mask &= !bit;
                }
            } else if zeros < 15 {
                self.start_run(bits, zeros);
                self.run -= 1;
                break;
            }
            k += 1;
        }
        mask
    }

    /// Reads the next bit of a block's coefficients. Returns the new mask.
    fn refine(&mut self, bits: &mut Bits<'_>, mask: u64) -> u64 {
        let (mut k, mut mask) = (self.ss, mask);
        while self.run == 0 && k <= self.se {
            bits.refill();
            let symbol = bits.symbol(self.table);
            let (zeros, size) = (symbol >> 4, symbol & 15);
            if size == 0 && zeros < 15 {
                self.start_run(bits, zeros);
                break;
            }
            if size > 1 {
                bits.warnings += 1;
            }
            // A sign for the new coefficient, and one bit for each old one before it.
            let new = size.min(1);
            let (target, passed) = self.target(mask, k, zeros);
            bits.skip(new + passed);
            mask |= u64::from(new) << target.min(63);
            k = target + 1;
        }
        if self.run > 0 {
            bits.skip((mask & band(k, self.se + 1)).count_ones());
            self.run -= 1;
        }
        mask
    }

    /// The place of the zero coefficient behind `zeros` others, at or behind `k`, and how many
    /// coefficients before it are not zero. If the band has fewer zeros, the place is behind the
    /// band.
    #[inline]
    fn target(&self, mask: u64, k: u32, zeros: u32) -> (u32, u32) {
        let band = band(k, self.se + 1);
        let mut free = !mask & band;
        // Most runs are short. Steps without a branch are faster for them.
        for step in 0..4 {
            free &= free.wrapping_sub(u64::from(zeros > step));
        }
        for _ in 4..zeros {
            free &= free.wrapping_sub(1);
        }
        if free == 0 {
            return (self.se + 1, (mask & band).count_ones());
        }
        let target = free.trailing_zeros();
        (target, target - k - zeros)
    }

    /// Reads the blocks of `range` with `block`.
    fn read(
        &mut self,
        bits: &mut Bits<'_>,
        range: Range<u32>,
        clock: &mut Clock,
        jump: bool,
        block: impl Fn(&mut Self, &mut Bits<'_>, u64) -> u64,
    ) -> Result<u32, Reason> {
        self.run = 0;
        let Range { start: mut at, end } = range;
        while at < end {
            clock.work(1)?;
            if jump && self.run > 0 {
                let step = self.run.min(end - at);
                self.run -= step;
                at += step;
                continue;
            }
            let mask = self.masks.get(at as usize).copied().unwrap_or(0);
            let mask = block(self, bits, mask);
            if let Some(place) = self.masks.get_mut(at as usize) {
                *place = mask;
            }
            if bits.overrun() > 0 {
                return Ok(at);
            }
            at += 1;
        }
        Ok(at)
    }
}

/// A mask of the coefficients `from..to`, 64 at most.
#[inline]
fn band(from: u32, to: u32) -> u64 {
    let below = |k: u32| 1_u64.checked_shl(k).map_or(u64::MAX, |bit| bit - 1);
    below(to) & !below(from)
}

impl Coder for AcFirst<'_> {
    fn read(
        &mut self,
        bits: &mut Bits<'_>,
        range: Range<u32>,
        clock: &mut Clock,
    ) -> Result<u32, Reason> {
        self.0.read(bits, range, clock, true, AcScan::first)
    }
}

impl Coder for AcRefine<'_> {
    fn read(
        &mut self,
        bits: &mut Bits<'_>,
        range: Range<u32>,
        clock: &mut Clock,
    ) -> Result<u32, Reason> {
        self.0.read(bits, range, clock, false, AcScan::refine)
    }
}
