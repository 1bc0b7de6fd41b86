//! `pixtoll ledger refund`: says which transfer refunds a payment, and records it once the chain
//! shows it.

use std::io::Write;
use std::process::ExitCode;

use alloy_primitives::B256;
use anyhow::Context;
use clap::builder::NonEmptyStringValueParser;

use super::super::admin::user_name;
use super::stamped_chains;
use crate::accounting::refunds::{Instruction, Proof, prove};
use crate::config::{Config, process_env};
use crate::db::refunds::{self, Closing, Refund};
use crate::db::{Db, payments};
use crate::model::payment::{Payment, PaymentId, PaymentState};
use crate::system::clock::{Clock, SystemClock};

/// The arguments of `pixtoll ledger refund`.
#[derive(Debug, clap::Args)]
pub struct RefundArgs {
    /// The ledger id of the payment, as pixtoll ledger show prints it.
    id: String,
    /// Why, in your words; shown by pixtoll ledger show.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Let the payer keep what was bought.
    #[arg(long)]
    keep_goods: bool,
    /// The transaction that made the refund. It may come from any wallet.
    #[arg(long, value_name = "HASH", conflicts_with = "cancel")]
    transaction: Option<B256>,
    /// Withdraw the decision to refund, before the transfer was made.
    #[arg(long, conflicts_with_all = ["reason", "keep_goods"])]
    cancel: bool,
    /// Who acts, for the operator's log. The default is the name of the operating system's user.
    #[arg(long = "as", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    actor: Option<String>,
}

