//! `pixtoll ledger show` and `owed`: payments as the ledger has them, and what waits for the operator.

use std::io::Write;
use std::process::ExitCode;

use alloy_primitives::{Address, B256};

use crate::db::{Db, audit, grants, images, payments as rows, refunds};
use crate::model::payment::{Payment, ProductKind};
use crate::pricing::money::AtomicAmount;
use crate::system::clock::Timestamp;

/// Lists payments whose goods are owed, and refunds that are due.
///
/// # Errors
/// When the database doesn't answer.
pub(super) async fn list_owed(db: &Db, out: &mut impl Write) -> anyhow::Result<ExitCode> {
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
    let due = list_refunds_due(db).await?;
    for refund in &due {
        let amount = AtomicAmount::from_atomic(&refund.amount).map(AtomicAmount::to_decimal_usd);
        writeln!(
            out,
            "{} {} USDC to {} since {}: a refund is due; see pixtoll ledger refund {}",
            refund.payment_id,
            amount.unwrap_or_else(|_| refund.amount.clone()),
            refund.payer,
            Timestamp::from_millis(refund.due_ms),
            refund.payment_id
        )?;
    }
    if !due.is_empty() {
        writeln!(out, "{} refunds are due", due.len())?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn list_refunds_due(db: &Db) -> anyhow::Result<Vec<refunds::Listed>> {
    let mut due = Vec::new();
    let mut last = String::new();
    loop {
        let page = refunds::page(db, &last).await?;
        let Some(end) = page.last() else {
            return Ok(due);
        };
        end.payment_id.clone_into(&mut last);
        due.extend(
            page.into_iter()
                .filter(|refund| refund.refunded_ms.is_none()),
        );
    }
}

/// Shows the payments that `what` names: a ledger id, a transaction, an image or a payer.
///
/// # Errors
/// When the database doesn't answer.
pub(super) async fn show(db: &Db, what: &str, out: &mut impl Write) -> anyhow::Result<ExitCode> {
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
    show_refund(db, payment, out).await?;
    show_goods(db, payment, out).await
}

async fn show_refund(db: &Db, payment: &Payment, out: &mut impl Write) -> anyhow::Result<()> {
    let Some(refund) = refunds::find(db, &payment.id).await? else {
        return Ok(());
    };
    let goods = if refund.keeps_goods {
        ", the payer keeps the goods"
    } else {
        ""
    };
    match (refund.refunded, &refund.transaction) {
        (Some(at), Some(transaction)) => {
            writeln!(
                out,
                "  refund       made in {transaction}, recorded {at}{goods}"
            )?;
        }
        _ => writeln!(out, "  refund       due since {}{goods}", refund.due)?,
    }
    if let Some(reason) = &refund.reason {
        writeln!(out, "  refund for   {reason}")?;
    }
    Ok(())
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
