//! What is due to disappear: objects of images, rows of images, rows of payments. And the lease of
//! whoever makes it disappear.
//!
//! An image goes in two moves: it is claimed (`deleting`, served to nobody any more), and after its
//! object is gone it is marked. What is claimed is never given back.

use super::rows::Field;
use super::{Db, DbError, in_tx, on_db};
use crate::clock::Timestamp;
use crate::ids::ImageId;
use crate::model::image::ImageState;
use crate::model::payment::PaymentId;

/// Claims images that have expired, oldest first.
///
/// # Errors
/// [`DbError`].
pub async fn claim_expired(db: &Db, now: Timestamp, most: u32) -> Result<Vec<ImageId>, DbError> {
    let rows: Vec<String> = on_db!(db, |pool| sqlx::query_scalar(CLAIM_EXPIRED)
        .bind(now.millis())
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    parse(&rows)
}

// The outer conditions look again: between finding a row and changing it, its expiry may move.
const CLAIM_EXPIRED: &str = "UPDATE images SET state = 'deleting', reap_after_ms = $1 WHERE id IN \
    (SELECT id FROM images WHERE state = 'live' AND expires_ms IS NOT NULL AND expires_ms <= $1 \
    AND held_ms IS NULL ORDER BY expires_ms LIMIT $2) \
    AND state = 'live' AND expires_ms <= $1 AND held_ms IS NULL RETURNING id";

/// How an image stands to being deleted by its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnersClaim {
    /// Its object is to be deleted now.
    Claimed,
    /// There is nothing left of it, or there never was.
    Gone,
    /// It is kept for a reason that is not its owner's.
    Held,
}

/// Claims an image for its owner, who wants it gone.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn claim_for_owner(
    db: &Db,
    id: &ImageId,
    now: Timestamp,
) -> Result<OwnersClaim, DbError> {
    Ok(in_tx!(db, |tx| {
        sqlx::query(CLAIM_ONE)
            .bind(id.as_str())
            .bind(now.millis())
            .execute(&mut *tx)
            .await?;
        let found: Option<(String, bool)> = sqlx::query_as(FIND_CLAIMED)
            .bind(id.as_str())
            .fetch_optional(&mut *tx)
            .await?;
        match found {
            Some((state, _)) if state == "deleting" => OwnersClaim::Claimed,
            Some((_, true)) => OwnersClaim::Held,
            _ => OwnersClaim::Gone,
        }
    }))
}

const CLAIM_ONE: &str = "UPDATE images SET state = 'deleting', reap_after_ms = $2 \
    WHERE id = $1 AND state = 'live' AND held_ms IS NULL";
const FIND_CLAIMED: &str = "SELECT state, held_ms IS NOT NULL FROM images WHERE id = $1";

/// Images that were claimed and whose object isn't known to be gone: whoever claimed them died, or the
/// store failed.
///
/// # Errors
/// [`DbError`].
pub async fn find_unfinished(db: &Db, now: Timestamp, most: u32) -> Result<Vec<ImageId>, DbError> {
    let rows: Vec<String> = on_db!(db, |pool| sqlx::query_scalar(FIND_UNFINISHED)
        .bind(now.millis())
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    parse(&rows)
}

const FIND_UNFINISHED: &str = "SELECT id FROM images WHERE state = 'deleting' \
    AND reap_after_ms <= $1 ORDER BY reap_after_ms LIMIT $2";

/// Gives up pending images that were made before `before` and that nothing will publish any more: their
/// reservation has passed, or their payment ended without them. How many there were.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn discard_lapsed(
    db: &Db,
    before: Timestamp,
    now: Timestamp,
    most: u32,
) -> Result<u64, DbError> {
    Ok(on_db!(db, |pool| sqlx::query(DISCARD_LAPSED)
        .bind(before.millis())
        .bind(now.millis())
        .bind(i64::from(most))
        .execute(pool)
        .await
        .map(|done| done.rows_affected()))?)
}

// The same as in COUNT_LAPSED.
const DISCARD_LAPSED: &str = "UPDATE images SET state = 'discarded', reserved_until_ms = NULL WHERE id IN \
    (SELECT i.id FROM images i WHERE i.state = 'pending' AND i.created_ms <= $1 \
    AND (i.reserved_until_ms <= $2 OR (i.reserved_until_ms IS NULL AND NOT EXISTS \
    (SELECT 1 FROM payments p WHERE p.id = i.payment_id AND p.image_id = i.id \
    AND p.state IN ('received', 'verified', 'settling', 'unknown')))) \
    ORDER BY i.created_ms LIMIT $3) AND state = 'pending'";

