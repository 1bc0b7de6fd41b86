//! The one writer of the ledger of payments. Each move of a payment is a method that is named after
//! what happened; only the transition table decides whether the payment moves.
//!
//! A move is committed before the call that follows it leaves the process (docs/payments.md, rule
//! 9), and it happens only under the attempt number of the payment's driver (rule 10).

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tracing::Instrument;

use crate::db::auditor::{self as audits, Missing};
use crate::db::payments::{self as rows, Patch, Unreadable};
use crate::db::proofs::{self, Binding, Bond};
use crate::db::settlements::{self, NewGrant, Settlement, SettlementRecord};
use crate::db::{Db, DbError, erasure};
use crate::evm::chain::Verdict;
use crate::images::{Images, Late};
use crate::keys::secrets::Keyring;
use crate::model::ids::ImageId;
use crate::model::payment::{
    Event, Grant, LEASE, Payment, PaymentId, PaymentState, Transfer, transition,
};
use crate::model::token::UploadToken;
use crate::moving::epoch::Epoch;
use crate::pricing::networks::{self, Network};
use crate::system::clock::{Clock, Timestamp};
use crate::system::kill::kill_point;
use crate::system::metrics;
use crate::x402::header::PaymentHeader;

/// The interval at which a lease is renewed.
const RENEW_EVERY: Duration = Duration::from_millis(1500);
/// The first pause before the chain is asked again about an unresolved payment. It doubles each
/// time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The pause between a settlement and the auditor's first look at its transfer.
pub(super) const FIRST_AUDIT: Duration = Duration::from_secs(15);
/// The pause before a row that could not be read is tried again.
const UNREADABLE_AGAIN: Duration = Duration::from_mins(5);
/// How often recording a proof is tried when other drivers change the row at the same time.
const SETTLE_TRIES: u32 = 20;

/// The ledger of payments.
#[derive(Debug)]
pub(super) struct Ledger {
    db: Db,
    clock: Arc<dyn Clock>,
    secrets: Keyring,
    images: Arc<Images>,
    epoch: Arc<Epoch>,
    /// How long an upload token is valid.
    token_ttl: Duration,
    /// The name of the facilitator of each network, for metrics.
    facilitators: Vec<(&'static Network, &'static str)>,
    changed: Notify,
}

/// A lease on a payment. It is renewed in the background until this value is dropped.
pub(super) struct Lease(AbortHandle);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reading.
impl Ledger {
    pub(super) fn new(
        db: Db,
        clock: Arc<dyn Clock>,
        secrets: Keyring,
        images: Arc<Images>,
        epoch: Arc<Epoch>,
        token_ttl: Duration,
        facilitators: Vec<(&'static Network, &'static str)>,
    ) -> Self {
        Self {
            db,
            clock,
            secrets,
            images,
            epoch,
            token_ttl,
            facilitators,
            changed: Notify::new(),
        }
    }

    /// Counts a payment that entered a state.
    fn count(&self, row: &Payment, state: PaymentState) {
        let network = row.network();
        let mut known = self.facilitators.iter();
        let known = known.find(|(of, _)| of.chain_id == network.chain_id);
        let facilitator = known.map_or(metrics::NO_FACILITATOR, |(_, name)| name);
        metrics::payment(state.as_str(), facilitator, network.caip2);
    }

    pub(super) async fn find(&self, id: &PaymentId) -> Result<Option<Payment>, DbError> {
        rows::find(&self.db, id).await
    }

    /// Finds the payment of a header by payer and nonce, preferably on the network that the header
    /// names. A payment whose nonce is known under another token or network counts as known: a
    /// damaged copy of an unresolved payment must not lead the client to pay again.
    pub(super) async fn find_presented(
        &self,
        header: &PaymentHeader,
    ) -> Result<Option<Payment>, DbError> {
        let payer = header.authorization.from.to_string();
        let nonce = header.authorization.nonce.to_string();
        let known = rows::find_by_payer_and_nonce(&self.db, &payer, &nonce).await?;
        let named = header.network;
        let exact = known
            .iter()
            .position(|row| Some(row.network()) == named)
            .unwrap_or(0);
        Ok(known.into_iter().nth(exact))
    }

    /// Whether the records of this payment were erased, on any network, and if so, whether it had
    /// moved money.
    pub(super) async fn find_erased(
        &self,
        header: &PaymentHeader,
    ) -> Result<Option<bool>, DbError> {
        let authorization = &header.authorization;
        let ids: Vec<PaymentId> = networks::all()
            .into_iter()
            .map(|network| PaymentId::of(network, authorization.from, authorization.nonce))
            .collect();
        erasure::find_erased(&self.db, &ids).await
    }

