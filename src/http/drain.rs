//! What becomes of a body that its handler did not read to its end.
//!
//! A client that sends all of a body before it looks gets to read the answer only if the body was taken, so it is read and
//! forgotten, within bounds of size and time. Past the bounds the answer closes the connection.

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
use super::listener::Asked;
use super::pace::Paced;
use super::watch::Connection;
use crate::tiers::Tier;

/// How long the rest of a body of known length may take.
const REST_TIME: Duration = Duration::from_secs(10);
/// The same where nobody knows how much is still to come.
const ENDLESS_TIME: Duration = Duration::from_secs(2);

/// Reads what a handler left of the body and forgets it. It reads nothing where the client waits for `100 Continue`, nor
/// where more is announced than any tier takes.
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
    let asked = request.extensions().get::<Asked>().cloned();
    let connection = request.conn_data::<Arc<Connection>>().cloned();
    let announced = announced(&request);
    let body = Body {
        paced: Paced::new(payload, deadline),
        received: 0,
        left: is_stream(&request).then(|| announced.unwrap_or(0)),
        is_ended: false,
        connection,
    };
    let mut rest = Shared(Rc::new(RefCell::new(body)));
    request.set_payload(dev::Payload::Stream {
        payload: Box::pin(rest.clone()),
    });
    let response = next.call(request).await?;
    let is_unasked = asked.is_some_and(|asked| !asked.for_body());
    if !is_unasked && announced.is_none_or(|length| length <= longest) {
        let time = announced.map_or(ENDLESS_TIME, |_| REST_TIME);
        let read = rest.read_up_to(longest);
        if tokio::time::timeout(time.min(deadline), read)
            .await
            .is_err()
        {
            tracing::debug!("a body that nobody needs was too slow");
        }
    }
    Ok(closing_upgrades(response).map_body(|_, body| {
        let body = Box::pin(body);
        BoxBody::new(Holding { body, rest })
    }))
}

/// The length that the head announces.
fn announced(request: &ServiceRequest) -> Option<u64> {
    let length = request.headers().get(CONTENT_LENGTH)?;
    length.to_str().ok()?.trim().parse().ok()
}

/// Whether actix takes all that follows on the connection for the body: it does so for CONNECT, and where `Upgrade` asks
/// for WebSocket, which is not spoken here. The body ends where its length says.
fn is_stream(request: &ServiceRequest) -> bool {
    let is_chunked = request.headers().contains_key(TRANSFER_ENCODING);
    let mut upgrades = request.headers().get_all(UPGRADE);
    let is_upgrade = upgrades.any(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    !is_chunked && (is_upgrade || *request.method() == Method::CONNECT)
}

/// `Connection: upgrade` in an answer would promise a protocol that is not spoken here.
fn closing_upgrades<B>(mut response: ServiceResponse<B>) -> ServiceResponse<B> {
    if response.request().head().upgrade() || *response.request().method() == Method::CONNECT {
        let head = response.response_mut().head_mut();
        head.set_connection_type(ConnectionType::Close);
    }
    response
}

/// A body on its way.
struct Body {
    paced: Paced,
    received: u64,
    /// Where the connection doesn't say where the body ends: how much is left of it.
    left: Option<u64>,
    /// There is no more of it, or nothing more that can be read: actix never tells twice.
    is_ended: bool,
    connection: Option<Arc<Connection>>,
}

impl Body {
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

    fn count(&mut self, mut chunk: Bytes) -> Bytes {
        if let Some(left) = self.left {
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            self.left = Some(left.saturating_sub(length(&chunk)));
        }
        self.received = self.received.saturating_add(length(&chunk));
        chunk
    }
}

/// A body that two read, one after the other.
#[derive(Clone)]
struct Shared(Rc<RefCell<Body>>);

impl Shared {
    /// Reads until so much of it was received in all, by whomever.
    async fn read_up_to(&mut self, longest: u64) {
        while self.0.borrow().received < longest {
            let Some(Ok(_)) = self.next().await else {
                return;
            };
        }
    }
}

impl Stream for Shared {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.borrow_mut().poll(context)
    }
}

/// An answer that holds the body of its request until it is sent. actix closes the connection after an answer whose
/// request's body is held and not at its end; of a dropped body in chunks it would read on, for as long as it comes.
struct Holding<B> {
    body: Pin<Box<B>>,
    #[expect(dead_code, reason = "it is held, not read")]
    rest: Shared,
}

impl<B: MessageBody> MessageBody for Holding<B> {
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

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