/// Records that a refund is due and prints its transfer. With `--transaction` it proves the transfer
/// on the chain, and closes the refund.
///
/// # Errors
/// When the id is malformed, or the database or the chain's node doesn't answer.
pub(super) async fn run(
    config: &Config,
    db: &Db,
    args: &RefundArgs,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let id = PaymentId::parse(&args.id).with_context(|| {
        format!(
            "{} is no ledger id: give its 64 hexadecimal digits",
            args.id
        )
    })?;
    let actor = args.actor.clone();
    let actor = actor.unwrap_or_else(|| user_name(&process_env()));
    if args.cancel {
        return cancel(db, &id, &actor, out).await;
    }
    let Some(payment) = payments::find(db, &id).await? else {
        writeln!(
            out,
            "no payment has the ledger id {id}; pixtoll ledger show finds it"
        )?;
        return Ok(ExitCode::FAILURE);
    };
    let reason = args.reason.as_deref();
    refunds::request(db, &id, args.keep_goods, reason, &actor, SystemClock.now()).await?;
    let Some(refund) = refunds::find(db, &id).await? else {
        writeln!(out, "{id} can't be refunded: {}", refusal(&payment))?;
        return Ok(ExitCode::FAILURE);
    };
    if let (Some(at), Some(transaction)) = (refund.refunded, &refund.transaction) {
        writeln!(
            out,
            "{id} was refunded already, in transaction {transaction}, recorded {at}"
        )?;
        return Ok(ExitCode::FAILURE);
    }
    if args.keep_goods && !refund.keeps_goods {
        writeln!(
            out,
            "a refund of {id} is due that takes the goods back: run pixtoll ledger refund {id} --cancel first"
        )?;
        return Ok(ExitCode::FAILURE);
    }
    match args.transaction {
        None => {
            instruct(&payment, &refund, out)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(transaction) => close(config, db, &payment, transaction, &actor, out).await,
    }
}

async fn cancel(
    db: &Db,
    id: &PaymentId,
    actor: &str,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    if refunds::cancel(db, id, actor, SystemClock.now()).await? {
        writeln!(out, "no refund of {id} is due any more")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "no refund of {id} is due; pixtoll ledger owed lists those that are"
    )?;
    Ok(ExitCode::FAILURE)
}

/// Why no refund of a payment can be due.
fn refusal(payment: &Payment) -> String {
    if payment.state != PaymentState::Settled {
        return format!(
            "it is {} and moved no money as far as is known",
            payment.state.as_str()
        );
    }
    if payment.missing.is_some() {
        return "the chain does not show its transfer, so there is nothing to give back".to_owned();
    }
    if payment.voided_at.is_some() {
        return "it is void, so there are no goods to keep: leave --keep-goods out, or see pixtoll ledger show".to_owned();
    }
    "the operator made up for it before; see pixtoll ledger show".to_owned()
}

/// Prints the transfer to make, and what follows.
fn instruct(payment: &Payment, refund: &Refund, out: &mut impl Write) -> std::io::Result<()> {
    let Instruction {
        network,
        to,
        value,
        calldata,
        link,
    } = Instruction::of(payment);
    writeln!(
        out,
        "a refund of payment {} is due since {}",
        payment.id, refund.due
    )?;
    if let Some(reason) = &refund.reason {
        writeln!(out, "  reason    {reason}")?;
    }
    writeln!(out, "make this transfer with any wallet:")?;
    writeln!(
        out,
        "  network   {} (chain id {})",
        network.name(),
        network.chain_id
    )?;
    writeln!(out, "  token     USDC, contract {}", network.usdc)?;
    writeln!(out, "  to        {to}")?;
    writeln!(
        out,
        "  amount    {} USDC ({value} atomic units)",
        refund.amount.to_decimal_usd()
    )?;
    writeln!(
        out,
        "  calldata  {calldata} (call the token contract with it, value 0)"
    )?;
    writeln!(out, "  link      {link}")?;
    let goods = if refund.keeps_goods {
        "The payer keeps what was bought."
    } else {
        "It also takes back what was bought: the token or link ends, and the images are deleted."
    };
    writeln!(
        out,
        "then record it: pixtoll ledger refund {} --transaction HASH\n{goods}",
        payment.id
    )
}

async fn close(
    config: &Config,
    db: &Db,
    payment: &Payment,
    transaction: B256,
    actor: &str,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    let chains = stamped_chains(config, db).await?;
    let side = chains
        .iter()
        .find(|side| side.network == payment.network())
        .with_context(|| {
            format!(
                "the settings name no node for {}: set payments.rpc_url",
                payment.network().name()
            )
        })?;
    let id = &payment.id;
    let proof = prove(
        db,
        &side.chain,
        payment,
        transaction,
        actor,
        SystemClock.now(),
    )
    .await?;
    let refusal = match proof {
        Proof::Shown(Closing::Done {
            images,
            renewal_undone,
        }) => {
            writeln!(out, "refunded: {id} in transaction {transaction}")?;
            for image in images {
                writeln!(
                    out,
                    "image {image} is not served any more; the reaper deletes it"
                )?;
            }
            if let Some(is_undone) = renewal_undone {
                writeln!(out, "{}", super::renewal_note(is_undone))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        Proof::Shown(Closing::Busy(image)) => format!(
            "the transfer is there, but image {image} is under review, or a renewal of it is being settled; run the same \
             command again then"
        ),
        Proof::Shown(Closing::NotDue) => format!(
            "no refund of it is due, or another process has recorded it; see pixtoll ledger show {id}"
        ),
        Proof::PaymentMissing => {
            "the chain does not show the payment's own transfer yet; run the same command again later".to_owned()
        }
        Proof::NotMined => {
            "the node does not show this transaction, or it failed; check the hash and the network".to_owned()
        }
        Proof::NotSafe { block, safe } => format!(
            "block {block} of the transaction can still be replaced: the newest safe block is {safe}. Run the same command \
             again in some minutes"
        ),
        Proof::NoTransfer => format!(
            "the transaction has no transfer of at least {} atomic units to {}",
            payment.terms.offer.amount, payment.authorization.from
        ),
        Proof::TooEarly => "the transfer is older than the payment".to_owned(),
        Proof::Used | Proof::Shown(Closing::Used) => {
            "the transfer has made another refund, or is a payment itself".to_owned()
        }
    };
    writeln!(out, "{id} is not refunded: {refusal}")?;
    Ok(ExitCode::FAILURE)
}
