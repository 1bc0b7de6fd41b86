//! `pixtoll ledger recover` finds payments on the chain that a database lost, such as after a restore.
//! `pixtoll ledger mark` makes an older copy of the database recognisable.

use std::io::Write;
use std::process::ExitCode;

use alloy_primitives::B256;
use anyhow::{Context, bail};

use super::{Stamped, stamped_chains, stamped_keyring};
use crate::app::stamps;
use crate::cli::reap::open_store_beside;
use crate::config::Config;
use crate::db::{Db, deployment, epoch as rows};
use crate::model::mark::Age;
use crate::moving::epoch::{self, Epoch};
use crate::moving::survived;
use crate::payments::recovery::check::ChainSide;
use crate::payments::recovery::recover::{Deed, Found, Otherwise, Prices, Recovered, recover};
use crate::system::clock::{Clock, SystemClock};
use crate::system::random::Randomness;

/// The arguments of `pixtoll ledger recover`.
#[derive(Debug, clap::Args)]
pub struct RecoverArgs {
    /// Only list the payments that would be written; write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Read the chain from this block. Use it for a new database in place of a lost one. Where it
    /// is earlier than the ledger's first block, it becomes the ledger's first block.
    #[arg(long, value_name = "BLOCK")]
    from_block: Option<u64>,
    /// The tier of payments whose amount is the price of no tier, or of several. Without
    /// --transaction it counts for all that paid at least its price.
    #[arg(long, value_name = "NAME")]
    tier: Option<String>,
    /// With --tier: the transaction that it is about; may be repeated.
    #[arg(long, value_name = "HASH", requires = "tier")]
    transaction: Vec<B256>,
}

/// Writes each payment that the chain shows and the ledger doesn't know as settled, with goods that are owed, and opens
/// paid routes again. With `--dry-run` it only lists them.
///
/// # Errors
/// When the store belongs to another database, no chain or key is known, or the database or a node doesn't answer.
pub(super) async fn run(
    config: &Config,
    db: &Db,
    args: &RecoverArgs,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let keys = stamped_keyring(config, db).await?;
    let deed = match &keys {
        _ if args.dry_run => Deed::List,
        Some(keys) => Deed::Write(keys.current()),
        None => bail!(
            "secrets.key is not the key of this database: set it, since upload tokens are made with it"
        ),
    };
    let mut chains = stamped_chains(config, db).await?;
    if let Some(block) = args.from_block {
        begin_at(db, &mut chains, block, args.dry_run).await?;
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
    let found = search(config, db, &chains, args, deed, out).await?;
    if found.undecided > 0 {
        writeln!(
            out,
            "{} payments were left out, because no tier or several have their price: run this command again with \
             --tier NAME, and --transaction HASH for single ones",
            found.undecided
        )?;
    }
    if args.dry_run {
        writeln!(
            out,
            "dry run, nothing was written: {} payments would be added",
            found.payments
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    keep_longer(config, db, out).await?;
    epoch(config, db)?
        .accept(SystemClock.now(), config.token_ttl)
        .await?;
    writeln!(
        out,
        "added {} payments; paid routes are open. A payer receives what is owed by signing in with the wallet, at \
         POST /api/claims",
        found.payments
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Searches each chain, and prints what it finds. Returns the sums.
async fn search(
    config: &Config,
    db: &Db,
    chains: &[Stamped],
    args: &RecoverArgs,
    deed: Deed<'_>,
    out: &mut impl Write,
) -> anyhow::Result<Recovered> {
    let prices = Prices {
        table: &config.tiers,
        otherwise: otherwise(config, args)?,
    };
    let mut sum = Recovered::default();
    for stamped in chains {
        let side = ChainSide {
            network: stamped.network,
            chain: &stamped.chain,
            pay_to: stamped.pay_to,
            first_block: stamped.first_block,
        };
        let mut trouble = None;
        let recovered = recover(db, &side, prices, SystemClock.now(), deed, |found| {
            trouble = trouble.take().or(print_found(&found, out).err());
        })
        .await?;
        if let Some(error) = trouble {
            return Err(error.into());
        }
        writeln!(
            out,
            "{}: {} payments up to block {} were missing from the ledger; {} other transfers belong to no payment",
            side.network.name(),
            recovered.payments + recovered.undecided,
            recovered.last_block,
            recovered.orphans
        )?;
        sum.payments += recovered.payments;
        sum.undecided += recovered.undecided;
    }
    Ok(sum)
}

/// The tier that `--tier` names.
fn otherwise<'a>(
    config: &'a Config,
    args: &'a RecoverArgs,
) -> anyhow::Result<Option<Otherwise<'a>>> {
    let Some(name) = &args.tier else {
        return Ok(None);
    };
    let tier = config.tiers.paid().find(|tier| tier.name.as_str() == name);
    let tier = tier.with_context(|| format!("--tier: there is no tier {name} with a price"))?;
    Ok(Some(Otherwise {
        tier,
        transactions: &args.transaction,
    }))
}

fn print_found(found: &Found, out: &mut impl Write) -> std::io::Result<()> {
    match found {
        Found::Payment(payment) => writeln!(
            out,
            "payment {}: {} USDC by {} in transaction {}; owed: {} of tier {}",
            payment.id,
            payment.terms.offer.amount.to_decimal_usd(),
            payment.authorization.from,
            payment.transaction.unwrap_or_default(),
            uploads(payment.product.uses),
            payment.product.tier,
        ),
        Found::Undecided { receipt, tiers } => writeln!(
            out,
            "undecided: {} atomic units by {} in transaction {} are the price of {}",
            receipt.value,
            receipt.from,
            receipt.transaction,
            if tiers.is_empty() {
                "no tier".to_owned()
            } else {
                format!("several tiers: {}", tiers.join(", "))
            }
        ),
    }
}

fn uploads(uses: u32) -> String {
    match uses {
        1 => "1 upload".to_owned(),
        many => format!("{many} uploads"),
    }
}

/// Restores the expiry of images whose renewal the database lost, from their records in the store. It must happen
/// before the database counts as current again, because the reaper then deletes by the database's expiry. A database
/// that isn't behind its store lost no renewals, and may know later ones than the store.
async fn keep_longer(config: &Config, db: &Db, out: &mut impl Write) -> anyhow::Result<()> {
    let store = open_store_beside(&config.images.store)?;
    if epoch::age(db, &store).await? != Some(Age::Behind) {
        return Ok(());
    }
    let longer = survived::keep_longer(db, &store, SystemClock.now()).await?;
    if longer > 0 {
        writeln!(
            out,
            "{longer} images are kept longer than the database says: their records in the store show later renewals"
        )?;
    }
    Ok(())
}

/// Moves the ledger's first block back to `block`, so that later checks include the recovered payments. A later
/// block changes nothing.
async fn begin_at(
    db: &Db,
    chains: &mut [Stamped],
    block: u64,
    is_dry_run: bool,
) -> anyhow::Result<()> {
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
    if !is_dry_run {
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
    if let Some(lost) = rows::find_lost(db).await? {
        writeln!(
            out,
            "STALE: the database does not know {lost}, so it lost commits. Paid routes are closed until you run pixtoll \
             ledger recover"
        )?;
        return Ok(true);
    }
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
