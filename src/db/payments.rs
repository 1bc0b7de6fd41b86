//! The ledger's rows of payments. Every change of state is one conditional update on (id, state,
//! attempt).

use std::time::Duration;

use alloy_primitives::{B256, U256};
use sqlx::Encode;
use sqlx::query::{Query, QueryAs};

use super::renewals::{
    HOLD_TARGET, LET_TARGET_GO, LOCK_TARGET, NOTE_RENEWAL, NOTHING_OWED, OWE_RENEWAL, RENEW_TARGET,
    begins_to_hold, ends_to_hold,
};
pub use super::rows::Unreadable;
use super::rows::{PaymentRow, fetch_payments, keep_millis, payment_columns, signed};
use super::{Db, DbError, from_row, in_tx, read_db, write_db};
use crate::model::ids::ImageId;
use crate::model::payment::{
    Grant, Move, Payment, PaymentId, PaymentState, Product, ProductKind, Transfer,
};
use crate::pricing::money::AtomicAmount;
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

/// A keyed hash of a value that proves who sent the payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The kind of the value: `ticket`, `id` (idempotency key) or `address`.
    pub kind: &'static str,
    /// The keyed hash, in lower-case hex.
    pub hash: String,
    /// When the proof stops counting; `None`: never.
    pub expires: Option<Timestamp>,
}

/// The outcome of binding a verified payment to its idempotency keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// The row is verified, and its proofs and idempotency keys are bound.
    Bound,
    /// Another process drives the row.
    Lost,
    /// The idempotency key belongs to another payment.
    Taken(IdOwner),
    /// The payer's balance does not cover this payment beside these open ones.
    Overdrawn(Vec<OpenPayment>),
}

/// A payment of a payer that may move money after the payer's balance was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenPayment {
    /// The nonce of its authorization.
    pub nonce: B256,
    /// The amount of the authorization, in atomic units.
    pub amount: AtomicAmount,
    /// Whether it was settled since the balance was read. Otherwise it is still open.
    pub is_settled: bool,
}

/// The payment that owns a pair of payer and idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdOwner {
    /// The ledger id of that payment.
    pub payment_id: PaymentId,
    /// Whether that payment buys the same product for the same bytes.
    pub same_purchase: bool,
}

/// The outcome of recording a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// The row is settled, and its grant exists.
    Done {
        /// Whether the image that the payment bought is public.
        published: bool,
    },
    /// The row changed in between. Read it again.
    Moved,
}

/// The upload token that a settlement grants.
#[derive(Debug, Clone)]
pub struct NewGrant {
    /// SHA-256 of the upload token, in hex.
    pub token_hash: String,
    /// When the upload token expires.
    pub token_expires: Timestamp,
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
}

pub(super) const INSERT: &str = "INSERT INTO payments (id, network, asset, payer, nonce, digest, signature, \
    valid_after, valid_before, state, attempt, lease_until_ms, kind, tier, uses, amount, pay_to, \
    max_timeout_seconds, keep_ms, max_bytes, confirmations, facilitator, x402_version, request, \
    first_seen_ms, first_block, changed_ms, next_look_ms, looks, target) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'received', $10, $11, $12, $13, $14, $15, $16, $17, \
    $18, $19, $20, $21, $22, $23, $24, $25, $24, $26, 0, $27) ON CONFLICT DO NOTHING";

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
    next_look_ms = $22, target = $24, reason = NULL, body_sha256 = NULL, image_id = NULL, changed_ms = $4 \
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

/// What a payment is bound to when verify accepted it.
#[derive(Debug, Clone, Copy)]
pub struct Bond<'a> {
    /// The values that prove who sent the payment.
    pub proofs: &'a [Proof],
    /// The hashes of the idempotency keys, sorted, because they are locked one after the other.
    pub id_hashes: &'a [String],
    /// SHA-256 of the uploaded bytes; `None` without any.
    pub body_sha256: Option<&'a str>,
    /// The payer's balance on the chain, in atomic units.
    pub balance: U256,
    /// A time before the balance was read. Payments that were settled since may not be part of it
    /// yet.
    pub read_at: Timestamp,
    /// Nonces of payments that had moved their money when the balance was read.
    pub executed: &'a [B256],
}

