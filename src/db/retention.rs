//! Queries for what the reaper deletes: objects of images, and rows of images.
//!
//! An image is deleted in two steps. It is claimed (state `deleting`), and from then on no server
//! serves it. After its object is gone, the row is marked. A claim is never undone.

use super::purges::ask_purge;
use super::rows::{Field, ImageRow, image_columns, signed};
use super::{Db, DbError, from_row, in_tx, read_db, write_db};
use crate::model::ids::ImageId;
use crate::model::image::{Image, ImageState};
use crate::system::clock::Timestamp;

/// Claims expired images, oldest first, at most `most`.
///
/// # Errors
/// [`DbError`].
pub async fn claim_expired(db: &Db, now: Timestamp, most: u32) -> Result<Vec<ImageId>, DbError> {
    let sql = db.pick(CLAIM_EXPIRED_SQLITE, CLAIM_EXPIRED_POSTGRES);
    let rows: Vec<String> = write_db!(db, |pool| sqlx::query_scalar(sql)
        .bind(now.millis())
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    parse(&rows)
}

type Sql = &'static str;

// Finds a batch of rows, then changes them. PostgreSQL skips rows that another transaction has
// locked, such as a renewal or an owner's delete. Waiting for each in turn could end in a deadlock.
// SQLite has one writer and no such clause.
macro_rules! batch {
    ($(#[$meta:meta])* $sqlite:ident, $postgres:ident, $found:literal, $lock:literal, $change:literal) => {
        $(#[$meta])*
        const $sqlite: Sql = concat!("WITH due AS (", $found, ") ", $change);
        $(#[$meta])*
        const $postgres: Sql =
            concat!("WITH due AS MATERIALIZED (", $found, " ", $lock, ") ", $change);
    };
}

batch!(
    /// The outer conditions are tested again: the expiry may change between finding a row and
    /// changing it.
    CLAIM_EXPIRED_SQLITE,
    CLAIM_EXPIRED_POSTGRES,
    "SELECT id FROM images WHERE state = 'live' AND expires_ms IS NOT NULL AND expires_ms <= $1 \
     AND held_ms IS NULL AND renewing = 0 ORDER BY expires_ms LIMIT $2",
    "FOR UPDATE SKIP LOCKED",
    "UPDATE images SET state = 'deleting', reap_after_ms = $1 WHERE id IN (SELECT id FROM due) \
     AND state = 'live' AND expires_ms <= $1 AND held_ms IS NULL AND renewing = 0 RETURNING id"
);

/// Claims removed images that expired, or were removed at `removed` or earlier, at most `most`.
///
/// # Errors
/// [`DbError`].
pub async fn claim_removed(
    db: &Db,
    now: Timestamp,
    removed: Timestamp,
    most: u32,
) -> Result<Vec<ImageId>, DbError> {
    let sql = db.pick(CLAIM_REMOVED_SQLITE, CLAIM_REMOVED_POSTGRES);
    let rows: Vec<String> = write_db!(db, |pool| sqlx::query_scalar(sql)
        .bind(now.millis())
        .bind(i64::from(most))
        .bind(removed.millis())
        .fetch_all(pool)
        .await)?;
    parse(&rows)
}

batch!(
    /// An image that was removed before it was published counts as an upload that failed.
    CLAIM_REMOVED_SQLITE,
    CLAIM_REMOVED_POSTGRES,
    "SELECT id FROM images WHERE state = 'removed' AND held_ms IS NULL AND renewing = 0 \
     AND (expires_ms <= $1 OR EXISTS (SELECT 1 FROM removals r WHERE r.image_id = images.id \
     AND r.removed_ms <= $3)) ORDER BY id LIMIT $2",
    "FOR UPDATE OF images SKIP LOCKED",
    "UPDATE images SET state = CASE WHEN published_ms IS NULL THEN 'discarded' ELSE 'deleting' END, \
     reap_after_ms = $1 WHERE id IN (SELECT id FROM due) \
     AND state = 'removed' AND held_ms IS NULL AND renewing = 0 RETURNING id"
);

/// The outcome of an owner's request to delete an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnersClaim {
    /// The image is claimed: its object can be deleted now.
    Claimed,
    /// The image is deleted already, or never existed.
    Gone,
    /// The image is held for a reason that is not the owner's, such as a review.
    Held,
    /// A payment for its renewal is under way.
    Renewing,
}

/// Claims an image for its owner's request to delete it. `is_cached`: a CDN may have it, and has to
/// drop it.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn claim_for_owner(
    db: &Db,
    id: &ImageId,
    is_cached: bool,
    now: Timestamp,
) -> Result<OwnersClaim, DbError> {
    Ok(in_tx!(db, |tx| {
        let claimed: Option<String> = sqlx::query_scalar(CLAIM_ONE)
            .bind(id.as_str())
            .bind(now.millis())
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(format) = claimed.filter(|_| is_cached) {
            ask_purge!(tx, id, &format, now);
        }
        let found: Option<(String, bool)> = sqlx::query_as(FIND_CLAIMED)
            .bind(id.as_str())
            .fetch_optional(&mut *tx)
            .await?;
        match found {
            Some((state, ..)) if state == "deleting" => OwnersClaim::Claimed,
            Some((_, true)) => OwnersClaim::Held,
            // It may have been renewing when the claim was tried: PostgreSQL shows changes that
            // were committed since.
            Some((state, ..)) if state == "live" || state == "removed" => OwnersClaim::Renewing,
            _ => OwnersClaim::Gone,
        }
    }))
}

const CLAIM_ONE: &str = "UPDATE images SET state = 'deleting', reap_after_ms = $2 \
    WHERE id = $1 AND (state = 'live' OR (state = 'removed' AND published_ms IS NOT NULL)) \
    AND held_ms IS NULL AND renewing = 0 RETURNING format";
const FIND_CLAIMED: &str = "SELECT state, held_ms IS NOT NULL FROM images WHERE id = $1";

/// Finds claimed images whose object isn't known to be gone: the process that claimed them stopped,
/// or the store failed.
///
/// # Errors
/// [`DbError`].
pub async fn find_unfinished(db: &Db, now: Timestamp, most: u32) -> Result<Vec<ImageId>, DbError> {
    let rows: Vec<String> = read_db!(db, |pool| sqlx::query_scalar(FIND_UNFINISHED)
        .bind(now.millis())
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    parse(&rows)
}

// No image is postponed by two hours. A later time was written by a wrong clock that was corrected
// since.
const FIND_UNFINISHED: &str = "SELECT id FROM images WHERE state = 'deleting' \
    AND (reap_after_ms <= $1 OR reap_after_ms > $1 + 7200000) ORDER BY reap_after_ms LIMIT $2";

/// Gives up pending images that were made before `before` and can't be published any more: their
/// reservation expired, or their payment ended without them. Returns their number.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn discard_lapsed(
    db: &Db,
    before: Timestamp,
    now: Timestamp,
    most: u32,
) -> Result<u64, DbError> {
    let sql = db.pick(DISCARD_LAPSED_SQLITE, DISCARD_LAPSED_POSTGRES);
    Ok(write_db!(db, |pool| sqlx::query(sql)
        .bind(before.millis())
        .bind(now.millis())
        .bind(i64::from(most))
        .execute(pool)
        .await
        .map(|done| done.rows_affected()))?)
}

batch!(
    /// The same conditions as in `COUNT_DUE`.
    DISCARD_LAPSED_SQLITE,
    DISCARD_LAPSED_POSTGRES,
    "SELECT i.id FROM images i WHERE i.state = 'pending' AND i.created_ms <= $1 \
     AND (i.reserved_until_ms <= $2 OR (i.reserved_until_ms IS NULL AND NOT EXISTS \
     (SELECT 1 FROM payments p WHERE p.id = i.payment_id AND p.image_id = i.id \
     AND p.state IN ('received', 'verified', 'settling', 'unknown')))) \
     ORDER BY i.created_ms LIMIT $3",
    "FOR UPDATE OF i SKIP LOCKED",
    "UPDATE images SET state = 'discarded', reserved_until_ms = NULL WHERE id IN (SELECT id FROM due) \
     AND state = 'pending'"
);

/// Finds images that were given up before `before` and whose object isn't known to be gone.
///
/// # Errors
/// [`DbError`].
pub async fn find_discarded(
    db: &Db,
    before: Timestamp,
    now: Timestamp,
    most: u32,
) -> Result<Vec<ImageId>, DbError> {
    let rows: Vec<String> = read_db!(db, |pool| sqlx::query_scalar(FIND_DISCARDED)
        .bind(before.millis())
        .bind(now.millis())
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    parse(&rows)
}

const FIND_DISCARDED: &str = "SELECT id FROM images WHERE state = 'discarded' AND deleted_ms IS NULL \
    AND created_ms <= $1 AND (reap_after_ms IS NULL OR reap_after_ms <= $2 \
    OR reap_after_ms > $2 + 7200000) \
    ORDER BY created_ms LIMIT $3";

// A list of ids as one parameter: all ids have the same length, `$1` is their concatenation and
// `$2` their number. Arrays or JSON would need a different SQL text for each database.
macro_rules! of_listed {
    ($sql:literal) => {
        concat!(
            "WITH RECURSIVE places(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM places WHERE n + 1 < $2), \
             listed(id) AS (SELECT substr($1, n * 12 + 1, 12) FROM places) ",
            $sql
        )
    };
}

pub(super) use of_listed;

pub(super) fn listed(ids: &[ImageId]) -> (String, i64) {
    (ids.iter().map(ImageId::as_str).collect(), signed(ids.len()))
}

/// Records that the objects of these images are gone. Returns for how many this was not recorded
/// before.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn mark_gone(db: &Db, ids: &[ImageId], now: Timestamp) -> Result<u64, DbError> {
    if ids.is_empty() {
        return Ok(0);
    }
    let (list, count) = listed(ids);
    Ok(write_db!(db, |pool| sqlx::query(MARK_GONE)
        .bind(&list)
        .bind(count)
        .bind(now.millis())
        .execute(pool)
        .await
        .map(|done| done.rows_affected()))?)
}

const MARK_GONE: &str = of_listed!(
    "UPDATE images SET state = CASE state WHEN 'deleting' THEN 'deleted' ELSE state END, \
     deleted_ms = $3, reap_after_ms = NULL WHERE id IN (SELECT id FROM listed) \
     AND (state = 'deleting' OR (state = 'discarded' AND deleted_ms IS NULL))"
);

/// Postpones images whose objects the store failed to delete: by half a minute at first, then
/// longer each time, up to an hour.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn put_off(db: &Db, ids: &[ImageId], now: Timestamp) -> Result<(), DbError> {
    if ids.is_empty() {
        return Ok(());
    }
    let (list, count) = listed(ids);
    write_db!(db, |pool| sqlx::query(PUT_OFF)
        .bind(&list)
        .bind(count)
        .bind(now.millis())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const PUT_OFF: &str = of_listed!(
    "UPDATE images SET reap_failures = reap_failures + 1, reap_after_ms = $3 + \
     CASE WHEN reap_failures = 0 THEN 30000 WHEN reap_failures = 1 THEN 60000 \
     WHEN reap_failures = 2 THEN 120000 WHEN reap_failures = 3 THEN 300000 \
     WHEN reap_failures = 4 THEN 900000 ELSE 3600000 END \
     WHERE id IN (SELECT id FROM listed) \
     AND (state = 'deleting' OR (state = 'discarded' AND deleted_ms IS NULL))"
);

/// What the reaper would delete now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The number of expired images.
    pub expired: i64,
    /// The total size of those images.
    pub expired_bytes: i64,
    /// The number of claimed images whose object isn't known to be gone.
    pub unfinished: i64,
    /// The number of pending images that can't be published any more.
    pub lapsed: i64,
    /// The number of images that were given up and whose object isn't known to be gone.
    pub discarded: i64,
    /// The number of image rows that are older than the retention time of records.
    pub erasable: i64,
}
from_row!(Due: expired, expired_bytes, unfinished, lapsed, discarded, erasable);

/// Counts what the reaper would delete now: unfinished uploads begun before `stale`, and rows whose
/// object was gone at `erase`.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn count_due(
    db: &Db,
    now: Timestamp,
    stale: Timestamp,
    erase: Timestamp,
) -> Result<Due, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(COUNT_DUE)
        .bind(now.millis())
        .bind(stale.millis())
        .bind(erase.millis())
        .fetch_one(pool)
        .await)?)
}

