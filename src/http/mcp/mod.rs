//! `POST /mcp`: the Model Context Protocol on the public listener, without sessions. The crate rmcp reads and writes
//! the protocol in all its revisions; this file hands it requests of actix, within limits. The tools are in `tools.rs`.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, ORIGIN, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http_body_util::{BodyExt, Full};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::Value;
use url::Url;

use super::error::{ApiError, Code};
use super::{Site, extract, query};
use crate::mcp::{frame, plain, revisions};

mod definitions;
mod paid;
mod server;
mod tools;

use server::Tools;

/// The route.
pub(super) const PATH: &str = "/mcp";
/// The longest message, in bytes. It has room for a payment, a signed message and the arguments of every tool.
const LONGEST_MESSAGE: usize = 64 * 1024;
/// The most characters of a message of rmcp.
const LONGEST_TEXT: usize = 200;
/// The time limit for the body that holds the message.
const READ_TIME: Duration = Duration::from_secs(10);

/// `POST /mcp`: answers one message.
pub(super) async fn call(
    site: Site,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    query::check(&request, &[])?;
    check_origin(&site, &request)?;
    let read = tokio::time::timeout(READ_TIME, read_message(payload)).await;
    let message = read.map_err(|_| bad("The message took longer to arrive than the limit of 10 seconds. Send the same request over a faster connection."))??;
    if let Some((status, text)) = wrong_headers(&request) {
        let error = frame::error(&Value::Null, frame::INVALID_REQUEST, text);
        return Ok(json_rpc(status, error.to_string()));
    }
    let id = match frame::check(&message) {
        Ok(id) => id,
        Err(error) => return Ok(json_rpc(StatusCode::BAD_REQUEST, error.to_string())),
    };
    let tools = Tools::of(&site, Caller::of(&site, &request)?);
    let service = StreamableHttpService::new(
        move || Ok(tools.clone()),
        Arc::new(NeverSessionManager::default()),
        settings(),
    );
    let response = service.handle(handed_over(&request, message)).await;
    Ok(answer(response, &request, &id).await)
}

/// The status and the sentence for headers that the protocol doesn't allow.
fn wrong_headers(request: &HttpRequest) -> Option<(StatusCode, &'static str)> {
    let names = |header: &HeaderValue, media: &str| {
        let listed = header.to_str().unwrap_or_default().split(',');
        let mut bare = listed.map(|it| it.split(';').next().unwrap_or_default().trim());
        bare.any(|it| it.eq_ignore_ascii_case(media))
    };
    let headers = request.headers();
    let accepts = |media| headers.get_all(ACCEPT).any(|header| names(header, media));
    if !accepts("application/json") || !accepts("text/event-stream") {
        let text = "The header Accept doesn't name both media types, as the protocol asks. Send Accept: \
            application/json, text/event-stream.";
        return Some((StatusCode::NOT_ACCEPTABLE, text));
    }
    let is_json = headers
        .get(CONTENT_TYPE)
        .is_some_and(|header| names(header, "application/json"));
    (!is_json).then_some((
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "The header Content-Type doesn't name JSON. Send Content-Type: application/json.",
    ))
}

/// An answer in JSON.
fn json_rpc(status: StatusCode, body: impl Into<Bytes>) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .body(body.into())
}

/// The sender of a message, as far as limits and proofs of payments need it.
#[derive(Debug, Clone)]
struct Caller {
    /// The client's address, for rate limits.
    address: Option<std::net::IpAddr>,
    /// The client's address where it distinguishes the client from others.
    own_address: Option<std::net::IpAddr>,
    /// The value of `Idempotency-Key`.
    idempotency_key: Option<Vec<u8>>,
}

impl Caller {
    fn of(site: &Site, request: &HttpRequest) -> Result<Self, ApiError> {
        Ok(Self {
            address: extract::client_address(request, &site.config.http),
            own_address: extract::own_address(request, &site.config.http),
            idempotency_key: extract::idempotency_key(request)?.map(<[u8]>::to_vec),
        })
    }
}

/// Without sessions, with one JSON document for each answer. The Origin is checked here, by equal origins. The Host is
/// not: a page that rebinds its name to this server sends its own Origin.
fn settings() -> StreamableHttpServerConfig {
    StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_sse_keep_alive(None)
        .with_sse_retry(None)
        .with_max_request_body_bytes(LONGEST_MESSAGE)
        .disable_allowed_hosts()
        .disable_allowed_origins()
}

