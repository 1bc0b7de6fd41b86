//! Removals, restores and holds. Each act is one transaction with its entry in the operator's log.

use super::admin_log::append_entry;
use super::blocks::{NewBlocks, insert_blocks};
use super::purges::ask_purge;
use super::rows::{Field, ImageRow, image_columns};
use super::{Db, DbError, from_row, in_tx, read_db, write_db};
use crate::model::admin_log::Entry;
use crate::model::ids::ImageId;
use crate::model::image::{Image, ImageState};
use crate::model::removal::{Ground, Removal};
use crate::system::clock::Timestamp;

/// What to do with an image.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    /// Why the image is removed, as far as clients are told. `None`: it is removed already, and the
    /// ground stays.
    pub ground: Option<Ground>,
    /// Until when its content is preserved; `None`: nothing changes about a hold.
    pub hold_until: Option<Timestamp>,
    /// Whether the CDN has to drop the image.
    pub is_cached: bool,
    /// The entry for the operator's log.
    pub entry: &'a Entry,
    /// What is blocked with it.
    pub blocks: NewBlocks<'a>,
}

/// Whether an act was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It was, and its entry is in the log.
    Yes,
    /// Nothing was changed: the image has this state, which the act doesn't fit.
    No(ImageState),
    /// There is no such image.
    Unknown,
}

/// The outcome of an act that doesn't fit: the image's state, if the image exists.
macro_rules! refused {
    ($tx:ident, $id:ident) => {
        Err(sqlx::query_scalar(STATE)
            .bind($id.as_str())
            .fetch_optional(&mut *$tx)
            .await?)
    };
}

/// Removes an image, holds its content, or both. An image that is being uploaded is removed before
/// it is published; its payment is then owed.
///
/// # Errors
/// [`DbError`].
pub async fn remove(
    db: &Db,
    id: &ImageId,
    order: &Order<'_>,
    now: Timestamp,
) -> Result<Done, DbError> {
    let removes = order.ground.is_some();
    let done: Result<(), Option<String>> = in_tx!(db, |tx| {
        let row: Option<(String, String)> = sqlx::query_as(LOCK)
            .bind(id.as_str())
            .fetch_optional(&mut *tx)
            .await?;
        let Some((state, format)) = row else {
            return Ok(Err(None));
        };
        let fits = match state.as_str() {
            "live" => removes,
            // Its object may be being written, so that it can't be sealed yet.
            "pending" => removes && order.hold_until.is_none(),
            "removed" => true,
            _ => false,
        };
        if fits {
            sqlx::query(REMOVE)
                .bind(id.as_str())
                .bind(order.hold_until.map(|_| now.millis()))
                .execute(&mut *tx)
                .await?;
            sqlx::query(NOTE_REMOVAL)
                .bind(id.as_str())
                .bind(order.ground.map(Ground::as_str))
                .bind(&order.entry.reason)
                .bind(now.millis())
                .bind(order.hold_until.map(Timestamp::millis))
                .bind(state != "removed")
                .execute(&mut *tx)
                .await?;
            if order.is_cached && removes {
                ask_purge!(tx, id, &format, now);
            }
            append_entry!(tx, order.entry, now);
            insert_blocks!(tx, order.blocks, now);
            Ok(())
        } else {
            Err(Some(state))
        }
    });
    outcome(id, done)
}

/// Locks the row: an update that changes nothing locks it on both databases.
const LOCK: &str = "UPDATE images SET renewing = renewing WHERE id = $1 RETURNING state, format";
const REMOVE: &str = "UPDATE images SET state = 'removed', reserved_until_ms = NULL, \
    held_ms = COALESCE(held_ms, $2) WHERE id = $1 AND state IN ('live', 'pending', 'removed')";
/// A hold is never shortened, and without a ground the earlier ground and reason stay.
const NOTE_REMOVAL: &str = "INSERT INTO removals (image_id, ground, reason, removed_ms, hold_until_ms) \
    VALUES ($1, COALESCE($2, 'policy'), $3, $4, $5) ON CONFLICT (image_id) DO UPDATE SET \
    ground = COALESCE(CAST($2 AS TEXT), removals.ground), \
    removed_ms = CASE WHEN $6 THEN excluded.removed_ms ELSE removals.removed_ms END, \
    reason = CASE WHEN CAST($2 AS TEXT) IS NULL THEN removals.reason ELSE excluded.reason END, \
    hold_until_ms = CASE WHEN COALESCE(removals.hold_until_ms, 0) > COALESCE(excluded.hold_until_ms, 0) \
    THEN removals.hold_until_ms ELSE excluded.hold_until_ms END";

