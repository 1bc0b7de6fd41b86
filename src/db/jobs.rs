//! Leases of background jobs, each of which one process runs at a time, and when each job last ran.

use super::{Db, DbError, read_db, write_db};
use crate::system::clock::Timestamp;

/// Takes the lease of a job until `until`, if it is free or `holder` has it already. `false`:
/// another process holds it.
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
    let taken = write_db!(db, |pool| sqlx::query(TAKE_JOB)
        .bind(name)
        .bind(holder)
        .bind(until.millis())
        .bind(now.millis())
        .execute(pool)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(taken > 0)
}

// A lease that ends far in the future was written by a wrong clock that was corrected since.
const TAKE_JOB: &str = "INSERT INTO jobs (name, holder, until_ms) VALUES ($1, $2, $3) \
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_ms = excluded.until_ms \
    WHERE jobs.until_ms <= $4 OR jobs.holder = excluded.holder OR jobs.until_ms > $4 + 3600000";

/// Returns when the job last ran, by the clock of the process that ran it. `None`: no run is
/// recorded.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn last_run(db: &Db, name: &str) -> Result<Option<Timestamp>, DbError> {
    let ran: Option<Option<i64>> = read_db!(db, |pool| sqlx::query_scalar(LAST_RUN)
        .bind(name)
        .fetch_optional(pool)
        .await)?;
    Ok(ran.flatten().map(Timestamp::from_millis))
}

const LAST_RUN: &str = "SELECT ran_ms FROM jobs WHERE name = $1";

/// Records that the job ran at `ran`, by a trusted clock.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn note_run(db: &Db, name: &str, ran: Timestamp) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(NOTE_RUN)
        .bind(name)
        .bind(ran.millis())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

// Earlier versions used further columns of this table, and may run beside this one.
const NOTE_RUN: &str = "INSERT INTO jobs (name, holder, until_ms, ran_ms) VALUES ($1, '', 0, $2) \
    ON CONFLICT (name) DO UPDATE SET ran_ms = excluded.ran_ms, rest_ms = NULL, slow_until_ms = NULL, \
    stopped_ms = NULL";

/// Ends the holder's lease of a job.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn return_job(db: &Db, name: &str, holder: &str) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(RETURN_JOB)
        .bind(name)
        .bind(holder)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const RETURN_JOB: &str = "UPDATE jobs SET until_ms = 0 WHERE name = $1 AND holder = $2";

/// Ends the lease of a job, whoever holds it. Call it only when the holder is known to be gone.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn release_job(db: &Db, name: &str) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(RELEASE_JOB)
        .bind(name)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const RELEASE_JOB: &str = "UPDATE jobs SET until_ms = 0 WHERE name = $1 AND until_ms > 0";

/// Ends every lease of a job. Call it only for a database that no other server uses: the holders
/// are gone.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn return_all_jobs(db: &Db) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(RETURN_ALL_JOBS)
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
