//! The reaper and owners' deletes: deletes expired images and abandoned uploads and, much later,
//! their rows. Only rows decide what is deleted; the store is never listed.
//!
//! An image is deleted in three steps: its row is claimed, after which no server serves it; its
//! object is deleted; its row is marked. A process that stops in between leaves a claimed row, and
//! the next run finishes it.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use crate::db::retention::{self as rows, Due, OwnersClaim};
use crate::db::{
    Db, DbError, api_keys, erasure, free_links, jobs, proofs, purges, removals, reports, signin,
    withdrawals,
};
use crate::images::describe;
use crate::images::hot::Hot;
use crate::model::ids::ImageId;
use crate::model::mark::Age;
use crate::model::payment::transfer_hash;
use crate::moving::epoch;
use crate::store::{Store, StoreError};
use crate::system::clock::{Clock, Timestamp};
use crate::system::kill::kill_point;
use crate::system::metrics;
use crate::system::random::Randomness;

pub mod audit;
mod audit_variants;
pub mod clock_kind;
pub mod contents;
mod guard;
pub mod independent;
pub mod schedule;
pub mod variants;

use guard::{ASK_EVERY, ClockGuard, Moment};
use independent::IndependentClock;
use schedule::Schedule;
use variants::Left;

pub use guard::Doubt;

/// The name of the reaper's lease.
pub(crate) const JOB: &str = "reaper";
/// How long the hash of a network that reported an image is kept. It counts on its own day only.
const NETWORKS_KEPT: Duration = Duration::from_hours(48);
/// How many images are claimed, or rows erased, at a time.
const BATCH: u32 = 500;
/// How many payments are examined for erasure at a time.
const PAYMENTS_BATCH: u32 = 100;
/// How long a reaper may be silent before another takes over. A reaper renews its lease between two
/// batches once it is this old: each renewal waits for the disk.
pub const LEASE: Duration = Duration::from_mins(1);
const RENEW_AFTER: Duration = Duration::from_secs(20);
/// From this age on, an unfinished upload counts as abandoned.
const STALE: Duration = Duration::from_hours(1);
/// How long a removed image can be restored, unless the settings say otherwise.
const RESTORABLE: Duration = Duration::from_hours(30 * 24);
/// How often a server records that it trusts its clock, whether or not the reaper runs.
const RECORD_CLOCK_EVERY: Duration = Duration::from_hours(1);

/// What one run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Images whose objects are gone now.
    pub images: u64,
    /// Abandoned uploads that were given up.
    pub lapsed: u64,
    /// Rows of images that were erased.
    pub erased_images: u64,
    /// Payments that were erased.
    pub erased_payments: u64,
    /// Images whose objects the store failed to delete. They stay due.
    pub failed: u64,
    /// How the run ended.
    pub end: End,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum End {
    /// Nothing is due any more.
    #[default]
    Done,
    /// Another process runs the reaper.
    Elsewhere,
    /// The store failed. A later run tries again.
    StoreFailed,
}

/// Why nothing was reaped.
#[derive(Debug, thiserror::Error)]
pub enum ReapError {
    /// This machine's clock isn't trusted.
    #[error("{0}")]
    Clock(Doubt),
    /// The database lost commits, and paid renewals may be among them.
    #[error(
        "the database is older than its store, so paid renewals may be lost and nothing is deleted. Run `pixtoll ledger recover`"
    )]
    Behind,
    /// The database and its store could not be compared.
    #[error("the database could not be compared with its store, so nothing is deleted: {0}")]
    Unmarked(anyhow::Error),
    /// The lock file that allows one reaper at a time can't be used.
    #[error("the reaper's lock {} can't be used: {why}", .path.display())]
    Lock {
        /// The path of the lock file.
        path: PathBuf,
        /// The cause.
        why: std::io::Error,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Why an image isn't deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The image is held for a reason that is not its owner's, such as a review.
    #[error(
        "The image {0} can't be deleted because it is under review. Try again after the review."
    )]
    Held(ImageId),
    /// A payment for a renewal is under way.
    #[error(
        "The image {0} can't be deleted while a payment for its renewal is in progress. Repeat the same request in a minute."
    )]
    Renewing(ImageId),
    /// The database failed.
    #[error(
        "The images could not be deleted because the database does not answer. Repeat the same request."
    )]
    Database(#[from] DbError),
    /// The store failed.
    #[error(
        "The images are no longer served, but their files could not be deleted. Repeat the same request."
    )]
    Store(#[from] StoreError),
    /// The process is stopping.
    #[error("The delete was interrupted because the server is stopping. Repeat the same request.")]
    Interrupted,
}

