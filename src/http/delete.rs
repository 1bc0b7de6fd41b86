//! Deletes one or many images, by the delete tokens that their uploads returned or by the sign-in of
//! the wallet that owns them. The server reports success only after the objects are deleted, and reports it again if the request is repeated.

use std::time::Duration;

use actix_web::http::Method;
use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse};
use bytes::BytesMut;
use futures_util::StreamExt;

use super::error::{ApiError, Code};
use super::sign_in::{self, Door};
use super::views::{DeleteRequest, DeletedAnswer};
use super::{Site, extract, images, list, query};
use crate::images::UploadError;
use crate::model::ids::ImageId;
use crate::signin::SignedIn;
use crate::x402::siwx::SIGN_IN_HEADER;

/// The most images that one request may delete.
const MOST: usize = 100;
/// The longest list of images, in bytes. It has room for 100 entries with every field of an
/// upload's response.
const LONGEST_BODY: usize = 256 * 1024;
/// The time limit for the body that holds the list.
const READ_TIME: Duration = Duration::from_secs(10);

/// The route at which a wallet deletes several images.
const DOOR: Door<'_> = Door {
    path: "/api/images",
    statement: "Delete images of this wallet. Signing in costs nothing.",
    instead: "Or send the deleteToken of each image.",
};

/// `GET`, `HEAD` and `DELETE` of `/api/images/{id}`: returns an image's metadata, or deletes the
/// image.
pub(super) async fn read_or_delete(
    site: Site,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    if request.method() != Method::DELETE {
        return images::metadata(site, &request, id).await;
    }
    let id = ImageId::parse(&id).ok_or(ApiError::NotFound)?;
    if let Some(token) = extract::delete_token(&request)? {
        return delete(&site, vec![(id, token)], Vec::new()).await;
    }
    let path = format!("/api/images/{id}");
    let owned = owned_by_signer(&site, &request, vec![id], &door(&path)).await?;
    delete(&site, Vec::new(), owned).await
}

/// The route at which a wallet deletes the image of this path.
pub(super) const fn door(path: &str) -> Door<'_> {
    Door {
        path,
        statement: "Delete this image. Signing in costs nothing.",
        instead: sign_in::OR_DELETE_TOKEN,
    }
}

/// `GET`, `HEAD` and `DELETE` of `/api/images`: lists the images of a wallet, or deletes the images
/// of a list.
pub(super) async fn list_or_delete(
    site: Site,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    if request.method() != Method::DELETE {
        return list::own(&site, &request).await;
    }
    let read = tokio::time::timeout(READ_TIME, read_list(payload)).await;
    let list = read.map_err(|_| bad("The list took longer to arrive than the limit of 10 seconds. Send the same request over a faster connection, or a shorter list."))??;
    let token = extract::delete_token(&request)?;
    let pairs = list.pairs(token.as_deref())?;
    let has_token = pairs.iter().any(|(_, token)| token.is_some());
    let mut by_token = Vec::new();
    let mut by_wallet = Vec::new();
    for (id, token) in pairs {
        match token {
            Some(token) => by_token.push((id, token)),
            None => by_wallet.push(id),
        }
    }
    // A list in which some tokens were forgotten is wrong by itself, unless its sender signed in.
    let is_signed = request.headers().contains_key(SIGN_IN_HEADER);
    if let Some(id) = by_wallet.first().filter(|_| has_token && !is_signed) {
        return Err(ApiError::BadDeleteToken { id: id.clone() });
    }
    refuse_wrong_token(&site, &by_token)?;
    let owned = if by_wallet.is_empty() {
        Vec::new()
    } else {
        owned_by_signer(&site, &request, by_wallet, &DOOR).await?
    };
    delete(&site, by_token, owned).await
}

/// Returns the images again if the wallet that signs in owns each of them.
async fn owned_by_signer(
    site: &Site,
    request: &HttpRequest,
    ids: Vec<ImageId>,
    door: &Door<'_>,
) -> Result<Vec<ImageId>, ApiError> {
    let signed_in = sign_in::sign_in_at(site, request, door).await?;
    owned_by(site, signed_in, ids).await
}

/// Returns the images again if the wallet that signed in owns each of them.
pub(super) async fn owned_by(
    site: &Site,
    signed_in: SignedIn,
    ids: Vec<ImageId>,
) -> Result<Vec<ImageId>, ApiError> {
    let network = signed_in.network.map(|network| network.caip2);
    let foreign = site
        .images
        .find_foreign(&ids, signed_in.wallet, network)
        .await?;
    match foreign {
        Some(id) => Err(ApiError::NotOwner { id }),
        None => Ok(ids),
    }
}

/// The response to a request that deletes these images.
async fn delete(
    site: &Site,
    by_token: Vec<(ImageId, String)>,
    owned: Vec<ImageId>,
) -> Result<HttpResponse, ApiError> {
    Ok(HttpResponse::Ok().json(deleted(site, by_token, owned).await?))
}

/// Deletes the images with their delete tokens, if every token is right, and images that their
/// owner's wallet signed in for. Otherwise nothing is deleted.
pub(super) async fn deleted(
    site: &Site,
    by_token: Vec<(ImageId, String)>,
    owned: Vec<ImageId>,
) -> Result<DeletedAnswer, ApiError> {
    refuse_wrong_token(site, &by_token)?;
    for (id, token) in &by_token {
        refuse_lost(site, id, Some(token)).await?;
    }
    let ids: Vec<ImageId> = by_token
        .into_iter()
        .map(|(id, _)| id)
        .chain(owned)
        .collect();
    site.retention.delete(ids.clone()).await?;
    let deleted = ids.iter().map(ToString::to_string).collect();
    Ok(DeletedAnswer { deleted })
}

/// Refuses a list with a wrong delete token. The tokens are checked without looking up the images: a
/// token is right or wrong for any id. So the response doesn't reveal whether an image exists.
fn refuse_wrong_token(site: &Site, pairs: &[(ImageId, String)]) -> Result<(), ApiError> {
    let wrong = pairs
        .iter()
        .find(|(id, token)| !is_owners(site, id, Some(token)));
    match wrong {
        Some((id, _)) => Err(ApiError::BadDeleteToken { id: id.clone() }),
        None => Ok(()),
    }
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
