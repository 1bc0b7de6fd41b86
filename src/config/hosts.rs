//! Classifies the host of a URL by its text alone, without a look-up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// Whether the host of the URL is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => is_localhost(name.trim_end_matches('.')),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

/// Whether the text is a URL whose host is this machine.
pub fn is_on_this_machine(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| is_loopback(&url))
}

/// Whether strangers could reach the host: not loopback, not of a private range, and no name that
/// exists only locally.
pub(super) fn is_public(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => is_public_name(name.trim_end_matches('.')),
        Some(Host::Ipv4(address)) => is_public_v4(address),
        Some(Host::Ipv6(address)) => match address.to_canonical() {
            IpAddr::V4(address) => is_public_v4(address),
            IpAddr::V6(address) => is_public_v6(address),
        },
        None => false,
    }
}

/// The URL without user, password, path and query, which may be secret.
pub(super) fn redacted(text: &str) -> String {
    let Ok(url) = Url::parse(text) else {
        return "[hidden]".to_owned();
    };
    let host = url.host_str().unwrap_or_default();
    let port = url
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    let hidden = url.path().len() > 1
        || url.query().is_some()
        || !url.username().is_empty()
        || url.password().is_some();
    let rest = if hidden { "/[hidden]" } else { "" };
    format!("{}://{host}{port}{rest}", url.scheme())
}

fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// Names without a dot belong to a container network or a hosts file. The endings are reserved for
/// local use (RFC 6761, 6762, 8375, and ICANN for `internal`).
fn is_public_name(name: &str) -> bool {
    let local_endings = [".localhost", ".local", ".internal", ".home.arpa", ".test"];
    name.contains('.') && !local_endings.iter().any(|ending| name.ends_with(ending))
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    // 100.64.0.0/10, shared address space, which overlay networks use.
    let is_shared = matches!(address.octets(), [100, 64..=127, _, _]);
    !(address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_unspecified()
        || is_shared)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    !(address.is_loopback()
        || address.is_unspecified()
        || address.is_unique_local()
        || address.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(host: &str) -> Url {
        Url::parse(&format!("http://{host}/")).unwrap()
    }

    #[test]
    fn local_hosts_are_not_public() {
        for host in "localhost LOCALHOST. a.localhost 127.0.0.1 127.9.9.9 [::1] 0.0.0.0 \
                     10.0.0.1 172.31.0.1 192.168.1.1 169.254.1.1 100.64.0.1 [fd00::1] \
                     [fe80::1] [::ffff:10.0.0.1] pixtoll nas.local a.internal b.test"
            .split_whitespace()
        {
            assert!(!is_public(&url(host)), "{host}");
        }
        for host in "example.com example.com. localhost.example.com 8.8.8.8 172.32.0.1 \
                     100.128.0.1 [2001:db8::1] [::ffff:8.8.8.8] notlocal.net"
            .split_whitespace()
        {
            assert!(is_public(&url(host)), "{host}");
        }
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for host in "localhost a.localhost 127.0.0.2 [::1] [::ffff:127.0.0.1]".split_whitespace() {
            assert!(is_loopback(&url(host)), "{host}");
        }
        for host in
            "10.0.0.1 0.0.0.0 example.com localhost.example.com [fd00::1]".split_whitespace()
        {
            assert!(!is_loopback(&url(host)), "{host}");
        }
    }

    #[test]
    fn a_redacted_url_keeps_its_host_only() {
        for (text, shown) in [
            ("https://rpc.example.com", "https://rpc.example.com"),
            (
                "https://rpc.example.com/v2/KEY",
                "https://rpc.example.com/[hidden]",
            ),
            (
                "https://rpc.example.com:99/?key=KEY",
                "https://rpc.example.com:99/[hidden]",
            ),
            ("postgres://user:KEY@db/pixtoll", "postgres://db/[hidden]"),
            ("KEY", "[hidden]"),
        ] {
            assert_eq!(redacted(text), shown);
        }
    }
}
