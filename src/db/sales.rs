//! Settled payments in the order in which they settled, with their refunds, for the export.

use super::{Db, DbError, from_row, read_db};

/// A settled payment, as the database spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    /// The ledger id.
    pub id: String,
    /// When it settled, in milliseconds since the Unix epoch.
    pub settled_ms: i64,
    /// CAIP-2 id of the network.
    pub network: String,
    /// The token contract.
    pub asset: String,
    /// The transaction that moved the money.
    pub transaction_hash: Option<String>,
    /// The index of the transfer's log in its block; `None`: the auditor has not seen it yet.
    pub log_index: Option<i64>,
    /// The payer.
    pub payer: String,
    /// The recipient.
    pub pay_to: String,
    /// The amount in atomic units.
    pub amount: String,
    /// The kind of product.
    pub kind: String,
    /// The tier.
    pub tier: String,
    /// The number of uploads.
    pub uses: i64,
    /// The image that was renewed.
    pub target: Option<String>,
    /// Whether a facilitator was asked to settle it.
    pub was_sent: bool,
    /// Whether the operator voided it.
    pub is_void: bool,
    /// When its refund was decided.
    pub refund_due_ms: Option<i64>,
    /// When the chain had shown its refund.
    pub refunded_ms: Option<i64>,
    /// The transaction of its refund.
    pub refund_transaction: Option<String>,
}
from_row!(Sale:
    id, settled_ms, network, asset, transaction_hash, log_index, payer, pay_to, amount, kind, tier, uses,
    target, was_sent, is_void, refund_due_ms, refunded_ms, refund_transaction
);

/// A place in the order of sales: the time of a settlement and its ledger id.
pub type Place<'a> = (i64, &'a str);

/// Finds the payments that settled after the place `after` and before `until_ms`: a page of at most
/// 500.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn page(db: &Db, after: Place<'_>, until_ms: i64) -> Result<Vec<Sale>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(PAGE)
        .bind(after.0)
        .bind(after.1)
        .bind(until_ms)
        .fetch_all(pool)
        .await)?)
}

const PAGE: &str = "SELECT p.id, p.settled_ms, p.network, p.asset, p.transaction_hash, p.log_index, p.payer, \
    p.pay_to, p.amount, p.kind, p.tier, p.uses, p.target, p.settle_called_ms IS NOT NULL AS was_sent, \
    p.voided_ms IS NOT NULL AS is_void, r.due_ms AS refund_due_ms, r.refunded_ms, \
    r.transaction_hash AS refund_transaction FROM payments p LEFT JOIN refunds r ON r.payment_id = p.id \
    WHERE p.state = 'settled' AND p.settled_ms < $3 AND (p.settled_ms, p.id) > ($1, $2) \
    ORDER BY p.settled_ms, p.id LIMIT 500";

/// Finds the images that the payments after `after` up to `last` published: pairs of ledger id and
/// image id, in the order of publication.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn images(
    db: &Db,
    after: Place<'_>,
    last: Place<'_>,
) -> Result<Vec<(String, String)>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(IMAGES)
        .bind(after.0)
        .bind(after.1)
        .bind(last.0)
        .bind(last.1)
        .fetch_all(pool)
        .await)?)
}

const IMAGES: &str = "SELECT p.id, i.id FROM payments p JOIN images i ON i.payment_id = p.id \
    WHERE p.state = 'settled' AND (p.settled_ms, p.id) > ($1, $2) AND (p.settled_ms, p.id) <= ($3, $4) \
    AND i.published_ms IS NOT NULL ORDER BY i.published_ms, i.id";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[("sales::PAGE", PAGE), ("sales::IMAGES", IMAGES)];
