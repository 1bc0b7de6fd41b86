//! The types of values: their names, how each is written, and how it is parsed. None knows a key.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use alloy_primitives::Address;
use ipnet::IpNet;
use url::Url;

use super::describe::Kind;
use super::payments::{Facilitator, RpcUrls, rpc_urls};
use super::site::Colour;
use super::store::{Addressing, Encryption, StoreLocation, place};
use super::{DatabaseUrl, hosts, parse_secret_keys};
use crate::keys::secrets::Keyring;
use crate::pricing::money::AtomicAmount;
use crate::pricing::networks::{self, Network};
use crate::pricing::tiers::{Keep, TierFault, TierName};
use crate::retention::clock_kind::ClockKind;
use crate::retention::schedule::Schedule;
use crate::system::logs::LogFormat;
use crate::trust::scanner::OnSilence;

const fn kind<T>(
    name: &'static str,
    fix: &'static str,
    parse: fn(&str) -> Result<T, String>,
) -> Kind<T> {
    Kind { name, fix, parse }
}

/// Keeps a value, or says what is wrong with it.
fn ensure<T>(value: T, fits: bool, message: impl FnOnce() -> String) -> Result<T, String> {
    if fits { Ok(value) } else { Err(message()) }
}

pub(super) const TEXT: Kind<String> =
    kind("text", "write it in quotes", |text| Ok(text.to_owned()));
pub(super) const SWITCH: Kind<bool> = kind("switch", "write true or false", |text| {
    text.parse()
        .map_err(|_| format!("`{text}` is not true or false"))
});
pub(super) const LOG_FORMAT: Kind<LogFormat> =
    kind("log format", "write text or json", |text| match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("`{text}` is not a log format")),
    });
pub(super) const NUMBER: Kind<u64> = kind("number", "write a whole number", whole);
pub(super) const SMALL: Kind<u32> = kind("number", "write a whole number", whole);
pub(super) const COUNT: Kind<u64> =
    kind("count", "write a whole number; 0 means no limit", |text| {
        // A larger number would overflow sums.
        let count = whole(text)?;
        ensure(count, count <= 1 << 40, || {
            format!("`{text}` is more than 2^40")
        })
    });
pub(super) const SIZE: Kind<u64> = kind(
    "size",
    "write it like \"5 MiB\" or 5242880, without decimals",
    size,
);
pub(super) const DURATION: Kind<Duration> = kind(
    "duration",
    "write it like \"90s\", \"10m\" or \"7d\"",
    |text| {
        humantime::parse_duration(text)
            .map_err(|error| format!("`{text}` is not a duration: {error}"))
    },
);
pub(super) const KEEP: Kind<Keep> = kind(
    "duration or `forever`",
    "write it like \"30d\", or \"forever\"",
    |text| match text {
        "forever" => Ok(Keep::Forever),
        time => (DURATION.parse)(time).map(Keep::For),
    },
);
pub(super) const SCHEDULE: Kind<Schedule> = kind(
    "schedule",
    "write five cron fields in UTC with days of the week by name, like \"0 4 * * SUN\", or off",
    |text| Schedule::parse(text).map_err(|error| format!("`{text}` {error}")),
);
pub(super) const CLOCK: Kind<ClockKind> = kind(
    "clock",
    "write chain, facilitator, database or store, or none alone",
    |text| text.parse().map_err(|error| format!("`{text}` {error}")),
);

pub(super) const ADDRESS: Kind<SocketAddr> = kind(
    "IP address and port",
    "write it like 127.0.0.1:4020 or [::1]:4020",
    |text| {
        text.parse()
            .map_err(|_| format!("`{text}` is not an IP address with a port"))
    },
);
pub(super) const LOOPBACK: Kind<SocketAddr> = kind(
    "loopback address and port",
    "write it like 127.0.0.1:4022",
    |text| {
        let address = (ADDRESS.parse)(text)?;
        ensure(address, address.ip().to_canonical().is_loopback(), || {
            format!("`{text}` is not on loopback, and the sandbox gives play money to everybody")
        })
    },
);
pub(super) const IP_RANGE: Kind<IpNet> = kind(
    "IP address or CIDR range",
    "write the addresses of your own proxies, like 10.0.0.0/8, fd00::/8 or 192.0.2.7",
    |text| {
        let range = ip_range(text)?;
        ensure(range, range.prefix_len() > 0, || {
            format!("`{text}` trusts everybody, so that each client could choose its own address")
        })
    },
);
pub(super) const OWN_RANGE: Kind<IpNet> = kind(
    "IP address or CIDR range to reach",
    "write the addresses of your own image servers, like 10.0.7.0/24 or fd00:7::/64",
    |text| {
        let range = ip_range(text)?;
        ensure(range, range.prefix_len() > 0, || {
            format!(
                "`{text}` is every address, so that clients could reach this machine and its network"
            )
        })
    },
);
pub(super) const PORT: Kind<u16> = kind("port", "write a number from 1 to 65535", |text| {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| format!("`{text}` is not a port"))
});

