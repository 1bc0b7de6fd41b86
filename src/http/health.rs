//! `/healthz` and `/readyz`, for operators.

use actix_web::HttpResponse;
use serde_json::json;

use super::Site;
use crate::images::{Unready, UploadError};

/// The process lives.
pub(super) async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({"alive": true}))
}

/// Database and store answer, and there is room.
pub(super) async fn ready(site: Site) -> HttpResponse {
    match site.images.ready().await {
        // Free uploads and images go on, so nobody is sent elsewhere.
        Ok(()) if site.epoch.is_behind() => HttpResponse::Ok().json(json!({
            "ready": true,
            "problem": "the database is older than its store: paid routes are closed until pixtoll ledger recover"
        })),
        Ok(()) => HttpResponse::Ok().json(json!({"ready": true})),
        Err(error) => {
            let what = match error {
                UploadError::Unready(Unready::Store) => "the image store does not answer",
                UploadError::Full(_) => "free space is below images.min_free",
                _ => "the database does not answer",
            };
            HttpResponse::ServiceUnavailable().json(json!({"ready": false, "problem": what}))
        }
    }
}
