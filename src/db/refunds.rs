//! Refunds of settled payments. A refund is due from the operator's decision until the chain has
//! shown its transfer; both are recorded once.

use serde_json::json;

use super::admin_log::append_entry;
use super::goods::{self, image_id, take_goods_back};
use super::rows::{Field, signed};
use super::{Db, DbError, from_row, in_tx, read_db};
use crate::keys::secrets::sha256_hex;
use crate::model::admin_log::{Act, Entry};
use crate::model::ids::ImageId;
use crate::model::payment::PaymentId;
use crate::pricing::money::AtomicAmount;
use crate::system::clock::Timestamp;

/// A refund, as the operator decided it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// The amount: that of the payment.
    pub amount: AtomicAmount,
    /// Whether the payer keeps what was bought.
    pub keeps_goods: bool,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// When the refund was decided.
    pub due: Timestamp,
    /// When the chain had shown its transfer; `None`: it is still due.
    pub refunded: Option<Timestamp>,
    /// The transaction that made it.
    pub transaction: Option<String>,
}

/// The transfer that makes a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundTransfer {
    /// CAIP-2 id of the network.
    pub network: &'static str,
    /// The hash of its transaction.
    pub transaction: String,
    /// The index of its log in the block.
    pub log_index: u64,
}

impl RefundTransfer {
    /// The hash by which the ledger knows that this transfer made a refund.
    pub fn hash(&self) -> String {
        let Self {
            network,
            transaction,
            log_index,
        } = self;
        sha256_hex(format!("{network}/{transaction}/{log_index}").as_bytes())
    }
}

/// The outcome of recording that a refund was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closing {
    /// The refund is recorded as made.
    Done {
        /// The images that were withdrawn. Their links respond with 404 from now on, and the reaper
        /// deletes them. An image that another payment renewed stays.
        images: Vec<ImageId>,
        /// Whether the time of a renewal was taken back; `None`: the payment was for no renewal,
        /// renewed nothing, or the payer keeps the goods.
        renewal_undone: Option<bool>,
    },
    /// No refund of this payment is due, or the chain doesn't show the payment's transfer.
    NotDue,
    /// The transfer made another refund.
    Used,
    /// An image of the payment is under review, or a renewal of it is being settled.
    Busy(ImageId),
}

struct RefundRow {
    payment_id: String,
    amount: String,
    keeps_goods: i64,
    reason: Option<String>,
    due_ms: i64,
    refunded_ms: Option<i64>,
    transaction_hash: Option<String>,
}
from_row!(RefundRow:
    payment_id, amount, keeps_goods, reason, due_ms, refunded_ms, transaction_hash
);

impl TryFrom<RefundRow> for Refund {
    type Error = DbError;

    fn try_from(row: RefundRow) -> Result<Self, DbError> {
        let field = Field {
            table: "refunds",
            row: &row.payment_id,
        };
        Ok(Self {
            amount: field.with("amount", AtomicAmount::from_atomic(&row.amount).ok())?,
            keeps_goods: row.keeps_goods != 0,
            reason: row.reason,
            due: Timestamp::from_millis(row.due_ms),
            refunded: row.refunded_ms.map(Timestamp::from_millis),
            transaction: row.transaction_hash,
        })
    }
}

/// Finds the refund of a payment.
///
/// # Errors
/// [`DbError`].
pub async fn find(db: &Db, id: &PaymentId) -> Result<Option<Refund>, DbError> {
    let row: Option<RefundRow> = read_db!(db, |pool| sqlx::query_as(FIND)
        .bind(id.as_str())
        .fetch_optional(pool)
        .await)?;
    row.map(Refund::try_from).transpose()
}

const FIND: &str = "SELECT payment_id, amount, keeps_goods, reason, due_ms, refunded_ms, transaction_hash \
    FROM refunds WHERE payment_id = $1";

