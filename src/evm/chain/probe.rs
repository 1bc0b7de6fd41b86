//! Tries every kind of reading that payments need, for `pixtoll config check --online`.

use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes};
use alloy_rpc_types_eth::Log;
use alloy_sol_types::{SolCall, SolEvent};
use serde_json::{Value, json};

use super::node::{Bounds, Call, Node, by_hash};
use super::refusal::Failure;
use super::rpc::RpcChain;
use super::search::{Order, Search};
use super::{Block, Priority};
use crate::evm::exact::Token;
use crate::pricing::networks::Network;
use crate::system::clock::Timestamp;

/// How long all readings of one endpoint may take.
const LONGEST: Duration = Duration::from_mins(1);
/// The greatest age of a node's newest block.
const LONGEST_BEHIND: Duration = Duration::from_mins(2);
/// How many blocks a search for the log of a payment may span.
const SEARCHED: u64 = 360;
/// How many blocks are searched for a recent transaction of the token.
const RECENT: u64 = 5;

/// What an endpoint was asked, and what it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The reading, as a noun.
    pub what: &'static str,
    /// How well it went.
    pub result: Outcome,
}

/// How well a reading went. The text is for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Well(String),
    /// Payments work, at a cost that the text names.
    Costs(String),
    /// Payments don't work.
    Fails(String),
}

/// Tries every kind of reading that payments need, at each endpoint, the preferred one first.
pub async fn probe(chain: &RpcChain, now: Timestamp) -> Vec<Vec<Finding>> {
    let mut all = Vec::new();
    for (network, node) in chain.endpoints() {
        let bounds = Bounds {
            priority: Priority::Known,
            until: Instant::now() + LONGEST,
        };
        let mut probe = Probe {
            network,
            node,
            bounds,
            findings: Vec::new(),
        };
        probe.run(now).await;
        all.push(probe.findings);
    }
    all
}

struct Probe<'a> {
    network: &'static Network,
    node: &'a Node,
    bounds: Bounds,
    findings: Vec<Finding>,
}

