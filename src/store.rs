//! Where the bytes of images are kept: one object an image, under a key that its id decides.
//!
//! Objects are never listed on the way of a request and never deleted but by their row.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use crate::clock::Timestamp;
use crate::ids::ImageId;

mod local;

/// Where images lie.
const IMAGES: &str = "images";
/// Where objects lie that no row speaks of.
const QUARANTINE: &str = "quarantine";
/// How many objects are deleted at the same time.
const DELETES_AT_ONCE: usize = 16;

/// A store of images.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    /// Where a local one lies.
    root: Option<Arc<Path>>,
}

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
#[error("the image store failed: {0}")]
pub struct StoreError(#[from] object_store::Error);

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        Self(object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(error),
        })
    }
}

/// Something that lies where images lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// An image's object.
    Image(ImageId),
    /// Something else, by its key.
    Foreign(String),
}

impl Listed {
    fn of(place: &Key) -> Self {
        let id = place.filename().and_then(ImageId::parse);
        match id.filter(|id| key(id) == *place) {
            Some(id) => Self::Image(id),
            None => Self::Foreign(place.to_string()),
        }
    }
}

/// What became of deleting several images.
#[derive(Debug, Default)]
pub struct Deleted {
    /// Those whose objects are gone.
    pub gone: Vec<ImageId>,
    /// How many of them were gone already.
    pub missing: usize,
    /// Those whose objects may still be there.
    pub left: Vec<ImageId>,
    /// Why, of one of them.
    pub failure: Option<StoreError>,
}

impl Deleted {
    /// `result` says whether the object had been there.
    fn note(&mut self, id: ImageId, result: Result<bool, StoreError>) {
        match result {
            Ok(was_there) => {
                self.missing += usize::from(!was_there);
                self.gone.push(id);
            }
            Err(error) => {
                self.left.push(id);
                self.failure = Some(error);
            }
        }
    }
}

async fn delete_local(root: &Arc<Path>, ids: &[ImageId]) -> Deleted {
    let files: Vec<PathBuf> = ids.iter().map(|id| file(root, id)).collect();
    let mut deleted = Deleted::default();
    match local::delete(root, files).await {
        Ok(outcomes) => {
            for (id, outcome) in ids.iter().zip(outcomes) {
                deleted.note(id.clone(), outcome.map_err(StoreError::from));
            }
        }
        Err(error) => {
            deleted.left = ids.to_vec();
            deleted.failure = Some(error.into());
        }
    }
    deleted
}

/// Where a local store has the object of an image.
fn file(root: &Path, id: &ImageId) -> PathBuf {
    root.join(key(id).as_ref())
}

impl Store {
    /// A local directory, created when it isn't there. Files are synced before a put returns.
    ///
    /// # Errors
    /// When the directory can't be made.
    pub fn open_local(root: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(root)?;
        Ok(Self {
            objects: Arc::new(LocalFileSystem::new_with_prefix(root)?.with_fsync(true)),
            root: Some(Arc::from(root)),
        })
    }

    /// Memory; for tests.
    pub fn in_memory() -> Self {
        Self {
            objects: Arc::new(InMemory::new()),
            root: None,
        }
    }

