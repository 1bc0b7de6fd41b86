//! Imports: images that the server fetches from a URL in the place of an upload.
//!
//! An [`Import`] is ordered before anything is fetched, and obtained when the caller may store the
//! image: for a payment after it is verified, otherwise once the client's limits or token allow it.
//! What is obtained is checked and cleaned like an upload.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::fetch::{FETCH_TIME, FetchError, Fetcher, Response, Target};
use crate::images::format::PixelLimits;
use crate::images::{Checked, Metadata, ReceivedImage, Refusal, Rules, UploadError, check_in_turn};
use crate::keys::secrets::sha256_hex;
use crate::limits::{Limited, Limits, Room};
use crate::model::refresh::{Origin, Refresh, Validators};
use crate::model::visibility::Visibility;
use crate::system::pages::Buffer;

pub mod refresher;

/// Distinguishes the hash of an order from those of images.
const DOMAIN: &str = "pixtoll import 1";

/// Obtains the images of a deployment from their URLs.
#[derive(Debug)]
pub struct Importer {
    fetcher: Fetcher,
    limits: Arc<Limits>,
    pixels: PixelLimits,
    /// What becomes of metadata where an order doesn't say.
    metadata: Metadata,
}

/// What a client orders.
#[derive(Debug, Clone)]
pub struct Order {
    /// The URL of the image, as the client sent it.
    pub url: String,
    /// What the server does with the image's metadata; `None`: its default.
    pub metadata: Option<Metadata>,
    /// The visibility of the image: public, or private with the wallet that may make links.
    pub visibility: Visibility,
    /// How often the image is compared with its URL, and replaced if it changed; `None`: never.
    pub refresh: Option<Duration>,
    /// The client's address, for rate limits; `None` where it is unknown.
    pub client: Option<IpAddr>,
}

/// An image that is not fetched yet.
#[derive(Debug, Clone)]
pub struct Import {
    importer: Arc<Importer>,
    order: Order,
}

/// Why an import yields no image.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The URL, its host or the image is refused.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The client is over a limit, or the server at its capacity.
    #[error(transparent)]
    Limited(#[from] Limited),
}

impl Importer {
    /// Creates the importer of a deployment. `metadata` is what becomes of an image's metadata if
    /// an order doesn't say.
    pub fn new(
        fetcher: Fetcher,
        limits: Arc<Limits>,
        pixels: PixelLimits,
        metadata: Metadata,
    ) -> Self {
        Self {
            fetcher,
            limits,
            pixels,
            metadata,
        }
    }

    /// Whether the operator allows imports.
    ///
    /// # Errors
    /// [`FetchError::Disabled`].
    pub fn is_open(&self) -> Result<(), FetchError> {
        self.fetcher.is_open()
    }

    /// The import of an order. Nothing is fetched before [`Import::obtain`].
    pub fn order(self: &Arc<Self>, order: Order) -> Import {
        let importer = Arc::clone(self);
        Import { importer, order }
    }
}

impl Import {
    /// Checks the URL as far as that needs no network, so that nobody is asked to pay for one that
    /// can't be fetched.
    ///
    /// # Errors
    /// [`UploadError::Fetch`].
    pub fn check(&self) -> Result<(), UploadError> {
        self.target().map(|_| ())
    }

    fn target(&self) -> Result<Target, UploadError> {
        Ok(self.importer.fetcher.target(&self.order.url)?)
    }

    /// The hash that a payment or an idempotency key is bound to: that of the order. The image is
    /// not known when the payment is bound.
    pub fn bound_sha256(&self) -> String {
        let target = self.target();
        let url = target
            .as_ref()
            .map_or(self.order.url.as_str(), Target::as_str);
        self.order
            .visibility
            .bind(&ordered(url, self.order.refresh))
    }

