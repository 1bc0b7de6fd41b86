//! An in-memory cache of public images, so that a popular image costs neither the database nor the
//! store.
//!
//! The server serves from the cache only while it knows which images were withdrawn. It asks the
//! database once a second. After two seconds without an answer, every request reads the database,
//! as without a cache. PostgreSQL also notifies the server of each withdrawal at once. The expiry
//! of an image is checked on every request. Private images are not cached.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use quick_cache::sync::{Cache, DefaultLifecycle, PlaceholderGuard};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::{Images, UploadError};
use crate::db::withdrawals::{self as rows, Listener};
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::store::Object;
use crate::system::metrics;

/// How long a list of withdrawals from the database stays valid.
const FRESH: Duration = Duration::from_secs(2);
/// How long a request waits for another request that loads the same image, before it reads the
/// image from the store itself.
const WAIT: Duration = Duration::from_secs(2);
/// How long loading one image into the cache may take.
const LOAD: Duration = Duration::from_secs(10);
/// How often the list of withdrawals is read from the database, and the timeout of that query.
const LOOK: Duration = Duration::from_secs(1);
/// The pause before the connection for notifications is opened again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);
/// The largest image or variant whose bytes are cached. Larger ones are streamed from the store on
/// every request.
pub(super) const LARGEST: u64 = 2 << 20;
/// The part of the cache that is for variants: a quarter.
const PART_OF_VARIANTS: u64 = 4;
/// The most memory for images that are being loaded, in KiB. Past that, images are streamed from the
/// store.
const LOADING_KIB: usize = 32 << 10;
/// What a cached image counts in addition to its bytes.
const OVERHEAD: u64 = 1024;
/// The smallest shard of the cache, so that each holds several of the largest images.
const SMALLEST_SHARD: u64 = 8 << 20;

/// An image that is served, or a variant of it, with its bytes if they are cached.
#[derive(Debug, Clone)]
pub struct Served {
    /// The row of the image.
    pub image: Arc<Image>,
    /// Facts about the bytes for HTTP headers.
    pub labels: Arc<Labels>,
    /// All bytes; `None` if they have to be read from the store.
    pub bytes: Option<Bytes>,
}

/// Facts about the bytes of an image or a variant for HTTP headers. They are the same for every
/// request.
#[derive(Debug)]
pub struct Labels {
    /// The SHA-256 of all bytes, in hexadecimal.
    pub sha256: String,
    /// The number of bytes.
    pub size_bytes: u64,
    /// The media type.
    pub content_type: &'static str,
    /// Whether the bytes are those of a variant.
    pub is_variant: bool,
    /// The strong entity tag, with its quotes (RFC 9110, section 8.8.3).
    pub etag: Bytes,
    /// The SHA-256 of the whole image, as `Repr-Digest` writes it (RFC 9530).
    pub digest: Bytes,
    /// The HTTP date of the publication or of the last replacement; `None` where it is unknown.
    pub modified: Option<Bytes>,
}

impl Labels {
    fn of(image: &Image) -> Self {
        let content_type = image.format.content_type();
        Self::new(image, image.sha256.clone(), image.size_bytes, content_type)
    }

    /// The labels of a variant. It was last modified when its image was, since it depends on the
    /// image alone.
    pub(super) fn of_variant(
        image: &Image,
        sha256: String,
        size_bytes: u64,
        content_type: &'static str,
    ) -> Self {
        Self {
            is_variant: true,
            ..Self::new(image, sha256, size_bytes, content_type)
        }
    }

    fn new(image: &Image, sha256: String, size_bytes: u64, content_type: &'static str) -> Self {
        let digest = hex::decode(&sha256).unwrap_or_default();
        Self {
            etag: format!("\"{sha256}\"").into(),
            digest: format!("sha-256=:{}:", STANDARD.encode(digest)).into(),
            modified: image.modified_at().map(|at| at.http_date().into()),
            sha256,
            size_bytes,
            content_type,
            is_variant: false,
        }
    }
}

