//! Reads credentials, keys and addresses from the head of a request.

use std::net::{IpAddr, SocketAddr};

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderMap, HeaderValue, USER_AGENT, X_FORWARDED_FOR};
use ipnet::IpNet;

use super::error::{ApiError, Code};
use crate::config::Http;
use crate::images::UploadError;
use crate::model::api_key::KeySecret;
use crate::model::client_kind::ClientKind;
use crate::model::token::UploadToken;
use crate::payments::read_key_header;
use crate::x402::header::{PAYMENT_SIGNATURE, PaymentHeader, X_PAYMENT, decode_payment};
use crate::x402::siwx::{MessageError, SIGN_IN_HEADER, SignedMessage};
use crate::x402::wire::Version;

/// The request header that carries an upload token.
const UPLOAD_TOKEN: &str = "X-Upload-Token";
/// The request header that carries an API key.
const AUTHORIZATION: &str = "Authorization";
/// The request header that carries a delete token.
const DELETE_TOKEN: &str = "X-Delete-Token";
/// The request header that carries an idempotency key.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// The payment that a request carries, if any. A client that supports both versions of x402 sends
/// one payment in both headers. The document of version 2 is used then, since it holds more.
///
/// # Errors
/// If a header is repeated or unreadable, or the two headers carry different payments.
pub(super) fn payment(request: &HttpRequest) -> Result<Option<PaymentHeader>, ApiError> {
    let headers = request.headers();
    let (second, first) = match (only(headers, PAYMENT_SIGNATURE)?, only(headers, X_PAYMENT)?) {
        (None, None) => return Ok(None),
        (Some(header), None) | (None, Some(header)) => {
            let payment = decode_payment(header).map_err(ApiError::BadPayment)?;
            return Ok(Some(payment));
        }
        (Some(second), Some(first)) => (second, first),
    };
    let read = |name: &str, header| {
        decode_payment(header).map_err(|error| {
            ApiError::Bad(
                Code::ConflictingCredentials,
                format!(
                    "{PAYMENT_SIGNATURE} and {X_PAYMENT} were both sent, and {name} cannot be read: {error} Send one \
                     payment, in one of the headers or the same in both."
                ),
            )
        })
    };
    let second = read(PAYMENT_SIGNATURE, second)?;
    let first = read(X_PAYMENT, first)?;
    if !second.is_same_payment(&first) {
        return Err(ApiError::Bad(
            Code::ConflictingCredentials,
            format!(
                "{PAYMENT_SIGNATURE} and {X_PAYMENT} carry two different payments. Send one payment, in one of the \
                 headers or the same in both."
            ),
        ));
    }
    let is_second = second.version == Version::V2 || first.version == Version::V1;
    Ok(Some(if is_second { second } else { first }))
}

/// The upload token that a request carries, if any.
pub(super) fn upload_token(request: &HttpRequest) -> Result<Option<UploadToken>, ApiError> {
    let Some(value) = only(request.headers(), UPLOAD_TOKEN)? else {
        return Ok(None);
    };
    let token = std::str::from_utf8(value).ok().and_then(UploadToken::parse);
    token.map(Some).ok_or_else(|| UploadError::BadToken.into())
}

/// The API key that a request carries as a bearer token, if any. Another `Authorization` is refused:
/// its sender would be asked to pay, and not learn that the server did not read it.
pub(super) fn api_key(request: &HttpRequest) -> Result<Option<KeySecret>, ApiError> {
    let Some(value) = only(request.headers(), AUTHORIZATION)? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(value).unwrap_or_default();
    let (scheme, key) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        let message = "The header Authorization has a scheme that this server does not know: an API key is a bearer token. \
            Send \"Authorization: Bearer pixtoll_…\", or the request without this header.";
        return Err(ApiError::bad(Code::InvalidHeader, message));
    }
    let key = KeySecret::parse(key.trim());
    key.map(Some).ok_or_else(|| UploadError::KeyUnknown.into())
}

/// The value of `X-Delete-Token` in lower case, if the request has one.
pub(super) fn delete_token(request: &HttpRequest) -> Result<Option<String>, ApiError> {
    let value = only(request.headers(), DELETE_TOKEN)?;
    Ok(value.map(|value| String::from_utf8_lossy(value).trim().to_ascii_lowercase()))
}

/// The value of `Idempotency-Key`, if the request has one. It may be malformed.
///
/// # Errors
/// If the header is repeated.
pub(super) fn idempotency_key(request: &HttpRequest) -> Result<Option<&[u8]>, ApiError> {
    only(request.headers(), IDEMPOTENCY_KEY)
}

/// Checks the `Idempotency-Key` of a request without a payment, so that a client learns of a
/// malformed one before it signs.
pub(super) fn check_idempotency_key(request: &HttpRequest) -> Result<(), ApiError> {
    if let Some(value) = idempotency_key(request)? {
        read_key_header(value).map_err(|bad| ApiError::Unsold(bad.into()))?;
    }
    Ok(())
}

