//! How programs that people have upload to this server: screenshot tools and editors. The text is one, as a page and as Markdown.

use actix_web::http::header::CONTENT_DISPOSITION;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;
use url::Url;

use super::super::Site;
use super::super::pages::{self, Assets};
use super::{describe, fill, markdown};

const TOOLS: &str = include_str!("tools.md");

/// `GET /tools`.
pub(super) async fn tools(
    site: Site,
    assets: web::Data<Assets>,
    request: HttpRequest,
) -> HttpResponse {
    let text = fill(&site, TOOLS);
    if pages::wants_page(&request) {
        return pages::tools(&site, &assets, &text);
    }
    markdown(&site, &request, text)
}

/// `GET /tools/pixtoll.sxcu`: the custom uploader of ShareX (<https://getsharex.com/docs/custom-uploader>). ShareX names it by the
/// host.
pub(super) async fn sharex(site: Site) -> HttpResponse {
    let base = &site.config.http.base_url;
    let uploader = json!({
        "Version": "14.0.1",
        "DestinationType": "ImageUploader",
        "RequestMethod": "POST",
        "RequestURL": format!("{base}/api/free"),
        "Body": "MultipartFormData",
        "FileFormName": "image",
        "URL": "{json:url}",
        "ThumbnailURL": "{json:sizes.s}",
        "DeletionURL": "{json:deleteUrl}",
        "ErrorMessage": "{json:message}",
    });
    let host = Url::parse(base).ok();
    let host = host.as_ref().and_then(Url::host_str).unwrap_or("pixtoll");
    let name = host.trim_matches(['[', ']']).replace(':', "-");
    let mut response = HttpResponse::Ok();
    describe(&mut response, base);
    response
        .insert_header((
            CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}.sxcu\""),
        ))
        .content_type("application/json")
        .body(format!("{uploader:#}\n"))
}
