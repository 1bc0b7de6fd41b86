//! Files of a backup, which are written whole and durably, or not at all.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use sha2::{Digest, Sha256};

/// How much of a file is read at once.
const PIECE: usize = 256 * 1024;

/// Writes a small file, readable by its owner only, and replaces an older one.
pub(super) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = folder_of(path);
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)
        .with_context(|| format!("{} can't be written", path.display()))?;
    sync_folder(folder)
}

/// Copies a file into a new one that only its owner can read, durably. Returns the SHA-256 of its
/// bytes.
pub(super) fn copy(from: &Path, to: &Path) -> anyhow::Result<String> {
    let mut source =
        File::open(from).with_context(|| format!("{} can't be read", from.display()))?;
    let mut file = tempfile::NamedTempFile::new_in(folder_of(to))?;
    let hash = pump(&mut source, &mut file)?;
    file.as_file().sync_all()?;
    file.persist(to)
        .with_context(|| format!("{} can't be written", to.display()))?;
    sync_folder(folder_of(to))?;
    Ok(hash)
}

/// Returns the SHA-256 of a file's bytes, in hex.
pub(super) fn sha256(path: &Path) -> anyhow::Result<String> {
    let mut source =
        File::open(path).with_context(|| format!("{} can't be read", path.display()))?;
    Ok(pump(&mut source, &mut io::sink())?)
}

fn pump(from: &mut impl Read, to: &mut impl Write) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece)?;
        let Some(bytes) = piece.get(..length).filter(|bytes| !bytes.is_empty()) else {
            return Ok(hex::encode(hash.finalize()));
        };
        hash.update(bytes);
        to.write_all(bytes)?;
    }
}

/// Makes a written file and its name durable.
pub(super) fn sync(path: &Path) -> anyhow::Result<()> {
    File::open(path)?.sync_all()?;
    sync_folder(folder_of(path))
}

pub(super) fn sync_folder(folder: &Path) -> anyhow::Result<()> {
    Ok(File::open(folder)?.sync_all()?)
}

/// The paths of a SQLite file and of the files that SQLite keeps beside it.
fn names_of_database(path: &Path) -> [PathBuf; 4] {
    ["", "-wal", "-shm", "-journal"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    })
}

/// Finds the existing files among a SQLite file and the files that SQLite keeps beside it.
pub(super) fn find_database(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in names_of_database(path) {
        match name.symlink_metadata() {
            Ok(_) => found.push(name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Removes a SQLite file and the files that SQLite keeps beside it. Missing files are no error.
pub(super) fn remove_database(path: &Path) -> anyhow::Result<()> {
    for name in names_of_database(path) {
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}
