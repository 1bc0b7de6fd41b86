//! Receipts, for who shows the delete token, and the keys that sign them, for everybody.

use actix_web::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::{Site, delete, extract};
use crate::db::keys::KnownKey;
use crate::ids::ImageId;
use crate::model::receipt::Receipt;
use crate::receipts::NoReceipt;

/// A receipt as it is shown: what it says, and beside that the same signed.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    receipt: Receipt,
    jws: String,
}

/// `GET /api/receipts/{id}`.
pub(super) async fn of_image(
    site: Site,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id = ImageId::parse(&id).ok_or(ApiError::NotFound)?;
    let token = extract::delete_token(&request)?;
    // As for DELETE: without the token nothing is said, not even whether there is such an image.
    if !delete::is_owners(&site, &id, token.as_deref()) {
        return Err(ApiError::BadDeleteToken { id });
    }
    let receipts: Vec<Shown> = site
        .receipts
        .of_image(&id)
        .await?
        .into_iter()
        .map(|signed| Shown {
            receipt: signed.receipt,
            jws: signed.jws,
        })
        .collect();
    let body = json!({"receipts": receipts, "keysUrl": site.receipts.keys_url()});
    Ok(HttpResponse::Ok().json(body))
}

/// `GET /.well-known/jwks.json` (RFC 7517).
pub(super) async fn keys(site: Site) -> Result<HttpResponse, ApiError> {
    let known = site.receipts.known_keys().await.map_err(NoReceipt::from)?;
    let keys: Vec<Value> = known.iter().map(jwk).collect();
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "public, max-age=300"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .content_type("application/jwk-set+json")
        .json(json!({"keys": keys})))
}

fn jwk(known: &KnownKey) -> Value {
    let mut jwk = known.key.jwk();
    if let Some(fields) = jwk.as_object_mut() {
        let first = known.first_used.to_string();
        let retired = known.retired.map(|end| end.to_string());
        fields.insert("firstUsedAt".to_owned(), json!(first));
        fields.insert("retiredAt".to_owned(), json!(retired));
    }
    jwk
}
