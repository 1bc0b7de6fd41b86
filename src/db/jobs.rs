//! Work that one process does at a time: who does it, and how.

use super::{Db, DbError, on_db};
use crate::clock::Timestamp;

/// Takes a job that nobody holds, or that is held by `holder` already, until `until`. `false`: another
/// process holds it.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn take_job(
    db: &Db,
    name: &str,
    holder: &str,
    until: Timestamp,
    now: Timestamp,
) -> Result<bool, DbError> {
    let taken = on_db!(db, |pool| sqlx::query(TAKE_JOB)
        .bind(name)
        .bind(holder)
        .bind(until.millis())
        .bind(now.millis())
        .execute(pool)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(taken > 0)
}

// A lease that ends in a far future was written by a clock that has been set right since.
const TAKE_JOB: &str = "INSERT INTO jobs (name, holder, until_ms) VALUES ($1, $2, $3) \
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_ms = excluded.until_ms \
    WHERE jobs.until_ms <= $4 OR jobs.holder = excluded.holder OR jobs.until_ms > $4 + 3600000";

/// When the job last ran, by the clock of the process that ran it. `None`: the database knows no run.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn last_run(db: &Db, name: &str) -> Result<Option<Timestamp>, DbError> {
    let ran: Option<Option<i64>> = on_db!(db, |pool| sqlx::query_scalar(LAST_RUN)
        .bind(name)
        .fetch_optional(pool)
        .await)?;
    Ok(ran.flatten().map(Timestamp::from_millis))
}

const LAST_RUN: &str = "SELECT ran_ms FROM jobs WHERE name = $1";

/// Notes that the job ran at `ran`, by a clock that is believed.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn note_run(db: &Db, name: &str, ran: Timestamp) -> Result<(), DbError> {
    on_db!(db, |pool| sqlx::query(NOTE_RUN)
        .bind(name)
        .bind(ran.millis())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

// Earlier versions also kept how fast a job goes and whether it is stopped. They may run beside this one.
const NOTE_RUN: &str = "INSERT INTO jobs (name, holder, until_ms, ran_ms) VALUES ($1, '', 0, $2) \
    ON CONFLICT (name) DO UPDATE SET ran_ms = excluded.ran_ms, rest_ms = NULL, slow_until_ms = NULL, \
    stopped_ms = NULL";

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
    ("jobs::LAST_RUN", LAST_RUN),
    ("jobs::NOTE_RUN", NOTE_RUN),
    ("jobs::RETURN_JOB", RETURN_JOB),
    ("jobs::RELEASE_JOB", RELEASE_JOB),
    ("jobs::RETURN_ALL_JOBS", RETURN_ALL_JOBS),
];
