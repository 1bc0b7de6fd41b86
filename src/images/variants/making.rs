//! Makes a variant: waits for a place and for memory, reads the image, and renders it on a thread of
//! lower priority than the checks of uploads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::flights::Flight;
use super::{Counts, Job, Outcome, Shown, VariantError, Variants};
use crate::images::UploadError;
use crate::images::hot::{Kept, LARGEST, Labels, VariantKey, read_whole};
use crate::images::render::{RenderError, Rendered, Stop};
use crate::keys::secrets::sha256_hex;
use crate::limits::{Check, Limited};
use crate::model::image::{Format, Image};
use crate::model::variant::Variant;
use crate::system::{metrics, workers};

/// The unit of accounting for memory, since a semaphore's permits are 32-bit.
const UNIT_BYTES: u64 = 1024;
/// What making a variant takes beside pixels and files, in bytes.
const OVERHEAD: u64 = 4 << 20;
/// How long the server remembers that a variant could not be made.
const REMEMBERED: Duration = Duration::from_mins(1);
/// How many such variants it remembers.
const MOST_REMEMBERED: usize = 1024;

/// The message of a renderer that ended without a result.
const FAILED: &str = "The program that makes this variant failed. Ask for another size or format, or for the image itself.";

/// A variant that was made now, and is to be stored.
pub(super) struct Made {
    pub(super) sha256: String,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) bytes: Bytes,
}

impl Variants {
    /// Finds the variant in the store, or makes it and stores it. Ends early when nobody waits.
    pub(super) async fn make(self: Arc<Self>, job: Job, flight: Flight<Outcome>) {
        let made = tokio::select! {
            made = self.find_or_render(&job) => made,
            () = flight.abandoned() => return,
        };
        let made = match made {
            Ok((shown, made)) => {
                flight.deliver(Ok(shown));
                made
            }
            Err(error) => {
                flight.deliver(Err(error));
                None
            }
        };
        // Requests that come meanwhile receive the outcome too.
        if let Some(made) = made {
            self.keep(&job, made).await;
        }
    }

    async fn find_or_render(&self, job: &Job) -> Result<(Shown, Option<Made>), VariantError> {
        if let Some(shown) = self.find_stored(job).await? {
            return Ok((shown, None));
        }
        if let Some(failure) = self.failures.find(&job.key) {
            return Err(failure);
        }
        if let Some(address) = job.address {
            self.limits.count_variant(address)?;
        }
        let place = self.enter(job).await?;
        // Another server may have stored it while this one waited.
        if let Some(shown) = self.find_stored(job).await? {
            return Ok((shown, None));
        }
        let room = self.reserve(job).await?;
        let source = self.read_image(&job.image).await?;
        let (rendered, room) = self.render(job, source, place, room).await?;
        let Rendered {
            bytes,
            width,
            height,
            ..
        } = rendered;
        let sha256 = sha256_hex(&bytes);
        let content_type = job.variant.output.content_type();
        let size_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let labels = Labels::of_variant(&job.image, sha256.clone(), size_bytes, content_type);
        let labels = Arc::new(labels);
        let bytes = self.hold(job, &labels, bytes, room);
        let shown = Shown {
            labels,
            bytes: Some(bytes.clone()),
        };
        let made = Made {
            sha256,
            width,
            height,
            bytes,
        };
        Ok((shown, Some(made)))
    }

    /// Waits for a place, for at most as long as making the variant may take.
    async fn enter(&self, job: &Job) -> Result<Check, VariantError> {
        let entered = timeout(
            self.settings.timeout,
            self.limits.enter_variant(job.address),
        );
        Ok(entered.await.map_err(|_| Limited::Busy)??)
    }

