//! Fetches an image from a web address on the user's machine, so that it can be uploaded like a file. The server
//! judges what was fetched; this module bounds size, time and redirects.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, LOCATION};
use url::{Host, Url};

use super::{Failure, transport};
use crate::system::addresses::{is_global_v4, is_global_v6};

/// The most redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// The time limit for one address and its body.
const FETCH_TIMEOUT: Duration = Duration::from_mins(2);

/// The bounds of a fetch.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<'b> {
    /// The largest body in bytes.
    pub most: u64,
    /// What sets that limit, for the message, such as `the limit of the tier year`.
    pub set_by: &'b str,
    /// Whether the address may be one of this machine or of a private network. A redirect from a public address to
    /// such an address is refused in any case.
    pub local: bool,
}

/// Fetches the body at `url`.
///
/// # Errors
/// [`Failure::Usage`] when the address is unsuitable, refuses, redirects too often or to a forbidden address, or has a
/// body larger than the bound; [`Failure::Unavailable`] when it can't be reached or fails.
pub async fn fetch(
    url: &Url,
    bounds: Bounds<'_>,
    env: &BTreeMap<String, String>,
) -> Result<Bytes, Failure> {
    let mut url = url.clone();
    check(&url)?;
    let mut local = bounds.local;
    for hop in 0..=MAX_REDIRECTS {
        let reached = reach(&url, env).await?;
        if reached.is_local && !local {
            return Err(Failure::Usage(if hop == 0 {
                format!(
                    "{} is an address of this machine or of a private network, which isn't fetched. Give a public address.",
                    shown(&url)
                )
            } else {
                format!(
                    "The address redirects to {}, an address of this machine or of a private network. If you trust it, \
                     give that address itself.",
                    shown(&url)
                )
            }));
        }
        // A public address must not lead to a private one; a private one may lead anywhere.
        local = reached.is_local;
        let response = ask(&url, reached, env).await?;
        match redirect(&url, &response)? {
            Some(next) => url = next,
            None => return read(&url, response, bounds).await,
        }
    }
    Err(Failure::Usage(format!(
        "The address redirects more than {MAX_REDIRECTS} times, which is the limit. Give the image's own address."
    )))
}

/// Rejects what isn't a web address, and a password in it.
fn check(url: &Url) -> Result<(), Failure> {
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(Failure::Usage(format!(
            "{} has the scheme {}, and only http and https addresses are fetched. Give such an address, or a file.",
            shown(url),
            url.scheme()
        )));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Failure::Usage(format!(
            "{} has a user or a password, which isn't sent. Download the image with another program, and upload the file.",
            shown(url)
        )));
    }
    Ok(())
}

/// An address without user, query and fragment, which may hold secrets.
fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}"));
    let port = port.unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

/// Where a URL leads.
struct Reached {
    is_local: bool,
    /// The addresses of the host's name. The connection uses these, so that a second look-up can't give others.
    addresses: Vec<SocketAddr>,
}

async fn reach(url: &Url, env: &BTreeMap<String, String>) -> Result<Reached, Failure> {
    let literal = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        Some(Host::Domain(_)) | None => None,
    };
    if let Some(address) = literal {
        return Ok(Reached {
            is_local: is_local(address),
            addresses: Vec::new(),
        });
    }
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    let addresses: Vec<SocketAddr> = match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => addresses.collect(),
        // Behind a proxy the machine itself may know no public names.
        Err(_) if url.scheme() == "https" && transport::has_proxy(env) => Vec::new(),
        Err(error) => {
            return Err(Failure::Unavailable(format!(
                "The host {host} can't be found ({error}): check the address."
            )));
        }
    };
    Ok(Reached {
        is_local: addresses.iter().any(|address| is_local(address.ip())),
        addresses,
    })
}

async fn ask(
    url: &Url,
    reached: Reached,
    env: &BTreeMap<String, String>,
) -> Result<reqwest::Response, Failure> {
    let mut builder = transport::builder(env)?;
    if let (Some(Host::Domain(name)), false) = (url.host(), reached.addresses.is_empty()) {
        builder = builder.resolve_to_addrs(name, &reached.addresses);
    }
    let http = builder
        .build()
        .map_err(|error| Failure::Unexpected(error.to_string()))?;
    let asked = http
        .get(url.clone())
        .header(ACCEPT, "image/*")
        .timeout(FETCH_TIMEOUT);
    asked.send().await.map_err(|error| broken(url, &error))
}

/// Where a response redirects to; `None` for any other response.
fn redirect(url: &Url, response: &reqwest::Response) -> Result<Option<Url>, Failure> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION);
    let next = location
        .and_then(|value| url.join(value.to_str().ok()?).ok())
        .ok_or_else(|| {
            Failure::Usage(format!(
                "{} redirects without a valid address. Give the image's own address.",
                shown(url)
            ))
        })?;
    check(&next)?;
    if url.scheme() == "https" && next.scheme() != "https" {
        return Err(Failure::Usage(format!(
            "{} redirects to {}, which isn't encrypted. If you trust it, give that address itself.",
            shown(url),
            shown(&next)
        )));
    }
    Ok(Some(next))
}