/// Binds a payment that verify accepted: state, proofs and idempotency keys, in one transaction.
///
/// An idempotency key of a rejected or failed payment is taken over: nothing was bought with it.
///
/// The payer's balance must cover this payment and all others of the payer on the same network and
/// token that may move money after it was read: those that are `verified`, `settling` or `unknown`, and
/// those that were settled since. The payments of one payer are bound one after the other, on all
/// replicas.
///
/// # Errors
/// [`DbError`].
#[expect(
    clippy::too_many_lines,
    reason = "one transaction, read from its beginning to its end"
)]
pub async fn bind_verified(
    db: &Db,
    step: Move,
    payment: &Payment,
    bond: &Bond<'_>,
    now: Timestamp,
) -> Result<Binding, DbError> {
    let Bond {
        proofs,
        id_hashes,
        body_sha256,
        balance,
        read_at,
        executed,
    } = *bond;
    let payer = payment.authorization.from.to_string();
    let id = payment.id.as_str();
    let product = &payment.product;
    let offer = &payment.terms.offer;
    let asset = offer.network.usdc.to_string();
    Ok(in_tx!(db, |tx| {
        // SQLite has one writer, so its transactions follow each other anyway.
        if let Db::Postgres(_) = db {
            sqlx::query(LOCK_PAYER_POSTGRES)
                .bind(&payer)
                .execute(&mut *tx)
                .await?;
        }
        for hash in id_hashes {
            sqlx::query(LOCK_ID)
                .bind(&payer)
                .bind(hash)
                .execute(&mut *tx)
                .await?;
            sqlx::query(TAKE_ID)
                .bind(&payer)
                .bind(hash)
                .bind(id)
                .bind(product.kind.as_str())
                .bind(&product.tier)
                .bind(i64::from(product.uses))
                .bind(body_sha256)
                .bind(product.target.as_ref().map(ImageId::as_str))
                .execute(&mut *tx)
                .await?;
            let owner: IdRow = sqlx::query_as(FIND_ID)
                .bind(&payer)
                .bind(hash)
                .fetch_one(&mut *tx)
                .await?;
            if owner.payment_id != id {
                // Dropping the transaction rolls it back: the other idempotency key stays free as
                // well.
                return Ok(Binding::Taken(owner.owner(product, body_sha256)?));
            }
        }
        let open: Vec<OpenRow> = sqlx::query_as(FIND_OPEN)
            .bind(&payer)
            .bind(offer.network.caip2)
            .bind(&asset)
            .bind(id)
            .bind(read_at.millis())
            .fetch_all(&mut *tx)
            .await?;
        let mut open = open
            .iter()
            .map(OpenRow::read)
            .collect::<Result<Vec<_>, _>>()?;
        open.retain(|open| !executed.contains(&open.nonce));
        let needed = open.iter().fold(offer.amount.as_u256(), |sum, open| {
            sum.saturating_add(open.amount.as_u256())
        });
        if balance < needed {
            return Ok(Binding::Overdrawn(open));
        }
        let changed = sqlx::query(MOVE_VERIFIED)
            .bind(id)
            .bind(step.from().as_str())
            .bind(payment.attempt)
            .bind(step.to().as_str())
            .bind(now.millis())
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if changed == 1 {
            for proof in proofs {
                sqlx::query(ADD_PROOF)
                    .bind(id)
                    .bind(proof.kind)
                    .bind(&proof.hash)
                    .bind(proof.expires.map(Timestamp::millis))
                    .execute(&mut *tx)
                    .await?;
            }
            Binding::Bound
        } else {
            // Dropping the transaction rolls it back: a process that lost the row binds no
            // idempotency key.
            return Ok(Binding::Lost);
        }
    }))
}

struct OpenRow {
    id: String,
    nonce: String,
    amount: String,
    state: String,
}
from_row!(OpenRow: id, nonce, amount, state);

impl OpenRow {
    fn read(&self) -> Result<OpenPayment, DbError> {
        let corrupt = |column| DbError::Corrupt {
            table: "payments",
            column,
            row: self.id.clone(),
        };
        Ok(OpenPayment {
            nonce: self.nonce.parse().map_err(|_| corrupt("nonce"))?,
            amount: AtomicAmount::from_atomic(&self.amount).map_err(|_| corrupt("amount"))?,
            is_settled: self.state == PaymentState::Settled.as_str(),
        })
    }
}

// Two payments of one payer that are bound at once must see each other. PostgreSQL has no row that
// both would lock.
const LOCK_PAYER_POSTGRES: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";

