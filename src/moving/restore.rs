//! A backup put into an empty place: its objects first, the database last, so that no server starts on half of it.
//! Killed at any point and run again it goes on where it was.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::backup::{Copy, IMAGES, Manifest};
use super::files;
use super::objects::{Carried, Objects, Sum};
use super::survived;
use crate::clock::Timestamp;
use crate::db::{Db, copies, epoch as rows};
use crate::kill::kill_point;
use crate::model::image::Image;
use crate::model::mark::Mark;
use crate::store::Store;

/// A backup, and where it goes.
#[derive(Debug)]
pub struct Restore<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// Where the database goes: nothing is there.
    pub file: &'a Path,
    /// Where the objects go.
    pub store: &'a Store,
    /// Whether somebody has said that the store is what is left of the deployment that was lost. Unless that is said, nothing
    /// is there, or what an earlier run of this has written.
    pub store_survived: bool,
}

/// A backup whose database was looked at.
#[derive(Debug)]
pub struct Opened {
    /// The database, at its new place under another name.
    pub db: Db,
    /// What the folder says of it.
    pub copy: Copy,
    draft: PathBuf,
    mark: Mark,
}

/// What was put in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Of objects.
    pub sum: Sum,
    /// How many images a store that survived keeps longer than the backup knew.
    pub longer: u64,
}

