//! Counts of rows for the metrics and the public proof. [`count_live`] reads the whole table of images;
//! the other statements use indexes alone.

use super::{Db, DbError, from_row, read_db};
use crate::system::clock::Timestamp;

/// What waits for somebody: the reaper, the reconciler or the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Images that have expired, or that were claimed and are not deleted yet.
    pub due: i64,
    /// The expiry of the oldest image that is not claimed yet, in milliseconds since 1970.
    pub due_since_ms: Option<i64>,
    /// Payments whose outcome is unknown.
    pub unknown: i64,
    /// When settle was called for the oldest of them, in milliseconds since 1970.
    pub unknown_since_ms: Option<i64>,
    /// Payments whose goods are owed.
    pub owed: i64,
    /// Settled payments whose transfer the chain no longer shows, and that were not voided.
    pub missing: i64,
}
from_row!(Open: due, due_since_ms, unknown, unknown_since_ms, owed, missing);

/// Counts what is open at `now`.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn count_open(db: &Db, now: Timestamp) -> Result<Open, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(COUNT_OPEN)
        .bind(now.millis())
        .fetch_one(pool)
        .await)?)
}

const COUNT_OPEN: &str = "SELECT \
    (SELECT COUNT(*) FROM images WHERE state = 'live' AND expires_ms IS NOT NULL AND expires_ms <= $1 \
    AND held_ms IS NULL AND renewing = 0) \
    + (SELECT COUNT(*) FROM images WHERE state = 'deleting') AS due, \
    (SELECT MIN(expires_ms) FROM images WHERE state = 'live' AND expires_ms IS NOT NULL AND expires_ms <= $1 \
    AND held_ms IS NULL AND renewing = 0) AS due_since_ms, \
    (SELECT COUNT(*) FROM payments WHERE next_look_ms IS NOT NULL AND state <> 'settled' \
    AND state = 'unknown') AS unknown, \
    (SELECT MIN(settle_called_ms) FROM payments WHERE next_look_ms IS NOT NULL AND state <> 'settled' \
    AND state = 'unknown') AS unknown_since_ms, \
    (SELECT COUNT(*) FROM payments WHERE owed IS NOT NULL) AS owed, \
    (SELECT COUNT(*) FROM payments WHERE next_look_ms IS NOT NULL AND state = 'settled' \
    AND missing_reason IS NOT NULL AND voided_ms IS NULL) AS missing";

/// The images that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// Their number.
    pub images: i64,
    /// Their bytes.
    pub bytes: i64,
}
from_row!(Live: images, bytes);

/// Counts the images that are served at `now`.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn count_live(db: &Db, now: Timestamp) -> Result<Live, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(COUNT_LIVE)
        .bind(now.millis())
        .fetch_one(pool)
        .await)?)
}

const COUNT_LIVE: &str = "SELECT COUNT(*) AS images, \
    CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT) AS bytes FROM images \
    WHERE state = 'live' AND (expires_ms IS NULL OR expires_ms > $1)";

/// Settled payments that the chain has not confirmed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubts {
    /// Payments whose transfer is not in a final block yet.
    pub unconfirmed: i64,
    /// Payments whose transfer the chain does not show, and that were not voided.
    pub missing: i64,
}
from_row!(Doubts: unconfirmed, missing);

/// Counts the settled payments that the auditor still looks at.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn count_doubts(db: &Db) -> Result<Doubts, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(COUNT_DOUBTS)
        .fetch_one(pool)
        .await)?)
}

const COUNT_DOUBTS: &str = "SELECT COUNT(CASE WHEN missing_reason IS NULL THEN 1 END) AS unconfirmed, \
    COUNT(missing_reason) AS missing FROM payments \
    WHERE next_look_ms IS NOT NULL AND state = 'settled' AND voided_ms IS NULL";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("counts::COUNT_OPEN", COUNT_OPEN),
    ("counts::COUNT_LIVE", COUNT_LIVE),
    ("counts::COUNT_DOUBTS", COUNT_DOUBTS),
];
