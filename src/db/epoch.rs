//! The database's own id and epoch. The store has a copy of both: see [`crate::epoch`].

use super::{Db, DbError, deployment, write_db};
use crate::model::mark::{Mark, stamps};

/// Loads the database's id and epoch. A database without an id takes `drawn`.
///
/// # Errors
/// [`DbError`].
pub async fn load(db: &Db, drawn: &str) -> Result<Mark, DbError> {
    let database = deployment::stamp(db, stamps::DATABASE, drawn).await?;
    let epoch = parse(&deployment::stamp(db, stamps::EPOCH, "0").await?)?;
    Ok(Mark { database, epoch })
}

/// Finds the database's id and epoch; `None`: no server has used the database yet.
///
/// # Errors
/// [`DbError`].
pub async fn find(db: &Db) -> Result<Option<Mark>, DbError> {
    let database = deployment::find(db, stamps::DATABASE).await?;
    let epoch = deployment::find(db, stamps::EPOCH).await?;
    database
        .zip(epoch)
        .map(|(database, epoch)| {
            Ok(Mark {
                database,
                epoch: parse(&epoch)?,
            })
        })
        .transpose()
}

/// Advances to the next epoch, durably, and returns it.
///
/// # Errors
/// [`DbError`].
pub async fn advance(db: &Db) -> Result<u64, DbError> {
    let epoch: String = write_db!(db, |pool| sqlx::query_scalar(ADVANCE)
        .bind(stamps::EPOCH)
        .fetch_one(pool)
        .await)?;
    parse(&epoch)
}

const ADVANCE: &str = "UPDATE deployment SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) \
    WHERE name = $1 RETURNING value";

/// Raises the epoch to `epoch`. Does nothing when the epoch is higher already.
///
/// # Errors
/// [`DbError`].
pub async fn raise(db: &Db, epoch: u64) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(RAISE)
        .bind(stamps::EPOCH)
        .bind(epoch.to_string())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const RAISE: &str = "UPDATE deployment SET value = $2 \
    WHERE name = $1 AND CAST(value AS BIGINT) < CAST($2 AS BIGINT)";

fn parse(text: &str) -> Result<u64, DbError> {
    text.parse().map_err(|_| DbError::Corrupt {
        table: "deployment",
        column: "value",
        row: stamps::EPOCH.to_owned(),
    })
}

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("epoch::ADVANCE", ADVANCE), ("epoch::RAISE", RAISE)];
