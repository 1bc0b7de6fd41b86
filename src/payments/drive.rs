//! The way of a payment from verify to its end, by verify, settle and the chain. Each call is written down first, and
//! each answer moves the row or doesn't, by the table alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tracing::Instrument;

use super::examine::WATCH_MARGIN;
use super::settling::call;
use super::{PayError, Payments, Presentation, Silent, Visit, Whose};
use crate::chain::{ChainError, Evidence, Query, Verdict, judge};
use crate::clock::{Clock, Timestamp};
use crate::db::payments::{self as rows, Binding, IdOwner, Patch};
use crate::db::{Db, DbError};
use crate::facilitator::VerifyOutcome;
use crate::images::Checked;
use crate::kill::kill_point;
use crate::model::payment::{
    Event, LEASE, Payment, PaymentId, PaymentState, ProductKind, transition,
};

/// Time that a transfer needs: with less left of its window, settle is not called.
const LEAST_SETTLE_WINDOW: Duration = Duration::from_secs(6);
/// How often a lease is renewed.
const RENEW_EVERY: Duration = Duration::from_millis(1500);
/// The first pause between two looks at an open payment.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Why nothing can be asked about a payment whose network was taken out of the configuration.
pub(super) const NO_RAIL: &str = "its network is not configured any more";

/// A lease that is renewed until this is dropped.
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
                    // Whoever took it over decides now; our next move will find that out.
                    Ok(false) => return,
                    Err(error) => {
                        tracing::warn!(%error, "a lease was not renewed");
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

/// What a look at the chain says of a payment that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It paid us, and its row says so now.
    Moved,
    /// Its nonce is used, and nobody can tell yet for what: logs or confirmations are missing; or nobody here can ask
    /// its network. A refusal would invite to pay again (payments.md, rule 5).
    Open,
    /// Nothing that came to us, or the node is silent.
    Still,
}

impl Payments {
    pub(super) fn lease(&self, row: &Payment) -> Lease {
        Lease::keep(
            self.db.clone(),
            Arc::clone(&self.clock),
            row.id.clone(),
            row.attempt,
        )
    }

    /// From `received` through verify, and on.
    pub(super) async fn drive_received(
        self: &Arc<Self>,
        mut row: Payment,
        presentation: &Presentation,
        visit: &mut Visit,
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
        let outcome = match self.rail(&row) {
            Some(rail) => {
                let verifying = rail.facilitator.verify(call(&row), self.settings.timeout);
                verifying.await
            }
            None => VerifyOutcome::NoAnswer {
                why: NO_RAIL.to_owned(),
            },
        };
        kill_point!("verify.call.after");
        match outcome {
            VerifyOutcome::NoAnswer { why } => {
                tracing::warn!(why, "the facilitator gave no answer to verify");
                drop(lease);
                // Without the lease the row may be on its way to settle under another driver.
                if self.hand_back_until(&row, row.next_look, row.looks).await? {
                    Err(PayError::Silent(Silent::Facilitator))
                } else {
                    Ok(())
                }
            }
            VerifyOutcome::Invalid { reason } => Ok(self.reject(&row, reason, visit).await?),
            VerifyOutcome::Valid { payer }
                if payer.is_some_and(|payer| payer != row.authorization.from) =>
            {
                Ok(self
                    .reject(&row, "payer_mismatch".to_owned(), visit)
                    .await?)
            }
            VerifyOutcome::Valid { .. } => self.bind(row, presentation, visit).await,
        }
    }

