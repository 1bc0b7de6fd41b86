//! Searches of the operator: images by state, wallet, transaction and payment, and the facts about
//! one image.

use super::rows::{ImageRow, image_columns};
use super::{Db, DbError, from_row, read_db};
use crate::model::ids::ImageId;
use crate::model::image::Image;
use crate::system::clock::Timestamp;

/// Which images a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All images.
    All,
    /// Images that are removed.
    Removed,
    /// Those that are held.
    Held,
    /// Those whose hold's time is over, and which wait for a decision.
    Waiting,
}

/// Lists images, newest first, at most `most`: those after the image `after` in this order. An empty
/// `after` means the first page. Removed images are in the order of their removal.
///
/// # Errors
/// [`DbError`].
pub async fn list(
    db: &Db,
    kind: Kind,
    after: &str,
    now: Timestamp,
    most: u32,
) -> Result<Vec<Image>, DbError> {
    let sql = match kind {
        Kind::All => LIST,
        Kind::Removed => LIST_REMOVED,
        Kind::Held => LIST_HELD,
        Kind::Waiting => LIST_WAITING,
    };
    let rows: Vec<ImageRow> = read_db!(db, |pool| sqlx::query_as(sql)
        .bind(after)
        .bind(i64::from(most))
        .bind(now.millis())
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Image::try_from).collect()
}

// `$3 = $3` uses the parameter that only one of these statements needs.
const LIST: &str = concat!(
    "SELECT ",
    image_columns!(),
    " FROM images WHERE ($1 = '' OR (created_ms, id) < (SELECT i.created_ms, i.id FROM images i WHERE i.id = $1)) \
     AND $3 = $3 ORDER BY created_ms DESC, id DESC LIMIT $2"
);

macro_rules! list_removed {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            image_columns!(),
            " FROM (SELECT r.removed_ms, r.hold_until_ms, images.* FROM removals r JOIN images \
             ON images.id = r.image_id WHERE images.state = 'removed' ",
            $condition,
            " AND ($1 = '' OR (r.removed_ms, r.image_id) < \
             (SELECT o.removed_ms, o.image_id FROM removals o WHERE o.image_id = $1)) AND $3 = $3 \
             ORDER BY r.removed_ms DESC, r.image_id DESC LIMIT $2) AS listed \
             ORDER BY removed_ms DESC, id DESC"
        )
    };
}
const LIST_REMOVED: &str = list_removed!("");
const LIST_HELD: &str = list_removed!("AND r.hold_until_ms IS NOT NULL");
const LIST_WAITING: &str = list_removed!("AND r.hold_until_ms <= $3");

/// Finds images that belong to a wallet, were paid for or renewed by it, or may be seen by it; those
/// of a transaction; or those of a payment by its ledger id. Newest first, at most `most`.
///
/// # Errors
/// [`DbError`].
pub async fn find_by(db: &Db, what: &str, most: u32) -> Result<Vec<Image>, DbError> {
    let rows: Vec<ImageRow> = read_db!(db, |pool| sqlx::query_as(FIND_BY)
        .bind(what)
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Image::try_from).collect()
}

const FIND_BY: &str = concat!(
    "SELECT ",
    image_columns!(),
    " FROM images WHERE id IN (SELECT id FROM images WHERE owner = $1 \
     UNION SELECT i.id FROM images i JOIN payments p ON p.id = i.payment_id \
     WHERE p.payer = $1 OR p.transaction_hash = $1 OR p.id = $1 \
     UNION SELECT r.image_id FROM renewals r JOIN payments p ON p.id = r.payment_id \
     WHERE p.payer = $1 OR p.transaction_hash = $1 OR p.id = $1) \
     ORDER BY created_ms DESC, id DESC LIMIT $2"
);

/// A payment that bought an image or a renewal of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentFacts {
    /// The ledger id.
    pub id: String,
    /// What was bought.
    pub kind: String,
    /// The state in the ledger.
    pub state: String,
    /// The network, as a CAIP-2 id.
    pub network: String,
    /// The payer's address.
    pub payer: String,
    /// The amount in atomic units.
    pub amount: String,
    /// The transaction that paid.
    pub transaction_hash: Option<String>,
    /// When the payment was first seen, in milliseconds since the Unix epoch.
    pub first_seen_ms: i64,
    /// When it settled, in the same unit.
    pub settled_ms: Option<i64>,
    /// What the payer is owed, if anything.
    pub owed: Option<String>,
}
from_row!(PaymentFacts:
    id, kind, state, network, payer, amount, transaction_hash, first_seen_ms, settled_ms, owed
);

/// Finds the payments that bought an image or its renewals, oldest first, at most 100.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_payments(db: &Db, id: &ImageId) -> Result<Vec<PaymentFacts>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(FIND_PAYMENTS)
        .bind(id.as_str())
        .fetch_all(pool)
        .await)?)
}

const FIND_PAYMENTS: &str = "SELECT id, kind, state, network, payer, amount, transaction_hash, \
    first_seen_ms, settled_ms, owed FROM payments \
    WHERE id IN (SELECT payment_id FROM images WHERE id = $1 AND payment_id IS NOT NULL \
    UNION SELECT id FROM payments WHERE target = $1) ORDER BY first_seen_ms, id LIMIT 100";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("searches::LIST", LIST),
    ("searches::LIST_REMOVED", LIST_REMOVED),
    ("searches::LIST_HELD", LIST_HELD),
    ("searches::LIST_WAITING", LIST_WAITING),
    ("searches::FIND_BY", FIND_BY),
    ("searches::FIND_PAYMENTS", FIND_PAYMENTS),
];
