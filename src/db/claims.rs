//! Claims: the settled payments of a payer whose goods it may not have received.

use super::rows::{PaymentRow, payment_columns};
use super::{Db, DbError, read_db};
use crate::model::payment::Payment;

/// Finds settled payments of this payer with ids after `after`, in order of id: those with uploads
/// left, and direct uploads whose image is public. Payments that the operator resolved or voided
/// are left out. `network`: a CAIP-2 id; `None`: all networks.
///
/// # Errors
/// [`DbError`].
pub async fn find_unreceived(
    db: &Db,
    payer: &str,
    network: Option<&str>,
    after: &str,
    most: u32,
) -> Result<Vec<Payment>, DbError> {
    let rows: Vec<PaymentRow> = read_db!(db, |pool| sqlx::query_as(FIND_UNRECEIVED)
        .bind(payer)
        .bind(network.unwrap_or_default())
        .bind(after)
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Payment::try_from).collect()
}

const FIND_UNRECEIVED: &str = concat!(
    "SELECT ",
    payment_columns!(),
    " FROM payments WHERE payer = $1 AND ($2 = '' OR network = $2) AND id > $3 \
     AND state = 'settled' AND resolved_ms IS NULL AND voided_ms IS NULL \
     AND (EXISTS (SELECT 1 FROM grants g WHERE g.payment_id = payments.id AND g.used < g.uses) \
     OR (kind = 'upload' AND EXISTS (SELECT 1 FROM images i WHERE i.payment_id = payments.id \
     AND i.state = 'live'))) ORDER BY id LIMIT $4"
);

/// Counts this payer's payments of which it is not known yet whether they moved money.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn count_open(db: &Db, payer: &str, network: Option<&str>) -> Result<u64, DbError> {
    let count: i64 = read_db!(db, |pool| sqlx::query_scalar(COUNT_OPEN)
        .bind(payer)
        .bind(network.unwrap_or_default())
        .fetch_one(pool)
        .await)?;
    Ok(u64::try_from(count).unwrap_or_default())
}

const COUNT_OPEN: &str = "SELECT COUNT(*) FROM payments WHERE payer = $1 AND ($2 = '' OR network = $2) \
    AND state IN ('verified', 'settling', 'unknown')";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("claims::FIND_UNRECEIVED", FIND_UNRECEIVED),
    ("claims::COUNT_OPEN", COUNT_OPEN),
];
