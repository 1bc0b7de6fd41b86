//! Sums for `pixtoll stats`. Amounts are grouped and not added, since SQL has no exact sum of texts:
//! there are few prices.

use super::{Db, DbError, from_row, read_db};

/// Steps of the sales funnel for one tier and one kind of client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps {
    /// The tier.
    pub tier: String,
    /// The kind of client.
    pub client: String,
    /// The first count: challenged, or settled.
    pub first: i64,
    /// The second count: presented, or delivered.
    pub second: i64,
}
from_row!(Steps: tier, client, first, second);

/// Counts challenges and presented payments since a UTC day, counted from 1970.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn asked(db: &Db, since_day: i64) -> Result<Vec<Steps>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(ASKED)
        .bind(since_day)
        .fetch_all(pool)
        .await)?)
}

const ASKED: &str = "SELECT tier, client, CAST(SUM(challenged) AS BIGINT) AS first, \
    CAST(SUM(presented) AS BIGINT) AS second FROM funnel WHERE day >= $1 GROUP BY tier, client ORDER BY tier, client";

/// Counts payments that settled since a time, and those of them of which something was used: an
/// upload was published or a renewal made. Voided payments are left out.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn sold(db: &Db, since_ms: i64) -> Result<Vec<Steps>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(SOLD)
        .bind(since_ms)
        .fetch_all(pool)
        .await)?)
}

const SOLD: &str = "SELECT p.tier, COALESCE(p.client, 'other') AS client, COUNT(*) AS first, \
    COUNT(CASE WHEN g.used > 0 THEN 1 END) AS second FROM payments p JOIN grants g ON g.payment_id = p.id \
    WHERE p.state = 'settled' AND p.settled_ms >= $1 AND p.voided_ms IS NULL \
    GROUP BY p.tier, COALESCE(p.client, 'other') ORDER BY 1, 2";

/// Payments of one amount that settled on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sales {
    /// The UTC day, counted from 1970.
    pub day: i64,
    /// The tier.
    pub tier: String,
    /// The amount of each payment, in atomic units.
    pub amount: String,
    /// How many payments there were.
    pub payments: i64,
    /// How many of them have been refunded.
    pub refunded: i64,
}
from_row!(Sales: day, tier, amount, payments, refunded);

/// Counts the payments that settled since a time by day, tier and amount. Voided payments are left
/// out.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn sales(db: &Db, since_ms: i64) -> Result<Vec<Sales>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(SALES)
        .bind(since_ms)
        .fetch_all(pool)
        .await)?)
}

const SALES: &str = "SELECT p.settled_ms / 86400000 AS day, p.tier, p.amount, COUNT(*) AS payments, \
    COUNT(r.refunded_ms) AS refunded FROM payments p LEFT JOIN refunds r ON r.payment_id = p.id \
    WHERE p.state = 'settled' AND p.settled_ms >= $1 AND p.voided_ms IS NULL \
    GROUP BY p.settled_ms / 86400000, p.tier, p.amount ORDER BY 1, 2, 3";

/// The uploads to one tier on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploads {
    /// The UTC day, counted from 1970.
    pub day: i64,
    /// The tier that the images have now: a renewal may have changed it.
    pub tier: String,
    /// How many images were published.
    pub images: i64,
    /// Their bytes.
    pub bytes: i64,
}
from_row!(Uploads: day, tier, images, bytes);

/// Counts the images that were published since a time, by day and tier, also those that are deleted
/// since.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn uploads(db: &Db, since_ms: i64) -> Result<Vec<Uploads>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(UPLOADS)
        .bind(since_ms)
        .fetch_all(pool)
        .await)?)
}

const UPLOADS: &str = "SELECT published_ms / 86400000 AS day, tier, COUNT(*) AS images, \
    CAST(SUM(size_bytes) AS BIGINT) AS bytes FROM images WHERE published_ms >= $1 \
    GROUP BY published_ms / 86400000, tier ORDER BY 1, 2";

/// The images of one tier that are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The tier.
    pub tier: String,
    /// Images that are served.
    pub live: i64,
    /// Their bytes.
    pub live_bytes: i64,
    /// Served images that expire within a day.
    pub due_in_a_day: i64,
    /// Served images that expire within a week.
    pub due_in_a_week: i64,
    /// Images that have expired or are withdrawn, and whose objects wait to be deleted.
    pub overdue: i64,
    /// Their bytes.
    pub overdue_bytes: i64,
}
from_row!(Stored: tier, live, live_bytes, due_in_a_day, due_in_a_week, overdue, overdue_bytes);

/// Counts the stored images by tier.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn stored(db: &Db, now_ms: i64) -> Result<Vec<Stored>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(STORED)
        .bind(now_ms)
        .fetch_all(pool)
        .await)?)
}

const STORED: &str = "SELECT tier, COUNT(CASE WHEN is_live = 1 THEN 1 END) AS live, \
    CAST(COALESCE(SUM(CASE WHEN is_live = 1 THEN size_bytes END), 0) AS BIGINT) AS live_bytes, \
    COUNT(CASE WHEN is_live = 1 AND expires_ms <= CAST($1 AS BIGINT) + 86400000 THEN 1 END) AS due_in_a_day, \
    COUNT(CASE WHEN is_live = 1 AND expires_ms <= CAST($1 AS BIGINT) + 604800000 THEN 1 END) AS due_in_a_week, \
    COUNT(CASE WHEN is_live = 0 THEN 1 END) AS overdue, \
    CAST(COALESCE(SUM(CASE WHEN is_live = 0 THEN size_bytes END), 0) AS BIGINT) AS overdue_bytes \
    FROM (SELECT tier, size_bytes, expires_ms, CASE WHEN state = 'live' AND (expires_ms IS NULL OR expires_ms > $1) \
    THEN 1 ELSE 0 END AS is_live FROM images WHERE state IN ('live', 'deleting')) AS stored \
    GROUP BY tier ORDER BY tier";

/// What waits for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Settled payments whose goods are owed.
    pub owed: i64,
    /// Refunds that are due.
    pub refunds: i64,
    /// Payments of unknown outcome.
    pub unknown: i64,
}
from_row!(Waiting: owed, refunds, unknown);

/// Counts what waits for the operator.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn waiting(db: &Db) -> Result<Waiting, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(WAITING)
        .fetch_one(pool)
        .await)?)
}

const WAITING: &str = "SELECT \
    (SELECT COUNT(*) FROM payments WHERE owed IS NOT NULL AND resolved_ms IS NULL) AS owed, \
    (SELECT COUNT(*) FROM refunds WHERE refunded_ms IS NULL) AS refunds, \
    (SELECT COUNT(*) FROM payments WHERE state = 'unknown' AND next_look_ms IS NOT NULL) AS unknown";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("stats::ASKED", ASKED),
    ("stats::SOLD", SOLD),
    ("stats::SALES", SALES),
    ("stats::UPLOADS", UPLOADS),
    ("stats::STORED", STORED),
    ("stats::WAITING", WAITING),
];
