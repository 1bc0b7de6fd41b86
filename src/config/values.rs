//! Texts into values. Each function takes what an operator wrote and gives the value, or what to
//! say about it; none knows a key.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use alloy_primitives::Address;
use ipnet::IpNet;
use url::Url;

use super::{DatabaseUrl, hosts};
use crate::networks;
use crate::retention::schedule::{Schedule, ScheduleError};

/// What is wrong with a value, and what to do. `message` follows a key: "is not …".
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) message: String,
    pub(super) mend: String,
}

impl Complaint {
    pub(super) fn new(message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            mend: mend.into(),
        }
    }
}

pub(super) fn socket(text: &str) -> Result<SocketAddr, Complaint> {
    text.parse().map_err(|_| {
        Complaint::new(
            format!("`{text}` is not an IP address with a port"),
            "write it like 127.0.0.1:4020 or [::1]:4020",
        )
    })
}

pub(super) fn loopback_socket(text: &str) -> Result<SocketAddr, Complaint> {
    let address = socket(text)?;
    if address.ip().to_canonical().is_loopback() {
        return Ok(address);
    }
    Err(Complaint::new(
        format!("`{text}` is not on loopback, and the sandbox gives play money to everyone"),
        "write it like 127.0.0.1:4022",
    ))
}

/// Addresses of proxies: a range, or one address.
pub(super) fn network_range(text: &str) -> Result<IpNet, Complaint> {
    let one = text.parse::<IpAddr>().ok().map(IpNet::from);
    let range = one.or_else(|| text.parse().ok()).ok_or_else(|| {
        Complaint::new(
            format!("`{text}` is not a range of IP addresses"),
            "write it like 10.0.0.0/8, fd00::/8 or 192.0.2.7",
        )
    })?;
    if range.prefix_len() == 0 {
        return Err(Complaint::new(
            format!("`{text}` trusts everybody: each client could choose its own address"),
            "name the addresses of your proxies only",
        ));
    }
    Ok(range.trunc())
}

/// An origin: what routes are appended to, without a trailing slash. No path, because routes and
/// `/.well-known` stand at the root of a host.
pub(super) fn origin(text: &str) -> Result<Url, Complaint> {
    let url = http_url(text)?;
    if url.path() == "/" {
        return Ok(url);
    }
    Err(Complaint::new(
        format!("`{text}` has a path, but the routes stand at the root of their host"),
        "write it like https://example.com, and give the service a host of its own",
    ))
}

/// An address over HTTP that something is appended to: no query, fragment, user or password, none
/// of which is repeated.
pub(super) fn http_url(text: &str) -> Result<Url, Complaint> {
    let mend = "write it like https://example.com";
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| Complaint::new("is not an http:// or https:// address", mend))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Complaint::new("holds a user or a password", mend));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Complaint::new("has a query or a fragment", mend));
    }
    Ok(url)
}

/// A facilitator: over TLS, but on loopback.
pub(super) fn facilitator_url(text: &str) -> Result<Url, Complaint> {
    let url = http_url(text)?;
    if url.scheme() == "https" || hosts::is_loopback(&url) {
        return Ok(url);
    }
    Err(Complaint::new(
        format!("`{text}` is without TLS, and its answers decide about money"),
        "write it with https://",
    ))
}

/// A JSON-RPC endpoint: path, query and user may be its API key, so it is never repeated. Plain
/// HTTP is for a node of one's own: who can change its answers decides what counts as paid.
pub(super) fn rpc_url(text: &str) -> Result<Url, Complaint> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| {
            Complaint::new(
                "is not an http:// or https:// address",
                "write the JSON-RPC endpoint of the network, like https://mainnet.base.org",
            )
        })?;
    if url.scheme() == "https" || !hosts::is_public(&url) {
        return Ok(url);
    }
    Err(Complaint::new(
        "is without TLS on a public host, and its answers decide what counts as paid",
        "write it with https://",
    ))
}

/// A URL as what is appended to: without a trailing slash.
pub(super) fn without_slash(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// `sqlite:PATH` or `postgres://…`. What is neither is not repeated: it may hold a password.
pub(super) fn database_url(text: &str) -> Result<DatabaseUrl, Complaint> {
    let mend = "write sqlite:PATH, or postgres://user:password@host/database";
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return match Url::parse(text) {
            Ok(_) => Ok(DatabaseUrl::Postgres(text.to_owned())),
            Err(error) => Err(Complaint::new(
                format!("is no PostgreSQL address: {error}"),
                mend,
            )),
        };
    }
    let Some(path) = text.strip_prefix("sqlite:") else {
        return Err(Complaint::new("is neither sqlite: nor postgres://", mend));
    };
    // `sqlite:///srv/x.db` and `sqlite://x.db` are how other programs write the same.
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.starts_with(":memory:") {
        return Err(Complaint::new(
            "keeps the ledger in memory, which loses it",
            mend,
        ));
    }
    if path.is_empty() || path.ends_with('/') || path.contains('?') {
        return Err(Complaint::new(
            format!("`{text}` does not name a file"),
            mend,
        ));
    }
    Ok(DatabaseUrl::Sqlite(PathBuf::from(path)))
}

