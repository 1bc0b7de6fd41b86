//! The rows of variants that are stored beside their image. A row is written before its object and
//! deleted after it, so every object has a row.

use super::retention::{listed, of_listed};
use super::rows::{Field, signed};
use super::{Db, DbError, from_row, in_tx, read_db, write_db};
use crate::model::ids::ImageId;
use crate::system::clock::Timestamp;

/// A stored variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVariant {
    /// The image.
    pub image: ImageId,
    /// The name among the variants of the image.
    pub name: String,
    /// SHA-256 of the bytes, in hexadecimal.
    pub sha256: String,
    /// The size in bytes.
    pub size_bytes: u64,
    /// The width in pixels.
    pub width: u32,
    /// The height in pixels.
    pub height: u32,
}

/// How much of an image's variants may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The most variants.
    pub count: u32,
    /// The most bytes of all of them together.
    pub bytes: u64,
}

/// The columns of a stored variant.
macro_rules! columns {
    () => {
        "image_id, name, sha256, size_bytes, width, height"
    };
}

#[derive(Debug)]
struct Row {
    image_id: String,
    name: String,
    sha256: String,
    size_bytes: i64,
    width: i64,
    height: i64,
}
from_row!(Row: image_id, name, sha256, size_bytes, width, height);

impl TryFrom<Row> for StoredVariant {
    type Error = DbError;

    fn try_from(row: Row) -> Result<Self, DbError> {
        let field = Field {
            table: "variants",
            row: &row.image_id,
        };
        Ok(Self {
            image: field.with("image_id", ImageId::parse(&row.image_id))?,
            size_bytes: field.count("size_bytes", row.size_bytes)?,
            width: field.count("width", row.width)?,
            height: field.count("height", row.height)?,
            name: row.name,
            sha256: row.sha256,
        })
    }
}

/// Finds a variant of an image by its name.
///
/// # Errors
/// [`DbError`].
pub async fn find(db: &Db, image: &ImageId, name: &str) -> Result<Option<StoredVariant>, DbError> {
    let row: Option<Row> = read_db!(db, |pool| sqlx::query_as(FIND)
        .bind(image.as_str())
        .bind(name)
        .fetch_optional(pool)
        .await)?;
    row.map(StoredVariant::try_from).transpose()
}

const FIND: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM variants WHERE image_id = $1 AND name = $2 AND deleted_ms IS NULL"
);

/// Finds the variants of an image, in order of their names.
///
/// # Errors
/// [`DbError`].
pub async fn find_all(db: &Db, image: &ImageId) -> Result<Vec<StoredVariant>, DbError> {
    let rows: Vec<Row> = read_db!(db, |pool| sqlx::query_as(FIND_ALL)
        .bind(image.as_str())
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(StoredVariant::try_from).collect()
}

const FIND_ALL: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM variants WHERE image_id = $1 ORDER BY name"
);

