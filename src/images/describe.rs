//! Keeps the sidecar of each stored image up to date. The sidecar is the record beside the object
//! from which the image's row can be restored.
//!
//! It is rewritten when the expiry, the tier or the serial of signed links changes: at once, or later if that failed or the
//! process died.

use crate::db::{Db, images};
use crate::images::UploadError;
use crate::model::ids::ImageId;
use crate::model::image::ImageState;
use crate::model::sidecar::Sidecar;
use crate::store::Store;

/// How many images one query returns. [`all`] stops after [`MOST`] images.
const PAGE: u32 = 100;
const MOST: u32 = 1_000;
/// [`all`] tolerates this number of failures in a row, then returns the next error.
const MOST_FAILURES: u32 = 20;

/// Writes the sidecar of an image from its row, and repeats it until no other change came in
/// between. If the image is no longer public, its object and its sidecar are deleted.
///
/// # Errors
/// [`UploadError`] if the database or the store fails.
pub async fn one(db: &Db, store: &Store, id: &ImageId) -> Result<(), UploadError> {
    let mut is_written = false;
    loop {
        // Read before the row, so that `note_described` notices any later change of the row.
        let undescribed = images::count_undescribed(db, id).await?;
        let row = images::find(db, id).await?;
        let image = match row {
            Some(image) if image.state == ImageState::Live => image,
            // Its object and its sidecar belong to the operator's removal.
            Some(image) if image.state == ImageState::Removed => return Ok(()),
            _ => {
                // The image was deleted after this loop wrote its sidecar, so the sidecar may be
                // left over.
                if is_written {
                    store.delete(id).await?;
                }
                return Ok(());
            }
        };
        // A write that failed may still have reached the store.
        is_written = true;
        let described = store.describe(id, &Sidecar::of(&image)).await;
        // If the count moved, another writer may have stored a newer sidecar that this one
        // replaced: write again.
        let is_noted = described.is_ok() && images::note_described(db, id, undescribed).await?;
        if (is_noted || described.is_err()) && is_live(db, id).await? {
            return Ok(described?);
        }
    }
}

async fn is_live(db: &Db, id: &ImageId) -> Result<bool, UploadError> {
    let row = images::find(db, id).await?;
    Ok(row.is_some_and(|image| image.state == ImageState::Live))
}

/// Rewrites the sidecars that are out of date, at most 1,000 in one call. Returns how many were
/// written. The next call retries the images that failed and those above that number.
///
/// # Errors
/// [`UploadError`] if the database fails, or if the store fails for more than 20 images in a row.
pub async fn all(db: &Db, store: &Store) -> Result<u64, UploadError> {
    let (mut written, mut in_a_row, mut last) = (0, 0, String::new());
    for _ in 0..MOST / PAGE {
        let page = images::find_undescribed(db, &last, PAGE).await?;
        let Some(end) = page.last() else {
            break;
        };
        end.as_str().clone_into(&mut last);
        for id in page {
            match one(db, store, &id).await {
                Ok(()) => {
                    written += 1;
                    in_a_row = 0;
                }
                // This many failures in a row mean that the store is at fault, and not these
                // images.
                Err(error) if in_a_row == MOST_FAILURES => return Err(error),
                Err(error) => {
                    tracing::warn!(image.id = %id, %error, "the sidecar of an image could not be written; the reaper retries it");
                    in_a_row += 1;
                }
            }
        }
    }
    Ok(written)
}
