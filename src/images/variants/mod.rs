//! Variants of images: other sizes and formats, made when a link first asks for them and stored
//! beside the image.
//!
//! A request finds its image first, and only then asks here. So a variant ends with its image, on
//! every server at once, wherever its bytes are.
//!
//! Requests for the same variant share one computation (`flights`). It ends early when nobody waits
//! for it any more. Places and memory are bounded (`making`), and so is what is stored (`stored`).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::hot::{Kept, Served, VariantKey};
use super::render::{RenderError, Rendered, Stop};
use super::{Images, UploadError};
use crate::config;
use crate::limits::{Limited, Limits};
use crate::model::image::{Format, Image};
use crate::model::variant::Variant;
use crate::store::Object;

mod flights;
mod making;
mod stored;
#[cfg(test)]
mod tests;

use flights::Flights;
use making::Failures;

/// Makes the pixels of a variant; see [`render`](super::render::render).
pub type Renderer =
    dyn Fn(&[u8], Format, &Variant, &Stop) -> Result<Rendered, RenderError> + Send + Sync;

/// Why a variant is not shown.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VariantError {
    /// The client is over a limit, or the queue is full.
    #[error("{0}")]
    Limited(Arc<Limited>),
    /// The image can't be read now.
    #[error("The image cannot be read now. Repeat the same request.")]
    Unreadable(Arc<UploadError>),
    /// The object of the image is missing or damaged.
    #[error("The object of the image is missing.")]
    Missing,
    /// Making the variant took longer than `variants.timeout`.
    #[error(
        "Making this variant took longer than {0:?}, so the server gave up. Ask for a smaller one or for another format, or repeat the request in a minute."
    )]
    Late(Duration),
    /// The variant can't be made of this image. The text says why, and what to ask for instead.
    #[error("{0}")]
    Impossible(String),
    /// The server is stopping.
    #[error("The server stopped making this variant. Repeat the same request.")]
    Interrupted,
}

impl From<UploadError> for VariantError {
    fn from(error: UploadError) -> Self {
        Self::Unreadable(Arc::new(error))
    }
}

impl From<Limited> for VariantError {
    fn from(error: Limited) -> Self {
        Self::Limited(Arc::new(error))
    }
}

/// What this server did about variants since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Variants that were made.
    pub made: u64,
    /// Variants that were stored.
    pub stored: u64,
    /// Variants that were read from the store.
    pub loaded: u64,
    /// Variants that could not be made.
    pub failed: u64,
}

/// The variants of a deployment's images.
pub struct Variants {
    images: Arc<Images>,
    limits: Arc<Limits>,
    settings: config::Variants,
    renderer: Arc<Renderer>,
    flights: Flights<Outcome>,
    failures: Failures,
    /// One permit for each KiB that is used for making variants.
    memory: Arc<Semaphore>,
    counters: making::Counters,
}

impl std::fmt::Debug for Variants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Variants")
    }
}

/// A variant as it is handed to those that wait for it. Without bytes it is read from the store.
#[derive(Debug, Clone)]
struct Shown {
    labels: Arc<super::hot::Labels>,
    bytes: Option<Bytes>,
}

type Outcome = Result<Shown, VariantError>;

/// A variant to be made.
#[derive(Debug, Clone)]
struct Job {
    key: VariantKey,
    image: Arc<Image>,
    variant: Variant,
    address: Option<IpAddr>,
}

/// The name of a variant among all of its image. Each content of an image has variants of its own.
fn key_of(image: &Image, variant: &Variant) -> VariantKey {
    (image.id.clone(), variant.name_of(image.version))
}

impl Variants {
    /// Creates the service. `renderer` makes the pixels.
    pub fn new(
        images: Arc<Images>,
        limits: Arc<Limits>,
        settings: config::Variants,
        renderer: Arc<Renderer>,
    ) -> Self {
        Self {
            memory: Arc::new(Semaphore::new(making::permits(settings.memory_bytes))),
            images,
            limits,
            settings,
            renderer,
            flights: Flights::default(),
            failures: Failures::default(),
            counters: making::Counters::default(),
        }
    }

    /// The variant of an image that was found on this request, if it is in memory. Asks nobody.
    /// `variant` is simplified.
    pub fn peek(&self, served: &Served, variant: &Variant) -> Option<Served> {
        self.peek_at(served, &key_of(&served.image, variant))
    }

    fn peek_at(&self, served: &Served, key: &VariantKey) -> Option<Served> {
        // Whether a private image is shown is decided anew for each request.
        if served.image.visibility.is_private() {
            return None;
        }
        let Kept { labels, bytes } = self.images.hot.variant(key)?;
        Some(Served {
            image: Arc::clone(&served.image),
            labels,
            bytes: Some(bytes),
        })
    }

    /// The variant of an image that was found on this request: from memory, from the store, or made
    /// now for the client with this address. `variant` is simplified. The caller finds the image
    /// again afterwards, since this may take long.
    ///
    /// # Errors
    /// [`VariantError`].
    pub async fn find(
        self: &Arc<Self>,
        served: &Served,
        variant: Variant,
        address: Option<IpAddr>,
    ) -> Result<Served, VariantError> {
        let key = key_of(&served.image, &variant);
        if let Some(kept) = self.peek_at(served, &key) {
            return Ok(kept);
        }
        let job = Job {
            key: key.clone(),
            image: Arc::clone(&served.image),
            variant,
            address,
        };
        let this = Arc::clone(self);
        let outcome = self.flights.join(key, |flight| this.make(job, flight));
        let Shown { labels, bytes } = outcome.await.ok_or(VariantError::Interrupted)??;
        Ok(Served {
            image: Arc::clone(&served.image),
            labels,
            bytes,
        })
    }

    /// Opens the byte range `part` of a stored variant. `None`: its object is gone.
    ///
    /// # Errors
    /// [`UploadError::Store`].
    pub async fn open_bytes(
        &self,
        served: &Served,
        part: std::ops::Range<u64>,
    ) -> Result<Option<Object>, UploadError> {
        let (id, sha256) = (&served.image.id, &served.labels.sha256);
        Ok(self.images.store.open_variant(id, sha256, part).await?)
    }

    /// What this server did about variants since it started.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }
}
