//! Erasure of payment records after their retention time. A hash of the payment's identity and one
//! of its transfer stay.

use super::rows::signed;
use super::{Db, DbError, from_row, in_tx, read_db};
use crate::model::payment::PaymentId;
use crate::system::clock::Timestamp;

/// A payment whose records can be erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasable {
    /// The payment's ledger id.
    pub id: String,
    /// The state that it must still be in.
    pub state: String,
    /// The transaction that settled it.
    pub transaction_hash: Option<String>,
    /// The payer's address.
    pub payer: String,
    /// The recipient's address.
    pub pay_to: String,
    /// The amount in atomic units.
    pub amount: String,
}
from_row!(Erasable: id, state, transaction_hash, payer, pay_to, amount);

/// Finds payments that can be erased: payments that bought nothing and ended before `before`, those
/// that were voided before then, and payments whose images, bought or renewed, were all gone by
/// then. A refunded payment counts from its refund. A payment with uploads left, with goods or a
/// refund owed, or with a token that has not expired, stays.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_erasable(
    db: &Db,
    before: Timestamp,
    most: u32,
) -> Result<Vec<Erasable>, DbError> {
    let mut found: Vec<Erasable> = Vec::new();
    for sql in [
        FIND_ERASABLE_UNPAID,
        FIND_ERASABLE_VOIDED,
        FIND_ERASABLE_REFUNDED,
        FIND_ERASABLE_RENEWALS,
        FIND_ERASABLE_PAID,
    ] {
        let rows: Vec<Erasable> = read_db!(db, |pool| sqlx::query_as(sql)
            .bind(before.millis())
            .bind(i64::from(most))
            .fetch_all(pool)
            .await)?;
        found.extend(rows);
    }
    Ok(found)
}

const FIND_ERASABLE_UNPAID: &str = "SELECT p.id, p.state, p.transaction_hash, p.payer, p.pay_to, p.amount \
    FROM payments p WHERE p.state IN ('rejected', 'released', 'failed') AND p.next_look_ms IS NULL \
    AND p.changed_ms <= $1 AND NOT EXISTS (SELECT 1 FROM images i WHERE i.payment_id = p.id \
    AND (i.deleted_ms IS NULL OR i.deleted_ms > $1)) ORDER BY p.changed_ms LIMIT $2";

// The hash of a transfer is kept only if the chain shows it.
const FIND_ERASABLE_VOIDED: &str = "SELECT p.id, p.state, CASE WHEN p.missing_reason IS NULL \
    THEN p.transaction_hash END AS transaction_hash, p.payer, p.pay_to, p.amount FROM payments p \
    JOIN grants g ON g.payment_id = p.id WHERE p.voided_ms IS NOT NULL AND p.voided_ms <= $1 \
    AND g.token_expires_ms <= $1 AND p.next_look_ms IS NULL \
    AND (p.missing_reason IS NOT NULL OR p.resolved_ms IS NOT NULL) AND NOT EXISTS (SELECT 1 FROM images i \
    WHERE i.payment_id = p.id AND (i.deleted_ms IS NULL OR i.deleted_ms > $1)) AND NOT EXISTS (SELECT 1 \
    FROM refunds r WHERE r.payment_id = p.id AND r.refunded_ms IS NULL) ORDER BY p.voided_ms LIMIT $2";

// What the payment bought was taken back. Voided ones are found above.
const FIND_ERASABLE_REFUNDED: &str = "SELECT p.id, p.state, p.transaction_hash, p.payer, p.pay_to, p.amount \
    FROM refunds r JOIN payments p ON p.id = r.payment_id JOIN grants g ON g.payment_id = p.id \
    WHERE r.refunded_ms <= $1 AND r.keeps_goods = 0 AND p.voided_ms IS NULL AND p.next_look_ms IS NULL \
    AND g.token_expires_ms <= $1 AND NOT EXISTS (SELECT 1 FROM images i WHERE i.payment_id = p.id \
    AND (i.deleted_ms IS NULL OR i.deleted_ms > $1 OR EXISTS (SELECT 1 FROM renewals n WHERE n.image_id = i.id \
    AND n.payment_id <> p.id))) ORDER BY r.refunded_ms LIMIT $2";

// The image's row is erased after its renewals, which are found by it.
const FIND_ERASABLE_RENEWALS: &str = "SELECT p.id, p.state, p.transaction_hash, p.payer, p.pay_to, p.amount \
    FROM images d JOIN renewals r ON r.image_id = d.id JOIN payments p ON p.id = r.payment_id \
    JOIN grants g ON g.payment_id = p.id WHERE d.state = 'deleted' AND d.deleted_ms <= $1 \
    AND p.state = 'settled' AND p.voided_ms IS NULL AND p.next_look_ms IS NULL AND p.owed IS NULL AND g.used >= g.uses \
    AND g.token_expires_ms <= $1 AND NOT EXISTS (SELECT 1 FROM refunds f WHERE f.payment_id = p.id \
    AND (f.refunded_ms IS NULL OR f.refunded_ms > $1)) LIMIT $2";

const FIND_ERASABLE_PAID: &str = "SELECT DISTINCT p.id, p.state, p.transaction_hash, p.payer, p.pay_to, p.amount \
    FROM images d JOIN payments p ON p.id = d.payment_id JOIN grants g ON g.payment_id = p.id \
    WHERE d.state = 'deleted' AND d.payment_id IS NOT NULL AND d.deleted_ms <= $1 \
    AND p.state = 'settled' AND p.voided_ms IS NULL AND p.next_look_ms IS NULL AND p.owed IS NULL AND g.used >= g.uses \
    AND g.token_expires_ms <= $1 AND NOT EXISTS (SELECT 1 FROM images i WHERE i.payment_id = p.id \
    AND (i.deleted_ms IS NULL OR i.deleted_ms > $1 \
    OR EXISTS (SELECT 1 FROM renewals r WHERE r.image_id = i.id))) AND NOT EXISTS (SELECT 1 FROM refunds f WHERE f.payment_id = p.id \
    AND (f.refunded_ms IS NULL OR f.refunded_ms > $1)) LIMIT $2";