/// Serves a removed image again, and ends its hold. The content must be in its place. Does nothing
/// for an image that has expired, was never published, or whose payment is void or refunded.
///
/// # Errors
/// [`DbError`].
pub async fn restore(
    db: &Db,
    id: &ImageId,
    is_held: bool,
    entry: &Entry,
    now: Timestamp,
) -> Result<Done, DbError> {
    let done: Result<(), Option<String>> = in_tx!(db, |tx| {
        sqlx::query(LOCK_PAYMENT)
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        let restored = sqlx::query(RESTORE)
            .bind(id.as_str())
            .bind(now.millis())
            .bind(is_held)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if restored == 1 {
            sqlx::query(END_HOLD)
                .bind(id.as_str())
                .bind(now.millis())
                .execute(&mut *tx)
                .await?;
            sqlx::query(FORGET_RESTORED)
                .bind(id.as_str())
                .execute(&mut *tx)
                .await?;
            append_entry!(tx, entry, now);
            Ok(())
        } else {
            refused!(tx, id)
        }
    });
    outcome(id, done)
}

/// The condition that the payment of an image was refunded together with the image, and that no
/// other payment in force has renewed it.
macro_rules! refunded {
    () => {
        "EXISTS (SELECT 1 FROM refunds r WHERE r.payment_id = images.payment_id \
         AND r.refunded_ms IS NOT NULL AND r.keeps_goods = 0) \
         AND NOT EXISTS (SELECT 1 FROM renewals n JOIN grants o ON o.payment_id = n.payment_id \
         WHERE n.image_id = images.id AND n.payment_id <> images.payment_id AND o.voided_ms IS NULL)"
    };
}

/// Waits for a refund or a void of the payment that is being recorded. Lock order: payment, image.
const LOCK_PAYMENT: &str = "UPDATE payments SET changed_ms = changed_ms \
    WHERE id = (SELECT payment_id FROM images WHERE id = $1)";
const RESTORE: &str = concat!(
    "UPDATE images SET state = 'live', held_ms = NULL \
     WHERE id = $1 AND state = 'removed' AND published_ms IS NOT NULL \
     AND (expires_ms IS NULL OR expires_ms > $2) AND (held_ms IS NOT NULL) = $3 \
     AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.id = images.payment_id \
     AND p.voided_ms IS NOT NULL) AND NOT (",
    refunded!(),
    ")"
);
/// A process may be sealing the content at this moment, so that the sealed prefix may hold some.
const END_HOLD: &str = "UPDATE removals SET hold_until_ms = NULL, \
    sealed_ms = CASE WHEN hold_until_ms IS NULL THEN sealed_ms ELSE COALESCE(sealed_ms, $2) END \
    WHERE image_id = $1";
/// While a sealed copy exists, the row stays, so that the copy is deleted.
const FORGET_RESTORED: &str = "DELETE FROM removals WHERE image_id = $1 AND sealed_ms IS NULL";
const STATE: &str = "SELECT state FROM images WHERE id = $1";

/// Whether the payment of an image was refunded, so that the image is never served again.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn is_refunded(db: &Db, id: &ImageId) -> Result<bool, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_scalar(IS_REFUNDED)
        .bind(id.as_str())
        .fetch_one(pool)
        .await)?)
}

const IS_REFUNDED: &str = concat!(
    "SELECT EXISTS (SELECT 1 FROM images WHERE id = $1 AND ",
    refunded!(),
    ")"
);

/// Ends the hold of an image and claims it for deletion.
///
/// # Errors
/// [`DbError`].
pub async fn release(
    db: &Db,
    id: &ImageId,
    entry: &Entry,
    now: Timestamp,
) -> Result<Done, DbError> {
    let done: Result<(), Option<String>> = in_tx!(db, |tx| {
        let released = sqlx::query(RELEASE)
            .bind(id.as_str())
            .bind(now.millis())
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if released == 1 {
            sqlx::query(END_HOLD)
                .bind(id.as_str())
                .bind(now.millis())
                .execute(&mut *tx)
                .await?;
            append_entry!(tx, entry, now);
            Ok(())
        } else {
            refused!(tx, id)
        }
    });
    outcome(id, done)
}

