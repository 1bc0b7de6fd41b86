//! Fetches an image from a URL that a client named, without becoming a way into the operator's
//! network or a weapon against others.
//!
//! A target is checked by its text (`target`), its host is resolved, and every address has to be
//! public (`names`). The connection goes to an address that was checked (`connection`), and each
//! redirect starts anew. What one host receives is bounded (`hosts`). This folder decides nothing
//! about images, payments or clients.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, LAST_MODIFIED, LOCATION,
};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use ipnet::IpNet;
use rustls::ClientConfig;
use rustls_platform_verifier::ConfigVerifierExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::keys::secrets::sha256_hex;
use crate::model::refresh::Validators;

mod connection;
mod error;
mod hosts;
mod names;
mod target;

use connection::{Connector, Received};
pub use error::{FetchError, FetchFailure, NotAllowed};
use hosts::{Hosts, Turn};
pub use names::{Names, SystemNames};
pub use target::Target;

/// How long one fetch may take in all, with every redirect and the body.
pub const FETCH_TIME: Duration = Duration::from_secs(10);
/// The longest `ETag` or `Last-Modified` that is remembered, in bytes.
const LONGEST_VALIDATOR: usize = 256;
/// The most redirects that are followed.
pub const MAX_REDIRECTS: usize = 3;

/// What may be fetched.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Whether anything may be fetched.
    pub enabled: bool,
    /// The ports that are connected to.
    pub ports: Vec<u16>,
    /// Addresses that are connected to although they are not public.
    pub allow: Vec<IpNet>,
    /// Fetches from one host in a minute; 0: no limit.
    pub per_host_per_minute: u64,
}

/// Fetches images for a deployment.
#[derive(Debug)]
pub struct Fetcher {
    rules: Rules,
    names: Arc<dyn Names>,
    connector: Connector,
    hosts: Hosts,
}

/// What a host returned.
#[derive(Debug)]
pub enum Response {
    /// An image, maybe.
    Image(Fetched),
    /// The image is the one of the validators that were sent.
    Same,
}

/// An image whose bytes arrive.
#[derive(Debug)]
pub struct Fetched {
    body: Incoming,
    /// Proof of these bytes, for the next request.
    pub validators: Validators,
    /// The length of the body, if the host announced it.
    pub announced: Option<u64>,
    ends: Instant,
    _connection: JoinSet<()>,
    _turn: Turn,
}

impl Fetcher {
    /// Creates a fetcher. `base_url` names this server to the hosts that it fetches from. On a
    /// machine without root certificates it fetches by http only.
    pub fn new(rules: Rules, names: Arc<dyn Names>, base_url: &str) -> Self {
        let hosts = Hosts::new(rules.per_host_per_minute);
        let version = env!("CARGO_PKG_VERSION");
        let tls = match ClientConfig::with_platform_verifier() {
            Ok(config) => Some(Arc::new(config)),
            Err(error) => {
                tracing::warn!(%error, "this machine has no root certificates: images are imported from http addresses only");
                None
            }
        };
        Self {
            rules,
            names,
            connector: Connector {
                tls,
                user_agent: format!("pixtoll/{version} (+{base_url})"),
            },
            hosts,
        }
    }

    /// Whether the rules allow to fetch anything.
    ///
    /// # Errors
    /// [`FetchError::Disabled`].
    pub const fn is_open(&self) -> Result<(), FetchError> {
        if self.rules.enabled {
            Ok(())
        } else {
            Err(FetchError::Disabled)
        }
    }

    /// Checks a URL as far as that needs no network.
    ///
    /// # Errors
    /// [`FetchError::Disabled`] and [`FetchError::NotAllowed`].
    pub fn target(&self, url: &str) -> Result<Target, FetchError> {
        self.is_open()?;
        let target = Target::parse(url, &self.rules.ports)?;
        match target.host() {
            Ok(literal) if !names::may_reach(literal, &self.rules.allow) => {
                Err(NotAllowed::Address.into())
            }
            _ => Ok(target),
        }
    }

