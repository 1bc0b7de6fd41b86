//! Images that are kept up to date with the URL that they were imported from.
//!
//! New content is stored as an object of its own, under a number that is counted first. One
//! transaction then makes it the content of the image. `contents` says which objects are deleted later.

use std::time::Duration;

use super::blocks::{blocks_as_of, unblocked};
use super::rows::{Field, signed};
use super::{Db, DbError, from_row, in_tx, read_db, write_db};
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::model::look::Look;
use crate::model::metadata::Metadata;
use crate::model::refresh::{Origin, Validators};
use crate::system::clock::Timestamp;

/// What becomes of the metadata in files, as it is stored.
const fn metadata(is_kept: bool) -> &'static str {
    if is_kept { "keep" } else { "remove" }
}

/// An image that one server compares with its origin until its lease ends.
#[derive(Debug, Clone)]
pub struct Due {
    /// The image.
    pub image: ImageId,
    /// Where it comes from.
    pub origin: Origin,
    /// Failures since the last comparison that succeeded.
    pub failures: u32,
    /// The end of the lease, which tells it from others.
    pub lease: Timestamp,
}

#[derive(Debug)]
struct DueRow {
    image_id: String,
    url: String,
    metadata: String,
    max_bytes: i64,
    etag: Option<String>,
    last_modified: Option<String>,
    validated: Option<String>,
    next_ms: i64,
    failures: i64,
}
from_row!(DueRow:
    image_id, url, metadata, max_bytes, etag, last_modified, validated, next_ms, failures
);

impl TryFrom<DueRow> for Due {
    type Error = DbError;

    fn try_from(row: DueRow) -> Result<Self, DbError> {
        let field = Field {
            table: "refreshes",
            row: &row.image_id,
        };
        Ok(Self {
            image: field.with("image_id", ImageId::parse(&row.image_id))?,
            origin: Origin {
                url: row.url,
                keeps_metadata: row.metadata == metadata(true),
                max_bytes: field.count("max_bytes", row.max_bytes)?,
                validators: Validators {
                    etag: row.etag,
                    last_modified: row.last_modified,
                    url_sha256: row.validated.unwrap_or_default(),
                },
            },
            failures: field.count("failures", row.failures)?,
            lease: Timestamp::from_millis(row.next_ms),
        })
    }
}

/// Writes where a pending image comes from. The image is compared with it at `next`. Does nothing
/// if that was written already, or if the image was given up.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn insert(
    db: &Db,
    image: &ImageId,
    origin: &Origin,
    next: Timestamp,
) -> Result<(), DbError> {
    let validators = &origin.validators;
    write_db!(db, |pool| sqlx::query(INSERT)
        .bind(image.as_str())
        .bind(&origin.url)
        .bind(metadata(origin.keeps_metadata))
        .bind(signed(origin.max_bytes))
        .bind(validators.etag.as_deref())
        .bind(validators.last_modified.as_deref())
        .bind(&validators.url_sha256)
        .bind(next.millis())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const INSERT: &str = "INSERT INTO refreshes (image_id, url, metadata, max_bytes, etag, last_modified, \
    validated, next_ms) SELECT id, CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS BIGINT), \
    CAST($5 AS TEXT), CAST($6 AS TEXT), CAST($7 AS TEXT), CAST($8 AS BIGINT) FROM images \
    WHERE id = $1 AND state = 'pending' ON CONFLICT (image_id) DO NOTHING";

/// The images that are due. Only those that are served are compared.
macro_rules! due {
    () => {
        "SELECT r.image_id FROM refreshes r JOIN images i ON i.id = r.image_id \
         WHERE r.next_ms <= $1 AND i.state = 'live' AND (i.expires_ms IS NULL OR i.expires_ms > $1)"
    };
}

/// Whether an image has to be compared with its origin. Costs one look at an index.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn is_due(db: &Db, now: Timestamp) -> Result<bool, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_scalar(IS_DUE)
        .bind(now.millis())
        .fetch_one(pool)
        .await)?)
}

const IS_DUE: &str = concat!("SELECT EXISTS (", due!(), ")");

/// Takes images that are due, the longest due first, for `lease`: at most `most`. Only images that
/// are served are taken.
///
/// # Errors
/// [`DbError`].
pub async fn take_due(
    db: &Db,
    now: Timestamp,
    lease: Duration,
    most: u32,
) -> Result<Vec<Due>, DbError> {
    let sql = db.pick(TAKE_DUE_SQLITE, TAKE_DUE_POSTGRES);
    let rows: Vec<DueRow> = write_db!(db, |pool| sqlx::query_as(sql)
        .bind(now.millis())
        .bind(now.plus(lease).millis())
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Due::try_from).collect()
}

