//! What is read from the head of a request.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderMap;

use super::error::ApiError;
use crate::images::UploadError;
use crate::model::token::UploadToken;
use crate::x402::header::{PAYMENT_SIGNATURE, PaymentHeader, X_PAYMENT, decode_payment};
use crate::x402::wire::Version;

const UPLOAD_TOKEN: &str = "X-Upload-Token";
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// The payment that a request carries, if any.
pub(super) fn payment(request: &HttpRequest) -> Result<Option<PaymentHeader>, ApiError> {
    let headers = request.headers();
    let (header, version) = match (only(headers, PAYMENT_SIGNATURE)?, only(headers, X_PAYMENT)?) {
        (None, None) => return Ok(None),
        (Some(header), None) => (header, Version::V2),
        (None, Some(header)) => (header, Version::V1),
        (Some(_), Some(_)) => {
            let message = format!(
                "Send {PAYMENT_SIGNATURE} (version 2) or {X_PAYMENT} (version 1), not both."
            );
            return Err(ApiError::BadRequest(message));
        }
    };
    decode_payment(header, version)
        .map(Some)
        .map_err(ApiError::BadPayment)
}

/// Whether a request carries a payment header, readable or not.
pub(super) fn has_payment(request: &HttpRequest) -> bool {
    let headers = request.headers();
    headers.contains_key(PAYMENT_SIGNATURE) || headers.contains_key(X_PAYMENT)
}

/// The upload token that a request carries, if any.
pub(super) fn upload_token(request: &HttpRequest) -> Result<Option<UploadToken>, ApiError> {
    let Some(value) = only(request.headers(), UPLOAD_TOKEN)? else {
        return Ok(None);
    };
    let token = std::str::from_utf8(value).ok().and_then(UploadToken::parse);
    token.map(Some).ok_or_else(|| UploadError::BadToken.into())
}

/// The `Idempotency-Key`, if any.
pub(super) fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, ApiError> {
    let Some(value) = only(request.headers(), IDEMPOTENCY_KEY)? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(value)
        .ok()
        .filter(|text| text.len() <= 128);
    text.map(|text| Some(text.to_owned())).ok_or_else(|| {
        ApiError::BadRequest(format!(
            "{IDEMPOTENCY_KEY} is 16 to 128 characters of ASCII."
        ))
    })
}

/// The peer's address, where it tells one client from another: not when a public service sees a
/// private peer, which then is a proxy that all clients share.
pub(super) fn client_address(request: &HttpRequest, base_url: &str) -> Option<IpAddr> {
    let address = request.peer_addr()?.ip().to_canonical();
    let shared = match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    };
    (!shared || is_loopback(base_url)).then_some(address)
}

/// The path part of a URL from configuration, without a slash at its end.
pub(super) fn path_of(url: &str) -> String {
    url::Url::parse(url)
        .map(|url| url.path().trim_end_matches('/').to_owned())
        .unwrap_or_default()
}

fn is_loopback(base_url: &str) -> bool {
    let Ok(url) = url::Url::parse(base_url) else {
        return false;
    };
    match url.host() {
        Some(url::Host::Ipv4(v4)) => v4.is_loopback(),
        Some(url::Host::Ipv6(v6)) => v6.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// A header that may come once only: with two, it would depend on the reader which one counts.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a [u8]>, ApiError> {
    let mut values = headers.get_all(name);
    let first = values.next();
    if values.next().is_some() {
        return Err(ApiError::BadRequest(format!(
            "The header {name} came more than once; send one."
        )));
    }
    Ok(first.map(actix_web::http::header::HeaderValue::as_bytes))
}
