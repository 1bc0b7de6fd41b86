//! `GET /oembed`: what a page of another site needs to show an image of ours (<https://oembed.com>, version 1.0).

use std::borrow::Cow;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use serde::Serialize;
use url::{Url, form_urlencoded};

use super::error::{ApiError, Code};
use super::link::{HEIGHT, Link, WIDTH};
use super::{Site, images, query};
use crate::images::private::Access;
use crate::images::render::size_of;
use crate::model::image::Image;
use crate::model::signed_link::SignedLink;
use crate::model::variant::{Fit, Output, Variant};

/// The parameter with the link to an image, or to its page.
pub(super) const URL: &str = "url";
/// The parameter with the format of the response.
pub(super) const FORMAT: &str = "format";
/// The parameter with the greatest width, in pixels.
pub(super) const MAX_WIDTH: &str = "maxwidth";
/// The parameter with the greatest height, in pixels.
pub(super) const MAX_HEIGHT: &str = "maxheight";
/// The formats of the response, the default first.
pub(super) const FORMATS: [&str; 2] = ["json", "xml"];
/// The longest time that others may keep a response, in seconds. The image may be deleted before.
const LONGEST_AGE: u64 = 300;

/// The response, as JSON or XML.
#[derive(Debug, Serialize, Template)]
#[template(path = "oembed.xml")]
struct Answer<'a> {
    version: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    provider_name: &'a str,
    provider_url: &'a str,
    /// How long the response may be kept, in seconds.
    cache_age: u64,
    url: String,
    width: u32,
    height: u32,
}

/// `GET /oembed`.
pub(super) async fn oembed(site: Site, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let is_xml = wants_xml(&request)?;
    let bounds = [bound(&request, MAX_WIDTH)?, bound(&request, MAX_HEIGHT)?];
    let instead = "Send ?url= once, with the link to an image of this server or to its page.";
    let url = query::single(&request, URL, instead)?.ok_or_else(|| {
        let message = format!("The request names no image. {instead}");
        ApiError::bad(Code::InvalidParameter, message)
    })?;
    let image = find(&site, &url).await?;
    let now = site.clock.now();
    let left = image.expires_at.map(|end| end.since(now).as_secs());
    let age = left.map_or(LONGEST_AGE, |left| left.min(LONGEST_AGE));
    let (url, width, height) = shown(&site, &image, bounds);
    let answer = Answer {
        version: "1.0",
        kind: "photo",
        provider_name: &site.config.site.name,
        provider_url: &site.config.http.base_url,
        cache_age: age,
        url,
        width,
        height,
    };
    let mut response = HttpResponse::Ok();
    response.insert_header((CACHE_CONTROL, format!("public, max-age={age}")));
    if !is_xml {
        return Ok(response.json(answer));
    }
    match answer.render() {
        Ok(text) => Ok(response.content_type("text/xml; charset=utf-8").body(text)),
        Err(error) => {
            tracing::error!(%error, "an oEmbed response could not be rendered");
            Ok(HttpResponse::InternalServerError().finish())
        }
    }
}

fn wants_xml(request: &HttpRequest) -> Result<bool, ApiError> {
    let [json, xml] = FORMATS;
    let instead = format!("Send ?{FORMAT}={json} or ?{FORMAT}={xml} once, or none for JSON.");
    let named = query::single(request, FORMAT, &instead)?;
    match named.as_deref() {
        None => Ok(false),
        Some(named) if named == json => Ok(false),
        Some(named) if named == xml => Ok(true),
        Some(other) => {
            let other = query::excerpt(other);
            let message = format!("There is no response in the format \"{other}\". {instead}");
            Err(ApiError::bad(Code::UnknownFormat, message))
        }
    }
}

