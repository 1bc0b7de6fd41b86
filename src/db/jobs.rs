//! Work that one process does at a time: who does it, and how.

use std::time::Duration;

use super::rows::signed;
use super::{Db, DbError, on_db};
use crate::clock::Timestamp;

/// A job, when it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Job {
    /// When it was last done, in milliseconds.
    pub ran_ms: Option<i64>,
    /// How long it had rested then.
    pub rest_ms: Option<i64>,
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
    RETURNING ran_ms, rest_ms, slow_until_ms, stopped_ms";

/// Notes that a job was done at `ran` after a `rest`, and until when it goes on slowly.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn note_run(
    db: &Db,
    name: &str,
    ran: Timestamp,
    rest: Option<Duration>,
    slow_until: Option<Timestamp>,
) -> Result<(), DbError> {
    on_db!(db, |pool| sqlx::query(NOTE_RUN)
        .bind(name)
        .bind(ran.millis())
        .bind(slow_until.map(Timestamp::millis))
        .bind(rest.map(|rest| signed(rest.as_millis())))
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const NOTE_RUN: &str =
    "UPDATE jobs SET ran_ms = $2, slow_until_ms = $3, rest_ms = $4 WHERE name = $1";

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

/// Ends the lease of a job, whoever held it. Only for who knows that the holder is gone.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn release_job(db: &Db, name: &str) -> Result<(), DbError> {
    on_db!(db, |pool| sqlx::query(RELEASE_JOB)
        .bind(name)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const RELEASE_JOB: &str = "UPDATE jobs SET until_ms = 0 WHERE name = $1 AND until_ms > 0";

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

pub(super) const RETURN_ALL_JOBS: &str = "UPDATE jobs SET until_ms = 0 WHERE until_ms > 0";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("jobs::TAKE_JOB", TAKE_JOB),
    ("jobs::NOTE_RUN", NOTE_RUN),
    ("jobs::RETURN_JOB", RETURN_JOB),
    ("jobs::RELEASE_JOB", RELEASE_JOB),
    ("jobs::STOP_JOB", STOP_JOB),
    ("jobs::RESUME_JOB", RESUME_JOB),
    ("jobs::RETURN_ALL_JOBS", RETURN_ALL_JOBS),
];
