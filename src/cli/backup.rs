//! `pixtoll backup` and `pixtoll restore`: a SQLite deployment in a folder, and back.

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
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::{Config, DatabaseUrl, SecretKeySource, load};
use crate::db::{Db, deployment};
use crate::disk::Disk;
use crate::model::image::Image;
use crate::moving::backup::{Backup, KEY};
use crate::moving::objects::Sum;
use crate::moving::restore::{Opened, Restore, Restored, place_key, refuse_taken};
use crate::payments::ledger::check;

/// The command can't be carried out as it is written.
const USAGE: u8 = 2;

/// `pixtoll backup …`. Works beside a running server.
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// Where database and store are.
    #[command(flatten)]
    pub place: ServeArgs,
    /// The folder that the copy goes to: a new one, or that of an earlier backup, where only what is new is
    /// copied.
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Copy secrets.key as well. Who has it can make every token.
    #[arg(long)]
    pub with_key: bool,
}

/// `pixtoll restore …`. For a place where no server runs.
#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    /// Where database and store are going to be.
    #[command(flatten)]
    pub place: ServeArgs,
    /// The folder of the backup.
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// The image store is what is left of the deployment that was lost, and no server uses it: what is missing there is
    /// put back, and what was renewed since the backup is kept for as long as its record there says.
    #[arg(long)]
    pub store_survived: bool,
}

/// Runs `pixtoll backup`. Exit code 1: the copy is there, and a row breaks a rule or has lost its object.
///
/// # Errors
/// When something can't be read or written; then the folder holds the older copy.
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
        "this deployment's database is PostgreSQL: back it up by its own means (pg_dump, or a base backup with \
         point-in-time recovery), and the store by those of the bucket (versioning). Run pixtoll ledger mark after \
         each backup"
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
        "backed up to {}{}; noted in the store: who restores this copy is told that the database went on",
        args.folder.display(),
        if args.with_key {
            ", with the key"
        } else {
            ", without the key"
        }
    )?;
    Ok(verdict(broken, sum.lost))
}

/// The file of the key, which must be the database's.
async fn key_of(config: &Config, db: &Db) -> anyhow::Result<PathBuf> {
    let SecretKeySource::FileUnderData(path) = &config.secrets_key else {
        bail!("secrets.key is given by the configuration: keep that one as you keep your settings");
    };
    let keys = read_secrets(path)?;
    let stamped = deployment::find(db, stamps::KEY).await?;
    if !stamped.is_some_and(|stamped| keys.has(&stamped)) {
        bail!("{} is not the key of this database", path.display());
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

/// What `pixtoll ledger check --offline` would name in a copy. How many rows.
async fn print_broken(db: &Db, now: Timestamp, out: &mut impl Write) -> anyhow::Result<usize> {
    let report = check(db, now, &[]).await?;
    for (rule, finding) in &report.broken {
        writeln!(
            out,
            "BROKEN: {rule}: {}: {}",
            finding.row_key, finding.detail
        )?;
    }
    writeln!(
        out,
        "{} payments settled for {} atomic units; {} rules checked, {} rows break one",
        report.settled,
        report.settled_sum,
        report.rules,
        report.broken.len()
    )?;
    Ok(report.broken.len())
}

pub(super) fn lost_line(image: &Image, how: &str) -> String {
    format!("LOST: image {} is live, and {how}", image.id)
}

pub(super) fn print_sum(sum: &Sum, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(
        out,
        "{} objects copied ({} bytes) and compared with their rows, {} were there and are the same by their SHA-256, \
         {} were compared by an earlier run, {} images have none, {} lost",
        sum.copied, sum.copied_bytes, sum.same, sum.known, sum.gone, sum.lost
    )
}

/// Runs `pixtoll restore`. Exit code 1: it is in place, and a row breaks a rule or has lost its object.
///
/// # Errors
/// When the backup is damaged or the place isn't empty; then no database is in place.
pub async fn restore(args: &RestoreArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = load(&args.place.sources())?.config;
    let DatabaseUrl::Sqlite(file) = &config.database else {
        return refuse_postgres(out);
    };
    refuse_taken(file)?;
    // No server starts here meanwhile.
    let _lock = lock_server(file)?;
    let store = open_new_store(&config.images.store).await?;
    let restore = Restore {
        folder: &args.folder,
        file,
        store: &store,
        store_survived: args.store_survived,
    };
    let opened = restore.open().await?;
    register_networks(&opened.db).await?;
    let key = find_backed_up_key(&config, &args.folder, &opened.db).await?;
    restore.check_store(&opened).await?;
    let taken = Timestamp::from_millis(opened.copy.taken_ms);
    let broken = print_broken(&opened.db, taken, out).await?;
    // Before the database: with that in place this command has nothing left to do.
    if let Some((from, to)) = &key {
        place_key(from, to)?;
    }
    let Restored { sum, longer } = put_back(&restore, opened, out).await?;
    print_sum(&sum, out)?;
    if longer > 0 {
        writeln!(
            out,
            "{longer} images are kept longer than the backup knew: their records in the store say that they were renewed since"
        )?;
    }
    writeln!(out, "restored to {} as it was at {taken}", file.display())?;
    if key.is_none() && find_secrets(&config.secrets_key)?.is_none() {
        writeln!(
            out,
            "put its secrets.key in place before you start the server: it refuses another one"
        )?;
    }
    writeln!(
        out,
        "next: start the server, which serves images and sells nothing yet, and run pixtoll ledger recover: it finds \
         on the chain what was paid since"
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

/// The key that the backup holds, and where it goes; `None`: there is one in place, or none at all. One that isn't
/// the database's ends the command before anything is written.
async fn find_backed_up_key(
    config: &Config,
    folder: &Path,
    db: &Db,
) -> anyhow::Result<Option<(PathBuf, PathBuf)>> {
    let stamped = deployment::find(db, stamps::KEY)
        .await?
        .context("the backup names no key")?;
    if let Some(keys) = find_secrets(&config.secrets_key)? {
        if !keys.has(&stamped) {
            bail!("the secrets.key that is in place here is not the one of the backup");
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
        bail!("{} is not the key of the backup's database", from.display());
    }
    Ok(Some((from, to.clone())))
}
