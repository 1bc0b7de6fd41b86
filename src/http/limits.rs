//! Who asks too often, or at a bad time, is told when to come again. What counts is in `crate::limits`.

use actix_web::HttpRequest;
use actix_web::ResponseError;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::middleware::Next;
use tracing::Instrument;

use super::Site;
use super::body::{Arrived, Limit};
use super::error::ApiError;
use super::extract;
use super::paid::PaidRoute;
use crate::images::{Checked, Rules, UploadError, check};
use crate::limits::{FreeAttempt, Limited};

/// Counts an attempt at a free upload, or at a check, which costs as much. `None`: the client has no address.
pub(super) async fn free(
    site: &Site,
    request: &HttpRequest,
) -> Result<Option<FreeAttempt>, Limited> {
    match extract::client_address(request, &site.config.http) {
        None => Ok(None),
        Some(address) => site.limits.count_free(address).await.map(Some),
    }
}

/// Counts a challenge, or a payment that is presented.
pub(super) async fn payment(site: &Site, request: &HttpRequest) -> Result<(), ApiError> {
    let Some(address) = extract::client_address(request, &site.config.http) else {
        return Ok(());
    };
    let counted = site.limits.count_payment(address).await;
    counted.map_err(|error| refuse(request, error))
}

/// Whether an upload with a token may be spoilt once more.
pub(super) fn may_fail(site: &Site, request: &HttpRequest) -> Result<(), ApiError> {
    let Some(address) = extract::client_address(request, &site.config.http) else {
        return Ok(());
    };
    let may = site.limits.may_fail(address);
    may.map_err(|error| refuse(request, error))
}

/// Counts an upload with a token, where its client spoilt it.
pub(super) fn failure(site: &Site, request: &HttpRequest, error: &ApiError) {
    let address = extract::client_address(request, &site.config.http);
    if let Some(address) = address.filter(|_| error.status_code().is_client_error()) {
        site.limits.count_failure(address);
    }
}

/// What the client hears. A payment that came along wasn't looked up, so nothing is said of its charge.
pub(super) fn refuse(request: &HttpRequest, error: Limited) -> ApiError {
    ApiError::Limited(error).of(request)
}

/// The answer to a free upload that is over a limit: where the free uploads are spent, and another tier would take the
/// image now, it names the cheapest one. A client that sent a payment is not asked for another one.
pub(super) fn refuse_free(site: &Site, request: &HttpRequest, error: Limited) -> ApiError {
    let is_spent = match &error {
        Limited::Rate { .. } | Limited::Day { .. } | Limited::HalfDay { .. } => true,
        Limited::Busy | Limited::Crowded | Limited::Thronged | Limited::Database(_) => false,
    };
    if is_spent
        && !extract::has_payment(request)
        && let Some(route) = PaidRoute::cheapest(site)
    {
        return ApiError::FreeSpent { error, route };
    }
    refuse(request, error)
}

/// Checks the bytes when it is their turn. `Ok(Err(_))`: they were looked at, and something is wrong.
pub(super) async fn checked(
    site: &Site,
    request: &HttpRequest,
    arrived: Arrived,
    limit: Limit<'_>,
) -> Result<Result<Checked, UploadError>, ApiError> {
    let address = extract::client_address(request, &site.config.http);
    let place = site.limits.enter_check(address).await;
    let place = place.map_err(|error| refuse(request, error))?;
    let (tier, max_bytes) = (limit.tier.to_owned(), limit.max_bytes);
    let limits = site.config.images.limits;
    let length = length_of(&arrived.bytes);
    // Whatever is stored in the end, a cleaned copy is looked at.
    let copy = if length <= max_bytes {
        let room = site.limits.begin_copy(length).await;
        Some(room.map_err(|error| refuse(request, error))?)
    } else {
        None
    };
    // The place is free when the work is done, not when the client goes away.
    let work = async move {
        let Arrived {
            bytes,
            metadata,
            room,
        } = arrived;
        let rules = Rules {
            tier: &tier,
            max_bytes,
            metadata,
            limits,
        };
        let checked = check(bytes, rules).await;
        drop(place);
        // What is stored is what stays in memory from now on, for as long as its payment takes: the body, or a copy of
        // its image alone.
        let held = checked.map(|checked| {
            let is_copy = checked.is_copy();
            checked.held_by(|stored| {
                let room = if is_copy {
                    room.lowered(length_of(&stored))
                } else {
                    room
                };
                room.fill(stored)
            })
        });
        drop(copy);
        held
    };
    let done = tokio::spawn(work.in_current_span());
    Ok(done.await.unwrap_or(Err(UploadError::Interrupted)))
}

fn length_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Counts what isn't there. What is there is served to whoever asks: one address may be a whole CDN, and
/// looking costs less than the answer.
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