const COUNT_DUE: &str = "SELECT \
    (SELECT COUNT(*) FROM images WHERE state = 'live' AND expires_ms IS NOT NULL AND expires_ms <= $1 \
    AND held_ms IS NULL AND renewing = 0) AS expired, \
    (SELECT CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT) FROM images WHERE state = 'live' \
    AND expires_ms IS NOT NULL AND expires_ms <= $1 AND held_ms IS NULL AND renewing = 0) AS expired_bytes, \
    (SELECT COUNT(*) FROM images WHERE state = 'deleting') AS unfinished, \
    (SELECT COUNT(*) FROM images i WHERE i.state = 'pending' AND i.created_ms <= $2 \
    AND (i.reserved_until_ms <= $1 OR (i.reserved_until_ms IS NULL AND NOT EXISTS \
    (SELECT 1 FROM payments p WHERE p.id = i.payment_id AND p.image_id = i.id \
    AND p.state IN ('received', 'verified', 'settling', 'unknown'))))) AS lapsed, \
    (SELECT COUNT(*) FROM images WHERE state = 'discarded' AND deleted_ms IS NULL \
    AND created_ms <= $2) AS discarded, \
    (SELECT COUNT(*) FROM images WHERE deleted_ms IS NOT NULL AND deleted_ms <= $3 \
    AND (payment_id IS NULL OR state = 'discarded')) AS erasable";