impl Served {
    fn new(image: Image, bytes: Option<Bytes>) -> Self {
        Self {
            labels: Arc::new(Labels::of(&image)),
            image: Arc::new(image),
            bytes,
        }
    }

    fn from_row(image: Image) -> Self {
        Self::new(image, None)
    }
}

/// The cache. It is shared by all requests of one server.
#[derive(Debug)]
pub struct Hot {
    images: Option<Known>,
    /// Variants of public images. Each request finds the image first, so a variant in memory needs
    /// no withdrawal of its own.
    variants: Option<Cache<VariantKey, Kept, VariantWeight>>,
    /// Counts how often the whole cache was cleared. An image that was loaded across a clear is not
    /// kept.
    generation: AtomicU64,
    /// When the database was last asked which images were withdrawn, if it answered.
    known_at: Mutex<Option<Instant>>,
    /// One permit for each KiB that may be loaded.
    loading: Semaphore,
}

/// An image and the name of one of its variants.
pub type VariantKey = (ImageId, String);

/// A variant with all its bytes.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Facts about the bytes.
    pub labels: Arc<Labels>,
    /// All bytes.
    pub bytes: Bytes,
}

type Known = Cache<ImageId, Served, Weight>;
type Guard<'a> = PlaceholderGuard<
    'a,
    ImageId,
    Served,
    Weight,
    DefaultHashBuilder,
    DefaultLifecycle<ImageId, Served>,
>;

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<ImageId, Served> for Weight {
    fn weight(&self, _: &ImageId, served: &Served) -> u64 {
        OVERHEAD + served.bytes.as_ref().map_or(0, length)
    }
}

#[derive(Debug, Clone)]
struct VariantWeight;

impl Weighter<VariantKey, Kept> for VariantWeight {
    fn weight(&self, _: &VariantKey, kept: &Kept) -> u64 {
        OVERHEAD + length(&kept.bytes)
    }
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX / 2)
}

/// A cache of at most `capacity_bytes`, if that is not 0.
fn cache<K, V, W>(capacity_bytes: u64, weighter: W) -> Option<Cache<K, V, W>>
where
    K: std::hash::Hash + Eq,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    let shards = (capacity_bytes / SMALLEST_SHARD).clamp(1, 16);
    let options = OptionsBuilder::new()
        .weight_capacity(capacity_bytes)
        .estimated_items_capacity(usize::try_from(capacity_bytes / (64 << 10)).unwrap_or(0))
        .shards(usize::try_from(shards).unwrap_or(1))
        .build();
    options.ok().filter(|_| capacity_bytes > 0).map(|options| {
        Cache::with_options(
            options,
            weighter,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        )
    })
}

impl Hot {
    /// Creates a cache of at most `capacity_bytes`, a quarter of it for variants. With 0, nothing is
    /// cached.
    pub fn new(capacity_bytes: u64) -> Self {
        let of_variants = capacity_bytes / PART_OF_VARIANTS;
        Self {
            images: cache(capacity_bytes - of_variants, Weight),
            variants: cache(of_variants, VariantWeight),
            generation: AtomicU64::new(0),
            known_at: Mutex::new(None),
            loading: Semaphore::new(LOADING_KIB),
        }
    }

    /// Removes an image from the cache, because it was withdrawn or replaced, or its expiry came
    /// closer.
    pub fn forget(&self, id: &ImageId) {
        if let Some(images) = &self.images {
            // This also takes away the placeholder of a request that is loading the image now.
            images.remove(id);
        }
    }

    /// What the cached images weigh, in bytes.
    pub(super) fn weight(&self) -> u64 {
        self.images.as_ref().map_or(0, Cache::weight)
    }

    fn forget_all(&self) {
        if let Some(images) = &self.images {
            self.generation.fetch_add(1, Ordering::SeqCst);
            images.clear();
        }
    }

