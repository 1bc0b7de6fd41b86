//! Authorization of the admin API: one bearer token, compared in constant time. Wrong tokens are
//! limited for each address.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::AUTHORIZATION;
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, ResponseError};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::AdminError;
use crate::config::AdminToken;
use crate::http::{Site, extract};

/// Middleware that lets requests with the token through. Without a configured token, the API does
/// not exist.
pub(super) async fn authorize(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    match check(&request) {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        Err(refused) => {
            let response = refused.error_response();
            Ok(request.into_response(response).map_into_right_body())
        }
    }
}

fn check(request: &ServiceRequest) -> Result<(), AdminError> {
    let site = request.app_data::<Site>().ok_or(AdminError::NoPath)?;
    let Some(token) = &site.config.admin_token else {
        return Err(AdminError::Off);
    };
    let address = extract::client_address(request.request(), &site.config.http);
    // Before the token is compared: otherwise a limit would not slow guessing down.
    if let Some(address) = address {
        let may = site.limits.may_try_admin_token(address);
        may.map_err(AdminError::Limited)?;
    }
    // A request without a token guesses nothing. If it counted, any web page that the operator
    // opens could lock the operator out by requests to the loopback address.
    if !request.headers().contains_key(AUTHORIZATION) {
        return Err(AdminError::Unauthorized);
    }
    if !is_authorized(request.request(), token) {
        if let Some(address) = address {
            site.limits.count_wrong_admin_token(address);
        }
        tracing::warn!("a request to the admin API had a wrong token");
        return Err(AdminError::Unauthorized);
    }
    Ok(())
}

/// Whether the request has the token. Hashes are compared, so that not even the length of the token
/// shows in the time that this takes.
fn is_authorized(request: &HttpRequest, token: &AdminToken) -> bool {
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let (Some(header), None) = (headers.next(), headers.next()) else {
        return false;
    };
    let Some((scheme, sent)) = header.to_str().ok().and_then(|text| text.split_once(' ')) else {
        return false;
    };
    let hash = |text: &str| Sha256::digest(text.as_bytes());
    let is_same = hash(sent.trim()).ct_eq(&hash(token.reveal()));
    scheme.eq_ignore_ascii_case("bearer") && is_same.into()
}
