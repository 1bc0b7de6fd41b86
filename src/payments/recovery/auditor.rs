//! The auditor: looks up the transfer of every settled payment on the chain until its block is safe
//! (docs/payments.md, rule 13).
//!
//! It records the transaction that the chain shows, in place of the one that the facilitator named.
//! If three looks over ten minutes of block time do not find the transfer, the payment is marked and
//! an error is logged: `pixtoll ledger check` names it, and the operator decides. [`decide`] is the
//! pure function that decides what follows from a look.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tracing::Instrument;

use crate::db::DbError;
use crate::db::auditor::{self as audits, Audited, Missing};
use crate::db::payments::Unreadable;
use crate::evm::chain::{Block, Evidence, Query, Verdict, judge};
use crate::model::payment::{Payment, Transfer};
use crate::payments::Payments;
use crate::system::logs::{job_span, payment_span};

/// The pause between two runs.
const EVERY: Duration = Duration::from_secs(1);
/// The number of payments that one run takes, and how many of them it looks up at the same time.
const BATCH: u32 = 100;
const AT_ONCE: usize = 8;
/// A transfer counts as gone when this many looks, over at least [`MISSING_FOR`] of block time, do
/// not find it.
const LOOKS: u32 = 3;
const MISSING_FOR: Duration = Duration::from_mins(10);
/// The pause after a look that did not find the transfer.
const AFTER_MISS: Duration = Duration::from_secs(30);
/// The pause after a look that decided nothing. It doubles up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_mins(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// Why a payment is marked if its transfer is gone.
const GONE: &str = "transfer_missing";

/// What the chain shows about a settled payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    /// The transfer to us.
    Shown {
        transfer: Transfer,
        block: u64,
        is_final: bool,
    },
    /// The nonce was cancelled, or it paid someone else.
    Contradicted {
        reason: &'static str,
        is_final: bool,
    },
    /// The nonce is unused. `never`: the reason why it can't be used any more.
    Missing { never: Option<&'static str> },
    /// Nothing reliable: no answer, an incomplete one, or too few confirmations.
    Nothing,
}

/// What a look found, and the newest block that the node knew then.
#[derive(Debug, Clone, Copy)]
struct Look {
    finding: Finding,
    head: Block,
}

/// What to do after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Record where the transfer is. Once its block is safe, the audit of the payment ends.
    Note {
        transfer: Transfer,
        block: u64,
        is_final: bool,
    },
    /// Record that the transfer was not found.
    Miss(Missing),
    /// Mark the payment with this reason: the operator has to decide.
    Mark(Missing, &'static str),
    /// End the audit of a voided payment: it will never pay us.
    Close,
    /// Look again later: nothing new is known.
    Wait,
}

