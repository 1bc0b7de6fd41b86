//! `pixtoll ledger`: what the payments are, whether they balance, and what is owed.

use std::io::Write;
use std::process::ExitCode;

use alloy_primitives::{Address, B256};
use anyhow::{Context, bail};
use clap::Subcommand;

use super::ServeArgs;
use crate::app::{find_secrets, open_database_beside, stamps};
use crate::chain::rpc::RpcChain;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::{Config, load};
use crate::db::{Db, audit, auditor, credits, deployment, grants, images, payments as rows};
use crate::model::payment::{Payment, PaymentState};
use crate::money::AtomicAmount;
use crate::networks::{self, Network};
use crate::payments::ledger::{ChainReport, ChainSide, Report, check, find_foreign_tokens};
use crate::secrets::Keyring;

pub(super) mod recover;

/// `pixtoll ledger …`. Works beside a running server.
#[derive(Debug, clap::Args)]
pub struct LedgerArgs {
    /// Where the database is.
    #[command(flatten)]
    pub place: ServeArgs,
    /// What is done.
    #[command(subcommand)]
    pub command: LedgerCommand,
}

/// `pixtoll ledger …`.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Prove that the ledger balances. Exit code 1 names the rows that break a rule.
    Check {
        /// Don't ask the chain.
        #[arg(long)]
        offline: bool,
    },
    /// List settled payments whose goods wait for someone, and credits.
    Owed,
    /// After a restore: find on the chain what was paid and is not in the ledger, and open paid routes again.
    Recover {
        /// Only list it.
        #[arg(long)]
        dry_run: bool,
        /// Begin at this block instead of the ledger's first: for a new database in place of one that is
        /// lost. From then on it is the ledger's first.
        #[arg(long, value_name = "BLOCK")]
        from_block: Option<u64>,
    },
    /// After a backup: note in the store that the database went on, so that the copy is known as one.
    Mark,
    /// Show payments by id, transaction hash, image id or payer.
    Show {
        /// What to look for.
        what: String,
    },
    /// Note what was done about owed goods, such as a refund.
    Resolve {
        /// The payment's id.
        id: String,
        /// What was done.
        #[arg(long)]
        note: String,
    },
}

/// Runs a command.
///
/// # Errors
/// When the database or the chain doesn't answer.
pub async fn run(args: LedgerArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = load(&args.place.sources())?.config;
    let db = open_database_beside(&config.database).await?;
    let done = match args.command {
        LedgerCommand::Check { offline } => run_check(&config, &db, offline, out).await,
        LedgerCommand::Owed => list_owed(&db, out).await,
        LedgerCommand::Recover {
            dry_run,
            from_block,
        } => recover::run(&config, &db, dry_run, from_block, out).await,
        LedgerCommand::Mark => recover::mark(&config, &db, out).await,
        LedgerCommand::Show { what } => show(&db, &what, out).await,
        LedgerCommand::Resolve { id, note } => resolve(&db, &id, &note, out).await,
    };
    db.close().await;
    done
}