    /// The proofs that are bound to a payment and still count: kind and hash.
    pub(super) async fn load_proofs(
        &self,
        id: &PaymentId,
    ) -> Result<Vec<(String, String)>, DbError> {
        proofs::load_proofs(&self.db, id, self.clock.now()).await
    }

    /// Waits until this process changes some payment.
    pub(super) fn changed(&self) -> &Notify {
        &self.changed
    }
}

/// Leases.
impl Ledger {
    /// Takes the lease of a payment without a driver. `None`: another driver has it, or the payment
    /// changed.
    pub(super) async fn claim(&self, row: &Payment) -> Result<Option<Payment>, DbError> {
        kill_point!("lease.claim.before");
        let claimed = rows::claim(&self.db, row, self.clock.now(), LEASE).await?;
        kill_point!("lease.claim.after");
        Ok(claimed)
    }

    /// Keeps the lease of a payment that this driver has taken.
    pub(super) fn keep(&self, row: &Payment) -> Lease {
        let (db, clock) = (self.db.clone(), Arc::clone(&self.clock));
        let (id, attempt) = (row.id.clone(), row.attempt);
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
        Lease(tokio::spawn(renewals.in_current_span()).abort_handle())
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

    /// Logs a row that can't be read or written, and postpones it so that it does not delay others.
    /// An operator has to look at it.
    pub(super) async fn put_off(&self, unreadable: &Unreadable) {
        let Unreadable { id, error } = unreadable;
        tracing::error!(%error, "a payment can't be read or written; run pixtoll ledger check");
        let again = self.clock.now().plus(UNREADABLE_AGAIN);
        if let Err(error) = rows::put_off(&self.db, id, again).await {
            tracing::warn!(%error, "a payment that failed could not be postponed");
        }
    }
}

/// Moves before settle is called.
impl Ledger {
    /// Writes a new payment, or the next attempt of a known one. `false`: a copy of the request was
    /// first.
    pub(super) async fn admit(
        &self,
        row: &Payment,
        known: Option<&Payment>,
        facilitator: &str,
    ) -> Result<bool, DbError> {
        kill_point!("payment.insert.before");
        let admitted = match known {
            None => rows::insert(&self.db, row, facilitator).await?,
            Some(known) => match transition(known.state, Event::PresentedAgain) {
                Some(step) => {
                    let (before, now) = (known.attempt, self.clock.now());
                    rows::restart(&self.db, step, before, row, facilitator, now).await?
                }
                None => false,
            },
        };
        kill_point!("payment.insert.after");
        if admitted {
            self.count(row, PaymentState::Received);
        }
        Ok(admitted)
    }

    /// Attaches the pending image of an upload. `false`: the lease was lost.
    pub(super) async fn attach(&self, row: &Payment, image: &ImageId) -> Result<bool, DbError> {
        let attached = rows::attach_image(&self.db, row, image).await?;
        kill_point!("image.attach.after");
        Ok(attached)
    }

    /// The facilitator accepted the payment at verify: binds its proofs and idempotency keys.
    pub(super) async fn verified(
        &self,
        row: &Payment,
        bond: &Bond<'_>,
    ) -> Result<Binding, DbError> {
        let Some(step) = transition(row.state, Event::VerifyAccepted) else {
            return Ok(Binding::Lost);
        };
        kill_point!("payment.verified.before");
        let binding = proofs::bind_verified(&self.db, step, row, bond, self.clock.now()).await?;
        kill_point!("payment.verified.after");
        if matches!(binding, Binding::Bound) {
            self.count(row, step.to());
        }
        Ok(binding)
    }

    /// The facilitator refused the payment at verify.
    pub(super) async fn rejected(&self, row: &Payment, reason: String) -> Result<(), DbError> {
        kill_point!("payment.rejected.before");
        let patch = self.ended(row, reason);
        self.advance(row, Event::VerifyRefused, &patch).await?;
        kill_point!("payment.rejected.after");
        Ok(())
    }

    /// The payment is given up before settle was called. `false`: another driver took it over, and
    /// the row decides.
    pub(super) async fn released(&self, row: &Payment, reason: &str) -> Result<bool, DbError> {
        kill_point!("payment.released.before");
        let patch = self.ended(row, reason.to_owned());
        let released = self.advance(row, Event::GivenUp, &patch).await?.is_some();
        kill_point!("payment.released.after");
        Ok(released)
    }

    /// The window of a payment closed before settle was called.
    pub(super) async fn window_closed(&self, row: &Payment, reason: &str) -> Result<(), DbError> {
        kill_point!("payment.closed.before");
        let patch = Patch {
            next_look: Some(self.clock.now()),
            ..self.ended(row, reason.to_owned())
        };
        self.advance(row, Event::WindowClosed, &patch).await?;
        kill_point!("payment.closed.after");
        Ok(())
    }