    /// Waits for the memory that making the variant takes at most. A variant that takes more than
    /// all of it has all of it for itself.
    async fn reserve(&self, job: &Job) -> Result<OwnedSemaphorePermit, VariantError> {
        let all = permits(self.settings.memory_bytes);
        let wanted = permits(working_bytes(&job.image, &job.variant)).min(all);
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.memory).acquire_many_owned(wanted);
        let room = timeout(self.settings.timeout, room).await;
        let room = room.map_err(|_| Limited::Busy)?;
        room.map_err(|_| VariantError::Interrupted)
    }

    async fn read_image(&self, image: &Image) -> Result<Bytes, VariantError> {
        let whole = 0..image.size_bytes;
        let object = self.images.open_bytes(image, whole).await?;
        let bytes = match object {
            Some(object) => read_whole(object, image.size_bytes).await,
            None => None,
        };
        bytes.ok_or_else(|| {
            tracing::error!(image.id = %image.id, "the object of an image is missing or can't be read, so it has no variants");
            VariantError::Missing
        })
    }

    /// Renders on a thread for variants. The thread holds the place and the memory until it has
    /// stopped, which it does soon after this future is dropped.
    async fn render(
        &self,
        job: &Job,
        source: Bytes,
        place: Check,
        room: OwnedSemaphorePermit,
    ) -> Result<(Rendered, OwnedSemaphorePermit), VariantError> {
        let stop = Stop::after(self.settings.timeout);
        let _stopped = StopOnDrop(stop.clone());
        let (render, variant) = (Arc::clone(&self.renderer), job.variant);
        let format: Format = job.image.format;
        let outcome = workers::run_low(move || {
            let outcome = render(&source, format, &variant, &stop);
            drop((source, place));
            (outcome, room)
        });
        let failure = match outcome.await {
            Some((Ok(rendered), room)) => {
                self.counters.made.fetch_add(1, Ordering::Relaxed);
                metrics::variant("made");
                return Ok((rendered, room));
            }
            Some((Err(RenderError::Stopped), _)) => VariantError::Late(self.settings.timeout),
            Some((Err(error), _)) => VariantError::Impossible(error.to_string()),
            None => VariantError::Impossible(FAILED.to_owned()),
        };
        self.counters.failed.fetch_add(1, Ordering::Relaxed);
        metrics::variant("failed");
        tracing::warn!(image.id = %job.key.0, variant = job.key.1, error = %failure, "a variant could not be made");
        self.failures.note(job.key.clone(), failure.clone());
        Err(failure)
    }

    /// Keeps the bytes in memory if they may be. Otherwise they count against the memory for making
    /// variants until the last response that holds them is sent.
    fn hold(
        &self,
        job: &Job,
        labels: &Arc<Labels>,
        bytes: Vec<u8>,
        mut room: OwnedSemaphorePermit,
    ) -> Bytes {
        if self.is_kept(job, labels.size_bytes) {
            let bytes = Bytes::from(bytes);
            let kept = Kept {
                labels: Arc::clone(labels),
                bytes: bytes.clone(),
            };
            self.images.hot.keep_variant(job.key.clone(), kept);
            return bytes;
        }
        let excess = room
            .num_permits()
            .saturating_sub(permits(labels.size_bytes));
        drop(room.split(excess));
        Bytes::from_owner(Held { bytes, _room: room })
    }

    /// Whether the cache takes this variant.
    pub(super) fn is_kept(&self, job: &Job, size_bytes: u64) -> bool {
        size_bytes <= LARGEST
            && !job.image.visibility.is_private()
            && self.images.serves_from_memory()
    }
}

/// Stops a renderer that nobody waits for any more.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Bytes of a variant, with the memory that they count against.
struct Held {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The permits for so many bytes, rounded up.
pub(super) fn permits(bytes: u64) -> usize {
    let units = usize::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(usize::MAX);
    units.min(Semaphore::MAX_PERMITS)
}

/// The most memory that making a variant takes: the file, all pixels of a frame of the image and of
/// the variant, each at four bytes, and the encoded variant.
fn working_bytes(image: &Image, variant: &Variant) -> u64 {
    let source = u64::from(image.width) * u64::from(image.height);
    let box_side = |side: Option<u32>| u64::from(side.unwrap_or(Variant::LONGEST_SIDE));
    let target = match (variant.width, variant.height) {
        (None, None) => source,
        (width, height) => box_side(width) * box_side(height),
    };
    let pixels = 4 * source + 8 * target.min(source.max(1 << 20));
    pixels
        .saturating_add(image.size_bytes)
        .saturating_add(OVERHEAD)
}

/// Variants that could not be made lately, so that repeated requests for them cost nothing.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<HashMap<VariantKey, (Instant, VariantError)>>);

impl Failures {
    fn find(&self, key: &VariantKey) -> Option<VariantError> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, failure) = failures.get(key)?;
        (at.elapsed() < REMEMBERED).then(|| failure.clone())
    }

    fn note(&self, key: VariantKey, failure: VariantError) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MOST_REMEMBERED {
            failures.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        }
        if failures.len() >= MOST_REMEMBERED {
            failures.clear();
        }
        failures.insert(key, (Instant::now(), failure));
    }
}

/// What this server did about variants.
#[derive(Debug, Default)]
pub(super) struct Counters {
    made: AtomicU64,
    failed: AtomicU64,
    pub(super) stored: AtomicU64,
    pub(super) loaded: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            made: read(&self.made),
            stored: read(&self.stored),
            loaded: read(&self.loaded),
            failed: read(&self.failed),
        }
    }
}

impl From<crate::store::StoreError> for VariantError {
    fn from(error: crate::store::StoreError) -> Self {
        UploadError::from(error).into()
    }
}

impl From<crate::db::DbError> for VariantError {
    fn from(error: crate::db::DbError) -> Self {
        UploadError::from(error).into()
    }
}
