//! Credits: transfers to us that the chain shows and the ledger has lost. They are owed to their
//! payers.
//!
//! The old signature proves nothing, since the chain publishes it. To claim a credit, the payer
//! signs a new payment of the same amount. That payment is not settled: it is released, and refers
//! from then on to the row of the credited transfer, which buys what the new request asks for.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Bytes, U256};

use super::auditor::FIRST_LOOK;
use super::examine::WATCH_MARGIN;
use super::{PayError, Payments, Presentation, Progress, Silent, Whose};
use crate::chain::{Query, Verdict, judge};
use crate::db::credits::{self as rows, Claim, Claimed, Credit, Lost};
use crate::db::{grants, payments as payment_rows};
use crate::model::payment::{
    Event, Payment, PaymentId, PaymentState, ProductKind, Terms, Transfer, UNKNOWN_DIGEST,
    transition,
};
use crate::model::token::UploadToken;
use crate::system::clock::Timestamp;
use crate::system::kill::kill_point;
use crate::x402::evm::{self, Authorization};
use crate::x402::header::PaymentHeader;

/// The recorded reason for releasing a payment that claimed a credit.
pub(super) const CREDITED: &str = "credited";
/// How many blocks before the recorded one the search for the transfer's log begins, since the
/// chain may have replaced blocks.
const LOG_MARGIN: u64 = 1_000;
/// The assumed window of the lost authorization, which is unknown. Every window that pixtoll
/// accepts is shorter.
const WINDOW: Duration = Duration::from_hours(24);
/// Why the credit of a direct upload is owed until its image is published.
const OWED_IMAGE: &str = "the image of this upload is gone";

impl Payments {
    /// Rejects a payment that was lost from the ledger and has not been reclaimed. Its header can
    /// be read on the chain, so it proves nothing.
    pub(super) async fn refuse_credited(&self, header: &PaymentHeader) -> Result<(), PayError> {
        let authorization = &header.authorization;
        let (payer, nonce) = (
            authorization.from.to_string(),
            authorization.nonce.to_string(),
        );
        match rows::find_lost(&self.db, &payer, &nonce).await? {
            None => Ok(()),
            Some(Lost::Credited) => Err(PayError::Credited),
            Some(Lost::Resolved) => Err(PayError::Resolved),
            Some(Lost::Forgotten) => Err(PayError::Known {
                charged: Some(false),
            }),
        }
    }

    /// The row of the credit that a payment has claimed; `None`: it claimed none.
    pub(super) async fn credited_by(
        &self,
        row: &Payment,
        progress: &mut Progress,
    ) -> Result<Option<Payment>, PayError> {
        if row.reason.as_deref() != Some(CREDITED) {
            return Ok(None);
        }
        let Some(id) = rows::find_claimed_by(&self.db, &row.id).await? else {
            return Ok(None);
        };
        let credited = payment_rows::find(&self.db, &id).await?;
        // The records of the credit may be erased before those of the payment that claimed it.
        let credited = credited.ok_or(PayError::Known {
            charged: Some(true),
        })?;
        progress.ledger_id = Some(id);
        progress.whose = Whose::Credit;
        Ok(Some(credited))
    }

    /// Finds a credit that this new payment may claim. Payer, network and amount must be equal, and
    /// the payer must have signed.
    pub(super) async fn find_credit(
        &self,
        presentation: &Presentation,
        terms: &Terms,
    ) -> Result<Option<Credit>, PayError> {
        let header = &presentation.header;
        let (network, payer) = (terms.offer.network, header.authorization.from);
        if presentation.product.kind == ProductKind::Renewal {
            // A credit buys uploads only. The payer can renew the image later.
            return Ok(None);
        }
        let amount = terms.offer.amount.to_string();
        let Some(credit) = rows::find_open(&self.db, network.caip2, payer, &amount).await? else {
            return Ok(None);
        };
        let digest = header.authorization.digest(network);
        if evm::recover(&digest, &header.signature) == Some(payer) {
            return Ok(Some(credit));
        }
        let chain = &self.access_for(terms)?.chain;
        let is_signed = chain.is_signed(payer, digest, &header.signature).await;
        let is_signed = is_signed.map_err(|error| {
            tracing::warn!(%error, "the chain's node did not answer; the payment waits");
            PayError::Silent(Silent::Node)
        })?;
        Ok(is_signed.then_some(credit))
    }

    /// Claims a credit for the payment in `row`, which this request drives. `false`: no credit is
    /// left, and the payment goes on like any other.
    pub(super) async fn redeem(
        self: &Arc<Self>,
        row: &Payment,
        mut credit: Credit,
        presentation: &Presentation,
        progress: &mut Progress,
    ) -> Result<bool, PayError> {
        let _lease = self.lease(row);
        loop {
            let claimed = if let Some(transfer) = self.shown(row, &credit).await? {
                self.claim_credit(row, &credit, transfer, presentation)
                    .await?
            } else {
                rows::close_forgotten(&self.db, &credit.id, self.clock.now()).await?;
                tracing::warn!(payment.ledger_id = %credit.id, "a credit was closed: the chain does not show its transfer any more");
                Claimed::Gone
            };
            match claimed {
                Claimed::Done => {
                    tracing::info!(payment.ledger_id = %credit.id, claimed_by = %row.id, "a credit was claimed");
                    self.changed.notify_waiters();
                    progress.ledger_id = Some(credit.id.clone());
                    progress.whose = Whose::Credit;
                    progress.drove = Some(credit.id.clone());
                    self.publish_credited(&credit.id, presentation).await;
                    return Ok(true);
                }
                // Another driver took the payment over. Its row decides.
                Claimed::Lost => return Ok(true),
                Claimed::Taken(owner) => {
                    self.give_way(row, owner, progress).await?;
                    return Ok(true);
                }
                Claimed::Gone => {}
            }
            match self.find_credit(presentation, &row.terms).await? {
                Some(next) if next.id != credit.id => credit = next,
                // An open credit whose payment turns out to be in the ledger can't be claimed.
                Some(_) | None => return Ok(false),
            }
        }
    }

