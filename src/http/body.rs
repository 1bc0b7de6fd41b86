//! Bodies: every form in which an image may come, read within bounds.
//!
//! Bytes are counted here as they arrive; no library's limit is relied on.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{self, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use actix_web::middleware::Next;
use actix_web::web::Payload;
use actix_web::{HttpMessage, HttpRequest};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::base64_body::{self, NotBase64};
use super::error::ApiError;
use super::pace::{Paced, is_too_slow};
use super::payloads::{Payloads, Pieces};
use super::{Site, limits};
use crate::images::Refusal;
use crate::images::format::FormatError;
use crate::limits::{Limited, Room};
use crate::pages::Buffer;
use crate::tiers::{FORM_OVERHEAD, Tier, longest_body};

/// A form has one file and a few fields.
const MAX_PARTS: usize = 64;
/// How long a body may take that nobody needs.
const DISCARD_TIME: Duration = Duration::from_secs(10);

/// The tier whose limits a body is read by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit<'a> {
    pub(super) tier: &'a str,
    pub(super) max_bytes: u64,
}

impl Limit<'_> {
    fn body(&self) -> u64 {
        longest_body(self.max_bytes)
    }

    fn refuse(&self, bytes: u64, at_least: bool) -> Refusal {
        let (limit, tier) = (self.max_bytes, self.tier.to_owned());
        Refusal::TooLarge {
            bytes,
            at_least,
            limit,
            tier,
        }
    }
}

/// Reads what a handler left of the body and forgets it, within bounds: a client that sends all of it
/// before it looks gets to read the answer, and may go on with the connection. Past the bounds the
/// connection is left to be closed.
pub(super) async fn drain(
    mut request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let longest = request.app_data::<Site>().map_or(0, |site| {
        let tiers = site.tiers.now();
        tiers.iter().map(Tier::longest_body).max().unwrap_or(0)
    });
    let deadline = request
        .app_data::<Site>()
        .map_or(DISCARD_TIME, |site| site.config.limits.body_timeout);
    let body = Paced::new(request.take_payload(), deadline);
    let mut rest = Shared(Rc::new(RefCell::new(body)));
    request.set_payload(dev::Payload::Stream {
        payload: Box::pin(Shared(Rc::clone(&rest.0))),
    });
    let response = next.call(request).await?;
    let read = async {
        let mut left = longest;
        while let Some(Ok(chunk)) = rest.next().await {
            left = left.saturating_sub(length(&chunk));
            if left == 0 {
                return;
            }
        }
    };
    if tokio::time::timeout(DISCARD_TIME.min(deadline), read)
        .await
        .is_err()
    {
        tracing::debug!("a body that nobody needs was too slow");
    }
    Ok(response)
}

/// A body that two read, one after the other.
struct Shared(Rc<RefCell<Paced>>);

impl Stream for Shared {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(context)
    }
}

/// Why there are no bytes of an image.
#[derive(Debug)]
pub(super) enum Unread {
    /// The body holds none, or more than the tier takes.
    Refused(Refusal),
    /// There is no room for it just now.
    Limited(Limited),
}

impl From<Refusal> for Unread {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Limited> for Unread {
    fn from(limited: Limited) -> Self {
        Self::Limited(limited)
    }
}

impl Unread {
    /// What the client hears, where no payment decides that.
    pub(super) fn of(self, request: &HttpRequest) -> ApiError {
        match self {
            Self::Refused(refusal) => refusal.into(),
            Self::Limited(limited) => limits::refuse(request, limited),
        }
    }
}

/// The image that came in a body, and the room that it takes among all bodies.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) bytes: Bytes,
    pub(super) room: Room,
}

/// The image in a body, whichever form it has.
pub(super) async fn read_image(
    site: &Site,
    request: &HttpRequest,
    payload: Payload,
    limit: Limit<'_>,
) -> Result<Arrived, Unread> {
    if header(request, CONTENT_ENCODING)
        .is_some_and(|coding| !coding.eq_ignore_ascii_case("identity"))
    {
        let message = "Send the body without Content-Encoding: images are compressed already.";
        return Err(bad(message).into());
    }
    let kind = header(request, CONTENT_TYPE)
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase();
    let mut incoming = Incoming {
        payload,
        announced: header(request, CONTENT_LENGTH).and_then(|length| length.parse().ok()),
        limit,
        room: site.limits.begin_body(),
    };
    if kind.starts_with("multipart/form-data") {
        let boundary = multer::parse_boundary(header(request, CONTENT_TYPE).unwrap_or(""));
        let boundary =
            boundary.map_err(|_| bad("The multipart body has no boundary in its Content-Type."))?;
        let body = incoming.read(limit.max_bytes + FORM_OVERHEAD).await?;
        let bytes = read_form(body.freeze(), &boundary, limit).await?;
        return Ok(incoming.arrived(bytes));
    }
    if kind.starts_with("application/json") {
        let body = incoming.read(limit.body()).await?;
        return Ok(incoming.arrived(read_json(body, limit)?));
    }
    if kind.starts_with("image/") {
        let body = incoming.read(limit.max_bytes).await?;
        return Ok(incoming.arrived(body.freeze()));
    }
    incoming.read(limit.body()).await?;
    Err(Refusal::NoFile.into())
}