async fn read(
    url: &Url,
    mut response: reqwest::Response,
    bounds: Bounds<'_>,
) -> Result<Bytes, Failure> {
    let status = response.status().as_u16();
    if status != 200 {
        let text = format!(
            "{} can't be fetched: the response has status {status}.",
            shown(url)
        );
        return Err(match status {
            429 | 500..=599 => Failure::Unavailable(text),
            _ => Failure::Usage(format!("{text} Check the address.")),
        });
    }
    let too_large = || {
        Failure::Usage(format!(
            "{} is larger than {} bytes, {}. Use a smaller image, or a tier with a higher limit.",
            shown(url),
            bounds.most,
            bounds.set_by
        ))
    };
    if response
        .content_length()
        .is_some_and(|length| length > bounds.most)
    {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| broken(url, &error))?
    {
        let length = u64::try_from(body.len() + chunk.len()).unwrap_or(u64::MAX);
        if length > bounds.most {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn broken(url: &Url, error: &reqwest::Error) -> Failure {
    let what = if error.is_timeout() {
        "it took longer than 2 minutes, which is the limit"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke"
    };
    Failure::Unavailable(format!("{} can't be fetched: {what}.", shown(url)))
}

/// Whether an address belongs to this machine, to a private network or to no host at all. An address
/// that holds an IPv4 address is what that one is: on a machine without IPv4, NAT64 makes such
/// addresses for public hosts.
pub fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !is_global_v4(address),
        IpAddr::V6(address) => match held_address(address) {
            Some(inner) => !is_global_v4(inner),
            None => !is_global_v6(address),
        },
    }
}

/// The IPv4 address at the end of a mapped or compatible address, or of one of NAT64.
fn held_address(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let is_nat64 = segments.starts_with(&[0x64, 0xff9b]);
    let is_compatible = segments.iter().take(6).all(|segment| *segment == 0);
    let mapped = address.to_ipv4_mapped();
    mapped.or_else(|| (is_nat64 || is_compatible).then(|| last_four(address)))
}

fn last_four(address: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::scripted::{Scripted, Step, answers, hangs_up};

    async fn fetched(path: &str, steps: Vec<Step>, most: u64) -> Result<Bytes, Failure> {
        drop(rustls::crypto::ring::default_provider().install_default());
        let server = Scripted::start(steps);
        let url = Url::parse(&format!("{}/{path}", server.url)).unwrap();
        let bounds = Bounds {
            most,
            set_by: "the limit of the tier year",
            local: true,
        };
        fetch(&url, bounds, &BTreeMap::new()).await
    }

    fn moved(to: &str) -> Step {
        answers(302, &json!({})).with("Location", to)
    }

    #[tokio::test]
    async fn a_body_of_exactly_the_limit_is_fetched_and_a_longer_one_is_not() {
        let body = json!("12345678");
        let got = fetched("a.png", vec![answers(200, &body)], 10).await;
        assert_eq!(got.unwrap(), "\"12345678\"");
        let error = fetched("a.png?key=secret", vec![answers(200, &body)], 9).await;
        let error = error.unwrap_err();
        assert!(matches!(error, Failure::Usage(_)));
        let text = error.to_string();
        assert!(
            text.contains("larger than 9 bytes, the limit of the tier year"),
            "{text}"
        );
        assert!(!text.contains("secret"), "{text}");
    }

    #[tokio::test]
    async fn five_redirects_are_followed_and_six_are_not() {
        let hops = |count| {
            let mut steps: Vec<Step> = (0..count).map(|_| moved("/next")).collect();
            steps.push(answers(200, &json!(1)));
            steps
        };
        assert_eq!(fetched("a", hops(5), 10).await.unwrap(), "1");
        let error = fetched("a", hops(6), 10).await.unwrap_err().to_string();
        assert!(error.contains("more than 5 times"), "{error}");
        for bad in [
            "ftp://example.com/a",
            "http://u:p@127.0.0.1/a",
            "file:///etc/passwd",
        ] {
            let error = fetched("a", vec![moved(bad)], 10).await.unwrap_err();
            assert!(matches!(error, Failure::Usage(_)), "{bad}: {error}");
        }
    }

    #[tokio::test]
    async fn refusals_are_usage_errors_and_failures_are_temporary() {
        for (step, is_usage) in [
            (answers(404, &json!({})), true),
            (answers(206, &json!({})), true),
            (answers(503, &json!({})), false),
            (answers(429, &json!({})), false),
            (hangs_up(), false),
        ] {
            let error = fetched("a", vec![step], 10).await.unwrap_err();
            let got = matches!(error, Failure::Usage(_));
            assert_eq!(got, is_usage, "{error}");
        }
    }

    #[tokio::test]
    async fn a_private_address_is_fetched_only_where_it_may_be() {
        drop(rustls::crypto::ring::default_provider().install_default());
        let server = Scripted::start([answers(200, &json!(1))]);
        let port = Url::parse(&server.url).unwrap().port().unwrap();
        for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
            let url = Url::parse(&format!("http://{host}:{port}/a")).unwrap();
            let bounds = Bounds {
                most: 10,
                set_by: "",
                local: false,
            };
            let error = fetch(&url, bounds, &BTreeMap::new()).await.unwrap_err();
            assert!(error.to_string().contains("private network"), "{error}");
        }
        assert!(server.seen().is_empty());
    }

    #[test]
    fn local_addresses_are_recognised_in_every_spelling() {
        for text in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "::10.0.0.1",
            "2002:a00:1::1",
            "2001::1",
        ] {
            assert!(is_local(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "100.128.0.1",
            "172.32.0.1",
            "2606:4700::1111",
            "64:ff9b::101:101",
            "::ffff:1.1.1.1",
        ] {
            assert!(!is_local(text.parse().unwrap()), "{text}");
        }
    }
}
