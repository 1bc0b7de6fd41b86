//! Images that the CDN has to drop from its caches: a queue of jobs. The server that takes a job has
//! it to itself until the job's next time; a server that dies leaves it to the next.

use std::time::Duration;

use super::rows::signed;
use super::{Db, DbError, from_row, read_db, write_db};
use crate::model::ids::ImageId;
use crate::system::clock::Timestamp;

/// Asks for a purge inside an open transaction. A purge that is under way runs once more.
macro_rules! ask_purge {
    ($tx:ident, $id:expr, $format:expr, $now:expr) => {{
        let extension = $crate::model::image::Format::parse($format)
            .map_or($format.as_str(), |format| format.extension());
        sqlx::query($crate::db::purges::ASK)
            .bind($id.as_str())
            .bind(format!("{}.{extension}", $id))
            .bind($now.millis())
            .execute(&mut *$tx)
            .await?;
    }};
}

pub(crate) use ask_purge;

pub(crate) const ASK: &str = "INSERT INTO purges (image_id, file_name, asked_ms, next_ms) VALUES ($1, $2, $3, $3) \
    ON CONFLICT (image_id) DO UPDATE SET asked_ms = excluded.asked_ms, next_ms = excluded.next_ms, \
    tries = 0, purged_ms = NULL, problem = NULL";

/// A purge that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// The image's id.
    pub image_id: String,
    /// The last part of the image's link.
    pub file_name: String,
    /// When the purge was asked for, in milliseconds since the Unix epoch.
    pub asked_ms: i64,
    /// When the CDN is next asked, in the same unit; `None`: it has confirmed the purge.
    pub next_ms: Option<i64>,
    /// How often the CDN was asked.
    pub tries: i64,
    /// When the CDN confirmed, in the same unit.
    pub purged_ms: Option<i64>,
    /// Why the last try failed.
    pub problem: Option<String>,
}
from_row!(Purge: image_id, file_name, asked_ms, next_ms, tries, purged_ms, problem);

/// Takes purges that are due, oldest first, at most `most`. Nobody else takes them for `lease`.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn take_due(
    db: &Db,
    now: Timestamp,
    lease: Duration,
    most: u32,
) -> Result<Vec<Purge>, DbError> {
    let sql = db.pick(TAKE_DUE_SQLITE, TAKE_DUE_POSTGRES);
    Ok(write_db!(db, |pool| sqlx::query_as(sql)
        .bind(now.millis())
        .bind(now.plus(lease).millis())
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?)
}

type Sql = &'static str;

macro_rules! take_due {
    ($lock:literal) => {
        concat!(
            "UPDATE purges SET next_ms = $2, tries = tries + 1 WHERE image_id IN \
             (SELECT image_id FROM purges WHERE next_ms <= $1 ORDER BY next_ms LIMIT $3 ",
            $lock,
            ") RETURNING image_id, file_name, asked_ms, next_ms, tries, purged_ms, problem"
        )
    };
}
const TAKE_DUE_SQLITE: Sql = take_due!("");
const TAKE_DUE_POSTGRES: Sql = take_due!("FOR UPDATE SKIP LOCKED");

/// Whether a purge waits to be done. Costs one look at an index, where nothing waits.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn is_due(db: &Db, now: Timestamp) -> Result<bool, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_scalar(IS_DUE)
        .bind(now.millis())
        .fetch_one(pool)
        .await)?)
}

const IS_DUE: &str = "SELECT EXISTS (SELECT 1 FROM purges WHERE next_ms <= $1)";

/// Records that the CDN confirmed a purge. Changes nothing if it was asked for again since.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn note_purged(db: &Db, purge: &Purge, now: Timestamp) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(NOTE_PURGED)
        .bind(&purge.image_id)
        .bind(purge.asked_ms)
        .bind(now.millis())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const NOTE_PURGED: &str = "UPDATE purges SET next_ms = NULL, purged_ms = $3, problem = NULL \
    WHERE image_id = $1 AND asked_ms = $2";

/// Records why a try failed, and when to try again. Changes nothing if the purge was asked for again
/// since.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn note_problem(
    db: &Db,
    purge: &Purge,
    problem: &str,
    next: Timestamp,
) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(NOTE_PROBLEM)
        .bind(&purge.image_id)
        .bind(purge.asked_ms)
        .bind(problem)
        .bind(next.millis())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const NOTE_PROBLEM: &str = "UPDATE purges SET problem = $3, next_ms = $4 \
    WHERE image_id = $1 AND asked_ms = $2 AND purged_ms IS NULL";

/// Finds the newest purge of an image.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find(db: &Db, id: &ImageId) -> Result<Option<Purge>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(FIND)
        .bind(id.as_str())
        .fetch_optional(pool)
        .await)?)
}

const FIND: &str = "SELECT image_id, file_name, asked_ms, next_ms, tries, purged_ms, problem \
    FROM purges WHERE image_id = $1";

/// Erases purges that the CDN confirmed before `before`, at most `most`.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn forget_purged(db: &Db, before: Timestamp, most: u32) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(FORGET_PURGED)
        .bind(before.millis())
        .bind(signed(most))
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const FORGET_PURGED: &str = "DELETE FROM purges WHERE image_id IN (SELECT image_id FROM purges \
    WHERE next_ms IS NULL AND purged_ms < $1 LIMIT $2)";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("purges::ASK", ASK),
    ("purges::TAKE_DUE_SQLITE", TAKE_DUE_SQLITE),
    ("purges::TAKE_DUE_POSTGRES", TAKE_DUE_POSTGRES),
    ("purges::IS_DUE", IS_DUE),
    ("purges::NOTE_PURGED", NOTE_PURGED),
    ("purges::NOTE_PROBLEM", NOTE_PROBLEM),
    ("purges::FIND", FIND),
    ("purges::FORGET_PURGED", FORGET_PURGED),
];
