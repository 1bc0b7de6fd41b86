//! `pixtoll ledger`: shows and checks the payments, lists what is owed to payers, and recovers lost records.

use std::io::Write;
use std::process::ExitCode;

use alloy_primitives::{Address, B256};
use anyhow::{Context, bail};
use clap::Subcommand;

use super::ServeArgs;
use crate::app::{find_secrets, open_database_beside, stamps};
use crate::config::{Config, load};
use crate::db::auditor::{self, Voiding};
use crate::db::{Db, audit, deployment, orphans};
use crate::evm::chain::rpc::RpcChain;
use crate::keys::secrets::Keyring;
use crate::model::payment::PaymentId;
use crate::payments::recovery::check::{
    ChainReport, ChainSide, Report, check, find_foreign_tokens,
};
use crate::pricing::networks::{self, Network};
use crate::system::clock::{Clock, SystemClock, Timestamp};

pub(super) mod export;
pub(super) mod recover;
pub(super) mod refund;
mod show;

/// The arguments of `pixtoll ledger`, which may run beside the server.
#[derive(Debug, clap::Args)]
pub struct LedgerArgs {
    /// The settings, which name the database.
    #[command(flatten)]
    pub place: ServeArgs,
    /// The subcommand.
    #[command(subcommand)]
    pub command: LedgerCommand,
}

/// The subcommands of `pixtoll ledger`.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Check the ledger against its rules and against the chain
    ///
    /// Changes nothing. Prints a line for each row that breaks a rule, and totals. Exits with 1 when a
    /// row breaks a rule, or when the database is older than its image store.
    #[command(verbatim_doc_comment)]
    Check {
        /// Check the database only, without asking the chain.
        #[arg(long)]
        offline: bool,
    },
    /// List payments that were settled but not delivered
    ///
    /// The payer receives what is owed by the same request with a proof, or by signing in with the
    /// wallet (POST /api/claims). To settle an entry yourself, for example by a refund, note that with
    /// pixtoll ledger resolve. Changes nothing.
    #[command(verbatim_doc_comment)]
    Owed,
    /// Recover payments from the chain after a restore, then open paid routes again
    ///
    /// Use it when paid uploads are paused because the database is older than its image store: after
    /// a restore from a backup, or after a failover that lost commits. Reads the chain from the
    /// ledger's first block, and writes each payment that the ledger doesn't know as settled, with
    /// goods that are owed. Its payer claims them by signing in with the wallet (POST /api/claims).
    /// What was bought is told by the amount: the tier whose price it is. It may be repeated: no
    /// payment is written twice.
    #[command(verbatim_doc_comment)]
    Recover(recover::RecoverArgs),
    /// After a backup: record in the image store that the database continues
    ///
    /// Run it after each backup of a PostgreSQL database. A server that later starts on that backup
    /// then knows that payments may be missing, and pauses paid uploads until pixtoll ledger recover.
    /// pixtoll backup does this by itself. Exits with 1 when the database is older than its store.
    #[command(verbatim_doc_comment)]
    Mark,
    /// Export the payments of a month for your books
    ///
    /// Writes one row for each payment that settled in the month: amount, fee of the facilitator
    /// (`money.facilitator_fee`), transaction, payer, product and refund. Amounts are exact decimals, and
    /// those of payments that are not voided add up to the sum of pixtoll ledger check. The sums are
    /// printed on standard error. Changes nothing.
    #[command(verbatim_doc_comment)]
    Export(export::ExportArgs),
    /// Refund a payment: print the transfer to make, then prove it on the chain
    ///
    /// Without --transaction it records that a refund is due, and prints the transfer for you to make
    /// with any wallet. With --transaction it asks the chain for that transfer: of at least the amount,
    /// to the payer, later than the payment, in a safe block, and not used for another refund. Then the
    /// refund is made: what the payment bought is taken back, unless --keep-goods was given. Exits with
    /// 1 when the payment can't be refunded, was refunded before, or the chain proves nothing yet.
    #[command(verbatim_doc_comment)]
    Refund(refund::RefundArgs),
    /// Show payments. Exits with 1 when none is found.
    Show {
        /// A payment's ledger id, a transaction hash, an image id or a payer's address.
        what: String,
    },
    /// Accept a transfer that looks like a sale and belongs to no payment
    ///
    /// Use it for a transfer that pixtoll ledger check calls unexplained, when you know why the ledger
    /// has no payment for it: the payer sent the authorization to the chain without buying anything.
    /// pixtoll ledger check then takes it as an ordinary orphan. Exits with 1 when no such transfer
    /// waits.
    #[command(verbatim_doc_comment)]
    Accept {
        /// The hash of the transfer's transaction, as pixtoll ledger check prints it.
        transaction: String,
        /// Why, in your words.
        #[arg(long)]
        note: String,
    },
    /// Void a settled payment whose transfer the chain does not show
    ///
    /// Use it for a payment that pixtoll ledger check names because its transfer is missing. Its token
    /// stops working, its images are deleted, and time that it added to another image is taken back
    /// unless the image was renewed again since. The payer is told that the operator voided the payment.
    /// Exits with 1 when the transfer is not missing, or when an image of the payment is under review
    /// or being renewed.
    #[command(verbatim_doc_comment)]
    Void {
        /// The ledger id of the payment, as pixtoll ledger check prints it.
        id: String,
        /// Why, in your words; shown by pixtoll ledger show.
        #[arg(long)]
        note: String,
    },
    /// Note how a payment that was owed was settled, such as by a refund
    ///
    /// The payment leaves the list of pixtoll ledger owed; no money moves. Exits with 1 when nothing
    /// is owed under this id.
    #[command(verbatim_doc_comment)]
    Resolve {
        /// The ledger id of the payment, as pixtoll ledger owed prints it.
        id: String,
        /// What was done, in your words; shown by pixtoll ledger show.
        #[arg(long)]
        note: String,
    },
}

