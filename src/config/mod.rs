//! Flags, environment and file become one checked [`Config`], or a list of everything wrong with
//! them.
//!
//! Each key is described once, in `keys`. `read` merges what file and environment set, and parses it
//! as the descriptions say. `check`, `store`, `payments` and `tiers` apply the rules that span several
//! keys. This module is the only reader of the environment. It opens no database, binds no socket and
//! makes no key.
//!
//! The descriptions are our own, since no library of layered configuration carries the load: figment,
//! confique and config stop at the first problem. conf reports every problem, but as one text for a
//! terminal, often without the key, and takes an empty variable as a value. None of them suggests the
//! nearest key for a variable, reads secrets from files, or reports the tables of a list one by one.

mod check;
mod describe;
mod elsewhere;
mod hosts;
mod keys;
mod payments;
mod read;
mod secret;
mod show;
mod site;
mod store;
#[cfg(test)]
mod tests;
mod tiers;
mod values;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;

use crate::facilitator::coinbase::CdpKey;
use crate::keys::secrets::Keyring;
use crate::pricing::networks::Network;
use crate::pricing::tiers::TierTable;
use crate::trust::blocks::Closeness;
use crate::trust::scanner::ScannerSettings;

pub(crate) use check::least_body_bytes;
pub use elsewhere::{Elsewhere, parse_elsewhere};
pub use hosts::is_on_this_machine;
pub use keys::{
    ApiKeys, Connections, Http, Import, Limits, Links, Log, Mcp, Metrics, Money, Operator,
    Retention, Traces, Trust, Variants,
};
pub use read::process_env;
pub use secret::{SecretKeyError, parse_secret_key, parse_secret_keys};
pub use show::show;
pub use site::{Colour, Site};
pub use store::{Addressing, Encryption, S3Credentials, S3Key, S3Store, StorePlace};

/// Where settings come from.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file of `--config`, which has to exist. `None`: `pixtoll.toml` in the working directory,
    /// if it exists.
    pub file: Option<PathBuf>,
    /// Whether `--sandbox` was given: play money.
    pub sandbox: bool,
    /// The environment, see [`process_env`].
    pub env: BTreeMap<String, String>,
}

impl Sources {
    /// If the file in the working directory exists now, it has to exist from now on.
    pub fn pin(&mut self) {
        let found = Path::new(read::DEFAULT_FILE);
        if self.file.is_none() && found.exists() {
            self.file = Some(found.to_path_buf());
        }
    }
}

/// A configuration that may start.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings in force.
    pub config: Config,
    /// What the operator should know nevertheless.
    pub warnings: Vec<Problem>,
}

/// All findings about some sources, whether or not they may start.
#[derive(Clone, Debug)]
pub struct Examined {
    /// The settings in force; `None` where there is a problem.
    pub config: Option<Config>,
    /// What the operator should know.
    pub warnings: Vec<Problem>,
    /// What keeps the program from starting.
    pub problems: Vec<Problem>,
}

/// A finding about one key, and its fix. Never holds the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}\n  fix: {fix}")]
pub struct Problem {
    /// The key, such as `http.listen`.
    pub key: String,
    /// What is wrong, naming the value where it is no secret.
    pub message: String,
    /// What to set instead.
    pub fix: String,
}

/// Every problem of a configuration that may not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

/// The settings in force, checked against each other.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listeners, the public address and the proxies.
    pub http: Http,
    /// The database.
    pub database: DatabaseUrl,
    /// How a server uses its connections to PostgreSQL.
    pub connections: Connections,
    /// The image store, and what is accepted into it.
    pub images: Images,
    /// Variants of images.
    pub variants: Variants,
    /// How payments are made; `None`: paid tiers are off.
    pub payments: Option<PaymentsConfig>,
    /// The sandbox; `Some` exactly in [`Mode::Sandbox`].
    pub sandbox: Option<SandboxConfig>,
    /// The source of the key that tokens and hashes are derived from.
    pub secrets_key: SecretKeySource,
    /// The tiers. Those with a price are listed even while paid tiers are off.
    pub tiers: TierTable,
    /// How long an upload token stays valid.
    pub token_ttl: Duration,
    /// The limits on what clients may ask for.
    pub limits: Limits,
    /// Imports from URLs.
    pub import: Import,
    /// What the export of the ledger says of costs.
    pub money: Money,
    /// Upload links.
    pub links: Links,
    /// API keys of wallets.
    pub keys: ApiKeys,
    /// When expired images are deleted, and how long their records are kept.
    pub retention: Retention,
    /// What the server refuses to publish.
    pub screening: ScreeningConfig,
    /// The kind of money; `None` where paid tiers are off.
    pub mode: Option<Mode>,
    /// The MCP endpoint.
    pub mcp: Mcp,
    /// The log of the server.
    pub log: Log,
    /// What the server counts.
    pub metrics: Metrics,
    /// Traces of requests.
    pub traces: Traces,
    /// What the pages show of the operator's own.
    pub site: Site,
    /// The operator of the service.
    pub operator: Operator,
    /// Removed images and legal holds.
    pub trust: Trust,
    /// The token of the admin API; `None`: the API is off.
    pub admin_token: Option<AdminToken>,
    /// The CDN in front of the images; `None`: nothing is purged.
    pub cdn: Option<CdnConfig>,
    /// The keys in force as lines of TOML without secrets, by key.
    lines: BTreeMap<&'static str, String>,
}

