//! The record beside an image's object is written anew when its expiry or its tier moves: at once, and later where
//! that failed, or the process died first.

use crate::db::{Db, images};
use crate::ids::ImageId;
use crate::images::UploadError;
use crate::model::image::ImageState;
use crate::model::sidecar::Sidecar;
use crate::store::Store;

/// How many images are looked up at a time.
const PAGE: u32 = 100;

/// Writes the record of an image as its row is now, until nobody has changed that meanwhile. The record of one that isn't
/// there any more goes with its object.
///
/// # Errors
/// [`UploadError`], when database or store fails.
pub async fn one(db: &Db, store: &Store, id: &ImageId) -> Result<(), UploadError> {
    loop {
        // Before the row: a change after this is found by the note.
        let undescribed = images::count_undescribed(db, id).await?;
        let row = images::find(db, id).await?;
        let Some(image) = row.filter(|image| image.state == ImageState::Live) else {
            return Ok(());
        };
        store.describe(id, &Sidecar::of(&image)).await?;
        // Otherwise somebody may have written what was newer before this was.
        if images::note_described(db, id, undescribed).await? {
            // A delete may have come and gone while this was written.
            let row = images::find(db, id).await?;
            if row.is_none_or(|image| image.state != ImageState::Live) {
                store.delete(id).await?;
            }
            return Ok(());
        }
    }
}

/// Writes the records of all images that are behind. How many that were.
///
/// # Errors
/// [`UploadError`], when database or store fails; then the rest stays behind.
pub async fn all(db: &Db, store: &Store) -> Result<u64, UploadError> {
    let (mut written, mut last) = (0, String::new());
    loop {
        let page = images::find_undescribed(db, &last, PAGE).await?;
        let Some(end) = page.last() else {
            return Ok(written);
        };
        end.as_str().clone_into(&mut last);
        for id in page {
            one(db, store, &id).await?;
            written += 1;
        }
    }
}
