//! Refuses requests while the server's database is moved to another one: first those that would
//! change it, after the move all of them.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpRequest, ResponseError};

use super::Site;
use super::error::ApiError;
use crate::moving::Service;

/// Middleware for routes that change data. It refuses their requests while the database is being
/// moved.
pub(super) async fn changes<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    if service(&request) == Service::Full || *request.method() == Method::OPTIONS {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    Ok(refused(request, |request| ApiError::Moving.of(request)))
}

/// Middleware for a route where only DELETE changes data.
pub(super) async fn deletes<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    if service(&request) == Service::Full || *request.method() != Method::DELETE {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    Ok(refused(request, |request| ApiError::Moving.of(request)))
}

/// Middleware for all routes. It refuses every request after the move: the old database may still
/// hold images that were deleted since.
pub(super) async fn everything<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    if service(&request) != Service::Nothing || *request.method() == Method::OPTIONS {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    let mut response = refused(request, |request| ApiError::Moved.of(request));
    // A wallet in a browser must be able to read what this response says about its payment.
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    Ok(response)
}

/// What the server may do now.
fn service(request: &ServiceRequest) -> Service {
    request
        .app_data::<Site>()
        .map_or(Service::Full, |site| site.moving.service())
}

/// Answers the request with an error.
fn refused<B>(
    request: ServiceRequest,
    why: impl FnOnce(&HttpRequest) -> ApiError,
) -> ServiceResponse<EitherBody<B>> {
    let answer = why(request.request()).error_response();
    request.into_response(answer).map_into_right_body()
}
