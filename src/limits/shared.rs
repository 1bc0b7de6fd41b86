//! What replicas count together, in the database: rates, and the free uploads of a day.
//!
//! An address is hashed under a key of the day, which comes of the master key: all replicas make the same hash,
//! nobody tells an address from it without the key, and tomorrow's hash is another. The local count is asked first,
//! so that who is over the limit here costs the database nothing; and it decides alone while the database
//! says nothing, since a rate must neither let everything pass then nor refuse everybody.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::free::Allowance;
use super::rates::{Bucket, Rate, micros};
use super::{Counted, FreeUpload, Limited, Limits, Taken};
use crate::clock::Timestamp;
use crate::db::limits::{self as rows, Pace, Place, day_of};
use crate::db::{Db, jobs};
use crate::random::Randomness;
use crate::secrets::{Domain, SecretKey};

/// How long a request waits for the count of all replicas; then the local one decides.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long nobody asks a database that didn't answer.
const QUIET: Duration = Duration::from_secs(1);
/// How many attempts at a free upload ask for the day's count at once, which one at a time changes in the whole
/// database: each of the others would hold a connection while it waits. How long they wait for their turn.
const AT_ONCE: usize = 2;
const TURN: Duration = Duration::from_secs(5);
/// How long it counts that the day's uploads are spent. One that comes to nothing gives its place back.
const FULL_FOR: Duration = Duration::from_secs(1);
/// How long an upload may take after its body was read, before its place goes to another one.
const AFTER_BODY: Duration = Duration::from_mins(5);
/// How often what isn't counted any more is erased, by one replica; the name of its lease.
const FORGET_EVERY: Duration = Duration::from_mins(1);
const JOB: &str = "limits";
/// No rate has a longer period.
const LONGEST_PERIOD: Duration = Duration::from_hours(1);

/// The database as replicas count in it.
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

    /// Counts one for all replicas. `None`: the database says nothing.
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
                tracing::warn!(%error, "requests are counted by each replica for itself");
            }
            Err(_) => {
                tracing::warn!(
                    "requests are counted by each replica for itself: the database is slow"
                );
            }
        }
        *locked(&self.quiet_until) = Some(Instant::now() + QUIET);
        None
    }

    /// Counts less of what the database counted, by so many microseconds each. Where it doesn't answer, whole ones stay
    /// counted until their time has passed.
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
                tracing::warn!(%error, "attempts that came to nothing count as uploads of their address");
            }
            Err(_) => {
                tracing::warn!(
                    "attempts that came to nothing count as uploads of their address: the database is slow"
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
    ) -> Result<Place, Limited> {
        let day = day_of(now);
        if locked(&self.full_until).is_some_and(|until| now < until) {
            return Err(allowance.refusal(now));
        }
        let turn = timeout(TURN, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| Limited::Thronged)?;
        let place = Place {
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

    /// Gives a place back, as soon as the database takes it. One that stays taken lapses.
    pub(super) fn give_back(&self, place: Place) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let db = self.db.clone();
        runtime.spawn(async move {
            if let Err(error) = rows::give_back(&db, &place).await {
                tracing::warn!(%error, "a free upload that came to nothing counts until its time has passed");
            }
        });
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
    /// How long a request waits for the count of all replicas; for tests on busy machines.
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

    /// Erases what isn't counted any more from the database, until it is dropped. One replica does at a time.
    pub async fn forget_forever(self: Arc<Self>) {
        while self.shared.is_some() {
            tokio::time::sleep(FORGET_EVERY).await;
            self.forget().await;
        }
    }

    /// Erases once what isn't counted any more.
    pub async fn forget(&self) {
        if let Some(shared) = &self.shared
            && let Err(error) = shared.forget(self.clock.now()).await
        {
            tracing::warn!(%error, "what isn't counted any more was not erased");
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
