//! The interface to a chain: what a node shows about an authorization, and what that means.
//!
//! Reading ([`Chain`]) is separate from judging ([`judge`]), so that judging is a pure function
//! that a table of cases tests.

use alloy_primitives::{Address, B256, Bytes, U256};

use crate::model::payment::{Payment, Transfer};
use crate::pricing::networks::Network;
use crate::system::clock::Timestamp;

pub mod rpc;

/// A block of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The block's height.
    pub number: u64,
    /// The block's hash.
    pub hash: B256,
    /// The block's timestamp.
    pub time: Timestamp,
}

/// A question about one authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The network, with its token.
    pub network: &'static Network,
    /// The payer, who signed the authorization.
    pub payer: Address,
    /// The nonce of the authorization.
    pub nonce: B256,
    /// The recipient that the transfer must have.
    pub pay_to: Address,
    /// The amount that the transfer must have, in atomic units.
    pub value: U256,
    /// `validBefore`: from this time on, the token rejects the authorization.
    pub valid_before: Timestamp,
    /// The block at which the search for logs begins.
    pub first_block: u64,
    /// How many confirmations the transfer needs; 1 means that it is in a block.
    pub confirmations: u32,
}

impl Query {
    /// The question about a payment of the ledger.
    pub fn about(payment: &Payment) -> Self {
        let offer = &payment.terms.offer;
        Self {
            network: offer.network,
            payer: payment.authorization.from,
            nonce: payment.authorization.nonce,
            pay_to: offer.pay_to,
            value: offer.amount.as_u256(),
            valid_before: payment.valid_before(),
            first_block: payment.first_block,
            confirmations: payment.terms.confirmations,
        }
    }
}

/// A log of the token about the authorization's nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonceLog {
    /// `AuthorizationCanceled`: the payer cancelled the authorization.
    Canceled {
        /// The height of the log's block.
        block: u64,
    },
    /// `AuthorizationUsed`: a transfer used the nonce.
    Used {
        /// The hash of its transaction.
        transaction: B256,
        /// The height of its block.
        block: u64,
        /// The payer's transfer that directly follows in the same transaction; `None` if the node
        /// shows none.
        next: Option<NextTransfer>,
    },
}

/// The transfer that directly follows an `AuthorizationUsed` log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextTransfer {
    /// The recipient.
    pub to: Address,
    /// The amount, in atomic units.
    pub value: U256,
    /// The index of the transfer's log in its block.
    pub log_index: u64,
}

/// What a node shows about an authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The newest block.
    pub head: Block,
    /// The newest safe block.
    pub safe: Block,
    /// Whether the nonce is used at the safe block, which is named by its hash.
    pub used_at_safe: bool,
    /// Whether the nonce is used at the newest block.
    pub used_at_head: bool,
    /// The logs about the nonce.
    pub logs: Vec<NonceLog>,
}

impl Evidence {
    /// The height of the block with the log about the nonce; `None`: the node shows no log.
    pub fn block(&self) -> Option<u64> {
        self.logs.first().map(|log| match log {
            NonceLog::Canceled { block } | NonceLog::Used { block, .. } => *block,
        })
    }
}

/// What the evidence means for a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The money moved to us, by this transfer.
    Paid(Transfer),
    /// The authorization will never pay us, for this reason.
    Void(&'static str),
    /// The nonce is unused, and can still be used.
    Unused,
    /// Nothing can be concluded: the node is behind or shows only a part, or confirmations are
    /// missing.
    Unclear,
}

/// The reason of [`Verdict::Void`] when the payer cancelled the authorization.
pub const CANCELED: &str = "authorization_canceled";
/// The reason of [`Verdict::Void`] when the nonce paid another recipient or amount.
pub const SPENT_ELSEWHERE: &str = "authorization_spent_elsewhere";
/// The reason of [`Verdict::Void`] when the window ended and the nonce is unused.
pub const EXPIRED: &str = "authorization_expired";

/// Judges what a node shows (docs/payments.md, rule 5). Local clocks don't matter.
pub fn judge(query: &Query, evidence: &Evidence) -> Verdict {
    // A nonce is used or cancelled once, so there is at most one log.
    match evidence.logs.first() {
        Some(NonceLog::Canceled { .. }) => Verdict::Void(CANCELED),
        Some(NonceLog::Used { next: None, .. }) => Verdict::Unclear,
        Some(NonceLog::Used {
            next: Some(next), ..
        }) if next.to != query.pay_to || next.value != query.value => {
            Verdict::Void(SPENT_ELSEWHERE)
        }
        Some(NonceLog::Used {
            transaction,
            block,
            next: Some(next),
        }) => {
            // Confirmations are head minus block plus one: a transfer in the newest block has one.
            let depth = (evidence.head.number + 1).saturating_sub(*block);
            if depth < u64::from(query.confirmations) {
                return Verdict::Unclear;
            }
            Verdict::Paid(Transfer {
                transaction: *transaction,
                log_index: Some(next.log_index),
            })
        }
        None if evidence.used_at_head || evidence.used_at_safe => Verdict::Unclear,
        // The token accepts block times strictly before `validBefore`, so at that time the window
        // is over.
        None if evidence.safe.time >= query.valid_before => Verdict::Void(EXPIRED),
        None => Verdict::Unused,
    }
}

/// What a payer has on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Funds {
    /// The newest block, at which the rest was read.
    pub head: Block,
    /// Whether the nonce is used.
    pub nonce_used: bool,
    /// The payer's balance, in atomic units.
    pub balance: U256,
}

/// A transfer to a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncomingTransfer {
    /// The hash of its transaction.
    pub transaction: B256,
    /// The index of its log in the block.
    pub log_index: u64,
    /// The height of its block.
    pub block: u64,
    /// The payer.
    pub from: Address,
    /// The amount, in atomic units.
    pub value: U256,
}

