//! The errors of the admin API.

use actix_web::http::StatusCode;
use actix_web::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde_json::json;

use crate::limits::Limited;
use crate::trust::ActError;

/// Why the admin API refuses a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminError {
    /// The bearer token is missing or wrong.
    #[error(
        "The bearer token is missing or wrong. Send `Authorization: Bearer …` with admin.token."
    )]
    Unauthorized,
    /// Too many wrong tokens came from this address.
    #[error("{0}")]
    Limited(Limited),
    /// No token is configured.
    #[error(
        "The admin API and the console are off, because admin.token is not set. Set it to at least 32 characters, such as the output of `openssl rand -hex 32`, and restart the server."
    )]
    Off,
    /// There is no such path.
    #[error(
        "The admin API has no such path or method. docs/trust.md, \"Use the admin API\", lists its requests."
    )]
    NoPath,
    /// The request can't be understood.
    #[error("{0}")]
    Bad(String),
    /// The act was not carried out.
    #[error("{0}")]
    Act(#[from] ActError),
}

impl AdminError {
    /// The status and the stable code.
    const fn verdict(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Limited(_) => (StatusCode::TOO_MANY_REQUESTS, "rate_limited"),
            Self::Off | Self::NoPath => (StatusCode::NOT_FOUND, "unknown_route"),
            Self::Bad(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::Act(error) => of_act(error),
        }
    }
}

const fn of_act(error: &ActError) -> (StatusCode, &'static str) {
    match error {
        ActError::Bad(_) => (StatusCode::BAD_REQUEST, "bad_request"),
        ActError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown_image"),
        ActError::NoCase(_) => (StatusCode::NOT_FOUND, "case_unknown"),
        ActError::Decided(_) => (StatusCode::CONFLICT, "case_decided"),
        ActError::Unfit { .. } => (StatusCode::CONFLICT, "unfit_state"),
        ActError::NotHeld(_) => (StatusCode::CONFLICT, "not_held"),
        ActError::Held(_) => (StatusCode::CONFLICT, "held"),
        ActError::TooEarly { .. } => (StatusCode::CONFLICT, "too_early"),
        ActError::Over(_) => (StatusCode::CONFLICT, "not_restorable"),
        ActError::Refunded(_) => (StatusCode::CONFLICT, "payment_refunded"),
        ActError::NoWallet(_) => (StatusCode::CONFLICT, "no_wallet"),
        ActError::Renewing(_) => (StatusCode::CONFLICT, "renewal_in_progress"),
        ActError::ContentMissing(_) => (StatusCode::CONFLICT, "content_missing"),
        ActError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        ActError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        ActError::Package { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "package_failed"),
        ActError::Database(_) => (StatusCode::SERVICE_UNAVAILABLE, "database_unavailable"),
        ActError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"),
    }
}

impl ResponseError for AdminError {
    fn status_code(&self) -> StatusCode {
        self.verdict().0
    }

    fn error_response(&self) -> HttpResponse {
        let (status, code) = self.verdict();
        let mut response = HttpResponse::build(status);
        if let Self::Act(ActError::Database(_) | ActError::Store(_)) = self {
            tracing::error!(error = %self, "an act of the operator failed");
        }
        if let Self::Limited(Limited::Rate { wait, .. }) = self {
            response.insert_header((RETRY_AFTER, wait.as_secs().saturating_add(1).to_string()));
        }
        if let Self::Unauthorized = self {
            response.insert_header((WWW_AUTHENTICATE, "Bearer realm=\"pixtoll admin\""));
        }
        response.json(json!({"error": code, "message": self.to_string()}))
    }
}
