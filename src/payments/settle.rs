//! Calls settle and records its outcome.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use tokio::time::Instant;
use tracing::Instrument;

use super::admit::reasons;
use super::ledger::Lease;
use super::reading::{NOT_CONFIGURED, is_open};
use super::recovery::Money;
use super::{PayError, Payments, Presentation, Progress};
use crate::db::DbError;
use crate::facilitator::{Call, SettleOutcome};
use crate::model::payment::{Event, Payment, Transfer};
use crate::system::kill::kill_point;

/// The least time that must be left until `validBefore` for settle to be called: what a transfer
/// needs.
pub(super) const LEAST_SETTLE_WINDOW: Duration = Duration::from_secs(6);

/// The timeout of a settle call. The request that made it waits only `payments.timeout`.
const SETTLE_LIFE: Duration = Duration::from_secs(90);
/// The least time for which the chain is asked for a transaction that settle named.
const LEAST_FOLLOWED: Duration = Duration::from_secs(2);

/// How long a request has waited for the outcome of a settle call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    /// Until settle answered.
    ForSettle,
    /// As long as it may, for settle or for the chain.
    ToTheEnd,
}

impl Payments {
    /// Settles a payment in state `verified`: commits the intent, and calls the facilitator. The row
    /// holds the outcome.
    pub(super) async fn settle(
        self: &Arc<Self>,
        row: &Payment,
        lease: Lease,
        presentation: &Presentation,
        progress: &mut Progress,
    ) -> Result<(), PayError> {
        let is_late = self.clock.now().plus(LEAST_SETTLE_WINDOW) >= row.valid_before();
        if is_late {
            return self.give_up_late(row).await;
        }
        let body = presentation.body_sha256();
        let Some(settling) = self.ledger.settling(row, body).await? else {
            return self.give_up_renewal(row).await;
        };
        // If this request has waited for settle or the chain, it has no time left to drive the
        // payment again.
        let waited = self.call_and_wait(settling, lease, progress.ends).await;
        progress.is_driven = waited == Waited::ToTheEnd;
        Ok(())
    }

    /// Releases a verified payment whose window is about to end, unless the chain shows that
    /// somebody submitted it in time (docs/payments.md, rule 6).
    async fn give_up_late(&self, row: &Payment) -> Result<(), PayError> {
        let reason = reasons::VALID_BEFORE;
        match self.ask_chain(row).await? {
            Money::Moved => Ok(()),
            Money::Open => {
                self.ledger.hand_back(row).await?;
                Err(PayError::Pending)
            }
            Money::Still if self.ledger.released(row, reason).await? => Err(PayError::Invalid {
                reason: reason.to_owned(),
                detail: "The authorization ends before it could be settled. Sign another one."
                    .to_owned(),
            }),
            Money::Still => Ok(()),
        }
    }

    /// Calls settle in a task of its own and waits for `payments.timeout`. If settle names a
    /// transaction that must be seen on the chain, this waits for it until `ends`.
    ///
    /// Without an answer, the row becomes `unknown` and the call goes on. A success that arrives
    /// later still settles the payment; a refusal that arrives later changes nothing
    /// (docs/payments.md, rule 5).
    async fn call_and_wait(self: &Arc<Self>, row: Payment, lease: Lease, ends: Instant) -> Waited {
        let payments = Arc::clone(self);
        let (decided, wait) = tokio::sync::oneshot::channel();
        let task = async move {
            kill_point!("settle.call.before");
            let mut settling = std::pin::pin!(payments.call_settle(&row));
            let in_time = tokio::time::timeout(payments.settings.timeout, &mut settling).await;
            if let Ok(outcome) = in_time {
                kill_point!("settle.call.after");
                let waited = payments.conclude(&row, outcome, ends).await;
                drop(lease);
                tell(decided, waited);
                return;
            }
            drop(lease);
            let late = SettleOutcome::Unclear {
                why: "no answer yet".to_owned(),
                refusal: None,
                transaction: None,
            };
            payments.record(&row, late).await;
            tell(decided, Waited::ToTheEnd);
            let outcome = settling.await;
            kill_point!("settle.late.after");
            payments.record_late(&row, outcome).await;
        };
        tokio::spawn(task.in_current_span());
        wait.await.unwrap_or(Waited::ToTheEnd)
    }

    /// Records the outcome of the first settle call. If the outcome names a transaction and decides
    /// nothing by itself, the chain is asked for the transaction first.
    async fn conclude(
        self: &Arc<Self>,
        row: &Payment,
        outcome: SettleOutcome,
        ends: Instant,
    ) -> Waited {
        let Some(named) = open_transaction(row, &outcome) else {
            self.record(row, outcome).await;
            return Waited::ForSettle;
        };
        let followed = Payment {
            transaction: Some(named),
            ..row.clone()
        };
        // Most transactions are in a block already.
        let mut verdict = self.networks.follow(&followed, Instant::now()).await;
        if is_open(verdict) {
            kill_point!("settle.named.before");
            self.ledger.named(&row.id, named).await;
            kill_point!("settle.named.after");
            let least = Instant::now() + LEAST_FOLLOWED;
            verdict = self.networks.follow(&followed, ends.max(least)).await;
        }
        match self.ledger.judged(row, verdict).await {
            Ok(()) if !is_open(verdict) => {}
            Ok(()) => self.record(row, outcome).await,
            Err(error) => {
                tracing::error!(%error, "the chain's verdict could not be recorded; the reconciler will ask again");
            }
        }
        if Instant::now() < ends {
            Waited::ForSettle
        } else {
            Waited::ToTheEnd
        }
    }

