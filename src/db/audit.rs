//! The rules that `pixtoll ledger check` tests. Each query returns the rows that break its rule.

use std::time::Duration;

use super::rows::{PaymentRow, Unreadable, fetch_payments, payment_columns};
use super::{Db, DbError, from_row, read_db, write_db};
use crate::model::payment::Payment;
use crate::system::clock::Timestamp;

/// A row that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The key of the row.
    pub row_key: String,
    /// What is wrong with the row.
    pub detail: String,
}
from_row!(Violation: row_key, detail);

/// A rule of the ledger, and the statement that finds the rows that break it. In the statement,
/// `$1` is the time, in milliseconds, before which an open row must have been finished.
struct Rule {
    says: &'static str,
    sql: &'static str,
}

/// A row that is still open this long after its window counts as stuck.
const STUCK_AFTER: Duration = Duration::from_hours(1);

const RULES: &[Rule] = &[
    Rule {
        says: "every settled payment has exactly one grant",
        sql: "SELECT p.id AS row_key, 'settled payment without grant' AS detail FROM payments p \
              LEFT JOIN grants g ON g.payment_id = p.id \
              WHERE p.state = 'settled' AND g.payment_id IS NULL AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "every grant belongs to a settled payment",
        sql: "SELECT g.payment_id AS row_key, 'grant of a payment that is ' || COALESCE(p.state, 'missing') \
              AS detail FROM grants g LEFT JOIN payments p ON p.id = g.payment_id \
              WHERE (p.id IS NULL OR p.state <> 'settled') AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a grant has no more uploads than it allows",
        sql: "SELECT payment_id AS row_key, used || ' of ' || uses || ' uses' AS detail FROM grants \
              WHERE (used < 0 OR used > uses) AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a grant's use count matches its published images and its renewal",
        sql: "SELECT g.payment_id AS row_key, g.used || ' uses counted, ' || COUNT(i.id) || ' images published, ' \
              || COUNT(DISTINCT r.payment_id) || ' renewals' AS detail FROM grants g \
              LEFT JOIN images i ON i.payment_id = g.payment_id AND i.published_ms IS NOT NULL \
              LEFT JOIN renewals r ON r.payment_id = g.payment_id \
              WHERE $1 = $1 GROUP BY g.payment_id, g.used \
              HAVING g.used <> COUNT(i.id) + COUNT(DISTINCT r.payment_id) ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "every paid image names exactly one grant",
        sql: "SELECT i.id AS row_key, 'published image of payment ' || i.payment_id || ' without grant' AS detail \
              FROM images i LEFT JOIN grants g ON g.payment_id = i.payment_id \
              WHERE i.payment_id IS NOT NULL AND i.published_ms IS NOT NULL AND g.payment_id IS NULL \
              AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a paid image belongs to its payer",
        sql: "SELECT i.id AS row_key, 'owned by ' || COALESCE(i.owner, 'nobody') AS detail FROM images i \
              JOIN payments p ON p.id = i.payment_id WHERE (COALESCE(i.owner, '') <> p.payer \
              OR COALESCE(i.owner_network, '') <> p.network) AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "exactly the images that are or were public have a publication time",
        sql: "SELECT id AS row_key, state || CASE WHEN published_ms IS NULL THEN ', never published' \
              ELSE ', published' END AS detail FROM images \
              WHERE (state IN ('live', 'deleting', 'deleted')) <> (published_ms IS NOT NULL) \
              AND state <> 'removed' AND $1 = $1 \
              ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "exactly the rows of deleted images have a deletion time",
        sql: "SELECT id AS row_key, state || CASE WHEN deleted_ms IS NULL THEN ', and not gone' \
              ELSE ', and gone' END AS detail FROM images \
              WHERE ((state = 'deleted' AND deleted_ms IS NULL) OR (state NOT IN ('deleted', 'discarded') \
              AND deleted_ms IS NOT NULL)) AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a payment whose records are erased has no row",
        sql: "SELECT p.id AS row_key, 'erased, and ' || p.state AS detail FROM erased_payments e \
              JOIN payments p ON p.id = e.id WHERE $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a grant has the terms of its payment",
        sql: "SELECT g.payment_id AS row_key, 'kind, tier, uses, size, time or days differ' AS detail FROM grants g \
              JOIN payments p ON p.id = g.payment_id WHERE (g.kind <> p.kind OR g.tier <> p.tier \
              OR g.uses <> p.uses OR g.max_bytes <> p.max_bytes \
              OR COALESCE(g.keep_ms, -1) <> COALESCE(p.keep_ms, -1) \
              OR COALESCE(g.days, -1) <> COALESCE(p.days, -1)) AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "the chain shows the transfer of a settled payment",
        sql: "SELECT id AS row_key, missing_reason || ' (decide with pixtoll ledger void)' AS detail FROM payments \
              WHERE missing_reason IS NOT NULL AND voided_ms IS NULL AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a voided payment moved no money, or the operator made up for it",
        sql: "SELECT id AS row_key, 'the chain shows its transfer: refund it, then run pixtoll ledger resolve' \
              AS detail FROM payments WHERE voided_ms IS NOT NULL AND missing_reason IS NULL \
              AND resolved_ms IS NULL AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "exactly settled payments are voided, each with a note and with its grant",
        sql: "SELECT p.id AS row_key, p.state || ', void without note or grant, or only its grant is void' AS detail \
              FROM payments p LEFT JOIN grants g ON g.payment_id = p.id \
              WHERE ((p.voided_ms IS NOT NULL AND (p.state <> 'settled' OR p.void_note IS NULL OR g.voided_ms IS NULL)) \
              OR (p.voided_ms IS NULL AND g.voided_ms IS NOT NULL AND NOT EXISTS (SELECT 1 FROM refunds r \
              WHERE r.payment_id = p.id AND r.refunded_ms IS NOT NULL AND r.keeps_goods = 0))) \
              AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a refund is for a settled payment, and for all of it",
        sql: "SELECT r.payment_id AS row_key, r.amount || ' atomic units on ' || r.network || ' for ' || p.amount \
              || ' on ' || p.network || ', ' || p.state AS detail FROM refunds r JOIN payments p ON p.id = r.payment_id \
              WHERE (p.state <> 'settled' OR r.amount <> p.amount OR r.network <> p.network) AND $1 = $1 \
              ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "exactly the refunds that were made name their transfer",
        sql: "SELECT r.payment_id AS row_key, CASE WHEN r.refunded_ms IS NULL THEN 'due, and names a transfer' \
              ELSE 'made, and names no transfer' END AS detail FROM refunds r JOIN payments p ON p.id = r.payment_id \
              WHERE ((r.refunded_ms IS NULL) <> (r.transaction_hash IS NULL) \
              OR (r.refunded_ms IS NULL) <> (r.log_index IS NULL) \
              OR (r.refunded_ms IS NULL) <> (r.transfer_hash IS NULL)) AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a refunded payment buys nothing any more, unless its payer keeps the goods",
        sql: "SELECT p.id AS row_key, 'refunded, and not resolved, or its grant or an image is left' AS detail \
              FROM refunds r JOIN payments p ON p.id = r.payment_id LEFT JOIN grants g ON g.payment_id = p.id \
              WHERE r.refunded_ms IS NOT NULL AND r.keeps_goods = 0 AND (p.resolved_ms IS NULL \
              OR g.voided_ms IS NULL OR EXISTS (SELECT 1 FROM images i WHERE i.payment_id = p.id \
              AND i.state = 'live' AND NOT EXISTS (SELECT 1 FROM renewals n WHERE n.image_id = i.id \
              AND n.payment_id <> p.id))) AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a voided payment has no public image",
        sql: "SELECT p.id AS row_key, 'image ' || i.id || ' is still public' AS detail FROM payments p \
              JOIN images i ON i.payment_id = p.id WHERE p.voided_ms IS NOT NULL AND i.state = 'live' \
              AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a settled payment has its transfer's log, or a time to look for it",
        sql: "SELECT id AS row_key, 'nobody looks for its log' AS detail FROM payments WHERE state = 'settled' \
              AND log_index IS NULL AND next_look_ms IS NULL AND voided_ms IS NULL AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a settled payment names its transaction",
        sql: "SELECT id AS row_key, 'settled without transaction, time or proof' AS detail FROM payments \
              WHERE state = 'settled' AND (transaction_hash IS NULL OR settled_ms IS NULL OR proven_by IS NULL) \
              AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a transfer settles one payment only",
        sql: "SELECT MIN(id) AS row_key, COUNT(*) || ' payments name transaction ' || transaction_hash \
              AS detail FROM payments WHERE state = 'settled' AND $1 = $1 \
              GROUP BY network, transaction_hash, COALESCE(log_index, -1) HAVING COUNT(*) > 1 \
              ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "no payment is open beyond its deadline",
        sql: "SELECT id AS row_key, state || ' since long after its window closed' AS detail FROM payments \
              WHERE state IN ('received', 'verified', 'settling', 'unknown') \
              AND CAST(valid_before AS BIGINT) * 1000 < $1 \
              ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "an open payment has a time for its next check",
        sql: "SELECT id AS row_key, state || ', and no time to look at it' AS detail FROM payments \
              WHERE state IN ('received', 'verified', 'settling', 'unknown') AND next_look_ms IS NULL \
              AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "every state is one that pixtoll writes",
        sql: "SELECT id AS row_key, 'state ' || state AS detail FROM payments WHERE state NOT IN \
              ('received', 'verified', 'rejected', 'released', 'settling', 'unknown', 'failed', 'settled') \
              AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "an idempotency key of a payer belongs to one payment",
        sql: "SELECT i.id_hash AS row_key, 'id of payment ' || i.payment_id || ' of another payer' AS detail \
              FROM payment_ids i JOIN payments p ON p.id = i.payment_id \
              WHERE p.payer <> i.payer AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        // A renewal may be of another tier, which then becomes the image's tier.
        says: "a paid image keeps to the tier and size of its grant",
        sql: "SELECT i.id AS row_key, 'tier ' || i.tier || ', ' || i.size_bytes || ' bytes on a grant of tier ' \
              || g.tier AS detail FROM images i JOIN grants g ON g.payment_id = i.payment_id \
              WHERE i.published_ms IS NOT NULL AND (i.size_bytes > g.max_bytes OR (i.tier <> g.tier \
              AND NOT EXISTS (SELECT 1 FROM renewals r WHERE r.image_id = i.id AND r.to_tier = i.tier))) \
              AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "every renewal belongs to exactly one grant of kind renewal",
        sql: "SELECT r.payment_id AS row_key, 'renewal of image ' || r.image_id || ' on ' \
              || COALESCE('a grant of kind ' || g.kind, 'no grant') AS detail FROM renewals r \
              LEFT JOIN grants g ON g.payment_id = r.payment_id \
              WHERE (g.payment_id IS NULL OR g.kind <> 'renewal' OR g.tier <> r.to_tier) AND $1 = $1 \
              ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "an image is held for each of its open renewals, and for no other",
        sql: "SELECT i.id AS row_key, i.renewing || ' renewals hold it, ' || COUNT(p.id) || ' are open' AS detail \
              FROM images i LEFT JOIN payments p ON p.target = i.id \
              AND p.state IN ('settling', 'unknown') \
              WHERE (i.renewing <> 0 OR p.id IS NOT NULL) AND $1 = $1 GROUP BY i.id, i.renewing \
              HAVING i.renewing <> COUNT(p.id) ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "exactly the payments for renewals name an image to renew",
        sql: "SELECT id AS row_key, kind || ' of ' || COALESCE('image ' || target, 'no image') AS detail \
              FROM payments WHERE (kind = 'renewal') <> (target IS NOT NULL) AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "exactly the payments for links say for how many days",
        sql: "SELECT id AS row_key, kind || ' for ' || COALESCE(days || ' days', 'no time') AS detail \
              FROM payments WHERE (kind = 'link') <> (days IS NOT NULL) AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "the image of a payment was made by that payment",
        sql: "SELECT p.id AS row_key, 'image ' || i.id || ' of ' || COALESCE(i.payment_id, 'no payment') AS detail \
              FROM payments p JOIN images i ON i.id = p.image_id \
              WHERE (i.payment_id IS NULL OR i.payment_id <> p.id) AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a payment in a final state has no pending image",
        sql: "SELECT p.id AS row_key, p.state || ', and image ' || i.id || ' is pending' AS detail \
              FROM payments p JOIN images i ON i.id = p.image_id WHERE i.state = 'pending' \
              AND p.state NOT IN ('received', 'verified', 'settling', 'unknown') AND $1 = $1 \
              ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "goods are owed for settled payments only",
        sql: "SELECT id AS row_key, state || ', and owed' AS detail FROM payments WHERE owed IS NOT NULL \
              AND state <> 'settled' AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        // A facilitator's word settles only payments whose intent to settle was recorded (rule 9),
        // and no payment that needs confirmations (rule 13).
        says: "a facilitator's word proves only payments that it was asked to settle and that need no confirmation",
        sql: "SELECT id AS row_key, 'proven by the facilitator, ' || confirmations || ' confirmations wanted' \
              || CASE WHEN settle_called_ms IS NULL THEN ', settle was not called' ELSE '' END AS detail \
              FROM payments WHERE state = 'settled' AND proven_by <> 'chain' \
              AND (confirmations > 0 OR settle_called_ms IS NULL) AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a payment that the chain proved names its transfer's log",
        sql: "SELECT id AS row_key, 'proven by the chain without a log' AS detail FROM payments \
              WHERE state = 'settled' AND proven_by = 'chain' AND log_index IS NULL AND $1 = $1 \
              ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "an image that is kept up to date has an origin, which counts the image's content",
        sql: "SELECT i.id AS row_key, 'content ' || i.version || CASE WHEN r.image_id IS NULL \
              THEN ', and no origin' ELSE ', but ' || r.oldest || ' to ' || r.newest || ' are counted' END \
              AS detail FROM images i LEFT JOIN refreshes r ON r.image_id = i.id AND r.is_gone = 0 \
              WHERE i.state = 'live' AND (i.refresh_ms IS NOT NULL OR i.version > 0) \
              AND (r.image_id IS NULL OR i.version < r.oldest OR i.version > r.newest) AND $1 = $1 \
              ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "the origin of an image is forgotten with the image",
        sql: "SELECT r.image_id AS row_key, COALESCE(i.state, 'erased') || ', and its URL is kept' AS detail \
              FROM refreshes r LEFT JOIN images i ON i.id = r.image_id WHERE (i.id IS NULL \
              OR (i.state IN ('deleted', 'discarded') AND r.is_gone = 0)) AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a settled upload is bound to the hash of its bytes",
        sql: "SELECT id AS row_key, state || ', and bound to no bytes' AS detail FROM payments \
              WHERE kind = 'upload' AND settle_called_ms IS NOT NULL AND body_sha256 IS NULL AND $1 = $1 \
              ORDER BY 1 LIMIT 100",
    },
];