macro_rules! take_due {
    ($lock:literal) => {
        concat!(
            "UPDATE refreshes SET next_ms = $2 WHERE image_id IN (",
            due!(),
            " ORDER BY r.next_ms LIMIT $3 ",
            $lock,
            ") RETURNING image_id, url, metadata, max_bytes, etag, last_modified, validated, next_ms, failures"
        )
    };
}
const TAKE_DUE_SQLITE: &str = take_due!("");
const TAKE_DUE_POSTGRES: &str = take_due!("FOR UPDATE OF r SKIP LOCKED");

/// How a comparison ended that replaced nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The origin has the same content.
    Same,
    /// The origin could not be compared.
    Failed,
    /// The server could not compare it, for a reason of its own.
    PutOff,
}

/// Ends the lease of an image whose content stays, and says when it is next compared: `None`: never
/// again. `false`: the lease was lost.
///
/// # Errors
/// [`DbError`].
pub async fn end(
    db: &Db,
    due: &Due,
    (ended, next): (Ended, Option<Timestamp>),
    validators: &Validators,
    now: Timestamp,
) -> Result<bool, DbError> {
    let (is_same, failed) = (ended == Ended::Same, ended == Ended::Failed);
    Ok(in_tx!(db, |tx| {
        if is_same {
            sqlx::query(CONFIRM)
                .bind(due.image.as_str())
                .bind(now.millis())
                .execute(&mut *tx)
                .await?;
        }
        let ended = sqlx::query(END)
            .bind(due.image.as_str())
            .bind(due.lease.millis())
            .bind(next.map(Timestamp::millis))
            .bind(if is_same {
                0
            } else {
                i64::from(due.failures) + i64::from(failed)
            })
            .bind(validators.etag.as_deref())
            .bind(validators.last_modified.as_deref())
            .bind(&validators.url_sha256)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if ended != 1 {
            // Dropping the transaction rolls it back.
            return Ok(false);
        }
        true
    }))
}

const CONFIRM: &str = "UPDATE images SET refreshed_ms = $2 WHERE id = $1 AND state = 'live'";
const END: &str = "UPDATE refreshes SET next_ms = $3, failures = $4, etag = $5, last_modified = $6, \
    validated = $7 WHERE image_id = $1 AND next_ms = $2";

/// Counts the number of new content, before its object is stored. From `lease` on, the object is
/// deleted if it is not the image's content. `None`: the lease was lost.
///
/// # Errors
/// [`DbError`].
pub async fn claim_version(
    db: &Db,
    due: &mut Due,
    now: Timestamp,
    lease: Duration,
) -> Result<Option<u32>, DbError> {
    let until = now.plus(lease);
    let claimed: Option<i64> = write_db!(db, |pool| sqlx::query_scalar(CLAIM_VERSION)
        .bind(due.image.as_str())
        .bind(due.lease.millis())
        .bind(until.millis())
        .fetch_optional(pool)
        .await)?;
    let Some(version) = claimed else {
        return Ok(None);
    };
    due.lease = until;
    let field = Field {
        table: "refreshes",
        row: due.image.as_str(),
    };
    Ok(Some(field.count("newest", version)?))
}

const CLAIM_VERSION: &str = "UPDATE refreshes SET newest = newest + 1, next_ms = $3, clean_ms = $3 \
    WHERE image_id = $1 AND next_ms = $2 RETURNING newest";

/// When the next steps of a replaced image are due, and by which blocks it was screened.
#[derive(Debug, Clone, Copy)]
pub struct Steps {
    /// The time of the replacement.
    pub now: Timestamp,
    /// When the image is next compared with its origin.
    pub next: Timestamp,
    /// When the object of the earlier content is deleted.
    pub clean: Timestamp,
    /// The version of the blocks that the new content was compared with. `None`: nothing is
    /// screened.
    pub blocks_version: Option<i64>,
}