/// Refuses the pages of other origins. The protocol asks for it: a model's client in a browser would call tools with
/// what it knows. Clients that are no browsers send no Origin.
fn check_origin(site: &Site, request: &HttpRequest) -> Result<(), ApiError> {
    let ours = std::iter::once(&site.config.http.base_url).chain(&site.config.mcp.origins);
    let allowed: Vec<String> = ours.filter_map(|url| normal(url)).collect();
    let is_allowed = |sent: &HeaderValue| {
        let sent = sent.to_str().ok().and_then(normal);
        sent.is_some_and(|sent| allowed.contains(&sent))
    };
    if request.headers().get_all(ORIGIN).all(is_allowed) {
        return Ok(());
    }
    let message = "The request comes from a page of another origin, and only pages of this server and of the origins in \
        mcp.origins may call tools. Call them without a browser, or ask the operator to add the origin.";
    Err(ApiError::bad(Code::OriginNotAllowed, message))
}

/// An origin in the form in which equal origins are equal. `None`: the text is no origin, such as `null`.
fn normal(origin: &str) -> Option<String> {
    let origin = Url::parse(origin).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

/// Reads the body.
async fn read_message(mut payload: Payload) -> Result<Bytes, ApiError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk
            .map_err(|_| bad("The body ended before it was complete. Repeat the same request."))?;
        if body.len() + chunk.len() > LONGEST_MESSAGE {
            return Err(bad(&format!(
                "The message is longer than the limit of {LONGEST_MESSAGE} bytes. Tools take no bytes of images: send the \
                 arguments that tools/list describes."
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn bad(message: &str) -> ApiError {
    ApiError::bad(Code::InvalidBody, message)
}

/// The request in the types of rmcp, which has another version of the crate `http`.
fn handed_over(request: &HttpRequest, message: Bytes) -> http::Request<Full<Bytes>> {
    let mut handed = http::Request::new(Full::new(message));
    *handed.method_mut() = http::Method::POST;
    for (name, value) in request.headers() {
        let name = http::HeaderName::from_bytes(name.as_str().as_bytes());
        let value = http::HeaderValue::from_bytes(value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            handed.headers_mut().append(name, value);
        }
    }
    handed
}

/// The response in the types of actix. Where rmcp answers in plain text, or by a bare word, this says what to send.
async fn answer<B>(response: http::Response<B>, request: &HttpRequest, id: &Value) -> HttpResponse
where
    B: http_body::Body<Data = Bytes, Error = std::convert::Infallible>,
{
    let (head, body) = response.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(never) => match never {},
    };
    let status = StatusCode::from_u16(head.status.as_u16());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media = head.headers.get(http::header::CONTENT_TYPE);
    let is_json = media.is_some_and(|media| media.as_bytes().starts_with(b"application/json"));
    if is_json {
        let explained = frame::explained(&body).map(|answer| answer.to_string());
        return json_rpc(status, explained.map_or(body, Bytes::from));
    }
    if !status.is_client_error() && !status.is_server_error() {
        let mut answer = HttpResponse::build(status);
        if let Some(media) = media {
            answer.insert_header((CONTENT_TYPE, media.as_bytes()));
        }
        return answer
            .insert_header((CACHE_CONTROL, "no-store"))
            .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .body(body);
    }
    let asked = request.headers().get("mcp-protocol-version");
    let asked = asked.map(|asked| String::from_utf8_lossy(asked.as_bytes()));
    let unspoken = asked.filter(|asked| revisions().iter().all(|known| known.as_str() != asked));
    let error = if let Some(asked) = unspoken {
        frame::unsupported(id, &asked)
    } else {
        let said = plain(&String::from_utf8_lossy(&body), LONGEST_TEXT);
        let text = format!("{said}. Send a request as the protocol's revision describes it.");
        frame::error(id, frame::INVALID_REQUEST, &text)
    };
    json_rpc(status, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_origins_are_equal_however_they_are_written() {
        let ours = normal("https://img.example.com").unwrap();
        for same in ["https://IMG.example.com", "https://img.example.com:443"] {
            assert_eq!(normal(same).as_ref(), Some(&ours), "{same}");
        }
        for other in [
            "http://img.example.com",
            "https://img.example.com:8443",
            "https://img.example.com.evil.example",
            "https://evil.example",
            "null",
            "",
            "file:///",
        ] {
            assert_ne!(normal(other).as_ref(), Some(&ours), "{other}");
        }
        assert_eq!(normal("null"), None);
    }
}
