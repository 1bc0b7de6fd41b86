//! The chain's JSON-RPC interface: reads only, in the shape that Ethereum clients expect. No method
//! here can move money.

use actix_web::HttpResponse;
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use alloy_primitives::{Address, B256, Bloom, Bytes as Hex, U64, U256, keccak256};
use alloy_sol_types::{SolCall, SolValue};
use serde_json::{Value, json};

use super::state::{Block, LogFilter, Mined, TokenLog};
use super::{Sandbox, SandboxError};
use crate::x402::evm::Token;

/// The largest request that is read.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// The most calls in one batch.
const MAX_BATCH: usize = 100;
/// The most logs in one answer.
const MAX_LOGS: u32 = 10_000;
/// The most values that are looked for in one topic.
const MAX_ALTERNATIVES: usize = 1000;
/// What a transaction is said to have used; nobody pays for it.
const GAS: u64 = 86_000;
const GAS_LIMIT: u64 = 30_000_000;
const CLIENT_VERSION: &str = "pixtoll-sandbox (play money)";

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.app_data(web::PayloadConfig::new(MAX_BODY_BYTES))
        .route("/", web::post().to(answer));
}

async fn answer(sandbox: Data<Sandbox>, body: Result<Bytes, actix_web::Error>) -> HttpResponse {
    let request = body
        .ok()
        .and_then(|body| serde_json::from_slice::<Value>(&body).ok());
    let chain = Sandbox::clone(&sandbox);
    let work = async move {
        match request {
            None => Some(refusal(
                &Value::Null,
                &RpcError::new(-32700, "the body is not JSON"),
            )),
            Some(Value::Array(calls)) => answer_batch(&chain, &calls).await,
            Some(call) => answer_call(&chain, &call).await,
        }
    };
    match sandbox.see_through(work).await {
        Some(Some(reply)) => HttpResponse::Ok().json(reply),
        Some(None) => HttpResponse::NoContent().finish(),
        None => HttpResponse::ServiceUnavailable().finish(),
    }
}

async fn answer_batch(sandbox: &Sandbox, calls: &[Value]) -> Option<Value> {
    if calls.is_empty() || calls.len() > MAX_BATCH {
        let error = RpcError::new(-32600, format!("a batch has 1 to {MAX_BATCH} calls"));
        return Some(refusal(&Value::Null, &error));
    }
    let mut replies = Vec::with_capacity(calls.len());
    for call in calls {
        replies.extend(answer_call(sandbox, call).await);
    }
    (!replies.is_empty()).then_some(Value::Array(replies))
}

/// `None` for a notification, which wants no reply.
async fn answer_call(sandbox: &Sandbox, call: &Value) -> Option<Value> {
    let Some(method) = call.get("method").and_then(Value::as_str) else {
        let error = RpcError::new(-32600, "a call is an object with a method");
        return Some(refusal(call.get("id").unwrap_or(&Value::Null), &error));
    };
    let id = call.get("id")?;
    let params = match call.get("params") {
        Some(Value::Array(params)) => params.as_slice(),
        None | Some(Value::Null) => &[],
        Some(_) => return Some(refusal(id, &invalid("params are an array"))),
    };
    Some(match dispatch(sandbox, method, params).await {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(error) => refusal(id, &error),
    })
}

