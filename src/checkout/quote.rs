//! What is sold for an order: by the price table, or, for a payment that is known or that accepts a
//! recent offer, what that payment bought (docs/payments.md, rules 3 and 8).

use std::net::IpAddr;

use super::{Checkout, NoQuote, Order, Quote};
use crate::model::ids::ImageId;
use crate::model::payment::{Product, Terms};
use crate::payments::{Asked, Bought, PayError};
use crate::pricing::tiers::{Tier, TierName};
use crate::x402::header::PaymentHeader;

impl Checkout {
    /// What is sold for an order. `header` is the payment that comes with it: the ledger is asked
    /// about it before a tier or an image is refused.
    ///
    /// # Errors
    /// Why nothing is sold.
    pub async fn quote(
        &self,
        order: Order<'_>,
        header: Option<&PaymentHeader>,
        client: Option<IpAddr>,
    ) -> Result<Quote, NoQuote> {
        let found = if let Some(image) = order.target {
            self.renewal(&order, image, header).await
        } else {
            let sold = self.upload(&order, header).await;
            sold.map(|(tier, product)| (tier, product, order.bytes))
        };
        match (found, header) {
            (Ok((tier, product, bytes)), _) => Ok(Quote {
                tier,
                product,
                bytes,
                is_default: order.tier.is_none(),
                path: order.path,
            }),
            (Err(reason), Some(header)) if reason.is_of_order() => {
                Err(self.unless_used(header, client, reason).await)
            }
            (Err(reason), _) => Err(reason),
        }
    }

    /// Whether the ledger knows the payment that comes with an order. It then keeps its terms, whatever
    /// the settings say now (docs/payments.md, rule 5).
    ///
    /// # Errors
    /// [`NoQuote::Payment`].
    pub async fn is_known(
        &self,
        order: &Order<'_>,
        header: &PaymentHeader,
    ) -> Result<bool, NoQuote> {
        let url = self.catalog.url(&order.path);
        let asked = asked(order, order.tier, &url);
        let known = self.payments.find_known(header, asked).await;
        known.map(|known| known.is_some()).map_err(NoQuote::Payment)
    }

    /// The tier and product of an upload or a token.
    async fn upload(
        &self,
        order: &Order<'_>,
        header: Option<&PaymentHeader>,
    ) -> Result<(Tier, Product), NoQuote> {
        let tiers = self.catalog.tiers();
        let sold = match order.tier {
            Some(name) => tiers.find(name).filter(|tier| !tier.is_free()),
            None => tiers.default_paid(),
        };
        let unknown = || NoQuote::UnknownTier {
            name: order.tier.map(str::to_owned),
        };
        let bought = match (sold, header) {
            (None, None) => return Err(unknown()),
            (None, Some(header)) => {
                let url = self.catalog.url(&order.path);
                self.find_bought(order, order.tier, &url, header).await?
            }
            (Some(tier), Some(header)) if order.tier.is_none() => {
                self.recent_default(header, &product(order, tier)).await?
            }
            (Some(_), _) => None,
        };
        match (bought, sold) {
            (Some(bought), _) => as_bought(bought, unknown),
            (None, Some(tier)) => Ok((tier.clone(), product(order, tier))),
            (None, None) => Err(unknown()),
        }
    }

    /// The tier and product of a renewal, and the size of its image. The ledger is asked about the
    /// payment before the image is looked up.
    async fn renewal(
        &self,
        order: &Order<'_>,
        id: &ImageId,
        header: Option<&PaymentHeader>,
    ) -> Result<(Tier, Product, Option<u64>), NoQuote> {
        let url = self.catalog.url(&order.path);
        if let Some(header) = header {
            let known = self
                .payments
                .find_known(header, asked(order, order.tier, &url));
            if let Some(known) = known.await.map_err(NoQuote::Payment)? {
                let (tier, product) = as_bought(known, || NoQuote::NoImage)?;
                return Ok((tier, product, None));
            }
        }
        let image = self.images.find_visible(id, &order.access).await;
        let Some(image) = image.map_err(NoQuote::Upload)? else {
            let removal = self.images.find_removal(id, &order.access).await;
            return Err(match removal.map_err(NoQuote::Upload)? {
                Some(_) => NoQuote::Removed(id.clone()),
                None => NoQuote::NoImage,
            });
        };
        let name = order.tier.unwrap_or(&image.tier);
        let tiers = self.catalog.tiers();
        if let Some(tier) = tiers.find(name).filter(|tier| !tier.is_free()) {
            if header.is_none() {
                let renewable = self.payments.find_renewable(id, tier).await;
                renewable.map_err(NoQuote::Payment)?;
            }
            let product = product(order, tier);
            return Ok((tier.clone(), product, Some(image.size_bytes)));
        }
        let offered = match header {
            Some(_) => self.find_offered(&asked(order, Some(name), &url)).await?,
            None => None,
        };
        let offered = offered.ok_or_else(|| NoQuote::NotRenewing {
            image: id.clone(),
            tier: name.to_owned(),
        })?;
        let (tier, product) = as_bought(offered, || NoQuote::NoImage)?;
        Ok((tier, product, Some(image.size_bytes)))
    }