    /// Keeps `bytes` as the image `id`; when it returns they are durable.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put(&self, id: &ImageId, bytes: Bytes) -> Result<(), StoreError> {
        self.objects
            .put(&key(id), PutPayload::from_bytes(bytes))
            .await?;
        Ok(())
    }

    /// The bytes of the image `id`; `None` when there are none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find(&self, id: &ImageId) -> Result<Option<Bytes>, StoreError> {
        match self.objects.get(&key(id)).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the image `id`, for good; one that is already gone counts as deleted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete(&self, id: &ImageId) -> Result<(), StoreError> {
        match self.delete_many(std::slice::from_ref(id)).await.failure {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// Deletes these images, for good, several at a time; those that are already gone count as deleted.
    pub async fn delete_many(&self, ids: &[ImageId]) -> Deleted {
        match &self.root {
            Some(root) => delete_local(root, ids).await,
            None => self.delete_remote(ids).await,
        }
    }

    async fn delete_remote(&self, ids: &[ImageId]) -> Deleted {
        let mut deleted = Deleted::default();
        let mut results = stream::iter(ids.iter().cloned())
            .map(async |id| (self.objects.delete(&key(&id)).await, id))
            .buffer_unordered(DELETES_AT_ONCE);
        while let Some((result, id)) = results.next().await {
            let result = match result {
                Ok(()) => Ok(true),
                Err(object_store::Error::NotFound { .. }) => Ok(false),
                Err(error) => Err(error.into()),
            };
            deleted.note(id, result);
        }
        deleted
    }

    /// How many bytes the image `id` has; `None` when there is no such object.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn size(&self, id: &ImageId) -> Result<Option<u64>, StoreError> {
        match self.objects.head(&key(id)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Every object where images lie, in no order. For `pixtoll store audit` alone.
    pub fn list(&self) -> BoxStream<'static, Result<Listed, StoreError>> {
        self.objects
            .list(Some(&Key::from(IMAGES)))
            .map(|listed| Ok(Listed::of(&listed?.location)))
            .boxed()
    }

    /// Moves the object `id` to where nothing is served from.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn quarantine(&self, id: &ImageId, now: Timestamp) -> Result<(), StoreError> {
        let place = Key::from(format!("{QUARANTINE}/{}/{id}", now.millis()));
        Ok(self.objects.rename(&key(id), &place).await?)
    }

    /// Deletes what came to quarantine before `before`; how much that was.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn purge_quarantine(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut purged = 0;
        let mut objects = self.objects.list(Some(&Key::from(QUARANTINE)));
        while let Some(object) = objects.next().await {
            let place = object?.location;
            let came: Option<i64> = place
                .parts()
                .nth(1)
                .and_then(|part| part.as_ref().parse().ok());
            if came.is_some_and(|came| came < before.millis()) {
                self.objects.delete(&place).await?;
                purged += 1;
            }
        }
        Ok(purged)
    }

    /// Whether the store answers, and would take an object.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        let probe = Key::from("probe/readiness");
        self.objects
            .put(&probe, PutPayload::from_static(b"pixtoll"))
            .await?;
        Ok(())
    }
}

/// Two levels of folders, 3,844 in all, so that no folder grows without bound. With more letters a level,
/// nearly every image would have a folder of its own, which nobody removes.
fn key(id: &ImageId) -> Key {
    let text = id.as_str();
    let (one, rest) = text.split_at_checked(1).unwrap_or((text, ""));
    let (two, _) = rest.split_at_checked(1).unwrap_or((rest, ""));
    Key::from(format!("{IMAGES}/{one}/{two}/{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Randomness;

    #[tokio::test]
    async fn an_object_is_kept_found_and_deleted_and_deleting_twice_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        for store in [
            Store::open_local(folder.path()).unwrap(),
            Store::in_memory(),
        ] {
            let id = ImageId::draw(&Randomness::seeded(1));
            assert!(store.find(&id).await.unwrap().is_none());
            store
                .put(&id, Bytes::from_static(b"picture"))
                .await
                .unwrap();
            assert_eq!(store.find(&id).await.unwrap().unwrap(), "picture");
            store.delete(&id).await.unwrap();
            store.delete(&id).await.unwrap();
            assert!(store.find(&id).await.unwrap().is_none());
            store.ping().await.unwrap();
        }
    }

    #[test]
    fn ids_that_differ_only_in_case_have_different_keys() {
        let upper = ImageId::parse("ABcdefghijkl").unwrap();
        let lower = ImageId::parse("abcdefghijkl").unwrap();
        assert_ne!(key(&upper), key(&lower));
    }
}
