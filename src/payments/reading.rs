//! The one place where payments read the chain.

use std::time::Duration;

use alloy_primitives::{B256, U256};
use tokio::time::Instant;

use super::access::{NetworkAccess, Networks};
use super::{PayError, Silent};
use crate::db::proofs::OpenPayment;
use crate::evm::chain::{ChainError, Evidence, Named, Priority, Query, Reading, Verdict, judge};
use crate::model::payment::{Payment, PaymentState};
use crate::system::kill::kill_point;

/// How many open payments of a payer the chain is asked about when a new one is checked.
const MOST_ASKED: usize = 2;
/// The first pause before a request asks again for a transaction, and the longest. It doubles.
const FIRST_POLL: Duration = Duration::from_millis(250);
const LONGEST_POLL: Duration = Duration::from_secs(1);
/// Why nothing can be asked about a payment: neither its facilitator nor its chain is known.
pub(super) const NOT_CONFIGURED: &str = "the payment's network is no longer configured";

/// Whether a verdict decides nothing. `None`: the node did not answer.
pub(super) const fn is_open(verdict: Option<Verdict>) -> bool {
    matches!(verdict, None | Some(Verdict::Unused | Verdict::Unclear))
}

/// Logs a node that did not answer, and says so to the client.
pub(super) fn silent_node(error: &ChainError) -> PayError {
    tracing::warn!(%error, "the chain's node did not answer; the payment waits");
    PayError::Silent(Silent::Node)
}

impl Networks {
    /// The facilitator and chain of a payment's network. `None` where the network is not configured.
    /// A server refuses to start then while such a payment is unresolved, so the payment is final,
    /// or another replica, which knows the network, sold it later.
    pub(super) fn of(&self, row: &Payment) -> Option<&NetworkAccess> {
        self.find(row.network())
    }

    /// The chain's verdict on a payment; `None` when the node does not answer.
    pub(super) async fn verdict(&self, row: &Payment) -> Option<Verdict> {
        let query = Query::about(row);
        let evidence = self.evidence(row, &query).await?;
        Some(judge(&query, &evidence))
    }

    /// Whether the chain proves that this payment will never pay us.
    pub(super) async fn is_void(&self, row: &Payment) -> bool {
        matches!(self.verdict(row).await, Some(Verdict::Void(_)))
    }

    /// Whether the chain shows the nonce as used. The signature is public then, so a request without
    /// proof may come from anybody.
    pub(super) async fn is_published(&self, row: &Payment) -> Result<bool, PayError> {
        let authorization = &row.authorization;
        let access = self.of(row).ok_or(PayError::Pending)?;
        let funds = access.chain.funds(authorization.from, authorization.nonce);
        let funds = funds.await.map_err(|error| silent_node(&error))?;
        Ok(funds.nonce_used)
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
        let evidence = match self.of(row) {
            Some(access) => access.chain.read_for(reading).evidence(query).await,
            None => Err(ChainError(NOT_CONFIGURED.to_owned())),
        };
        kill_point!("chain.evidence.after");
        match evidence {
            Ok(evidence) => Some(evidence),
            Err(error) => {
                silent_node(&error);
                None
            }
        }
    }

    /// Those of a payer's open payments that have moved their money by now, by their nonces, and the
    /// balance after them. The chain is asked about [`MOST_ASKED`] that are not settled; the others
    /// count as not executed.
    pub(super) async fn executed(
        &self,
        row: &Payment,
        open: &[OpenPayment],
    ) -> Result<(Vec<B256>, U256), PayError> {
        let chain = &self.of(row).ok_or(PayError::Silent(Silent::Node))?.chain;
        let authorization = &row.authorization;
        let (settled, unsettled): (Vec<_>, Vec<_>) = open.iter().partition(|open| open.is_settled);
        let mut executed: Vec<B256> = settled.iter().map(|open| open.nonce).collect();
        let asked = unsettled.iter().take(MOST_ASKED).map(|open| open.nonce);
        let mut balance = U256::ZERO;
        // This payment's own nonce comes last, so that the balance is not older than the answers.
        for nonce in asked.chain([authorization.nonce]) {
            let funds = chain.funds(authorization.from, nonce).await;
            let funds = funds.map_err(|error| silent_node(&error))?;
            balance = funds.balance;
            if funds.nonce_used && nonce != authorization.nonce {
                executed.push(nonce);
            }
        }
        Ok((executed, balance))
    }
}
