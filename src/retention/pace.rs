//! How fast the reaper goes: slowly after a silence that nobody can explain, since what broke it may be a
//! clock that was set; and how it finds that its clock was set.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::db::jobs::Job;

/// A wall clock that runs ahead by more than this was set, and so was one after a longer silence, for
/// all that a new process knows.
const ONE_DAY: Duration = Duration::from_hours(24);
/// How long a reaper goes slowly after such a silence, and the pause between its batches then.
const SLOW_FOR: Duration = Duration::from_mins(10);
pub(super) const SLOW_PAUSE: Duration = Duration::from_mins(1);
/// Runs that are no further apart are one occasion, and say nothing of how often there is one.
const SAME_OCCASION: Duration = Duration::from_secs(30);

/// How one run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Until nothing is due.
    Full,
    /// One batch, since there was a silence.
    Slow {
        /// When that ends.
        until: Timestamp,
    },
    /// No batch: this minute's is done.
    Wait,
}

/// What this run is, by what the last ones left: its pace, and how long the work used to rest.
pub(super) fn pace(job: &Job, now: Timestamp, is_first: bool) -> (Pace, Option<Duration>) {
    // What lies in the future was written by a clock that has been set right since.
    let ran = job
        .ran_ms
        .map(Timestamp::from_millis)
        .filter(|ran| *ran <= now);
    let slow_until = job
        .slow_until_ms
        .map(Timestamp::from_millis)
        .filter(|end| now < *end && *end <= now.plus(SLOW_FOR));
    let usual = job
        .rest_ms
        .and_then(|rest| u64::try_from(rest).ok())
        .map(Duration::from_millis);
    let rest = ran.map(|ran| now.since(ran));
    // Whose scheduler comes once a day or once a week isn't slow for that, but for a day that it missed.
    let longest = usual.unwrap_or_default().saturating_add(ONE_DAY);
    if is_first && rest.is_some_and(|rest| rest > longest) {
        let until = now.plus(SLOW_FOR);
        return (Pace::Slow { until }, rest);
    }
    match slow_until {
        Some(_) if rest.is_some_and(|rest| rest < SLOW_PAUSE) => (Pace::Wait, usual),
        Some(until) => (Pace::Slow { until }, usual),
        None => (
            Pace::Full,
            rest.filter(|rest| *rest > SAME_OCCASION).or(usual),
        ),
    }
}

/// Both clocks, as they were when they were last looked at.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Option<Reading>>);

#[derive(Debug, Clone, Copy)]
struct Reading {
    wall: Timestamp,
    uptime: Duration,
}

impl Watch {
    /// Whether the wall clock ran more than a day ahead of the other one since this was last asked.
    pub(super) fn was_set(&self, clock: &dyn Clock) -> bool {
        let reading = Reading {
            wall: clock.now(),
            uptime: clock.uptime(),
        };
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = seen.replace(reading) else {
            return false;
        };
        let passed = reading.uptime.saturating_sub(before.uptime);
        reading.wall > before.wall.plus(passed).plus(ONE_DAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const HOUR: Duration = Duration::from_hours(1);

    fn job(ran: Option<Timestamp>, rest: Option<Duration>, slow_until: Option<Timestamp>) -> Job {
        Job {
            ran_ms: ran.map(Timestamp::millis),
            rest_ms: rest.map(|rest| i64::try_from(rest.as_millis()).unwrap()),
            slow_until_ms: slow_until.map(Timestamp::millis),
            stopped_ms: None,
        }
    }

    fn slow() -> Pace {
        let until = NOW.plus(SLOW_FOR);
        Pace::Slow { until }
    }

    #[test]
    fn a_silence_is_long_by_what_is_usual() {
        let of = |rest: Duration, usual: Option<Duration>| {
            pace(&job(Some(NOW.minus(rest)), usual, None), NOW, true).0
        };
        assert_eq!(pace(&job(None, None, None), NOW, true).0, Pace::Full);
        assert_eq!(of(HOUR * 24, None), Pace::Full);
        assert_eq!(of(HOUR * 24 + Duration::from_millis(1), None), slow());
        assert_eq!(of(HOUR * 25, Some(Duration::from_mins(1))), slow());
        assert_eq!(of(HOUR * 25, Some(HOUR * 24)), Pace::Full);
        assert_eq!(of(HOUR * 49, Some(HOUR * 24)), slow());
        assert_eq!(of(HOUR * 24 * 8, Some(HOUR * 24 * 7)), Pace::Full);
        assert_eq!(of(HOUR * 24 * 400, Some(HOUR * 24 * 7)), slow());
        // Who has run already knows what its clocks did meanwhile.
        let silent = job(Some(NOW.minus(HOUR * 99)), None, None);
        assert_eq!(pace(&silent, NOW, false).0, Pace::Full);
    }

    #[test]
    fn runs_of_one_occasion_do_not_change_what_is_usual() {
        let usual = Some(HOUR * 24);
        let after = |rest: u64| {
            let ran = NOW.minus(Duration::from_secs(rest));
            pace(&job(Some(ran), usual, None), NOW, true).1
        };
        assert_eq!([after(0), after(30)], [usual, usual]);
        assert_eq!(after(31), Some(Duration::from_secs(31)));
        let slowly = job(
            Some(NOW.minus(HOUR)),
            usual,
            Some(NOW.plus(Duration::from_secs(1))),
        );
        assert_eq!(pace(&slowly, NOW, true).1, usual);
    }

    #[test]
    fn what_a_wrong_clock_left_in_the_future_slows_nobody() {
        let far = NOW.plus(HOUR * 24 * 400);
        let left = job(Some(far), None, Some(far.plus(SLOW_FOR)));
        assert_eq!(pace(&left, NOW, true), (Pace::Full, None));
    }
}
