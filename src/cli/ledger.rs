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
use crate::db::{Db, audit, deployment, grants, images, orphans, payments as rows};
use crate::evm::chain::rpc::RpcChain;
use crate::keys::secrets::Keyring;
use crate::model::payment::{Payment, PaymentId, ProductKind};
use crate::payments::recovery::check::{
    ChainReport, ChainSide, Report, check, find_foreign_tokens,
};
use crate::pricing::money::AtomicAmount;
use crate::pricing::networks::{self, Network};
use crate::system::clock::{Clock, SystemClock, Timestamp};

pub(super) mod recover;

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
        LedgerCommand::Owed => list_owed(&db, out).await,
        LedgerCommand::Recover(args) => recover::run(&config, &db, &args, out).await,
        LedgerCommand::Mark => recover::mark(&config, &db, out).await,
        LedgerCommand::Show { what } => show(&db, &what, out).await,
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
    Ok(ExitCode::SUCCESS)
}

async fn show(db: &Db, what: &str, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let what = canonical(what);
    let found = rows::search(db, &what).await?;
    if found.is_empty() {
        writeln!(
            out,
            "no payment matches: give a ledger id, a transaction hash, an image id or a payer's address"
        )?;
        return Ok(ExitCode::FAILURE);
    }
    for payment in &found {
        show_one(db, payment, out).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Spells a search term as the ledger does: addresses with their checksum, ledger ids and hashes in lower case.
/// Ids of images are shorter and case-sensitive, and stay as they are.
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
        let by = detail.proven_by.as_deref().unwrap_or("nothing yet");
        writeln!(out, "  transaction  {transaction}, proven by {by}")?;
    }
    if let Some(missing) = &payment.missing {
        let since = detail.missing_since_ms.map_or_else(
            || "an unknown time".to_owned(),
            |since| Timestamp::from_millis(since).to_string(),
        );
        writeln!(
            out,
            "  missing      the chain has not shown its transfer since {since} ({missing})"
        )?;
    }
    if let (Some(voided), Some(note)) = (payment.voided_at, &detail.void_note) {
        writeln!(out, "  void         since {voided}: {note}")?;
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

async fn show_goods(db: &Db, payment: &Payment, out: &mut impl Write) -> anyhow::Result<()> {
    if let Some(grant) = grants::find(db, &payment.id).await? {
        writeln!(
            out,
            "  grant        {} of {} uploads used",
            grant.used, grant.product.uses
        )?;
        if grant.product.kind == ProductKind::Link {
            let ends = grant.token_expires;
            match grant.revoked_at {
                Some(at) => writeln!(out, "  link         ends {ends}, revoked {at}")?,
                None => writeln!(out, "  link         ends {ends}")?,
            }
        }
    }
    for image in images::find_published_by_payment(db, &payment.id).await? {
        writeln!(
            out,
            "  image        {} ({})",
            image.id,
            image.state.as_str()
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
            match renewal_undone {
                None => {}
                Some(true) => writeln!(out, "the time of its renewal is taken back")?,
                Some(false) => writeln!(
                    out,
                    "the time of its renewal stays: the image was renewed again since, or is gone"
                )?,
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
        "nothing is owed under {id}; pixtoll ledger owed lists the ids"
    )?;
    Ok(ExitCode::FAILURE)
}
