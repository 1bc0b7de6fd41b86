//! The responses that describe an image: to an upload, to a renewal, and with its public metadata.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, HttpResponseBuilder, web};

use super::Site;
use super::error::ApiError;
use super::views::{ImageAnswer, ImageFacts, MetadataAnswer, RenewalAnswer, UploadAnswer};
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::model::payment::Renewal;

/// A `200` response with the image's link in `Location`.
pub(super) fn uploaded(site: &Site, image: &Image) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response.insert_header((LOCATION, url(site, image)));
    response
}

/// The response body for the uploader. Only this body holds the delete token.
pub(super) fn upload_answer(site: &Site, image: &Image) -> UploadAnswer {
    let facts = facts(site, image);
    UploadAnswer {
        delete_token: site.images.delete_token(image),
        markdown: format!("![]({})", facts.url),
        metadata: MetadataAnswer::of(image.metadata),
        facts,
    }
}

/// What the answers to uploads and questions say first.
fn facts(site: &Site, image: &Image) -> ImageFacts {
    ImageFacts {
        url: url(site, image),
        id: image.id.to_string(),
        content_type: image.format.content_type(),
        size_bytes: image.size_bytes,
        expires_at: image.expires_at.map(|end| end.to_string()),
        width: image.width,
        height: image.height,
        sha256: image.sha256.clone(),
        tier: image.tier.clone(),
    }
}

/// The response body for the payer of a renewal.
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

/// `GET /api/images/{id}`: the public metadata of an image.
pub(super) async fn metadata(site: Site, id: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let id = ImageId::parse(&id).ok_or(ApiError::NotFound)?;
    let image = site
        .images
        .find_public(&id)
        .await?
        .ok_or(ApiError::NotFound)?;
    Ok(HttpResponse::Ok().json(facts_answer(&site, &image)))
}

/// The facts about a public image.
pub(super) fn facts_answer(site: &Site, image: &Image) -> ImageAnswer {
    ImageAnswer {
        facts: facts(site, image),
        created_at: image.published_at.map(|start| start.to_string()),
    }
}

/// The canonical link of the image.
fn url(site: &Site, image: &Image) -> String {
    format!("{}/{}", site.config.images.base_url, image.file_name())
}
