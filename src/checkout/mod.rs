//! A purchase, free of HTTP: the quote (what is sold, at which price, by which challenge), and the
//! sale. Every edge that sells calls this.

use std::net::IpAddr;
use std::sync::Arc;

use crate::accounting::funnel::Funnel;
use crate::catalog::Catalog;
use crate::db::DbError;
use crate::images::private::Access;
use crate::images::{Images, UploadError};
use crate::limits::Limited;
use crate::model::client_kind::ClientKind;
use crate::model::ids::ImageId;
use crate::model::payment::{Product, ProductKind};
use crate::moving::epoch::Epoch;
use crate::payments::access::Networks;
use crate::payments::{Body, Content, PayError, Payments, Presentation, RequestProofs, Sold};
use crate::pricing::tiers::Tier;
use crate::x402::challenge::Challenge;
use crate::x402::header::PaymentHeader;

mod quote;

/// The part of a server that sells.
#[derive(Debug, Clone)]
pub struct Checkout {
    /// Prices and offers.
    pub catalog: Arc<Catalog>,
    /// Payments.
    pub payments: Arc<Payments>,
    /// The facilitator and the node of each network.
    pub networks: Networks,
    /// The images that payments buy.
    pub images: Arc<Images>,
    /// Whether the database is as new as its store.
    pub epoch: Arc<Epoch>,
    /// Counts challenges for statistics.
    pub funnel: Arc<Funnel>,
}

/// What a client asks to buy.
#[derive(Debug)]
pub struct Order<'a> {
    /// A token, a direct upload, a renewal or an upload link.
    pub kind: ProductKind,
    /// The tier by name. `None`: the default tier, and for a renewal that of the image.
    pub tier: Option<&'a str>,
    /// The number of uploads.
    pub uses: u32,
    /// The image to renew; `None` for other products.
    pub target: Option<&'a ImageId>,
    /// For how many days the upload link is valid; `None` for other products.
    pub days: Option<u32>,
    /// The size of the image to upload, in bytes, as the request says it. `None`: it doesn't, and
    /// the price is that of the largest image.
    pub bytes: Option<u64>,
    /// The right to see the image to renew. A private image is renewed only for those who see it.
    pub access: Access,
    /// Path and query of the URL that the offer names. Each product has one, because clients repeat
    /// it in their payment.
    pub path: String,
}

/// What is sold for an order.
#[derive(Debug)]
pub struct Quote {
    /// The tier from the price table. For a known payment it is the tier as it was when the payment
    /// bought it.
    pub tier: Tier,
    /// Kind, tier and number of what is sold, and the image of a renewal.
    pub product: Product,
    /// The size of the image in bytes, as far as it is known. It decides the price of a tier that
    /// is sold by size.
    pub bytes: Option<u64>,
    /// Whether the order names no tier.
    pub is_default: bool,
    /// Path and query of the URL that the offer names.
    pub path: String,
}

/// Why there is no quote.
#[derive(Debug)]
pub enum NoQuote {
    /// No tier of this name is sold.
    UnknownTier {
        /// The name in the order.
        name: Option<String>,
    },
    /// The tier of this name renews no image: it is free, or not sold any more.
    NotRenewing {
        /// The image to renew.
        image: ImageId,
        /// The name of the tier.
        tier: String,
    },
    /// There is no such image to renew.
    NoImage,
    /// The operator removed the image to renew.
    Removed(ImageId),
    /// The payment may have moved money already, or the image can't be renewed.
    Payment(PayError),
    /// The client is over a rate limit, so it is not known what became of its payment.
    Unasked(Limited),
    /// The image could not be read.
    Upload(UploadError),
}

/// Why nothing is sold now. Nothing was charged.
#[derive(Debug)]
pub enum Closed {
    /// The database is older than its store. A ledger that has lost records would sell twice, and
    /// deny what it sold.
    Behind,
    /// The outcome of too many payments is unknown.
    Paused,
    /// There is no room for another image.
    NoRoom(UploadError),
}

/// A payment as a request carries it.
#[derive(Debug)]
pub struct Carried {
    /// The payment, as its header was read.
    pub header: PaymentHeader,
    /// The proofs that the request comes from the payer.
    pub proofs: RequestProofs,
    /// The uploaded image; `None` for products that need none.
    pub body: Option<Body>,
    /// The client's address, for rate limits; `None` where it is unknown.
    pub client: Option<IpAddr>,
    /// The kind of client, for statistics.
    pub client_kind: ClientKind,
}

impl Checkout {
    /// Refuses work on paid goods while the database is older than its store.
    ///
    /// # Errors
    /// [`Closed::Behind`].
    pub fn refuse_behind(&self) -> Result<(), Closed> {
        if self.epoch.is_current() {
            Ok(())
        } else {
            Err(Closed::Behind)
        }
    }

    /// Whether a new payment could be served now.
    ///
    /// # Errors
    /// Why not.
    pub fn is_open(&self) -> Result<(), Closed> {
        self.refuse_behind()?;
        self.images.has_room().map_err(Closed::NoRoom)?;
        if self.payments.is_sale_stopped() {
            return Err(Closed::Paused);
        }
        Ok(())
    }

    /// The size limit of an upload, in bytes. It includes earlier limits of the tier, since a
    /// repeated upload may be as large, and what the payment bought.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn size_limit(
        &self,
        quote: &Quote,
        header: Option<&PaymentHeader>,
    ) -> Result<u64, DbError> {
        let of_tier = self.catalog.largest(&quote.tier);
        let bought = match header {
            Some(header) => self.payments.find_size(header).await?,
            None => None,
        };
        Ok(of_tier.max(bought.unwrap_or(0)))
    }

    /// The challenge of a quote. Clients that read only the protocol show `reason`.
    pub fn challenge(&self, quote: &Quote, reason: &str) -> Challenge {
        let step = quote.step();
        self.catalog
            .challenge(&quote.product, (&step, quote.bytes), &quote.path, reason)
    }

    /// Exchanges the payment for what the quote names. However often and however late it is sent,
    /// it buys it once.
    ///
    /// # Errors
    /// [`PayError`] says whether money moved.
    pub async fn buy(&self, quote: &Quote, carried: Carried) -> Result<Sold, PayError> {
        let presentation = Presentation {
            header: carried.header,
            product: quote.product.clone(),
            is_default: quote.is_default,
            resource_url: self.catalog.url(&quote.path),
            evidence: carried.proofs,
            body: carried.body,
            client: carried.client,
            client_kind: carried.client_kind,
        };
        self.payments.present(presentation).await
    }
}

impl Carried {
    /// The size of the uploaded image, in bytes. `None`: the request holds none that was accepted.
    pub fn image_bytes(&self) -> Option<u64> {
        match self.body.as_ref().map(|body| &body.content) {
            Some(Content::Sent(Ok(checked))) => Some(checked.upload_bytes()),
            _ => None,
        }
    }
}

impl Quote {
    /// The tier at the size of the image, with a flat price.
    pub fn step(&self) -> Tier {
        self.tier.step(self.bytes)
    }
}