async fn dispatch(sandbox: &Sandbox, method: &str, params: &[Value]) -> Result<Value, RpcError> {
    let param = |index: usize| params.get(index).unwrap_or(&Value::Null);
    match method {
        "eth_chainId" => Ok(quantity(sandbox.network().chain_id)),
        "net_version" => Ok(json!(sandbox.network().chain_id.to_string())),
        "web3_clientVersion" => Ok(json!(CLIENT_VERSION)),
        "eth_blockNumber" => Ok(quantity(head(sandbox).await?.number)),
        "eth_getBlockByNumber" => {
            let found = find_block(sandbox, param(0)).await?;
            block_or_null(sandbox, found, param(1)).await
        }
        "eth_getBlockByHash" => {
            let found = sandbox
                .0
                .state
                .find_block_by_hash(parse(param(0), "a hash")?)
                .await?;
            block_or_null(sandbox, found, param(1)).await
        }
        "eth_call" => call_token(sandbox, param(0), param(1)).await,
        "eth_getCode" => {
            let account: Address = parse(param(0), "an address")?;
            load_block(sandbox, param(1)).await?;
            Ok(json!(if account == sandbox.network().usdc {
                token_code()
            } else {
                Hex::new()
            }))
        }
        "eth_getLogs" => logs(sandbox, param(0)).await,
        "eth_getTransactionReceipt" => receipt(sandbox, parse(param(0), "a hash")?).await,
        _ => Err(RpcError::new(
            -32601,
            format!("{CLIENT_VERSION} has no method {method:.100}; it only reads"),
        )),
    }
}

async fn head(sandbox: &Sandbox) -> Result<Block, RpcError> {
    Ok(sandbox.0.state.head(sandbox.now_seconds()).await?)
}

/// The block that a tag, a number or an object of EIP-1898 names.
async fn find_block(sandbox: &Sandbox, name: &Value) -> Result<Option<Block>, RpcError> {
    let state = &sandbox.0.state;
    if let Some(hash) = name.get("blockHash") {
        return Ok(state.find_block_by_hash(parse(hash, "a hash")?).await?);
    }
    match name.get("blockNumber").unwrap_or(name) {
        // A transaction is final as soon as it is mined, and none ever waits.
        Value::Null => Ok(Some(head(sandbox).await?)),
        Value::String(tag) => match tag.as_str() {
            "latest" | "safe" | "finalized" | "pending" => Ok(Some(head(sandbox).await?)),
            "earliest" => Ok(state.find_block(0).await?),
            // A bare hash, as alloy writes it and nodes read it.
            hash if hash.len() == 66 => Ok(state
                .find_block_by_hash(parse(&json!(hash), "a hash")?)
                .await?),
            _ => Ok(state.find_block(parse_number(tag)?).await?),
        },
        _ => Err(invalid(
            "a block is a tag, a number in hex or an object with blockHash",
        )),
    }
}

async fn load_block(sandbox: &Sandbox, name: &Value) -> Result<Block, RpcError> {
    find_block(sandbox, name).await?.ok_or_else(unknown_block)
}

async fn block_or_null(
    sandbox: &Sandbox,
    block: Option<Block>,
    with_transactions: &Value,
) -> Result<Value, RpcError> {
    let Some(block) = block else {
        return Ok(Value::Null);
    };
    let transaction = sandbox.0.state.find_transaction_in(block.number).await?;
    let logs = logs_in(sandbox, block).await?;
    let transactions: Vec<Value> = transaction
        .iter()
        .map(|mined| match with_transactions {
            Value::Bool(true) => transaction_document(sandbox, mined),
            _ => json!(mined.hash),
        })
        .collect();
    let gas_used = if transaction.is_some() { GAS } else { 0 };
    Ok(block_document(
        sandbox,
        block,
        &transactions,
        &logs,
        gas_used,
    ))
}

fn block_document(
    sandbox: &Sandbox,
    block: Block,
    transactions: &[Value],
    logs: &[TokenLog],
    gas_used: u64,
) -> Value {
    // Roots that nobody can check are the hash of what the block is about, never zero.
    let root = |name: &str| keccak256((name, block.hash).abi_encode());
    json!({
        "number": quantity(block.number),
        "hash": block.hash,
        "parentHash": block.parent,
        "timestamp": quantity(block.timestamp),
        "nonce": "0x0000000000000000",
        "mixHash": B256::ZERO,
        "sha3Uncles": keccak256([0xc0]),
        "logsBloom": bloom(sandbox, logs),
        "transactionsRoot": root("transactions"),
        "stateRoot": root("state"),
        "receiptsRoot": root("receipts"),
        "miner": Address::ZERO,
        "difficulty": "0x0",
        "totalDifficulty": "0x0",
        "extraData": Hex::from_static(b"play money"),
        "size": "0x400",
        "gasLimit": quantity(GAS_LIMIT),
        "gasUsed": quantity(gas_used),
        "baseFeePerGas": "0x0",
        "transactions": transactions,
        "uncles": [],
    })
}

