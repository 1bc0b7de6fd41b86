//! The ledger's rows of payments. Every change of state is one conditional update on (id, state,
//! attempt).

use std::time::Duration;

use alloy_primitives::B256;
use sqlx::Encode;
use sqlx::query::{Query, QueryAs};

use super::renewals::{HOLD_TARGET, LET_TARGET_GO, LOCK_TARGET, begins_to_hold, ends_to_hold};
pub use super::rows::Unreadable;
use super::rows::{PaymentRow, fetch_payments, keep_millis, payment_columns, signed};
use super::{Db, DbError, in_tx, read_db, write_db};
use crate::model::ids::ImageId;
use crate::model::payment::{Grant, Move, Payment, PaymentId};
use crate::pricing::tiers::LONGEST_KEEP;
use crate::system::clock::Timestamp;

/// Columns that a change of state sets beside the state. Fields that are `None` keep their value.
#[derive(Debug, Clone, Default)]
pub struct Patch {
    /// Why the payment was rejected, released or failed.
    pub reason: Option<String>,
    /// When the lease of the process that drives the row ends.
    pub lease_until: Option<Timestamp>,
    /// When the reconciler looks at the row next.
    pub next_look: Option<Timestamp>,
    /// The transaction hash that a facilitator named.
    pub transaction: Option<String>,
    /// SHA-256 of the uploaded bytes that the payment is bound to from now on.
    pub body_sha256: Option<String>,
    /// When settle was first called.
    pub settle_called: Option<Timestamp>,
    /// The pending image that is given up with this change.
    pub discard_image: Option<ImageId>,
}

/// Writes a new row in state `received`. `false`: the ledger already has a payment with this
/// identity.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn insert(db: &Db, payment: &Payment, facilitator: &str) -> Result<bool, DbError> {
    let result = write_db!(db, |pool| {
        bind_insert(sqlx::query(INSERT), payment, facilitator)
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(result == 1)
}

pub(super) fn bind_insert<'q, DB>(
    query: Query<'q, DB, DB::Arguments>,
    payment: &'q Payment,
    facilitator: &'q str,
) -> Query<'q, DB, DB::Arguments>
where
    DB: sqlx::Database,
    &'q str: Encode<'q, DB> + sqlx::Type<DB>,
    String: Encode<'q, DB> + sqlx::Type<DB>,
    i64: Encode<'q, DB> + sqlx::Type<DB>,
    Option<i64>: Encode<'q, DB> + sqlx::Type<DB>,
    Option<&'q str>: Encode<'q, DB> + sqlx::Type<DB>,
{
    let authorization = &payment.authorization;
    let offer = &payment.terms.offer;
    query
        .bind(payment.id.as_str())
        .bind(offer.network.caip2)
        .bind(offer.network.usdc.to_string())
        .bind(authorization.from.to_string())
        .bind(authorization.nonce.to_string())
        .bind(payment.digest.to_string())
        .bind(payment.signature.to_string())
        .bind(authorization.valid_after.to_string())
        .bind(authorization.valid_before.to_string())
        .bind(payment.attempt)
        .bind(payment.lease_until.millis())
        .bind(payment.product.kind.as_str())
        .bind(payment.product.tier.as_str())
        .bind(i64::from(payment.product.uses))
        .bind(offer.amount.to_string())
        .bind(offer.pay_to.to_string())
        .bind(signed(offer.max_timeout_seconds))
        .bind(keep_millis(payment.terms.keep))
        .bind(signed(payment.terms.max_bytes))
        .bind(i64::from(payment.terms.confirmations))
        .bind(facilitator)
        .bind(i64::from(payment.version.number()))
        .bind(payment.request.as_str())
        .bind(payment.first_seen.millis())
        .bind(signed(payment.first_block))
        .bind(payment.next_look.map(Timestamp::millis))
        .bind(payment.product.target.as_ref().map(ImageId::as_str))
        .bind(payment.product.days.map(i64::from))
        .bind(payment.client.as_str())
}

pub(super) const INSERT: &str = "INSERT INTO payments (id, network, asset, payer, nonce, digest, signature, \
    valid_after, valid_before, state, attempt, lease_until_ms, kind, tier, uses, amount, pay_to, \
    max_timeout_seconds, keep_ms, max_bytes, confirmations, facilitator, x402_version, request, \
    first_seen_ms, first_block, changed_ms, next_look_ms, looks, target, days, client) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'received', $10, $11, $12, $13, $14, $15, $16, $17, \
    $18, $19, $20, $21, $22, $23, $24, $25, $24, $26, 0, $27, $28, $29) ON CONFLICT DO NOTHING";

