//! The image origin: serves the bytes of images, with headers that say what caches and browsers may
//! do with them.

use std::ops::Range;
use std::sync::Arc;

use actix_web::body::{MessageBody, SizedStream};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, EXPIRES, EntityTag, HeaderMap, HeaderName,
    HeaderValue, LAST_MODIFIED, LOCATION, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};

use super::Site;
use super::conditions::{Outcome, Validators, evaluate};
use super::error::ApiError;
use super::link::{self, Asked, Link};
use super::slices::Slices;
use super::variants::{self, Parameters, Wanted};
use super::{extract, images, query};
use crate::images::hot::{Labels, Served};
use crate::images::private::{Access, end_of};
use crate::model::ids::ImageId;
use crate::model::image::{Format, Image};
use crate::model::signed_link::SignedLink;
use crate::store::{Object, StoreError};
use crate::system::clock::Timestamp;

/// The longest time that a cache may keep an image.
const ONE_YEAR_SECONDS: u64 = 365 * 24 * 3600;
/// The longest time that a cache may keep an image that is compared with its origin.
const REFRESHED_SECONDS: u64 = 3600;
/// An image that caches may keep for longer than this is marked `immutable`.
const ONE_DAY_SECONDS: u64 = 24 * 3600;
/// The header for the SHA-256 of the whole image (RFC 9530).
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
/// The header with the tag by which the CDN drops what it keeps of an image.
pub(super) const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
/// Headers of every response of the image origin. They keep a browser from running a response as a
/// page or a script, and let every page show an image.
const HARMLESS: [(HeaderName, &str); 4] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "cross-origin",
    ),
    (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
];
/// The longest time that a cache may keep a redirect. It is as short as for a 404, since the image
/// may be deleted.
const REDIRECT_SECONDS: u64 = 60;
/// The caching of a 404 or 451, which spares the database requests for dead links that are still embedded
/// somewhere. Nobody can request an id before its image is uploaded, since ids are random. Other
/// errors are not cached.
const MISS: &str = "public, max-age=60";

/// `GET` and `HEAD` of `/{id}` and `/{id}.{ext}`: serves an image, a variant of it or a part of
/// either, or redirects to the canonical link. A private image without a valid signature is an unknown
/// one.
pub(super) async fn image(site: Site, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let link = Link::of(&request).ok_or_else(|| no_link(&site, &request))?;
    let (served, signed) = find(&site, &request, &link.id).await?;
    let mut asked = link.asked(served.image.format);
    if asked == Asked::Nothing {
        return Err(ApiError::NotFound);
    }
    let was_gif = asked == Asked::Gif && served.image.refresh.is_some();
    if was_gif {
        // No image is converted to GIF, but this link may be older than the content.
        asked = Asked::Own;
    }
    let query = link::canonical_query(request.uri().query(), signed);
    let target = query.as_deref().unwrap_or_else(|| request.query_string());
    let parameters = Parameters::read(target)?;
    if !link.is_canonical() || query.is_some() || was_gif {
        let file = file_name(&served.image, asked);
        return Ok(redirect(
            &site,
            &request,
            &served.image,
            signed,
            &file,
            query,
        ));
    }
    match variants::wanted(asked, &parameters, &served.image)? {
        Wanted::Original => respond(site, &request, served, signed).await,
        Wanted::Variant(variant) => {
            if let Some(kept) = site.variants.peek(&served, &variant) {
                return respond(site, &request, kept, signed).await;
            }
            let made = variants::find(&site, &request, &served, variant).await?;
            // The image may have ended while the variant was made or read.
            let (served, signed) = find(&site, &request, &link.id).await?;
            let image = served.image;
            respond(site, &request, Served { image, ..made }, signed).await
        }
    }
}

