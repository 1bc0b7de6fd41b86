//! Credits: transfers to us that the ledger lost and the chain still shows. Each is owed to its
//! payer once.

use super::payments::{self, IdOwner, IdRow, Proof};
use super::rows::{Field, keep_millis, signed};
use super::{Db, DbError, erasure, from_row, in_tx, on_db};
use crate::model::ids::ImageId;
use crate::model::payment::{FORGOTTEN, Move, Payment, PaymentId, Transfer};
use crate::system::clock::Timestamp;
use alloy_primitives::{Address, B256};

/// A transfer that is owed to its payer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credit {
    /// The ledger id of the lost payment.
    pub id: PaymentId,
    /// CAIP-2 id of the network.
    pub network: String,
    /// The payer's address.
    pub payer: Address,
    /// The nonce of the authorization.
    pub nonce: B256,
    /// The recipient's address.
    pub pay_to: Address,
    /// The amount in atomic units.
    pub amount: String,
    /// The transaction hash.
    pub transaction: B256,
    /// The index of the transfer's log in its block.
    pub log_index: u64,
    /// The height of that block.
    pub block: u64,
    /// When recovery found the transfer.
    pub found: Timestamp,
}

struct CreditRow {
    id: String,
    network: String,
    payer: String,
    nonce: String,
    pay_to: String,
    amount: String,
    transaction_hash: String,
    log_index: i64,
    block: i64,
    found_ms: i64,
}
from_row!(CreditRow:
    id, network, payer, nonce, pay_to, amount, transaction_hash, log_index, block, found_ms
);

impl TryFrom<CreditRow> for Credit {
    type Error = DbError;

    fn try_from(row: CreditRow) -> Result<Self, DbError> {
        let field = Field {
            table: "credits",
            row: &row.id,
        };
        Ok(Self {
            id: field.with("id", PaymentId::parse(&row.id))?,
            payer: field.with("payer", row.payer.parse().ok())?,
            nonce: field.with("nonce", row.nonce.parse().ok())?,
            pay_to: field.with("pay_to", row.pay_to.parse().ok())?,
            transaction: field.with("transaction_hash", row.transaction_hash.parse().ok())?,
            log_index: field.count("log_index", row.log_index)?,
            block: field.count("block", row.block)?,
            found: Timestamp::from_millis(row.found_ms),
            network: row.network,
            amount: row.amount,
        })
    }
}

macro_rules! credit_columns {
    () => {
        "id, network, payer, nonce, pay_to, amount, transaction_hash, log_index, block, \
         found_ms"
    };
}

/// Writes a credit, or reopens a credit whose transfer had left the chain. `false`: the credit
/// exists already.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn insert(db: &Db, credit: &Credit) -> Result<bool, DbError> {
    let inserted = on_db!(db, |pool| sqlx::query(INSERT)
        .bind(credit.id.as_str())
        .bind(&credit.network)
        .bind(credit.payer.to_string())
        .bind(credit.nonce.to_string())
        .bind(credit.pay_to.to_string())
        .bind(&credit.amount)
        .bind(credit.transaction.to_string())
        .bind(signed(credit.log_index))
        .bind(signed(credit.block))
        .bind(credit.found.millis())
        .bind(FORGOTTEN)
        .execute(pool)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(inserted == 1)
}

const INSERT: &str = "INSERT INTO credits (id, network, payer, nonce, pay_to, amount, transaction_hash, \
    log_index, block, found_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO UPDATE \
    SET resolved_ms = NULL, resolution = NULL, transaction_hash = $7, log_index = $8, block = $9, found_ms = $10 \
    WHERE credits.resolution = $11";

/// Whether a credit with this id exists that [`insert`] would leave unchanged.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn is_noted(db: &Db, id: &PaymentId) -> Result<bool, DbError> {
    let found: Option<i64> = on_db!(db, |pool| sqlx::query_scalar(FIND)
        .bind(id.as_str())
        .bind(FORGOTTEN)
        .fetch_optional(pool)
        .await)?;
    Ok(found.is_some())
}

const FIND: &str = "SELECT found_ms FROM credits WHERE id = $1 AND COALESCE(resolution, '') <> $2";

/// The state of a payment that the ledger lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The payer can claim the credit, or has claimed it.
    Credited,
    /// The operator resolved it otherwise, such as by a refund.
    Resolved,
    /// The transfer left the chain: no money moved.
    Forgotten,
}