/// The database. `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// The whole URL of a PostgreSQL database, password included.
    Postgres(String),
}

/// The image store, and what is accepted into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// The store of the objects.
    pub store: StorePlace,
    /// The public address of the images, without a trailing slash.
    pub base_url: String,
    /// Whether metadata is removed before an image is stored.
    pub clean: bool,
    /// Whether uploads may be private.
    pub private: bool,
    /// The default life of a signed link.
    pub link_ttl: Duration,
    /// Free bytes on the disk below which uploads and purchases are refused.
    pub min_free: u64,
    /// Most bytes of the image cache; 0: no cache.
    pub cache_bytes: u64,
    /// The most pixels of a frame, and of all frames together.
    pub limits: crate::images::format::PixelLimits,
}

/// The token of the admin API. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl AdminToken {
    /// The token, to be compared with that of a request.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// A zone of Cloudflare. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct CdnConfig {
    /// The URL of the API, without a trailing slash.
    pub api_url: String,
    /// The id of the zone.
    pub zone: String,
    /// The API token.
    pub token: String,
    /// Whether the operator switched the CSAM scanner of the zone on.
    pub csam_scanner: bool,
    /// How long one call may take.
    pub timeout: Duration,
}

/// What the server refuses to publish, beside the blocks in its database.
#[derive(Clone, Debug)]
pub struct ScreeningConfig {
    /// When pictures count as the same.
    pub closeness: Closeness,
    /// The wallets of the sanctions list, as its file was read with the settings.
    pub sanctioned: Arc<HashSet<Address>>,
    /// The scanner; `None`: there is none.
    pub scanner: Option<ScannerSettings>,
}

/// How payments are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentsConfig {
    /// The networks that are offered, best first; never empty.
    pub networks: Vec<NetworkConfig>,
    /// The recipient of payments. `None` only with the sandbox, which makes one and keeps it in its
    /// database.
    pub pay_to: Option<Address>,
    /// How long the server waits for verify, and a request for settle.
    pub timeout: Duration,
}

/// A network that is offered. `Debug` shows URLs by their host alone.
#[derive(Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// The network.
    pub network: &'static Network,
    /// The facilitator that verifies and settles on it.
    pub facilitator: FacilitatorChoice,
    /// Its JSON-RPC endpoint. `None` only with a sandbox in this process.
    pub rpc_url: Option<String>,
    /// A second JSON-RPC endpoint, if there is one.
    pub second_rpc_url: Option<String>,
}

impl NetworkConfig {
    /// The JSON-RPC endpoints, the preferred one first.
    pub fn rpc_urls(&self) -> Vec<&str> {
        let urls = [&self.rpc_url, &self.second_rpc_url];
        urls.into_iter().filter_map(Option::as_deref).collect()
    }

    /// Whether the only JSON-RPC endpoint is the one that is built in, which is public.
    pub fn is_public_node(&self) -> bool {
        self.second_rpc_url.is_none() && self.rpc_url.as_deref() == self.network.default_rpc_url
    }
}

/// The facilitator that verifies and settles. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum FacilitatorChoice {
    /// Any facilitator that speaks the protocol.
    Url {
        /// The URL of the facilitator, without a trailing slash.
        url: String,
        /// The bearer token that is sent with each request.
        bearer: Option<String>,
    },
    /// The facilitator of Coinbase.
    Coinbase {
        /// The URL of the facilitator, without a trailing slash.
        url: String,
        /// The API key that signs the requests.
        key: Arc<CdpKey>,
    },
    /// The sandbox with play money, see [`SandboxConfig`].
    Sandbox,
}

/// The facilitator and the chain of play money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxConfig {
    /// The loopback address where the facilitator listens.
    pub listen: SocketAddr,
    /// The loopback address where the JSON-RPC endpoint listens.
    pub rpc_listen: SocketAddr,
    /// The file that holds the balances and transfers.
    pub database: PathBuf,
    /// A `pixtoll sandbox` in another process; `None`: this process starts one.
    pub separate: Option<SeparateSandbox>,
}