/// A transaction in the oldest form, with a signature that is none: nobody signed it.
fn transaction_document(sandbox: &Sandbox, mined: &Mined) -> Value {
    json!({
        "type": "0x0",
        "hash": mined.hash,
        "blockHash": mined.block.hash,
        "blockNumber": quantity(mined.block.number),
        "transactionIndex": "0x0",
        "from": mined.sender,
        "to": sandbox.network().usdc,
        "nonce": quantity(mined.block.number),
        "chainId": quantity(sandbox.network().chain_id),
        "value": "0x0",
        "gas": quantity(GAS),
        "gasPrice": "0x0",
        "input": "0x",
        "v": quantity(sandbox.network().chain_id.saturating_mul(2).saturating_add(35)),
        "r": "0x1",
        "s": "0x1",
    })
}

async fn call_token(sandbox: &Sandbox, call: &Value, block: &Value) -> Result<Value, RpcError> {
    let to: Address = parse(call.get("to").unwrap_or(&Value::Null), "an address in to")?;
    let input = call
        .get("input")
        .or_else(|| call.get("data"))
        .unwrap_or(&Value::Null);
    let input: Hex = parse(input, "hex in input")?;
    let block = load_block(sandbox, block).await?;
    if to != sandbox.network().usdc {
        return Ok(json!("0x"));
    }
    let state = &sandbox.0.state;
    if let Ok(question) = Token::authorizationStateCall::abi_decode(&input) {
        let is_used = state
            .is_nonce_used(question.authorizer, question.nonce, block.number)
            .await?;
        return Ok(json!(Hex::from(is_used.abi_encode())));
    }
    if let Ok(question) = Token::balanceOfCall::abi_decode(&input) {
        let balance: U256 = state.balance(question.account, block.number).await?;
        return Ok(json!(Hex::from(balance.abi_encode())));
    }
    Err(RpcError::new(
        3,
        "execution reverted: the play token has authorizationState and balanceOf",
    ))
}

async fn receipt(sandbox: &Sandbox, hash: B256) -> Result<Value, RpcError> {
    let Some(mined) = sandbox.0.state.find_transaction(hash).await? else {
        return Ok(Value::Null);
    };
    let logs = logs_in(sandbox, mined.block).await?;
    Ok(json!({
        "type": "0x0",
        "status": "0x1",
        "transactionHash": mined.hash,
        "transactionIndex": "0x0",
        "blockHash": mined.block.hash,
        "blockNumber": quantity(mined.block.number),
        "from": mined.sender,
        "to": sandbox.network().usdc,
        "contractAddress": null,
        "gasUsed": quantity(GAS),
        "cumulativeGasUsed": quantity(GAS),
        "effectiveGasPrice": "0x0",
        "logsBloom": bloom(sandbox, &logs),
        "logs": logs.iter().map(|log| log_document(sandbox, log)).collect::<Vec<_>>(),
    }))
}

async fn logs(sandbox: &Sandbox, wanted: &Value) -> Result<Value, RpcError> {
    if !wanted.is_object() {
        return Err(invalid("a filter is an object"));
    }
    let (first, last) = block_range(sandbox, wanted).await?;
    let Some(topics) = wanted_topics(wanted.get("topics").unwrap_or(&Value::Null))? else {
        return Ok(json!([]));
    };
    let addresses = alternatives::<Address>(wanted.get("address").unwrap_or(&Value::Null))?;
    if addresses.is_some_and(|addresses| !addresses.contains(&sandbox.network().usdc)) {
        return Ok(json!([]));
    }
    let limit = MAX_LOGS.saturating_add(1);
    let found = sandbox
        .0
        .state
        .logs(&LogFilter {
            first,
            last,
            topics,
            limit,
        })
        .await?;
    if u32::try_from(found.len()).is_ok_and(|count| count <= MAX_LOGS) {
        Ok(found.iter().map(|log| log_document(sandbox, log)).collect())
    } else {
        let message = format!("more than {MAX_LOGS} logs match; ask for fewer blocks");
        Err(RpcError::new(-32005, message))
    }
}

