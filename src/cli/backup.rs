//! `pixtoll backup` copies a SQLite deployment into a folder; `pixtoll restore` restores it from there.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::ServeArgs;
use super::progress::Progress;
use super::reap::{open_new_store, open_store_beside};
use crate::app::{
    find_secrets, lock_server, open_database_beside, read_secrets, register_networks, stamps,
};
use crate::config::{Config, DatabaseUrl, SecretKeySource, load};
use crate::db::{Db, deployment};
use crate::model::image::Image;
use crate::moving::backup::{Backup, KEY};
use crate::moving::objects::Sum;
use crate::moving::restore::{Opened, Restore, Restored, place_key, refuse_taken};
use crate::payments::recovery::check::check;
use crate::pricing::tiers::TierTable;
use crate::system::clock::{Clock, SystemClock, Timestamp};
use crate::system::disk::Disk;

/// The exit code for a command that doesn't apply to this deployment.
const USAGE: u8 = 2;

/// The arguments of `pixtoll backup`, which may run beside the server.
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// The settings, which name the database and the store.
    #[command(flatten)]
    pub place: ServeArgs,
    /// The folder for the backup: a new one, or that of an earlier backup, where only what changed is
    /// copied.
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Copy secrets.key as well. Protect this backup: anyone with the key can make every token.
    #[arg(long)]
    pub with_key: bool,
}

/// The arguments of `pixtoll restore`, which needs the server to be stopped.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// The settings, which name the database and the store to restore to.
    #[command(flatten)]
    pub place: ServeArgs,
    /// The folder of the backup.
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Only the database is lost: images.store still holds this deployment's images, and no server uses it.
    /// Adds the images that are missing there, and keeps images that were renewed after the backup until
    /// their new expiry.
    #[arg(long)]
    pub store_survived: bool,
}

/// Runs `pixtoll backup`. Returns exit code 1 when the copy is complete but a row breaks a ledger rule or an
/// image has lost its object.
///
/// # Errors
/// When something can't be read or written. The folder then still holds the previous copy.
pub async fn back_up(args: &BackupArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = load(&args.place.sources())?.config;
    let DatabaseUrl::Sqlite(file) = &config.database else {
        return refuse_postgres(out);
    };
    let store = open_store_beside(&config.images.store)?;
    let db = open_database_beside(&config.database).await?;
    let backup = Backup {
        db: &db,
        store: &store,
        folder: &args.folder,
        clock: &SystemClock,
        disk: Disk::system(),
        file,
        min_free: config.images.min_free,
    };
    let done = copy(&config, &backup, args, out).await;
    db.close().await;
    done
}

fn refuse_postgres(out: &mut impl Write) -> anyhow::Result<ExitCode> {
    writeln!(
        out,
        "database.url names PostgreSQL, and this command works with SQLite only. Back up the database with pg_dump, \
         or with base backups and point-in-time recovery, and the image store with versioning of the bucket. Run \
         pixtoll ledger mark after each backup"
    )?;
    Ok(ExitCode::from(USAGE))
}

async fn copy(
    config: &Config,
    backup: &Backup<'_>,
    args: &BackupArgs,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let key = if args.with_key {
        Some(key_of(config, backup.db).await?)
    } else {
        None
    };
    let draft = backup.begin().await?;
    let broken = print_broken(&draft.db, SystemClock.now(), out).await?;
    let mut progress = Progress::new();
    let mut lost = Vec::new();
    let told = |sum: &Sum, all| progress.step("copying objects", sum.images, all);
    let name = |image: &Image, how| lost.push(lost_line(image, how));
    let sum = backup.finish(draft, told, name).await;
    progress.end();
    let sum = sum?;
    if let Some(key) = key {
        place_key(&key, &args.folder.join(KEY))?;
    }
    for line in &lost {
        writeln!(out, "{line}")?;
    }
    print_sum(&sum, out)?;
    writeln!(
        out,
        "backed up to {}{}; marked in the store, so that a server on this copy knows that payments may be missing",
        args.folder.display(),
        if args.with_key {
            ", with the key"
        } else {
            ", without the key"
        }
    )?;
    Ok(verdict(broken, sum.lost))
}

/// The path of the key file.
///
/// # Errors
/// When the key is in the settings rather than in a file, or is not the key of this database.
async fn key_of(config: &Config, db: &Db) -> anyhow::Result<PathBuf> {
    let SecretKeySource::FileUnderData(path) = &config.secrets_key else {
        bail!(
            "--with-key copies a key file, but secrets.key is set in the configuration: back up the configuration, and \
             run this command without --with-key"
        );
    };
    let keys = read_secrets(path)?;
    let stamped = deployment::find(db, stamps::KEY).await?;
    if !stamped.is_some_and(|stamped| keys.has(&stamped)) {
        bail!(
            "{} is not the key of this database: put the right key there, or run this command without --with-key",
            path.display()
        );
    }
    Ok(path.clone())
}

