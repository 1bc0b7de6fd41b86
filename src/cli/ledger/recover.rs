//! `pixtoll ledger recover` finds payments on the chain that a database lost, such as after a restore.
//! `pixtoll ledger mark` makes an older copy of the database recognisable.

use std::io::Write;
use std::process::ExitCode;

use anyhow::bail;

use super::{Stamped, stamped_chains};
use crate::app::stamps;
use crate::cli::reap::open_store_beside;
use crate::config::Config;
use crate::db::{Db, credits, deployment};
use crate::epoch::{self, Epoch};
use crate::model::mark::Age;
use crate::moving::survived;
use crate::payments::ledger::ChainSide;
use crate::payments::recover::{Deed, recover};
use crate::system::clock::{Clock, SystemClock};
use crate::system::random::Randomness;

/// Writes each payment that the chain shows and the ledger doesn't know as a credit, and opens paid routes again.
/// With `dry_run` it only lists them.
///
/// # Errors
/// When the store belongs to another database, no chain is known, or the database or a node doesn't answer.
pub(super) async fn run(
    config: &Config,
    db: &Db,
    dry_run: bool,
    from_block: Option<u64>,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let deed = if dry_run { Deed::List } else { Deed::Write };
    let now = SystemClock.now();
    let mut credits = 0;
    let mut chains = stamped_chains(config, db).await?;
    if let Some(block) = from_block {
        begin_at(db, &mut chains, block, deed).await?;
    } else if epoch::age(db, &open_store_beside(&config.images.store)?).await? == Some(Age::Other) {
        bail!(
            "images.store belongs to another database. If that database still exists, set database.url to it. If it \
             is lost, give the block of its first payment with --from-block"
        );
    }
    if chains.is_empty() {
        bail!(
            "the database names no network: start the server once with payments configured and its nodes reachable, \
             then run this command again"
        );
    }
    for stamped in chains {
        let side = ChainSide {
            network: stamped.network,
            chain: &stamped.chain,
            pay_to: stamped.pay_to,
            first_block: stamped.first_block,
        };
        let mut trouble = None;
        let recovered = recover(db, &side, now, deed, |credit| {
            let told = writeln!(
                out,
                "credit: {} atomic units are owed to {}, transaction {}",
                credit.amount, credit.payer, credit.transaction
            );
            trouble = trouble.take().or(told.err());
        })
        .await?;
        if let Some(error) = trouble {
            return Err(error.into());
        }
        writeln!(
            out,
            "{}: {} payments up to block {} were missing from the ledger; {} other transfers belong to no payment",
            side.network.name(),
            recovered.credits,
            recovered.last_block,
            recovered.orphans
        )?;
        credits += recovered.credits;
    }
    if dry_run {
        writeln!(
            out,
            "dry run, nothing was written: {credits} credits would be added"
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    keep_longer(config, db, out).await?;
    epoch(config, db)?.accept().await?;
    writeln!(
        out,
        "added {credits} credits; paid routes are open. A payer uses a credit with a new payment of the same amount, \
         which is not charged"
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Restores the expiry of images whose renewal the database lost, from their records in the store. It must happen
/// before the database counts as current again, because the reaper then deletes by the database's expiry. A database
/// that isn't behind its store lost no renewals, and may know later ones than the store.
async fn keep_longer(config: &Config, db: &Db, out: &mut impl Write) -> anyhow::Result<()> {
    let store = open_store_beside(&config.images.store)?;
    if epoch::age(db, &store).await? != Some(Age::Behind) {
        return Ok(());
    }
    let longer = survived::keep_longer(db, &store).await?;
    if longer > 0 {
        writeln!(
            out,
            "{longer} images are kept longer than the database says: their records in the store show later renewals"
        )?;
    }
    Ok(())
}

/// Moves the ledger's first block back to `block`, so that later checks include the credited transfers. A later
/// block changes nothing.
async fn begin_at(db: &Db, chains: &mut [Stamped], block: u64, deed: Deed) -> anyhow::Result<()> {
    let [only] = chains else {
        bail!(
            "--from-block works for a ledger with one network, and this ledger has {}: run the command without it",
            chains.len()
        );
    };
    if block >= only.first_block {
        return Ok(());
    }
    only.first_block = block;
    if deed == Deed::Write {
        let name = format!("{}.{}", stamps::FIRST_BLOCK, only.network.caip2);
        deployment::set(db, &name, &block.to_string()).await?;
    }
    Ok(())
}

/// Writes a mark to the store by which every backup taken before now is recognised as older.
pub(super) async fn mark(
    config: &Config,
    db: &Db,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    if warn(config, db, out).await? {
        return Ok(ExitCode::FAILURE);
    }
    epoch(config, db)?.advance().await?;
    writeln!(
        out,
        "marked in the store: a server that starts on an older copy of the database pauses paid uploads"
    )?;
    Ok(ExitCode::SUCCESS)
}

fn epoch(config: &Config, db: &Db) -> anyhow::Result<Epoch> {
    let store = open_store_beside(&config.images.store)?;
    Ok(Epoch::new(db.clone(), store, &Randomness::system()))
}

/// Prints a warning and returns `true` when the database is older than its store, or the store belongs to another
/// database.
pub(in crate::cli) async fn warn(
    config: &Config,
    db: &Db,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    // The ledger may be read on a machine without the store.
    let Ok(store) = open_store_beside(&config.images.store) else {
        return Ok(false);
    };
    let why = match epoch::age(db, &store).await? {
        None | Some(Age::Current) => return Ok(false),
        Some(Age::Behind) => "the database is older than its store, so payments may be missing",
        Some(Age::Other) => {
            "the store belongs to another database: set database.url to that one, or, if it is lost, use --from-block"
        }
    };
    writeln!(
        out,
        "STALE: {why}. Paid routes are closed until you run pixtoll ledger recover"
    )?;
    Ok(true)
}

/// Prints the open credits.
pub(super) async fn list_credits(db: &Db, out: &mut impl Write) -> anyhow::Result<()> {
    let open = credits::list_open(db).await?;
    for credit in &open {
        writeln!(
            out,
            "{} {} atomic units by {} in transaction {}: a credit, used by a new payment of the same amount",
            credit.id, credit.amount, credit.payer, credit.transaction
        )?;
    }
    if !open.is_empty() {
        writeln!(out, "{} credits are open", open.len())?;
    }
    Ok(())
}
