//! Reads a chain through one or two JSON-RPC endpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes, U64, U256};
use alloy_rpc_types_eth::Log;
use alloy_sol_types::{SolCall, SolEvent};
use futures_util::future::{BoxFuture, join_all};
use serde::Deserialize;
use serde_json::{Value, json};

use super::node::{Bounds, Call, Node, by_hash, jittered, read, read_block};
use super::refusal::{Failure, Kind};
use super::search::{Order, Search, any_of, spans};
use super::{
    Block, Chain, ChainError, Evidence, Funds, IncomingTransfer, Mined, Named, NextTransfer,
    NonceLog, Priority, Query, Reading, TokenTransfer, Verdict, contradicts, judge,
};
use crate::evm::exact::{Token, VALID_SIGNATURE, Wallet};
use crate::evm::undeployed::Undeployed;
use crate::pricing::networks::Network;

/// How long a reading may take at least, however near its deadline is.
const SHORTEST: Duration = Duration::from_secs(2);
/// How long a reading without a deadline may take.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest pause before all endpoints are asked again, and the first.
const LONGEST_PAUSE_MS: u64 = 1_000;
const FIRST_PAUSE_MS: u64 = 300;
/// How long a second endpoint may take to confirm what ends a payment.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(3);
/// How long after the end of a payment's window its log is rather old than new.
const LATE: Duration = Duration::from_mins(1);

/// The JSON-RPC endpoints of a network.
#[derive(Debug, Clone)]
pub struct RpcChain {
    network: &'static Network,
    nodes: Arc<[Node]>,
    /// Whether the endpoints were last seen to contradict each other.
    is_torn: Arc<AtomicBool>,
    reading: Reading,
}

/// The fields of a transaction's receipt that are read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TransactionReceipt {
    status: Option<U64>,
    transaction_hash: B256,
    block_number: Option<U64>,
    logs: Vec<Log>,
}

/// A step of the search for what moves the money: an operation on one endpoint.
type Step<'a, T> = BoxFuture<'a, Result<T, Failure>>;

impl RpcChain {
    /// Creates a client for the chain of `network` at the endpoints `urls`, the preferred one first.
    ///
    /// # Errors
    /// No TLS client can be built, `urls` is empty, or one of them is not a URL.
    pub fn new<T: AsRef<str>>(network: &'static Network, urls: &[T]) -> anyhow::Result<Self> {
        anyhow::ensure!(!urls.is_empty(), "there is no JSON-RPC endpoint");
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let nodes = urls
            .iter()
            .map(|url| Node::new(client.clone(), url.as_ref(), urls.len() == 1))
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self {
            network,
            nodes: nodes.into(),
            is_torn: Arc::default(),
            reading: Reading::of(Priority::Known),
        })
    }

    /// Each endpoint as a chain of its own.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (&'static Network, &Node)> {
        self.nodes.iter().map(|node| (self.network, node))
    }

    /// Reads at the first endpoint that answers. A reading with a deadline is repeated until then,
    /// unless no endpoint has answered anything for a while.
    async fn read<'a, T>(
        &'a self,
        step: impl Fn(&'a Node, Bounds) -> Step<'a, T> + Sync,
    ) -> Result<T, ChainError> {
        let bounds = Bounds {
            priority: self.reading.priority,
            until: match self.reading.deadline {
                Some(deadline) => deadline.max(Instant::now() + SHORTEST),
                None => Instant::now() + LONGEST,
            },
        };
        let mut pause = FIRST_PAUSE_MS;
        loop {
            let mut last = None;
            let (well, failing): (Vec<_>, Vec<_>) =
                self.nodes.iter().partition(|node| !node.is_failing());
            for node in well.into_iter().chain(failing) {
                match step(node, bounds).await {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => last = Some(failure),
                }
            }
            let failure = last.unwrap_or_else(|| Failure::passing("there is no endpoint"));
            let is_hopeless = match failure.kind {
                Kind::Limited(_) => false,
                Kind::Passing => self.nodes.iter().all(Node::is_down),
                Kind::Refused => true,
            };
            let wait = jittered(pause);
            if is_hopeless
                || self
                    .reading
                    .deadline
                    .is_none_or(|deadline| Instant::now() + wait >= deadline)
            {
                return Err(ChainError(failure.message));
            }
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE_MS);
        }
    }

    /// The receipt of a transaction; `None`: the node shows none.
    async fn receipt_of(
        &self,
        transaction: B256,
    ) -> Result<Option<TransactionReceipt>, ChainError> {
        let call = || Call::receipt(transaction);
        self.read(|node, bounds| Box::pin(node.read(bounds, call())))
            .await
    }

    /// Asks the other endpoint about evidence that ends a payment.
    ///
    /// # Errors
    /// Both answered, and contradict each other.
    async fn confirm(
        &self,
        query: &Query,
        evidence: &Evidence,
        from: &Node,
    ) -> Result<(), ChainError> {
        let verdict = judge(query, evidence);
        let ends = match verdict {
            Verdict::Void(_) => true,
            Verdict::Paid(_) => query.confirmations > 0,
            Verdict::Unused | Verdict::Unclear => false,
        };
        let others = self.nodes.iter();
        let others = others.filter(|node| ends && !std::ptr::eq(*node, from) && !node.is_down());
        let bounds = Bounds {
            priority: self.reading.priority,
            until: Instant::now() + CONFIRMED_WITHIN,
        };
        let asked = others.map(|node| evidence_of(self.network, node, bounds, query));
        for second in join_all(asked).await.into_iter().flatten() {
            let other = judge(query, &second);
            if contradicts((verdict, evidence), (other, &second)) {
                if !self.is_torn.swap(true, Ordering::Relaxed) {
                    tracing::error!(network = self.network.name(), one = ?verdict, other = ?other,
                        "the two nodes contradict each other: neither counts until they agree");
                }
                return Err(ChainError("the two nodes contradict each other".to_owned()));
            }
        }
        if ends && self.is_torn.swap(false, Ordering::Relaxed) {
            tracing::warn!(network = self.network.name(), "the two nodes agree again");
        }
        Ok(())
    }
}

