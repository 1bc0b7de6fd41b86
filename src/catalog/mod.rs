//! What is sold and on which terms: offers from the price table, challenges that carry them, and
//! facilitator calls that repeat them.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use alloy_primitives::Address;
use serde_json::{Value, json};

use crate::db::{Db, DbError, offers};
use crate::model::payment::{Product, ProductKind, Terms};
use crate::pricing::money::AtomicAmount;
use crate::pricing::networks::Network;
use crate::pricing::tiers::{Tier, TierTable, Tiers, default_confirmations};
use crate::system::clock::Clock;
use crate::system::random::Randomness;
use crate::x402::challenge::{Challenge, ChallengeTerms, Sale, bazaar, challenge};
use crate::x402::header::PaymentHeader;
use crate::x402::wire::{Offer, Resource, SCHEME, Version, payload};

mod signed;

pub use signed::SignedOffers;

/// The `maxTimeoutSeconds` of every offer: for how long clients sign, and for how long an offer is
/// accepted after it was last made.
pub const MAX_TIMEOUT_SECONDS: u64 = 300;
/// The most uploads that one payment buys.
pub const MOST_USES: u32 = 100;
/// The interval at which a server records the offers that it makes.
pub const RECORD_EVERY: Duration = Duration::from_secs(30);
/// The path at which imports are sold.
pub const IMPORT_PATH: &str = "/api/import";
/// How long after it was last recorded an offer is accepted.
const HONOURED: Duration = Duration::from_secs(MAX_TIMEOUT_SECONDS).saturating_add(RECORD_EVERY);

/// The price table with the recipient of payments, and the offers that were made by it.
#[derive(Debug)]
pub struct Catalog {
    db: Db,
    clock: Arc<dyn Clock>,
    tiers: Tiers,
    networks: Vec<&'static Network>,
    pay_to: Address,
    base_url: String,
    play_money: bool,
    randomness: Randomness,
    signed: SignedOffers,
    /// The largest size limit that each tier was ever offered with, in bytes.
    largest: RwLock<BTreeMap<String, u64>>,
}

/// How a deployment sells.
#[derive(Debug)]
pub struct SaleTerms {
    /// The price table.
    pub tiers: Tiers,
    /// The networks that payments are accepted on, preferred first.
    pub networks: Vec<&'static Network>,
    /// The recipient of payments.
    pub pay_to: Address,
    /// The origin of the URLs in offers.
    pub base_url: String,
    /// Whether payments are in play money.
    pub play_money: bool,
    /// The source of tickets.
    pub randomness: Randomness,
}

impl Catalog {
    /// Creates the catalog of these prices. Offers are recorded in `db`.
    pub fn new(db: Db, clock: Arc<dyn Clock>, terms: SaleTerms, signed: SignedOffers) -> Self {
        Self {
            db,
            clock,
            tiers: terms.tiers,
            networks: terms.networks,
            pay_to: terms.pay_to,
            base_url: terms.base_url,
            play_money: terms.play_money,
            randomness: terms.randomness,
            signed,
            largest: RwLock::default(),
        }
    }

    /// The largest size limit, in bytes, that a tier has or had in any recorded offer. A repeated
    /// upload may be as large, since its payment bought the limit of that time.
    pub fn largest(&self, tier: &Tier) -> u64 {
        let largest = self.largest.read().unwrap_or_else(PoisonError::into_inner);
        let before = largest.get(tier.name.as_str()).copied();
        before.unwrap_or(0).max(tier.max_bytes)
    }

    /// The current price table.
    pub fn tiers(&self) -> Arc<TierTable> {
        self.tiers.now()
    }

    /// Replaces the price table. Offers of the old one stay valid for their timeout.
    ///
    /// # Errors
    /// [`DbError`]; the old table stays in use.
    pub async fn change_tiers(&self, tiers: TierTable) -> Result<(), DbError> {
        self.record_offers().await?;
        self.tiers.replace(tiers);
        // The new offers are recorded at once, so that the next change finds them. If that fails,
        // they are recorded with the next interval.
        if let Err(error) = self.record_offers().await {
            tracing::warn!(%error, "the new offers could not be recorded; they are recorded with the next interval");
        }
        Ok(())
    }

    /// The address that payments go to.
    pub const fn pay_to(&self) -> Address {
        self.pay_to
    }

    /// The networks that payments are accepted on, preferred first.
    pub fn networks(&self) -> &[&'static Network] {
        &self.networks
    }

    /// Whether payments are in play money, which is worth nothing.
    pub const fn is_play_money(&self) -> bool {
        self.play_money
    }

    /// The absolute URL of a route.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    /// The current terms of a product: for each step of its tier, one entry per network; empty if
    /// it is not sold.
    pub fn terms(&self, product: &Product) -> Vec<Terms> {
        let tiers = self.tiers();
        let sold = tiers.find(&product.tier).filter(|tier| !tier.is_free());
        let steps = sold.map_or_else(Vec::new, |tier| steps(product.kind, tier));
        let terms = steps.iter().flat_map(|step| self.terms_of(product, step));
        terms.collect()
    }

