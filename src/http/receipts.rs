//! Receipts of an image, for the holder of its delete token or a wallet that paid, and the public keys that verify them.

use actix_web::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::Value;

use super::error::ApiError;
use super::sign_in::Door;
use super::views::{KeyView, KeysAnswer, ReceiptView, ReceiptsAnswer};
use super::{Site, delete, extract, sign_in};
use crate::db::keys::KnownKey;
use crate::model::ids::ImageId;
use crate::receipts::{NoReceipt, Reader};
use crate::x402::siwx::CLAIMS_PATH;

/// `GET /api/receipts/{id}`: the signed receipts of an image.
pub(super) async fn of_image(
    site: Site,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id = ImageId::parse(&id).ok_or(ApiError::NotFound)?;
    let reader = if let Some(token) = extract::delete_token(&request)? {
        // As for DELETE: with a wrong token the response doesn't even reveal whether the image exists.
        if !delete::is_owners(&site, &id, Some(&token)) {
            return Err(ApiError::BadDeleteToken { id });
        }
        delete::refuse_lost(&site, &id, Some(&token)).await?;
        Reader::Holder
    } else {
        let door = Door {
            path: &format!("/api/receipts/{id}"),
            statement: "Show what was paid for this image. Signing in costs nothing.",
            instead: sign_in::OR_DELETE_TOKEN,
        };
        let signed_in = sign_in::sign_in_at(&site, &request, &door).await?;
        Reader::Wallet {
            wallet: signed_in.wallet,
            network: signed_in.network.map(|network| network.caip2),
        }
    };
    let receipts: Vec<ReceiptView> = site
        .receipts
        .of_image(&id, reader)
        .await?
        .into_iter()
        .map(|signed| ReceiptView {
            receipt: signed.receipt,
            jws: signed.jws,
        })
        .collect();
    Ok(HttpResponse::Ok().json(by_name(&ReceiptsAnswer {
        keys_url: site.receipts.keys_url(),
        claims_url: format!("{}{CLAIMS_PATH}", site.config.http.base_url),
        receipts,
    })))
}

/// `GET /.well-known/jwks.json` (RFC 7517): the keys that have signed receipts.
pub(super) async fn keys(site: Site) -> Result<HttpResponse, ApiError> {
    let known = site.receipts.known_keys().await.map_err(NoReceipt::from)?;
    let keys = known.iter().map(view).collect();
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "public, max-age=300"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .content_type("application/jwk-set+json")
        .json(by_name(&KeysAnswer { keys })))
}

/// A key as the key document shows it.
fn view(known: &KnownKey) -> KeyView {
    let key = match known.key.jwk() {
        Value::Object(members) => members,
        _ => serde_json::Map::new(),
    };
    KeyView {
        key,
        first_used_at: known.first_used.to_string(),
        retired_at: known.retired.map(|end| end.to_string()),
    }
}

/// The response body with its fields in alphabetical order. Their order stays the same for clients.
fn by_name(answer: &impl serde::Serialize) -> Value {
    serde_json::to_value(answer).unwrap_or_default()
}