    /// The variant, if it is in memory. The caller has found the image on this request.
    pub(super) fn variant(&self, key: &VariantKey) -> Option<Kept> {
        self.variants.as_ref()?.get(key)
    }

    /// Keeps a variant of a public image in memory. `false`: there is no cache, or the variant is
    /// larger than [`LARGEST`].
    pub(super) fn keep_variant(&self, key: VariantKey, kept: Kept) -> bool {
        match &self.variants {
            Some(variants) if length(&kept.bytes) <= LARGEST => {
                variants.insert(key, kept);
                true
            }
            _ => false,
        }
    }

    /// The cache, if the list of withdrawals is recent enough to serve from it.
    fn usable(&self) -> Option<&Known> {
        let known_at = *self.known_at.lock().unwrap_or_else(PoisonError::into_inner);
        known_at.filter(|at| at.elapsed() < FRESH)?;
        self.images.as_ref()
    }

    fn know(&self, at: Instant) {
        *self.known_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    /// Puts a loaded image into the cache. Returns `false` if the image or the whole cache was
    /// cleared since loading began.
    fn keep(&self, guard: Guard<'_>, id: &ImageId, served: &Served, generation: u64) -> bool {
        if guard.insert(served.clone()).is_err() {
            return false;
        }
        let is_same = self.generation.load(Ordering::SeqCst) == generation;
        if !is_same {
            self.forget(id);
        }
        is_same
    }
}

impl Images {
    /// The public image with this id, if its row is in memory and it may be served from there now. Its
    /// bytes may not be. Asks nobody.
    pub fn peek(&self, id: &ImageId) -> Option<Served> {
        let served = self.hot.usable()?.get(id)?;
        served.image.is_public(self.clock.now()).then_some(served)
    }

    /// Finds the image with this id if it is served now, in the cache if possible. If another
    /// request is loading the image, this one waits for it, at most two seconds. The caller decides
    /// who may see a private image.
    ///
    /// # Errors
    /// [`UploadError::Database`].
    pub async fn find_served(&self, id: &ImageId) -> Result<Option<Served>, UploadError> {
        let generation = self.hot.generation.load(Ordering::SeqCst);
        let known = self.hot.usable();
        if let Some(served) = known.and_then(|known| known.get(id)) {
            if served.image.is_public(self.clock.now()) {
                metrics::cached(true);
                return Ok(Some(served));
            }
            // A renewal may have moved the expiry since the image was cached.
            self.hot.forget(id);
        }
        // Checked before waiting, so that requests for an unknown id do not wait for each other.
        let Some(image) = self.find_live(id).await? else {
            return Ok(None);
        };
        // Whether the request may see a private image depends on the row, which is read each time:
        // the owner may end its links at any moment.
        let known = known.filter(|_| !image.visibility.is_private());
        let Some(known) = known else {
            return Ok(Some(Served::from_row(image)));
        };
        metrics::cached(false);
        let asked = Instant::now();
        let waited = timeout(WAIT, known.get_value_or_guard_async(id)).await;
        // If the store is slow or fails, waiting requests must not time out one after the other.
        let Ok(found) = waited else {
            return Ok(Some(Served::from_row(image)));
        };
        match found {
            Ok(served) if asked.elapsed() < FRESH / 2 => {
                Ok(Some(served).filter(|served| served.image.is_public(self.clock.now())))
            }
            Ok(served) => self.still_public(id, served).await,
            Err(guard) => {
                // Read the row again: the placeholder is in the cache now, so a later withdrawal
                // removes it.
                let Some(image) = self.find_public(id).await? else {
                    return Ok(None);
                };
                let (served, is_whole) = self.load(image).await;
                if is_whole && !self.hot.keep(guard, id, &served, generation) {
                    return self.still_public(id, served).await;
                }
                Ok(Some(served))
            }
        }
    }

