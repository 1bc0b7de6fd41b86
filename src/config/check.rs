//! What it means: raw settings into a [`Config`], with every rule that spans one key or several.
//!
//! A bad value is reported and its default taken, so that one mistake isn't reported as three; the
//! `Config` that comes out is used only where nothing was reported.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use super::raw::RawConfig;
use super::values::{self, Complaint};
use super::{
    Config, DatabaseUrl, FacilitatorChoice, Http, Images, Limits, Mode, PaymentsConfig, Report,
    Retention, SandboxConfig, SecretKeySource, StorePlace, database, hosts, parse_secret_keys,
    payments, store, tiers,
};
use crate::images::format::PixelLimits;
use crate::retention::independent::ClockKind;
use crate::retention::schedule::Schedule;
use crate::tiers::{Tier, TierTable};

const DEFAULT_BASE_URL: &str = "http://127.0.0.1:4020";
/// The most that `images.max_pixels` may be: decoding a JPEG of so many takes 192 MB.
const MOST_PIXELS: u64 = 500_000_000;
/// The most that `images.max_total_pixels` may be.
const MOST_TOTAL_PIXELS: u64 = 10_000_000_000;
const DEFAULT_STORE: &str = "data/images";
const DEFAULT_TOKEN_TTL: Duration = Duration::from_mins(10);
const DEFAULT_MIN_FREE: u64 = 1 << 30;
const DEFAULT_CACHE_BYTES: u64 = 256 << 20;
/// A few of the largest images that it takes.
const SMALLEST_CACHE: u64 = 4 << 20;
/// Beyond it a refused file costs next to nothing.
const MOST_REFUSALS: u64 = 1000;
const SHORTEST_BODY: Duration = Duration::from_millis(100);
const LONGEST_BODY: Duration = Duration::from_hours(1);
const LONGEST_TOKEN_TTL: Duration = Duration::from_hours(7 * 24);
const DAY: Duration = Duration::from_hours(24);
const DEFAULT_RECORDS: Duration = Duration::from_hours(365 * 24);
const LONGEST_RECORDS: Duration = Duration::from_hours(36_500 * 24);

/// The raw settings, and what was found in them.
pub(super) struct Checker<'a> {
    pub(super) raw: &'a RawConfig,
    pub(super) report: &'a mut Report,
}

impl Checker<'_> {
    /// The parsed value of a key. `None` where it is not set, or was reported.
    pub(super) fn value<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, Complaint>,
    ) -> Option<T> {
        match parse(self.raw.text(key)?) {
            Ok(value) => Some(value),
            Err(complaint) => {
                self.problem(key, complaint.message, complaint.mend);
                None
            }
        }
    }

    pub(super) fn problem(
        &mut self,
        key: &str,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) {
        let message = self.with_origin(key, message.into());
        self.report.problem(key, message, mend);
    }

    pub(super) fn warn(&mut self, key: &str, message: impl Into<String>, mend: impl Into<String>) {
        let message = self.with_origin(key, message.into());
        self.report.warn(key, message, mend);
    }

    fn with_origin(&self, key: &str, message: String) -> String {
        match self.raw.variable(key) {
            Some(variable) => format!("{message} (from {variable})"),
            None => message,
        }
    }
}

/// Checks everything.
pub(super) fn check(raw: &RawConfig, sandbox: bool, report: &mut Report) -> Config {
    let mut checker = Checker { raw, report };
    let http = http(&mut checker);
    let images = images(&mut checker, &http);
    let (database, connections) = database::check(&mut checker);
    let secrets_key = secrets_key(&mut checker, &database);
    let tiers = tiers::check(&mut checker);
    let (payments, sandbox) =
        payments::check(&mut checker, sandbox, &tiers, &data_directory(&database));
    separate_listeners(&mut checker, &http, sandbox.as_ref());
    let limits = limits(&mut checker, &tiers);
    let token_ttl = checker.value("payments.token_ttl", |text| {
        values::duration_within(text, Duration::from_secs(1), LONGEST_TOKEN_TTL)
    });
    let retention = retention(&mut checker);
    Config {
        http,
        database,
        connections,
        images,
        mode: payments.as_ref().map(mode),
        payments,
        sandbox,
        secrets_key,
        tiers,
        limits,
        retention,
        token_ttl: token_ttl.unwrap_or(DEFAULT_TOKEN_TTL),
        operator: super::Operator::default(),
    }
}

