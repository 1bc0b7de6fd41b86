//! Free uploads: the limits for one address, one network and all clients together.
//!
//! While an attempt is under way it counts as a whole upload of its address and its network, so
//! that no more attempts begin than may succeed. An attempt that stores nothing gives most of that
//! back: clients find out by trying which images are accepted.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use super::rates::{Rate, Whose};
use super::{Counted, Counter, Limited, Limits, Taken};
use crate::config;
use crate::db::limits::{FreeSlot, day_of, start_of};
use crate::db::{Db, DbError, images};
use crate::system::clock::Timestamp;

/// How old the count from the database may be while only one server adds to it.
const COUNT_AGAIN: Duration = Duration::from_mins(1);
const HALF_A_DAY: Duration = Duration::from_hours(12);

/// The free uploads of the day.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    published: u64,
    under_way: u64,
    counted_at: Option<Timestamp>,
}

/// How many free uploads of a day may be used by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance {
    /// Published uploads and those under way.
    pub(super) uploads: u64,
    /// When more become available.
    pub(super) until: Timestamp,
    /// Whether the day has more later.
    is_part: bool,
}

impl Allowance {
    /// The allowance at `now`. `None`: there is no limit.
    pub(super) fn at(now: Timestamp, settings: &config::Limits) -> Option<Self> {
        let limit = settings.free_per_day;
        if limit == 0 {
            return None;
        }
        let day = day_of(now);
        let noon = start_of(day).plus(HALF_A_DAY);
        // Rounded up: a limit of one upload a day is available in the morning.
        let part = limit.saturating_mul(settings.free_before_noon_percent.min(100));
        let part = part.div_ceil(100);
        if now < noon && part < limit {
            return Some(Self {
                uploads: part,
                until: noon,
                is_part: true,
            });
        }
        Some(Self {
            uploads: limit,
            until: start_of(day.saturating_add(1)),
            is_part: false,
        })
    }

    /// The error for one upload more.
    pub(super) fn refusal(&self, now: Timestamp) -> Limited {
        let (limit, wait) = (self.uploads, self.until.since(now));
        if self.is_part {
            Limited::HalfDay { limit, wait }
        } else {
            Limited::Day { limit, wait }
        }
    }
}

/// How many free uploads are left for all clients together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeLeft {
    /// The uploads that are left.
    pub uploads: u64,
    /// How many there were.
    pub of: u64,
    /// When more become available.
    pub until: Timestamp,
}

/// In words: `312 of 500 are left until 12:00 UTC`.
impl fmt::Display for FreeLeft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = self.until.to_string();
        let clock = until.get(11..16).unwrap_or(&until);
        write!(
            f,
            "{} of {} are left until {clock} UTC",
            self.uploads, self.of
        )
    }
}

/// An attempt at a free upload, counted by its address and its network. On drop it counts as an
/// attempt that stored nothing, unless [`FreeAttempt::keep`] was called.
#[derive(Debug)]
pub struct FreeAttempt {
    limits: Arc<Limits>,
    taken: Vec<Taken>,
    refusals_per_upload: u64,
}

impl FreeAttempt {
    /// Counts the attempt as a whole upload.
    pub fn keep(mut self) {
        self.taken.clear();
    }

    /// Counts the attempt as one that stored nothing. When this returns, every replica that the
    /// database answers counts it so.
    pub async fn give_back(mut self) {
        let taken = self.lower();
        if let Some(shared) = &self.limits.shared {
            shared.give_back_rates(taken).await;
        }
    }

    /// Lowers the counts of this server. Returns the counts that the database has to lower, and by
    /// how much.
    fn lower(&mut self) -> Vec<(Taken, i64)> {
        let refusals = i64::try_from(self.refusals_per_upload.max(1)).unwrap_or(i64::MAX);
        let refund = |taken: Taken| {
            let step = taken.counter.rate.step_us();
            // The cost of a refusal is rounded up.
            (
                taken,
                step - (step / refusals + i64::from(step % refusals != 0)),
            )
        };
        let taken: Vec<(Taken, i64)> = self.taken.drain(..).map(refund).collect();
        self.limits.lower(&taken);
        taken
    }
}

