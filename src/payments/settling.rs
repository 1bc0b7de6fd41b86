//! Calls settle, records its outcome, and settles rows when there is proof that the money moved.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use tokio::time::Instant;
use tracing::Instrument;

use super::Payments;
use super::auditor::FIRST_LOOK;
use super::drive::{FIRST_PAUSE, Lease, NOT_CONFIGURED, is_open};
use crate::db::DbError;
use crate::db::payments::{self as rows, NewGrant, Patch, Settlement, SettlementRecord};
use crate::facilitator::{Call, SettleOutcome};
use crate::model::payment::{Event, Payment, PaymentState, Transfer, transition};
use crate::model::token::UploadToken;
use crate::system::clock::Timestamp;
use crate::system::kill::kill_point;

/// The timeout of a settle call. The request that made it waits only `payments.timeout`.
const SETTLE_LIFE: Duration = Duration::from_secs(90);
/// The least time for which the chain is asked for a transaction that settle named.
const LEAST_FOLLOWED: Duration = Duration::from_secs(2);
/// How often recording a proof is tried when other drivers change the row at the same time.
const SETTLE_TRIES: u32 = 20;

/// How long a request has waited for the outcome of a settle call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// Until settle answered.
    ForSettle,
    /// As long as it may, for settle or for the chain.
    ToTheEnd,
}