/// Restarts a row under the next attempt, with the data of the current request. `false`: another
/// process drives the row, or it changed.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn restart(
    db: &Db,
    step: Move,
    previous_attempt: i64,
    payment: &Payment,
    facilitator: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    let authorization = &payment.authorization;
    let offer = &payment.terms.offer;
    let changed = write_db!(db, |pool| {
        sqlx::query(RESTART)
            .bind(payment.id.as_str())
            .bind(step.from().as_str())
            .bind(previous_attempt)
            .bind(now.millis())
            .bind(payment.digest.to_string())
            .bind(payment.signature.to_string())
            .bind(authorization.valid_after.to_string())
            .bind(authorization.valid_before.to_string())
            .bind(payment.lease_until.millis())
            .bind(payment.product.kind.as_str())
            .bind(payment.product.tier.as_str())
            .bind(i64::from(payment.product.uses))
            .bind(offer.amount.to_string())
            .bind(offer.pay_to.to_string())
            .bind(signed(offer.max_timeout_seconds))
            .bind(keep_millis(payment.terms.keep))
            .bind(signed(payment.terms.max_bytes))
            .bind(i64::from(payment.terms.confirmations))
            .bind(facilitator)
            .bind(i64::from(payment.version.number()))
            .bind(payment.request.as_str())
            .bind(payment.next_look.map(Timestamp::millis))
            .bind(step.to().as_str())
            .bind(payment.product.target.as_ref().map(ImageId::as_str))
            .bind(payment.product.days.map(i64::from))
            .bind(payment.client.as_str())
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(changed == 1)
}

// The proofs and idempotency keys of an earlier attempt stay: the payer bound them to this
// identity. Its image is cleared: this attempt may buy a token, and would publish an image that was
// never stored.
const RESTART: &str = "UPDATE payments SET state = $23, attempt = attempt + 1, digest = $5, \
    signature = $6, valid_after = $7, valid_before = $8, lease_until_ms = $9, kind = $10, tier = $11, \
    uses = $12, amount = $13, pay_to = $14, max_timeout_seconds = $15, keep_ms = $16, \
    max_bytes = $17, confirmations = $18, facilitator = $19, x402_version = $20, request = $21, \
    next_look_ms = $22, target = $24, days = $25, client = $26, reason = NULL, body_sha256 = NULL, image_id = NULL, changed_ms = $4 \
    WHERE id = $1 AND state = $2 AND attempt = $3 AND lease_until_ms <= $4";

/// Finds the payment with this ledger id.
///
/// # Errors
/// [`DbError`].
pub async fn find(db: &Db, id: &PaymentId) -> Result<Option<Payment>, DbError> {
    let row: Option<PaymentRow> = read_db!(db, |pool| {
        sqlx::query_as(FIND)
            .bind(id.as_str())
            .fetch_optional(pool)
            .await
    })?;
    row.map(Payment::try_from).transpose()
}

const FIND: &str = concat!(
    "SELECT ",
    payment_columns!(),
    " FROM payments WHERE id = $1"
);

/// Finds the payments with this payer and nonce, on all networks.
///
/// # Errors
/// [`DbError`].
pub async fn find_by_payer_and_nonce(
    db: &Db,
    payer: &str,
    nonce: &str,
) -> Result<Vec<Payment>, DbError> {
    let rows: Vec<PaymentRow> = read_db!(db, |pool| {
        sqlx::query_as(FIND_BY_PAYER_AND_NONCE)
            .bind(payer)
            .bind(nonce)
            .fetch_all(pool)
            .await
    })?;
    rows.into_iter().map(Payment::try_from).collect()
}

const FIND_BY_PAYER_AND_NONCE: &str = concat!(
    "SELECT ",
    payment_columns!(),
    " FROM payments WHERE payer = $1 AND nonce = $2"
);

/// Takes the lease of a row that no process drives, under the next attempt. `None`: another process
/// drives it, or its state changed.
///
/// # Errors
/// [`DbError`].
pub async fn claim(
    db: &Db,
    payment: &Payment,
    now: Timestamp,
    lease: Duration,
) -> Result<Option<Payment>, DbError> {
    let row: Option<PaymentRow> = write_db!(db, |pool| {
        sqlx::query_as(CLAIM)
            .bind(payment.id.as_str())
            .bind(payment.state.as_str())
            .bind(payment.attempt)
            .bind(now.millis())
            .bind(now.plus(lease).millis())
            .fetch_optional(pool)
            .await
    })?;
    row.map(Payment::try_from).transpose()
}

const CLAIM: &str = concat!(
    "UPDATE payments SET attempt = attempt + 1, lease_until_ms = $5 WHERE id = $1 AND state = $2 \
     AND attempt = $3 AND lease_until_ms <= $4 RETURNING ",
    payment_columns!()
);

/// Extends a lease. `false`: another process has taken it.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn renew(
    db: &Db,
    id: &PaymentId,
    attempt: i64,
    until: Timestamp,
) -> Result<bool, DbError> {
    let changed = write_db!(db, |pool| {
        sqlx::query(RENEW)
            .bind(id.as_str())
            .bind(attempt)
            .bind(until.millis())
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(changed == 1)
}

// A lease that was handed back is not extended. Otherwise an extension that was under way would
// leave the row leased to nobody.
const RENEW: &str = "UPDATE payments SET lease_until_ms = $3 \
    WHERE id = $1 AND attempt = $2 AND lease_until_ms > 0";

/// Hands a lease back and sets when the reconciler looks next. `false`: another process has taken
/// the lease, and nothing changes.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn hand_back(
    db: &Db,
    payment: &Payment,
    next_look: Option<Timestamp>,
    looks: u32,
) -> Result<bool, DbError> {
    let changed = write_db!(db, |pool| {
        sqlx::query(HAND_BACK)
            .bind(payment.id.as_str())
            .bind(payment.attempt)
            .bind(payment.state.as_str())
            .bind(next_look.map(Timestamp::millis))
            .bind(i64::from(looks))
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(changed == 1)
}

const HAND_BACK: &str = "UPDATE payments SET lease_until_ms = 0, next_look_ms = $4, looks = $5 \
    WHERE id = $1 AND attempt = $2 AND state = $3";

/// Records the transaction that a facilitator named for a payment whose outcome is unknown. It says
/// where to look, and decides nothing.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn note_transaction(db: &Db, id: &PaymentId, transaction: B256) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(NOTE_TRANSACTION)
        .bind(id.as_str())
        .bind(transaction.to_string())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const NOTE_TRANSACTION: &str = "UPDATE payments SET transaction_hash = $2 \
    WHERE id = $1 AND state IN ('settling', 'unknown')";

/// Ends every lease. Call it only for a database that no other process uses: the processes that
/// held the leases are gone.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn end_all_leases(db: &Db) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(END_ALL_LEASES)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

pub(super) const END_ALL_LEASES: &str =
    "UPDATE payments SET lease_until_ms = 0 WHERE lease_until_ms > 0";

/// Changes the state of a row under its driver's attempt, and returns the row. `None`: another
/// process took the row, its state changed, or the image to renew can't be held for it.
///
/// # Errors
/// [`DbError`].
pub async fn advance(
    db: &Db,
    step: Move,
    payment: &Payment,
    patch: &Patch,
    now: Timestamp,
) -> Result<Option<Payment>, DbError> {
    let target = payment.product.target.as_ref().map(ImageId::as_str);
    if target.is_none() && patch.discard_image.is_none() {
        let row: Option<PaymentRow> = write_db!(db, |on| {
            bind_advance(sqlx::query_as(ADVANCE), step, payment, patch, now)
                .fetch_optional(on)
                .await
        })?;
        return row.map(Payment::try_from).transpose();
    }
    let row: Option<PaymentRow> = in_tx!(db, |tx| {
        let advance = bind_advance(sqlx::query_as(ADVANCE), step, payment, patch, now);
        let row: Option<PaymentRow> = advance.fetch_optional(&mut *tx).await?;
        if row.is_none() {
            return Ok(None);
        }
        // Lock order: payment, then image.
        if let Some(target) = target {
            sqlx::query(LOCK_TARGET)
                .bind(target)
                .execute(&mut *tx)
                .await?;
            if ends_to_hold(step) {
                sqlx::query(LET_TARGET_GO)
                    .bind(target)
                    .execute(&mut *tx)
                    .await?;
            }
            if begins_to_hold(step) {
                let held = sqlx::query(HOLD_TARGET)
                    .bind(target)
                    .bind(now.millis())
                    .bind(keep_millis(payment.terms.keep))
                    .bind(now.plus(LONGEST_KEEP).millis())
                    .bind(payment.id.as_str())
                    .execute(&mut *tx)
                    .await?
                    .rows_affected();
                if held == 0 {
                    // Dropping the transaction rolls it back: the payment's state doesn't change
                    // either.
                    return Ok(None);
                }
            }
        }
        if let Some(image) = &patch.discard_image {
            sqlx::query(DISCARD_IMAGE)
                .bind(image.as_str())
                .execute(&mut *tx)
                .await?;
        }
        row
    });
    row.map(Payment::try_from).transpose()
}

fn bind_advance<'q, DB, O>(
    query: QueryAs<'q, DB, O, DB::Arguments>,
    step: Move,
    payment: &'q Payment,
    patch: &'q Patch,
    now: Timestamp,
) -> QueryAs<'q, DB, O, DB::Arguments>
where
    DB: sqlx::Database,
    &'q str: Encode<'q, DB> + sqlx::Type<DB>,
    i64: Encode<'q, DB> + sqlx::Type<DB>,
    Option<i64>: Encode<'q, DB> + sqlx::Type<DB>,
    Option<&'q str>: Encode<'q, DB> + sqlx::Type<DB>,
{
    query
        .bind(payment.id.as_str())
        .bind(step.from().as_str())
        .bind(payment.attempt)
        .bind(step.to().as_str())
        .bind(now.millis())
        .bind(patch.reason.as_deref())
        .bind(patch.lease_until.map(Timestamp::millis))
        .bind(patch.next_look.map(Timestamp::millis))
        .bind(patch.transaction.as_deref())
        .bind(patch.body_sha256.as_deref())
        .bind(patch.settle_called.map(Timestamp::millis))
}

const ADVANCE: &str = concat!(
    "UPDATE payments SET state = $4, changed_ms = $5, reason = COALESCE($6, reason), \
    lease_until_ms = COALESCE($7, lease_until_ms), next_look_ms = COALESCE($8, next_look_ms), \
    transaction_hash = COALESCE($9, transaction_hash), body_sha256 = COALESCE($10, body_sha256), \
    settle_called_ms = COALESCE(settle_called_ms, $11) \
    WHERE id = $1 AND state = $2 AND attempt = $3 RETURNING ",
    payment_columns!()
);

pub(super) const DISCARD_IMAGE: &str = "UPDATE images SET state = 'discarded', reserved_until_ms = NULL WHERE id = $1 AND state = 'pending'";

/// Sets the pending image that the payment will publish, and the hash that the payment is bound to,
/// if it has one already. `false`: the lease was lost.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn attach_image(db: &Db, payment: &Payment, image: &ImageId) -> Result<bool, DbError> {
    let changed = write_db!(db, |pool| {
        sqlx::query(ATTACH_IMAGE)
            .bind(payment.id.as_str())
            .bind(payment.state.as_str())
            .bind(payment.attempt)
            .bind(image.as_str())
            .bind(payment.body_sha256.as_deref())
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(changed == 1)
}

const ATTACH_IMAGE: &str = "UPDATE payments SET image_id = $4, body_sha256 = COALESCE($5, body_sha256) \
    WHERE id = $1 AND state = $2 AND attempt = $3";

/// Finds rows that the reconciler has to look at, longest wait first. Settled rows are left
/// to the auditor. A row that can't be read is returned as [`Unreadable`].
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_due(
    db: &Db,
    now: Timestamp,
    most: u32,
) -> Result<Vec<Result<Payment, Unreadable>>, DbError> {
    Ok(fetch_payments!(db, |pool| sqlx::query(FIND_DUE)
        .bind(now.millis())
        .bind(i64::from(most))))
}

const FIND_DUE: &str = concat!(
    "SELECT ",
    payment_columns!(),
    " FROM payments WHERE next_look_ms <= $1 AND lease_until_ms <= $1 \
     AND state <> 'settled' ORDER BY next_look_ms LIMIT $2"
);

/// Counts the payers with a payment that has been in state `unknown` since `since` or earlier, up to
/// `most`. Payments that the facilitator refused don't count, whatever its reason.
///
/// # Errors
/// [`DbError`].
pub async fn count_unknown(db: &Db, since: Timestamp, most: u32) -> Result<i64, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_scalar(COUNT_UNKNOWN)
        .bind(since.millis())
        .bind(i64::from(most))
        .fetch_one(pool)
        .await)?)
}

