//! From what was set to a [`Config`], with the rules that span several keys.
//!
//! A value that is refused is reported and its default taken, so that one mistake isn't reported as
//! three. The resulting `Config` is used only where nothing was reported.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use super::describe::find;
use super::keys::{AdminKeys, CdnKeys, DatabaseKeys, ImageKeys, ScreenKeys, SecretKeys};
use super::read::{Given, Reader, refuse};
use super::site;
use super::{
    AdminToken, ApiKeys, CdnConfig, Config, Connections, DatabaseUrl, FacilitatorChoice, Http,
    Images, Import, Limits, Links, Log, Mcp, Metrics, Mode, Money, Operator, PaymentsConfig,
    Report, Retention, SandboxConfig, ScreeningConfig, SecretKeySource, Traces, Trust, Variants,
    hosts, payments, store, tiers,
};
use crate::images::format::PixelLimits;
use crate::pricing::tiers::{Tier, TierTable};
use crate::trust::blocks::Closeness;
use crate::trust::sanctions;
use crate::trust::scanner::ScannerSettings;

/// The shortest token of the admin API, in characters.
const SHORTEST_ADMIN_TOKEN: usize = 32;
/// Room for a few of the largest images that the cache takes.
const SMALLEST_CACHE: u64 = 4 << 20;

/// Checks everything.
pub(super) fn check(given: &Given, sandbox: bool, report: &mut Report) -> Config {
    let reader = &mut Reader::new(given, report);
    let http = http(reader);
    let images = images(reader, &http);
    let (database, connections) = database(reader);
    let secrets_key = secrets_key(reader, &database);
    let tiers = tiers::check(reader);
    let data = data_directory(&database);
    let (payments, sandbox, token_ttl) = payments::check(reader, sandbox, &tiers, &data);
    separate_listeners(reader, &http, sandbox.as_ref());
    Config {
        limits: limits(reader, &tiers),
        import: import(reader),
        money: Money::read(reader),
        links: Links::read(reader),
        keys: ApiKeys::read(reader),
        retention: retention(reader),
        variants: Variants::read(reader),
        screening: screening(reader),
        mcp: Mcp::read(reader),
        log: Log::read(reader),
        metrics: Metrics::read(reader),
        traces: Traces::read(reader),
        site: site::read(reader),
        operator: operator(reader, &http),
        trust: Trust::read(reader),
        admin_token: admin_token(reader),
        cdn: cdn(reader),
        mode: payments.as_ref().map(mode),
        lines: std::mem::take(&mut reader.lines),
        http,
        database,
        connections,
        images,
        payments,
        sandbox,
        secrets_key,
        tiers,
        token_ttl,
    }
}

fn operator(reader: &mut Reader<'_>, http: &Http) -> Operator {
    let operator = Operator::read(reader);
    if http.base_url.starts_with("https://") && operator.contact.is_none() {
        reader.warn(
            "operator.contact",
            "is not set, so that the pages of this service tell nobody how to reach you",
            "set it to a mailto: or https: URL",
        );
    }
    operator
}

fn import(reader: &mut Reader<'_>) -> Import {
    let import = Import::read(reader);
    if import.enabled && import.ports.is_empty() {
        reader.problem(
            "import.ports",
            "is empty, so that no URL could be fetched",
            "name the ports, like [80, 443], or set import.enabled = false",
        );
    }
    import
}

fn screening(reader: &mut Reader<'_>) -> ScreeningConfig {
    let keys = ScreenKeys::read(reader);
    let sanctioned = match keys.sanctions_file.as_deref().map(Path::new) {
        None => HashSet::new(),
        Some(file) => sanctions::read(file).unwrap_or_else(|error| {
            let fix = "name a file with wallets (0x…) that this user may read";
            reader.problem("trust.sanctions_file", error.to_string(), fix);
            HashSet::new()
        }),
    };
    if keys.scanner_url.is_none() && reader.has("trust.scanner_token") {
        let message = "is set without trust.scanner_url, so it is sent to nobody";
        reader.warn(
            "trust.scanner_token",
            message,
            "set trust.scanner_url, or remove it",
        );
    }
    ScreeningConfig {
        closeness: Closeness {
            distance: keys.pdq_distance,
            quality: keys.pdq_quality,
        },
        sanctioned: Arc::new(sanctioned),
        scanner: keys.scanner_url.map(|url| ScannerSettings {
            url,
            token: keys.scanner_token,
            timeout: keys.scanner_timeout,
            on_silence: keys.scanner_on_silence,
        }),
    }
}

