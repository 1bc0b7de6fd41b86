//! What a store that survived its database knows better than a backup: the record beside an object says how long
//! it is kept, renewals included that were paid since.

use futures_util::stream::{self, StreamExt};

use crate::db::{Db, copies, retention};
use crate::model::image::Image;
use crate::store::Store;

/// Rows that are read at a time.
const PAGE: u32 = 500;
/// Records that are read at the same time.
const AT_ONCE: usize = 16;

/// Moves the expiry of each live image to where the record in the store has it, where that is later, and never to an
/// earlier one: the reaper would delete what is paid for before its payer could come for his credit. How many images
/// these were. The tier stays: no renewal in the ledger gave another one.
///
/// # Errors
/// When the database or the store doesn't answer; may be done again.
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
    let Some(keep) = record.and_then(|record| record.keep_of(image)) else {
        return Ok(false);
    };
    Ok(copies::keep_longer(db, &image.id, keep.end(published)).await?)
}
