//! Counts of the sales funnel, by UTC day, tier and kind of client.

use super::rows::signed;
use super::{Db, DbError, in_tx};
use crate::model::client_kind::ClientKind;

/// Counts of one tier and one kind of client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// The name of the tier.
    pub tier: String,
    /// The kind of client.
    pub client: ClientKind,
    /// Requests that were asked to pay.
    pub challenged: u64,
    /// Requests with a payment that the ledger didn't know.
    pub presented: u64,
    /// Those of them that were refused before the ledger had a row for the payment.
    pub refused: u64,
}

/// For how many days counts are kept: three years and some days.
const KEPT_DAYS: i64 = 1_100;

/// Adds counts to those of a day, and deletes those that are older than three years. The same rows
/// are always written in the same order, so that servers don't wait for each other in a circle.
///
/// # Errors
/// [`DbError`]; the counts may have been added all the same.
pub async fn add(db: &Db, day: i64, counted: &[Counted]) -> Result<(), DbError> {
    in_tx!(db, |tx| {
        for row in counted {
            sqlx::query(ADD)
                .bind(day)
                .bind(&row.tier)
                .bind(row.client.as_str())
                .bind(signed(row.challenged))
                .bind(signed(row.presented))
                .bind(signed(row.refused))
                .execute(&mut *tx)
                .await?;
        }
        sqlx::query(FORGET)
            .bind(day.saturating_sub(KEPT_DAYS))
            .execute(&mut *tx)
            .await?;
    });
    Ok(())
}

const ADD: &str = "INSERT INTO funnel (day, tier, client, challenged, presented, refused) \
    VALUES ($1, $2, $3, $4, $5, $6) \
    ON CONFLICT (day, tier, client) DO UPDATE SET challenged = funnel.challenged + excluded.challenged, \
    presented = funnel.presented + excluded.presented, refused = funnel.refused + excluded.refused";
const FORGET: &str = "DELETE FROM funnel WHERE day < $1";

/// Every statement of this module, by name.
pub(super) const STATEMENTS: &[(&str, &str)] = &[("funnel::ADD", ADD), ("funnel::FORGET", FORGET)];