fn limits(checker: &mut Checker<'_>, tiers: &TierTable) -> Limits {
    let default = Limits::default();
    let mut count = |key, default| checker.value(key, values::count).unwrap_or(default);
    let free_per_day = count("limits.free_per_day", default.free_per_day);
    let free_per_address_per_hour = count(
        "limits.free_per_address_per_hour",
        default.free_per_address_per_hour,
    );
    let free_per_network_per_hour = count(
        "limits.free_per_network_per_hour",
        free_per_address_per_hour.saturating_mul(Limits::ADDRESSES_PER_NETWORK),
    );
    let payments_per_address_per_minute = count(
        "limits.payments_per_address_per_minute",
        default.payments_per_address_per_minute,
    );
    let free_before_noon_percent =
        checker.value("limits.free_before_noon_percent", values::percent);
    let free_refusals_per_upload = checker.value("limits.free_refusals_per_upload", |text| {
        values::number_within(text, 1, MOST_REFUSALS)
    });
    let body_timeout = checker.value("limits.body_timeout", |text| {
        values::duration_within(text, SHORTEST_BODY, LONGEST_BODY)
    });
    let longest = tiers.iter().map(Tier::longest_body).max().unwrap_or(0);
    let body_bytes = checker.value("limits.body_bytes", values::size);
    let least = least_body_bytes(tiers);
    if let Some(bytes) = body_bytes.filter(|bytes| *bytes < least) {
        checker.problem(
            "limits.body_bytes",
            format!(
                "{bytes} bytes don't hold one upload: the tiers take bodies of {longest} bytes, \
                 which with a cleaned copy need {least}"
            ),
            "write more, or lower max_bytes of the tiers",
        );
    }
    Limits {
        free_per_day,
        free_before_noon_percent: free_before_noon_percent
            .unwrap_or(default.free_before_noon_percent),
        free_per_address_per_hour,
        free_per_network_per_hour,
        free_refusals_per_upload: free_refusals_per_upload
            .unwrap_or(default.free_refusals_per_upload),
        payments_per_address_per_minute,
        body_timeout: body_timeout.unwrap_or(default.body_timeout),
        body_bytes: body_bytes.unwrap_or(default.body_bytes.max(least)),
    }
}

/// The least `limits.body_bytes` for these tiers.
pub(crate) fn least_body_bytes(tiers: &TierTable) -> u64 {
    let longest = tiers.iter().map(Tier::longest_body).max().unwrap_or(0);
    let largest = tiers.iter().map(|tier| tier.max_bytes).max().unwrap_or(0);
    crate::limits::least_body_bytes(longest, largest)
}

fn mode(payments: &PaymentsConfig) -> Mode {
    let mut networks = payments.networks.iter();
    if networks.any(|known| known.facilitator == FacilitatorChoice::Sandbox) {
        return Mode::Sandbox;
    }
    // Of one kind, or it was reported.
    if payments.networks.iter().all(|known| known.network.is_test) {
        Mode::Test
    } else {
        Mode::Real
    }
}

fn http(checker: &mut Checker<'_>) -> Http {
    let listen = checker
        .value("http.listen", values::socket)
        .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 4020)));
    let admin_listen = checker
        .value("http.admin_listen", values::socket)
        .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 4021)));
    if !admin_listen.ip().to_canonical().is_loopback() {
        checker.warn(
            "http.admin_listen",
            format!("{admin_listen} is not on loopback: others may reach metrics and admin"),
            "listen on 127.0.0.1, or make sure that a firewall stands before it",
        );
    }
    let base_url = checker.value("http.base_url", values::origin);
    if let Some(url) = &base_url {
        warn_without_tls(checker, "http.base_url", url);
    }
    if !checker.raw.has("http.base_url") && checker.raw.has("http.listen") {
        warn_of_default_base_url(checker, listen);
    }
    let base_url = base_url.as_ref().map(values::without_slash);
    let base_url = base_url.unwrap_or_else(|| DEFAULT_BASE_URL.to_owned());
    Http {
        listen,
        admin_listen,
        base_url,
        trusted_proxies: trusted_proxies(checker),
    }
}

fn trusted_proxies(checker: &mut Checker<'_>) -> Vec<IpNet> {
    let key = "http.trusted_proxies";
    let texts = checker.raw.list(key).unwrap_or_default();
    let mut ranges = Vec::new();
    for text in texts {
        match values::network_range(text) {
            Ok(range) => ranges.push(range),
            Err(complaint) => checker.problem(key, complaint.message, complaint.mend),
        }
    }
    ranges
}

fn warn_of_default_base_url(checker: &mut Checker<'_>, listen: SocketAddr) {
    if listen.port() == 4020 && listen.ip().is_loopback() {
        return;
    }
    checker.warn(
        "http.base_url",
        format!("is not set: links and challenges say {DEFAULT_BASE_URL}, while {listen} listens"),
        "set it to the address that clients use",
    );
}

fn warn_without_tls(checker: &mut Checker<'_>, key: &str, url: &Url) {
    if url.scheme() == "http" && hosts::is_public(url) {
        checker.warn(
            key,
            format!("`{url}` is without TLS on a public host: tokens and payments can be read"),
            "write it with https://, and let a proxy end TLS",
        );
    }
}

