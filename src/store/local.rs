//! Deleting files of the local store so that a power cut doesn't bring them back: the object store's own
//! delete syncs nothing, and a row must not say that an image is gone which may be there again.

use std::collections::BTreeSet;
use std::fs::{File, remove_file};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::task::spawn_blocking;

/// How many files a thread deletes, and how many threads do.
const FILES_A_THREAD: usize = 128;
const THREADS: usize = 4;
/// Up to so many folders are synced one by one. For more, the whole file system is, in one go.
#[cfg(target_os = "linux")]
const MOST_FOLDERS: usize = 8;

/// What became of a file: whether it had been there, or why it still may be.
pub(super) type Outcome = io::Result<bool>;

/// Deletes these files below `root`, several at a time; when it returns they are gone for good. The
/// outcomes are in the order of the files.
///
/// # Errors
/// When deletes can't be made durable; then any of the files may be there again one day.
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

fn delete_one(file: &Path) -> Outcome {
    match remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn sync(root: &Path, folders: &BTreeSet<PathBuf>) -> io::Result<()> {
    // A batch touches hundreds of folders, and each sync of one waits for the disk.
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
