//! Offers: prices and terms that were quoted. An offer stays valid for its timeout after a change
//! of prices.

use std::collections::BTreeMap;

use super::rows::{Field, keep_millis, signed};
use super::{Db, DbError, from_row, in_tx, read_db};
use crate::keys::secrets::sha256_hex;
use crate::model::payment::{Product, ProductKind, Terms};
use crate::pricing::money::AtomicAmount;
use crate::pricing::networks;
use crate::system::clock::Timestamp;
use crate::x402::wire::Offer;

/// Records that these offers are made now, in one transaction.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn record(db: &Db, made: &[(Product, Terms)], now: Timestamp) -> Result<(), DbError> {
    let mut made: Vec<(String, &(Product, Terms))> = made
        .iter()
        .map(|offer| (offer_id(&offer.0, &offer.1), offer))
        .collect();
    // Each replica writes the rows in the same order, so that none waits for the other in a circle.
    made.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    in_tx!(db, |tx| {
        for (id, (product, terms)) in &made {
            let offer = &terms.offer;
            sqlx::query(RECORD)
                .bind(id)
                .bind(product.kind.as_str())
                .bind(&product.tier)
                .bind(i64::from(product.uses))
                .bind(offer.network.caip2)
                .bind(offer.amount.to_string())
                .bind(offer.pay_to.to_string())
                .bind(signed(offer.max_timeout_seconds))
                .bind(keep_millis(terms.keep))
                .bind(signed(terms.max_bytes))
                .bind(i64::from(terms.confirmations))
                .bind(now.millis())
                .execute(&mut *tx)
                .await?;
        }
    });
    Ok(())
}

const RECORD: &str = "INSERT INTO offers (id, kind, tier, uses, network, amount, pay_to, \
    max_timeout_seconds, keep_ms, max_bytes, confirmations, last_offered_ms) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
    ON CONFLICT (id) DO UPDATE SET last_offered_ms = excluded.last_offered_ms \
    WHERE offers.last_offered_ms < excluded.last_offered_ms";

/// Finds the terms on which this product was offered since `since`, newest first: those for this
/// amount, or all.
///
/// # Errors
/// [`DbError`].
pub async fn find_recent(
    db: &Db,
    product: &Product,
    amount: Option<AtomicAmount>,
    since: Timestamp,
) -> Result<Vec<Terms>, DbError> {
    let rows: Vec<OfferRow> = read_db!(db, |pool| {
        sqlx::query_as(FIND_RECENT)
            .bind(product.kind.as_str())
            .bind(&product.tier)
            .bind(i64::from(product.uses))
            .bind(since.millis())
            .bind(amount.map(|amount| amount.to_string()))
            .fetch_all(pool)
            .await
    })?;
    rows.into_iter()
        .filter(OfferRow::is_of_known_network)
        .map(Terms::try_from)
        .collect()
}

const FIND_RECENT: &str = "SELECT id, tier, network, amount, pay_to, max_timeout_seconds, keep_ms, max_bytes, \
    confirmations FROM offers WHERE kind = $1 AND tier = $2 AND uses = $3 AND last_offered_ms >= $4 \
    AND amount = COALESCE(CAST($5 AS TEXT), amount) ORDER BY last_offered_ms DESC LIMIT 20";

/// Finds the tiers, with their terms, that were sold for this amount since `since` by routes that
/// name no tier, newest first. They are recorded under names of their own, see [`default_name`].
///
/// # Errors
/// [`DbError`].
pub async fn find_recent_defaults(
    db: &Db,
    kind: ProductKind,
    amount: AtomicAmount,
    since: Timestamp,
) -> Result<Vec<(String, Terms)>, DbError> {
    let rows: Vec<OfferRow> = read_db!(db, |pool| {
        sqlx::query_as(FIND_RECENT_DEFAULTS)
            .bind(kind.as_str())
            .bind(since.millis())
            .bind(amount.to_string())
            .fetch_all(pool)
            .await
    })?;
    rows.into_iter()
        .filter(OfferRow::is_of_known_network)
        .map(|row| {
            let tier = row.tier.trim_start_matches(DEFAULT_MARK).to_owned();
            Ok((tier, Terms::try_from(row)?))
        })
        .collect()
}

const FIND_RECENT_DEFAULTS: &str = "SELECT id, tier, network, amount, pay_to, max_timeout_seconds, keep_ms, \
    max_bytes, confirmations FROM offers WHERE kind = $1 AND tier LIKE '*%' AND uses = 1 \
    AND last_offered_ms >= $2 AND amount = $3 ORDER BY last_offered_ms DESC LIMIT 20";

