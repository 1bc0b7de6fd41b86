//! Compares rows with objects, both ways. It can run beside a server: a mismatch is checked again,
//! since a change may be under way.

use std::time::Duration;

use anyhow::bail;
use futures_util::StreamExt;

use super::audit_variants;
use crate::db::contents::{self, Unclean};
use crate::db::{Db, images, removals, retention as rows};
use crate::model::ids::ImageId;
use crate::model::image::{Image, ImageState};
use crate::model::mark::Age;
use crate::model::sidecar::Sidecar;
use crate::moving::epoch;
use crate::store::{Listed, Store, StoreError};
use crate::system::clock::Timestamp;

/// How long an object without a row stays in quarantine.
const QUARANTINE: Duration = Duration::from_hours(30 * 24);
/// How many rows are read at a time.
const PAGE: u32 = 500;

/// A mismatch between rows and objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// The object of a live image is missing.
    NoObject {
        /// The image.
        id: ImageId,
    },
    /// The object of a live image has another size than its row.
    OtherSize {
        /// The image.
        id: ImageId,
        /// The size in its row, in bytes.
        row: u64,
        /// The size of its object, in bytes.
        object: u64,
    },
    /// The sidecar of a live image is missing, or differs from its row.
    NotDescribed {
        /// The image.
        id: ImageId,
        /// Whether the sidecar was written now.
        repaired: bool,
    },
    /// The content of an image under a legal hold is missing, or has another size than its row.
    HeldMissing {
        /// The image.
        id: ImageId,
    },
    /// An object has no row. Rows are written first, so the database lost data.
    NoRow {
        /// The image id in the object's key.
        id: ImageId,
        /// Whether the object is in quarantine now.
        repaired: bool,
    },
    /// An object exists though its row says that it is gone.
    LeftOver {
        /// The image.
        id: ImageId,
        /// Whether the object is deleted now.
        repaired: bool,
    },
    /// The object of a live image's variant is missing, or has another size. It is no loss: the
    /// variant is made again when it is asked for.
    NoVariant {
        /// The image.
        id: ImageId,
        /// The name of the variant.
        name: String,
        /// Whether its row is deleted now.
        repaired: bool,
    },
    /// The object of a variant has no row.
    VariantLeft {
        /// The image in the object's key.
        id: ImageId,
        /// The first digits of the variant's SHA-256, which its key has.
        digits: String,
        /// Whether the object is deleted now.
        repaired: bool,
    },
    /// A key that pixtoll does not write. It is left alone.
    Foreign {
        /// The key.
        key: String,
    },
}

/// The totals of an audit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Audit {
    /// The number of live rows.
    pub rows: u64,
    /// The number of objects.
    pub objects: u64,
    /// The number of stored variants of live images.
    pub variants: u64,
    /// The number of findings that were not repaired.
    pub open: u64,
}

/// Compares rows and objects both ways, and reports each finding at once, so that memory use stays
/// constant. With `repair`, objects without a row go into quarantine, and objects whose row says
/// that they are gone are deleted.
///
/// # Errors
/// When the database or the store doesn't answer. With `repair`, also when the store belongs to
/// another database.
pub async fn audit(
    db: &Db,
    store: &Store,
    now: Timestamp,
    repair: bool,
    mut tell: impl FnMut(Mismatch),
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
    last.clear();
    loop {
        let page = removals::page_held(db, &last, PAGE).await?;
        let Some(end) = page.last() else { break };
        end.id.as_str().clone_into(&mut last);
        for image in page {
            if let Some(finding) = auditor.look_at_held(image).await? {
                audit.open += 1;
                tell(finding);
            }
        }
    }
    audit_variants::look_at_rows(db, store, (now, repair), &mut audit, &mut tell).await?;
    let mut objects = store.list();
    while let Some(listed) = objects.next().await {
        let finding = match listed? {
            Listed::Foreign(key) => Some(Mismatch::Foreign { key }),
            Listed::Image(id) => {
                audit.objects += 1;
                match auditor.look_at_object(id.clone()).await? {
                    None => auditor.look_at_content(id, 0).await?,
                    found => found,
                }
            }
            Listed::Content(id, version) => {
                audit.objects += 1;
                auditor.look_at_content(id, version).await?
            }
            // A sidecar beside its object is checked with the object.
            Listed::Sidecar(id) if store.size(&id, 0).await?.is_some() => None,
            Listed::Sidecar(id) => auditor.look_at_object(id).await?,
            Listed::Variant(id, digits) => {
                audit_variants::look_at_object(db, store, (id, digits), repair).await?
            }
        };
        if let Some(finding) = finding {
            audit.open += u64::from(!finding.is_mended());
            tell(finding);
        }
    }
    Ok(audit)
}

/// Deletes the objects whose 30 days in quarantine are over. Returns their number. Call it only
/// while the clock is trusted.
///
/// # Errors
/// When the store doesn't answer.
pub async fn purge(store: &Store, now: Timestamp) -> Result<u64, StoreError> {
    store.purge_quarantine(now.minus(QUARANTINE)).await
}