/// Finds the image with this id if the request shows it now, with the signature that shows a private
/// one.
async fn find(
    site: &Site,
    request: &HttpRequest,
    id: &ImageId,
) -> Result<(Served, Option<SignedLink>), ApiError> {
    let found = site.images.find_served(id).await;
    let Some(served) = found.map_err(ApiError::Unreadable)? else {
        let access = Access {
            link: query::signed_link(request),
            is_owner: false,
        };
        return Err(images::missing(site, id, &access).await?);
    };
    let signed = if served.image.visibility.is_private() {
        Some(shown_by(site, request, &served.image).ok_or(ApiError::NotFound)?)
    } else {
        None
    };
    Ok((served, signed))
}

/// The response to a request for an image or a variant that was found.
async fn respond(
    site: Site,
    request: &HttpRequest,
    served: Served,
    signed: Option<SignedLink>,
) -> Result<HttpResponse, ApiError> {
    let Served { image, labels, .. } = &served;
    let part = match evaluate(request, &validators_of(image, labels)) {
        Outcome::Whole => None,
        Outcome::Part(range) => Some(range),
        Outcome::NotModified => {
            let mut response = HttpResponse::new(StatusCode::NOT_MODIFIED);
            let now = site.clock.now();
            caching(response.headers_mut(), image, labels, signed, now);
            return Ok(response);
        }
        Outcome::PreconditionFailed => return Err(ApiError::AnotherImage),
        Outcome::NotSatisfiable => {
            let length = labels.size_bytes;
            return Err(ApiError::NoSuchPart { length });
        }
    };
    if request.method() == Method::HEAD {
        let mut response = HttpResponse::Ok().body(Slices::announced(labels.size_bytes));
        let now = site.clock.now();
        describe(response.headers_mut(), image, labels, signed, now);
        return Ok(response);
    }
    let wanted = part.clone().unwrap_or(0..labels.size_bytes);
    let length = wanted.end.saturating_sub(wanted.start);
    let known = served.bytes.as_ref();
    let known = known.and_then(|bytes| part_of(bytes, &wanted));
    let (first, rest) = if let Some(bytes) = known {
        (bytes, None)
    } else {
        let mut object = open(&site, &served, wanted.clone()).await?;
        let first = object.next().await.map_err(unreadable)?.unwrap_or_default();
        (first, Some(object))
    };
    let now = site.clock.now();
    // The image or the link may have ended while the bytes were loaded.
    if !image.is_live(now) || signed.is_some_and(|signed| now >= signed.expires()) {
        return Err(ApiError::NotFound);
    }
    let mut response = match rest {
        Some(object) if u64::try_from(first.len()) != Ok(length) => {
            let pieces = pieces(site, Arc::clone(image), first, object);
            HttpResponse::Ok().body(SizedStream::new(length, pieces))
        }
        _ => HttpResponse::Ok().body(in_memory(&site, image, first)),
    };
    describe(response.headers_mut(), image, labels, signed, now);
    if part.is_some() {
        as_part(&mut response, labels, &wanted);
    }
    Ok(response)
}

/// The last part of the canonical link of an image or of a variant in the format that was asked for.
fn file_name(image: &Image, asked: Asked) -> String {
    match asked {
        Asked::Other(output) => format!("{}.{}", image.id, output.extension()),
        Asked::Gif => format!("{}.{}", image.id, Format::Gif.extension()),
        Asked::Any | Asked::Own | Asked::Nothing => image.file_name(),
    }
}

/// The signature of the request, if it shows this private image now.
fn shown_by(site: &Site, request: &HttpRequest, image: &Image) -> Option<SignedLink> {
    query::signed_link(request).filter(|signed| site.images.is_shown(image, *signed))
}

fn validators_of(image: &Image, labels: &Labels) -> Validators {
    Validators {
        etag: EntityTag::new_strong(labels.sha256.clone()),
        modified: image
            .modified_at()
            .and_then(|at| u64::try_from(at.seconds()).ok()),
        length: labels.size_bytes,
    }
}

