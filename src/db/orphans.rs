//! Transfers to us that look like sales and belong to no payment. Each waits for the operator's
//! decision: to recover its payment, or to accept it.

use super::auditor::Incoming;
use super::rows::signed;
use super::{Db, DbError, from_row, read_db, write_db};
use crate::system::clock::Timestamp;

/// A transfer that looks like a sale and belongs to no payment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Orphan {
    /// CAIP-2 id of the network.
    pub network: String,
    /// The transaction hash.
    pub transaction_hash: String,
    /// The index of the transfer's log in its block.
    pub log_index: i64,
    /// The amount in atomic units.
    pub amount: String,
}
from_row!(Orphan: network, transaction_hash, log_index, amount);

impl Orphan {
    /// The orphan that this transfer is.
    pub fn of(transfer: &Incoming) -> Self {
        Self {
            network: transfer.network.to_owned(),
            transaction_hash: transfer.transaction.clone(),
            log_index: signed(transfer.log_index),
            amount: transfer.amount.clone(),
        }
    }
}

/// Records an orphan, which then waits for a decision. `false`: it is recorded already.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn note(db: &Db, orphan: &Orphan, now: Timestamp) -> Result<bool, DbError> {
    let changed = write_db!(db, |pool| {
        sqlx::query(NOTE)
            .bind(&orphan.network)
            .bind(&orphan.transaction_hash)
            .bind(orphan.log_index)
            .bind(&orphan.amount)
            .bind(now.millis())
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(changed == 1)
}

const NOTE: &str = "INSERT INTO orphans (network, transaction_hash, log_index, amount, found_ms) \
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (network, transaction_hash, log_index) DO NOTHING";

/// Whether a transfer is a recorded orphan, and whether the operator accepted it; `None`: it is not
/// recorded.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn is_accepted(db: &Db, orphan: &Orphan) -> Result<Option<bool>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_scalar(IS_ACCEPTED)
        .bind(&orphan.network)
        .bind(&orphan.transaction_hash)
        .bind(orphan.log_index)
        .fetch_optional(pool)
        .await)?)
}

const IS_ACCEPTED: &str = "SELECT accepted_ms IS NOT NULL FROM orphans \
    WHERE network = $1 AND transaction_hash = $2 AND log_index = $3";

/// Lists the orphans that wait for a decision, oldest first: at most 100. One that a payment
/// accounts for by now doesn't wait.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn list_open(db: &Db) -> Result<Vec<Orphan>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(LIST_OPEN)
        .fetch_all(pool)
        .await)?)
}

const LIST_OPEN: &str = "SELECT o.network, o.transaction_hash, o.log_index, o.amount FROM orphans o \
    WHERE o.accepted_ms IS NULL AND NOT EXISTS (SELECT 1 FROM payments p \
    WHERE p.transaction_hash = o.transaction_hash AND p.log_index = o.log_index AND p.network = o.network \
    AND p.state = 'settled') ORDER BY o.found_ms, o.transaction_hash LIMIT 100";

/// Deletes the orphans that a payment accounts for.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn forget_claimed(db: &Db) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(FORGET_CLAIMED)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const FORGET_CLAIMED: &str = "DELETE FROM orphans WHERE accepted_ms IS NULL AND EXISTS (SELECT 1 FROM payments p \
    WHERE p.transaction_hash = orphans.transaction_hash AND p.log_index = orphans.log_index \
    AND p.network = orphans.network AND p.state = 'settled')";

/// Records that the operator accepted the orphans of a transaction: they are no sales. Returns how
/// many waited for that decision.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn accept(
    db: &Db,
    transaction_hash: &str,
    note: &str,
    now: Timestamp,
) -> Result<u64, DbError> {
    Ok(write_db!(db, |pool| {
        sqlx::query(ACCEPT)
            .bind(transaction_hash)
            .bind(note)
            .bind(now.millis())
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
    })?)
}

const ACCEPT: &str = "UPDATE orphans SET accepted_ms = $3, note = $2 \
    WHERE transaction_hash = $1 AND accepted_ms IS NULL";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("orphans::NOTE", NOTE),
    ("orphans::IS_ACCEPTED", IS_ACCEPTED),
    ("orphans::LIST_OPEN", LIST_OPEN),
    ("orphans::FORGET_CLAIMED", FORGET_CLAIMED),
    ("orphans::ACCEPT", ACCEPT),
];
