//! Restores a backup into an empty place: its objects first, the database last, so that no server
//! starts on a part of it. A restore that was killed at any point continues when it is run again.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::backup::{Copy, IMAGES, Manifest};
use super::files;
use super::objects::{Carried, Objects, Sum};
use super::survived;
use crate::db::{Db, copies, epoch as rows, variants};
use crate::model::image::Image;
use crate::model::mark::Mark;
use crate::store::Store;
use crate::system::clock::Timestamp;
use crate::system::kill::kill_point;

/// A backup, and where it is restored to.
#[derive(Debug)]
pub struct Restore<'a> {
    /// The backup folder.
    pub folder: &'a Path,
    /// The path of the restored database, where no file exists.
    pub file: &'a Path,
    /// The store for the objects.
    pub store: &'a Store,
    /// Whether the operator confirmed that the store survived the lost deployment. Otherwise the
    /// store must be empty, or contain only what an earlier run of this restore wrote.
    pub store_survived: bool,
    /// The present time.
    pub now: Timestamp,
}

/// A backup whose database was checked.
#[derive(Debug)]
pub struct Opened {
    /// The database, in its new folder under a temporary name.
    pub db: Db,
    /// What the manifest says about it.
    pub copy: Copy,
    draft: PathBuf,
    mark: Mark,
}

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// The totals of the copied objects.
    pub sum: Sum,
    /// How many images were extended by the sidecars of a store that survived.
    pub longer: u64,
}

impl Restore<'_> {
    /// Copies the database into its new folder under a temporary name, and checks it.
    ///
    /// # Errors
    /// When the folder holds no backup, the copy differs from the manifest, or the target isn't
    /// empty.
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
                "{} in {folder} is damaged: its SHA-256 is {sha256}",
                copy.file
            );
        }
        let db = Db::open_sqlite(&draft).await?;
        let damage = copies::find_damage(&db).await?;
        if let Some(first) = damage.first() {
            bail!("the database in {folder} is damaged: {first}");
        }
        // An older version of pixtoll may have written the backup.
        db.migrate().await?;
        let own = rows::find(&db)
            .await?
            .context("the backup has no database id")?;
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

    /// Rejects a backup without any objects: a server must not start on a database whose every
    /// image is missing.
    async fn refuse_without_objects(&self) -> anyhow::Result<()> {
        let images = self.folder.join(IMAGES);
        if !images.is_dir() || Store::open_local(&images)?.has_no_images().await? {
            bail!(
                "there are no objects in {}: the backup is incomplete",
                images.display()
            );
        }
        Ok(())
    }

    /// Copies the objects, then moves the database into place. Calls `tell` with the progress, and
    /// `lost` with live images whose object is missing in the backup.
    ///
    /// # Errors
    /// When something can't be read or written. No database is in place then.
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
            survived::keep_sealed(&opened.db, self.store, self.now).await?;
            survived::keep_longer(&opened.db, self.store, self.now).await?
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
        if !self.store_survived {
            // A backup has no objects of variants. They are made again.
            variants::forget_all(&opened.db).await?;
        }
        kill_point!("restore.objects.after");
        opened.db.close().await;
        if files::find_database(&opened.draft)? != [opened.draft.as_path()] {
            bail!(
                "{} was not closed, so nothing was restored",
                opened.draft.display()
            );
        }
        files::sync(&opened.draft)?;
        refuse_taken(self.file)?;
        std::fs::rename(&opened.draft, self.file)?;
        files::sync(self.file)?;
        kill_point!("restore.database.after");
        // A note that stays has no effect once the mark is later, which ledger recover makes it.
        if let Err(error) = self.store.remove_restore_note().await {
            tracing::warn!(%error, "the note of this restore could not be removed from the store");
        }
        Ok(Restored { sum, longer })
    }

    /// Rejects a store that isn't empty, since a server may be using it. Accepts what an earlier
    /// run of this restore wrote, or a store that the operator confirmed to have survived.
    ///
    /// # Errors
    /// When the store belongs to another deployment, or doesn't answer.
    pub async fn check_store(&self, opened: &Opened) -> anyhow::Result<()> {
        self.look_at_store(&opened.mark).await.map(|_| ())
    }

    /// Returns the store's mark, if the store may be written to.
    async fn look_at_store(&self, mark: &Mark) -> anyhow::Result<Option<Mark>> {
        let Some(found) = self.store.find_mark().await? else {
            if !self.store.has_no_images().await? {
                bail!(
                    "the image store isn't empty, and has no mark of a database: set images.store to an empty store"
                )
            }
            return Ok(None);
        };
        if found.database != mark.database {
            bail!("the image store belongs to another database: set images.store to an empty store")
        }
        if !self.store_survived && !self.was_begun(&found).await? {
            bail!(
                "the image store is this deployment's own. For a trial, set images.store to an empty store. If the deployment is lost and no server uses this store, confirm that by --store-survived"
            )
        }
        Ok(Some(found))
    }

    /// Whether an earlier run of this restore wrote the mark. A server that used the store since
    /// has written a later one.
    async fn was_begun(&self, found: &Mark) -> anyhow::Result<bool> {
        let note = self.store.find_restore_note().await?;
        Ok(note.is_some_and(|note| note.database == found.database && found.epoch <= note.epoch))
    }

    /// Writes the store's mark before any object. In an empty store, first writes a note that a
    /// restore is under way, by which a later run recognises it. The mark is later than the copy's
    /// epoch, so that a server on the copy sells nothing until `pixtoll ledger recover` has asked
    /// the chain.
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

/// Rejects a path where a database file or one of its side files exists. SQLite would apply a
/// journal that is there to the restored database.
///
/// # Errors
/// The files that exist.
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
        "files of a database exist already: {}. Nothing was restored. Move all of these files away together",
        found.join(", ")
    )
}

/// Copies a key file to a new path, readable by its owner only.
///
/// # Errors
/// When it can't be read or written, or a file exists there.
pub fn place_key(from: &Path, to: &Path) -> anyhow::Result<()> {
    let key = std::fs::read(from).with_context(|| format!("{} can't be read", from.display()))?;
    files::write(to, &key)
}
