//! Grants: what settled payments bought. A grant has an upload token and counts its uploads.

use super::rows::{GrantRow, grant_columns};
use super::settlements::PUBLISH;
use super::uses::{Through, count_use};
use super::{Db, DbError, images, in_tx, read_db, write_db};
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::model::owner::Owner;
use crate::model::payment::{Grant, PaymentId};
use crate::system::clock::Timestamp;

/// The outcome of reserving an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reservation {
    /// The pending image is written, and one use is held for it.
    Held,
    /// Other uploads hold every use that is left, or an upload of the same bytes holds one.
    Busy,
    /// The wallet uploads the same bytes for the same eyes at this moment. Only for an API key.
    Pending,
    /// Every use is published.
    UsedUp,
    /// The same bytes are already published on this grant, for the same eyes. For an API key: on any
    /// grant of its wallet.
    Same,
    /// The upload link was revoked since the grant was read. For its holder: or replaced.
    Revoked,
}

/// Finds the grant of a payment.
///
/// # Errors
/// [`DbError`].
pub async fn find(db: &Db, id: &PaymentId) -> Result<Option<Grant>, DbError> {
    let row: Option<GrantRow> = read_db!(db, |pool| {
        sqlx::query_as(FIND)
            .bind(id.as_str())
            .fetch_optional(pool)
            .await
    })?;
    row.map(Grant::try_from).transpose()
}

const FIND: &str = concat!(
    "SELECT ",
    grant_columns!(),
    " FROM grants WHERE payment_id = $1"
);

/// Finds the grant whose valid token has this hash.
///
/// # Errors
/// [`DbError`].
pub async fn find_by_token_hash(db: &Db, hash: &str) -> Result<Option<Grant>, DbError> {
    let row: Option<GrantRow> = read_db!(db, |pool| {
        sqlx::query_as(FIND_BY_TOKEN_HASH)
            .bind(hash)
            .fetch_optional(pool)
            .await
    })?;
    row.map(Grant::try_from).transpose()
}

const FIND_BY_TOKEN_HASH: &str = concat!(
    "SELECT ",
    grant_columns!(),
    " FROM grants WHERE token_hash = $1"
);

/// Replaces a token that expired unused, or the secret of a link, by the next one, and keeps the
/// hash of the replaced one. `false`: another request did so first, or the payment is void.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn replace_token(
    db: &Db,
    grant: &Grant,
    token_hash: &str,
    expires: Timestamp,
) -> Result<bool, DbError> {
    let id = grant.payment_id.as_str();
    Ok(in_tx!(db, |tx| {
        let changed = sqlx::query(REPLACE_TOKEN)
            .bind(id)
            .bind(i64::from(grant.serial))
            .bind(token_hash)
            .bind(expires.millis())
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if changed == 1 {
            sqlx::query(KEEP_REPLACED)
                .bind(id)
                .execute(&mut *tx)
                .await?;
        }
        changed == 1
    }))
}

const REPLACE_TOKEN: &str = "UPDATE grants SET serial = serial + 1, replaced_hash = token_hash, token_hash = $3, \
    token_expires_ms = $4, revoked_ms = NULL \
    WHERE payment_id = $1 AND serial = $2 AND used < uses AND voided_ms IS NULL";
const KEEP_REPLACED: &str = "INSERT INTO replaced_secrets (hash, payment_id) \
    SELECT replaced_hash, payment_id FROM grants WHERE payment_id = $1 ON CONFLICT (hash) DO NOTHING";