impl Drop for FreeAttempt {
    fn drop(&mut self) {
        let taken = self.lower();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if self.limits.shared.is_none() || taken.is_empty() {
            return;
        }
        // The client disconnected.
        let limits = Arc::clone(&self.limits);
        let give_back = async move {
            if let Some(shared) = &limits.shared {
                shared.give_back_rates(taken).await;
            }
        };
        runtime.spawn(give_back.in_current_span());
    }
}

/// One of the day's free uploads. Given back on drop, unless it was used.
#[derive(Debug)]
pub struct FreeUpload {
    limits: Arc<Limits>,
    day: i64,
    is_spent: bool,
    place: Option<FreeSlot>,
}

impl Limits {
    /// Counts an attempt at a free upload, by its address and its network.
    ///
    /// # Errors
    /// [`Limited::Rate`]; nothing is counted then.
    pub async fn count_free(self: &Arc<Self>, address: IpAddr) -> Result<FreeAttempt, Limited> {
        self.count_free_uploads(address, 1).await
    }

    /// The most free uploads that one address may take at once. `None`: there is no limit.
    pub fn most_free_at_once(&self) -> Option<u64> {
        let settings = self.settings();
        [
            settings.free_per_address_per_hour,
            settings.free_per_network_per_hour,
        ]
        .into_iter()
        .filter(|limit| *limit > 0)
        .min()
    }

    /// Counts several free uploads at once, as many as a free upload link takes.
    ///
    /// # Errors
    /// [`Limited::Rate`]; nothing is counted then.
    pub async fn count_free_uploads(
        self: &Arc<Self>,
        address: IpAddr,
        uploads: u64,
    ) -> Result<FreeAttempt, Limited> {
        let settings = self.settings();
        let of_address = Rate {
            limit: settings.free_per_address_per_hour,
            units: uploads,
            period: Duration::from_hours(1),
            what: "free uploads an hour",
            whose: Whose::Address,
            shared_as: Some("free"),
        };
        let of_network = Rate {
            limit: settings.free_per_network_per_hour,
            whose: Whose::Network,
            shared_as: Some("free-network"),
            ..of_address
        };
        let counters = [
            Counter {
                rate: of_address,
                of: |counted| &mut counted.free,
            },
            Counter {
                rate: of_network,
                of: |counted| &mut counted.free_of_networks,
            },
        ];
        Ok(FreeAttempt {
            limits: Arc::clone(self),
            taken: self.count(address, &counters).await?,
            refusals_per_upload: settings.free_refusals_per_upload,
        })
    }

    /// Takes one of the day's free uploads.
    ///
    /// # Errors
    /// [`Limited::Day`], [`Limited::HalfDay`], and [`Limited::Database`] when the count can't be
    /// read.
    pub async fn take_free(self: &Arc<Self>, db: &Db) -> Result<FreeUpload, Limited> {
        if let Some(shared) = &self.shared {
            return self.take_shared(shared).await;
        }
        let now = self.clock.now();
        let allowance = Allowance::at(now, &self.settings());
        if allowance.is_some() {
            self.refresh(db, now).await?;
        }
        let mut counted = self.counted(now);
        let used = counted.uploads.published + counted.uploads.under_way;
        if let Some(allowance) = allowance.filter(|allowance| used >= allowance.uploads) {
            return Err(allowance.refusal(now));
        }
        counted.uploads.under_way += 1;
        let day = counted.day;
        drop(counted);
        Ok(self.free_upload(day, None))
    }

