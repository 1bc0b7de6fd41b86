//! Restores expiry times and ended links from a store that survived its database. The sidecar of an
//! image has its expiry, including renewals that were paid after the backup, and the serial of its
//! signed links, including ends that the owner made after the backup. It names the content that a
//! refresh stored after the backup. Content that was sealed under a legal hold after the backup
//! stays removed.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};

use crate::db::blocks::NewBlocks;
use crate::db::removals::{self, Order};
use crate::db::{Db, copies, refreshes, retention};
use crate::model::admin_log::{Act, Entry};
use crate::model::image::Image;
use crate::model::removal::Ground;
use crate::store::Store;
use crate::system::clock::Timestamp;

/// How long content is preserved whose hold the backup doesn't know.
const PRESERVE: Duration = Duration::from_hours(365 * 24);
/// How many rows are read at a time.
const PAGE: u32 = 500;
/// How many sidecars are read at the same time.
const AT_ONCE: usize = 16;

/// Removes and holds each image whose content was sealed after the backup. The database of the
/// backup doesn't know the hold, and would serve the image again.
///
/// # Errors
/// When the database or the store doesn't answer. It can be run again.
pub async fn keep_sealed(db: &Db, store: &Store, now: Timestamp) -> anyhow::Result<()> {
    let mut sealed = store.list_sealed();
    while let Some(id) = sealed.next().await {
        let id = id?;
        let removal = removals::find(db, &id).await?;
        if removal.is_some_and(|removal| removal.held_at.is_some()) {
            continue;
        }
        let entry = Entry {
            actor: "pixtoll restore".to_owned(),
            act: Act::Hold,
            subject: id.to_string(),
            reason: "its content is sealed in the store, and the backup doesn't know why"
                .to_owned(),
            details: serde_json::json!({}),
        };
        let order = Order {
            ground: Some(Ground::Policy),
            hold_until: Some(now.plus(PRESERVE)),
            is_cached: false,
            entry: &entry,
            blocks: NewBlocks::default(),
        };
        removals::remove(db, &id, &order, now).await?;
    }
    Ok(())
}

/// Extends the expiry of each live image to its sidecar's, if that is later; never shortens it.
/// Otherwise the reaper would delete paid images before their payers could claim them. Signed links
/// that were ended stay ended, and images that were replaced since have the newer content.
/// Returns the number of extended images. The tier stays, since no renewal in the ledger set
/// another one.
///
/// # Errors
/// When the database or the store doesn't answer. It can be run again.
pub async fn keep_longer(db: &Db, store: &Store, now: Timestamp) -> anyhow::Result<u64> {
    let (mut longer, mut last) = (0, String::new());
    loop {
        let page = retention::page_live(db, &last, PAGE).await?;
        let Some(end) = page.last() else {
            return Ok(longer);
        };
        end.id.as_str().clone_into(&mut last);
        let mut kept = stream::iter(page)
            .map(async |image| keep_one_longer(db, store, &image, now).await)
            .buffer_unordered(AT_ONCE);
        while let Some(kept) = kept.next().await {
            longer += u64::from(kept?);
        }
    }
}

async fn keep_one_longer(
    db: &Db,
    store: &Store,
    image: &Image,
    now: Timestamp,
) -> anyhow::Result<bool> {
    let Some(published) = image.published_at else {
        return Ok(false);
    };
    let record = store.find_sidecar(&image.id).await?;
    let Some(record) = record else {
        return Ok(false);
    };
    // The object of the content that the backup knows is deleted.
    let later = record.later_content_of(image);
    if let Some(later) = &later {
        refreshes::adopt(db, later, now).await?;
    }
    let image = later.as_ref().unwrap_or(image);
    if let Some(serial) = record.link_serial_of(image) {
        copies::keep_links_ended(db, &image.id, serial).await?;
    }
    let Some(keep) = record.keep_of(image) else {
        return Ok(false);
    };
    Ok(copies::keep_longer(db, &image.id, keep.end(published)).await?)
}