/// Finds the state of the credit with this payer and nonce, on any network; `None`: there is none.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_lost(db: &Db, payer: &str, nonce: &str) -> Result<Option<Lost>, DbError> {
    let found: Option<Option<String>> = on_db!(db, |pool| sqlx::query_scalar(FIND_LOST)
        .bind(payer)
        .bind(nonce)
        .fetch_optional(pool)
        .await)?;
    Ok(found.map(|resolution| match resolution.as_deref() {
        None => Lost::Credited,
        Some(FORGOTTEN) => Lost::Forgotten,
        Some(_) => Lost::Resolved,
    }))
}

const FIND_LOST: &str = "SELECT CASE WHEN resolved_ms IS NULL THEN NULL ELSE COALESCE(resolution, '') END \
    FROM credits WHERE payer = $1 AND nonce = $2 LIMIT 1";

/// Finds the payer's oldest unclaimed credit on this network with exactly this amount.
///
/// # Errors
/// [`DbError`].
pub async fn find_open(
    db: &Db,
    network: &str,
    payer: Address,
    amount: &str,
) -> Result<Option<Credit>, DbError> {
    let row: Option<CreditRow> = on_db!(db, |pool| sqlx::query_as(FIND_OPEN)
        .bind(payer.to_string())
        .bind(amount)
        .bind(network)
        .fetch_optional(pool)
        .await)?;
    row.map(Credit::try_from).transpose()
}

const FIND_OPEN: &str = concat!(
    "SELECT ",
    credit_columns!(),
    " FROM credits WHERE payer = $1 AND amount = $2 AND network = $3 AND claimed_by IS NULL \
     AND resolved_ms IS NULL ORDER BY block, log_index LIMIT 1"
);

/// Lists unclaimed credits, oldest first: at most 1000.
///
/// # Errors
/// [`DbError`].
pub async fn list_open(db: &Db) -> Result<Vec<Credit>, DbError> {
    let rows: Vec<CreditRow> = on_db!(db, |pool| sqlx::query_as(LIST_OPEN).fetch_all(pool).await)?;
    rows.into_iter().map(Credit::try_from).collect()
}

const LIST_OPEN: &str = concat!(
    "SELECT ",
    credit_columns!(),
    " FROM credits WHERE claimed_by IS NULL AND resolved_ms IS NULL ORDER BY network, block, log_index LIMIT 1000"
);

/// Finds the credit that this payment claimed.
///
/// # Errors
/// [`DbError`].
pub async fn find_claimed_by(db: &Db, id: &PaymentId) -> Result<Option<PaymentId>, DbError> {
    let found: Option<String> = on_db!(db, |pool| sqlx::query_scalar(FIND_CLAIMED_BY)
        .bind(id.as_str())
        .fetch_optional(pool)
        .await)?;
    let field = Field {
        table: "credits",
        row: id.as_str(),
    };
    found
        .map(|found| field.with("id", PaymentId::parse(&found)))
        .transpose()
}

const FIND_CLAIMED_BY: &str = "SELECT id FROM credits WHERE claimed_by = $1";

/// Whether a transfer is a credit, claimed or not. Credits whose transfer left the chain don't
/// count.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn is_credit(
    db: &Db,
    network: &str,
    transaction: &str,
    payer: &str,
    amount: &str,
) -> Result<bool, DbError> {
    let found: i64 = on_db!(db, |pool| sqlx::query_scalar(COUNT_TRANSFER)
        .bind(transaction)
        .bind(network)
        .bind(payer)
        .bind(amount)
        .bind(FORGOTTEN)
        .fetch_one(pool)
        .await)?;
    Ok(found > 0)
}

const COUNT_TRANSFER: &str = "SELECT COUNT(*) FROM credits WHERE transaction_hash = $1 AND network = $2 \
    AND payer = $3 AND amount = $4 AND COALESCE(resolution, '') <> $5";

/// Records how the operator resolved a credit. `false`: there is no open credit with this id.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn resolve(db: &Db, id: &str, note: &str, now: Timestamp) -> Result<bool, DbError> {
    let changed = on_db!(db, |pool| sqlx::query(RESOLVE)
        .bind(id)
        .bind(note)
        .bind(now.millis())
        .execute(pool)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(changed == 1)
}

const RESOLVE: &str = "UPDATE credits SET resolution = $2, resolved_ms = $3 \
    WHERE id = $1 AND claimed_by IS NULL AND resolved_ms IS NULL";

/// Closes a credit for good, because the chain will never show its transfer again. `false`: it was
/// not open.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn close_forgotten(db: &Db, id: &PaymentId, now: Timestamp) -> Result<bool, DbError> {
    resolve(db, id.as_str(), FORGOTTEN, now).await
}