    /// What a payment bought, or may still buy, at a route whose tier is not sold any more: in the
    /// payment's row, or else in the offers that were made recently.
    async fn find_bought(
        &self,
        order: &Order<'_>,
        tier: Option<&str>,
        url: &str,
        header: &PaymentHeader,
    ) -> Result<Option<Bought>, NoQuote> {
        let asked = asked(order, tier, url);
        let known = self.payments.find_known(header, asked).await;
        match known.map_err(NoQuote::Payment)? {
            Some(bought) => Ok(Some(bought)),
            None => self.find_offered(&asked).await,
        }
    }

    /// What a recent offer of a tier may still buy.
    async fn find_offered(&self, asked: &Asked<'_>) -> Result<Option<Bought>, NoQuote> {
        // Offers are also recorded under other names than tiers have. Only a valid tier name is
        // looked up.
        let Some(tier) = asked.tier.filter(|tier| TierName::parse(tier).is_ok()) else {
            return Ok(None);
        };
        let product = Product {
            kind: asked.kind,
            tier: tier.to_owned(),
            uses: asked.uses,
            target: asked.target.cloned(),
            days: asked.days,
        };
        let recent = self.catalog.recent_terms(&product, None).await;
        let recent = recent.map_err(unread)?;
        Ok(recent
            .into_iter()
            .next()
            .map(|terms| Bought { product, terms }))
    }

    /// What a new payment buys at a route that names no tier. `None`: the current default tier.
    /// Otherwise the tier that was the default recently and whose offer the payment accepts.
    async fn recent_default(
        &self,
        header: &PaymentHeader,
        default: &Product,
    ) -> Result<Option<Bought>, NoQuote> {
        let pays = |terms: &Terms| {
            let offer = &terms.offer;
            header.network == Some(offer.network)
                && header.authorization.value == offer.amount.as_u256()
                && header
                    .accepted
                    .as_ref()
                    .is_none_or(|accepted| offer.is_accepted(accepted))
        };
        if self.catalog.terms(default).iter().any(pays) {
            return Ok(None);
        }
        let Some(amount) = header.amount() else {
            return Ok(None);
        };
        let recent = self
            .catalog
            .recent_defaults(default.kind, default.uses, amount);
        let recent = recent.await.map_err(unread)?;
        let paid = recent.into_iter().find(|(_, terms)| pays(terms));
        Ok(paid.map(|(tier, terms)| {
            let product = Product {
                tier,
                ..default.clone()
            };
            Bought { product, terms }
        }))
    }

    /// Why there is no quote for a payment that the ledger doesn't know: `reason`, unless the chain
    /// shows that the payment's authorization is used. In that case the ledger may have lost the
    /// payment and what it bought, so the answer must not be that no money moved.
    async fn unless_used(
        &self,
        header: &PaymentHeader,
        client: Option<IpAddr>,
        reason: NoQuote,
    ) -> NoQuote {
        match self.payments.refuse_used(header, client).await {
            Ok(()) => reason,
            Err(PayError::Limited(error)) => NoQuote::Unasked(error),
            Err(error) => NoQuote::Payment(error),
        }
    }
}

impl NoQuote {
    /// Whether the order is refused, whatever its payment is.
    const fn is_of_order(&self) -> bool {
        matches!(
            self,
            Self::UnknownTier { .. } | Self::NotRenewing { .. } | Self::NoImage | Self::Removed(_)
        )
    }
}

fn unread(error: crate::db::DbError) -> NoQuote {
    NoQuote::Payment(PayError::Database(error))
}

fn asked<'a>(order: &Order<'a>, tier: Option<&'a str>, url: &'a str) -> Asked<'a> {
    Asked {
        kind: order.kind,
        tier,
        uses: order.uses,
        target: order.target,
        days: order.days,
        resource_url: url,
    }
}

fn product(order: &Order<'_>, tier: &Tier) -> Product {
    Product {
        kind: order.kind,
        tier: tier.name.to_string(),
        uses: order.uses,
        target: order.target.cloned(),
        days: order.days,
    }
}

/// The tier and product that a payment bought, or was offered before. A recorded name may be no
/// valid name of a tier.
fn as_bought(
    bought: Bought,
    otherwise: impl FnOnce() -> NoQuote,
) -> Result<(Tier, Product), NoQuote> {
    let tier = bought.tier().ok_or_else(otherwise)?;
    Ok((tier, bought.product))
}
