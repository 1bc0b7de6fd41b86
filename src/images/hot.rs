//! Images in memory, so that one which everybody asks for costs neither database nor store.
//!
//! An image is served from here only while it is known that it wasn't withdrawn: the database is asked once a
//! second what was, and where it doesn't answer for two seconds, every request asks it again as if there was no
//! memory. PostgreSQL also says so at once. What an image's own end says is looked at each time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quick_cache::sync::{Cache, DefaultLifecycle, PlaceholderGuard};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use tokio::time::{Instant, timeout};

use super::{Images, UploadError};
use crate::db::images;
use crate::db::withdrawals::{self as rows, Listener};
use crate::ids::ImageId;
use crate::model::image::Image;
use crate::model::payment::PaymentId;

/// For so long an answer of the database counts.
const FRESH: Duration = Duration::from_secs(2);
/// How long somebody waits for an image that somebody else loads, before reading it themselves.
const WAIT: Duration = Duration::from_secs(2);
/// How long loading one may take.
const LOAD: Duration = Duration::from_secs(10);
/// How often the database is asked, and how long the answer may take.
const LOOK: Duration = Duration::from_secs(1);
/// The pause before listening again.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);
/// The bytes of a larger one are read from the store each time, as its clients take them.
const LARGEST: u64 = 512 * 1024;
/// What an image takes beside its bytes.
const OVERHEAD: u64 = 1024;
/// A shard of the memory is no smaller, so that it holds a few of the largest.
const SMALLEST_SHARD: u64 = 8 << 20;

/// An image that is public, and its bytes where they are in memory.
#[derive(Debug, Clone)]
pub struct Served {
    /// The image.
    pub image: Arc<Image>,
    /// All of its bytes.
    pub bytes: Option<Bytes>,
}

impl Served {
    fn from_row(image: Image) -> Self {
        Self {
            image: Arc::new(image),
            bytes: None,
        }
    }
}

/// The memory.
#[derive(Debug)]
pub struct Hot {
    images: Option<Known>,
    /// Moves on whenever all is forgotten.
    generation: AtomicU64,
    /// Up to when it is known what was withdrawn.
    known_at: Mutex<Option<Instant>>,
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
        let bytes = served.bytes.as_ref().map_or(0, Bytes::len);
        OVERHEAD + u64::try_from(bytes).unwrap_or(u64::MAX / 2)
    }
}

impl Hot {
    /// A memory of so many bytes; of none, there is no memory.
    pub fn new(capacity_bytes: u64) -> Self {
        let shards = (capacity_bytes / SMALLEST_SHARD).clamp(1, 16);
        let options = OptionsBuilder::new()
            .weight_capacity(capacity_bytes)
            .estimated_items_capacity(usize::try_from(capacity_bytes / (64 << 10)).unwrap_or(0))
            .shards(usize::try_from(shards).unwrap_or(1))
            .build();
        let images = options.ok().filter(|_| capacity_bytes > 0).map(|options| {
            Cache::with_options(
                options,
                Weight,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            )
        });
        Self {
            images,
            generation: AtomicU64::new(0),
            known_at: Mutex::new(None),
        }
    }

    /// Forgets an image: it isn't public any more, or for less long than was known.
    pub fn forget(&self, id: &ImageId) {
        if let Some(images) = &self.images {
            // Who is loading it just now puts it nowhere then.
            images.remove(id);
        }
    }

    fn forget_all(&self) {
        if let Some(images) = &self.images {
            self.generation.fetch_add(1, Ordering::SeqCst);
            images.clear();
        }
    }

    /// The memory, while it is known what was withdrawn.
    fn usable(&self) -> Option<&Known> {
        let known_at = *self.known_at.lock().unwrap_or_else(PoisonError::into_inner);
        known_at.filter(|at| at.elapsed() < FRESH)?;
        self.images.as_ref()
    }