/// Revokes the upload link with this serial number. `false`: it is revoked already, another one
/// has replaced it, or the payment did not buy a link.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn revoke_link(
    db: &Db,
    id: &PaymentId,
    serial: u32,
    now: Timestamp,
) -> Result<bool, DbError> {
    let changed = write_db!(db, |pool| {
        sqlx::query(REVOKE_LINK)
            .bind(id.as_str())
            .bind(i64::from(serial))
            .bind(now.millis())
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(changed == 1)
}

const REVOKE_LINK: &str = "UPDATE grants SET revoked_ms = $3 \
    WHERE payment_id = $1 AND serial = $2 AND kind = 'link' AND revoked_ms IS NULL";

/// Whether this is the hash of a token, or of a link's secret, that another one has replaced, however
/// often that happened since.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn was_replaced(db: &Db, hash: &str) -> Result<bool, DbError> {
    let found: Option<String> = read_db!(db, |pool| sqlx::query_scalar(WAS_REPLACED)
        .bind(hash)
        .fetch_optional(pool)
        .await)?;
    Ok(found.is_some())
}

// During an upgrade, servers of the former version write the column only.
const WAS_REPLACED: &str = "SELECT payment_id FROM replaced_secrets WHERE hash = $1 \
    UNION ALL SELECT payment_id FROM grants WHERE replaced_hash = $1 LIMIT 1";

/// Holds one use of a grant for `image`, which is pending until `reserved_until`.
///
/// # Errors
/// [`DbError`].
pub async fn reserve(
    db: &Db,
    grant: &Grant,
    image: &Image,
    reserved_until: Timestamp,
) -> Result<Reservation, DbError> {
    reserve_by(db, None, grant, image, reserved_until).await
}

/// Does the same as [`reserve`], for an API key of the wallet `by`: the wallet must have the same
/// bytes on no other grant, and may have replaced the secret of its link.
///
/// # Errors
/// [`DbError`].
pub async fn reserve_by(
    db: &Db,
    by: Option<&Owner>,
    grant: &Grant,
    image: &Image,
    reserved_until: Timestamp,
) -> Result<Reservation, DbError> {
    let id = grant.payment_id.as_str();
    let now = image.created_at.millis();
    let serial = by.is_none().then(|| i64::from(grant.serial));
    let viewer = image.visibility.viewer().map(|wallet| wallet.to_string());
    Ok(in_tx!(db, |tx| {
        // The same bytes at once would each find another grant. SQLite has one writer, so its
        // transactions follow each other anyway.
        if let (Db::Postgres(_), Some(owner)) = (db, by) {
            sqlx::query(LOCK_WALLET_POSTGRES)
                .bind(owner.wallet.to_string())
                .execute(&mut *tx)
                .await?;
        }
        // An update that changes nothing locks the row on both databases. Only PostgreSQL has FOR
        // UPDATE.
        sqlx::query(LOCK).bind(id).execute(&mut *tx).await?;
        let (left, held, is_valid): (i64, i64, bool) = sqlx::query_as(COUNT)
            .bind(id)
            .bind(now)
            .bind(serial)
            .fetch_one(&mut *tx)
            .await?;
        // A repeated request that overtakes the first one must not cost another use. The same
        // bytes for other eyes are another upload.
        let (live, pending): (i64, i64) = match by {
            None => {
                sqlx::query_as(COUNT_SAME)
                    .bind(id)
                    .bind(now)
                    .bind(&image.upload_sha256)
                    .bind(image.visibility.as_str())
                    .bind(viewer.as_deref())
                    .bind(images::origin_of(image))
                    .fetch_one(&mut *tx)
                    .await?
            }
            Some(owner) => {
                sqlx::query_as(images::COUNT_SAME)
                    .bind(owner.wallet.to_string())
                    .bind(owner.network.as_deref().unwrap_or_default())
                    .bind(&image.tier)
                    .bind(&image.upload_sha256)
                    .bind(image.visibility.as_str())
                    .bind(viewer.as_deref())
                    .bind(now)
                    .bind(images::origin_of(image))
                    .fetch_one(&mut *tx)
                    .await?
            }
        };
        if live > 0 {
            Reservation::Same
        } else if pending > 0 && by.is_some() {
            Reservation::Pending
        } else if !is_valid {
            Reservation::Revoked
        } else if left <= 0 {
            Reservation::UsedUp
        } else if pending > 0 || held >= left {
            Reservation::Busy
        } else {
            images::bind_insert(sqlx::query(images::INSERT), image, Some(reserved_until))
                .execute(&mut *tx)
                .await?;
            Reservation::Held
        }
    }))
}

// PostgreSQL has no row that all uploads by the keys of one wallet would lock.
const LOCK_WALLET_POSTGRES: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 2))";
const LOCK: &str = "UPDATE grants SET used = used WHERE payment_id = $1";
// A link that was revoked or, for its holder, replaced takes no upload from then on, even if it was found before.
const COUNT: &str = "SELECT uses - used, (SELECT COUNT(*) FROM images WHERE images.payment_id = $1 \
    AND state = 'pending' AND reserved_until_ms > $2), \
    kind <> 'link' OR (revoked_ms IS NULL AND serial = COALESCE(CAST($3 AS BIGINT), serial)) FROM grants WHERE payment_id = $1";