/// Reads what the evidence shows about a settled payment's transfer.
fn find(query: &Query, evidence: &Evidence) -> Look {
    let block = evidence.block();
    let is_final = block.is_some_and(|block| evidence.is_final(block));
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

/// The step that follows from a look.
fn decide(audited: &Audited, look: Look) -> Step {
    let never = match look.finding {
        Finding::Shown {
            transfer,
            block,
            is_final,
        } => {
            return Step::Note {
                transfer,
                block,
                is_final,
            };
        }
        Finding::Nothing => return Step::Wait,
        Finding::Contradicted { is_final, .. } => is_final,
        Finding::Missing { never } => never.is_some(),
    };
    let payment = &audited.payment;
    match (look.finding, &payment.missing) {
        (_, Some(_)) if payment.voided_at.is_some() && never => Step::Close,
        (_, Some(_)) => Step::Wait,
        (Finding::Contradicted { reason, .. }, None) => {
            Step::Mark(next_miss(audited, look.head), reason)
        }
        (_, None) => miss(audited, look.head),
    }
}

/// Judges a look that did not find the transfer. It counts if the node is not behind and has seen a
/// new block since the last look that counted. Time is block time, so neither a node that stands
/// still nor a local clock that jumps makes a transfer count as gone.
fn miss(audited: &Audited, head: Block) -> Step {
    // The local clock serves only to detect a node that is behind. If it is ahead, the auditor
    // waits longer.
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
    let missing = next_miss(audited, head);
    if missing.looks >= LOOKS && head.time >= missing.since.plus(MISSING_FOR) {
        return Step::Mark(missing, GONE);
    }
    Step::Miss(missing)
}

/// One more look that did not find the transfer.
fn next_miss(audited: &Audited, head: Block) -> Missing {
    let (looks, since) = audited
        .missing
        .map_or((0, head.time), |before| (before.looks, before.since));
    Missing {
        looks: looks.saturating_add(1),
        since,
        block: head.number,
    }
}

impl Payments {
    /// Audits until the future is dropped.
    pub async fn audit_forever(self: Arc<Self>) {
        loop {
            self.audit().await;
            let orphans = self.look_for_orphans();
            orphans.instrument(job_span("orphans")).await;
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Looks once at the transfer of every settled payment that is due. Errors are
    /// logged, and the rows are looked at again later.
    pub async fn audit(self: &Arc<Self>) {
        let now = self.clock.now();
        let due = match audits::find_due(&self.db, now, BATCH).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "the payments that are due for an audit could not be read");
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
                        self.ledger.put_off(&failed).await;
                    }
                };
                work.instrument(span).await;
            })
            .await;
    }

    async fn audit_one(self: &Arc<Self>, mut audited: Audited) -> Result<(), DbError> {
        // The claim succeeds only under the attempt that was read, so what was read of the row is
        // still true.
        let Some(row) = self.ledger.claim(&audited.payment).await? else {
            return Ok(());
        };
        audited.payment = row;
        let row = &audited.payment;
        let lease = self.ledger.keep(row);
        let query = Query::about(row);
        let step = match self.networks.evidence(row, &query).await {
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
            Step::Miss(missing) => self.note_missing(row, missing, None).await,
            Step::Mark(missing, reason) => self.note_missing(row, missing, Some(reason)).await,
            Step::Close => {
                tracing::info!("a voided payment can't move money any more");
                self.ledger.hand_back_until(row, None, row.looks).await?;
                Ok(())
            }
            Step::Wait => {
                let next = self.clock.now().plus(pause(row.looks));
                self.ledger
                    .hand_back_until(row, Some(next), row.looks.saturating_add(1))
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
                "the chain shows another transaction for a settled payment than the facilitator named");
        }
        if row.voided_at.is_some() {
            tracing::error!(transaction = %transfer.transaction,
                "the chain shows the transfer of a voided payment: refund it, then run pixtoll ledger resolve");
        } else if row.missing.is_some() {
            tracing::warn!(transaction = %transfer.transaction,
                "the chain shows the missing transfer of a settled payment again");
        }
        let next = (!is_final).then(|| self.clock.now().plus(pause(row.looks)));
        self.ledger.seen(row, transfer, block, next).await
    }

    /// Records a look that did not find the transfer. With a `reason` the payment is marked, and the
    /// operator has to decide.
    async fn note_missing(
        &self,
        row: &Payment,
        missing: Missing,
        reason: Option<&str>,
    ) -> Result<(), DbError> {
        if let Some(reason) = reason {
            tracing::error!(
                reason,
                looks = missing.looks,
                block = missing.block,
                "the chain does not show the transfer of a settled payment: decide with pixtoll ledger void"
            );
        } else {
            tracing::warn!(
                looks = missing.looks,
                block = missing.block,
                "a look did not find the transfer of a settled payment"
            );
        }
        let next = self.clock.now().plus(AFTER_MISS);
        self.ledger.missed(row, missing, reason, next).await
    }
}

/// The pause before the next look, after this many looks that decided nothing.
fn pause(looks: u32) -> Duration {
    PAUSE.saturating_mul(1 << looks.min(10)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests;
