//! Credits: what the chain shows to have been paid, and the ledger has lost, is owed to its payer.
//!
//! The old signature proves nothing, since it lies on the chain. A new payment does, by the same payer and of
//! the same amount, which nobody has seen: it isn't settled. The credited transfer gets a row of its own,
//! with what is asked for now, and the new payment is given up and stands for that row from then on.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Bytes, U256};

use super::auditor::FIRST_LOOK;
use super::examine::WATCH_MARGIN;
use super::{PayError, Payments, Presentation, Silent, Visit, Whose};
use crate::chain::{Query, Verdict, judge};
use crate::clock::Timestamp;
use crate::db::credits::{self as rows, Claim, Claimed, Credit, Lost};
use crate::db::{grants, payments as payment_rows};
use crate::kill::kill_point;
use crate::model::payment::{
    Event, Payment, PaymentId, PaymentState, ProductKind, Terms, Transfer, UNKNOWN_DIGEST,
    transition,
};
use crate::model::token::UploadToken;
use crate::x402::evm::{self, Authorization};
use crate::x402::header::PaymentHeader;

/// Why a payment is given up that was presented for a credit.
pub(super) const CREDITED: &str = "credited";
/// So far before the block in which a transfer was found its log is looked for: blocks may have been replaced.
const LOG_MARGIN: u64 = 1_000;
/// Nobody knows what window the lost authorization had; every one that we take is shorter.
const WINDOW: Duration = Duration::from_hours(24);
/// The image of a direct upload, until it is published.
const OWED_IMAGE: &str = "the image of this upload is gone";

impl Payments {
    /// A payment that the ledger lost, and that isn't its payer's again, is told to be so: its header can
    /// be read on the chain.
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

    /// The row that a payment stands for which was presented for a credit, and got it.
    pub(super) async fn credited_by(
        &self,
        row: &Payment,
        visit: &mut Visit,
    ) -> Result<Option<Payment>, PayError> {
        if row.reason.as_deref() != Some(CREDITED) {
            return Ok(None);
        }
        let Some(id) = rows::find_claimed_by(&self.db, &row.id).await? else {
            return Ok(None);
        };
        let credited = payment_rows::find(&self.db, &id).await?;
        // Its records may be erased before those of the payment that stands for it.
        let credited = credited.ok_or(PayError::Known {
            charged: Some(true),
        })?;
        visit.ledger_id = Some(id);
        visit.whose = Whose::Credit;
        Ok(Some(credited))
    }

    /// The credit that this new payment may be presented for: of the same payer, who has signed it, on the
    /// same network and of exactly the same amount.
    pub(super) async fn find_credit(
        &self,
        presentation: &Presentation,
        terms: &Terms,
    ) -> Result<Option<Credit>, PayError> {
        let header = &presentation.header;
        let (network, payer) = (terms.offer.network, header.authorization.from);
        if presentation.product.kind == ProductKind::Renewal {
            // What was lost is given as an upload; its payer may keep it longer then.
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
        let chain = &self.rail_of(terms)?.chain;
        let is_signed = chain.is_signed(payer, digest, &header.signature).await;
        let is_signed = is_signed.map_err(|error| {
            tracing::warn!(%error, "a payment waits for the chain's node");
            PayError::Silent(Silent::Node)
        })?;
        Ok(is_signed.then_some(credit))
    }

    /// Gives a credit to the payment in `row`, which is new, and is driven by this request. `false`: there
    /// is nothing to be had, and the payment goes its own way.
    pub(super) async fn redeem(
        self: &Arc<Self>,
        row: &Payment,
        mut credit: Credit,
        presentation: &Presentation,
        visit: &mut Visit,
    ) -> Result<bool, PayError> {
        let _lease = self.lease(row);
        loop {
            let claimed = if let Some(transfer) = self.shown(row, &credit).await? {
                self.claim_credit(row, &credit, transfer, presentation)
                    .await?
            } else {
                rows::close_forgotten(&self.db, &credit.id, self.clock.now()).await?;
                tracing::warn!(payment.ledger_id = %credit.id, "a credit was closed: the chain forgot its transfer");
                Claimed::Gone
            };
            match claimed {
                Claimed::Done => {
                    tracing::info!(payment.ledger_id = %credit.id, by = %row.id, "a credit was claimed");
                    self.changed.notify_waiters();
                    visit.ledger_id = Some(credit.id.clone());
                    visit.whose = Whose::Credit;
                    visit.drove = Some(credit.id.clone());
                    self.publish_credited(&credit.id, presentation).await;
                    return Ok(true);
                }
                // Another driver has the row; what it does is the answer.
                Claimed::Lost => return Ok(true),
                Claimed::Taken(owner) => {
                    self.give_way(row, owner, visit).await?;
                    return Ok(true);
                }
                Claimed::Gone => {}
            }
            match self.find_credit(presentation, &row.terms).await? {
                Some(next) if next.id != credit.id => credit = next,
                // An open credit whose payment the ledger knows after all is nobody's.
                Some(_) | None => return Ok(false),
            }
        }
    }

    /// Where the chain shows the credited transfer now; `None`: it never will again.
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
                // Without the lease the row may be on its way under another driver.
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
            facilitator: self.rail_of(&row.terms)?.facilitator.name(),
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

    /// The row of the credited payment, with what `row` asks for.
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

    /// Publishes the image that came with the payment. Where that fails, the row goes on owing it, and its
    /// payer gets a token.
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
            tracing::warn!(payment.ledger_id = %id, %error, "the image of a credit is owed");
        }
    }
}