/// Runs every rule, and returns the rows that break one, each with its rule.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_broken(
    db: &Db,
    now: Timestamp,
) -> Result<Vec<(&'static str, Violation)>, DbError> {
    let deadline = now.minus(STUCK_AFTER).millis();
    let mut broken = Vec::new();
    for rule in RULES {
        let rows: Vec<Violation> = read_db!(db, |pool| {
            sqlx::query_as(rule.sql)
                .bind(deadline)
                .fetch_all(pool)
                .await
        })?;
        broken.extend(rows.into_iter().map(|row| (rule.says, row)));
    }
    Ok(broken)
}

/// The number of rules that [`find_broken`] tests.
pub const fn rule_count() -> usize {
    RULES.len()
}

/// The text of each rule, and its statement.
pub(super) fn rules() -> impl Iterator<Item = (&'static str, &'static str)> {
    RULES.iter().map(|rule| (rule.says, rule.sql))
}

/// Returns payments after `last_id`, in order of id: a page of at most 500. A row that can't be
/// read is returned as [`Unreadable`].
///
/// # Errors
/// [`DbError::Driver`].
pub async fn page_payments(
    db: &Db,
    last_id: &str,
) -> Result<Vec<Result<Payment, Unreadable>>, DbError> {
    Ok(fetch_payments!(db, |pool| sqlx::query(PAGE_PAYMENTS).bind(last_id)))
}