/// Images that were given up before `before` and whose object isn't known to be gone.
///
/// # Errors
/// [`DbError`].
pub async fn find_discarded(
    db: &Db,
    before: Timestamp,
    now: Timestamp,
    most: u32,
) -> Result<Vec<ImageId>, DbError> {
    let rows: Vec<String> = on_db!(db, |pool| sqlx::query_scalar(FIND_DISCARDED)
        .bind(before.millis())
        .bind(now.millis())
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    parse(&rows)
}

const FIND_DISCARDED: &str = "SELECT id FROM images WHERE state = 'discarded' AND deleted_ms IS NULL \
    AND created_ms <= $1 AND (reap_after_ms IS NULL OR reap_after_ms <= $2) \
    ORDER BY created_ms LIMIT $3";

/// Notes that the objects of these images are gone, in one transaction; for how many that was news.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn mark_gone(db: &Db, ids: &[ImageId], now: Timestamp) -> Result<u64, DbError> {
    let mut marked = 0;
    in_tx!(db, |tx| {
        for id in ids {
            marked += sqlx::query(MARK_GONE)
                .bind(id.as_str())
                .bind(now.millis())
                .execute(&mut *tx)
                .await?
                .rows_affected();
        }
    });
    Ok(marked)
}

const MARK_GONE: &str = "UPDATE images SET state = CASE state WHEN 'deleting' THEN 'deleted' ELSE state END, \
    deleted_ms = $2, reap_after_ms = NULL WHERE id = $1 \
    AND (state = 'deleting' OR (state = 'discarded' AND deleted_ms IS NULL))";

/// Puts images off whose objects the store wouldn't delete: half a minute, and longer each time, up to
/// an hour.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn put_off(db: &Db, ids: &[ImageId], now: Timestamp) -> Result<(), DbError> {
    in_tx!(db, |tx| {
        for id in ids {
            sqlx::query(PUT_OFF)
                .bind(id.as_str())
                .bind(now.millis())
                .execute(&mut *tx)
                .await?;
        }
    });
    Ok(())
}

const PUT_OFF: &str = "UPDATE images SET reap_failures = reap_failures + 1, reap_after_ms = $2 + \
    CASE WHEN reap_failures = 0 THEN 30000 WHEN reap_failures = 1 THEN 60000 \
    WHEN reap_failures = 2 THEN 120000 WHEN reap_failures = 3 THEN 300000 \
    WHEN reap_failures = 4 THEN 900000 ELSE 3600000 END \
    WHERE id = $1 AND (state = 'deleting' OR (state = 'discarded' AND deleted_ms IS NULL))";

/// What would go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Due {
    /// Images that have expired.
    pub expired: i64,
    /// Their bytes.
    pub expired_bytes: i64,
    /// Images that were claimed, and whose object isn't known to be gone.
    pub unfinished: i64,
    /// Pending images that nothing will publish any more.
    pub lapsed: i64,
    /// Images that were given up, and whose object isn't known to be gone.
    pub discarded: i64,
    /// Rows of images that are past the records' time.
    pub erasable: i64,
}

/// Counts what would go now: what was begun before `stale` and came to nothing, and rows whose object was
/// gone at `erase`.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn count_due(
    db: &Db,
    now: Timestamp,
    stale: Timestamp,
    erase: Timestamp,
) -> Result<Due, DbError> {
    Ok(on_db!(db, |pool| sqlx::query_as(COUNT_DUE)
        .bind(now.millis())
        .bind(stale.millis())
        .bind(erase.millis())
        .fetch_one(pool)
        .await)?)
}

const COUNT_DUE: &str = "SELECT \
    (SELECT COUNT(*) FROM images WHERE state = 'live' AND expires_ms IS NOT NULL AND expires_ms <= $1 \
    AND held_ms IS NULL) AS expired, \
    (SELECT CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT) FROM images WHERE state = 'live' \
    AND expires_ms IS NOT NULL AND expires_ms <= $1 AND held_ms IS NULL) AS expired_bytes, \
    (SELECT COUNT(*) FROM images WHERE state = 'deleting') AS unfinished, \
    (SELECT COUNT(*) FROM images i WHERE i.state = 'pending' AND i.created_ms <= $2 \
    AND (i.reserved_until_ms <= $1 OR (i.reserved_until_ms IS NULL AND NOT EXISTS \
    (SELECT 1 FROM payments p WHERE p.id = i.payment_id AND p.image_id = i.id \
    AND p.state IN ('received', 'verified', 'settling', 'unknown'))))) AS lapsed, \
    (SELECT COUNT(*) FROM images WHERE state = 'discarded' AND deleted_ms IS NULL \
    AND created_ms <= $2) AS discarded, \
    (SELECT COUNT(*) FROM images WHERE deleted_ms IS NOT NULL AND deleted_ms <= $3 \
    AND (payment_id IS NULL OR state = 'discarded')) AS erasable";

