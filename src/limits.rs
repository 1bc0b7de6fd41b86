//! Limits: how much one address, and everybody together, may ask for.
//!
//! Addresses are kept as keyed hashes only, in memory, under a key that is drawn anew every day (UTC)
//! and then forgotten with all that was counted by it. The daily count of free uploads is read from the
//! database, so it holds across a restart. Servers that share a database count in it: see `shared`.
//!
//! Rates go by the generic cell rate algorithm on the injected clock: N at once, then one whenever a
//! N-th of the period has passed. Its state is one number an address. The crate `governor` does the same,
//! but bounds no number of keys, and forty lines are easier to bound than its map is to watch.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::{Clock, Timestamp};
use crate::config;
use crate::db::limits::{Counted as Shares, Place, day_of, start_of};
use crate::db::{Db, DbError, images};
use crate::random::Randomness;
use crate::secrets::{Domain, SecretKey};

mod bodies;
mod rates;
mod shared;

use bodies::Bodies;
pub use bodies::Room;
#[cfg(test)]
use rates::MAX_ADDRESSES;
use rates::{Bucket, Rate, Rates, micros};
use shared::Shared;

/// What one address may ask for that isn't there, a minute. A page full of expired images stays below.
const MISSES_PER_MINUTE: u64 = 300;
/// How old the count in the database may be, where one server alone adds to it.
const COUNT_AGAIN: Duration = Duration::from_mins(1);
/// How many checks of images may wait for each one that runs.
const QUEUE_PER_CHECK: usize = 64;

/// Why a request has to come again later.
#[derive(Debug, thiserror::Error)]
pub enum Limited {
    /// Too many of one address.
    #[error("Your address sent too many requests: {limit} {what} are allowed.")]
    Rate {
        /// How many are allowed.
        limit: u64,
        /// Of what, and in what time.
        what: &'static str,
        /// When the next one is.
        wait: Duration,
    },
    /// The free uploads of the day are spent.
    #[error("The {limit} free uploads of today are spent; tomorrow begins at 00:00 UTC.")]
    Day {
        /// How many there are.
        limit: u64,
        /// Until tomorrow.
        wait: Duration,
    },
    /// More images wait for their check than is good for anyone.
    #[error("The server is busy checking other images: repeat the same request in a moment.")]
    Busy,
    /// The bodies of other requests take all the memory that there is for them.
    #[error("The server is busy reading other images: repeat the same request in a moment.")]
    Crowded,
    /// Attempts that come all at once wait for the day's count.
    #[error("Too many free uploads begin at once: repeat the same request in a moment.")]
    Thronged,
    /// The count can't be read.
    #[error("The free uploads of today could not be counted; nothing was stored.")]
    Database(#[from] DbError),
}

/// The limits of a server.
#[derive(Debug)]
pub struct Limits {
    settings: RwLock<config::Limits>,
    clock: Arc<dyn Clock>,
    randomness: Randomness,
    counted: Mutex<Counted>,
    shared: Option<Shared>,
    today: tokio::sync::Mutex<()>,
    checks: Arc<Semaphore>,
    checks_and_queue: Arc<Semaphore>,
    bodies: Bodies,
}

/// What is forgotten when the day ends.
#[derive(Debug)]
struct Counted {
    day: i64,
    key: SecretKey,
    free: Rates,
    payments: Rates,
    unproven: Rates,
    misses: Rates,
    failures: Rates,
    uploads: Uploads,
}

/// The free uploads of the day.
#[derive(Debug, Default)]
struct Uploads {
    published: u64,
    under_way: u64,
    counted_at: Option<Timestamp>,
}

/// One of the day's free uploads. Given back on drop, unless it was spent.
#[derive(Debug)]
pub struct FreeUpload {
    limits: Arc<Limits>,
    day: i64,
    is_spent: bool,
    place: Option<Place>,
}

/// A place among the checks that run now.
#[derive(Debug)]
pub struct Check {
    _running: OwnedSemaphorePermit,
    _counted: OwnedSemaphorePermit,
}

impl Limits {
    /// Limits with nothing counted yet.
    pub fn new(settings: config::Limits, clock: Arc<dyn Clock>, randomness: Randomness) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let counted = Counted::new(day_of(clock.now()), &randomness);
        Self {
            settings: RwLock::new(settings),
            clock,
            randomness,
            counted: Mutex::new(counted),
            shared: None,
            today: tokio::sync::Mutex::new(()),
            checks: Arc::new(Semaphore::new(cores)),
            checks_and_queue: Arc::new(Semaphore::new(cores * (1 + QUEUE_PER_CHECK))),
            bodies: Bodies::new(settings.body_bytes),
        }
    }

