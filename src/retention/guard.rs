//! Decides whether the reaper trusts this machine's clock. A wrong clock would delete images whose
//! time was paid for, for good. So the reaper deletes only while one of these rules holds:
//!
//! 1. The reaper last ran at most a day ago, as recorded in the database ([`ONE_DAY`]).
//! 2. This process trusted the clock before, and since then the clock has gained at most a day on
//!    the monotonic clock, which can't be set.
//! 3. The database is empty: it has no image, no payment and no run of the reaper.
//! 4. An independent clock agrees within ten minutes ([`TOLERANCE`]). One is enough.
//! 5. The process has waited for a day by the monotonic clock, since it started or since the clock
//!    was set.
//! 6. The operator ran `pixtoll reap --accept-clock`, which records a run (rule 1).
//!
//! Each run that may delete is recorded, and servers record one every hour, whatever the reaper's
//! schedule. A recorded run in the future was written by another clock, and is ignored.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;

use super::independent::{IndependentClock, Reading, Shown};
use crate::system::clock::{Clock, Timestamp};

/// A longer time since the last run needs confirmation, and so does a clock that gained more than
/// this.
const ONE_DAY: Duration = Duration::from_hours(24);
/// The largest difference between two clocks that agree.
const TOLERANCE: Duration = Duration::from_mins(10);
/// How often the independent clocks are asked while none agrees.
pub(super) const ASK_EVERY: Duration = Duration::from_mins(1);
/// How often the log repeats what the reaper waits for.
const WARN_EVERY: Duration = Duration::from_hours(1);

/// Both clocks of this machine, read at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// The wall clock.
    pub(super) wall: Timestamp,
    /// The monotonic clock.
    uptime: Duration,
}

impl Moment {
    /// Reads both clocks.
    pub(super) fn now(clock: &dyn Clock) -> Self {
        Self {
            wall: clock.now(),
            uptime: clock.uptime(),
        }
    }

    /// Whether the wall clock has gained more than a day on the monotonic clock since `earlier`.
    fn was_set_since(self, earlier: Self) -> bool {
        let passed = self.uptime.saturating_sub(earlier.uptime);
        self.wall > earlier.wall.plus(passed).plus(ONE_DAY)
    }
}

/// Why this machine's clock isn't trusted, and what would make it trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The time that the clock shows.
    pub now: Timestamp,
    /// When the reaper last ran, as recorded in the database.
    pub last_run: Option<Timestamp>,
    /// The results of asking the independent clocks.
    pub readings: Vec<Reading>,
    /// How long until this process trusts its clock without any of them (rule 5).
    pub left: Duration,
}

/// The guard of one process.
#[derive(Debug)]
pub(super) struct ClockGuard {
    clocks: Vec<IndependentClock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the clocks of this machine were last checked.
    seen: Moment,
    /// Whether they were trusted then.
    is_believed: bool,
    /// Since when they have not been trusted, by the monotonic clock.
    waiting_since: Duration,
    /// When the independent clocks were last asked, and their results.
    asked: Option<(Duration, Vec<Reading>)>,
    /// When the last warning was logged, and what it showed.
    warned: Option<(Duration, Vec<Sign>)>,
}

/// The part of a reading that must change before another warning is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Time,
    OwnClock,
    Nothing,
}

impl ClockGuard {
    /// Creates a guard that asks these clocks. The process counts as started now.
    pub(super) fn new(clock: &dyn Clock, clocks: Vec<IndependentClock>) -> Self {
        let seen = Moment::now(clock);
        Self {
            clocks,
            state: Mutex::new(State {
                seen,
                is_believed: false,
                waiting_since: seen.uptime,
                asked: None,
                warned: None,
            }),
        }
    }

    /// Whether the wall clock was set ahead by more than a day since it was last checked.
    pub(super) fn was_set(&self, moment: Moment) -> bool {
        moment.was_set_since(self.state().seen)
    }

    /// Whether the clock is trusted without asking other clocks: rules 1, 2 and 5.
    pub(super) fn believes(&self, moment: Moment, last_run: Option<Timestamp>) -> bool {
        let mut state = self.state();
        if moment.was_set_since(state.seen) {
            state.is_believed = false;
            state.waiting_since = moment.uptime;
            state.asked = None;
        }
        state.seen = moment;
        let is_recent = last_run.is_some_and(|ran| {
            ran <= moment.wall.plus(TOLERANCE) && moment.wall.since(ran) <= ONE_DAY
        });
        if state.is_believed || is_recent {
            return true;
        }
        let has_waited = moment.uptime.saturating_sub(state.waiting_since) >= ONE_DAY;
        if has_waited {
            tracing::warn!(
                now = %moment.wall,
                "no independent clock has confirmed this machine's clock for a day; it is trusted now, and everything that is due is deleted"
            );
        }
        has_waited
    }

