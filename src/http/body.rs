//! Reads request bodies that hold an image, in every accepted form and within limits of size and
//! memory.
//!
//! This module counts the bytes as they arrive, and relies on no library's limit.

use actix_web::HttpRequest;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use actix_web::web::Payload;
use bytes::Bytes;
use futures_util::StreamExt;

use super::base64_body::{self, JsonImageError};
use super::error::ApiError;
use super::pace::is_too_slow;
use super::upload_limit::{Limit, Said, bad, length, metadata_named};
use super::{Site, form, query};
use crate::images::{Metadata, ReceivedImage, Refusal};
use crate::limits::{Limited, Room};
use crate::pricing::tiers::FORM_OVERHEAD;
use crate::system::pages::Buffer;

/// Why a body yields no image.
#[derive(Debug)]
pub(super) enum BodyError {
    /// The body holds no image, is malformed, or is larger than the tier allows.
    Refused(Refusal),
    /// The server has no memory for the body now.
    Limited(Limited),
}

impl From<Refusal> for BodyError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Limited> for BodyError {
    fn from(limited: Limited) -> Self {
        Self::Limited(limited)
    }
}

impl BodyError {
    /// This error as the response to `request`, on routes where no known payment changes the
    /// response.
    pub(super) fn of(self, request: &HttpRequest) -> ApiError {
        match self {
            Self::Refused(refusal) => refusal.into(),
            Self::Limited(limited) => ApiError::Limited(limited).of(request),
        }
    }
}

/// Reads the image from a body in any accepted form: multipart, JSON or raw bytes.
///
/// # Errors
/// [`BodyError`], also where the query and the body name two values of `metadata`, or say
/// differently who may see the image.
pub(super) async fn read_image(
    site: &Site,
    request: &HttpRequest,
    payload: Payload,
    limit: Limit<'_>,
) -> Result<ReceivedImage, BodyError> {
    if header(request, CONTENT_ENCODING)
        .is_some_and(|coding| !coding.eq_ignore_ascii_case("identity"))
    {
        let message = "The body has a Content-Encoding, and this server accepts none. Send the image without it: image formats are compressed already.";
        return Err(bad(message).into());
    }
    let refused = |error| match error {
        ApiError::Bad(_, message) => Refusal::BadBody(message),
        _ => Refusal::NoFile,
    };
    let named = query::metadata(request).map_err(refused)?;
    let visible = query::visibility(site, request).map_err(refused)?;
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
            (form.image, form.said)
        }
        Kind::Json => read_json(body, limit)?,
        Kind::Unnamed if body.is_empty() => return Err(Refusal::NoFile.into()),
        Kind::Image | Kind::Unnamed => (body.freeze(), Said::default()),
    };
    if named.is_some() && said.metadata.is_some() && named != said.metadata {
        let message = "The query and the body name two values of metadata, and only one is allowed. Send it in the query or in the body.";
        return Err(bad(message).into());
    }
    let seen = query::named_visibility(site, said.visibility.as_deref(), said.viewer.as_deref());
    let seen = seen.map_err(Refusal::BadBody)?;
    if visible.is_some() && seen.is_some() && visible != seen {
        let message = "The query and the body say differently who may see the image. Send visibility and viewer in the query or in the body.";
        return Err(bad(message).into());
    }
    let metadata = named
        .or(said.metadata)
        .unwrap_or(Metadata::default_of(site.config.images.clean));
    Ok(ReceivedImage {
        bytes,
        metadata,
        visibility: visible.or(seen).unwrap_or_default(),
        room: incoming.room,
    })
}

/// Refuses a body whose `Content-Length` alone shows that its image is too large. A body whose form
/// is not known from the head is checked later.
pub(super) fn refuse_announced(request: &HttpRequest, limit: Limit<'_>) -> Result<(), Refusal> {
    let Ok(kind) = Kind::of(header(request, CONTENT_TYPE).unwrap_or("")) else {
        return Ok(());
    };
    match announced(request) {
        Some(length) if length > kind.longest(limit) => Err(limit.refuse(length, true)),
        _ => Ok(()),
    }
}

/// The largest image that the body can hold, in bytes, by its `Content-Length`. `None`: the request
/// has no body, or doesn't say how long it is.
pub(super) fn announced_image(request: &HttpRequest) -> Option<u64> {
    let length = announced(request).filter(|length| *length > 0)?;
    match Kind::of(header(request, CONTENT_TYPE).unwrap_or("")) {
        // Four characters of base64 hold three bytes.
        Ok(Kind::Json) => Some((length / 4 * 3).max(1)),
        Ok(_) => Some(length),
        Err(_) => None,
    }
}