/// Whether the database has neither images nor payments, so that nothing can be due.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn is_empty(db: &Db) -> Result<bool, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_scalar(IS_EMPTY)
        .fetch_one(pool)
        .await)?)
}

const IS_EMPTY: &str =
    "SELECT NOT EXISTS (SELECT 1 FROM images) AND NOT EXISTS (SELECT 1 FROM payments)";

/// Lists the expired images that expired first: their ids and expiry times.
///
/// # Errors
/// [`DbError`].
pub async fn find_expired(
    db: &Db,
    now: Timestamp,
    most: u32,
) -> Result<Vec<(String, i64)>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(FIND_EXPIRED)
        .bind(now.millis())
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?)
}

const FIND_EXPIRED: &str = "SELECT id, expires_ms FROM images WHERE state = 'live' \
    AND expires_ms IS NOT NULL AND expires_ms <= $1 AND held_ms IS NULL AND renewing = 0 \
    ORDER BY expires_ms LIMIT $2";

/// Erases rows of images whose objects were gone at `before`, unless a grant counts them. Returns
/// their number.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn erase_images(db: &Db, before: Timestamp, most: u32) -> Result<u64, DbError> {
    let sql = db.pick(ERASE_IMAGES_SQLITE, ERASE_IMAGES_POSTGRES);
    Ok(write_db!(db, |pool| sqlx::query(sql)
        .bind(before.millis())
        .bind(i64::from(most))
        .execute(pool)
        .await
        .map(|done| done.rows_affected()))?)
}