fn http(reader: &mut Reader<'_>) -> Http {
    let http = Http::read(reader);
    let Http {
        listen,
        admin_listen,
        base_url,
        ..
    } = &http;
    if !admin_listen.ip().to_canonical().is_loopback() {
        reader.warn(
            "http.admin_listen",
            format!("{admin_listen} is not on loopback: others may reach metrics and admin"),
            "listen on 127.0.0.1, or put a firewall in front of it",
        );
    }
    let is_default = listen.port() == 4020 && listen.ip().is_loopback();
    if !is_default && !reader.has("http.base_url") {
        reader.warn(
            "http.base_url",
            format!("is not set: links and challenges name {base_url}, but the server listens on {listen}"),
            "set it to the address that clients use",
        );
    }
    warn_without_tls(reader, "http.base_url", base_url);
    http
}

/// Warns of a plain public address.
pub(super) fn warn_without_tls(reader: &mut Reader<'_>, key: &'static str, url: &str) {
    if Url::parse(url).is_ok_and(|url| url.scheme() == "http" && hosts::is_public(&url)) {
        reader.warn(
            key,
            format!("`{url}` is without TLS on a public host: others can read what is sent"),
            "write it with https://, and let a proxy end TLS",
        );
    }
}

fn images(reader: &mut Reader<'_>, http: &Http) -> Images {
    let keys = ImageKeys::read(reader);
    let base_url = keys
        .base_url
        .unwrap_or_else(|| format!("{}/i", http.base_url));
    reader.shows("images.base_url", &base_url);
    if reader.has("images.base_url") {
        warn_without_tls(reader, "images.base_url", &base_url);
    }
    let origin = |url: &str| {
        Url::parse(url)
            .ok()
            .filter(hosts::is_public)
            .map(|url| url.origin())
    };
    let api = origin(&http.base_url);
    refuse!(reader, "images.base_url", api.is_some() && api == origin(&base_url),
        "`{base_url}` has the origin of the API: a browser would trust uploads like pages" =>
        "give the images a host of their own, like https://i.example.com");
    let bytes = keys.cache_bytes;
    refuse!(reader, "images.cache_bytes", (1..SMALLEST_CACHE).contains(&bytes),
        "{bytes} bytes hold hardly an image" => "write 4 MiB or more, or 0 for no cache");
    Images {
        store: store::check(reader, keys.store),
        base_url,
        clean: keys.clean,
        private: keys.private,
        link_ttl: keys.link_ttl,
        min_free: keys.min_free,
        cache_bytes: bytes,
        limits: PixelLimits {
            max_pixels: keys.max_pixels,
            max_total_pixels: keys.max_total_pixels,
        },
    }
}

fn database(reader: &mut Reader<'_>) -> (DatabaseUrl, Connections) {
    let url = DatabaseKeys::read(reader).url;
    let connections = Connections::read(reader);
    if matches!(url, DatabaseUrl::Sqlite(_)) {
        for info in Connections::KEYS {
            if reader.has(info.name) {
                let fix = "remove it, or set database.url to a PostgreSQL database";
                reader.warn(info.name, "has no effect on SQLite", fix);
            }
        }
        reader.hides(Connections::KEYS);
    }
    (url, connections)
}

/// The directory of files that have no key: beside the database file.
fn data_directory(database: &DatabaseUrl) -> PathBuf {
    let default = find("database.url").and_then(|info| info.default?.strip_prefix("sqlite:"));
    let path = match database {
        DatabaseUrl::Sqlite(path) => path,
        DatabaseUrl::Postgres(_) => Path::new(default.unwrap_or_default()),
    };
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}

fn secrets_key(reader: &mut Reader<'_>, database: &DatabaseUrl) -> SecretKeySource {
    const KEY: &str = "secrets.key";
    if let Some(key) = SecretKeys::read(reader).key {
        if key.count_older() > 0
            && let Some(line) = reader.lines.get_mut(KEY)
        {
            *line = format!("{line} # and {} older", key.count_older());
        }
        return SecretKeySource::Given(key);
    }
    let is_shared = matches!(database, DatabaseUrl::Postgres(_));
    refuse!(reader, KEY, is_shared && !reader.has(KEY),
        "is missing: on PostgreSQL every replica needs the same key" =>
        "write the output of `openssl rand -hex 32`");
    let path = data_directory(database).join("secrets.key");
    reader.notes(
        KEY,
        &format!("in {}, made at the first start", path.display()),
    );
    SecretKeySource::FileUnderData(path)
}

fn retention(reader: &mut Reader<'_>) -> Retention {
    let retention = Retention::read(reader);
    if retention.clocks.is_none() {
        reader.notes("retention.clocks", "each that is not on this machine");
    }
    retention
}