    fn know(&self, at: Instant) {
        *self.known_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    /// `false`: it was forgotten meanwhile, with all others or by itself.
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
    /// The image with this id, when it is public now; from memory, where it is there and known to be true. Who
    /// asks for one whose bytes somebody loads just now waits for them.
    ///
    /// # Errors
    /// [`UploadError::Database`].
    pub async fn find_served(&self, id: &ImageId) -> Result<Option<Served>, UploadError> {
        let generation = self.hot.generation.load(Ordering::SeqCst);
        let known = self.hot.usable();
        if let Some(served) = known.and_then(|known| known.get(id)) {
            if served.image.is_public(self.clock.now()) {
                return Ok(Some(served));
            }
            // Its end may have moved since.
            self.hot.forget(id);
        }
        // Before anybody waits for anybody: many may ask at once for what isn't there.
        let Some(image) = self.find_public(id).await? else {
            return Ok(None);
        };
        let Some(known) = known else {
            return Ok(Some(Served::from_row(image)));
        };
        let asked = Instant::now();
        let waited = timeout(WAIT, known.get_value_or_guard_async(id)).await;
        // A store that is slow, or fails one after the other, must not be waited for in turns.
        let Ok(found) = waited else {
            return Ok(Some(Served::from_row(image)));
        };
        match found {
            Ok(served) if asked.elapsed() < FRESH / 2 => {
                Ok(Some(served).filter(|served| served.image.is_public(self.clock.now())))
            }
            Ok(served) => self.still_public(id, served).await,
            Err(guard) => {
                // Again: from here on a withdrawal takes the place away that is to be filled.
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

    /// What was loaded for a while, or was withdrawn meanwhile: is it public now?
    async fn still_public(
        &self,
        id: &ImageId,
        served: Served,
    ) -> Result<Option<Served>, UploadError> {
        Ok(self.find_public(id).await?.map(|image| Served {
            image: Arc::new(image),
            bytes: served.bytes,
        }))
    }

    /// With its bytes, unless it is a large one. `false`: they can't be read, which is to be seen each time.
    async fn load(&self, image: Image) -> (Served, bool) {
        let length = image.size_bytes;
        if length > LARGEST {
            return (Served::from_row(image), true);
        }
        let read = timeout(LOAD, self.read(&image)).await;
        let bytes = read.ok().flatten();
        let is_whole = bytes.is_some();
        let served = Served {
            image: Arc::new(image),
            bytes,
        };
        (served, is_whole)
    }

    async fn read(&self, image: &Image) -> Option<Bytes> {
        let whole = 0..image.size_bytes;
        let mut object = self.store.open(&image.id, whole).await.ok().flatten()?;
        if object.size() != image.size_bytes {
            return None;
        }
        let mut bytes = BytesMut::with_capacity(usize::try_from(image.size_bytes).ok()?);
        while let Some(piece) = object.next().await.ok()? {
            bytes.extend_from_slice(&piece);
        }
        let is_whole = u64::try_from(bytes.len()) == Ok(image.size_bytes);
        is_whole.then(|| bytes.freeze())
    }

    /// Forgets what a payment published, and what it `renewed`, at once; other servers hear of it.
    pub async fn forget_goods(&self, payment: &PaymentId, renewed: Option<&ImageId>) {
        if self.hot.images.is_none() {
            return;
        }
        if let Some(id) = renewed {
            self.hot.forget(id);
        }
        match images::find_ever_published(&self.db, payment).await {
            Ok(published) => {
                for image in published {
                    self.hot.forget(&image.id);
                }
            }
            // As the others, this server hears of it.
            Err(error) => {
                tracing::debug!(payment.id = %payment, %error, "its images could not be found");
            }
        }
    }

    /// Whether images are served from memory just now: there is one, and it is known what was withdrawn.
    pub fn serves_from_memory(&self) -> bool {
        self.hot.usable().is_some()
    }

    /// Hears and asks what was withdrawn, until it is dropped. Without it, nothing is served from memory.
    pub async fn watch_withdrawals(self: Arc<Self>) {
        if self.hot.images.is_some() {
            tokio::join!(self.ask_forever(), self.listen_forever());
        }
    }

    async fn ask_forever(&self) {
        // While all connections are taken, what is in memory is what can be served.
        let (db, mut horizon) = (self.db.aside(), None);
        loop {
            let asked = Instant::now();
            if self.hot.usable().is_none() {
                // Whatever happened to the database meanwhile, it may know less than before.
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
                    tracing::warn!(%error, "the database doesn't say what was withdrawn; images are served without memory");
                }
                Err(_) => {
                    tracing::warn!(
                        "the database is slow to say what was withdrawn; images are served without memory"
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
                Err(error) => tracing::debug!(%error, "withdrawals are asked for only"),
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    }

    async fn listen(&self, mut listener: Listener) {
        loop {
            match listener.next().await {
                Ok(Some(id)) => self.hot.forget(&id),
                // What was said meanwhile is found by asking.
                Ok(None) => {}
                Err(error) => {
                    tracing::info!(%error, "withdrawals are not heard of any more; listening again");
                    return;
                }
            }
        }
    }
}
