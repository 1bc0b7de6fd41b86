//! Backs a SQLite deployment up into a folder while it runs: the database by SQLite's own means,
//! then the objects of its rows. A second backup into the same folder copies only new objects. The
//! folder's manifest is replaced last and atomically, so that a backup that stops earlier leaves
//! the previous one intact.

use std::fs::{File, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::files;
use super::objects::{
    Carried, NoRoom, Objects, Sum, find_replaced, forget_deleted, forget_released, let_go,
};
use crate::db::moves::{self, MoveState};
use crate::db::{Db, copies, epoch as rows};
use crate::model::image::Image;
use crate::model::mark::{Age, Mark};
use crate::moving::epoch;
use crate::store::Store;
use crate::system::clock::{Clock, Timestamp};
use crate::system::disk::{Disk, Floor};
use crate::system::kill::kill_point;

const VERSION: u32 = 1;
/// The mode of the backup folder.
const PRIVATE: u32 = 0o700;
const MANIFEST: &str = "backup.json";
const LOCK: &str = "backup.lock";
/// The prefix of the database copies' names.
const PREFIX: &str = "pixtoll-";
/// The folder of the objects, which is a local store.
pub const IMAGES: &str = "images";
/// The file of the master keys, if they are backed up.
pub const KEY: &str = "secrets.key";

/// The contents of a backup folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    version: u32,
    /// The id that the database drew for itself.
    pub database: String,
    /// The newest copy; `None` until the first backup is finished.
    pub copy: Option<Copy>,
    /// When the first backup into this folder began, in milliseconds since the Unix epoch.
    first_ms: i64,
}

/// A copy of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Copy {
    /// The name of its file in the folder.
    pub file: String,
    /// SHA-256 of that file, in hex.
    pub sha256: String,
    /// The epoch of the database.
    pub epoch: u64,
    /// When the copy was made, as RFC 3339.
    pub taken_at: String,
    /// When the copy was made, in milliseconds since the Unix epoch.
    pub taken_ms: i64,
    /// Objects of images that were made before this time are already compared; in milliseconds
    /// since the Unix epoch.
    known_before_ms: i64,
    /// The number of images that have objects, without sealed ones.
    pub images: u64,
}

impl Manifest {
    /// Reads the manifest of a folder; `None`: it has none.
    ///
    /// # Errors
    /// When it can't be read, or another version of pixtoll wrote it.
    pub fn find(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(MANIFEST);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("{} can't be read", path.display()))?,
        };
        let manifest: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not the manifest of a backup", path.display()))?;
        if manifest.version != VERSION {
            bail!(
                "{} was written by another version of pixtoll",
                path.display()
            );
        }
        Ok(Some(manifest))
    }

    fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        files::write(&folder.join(MANIFEST), &text)
    }
}

/// A backup to be made, and its source.
#[derive(Debug)]
pub struct Backup<'a> {
    /// The database, which a server may be using.
    pub db: &'a Db,
    /// The image store.
    pub store: &'a Store,
    /// The backup folder.
    pub folder: &'a Path,
    /// The source of time.
    pub clock: &'a dyn Clock,
    /// The source of free disk space.
    pub disk: Disk,
    /// The file of the database, on whose disk space must stay free.
    pub file: &'a Path,
    /// How many bytes must stay free there.
    pub min_free: u64,
}

/// A backup whose objects are not all copied yet.
#[derive(Debug)]
pub struct Draft {
    /// The copy of the database, for queries.
    pub db: Db,
    file: PathBuf,
    name: String,
    epoch: Mark,
    taken: Timestamp,
    manifest: Manifest,
    room: Option<Floor>,
    _lock: File,
}

