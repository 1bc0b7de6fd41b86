//! Takes back what a payment bought: its grant buys nothing from now on, its images are withdrawn,
//! and the time of its renewal is taken back.

use super::DbError;
use super::rows::Field;
use crate::model::ids::ImageId;

/// Takes back what a payment bought, in an open transaction whose caller has locked the payment.
/// `$goods` says which images are withdrawn: [`ALL`] or [`UNRENEWED`].
/// Yields the ids of the images that were withdrawn, and whether the time of a renewal was taken
/// back (`None`: there was no renewal). The error is the id of an image that can't be taken back
/// now, since it is under review or being renewed; the caller then rolls back.
macro_rules! take_goods_back {
    ($tx:ident, $goods:expr, $id:expr, $now:expr) => {{
        // Lock order: payment, grant, image. An upload that is being published has locked the
        // grant.
        sqlx::query($crate::db::goods::VOID_GRANT)
            .bind($id.as_str())
            .bind($now)
            .execute(&mut *$tx)
            .await?;
        let withdrawn: Vec<String> = sqlx::query_scalar($goods.withdraw)
            .bind($id.as_str())
            .bind($now)
            .fetch_all(&mut *$tx)
            .await?;
        let left: Option<String> = sqlx::query_scalar($goods.find_left)
            .bind($id.as_str())
            .fetch_optional(&mut *$tx)
            .await?;
        let target: Option<String> = sqlx::query_scalar($crate::db::goods::FIND_RENEWED)
            .bind($id.as_str())
            .fetch_optional(&mut *$tx)
            .await?;
        let mut renewal_undone = None;
        if let (None, Some(target)) = (&left, target) {
            sqlx::query($crate::db::renewals::LOCK_TARGET)
                .bind(target)
                .execute(&mut *$tx)
                .await?;
            let undone = sqlx::query($crate::db::renewals::TAKE_TIME_BACK)
                .bind($id.as_str())
                .execute(&mut *$tx)
                .await?
                .rows_affected();
            renewal_undone = Some(undone == 1);
        }
        match left {
            None => Ok((withdrawn, renewal_undone)),
            Some(left) => Err(left),
        }
    }};
}

pub(super) use take_goods_back;

/// Reads the id of an image.
pub(super) fn image_id(text: &str) -> Result<ImageId, DbError> {
    let field = Field {
        table: "images",
        row: text,
    };
    field.with("id", ImageId::parse(text))
}

/// Which images of a payment are withdrawn.
pub(super) struct Goods {
    /// Withdraws them.
    pub(super) withdraw: &'static str,
    /// Finds one that could not be withdrawn.
    pub(super) find_left: &'static str,
}

/// All images.
pub(super) const ALL: Goods = Goods {
    withdraw: WITHDRAW_IMAGES,
    find_left: FIND_LIVE,
};
/// The images that no other payment has renewed: the payer of a renewal keeps what it bought.
pub(super) const UNRENEWED: Goods = Goods {
    withdraw: WITHDRAW_UNRENEWED,
    find_left: FIND_LIVE_UNRENEWED,
};

/// The condition that no payment in force but their own has renewed the images of a statement.
macro_rules! unrenewed {
    () => {
        " AND NOT EXISTS (SELECT 1 FROM renewals n JOIN grants o ON o.payment_id = n.payment_id \
         WHERE n.image_id = images.id AND n.payment_id <> $1 AND o.voided_ms IS NULL)"
    };
}
macro_rules! withdraw_images {
    () => {
        "UPDATE images SET state = 'deleting', reap_after_ms = $2 WHERE payment_id = $1 AND state = 'live' \
         AND held_ms IS NULL AND renewing = 0"
    };
}
macro_rules! find_live {
    () => {
        "SELECT id FROM images WHERE payment_id = $1 AND state = 'live'"
    };
}

pub(super) const VOID_GRANT: &str = "UPDATE grants SET voided_ms = $2 WHERE payment_id = $1";
const WITHDRAW_IMAGES: &str = concat!(withdraw_images!(), " RETURNING id");
const WITHDRAW_UNRENEWED: &str = concat!(withdraw_images!(), unrenewed!(), " RETURNING id");
const FIND_LIVE: &str = concat!(find_live!(), " ORDER BY id LIMIT 1");
const FIND_LIVE_UNRENEWED: &str = concat!(find_live!(), unrenewed!(), " ORDER BY id LIMIT 1");
pub(super) const FIND_RENEWED: &str = "SELECT image_id FROM renewals WHERE payment_id = $1";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("goods::VOID_GRANT", VOID_GRANT),
    ("goods::WITHDRAW_IMAGES", WITHDRAW_IMAGES),
    ("goods::WITHDRAW_UNRENEWED", WITHDRAW_UNRENEWED),
    ("goods::FIND_LIVE", FIND_LIVE),
    ("goods::FIND_LIVE_UNRENEWED", FIND_LIVE_UNRENEWED),
    ("goods::FIND_RENEWED", FIND_RENEWED),
];