/// Reads evidence in stages, until it decides.
pub(super) async fn evidence_of(
    network: &'static Network,
    node: &Node,
    bounds: Bounds,
    query: &Query,
) -> Result<Evidence, Failure> {
    let mut named = Named::Nothing;
    if let Some(transaction) = query.transaction {
        let calls = [Call::receipt(transaction), Call::block("latest")];
        let tag = node.safe_tag().filter(|_| query.finality);
        let (receipt, head, safe) = if let Some(tag) = tag {
            let [receipt, head] = calls;
            let calls = [receipt, head, Call::block(tag)];
            let [receipt, head, safe] = node.batch(bounds, calls).await;
            (receipt, head, safe.and_then(read_block).ok())
        } else {
            let [receipt, head] = node.batch(bounds, calls).await;
            (receipt, head, None)
        };
        let receipt: Option<TransactionReceipt> = read(receipt?)?;
        let head = read_block(head?)?;
        node.keep_head(head);
        let log = receipt
            .as_ref()
            .and_then(|receipt| log_in(network, query, receipt));
        if let Some(log) = log {
            let safe = match safe {
                Some(safe) => Some(safe),
                None => final_block(node, bounds, query).await?,
            };
            return Ok(Evidence {
                head,
                named: Named::Uses,
                used: None,
                logs: vec![log],
                safe,
                used_at_safe: None,
            });
        }
        named = if receipt.is_some() {
            Named::Unrelated
        } else {
            Named::Missing
        };
    }
    let state = state_at(network, query, &json!("latest"));
    let [head, used] = node.batch(bounds, [Call::block("latest"), state]).await;
    let (head, used) = (read_block(head?)?, read_state(used?)?);
    node.keep_head(head);
    let mut evidence = Evidence {
        head,
        named,
        used: Some(used),
        logs: Vec::new(),
        safe: None,
        used_at_safe: None,
    };
    if used {
        evidence.logs = find_logs(network, node, bounds, query, head).await?;
        evidence.safe = final_block(node, bounds, query).await?;
    } else if head.time >= query.valid_before {
        let safe = node.safe(bounds).await?;
        let state = state_at(network, query, &by_hash(safe.hash));
        let used_at_safe = read_state(node.read(bounds, state).await?)?;
        evidence.safe = Some(safe);
        evidence.used_at_safe = Some(used_at_safe);
    }
    Ok(evidence)
}

