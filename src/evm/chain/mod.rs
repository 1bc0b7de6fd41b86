//! The interface to a chain: what a node shows about an authorization, and what that means.
//!
//! Reading ([`Chain`]) is separate from judging ([`judge`]), so that judging is a pure function
//! that a table of cases tests. Evidence is read in stages, until it decides:
//!
//! 1. the receipt of the transaction that the facilitator named, and the newest block;
//! 2. whether the nonce is used;
//! 3. the logs, if the nonce is used and no receipt proves by what;
//! 4. a block that won't be replaced, if the window of an unused nonce has ended.

use std::sync::Arc;
use std::time::Instant;

use alloy_primitives::{Address, B256, Bytes, U256};

use crate::model::payment::{Payment, Transfer};
use crate::pricing::networks::Network;
use crate::system::clock::Timestamp;

mod budget;
mod memory;
mod node;
pub mod probe;
mod refusal;
pub mod rpc;
mod search;

/// How urgent a reading is. A node that is slow, or limits its callers, answers the most urgent
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// A sale: a request that carries a new payment.
    Sale,
    /// A payment that the ledger knows, in a request or by the reconciler.
    Known,
    /// The auditor, and payments that were given up.
    Audit,
    /// The search for transfers without a payment, and commands.
    Orphans,
}

/// For whom a chain is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The urgency.
    pub priority: Priority,
    /// Until when reading is repeated while the node gives no answer. `None`: calls are repeated
    /// twice, and no longer.
    pub deadline: Option<Instant>,
}

impl Reading {
    /// A reading that is not repeated for long.
    pub const fn of(priority: Priority) -> Self {
        Self {
            priority,
            deadline: None,
        }
    }

    /// A reading that is repeated until `deadline`.
    pub const fn until(priority: Priority, deadline: Instant) -> Self {
        Self {
            priority,
            deadline: Some(deadline),
        }
    }
}

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
    /// The transaction that is said to have moved the money, if one is known. Its receipt decides
    /// without a search for logs.
    pub transaction: Option<B256>,
    /// Whether it has to be known if the transfer's block is safe.
    pub finality: bool,
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
            transaction: payment.transaction,
            finality: payment.settled_at.is_some(),
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

impl NonceLog {
    /// The height of the log's block.
    pub const fn block(&self) -> u64 {
        match self {
            Self::Canceled { block } | Self::Used { block, .. } => *block,
        }
    }
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

/// What a node shows about the transaction that a facilitator named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// No transaction is known.
    Nothing,
    /// The node does not show the transaction yet.
    Missing,
    /// The transaction failed, or does not use the nonce. This proves nothing about the nonce.
    Unrelated,
    /// The transaction uses the nonce: its log is in [`Evidence::logs`].
    Uses,
}

/// What a node shows about an authorization. Only what decides is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The newest block.
    pub head: Block,
    /// What the receipt of the named transaction shows.
    pub named: Named,
    /// Whether the nonce is used at the newest block; `None`: not read, since the receipt decides.
    pub used: Option<bool>,
    /// The logs about the nonce, from the receipt or from a search.
    pub logs: Vec<NonceLog>,
    /// The newest block that won't be replaced; `None`: not read.
    pub safe: Option<Block>,
    /// Whether the nonce is used at the safe block, which is named by its hash; `None`: not read.
    pub used_at_safe: Option<bool>,
}

impl Evidence {
    /// The height of the block with the log about the nonce; `None`: the node shows no log.
    pub fn block(&self) -> Option<u64> {
        self.logs.first().map(NonceLog::block)
    }

