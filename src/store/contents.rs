//! The objects of an image's later contents: a refresh stores each under a key of its own, and the
//! rows of the image say which one is served.

use bytes::Bytes;
use object_store::path::Path as Key;
use object_store::{ObjectStoreExt, PutPayload};

use super::deleted::delete_local_files;
use super::keys::{content_file, content_key};
use super::{Backend, IMAGE_DRAFT, Store, StoreError, local};
use crate::model::ids::ImageId;

/// Objects in one delete request. S3 takes 1,000 keys.
const CONTENTS_A_DELETE: usize = 1000;

impl Store {
    /// Stores content `version` of the image `id`. It is durable when this returns. The sidecar
    /// stays.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_content(
        &self,
        id: &ImageId,
        version: u32,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        self.refuse_unchecked()?;
        if let Backend::Local(root) = &self.place {
            let content = local::New {
                file: content_file(root, id, version),
                draft: IMAGE_DRAFT,
                bytes,
            };
            return Ok(local::write(vec![content]).await?);
        }
        self.put_object(&content_key(id, version), bytes).await
    }

    /// Stores an object of a store that is not local.
    pub(super) async fn put_object(&self, place: &Key, bytes: Bytes) -> Result<(), StoreError> {
        let put = self.objects.put(place, PutPayload::from_bytes(bytes));
        self.within(put).await?;
        Ok(())
    }

    /// Deletes contents, each named by its image and its number, durably and in bulk. Missing
    /// objects count as deleted. Sidecars stay.
    ///
    /// # Errors
    /// [`StoreError`]; any of them may exist then.
    pub async fn delete_contents(&self, contents: &[(ImageId, u32)]) -> Result<(), StoreError> {
        if contents.is_empty() {
            return Ok(());
        }
        if let Backend::Local(root) = &self.place {
            let files = contents
                .iter()
                .map(|(id, version)| content_file(root, id, *version));
            return Ok(delete_local_files(root, files.collect()).await?);
        }
        for part in contents.chunks(CONTENTS_A_DELETE) {
            let keys = part
                .iter()
                .map(|(id, version)| content_key(id, *version))
                .collect();
            if let (_, Some(failure)) = self.delete_keys(keys).await {
                return Err(failure);
            }
        }
        Ok(())
    }
}
