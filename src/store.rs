//! Where the bytes of images are kept: one object an image, under a key that its id decides.
//!
//! Objects are never listed on the way of a request and never deleted but by their row.

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{GetOptions, GetResultPayload, ObjectStore, ObjectStoreExt, PutPayload};

use crate::clock::Timestamp;
use crate::ids::ImageId;
use crate::model::mark::Mark;
use crate::model::sidecar::Sidecar;

mod local;

/// Where images lie.
const IMAGES: &str = "images";
/// Where objects lie that no row speaks of.
const QUARANTINE: &str = "quarantine";
/// Where the mark of the database lies that keeps the rows: not among images, and served by no route.
const MARK: &str = "database.json";
/// How the record beside an object is named: the object's name, and this.
const SIDECAR: &str = ".json";
/// How much of a file is read at once: so much of a large image is in memory for each client that reads it,
/// however slowly.
const PIECE: u64 = 64 * 1024;
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

/// An object that is being read.
pub struct Object {
    size: u64,
    left: Range<u64>,
    source: Source,
}

enum Source {
    /// Stays readable when the object is deleted.
    File(Arc<std::fs::File>),
    Stream(BoxStream<'static, Result<Bytes, object_store::Error>>),
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Object({:?} of {})", self.left, self.size)
    }
}

impl Object {
    /// The length of the whole object, whatever part of it is read.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes; `None` after the last ones.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let file = match &mut self.source {
            Source::Stream(stream) => return Ok(stream.next().await.transpose()?),
            Source::File(file) => Arc::clone(file),
        };
        let place = self.left.start;
        let length = PIECE.min(self.left.end.saturating_sub(place));
        if length == 0 {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut bytes, place).map(|()| bytes)
        });
        let bytes = read.await.map_err(std::io::Error::other).flatten();
        let bytes = bytes.map_err(|source| object_store::Error::Generic {
            store: "images",
            source: Box::new(source),
        })?;
        self.left.start += length;
        Ok(Some(bytes.into()))
    }
}

/// Something that lies where images lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// An image's object.
    Image(ImageId),
    /// The record beside an image's object.
    Sidecar(ImageId),
    /// Something else, by its key.
    Foreign(String),
}

impl Listed {
    fn of(place: &Key) -> Self {
        let name = place.filename().unwrap_or_default();
        let (name, is_sidecar) = match name.strip_suffix(SIDECAR) {
            Some(name) => (name, true),
            None => (name, false),
        };
        let parts = place.parts().count();
        let lies_right = |id: &ImageId| {
            parts == key(id).parts().count() && place.as_ref().starts_with(key(id).as_ref())
        };
        match (ImageId::parse(name).filter(lies_right), is_sidecar) {
            (Some(id), false) => Self::Image(id),
            (Some(id), true) => Self::Sidecar(id),
            (None, _) => Self::Foreign(place.to_string()),
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
    let files = ids.iter().map(|id| file(root, id));
    let files = files.chain(ids.iter().map(|id| sidecar_file(root, id)));
    let mut deleted = Deleted::default();
    match local::delete(root, files.collect()).await {
        Ok(mut objects) => {
            let sidecars = objects.split_off(ids.len().min(objects.len()));
            for ((id, object), sidecar) in ids.iter().zip(objects).zip(sidecars) {
                let outcome = sidecar.and(object);
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

fn sidecar_file(root: &Path, id: &ImageId) -> PathBuf {
    root.join(format!("{}{SIDECAR}", key(id)))
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

    /// Keeps `bytes` as the image `id`, and its record beside them on a local disk; when it returns both
    /// are durable.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put(
        &self,
        id: &ImageId,
        bytes: Bytes,
        sidecar: &Sidecar,
    ) -> Result<(), StoreError> {
        let place = key(id);
        // At the same time, so that they share the disk's waits.
        let (put, described) = tokio::join!(
            self.objects.put(&place, PutPayload::from_bytes(bytes)),
            self.describe(id, sidecar)
        );
        put?;
        described
    }

    /// Writes the record beside an object, durably, in place of an older one. Only a local store has
    /// any.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn describe(&self, id: &ImageId, sidecar: &Sidecar) -> Result<(), StoreError> {
        if let Some(root) = &self.root {
            local::write(sidecar_file(root, id), sidecar.to_bytes()).await?;
        }
        Ok(())
    }

    /// Whether the record beside an object is this one. Where there are no records, it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_described(&self, id: &ImageId, sidecar: &Sidecar) -> Result<bool, StoreError> {
        let Some(root) = &self.root else {
            return Ok(true);
        };
        let found = local::read(sidecar_file(root, id)).await?;
        Ok(found.as_deref().and_then(Sidecar::parse).as_ref() == Some(sidecar))
    }

    /// Opens these bytes of the image `id`; `None` when there is no such object.
    ///
    /// # Errors
    /// [`StoreError`], also when the object has none of these bytes.
    pub async fn open(&self, id: &ImageId, part: Range<u64>) -> Result<Option<Object>, StoreError> {
        let options = GetOptions::new().with_range(Some(part));
        let found = match self.objects.get_opts(&key(id), options).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Object {
            size: found.meta.size,
            left: found.range,
            source: match found.payload {
                GetResultPayload::File(file, _) => Source::File(Arc::new(file)),
                GetResultPayload::Stream(stream) => Source::Stream(stream),
            },
        }))
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

    /// Deletes what a process that died while it wrote these images left beside where they would lie.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_drafts(&self, ids: &[ImageId]) -> Result<(), StoreError> {
        let Some(root) = &self.root else {
            return Ok(());
        };
        // As object_store and `local` name them; a listing shows neither.
        let drafts = |id: &ImageId| ["#1", ".json#0"].map(|end| format!("{}{end}", key(id)));
        let files = ids.iter().flat_map(drafts).map(|name| root.join(name));
        let outcomes = local::delete(root, files.collect()).await?;
        Ok(outcomes
            .into_iter()
            .try_for_each(|outcome| outcome.map(|_| ()))?)
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

    /// Whether there is anything of the image `id`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_there(&self, id: &ImageId) -> Result<bool, StoreError> {
        let sidecar = match &self.root {
            Some(root) => local::read(sidecar_file(root, id)).await?,
            None => None,
        };
        Ok(sidecar.is_some() || self.size(id).await?.is_some())
    }

    /// Every object where images lie, in no order. For `pixtoll store audit` alone.
    pub fn list(&self) -> BoxStream<'static, Result<Listed, StoreError>> {
        self.objects
            .list(Some(&Key::from(IMAGES)))
            .map(|listed| Ok(Listed::of(&listed?.location)))
            .boxed()
    }

