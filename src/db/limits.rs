//! Limits that replicas share: request rates of each address, and the daily count of free uploads.

use std::time::Duration;

use super::rows::signed;
use super::uses::{Through, count_free_use};
use super::{Db, DbError, in_tx, read_db, write_db};
use crate::model::image::Image;
use crate::system::clock::Timestamp;

/// A rate limit in the generic cell rate algorithm: `period / step` requests at once, then one each
/// `step`.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The name of the rate limit.
    pub kind: &'static str,
    /// The time in which the whole rate is restored, in microseconds.
    pub period_us: i64,
    /// The time in which one request is restored, in microseconds.
    pub step_us: i64,
}

/// Whether a request was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// The request was counted. The value is when nothing will be counted any more, in
    /// microseconds.
    Yes(i64),
    /// The request exceeds the limit and was not counted. The value is when nothing will be counted
    /// any more, in microseconds.
    No(i64),
}

/// Counts a request of a bucket at `now_us` microseconds, unless it exceeds the limit.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn count(db: &Db, pace: Pace, bucket: &str, now_us: i64) -> Result<Counted, DbError> {
    let counted: Option<i64> = write_db!(db, |pool| sqlx::query_scalar(COUNT)
        .bind(pace.kind)
        .bind(bucket)
        .bind(now_us)
        .bind(pace.period_us)
        .bind(pace.step_us)
        .fetch_optional(pool)
        .await)?;
    if let Some(clear) = counted {
        return Ok(Counted::Yes(clear));
    }
    let clear: Option<i64> = read_db!(db, |pool| sqlx::query_scalar(FIND_CLEAR)
        .bind(pace.kind)
        .bind(bucket)
        .fetch_optional(pool)
        .await)?;
    // The row was erased meanwhile: nothing is counted.
    Ok(Counted::No(
        clear.unwrap_or(now_us.saturating_add(pace.period_us)),
    ))
}

// A clock that was set back must lock nobody out for longer than the period, so a stored time is
// read as at most that far ahead. A row that would exceed the limit is not changed, and no row is
// returned.
const COUNT: &str = "INSERT INTO rates (kind, bucket, clear_us) \
    VALUES ($1, $2, CAST($3 AS BIGINT) + CAST($5 AS BIGINT)) ON CONFLICT (kind, bucket) DO UPDATE SET clear_us = \
    CASE WHEN rates.clear_us < CAST($3 AS BIGINT) THEN CAST($3 AS BIGINT) ELSE rates.clear_us END \
    + CAST($5 AS BIGINT) WHERE rates.clear_us + CAST($5 AS BIGINT) <= CAST($3 AS BIGINT) + CAST($4 AS BIGINT) \
    RETURNING clear_us";
const FIND_CLEAR: &str = "SELECT clear_us FROM rates WHERE kind = $1 AND bucket = $2";

/// Lowers the count of a bucket by `refund_us` microseconds.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn uncount(db: &Db, kind: &str, bucket: &str, refund_us: i64) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(UNCOUNT)
        .bind(kind)
        .bind(bucket)
        .bind(refund_us)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const UNCOUNT: &str = "UPDATE rates SET clear_us = clear_us - CAST($3 AS BIGINT) \
    WHERE kind = $1 AND bucket = $2";

/// Erases buckets with nothing counted, and buckets that lie further ahead than any period: a wrong
/// clock that was corrected since wrote them.
/// # Errors
/// [`DbError::Driver`].
pub async fn forget_clear(db: &Db, now_us: i64, longest_us: i64) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(FORGET_CLEAR)
        .bind(now_us)
        .bind(longest_us)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const FORGET_CLEAR: &str =
    "DELETE FROM rates WHERE clear_us <= $1 OR clear_us > CAST($1 AS BIGINT) + CAST($2 AS BIGINT)";

/// The UTC day of a time, counted from 1970-01-01.
pub fn day_of(now: Timestamp) -> i64 {
    now.millis().div_euclid(DAY_MS)
}

/// The time at which a day begins.
pub fn start_of(day: i64) -> Timestamp {
    Timestamp::from_millis(day.saturating_mul(DAY_MS))
}

const DAY_MS: i64 = 24 * 3600 * 1000;
/// The largest difference between the clocks of replicas. Reservations count for this much longer
/// than their holder assumes.
const CLOCKS_APART: Duration = Duration::from_mins(1);

/// A reserved place among the free uploads of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeSlot {
    /// The id of the place, drawn by the server that takes it.
    pub id: String,
    /// The day of the place.
    pub day: i64,
}

