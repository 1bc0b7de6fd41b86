//! What binds a payment to its payer when verify succeeds: proofs, idempotency keys, and what the
//! payer's other open payments leave of the balance.

use alloy_primitives::{B256, U256};

use super::payments::find;
use super::{Db, DbError, from_row, in_tx, read_db, write_db};
use crate::model::ids::ImageId;
use crate::model::payment::{Move, Payment, PaymentId, PaymentState, Product};
use crate::pricing::money::AtomicAmount;
use crate::system::clock::Timestamp;

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
                .bind(product.days.map(i64::from))
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
    body_sha256, target, days) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (payer, id_hash) DO UPDATE \
    SET payment_id = excluded.payment_id, kind = excluded.kind, tier = excluded.tier, \
    uses = excluded.uses, body_sha256 = excluded.body_sha256, target = excluded.target, \
    days = excluded.days \
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

const FIND_ID: &str = "SELECT payment_id, kind, tier, uses, target, days, body_sha256 FROM payment_ids \
    WHERE payer = $1 AND id_hash = $2";

struct IdRow {
    payment_id: String,
    kind: String,
    tier: String,
    uses: i64,
    target: Option<String>,
    days: Option<i64>,
    body_sha256: Option<String>,
}
from_row!(IdRow: payment_id, kind, tier, uses, target, days, body_sha256);

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
                && self.days == product.days.map(i64::from)
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

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("proofs::LOCK_PAYER_POSTGRES", LOCK_PAYER_POSTGRES),
    ("proofs::FIND_OPEN", FIND_OPEN),
    ("proofs::LOCK_ID", LOCK_ID),
    ("proofs::TAKE_ID", TAKE_ID),
    ("proofs::MOVE_VERIFIED", MOVE_VERIFIED),
    ("proofs::ADD_PROOF", ADD_PROOF),
    ("proofs::FIND_ID", FIND_ID),
    ("proofs::LOAD_PROOFS", LOAD_PROOFS),
    ("proofs::FORGET_PROOFS", FORGET_PROOFS),
];