/// Deletes images and rows: by the reaper, and for owners.
#[derive(Debug)]
pub struct Retention {
    db: Db,
    store: Store,
    clock: Arc<dyn Clock>,
    records: Duration,
    /// The name under which this process holds the lease.
    holder: String,
    /// Decides whether the clock is trusted.
    guard: ClockGuard,
    /// The lock file of a SQLite database, which is used on one machine only.
    lock: Option<PathBuf>,
    /// The cache from which this process serves images.
    hot: Option<Arc<Hot>>,
    /// How long a removed image can be restored. After that it is deleted.
    restorable: Duration,
    /// Whether a CDN has to drop images that their owner deletes.
    has_cdn: bool,
}

impl Retention {
    /// Creates a `Retention` that keeps rows for `records` after their objects are gone.
    pub fn new(
        db: Db,
        store: Store,
        clock: Arc<dyn Clock>,
        randomness: &Randomness,
        records: Duration,
    ) -> Self {
        Self {
            db,
            store,
            guard: ClockGuard::new(&*clock, Vec::new()),
            clock,
            records,
            holder: hex::encode(randomness.bytes::<8>()),
            lock: None,
            hot: None,
            restorable: RESTORABLE,
            has_cdn: false,
        }
    }

    /// Deletes removed images when they can't be restored any more: `restorable` after the removal.
    #[must_use]
    pub fn restorable_for(self, restorable: Duration) -> Self {
        Self { restorable, ..self }
    }

    /// Asks for a purge at the CDN when an owner deletes an image, if there is a CDN.
    #[must_use]
    pub fn behind_cdn(self, has_cdn: bool) -> Self {
        Self { has_cdn, ..self }
    }

    /// Removes images that their owner deletes from this process's cache at once. Other servers
    /// learn of it from the database.
    #[must_use]
    pub fn forgetting(self, hot: Arc<Hot>) -> Self {
        let hot = Some(hot);
        Self { hot, ..self }
    }

    /// Compares this machine's clock with these clocks after the reaper has not run for long.
    #[must_use]
    pub fn checked_by(self, clocks: Vec<IndependentClock>) -> Self {
        let guard = ClockGuard::new(&*self.clock, clocks);
        Self { guard, ..self }
    }

    /// Uses the operating system's lock on this file to allow one reaper at a time. The lock ends
    /// with its process, while a lease in the database outlives it by a minute.
    #[must_use]
    pub fn locked_by(self, lock: Option<PathBuf>) -> Self {
        Self { lock, ..self }
    }

    /// Deletes everything that is due, in batches. Only one process does so at a time.
    ///
    /// # Errors
    /// [`ReapError`]; everything that is due stays due then.
    pub async fn reap(&self) -> Result<Reaped, ReapError> {
        self.refuse_behind().await?;
        let mut reaped = Reaped::default();
        let Lock::Ours(_file) = self.take_lock().await? else {
            reaped.end = End::Elsewhere;
            return Ok(reaped);
        };
        if !self.take_lease().await? {
            reaped.end = End::Elsewhere;
            return Ok(reaped);
        }
        let done = self.reap_leased(&mut reaped).await;
        let returned = jobs::return_job(&self.db, JOB, &self.holder).await;
        done?;
        returned?;
        Ok(reaped)
    }

    /// Runs the reaper by `schedule`, until the future is dropped. Tries again every minute while
    /// the clock isn't trusted.
    pub async fn reap_forever(self: Arc<Self>, schedule: Schedule) {
        while let Some(mut pause) = schedule.until_next(self.clock.now()) {
            loop {
                tokio::time::sleep(pause).await;
                match self.reap().await {
                    Ok(reaped) => {
                        log(&reaped);
                        break;
                    }
                    Err(ReapError::Clock(doubt)) => {
                        self.guard.warn(&*self.clock, &doubt);
                        pause = ASK_EVERY;
                    }
                    Err(error) => {
                        tracing::error!(%error, "the reaper failed; it tries again at its next run");
                        break;
                    }
                }
            }
        }
    }