/// The signed message of a request to sign in, if it has one in its head.
///
/// # Errors
/// If the header is repeated or unreadable.
pub(super) fn sign_in(request: &HttpRequest) -> Result<Option<SignedMessage>, ApiError> {
    let Some(value) = only(request.headers(), SIGN_IN_HEADER)? else {
        return Ok(None);
    };
    let message = SignedMessage::decode(value);
    let bad = |error: MessageError| ApiError::bad(Code::InvalidHeader, error.to_string());
    message.map(Some).map_err(bad)
}

/// The kind of the client, by `User-Agent`.
pub(super) fn client_kind(headers: &HeaderMap) -> ClientKind {
    ClientKind::of(headers.get(USER_AGENT).map(HeaderValue::as_bytes))
}

/// The client's address: that of the peer or, if the peer is a trusted proxy, the nearest address
/// in `X-Forwarded-For` that is not a trusted proxy. Without a trusted proxy, all such headers are
/// ignored.
///
/// `Forwarded` (RFC 7239) is not read. A proxy that writes one of the two headers passes the other
/// one on as its client wrote it. A server that reads both would let clients choose their address.
pub(super) fn client_address(request: &HttpRequest, config: &Http) -> Option<IpAddr> {
    address_behind(request.peer_addr(), request.headers(), config)
}

/// [`client_address`] of a request with this peer and these headers.
pub(super) fn address_behind(
    peer: Option<SocketAddr>,
    headers: &HeaderMap,
    config: &Http,
) -> Option<IpAddr> {
    let peer = peer?.ip().to_canonical();
    let lines: Vec<_> = headers.get_all(X_FORWARDED_FOR).collect();
    let entries = lines
        .iter()
        .rev()
        .map(|line| line.to_str().unwrap_or(""))
        .flat_map(|line| line.rsplit(','));
    Some(nearest_untrusted(peer, entries, &config.trusted_proxies))
}

/// The client's address, if it distinguishes the client from others. `None`: the address is that of
/// a proxy which all clients share. A public service assumes this of every private or loopback
/// address.
pub(super) fn own_address(request: &HttpRequest, config: &Http) -> Option<IpAddr> {
    let address = client_address(request, config)?;
    let shared = match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    };
    let is_proxy = is_trusted(address, &config.trusted_proxies);
    (!is_proxy && (!shared || is_loopback(&config.base_url))).then_some(address)
}

/// Follows the entries of `X-Forwarded-For` from the peer outwards. Each trusted proxy vouches for
/// the entry before it. An entry that is no address ends the search, and the proxy that wrote it
/// counts as the client.
fn nearest_untrusted<'a>(
    peer: IpAddr,
    entries: impl Iterator<Item = &'a str>,
    trusted: &[IpNet],
) -> IpAddr {
    let mut address = peer;
    for entry in entries {
        if !is_trusted(address, trusted) {
            break;
        }
        let Some(next) = parse_entry(entry.trim()) else {
            break;
        };
        address = next;
    }
    address
}

/// Whether the address is that of a trusted proxy.
fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|range| range.contains(&address))
}

/// Parses an address with or without a port, since some proxies add the port.
fn parse_entry(entry: &str) -> Option<IpAddr> {
    let bare = entry
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = bare.unwrap_or(entry).parse().ok();
    let address = address.or_else(|| Some(entry.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}

/// The path of a URL from the configuration, without a slash at its end.
pub(super) fn path_of(url: &str) -> String {
    url::Url::parse(url)
        .map(|url| url.path().trim_end_matches('/').to_owned())
        .unwrap_or_default()
}

/// Whether the URL's host is this machine.
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

/// The value of a header that may be sent only once. If it were sent twice, each reader could use
/// another value.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a [u8]>, ApiError> {
    let mut values = headers.get_all(name);
    let first = values.next();
    if values.next().is_some() {
        return Err(ApiError::Bad(
            Code::InvalidHeader,
            format!(
                "The header {name} was sent more than once, and only one value is allowed. Send it once."
            ),
        ));
    }
    Ok(first.map(actix_web::http::header::HeaderValue::as_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client's address for a peer and its `X-Forwarded-For` lines.
    fn seen(peer: &str, lines: &[&str]) -> String {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"]
            .iter()
            .map(|range| range.parse().unwrap())
            .collect();
        let entries = lines.iter().rev().flat_map(|line| line.rsplit(','));
        nearest_untrusted(peer.parse().unwrap(), entries, &trusted).to_string()
    }

    #[test]
    fn the_client_is_the_nearest_address_that_is_no_trusted_proxy() {
        for (peer, lines, client) in [
            ("192.0.2.1", &["198.51.100.1"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("fd00::1", &["2001:db8::1"], "2001:db8::1"),
            // The entries that the client wrote itself are on the left.
            ("10.0.0.1", &["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["203.0.113.9", "198.51.100.1"], "198.51.100.1"),
            (
                "10.0.0.1",
                &["203.0.113.9,198.51.100.1, 10.0.0.2"],
                "198.51.100.1",
            ),
            ("10.0.0.1", &["10.0.0.3,10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["198.51.100.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1,"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1, _hidden, 10.0.0.2"], "10.0.0.2"),
        ] {
            assert_eq!(seen(peer, lines), client, "{peer} {lines:?}");
        }
    }
}
