//! Variants in the store. A row is written before its object, and an object that is missing is made
//! again, so a server that stops in between leaves nothing that can't be served.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::making::Made;
use super::{Job, Shown, VariantError, Variants};
use crate::db::DbError;
use crate::db::variants::{self as rows, Bounds, StoredVariant};
use crate::images::UploadError;
use crate::images::hot::{Kept, LARGEST, Labels, read_whole};
use crate::model::image::Image;
use crate::model::variant::{Size, Variant};
use crate::system::kill::kill_point;
use crate::system::metrics;

/// The variants of an image may take as many bytes as this many times the image.
const TIMES_THE_IMAGE: u64 = 4;
/// The variants of an image may take this many bytes, however small the image is.
const LEAST_BYTES: u64 = 1 << 20;

impl Variants {
    /// Finds the variant in the store. Reads all bytes of one that is small.
    pub(super) async fn find_stored(&self, job: &Job) -> Result<Option<Shown>, VariantError> {
        let (id, name) = &job.key;
        let Some(row) = rows::find(&self.images.db, id, name).await? else {
            return Ok(None);
        };
        let (size_bytes, store) = (row.size_bytes, &self.images.store);
        let content_type = job.variant.output.content_type();
        let labels = Labels::of_variant(&job.image, row.sha256.clone(), size_bytes, content_type);
        let labels = Arc::new(labels);
        if size_bytes > LARGEST {
            let is_there = store.variant_size(id, &row.sha256).await? == Some(size_bytes);
            let bytes = None;
            return Ok(is_there.then_some(Shown { labels, bytes }));
        }
        let Some(object) = store.open_variant(id, &row.sha256, 0..size_bytes).await? else {
            return Ok(None);
        };
        let Some(bytes) = read_whole(object, size_bytes).await else {
            return Ok(None);
        };
        self.counters.loaded.fetch_add(1, Ordering::Relaxed);
        metrics::variant("loaded");
        if self.is_kept(job, size_bytes) {
            let kept = Kept {
                labels: Arc::clone(&labels),
                bytes: bytes.clone(),
            };
            self.images.hot.keep_variant(job.key.clone(), kept);
        }
        let bytes = Some(bytes);
        Ok(Some(Shown { labels, bytes }))
    }

    /// Stores a variant that was made now, within the bounds of its image. If that fails, the next
    /// request that finds it neither in memory nor in the store makes it again.
    pub(super) async fn keep(&self, job: &Job, made: Made) {
        let image = &job.image;
        // A full disk is logged there.
        if self.images.has_room().is_err() {
            return;
        }
        match self.store(job, made).await {
            Ok(true) => {
                self.counters.stored.fetch_add(1, Ordering::Relaxed);
                metrics::variant("stored");
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(image.id = %image.id, variant = job.key.1, %error, "a variant could not be stored; it is made again when it is asked for");
            }
        }
    }

    async fn store(&self, job: &Job, made: Made) -> Result<bool, UploadError> {
        let (db, store) = (&self.images.db, &self.images.store);
        let Made {
            sha256,
            width,
            height,
            bytes,
        } = made;
        let variant = StoredVariant {
            image: job.image.id.clone(),
            name: job.key.1.clone(),
            sha256,
            size_bytes: crate::images::length(&bytes),
            width,
            height,
        };
        kill_point!("variant.insert.before");
        if !self.claim(job, &variant).await? {
            return Ok(false);
        }
        kill_point!("variant.insert.after");
        let (id, sha256) = (&variant.image, &variant.sha256);
        if let Err(error) = store.put_variant(id, sha256, bytes).await {
            // The object may exist all the same, so its row stays.
            return Err(error.into());
        }
        kill_point!("variant.put.after");
        if rows::is_wanted(db, &variant, job.image.version).await? {
            return Ok(true);
        }
        // The image was deleted or replaced meanwhile. Its reaper deletes the object a second time
        // later, in case that this process dies here.
        let gone = [(variant.image.clone(), variant.sha256.clone())];
        store.delete_variants(&gone).await?;
        Ok(false)
    }

    /// Writes the row of a variant. `false`: the object must not be stored.
    async fn claim(&self, job: &Job, variant: &StoredVariant) -> Result<bool, DbError> {
        let (db, now) = (&self.images.db, self.images.clock.now());
        if rows::insert(
            db,
            variant,
            job.image.version,
            bounds(&job.image, &job.variant, self.per_image()),
            now,
        )
        .await?
        {
            return Ok(true);
        }
        let Some(found) = rows::find(db, &variant.image, &variant.name).await? else {
            return Ok(false);
        };
        if found.sha256 == variant.sha256 {
            // The object is missing, or another server stores the same one now.
            return Ok(true);
        }
        // A row of another version of this program, whose object is missing.
        rows::forget(db, &found).await?;
        Ok(false)
    }

    const fn per_image(&self) -> u32 {
        self.settings.per_image
    }
}

/// How much of an image's variants may be stored beside this one. The named sizes have a place in
/// any case, and half of the bytes for themselves, so that nobody fills all of it with others.
fn bounds(image: &Image, variant: &Variant, per_image: u32) -> Bounds {
    let bytes = image.size_bytes.saturating_mul(TIMES_THE_IMAGE);
    let bytes = bytes.max(LEAST_BYTES);
    let is_named = Size::ALL.into_iter().any(|size| {
        let named = size.variant(variant.output);
        named.simplified(image.width, image.height) == *variant
    });
    if is_named && per_image > 0 {
        let count = u32::MAX;
        return Bounds { count, bytes };
    }
    Bounds {
        count: per_image,
        bytes: bytes / 2,
    }
}
