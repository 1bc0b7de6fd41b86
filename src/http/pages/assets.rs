//! The files that pages load: styles, scripts and pictures. They are part of the program, and their address changes with their
//! content, so that browsers keep them for a year.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use actix_web::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, HeaderMap, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use rust_embed::RustEmbed;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::super::error::ApiError;
use super::super::unknown_route;
use crate::config::Site as Look;

/// The folder `assets/`. A debug build reads it from the disk, so that a change shows without a build.
#[derive(RustEmbed)]
#[folder = "assets/"]
struct Files;

/// The operator's colours, and the stylesheet after them.
const THEME: &str = "theme.css";
/// The name and icons of the service, for browsers that add it to a home screen.
const MANIFEST: &str = "site.webmanifest";
/// How long a browser keeps a file of this version, and one of another: a fleet is updated server by server.
const KEPT: [&str; 2] = ["public, max-age=31536000, immutable", "public, max-age=60"];

/// The assets of this server.
pub(in crate::http) struct Assets {
    version: String,
    folder: String,
    theme: Bytes,
    manifest: Bytes,
    /// Texts as gzip, by their bytes. They are made when they are first asked for.
    packed: Mutex<HashMap<Bytes, Bytes>>,
}

impl Assets {
    /// The assets, with what the operator configured.
    pub(in crate::http) fn new(look: &Look) -> Self {
        let (theme, manifest) = (theme(look), manifest(look));
        let mut hash = Sha256::new();
        for name in Files::iter() {
            hash.update(name.as_bytes());
            if let Some(file) = Files::get(&name) {
                hash.update(file.metadata.sha256_hash());
            }
        }
        hash.update(&theme);
        hash.update(&manifest);
        let version: String = hex::encode(hash.finalize()).chars().take(12).collect();
        Self {
            folder: format!("/assets/{version}"),
            version,
            theme: Bytes::from(theme),
            manifest: Bytes::from(manifest),
            packed: Mutex::default(),
        }
    }

    /// The path of the folder, without a slash at the end.
    pub(in crate::http) fn folder(&self) -> &str {
        &self.folder
    }

    /// These bytes as gzip.
    fn packed(&self, bytes: &Bytes) -> std::io::Result<Bytes> {
        let mut packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = packed.get(bytes) {
            return Ok(known.clone());
        }
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(bytes)?;
        let made = Bytes::from(gzip.finish()?);
        packed.insert(bytes.clone(), made.clone());
        Ok(made)
    }
}

fn theme(look: &Look) -> String {
    let [light, dark] = look.accents;
    let own = look.stylesheet.as_deref().unwrap_or_default();
    format!(":root {{ --accent: light-dark({light}, {dark}); }}\n{own}")
}

fn manifest(look: &Look) -> String {
    let [light, _] = look.accents;
    let icon =
        |file: &str, sizes: &str| json!({"src": file, "sizes": sizes, "type": media_type(file)});
    let manifest = json!({
        "name": look.name,
        "short_name": look.name,
        "start_url": "/",
        "display": "browser",
        "theme_color": light.to_string(),
        "icons": [icon("mark.svg", "any"), icon("touch-icon.png", "180x180")],
    });
    manifest.to_string()
}

/// `GET /assets/{version}/{file}`.
pub(super) async fn asset(
    assets: web::Data<Assets>,
    request: HttpRequest,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let (version, file) = path.into_inner();
    let mut body = match file.as_str() {
        THEME => assets.theme.clone(),
        MANIFEST => assets.manifest.clone(),
        _ => {
            let found = Files::get(&file).ok_or_else(|| unknown_route(&request))?;
            match found.data {
                Cow::Borrowed(bytes) => Bytes::from_static(bytes),
                Cow::Owned(bytes) => Bytes::from(bytes),
            }
        }
    };
    let (media, mut response) = (media_type(&file), HttpResponse::Ok());
    if is_text(media) {
        response.insert_header((VARY, "Accept-Encoding"));
        if takes_gzip(request.headers()) {
            body = assets.packed(&body).map_err(|error| {
                tracing::error!(%error, "an asset could not be compressed");
                unknown_route(&request)
            })?;
            response.insert_header((CONTENT_ENCODING, "gzip"));
        }
    }
    let [current, other] = KEPT;
    let kept = if version == assets.version {
        current
    } else {
        other
    };
    Ok(response
        .insert_header((CACHE_CONTROL, kept))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        ))
        .content_type(media)
        .body(body))
}

/// Whether a file of this type becomes smaller by compression.
fn is_text(media: &str) -> bool {
    !matches!(media, "image/png" | "application/octet-stream")
}

/// Whether the client reads gzip (RFC 9110, section 12.5.3).
fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers
        .get(ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok());
    accepted.unwrap_or_default().split(',').any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let quality = quality.trim().strip_prefix("q=").unwrap_or("1");
        name.trim().eq_ignore_ascii_case("gzip") && quality.parse().is_ok_and(|it: f32| it > 0.0)
    })
}

/// The media type of a file, by its extension.
fn media_type(file: &str) -> &'static str {
    match file.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        _ => "application/octet-stream",
    }
}
