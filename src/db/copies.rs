//! Copies of a SQLite database into a file, and the images whose objects such a copy needs.

use std::path::Path;

use super::rows::{ImageRow, image_columns};
use super::{Db, DbError, read_db, write_db};
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::system::clock::Timestamp;

/// Writes the committed data into a new file, while others may write. The caller syncs the file.
///
/// # Errors
/// [`DbError`], also when the file exists already.
pub async fn copy_into(db: &Db, file: &Path) -> Result<(), DbError> {
    let Db::Sqlite(sqlite) = db else {
        return Err(DbError::Uncopied(
            "only a SQLite database can be copied into a file".to_owned(),
        ));
    };
    let file = file
        .to_str()
        .ok_or_else(|| DbError::Uncopied("the path of the copy is not valid UTF-8".to_owned()))?;
    sqlite.copy_into(file).await
}

/// Checks the file of a SQLite database by SQLite's own checks. Returns what is wrong; empty when
/// nothing is.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_damage(db: &Db) -> Result<Vec<String>, DbError> {
    let Db::Sqlite(sqlite) = db else {
        return Ok(Vec::new());
    };
    let mut damage: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_all(sqlite.readers())
        .await?;
    damage.retain(|line| line != "ok");
    let strays: Vec<String> =
        sqlx::query_scalar("SELECT \"table\" || ' ' || rowid FROM pragma_foreign_key_check()")
            .fetch_all(sqlite.readers())
            .await?;
    damage.extend(
        strays
            .into_iter()
            .map(|row| format!("{row} references a row that doesn't exist")),
    );
    Ok(damage)
}

/// Returns images after `last`, in order of id, whose objects may exist: all except those whose
/// object is recorded to be gone.
///
/// # Errors
/// [`DbError`].
pub async fn page_kept(db: &Db, last: &str, most: u32) -> Result<Vec<Image>, DbError> {
    let rows: Vec<ImageRow> = read_db!(db, |pool| sqlx::query_as(PAGE_KEPT)
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

/// Counts the images that [`page_kept`] returns in all.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn count_kept(db: &Db) -> Result<u64, DbError> {
    let count: i64 = read_db!(db, |pool| sqlx::query_scalar(COUNT_KEPT)
        .fetch_one(pool)
        .await)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

const COUNT_KEPT: &str = "SELECT COUNT(*) FROM images WHERE deleted_ms IS NULL";

/// Returns images after `last`, in order of id, whose object was recorded to be gone at `since` or
/// later.
///
/// # Errors
/// [`DbError`].
pub async fn page_deleted(
    db: &Db,
    since: Timestamp,
    last: &str,
    most: u32,
) -> Result<Vec<Image>, DbError> {
    let rows: Vec<ImageRow> = read_db!(db, |pool| sqlx::query_as(PAGE_DELETED)
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

/// Returns images after `last`, in order of id, that were renewed at `since` or later and aren't
/// gone.
///
/// # Errors
/// [`DbError`].
pub async fn page_renewed(
    db: &Db,
    since: Timestamp,
    last: &str,
    most: u32,
) -> Result<Vec<Image>, DbError> {
    let rows: Vec<ImageRow> = read_db!(db, |pool| sqlx::query_as(PAGE_RENEWED)
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

/// Extends a live image's expiry to `expires` (`None`: for ever) if that is later than its row's.
/// Returns whether it was extended. The sidecar is written again, since the row may have another
/// tier.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn keep_longer(
    db: &Db,
    id: &ImageId,
    expires: Option<Timestamp>,
) -> Result<bool, DbError> {
    let moved = write_db!(db, |pool| sqlx::query(KEEP_LONGER)
        .bind(id.as_str())
        .bind(expires.map(Timestamp::millis))
        .execute(pool)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(moved > 0)
}

// An image that is kept for ever has no expiry, and is not extended.
const KEEP_LONGER: &str = "UPDATE images SET expires_ms = CAST($2 AS BIGINT), \
    undescribed = undescribed + 1 WHERE id = $1 AND state = 'live' \
    AND (expires_ms < CAST($2 AS BIGINT) OR (expires_ms IS NOT NULL AND CAST($2 AS BIGINT) IS NULL))";

/// Raises the serial of an image's signed links to `serial`. `false`: it is as high already, or the
/// image is not live.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn keep_links_ended(db: &Db, id: &ImageId, serial: u32) -> Result<bool, DbError> {
    let raised = write_db!(db, |pool| sqlx::query(KEEP_LINKS_ENDED)
        .bind(id.as_str())
        .bind(i64::from(serial))
        .execute(pool)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(raised > 0)
}

const KEEP_LINKS_ENDED: &str =
    "UPDATE images SET link_serial = $2 WHERE id = $1 AND state = 'live' AND link_serial < $2";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("copies::PAGE_KEPT", PAGE_KEPT),
    ("copies::COUNT_KEPT", COUNT_KEPT),
    ("copies::PAGE_DELETED", PAGE_DELETED),
    ("copies::PAGE_RENEWED", PAGE_RENEWED),
    ("copies::KEEP_LONGER", KEEP_LONGER),
    ("copies::KEEP_LINKS_ENDED", KEEP_LINKS_ENDED),
];