/// Finds the tiers, with their terms, of which one upload ever cost this amount on this network,
/// sold directly or as a token.
/// Tiers are not listed twice: of several terms, the best ones for the payer count.
///
/// # Errors
/// [`DbError`].
pub async fn find_by_amount(
    db: &Db,
    network: &str,
    amount: AtomicAmount,
) -> Result<Vec<(String, Terms)>, DbError> {
    let rows: Vec<OfferRow> = read_db!(db, |pool| {
        sqlx::query_as(FIND_BY_AMOUNT)
            .bind(network)
            .bind(amount.to_string())
            .fetch_all(pool)
            .await
    })?;
    let mut best: BTreeMap<String, Terms> = BTreeMap::new();
    for row in rows.into_iter().filter(OfferRow::is_of_known_network) {
        let tier = row.tier.clone();
        let terms = Terms::try_from(row)?;
        let goods = |terms: &Terms| (terms.keep, terms.max_bytes);
        if best
            .get(&tier)
            .is_none_or(|known| goods(known) < goods(&terms))
        {
            best.insert(tier, terms);
        }
    }
    Ok(best.into_iter().collect())
}

const FIND_BY_AMOUNT: &str = "SELECT id, tier, network, amount, pay_to, max_timeout_seconds, keep_ms, max_bytes, \
    confirmations FROM offers WHERE network = $1 AND amount = $2 AND kind IN ('token', 'upload') AND uses = 1 \
    AND tier NOT LIKE '*%' ORDER BY last_offered_ms DESC";

/// Whether anything was ever offered for this amount on this network.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn was_offered(db: &Db, network: &str, amount: AtomicAmount) -> Result<bool, DbError> {
    let found: Option<i64> = read_db!(db, |pool| sqlx::query_scalar(WAS_OFFERED)
        .bind(network)
        .bind(amount.to_string())
        .fetch_optional(pool)
        .await)?;
    Ok(found.is_some())
}

const WAS_OFFERED: &str =
    "SELECT last_offered_ms FROM offers WHERE network = $1 AND amount = $2 LIMIT 1";

/// Finds the largest upload size that was ever offered for each tier.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn find_largest(db: &Db) -> Result<Vec<(String, u64)>, DbError> {
    let rows: Vec<(String, i64)> = read_db!(db, |pool| sqlx::query_as(FIND_LARGEST)
        .fetch_all(pool)
        .await)?;
    let counted = |(tier, bytes)| (tier, u64::try_from(bytes).unwrap_or(0));
    Ok(rows.into_iter().map(counted).collect())
}

const FIND_LARGEST: &str = "SELECT tier, MAX(max_bytes) FROM offers GROUP BY tier";

/// A character that no tier name contains.
const DEFAULT_MARK: char = '*';

/// The name under which a tier is recorded when a route that names no tier sells it.
pub fn default_name(tier: &str) -> String {
    format!("{DEFAULT_MARK}{tier}")
}

struct OfferRow {
    id: String,
    tier: String,
    network: String,
    amount: String,
    pay_to: String,
    max_timeout_seconds: i64,
    keep_ms: Option<i64>,
    max_bytes: i64,
    confirmations: i64,
}
from_row!(OfferRow:
    id, tier, network, amount, pay_to, max_timeout_seconds, keep_ms, max_bytes, confirmations
);

impl OfferRow {
    /// Whether this process knows the offer's network. Another replica may already sell on a newly
    /// configured network.
    fn is_of_known_network(&self) -> bool {
        networks::find(&self.network).is_some()
    }
}

impl TryFrom<OfferRow> for Terms {
    type Error = DbError;

    fn try_from(row: OfferRow) -> Result<Self, DbError> {
        let field = Field {
            table: "offers",
            row: &row.id,
        };
        Ok(Self {
            offer: Offer {
                network: field.with("network", networks::find(&row.network))?,
                amount: field.with("amount", AtomicAmount::from_atomic(&row.amount).ok())?,
                pay_to: field.with("pay_to", row.pay_to.parse().ok())?,
                max_timeout_seconds: field.count("max_timeout_seconds", row.max_timeout_seconds)?,
            },
            keep: field.keep(row.keep_ms)?,
            max_bytes: field.count("max_bytes", row.max_bytes)?,
            confirmations: field.count("confirmations", row.confirmations)?,
        })
    }
}

/// Equal offers have equal ids, whichever replica makes them.
fn offer_id(product: &Product, terms: &Terms) -> String {
    let offer = &terms.offer;
    sha256_hex(
        format!(
            "{}/{}/{}/{}/{}/{}/{}/{:?}/{}/{}",
            product.kind.as_str(),
            product.tier,
            product.uses,
            offer.network.caip2,
            offer.amount,
            offer.pay_to,
            offer.max_timeout_seconds,
            terms.keep,
            terms.max_bytes,
            terms.confirmations
        )
        .as_bytes(),
    )
}

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("offers::RECORD", RECORD),
    ("offers::FIND_RECENT", FIND_RECENT),
    ("offers::FIND_RECENT_DEFAULTS", FIND_RECENT_DEFAULTS),
    ("offers::FIND_BY_AMOUNT", FIND_BY_AMOUNT),
    ("offers::FIND_LARGEST", FIND_LARGEST),
    ("offers::WAS_OFFERED", WAS_OFFERED),
];