/// The newest block that won't be replaced, if the query needs it.
async fn final_block(node: &Node, bounds: Bounds, query: &Query) -> Result<Option<Block>, Failure> {
    if !query.finality {
        return Ok(None);
    }
    node.safe(bounds).await.map(Some)
}

fn state_at(network: &Network, query: &Query, at: &Value) -> Call {
    Call::token(network.usdc, &state_input(query.payer, query.nonce), at)
}

fn state_input(payer: Address, nonce: B256) -> Bytes {
    let call = Token::authorizationStateCall {
        authorizer: payer,
        nonce,
    };
    Bytes::from(call.abi_encode())
}

fn read_state(result: Value) -> Result<bool, Failure> {
    decode::<Token::authorizationStateCall>(result)
}

fn decode<C: SolCall>(result: Value) -> Result<C::Return, Failure> {
    let answer: Bytes = read(result)?;
    C::abi_decode_returns(&answer)
        .map_err(|_| Failure::passing("the token contract's answer can't be decoded"))
}

/// Searches for the logs about a nonce, and reads what follows them in their transaction: at most
/// one log, since a nonce is used once.
async fn find_logs(
    network: &'static Network,
    node: &Node,
    bounds: Bounds,
    query: &Query,
    head: Block,
) -> Result<Vec<NonceLog>, Failure> {
    let events = [
        Token::AuthorizationUsed::SIGNATURE_HASH,
        Token::AuthorizationCanceled::SIGNATURE_HASH,
    ];
    let search = Search {
        contract: network.usdc,
        topics: json!([any_of(&events), query.payer.into_word(), query.nonce]),
        first: query.first_block.min(head.number),
        last: head.number,
        order: if head.time < query.valid_before.plus(LATE) {
            Order::NewestFirst
        } else {
            Order::OldestFirst
        },
    };
    for log in node.search(bounds, &search, false).await? {
        let Some(transaction) = log.transaction_hash else {
            continue;
        };
        if let Some(block) = canceled_in(query, &log) {
            return Ok(vec![NonceLog::Canceled { block }]);
        }
        let receipt: Option<TransactionReceipt> =
            node.read(bounds, Call::receipt(transaction)).await?;
        let found = match receipt {
            Some(receipt) => log_in(network, query, &receipt),
            // Some nodes show logs before they show receipts.
            None => followed(network, node, bounds, query, &log).await?,
        };
        return Ok(found.into_iter().collect());
    }
    Ok(Vec::new())
}

/// A log of the nonce's use, with the transfer that follows it by the logs of its block. `None`: the
/// log is not about this nonce.
async fn followed(
    network: &'static Network,
    node: &Node,
    bounds: Bounds,
    query: &Query,
    log: &Log,
) -> Result<Option<NonceLog>, Failure> {
    let (Some(transaction), Some(block), Some(index), Some(_)) = (
        log.transaction_hash,
        log.block_number,
        log.log_index,
        used_in(query, log),
    ) else {
        return Ok(None);
    };
    let event = Token::Transfer::SIGNATURE_HASH;
    let search = Search {
        contract: network.usdc,
        topics: json!([event, query.payer.into_word()]),
        first: block,
        last: block,
        order: Order::OldestFirst,
    };
    let transfers = node.search(bounds, &search, true).await?;
    let transfers = transfers.iter();
    let mut transfers = transfers.filter(|log| log.transaction_hash == Some(transaction));
    Ok(Some(NonceLog::Used {
        transaction,
        block,
        next: transfers.find_map(|log| transfer_at(query, log, index.checked_add(1)?)),
    }))
}

/// The index of a log by which a transfer used the nonce.
fn used_in(query: &Query, log: &Log) -> Option<u64> {
    let used = Token::AuthorizationUsed::decode_log(&log.inner).ok()?;
    let is_ours = used.authorizer == query.payer && used.nonce == query.nonce;
    log.log_index.filter(|_| is_ours)
}

