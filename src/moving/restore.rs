//! A backup put into an empty place: its objects first, the database last, so that no server starts on half of it.
//! Killed at any point and run again it goes on where it was.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::backup::{Copy, IMAGES, Manifest};
use super::files;
use super::objects::{Carried, Objects, Sum};
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
    /// Where the objects go: nothing is there, or what is left of this deployment's.
    pub store: &'a Store,
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
    ) -> anyhow::Result<Sum> {
        let from = Store::open_local(&self.folder.join(IMAGES))?;
        self.claim_store(&opened.mark).await?;
        kill_point!("restore.mark.after");
        let objects = Objects {
            rows: &opened.db,
            live: &opened.db,
            from: &from,
            to: self.store,
            known_before: Timestamp::from_millis(0),
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
        files::sync(&opened.draft)?;
        if self.file.exists() {
            bail!(
                "{} was made meanwhile: nothing was put in its place",
                self.file.display()
            );
        }
        std::fs::rename(&opened.draft, self.file)?;
        files::sync(self.file)?;
        kill_point!("restore.database.after");
        Ok(sum)
    }

    /// The mark is written first: a store with anything else in it is left alone, and one that an earlier run began
    /// is known by it. It is later than the copy, so that a server on it sells nothing until the chain was asked.
    async fn claim_store(&self, mark: &Mark) -> anyhow::Result<()> {
        match self.store.find_mark().await? {
            Some(found) if found.database != mark.database => {
                bail!(
                    "the image store belongs to another database: name an empty one in images.store"
                )
            }
            Some(found) if found.epoch >= mark.epoch => {}
            None if !self.store.has_no_images().await? => {
                bail!(
                    "the image store isn't empty, and names no database: name an empty one in images.store"
                )
            }
            _ => self.store.put_mark(mark).await?,
        }
        Ok(())
    }
}

/// Puts a key into a place where there is none, readable by its owner only.
///
/// # Errors
/// When it can't be read or written.
pub fn place_key(from: &Path, to: &Path) -> anyhow::Result<()> {
    let key = std::fs::read(from).with_context(|| format!("{} can't be read", from.display()))?;
    files::write(to, &key)
}