/// Erases a payment and all rows that depend on it. A hash of its identity and one of its transfer
/// stay. `false`: its state changed.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn erase_payment(
    db: &Db,
    payment: &Erasable,
    transfer_hash: Option<&str>,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(in_tx!(db, |tx| {
        // Locks the row, and invalidates the lease of any process that still drives it.
        let locked = sqlx::query(LOCK_PAYMENT)
            .bind(&payment.id)
            .bind(&payment.state)
            .bind(now.millis())
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if locked == 0 {
            return Ok(false);
        }
        sqlx::query(REMEMBER)
            .bind(&payment.id)
            .bind(transfer_hash)
            .bind(now.millis())
            .execute(&mut *tx)
            .await?;
        for sql in [
            ERASE_PROOFS,
            ERASE_IDS,
            ERASE_GRANT,
            ERASE_REPLACED,
            ERASE_RENEWAL,
            ERASE_PAID_IMAGES,
            ERASE_REFUND,
            ERASE_PAYMENT,
        ] {
            sqlx::query(sql).bind(&payment.id).execute(&mut *tx).await?;
        }
        true
    }))
}

const LOCK_PAYMENT: &str = "UPDATE payments SET attempt = attempt + 1 WHERE id = $1 AND state = $2 \
    AND lease_until_ms <= $3 AND next_look_ms IS NULL";
const REMEMBER: &str = "INSERT INTO erased_payments (id, transfer_hash, erased_ms) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING";
const ERASE_PROOFS: &str = "DELETE FROM payment_proofs WHERE payment_id = $1";
const ERASE_IDS: &str = "DELETE FROM payment_ids WHERE payment_id = $1";
const ERASE_GRANT: &str = "DELETE FROM grants WHERE payment_id = $1";
// After the grant, whose row a transaction that replaces its token locks first.
const ERASE_REPLACED: &str = "DELETE FROM replaced_secrets WHERE payment_id = $1";
const ERASE_RENEWAL: &str = "DELETE FROM renewals WHERE payment_id = $1";
const ERASE_PAID_IMAGES: &str = "DELETE FROM images WHERE payment_id = $1";
// The hashes stay, so that its transfer makes no other refund.
const ERASE_REFUND: &str = "UPDATE refunds SET reason = NULL, transaction_hash = NULL, log_index = NULL \
    WHERE payment_id = $1";
const ERASE_PAYMENT: &str = "DELETE FROM payments WHERE id = $1";

/// Whether the records of one of these payments were erased: `Some(true)` if it had paid us, `None`
/// if none is erased.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_erased(db: &Db, ids: &[PaymentId]) -> Result<Option<bool>, DbError> {
    let list: String = ids.iter().map(PaymentId::as_str).collect();
    Ok(read_db!(db, |pool| sqlx::query_scalar(FIND_ERASED)
        .bind(&list)
        .bind(signed(ids.len()))
        .fetch_optional(pool)
        .await)?)
}

// The ids as one parameter: `$1` is their concatenation and `$2` their number. Arrays would need a
// different SQL text for each database.
const FIND_ERASED: &str = "WITH RECURSIVE places(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM places WHERE n + 1 < $2) \
    SELECT transfer_hash IS NOT NULL FROM erased_payments \
    WHERE id IN (SELECT substr($1, n * 64 + 1, 64) FROM places) LIMIT 1";

/// Whether a transfer settled a payment whose records were erased.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn is_erased_transfer(db: &Db, hash: &str) -> Result<bool, DbError> {
    let found: Option<i64> = read_db!(db, |pool| sqlx::query_scalar(FIND_ERASED_TRANSFER)
        .bind(hash)
        .fetch_optional(pool)
        .await)?;
    Ok(found.is_some())
}

const FIND_ERASED_TRANSFER: &str =
    "SELECT erased_ms FROM erased_payments WHERE transfer_hash = $1 LIMIT 1";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("erasure::FIND_ERASABLE_UNPAID", FIND_ERASABLE_UNPAID),
    ("erasure::FIND_ERASABLE_VOIDED", FIND_ERASABLE_VOIDED),
    ("erasure::FIND_ERASABLE_REFUNDED", FIND_ERASABLE_REFUNDED),
    ("erasure::FIND_ERASABLE_RENEWALS", FIND_ERASABLE_RENEWALS),
    ("erasure::FIND_ERASABLE_PAID", FIND_ERASABLE_PAID),
    ("erasure::LOCK_PAYMENT", LOCK_PAYMENT),
    ("erasure::REMEMBER", REMEMBER),
    ("erasure::ERASE_PROOFS", ERASE_PROOFS),
    ("erasure::ERASE_IDS", ERASE_IDS),
    ("erasure::ERASE_GRANT", ERASE_GRANT),
    ("erasure::ERASE_REPLACED", ERASE_REPLACED),
    ("erasure::ERASE_RENEWAL", ERASE_RENEWAL),
    ("erasure::ERASE_PAID_IMAGES", ERASE_PAID_IMAGES),
    ("erasure::ERASE_REFUND", ERASE_REFUND),
    ("erasure::ERASE_PAYMENT", ERASE_PAYMENT),
    ("erasure::FIND_ERASED", FIND_ERASED),
    ("erasure::FIND_ERASED_TRANSFER", FIND_ERASED_TRANSFER),
];