batch!(
    ERASE_IMAGES_SQLITE,
    ERASE_IMAGES_POSTGRES,
    "SELECT id FROM images WHERE deleted_ms IS NOT NULL AND deleted_ms <= $1 \
     AND (payment_id IS NULL OR state = 'discarded') \
     AND NOT EXISTS (SELECT 1 FROM renewals r WHERE r.image_id = images.id) ORDER BY deleted_ms LIMIT $2",
    "FOR UPDATE OF images SKIP LOCKED",
    "DELETE FROM images WHERE id IN (SELECT id FROM due)"
);

/// Returns live images after `last`, in order of id, at most `most`.
///
/// # Errors
/// [`DbError`].
pub async fn page_live(db: &Db, last: &str, most: u32) -> Result<Vec<Image>, DbError> {
    let rows: Vec<ImageRow> = read_db!(db, |pool| sqlx::query_as(PAGE_LIVE)
        .bind(last)
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Image::try_from).collect()
}

const PAGE_LIVE: &str = concat!(
    "SELECT ",
    image_columns!(),
    " FROM images WHERE state = 'live' AND id > $1 ORDER BY id LIMIT $2"
);

/// The state of an image's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowState {
    /// The image's state.
    pub state: ImageState,
    /// Whether its object was recorded to be gone.
    pub is_marked_gone: bool,
}

/// Finds the state of an image; `None`: it has no row.
///
/// # Errors
/// [`DbError`].
pub async fn find_state(db: &Db, id: &ImageId) -> Result<Option<RowState>, DbError> {
    let row: Option<(String, bool)> = read_db!(db, |pool| sqlx::query_as(FIND_STATE)
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
    Ok(Some(RowState {
        state,
        is_marked_gone,
    }))
}

const FIND_STATE: &str = "SELECT state, deleted_ms IS NOT NULL FROM images WHERE id = $1";

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
    ("retention::CLAIM_EXPIRED_SQLITE", CLAIM_EXPIRED_SQLITE),
    ("retention::CLAIM_EXPIRED_POSTGRES", CLAIM_EXPIRED_POSTGRES),
    ("retention::CLAIM_REMOVED_SQLITE", CLAIM_REMOVED_SQLITE),
    ("retention::CLAIM_REMOVED_POSTGRES", CLAIM_REMOVED_POSTGRES),
    ("retention::CLAIM_ONE", CLAIM_ONE),
    ("retention::FIND_CLAIMED", FIND_CLAIMED),
    ("retention::FIND_UNFINISHED", FIND_UNFINISHED),
    ("retention::DISCARD_LAPSED_SQLITE", DISCARD_LAPSED_SQLITE),
    (
        "retention::DISCARD_LAPSED_POSTGRES",
        DISCARD_LAPSED_POSTGRES,
    ),
    ("retention::FIND_DISCARDED", FIND_DISCARDED),
    ("retention::MARK_GONE", MARK_GONE),
    ("retention::PUT_OFF", PUT_OFF),
    ("retention::COUNT_DUE", COUNT_DUE),
    ("retention::IS_EMPTY", IS_EMPTY),
    ("retention::FIND_EXPIRED", FIND_EXPIRED),
    ("retention::ERASE_IMAGES_SQLITE", ERASE_IMAGES_SQLITE),
    ("retention::ERASE_IMAGES_POSTGRES", ERASE_IMAGES_POSTGRES),
    ("retention::PAGE_LIVE", PAGE_LIVE),
    ("retention::FIND_STATE", FIND_STATE),
];
