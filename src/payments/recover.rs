//! Recovers payments after commits were lost: transfers to us by an authorization that the ledger
//! does not know become credits.

use std::collections::BTreeSet;

use alloy_primitives::{Address, B256};

use super::ledger::ChainSide;
use crate::chain::IncomingTransfer;
use crate::db::auditor::{self, Claimant, Incoming};
use crate::db::credits::{self, Credit};
use crate::db::{Db, erasure, payments as rows};
use crate::model::payment::{PaymentId, transfer_hash};
use crate::system::clock::Timestamp;
use crate::system::kill::kill_point;

/// The number of blocks that are searched before what was found is written.
const SPAN: u64 = 20_000;

/// What to do with credits that are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Print them.
    List,
    /// Write them to the ledger, and print them.
    Write,
}

/// The result of a recovery on one network.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The last block that was searched.
    pub last_block: u64,
    /// The number of new credits.
    pub credits: u64,
    /// The number of transfers without an authorization, which bought nothing.
    pub orphans: u64,
}

/// Searches every block since the ledger's first one on this network, and calls `tell` for each new
/// credit. Running it again credits nothing twice.
///
/// # Errors
/// The database or the chain does not answer. Credits that were found before are written.
pub async fn recover(
    db: &Db,
    side: &ChainSide<'_>,
    now: Timestamp,
    deed: Deed,
    mut tell: impl FnMut(&Credit),
) -> anyhow::Result<Recovered> {
    let head = side.chain.head().await?.number;
    let mut recovered = Recovered {
        last_block: head,
        ..Recovered::default()
    };
    let mut recipients = BTreeSet::from([side.pay_to]);
    for recipient in credits::list_recipients(db, side.network.caip2).await? {
        recipients.insert(recipient.parse()?);
    }
    let mut first = side.first_block;
    while first <= head {
        let last = head.min(first.saturating_add(SPAN - 1));
        for recipient in &recipients {
            for receipt in side.chain.receipts(*recipient, first, last).await? {
                if is_known(db, side, *recipient, &receipt).await? {
                    continue;
                }
                let Some(nonce) = side.chain.nonce_of(&receipt).await? else {
                    recovered.orphans += 1;
                    continue;
                };
                let credit = credit(side, *recipient, &receipt, nonce, now);
                if decides_itself(db, &credit.id).await? {
                    continue;
                }
                let is_new = match deed {
                    Deed::List => !credits::is_noted(db, &credit.id).await?,
                    Deed::Write => write(db, &credit).await?,
                };
                if is_new {
                    recovered.credits += 1;
                    tell(&credit);
                }
            }
        }
        first = last.saturating_add(1);
    }
    Ok(recovered)
}

async fn write(db: &Db, credit: &Credit) -> anyhow::Result<bool> {
    kill_point!("credit.insert.before");
    let is_new = credits::insert(db, credit).await?;
    kill_point!("credit.insert.after");
    Ok(is_new)
}

/// Whether the transfer belongs to a settled payment, or to one whose records were erased.
async fn is_known(
    db: &Db,
    side: &ChainSide<'_>,
    recipient: Address,
    receipt: &IncomingTransfer,
) -> anyhow::Result<bool> {
    let transfer = Incoming {
        network: side.network.caip2,
        transaction: receipt.transaction.to_string(),
        log_index: receipt.log_index,
        payer: receipt.from.to_string(),
        pay_to: recipient.to_string(),
        amount: receipt.value.to_string(),
        block: receipt.block,
    };
    if auditor::find_claimant(db, &transfer).await? == Claimant::Payment {
        return Ok(true);
    }
    let hash = transfer_hash(
        &transfer.transaction,
        &transfer.payer,
        &transfer.pay_to,
        &transfer.amount,
    );
    Ok(erasure::is_erased_transfer(db, &hash).await?)
}

/// Whether the ledger knows the payment and will settle it without a credit.
async fn decides_itself(db: &Db, id: &PaymentId) -> anyhow::Result<bool> {
    let row = rows::find(db, id).await?;
    Ok(row.is_some() || erasure::find_erased(db, id).await?.is_some())
}

fn credit(
    side: &ChainSide<'_>,
    recipient: Address,
    receipt: &IncomingTransfer,
    nonce: B256,
    found: Timestamp,
) -> Credit {
    Credit {
        id: PaymentId::of(side.network, receipt.from, nonce),
        network: side.network.caip2.to_owned(),
        payer: receipt.from,
        nonce,
        pay_to: recipient,
        amount: receipt.value.to_string(),
        transaction: receipt.transaction,
        log_index: receipt.log_index,
        block: receipt.block,
        found,
    }
}
