//! `/view/{id}`: the page that shows an image to people, and its preview to chats.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use url::form_urlencoded::byte_serialize;

use super::super::error::ApiError;
use super::super::views::{ImageAnswer, ImageFacts};
use super::super::{Site, images, query};
use super::words::{size, time_left};
use super::{Assets, Layout, minute, respond, takes_play_money, uncached, wants_page};
use crate::images::private::Access;
use crate::model::ids::ImageId;
use crate::model::variant::Size;
use crate::system::clock::Timestamp;

/// Pages of smaller files load the file itself: a variant would save little.
const SMALLEST_WITH_VARIANTS: u64 = 200 * 1024;

/// A picture on a page.
pub(super) struct Picture {
    /// The link of the image.
    pub(super) url: String,
    /// The links of variants with their widths, for `srcset`. Empty: the image itself is loaded.
    pub(super) srcset: String,
    /// What it is, in words.
    pub(super) alt: String,
    /// The width in pixels.
    pub(super) width: u32,
    /// The height in pixels.
    pub(super) height: u32,
    /// The colour that is shown until it is loaded.
    pub(super) colour: Option<String>,
    /// The blurred preview, for scripts.
    pub(super) thumbhash: Option<String>,
}

impl Picture {
    /// The picture of an image.
    pub(super) fn of(facts: &ImageFacts) -> Self {
        Self {
            url: facts.url.clone(),
            srcset: srcset(facts),
            alt: title(facts),
            width: facts.width,
            height: facts.height,
            colour: facts.dominant_color.clone(),
            thumbhash: facts.thumbhash.clone(),
        }
    }
}

/// A text to copy.
struct Form {
    key: &'static str,
    name: &'static str,
    text: String,
}

/// A tier that keeps the image longer.
struct Longer {
    tier: String,
    price: String,
    buys: String,
}

#[derive(Template)]
#[template(path = "view.html")]
struct View<'a> {
    layout: Layout<'a>,
    title: String,
    image: ImageAnswer,
    picture: Picture,
    kind: &'static str,
    weight: String,
    left: String,
    end: Option<String>,
    uploaded: Option<(String, String)>,
    link_end: Option<String>,
    forms: Vec<Form>,
    longer: Vec<Longer>,
    play_money: bool,
    report: String,
    base: &'a str,
    oembed: String,
    is_private: bool,
}

#[derive(Template)]
#[template(path = "missing.html")]
struct Missing<'a> {
    layout: Layout<'a>,
    heading: &'static str,
    message: String,
    id: Option<String>,
}

/// `GET /view/{id}`. A private image is shown by `exp` and `sig` of a signed link, as its own link shows it.
pub(super) async fn view(
    site: Site,
    assets: web::Data<Assets>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id = ImageId::parse(&id);
    let access = Access {
        link: query::signed_link(&request),
        is_owner: false,
    };
    let found = match &id {
        Some(id) => images::facts_of(&site, id, &access).await,
        None => Err(ApiError::NotFound),
    };
    match found {
        Ok(image) => Ok(shown(&site, &assets, image)),
        Err(error) if wants_page(&request) => Ok(missing(&site, &assets, id.as_ref(), &error)),
        Err(error) => Err(error),
    }
}

fn shown(site: &Site, assets: &Assets, image: ImageAnswer) -> HttpResponse {
    let facts = &image.facts;
    let end = facts.expires_at.as_deref().and_then(Timestamp::parse);
    let now = site.clock.now();
    let is_private = facts.visibility == "private";
    let (title, weight, left) = (title(facts), size(facts.size_bytes), time_left(end, now));
    let base = &site.config.http.base_url;
    let query = |text: &str| -> String { byte_serialize(text.as_bytes()).collect() };
    let page = View {
        layout: Layout::unlisted(site, assets, &title, format!("{title}, {weight}, {left}.")),
        picture: Picture::of(facts),
        kind: kind(facts),
        end: facts.expires_at.as_deref().map(minute),
        uploaded: image.created_at.as_ref().map(|at| (at.clone(), minute(at))),
        link_end: facts.link_expires_at.as_deref().map(minute),
        forms: forms(facts),
        longer: end.map_or_else(Vec::new, |_| longer(site, facts)),
        play_money: takes_play_money(site),
        // By its link, which people recognise, and without which nobody may report a private image.
        report: format!("/abuse?image={}", query(&facts.url)),
        oembed: format!("{base}/oembed?url={}", query(&facts.page_url)),
        base,
        title,
        weight,
        left,
        is_private,
        image,
    };
    let response = respond(site, StatusCode::OK, &page);
    if is_private {
        uncached(response)
    } else {
        response
    }
}

fn missing(site: &Site, assets: &Assets, id: Option<&ImageId>, error: &ApiError) -> HttpResponse {
    let (status, message) = error.explain();
    let heading = match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => "There is no image here",
        StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS => "This image was removed by law",
        _ => "The image can’t be shown now",
    };
    let page = Missing {
        layout: Layout::unlisted(site, assets, heading, message.clone()),
        heading,
        message,
        id: id.map(ToString::to_string),
    };
    uncached(respond(site, status, &page))
}

/// What an image is, in words: no name of a file is ever stored.
fn title(facts: &ImageFacts) -> String {
    format!("{} image, {} × {}", kind(facts), facts.width, facts.height)
}

fn kind(facts: &ImageFacts) -> &'static str {
    match facts.content_type {
        "image/png" => "PNG",
        "image/jpeg" => "JPEG",
        "image/gif" => "GIF",
        "image/webp" => "WebP",
        other => other,
    }
}

/// The variants that are narrower than the image, and the image. A GIF is shown as it is: to make an animation of another
/// size costs more than it saves.
fn srcset(facts: &ImageFacts) -> String {
    if facts.size_bytes < SMALLEST_WITH_VARIANTS || facts.content_type == "image/gif" {
        return String::new();
    }
    let sizes = [
        (Size::Small, &facts.sizes.s),
        (Size::Medium, &facts.sizes.m),
        (Size::Large, &facts.sizes.l),
    ];
    let smaller = sizes.iter().filter_map(|(size, url)| {
        let width = size.variant(size.output()).width?;
        (width < facts.width).then(|| format!("{url} {width}w"))
    });
    let whole = format!("{} {}w", facts.url, facts.width);
    let candidates: Vec<String> = smaller.chain([whole]).collect();
    candidates.join(", ")
}

/// The texts that people paste, as `forms` of `assets/copy.js` writes them.
fn forms(facts: &ImageFacts) -> Vec<Form> {
    let ImageFacts {
        url, width, height, ..
    } = facts;
    let form = |key, name, text| Form { key, name, text };
    let source = url.replace('&', "&amp;");
    vec![
        form("url", "Image", url.clone()),
        form("page", "This page", facts.page_url.clone()),
        form("markdown", "Markdown", format!("![]({url})")),
        form(
            "html",
            "HTML",
            format!("<img src=\"{source}\" width=\"{width}\" height=\"{height}\" alt=\"\">"),
        ),
        form("bbcode", "BBCode", format!("[img]{url}[/img]")),
    ]
}

/// The tiers that can be bought to keep the image longer.
fn longer(site: &Site, facts: &ImageFacts) -> Vec<Longer> {
    if site.config.payments.is_none() {
        return Vec::new();
    }
    let tiers = site.tiers.now();
    let sold = tiers.iter().filter(|tier| !tier.is_free());
    sold.map(|tier| Longer {
        tier: tier.name.to_string(),
        price: tier.step(Some(facts.size_bytes)).price_in_words(),
        buys: tier.describe_renewal(),
    })
    .collect()
}
