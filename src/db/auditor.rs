//! Queries of the auditor, which checks the transfers of settled and frozen payments. Every write
//! is one conditional update on (id, state, attempt).

use super::renewals::{
    FORGET, FORGET_OF_IMAGES, LET_TARGET_GO, LOCK_TARGET, OWE_OF_IMAGES, PASS_TIER_ON,
    UNUSE_OF_IMAGES,
};
use super::rows::{Field, PaymentRow, Unreadable, fetch_payments, payment_columns, signed};
use super::{Db, DbError, from_row, in_tx, read_db, write_db};
use crate::model::payment::{Move, Payment, PaymentId, Transfer};
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

/// Finds settled and frozen payments that are due for a check and that no process has leased. A row
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
     WHERE next_look_ms <= $1 AND lease_until_ms <= $1 AND state IN ('settled', 'frozen') \
     ORDER BY next_look_ms LIMIT $2"
);

/// Records where the chain shows a payment's transfer, and replaces what was recorded before.
/// `false`: the lease was lost.
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
    missing_block = NULL, lease_until_ms = 0 WHERE id = $1 AND attempt = $2 AND state = $3";

/// Records that a check did not find a payment's transfer. `false`: the lease was lost.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn note_missing(
    db: &Db,
    payment: &Payment,
    missing: Missing,
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
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(changed == 1)
}

const NOTE_MISSING: &str = "UPDATE payments SET missing_looks = $4, missing_since_ms = $5, \
    missing_block = $6, next_look_ms = $7, looks = 0, lease_until_ms = 0 \
    WHERE id = $1 AND attempt = $2 AND state = $3";

/// Everything that a reversal writes.
#[derive(Debug)]
pub struct Reversal<'a> {
    /// The change of state, to `reversed`.
    pub step: Move,
    /// The payment, as its driver read it.
    pub payment: &'a Payment,
    /// Why the transfer will never pay us.
    pub reason: &'a str,
    /// The serial number of the payment's valid token.
    pub serial: u32,
    /// SHA-256, in hex, of the next token, which nobody has.
    pub token_hash: &'a str,
    /// When the reconciler checks whether the chain shows the transfer after all.
    pub next_look: Timestamp,
    /// The current time.
    pub now: Timestamp,
}

/// Withdraws what a payment bought: row, token, renewal and images, in one transaction. Images
/// under review stay, and are not served. `false`: the payment or its token changed, and nothing is
/// written.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn reverse(db: &Db, reversal: &Reversal<'_>) -> Result<bool, DbError> {
    let id = reversal.payment.id.as_str();
    let now = reversal.now.millis();
    Ok(in_tx!(db, |tx| {
        let moved = sqlx::query(REVERSE)
            .bind(id)
            .bind(reversal.payment.attempt)
            .bind(reversal.step.from().as_str())
            .bind(reversal.step.to().as_str())
            .bind(reversal.reason)
            .bind(reversal.next_look.millis())
            .bind(now)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        // Before the images: an upload that is being published has locked the grant.
        let token = sqlx::query(TAKE_TOKEN_BACK)
            .bind(id)
            .bind(i64::from(reversal.serial))
            .bind(reversal.token_hash)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if (moved, token) != (1, 1) {
            // Dropping the transaction rolls it back.
            return Ok(false);
        }
        if let Some(target) = &reversal.payment.product.target {
            for sql in [LOCK_TARGET, LET_TARGET_GO] {
                sqlx::query(sql)
                    .bind(target.as_str())
                    .execute(&mut *tx)
                    .await?;
            }
            for sql in [PASS_TIER_ON, FORGET] {
                sqlx::query(sql).bind(id).execute(&mut *tx).await?;
            }
        }
        for sql in [OWE_OF_IMAGES, UNUSE_OF_IMAGES, FORGET_OF_IMAGES] {
            sqlx::query(sql).bind(id).execute(&mut *tx).await?;
        }
        sqlx::query(TAKE_IMAGES_BACK)
            .bind(id)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        true
    }))
}

const REVERSE: &str = "UPDATE payments SET state = $4, reason = $5, changed_ms = $7, next_look_ms = $6, \
    looks = 0, owed = NULL, lease_until_ms = 0 WHERE id = $1 AND attempt = $2 AND state = $3";

const TAKE_TOKEN_BACK: &str = "UPDATE grants SET used = 0, serial = serial + 1, token_hash = $3, \
    token_expires_ms = 0 WHERE payment_id = $1 AND serial = $2";

const TAKE_IMAGES_BACK: &str = "UPDATE images SET taken_back_ms = $2, \
    reap_after_ms = CASE WHEN state = 'live' AND held_ms IS NULL THEN $2 ELSE reap_after_ms END, \
    state = CASE WHEN state = 'live' AND held_ms IS NULL THEN 'deleting' ELSE state END \
    WHERE payment_id = $1 AND published_ms IS NOT NULL AND taken_back_ms IS NULL";

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
    AND payer = $2 AND pay_to = $3 AND amount = $4 AND state IN ('settled', 'frozen')), \
    (SELECT COUNT(*) FROM payments WHERE payer = $2 AND network = $1 AND pay_to = $3 AND amount = $4 \
    AND first_block <= $7 AND next_look_ms IS NOT NULL)";

/// Returns since when, by block time, the auditor misses a payment's transfer; in milliseconds.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_missing_since(db: &Db, id: &PaymentId) -> Result<Option<i64>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_scalar(FIND_MISSING_SINCE)
        .bind(id.as_str())
        .fetch_one(pool)
        .await)?)
}

const FIND_MISSING_SINCE: &str = "SELECT missing_since_ms FROM payments WHERE id = $1";

/// Counts the frozen payments.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn count_frozen(db: &Db) -> Result<i64, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_scalar(COUNT_FROZEN)
        .fetch_one(pool)
        .await)?)
}

const COUNT_FROZEN: &str = "SELECT COUNT(*) FROM payments WHERE next_look_ms >= 0 AND state IN ('settled', 'frozen') AND state = 'frozen'";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("auditor::FIND_DUE", FIND_DUE),
    ("auditor::NOTE_SEEN", NOTE_SEEN),
    ("auditor::NOTE_MISSING", NOTE_MISSING),
    ("auditor::REVERSE", REVERSE),
    ("auditor::TAKE_TOKEN_BACK", TAKE_TOKEN_BACK),
    ("auditor::TAKE_IMAGES_BACK", TAKE_IMAGES_BACK),
    ("auditor::FIND_CLAIMANT", FIND_CLAIMANT),
    ("auditor::FIND_MISSING_SINCE", FIND_MISSING_SINCE),
    ("auditor::COUNT_FROZEN", COUNT_FROZEN),
];
