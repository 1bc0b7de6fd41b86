//! Rate limits and quotas: how much one address, one network, and all clients together may request.
//!
//! Addresses and networks are kept in memory only, as keyed hashes. The key is drawn anew every day
//! (UTC); then the old key and everything counted under it are forgotten. The daily count of free
//! uploads is read from the database, so it survives a restart. Servers that share a database also
//! share counts: see `shared`.
//!
//! Rates use the generic cell rate algorithm on the injected clock: N at once, then one whenever an
//! N-th of the period has passed. Its state is one number for each address. The crate `governor`
//! uses the same algorithm but doesn't bound the number of keys; these forty lines are easier to
//! bound than its map is to watch.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crate::config;
use crate::db::DbError;
use crate::db::limits::{Counted as Shares, day_of};
use crate::keys::secrets::{Domain, SecretKey};
use crate::system::clock::{Clock, Timestamp};
use crate::system::random::Randomness;

mod bodies;
mod checks;
mod free;
pub mod memory;
mod rates;
mod shared;
#[cfg(test)]
mod tests;

use bodies::Bodies;
pub use bodies::{CopyRoom, Room};
pub use checks::Check;
use checks::Checks;
use free::Uploads;
pub use free::{FreeAttempt, FreeLeft, FreeUpload};
#[cfg(test)]
use rates::MAX_ADDRESSES;
pub use rates::Whose;
use rates::{Bucket, Rate, Rates, micros};
use shared::Shared;

/// Allowed requests a minute for images that don't exist, for each address. A page full of expired
/// images stays below.
const MISSES_PER_MINUTE: u64 = 300;
/// How many images the server fetches from their URLs at the same time.
const FETCHES: usize = 16;
/// How many of them one network may have, since a slow host keeps a place for seconds.
const FETCHES_OF_ONE_NETWORK: usize = 4;

/// How many times as many variants as one address a network may have made.
const NETWORK_FACTOR: u64 = 4;

/// Reports of images an hour, for each address. A person who goes through a whole page of images stays
/// below.
const REPORTS_PER_HOUR: u64 = 60;

/// Why a request is rejected for now.
#[derive(Debug, thiserror::Error)]
pub enum Limited {
    /// An address or network sent too many requests.
    #[error(
        "Your {whose} sent too many requests: the limit is {limit} {what}. Wait, then repeat the same request."
    )]
    Rate {
        /// The limit.
        limit: u64,
        /// What the limit counts, with its period.
        what: &'static str,
        /// Whether the address or the network exceeded it.
        whose: Whose,
        /// How long until the next request is accepted.
        wait: Duration,
    },
    /// All free uploads of the day are used.
    #[error("All {limit} free uploads of today are used. Try again after 00:00 UTC.")]
    Day {
        /// The number of free uploads in a day.
        limit: u64,
        /// How long until tomorrow.
        wait: Duration,
    },
    /// The free uploads of the first half of the day are used.
    #[error(
        "All {limit} free uploads for the first half of today are used. Try again after 12:00 UTC."
    )]
    HalfDay {
        /// The number of free uploads before 12:00 UTC.
        limit: u64,
        /// How long until 12:00 UTC.
        wait: Duration,
    },
    /// The queue of images that wait for their check, of variants that wait to be made, or of images to
    /// be fetched, is full.
    #[error("The server is busy with other images. Repeat the same request in a moment.")]
    Busy,
    /// The bodies of other requests take all the memory for bodies.
    #[error(
        "The server has no memory left for another upload. Repeat the same request in a moment."
    )]
    Crowded,
    /// Too many attempts wait for the day's count at once.
    #[error("Too many free uploads began at the same time. Repeat the same request in a moment.")]
    Thronged,
    /// The count can't be read from the database.
    #[error(
        "The image was not stored because the database did not return today's number of free uploads. Repeat the same request in a moment."
    )]
    Database(#[from] DbError),
}

/// The limit of wrong tokens at the admin API.
const WRONG_ADMIN_TOKENS: Rate = Rate {
    limit: 10,
    units: 1,
    period: Duration::from_mins(1),
    what: "wrong tokens of the admin API a minute",
    whose: Whose::Address,
    shared_as: None,
};

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
    fetches: Checks,
    variants: Checks,
    bodies: Bodies,
}

