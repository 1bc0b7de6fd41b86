//! The free space on the disk of the images, injected so that tests can fill a disk, and files that
//! only their owner can read.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long an answer of the operating system is cached.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// A source of free disk space.
#[derive(Debug, Clone)]
pub struct Disk(Source);

#[derive(Debug, Clone)]
enum Source {
    System(Arc<Mutex<Option<(Instant, PathBuf, u64)>>>),
    Set(Arc<AtomicU64>),
}

impl Disk {
    /// Asks the operating system's file systems.
    pub fn system() -> Self {
        Self(Source::System(Arc::default()))
    }

    /// Creates a disk with `bytes` bytes free, for tests.
    pub fn with_free(bytes: u64) -> Self {
        Self(Source::Set(Arc::new(AtomicU64::new(bytes))))
    }

    /// Sets the free space of a disk from [`Disk::with_free`].
    pub fn set_free(&self, bytes: u64) {
        if let Source::Set(free) = &self.0 {
            free.store(bytes, Ordering::SeqCst);
        }
    }

    /// Returns how many bytes this process may still write below `folder`. The answer may be a
    /// second old.
    ///
    /// # Errors
    /// When the file system of the folder can't be asked.
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
        // Not `f_bfree`, which includes space that is reserved for root.
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        *known = Some((Instant::now(), folder.to_path_buf(), free));
        Ok(free)
    }
}

/// The space that must stay free on the disk of the images.
#[derive(Debug, Clone)]
pub struct Floor {
    /// The source of free disk space.
    pub disk: Disk,
    /// The folder of the images; `None`: the store isn't on a disk of this machine.
    pub folder: Option<PathBuf>,
    /// How many bytes must stay free; 0: none.
    pub min_free: u64,
}

/// Creates an empty file with mode 0600, or a stricter one where the umask demands it. An existing
/// file isn't even opened, since closing it would end the locks that SQLite holds on it in this
/// process.
///
/// # Errors
/// When the file doesn't exist and can't be created.
pub fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    match options.open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        Err(_) | Ok(_) => Ok(()),
    }
}

/// Whether there was enough space at the last check, so that each change is logged once.
#[derive(Debug, Default)]
pub struct RoomLog {
    is_full: AtomicBool,
}

impl RoomLog {
    /// Logs at WARN when the free space falls below `floor`, and when it is above again.
    pub fn note(&self, floor: &Floor, has_room: bool) {
        if !self.changes(has_room) {
            return;
        }
        let (folder, free) = (floor.folder.as_deref(), floor.free_bytes());
        let min_free = floor.min_free;
        if has_room {
            tracing::warn!(
                ?folder,
                free,
                min_free,
                "the free space of images.store is above images.min_free again: uploads are accepted"
            );
        } else {
            tracing::warn!(
                ?folder,
                free,
                min_free,
                "the free space of images.store is below images.min_free: uploads are rejected until you free space"
            );
        }
    }

    fn changes(&self, has_room: bool) -> bool {
        self.is_full.swap(!has_room, Ordering::Relaxed) == has_room
    }
}

/// There is less free space than `images.min_free`.
#[derive(Debug, thiserror::Error)]
#[error("The image was not stored because the server's disk is full. Try again later.")]
pub struct Full;

impl Floor {
    /// Checks that there is space for another image.
    ///
    /// # Errors
    /// [`Full`]. A disk that can't be asked counts as full, since nothing could be stored on it.
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

impl Floor {
    /// The bytes that are free now, if they can be read.
    pub fn free_bytes(&self) -> Option<u64> {
        self.disk.free_bytes(self.folder.as_deref()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_change_of_free_space_is_logged_once() {
        let log = RoomLog::default();
        let looks = [true, false, false, true, true, false];
        let told = looks.map(|has_room| log.changes(has_room));
        assert_eq!(told, [false, true, false, true, false, true]);
    }

    #[test]
    fn a_private_file_has_mode_0600_and_one_that_exists_keeps_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        create_private(&path).unwrap();
        assert_eq!(mode(), 0o600);
        std::fs::write(&path, "kept").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        create_private(&path).unwrap();
        assert_eq!(mode(), 0o640);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
        assert!(create_private(&folder.path().join("none/file")).is_err());
    }

    #[test]
    fn free_space_is_read_and_a_missing_folder_is_an_error() {
        let disk = Disk::system();
        let folder = tempfile::tempdir().unwrap();
        let began = Instant::now();
        let free = disk.free_bytes(folder.path()).unwrap();
        assert!(free > 0 && free < 1 << 60, "{free}");
        // Within a second the cached answer is used.
        let again = disk.free_bytes(folder.path()).unwrap();
        assert!(again == free || began.elapsed() >= FRESH_FOR);
        assert!(disk.free_bytes(&folder.path().join("none")).is_err());
    }
}