/// Records that a refund of the whole payment is due, also in the operator's log. `false`: the
/// payment has one already, is not settled, has no transfer on the chain, or the operator made up
/// for it otherwise. The payer of a voided payment has no goods to keep.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn request(
    db: &Db,
    id: &PaymentId,
    keeps_goods: bool,
    reason: Option<&str>,
    actor: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    let details = json!({"step": "due", "keepsGoods": keeps_goods});
    let entry = entry(id, actor, reason, details);
    Ok(in_tx!(db, |tx| {
        let changed = sqlx::query(REQUEST)
            .bind(id.as_str())
            .bind(i64::from(keeps_goods))
            .bind(reason)
            .bind(now.millis())
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if changed == 0 {
            return Ok(false);
        }
        append_entry!(tx, &entry, now);
        true
    }))
}

/// The entry of the operator's log about a refund.
fn entry(id: &PaymentId, actor: &str, reason: Option<&str>, details: serde_json::Value) -> Entry {
    Entry {
        actor: actor.to_owned(),
        act: Act::Refund,
        subject: id.to_string(),
        reason: reason.unwrap_or_default().to_owned(),
        details,
    }
}

const REQUEST: &str = "INSERT INTO refunds (payment_id, network, amount, keeps_goods, reason, due_ms) \
    SELECT id, network, amount, CAST($2 AS BIGINT), CAST($3 AS TEXT), CAST($4 AS BIGINT) FROM payments \
    WHERE id = $1 AND state = 'settled' AND missing_reason IS NULL AND resolved_ms IS NULL \
    AND (voided_ms IS NULL OR CAST($2 AS BIGINT) = 0) ON CONFLICT (payment_id) DO NOTHING";

/// Withdraws the decision to refund, also in the operator's log. `false`: no refund of this payment is due.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn cancel(db: &Db, id: &PaymentId, actor: &str, now: Timestamp) -> Result<bool, DbError> {
    let entry = entry(id, actor, None, json!({"step": "cancelled"}));
    Ok(in_tx!(db, |tx| {
        let changed = sqlx::query(CANCEL)
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if changed == 0 {
            return Ok(false);
        }
        append_entry!(tx, &entry, now);
        true
    }))
}

const CANCEL: &str = "DELETE FROM refunds WHERE payment_id = $1 AND refunded_ms IS NULL";

/// Whether a transfer can't make a refund: it made another one, or it is itself a payment.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn is_used(db: &Db, transfer: &RefundTransfer) -> Result<bool, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_scalar(IS_USED)
        .bind(transfer.hash())
        .bind(transfer.network)
        .bind(&transfer.transaction)
        .bind(signed(transfer.log_index))
        .fetch_one(pool)
        .await)?)
}

const IS_USED: &str = "SELECT EXISTS (SELECT 1 FROM refunds WHERE transfer_hash = $1) \
    OR EXISTS (SELECT 1 FROM payments WHERE network = $2 AND transaction_hash = $3 AND log_index = $4)";

/// Records the transfer that made a refund and, unless the payer keeps the goods, takes them back:
/// the grant buys nothing from now on, its images are withdrawn, and the time of a renewal is taken
/// back. All in one transaction with an entry of the operator's log, once.
///
/// # Errors
/// [`DbError`].
pub async fn close(
    db: &Db,
    id: &PaymentId,
    transfer: &RefundTransfer,
    actor: &str,
    now: Timestamp,
) -> Result<Closing, DbError> {
    match try_close(db, id, transfer, actor, now).await {
        // Another process recorded the same transfer at the same time.
        Err(DbError::Driver(sqlx::Error::Database(error))) if error.is_unique_violation() => {
            Ok(Closing::Used)
        }
        closed => closed,
    }
}

