//! Orphans: transfers to us without a payment. `pixtoll ledger check` lists all of them, and a
//! background job looks for new ones once an hour. Those that look like sales are recorded, and logged
//! as errors until a payment accounts for them or the operator accepts them. They close nothing,
//! since anybody can make one for the price of an upload. The same search adds up the transfers that
//! it reads, for the public proof.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use alloy_primitives::Address;

pub use crate::accounting::balance::NEXT_BLOCK;
use crate::accounting::balance::{self, Read, SEARCH as JOB};
use crate::catalog::MOST_USES;
use crate::db::auditor::{self as audits, Claimant, Incoming};
use crate::db::orphans::{self, Orphan};
use crate::db::{Db, deployment, erasure, jobs, offers};
use crate::evm::chain::{Chain, IncomingTransfer, Priority, Reading};
use crate::payments::Payments;
use crate::payments::access::NetworkAccess;
use crate::pricing::money::AtomicAmount;
use crate::pricing::networks::{self, Network};
use crate::pricing::tiers::{Tier, TierTable};
use crate::system::clock::Timestamp;
use crate::system::kill::kill_point;

const LEASE: Duration = Duration::from_mins(2);
/// The pause between two searches, and the shorter one after a search that did not finish.
const EVERY: Duration = Duration::from_hours(1);
const SOON: Duration = Duration::from_mins(1);
/// The number of blocks in one query, and of queries in one search of one network.
const SPAN: u64 = 2_000;
const QUESTIONS: u32 = 50;

/// How far the search for transfers to a recipient has come.
struct Cursor<'a> {
    /// The CAIP-2 id and the recipient, with a dot between them.
    of: String,
    access: &'a NetworkAccess,
    recipient: Address,
    next_block: u64,
}

impl Cursor<'_> {
    fn incoming(&self, transfer: &IncomingTransfer) -> Incoming {
        super::incoming(self.access.network, self.recipient, transfer)
    }
}

/// The result of one search for one recipient.
#[derive(Debug, Default)]
struct Found {
    orphans: u64,
    erased: u64,
    read: Read,
}

