//! The operator's log. Entries are only ever appended, one after the other on both databases: each
//! append first locks the row of the newest entry.

use super::{Db, DbError, from_row, in_tx, read_db};
use crate::model::admin_log::{Entry, Head, Logged};
use crate::system::clock::Timestamp;

/// Appends an entry inside an open transaction, so that the act and its entry are written together
/// or not at all.
macro_rules! append_entry {
    ($tx:ident, $entry:expr, $now:expr) => {{
        let (number, previous): (i64, String) = sqlx::query_as($crate::db::admin_log::TAKE_NUMBER)
            .bind($crate::model::admin_log::FIRST_PREVIOUS)
            .fetch_one(&mut *$tx)
            .await?;
        let logged = $crate::model::admin_log::Logged::new($entry, number, $now, previous);
        sqlx::query($crate::db::admin_log::INSERT)
            .bind(logged.number)
            .bind(logged.at.millis())
            .bind(&logged.actor)
            .bind(&logged.act)
            .bind(&logged.subject)
            .bind(&logged.reason)
            .bind(&logged.details)
            .bind(&logged.previous_hash)
            .bind(&logged.hash)
            .execute(&mut *$tx)
            .await?;
        sqlx::query($crate::db::admin_log::MOVE_HEAD)
            .bind(&logged.hash)
            .execute(&mut *$tx)
            .await?;
    }};
}

pub(crate) use append_entry;

/// Appends an entry in a transaction of its own.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn append(db: &Db, entry: &Entry, now: Timestamp) -> Result<(), DbError> {
    in_tx!(db, |tx| {
        crate::db::admin_log::append_entry!(tx, entry, now);
    });
    Ok(())
}

/// Locks the head and takes the next number. Returns it with the hash of the entry before it.
pub(crate) const TAKE_NUMBER: &str = "INSERT INTO admin_log_head (name, number, hash) VALUES ('head', 1, $1) \
    ON CONFLICT (name) DO UPDATE SET number = admin_log_head.number + 1 RETURNING number, hash";
pub(crate) const INSERT: &str = "INSERT INTO admin_log (number, at_ms, actor, act, subject, reason, details, \
    previous_hash, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
pub(crate) const MOVE_HEAD: &str = "UPDATE admin_log_head SET hash = $1 WHERE name = 'head'";

/// Returns the entries from `number` on, oldest first, at most `most`.
///
/// # Errors
/// [`DbError`].
pub async fn page_from(db: &Db, number: i64, most: u32) -> Result<Vec<Logged>, DbError> {
    let rows: Vec<LoggedRow> = read_db!(db, |pool| sqlx::query_as(PAGE_FROM)
        .bind(number)
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    Ok(rows.into_iter().map(Logged::from).collect())
}

macro_rules! logged_columns {
    () => {
        "number, at_ms, actor, act, subject, reason, details, previous_hash, hash"
    };
}

const PAGE_FROM: &str = concat!(
    "SELECT ",
    logged_columns!(),
    " FROM admin_log WHERE number >= $1 ORDER BY number LIMIT $2"
);

/// Returns the entries before `number`, newest first, at most `most`. An empty `subject` means all
/// subjects.
///
/// # Errors
/// [`DbError`].
pub async fn page_before(
    db: &Db,
    number: i64,
    subject: &str,
    most: u32,
) -> Result<Vec<Logged>, DbError> {
    let rows: Vec<LoggedRow> = read_db!(db, |pool| sqlx::query_as(PAGE_BEFORE)
        .bind(number)
        .bind(subject)
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    Ok(rows.into_iter().map(Logged::from).collect())
}

const PAGE_BEFORE: &str = concat!(
    "SELECT ",
    logged_columns!(),
    " FROM admin_log WHERE number < $1 AND ($2 = '' OR subject = $2) ORDER BY number DESC LIMIT $3"
);

/// Returns the head, as it is stored apart from the entries. `None`: nothing was ever appended.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn head(db: &Db) -> Result<Option<Head>, DbError> {
    let row: Option<(i64, String)> =
        read_db!(db, |pool| sqlx::query_as(HEAD).fetch_optional(pool).await)?;
    Ok(row.map(|(number, hash)| Head { number, hash }))
}

const HEAD: &str = "SELECT number, hash FROM admin_log_head WHERE name = 'head'";

struct LoggedRow {
    number: i64,
    at_ms: i64,
    actor: String,
    act: String,
    subject: String,
    reason: String,
    details: String,
    previous_hash: String,
    hash: String,
}
from_row!(LoggedRow: number, at_ms, actor, act, subject, reason, details, previous_hash, hash);

impl From<LoggedRow> for Logged {
    fn from(row: LoggedRow) -> Self {
        Self {
            number: row.number,
            at: Timestamp::from_millis(row.at_ms),
            actor: row.actor,
            act: row.act,
            subject: row.subject,
            reason: row.reason,
            details: row.details,
            previous_hash: row.previous_hash,
            hash: row.hash,
        }
    }
}

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("admin_log::TAKE_NUMBER", TAKE_NUMBER),
    ("admin_log::INSERT", INSERT),
    ("admin_log::MOVE_HEAD", MOVE_HEAD),
    ("admin_log::PAGE_FROM", PAGE_FROM),
    ("admin_log::PAGE_BEFORE", PAGE_BEFORE),
    ("admin_log::HEAD", HEAD),
];
