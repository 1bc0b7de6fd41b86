//! The admin API: the operator's acts over the admin listener, for the holder of `admin.token`. It
//! calls the same functions as `pixtoll admin`, and answers with the same JSON. The console is a page
//! that uses it.

use actix_web::dev::HttpServiceFactory;
use actix_web::http::header;
use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::web::{self, get, post};

mod acts;
mod authorize;
mod blocks;
mod cases;
pub(super) mod console;
mod content;
mod error;
mod stats;

use super::observe;
use error::AdminError;

/// The path of the API on the admin listener.
pub(super) const PATH: &str = "/admin/api";

/// The routes of the API.
pub(super) fn scope() -> impl HttpServiceFactory {
    web::scope(PATH)
        .wrap(from_fn(authorize::authorize))
        .wrap(
            DefaultHeaders::new()
                .add((header::CACHE_CONTROL, "no-store"))
                .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff")),
        )
        .wrap(from_fn(observe::request))
        .route("/images", get().to(acts::list))
        .route("/images/{id}", get().to(acts::show))
        .route("/images/{id}/view", post().to(content::view))
        .route("/images/{id}/remove", post().to(acts::remove))
        .route("/images/{id}/restore", post().to(acts::restore))
        .route("/images/{id}/hold", post().to(acts::hold))
        .route("/images/{id}/release", post().to(acts::release))
        .route("/images/{id}/acknowledge", post().to(acts::acknowledge))
        .route("/cases", get().to(cases::list))
        .route("/cases/{case}", get().to(cases::show))
        .route("/cases/{case}/uphold", post().to(cases::uphold))
        .route("/cases/{case}/dismiss", post().to(cases::dismiss))
        .route("/blocks", get().to(blocks::list))
        .route("/blocks/count", get().to(blocks::count))
        .route("/blocks/import", post().to(blocks::import))
        .route("/block", post().to(blocks::block))
        .route("/unblock", post().to(blocks::unblock))
        .route("/find", get().to(acts::find))
        .route("/log", get().to(acts::log))
        .route("/log/verify", get().to(acts::verify))
        .route("/stats", get().to(stats::stats))
        .default_service(web::to(no_such_path))
}

async fn no_such_path() -> Result<actix_web::HttpResponse, AdminError> {
    Err(AdminError::NoPath)
}
