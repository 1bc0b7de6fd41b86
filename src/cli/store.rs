//! `pixtoll store`: whether rows and objects agree. The one place that lists the store, and it deletes
//! nothing that a row doesn't say is gone.

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;

use super::ServeArgs;
use super::reap::{open_retention, open_store_beside};
use crate::app::open_database_beside;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, load};
use crate::db::Db;
use crate::retention::ReapError;
use crate::retention::audit::{Audit, Finding, audit, purge};
use crate::store::Store;

mod copy;

/// `pixtoll store …`. Works beside a running server.
#[derive(Debug, clap::Args)]
pub struct StoreArgs {
    /// Where database and store are.
    #[command(flatten)]
    pub place: ServeArgs,
    /// What is done.
    #[command(subcommand)]
    pub command: StoreCommand,
}

/// `pixtoll store …`.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Compare rows and objects both ways. Exit code 1 when they don't agree.
    Audit {
        /// Move objects without a row to quarantine for 30 days, delete objects whose row says that they
        /// are gone, and write the records that are missing beside objects.
        #[arg(long)]
        repair: bool,
    },
    /// Copy every object that a row speaks of to another store. As often as you like, also while the server runs;
    /// the last time while it doesn't. Exit code 1 when an image has lost its object.
    Copy(copy::CopyArgs),
}

/// Runs a command.
///
/// # Errors
/// When database or store doesn't answer.
pub async fn run(args: &StoreArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = load(&args.place.sources())?.config;
    let store = open_store_beside(&config.images.store)?;
    let repair = match &args.command {
        StoreCommand::Audit { repair } => *repair,
        StoreCommand::Copy(to) => return copy::run(&args.place, &config, &store, to, out).await,
    };
    let db = open_database_beside(&config.database).await?;
    let mut trouble = None;
    let done = audit(&db, &store, SystemClock.now(), repair, |finding| {
        if let Err(error) = print(&finding, out) {
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
        open,
    } = done?;
    writeln!(
        out,
        "{rows} live images and {objects} objects compared; {open} don't agree"
    )?;
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

/// Deletes what has been in quarantine for 30 days, where the clock is believed.
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
                "the quarantine stays as it is: this machine's clock is not confirmed"
            )?;
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    }
    let purged = purge(store, SystemClock.now()).await?;
    if purged > 0 {
        writeln!(out, "{purged} objects left quarantine after 30 days")?;
    }
    Ok(())
}

fn print(finding: &Finding, out: &mut impl Write) -> std::io::Result<()> {
    match finding {
        Finding::NoObject { id } => writeln!(out, "LOST: image {id} is live and has no object"),
        Finding::OtherSize { id, row, object } => writeln!(
            out,
            "LOST: image {id} has {row} bytes by its row, and {object} in the store"
        ),
        Finding::NotDescribed { id, repaired } => writeln!(
            out,
            "NO RECORD: object {id} has no record beside it, or another one than its row makes{}",
            if *repaired { "; written" } else { "" }
        ),
        Finding::NoRow { id, repaired } => writeln!(
            out,
            "ROWLESS: object {id} has no row{}",
            if *repaired {
                "; moved to quarantine"
            } else {
                ""
            }
        ),
        Finding::LeftOver { id, repaired } => writeln!(
            out,
            "LEFT OVER: object {id} is there, and its row says that it is gone{}",
            if *repaired { "; deleted" } else { "" }
        ),
        Finding::Foreign { key } => writeln!(out, "FOREIGN: {key} is nothing of ours"),
    }
}