/// First and last block of a filter. The last may lie ahead, as other nodes allow.
async fn block_range(sandbox: &Sandbox, wanted: &Value) -> Result<(u64, u64), RpcError> {
    let given = |name: &str| wanted.get(name).filter(|value| !value.is_null());
    if given("blockHash").is_some() {
        if given("fromBlock").or_else(|| given("toBlock")).is_some() {
            return Err(invalid(
                "a filter has either blockHash or fromBlock and toBlock",
            ));
        }
        let block = load_block(sandbox, wanted).await?;
        return Ok((block.number, block.number));
    }
    let mut range = [0, 0];
    for (bound, name) in range.iter_mut().zip(["fromBlock", "toBlock"]) {
        *bound = match given(name).and_then(Value::as_str) {
            Some(text) if text.starts_with("0x") => parse_number(text)?,
            _ => {
                load_block(sandbox, given(name).unwrap_or(&Value::Null))
                    .await?
                    .number
            }
        };
    }
    let [first, last] = range;
    Ok((first, last))
}

/// What each topic may be; `None` when no log can match, because none has so many topics.
fn wanted_topics(topics: &Value) -> Result<Option<[Option<Vec<B256>>; 3]>, RpcError> {
    let list = match topics {
        Value::Null => &[],
        Value::Array(list) if list.len() <= 4 => list.as_slice(),
        _ => return Err(invalid("topics are an array of at most four")),
    };
    if list.len() > 3 {
        return Ok(None);
    }
    let mut wanted = [None, None, None];
    for (place, topic) in wanted.iter_mut().zip(list) {
        *place = alternatives(topic)?;
    }
    Ok(Some(wanted))
}

/// One value or an array of them; `None` (anything) for null and an empty array.
fn alternatives<T: std::str::FromStr>(value: &Value) -> Result<Option<Vec<T>>, RpcError> {
    match value {
        Value::Null => Ok(None),
        Value::Array(values) if values.is_empty() => Ok(None),
        Value::Array(values) if values.len() > MAX_ALTERNATIVES => {
            Err(invalid(format!("at most {MAX_ALTERNATIVES} alternatives")))
        }
        Value::Array(values) => values
            .iter()
            .map(|value| parse(value, "hex"))
            .collect::<Result<_, _>>()
            .map(Some),
        value => Ok(Some(vec![parse(value, "hex, null or an array")?])),
    }
}

async fn logs_in(sandbox: &Sandbox, block: Block) -> Result<Vec<TokenLog>, SandboxError> {
    let filter = LogFilter {
        first: block.number,
        last: block.number,
        topics: [None, None, None],
        limit: MAX_LOGS,
    };
    sandbox.0.state.logs(&filter).await
}

fn log_document(sandbox: &Sandbox, log: &TokenLog) -> Value {
    let block = log.transaction.block;
    json!({
        "address": sandbox.network().usdc,
        "topics": log.topics,
        "data": log.data,
        "blockHash": block.hash,
        "blockNumber": quantity(block.number),
        "blockTimestamp": quantity(block.timestamp),
        "transactionHash": log.transaction.hash,
        "transactionIndex": "0x0",
        "logIndex": quantity(log.index),
        "removed": false,
    })
}

fn bloom(sandbox: &Sandbox, logs: &[TokenLog]) -> Bloom {
    let mut bloom = Bloom::ZERO;
    for log in logs {
        bloom.accrue_raw_log(sandbox.network().usdc, &log.topics);
    }
    bloom
}

/// An invalid instruction and a note: enough to be seen as a contract.
fn token_code() -> Hex {
    Hex::from_static(b"\xfepixtoll sandbox: play money")
}

/// A number as JSON-RPC writes it.
fn quantity(number: u64) -> Value {
    json!(U64::from(number))
}