    /// The current terms of a product for an image of this many bytes, one entry per network; empty
    /// if it is not sold. Without a size, and where the size is not known before the sale, they are
    /// those of the largest image.
    pub fn terms_for(&self, product: &Product, bytes: Option<u64>) -> Vec<Terms> {
        let tiers = self.tiers();
        let sold = tiers.find(&product.tier).filter(|tier| !tier.is_free());
        let bytes = bytes.filter(|_| is_sold_by_size(product.kind));
        sold.map_or_else(Vec::new, |tier| self.terms_of(product, &tier.step(bytes)))
    }

    /// The terms of a product at this step of its tier, one entry per network.
    fn terms_of(&self, product: &Product, step: &Tier) -> Vec<Terms> {
        let Some(amount) = step.price.checked_mul(u64::from(product.uses)) else {
            return Vec::new();
        };
        let on = |network: &&'static Network| Terms {
            offer: Offer {
                network,
                amount,
                pay_to: self.pay_to,
                max_timeout_seconds: MAX_TIMEOUT_SECONDS,
            },
            keep: step.keep,
            max_bytes: step.max_bytes,
            confirmations: confirmations(step.confirmations, amount, product.uses),
        };
        self.networks.iter().map(on).collect()
    }

    /// The terms on which a product was offered recently, by this server or another replica:
    /// those for this amount, or all.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn recent_terms(
        &self,
        product: &Product,
        amount: Option<AtomicAmount>,
    ) -> Result<Vec<Terms>, DbError> {
        let amount = amount.map(|amount| amount.shared_by(product.uses));
        if amount == Some(None) {
            return Ok(Vec::new());
        }
        // Only offers for one upload are recorded. The price of several is a multiple of it.
        let one = Product {
            uses: 1,
            ..product.clone()
        };
        let since = self.clock.now().minus(HONOURED);
        let recent = offers::find_recent(&self.db, &one, amount.flatten(), since).await?;
        let times = |terms: Terms| times(&terms, product.uses);
        Ok(recent.into_iter().filter_map(times).collect())
    }

    /// The tiers that were the default recently and sold for this amount, with their terms.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn recent_defaults(
        &self,
        kind: ProductKind,
        uses: u32,
        amount: AtomicAmount,
    ) -> Result<Vec<(String, Terms)>, DbError> {
        let Some(amount) = amount.shared_by(uses) else {
            return Ok(Vec::new());
        };
        let since = self.clock.now().minus(HONOURED);
        let recent = offers::find_recent_defaults(&self.db, kind, amount, since).await?;
        let times = |(tier, terms): (String, Terms)| Some((tier, times(&terms, uses)?));
        Ok(recent.into_iter().filter_map(times).collect())
    }

    /// Creates a challenge for `product` at the route `path`. `step` describes what is bought, and
    /// `bytes` is the size of the image, if it is known. Clients that read only the protocol show
    /// `reason`.
    pub fn challenge(
        &self,
        product: &Product,
        (step, bytes): (&Tier, Option<u64>),
        path: &str,
        reason: &str,
    ) -> Challenge {
        let sale = sale(product.kind, path);
        let resource = self.resource(product, step, path);
        let terms = self.terms_for(product, bytes).into_iter();
        let offers: Vec<Offer> = terms.map(|terms| terms.offer).collect();
        challenge(
            &ChallengeTerms {
                sale,
                tier: &product.tier,
                signed: self.signed.of(&resource.url, &offers),
                resource,
                offers,
                reason,
                play_money: self.play_money,
            },
            &self.randomness,
        )
    }

    fn resource(&self, product: &Product, tier: &Tier, path: &str) -> Resource {
        let money = if self.play_money { " (play money)" } else { "" };
        let what = match product.kind {
            ProductKind::Token => "Upload token",
            ProductKind::Upload => "Upload",
            ProductKind::Renewal => "Renewal",
            ProductKind::Link => "Upload link",
        };
        let bought = match product.kind {
            ProductKind::Renewal => tier.describe_renewal(),
            _ => tier.describe_many(product.uses),
        };
        let valid = match product.days {
            None => String::new(),
            Some(1) => ", valid 1 day".to_owned(),
            Some(days) => format!(", valid {days} days"),
        };
        Resource {
            url: self.url(path),
            description: format!("{what}: {bought}{valid}{money}"),
            mime_type: "application/json".to_owned(),
        }
    }

    /// Every product that is sold now. Renewals are listed without an image, and links without a
    /// time, which doesn't change their price.
    pub fn products(&self) -> Vec<Product> {
        let kinds = ProductKind::ALL;
        self.tiers()
            .paid()
            .flat_map(|tier| {
                kinds.map(|kind| Product {
                    kind,
                    tier: tier.name.to_string(),
                    uses: 1,
                    target: None,
                    days: None,
                })
            })
            .collect()
    }

    /// Records the current offers, so that each stays valid for its timeout.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn record_offers(&self) -> Result<(), DbError> {
        let (db, now) = (&self.db, self.clock.now());
        let largest = offers::find_largest(db).await?;
        *self.largest.write().unwrap_or_else(PoisonError::into_inner) =
            largest.into_iter().collect();
        let tiers = self.tiers();
        let default = tiers.default_paid().map(|tier| tier.name.as_str());
        let mut made = Vec::new();
        for product in self.products() {
            for terms in self.terms(&product) {
                if default == Some(product.tier.as_str()) {
                    let unnamed = Product {
                        tier: offers::default_name(&product.tier),
                        ..product.clone()
                    };
                    made.push((unnamed, terms.clone()));
                }
                made.push((product.clone(), terms));
            }
        }
        offers::record(db, &made, now).await
    }

    /// The body of facilitator calls: our own offer, the client's payload in canonical form, and no
    /// extension but the catalogue's. It is written in `version`, whichever version the client
    /// used.
    pub fn facilitator_request(
        &self,
        header: &PaymentHeader,
        version: Version,
        product: &Product,
        terms: &Terms,
        resource_url: &str,
    ) -> String {
        let offer = &terms.offer;
        let payload = payload(&header.authorization, &header.signature);
        let resource = Resource {
            url: resource_url.to_owned(),
            description: format!("pixtoll, tier {}", product.tier),
            mime_type: "application/json".to_owned(),
        };
        let body = match version {
            Version::V1 => json!({
                "x402Version": 1,
                "paymentPayload": {
                    "x402Version": 1, "scheme": SCHEME,
                    "network": offer.network.v1_name, "payload": payload,
                },
                "paymentRequirements": offer.v1(&resource),
            }),
            Version::V2 => {
                let mut sent = json!({
                    "x402Version": 2, "accepted": offer.v2(), "payload": payload, "resource": resource,
                });
                if header.echoes_bazaar
                    && let Some(fields) = sent.as_object_mut()
                {
                    let block = bazaar(sale(product.kind, resource_url), &product.tier);
                    fields.insert("extensions".to_owned(), json!({"bazaar": block}));
                }
                json!({"x402Version": 2, "paymentPayload": sent, "paymentRequirements": offer.v2()})
            }
        };
        body.to_string()
    }
}

