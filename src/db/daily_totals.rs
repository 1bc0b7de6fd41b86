//! What happened on each UTC day: counted from the rows of payments and images, and recorded for days
//! that are over, since those rows are erased when `retention.records` has passed.

use std::collections::BTreeMap;

use super::{Db, DbError, from_row, in_tx, read_db};
use crate::model::proof::Totals;

/// The totals of one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    day: i64,
    challenged: i64,
    presented: i64,
    refused: i64,
    settled: i64,
    expired: i64,
    deleted: i64,
}
from_row!(Row: day, challenged, presented, refused, settled, expired, deleted);

/// A count or two of one day.
struct Counted {
    day: i64,
    first: i64,
    second: i64,
}
from_row!(Counted: day, first, second);

impl Row {
    const fn totals(&self) -> Totals {
        Totals {
            challenged: self.challenged,
            presented: self.presented,
            refused: self.refused,
            settled: self.settled,
            expired: self.expired,
            deleted: self.deleted,
        }
    }
}

/// Counts the days since `first_day`, today included, from the rows of payments and images. Each
/// statement reads a part of an index. Days without anything are left out.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn count(db: &Db, first_day: i64) -> Result<BTreeMap<i64, Totals>, DbError> {
    let mut days: BTreeMap<i64, Totals> = BTreeMap::new();
    let asked: Vec<Row> = read_db!(db, |pool| sqlx::query_as(COUNT_ASKED)
        .bind(first_day)
        .fetch_all(pool)
        .await)?;
    for row in asked {
        *days.entry(row.day).or_default() = row.totals();
    }
    for (sql, add) in [
        (
            COUNT_ENDED,
            (|totals, count| {
                totals.settled += count.first;
                totals.refused += count.second;
            }) as fn(&mut Totals, &Counted),
        ),
        (COUNT_GONE, |totals, count| {
            totals.expired += count.first;
            totals.deleted += count.second;
        }),
    ] {
        let counted: Vec<Counted> = read_db!(db, |pool| sqlx::query_as(sql)
            .bind(first_day.saturating_mul(DAY_MS))
            .fetch_all(pool)
            .await)?;
        for count in counted {
            add(days.entry(count.day).or_default(), &count);
        }
    }
    Ok(days)
}

const DAY_MS: i64 = 86_400_000;
const COUNT_ASKED: &str = "SELECT day, CAST(SUM(challenged) AS BIGINT) AS challenged, \
    CAST(SUM(presented) AS BIGINT) AS presented, CAST(SUM(refused) AS BIGINT) AS refused, \
    CAST(0 AS BIGINT) AS settled, CAST(0 AS BIGINT) AS expired, CAST(0 AS BIGINT) AS deleted \
    FROM funnel WHERE day >= $1 GROUP BY day ORDER BY day";
// The conditions are those of the indexes payments_settled and payments_unpaid.
const COUNT_ENDED: &str = "SELECT settled_ms / 86400000 AS day, COUNT(*) AS first, CAST(0 AS BIGINT) AS second \
    FROM payments WHERE state = 'settled' AND settled_ms >= $1 AND voided_ms IS NULL \
    GROUP BY settled_ms / 86400000 \
    UNION ALL SELECT changed_ms / 86400000, CAST(0 AS BIGINT), COUNT(*) FROM payments \
    WHERE state IN ('rejected', 'released', 'failed') AND next_look_ms IS NULL AND changed_ms >= $1 \
    GROUP BY changed_ms / 86400000";
// The conditions are those of the indexes images_erasable and images_deleted_paid. An upload that was
// given up before it was published is no object that anybody could see.
const COUNT_GONE: &str = "SELECT deleted_ms / 86400000 AS day, \
    COUNT(CASE WHEN deleted_ms >= expires_ms THEN 1 END) AS first, \
    COUNT(CASE WHEN expires_ms IS NULL OR deleted_ms < expires_ms THEN 1 END) AS second FROM images \
    WHERE deleted_ms IS NOT NULL AND (payment_id IS NULL OR state = 'discarded') AND deleted_ms >= $1 \
    AND published_ms IS NOT NULL GROUP BY deleted_ms / 86400000 \
    UNION ALL SELECT deleted_ms / 86400000, COUNT(CASE WHEN deleted_ms >= expires_ms THEN 1 END), \
    COUNT(CASE WHEN expires_ms IS NULL OR deleted_ms < expires_ms THEN 1 END) FROM images \
    WHERE state = 'deleted' AND payment_id IS NOT NULL AND deleted_ms >= $1 GROUP BY deleted_ms / 86400000";

