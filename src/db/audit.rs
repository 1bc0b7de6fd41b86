//! The questions that `pixtoll ledger check` asks. Each returns the rows that break a rule.

use std::time::Duration;

use super::rows::{PaymentRow, Unreadable, fetch_payments, payment_columns};
use super::{Db, DbError, on_db};
use crate::clock::Timestamp;
use crate::model::payment::Payment;

/// A row that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Finding {
    /// The key of the row.
    pub row_key: String,
    /// What stands there.
    pub detail: String,
}

/// A rule of the ledger, and the statement that finds what breaks it. `$1` is the instant before
/// which an open row must have been finished, in milliseconds.
struct Rule {
    says: &'static str,
    sql: &'static str,
}

/// How long after its window a row may be open before it counts as stuck.
const STUCK_AFTER: Duration = Duration::from_hours(1);

const RULES: &[Rule] = &[
    Rule {
        says: "every settled payment has exactly one grant",
        sql: "SELECT p.id AS row_key, 'settled payment without grant' AS detail FROM payments p \
              LEFT JOIN grants g ON g.payment_id = p.id \
              WHERE p.state = 'settled' AND g.payment_id IS NULL AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        // The grant of a payment that the chain took back stays, and is withheld.
        says: "nothing is granted without a settled payment",
        sql: "SELECT g.payment_id AS row_key, 'grant of a payment that is ' || COALESCE(p.state, 'missing') \
              AS detail FROM grants g LEFT JOIN payments p ON p.id = g.payment_id \
              WHERE (p.id IS NULL OR p.state NOT IN ('settled', 'frozen', 'reversed')) AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a grant has at most its uses",
        sql: "SELECT payment_id AS row_key, used || ' of ' || uses || ' uses' AS detail FROM grants \
              WHERE (used < 0 OR used > uses) AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a grant counts the images that it published and the renewal that it made",
        sql: "SELECT g.payment_id AS row_key, g.used || ' uses counted, ' || COUNT(i.id) || ' images published, ' \
              || COUNT(DISTINCT r.payment_id) || ' renewals' AS detail FROM grants g \
              LEFT JOIN images i ON i.payment_id = g.payment_id AND i.published_ms IS NOT NULL AND i.taken_back_ms IS NULL \
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
        says: "an image is published exactly when it is or was public",
        sql: "SELECT id AS row_key, state || CASE WHEN published_ms IS NULL THEN ', never published' \
              ELSE ', published' END AS detail FROM images \
              WHERE (state IN ('live', 'deleting', 'deleted')) <> (published_ms IS NOT NULL) AND $1 = $1 \
              ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a row says when its object was gone, and no other does",
        sql: "SELECT id AS row_key, state || CASE WHEN deleted_ms IS NULL THEN ', and not gone' \
              ELSE ', and gone' END AS detail FROM images \
              WHERE ((state = 'deleted' AND deleted_ms IS NULL) OR (state NOT IN ('deleted', 'discarded') \
              AND deleted_ms IS NOT NULL)) AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "an erased payment has no row",
        sql: "SELECT p.id AS row_key, 'erased, and ' || p.state AS detail FROM erased_payments e \
              JOIN payments p ON p.id = e.id WHERE $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a grant has the terms of its payment",
        sql: "SELECT g.payment_id AS row_key, 'kind, tier, uses, size or time differ' AS detail FROM grants g \
              JOIN payments p ON p.id = g.payment_id WHERE (g.kind <> p.kind OR g.tier <> p.tier \
              OR g.uses <> p.uses OR g.max_bytes <> p.max_bytes \
              OR COALESCE(g.keep_ms, -1) <> COALESCE(p.keep_ms, -1)) AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        // What is frozen is withheld where it is asked for: its rows stay as they were.
        says: "a reversed payment has no goods",
        sql: "SELECT p.id AS row_key, 'its token or an image is still there' AS detail FROM payments p \
              WHERE p.state = 'reversed' AND (EXISTS (SELECT 1 FROM grants g WHERE g.payment_id = p.id \
              AND (g.used > 0 OR g.token_expires_ms > 0)) OR EXISTS (SELECT 1 FROM images i \
              WHERE i.payment_id = p.id AND i.state = 'live' AND (i.held_ms IS NULL OR i.taken_back_ms IS NULL))) \
              AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "only what was published is taken back",
        sql: "SELECT id AS row_key, state || ', and taken back' AS detail FROM images \
              WHERE taken_back_ms IS NOT NULL AND (published_ms IS NULL OR payment_id IS NULL \
              OR (state = 'live' AND held_ms IS NULL)) AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a settled payment is proven by its log, or the chain will be asked",
        sql: "SELECT id AS row_key, 'nobody looks for its log' AS detail FROM payments WHERE state = 'settled' \
              AND log_index IS NULL AND next_look_ms IS NULL AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a credit is a payment exactly when it was claimed",
        sql: "SELECT c.id AS row_key, CASE WHEN c.claimed_by IS NULL THEN 'open, and there is a payment' \
              ELSE 'claimed, and there is no payment' END AS detail FROM credits c \
              LEFT JOIN payments p ON p.id = c.id LEFT JOIN erased_payments e ON e.id = c.id \
              WHERE e.id IS NULL AND (c.claimed_by IS NULL) = (p.id IS NOT NULL) AND $1 = $1 \
              ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a settled payment names its transfer",
        sql: "SELECT id AS row_key, 'settled without transaction, time or proof' AS detail FROM payments \
              WHERE state = 'settled' AND (transaction_hash IS NULL OR settled_ms IS NULL OR proven_by IS NULL) \
              AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a transfer settles one payment",
        sql: "SELECT MIN(id) AS row_key, COUNT(*) || ' payments name transaction ' || transaction_hash \
              AS detail FROM payments WHERE state = 'settled' AND $1 = $1 \
              GROUP BY network, transaction_hash, COALESCE(log_index, -1) HAVING COUNT(*) > 1 \
              ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "nothing is stuck beyond its deadline",
        sql: "SELECT id AS row_key, state || ' since long after its window closed' AS detail FROM payments \
              WHERE (state IN ('received', 'verified', 'settling', 'unknown') \
              AND CAST(valid_before AS BIGINT) * 1000 < $1) OR (state = 'frozen' AND changed_ms < $1) \
              ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "an open payment is watched",
        sql: "SELECT id AS row_key, state || ', and no time to look at it' AS detail FROM payments \
              WHERE state IN ('received', 'verified', 'settling', 'unknown', 'frozen') AND next_look_ms IS NULL \
              AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a state is one that pixtoll writes",
        sql: "SELECT id AS row_key, 'state ' || state AS detail FROM payments WHERE state NOT IN \
              ('received', 'verified', 'rejected', 'released', 'settling', 'unknown', 'failed', 'settled', \
              'frozen', 'reversed') AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "one payment stands behind an id",
        sql: "SELECT i.id_hash AS row_key, 'id of payment ' || i.payment_id || ' of another payer' AS detail \
              FROM payment_ids i JOIN payments p ON p.id = i.payment_id \
              WHERE p.payer <> i.payer AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        // A renewal may be of another tier, which then is the image's.
        says: "a paid image fits what its grant allows",
        sql: "SELECT i.id AS row_key, 'tier ' || i.tier || ', ' || i.size_bytes || ' bytes on a grant of tier ' \
              || g.tier AS detail FROM images i JOIN grants g ON g.payment_id = i.payment_id \
              WHERE i.published_ms IS NOT NULL AND (i.size_bytes > g.max_bytes OR (i.tier <> g.tier \
              AND NOT EXISTS (SELECT 1 FROM renewals r WHERE r.image_id = i.id AND r.to_tier = i.tier))) \
              AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "every renewal names exactly one grant of one",
        sql: "SELECT r.payment_id AS row_key, 'renewal of image ' || r.image_id || ' on ' \
              || COALESCE('a grant of kind ' || g.kind, 'no grant') AS detail FROM renewals r \
              LEFT JOIN grants g ON g.payment_id = r.payment_id \
              WHERE (g.payment_id IS NULL OR g.kind <> 'renewal' OR g.tier <> r.to_tier) AND $1 = $1 \
              ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "an image is held for the renewals that are open, and for no other",
        sql: "SELECT i.id AS row_key, i.renewing || ' renewals hold it, ' || COUNT(p.id) || ' are open' AS detail \
              FROM images i LEFT JOIN payments p ON p.target = i.id \
              AND p.state IN ('settling', 'unknown', 'frozen') \
              WHERE (i.renewing <> 0 OR p.id IS NOT NULL) AND $1 = $1 GROUP BY i.id, i.renewing \
              HAVING i.renewing <> COUNT(p.id) ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a renewal names its image, and nothing else does",
        sql: "SELECT id AS row_key, kind || ' of ' || COALESCE('image ' || target, 'no image') AS detail \
              FROM payments WHERE (kind = 'renewal') <> (target IS NOT NULL) AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "the image that a payment names is its own",
        sql: "SELECT p.id AS row_key, 'image ' || i.id || ' of ' || COALESCE(i.payment_id, 'no payment') AS detail \
              FROM payments p JOIN images i ON i.id = p.image_id \
              WHERE (i.payment_id IS NULL OR i.payment_id <> p.id) AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "a payment that ended holds no pending image",
        sql: "SELECT p.id AS row_key, p.state || ', and image ' || i.id || ' is pending' AS detail \
              FROM payments p JOIN images i ON i.id = p.image_id WHERE i.state = 'pending' \
              AND p.state NOT IN ('received', 'verified', 'settling', 'unknown') AND $1 = $1 \
              ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "only settled payments are owed",
        sql: "SELECT id AS row_key, state || ', and owed' AS detail FROM payments WHERE owed IS NOT NULL \
              AND state NOT IN ('settled', 'frozen', 'reversed') AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        // A facilitator's word settles only what was written down before it was asked (rule 9), and
        // not a dear tier (rule 13).
        says: "a facilitator proves what it was asked to settle, and no dear payment",
        sql: "SELECT id AS row_key, 'proven by the facilitator, ' || confirmations || ' confirmations wanted' \
              || CASE WHEN settle_called_ms IS NULL THEN ', settle was not called' ELSE '' END AS detail \
              FROM payments WHERE state = 'settled' AND proven_by <> 'chain' \
              AND (confirmations > 0 OR settle_called_ms IS NULL) AND $1 = $1 ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "what the chain proved names its log",
        sql: "SELECT id AS row_key, 'proven by the chain without a log' AS detail FROM payments \
              WHERE state = 'settled' AND proven_by = 'chain' AND log_index IS NULL AND $1 = $1 \
              ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "an upload is settled for bytes that it is bound to",
        sql: "SELECT id AS row_key, state || ', and bound to no bytes' AS detail FROM payments \
              WHERE kind = 'upload' AND settle_called_ms IS NOT NULL AND body_sha256 IS NULL AND $1 = $1 \
              ORDER BY 1 LIMIT 100",
    },
    Rule {
        says: "an id proves the payment that it stands for",
        sql: "SELECT i.id_hash AS row_key, 'no such proof of payment ' || i.payment_id AS detail \
              FROM payment_ids i LEFT JOIN payment_proofs p ON p.payment_id = i.payment_id \
              AND p.kind = 'id' AND p.hash = i.id_hash WHERE p.payment_id IS NULL AND $1 = $1 \
              ORDER BY 1 LIMIT 100",
    },
];

