//! Values that a database is stamped with when it is created: mode, networks, recipient, key.

use super::{Db, DbError, in_tx, read_db, write_db};
use crate::system::clock::Timestamp;

/// Writes a value if there is none yet, and returns the value in force.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn stamp(db: &Db, name: &str, value: &str) -> Result<String, DbError> {
    write_db!(db, |pool| sqlx::query(STAMP)
        .bind(name)
        .bind(value)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(read_db!(db, |pool| sqlx::query_scalar(FIND)
        .bind(name)
        .fetch_one(pool)
        .await)?)
}

/// Writes a value, and replaces an existing one.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn set(db: &Db, name: &str, value: &str) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(SET)
        .bind(name)
        .bind(value)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// Finds the value with this name.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find(db: &Db, name: &str) -> Result<Option<String>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_scalar(FIND)
        .bind(name)
        .fetch_optional(pool)
        .await)?)
}

/// Lists the values whose name begins with `prefix` and a dot: the rest of each name, and the
/// value.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn list(db: &Db, prefix: &str) -> Result<Vec<(String, String)>, DbError> {
    let start = format!("{prefix}.");
    let rows: Vec<(String, String)> = read_db!(db, |pool| sqlx::query_as(LIST)
        .bind(format!("{start}%"))
        .fetch_all(pool)
        .await)?;
    Ok(rows
        .into_iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(&start)?.to_owned(), value)))
        .collect())
}

const STAMP: &str =
    "INSERT INTO deployment (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
pub(super) const SET: &str = "INSERT INTO deployment (name, value) VALUES ($1, $2) \
    ON CONFLICT (name) DO UPDATE SET value = excluded.value";
const FIND: &str = "SELECT value FROM deployment WHERE name = $1";
const LIST: &str = "SELECT name, value FROM deployment WHERE name LIKE $1 ORDER BY name";

/// The replacement of a stamp's value, such as the fingerprint of a key.
#[derive(Debug, Clone, Copy)]
pub struct Rotation<'a> {
    /// The name of the stamp.
    pub name: &'a str,
    /// The value that is replaced.
    pub from: &'a str,
    /// The new value.
    pub to: &'a str,
    /// The prefix of the name under which the time of the replacement is recorded; a dot and the
    /// old value follow.
    pub retired: &'a str,
}

/// Replaces the value of a stamp, in one transaction. Does nothing if the value isn't `from` any
/// more: another server replaced it.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn rotate(db: &Db, rotation: &Rotation<'_>, now: Timestamp) -> Result<(), DbError> {
    let note = |value: &str| format!("{}.{value}", rotation.retired);
    in_tx!(db, |tx| {
        let moved = sqlx::query(SWAP)
            .bind(rotation.name)
            .bind(rotation.from)
            .bind(rotation.to)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if moved == 1 {
            sqlx::query(SET)
                .bind(note(rotation.from))
                .bind(now.millis().to_string())
                .execute(&mut *tx)
                .await?;
            sqlx::query(REMOVE)
                .bind(note(rotation.to))
                .execute(&mut *tx)
                .await?;
        }
    });
    Ok(())
}

/// Replaces a value, and sets another one beside it.
#[derive(Debug, Clone, Copy)]
pub struct Advance<'a> {
    /// The name of the value that advances.
    pub name: &'a str,
    /// Its present value.
    pub from: &'a str,
    /// Its new value.
    pub to: &'a str,
    /// The name and the value of the other one.
    pub beside: (&'a str, &'a str),
}

/// Makes both changes in one transaction. `false`: the value isn't `from` any more, and nothing is
/// changed.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn advance(db: &Db, advance: &Advance<'_>) -> Result<bool, DbError> {
    Ok(in_tx!(db, |tx| {
        let moved = sqlx::query(SWAP)
            .bind(advance.name)
            .bind(advance.from)
            .bind(advance.to)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if moved == 0 {
            return Ok(false);
        }
        let (name, value) = advance.beside;
        sqlx::query(SET)
            .bind(name)
            .bind(value)
            .execute(&mut *tx)
            .await?;
        true
    }))
}

const SWAP: &str = "UPDATE deployment SET value = $3 WHERE name = $1 AND value = $2";
pub(super) const REMOVE: &str = "DELETE FROM deployment WHERE name = $1";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("deployment::STAMP", STAMP),
    ("deployment::SET", SET),
    ("deployment::FIND", FIND),
    ("deployment::LIST", LIST),
    ("deployment::SWAP", SWAP),
    ("deployment::REMOVE", REMOVE),
];
