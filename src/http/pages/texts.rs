//! The pages about the service: what it promises, its terms, and what it keeps of whom.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;

use super::super::Site;
use super::service::Service;
use super::{Assets, Layout, respond};

#[derive(Template)]
#[template(path = "security.html")]
struct Security<'a> {
    layout: Layout<'a>,
    service: Service<'a>,
}

#[derive(Template)]
#[template(path = "terms.html")]
struct Terms<'a> {
    layout: Layout<'a>,
    service: Service<'a>,
}

#[derive(Template)]
#[template(path = "privacy.html")]
struct Privacy<'a> {
    layout: Layout<'a>,
    service: Service<'a>,
}

/// `GET /security`.
pub(super) async fn security(site: Site, assets: web::Data<Assets>) -> HttpResponse {
    let about = "Who can see an image, what is kept, how it is protected, and when it is deleted.";
    let page = Security {
        layout: Layout::listed(&site, &assets, "/security", "Security", about),
        service: Service::of(&site),
    };
    respond(&site, StatusCode::OK, &page)
}

/// `GET /terms`.
pub(super) async fn terms(site: Site, assets: web::Data<Assets>) -> HttpResponse {
    let about = "What the service is, what may be uploaded, and what happens to what may not.";
    let page = Terms {
        layout: Layout::listed(&site, &assets, "/terms", "Terms", about),
        service: Service::of(&site),
    };
    respond(&site, StatusCode::OK, &page)
}

/// `GET /privacy`.
pub(super) async fn privacy(site: Site, assets: web::Data<Assets>) -> HttpResponse {
    let about = "Which data the service keeps, why, on which legal ground, and for how long.";
    let page = Privacy {
        layout: Layout::listed(&site, &assets, "/privacy", "Privacy", about),
        service: Service::of(&site),
    };
    respond(&site, StatusCode::OK, &page)
}
