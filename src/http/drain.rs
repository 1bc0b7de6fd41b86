//! Reads the part of a request's body that its handler left unread.
//!
//! A client that sends the whole body before it reads receives the response only if the server
//! takes the body. So the server reads the rest and discards it, within limits of size and time.
//! Past these limits the connection is closed after the response.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpMessage;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{self, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use actix_web::http::{ConnectionType, Method};
use actix_web::middleware::Next;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::Site;
use super::deadlines::Connection;
use super::listener::BodyRequested;
use super::pace::Paced;
use crate::pricing::tiers::Tier;

/// How long reading the rest of a body may take if its length is known.
const REST_TIME: Duration = Duration::from_secs(10);
/// How long reading the rest of a body may take if its length is unknown.
const ENDLESS_TIME: Duration = Duration::from_secs(2);

/// Middleware that reads and discards what the handler left of the body. Nothing is read if the
/// client still waits for `100 Continue`, or if `Content-Length` is more than any tier accepts.
pub(super) async fn drain<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let payload = request.take_payload();
    if matches!(payload, dev::Payload::None) {
        let response = next.call(request).await?;
        return Ok(closing_upgrades(response).map_into_boxed_body());
    }
    let (longest, deadline) = request.app_data::<Site>().map_or((0, REST_TIME), |site| {
        let tiers = site.tiers.now();
        let longest = tiers.iter().map(Tier::longest_body).max().unwrap_or(0);
        (longest, site.config.limits.body_timeout)
    });
    let requested = request.extensions().get::<BodyRequested>().cloned();
    let connection = request.conn_data::<Arc<Connection>>().cloned();
    let announced = announced(&request);
    let body = Body {
        paced: Paced::new(payload, deadline),
        received: 0,
        left: is_unframed(&request).then(|| announced.unwrap_or(0)),
        is_ended: false,
        connection,
    };
    let mut rest = SharedBody(Rc::new(RefCell::new(body)));
    request.set_payload(dev::Payload::Stream {
        payload: Box::pin(rest.clone()),
    });
    let response = next.call(request).await?;
    let is_unrequested = requested.is_some_and(|requested| !requested.is_set());
    if !is_unrequested && announced.is_none_or(|length| length <= longest) {
        let time = announced.map_or(ENDLESS_TIME, |_| REST_TIME);
        let read = rest.read_up_to(longest);
        if tokio::time::timeout(time.min(deadline), read)
            .await
            .is_err()
        {
            tracing::debug!("reading the unused rest of a body timed out");
        }
    }
    Ok(closing_upgrades(response).map_body(|_, body| {
        let body = Box::pin(body);
        BoxBody::new(HoldingBody { body, rest })
    }))
}

/// The length of the body from `Content-Length`, if the header is present and valid.
fn announced(request: &ServiceRequest) -> Option<u64> {
    let length = request.headers().get(CONTENT_LENGTH)?;
    length.to_str().ok()?.trim().parse().ok()
}

/// Whether actix takes everything that follows on the connection for the body. It does so for
/// CONNECT and for `Upgrade: websocket`, which this server doesn't support. Such a body ends where
/// its `Content-Length` says, or is empty without one.
fn is_unframed(request: &ServiceRequest) -> bool {
    let is_chunked = request.headers().contains_key(TRANSFER_ENCODING);
    let mut upgrades = request.headers().get_all(UPGRADE);
    let is_upgrade = upgrades.any(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    !is_chunked && (is_upgrade || *request.method() == Method::CONNECT)
}

/// Closes the connection after the response to an upgrade. actix's `Connection: upgrade` would
/// promise a protocol that this server doesn't support.
fn closing_upgrades<B>(mut response: ServiceResponse<B>) -> ServiceResponse<B> {
    if response.request().head().upgrade() || *response.request().method() == Method::CONNECT {
        let head = response.response_mut().head_mut();
        head.set_connection_type(ConnectionType::Close);
    }
    response
}

/// The body of a request while it arrives.
struct Body {
    paced: Paced,
    /// The number of bytes received so far.
    received: u64,
    /// How many bytes are left of a body whose end actix doesn't recognise (see [`is_unframed`]).
    left: Option<u64>,
    /// Whether the body has ended or failed. actix reports the end only once, so it must not be
    /// polled again.
    is_ended: bool,
    /// The connection, where a malformed body is noted.
    connection: Option<Arc<Connection>>,
}

impl Body {
    /// Polls for the next chunk.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        if self.is_ended || self.left == Some(0) {
            return Poll::Ready(None);
        }
        let Poll::Ready(item) = Pin::new(&mut self.paced).poll_next(context) else {
            return Poll::Pending;
        };
        self.is_ended = !matches!(item, Some(Ok(_)));
        if let (Some(Err(PayloadError::EncodingCorrupted)), Some(connection)) =
            (&item, &self.connection)
        {
            connection.note_broken();
        }
        Poll::Ready(item.map(|chunk| chunk.map(|chunk| self.count(chunk))))
    }

    /// Counts a chunk, and cuts it off at the end of the body.
    fn count(&mut self, mut chunk: Bytes) -> Bytes {
        if let Some(left) = self.left {
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            self.left = Some(left.saturating_sub(length(&chunk)));
        }
        self.received = self.received.saturating_add(length(&chunk));
        chunk
    }
}

/// A body that the handler reads first and [`drain`] after it.
#[derive(Clone)]
struct SharedBody(Rc<RefCell<Body>>);

impl SharedBody {
    /// Reads until the body ends or `longest` bytes were received, those that the handler read
    /// included.
    async fn read_up_to(&mut self, longest: u64) {
        while self.0.borrow().received < longest {
            let Some(Ok(_)) = self.next().await else {
                return;
            };
        }
    }
}

impl Stream for SharedBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.borrow_mut().poll(context)
    }
}

/// A response's body that keeps the request's body until the response is sent. If the request's
/// body is kept and not at its end, actix closes the connection after the response. If it was
/// dropped, actix would continue to read a chunked body, without a limit.
struct HoldingBody<B> {
    body: Pin<Box<B>>,
    #[expect(dead_code, reason = "it is held, not read")]
    rest: SharedBody,
}

impl<B: MessageBody> MessageBody for HoldingBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.body.as_mut().poll_next(context)
    }
}

/// The length of `bytes` as a `u64`.
fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