/// Parses an IP address or a range of them.
fn ip_range(text: &str) -> Result<IpNet, String> {
    let one = text.parse::<IpAddr>().ok().map(IpNet::from);
    let range = one.or_else(|| text.parse().ok());
    let range = range.ok_or_else(|| format!("`{text}` is not a range of IP addresses"))?;
    Ok(range.trunc())
}

/// Without a trailing slash. No path, since the routes and `/.well-known` are at the root of a host.
pub(super) const ORIGIN: Kind<String> = kind(
    "origin",
    "write scheme, host and port alone, like https://example.com; the service needs a host of its own",
    |text| {
        let url = http_url(text)?;
        ensure(without_slash(&url), url.path() == "/", || {
            format!("`{text}` has a path, but the routes are at the root of their host")
        })
    },
);
/// Without a trailing slash.
pub(super) const HTTP_URL: Kind<String> =
    kind("URL", "write it like https://example.com", |text| {
        http_url(text).map(|url| without_slash(&url))
    });
/// Without a trailing slash. Requires TLS, but on loopback.
pub(super) const FACILITATOR_URL: Kind<String> = kind(
    "URL",
    "write it with https://, like https://x402.org/facilitator",
    |text| {
        let url = http_url(text)?;
        let is_safe = url.scheme() == "https" || hosts::is_loopback(&url);
        ensure(without_slash(&url), is_safe, || {
            format!("`{text}` is without TLS, and its answers decide about money")
        })
    },
);
/// As it is written, since the provider decides about path and slash. It may be an API key, so no
/// error repeats it. Plain HTTP is for a node of one's own.
pub(super) const RPC_URL: Kind<String> = kind(
    "URL",
    "write the JSON-RPC endpoint of the network with https://, like https://mainnet.base.org",
    |text| {
        let url = Url::parse(text).ok().filter(is_http);
        let url = url.ok_or("is not an http:// or https:// URL")?;
        let is_safe = url.scheme() == "https" || !hosts::is_public(&url);
        ensure(url.as_str().to_owned(), is_safe, || {
            "is without TLS on a public host, and its answers decide what counts as paid".to_owned()
        })
    },
);
/// As it is written. It may hold a secret, so no error repeats it. Plain HTTP is for a scanner of
/// one's own.
pub(super) const SCANNER_URL: Kind<String> = kind(
    "URL",
    "write the address of the scanner, like http://127.0.0.1:8090/scan",
    |text| {
        let url = Url::parse(text).ok().filter(is_http);
        let url = url.ok_or("is not an http:// or https:// URL")?;
        let is_safe = url.scheme() == "https" || !hosts::is_public(&url);
        ensure(url.as_str().to_owned(), is_safe, || {
            "is without TLS on a public host, and it receives every image".to_owned()
        })
    },
);
pub(super) const ON_SILENCE: Kind<OnSilence> = kind(
    "`refuse` or `publish`",
    "write refuse or publish",
    |text| match text {
        "refuse" => Ok(OnSilence::Refuse),
        "publish" => Ok(OnSilence::Publish),
        other => Err(format!("`{other}` is neither refuse nor publish")),
    },
);
pub(super) const RPC_URLS: Kind<RpcUrls> = kind(
    "URL, or `network=URL` by commas",
    "write a URL like https://mainnet.base.org; for several networks \
     base=https://rpc.example.com,eip155:137=https://other.example.com",
    rpc_urls,
);
pub(super) const DATABASE: Kind<DatabaseUrl> = kind(
    "database URL",
    "write sqlite:PATH, or postgres://user:password@host/database",
    database_url,
);
pub(super) const STORE: Kind<StoreLocation> = kind(
    "directory or bucket",
    "write the path of a directory, or a bucket like s3://bucket/prefix",
    place,
);
pub(super) const ADDRESSING: Kind<Addressing> = kind(
    "`path` or `virtual`",
    "write path for https://host/bucket, or virtual for https://bucket.host",
    |text| match text {
        "path" => Ok(Addressing::Path),
        "virtual" => Ok(Addressing::Virtual),
        _ => Err(format!("`{text}` is neither path nor virtual")),
    },
);
pub(super) const ENCRYPTION: Kind<Encryption> = kind(
    "encryption",
    "write default (as the bucket is set up), AES256, aws:kms or aws:kms:KEY",
    |text| match (text, text.strip_prefix("aws:kms:")) {
        ("default", _) => Ok(Encryption::Default),
        ("AES256", _) => Ok(Encryption::Aes256),
        ("aws:kms", _) => Ok(Encryption::Kms(None)),
        (_, Some(key)) if !key.is_empty() => Ok(Encryption::Kms(Some(key.to_owned()))),
        _ => Err(format!("`{text}` is not a known encryption")),
    },
);

