//! Drives a payment from verification to a final state, by calls of the facilitator and the chain.
//! Every step is recorded before the call it precedes, and only the transition table decides which
//! answer changes the state.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{B256, U256};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::Instrument;

use super::examine::{PayerBalance, WATCH_MARGIN};
use super::settling::{Waited, call};
use super::{PayError, Payments, Presentation, Progress, Silent, refusals};
use crate::chain::{ChainError, Evidence, Named, Priority, Query, Reading, Verdict, judge};
use crate::db::payments::{self as rows, Binding, Bond, IdOwner, OpenPayment, Patch};
use crate::db::{Db, DbError};
use crate::facilitator::VerifyOutcome;
use crate::images::Checked;
use crate::model::payment::{
    Event, LEASE, Payment, PaymentId, PaymentState, ProductKind, transition,
};
use crate::system::clock::{Clock, Timestamp};
use crate::system::kill::kill_point;

/// The least time that must be left until `validBefore` for settle to be called: what a transfer
/// needs.
const LEAST_SETTLE_WINDOW: Duration = Duration::from_secs(6);
/// The interval at which a lease is renewed.
const RENEW_EVERY: Duration = Duration::from_millis(1500);
/// The first pause before the chain is asked again about an unresolved payment. It doubles each
/// time.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// How many open payments of a payer the chain is asked about when a new one is checked.
const MOST_ASKED: usize = 2;
/// The first pause before a request asks again for a transaction, and the longest. It doubles.
const FIRST_POLL: Duration = Duration::from_millis(250);
const LONGEST_POLL: Duration = Duration::from_secs(1);
/// The longest pause before the chain is asked again.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The recorded reason when a payment's network is no longer configured, so that neither its
/// facilitator nor its chain can be asked.
pub(super) const NOT_CONFIGURED: &str = "the payment's network is no longer configured";

/// A lease on a row. It is renewed in the background until this value is dropped.
pub(super) struct Lease(AbortHandle);

impl Lease {
    fn keep(db: Db, clock: Arc<dyn Clock>, id: PaymentId, attempt: i64) -> Self {
        let renewals = async move {
            loop {
                tokio::time::sleep(RENEW_EVERY).await;
                kill_point!("lease.renew.before");
                let renewed = rows::renew(&db, &id, attempt, clock.now().plus(LEASE)).await;
                kill_point!("lease.renew.after");
                match renewed {
                    Ok(true) => {}
                    // Another driver took the lease over and decides now. Our next conditional
                    // update will fail and show it.
                    Ok(false) => return,
                    Err(error) => {
                        tracing::warn!(%error, "a lease could not be renewed");
                    }
                }
            }
        };
        Self(tokio::spawn(renewals.in_current_span()).abort_handle())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the chain says about a payment that is about to be rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// The payment paid us, and its row is settled now.
    Moved,
    /// The nonce is used, and it is not known yet for what: logs or confirmations are missing, or
    /// the payment's network is not configured. Rejecting the payment would lead the client to pay
    /// again (docs/payments.md, rule 5).
    Open,
    /// No money came to us, or the node does not answer.
    Still,
}

/// Whether a verdict decides nothing. `None`: the node did not answer.
pub(super) const fn is_open(verdict: Option<Verdict>) -> bool {
    matches!(verdict, None | Some(Verdict::Unused | Verdict::Unclear))
}

impl Payments {
    /// Keeps the lease of a row that this driver has taken.
    pub(super) fn lease(&self, row: &Payment) -> Lease {
        Lease::keep(
            self.db.clone(),
            Arc::clone(&self.clock),
            row.id.clone(),
            row.attempt,
        )
    }