    /// Whether the block of this height won't be replaced.
    pub fn is_final(&self, block: u64) -> bool {
        self.safe.is_some_and(|safe| block <= safe.number)
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

/// Judges what a node shows (docs/payments.md, rule 5). Local clocks don't matter. A node that
/// contradicts itself has shown nothing.
pub fn judge(query: &Query, evidence: &Evidence) -> Verdict {
    let head = evidence.head.number;
    if evidence.block().is_some_and(|block| block > head) {
        return Verdict::Unclear;
    }
    // A nonce is used or cancelled once, so there is at most one log.
    match evidence.logs.first() {
        Some(_) if evidence.used == Some(false) => Verdict::Unclear,
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
            let depth = head - block + 1;
            if depth < u64::from(query.confirmations) {
                return Verdict::Unclear;
            }
            Verdict::Paid(Transfer {
                transaction: *transaction,
                log_index: Some(next.log_index),
            })
        }
        None if evidence.used != Some(false) || evidence.used_at_safe == Some(true) => {
            Verdict::Unclear
        }
        // The token accepts block times strictly before `validBefore`, so at that time the window
        // is over.
        None if evidence.used_at_safe == Some(false)
            && evidence
                .safe
                .is_some_and(|safe| safe.time >= query.valid_before) =>
        {
            Verdict::Void(EXPIRED)
        }
        None => Verdict::Unused,
    }
}

/// Whether what a second node shows rules out the verdict on what the first one shows. A second node
/// that is behind, or shows less, rules nothing out.
pub fn contradicts(
    (verdict, first): (Verdict, &Evidence),
    (other, second): (Verdict, &Evidence),
) -> bool {
    match (verdict, other) {
        (Verdict::Paid(one), Verdict::Paid(two)) => one.transaction != two.transaction,
        (Verdict::Paid(_), Verdict::Void(_)) | (Verdict::Void(_), Verdict::Paid(_)) => true,
        (Verdict::Void(one), Verdict::Void(two)) => one != two,
        // The second node has the block of the log, and says that nothing happened.
        (Verdict::Paid(_) | Verdict::Void(CANCELED | SPENT_ELSEWHERE), Verdict::Unused) => {
            first.block() <= Some(second.head.number)
        }
        // The nonce is used, although it never can be.
        (Verdict::Void(_), Verdict::Unclear) => first.logs.is_empty() && second.used == Some(true),
        _ => false,
    }
}

/// What a payer has on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Funds {
    /// A block of the last second.
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

/// A transaction that succeeded, with the token's transfers in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mined {
    /// The height of its block.
    pub block: u64,
    /// The transfers, in the order of their logs.
    pub transfers: Vec<TokenTransfer>,
}