/// The loopback addresses of a sandbox in another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeparateSandbox {
    /// The URL of the facilitator, without a trailing slash.
    pub facilitator_url: String,
    /// The URL of the JSON-RPC endpoint, without a trailing slash; the same as [`NetworkConfig::rpc_url`].
    pub rpc_url: String,
    /// A second one, if there is one; the same as [`NetworkConfig::second_rpc_url`].
    pub second_rpc_url: Option<String>,
}

impl SeparateSandbox {
    /// The JSON-RPC endpoints, the preferred one first.
    pub fn rpc_urls(&self) -> Vec<String> {
        let first = std::iter::once(self.rpc_url.clone());
        first.chain(self.second_rpc_url.clone()).collect()
    }
}

/// The source of the secret key.
#[derive(Clone, Debug)]
pub enum SecretKeySource {
    /// Keys from the operator: the current one, and maybe older ones.
    Given(Keyring),
    /// A file beside the database file, made at the first start.
    FileUnderData(PathBuf),
}

/// The kind of money. A database is stamped with it and refuses another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Play money of the sandbox.
    Sandbox,
    /// Money of a test network.
    Test,
    /// Real money.
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
    match read::read_file(sources.file.as_deref(), &mut report) {
        Some(text) => examine_text(&text, sources, report),
        None => report.into_examined(None),
    }
}

/// Without the file system, so that tests depend on no working directory. Only secret files are
/// still read.
fn examine_text(text: &str, sources: &Sources, mut report: Report) -> Examined {
    let given = read::Given::gather(text, &sources.env, &mut report);
    let config = given.map(|given| check::check(&given, sources.sandbox, &mut report));
    report.into_examined(config)
}

impl Config {
    /// Whether `other` differs at most in what a running server takes at SIGHUP: the tiers and the
    /// counts of [`Limits`].
    pub fn is_same_until_restart(&self, other: &Self) -> bool {
        let kept = |config: &Self| {
            let is_live = |name| describe::find(name).is_some_and(|info| info.is_live);
            let mut lines = config.lines.clone();
            lines.retain(|name, _| !is_live(name));
            (lines, show::networks(config))
        };
        kept(self) == kept(other)
    }
}

impl Limits {
    /// The default of `free_per_network_per_hour`, in multiples of `free_per_address_per_hour`.
    pub const ADDRESSES_PER_NETWORK: u64 = 4;

    /// These limits with the counts of others: what may change while a server runs.
    #[must_use]
    pub const fn with_counts_of(self, other: Self) -> Self {
        Self {
            body_timeout: self.body_timeout,
            body_bytes: self.body_bytes,
            ..other
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        read::Reader::defaults(Self::read)
    }
}

impl Default for Connections {
    fn default() -> Self {
        read::Reader::defaults(Self::read)
    }
}

impl Connections {
    /// The connections of a command beside a server: few, and a statement may take any time.
    pub fn of_a_command() -> Self {
        Self {
            max_connections: 4,
            statement_timeout: None,
            ..Self::default()
        }
    }
}

/// The findings so far. Nothing stops at the first problem, so that an operator can fix all at once.
#[derive(Default)]
struct Report {
    warnings: Vec<Problem>,
    problems: Vec<Problem>,
}

impl Report {
    fn problem(&mut self, key: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.problems.push(Problem::new(key, message, fix));
    }

    fn warn(&mut self, key: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.warnings.push(Problem::new(key, message, fix));
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
    fn new(key: &str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            message: message.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "the configuration has a problem")?,
            count => write!(f, "the configuration has {count} problems")?,
        }
        let mut problems = self.0.iter();
        problems.try_for_each(|problem| write!(f, "\n{problem}"))
    }
}

impl std::error::Error for Problems {}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "Sqlite({path:?})"),
            Self::Postgres(url) => write!(f, "Postgres({:?})", hosts::redacted(url)),
        }
    }
}

impl fmt::Debug for NetworkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkConfig")
            .field("network", &self.network.name())
            .field("facilitator", &self.facilitator)
            .field("rpc_url", &self.rpc_url.as_deref().map(hosts::redacted))
            .field(
                "second_rpc_url",
                &self.second_rpc_url.as_deref().map(hosts::redacted),
            )
            .finish()
    }
}

impl fmt::Debug for FacilitatorChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url { url, .. } => write!(f, "Url({:?})", hosts::redacted(url)),
            Self::Coinbase { key, .. } => write!(f, "Coinbase({key:?})"),
            Self::Sandbox => f.write_str("Sandbox"),
        }
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(_)")
    }
}

impl fmt::Debug for CdnConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CdnConfig({:?})", self.zone)
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
