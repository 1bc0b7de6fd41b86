//! Bodies: every form in which an image may come, read within bounds.
//!
//! Bytes are counted here as they arrive; no library's limit is relied on.

use actix_web::HttpRequest;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use actix_web::web::Payload;
use bytes::Bytes;
use futures_util::StreamExt;

use super::base64_body::{self, NotBase64};
use super::error::ApiError;
use super::pace::is_too_slow;
use super::{Site, form, limits, query};
use crate::images::{Metadata, Refusal};
use crate::limits::{Limited, Room};
use crate::pages::Buffer;
use crate::tiers::{FORM_OVERHEAD, longest_body};

/// The tier whose limits a body is read by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit<'a> {
    pub(super) tier: &'a str,
    pub(super) max_bytes: u64,
}

impl Limit<'_> {
    const fn body(&self) -> u64 {
        longest_body(self.max_bytes)
    }

    pub(super) fn refuse(&self, bytes: u64, at_least: bool) -> Refusal {
        let (limit, tier) = (self.max_bytes, self.tier.to_owned());
        Refusal::TooLarge {
            bytes,
            at_least,
            limit,
            tier,
        }
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
    /// What becomes of its metadata.
    pub(super) metadata: Metadata,
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
    let named = query::metadata(request).map_err(|error| match error {
        ApiError::Bad(_, message) => Refusal::BadBody(message),
        _ => Refusal::NoFile,
    })?;
    let kind = Kind::of(header(request, CONTENT_TYPE).unwrap_or(""))?;
    let mut incoming = Incoming {
        payload,
        announced: announced(request),
        limit,
        room: site.limits.begin_body(),
    };
    let most = kind.longest(limit);
    let body = incoming.read(most).await?;
    let (bytes, said) = match kind {
        Kind::Form { boundary } => {
            let form = form::read(body.freeze(), &boundary, limit).await?;
            (form.image, form.metadata)
        }
        Kind::Json => read_json(body, limit)?,
        Kind::Unnamed if body.is_empty() => return Err(Refusal::NoFile.into()),
        Kind::Image | Kind::Unnamed => (body.freeze(), None),
    };
    if named.is_some() && said.is_some() && named != said {
        let message = "The query and the body name two values of metadata; send one.";
        return Err(bad(message).into());
    }
    let metadata = named.or(said).unwrap_or(if site.config.images.clean {
        Metadata::Remove
    } else {
        Metadata::Keep
    });
    Ok(Arrived {
        bytes,
        metadata,
        room: incoming.room,
    })
}

/// Refuses a body that is too large by its `Content-Length` alone. A body whose form is unknown is judged later.
pub(super) fn refuse_announced(request: &HttpRequest, limit: Limit<'_>) -> Result<(), Refusal> {
    let Ok(kind) = Kind::of(header(request, CONTENT_TYPE).unwrap_or("")) else {
        return Ok(());
    };
    match announced(request) {
        Some(length) if length > kind.longest(limit) => Err(limit.refuse(length, true)),
        _ => Ok(()),
    }
}

/// The length of the body, where the head of the request says it.
fn announced(request: &HttpRequest) -> Option<u64> {
    header(request, CONTENT_LENGTH).and_then(|length| length.parse().ok())
}

/// The form of a body, by its `Content-Type`.
enum Kind {
    Form {
        boundary: String,
    },
    Json,
    /// The image itself.
    Image,
    /// The type says nothing, as that of `curl -T` (none) and of `curl --data-binary` (a web form's): the bytes decide.
    Unnamed,
}

impl Kind {
    /// The longest body in this form that can hold an image within `limit`.
    const fn longest(&self, limit: Limit<'_>) -> u64 {
        match self {
            Self::Form { .. } => limit.max_bytes + FORM_OVERHEAD,
            Self::Json => limit.body(),
            Self::Image | Self::Unnamed => limit.max_bytes,
        }
    }

    /// Other types are refused by the head of the request alone.
    fn of(content_type: &str) -> Result<Self, Refusal> {
        let (essence, _) = content_type.split_once(';').unwrap_or((content_type, ""));
        let essence = essence.trim().to_ascii_lowercase();
        match essence.as_str() {
            "multipart/form-data" => match form::boundary(content_type) {
                Some(boundary) => Ok(Self::Form { boundary }),
                None => Err(bad(
                    "The multipart body has no boundary in its Content-Type; let the HTTP client write this header.",
                )),
            },
            "application/json" | "text/json" => Ok(Self::Json),
            "application/octet-stream" | "binary/octet-stream" => Ok(Self::Image),
            "" | "application/x-www-form-urlencoded" => Ok(Self::Unnamed),
            other if other.starts_with("image/") => Ok(Self::Image),
            _ => Err(Refusal::NoFile),
        }
    }
}

/// A body that is going to be read.
struct Incoming<'a> {
    payload: Payload,
    announced: Option<u64>,
    limit: Limit<'a>,
    room: Room,
}

impl Incoming<'_> {
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
                let message = if is_too_slow(&error) {
                    "The body arrived too slowly. Send the same request over a faster connection, or a smaller image."
                } else {
                    "The body ended before it was complete. Repeat the same request."
                };
                Refusal::Incomplete(message.to_owned())
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

fn read_json(body: Buffer, limit: Limit<'_>) -> Result<(Bytes, Option<Metadata>), Refusal> {
    if body.is_empty() {
        return Err(Refusal::NoFile);
    }
    let found = base64_body::decode(body).map_err(|error| match error {
        NotBase64::Shape => bad(
            "The JSON body is {\"image\": \"<base64>\"} or {\"file\": \"<base64>\"}; a data: URL with base64 is fine.",
        ),
        NotBase64::Missing => Refusal::NoFile,
        NotBase64::Digits => bad("The image is not base64 of the standard alphabet."),
        NotBase64::Place(place) => bad(&format!(
            "The JSON body names an image without holding it. {place} In JSON they go into {{\"image\": \"<base64>\"}}."
        )),
    })?;
    let metadata = found.metadata.as_deref().map(metadata_named).transpose()?;
    let sent = length(&found.image);
    if sent > limit.max_bytes {
        return Err(limit.refuse(sent, false));
    }
    Ok((found.image, metadata))
}

/// What a field of a body says that is called `metadata`.
pub(super) fn metadata_named(value: &str) -> Result<Metadata, Refusal> {
    Metadata::parse(value).ok_or_else(|| Refusal::BadBody(query::no_such_metadata(value)))
}

fn header(request: &HttpRequest, name: HeaderName) -> Option<&str> {
    request.headers().get(name)?.to_str().ok()
}

pub(super) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

pub(super) fn bad(message: &str) -> Refusal {
    Refusal::BadBody(message.to_owned())
}