/// A transfer of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenTransfer {
    /// The index of its log in the block.
    pub log_index: u64,
    /// The sender.
    pub from: Address,
    /// The recipient.
    pub to: Address,
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
    /// The same chain, read for somebody else.
    fn read_for(&self, reading: Reading) -> Arc<dyn Chain>;

    /// The EIP-155 id of the node's chain.
    async fn chain_id(&self) -> Result<u64, ChainError>;

    /// The newest block.
    async fn head(&self) -> Result<Block, ChainError>;

    /// The block at this height.
    async fn block(&self, number: u64) -> Result<Block, ChainError>;

    /// The newest block that won't be replaced: `safe`, or `finalized`, or a block far enough behind
    /// the newest.
    async fn safe(&self) -> Result<Block, ChainError>;

    /// The payer's balance, and whether the nonce is used, at the newest block.
    async fn funds(&self, payer: Address, nonce: B256) -> Result<Funds, ChainError>;

    /// What the node shows about an authorization.
    async fn evidence(&self, query: &Query) -> Result<Evidence, ChainError>;

    /// The token's transfers in a transaction. `None`: the node shows no such transaction, or it
    /// failed.
    async fn transfers_in(&self, transaction: B256) -> Result<Option<Mined>, ChainError>;

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
            transaction: None,
            finality: false,
        }
    }

    fn block(number: u64, seconds: i64) -> Block {
        Block {
            number,
            hash: B256::repeat_byte(9),
            time: Timestamp::from_seconds(seconds),
        }
    }

    fn evidence(safe_seconds: i64, used: bool, logs: Vec<NonceLog>) -> Evidence {
        Evidence {
            head: block(10, safe_seconds + 10),
            named: Named::Nothing,
            used: Some(used),
            logs,
            safe: Some(block(10, safe_seconds)),
            used_at_safe: Some(used),
        }
    }

    /// Evidence as a receipt gives it: nothing else is read.
    fn receipt(head: u64, log: NonceLog) -> Evidence {
        Evidence {
            head: block(head, 10),
            named: Named::Uses,
            used: None,
            logs: vec![log],
            safe: None,
            used_at_safe: None,
        }
    }

    /// Evidence of an unused nonce within its window: no safe block is read.
    fn unused() -> Evidence {
        Evidence {
            safe: None,
            used_at_safe: None,
            ..evidence(10, false, vec![])
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
    fn evidence_of_one_stage_is_judged_as_the_rules_say() {
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
            ("by a receipt alone", receipt(10, used(3, 10_000, 10)), paid),
            (
                "by a receipt above the head",
                receipt(9, used(3, 10_000, 10)),
                Verdict::Unclear,
            ),
            (
                "by a receipt of another transfer",
                receipt(10, used(4, 10_000, 10)),
                Verdict::Void(SPENT_ELSEWHERE),
            ),
            (
                "by a receipt without the transfer",
                receipt(10, unfollowed),
                Verdict::Unclear,
            ),
            ("unused, no safe block", unused(), Verdict::Unused),
            (
                "a log of an unused nonce",
                evidence(10, false, vec![used(3, 10_000, 9)]),
                Verdict::Unclear,
            ),
            (
                "a safe block that was read after a newer head",
                Evidence {
                    safe: Some(block(11, 5000)),
                    ..evidence(5000, false, vec![])
                },
                Verdict::Void(EXPIRED),
            ),
            (
                "used at the safe block, unused at the head",
                Evidence {
                    used_at_safe: Some(true),
                    ..evidence(5000, false, vec![])
                },
                Verdict::Unclear,
            ),
            (
                "nothing read about the nonce",
                Evidence {
                    used: None,
                    ..evidence(5000, false, vec![])
                },
                Verdict::Unclear,
            ),
        ];
        for (name, evidence, expected) in cases {
            assert_eq!(judge(&query(), &evidence), expected, "{name}");
        }
    }

    #[test]
    fn confirmations_are_counted_from_the_newest_block() {
        for (confirmations, head, is_paid) in [
            (0, 9, false),
            (0, 10, true),
            (1, 10, true),
            (2, 10, false),
            (2, 11, true),
            (60, 68, false),
            (60, 69, true),
        ] {
            let query = Query {
                confirmations,
                ..query()
            };
            let verdict = judge(&query, &receipt(head, used(3, 10_000, 10)));
            let name = format!("{confirmations} at {head}");
            assert_eq!(matches!(verdict, Verdict::Paid(_)), is_paid, "{name}");
        }
    }

    #[test]
    fn a_second_node_contradicts_only_what_it_could_have_seen() {
        let paid = receipt(10, used(3, 10_000, 10));
        let elsewhere = receipt(10, used(4, 10_000, 10));
        let expired = evidence(5000, false, vec![]);
        let behind = |mut evidence: Evidence, head: u64| {
            evidence.head.number = head;
            evidence.safe = None;
            evidence.used_at_safe = None;
            evidence
        };
        let missing = evidence(10, true, vec![]);
        let table = [
            ("the same", &paid, paid.clone(), false),
            ("a node behind", &paid, behind(expired.clone(), 9), false),
            (
                "a node that has the block",
                &paid,
                behind(expired.clone(), 10),
                true,
            ),
            ("a node without the logs", &paid, missing.clone(), false),
            ("another transfer", &paid, elsewhere.clone(), true),
            ("expired on both", &expired, expired.clone(), false),
            ("expired, and open still", &expired, unused(), false),
            ("expired, and paid", &expired, paid.clone(), true),
            ("expired, and used", &expired, missing, true),
        ];
        for (name, first, second, expected) in table {
            let query = query();
            let one = (judge(&query, first), first);
            let two = (judge(&query, &second), &second);
            assert_eq!(contradicts(one, two), expected, "{name}");
        }
    }

    #[test]
    fn a_safe_block_that_is_behind_decides_nothing() {
        let mut lagging = evidence(999, false, vec![]);
        lagging.head.time = Timestamp::from_seconds(9999);
        assert_eq!(judge(&query(), &lagging), Verdict::Unused);
        lagging.used = Some(true);
        assert_eq!(judge(&query(), &lagging), Verdict::Unclear);
    }
}
