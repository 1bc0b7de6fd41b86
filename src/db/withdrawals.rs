//! Images that stopped being public before their time: triggers write them down, in the transaction that withdraws
//! them, whoever does. On PostgreSQL a notification goes out at its commit as well.

use sqlx::postgres::PgListener;

use super::{Db, DbError, on_db};
use crate::ids::ImageId;

/// The channel that triggers notify.
const CHANNEL: Sql = "pixtoll_withdrawn";
/// So many withdrawals are named at once.
const MOST: usize = 10_000;

/// What was withdrawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawals {
    /// Every image that was, since the horizon that was asked for; some are named again. `None`: too many
    /// to name.
    pub images: Option<Vec<ImageId>>,
    /// Where to look on from: all that was committed before is named.
    pub horizon: i64,
}

/// What was withdrawn since `horizon`; without one, nothing, but where to look on from.
///
/// # Errors
/// [`DbError`].
pub async fn find_since(db: &Db, horizon: Option<i64>) -> Result<Withdrawals, DbError> {
    let sql = db.pick(FIND_SINCE_SQLITE, FIND_SINCE_POSTGRES);
    let rows: Vec<(i64, Option<String>)> = on_db!(db, |pool| sqlx::query_as(sql)
        .bind(horizon.unwrap_or(i64::MAX))
        .fetch_all(pool)
        .await)?;
    let horizon = rows.first().map_or(0, |(horizon, _)| *horizon);
    let images = (rows.len() <= MOST).then(|| {
        let ids = rows.iter().filter_map(|(_, id)| id.as_deref());
        ids.filter_map(ImageId::parse).collect()
    });
    Ok(Withdrawals { images, horizon })
}

// SQLite has one writer, so that numbers are committed in their order. On PostgreSQL a transaction may be
// committed after a later one; the oldest that is still under way is where to look on from.
macro_rules! find_since {
    ($horizon:literal) => {
        concat!(
            "SELECT ",
            $horizon,
            " AS horizon, w.image_id FROM (SELECT 1 AS one) AS once \
             LEFT JOIN withdrawals w ON w.written >= $1 LIMIT 10001"
        )
    };
}

type Sql = &'static str;
const FIND_SINCE_SQLITE: Sql =
    find_since!("(SELECT COALESCE(MAX(written), 0) + 1 FROM withdrawals)");
const FIND_SINCE_POSTGRES: Sql =
    find_since!("CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT) AS BIGINT)");

/// Erases what was withdrawn an hour ago: every server has looked since, or has forgotten all that it held.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn forget_old(db: &Db) -> Result<(), DbError> {
    let sql = db.pick(FORGET_OLD_SQLITE, FORGET_OLD_POSTGRES);
    on_db!(db, |pool| sqlx::query(sql).execute(pool).await.map(|_| ()))?;
    Ok(())
}

// A trigger knows no clock but the database's, so that one decides here too. On SQLite the last row stays: the
// next number is made from it.
const FORGET_OLD_SQLITE: Sql = "DELETE FROM withdrawals WHERE written < (SELECT MAX(written) FROM withdrawals) \
    AND withdrawn_ms < CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) - 3600000";
const FORGET_OLD_POSTGRES: Sql = "DELETE FROM withdrawals WHERE withdrawn_ms < \
    CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) - 3600000";

/// Who hears of withdrawals at once. What it misses is found by [`find_since`].
#[derive(Debug)]
pub struct Listener(PgListener);

impl Listener {
    /// Listens, on a connection of its own. `None`: SQLite tells nobody.
    ///
    /// # Errors
    /// [`DbError::Driver`].
    pub async fn open(db: &Db) -> Result<Option<Self>, DbError> {
        let Db::Postgres(pool) = db else {
            return Ok(None);
        };
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(Some(Self(listener)))
    }

    /// The next image that is withdrawn. `None`: the connection was lost, and there is another one.
    ///
    /// # Errors
    /// [`DbError::Driver`]: this one hears nothing any more.
    pub async fn next(&mut self) -> Result<Option<ImageId>, DbError> {
        loop {
            match self.0.try_recv().await? {
                None => return Ok(None),
                Some(told) => {
                    if let Some(id) = ImageId::parse(told.payload()) {
                        return Ok(Some(id));
                    }
                }
            }
        }
    }
}

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("withdrawals::FIND_SINCE_SQLITE", FIND_SINCE_SQLITE),
    ("withdrawals::FIND_SINCE_POSTGRES", FIND_SINCE_POSTGRES),
    ("withdrawals::FORGET_OLD_SQLITE", FORGET_OLD_SQLITE),
    ("withdrawals::FORGET_OLD_POSTGRES", FORGET_OLD_POSTGRES),
];
