//! Settles payments: the entry, its grant, and the image or the renewal that it bought, in one
//! transaction.

use super::blocks::{blocks_as_of, unblocked};
use super::payments::DISCARD_IMAGE;
use super::renewals::{
    LET_TARGET_GO, LOCK_TARGET, NOTE_RENEWAL, NOTHING_OWED, OWE_RENEWAL, RENEW_TARGET, ends_to_hold,
};
use super::rows::{keep_millis, signed};
use super::{Db, DbError, from_row, in_tx};
use crate::model::ids::ImageId;
use crate::model::payment::{Move, Payment, PaymentState, ProductKind, Transfer};
use crate::system::clock::Timestamp;

/// The outcome of recording a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// The row is settled, and its grant exists.
    Done {
        /// Whether the image that the payment bought is public.
        published: bool,
    },
    /// The row or the blocks changed in between. Read them again.
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
    /// The version of the blocks under which the image may be published. `None`: any, or there is
    /// no image.
    pub blocks_version: Option<i64>,
    /// Whether a block withholds the image.
    pub is_withheld: bool,
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
            .bind(record.blocks_version)
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
                .bind(payment.product.days.map(i64::from))
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
                .filter(|_| is_image_stored(record.step) && !record.is_withheld)
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
                    .bind(now)
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

const SETTLE: &str = concat!(
    "UPDATE payments SET state = $8, changed_ms = $3, settled_ms = COALESCE(settled_ms, $3), \
    transaction_hash = $4, log_index = COALESCE($5, log_index), proven_by = $6, owed = COALESCE($7, owed), \
    next_look_ms = $10, looks = 0, lease_until_ms = 0 WHERE id = $1 AND state = $2 AND attempt = $9 AND ",
    blocks_as_of!("$11"),
    " RETURNING image_id"
);

const OWE_IMAGE: &str = concat!(
    "UPDATE payments SET owed = COALESCE(owed, CASE WHEN EXISTS (SELECT 1 FROM images \
     WHERE images.id = payments.image_id AND NOT ",
    unblocked!("$2"),
    ") THEN 'a block withholds the image of this upload' ELSE 'the image of this upload is gone' END) WHERE id = $1"
);

pub(super) const INSERT_GRANT: &str = "INSERT INTO grants (payment_id, kind, tier, uses, used, serial, token_hash, \
    token_expires_ms, keep_ms, max_bytes, created_ms, days) VALUES ($1, $2, $3, $4, 0, 0, $5, $6, $7, $8, $9, $10)";

/// Publishes the pending image of a payment, unless a block came meanwhile.
pub(super) const PUBLISH: &str = concat!(
    "UPDATE images SET state = 'live', published_ms = $3, expires_ms = $4, reserved_until_ms = NULL \
     WHERE id = $1 AND payment_id = $2 AND state = 'pending' AND ",
    unblocked!("$3")
);

/// Counts one published upload on a grant.
///
/// Does nothing if the payment is void.
pub(super) const COUNT_USE: &str = "UPDATE grants SET used = used + 1 WHERE payment_id = $1 \
    AND used < uses AND voided_ms IS NULL";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("settlements::SETTLE", SETTLE),
    ("settlements::OWE_IMAGE", OWE_IMAGE),
    ("settlements::INSERT_GRANT", INSERT_GRANT),
    ("settlements::PUBLISH", PUBLISH),
    ("settlements::COUNT_USE", COUNT_USE),
];
