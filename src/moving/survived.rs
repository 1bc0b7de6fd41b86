//! Restores expiry times and ended links from a store that survived its database. The sidecar of an
//! image has its expiry, including renewals that were paid after the backup, and the serial of its
//! signed links, including ends that the owner made after the backup.

use futures_util::stream::{self, StreamExt};

use crate::db::{Db, copies, retention};
use crate::model::image::Image;
use crate::store::Store;

/// How many rows are read at a time.
const PAGE: u32 = 500;
/// How many sidecars are read at the same time.
const AT_ONCE: usize = 16;

/// Extends the expiry of each live image to its sidecar's, if that is later; never shortens it.
/// Otherwise the reaper would delete paid images before their payers could claim them. Signed links
/// that were ended stay ended.
/// Returns the number of extended images. The tier stays, since no renewal in the ledger set
/// another one.
///
/// # Errors
/// When the database or the store doesn't answer. It can be run again.
pub async fn keep_longer(db: &Db, store: &Store) -> anyhow::Result<u64> {
    let (mut longer, mut last) = (0, String::new());
    loop {
        let page = retention::page_live(db, &last, PAGE).await?;
        let Some(end) = page.last() else {
            return Ok(longer);
        };
        end.id.as_str().clone_into(&mut last);
        let mut kept = stream::iter(page)
            .map(async |image| keep_one_longer(db, store, &image).await)
            .buffer_unordered(AT_ONCE);
        while let Some(kept) = kept.next().await {
            longer += u64::from(kept?);
        }
    }
}

async fn keep_one_longer(db: &Db, store: &Store, image: &Image) -> anyhow::Result<bool> {
    let Some(published) = image.published_at else {
        return Ok(false);
    };
    let record = store.find_sidecar(&image.id).await?;
    let Some(record) = record else {
        return Ok(false);
    };
    if let Some(serial) = record.link_serial_of(image) {
        copies::keep_links_ended(db, &image.id, serial).await?;
    }
    let Some(keep) = record.keep_of(image) else {
        return Ok(false);
    };
    Ok(copies::keep_longer(db, &image.id, keep.end(published)).await?)
}
