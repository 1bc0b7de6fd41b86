//! `GET /proof.json`: the public proof, signed.

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use std::sync::Arc;

use super::Site;
use super::error::ApiError;
use super::views::ProofAnswer;
use crate::accounting::proof::SignedProof;

/// How long caches may keep the proof: as long as the server keeps it.
const CACHING: &str = "public, max-age=60";

/// The public proof.
pub(super) async fn proof(site: Site) -> Result<HttpResponse, ApiError> {
    let signed = current(&site).await?;
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, CACHING))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .json(ProofAnswer {
            proof: &signed.proof,
            jws: &signed.jws,
            keys_url: site.receipts.keys_url(),
        }))
}

/// The proof as it is shown now, for the document and for the page.
pub(super) async fn current(site: &Site) -> Result<Arc<SignedProof>, ApiError> {
    let current = site.proofs.current().await;
    current.map_err(|error| ApiError::Upload(error.into()))
}