    /// Fetches and checks the image, of at most `max_bytes` bytes for this tier.
    ///
    /// # Errors
    /// [`ImportError`]. Dropping the future ends the fetch.
    pub async fn obtain(&self, tier: &str, max_bytes: u64) -> Result<Checked, ImportError> {
        let Order {
            visibility,
            refresh,
            client,
            ..
        } = self.order;
        let target = self.target()?;
        if let Some(client) = client {
            self.importer.limits.count_import(client).await?;
        }
        let wanted = Wanted {
            target: &target,
            known: &Validators::default(),
            metadata: self.order.metadata.unwrap_or(self.importer.metadata),
            visibility,
            tier,
            max_bytes,
            client,
        };
        // Nothing was sent that an origin could have the same of.
        let obtained = self.importer.obtain(&wanted).await?;
        let (checked, validators) = obtained.ok_or(UploadError::Interrupted)?;
        let Some(every) = refresh else {
            return Ok(checked);
        };
        let url = target.as_str();
        let origin = Origin {
            url: url.to_owned(),
            keeps_metadata: wanted.metadata == Metadata::Keep,
            max_bytes,
            validators,
        };
        let refresh = Refresh::new(every, ordered(url, refresh));
        Ok(checked.kept_fresh(refresh, origin))
    }
}

/// The hash of what is ordered.
fn ordered(url: &str, refresh: Option<Duration>) -> String {
    let order = match refresh {
        None => format!("{DOMAIN}\n{url}"),
        Some(every) => format!("{DOMAIN}\n{url}\n{}", every.as_millis()),
    };
    sha256_hex(order.as_bytes())
}

/// An image to obtain.
struct Wanted<'a> {
    target: &'a Target,
    /// The validators of the content that the server has.
    known: &'a Validators,
    metadata: Metadata,
    visibility: Visibility,
    tier: &'a str,
    max_bytes: u64,
    client: Option<IpAddr>,
}

impl Importer {
    /// Fetches and checks an image. `None`: it is the one of the known validators.
    async fn obtain(
        &self,
        wanted: &Wanted<'_>,
    ) -> Result<Option<(Checked, Validators)>, ImportError> {
        let Some((bytes, room, validators)) = self.fetch(wanted).await? else {
            return Ok(None);
        };
        let received = ReceivedImage {
            bytes: bytes.freeze(),
            metadata: wanted.metadata,
            visibility: wanted.visibility,
            room,
        };
        let rules = Rules {
            tier: wanted.tier,
            max_bytes: wanted.max_bytes,
            metadata: wanted.metadata,
            limits: self.pixels,
        };
        let checked = check_in_turn(&self.limits, wanted.client, received, rules).await??;
        Ok(Some((checked, validators)))
    }

    /// Fetches the bytes of an image.
    async fn fetch(
        &self,
        wanted: &Wanted<'_>,
    ) -> Result<Option<(Buffer, Room, Validators)>, ImportError> {
        let Self {
            fetcher, limits, ..
        } = self;
        let (tier, max_bytes) = (wanted.tier, wanted.max_bytes);
        let turn = limits.enter_fetch(wanted.client);
        let turn = tokio::time::timeout(FETCH_TIME, turn).await;
        let _turn = turn.unwrap_or(Err(Limited::Busy))?;
        let response = fetcher.open(wanted.target, wanted.known).await;
        let mut fetched = match response.map_err(UploadError::from)? {
            Response::Image(fetched) => fetched,
            Response::Same => return Ok(None),
        };
        let too_large = |bytes: u64, at_least: bool| {
            UploadError::from(Refusal::TooLarge {
                bytes,
                at_least,
                limit: max_bytes,
                tier: tier.to_owned(),
            })
        };
        if let Some(length) = fetched.announced.filter(|length| *length > max_bytes) {
            return Err(too_large(length, false).into());
        }
        let capacity = |length: u64| usize::try_from(length).unwrap_or(0);
        // Reserved memory takes no pages before it is written to.
        let bytes = Buffer::with_length(capacity(fetched.announced.unwrap_or(0)));
        let mut bytes = bytes.map_err(|_| Limited::Crowded)?;
        let mut room = limits.begin_body();
        let mut total: u64 = 0;
        while let Some(chunk) = fetched.next().await.map_err(UploadError::from)? {
            total = total.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            if total > max_bytes {
                return Err(too_large(total, true).into());
            }
            room.grow(total)?;
            let taken = bytes.extend(&chunk, capacity(max_bytes));
            taken.map_err(|_| Limited::Crowded)?;
        }
        Ok(Some((bytes, room, fetched.validators)))
    }
}
