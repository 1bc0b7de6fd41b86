//! Opens the database and its locks, and compares the database's stamps with the configuration.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::stamps;
use crate::config::{Config, Connections, DatabaseUrl};
use crate::db::{Db, deployment};
use crate::moving::refuse_gone;
use crate::pricing::networks;

/// Opens the database. For SQLite, the lock keeps a second server out, and ends with the process.
pub(super) async fn open_database(config: &Config) -> anyhow::Result<(Db, Option<File>)> {
    match &config.database {
        DatabaseUrl::Sqlite(path) => {
            let lock = lock_server(path)?;
            let db = Db::open_sqlite(path).await?;
            warn_of_readers(path);
            Ok((db, Some(lock)))
        }
        DatabaseUrl::Postgres(url) => {
            let db = Db::connect_postgres_with(url, &config.connections).await?;
            Ok((db, None))
        }
    }
}

/// Warns about a database file that others can read: earlier versions created it with the umask's
/// mode. The mode is kept, since a backup program may need it.
fn warn_of_readers(path: &Path) {
    let Ok(found) = path.metadata() else { return };
    if found.permissions().mode() & 0o007 != 0 {
        tracing::warn!(
            file = %path.display(),
            "other users of this machine may read the database, which contains hashes of tokens and records of payments: \
             run chmod o= on the file and on those beside it that end in -wal and -shm"
        );
    }
}

/// Takes the lock that keeps every other server from this SQLite file. It ends with the process.
///
/// # Errors
/// When another server holds the lock.
pub fn lock_server(path: &Path) -> anyhow::Result<File> {
    make_parent(path)?;
    let lock_path = path.with_extension("lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .with_context(|| format!("{} can't be opened", lock_path.display()))?;
    if lock.try_lock().is_err() {
        bail!(
            "another pixtoll server uses {}: stop it, or set another database.url for this one \
             (several servers share a PostgreSQL database)",
            path.display()
        );
    }
    Ok(lock)
}

/// The file by which the reapers of a SQLite database exclude each other. They all run on one
/// machine.
pub fn reaper_lock(url: &DatabaseUrl) -> Option<PathBuf> {
    match url {
        DatabaseUrl::Sqlite(path) => Some(path.with_extension("reaper.lock")),
        DatabaseUrl::Postgres(_) => None,
    }
}

/// Opens the database for a command that may run beside a server.
///
/// # Errors
/// When the database doesn't exist or can't be opened.
pub async fn open_database_beside(url: &DatabaseUrl) -> anyhow::Result<Db> {
    let db = match url {
        DatabaseUrl::Sqlite(path) => {
            if !path.exists() {
                bail!(
                    "there is no database at {}: start the server once, or correct database.url",
                    path.display()
                );
            }
            Db::open_sqlite(path).await?
        }
        DatabaseUrl::Postgres(url) => {
            Db::connect_postgres_with(url, &Connections::of_a_command()).await?
        }
    };
    if !db.is_current().await? {
        bail!(
            "this database was made by another version of pixtoll: start a server of this version once, or run the command of that version"
        );
    }
    refuse_gone(&db).await?;
    register_networks(&db).await?;
    Ok(db)
}

/// Opens a SQLite database that is moved or has moved, even if nothing else may use it any more.
/// The lock keeps a second move out, and ends with the process.
///
/// # Errors
/// When the database doesn't exist, is of another version, or another move runs.
pub async fn open_source(path: &Path) -> anyhow::Result<(Db, File)> {
    if !path.exists() {
        bail!(
            "there is no database at {}: set database.url as in the server's configuration",
            path.display()
        );
    }
    let lock_path = path.with_extension("move.lock");
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    let lock = options
        .open(&lock_path)
        .with_context(|| format!("{} can't be opened", lock_path.display()))?;
    if lock.try_lock().is_err() {
        bail!("another pixtoll migrate is running: wait until it ends");
    }
    let db = Db::open_sqlite(path).await?;
    if !db.is_current().await? {
        bail!(
            "this database was made by another version of pixtoll: start a server of this version once, and run \
             this again"
        );
    }
    Ok((db, lock))
}

/// Registers the networks that this database was made with, so that its rows can be read whatever
/// the configuration is now.
///
/// # Errors
/// When the configuration defines one of them differently.
pub async fn register_networks(db: &Db) -> anyhow::Result<()> {
    for (caip2, definition) in deployment::list(db, stamps::NETWORK).await? {
        let definition = serde_json::from_str(&definition)
            .with_context(|| format!("the database's definition of {caip2} can't be read"))?;
        networks::add(definition).with_context(|| {
            format!(
                "the configuration defines {caip2} differently from the ledger: correct [[networks]]"
            )
        })?;
    }
    Ok(())
}

pub(super) async fn check_stamp(
    db: &Db,
    name: &str,
    value: &str,
    what: &str,
) -> anyhow::Result<()> {
    let stamped = deployment::stamp(db, name, value).await?;
    if stamped != value {
        bail!(
            "this database was made for {what}: it is stamped {name} = {stamped}, and the configuration \
             has {value}. Restore the old setting, or set another database.url"
        );
    }
    Ok(())
}

pub(super) fn make_parent(path: &Path) -> anyhow::Result<()> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{} can't be created", folder.display()))?;
    }
    Ok(())
}
