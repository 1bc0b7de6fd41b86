//! `/healthz` and `/readyz`, for operators.

use actix_web::HttpResponse;
use serde_json::json;

use super::Site;
use crate::images::{Unready, UploadError};
use crate::moving::Service;

/// `GET /healthz`: the process is running.
pub(super) async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({"alive": true}))
}

/// `GET /readyz`: 200 if the database and the image store answer and the disk has room. A `problem`
/// beside 200 says which routes are closed.
pub(super) async fn ready(site: Site) -> HttpResponse {
    if site.moving.service() == Service::Nothing {
        let problem = "the database has moved: stop this server, and start one on the new database";
        return HttpResponse::ServiceUnavailable()
            .json(json!({"ready": false, "problem": problem}));
    }
    match site.images.ready().await {
        Ok(()) if site.moving.service() == Service::Reads => HttpResponse::Ok().json(json!({
            "ready": true,
            "problem": "the database is being moved: only images are served until pixtoll migrate has finished"
        })),
        // Free uploads and images still work, so a load balancer should keep sending requests here.
        Ok(()) if site.epoch.is_behind() => HttpResponse::Ok().json(json!({
            "ready": true,
            "problem": "the database is older than its store: paid routes are closed until the operator runs pixtoll ledger recover"
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
