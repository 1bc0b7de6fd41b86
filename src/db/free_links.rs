//! Free upload links, and the upload links that a wallet paid for.

use super::rows::{Field, GrantRow, ImageRow, grant_columns, image_columns};
use super::{Db, DbError, from_row, read_db, write_db};
use crate::model::image::Image;
use crate::model::link::FreeLink;
use crate::model::payment::Grant;
use crate::system::clock::Timestamp;

/// Writes a new free link.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn insert(db: &Db, link: &FreeLink) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(INSERT)
        .bind(&link.id)
        .bind(&link.secret_hash)
        .bind(&link.tier)
        .bind(i64::from(link.uses))
        .bind(link.created_at.millis())
        .bind(link.expires_at.millis())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const INSERT: &str = "INSERT INTO free_links (id, secret_hash, tier, uses, used, created_ms, expires_ms) \
    VALUES ($1, $2, $3, $4, 0, $5, $6)";

/// Finds the free link whose secret has this hash.
///
/// # Errors
/// [`DbError`].
pub async fn find_by_hash(db: &Db, secret_hash: &str) -> Result<Option<FreeLink>, DbError> {
    let row: Option<FreeLinkRow> = read_db!(db, |pool| sqlx::query_as(FIND_BY_HASH)
        .bind(secret_hash)
        .fetch_optional(pool)
        .await)?;
    row.map(FreeLink::try_from).transpose()
}

const FIND_BY_HASH: &str = "SELECT id, secret_hash, tier, uses, used, created_ms, expires_ms, revoked_ms \
    FROM free_links WHERE secret_hash = $1";

/// Revokes a free link. `false`: it is revoked already, or there is none.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn revoke(db: &Db, id: &str, now: Timestamp) -> Result<bool, DbError> {
    let changed = write_db!(db, |pool| sqlx::query(REVOKE)
        .bind(id)
        .bind(now.millis())
        .execute(pool)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(changed == 1)
}

const REVOKE: &str = "UPDATE free_links SET revoked_ms = $2 WHERE id = $1 AND revoked_ms IS NULL";

/// Counts one published upload on a free link that takes uploads. Changes no row otherwise. It is
/// bound as [`super::uses`] binds it; day and bytes say nothing here.
pub(super) const COUNT_USE: &str = "UPDATE free_links SET used = used + 1 WHERE id = $1 \
    AND CAST($2 AS BIGINT) = $2 AND CAST($3 AS BIGINT) = $3 \
    AND used < uses AND revoked_ms IS NULL AND expires_ms > $4";

/// Notes on a pending image which free link uploads it. Changes no row if the link has a live image
/// of the same bytes, for the same people.
pub(super) const NOTE_IMAGE: &str = "UPDATE images SET free_link = $1 WHERE id = $2 AND NOT EXISTS (SELECT 1 \
    FROM images same WHERE same.free_link = $1 AND same.upload_sha256 = images.upload_sha256 \
    AND same.visibility = images.visibility AND COALESCE(same.viewer, '') = COALESCE(images.viewer, '') \
    AND COALESCE(same.origin, '') = COALESCE(images.origin, '') AND same.state = 'live' AND (same.expires_ms IS NULL OR same.expires_ms > $3))";

/// Finds the live images of these uploaded bytes that a free link uploaded.
///
/// # Errors
/// [`DbError`].
pub async fn find_images(db: &Db, link: &str, upload_sha256: &str) -> Result<Vec<Image>, DbError> {
    let rows: Vec<ImageRow> = read_db!(db, |pool| sqlx::query_as(FIND_IMAGES)
        .bind(link)
        .bind(upload_sha256)
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Image::try_from).collect()
}

const FIND_IMAGES: &str = concat!(
    "SELECT ",
    image_columns!(),
    " FROM images WHERE free_link = $1 AND upload_sha256 = $2 AND state = 'live' \
     ORDER BY published_ms DESC, id"
);

/// Erases the free links that ended before `before`.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn forget_ended(db: &Db, before: Timestamp) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(FORGET_ENDED)
        .bind(before.millis())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const FORGET_ENDED: &str = "DELETE FROM free_links WHERE expires_ms < $1";

/// Finds the links that a wallet paid for on this network or on all, newest first: at most `most`,
/// after the link that was bought at `after` and has that ledger id.
///
/// # Errors
/// [`DbError`].
pub async fn find_paid(
    db: &Db,
    payer: &str,
    network: Option<&str>,
    after: Option<(Timestamp, &str)>,
    most: u32,
) -> Result<Vec<Grant>, DbError> {
    let (created, id) = after.unwrap_or((Timestamp::from_millis(i64::MAX), ""));
    let rows: Vec<GrantRow> = read_db!(db, |pool| sqlx::query_as(FIND_PAID)
        .bind(payer)
        .bind(created.millis())
        .bind(id)
        .bind(i64::from(most))
        .bind(network.unwrap_or_default())
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Grant::try_from).collect()
}

const FIND_PAID: &str = concat!(
    "SELECT ",
    grant_columns!(),
    " FROM grants WHERE kind = 'link' AND voided_ms IS NULL \
     AND payment_id IN (SELECT id FROM payments WHERE payer = $1 AND ($5 = '' OR network = $5)) \
     AND (created_ms < $2 OR (created_ms = $2 AND payment_id > $3)) \
     ORDER BY created_ms DESC, payment_id LIMIT $4"
);

struct FreeLinkRow {
    id: String,
    secret_hash: String,
    tier: String,
    uses: i64,
    used: i64,
    created_ms: i64,
    expires_ms: i64,
    revoked_ms: Option<i64>,
}
from_row!(FreeLinkRow: id, secret_hash, tier, uses, used, created_ms, expires_ms, revoked_ms);

impl TryFrom<FreeLinkRow> for FreeLink {
    type Error = DbError;

    fn try_from(row: FreeLinkRow) -> Result<Self, DbError> {
        let field = Field {
            table: "free_links",
            row: &row.id,
        };
        Ok(Self {
            uses: field.count("uses", row.uses)?,
            used: field.count("used", row.used)?,
            created_at: Timestamp::from_millis(row.created_ms),
            expires_at: Timestamp::from_millis(row.expires_ms),
            revoked_at: row.revoked_ms.map(Timestamp::from_millis),
            id: row.id,
            secret_hash: row.secret_hash,
            tier: row.tier,
        })
    }
}

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("free_links::INSERT", INSERT),
    ("free_links::FIND_BY_HASH", FIND_BY_HASH),
    ("free_links::REVOKE", REVOKE),
    ("free_links::COUNT_USE", COUNT_USE),
    ("free_links::NOTE_IMAGE", NOTE_IMAGE),
    ("free_links::FIND_IMAGES", FIND_IMAGES),
    ("free_links::FORGET_ENDED", FORGET_ENDED),
    ("free_links::FIND_PAID", FIND_PAID),
];
