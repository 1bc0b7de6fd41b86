//! Applies the limits of `crate::limits` to requests. A request over a limit receives an error that
//! says when to repeat it.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::ResponseError;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::middleware::Next;

use super::Site;
use super::error::ApiError;
use super::extract;
use super::paid_route::PaidRoute;
use super::payment_headers::has_payment;
use super::upload_limit::Limit;
use crate::images::{Checked, ReceivedImage, Rules, UploadError, check_in_turn};
use crate::limits::{FreeAttempt, Limited};

/// Counts an attempt at a free upload, or at a check, which counts the same. `None`: the client's
/// address is unknown, and nothing was counted.
pub(super) async fn count_free(
    site: &Site,
    request: &HttpRequest,
) -> Result<Option<FreeAttempt>, Limited> {
    match extract::client_address(request, &site.config.http) {
        None => Ok(None),
        Some(address) => site.limits.count_free(address).await.map(Some),
    }
}

/// Counts the free uploads of a free link. `None`: the client's address is unknown.
pub(super) async fn count_free_uploads(
    site: &Site,
    client: Option<IpAddr>,
    uploads: u32,
) -> Result<Option<FreeAttempt>, Limited> {
    match client {
        None => Ok(None),
        Some(address) => {
            let counted = site.limits.count_free_uploads(address, u64::from(uploads));
            counted.await.map(Some)
        }
    }
}

/// Counts a request to a paid route, with or without a payment.
pub(super) async fn count_payment(site: &Site, request: &HttpRequest) -> Result<(), ApiError> {
    let Some(address) = extract::client_address(request, &site.config.http) else {
        return Ok(());
    };
    let counted = site.limits.count_payment(address).await;
    counted.map_err(|error| refuse(request, error))
}

/// Refuses an upload with a token if too many such uploads of the client failed.
pub(super) fn may_fail(site: &Site, request: &HttpRequest) -> Result<(), ApiError> {
    let Some(address) = extract::client_address(request, &site.config.http) else {
        return Ok(());
    };
    let may = site.limits.may_fail(address);
    may.map_err(|error| refuse(request, error))
}

/// Counts an upload with a token that failed because of what the client sent.
pub(super) fn count_failure(site: &Site, request: &HttpRequest, error: &ApiError) {
    let address = extract::client_address(request, &site.config.http);
    if let Some(address) = address.filter(|_| error.status_code().is_client_error()) {
        site.limits.count_failure(address);
    }
}

/// The error for a request over a limit. If the request carries a payment, the ledger was not asked
/// about it, so the error doesn't say whether it was charged.
pub(super) fn refuse(request: &HttpRequest, error: Limited) -> ApiError {
    ApiError::Limited(error).of(request)
}

/// The error for a free upload over a limit. If the free uploads are used up and a paid tier would
/// take the image now, the error names the cheapest such tier. A client that sent a payment is not
/// asked for another one.
pub(super) fn refuse_free(site: &Site, request: &HttpRequest, error: Limited) -> ApiError {
    if has_payment(request) {
        return refuse(request, error);
    }
    refuse_unpaid(site, error)
}

/// The same for a client that sent no payment.
pub(super) fn refuse_unpaid(site: &Site, error: Limited) -> ApiError {
    let is_spent = match &error {
        Limited::Rate { .. } | Limited::Day { .. } | Limited::HalfDay { .. } => true,
        Limited::Busy | Limited::Crowded | Limited::Thronged | Limited::Database(_) => false,
    };
    match PaidRoute::cheapest(site).filter(|_| is_spent) {
        Some(route) => ApiError::FreeSpent { error, route },
        None => ApiError::Limited(error),
    }
}

/// Checks the image when a place for it is free. `Ok(Err(_))`: the image was checked and is
/// refused.
pub(super) async fn checked(
    site: &Site,
    request: &HttpRequest,
    arrived: ReceivedImage,
    limit: Limit<'_>,
) -> Result<Result<Checked, UploadError>, ApiError> {
    let address = extract::client_address(request, &site.config.http);
    let rules = Rules {
        tier: limit.tier,
        max_bytes: limit.max_bytes,
        metadata: arrived.metadata,
        limits: site.config.images.limits,
    };
    let checked = check_in_turn(&site.limits, address, arrived, rules).await;
    checked.map_err(|error| refuse(request, error))
}

/// Middleware that limits how many missing images a client requests. Requests for existing images
/// are not limited: one address may be a whole CDN, and a lookup costs less than the response.
pub(super) async fn misses<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let response = next.call(request).await?;
    if response.status() != StatusCode::NOT_FOUND {
        return Ok(response.map_into_left_body());
    }
    let limited = response
        .request()
        .app_data::<Site>()
        .and_then(|site| {
            let address = extract::client_address(response.request(), &site.config.http)?;
            site.limits.count_miss(address).err()
        })
        .map(|error| refuse(response.request(), error).error_response());
    Ok(match limited {
        Some(answer) => response.into_response(answer).map_into_right_body(),
        None => response.map_into_left_body(),
    })
}
