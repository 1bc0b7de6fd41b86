//! How much room is left where the images are, injected like the time, so that tests can fill a disk.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long an answer of the operating system counts.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// Where the free space is asked for.
#[derive(Debug, Clone)]
pub struct Disk(Source);

#[derive(Debug, Clone)]
enum Source {
    System(Arc<Mutex<Option<(Instant, PathBuf, u64)>>>),
    Set(Arc<AtomicU64>),
}

impl Disk {
    /// The operating system's file systems.
    pub fn system() -> Self {
        Self(Source::System(Arc::default()))
    }

    /// A disk with so many bytes left; for tests.
    pub fn with_free(bytes: u64) -> Self {
        Self(Source::Set(Arc::new(AtomicU64::new(bytes))))
    }

    /// Sets what is left on a disk of [`Disk::with_free`].
    pub fn set_free(&self, bytes: u64) {
        if let Source::Set(free) = &self.0 {
            free.store(bytes, Ordering::SeqCst);
        }
    }

    /// The bytes that this process may still write below `folder`. The answer may be a second old.
    ///
    /// # Errors
    /// When the folder's file system can't be asked.
    pub fn free_bytes(&self, folder: &Path) -> std::io::Result<u64> {
        let known = match &self.0 {
            Source::Set(free) => return Ok(free.load(Ordering::SeqCst)),
            Source::System(known) => known,
        };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, path, free)) = &*known
            && at.elapsed() < FRESH_FOR
            && path == folder
        {
            return Ok(*free);
        }
        let found = rustix::fs::statvfs(folder)?;
        // Not f_bfree: a part of that is root's.
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        *known = Some((Instant::now(), folder.to_path_buf(), free));
        Ok(free)
    }
}

/// The room that has to stay free where the images are.
#[derive(Debug, Clone)]
pub struct Floor {
    /// The disk.
    pub disk: Disk,
    /// The folder on it; `None`: nothing is kept on a disk of this machine.
    pub folder: Option<PathBuf>,
    /// So many bytes have to stay free; 0: none.
    pub min_free: u64,
}

/// There is less room than has to stay free.
#[derive(Debug, thiserror::Error)]
#[error("The server has no room for more images just now; nothing was stored.")]
pub struct Full;

impl Floor {
    /// Whether there is room for another image.
    ///
    /// # Errors
    /// [`Full`]. A disk that can't be asked counts as full, since nothing could be stored there.
    pub fn check(&self) -> Result<(), Full> {
        let Some(folder) = self.folder.as_deref().filter(|_| self.min_free > 0) else {
            return Ok(());
        };
        match self.disk.free_bytes(folder) {
            Ok(free) if free >= self.min_free => Ok(()),
            Ok(_) => Err(Full),
            Err(error) => {
                tracing::error!(%error, "the free space of images.store can't be read");
                Err(Full)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_of_a_folder_is_asked_and_a_missing_one_is_an_error() {
        let disk = Disk::system();
        let folder = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let free = disk.free_bytes(folder.path()).unwrap();
        assert!(free > 0 && free < 1 << 60, "{free}");
        // Within a second nobody asks again.
        let again = disk.free_bytes(folder.path()).unwrap();
        assert!(again == free || began.elapsed() >= FRESH_FOR);
        assert!(disk.free_bytes(&folder.path().join("none")).is_err());
    }
}
