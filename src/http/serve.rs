//! The image origin: bytes, and what caches and browsers may do with them.

use actix_web::body::SizedStream;
use actix_web::http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, EXPIRES, HeaderName, IF_NONE_MATCH, LAST_MODIFIED, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use bytes::Bytes;

use super::Site;
use super::error::ApiError;
use crate::clock::Timestamp;
use crate::ids::ImageId;
use crate::model::image::Image;

/// A cache keeps nothing longer.
const ONE_YEAR_SECONDS: u64 = 365 * 24 * 3600;
const ONE_DAY_SECONDS: u64 = 24 * 3600;
const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// `GET` and `HEAD` of `/{id}` and `/{id}.{ext}`.
pub(super) async fn image(
    site: Site,
    request: HttpRequest,
    file: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let (id, extension) = match file.split_once('.') {
        Some((id, extension)) => (id, Some(extension)),
        None => (file.as_str(), None),
    };
    let id = ImageId::parse(id).ok_or(ApiError::NotFound)?;
    let image = site
        .images
        .find_public(&id)
        .await?
        .ok_or(ApiError::NotFound)?;
    if extension.is_some_and(|extension| !image.format.accepts_extension(extension)) {
        return Err(ApiError::NotFound);
    }
    let etag = format!("\"{}\"", image.sha256);
    let now = site.clock.now();
    if is_known(&request, &etag) {
        let mut response = HttpResponse::build(StatusCode::NOT_MODIFIED);
        caching(&mut response, &image, &etag, now);
        return Ok(response.finish());
    }
    let mut response = HttpResponse::Ok();
    caching(&mut response, &image, &etag, now);
    response
        .insert_header((CONTENT_TYPE, image.format.content_type()))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"))
        .insert_header((CORP, "cross-origin"))
        .insert_header((ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        .insert_header((ACCEPT_RANGES, "none"));
    if request.method() == Method::HEAD {
        // An empty body would say so in Content-Length, against what GET says.
        let nothing = futures_util::stream::empty::<Result<Bytes, actix_web::Error>>();
        return Ok(response.body(SizedStream::new(image.size_bytes, nothing)));
    }
    let bytes = site.images.load_bytes(&image).await?.ok_or_else(|| {
        tracing::error!(image.id = %image.id, "a public image has no object");
        ApiError::NotFound
    })?;
    Ok(response.body(bytes))
}

/// Nothing may be kept past the image's end, nor longer than a year.
fn caching(response: &mut HttpResponseBuilder, image: &Image, etag: &str, now: Timestamp) {
    // Rounded down: a cache must never keep it a part of a second too long.
    let left = image
        .expires_at
        .map_or(ONE_YEAR_SECONDS, |end| end.since(now).as_secs());
    let left = left.min(ONE_YEAR_SECONDS);
    let immutable = if left > ONE_DAY_SECONDS {
        ", immutable"
    } else {
        ""
    };
    let expires = now.plus(std::time::Duration::from_secs(left));
    response
        .insert_header((CACHE_CONTROL, format!("public, max-age={left}{immutable}")))
        .insert_header((EXPIRES, expires.http_date()))
        .insert_header((ETAG, etag));
    if let Some(published) = image.published_at {
        response.insert_header((LAST_MODIFIED, published.http_date()));
    }
}

/// `If-None-Match` (RFC 9110, section 13.1.2): weak comparison, a list, or `*`.
fn is_known(request: &HttpRequest, etag: &str) -> bool {
    request
        .headers()
        .get_all(IF_NONE_MATCH)
        .filter_map(|value| value.to_str().ok())
        .any(|value| {
            value
                .split(',')
                .map(str::trim)
                .any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
        })
}
