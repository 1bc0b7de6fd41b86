//! A rate, and what this server has counted of it by address.

use std::collections::HashMap;
use std::time::Duration;

use super::Limited;
use crate::clock::Timestamp;

/// How many addresses each rate remembers: some 10 MB in all.
pub(super) const MAX_ADDRESSES: usize = 50_000;

/// An address, as a keyed hash.
pub(super) type Bucket = [u8; 16];

/// How long a refusal by the count of all replicas holds, before the database is asked again: uploads that were
/// counted there may have been given back meanwhile.
const BELIEVED_US: i64 = 1_000_000;

/// Whose requests a rate counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Those of one IPv4 address, or of one /64 of IPv6.
    Address,
    /// Those of one /24 of IPv4, or of one /48 of IPv6.
    Network,
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Address => "address",
            Self::Network => "network (a /24 of IPv4 or a /48 of IPv6)",
        })
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    pub(super) limit: u64,
    pub(super) period: Duration,
    pub(super) what: &'static str,
    pub(super) whose: Whose,
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
        let Self {
            limit, what, whose, ..
        } = *self;
        Limited::Rate {
            limit,
            what,
            whose,
            wait,
        }
    }
}

pub(super) fn micros(now: Timestamp) -> i64 {
    now.millis().saturating_mul(1000)
}

/// What is counted of one bucket.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Level {
    /// When nothing that this server counted counts any more, in microseconds.
    clear: i64,
    /// The same for all replicas, as the database said when it refused the last one, and when it said so.
    refused: Option<(i64, i64)>,
}

impl Level {
    /// When nothing counts any more, as far as is known at `now`.
    fn clear(&self, now: i64) -> i64 {
        match self.refused {
            // A clock that was set back makes it no longer.
            Some((clear, at)) if (0..BELIEVED_US).contains(&now.saturating_sub(at)) => {
                clear.max(self.clear)
            }
            _ => self.clear,
        }
    }
}

/// The level of each bucket.
#[derive(Debug, Default)]
pub(super) struct Rates(pub(super) HashMap<Bucket, Level>);

impl Rates {
    /// Counts one. `Some`: not now, but after this time.
    pub(super) fn take(&mut self, bucket: Bucket, rate: &Rate, now: Timestamp) -> Option<Duration> {
        let excess = self.excess(&bucket, rate, now);
        if !excess.is_zero() {
            return Some(excess);
        }
        let now = micros(now);
        if self.0.len() >= MAX_ADDRESSES && !self.0.contains_key(&bucket) {
            self.make_room(now);
        }
        let level = self.0.entry(bucket).or_default();
        level.clear = level.clear.max(now) + rate.step_us();
        None
    }

    /// After which time one would be counted; zero: now.
    pub(super) fn excess(&self, bucket: &Bucket, rate: &Rate, now: Timestamp) -> Duration {
        let now = micros(now);
        let clear = self.0.get(bucket).map(|level| level.clear(now));
        rate.excess(clear.unwrap_or(now), now)
    }

    /// Notes that the database refused one, since by all replicas' count nothing counts any more only at `clear`.
    pub(super) fn learn(&mut self, bucket: &Bucket, clear: i64, now: Timestamp) {
        if let Some(level) = self.0.get_mut(bucket) {
            level.refused = Some((clear, micros(now)));
        }
    }

    /// Counts so many microseconds less of a bucket.
    pub(super) fn give_back(&mut self, bucket: &Bucket, refund_us: i64) {
        if let Some(level) = self.0.get_mut(bucket) {
            level.clear = level.clear.saturating_sub(refund_us);
        }
    }

    /// Forgets who has nothing counted any more; and where that isn't enough, the half that has the
    /// least.
    fn make_room(&mut self, now: i64) {
        self.0.retain(|_, level| level.clear > now);
        if self.0.len() < MAX_ADDRESSES / 2 {
            return;
        }
        let mut ends: Vec<i64> = self.0.values().map(|level| level.clear).collect();
        let middle = ends.len() / 2;
        let (_, median, _) = ends.select_nth_unstable(middle);
        let median = *median;
        let mut excess = self.0.len() - MAX_ADDRESSES / 2;
        self.0.retain(|_, level| {
            let goes = level.clear <= median && excess > 0;
            excess -= usize::from(goes);
            !goes
        });
    }
}
