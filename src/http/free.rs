//! `POST` and `PUT /api/free`: uploads to the free tier.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use tracing::Instrument;

use super::error::ApiError;
use super::intake::{Source, receive};
use super::upload_limit::Limit;
use super::{Site, images, limits, observe, query};
use crate::db::uses::Through;
use crate::images::{Checked, Taken, UploadError};
use crate::imports::Import;
use crate::limits::{FreeAttempt, FreeUpload};
use crate::model::image::Image;
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
    store(&site, &request, Source::Body(payload)).await
}

/// Stores an image in the free tier, from wherever it comes, and returns its link.
pub(super) async fn store(
    site: &Site,
    request: &HttpRequest,
    source: Source,
) -> Result<HttpResponse, ApiError> {
    let image = stored(site, request, source).await?;
    Ok(images::uploaded(site, &image).json(images::upload_answer(site, &image)))
}

/// Stores an image in the free tier.
pub(super) async fn stored(
    site: &Site,
    request: &HttpRequest,
    source: Source,
) -> Result<Image, ApiError> {
    let tiers = site.tiers.now();
    let tier = tiers.free().ok_or_else(|| {
        let error = ApiError::UnknownTier {
            name: None,
            known: Vec::new(),
        };
        error.unless_paid(request)
    })?;
    let attempt = limits::count_free(site, request).await;
    let mut attempt = attempt.map_err(|error| limits::refuse_free(site, request, error))?;
    let uploaded = take(site, request, source, tier, None, &mut attempt).await;
    if let Some(attempt) = attempt {
        attempt.give_back().await;
    }
    Ok(uploaded?.image)
}

/// Receives, checks and publishes the image, for the free upload link or the API key that takes it, or
/// for none.
/// Publishing takes `attempt`, so that the attempt stays counted.
pub(super) async fn take(
    site: &Site,
    request: &HttpRequest,
    source: Source,
    tier: &Tier,
    through: Option<Through>,
    attempt: &mut Option<FreeAttempt>,
) -> Result<Taken, ApiError> {
    let limit = Limit {
        tier: tier.name.as_str(),
        max_bytes: tier.max_bytes,
    };
    observe::note_tier(request, tier.name.as_str());
    site.images.has_room()?;
    let place = site.limits.take_free(&site.db).await;
    let place = place.map_err(|error| limits::refuse_free(site, request, error))?;
    let checked = receive(site, request, source, limit).await?;
    publish(site, tier, checked, place, through, attempt).await
}

/// Imports an image for a client that sent no payment, and whose address this is.
pub(super) async fn import(
    site: &Site,
    tier: &Tier,
    client: Option<IpAddr>,
    import: &Import,
) -> Result<Taken, ApiError> {
    let attempt = limits::count_free_uploads(site, client, 1).await;
    let mut attempt = attempt.map_err(|error| limits::refuse_unpaid(site, error))?;
    let taken = obtain(site, tier, import, &mut attempt).await;
    if let Some(attempt) = attempt {
        attempt.give_back().await;
    }
    taken
}

async fn obtain(
    site: &Site,
    tier: &Tier,
    import: &Import,
    attempt: &mut Option<FreeAttempt>,
) -> Result<Taken, ApiError> {
    site.images.has_room()?;
    let place = site.limits.take_free(&site.db).await;
    let place = place.map_err(|error| limits::refuse_unpaid(site, error))?;
    let checked = import.obtain(tier.name.as_str(), tier.max_bytes).await?;
    publish(site, tier, checked, place, None, attempt).await
}

/// Publishes a checked image in its reserved place, and keeps the attempt counted.
async fn publish(
    site: &Site,
    tier: &Tier,
    checked: Checked,
    place: FreeUpload,
    through: Option<Through>,
    attempt: &mut Option<FreeAttempt>,
) -> Result<Taken, ApiError> {
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
