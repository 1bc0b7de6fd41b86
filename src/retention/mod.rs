//! What disappears, and when: images that have expired, uploads that came to nothing, and, much later,
//! their rows. Only what a row says is due goes, and the store is never listed on the way.
//!
//! An image goes in this order: claimed in its row, which nobody serves from then on; object deleted;
//! row marked. Whoever dies in between leaves a claimed row, and the next run takes it up again. The
//! owner's delete goes the same way.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::db::retention::{self as rows, Due, OwnersClaim};
use crate::db::{Db, DbError, credits, erasure, jobs, payments, withdrawals};
use crate::epoch;
use crate::ids::ImageId;
use crate::images::describe;
use crate::images::hot::Hot;
use crate::kill::kill_point;
use crate::model::mark::Age;
use crate::model::payment::transfer_hash;
use crate::random::Randomness;
use crate::store::{Store, StoreError};

pub mod audit;
mod guard;
pub mod independent;
pub mod schedule;

use guard::{ASK_EVERY, ClockGuard, Moment};
use independent::IndependentClock;
use schedule::Schedule;

pub use guard::Doubt;

/// The name of the reaper's lease.
const JOB: &str = "reaper";
/// Images that are claimed, and rows that are erased, at a time.
const BATCH: u32 = 500;
/// Payments that are looked at for erasure at a time.
const PAYMENTS_BATCH: u32 = 100;
/// How long a reaper may be silent before another takes over, and how old its lease is when a reaper
/// renews it, between two batches: each renewal waits for the disk.
pub const LEASE: Duration = Duration::from_mins(1);
const RENEW_AFTER: Duration = Duration::from_secs(20);
/// From this age on, an upload that was never finished is not going to be.
const STALE: Duration = Duration::from_hours(1);
/// How often a server records that its clock is believed, whether or not the reaper runs.
const RECORD_CLOCK_EVERY: Duration = Duration::from_hours(1);

/// What one run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Images whose objects are gone now.
    pub images: u64,
    /// Uploads that came to nothing, given up.
    pub lapsed: u64,
    /// Rows of images that were erased.
    pub erased_images: u64,
    /// Payments that were erased, and closed credits.
    pub erased_payments: u64,
    /// Images whose objects the store would not delete; they stay due.
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
    /// Somebody else does the work.
    Elsewhere,
    /// The store failed; what is left is tried again later.
    StoreFailed,
}

/// Why nothing was reaped.
#[derive(Debug, thiserror::Error)]
pub enum ReapError {
    /// The clock of this machine isn't believed.
    #[error("{0}")]
    Clock(Doubt),
    /// The database has lost commits, and with them maybe time that was paid for.
    #[error(
        "the database is older than its store, so time that was paid for may be lost. Nothing is deleted until `pixtoll ledger recover` has asked the chain"
    )]
    Behind,
    /// Nobody knows whether the database is as young as its store.
    #[error("the database could not be compared with its store, so nothing is deleted now: {0}")]
    Unmarked(anyhow::Error),
    /// The lock that keeps reapers apart can't be used.
    #[error("the reaper's lock {} can't be used: {why}", .path.display())]
    Lock {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        why: std::io::Error,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Why an image isn't deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// It is kept for a reason that is not its owner's.
    #[error("The image {0} can't be deleted just now: it is being looked into.")]
    Held(ImageId),
    /// Somebody is paying for more time.
    #[error(
        "A payment for more time is on its way to the image {0}. Send the same request again in a minute."
    )]
    Renewing(ImageId),
    /// The database failed.
    #[error("The images could not be deleted just now. Send the same request again.")]
    Database(#[from] DbError),
    /// The store failed.
    #[error(
        "The images are not served any more, and could not be deleted just now. Send the same request again."
    )]
    Store(#[from] StoreError),
    /// The process is stopping.
    #[error("The request was interrupted. Send it again.")]
    Interrupted,
}

