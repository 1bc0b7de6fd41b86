//! Counts that replicas share in the database: rates, and the free uploads of a day.
//!
//! An address is hashed under a key of the day, which is derived from the master key. All replicas
//! make the same hash, the address can't be found without the key, and tomorrow's hash is
//! different. The local count is asked first, so that requests over the local limit don't reach the
//! database. While the database doesn't answer, the local count alone decides, since a rate limit
//! must then neither accept nor reject everything.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use super::free::Allowance;
use super::rates::{Bucket, Rate, micros};
use super::{Counted, FreeUpload, Limited, Limits, Taken};
use crate::db::limits::{self as rows, FreeSlot, Pace, day_of};
use crate::db::{Db, jobs};
use crate::keys::secrets::{Domain, SecretKey};
use crate::system::clock::Timestamp;
use crate::system::random::Randomness;

/// How long a request waits for the shared count. After that, the local count decides.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long the database is not asked again after it didn't answer.
const QUIET: Duration = Duration::from_secs(1);
/// How many attempts at a free upload ask for the day's count at once, and how long others wait for
/// their turn. The count is one row that is changed by one transaction at a time; further attempts
/// would hold connections while they wait.
const AT_ONCE: usize = 2;
const TURN: Duration = Duration::from_secs(5);
/// How long a "no uploads left" answer is cached. An upload that fails gives its place back.
const FULL_FOR: Duration = Duration::from_secs(1);
/// How long after its body was read an upload may take before its place is free again.
const AFTER_BODY: Duration = Duration::from_mins(5);
/// How often old counts are erased, by one replica at a time; below, the name of its lease.
const FORGET_EVERY: Duration = Duration::from_mins(1);
const JOB: &str = "limits";
/// The longest period of a rate.
const LONGEST_PERIOD: Duration = Duration::from_hours(1);

/// The shared counts of replicas, in the database.
#[derive(Debug)]
pub(super) struct Shared {
    db: Db,
    key: SecretKey,
    randomness: Randomness,
    holder: String,
    patience: Mutex<Duration>,
    quiet_until: Mutex<Option<Instant>>,
    full_until: Mutex<Option<Timestamp>>,
    turns: Semaphore,
}

impl Shared {
    pub(super) fn new(db: Db, key: SecretKey, randomness: Randomness) -> Self {
        Self {
            db,
            key,
            holder: hex::encode(randomness.bytes::<8>()),
            randomness,
            patience: Mutex::new(PATIENCE),
            quiet_until: Mutex::new(None),
            full_until: Mutex::new(None),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// The key of a day, the same on every replica.
    pub(super) fn key_of(&self, day: i64) -> SecretKey {
        let key = self.key.derive(Domain::DayOfRates, &[&day.to_be_bytes()]);
        SecretKey::from_bytes(key)
    }

    /// Counts a request for all replicas. `None`: the database doesn't answer.
    pub(super) async fn count(
        &self,
        rate: &Rate,
        bucket: &Bucket,
        now: Timestamp,
    ) -> Option<rows::Counted> {
        let pace = Pace {
            kind: rate.shared_as?,
            period_us: rate.period_us(),
            step_us: rate.step_us(),
        };
        if locked(&self.quiet_until).is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let bucket = hex::encode(bucket);
        let counting = rows::count(&self.db, pace, &bucket, micros(now));
        let patience = *locked(&self.patience);
        match timeout(patience, counting).await {
            Ok(Ok(counted)) => return Some(counted),
            Ok(Err(error)) => {
                tracing::warn!(%error, "each replica counts requests for itself, because the database failed");
            }
            Err(_) => {
                tracing::warn!(
                    "each replica counts requests for itself, because the database is slow"
                );
            }
        }
        *locked(&self.quiet_until) = Some(Instant::now() + QUIET);
        None
    }

    /// Lowers counts in the database, by the given number of microseconds each. If the database
    /// doesn't answer, they stay counted until their time has passed.
    pub(super) async fn give_back_rates(&self, taken: Vec<(Taken, i64)>) {
        let giving = async {
            for (one, refund_us) in taken.iter().filter(|(one, _)| one.is_shared) {
                let Some(kind) = one.counter.rate.shared_as else {
                    continue;
                };
                rows::uncount(&self.db, kind, &hex::encode(one.bucket), *refund_us).await?;
            }
            Ok::<_, crate::db::DbError>(())
        };
        let patience = *locked(&self.patience);
        match timeout(patience, giving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "failed attempts count as uploads of their address, because the database failed");
            }
            Err(_) => {
                tracing::warn!(
                    "failed attempts count as uploads of their address, because the database is slow"
                );
            }
        }
    }