    /// Settle is about to be called, for these bytes of an upload. `None`: another driver took the
    /// payment over, or the image to renew can't be held.
    pub(super) async fn settling(
        &self,
        row: &Payment,
        body_sha256: Option<&str>,
    ) -> Result<Option<Payment>, DbError> {
        let now = self.clock.now();
        let patch = Patch {
            settle_called: Some(now),
            body_sha256: body_sha256.map(str::to_owned),
            next_look: Some(now.plus(FIRST_PAUSE)),
            lease_until: Some(now.plus(LEASE)),
            ..Patch::default()
        };
        kill_point!("payment.settling.before");
        let settling = self.advance(row, Event::SettleStarted, &patch).await?;
        kill_point!("payment.settling.after");
        Ok(settling)
    }
}

/// Moves after settle was called.
impl Ledger {
    /// The process that called settle has stopped, and its call with it.
    pub(super) async fn abandoned(&self, row: &Payment) -> Result<Option<Payment>, DbError> {
        kill_point!("payment.abandoned.before");
        let patch = Patch::default();
        let moved = self.advance(row, Event::SettleUnclear, &patch).await?;
        kill_point!("payment.abandoned.after");
        Ok(moved)
    }

    /// The first settle call was refused, and no money moved.
    pub(super) async fn refused(&self, row: &Payment, reason: String) -> Result<(), DbError> {
        kill_point!("payment.failed.before");
        let patch = self.ended(row, reason);
        self.advance(row, Event::SettleRefused, &patch).await?;
        kill_point!("payment.failed.after");
        Ok(())
    }

