//! Limits that replicas share: how often each address asked, and the free uploads of a day.

use std::time::Duration;

use super::rows::signed;
use super::{Db, DbError, in_tx, on_db};
use crate::clock::Timestamp;
use crate::ids::ImageId;

/// A rate as the generic cell rate algorithm has it: `period / step` at once, then one each `step`.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Which of the rates.
    pub kind: &'static str,
    /// The time in which all of it comes back, in microseconds.
    pub period_us: i64,
    /// The time in which one comes back, in microseconds.
    pub step_us: i64,
}

/// Whether one more was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// It was. Nothing is counted any more at this time, in microseconds.
    Yes(i64),
    /// It would have been one too many. Nothing is counted any more at this time, in microseconds.
    No(i64),
}

/// Counts one of a bucket, unless it is one too many, at `now_us` microseconds.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn count(db: &Db, pace: Pace, bucket: &str, now_us: i64) -> Result<Counted, DbError> {
    let counted: Option<i64> = on_db!(db, |pool| sqlx::query_scalar(COUNT)
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
    let clear: Option<i64> = on_db!(db, |pool| sqlx::query_scalar(FIND_CLEAR)
        .bind(pace.kind)
        .bind(bucket)
        .fetch_optional(pool)
        .await)?;
    // One that was erased meanwhile is clear just now.
    Ok(Counted::No(
        clear.unwrap_or(now_us.saturating_add(pace.period_us)),
    ))
}

// A clock that was set back must not lock anyone out for longer than the period, so what is read is at most that
// far ahead. A row that exists and would go too far is left alone, and nothing comes back.
const COUNT: &str = "INSERT INTO rates (kind, bucket, clear_us) \
    VALUES ($1, $2, CAST($3 AS BIGINT) + CAST($5 AS BIGINT)) ON CONFLICT (kind, bucket) DO UPDATE SET clear_us = \
    CASE WHEN rates.clear_us < CAST($3 AS BIGINT) THEN CAST($3 AS BIGINT) ELSE rates.clear_us END \
    + CAST($5 AS BIGINT) WHERE rates.clear_us + CAST($5 AS BIGINT) <= CAST($3 AS BIGINT) + CAST($4 AS BIGINT) \
    RETURNING clear_us";
const FIND_CLEAR: &str = "SELECT clear_us FROM rates WHERE kind = $1 AND bucket = $2";

/// Counts less of a bucket, by so many microseconds.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn uncount(db: &Db, kind: &str, bucket: &str, refund_us: i64) -> Result<(), DbError> {
    on_db!(db, |pool| sqlx::query(UNCOUNT)
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

/// Forgets who has nothing counted any more, and whom a clock counted that has been set right since: what lies
/// further ahead than any period.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn forget_clear(db: &Db, now_us: i64, longest_us: i64) -> Result<(), DbError> {
    on_db!(db, |pool| sqlx::query(FORGET_CLEAR)
        .bind(now_us)
        .bind(longest_us)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const FORGET_CLEAR: &str =
    "DELETE FROM rates WHERE clear_us <= $1 OR clear_us > CAST($1 AS BIGINT) + CAST($2 AS BIGINT)";

/// The day that a time lies in (UTC, counted from 1970).
pub fn day_of(now: Timestamp) -> i64 {
    now.millis().div_euclid(DAY_MS)
}

/// When a day begins.
pub fn start_of(day: i64) -> Timestamp {
    Timestamp::from_millis(day.saturating_mul(DAY_MS))
}

const DAY_MS: i64 = 24 * 3600 * 1000;
/// Clocks of replicas are not further apart. What is held counts for so much longer than its holder thinks.
const CLOCKS_APART: Duration = Duration::from_mins(1);

/// A place among the free uploads of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name, drawn by who takes it.
    pub id: String,
    /// Its day.
    pub day: i64,
}

/// Takes a place until `until`. `false`: `limit` are published or under way.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn take_place(
    db: &Db,
    place: &Place,
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

// Nothing is known of the first day but what its images say.
const OPEN_DAY: &str = "INSERT INTO free_days (day, published) SELECT CAST($1 AS BIGINT), CASE WHEN EXISTS \
    (SELECT 1 FROM free_days) THEN 0 ELSE (SELECT COUNT(*) FROM images WHERE payment_id IS NULL \
    AND published_ms >= $2) END WHERE TRUE ON CONFLICT (day) DO NOTHING";
// An update that changes nothing locks the row on both databases.
const LOCK_DAY: &str = "UPDATE free_days SET published = published WHERE day = $1";
const COUNT_DAY: &str = "SELECT published + (SELECT COUNT(*) FROM free_uploads u WHERE u.day = $1 \
    AND u.until_ms > $2) FROM free_days WHERE day = $1";
const TAKE_PLACE: &str = "INSERT INTO free_uploads (id, day, until_ms) VALUES ($1, $2, $3)";

/// Gives a place back. Nothing happens where it was used, or its time has passed.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn give_back(db: &Db, place: &Place) -> Result<(), DbError> {
    on_db!(db, |pool| sqlx::query(GIVE_BACK)
        .bind(&place.id)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const GIVE_BACK: &str = "DELETE FROM free_uploads WHERE id = $1";

/// Makes a pending image without a price public, in a place that is used up by that. `false`: the image isn't
/// pending, or the time of the place has passed.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn publish_in(
    db: &Db,
    place: &Place,
    image: &ImageId,
    now: Timestamp,
    expires: Option<Timestamp>,
) -> Result<bool, DbError> {
    Ok(in_tx!(db, |tx| {
        // The day first, as whoever takes a place does.
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
        let published = sqlx::query(super::images::PUBLISH_FREE)
            .bind(image.as_str())
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
            // All or none: dropping the transaction rolls it back.
            return Ok(false);
        }
        true
    }))
}

const USE_PLACE: &str = "DELETE FROM free_uploads WHERE id = $1 AND until_ms > $2";
const COUNT_PUBLISHED: &str = "UPDATE free_days SET published = published + 1 WHERE day = $1";

/// Erases places whose time has passed, and days that are over: those before `day`.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn forget_days(db: &Db, day: i64, now: Timestamp) -> Result<(), DbError> {
    for (sql, bound) in [(FORGET_PLACES, now.millis()), (FORGET_DAYS, day)] {
        on_db!(db, |pool| sqlx::query(sql)
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