    /// Reads the row again for an image that took long to load or was withdrawn meanwhile.
    async fn still_public(
        &self,
        id: &ImageId,
        served: Served,
    ) -> Result<Option<Served>, UploadError> {
        let image = self.find_public(id).await?;
        Ok(image.map(|image| Served::new(image, served.bytes)))
    }

    /// Loads the bytes of an image, unless it is larger than [`LARGEST`]. Returns `false` if they
    /// can't be read, or too many others are being loaded: then nothing is cached.
    async fn load(&self, image: Image) -> (Served, bool) {
        let length = image.size_bytes;
        if length > LARGEST {
            return (Served::from_row(image), true);
        }
        let kib = u32::try_from(length.div_ceil(1024)).unwrap_or(u32::MAX);
        let Ok(_room) = self.hot.loading.try_acquire_many(kib) else {
            return (Served::from_row(image), false);
        };
        let read = timeout(LOAD, self.read(&image)).await;
        let bytes = read.ok().flatten();
        let is_whole = bytes.is_some();
        (Served::new(image, bytes), is_whole)
    }

    async fn read(&self, image: &Image) -> Option<Bytes> {
        let whole = 0..image.size_bytes;
        let object = self
            .store
            .open(&image.id, image.version, whole)
            .await
            .ok()
            .flatten()?;
        read_whole(object, image.size_bytes).await
    }

    /// Whether images are served from the cache now: it has a capacity, and the list of withdrawals
    /// is recent.
    pub fn serves_from_memory(&self) -> bool {
        self.hot.usable().is_some()
    }

    /// Keeps the list of withdrawals up to date until the future is dropped. Nothing is served from
    /// the cache while it does not run.
    pub async fn watch_withdrawals(self: Arc<Self>) {
        if self.hot.images.is_some() {
            tokio::join!(self.ask_forever(), self.listen_forever());
        }
    }

    async fn ask_forever(&self) {
        // This query uses a connection of its own: while all others are taken, the cache is all
        // that can be served.
        let (db, mut horizon) = (self.db.aside(), None);
        loop {
            let asked = Instant::now();
            if self.hot.usable().is_none() {
                // The list is out of date. The database may have been restored to an earlier state,
                // so nothing cached is trusted.
                self.hot.forget_all();
                horizon = None;
            }
            match timeout(LOOK, rows::find_since(&db, horizon)).await {
                Ok(Ok(found)) => {
                    match &found.images {
                        Some(ids) => ids.iter().for_each(|id| self.hot.forget(id)),
                        None => self.hot.forget_all(),
                    }
                    horizon = Some(found.horizon);
                    self.hot.know(asked);
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the list of withdrawn images could not be read; every request reads the database");
                }
                Err(_) => {
                    tracing::warn!(
                        "the list of withdrawn images took too long; every request reads the database"
                    );
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn listen_forever(&self) {
        loop {
            match Listener::open(&self.db).await {
                Ok(None) => return,
                Ok(Some(listener)) => self.listen(listener).await,
                Err(error) => {
                    tracing::debug!(%error, "no notifications of withdrawals; they are read from the database once a second");
                }
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    }

    async fn listen(&self, mut listener: Listener) {
        loop {
            match listener.next().await {
                Ok(Some(id)) => self.hot.forget(&id),
                // A notification may have been lost here; the query once a second finds it.
                Ok(None) => {}
                Err(error) => {
                    tracing::info!(%error, "the connection for notifications of withdrawals was lost; opening it again");
                    return;
                }
            }
        }
    }
}

/// Reads all bytes of an object. `None`: they can't be read, or it has not this size.
pub(super) async fn read_whole(mut object: Object, size_bytes: u64) -> Option<Bytes> {
    if object.size() != size_bytes {
        return None;
    }
    let mut bytes = BytesMut::with_capacity(usize::try_from(size_bytes).ok()?);
    while let Some(piece) = object.next().await.ok()? {
        bytes.extend_from_slice(&piece);
    }
    let is_whole = u64::try_from(bytes.len()) == Ok(size_bytes);
    is_whole.then(|| bytes.freeze())
}