impl Payments {
    /// Calls settle in a task of its own and waits for `payments.timeout`. If settle names a
    /// transaction that must be seen on the chain, this waits for it until `ends`.
    ///
    /// Without an answer, the row becomes `unknown` and the call goes on. A success that arrives
    /// later still settles the payment; a refusal that arrives later changes nothing
    /// (docs/payments.md, rule 5).
    pub(super) async fn settle(
        self: &Arc<Self>,
        row: Payment,
        lease: Lease,
        ends: Instant,
    ) -> Waited {
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
        let mut verdict = self.follow(&followed, Instant::now()).await;
        if is_open(verdict) {
            kill_point!("settle.named.before");
            if let Err(error) = rows::note_transaction(&self.db, &row.id, named).await {
                tracing::warn!(%error, "the transaction that settle named could not be recorded");
            }
            kill_point!("settle.named.after");
            let least = Instant::now() + LEAST_FOLLOWED;
            verdict = self.follow(&followed, ends.max(least)).await;
        }
        match self.apply(row, verdict).await {
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
                self.settle_row(row, Event::SettleProven, transfer).await
            }
            SettleOutcome::Success { transaction } => {
                // A tier that asks for confirmations needs the transfer's log on the chain, not the
                // facilitator's word.
                self.unclear(row, "waiting for the chain", None, Some(transaction))
                    .await
            }
            SettleOutcome::Refused { reason } => self.refused(row, reason).await,
            SettleOutcome::Unclear {
                why,
                refusal,
                transaction,
            } => self.unclear(row, &why, refusal, transaction).await,
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
                if let Err(error) = self.settle_row(row, Event::SettleProven, transfer).await {
                    tracing::error!(%error, "a late success could not be recorded; the reconciler will ask the chain");
                }
                None
            }
            // The chain decides, and this is where to look.
            SettleOutcome::Success { transaction } => {
                let noted = rows::note_transaction(&self.db, &row.id, transaction).await;
                if let Err(error) = noted {
                    tracing::warn!(%error, "the transaction that settle named could not be recorded");
                }
                Some(transaction)
            }
            SettleOutcome::Refused { reason: refusal }
            | SettleOutcome::Unclear {
                refusal: Some(refusal),
                ..
            } => {
                tracing::info!(refusal, "a late refusal of settle changes no state");
                if let Err(error) = rows::note_refusal(&self.db, &row.id, &refusal).await {
                    tracing::warn!(%error, "a late refusal could not be noted");
                }
                None
            }
            other @ SettleOutcome::Unclear { .. } => {
                tracing::info!(outcome = ?other, "a late answer of settle changes nothing");
                None
            }
        }
    }

    /// Moves a payment to `failed`: no money moved.
    async fn refused(&self, row: &Payment, reason: String) -> Result<(), DbError> {
        let patch = Patch {
            reason: Some(reason),
            lease_until: Some(Timestamp::from_millis(0)),
            next_look: Some(self.clock.now().plus(FIRST_PAUSE)),
            discard_image: row.image_id.clone(),
            ..Patch::default()
        };
        kill_point!("payment.failed.before");
        self.advance(row, Event::SettleRefused, &patch).await?;
        kill_point!("payment.failed.after");
        Ok(())
    }

    /// Moves a payment to `unknown` and ends its lease, so that the reconciler asks the chain.
    async fn unclear(
        &self,
        row: &Payment,
        why: &str,
        refusal: Option<String>,
        transaction: Option<B256>,
    ) -> Result<(), DbError> {
        tracing::warn!(why, "the outcome of settle is unknown");
        let patch = Patch {
            reason: refusal,
            lease_until: Some(Timestamp::from_millis(0)),
            next_look: Some(self.clock.now().plus(FIRST_PAUSE)),
            transaction: transaction.map(|hash| hash.to_string()),
            ..Patch::default()
        };
        kill_point!("payment.unknown.before");
        self.advance(row, Event::SettleUnclear, &patch).await?;
        kill_point!("payment.unknown.after");
        Ok(())
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
        match self.access(row) {
            Some(access) => access.facilitator.settle(call(row), SETTLE_LIFE).await,
            None => SettleOutcome::Unclear {
                why: NOT_CONFIGURED.to_owned(),
                refusal: None,
                transaction: None,
            },
        }
    }

    /// Records proof that the money moved, whatever state the row is in. The proof belongs to the
    /// authorization in `row`: if another authorization with the same nonce has replaced it,
    /// nothing is recorded.
    pub(super) async fn settle_row(
        &self,
        row: &Payment,
        event: Event,
        transfer: Transfer,
    ) -> Result<(), DbError> {
        // The row as the caller read it, and later as it is now.
        let mut known = transition(row.state, event).map(|_| row.clone());
        for _ in 0..SETTLE_TRIES {
            let read = match known.take() {
                Some(row) => Some(row),
                None => rows::find(&self.db, &row.id).await?,
            };
            let Some(fresh) = read else {
                return Ok(());
            };
            if fresh.digest != row.digest {
                return Ok(());
            }
            let Some(step) = transition(fresh.state, event) else {
                return Ok(());
            };
            let now = self.clock.now();
            let token_expires = now.plus(self.settings.token_ttl);
            let token = UploadToken::derive(self.secrets.current(), &fresh.id, 0, token_expires);
            let given_up = matches!(
                fresh.state,
                PaymentState::Received
                    | PaymentState::Rejected
                    | PaymentState::Released
                    | PaymentState::Failed
            );
            let record = SettlementRecord {
                step,
                payment: &fresh,
                transfer,
                proven_by: if event == Event::ChainPaid {
                    "chain"
                } else {
                    "facilitator"
                },
                grant: NewGrant {
                    token_hash: token.hash(),
                    token_expires,
                },
                owed: given_up.then_some("the money moved after the payment was given up"),
                next_look: Some(now.plus(FIRST_LOOK)),
                now,
            };
            kill_point!("payment.settled.before");
            let settlement = rows::settle(&self.db, &record).await?;
            kill_point!("payment.settled.after");
            if settlement != Settlement::Moved {
                tracing::info!(from = step.from().as_str(), by = record.proven_by,
                    transaction = %transfer.transaction, "a payment is settled");
                self.epoch.note_sale();
                self.changed.notify_waiters();
                if let Some(image) = &fresh.product.target {
                    self.images.describe(image).await;
                }
                return Ok(());
            }
        }
        Ok(())
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

/// The facilitator call for a payment.
pub(super) fn call(row: &Payment) -> Call<'_> {
    Call {
        body: &row.request,
        network: row.network(),
        payer: row.authorization.from,
        is_signed_by_key: row.is_signed_by_key(),
    }
}

/// Wakes the request that waits for settle, if it still does.
fn tell(decided: tokio::sync::oneshot::Sender<Waited>, waited: Waited) {
    if decided.send(waited).is_err() {
        tracing::debug!("the request that waited for settle has ended");
    }
}