const COUNT_UNKNOWN: &str = "SELECT COUNT(*) FROM (SELECT DISTINCT payer FROM payments \
    WHERE next_look_ms IS NOT NULL AND state <> 'settled' AND state = 'unknown' \
    AND reason IS NULL AND settle_called_ms <= $1 LIMIT $2) AS late";

/// Notes that the facilitator refused a payment whose outcome is unknown. The first reason stays.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn note_refusal(db: &Db, id: &PaymentId, reason: &str) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(NOTE_REFUSAL)
        .bind(id.as_str())
        .bind(reason)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const NOTE_REFUSAL: &str =
    "UPDATE payments SET reason = $2 WHERE id = $1 AND state = 'unknown' AND reason IS NULL";

/// Lists the networks (CAIP-2 ids) with payments that are not in a final state.
///
/// # Errors
/// [`DbError`].
pub async fn open_networks(db: &Db) -> Result<Vec<String>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_scalar(OPEN_NETWORKS)
        .fetch_all(pool)
        .await)?)
}

// Two halves, one for each index. The bound makes SQLite use the index.
const OPEN_NETWORKS: &str = "SELECT DISTINCT network FROM (SELECT network FROM payments \
    WHERE next_look_ms >= 0 AND state <> 'settled' UNION ALL SELECT network FROM payments \
    WHERE next_look_ms >= 0 AND state = 'settled') AS open ORDER BY 1";

