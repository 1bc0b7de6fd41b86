//! Limits: how much one address, one network, and everybody together may ask for.
//!
//! Addresses and networks are kept as keyed hashes only, in memory, under a key that is drawn anew every day (UTC)
//! and then forgotten with all that was counted by it. The daily count of free uploads is read from the
//! database, so it holds across a restart. Servers that share a database count in it: see `shared`.
//!
//! Rates go by the generic cell rate algorithm on the injected clock: N at once, then one whenever a
//! N-th of the period has passed. Its state is one number an address. The crate `governor` does the same,
//! but bounds no number of keys, and forty lines are easier to bound than its map is to watch.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crate::clock::{Clock, Timestamp};
use crate::config;
use crate::db::DbError;
use crate::db::limits::{Counted as Shares, day_of};
use crate::random::Randomness;
use crate::secrets::{Domain, SecretKey};

mod bodies;
mod checks;
mod free;
mod rates;
mod shared;

use bodies::Bodies;
pub use bodies::{CopyRoom, Room, least as least_body_bytes};
pub use checks::Check;
use checks::Checks;
use free::Uploads;
pub use free::{FreeAttempt, FreeUpload};
#[cfg(test)]
use rates::MAX_ADDRESSES;
pub use rates::Whose;
use rates::{Bucket, Rate, Rates, micros};
use shared::Shared;

/// What one address may ask for that isn't there, a minute. A page full of expired images stays below.
const MISSES_PER_MINUTE: u64 = 300;

/// Why a request has to come again later.
#[derive(Debug, thiserror::Error)]
pub enum Limited {
    /// Too many of one address or network.
    #[error("Your {whose} sent too many requests: {limit} {what} are allowed.")]
    Rate {
        /// How many are allowed.
        limit: u64,
        /// Of what, and in what time.
        what: &'static str,
        /// Whose requests were counted.
        whose: Whose,
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
    /// The free uploads of the first half of the day are spent.
    #[error(
        "The {limit} free uploads for the first half of today are spent; there are more from 12:00 UTC."
    )]
    HalfDay {
        /// How many there are before 12:00 UTC.
        limit: u64,
        /// Until 12:00 UTC.
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
    checks: Checks,
    bodies: Bodies,
}

/// A rate, and where this server counts by it.
#[derive(Debug, Clone, Copy)]
struct Counter {
    rate: Rate,
    of: fn(&mut Counted) -> &mut Rates,
}

/// One that was counted.
#[derive(Debug, Clone, Copy)]
struct Taken {
    counter: Counter,
    bucket: Bucket,
    /// Whether the database counted it as well.
    is_shared: bool,
}

/// What is forgotten when the day ends.
#[derive(Debug)]
struct Counted {
    day: i64,
    key: SecretKey,
    free: Rates,
    free_of_networks: Rates,
    payments: Rates,
    unproven: Rates,
    misses: Rates,
    failures: Rates,
    uploads: Uploads,
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
            checks: Checks::new(cores),
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

