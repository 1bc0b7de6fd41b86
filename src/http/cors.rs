//! Cross-origin requests: pages of any origin may call every path and read every response, also
//! those to errors and unknown paths. The API uses no cookies, so this exposes no session.

use actix_web::HttpResponse;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderValue,
};
use actix_web::middleware::Next;

/// The methods of all routes, for the response to a preflight.
const METHODS: &str = "GET, HEAD, POST, PUT, DELETE";
/// The allowed request headers, for the response to a preflight that names none.
const HEADERS: &str = "authorization, payment-signature, x-payment, x-upload-token, x-delete-token, \
                       sign-in-with-x, idempotency-key, content-type, \
                       accept, access-control-expose-headers";
/// The response headers that a page may read.
const EXPOSED: &str =
    "payment-required, payment-response, x-payment-response, location, retry-after, x-request-id";
/// How long a browser may cache the response to a preflight, in seconds.
const MAX_AGE: &str = "3600";

/// Middleware that answers preflights and lets pages of every origin read every response. A
/// response that already has its own header for this, such as those of the image origin, stays
/// unchanged.
pub(super) async fn everywhere<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let is_preflight = *request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if is_preflight {
        let asked = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS);
        // Client libraries add headers of their own, and the server allows all of them.
        let asked = asked
            .and_then(|names| names.to_str().ok())
            .unwrap_or(HEADERS);
        let headers: Vec<&str> = asked.split(',').map(str::trim).collect();
        let headers = headers.join(", ");
        let answer = HttpResponse::Ok()
            .insert_header((ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
            .insert_header((ACCESS_CONTROL_ALLOW_METHODS, METHODS))
            .insert_header((ACCESS_CONTROL_ALLOW_HEADERS, headers))
            .insert_header((ACCESS_CONTROL_MAX_AGE, MAX_AGE))
            .finish();
        return Ok(request.into_response(answer).map_into_right_body());
    }
    let mut response = next.call(request).await?.map_into_left_body();
    let headers = response.headers_mut();
    if !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(EXPOSED),
        );
    }
    Ok(response)
}