    /// How many free uploads are left, by a count that is at most a minute old. `None`: there is no limit.
    ///
    /// # Errors
    /// [`DbError::Driver`].
    pub async fn free_left(&self, db: &Db) -> Result<Option<FreeLeft>, DbError> {
        let now = self.clock.now();
        let Some(allowance) = Allowance::at(now, &self.settings()) else {
            return Ok(None);
        };
        self.refresh(db, now).await?;
        let counted = self.counted(now);
        let used = counted.uploads.published + counted.uploads.under_way;
        Ok(Some(FreeLeft {
            uploads: allowance.uploads.saturating_sub(used),
            of: allowance.uploads,
            until: allowance.until,
        }))
    }

    /// Reads the count of the day's uploads again if it is old.
    async fn refresh(&self, db: &Db, now: Timestamp) -> Result<(), DbError> {
        if !self.is_stale(now) {
            return Ok(());
        }
        // One at a time, so that the others find it counted.
        let _turn = self.today.lock().await;
        if self.is_stale(now) {
            let published = images::count_free_since(db, start_of(day_of(now))).await?;
            let mut counted = self.counted(now);
            // Uploads that were used during the query may be missing in it.
            counted.uploads.published = counted.uploads.published.max(published);
            counted.uploads.counted_at = Some(now);
        }
        Ok(())
    }

    pub(super) fn free_upload(self: &Arc<Self>, day: i64, place: Option<FreeSlot>) -> FreeUpload {
        FreeUpload {
            limits: Arc::clone(self),
            day,
            is_spent: false,
            place,
        }
    }

    fn is_stale(&self, now: Timestamp) -> bool {
        let counted = self.counted(now).uploads.counted_at;
        counted.is_none_or(|at| now.since(at) >= COUNT_AGAIN)
    }
}

impl FreeUpload {
    /// Uses the free upload: its image was published.
    pub fn spend(mut self) {
        self.is_spent = true;
    }

    /// The reserved place in which it is published, where replicas count together.
    pub fn place(&self) -> Option<&FreeSlot> {
        self.place.as_ref()
    }
}

impl Drop for FreeUpload {
    fn drop(&mut self) {
        if let (Some(place), Some(shared)) = (self.place.take(), &self.limits.shared) {
            if !self.is_spent {
                shared.give_back(place);
            }
            return;
        }
        let now = self.limits.clock.now();
        let mut counted = self.limits.counted(now);
        if counted.day == self.day {
            let Counted { uploads, .. } = &mut *counted;
            uploads.under_way = uploads.under_way.saturating_sub(1);
            uploads.published += u64::from(self.is_spent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A day that begins at 00:00 UTC.
    const DAY: i64 = 20_833;

    fn allowed(seconds: u64, per_day: u64, percent: u64) -> Option<(u64, i64, bool)> {
        let settings = config::Limits {
            free_per_day: per_day,
            free_before_noon_percent: percent,
            ..config::Limits::default()
        };
        let now = start_of(DAY).plus(Duration::from_secs(seconds));
        let allowance = Allowance::at(now, &settings)?;
        let until = allowance.until.seconds() - start_of(DAY).seconds();
        Some((allowance.uploads, until, allowance.is_part))
    }

    #[test]
    fn the_morning_gets_half_of_the_day_and_the_rest_gets_what_is_left() {
        for (seconds, per_day, percent, expected) in [
            (0, 1000, 50, Some((500, 43_200, true))),
            (43_199, 1000, 50, Some((500, 43_200, true))),
            (43_200, 1000, 50, Some((1000, 86_400, false))),
            (86_399, 1000, 50, Some((1000, 86_400, false))),
            (0, 3, 50, Some((2, 43_200, true))),
            (0, 1, 50, Some((1, 86_400, false))),
            (0, 1000, 1, Some((10, 43_200, true))),
            (0, 1000, 100, Some((1000, 86_400, false))),
            (0, 0, 50, None),
        ] {
            let found = allowed(seconds, per_day, percent);
            assert_eq!(found, expected, "{seconds} s, {percent} % of {per_day}");
        }
    }
}
