//! One request over one connection, to an address that was checked. There is no pool, no proxy, no
//! cookie and no decompression; the head of the response is bounded.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH, USER_AGENT,
};
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::error::FetchFailure;
use super::target::Target;
use crate::model::refresh::Validators;

/// How long one address may take to accept a connection, if the host has another one.
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// The longest head of a response, in bytes.
const LONGEST_HEAD: usize = 32 * 1024;
/// The most header fields of a response.
const MOST_FIELDS: usize = 100;
/// The formats that an upload may have.
const FORMATS: &str = "image/png, image/jpeg, image/gif, image/webp";

/// A response whose body is not read yet. Dropping it closes the connection.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) response: Response<Incoming>,
    pub(super) connection: JoinSet<()>,
}

/// What every request of this server says.
#[derive(Debug)]
pub(super) struct Connector {
    /// `None`: no certificate can be checked.
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) user_agent: String,
}

impl Connector {
    /// Requests a target from the first of these addresses that accepts a connection. `known` are
    /// the validators of the content that this server has from this target.
    pub(super) async fn get(
        &self,
        target: &Target,
        known: Option<&Validators>,
        addresses: &[IpAddr],
    ) -> Result<Received, FetchFailure> {
        let stream = connect(addresses, target.port()).await?;
        if !target.is_tls() {
            return self.request(target, known, stream).await;
        }
        let name = match target.host() {
            Ok(address) => ServerName::from(address),
            Err(name) => ServerName::try_from(name.trim_end_matches('.').to_owned())
                .map_err(|_| FetchFailure::Tls)?,
        };
        let tls = self.tls.as_ref().ok_or(FetchFailure::Tls)?;
        let connector = TlsConnector::from(Arc::clone(tls));
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|error| match error.get_ref() {
            Some(inner) if inner.is::<rustls::Error>() => FetchFailure::Tls,
            _ => FetchFailure::Broken,
        })?;
        self.request(target, known, stream).await
    }

    async fn request(
        &self,
        target: &Target,
        known: Option<&Validators>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Received, FetchFailure> {
        let broken = |_| FetchFailure::Broken;
        let handshake = http1::Builder::new()
            .max_buf_size(LONGEST_HEAD)
            .max_headers(MOST_FIELDS)
            .handshake(TokioIo::new(stream));
        let (mut sender, driver) = handshake.await.map_err(broken)?;
        let mut connection = JoinSet::new();
        connection.spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "the connection to an image's host ended");
            }
        });
        let mut request = Request::get(target.path())
            .header(HOST, target.authority())
            .header(USER_AGENT, &self.user_agent)
            .header(ACCEPT, FORMATS)
            .header(ACCEPT_ENCODING, "identity")
            .header(CONNECTION, "close");
        // A host that compares tags ignores the date (RFC 9110, section 13.1.3).
        for (name, value) in [
            (IF_NONE_MATCH, known.and_then(|it| it.etag.as_ref())),
            (
                IF_MODIFIED_SINCE,
                known.and_then(|it| it.last_modified.as_ref()),
            ),
        ] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|_| FetchFailure::Broken)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        Ok(Received {
            response,
            connection,
        })
    }
}

/// Connects to the first of these addresses that accepts it.
async fn connect(addresses: &[IpAddr], port: u16) -> Result<TcpStream, FetchFailure> {
    for address in addresses {
        let address = SocketAddr::new(*address, port);
        if let Ok(Ok(stream)) = timeout(CONNECT_TIME, TcpStream::connect(address)).await {
            return Ok(stream);
        }
    }
    Err(FetchFailure::NoConnection)
}
