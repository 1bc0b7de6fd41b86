//! The reconciler: works in the background on payments that are not final. It asks the chain about
//! unknown outcomes, closes payments whose window has ended, and watches those that were given up
//! until no transfer can happen any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tracing::Instrument;

use crate::db::payments as rows;
use crate::model::payment::{Payment, PaymentState};
use crate::payments::admit::{WATCH_MARGIN, reasons};
use crate::payments::{PayError, Payments};
use crate::system::clock::Timestamp;
use crate::system::logs::payment_span;

/// The number of rows that one run takes, and how many of them it works on at the same time.
const BATCH: u32 = 100;
const AT_ONCE: usize = 8;
/// If the outcome of payments of more payers than this is unknown for longer than
/// [`UNKNOWN_TOO_LONG`], sales are paused. Payments that the facilitator refused don't count,
/// whatever its reason: otherwise buyers could stop all sales by wallets that they empty in time.
const MOST_UNKNOWN: u32 = 20;
const UNKNOWN_TOO_LONG: Duration = Duration::from_mins(2);
/// The pause between two runs.
const EVERY: Duration = Duration::from_secs(1);

impl Payments {
    /// Works once on every payment that is due. Errors are logged, and the rows stay due.
    pub async fn reconcile(self: &Arc<Self>) {
        let now = self.clock.now();
        self.judge_sale(now).await;
        let due = match rows::find_due(&self.db, now, BATCH).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "the payments that are due could not be read");
                return;
            }
        };
        stream::iter(due)
            .for_each_concurrent(AT_ONCE, async |row| match row {
                Ok(row) => {
                    let work = async {
                        if let Err(error) = self.reconcile_one(&row, now).await {
                            tracing::warn!(%error, "a payment could not be reconciled; it is tried again");
                        }
                    };
                    work.instrument(payment_span(row.id.as_str())).await;
                }
                Err(unreadable) => {
                    let span = payment_span(&unreadable.id);
                    self.ledger.put_off(&unreadable).instrument(span).await;
                }
            })
            .await;
    }

    /// Pauses sales while too many outcomes are unknown, and resumes them. If the database does not
    /// answer, nothing changes.
    async fn judge_sale(&self, now: Timestamp) {
        let since = now.minus(UNKNOWN_TOO_LONG);
        match rows::count_unknown(&self.db, since, MOST_UNKNOWN + 1).await {
            Ok(unknown) => {
                let stopped = unknown > i64::from(MOST_UNKNOWN);
                if self.sale_stopped.swap(stopped, Ordering::Relaxed) != stopped {
                    if stopped {
                        tracing::error!(
                            "sales are paused: payments of more than {MOST_UNKNOWN} payers are unknown for two minutes"
                        );
                    } else {
                        tracing::warn!("sales are resumed");
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "payments with an unknown outcome could not be counted");
            }
        }
    }

    /// Reconciles until the future is dropped.
    pub async fn reconcile_forever(self: Arc<Self>) {
        let reconcile = async {
            loop {
                self.reconcile().await;
                tokio::time::sleep(EVERY).await;
            }
        };
        // In a loop of its own: a facilitator that hangs delays the other loop for minutes, and
        // sales must be paused meanwhile.
        let judge = async {
            loop {
                self.judge_sale(self.clock.now()).await;
                tokio::time::sleep(EVERY).await;
            }
        };
        tokio::join!(reconcile, judge);
    }

    /// Works on one payment by its state.
    async fn reconcile_one(
        self: &Arc<Self>,
        row: &Payment,
        now: Timestamp,
    ) -> Result<(), PayError> {
        match row.state {
            PaymentState::Settling | PaymentState::Unknown => self.resolve(row, None).await,
            PaymentState::Received | PaymentState::Verified => self.close_window(row, now).await,
            PaymentState::Rejected | PaymentState::Released | PaymentState::Failed => {
                Ok(self.watch(row).await?)
            }
            // The auditor works on these; they are never due here.
            PaymentState::Settled => Ok(()),
        }
    }

    /// Closes a payment that was not settled in its window. From then on it is watched.
    async fn close_window(self: &Arc<Self>, row: &Payment, now: Timestamp) -> Result<(), PayError> {
        let Some(row) = self.ledger.claim(row).await? else {
            return Ok(());
        };
        let end = row.valid_before().plus(WATCH_MARGIN);
        if now < end {
            self.ledger
                .hand_back_until(&row, Some(end), row.looks)
                .await?;
            return Ok(());
        }
        self.ledger
            .window_closed(&row, reasons::VALID_BEFORE)
            .await?;
        Ok(())
    }
}
