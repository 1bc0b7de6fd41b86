//! The rows of images.

use sqlx::Encode;
use sqlx::query::Query;

use super::blocks::unblocked;
use super::rows::{Field, ImageRow, image_columns, signed};
use super::uses::{Through, count_free_use};
use super::{Db, DbError, in_tx, read_db, write_db};
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::model::look::Look;
use crate::model::metadata::Metadata;
use crate::model::owner::Owner;
use crate::model::payment::PaymentId;
use crate::model::visibility::Visibility;
use crate::system::clock::Timestamp;

/// Writes the row of a pending image. The payer owns a paid image whose owner is not given.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn insert_pending(
    db: &Db,
    image: &Image,
    reserved_until: Option<Timestamp>,
) -> Result<(), DbError> {
    write_db!(db, |pool| {
        bind_insert(sqlx::query(INSERT), image, reserved_until)
            .execute(pool)
            .await
            .map(|_| ())
    })?;
    Ok(())
}

pub(super) const INSERT: &str = "INSERT INTO images (id, state, format, size_bytes, width, height, sha256, \
    upload_sha256, tier, payment_id, reserved_until_ms, created_ms, metadata, owner, owner_network, \
    visibility, viewer, thumbhash, dominant, refresh_ms, origin) \
    VALUES ($1, 'pending', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, \
    COALESCE($13, (SELECT payer FROM payments WHERE id = $9)), \
    COALESCE($14, (SELECT network FROM payments WHERE id = $9)), $15, $16, $17, $18, $19, $20)";

pub(super) fn bind_insert<'q, DB>(
    query: Query<'q, DB, DB::Arguments>,
    image: &'q Image,
    reserved_until: Option<Timestamp>,
) -> Query<'q, DB, DB::Arguments>
where
    DB: sqlx::Database,
    &'q str: Encode<'q, DB> + sqlx::Type<DB>,
    Option<&'q str>: Encode<'q, DB> + sqlx::Type<DB>,
    Option<String>: Encode<'q, DB> + sqlx::Type<DB>,
    i64: Encode<'q, DB> + sqlx::Type<DB>,
    Option<i64>: Encode<'q, DB> + sqlx::Type<DB>,
{
    query
        .bind(image.id.as_str())
        .bind(image.format.as_str())
        .bind(signed(image.size_bytes))
        .bind(i64::from(image.width))
        .bind(i64::from(image.height))
        .bind(image.sha256.as_str())
        .bind(image.upload_sha256.as_str())
        .bind(image.tier.as_str())
        .bind(image.payment_id.as_ref().map(PaymentId::as_str))
        .bind(reserved_until.map(Timestamp::millis))
        .bind(image.created_at.millis())
        .bind(image.metadata.map(Metadata::to_text))
        .bind(image.owner.as_ref().map(|owner| owner.wallet.to_string()))
        .bind(
            image
                .owner
                .as_ref()
                .and_then(|owner| owner.network.as_deref()),
        )
        .bind(image.visibility.as_str())
        .bind(image.visibility.viewer().map(|wallet| wallet.to_string()))
        .bind(image.look.as_ref().map(Look::thumbhash_text))
        .bind(image.look.as_ref().map(Look::dominant_text))
        .bind(
            image
                .refresh
                .as_ref()
                .map(|it| signed(it.every.as_millis())),
        )
        .bind(origin_of(image))
}

/// The hash of the URL that an image is kept up to date with.
pub(super) fn origin_of(image: &Image) -> Option<&str> {
    image.refresh.as_ref().map(|it| it.origin.as_str())
}

