//! The responses that describe an image: to an upload, to a renewal, and with its public metadata.

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};

use super::error::{ApiError, Code};
use super::views::{
    ImageAnswer, ImageFacts, MetadataAnswer, RenewalAnswer, SizesView, UploadAnswer,
};
use super::{Site, delete, extract, query, variants};
use crate::images::Taken;
use crate::images::private::Access;
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::model::look::Look;
use crate::model::payment::Renewal;
use crate::model::removal::Ground;
use crate::model::signed_link::SignedLink;
use crate::model::variant::Size;

/// A `200` response with the image's link in `Location`.
pub(super) fn uploaded(site: &Site, image: &Image) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response.insert_header((LOCATION, owners_url(site, image)));
    response
}

/// The link of an image for its owner: of a private image, one that lasts for `images.link_ttl`.
pub(super) fn owners_url(site: &Site, image: &Image) -> String {
    url(site, image, owners_link(site, image))
}

fn owners_link(site: &Site, image: &Image) -> Option<SignedLink> {
    let is_private = image.visibility.is_private();
    is_private.then(|| site.images.sign_link(image, site.config.images.link_ttl))
}

/// What a request shows of its right to see the image with this id.
pub(super) fn access(site: &Site, request: &HttpRequest, id: &ImageId) -> Result<Access, ApiError> {
    let token = extract::delete_token(request)?;
    Ok(Access {
        link: query::signed_link(request),
        is_owner: delete::is_owners(site, id, token.as_deref()),
    })
}

/// The link of an image for whoever has shown `access`. A signed link is returned as it came: only
/// the owner receives a new one. Without either, the link of a private image shows nothing.
fn link_for(site: &Site, image: &Image, access: &Access) -> Option<SignedLink> {
    if access.is_owner {
        return owners_link(site, image);
    }
    access
        .link
        .filter(|link| image.visibility.is_private() && site.images.is_shown(image, *link))
}

/// The response body for the uploader. Only this body holds the delete token.
pub(super) fn upload_answer(site: &Site, image: &Image) -> UploadAnswer {
    let facts = facts(site, image, owners_link(site, image));
    let token = site.images.delete_token(image);
    UploadAnswer {
        delete_url: Some(delete_url(site, &image.id, &token)),
        delete_token: Some(token),
        markdown: format!("![]({})", facts.url),
        metadata: MetadataAnswer::of(image.metadata),
        facts,
    }
}

/// The response body for an upload by a link or a key. Several people may have one, so only the
/// upload that published the image receives its delete token.
pub(super) fn taken_answer(site: &Site, taken: &Taken) -> UploadAnswer {
    let mut answer = upload_answer(site, &taken.image);
    if !taken.is_new {
        (answer.delete_token, answer.delete_url) = (None, None);
    }
    answer
}

/// What the answers to uploads and questions say first.
fn facts(site: &Site, image: &Image, link: Option<SignedLink>) -> ImageFacts {
    ImageFacts {
        url: url(site, image, link),
        id: image.id.to_string(),
        content_type: image.format.content_type(),
        size_bytes: image.size_bytes,
        expires_at: image.expires_at.map(|end| end.to_string()),
        width: image.width,
        height: image.height,
        sha256: image.sha256.clone(),
        tier: image.tier.clone(),
        visibility: image.visibility.as_str(),
        link_expires_at: link.map(|link| link.expires().to_string()),
        page_url: page_url(site, &image.id, link),
        sizes: sizes(site, image, link),
        thumbhash: image.look.as_ref().map(Look::thumbhash_text),
        dominant_color: image.look.as_ref().map(Look::dominant_text),
        refresh_seconds: image.refresh.as_ref().map(|it| it.every.as_secs()),
        refreshed_at: image.refresh.as_ref().map(|it| {
            // An import that is not compared yet has what its URL had when it was fetched.
            it.checked_at.unwrap_or(image.created_at).to_string()
        }),
    }
}

/// The links of the variants with a name.
fn sizes(site: &Site, image: &Image, link: Option<SignedLink>) -> SizesView {
    let url = |size| variants::url(site, image, link, size);
    SizesView {
        s: url(Size::Small),
        m: url(Size::Medium),
        l: url(Size::Large),
        social: url(Size::Social),
    }
}