    /// Requests a target and follows its redirects. `known` are the validators of an earlier
    /// response: they are sent to the URL that they came from alone. The body is read by
    /// [`Fetched::next`], within the same [`FETCH_TIME`].
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn open(&self, target: &Target, known: &Validators) -> Result<Response, FetchError> {
        let ends = Instant::now() + FETCH_TIME;
        let opened = timeout_at(ends, self.follow(target.clone(), known, ends)).await;
        opened.unwrap_or(Err(FetchError::Failed(FetchFailure::TooSlow)))
    }

    async fn follow(
        &self,
        mut target: Target,
        known: &Validators,
        ends: Instant,
    ) -> Result<Response, FetchError> {
        let (names, allow) = (&*self.names, &self.rules.allow);
        for hops in 0..=MAX_REDIRECTS {
            let addresses = names::addresses(&target, names, allow).await;
            let addresses = addresses.map_err(|reason| FetchError::after(hops, reason))?;
            let turn = self.hosts.enter(&addresses, Instant::now())?;
            let url_sha256 = sha256_hex(target.as_str().as_bytes());
            let known = Some(known).filter(|it| !it.is_empty() && it.url_sha256 == url_sha256);
            let received = self.connector.get(&target, known, &addresses).await?;
            if known.is_some() && received.response.status() == StatusCode::NOT_MODIFIED {
                return Ok(Response::Same);
            }
            let Some(location) = redirect(&received)? else {
                return accept(received, url_sha256, turn, ends).map(Response::Image);
            };
            let next = target.join(location, &self.rules.ports);
            target = next.map_err(|reason| FetchError::after(hops + 1, reason))?;
        }
        Err(FetchFailure::TooManyRedirects.into())
    }
}

/// Where a response redirects to; `None` for any other response.
fn redirect(received: &Received) -> Result<Option<&str>, FetchFailure> {
    if !matches!(
        received.response.status().as_u16(),
        301 | 302 | 303 | 307 | 308
    ) {
        return Ok(None);
    }
    let location = received.response.headers().get(LOCATION);
    let location = location.and_then(|value| value.to_str().ok());
    location.map(Some).ok_or(FetchFailure::BadRedirect)
}

/// Accepts a response whose body may be the image.
fn accept(
    received: Received,
    url_sha256: String,
    turn: Turn,
    ends: Instant,
) -> Result<Fetched, FetchError> {
    let Received {
        response,
        connection,
    } = received;
    if response.status() != StatusCode::OK {
        return Err(FetchFailure::Status(response.status().as_u16()).into());
    }
    let codings = response.headers().get_all(CONTENT_ENCODING).iter();
    if codings
        .into_iter()
        .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Err(FetchFailure::Encoded.into());
    }
    let announced = response.headers().get(CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
    let validators = Validators {
        etag: validator(response.headers(), &ETAG),
        last_modified: validator(response.headers(), &LAST_MODIFIED),
        url_sha256,
    };
    Ok(Fetched {
        body: response.into_body(),
        validators,
        announced,
        ends,
        _connection: connection,
        _turn: turn,
    })
}

/// The value of a header that proves content; `None`: it is missing, no text, or too long.
fn validator(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    let is_fit = !value.is_empty() && value.len() <= LONGEST_VALIDATOR;
    is_fit.then(|| value.to_owned())
}

impl Fetched {
    /// The next bytes of the body; `None` at its end.
    ///
    /// # Errors
    /// [`FetchFailure::TooSlow`] and [`FetchFailure::Broken`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchFailure> {
        loop {
            let frame = timeout_at(self.ends, self.body.frame()).await;
            let frame = frame.map_err(|_| FetchFailure::TooSlow)?;
            let Some(frame) = frame.transpose().map_err(|_| FetchFailure::Broken)? else {
                return Ok(None);
            };
            // Trailers are no part of the image.
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

#[cfg(test)]
mod tests;
