//! Which contents of images may have objects besides the one that is served, in the rows of
//! `refreshes`. Their objects are deleted by these numbers.

use std::time::Duration;

use super::retention::{listed, of_listed};
use super::rows::Field;
use super::{Db, DbError, from_row, in_tx, read_db, write_db};
use crate::model::ids::ImageId;
use crate::system::clock::Timestamp;

/// An image of which objects of other contents may exist.
#[derive(Debug, Clone)]
pub struct Unclean {
    /// The image.
    pub image: ImageId,
    /// The first number that may have an object.
    pub oldest: u32,
    /// The last number that may have an object. No server stores one under it any more.
    pub newest: u32,
    /// Whether the image is deleted.
    pub is_gone: bool,
    /// The end of the lease, which tells it from others.
    pub lease: Timestamp,
}

#[derive(Debug)]
struct UncleanRow {
    image_id: String,
    oldest: i64,
    newest: i64,
    is_gone: i64,
    clean_ms: Option<i64>,
}
from_row!(UncleanRow: image_id, oldest, newest, is_gone, clean_ms);

impl TryFrom<UncleanRow> for Unclean {
    type Error = DbError;

    fn try_from(row: UncleanRow) -> Result<Self, DbError> {
        let field = Field {
            table: "refreshes",
            row: &row.image_id,
        };
        Ok(Self {
            image: field.with("image_id", ImageId::parse(&row.image_id))?,
            oldest: field.count("oldest", row.oldest)?,
            newest: field.count("newest", row.newest)?,
            is_gone: row.is_gone != 0,
            lease: Timestamp::from_millis(row.clean_ms.unwrap_or_default()),
        })
    }
}

/// The images with objects to delete. The sidecar of an image names its content before; the reaper
/// writes those that a server left behind.
macro_rules! unclean {
    () => {
        "SELECT r.image_id FROM refreshes r WHERE r.clean_ms <= $1 AND NOT EXISTS (SELECT 1 FROM images i \
         WHERE i.id = r.image_id AND i.state = 'live' AND i.undescribed > 0)"
    };
}

/// Whether objects of an image have to be deleted. Costs one look at an index.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn is_unclean(db: &Db, now: Timestamp) -> Result<bool, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_scalar(IS_UNCLEAN)
        .bind(now.millis())
        .fetch_one(pool)
        .await)?)
}

const IS_UNCLEAN: &str = concat!("SELECT EXISTS (", unclean!(), ")");

/// Takes images with objects to delete, for `lease`, and counts a number: content that a server
/// stores under an earlier one can't become the image's any more. An image is taken once its
/// sidecar names its content.
///
/// # Errors
/// [`DbError`].
pub async fn take_unclean(
    db: &Db,
    now: Timestamp,
    lease: Duration,
    most: u32,
) -> Result<Vec<Unclean>, DbError> {
    let sql = db.pick(TAKE_UNCLEAN_SQLITE, TAKE_UNCLEAN_POSTGRES);
    let rows: Vec<UncleanRow> = write_db!(db, |pool| sqlx::query_as(sql)
        .bind(now.millis())
        .bind(now.plus(lease).millis())
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Unclean::try_from).collect()
}

macro_rules! take_unclean {
    ($lock:literal) => {
        concat!(
            "UPDATE refreshes SET newest = newest + 1, clean_ms = $2 WHERE image_id IN (",
            unclean!(),
            " ORDER BY r.clean_ms LIMIT $3 ",
            $lock,
            ") RETURNING image_id, oldest, newest, is_gone, clean_ms"
        )
    };
}
const TAKE_UNCLEAN_SQLITE: &str = take_unclean!("");
const TAKE_UNCLEAN_POSTGRES: &str = take_unclean!("FOR UPDATE OF r SKIP LOCKED");

/// Records that only the object of content `version` is left, unless another one was counted since.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn note_clean(db: &Db, unclean: &Unclean, version: u32) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(NOTE_CLEAN)
        .bind(unclean.image.as_str())
        .bind(unclean.lease.millis())
        .bind(i64::from(unclean.newest))
        .bind(i64::from(version))
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const NOTE_CLEAN: &str = "UPDATE refreshes SET oldest = $4, clean_ms = NULL \
    WHERE image_id = $1 AND clean_ms = $2 AND newest = $3 AND is_gone = 0";

/// Erases the row of a deleted image.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn erase_gone(db: &Db, image: &ImageId) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(ERASE_GONE)
        .bind(image.as_str())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const ERASE_GONE: &str = "DELETE FROM refreshes WHERE image_id = $1 AND is_gone = 1";

/// Finds the numbers of contents of these images that may have an object.
///
/// # Errors
/// [`DbError`].
pub async fn find_of(db: &Db, images: &[ImageId]) -> Result<Vec<Unclean>, DbError> {
    if images.is_empty() {
        return Ok(Vec::new());
    }
    let (list, count) = listed(images);
    let rows: Vec<UncleanRow> = read_db!(db, |pool| sqlx::query_as(FIND_OF)
        .bind(&list)
        .bind(count)
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Unclean::try_from).collect()
}

const FIND_OF: &str = of_listed!(
    "SELECT image_id, oldest, newest, is_gone, clean_ms FROM refreshes \
     WHERE image_id IN (SELECT id FROM listed)"
);

/// Records that the objects of these images were deleted, and forgets where they came from. A row
/// stays until `again`, when its objects are deleted once more, if a server may have been storing
/// one.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn mark_gone(db: &Db, images: &[ImageId], again: Timestamp) -> Result<(), DbError> {
    if images.is_empty() {
        return Ok(());
    }
    let (list, count) = listed(images);
    in_tx!(db, |tx| {
        sqlx::query(ERASE_UNTOUCHED)
            .bind(&list)
            .bind(count)
            .execute(&mut *tx)
            .await?;
        sqlx::query(MARK_GONE)
            .bind(&list)
            .bind(count)
            .bind(again.millis())
            .execute(&mut *tx)
            .await?;
    });
    Ok(())
}

// No number was counted, so there is no object but the first one.
const ERASE_UNTOUCHED: &str =
    of_listed!("DELETE FROM refreshes WHERE image_id IN (SELECT id FROM listed) AND newest = 0");
const MARK_GONE: &str = of_listed!(
    "UPDATE refreshes SET is_gone = 1, url = '', etag = NULL, last_modified = NULL, validated = NULL, \
     next_ms = NULL, clean_ms = $3 WHERE image_id IN (SELECT id FROM listed) AND is_gone = 0"
);

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("contents::IS_UNCLEAN", IS_UNCLEAN),
    ("contents::TAKE_UNCLEAN_SQLITE", TAKE_UNCLEAN_SQLITE),
    ("contents::TAKE_UNCLEAN_POSTGRES", TAKE_UNCLEAN_POSTGRES),
    ("contents::NOTE_CLEAN", NOTE_CLEAN),
    ("contents::ERASE_GONE", ERASE_GONE),
    ("contents::FIND_OF", FIND_OF),
    ("contents::ERASE_UNTOUCHED", ERASE_UNTOUCHED),
    ("contents::MARK_GONE", MARK_GONE),
];
