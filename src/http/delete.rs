//! Deletes one or many images, by the delete tokens that their uploads returned. The server reports
//! success only after the objects are deleted, and reports it again if the request is repeated.

use std::time::Duration;

use actix_web::http::Method;
use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse};
use bytes::BytesMut;
use futures_util::StreamExt;

use super::error::{ApiError, Code};
use super::views::{DeleteRequest, DeletedAnswer};
use super::{Site, extract, images, query};
use crate::images::UploadError;
use crate::model::ids::ImageId;

/// The most images that one request may delete.
const MOST: usize = 100;
/// The longest list of images, in bytes. It has room for 100 entries with every field of an
/// upload's response.
const LONGEST_BODY: usize = 256 * 1024;
/// The time limit for the body that holds the list.
const READ_TIME: Duration = Duration::from_secs(10);

/// `GET`, `HEAD` and `DELETE` of `/api/images/{id}`: returns an image's metadata, or deletes the
/// image.
pub(super) async fn read_or_delete(
    site: Site,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    if request.method() != Method::DELETE {
        return images::metadata(site, id).await;
    }
    let id = ImageId::parse(&id).ok_or(ApiError::NotFound)?;
    let token = extract::delete_token(&request)?;
    delete(&site, vec![(id, token)]).await
}

/// `DELETE /api/images`: deletes the images of a list.
pub(super) async fn many(
    site: Site,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let read = tokio::time::timeout(READ_TIME, read_list(payload)).await;
    let list = read.map_err(|_| bad("The list took longer to arrive than the limit of 10 seconds. Send the same request over a faster connection, or a shorter list."))??;
    let token = extract::delete_token(&request)?;
    delete(&site, list.pairs(token.as_deref())?).await
}

/// Deletes the images if every delete token is right. Otherwise nothing is deleted.
async fn delete(
    site: &Site,
    pairs: Vec<(ImageId, Option<String>)>,
) -> Result<HttpResponse, ApiError> {
    // The tokens are checked without looking up the images: a token is right or wrong for any id.
    // So the response doesn't reveal whether an image exists.
    let is_right = |(id, token): &&(ImageId, Option<String>)| is_owners(site, id, token.as_deref());
    if let Some((id, _)) = pairs.iter().find(|pair| !is_right(pair)) {
        return Err(ApiError::BadDeleteToken { id: id.clone() });
    }
    for (id, token) in &pairs {
        refuse_lost(site, id, token.as_deref()).await?;
    }
    let ids: Vec<ImageId> = pairs.into_iter().map(|(id, _)| id).collect();
    site.retention.delete(ids.clone()).await?;
    let deleted = ids.iter().map(ToString::to_string).collect();
    Ok(HttpResponse::Ok().json(DeletedAnswer { deleted }))
}

/// Whether `token` is the delete token of `id`. The image need not exist.
pub(super) fn is_owners(site: &Site, id: &ImageId, token: Option<&str>) -> bool {
    site.images.is_delete_token(id, token.unwrap_or_default())
}

/// Pauses sales if the delete token proves that the database lost its image.
pub(super) async fn refuse_lost(
    site: &Site,
    id: &ImageId,
    token: Option<&str>,
) -> Result<(), ApiError> {
    let lost = site.images.find_lost(id, token.unwrap_or_default());
    match lost.await? {
        None => Ok(()),
        Some(lost) => {
            site.epoch.note_lost(&lost, site.clock.now()).await;
            Err(UploadError::Lost(lost).into())
        }
    }
}

impl DeleteRequest {
    /// The ids of the list, each with its delete token. `from_header` is the token of ids that have
    /// none of their own.
    fn pairs(self, from_header: Option<&str>) -> Result<Vec<(ImageId, Option<String>)>, ApiError> {
        let count = self.images.len() + self.ids.len();
        if count == 0 || count > MOST {
            return Err(bad(&format!(
                "The list names {count} images, and one request may delete 1 to {MOST}. Send from 1 to {MOST} ids."
            )));
        }
        let tokens = self.delete_tokens.unwrap_or_default();
        if !tokens.is_empty() && tokens.len() != self.ids.len() {
            let message = format!(
                "deleteTokens has {} tokens for {} ids. Send one token for each id, in the same order.",
                tokens.len(),
                self.ids.len()
            );
            return Err(bad(&message));
        }
        let mut tokens = tokens.into_iter();
        let listed = self.ids.into_iter().map(|id| (id, tokens.next()));
        let entries = self
            .images
            .into_iter()
            .map(|entry| (entry.id, entry.delete_token));
        let pairs: Vec<(String, Option<String>)> = entries.chain(listed).collect();
        pairs
            .into_iter()
            .map(|(id, token)| match ImageId::parse(&id) {
                Some(id) => Ok((id, token.or_else(|| from_header.map(str::to_owned)))),
                None => Err(bad(&format!(
                    "The list names \"{}\", which is not an image id. Send the 12 letters and digits of each id, as its \
                     upload returned it.",
                    query::excerpt(&id)
                ))),
            })
            .collect()
    }
}

/// Reads the list of images from the body.
async fn read_list(mut payload: Payload) -> Result<DeleteRequest, ApiError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk
            .map_err(|_| bad("The body ended before it was complete. Repeat the same request."))?;
        if body.len() + chunk.len() > LONGEST_BODY {
            return Err(bad(
                "The list is longer than the limit of 256 KiB. Send only id and deleteToken for each image, or several requests.",
            ));
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|_| {
        bad(
            "The body is not JSON of the expected form. Send {\"images\": [{\"id\": \"…\", \"deleteToken\": \"…\"}]} or {\"ids\": [\"…\"], \"deleteTokens\": [\"…\"]}.",
        )
    })
}

/// The error for an invalid list, with this message.
fn bad(message: &str) -> ApiError {
    ApiError::bad(Code::InvalidBody, message)
}