/// Makes the response one of the range `part` alone.
fn as_part(response: &mut HttpResponse, labels: &Labels, part: &Range<u64>) {
    let (last, whole) = (part.end.saturating_sub(1), labels.size_bytes);
    let place = format!("bytes {}-{last}/{whole}", part.start);
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    insert_text(response.headers_mut(), CONTENT_RANGE, place.into());
}

/// The response to every other path of the image origin.
pub(super) async fn no_image(site: Site, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    Err(no_link(&site, &request).unless_paid(&request))
}

/// The error for a path that names no image. An image origin without a path prefix also receives
/// all requests for unknown API routes.
fn no_link(site: &Site, request: &HttpRequest) -> ApiError {
    if extract::path_of(&site.config.images.base_url).is_empty() {
        super::unknown_route(request)
    } else {
        ApiError::NotFound
    }
}

/// The range `part` of bytes in memory, without copying them.
fn part_of(bytes: &Bytes, part: &Range<u64>) -> Option<Bytes> {
    let start = usize::try_from(part.start).ok()?;
    let end = usize::try_from(part.end).ok()?;
    bytes.get(start..end).map(|part| bytes.slice_ref(part))
}

/// The body of an image or a part of it that is in memory. It breaks off when the image expires.
pub(super) fn in_memory(site: &Site, image: &Arc<Image>, bytes: Bytes) -> Slices {
    let (clock, image) = (Arc::clone(&site.clock), Arc::clone(image));
    Slices::of(bytes, move || image.is_live(clock.now()))
}

/// Streams an image that is too large to be held in memory for each slow client. The next piece is
/// read when the client has taken the one before. The response breaks off when the image expires or
/// can't be read.
fn pieces(
    site: Site,
    image: Arc<Image>,
    first: Bytes,
    object: Object,
) -> impl Stream<Item = Result<Bytes, actix_web::Error>> {
    let rest = stream::try_unfold(object, move |mut object| {
        let is_live = image.is_live(site.clock.now());
        async move {
            if !is_live {
                return Err(ApiError::NotFound.into());
            }
            let piece = object.next().await.map_err(unreadable)?;
            Ok(piece.map(|piece| (piece, object)))
        }
    });
    stream::once(std::future::ready(Ok(first))).chain(rest)
}

/// Middleware that adds [`HARMLESS`] to every response of the image origin, also to errors, and
/// [`MISS`] to a 404 or 451.
pub(super) async fn harden(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let tag = cache_tag(request.app_data::<Site>(), request.path());
    let mut response = next.call(request).await?;
    let is_miss = matches!(
        response.status(),
        StatusCode::NOT_FOUND | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS
    );
    let headers = response.headers_mut();
    insert_harmless(headers);
    if is_miss {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(MISS));
    }
    if let Some(tag) = tag {
        headers.insert(CACHE_TAG, tag);
    }
    Ok(response)
}

/// The tag by which the CDN drops everything about the image of this path, if there is a CDN.
fn cache_tag(site: Option<&Site>, path: &str) -> Option<HeaderValue> {
    site.filter(|site| site.config.cdn.is_some())?;
    let link = Link::parse(path.rsplit('/').next()?)?;
    tag_of(&link.id)
}

/// The tag of an image: its id.
pub(super) fn tag_of(id: &ImageId) -> Option<HeaderValue> {
    HeaderValue::from_str(id.as_str()).ok()
}

/// Adds [`HARMLESS`].
pub(super) fn insert_harmless(headers: &mut HeaderMap) {
    for (name, value) in HARMLESS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Redirects to the canonical link of an image or a variant, whose last part is `file`. No cache may
/// keep the redirect after the image or the link ends.
fn redirect(
    site: &Site,
    request: &HttpRequest,
    image: &Image,
    signed: Option<SignedLink>,
    file: &str,
    query: Option<String>,
) -> HttpResponse {
    let query = query.or_else(|| request.uri().query().map(str::to_owned));
    let query = query.filter(|query| !query.is_empty());
    let mut link = format!("{}/{file}", site.config.images.base_url);
    if let Some(query) = query {
        link = format!("{link}?{query}");
    }
    let left = end_of(image, signed).map_or(REDIRECT_SECONDS, |end| {
        end.since(site.clock.now()).as_secs().min(REDIRECT_SECONDS)
    });
    let caches = caches_for(signed);
    HttpResponse::PermanentRedirect()
        .insert_header((LOCATION, link))
        .insert_header((CACHE_CONTROL, format!("{caches}, max-age={left}")))
        .finish()
}

/// The caches that may keep a response: all, or for a private image only that of the client.
const fn caches_for(signed: Option<SignedLink>) -> &'static str {
    match signed {
        None => "public",
        Some(_) => "private",
    }
}

