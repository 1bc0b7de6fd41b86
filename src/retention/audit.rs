//! Whether rows and objects agree, both ways. Beside a running server: what doesn't agree is looked at
//! again, since it may be under way.

use std::time::Duration;

use futures_util::StreamExt;

use crate::clock::Timestamp;
use crate::db::{Db, images, retention as rows};
use crate::ids::ImageId;
use crate::model::image::ImageState;
use crate::store::{Listed, Store};

/// How long an object without a row stays in quarantine.
const QUARANTINE: Duration = Duration::from_hours(30 * 24);
/// Rows that are read at a time.
const PAGE: u32 = 500;

/// Something that doesn't agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A live image whose object is lost.
    NoObject {
        /// The image.
        id: ImageId,
    },
    /// A live image whose object has another length.
    OtherSize {
        /// The image.
        id: ImageId,
        /// By its row.
        row: u64,
        /// In the store.
        object: u64,
    },
    /// An object that no row speaks of: rows are written first, so a database was lost.
    NoRow {
        /// Its name.
        id: ImageId,
        /// It is in quarantine now.
        repaired: bool,
    },
    /// An object whose row says that it is gone.
    LeftOver {
        /// The image.
        id: ImageId,
        /// It is deleted now.
        repaired: bool,
    },
    /// A key that pixtoll doesn't write. It is left alone.
    Foreign {
        /// The key.
        key: String,
    },
}

/// What was compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Audit {
    /// Live rows.
    pub rows: u64,
    /// Objects.
    pub objects: u64,
    /// Findings that nobody has mended.
    pub open: u64,
    /// Objects whose time in quarantine was over.
    pub purged: u64,
}

/// Compares both ways, telling each finding as it comes, so that memory stays flat. With `repair`, objects
/// without a row go to quarantine, and objects whose row says that they are gone, go.
///
/// # Errors
/// When database or store doesn't answer.
pub async fn audit(
    db: &Db,
    store: &Store,
    now: Timestamp,
    repair: bool,
    mut tell: impl FnMut(Finding),
) -> anyhow::Result<Audit> {
    let mut audit = Audit::default();
    let mut last = String::new();
    loop {
        let page = rows::page_live(db, &last, PAGE).await?;
        let Some((end, _)) = page.last() else { break };
        end.as_str().clone_into(&mut last);
        for (id, size) in page {
            audit.rows += 1;
            if let Some(finding) = look_at_row(db, store, now, id, size).await? {
                audit.open += 1;
                tell(finding);
            }
        }
    }
    let mut objects = store.list();
    while let Some(listed) = objects.next().await {
        audit.objects += 1;
        let (finding, is_open) = match listed? {
            Listed::Foreign(key) => (Some(Finding::Foreign { key }), true),
            Listed::Image(id) => (look_at_object(db, store, now, id, repair).await?, !repair),
        };
        if let Some(finding) = finding {
            audit.open += u64::from(is_open);
            tell(finding);
        }
    }
    if repair {
        audit.purged = store.purge_quarantine(now.minus(QUARANTINE)).await?;
    }
    Ok(audit)
}

async fn look_at_row(
    db: &Db,
    store: &Store,
    now: Timestamp,
    id: ImageId,
    row: u64,
) -> anyhow::Result<Option<Finding>> {
    let object = store.size(&id).await?;
    if object == Some(row) {
        return Ok(None);
    }
    // It may have expired, or been deleted, since its row was read.
    let image = images::find(db, &id).await?;
    if !image.is_some_and(|image| image.is_public(now)) {
        return Ok(None);
    }
    Ok(Some(match object {
        None => Finding::NoObject { id },
        Some(object) => Finding::OtherSize { id, row, object },
    }))
}

async fn look_at_object(
    db: &Db,
    store: &Store,
    now: Timestamp,
    id: ImageId,
    repair: bool,
) -> anyhow::Result<Option<Finding>> {
    let Some(state) = rows::find_state(db, &id).await? else {
        if repair {
            store.quarantine(&id, now).await?;
        }
        return Ok(Some(Finding::NoRow {
            id,
            repaired: repair,
        }));
    };
    let is_over = matches!(state.state, ImageState::Deleted | ImageState::Discarded);
    // What isn't marked yet, the reaper deletes; and a listing may be older than its mark.
    if !is_over || !state.is_marked_gone || store.size(&id).await?.is_none() {
        return Ok(None);
    }
    if repair {
        store.delete(&id).await?;
    }
    Ok(Some(Finding::LeftOver {
        id,
        repaired: repair,
    }))
}
