//! The page of an upload link, for people who open it in a browser: what is left, and a form that
//! uploads.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use askama::Template;

use super::super::{Site, links};
use super::uploader::Uploader;
use super::{Assets, Layout, minute, respond, uncached};
use crate::model::link::{Link, LinkId};
use crate::system::clock::Timestamp;

#[derive(Template)]
#[template(path = "link.html")]
struct Page<'a> {
    layout: Layout<'a>,
    uploader: Uploader<'a>,
    sentence: String,
    curl: String,
    /// The URL of the link. `None`: it takes no upload any more.
    url: Option<&'a str>,
}

/// The page of a link: what is left, the form, and the command.
pub(in crate::http) fn page(
    site: &Site,
    assets: &Assets,
    link: &Link,
    url: Option<&str>,
) -> HttpResponse {
    let now = site.clock.now();
    let url = url.filter(|_| is_open(link, now));
    let path = url.and_then(|url| url.strip_prefix(site.config.http.base_url.as_str()));
    let about = "An upload link: whoever has it uploads images, without a wallet.";
    let page = Page {
        layout: Layout::unlisted(site, assets, "Upload link", about),
        uploader: Uploader::of_link(site, path.unwrap_or_default(), max_bytes(site, link)),
        sentence: sentence(link, now),
        curl: url.map(links::curl).unwrap_or_default(),
        url,
    };
    uncached(respond(site, StatusCode::OK, &page))
}

/// The largest image that the tier of a link takes, in bytes. `None`: the server does not have this
/// tier any more.
fn max_bytes(site: &Site, link: &Link) -> Option<u64> {
    let tiers = site.tiers.now();
    let tier = match link.id {
        // A free link uploads to the free tier of the moment, whatever its name was.
        LinkId::Free(_) => tiers.free(),
        LinkId::Paid(_) => tiers.find(&link.tier),
    };
    tier.map(|tier| tier.max_bytes)
}

fn is_open(link: &Link, now: Timestamp) -> bool {
    link.revoked_at.is_none() && now < link.expires_at && link.left() > 0
}

/// What is left of a link, in a sentence.
pub(in crate::http) fn sentence(link: &Link, now: Timestamp) -> String {
    let (left, uses) = (link.left(), link.uses);
    if let Some(at) = link.revoked_at {
        return format!(
            "This upload link was revoked at {}.",
            minute(&at.to_string())
        );
    }
    if now >= link.expires_at {
        return format!(
            "This upload link ended at {}.",
            minute(&link.expires_at.to_string())
        );
    }
    if left == 0 {
        return match uses {
            1 => "The upload of this link is used.".to_owned(),
            uses => format!("All {uses} uploads of this link are used."),
        };
    }
    format!(
        "{left} of {uses} uploads are left, in tier {}, until {}.",
        link.tier,
        minute(&link.expires_at.to_string())
    )
}
