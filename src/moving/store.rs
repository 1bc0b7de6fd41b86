//! `pixtoll store copy`: every object that a row speaks of goes to another store, as often as somebody likes while
//! the deployment is used, and once more when it isn't. A note in the other store says what was compared by an
//! earlier run, so that the last one is short.

use anyhow::{Context, bail};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use super::objects::{Carried, Objects, Sum, forget_deleted};
use crate::clock::{Clock, Timestamp};
use crate::db::{Db, epoch as rows, retention};
use crate::epoch;
use crate::ids::ImageId;
use crate::kill::kill_point;
use crate::model::image::{Image, ImageState};
use crate::model::mark::Age;
use crate::store::{Listed, Store};

/// What lies in a store that is being filled, for the next run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Note {
    /// Whose store is copied, by the name of its database.
    database: String,
    /// When the first run began, in milliseconds.
    first_ms: i64,
    /// Objects of images made before this are compared, in milliseconds.
    known_before_ms: i64,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Of images.
    pub sum: Sum,
    /// What was in quarantine, and is there in the other store.
    pub quarantined: u64,
    /// Objects that no row speaks of, which were not copied.
    pub rowless: u64,
    /// Objects of images that the other store had before those went that were deleted meanwhile.
    pub held: u64,
    /// Objects of images that the other store has now.
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

/// A thing that a person should hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding<'a> {
    /// A live image whose object is lost. How.
    Lost(&'a Image, &'static str),
    /// An object that no row speaks of: it wasn't copied.
    Rowless(&'a ImageId),
}

/// Two stores, and the rows of the first.
#[derive(Debug)]
pub struct StoreCopy<'a> {
    /// The rows.
    pub db: &'a Db,
    /// The store of the deployment.
    pub from: &'a Store,
    /// The other one.
    pub to: &'a Store,
    /// The time.
    pub clock: &'a dyn Clock,
}

impl StoreCopy<'_> {
    /// Copies what isn't there yet. `tell` hears how far it has come.
    ///
    /// # Errors
    /// When something doesn't answer, or the other store holds something else; what is copied stays.
    pub async fn run(
        &self,
        tell: impl FnMut(&Sum, u64),
        mut name: impl FnMut(Finding<'_>),
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
                // What is under way is compared by the next run.
                let is_through = !matches!(carried, Carried::Gone | Carried::Lost(_));
                if !is_through || image.state == ImageState::Pending {
                    known_before = known_before.min(image.created_at);
                }
                if let Carried::Lost(how) = carried {
                    name(Finding::Lost(image, how));
                }
            })
            .await?;
        kill_point!("copy.objects.after");
        let quarantined = self.copy_quarantine().await?;
        // What was copied has to be there, also of images that were deleted since.
        let held = count(self.to).await?;
        let first = Timestamp::from_millis(note.first_ms);
        let there = if forget_deleted(self.db, self.to, first).await? {
            count(self.to).await?
        } else {
            held
        };
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

    /// Whether the other store is empty or an earlier run's, and what that noted.
    async fn open(&self, now: Timestamp) -> anyhow::Result<Note> {
        // One that is older than its store may be copied by, after a restore: the mark goes along, and says so there.
        if epoch::age(self.db, self.from).await? == Some(Age::Other) {
            bail!(
                "the store of this deployment belongs to another database: see pixtoll ledger check"
            );
        }
        let own = rows::find(self.db)
            .await?
            .context("the database has no name")?;
        let mark = self.to.find_mark().await?;
        if mark.is_some_and(|mark| mark.database != own.database) {
            bail!("the other store belongs to another database: name an empty one");
        }
        if let Some(found) = self.to.find_note().await? {
            let note: Note = serde_json::from_slice(&found)
                .context("the other store holds a note that pixtoll does not write")?;
            if note.database != own.database {
                bail!("the other store is a copy of another one: name an empty one");
            }
            return Ok(note);
        }
        if !self.to.has_no_images().await? {
            bail!("the other store isn't empty, and is no copy of this one: name an empty one");
        }
        let note = Note {
            database: own.database,
            first_ms: now.millis(),
            known_before_ms: 0,
        };
        self.to.put_note(serde_json::to_vec(&note)?.into()).await?;
        Ok(note)
    }

    /// No row says what these are: the bytes of both stores are compared.
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
                    bail!("what was written of {key} is not what was read");
                }
            }
            copied += 1;
        }
        Ok(copied)
    }

    async fn name_rowless(&self, name: &mut impl FnMut(Finding<'_>)) -> anyhow::Result<u64> {
        let mut rowless = 0;
        let mut listed = self.from.list();
        while let Some(next) = listed.next().await {
            if let Listed::Image(id) = next?
                && retention::find_state(self.db, &id).await?.is_none()
            {
                rowless += 1;
                name(Finding::Rowless(&id));
            }
        }
        Ok(rowless)
    }

    /// Last: whoever starts on the other store finds the objects that the mark's epoch speaks of.
    async fn copy_mark(&self) -> anyhow::Result<()> {
        if let Some(mark) = self.from.find_mark().await? {
            let theirs = self.to.find_mark().await?;
            // A later one speaks of commits that this database lost, and must go on doing so.
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
        there += u64::from(matches!(next?, Listed::Image(_)));
    }
    Ok(there)
}
