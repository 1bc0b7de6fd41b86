//! Copies of a SQLite database as a file, by its own means, and the images whose objects a copy needs beside it.

use std::path::Path;

use super::rows::{ImageRow, image_columns};
use super::{Db, DbError, on_db};
use crate::clock::Timestamp;
use crate::ids::ImageId;
use crate::model::image::Image;

/// Writes what is committed now into a new file, whatever is written meanwhile. The caller syncs it.
///
/// # Errors
/// [`DbError`], also when the file is there already.
pub async fn copy_into(db: &Db, file: &Path) -> Result<(), DbError> {
    let Db::Sqlite(pool) = db else {
        return Err(DbError::Uncopied(
            "only a SQLite database is a file".to_owned(),
        ));
    };
    let file = file
        .to_str()
        .ok_or_else(|| DbError::Uncopied("the name of its place is no text".to_owned()))?;
    sqlx::query("VACUUM INTO $1")
        .bind(file)
        .execute(pool)
        .await?;
    Ok(())
}

/// What is wrong with the file of a SQLite database, by its own check; empty when nothing is.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_damage(db: &Db) -> Result<Vec<String>, DbError> {
    let Db::Sqlite(pool) = db else {
        return Ok(Vec::new());
    };
    let mut damage: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_all(pool)
        .await?;
    damage.retain(|line| line != "ok");
    let strays: Vec<String> =
        sqlx::query_scalar("SELECT \"table\" || ' ' || rowid FROM pragma_foreign_key_check()")
            .fetch_all(pool)
            .await?;
    damage.extend(
        strays
            .into_iter()
            .map(|row| format!("{row} speaks of a row that isn't there")),
    );
    Ok(damage)
}

/// Images after `last` whose objects may be there, in order of their ids: all but those whose object was seen to
/// be gone.
///
/// # Errors
/// [`DbError`].
pub async fn page_kept(db: &Db, last: &str, most: u32) -> Result<Vec<Image>, DbError> {
    let rows: Vec<ImageRow> = on_db!(db, |pool| sqlx::query_as(PAGE_KEPT)
        .bind(last)
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Image::try_from).collect()
}

const PAGE_KEPT: &str = concat!(
    "SELECT ",
    image_columns!(),
    " FROM images WHERE id > $1 AND deleted_ms IS NULL ORDER BY id LIMIT $2"
);

/// How many images [`page_kept`] yields in all.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn count_kept(db: &Db) -> Result<u64, DbError> {
    let count: i64 = on_db!(db, |pool| sqlx::query_scalar(COUNT_KEPT)
        .fetch_one(pool)
        .await)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

const COUNT_KEPT: &str = "SELECT COUNT(*) FROM images WHERE deleted_ms IS NULL";

/// Images after `last` whose object was seen to be gone at `since` or later, in order of their ids.
///
/// # Errors
/// [`DbError`].
pub async fn page_deleted(
    db: &Db,
    since: Timestamp,
    last: &str,
    most: u32,
) -> Result<Vec<Image>, DbError> {
    let rows: Vec<ImageRow> = on_db!(db, |pool| sqlx::query_as(PAGE_DELETED)
        .bind(since.millis())
        .bind(last)
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Image::try_from).collect()
}

const PAGE_DELETED: &str = concat!(
    "SELECT ",
    image_columns!(),
    " FROM images WHERE deleted_ms >= $1 AND id > $2 ORDER BY id LIMIT $3"
);

/// Images after `last` that were renewed at `since` or later and aren't gone, in order of their ids.
///
/// # Errors
/// [`DbError`].
pub async fn page_renewed(
    db: &Db,
    since: Timestamp,
    last: &str,
    most: u32,
) -> Result<Vec<Image>, DbError> {
    let rows: Vec<ImageRow> = on_db!(db, |pool| sqlx::query_as(PAGE_RENEWED)
        .bind(since.millis())
        .bind(last)
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Image::try_from).collect()
}

const PAGE_RENEWED: &str = concat!(
    "SELECT ",
    image_columns!(),
    " FROM images WHERE deleted_ms IS NULL AND id > $2 AND EXISTS (SELECT 1 FROM renewals r \
     WHERE r.image_id = images.id AND r.renewed_ms >= $1) ORDER BY id LIMIT $3"
);

/// Keeps a live image until `expires` (`None`: for ever), where that is later than its row says. Whether it is. Its record
/// is written anew, since its row may have another tier.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn keep_longer(
    db: &Db,
    id: &ImageId,
    expires: Option<Timestamp>,
) -> Result<bool, DbError> {
    let moved = on_db!(db, |pool| sqlx::query(KEEP_LONGER)
        .bind(id.as_str())
        .bind(expires.map(Timestamp::millis))
        .execute(pool)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(moved > 0)
}

// What is kept for ever has no expiry, and is kept no longer by any.
const KEEP_LONGER: &str = "UPDATE images SET expires_ms = CAST($2 AS BIGINT), \
    undescribed = undescribed + 1 WHERE id = $1 AND state = 'live' \
    AND (expires_ms < CAST($2 AS BIGINT) OR (expires_ms IS NOT NULL AND CAST($2 AS BIGINT) IS NULL))";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("copies::PAGE_KEPT", PAGE_KEPT),
    ("copies::COUNT_KEPT", COUNT_KEPT),
    ("copies::PAGE_DELETED", PAGE_DELETED),
    ("copies::PAGE_RENEWED", PAGE_RENEWED),
    ("copies::KEEP_LONGER", KEEP_LONGER),
];
