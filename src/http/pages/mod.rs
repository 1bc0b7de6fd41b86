//! The pages for people: what they have in common, and their routes. Each page is a template of `templates/`, a struct with what
//! it shows, and a handler; most are in a file of their own.

use std::collections::HashMap;

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::from_fn;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use url::form_urlencoded;

use super::accept::preferred;
use super::{Site, limits, moving, of_methods};

mod abuse;
mod assets;
mod delete;
mod docs;
mod errors;
mod home;
mod layout;
pub(super) mod link;
mod markdown;
mod own;
mod proof;
mod service;
mod texts;
pub(super) mod upload;
mod uploader;
mod view;
mod words;

pub(super) use assets::Assets;
pub(super) use docs::{Library, document, tools};
pub(super) use errors::explain_errors;
pub(super) use home::home;
use layout::Layout;
pub(super) use layout::listed;

/// Registers the pages and their assets.
pub(super) fn routes(config: &mut web::ServiceConfig, assets: web::Data<Assets>) {
    let read = [Method::GET, Method::HEAD];
    let form = [Method::GET, Method::HEAD, Method::POST];
    config
        .app_data(assets)
        .service(of_methods(
            "/assets/{version}/{file:.+}",
            &read,
            assets::asset,
        ))
        .service(of_methods("/proof", &read, proof::proof))
        .service(of_methods("/view/{id}", &read, view::view).wrap(from_fn(limits::misses)))
        .service(of_methods("/delete/{id}", &form, delete::page).wrap(from_fn(moving::changes)))
        .service(of_methods("/mine", &read, own::mine))
        .service(of_methods("/wallet", &read, own::wallet))
        .service(of_methods("/security", &read, texts::security))
        .service(of_methods("/terms", &read, texts::terms))
        .service(of_methods("/privacy", &read, texts::privacy))
        .service(of_methods(upload::PATH, &form, upload::upload).wrap(from_fn(moving::changes)))
        .service(of_methods("/abuse", &form, abuse::abuse).wrap(from_fn(moving::changes)))
        .service(of_methods("/abuse/{case}", &read, abuse::case));
}

/// A time of RFC 3339 for people, to the minute: `2026-12-28 10:00 UTC`.
fn minute(time: &str) -> String {
    match (time.get(..10), time.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute} UTC"),
        _ => time.to_owned(),
    }
}

/// The fields of a form, by name.
fn fields(body: &[u8]) -> HashMap<String, String> {
    form_urlencoded::parse(body).into_owned().collect()
}

/// The field with this name, if something was typed there.
fn field(fields: &HashMap<String, String>, name: &str) -> Option<String> {
    let text = fields.get(name)?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Whether the request comes from somebody who reads pages: a browser names `text/html` in `Accept`,
/// programs don't. Who prefers Markdown, plain text or JSON receives that.
pub(super) fn wants_page(request: &HttpRequest) -> bool {
    prefers_page(request.headers())
}

/// The same, by the headers of a request.
pub(super) fn prefers_page(headers: &HeaderMap) -> bool {
    let offers = [
        ("text/html", true),
        ("text/markdown", false),
        ("text/plain", false),
        ("application/json", false),
    ];
    preferred(headers, &offers, false)
}

/// Whether payments are play money.
fn takes_play_money(site: &Site) -> bool {
    let checkout = site.checkout.as_ref();
    checkout.is_some_and(|checkout| checkout.catalog.is_play_money())
}

/// The same response, for a page with a secret: no cache keeps it.
fn uncached(mut response: HttpResponse) -> HttpResponse {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The response with a page. Scripts, styles and requests are allowed from this server alone; images are also shown and read
/// from where it serves images. Nothing is written in the page that a browser would run.
pub(super) fn respond(site: &Site, status: StatusCode, page: &impl Template) -> HttpResponse {
    let images = layout::origin_of(&site.config.images.base_url);
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob: {images}; connect-src 'self' {images}; \
         manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    send(status, page, "no-cache", policy)
}

/// The response with a page, with what caches and browsers may do with it.
fn send(
    status: StatusCode,
    page: &impl Template,
    caching: &'static str,
    policy: String,
) -> HttpResponse {
    let html = match page.render() {
        Ok(html) => html,
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            return HttpResponse::InternalServerError().finish();
        }
    };
    HttpResponse::build(status)
        .insert_header((CACHE_CONTROL, caching))
        .insert_header((VARY, "Accept"))
        .insert_header((CONTENT_SECURITY_POLICY, policy))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .content_type("text/html; charset=utf-8")
        .body(html)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_to_the_minute() {
        assert_eq!(minute("2027-01-15T08:00:59.000Z"), "2027-01-15 08:00 UTC");
    }
}
