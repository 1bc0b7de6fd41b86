//! Limits the work and the time of decoding one file.
//!
//! Work is counted in steps, so that a file gets the same result on every machine and under every
//! load. A step is about a nanosecond of one core. The clock is checked in addition.

use std::time::Instant;

use super::Fault;

/// The steps that a file of any length may take: less than 2 s of one core.
const LEAST_BUDGET: u64 = 1_900_000_000;
/// The steps per byte of a larger file. The densest photographs in lossy WebP take 55.
const STEPS_PER_BYTE: u64 = 95;
/// The clock is checked after this number of steps: a fraction of a millisecond.
const STEPS: u64 = 1 << 18;

/// Counts the steps of decoding one file, and returns an error when they or the time are used up.
pub(super) struct Deadline {
    end: Instant,
    /// Steps that are left in the budget, including those since the last check of the clock.
    left: u64,
    /// Steps since the last check of the clock.
    steps: u64,
}

/// The most steps that decoding a file of `len` bytes may take.
pub(super) fn budget(len: u64) -> u64 {
    len.saturating_mul(STEPS_PER_BYTE).max(LEAST_BUDGET)
}

impl Deadline {
    /// The limits for a file of `len` bytes that must be decoded before `end`.
    pub(super) fn at(end: Instant, len: u64) -> Self {
        Self {
            end,
            left: budget(len),
            steps: 0,
        }
    }

    /// Counts steps of work.
    ///
    /// # Errors
    /// [`Fault::Timeout`] if the budget or the time is used up.
    #[inline]
    pub(super) fn spend(&mut self, steps: u32) -> Result<(), Fault> {
        self.steps = self.steps.saturating_add(u64::from(steps));
        if self.steps < STEPS {
            return Ok(());
        }
        self.check()
    }

    /// Compares the steps with the budget, and the clock with the end.
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

    /// Spends steps in pieces of a million.
    fn spend(deadline: &mut Deadline, steps: u64) -> Result<(), Fault> {
        let piece = 1_000_000;
        (0..steps / u64::from(piece)).try_for_each(|_| deadline.spend(piece))
    }

    #[test]
    fn the_length_of_a_file_limits_the_work_even_if_time_is_left() {
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
