//! Reads a chain through a JSON-RPC endpoint, with alloy.

use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_provider::network::TransactionBuilder;
use alloy_provider::transport::RpcError;
use alloy_provider::{Provider, ProviderBuilder, RootProvider};
use alloy_rpc_types_eth::{BlockId, BlockNumberOrTag, Filter, Log, TransactionRequest};
use alloy_sol_types::{SolCall, SolEvent};

use super::{
    Block, Chain, ChainError, Evidence, Funds, IncomingTransfer, NextTransfer, NonceLog, Query,
};
use crate::pricing::networks::Network;
use crate::system::clock::Timestamp;
use crate::x402::evm::{Token, VALID_SIGNATURE, Wallet};
use crate::x402::undeployed::Undeployed;

/// The timeout of a call. After it, the node counts as not answering.
const TIMEOUT: Duration = Duration::from_secs(8);
/// The number of blocks in one query for logs, which nodes limit.
const LOG_SPAN: u64 = 2_000;

/// The error code of a call that the contract rejected. Some nodes only say so in the message.
const REVERTED: i64 = 3;

/// The JSON-RPC endpoint of a network.
#[derive(Debug)]
pub struct RpcChain {
    network: &'static Network,
    provider: RootProvider,
}

impl RpcChain {
    /// Creates a client for the chain of `network` at `url`.
    ///
    /// # Errors
    /// No TLS client can be built, or `url` is not a URL.
    pub fn new(network: &'static Network, url: &str) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .no_proxy()
            .build()?;
        let provider = ProviderBuilder::new()
            .disable_recommended_fillers()
            .connect_reqwest(client, url.parse()?);
        Ok(Self { network, provider })
    }

    async fn block_at(&self, tag: BlockNumberOrTag) -> Result<Block, ChainError> {
        let block = self
            .provider
            .get_block_by_number(tag)
            .await
            .map_err(failed)?
            .ok_or_else(|| ChainError(format!("it returned no {tag} block")))?;
        let header = &block.header;
        Ok(Block {
            number: header.inner.number,
            hash: header.hash,
            time: Timestamp::from_seconds(
                i64::try_from(header.inner.timestamp).unwrap_or(i64::MAX),
            ),
        })
    }

    async fn call<C: SolCall>(&self, call: C, at: BlockId) -> Result<C::Return, ChainError> {
        let request = TransactionRequest::default()
            .with_to(self.network.usdc)
            .with_input(Bytes::from(call.abi_encode()));
        let answer = self
            .provider
            .call(request)
            .block(at)
            .await
            .map_err(failed)?;
        C::abi_decode_returns(&answer)
            .map_err(|_| ChainError("the token contract's answer can't be decoded".to_owned()))
    }

    async fn is_used(&self, payer: Address, nonce: B256, at: &Block) -> Result<bool, ChainError> {
        let call = Token::authorizationStateCall {
            authorizer: payer,
            nonce,
        };
        self.call(call, BlockId::hash(at.hash)).await
    }

    async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, ChainError> {
        let logs = self.provider.get_logs(filter).await.map_err(failed)?;
        Ok(logs
            .into_iter()
            .filter(|log| !log.removed && log.address() == self.network.usdc)
            .collect())
    }