fn limits(reader: &mut Reader<'_>, tiers: &TierTable) -> Limits {
    const NETWORK: &str = "limits.free_per_network_per_hour";
    const BODIES: &str = "limits.body_bytes";
    let mut limits = Limits::read(reader);
    if !reader.has(NETWORK) {
        let address = limits.free_per_address_per_hour;
        let network = address.saturating_mul(Limits::ADDRESSES_PER_NETWORK);
        limits.free_per_network_per_hour = network;
        reader.shows(NETWORK, &network.to_string());
    }
    let least = least_body_bytes(tiers);
    if !reader.has(BODIES) && limits.body_bytes < least {
        limits.body_bytes = least;
        reader.shows(BODIES, &least.to_string());
    }
    let bytes = limits.body_bytes;
    refuse!(reader, BODIES, bytes < least,
        "{bytes} bytes don't hold one upload with its cleaned copy, which needs {least}" =>
        "write {least} or more, or lower max_bytes of the tiers");
    limits
}

/// The least `limits.body_bytes` for these tiers.
pub(crate) fn least_body_bytes(tiers: &TierTable) -> u64 {
    let longest = tiers.iter().map(Tier::longest_body).max().unwrap_or(0);
    let largest = tiers.iter().map(|tier| tier.max_bytes).max().unwrap_or(0);
    crate::limits::memory::least_body_bytes(longest, largest)
}

fn admin_token(reader: &mut Reader<'_>) -> Option<AdminToken> {
    const KEY: &str = "admin.token";
    let token = AdminKeys::read(reader).token?;
    let length = token.len();
    refuse!(reader, KEY, length < SHORTEST_ADMIN_TOKEN,
        "has {length} characters, so that it might be guessed" =>
        "write the output of `openssl rand -hex 32`");
    Some(AdminToken(token))
}

fn cdn(reader: &mut Reader<'_>) -> Option<CdnConfig> {
    const ZONE: &str = "cdn.cloudflare_zone";
    const TOKEN: &str = "cdn.cloudflare_token";
    let keys = CdnKeys::read(reader);
    if keys.cloudflare_zone.is_none() && keys.cloudflare_token.is_none() {
        reader.hides(CdnKeys::KEYS);
        return None;
    }
    refuse!(reader, ZONE, keys.cloudflare_zone.is_none(),
        "is missing beside `cdn.cloudflare_token`" => "write the zone's id, from its overview page");
    refuse!(reader, TOKEN, keys.cloudflare_token.is_none() && !reader.has(TOKEN),
        "is missing beside `cdn.cloudflare_zone`" =>
        "write an API token with the permission Zone > Cache Purge");
    let zone = keys.cloudflare_zone?;
    let is_id = zone.bytes().all(|byte| byte.is_ascii_alphanumeric()) && !zone.is_empty();
    refuse!(reader, ZONE, !is_id,
        "`{zone}` is not the id of a zone" => "write the 32 letters and digits from the zone's overview page");
    Some(CdnConfig {
        api_url: keys.api_url,
        zone,
        token: keys.cloudflare_token?,
        csam_scanner: keys.csam_scanner,
        timeout: keys.timeout,
    })
}

/// The kind of money: of one kind on all networks, or it was reported.
fn mode(payments: &PaymentsConfig) -> Mode {
    let mut networks = payments.networks.iter();
    if networks.any(|known| known.facilitator == FacilitatorChoice::Sandbox) {
        Mode::Sandbox
    } else if payments.networks.iter().all(|known| known.network.is_test) {
        Mode::Test
    } else {
        Mode::Real
    }
}

/// Refuses two listeners on one address: the second would not start, or the public would reach admin.
fn separate_listeners(reader: &mut Reader<'_>, http: &Http, sandbox: Option<&SandboxConfig>) {
    let mut listeners = vec![
        ("http.listen", http.listen),
        ("http.admin_listen", http.admin_listen),
    ];
    listeners.extend(sandbox.iter().flat_map(|sandbox| {
        [
            ("payments.sandbox_listen", sandbox.listen),
            ("payments.sandbox_rpc_listen", sandbox.rpc_listen),
        ]
    }));
    for (index, (key, address)) in listeners.iter().enumerate() {
        // Port 0 is any free port, each time another.
        let clash = listeners.iter().take(index).find(|(_, other)| {
            let (one, two) = (address.ip(), other.ip());
            let is_same_host = one == two || one.is_unspecified() || two.is_unspecified();
            address.port() == other.port() && address.port() != 0 && is_same_host
        });
        if let Some((other, _)) = clash {
            refuse!(reader, key, true, "{address} is the address of `{other}` as well" => "choose another port");
        }
    }
}