/// The images that expire first, of those that have expired: their ids and when they did.
///
/// # Errors
/// [`DbError`].
pub async fn find_expired(
    db: &Db,
    now: Timestamp,
    most: u32,
) -> Result<Vec<(String, i64)>, DbError> {
    Ok(on_db!(db, |pool| sqlx::query_as(FIND_EXPIRED)
        .bind(now.millis())
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?)
}

const FIND_EXPIRED: &str = "SELECT id, expires_ms FROM images WHERE state = 'live' \
    AND expires_ms IS NOT NULL AND expires_ms <= $1 AND held_ms IS NULL ORDER BY expires_ms LIMIT $2";

/// Erases rows of images whose objects were gone at `before`, where no grant counts them. How many.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn erase_images(db: &Db, before: Timestamp, most: u32) -> Result<u64, DbError> {
    Ok(on_db!(db, |pool| sqlx::query(ERASE_IMAGES)
        .bind(before.millis())
        .bind(i64::from(most))
        .execute(pool)
        .await
        .map(|done| done.rows_affected()))?)
}

const ERASE_IMAGES: &str = "DELETE FROM images WHERE id IN (SELECT id FROM images \
    WHERE deleted_ms IS NOT NULL AND deleted_ms <= $1 AND (payment_id IS NULL OR state = 'discarded') \
    ORDER BY deleted_ms LIMIT $2)";

/// Live images after `last`, in order of their ids, with their bytes' number.
///
/// # Errors
/// [`DbError`].
pub async fn page_live(db: &Db, last: &str, most: u32) -> Result<Vec<(ImageId, u64)>, DbError> {
    let rows: Vec<(String, i64)> = on_db!(db, |pool| sqlx::query_as(PAGE_LIVE)
        .bind(last)
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    rows.iter()
        .map(|(row, size)| {
            let field = Field {
                table: "images",
                row,
            };
            let id = field.with("id", ImageId::parse(row))?;
            Ok((id, field.count("size_bytes", *size)?))
        })
        .collect()
}

const PAGE_LIVE: &str =
    "SELECT id, size_bytes FROM images WHERE state = 'live' AND id > $1 ORDER BY id LIMIT $2";

/// Where an image stands, and whether its object was seen to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Where it stands.
    pub state: ImageState,
    /// Whether its object was seen to be gone.
    pub is_marked_gone: bool,
}

/// Where an image stands; `None`: it has no row.
///
/// # Errors
/// [`DbError`].
pub async fn find_state(db: &Db, id: &ImageId) -> Result<Option<Standing>, DbError> {
    let row: Option<(String, bool)> = on_db!(db, |pool| sqlx::query_as(FIND_STATE)
        .bind(id.as_str())
        .fetch_optional(pool)
        .await)?;
    let Some((state, is_marked_gone)) = row else {
        return Ok(None);
    };
    let field = Field {
        table: "images",
        row: id.as_str(),
    };
    let state = field.with("state", ImageState::parse(&state))?;
    Ok(Some(Standing {
        state,
        is_marked_gone,
    }))
}

const FIND_STATE: &str = "SELECT state, deleted_ms IS NOT NULL FROM images WHERE id = $1";

/// A payment whose records' time is over.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Erasable {
    /// The payment.
    pub id: String,
    /// The state that it must still be in.
    pub state: String,
    /// The transfer that settled it.
    pub transaction_hash: Option<String>,
    /// Who paid.
    pub payer: String,
    /// Who was paid.
    pub pay_to: String,
    /// How much.
    pub amount: String,
}

