//! A copy of a SQLite deployment in a folder, while it runs: the database by SQLite's own means, then the objects
//! that its rows speak of. A second run into the same folder copies what is new. What the folder holds is named by
//! its manifest, which is replaced last and at once: whoever dies before leaves the older copy.

use std::fs::{File, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::files;
use super::objects::{Carried, NoRoom, Objects, Sum, forget_deleted, let_go};
use crate::clock::{Clock, Timestamp};
use crate::db::moves::{self, Standing};
use crate::db::{Db, copies, epoch as rows};
use crate::disk::{Disk, Floor};
use crate::epoch;
use crate::kill::kill_point;
use crate::model::image::Image;
use crate::model::mark::{Age, Mark};
use crate::store::Store;

const VERSION: u32 = 1;
/// The mode of the folder.
const PRIVATE: u32 = 0o700;
const MANIFEST: &str = "backup.json";
const LOCK: &str = "backup.lock";
/// How the copies of the database are named.
const PREFIX: &str = "pixtoll-";
/// Where the objects lie in the folder: a store like any other.
pub const IMAGES: &str = "images";
/// Where the key lies in the folder, when it was asked for.
pub const KEY: &str = "secrets.key";

/// What a folder holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    version: u32,
    /// The name that the database drew for itself.
    pub database: String,
    /// The newest copy; `None` before the first one is through.
    pub copy: Option<Copy>,
    /// When the first copy into this folder began, in milliseconds.
    first_ms: i64,
}

/// A copy of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Copy {
    /// Its file in the folder.
    pub file: String,
    /// The SHA-256 of that.
    pub sha256: String,
    /// The epoch that the database was in.
    pub epoch: u64,
    /// When it was taken.
    pub taken_at: String,
    /// The same in milliseconds.
    pub taken_ms: i64,
    /// Objects of images made before this are compared, in milliseconds.
    known_before_ms: i64,
    /// How many images have objects.
    pub images: u64,
}

impl Manifest {
    /// The manifest of a folder; `None`: it has none.
    ///
    /// # Errors
    /// When it can't be read, or isn't one of this version's.
    pub fn find(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(MANIFEST);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("{} can't be read", path.display()))?,
        };
        let manifest: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is no manifest of a backup", path.display()))?;
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

/// What is backed up, and where to.
#[derive(Debug)]
pub struct Backup<'a> {
    /// The database, which a server may use.
    pub db: &'a Db,
    /// The objects.
    pub store: &'a Store,
    /// The folder.
    pub folder: &'a Path,
    /// The time.
    pub clock: &'a dyn Clock,
    /// The disk.
    pub disk: Disk,
    /// The file of the database: on its disk room has to stay.
    pub file: &'a Path,
    /// How much of that, in bytes.
    pub min_free: u64,
}