/// A body that is going to be read.
struct Incoming<'a> {
    payload: Payload,
    announced: Option<u64>,
    limit: Limit<'a>,
    room: Room,
}

impl Incoming<'_> {
    fn arrived(self, bytes: Bytes) -> Arrived {
        Arrived {
            bytes,
            room: self.room,
        }
    }

    /// Reads at most `most` bytes. One that announces more is not begun.
    async fn read(&mut self, most: u64) -> Result<Buffer, Unread> {
        let limit = self.limit;
        if let Some(length) = self.announced.filter(|length| *length > most) {
            return Err(limit.refuse(length, true).into());
        }
        let capacity = |length: u64| usize::try_from(length).unwrap_or(0);
        // Memory that was never written to takes no room: a claim alone costs nothing.
        let body = Buffer::with_length(capacity(self.announced.unwrap_or(0)));
        let mut body = body.map_err(|_| Limited::Crowded)?;
        while let Some(chunk) = self.payload.next().await {
            let chunk = chunk.map_err(|error| {
                bad(if is_too_slow(&error) {
                    "The body came too slowly; send it faster, or a smaller image."
                } else {
                    "The body broke off."
                })
            })?;
            let total = length(&body) + length(&chunk);
            if total > most {
                return Err(limit.refuse(total, true).into());
            }
            self.room.grow(total)?;
            let taken = body.extend(&chunk, capacity(most));
            taken.map_err(|_| Limited::Crowded)?;
        }
        Ok(body)
    }
}

fn read_json(body: Buffer, limit: Limit<'_>) -> Result<Bytes, Refusal> {
    let shape = "The JSON body is {\"image\": \"<base64>\"} or {\"file\": \"<base64>\"}; a data: URL is fine.";
    if body.is_empty() {
        return Err(Refusal::NoFile);
    }
    let bytes = base64_body::decode(body).map_err(|error| match error {
        NotBase64::Shape => bad(shape),
        NotBase64::Missing => Refusal::NoFile,
        NotBase64::Digits => bad("The image is not base64 of the standard alphabet."),
    })?;
    if length(&bytes) > limit.max_bytes {
        return Err(limit.refuse(length(&bytes), false));
    }
    Ok(bytes)
}

/// The file of a form: the field `image`, else `file`, else the only part that is a file. The form is
/// in memory already.
async fn read_form(body: Bytes, boundary: &str, limit: Limit<'_>) -> Result<Bytes, Refusal> {
    let mut form = multer::Multipart::new(Pieces::of(body.clone()), boundary);
    let mut payloads = Payloads::of(body, boundary);
    let malformed = || bad("The multipart body is cut or malformed.");
    let mut found = FormFile::default();
    for _ in 0..=MAX_PARTS {
        let Some(field) = form.next_field().await.map_err(|_| malformed())? else {
            return found.choose();
        };
        let slot = Slot::of(field.name(), field.file_name().is_some());
        let bytes = payloads.next(field).await.ok_or_else(malformed)?;
        let Some(slot) = slot else { continue };
        if length(&bytes) > limit.max_bytes {
            return Err(limit.refuse(length(&bytes), false));
        }
        found.put(slot, bytes)?;
    }
    Err(bad(&format!(
        "The form has more than {MAX_PARTS} parts; send the image alone."
    )))
}

/// Where a part may hold the image.
#[derive(Clone, Copy)]
enum Slot {
    Image,
    File,
    Other,
}

impl Slot {
    fn of(name: Option<&str>, is_file: bool) -> Option<Self> {
        match name {
            Some("image") => Some(Self::Image),
            Some("file") => Some(Self::File),
            _ => is_file.then_some(Self::Other),
        }
    }
}

#[derive(Default)]
struct FormFile {
    image: Option<Bytes>,
    file: Option<Bytes>,
    others: Vec<Bytes>,
}

impl FormFile {
    fn put(&mut self, slot: Slot, bytes: Bytes) -> Result<(), Refusal> {
        let place = match slot {
            Slot::Image => &mut self.image,
            Slot::File => &mut self.file,
            Slot::Other => {
                self.others.push(bytes);
                return Ok(());
            }
        };
        if place.replace(bytes).is_some() {
            return Err(bad(
                "The form has the image field twice; send one image a request.",
            ));
        }
        Ok(())
    }

    fn choose(mut self) -> Result<Bytes, Refusal> {
        if let Some(bytes) = self.image.or(self.file) {
            return if bytes.is_empty() {
                Err(FormatError::Empty.into())
            } else {
                Ok(bytes)
            };
        }
        match (self.others.pop(), self.others.is_empty()) {
            (Some(only), true) => Ok(only),
            _ => Err(Refusal::NoFile),
        }
    }
}

fn header(request: &HttpRequest, name: HeaderName) -> Option<&str> {
    request.headers().get(name)?.to_str().ok()
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn bad(message: &str) -> Refusal {
    Refusal::BadBody(message.to_owned())
}