/// What makes things disappear.
#[derive(Debug)]
pub struct Retention {
    db: Db,
    store: Store,
    clock: Arc<dyn Clock>,
    records: Duration,
    /// The name under which this process holds the lease.
    holder: String,
    /// Whether the clock is believed.
    guard: ClockGuard,
    /// The lock of the one machine that a SQLite database is used on.
    lock: Option<PathBuf>,
    /// The memory from which this process serves images.
    hot: Option<Arc<Hot>>,
}

impl Retention {
    /// Retention in these ports; rows outlive their objects by `records`.
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
        }
    }

    /// Images that their owner deletes are forgotten here at once. Other servers hear of it.
    #[must_use]
    pub fn forgetting(self, hot: Arc<Hot>) -> Self {
        let hot = Some(hot);
        Self { hot, ..self }
    }

    /// After a long silence of the reaper, these clocks are compared with this machine's.
    #[must_use]
    pub fn checked_by(self, clocks: Vec<IndependentClock>) -> Self {
        let guard = ClockGuard::new(&*self.clock, clocks);
        Self { guard, ..self }
    }

    /// Who holds the operating system's lock on this file is the only reaper: it ends with its process,
    /// where a lease in the database outlives it for a minute.
    #[must_use]
    pub fn locked_by(self, lock: Option<PathBuf>) -> Self {
        Self { lock, ..self }
    }

    /// Deletes what is due, in batches, until nothing is; once at a time, whoever else tries.
    ///
    /// # Errors
    /// [`ReapError`]; then what is due stays due.
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

    /// Reaps at the instants of `schedule`, until it is dropped. While the clock isn't believed, it tries again
    /// every minute.
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
                        tracing::error!(%error, "nothing was reaped");
                        break;
                    }
                }
            }
        }
    }

    /// Records every hour that the clock is believed, until it is dropped: so a reaper of another process, or one that
    /// runs once a week, finds a recent record. While the clock isn't believed, it tries again every minute.
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

    /// Whether the clock of this machine is believed, by the rules of `guard`. Where it is, a run is recorded.
    ///
    /// # Errors
    /// [`ReapError::Clock`]: it isn't. [`ReapError::Database`].
    pub async fn check_clock(&self) -> Result<(), ReapError> {
        self.believed_moment().await.map(drop)
    }

    /// What the clocks of this machine show, when they are believed. [`Retention::check_clock`].
    async fn believed_moment(&self) -> Result<Moment, ReapError> {
        let last_run = jobs::last_run(&self.db, JOB).await?;
        let mut moment = Moment::now(&*self.clock);
        let is_believed = self.guard.believes(moment, last_run)
            || (last_run.is_none() && rows::is_empty(&self.db).await?);
        if !is_believed {
            let confirmed = self.guard.confirm(&*self.clock, last_run).await;
            moment = confirmed.map_err(ReapError::Clock)?;
        }
        self.record_run(moment).await?;
        Ok(moment)
    }

    /// Records that the clock is right, as the operator says.
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

    /// What would go now, and which images first.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn preview(&self, most: u32) -> Result<(Due, Vec<(String, i64)>), DbError> {
        let now = self.clock.now();
        let due = rows::count_due(&self.db, now, now.minus(STALE), now.minus(self.records)).await?;
        Ok((due, rows::find_expired(&self.db, now, most).await?))
    }

    /// Deletes images for their owner. When it returns their objects are gone; those that were gone
    /// already count as deleted.
    ///
    /// # Errors
    /// [`DeleteError`]. Images that were claimed already are not served any more, and the reaper
    /// finishes.
    pub async fn delete(self: &Arc<Self>, ids: Vec<ImageId>) -> Result<(), DeleteError> {
        let this = Arc::clone(self);
        // In a task of its own: a client that goes away leaves no half of it behind.
        tokio::spawn(async move { this.delete_claimed(&ids).await })
            .await
            .map_err(|_| DeleteError::Interrupted)?
    }

    async fn delete_claimed(&self, ids: &[ImageId]) -> Result<(), DeleteError> {
        let mut claimed = Vec::new();
        let mut kept = None;
        for id in ids {
            kill_point!("delete.claim.before");
            let claim = rows::claim_for_owner(&self.db, id, self.clock.now()).await?;
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
        // What is deleted goes by the moment that was believed, and not by a later look at a clock that may be set
        // in between.
        let mut moment = self.believed_moment().await?;
        withdrawals::forget_old(&self.db).await?;
        payments::forget_expired_proofs(&self.db, moment.wall).await?;
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

    /// Writes the records beside images that are behind their rows. A store that fails is asked again next time.
    async fn describe(&self) {
        match describe::all(&self.db, &self.store).await {
            Ok(0) => {}
            Ok(records) => tracing::info!(records, "records beside images were written anew"),
            Err(error) => {
                tracing::warn!(%error, "the records beside some images could not be written anew");
            }
        }
    }

    /// One batch of the first kind of work that there is. `false`: nothing is left, or the store fails.
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
            reaped.lapsed += rows::discard_lapsed(&self.db, stale, now, BATCH).await?;
            ids = rows::find_discarded(&self.db, stale, now, BATCH).await?;
            if let Err(error) = self.store.delete_drafts(&ids).await {
                tracing::warn!(%error, "what unfinished uploads left could not be deleted");
            }
        }
        if ids.is_empty() {
            return self.erase(now.minus(self.records), reaped).await;
        }
        let removed = self.remove(&ids).await?;
        let took_ms = self.clock.uptime().saturating_sub(began).as_millis();
        tracing::debug!(images = removed.marked, took_ms, "a batch was reaped");
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
            // What a facilitator named of a payment that failed moved no money to us.
            let hash = hash
                .filter(|_| payment.state == "settled")
                .map(|hash| transfer_hash(hash, &payment.payer, &payment.pay_to, &payment.amount));
            let now = self.clock.now();
            kill_point!("reap.erase.before");
            let erased = erasure::erase_payment(&self.db, &payment, hash.as_deref(), now).await?;
            kill_point!("reap.erase.after");
            payments += u64::from(erased);
        }
        payments += self.erase_credits(before).await?;
        reaped.erased_payments += payments;
        Ok(images + payments > 0)
    }

    /// Erases credits that were closed before `before`. How many it were.
    async fn erase_credits(&self, before: Timestamp) -> Result<u64, DbError> {
        let closed = credits::list_closed(&self.db, before, PAYMENTS_BATCH).await?;
        let mut erased = 0;
        for credit in &closed {
            let hash = transfer_hash(
                &credit.transaction.to_string(),
                &credit.payer.to_string(),
                &credit.pay_to.to_string(),
                &credit.amount,
            );
            let is_gone = credits::erase(&self.db, &credit.id, &hash, self.clock.now()).await?;
            erased += u64::from(is_gone);
        }
        Ok(erased)
    }

    /// Nor does a store that doesn't answer let anything go: its next answer may be a delete's.
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
        // Whoever held the lease had the lock, and is gone.
        jobs::release_job(&self.db, JOB).await?;
        Ok(Lock::Ours(Some(file)))
    }

    async fn take_lease(&self) -> Result<bool, DbError> {
        let now = self.clock.now();
        jobs::take_job(&self.db, JOB, &self.holder, now.plus(LEASE), now).await
    }
}

/// Who has the operating system's lock.
enum Lock {
    /// This run, while it keeps the file; without a file there is no lock to have.
    Ours(Option<File>),
    /// Another process.
    Theirs,
}

fn log(reaped: &Reaped) {
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

/// What became of a batch.
#[derive(Debug, Default)]
struct Removed {
    marked: u64,
    failed: u64,
    failure: Option<StoreError>,
}
