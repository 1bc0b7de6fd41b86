//! The client's HTTP transport: URLs, the https client, and reading responses with a size limit.

use std::collections::BTreeMap;
use std::time::Duration;

use url::{Host, Url};

use super::answer::{Answer, MAX_ANSWER_BYTES, Reply};
use super::{Failure, Purpose};
use crate::pricing::tiers::TierName;

/// The variables that name the proxy for https.
const HTTPS_PROXY: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
/// How long a connection may take to be established.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTP client that follows no redirects: a redirect would send the payment to another address.
///
/// # Errors
/// [`Failure::Usage`] when the proxy of the environment is invalid.
pub(super) fn http(env: &BTreeMap<String, String>) -> Result<reqwest::Client, Failure> {
    builder(env)?
        .build()
        .map_err(|error| Failure::Unexpected(error.to_string()))
}

/// The settings of every HTTP client here: no redirects, and the proxy of the environment for https.
///
/// # Errors
/// [`Failure::Usage`] when that proxy is invalid.
pub(super) fn builder(env: &BTreeMap<String, String>) -> Result<reqwest::ClientBuilder, Failure> {
    let mut http = reqwest::Client::builder()
        .user_agent(concat!("pixtoll/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .no_proxy();
    if let Some(proxy) = proxy(env)? {
        http = http.proxy(proxy);
    }
    Ok(http)
}

/// Reads a response. [`Answer::Lost`] when it breaks off or exceeds [`MAX_ANSWER_BYTES`], because an incomplete
/// response decides nothing.
pub(super) async fn read(mut response: reqwest::Response) -> Answer {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER_BYTES => {
                body.extend_from_slice(&chunk);
            }
            Ok(None) => break,
            Ok(Some(_)) | Err(_) => return Answer::Lost,
        }
    }
    Answer::Reply(Reply::new(
        response.status().as_u16(),
        response.headers(),
        &body,
    ))
}

/// The URL of the operation. A payment's header is never sent over a network without TLS.
///
/// # Errors
/// [`Failure::Usage`] for an unsuitable server URL or tier.
pub(super) fn endpoint(server: &Url, purpose: &Purpose) -> Result<Url, Failure> {
    let is_unpaid =
        matches!(purpose, Purpose::Upload(tier) | Purpose::Import { tier, .. } if is_free(tier));
    if !is_unpaid && is_open(server) {
        return Err(usage(
            "this URL is http, and payments are sent over https only, except to this machine. Use an https URL.",
        ));
    }
    if let Purpose::Upload(tier)
    | Purpose::Tokens { tier, .. }
    | Purpose::Link { tier, .. }
    | Purpose::Import { tier, .. } = purpose
        && tier.as_str() == "token"
    {
        return Err(Failure::Usage(
            "--tier: \"token\" is the name of a route, so no tier has it. The server lists its tiers at /api/tiers."
                .to_owned(),
        ));
    }
    match purpose {
        Purpose::Upload(tier) if is_free(tier) => below(server, &["api", "free"]),
        Purpose::Upload(tier) => below(server, &["api", "upload", tier.as_str()]),
        Purpose::Tokens { tier, images } => {
            let mut url = below(server, &["api", "upload", "token", tier.as_str()])?;
            url.query_pairs_mut()
                .append_pair("images", &images.to_string());
            Ok(url)
        }
        Purpose::Link { tier, images, days } => {
            let mut url = below(server, &["api", "links"])?;
            url.query_pairs_mut()
                .append_pair("images", &images.to_string())
                .append_pair("days", &days.to_string())
                .append_pair("tier", tier.as_str());
            Ok(url)
        }
        Purpose::Import { .. } => below(server, &["api", "import"]),
        Purpose::Renew { image, tier } => {
            let mut url = below(server, &["api", "images", image.as_str(), "renew"])?;
            if let Some(tier) = tier {
                url.query_pairs_mut().append_pair("tier", tier.as_str());
            }
            Ok(url)
        }
    }
}

/// The URL of a route at which a wallet may sign in or a delete token is sent. Neither is ever sent over a network
/// without TLS.
///
/// # Errors
/// [`Failure::Usage`] for an unsuitable server URL.
pub(super) fn signed(server: &Url, route: &[&str]) -> Result<Url, Failure> {
    if is_open(server) {
        return Err(usage(
            "this URL is http, and signed messages and tokens are sent over https only, except to this machine. Use an https URL.",
        ));
    }
    below(server, route)
}

/// An upload link, whose path is a secret. It is never sent over a network without TLS.
///
/// # Errors
/// [`Failure::Usage`] for an unsuitable URL. The message doesn't repeat it.
pub(super) fn secret(link: &Url) -> Result<Url, Failure> {
    let is_web = matches!(link.scheme(), "http" | "https") && link.host().is_some();
    if !is_web || !link.username().is_empty() || link.password().is_some() {
        return Err(Failure::Usage(
            "This is not an upload link. Give one such as https://img.example.com/u/SECRET."
                .to_owned(),
        ));
    }
    if is_open(link) {
        return Err(Failure::Usage(
            "This upload link is http, and it is a secret that is sent over https only, except to this machine. Use the              https link."
                .to_owned(),
        ));
    }
    Ok(link.clone())
}