/// The length of the body from `Content-Length`, if the header is present and valid.
fn announced(request: &HttpRequest) -> Option<u64> {
    header(request, CONTENT_LENGTH).and_then(|length| length.parse().ok())
}

/// The form of a body, from its `Content-Type`.
enum Kind {
    /// A multipart form.
    Form {
        /// The boundary that separates the parts.
        boundary: String,
    },
    /// A JSON object that holds the image in base64.
    Json,
    /// The image itself, as the type says.
    Image,
    /// The type names no form: `curl -T` sends no type, and `curl --data-binary` that of a web
    /// form. The body is taken as the image itself.
    Unnamed,
}

impl Kind {
    /// The longest body in this form that can hold an image within `limit`, in bytes.
    const fn longest(&self, limit: Limit<'_>) -> u64 {
        match self {
            Self::Form { .. } => limit.max_bytes + FORM_OVERHEAD,
            Self::Json => limit.body(),
            Self::Image | Self::Unnamed => limit.max_bytes,
        }
    }

    /// The form that a `Content-Type` names. A type that holds no image is refused before the body
    /// is read.
    fn of(content_type: &str) -> Result<Self, Refusal> {
        let (essence, _) = content_type.split_once(';').unwrap_or((content_type, ""));
        let essence = essence.trim().to_ascii_lowercase();
        match essence.as_str() {
            "multipart/form-data" => match form::boundary(content_type) {
                Some(boundary) => Ok(Self::Form { boundary }),
                None => Err(bad(
                    "The Content-Type multipart/form-data names no valid boundary, so the parts of the form cannot be told apart. Let your HTTP client write this header.",
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

/// A body that has not been read yet.
struct Incoming<'a> {
    payload: Payload,
    /// The value of `Content-Length`, if the request has one.
    announced: Option<u64>,
    limit: Limit<'a>,
    room: Room,
}

impl Incoming<'_> {
    /// Reads the body, of at most `most` bytes. A body that announces more is refused before it is
    /// read.
    async fn read(&mut self, most: u64) -> Result<Buffer, BodyError> {
        let limit = self.limit;
        if let Some(length) = self.announced.filter(|length| *length > most) {
            return Err(limit.refuse(length, true).into());
        }
        let capacity = |length: u64| usize::try_from(length).unwrap_or(0);
        // Reserved memory takes no pages before it is written to, so a false Content-Length costs
        // nothing.
        let body = Buffer::with_length(capacity(self.announced.unwrap_or(0)));
        let mut body = body.map_err(|_| Limited::Crowded)?;
        while let Some(chunk) = self.payload.next().await {
            let chunk = chunk.map_err(|error| {
                let message = if is_too_slow(&error) {
                    "The body arrived too slowly: the server requires 4 KiB a second on average, no long pauses, and the end within its time limit. Send the same request over a faster connection, or a smaller image."
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

/// Decodes a JSON body into the image and the other fields.
fn read_json(body: Buffer, limit: Limit<'_>) -> Result<(Bytes, Said), Refusal> {
    if body.is_empty() {
        return Err(Refusal::NoFile);
    }
    let found = base64_body::decode(body).map_err(|error| match error {
        JsonImageError::WrongShape => bad(
            "The JSON body is malformed or has an unexpected form. Send {\"image\": \"<base64>\"} or {\"file\": \"<base64>\"}; the string may also be a data: URL with base64.",
        ),
        JsonImageError::Missing => Refusal::NoFile,
        JsonImageError::NotBase64 => bad("The image in the JSON body is not base64 of the standard alphabet (A-Z, a-z, 0-9, + and /). Encode it in this alphabet, not in base64url."),
        JsonImageError::Reference(place) => bad(&format!(
            "The JSON body names an image but does not hold it. {place} In JSON, send the bytes as {{\"image\": \"<base64>\"}}; \
             POST /api/import takes {{\"url\": \"https://…\"}} and fetches the image itself."
        )),
    })?;
    let metadata = found.metadata.as_deref().map(metadata_named).transpose()?;
    let sent = length(&found.image);
    if sent > limit.max_bytes {
        return Err(limit.refuse(sent, false));
    }
    let said = Said {
        metadata,
        visibility: found.visibility,
        viewer: found.viewer,
    };
    Ok((found.image, said))
}

/// The value of a header as text. `None`: it is absent or not ASCII.
fn header(request: &HttpRequest, name: HeaderName) -> Option<&str> {
    request.headers().get(name)?.to_str().ok()
}
