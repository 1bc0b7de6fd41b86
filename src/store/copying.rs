//! What copies of a whole store need besides its images: sidecars, the quarantine, notes of copies
//! and restores, and whether the store is empty.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, PutPayload};

use super::keys::{IMAGES, QUARANTINE, content_key, sidecar_key};
use super::{Object, Store, StoreError};
use crate::model::ids::ImageId;
use crate::model::mark::Mark;
use crate::model::sidecar::Sidecar;

/// The key of the note on the progress of a copy from another store. It is not under the prefix of
/// images.
const NOTE: &str = "copy.json";
/// The key of the note that a restore into this store is unfinished.
const RESTORE: &str = "restore.json";

impl Store {
    /// Opens all of a content of the image `id`, whatever its size; `None` when there is no such
    /// object.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_whole(
        &self,
        id: &ImageId,
        version: u32,
    ) -> Result<Option<Object>, StoreError> {
        let place = content_key(id, version);
        let found = self.found(self.objects.get(&place)).await?;
        Ok(found.map(|found| Object::new(found, self.is_remote())))
    }

    /// Finds the sidecar of an image; `None`: there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_sidecar(&self, id: &ImageId) -> Result<Option<Sidecar>, StoreError> {
        let found = self.read_small(&sidecar_key(id)).await?;
        Ok(found.as_deref().and_then(Sidecar::parse))
    }

    /// Whether there are no objects under the prefix of images.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_no_images(&self) -> Result<bool, StoreError> {
        let mut listed = self.objects.list(Some(&Key::from(IMAGES)));
        let first = listed.next().await.transpose();
        let first = first.map_err(|error| StoreError::of(error, self.is_remote()))?;
        Ok(first.is_none())
    }

    /// Lists the quarantine: each key and its size in bytes.
    pub fn list_quarantine(&self) -> BoxStream<'static, Result<(String, u64), StoreError>> {
        let is_remote = self.is_remote();
        self.objects
            .list(Some(&Key::from(QUARANTINE)))
            .map(move |listed| match listed {
                Ok(listed) => Ok((listed.location.to_string(), listed.size)),
                Err(error) => Err(StoreError::of(error, is_remote)),
            })
            .boxed()
    }

    /// Reads the object under a key of [`Store::list_quarantine`]; `None`: it is gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_in_quarantine(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.read_small(&Key::from(key)).await
    }

    /// Stores bytes under a key of another store's [`Store::list_quarantine`], durably.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_in_quarantine(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.put_small(&Key::from(key), bytes).await
    }

    /// Finds the note of a copy that fills this store; `None`: there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_note(&self) -> Result<Option<Bytes>, StoreError> {
        self.read_small(&Key::from(NOTE)).await
    }

    /// Writes the note on the progress of a copy that fills this store, and replaces an older one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_note(&self, note: Bytes) -> Result<(), StoreError> {
        self.put_small(&Key::from(NOTE), note).await
    }

    /// Finds the mark of an unfinished restore that began when this store was empty; `None`: there
    /// is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_restore_note(&self) -> Result<Option<Mark>, StoreError> {
        let found = self.read_small(&Key::from(RESTORE)).await?;
        Ok(found.as_deref().and_then(Mark::parse))
    }

    /// Records that a restore into this empty store begins, with the mark that it writes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_restore_note(&self, mark: &Mark) -> Result<(), StoreError> {
        self.put_small(&Key::from(RESTORE), mark.to_bytes().into())
            .await
    }

    /// Removes the note of [`Store::put_restore_note`]. A missing note is no error.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_restore_note(&self) -> Result<(), StoreError> {
        let place = Key::from(RESTORE);
        self.found(self.objects.delete(&place)).await?;
        Ok(())
    }

    async fn put_small(&self, place: &Key, bytes: Bytes) -> Result<(), StoreError> {
        let bytes = PutPayload::from_bytes(bytes);
        self.within(self.objects.put(place, bytes)).await?;
        Ok(())
    }
}