/// Writes the row of a variant before its object is stored. `false`: the image is not served at
/// `now`, has another content than `version`, has as many variants as `bounds` allow, or another
/// server wrote this variant first.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn insert(
    db: &Db,
    variant: &StoredVariant,
    version: u32,
    bounds: Bounds,
    now: Timestamp,
) -> Result<bool, DbError> {
    let sql = db.pick(INSERT_SQLITE, INSERT_POSTGRES);
    let inserted = write_db!(db, |pool| sqlx::query(sql)
        .bind(variant.image.as_str())
        .bind(variant.name.as_str())
        .bind(variant.sha256.as_str())
        .bind(signed(variant.size_bytes))
        .bind(i64::from(variant.width))
        .bind(i64::from(variant.height))
        .bind(now.millis())
        .bind(i64::from(bounds.count))
        .bind(signed(bounds.bytes))
        .bind(i64::from(version))
        .execute(pool)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(inserted == 1)
}

macro_rules! insert {
    ($lock:literal) => {
        concat!(
            "INSERT INTO variants (image_id, name, sha256, size_bytes, width, height, created_ms) \
             SELECT id, CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS BIGINT), CAST($5 AS BIGINT), \
             CAST($6 AS BIGINT), CAST($7 AS BIGINT) FROM images \
             WHERE id = $1 AND state = 'live' AND (expires_ms IS NULL OR expires_ms > $7) \
             AND version = $10 \
             AND (SELECT COUNT(*) FROM variants v WHERE v.image_id = $1) < $8 \
             AND (SELECT CAST(COALESCE(SUM(v.size_bytes), 0) AS BIGINT) FROM variants v \
             WHERE v.image_id = $1) + $4 <= $9 ",
            $lock,
            "ON CONFLICT (image_id, name) DO NOTHING"
        )
    };
}

const INSERT_SQLITE: &str = insert!("");
// Whoever deletes or replaces the image changes its row first. The lock makes that wait for this
// row, so that it finds the variant.
const INSERT_POSTGRES: &str = insert!("FOR SHARE OF images ");

/// Whether the row of a variant is there, and its image is live and has content `version`. An
/// object that was stored before this is asked is then found by whoever deletes or replaces the
/// image.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn is_wanted(db: &Db, variant: &StoredVariant, version: u32) -> Result<bool, DbError> {
    let count: i64 = read_db!(db, |pool| sqlx::query_scalar(COUNT_WANTED)
        .bind(variant.image.as_str())
        .bind(variant.name.as_str())
        .bind(variant.sha256.as_str())
        .bind(i64::from(version))
        .fetch_one(pool)
        .await)?;
    Ok(count == 1)
}

const COUNT_WANTED: &str = "SELECT COUNT(*) FROM variants v JOIN images i ON i.id = v.image_id \
    WHERE v.image_id = $1 AND v.name = $2 AND v.sha256 = $3 AND v.deleted_ms IS NULL AND i.state = 'live' \
    AND i.version = $4";

/// Deletes the row of a variant whose object is gone, unless it names other bytes by now.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn forget(db: &Db, variant: &StoredVariant) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(FORGET)
        .bind(variant.image.as_str())
        .bind(variant.name.as_str())
        .bind(variant.sha256.as_str())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const FORGET: &str = "DELETE FROM variants WHERE image_id = $1 AND name = $2 AND sha256 = $3";

/// Deletes every row. For a database whose store has no variants.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn forget_all(db: &Db) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(FORGET_ALL)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const FORGET_ALL: &str = "DELETE FROM variants";

/// Finds all variants of these images.
///
/// # Errors
/// [`DbError`].
pub async fn find_of(db: &Db, images: &[ImageId]) -> Result<Vec<StoredVariant>, DbError> {
    if images.is_empty() {
        return Ok(Vec::new());
    }
    let (list, count) = listed(images);
    let rows: Vec<Row> = read_db!(db, |pool| sqlx::query_as(FIND_OF)
        .bind(&list)
        .bind(count)
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(StoredVariant::try_from).collect()
}

const FIND_OF: &str = of_listed!(
    "SELECT image_id, name, sha256, size_bytes, width, height FROM variants \
     WHERE image_id IN (SELECT id FROM listed)"
);

/// Records that the objects of these images' variants were deleted. Erases the rows that were
/// written before `settled`: no server writes their objects any more.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn mark_gone(
    db: &Db,
    images: &[ImageId],
    settled: Timestamp,
    now: Timestamp,
) -> Result<(), DbError> {
    if images.is_empty() {
        return Ok(());
    }
    let (list, count) = listed(images);
    in_tx!(db, |tx| {
        for (sql, time) in [(ERASE_SETTLED, settled), (MARK_YOUNG, now)] {
            sqlx::query(sql)
                .bind(&list)
                .bind(count)
                .bind(time.millis())
                .execute(&mut *tx)
                .await?;
        }
    });
    Ok(())
}

