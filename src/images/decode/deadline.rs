//! A time limit that costs nothing to ask for.

use std::time::Instant;

use super::Fault;

/// How many steps are made between two looks at the clock: about a millisecond of work.
const STEPS: u32 = 1 << 17;

/// Asked with the size of each piece of work; looks at the clock when enough has been done.
pub(super) struct Deadline {
    end: Instant,
    steps: u32,
}

impl Deadline {
    pub(super) const fn at(end: Instant) -> Self {
        Self { end, steps: 0 }
    }

    /// Counts this many steps of work.
    #[inline]
    pub(super) fn spend(&mut self, steps: u32) -> Result<(), Fault> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps < STEPS {
            return Ok(());
        }
        self.steps = 0;
        self.check()
    }

    /// Looks at the clock.
    #[cold]
    pub(super) fn check(&self) -> Result<(), Fault> {
        if Instant::now() >= self.end {
            return Err(Fault::Timeout);
        }
        Ok(())
    }
}
