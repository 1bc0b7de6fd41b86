//! The objects of variants, which lie beside the object of their image. Their rows name them.

use std::ops::Range;

use bytes::Bytes;
use object_store::path::Path as Key;

use super::deleted::delete_local_files;
use super::keys::{variant_file, variant_key};
use super::{Backend, IMAGE_DRAFT, Object, Store, StoreError, local};
use crate::model::ids::ImageId;

/// Variants in one delete request. S3 takes 1,000 keys.
const VARIANTS_A_DELETE: usize = 1000;

impl Store {
    /// Stores a variant of the image `id`, by the SHA-256 of its bytes. It is durable when this
    /// returns.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_variant(
        &self,
        id: &ImageId,
        sha256: &str,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        self.refuse_unchecked()?;
        if let Backend::Local(root) = &self.place {
            let variant = local::New {
                file: variant_file(root, id, sha256),
                draft: IMAGE_DRAFT,
                bytes,
            };
            return Ok(local::write(vec![variant]).await?);
        }
        self.put_object(&variant_key(id, sha256), bytes).await
    }

    /// Opens the byte range `part` of a variant; `None` when there is no such object.
    ///
    /// # Errors
    /// [`StoreError`], also when the object has none of these bytes.
    pub async fn open_variant(
        &self,
        id: &ImageId,
        sha256: &str,
        part: Range<u64>,
    ) -> Result<Option<Object>, StoreError> {
        self.open_key(&variant_key(id, sha256), part).await
    }

    /// Returns the size of a variant in bytes; `None` when there is no such object.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn variant_size(
        &self,
        id: &ImageId,
        sha256: &str,
    ) -> Result<Option<u64>, StoreError> {
        self.size_of(&variant_key(id, sha256)).await
    }

    /// Deletes variants, each named by its image and its SHA-256, durably and in bulk. Missing
    /// objects count as deleted.
    ///
    /// # Errors
    /// [`StoreError`]; any of them may exist then.
    pub async fn delete_variants(&self, variants: &[(ImageId, String)]) -> Result<(), StoreError> {
        if variants.is_empty() {
            return Ok(());
        }
        if let Backend::Local(root) = &self.place {
            let files = variants
                .iter()
                .map(|(id, sha256)| variant_file(root, id, sha256));
            return Ok(delete_local_files(root, files.collect()).await?);
        }
        for part in variants.chunks(VARIANTS_A_DELETE) {
            // Variants with the same bytes share an object.
            let mut keys: Vec<Key> = part
                .iter()
                .map(|(id, sha256)| variant_key(id, sha256))
                .collect();
            keys.sort_unstable();
            keys.dedup();
            if let (_, Some(failure)) = self.delete_keys(keys).await {
                return Err(failure);
            }
        }
        Ok(())
    }
}