/// Reserves a place until `until`. `false`: `limit` uploads are published or under way.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn take_place(
    db: &Db,
    place: &FreeSlot,
    limit: u64,
    until: Timestamp,
    now: Timestamp,
) -> Result<bool, DbError> {
    let start = start_of(place.day);
    Ok(in_tx!(db, |tx| {
        sqlx::query(OPEN_DAY)
            .bind(place.day)
            .bind(start.millis())
            .execute(&mut *tx)
            .await?;
        sqlx::query(LOCK_DAY)
            .bind(place.day)
            .execute(&mut *tx)
            .await?;
        let taken: i64 = sqlx::query_scalar(COUNT_DAY)
            .bind(place.day)
            .bind(now.millis())
            .fetch_one(&mut *tx)
            .await?;
        if taken >= signed(limit) {
            return Ok(false);
        }
        sqlx::query(TAKE_PLACE)
            .bind(&place.id)
            .bind(place.day)
            .bind(until.plus(CLOCKS_APART).millis())
            .execute(&mut *tx)
            .await?;
        true
    }))
}

// For the first day, published images are the only source of the count.
const OPEN_DAY: &str = "INSERT INTO free_days (day, published) SELECT CAST($1 AS BIGINT), CASE WHEN EXISTS \
    (SELECT 1 FROM free_days) THEN 0 ELSE (SELECT COUNT(*) FROM images WHERE payment_id IS NULL \
    AND published_ms >= $2) END WHERE TRUE ON CONFLICT (day) DO NOTHING";
// An update that changes nothing locks the row on both databases.
const LOCK_DAY: &str = "UPDATE free_days SET published = published WHERE day = $1";
const COUNT_DAY: &str = "SELECT published + (SELECT COUNT(*) FROM free_uploads u WHERE u.day = $1 \
    AND u.until_ms > $2) FROM free_days WHERE day = $1";
const TAKE_PLACE: &str = "INSERT INTO free_uploads (id, day, until_ms) VALUES ($1, $2, $3)";

/// Gives a place back. Does nothing if the place was used or its time has passed.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn give_back(db: &Db, place: &FreeSlot) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(GIVE_BACK)
        .bind(&place.id)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const GIVE_BACK: &str = "DELETE FROM free_uploads WHERE id = $1";

/// Publishes a pending free image, uses up its place, and counts a use of the free link or API key
/// that took it. `false`: the image isn't pending, the time of the place has passed, or the link or
/// key takes no upload any more.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn publish_in(
    db: &Db,
    place: &FreeSlot,
    through: Option<&Through>,
    image: &Image,
    now: Timestamp,
    expires: Option<Timestamp>,
) -> Result<bool, DbError> {
    Ok(in_tx!(db, |tx| {
        // Lock order: the day first, as in [`take_place`], then the link or key.
        sqlx::query(LOCK_DAY)
            .bind(place.day)
            .execute(&mut *tx)
            .await?;
        let used = sqlx::query(USE_PLACE)
            .bind(&place.id)
            .bind(now.plus(CLOCKS_APART).millis())
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if let Some(through) = through
            && !count_free_use!(tx, through, image, now)
        {
            return Ok(false);
        }
        let published = sqlx::query(super::images::PUBLISH_FREE)
            .bind(image.id.as_str())
            .bind(now.millis())
            .bind(expires.map(Timestamp::millis))
            .execute(&mut *tx)
            .await?
            .rows_affected();
        let counted = sqlx::query(COUNT_PUBLISHED)
            .bind(place.day)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if (used, published, counted) != (1, 1, 1) {
            // All or nothing: dropping the transaction rolls it back.
            return Ok(false);
        }
        true
    }))
}

const USE_PLACE: &str = "DELETE FROM free_uploads WHERE id = $1 AND until_ms > $2";
const COUNT_PUBLISHED: &str = "UPDATE free_days SET published = published + 1 WHERE day = $1";

/// Erases places whose time has passed, and the days before `day`.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn forget_days(db: &Db, day: i64, now: Timestamp) -> Result<(), DbError> {
    for (sql, bound) in [(FORGET_PLACES, now.millis()), (FORGET_DAYS, day)] {
        write_db!(db, |pool| sqlx::query(sql)
            .bind(bound)
            .execute(pool)
            .await
            .map(|_| ()))?;
    }
    Ok(())
}

const FORGET_PLACES: &str = "DELETE FROM free_uploads WHERE until_ms <= $1";
const FORGET_DAYS: &str = "DELETE FROM free_days WHERE day < $1";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("limits::COUNT", COUNT),
    ("limits::FIND_CLEAR", FIND_CLEAR),
    ("limits::UNCOUNT", UNCOUNT),
    ("limits::FORGET_CLEAR", FORGET_CLEAR),
    ("limits::OPEN_DAY", OPEN_DAY),
    ("limits::LOCK_DAY", LOCK_DAY),
    ("limits::COUNT_DAY", COUNT_DAY),
    ("limits::TAKE_PLACE", TAKE_PLACE),
    ("limits::GIVE_BACK", GIVE_BACK),
    ("limits::USE_PLACE", USE_PLACE),
    ("limits::COUNT_PUBLISHED", COUNT_PUBLISHED),
    ("limits::FORGET_PLACES", FORGET_PLACES),
    ("limits::FORGET_DAYS", FORGET_DAYS),
];
