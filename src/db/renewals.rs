//! The effect of renewals on images. These statements run in the transactions that change payments.
//! An image is locked before it is read, since a PostgreSQL statement that waits still sees the
//! data from before.

use super::rows::Field;
use super::{Db, DbError, from_row, read_db};
use crate::model::ids::ImageId;
use crate::model::payment::{Move, PaymentId, PaymentState, Renewal};
use crate::system::clock::Timestamp;

/// Whether a renewal holds its image from this change of state on.
pub(super) const fn begins_to_hold(step: Move) -> bool {
    holds(step.to()) && !holds(step.from())
}

/// Whether a renewal stops holding its image with this change of state.
pub(super) const fn ends_to_hold(step: Move) -> bool {
    holds(step.from()) && !holds(step.to())
}

/// States in which the transfer may be under way, so that the image must not be deleted.
const fn holds(state: PaymentState) -> bool {
    matches!(state, PaymentState::Settling | PaymentState::Unknown)
}

/// Locks the image: an update that changes nothing locks the row on both databases.
pub(super) const LOCK_TARGET: &str = "UPDATE images SET renewing = renewing WHERE id = $1";

/// Holds an image that is live at `$2` for the renewal `$5`, which extends it by `$3`. With the
/// other open renewals it must end by `$4`. A renewal for ever must be the only open one, since the
/// others would be useless.
pub(super) const HOLD_TARGET: &str = "UPDATE images SET renewing = renewing + 1 WHERE id = $1 \
    AND state = 'live' AND held_ms IS NULL AND expires_ms > $2 \
    AND ((CAST($3 AS BIGINT) IS NULL AND renewing = 0) OR expires_ms + CAST($3 AS BIGINT) + \
    (SELECT COALESCE(SUM(p.keep_ms), 0) FROM payments p WHERE p.target = $1 AND p.id <> $5 \
    AND p.state IN ('settling', 'unknown')) <= $4) \
    AND NOT EXISTS (SELECT 1 FROM payments p WHERE p.target = $1 AND p.id <> $5 AND p.keep_ms IS NULL \
    AND p.state IN ('settling', 'unknown'))";

pub(super) const LET_TARGET_GO: &str =
    "UPDATE images SET renewing = renewing - 1 WHERE id = $1 AND renewing > 0";

/// Records the effect of the renewal. Records nothing if the image is gone or kept for ever. An
/// image that expired while its payment was under way is extended from the current time (`$5`).
pub(super) const NOTE_RENEWAL: &str = "INSERT INTO renewals (payment_id, image_id, from_ms, to_ms, \
    from_tier, to_tier, renewed_ms) SELECT $1, id, expires_ms, CASE WHEN expires_ms > $5 THEN expires_ms \
    ELSE $5 END + CAST($4 AS BIGINT), tier, $3, $5 FROM images \
    WHERE id = $2 AND state = 'live' AND expires_ms IS NOT NULL";

pub(super) const RENEW_TARGET: &str = "UPDATE images SET \
    expires_ms = (SELECT r.to_ms FROM renewals r WHERE r.payment_id = $1), \
    tier = (SELECT r.to_tier FROM renewals r WHERE r.payment_id = $1), undescribed = undescribed + 1 \
    WHERE id = (SELECT r.image_id FROM renewals r WHERE r.payment_id = $1)";

/// Takes back the time and the tier of a renewal, if the image is live and nothing has moved its
/// expiry since.
pub(super) const TAKE_TIME_BACK: &str = "UPDATE images SET expires_ms = r.from_ms, tier = r.from_tier, \
    undescribed = images.undescribed + 1 FROM renewals r WHERE r.payment_id = $1 AND images.id = r.image_id \
    AND images.state = 'live' AND images.held_ms IS NULL AND images.renewing = 0 AND images.tier = r.to_tier \
    AND (images.expires_ms = r.to_ms OR (images.expires_ms IS NULL AND r.to_ms IS NULL))";

pub(super) const NOTHING_OWED: &str = "UPDATE payments SET owed = NULL WHERE id = $1";