/// The payer's transfer in a log of this index.
fn transfer_at(query: &Query, log: &Log, index: u64) -> Option<NextTransfer> {
    let transfer = Token::Transfer::decode_log(&log.inner).ok()?;
    let is_it = log.log_index == Some(index) && transfer.from == query.payer;
    is_it.then_some(NextTransfer {
        to: transfer.to,
        value: transfer.value,
        log_index: index,
    })
}

/// The block of a log by which the payer cancelled the authorization.
fn canceled_in(query: &Query, log: &Log) -> Option<u64> {
    let canceled = Token::AuthorizationCanceled::decode_log(&log.inner).ok()?;
    let is_ours = canceled.authorizer == query.payer && canceled.nonce == query.nonce;
    log.block_number.filter(|_| is_ours)
}

/// What a transaction that succeeded did with the nonce. `None`: nothing.
fn log_in(network: &Network, query: &Query, receipt: &TransactionReceipt) -> Option<NonceLog> {
    let block = receipt.block_number?.to();
    if receipt.status.is_none_or(|status| status.is_zero()) {
        return None;
    }
    let of_token = receipt.logs.iter();
    let of_token = of_token.filter(|log| log.address() == network.usdc && !log.removed);
    let logs: Vec<&Log> = of_token.collect();
    let used = logs.iter().find_map(|log| used_in(query, log));
    let Some(index) = used else {
        let canceled = logs.iter().find_map(|log| canceled_in(query, log))?;
        return (canceled == block).then_some(NonceLog::Canceled { block });
    };
    // USDC emits the two logs in this order, with nothing in between.
    let follows = index.checked_add(1)?;
    let next = logs.iter().find_map(|log| transfer_at(query, log, follows));
    Some(NonceLog::Used {
        transaction: receipt.transaction_hash,
        block,
        next,
    })
}

#[async_trait::async_trait]
impl Chain for RpcChain {
    fn read_for(&self, reading: Reading) -> Arc<dyn Chain> {
        Arc::new(Self {
            reading,
            ..self.clone()
        })
    }

    async fn chain_id(&self) -> Result<u64, ChainError> {
        let call = || Call::new("eth_chainId", json!([]));
        let id: U64 = self
            .read(|node, bounds| Box::pin(node.read(bounds, call())))
            .await?;
        Ok(id.to())
    }

    async fn head(&self) -> Result<Block, ChainError> {
        self.read(|node, bounds| Box::pin(node.head(bounds))).await
    }

    async fn block(&self, number: u64) -> Result<Block, ChainError> {
        let name = format!("{number:#x}");
        let block = self
            .read(|node, bounds| {
                let name = name.clone();
                Box::pin(async move { node.block(bounds, &name).await })
            })
            .await?;
        block.ok_or_else(|| ChainError(format!("it does not know block {number}")))
    }

    async fn safe(&self) -> Result<Block, ChainError> {
        self.read(|node, bounds| Box::pin(node.safe(bounds))).await
    }

    async fn funds(&self, payer: Address, nonce: B256) -> Result<Funds, ChainError> {
        let usdc = self.network.usdc;
        let balance = Token::balanceOfCall { account: payer };
        let balance = Bytes::from(balance.abi_encode());
        let at = json!("latest");
        let state = Call::token(usdc, &state_input(payer, nonce), &at);
        let balance = Call::token(usdc, &balance, &at);
        self.read(|node, bounds| {
            let (state, balance) = (state.clone(), balance.clone());
            Box::pin(async move {
                let (head, state, balance) = if let Some(head) = node.kept_head() {
                    let [state, balance] = node.batch(bounds, [state, balance]).await;
                    (head, state?, balance?)
                } else {
                    let calls = [Call::block("latest"), state, balance];
                    let [head, state, balance] = node.batch(bounds, calls).await;
                    let head = read_block(head?)?;
                    node.keep_head(head);
                    (head, state?, balance?)
                };
                Ok(Funds {
                    head,
                    nonce_used: read_state(state)?,
                    balance: decode::<Token::balanceOfCall>(balance)?,
                })
            })
        })
        .await
    }