    /// Records that the clock is trusted.
    pub(super) fn believe(&self, moment: Moment) {
        let mut state = self.state();
        state.seen = moment;
        state.is_believed = true;
        // The next wait begins when the clock is not trusted any more.
        state.waiting_since = moment.uptime;
        state.asked = None;
        state.warned = None;
    }

    /// Asks the independent clocks (rule 4), at most once in [`ASK_EVERY`]. Until then the last
    /// results stand.
    ///
    /// Returns the moment at which one agreed.
    ///
    /// # Errors
    /// [`Doubt`]: no clock agrees.
    pub(super) async fn confirm(
        &self,
        clock: &dyn Clock,
        last_run: Option<Timestamp>,
    ) -> Result<Moment, Doubt> {
        let moment = Moment::now(clock);
        if let Some(readings) = self.asked_before(moment) {
            return Err(self.doubt(moment, last_run, readings));
        }
        let readings = join_all(self.clocks.iter().map(IndependentClock::read)).await;
        let moment = Moment::now(clock);
        if let Some(reading) = readings.iter().find(|reading| agrees(reading, moment.wall)) {
            tracing::info!(
                clock = %reading.clock,
                "an independent clock agrees with this machine's; everything that is due is deleted"
            );
            return Ok(moment);
        }
        self.state().asked = Some((moment.uptime, readings.clone()));
        Err(self.doubt(moment, last_run, readings))
    }

    /// Logs what the reaper waits for: the first time, when a clock's result has changed, and every
    /// hour.
    pub(super) fn warn(&self, clock: &dyn Clock, doubt: &Doubt) {
        let signs: Vec<Sign> = doubt.readings.iter().map(sign).collect();
        let uptime = clock.uptime();
        let mut state = self.state();
        let is_known = state.warned.as_ref().is_some_and(|(at, warned)| {
            *warned == signs && uptime.saturating_sub(*at) < WARN_EVERY
        });
        if is_known {
            return;
        }
        state.warned = Some((uptime, signs));
        drop(state);
        tracing::warn!("{doubt}");
    }

    fn asked_before(&self, moment: Moment) -> Option<Vec<Reading>> {
        let state = self.state();
        let (at, readings) = state.asked.as_ref()?;
        (moment.uptime.saturating_sub(*at) < ASK_EVERY).then(|| readings.clone())
    }

    fn doubt(&self, moment: Moment, last_run: Option<Timestamp>, readings: Vec<Reading>) -> Doubt {
        let waited = moment.uptime.saturating_sub(self.state().waiting_since);
        Doubt {
            now: moment.wall,
            last_run,
            readings,
            left: ONE_DAY.saturating_sub(waited),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn agrees(reading: &Reading, now: Timestamp) -> bool {
    matches!(reading.shown, Shown::Time(shown) if shown.distance(now) <= TOLERANCE)
}

fn sign(reading: &Reading) -> Sign {
    match reading.shown {
        Shown::Time(_) => Sign::Time,
        Shown::OwnClock => Sign::OwnClock,
        Shown::Nothing(_) => Sign::Nothing,
    }
}

/// The whole message for the operator.
impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = self.now;
        write!(f, "nothing is deleted: this machine's clock shows {now}, ")?;
        match self.last_run {
            None => f.write_str("and the database has no record of a run of the reaper. ")?,
            Some(ran) if ran > now => {
                write!(f, "but the reaper last ran at {ran}, which is later. ")?;
            }
            Some(ran) => write!(
                f,
                "and the reaper last ran {} earlier, at {ran}. ",
                lasting(now.since(ran))
            )?,
        }
        write!(
            f,
            "The reaper waits until an independent clock agrees within 10 minutes, until the server has run for another {}, \
             or until you confirm the clock by `pixtoll reap --accept-clock`. ",
            lasting(self.left)
        )?;
        if self.readings.is_empty() {
            return f.write_str("No independent clock is available: no network, bucket or PostgreSQL server is configured");
        }
        f.write_str("Independent clocks: ")?;
        for (index, reading) in self.readings.iter().enumerate() {
            let separator = if index > 0 { "; " } else { "" };
            write!(f, "{separator}{} ", reading.clock)?;
            match &reading.shown {
                Shown::Time(shown) => write!(f, "shows {shown}")?,
                Shown::OwnClock => f.write_str("is on this machine and does not count")?,
                Shown::Nothing(why) => write!(f, "gives no time ({why})")?,
            }
        }
        Ok(())
    }
}

/// Formats a duration for people, to the second.
fn lasting(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(duration.as_secs()))
}

#[cfg(test)]
mod tests;
