//! The object store that holds the images: one object for each image, under a key derived from its
//! id, and a JSON sidecar beside it.
//!
//! Requests never list objects. An object is deleted only because its row says so.

use std::collections::HashSet;
use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutPayload};

use crate::config::{S3Store, StorePlace};
use crate::model::ids::ImageId;
use crate::model::mark::Mark;
use crate::model::sidecar::Sidecar;
use crate::system::clock::Timestamp;
use crate::system::metrics;

mod contents;
mod copying;
mod deleted;
mod keys;
mod local;
mod object;
mod s3;
mod sealed;
#[cfg(test)]
mod tests;
mod variants;

pub use deleted::Deleted;
pub use keys::Listed;
pub use object::Object;

use deleted::delete_local;
use keys::{IMAGES, MARK, QUARANTINE, SIDECAR, content_key, file, key, sidecar_file, sidecar_key};

/// Images in one delete request, each with its sidecar: S3 takes 1,000 keys.
const IMAGES_A_DELETE: usize = 500;
/// The timeout of a bulk delete, as a multiple of other requests' timeout.
const DELETE_FACTOR: u32 = 3;
/// How long a network store may take to answer a ping.
const PING: Duration = Duration::from_secs(2);

/// The ends of the names of drafts in a local store. Listings of `object_store` show neither, and
/// its own drafts of images end like these.
const IMAGE_DRAFT: &str = "#1";
const SIDECAR_DRAFT: &str = "#0";

/// An image store: a local directory, a bucket, or memory.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    place: Backend,
}

#[derive(Debug, Clone)]
enum Backend {
    /// A directory on this machine.
    Local(Arc<Path>),
    Memory,
    S3(Arc<Remote>),
}

#[derive(Debug)]
struct Remote {
    bucket: s3::Bucket,
    /// Whether the bucket passed [`Store::check`]. Nothing is stored before that.
    is_fit: AtomicBool,
}

/// Errors of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk failed, or the directory holds a file that pixtoll does not write.
    #[error("the image store failed: {0}")]
    Failed(#[from] object_store::Error),
    /// A network store failed; a later request may succeed.
    #[error("the image store failed: {0}")]
    Remote(String),
    /// A network store did not answer in time.
    #[error("the image store did not answer within {0:?}")]
    Late(Duration),
    /// The disk of the directory is full.
    #[error("the disk of the image store is full")]
    Full,
    /// The directory can't be written to: its file system or its mode forbids it.
    #[error("the image store is read-only")]
    ReadOnly,
    /// The bucket was not checked yet, so nothing can be stored.
    #[error("the image store has not been checked yet: {0}")]
    Unchecked(String),
}

impl StoreError {
    fn of(error: object_store::Error, is_remote: bool) -> Self {
        if is_remote {
            Self::Remote(said(&error.to_string()))
        } else {
            Self::Failed(error)
        }
    }

    /// Whether the same request may succeed in a moment.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Failed(_) => false,
            Self::Full | Self::ReadOnly | Self::Remote(_) | Self::Late(_) | Self::Unchecked(_) => {
                true
            }
        }
    }
}

/// Whether a store reports that the object doesn't exist, as opposed to the bucket.
fn is_missing_key(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. }) && error.to_string().contains("NoSuchKey")
}

/// The error code of a store's answer, without its document, which repeats keys, signatures and
/// tokens.
fn said(error: &str) -> String {
    let code = error
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"));
    let sentence = error.split('<').next().unwrap_or_default().trim_end();
    match code {
        Some((code, _)) => format!("{sentence} {code}"),
        None => sentence.to_owned(),
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => return Self::Full,
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => return Self::ReadOnly,
            _ => {}
        }
        Self::Failed(object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(error),
        })
    }
}