/// A rate, and this server's counts for it.
#[derive(Debug, Clone, Copy)]
struct Counter {
    rate: Rate,
    of: fn(&mut Counted) -> &mut Rates,
}

/// A request that was counted.
#[derive(Debug, Clone, Copy)]
struct Taken {
    counter: Counter,
    bucket: Bucket,
    /// Whether the database counted it as well.
    is_shared: bool,
}

/// Counts that are forgotten when the day ends.
#[derive(Debug)]
struct Counted {
    day: i64,
    key: SecretKey,
    free: Rates,
    free_of_networks: Rates,
    payments: Rates,
    unproven: Rates,
    refused_by_chain: Rates,
    misses: Rates,
    variants: Rates,
    variants_of_networks: Rates,
    reports: Rates,
    failures: Rates,
    imports: Rates,
    admin_tokens: Rates,
    uploads: Uploads,
}

impl Limits {
    /// Creates limits with nothing counted yet.
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
            checks: Checks::new(cores, cores),
            variants: Checks::new(cores, cores),
            fetches: Checks::new(FETCHES, FETCHES_OF_ONE_NETWORK),
            bodies: Bodies::new(settings.body_bytes),
        }
    }

    /// Replaces the limits. Earlier requests stay counted.
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

    /// Counts a challenge or a request that carries a payment.
    ///
    /// # Errors
    /// [`Limited::Rate`].
    pub async fn count_payment(&self, address: IpAddr) -> Result<(), Limited> {
        let rate = Rate {
            limit: self.settings().payments_per_address_per_minute,
            units: 1,
            period: Duration::from_mins(1),
            what: "payments and challenges a minute",
            whose: Whose::Address,
            shared_as: Some("payments"),
        };
        let of: fn(&mut Counted) -> &mut Rates = |counted| &mut counted.payments;
        self.count(address, &[Counter { rate, of }]).await?;
        Ok(())
    }

    /// Counts a payment whose signature can't be checked locally: a contract wallet's, or an
    /// invalid one. It may cost calls to the node and the facilitator, so only a tenth of the
    /// payments may be of this kind.
    ///
    /// # Errors
    /// [`Limited::Rate`].
    pub async fn count_unproven(&self, address: IpAddr) -> Result<(), Limited> {
        let rate = Rate {
            limit: self.settings().payments_per_address_per_minute.div_ceil(10),
            units: 1,
            period: Duration::from_mins(1),
            what: "payments a minute by contract wallets or with invalid signatures",
            whose: Whose::Address,
            shared_as: Some("unproven"),
        };
        let of: fn(&mut Counted) -> &mut Rates = |counted| &mut counted.unproven;
        self.count(address, &[Counter { rate, of }]).await?;
        Ok(())
    }

    /// Counts a payment that was refused by what the node said, such as one of a payer without funds.
    ///
    /// # Errors
    /// [`Limited::Rate`].
    pub async fn count_refused_by_chain(&self, address: IpAddr) -> Result<(), Limited> {
        let rate = self.refused_by_chain();
        let of: fn(&mut Counted) -> &mut Rates = |counted| &mut counted.refused_by_chain;
        self.count(address, &[Counter { rate, of }]).await?;
        Ok(())
    }

    fn refused_by_chain(&self) -> Rate {
        Rate {
            limit: self.settings().payments_per_address_per_minute.div_ceil(10),
            units: 1,
            period: Duration::from_mins(1),
            what: "payments a minute without funds or after their time",
            whose: Whose::Address,
            shared_as: Some("refused_by_chain"),
        }
    }

    /// Whether the node may be asked about another payment of this address. Nothing is counted.
    ///
    /// # Errors
    /// [`Limited::Rate`].
    pub fn may_ask_chain(&self, address: IpAddr) -> Result<(), Limited> {
        let rate = self.refused_by_chain();
        if rate.limit == 0 {
            return Ok(());
        }
        let now = self.clock.now();
        let counted = self.counted(now);
        let bucket = counted.bucket(address, Whose::Address);
        match counted.refused_by_chain.excess(&bucket, &rate, now) {
            wait if wait.is_zero() => Ok(()),
            wait => Err(rate.refusal(wait)),
        }
    }

    /// Counts a request for an image that doesn't exist. Each server counts for itself: asking the
    /// database would cost as much as this limit saves.
    ///
    /// # Errors
    /// [`Limited::Rate`].
    pub fn count_miss(&self, address: IpAddr) -> Result<(), Limited> {
        let rate = Rate {
            limit: MISSES_PER_MINUTE,
            units: 1,
            period: Duration::from_mins(1),
            what: "requests a minute for images that don't exist",
            whose: Whose::Address,
            shared_as: None,
        };
        let of: fn(&mut Counted) -> &mut Rates = |counted| &mut counted.misses;
        self.count_here(address, Counter { rate, of }).map(|_| ())
    }

    /// Counts a variant that is made for this address, with those of its network, which has four times
    /// the limit. Variants that are stored aren't counted. Each server counts for itself.
    ///
    /// # Errors
    /// [`Limited::Rate`].
    pub fn count_variant(&self, address: IpAddr) -> Result<(), Limited> {
        let rate = |limit, whose| Rate {
            limit,
            units: 1,
            period: Duration::from_mins(1),
            what: "new variants of images a minute",
            whose,
            shared_as: None,
        };
        let limit = self.settings().variants_per_address_per_minute;
        let of: fn(&mut Counted) -> &mut Rates = |counted| &mut counted.variants;
        let one = Counter {
            rate: rate(limit, Whose::Address),
            of,
        };
        let of: fn(&mut Counted) -> &mut Rates = |counted| &mut counted.variants_of_networks;
        let all = Counter {
            rate: rate(limit.saturating_mul(NETWORK_FACTOR), Whose::Network),
            of,
        };
        let taken = self.count_here(address, one)?;
        if let Err(refused) = self.count_here(address, all) {
            self.lower(&whole(taken.as_slice()));
            return Err(refused);
        }
        Ok(())
    }

    /// Waits for a place to make a variant: one is made on each core, beside the checks. The queue
    /// is bounded, and one network may take a part of it.
    ///
    /// # Errors
    /// [`Limited::Busy`] when the queue is full, or when the network has used its part of it.
    pub async fn enter_variant(&self, address: Option<IpAddr>) -> Result<Check, Limited> {
        self.variants.enter(self.network_of(address)).await
    }

    /// Counts a report of an image.
    ///
    /// # Errors
    /// [`Limited::Rate`].
    pub async fn count_report(&self, address: IpAddr) -> Result<(), Limited> {
        let rate = Rate {
            limit: REPORTS_PER_HOUR,
            units: 1,
            period: Duration::from_hours(1),
            what: "reports an hour",
            whose: Whose::Address,
            shared_as: Some("reports"),
        };
        let of: fn(&mut Counted) -> &mut Rates = |counted| &mut counted.reports;
        self.count(address, &[Counter { rate, of }]).await?;
        Ok(())
    }

    /// A hash of the network of an address, by which its reports of one day are recognised. Servers
    /// that share counts make the same hash. The hash of another day is different.
    pub fn network_today(&self, address: IpAddr) -> String {
        let counted = self.counted(self.clock.now());
        hex::encode(counted.bucket(address, Whose::Network))
    }

    /// Begins to account for the memory of a request body.
    pub fn begin_body(&self) -> Room {
        self.bodies.begin()
    }

    /// Waits for memory for the cleaned copy of an image of `bytes` bytes.
    ///
    /// # Errors
    /// None while the server runs.
    pub async fn begin_copy(&self, bytes: u64) -> Result<CopyRoom, Limited> {
        self.bodies.copy(bytes).await
    }

    /// Counts an upload with a token that failed because of its client: it costs a body and a
    /// check, but no use of the token. Each server counts for itself.
    pub fn count_failure(&self, address: IpAddr) {
        let Some(rate) = self.failures() else {
            return;
        };
        let now = self.clock.now();
        let mut counted = self.counted(now);
        let bucket = counted.bucket(address, Whose::Address);
        counted.failures.take(bucket, &rate, now);
    }

    /// The limit of failed uploads with a token: half of an address's payments. Successful uploads
    /// cost a use each, and aren't counted.
    fn failures(&self) -> Option<Rate> {
        let payments = self.settings().payments_per_address_per_minute;
        (payments > 0).then_some(Rate {
            limit: payments.div_ceil(2),
            units: 1,
            period: Duration::from_mins(1),
            what: "failed uploads with a token a minute",
            whose: Whose::Address,
            shared_as: None,
        })
    }

    /// Whether this address may begin another upload with a token.
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

    /// Counts an image to be fetched from its URL. Without this limit, clients could direct the
    /// server at the hosts of others.
    ///
    /// # Errors
    /// [`Limited::Rate`].
    pub async fn count_import(&self, address: IpAddr) -> Result<(), Limited> {
        let rate = Rate {
            limit: self.settings().imports_per_address_per_minute,
            units: 1,
            period: Duration::from_mins(1),
            what: "imports a minute",
            whose: Whose::Address,
            shared_as: Some("imports"),
        };
        let of: fn(&mut Counted) -> &mut Rates = |counted| &mut counted.imports;
        self.count(address, &[Counter { rate, of }]).await?;
        Ok(())
    }

    /// Waits for a place to fetch an image from its URL, as [`Limits::enter_check`] waits for one to
    /// check it.
    ///
    /// # Errors
    /// [`Limited::Busy`] when the queue is full, or when the network has used its part of it.
    pub async fn enter_fetch(&self, address: Option<IpAddr>) -> Result<Check, Limited> {
        self.fetches.enter(self.network_of(address)).await
    }

    /// Whether this address may send another token to the admin API.
    ///
    /// # Errors
    /// [`Limited::Rate`].
    pub fn may_try_admin_token(&self, address: IpAddr) -> Result<(), Limited> {
        let now = self.clock.now();
        let counted = self.counted(now);
        let bucket = counted.bucket(address, Whose::Address);
        let wait = counted
            .admin_tokens
            .excess(&bucket, &WRONG_ADMIN_TOKENS, now);
        if wait.is_zero() {
            Ok(())
        } else {
            Err(WRONG_ADMIN_TOKENS.refusal(wait))
        }
    }

    /// Counts a wrong token of the admin API. Each server counts for itself.
    pub fn count_wrong_admin_token(&self, address: IpAddr) {
        let now = self.clock.now();
        let mut counted = self.counted(now);
        let bucket = counted.bucket(address, Whose::Address);
        counted.admin_tokens.take(bucket, &WRONG_ADMIN_TOKENS, now);
    }

    /// Waits for a place to check an image. One check runs on each core. The queue is bounded, and
    /// one network may take a part of it.
    ///
    /// # Errors
    /// [`Limited::Busy`] when the queue is full, or when the network has used its part of it.
    pub async fn enter_check(&self, address: Option<IpAddr>) -> Result<Check, Limited> {
        self.checks.enter(self.network_of(address)).await
    }

    /// The network of an address, as a keyed hash.
    fn network_of(&self, address: Option<IpAddr>) -> Option<Bucket> {
        let address = address?;
        let counted = self.counted(self.clock.now());
        Some(counted.bucket(address, Whose::Network))
    }

    /// How many images are being checked, and how many wait for it.
    pub fn checks(&self) -> (usize, usize) {
        self.checks.count()
    }

    /// Counts a request in each of these counters: first on this server, then for all replicas.
    /// Returns where it was counted.
    ///
    /// # Errors
    /// [`Limited::Rate`]; the request is then counted nowhere.
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

    /// Counts a request on this server; `None` where there is no limit.
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

    /// Lowers these counts on this server, by the given number of microseconds each.
    fn lower(&self, taken: &[(Taken, i64)]) {
        if taken.is_empty() {
            return;
        }
        let mut counted = self.counted(self.clock.now());
        for (one, refund_us) in taken {
            (one.counter.of)(&mut counted).give_back(&one.bucket, *refund_us);
        }
    }

    /// Returns the counts of today.
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
            refused_by_chain: Rates::default(),
            misses: Rates::default(),
            variants: Rates::default(),
            variants_of_networks: Rates::default(),
            reports: Rates::default(),
            failures: Rates::default(),
            imports: Rates::default(),
            admin_tokens: Rates::default(),
            uploads: Uploads::default(),
        }
    }

    /// The bucket of a client, or of its network. A client is an IPv4 address or an IPv6 /64, which
    /// one client has. A network is an IPv4 /24 or an IPv6 /48.
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

/// The full amounts that were counted, to be given back.
fn whole(taken: &[Taken]) -> Vec<(Taken, i64)> {
    let step = |one: &Taken| (*one, one.counter.rate.step_us());
    taken.iter().map(step).collect()
}