/// The node did not answer, or its answer is not plausible. The text says why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the chain's node gave no usable answer: {0}")]
pub struct ChainError(pub String);

/// Reads a chain through a node.
#[async_trait::async_trait]
pub trait Chain: Send + Sync + std::fmt::Debug {
    /// The EIP-155 id of the node's chain.
    async fn chain_id(&self) -> Result<u64, ChainError>;

    /// The newest block.
    async fn head(&self) -> Result<Block, ChainError>;

    /// The block at this height.
    async fn block(&self, number: u64) -> Result<Block, ChainError>;

    /// The newest block that the node considers final enough not to be replaced (`safe`).
    async fn safe(&self) -> Result<Block, ChainError>;

    /// The payer's balance, and whether the nonce is used, at the newest block.
    async fn funds(&self, payer: Address, nonce: B256) -> Result<Funds, ChainError>;

    /// What the node shows about an authorization.
    async fn evidence(&self, query: &Query) -> Result<Evidence, ChainError>;

    /// The nonce of the authorization that made this transfer. `None`: no authorization made it.
    async fn nonce_of(&self, receipt: &IncomingTransfer) -> Result<Option<B256>, ChainError>;

    /// Whether the contract wallet `account` accepts this signature of `digest` at the newest block
    /// (EIP-1271). A wallet that is not deployed yet is asked as if the deployment that its
    /// signature carries had happened (ERC-6492). `false` as well for an account without code.
    async fn is_signed(
        &self,
        account: Address,
        digest: B256,
        signature: &Bytes,
    ) -> Result<bool, ChainError>;

    /// Every transfer of the token to `recipient` in blocks `first..=last`.
    async fn receipts(
        &self,
        recipient: Address,
        first_block: u64,
        last_block: u64,
    ) -> Result<Vec<IncomingTransfer>, ChainError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::networks;

    fn query() -> Query {
        Query {
            network: networks::find("base-sepolia").unwrap(),
            payer: Address::repeat_byte(1),
            nonce: B256::repeat_byte(2),
            pay_to: Address::repeat_byte(3),
            value: U256::from(10_000),
            valid_before: Timestamp::from_seconds(1000),
            first_block: 1,
            confirmations: 1,
        }
    }

    fn evidence(safe_seconds: i64, used: bool, logs: Vec<NonceLog>) -> Evidence {
        let block = |seconds| Block {
            number: 10,
            hash: B256::repeat_byte(9),
            time: Timestamp::from_seconds(seconds),
        };
        Evidence {
            head: block(safe_seconds + 10),
            safe: block(safe_seconds),
            used_at_safe: used,
            used_at_head: used,
            logs,
        }
    }

    fn used(to: u8, value: u64, block: u64) -> NonceLog {
        NonceLog::Used {
            transaction: B256::repeat_byte(7),
            block,
            next: Some(NextTransfer {
                to: Address::repeat_byte(to),
                value: U256::from(value),
                log_index: 5,
            }),
        }
    }

    #[test]
    fn evidence_is_judged_as_the_rules_say() {
        let paid = Verdict::Paid(Transfer {
            transaction: B256::repeat_byte(7),
            log_index: Some(5),
        });
        let unfollowed = NonceLog::Used {
            transaction: B256::repeat_byte(7),
            block: 9,
            next: None,
        };
        let cases = [
            (
                "the transfer to us",
                evidence(10, true, vec![used(3, 10_000, 10)]),
                paid,
            ),
            (
                "the same after the window",
                evidence(5000, true, vec![used(3, 10_000, 9)]),
                paid,
            ),
            (
                "one unit less",
                evidence(10, true, vec![used(3, 9_999, 9)]),
                Verdict::Void(SPENT_ELSEWHERE),
            ),
            (
                "one unit more",
                evidence(10, true, vec![used(3, 10_001, 9)]),
                Verdict::Void(SPENT_ELSEWHERE),
            ),
            (
                "to another",
                evidence(10, true, vec![used(4, 10_000, 9)]),
                Verdict::Void(SPENT_ELSEWHERE),
            ),
            (
                "cancelled",
                evidence(10, true, vec![NonceLog::Canceled { block: 9 }]),
                Verdict::Void(CANCELED),
            ),
            (
                "used, transfer not shown",
                evidence(5000, true, vec![unfollowed]),
                Verdict::Unclear,
            ),
            (
                "used, no logs",
                evidence(5000, true, vec![]),
                Verdict::Unclear,
            ),
            (
                "unused in time",
                evidence(999, false, vec![]),
                Verdict::Unused,
            ),
            (
                "unused at the end",
                evidence(1000, false, vec![]),
                Verdict::Void(EXPIRED),
            ),
            (
                "in a block above the head",
                evidence(10, true, vec![used(3, 10_000, 11)]),
                Verdict::Unclear,
            ),
        ];
        for (name, evidence, expected) in cases {
            assert_eq!(judge(&query(), &evidence), expected, "{name}");
        }
    }

    #[test]
    fn a_tier_without_confirmations_accepts_the_newest_block() {
        let query = Query {
            confirmations: 0,
            ..query()
        };
        let verdict = judge(&query, &evidence(10, true, vec![used(3, 10_000, 11)]));
        assert!(matches!(verdict, Verdict::Paid(_)));
    }

    #[test]
    fn a_safe_block_that_is_behind_decides_nothing() {
        let mut lagging = evidence(999, false, vec![]);
        lagging.head.time = Timestamp::from_seconds(9999);
        assert_eq!(judge(&query(), &lagging), Verdict::Unused);
        lagging.used_at_head = true;
        assert_eq!(judge(&query(), &lagging), Verdict::Unclear);
    }
}