/// Why nothing may be stored in a bucket.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Strangers could read deleted, expired or unpaid images.
    #[error("{0}: make the bucket private, since only pixtoll may serve the images")]
    Public(String),
    /// The bucket's setup doesn't work.
    #[error("{0}")]
    Refused(String),
    /// The bucket doesn't answer at the moment.
    #[error(transparent)]
    Unknown(StoreError),
}

impl Store {
    /// Opens the store at `place`. A local directory is created if it is missing. A bucket costs no
    /// request, and accepts no image before [`Store::check`] succeeds.
    ///
    /// # Errors
    /// When the directory can't be created, or no client can be built.
    pub fn at(place: &StorePlace) -> anyhow::Result<Self> {
        match place {
            StorePlace::Directory(root) => Self::open_local(root),
            StorePlace::S3(settings) => Self::open_s3(settings),
        }
    }

    /// Opens a local directory, and creates it if it is missing. Files are synced before a put
    /// returns.
    ///
    /// # Errors
    /// When the directory can't be created.
    pub fn open_local(root: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(root)?;
        Ok(Self {
            objects: Arc::new(LocalFileSystem::new_with_prefix(root)?.with_fsync(true)),
            place: Backend::Local(Arc::from(root)),
        })
    }

    /// Opens a bucket, or a prefix of one.
    ///
    /// # Errors
    /// When no client can be built from the settings.
    pub fn open_s3(settings: &S3Store) -> anyhow::Result<Self> {
        let (objects, bucket) = s3::open(settings)?;
        let is_fit = AtomicBool::new(false);
        Ok(Self {
            objects,
            place: Backend::S3(Arc::new(Remote { bucket, is_fit })),
        })
    }