const FIND_OPEN: &str = "SELECT id, nonce, amount, state FROM payments WHERE payer = $1 \
    AND settled_ms IS NULL AND state IN ('verified', 'settling', 'unknown') \
    AND network = $2 AND asset = $3 AND id <> $4 \
    UNION ALL SELECT id, nonce, amount, state FROM payments WHERE payer = $1 \
    AND settled_ms >= $5 AND state = 'settled' AND network = $2 AND asset = $3 AND id <> $4";

// A PostgreSQL statement that waits for a lock still reads the owner's state as it was when the
// statement began. So a statement of its own waits for the lock first.
const LOCK_ID: &str = "UPDATE payment_ids SET kind = kind WHERE payer = $1 AND id_hash = $2";

const TAKE_ID: &str = "INSERT INTO payment_ids (payer, id_hash, payment_id, kind, tier, uses, \
    body_sha256, target) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (payer, id_hash) DO UPDATE \
    SET payment_id = excluded.payment_id, kind = excluded.kind, tier = excluded.tier, \
    uses = excluded.uses, body_sha256 = excluded.body_sha256, target = excluded.target \
    WHERE payment_ids.payment_id = excluded.payment_id OR EXISTS (SELECT 1 FROM payments p \
    WHERE p.id = payment_ids.payment_id AND p.state IN ('rejected', 'released', 'failed'))";

const MOVE_VERIFIED: &str = "UPDATE payments SET state = $4, changed_ms = $5 \
    WHERE id = $1 AND state = $2 AND attempt = $3";

const ADD_PROOF: &str = "INSERT INTO payment_proofs (payment_id, kind, hash, expires_ms) \
    VALUES ($1, $2, $3, $4) ON CONFLICT (payment_id, kind, hash) DO UPDATE \
    SET expires_ms = excluded.expires_ms";

/// Finds the payment that owns this payer's idempotency key, if that payment buys or has bought
/// something.
///
/// # Errors
/// [`DbError`].
pub async fn find_id_owner(
    db: &Db,
    payer: &str,
    id_hash: &str,
    product: &Product,
    body_sha256: Option<&str>,
) -> Result<Option<IdOwner>, DbError> {
    let row: Option<IdRow> = read_db!(db, |pool| {
        sqlx::query_as(FIND_ID)
            .bind(payer)
            .bind(id_hash)
            .fetch_optional(pool)
            .await
    })?;
    let Some(row) = row else { return Ok(None) };
    let owner = row.owner(product, body_sha256)?;
    let state = find(db, &owner.payment_id)
        .await?
        .map(|payment| payment.state);
    let bought_nothing = matches!(
        state,
        None | Some(PaymentState::Rejected | PaymentState::Released | PaymentState::Failed)
    );
    Ok((!bought_nothing).then_some(owner))
}

const FIND_ID: &str = "SELECT payment_id, kind, tier, uses, target, body_sha256 FROM payment_ids \
    WHERE payer = $1 AND id_hash = $2";

struct IdRow {
    payment_id: String,
    kind: String,
    tier: String,
    uses: i64,
    target: Option<String>,
    body_sha256: Option<String>,
}
from_row!(IdRow: payment_id, kind, tier, uses, target, body_sha256);

impl IdRow {
    fn owner(&self, product: &Product, body_sha256: Option<&str>) -> Result<IdOwner, DbError> {
        let corrupt = || DbError::Corrupt {
            table: "payment_ids",
            column: "payment_id",
            row: self.payment_id.clone(),
        };
        Ok(IdOwner {
            payment_id: PaymentId::parse(&self.payment_id).ok_or_else(corrupt)?,
            same_purchase: self.kind == product.kind.as_str()
                && self.tier == product.tier
                && self.uses == i64::from(product.uses)
                && self.target.as_deref() == product.target.as_ref().map(ImageId::as_str)
                && self.body_sha256.as_deref() == body_sha256,
        })
    }
}

/// Loads the proofs that a payment is bound to and that still count at `now`.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn load_proofs(
    db: &Db,
    id: &PaymentId,
    now: Timestamp,
) -> Result<Vec<(String, String)>, DbError> {
    Ok(read_db!(db, |pool| {
        sqlx::query_as(LOAD_PROOFS)
            .bind(id.as_str())
            .bind(now.millis())
            .fetch_all(pool)
            .await
    })?)
}

const LOAD_PROOFS: &str = "SELECT kind, hash FROM payment_proofs WHERE payment_id = $1 \
    AND (expires_ms IS NULL OR expires_ms > $2)";

