//! `POST /api/free`: the tier without a price.

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};

use super::body::{Limit, read_image};
use super::error::ApiError;
use super::{Site, images};
use crate::images::check;

/// Takes an image, and answers with its link.
pub(super) async fn upload(
    site: Site,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let tier = site.config.tiers.free().ok_or(ApiError::NotFound)?;
    let limit = Limit {
        tier: tier.name.as_str(),
        max_bytes: tier.max_bytes,
    };
    let bytes = read_image(&request, payload, limit).await?;
    let checked = check(bytes, limit.rules(&site)).await?;
    let image = site.images.upload_free(tier, checked).await?;
    Ok(images::uploaded(&site, &image).json(images::upload_answer(&site, &image)))
}
