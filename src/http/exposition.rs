//! `/metrics` of the admin listener.

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpResponse, web};

use super::error::{ApiError, Code};
use crate::monitoring::Monitor;
use crate::system::metrics;

/// `GET /metrics`: everything that this server has counted, as text of `OpenMetrics`.
pub(super) async fn metrics(monitor: web::Data<Monitor>) -> Result<HttpResponse, ApiError> {
    match monitor.text().await {
        Some(Ok(text)) => Ok(HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, metrics::CONTENT_TYPE))
            .body(text)),
        Some(Err(_)) => Ok(HttpResponse::InternalServerError().finish()),
        None => {
            let message = "This server counts nothing, because metrics.enabled is false. Set it to true, and restart the server.";
            Err(ApiError::bad(Code::UnknownRoute, message))
        }
    }
}
