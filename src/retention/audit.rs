//! Whether rows and objects agree, both ways. Beside a running server: what doesn't agree is looked at
//! again, since it may be under way.

use std::time::Duration;

use anyhow::bail;
use futures_util::StreamExt;

use crate::clock::Timestamp;
use crate::db::{Db, images, retention as rows};
use crate::epoch;
use crate::ids::ImageId;
use crate::model::image::{Image, ImageState};
use crate::model::mark::Age;
use crate::model::sidecar::Sidecar;
use crate::store::{Listed, Store, StoreError};

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
    /// A live image whose object has no record beside it, or another one than its row makes.
    NotDescribed {
        /// The image.
        id: ImageId,
        /// It is written now.
        repaired: bool,
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
}

/// Compares both ways, telling each finding as it comes, so that memory stays flat. With `repair`, objects
/// without a row go to quarantine, and objects whose row says that they are gone, go.
///
/// # Errors
/// When database or store doesn't answer; with `repair`, when the database isn't the one that the store knows.
pub async fn audit(
    db: &Db,
    store: &Store,
    now: Timestamp,
    repair: bool,
    mut tell: impl FnMut(Finding),
) -> anyhow::Result<Audit> {
    if repair {
        refuse_stranger(db, store).await?;
    }
    let auditor = Auditor {
        db,
        store,
        now,
        repair,
    };
    let mut audit = Audit::default();
    let mut last = String::new();
    loop {
        let page = rows::page_live(db, &last, PAGE).await?;
        let Some(end) = page.last() else { break };
        end.id.as_str().clone_into(&mut last);
        for image in page {
            audit.rows += 1;
            if let Some(finding) = auditor.look_at_row(image).await? {
                audit.open += u64::from(!finding.is_mended());
                tell(finding);
            }
        }
    }
    let mut objects = store.list();
    while let Some(listed) = objects.next().await {
        let finding = match listed? {
            Listed::Foreign(key) => Some(Finding::Foreign { key }),
            Listed::Image(id) => {
                audit.objects += 1;
                auditor.look_at_object(id).await?
            }
            // Beside its object it is looked at with it.
            Listed::Sidecar(id) if store.size(&id).await?.is_some() => None,
            Listed::Sidecar(id) => auditor.look_at_object(id).await?,
        };
        if let Some(finding) = finding {
            audit.open += u64::from(!finding.is_mended());
            tell(finding);
        }
    }
    Ok(audit)
}

/// Deletes the objects whose 30 days in quarantine are over, for good. How many there were. The caller has to
/// believe the clock.
///
/// # Errors
/// When the store doesn't answer.
pub async fn purge(store: &Store, now: Timestamp) -> Result<u64, StoreError> {
    store.purge_quarantine(now.minus(QUARANTINE)).await
}

/// To a database that isn't the store's, or that lost commits, objects have no row that are somebody's: what the
/// reaper doesn't delete by is nothing to repair by.
async fn refuse_stranger(db: &Db, store: &Store) -> anyhow::Result<()> {
    match epoch::age(db, store).await? {
        Some(Age::Current) => Ok(()),
        Some(Age::Behind) => bail!(
            "the database is older than its store, so rows are missing: nothing is repaired before pixtoll ledger recover"
        ),
        Some(Age::Other) => bail!(
            "the store belongs to another database: nothing is repaired; name that one in database.url"
        ),
        None => bail!("no server has used this database yet: nothing is repaired by it"),
    }
}

impl Finding {
    /// Whether it is no trouble any more.
    fn is_mended(&self) -> bool {
        match self {
            Self::NotDescribed { repaired, .. }
            | Self::NoRow { repaired, .. }
            | Self::LeftOver { repaired, .. } => *repaired,
            Self::NoObject { .. } | Self::OtherSize { .. } | Self::Foreign { .. } => false,
        }
    }
}

struct Auditor<'a> {
    db: &'a Db,
    store: &'a Store,
    now: Timestamp,
    repair: bool,
}

impl Auditor<'_> {
    async fn look_at_row(&self, listed: Image) -> anyhow::Result<Option<Finding>> {
        let id = listed.id.clone();
        let object = self.store.size(&id).await?;
        let sidecar = Sidecar::of(&listed);
        if object == Some(listed.size_bytes) && self.store.is_described(&id, &sidecar).await? {
            return Ok(None);
        }
        // It may have expired, or been deleted or renewed, since its row was read.
        let Some(image) = images::find(self.db, &id).await? else {
            return Ok(None);
        };
        if !image.is_public(self.now) {
            return Ok(None);
        }
        let row = image.size_bytes;
        match object {
            None => return Ok(Some(Finding::NoObject { id })),
            Some(object) if object != row => {
                return Ok(Some(Finding::OtherSize { id, row, object }));
            }
            Some(_) => {}
        }
        let sidecar = Sidecar::of(&image);
        if self.store.is_described(&id, &sidecar).await? {
            return Ok(None);
        }
        if self.repair {
            self.store.describe(&id, &sidecar).await?;
        }
        let repaired = self.repair;
        Ok(Some(Finding::NotDescribed { id, repaired }))
    }

    /// Of an object, or of a record whose object is gone.
    async fn look_at_object(&self, id: ImageId) -> anyhow::Result<Option<Finding>> {
        let repaired = self.repair;
        let Some(state) = rows::find_state(self.db, &id).await? else {
            if self.repair {
                self.store.quarantine(&id, self.now).await?;
            }
            return Ok(Some(Finding::NoRow { id, repaired }));
        };
        let is_over = matches!(state.state, ImageState::Deleted | ImageState::Discarded);
        // What isn't marked yet, the reaper deletes; and a listing may be older than its mark.
        if !is_over || !state.is_marked_gone || !self.store.is_there(&id).await? {
            return Ok(None);
        }
        if self.repair {
            self.store.delete(&id).await?;
        }
        Ok(Some(Finding::LeftOver { id, repaired }))
    }
}
