//! Resolves one payment by the chain: an unknown outcome, a payment that was given up, or one that a
//! request is about to be refused for.

use std::sync::Arc;

use tokio::time::Instant;

use crate::db::DbError;
use crate::evm::chain::Verdict;
use crate::model::payment::{Event, Payment, PaymentState};
use crate::payments::admit::WATCH_MARGIN;
use crate::payments::reading::is_open;
use crate::payments::settle::LEAST_SETTLE_WINDOW;
use crate::payments::{PayError, Payments};

/// What the chain says about a payment that is about to be rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::payments) enum Money {
    /// The payment paid us, and its row is settled now.
    Moved,
    /// The nonce is used, and it is not known yet for what: logs or confirmations are missing, or
    /// the payment's network is not configured. Rejecting the payment would lead the client to pay
    /// again (docs/payments.md, rule 5).
    Open,
    /// No money came to us, or the node does not answer.
    Still,
}

impl Payments {
    /// Works on a payment whose outcome is unknown: asks the chain, and calls settle again while
    /// the nonce is unused. A request waits until `ends` for a transaction that the facilitator has
    /// named. Does nothing while another driver holds the lease.
    pub(in crate::payments) async fn resolve(
        self: &Arc<Self>,
        row: &Payment,
        ends: Option<Instant>,
    ) -> Result<(), PayError> {
        let now = self.clock.now();
        let Some(mut row) = self.ledger.claim(row).await? else {
            return Ok(());
        };
        let lease = self.ledger.keep(&row);
        if row.state == PaymentState::Settling {
            match self.ledger.abandoned(&row).await? {
                Some(moved) => row = moved,
                None => return Ok(()),
            }
        }
        let mut verdict = self.networks.verdict(&row).await;
        if verdict == Some(Verdict::Unused) && now.plus(LEAST_SETTLE_WINDOW) < row.valid_before() {
            if let Some(named) = self.settle_again(&row).await? {
                row.transaction = Some(named);
            }
            verdict = self.networks.verdict(&row).await;
        }
        if let Some(ends) = ends
            && row.transaction.is_some()
            && is_open(verdict)
        {
            verdict = self.networks.follow(&row, ends).await;
        }
        self.ledger.judged(&row, verdict).await?;
        drop(lease);
        self.ledger.hand_back(&row).await?;
        Ok(())
    }

    /// Asks the chain once about a payment that has no driver.
    ///
    /// # Errors
    /// The chain shows the transfer, but it could not be recorded, or the commit's answer was lost.
    /// The client must not be told that nothing was charged.
    pub(in crate::payments) async fn ask_chain(&self, row: &Payment) -> Result<Money, DbError> {
        if self.networks.of(row).is_none() {
            return Ok(Money::Open);
        }
        let transfer = match self.networks.verdict(row).await {
            Some(Verdict::Paid(transfer)) => transfer,
            Some(Verdict::Unclear) => return Ok(Money::Open),
            Some(Verdict::Unused | Verdict::Void(_)) => return Ok(Money::Still),
            // The node may know that the nonce is used without having the logs.
            None if matches!(self.networks.is_published(row).await, Ok(true)) => {
                return Ok(Money::Open);
            }
            None => return Ok(Money::Still),
        };
        let moved = self.ledger.settled(row, Event::ChainPaid, transfer).await;
        if let Err(error) = &moved {
            tracing::error!(%error, "the chain shows the transfer of a payment, but it could not be recorded");
        }
        moved.map(|()| Money::Moved)
    }

    /// Asks the chain about a payment that was given up, and ends the watch once the window is
    /// over.
    pub(super) async fn watch(&self, row: &Payment) -> Result<(), DbError> {
        let now = self.clock.now();
        let Some(row) = self.ledger.claim(row).await? else {
            return Ok(());
        };
        match self.networks.verdict(&row).await {
            Some(Verdict::Paid(transfer)) => {
                self.ledger.settled(&row, Event::ChainPaid, transfer).await
            }
            // The window is over, so the payment can't settle any more. Before that, only the
            // node's clock may be ahead.
            Some(Verdict::Void(_)) if now >= row.valid_before().plus(WATCH_MARGIN) => {
                self.ledger.hand_back_until(&row, None, row.looks).await?;
                Ok(())
            }
            _ => self.ledger.hand_back(&row).await,
        }
    }
}
