//! Queries of the auditor, which checks the transfers of settled payments, and of `pixtoll ledger
//! void`. Every write of the auditor is one conditional update on (id, state, attempt).

use super::goods::{self, image_id, take_goods_back};
use super::rows::{Field, PaymentRow, Unreadable, fetch_payments, payment_columns, signed};
use super::{Db, DbError, from_row, in_tx, read_db, write_db};
use crate::model::ids::ImageId;
use crate::model::payment::{Payment, PaymentId, Transfer, transfer_hash};
use crate::system::clock::Timestamp;

/// A payment whose transfer is due for a check.
#[derive(Debug, Clone)]
pub struct Audited {
    /// The payment.
    pub payment: Payment,
    /// The block in which its transfer was last seen.
    pub seen_block: Option<u64>,
    /// How its transfer is missing; `None`: it isn't.
    pub missing: Option<Missing>,
}

/// Since when, and in how many checks, a transfer was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// The number of checks that did not find the transfer.
    pub looks: u32,
    /// The time of the newest block at the first of these checks.
    pub since: Timestamp,
    /// The height of the newest block at the last of these checks.
    pub block: u64,
}

struct AuditedRow {
    payment: PaymentRow,
    seen_block: Option<i64>,
    missing_looks: i64,
    missing_since_ms: Option<i64>,
    missing_block: Option<i64>,
}
from_row!(AuditedRow: seen_block, missing_looks, missing_since_ms, missing_block; payment);

impl TryFrom<AuditedRow> for Audited {
    type Error = DbError;

    fn try_from(row: AuditedRow) -> Result<Self, DbError> {
        let payment = Payment::try_from(row.payment)?;
        let field = Field {
            table: "payments",
            row: payment.id.as_str(),
        };
        let missing = match (row.missing_since_ms, row.missing_block) {
            (Some(since), Some(block)) => Some(Missing {
                looks: field.count("missing_looks", row.missing_looks)?,
                since: Timestamp::from_millis(since),
                block: field.count("missing_block", block)?,
            }),
            _ => None,
        };
        let seen_block = row
            .seen_block
            .map(|block| field.count("seen_block", block))
            .transpose()?;
        Ok(Self {
            payment,
            seen_block,
            missing,
        })
    }
}

/// Finds settled payments that are due for a check and that no process has leased. A row
/// that can't be read is returned as [`Unreadable`].
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_due(
    db: &Db,
    now: Timestamp,
    most: u32,
) -> Result<Vec<Result<Audited, Unreadable>>, DbError> {
    Ok(fetch_payments!(db, AuditedRow as Audited, |pool| {
        sqlx::query(FIND_DUE)
            .bind(now.millis())
            .bind(i64::from(most))
    }))
}

const FIND_DUE: &str = concat!(
    "SELECT ",
    payment_columns!(),
    ", seen_block, missing_looks, missing_since_ms, missing_block FROM payments \
     WHERE next_look_ms <= $1 AND lease_until_ms <= $1 AND state = 'settled' \
     ORDER BY next_look_ms LIMIT $2"
);