/// `true` or `false`, as TOML writes them.
pub(super) fn switch(text: &str) -> Result<bool, Complaint> {
    text.parse().map_err(|_| {
        Complaint::new(
            format!("`{text}` is neither true nor false"),
            "write true or false",
        )
    })
}

/// An address. The checksum finds a mistyped digit; where the text has none (all lower case) nothing
/// can be checked.
pub(super) fn address(text: &str, mend: &str) -> Result<Address, Complaint> {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    if digits.len() != 40 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Complaint::new(
            format!("`{text}` is not 0x and 40 hex digits"),
            mend,
        ));
    }
    let address = if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Address::parse_checksummed(text, None).ok()
    } else {
        text.parse().ok()
    };
    address.ok_or_else(|| {
        Complaint::new(
            format!("`{text}` has a wrong checksum: a digit is mistyped"),
            mend,
        )
    })
}

/// An address that money is sent to.
pub(super) fn recipient(text: &str) -> Result<Address, Complaint> {
    let mend = "copy the address again from the wallet";
    let address = address(text, mend)?;
    let is_contract = networks::all()
        .iter()
        .any(|network| network.usdc == address);
    if address.is_zero() || is_contract {
        return Err(Complaint::new(
            format!("`{text}` would swallow what is paid to it"),
            mend,
        ));
    }
    Ok(address)
}

pub(super) fn duration(text: &str) -> Result<Duration, Complaint> {
    humantime::parse_duration(text).map_err(|error| {
        Complaint::new(
            format!("`{text}` is not a length of time: {error}"),
            "write it like 90s, 10m or 7d",
        )
    })
}

/// A length of time within bounds, both included.
pub(super) fn duration_within(
    text: &str,
    least: Duration,
    most: Duration,
) -> Result<Duration, Complaint> {
    let value = duration(text)?;
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let least = humantime::format_duration(least);
    let most = humantime::format_duration(most);
    Err(Complaint::new(
        format!("`{text}` is out of bounds"),
        format!("write a time from {least} to {most}"),
    ))
}

/// A cron expression, or `off`.
pub(super) fn schedule(text: &str) -> Result<Schedule, Complaint> {
    Schedule::parse(text).map_err(|error| {
        let mend = match error {
            ScheduleError::NumberedDay => "write the day's name, like \"0 4 * * SUN\"",
            ScheduleError::Form | ScheduleError::Never => {
                "write it like \"* * * * *\" (every minute, in UTC), or off"
            }
        };
        Complaint::new(format!("`{text}` {error}"), mend)
    })
}

/// A number of bytes: digits, and maybe a unit of 1024 (KiB, MiB, GiB) or of 1000 (kB, MB, GB).
pub(super) fn size(text: &str) -> Result<u64, Complaint> {
    let complain = || {
        Complaint::new(
            format!("`{text}` is not a size"),
            "write it like \"5 MiB\" or 5242880, without decimals",
        )
    };
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(complain()),
    };
    let count: u64 = digits.parse().map_err(|_| complain())?;
    count.checked_mul(factor).ok_or_else(complain)
}

/// A whole number; 0 is one as well.
/// A count from `least` to `most`.
pub(super) fn count_within(text: &str, least: u64, most: u64) -> Result<u64, Complaint> {
    let count = count(text)?;
    if (least..=most).contains(&count) {
        return Ok(count);
    }
    Err(Complaint::new(
        format!("`{text}` is outside of {least} to {most}"),
        "write a whole number within",
    ))
}

pub(super) fn count(text: &str) -> Result<u64, Complaint> {
    // More would overflow sums, and nobody means it.
    text.parse()
        .ok()
        .filter(|count| *count <= 1 << 40)
        .ok_or_else(|| {
            Complaint::new(
                format!("`{text}` is not a number that can be counted to"),
                "write a whole number; 0 means no limit",
            )
        })
}

/// A share in percent, which leaves something.
pub(super) fn percent(text: &str) -> Result<u64, Complaint> {
    number_within(text, 1, 100)
}

