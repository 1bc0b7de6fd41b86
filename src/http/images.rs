//! What is said of an image: the answer to an upload, and its public metadata.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, HttpResponseBuilder, web};
use serde::Serialize;

use super::Site;
use super::error::ApiError;
use crate::ids::ImageId;
use crate::model::image::Image;
use crate::model::metadata::Metadata as Outcome;
use crate::model::payment::Renewal;

/// The answer to an upload. The first five fields are img402's, by name and meaning.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UploadAnswer {
    url: String,
    id: String,
    content_type: &'static str,
    size_bytes: u64,
    expires_at: Option<String>,
    width: u32,
    height: u32,
    sha256: String,
    tier: String,
    delete_token: String,
    markdown: String,
    #[serde(flatten)]
    metadata: MetadataAnswer,
}

/// What became of the metadata of an upload.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MetadataAnswer {
    /// `removed` or `kept`.
    metadata: &'static str,
    /// What was removed or mended: empty where the file is stored as it came. Null for uploads before this was noted.
    removed: Option<Vec<&'static str>>,
    /// What the stored file holds, where the request asked to keep it.
    #[serde(skip_serializing_if = "Option::is_none")]
    contains: Option<Vec<&'static str>>,
}

impl MetadataAnswer {
    pub(super) fn of(metadata: Option<Outcome>) -> Self {
        let (metadata, removed, contains) = match metadata {
            None => ("removed", None, None),
            Some(Outcome::Removed(kinds)) => ("removed", Some(kinds.words()), None),
            Some(Outcome::Kept(kinds)) => ("kept", Some(Vec::new()), Some(kinds.words())),
        };
        Self {
            metadata,
            removed,
            contains,
        }
    }
}

/// The public metadata of an image: never the wallet.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    url: String,
    id: String,
    content_type: &'static str,
    size_bytes: u64,
    expires_at: Option<String>,
    width: u32,
    height: u32,
    sha256: String,
    tier: String,
    created_at: Option<String>,
}

/// The answer for whoever paid for more time: anybody, so it holds no delete token. It speaks of what this
/// payment did, whatever others did since.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RenewalAnswer {
    url: String,
    id: String,
    content_type: &'static str,
    size_bytes: u64,
    expires_at: Option<String>,
    previous_expires_at: String,
    width: u32,
    height: u32,
    sha256: String,
    tier: String,
}

/// `200` with the image's link in `Location`.
pub(super) fn uploaded(site: &Site, image: &Image) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response.insert_header((LOCATION, url(site, image)));
    response
}

/// The answer for whoever uploaded the image.
pub(super) fn upload_answer(site: &Site, image: &Image) -> UploadAnswer {
    let url = url(site, image);
    UploadAnswer {
        id: image.id.to_string(),
        content_type: image.format.content_type(),
        size_bytes: image.size_bytes,
        expires_at: image.expires_at.map(|end| end.to_string()),
        width: image.width,
        height: image.height,
        sha256: image.sha256.clone(),
        tier: image.tier.clone(),
        delete_token: site.images.delete_token(&image.id),
        markdown: format!("![]({url})"),
        metadata: MetadataAnswer::of(image.metadata),
        url,
    }
}

/// The answer for whoever paid for more time.
pub(super) fn renewal_answer(site: &Site, image: &Image, renewal: &Renewal) -> RenewalAnswer {
    RenewalAnswer {
        url: url(site, image),
        id: image.id.to_string(),
        content_type: image.format.content_type(),
        size_bytes: image.size_bytes,
        expires_at: renewal.to.map(|end| end.to_string()),
        previous_expires_at: renewal.from.to_string(),
        width: image.width,
        height: image.height,
        sha256: image.sha256.clone(),
        tier: renewal.to_tier.clone(),
    }
}

/// `GET /api/images/{id}`.
pub(super) async fn metadata(site: Site, id: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let id = ImageId::parse(&id).ok_or(ApiError::NotFound)?;
    let image = site
        .images
        .find_public(&id)
        .await?
        .ok_or(ApiError::NotFound)?;
    Ok(HttpResponse::Ok().json(Metadata {
        url: url(&site, &image),
        id: image.id.to_string(),
        content_type: image.format.content_type(),
        size_bytes: image.size_bytes,
        expires_at: image.expires_at.map(|end| end.to_string()),
        width: image.width,
        height: image.height,
        created_at: image.published_at.map(|start| start.to_string()),
        sha256: image.sha256,
        tier: image.tier,
    }))
}

fn url(site: &Site, image: &Image) -> String {
    format!("{}/{}", site.config.images.base_url, image.file_name())
}
