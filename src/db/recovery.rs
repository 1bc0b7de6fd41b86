//! Payments that recovery found on the chain and the ledger lacks. Each is written as settled, with
//! goods that are owed.

use super::payments;
use super::rows::{keep_millis, signed};
use super::settlements::{INSERT_GRANT, NewGrant};
use super::{Db, DbError, in_tx, read_db};
use crate::model::payment::{Move, Payment, Transfer};
use crate::system::clock::Timestamp;

/// Lists the recipients of a network's payments, as the ledger spells them.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn list_recipients(db: &Db, network: &str) -> Result<Vec<String>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_scalar(LIST_RECIPIENTS)
        .bind(network)
        .fetch_all(pool)
        .await)?)
}

const LIST_RECIPIENTS: &str =
    "SELECT DISTINCT pay_to FROM payments WHERE network = $1 ORDER BY pay_to";

/// Everything that recovering a payment writes.
#[derive(Debug)]
pub struct Recovery<'a> {
    /// The payment, as far as the chain shows it. `first_seen` is the time of the transfer's block.
    pub payment: &'a Payment,
    /// Stands for the name of the facilitator, which is not known.
    pub facilitator: &'a str,
    /// The change of state, to `settled`.
    pub step: Move,
    /// The transfer on the chain.
    pub transfer: Transfer,
    /// The upload token that is granted.
    pub grant: NewGrant,
    /// Why the payer doesn't have the goods yet.
    pub owed: &'static str,
    /// When the auditor looks for the transfer first.
    pub next_look: Timestamp,
    /// The current time.
    pub now: Timestamp,
}

/// Writes a payment as settled, with its grant, in one transaction. `false`: the ledger has a
/// payment with this identity.
///
/// # Errors
/// [`DbError::Driver`], also when the transfer already settled another payment.
pub async fn insert(db: &Db, recovery: &Recovery<'_>) -> Result<bool, DbError> {
    let payment = recovery.payment;
    let (id, product) = (payment.id.as_str(), &payment.product);
    Ok(in_tx!(db, |tx| {
        let inserted =
            payments::bind_insert(sqlx::query(payments::INSERT), payment, recovery.facilitator)
                .execute(&mut *tx)
                .await?
                .rows_affected();
        if inserted == 0 {
            return Ok(false);
        }
        sqlx::query(SETTLE)
            .bind(id)
            .bind(recovery.step.from().as_str())
            .bind(recovery.step.to().as_str())
            .bind(recovery.now.millis())
            .bind(payment.first_seen.millis())
            .bind(recovery.transfer.transaction.to_string())
            .bind(recovery.transfer.log_index.map(signed))
            .bind(recovery.owed)
            .bind(recovery.next_look.millis())
            .execute(&mut *tx)
            .await?;
        sqlx::query(INSERT_GRANT)
            .bind(id)
            .bind(product.kind.as_str())
            .bind(&product.tier)
            .bind(i64::from(product.uses))
            .bind(&recovery.grant.token_hash)
            .bind(recovery.grant.token_expires.millis())
            .bind(keep_millis(payment.terms.keep))
            .bind(signed(payment.terms.max_bytes))
            .bind(recovery.now.millis())
            .bind(product.days.map(i64::from))
            .execute(&mut *tx)
            .await?;
        true
    }))
}

const SETTLE: &str = "UPDATE payments SET state = $3, changed_ms = $4, settled_ms = $5, \
    transaction_hash = $6, log_index = $7, proven_by = 'chain', owed = $8, next_look_ms = $9 \
    WHERE id = $1 AND state = $2";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("recovery::LIST_RECIPIENTS", LIST_RECIPIENTS),
    ("recovery::SETTLE", SETTLE),
];