const RELEASE: &str = "UPDATE images SET held_ms = NULL, reap_after_ms = $2, \
    state = CASE WHEN published_ms IS NULL THEN 'discarded' ELSE 'deleting' END \
    WHERE id = $1 AND state = 'removed' AND held_ms IS NOT NULL AND renewing = 0";

/// Records the reference of the report to an authority about a removed image.
///
/// # Errors
/// [`DbError`].
pub async fn acknowledge(
    db: &Db,
    id: &ImageId,
    reference: &str,
    entry: &Entry,
    now: Timestamp,
) -> Result<Done, DbError> {
    let done: Result<(), Option<String>> = in_tx!(db, |tx| {
        let noted = sqlx::query(ACKNOWLEDGE)
            .bind(id.as_str())
            .bind(reference)
            .bind(now.millis())
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if noted == 1 {
            append_entry!(tx, entry, now);
            Ok(())
        } else {
            refused!(tx, id)
        }
    });
    outcome(id, done)
}

const ACKNOWLEDGE: &str =
    "UPDATE removals SET report_reference = $2, reported_ms = $3 WHERE image_id = $1";

fn outcome(id: &ImageId, done: Result<(), Option<String>>) -> Result<Done, DbError> {
    match done {
        Ok(()) => Ok(Done::Yes),
        Err(None) => Ok(Done::Unknown),
        Err(Some(state)) => {
            let field = Field {
                table: "images",
                row: id.as_str(),
            };
            Ok(Done::No(field.with("state", ImageState::parse(&state))?))
        }
    }
}

/// Finds the removal of an image that is not served because of it; `None`: it isn't removed.
///
/// # Errors
/// [`DbError`].
pub async fn find(db: &Db, id: &ImageId) -> Result<Option<Removal>, DbError> {
    let row: Option<RemovalRow> = read_db!(db, |pool| sqlx::query_as(FIND)
        .bind(id.as_str())
        .fetch_optional(pool)
        .await)?;
    row.map(|row| row.removal(id)).transpose()
}

const FIND: &str = "SELECT r.ground, r.reason, r.removed_ms, i.held_ms, r.hold_until_ms, r.sealed_ms, \
    r.report_reference, r.reported_ms FROM removals r JOIN images i ON i.id = r.image_id \
    WHERE r.image_id = $1 AND i.state <> 'live'";

/// Returns held images after `last`, in order of id, at most `most`.
///
/// # Errors
/// [`DbError`].
pub async fn page_held(db: &Db, last: &str, most: u32) -> Result<Vec<Image>, DbError> {
    let rows: Vec<ImageRow> = read_db!(db, |pool| sqlx::query_as(PAGE_HELD)
        .bind(last)
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Image::try_from).collect()
}

const PAGE_HELD: &str = concat!(
    "SELECT ",
    image_columns!(),
    " FROM images WHERE state = 'removed' AND held_ms IS NOT NULL AND id > $1 ORDER BY id LIMIT $2"
);

/// Finds held images whose content is not sealed yet, at most `most`.
///
/// # Errors
/// [`DbError`].
pub async fn find_unsealed(db: &Db, most: u32) -> Result<Vec<ImageId>, DbError> {
    find_ids(db, FIND_UNSEALED, most).await
}

const FIND_UNSEALED: &str = "SELECT r.image_id FROM removals r JOIN images i ON i.id = r.image_id \
    WHERE r.hold_until_ms IS NOT NULL AND r.sealed_ms IS NULL AND i.held_ms IS NOT NULL \
    ORDER BY r.hold_until_ms LIMIT $1";

/// Finds images whose content is sealed although their hold ended, at most `most`.
///
/// # Errors
/// [`DbError`].
pub async fn find_released(db: &Db, most: u32) -> Result<Vec<ImageId>, DbError> {
    find_ids(db, FIND_RELEASED, most).await
}

const FIND_RELEASED: &str = "SELECT r.image_id FROM removals r LEFT JOIN images i ON i.id = r.image_id \
    WHERE r.sealed_ms IS NOT NULL AND i.held_ms IS NULL ORDER BY r.sealed_ms LIMIT $1";