async fn try_close(
    db: &Db,
    id: &PaymentId,
    transfer: &RefundTransfer,
    actor: &str,
    at: Timestamp,
) -> Result<Closing, DbError> {
    let (hash, now) = (transfer.hash(), at.millis());
    let details =
        json!({"step": "made", "network": transfer.network, "transaction": transfer.transaction});
    let entry = entry(id, actor, None, details);
    let note = format!("refunded in transaction {}", transfer.transaction);
    Ok(in_tx!(db, |tx| {
        let voided: Option<bool> = sqlx::query_scalar(LOCK_PAYMENT)
            .bind(id.as_str())
            .bind(now)
            .fetch_optional(&mut *tx)
            .await?;
        let Some(is_void) = voided else {
            return Ok(Closing::NotDue);
        };
        let keeps_goods: Option<i64> = sqlx::query_scalar(CLOSE)
            .bind(id.as_str())
            .bind(&transfer.transaction)
            .bind(signed(transfer.log_index))
            .bind(&hash)
            .bind(now)
            .fetch_optional(&mut *tx)
            .await?;
        let Some(keeps_goods) = keeps_goods else {
            return Ok(Closing::NotDue);
        };
        let mut taken = (Vec::new(), None);
        if keeps_goods == 0 {
            sqlx::query(RESOLVE)
                .bind(id.as_str())
                .bind(&note)
                .bind(now)
                .execute(&mut *tx)
                .await?;
            // What a voided payment bought was taken back when it was voided.
            if !is_void {
                taken = match take_goods_back!(tx, goods::UNRENEWED, id, now) {
                    Ok(taken) => taken,
                    // Dropping the transaction rolls it back.
                    Err(left) => return Ok(Closing::Busy(image_id(&left)?)),
                };
            }
        }
        append_entry!(tx, &entry, at);
        let (withdrawn, renewal_undone) = taken;
        let images: Result<_, DbError> = withdrawn.iter().map(|id| image_id(id)).collect();
        Closing::Done {
            images: images?,
            renewal_undone,
        }
    }))
}

const LOCK_PAYMENT: &str = "UPDATE payments SET changed_ms = $2 WHERE id = $1 AND state = 'settled' \
    AND missing_reason IS NULL RETURNING voided_ms IS NOT NULL";
const CLOSE: &str = "UPDATE refunds SET transaction_hash = $2, log_index = $3, transfer_hash = $4, refunded_ms = $5 \
    WHERE payment_id = $1 AND refunded_ms IS NULL RETURNING keeps_goods";
const RESOLVE: &str = "UPDATE payments SET resolution = $2, resolved_ms = $3 WHERE id = $1";

/// A refund in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The ledger id of its payment.
    pub payment_id: String,
    /// CAIP-2 id of the network.
    pub network: String,
    /// The payer, to whom the refund goes.
    pub payer: String,
    /// The amount in atomic units.
    pub amount: String,
    /// The reason.
    pub reason: Option<String>,
    /// When it was decided, in milliseconds since the Unix epoch.
    pub due_ms: i64,
    /// When the chain had shown its transfer.
    pub refunded_ms: Option<i64>,
    /// Its transaction.
    pub transaction_hash: Option<String>,
    /// The index of the log of its transfer.
    pub log_index: Option<i64>,
}
from_row!(Listed:
    payment_id, network, payer, amount, reason, due_ms, refunded_ms, transaction_hash, log_index
);

/// Lists refunds whose payments are on record, after `last_id` in the order of their ledger ids: a
/// page of at most 500.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn page(db: &Db, last_id: &str) -> Result<Vec<Listed>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(PAGE)
        .bind(last_id)
        .fetch_all(pool)
        .await)?)
}

const PAGE: &str = "SELECT r.payment_id, r.network, p.payer, r.amount, r.reason, r.due_ms, r.refunded_ms, \
    r.transaction_hash, r.log_index FROM refunds r JOIN payments p ON p.id = r.payment_id \
    WHERE r.payment_id > $1 ORDER BY r.payment_id LIMIT 500";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("refunds::FIND", FIND),
    ("refunds::REQUEST", REQUEST),
    ("refunds::CANCEL", CANCEL),
    ("refunds::IS_USED", IS_USED),
    ("refunds::LOCK_PAYMENT", LOCK_PAYMENT),
    ("refunds::CLOSE", CLOSE),
    ("refunds::RESOLVE", RESOLVE),
    ("refunds::PAGE", PAGE),
];