pub(super) const FACILITATOR: Kind<Facilitator> = kind(
    "`coinbase`, `url` or `sandbox`",
    "write \"coinbase\", \"url\" or \"sandbox\"",
    |text| match text {
        "coinbase" => Ok(Facilitator::Coinbase),
        "url" => Ok(Facilitator::Url),
        "sandbox" => Ok(Facilitator::Sandbox),
        _ => Err(format!("`{text}` is not a known facilitator")),
    },
);
pub(super) const NETWORK_FACILITATOR: Kind<Facilitator> = kind(
    "`coinbase` or `url`",
    "write \"coinbase\" or \"url\"",
    |text| {
        let facilitator = (FACILITATOR.parse)(text)?;
        ensure(facilitator, facilitator != Facilitator::Sandbox, || {
            format!("`{text}` is not a facilitator of a single network")
        })
    },
);
pub(super) const CONTACT: Kind<String> = kind(
    "contact",
    "write it like mailto:security@example.com or https://example.com/security",
    |text| {
        let url = Url::parse(text).ok();
        let fits = url.is_some_and(|url| matches!(url.scheme(), "mailto" | "https"));
        ensure(
            text.to_owned(),
            fits && !text.contains(char::is_whitespace),
            || format!("`{text}` is not a mailto: or https:// URL"),
        )
    },
);
pub(super) const COLOUR: Kind<Colour> = kind("colour", "write it like \"#b93a12\"", |text| {
    Colour::parse(text).ok_or_else(|| format!("`{text}` is not a colour"))
});
pub(super) const SITE_NAME: Kind<String> = kind(
    "text",
    "write 1 to 40 letters, digits, spaces or punctuation",
    |text| {
        let fits = !text.trim().is_empty()
            && text.chars().count() <= 40
            && !text.contains(char::is_control);
        ensure(text.to_owned(), fits, || {
            "the name is empty, longer than 40 characters or has control characters".to_owned()
        })
    },
);
/// A bearer token. Never repeated.
pub(super) const TOKEN: Kind<String> = kind(
    "token",
    "write the token alone, as one line of ASCII without blanks",
    |text| {
        let fits = text.bytes().all(|byte| byte.is_ascii_graphic());
        ensure(text.to_owned(), fits, || {
            "has characters that no header can carry".to_owned()
        })
    },
);
pub(super) const NETWORK: Kind<&'static Network> = kind(
    "network",
    "write base (eip155:8453), base-sepolia (eip155:84532), or the id of an entry of [[networks]]",
    |text| networks::find(text).ok_or_else(|| format!("`{text}` is not a known network")),
);
pub(super) const WALLET: Kind<Address> = kind(
    "address",
    "write 0x and 40 hex digits, as the wallet shows them",
    |text| {
        let wallet = address(text)?;
        let is_lost = wallet.is_zero() || networks::all().iter().any(|known| known.usdc == wallet);
        ensure(wallet, !is_lost, || {
            format!("payments to `{text}` would be lost")
        })
    },
);
pub(super) const CONTRACT: Kind<Address> = kind(
    "address",
    "write 0x and 40 hex digits, as the explorer of the chain shows the contract",
    address,
);
pub(super) const WORDS: Kind<String> = kind(
    "text",
    "write what the contract says, up to 64 bytes",
    |text| {
        ensure(text.to_owned(), (1..=64).contains(&text.len()), || {
            "is empty or longer than 64 bytes".to_owned()
        })
    },
);
pub(super) const V1_NAME: Kind<String> = kind(
    "name",
    "write 1 to 32 lower-case letters, digits and hyphens, like avalanche-fuji, or leave it out",
    |text| {
        let fits = TierName::parse(text).is_ok();
        ensure(text.to_owned(), fits, || {
            format!("`{text}` is not a network name of protocol version 1")
        })
    },
);
pub(super) const SECRET_KEYS: Kind<Keyring> = kind(
    "32 bytes",
    "write the output of `openssl rand -hex 32`",
    |text| parse_secret_keys(text).map_err(|error| error.to_string()),
);

