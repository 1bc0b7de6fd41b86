//! `pixtoll ledger check`: whether the ledger is consistent, and whether it agrees with the chain
//! (docs/payments.md, rule 14).

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256, U256};

use super::orphans::looks_like_sale;
use crate::accounting::refunds::is_shown;
use crate::db::audit::{self, TokenRow, Violation};
use crate::db::auditor::{self, Claimant, Incoming};
use crate::db::orphans::{self, Orphan};
use crate::db::payments::Unreadable;
use crate::db::{Db, DbError, erasure, refunds};
use crate::evm::chain::{Chain, IncomingTransfer};
use crate::keys::secrets::Keyring;
use crate::model::payment::{Payment, PaymentId, PaymentState, life_of_link};
use crate::model::token::UploadToken;
use crate::pricing::networks::Network;
use crate::pricing::tiers::TierTable;
use crate::system::clock::Timestamp;

/// The result of a check.
#[derive(Debug, Default)]
pub struct Report {
    /// Rows that break a rule, each with the rule's name.
    pub broken: Vec<(&'static str, Violation)>,
    /// The number of rules that were checked.
    pub rules: usize,
    /// The number of settled payments that are not void.
    pub settled: usize,
    /// Their sum, in atomic units.
    pub settled_sum: U256,
    /// The number of payments that the operator voided.
    pub voided: usize,
    /// Refunds of payments on record.
    pub refunds: Refunds,
    /// What each chain moved to the recipients; empty when no chain was asked.
    pub chains: Vec<ChainReport>,
    /// Transfers that look like sales, belong to no payment, and that the operator didn't accept.
    pub unexplained: BTreeSet<Orphan>,
}

/// Refunds of payments on record.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Refunds {
    /// The number that was made.
    pub made: usize,
    /// Their sum, in atomic units.
    pub made_sum: U256,
    /// The number that is due.
    pub due: usize,
    /// Their sum, in atomic units.
    pub due_sum: U256,
}

/// The transfers on one chain, compared with the ledger.
#[derive(Debug)]
pub struct ChainReport {
    /// The network of the chain.
    pub network: &'static Network,
    /// The first block that was read.
    pub first_block: u64,
    /// The last block that was read.
    pub last_block: u64,
    /// The sum of transfers to the recipients, in atomic units.
    pub received_sum: U256,
    /// The number of transfers that belong to payments whose records were erased.
    pub erased: usize,
    /// Transfers to us without a settled payment.
    pub orphans: Vec<IncomingTransfer>,
    /// Those of them that look like sales and that the operator didn't accept.
    pub unexplained: Vec<Orphan>,
}

impl Report {
    /// Whether no row breaks a rule. Orphans break none, since anybody may send us money.
    pub fn is_balanced(&self) -> bool {
        self.broken.is_empty()
    }

    /// Whether no transfer that looks like a sale waits for the operator's decision.
    pub fn is_explained(&self) -> bool {
        self.unexplained.is_empty()
    }
}

/// A rule's name and a row that breaks it.
type Broken = (&'static str, Violation);

/// A chain to compare the ledger with.
#[derive(Debug, Clone, Copy)]
pub struct ChainSide<'a> {
    /// The network of the chain.
    pub network: &'static Network,
    /// Reads the chain.
    pub chain: &'a dyn Chain,
    /// The configured recipient.
    pub pay_to: Address,
    /// The newest block when the ledger first saw the chain. Earlier transfers are not compared.
    pub first_block: u64,
}

