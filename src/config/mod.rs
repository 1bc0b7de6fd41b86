//! Flags, environment and file become one checked [`Config`], or a list of everything wrong with
//! them.
//!
//! The flow is `keys` (what may be said) → `raw` (what was said, by file and environment) →
//! `check` (what it means, each rule of it) → [`Config`], which the rest of the program trusts.
//! This module is the only reader of the environment. It opens no database, binds no socket and
//! makes no key.
//!
//! The merging is ours rather than the `config` crate's: that one stops at the first problem and
//! knows no nearest key, no secret files and no "not built yet". `toml`, `humantime` and `url` do
//! the reading.

mod check;
mod database;
mod elsewhere;
mod env;
mod fields;
mod hosts;
mod keys;
mod networks;
mod payments;
mod raw;
mod secret;
mod show;
mod store;
#[cfg(test)]
mod tests;
mod tiers;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use ipnet::IpNet;

use crate::coinbase::CdpKey;
use crate::networks::Network;
use crate::retention::independent::ClockKind;
use crate::retention::schedule::Schedule;
use crate::secrets::Keyring;
use crate::tiers::TierTable;

pub(crate) use check::least_body_bytes;
pub use database::Connections;
pub use elsewhere::{Elsewhere, parse_elsewhere};
pub use env::process_env;
pub use hosts::is_on_this_machine;
pub use secret::{SecretKeyError, parse_secret_key, parse_secret_keys};
pub use show::show;
pub use store::{Addressing, Encryption, S3Credentials, S3Key, S3Store, StorePlace};

/// Where settings come from.
#[derive(Clone, Default)]
pub struct Sources {
    /// `--config`: this file, which has to exist. `None`: `pixtoll.toml` in the working directory
    /// if there is one.
    pub file: Option<PathBuf>,
    /// `--sandbox`: play money.
    pub sandbox: bool,
    /// The environment, see [`process_env`].
    pub env: BTreeMap<String, String>,
}

/// A configuration that may start.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What is in force.
    pub config: Config,
    /// What the operator should know nevertheless.
    pub warnings: Vec<Problem>,
}

/// All that can be said about some sources, whether or not they may start.
#[derive(Clone, Debug)]
pub struct Examined {
    /// What is in force; `None` where there is a problem.
    pub config: Option<Config>,
    /// What the operator should know.
    pub warnings: Vec<Problem>,
    /// What keeps the program from starting.
    pub problems: Vec<Problem>,
}

/// Something about one key, and what to do about it. Never holds a secret's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, such as `http.listen`.
    pub key: String,
    /// What is wrong, naming the value where it is no secret.
    pub message: String,
    /// What to do.
    pub mend: String,
}

/// Every problem of a configuration that may not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

/// The settings in force, checked against each other.
#[derive(Clone, Debug)]
pub struct Config {
    /// Listeners and the service's own address.
    pub http: Http,
    /// Where the records are.
    pub database: DatabaseUrl,
    /// How a server uses its connections to PostgreSQL.
    pub connections: Connections,
    /// Where the images are.
    pub images: Images,
    /// How payments are made; `None`: paid tiers are off.
    pub payments: Option<PaymentsConfig>,
    /// The sandbox; `Some` exactly in [`Mode::Sandbox`].
    pub sandbox: Option<SandboxConfig>,
    /// Where the key comes from that tokens and hashes are derived from.
    pub secrets_key: SecretKeySource,
    /// What is sold. Tiers with a price stand here even while paid tiers are off.
    pub tiers: TierTable,
    /// The life of an upload token.
    pub token_ttl: Duration,
    /// How much may be asked for.
    pub limits: Limits,
    /// When what has expired is deleted, and for how long its rows stay.
    pub retention: Retention,
    /// What the money is; `None` where there is none.
    pub mode: Option<Mode>,
    /// Who runs the service.
    pub operator: Operator,
}

/// Who runs the service, as its public documents say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operator {
    /// The contact for security reports in `/.well-known/security.txt`: a `mailto:` or `https:` URL.
    pub security_contact: Option<String>,
}