/// Lists at most `most` credits that the operator resolved before `before`, or whose transfer left
/// the chain.
///
/// # Errors
/// [`DbError`].
pub async fn list_closed(db: &Db, before: Timestamp, most: u32) -> Result<Vec<Credit>, DbError> {
    let rows: Vec<CreditRow> = on_db!(db, |pool| sqlx::query_as(LIST_CLOSED)
        .bind(before.millis())
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Credit::try_from).collect()
}

const LIST_CLOSED: &str = concat!(
    "SELECT ",
    credit_columns!(),
    " FROM credits WHERE resolved_ms <= $1 ORDER BY resolved_ms LIMIT $2"
);

/// Erases a closed credit. A hash of its identity and one of its transfer stay, as for a payment.
/// `false`: it doesn't exist, or it is open.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn erase(
    db: &Db,
    id: &PaymentId,
    transfer_hash: &str,
    now: Timestamp,
) -> Result<bool, DbError> {
    Ok(in_tx!(db, |tx| {
        let erased: Option<String> = sqlx::query_scalar(ERASE)
            .bind(id.as_str())
            .fetch_optional(&mut *tx)
            .await?;
        let Some(resolution) = erased else {
            return Ok(false);
        };
        let hash = (resolution != FORGOTTEN).then_some(transfer_hash);
        sqlx::query(erasure::REMEMBER)
            .bind(id.as_str())
            .bind(hash)
            .bind(now.millis())
            .execute(&mut *tx)
            .await?;
        true
    }))
}

const ERASE: &str = "DELETE FROM credits WHERE id = $1 AND resolved_ms IS NOT NULL \
    RETURNING COALESCE(resolution, '')";

/// Lists the recipients of a network's payments, as the ledger spells them.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn list_recipients(db: &Db, network: &str) -> Result<Vec<String>, DbError> {
    Ok(on_db!(db, |pool| sqlx::query_scalar(LIST_RECIPIENTS)
        .bind(network)
        .fetch_all(pool)
        .await)?)
}

const LIST_RECIPIENTS: &str =
    "SELECT DISTINCT pay_to FROM payments WHERE network = $1 ORDER BY pay_to";

/// Everything that claiming a credit writes.
#[derive(Debug)]
pub struct Claim<'a> {
    /// The new payment that claims the credit, as its driver read it. It is given up.
    pub presented: &'a Payment,
    /// The change of state that gives it up.
    pub give_up: Move,
    /// The reason that is recorded for giving it up.
    pub reason: &'static str,
    /// When the reconciler checks whether the new payment moved money nevertheless.
    pub next_look: Timestamp,
    /// The row of the credited payment, to be inserted.
    pub credited: &'a Payment,
    /// The change of state of the credited payment, to `settled`.
    pub settle: Move,
    /// The credited transfer on the chain.
    pub transfer: Transfer,
    /// The name of the current facilitator.
    pub facilitator: &'a str,
    /// SHA-256 of its upload token, in hex.
    pub token_hash: &'a str,
    /// When that token expires.
    pub token_expires: Timestamp,
    /// Why the payer may not have the goods yet; `None`: nothing is owed.
    pub owed: Option<&'static str>,
    /// Proofs of who sent the new payment.
    pub proofs: &'a [Proof],
    /// Hashes of the new payment's idempotency keys, sorted.
    pub id_hashes: &'a [String],
    /// When the auditor looks for the transfer first.
    pub audit: Timestamp,
    /// The current time.
    pub now: Timestamp,
}

/// The outcome of claiming a credit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The credited payment is settled, and its grant exists.
    Done,
    /// Another payment claimed the credit first.
    Gone,
    /// Another process took over the new payment.
    Lost,
    /// The idempotency key belongs to another payment.
    Taken(IdOwner),
}