/// Publishes a pending free image, and counts a use of the free link or API key that took it.
/// `false`: the image was not pending, or the link or key takes no upload any more.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn publish_free(
    db: &Db,
    through: Option<&Through>,
    image: &Image,
    now: Timestamp,
    expires: Option<Timestamp>,
) -> Result<bool, DbError> {
    let id = &image.id;
    if let Some(through) = through {
        return Ok(in_tx!(db, |tx| {
            let is_counted = count_free_use!(tx, through, image, now);
            let published = sqlx::query(PUBLISH_FREE)
                .bind(id.as_str())
                .bind(now.millis())
                .bind(expires.map(Timestamp::millis))
                .execute(&mut *tx)
                .await?
                .rows_affected();
            if (is_counted, published) != (true, 1) {
                // Both or neither: dropping the transaction rolls it back.
                return Ok(false);
            }
            true
        }));
    }
    let changed = write_db!(db, |pool| {
        sqlx::query(PUBLISH_FREE)
            .bind(id.as_str())
            .bind(now.millis())
            .bind(expires.map(Timestamp::millis))
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(changed == 1)
}

pub(super) const PUBLISH_FREE: &str = concat!(
    "UPDATE images SET state = 'live', published_ms = $2, expires_ms = $3, reserved_until_ms = NULL \
     WHERE id = $1 AND state = 'pending' AND payment_id IS NULL AND ",
    unblocked!("$2")
);

/// Ends every signed link of a live private image. `false`: there is no such image at `now`.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn rotate_links(db: &Db, id: &ImageId, now: Timestamp) -> Result<bool, DbError> {
    let changed = write_db!(db, |pool| {
        sqlx::query(ROTATE_LINKS)
            .bind(id.as_str())
            .bind(now.millis())
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(changed == 1)
}

const ROTATE_LINKS: &str = "UPDATE images SET link_serial = link_serial + 1, undescribed = undescribed + 1 \
    WHERE id = $1 AND state = 'live' AND visibility = 'private' AND (expires_ms IS NULL OR expires_ms > $2)";

/// Gives up a pending image. `false`: it was not pending.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn discard(db: &Db, id: &ImageId) -> Result<bool, DbError> {
    let changed = write_db!(db, |pool| {
        sqlx::query(DISCARD)
            .bind(id.as_str())
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(changed == 1)
}

const DISCARD: &str = "UPDATE images SET state = 'discarded', reserved_until_ms = NULL WHERE id = $1 AND state = 'pending'";

/// Finds the image with this id, in any state.
///
/// # Errors
/// [`DbError`].
pub async fn find(db: &Db, id: &ImageId) -> Result<Option<Image>, DbError> {
    let row: Option<ImageRow> = read_db!(db, |pool| sqlx::query_as(FIND)
        .bind(id.as_str())
        .fetch_optional(pool)
        .await)?;
    row.map(Image::try_from).transpose()
}

const FIND: &str = concat!("SELECT ", image_columns!(), " FROM images WHERE id = $1");

/// Finds the images that a payment published, in any state, newest first.
///
/// # Errors
/// [`DbError`].
pub async fn find_published_by_payment(db: &Db, id: &PaymentId) -> Result<Vec<Image>, DbError> {
    let rows: Vec<ImageRow> = read_db!(db, |pool| {
        sqlx::query_as(FIND_PUBLISHED)
            .bind(id.as_str())
            .fetch_all(pool)
            .await
    })?;
    rows.into_iter().map(Image::try_from).collect()
}

const FIND_PUBLISHED: &str = concat!(
    "SELECT ",
    image_columns!(),
    " FROM images WHERE payment_id = $1 AND published_ms IS NOT NULL ORDER BY published_ms DESC, id"
);

/// Finds the public images of a wallet, newest first: at most `most`, those before the image that
/// was created at `before.0` and has the id `before.1`. `network`: the only network, as a CAIP-2 id,
/// on which the wallet proved its address; `None`: all.
///
/// # Errors
/// [`DbError`].
pub async fn find_owned(
    db: &Db,
    wallet: &str,
    network: Option<&str>,
    before: (Timestamp, &str),
    now: Timestamp,
    most: u32,
) -> Result<Vec<Image>, DbError> {
    let rows: Vec<ImageRow> = read_db!(db, |pool| {
        sqlx::query_as(FIND_OWNED)
            .bind(wallet)
            .bind(network.unwrap_or_default())
            .bind(before.0.millis())
            .bind(before.1)
            .bind(now.millis())
            .bind(i64::from(most))
            .fetch_all(pool)
            .await
    })?;
    rows.into_iter().map(Image::try_from).collect()
}

const FIND_OWNED: &str = concat!(
    "SELECT ",
    image_columns!(),
    " FROM images WHERE owner = $1 AND ($2 = '' OR owner_network = $2) \
     AND created_ms <= $3 AND (created_ms < $3 OR id < $4) \
     AND state = 'live' AND (expires_ms IS NULL OR expires_ms > $5) \
     ORDER BY created_ms DESC, id DESC LIMIT $6"
);

/// Finds the live image that a wallet paid for in this tier with these uploaded bytes, for the same
/// eyes: the newest one. `origin` is the hash of the URL that the image is kept up to date with, if
/// it is.
///
/// # Errors
/// [`DbError`].
pub async fn find_same(
    db: &Db,
    owner: &Owner,
    tier: &str,
    upload_sha256: &str,
    (visibility, origin): (Visibility, Option<&str>),
    now: Timestamp,
) -> Result<Option<Image>, DbError> {
    let row: Option<ImageRow> = read_db!(db, |pool| {
        sqlx::query_as(FIND_SAME)
            .bind(owner.wallet.to_string())
            .bind(owner.network.as_deref().unwrap_or_default())
            .bind(tier)
            .bind(upload_sha256)
            .bind(visibility.as_str())
            .bind(visibility.viewer().map(|wallet| wallet.to_string()))
            .bind(now.millis())
            .bind(origin)
            .fetch_optional(pool)
            .await
    })?;
    row.map(Image::try_from).transpose()
}

/// The paid images of a wallet, in any state, with the same uploaded bytes for the same eyes. The
/// tier is that of the image, or the one that was bought: a renewal may have changed it since.
macro_rules! same_images {
    () => {
        "images WHERE owner = $1 AND ($2 = '' OR owner_network = $2) \
         AND upload_sha256 = $4 AND payment_id IS NOT NULL \
         AND (tier = $3 OR EXISTS (SELECT 1 FROM grants WHERE grants.payment_id = images.payment_id \
         AND grants.tier = $3)) \
         AND visibility = $5 AND COALESCE(viewer, '') = COALESCE(CAST($6 AS TEXT), '') \
         AND COALESCE(origin, '') = COALESCE(CAST($8 AS TEXT), '')"
    };
}

const FIND_SAME: &str = concat!(
    "SELECT ",
    image_columns!(),
    " FROM ",
    same_images!(),
    " AND state = 'live' AND (expires_ms IS NULL OR expires_ms > $7) \
     ORDER BY published_ms DESC, id LIMIT 1"
);

/// Counts those that are live, and those that are being uploaded.
pub(super) const COUNT_SAME: &str = concat!(
    "SELECT COUNT(CASE WHEN state = 'live' AND (expires_ms IS NULL OR expires_ms > $7) THEN 1 END), \
     COUNT(CASE WHEN state = 'pending' AND reserved_until_ms > $7 THEN 1 END) FROM ",
    same_images!()
);

/// Counts the free images that were published since `start`, including deleted ones.
///
/// # Errors
/// [`DbError`].
pub async fn count_free_since(db: &Db, start: Timestamp) -> Result<u64, DbError> {
    let count: i64 = read_db!(db, |pool| sqlx::query_scalar(COUNT_FREE)
        .bind(start.millis())
        .fetch_one(pool)
        .await)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

const COUNT_FREE: &str =
    "SELECT COUNT(*) FROM images WHERE payment_id IS NULL AND published_ms >= $1";

/// Counts how often an image's sidecar data has changed since its sidecar was last written.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn count_undescribed(db: &Db, id: &ImageId) -> Result<i64, DbError> {
    let count: Option<i64> = read_db!(db, |pool| sqlx::query_scalar(COUNT_UNDESCRIBED)
        .bind(id.as_str())
        .fetch_optional(pool)
        .await)?;
    Ok(count.unwrap_or(0))
}

const COUNT_UNDESCRIBED: &str = "SELECT undescribed FROM images WHERE id = $1";

/// Records that an image's sidecar is up to date. `false`: it changed again, or another process
/// recorded this first.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn note_described(db: &Db, id: &ImageId, undescribed: i64) -> Result<bool, DbError> {
    let noted = write_db!(db, |pool| sqlx::query(NOTE_DESCRIBED)
        .bind(id.as_str())
        .bind(undescribed)
        .execute(pool)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(noted == 1)
}

const NOTE_DESCRIBED: &str = "UPDATE images SET undescribed = 0 WHERE id = $1 AND undescribed = $2";

/// Finds live images after `last`, in order of id, whose sidecar is out of date: at most `count`.
///
/// # Errors
/// [`DbError`].
pub async fn find_undescribed(db: &Db, last: &str, count: u32) -> Result<Vec<ImageId>, DbError> {
    let ids: Vec<String> = read_db!(db, |pool| sqlx::query_scalar(FIND_UNDESCRIBED)
        .bind(last)
        .bind(i64::from(count))
        .fetch_all(pool)
        .await)?;
    ids.into_iter()
        .map(|id| {
            let field = Field {
                table: "images",
                row: &id,
            };
            field.with("id", ImageId::parse(&id))
        })
        .collect()
}

const FIND_UNDESCRIBED: &str = "SELECT id FROM images WHERE undescribed > 0 AND state = 'live' \
    AND id > $1 ORDER BY id LIMIT $2";

/// Counts the images that exist or are being uploaded and were begun before `end`, and the payments
/// that were first seen before `end` and are not erased.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn count_kept_since_before(db: &Db, end: Timestamp) -> Result<(u64, u64), DbError> {
    let (images, payments): (i64, i64) = read_db!(db, |pool| sqlx::query_as(COUNT_KEPT)
        .bind(end.millis())
        .fetch_one(pool)
        .await)?;
    let count = |count| u64::try_from(count).unwrap_or(0);
    Ok((count(images), count(payments)))
}

const COUNT_KEPT: &str = "SELECT (SELECT COUNT(*) FROM images WHERE state IN ('pending', 'live') \
    AND created_ms < $1), (SELECT COUNT(*) FROM payments WHERE first_seen_ms < $1)";

/// Ends every reservation. Call it only for a database that no other process uses: the uploads that
/// held them are gone.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn end_reservations(db: &Db) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(END_RESERVATIONS)
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

pub(super) const END_RESERVATIONS: &str =
    "UPDATE images SET reserved_until_ms = 0 WHERE state = 'pending' AND reserved_until_ms > 0";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("images::INSERT", INSERT),
    ("images::PUBLISH_FREE", PUBLISH_FREE),
    ("images::ROTATE_LINKS", ROTATE_LINKS),
    ("images::DISCARD", DISCARD),
    ("images::FIND", FIND),
    ("images::FIND_PUBLISHED", FIND_PUBLISHED),
    ("images::FIND_OWNED", FIND_OWNED),
    ("images::FIND_SAME", FIND_SAME),
    ("images::COUNT_SAME", COUNT_SAME),
    ("images::COUNT_FREE", COUNT_FREE),
    ("images::COUNT_KEPT", COUNT_KEPT),
    ("images::COUNT_UNDESCRIBED", COUNT_UNDESCRIBED),
    ("images::NOTE_DESCRIBED", NOTE_DESCRIBED),
    ("images::FIND_UNDESCRIBED", FIND_UNDESCRIBED),
    ("images::END_RESERVATIONS", END_RESERVATIONS),
];
