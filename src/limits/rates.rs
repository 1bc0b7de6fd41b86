//! A rate limit, and this server's counts for it by address.

use std::collections::HashMap;
use std::time::Duration;

use super::Limited;
use crate::system::clock::Timestamp;

/// How many addresses each rate remembers: about 10 MB in all.
pub(super) const MAX_ADDRESSES: usize = 50_000;

/// An address, as a keyed hash.
pub(super) type Bucket = [u8; 16];

/// How long a refusal by the shared count is cached, in microseconds. Uploads counted there may be
/// given back meanwhile.
const BELIEVED_US: i64 = 1_000_000;

/// The clients whose requests a rate counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The requests of one IPv4 address, or of one IPv6 /64.
    Address,
    /// The requests of one IPv4 /24, or of one IPv6 /48.
    Network,
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Address => "address",
            Self::Network => "network (an IPv4 /24 or an IPv6 /48)",
        })
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    pub(super) limit: u64,
    /// How many requests the counted one stands for: at most `limit`.
    pub(super) units: u64,
    pub(super) period: Duration,
    pub(super) what: &'static str,
    pub(super) whose: Whose,
    /// The name under which replicas count it together; `None`: each server counts for itself.
    pub(super) shared_as: Option<&'static str>,
}

impl Rate {
    pub(super) fn period_us(&self) -> i64 {
        i64::try_from(self.period.as_micros()).unwrap_or(i64::MAX)
    }

    pub(super) fn step_us(&self) -> i64 {
        let of_one = self.period_us() / i64::try_from(self.limit).unwrap_or(i64::MAX).max(1);
        of_one.saturating_mul(i64::try_from(self.units).unwrap_or(i64::MAX))
    }

    /// How long after `now` the next request is accepted, if nothing is counted any more at
    /// `clear`. At most a step.
    pub(super) fn excess(&self, clear: i64, now: i64) -> Duration {
        // A clock that was set back must lock nobody out for longer than the period.
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

/// The count of one bucket.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Level {
    /// When nothing that this server counted counts any more, in microseconds.
    clear: i64,
    /// The same for all replicas, and when the database returned it with its last refusal.
    refused: Option<(i64, i64)>,
}

impl Level {
    /// When nothing counts any more, as far as is known at `now`.
    fn clear(&self, now: i64) -> i64 {
        match self.refused {
            // A clock that was set back doesn't extend it.
            Some((clear, at)) if (0..BELIEVED_US).contains(&now.saturating_sub(at)) => {
                clear.max(self.clear)
            }
            _ => self.clear,
        }
    }
}

/// The count of each bucket.
#[derive(Debug, Default)]
pub(super) struct Rates(pub(super) HashMap<Bucket, Level>);

impl Rates {
    /// Counts a request. `Some`: it exceeds the limit, and the next one is accepted after this
    /// time.
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

    /// The time after which a request is accepted; zero: now.
    pub(super) fn excess(&self, bucket: &Bucket, rate: &Rate, now: Timestamp) -> Duration {
        let now = micros(now);
        let clear = self.0.get(bucket).map(|level| level.clear(now));
        rate.excess(clear.unwrap_or(now), now)
    }

    /// Caches a refusal by the database: in the shared count, nothing counts any more only at
    /// `clear`.
    pub(super) fn learn(&mut self, bucket: &Bucket, clear: i64, now: Timestamp) {
        if let Some(level) = self.0.get_mut(bucket) {
            level.refused = Some((clear, micros(now)));
        }
    }

    /// Lowers the count of a bucket by `refund_us` microseconds.
    pub(super) fn give_back(&mut self, bucket: &Bucket, refund_us: i64) {
        if let Some(level) = self.0.get_mut(bucket) {
            level.clear = level.clear.saturating_sub(refund_us);
        }
    }

    /// Forgets buckets with nothing counted. If that isn't enough, forgets the half with the lowest
    /// counts.
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