fn verdict(broken: usize, lost: u64) -> ExitCode {
    if broken == 0 && lost == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs the checks of `pixtoll ledger check --offline` on a copy, prints what is broken and returns the
/// number of those rows.
async fn print_broken(db: &Db, now: Timestamp, out: &mut impl Write) -> anyhow::Result<usize> {
    let report = check(db, now, &[], &TierTable::default()).await?;
    for (rule, finding) in &report.broken {
        writeln!(
            out,
            "BROKEN: {rule}: {}: {}",
            finding.row_key, finding.detail
        )?;
    }
    writeln!(
        out,
        "{} payments settled for {} atomic units; {} rules checked, {} rows break a rule",
        report.settled,
        report.settled_sum,
        report.rules,
        report.broken.len()
    )?;
    Ok(report.broken.len())
}

/// The line about a live image whose object is missing or damaged; `how` says which.
pub(super) fn lost_line(image: &Image, how: &str) -> String {
    format!("LOST: image {} is live, and {how}", image.id)
}

/// Prints the totals of a copy.
pub(super) fn print_sum(sum: &Sum, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(
        out,
        "objects: {} copied ({} bytes) and compared with the database, {} already there with the same SHA-256, \
         {} compared by an earlier run, {} sealed under a hold, {} images without one, {} lost",
        sum.copied, sum.copied_bytes, sum.same, sum.known, sum.sealed, sum.gone, sum.lost
    )
}

/// Runs `pixtoll restore`. Returns exit code 1 when the restore is complete but a row breaks a ledger rule or an
/// image has lost its object.
///
/// # Errors
/// When the backup is damaged or a database exists already. No database is put in place then.
pub async fn restore(args: &RestoreArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = load(&args.place.sources())?.config;
    let DatabaseUrl::Sqlite(file) = &config.database else {
        return refuse_postgres(out);
    };
    refuse_taken(file)?;
    // Keeps a server from starting here meanwhile.
    let _lock = lock_server(file)?;
    let store = open_new_store(&config.images.store).await?;
    let restore = Restore {
        folder: &args.folder,
        file,
        store: &store,
        store_survived: args.store_survived,
        now: SystemClock.now(),
    };
    let opened = restore.open().await?;
    register_networks(&opened.db).await?;
    let key = find_backed_up_key(&config, &args.folder, &opened.db).await?;
    restore.check_store(&opened).await?;
    let taken = Timestamp::from_millis(opened.copy.taken_ms);
    let broken = print_broken(&opened.db, taken, out).await?;
    // Before the database: once that is in place, this command refuses to run again.
    if let Some((from, to)) = &key {
        place_key(from, to)?;
    }
    let Restored { sum, longer } = put_back(&restore, opened, out).await?;
    print_sum(&sum, out)?;
    if longer > 0 {
        writeln!(
            out,
            "{longer} images are kept longer than the backup says: their records in the store show later renewals"
        )?;
    }
    writeln!(out, "restored to {} as it was at {taken}", file.display())?;
    if key.is_none() && find_secrets(&config.secrets_key)?.is_none() {
        writeln!(
            out,
            "before you start the server, put this deployment's secrets.key in place: the server refuses any other key"
        )?;
    }
    writeln!(
        out,
        "next: start the server, which serves images but sells nothing yet, and run pixtoll ledger recover to find \
         the payments since the backup on the chain"
    )?;
    Ok(verdict(broken, sum.lost))
}

async fn put_back(
    restore: &Restore<'_>,
    opened: Opened,
    out: &mut impl Write,
) -> anyhow::Result<Restored> {
    let mut progress = Progress::new();
    let mut lost = Vec::new();
    let told = |sum: &Sum, all| progress.step("copying objects", sum.images, all);
    let name = |image: &Image, how| lost.push(lost_line(image, how));
    let restored = restore.finish(opened, told, name).await;
    progress.end();
    for line in &lost {
        writeln!(out, "{line}")?;
    }
    restored
}

/// The key file of the backup and the path to copy it to. `None` when a key is in place already, or the backup
/// holds none.
///
/// # Errors
/// When the key in place, or the one in the backup, is not the key of this database.
async fn find_backed_up_key(
    config: &Config,
    folder: &Path,
    db: &Db,
) -> anyhow::Result<Option<(PathBuf, PathBuf)>> {
    let stamped = deployment::find(db, stamps::KEY)
        .await?
        .context("the backup's database doesn't name its key; it was never used by a server")?;
    if let Some(keys) = find_secrets(&config.secrets_key)? {
        if !keys.has(&stamped) {
            bail!(
                "the secrets.key in place here is not the key of the backup: replace it with that deployment's key"
            );
        }
        return Ok(None);
    }
    let from = folder.join(KEY);
    let SecretKeySource::FileUnderData(to) = &config.secrets_key else {
        return Ok(None);
    };
    if !from.exists() {
        return Ok(None);
    }
    if !read_secrets(&from)?.has(&stamped) {
        bail!(
            "{} is not the key of the backup's database: replace it with the right one, or remove it and put the key \
             in place yourself",
            from.display()
        );
    }
    Ok(Some((from, to.clone())))
}
