//! API keys, and the grants that a key may use.

use super::rows::{Field, GrantRow, grant_columns, signed};
use super::{Db, DbError, from_row, in_tx, read_db, write_db};
use crate::model::api_key::ApiKey;
use crate::model::owner::Owner;
use crate::model::payment::Grant;
use crate::system::clock::Timestamp;

/// Writes a new key, unless its wallet has `most` keys that are not revoked. `false`: it has.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn insert(db: &Db, key: &ApiKey, most: u32) -> Result<bool, DbError> {
    let wallet = key.wallet.to_string();
    Ok(in_tx!(db, |tx| {
        // SQLite has one writer, so its transactions follow each other anyway.
        if let Db::Postgres(_) = db {
            sqlx::query(LOCK_WALLET_POSTGRES)
                .bind(&wallet)
                .execute(&mut *tx)
                .await?;
        }
        let count: i64 = sqlx::query_scalar(COUNT_KEYS)
            .bind(&wallet)
            .bind(key.network.as_deref())
            .fetch_one(&mut *tx)
            .await?;
        if count >= i64::from(most) {
            return Ok(false);
        }
        sqlx::query(INSERT)
            .bind(&key.id)
            .bind(&key.secret_hash)
            .bind(&wallet)
            .bind(key.network.as_deref())
            .bind(key.name.as_deref())
            .bind(signed(key.uploads_per_day))
            .bind(key.created_at.millis())
            .execute(&mut *tx)
            .await?;
        true
    }))
}

const LOCK_WALLET_POSTGRES: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 1))";
const COUNT_KEYS: &str = "SELECT COUNT(*) FROM api_keys WHERE wallet = $1 \
    AND COALESCE(network, '') = COALESCE(CAST($2 AS TEXT), '') AND revoked_ms IS NULL";
const INSERT: &str = "INSERT INTO api_keys (id, secret_hash, wallet, network, name, uploads_per_day, created_ms, \
    day, uploads_on_day, uploads, bytes) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, 0, 0, 0)";

/// The columns of a key.
macro_rules! key_columns {
    () => {
        "id, secret_hash, wallet, network, name, uploads_per_day, created_ms, suspended_ms, revoked_ms, day, \
         uploads_on_day, uploads, bytes, last_used_ms"
    };
}

/// Finds the key whose secret has this hash.
///
/// # Errors
/// [`DbError`].
pub async fn find_by_hash(db: &Db, secret_hash: &str) -> Result<Option<ApiKey>, DbError> {
    let row: Option<KeyRow> = read_db!(db, |pool| sqlx::query_as(FIND_BY_HASH)
        .bind(secret_hash)
        .fetch_optional(pool)
        .await)?;
    row.map(ApiKey::try_from).transpose()
}

const FIND_BY_HASH: &str = concat!(
    "SELECT ",
    key_columns!(),
    " FROM api_keys WHERE secret_hash = $1"
);

/// Finds the key with this id.
///
/// # Errors
/// [`DbError`].
pub async fn find(db: &Db, id: &str) -> Result<Option<ApiKey>, DbError> {
    let row: Option<KeyRow> = read_db!(db, |pool| sqlx::query_as(FIND)
        .bind(id)
        .fetch_optional(pool)
        .await)?;
    row.map(ApiKey::try_from).transpose()
}

const FIND: &str = concat!("SELECT ", key_columns!(), " FROM api_keys WHERE id = $1");