    /// Verifies a payment in state `received`, and goes on from there.
    pub(super) async fn drive_received(
        self: &Arc<Self>,
        mut row: Payment,
        presentation: &Presentation,
        balance: PayerBalance,
        progress: &mut Progress,
    ) -> Result<(), PayError> {
        let lease = self.lease(&row);
        let checked = presentation
            .body
            .as_ref()
            .and_then(|body| body.checked.as_ref().ok());
        if let (ProductKind::Upload, Some(checked)) = (row.product.kind, checked)
            && !self.stage(&mut row, checked).await?
        {
            return Ok(());
        }
        kill_point!("verify.call.before");
        let outcome = match self.access(&row) {
            Some(access) => {
                let verifying = access.facilitator.verify(call(&row), self.settings.timeout);
                verifying.await
            }
            None => VerifyOutcome::NoAnswer {
                why: NOT_CONFIGURED.to_owned(),
            },
        };
        kill_point!("verify.call.after");
        match outcome {
            VerifyOutcome::NoAnswer { why } => {
                tracing::warn!(why, "the facilitator did not answer verify");
                drop(lease);
                // If the lease was lost, another driver may be settling the payment.
                if self.hand_back_until(&row, row.next_look, row.looks).await? {
                    Err(PayError::Silent(Silent::Facilitator))
                } else {
                    Ok(())
                }
            }
            VerifyOutcome::Invalid { reason } => Ok(self.reject(&row, reason, progress).await?),
            VerifyOutcome::Valid { payer }
                if payer.is_some_and(|payer| payer != row.authorization.from) =>
            {
                Ok(self
                    .reject(&row, "payer_mismatch".to_owned(), progress)
                    .await?)
            }
            VerifyOutcome::Valid { .. } => self.bind(row, presentation, balance, progress).await,
        }
    }

    /// Records the pending image and attaches it to the payment. `false`: the lease was lost.
    async fn stage(&self, row: &mut Payment, checked: &Checked) -> Result<bool, PayError> {
        kill_point!("image.stage.before");
        let image = self
            .images
            .stage(checked, &row.product.tier, &row.id)
            .await?;
        kill_point!("image.stage.after");
        let attached = rows::attach_image(&self.db, row, &image).await?;
        kill_point!("image.attach.after");
        if !attached {
            self.images.discard(&image).await;
            return Ok(false);
        }
        // An earlier process may have staged an image with other bytes.
        if let Some(old) = row.image_id.replace(image) {
            self.images.discard(&old).await;
        }
        Ok(true)
    }

    /// Records that verify rejected the payment. The next look at the row decides the answer: it
    /// may have been taken over, and if the nonce is used, the money may have come to us.
    async fn reject(
        &self,
        row: &Payment,
        reason: String,
        progress: &mut Progress,
    ) -> Result<(), DbError> {
        let patch = Patch {
            reason: Some(reason),
            lease_until: Some(Timestamp::from_millis(0)),
            next_look: Some(self.clock.now().plus(FIRST_PAUSE)),
            discard_image: row.image_id.clone(),
            ..Patch::default()
        };
        kill_point!("payment.rejected.before");
        self.advance(row, Event::VerifyRefused, &patch).await?;
        kill_point!("payment.rejected.after");
        // The chain must be asked again: an answer from before verify does not count.
        progress.looked = false;
        Ok(())
    }

    /// Binds proofs and idempotency keys to a payment that verify accepted. If another payment owns
    /// a key, this payment gives way to it. If the payer's open payments leave too little of the
    /// balance, it is refused.
    async fn bind(
        self: &Arc<Self>,
        row: Payment,
        presentation: &Presentation,
        balance: PayerBalance,
        progress: &mut Progress,
    ) -> Result<(), PayError> {
        let Some(step) = transition(row.state, Event::VerifyAccepted) else {
            return Ok(());
        };
        let now = self.clock.now();
        let until = row
            .valid_before()
            .plus(WATCH_MARGIN)
            .plus(self.settings.token_ttl);
        let proofs = presentation.evidence.proofs(&self.secrets, &row.id, until);
        let ids = presentation.evidence.key_hashes(&self.secrets);
        let mut bond = Bond {
            proofs: &proofs,
            id_hashes: &ids,
            body_sha256: presentation.body_sha256(),
            balance: balance.units,
            read_at: balance.read_at,
            executed: &[],
        };
        kill_point!("payment.verified.before");
        let mut binding = rows::bind_verified(&self.db, step, &row, &bond, now).await?;
        let executed;
        if let Binding::Overdrawn(open) = &binding {
            bond.read_at = self.clock.now();
            let Some(asked) = self.find_executed(&row, open).await else {
                return if self.hand_back_until(&row, row.next_look, row.looks).await? {
                    Err(PayError::Silent(Silent::Node))
                } else {
                    Ok(())
                };
            };
            (executed, bond.balance) = asked;
            bond.executed = &executed;
            binding = rows::bind_verified(&self.db, step, &row, &bond, now).await?;
        }
        kill_point!("payment.verified.after");
        match binding {
            Binding::Bound => {
                progress.drove = Some(row.id.clone());
                let row = Payment {
                    state: step.to(),
                    ..row
                };
                self.drive_verified(row, presentation, progress).await
            }
            Binding::Lost => Ok(()),
            Binding::Taken(owner) => self.give_way(&row, owner, progress).await,
            Binding::Overdrawn(open) => self.refuse_overdrawn(&row, &open, bond.balance).await,
        }
    }

