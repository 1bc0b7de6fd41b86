//! Deletes the variants of images that are being deleted. Their rows name their objects.
//!
//! A server that is making a variant may have written its row and not yet its object. So the objects
//! of young rows are deleted a second time, when no server can be writing them any more.

use std::time::Duration;

use crate::db::variants::{self as rows, StoredVariant};
use crate::db::{Db, DbError};
use crate::model::ids::ImageId;
use crate::model::variant::content_of;
use crate::store::{Store, StoreError};
use crate::system::clock::Timestamp;

/// How long after its row an object may still be written.
pub const SETTLED_AFTER: Duration = Duration::from_mins(10);
/// How many variants are deleted a second time in one run.
const MOST: u32 = 1000;

/// Why objects could not be deleted. They stay due.
#[derive(Debug, thiserror::Error)]
pub enum Left {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Deletes all variants of these images, which must not be served any more. Call it before the
/// images' own objects are deleted or moved.
///
/// # Errors
/// [`Left`].
pub async fn delete_of(
    db: &Db,
    store: &Store,
    images: &[ImageId],
    now: Timestamp,
) -> Result<(), Left> {
    let variants = rows::find_of(db, images).await?;
    if variants.is_empty() {
        return Ok(());
    }
    store.delete_variants(&objects(&variants)).await?;
    rows::mark_gone(db, images, now.minus(SETTLED_AFTER), now).await?;
    Ok(())
}

/// Deletes the variants of all contents of an image but content `version`.
///
/// # Errors
/// [`Left`].
pub async fn delete_replaced(
    db: &Db,
    store: &Store,
    image: &ImageId,
    version: u32,
    now: Timestamp,
) -> Result<(), Left> {
    let all = rows::find_of(db, std::slice::from_ref(image)).await?;
    let (kept, replaced): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|variant| content_of(&variant.name) == version);
    let mut gone = objects(&replaced);
    // Variants with the same bytes share an object.
    gone.retain(|(_, sha256)| kept.iter().all(|variant| variant.sha256 != *sha256));
    store.delete_variants(&gone).await?;
    for variant in &replaced {
        rows::mark_replaced(db, variant, now.minus(SETTLED_AFTER), now).await?;
    }
    Ok(())
}

/// Deletes variants a second time whose rows were young when they were deleted first. Returns how
/// many.
///
/// # Errors
/// [`Left`].
pub async fn delete_again(db: &Db, store: &Store, now: Timestamp) -> Result<usize, Left> {
    let variants = rows::find_deleted(db, now.minus(SETTLED_AFTER), MOST).await?;
    store.delete_variants(&objects(&variants)).await?;
    for variant in &variants {
        rows::forget(db, variant).await?;
    }
    Ok(variants.len())
}

fn objects(variants: &[StoredVariant]) -> Vec<(ImageId, String)> {
    let object = |variant: &StoredVariant| (variant.image.clone(), variant.sha256.clone());
    variants.iter().map(object).collect()
}
