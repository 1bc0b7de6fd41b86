//! The chain's JSON-RPC interface. It is read-only, and has the form that Ethereum clients expect.

use actix_web::HttpResponse;
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use alloy_primitives::{Address, B256, Bloom, Bytes as Hex, U64, U256, keccak256};
use alloy_sol_types::{SolCall, SolValue};
use serde_json::{Value, json};

use super::state::{Block, LogFilter, Mined, TokenLog};
use super::{Sandbox, SandboxError};
use crate::evm::exact::Token;
use crate::evm::undeployed;

/// The largest request body that is read.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// The most calls in one batch.
const MAX_BATCH: usize = 100;
/// The most logs in one response.
const MAX_LOGS: u32 = 10_000;
/// The most values of one topic in a filter.
const MAX_ALTERNATIVES: usize = 1000;
/// The gas of every transaction. It costs nothing.
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
                &RpcError::new(-32700, "the body is not JSON, or larger than 1 MiB"),
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
        let error = RpcError::new(
            -32600,
            format!(
                "the batch has {} calls, but must have 1 to {MAX_BATCH}",
                calls.len()
            ),
        );
        return Some(refusal(&Value::Null, &error));
    }
    let mut replies = Vec::with_capacity(calls.len());
    for call in calls {
        replies.extend(answer_call(sandbox, call).await);
    }
    (!replies.is_empty()).then_some(Value::Array(replies))
}

/// Answers one call. `None` for a notification, which gets no reply.
async fn answer_call(sandbox: &Sandbox, call: &Value) -> Option<Value> {
    let Some(method) = call.get("method").and_then(Value::as_str) else {
        let error = RpcError::new(-32600, "a call must be an object with a method");
        return Some(refusal(call.get("id").unwrap_or(&Value::Null), &error));
    };
    let id = call.get("id")?;
    let params = match call.get("params") {
        Some(Value::Array(params)) => params.as_slice(),
        None | Some(Value::Null) => &[],
        Some(_) => return Some(refusal(id, &invalid("params must be an array"))),
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
            format!("{CLIENT_VERSION} has no method {method:.100}; it is read-only"),
        )),
    }
}

async fn head(sandbox: &Sandbox) -> Result<Block, RpcError> {
    Ok(sandbox.0.state.head(sandbox.now_seconds()).await?)
}

/// The block for a tag, a number or an object of EIP-1898.
async fn find_block(sandbox: &Sandbox, name: &Value) -> Result<Option<Block>, RpcError> {
    let state = &sandbox.0.state;
    if let Some(hash) = name.get("blockHash") {
        return Ok(state.find_block_by_hash(parse(hash, "a hash")?).await?);
    }
    match name.get("blockNumber").unwrap_or(name) {
        // A transaction is final as soon as it is mined, and none is ever pending.
        Value::Null => Ok(Some(head(sandbox).await?)),
        Value::String(tag) => match tag.as_str() {
            "latest" | "safe" | "finalized" | "pending" => Ok(Some(head(sandbox).await?)),
            "earliest" => Ok(state.find_block(0).await?),
            // A bare hash, which alloy sends and nodes accept.
            hash if hash.len() == 66 => Ok(state
                .find_block_by_hash(parse(&json!(hash), "a hash")?)
                .await?),
            _ => Ok(state.find_block(parse_number(tag)?).await?),
        },
        _ => Err(invalid(
            "a block must be a tag, a number in hex or an object with blockHash",
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
    // The roots can't be verified by anybody. They are hashes of the block, because clients may reject zero.
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

/// A transaction of the legacy type. Its signature is a placeholder, because nobody signed it.
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
    let input = call
        .get("input")
        .or_else(|| call.get("data"))
        .unwrap_or(&Value::Null);
    let input: Hex = parse(input, "hex in input")?;
    let block = load_block(sandbox, block).await?;
    let to = match call.get("to") {
        None | Some(Value::Null) => return run(&input),
        Some(to) => parse::<Address>(to, "an address in to")?,
    };
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
        "execution reverted: the play token has only authorizationState and balanceOf",
    ))
}

/// Answers a call without a recipient, whose input a node would execute as the code of a new
/// contract. The sandbox executes no code. It knows what one program returns: the check of a contract
/// wallet that is not deployed yet. No factory and no wallet has code here, so no such signature is
/// valid.
fn run(input: &Hex) -> Result<Value, RpcError> {
    if undeployed::is_check(input) {
        return Ok(json!(B256::ZERO));
    }
    Err(RpcError::new(
        -32601,
        format!("{CLIENT_VERSION} executes no code; call a contract"),
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
        return Err(invalid("a filter must be an object"));
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

/// The first and the last block of a filter. The last may be in the future, as other nodes allow.
async fn block_range(sandbox: &Sandbox, wanted: &Value) -> Result<(u64, u64), RpcError> {
    let given = |name: &str| wanted.get(name).filter(|value| !value.is_null());
    if given("blockHash").is_some() {
        if given("fromBlock").or_else(|| given("toBlock")).is_some() {
            return Err(invalid(
                "a filter must have either blockHash or fromBlock and toBlock",
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

/// The topics of a filter. `None` when no log can match, because every log has three topics.
fn wanted_topics(topics: &Value) -> Result<Option<[Option<Vec<B256>>; 3]>, RpcError> {
    let list = match topics {
        Value::Null => &[],
        Value::Array(list) if list.len() <= 4 => list.as_slice(),
        _ => return Err(invalid("topics must be an array of at most four")),
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

/// Parses one value or an array of values. `None` for null and an empty array, which match anything.
fn alternatives<T: std::str::FromStr>(value: &Value) -> Result<Option<Vec<T>>, RpcError> {
    match value {
        Value::Null => Ok(None),
        Value::Array(values) if values.is_empty() => Ok(None),
        Value::Array(values) if values.len() > MAX_ALTERNATIVES => Err(invalid(format!(
            "a filter may have at most {MAX_ALTERNATIVES} values for one topic"
        ))),
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

/// The token's code: an invalid instruction and a note, so that clients see a contract.
fn token_code() -> Hex {
    Hex::from_static(b"\xfepixtoll sandbox: play money")
}

/// A number in the hex form of JSON-RPC.
fn quantity(number: u64) -> Value {
    json!(U64::from(number))
}

fn parse_number(text: &str) -> Result<u64, RpcError> {
    text.strip_prefix("0x")
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| invalid("a number must be hex with 0x, of at most 64 bits"))
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
            "the sandbox failed"
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
mod tests;
