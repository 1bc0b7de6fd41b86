//! What a database is stamped with when it is created: mode, network, recipient, key.

use super::{Db, DbError, on_db};

/// Writes a value if there is none yet, and returns the one that stands.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn stamp(db: &Db, name: &str, value: &str) -> Result<String, DbError> {
    on_db!(db, |pool| sqlx::query(STAMP)
        .bind(name)
        .bind(value)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(on_db!(db, |pool| sqlx::query_scalar(FIND)
        .bind(name)
        .fetch_one(pool)
        .await)?)
}

/// Writes a value, in place of whatever stood there.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn set(db: &Db, name: &str, value: &str) -> Result<(), DbError> {
    on_db!(db, |pool| sqlx::query(SET)
        .bind(name)
        .bind(value)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// The value with this name.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find(db: &Db, name: &str) -> Result<Option<String>, DbError> {
    Ok(on_db!(db, |pool| sqlx::query_scalar(FIND)
        .bind(name)
        .fetch_optional(pool)
        .await)?)
}

const STAMP: &str =
    "INSERT INTO deployment (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
const SET: &str = "INSERT INTO deployment (name, value) VALUES ($1, $2) \
    ON CONFLICT (name) DO UPDATE SET value = excluded.value";
const FIND: &str = "SELECT value FROM deployment WHERE name = $1";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("deployment::STAMP", STAMP),
    ("deployment::SET", SET),
    ("deployment::FIND", FIND),
];