/// Lists the keys of a wallet, newest first: at most `most`. `network` is that of a contract wallet.
///
/// # Errors
/// [`DbError`].
pub async fn list(
    db: &Db,
    wallet: &str,
    network: Option<&str>,
    most: u32,
) -> Result<Vec<ApiKey>, DbError> {
    let rows: Vec<KeyRow> = read_db!(db, |pool| sqlx::query_as(LIST)
        .bind(wallet)
        .bind(network)
        .bind(i64::from(most))
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(ApiKey::try_from).collect()
}

const LIST: &str = concat!(
    "SELECT ",
    key_columns!(),
    " FROM api_keys WHERE wallet = $1 AND COALESCE(network, '') = COALESCE(CAST($2 AS TEXT), '') \
     ORDER BY created_ms DESC, id LIMIT $3"
);

/// Suspends a key since this time, or resumes it. Does nothing to a key that is so already, or
/// that is revoked.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn suspend(db: &Db, id: &str, since: Option<Timestamp>) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(SUSPEND)
        .bind(id)
        .bind(since.map(Timestamp::millis))
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const SUSPEND: &str = "UPDATE api_keys SET suspended_ms = CAST($2 AS BIGINT) WHERE id = $1 \
    AND revoked_ms IS NULL AND (suspended_ms IS NULL) <> (CAST($2 AS BIGINT) IS NULL)";

/// Revokes a key. Does nothing to a key that is revoked.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn revoke(db: &Db, id: &str, now: Timestamp) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(REVOKE)
        .bind(id)
        .bind(now.millis())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const REVOKE: &str = "UPDATE api_keys SET revoked_ms = $2 WHERE id = $1 AND revoked_ms IS NULL";

/// Counts one upload of a key that takes uploads. Changes no row otherwise. A server whose clock is
/// a little behind counts into the new day.
pub(super) const COUNT_USE: &str = "UPDATE api_keys SET \
    uploads_on_day = CASE WHEN day >= $2 THEN uploads_on_day + 1 ELSE 1 END, \
    day = CASE WHEN day >= $2 THEN day ELSE $2 END, \
    uploads = uploads + 1, bytes = bytes + $3, last_used_ms = $4 \
    WHERE id = $1 AND suspended_ms IS NULL AND revoked_ms IS NULL \
    AND (day < $2 OR uploads_on_day < uploads_per_day)";

/// Erases the keys that were revoked before `before`.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn forget_revoked(db: &Db, before: Timestamp) -> Result<(), DbError> {
    write_db!(db, |pool| sqlx::query(FORGET_REVOKED)
        .bind(before.millis())
        .execute(pool)
        .await
        .map(|_| ()))?;
    Ok(())
}

const FORGET_REVOKED: &str =
    "DELETE FROM api_keys WHERE revoked_ms IS NOT NULL AND revoked_ms < $1";

/// Finds the grants of a wallet that can take an upload of `bytes` bytes in this tier, the oldest
/// first, at most 20. Links that were revoked are left out.
///
/// # Errors
/// [`DbError`].
pub async fn find_grants(
    db: &Db,
    owner: &Owner,
    tier: &str,
    bytes: u64,
) -> Result<Vec<Grant>, DbError> {
    let rows: Vec<GrantRow> = read_db!(db, |pool| sqlx::query_as(FIND_GRANTS)
        .bind(owner.wallet.to_string())
        .bind(owner.network.as_deref().unwrap_or_default())
        .bind(tier)
        .bind(signed(bytes))
        .fetch_all(pool)
        .await)?;
    rows.into_iter().map(Grant::try_from).collect()
}

/// The settled payments of a wallet.
macro_rules! payments_of_wallet {
    () => {
        "(SELECT id FROM payments WHERE payer = $1 AND ($2 = '' OR network = $2) \
         AND state = 'settled' AND resolved_ms IS NULL)"
    };
}

/// Whether an upload by key can use a grant.
macro_rules! is_open {
    () => {
        "kind IN ('token', 'link') AND used < uses AND voided_ms IS NULL AND revoked_ms IS NULL"
    };
}

const FIND_GRANTS: &str = concat!(
    "SELECT ",
    grant_columns!(),
    " FROM grants WHERE ",
    is_open!(),
    " AND tier = $3 AND max_bytes >= $4 AND payment_id IN ",
    payments_of_wallet!(),
    " ORDER BY created_ms, payment_id LIMIT 20"
);

