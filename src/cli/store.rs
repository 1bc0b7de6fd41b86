//! `pixtoll store`: compares the image store with the database, and copies it. This is the only code that lists the
//! whole store. It deletes an object only when its row says that the image is deleted.

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;

use super::ServeArgs;
use super::reap::{open_retention, open_store_beside};
use crate::app::open_database_beside;
use crate::config::{Config, load};
use crate::db::Db;
use crate::retention::ReapError;
use crate::retention::audit::{Audit, Mismatch, audit, purge};
use crate::store::Store;
use crate::system::clock::{Clock, SystemClock};

mod copy;

/// The arguments of `pixtoll store`, which may run beside the server.
#[derive(Debug, clap::Args)]
pub struct StoreArgs {
    /// The settings, which name the database and the store.
    #[command(flatten)]
    pub place: ServeArgs,
    /// The subcommand.
    #[command(subcommand)]
    pub command: StoreCommand,
}

/// The subcommands of `pixtoll store`.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Compare the images in the database with the objects in the store
    ///
    /// Prints a line for each difference. Changes nothing without --repair. Exits with 1 when
    /// differences remain.
    #[command(verbatim_doc_comment)]
    Audit {
        /// Repair what is safe to repair: move objects without a database row to quarantine for 30 days,
        /// delete objects of deleted images, and rewrite missing or outdated records beside objects.
        #[arg(long)]
        repair: bool,
    },
    /// Copy the images to another store, such as a bucket
    ///
    /// Copies every object that the database names, checks its SHA-256, and skips what an earlier run
    /// copied. To move a deployment: run it while the server runs, stop the server, run it once more,
    /// then start the server with images.store set to the new store. Exits with 1 when an image has
    /// lost its object.
    #[command(verbatim_doc_comment)]
    Copy(copy::CopyArgs),
}

/// Runs a subcommand and returns its exit code.
///
/// # Errors
/// When the settings are invalid, or the database or a store doesn't answer.
pub async fn run(args: &StoreArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = load(&args.place.sources())?.config;
    let store = open_store_beside(&config.images.store)?;
    let repair = match &args.command {
        StoreCommand::Audit { repair } => *repair,
        StoreCommand::Copy(to) => return copy::run(&args.place, &config, &store, to, out).await,
    };
    let db = open_database_beside(&config.database).await?;
    let mut trouble = None;
    let done = audit(&db, &store, SystemClock.now(), repair, |mismatch| {
        if let Err(error) = print(&mismatch, out) {
            trouble = Some(error);
        }
    })
    .await;
    if let Some(error) = trouble {
        return Err(error.into());
    }
    let Audit {
        rows,
        objects,
        variants,
        open,
    } = done?;
    writeln!(
        out,
        "compared {rows} live images with {objects} objects; {open} differences remain"
    )?;
    if variants > 0 {
        writeln!(out, "{variants} variants are stored beside live images")?;
    }
    if repair {
        empty_quarantine(&config, &db, &store, out).await?;
    }
    db.close().await;
    Ok(if open == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Deletes objects that have been in quarantine for 30 days, unless this machine's clock is in doubt.
async fn empty_quarantine(
    config: &Config,
    db: &Db,
    store: &Store,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let retention = open_retention(config, db.clone(), store.clone())?;
    match retention.check_clock().await {
        Ok(()) => {}
        Err(doubt @ ReapError::Clock(_)) => {
            tracing::warn!("{doubt}");
            writeln!(
                out,
                "nothing was deleted from quarantine: no other clock confirms the time of this machine"
            )?;
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    }
    let purged = purge(store, SystemClock.now()).await?;
    if purged > 0 {
        writeln!(out, "deleted {purged} objects after 30 days in quarantine")?;
    }
    Ok(())
}

fn print(mismatch: &Mismatch, out: &mut impl Write) -> std::io::Result<()> {
    match mismatch {
        Mismatch::NoObject { id } => writeln!(out, "LOST: image {id} is live and has no object"),
        Mismatch::OtherSize { id, row, object } => writeln!(
            out,
            "LOST: image {id} has {row} bytes in the database, but {object} in the store"
        ),
        Mismatch::HeldMissing { id } => {
            writeln!(out, "LOST: the content of the held image {id} is missing")
        }
        Mismatch::NotDescribed { id, repaired } => writeln!(
            out,
            "NO RECORD: object {id} has no record beside it, or an outdated one{}",
            if *repaired { "; written" } else { "" }
        ),
        Mismatch::NoRow { id, repaired } => writeln!(
            out,
            "ROWLESS: object {id} has no row in the database{}",
            if *repaired {
                "; moved to quarantine"
            } else {
                ""
            }
        ),
        Mismatch::LeftOver { id, repaired } => writeln!(
            out,
            "LEFT OVER: object {id} still exists, but its image is deleted{}",
            if *repaired { "; deleted" } else { "" }
        ),
        Mismatch::NoVariant { id, name, repaired } => writeln!(
            out,
            "NO VARIANT: variant {name} of image {id} has no object, and is made again when it is asked for{}",
            if *repaired {
                "; its row is deleted"
            } else {
                ""
            }
        ),
        Mismatch::VariantLeft {
            id,
            digits,
            repaired,
        } => writeln!(
            out,
            "LEFT OVER: object {id}.{digits} of a variant has no row{}",
            if *repaired { "; deleted" } else { "" }
        ),
        Mismatch::Foreign { key } => writeln!(out, "FOREIGN: {key} was not written by pixtoll"),
    }
}
