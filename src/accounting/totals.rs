//! Records what happened on each UTC day once the day is over, so that the totals since the start
//! outlive the rows that they were counted from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::db::limits::day_of;
use crate::db::{Db, DbError, daily_totals as rows};
use crate::model::proof::Totals;
use crate::system::clock::{Clock, Timestamp};

/// The pause between two looks whether a day is over.
const EVERY: Duration = Duration::from_mins(1);
/// How long after its end a day is recorded. Replicas have written what they counted by then.
const SETTLED_DOWN: Duration = Duration::from_mins(2);

/// The days of a deployment.
#[derive(Debug, Clone)]
pub struct DailyTotals {
    db: Db,
    clock: Arc<dyn Clock>,
}

/// The totals of some days, and of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// The first day that is counted; today for a new deployment.
    pub since: i64,
    /// All days since then, today included.
    pub all: Totals,
    /// The days that were asked for, by their number since 1970. Days without anything are left out.
    pub days: BTreeMap<i64, Totals>,
}

impl DailyTotals {
    /// The days of the deployment with this database.
    pub fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        Self { db, clock }
    }

    /// Records each day when it is over, until the future is dropped.
    pub async fn record_forever(self) {
        loop {
            if let Err(error) = self.record().await {
                tracing::warn!(%error, "the totals of the last days could not be recorded; this is tried again");
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Records the days that are over and not recorded yet.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn record(&self) -> Result<(), DbError> {
        let today = day_of(self.clock.now().minus(SETTLED_DOWN));
        let last = rows::recorded(&self.db, today).await?.map(|(_, last)| last);
        let first = last.map_or(0, |last| last + 1);
        if first == today {
            return Ok(());
        }
        let mut days = rows::count(&self.db, first).await?;
        days.retain(|day, _| *day < today);
        if last.is_some() {
            // Yesterday is recorded even if nothing happened: no day is counted twice.
            days.entry(today - 1).or_default();
        }
        rows::record(&self.db, &days, today).await
    }

    /// The totals since `first_day` and since the start: recorded days as they were recorded, later
    /// ones counted now.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn load(&self, first_day: i64, now: Timestamp) -> Result<Summary, DbError> {
        let today = day_of(now);
        let recorded = rows::recorded(&self.db, today).await?;
        let open = rows::count(&self.db, recorded.map_or(0, |(_, last)| last + 1)).await?;
        let mut all = rows::sum(&self.db, today).await?;
        for totals in open.values() {
            all.add(totals);
        }
        let since = recorded.map(|(first, _)| first);
        let since = since.or_else(|| open.keys().next().copied());
        let mut days = rows::list(&self.db, first_day, today).await?;
        days.extend(open.into_iter().filter(|(day, _)| *day >= first_day));
        Ok(Summary {
            since: since.unwrap_or(today),
            all,
            days,
        })
    }
}
