//! Which headers carry a payment, and which answer it.

use actix_web::HttpRequest;

use crate::x402::header::{PAYMENT_RESPONSE, PAYMENT_SIGNATURE, X_PAYMENT, X_PAYMENT_RESPONSE};
use crate::x402::wire::Version;

/// The response headers that describe the settlement of a payment. A client reads the header of its
/// version of x402. A client that mixes the versions reads the counterpart of the request header
/// that it sent, so it receives both.
pub(super) fn settlement_headers(
    request: &HttpRequest,
    version: Version,
) -> impl Iterator<Item = &'static str> {
    let headers = request.headers();
    let pairs = [
        (Version::V2, PAYMENT_SIGNATURE, PAYMENT_RESPONSE),
        (Version::V1, X_PAYMENT, X_PAYMENT_RESPONSE),
    ];
    pairs
        .into_iter()
        .filter_map(move |(spoken, sent, answered)| {
            (spoken == version || headers.contains_key(sent)).then_some(answered)
        })
}

/// Whether a request carries a payment header, readable or not.
pub(super) fn has_payment(request: &HttpRequest) -> bool {
    let headers = request.headers();
    headers.contains_key(PAYMENT_SIGNATURE) || headers.contains_key(X_PAYMENT)
}
