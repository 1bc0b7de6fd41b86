//! Images that are withdrawn before they expire. Triggers record each withdrawal in the same
//! transaction, whichever process makes it. PostgreSQL also sends a notification at commit.

use sqlx::postgres::PgListener;

use super::{Db, DbError, read_db, write_db};
use crate::model::ids::ImageId;

/// The PostgreSQL channel that the triggers notify.
const CHANNEL: Sql = "pixtoll_withdrawn";
/// How many withdrawals one query lists.
const MOST: usize = 10_000;

/// The images that were withdrawn since a horizon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawals {
    /// All images withdrawn since the requested horizon; some may be listed again. `None`: there
    /// are too many to list.
    pub images: Option<Vec<ImageId>>,
    /// The horizon for the next query: every withdrawal committed before it is listed.
    pub horizon: i64,
}

/// Finds the withdrawals since `horizon`. Without a horizon, lists none and returns the horizon to
/// start from.
///
/// # Errors
/// [`DbError`].
pub async fn find_since(db: &Db, horizon: Option<i64>) -> Result<Withdrawals, DbError> {
    let sql = db.pick(FIND_SINCE_SQLITE, FIND_SINCE_POSTGRES);
    let rows: Vec<(i64, Option<String>)> = read_db!(db, |pool| sqlx::query_as(sql)
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

// SQLite has one writer, so numbers are committed in order. On PostgreSQL a transaction may commit
// after a later one, so the horizon is the oldest transaction that is still open.
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

/// Erases withdrawals that are an hour old. Every server has read them since, or has cleared its
/// cache.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn forget_old(db: &Db) -> Result<(), DbError> {
    let sql = db.pick(FORGET_OLD_SQLITE, FORGET_OLD_POSTGRES);
    write_db!(db, |pool| sqlx::query(sql).execute(pool).await.map(|_| ()))?;
    Ok(())
}

// A trigger only knows the database's clock, so that clock is used here too. On SQLite the last row
// stays: the next number is made from it.
const FORGET_OLD_SQLITE: Sql = "DELETE FROM withdrawals WHERE written < (SELECT MAX(written) FROM withdrawals) \
    AND withdrawn_ms < CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) - 3600000";
const FORGET_OLD_POSTGRES: Sql = "DELETE FROM withdrawals WHERE withdrawn_ms < \
    CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) - 3600000";

/// Receives notifications of withdrawals at once. Notifications that it misses are found by
/// [`find_since()`].
#[derive(Debug)]
pub struct Listener(PgListener);

impl Listener {
    /// Listens on a separate connection. `None`: SQLite has no notifications.
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

    /// Waits for the next withdrawn image. `None`: the connection was lost and reopened.
    ///
    /// # Errors
    /// [`DbError::Driver`]: the listener can't be used any more.
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
