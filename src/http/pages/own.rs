//! The pages of somebody's own images: those that this browser uploaded, and those of a wallet. Their scripts ask the API; the
//! server knows no visitor.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;

use super::super::Site;
use super::{Assets, Layout, respond};

#[derive(Template)]
#[template(path = "mine.html")]
struct Mine<'a> {
    layout: Layout<'a>,
    base: &'a str,
}

#[derive(Template)]
#[template(path = "wallet.html")]
struct Wallet<'a> {
    layout: Layout<'a>,
    base: &'a str,
}

/// `GET /mine`.
pub(super) async fn mine(site: Site, assets: web::Data<Assets>) -> HttpResponse {
    let about = "The images that this browser uploaded: their links, the time left, and how to delete them.";
    let page = Mine {
        layout: Layout::unlisted(&site, &assets, "My uploads", about).at("/mine"),
        base: &site.config.http.base_url,
    };
    respond(&site, StatusCode::OK, &page)
}

/// `GET /wallet`.
pub(super) async fn wallet(site: Site, assets: web::Data<Assets>) -> HttpResponse {
    let about = "The images that a wallet paid for. The wallet signs a message that costs nothing.";
    let page = Wallet {
        layout: Layout::unlisted(&site, &assets, "My wallet’s images", about),
        base: &site.config.http.base_url,
    };
    respond(&site, StatusCode::OK, &page)
}
