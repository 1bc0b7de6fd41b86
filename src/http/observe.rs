//! Watches every request of the public listener that reaches the router: its log line, its trace and
//! its counters.

use std::time::Instant;

use actix_web::HttpMessage;
use actix_web::HttpRequest;
use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderValue;
use actix_web::middleware::Next;
use tracing::Instrument;

use super::{REQUEST_ID, Site};
use crate::system::logs::{self, RequestLine};
use crate::system::{metrics, traces};

/// The tier that a request is about, in the extensions of the request.
#[derive(Debug, Clone)]
struct OfTier(String);

/// Notes the tier that a request is about. It has to be one of the configuration or the ledger, and
/// not what the client wrote.
pub(super) fn note_tier(request: &HttpRequest, tier: &str) {
    request.extensions_mut().insert(OfTier(tier.to_owned()));
}

/// The tier that a request is about, or `none`.
pub(super) fn tier_of(request: &HttpRequest) -> String {
    let extensions = request.extensions();
    let tier = extensions.get::<OfTier>();
    tier.map_or_else(|| metrics::NO_TIER.to_owned(), |OfTier(name)| name.clone())
}

/// The pattern of a response's route. It is never the path, since clients put secrets into paths by
/// mistake.
pub(super) fn route_of(request: &HttpRequest) -> String {
    let pattern = request.match_pattern();
    pattern.unwrap_or_else(|| "unmatched".to_owned())
}

/// The bytes of a body, as far as they are known before it is sent.
pub(super) fn bytes_of(body: &impl MessageBody) -> u64 {
    match body.size() {
        BodySize::Sized(bytes) => bytes,
        BodySize::None | BodySize::Stream => 0,
    }
}

/// A new id for a request. It is no secret.
pub(super) fn request_id(site: &Site) -> String {
    hex::encode(site.randomness.number().to_be_bytes())
}

/// Opens the spans of a request, logs one line when it is answered, counts the response, and sends
/// the request's id as `X-Request-Id`.
pub(super) async fn request(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let started = Instant::now();
    let method = request.method().clone();
    let id = request
        .app_data::<Site>()
        .map(request_id)
        .unwrap_or_default();
    let traced = traces::request(&id, metrics::method(method.as_str()));
    let span = traced.in_scope(|| logs::request_span(&id));
    let mut response = next.call(request).instrument(span.clone()).await?;
    let _entered = span.enter();
    let route = route_of(response.request());
    let tier = tier_of(response.request());
    let line = RequestLine {
        id: &id,
        method: method.as_str(),
        route: &route,
        status: response.status().as_u16(),
        tier: &tier,
        bytes: bytes_of(response.response().body()),
        elapsed: started.elapsed(),
    };
    line.log_now();
    traces::answered(&traced, &route, &tier, line.status);
    let counted = metrics::responses(&route, line.method, line.status, &tier, false);
    if let Some(counted) = counted {
        counted.count(line.elapsed);
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    Ok(response)
}
