//! `POST` and `PUT /api/free`: uploads to the free tier.

use std::sync::Arc;

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use tracing::Instrument;

use super::body::read_image;
use super::error::ApiError;
use super::upload_limit::Limit;
use super::{Site, images, limits, query};
use crate::db::uses::Through;
use crate::images::{Taken, UploadError};
use crate::limits::FreeAttempt;
use crate::pricing::tiers::Tier;

/// Stores an image in the free tier, and returns its link.
pub(super) async fn upload(
    site: Site,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let known = [query::METADATA, query::VISIBILITY, query::VIEWER];
    query::check(&request, &known).map_err(|error| error.of(&request))?;
    query::metadata(&request).map_err(|error| error.of(&request))?;
    query::visibility(&site, &request).map_err(|error| error.of(&request))?;
    let tiers = site.tiers.now();
    let tier = tiers.free().ok_or_else(|| {
        let error = ApiError::UnknownTier {
            name: None,
            known: Vec::new(),
        };
        error.unless_paid(&request)
    })?;
    let attempt = limits::count_free(&site, &request).await;
    let mut attempt = attempt.map_err(|error| limits::refuse_free(&site, &request, error))?;
    let uploaded = take(&site, &request, payload, tier, None, &mut attempt).await;
    if let Some(attempt) = attempt {
        attempt.give_back().await;
    }
    let Taken { image, .. } = uploaded?;
    Ok(images::uploaded(&site, &image).json(images::upload_answer(&site, &image)))
}

/// Reads, checks and publishes the image, for the free upload link or the API key that takes it, or
/// for none.
/// Publishing takes `attempt`, so that the attempt stays counted.
pub(super) async fn take(
    site: &Site,
    request: &HttpRequest,
    payload: Payload,
    tier: &Tier,
    through: Option<Through>,
    attempt: &mut Option<FreeAttempt>,
) -> Result<Taken, ApiError> {
    let limit = Limit {
        tier: tier.name.as_str(),
        max_bytes: tier.max_bytes,
    };
    site.images.has_room()?;
    let place = site.limits.take_free(&site.db).await;
    let place = place.map_err(|error| limits::refuse_free(site, request, error))?;
    let arrived = read_image(site, request, payload, limit).await;
    let arrived = arrived.map_err(|error| error.of(request))?;
    let checked = limits::checked(site, request, arrived, limit).await??;
    let (stored, tier, counted) = (Arc::clone(&site.images), tier.clone(), attempt.take());
    // The task goes on if the client disconnects: the image is published, and counts as a free
    // upload of the day.
    let upload = async move {
        let taken = stored
            .upload_free(&tier, checked, place.place(), through.as_ref())
            .await?;
        if taken.is_new {
            place.spend();
            if let Some(counted) = counted {
                counted.keep();
            }
        }
        Ok::<_, UploadError>(taken)
    };
    let upload = tokio::spawn(upload.in_current_span());
    Ok(upload.await.map_err(|_| UploadError::Interrupted)??)
}