/// How much may be asked for. 0 means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Free uploads of the whole service, a day of UTC.
    pub free_per_day: u64,
    /// How much of `free_per_day` may be used before 12:00 UTC, in percent: 1 to 100. What is left then, and the rest,
    /// may be used afterwards.
    pub free_before_noon_percent: u64,
    /// Free uploads of one address: IPv4, or a /64 of IPv6.
    pub free_per_address_per_hour: u64,
    /// Free uploads of one network: a /24 of IPv4, or a /48 of IPv6.
    pub free_per_network_per_hour: u64,
    /// How many attempts that store nothing count as one free upload, by address and by network. Never 0.
    pub free_refusals_per_upload: u64,
    /// Payments and challenges of one address.
    pub payments_per_address_per_minute: u64,
    /// How long the server waits for a body, in all. Never 0.
    pub body_timeout: Duration,
    /// How much memory the bodies of all requests and the cleaned copies of their images take at most. Never less than
    /// `least_body_bytes` of the tiers.
    pub body_bytes: u64,
}

impl Limits {
    /// How many times the free uploads of one address a network has, unless the setting says otherwise.
    pub const ADDRESSES_PER_NETWORK: u64 = 4;

    /// These limits with the counts of others: what may change while a server runs.
    #[must_use]
    pub const fn with_counts_of(self, other: Self) -> Self {
        Self {
            free_per_day: other.free_per_day,
            free_before_noon_percent: other.free_before_noon_percent,
            free_per_address_per_hour: other.free_per_address_per_hour,
            free_per_network_per_hour: other.free_per_network_per_hour,
            free_refusals_per_upload: other.free_refusals_per_upload,
            payments_per_address_per_minute: other.payments_per_address_per_minute,
            ..self
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            free_per_day: 1000,
            free_before_noon_percent: 50,
            free_per_address_per_hour: 50,
            free_per_network_per_hour: 50 * Self::ADDRESSES_PER_NETWORK,
            free_refusals_per_upload: 10,
            payments_per_address_per_minute: 120,
            body_timeout: Duration::from_mins(1),
            body_bytes: 256 * 1024 * 1024,
        }
    }
}

/// Listeners and the service's own address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// The public listener.
    pub listen: SocketAddr,
    /// The admin listener, for the operator only.
    pub admin_listen: SocketAddr,
    /// What links and challenges are built from: scheme, host and port, without a trailing slash.
    pub base_url: String,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// Where the records are. Its `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A file.
    Sqlite(PathBuf),
    /// A server, by its whole URL, password included.
    Postgres(String),
}

/// Where the images are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Where their bytes are.
    pub store: StorePlace,
    /// The image origin, without a trailing slash.
    pub base_url: String,
    /// Whether metadata is removed before an image is stored.
    pub clean: bool,
    /// Below so many free bytes nothing is taken any more.
    pub min_free: u64,
    /// How much memory images may take that are asked for; 0: none.
    pub cache_bytes: u64,
    /// The most pixels of a frame, and of all frames together.
    pub limits: crate::images::format::PixelLimits,
}

/// When what has expired is deleted, and for how long its rows stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// When the reaper runs by itself.
    pub schedule: Schedule,
    /// How long rows outlive their objects.
    pub records: Duration,
    /// The kinds of clocks that are compared with this machine's, wherever they are. `None`: each that isn't on this
    /// machine.
    pub clocks: Option<Vec<ClockKind>>,
}

/// How payments are made.
#[derive(Clone, PartialEq, Eq)]
pub struct PaymentsConfig {
    /// The networks that are offered, best first; never empty.
    pub networks: Vec<NetworkConfig>,
    /// Who is paid. `None` only with the sandbox: a recipient is made and kept in its database.
    pub pay_to: Option<Address>,
    /// For verify, and for how long a request waits on settle.
    pub timeout: Duration,
}

/// A network that is offered. Its `Debug` shows of URLs the host only.
#[derive(Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// The network.
    pub network: &'static Network,
    /// Who verifies and settles on it.
    pub facilitator: FacilitatorChoice,
    /// Its JSON-RPC endpoint. `None` only with a sandbox in this process.
    pub rpc_url: Option<String>,
}

/// Who verifies and settles. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum FacilitatorChoice {
    /// A facilitator that speaks the protocol.
    Url {
        /// Where, without a trailing slash.
        url: String,
        /// What it wants to be shown with each request.
        bearer: Option<String>,
    },
    /// Coinbase's.
    Coinbase {
        /// Where, without a trailing slash.
        url: String,
        /// Who signs the requests.
        key: Arc<CdpKey>,
    },
    /// Play money, see [`SandboxConfig`].
    Sandbox,
}