/// Payments that can be erased: they bought nothing and ended before `before`, or every image that they
/// bought was gone by then. A payment with uploads left, or owed, stays: it is somebody's money.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_erasable(
    db: &Db,
    before: Timestamp,
    most: u32,
) -> Result<Vec<Erasable>, DbError> {
    let mut found: Vec<Erasable> = Vec::new();
    for sql in [FIND_ERASABLE_UNPAID, FIND_ERASABLE_PAID] {
        let rows: Vec<Erasable> = on_db!(db, |pool| sqlx::query_as(sql)
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

const FIND_ERASABLE_PAID: &str = "SELECT DISTINCT p.id, p.state, p.transaction_hash, p.payer, p.pay_to, p.amount \
    FROM images d JOIN payments p ON p.id = d.payment_id JOIN grants g ON g.payment_id = p.id \
    WHERE d.state = 'deleted' AND d.payment_id IS NOT NULL AND d.deleted_ms <= $1 \
    AND p.state = 'settled' AND p.next_look_ms IS NULL AND p.owed IS NULL AND g.used >= g.uses \
    AND NOT EXISTS (SELECT 1 FROM images i WHERE i.payment_id = p.id \
    AND (i.deleted_ms IS NULL OR i.deleted_ms > $1)) LIMIT $2";

/// Erases a payment with all that hangs on it. A hash of its identity stays, and one of its transfer.
/// `false`: it moved.
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
        // Locks the row, and takes it from whoever still means to drive it.
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
            ERASE_PAID_IMAGES,
            ERASE_PAYMENT,
        ] {
            sqlx::query(sql).bind(&payment.id).execute(&mut *tx).await?;
        }
        true
    }))
}

const LOCK_PAYMENT: &str = "UPDATE payments SET attempt = attempt + 1 WHERE id = $1 AND state = $2 \
    AND lease_until_ms <= $3 AND next_look_ms IS NULL";
const REMEMBER: &str =
    "INSERT INTO erased_payments (id, transfer_hash, erased_ms) VALUES ($1, $2, $3)";
const ERASE_PROOFS: &str = "DELETE FROM payment_proofs WHERE payment_id = $1";
const ERASE_IDS: &str = "DELETE FROM payment_ids WHERE payment_id = $1";
const ERASE_GRANT: &str = "DELETE FROM grants WHERE payment_id = $1";
const ERASE_PAID_IMAGES: &str = "DELETE FROM images WHERE payment_id = $1";
const ERASE_PAYMENT: &str = "DELETE FROM payments WHERE id = $1";

/// Whether the records of this payment were erased: `Some(true)` when it had moved money to us.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_erased(db: &Db, id: &PaymentId) -> Result<Option<bool>, DbError> {
    Ok(on_db!(db, |pool| sqlx::query_scalar(FIND_ERASED)
        .bind(id.as_str())
        .fetch_optional(pool)
        .await)?)
}

const FIND_ERASED: &str = "SELECT transfer_hash IS NOT NULL FROM erased_payments WHERE id = $1";

/// Whether a transfer settled a payment whose records were erased.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn is_erased_transfer(db: &Db, hash: &str) -> Result<bool, DbError> {
    let found: Option<i64> = on_db!(db, |pool| sqlx::query_scalar(FIND_ERASED_TRANSFER)
        .bind(hash)
        .fetch_optional(pool)
        .await)?;
    Ok(found.is_some())
}

const FIND_ERASED_TRANSFER: &str =
    "SELECT erased_ms FROM erased_payments WHERE transfer_hash = $1 LIMIT 1";

/// A job, when it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Job {
    /// When it was last done, in milliseconds.
    pub ran_ms: Option<i64>,
    /// Until when it is done slowly.
    pub slow_until_ms: Option<i64>,
    /// Since when it is stopped.
    pub stopped_ms: Option<i64>,
}

/// Takes a job that nobody holds, or that is held by `holder` already, until `until`. `None`: somebody
/// else has it.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn take_job(
    db: &Db,
    name: &str,
    holder: &str,
    until: Timestamp,
    now: Timestamp,
) -> Result<Option<Job>, DbError> {
    Ok(on_db!(db, |pool| sqlx::query_as(TAKE_JOB)
        .bind(name)
        .bind(holder)
        .bind(until.millis())
        .bind(now.millis())
        .fetch_optional(pool)
        .await)?)
}

// A lease that ends in a far future was written by a clock that has been set right since.
const TAKE_JOB: &str = "INSERT INTO jobs (name, holder, until_ms) VALUES ($1, $2, $3) \
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_ms = excluded.until_ms \
    WHERE jobs.until_ms <= $4 OR jobs.holder = excluded.holder OR jobs.until_ms > $4 + 3600000 \
    RETURNING ran_ms, slow_until_ms, stopped_ms";