const ERASE_SETTLED: &str = of_listed!(
    "DELETE FROM variants WHERE image_id IN (SELECT id FROM listed) AND created_ms <= $3"
);
const MARK_YOUNG: &str = of_listed!(
    "UPDATE variants SET deleted_ms = $3 WHERE image_id IN (SELECT id FROM listed) \
     AND deleted_ms IS NULL"
);

/// Records that the object of a variant of replaced content was deleted. Erases the row if it was
/// written before `settled`, as [`mark_gone`] does.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn mark_replaced(
    db: &Db,
    variant: &StoredVariant,
    settled: Timestamp,
    now: Timestamp,
) -> Result<(), DbError> {
    in_tx!(db, |tx| {
        for (sql, time) in [(ERASE_REPLACED, settled), (MARK_REPLACED, now)] {
            sqlx::query(sql)
                .bind(variant.image.as_str())
                .bind(variant.name.as_str())
                .bind(time.millis())
                .execute(&mut *tx)
                .await?;
        }
    });
    Ok(())
}

const ERASE_REPLACED: &str =
    "DELETE FROM variants WHERE image_id = $1 AND name = $2 AND created_ms <= $3";
const MARK_REPLACED: &str = "UPDATE variants SET deleted_ms = $3 WHERE image_id = $1 AND name = $2 \
    AND deleted_ms IS NULL";

/// Finds variants that were deleted before `settled` and whose rows are still there: their objects
/// may have been written afterwards.
///
/// # Errors
/// [`DbError`].
pub async fn find_deleted(
    db: &Db,
    settled: Timestamp,
    most: u32,
) -> Result<Vec<StoredVariant>, DbError> {
    let rows: Vec<Row> = read_db!(db, |pool| sqlx::query_as(FIND_DELETED)
        .bind(settled.millis())
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(StoredVariant::try_from).collect()
}

const FIND_DELETED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM variants WHERE deleted_ms IS NOT NULL AND deleted_ms <= $1 ORDER BY deleted_ms LIMIT $2"
);

/// Finds variants of live images after the one with this image and name, in order of both, that were
/// written before `settled`.
///
/// # Errors
/// [`DbError`].
pub async fn page_live(
    db: &Db,
    after: (&str, &str),
    settled: Timestamp,
    most: u32,
) -> Result<Vec<StoredVariant>, DbError> {
    let rows: Vec<Row> = read_db!(db, |pool| sqlx::query_as(PAGE_LIVE)
        .bind(after.0)
        .bind(after.1)
        .bind(settled.millis())
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(StoredVariant::try_from).collect()
}

const PAGE_LIVE: &str = "SELECT v.image_id, v.name, v.sha256, v.size_bytes, v.width, v.height \
    FROM variants v JOIN images i ON i.id = v.image_id \
    WHERE (v.image_id > $1 OR (v.image_id = $1 AND v.name > $2)) AND i.state = 'live' \
    AND v.deleted_ms IS NULL AND v.created_ms <= $3 ORDER BY v.image_id, v.name LIMIT $4";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("variants::FIND", FIND),
    ("variants::FIND_ALL", FIND_ALL),
    ("variants::INSERT_SQLITE", INSERT_SQLITE),
    ("variants::INSERT_POSTGRES", INSERT_POSTGRES),
    ("variants::COUNT_WANTED", COUNT_WANTED),
    ("variants::FORGET", FORGET),
    ("variants::FORGET_ALL", FORGET_ALL),
    ("variants::FIND_OF", FIND_OF),
    ("variants::ERASE_SETTLED", ERASE_SETTLED),
    ("variants::MARK_YOUNG", MARK_YOUNG),
    ("variants::ERASE_REPLACED", ERASE_REPLACED),
    ("variants::MARK_REPLACED", MARK_REPLACED),
    ("variants::FIND_DELETED", FIND_DELETED),
    ("variants::PAGE_LIVE", PAGE_LIVE),
];
