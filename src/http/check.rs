//! `POST` and `PUT /api/check`: tells whether an image would be accepted, by which tiers and at
//! which price. Nothing is stored or charged.

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};

use super::error::ApiError;
use super::intake::{Source, receive};
use super::upload_limit::Limit;
use super::views::{CheckAnswer, MetadataAnswer};
use super::{Site, limits, query, tiers};
use crate::images::Checked;

/// Checks an image as an upload would. An image that no tier accepts receives the error that its
/// upload would receive.
pub(super) async fn check(
    site: Site,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let known = [query::METADATA, query::VISIBILITY, query::VIEWER];
    query::check(&request, &known).map_err(|error| error.of(&request))?;
    query::metadata(&request).map_err(|error| error.of(&request))?;
    query::visibility(&site, &request).map_err(|error| error.of(&request))?;
    let table = site.tiers.now();
    let largest = table.iter().max_by_key(|tier| tier.max_bytes);
    let largest = largest.ok_or_else(|| ApiError::UnknownTier {
        name: None,
        known: Vec::new(),
    })?;
    let limit = Limit {
        tier: largest.name.as_str(),
        max_bytes: largest.max_bytes,
    };
    // A check counts against the limits like a free upload: fully if the bytes are accepted, in
    // part if they are refused.
    let attempt = limits::count_free(&site, &request).await;
    let attempt = attempt.map_err(|error| limits::refuse(&request, error))?;
    let checked = look(&site, &request, payload, limit).await;
    match (attempt, &checked) {
        (Some(attempt), Ok(_)) => attempt.keep(),
        (Some(attempt), Err(_)) => attempt.give_back().await,
        (None, _) => {}
    }
    let checked = checked?;
    let sent = checked.upload_bytes();
    let tiers = table
        .iter()
        .map(|tier| tiers::judged(&site, &table, tier, sent))
        .collect();
    let picture = checked.picture();
    let (metadata, removed, contains) = MetadataAnswer::of(Some(picture.metadata)).into_fields();
    Ok(HttpResponse::Ok().json(CheckAnswer {
        contains,
        content_type: picture.format.content_type(),
        frames: picture.frames,
        height: picture.height,
        metadata,
        removed,
        sha256: checked.sha256().to_owned(),
        size_bytes: checked.stored_bytes(),
        tiers,
        upload_bytes: sent,
        upload_sha256: checked.upload_sha256().to_owned(),
        width: picture.width,
    }))
}

/// Reads and checks the image. Blocked content is refused, as an upload would be; the scanner is not
/// asked.
async fn look(
    site: &Site,
    request: &HttpRequest,
    payload: Payload,
    limit: Limit<'_>,
) -> Result<Checked, ApiError> {
    let checked = receive(site, request, Source::Body(payload), limit).await?;
    site.images.refuse_blocked(&checked, None).await?;
    Ok(checked)
}
