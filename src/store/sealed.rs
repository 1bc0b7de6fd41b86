//! The sealed prefix: the content of images that the operator holds. No route serves it, no job
//! deletes it, and it is not under the prefix of images.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, PutPayload};

use super::keys::{SEALED, SIDECAR, content_key, sealed_key, sidecar_key};
use super::{Object, Store, StoreError};
use crate::model::ids::ImageId;
use crate::model::sidecar::Sidecar;

impl Store {
    /// Moves a content of an image and the image's sidecar to the sealed prefix. What is there
    /// already stays. Returns the size of the sealed object in bytes; `None`: the store has no such
    /// object in either place.
    ///
    /// # Errors
    /// [`StoreError`]. It can be run again.
    pub async fn seal(&self, id: &ImageId, version: u32) -> Result<Option<u64>, StoreError> {
        for (from, to) in moved(id, version) {
            self.found(self.objects.rename(&from, &to)).await?;
        }
        self.sealed_size(id).await
    }

    /// Copies the sealed object of an image and its sidecar back to where images are served from,
    /// as content `version`. `false`: there is no sealed object.
    ///
    /// # Errors
    /// [`StoreError`]. It can be run again.
    pub async fn copy_from_seal(&self, id: &ImageId, version: u32) -> Result<bool, StoreError> {
        let mut is_there = false;
        for (to, from) in moved(id, version) {
            is_there = self.found(self.objects.copy(&from, &to)).await?.is_some();
        }
        Ok(is_there)
    }

    /// Deletes the sealed object of an image and its sidecar. A missing object counts as deleted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_sealed(&self, id: &ImageId) -> Result<(), StoreError> {
        for suffix in ["", SIDECAR] {
            let place = Key::from(format!("{}{suffix}", sealed_key(id)));
            self.found(self.objects.delete(&place)).await?;
        }
        Ok(())
    }

    /// Returns the size of the sealed object of an image in bytes; `None`: there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sealed_size(&self, id: &ImageId) -> Result<Option<u64>, StoreError> {
        let place = sealed_key(id);
        let found = self.found(self.objects.head(&place)).await?;
        Ok(found.map(|found| found.size))
    }

    /// Opens all of the sealed object of an image; `None`: there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_sealed(&self, id: &ImageId) -> Result<Option<Object>, StoreError> {
        let place = sealed_key(id);
        let found = self.found(self.objects.get(&place)).await?;
        Ok(found.map(|found| Object::new(found, self.is_remote())))
    }

    /// Stores a sealed object with its sidecar, durably, in a copy of another store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_sealed(
        &self,
        id: &ImageId,
        bytes: Bytes,
        sidecar: &Sidecar,
    ) -> Result<(), StoreError> {
        let parts = [(SIDECAR, sidecar.to_bytes().into()), ("", bytes)];
        for (suffix, bytes) in parts {
            let place = Key::from(format!("{}{suffix}", sealed_key(id)));
            let bytes = PutPayload::from_bytes(bytes);
            self.within(self.objects.put(&place, bytes)).await?;
        }
        Ok(())
    }

    /// Lists the images with sealed objects, in no order.
    pub fn list_sealed(&self) -> BoxStream<'static, Result<ImageId, StoreError>> {
        let is_remote = self.is_remote();
        self.objects
            .list(Some(&Key::from(SEALED)))
            .filter_map(move |listed| {
                let id = match listed {
                    Ok(listed) => listed.location.filename().and_then(ImageId::parse).map(Ok),
                    Err(error) => Some(Err(StoreError::of(error, is_remote))),
                };
                std::future::ready(id)
            })
            .boxed()
    }
}

/// The keys of an image's sidecar and of its content, each with its key under the sealed prefix.
fn moved(id: &ImageId, version: u32) -> [(Key, Key); 2] {
    let sealed = sealed_key(id);
    let sidecar = Key::from(format!("{sealed}{SIDECAR}"));
    [
        (sidecar_key(id), sidecar),
        (content_key(id, version), sealed),
    ]
}