    /// Takes one of the day's free uploads, of all replicas.
    async fn take_place(
        &self,
        allowance: Allowance,
        lease: Duration,
        now: Timestamp,
    ) -> Result<FreeSlot, Limited> {
        let day = day_of(now);
        if locked(&self.full_until).is_some_and(|until| now < until) {
            return Err(allowance.refusal(now));
        }
        let turn = timeout(TURN, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| Limited::Thronged)?;
        let place = FreeSlot {
            id: hex::encode(self.randomness.bytes::<16>()),
            day,
        };
        let (most, until) = (allowance.uploads, now.plus(lease));
        if rows::take_place(&self.db, &place, most, until, now).await? {
            return Ok(place);
        }
        let full_until = now.plus(FULL_FOR).min(allowance.until);
        *locked(&self.full_until) = Some(full_until);
        Err(allowance.refusal(now))
    }

    /// Gives a place back as soon as the database accepts it. Otherwise the place expires.
    pub(super) fn give_back(&self, place: FreeSlot) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let db = self.db.clone();
        let give_back = async move {
            if let Err(error) = rows::give_back(&db, &place).await {
                tracing::warn!(%error, "a failed free upload counts until its reservation expires");
            }
        };
        runtime.spawn(give_back.in_current_span());
    }

    async fn forget(&self, now: Timestamp) -> Result<(), crate::db::DbError> {
        let until = now.plus(FORGET_EVERY / 2);
        let taken = jobs::take_job(&self.db, JOB, &self.holder, until, now).await?;
        if !taken {
            return Ok(());
        }
        let longest = i64::try_from(LONGEST_PERIOD.as_micros()).unwrap_or(i64::MAX);
        rows::forget_clear(&self.db, micros(now), longest).await?;
        rows::forget_days(&self.db, day_of(now).saturating_sub(1), now).await
    }
}

impl Limits {
    /// Sets how long a request waits for the shared count; for tests on busy machines.
    #[doc(hidden)]
    pub fn wait_for_others(&self, patience: Duration) {
        if let Some(shared) = &self.shared {
            *locked(&shared.patience) = patience;
        }
    }

    /// Counts in this database, together with every server that has the same key.
    #[must_use]
    pub fn shared_by(self, db: Db, key: SecretKey) -> Self {
        let shared = Shared::new(db, key, self.randomness.clone());
        let day = day_of(self.clock.now());
        Self {
            counted: Mutex::new(Counted::with_key(day, shared.key_of(day))),
            shared: Some(shared),
            ..self
        }
    }

    /// Erases old counts from the database, until the future is dropped. One replica does so at a
    /// time.
    pub async fn forget_forever(self: Arc<Self>) {
        while self.shared.is_some() {
            tokio::time::sleep(FORGET_EVERY).await;
            self.forget().await;
        }
    }

    /// Erases old counts once.
    pub async fn forget(&self) {
        if let Some(shared) = &self.shared
            && let Err(error) = shared.forget(self.clock.now()).await
        {
            tracing::warn!(%error, "old counts could not be erased");
        }
    }

    pub(super) async fn take_shared(
        self: &Arc<Self>,
        shared: &Shared,
    ) -> Result<FreeUpload, Limited> {
        let now = self.clock.now();
        let settings = self.settings();
        let place = match Allowance::at(now, &settings) {
            None => None,
            Some(allowance) => {
                let lease = settings.body_timeout + AFTER_BODY;
                Some(shared.take_place(allowance, lease, now).await?)
            }
        };
        Ok(self.free_upload(day_of(now), place))
    }
}

fn locked<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
