//! The public keys of current and retired signing keys.

use super::rows::Field;
use super::{Db, DbError, from_row, in_tx, read_db};
use crate::keys::signing::PublicKey;
use crate::system::clock::Timestamp;

/// The public key of a signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKey {
    /// The public key.
    pub key: PublicKey,
    /// When a server first signed with it.
    pub first_used: Timestamp,
    /// When it was replaced; `None`: it is in use.
    pub retired: Option<Timestamp>,
}

/// Records that these two keys sign from now on. All other keys are retired and stay listed.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn use_keys(db: &Db, keys: &[PublicKey; 2], now: Timestamp) -> Result<(), DbError> {
    let [one, other] = keys.map(|key| key.id());
    in_tx!(db, |tx| {
        for key in keys {
            sqlx::query(USE)
                .bind(key.id())
                .bind(key.kind())
                .bind(key.to_hex())
                .bind(now.millis())
                .execute(&mut *tx)
                .await?;
        }
        sqlx::query(RETIRE_OTHERS)
            .bind(&one)
            .bind(&other)
            .bind(now.millis())
            .execute(&mut *tx)
            .await?;
    });
    Ok(())
}

// A key that comes back into use is not retired any more.
const USE: &str = "INSERT INTO signing_keys (id, kind, public_key, first_used_ms) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (id) DO UPDATE SET retired_ms = NULL";
const RETIRE_OTHERS: &str = "UPDATE signing_keys SET retired_ms = $3 \
    WHERE id <> $1 AND id <> $2 AND retired_ms IS NULL";

/// Lists every key, newest first.
///
/// # Errors
/// [`DbError`].
pub async fn list(db: &Db) -> Result<Vec<KnownKey>, DbError> {
    let rows: Vec<KeyRow> = read_db!(db, |pool| sqlx::query_as(LIST).fetch_all(pool).await)?;
    rows.into_iter().map(KnownKey::try_from).collect()
}

const LIST: &str = "SELECT id, kind, public_key, first_used_ms, retired_ms FROM signing_keys \
    ORDER BY first_used_ms DESC, kind, id";

#[derive(Debug)]
struct KeyRow {
    id: String,
    kind: String,
    public_key: String,
    first_used_ms: i64,
    retired_ms: Option<i64>,
}
from_row!(KeyRow: id, kind, public_key, first_used_ms, retired_ms);

impl TryFrom<KeyRow> for KnownKey {
    type Error = DbError;

    fn try_from(row: KeyRow) -> Result<Self, DbError> {
        let field = Field {
            table: "signing_keys",
            row: &row.id,
        };
        let key = PublicKey::parse(&row.kind, &row.public_key).filter(|key| key.id() == row.id);
        Ok(Self {
            key: field.with("public_key", key)?,
            first_used: Timestamp::from_millis(row.first_used_ms),
            retired: row.retired_ms.map(Timestamp::from_millis),
        })
    }
}

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("keys::USE", USE),
    ("keys::RETIRE_OTHERS", RETIRE_OTHERS),
    ("keys::LIST", LIST),
];
