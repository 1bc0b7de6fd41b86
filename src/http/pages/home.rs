//! The front page.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use askama::Template;

use super::super::Site;
use super::uploader::Uploader;
use super::{Assets, Layout, respond};

#[derive(Template)]
#[template(path = "home.html")]
struct Home<'a> {
    layout: Layout<'a>,
    uploader: Uploader<'a>,
    base: &'a str,
}

/// The front page, for `GET /` of a browser.
pub(in crate::http) async fn home(site: &Site, assets: &Assets) -> HttpResponse {
    let tiers = site.tiers.now();
    // Without the number the page is as useful.
    let left = site
        .limits
        .free_left(&site.db)
        .await
        .unwrap_or_else(|error| {
            tracing::warn!(%error, "the front page doesn't show how many free uploads are left");
            None
        });
    let description =
        "Upload an image, get a link. Free for a while, or paid per image by wallet. No account.";
    let page = Home {
        layout: Layout::listed(site, assets, "/", "Upload an image", description),
        uploader: Uploader::of_tiers(site, &tiers, left),
        base: &site.config.http.base_url,
    };
    respond(site, StatusCode::OK, &page)
}
