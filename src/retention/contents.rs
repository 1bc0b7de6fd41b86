//! Deletes the objects of contents that a refresh has replaced or never published, and those of
//! images that are deleted. The rows of refreshes say which numbers may have objects.

use std::sync::Arc;
use std::time::Duration;

use super::Retention;
use super::variants::{self, Left, SETTLED_AFTER};
use crate::db::contents::{self as rows, Unclean};
use crate::db::{Db, images};
use crate::model::ids::ImageId;
use crate::store::Store;
use crate::system::clock::Timestamp;
use crate::system::kill::kill_point;

/// How long a server has the objects of an image to itself.
const LEASE: Duration = Duration::from_mins(5);
/// How many images one look handles.
const MOST: u32 = 50;
/// How often a server looks.
const LOOK: Duration = Duration::from_secs(10);

/// Deletes all contents of these images but content 0. Call it before the images' rows are marked.
///
/// # Errors
/// [`Left`].
pub async fn delete_of(
    db: &Db,
    store: &Store,
    images: &[ImageId],
    now: Timestamp,
) -> Result<(), Left> {
    let found = rows::find_of(db, images).await?;
    if found.is_empty() {
        return Ok(());
    }
    let contents: Vec<_> = found.iter().flat_map(|it| contents(it, None)).collect();
    store.delete_contents(&contents).await?;
    let ids: Vec<ImageId> = found.into_iter().map(|it| it.image).collect();
    Ok(rows::mark_gone(db, &ids, now.plus(SETTLED_AFTER)).await?)
}

impl Retention {
    /// Deletes the objects of replaced and deleted contents that are due. Returns of how many
    /// images.
    ///
    /// # Errors
    /// [`Left`]. The objects stay due.
    pub async fn clean_contents(&self) -> Result<usize, Left> {
        let (db, now) = (&self.db, self.clock.now());
        if !rows::is_unclean(db, now).await? {
            return Ok(0);
        }
        let taken = rows::take_unclean(db, now, LEASE, MOST).await?;
        for unclean in &taken {
            kill_point!("refresh.clean.before");
            clean(db, &self.store, unclean, now).await?;
            kill_point!("refresh.clean.after");
        }
        Ok(taken.len())
    }

    /// Runs [`Retention::clean_contents`] every few seconds, until the future is dropped.
    pub async fn clean_contents_forever(self: Arc<Self>) {
        loop {
            match self.clean_contents().await {
                // More may wait.
                Ok(cleaned) if cleaned > 0 => continue,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "replaced contents of images could not be deleted; trying again in minutes");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn clean(db: &Db, store: &Store, unclean: &Unclean, now: Timestamp) -> Result<(), Left> {
    let id = &unclean.image;
    // Read after the number was counted: from then on no earlier one becomes the image's content.
    let image = images::find(db, id).await?;
    let version = image
        .filter(|_| !unclean.is_gone)
        .map(|image| image.version);
    store.delete_contents(&contents(unclean, version)).await?;
    match version {
        Some(version) => {
            variants::delete_replaced(db, store, id, version, now).await?;
            rows::note_clean(db, unclean, version).await?;
        }
        None => rows::erase_gone(db, id).await?,
    }
    Ok(())
}

/// The contents of an image that may have objects, except this one.
fn contents(unclean: &Unclean, except: Option<u32>) -> Vec<(ImageId, u32)> {
    (unclean.oldest..=unclean.newest)
        .filter(|version| Some(*version) != except)
        .map(|version| (unclean.image.clone(), version))
        .collect()
}