/// Everything that breaks a rule, with the rule.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_broken(db: &Db, now: Timestamp) -> Result<Vec<(&'static str, Finding)>, DbError> {
    let deadline = now.minus(STUCK_AFTER).millis();
    let mut broken = Vec::new();
    for rule in RULES {
        let rows: Vec<Finding> = on_db!(db, |pool| {
            sqlx::query_as(rule.sql)
                .bind(deadline)
                .fetch_all(pool)
                .await
        })?;
        broken.extend(rows.into_iter().map(|row| (rule.says, row)));
    }
    Ok(broken)
}

/// How many rules [`find_broken`] looks at.
pub const fn rule_count() -> usize {
    RULES.len()
}

/// What each rule says, and its statement.
pub(super) fn rules() -> impl Iterator<Item = (&'static str, &'static str)> {
    RULES.iter().map(|rule| (rule.says, rule.sql))
}

/// Payments after `last_id`, in order of id: a page of at most 500. One that can't be read is among them
/// as such.
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

/// The token of a grant, as far as the database knows it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct TokenRow {
    /// The payment.
    pub payment_id: String,
    /// Which token of the payment is the valid one.
    pub serial: i64,
    /// SHA-256 of that token.
    pub token_hash: String,
    /// When it ends, in milliseconds.
    pub token_expires_ms: i64,
}

