//! The nonces that signed in.

use super::{Db, DbError, write_db};
use crate::system::clock::Timestamp;

/// Records that a nonce signed in. `false`: it did before.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn use_nonce(db: &Db, nonce: &str, until: Timestamp) -> Result<bool, DbError> {
    let inserted = write_db!(db, |on| sqlx::query(USE_NONCE)
        .bind(nonce)
        .bind(until.millis())
        .execute(on)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(inserted == 1)
}

const USE_NONCE: &str =
    "INSERT INTO used_nonces (nonce, expires_ms) VALUES ($1, $2) ON CONFLICT (nonce) DO NOTHING";

/// Erases nonces that no server accepts any more.
///
/// # Errors
/// [`DbError::Driver`].
pub async fn forget_nonces(db: &Db, now: Timestamp) -> Result<(), DbError> {
    write_db!(db, |on| sqlx::query(FORGET_NONCES)
        .bind(now.millis())
        .execute(on)
        .await
        .map(|_| ()))?;
    Ok(())
}

const FORGET_NONCES: &str = "DELETE FROM used_nonces WHERE expires_ms <= $1";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("signin::USE_NONCE", USE_NONCE),
    ("signin::FORGET_NONCES", FORGET_NONCES),
];
