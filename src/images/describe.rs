//! The record beside an image's object is written anew when its expiry or its tier moves: at once, and later where
//! that failed, or the process died first.

use crate::db::{Db, images};
use crate::ids::ImageId;
use crate::images::UploadError;
use crate::model::image::{Image, ImageState};
use crate::model::sidecar::Sidecar;
use crate::store::Store;

/// How many images are looked up at a time, and in one go.
const PAGE: u32 = 100;
const MOST: u32 = 1_000;
/// So many that fail one after the other are passed over.
const MOST_FAILURES: u32 = 20;

/// Writes the record of an image as its row is now, until nobody has changed that meanwhile. The record of one that isn't
/// there any more goes with its object.
///
/// # Errors
/// [`UploadError`], when database or store fails.
pub async fn one(db: &Db, store: &Store, id: &ImageId) -> Result<(), UploadError> {
    let mut is_written = false;
    loop {
        // Before the row: a change after this is found by the note.
        let undescribed = images::count_undescribed(db, id).await?;
        let Some(image) = find_live(db, id).await? else {
            // A delete has come, and may have gone, while this was written.
            if is_written {
                store.delete(id).await?;
            }
            return Ok(());
        };
        // What failed may have been written all the same.
        is_written = true;
        let described = store.describe(id, &Sidecar::of(&image)).await;
        // Otherwise somebody may have written what was newer before this was.
        let is_noted = described.is_ok() && images::note_described(db, id, undescribed).await?;
        if (is_noted || described.is_err()) && find_live(db, id).await?.is_some() {
            return Ok(described?);
        }
    }
}

async fn find_live(db: &Db, id: &ImageId) -> Result<Option<Image>, UploadError> {
    let row = images::find(db, id).await?;
    Ok(row.filter(|image| image.state == ImageState::Live))
}

/// Writes the records of images that are behind: of the first thousand of them, since somebody waits. How many that
/// were; the others, and those that failed, stay behind.
///
/// # Errors
/// [`UploadError`], when the database doesn't say which they are, or the store takes none of several in a row.
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
                // The store, and not these images, is what fails.
                Err(error) if in_a_row == MOST_FAILURES => return Err(error),
                Err(error) => {
                    tracing::warn!(image.id = %id, %error, "the record beside an image stays behind");
                    in_a_row += 1;
                }
            }
        }
    }
    Ok(written)
}