    /// Writes the pending row of the image, and names it in the payment's. `false`: the lease was lost.
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
        // The bytes may be others than those of the process that is gone.
        if let Some(old) = row.image_id.replace(image) {
            self.images.discard(&old).await;
        }
        Ok(true)
    }

    /// Writes a refusal down. The row answers: it may have been taken over meanwhile, and what is
    /// refused because its nonce is used may have paid us.
    async fn reject(
        &self,
        row: &Payment,
        reason: String,
        visit: &mut Visit,
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
        // What was seen before verify doesn't count for this refusal.
        visit.looked = false;
        Ok(())
    }

    /// Binds proofs and id to a payment that verify accepted. An id that another payment owns means
    /// that this one is not needed.
    async fn bind(
        self: &Arc<Self>,
        row: Payment,
        presentation: &Presentation,
        visit: &mut Visit,
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
        let body = presentation.body_sha256();
        kill_point!("payment.verified.before");
        let binding = rows::bind_verified(&self.db, step, &row, &proofs, &ids, body, now).await?;
        kill_point!("payment.verified.after");
        match binding {
            Binding::Bound => {
                visit.drove = Some(row.id.clone());
                let row = Payment {
                    state: step.to(),
                    ..row
                };
                self.drive_verified(row, presentation, visit).await
            }
            Binding::Lost => Ok(()),
            Binding::Taken(owner) => self.give_way(&row, owner, visit).await,
        }
    }

    /// Gives a payment up whose id belongs to another one: that one is the answer, when it buys the same.
    pub(super) async fn give_way(
        &self,
        row: &Payment,
        owner: IdOwner,
        visit: &mut Visit,
    ) -> Result<(), PayError> {
        if !self.release(row, "another payment has this id").await? {
            return Ok(());
        }
        if !owner.same_purchase {
            return Err(PayError::Conflict {
                charged: Some(false),
            });
        }
        visit.ledger_id = Some(owner.payment_id);
        visit.whose = Whose::KeyOwner;
        Ok(())
    }

    /// Gives a payment up before settle. `false`: it was taken over, and the row answers.
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

    /// Takes over a payment that was verified by a process that is gone.
    pub(super) async fn go_on(
        self: &Arc<Self>,
        row: Payment,
        presentation: &Presentation,
        proven: bool,
        visit: &mut Visit,
    ) -> Result<(), PayError> {
        if !proven && self.is_published(&row).await? {
            return match self.look_at(&row).await? {
                Look::Moved => Ok(()),
                Look::Open | Look::Still => Err(PayError::Known { charged: None }),
            };
        }
        if row.product.kind == ProductKind::Upload {
            // By what was bought: the tier may take larger ones today.
            super::examine::check_body(presentation, &row.product, &row.terms)?;
        }
        let checked = presentation.body.as_ref().map(|body| body.checked.as_ref());
        let Some(mut row) = self.claim(&row, self.clock.now()).await? else {
            return Ok(());
        };
        visit.ledger_id = Some(row.id.clone());
        visit.drove = Some(row.id.clone());
        if let (ProductKind::Upload, Some(Ok(checked))) = (row.product.kind, checked)
            && !self.stage(&mut row, checked).await?
        {
            return Ok(());
        }
        self.drive_verified(row, presentation, visit).await
    }

    /// Whether the chain shows the authorization to everybody: then who sends it without proof may
    /// have it from there, and driving it would prove nothing.
    async fn is_published(&self, row: &Payment) -> Result<bool, PayError> {
        let authorization = &row.authorization;
        let Some(rail) = self.rail(row) else {
            return Err(PayError::Pending);
        };
        let funds = rail.chain.funds(authorization.from, authorization.nonce);
        let funds = funds.await.map_err(|error| {
            tracing::warn!(%error, "a payment waits for the chain's node");
            PayError::Silent(Silent::Node)
        })?;
        Ok(funds.nonce_used)
    }

    /// From `verified` through settle.
    async fn drive_verified(
        self: &Arc<Self>,
        row: Payment,
        presentation: &Presentation,
        visit: &mut Visit,
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
        // After a wait that brought nothing, this request has no time left to ask again.
        visit.driven = !self.settle(row, lease).await;
        Ok(())
    }

    /// `false`: the row was taken over.
    async fn store_image(
        &self,
        row: &Payment,
        image: &crate::ids::ImageId,
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

    /// Gives up a verified payment whose window closes too soon, unless somebody else submitted it
    /// in time: paid is paid, and the 402 of a payment that is given up makes clients pay again.
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

    /// Brings a row whose settlement is open closer to its end: the chain first, then settle again
    /// while the nonce is unused. One driver at a time.
    pub(super) async fn drive(self: &Arc<Self>, row: &Payment) -> Result<(), PayError> {
        let now = self.clock.now();
        let Some(mut row) = self.claim(row, now).await? else {
            return Ok(());
        };
        let lease = self.lease(&row);
        if row.state == PaymentState::Settling {
            // Its process is gone, and the call with it.
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
            self.settle_again(&row).await?;
            verdict = self.verdict(&row).await;
        }
        self.apply(&row, verdict).await?;
        drop(lease);
        self.hand_back(&row).await?;
        Ok(())
    }

    /// What the chain says; `None` when it doesn't answer.
    async fn verdict(&self, row: &Payment) -> Option<Verdict> {
        let query = Query::about(row);
        let evidence = self.evidence(row, &query).await?;
        Some(judge(&query, &evidence))
    }

    /// What the chain shows; `None` when it doesn't answer.
    pub(super) async fn evidence(&self, row: &Payment, query: &Query) -> Option<Evidence> {
        kill_point!("chain.evidence.before");
        let evidence = match self.rail(row) {
            Some(rail) => rail.chain.evidence(query).await,
            None => Err(ChainError(NO_RAIL.to_owned())),
        };
        kill_point!("chain.evidence.after");
        match evidence {
            Ok(evidence) => Some(evidence),
            Err(error) => {
                tracing::warn!(%error, "a payment waits for the chain's node");
                None
            }
        }
    }

    async fn apply(&self, row: &Payment, verdict: Option<Verdict>) -> Result<(), DbError> {
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

    /// Whether the chain says that this payment will never pay us.
    pub(super) async fn is_void(&self, row: &Payment) -> bool {
        matches!(self.verdict(row).await, Some(Verdict::Void(_)))
    }

    /// Looks at the chain once for a row that nobody has to drive.
    ///
    /// # Errors
    /// When the chain shows the money, and that could not be written down, or maybe was: nobody may hear that it did
    /// not move.
    pub(super) async fn look_at(self: &Arc<Self>, row: &Payment) -> Result<Look, DbError> {
        if self.rail(row).is_none() {
            return Ok(Look::Open);
        }
        let transfer = match self.verdict(row).await {
            Some(Verdict::Paid(transfer)) => transfer,
            Some(Verdict::Unclear) => return Ok(Look::Open),
            Some(Verdict::Unused | Verdict::Void(_)) => return Ok(Look::Still),
            // It may show what is used, and no logs.
            None if matches!(self.is_published(row).await, Ok(true)) => return Ok(Look::Open),
            None => return Ok(Look::Still),
        };
        let moved = self.settle_row(row, Event::ChainPaid, transfer).await;
        if let Err(error) = &moved {
            tracing::error!(%error, "a payment that the chain shows could not be recorded");
        }
        moved.map(|()| Look::Moved)
    }

    /// The final look at a row that is not going to move by itself any more.
    pub(super) async fn watch(self: &Arc<Self>, row: &Payment) -> Result<(), DbError> {
        let now = self.clock.now();
        let Some(row) = self.claim(row, now).await? else {
            return Ok(());
        };
        match self.verdict(&row).await {
            Some(Verdict::Paid(transfer)) => {
                self.settle_row(&row, Event::ChainPaid, transfer).await
            }
            // Nothing can come of it any more; a node whose clock is ahead says so too soon.
            Some(Verdict::Void(_)) if now >= row.valid_before().plus(WATCH_MARGIN) => {
                self.hand_back_until(&row, None, row.looks).await?;
                Ok(())
            }
            _ => self.hand_back(&row).await,
        }
    }

    /// Gives a lease back, and looks again after a while that grows.
    pub(super) async fn hand_back(&self, row: &Payment) -> Result<(), DbError> {
        let looks = row.looks.saturating_add(1);
        let pause = FIRST_PAUSE
            .saturating_mul(1 << looks.min(10))
            .min(LONGEST_PAUSE);
        self.hand_back_until(row, Some(self.clock.now().plus(pause)), looks)
            .await?;
        Ok(())
    }

    /// Takes a row that nobody drives. `None`: someone else has it, or it moved.
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

    /// Gives a lease back, and says when to look next. `false`: it was lost.
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