/// The response body for the payer of a renewal.
pub(super) fn renewal_answer(
    site: &Site,
    image: &Image,
    renewal: &Renewal,
    access: &Access,
) -> RenewalAnswer {
    let link = link_for(site, image, access);
    RenewalAnswer {
        visibility: image.visibility.as_str(),
        link_expires_at: link.map(|link| link.expires().to_string()),
        url: url(site, image, link),
        id: image.id.to_string(),
        content_type: image.format.content_type(),
        size_bytes: image.size_bytes,
        expires_at: renewal.to.map(|end| end.to_string()),
        previous_expires_at: renewal.from.to_string(),
        width: image.width,
        height: image.height,
        sha256: image.sha256.clone(),
        tier: renewal.to_tier.clone(),
    }
}

/// `GET /api/images/{id}`: the facts about an image. Those of a private image are shown to whoever
/// may see it.
pub(super) async fn metadata(
    site: Site,
    request: &HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id = ImageId::parse(&id).ok_or_else(|| no_id(&id))?;
    let access = access(&site, request, &id)?;
    Ok(HttpResponse::Ok().json(facts_of(&site, &id, &access).await?))
}

/// The error for a path that names no valid id, maybe the file's name in place of the id.
fn no_id(named: &str) -> ApiError {
    let id = named.split_once('.').and_then(|(id, _)| ImageId::parse(id));
    id.map_or(ApiError::NotFound, |id| {
        let message = format!(
            "The path names no valid image id. Send the 12 letters and digits of the id, without an extension: \
             /api/images/{id}."
        );
        ApiError::bad(Code::NotFound, message)
    })
}

/// The facts about the image with this id, for a client with this access.
pub(super) async fn facts_of(
    site: &Site,
    id: &ImageId,
    access: &Access,
) -> Result<ImageAnswer, ApiError> {
    let image = site.images.find_visible(id, access).await?;
    let Some(image) = image else {
        return Err(missing(site, id, access).await?);
    };
    let link = link_for(site, &image, access);
    Ok(described(site, &image, link))
}

/// The error for an image that is not served to a client with this access: the operator may have
/// removed it. Everybody who could see the image is told of a legal demand, and only the owner of
/// any other removal.
pub(super) async fn missing(
    site: &Site,
    id: &ImageId,
    access: &Access,
) -> Result<ApiError, ApiError> {
    let removal = site.images.find_removal(id, access).await;
    let removal = removal.map_err(ApiError::Unreadable)?;
    Ok(match removal.map(|removal| removal.ground) {
        Some(Ground::Policy) if !access.is_owner => ApiError::NotFound,
        Some(ground) => ApiError::Removed(ground),
        None => ApiError::NotFound,
    })
}

/// The facts about an image, for its owner.
pub(super) fn facts_answer(site: &Site, image: &Image) -> ImageAnswer {
    described(site, image, owners_link(site, image))
}

fn described(site: &Site, image: &Image, link: Option<SignedLink>) -> ImageAnswer {
    ImageAnswer {
        facts: facts(site, image, link),
        created_at: image.published_at.map(|start| start.to_string()),
    }
}

/// The canonical link of the image, with a signature if it has one.
pub(super) fn url(site: &Site, image: &Image, link: Option<SignedLink>) -> String {
    let plain = format!("{}/{}", site.config.images.base_url, image.file_name());
    match link {
        None => plain,
        Some(link) => format!("{plain}?{}", link.query()),
    }
}

/// The page that shows the image, with a signature if its link has one.
pub(super) fn page_url(site: &Site, id: &ImageId, link: Option<SignedLink>) -> String {
    let plain = format!("{}/view/{id}", site.config.http.base_url);
    match link {
        None => plain,
        Some(link) => format!("{plain}?{}", link.query()),
    }
}

/// The page that deletes the image. Browsers don't send what follows `#`, so no log holds the token.
fn delete_url(site: &Site, id: &ImageId, token: &str) -> String {
    format!("{}/delete/{id}#{token}", site.config.http.base_url)
}