/// Records days before `end`. A day that is recorded already is not changed; one from `end` on was
/// recorded by a wrong clock that was corrected since, and is deleted.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn record(db: &Db, days: &BTreeMap<i64, Totals>, end: i64) -> Result<(), DbError> {
    in_tx!(db, |tx| {
        sqlx::query(FORGET).bind(end).execute(&mut *tx).await?;
        for (day, totals) in days.range(..end) {
            sqlx::query(RECORD)
                .bind(day)
                .bind(totals.challenged)
                .bind(totals.presented)
                .bind(totals.refused)
                .bind(totals.settled)
                .bind(totals.expired)
                .bind(totals.deleted)
                .execute(&mut *tx)
                .await?;
        }
    });
    Ok(())
}

const FORGET: &str = "DELETE FROM daily_totals WHERE day >= $1";
const RECORD: &str = "INSERT INTO daily_totals (day, challenged, presented, refused, settled, expired, deleted) \
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (day) DO NOTHING";

/// The first and the last recorded day before `end`. `None`: there is none.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn recorded(db: &Db, end: i64) -> Result<Option<(i64, i64)>, DbError> {
    let (first, last): (Option<i64>, Option<i64>) = read_db!(db, |pool| sqlx::query_as(RECORDED)
        .bind(end)
        .fetch_one(pool)
        .await)?;
    Ok(first.zip(last))
}

const RECORDED: &str = "SELECT MIN(day), MAX(day) FROM daily_totals WHERE day < $1";

/// The recorded days from `first_day` to before `end`.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn list(db: &Db, first_day: i64, end: i64) -> Result<BTreeMap<i64, Totals>, DbError> {
    let rows: Vec<Row> = read_db!(db, |pool| sqlx::query_as(LIST)
        .bind(first_day)
        .bind(end)
        .fetch_all(pool)
        .await)?;
    Ok(rows.iter().map(|row| (row.day, row.totals())).collect())
}

const LIST: &str = "SELECT day, challenged, presented, refused, settled, expired, deleted FROM daily_totals \
    WHERE day >= $1 AND day < $2 ORDER BY day";

/// The sums of all recorded days before `end`.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn sum(db: &Db, end: i64) -> Result<Totals, DbError> {
    let row: Row = read_db!(db, |pool| sqlx::query_as(SUM)
        .bind(end)
        .fetch_one(pool)
        .await)?;
    Ok(row.totals())
}

const SUM: &str = "SELECT CAST(0 AS BIGINT) AS day, \
    CAST(COALESCE(SUM(challenged), 0) AS BIGINT) AS challenged, \
    CAST(COALESCE(SUM(presented), 0) AS BIGINT) AS presented, \
    CAST(COALESCE(SUM(refused), 0) AS BIGINT) AS refused, \
    CAST(COALESCE(SUM(settled), 0) AS BIGINT) AS settled, \
    CAST(COALESCE(SUM(expired), 0) AS BIGINT) AS expired, \
    CAST(COALESCE(SUM(deleted), 0) AS BIGINT) AS deleted FROM daily_totals WHERE day < $1";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("daily_totals::COUNT_ASKED", COUNT_ASKED),
    ("daily_totals::COUNT_ENDED", COUNT_ENDED),
    ("daily_totals::COUNT_GONE", COUNT_GONE),
    ("daily_totals::FORGET", FORGET),
    ("daily_totals::RECORD", RECORD),
    ("daily_totals::RECORDED", RECORDED),
    ("daily_totals::LIST", LIST),
    ("daily_totals::SUM", SUM),
];
