//! Signed links to private images: makes one, or ends all that were made before. The owner may do
//! both, with the delete token or by sign-in; the viewer that the upload named may make links.

use std::time::Duration;

use actix_web::http::Method;
use actix_web::web::{self, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::error::{ApiError, Code};
use super::sign_in::{Door, sign_in_at};
use super::views::{LinksEndedAnswer, SignedLinkAnswer, SignedLinkRequest};
use super::{Site, delete, extract, images, json_body, query};
use crate::images::private::LONGEST_LINK;
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::signin::SignedIn;

/// The longest body of a request for a link, in bytes.
const LONGEST_BODY: usize = 1024;

/// What the client may send in place of a signed message.
const INSTEAD: &str = "Or send the image's delete token in X-Delete-Token.";

/// What a request does with the links of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// Signs a new link. The owner and the viewer may.
    Sign,
    /// Ends all links. The owner alone may.
    End,
}

/// `POST` and `DELETE /api/images/{id}/links`: signs a link to a private image, or ends all links
/// that were signed before.
pub(super) async fn sign_or_end(
    site: Site,
    request: HttpRequest,
    id: web::Path<String>,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    query::check(&request, &[])?;
    let id = ImageId::parse(&id).ok_or(ApiError::NotFound)?;
    let done = if request.method() == Method::DELETE {
        end_links(&site, &request, &id).await
    } else {
        sign(&site, &request, &id, payload).await
    };
    done.map_err(|error| error.of(&request))
}

/// Signs a link for the life that the body names.
async fn sign(
    site: &Site,
    request: &HttpRequest,
    id: &ImageId,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let life = read_life(payload).await?;
    let image = private_image(site, request, id, Deed::Sign).await?;
    let life = life.unwrap_or(site.config.images.link_ttl);
    let link = site.images.sign_link(&image, life);
    Ok(HttpResponse::Ok().json(SignedLinkAnswer {
        url: images::url(site, &image, Some(link)),
        expires_at: link.expires().to_string(),
    }))
}

/// Ends every link of the image.
async fn end_links(
    site: &Site,
    request: &HttpRequest,
    id: &ImageId,
) -> Result<HttpResponse, ApiError> {
    private_image(site, request, id, Deed::End).await?;
    if !site.images.end_links(id).await? {
        return Err(ApiError::NotFound);
    }
    Ok(HttpResponse::Ok().json(LinksEndedAnswer {
        id: id.to_string(),
        links_ended_at: site.clock.now().to_string(),
    }))
}

/// The private image of a request that may do this. The credential is checked before the image is
/// looked up, so the response doesn't reveal whether the image exists.
async fn private_image(
    site: &Site,
    request: &HttpRequest,
    id: &ImageId,
    deed: Deed,
) -> Result<Image, ApiError> {
    let token = extract::delete_token(request)?;
    let wallet = match &token {
        Some(token) if !delete::is_owners(site, id, Some(token)) => {
            return Err(ApiError::BadDeleteToken { id: id.clone() });
        }
        Some(token) => {
            delete::refuse_lost(site, id, Some(token)).await?;
            None
        }
        None => Some(signed_in(site, request, id, deed).await?),
    };
    let image = site.images.find_live(id).await?;
    let image = image.ok_or(ApiError::NotFound)?;
    if !image.visibility.is_private() {
        return Err(not_private(site, &image));
    }
    match wallet {
        Some(wallet) if !is_allowed(site, &image, &wallet, deed) => Err(ApiError::NotFound),
        _ => Ok(image),
    }
}

/// The wallet that signed in to do this.
async fn signed_in(
    site: &Site,
    request: &HttpRequest,
    id: &ImageId,
    deed: Deed,
) -> Result<SignedIn, ApiError> {
    let statement = match deed {
        Deed::Sign => format!("Make a link to the private image {id}."),
        Deed::End => format!("End every link to the private image {id}."),
    };
    let door = Door {
        path: &format!("/api/images/{id}/links"),
        statement: &statement,
        instead: INSTEAD,
    };
    sign_in_at(site, request, &door).await
}

/// Whether this wallet may do this with the links of an image.
fn is_allowed(site: &Site, image: &Image, wallet: &SignedIn, deed: Deed) -> bool {
    let network = wallet.network.map(|network| network.caip2);
    let owner = image.owner.as_ref();
    if owner.is_some_and(|owner| owner.is(wallet.wallet, network)) {
        return true;
    }
    // An upload names its viewer by the address alone, and a contract wallet's address may be
    // somebody else's on another chain. So a contract is the viewer on the first network only.
    let first = site
        .config
        .payments
        .as_ref()
        .and_then(|it| it.networks.first());
    let is_first =
        network.is_none_or(|network| first.is_some_and(|it| it.network.caip2 == network));
    deed == Deed::Sign && is_first && image.visibility.viewer() == Some(wallet.wallet)
}

/// The error for a public image, whose link needs no signature.
fn not_private(site: &Site, image: &Image) -> ApiError {
    let url = images::url(site, image, None);
    let message = format!(
        "Image {} is public: everybody who has its link {url} sees it, and signed links are for private images. Use \
         this link, or upload the image again with ?visibility=private.",
        image.id
    );
    ApiError::bad(Code::NotPrivate, message)
}

/// Reads how long the link is to last. `None`: the body does not say.
async fn read_life(payload: Payload) -> Result<Option<Duration>, ApiError> {
    let instead = "Send {\"expiresInSeconds\": 3600}, or no body.";
    let wanted: SignedLinkRequest = json_body::read(payload, LONGEST_BODY, instead).await?;
    let Some(seconds) = wanted.expires_in_seconds else {
        return Ok(None);
    };
    let most = LONGEST_LINK.as_secs();
    if !(1..=most).contains(&seconds) {
        return Err(bad(&format!(
            "expiresInSeconds is {seconds}, but a link lasts from 1 to {most} seconds (a year). Send a number in this \
             range."
        )));
    }
    Ok(Some(Duration::from_secs(seconds)))
}

fn bad(message: &str) -> ApiError {
    ApiError::bad(Code::InvalidBody, message)
}
