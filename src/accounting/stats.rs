//! Statistics of a deployment: the sales funnel, uploads, storage and revenue. They are counts and
//! sums; no value names a client.

use std::collections::BTreeMap;

use alloy_primitives::U256;
use serde::Serialize;

use super::decimal::write;
use crate::db::limits::{day_of, start_of};
use crate::db::{Db, DbError, stats as rows};
use crate::pricing::money::{AtomicAmount, DECIMALS};
use crate::system::clock::Timestamp;

/// The most days that statistics cover.
pub const MOST_DAYS: u32 = 1100;

/// Statistics of some days, as `pixtoll stats --json` prints them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// The first day, in UTC.
    pub from: String,
    /// The last day, which is today.
    pub to: String,
    /// The sales funnel by tier and kind of client.
    pub funnel: Vec<FunnelRow>,
    /// Uploads and sales of each tier on each day on which there were some.
    pub days: Vec<DayRow>,
    /// The sums of `days` by tier.
    pub tiers: Vec<TierRow>,
    /// The images that are stored now, by tier.
    pub storage: Vec<StorageRow>,
    /// What waits for the operator now.
    pub waiting: Waiting,
}

/// The sales funnel of one tier and one kind of client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FunnelRow {
    /// The tier.
    pub tier: String,
    /// The kind of client.
    pub client: String,
    /// Requests that were asked to pay.
    pub challenged: i64,
    /// Requests that carried a payment which the ledger didn't know.
    pub presented: i64,
    /// Payments that settled.
    pub settled: i64,
    /// Settled payments of which something was used: an upload was published, or a renewal made.
    pub delivered: i64,
}

/// Uploads and sales of one tier on one day.
#[derive(Debug, Serialize)]
pub struct DayRow {
    /// The day, in UTC.
    pub day: String,
    /// The uploads and sales.
    #[serde(flatten)]
    pub sums: TierRow,
}

/// Uploads and sales of one tier.
#[derive(Debug, Clone, Serialize)]
pub struct TierRow {
    /// The tier.
    pub tier: String,
    /// Images that were published.
    pub uploads: i64,
    /// Their bytes.
    pub bytes: i64,
    /// Payments that settled.
    pub payments: i64,
    /// What they moved, in USDC.
    pub revenue: String,
    /// What of it was refunded, in USDC.
    pub refunded: String,
}

/// The images of one tier that are stored now.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageRow {
    /// The tier.
    pub tier: String,
    /// Images that are served.
    pub live: i64,
    /// Their bytes.
    pub live_bytes: i64,
    /// Served images that expire within a day.
    pub due_in_a_day: i64,
    /// Served images that expire within a week.
    pub due_in_a_week: i64,
    /// Images that wait to be deleted.
    pub overdue: i64,
    /// Their bytes.
    pub overdue_bytes: i64,
}

/// What waits for the operator.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// Settled payments whose goods are owed.
    pub owed: i64,
    /// Refunds that are due.
    pub refunds_due: i64,
    /// Payments of unknown outcome.
    pub unknown_payments: i64,
}

/// Sums while they are added up, in atomic units.
#[derive(Debug, Clone, Default)]
struct Sums {
    uploads: i64,
    bytes: i64,
    payments: i64,
    revenue: U256,
    refunded: U256,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.uploads += other.uploads;
        self.bytes += other.bytes;
        self.payments += other.payments;
        self.revenue = self.revenue.saturating_add(other.revenue);
        self.refunded = self.refunded.saturating_add(other.refunded);
    }

    fn row(&self, tier: &str) -> TierRow {
        TierRow {
            tier: tier.to_owned(),
            uploads: self.uploads,
            bytes: self.bytes,
            payments: self.payments,
            revenue: write(self.revenue, DECIMALS),
            refunded: write(self.refunded, DECIMALS),
        }
    }
}

impl Stats {
    /// The statistics of the last `days` UTC days, today included.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn load(db: &Db, days: u32, now: Timestamp) -> Result<Self, DbError> {
        let today = day_of(now);
        let first = today - i64::from(days.max(1)) + 1;
        let since = start_of(first).millis();
        let by_day = sums(db, since).await?;
        let mut by_tier: BTreeMap<&str, Sums> = BTreeMap::new();
        for ((_, tier), sums) in &by_day {
            by_tier.entry(tier).or_default().add(sums);
        }
        let waiting = rows::waiting(db).await?;
        let storage = rows::stored(db, now.millis()).await?;
        Ok(Self {
            from: date(first),
            to: date(today),
            funnel: funnel(db, first, since).await?,
            tiers: by_tier.iter().map(|(tier, sums)| sums.row(tier)).collect(),
            days: by_day
                .iter()
                .map(|((day, tier), sums)| DayRow {
                    day: date(*day),
                    sums: sums.row(tier),
                })
                .collect(),
            storage: storage.into_iter().map(StorageRow::from).collect(),
            waiting: Waiting {
                owed: waiting.owed,
                refunds_due: waiting.refunds,
                unknown_payments: waiting.unknown,
            },
        })
    }
}

impl From<rows::Stored> for StorageRow {
    fn from(row: rows::Stored) -> Self {
        Self {
            tier: row.tier,
            live: row.live,
            live_bytes: row.live_bytes,
            due_in_a_day: row.due_in_a_day,
            due_in_a_week: row.due_in_a_week,
            overdue: row.overdue,
            overdue_bytes: row.overdue_bytes,
        }
    }
}

/// Uploads and sales by day and tier.
async fn sums(db: &Db, since_ms: i64) -> Result<BTreeMap<(i64, String), Sums>, DbError> {
    let mut sums: BTreeMap<(i64, String), Sums> = BTreeMap::new();
    for row in rows::uploads(db, since_ms).await? {
        let of = sums.entry((row.day, row.tier)).or_default();
        of.uploads += row.images;
        of.bytes += row.bytes;
    }
    for row in rows::sales(db, since_ms).await? {
        let amount = AtomicAmount::from_atomic(&row.amount).map_err(|_| DbError::Corrupt {
            table: "payments",
            column: "amount",
            row: row.amount.clone(),
        })?;
        let times = |count: i64| {
            let count = U256::from(u64::try_from(count).unwrap_or(0));
            amount.as_u256().saturating_mul(count)
        };
        let of = sums.entry((row.day, row.tier)).or_default();
        of.payments += row.payments;
        of.revenue = of.revenue.saturating_add(times(row.payments));
        of.refunded = of.refunded.saturating_add(times(row.refunded));
    }
    Ok(sums)
}

/// The funnel: challenges and payments by the counts of requests, sales by the ledger.
async fn funnel(db: &Db, first_day: i64, since_ms: i64) -> Result<Vec<FunnelRow>, DbError> {
    let mut steps: BTreeMap<(String, String), FunnelRow> = BTreeMap::new();
    for row in rows::asked(db, first_day).await? {
        let of = steps.entry((row.tier, row.client)).or_default();
        (of.challenged, of.presented) = (row.first, row.second);
    }
    for row in rows::sold(db, since_ms).await? {
        let of = steps.entry((row.tier, row.client)).or_default();
        (of.settled, of.delivered) = (row.first, row.second);
    }
    let named = steps.into_iter().map(|((tier, client), row)| FunnelRow {
        tier,
        client,
        ..row
    });
    Ok(named.collect())
}

/// The date of a UTC day that is counted from 1970.
pub(super) fn date(day: i64) -> String {
    start_of(day).to_string().chars().take(10).collect()
}