const PAGE_PAYMENTS: &str = concat!(
    "SELECT ",
    payment_columns!(),
    " FROM payments WHERE id > $1 ORDER BY id LIMIT 500"
);

/// The upload token of a grant, as the database stores it.
#[derive(Debug, Clone)]
pub struct TokenRow {
    /// The payment's ledger id.
    pub payment_id: String,
    /// The serial number of the valid token: a payment's tokens are numbered.
    pub serial: i64,
    /// SHA-256 of that token, in hex.
    pub token_hash: String,
    /// When that token expires, in milliseconds since the Unix epoch.
    pub token_expires_ms: i64,
    /// For how many days the link of the payment is valid; `None`: it has a token.
    pub days: Option<i64>,
}
from_row!(TokenRow: payment_id, serial, token_hash, token_expires_ms, days);

/// Returns tokens after `last_id`, in order of their payments' ids: a page of at most 500.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn page_tokens(db: &Db, last_id: &str) -> Result<Vec<TokenRow>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(PAGE_TOKENS)
        .bind(last_id)
        .fetch_all(pool)
        .await)?)
}

const PAGE_TOKENS: &str = "SELECT payment_id, serial, token_hash, token_expires_ms, days FROM grants \
    WHERE payment_id > $1 ORDER BY payment_id LIMIT 500";

