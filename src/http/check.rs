//! `POST` and `PUT /api/check`: would these bytes be accepted, in which tiers, at which price. Nothing is stored, and
//! nothing is charged.

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

use super::body::{Limit, read_image};
use super::error::ApiError;
use super::{Site, images, limits, query, tiers};
use crate::images::Checked;

/// Looks at an image as an upload would. Bytes that no tier takes get the answer that their upload would.
pub(super) async fn check(
    site: Site,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    query::check(&request, &[query::METADATA]).map_err(|error| error.of(&request))?;
    query::metadata(&request).map_err(|error| error.of(&request))?;
    let table = site.tiers.now();
    let largest = table.iter().max_by_key(|tier| tier.max_bytes);
    let largest = largest.ok_or(ApiError::NotFound)?;
    let limit = Limit {
        tier: largest.name.as_str(),
        max_bytes: largest.max_bytes,
    };
    // It costs what a free upload costs: a whole one where the bytes are accepted, a part where they are refused.
    let attempt = limits::free(&site, &request).await;
    let attempt = attempt.map_err(|error| limits::refuse(&request, error))?;
    let checked = look(&site, &request, payload, limit).await;
    match (attempt, &checked) {
        (Some(attempt), Ok(_)) => attempt.keep(),
        (Some(attempt), Err(_)) => attempt.give_back().await,
        (None, _) => {}
    }
    let checked = checked?;
    let sent = checked.upload_bytes();
    let tiers: Vec<Value> = table
        .iter()
        .map(|tier| {
            let mut row = tiers::row(&site, &table, tier);
            if let Some(fields) = row.as_object_mut() {
                fields.insert("accepted".to_owned(), json!(sent <= tier.max_bytes));
            }
            row
        })
        .collect();
    let picture = checked.picture();
    let mut answer = json!({
        "contentType": picture.format.content_type(),
        "width": picture.width,
        "height": picture.height,
        "frames": picture.frames,
        "uploadBytes": sent,
        "uploadSha256": checked.upload_sha256(),
        "sizeBytes": checked.stored_bytes(),
        "sha256": checked.sha256(),
        "tiers": tiers,
    });
    let metadata = serde_json::to_value(images::MetadataAnswer::of(Some(picture.metadata)));
    if let (Some(answer), Ok(Value::Object(metadata))) = (answer.as_object_mut(), metadata) {
        answer.extend(metadata);
    }
    Ok(HttpResponse::Ok().json(answer))
}

async fn look(
    site: &Site,
    request: &HttpRequest,
    payload: Payload,
    limit: Limit<'_>,
) -> Result<Checked, ApiError> {
    let arrived = read_image(site, request, payload, limit).await;
    let arrived = arrived.map_err(|error| error.of(request))?;
    Ok(limits::checked(site, request, arrived, limit).await??)
}