/// Postpones a row that can't be read, so that many of them don't delay others. Changes nothing
/// else in the row.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn put_off(db: &Db, id: &str, next_look: Timestamp) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(PUT_OFF)
        .bind(id)
        .bind(next_look.millis())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const PUT_OFF: &str = "UPDATE payments SET next_look_ms = $2 WHERE id = $1 AND next_look_ms < $2";

/// Finds payments by ledger id, transaction hash, image id or payer address, for an operator.
///
/// # Errors
/// [`DbError`].
pub async fn search(db: &Db, text: &str) -> Result<Vec<Payment>, DbError> {
    let rows: Vec<PaymentRow> = read_db!(db, |pool| sqlx::query_as(SEARCH)
        .bind(text)
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Payment::try_from).collect()
}

const SEARCH: &str = concat!(
    "SELECT ",
    payment_columns!(),
    " FROM payments WHERE id = $1 OR transaction_hash = $1 OR image_id = $1 OR payer = $1 \
     OR target = $1 \
     OR id IN (SELECT payment_id FROM images WHERE id = $1 AND payment_id IS NOT NULL) \
     ORDER BY first_seen_ms LIMIT 100"
);

/// Clears the note that goods are owed: the payer receives them now. `false`: the operator resolved
/// it otherwise, and the payer receives nothing.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn clear_owed(db: &Db, grant: &Grant) -> Result<bool, DbError> {
    let id = grant.payment_id.as_str();
    let (owed, resolved) = find_owed(db, id).await?;
    if resolved || !owed {
        return Ok(!resolved);
    }
    // Either this update or the operator's note comes first; the other one changes nothing.
    write_db!(db, |on| sqlx::query(CLEAR_OWED)
        .bind(id)
        .execute(on)
        .await
        .map(|_| ()))?;
    let (_, resolved) = find_owed(db, id).await?;
    Ok(!resolved)
}

