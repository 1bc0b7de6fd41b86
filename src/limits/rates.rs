//! A rate, and what this server has counted of it by address.

use std::collections::HashMap;
use std::time::Duration;

use super::Limited;
use crate::clock::Timestamp;

/// How many addresses each rate remembers: some 10 MB in all.
pub(super) const MAX_ADDRESSES: usize = 50_000;

/// An address, as a keyed hash.
pub(super) type Bucket = [u8; 16];

pub(super) struct Rate {
    pub(super) limit: u64,
    pub(super) period: Duration,
    pub(super) what: &'static str,
    /// Under which name replicas count it together.
    pub(super) shared_as: Option<&'static str>,
}

impl Rate {
    pub(super) fn period_us(&self) -> i64 {
        i64::try_from(self.period.as_micros()).unwrap_or(i64::MAX)
    }

    pub(super) fn step_us(&self) -> i64 {
        self.period_us() / i64::try_from(self.limit).unwrap_or(i64::MAX).max(1)
    }

    /// How long after `now` the next one is counted, where nothing is any more at `clear`; at most a step.
    pub(super) fn excess(&self, clear: i64, now: i64) -> Duration {
        // A clock that was set back must not lock anyone out for longer than the period.
        let clear = clear.clamp(now, now.saturating_add(self.period_us()));
        let excess = clear + self.step_us() - now - self.period_us();
        Duration::from_micros(u64::try_from(excess).unwrap_or(0))
    }

    pub(super) fn refusal(&self, wait: Duration) -> Limited {
        let Self { limit, what, .. } = *self;
        Limited::Rate { limit, what, wait }
    }
}

pub(super) fn micros(now: Timestamp) -> i64 {
    now.millis().saturating_mul(1000)
}

/// When each address will have nothing counted any more, in microseconds.
#[derive(Debug, Default)]
pub(super) struct Rates(pub(super) HashMap<Bucket, i64>);

impl Rates {
    /// Counts one. `Some`: not now, but after this time.
    pub(super) fn take(&mut self, bucket: Bucket, rate: &Rate, now: Timestamp) -> Option<Duration> {
        let excess = self.excess(&bucket, rate, now);
        if !excess.is_zero() {
            return Some(excess);
        }
        let now = micros(now);
        let clear = self.0.get(&bucket).copied().unwrap_or(now);
        let after = clear.max(now) + rate.step_us();
        if self.0.len() >= MAX_ADDRESSES && !self.0.contains_key(&bucket) {
            self.make_room(now);
        }
        self.0.insert(bucket, after);
        None
    }

    /// After which time one would be counted; zero: now.
    pub(super) fn excess(&self, bucket: &Bucket, rate: &Rate, now: Timestamp) -> Duration {
        let now = micros(now);
        let clear = self.0.get(bucket).copied().unwrap_or(now);
        rate.excess(clear, now)
    }

    /// What others counted is counted here as well.
    pub(super) fn learn(&mut self, bucket: &Bucket, clear: i64) {
        if let Some(known) = self.0.get_mut(bucket) {
            *known = clear.max(*known);
        }
    }

    /// Forgets who has nothing counted any more; and where that isn't enough, the half that has the
    /// least.
    fn make_room(&mut self, now: i64) {
        self.0.retain(|_, clear| *clear > now);
        if self.0.len() < MAX_ADDRESSES / 2 {
            return;
        }
        let mut ends: Vec<i64> = self.0.values().copied().collect();
        let middle = ends.len() / 2;
        let (_, median, _) = ends.select_nth_unstable(middle);
        let median = *median;
        let mut excess = self.0.len() - MAX_ADDRESSES / 2;
        self.0.retain(|_, clear| {
            let goes = *clear <= median && excess > 0;
            excess -= usize::from(goes);
            !goes
        });
    }
}
