//! What is answered while the database goes elsewhere: first nothing that would change it, then nothing at all.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpRequest, ResponseError};

use super::Site;
use super::error::ApiError;
use crate::moving::Service;

/// For routes that change things: they rest while the database is being moved.
pub(super) async fn changes<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    if service(&request) == Service::Full || *request.method() == Method::OPTIONS {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    Ok(refused(request, |request| ApiError::Moving.of(request)))
}

/// For a route that only DELETE changes something at.
pub(super) async fn deletes<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    if service(&request) == Service::Full || *request.method() != Method::DELETE {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    Ok(refused(request, |request| ApiError::Moving.of(request)))
}

/// For everything: a server whose database has moved may hold images that are deleted by now.
pub(super) async fn everything<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    if service(&request) != Service::Nothing || *request.method() == Method::OPTIONS {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    let mut response = refused(request, |request| ApiError::Moved.of(request));
    // A browser's wallet has to see what became of its payment.
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    Ok(response)
}

fn service(request: &ServiceRequest) -> Service {
    request
        .app_data::<Site>()
        .map_or(Service::Full, |site| site.moving.service())
}

fn refused<B>(
    request: ServiceRequest,
    why: impl FnOnce(&HttpRequest) -> ApiError,
) -> ServiceResponse<EitherBody<B>> {
    let answer = why(request.request()).error_response();
    request.into_response(answer).map_into_right_body()
}