impl Backup<'_> {
    /// Copies the database into the folder, and checks the copy by SQLite's own checks.
    ///
    /// # Errors
    /// When the folder holds something else, the database must not be backed up, or the copy is
    /// damaged.
    pub async fn begin(&self) -> anyhow::Result<Draft> {
        let own = self.refuse_unfit().await?;
        self.make_folder()?;
        // Before the manifest is read: another backup may be about to replace it.
        let lock = self.lock_folder()?;
        let taken = self.clock.now();
        let manifest = self.open_folder(&own, taken)?;
        self.remove_leavings(&manifest)?;
        let room = self.room()?;
        let name = format!("{PREFIX}{}.db", taken.millis());
        let file = self.folder.join(&name);
        files::remove_database(&file)?;
        // SQLite accepts an existing empty file. A file that SQLite creates could be readable by
        // others.
        files::write(&file, &[])?;
        copies::copy_into(self.db, &file).await?;
        files::sync(&file)?;
        kill_point!("backup.database.after");
        let db = Db::open_sqlite(&file).await?;
        let damage = copies::find_damage(&db).await?;
        if let Some(first) = damage.first() {
            bail!("the copy of the database is damaged, and so is the database: {first}");
        }
        // The epoch in the copy itself.
        let epoch = rows::find(&db)
            .await?
            .context("the copy has no database id")?;
        Ok(Draft {
            db,
            file,
            name,
            epoch,
            taken,
            manifest,
            room,
            _lock: lock,
        })
    }

    /// The space that must stay free on the folder's disk. `None` unless the server uses the same
    /// disk, where the copy of the database must fit as well.
    fn room(&self) -> anyhow::Result<Option<Floor>> {
        let file = std::fs::metadata(self.file)?;
        if std::fs::metadata(self.folder)?.dev() != file.dev() {
            return Ok(None);
        }
        let mut floor = Floor {
            disk: self.disk.clone(),
            folder: Some(self.folder.to_path_buf()),
            min_free: self.min_free.saturating_add(file.len()),
        };
        if self.min_free > 0 {
            floor.check().map_err(|_| NoRoom)?;
        }
        floor.min_free = self.min_free;
        Ok(Some(floor))
    }

    /// Locks the folder, so that one backup runs at a time. The lock ends with the process.
    fn lock_folder(&self) -> anyhow::Result<File> {
        let lock = File::create(self.folder.join(LOCK))?;
        if lock.try_lock().is_err() {
            bail!("another pixtoll backup writes to {}", self.folder.display());
        }
        Ok(lock)
    }

    /// Deletes the files of an interrupted backup: database copies that the manifest doesn't name.
    fn remove_leavings(&self, manifest: &Manifest) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let is_kept = |copy: &Copy| copy.file == name;
            if name.starts_with(PREFIX) && !manifest.copy.as_ref().is_some_and(is_kept) {
                std::fs::remove_file(self.folder.join(name))?;
            }
        }
        Ok(())
    }

    async fn refuse_unfit(&self) -> anyhow::Result<Mark> {
        if moves::standing(self.db).await? != MoveState::Open {
            bail!(
                "the database is being moved. Finish the move first, or cancel it by pixtoll migrate --cancel"
            );
        }
        match epoch::age(self.db, self.store).await? {
            Some(Age::Current) => {}
            Some(Age::Behind | Age::Other) => bail!(
                "the database isn't the newest one of its store, and its copy would replace a better \
                 backup. See pixtoll ledger check"
            ),
            None => bail!("no server has used this database yet, so there is nothing to back up"),
        }
        rows::find(self.db).await?.context("the database has no id")
    }

    /// Creates the folder, or rejects one that holds something else before anything is written.
    fn make_folder(&self) -> anyhow::Result<()> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE)
            .create(self.folder)
            .with_context(|| format!("{} can't be created", self.folder.display()))?;
        if Manifest::find(self.folder)?.is_none() && !self.is_empty()? {
            bail!(
                "{} is not empty and holds no backup: name another folder",
                self.folder.display()
            );
        }
        Ok(())
    }

    /// Whether the folder contains nothing but the lock file.
    fn is_empty(&self) -> anyhow::Result<bool> {
        for entry in std::fs::read_dir(self.folder)? {
            if entry?.file_name() != LOCK {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn open_folder(&self, own: &Mark, now: Timestamp) -> anyhow::Result<Manifest> {
        if let Some(manifest) = Manifest::find(self.folder)? {
            if manifest.database != own.database {
                bail!(
                    "{} holds a backup of another database: name another folder",
                    self.folder.display()
                );
            }
            self.close_to_others();
            return Ok(manifest);
        }
        self.close_to_others();
        let manifest = Manifest {
            version: VERSION,
            database: own.database.clone(),
            copy: None,
            first_ms: now.millis(),
        };
        manifest.write(self.folder)?;
        Ok(manifest)
    }

    /// Makes the folder readable by its owner only, since it contains payments and the ids of all
    /// images. Another user may have created it.
    fn close_to_others(&self) {
        let closed = std::fs::metadata(self.folder).and_then(|found| {
            if found.permissions().mode() & 0o777 & !PRIVATE == 0 {
                return Ok(());
            }
            std::fs::set_permissions(self.folder, Permissions::from_mode(PRIVATE))
        });
        if let Err(error) = closed {
            tracing::warn!(%error, "other users may read the backup folder, which holds payments and links to images: its mode can't be changed");
        }
    }

    /// Copies the objects of the copy's rows, and then replaces the previous copy in the manifest.
    /// Calls `tell` with the progress, and `lost` with live images whose object is missing.
    ///
    /// # Errors
    /// When something can't be read or written. The folder then holds the previous copy, or the new
    /// one if only the mark in the store can't be written.
    pub async fn finish(
        &self,
        draft: Draft,
        tell: impl FnMut(&Sum, u64),
        mut lost: impl FnMut(&Image, &'static str),
    ) -> anyhow::Result<Sum> {
        let to = Store::open_local(&self.folder.join(IMAGES))?;
        let older = draft.manifest.copy.as_ref();
        let objects = Objects {
            rows: &draft.db,
            live: self.db,
            from: self.store,
            to: &to,
            known_before: Timestamp::from_millis(older.map_or(0, |copy| copy.known_before_ms)),
            room: draft.room.as_ref(),
        };
        let mut gone = Vec::new();
        // Uploads that were under way during this copy are compared by the next one.
        let mut known_before = draft.taken;
        let sum = objects
            .carry(tell, |image, carried| match carried {
                Carried::Gone => {
                    known_before = known_before.min(image.created_at);
                    gone.push(image.clone());
                }
                Carried::Lost(how) => {
                    known_before = known_before.min(image.created_at);
                    lost(image, how);
                }
                _ => {}
            })
            .await?;
        kill_point!("backup.objects.after");
        for image in &gone {
            let_go(&draft.db, image, self.clock.now()).await?;
        }
        let sum = self.switch(draft, sum, known_before, &to).await?;
        epoch::advance(self.db, self.store).await?;
        Ok(sum)
    }

    /// Replaces the previous copy in the manifest.
    async fn switch(
        &self,
        draft: Draft,
        sum: Sum,
        known_before: Timestamp,
        to: &Store,
    ) -> anyhow::Result<Sum> {
        let first = Timestamp::from_millis(draft.manifest.first_ms);
        // The database advances its epoch: a deployment restored from this copy has lost later
        // commits, and this mark shows that.
        let mark = Mark {
            epoch: draft.epoch.epoch.saturating_add(1),
            ..draft.epoch.clone()
        };
        to.put_mark(&mark).await?;
        let replaced = find_replaced(&draft.db, to).await?;
        draft.db.close().await;
        files::sync(&draft.file)?;
        let copy = Copy {
            file: draft.name,
            sha256: files::sha256(&draft.file)?,
            epoch: draft.epoch.epoch,
            taken_at: draft.taken.to_string(),
            taken_ms: draft.taken.millis(),
            known_before_ms: known_before.millis(),
            images: sum.images - sum.gone - sum.sealed,
        };
        let older = draft.manifest.copy.clone();
        let manifest = Manifest {
            copy: Some(copy),
            ..draft.manifest
        };
        kill_point!("backup.manifest.before");
        manifest.write(self.folder)?;
        kill_point!("backup.manifest.after");
        if let Some(older) = older {
            files::remove_database(&self.folder.join(older.file))?;
        }
        // The previous copy needed them.
        to.delete_contents(&replaced).await?;
        forget_deleted(self.db, to, first).await?;
        forget_released(self.db, to).await?;
        Ok(sum)
    }
}