    /// The kind of the store, as metrics name it.
    pub fn kind(&self) -> &'static str {
        match &self.place {
            Backend::Local(_) => "directory",
            Backend::Memory => "memory",
            Backend::S3(_) => "s3",
        }
    }

    /// Opens an empty store in memory, for tests.
    pub fn in_memory() -> Self {
        Self {
            objects: Arc::new(InMemory::new()),
            place: Backend::Memory,
        }
    }

    /// Checks that a bucket works and that strangers can't read it. `name` must be different for
    /// each check. Images can be stored from the first success on.
    ///
    /// # Errors
    /// [`Unfit`].
    pub async fn check(&self, name: &str) -> Result<(), Unfit> {
        let Backend::S3(remote) = &self.place else {
            return self.ping().await.map_err(Unfit::Unknown);
        };
        let bucket = &remote.bucket;
        let deadline = bucket.timeout().saturating_mul(DELETE_FACTOR);
        let check = bucket.check(self.objects.as_ref(), name);
        match tokio::time::timeout(deadline, check).await {
            Ok(checked) => checked?,
            Err(_) => return Err(Unfit::Unknown(StoreError::Late(deadline))),
        }
        remote.is_fit.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether [`Store::check`] must succeed before anything can be stored.
    pub fn is_unchecked(&self) -> bool {
        match &self.place {
            Backend::S3(remote) => !remote.is_fit.load(Ordering::Relaxed),
            Backend::Local(_) | Backend::Memory => false,
        }
    }

    /// Stores `bytes` as the image `id`, with its sidecar. Both are durable when it returns.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put(
        &self,
        id: &ImageId,
        bytes: Bytes,
        sidecar: &Sidecar,
    ) -> Result<(), StoreError> {
        self.refuse_unchecked()?;
        let measured = metrics::store("put");
        let stored = self.write(id, bytes, sidecar).await;
        measured.end(stored.is_ok());
        stored
    }

    async fn write(&self, id: &ImageId, bytes: Bytes, sidecar: &Sidecar) -> Result<(), StoreError> {
        if let Backend::Local(root) = &self.place {
            let image = local::New {
                file: file(root, id),
                draft: IMAGE_DRAFT,
                bytes,
            };
            let files = vec![image, sidecar_of(root, id, sidecar)];
            return Ok(local::write(files).await?);
        }
        let place = key(id);
        let put = self.objects.put(&place, PutPayload::from_bytes(bytes));
        // Both at the same time, so that they share the waiting time.
        let (put, described) = tokio::join!(self.within(put), self.describe(id, sidecar));
        put?;
        described
    }

    fn refuse_unchecked(&self) -> Result<(), StoreError> {
        if self.is_unchecked() {
            let why = "it has not answered since the server started".to_owned();
            return Err(StoreError::Unchecked(why));
        }
        Ok(())
    }

    /// Writes the sidecar of an image, durably, and replaces an older one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn describe(&self, id: &ImageId, sidecar: &Sidecar) -> Result<(), StoreError> {
        if let Backend::Local(root) = &self.place {
            return Ok(local::write(vec![sidecar_of(root, id, sidecar)]).await?);
        }
        let place = sidecar_key(id);
        let put = self
            .objects
            .put(&place, PutPayload::from(sidecar.to_bytes()));
        self.within(put).await?;
        Ok(())
    }

    /// Whether the stored sidecar of an image equals `sidecar`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_described(&self, id: &ImageId, sidecar: &Sidecar) -> Result<bool, StoreError> {
        let found = match &self.place {
            Backend::Local(root) => local::read(sidecar_file(root, id)).await?.map(Bytes::from),
            Backend::Memory | Backend::S3(_) => self.read_small(&sidecar_key(id)).await?,
        };
        Ok(found.as_deref().and_then(Sidecar::parse).as_ref() == Some(sidecar))
    }

    /// Opens the byte range `part` of a content of the image `id`; `None` when there is no such
    /// object.
    ///
    /// # Errors
    /// [`StoreError`], also when the object has none of these bytes.
    pub async fn open(
        &self,
        id: &ImageId,
        version: u32,
        part: Range<u64>,
    ) -> Result<Option<Object>, StoreError> {
        self.open_key(&content_key(id, version), part).await
    }

    async fn open_key(&self, place: &Key, part: Range<u64>) -> Result<Option<Object>, StoreError> {
        let options = GetOptions::new().with_range(Some(part));
        let measured = metrics::store("open");
        let found = self.found(self.objects.get_opts(place, options)).await;
        measured.end(found.is_ok());
        let found = found?;
        Ok(found.map(|found| Object::new(found, self.is_remote())))
    }

    /// Deletes content 0 of the image `id` and the image's sidecar durably. A missing object counts
    /// as deleted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete(&self, id: &ImageId) -> Result<(), StoreError> {
        match self.delete_many(std::slice::from_ref(id)).await.failure {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// Deletes content 0 of these images and the images' sidecars durably, in bulk. Missing objects
    /// count as deleted. [`Store::delete_contents`] deletes later contents.
    pub async fn delete_many(&self, ids: &[ImageId]) -> Deleted {
        let measured = metrics::store("delete");
        let deleted = self.delete_each(ids).await;
        measured.end(deleted.failure.is_none());
        deleted
    }

    async fn delete_each(&self, ids: &[ImageId]) -> Deleted {
        if let Backend::Local(root) = &self.place {
            return delete_local(root, ids).await;
        }
        let mut deleted = Deleted::default();
        for ids in ids.chunks(IMAGES_A_DELETE) {
            self.delete_remote(ids, &mut deleted).await;
        }
        deleted
    }

    /// Deletes unfinished files that a stopped process left while it wrote these images. Only a
    /// local store has any: other stores write an object as a whole or not at all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_drafts(&self, ids: &[ImageId]) -> Result<(), StoreError> {
        let Backend::Local(root) = &self.place else {
            return Ok(());
        };
        let drafts = |id: &ImageId| {
            let sidecar = format!("{SIDECAR}{SIDECAR_DRAFT}");
            [IMAGE_DRAFT, &sidecar].map(|end| format!("{}{end}", key(id)))
        };
        let files = ids.iter().flat_map(drafts).map(|name| root.join(name));
        let outcomes = local::delete(root, files.collect()).await?;
        Ok(outcomes
            .into_iter()
            .try_for_each(|outcome| outcome.map(|_| ()))?)
    }

    /// Deletes in one request where the store supports it. Its answer doesn't say which objects
    /// existed.
    async fn delete_remote(&self, ids: &[ImageId], deleted: &mut Deleted) {
        let keys = ids.iter().flat_map(|id| [key(id), sidecar_key(id)]);
        let (gone, failure) = self.delete_keys(keys.collect()).await;
        for id in ids {
            if gone.contains(&key(id)) && gone.contains(&sidecar_key(id)) {
                deleted.gone.push(id.clone());
            } else {
                deleted.left.push(id.clone());
            }
        }
        deleted.failure = deleted.failure.take().or(failure);
    }

    /// Deletes these keys. Returns those that don't exist any more, and why others may.
    async fn delete_keys(&self, keys: Vec<Key>) -> (HashSet<Key>, Option<StoreError>) {
        let (all, wanted) = (keys.len(), stream::iter(keys.clone().into_iter().map(Ok)));
        // The results are in the order of the keys, unless a request failed as a whole.
        let results = self.objects.delete_stream(wanted.boxed());
        let (mut gone, mut failure) = (HashSet::new(), None);
        let collected = results.zip(stream::iter(keys)).for_each(|(result, place)| {
            match result {
                Ok(_) => {
                    gone.insert(place);
                }
                // A bucket that doesn't exist gives the same answer for every key, which must not
                // count as success.
                Err(error) if is_missing_key(&error) => {
                    gone.insert(place);
                }
                Err(error) => failure = Some(StoreError::of(error, self.is_remote())),
            }
            std::future::ready(())
        });
        let deadline = self.deadline().map(|deadline| deadline * DELETE_FACTOR);
        if let Some(deadline) = deadline {
            if tokio::time::timeout(deadline, collected).await.is_err() {
                failure = Some(StoreError::Late(deadline));
            }
        } else {
            collected.await;
        }
        if failure.is_none() && gone.len() < all {
            let why = "it did not confirm all of the deletes".to_owned();
            failure = Some(StoreError::Remote(why));
        }
        (gone, failure)
    }

    /// Returns the size of a content of the image `id` in bytes; `None` when there is no such
    /// object.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn size(&self, id: &ImageId, version: u32) -> Result<Option<u64>, StoreError> {
        self.size_of(&content_key(id, version)).await
    }

    async fn size_of(&self, place: &Key) -> Result<Option<u64>, StoreError> {
        let found = self.found(self.objects.head(place)).await?;
        Ok(found.map(|found| found.size))
    }

    /// Whether the image `id` has an object of content 0 or a sidecar.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_there(&self, id: &ImageId) -> Result<bool, StoreError> {
        let place = sidecar_key(id);
        let sidecar = self.found(self.objects.head(&place)).await?;
        Ok(sidecar.is_some() || self.size(id, 0).await?.is_some())
    }

    /// Lists every object under the prefix of images, in no order. Only for `pixtoll store audit`.
    pub fn list(&self) -> BoxStream<'static, Result<Listed, StoreError>> {
        let is_remote = self.is_remote();
        self.objects
            .list(Some(&Key::from(IMAGES)))
            .map(move |listed| match listed {
                Ok(listed) => Ok(Listed::of(&listed.location)),
                Err(error) => Err(StoreError::of(error, is_remote)),
            })
            .boxed()
    }

    /// Moves a content of the image `id` and the image's sidecar to the quarantine, from which
    /// nothing is served.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn quarantine(
        &self,
        id: &ImageId,
        version: u32,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for from in [sidecar_key(id), content_key(id, version)] {
            let name = from.filename().unwrap_or_default();
            let to = Key::from(format!("{QUARANTINE}/{}/{name}", now.millis()));
            self.found(self.objects.rename(&from, &to)).await?;
        }
        Ok(())
    }

    /// Deletes objects that came into quarantine before `before`. Returns their number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn purge_quarantine(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut purged = 0;
        let mut objects = self.objects.list(Some(&Key::from(QUARANTINE)));
        while let Some(object) = objects.next().await {
            let place = object
                .map_err(|error| StoreError::of(error, self.is_remote()))?
                .location;
            let came: Option<i64> = place
                .parts()
                .nth(1)
                .and_then(|part| part.as_ref().parse().ok());
            if came.is_some_and(|came| came < before.millis()) {
                self.found(self.objects.delete(&place)).await?;
                purged += 1;
            }
        }
        Ok(purged)
    }

    /// Finds the mark of the database that this store belongs to; `None`: there is none.
    ///
    /// # Errors
    /// [`StoreError`], also when the object is not a mark.
    pub async fn find_mark(&self) -> Result<Option<Mark>, StoreError> {
        let Some(found) = self.read_small(&Key::from(MARK)).await? else {
            return Ok(None);
        };
        let mark = Mark::parse(&found).ok_or_else(|| object_store::Error::Generic {
            store: MARK,
            source: "it is not the mark of a database".into(),
        })?;
        Ok(Some(mark))
    }

    /// Writes the mark of the database that this store belongs to, and replaces an older one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_mark(&self, mark: &Mark) -> Result<(), StoreError> {
        let (place, bytes) = (Key::from(MARK), PutPayload::from(mark.to_bytes()));
        self.within(self.objects.put(&place, bytes)).await?;
        Ok(())
    }

    /// Checks that the store answers and that an object could be written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        let probe = Key::from("probe/readiness");
        let bytes = PutPayload::from_static(b"pixtoll");
        let put = self.within(self.objects.put(&probe, bytes));
        if !self.is_remote() {
            put.await?;
            return Ok(());
        }
        match tokio::time::timeout(PING, put).await {
            Ok(put) => put.map(|_| ()),
            Err(_) => Err(StoreError::Late(PING)),
        }
    }

    /// The time of the store's server. `None`: a local store, which has no clock but this
    /// machine's.
    ///
    /// # Errors
    /// What the server answered instead, for the operator.
    pub async fn date(&self) -> Option<Result<Timestamp, String>> {
        match &self.place {
            Backend::S3(remote) => Some(remote.bucket.date().await),
            Backend::Local(_) | Backend::Memory => None,
        }
    }

    fn is_remote(&self) -> bool {
        matches!(self.place, Backend::S3(_))
    }

    /// How long a request may take, with all retries. A local store has no deadline.
    fn deadline(&self) -> Option<Duration> {
        match &self.place {
            Backend::S3(remote) => Some(remote.bucket.timeout()),
            Backend::Local(_) | Backend::Memory => None,
        }
    }

    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, StoreError> {
        let done = match self.deadline() {
            None => work.await,
            Some(deadline) => tokio::time::timeout(deadline, work)
                .await
                .map_err(|_| StoreError::Late(deadline))?,
        };
        done.map_err(|error| StoreError::of(error, self.is_remote()))
    }

    /// Like [`Store::within`]; `None`: there is no such object.
    async fn found<T>(
        &self,
        work: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<Option<T>, StoreError> {
        let optional = async {
            match work.await {
                Ok(found) => Ok(Some(found)),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        self.within(optional).await
    }

    /// Reads all of a small object; `None`: there is none.
    async fn read_small(&self, place: &Key) -> Result<Option<Bytes>, StoreError> {
        self.found(async { self.objects.get(place).await?.bytes().await })
            .await
    }
}

/// The sidecar of an image, to be written into a local store.
fn sidecar_of(root: &Path, id: &ImageId, sidecar: &Sidecar) -> local::New {
    local::New {
        file: sidecar_file(root, id),
        draft: SIDECAR_DRAFT,
        bytes: Bytes::from(sidecar.to_bytes()),
    }
}