    /// Other counts from now on. What was counted stays counted.
    pub fn change_counts(&self, settings: config::Limits) {
        let mut held = self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *held = held.with_counts_of(settings);
    }

    fn settings(&self) -> config::Limits {
        *self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an attempt at a free upload.
    ///
    /// # Errors
    /// [`Limited::Rate`].
    pub async fn count_free(&self, address: IpAddr) -> Result<(), Limited> {
        let rate = Rate {
            limit: self.settings().free_per_address_per_hour,
            period: Duration::from_hours(1),
            what: "free uploads an hour",
            shared_as: Some("free"),
        };
        self.count(address, &rate, |counted| &mut counted.free)
            .await
    }

    /// Counts a challenge, or a payment that is presented.
    ///
    /// # Errors
    /// [`Limited::Rate`].
    pub async fn count_payment(&self, address: IpAddr) -> Result<(), Limited> {
        let rate = Rate {
            limit: self.settings().payments_per_address_per_minute,
            period: Duration::from_mins(1),
            what: "payments and challenges a minute",
            shared_as: Some("payments"),
        };
        self.count(address, &rate, |counted| &mut counted.payments)
            .await
    }

    /// Counts a payment whose signature proves nothing here: a contract wallet's, or junk. It may cost calls
    /// to node and facilitator, so a tenth of the payments may be such.
    ///
    /// # Errors
    /// [`Limited::Rate`].
    pub async fn count_unproven(&self, address: IpAddr) -> Result<(), Limited> {
        let rate = Rate {
            limit: self.settings().payments_per_address_per_minute.div_ceil(10),
            period: Duration::from_mins(1),
            what: "payments a minute by contract wallets",
            shared_as: Some("unproven"),
        };
        self.count(address, &rate, |counted| &mut counted.unproven)
            .await
    }

    /// Counts a request for an image that isn't there: each server for itself, since asking the database would
    /// cost what this is to save.
    ///
    /// # Errors
    /// [`Limited::Rate`].
    pub fn count_miss(&self, address: IpAddr) -> Result<(), Limited> {
        let rate = Rate {
            limit: MISSES_PER_MINUTE,
            period: Duration::from_mins(1),
            what: "requests a minute for images that don't exist",
            shared_as: None,
        };
        self.count_here(address, &rate, |counted| &mut counted.misses)
            .map(|_| ())
    }

    /// Takes one of the day's free uploads.
    ///
    /// # Errors
    /// [`Limited::Day`], and [`Limited::Database`] where the count can't be read.
    pub async fn take_free(self: &Arc<Self>, db: &Db) -> Result<FreeUpload, Limited> {
        if let Some(shared) = &self.shared {
            return self.take_shared(shared).await;
        }
        let limit = self.settings().free_per_day;
        let now = self.clock.now();
        if limit != 0 && self.is_stale(now) {
            // One at a time: the others find it counted.
            let _turn = self.today.lock().await;
            if self.is_stale(now) {
                let published = images::count_free_since(db, start_of(day_of(now))).await?;
                let mut counted = self.counted(now);
                // Those that were spent while it was counted may be missing in it.
                counted.uploads.published = counted.uploads.published.max(published);
                counted.uploads.counted_at = Some(now);
            }
        }
        let mut counted = self.counted(now);
        if limit != 0 && counted.uploads.published + counted.uploads.under_way >= limit {
            let wait = start_of(counted.day + 1).since(now);
            return Err(Limited::Day { limit, wait });
        }
        counted.uploads.under_way += 1;
        Ok(FreeUpload {
            limits: Arc::clone(self),
            day: counted.day,
            is_spent: false,
            place: None,
        })
    }

    /// Room for a body that is going to be read.
    pub fn begin_body(&self) -> Room {
        self.bodies.begin()
    }

    /// Counts an upload with a token that its client spoilt: it costs a body and a check, and no use. Each server
    /// counts for itself.
    pub fn count_failure(&self, address: IpAddr) {
        let Some(rate) = self.failures() else {
            return;
        };
        let now = self.clock.now();
        let mut counted = self.counted(now);
        let bucket = counted.bucket(address);
        counted.failures.take(bucket, &rate, now);
    }

    /// How many uploads with a token one address may spoil: half as many as it may make payments. Those that are good
    /// cost a use each, and aren't counted.
    fn failures(&self) -> Option<Rate> {
        let payments = self.settings().payments_per_address_per_minute;
        (payments > 0).then_some(Rate {
            limit: payments.div_ceil(2),
            period: Duration::from_mins(1),
            what: "refused uploads with a token a minute",
            shared_as: None,
        })
    }

    /// Whether another upload with a token may be spoilt now.
    ///
    /// # Errors
    /// [`Limited::Rate`].
    pub fn may_fail(&self, address: IpAddr) -> Result<(), Limited> {
        let Some(rate) = self.failures() else {
            return Ok(());
        };
        let now = self.clock.now();
        let counted = self.counted(now);
        let bucket = counted.bucket(address);
        match counted.failures.excess(&bucket, &rate, now) {
            wait if wait.is_zero() => Ok(()),
            wait => Err(rate.refusal(wait)),
        }
    }

    /// Waits for a place to check an image: one a core, and a bounded queue before it.
    ///
    /// # Errors
    /// [`Limited::Busy`] when the queue is full.
    pub async fn enter_check(&self) -> Result<Check, Limited> {
        let counted = Arc::clone(&self.checks_and_queue).try_acquire_owned();
        let counted = counted.map_err(|_| Limited::Busy)?;
        let running = Arc::clone(&self.checks).acquire_owned().await;
        Ok(Check {
            _running: running.map_err(|_| Limited::Busy)?,
            _counted: counted,
        })
    }

    /// The local count first, then that of all replicas.
    async fn count(
        &self,
        address: IpAddr,
        rate: &Rate,
        of: fn(&mut Counted) -> &mut Rates,
    ) -> Result<(), Limited> {
        let Some(bucket) = self.count_here(address, rate, of)? else {
            return Ok(());
        };
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        let now = self.clock.now();
        match shared.count(rate, &bucket, now).await {
            None => Ok(()),
            Some(Shares::Yes(clear)) => {
                of(&mut self.counted(now)).learn(&bucket, clear);
                Ok(())
            }
            Some(Shares::No(clear)) => {
                of(&mut self.counted(now)).learn(&bucket, clear);
                Err(rate.refusal(rate.excess(clear, micros(now))))
            }
        }
    }

    /// Whose request was counted; `None` where there is no limit.
    fn count_here(
        &self,
        address: IpAddr,
        rate: &Rate,
        of: fn(&mut Counted) -> &mut Rates,
    ) -> Result<Option<Bucket>, Limited> {
        if rate.limit == 0 {
            return Ok(None);
        }
        let now = self.clock.now();
        let mut counted = self.counted(now);
        let bucket = counted.bucket(address);
        let wait = of(&mut counted).take(bucket, rate, now);
        wait.map_or(Ok(Some(bucket)), |wait| Err(rate.refusal(wait)))
    }

    fn is_stale(&self, now: Timestamp) -> bool {
        let counted = self.counted(now).uploads.counted_at;
        counted.is_none_or(|at| now.since(at) >= COUNT_AGAIN)
    }

    /// What was counted today.
    fn counted(&self, now: Timestamp) -> MutexGuard<'_, Counted> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.day != day_of(now) {
            let day = day_of(now);
            *counted = match &self.shared {
                Some(shared) => Counted::with_key(day, shared.key_of(day)),
                None => Counted::new(day, &self.randomness),
            };
        }
        counted
    }
}