    /// Finds the credited transfer on the chain. `None`: it can never be there again.
    async fn shown(&self, row: &Payment, credit: &Credit) -> Result<Option<Transfer>, PayError> {
        let query = Query {
            network: row.network(),
            payer: credit.payer,
            nonce: credit.nonce,
            pay_to: credit.pay_to,
            value: row.authorization.value,
            valid_before: credit.found.plus(WINDOW),
            first_block: credit.block.saturating_sub(LOG_MARGIN),
            confirmations: row.terms.confirmations,
        };
        let evidence = self.evidence(row, &query).await;
        match evidence.map(|evidence| judge(&query, &evidence)) {
            Some(Verdict::Paid(transfer)) => Ok(Some(transfer)),
            Some(Verdict::Void(_)) => Ok(None),
            Some(Verdict::Unused | Verdict::Unclear) | None => {
                // If the lease was lost, another driver may have claimed a credit for it.
                if self.hand_back_until(row, row.next_look, row.looks).await? {
                    Err(PayError::Silent(Silent::Node))
                } else {
                    Err(PayError::InProgress)
                }
            }
        }
    }

    fn latest_window(&self) -> Timestamp {
        self.clock.now().plus(WINDOW)
    }

    async fn claim_credit(
        &self,
        row: &Payment,
        credit: &Credit,
        transfer: Transfer,
        presentation: &Presentation,
    ) -> Result<Claimed, PayError> {
        let (Some(give_up), Some(settle)) = (
            transition(row.state, Event::GivenUp),
            transition(PaymentState::Received, Event::ChainPaid),
        ) else {
            return Ok(Claimed::Lost);
        };
        let now = self.clock.now();
        let until = row
            .valid_before()
            .plus(WATCH_MARGIN)
            .plus(self.settings.token_ttl);
        let credited = self.credited_row(row, credit, presentation);
        let token = UploadToken::derive(self.secrets.current(), &credit.id, 0);
        let is_upload = row.product.kind == ProductKind::Upload;
        let claim = Claim {
            presented: row,
            give_up,
            reason: CREDITED,
            next_look: row.valid_before().plus(WATCH_MARGIN),
            credited: &credited,
            settle,
            transfer,
            facilitator: self.access_for(&row.terms)?.facilitator.name(),
            token_hash: &token.hash(),
            token_expires: now.plus(self.settings.token_ttl),
            owed: is_upload.then_some(OWED_IMAGE),
            proofs: &presentation
                .evidence
                .proofs(&self.secrets, &credit.id, until),
            id_hashes: &presentation.evidence.key_hashes(&self.secrets),
            audit: now.plus(FIRST_LOOK),
            now,
        };
        kill_point!("credit.claim.before");
        let claimed = rows::claim(&self.db, &claim).await?;
        kill_point!("credit.claim.after");
        Ok(claimed)
    }

    /// The row of the credited transfer. It buys what `row` asks for.
    fn credited_row(&self, row: &Payment, credit: &Credit, presentation: &Presentation) -> Payment {
        let valid_before = u64::try_from(self.latest_window().seconds()).unwrap_or(u64::MAX);
        let mut terms = row.terms.clone();
        terms.offer.pay_to = credit.pay_to;
        Payment {
            id: credit.id.clone(),
            authorization: Authorization {
                to: credit.pay_to,
                nonce: credit.nonce,
                valid_after: U256::ZERO,
                valid_before: U256::from(valid_before),
                ..row.authorization.clone()
            },
            digest: UNKNOWN_DIGEST,
            signature: Bytes::new(),
            attempt: 1,
            lease_until: Timestamp::from_millis(0),
            terms,
            body_sha256: presentation.body_sha256().map(str::to_owned),
            image_id: None,
            first_block: credit.block.saturating_sub(LOG_MARGIN),
            transaction: None,
            ..row.clone()
        }
    }

    /// Publishes the image of the request. If that fails, the image stays owed, and its payer
    /// receives a token.
    async fn publish_credited(&self, id: &PaymentId, presentation: &Presentation) {
        let checked = presentation
            .body
            .as_ref()
            .and_then(|body| body.checked.as_ref().ok());
        let (Some(checked), ProductKind::Upload) = (checked, presentation.product.kind) else {
            return;
        };
        let grant = match grants::find(&self.db, id).await {
            Ok(Some(grant)) => grant,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(payment.ledger_id = %id, %error, "the grant of a credit could not be read");
                return;
            }
        };
        let now = self.clock.now();
        let published = self
            .images
            .upload_granted(grant, now, checked.clone())
            .await;
        if let Err(error) = published {
            tracing::warn!(payment.ledger_id = %id, %error, "the image of a credit could not be published; it is owed");
        }
    }
}