pub(super) const TIER_NAME: Kind<TierName> = kind(
    "name",
    "write 1 to 32 lower-case letters, digits and hyphens",
    |text| TierName::parse(text).map_err(|fault: TierFault| format!("`{text}` {fault}")),
);
pub(super) const PRICE: Kind<AtomicAmount> = kind(
    "price",
    "write decimal USD in quotes, like \"0.01\", or \"0\" for no price",
    |text| {
        AtomicAmount::from_decimal_usd(text)
            .map_err(|error| format!("`{text}` is not a price: {error}"))
    },
);

fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a whole number from 0 up"))
}

/// Digits, and maybe a unit of 1024 (KiB, MiB, GiB) or of 1000 (kB, MB, GB).
fn size(text: &str) -> Result<u64, String> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "kib" => Some(1 << 10),
        "mib" => Some(1 << 20),
        "gib" => Some(1 << 30),
        "kb" => Some(1_000),
        "mb" => Some(1_000_000),
        "gb" => Some(1_000_000_000),
        _ => None,
    };
    let count = digits.parse::<u64>().ok();
    let bytes = count.and_then(|count| count.checked_mul(factor?));
    bytes.ok_or_else(|| format!("`{text}` is not a size"))
}

/// The checksum finds a mistyped digit; an address in lower case has none.
fn address(text: &str) -> Result<Address, String> {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    if digits.len() != 40 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("`{text}` is not 0x and 40 hex digits"));
    }
    let address = if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Address::parse_checksummed(text, None).ok()
    } else {
        text.parse().ok()
    };
    address.ok_or_else(|| format!("`{text}` has a wrong checksum: a digit is mistyped"))
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.has_host()
}

/// A URL that routes are appended to. User and password are not repeated.
fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .ok()
        .filter(is_http)
        .ok_or("is not an http:// or https:// URL")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user or a password, which is not allowed here".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query or a fragment, which is not allowed here".to_owned());
    }
    Ok(url)
}

