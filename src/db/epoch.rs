//! The database's own id and epoch, of which the store has a copy, and what proved that commits are
//! lost. See [`crate::moving::epoch`].

use super::{Db, DbError, deployment, in_tx, write_db};
use crate::model::mark::{Mark, stamps};
use crate::system::clock::Timestamp;

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

/// Finds what proved that the database lost commits, which nobody has accepted yet.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_lost(db: &Db) -> Result<Option<String>, DbError> {
    deployment::find(db, stamps::LOST).await
}

/// Records what proved that the database lost commits. An earlier proof stays.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn note_lost(db: &Db, what: &str, now: Timestamp) -> Result<(), DbError> {
    deployment::stamp(db, stamps::LOST, &format!("{what}, seen at {now}")).await?;
    Ok(())
}

/// Accepts what was lost: nothing that was given away before `now` is a proof any more. Upload
/// tokens from before then expire until `tokens_until`.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn accept_lost(db: &Db, now: Timestamp, tokens_until: Timestamp) -> Result<(), DbError> {
    let [images, tokens] = [now, tokens_until].map(|time| time.millis().to_string());
    in_tx!(db, |tx| {
        for (name, value) in [
            (stamps::LOST_IMAGES, &images),
            (stamps::LOST_TOKENS, &tokens),
        ] {
            sqlx::query(deployment::SET)
                .bind(name)
                .bind(value)
                .execute(&mut *tx)
                .await?;
        }
        sqlx::query(deployment::REMOVE)
            .bind(stamps::LOST)
            .execute(&mut *tx)
            .await?;
    });
    Ok(())
}

/// Whether the operator accepted the loss of images from this time.
///
/// # Errors
/// [`DbError`].
pub async fn is_image_accepted(db: &Db, created: Timestamp) -> Result<bool, DbError> {
    is_accepted(db, stamps::LOST_IMAGES, created).await
}

/// Whether the operator accepted the loss of upload tokens with this expiry.
///
/// # Errors
/// [`DbError`].
pub async fn is_token_accepted(db: &Db, expires: Timestamp) -> Result<bool, DbError> {
    is_accepted(db, stamps::LOST_TOKENS, expires).await
}

async fn is_accepted(db: &Db, name: &str, time: Timestamp) -> Result<bool, DbError> {
    let Some(until) = deployment::find(db, name).await? else {
        return Ok(false);
    };
    let until = until.parse().map_err(|_| DbError::Corrupt {
        table: "deployment",
        column: "value",
        row: name.to_owned(),
    })?;
    Ok(time <= Timestamp::from_millis(until))
}

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
