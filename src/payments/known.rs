//! What a known payment bought, and at which route. A repeated request asks for the same again,
//! whatever is sold there today (docs/payments.md, rules 3 and 8).

use serde_json::Value;
use url::Url;

use super::{PayError, Payments, Presentation};
use crate::db::DbError;
use crate::model::ids::ImageId;
use crate::model::payment::{Payment, Product, ProductKind, Terms};
use crate::pricing::money::AtomicAmount;
use crate::pricing::tiers::{Tier, TierName};
use crate::x402::header::PaymentHeader;

/// A product and the terms on which it was bought or offered.
#[derive(Debug)]
pub struct Bought {
    /// The product.
    pub product: Product,
    /// The terms.
    pub terms: Terms,
}

/// What a request to a route asks for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Whether the route sells a token, a direct upload, a renewal or an upload link.
    pub kind: ProductKind,
    /// The tier that the route names; `None`: it sells the default tier.
    pub tier: Option<&'a str>,
    /// The number of uploads.
    pub uses: u32,
    /// The image to renew; `None` for other products.
    pub target: Option<&'a ImageId>,
    /// For how many days the upload link is valid; `None` for other products.
    pub days: Option<u32>,
    /// The URL of the route, with the configured origin.
    pub resource_url: &'a str,
}

impl Bought {
    /// The tier as it was offered. Its price is that of the whole purchase.
    pub fn tier(&self) -> Option<Tier> {
        Some(Tier {
            name: TierName::parse(&self.product.tier).ok()?,
            price: self.terms.offer.amount,
            price_per_mib: AtomicAmount::ZERO,
            max_bytes: self.terms.max_bytes,
            keep: self.terms.keep,
            confirmations: self.terms.confirmations,
        })
    }
}

impl Payments {
    /// Finds what a payment of the ledger bought, as far as this route sells it.
    ///
    /// # Errors
    /// [`PayError::Known`] if its records were erased, and [`PayError::Database`].
    pub async fn find_known(
        &self,
        header: &PaymentHeader,
        asked: Asked<'_>,
    ) -> Result<Option<Bought>, PayError> {
        let Asked { kind, uses, .. } = asked;
        if let Some(row) = self.ledger.find_presented(header).await? {
            let is_here = match asked.tier {
                Some(tier) => row.product.tier == tier,
                None => is_bought_at(&row, asked.resource_url),
            };
            let is_same = row.product.kind == kind
                && row.product.uses == uses
                && row.product.target.as_ref() == asked.target
                && row.product.days == asked.days;
            // A payment for another product is known here too. The answer then says what became of
            // its money.
            let product = if is_here && is_same {
                row.product
            } else {
                Product {
                    kind,
                    tier: asked.tier.unwrap_or(&row.product.tier).to_owned(),
                    uses,
                    target: asked.target.cloned(),
                    days: asked.days,
                }
            };
            return Ok(Some(Bought {
                product,
                terms: row.terms,
            }));
        }
        self.refuse_erased(header).await?;
        Ok(None)
    }

    /// The size limit, in bytes, of the tier that a payment of the ledger bought.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn find_size(&self, header: &PaymentHeader) -> Result<Option<u64>, DbError> {
        let row = self.ledger.find_presented(header).await?;
        Ok(row.map(|row| row.terms.max_bytes))
    }
}

/// What a request asks for, compared with a payment's row. If the default tier has changed since
/// the payment, a request at a route that names no tier asks for the tier that was the default
/// then.
pub(super) fn asked_of<'a>(row: &'a Payment, presentation: &'a Presentation) -> &'a Product {
    let asked = &presentation.product;
    let is_same = presentation.is_default
        && row.product.kind == asked.kind
        && row.product.uses == asked.uses
        && row.product.target == asked.target
        && row.product.days == asked.days
        && row.product.tier != asked.tier
        && is_bought_at(row, &presentation.resource_url);
    if is_same { &row.product } else { asked }
}

/// Whether a payment was first sent to this route. Only paths are compared, since the host may have
/// changed.
fn is_bought_at(row: &Payment, url: &str) -> bool {
    let path = |url: &str| Url::parse(url).ok().map(|url| url.path().to_owned());
    let bought = resource_url(row).as_deref().and_then(path);
    bought.is_some() && bought == path(url)
}

/// The URL of the route that a payment was first sent to, as its facilitator call names it.
pub(super) fn resource_url(row: &Payment) -> Option<String> {
    let request: Value = serde_json::from_str(&row.request).ok()?;
    let of_v2 = request.pointer("/paymentPayload/resource/url");
    let url = of_v2.or_else(|| request.pointer("/paymentRequirements/resource"));
    url?.as_str().map(str::to_owned)
}