/// Tokens after `last_id`, in order of their payments' ids: a page of at most 500.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn page_tokens(db: &Db, last_id: &str) -> Result<Vec<TokenRow>, DbError> {
    Ok(on_db!(db, |pool| sqlx::query_as(PAGE_TOKENS)
        .bind(last_id)
        .fetch_all(pool)
        .await)?)
}

const PAGE_TOKENS: &str = "SELECT payment_id, serial, token_hash, token_expires_ms FROM grants \
    WHERE payment_id > $1 ORDER BY payment_id LIMIT 500";

/// A settled payment whose goods wait for someone.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Owed {
    /// The payment.
    pub id: String,
    /// Who paid.
    pub payer: String,
    /// What was bought.
    pub tier: String,
    /// How much, in atomic units.
    pub amount: String,
    /// Why nobody has the goods yet.
    pub owed: String,
    /// When the money was known to have moved, in milliseconds.
    pub settled_ms: i64,
}

/// What is owed, oldest first.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_owed(db: &Db) -> Result<Vec<Owed>, DbError> {
    Ok(on_db!(db, |pool| sqlx::query_as(FIND_OWED)
        .fetch_all(pool)
        .await)?)
}

const FIND_OWED: &str = "SELECT id, payer, tier, amount, owed, settled_ms FROM payments \
    WHERE owed IS NOT NULL AND resolved_ms IS NULL AND settled_ms IS NOT NULL \
    ORDER BY settled_ms LIMIT 1000";

