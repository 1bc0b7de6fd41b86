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
#[cfg(test)]
mod tests;

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