/// Rejects a repair by a database that isn't the store's, or that lost commits: images that belong
/// to somebody would have no row in it. The reaper rejects such a database too.
async fn refuse_stranger(db: &Db, store: &Store) -> anyhow::Result<()> {
    match epoch::age(db, store).await? {
        Some(Age::Current) => Ok(()),
        Some(Age::Behind) => bail!(
            "the database is older than its store, so rows are missing and nothing is repaired. Run pixtoll ledger recover first"
        ),
        Some(Age::Other) => bail!(
            "the store belongs to another database, so nothing is repaired. Set database.url to that database"
        ),
        None => bail!("no server has used this database yet, so nothing is repaired"),
    }
}

impl Mismatch {
    /// Whether the finding was repaired.
    fn is_mended(&self) -> bool {
        match self {
            Self::NotDescribed { repaired, .. }
            | Self::NoRow { repaired, .. }
            | Self::VariantLeft { repaired, .. }
            | Self::LeftOver { repaired, .. } => *repaired,
            // Nothing is lost.
            Self::NoVariant { .. } => true,
            Self::NoObject { .. }
            | Self::OtherSize { .. }
            | Self::HeldMissing { .. }
            | Self::Foreign { .. } => false,
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
    async fn look_at_row(&self, listed: Image) -> anyhow::Result<Option<Mismatch>> {
        let id = listed.id.clone();
        let object = self.store.size(&id, listed.version).await?;
        let sidecar = Sidecar::of(&listed);
        if object == Some(listed.size_bytes) && self.store.is_described(&id, &sidecar).await? {
            return Ok(None);
        }
        // The image may have expired, been deleted or been renewed since its row was read.
        let Some(image) = images::find(self.db, &id).await? else {
            return Ok(None);
        };
        if !image.is_live(self.now) || image.version != listed.version {
            return Ok(None);
        }
        let row = image.size_bytes;
        match object {
            None => return Ok(Some(Mismatch::NoObject { id })),
            Some(object) if object != row => {
                return Ok(Some(Mismatch::OtherSize { id, row, object }));
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
        Ok(Some(Mismatch::NotDescribed { id, repaired }))
    }

    /// Looks for the content of a held image, which may not be sealed yet.
    async fn look_at_held(&self, listed: Image) -> anyhow::Result<Option<Mismatch>> {
        let (id, size) = (listed.id, Some(listed.size_bytes));
        let is_served = self.store.size(&id, listed.version).await? == size;
        if is_served || self.store.sealed_size(&id).await? == size {
            return Ok(None);
        }
        // It may have been sealed or released since.
        let removal = removals::find(self.db, &id).await?;
        let is_held = removal.is_some_and(|removal| removal.held_at.is_some());
        let is_there = self.store.sealed_size(&id).await? == size;
        Ok((is_held && !is_there).then_some(Mismatch::HeldMissing { id }))
    }

    /// Compares the object of a content with the rows of its image.
    async fn look_at_content(&self, id: ImageId, version: u32) -> anyhow::Result<Option<Mismatch>> {
        let repaired = self.repair;
        // The refresh is read first: a replacement counts its number before.
        let refresh = contents::find_of(self.db, std::slice::from_ref(&id)).await?;
        let Some(image) = images::find(self.db, &id).await? else {
            if refresh.is_empty() && self.repair {
                self.store.quarantine(&id, version, self.now).await?;
            }
            return Ok(refresh
                .is_empty()
                .then_some(Mismatch::NoRow { id, repaired }));
        };
        let is_known = |it: &Unclean| (it.oldest..=it.newest).contains(&version);
        let is_over = refresh.iter().any(|it| it.is_gone);
        if (image.version == version && !is_over) || refresh.iter().any(is_known) {
            return Ok(None);
        }
        // A listing may be older than the delete of the object.
        if self.store.size(&id, version).await?.is_none() {
            return Ok(None);
        }
        if self.repair {
            self.store.delete_contents(&[(id.clone(), version)]).await?;
        }
        Ok(Some(Mismatch::LeftOver { id, repaired }))
    }

    /// Compares an object, or a sidecar without an object, with its row.
    async fn look_at_object(&self, id: ImageId) -> anyhow::Result<Option<Mismatch>> {
        let repaired = self.repair;
        let Some(state) = rows::find_state(self.db, &id).await? else {
            if self.repair {
                self.store.quarantine(&id, 0, self.now).await?;
            }
            return Ok(Some(Mismatch::NoRow { id, repaired }));
        };
        let is_over = matches!(state.state, ImageState::Deleted | ImageState::Discarded);
        // The reaper deletes objects that aren't marked yet. A listing may also be older than the
        // mark.
        if !is_over || !state.is_marked_gone || !self.store.is_there(&id).await? {
            return Ok(None);
        }
        if self.repair {
            self.store.delete(&id).await?;
        }
        Ok(Some(Mismatch::LeftOver { id, repaired }))
    }
}