async fn run_check(
    config: &Config,
    db: &Db,
    offline: bool,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let stamped = if offline {
        Vec::new()
    } else {
        stamped_chains(config, db).await?
    };
    let sides: Vec<ChainSide<'_>> = stamped
        .iter()
        .map(|stamped| ChainSide {
            network: stamped.network,
            chain: &stamped.chain,
            pay_to: stamped.pay_to,
            first_block: stamped.first_block,
        })
        .collect();
    let mut report = check(db, SystemClock.now(), &sides).await?;
    if let Some((keys, since)) = stamped_keys(config, db).await? {
        report.rules += 1;
        let foreign = find_foreign_tokens(db, &keys, since).await?;
        report.broken.extend(foreign);
    }
    print_report(&report, out)?;
    let is_stale = recover::warn(config, db, out).await?;
    Ok(if report.is_balanced() && !is_stale {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The keys, where this command was given the one that the database is stamped with, and from when on every token
/// has to be theirs: from the beginning, unless an old key is gone.
async fn stamped_keys(config: &Config, db: &Db) -> anyhow::Result<Option<(Keyring, Timestamp)>> {
    let stamped = deployment::find(db, stamps::KEY).await?.unwrap_or_default();
    let Some(keys) = find_secrets(&config.secrets_key)?.filter(|keys| keys.has(&stamped)) else {
        return Ok(None);
    };
    let old = deployment::list(db, stamps::OLD_KEY).await?;
    let is_whole = old.iter().all(|(fingerprint, _)| keys.has(fingerprint));
    let since = if is_whole {
        Timestamp::from_millis(i64::MIN)
    } else {
        SystemClock.now()
    };
    Ok(Some((keys, since)))
}

/// A network that the database is stamped with, so that no flag is needed.
struct Stamped {
    network: &'static Network,
    chain: RpcChain,
    pay_to: Address,
    first_block: u64,
}

/// Every network on which this database ever took money.
async fn stamped_chains(config: &Config, db: &Db) -> anyhow::Result<Vec<Stamped>> {
    let sandbox_url = deployment::find(db, stamps::SANDBOX_RPC).await?;
    let mut chains = Vec::new();
    for (caip2, first_block) in deployment::list(db, stamps::FIRST_BLOCK).await? {
        let network = networks::find(&caip2)
            .context("the database names a network that this version doesn't know")?;
        let configured = config.payments.as_ref().and_then(|payments| {
            let known = payments
                .networks
                .iter()
                .find(|known| known.network == network);
            known.and_then(|known| known.rpc_url.clone())
        });
        let url = sandbox_url
            .clone()
            .or(configured)
            .or_else(|| network.default_rpc_url.map(str::to_owned));
        let url = url.with_context(|| format!("payments.rpc_url of {caip2} is missing"))?;
        let pay_to = deployment::find(db, stamps::PAY_TO)
            .await?
            .context("the database names no recipient")?;
        chains.push(Stamped {
            network,
            chain: RpcChain::new(network, &url)?,
            pay_to: pay_to.parse()?,
            first_block: first_block.parse()?,
        });
    }
    Ok(chains)
}

fn print_report(report: &Report, out: &mut impl Write) -> std::io::Result<()> {
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
    if report.frozen + report.reversed > 0 {
        writeln!(
            out,
            "{} payments frozen for {} atomic units, until the chain decides; {} reversed by it",
            report.frozen, report.frozen_sum, report.reversed
        )?;
    }
    if report.chains.is_empty() {
        writeln!(out, "the chain was not asked")?;
    }
    for chain in &report.chains {
        print_chain(chain, out)?;
    }
    Ok(())
}

fn print_chain(chain: &ChainReport, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(
        out,
        "the chain moved {} atomic units to us in blocks {} to {} of {}",
        chain.received_sum,
        chain.first_block,
        chain.last_block,
        chain.network.name()
    )?;
    if chain.erased > 0 {
        writeln!(
            out,
            "{} transfers paid for what is erased with its records",
            chain.erased
        )?;
    }
    for credit in &chain.credits {
        writeln!(
            out,
            "credit: {} is owed to {} for transaction {}",
            credit.value, credit.from, credit.transaction
        )?;
    }
    for orphan in &chain.orphans {
        writeln!(
            out,
            "orphan: {} from {} in transaction {} buys nothing here",
            orphan.value, orphan.from, orphan.transaction
        )?;
    }
    Ok(())
}

async fn list_owed(db: &Db, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let owed = audit::find_owed(db).await?;
    for row in &owed {
        let amount = AtomicAmount::from_atomic(&row.amount).map(AtomicAmount::to_decimal_usd);
        writeln!(
            out,
            "{} {} USDC tier {} by {} at {}: {}",
            row.id,
            amount.unwrap_or_else(|_| row.amount.clone()),
            row.tier,
            row.payer,
            Timestamp::from_millis(row.settled_ms),
            row.owed
        )?;
    }
    writeln!(out, "{} payments are owed", owed.len())?;
    let frozen = auditor::count_frozen(db).await?;
    recover::list_credits(db, out).await?;
    if frozen > 0 {
        writeln!(
            out,
            "{frozen} payments are frozen: their goods are withheld until the chain decides; see pixtoll ledger check"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(db: &Db, what: &str, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let what = canonical(what);
    let found = rows::search(db, &what).await?;
    if found.is_empty() {
        writeln!(out, "no payment has this id, transaction, image or payer")?;
        return Ok(ExitCode::FAILURE);
    }
    for payment in &found {
        show_one(db, payment, out).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is looked for as the ledger spells it: addresses checksummed, ids and hashes in lower case.
/// The ids of images are shorter, and their case counts.
fn canonical(what: &str) -> String {
    if let Ok(address) = what.parse::<Address>() {
        return address.to_string();
    }
    if what.parse::<B256>().is_ok() {
        return what.to_ascii_lowercase();
    }
    what.to_owned()
}

async fn show_one(db: &Db, payment: &Payment, out: &mut impl Write) -> anyhow::Result<()> {
    let offer = &payment.terms.offer;
    let detail = audit::load_detail(db, payment.id.as_str()).await?;
    writeln!(out, "payment {}", payment.id)?;
    writeln!(
        out,
        "  state        {} (attempt {})",
        payment.state.as_str(),
        payment.attempt
    )?;
    writeln!(
        out,
        "  buys         {} of tier {}",
        payment.product.kind.as_str(),
        payment.product.tier
    )?;
    writeln!(
        out,
        "  price        {} USDC on {}",
        offer.amount.to_decimal_usd(),
        offer.network.name()
    )?;
    writeln!(out, "  payer        {}", payment.authorization.from)?;
    writeln!(out, "  recipient    {}", offer.pay_to)?;
    writeln!(out, "  nonce        {}", payment.authorization.nonce)?;
    writeln!(out, "  first seen   {}", payment.first_seen)?;
    writeln!(
        out,
        "  last change  {}",
        Timestamp::from_millis(detail.changed_ms)
    )?;
    writeln!(out, "  valid before {}", payment.valid_before())?;
    writeln!(out, "  facilitator  {}", detail.facilitator)?;
    if let Some(transaction) = payment.transaction {
        let by = detail.proven_by.as_deref().unwrap_or("nobody yet");
        writeln!(out, "  transaction  {transaction}, proven by {by}")?;
    }
    if payment.state == PaymentState::Frozen {
        let why = why_withheld(db, payment).await?;
        writeln!(out, "  withheld     {why}, until the chain decides")?;
    }
    if let Some(reason) = &payment.reason {
        writeln!(out, "  reason       {reason}")?;
    }
    if let Some(owed) = &detail.owed {
        writeln!(out, "  owed         {owed}")?;
    }
    if let Some(resolution) = &detail.resolution {
        writeln!(out, "  resolved     {resolution}")?;
    }
    show_goods(db, payment, out).await
}

async fn why_withheld(db: &Db, payment: &Payment) -> anyhow::Result<String> {
    let since = auditor::find_missing_since(db, &payment.id).await?;
    Ok(match since.map(Timestamp::from_millis) {
        Some(since) => format!("the chain doesn't show its transfer since {since}"),
        None => "the chain shows that its authorization went elsewhere".to_owned(),
    })
}

async fn show_goods(db: &Db, payment: &Payment, out: &mut impl Write) -> anyhow::Result<()> {
    if let Some(grant) = grants::find(db, &payment.id).await? {
        writeln!(
            out,
            "  grant        {} of {} uploads used",
            grant.used, grant.product.uses
        )?;
    }
    for image in images::find_ever_published(db, &payment.id).await? {
        writeln!(
            out,
            "  image        {} ({})",
            image.id,
            image.state.as_str()
        )?;
    }
    Ok(())
}

async fn resolve(db: &Db, id: &str, note: &str, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    if note.trim().is_empty() {
        bail!("--note says what was done; it can't be empty");
    }
    let now = SystemClock.now();
    if audit::resolve(db, id, note, now).await? || credits::resolve(db, id, note, now).await? {
        writeln!(out, "noted: {id}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "nothing is owed under {id}; see pixtoll ledger owed")?;
    Ok(ExitCode::FAILURE)
}