impl Restore<'_> {
    /// Copies the database beside its new place, and looks at it.
    ///
    /// # Errors
    /// When the folder holds no backup, or not the one that its manifest names; when the place isn't empty.
    pub async fn open(&self) -> anyhow::Result<Opened> {
        let folder = self.folder.display();
        let manifest = Manifest::find(self.folder)?;
        let manifest = manifest.with_context(|| format!("{folder} holds no backup"))?;
        let copy = manifest.copy.with_context(|| {
            format!("the backup in {folder} was never finished: run pixtoll backup there again")
        })?;
        if copy.images > 0 && !self.store_survived {
            self.refuse_without_objects().await?;
        }
        let draft = self.file.with_extension("restoring");
        files::remove_database(&draft)?;
        let sha256 = files::copy(&self.folder.join(&copy.file), &draft)?;
        if sha256 != copy.sha256 {
            bail!(
                "{} in {folder} is not what was written: its SHA-256 is {sha256}",
                copy.file
            );
        }
        let db = Db::open_sqlite(&draft).await?;
        let damage = copies::find_damage(&db).await?;
        if let Some(first) = damage.first() {
            bail!("the database in {folder} is damaged: {first}");
        }
        // It may have been written by an older version.
        db.migrate().await?;
        let own = rows::find(&db)
            .await?
            .context("the backup names no database")?;
        let mark = Mark {
            epoch: own.epoch.saturating_add(1),
            database: own.database,
        };
        Ok(Opened {
            db,
            copy,
            draft,
            mark,
        })
    }

    /// A database whose every image is lost is nothing to start a server on.
    async fn refuse_without_objects(&self) -> anyhow::Result<()> {
        let images = self.folder.join(IMAGES);
        if !images.is_dir() || Store::open_local(&images)?.has_no_images().await? {
            bail!(
                "there are no objects in {}: the backup is not whole",
                images.display()
            );
        }
        Ok(())
    }

    /// Copies the objects, and puts the database into its place. `tell` hears how far it has come, `lost` of live
    /// images whose object the backup hasn't got.
    ///
    /// # Errors
    /// When something can't be read or written; then no database is in place.
    pub async fn finish(
        &self,
        opened: Opened,
        tell: impl FnMut(&Sum, u64),
        mut lost: impl FnMut(&Image, &'static str),
    ) -> anyhow::Result<Restored> {
        let from = Store::open_local(&self.folder.join(IMAGES))?;
        self.claim_store(&opened.mark).await?;
        kill_point!("restore.mark.after");
        let longer = if self.store_survived {
            survived::keep_longer(&opened.db, self.store).await?
        } else {
            0
        };
        let objects = Objects {
            rows: &opened.db,
            live: &opened.db,
            from: &from,
            to: self.store,
            known_before: Timestamp::from_millis(0),
            room: None,
        };
        let sum = objects
            .carry(tell, |image, carried| {
                if let Carried::Lost(how) = carried {
                    lost(image, how);
                }
            })
            .await?;
        kill_point!("restore.objects.after");
        opened.db.close().await;
        if files::find_database(&opened.draft)? != [opened.draft.as_path()] {
            bail!(
                "{} was not closed: nothing was put in place",
                opened.draft.display()
            );
        }
        files::sync(&opened.draft)?;
        refuse_taken(self.file)?;
        std::fs::rename(&opened.draft, self.file)?;
        files::sync(self.file)?;
        kill_point!("restore.database.after");
        // One that stays says nothing any more once the mark is later than it, which ledger recover makes it.
        if let Err(error) = self.store.remove_restore_note().await {
            tracing::warn!(%error, "the note of this restore could not be removed from the store");
        }
        Ok(Restored { sum, longer })
    }

    /// Refuses a store that isn't empty, unless it holds what an earlier run of this has written, or somebody has said that
    /// it is what is left of the deployment: else a server may be using it.
    ///
    /// # Errors
    /// Whose it is, or that it doesn't answer.
    pub async fn check_store(&self, opened: &Opened) -> anyhow::Result<()> {
        self.look_at_store(&opened.mark).await.map(|_| ())
    }

    /// The store's mark, where it may be written to.
    async fn look_at_store(&self, mark: &Mark) -> anyhow::Result<Option<Mark>> {
        let Some(found) = self.store.find_mark().await? else {
            if !self.store.has_no_images().await? {
                bail!(
                    "the image store isn't empty, and names no database: name an empty one in images.store"
                )
            }
            return Ok(None);
        };
        if found.database != mark.database {
            bail!("the image store belongs to another database: name an empty one in images.store")
        }
        if !self.store_survived && !self.was_begun(&found).await? {
            bail!(
                "the image store is this deployment's own. For a trial, name an empty one in images.store. If the deployment is lost, this store is what is left of it, and no server uses it, say --store-survived"
            )
        }
        Ok(Some(found))
    }

    /// Whether an earlier run of this has written the mark. A server that stood for the store since has written a later
    /// one.
    async fn was_begun(&self, found: &Mark) -> anyhow::Result<bool> {
        let note = self.store.find_restore_note().await?;
        Ok(note.is_some_and(|note| note.database == found.database && found.epoch <= note.epoch))
    }

    /// The mark is written first, and before it, in a store that was empty, that this is a restore: by that an earlier run
    /// is known. The mark is later than the copy, so that a server on it sells nothing until the chain was asked.
    async fn claim_store(&self, mark: &Mark) -> anyhow::Result<()> {
        let found = self.look_at_store(mark).await?;
        let is_new = match &found {
            Some(found) => self.was_begun(found).await?,
            None => true,
        };
        if is_new {
            self.store.put_restore_note(mark).await?;
        }
        if found.is_none_or(|found| found.epoch < mark.epoch) {
            self.store.put_mark(mark).await?;
        }
        Ok(())
    }
}

/// Refuses a place where there is a database, or what one has left: SQLite would take a journal that lies there for that
/// of the restored one, and write it over that.
///
/// # Errors
/// What is there.
pub fn refuse_taken(file: &Path) -> anyhow::Result<()> {
    let found = files::find_database(file)?;
    if found.is_empty() {
        return Ok(());
    }
    let found: Vec<String> = found
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    bail!(
        "there is a database, or what is left of one: {}. Nothing was put in its place; move all of it away, together",
        found.join(", ")
    )
}

/// Puts a key into a place where there is none, readable by its owner only.
///
/// # Errors
/// When it can't be read or written.
pub fn place_key(from: &Path, to: &Path) -> anyhow::Result<()> {
    let key = std::fs::read(from).with_context(|| format!("{} can't be read", from.display()))?;
    files::write(to, &key)
}
