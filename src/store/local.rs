//! File operations that `object_store` lacks: an image and its sidecar together, and deletes that
//! survive a power cut. `object_store` would sync their folder for each. Its delete syncs nothing,
//! and a row must not say that an image is gone if the file may come back.

use std::collections::BTreeSet;
use std::fs::{File, create_dir_all, remove_file, rename};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::task::spawn_blocking;

/// How many files a thread deletes, and how many threads there are.
const FILES_A_THREAD: usize = 128;
const THREADS: usize = 4;
/// At most this many folders are synced one by one. For more, the whole file system is synced at
/// once.
#[cfg(target_os = "linux")]
const MOST_FOLDERS: usize = 8;

/// The number of folders above that of an image, to the root of the store.
const FOLDERS_ABOVE: usize = 3;

/// Whether a deleted file existed, or why it may still exist.
pub(super) type Outcome = io::Result<bool>;

/// Deletes these files below `root`, several at a time. The deletes are durable when it returns.
/// The outcomes are in the order of the files.
///
/// # Errors
/// When the deletes can't be made durable. Any of the files may come back then.
pub(super) async fn delete(root: &Arc<Path>, files: Vec<PathBuf>) -> io::Result<Vec<Outcome>> {
    let folders: BTreeSet<PathBuf> = files
        .iter()
        .filter_map(|file| file.parent().map(Path::to_path_buf))
        .collect();
    let shares: Vec<Vec<PathBuf>> = files.chunks(FILES_A_THREAD).map(<[_]>::to_vec).collect();
    let outcomes: Vec<Vec<Outcome>> = stream::iter(shares)
        .map(|share| spawn_blocking(move || share.iter().map(|file| delete_one(file)).collect()))
        .buffered(THREADS)
        .try_collect()
        .await?;
    let root = Arc::clone(root);
    spawn_blocking(move || sync(&root, &folders)).await??;
    Ok(outcomes.into_iter().flatten().collect())
}

/// A file to write.
pub(super) struct New {
    /// The path of the file.
    pub(super) file: PathBuf,
    /// What its draft is called, after the name of the file. No key ends like this, and the next
    /// writer reuses the draft of a stopped one.
    pub(super) draft: &'static str,
    pub(super) bytes: Bytes,
}

/// Writes files in one folder, each whole or not at all. They are durable when it returns.
///
/// # Errors
/// When they can't be written. Each older file is unchanged then, or replaced as a whole.
pub(super) async fn write(files: Vec<New>) -> io::Result<()> {
    spawn_blocking(move || {
        // Two writers would use the same draft.
        let _turn = files.last().map(|last| turn(&last.file));
        let written = write_drafts(&files).and_then(|()| publish(&files));
        if written.is_err() {
            for new in &files {
                // The draft is deleted with the image otherwise.
                if let Err(error) = delete_one(&new.draft()) {
                    tracing::warn!(%error, "an unfinished file was not deleted");
                }
            }
        }
        written
    })
    .await?
}

/// Writes the drafts, durably.
fn write_drafts(files: &[New]) -> io::Result<()> {
    let mut drafts = Vec::with_capacity(files.len());
    for new in files {
        let draft = new.draft();
        let mut opened = match File::create(&draft) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_folders(new.folder())?;
                File::create(&draft)?
            }
            opened => opened?,
        };
        opened.write_all(&new.bytes)?;
        drafts.push(opened);
    }
    // After all are written, so that the disk works on all at the first sync.
    drafts.iter().try_for_each(File::sync_data)
}

/// Gives the drafts their names, durably.
fn publish(files: &[New]) -> io::Result<()> {
    for new in files {
        rename(new.draft(), &new.file)?;
    }
    let Some(new) = files.first() else {
        return Ok(());
    };
    File::open(new.folder())?.sync_all()?;
    // Another upload may have created the folder, and not synced it yet.
    let made = making(new.folder()).read();
    drop(made.unwrap_or_else(PoisonError::into_inner));
    Ok(())
}

/// The path of a file's draft whose name ends in `end`.
pub(super) fn draft_of(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

impl New {
    fn draft(&self) -> PathBuf {
        draft_of(&self.file, self.draft)
    }

    fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("."))
    }
}

/// Waits until no other task of this process writes this file, until the guard is dropped.
fn turn(file: &Path) -> MutexGuard<'static, ()> {
    static TURNS: [Mutex<()>; LOCKS] = [const { Mutex::new(()) }; LOCKS];
    let turn = TURNS.get(lock_of(file)).unwrap_or(&TURNS[0]);
    turn.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lock of those who create a folder. Who finds the folder reads it before relying on it.
fn making(folder: &Path) -> &'static RwLock<()> {
    static MAKING: [RwLock<()>; LOCKS] = [const { RwLock::new(()) }; LOCKS];
    MAKING.get(lock_of(folder)).unwrap_or(&MAKING[0])
}

/// How many locks stand for all paths.
const LOCKS: usize = 64;

/// The number of the lock that stands for this path.
fn lock_of(path: &Path) -> usize {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    usize::try_from(hasher.finish()).unwrap_or(usize::MAX) % LOCKS
}

/// Creates the folder of an image and its parents, durably.
fn create_folders(folder: &Path) -> io::Result<()> {
    let making = making(folder).write();
    let _making = making.unwrap_or_else(PoisonError::into_inner);
    create_dir_all(folder)?;
    // Also those that exist: another upload may have created them, and not synced them yet.
    for above in folder.ancestors().skip(1).take(FOLDERS_ABOVE) {
        File::open(above)?.sync_all()?;
    }
    Ok(())
}

/// Reads a small file; `None`: it doesn't exist.
///
/// # Errors
/// When it can't be read.
pub(super) async fn read(file: PathBuf) -> io::Result<Option<Vec<u8>>> {
    spawn_blocking(move || match std::fs::read(file) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    })
    .await?
}

fn delete_one(file: &Path) -> Outcome {
    match remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn sync(root: &Path, folders: &BTreeSet<PathBuf>) -> io::Result<()> {
    // A batch touches hundreds of folders, and syncing each waits for the disk.
    #[cfg(target_os = "linux")]
    if folders.len() > MOST_FOLDERS {
        return Ok(rustix::fs::syncfs(File::open(root)?)?);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = root;
    for folder in folders {
        match File::open(folder) {
            Ok(opened) => opened.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