impl FreeUpload {
    /// It was published.
    pub fn spend(mut self) {
        self.is_spent = true;
    }

    /// What it is to be published in, where replicas count together.
    pub fn place(&self) -> Option<&Place> {
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
            counted.uploads.under_way = counted.uploads.under_way.saturating_sub(1);
            counted.uploads.published += u64::from(self.is_spent);
        }
    }
}

impl Counted {
    fn new(day: i64, randomness: &Randomness) -> Self {
        Self::with_key(day, SecretKey::from_bytes(randomness.bytes::<32>()))
    }

    fn with_key(day: i64, key: SecretKey) -> Self {
        Self {
            day,
            key,
            free: Rates::default(),
            payments: Rates::default(),
            unproven: Rates::default(),
            misses: Rates::default(),
            failures: Rates::default(),
            uploads: Uploads::default(),
        }
    }

    /// The bucket of a client: all of an IPv4 address, the /64 of IPv6, which one client has.
    fn bucket(&self, address: IpAddr) -> Bucket {
        let hash = match address.to_canonical() {
            IpAddr::V4(v4) => self.key.derive(Domain::Bucket, &[&v4.octets()]),
            IpAddr::V6(v6) => {
                let prefix = v6.to_bits() >> 64;
                self.key.derive(Domain::Bucket, &[&prefix.to_be_bytes()])
            }
        };
        hash.first_chunk().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn limits(clock: &ManualClock) -> Arc<Limits> {
        let settings = config::Limits {
            free_per_day: 0,
            free_per_address_per_hour: 50,
            payments_per_address_per_minute: 120,
            ..config::Limits::default()
        };
        let clock = Arc::new(clock.clone());
        Arc::new(Limits::new(settings, clock, Randomness::seeded(1)))
    }

    fn noon() -> ManualClock {
        ManualClock::at(Timestamp::from_seconds(1_800_014_400))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn fifty_at_once_then_one_every_seventy_two_seconds() {
        let clock = noon();
        let limits = limits(&clock);
        let one = address("192.0.2.1");
        for _ in 0..50 {
            limits.count_free(one).await.unwrap();
        }
        for _ in 0..3 {
            // Being refused costs nothing more.
            let Err(Limited::Rate { limit, wait, .. }) = limits.count_free(one).await else {
                panic!("not refused");
            };
            assert_eq!((limit, wait), (50, Duration::from_secs(72)));
        }
        limits.count_free(address("192.0.2.2")).await.unwrap();
        limits.count_payment(one).await.unwrap();
        clock.advance(Duration::from_millis(71_999));
        limits.count_free(one).await.unwrap_err();
        clock.advance(Duration::from_millis(1));
        limits.count_free(one).await.unwrap();
        limits.count_free(one).await.unwrap_err();
        clock.advance(Duration::from_hours(1));
        for _ in 0..50 {
            limits.count_free(one).await.unwrap();
        }
        limits.count_free(one).await.unwrap_err();
    }

    #[test]
    fn one_network_of_ipv6_is_one_client_and_mapped_ipv4_is_itself() {
        let counted = Counted::new(1, &Randomness::seeded(1));
        let bucket = |text: &str| counted.bucket(address(text));
        assert_eq!(bucket("2001:db8::1"), bucket("2001:db8::ffff:ffff:ffff:1"));
        assert_ne!(bucket("2001:db8::1"), bucket("2001:db8:0:1::1"));
        assert_eq!(bucket("::ffff:192.0.2.1"), bucket("192.0.2.1"));
        assert_ne!(bucket("192.0.2.1"), bucket("192.0.2.2"));
    }

    #[tokio::test]
    async fn the_key_and_all_it_counted_are_forgotten_at_midnight() {
        let clock = noon();
        let limits = limits(&clock);
        let one = address("192.0.2.1");
        for _ in 0..50 {
            limits.count_free(one).await.unwrap();
        }
        let before = limits.counted(clock.now()).bucket(one);
        clock.advance(Duration::from_hours(12));
        let after = limits.counted(clock.now());
        assert_ne!(after.bucket(one), before);
        assert!(after.free.0.is_empty());
    }

    #[test]
    fn a_million_addresses_take_no_more_memory_and_spare_who_asked_most() {
        let mut rates = Rates::default();
        let rate = Rate {
            limit: 50,
            period: Duration::from_hours(1),
            what: "",
            shared_as: None,
        };
        let now = noon().now();
        let heavy = [255; 16];
        for _ in 0..50 {
            assert!(rates.take(heavy, &rate, now).is_none());
        }
        for number in 0..1_000_000_u128 {
            assert!(rates.take(number.to_be_bytes(), &rate, now).is_none());
            assert!(rates.0.len() <= MAX_ADDRESSES);
        }
        assert!(rates.take(heavy, &rate, now).is_some());
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let mut rates = Rates::default();
        let rate = Rate {
            limit: 2,
            period: Duration::from_mins(1),
            what: "",
            shared_as: None,
        };
        let now = noon().now();
        assert!(rates.take([1; 16], &rate, now).is_none());
        let earlier = now.minus(Duration::from_hours(1));
        let wait = rates.take([1; 16], &rate, earlier).unwrap();
        assert!(wait <= rate.period, "{wait:?}");
    }

    #[tokio::test]
    async fn checks_beyond_the_queue_are_refused_at_once() {
        let limits = limits(&noon());
        let places = limits.checks.available_permits();
        let mut running = Vec::new();
        for _ in 0..places {
            running.push(limits.enter_check().await.unwrap());
        }
        let mut waiting: Vec<_> = (0..places * QUEUE_PER_CHECK)
            .map(|_| Box::pin(limits.enter_check()))
            .collect();
        for one in &mut waiting {
            assert!(futures_util::poll!(one).is_pending());
        }
        assert!(matches!(limits.enter_check().await, Err(Limited::Busy)));
        running.pop();
        waiting.remove(0).await.unwrap();
        // A client that goes away leaves its place.
        waiting.clear();
        limits.enter_check().await.unwrap();
    }
}