pub(super) const OWE_RENEWAL: &str = "UPDATE payments \
    SET owed = COALESCE(owed, 'the image of this renewal is gone, or kept for ever') WHERE id = $1";

/// Finds the effect of this payment's renewal; `None`: it renewed nothing.
///
/// # Errors
/// [`DbError`].
pub async fn find(db: &Db, id: &PaymentId) -> Result<Option<Renewal>, DbError> {
    let row: Option<RenewalRow> = read_db!(db, |pool| sqlx::query_as(FIND)
        .bind(id.as_str())
        .fetch_optional(pool)
        .await)?;
    row.map(Renewal::try_from).transpose()
}

/// Lists the renewals of an image, oldest first.
///
/// # Errors
/// [`DbError`].
pub async fn list_of_image(db: &Db, id: &ImageId) -> Result<Vec<(PaymentId, Renewal)>, DbError> {
    let rows: Vec<RenewalRow> = read_db!(db, |pool| sqlx::query_as(LIST_OF_IMAGE)
        .bind(id.as_str())
        .fetch_all(pool)
        .await)?;
    rows.into_iter()
        .map(|row| {
            let field = Field {
                table: "renewals",
                row: &row.payment_id,
            };
            let payment = field.with("payment_id", PaymentId::parse(&row.payment_id))?;
            Ok((payment, Renewal::try_from(row)?))
        })
        .collect()
}

const LIST_OF_IMAGE: &str = "SELECT payment_id, image_id, from_ms, to_ms, from_tier, to_tier, renewed_ms \
    FROM renewals WHERE image_id = $1 ORDER BY renewed_ms, payment_id";

const FIND: &str = "SELECT payment_id, image_id, from_ms, to_ms, from_tier, to_tier, renewed_ms \
    FROM renewals WHERE payment_id = $1";

/// Whether an image is held for a reason that is not its owner's, such as a review.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn is_held(db: &Db, id: &ImageId) -> Result<bool, DbError> {
    let held: Option<bool> = read_db!(db, |pool| sqlx::query_scalar(IS_HELD)
        .bind(id.as_str())
        .fetch_optional(pool)
        .await)?;
    Ok(held.unwrap_or(false))
}

const IS_HELD: &str = "SELECT held_ms IS NOT NULL FROM images WHERE id = $1";

struct RenewalRow {
    payment_id: String,
    image_id: String,
    from_ms: i64,
    to_ms: Option<i64>,
    from_tier: String,
    to_tier: String,
    renewed_ms: i64,
}
from_row!(RenewalRow: payment_id, image_id, from_ms, to_ms, from_tier, to_tier, renewed_ms);

impl TryFrom<RenewalRow> for Renewal {
    type Error = DbError;

    fn try_from(row: RenewalRow) -> Result<Self, DbError> {
        let field = Field {
            table: "renewals",
            row: &row.payment_id,
        };
        Ok(Self {
            image_id: field.with("image_id", ImageId::parse(&row.image_id))?,
            from: Timestamp::from_millis(row.from_ms),
            to: row.to_ms.map(Timestamp::from_millis),
            from_tier: row.from_tier,
            to_tier: row.to_tier,
            renewed_at: Timestamp::from_millis(row.renewed_ms),
        })
    }
}

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("renewals::LOCK_TARGET", LOCK_TARGET),
    ("renewals::HOLD_TARGET", HOLD_TARGET),
    ("renewals::LET_TARGET_GO", LET_TARGET_GO),
    ("renewals::TAKE_TIME_BACK", TAKE_TIME_BACK),
    ("renewals::NOTE_RENEWAL", NOTE_RENEWAL),
    ("renewals::RENEW_TARGET", RENEW_TARGET),
    ("renewals::NOTHING_OWED", NOTHING_OWED),
    ("renewals::OWE_RENEWAL", OWE_RENEWAL),
    ("renewals::LIST_OF_IMAGE", LIST_OF_IMAGE),
    ("renewals::FIND", FIND),
    ("renewals::IS_HELD", IS_HELD),
];