/// Whether what is sent to this URL can be read on a network.
fn is_open(url: &Url) -> bool {
    url.scheme() == "http" && !is_loopback(url)
}

/// A failure about `--server`. Its message doesn't repeat the URL, which may hold a password.
fn usage(text: &str) -> Failure {
    Failure::Usage(format!("--server: {text}"))
}

/// The URL of a route below the server's base URL.
pub(super) fn below(server: &Url, route: &[&str]) -> Result<Url, Failure> {
    let is_plain = server.username().is_empty()
        && server.password().is_none()
        && server.query().is_none()
        && server.fragment().is_none();
    if !matches!(server.scheme(), "http" | "https") || !is_plain {
        return Err(usage(
            "this is not a base URL. Give scheme, host and optionally a path, such as https://img.example.com, without \
             user, query or fragment.",
        ));
    }
    let mut url = server.clone();
    {
        let mut path = url.path_segments_mut().map_err(|()| {
            usage("this URL can't have a path. Use one such as https://img.example.com.")
        })?;
        path.pop_if_empty();
        path.extend(route);
    }
    Ok(url)
}

/// Whether a tier needs no payment.
pub(super) fn is_free(tier: &TierName) -> bool {
    tier.as_str() == "free"
}

fn is_loopback(server: &Url) -> bool {
    match server.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether the environment names a proxy for https.
pub(super) fn has_proxy(env: &BTreeMap<String, String>) -> bool {
    set(env, HTTPS_PROXY).is_some()
}

/// The first of these variables that is set and not empty.
fn set<'e>(env: &'e BTreeMap<String, String>, names: [&str; 2]) -> Option<&'e String> {
    names
        .iter()
        .find_map(|name| env.get(*name))
        .filter(|value| !value.is_empty())
}

/// The proxy of the environment, for https only: TLS hides the payment from it.
fn proxy(env: &BTreeMap<String, String>) -> Result<Option<reqwest::Proxy>, Failure> {
    let Some(address) = set(env, HTTPS_PROXY) else {
        return Ok(None);
    };
    let proxy = reqwest::Proxy::https(address)
        .map_err(|_| {
            Failure::Usage(
                "HTTPS_PROXY is not the URL of a proxy: set it to one such as http://proxy.example.com:3128, or unset it."
                    .to_owned(),
            )
        })?;
    let except =
        set(env, ["NO_PROXY", "no_proxy"]).and_then(|list| reqwest::NoProxy::from_string(list));
    Ok(Some(proxy.no_proxy(except)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::ImageId;

    fn address(server: &str, tier: &str) -> Result<String, Failure> {
        let server = Url::parse(server).unwrap();
        let purpose = Purpose::Upload(TierName::parse(tier).unwrap());
        endpoint(&server, &purpose).map(String::from)
    }

    #[test]
    fn each_operation_has_its_route() {
        let server = Url::parse("https://a.example/img").unwrap();
        let tier = TierName::parse("year").unwrap();
        let image = ImageId::parse("k3v9Qw2mZr7T").unwrap();
        let renew = |tier| Purpose::Renew {
            image: image.clone(),
            tier,
        };
        for (purpose, route) in [
            (
                Purpose::Tokens {
                    tier: tier.clone(),
                    images: 3,
                },
                "upload/token/year?images=3",
            ),
            (
                Purpose::Link {
                    tier: tier.clone(),
                    images: 10,
                    days: 30,
                },
                "links?images=10&days=30&tier=year",
            ),
            (renew(None), "images/k3v9Qw2mZr7T/renew"),
            (renew(Some(tier)), "images/k3v9Qw2mZr7T/renew?tier=year"),
        ] {
            let url = endpoint(&server, &purpose).unwrap();
            assert_eq!(url.as_str(), format!("https://a.example/img/api/{route}"));
            let clear = Url::parse("http://a.example").unwrap();
            assert!(matches!(endpoint(&clear, &purpose), Err(Failure::Usage(_))));
        }
    }

    #[test]
    fn a_server_url_may_have_a_path() {
        for server in ["https://a.example/img", "https://a.example/img/"] {
            assert_eq!(
                address(server, "free").unwrap(),
                "https://a.example/img/api/free"
            );
            assert_eq!(
                address(server, "year").unwrap(),
                "https://a.example/img/api/upload/year"
            );
        }
        assert_eq!(
            address("http://a.example", "free").unwrap(),
            "http://a.example/api/free"
        );
    }

    #[test]
    fn payments_without_tls_go_to_this_machine_only() {
        for server in [
            "http://localhost",
            "http://127.9.9.9:1",
            "http://[::1]:1",
            "https://a.example",
        ] {
            assert!(address(server, "year").is_ok(), "{server}");
        }
        for server in [
            "http://a.example",
            "http://localhost.a.example",
            "http://10.0.0.1",
            "http://[::2]",
        ] {
            assert!(
                matches!(address(server, "year"), Err(Failure::Usage(_))),
                "{server}"
            );
        }
    }
}