/// A settled payment whose goods are owed.
#[derive(Debug, Clone)]
pub struct Owed {
    /// The payment's ledger id.
    pub id: String,
    /// The payer's address.
    pub payer: String,
    /// The tier that was bought.
    pub tier: String,
    /// The amount in atomic units.
    pub amount: String,
    /// Why the payer doesn't have the goods yet.
    pub owed: String,
    /// When the transfer was proven, in milliseconds since the Unix epoch.
    pub settled_ms: i64,
}
from_row!(Owed: id, payer, tier, amount, owed, settled_ms);

/// Lists owed goods, oldest first.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_owed(db: &Db) -> Result<Vec<Owed>, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(FIND_OWED)
        .fetch_all(pool)
        .await)?)
}

const FIND_OWED: &str = "SELECT id, payer, tier, amount, owed, settled_ms FROM payments \
    WHERE owed IS NOT NULL AND resolved_ms IS NULL AND settled_ms IS NOT NULL \
    ORDER BY settled_ms LIMIT 1000";

/// Further columns of a payment, for `pixtoll ledger show`.
#[derive(Debug, Clone)]
pub struct Detail {
    /// The name of the facilitator that was asked.
    pub facilitator: String,
    /// Who proved the transfer: `facilitator` or `chain`.
    pub proven_by: Option<String>,
    /// The index of the transfer's log in its block.
    pub log_index: Option<i64>,
    /// Why the goods are owed.
    pub owed: Option<String>,
    /// How the operator resolved it.
    pub resolution: Option<String>,
    /// Since when, by block time, the auditor misses the transfer, in milliseconds since the Unix
    /// epoch.
    pub missing_since_ms: Option<i64>,
    /// Why the operator voided the payment.
    pub void_note: Option<String>,
    /// When the row last changed, in milliseconds since the Unix epoch.
    pub changed_ms: i64,
}
from_row!(Detail:
    facilitator, proven_by, log_index, owed, resolution, missing_since_ms, void_note, changed_ms
);