    /// Moves the object `id`, and the record beside it, to where nothing is served from.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn quarantine(&self, id: &ImageId, now: Timestamp) -> Result<(), StoreError> {
        for suffix in [SIDECAR, ""] {
            let from = Key::from(format!("{}{suffix}", key(id)));
            let to = Key::from(format!("{QUARANTINE}/{}/{id}{suffix}", now.millis()));
            match self.objects.rename(&from, &to).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
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

    /// The mark of the database that keeps this store's rows; `None`: there is none.
    ///
    /// # Errors
    /// [`StoreError`], also when what lies there is no mark.
    pub async fn find_mark(&self) -> Result<Option<Mark>, StoreError> {
        let found = match self.objects.get(&Key::from(MARK)).await {
            Ok(found) => found.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mark = Mark::parse(&found).ok_or_else(|| object_store::Error::Generic {
            store: MARK,
            source: "it is no mark of a database".into(),
        })?;
        Ok(Some(mark))
    }

    /// Writes the mark of the database that keeps this store's rows, in place of an older one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_mark(&self, mark: &Mark) -> Result<(), StoreError> {
        let bytes = PutPayload::from(mark.to_bytes());
        self.objects.put(&Key::from(MARK), bytes).await?;
        Ok(())
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
    use crate::model::image::{Format, Image, ImageState};
    use crate::random::Randomness;
    use crate::tiers::Keep;

    #[tokio::test]
    async fn an_object_is_kept_found_and_deleted_and_deleting_twice_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        for store in [
            Store::open_local(folder.path()).unwrap(),
            Store::in_memory(),
        ] {
            let id = ImageId::draw(&Randomness::seeded(1));
            let sidecar = sidecar(&id);
            assert!(store.open(&id, 0..7).await.unwrap().is_none());
            store
                .put(&id, Bytes::from_static(b"picture"), &sidecar)
                .await
                .unwrap();
            assert!(store.is_described(&id, &sidecar).await.unwrap());
            assert_eq!(read(&store, &id, 0..7).await, b"picture");
            store.delete(&id).await.unwrap();
            store.delete(&id).await.unwrap();
            assert!(store.open(&id, 0..7).await.unwrap().is_none());
            store.ping().await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_a_dead_writer_left_goes_and_no_image_does() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_local(folder.path()).unwrap();
        let id = ImageId::draw(&Randomness::seeded(1));
        store
            .put(&id, Bytes::from_static(b"picture"), &sidecar(&id))
            .await
            .unwrap();
        let root: Arc<Path> = Arc::from(folder.path());
        let drafts = ["#1", ".json#0"].map(|end| root.join(format!("{}{end}", key(&id))));
        for draft in &drafts {
            std::fs::write(draft, b"pict").unwrap();
        }
        store
            .delete_drafts(&[id.clone(), id.clone()])
            .await
            .unwrap();
        assert!(drafts.iter().all(|draft| !draft.exists()));
        assert!(file(&root, &id).exists() && sidecar_file(&root, &id).exists());
    }

    /// `object_store` draws the name of a draft; were it another one, drafts would stay for ever.
    #[tokio::test]
    async fn a_draft_of_the_object_store_has_the_name_that_is_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_local(folder.path()).unwrap();
        let id = ImageId::draw(&Randomness::seeded(1));
        let mut upload = store.objects.put_multipart(&key(&id)).await.unwrap();
        upload
            .put_part(PutPayload::from_static(b"pict"))
            .await
            .unwrap();
        let draft = folder.path().join(format!("{}#1", key(&id)));
        assert!(draft.exists());
        store
            .delete_drafts(std::slice::from_ref(&id))
            .await
            .unwrap();
        assert!(!draft.exists());
    }

    #[tokio::test]
    async fn a_batch_goes_with_its_records_and_what_will_not_go_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_local(folder.path()).unwrap();
        let randomness = Randomness::seeded(1);
        let ids: Vec<ImageId> = (0..300).map(|_| ImageId::draw(&randomness)).collect();
        for id in &ids {
            store
                .put(id, Bytes::from_static(b"picture"), &sidecar(id))
                .await
                .unwrap();
        }
        // A folder can't be deleted like a file, and one that is gone is.
        let root: Arc<Path> = Arc::from(folder.path());
        std::fs::remove_file(file(&root, &ids[7])).unwrap();
        std::fs::remove_file(sidecar_file(&root, &ids[8])).unwrap();
        std::fs::create_dir(sidecar_file(&root, &ids[8])).unwrap();
        let deleted = store.delete_many(&ids[..299]).await;
        assert_eq!((deleted.gone.len(), deleted.missing), (298, 1));
        assert_eq!(deleted.left, [ids[8].clone()]);
        assert!(deleted.failure.is_some());
        assert!(store.is_there(&ids[299]).await.unwrap());
        let mut left = Vec::new();
        let mut listed = store.list();
        while let Some(object) = listed.next().await {
            left.push(object.unwrap());
        }
        let last = ids[299].clone();
        left.sort_by_key(|object| matches!(object, Listed::Sidecar(_)));
        assert_eq!(left, [Listed::Image(last.clone()), Listed::Sidecar(last)]);
    }

