//! `pixtoll store copy`: copies every object that has a row to another store, any number of times
//! while the deployment is running and once more while it is stopped. A note in the other store
//! records which objects were compared, so that the last run is short.

use anyhow::{Context, bail};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use super::objects::{Carried, Objects, Sum, find_replaced, forget_deleted, forget_released};
use crate::db::{Db, epoch as rows, retention};
use crate::model::ids::ImageId;
use crate::model::image::{Image, ImageState};
use crate::model::mark::Age;
use crate::moving::epoch;
use crate::store::{Listed, Store};
use crate::system::clock::{Clock, Timestamp};
use crate::system::kill::kill_point;

/// The note in a store that is being filled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Note {
    /// The id of the database whose store is copied.
    database: String,
    /// When the first run began, in milliseconds since the Unix epoch.
    first_ms: i64,
    /// Objects of images that were made before this time are already compared; in milliseconds
    /// since the Unix epoch.
    known_before_ms: i64,
}

/// The totals of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// The totals of images.
    pub sum: Sum,
    /// How many quarantined objects are in the other store now.
    pub quarantined: u64,
    /// How many objects have no row. They were not copied.
    pub rowless: u64,
    /// Image objects that the other store had before deleted ones were removed from it.
    pub held: u64,
    /// Image objects that the other store has now.
    pub there: u64,
}

impl Copied {
    /// Whether every image that should have an object has one in the other store.
    pub fn is_whole(&self) -> bool {
        let Sum {
            copied,
            same,
            known,
            lost,
            ..
        } = self.sum;
        lost == 0 && self.held >= copied + same + known
    }
}

/// A problem that is reported to the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem<'a> {
    /// The object of a live image is missing or damaged, with the reason.
    Lost(&'a Image, &'static str),
    /// An object without a row, which was not copied.
    Rowless(&'a ImageId),
}

/// Two stores, and the rows of the first.
#[derive(Debug)]
pub struct StoreCopy<'a> {
    /// The database of the deployment.
    pub db: &'a Db,
    /// The store of the deployment.
    pub from: &'a Store,
    /// The store that is filled.
    pub to: &'a Store,
    /// The source of time.
    pub clock: &'a dyn Clock,
}

impl StoreCopy<'_> {
    /// Copies the objects that the other store doesn't have yet. Calls `tell` with the progress.
    ///
    /// # Errors
    /// When a database or a store doesn't answer, or the other store holds something else. Copied
    /// objects stay.
    pub async fn run(
        &self,
        tell: impl FnMut(&Sum, u64),
        mut name: impl FnMut(Problem<'_>),
    ) -> anyhow::Result<Copied> {
        let began = self.clock.now();
        let note = self.open(began).await?;
        let objects = Objects {
            rows: self.db,
            live: self.db,
            from: self.from,
            to: self.to,
            known_before: Timestamp::from_millis(note.known_before_ms),
            room: None,
        };
        let mut known_before = began;
        let sum = objects
            .carry(tell, |image, carried| {
                // Images that are being uploaded or are missing are compared by the next run.
                let is_through = !matches!(carried, Carried::Gone | Carried::Lost(_));
                if !is_through || image.state == ImageState::Pending {
                    known_before = known_before.min(image.created_at);
                }
                if let Carried::Lost(how) = carried {
                    name(Problem::Lost(image, how));
                }
            })
            .await?;
        kill_point!("copy.objects.after");
        let quarantined = self.copy_quarantine().await?;
        // Every copied object must exist, also those of images that were deleted since.
        let replaced = find_replaced(self.db, self.to).await?;
        self.to.delete_contents(&replaced).await?;
        let held = count(self.to).await?;
        let first = Timestamp::from_millis(note.first_ms);
        let there = if forget_deleted(self.db, self.to, first).await? {
            count(self.to).await?
        } else {
            held
        };
        forget_released(self.db, self.to).await?;
        let rowless = self.name_rowless(&mut name).await?;
        kill_point!("copy.mark.before");
        self.copy_mark().await?;
        let note = Note {
            known_before_ms: known_before.millis(),
            ..note
        };
        self.to.put_note(serde_json::to_vec(&note)?.into()).await?;
        Ok(Copied {
            sum,
            quarantined,
            rowless,
            held,
            there,
        })
    }

    /// Checks that the other store is empty or was filled by an earlier run, and returns that run's
    /// note.
    async fn open(&self, now: Timestamp) -> anyhow::Result<Note> {
        // After a restore, a database that is older than its store may still be copied: the copied
        // mark shows the same there.
        if epoch::age(self.db, self.from).await? == Some(Age::Other) {
            bail!(
                "the store of this deployment belongs to another database: see pixtoll ledger check"
            );
        }
        let own = rows::find(self.db)
            .await?
            .context("the database has no id")?;
        let mark = self.to.find_mark().await?;
        if mark.is_some_and(|mark| mark.database != own.database) {
            bail!("the other store belongs to another database: choose an empty store");
        }
        if let Some(found) = self.to.find_note().await? {
            let note: Note = serde_json::from_slice(&found)
                .context("the other store holds a note that pixtoll does not write")?;
            if note.database != own.database {
                bail!("the other store is a copy of another store: choose an empty store");
            }
            return Ok(note);
        }
        if !self.to.has_no_images().await? {
            bail!(
                "the other store isn't empty and is not a copy of this one: choose an empty store"
            );
        }
        let note = Note {
            database: own.database,
            first_ms: now.millis(),
            known_before_ms: 0,
        };
        self.to.put_note(serde_json::to_vec(&note)?.into()).await?;
        Ok(note)
    }

    /// These objects have no row with a hash, so the bytes of both stores are compared.
    async fn copy_quarantine(&self) -> anyhow::Result<u64> {
        let mut copied = 0;
        let mut listed = self.from.list_quarantine();
        while let Some(next) = listed.next().await {
            let (key, _) = next?;
            let Some(bytes) = self.from.find_in_quarantine(&key).await? else {
                continue;
            };
            if self.to.find_in_quarantine(&key).await?.as_ref() != Some(&bytes) {
                self.to.put_in_quarantine(&key, bytes.clone()).await?;
                if self.to.find_in_quarantine(&key).await?.as_ref() != Some(&bytes) {
                    bail!("the bytes written for {key} differ from the bytes read");
                }
            }
            copied += 1;
        }
        Ok(copied)
    }

    async fn name_rowless(&self, name: &mut impl FnMut(Problem<'_>)) -> anyhow::Result<u64> {
        let mut rowless = 0;
        let mut listed = self.from.list();
        while let Some(next) = listed.next().await {
            if let Listed::Image(id) | Listed::Content(id, _) = next?
                && retention::find_state(self.db, &id).await?.is_none()
            {
                rowless += 1;
                name(Problem::Rowless(&id));
            }
        }
        Ok(rowless)
    }

    /// Written last: a server that starts on the other store finds the objects that the mark's
    /// epoch covers.
    async fn copy_mark(&self) -> anyhow::Result<()> {
        if let Some(mark) = self.from.find_mark().await? {
            let theirs = self.to.find_mark().await?;
            // A later mark shows that this database lost commits, and must stay.
            if theirs.is_none_or(|theirs| theirs.epoch <= mark.epoch) {
                self.to.put_mark(&mark).await?;
            }
        }
        Ok(())
    }
}

async fn count(store: &Store) -> anyhow::Result<u64> {
    let mut there = 0;
    let mut listed = store.list();
    while let Some(next) = listed.next().await {
        there += u64::from(matches!(next?, Listed::Image(_) | Listed::Content(..)));
    }
    Ok(there)
}