pub(super) fn without_slash(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// The parameters of a PostgreSQL URL that `sqlx` reads. It would log the value of another one, and
/// a mistyped `sslmode` would leave the connection without TLS.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// A text that is neither kind of URL is not repeated: it may hold a password.
pub(super) fn database_url(text: &str) -> Result<DatabaseUrl, String> {
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        let url = Url::parse(text).map_err(|error| format!("is not a PostgreSQL URL: {error}"))?;
        let unknown = url.query_pairs().find(|(name, _)| {
            let is_option = name.starts_with("options[") && name.ends_with(']');
            !PARAMETERS.contains(&&**name) && !is_option
        });
        return match unknown {
            None => Ok(DatabaseUrl::Postgres(text.to_owned())),
            Some((name, _)) => Err(format!(
                "has the unknown parameter `{name}`; the known ones are {}",
                PARAMETERS.join(", ")
            )),
        };
    }
    let path = text
        .strip_prefix("sqlite:")
        .ok_or("is neither sqlite: nor postgres://")?;
    // `sqlite:///srv/x.db` and `sqlite://x.db` are how other programs write the same.
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.starts_with(":memory:") {
        return Err("keeps the ledger in memory, which loses it".to_owned());
    }
    let is_file = !path.is_empty() && !path.ends_with('/') && !path.contains('?');
    ensure(DatabaseUrl::Sqlite(PathBuf::from(path)), is_file, || {
        format!("`{text}` does not name a file")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses each `text => value` of the first list, and refuses each text of the second. ` | ` separates
    /// them. No message repeats a password.
    #[track_caller]
    fn assert_parses<T: std::fmt::Debug>(kind: &Kind<T>, good: &str, bad: &str) {
        for (text, value) in good.split(" | ").filter_map(|item| item.split_once(" => ")) {
            let parsed = (kind.parse)(text).map(|parsed| format!("{parsed:?}"));
            assert_eq!(parsed, Ok(value.to_owned()), "{}: {text}", kind.name);
        }
        for text in bad.split(" | ").chain([""]) {
            let message = (kind.parse)(text).expect_err(text);
            assert!(!message.contains("u:p"), "{message}");
        }
    }

    #[test]
    fn numbers_sizes_and_durations_have_units_and_no_signs() {
        let sizes = "0 => 0 | 5242880 => 5242880 | 5 MiB => 5242880 | 5MiB => 5242880 | \
                     5 mib => 5242880 | 1 B => 1 | 2 KiB => 2048 | 1 GiB => 1073741824 | \
                     5 MB => 5000000 | 3 kB => 3000";
        let bad = "MiB | 1.5 MiB | -1 | +1 | 5 M | 5 MiB! | 99999999999 GiB";
        assert_parses(&SIZE, sizes, bad);
        let counts = "0 => 0 | 1000 => 1000 | 1099511627776 => 1099511627776";
        assert_parses(&COUNT, counts, "-1 | 1.5 | many | 1099511627777");
        let times = "90s => 90s | 10m => 600s | 7d => 604800s | 1h 30m => 5400s";
        assert_parses(&DURATION, times, "90 | soon | -1s");
        assert_parses(&SWITCH, "true => true | false => false", "no | 0 | True");
        assert_parses(&SCHEDULE, "off => Off", "hourly | 0 4 * * 0 | 0 4 30 2 *");
    }

    #[test]
    fn a_range_is_a_prefix_or_one_address_and_never_all_addresses() {
        let ranges = "10.1.2.3/8 => 10.0.0.0/8 | 192.0.2.7 => 192.0.2.7/32 | \
                      fd00::/8 => fd00::/8 | 2001:db8::1 => 2001:db8::1/128";
        assert_parses(
            &IP_RANGE,
            ranges,
            "10.0.0 | 10.0.0.0/33 | proxy | 0.0.0.0/0 | ::/0",
        );
    }

    #[test]
    fn databases_are_a_file_or_postgres() {
        let good = "sqlite:data/a.db => Sqlite(\"data/a.db\") | \
                    sqlite:/srv/a.db => Sqlite(\"/srv/a.db\") | \
                    sqlite:///srv/a.db => Sqlite(\"/srv/a.db\") | \
                    postgres://u:p@h/d => Postgres(\"postgres://h/[hidden]\") | \
                    postgresql:///d?host=/run/x => Postgres(\"postgresql:///[hidden]\")";
        let bad = "sqlite: | sqlite::memory: | sqlite:a/ | sqlite:a.db?mode=ro | a.db | \
                   mysql://u:p@h/d | postgres://u:p@[h/d | postgres://u:p@h/d?pasword=u:p";
        assert_parses(&DATABASE, good, bad);
    }

    #[test]
    fn recipients_are_checked_by_their_checksum() {
        let text = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A";
        let lower = text.to_ascii_lowercase();
        let ones = format!("0x{}", "11".repeat(20));
        let good = format!("{text} => {lower} | {lower} => {lower} | {ones} => {ones}");
        let bad = "0x19e7E376E7C213B7E7e7e46cc70A5dD086DAff2A | \
                   0x19E7E376E7C213B7E7E7E46CC70A5DD086DAFF2A | \
                   19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A | \
                   0X19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A | 0x19E7 | \
                   0x0000000000000000000000000000000000000000 | \
                   0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913";
        assert_parses(&WALLET, &good, bad);
    }

    #[test]
    fn an_origin_has_no_path_query_fragment_or_user() {
        let good = "https://Example.com => \"https://example.com\" | \
                    https://example.com/ => \"https://example.com\" | \
                    http://127.0.0.1:4020 => \"http://127.0.0.1:4020\" | \
                    https://example.com:443 => \"https://example.com\"";
        let bad = "example.com | ftp://example.com | https://example.com/a | https://example.com?a | \
                   https://example.com#a | https://u@example.com | https://u:p@example.com | https://";
        assert_parses(&ORIGIN, good, bad);
    }
}
