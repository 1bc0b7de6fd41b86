//! `GET /api/images`: the images of the wallet that signs in, newest first.

use actix_web::{HttpRequest, HttpResponse};

use super::error::{ApiError, Code};
use super::sign_in::{self, Door};
use super::views::ImagesAnswer;
use super::{Site, images, query};
use crate::images::{MOST_OWNED, OwnedPosition};
use crate::signin::Cursor;

/// The length of a page where the request names none.
pub(super) const USUAL: u32 = 50;

/// The route at which a wallet lists its images.
pub(super) const DOOR: Door<'_> = Door {
    path: "/api/images",
    statement: "List the images of this wallet. Signing in costs nothing.",
    instead: "",
};

/// `GET` and `HEAD` of `/api/images`.
pub(super) async fn own(site: &Site, request: &HttpRequest) -> Result<HttpResponse, ApiError> {
    query::check(request, &[query::LIMIT, query::AFTER])?;
    let limit = limit(request, "images")?;
    let cursor = sign_in::page(site, request, &DOOR).await?;
    Ok(HttpResponse::Ok().json(page(site, cursor, limit).await?))
}

/// The page of a wallet's list at this cursor.
pub(super) async fn page(
    site: &Site,
    cursor: Cursor,
    limit: u32,
) -> Result<ImagesAnswer, ApiError> {
    let (wallet, network) = (cursor.signed_in.wallet, cursor.signed_in.network);
    let after = OwnedPosition::parse(&cursor.position);
    let page = site
        .images
        .owned(wallet, network.map(|it| it.caip2), after.as_ref(), limit)
        .await?;
    let next = page.next.map(|next| {
        site.sign_in
            .write_cursor(DOOR.path, &cursor.at(next.to_string()))
    });
    let images = page.images.iter();
    Ok(ImagesAnswer {
        images: images
            .map(|image| images::facts_answer(site, image))
            .collect(),
        next,
    })
}

/// The length of a page of `items`, from `?limit=`.
pub(super) fn limit(request: &HttpRequest, items: &str) -> Result<u32, ApiError> {
    let instead =
        format!("Send a whole number from 1 to {MOST_OWNED} once, or leave it out for {USUAL}.");
    let Some(text) = query::single(request, query::LIMIT, &instead)? else {
        return Ok(USUAL);
    };
    let number = text.parse().ok().filter(|it| (1..=MOST_OWNED).contains(it));
    number.ok_or_else(|| {
        let text = query::excerpt(&text);
        let message = format!(
            "limit is \"{text}\", and a page has from 1 to {MOST_OWNED} {items}. {instead}"
        );
        ApiError::bad(Code::InvalidParameter, message)
    })
}
