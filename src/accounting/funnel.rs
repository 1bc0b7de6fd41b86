//! Counts of the sales funnel: how many requests were asked to pay, how many carried a payment that
//! the ledger didn't know, and how many of those the ledger never had a row for. What settled and what was delivered is in the ledger itself.
//!
//! The counts are kept in memory and added to the database every ten seconds and at the end. A
//! process that is killed loses at most the last ten seconds of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::db::Db;
use crate::db::funnel::{self, Counted};
use crate::db::limits::day_of;
use crate::model::client_kind::ClientKind;
use crate::system::clock::Clock;

/// How often the counts are added to the database.
const RECORD_EVERY: Duration = Duration::from_secs(10);

/// A step of the funnel that only requests show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A request without a payment was asked to pay.
    Challenged,
    /// A request carried a payment that the ledger didn't know.
    Presented,
    /// Such a payment was refused before the ledger had a row for it, so no facilitator received it.
    Refused,
}

/// Counts for each tier, shared by all threads.
#[derive(Debug)]
pub struct Funnel {
    db: Db,
    clock: Arc<dyn Clock>,
    tiers: RwLock<BTreeMap<String, Arc<TierCounts>>>,
}

/// The counts of one tier since they were last recorded, by kind of client. Adding is one atomic
/// operation.
#[derive(Debug, Default)]
pub struct TierCounts {
    challenged: [AtomicU64; ClientKind::ALL.len()],
    presented: [AtomicU64; ClientKind::ALL.len()],
    refused: [AtomicU64; ClientKind::ALL.len()],
}

impl TierCounts {
    /// Counts one request.
    pub fn add(&self, stage: Stage, client: ClientKind) {
        self.add_many(stage, client, 1);
    }

    fn add_many(&self, stage: Stage, client: ClientKind, number: u64) {
        if let Some(count) = self.of(stage).get(client as usize) {
            count.fetch_add(number, Ordering::Relaxed);
        }
    }

    /// Takes the count out.
    fn take(&self, stage: Stage, client: ClientKind) -> u64 {
        let count = self.of(stage).get(client as usize);
        count.map_or(0, |count| count.swap(0, Ordering::Relaxed))
    }

    const fn of(&self, stage: Stage) -> &[AtomicU64; ClientKind::ALL.len()] {
        match stage {
            Stage::Challenged => &self.challenged,
            Stage::Presented => &self.presented,
            Stage::Refused => &self.refused,
        }
    }
}

impl Funnel {
    /// Creates a funnel that is recorded in `db`.
    pub fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        Self {
            db,
            clock,
            tiers: RwLock::default(),
        }
    }

    /// The counts of a tier. Callers pass names of tiers that are sold or were sold, so that there
    /// are few.
    pub fn of(&self, tier: &str) -> Arc<TierCounts> {
        let known = self.tiers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = known.get(tier) {
            return Arc::clone(counts);
        }
        drop(known);
        let mut known = self.tiers.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(tier.to_owned()).or_default())
    }

    /// Records the counts every ten seconds, until the future is dropped.
    pub async fn record_forever(self: Arc<Self>) {
        loop {
            tokio::time::sleep(RECORD_EVERY).await;
            self.record().await;
        }
    }

    /// Adds the counts to those of today in the database. Where that fails they are kept for the
    /// next time.
    pub async fn record(&self) {
        let counted = self.take();
        if counted.is_empty() {
            return;
        }
        let day = day_of(self.clock.now());
        if let Err(error) = funnel::add(&self.db, day, &counted).await {
            tracing::warn!(%error, "the counts of the sales funnel could not be recorded; they are kept");
            self.put_back(&counted);
        }
    }

    fn take(&self) -> Vec<Counted> {
        let tiers = self.tiers.read().unwrap_or_else(PoisonError::into_inner);
        let mut counted = Vec::new();
        for (tier, counts) in tiers.iter() {
            counted.extend(ClientKind::ALL.into_iter().filter_map(|client| {
                let challenged = counts.take(Stage::Challenged, client);
                let presented = counts.take(Stage::Presented, client);
                let refused = counts.take(Stage::Refused, client);
                (challenged > 0 || presented > 0 || refused > 0).then(|| Counted {
                    tier: tier.clone(),
                    client,
                    challenged,
                    presented,
                    refused,
                })
            }));
        }
        counted
    }

    fn put_back(&self, counted: &[Counted]) {
        for row in counted {
            let counts = self.of(&row.tier);
            counts.add_many(Stage::Challenged, row.client, row.challenged);
            counts.add_many(Stage::Presented, row.client, row.presented);
            counts.add_many(Stage::Refused, row.client, row.refused);
        }
    }
}
