//! How much room is left where the images are, injected like the time, so that tests can fill a disk; and files that
//! only their owner reads.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

/// Creates an empty file with mode 0600, or less where the umask allows less. A file that exists is not even opened:
/// closing it would end the locks that SQLite holds on it in this process.
///
/// # Errors
/// When the file is not there and can't be created.
pub fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    match options.open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        Err(_) | Ok(_) => Ok(()),
    }
}

/// Whether there was room when it was last looked at, so that the log tells each change once.
#[derive(Debug, Default)]
pub struct RoomLog {
    is_full: AtomicBool,
}

impl RoomLog {
    /// Logs at WARN when the free space has fallen below `floor`, and when it is back above.
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
                "the free space of images.store is above images.min_free again; uploads are accepted"
            );
        } else {
            tracing::warn!(
                ?folder,
                free,
                min_free,
                "the free space of images.store is below images.min_free; uploads are refused until space is freed"
            );
        }
    }

    fn changes(&self, has_room: bool) -> bool {
        self.is_full.swap(!has_room, Ordering::Relaxed) == has_room
    }
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

impl Floor {
    /// The bytes that are free now, where they can be read.
    fn free_bytes(&self) -> Option<u64> {
        self.disk.free_bytes(self.folder.as_deref()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_change_of_the_room_is_told_once() {
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
