//! Reads scans: MCUs between restart markers, with coders for sequential scans and for DC scans.

use std::ops::Range;
use std::time::Instant;

use super::bits::{Bits, Restart};
use super::fault::Reason;
use super::pixels::truncated;
use super::tables::{Table, ac_step};

/// The clock is checked after this number of steps.
const CLOCK_STEP: u64 = 2048;

/// The time limit of one image, and the steps it has taken.
pub(super) struct Clock {
    deadline: Option<Instant>,
    /// MCUs that were read, and jumps over MCUs without data.
    pub(super) steps: u64,
    next_look: u64,
}

impl Clock {
    pub(super) fn new(deadline: Option<Instant>) -> Self {
        Self {
            deadline,
            steps: 0,
            next_look: 0,
        }
    }

    /// Counts steps, and checks the clock from time to time.
    #[inline]
    pub(super) fn work(&mut self, steps: u32) -> Result<(), Reason> {
        self.steps += u64::from(steps);
        if self.steps < self.next_look {
            return Ok(());
        }
        self.next_look = self.steps + CLOCK_STEP;
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Reason::TimeLimit),
            _ => Ok(()),
        }
    }
}

/// Reads the MCUs of one kind of scan.
pub(super) trait Coder {
    /// Reads the MCUs of `range`, which contains no restart marker. Returns the first MCU for which
    /// data is missing, or the end of the range.
    fn read(
        &mut self,
        bits: &mut Bits<'_>,
        range: Range<u32>,
        clock: &mut Clock,
    ) -> Result<u32, Reason>;
}

/// Reads the `total` MCUs of a scan. Returns how many are missing because markers cut the data.
pub(super) fn read_scan(
    coder: &mut impl Coder,
    bits: &mut Bits<'_>,
    total: u32,
    interval: u16,
    clock: &mut Clock,
) -> Result<u32, Reason> {
    let (mut start, mut missing, mut expected) = (0, 0, 0);
    loop {
        let end = if interval == 0 {
            total
        } else {
            total.min(start + u32::from(interval))
        };
        let read = coder.read(bits, start..end, clock)?;
        if read < end {
            if bits.at_file_end() {
                return Err(Reason::Truncated(read, total));
            }
            missing += end - read;
            bits.warnings += 1;
        }
        if end == total {
            return Ok(missing);
        }
        start = end;
        match bits.restart(expected) {
            Restart::Data => expected = (expected + 1) & 7,
            Restart::Ended => {
                // libjpeg warns again at each restart.
                bits.warnings = bits
                    .warnings
                    .saturating_add((total - start - 1) / u32::from(interval));
                return Ok(missing + total - start);
            }
            Restart::FileEnd => return Err(Reason::Truncated(start, total)),
        }
    }
}

/// The part of a component in the MCUs of a scan.
pub(super) struct Part<'a> {
    pub(super) dc: &'a Table,
    /// The AC table. In a DC scan, the DC table again.
    pub(super) ac: &'a Table,
    /// Number of blocks in an MCU.
    pub(super) blocks: u32,
    /// The DC coefficient of the previous block.
    pub(super) prediction: i32,
    /// The DC coefficients of all blocks in the order of the scan; `None` if they are not kept.
    pub(super) kept: Option<Vec<i16>>,
}

impl Part<'_> {
    /// Reads a DC difference.
    #[inline]
    pub(super) fn difference(&self, bits: &mut Bits<'_>) -> i32 {
        bits.refill();
        let size = bits.symbol(self.dc);
        let value = bits.take(size).cast_signed();
        // Values whose first bit is 0 stand for negative differences.
        if size > 0 && value >> (size - 1) == 0 {
            value - (1 << size) + 1
        } else {
            value
        }
    }

    /// Prepares for the blocks from `mcu` on. The DC coefficients of missing blocks are 0.
    pub(super) fn restart(&mut self, mcu: u32) {
        self.prediction = 0;
        if let Some(kept) = &mut self.kept {
            kept.resize(mcu as usize * self.blocks as usize, 0);
        }
    }

    /// Keeps the DC coefficient of a block, without its low `shift` bits.
    #[inline]
    fn keep(&mut self, shift: u8) {
        if let Some(kept) = &mut self.kept {
            kept.push(truncated(self.prediction << shift));
        }
    }

    /// Skips the AC coefficients of a block from the `k`th on.
    #[inline]
    pub(super) fn skip_ac(&self, bits: &mut Bits<'_>, mut k: u32) {
        while k < 64 {
            bits.refill();
            let run = self.ac.run(bits.peek(super::tables::LOOK));
            if run.bits() > 0 && k + run.before_last() < 64 {
                bits.consume(run.bits());
                k += run.coefficients();
            } else {
                let symbol = bits.symbol(self.ac);
                bits.consume(symbol & 15);
                k += ac_step(symbol);
            }
        }
    }
}

/// Reads a sequential scan: all coefficients of each block.
pub(super) struct Sequential<'a>(pub(super) Vec<Part<'a>>);

impl Coder for Sequential<'_> {
    fn read(
        &mut self,
        bits: &mut Bits<'_>,
        range: Range<u32>,
        clock: &mut Clock,
    ) -> Result<u32, Reason> {
        self.0.iter_mut().for_each(|part| part.restart(range.start));
        let end = range.end;
        for mcu in range {
            clock.work(1)?;
            for part in &mut self.0 {
                for _ in 0..part.blocks {
                    part.prediction = part.prediction.wrapping_add(part.difference(bits));
                    part.keep(0);
                    part.skip_ac(bits, 1);
                }
            }
            if bits.overrun() > 0 {
                return Ok(mcu);
            }
        }
        Ok(end)
    }
}

/// Reads the first DC scan of a progressive image.
pub(super) struct DcFirst<'a> {
    pub(super) parts: Vec<Part<'a>>,
    /// Number of low bits that later scans contain.
    pub(super) shift: u8,
}

impl Coder for DcFirst<'_> {
    fn read(
        &mut self,
        bits: &mut Bits<'_>,
        range: Range<u32>,
        clock: &mut Clock,
    ) -> Result<u32, Reason> {
        self.parts
            .iter_mut()
            .for_each(|part| part.restart(range.start));
        let end = range.end;
        for mcu in range {
            clock.work(1)?;
            for part in &mut self.parts {
                for _ in 0..part.blocks {
                    let difference = part.difference(bits);
                    part.prediction = part
                        .prediction
                        .checked_add(difference)
                        .ok_or(Reason::DcOverflow)?;
                    part.keep(self.shift);
                }
            }
            if bits.overrun() > 0 {
                return Ok(mcu);
            }
        }
        Ok(end)
    }
}

/// Reads a later DC scan: one bit for each of the blocks in an MCU, whose number is the value.
pub(super) struct DcRefine(pub(super) u32);

impl Coder for DcRefine {
    fn read(
        &mut self,
        bits: &mut Bits<'_>,
        range: Range<u32>,
        clock: &mut Clock,
    ) -> Result<u32, Reason> {
        let mut mcu = range.start;
        while mcu < range.end {
            let step = (range.end - mcu).min(256);
            clock.work(step)?;
            bits.skip(step * self.0);
            mcu += step;
            if bits.overrun() > 0 {
                return Ok(mcu.saturating_sub(bits.overrun().div_ceil(self.0)));
            }
        }
        Ok(mcu)
    }
}