/// Erases the expired hashes of client addresses. `LOAD_PROOFS` ignores them already.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn forget_expired_proofs(db: &Db, now: Timestamp) -> Result<(), DbError> {
    write_db!(db, |pool| {
        sqlx::query(FORGET_PROOFS)
            .bind(now.millis())
            .execute(pool)
            .await
            .map(|_| ())
    })?;
    Ok(())
}

const FORGET_PROOFS: &str =
    "DELETE FROM payment_proofs WHERE expires_ms IS NOT NULL AND expires_ms <= $1";

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

const DISCARD_IMAGE: &str = "UPDATE images SET state = 'discarded', reserved_until_ms = NULL WHERE id = $1 AND state = 'pending'";

/// Sets the pending image that the payment will publish. `false`: the lease was lost.
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
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(changed == 1)
}

const ATTACH_IMAGE: &str =
    "UPDATE payments SET image_id = $4 WHERE id = $1 AND state = $2 AND attempt = $3";

/// Everything that a settlement writes.
#[derive(Debug)]
pub struct SettlementRecord<'a> {
    /// The change of state, to `settled`.
    pub step: Move,
    /// The row as it was read.
    pub payment: &'a Payment,
    /// The transfer on the chain.
    pub transfer: Transfer,
    /// Who proved the transfer: `facilitator` or `chain`.
    pub proven_by: &'static str,
    /// The upload token that is granted.
    pub grant: NewGrant,
    /// Why the payer may not have the goods yet; `None`: nothing is owed.
    pub owed: Option<&'static str>,
    /// When the auditor looks for the transfer first.
    pub next_look: Option<Timestamp>,
    /// The current time.
    pub now: Timestamp,
}

/// Records proof of the transfer: row, grant and image, in one transaction. Needs no lease: any
/// process may record the proof, and it counts once.
///
/// # Errors
/// [`DbError::Driver`], also when the transfer already settled another payment.
#[expect(
    clippy::too_many_lines,
    reason = "one transaction, read from its beginning to its end"
)]
pub async fn settle(db: &Db, record: &SettlementRecord<'_>) -> Result<Settlement, DbError> {
    let payment = record.payment;
    let now = record.now.millis();
    let target = payment.product.target.as_ref().map(ImageId::as_str);
    Ok(in_tx!(db, |tx| {
        let image: Option<SettledRow> = sqlx::query_as(SETTLE)
            .bind(payment.id.as_str())
            .bind(record.step.from().as_str())
            .bind(now)
            .bind(record.transfer.transaction.to_string())
            .bind(record.transfer.log_index.map(signed))
            .bind(record.proven_by)
            .bind(record.owed)
            .bind(record.step.to().as_str())
            .bind(payment.attempt)
            .bind(record.next_look.map(Timestamp::millis))
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(row) = image {
            sqlx::query(INSERT_GRANT)
                .bind(payment.id.as_str())
                .bind(payment.product.kind.as_str())
                .bind(&payment.product.tier)
                .bind(i64::from(payment.product.uses))
                .bind(&record.grant.token_hash)
                .bind(record.grant.token_expires.millis())
                .bind(keep_millis(payment.terms.keep))
                .bind(signed(payment.terms.max_bytes))
                .bind(now)
                .execute(&mut *tx)
                .await?;
            if let Some(target) = target {
                sqlx::query(LOCK_TARGET)
                    .bind(target)
                    .execute(&mut *tx)
                    .await?;
                if ends_to_hold(record.step) {
                    sqlx::query(LET_TARGET_GO)
                        .bind(target)
                        .execute(&mut *tx)
                        .await?;
                }
            }
            if let Some(target) = target {
                let renewed = sqlx::query(NOTE_RENEWAL)
                    .bind(payment.id.as_str())
                    .bind(target)
                    .bind(&payment.product.tier)
                    .bind(keep_millis(payment.terms.keep))
                    .bind(now)
                    .execute(&mut *tx)
                    .await?
                    .rows_affected();
                let then: &[&'static str] = if renewed == 1 {
                    &[RENEW_TARGET, COUNT_USE, NOTHING_OWED]
                } else {
                    &[OWE_RENEWAL]
                };
                for &sql in then {
                    sqlx::query(sql)
                        .bind(payment.id.as_str())
                        .execute(&mut *tx)
                        .await?;
                }
            }
            let mut published = 0;
            if let Some(image) = row
                .image_id
                .as_deref()
                .filter(|_| is_image_stored(record.step))
            {
                let expires = payment.terms.keep.end(record.now).map(Timestamp::millis);
                published = sqlx::query(PUBLISH)
                    .bind(image)
                    .bind(payment.id.as_str())
                    .bind(now)
                    .bind(expires)
                    .execute(&mut *tx)
                    .await?
                    .rows_affected();
            }
            if published == 1 {
                sqlx::query(COUNT_USE)
                    .bind(payment.id.as_str())
                    .execute(&mut *tx)
                    .await?;
            } else if payment.product.kind == ProductKind::Upload {
                if let Some(image) = row.image_id {
                    sqlx::query(DISCARD_IMAGE)
                        .bind(image)
                        .execute(&mut *tx)
                        .await?;
                }
                sqlx::query(OWE_IMAGE)
                    .bind(payment.id.as_str())
                    .execute(&mut *tx)
                    .await?;
            }
            Settlement::Done {
                published: published == 1,
            }
        } else {
            Settlement::Moved
        }
    }))
}