/// Makes stored content that of its image. `image` holds the new content with its number. `false`:
/// the image is not served any more, its content or its owner is blocked, the blocks have changed
/// since the content was compared with them, or the lease was lost. Nothing was changed then.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn replace(
    db: &Db,
    due: &Due,
    image: &Image,
    validators: &Validators,
    steps: Steps,
) -> Result<bool, DbError> {
    let version = i64::from(image.version);
    Ok(in_tx!(db, |tx| {
        let replaced = sqlx::query(REPLACE)
            .bind(image.id.as_str())
            .bind(steps.now.millis())
            .bind(version)
            .bind(image.format.as_str())
            .bind(signed(image.size_bytes))
            .bind(i64::from(image.width))
            .bind(i64::from(image.height))
            .bind(&image.sha256)
            .bind(&image.upload_sha256)
            .bind(image.metadata.map(Metadata::to_text))
            .bind(image.look.as_ref().map(Look::thumbhash_text))
            .bind(image.look.as_ref().map(Look::dominant_text))
            .bind(steps.blocks_version)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        let ended = sqlx::query(END_REPLACED)
            .bind(due.image.as_str())
            .bind(due.lease.millis())
            .bind(steps.next.millis())
            .bind(version)
            .bind(validators.etag.as_deref())
            .bind(validators.last_modified.as_deref())
            .bind(&validators.url_sha256)
            .bind(steps.clean.millis())
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if (replaced, ended) != (1, 1) {
            // Both or neither: dropping the transaction rolls it back.
            return Ok(false);
        }
        true
    }))
}

/// The columns that change with the content.
macro_rules! content {
    () => {
        "version = $3, format = $4, size_bytes = $5, width = $6, height = $7, \
         sha256 = $8, upload_sha256 = $9, metadata = $10, thumbhash = $11, dominant = $12, \
         first_sha256 = COALESCE(first_sha256, sha256), replaced_ms = $2, refreshed_ms = $2, \
         undescribed = undescribed + 1"
    };
}

const REPLACE: &str = concat!(
    "UPDATE images SET ",
    content!(),
    " WHERE id = $1 AND state = 'live' AND refresh_ms IS NOT NULL \
     AND (expires_ms IS NULL OR expires_ms > $2) AND version < $3 AND ",
    blocks_as_of!("$13"),
    " AND ",
    unblocked!("$2", "$8, $9")
);
const END_REPLACED: &str = "UPDATE refreshes SET next_ms = $3, failures = 0, etag = $5, \
    last_modified = $6, validated = $7, clean_ms = $8 \
    WHERE image_id = $1 AND next_ms = $2 AND newest = $4";

/// Gives an image of a copied or restored database the content that `image` has, if that is newer.
/// Returns whether it is.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn adopt(db: &Db, image: &Image, at: Timestamp) -> Result<bool, DbError> {
    let version = i64::from(image.version);
    Ok(in_tx!(db, |tx| {
        let adopted = sqlx::query(ADOPT)
            .bind(image.id.as_str())
            .bind(at.millis())
            .bind(version)
            .bind(image.format.as_str())
            .bind(signed(image.size_bytes))
            .bind(i64::from(image.width))
            .bind(i64::from(image.height))
            .bind(&image.sha256)
            .bind(&image.upload_sha256)
            .bind(image.metadata.map(Metadata::to_text))
            .bind(image.look.as_ref().map(Look::thumbhash_text))
            .bind(image.look.as_ref().map(Look::dominant_text))
            .execute(&mut *tx)
            .await?
            .rows_affected();
        sqlx::query(COUNT_ADOPTED)
            .bind(image.id.as_str())
            .bind(version)
            .bind(at.millis())
            .execute(&mut *tx)
            .await?;
        adopted == 1
    }))
}

const ADOPT: &str = concat!(
    "UPDATE images SET ",
    content!(),
    " WHERE id = $1 AND refresh_ms IS NOT NULL AND version < $3"
);
const COUNT_ADOPTED: &str = "UPDATE refreshes SET newest = $2, clean_ms = $3 \
    WHERE image_id = $1 AND newest < $2 AND is_gone = 0";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("refreshes::INSERT", INSERT),
    ("refreshes::IS_DUE", IS_DUE),
    ("refreshes::TAKE_DUE_SQLITE", TAKE_DUE_SQLITE),
    ("refreshes::TAKE_DUE_POSTGRES", TAKE_DUE_POSTGRES),
    ("refreshes::CONFIRM", CONFIRM),
    ("refreshes::END", END),
    ("refreshes::CLAIM_VERSION", CLAIM_VERSION),
    ("refreshes::REPLACE", REPLACE),
    ("refreshes::END_REPLACED", END_REPLACED),
    ("refreshes::ADOPT", ADOPT),
    ("refreshes::COUNT_ADOPTED", COUNT_ADOPTED),
];
