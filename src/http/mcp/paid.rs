//! The tools that sell (x402 over MCP). They use the purchase of the paid routes, so that a payment is one payment
//! whichever way it comes.

use serde::{Deserialize, Serialize};

use super::super::error::{ApiError, Code};
use super::super::paid::{Purchase, refuse_behind, token_answer};
use super::super::views::ImportRequest;
use super::super::{free, images, imports, links, renew};
use super::server::{Call, Returned, Tools, bad_arguments};
use super::tools::{access_by, image_id};
use crate::catalog::MOST_USES;
use crate::checkout::{Carried, Order};
use crate::mcp::{arguments, plain};
use crate::model::client_kind::ClientKind;
use crate::payments::{Body, Goods, RequestProofs, Sold};
use crate::pricing::tiers::TierName;
use crate::x402::header::{PaymentHeader, decode_payment, encode};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RenewArguments {
    image: String,
    tier: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkArguments {
    images: Option<u32>,
    days: Option<u32>,
    tier: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UploadArguments {
    tier: Option<String>,
}

impl Tools {
    /// Sells an upload link, or makes one of the free tier.
    pub(super) async fn create_link(&self, call: Call) -> Result<Returned, ApiError> {
        let sent: LinkArguments = arguments(call.arguments).map_err(bad_arguments)?;
        let uses = sent.images.unwrap_or(1);
        if !(1..=MOST_USES).contains(&uses) {
            return Err(bad_arguments(format!(
                "images is {uses}, but one link takes 1 to {MOST_USES} uploads. Send a whole number from 1 to {MOST_USES}."
            )));
        }
        let most = self.site.config.links.max_days;
        let days = sent.days.unwrap_or_else(|| links::default_days(&self.site));
        if !(1..=most).contains(&days) {
            return Err(bad_arguments(format!(
                "days is {days}, but a link is valid for 1 to {most} days. Send a whole number from 1 to {most}."
            )));
        }
        let tier = tier_name(sent.tier.as_deref())?;
        self.link(uses, days, tier.as_ref(), call.payment.as_ref())
            .await
    }

    /// Sells a link for one upload. The file itself never passes through the model.
    pub(super) async fn upload(&self, call: Call) -> Result<Returned, ApiError> {
        let sent: UploadArguments = arguments(call.arguments).map_err(bad_arguments)?;
        let tier = tier_name(sent.tier.as_deref())?;
        let days = links::default_days(&self.site);
        self.link(1, days, tier.as_ref(), call.payment.as_ref())
            .await
    }

    /// Sells an import, or makes a free one.
    pub(super) async fn import(&self, call: Call) -> Result<Returned, ApiError> {
        let sent: ImportRequest = arguments(call.arguments).map_err(bad_arguments)?;
        let site = &self.site;
        let client = self.caller.address;
        let wish = imports::wish(site, sent, client).map_err(bad_arguments)?;
        let import = wish.import.ok_or_else(|| {
            bad_arguments("url is missing. Send the image's own address.".to_owned())
        })?;
        let (tier, payment) = (wish.tier.as_ref(), call.payment.as_ref());
        if payment.is_none() {
            import.check()?;
        }
        let tiers = site.tiers.now();
        if let Some(free) = links::free_tier(site, &tiers, tier).filter(|_| payment.is_none()) {
            self.refuse_while_moving()?;
            let taken = free::import(site, free, client, &import).await?;
            return Returned::free(&images::upload_answer(site, &taken.image));
        }
        let body = Some(imports::body(import));
        self.sell(imports::order(tier), payment, body).await
    }

    async fn link(
        &self,
        uses: u32,
        days: u32,
        tier: Option<&TierName>,
        payment: Option<&serde_json::Value>,
    ) -> Result<Returned, ApiError> {
        let tiers = self.site.tiers.now();
        let free = links::free_tier(&self.site, &tiers, tier);
        // A payment may have bought a link of a tier that is free today.
        if let Some(free) = free.filter(|_| payment.is_none()) {
            self.refuse_while_moving()?;
            let link = links::make_free(&self.site, self.caller.address, free, uses, days).await?;
            return Returned::free(&links::answer(&self.site, &link));
        }
        self.sell(links::order(uses, days, tier), payment, None)
            .await
    }

    /// Sells more time for an image.
    pub(super) async fn renew(&self, call: Call) -> Result<Returned, ApiError> {
        let sent: RenewArguments = arguments(call.arguments).map_err(bad_arguments)?;
        let id = image_id(&self.site, &sent.image)?;
        let tier = tier_name(sent.tier.as_deref())?;
        let order = renew::order(&id, tier.as_ref(), access_by(&sent.image));
        let sold = self.sell(order, call.payment.as_ref(), None).await;
        sold.map_err(|error| self.missed(error))
    }

    /// Sells what the order names for the payment of the call. `body` is the image of an upload.
    async fn sell(
        &self,
        order: Order<'_>,
        payment: Option<&serde_json::Value>,
        body: Option<Body>,
    ) -> Result<Returned, ApiError> {
        self.refuse_while_moving()?;
        refuse_behind(&self.site)?;
        let checkout = self.site.checkout.as_ref().ok_or(ApiError::PaymentsOff)?;
        let address = self.caller.address;
        if let Some(address) = address {
            let counted = self.site.limits.count_payment(address).await;
            counted.map_err(ApiError::Limited)?;
        }
        let header = payment.map(read_payment).transpose()?;
        let access = order.access;
        let mut purchase =
            Purchase::quoted(checkout, order, header, address, ClientKind::Mcp).await?;
        let Some(header) = purchase.take_payment() else {
            return Err(purchase.ask());
        };
        let key = self.caller.idempotency_key.as_deref();
        let carried = Carried {
            proofs: RequestProofs::of(&header, key, self.caller.own_address),
            header,
            body,
            client: address,
            client_kind: ClientKind::Mcp,
        };
        let Sold { goods, receipt, .. } = purchase.exchange(carried).await?;
        let site = &self.site;
        match goods {
            Goods::Link(link) => bought(&links::answer(site, &link), receipt),
            Goods::Image(image) => bought(&images::upload_answer(site, &image), receipt),
            Goods::Renewed { image, renewal } => bought(
                &images::renewal_answer(site, &image, &renewal, &access),
                receipt,
            ),
            Goods::Token {
                token,
                expires_at,
                tier,
                uploads,
            } => bought(
                &token_answer(site, &token, expires_at, tier, uploads),
                receipt,
            ),
        }
    }
}

fn bought(
    goods: &impl Serialize,
    receipt: crate::x402::wire::SettlementResponse,
) -> Result<Returned, ApiError> {
    Returned::paid(goods, Some(receipt))
}

/// The payment of a call: the document that stands in the header of a paid route.
fn read_payment(document: &serde_json::Value) -> Result<PaymentHeader, ApiError> {
    decode_payment(encode(document).as_bytes()).map_err(ApiError::BadPayment)
}

/// The tier in an argument.
fn tier_name(text: Option<&str>) -> Result<Option<TierName>, ApiError> {
    let Some(text) = text else {
        return Ok(None);
    };
    TierName::parse(text).map(Some).map_err(|_| {
        let message = format!(
            "tier is \"{}\", which cannot be the name of a tier. Send a name that list_tiers returns.",
            plain(text, 40)
        );
        ApiError::Bad(Code::UnknownTier, message)
    })
}