/// Whether the image of an upload is known to be in the store. The upload stores it after verify
/// and before the intent to settle is recorded. A row that is settled from an earlier state would
/// publish a link to a missing object.
const fn is_image_stored(step: Move) -> bool {
    matches!(step.from(), PaymentState::Settling | PaymentState::Unknown)
}

struct SettledRow {
    image_id: Option<String>,
}
from_row!(SettledRow: image_id);

const SETTLE: &str = "UPDATE payments SET state = $8, changed_ms = $3, settled_ms = COALESCE(settled_ms, $3), \
    transaction_hash = $4, log_index = COALESCE($5, log_index), proven_by = $6, owed = COALESCE($7, owed), \
    next_look_ms = $10, looks = 0, lease_until_ms = 0 WHERE id = $1 AND state = $2 AND attempt = $9 RETURNING image_id";

const OWE_IMAGE: &str = "UPDATE payments SET owed = COALESCE(owed, 'the image of this upload is gone') \
    WHERE id = $1";

pub(super) const INSERT_GRANT: &str = "INSERT INTO grants (payment_id, kind, tier, uses, used, serial, token_hash, \
    token_expires_ms, keep_ms, max_bytes, created_ms) VALUES ($1, $2, $3, $4, 0, 0, $5, $6, $7, $8, $9)";

/// Publishes the pending image of a payment.
pub(super) const PUBLISH: &str = "UPDATE images SET state = 'live', published_ms = $3, expires_ms = $4, \
    reserved_until_ms = NULL WHERE id = $1 AND payment_id = $2 AND state = 'pending'";

/// Counts one published upload on a grant.
///
/// Does nothing if the payment is void.
pub(super) const COUNT_USE: &str = "UPDATE grants SET used = used + 1 WHERE payment_id = $1 \
    AND used < uses AND voided_ms IS NULL";

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
    ("payments::LOCK_PAYER_POSTGRES", LOCK_PAYER_POSTGRES),
    ("payments::FIND_OPEN", FIND_OPEN),
    ("payments::LOCK_ID", LOCK_ID),
    ("payments::TAKE_ID", TAKE_ID),
    ("payments::MOVE_VERIFIED", MOVE_VERIFIED),
    ("payments::ADD_PROOF", ADD_PROOF),
    ("payments::FIND_ID", FIND_ID),
    ("payments::LOAD_PROOFS", LOAD_PROOFS),
    ("payments::FORGET_PROOFS", FORGET_PROOFS),
    ("payments::ADVANCE", ADVANCE),
    ("payments::DISCARD_IMAGE", DISCARD_IMAGE),
    ("payments::ATTACH_IMAGE", ATTACH_IMAGE),
    ("payments::SETTLE", SETTLE),
    ("payments::OWE_IMAGE", OWE_IMAGE),
    ("payments::INSERT_GRANT", INSERT_GRANT),
    ("payments::PUBLISH", PUBLISH),
    ("payments::COUNT_USE", COUNT_USE),
    ("payments::FIND_DUE", FIND_DUE),
    ("payments::COUNT_UNKNOWN", COUNT_UNKNOWN),
    ("payments::NOTE_REFUSAL", NOTE_REFUSAL),
    ("payments::OPEN_NETWORKS", OPEN_NETWORKS),
    ("payments::SEARCH", SEARCH),
    ("payments::PUT_OFF", PUT_OFF),
    ("payments::CLEAR_OWED", CLEAR_OWED),
    ("payments::FIND_OWED", FIND_OWED),
];
