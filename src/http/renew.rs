//! `POST /api/images/{id}/renew`: sells more time for an image. Anyone may pay, and the image keeps
//! its owner.

use std::net::IpAddr;

use actix_web::web;
use actix_web::{HttpRequest, HttpResponse};

use super::error::{ApiError, Code};
use super::paid::{Purchase, refuse_behind, unless_used};
use super::{Site, extract, limits, query};
use crate::app::Checkout;
use crate::model::ids::ImageId;
use crate::model::payment::{Product, ProductKind};
use crate::payments::{Asked, Bought};
use crate::pricing::tiers::{Tier, TierName};
use crate::x402::header::PaymentHeader;

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
    query::check(request, &[query::TIER])?;
    let checkout = site.checkout.as_ref().ok_or(ApiError::PaymentsOff)?;
    refuse_behind(site)?;
    let id = ImageId::parse(id).ok_or_else(|| {
        let message = "The path names no valid image id. Send the 12 letters and digits of the id, without an extension.";
        ApiError::bad(Code::InvalidParameter, message)
    })?;
    let named = named_tier(request)?;
    limits::count_payment(site, request).await?;
    let header = extract::payment(request)?;
    // Each product has one URL, because clients repeat it in their payment.
    let path = match &named {
        Some(tier) => format!("/api/images/{id}/renew?tier={}", tier.as_str()),
        None => format!("/api/images/{id}/renew"),
    };
    let url = checkout.catalog.url(&path);
    let asked = Asked {
        kind: ProductKind::Renewal,
        tier: named.as_ref().map(TierName::as_str),
        uses: 1,
        target: Some(&id),
        resource_url: &url,
    };
    let client = extract::client_address(request, &site.config.http);
    let (tier, product) = open(site, checkout, header.as_ref(), client, asked, &id).await?;
    let mut purchase = Purchase {
        checkout,
        tier,
        product,
        is_default: named.is_none(),
        path,
        metadata: None,
        header,
    };
    let Some(header) = purchase.header.take() else {
        let found = checkout.payments.find_renewable(&id, &purchase.tier).await;
        found.map_err(ApiError::Unsold)?;
        return Err(purchase.ask(site));
    };
    let presentation = purchase.presentation(site, request, header, None)?;
    purchase.sell(site, request, presentation).await
}

/// The tier and product of the renewal. The ledger is asked about the payment before the image is
/// looked up (docs/payments.md, rule 8).
async fn open(
    site: &Site,
    checkout: &Checkout,
    header: Option<&PaymentHeader>,
    client: Option<IpAddr>,
    asked: Asked<'_>,
    id: &ImageId,
) -> Result<(Tier, Product), ApiError> {
    if let Some(header) = header {
        let known = checkout.payments.find_known(header, asked).await;
        if let Some(known) = known.map_err(ApiError::Unsold)? {
            return as_bought(known);
        }
    }
    let image = site.images.find_public(id).await?;
    let Some(image) = image else {
        return Err(match header {
            Some(header) => unless_used(checkout, header, client, ApiError::NotFound).await,
            None => ApiError::NotFound,
        });
    };
    let name = asked.tier.unwrap_or(&image.tier);
    let tiers = checkout.catalog.tiers();
    if let Some(tier) = tiers.find(name).filter(|tier| !tier.is_free()) {
        let product = Product {
            kind: asked.kind,
            tier: name.to_owned(),
            uses: asked.uses,
            target: Some(id.clone()),
        };
        return Ok((tier.clone(), product));
    }
    let no_such_tier = no_such_tier(checkout, id, name);
    let Some(header) = header else {
        return Err(no_such_tier);
    };
    let asked = Asked {
        tier: Some(name),
        ..asked
    };
    let offered = checkout.payments.find_offered(asked).await;
    match offered.map_err(ApiError::Unsold)? {
        Some(offered) => as_bought(offered),
        None => Err(unless_used(checkout, header, client, no_such_tier).await),
    }
}

/// The tier and product that a payment bought, or was offered before.
fn as_bought(bought: Bought) -> Result<(Tier, Product), ApiError> {
    let tier = bought.tier().ok_or(ApiError::NotFound)?;
    Ok((tier, bought.product))
}

/// The error for a tier that can't renew an image.
fn no_such_tier(checkout: &Checkout, id: &ImageId, name: &str) -> ApiError {
    let tiers = checkout.catalog.tiers();
    let paid: Vec<&str> = tiers.paid().map(|tier| tier.name.as_str()).collect();
    let message = format!(
        "Image {id} cannot be renewed with the tier {name}, which is free or not sold any more. Send ?tier= with one \
         of: {}.",
        paid.join(", ")
    );
    ApiError::Bad(Code::UnknownTier, message)
}

/// The value of `?tier=`, if it was sent.
fn named_tier(request: &HttpRequest) -> Result<Option<TierName>, ApiError> {
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