/// A copy whose objects are not all there yet.
#[derive(Debug)]
pub struct Draft {
    /// The copy of the database, to be looked at.
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
    /// Copies the database into the folder, and looks at the copy as SQLite does.
    ///
    /// # Errors
    /// When the folder holds something else, the database is not one to be kept, or the copy is damaged.
    pub async fn begin(&self) -> anyhow::Result<Draft> {
        let own = self.refuse_unfit().await?;
        self.make_folder()?;
        // Before the manifest is read, which another run may be about to replace.
        let lock = self.lock_folder()?;
        let taken = self.clock.now();
        let manifest = self.open_folder(&own, taken)?;
        self.remove_leavings(&manifest)?;
        let room = self.room()?;
        let name = format!("{PREFIX}{}.db", taken.millis());
        let file = self.folder.join(&name);
        files::remove_database(&file)?;
        // SQLite takes an empty file, and one that it makes itself may be read by others.
        files::write(&file, &[])?;
        copies::copy_into(self.db, &file).await?;
        files::sync(&file)?;
        kill_point!("backup.database.after");
        let db = Db::open_sqlite(&file).await?;
        let damage = copies::find_damage(&db).await?;
        if let Some(first) = damage.first() {
            bail!("the copy of the database is damaged, and so is the database: {first}");
        }
        // As the copy itself has it.
        let epoch = rows::find(&db)
            .await?
            .context("the copy names no database")?;
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

    /// What has to stay free where the folder is: nothing, unless the server writes to the same disk. There the copy of
    /// the database has to fit as well.
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

    /// One at a time; it ends with the process.
    fn lock_folder(&self) -> anyhow::Result<File> {
        let lock = File::create(self.folder.join(LOCK))?;
        if lock.try_lock().is_err() {
            bail!("another pixtoll backup writes to {}", self.folder.display());
        }
        Ok(lock)
    }

    /// What a run left that died: copies of the database that the manifest doesn't name.
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
        if moves::standing(self.db).await? != Standing::Open {
            bail!(
                "the database is being moved: finish that first, or give it up by pixtoll migrate --cancel"
            );
        }
        match epoch::age(self.db, self.store).await? {
            Some(Age::Current) => {}
            Some(Age::Behind | Age::Other) => bail!(
                "the database isn't the one that its store knows: a copy of it would stand in the place of a better \
                 one. See pixtoll ledger check"
            ),
            None => bail!("no server has used this database yet: there is nothing to back up"),
        }
        rows::find(self.db)
            .await?
            .context("the database has no name")
    }

    /// Makes the folder, or refuses one that holds something else before anything is written there.
    fn make_folder(&self) -> anyhow::Result<()> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE)
            .create(self.folder)
            .with_context(|| format!("{} can't be made", self.folder.display()))?;
        if Manifest::find(self.folder)?.is_none() && !self.is_empty()? {
            bail!(
                "{} is not empty, and holds no backup: name another folder",
                self.folder.display()
            );
        }
        Ok(())
    }

    /// Whether nothing is in the folder but our lock.
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

    /// Payers and payments are in it, and the names of all images: for its owner alone, also where somebody else made it.
    fn close_to_others(&self) {
        let closed = std::fs::metadata(self.folder).and_then(|found| {
            if found.permissions().mode() & 0o777 & !PRIVATE == 0 {
                return Ok(());
            }
            std::fs::set_permissions(self.folder, Permissions::from_mode(PRIVATE))
        });
        if let Err(error) = closed {
            tracing::warn!(%error, "the folder of the backup can't be closed to other users: it holds payments and links");
        }
    }

    /// Copies the objects that the copy's rows speak of, and lets the folder hold this copy instead of the older one.
    /// `tell` hears how far it has come, `lost` of live images whose object is lost.
    ///
    /// # Errors
    /// When something can't be read or written; then the folder holds the older copy. Where only the mark in the store
    /// can't be, it holds the new one.
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
        // What was under way while this copy was made is compared by the next one.
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

    /// From here on the folder holds the new copy.
    async fn switch(
        &self,
        draft: Draft,
        sum: Sum,
        known_before: Timestamp,
        to: &Store,
    ) -> anyhow::Result<Sum> {
        let first = Timestamp::from_millis(draft.manifest.first_ms);
        // The database goes on: whoever uses this copy has lost what came after it, and is told so by this mark.
        let mark = Mark {
            epoch: draft.epoch.epoch.saturating_add(1),
            ..draft.epoch.clone()
        };
        to.put_mark(&mark).await?;
        draft.db.close().await;
        files::sync(&draft.file)?;
        let copy = Copy {
            file: draft.name,
            sha256: files::sha256(&draft.file)?,
            epoch: draft.epoch.epoch,
            taken_at: draft.taken.to_string(),
            taken_ms: draft.taken.millis(),
            known_before_ms: known_before.millis(),
            images: sum.images - sum.gone,
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
        forget_deleted(self.db, to, first).await?;
        Ok(sum)
    }
}