fn parse_number(text: &str) -> Result<u64, RpcError> {
    text.strip_prefix("0x")
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| invalid("a number is hex with 0x, of 64 bits at most"))
}

fn parse<T: std::str::FromStr>(value: &Value, what: &str) -> Result<T, RpcError> {
    value
        .as_str()
        .filter(|text| text.starts_with("0x"))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| invalid(format!("expected {what}")))
}

struct RpcError {
    code: i32,
    message: String,
}

impl RpcError {
    fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<SandboxError> for RpcError {
    fn from(error: SandboxError) -> Self {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "The sandbox failed."
        );
        Self::new(-32603, "the sandbox failed")
    }
}

fn invalid(message: impl Into<String>) -> RpcError {
    RpcError::new(-32602, message)
}

fn unknown_block() -> RpcError {
    RpcError::new(-32000, "unknown block")
}

fn refusal(id: &Value, error: &RpcError) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": error.code, "message": error.message}})
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use alloy_provider::{Provider, RootProvider};
    use alloy_rpc_types_eth::{BlockId, BlockNumberOrTag, Filter, TransactionRequest};
    use alloy_sol_types::SolEvent;

    use super::super::support::{Payer, START, http, listen, open};
    use super::*;

    fn provider(listening: &super::super::Listening) -> RootProvider {
        drop(http());
        RootProvider::new_http(listening.rpc_url.parse().unwrap())
    }

    fn ask(sandbox: &Sandbox, call: &impl SolCall) -> TransactionRequest {
        TransactionRequest::default()
            .to(sandbox.network().usdc)
            .input(call.abi_encode().into())
    }

    #[tokio::test]
    async fn alloy_reads_blocks_and_the_chains_name() {
        let (sandbox, clock) = open().await;
        let listening = listen(&sandbox);
        let provider = provider(&listening);
        assert_eq!(provider.get_chain_id().await.unwrap(), 84_532);
        assert_eq!(provider.get_net_version().await.unwrap(), 84_532);
        assert_eq!(provider.get_client_version().await.unwrap(), CLIENT_VERSION);
        assert_eq!(provider.get_block_number().await.unwrap(), 0);
        clock.advance(Duration::from_secs(3));
        assert_eq!(provider.get_block_number().await.unwrap(), 1);
        for tag in [
            BlockNumberOrTag::Latest,
            BlockNumberOrTag::Safe,
            BlockNumberOrTag::Finalized,
        ] {
            let block = provider.get_block_by_number(tag).await.unwrap().unwrap();
            assert_eq!(
                (block.header.number, block.header.timestamp),
                (1, START + 3)
            );
        }
        let hash = sandbox
            .send(Address::ZERO, Address::repeat_byte(1), U256::ONE)
            .await
            .unwrap();
        let block = provider
            .get_block_by_number(2.into())
            .full()
            .await
            .unwrap()
            .unwrap();
        assert_eq!(block.transactions.hashes().collect::<Vec<_>>(), [hash]);
        assert_eq!(
            block.transactions.as_transactions().map(<[_]>::len),
            Some(1)
        );
        let same = provider
            .get_block_by_hash(block.header.hash)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(same.header, block.header);
        assert!(
            provider
                .get_block_by_number(3.into())
                .await
                .unwrap()
                .is_none()
        );
        assert!(
            provider
                .get_block_by_hash(B256::ZERO)
                .await
                .unwrap()
                .is_none()
        );
        listening.stop().await;
    }

    #[tokio::test]
    async fn a_used_nonce_is_followed_by_its_transfer() {
        let (sandbox, _) = open().await;
        let listening = listen(&sandbox);
        let provider = provider(&listening);
        let (authorization, signature) = Payer::numbered(1).pays(&sandbox, 10_000, 7);
        let hash = sandbox.execute(&authorization, &signature).await.unwrap();
        sandbox
            .cancel(authorization.from, B256::repeat_byte(8))
            .await
            .unwrap();
        let receipt = provider
            .get_transaction_receipt(hash)
            .await
            .unwrap()
            .unwrap();
        assert!(receipt.status());
        let [used, moved] = receipt.logs() else {
            panic!("{receipt:?}")
        };
        assert_eq!((used.log_index, moved.log_index), (Some(0), Some(1)));
        let used_event = Token::AuthorizationUsed::decode_log(&used.inner).unwrap();
        assert_eq!(used_event.authorizer, authorization.from);
        assert_eq!(used_event.nonce, authorization.nonce);
        let moved_event = Token::Transfer::decode_log(&moved.inner).unwrap();
        assert_eq!(
            (moved_event.from, moved_event.to, moved_event.value),
            (authorization.from, authorization.to, authorization.value)
        );
        assert_eq!(moved_event.address, sandbox.network().usdc);
        listening.stop().await;
    }

    #[tokio::test]
    async fn logs_are_found_by_topic_address_and_block() {
        let (sandbox, _) = open().await;
        let listening = listen(&sandbox);
        let provider = provider(&listening);
        let (authorization, signature) = Payer::numbered(1).pays(&sandbox, 10_000, 7);
        let hash = sandbox.execute(&authorization, &signature).await.unwrap();
        sandbox
            .cancel(authorization.from, B256::repeat_byte(8))
            .await
            .unwrap();
        let receipt = provider
            .get_transaction_receipt(hash)
            .await
            .unwrap()
            .unwrap();
        let [used, moved] = receipt.logs() else {
            panic!("{receipt:?}")
        };
        let token = Filter::new().address(sandbox.network().usdc).from_block(0);
        let by_nonce = token
            .clone()
            .event_signature(vec![
                Token::AuthorizationUsed::SIGNATURE_HASH,
                Token::AuthorizationCanceled::SIGNATURE_HASH,
            ])
            .topic1(authorization.from)
            .topic2(authorization.nonce);
        assert_eq!(
            provider.get_logs(&by_nonce).await.unwrap(),
            *std::slice::from_ref(used)
        );
        let nonce_is_any = by_nonce.topic2(alloy_primitives::FixedBytes::<32>::ZERO);
        assert!(provider.get_logs(&nonce_is_any).await.unwrap().is_empty());
        let to_us = token.clone().topic2(authorization.to);
        assert_eq!(
            provider.get_logs(&to_us).await.unwrap(),
            *std::slice::from_ref(moved)
        );
        assert_eq!(provider.get_logs(&token).await.unwrap().len(), 3);
        assert!(
            provider
                .get_logs(&token.clone().to_block(0))
                .await
                .unwrap()
                .is_empty()
        );
        let here = Filter::new().at_block_hash(receipt.block_hash.unwrap());
        assert_eq!(provider.get_logs(&here).await.unwrap(), receipt.logs());
        assert!(
            provider
                .get_logs(&here.address(Address::ZERO))
                .await
                .unwrap()
                .is_empty()
        );
        let nowhere = Filter::new().at_block_hash(B256::ZERO);
        assert!(
            provider
                .get_logs(&nowhere)
                .await
                .unwrap_err()
                .is_error_resp()
        );
        assert!(
            provider
                .get_transaction_receipt(B256::ZERO)
                .await
                .unwrap()
                .is_none()
        );
        listening.stop().await;
    }

    #[tokio::test]
    async fn what_was_true_at_a_block_stays_true_there() {
        let (sandbox, clock) = open().await;
        let listening = listen(&sandbox);
        let provider = provider(&listening);
        let (authorization, signature) = Payer::numbered(1).pays(&sandbox, 10_000, 7);
        let payer = authorization.from;
        let pinned = provider
            .get_block_by_number(BlockNumberOrTag::Safe)
            .await
            .unwrap()
            .unwrap();
        sandbox.execute(&authorization, &signature).await.unwrap();
        clock.advance(Duration::from_secs(1));
        let is_used = async |block: BlockId| {
            let call = Token::authorizationStateCall {
                authorizer: payer,
                nonce: authorization.nonce,
            };
            let answer = provider
                .call(ask(&sandbox, &call))
                .block(block)
                .await
                .unwrap();
            Token::authorizationStateCall::abi_decode_returns(&answer).unwrap()
        };
        let balance = async |block: BlockId| {
            let call = Token::balanceOfCall { account: payer };
            let answer = provider
                .call(ask(&sandbox, &call))
                .block(block)
                .await
                .unwrap();
            Token::balanceOfCall::abi_decode_returns(&answer).unwrap()
        };
        let before = BlockId::from(pinned.header.hash);
        assert!(!is_used(before).await);
        assert!(!is_used(BlockId::number(0)).await);
        assert!(is_used(BlockId::latest()).await);
        assert!(is_used(BlockId::number(1)).await);
        assert_eq!(balance(before).await, U256::from(100_000_000));
        assert_eq!(balance(BlockId::latest()).await, U256::from(99_990_000));
        assert!(!is_used(BlockId::from((pinned.header.hash, Some(true)))).await);
        for unknown in [BlockId::from(B256::ZERO), BlockId::number(99)] {
            let call = ask(&sandbox, &Token::balanceOfCall { account: payer });
            let error = provider.call(call).block(unknown).await.unwrap_err();
            assert_eq!(error.as_error_resp().unwrap().message, "unknown block");
        }
        listening.stop().await;
    }

    #[tokio::test]
    async fn only_the_token_has_code_and_only_two_questions_are_answered() {
        let (sandbox, _) = open().await;
        let listening = listen(&sandbox);
        let provider = provider(&listening);
        assert!(
            provider
                .get_code_at(Address::repeat_byte(1))
                .await
                .unwrap()
                .is_empty()
        );
        assert!(
            !provider
                .get_code_at(sandbox.network().usdc)
                .await
                .unwrap()
                .is_empty()
        );
        let mut call = ask(
            &sandbox,
            &Token::balanceOfCall {
                account: Address::ZERO,
            },
        );
        call.input.input = Some(Hex::from_static(&[1, 2, 3, 4]));
        assert_eq!(
            provider
                .call(call)
                .await
                .unwrap_err()
                .as_error_resp()
                .unwrap()
                .code,
            3
        );
        listening.stop().await;
    }

    #[tokio::test]
    async fn batches_are_answered_and_nothing_can_be_written() {
        let (sandbox, _) = open().await;
        let listening = listen(&sandbox);
        let post = async |body: Value| {
            let answer = http()
                .post(&listening.rpc_url)
                .json(&body)
                .send()
                .await
                .unwrap();
            assert_eq!(answer.headers()["x-pixtoll-sandbox"], "play money");
            answer.text().await.unwrap()
        };
        let call = |id: u8, method: &str| json!({"jsonrpc": "2.0", "id": id, "method": method});
        let notification = json!({"jsonrpc": "2.0", "method": "eth_chainId"});
        let batch = json!([
            call(7, "eth_chainId"),
            call(8, "eth_sendRawTransaction"),
            notification,
            1
        ]);
        let answer: Value = serde_json::from_str(&post(batch).await).unwrap();
        assert_eq!(
            (&answer[0]["id"], &answer[0]["result"]),
            (&json!(7), &json!("0x14a34"))
        );
        assert_eq!(
            (&answer[1]["id"], &answer[1]["error"]["code"]),
            (&json!(8), &json!(-32601))
        );
        assert_eq!(answer[2]["error"]["code"], -32600);
        assert_eq!(answer.as_array().unwrap().len(), 3);
        assert_eq!(post(notification).await, "");
        for (calls, is_answered) in [
            (0, false),
            (1, true),
            (MAX_BATCH, true),
            (MAX_BATCH + 1, false),
        ] {
            let batch = json!(vec![call(1, "net_version"); calls]);
            let answer: Value = serde_json::from_str(&post(batch).await).unwrap();
            assert_eq!(answer.is_array(), is_answered, "{calls}");
        }
        assert_eq!(
            sandbox.balance(sandbox.recipient()).await.unwrap(),
            U256::ZERO
        );
        listening.stop().await;
    }
}