/// Loads the further columns of a payment.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn load_detail(db: &Db, id: &str) -> Result<Detail, DbError> {
    Ok(read_db!(db, |pool| sqlx::query_as(LOAD_DETAIL)
        .bind(id)
        .fetch_one(pool)
        .await)?)
}

const LOAD_DETAIL: &str = "SELECT facilitator, proven_by, log_index, owed, resolution, missing_since_ms, \
    void_note, changed_ms FROM payments WHERE id = $1";

/// Records how the operator resolved owed goods. `false`: nothing is owed for this payment, or a
/// refund of it is due.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn resolve(db: &Db, id: &str, note: &str, now: Timestamp) -> Result<bool, DbError> {
    let changed = write_db!(db, |pool| {
        sqlx::query(RESOLVE)
            .bind(id)
            .bind(note)
            .bind(now.millis())
            .execute(pool)
            .await
            .map(|done| done.rows_affected())
    })?;
    Ok(changed == 1)
}

const RESOLVE: &str = "UPDATE payments SET resolution = $2, resolved_ms = $3 \
    WHERE id = $1 AND owed IS NOT NULL AND resolved_ms IS NULL AND NOT EXISTS (SELECT 1 FROM refunds r \
    WHERE r.payment_id = payments.id AND r.refunded_ms IS NULL)";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("audit::PAGE_PAYMENTS", PAGE_PAYMENTS),
    ("audit::PAGE_TOKENS", PAGE_TOKENS),
    ("audit::FIND_OWED", FIND_OWED),
    ("audit::LOAD_DETAIL", LOAD_DETAIL),
    ("audit::RESOLVE", RESOLVE),
];