    async fn evidence(&self, query: &Query) -> Result<Evidence, ChainError> {
        let (evidence, node) = self
            .read(|node, bounds| {
                let query = query.clone();
                Box::pin(async move {
                    let evidence = evidence_of(self.network, node, bounds, &query).await?;
                    Ok((evidence, node))
                })
            })
            .await?;
        self.confirm(query, &evidence, node).await?;
        Ok(evidence)
    }

    async fn transfers_in(&self, transaction: B256) -> Result<Option<Mined>, ChainError> {
        let receipt = self.receipt_of(transaction).await?;
        let mined = receipt.and_then(|receipt| {
            let is_done = receipt.status.is_some_and(|status| !status.is_zero());
            let block = receipt.block_number.filter(|_| is_done)?.to();
            let of_token = receipt.logs.iter();
            let of_token =
                of_token.filter(|log| log.address() == self.network.usdc && !log.removed);
            let transfers = of_token.filter_map(|log| {
                let transfer = Token::Transfer::decode_log(&log.inner).ok()?;
                Some(TokenTransfer {
                    log_index: log.log_index?,
                    from: transfer.from,
                    to: transfer.to,
                    value: transfer.value,
                })
            });
            Some(Mined {
                block,
                transfers: transfers.collect(),
            })
        });
        Ok(mined)
    }

    async fn nonce_of(&self, receipt: &IncomingTransfer) -> Result<Option<B256>, ChainError> {
        let found = self.receipt_of(receipt.transaction).await?;
        let found = found.ok_or_else(|| {
            ChainError("it does not show a transaction whose log it shows".into())
        })?;
        Ok(found.logs.iter().find_map(|log| {
            // USDC emits the two logs in this order, with nothing in between.
            let precedes = log.address() == self.network.usdc
                && log.log_index.and_then(|index| index.checked_add(1)) == Some(receipt.log_index);
            let used = Token::AuthorizationUsed::decode_log(&log.inner).ok()?;
            (precedes && used.authorizer == receipt.from).then_some(used.nonce)
        }))
    }

    async fn is_signed(
        &self,
        account: Address,
        digest: B256,
        signature: &Bytes,
    ) -> Result<bool, ChainError> {
        let question = Wallet::isValidSignatureCall {
            hash: digest,
            signature: signature.clone(),
        };
        let input = Bytes::from(question.abi_encode());
        let call = || match Undeployed::read(signature) {
            Some(wallet) => Call::deployment(&wallet.check(account, digest)),
            None => Call::contract(account, &input, &json!("latest")),
        };
        self.read(|node, bounds| {
            let call = call();
            Box::pin(async move {
                match node.read::<Bytes>(bounds, call).await {
                    Ok(answer) => Ok(Wallet::isValidSignatureCall::abi_decode_returns(&answer)
                        .is_ok_and(|answer| answer == VALID_SIGNATURE)),
                    // Some wallets reject a signature by reverting.
                    Err(failure) if failure.is_revert() => Ok(false),
                    Err(failure) => Err(failure),
                }
            })
        })
        .await
    }

    async fn receipts(
        &self,
        recipient: Address,
        first_block: u64,
        last_block: u64,
    ) -> Result<Vec<IncomingTransfer>, ChainError> {
        let event = Token::Transfer::SIGNATURE_HASH;
        let mut logs = Vec::new();
        for (first, last) in spans(first_block, last_block) {
            let search = Search {
                contract: self.network.usdc,
                topics: json!([event, null, recipient.into_word()]),
                first,
                last,
                order: Order::OldestFirst,
            };
            let found = self.read(|node, bounds| {
                let search = search.clone();
                Box::pin(async move { node.search(bounds, &search, true).await })
            });
            logs.extend(found.await?);
        }
        let receipts = logs.iter().filter_map(|log| {
            let transfer = Token::Transfer::decode_log(&log.inner).ok()?;
            Some(IncomingTransfer {
                transaction: log.transaction_hash?,
                log_index: log.log_index?,
                block: log.block_number?,
                from: transfer.from,
                value: transfer.value,
            })
            .filter(|_| transfer.to == recipient && transfer.value > U256::ZERO)
        });
        Ok(receipts.collect())
    }
}