    fn sidecar(id: &ImageId) -> Sidecar {
        let image = Image {
            id: id.clone(),
            state: ImageState::Pending,
            format: Format::Png,
            size_bytes: 7,
            width: 1,
            height: 1,
            sha256: String::new(),
            upload_sha256: String::new(),
            tier: "free".to_owned(),
            payment_id: None,
            created_at: Timestamp::from_seconds(0),
            published_at: None,
            expires_at: None,
        };
        Sidecar::new(&image, Keep::Forever)
    }

    async fn read(store: &Store, id: &ImageId, part: Range<u64>) -> Vec<u8> {
        let mut object = store.open(id, part).await.unwrap().unwrap();
        let mut bytes = Vec::new();
        while let Some(piece) = object.next().await.unwrap() {
            bytes.extend(piece);
        }
        bytes
    }

    #[tokio::test]
    async fn parts_of_an_object_are_read_in_pieces_also_when_it_is_deleted_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..=250).cycle().take(200_000).collect();
        for store in [
            Store::open_local(folder.path()).unwrap(),
            Store::in_memory(),
        ] {
            let id = ImageId::draw(&Randomness::seeded(1));
            store
                .put(&id, bytes.clone().into(), &sidecar(&id))
                .await
                .unwrap();
            for part in [0..200_000, 0..1, 199_999..200_000, 65_535..131_073] {
                let place =
                    usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap();
                assert_eq!(read(&store, &id, part).await, bytes[place]);
            }
            assert!(store.open(&id, 200_000..200_001).await.is_err());
            let mut object = store.open(&id, 0..200_000).await.unwrap().unwrap();
            assert_eq!(object.size(), 200_000);
            let first = object.next().await.unwrap().unwrap();
            store.delete(&id).await.unwrap();
            let mut length = first.len();
            while let Some(piece) = object.next().await.unwrap() {
                length += piece.len();
            }
            assert_eq!(length, 200_000);
        }
    }

    #[test]
    fn ids_that_differ_only_in_case_have_different_keys() {
        let upper = ImageId::parse("ABcdefghijkl").unwrap();
        let lower = ImageId::parse("abcdefghijkl").unwrap();
        assert_ne!(key(&upper), key(&lower));
    }
}