/// Gives a credit to the payment that claims it, once. The credited payment is settled with its
/// grant and the new payment is given up, in one transaction.
///
/// # Errors
/// [`DbError`], also when the transfer already settled another payment.
#[expect(
    clippy::too_many_lines,
    reason = "one transaction, read from its beginning to its end"
)]
pub async fn claim(db: &Db, claim: &Claim<'_>) -> Result<Claimed, DbError> {
    let (row, id, now) = (
        claim.credited,
        claim.credited.id.as_str(),
        claim.now.millis(),
    );
    let (product, terms) = (&row.product, &row.terms);
    let payer = row.authorization.from.to_string();
    Ok(in_tx!(db, |tx| {
        let taken = sqlx::query(TAKE)
            .bind(id)
            .bind(claim.presented.id.as_str())
            .bind(now)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if taken == 0 {
            return Ok(Claimed::Gone);
        }
        let given_up = sqlx::query(GIVE_UP)
            .bind(claim.presented.id.as_str())
            .bind(claim.give_up.from().as_str())
            .bind(claim.presented.attempt)
            .bind(claim.give_up.to().as_str())
            .bind(now)
            .bind(claim.reason)
            .bind(claim.next_look.millis())
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if given_up == 0 {
            // Dropping the transaction rolls it back: the credit stays open.
            return Ok(Claimed::Lost);
        }
        let insert = sqlx::query(payments::INSERT);
        let inserted = payments::bind_insert(insert, row, claim.facilitator)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if inserted == 0 {
            return Ok(Claimed::Gone);
        }
        for hash in claim.id_hashes {
            sqlx::query(payments::LOCK_ID)
                .bind(&payer)
                .bind(hash)
                .execute(&mut *tx)
                .await?;
            sqlx::query(payments::TAKE_ID)
                .bind(&payer)
                .bind(hash)
                .bind(id)
                .bind(product.kind.as_str())
                .bind(&product.tier)
                .bind(i64::from(product.uses))
                .bind(row.body_sha256.as_deref())
                .bind(product.target.as_ref().map(ImageId::as_str))
                .execute(&mut *tx)
                .await?;
            let owner: IdRow = sqlx::query_as(payments::FIND_ID)
                .bind(&payer)
                .bind(hash)
                .fetch_one(&mut *tx)
                .await?;
            if owner.payment_id != id {
                return Ok(Claimed::Taken(
                    owner.owner(product, row.body_sha256.as_deref())?,
                ));
            }
        }
        for proof in claim.proofs {
            sqlx::query(payments::ADD_PROOF)
                .bind(id)
                .bind(proof.kind)
                .bind(&proof.hash)
                .bind(proof.expires.map(Timestamp::millis))
                .execute(&mut *tx)
                .await?;
        }
        sqlx::query(payments::SETTLE)
            .bind(id)
            .bind(claim.settle.from().as_str())
            .bind(now)
            .bind(claim.transfer.transaction.to_string())
            .bind(claim.transfer.log_index.map(signed))
            .bind("chain")
            .bind(claim.owed)
            .bind(claim.settle.to().as_str())
            .bind(row.attempt)
            .bind(claim.audit.millis())
            .execute(&mut *tx)
            .await?;
        sqlx::query(BIND_BODY)
            .bind(id)
            .bind(row.body_sha256.as_deref())
            .execute(&mut *tx)
            .await?;
        sqlx::query(payments::INSERT_GRANT)
            .bind(id)
            .bind(product.kind.as_str())
            .bind(&product.tier)
            .bind(i64::from(product.uses))
            .bind(claim.token_hash)
            .bind(claim.token_expires.millis())
            .bind(keep_millis(terms.keep))
            .bind(signed(terms.max_bytes))
            .bind(now)
            .execute(&mut *tx)
            .await?;
        Claimed::Done
    }))
}

const TAKE: &str = "UPDATE credits SET claimed_by = $2, claimed_ms = $3 \
    WHERE id = $1 AND claimed_by IS NULL AND resolved_ms IS NULL";

const GIVE_UP: &str = "UPDATE payments SET state = $4, changed_ms = $5, reason = $6, lease_until_ms = 0, \
    next_look_ms = $7 WHERE id = $1 AND state = $2 AND attempt = $3";

const BIND_BODY: &str = "UPDATE payments SET body_sha256 = $2 WHERE id = $1";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("credits::INSERT", INSERT),
    ("credits::FIND", FIND),
    ("credits::FIND_LOST", FIND_LOST),
    ("credits::FIND_OPEN", FIND_OPEN),
    ("credits::LIST_OPEN", LIST_OPEN),
    ("credits::FIND_CLAIMED_BY", FIND_CLAIMED_BY),
    ("credits::COUNT_TRANSFER", COUNT_TRANSFER),
    ("credits::RESOLVE", RESOLVE),
    ("credits::LIST_CLOSED", LIST_CLOSED),
    ("credits::ERASE", ERASE),
    ("credits::LIST_RECIPIENTS", LIST_RECIPIENTS),
    ("credits::TAKE", TAKE),
    ("credits::GIVE_UP", GIVE_UP),
    ("credits::BIND_BODY", BIND_BODY),
];
