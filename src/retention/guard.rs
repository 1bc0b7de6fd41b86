//! Whether the reaper believes this machine's clock. A clock that is wrong deletes images whose time was paid for,
//! and nothing brings them back. So the reaper deletes only while one of these holds:
//!
//! 1. The reaper last ran no more than a day ago, by the database's record of it ([`ONE_DAY`]).
//! 2. This process believed the clock before, and since then the clock has gone no more than a day ahead of the
//!    monotonic clock, which nobody sets.
//! 3. The database is empty: no image, no payment and no run of the reaper is in it.
//! 4. An independent clock agrees within ten minutes ([`TOLERANCE`]). One is enough.
//! 5. The process has waited for a day by the monotonic clock, since it started or since the clock was set.
//! 6. The operator said `pixtoll reap --accept-clock`, which records a run (rule 1).
//!
//! Each run that may delete is recorded, and servers record one every hour, whatever the schedule of the reaper is. A
//! recorded run in the future, which another clock must have written, is no run.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;

use super::independent::{IndependentClock, Reading, Shown};
use crate::clock::{Clock, Timestamp};

/// A longer time since the last run has to be confirmed, and so has a clock that went ahead by more.
const ONE_DAY: Duration = Duration::from_hours(24);
/// How far two clocks may be apart that agree.
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
    /// What the clocks show now.
    pub(super) fn now(clock: &dyn Clock) -> Self {
        Self {
            wall: clock.now(),
            uptime: clock.uptime(),
        }
    }

    /// Whether the wall clock went more than a day further than the monotonic clock since `earlier`.
    fn was_set_since(self, earlier: Self) -> bool {
        let passed = self.uptime.saturating_sub(earlier.uptime);
        self.wall > earlier.wall.plus(passed).plus(ONE_DAY)
    }
}

/// Why this machine's clock isn't believed, and what would make it believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// What the clock shows.
    pub now: Timestamp,
    /// When the reaper last ran, as the database has it.
    pub last_run: Option<Timestamp>,
    /// What the independent clocks show.
    pub readings: Vec<Reading>,
    /// After how long this process believes its clock without any of them.
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
    /// When the clocks of this machine were last looked at.
    seen: Moment,
    /// Whether they were believed then.
    is_believed: bool,
    /// Since when they have not been, by the monotonic clock.
    waiting_since: Duration,
    /// What the independent clocks showed when they were last asked, and when that was.
    asked: Option<(Duration, Vec<Reading>)>,
    /// What was last warned of, and when.
    warned: Option<(Duration, Vec<Sign>)>,
}

/// As much of a reading as has to change before it is warned of again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Time,
    OwnClock,
    Nothing,
}

impl ClockGuard {
    /// A guard that asks these clocks. The process is taken to start now.
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

    /// Whether the wall clock was set ahead by more than a day since it was last looked at.
    pub(super) fn was_set(&self, moment: Moment) -> bool {
        moment.was_set_since(self.state().seen)
    }

    /// Whether the clock is believed without asking anybody: rules 1, 2 and 5.
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
                "no independent clock has confirmed this machine's clock for a day; it is believed now, and what is due by it is deleted"
            );
        }
        has_waited
    }

    /// Notes that the clock was believed.
    pub(super) fn believe(&self, moment: Moment) {
        let mut state = self.state();
        state.seen = moment;
        state.is_believed = true;
        // The next doubt begins when it is found.
        state.waiting_since = moment.uptime;
        state.asked = None;
        state.warned = None;
    }

    /// Asks the independent clocks: rule 4. They are asked once in [`ASK_EVERY`] at most; until then the last
    /// answers stand.
    ///
    /// Returns the moment with which one agreed.
    ///
    /// # Errors
    /// [`Doubt`]: none agrees.
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
                "an independent clock agrees with this machine's; what is due is deleted"
            );
            return Ok(moment);
        }
        self.state().asked = Some((moment.uptime, readings.clone()));
        Err(self.doubt(moment, last_run, readings))
    }

    /// Logs what is waited for: at first, when a clock has changed its answer, and every hour.
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
            None => f.write_str("and the database knows no run of the reaper. ")?,
            Some(ran) if ran > now => {
                write!(f, "and the reaper last ran later than that, at {ran}. ")?;
            }
            Some(ran) => write!(
                f,
                "and the reaper last ran {} before, at {ran}. ",
                lasting(now.since(ran))
            )?,
        }
        write!(
            f,
            "The reaper waits until an independent clock agrees within 10 minutes, until the server has run for {} \
             more, or for `pixtoll reap --accept-clock`, which says that the clock is right. ",
            lasting(self.left)
        )?;
        if self.readings.is_empty() {
            return f.write_str("There is no independent clock: no network, bucket or PostgreSQL server is configured");
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

/// A duration for people, to the second.
fn lasting(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(duration.as_secs()))
}

#[cfg(test)]
mod tests;