const COUNT_SAME: &str = "SELECT COUNT(CASE WHEN state = 'live' AND (expires_ms IS NULL OR expires_ms > $2) \
    THEN 1 END), COUNT(CASE WHEN state = 'pending' AND reserved_until_ms > $2 THEN 1 END) \
    FROM images WHERE payment_id = $1 AND upload_sha256 = $3 AND visibility = $4 \
    AND COALESCE(viewer, '') = COALESCE(CAST($5 AS TEXT), '') \
    AND COALESCE(origin, '') = COALESCE(CAST($6 AS TEXT), '')";

/// Publishes a reserved image and counts the use. `false`: the reservation expired and another
/// upload took the use, the image is gone, or the payment is void.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn publish(
    db: &Db,
    id: &PaymentId,
    image: &ImageId,
    now: Timestamp,
    expires: Option<Timestamp>,
) -> Result<bool, DbError> {
    publish_through(db, (id, None), None, image, now, expires).await
}

/// Does the same as [`publish`], and counts the image with its size in bytes on what took it.
/// `false` also if that takes no upload any more, or if the grant is an upload link that was
/// revoked or, where a serial is given, replaced since.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn publish_through(
    db: &Db,
    (id, serial): (&PaymentId, Option<u32>),
    through: Option<(&Through, u64)>,
    image: &ImageId,
    now: Timestamp,
    expires: Option<Timestamp>,
) -> Result<bool, DbError> {
    Ok(in_tx!(db, |tx| {
        let counted = sqlx::query(COUNT_OPEN_USE)
            .bind(id.as_str())
            .bind(serial.map(i64::from))
            .execute(&mut *tx)
            .await?
            .rows_affected();
        let published = sqlx::query(PUBLISH)
            .bind(image.as_str())
            .bind(id.as_str())
            .bind(now.millis())
            .bind(expires.map(Timestamp::millis))
            .execute(&mut *tx)
            .await?
            .rows_affected();
        if (counted, published) != (1, 1) {
            // Both or neither: dropping the transaction rolls it back.
            return Ok(false);
        }
        if let Some((through, bytes)) = through
            && !count_use!(tx, through.count(bytes, now))
        {
            return Ok(false);
        }
        sqlx::query(CLEAR_OWED)
            .bind(id.as_str())
            .execute(&mut *tx)
            .await?;
        true
    }))
}

const COUNT_OPEN_USE: &str = "UPDATE grants SET used = used + 1 WHERE payment_id = $1 \
    AND used < uses AND voided_ms IS NULL AND (kind <> 'link' OR (revoked_ms IS NULL \
    AND serial = COALESCE(CAST($2 AS BIGINT), serial)))";
const CLEAR_OWED: &str = "UPDATE payments SET owed = NULL WHERE id = $1 AND owed IS NOT NULL";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("grants::FIND", FIND),
    ("grants::FIND_BY_TOKEN_HASH", FIND_BY_TOKEN_HASH),
    ("grants::REPLACE_TOKEN", REPLACE_TOKEN),
    ("grants::KEEP_REPLACED", KEEP_REPLACED),
    ("grants::REVOKE_LINK", REVOKE_LINK),
    ("grants::WAS_REPLACED", WAS_REPLACED),
    ("grants::LOCK_WALLET_POSTGRES", LOCK_WALLET_POSTGRES),
    ("grants::LOCK", LOCK),
    ("grants::COUNT", COUNT),
    ("grants::COUNT_SAME", COUNT_SAME),
    ("grants::COUNT_OPEN_USE", COUNT_OPEN_USE),
    ("grants::CLEAR_OWED", CLEAR_OWED),
];
