//! `pixtoll ledger recover` and `pixtoll ledger mark`: a database that lost commits finds on the chain what
//! was paid meanwhile, and a backup is told from the database that went on.

use std::io::Write;
use std::process::ExitCode;

use anyhow::bail;

use super::{Stamped, stamped_chains};
use crate::app::stamps;
use crate::cli::reap::open_store_beside;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::db::{Db, credits, deployment};
use crate::epoch::{self, Epoch};
use crate::model::mark::Age;
use crate::moving::survived;
use crate::payments::ledger::ChainSide;
use crate::payments::recover::{Deed, recover};
use crate::random::Randomness;

/// Writes what the chain knows and the ledger doesn't as credits, and opens paid routes again. With
/// `dry_run` it only lists.
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
            "the image store belongs to another database. If that one is lost, say with --from-block where its \
             ledger began; if not, name it in database.url"
        );
    }
    if chains.is_empty() {
        bail!(
            "no chain can be asked: start the server once with payments configured, and its nodes up"
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
            "{}: {} payments up to block {} were unknown here; {} transfers came without one",
            side.network.name(),
            recovered.credits,
            recovered.last_block,
            recovered.orphans
        )?;
        credits += recovered.credits;
    }
    if dry_run {
        writeln!(out, "nothing was written: {credits} credits would be new")?;
        return Ok(ExitCode::SUCCESS);
    }
    keep_longer(config, db, out).await?;
    epoch(config, db)?.accept().await?;
    writeln!(
        out,
        "{credits} credits are new; paid routes are open. Each goes to its payer for a new payment of the \
         same amount, which is not charged"
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Lets images that were renewed by what was lost live for as long as they did: once the database stands for its store
/// again, the reaper goes by it. One that isn't behind has lost nothing of that, and may be ahead of its store's records.
async fn keep_longer(config: &Config, db: &Db, out: &mut impl Write) -> anyhow::Result<()> {
    let store = open_store_beside(&config.images.store)?;
    if epoch::age(db, &store).await? != Some(Age::Behind) {
        return Ok(());
    }
    let longer = survived::keep_longer(db, &store).await?;
    if longer > 0 {
        writeln!(
            out,
            "{longer} images are kept longer than the database knew: their records in the store say that they were \
             renewed since"
        )?;
    }
    Ok(())
}

/// Lets a ledger begin earlier: what is credited lies in its blocks then, and is added up with the rest.
async fn begin_at(db: &Db, chains: &mut [Stamped], block: u64, deed: Deed) -> anyhow::Result<()> {
    let [only] = chains else {
        bail!("--from-block is a block of one network, and this ledger has several or none");
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

/// Tells a backup that was taken until now from the database that goes on.
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
        "noted in the store: a copy of the database that is older is recognised when it is started"
    )?;
    Ok(ExitCode::SUCCESS)
}

fn epoch(config: &Config, db: &Db) -> anyhow::Result<Epoch> {
    let store = open_store_beside(&config.images.store)?;
    Ok(Epoch::new(db.clone(), store, &Randomness::system()))
}

/// Says so when the database is not the one that its store knows. Whether that is so.
pub(in crate::cli) async fn warn(
    config: &Config,
    db: &Db,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    // Who looks at the ledger alone may have no store beside it.
    let Ok(store) = open_store_beside(&config.images.store) else {
        return Ok(false);
    };
    let why = match epoch::age(db, &store).await? {
        None | Some(Age::Current) => return Ok(false),
        Some(Age::Behind) => "the database is older than its store: commits are lost",
        Some(Age::Other) => {
            "the store belongs to another database: name that one in database.url, or, where it is lost, recover with --from-block"
        }
    };
    writeln!(
        out,
        "STALE: {why}. Paid routes are closed until pixtoll ledger recover"
    )?;
    Ok(true)
}

/// Lists the credits that nobody has had.
pub(super) async fn list_credits(db: &Db, out: &mut impl Write) -> anyhow::Result<()> {
    let open = credits::list_open(db).await?;
    for credit in &open {
        writeln!(
            out,
            "{} {} atomic units by {} in transaction {}: a credit, for a new payment of the same amount",
            credit.id, credit.amount, credit.payer, credit.transaction
        )?;
    }
    if !open.is_empty() {
        writeln!(out, "{} credits are open", open.len())?;
    }
    Ok(())
}