    /// Reads the logs about a nonce: at most one, since a nonce is used once.
    async fn nonce_logs(&self, query: &Query, head: u64) -> Result<Vec<NonceLog>, ChainError> {
        for (first, last) in spans(query.first_block, head) {
            let filter = Filter::new()
                .address(self.network.usdc)
                .event_signature(vec![
                    Token::AuthorizationUsed::SIGNATURE_HASH,
                    Token::AuthorizationCanceled::SIGNATURE_HASH,
                ])
                .topic1(query.payer.into_word())
                .topic2(query.nonce)
                .from_block(first)
                .to_block(last);
            let mut found = Vec::new();
            for log in self.logs(&filter).await? {
                found.extend(self.nonce_log(query, &log).await?);
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    /// Checks one log and reads the transfer after it. A node that ignores the filter of a query
    /// must not settle a payment.
    async fn nonce_log(&self, query: &Query, log: &Log) -> Result<Option<NonceLog>, ChainError> {
        let ours = |payer: Address, nonce: B256| payer == query.payer && nonce == query.nonce;
        if let Ok(canceled) = Token::AuthorizationCanceled::decode_log(&log.inner) {
            let block = log
                .block_number
                .filter(|_| ours(canceled.authorizer, canceled.nonce));
            return Ok(block.map(|block| NonceLog::Canceled { block }));
        }
        let Ok(used) = Token::AuthorizationUsed::decode_log(&log.inner) else {
            return Ok(None);
        };
        let (Some(transaction), Some(block), Some(hash), Some(index)) = (
            log.transaction_hash,
            log.block_number,
            log.block_hash,
            log.log_index,
        ) else {
            return Ok(None);
        };
        if !ours(used.authorizer, used.nonce) {
            return Ok(None);
        }
        let filter = Filter::new()
            .address(self.network.usdc)
            .event_signature(Token::Transfer::SIGNATURE_HASH)
            .topic1(query.payer.into_word())
            .at_block_hash(hash);
        let next = self.logs(&filter).await?.iter().find_map(|log| {
            // USDC emits the two logs in this order, with nothing in between.
            let follows =
                log.transaction_hash == Some(transaction) && log.log_index == Some(index + 1);
            let transfer = Token::Transfer::decode_log(&log.inner).ok()?;
            (follows && transfer.from == query.payer).then_some(NextTransfer {
                to: transfer.to,
                value: transfer.value,
                log_index: index + 1,
            })
        });
        Ok(Some(NonceLog::Used {
            transaction,
            block,
            next,
        }))
    }
}

#[async_trait::async_trait]
impl Chain for RpcChain {
    async fn chain_id(&self) -> Result<u64, ChainError> {
        self.provider.get_chain_id().await.map_err(failed)
    }

    async fn head(&self) -> Result<Block, ChainError> {
        self.block_at(BlockNumberOrTag::Latest).await
    }

    async fn block(&self, number: u64) -> Result<Block, ChainError> {
        self.block_at(BlockNumberOrTag::Number(number)).await
    }

    async fn safe(&self) -> Result<Block, ChainError> {
        self.block_at(BlockNumberOrTag::Safe).await
    }

    async fn funds(&self, payer: Address, nonce: B256) -> Result<Funds, ChainError> {
        let head = self.head().await?;
        let at = BlockId::hash(head.hash);
        let (nonce_used, balance) = tokio::try_join!(
            self.is_used(payer, nonce, &head),
            self.call(Token::balanceOfCall { account: payer }, at),
        )?;
        Ok(Funds {
            head,
            nonce_used,
            balance,
        })
    }

    async fn evidence(&self, query: &Query) -> Result<Evidence, ChainError> {
        let (safe, head) = tokio::try_join!(self.safe(), self.head())?;
        let (used_at_safe, used_at_head, logs) = tokio::try_join!(
            self.is_used(query.payer, query.nonce, &safe),
            self.is_used(query.payer, query.nonce, &head),
            self.nonce_logs(query, head.number),
        )?;
        Ok(Evidence {
            head,
            safe,
            used_at_safe,
            used_at_head,
            logs,
        })
    }

    async fn nonce_of(&self, receipt: &IncomingTransfer) -> Result<Option<B256>, ChainError> {
        let filter = Filter::new()
            .address(self.network.usdc)
            .event_signature(Token::AuthorizationUsed::SIGNATURE_HASH)
            .topic1(receipt.from.into_word())
            .from_block(receipt.block)
            .to_block(receipt.block);
        let logs = self.logs(&filter).await?;
        Ok(logs.iter().find_map(|log| {
            // USDC emits the two logs in this order, with nothing in between.
            let precedes = log.transaction_hash == Some(receipt.transaction)
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
        let request = match Undeployed::read(signature) {
            Some(wallet) => TransactionRequest::default().with_input(wallet.check(account, digest)),
            None => TransactionRequest::default()
                .with_to(account)
                .with_input(Bytes::from(question.abi_encode())),
        };
        match self.provider.call(request).await {
            Ok(answer) => Ok(Wallet::isValidSignatureCall::abi_decode_returns(&answer)
                .is_ok_and(|answer| answer == VALID_SIGNATURE)),
            // Some wallets reject a signature by reverting.
            Err(RpcError::ErrorResp(refusal))
                if refusal.code == REVERTED || refusal.message.contains("revert") =>
            {
                Ok(false)
            }
            Err(error) => Err(failed(error)),
        }
    }

    async fn receipts(
        &self,
        recipient: Address,
        first_block: u64,
        last_block: u64,
    ) -> Result<Vec<IncomingTransfer>, ChainError> {
        let mut receipts = Vec::new();
        for (first, last) in spans(first_block, last_block) {
            let filter = Filter::new()
                .address(self.network.usdc)
                .event_signature(Token::Transfer::SIGNATURE_HASH)
                .topic2(recipient.into_word())
                .from_block(first)
                .to_block(last);
            receipts.extend(self.logs(&filter).await?.iter().filter_map(|log| {
                let transfer = Token::Transfer::decode_log(&log.inner).ok()?;
                Some(IncomingTransfer {
                    transaction: log.transaction_hash?,
                    log_index: log.log_index?,
                    block: log.block_number?,
                    from: transfer.from,
                    value: transfer.value,
                })
                .filter(|_| transfer.to == recipient && transfer.value > U256::ZERO)
            }));
        }
        Ok(receipts)
    }
}

/// Splits blocks `first..=last` into spans of at most [`LOG_SPAN`].
fn spans(first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut next = first;
    std::iter::from_fn(move || {
        let start = next;
        next = start.saturating_add(LOG_SPAN);
        (start <= last).then(|| (start, last.min(next - 1)))
    })
}

/// Turns a transport error into a message without the URL, which may hold an operator's key.
fn failed(error: alloy_provider::transport::TransportError) -> ChainError {
    ChainError(match error {
        RpcError::ErrorResp(answer) => format!("it returned error {}", answer.code),
        RpcError::NullResp => "it returned null".to_owned(),
        RpcError::DeserError { .. } => "its answer can't be decoded".to_owned(),
        _ => "it did not answer in time".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cover_every_block_once() {
        assert_eq!(spans(5, 4).count(), 0);
        assert_eq!(spans(5, 5).collect::<Vec<_>>(), [(5, 5)]);
        assert_eq!(
            spans(0, 2000).collect::<Vec<_>>(),
            [(0, 1999), (2000, 2000)]
        );
        assert_eq!(
            spans(10, 4_009).collect::<Vec<_>>(),
            [(10, 2009), (2010, 4009)]
        );
    }
}
