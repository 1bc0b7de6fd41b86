//! What decoding one file may cost, in work and in time.
//!
//! Work is counted in steps, so that a file gets the same verdict on every machine and under every load. A step is about
//! a nanosecond of one core. The clock is looked at besides.

use std::time::Instant;

use super::Fault;

/// The steps that every file may take: less than 2 s of one core.
const LEAST_BUDGET: u64 = 1_900_000_000;
/// The steps for each byte of a larger file. The densest photographs in lossy WebP take 55.
const STEPS_PER_BYTE: u64 = 95;
/// How many steps are made between two looks at the clock: a fraction of a millisecond.
const STEPS: u64 = 1 << 18;

/// Asked with the size of each piece of work. Looks at the clock when enough has been done.
pub(super) struct Deadline {
    end: Instant,
    /// Steps that are left in the budget, those since the last look at the clock included.
    left: u64,
    /// Steps since the last look at the clock.
    steps: u64,
}

/// The most steps that decoding a file of so many bytes may take.
pub(super) fn budget(len: u64) -> u64 {
    len.saturating_mul(STEPS_PER_BYTE).max(LEAST_BUDGET)
}

impl Deadline {
    /// For a file of so many bytes, which has to be decoded by this time.
    pub(super) fn at(end: Instant, len: u64) -> Self {
        Self {
            end,
            left: budget(len),
            steps: 0,
        }
    }

    /// Counts this many steps of work.
    ///
    /// # Errors
    /// [`Fault::Timeout`]: the budget is used up, or the time.
    #[inline]
    pub(super) fn spend(&mut self, steps: u32) -> Result<(), Fault> {
        self.steps = self.steps.saturating_add(u64::from(steps));
        if self.steps < STEPS {
            return Ok(());
        }
        self.check()
    }

    /// Looks at the budget and the clock.
    #[cold]
    fn check(&mut self) -> Result<(), Fault> {
        let left = self.left.checked_sub(self.steps);
        self.steps = 0;
        match left {
            Some(left) if Instant::now() < self.end => {
                self.left = left;
                Ok(())
            }
            _ => {
                self.left = 0;
                Err(Fault::Timeout)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Spends so many steps in pieces.
    fn spend(deadline: &mut Deadline, steps: u64) -> Result<(), Fault> {
        let piece = 1_000_000;
        (0..steps / u64::from(piece)).try_for_each(|_| deadline.spend(piece))
    }

    #[test]
    fn work_is_bounded_by_the_length_of_a_file_though_there_is_time() {
        let end = Instant::now() + Duration::from_mins(1);
        for (len, budget) in [
            (0, LEAST_BUDGET),
            (20_000_000, LEAST_BUDGET),
            (64 << 20, (64 << 20) * 95),
        ] {
            let mut deadline = Deadline::at(end, len);
            assert_eq!(spend(&mut deadline, budget - 2_000_000), Ok(()), "{len}");
            assert_eq!(
                spend(&mut deadline, 4_000_000),
                Err(Fault::Timeout),
                "{len}"
            );
            assert_eq!(spend(&mut deadline, 1_000_000), Err(Fault::Timeout));
        }
    }
}