impl Probe<'_> {
    fn note(&mut self, what: &'static str, result: Outcome) {
        self.findings.push(Finding { what, result });
    }

    fn fails(&mut self, what: &'static str, failure: &Failure, cost: &str) {
        let text = format!("{}; {cost}", failure.message);
        self.note(what, Outcome::Fails(text));
    }

    fn costs(&mut self, what: &'static str, failure: &Failure, cost: &str) {
        let text = format!("{}; {cost}", failure.message);
        self.note(what, Outcome::Costs(text));
    }

    async fn run(&mut self, now: Timestamp) {
        let Some(head) = self.head(now).await else {
            return;
        };
        self.state(head).await;
        self.batch().await;
        self.safe(head).await;
        self.receipt(head).await;
        self.search(head).await;
    }

    async fn head(&mut self, now: Timestamp) -> Option<Block> {
        let what = "newest block";
        match self.node.head(self.bounds).await {
            Ok(head) if now.since(head.time) > LONGEST_BEHIND => {
                let text = format!(
                    "the node's newest block is {} seconds old, but at most {} are allowed; set another rpc_url",
                    now.since(head.time).as_secs(),
                    LONGEST_BEHIND.as_secs()
                );
                self.note(what, Outcome::Fails(text));
                None
            }
            Ok(head) => {
                let text = format!("the node answers, at block {}", head.number);
                self.note(what, Outcome::Well(text));
                Some(head)
            }
            Err(failure) => {
                self.fails(what, &failure, "nothing can be sold");
                None
            }
        }
    }

    /// Balance and nonce, at the newest block and by the block's hash.
    async fn state(&mut self, head: Block) {
        let usdc = self.network.usdc;
        let account = Address::repeat_byte(1);
        let balance = Token::balanceOfCall { account };
        let nonce = Token::authorizationStateCall {
            authorizer: account,
            nonce: B256::repeat_byte(1),
        };
        let (balance, nonce) = (
            Bytes::from(balance.abi_encode()),
            Bytes::from(nonce.abi_encode()),
        );
        let latest = json!("latest");
        let calls: [(&'static str, Call, &str); 3] = [
            (
                "balance",
                Call::contract(usdc, &balance, &latest),
                "nothing can be sold",
            ),
            (
                "nonce",
                Call::contract(usdc, &nonce, &latest),
                "nothing can be sold",
            ),
            (
                "nonce by the hash of a block",
                Call::contract(usdc, &nonce, &by_hash(head.hash)),
                "a payment whose settlement was lost stays open for ever, and more than 20 of them pause sales",
            ),
        ];
        for (what, call, cost) in calls {
            match self.node.read::<Bytes>(self.bounds, call).await {
                Ok(bytes) if bytes.is_empty() => {
                    let text = format!("the node shows no token contract at {usdc}; {cost}");
                    self.note(what, Outcome::Fails(text));
                }
                Ok(_) => self.note(what, Outcome::Well("answered".to_owned())),
                Err(failure) => self.fails(what, &failure, cost),
            }
        }
    }

    async fn batch(&mut self) {
        let calls = [Call::block("latest"), Call::block("latest")];
        let [one, two] = self.node.batch(self.bounds, calls).await;
        let outcome = match one.and(two) {
            Ok(_) if self.node.refuses_batches() => Outcome::Costs(
                "the node refuses several calls in one request: a sale takes three requests instead of one"
                    .to_owned(),
            ),
            Ok(_) => Outcome::Well("answered".to_owned()),
            Err(failure) => Outcome::Fails(failure.message),
        };
        self.note("batch", outcome);
    }

    async fn safe(&mut self, head: Block) {
        let what = "safe block";
        let outcome = match self.node.safe(self.bounds).await {
            Ok(safe) => {
                let by = self.node.safe_by();
                let behind = head.number.saturating_sub(safe.number);
                let text = format!("by {by}, {behind} blocks behind the newest");
                if by == "safe" {
                    Outcome::Well(text)
                } else {
                    Outcome::Costs(format!(
                        "the node does not know the tag `safe`: a block counts as safe {text}, so payments that \
                         never settled fail later"
                    ))
                }
            }
            Err(failure) => Outcome::Fails(format!(
                "{}; a payment that never settled stays open for ever",
                failure.message
            )),
        };
        self.note(what, outcome);
    }

    /// The receipt of a recent transaction of the token.
    async fn receipt(&mut self, head: Block) {
        let what = "receipt";
        let event = Token::Transfer::SIGNATURE_HASH;
        let search = self.search_for(json!([event]), head, RECENT);
        let found: Result<Vec<Log>, Failure> = self.node.search(self.bounds, &search, false).await;
        let mut recent = found.ok().into_iter().flatten();
        let recent = recent.find_map(|log| log.transaction_hash);
        let asked = recent.unwrap_or(B256::repeat_byte(1));
        let receipt: Result<Value, Failure> =
            self.node.read(self.bounds, Call::receipt(asked)).await;
        match (receipt, recent) {
            (Ok(Value::Null), Some(transaction)) => {
                let text = format!(
                    "the node shows no receipt of {transaction}, whose log it shows; tiers with confirmations sell late"
                );
                self.note(what, Outcome::Fails(text));
            }
            (Ok(_), Some(_)) => self.note(what, Outcome::Well("answered".to_owned())),
            (Ok(_), None) => {
                let text = "answered; no recent transaction of the token was found to try it with";
                self.note(what, Outcome::Well(text.to_owned()));
            }
            (Err(failure), _) => {
                self.fails(what, &failure, "tiers with confirmations can't be sold");
            }
        }
    }

    /// Logs over as many blocks as the search for a payment spans.
    async fn search(&mut self, head: Block) {
        let what = "logs";
        let events = [Token::AuthorizationUsed::SIGNATURE_HASH];
        let nobody = B256::repeat_byte(1);
        let search = self.search_for(json!([events, nobody, nobody]), head, SEARCHED);
        match self.node.search(self.bounds, &search, true).await {
            Ok(_) => {
                let blocks = self.node.blocks_a_query();
                let outcome = if blocks > SEARCHED {
                    Outcome::Well(format!("answered, for {SEARCHED} blocks"))
                } else {
                    Outcome::Costs(format!(
                        "the node answers logs of about {blocks} blocks a query: finding a lost settlement takes up \
                         to {} calls",
                        SEARCHED / blocks.max(1) + 1
                    ))
                };
                self.note(what, outcome);
            }
            Err(failure) => self.costs(
                what,
                &failure,
                "a payment whose settlement was lost, and whose transaction is not known, stays open",
            ),
        }
    }

    fn search_for(&self, topics: Value, head: Block, blocks: u64) -> Search {
        Search {
            contract: self.network.usdc,
            topics,
            first: head.number.saturating_sub(blocks),
            last: head.number,
            order: Order::NewestFirst,
        }
    }
}
