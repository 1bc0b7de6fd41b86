//! `/upload`: what the form of the front page posts to where no script runs. And the pages after an
//! upload, which upload links show too.

use actix_web::http::header::LOCATION;
use actix_web::http::{Method, StatusCode};
use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;

use super::super::error::ApiError;
use super::super::intake::Source;
use super::super::views::UploadAnswer;
use super::super::{Site, free, images, query, unknown_route};
use super::{Assets, Layout, minute, respond, uncached, wants_page};
use crate::pricing::tiers::SizeText;

/// The path of the form.
pub(super) const PATH: &str = "/upload";

#[derive(Template)]
#[template(path = "uploaded.html")]
struct Uploaded<'a> {
    layout: Layout<'a>,
    answer: &'a UploadAnswer,
    /// How long the image is kept, in a sentence.
    kept: String,
    size: SizeText,
    /// The forms in which people pass the image on, with their names.
    forms: [(&'static str, String); 4],
    /// The address of the form.
    again: &'a str,
}

#[derive(Template)]
#[template(path = "not_uploaded.html")]
struct NotUploaded<'a> {
    layout: Layout<'a>,
    message: String,
    /// The address of the form, if it may take another try.
    again: Option<&'a str>,
}

/// `POST /upload`: stores an image in the free tier, and shows its link. A reader who opens the path
/// is sent to the form, and a program is told of the routes that are for it.
pub(super) async fn upload(
    site: Site,
    assets: web::Data<Assets>,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    if !wants_page(&request) {
        return Err(unknown_route(&request));
    }
    if *request.method() != Method::POST {
        return Ok(HttpResponse::SeeOther()
            .insert_header((LOCATION, "/"))
            .finish());
    }
    let stored = match query::check(&request, &[]) {
        Ok(()) => free::stored(&site, &request, Source::Body(payload)).await,
        Err(error) => Err(error),
    };
    Ok(match stored {
        Ok(image) => uploaded(&site, &assets, &images::upload_answer(&site, &image), "/"),
        Err(error) => refused(&site, &assets, &error, Some("/")),
    })
}

/// The page after an upload. `again` is the address of the form that takes the next one.
pub(in crate::http) fn uploaded(
    site: &Site,
    assets: &Assets,
    answer: &UploadAnswer,
    again: &str,
) -> HttpResponse {
    let facts = &answer.facts;
    let url = &facts.url;
    let source = url.replace('&', "&amp;");
    let (width, height) = (facts.width, facts.height);
    let page = Uploaded {
        layout: Layout::unlisted(site, assets, "Uploaded", "The links of an uploaded image."),
        answer,
        kept: match &facts.expires_at {
            Some(end) => format!("The image is kept until {}.", minute(end)),
            None => "The image is kept for as long as this service exists.".to_owned(),
        },
        size: SizeText(facts.size_bytes),
        forms: [
            ("URL", url.clone()),
            ("Markdown", answer.markdown.clone()),
            (
                "HTML",
                format!("<img src=\"{source}\" width=\"{width}\" height=\"{height}\" alt=\"\">"),
            ),
            ("BBCode", format!("[img]{url}[/img]")),
        ],
        again,
    };
    let mut response = uncached(respond(site, StatusCode::OK, &page));
    if let Ok(location) = url.parse() {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// The page of an upload that was refused.
pub(in crate::http) fn refused(
    site: &Site,
    assets: &Assets,
    error: &ApiError,
    again: Option<&str>,
) -> HttpResponse {
    let (status, message) = error.explain();
    let about = "An upload that the server refused, and what to do.";
    let page = NotUploaded {
        layout: Layout::unlisted(site, assets, "Not uploaded", about),
        message,
        again,
    };
    uncached(respond(site, status, &page))
}