/// Notes that a job was done at `ran`, and until when it goes on slowly.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn note_run(
    db: &Db,
    name: &str,
    ran: Timestamp,
    slow_until: Option<Timestamp>,
) -> Result<(), DbError> {
    on_db!(db, |pool| sqlx::query(NOTE_RUN)
        .bind(name)
        .bind(ran.millis())
        .bind(slow_until.map(Timestamp::millis))
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const NOTE_RUN: &str = "UPDATE jobs SET ran_ms = $2, slow_until_ms = $3 WHERE name = $1";

/// Gives a job back.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn return_job(db: &Db, name: &str, holder: &str) -> Result<(), DbError> {
    on_db!(db, |pool| sqlx::query(RETURN_JOB)
        .bind(name)
        .bind(holder)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const RETURN_JOB: &str = "UPDATE jobs SET until_ms = 0 WHERE name = $1 AND holder = $2";

/// Stops a job until a person says that it may go on.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn stop_job(db: &Db, name: &str, now: Timestamp) -> Result<(), DbError> {
    on_db!(db, |pool| sqlx::query(STOP_JOB)
        .bind(name)
        .bind(now.millis())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const STOP_JOB: &str = "INSERT INTO jobs (name, holder, until_ms, stopped_ms) VALUES ($1, '', 0, $2) \
    ON CONFLICT (name) DO UPDATE SET stopped_ms = excluded.stopped_ms";

/// Lets a job go on, at full speed.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn resume_job(db: &Db, name: &str, now: Timestamp) -> Result<(), DbError> {
    on_db!(db, |pool| sqlx::query(RESUME_JOB)
        .bind(name)
        .bind(now.millis())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const RESUME_JOB: &str =
    "UPDATE jobs SET stopped_ms = NULL, slow_until_ms = NULL, ran_ms = $2 WHERE name = $1";

/// Ends every lease of a job. Only for a database that no other server uses: whoever held them is gone.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn return_all_jobs(db: &Db) -> Result<(), DbError> {
    on_db!(db, |pool| sqlx::query(RETURN_ALL_JOBS)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const RETURN_ALL_JOBS: &str = "UPDATE jobs SET until_ms = 0 WHERE until_ms > 0";

fn parse(rows: &[String]) -> Result<Vec<ImageId>, DbError> {
    rows.iter()
        .map(|row| {
            let field = Field {
                table: "images",
                row,
            };
            field.with("id", ImageId::parse(row))
        })
        .collect()
}

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("retention::CLAIM_EXPIRED", CLAIM_EXPIRED),
    ("retention::CLAIM_ONE", CLAIM_ONE),
    ("retention::FIND_CLAIMED", FIND_CLAIMED),
    ("retention::FIND_UNFINISHED", FIND_UNFINISHED),
    ("retention::DISCARD_LAPSED", DISCARD_LAPSED),
    ("retention::FIND_DISCARDED", FIND_DISCARDED),
    ("retention::MARK_GONE", MARK_GONE),
    ("retention::PUT_OFF", PUT_OFF),
    ("retention::COUNT_DUE", COUNT_DUE),
    ("retention::FIND_EXPIRED", FIND_EXPIRED),
    ("retention::PAGE_LIVE", PAGE_LIVE),
    ("retention::FIND_STATE", FIND_STATE),
    ("retention::ERASE_IMAGES", ERASE_IMAGES),
    ("retention::FIND_ERASABLE_UNPAID", FIND_ERASABLE_UNPAID),
    ("retention::FIND_ERASABLE_PAID", FIND_ERASABLE_PAID),
    ("retention::LOCK_PAYMENT", LOCK_PAYMENT),
    ("retention::REMEMBER", REMEMBER),
    ("retention::ERASE_PROOFS", ERASE_PROOFS),
    ("retention::ERASE_IDS", ERASE_IDS),
    ("retention::ERASE_GRANT", ERASE_GRANT),
    ("retention::ERASE_PAID_IMAGES", ERASE_PAID_IMAGES),
    ("retention::ERASE_PAYMENT", ERASE_PAYMENT),
    ("retention::FIND_ERASED", FIND_ERASED),
    ("retention::FIND_ERASED_TRANSFER", FIND_ERASED_TRANSFER),
    ("retention::TAKE_JOB", TAKE_JOB),
    ("retention::NOTE_RUN", NOTE_RUN),
    ("retention::RETURN_JOB", RETURN_JOB),
    ("retention::STOP_JOB", STOP_JOB),
    ("retention::RESUME_JOB", RESUME_JOB),
    ("retention::RETURN_ALL_JOBS", RETURN_ALL_JOBS),
];
