//! The auditor: every settled payment is looked up on the chain until the block of its transfer is safe
//! (payments.md, rule 13).
//!
//! What the chain shows is written down, in place of what a facilitator said. A transfer that is missing
//! at three looks over ten minutes of the chain's own time freezes its payment: the goods are withheld
//! until the chain decides again. What a look means is decided by [`decide`], which is pure.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tracing::Instrument;

use super::Payments;
use crate::chain::{Block, Evidence, Query, Verdict, judge};
use crate::clock::Timestamp;
use crate::db::auditor::{self as audits, Audited, Missing, Reversal};
use crate::db::payments::{Patch, Unreadable};
use crate::db::{DbError, grants};
use crate::kill::kill_point;
use crate::logs::{job_span, payment_span};
use crate::model::payment::{Event, Payment, PaymentState, Transfer, transition};
use crate::model::token::UploadToken;

/// The pause between a settlement and the first look at its transfer.
pub(super) const FIRST_LOOK: Duration = Duration::from_secs(15);
/// The pause between two runs.
const EVERY: Duration = Duration::from_secs(1);
/// Payments that one run takes, and looks at side by side.
const BATCH: u32 = 100;
const AT_ONCE: usize = 8;
/// A transfer that is missing at so many looks, over so long a time of the chain's blocks, is gone.
const LOOKS: u32 = 3;
const MISSING_FOR: Duration = Duration::from_mins(10);
/// The pause after a look that missed it, and between looks for what is withheld.
const AFTER_MISS: Duration = Duration::from_secs(30);
/// The pause after a look that decided nothing; it doubles up to the longest.
const PAUSE: Duration = Duration::from_mins(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// Why a payment is frozen whose transfer is gone.
const GONE: &str = "transfer_missing";

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    /// The transfer to us.
    Shown {
        transfer: Transfer,
        block: u64,
        is_final: bool,
    },
    /// The nonce was cancelled, or paid someone else.
    Contradicted {
        reason: &'static str,
        is_final: bool,
    },
    /// The nonce is unused. With a reason it will stay so.
    Missing { never: Option<&'static str> },
    /// Nothing that can be believed: no answer, a part of one, or too few confirmations.
    Nothing,
}

/// What a look found, and when the chain's clock showed what.
#[derive(Debug, Clone, Copy)]
struct Look {
    finding: Finding,
    head: Block,
}

/// What follows from a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Where the transfer is, is written down; once that is final, nobody looks any more.
    Note {
        transfer: Transfer,
        block: u64,
        is_final: bool,
    },
    /// It was missed once more.
    Miss(Missing),
    /// The goods are withheld.
    Freeze(&'static str),
    /// The chain shows it again.
    Thaw(Transfer),
    /// It will never pay us.
    Reverse(&'static str),
    /// Nothing is known that wasn't known.
    Wait,
}

fn find(query: &Query, evidence: &Evidence) -> Look {
    let block = evidence.block();
    let is_final = block.is_some_and(|block| block <= evidence.safe.number);
    let finding = match (judge(query, evidence), block) {
        (Verdict::Paid(transfer), Some(block)) => Finding::Shown {
            transfer,
            block,
            is_final,
        },
        (Verdict::Void(reason), Some(_)) => Finding::Contradicted { reason, is_final },
        (Verdict::Void(reason), None) => Finding::Missing {
            never: Some(reason),
        },
        (Verdict::Unused, _) => Finding::Missing { never: None },
        (Verdict::Unclear | Verdict::Paid(_), _) => Finding::Nothing,
    };
    Look {
        finding,
        head: evidence.head,
    }
}

fn decide(audited: &Audited, look: Look) -> Step {
    match (audited.payment.state, look.finding) {
        (
            PaymentState::Settled,
            Finding::Shown {
                transfer,
                block,
                is_final,
            },
        ) => Step::Note {
            transfer,
            block,
            is_final,
        },
        (PaymentState::Settled, Finding::Contradicted { reason, .. }) => Step::Freeze(reason),
        (PaymentState::Settled, Finding::Missing { .. }) => miss(audited, look.head),
        (PaymentState::Frozen, Finding::Shown { transfer, .. }) => Step::Thaw(transfer),
        (
            PaymentState::Frozen,
            Finding::Contradicted {
                reason,
                is_final: true,
            }
            | Finding::Missing {
                never: Some(reason),
            },
        ) => Step::Reverse(reason),
        _ => Step::Wait,
    }
}

/// A look that doesn't find a transfer counts when the node can know of it, and has seen a new block
/// since the last one that counted. Time is that of the blocks: a node that stands still lets none pass,
/// and a local clock that jumps neither.
fn miss(audited: &Audited, head: Block) -> Step {
    // Our clock only says which node lags: one that is ahead makes us wait, and decides nothing.
    let settled = audited.payment.settled_at;
    let lags = settled.is_some_and(|settled| head.time <= settled)
        || audited.seen_block.is_some_and(|block| head.number < block);
    if lags
        || audited
            .missing
            .is_some_and(|before| head.number <= before.block)
    {
        return Step::Wait;
    }
    let (looks, since) = audited
        .missing
        .map_or((0, head.time), |before| (before.looks, before.since));
    let looks = looks.saturating_add(1);
    if looks >= LOOKS && head.time >= since.plus(MISSING_FOR) {
        return Step::Freeze(GONE);
    }
    Step::Miss(Missing {
        looks,
        since,
        block: head.number,
    })
}

impl Payments {
    /// Audits until it is dropped.
    pub async fn audit_forever(self: Arc<Self>) {
        loop {
            self.audit().await;
            let orphans = self.look_for_orphans();
            orphans.instrument(job_span("orphans")).await;
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Looks once at the transfer of every settled or frozen payment that is due. Errors are logged, and
    /// their rows looked at later again.
    pub async fn audit(self: &Arc<Self>) {
        let now = self.clock.now();
        let due = match audits::find_due(&self.db, now, BATCH).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "the payments that are due to be audited could not be read");
                return;
            }
        };
        futures_util::stream::iter(due)
            .for_each_concurrent(AT_ONCE, async |audited| {
                let id = match &audited {
                    Ok(audited) => audited.payment.id.to_string(),
                    Err(unreadable) => unreadable.id.clone(),
                };
                let span = payment_span(&id);
                let work = async {
                    let done = match audited {
                        Ok(audited) => {
                            let done = self.audit_one(audited).await;
                            done.map_err(|error| Unreadable { id, error })
                        }
                        Err(unreadable) => Err(unreadable),
                    };
                    if let Err(failed) = done {
                        self.put_off(&failed, now).await;
                    }
                };
                work.instrument(span).await;
            })
            .await;
    }

    async fn audit_one(self: &Arc<Self>, mut audited: Audited) -> Result<(), DbError> {
        // Under the attempt that was read: what is known of the row can't have changed.
        let Some(row) = self.claim(&audited.payment, self.clock.now()).await? else {
            return Ok(());
        };
        audited.payment = row;
        let row = &audited.payment;
        let lease = self.lease(row);
        let query = Query::about(row);
        let step = match self.evidence(row, &query).await {
            Some(evidence) => decide(&audited, find(&query, &evidence)),
            None => Step::Wait,
        };
        drop(lease);
        match step {
            Step::Note {
                transfer,
                block,
                is_final,
            } => self.note_seen(row, transfer, block, is_final).await,
            Step::Miss(missing) => self.note_missing(row, missing).await,
            Step::Freeze(reason) => self.freeze(row, reason).await,
            Step::Thaw(transfer) => self.settle_row(row, Event::ChainPaid, transfer).await,
            Step::Reverse(reason) => self.reverse(row, reason).await,
            Step::Wait => {
                let pause = match row.state {
                    PaymentState::Frozen => AFTER_MISS,
                    _ => pause(row.looks),
                };
                let next = self.clock.now().plus(pause);
                self.hand_back_until(row, Some(next), row.looks.saturating_add(1))
                    .await?;
                Ok(())
            }
        }
    }

    async fn note_seen(
        &self,
        row: &Payment,
        transfer: Transfer,
        block: u64,
        is_final: bool,
    ) -> Result<(), DbError> {
        if row.transaction != Some(transfer.transaction) {
            tracing::warn!(said = ?row.transaction, shown = %transfer.transaction,
                "a payment was settled by another transaction than was said");
        }
        let next = (!is_final).then(|| self.clock.now().plus(pause(row.looks)));
        let looks = row.looks.saturating_add(1);
        kill_point!("audit.seen.before");
        audits::note_seen(&self.db, row, transfer, block, next, looks).await?;
        kill_point!("audit.seen.after");
        Ok(())
    }

    async fn note_missing(&self, row: &Payment, missing: Missing) -> Result<(), DbError> {
        tracing::warn!(
            looks = missing.looks,
            block = missing.block,
            "the chain does not show the transfer of a settled payment"
        );
        let next = self.clock.now().plus(AFTER_MISS);
        kill_point!("audit.missing.before");
        audits::note_missing(&self.db, row, missing, next).await?;
        kill_point!("audit.missing.after");
        Ok(())
    }

    async fn freeze(&self, row: &Payment, reason: &str) -> Result<(), DbError> {
        tracing::error!(
            reason,
            "the goods of a payment are withheld until the chain decides"
        );
        let patch = Patch {
            reason: Some(reason.to_owned()),
            lease_until: Some(Timestamp::from_millis(0)),
            next_look: Some(self.clock.now().plus(AFTER_MISS)),
            ..Patch::default()
        };
        kill_point!("payment.frozen.before");
        self.advance(row, Event::ChainForgot, &patch).await?;
        kill_point!("payment.frozen.after");
        let renewed = row.product.target.as_ref();
        self.images.forget_goods(&row.id, renewed).await;
        if let Some(image) = &row.product.target {
            self.images.describe(image).await;
        }
        Ok(())
    }

    async fn reverse(&self, row: &Payment, reason: &str) -> Result<(), DbError> {
        let Some(step) = transition(row.state, Event::ChainVoid) else {
            return Ok(());
        };
        // Grant and settlement are one transaction, so there is one.
        let Some(grant) = grants::find(&self.db, &row.id).await? else {
            return Ok(());
        };
        let token = UploadToken::derive(
            self.secrets.current(),
            &row.id,
            grant.serial.saturating_add(1),
        );
        let now = self.clock.now();
        let reversal = Reversal {
            step,
            payment: row,
            reason,
            serial: grant.serial,
            token_hash: &token.hash(),
            next_look: now.plus(PAUSE),
            now,
        };
        kill_point!("payment.reversed.before");
        let reversed = audits::reverse(&self.db, &reversal).await?;
        kill_point!("payment.reversed.after");
        if reversed {
            tracing::error!(
                reason,
                "the chain took a payment back, and its goods are gone"
            );
            let renewed = row.product.target.as_ref();
            self.images.forget_goods(&row.id, renewed).await;
            self.changed.notify_waiters();
        }
        Ok(())
    }
}

/// How long nobody looks, after so many looks that decided nothing.
fn pause(looks: u32) -> Duration {
    PAUSE.saturating_mul(1 << looks.min(10)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests;