/// A whole number from `least` to `most`.
pub(super) fn number_within(text: &str, least: u64, most: u64) -> Result<u64, Complaint> {
    text.parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            Complaint::new(
                format!("`{text}` is not a whole number from {least} to {most}"),
                format!("write a number from {least} to {most}"),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        for (text, bytes) in [
            ("0", 0),
            ("5242880", 5_242_880),
            ("5 MiB", 5_242_880),
            ("5MiB", 5_242_880),
            ("5 mib", 5_242_880),
            ("1 B", 1),
            ("2 KiB", 2048),
            ("1 GiB", 1_073_741_824),
            ("5 MB", 5_000_000),
            ("3 kB", 3000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "MiB",
            "1.5 MiB",
            "-1",
            "+1",
            "5 M",
            "5 MiB!",
            "99999999999 GiB",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn counts_are_whole_and_not_negative() {
        assert_eq!(count("0"), Ok(0));
        assert_eq!(count("1000"), Ok(1000));
        assert_eq!(count("1099511627776"), Ok(1 << 40));
        for text in ["", "-1", "1.5", "many", "1099511627777"] {
            assert!(count(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_schedule_that_makes_no_sense_says_what_to_write() {
        assert_eq!(schedule("off"), Ok(Schedule::Off));
        assert_eq!(
            schedule("0 4 * * 0").unwrap_err().mend,
            "write the day's name, like \"0 4 * * SUN\""
        );
        let complaint = schedule("hourly").unwrap_err();
        assert_eq!(
            complaint.message,
            "`hourly` is no cron expression of five fields"
        );
    }

    #[test]
    fn times_are_humantime_within_bounds() {
        let second = Duration::from_secs(1);
        for (text, seconds) in [("90s", 90), ("10m", 600), ("7d", 604_800), ("1h 30m", 5400)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "90", "soon", "-1s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(duration_within("999ms", second, second * 2).is_err());
        assert!(duration_within("1s", second, second * 2).is_ok());
        assert!(duration_within("2s", second, second * 2).is_ok());
        assert!(duration_within("2001ms", second, second * 2).is_err());
    }

    #[test]
    fn a_range_is_a_prefix_or_one_address_and_never_everybody() {
        for (text, range) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("fd00::/8", "fd00::/8"),
            ("2001:db8::1", "2001:db8::1/128"),
        ] {
            assert_eq!(network_range(text).unwrap().to_string(), range);
        }
        for text in ["", "10.0.0", "10.0.0.0/33", "proxy", "0.0.0.0/0", "::/0"] {
            assert!(network_range(text).is_err(), "{text}");
        }
    }

    #[test]
    fn databases_are_a_file_or_postgres() {
        let sqlite = |path: &str| Ok(DatabaseUrl::Sqlite(PathBuf::from(path)));
        assert_eq!(database_url("sqlite:data/a.db"), sqlite("data/a.db"));
        assert_eq!(database_url("sqlite:/srv/a.db"), sqlite("/srv/a.db"));
        assert_eq!(database_url("sqlite:///srv/a.db"), sqlite("/srv/a.db"));
        for text in ["postgres://u:p@h/d", "postgresql:///d?host=/run/postgresql"] {
            assert_eq!(
                database_url(text),
                Ok(DatabaseUrl::Postgres(text.to_owned()))
            );
        }
        for text in [
            "",
            "sqlite:",
            "sqlite::memory:",
            "sqlite:a/",
            "sqlite:a.db?mode=ro",
            "a.db",
            "mysql://u:p@h/d",
            "postgres://u:p@[h/d",
        ] {
            let complaint = database_url(text).unwrap_err();
            assert!(!complaint.message.contains("u:p"), "{complaint:?}");
        }
    }

    #[test]
    fn recipients_are_checked_by_their_checksum() {
        let text = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A";
        assert_eq!(recipient(text).unwrap().to_checksum(None), text);
        assert_eq!(
            recipient(&text.to_ascii_lowercase())
                .unwrap()
                .to_checksum(None),
            text
        );
        assert!(recipient("0x1111111111111111111111111111111111111111").is_ok());
        for text in [
            "0x19e7E376E7C213B7E7e7e46cc70A5dD086DAff2A",
            "0x19E7E376E7C213B7E7E7E46CC70A5DD086DAFF2A",
            "19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A",
            "0X19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A",
            "0x19E7",
            "",
            "0x0000000000000000000000000000000000000000",
            "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
        ] {
            assert!(recipient(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_origin_has_no_path_query_fragment_or_user() {
        for (text, stored) in [
            ("https://Example.com", "https://example.com"),
            ("https://example.com/", "https://example.com"),
            ("http://127.0.0.1:4020", "http://127.0.0.1:4020"),
            ("https://example.com:443", "https://example.com"),
        ] {
            assert_eq!(without_slash(&origin(text).unwrap()), stored);
        }
        for text in [
            "",
            "example.com",
            "ftp://example.com",
            "https://example.com/a",
            "https://example.com?a",
            "https://example.com#a",
            "https://u@example.com",
            "https://u:p@example.com",
            "https://",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
    }
}