/// The play-money facilitator and its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxConfig {
    /// Where its facilitator listens, on loopback.
    pub listen: SocketAddr,
    /// Where its chain answers, on loopback.
    pub rpc_listen: SocketAddr,
    /// Where it keeps its state.
    pub database: PathBuf,
    /// Set: a `pixtoll sandbox` of its own process is used, and none is started in this one.
    pub separate: Option<SeparateSandbox>,
}

/// Where a sandbox in another process is reached, on loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeparateSandbox {
    /// Its facilitator, without a trailing slash.
    pub facilitator_url: String,
    /// Its chain, without a trailing slash; the same as [`NetworkConfig::rpc_url`].
    pub rpc_url: String,
}

/// Where the secret key comes from.
#[derive(Clone, Debug)]
pub enum SecretKeySource {
    /// The operator gave it, or it and older ones.
    Given(Keyring),
    /// It is in this file, beside the database file, and made at the first start.
    FileUnderData(PathBuf),
}

/// What the money is. A database is stamped with it and refuses another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Play money of the sandbox.
    Sandbox,
    /// A test network.
    Test,
    /// Money.
    Real,
}

/// Reads and checks the settings. Reads files, and nothing else of the world.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    let Examined {
        config,
        warnings,
        problems,
    } = examine(sources);
    match config {
        Some(config) => Ok(Loaded { config, warnings }),
        None => Err(Problems(problems)),
    }
}

/// The same as [`load`], but keeps the warnings beside the problems, for `pixtoll config check`.
pub fn examine(sources: &Sources) -> Examined {
    let mut report = Report::default();
    match raw::read_file(sources.file.as_deref(), &mut report) {
        Some(text) => examine_text(&text, sources, report),
        None => report.into_examined(None),
    }
}

/// Without the file system, so that tests depend on no working directory. Only secret files are
/// still read.
fn examine_text(text: &str, sources: &Sources, mut report: Report) -> Examined {
    let raw = raw::gather(text, &sources.env, &mut report);
    let config = raw.map(|raw| check::check(&raw, sources.sandbox, &mut report));
    report.into_examined(config)
}

/// What was found so far. Everything is collected and nothing stops at the first problem, so that
/// an operator mends all at once.
#[derive(Default)]
struct Report {
    warnings: Vec<Problem>,
    problems: Vec<Problem>,
}

impl Report {
    fn problem(&mut self, key: &str, message: impl Into<String>, mend: impl Into<String>) {
        self.problems.push(Problem::new(key, message, mend));
    }

    fn warn(&mut self, key: &str, message: impl Into<String>, mend: impl Into<String>) {
        self.warnings.push(Problem::new(key, message, mend));
    }

    fn into_examined(self, config: Option<Config>) -> Examined {
        let Self { warnings, problems } = self;
        let config = config.filter(|_| problems.is_empty());
        Examined {
            config,
            warnings,
            problems,
        }
    }
}

impl Problem {
    fn new(key: &str, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            message: message.into(),
            mend: mend.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  mend: {}", self.key, self.message, self.mend)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "the configuration has a problem")?,
            count => write!(f, "the configuration has {count} problems")?,
        }
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n{problem}"))
    }
}

impl std::error::Error for Problems {}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(url) => f
                .debug_tuple("Postgres")
                .field(&hosts::redacted(url))
                .finish(),
        }
    }
}

impl fmt::Debug for PaymentsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaymentsConfig")
            .field("networks", &self.networks)
            .field("pay_to", &self.pay_to)
            .field("timeout", &self.timeout)
            .finish()
    }
}

impl fmt::Debug for NetworkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkConfig")
            .field("network", &self.network.name())
            .field("facilitator", &self.facilitator)
            .field("rpc_url", &self.rpc_url.as_deref().map(hosts::redacted))
            .finish()
    }
}

impl fmt::Debug for FacilitatorChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url { url, .. } => f.debug_tuple("Url").field(&hosts::redacted(url)).finish(),
            Self::Coinbase { key, .. } => f.debug_tuple("Coinbase").field(key).finish(),
            Self::Sandbox => f.write_str("Sandbox"),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sandbox => "sandbox",
            Self::Test => "test",
            Self::Real => "real",
        })
    }
}