/// A greatest width or height, at most that of a variant.
fn bound(request: &HttpRequest, name: &str) -> Result<Option<u32>, ApiError> {
    let instead = format!("Send ?{name}=N once, with a whole number of pixels from 1.");
    let Some(text) = query::single(request, name, &instead)? else {
        return Ok(None);
    };
    let pixels = Some(&text)
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        // More digits than a number holds are more pixels than any image has.
        .map(|text| text.parse().unwrap_or(u32::MAX))
        .filter(|pixels| *pixels > 0);
    pixels.map(Some).ok_or_else(|| {
        let text = query::excerpt(&text);
        let message = format!("{name} is \"{text}\", which is no number of pixels. {instead}");
        ApiError::bad(Code::InvalidParameter, message)
    })
}

/// The public image that a link names. A private image is an unknown one to whoever has no valid signature; others learn that it
/// can't be embedded.
async fn find(site: &Site, link: &str) -> Result<Image, ApiError> {
    let named = named(site, link).ok_or_else(|| {
        let message =
            "The URL names no image of this server. Send the link to an image, or to its page.";
        ApiError::bad(Code::NotFound, message)
    })?;
    let access = Access {
        link: named.signature,
        is_owner: false,
    };
    let image = site.images.find_visible(&named.link.id, &access).await?;
    let Some(image) = image else {
        return Err(images::missing(site, &named.link.id, &access).await?);
    };
    if image.visibility.is_private() {
        let message = "The image is private, so it can't be embedded. Send the link itself to whoever may see it.";
        return Err(ApiError::bad(Code::NotPublic, message));
    }
    Ok(image)
}

/// What a link says of its image.
struct Named {
    link: Link,
    signature: Option<SignedLink>,
}

/// Reads a link to an image or to its page. `None`: it is none of this server.
fn named(site: &Site, link: &str) -> Option<Named> {
    let pages = format!("{}/view", site.config.http.base_url);
    let url = Url::parse(link).ok()?;
    let file = [&site.config.images.base_url, &pages]
        .iter()
        .find_map(|base| {
            let base = Url::parse(base).ok()?;
            let folder = base.path().trim_end_matches('/');
            let file = url.path().strip_prefix(folder)?.strip_prefix('/')?;
            (url.origin() == base.origin()).then_some(file)
        })?;
    let link = Link::parse(file)?;
    let values = |wanted: &str| -> Option<Cow<'_, str>> {
        let query = url.query().unwrap_or_default().as_bytes();
        form_urlencoded::parse(query)
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value)
    };
    let signature = values(query::EXP)
        .zip(values(query::SIG))
        .and_then(|(exp, sig)| SignedLink::parse(&exp, &sig));
    Some(Named { link, signature })
}

/// The link to the image or to a variant that fits the bounds, with its size.
fn shown(site: &Site, image: &Image, bounds: [Option<u32>; 2]) -> (String, u32, u32) {
    let whole = (images::url(site, image, None), image.width, image.height);
    let most = |bound: Option<u32>| bound.map(|bound| bound.min(Variant::LONGEST_SIDE));
    let [width, height] = bounds;
    let is_whole = width.is_none_or(|most| most >= image.width)
        && height.is_none_or(|most| most >= image.height);
    if is_whole {
        return whole;
    }
    let output = Output::of(image.format);
    let variant = Variant {
        width: most(width),
        height: most(height),
        fit: Fit::ScaleDown,
        quality: None,
        output,
    }
    .simplified(image.width, image.height);
    let Some((shown_width, shown_height)) = size_of(&variant, (image.width, image.height)) else {
        return whole;
    };
    let sides = [(WIDTH, variant.width), (HEIGHT, variant.height)];
    let sides = sides.map(|(name, side)| side.map(|side| format!("{name}={side}")));
    let parameters: Vec<String> = sides.into_iter().flatten().collect();
    let base = &site.config.images.base_url;
    let (id, extension) = (&image.id, output.extension());
    let url = format!("{base}/{id}.{extension}?{}", parameters.join("&"));
    (url, shown_width, shown_height)
}