/// What else is known of a payment, for a person.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Detail {
    /// The facilitator that was asked.
    pub facilitator: String,
    /// Who proved the transfer.
    pub proven_by: Option<String>,
    /// Index of the transfer's log.
    pub log_index: Option<i64>,
    /// Why the goods are owed.
    pub owed: Option<String>,
    /// What a person did about it.
    pub resolution: Option<String>,
    /// When it last changed, in milliseconds.
    pub changed_ms: i64,
}

/// What else is known of a payment.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn load_detail(db: &Db, id: &str) -> Result<Detail, DbError> {
    Ok(on_db!(db, |pool| sqlx::query_as(LOAD_DETAIL)
        .bind(id)
        .fetch_one(pool)
        .await)?)
}

const LOAD_DETAIL: &str = "SELECT facilitator, proven_by, log_index, owed, resolution, changed_ms \
    FROM payments WHERE id = $1";

/// Notes what a person did about owed goods. `false`: nothing is owed there.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn resolve(db: &Db, id: &str, note: &str, now: Timestamp) -> Result<bool, DbError> {
    let changed = on_db!(db, |pool| {
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
    WHERE id = $1 AND owed IS NOT NULL AND resolved_ms IS NULL";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("audit::PAGE_PAYMENTS", PAGE_PAYMENTS),
    ("audit::PAGE_TOKENS", PAGE_TOKENS),
    ("audit::FIND_OWED", FIND_OWED),
    ("audit::LOAD_DETAIL", LOAD_DETAIL),
    ("audit::RESOLVE", RESOLVE),
];