/// The largest image, in bytes, that a wallet bought in a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bought {
    /// Among all that it bought, so that its images can be no larger.
    pub largest: u64,
    /// Among what has uploads left; `None`: nothing has.
    pub left: Option<u64>,
}

/// Finds how large the images are that a wallet bought in this tier. `None`: it bought nothing.
///
/// # Errors
/// [`DbError`].
pub async fn find_bought(db: &Db, owner: &Owner, tier: &str) -> Result<Option<Bought>, DbError> {
    let (largest, left): (Option<i64>, Option<i64>) = read_db!(db, |pool| {
        sqlx::query_as(FIND_BOUGHT)
            .bind(owner.wallet.to_string())
            .bind(owner.network.as_deref().unwrap_or_default())
            .bind(tier)
            .fetch_one(pool)
            .await
    })?;
    let Some(largest) = largest else {
        return Ok(None);
    };
    let field = Field {
        table: "grants",
        row: tier,
    };
    let left = left.map(|left| field.count("max_bytes", left));
    Ok(Some(Bought {
        largest: field.count("max_bytes", largest)?,
        left: left.transpose()?,
    }))
}

const FIND_BOUGHT: &str = concat!(
    "SELECT MAX(max_bytes), MAX(CASE WHEN ",
    is_open!(),
    " THEN max_bytes END) FROM grants WHERE tier = $3 AND payment_id IN ",
    payments_of_wallet!()
);

struct KeyRow {
    id: String,
    secret_hash: String,
    wallet: String,
    network: Option<String>,
    name: Option<String>,
    uploads_per_day: i64,
    created_ms: i64,
    suspended_ms: Option<i64>,
    revoked_ms: Option<i64>,
    day: i64,
    uploads_on_day: i64,
    uploads: i64,
    bytes: i64,
    last_used_ms: Option<i64>,
}
from_row!(KeyRow:
    id, secret_hash, wallet, network, name, uploads_per_day, created_ms, suspended_ms, revoked_ms, day,
    uploads_on_day, uploads, bytes, last_used_ms
);

impl TryFrom<KeyRow> for ApiKey {
    type Error = DbError;

    fn try_from(row: KeyRow) -> Result<Self, DbError> {
        let field = Field {
            table: "api_keys",
            row: &row.id,
        };
        Ok(Self {
            wallet: field.with("wallet", row.wallet.parse().ok())?,
            uploads_per_day: field.count("uploads_per_day", row.uploads_per_day)?,
            uploads_on_day: field.count("uploads_on_day", row.uploads_on_day)?,
            uploads: field.count("uploads", row.uploads)?,
            bytes: field.count("bytes", row.bytes)?,
            created_at: Timestamp::from_millis(row.created_ms),
            suspended_at: row.suspended_ms.map(Timestamp::from_millis),
            revoked_at: row.revoked_ms.map(Timestamp::from_millis),
            last_used_at: row.last_used_ms.map(Timestamp::from_millis),
            day: row.day,
            id: row.id,
            secret_hash: row.secret_hash,
            network: row.network,
            name: row.name,
        })
    }
}

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("api_keys::LOCK_WALLET_POSTGRES", LOCK_WALLET_POSTGRES),
    ("api_keys::COUNT_KEYS", COUNT_KEYS),
    ("api_keys::INSERT", INSERT),
    ("api_keys::FIND_BY_HASH", FIND_BY_HASH),
    ("api_keys::FIND", FIND),
    ("api_keys::LIST", LIST),
    ("api_keys::SUSPEND", SUSPEND),
    ("api_keys::REVOKE", REVOKE),
    ("api_keys::COUNT_USE", COUNT_USE),
    ("api_keys::FORGET_REVOKED", FORGET_REVOKED),
    ("api_keys::FIND_GRANTS", FIND_GRANTS),
    ("api_keys::FIND_BOUGHT", FIND_BOUGHT),
];