    /// Records the outcome of the first settle call. If that fails, the row stays for the reconciler.
    async fn record(self: &Arc<Self>, row: &Payment, outcome: SettleOutcome) {
        let result = match outcome {
            SettleOutcome::Success { transaction } if row.terms.confirmations == 0 => {
                let transfer = Transfer {
                    transaction,
                    log_index: None,
                };
                self.ledger
                    .settled(row, Event::SettleProven, transfer)
                    .await
            }
            SettleOutcome::Success { transaction } => {
                // A tier that asks for confirmations needs the transfer's log on the chain, not the
                // facilitator's word.
                self.ledger
                    .unclear(row, "waiting for the chain", None, Some(transaction))
                    .await
            }
            SettleOutcome::Refused { reason } => self.ledger.refused(row, reason).await,
            SettleOutcome::Unclear {
                why,
                refusal,
                transaction,
            } => self.ledger.unclear(row, &why, refusal, transaction).await,
        };
        if let Err(error) = result {
            tracing::error!(%error, "the outcome of settle could not be recorded; the reconciler will ask the chain");
        }
    }

    /// Records an outcome that arrived after the wait, or that of a repeated call. Only a success
    /// changes the state. A refusal is noted: the payment then doesn't count among those that pause
    /// sales. Returns the transaction that the chain has to show.
    async fn record_late(self: &Arc<Self>, row: &Payment, outcome: SettleOutcome) -> Option<B256> {
        match outcome {
            SettleOutcome::Success { transaction } if row.terms.confirmations == 0 => {
                let transfer = Transfer {
                    transaction,
                    log_index: None,
                };
                if let Err(error) = self
                    .ledger
                    .settled(row, Event::SettleProven, transfer)
                    .await
                {
                    tracing::error!(%error, "a late success could not be recorded; the reconciler will ask the chain");
                }
                None
            }
            // The chain decides, and this is where to look.
            SettleOutcome::Success { transaction } => {
                tracing::info!(%transaction, "a late answer of settle names a transaction");
                self.ledger.named(&row.id, transaction).await;
                Some(transaction)
            }
            SettleOutcome::Refused { reason: refusal }
            | SettleOutcome::Unclear {
                refusal: Some(refusal),
                ..
            } => {
                self.ledger.refused_late(&row.id, &refusal).await;
                None
            }
            other @ SettleOutcome::Unclear { .. } => {
                tracing::info!(outcome = ?other, "a late answer of settle changes nothing");
                None
            }
        }
    }

    /// Calls settle again for a payment whose nonce is unused, and waits for `payments.timeout`.
    /// Returns the transaction that the chain has to show, if settle named one.
    pub(super) async fn settle_again(
        self: &Arc<Self>,
        row: &Payment,
    ) -> Result<Option<B256>, DbError> {
        // Only one repeated settle call per payment runs at a time, so that calls that hang don't
        // pile up.
        let Some(in_flight) = self.again.begin(&row.id) else {
            return Ok(None);
        };
        let payments = Arc::clone(self);
        let again = row.clone();
        let task = async move {
            kill_point!("settle.again.before");
            let outcome = payments.call_settle(&again).await;
            kill_point!("settle.again.after");
            let named = payments.record_late(&again, outcome).await;
            drop(in_flight);
            named
        };
        let mut task = tokio::spawn(task.in_current_span());
        let Ok(answered) = tokio::time::timeout(self.settings.timeout, &mut task).await else {
            tracing::warn!("a repeated settle call has not answered yet");
            return Ok(None);
        };
        Ok(answered.unwrap_or(None))
    }

    async fn call_settle(&self, row: &Payment) -> SettleOutcome {
        match self.networks.of(row) {
            Some(access) => access.facilitator.settle(row.call(), SETTLE_LIFE).await,
            None => SettleOutcome::Unclear {
                why: NOT_CONFIGURED.to_owned(),
                refusal: None,
                transaction: None,
            },
        }
    }
}

/// The transaction that this outcome names and the chain has to show. `None`: the outcome decides by
/// itself, or names none.
fn open_transaction(row: &Payment, outcome: &SettleOutcome) -> Option<B256> {
    match outcome {
        SettleOutcome::Success { transaction } => {
            (row.terms.confirmations > 0).then_some(*transaction)
        }
        SettleOutcome::Unclear { transaction, .. } => *transaction,
        SettleOutcome::Refused { .. } => None,
    }
}

/// Wakes the request that waits for settle, if it still does.
fn tell(decided: tokio::sync::oneshot::Sender<Waited>, waited: Waited) {
    if decided.send(waited).is_err() {
        tracing::debug!("the request that waited for settle has ended");
    }
}

impl Payment {
    /// The facilitator call for this payment.
    pub(super) fn call(&self) -> Call<'_> {
        Call {
            body: &self.request,
            network: self.network(),
            payer: self.authorization.from,
            digest: self.digest,
            signature: &self.signature,
        }
    }
}