    /// Counts a challenge, or a payment that is presented.
    ///
    /// # Errors
    /// [`Limited::Rate`].
    pub async fn count_payment(&self, address: IpAddr) -> Result<(), Limited> {
        let rate = Rate {
            limit: self.settings().payments_per_address_per_minute,
            period: Duration::from_mins(1),
            what: "payments and challenges a minute",
            whose: Whose::Address,
            shared_as: Some("payments"),
        };
        let of: fn(&mut Counted) -> &mut Rates = |counted| &mut counted.payments;
        self.count(address, &[Counter { rate, of }]).await?;
        Ok(())
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
            whose: Whose::Address,
            shared_as: Some("unproven"),
        };
        let of: fn(&mut Counted) -> &mut Rates = |counted| &mut counted.unproven;
        self.count(address, &[Counter { rate, of }]).await?;
        Ok(())
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
            whose: Whose::Address,
            shared_as: None,
        };
        let of: fn(&mut Counted) -> &mut Rates = |counted| &mut counted.misses;
        self.count_here(address, Counter { rate, of }).map(|_| ())
    }

    /// Room for a body that is going to be read.
    pub fn begin_body(&self) -> Room {
        self.bodies.begin()
    }

    /// Waits for memory for the cleaned copy of an image of so many bytes.
    ///
    /// # Errors
    /// None while the server runs.
    pub async fn begin_copy(&self, bytes: u64) -> Result<CopyRoom, Limited> {
        self.bodies.copy(bytes).await
    }

    /// Counts an upload with a token that its client spoilt: it costs a body and a check, and no use. Each server
    /// counts for itself.
    pub fn count_failure(&self, address: IpAddr) {
        let Some(rate) = self.failures() else {
            return;
        };
        let now = self.clock.now();
        let mut counted = self.counted(now);
        let bucket = counted.bucket(address, Whose::Address);
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
            whose: Whose::Address,
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
        let bucket = counted.bucket(address, Whose::Address);
        match counted.failures.excess(&bucket, &rate, now) {
            wait if wait.is_zero() => Ok(()),
            wait => Err(rate.refusal(wait)),
        }
    }

    /// Waits for a place to check an image: one a core, and a bounded queue before it, of which one network has a part.
    ///
    /// # Errors
    /// [`Limited::Busy`] when the queue is full, or its network has its part of it.
    pub async fn enter_check(&self, address: Option<IpAddr>) -> Result<Check, Limited> {
        let now = self.clock.now();
        let network = address.map(|address| self.counted(now).bucket(address, Whose::Network));
        self.checks.enter(network).await
    }

    /// Counts one by each of these: the local counts first, then those of all replicas. Returns where it was counted.
    ///
    /// # Errors
    /// [`Limited::Rate`]; then it was counted nowhere.
    async fn count(&self, address: IpAddr, counters: &[Counter]) -> Result<Vec<Taken>, Limited> {
        let mut taken = Vec::new();
        for counter in counters {
            match self.count_here(address, *counter) {
                Ok(one) => taken.extend(one),
                Err(refused) => {
                    self.lower(&whole(&taken));
                    return Err(refused);
                }
            }
        }
        let Some(shared) = &self.shared else {
            return Ok(taken);
        };
        let mut refused = None;
        for one in &mut taken {
            let now = self.clock.now();
            let rate = &one.counter.rate;
            match shared.count(rate, &one.bucket, now).await {
                None => {}
                Some(Shares::Yes(_)) => one.is_shared = true,
                Some(Shares::No(clear)) => {
                    (one.counter.of)(&mut self.counted(now)).learn(&one.bucket, clear, now);
                    refused = Some(rate.refusal(rate.excess(clear, micros(now))));
                    break;
                }
            }
        }
        let Some(refused) = refused else {
            return Ok(taken);
        };
        let taken = whole(&taken);
        self.lower(&taken);
        shared.give_back_rates(taken).await;
        Err(refused)
    }

    /// What was counted; `None` where there is no limit.
    fn count_here(&self, address: IpAddr, by: Counter) -> Result<Option<Taken>, Limited> {
        let Counter { rate, of } = by;
        if rate.limit == 0 {
            return Ok(None);
        }
        let now = self.clock.now();
        let mut counted = self.counted(now);
        let bucket = counted.bucket(address, rate.whose);
        if let Some(wait) = of(&mut counted).take(bucket, &rate, now) {
            return Err(rate.refusal(wait));
        }
        Ok(Some(Taken {
            counter: by,
            bucket,
            is_shared: false,
        }))
    }

    /// Counts less of these on this server, by so many microseconds each.
    fn lower(&self, taken: &[(Taken, i64)]) {
        if taken.is_empty() {
            return;
        }
        let mut counted = self.counted(self.clock.now());
        for (one, refund_us) in taken {
            (one.counter.of)(&mut counted).give_back(&one.bucket, *refund_us);
        }
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

impl Counted {
    fn new(day: i64, randomness: &Randomness) -> Self {
        Self::with_key(day, SecretKey::from_bytes(randomness.bytes::<32>()))
    }

    fn with_key(day: i64, key: SecretKey) -> Self {
        Self {
            day,
            key,
            free: Rates::default(),
            free_of_networks: Rates::default(),
            payments: Rates::default(),
            unproven: Rates::default(),
            misses: Rates::default(),
            failures: Rates::default(),
            uploads: Uploads::default(),
        }
    }

    /// The bucket of a client: all of an IPv4 address, the /64 of IPv6, which one client has. Or that of its network: the
    /// /24 of IPv4, the /48 of IPv6.
    fn bucket(&self, address: IpAddr, whose: Whose) -> Bucket {
        let hash = match (address.to_canonical(), whose) {
            (IpAddr::V4(v4), Whose::Address) => self.key.derive(Domain::Bucket, &[&v4.octets()]),
            (IpAddr::V4(v4), Whose::Network) => {
                let prefix = v4.to_bits() >> 8;
                let prefix = prefix.to_be_bytes();
                self.key.derive(Domain::Bucket, &[b"network", &prefix])
            }
            (IpAddr::V6(v6), Whose::Address) => {
                let prefix = v6.to_bits() >> 64;
                self.key.derive(Domain::Bucket, &[&prefix.to_be_bytes()])
            }
            (IpAddr::V6(v6), Whose::Network) => {
                let prefix = (v6.to_bits() >> 80).to_be_bytes();
                self.key.derive(Domain::Bucket, &[b"network", &prefix])
            }
        };
        hash.first_chunk().copied().unwrap_or_default()
    }
}

/// All of what was counted, to be given back.
fn whole(taken: &[Taken]) -> Vec<(Taken, i64)> {
    let step = |one: &Taken| (*one, one.counter.rate.step_us());
    taken.iter().map(step).collect()
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
            limits.count_free(one).await.unwrap().keep();
        }
        for _ in 0..3 {
            // Being refused costs nothing more.
            let Err(Limited::Rate { limit, wait, .. }) = limits.count_free(one).await else {
                panic!("not refused");
            };
            assert_eq!((limit, wait), (50, Duration::from_secs(72)));
        }
        limits
            .count_free(address("192.0.2.2"))
            .await
            .unwrap()
            .keep();
        limits.count_payment(one).await.unwrap();
        clock.advance(Duration::from_millis(71_999));
        limits.count_free(one).await.unwrap_err();
        clock.advance(Duration::from_millis(1));
        limits.count_free(one).await.unwrap().keep();
        limits.count_free(one).await.unwrap_err();
        clock.advance(Duration::from_hours(1));
        for _ in 0..50 {
            limits.count_free(one).await.unwrap().keep();
        }
        limits.count_free(one).await.unwrap_err();
    }

    #[test]
    fn one_network_of_ipv6_is_one_client_and_mapped_ipv4_is_itself() {
        let counted = Counted::new(1, &Randomness::seeded(1));
        let bucket = |text: &str| counted.bucket(address(text), Whose::Address);
        assert_eq!(bucket("2001:db8::1"), bucket("2001:db8::ffff:ffff:ffff:1"));
        assert_ne!(bucket("2001:db8::1"), bucket("2001:db8:0:1::1"));
        assert_eq!(bucket("::ffff:192.0.2.1"), bucket("192.0.2.1"));
        assert_ne!(bucket("192.0.2.1"), bucket("192.0.2.2"));
        let network = |text: &str| counted.bucket(address(text), Whose::Network);
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.255"));
        assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
        assert_eq!(network("2001:db8::1"), network("2001:db8:0:ffff::1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:1::1"));
        // The first address of a network is another bucket than the network.
        assert_ne!(network("192.0.2.0"), bucket("192.0.2.0"));
    }

    #[tokio::test]
    async fn the_key_and_all_it_counted_are_forgotten_at_midnight() {
        let clock = noon();
        let limits = limits(&clock);
        let one = address("192.0.2.1");
        for _ in 0..50 {
            limits.count_free(one).await.unwrap().keep();
        }
        let before = limits.counted(clock.now()).bucket(one, Whose::Address);
        clock.advance(Duration::from_hours(12));
        let after = limits.counted(clock.now());
        assert_ne!(after.bucket(one, Whose::Address), before);
        assert!(after.free.0.is_empty());
    }

    #[test]
    fn a_million_addresses_take_no_more_memory_and_spare_who_asked_most() {
        let mut rates = Rates::default();
        let rate = Rate {
            limit: 50,
            period: Duration::from_hours(1),
            what: "",
            whose: Whose::Address,
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

    #[tokio::test]
    async fn an_attempt_that_stores_nothing_costs_a_tenth_by_address_and_by_network() {
        let clock = noon();
        let limits = limits(&clock);
        let clients = ["1", "2", "3", "4", "5"].map(|end| address(&format!("192.0.2.{end}")));
        for client in clients {
            // One is dropped, one is given back, and both cost the same.
            for _ in 0..5 {
                drop(limits.count_free(client).await.unwrap());
                limits.count_free(client).await.unwrap().give_back().await;
            }
        }
        // 50 tenths of the network's 200, and 10 tenths of each address's 50.
        for client in &clients[..3] {
            for _ in 0..49 {
                limits.count_free(*client).await.unwrap().keep();
            }
            limits.count_free(*client).await.unwrap_err();
        }
        for _ in 0..48 {
            limits.count_free(clients[3]).await.unwrap().keep();
        }
        let refused = limits.count_free(clients[3]).await.unwrap_err();
        let is_of_network = |refused: &Limited| {
            let Limited::Rate { whose, limit, .. } = refused else {
                panic!("{refused}");
            };
            (*whose, *limit) == (Whose::Network, 200)
        };
        assert!(is_of_network(&refused));
        // What the network refuses costs neither.
        for _ in 0..60 {
            assert!(is_of_network(
                &limits.count_free(clients[4]).await.unwrap_err()
            ));
        }
        clock.advance(Duration::from_mins(15));
        for _ in 0..49 {
            limits.count_free(clients[4]).await.unwrap().keep();
        }
    }

    #[test]
    fn what_the_database_refused_is_believed_for_a_second() {
        let mut rates = Rates::default();
        let rate = Rate {
            limit: 2,
            period: Duration::from_mins(1),
            what: "",
            whose: Whose::Address,
            shared_as: None,
        };
        let (bucket, now) = ([1; 16], noon().now());
        assert!(rates.take(bucket, &rate, now).is_none());
        let full = micros(now) + 60_000_000;
        rates.learn(&bucket, full, now);
        assert_eq!(rates.excess(&bucket, &rate, now), Duration::from_secs(30));
        let later = now.plus(Duration::from_secs(1));
        assert!(rates.excess(&bucket, &rate, later).is_zero());
        // A clock that is set back doesn't make it longer.
        let earlier = now.minus(Duration::from_hours(1));
        rates.give_back(&bucket, rate.step_us() + 3_600_000_000);
        assert!(rates.excess(&bucket, &rate, earlier).is_zero());
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let mut rates = Rates::default();
        let rate = Rate {
            limit: 2,
            period: Duration::from_mins(1),
            what: "",
            whose: Whose::Address,
            shared_as: None,
        };
        let now = noon().now();
        assert!(rates.take([1; 16], &rate, now).is_none());
        let earlier = now.minus(Duration::from_hours(1));
        let wait = rates.take([1; 16], &rate, earlier).unwrap();
        assert!(wait <= rate.period, "{wait:?}");
    }
}