    /// Settle brought no answer that decides. The lease ends, so that the reconciler asks the chain.
    pub(super) async fn unclear(
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

    /// Notes the transaction that settle named, which the chain has to show.
    pub(super) async fn named(&self, id: &PaymentId, transaction: B256) {
        if let Err(error) = rows::note_transaction(&self.db, id, transaction).await {
            tracing::warn!(%error, "the transaction that settle named could not be recorded");
        }
    }

    /// Notes a refusal that came too late to change the state: the payment then doesn't count among
    /// those that pause sales.
    pub(super) async fn refused_late(&self, id: &PaymentId, refusal: &str) {
        tracing::info!(refusal, "a late refusal of settle changes no state");
        if let Err(error) = rows::note_refusal(&self.db, id, refusal).await {
            tracing::warn!(%error, "a late refusal could not be noted");
        }
    }

    /// Records what the chain's verdict decides, if anything.
    pub(super) async fn judged(
        &self,
        row: &Payment,
        verdict: Option<Verdict>,
    ) -> Result<(), DbError> {
        match verdict {
            Some(Verdict::Paid(transfer)) => self.settled(row, Event::ChainPaid, transfer).await,
            Some(Verdict::Void(reason)) => {
                let patch = Patch {
                    next_look: None,
                    ..self.ended(row, reason.to_owned())
                };
                kill_point!("payment.void.before");
                self.advance(row, Event::ChainVoid, &patch).await?;
                kill_point!("payment.void.after");
                Ok(())
            }
            Some(Verdict::Unused | Verdict::Unclear) | None => Ok(()),
        }
    }

    /// The money moved: records the proof and grants the goods, whatever state the row is in. The
    /// proof belongs to the authorization in `row`: if another authorization with the same nonce has
    /// replaced it, nothing is recorded.
    pub(super) async fn settled(
        &self,
        row: &Payment,
        event: Event,
        transfer: Transfer,
    ) -> Result<(), DbError> {
        // The row as the caller read it, and later as it is now.
        let mut known = transition(row.state, event).map(|_| row.clone());
        for tries in 0..SETTLE_TRIES {
            let read = match known.take() {
                Some(row) => Some(row),
                None => self.find(&row.id).await?,
            };
            let Some(fresh) = read.filter(|fresh| fresh.digest == row.digest) else {
                return Ok(());
            };
            let Some(step) = transition(fresh.state, event) else {
                return Ok(());
            };
            let now = self.clock.now();
            let life = fresh.product.link_life();
            let token_expires = now.plus(life.unwrap_or(self.token_ttl));
            let key = self.secrets.current();
            let token = UploadToken::grant(key, &fresh.id, life, 0, token_expires);
            let given_up = matches!(
                fresh.state,
                PaymentState::Received
                    | PaymentState::Rejected
                    | PaymentState::Released
                    | PaymentState::Failed
            );
            let (blocks_version, withheld) = match self.screen_late(&fresh, tries > 0).await? {
                Late::Clear(version) => (version, None),
                Late::Withheld(why) => (None, Some(why)),
            };
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
                owed: given_up
                    .then_some("the money moved after the payment was given up")
                    .or(withheld),
                blocks_version,
                is_withheld: withheld.is_some(),
                next_look: Some(now.plus(FIRST_AUDIT)),
                now,
            };
            kill_point!("payment.settled.before");
            let settlement = settlements::settle(&self.db, &record).await?;
            kill_point!("payment.settled.after");
            if let Settlement::Done { published } = settlement {
                self.count_sale(&fresh, published).await;
                if let Some(image) = &fresh.image_id {
                    self.images.forget_compared(image);
                }
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

    /// Whether a block came for the image of an upload whose money has moved.
    async fn screen_late(&self, row: &Payment, is_again: bool) -> Result<Late, DbError> {
        let is_stored = matches!(row.state, PaymentState::Settling | PaymentState::Unknown);
        let Some(image) = row.image_id.as_ref().filter(|_| is_stored) else {
            return Ok(Late::Clear(None));
        };
        self.images.screen_late(image, is_again).await
    }

    /// The goods of a settled payment are about to be returned, so they are no longer owed. `false`:
    /// the operator has made up for them otherwise.
    pub(super) async fn delivered(&self, grant: &Grant) -> Result<bool, DbError> {
        kill_point!("owed.clear.before");
        let is_due = rows::clear_owed(&self.db, grant).await?;
        kill_point!("owed.clear.after");
        Ok(is_due)
    }

    /// The auditor saw the transfer of a settled payment in `block`.
    pub(super) async fn seen(
        &self,
        row: &Payment,
        transfer: Transfer,
        block: u64,
        next_look: Option<Timestamp>,
    ) -> Result<(), DbError> {
        let looks = row.looks.saturating_add(1);
        kill_point!("audit.seen.before");
        audits::note_seen(&self.db, row, transfer, block, next_look, looks).await?;
        kill_point!("audit.seen.after");
        Ok(())
    }

    /// The auditor did not find the transfer of a settled payment. With a `reason` the payment is
    /// marked, and the operator has to decide.
    pub(super) async fn missed(
        &self,
        row: &Payment,
        missing: Missing,
        reason: Option<&str>,
        next_look: Timestamp,
    ) -> Result<(), DbError> {
        kill_point!("audit.missing.before");
        audits::note_missing(&self.db, row, missing, reason, next_look).await?;
        kill_point!("audit.missing.after");
        Ok(())
    }
}

impl Ledger {
    /// Counts a settled payment, its money, and the image that it has published.
    async fn count_sale(&self, row: &Payment, is_published: bool) {
        self.count(row, PaymentState::Settled);
        let (network, product) = (row.network(), &row.product);
        let asset = network.usdc.to_string();
        let units = u64::try_from(row.terms.offer.amount.units()).unwrap_or(u64::MAX);
        metrics::money(&product.tier, network.caip2, &asset, units);
        if let Some(image) = row.image_id.as_ref().filter(|_| is_published) {
            self.images.count_upload(image).await;
        }
    }

    /// What every payment that is over has: a reason, no lease, no image, and another look at the
    /// chain soon.
    fn ended(&self, row: &Payment, reason: String) -> Patch {
        Patch {
            reason: Some(reason),
            lease_until: Some(Timestamp::from_millis(0)),
            next_look: Some(self.clock.now().plus(FIRST_PAUSE)),
            discard_image: row.image_id.clone(),
            ..Patch::default()
        }
    }

    /// Moves a payment to its next state, under the attempt number of its driver. If the answer to
    /// the commit is lost, the row is read back. `None`: the payment was taken over, or the
    /// transition does not exist.
    async fn advance(
        &self,
        row: &Payment,
        event: Event,
        patch: &Patch,
    ) -> Result<Option<Payment>, DbError> {
        let Some(step) = transition(row.state, event) else {
            return Ok(None);
        };
        let now = self.clock.now();
        let advanced = match rows::advance(&self.db, step, row, patch, now).await {
            Ok(None) => return Ok(None),
            Ok(Some(advanced)) => advanced,
            Err(error) => {
                let seen = self.find(&row.id).await?;
                let ours = |seen: &Payment| seen.attempt == row.attempt && seen.state == step.to();
                seen.filter(ours).ok_or(error)?
            }
        };
        tracing::info!(
            from = step.from().as_str(),
            to = step.to().as_str(),
            attempt = row.attempt,
            "a payment changed its state"
        );
        self.count(row, step.to());
        self.changed.notify_waiters();
        let left_open = matches!(
            step.to(),
            PaymentState::Failed | PaymentState::Rejected | PaymentState::Released
        );
        if left_open && let Some(image) = &patch.discard_image {
            self.images.delete_object(image).await;
        }
        Ok(Some(advanced))
    }
}
