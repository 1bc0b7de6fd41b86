//! `POST` and `PUT /api/check`: would these bytes be accepted, in which tiers, at which price. Nothing is stored, and
//! nothing is charged.

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

use super::body::{Limit, read_image};
use super::error::ApiError;
use super::{Site, limits, query, tiers};

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
    // It costs what a free upload's check costs.
    limits::free(&site, &request).await?;
    let arrived = read_image(&site, &request, payload, limit).await;
    let arrived = arrived.map_err(|error| error.of(&request))?;
    let checked = limits::checked(&site, &request, arrived, limit).await??;
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
    let probe = checked.probe();
    Ok(HttpResponse::Ok().json(json!({
        "contentType": probe.format.content_type(),
        "width": probe.width,
        "height": probe.height,
        "frames": probe.frames,
        "uploadBytes": sent,
        "uploadSha256": checked.upload_sha256(),
        "sizeBytes": checked.stored_bytes(),
        "sha256": checked.sha256(),
        "tiers": tiers,
    })))
}