/// Opens the range `part` of the object of an image or a variant.
async fn open(site: &Site, served: &Served, part: Range<u64>) -> Result<Object, ApiError> {
    let (image, labels) = (&served.image, &served.labels);
    let found = if labels.is_variant {
        site.variants.open_bytes(served, part).await
    } else {
        site.images.open_bytes(image, part).await
    };
    let object = found.map_err(ApiError::Unreadable)?.ok_or_else(|| {
        tracing::error!(image.id = %image.id, labels.is_variant, "the object of a public image is missing");
        ApiError::NotFound
    })?;
    // Caches would keep a truncated object for a year, under the tag of the whole image.
    if object.size() != labels.size_bytes {
        tracing::error!(image.id = %image.id, labels.is_variant, "the object of a public image has the wrong length");
        return Err(ApiError::NotFound);
    }
    Ok(object)
}

/// The error for an object that can't be read.
fn unreadable(error: StoreError) -> ApiError {
    ApiError::Unreadable(error.into())
}

/// Adds the headers that describe the image, for `GET` and `HEAD`.
pub(super) fn describe(
    headers: &mut HeaderMap,
    image: &Image,
    labels: &Labels,
    signed: Option<SignedLink>,
    now: Timestamp,
) {
    caching(headers, image, labels, signed, now);
    let content_type = HeaderValue::from_static(labels.content_type);
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // RFC 9530: the digest of the whole image, also where a range is sent.
    insert_text(headers, REPR_DIGEST, labels.digest.clone());
}

/// How many seconds a cache may keep an image at most. One that is compared with its origin
/// changes, so caches ask again soon.
fn longest(image: &Image) -> u64 {
    let refresh = image.refresh.as_ref();
    refresh.map_or(ONE_YEAR_SECONDS, |it| {
        it.every.as_secs().min(REFRESHED_SECONDS)
    })
}

/// Adds the caching headers. No cache may keep the image after it expires, or for longer than
/// [`longest`]. Only the client's own cache may keep a private image, and not after the end of its
/// link.
pub(super) fn caching(
    headers: &mut HeaderMap,
    image: &Image,
    labels: &Labels,
    signed: Option<SignedLink>,
    now: Timestamp,
) {
    // Rounded down to seconds, so that no cache keeps the image after it expires.
    let left = end_of(image, signed).map_or(ONE_YEAR_SECONDS, |end| end.since(now).as_secs());
    let left = left.min(longest(image));
    let caches = caches_for(signed);
    // Clients ask again about private images, since their owner may have ended the link.
    let immutable = if left > ONE_DAY_SECONDS && signed.is_none() {
        ", immutable"
    } else {
        ""
    };
    let control = format!("{caches}, max-age={left}{immutable}");
    let expires = now.plus(std::time::Duration::from_secs(left));
    insert_text(headers, CACHE_CONTROL, control.into());
    insert_text(headers, EXPIRES, expires.http_date().into());
    insert_text(headers, ETAG, labels.etag.clone());
    if let Some(published) = &labels.modified {
        insert_text(headers, LAST_MODIFIED, published.clone());
    }
}

/// Sets a header to a text of printable ASCII characters.
fn insert_text(headers: &mut HeaderMap, name: HeaderName, text: Bytes) {
    if let Ok(value) = HeaderValue::from_maybe_shared(text) {
        headers.insert(name, value);
    }
}
