//! What is due to disappear: objects of images, and rows of images.
//!
//! An image goes in two moves: it is claimed (`deleting`, served to nobody any more), and after its
//! object is gone it is marked. What is claimed is never given back.

use super::rows::{Field, ImageRow, image_columns, signed};
use super::{Db, DbError, in_tx, on_db};
use crate::clock::Timestamp;
use crate::ids::ImageId;
use crate::model::image::{Image, ImageState};

/// Claims images that have expired, oldest first.
///
/// # Errors
/// [`DbError`].
pub async fn claim_expired(db: &Db, now: Timestamp, most: u32) -> Result<Vec<ImageId>, DbError> {
    let sql = db.pick(CLAIM_EXPIRED_SQLITE, CLAIM_EXPIRED_POSTGRES);
    let rows: Vec<String> = on_db!(db, |pool| sqlx::query_scalar(sql)
        .bind(now.millis())
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    parse(&rows)
}

type Sql = &'static str;

// A batch of rows that is found, then changed. PostgreSQL passes over rows that another transaction holds just
// now: it would wait for each in turn, a renewal's or an owner's, and could wait for one that waits for it.
// SQLite has one writer, so there is nothing to pass over, and doesn't know the words.
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
    /// The outer conditions look again: between finding a row and changing it, its expiry may move.
    CLAIM_EXPIRED_SQLITE,
    CLAIM_EXPIRED_POSTGRES,
    "SELECT id FROM images WHERE state = 'live' AND expires_ms IS NOT NULL AND expires_ms <= $1 \
     AND held_ms IS NULL AND renewing = 0 ORDER BY expires_ms LIMIT $2",
    "FOR UPDATE SKIP LOCKED",
    "UPDATE images SET state = 'deleting', reap_after_ms = $1 WHERE id IN (SELECT id FROM due) \
     AND state = 'live' AND expires_ms <= $1 AND held_ms IS NULL AND renewing = 0 RETURNING id"
);

/// How an image stands to being deleted by its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnersClaim {
    /// Its object is to be deleted now.
    Claimed,
    /// There is nothing left of it, or there never was.
    Gone,
    /// It is kept for a reason that is not its owner's.
    Held,
    /// A payment for more time is on its way to it.
    Renewing,
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
            Some((state, ..)) if state == "deleting" => OwnersClaim::Claimed,
            Some((_, true)) => OwnersClaim::Held,
            // Or it was a moment ago, when the claim was tried: PostgreSQL shows what was committed since.
            Some((state, ..)) if state == "live" => OwnersClaim::Renewing,
            _ => OwnersClaim::Gone,
        }
    }))
}

const CLAIM_ONE: &str = "UPDATE images SET state = 'deleting', reap_after_ms = $2 \
    WHERE id = $1 AND state = 'live' AND held_ms IS NULL AND renewing = 0";
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

// Nothing is put off for two hours: what is was claimed by a clock that has been set right since.
const FIND_UNFINISHED: &str = "SELECT id FROM images WHERE state = 'deleting' \
    AND (reap_after_ms <= $1 OR reap_after_ms > $1 + 7200000) ORDER BY reap_after_ms LIMIT $2";

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
    let sql = db.pick(DISCARD_LAPSED_SQLITE, DISCARD_LAPSED_POSTGRES);
    Ok(on_db!(db, |pool| sqlx::query(sql)
        .bind(before.millis())
        .bind(now.millis())
        .bind(i64::from(most))
        .execute(pool)
        .await
        .map(|done| done.rows_affected()))?)
}

batch!(
    /// The same as in `COUNT_DUE`.
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
    AND created_ms <= $1 AND (reap_after_ms IS NULL OR reap_after_ms <= $2 \
    OR reap_after_ms > $2 + 7200000) \
    ORDER BY created_ms LIMIT $3";

// A list of ids as one parameter: they are all of one length and stand in $1 one after another, $2 of
// them. Arrays and JSON would need a text for each database.
macro_rules! of_listed {
    ($sql:literal) => {
        concat!(
            "WITH RECURSIVE places(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM places WHERE n + 1 < $2), \
             listed(id) AS (SELECT substr($1, n * 12 + 1, 12) FROM places) ",
            $sql
        )
    };
}

fn listed(ids: &[ImageId]) -> (String, i64) {
    (ids.iter().map(ImageId::as_str).collect(), signed(ids.len()))
}

/// Notes that the objects of these images are gone; for how many that was news.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn mark_gone(db: &Db, ids: &[ImageId], now: Timestamp) -> Result<u64, DbError> {
    if ids.is_empty() {
        return Ok(0);
    }
    let (list, count) = listed(ids);
    Ok(on_db!(db, |pool| sqlx::query(MARK_GONE)
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

/// Puts images off whose objects the store wouldn't delete: half a minute, and longer each time, up to
/// an hour.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn put_off(db: &Db, ids: &[ImageId], now: Timestamp) -> Result<(), DbError> {
    if ids.is_empty() {
        return Ok(());
    }
    let (list, count) = listed(ids);
    on_db!(db, |pool| sqlx::query(PUT_OFF)
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

/// Whether the database has neither images nor records of payments, so that nothing in it can be due.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn is_empty(db: &Db) -> Result<bool, DbError> {
    Ok(on_db!(db, |pool| sqlx::query_scalar(IS_EMPTY)
        .fetch_one(pool)
        .await)?)
}

const IS_EMPTY: &str = "SELECT NOT EXISTS (SELECT 1 FROM images) AND NOT EXISTS (SELECT 1 FROM payments) \
    AND NOT EXISTS (SELECT 1 FROM credits)";

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
    AND expires_ms IS NOT NULL AND expires_ms <= $1 AND held_ms IS NULL AND renewing = 0 \
    ORDER BY expires_ms LIMIT $2";

/// Erases rows of images whose objects were gone at `before`, where no grant counts them. How many.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn erase_images(db: &Db, before: Timestamp, most: u32) -> Result<u64, DbError> {
    let sql = db.pick(ERASE_IMAGES_SQLITE, ERASE_IMAGES_POSTGRES);
    Ok(on_db!(db, |pool| sqlx::query(sql)
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

/// Live images after `last`, in order of their ids.
///
/// # Errors
/// [`DbError`].
pub async fn page_live(db: &Db, last: &str, most: u32) -> Result<Vec<Image>, DbError> {
    let rows: Vec<ImageRow> = on_db!(db, |pool| sqlx::query_as(PAGE_LIVE)
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