/// The steps of a tier at which a product is sold. What is sold before its image is known costs what
/// the largest image costs.
fn steps(kind: ProductKind, tier: &Tier) -> Vec<Tier> {
    if is_sold_by_size(kind) {
        tier.steps().collect()
    } else {
        vec![tier.step(None)]
    }
}

/// Whether the image is known when the product is sold.
const fn is_sold_by_size(kind: ProductKind) -> bool {
    matches!(kind, ProductKind::Upload | ProductKind::Renewal)
}

/// The terms of several uploads, from the terms of one. `None`: the price is too large.
fn times(terms: &Terms, uses: u32) -> Option<Terms> {
    let amount = terms.offer.amount.checked_mul(u64::from(uses))?;
    let confirmations = confirmations(terms.confirmations, amount, uses);
    let offer = Offer {
        amount,
        ..terms.offer
    };
    Some(Terms {
        offer,
        confirmations,
        ..terms.clone()
    })
}

/// The confirmations that several uploads need, by the price of all of them (docs/payments.md, rule
/// 13).
pub fn confirmations(of_tier: u32, amount: AtomicAmount, uses: u32) -> u32 {
    if uses > 1 {
        of_tier.max(default_confirmations(amount))
    } else {
        of_tier
    }
}

/// What is sold at a URL.
fn sale(kind: ProductKind, url: &str) -> Sale {
    match kind {
        ProductKind::Token => Sale::Token,
        ProductKind::Upload if url.ends_with(IMPORT_PATH) => Sale::Import,
        ProductKind::Upload => Sale::Upload,
        ProductKind::Renewal => Sale::Renewal,
        ProductKind::Link => Sale::Link,
    }
}

impl Offer {
    /// Whether `accepted`, the offer as a client repeats it, is this offer. Every field must be
    /// equal, addresses by value. `extra` may have fields that ours has not.
    pub fn is_accepted(&self, accepted: &Value) -> bool {
        let ours = self.v2();
        let (Some(ours), Some(theirs)) = (ours.as_object(), accepted.as_object()) else {
            return false;
        };
        let known = ours
            .iter()
            .all(|(name, value)| match (name.as_str(), theirs.get(name)) {
                (_, None) => false,
                ("asset" | "payTo", Some(text)) => same_address(value, text),
                ("extra", Some(extra)) => value.as_object().is_some_and(|fields| {
                    fields
                        .iter()
                        .all(|(name, value)| extra.get(name) == Some(value))
                }),
                (_, Some(same)) => same == value,
            });
        known && theirs.keys().all(|name| ours.contains_key(name))
    }
}

fn same_address(one: &Value, other: &Value) -> bool {
    let read = |value: &Value| value.as_str().and_then(|text| text.parse::<Address>().ok());
    read(one).is_some() && read(one) == read(other)
}
