//! `POST /api/images/{id}/renew`: sells more time for an image. Anyone may pay, and the image keeps
//! its owner.

use actix_web::web;
use actix_web::{HttpRequest, HttpResponse};

use super::error::{ApiError, Code};
use super::paid::{Purchase, refuse_behind};
use super::{Site, images, query};
use crate::checkout::Order;
use crate::images::private::Access;
use crate::model::ids::ImageId;
use crate::model::payment::ProductKind;
use crate::pricing::tiers::TierName;

/// `POST` and `GET /api/images/{id}/renew`: sells a renewal.
pub(super) async fn renew(
    site: Site,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let sold = sell(&site, &request, &id).await;
    sold.map_err(|error| error.of(&request))
}

/// Sells the renewal. The caller completes an error by [`ApiError::of`].
async fn sell(site: &Site, request: &HttpRequest, id: &str) -> Result<HttpResponse, ApiError> {
    query::check(request, &[query::TIER, query::EXP, query::SIG])?;
    refuse_behind(site)?;
    let id = ImageId::parse(id).ok_or_else(|| {
        let message = "The path names no valid image id. Send the 12 letters and digits of the id, without an extension.";
        ApiError::bad(Code::InvalidParameter, message)
    })?;
    let named = named_tier(request)?;
    let access = images::access(site, request, &id)?;
    let order = order(&id, named.as_ref(), access);
    let mut purchase = Purchase::open(site, request, order).await?;
    match purchase.take_payment() {
        Some(header) => purchase.sell(site, request, header, None).await,
        None => Err(purchase.ask()),
    }
}

/// The order of a renewal, by a client with this access to the image. `tier` is the tier that the
/// client named.
pub(super) fn order<'a>(id: &'a ImageId, tier: Option<&'a TierName>, access: Access) -> Order<'a> {
    Order {
        kind: ProductKind::Renewal,
        tier: tier.map(TierName::as_str),
        uses: 1,
        target: Some(id),
        days: None,
        bytes: None,
        access,
        path: match tier {
            Some(tier) => format!("/api/images/{id}/renew?tier={}", tier.as_str()),
            None => format!("/api/images/{id}/renew"),
        },
    }
}

/// The value of `?tier=`, if it was sent.
pub(super) fn named_tier(request: &HttpRequest) -> Result<Option<TierName>, ApiError> {
    let instead = "Send ?tier=NAME once, with the name of a tier: see GET /api/tiers.";
    let Some(text) = query::single(request, query::TIER, instead)? else {
        return Ok(None);
    };
    let name = TierName::parse(&text);
    name.map(Some).map_err(|_| {
        let sent = query::excerpt(&text);
        let message = format!("tier is \"{sent}\", which cannot be the name of a tier. {instead}");
        ApiError::Bad(Code::InvalidParameter, message)
    })
}