    /// Those of a payer's open payments that have moved their money by now, by their nonces, and the
    /// balance after them. The chain is asked about [`MOST_ASKED`] that are not settled; the others
    /// count as not executed. `None`: the node does not answer.
    async fn find_executed(
        &self,
        row: &Payment,
        open: &[OpenPayment],
    ) -> Option<(Vec<B256>, U256)> {
        let chain = &self.access(row)?.chain;
        let authorization = &row.authorization;
        let (settled, unsettled): (Vec<_>, Vec<_>) = open.iter().partition(|open| open.is_settled);
        let mut executed: Vec<B256> = settled.iter().map(|open| open.nonce).collect();
        let asked = unsettled.iter().take(MOST_ASKED).map(|open| open.nonce);
        let mut balance = U256::ZERO;
        // This payment's own nonce comes last, so that the balance is not older than the answers.
        for nonce in asked.chain([authorization.nonce]) {
            match chain.funds(authorization.from, nonce).await {
                Ok(funds) => {
                    balance = funds.balance;
                    if funds.nonce_used && nonce != authorization.nonce {
                        executed.push(nonce);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the chain's node did not answer; the payment waits");
                    return None;
                }
            }
        }
        Some((executed, balance))
    }

    /// Refuses a payment that the payer's balance does not cover beside the payer's open payments.
    async fn refuse_overdrawn(
        &self,
        row: &Payment,
        open: &[OpenPayment],
        balance: U256,
    ) -> Result<(), PayError> {
        let reason = super::examine::reasons::FUNDS;
        if !self.release(row, reason).await? {
            return Ok(());
        }
        let open = open.iter().fold(U256::ZERO, |sum, open| {
            sum.saturating_add(open.amount.as_u256())
        });
        Err(PayError::Invalid {
            reason: reason.to_owned(),
            detail: refusals::overdrawn(row, balance, open),
        })
    }

    /// Releases a payment whose idempotency key belongs to another one. If both buy the same, that
    /// one becomes the answer.
    pub(super) async fn give_way(
        &self,
        row: &Payment,
        owner: IdOwner,
        progress: &mut Progress,
    ) -> Result<(), PayError> {
        if !self
            .release(row, "another payment has this idempotency key")
            .await?
        {
            return Ok(());
        }
        if !owner.same_purchase {
            return Err(PayError::Conflict {
                charged: Some(false),
            });
        }
        progress.stand_for(owner.payment_id);
        Ok(())
    }

    /// Releases a payment before settle is called. `false`: another driver took it over, and the
    /// row decides.
    pub(super) async fn release(&self, row: &Payment, reason: &str) -> Result<bool, DbError> {
        let patch = Patch {
            reason: Some(reason.to_owned()),
            lease_until: Some(Timestamp::from_millis(0)),
            next_look: Some(self.clock.now().plus(FIRST_PAUSE)),
            discard_image: row.image_id.clone(),
            ..Patch::default()
        };
        kill_point!("payment.released.before");
        let released = self.advance(row, Event::GivenUp, &patch).await?.is_some();
        kill_point!("payment.released.after");
        Ok(released)
    }

    /// Continues a verified payment whose driver has stopped.
    pub(super) async fn go_on(
        self: &Arc<Self>,
        row: Payment,
        presentation: &Presentation,
        proven: bool,
        progress: &mut Progress,
    ) -> Result<(), PayError> {
        if !proven && self.is_published(&row).await? {
            return match self.look_at(&row).await? {
                Look::Moved => Ok(()),
                Look::Open | Look::Still => Err(PayError::Known { charged: None }),
            };
        }
        if row.product.kind == ProductKind::Upload {
            // The size limit is the one that was bought, not that of the tier today.
            super::examine::check_body(presentation, &row.product, &row.terms)?;
        }
        let checked = presentation.body.as_ref().map(|body| body.checked.as_ref());
        let Some(mut row) = self.claim(&row, self.clock.now()).await? else {
            return Ok(());
        };
        progress.ledger_id = Some(row.id.clone());
        progress.drove = Some(row.id.clone());
        if let (ProductKind::Upload, Some(Ok(checked))) = (row.product.kind, checked)
            && !self.stage(&mut row, checked).await?
        {
            return Ok(());
        }
        self.drive_verified(row, presentation, progress).await
    }

    /// Whether the chain shows the nonce as used. The signature is public then, so a request
    /// without proof may come from anybody.
    async fn is_published(&self, row: &Payment) -> Result<bool, PayError> {
        let authorization = &row.authorization;
        let Some(access) = self.access(row) else {
            return Err(PayError::Pending);
        };
        let funds = access.chain.funds(authorization.from, authorization.nonce);
        let funds = funds.await.map_err(|error| {
            tracing::warn!(%error, "the chain's node did not answer; the payment waits");
            PayError::Silent(Silent::Node)
        })?;
        Ok(funds.nonce_used)
    }

    /// Settles a payment in state `verified`.
    async fn drive_verified(
        self: &Arc<Self>,
        row: Payment,
        presentation: &Presentation,
        progress: &mut Progress,
    ) -> Result<(), PayError> {
        let lease = self.lease(&row);
        let checked = presentation
            .body
            .as_ref()
            .and_then(|body| body.checked.as_ref().ok());
        if let (Some(image), Some(checked)) = (&row.image_id, checked)
            && !self.store_image(&row, image, checked).await?
        {
            return Ok(());
        }
        let now = self.clock.now();
        if now.plus(LEAST_SETTLE_WINDOW) >= row.valid_before() {
            return self.give_up_late(&row).await;
        }
        let patch = Patch {
            settle_called: Some(now),
            body_sha256: presentation.body_sha256().map(str::to_owned),
            next_look: Some(now.plus(FIRST_PAUSE)),
            lease_until: Some(now.plus(LEASE)),
            ..Patch::default()
        };
        kill_point!("payment.settling.before");
        let Some(row) = self.advance(&row, Event::SettleStarted, &patch).await? else {
            return self.give_up_renewal(&row).await;
        };
        kill_point!("payment.settling.after");
        // If this request has waited for settle or the chain, it has no time left to drive the
        // payment again.
        progress.driven = self.settle(row, lease, progress.ends).await == Waited::ToTheEnd;
        Ok(())
    }

    /// Stores the image of a direct upload. `false`: another driver took the payment over.
    async fn store_image(
        &self,
        row: &Payment,
        image: &crate::model::ids::ImageId,
        checked: &Checked,
    ) -> Result<bool, PayError> {
        kill_point!("image.store.before");
        if let Err(error) = self.images.store(image, checked, row.terms.keep).await {
            if self.release(row, "the image could not be stored").await? {
                return Err(error.into());
            }
            return Ok(false);
        }
        kill_point!("image.store.after");
        Ok(true)
    }

    /// Releases a verified payment whose window is about to end, unless the chain shows that
    /// somebody submitted it in time (docs/payments.md, rule 6).
    async fn give_up_late(self: &Arc<Self>, row: &Payment) -> Result<(), PayError> {
        let reason = super::examine::reasons::VALID_BEFORE;
        match self.look_at(row).await? {
            Look::Moved => Ok(()),
            Look::Open => {
                self.hand_back(row).await?;
                Err(PayError::Pending)
            }
            Look::Still if self.release(row, reason).await? => Err(PayError::Invalid {
                reason: reason.to_owned(),
                detail: "The authorization ends before it could be settled. Sign another one."
                    .to_owned(),
            }),
            Look::Still => Ok(()),
        }
    }

    /// Works on a payment whose outcome is unknown: asks the chain, and calls settle again while
    /// the nonce is unused. A request waits until `ends` for a transaction that the facilitator has
    /// named. Does nothing while another driver holds the lease.
    pub(super) async fn drive(
        self: &Arc<Self>,
        row: &Payment,
        ends: Option<Instant>,
    ) -> Result<(), PayError> {
        let now = self.clock.now();
        let Some(mut row) = self.claim(row, now).await? else {
            return Ok(());
        };
        let lease = self.lease(&row);
        if row.state == PaymentState::Settling {
            // The process that called settle has stopped, and its call with it.
            kill_point!("payment.abandoned.before");
            let moved = self
                .advance(&row, Event::SettleUnclear, &Patch::default())
                .await?;
            kill_point!("payment.abandoned.after");
            match moved {
                Some(moved) => row = moved,
                None => return Ok(()),
            }
        }
        let mut verdict = self.verdict(&row).await;
        if verdict == Some(Verdict::Unused) && now.plus(LEAST_SETTLE_WINDOW) < row.valid_before() {
            if let Some(named) = self.settle_again(&row).await? {
                row.transaction = Some(named);
            }
            verdict = self.verdict(&row).await;
        }
        if let Some(ends) = ends
            && row.transaction.is_some()
            && is_open(verdict)
        {
            verdict = self.follow(&row, ends).await;
        }
        self.apply(&row, verdict).await?;
        drop(lease);
        self.hand_back(&row).await?;
        Ok(())
    }

    /// The chain's verdict on a payment; `None` when the node does not answer.
    async fn verdict(&self, row: &Payment) -> Option<Verdict> {
        let query = Query::about(row);
        let evidence = self.evidence(row, &query).await?;
        Some(judge(&query, &evidence))
    }

    /// Asks the chain about the transaction of a payment until it decides, the transaction turns out
    /// to be another one, or the time is over. Returns the last verdict.
    pub(super) async fn follow(&self, row: &Payment, ends: Instant) -> Option<Verdict> {
        let query = Query::about(row);
        let reading = Reading::until(Priority::Known, ends.into_std());
        let mut pause = FIRST_POLL;
        loop {
            let evidence = self.evidence_for(row, &query, reading).await;
            let verdict = evidence.as_ref().map(|shown| judge(&query, shown));
            let is_other = evidence.is_some_and(|shown| shown.named == Named::Unrelated);
            if !is_open(verdict) || is_other || Instant::now() + pause >= ends {
                return verdict;
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(LONGEST_POLL);
        }
    }

    /// What the chain shows about a payment; `None` when the node does not answer.
    pub(super) async fn evidence(&self, row: &Payment, query: &Query) -> Option<Evidence> {
        let priority = match row.state {
            PaymentState::Settling | PaymentState::Unknown => Priority::Known,
            _ => Priority::Audit,
        };
        self.evidence_for(row, query, Reading::of(priority)).await
    }

    async fn evidence_for(
        &self,
        row: &Payment,
        query: &Query,
        reading: Reading,
    ) -> Option<Evidence> {
        kill_point!("chain.evidence.before");
        let evidence = match self.access(row) {
            Some(access) => access.chain.read_for(reading).evidence(query).await,
            None => Err(ChainError(NOT_CONFIGURED.to_owned())),
        };
        kill_point!("chain.evidence.after");
        match evidence {
            Ok(evidence) => Some(evidence),
            Err(error) => {
                tracing::warn!(%error, "the chain's node did not answer; the payment waits");
                None
            }
        }
    }

    /// Records what the chain's verdict decides, if anything.
    pub(super) async fn apply(
        &self,
        row: &Payment,
        verdict: Option<Verdict>,
    ) -> Result<(), DbError> {
        match verdict {
            Some(Verdict::Paid(transfer)) => self.settle_row(row, Event::ChainPaid, transfer).await,
            Some(Verdict::Void(reason)) => {
                let patch = Patch {
                    reason: Some(reason.to_owned()),
                    discard_image: row.image_id.clone(),
                    lease_until: Some(Timestamp::from_millis(0)),
                    ..Patch::default()
                };
                kill_point!("payment.void.before");
                self.advance(row, Event::ChainVoid, &patch).await?;
                kill_point!("payment.void.after");
                Ok(())
            }
            Some(Verdict::Unused | Verdict::Unclear) | None => Ok(()),
        }
    }

    /// Whether the chain proves that this payment will never pay us.
    pub(super) async fn is_void(&self, row: &Payment) -> bool {
        matches!(self.verdict(row).await, Some(Verdict::Void(_)))
    }

    /// Asks the chain once about a payment that has no driver.
    ///
    /// # Errors
    /// The chain shows the transfer, but it could not be recorded, or the commit's answer was lost.
    /// The client must not be told that nothing was charged.
    pub(super) async fn look_at(self: &Arc<Self>, row: &Payment) -> Result<Look, DbError> {
        if self.access(row).is_none() {
            return Ok(Look::Open);
        }
        let transfer = match self.verdict(row).await {
            Some(Verdict::Paid(transfer)) => transfer,
            Some(Verdict::Unclear) => return Ok(Look::Open),
            Some(Verdict::Unused | Verdict::Void(_)) => return Ok(Look::Still),
            // The node may know that the nonce is used without having the logs.
            None if matches!(self.is_published(row).await, Ok(true)) => return Ok(Look::Open),
            None => return Ok(Look::Still),
        };
        let moved = self.settle_row(row, Event::ChainPaid, transfer).await;
        if let Err(error) = &moved {
            tracing::error!(%error, "the chain shows the transfer of a payment, but it could not be recorded");
        }
        moved.map(|()| Look::Moved)
    }

    /// Asks the chain about a payment that was given up, and ends the watch once the window is
    /// over.
    pub(super) async fn watch(self: &Arc<Self>, row: &Payment) -> Result<(), DbError> {
        let now = self.clock.now();
        let Some(row) = self.claim(row, now).await? else {
            return Ok(());
        };
        match self.verdict(&row).await {
            Some(Verdict::Paid(transfer)) => {
                self.settle_row(&row, Event::ChainPaid, transfer).await
            }
            // The window is over, so the payment can't settle any more. Before that, only the
            // node's clock may be ahead.
            Some(Verdict::Void(_)) if now >= row.valid_before().plus(WATCH_MARGIN) => {
                self.hand_back_until(&row, None, row.looks).await?;
                Ok(())
            }
            _ => self.hand_back(&row).await,
        }
    }

    /// Returns a lease. The next look is due after a pause that doubles up to [`LONGEST_PAUSE`].
    pub(super) async fn hand_back(&self, row: &Payment) -> Result<(), DbError> {
        let looks = row.looks.saturating_add(1);
        let pause = FIRST_PAUSE
            .saturating_mul(1 << looks.min(10))
            .min(LONGEST_PAUSE);
        self.hand_back_until(row, Some(self.clock.now().plus(pause)), looks)
            .await?;
        Ok(())
    }

    /// Takes the lease of a row without a driver. `None`: another driver has it, or the row
    /// changed.
    pub(super) async fn claim(
        &self,
        row: &Payment,
        now: Timestamp,
    ) -> Result<Option<Payment>, DbError> {
        kill_point!("lease.claim.before");
        let claimed = rows::claim(&self.db, row, now, LEASE).await?;
        kill_point!("lease.claim.after");
        Ok(claimed)
    }

    /// Returns a lease and records when the next look is due. `false`: the lease was lost.
    pub(super) async fn hand_back_until(
        &self,
        row: &Payment,
        next_look: Option<Timestamp>,
        looks: u32,
    ) -> Result<bool, DbError> {
        kill_point!("lease.return.before");
        let ours = rows::hand_back(&self.db, row, next_look, looks).await?;
        kill_point!("lease.return.after");
        Ok(ours)
    }
}