impl Payments {
    /// Searches for transfers to us without a payment, and logs each. All processes of a deployment
    /// together search once an hour. Returns the number of orphans. Errors are logged, and the next
    /// search continues where this one stopped.
    pub async fn look_for_orphans(self: &Arc<Self>) -> u64 {
        let now = self.clock.now();
        if now.millis() < self.next_orphans.load(Ordering::Relaxed) {
            return 0;
        }
        let mut named = 0;
        let next = match self.take_turn(now, &mut named).await {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(%error, "the search for transfers without a payment failed; it is repeated");
                now.plus(SOON)
            }
        };
        self.next_orphans.store(next.millis(), Ordering::Relaxed);
        named
    }

    /// Searches if it is this process's turn. Returns when to try next.
    async fn take_turn(&self, now: Timestamp, named: &mut u64) -> anyhow::Result<Timestamp> {
        let holder = &self.holder;
        if !jobs::take_job(&self.db, JOB, holder, now.plus(LEASE), now).await? {
            return Ok(now.plus(SOON));
        }
        let ran = jobs::last_run(&self.db, JOB).await?;
        // A time in the future comes from a clock that has been corrected since.
        if let Some(ran) = ran.filter(|ran| *ran <= now && now < ran.plus(EVERY)) {
            jobs::return_job(&self.db, JOB, holder).await?;
            return Ok(ran.plus(EVERY));
        }
        let mut through = true;
        for cursor in self.cursors().await? {
            through &= self.search(cursor, named).await?;
        }
        self.report_unexplained().await?;
        if through {
            jobs::note_run(&self.db, JOB, now).await?;
        }
        jobs::return_job(&self.db, JOB, holder).await?;
        Ok(now.plus(if through { EVERY } else { SOON }))
    }

    /// Logs an error while transfers that look like sales wait for the operator's decision.
    async fn report_unexplained(&self) -> anyhow::Result<()> {
        orphans::forget_claimed(&self.db).await?;
        let open = orphans::list_open(&self.db).await?;
        if let Some(first) = open.first() {
            tracing::error!(
                count = open.len(),
                transaction = first.transaction_hash,
                "transfers look like sales that the ledger doesn't know: see pixtoll ledger check, and run pixtoll \
                 ledger recover or pixtoll ledger accept"
            );
        }
        Ok(())
    }

    /// Renews the job's lease. `false`: another process has it.
    async fn keeps_turn(&self) -> anyhow::Result<bool> {
        let now = self.clock.now();
        Ok(jobs::take_job(&self.db, JOB, &self.holder, now.plus(LEASE), now).await?)
    }

    async fn cursors(&self) -> anyhow::Result<Vec<Cursor<'_>>> {
        let mut cursors = Vec::new();
        for (name, block) in deployment::list(&self.db, NEXT_BLOCK).await? {
            let Some((network, recipient)) = name.rsplit_once('.') else {
                continue;
            };
            let Some(access) =
                networks::find(network).and_then(|network| self.networks.find(network))
            else {
                // The network is no longer configured.
                continue;
            };
            cursors.push(Cursor {
                recipient: recipient.parse()?,
                next_block: block.parse()?,
                access,
                of: name,
            });
        }
        Ok(cursors)
    }

    /// Searches the safe blocks that were not searched yet, up to a limit. `false`: more are left.
    async fn search(&self, cursor: Cursor<'_>, named: &mut u64) -> anyhow::Result<bool> {
        let reading = Reading::of(Priority::Orphans);
        let chain = cursor.access.chain.read_for(reading);
        let safe = chain.safe().await?.number;
        let (start, mut next, mut found) = (cursor.next_block, cursor.next_block, Found::default());
        let mut held_at = None;
        for _ in 0..QUESTIONS {
            if next > safe || held_at.is_some() {
                break;
            }
            let last = safe.min(next.saturating_add(SPAN - 1));
            let receipts = chain.receipts(cursor.recipient, next, last);
            let receipts = receipts.await?;
            // After losing the lease, this process would log what the other one has logged.
            if !self.keeps_turn().await? {
                return Ok(false);
            }
            let mut of_span = Found::default();
            // An unresolved payment may turn out to own one of the transfers, so the next search
            // starts there again.
            held_at = self.first_undecided(&cursor, &receipts).await?;
            let end = held_at.unwrap_or(last.saturating_add(1));
            for receipt in receipts.iter().filter(|receipt| receipt.block < end) {
                self.account(&cursor, receipt, &mut of_span).await?;
            }
            kill_point!("orphans.note.before");
            let is_ours = balance::note_read(&self.db, &cursor.of, next, end, of_span.read);
            if !is_ours.await? {
                return Ok(false);
            }
            kill_point!("orphans.note.after");
            next = end;
            found.orphans += of_span.orphans;
            *named += of_span.orphans;
            found.erased += of_span.erased;
        }
        tracing::info!(
            network = cursor.access.network.name(),
            first_block = start,
            next_block = next,
            orphans = found.orphans,
            erased = found.erased,
            "searched for transfers without a payment"
        );
        Ok(held_at.is_some() || next > safe)
    }

    async fn first_undecided(
        &self,
        cursor: &Cursor<'_>,
        receipts: &[IncomingTransfer],
    ) -> anyhow::Result<Option<u64>> {
        for receipt in receipts {
            let claimant = audits::find_claimant(&self.db, &cursor.incoming(receipt)).await?;
            if claimant == Claimant::Open {
                return Ok(Some(receipt.block));
            }
        }
        Ok(None)
    }

    async fn account(
        &self,
        cursor: &Cursor<'_>,
        receipt: &IncomingTransfer,
        found: &mut Found,
    ) -> anyhow::Result<()> {
        let transfer = cursor.incoming(receipt);
        if audits::find_claimant(&self.db, &transfer).await? != Claimant::Nobody {
            found.read.paid.add(receipt.value);
            return Ok(());
        }
        if erasure::is_erased_transfer(&self.db, &transfer.hash()).await? {
            found.erased += 1;
            found.read.paid.add(receipt.value);
            return Ok(());
        }
        found.orphans += 1;
        found.read.other.add(receipt.value);
        let tiers = self.catalog.tiers();
        let chain = &*cursor.access.chain;
        if looks_like_sale(&self.db, chain, cursor.access.network, &tiers, receipt).await? {
            kill_point!("orphans.insert.before");
            let orphan = Orphan::of(&transfer);
            let is_new = orphans::note(&self.db, &orphan, self.clock.now()).await?;
            kill_point!("orphans.insert.after");
            if is_new {
                tracing::error!(
                    network = cursor.access.network.name(),
                    transaction = transfer.transaction,
                    log_index = transfer.log_index,
                    block = receipt.block,
                    amount = transfer.amount,
                    "found a transfer that looks like a sale, and the ledger doesn't know it"
                );
            }
            return Ok(());
        }
        tracing::warn!(
            network = cursor.access.network.name(),
            transaction = transfer.transaction,
            log_index = transfer.log_index,
            block = receipt.block,
            amount = transfer.amount,
            "found an orphan: a transfer to us without a payment"
        );
        Ok(())
    }
}

/// Whether a transfer without a payment looks like a sale: an authorization made it, and its amount
/// is the price of something, now or in a recorded offer.
pub(super) async fn looks_like_sale(
    db: &Db,
    chain: &dyn Chain,
    network: &Network,
    tiers: &TierTable,
    receipt: &IncomingTransfer,
) -> anyhow::Result<bool> {
    let Ok(amount) = AtomicAmount::from_atomic(&receipt.value.to_string()) else {
        return Ok(false);
    };
    let is_price = (1..=MOST_USES).any(|uses| {
        let share = amount.shared_by(uses);
        let mut steps = tiers.paid().flat_map(Tier::steps);
        share.is_some_and(|share| steps.any(|step| step.price == share))
    });
    if !is_price && !offers::was_offered(db, network.caip2, amount).await? {
        return Ok(false);
    }
    Ok(chain.nonce_of(receipt).await?.is_some())
}