async fn find_ids(db: &Db, sql: &'static str, most: u32) -> Result<Vec<ImageId>, DbError> {
    let rows: Vec<String> = read_db!(db, |pool| sqlx::query_scalar(sql)
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    rows.iter()
        .map(|row| {
            let field = Field {
                table: "removals",
                row,
            };
            field.with("image_id", ImageId::parse(row))
        })
        .collect()
}

/// Records that the content of a held image is sealed. `false`: it isn't held any more.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn note_sealed(db: &Db, id: &ImageId, now: Timestamp) -> Result<bool, DbError> {
    let noted = write_db!(db, |pool| sqlx::query(NOTE_SEALED)
        .bind(id.as_str())
        .bind(now.millis())
        .execute(pool)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(noted == 1)
}

const NOTE_SEALED: &str =
    "UPDATE removals SET sealed_ms = $2 WHERE image_id = $1 AND sealed_ms IS NULL";

/// Records that the sealed content of an image is deleted.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn note_unsealed(db: &Db, id: &ImageId) -> Result<(), DbError> {
    in_tx!(db, |tx| {
        for sql in [NOTE_UNSEALED, FORGET_LIVE] {
            sqlx::query(sql).bind(id.as_str()).execute(&mut *tx).await?;
        }
    });
    Ok(())
}

const NOTE_UNSEALED: &str = "UPDATE removals SET sealed_ms = NULL WHERE image_id = $1";
const FORGET_LIVE: &str = "DELETE FROM removals WHERE image_id = $1 AND sealed_ms IS NULL \
    AND EXISTS (SELECT 1 FROM images i WHERE i.id = $1 AND i.state = 'live')";

/// Erases the removals of images whose rows are erased.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn forget_erased(db: &Db) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(FORGET_ERASED)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const FORGET_ERASED: &str = "DELETE FROM removals WHERE sealed_ms IS NULL \
    AND NOT EXISTS (SELECT 1 FROM images i WHERE i.id = removals.image_id)";

struct RemovalRow {
    ground: String,
    reason: String,
    removed_ms: i64,
    held_ms: Option<i64>,
    hold_until_ms: Option<i64>,
    sealed_ms: Option<i64>,
    report_reference: Option<String>,
    reported_ms: Option<i64>,
}
from_row!(RemovalRow:
    ground, reason, removed_ms, held_ms, hold_until_ms, sealed_ms, report_reference, reported_ms
);

impl RemovalRow {
    fn removal(self, id: &ImageId) -> Result<Removal, DbError> {
        let field = Field {
            table: "removals",
            row: id.as_str(),
        };
        let reported = self.reported_ms.map(Timestamp::from_millis);
        Ok(Removal {
            ground: field.with("ground", Ground::parse(&self.ground))?,
            reason: self.reason,
            removed_at: Timestamp::from_millis(self.removed_ms),
            held_at: self.held_ms.map(Timestamp::from_millis),
            hold_until: self.hold_until_ms.map(Timestamp::from_millis),
            sealed_at: self.sealed_ms.map(Timestamp::from_millis),
            report: self.report_reference.zip(reported),
        })
    }
}

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("removals::LOCK", LOCK),
    ("removals::REMOVE", REMOVE),
    ("removals::NOTE_REMOVAL", NOTE_REMOVAL),
    ("removals::LOCK_PAYMENT", LOCK_PAYMENT),
    ("removals::RESTORE", RESTORE),
    ("removals::IS_REFUNDED", IS_REFUNDED),
    ("removals::END_HOLD", END_HOLD),
    ("removals::FORGET_RESTORED", FORGET_RESTORED),
    ("removals::STATE", STATE),
    ("removals::RELEASE", RELEASE),
    ("removals::ACKNOWLEDGE", ACKNOWLEDGE),
    ("removals::FIND", FIND),
    ("removals::PAGE_HELD", PAGE_HELD),
    ("removals::FIND_UNSEALED", FIND_UNSEALED),
    ("removals::FIND_RELEASED", FIND_RELEASED),
    ("removals::NOTE_SEALED", NOTE_SEALED),
    ("removals::NOTE_UNSEALED", NOTE_UNSEALED),
    ("removals::FORGET_LIVE", FORGET_LIVE),
    ("removals::FORGET_ERASED", FORGET_ERASED),
];