fn images(checker: &mut Checker<'_>, http: &Http) -> Images {
    let store = store::check(checker);
    let base_url = checker.value("images.base_url", values::http_url);
    if let Some(url) = &base_url {
        warn_without_tls(checker, "images.base_url", url);
    }
    let base_url = base_url.as_ref().map(values::without_slash);
    let base_url = base_url.unwrap_or_else(|| format!("{}/i", http.base_url));
    if let (Ok(api), Ok(origin)) = (Url::parse(&http.base_url), Url::parse(&base_url))
        && hosts::is_public(&api)
        && api.origin() == origin.origin()
    {
        checker.problem(
            "images.base_url",
            format!(
                "`{base_url}` has the origin of the API: a browser would trust uploads like pages"
            ),
            "give the images a host of their own, like https://i.example.com",
        );
    }
    let clean = checker.value("images.clean", values::switch);
    Images {
        clean: clean.unwrap_or(true),
        store: store.unwrap_or_else(|| StorePlace::Directory(PathBuf::from(DEFAULT_STORE))),
        base_url,
        min_free: checker
            .value("images.min_free", values::size)
            .unwrap_or(DEFAULT_MIN_FREE),
        cache_bytes: checker
            .value("images.cache_bytes", cache_bytes)
            .unwrap_or(DEFAULT_CACHE_BYTES),
        limits: image_limits(checker),
    }
}

fn image_limits(checker: &mut Checker<'_>) -> PixelLimits {
    let default = PixelLimits::default();
    let max_pixels = checker.value("images.max_pixels", |text| {
        values::count_within(text, 1, MOST_PIXELS)
    });
    let max_total_pixels = checker.value("images.max_total_pixels", |text| {
        values::count_within(text, 1, MOST_TOTAL_PIXELS)
    });
    PixelLimits {
        max_pixels: max_pixels.unwrap_or(default.max_pixels),
        max_total_pixels: max_total_pixels.unwrap_or(default.max_total_pixels),
    }
}

fn cache_bytes(text: &str) -> Result<u64, Complaint> {
    values::size(text).and_then(|bytes| match bytes {
        0 | SMALLEST_CACHE.. => Ok(bytes),
        _ => Err(Complaint::new(
            format!("`{text}` holds hardly an image"),
            "write 4 MiB or more, or 0 for none",
        )),
    })
}

fn retention(checker: &mut Checker<'_>) -> Retention {
    let schedule = checker.value("retention.schedule", values::schedule);
    let records = checker.value("retention.records", |text| {
        values::duration_within(text, DAY, LONGEST_RECORDS)
    });
    Retention {
        schedule: schedule.unwrap_or_else(Schedule::every_minute),
        records: records.unwrap_or(DEFAULT_RECORDS),
        clocks: clocks(checker),
    }
}

fn clocks(checker: &mut Checker<'_>) -> Option<Vec<ClockKind>> {
    const KEY: &str = "retention.clocks";
    let mut kinds = Vec::new();
    let names = checker.raw.list(KEY)?;
    if names == ["none"] {
        return Some(kinds);
    }
    for name in names {
        match name.parse() {
            Ok(kind) => kinds.push(kind),
            Err(error) => {
                let all = ClockKind::ALL.map(ClockKind::as_str).join(", ");
                let mend = format!("name some of {all}, or none alone");
                checker.problem(KEY, format!("`{name}` {error}"), mend);
            }
        }
    }
    Some(kinds)
}

/// Where files of ours go that have no key: beside the database file.
fn data_directory(database: &DatabaseUrl) -> PathBuf {
    let path = match database {
        DatabaseUrl::Sqlite(path) => path,
        DatabaseUrl::Postgres(_) => Path::new(database::DEFAULT_DATABASE),
    };
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}

fn secrets_key(checker: &mut Checker<'_>, database: &DatabaseUrl) -> SecretKeySource {
    let mend = "write the output of `openssl rand -hex 32`";
    let key = checker.value("secrets.key", |text| {
        parse_secret_keys(text).map_err(|error| Complaint::new(error.to_string(), mend))
    });
    if let Some(key) = key {
        return SecretKeySource::Given(key);
    }
    let was_given = checker.raw.has("secrets.key") || checker.raw.has("secrets.key_file");
    if matches!(database, DatabaseUrl::Postgres(_)) && !was_given {
        let message = "is missing: on PostgreSQL every replica needs the same one";
        checker.problem("secrets.key", message, mend);
    }
    SecretKeySource::FileUnderData(data_directory(database).join("secrets.key"))
}

/// Two listeners on one address: the second wouldn't start, or admin would answer the public.
fn separate_listeners(checker: &mut Checker<'_>, http: &Http, sandbox: Option<&SandboxConfig>) {
    let mut listeners = vec![
        ("http.listen", http.listen),
        ("http.admin_listen", http.admin_listen),
    ];
    if let Some(sandbox) = sandbox {
        listeners.push(("payments.sandbox_listen", sandbox.listen));
        listeners.push(("payments.sandbox_rpc_listen", sandbox.rpc_listen));
    }
    for (index, (key, address)) in listeners.iter().enumerate() {
        let clash = listeners
            .iter()
            .take(index)
            .find(|(_, earlier)| overlap(*address, *earlier));
        if let Some((other, _)) = clash {
            checker.problem(
                key,
                format!("{address} is the address of `{other}` as well"),
                "choose another port",
            );
        }
    }
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let is_same_host =
        one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    // Port 0 is any free port, each time another.
    one.port() == other.port() && one.port() != 0 && is_same_host
}