/// Records where the chain shows a payment's transfer, and replaces what was recorded before. The
/// mark of a missing transfer goes. If the payment is void, its money is owed. `false`: the lease
/// was lost.
///
/// # Errors
/// [`DbError::Driver`], also when the transfer already settled another payment.
pub async fn note_seen(
    db: &Db,
    payment: &Payment,
    transfer: Transfer,
    block: u64,
    next_look: Option<Timestamp>,
    looks: u32,
) -> Result<bool, DbError> {
    let changed = write_db!(db, |pool| {
        sqlx::query(NOTE_SEEN)
            .bind(payment.id.as_str())
            .bind(payment.attempt)
            .bind(payment.state.as_str())
            .bind(transfer.transaction.to_string())
            .bind(transfer.log_index.map(signed))
            .bind(signed(block))
            .bind(next_look.map(Timestamp::millis))
            .bind(i64::from(looks))
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(changed == 1)
}

const NOTE_SEEN: &str = "UPDATE payments SET transaction_hash = $4, log_index = $5, proven_by = 'chain', \
    seen_block = $6, next_look_ms = $7, looks = $8, missing_looks = 0, missing_since_ms = NULL, \
    missing_block = NULL, missing_reason = NULL, lease_until_ms = 0, \
    owed = CASE WHEN voided_ms IS NULL THEN owed ELSE 'the chain shows the transfer of this voided payment' END \
    WHERE id = $1 AND attempt = $2 AND state = $3";

/// Records that a check did not find a payment's transfer. With a `reason` the payment is marked:
/// the operator has to decide. `false`: the lease was lost.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn note_missing(
    db: &Db,
    payment: &Payment,
    missing: Missing,
    reason: Option<&str>,
    next_look: Timestamp,
) -> Result<bool, DbError> {
    let changed = write_db!(db, |pool| {
        sqlx::query(NOTE_MISSING)
            .bind(payment.id.as_str())
            .bind(payment.attempt)
            .bind(payment.state.as_str())
            .bind(i64::from(missing.looks))
            .bind(missing.since.millis())
            .bind(signed(missing.block))
            .bind(next_look.millis())
            .bind(reason)
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(changed == 1)
}

const NOTE_MISSING: &str = "UPDATE payments SET missing_looks = $4, missing_since_ms = $5, \
    missing_block = $6, missing_reason = $8, next_look_ms = $7, looks = 0, lease_until_ms = 0 \
    WHERE id = $1 AND attempt = $2 AND state = $3";

/// The outcome of voiding a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Voiding {
    /// The payment is void.
    Done {
        /// The images that were withdrawn. Their links respond with 404 from now on, and the reaper
        /// deletes them.
        images: Vec<ImageId>,
        /// Whether the time of a renewal was taken back; `None`: the payment was for no renewal, or
        /// renewed nothing.
        renewal_undone: Option<bool>,
    },
    /// The payment isn't settled, its transfer isn't missing, or it is void already.
    NotMissing,
    /// An image of the payment is under review, or a renewal of it is being settled.
    Busy(ImageId),
}

/// Voids a settled payment whose transfer is missing: its grant buys nothing from now on, its images
/// are withdrawn, and the time of its renewal is taken back unless the image changed since. All in
/// one transaction.
///
/// # Errors
/// [`DbError`].
pub async fn void(db: &Db, id: &PaymentId, note: &str, now: Timestamp) -> Result<Voiding, DbError> {
    let now = now.millis();
    Ok(in_tx!(db, |tx| {
        // Lock order: payment, grant, image. An upload that is being published has locked the
        // grant.
        let voided = sqlx::query(VOID_PAYMENT)
            .bind(id.as_str())
            .bind(now)
            .bind(note)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if voided == 0 {
            return Ok(Voiding::NotMissing);
        }
        let (withdrawn, renewal_undone) = match take_goods_back!(tx, goods::ALL, id, now) {
            Ok(taken) => taken,
            // Dropping the transaction rolls it back.
            Err(left) => return Ok(Voiding::Busy(image_id(&left)?)),
        };
        let images: Result<_, DbError> = withdrawn.iter().map(|id| image_id(id)).collect();
        Voiding::Done {
            images: images?,
            renewal_undone,
        }
    }))
}

const VOID_PAYMENT: &str = "UPDATE payments SET voided_ms = $2, void_note = $3, owed = NULL, changed_ms = $2, \
    next_look_ms = $2, looks = 0 WHERE id = $1 AND state = 'settled' AND missing_reason IS NOT NULL \
    AND voided_ms IS NULL";
/// A transfer to us, in the ledger's spelling.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// CAIP-2 id of the network.
    pub network: &'static str,
    /// The transaction hash.
    pub transaction: String,
    /// The index of its log in the block.
    pub log_index: u64,
    /// The payer's address.
    pub payer: String,
    /// The recipient's address.
    pub pay_to: String,
    /// The amount in atomic units.
    pub amount: String,
    /// The height of the block.
    pub block: u64,
}

impl Incoming {
    /// The hash that stays of a transfer when the records of its payment are erased.
    pub fn hash(&self) -> String {
        transfer_hash(&self.transaction, &self.payer, &self.pay_to, &self.amount)
    }
}

/// The payment that accounts for a transfer, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimant {
    /// A payment that was settled by this transfer.
    Payment,
    /// Possibly an open payment, whose outcome is not known yet.
    Open,
    /// No payment.
    Nobody,
}

/// Finds which payment accounts for a transfer.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_claimant(db: &Db, transfer: &Incoming) -> Result<Claimant, DbError> {
    let (settled, open): (i64, i64) = read_db!(db, |pool| sqlx::query_as(FIND_CLAIMANT)
        .bind(transfer.network)
        .bind(&transfer.payer)
        .bind(&transfer.pay_to)
        .bind(&transfer.amount)
        .bind(&transfer.transaction)
        .bind(signed(transfer.log_index))
        .bind(signed(transfer.block))
        .fetch_one(pool)
        .await)?;
    Ok(match (settled, open) {
        (0, 0) => Claimant::Nobody,
        (0, _) => Claimant::Open,
        _ => Claimant::Payment,
    })
}

// A payment that was first seen after the block was mined can't account for it: a used nonce buys
// nothing.
const FIND_CLAIMANT: &str = "SELECT \
    (SELECT COUNT(*) FROM payments WHERE transaction_hash = $5 AND log_index = $6 AND network = $1 \
    AND payer = $2 AND pay_to = $3 AND amount = $4 AND state = 'settled'), \
    (SELECT COUNT(*) FROM payments WHERE payer = $2 AND network = $1 AND pay_to = $3 AND amount = $4 \
    AND first_block <= $7 AND next_look_ms IS NOT NULL)";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("auditor::FIND_DUE", FIND_DUE),
    ("auditor::NOTE_SEEN", NOTE_SEEN),
    ("auditor::NOTE_MISSING", NOTE_MISSING),
    ("auditor::VOID_PAYMENT", VOID_PAYMENT),
    ("auditor::FIND_CLAIMANT", FIND_CLAIMANT),
];
