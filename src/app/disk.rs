//! What lies on disk or behind a URL: the database and its locks, the master key, and the stamps by which a
//! database refuses what it wasn't made for.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::stamps;
use crate::config::{Config, DatabaseUrl, SecretKeySource, parse_secret_key};
use crate::db::{Db, deployment};
use crate::networks;
use crate::random::Randomness;
use crate::secrets::SecretKey;

/// The master key, which must be the one that this database was made with.
pub(super) async fn open_key(
    db: &Db,
    config: &Config,
    randomness: &Randomness,
) -> anyhow::Result<SecretKey> {
    let key = load_key(&config.secrets_key, randomness)?;
    check_stamp(db, stamps::KEY, &key.fingerprint(), "another secrets.key").await?;
    Ok(key)
}

/// Opens the database. On SQLite the lock keeps a second server out, and ends with the process.
pub(super) async fn open_database(url: &DatabaseUrl) -> anyhow::Result<(Db, Option<File>)> {
    match url {
        DatabaseUrl::Sqlite(path) => {
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
                    "another pixtoll server uses {}: stop it, or give this one another database.url \
                     (several servers share a PostgreSQL database)",
                    path.display()
                );
            }
            Ok((Db::open_sqlite(path).await?, Some(lock)))
        }
        DatabaseUrl::Postgres(url) => Ok((Db::connect_postgres(url).await?, None)),
    }
}

/// The file by which the reapers of a SQLite database keep apart: they are all on its machine.
pub fn reaper_lock(url: &DatabaseUrl) -> Option<PathBuf> {
    match url {
        DatabaseUrl::Sqlite(path) => Some(path.with_extension("reaper.lock")),
        DatabaseUrl::Postgres(_) => None,
    }
}

/// Opens the database beside a server that may be running, for commands.
///
/// # Errors
/// When there is none, or it can't be opened.
pub async fn open_database_beside(url: &DatabaseUrl) -> anyhow::Result<Db> {
    let db = match url {
        DatabaseUrl::Sqlite(path) => {
            if !path.exists() {
                bail!(
                    "there is no database at {}: start the server once, or set database.url",
                    path.display()
                );
            }
            Db::open_sqlite(path).await?
        }
        DatabaseUrl::Postgres(url) => Db::connect_postgres(url).await?,
    };
    if !db.is_current().await? {
        bail!(
            "this database was made by another version of pixtoll: start that server once, or use its command"
        );
    }
    know_networks(&db).await?;
    Ok(db)
}

/// Makes the networks known that this database was made with, so that its rows can be read whatever
/// the configuration says today.
pub(super) async fn know_networks(db: &Db) -> anyhow::Result<()> {
    for (caip2, definition) in deployment::list(db, stamps::NETWORK).await? {
        let definition = serde_json::from_str(&definition)
            .with_context(|| format!("what the database says of {caip2} can't be read"))?;
        networks::add(definition).with_context(|| {
            format!(
                "the configuration describes {caip2} otherwise than the ledger does: correct [[networks]]"
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
             says {value}; use the old settings, or another database.url"
        );
    }
    Ok(())
}

fn load_key(source: &SecretKeySource, randomness: &Randomness) -> anyhow::Result<SecretKey> {
    match source {
        SecretKeySource::Given(key) => Ok(key.clone()),
        SecretKeySource::FileUnderData(path) => {
            make_parent(path)?;
            if !path.exists() {
                write_key(path, randomness)?;
            }
            read_key(path)
        }
    }
}

fn read_key(path: &Path) -> anyhow::Result<SecretKey> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} can't be read", path.display()))?;
    parse_secret_key(text.trim()).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
}

/// The key, for commands beside a server: none is made where there is none.
///
/// # Errors
/// When its file can't be read, or holds no key.
pub fn find_key(source: &SecretKeySource) -> anyhow::Result<Option<SecretKey>> {
    match source {
        SecretKeySource::Given(key) => Ok(Some(key.clone())),
        SecretKeySource::FileUnderData(path) if path.exists() => read_key(path).map(Some),
        SecretKeySource::FileUnderData(_) => Ok(None),
    }
}

/// Writes a new key whole or not at all: half a key would be another key.
fn write_key(path: &Path, randomness: &Randomness) -> anyhow::Result<()> {
    let folder = path.parent().context("secrets.key lies nowhere")?;
    // A temporary file is readable by its owner only.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(file, "{}", hex::encode(randomness.bytes::<32>()))?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)
        .with_context(|| format!("{} can't be written", path.display()))?;
    Ok(())
}

pub(super) fn make_parent(path: &Path) -> anyhow::Result<()> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{} can't be made", folder.display()))?;
    }
    Ok(())
}
