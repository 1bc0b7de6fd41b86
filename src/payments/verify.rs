//! Asks the facilitator whether it would settle a payment, and binds what proves its payer.

use alloy_primitives::U256;

use super::admit::{PayerBalance, WATCH_MARGIN, reasons};
use super::ledger::Lease;
use super::reading::NOT_CONFIGURED;
use super::{PayError, Payments, Presentation, Progress, Silent, refusals};
use crate::db::proofs::{Binding, Bond, IdOwner, OpenPayment};
use crate::facilitator::VerifyOutcome;
use crate::model::payment::{Payment, PaymentState};
use crate::system::kill::kill_point;

impl Payments {
    /// Verifies a payment in state `received`. `None`: it is not verified, and its row decides.
    ///
    /// # Errors
    /// Nothing was charged.
    pub(super) async fn verify(
        &self,
        row: Payment,
        lease: Lease,
        presentation: &Presentation,
        balance: PayerBalance,
        progress: &mut Progress,
    ) -> Result<Option<(Payment, Lease)>, PayError> {
        kill_point!("verify.call.before");
        let outcome = match self.networks.of(&row) {
            Some(access) => {
                let timeout = self.settings.timeout;
                access.facilitator.verify(row.call(), timeout).await
            }
            None => VerifyOutcome::NoAnswer {
                why: NOT_CONFIGURED.to_owned(),
            },
        };
        kill_point!("verify.call.after");
        let refused = match outcome {
            VerifyOutcome::NoAnswer { why } => {
                tracing::warn!(why, "the facilitator did not answer verify");
                self.unanswered(&row, lease, Silent::Facilitator).await?;
                return Ok(None);
            }
            VerifyOutcome::Invalid { reason } => Some(reason),
            VerifyOutcome::Valid { payer } => payer
                .filter(|payer| *payer != row.authorization.from)
                .map(|_| "payer_mismatch".to_owned()),
        };
        if let Some(reason) = refused {
            // The next look at the row decides the answer: it may have been taken over, and if the
            // nonce is used, the money may have come to us. The chain must be asked again: an answer
            // from before verify does not count.
            self.ledger.rejected(&row, reason).await?;
            progress.has_asked_chain = false;
            return Ok(None);
        }
        self.bind(row, lease, presentation, balance, progress).await
    }

    /// Hands a payment back that could not be checked. `Ok`: the lease was lost, and another driver
    /// may be settling it.
    async fn unanswered(
        &self,
        row: &Payment,
        lease: Lease,
        silent: Silent,
    ) -> Result<(), PayError> {
        drop(lease);
        let (next_look, looks) = (row.next_look, row.looks);
        if self.ledger.hand_back_until(row, next_look, looks).await? {
            Err(PayError::Silent(silent))
        } else {
            Ok(())
        }
    }

    /// Binds proofs and idempotency keys to a payment that verify accepted. If another payment owns
    /// a key, this payment gives way to it. If the payer's open payments leave too little of the
    /// balance, it is refused.
    async fn bind(
        &self,
        row: Payment,
        lease: Lease,
        presentation: &Presentation,
        balance: PayerBalance,
        progress: &mut Progress,
    ) -> Result<Option<(Payment, Lease)>, PayError> {
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
        let mut binding = self.ledger.verified(&row, &bond).await?;
        let executed;
        if let Binding::Overdrawn(open) = &binding {
            bond.read_at = self.clock.now();
            let Ok(asked) = self.networks.executed(&row, open).await else {
                self.unanswered(&row, lease, Silent::Node).await?;
                return Ok(None);
            };
            (executed, bond.balance) = asked;
            bond.executed = &executed;
            binding = self.ledger.verified(&row, &bond).await?;
        }
        match binding {
            Binding::Bound => {
                progress.drove = Some(row.id.clone());
                let state = PaymentState::Verified;
                return Ok(Some((Payment { state, ..row }, lease)));
            }
            Binding::Lost => {}
            Binding::Taken(owner) => self.give_way(&row, owner, progress).await?,
            Binding::Overdrawn(open) => self.refuse_overdrawn(&row, &open, bond.balance).await?,
        }
        Ok(None)
    }

    /// Refuses a payment that the payer's balance does not cover beside the payer's open payments.
    async fn refuse_overdrawn(
        &self,
        row: &Payment,
        open: &[OpenPayment],
        balance: U256,
    ) -> Result<(), PayError> {
        if !self.ledger.released(row, reasons::FUNDS).await? {
            return Ok(());
        }
        let open = open.iter().fold(U256::ZERO, |sum, open| {
            sum.saturating_add(open.amount.as_u256())
        });
        Err(PayError::Invalid {
            reason: reasons::FUNDS.to_owned(),
            detail: refusals::overdrawn(row, balance, open),
        })
    }

    /// Releases a payment whose idempotency key belongs to another one. If both buy the same, that
    /// one becomes the answer.
    async fn give_way(
        &self,
        row: &Payment,
        owner: IdOwner,
        progress: &mut Progress,
    ) -> Result<(), PayError> {
        let reason = "another payment has this idempotency key";
        if !self.ledger.released(row, reason).await? {
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
}