/// Runs a subcommand and returns its exit code.
///
/// # Errors
/// When the settings are invalid, or the database or a chain's node doesn't answer.
pub async fn run(args: LedgerArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let config = load(&args.place.sources())?.config;
    let db = open_database_beside(&config.database).await?;
    let done = match args.command {
        LedgerCommand::Check { offline } => run_check(&config, &db, offline, out).await,
        LedgerCommand::Owed => show::list_owed(&db, out).await,
        LedgerCommand::Recover(args) => recover::run(&config, &db, &args, out).await,
        LedgerCommand::Mark => recover::mark(&config, &db, out).await,
        LedgerCommand::Export(args) => export::run(&config, &db, &args, out).await,
        LedgerCommand::Refund(args) => refund::run(&config, &db, &args, out).await,
        LedgerCommand::Show { what } => show::show(&db, &what, out).await,
        LedgerCommand::Accept { transaction, note } => {
            accept(&config, &db, &transaction, &note, out).await
        }
        LedgerCommand::Void { id, note } => void(&db, &id, &note, out).await,
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
    let mut report = load_report(config, db, offline).await?;
    if let Some((keys, since)) = stamped_keys(config, db).await? {
        report.rules += 1;
        let foreign = find_foreign_tokens(db, &keys, since).await?;
        report.broken.extend(foreign);
    }
    print_report(&report, out)?;
    let is_stale = recover::warn(config, db, out).await?;
    Ok(
        if report.is_balanced() && report.is_explained() && !is_stale {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        },
    )
}

/// Checks the rules and, unless `offline`, compares the ledger with every chain on which it takes money.
async fn load_report(config: &Config, db: &Db, offline: bool) -> anyhow::Result<Report> {
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
    check(db, SystemClock.now(), &sides, &config.tiers).await
}

/// The keys, and the time from which every token must be made by one of them. The time is the beginning, or now
/// when an old key is missing from the settings. `None` when the settings don't hold the key of this database.
async fn stamped_keys(config: &Config, db: &Db) -> anyhow::Result<Option<(Keyring, Timestamp)>> {
    let Some(keys) = stamped_keyring(config, db).await? else {
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

/// The keys of this database; `None` when the settings don't hold them.
async fn stamped_keyring(config: &Config, db: &Db) -> anyhow::Result<Option<Keyring>> {
    let stamped = deployment::find(db, stamps::KEY).await?.unwrap_or_default();
    Ok(find_secrets(&config.secrets_key)?.filter(|keys| keys.has(&stamped)))
}

/// A network on which the ledger takes money, with what is needed to read it. The database names it, so that the
/// commands need no options for it.
struct Stamped {
    network: &'static Network,
    chain: RpcChain,
    pay_to: Address,
    first_block: u64,
}

/// Every network on which this database ever took money.
///
/// # Errors
/// When the database names an unknown network, or the settings name no node for one.
async fn stamped_chains(config: &Config, db: &Db) -> anyhow::Result<Vec<Stamped>> {
    let sandbox_url = deployment::find(db, stamps::SANDBOX_RPC).await?;
    let mut chains = Vec::new();
    for (caip2, first_block) in deployment::list(db, stamps::FIRST_BLOCK).await? {
        let network = networks::find(&caip2).with_context(|| {
            format!(
                "the database names the network {caip2}, which this version of pixtoll doesn't know"
            )
        })?;
        let configured = config.payments.as_ref().and_then(|payments| {
            let known = payments
                .networks
                .iter()
                .find(|known| known.network == network);
            known.map(crate::config::NetworkConfig::rpc_urls)
        });
        let urls = match (&sandbox_url, configured) {
            (Some(url), _) => vec![url.as_str()],
            (None, Some(urls)) if !urls.is_empty() => urls,
            (None, _) => network.default_rpc_url.into_iter().collect(),
        };
        if urls.is_empty() {
            bail!(
                "payments.rpc_url has no node for {caip2}: set its URL, or use --offline with ledger check"
            );
        }
        let pay_to = deployment::find(db, stamps::PAY_TO)
            .await?
            .context("the database names no recipient (pay_to): start the server once with payments configured")?;
        chains.push(Stamped {
            network,
            chain: RpcChain::new(network, &urls)?,
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
        "{} payments settled for {} atomic units; {} rules checked, {} rows break a rule",
        report.settled,
        report.settled_sum,
        report.rules,
        report.broken.len()
    )?;
    if report.voided > 0 {
        writeln!(out, "{} payments are void", report.voided)?;
    }
    let refunds = &report.refunds;
    if refunds.made + refunds.due > 0 {
        writeln!(
            out,
            "{} payments are refunded for {} atomic units; {} refunds for {} atomic units are due",
            refunds.made, refunds.made_sum, refunds.due, refunds.due_sum
        )?;
    }
    if report.chains.is_empty() {
        writeln!(out, "no chain was asked")?;
    }
    for chain in &report.chains {
        print_chain(chain, out)?;
    }
    for orphan in &report.unexplained {
        let transaction = &orphan.transaction_hash;
        writeln!(
            out,
            "UNEXPLAINED: {} atomic units in transaction {transaction} look like a sale that the ledger doesn't know: \
             run pixtoll ledger recover, or, if it is none, pixtoll ledger accept {transaction} --note TEXT",
            orphan.amount
        )?;
    }
    Ok(())
}

fn print_chain(chain: &ChainReport, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(
        out,
        "{}: received {} atomic units in blocks {} to {}",
        chain.network.name(),
        chain.received_sum,
        chain.first_block,
        chain.last_block
    )?;
    if chain.erased > 0 {
        writeln!(
            out,
            "{} transfers belong to payments whose records were erased",
            chain.erased
        )?;
    }
    for orphan in &chain.orphans {
        writeln!(
            out,
            "orphan: {} atomic units from {} in transaction {} belong to no payment",
            orphan.value, orphan.from, orphan.transaction
        )?;
    }
    Ok(())
}

async fn accept(
    config: &Config,
    db: &Db,
    transaction: &str,
    note: &str,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    if note.trim().is_empty() {
        bail!("--note is empty: say why the transfer is no sale, such as \"a gift\"");
    }
    let transaction: B256 = transaction.parse().with_context(|| {
        format!("{transaction} is no transaction hash: give 0x and 64 hexadecimal digits")
    })?;
    let transaction = transaction.to_string();
    let now = SystemClock.now();
    let mut accepted = orphans::accept(db, &transaction, note, now).await?;
    if accepted == 0 {
        // The server has not found it yet. Only the chain tells that there is such a transfer.
        for orphan in load_report(config, db, false).await?.unexplained {
            if orphan.transaction_hash == transaction {
                orphans::note(db, &orphan, now).await?;
            }
        }
        accepted = orphans::accept(db, &transaction, note, now).await?;
    }
    if accepted == 0 {
        writeln!(
            out,
            "no transfer of transaction {transaction} waits for a decision; see pixtoll ledger check"
        )?;
        return Ok(ExitCode::FAILURE);
    }
    writeln!(out, "accepted: {transaction}")?;
    Ok(ExitCode::SUCCESS)
}

async fn void(db: &Db, id: &str, note: &str, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    if note.trim().is_empty() {
        bail!("--note is empty: say why, such as \"the transfer is gone since block 123\"");
    }
    let id = PaymentId::parse(id)
        .with_context(|| format!("{id} is no ledger id: give its 64 hexadecimal digits"))?;
    match auditor::void(db, &id, note, SystemClock.now()).await? {
        Voiding::Done {
            images,
            renewal_undone,
        } => {
            writeln!(out, "void: {id}")?;
            for image in images {
                writeln!(
                    out,
                    "image {image} is not served any more; the reaper deletes it"
                )?;
            }
            if let Some(is_undone) = renewal_undone {
                writeln!(out, "{}", renewal_note(is_undone))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Voiding::NotMissing => {
            writeln!(
                out,
                "{id} is not void: its transfer is not missing, or it was voided before; see pixtoll ledger show {id}"
            )?;
            Ok(ExitCode::FAILURE)
        }
        Voiding::Busy(image) => {
            writeln!(
                out,
                "{id} is not void: its image {image} is under review, or a renewal of it is being settled; try again then"
            )?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// What became of the time that a payment added to an image.
const fn renewal_note(is_undone: bool) -> &'static str {
    if is_undone {
        "the time of its renewal is taken back"
    } else {
        "the time of its renewal stays: the image was renewed again since, or is gone"
    }
}

async fn resolve(db: &Db, id: &str, note: &str, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    if note.trim().is_empty() {
        bail!("--note is empty: say what was done, such as \"refunded in transaction 0x…\"");
    }
    let now = SystemClock.now();
    if audit::resolve(db, id, note, now).await? {
        writeln!(out, "noted: {id}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "nothing is owed under {id}, or a refund of it is due; pixtoll ledger owed lists the ids"
    )?;
    Ok(ExitCode::FAILURE)
}