/// Checks every rule, and compares the ledger with each chain in `sides`. `tiers` has the current
/// prices.
///
/// # Errors
/// The database or a chain does not answer.
pub async fn check(
    db: &Db,
    now: Timestamp,
    sides: &[ChainSide<'_>],
    tiers: &TierTable,
) -> anyhow::Result<Report> {
    let mut report = Report {
        broken: audit::find_broken(db, now).await?,
        // The additional rules are checked below, row by row.
        rules: audit::rule_count() + 2 + usize::from(!sides.is_empty()),
        ..Report::default()
    };
    let paid = load_paid(db, &mut report.broken).await?;
    let (voided, settled): (Vec<&Payment>, Vec<&Payment>) =
        paid.iter().partition(|payment| payment.voided_at.is_some());
    report.voided = voided.len();
    report.settled = settled.len();
    report.settled_sum = settled
        .into_iter()
        .map(value)
        .fold(U256::ZERO, U256::saturating_add);
    report.broken.extend(paid.iter().filter_map(find_unsigned));
    for side in sides {
        let there: Vec<&Payment> = paid
            .iter()
            .filter(|payment| payment.network() == side.network)
            .collect();
        let chain = compare(db, &there, side, tiers, &mut report.broken).await?;
        report.unexplained.extend(chain.unexplained.iter().cloned());
        report.chains.push(chain);
    }
    report.unexplained.extend(orphans::list_open(db).await?);
    check_refunds(db, sides, &mut report).await?;
    Ok(report)
}

/// Adds up the refunds, and asks the chain for the transfer of each that was made.
async fn check_refunds(
    db: &Db,
    sides: &[ChainSide<'_>],
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut last = String::new();
    loop {
        let page = refunds::page(db, &last).await?;
        let Some(end) = page.last() else {
            return Ok(());
        };
        end.payment_id.clone_into(&mut last);
        for refund in page {
            let amount: U256 = refund.amount.parse().unwrap_or_default();
            let sums = &mut report.refunds;
            if refund.refunded_ms.is_none() {
                sums.due += 1;
                sums.due_sum = sums.due_sum.saturating_add(amount);
                continue;
            }
            sums.made += 1;
            sums.made_sum = sums.made_sum.saturating_add(amount);
            let side = sides
                .iter()
                .find(|side| side.network.caip2 == refund.network);
            if let Some(side) = side
                && !is_refund_shown(side.chain, &refund, amount).await?
            {
                let says = "every refund is a transfer on the chain";
                let detail = "the chain shows no such transfer to its payer".to_owned();
                let row_key = refund.payment_id;
                report.broken.push((says, Violation { row_key, detail }));
            }
        }
    }
}

/// Whether the chain shows the transfer of a refund that was made. A row that names none breaks
/// another rule.
async fn is_refund_shown(
    chain: &dyn Chain,
    refund: &refunds::Listed,
    amount: U256,
) -> anyhow::Result<bool> {
    let place = refund.transaction_hash.as_ref().zip(refund.log_index);
    let Some((transaction, index)) = place else {
        return Ok(true);
    };
    let (Ok(transaction), Ok(payer), Ok(index)) = (
        transaction.parse(),
        refund.payer.parse(),
        u64::try_from(index),
    ) else {
        return Ok(false);
    };
    Ok(is_shown(chain, payer, amount, transaction, index).await?)
}

/// Finds a settled payment whose row differs from what its payer signed: somebody changed the row.
fn find_unsigned(payment: &Payment) -> Option<(&'static str, Violation)> {
    let authorization = &payment.authorization;
    let id = PaymentId::of(payment.network(), authorization.from, authorization.nonce);
    let detail = if id != payment.id {
        "its id is not that of network, payer and nonce"
    } else if !payment.is_recovered() && authorization.digest(payment.network()) != payment.digest {
        "its amount, recipient, payer, nonce or window is not what was signed"
    } else {
        return None;
    };
    Some((
        "a settled payment is what its payer signed",
        Violation {
            row_key: payment.id.to_string(),
            detail: detail.to_owned(),
        },
    ))
}

/// Finds grants whose token these keys do not derive. Their payers can't be given the token, and
/// somebody else may have it. Tokens that expired before `since` are left out, since their key may
/// have been removed.
///
/// # Errors
/// [`DbError`].
pub async fn find_foreign_tokens(
    db: &Db,
    keys: &Keyring,
    since: Timestamp,
) -> Result<Vec<(&'static str, Violation)>, DbError> {
    let mut broken = Vec::new();
    let mut last = String::new();
    loop {
        let page = audit::page_tokens(db, &last).await?;
        let Some(end) = page.last() else {
            return Ok(broken);
        };
        end.payment_id.clone_into(&mut last);
        let foreign = page
            .into_iter()
            .filter(|row| row.token_expires_ms > since.millis() && !is_own(row, keys));
        broken.extend(foreign.map(|row| {
            let detail = format!("token {} is not derived from the key", row.serial);
            (
                "a token is derived from its payment",
                Violation {
                    row_key: row.payment_id,
                    detail,
                },
            )
        }));
    }
}

fn is_own(row: &TokenRow, keys: &Keyring) -> bool {
    PaymentId::parse(&row.payment_id)
        .zip(u32::try_from(row.serial).ok())
        .is_some_and(|(id, serial)| {
            let expires = Timestamp::from_millis(row.token_expires_ms);
            let days = row.days.and_then(|days| u32::try_from(days).ok());
            let life = days.map(life_of_link);
            keys.iter()
                .map(|key| UploadToken::grant(key, &id, life, serial, expires))
                .any(|token| token.hash() == row.token_hash)
        })
}

/// Loads the settled payments. Rows that can't be read are added to `broken`.
async fn load_paid(db: &Db, broken: &mut Vec<Broken>) -> Result<Vec<Payment>, DbError> {
    let mut paid = Vec::new();
    let mut last = String::new();
    loop {
        let page = audit::page_payments(db, &last).await?;
        let Some(end) = page.last() else {
            return Ok(paid);
        };
        match end {
            Ok(payment) => payment.id.as_str().clone_into(&mut last),
            Err(unreadable) => unreadable.id.clone_into(&mut last),
        }
        for row in page {
            match row {
                Ok(payment) if payment.state == PaymentState::Settled => paid.push(payment),
                Ok(_) => {}
                // A rule that already names this row says more.
                Err(Unreadable { id, .. }) if broken.iter().any(|(_, row)| row.row_key == id) => {}
                Err(Unreadable { id, error }) => {
                    let (row_key, detail) = (id, error.to_string());
                    let says = "a payment is one that pixtoll wrote";
                    broken.push((says, Violation { row_key, detail }));
                }
            }
        }
    }
}

/// Finds the transfer of each settled payment on the chain. Those left over are orphans. A payment
/// whose transfer is missing is named by a rule of its own, and may have its transfer again.
async fn compare(
    db: &Db,
    paid: &[&Payment],
    side: &ChainSide<'_>,
    tiers: &TierTable,
    broken: &mut Vec<(&'static str, Violation)>,
) -> anyhow::Result<ChainReport> {
    let head = side.chain.head().await?;
    let mut recipients: Vec<Address> = paid
        .iter()
        .map(|payment| payment.terms.offer.pay_to)
        .collect();
    recipients.push(side.pay_to);
    recipients.sort_unstable();
    recipients.dedup();
    let mut unclaimed: BTreeMap<(B256, u64), (Address, IncomingTransfer)> = BTreeMap::new();
    let mut received_sum = U256::ZERO;
    for recipient in recipients {
        for receipt in side
            .chain
            .receipts(recipient, side.first_block, head.number)
            .await?
        {
            received_sum = received_sum.saturating_add(receipt.value);
            unclaimed.insert(
                (receipt.transaction, receipt.log_index),
                (recipient, receipt),
            );
        }
    }
    let (missing, found): (Vec<&Payment>, Vec<&Payment>) =
        paid.iter().partition(|payment| payment.missing.is_some());
    for payment in found.into_iter().chain(missing) {
        let found = unclaimed
            .iter()
            .find(|(_, (recipient, receipt))| pays(payment, *recipient, receipt))
            .map(|(key, _)| *key);
        match found {
            Some(key) => {
                unclaimed.remove(&key);
            }
            None if payment.missing.is_some() => {}
            None => broken.push((
                "every settled payment is a transfer on the chain",
                Violation {
                    row_key: payment.id.to_string(),
                    detail: "settled, and the chain shows no such transfer to its recipient"
                        .to_owned(),
                },
            )),
        }
    }
    let mut report = ChainReport {
        network: side.network,
        erased: 0,
        first_block: side.first_block,
        last_block: head.number,
        received_sum,
        orphans: Vec::new(),
        unexplained: Vec::new(),
    };
    for (recipient, receipt) in unclaimed.into_values() {
        report.account(db, side, tiers, recipient, receipt).await?;
    }
    Ok(report)
}

impl ChainReport {
    /// Finds out to what a transfer without a settled payment belongs.
    async fn account(
        &mut self,
        db: &Db,
        side: &ChainSide<'_>,
        tiers: &TierTable,
        recipient: Address,
        receipt: IncomingTransfer,
    ) -> anyhow::Result<()> {
        let transfer = super::incoming(side.network, recipient, &receipt);
        if erasure::is_erased_transfer(db, &transfer.hash()).await? {
            self.erased += 1;
            return Ok(());
        }
        if is_unexplained(db, side, tiers, &transfer, &receipt).await? {
            self.unexplained.push(Orphan::of(&transfer));
        }
        self.orphans.push(receipt);
        Ok(())
    }
}

/// Whether a transfer without a settled payment looks like a sale, can't belong to an open payment,
/// and was not accepted.
async fn is_unexplained(
    db: &Db,
    side: &ChainSide<'_>,
    tiers: &TierTable,
    transfer: &Incoming,
    receipt: &IncomingTransfer,
) -> anyhow::Result<bool> {
    if auditor::find_claimant(db, transfer).await? != Claimant::Nobody {
        return Ok(false);
    }
    if let Some(accepted) = orphans::is_accepted(db, &Orphan::of(transfer)).await? {
        return Ok(!accepted);
    }
    looks_like_sale(db, side.chain, side.network, tiers, receipt).await
}

/// Whether a receipt is the transfer of a payment. A missing transfer may be in another transaction
/// by now, if the chain included it again.
fn pays(payment: &Payment, recipient: Address, receipt: &IncomingTransfer) -> bool {
    (payment.transaction == Some(receipt.transaction) || payment.missing.is_some())
        && payment.terms.offer.pay_to == recipient
        && payment.authorization.from == receipt.from
        && value(payment) == receipt.value
}

fn value(payment: &Payment) -> U256 {
    payment.terms.offer.amount.as_u256()
}
