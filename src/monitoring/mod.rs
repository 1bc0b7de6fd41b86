//! Reads what only the database and the parts of the server know, for the metrics.
//!
//! A scrape reads the counts of open work from the database at most every 15 seconds, and the number
//! of images at most every five minutes, since that reads the whole table. The rules of the ledger
//! are checked once an hour.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::accounting::balance;
use crate::db::counts::{self, Live};
use crate::db::{Db, DbError, audit, jobs, orphans};
use crate::images::Images;
use crate::limits::Limits;
use crate::model::proof::RulesCheck;
use crate::moving::epoch::Epoch;
use crate::payments::Payments;
use crate::retention;
use crate::system::clock::{Clock, Timestamp};
use crate::system::metrics::{self, Here, Rows};

/// How long the counts of open work are shown before they are read again.
const OPEN_FOR: Duration = Duration::from_secs(15);
/// How long the number of images is shown before it is read again.
const LIVE_FOR: Duration = Duration::from_mins(5);
/// How long a scrape waits for the database. It then shows the counts of the last time.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two checks of the ledger.
const CHECK_EVERY: Duration = Duration::from_hours(1);

/// Reads the gauges.
#[derive(Debug)]
pub struct Monitor {
    db: Db,
    clock: Arc<dyn Clock>,
    images: Arc<Images>,
    limits: Arc<Limits>,
    epoch: Arc<Epoch>,
    payments: Option<Arc<Payments>>,
    sampled: Mutex<Sampled>,
}

/// What was read, and when.
#[derive(Debug, Default)]
struct Sampled {
    open_at: Option<Instant>,
    live: Option<(Instant, Live)>,
}

/// The parts of the server that are watched.
#[derive(Debug)]
pub struct Watched {
    /// The database.
    pub db: Db,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The images.
    pub images: Arc<Images>,
    /// The limits, which hold the queue of checks.
    pub limits: Arc<Limits>,
    /// Compares the database with its store.
    pub epoch: Arc<Epoch>,
    /// The payments; `None` while payments are disabled.
    pub payments: Option<Arc<Payments>>,
}

impl Monitor {
    /// Watches these parts.
    pub fn new(watched: Watched) -> Self {
        let Watched {
            db,
            clock,
            images,
            limits,
            epoch,
            payments,
        } = watched;
        Self {
            db,
            clock,
            images,
            limits,
            epoch,
            payments,
            sampled: Mutex::default(),
        }
    }

    /// Everything that is counted, as text of `OpenMetrics`. `None`: nothing is counted.
    ///
    /// # Errors
    /// None in practice: writing to a string does not fail.
    pub async fn text(&self) -> Option<Result<String, std::fmt::Error>> {
        self.show_here();
        match timeout(PATIENCE, self.sample()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "the metrics of rows could not be read; the last ones are shown");
            }
            Err(_) => {
                tracing::warn!(
                    "the database did not answer in time; the last metrics of rows are shown"
                );
            }
        }
        metrics::text()
    }

    /// Checks the rules of the ledger every hour, until the future is dropped.
    pub async fn check_ledger_forever(self: Arc<Self>) {
        loop {
            self.check_ledger().await;
            tokio::time::sleep(CHECK_EVERY).await;
        }
    }

    /// Checks the rules of the ledger once, for the metrics and the public proof. Errors are logged.
    pub async fn check_ledger(&self) {
        let now = self.clock.now();
        let broken = match audit::find_broken(&self.db, now).await {
            Ok(broken) => broken,
            Err(error) => {
                tracing::warn!(%error, "the rules of the ledger could not be checked");
                return;
            }
        };
        if let Some((rule, _)) = broken.first() {
            let rows = broken.len();
            tracing::error!(
                rows,
                rule,
                "the ledger breaks a rule; run pixtoll ledger check"
            );
        }
        metrics::show_ledger(broken.len(), now.seconds());
        self.note_check(broken.len(), now).await;
    }

    /// Records the result of a check for the public proof.
    async fn note_check(&self, broken: usize, now: Timestamp) {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let check = RulesCheck {
            checked_at: now,
            rules: count(audit::rule_count()),
            broken_rows: count(broken),
        };
        if let Err(error) = balance::note_check(&self.db, &check).await {
            tracing::warn!(%error, "the result of the ledger's check could not be recorded");
        }
    }

    fn show_here(&self) {
        let (checks_running, checks_waiting) = self.limits.checks();
        let (free_space, min_free) = self.images.room();
        let is_stopped = self
            .payments
            .as_ref()
            .is_some_and(|payments| payments.is_sale_stopped());
        metrics::show_here(&Here {
            checks_running,
            checks_waiting,
            cache_bytes: self.images.cached_bytes(),
            free_space,
            min_free,
            is_paused: is_stopped || self.epoch.is_behind(),
        });
    }

    /// Reads the counts that are too old. Scrapes at the same time wait for each other.
    async fn sample(&self) -> Result<(), DbError> {
        let mut sampled = self.sampled.lock().await;
        if sampled.open_at.is_some_and(|at| at.elapsed() < OPEN_FOR) {
            return Ok(());
        }
        let now = self.clock.now();
        let live = match sampled.live {
            Some((at, live)) if at.elapsed() < LIVE_FOR => live,
            Some(_) | None => {
                let live = counts::count_live(&self.db, now).await?;
                sampled.live = Some((Instant::now(), live));
                live
            }
        };
        metrics::show_rows(&self.rows(live, now).await?, now.seconds());
        sampled.open_at = Some(Instant::now());
        Ok(())
    }

    async fn rows(&self, live: Live, now: Timestamp) -> Result<Rows, DbError> {
        let open = counts::count_open(&self.db, now).await?;
        let ran = jobs::last_run(&self.db, retention::JOB).await?;
        let orphans = orphans::list_open(&self.db).await?.len();
        let since = |since: Option<i64>| {
            since.map_or(0, |since| now.millis().saturating_sub(since).max(0) / 1000)
        };
        Ok(Rows {
            live: live.images,
            live_bytes: live.bytes,
            due: open.due,
            reaper_lag: since(open.due_since_ms),
            reaper_ran: ran.map_or(0, Timestamp::seconds),
            unknown: open.unknown,
            unknown_age: since(open.unknown_since_ms),
            owed: open.owed,
            missing: open.missing,
            orphans: i64::try_from(orphans).unwrap_or(i64::MAX),
        })
    }
}