    /// Records every hour that the clock is trusted, until the future is dropped. So a reaper that
    /// runs rarely or in another process finds a recent record. Tries again every minute while the
    /// clock isn't trusted.
    pub async fn watch_clock_forever(self: Arc<Self>) {
        loop {
            let pause = match self.check_clock().await {
                Ok(()) => RECORD_CLOCK_EVERY,
                Err(ReapError::Clock(doubt)) => {
                    self.guard.warn(&*self.clock, &doubt);
                    ASK_EVERY
                }
                Err(error) => {
                    tracing::warn!(%error, "the record of the reaper's last run could not be read or written");
                    ASK_EVERY
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Checks this machine's clock by the rules of `guard`. Records a run if the clock is trusted.
    ///
    /// # Errors
    /// [`ReapError::Clock`]: the clock isn't trusted. [`ReapError::Database`].
    pub async fn check_clock(&self) -> Result<(), ReapError> {
        self.believed_moment().await.map(drop)
    }

    /// The time of this machine's clocks, if they are trusted. See [`Retention::check_clock`].
    async fn believed_moment(&self) -> Result<Moment, ReapError> {
        let last_run = jobs::last_run(&self.db, JOB).await?;
        let mut moment = Moment::now(&*self.clock);
        let is_believed = self.guard.believes(moment, last_run)
            || (last_run.is_none() && rows::is_empty(&self.db).await?);
        if !is_believed {
            let confirmed = self.guard.confirm(&*self.clock, last_run).await;
            metrics::clock(confirmed.is_ok());
            moment = confirmed.map_err(ReapError::Clock)?;
        }
        metrics::clock(true);
        self.record_run(moment).await?;
        Ok(moment)
    }

    /// Records that the operator confirmed the clock.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn accept_clock(&self) -> Result<(), DbError> {
        self.record_run(Moment::now(&*self.clock)).await
    }

    async fn record_run(&self, moment: Moment) -> Result<(), DbError> {
        jobs::note_run(&self.db, JOB, moment.wall).await?;
        self.guard.believe(moment);
        Ok(())
    }

    /// Returns what would be deleted now, and at most `most` of those images.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn preview(&self, most: u32) -> Result<(Due, Vec<(String, i64)>), DbError> {
        let now = self.clock.now();
        let due = rows::count_due(&self.db, now, now.minus(STALE), now.minus(self.records)).await?;
        Ok((due, rows::find_expired(&self.db, now, most).await?))
    }

    /// Deletes images for their owner. Their objects are gone when it returns. Missing objects
    /// count as deleted.
    ///
    /// # Errors
    /// [`DeleteError`]. Images that were claimed already are not served any more, and the reaper
    /// deletes them.
    pub async fn delete(self: &Arc<Self>, ids: Vec<ImageId>) -> Result<(), DeleteError> {
        let this = Arc::clone(self);
        // In a task of its own: a client that disconnects must not interrupt a delete.
        let delete = async move { this.delete_claimed(&ids).await };
        tokio::spawn(delete.in_current_span())
            .await
            .map_err(|_| DeleteError::Interrupted)?
    }

    async fn delete_claimed(&self, ids: &[ImageId]) -> Result<(), DeleteError> {
        let mut claimed = Vec::new();
        let mut kept = None;
        for id in ids {
            kill_point!("delete.claim.before");
            let now = self.clock.now();
            let claim = rows::claim_for_owner(&self.db, id, self.has_cdn, now).await?;
            kill_point!("delete.claim.after");
            match claim {
                OwnersClaim::Claimed => {
                    if let Some(hot) = &self.hot {
                        hot.forget(id);
                    }
                    claimed.push(id.clone());
                }
                OwnersClaim::Gone => {}
                OwnersClaim::Held => kept = Some(DeleteError::Held(id.clone())),
                OwnersClaim::Renewing => kept = Some(DeleteError::Renewing(id.clone())),
            }
        }
        let failure = self.remove(&claimed).await?.failure;
        match (failure, kept) {
            (Some(error), _) => Err(error.into()),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(()),
        }
    }

    async fn reap_leased(&self, reaped: &mut Reaped) -> Result<(), ReapError> {
        self.describe().await;
        // Deletes by the time that was trusted, and not by the clock as it may have been set since.
        let mut moment = self.believed_moment().await?;
        withdrawals::forget_old(&self.db).await?;
        proofs::forget_expired_proofs(&self.db, moment.wall).await?;
        signin::forget_nonces(&self.db, moment.wall).await?;
        free_links::forget_ended(&self.db, moment.wall.minus(self.records)).await?;
        api_keys::forget_revoked(&self.db, moment.wall.minus(self.records)).await?;
        match variants::delete_again(&self.db, &self.store, moment.wall).await {
            Ok(_) => {}
            Err(Left::Database(error)) => return Err(error.into()),
            Err(Left::Store(error)) => {
                tracing::warn!(%error, "variants of deleted images could not be deleted a second time; the next run tries again");
            }
        }
        removals::forget_erased(&self.db).await?;
        purges::forget_purged(&self.db, moment.wall.minus(self.records), BATCH).await?;
        let mut renewed = moment.wall;
        while self.batch(moment.wall, reaped).await? {
            moment = Moment::now(&*self.clock);
            if self.guard.was_set(moment) {
                moment = self.believed_moment().await?;
            }
            if moment.wall.since(renewed) >= RENEW_AFTER {
                renewed = moment.wall;
                if !self.take_lease().await? {
                    reaped.end = End::Elsewhere;
                    return Ok(());
                }
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Writes the sidecars that are older than their rows. After a store error, the next run tries
    /// again.
    async fn describe(&self) {
        match describe::all(&self.db, &self.store).await {
            Ok(0) => {}
            Ok(records) => tracing::info!(records, "sidecars of images were rewritten"),
            Err(error) => {
                tracing::warn!(%error, "the sidecars of some images could not be rewritten");
            }
        }
    }

    /// Runs one batch of the first kind of work that is due. `false`: nothing is left, or the store
    /// fails.
    async fn batch(&self, now: Timestamp, reaped: &mut Reaped) -> Result<bool, ReapError> {
        let began = self.clock.uptime();
        let stale = now.minus(STALE);
        let mut ids = rows::find_unfinished(&self.db, now, BATCH).await?;
        if ids.is_empty() {
            kill_point!("reap.claim.before");
            ids = rows::claim_expired(&self.db, now, BATCH).await?;
            kill_point!("reap.claim.after");
        }
        if ids.is_empty() {
            ids = rows::claim_removed(&self.db, now, now.minus(self.restorable), BATCH).await?;
        }
        if ids.is_empty() {
            reaped.lapsed += rows::discard_lapsed(&self.db, stale, now, BATCH).await?;
            ids = rows::find_discarded(&self.db, stale, now, BATCH).await?;
            if let Err(error) = self.store.delete_drafts(&ids).await {
                tracing::warn!(%error, "the files of unfinished uploads could not be deleted");
            }
        }
        if ids.is_empty() {
            return self.erase(now.minus(self.records), reaped).await;
        }
        let removed = self.remove(&ids).await?;
        let took_ms = self.clock.uptime().saturating_sub(began).as_millis();
        tracing::debug!(
            images = removed.marked,
            took_ms,
            "the reaper finished a batch"
        );
        reaped.images += removed.marked;
        reaped.failed += removed.failed;
        if let Some(error) = removed.failure {
            tracing::error!(%error, failed = removed.failed, "objects could not be deleted; they stay due");
            reaped.end = End::StoreFailed;
            return Ok(false);
        }
        Ok(true)
    }

    /// Deletes the objects of claimed images, then marks the rows of those that are gone.
    async fn remove(&self, ids: &[ImageId]) -> Result<Removed, DbError> {
        if ids.is_empty() {
            return Ok(Removed::default());
        }
        let now = self.clock.now();
        let parts = async {
            variants::delete_of(&self.db, &self.store, ids, now).await?;
            contents::delete_of(&self.db, &self.store, ids, now).await
        };
        match parts.await {
            Ok(()) => {}
            Err(Left::Database(error)) => return Err(error),
            Err(Left::Store(error)) => {
                rows::put_off(&self.db, ids, self.clock.now()).await?;
                return Ok(Removed {
                    failed: u64::try_from(ids.len()).unwrap_or(u64::MAX),
                    failure: Some(error),
                    marked: 0,
                });
            }
        }
        kill_point!("objects.delete.before");
        let outcome = self.store.delete_many(ids).await;
        kill_point!("objects.delete.after");
        if outcome.missing > 0 {
            let missing = outcome.missing;
            tracing::info!(
                missing,
                of = ids.len(),
                "objects were gone before they were deleted"
            );
        }
        let now = self.clock.now();
        kill_point!("images.mark.before");
        let marked = rows::mark_gone(&self.db, &outcome.gone, now).await?;
        kill_point!("images.mark.after");
        if !outcome.left.is_empty() {
            rows::put_off(&self.db, &outcome.left, now).await?;
        }
        Ok(Removed {
            marked,
            failed: u64::try_from(outcome.left.len()).unwrap_or(u64::MAX),
            failure: outcome.failure,
        })
    }

    /// Erases rows whose objects were gone at `before`. `false`: there are none left.
    async fn erase(&self, before: Timestamp, reaped: &mut Reaped) -> Result<bool, ReapError> {
        let images = rows::erase_images(&self.db, before, BATCH).await?;
        reaped.erased_images += images;
        let mut payments = 0;
        for payment in erasure::find_erasable(&self.db, before, PAYMENTS_BATCH).await? {
            let hash = payment.transaction_hash.as_deref();
            // The transaction that a facilitator named for a failed payment moved no money to us.
            let hash = hash
                .filter(|_| payment.state == "settled")
                .map(|hash| transfer_hash(hash, &payment.payer, &payment.pay_to, &payment.amount));
            let now = self.clock.now();
            kill_point!("reap.erase.before");
            let erased = erasure::erase_payment(&self.db, &payment, hash.as_deref(), now).await?;
            kill_point!("reap.erase.after");
            payments += u64::from(erased);
        }
        reaped.erased_payments += payments;
        let networks_before = self.clock.now().minus(NETWORKS_KEPT);
        let cases = reports::erase(&self.db, before, networks_before).await?;
        Ok(images + payments + cases > 0)
    }

    /// Deletes nothing while the store doesn't answer: the database can't be compared with it then.
    async fn refuse_behind(&self) -> Result<(), ReapError> {
        match epoch::age(&self.db, &self.store).await {
            Ok(None | Some(Age::Current)) => Ok(()),
            Ok(Some(Age::Behind | Age::Other)) => Err(ReapError::Behind),
            Err(error) => Err(ReapError::Unmarked(error)),
        }
    }

    async fn take_lock(&self) -> Result<Lock, ReapError> {
        let Some(path) = &self.lock else {
            return Ok(Lock::Ours(None));
        };
        let failed = |why| ReapError::Lock {
            path: path.clone(),
            why,
        };
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let file = options.open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Lock::Theirs),
            Err(TryLockError::Error(why)) => return Err(failed(why)),
        }
        // The holder of the lease also held the lock, so it is gone.
        jobs::release_job(&self.db, JOB).await?;
        Ok(Lock::Ours(Some(Locked(file))))
    }

    async fn take_lease(&self) -> Result<bool, DbError> {
        let now = self.clock.now();
        jobs::take_job(&self.db, JOB, &self.holder, now.plus(LEASE), now).await
    }
}

/// The state of the operating system's lock.
enum Lock {
    /// This run holds it until the value is dropped. Without a lock file, every run holds it.
    Ours(Option<Locked>),
    /// Another process holds it.
    Theirs,
}

/// A locked file. It is unlocked explicitly: a process that is started meanwhile holds a copy of the
/// file for a moment, and the lock with it.
struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "the lock of the reaper could not be released");
        }
    }
}

fn log(reaped: &Reaped) {
    metrics::reaped(reaped.images, reaped.failed);
    if *reaped != Reaped::default() && reaped.end != End::Elsewhere {
        tracing::info!(
            images = reaped.images,
            lapsed = reaped.lapsed,
            erased_images = reaped.erased_images,
            erased_payments = reaped.erased_payments,
            failed = reaped.failed,
            "reaped"
        );
    }
}

/// The outcome of a batch.
#[derive(Debug, Default)]
struct Removed {
    marked: u64,
    failed: u64,
    failure: Option<StoreError>,
}