/// Whether goods of a payment are owed, and whether the operator resolved that.
async fn find_owed(db: &Db, id: &str) -> Result<(bool, bool), DbError> {
    let found: Option<(bool, bool)> = read_db!(db, |pool| sqlx::query_as(FIND_OWED)
        .bind(id)
        .fetch_optional(pool)
        .await)?;
    Ok(found.unwrap_or_default())
}

const CLEAR_OWED: &str = "UPDATE payments SET owed = NULL WHERE id = $1 AND owed IS NOT NULL \
    AND resolved_ms IS NULL";
const FIND_OWED: &str =
    "SELECT owed IS NOT NULL, resolved_ms IS NOT NULL FROM payments WHERE id = $1";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("payments::INSERT", INSERT),
    ("payments::RESTART", RESTART),
    ("payments::FIND", FIND),
    ("payments::FIND_BY_PAYER_AND_NONCE", FIND_BY_PAYER_AND_NONCE),
    ("payments::CLAIM", CLAIM),
    ("payments::RENEW", RENEW),
    ("payments::HAND_BACK", HAND_BACK),
    ("payments::NOTE_TRANSACTION", NOTE_TRANSACTION),
    ("payments::END_ALL_LEASES", END_ALL_LEASES),
    ("payments::ADVANCE", ADVANCE),
    ("payments::DISCARD_IMAGE", DISCARD_IMAGE),
    ("payments::ATTACH_IMAGE", ATTACH_IMAGE),
    ("payments::FIND_DUE", FIND_DUE),
    ("payments::COUNT_UNKNOWN", COUNT_UNKNOWN),
    ("payments::NOTE_REFUSAL", NOTE_REFUSAL),
    ("payments::OPEN_NETWORKS", OPEN_NETWORKS),
    ("payments::SEARCH", SEARCH),
    ("payments::PUT_OFF", PUT_OFF),
    ("payments::CLEAR_OWED", CLEAR_OWED),
    ("payments::FIND_OWED", FIND_OWED),
];
