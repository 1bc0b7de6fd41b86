//! The console: a page on the admin listener that uses the admin API. Its files are part of the
//! binary and hold no secret; everything that the operator sees comes from the API, by the token that
//! the operator types in.

use actix_web::dev::HttpServiceFactory;
use actix_web::http::header;
use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::{HttpRequest, HttpResponse, web};

use super::error::AdminError;
use crate::http::{Site, observe};

/// The path of the console on the admin listener.
pub(in crate::http) const PATH: &str = "/console";

/// What the page may do: run the scripts and the style of this listener, ask this listener, and show
/// pictures that it has fetched. Text that strangers wrote can't become markup: scripts may not
/// assign any (`trusted-types 'none'`).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! file {
    ($name:literal, $kind:expr) => {
        (
            $name,
            $kind,
            include_str!(concat!("../../../assets/console/", $name)),
        )
    };
}

/// The files: name, type and content.
const FILES: &[(&str, &str, &str)] = &[
    file!("index.html", HTML),
    file!("console.css", CSS),
    file!("icon.svg", "image/svg+xml"),
    file!("app.js", SCRIPT),
    file!("api.js", SCRIPT),
    file!("page.js", SCRIPT),
    file!("keys.js", SCRIPT),
    file!("decide.js", SCRIPT),
    file!("picture.js", SCRIPT),
    file!("thumbhash.js", SCRIPT),
    file!("facts.js", SCRIPT),
    file!("queue.js", SCRIPT),
    file!("find.js", SCRIPT),
    file!("image.js", SCRIPT),
    file!("blocks.js", SCRIPT),
    file!("audit.js", SCRIPT),
    file!("charts.js", SCRIPT),
    file!("draw.js", SCRIPT),
    file!("health.js", SCRIPT),
];

/// The routes of the console.
pub(in crate::http) fn scope() -> impl HttpServiceFactory {
    web::scope(PATH)
        .wrap(
            DefaultHeaders::new()
                .add((header::CONTENT_SECURITY_POLICY, POLICY))
                .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
                .add((header::X_FRAME_OPTIONS, "DENY"))
                .add((header::REFERRER_POLICY, "no-referrer"))
                .add(("Cross-Origin-Opener-Policy", "same-origin"))
                .add(("Cross-Origin-Resource-Policy", "same-origin"))
                // A new release brings new files under the same names.
                .add((header::CACHE_CONTROL, "no-store")),
        )
        .wrap(from_fn(observe::request))
        .route("/", web::get().to(page))
        .route("/{file}", web::get().to(file))
        .route("", web::get().to(to_page))
        .default_service(web::to(super::no_such_path))
}

/// `GET /` of the admin listener, which leads to the console.
pub(in crate::http) async fn to_page() -> HttpResponse {
    let place = (header::LOCATION, "/console/");
    HttpResponse::SeeOther().insert_header(place).finish()
}

async fn page(site: Site) -> Result<HttpResponse, AdminError> {
    send(&site, "index.html")
}

async fn file(site: Site, request: HttpRequest) -> Result<HttpResponse, AdminError> {
    send(&site, request.match_info().get("file").unwrap_or_default())
}

fn send(site: &Site, name: &str) -> Result<HttpResponse, AdminError> {
    if site.config.admin_token.is_none() {
        return Err(AdminError::Off);
    }
    let file = FILES.iter().find(|(known, ..)| *known == name);
    let (_, kind, content) = *file.ok_or(AdminError::NoPath)?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, kind))
        .body(content))
}
