//! One JSON-RPC endpoint: batches, repeated calls and timeouts.
//!
//! The requests are sent by reqwest and not by alloy's transport, whose layers don't fit. Its HTTP
//! transport drops the status and `Retry-After` of a refusal with a JSON-RPC body, its batches drop a
//! refusal of the batch as a whole, and `RetryBackoffLayer` knows neither deadlines nor jitter and
//! repeats a whole batch. `FallbackLayer` asks all endpoints at once, and `ThrottleLayer` needs to know
//! the rate. What alloy knows of the refusals of providers is used (`refusal`).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes, U64};
use futures_util::future::join_all;
use reqwest::header::RETRY_AFTER;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::Url;

use super::budget::Budget;
use super::memory::Memory;
use super::refusal::{self, Failure, Kind};
use super::{Block, Priority};
use crate::system::clock::Timestamp;
use crate::system::metrics;
use crate::system::random::Randomness;

/// The longest time that one request may take.
const TIMEOUT: Duration = Duration::from_secs(8);
/// The same where another endpoint can be asked instead.
const TIMEOUT_BESIDE_ANOTHER: Duration = Duration::from_secs(3);
/// How often a call that failed is repeated.
const REPEATS: u32 = 2;
/// The first pause before a call is repeated, of which at least half is waited. It doubles.
const FIRST_PAUSE_MS: u64 = 150;
/// An endpoint that has answered nothing for this long is down.
const DOWN_AFTER: Duration = Duration::from_secs(4);
/// The score at which batches count as refused: three points for a clear refusal, one for another
/// failure of a batch whose calls succeed one by one.
const BATCHES_REFUSED: u32 = 3;
/// How long the number of the newest block is kept, for uses that need no more than that.
const HEAD_KEPT: Duration = Duration::from_secs(1);
/// The largest answer that is read.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// A call of a JSON-RPC method.
#[derive(Debug, Clone)]
pub(super) struct Call {
    method: &'static str,
    params: Value,
    /// Whether null is an answer.
    takes_null: bool,
    /// Whether a refusal may mean that the call asks for too much.
    is_divisible: bool,
    /// Whether every node answers the call, so that a refusal is repeated like another failure.
    is_basic: bool,
}

impl Call {
    pub(super) fn new(method: &'static str, params: Value) -> Self {
        Self {
            method,
            params,
            takes_null: false,
            is_divisible: false,
            is_basic: false,
        }
    }

    /// A call that every node answers.
    fn basic(method: &'static str, params: Value) -> Self {
        Self {
            is_basic: true,
            ..Self::new(method, params)
        }
    }

    /// The token's answer to `input`. `at` is a tag or a block's hash.
    pub(super) fn token(token: Address, input: &Bytes, at: &Value) -> Self {
        Self::basic("eth_call", json!([{"to": token, "input": input}, at]))
    }

    /// What a contract that is never deployed returns from its constructor.
    pub(super) fn deployment(code: &Bytes) -> Self {
        Self::new("eth_call", json!([{"input": code}, "latest"]))
    }

    /// A contract's answer to `input`. `at` is a tag or a block's hash.
    pub(super) fn contract(to: Address, input: &Bytes, at: &Value) -> Self {
        Self::new("eth_call", json!([{"to": to, "input": input}, at]))
    }

    /// A block without its transactions, by tag or number. Null: the node doesn't know it.
    pub(super) fn block(name: &str) -> Self {
        let takes_null = name != "latest";
        Self {
            takes_null,
            is_basic: !takes_null,
            ..Self::new("eth_getBlockByNumber", json!([name, false]))
        }
    }

    /// The receipt of a transaction. Null: the node doesn't know it.
    pub(super) fn receipt(transaction: B256) -> Self {
        Self {
            takes_null: true,
            ..Self::basic("eth_getTransactionReceipt", json!([transaction]))
        }
    }

    /// Logs. `is_divisible`: fewer blocks can be asked for.
    pub(super) fn logs(filter: &Value, is_divisible: bool) -> Self {
        Self {
            is_divisible,
            ..Self::new("eth_getLogs", json!([filter]))
        }
    }

    /// What a failure of this call means.
    fn refine(&self, failure: Failure) -> Failure {
        let is_vague = failure.kind == Kind::Passing || failure.is_vague_limit();
        if self.is_divisible && failure.is_of_call && is_vague {
            return Failure {
                kind: Kind::Refused,
                ..failure
            };
        }
        failure
    }
}

/// The name of a block for a call: its hash, so that every call sees the same state.
pub(super) fn by_hash(hash: B256) -> Value {
    json!({"blockHash": hash})
}

/// The urgency of a caller, and until when it can wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) priority: Priority,
    pub(super) until: Instant,
}

/// A JSON-RPC endpoint.
#[derive(Debug)]
pub(super) struct Node {
    client: reqwest::Client,
    url: Url,
    /// The host of the URL, for metrics.
    host: Arc<str>,
    /// Parts of the URL that may be an operator's key.
    secrets: Vec<String>,
    timeout: Duration,
    pub(super) budget: Budget,
    next_id: AtomicU64,
    batches_failed: AtomicU32,
    failing_since: Mutex<Option<Instant>>,
    kept_head: Mutex<Option<(Instant, Block)>>,
    pub(super) search: Memory,
}

/// The fields of a block that are read.
#[derive(Debug, Deserialize)]
struct Header {
    number: U64,
    hash: B256,
    timestamp: U64,
}

impl From<Header> for Block {
    fn from(header: Header) -> Self {
        let seconds = i64::try_from(header.timestamp.to::<u64>()).unwrap_or(i64::MAX);
        Self {
            number: header.number.to(),
            hash: header.hash,
            time: Timestamp::from_seconds(seconds),
        }
    }
}

impl Node {
    /// Creates a client for the endpoint. `is_alone`: there is no other one to ask.
    pub(super) fn new(client: reqwest::Client, url: &str, is_alone: bool) -> anyhow::Result<Self> {
        let url: Url = url.parse()?;
        Ok(Self {
            client,
            secrets: secrets_in(&url),
            host: metrics::host_of(url.as_str()),
            url,
            timeout: if is_alone {
                TIMEOUT
            } else {
                TIMEOUT_BESIDE_ANOTHER
            },
            budget: Budget::new(),
            next_id: AtomicU64::new(1),
            batches_failed: AtomicU32::new(0),
            failing_since: Mutex::new(None),
            kept_head: Mutex::new(None),
            search: Memory::default(),
        })
    }

    /// Whether the last request to the endpoint failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failing_since().is_some()
    }

    /// Whether the endpoint has answered nothing for a while.
    pub(super) fn is_down(&self) -> bool {
        self.failing_since()
            .is_some_and(|since| since.elapsed() >= DOWN_AFTER)
    }

    /// Whether the endpoint is known to refuse batches.
    pub(super) fn refuses_batches(&self) -> bool {
        self.batches_failed.load(Ordering::Relaxed) >= BATCHES_REFUSED
    }

    fn failing_since(&self) -> Option<Instant> {
        *self
            .failing_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn note_health(&self, is_well: bool) {
        let mut since = self
            .failing_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if is_well {
            *since = None;
        } else if since.is_none() {
            *since = Some(Instant::now());
        }
    }

    /// Makes one call and reads its result.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        bounds: Bounds,
        call: Call,
    ) -> Result<T, Failure> {
        let [answer] = self.batch(bounds, [call]).await;
        read(answer?)
    }

    /// Makes calls in one request. Those that fail for a moment are repeated.
    pub(super) async fn batch<const N: usize>(
        &self,
        bounds: Bounds,
        calls: [Call; N],
    ) -> [Result<Value, Failure>; N] {
        let mut answers: [_; N] = std::array::from_fn(|_| Err(Failure::passing("not asked")));
        let mut one_by_one = self.refuses_batches();
        for attempt in 0..=REPEATS {
            let is_open = |call: &Call, answer: &Result<_, Failure>| match answer {
                Ok(_) => false,
                Err(failure) => attempt == 0 || call.is_basic || failure.kind != Kind::Refused,
            };
            let open: Vec<(usize, &Call)> = calls
                .iter()
                .zip(&answers)
                .enumerate()
                .filter(|(_, (call, answer))| is_open(call, answer))
                .map(|(index, (call, _))| (index, call))
                .collect();
            if open.is_empty() || !self.pauses(attempt, bounds.until).await {
                break;
            }
            let asked: Vec<&Call> = open.iter().map(|(_, call)| *call).collect();
            let got = self
                .attempt(bounds, &asked, (attempt, &mut one_by_one))
                .await;
            for ((index, call), answer) in open.iter().zip(got) {
                if let Some(place) = answers.get_mut(*index) {
                    *place = answer.map_err(|failure| call.refine(failure));
                }
            }
        }
        answers
    }

    /// Waits before a repeated call. `false`: there is no time left for it.
    async fn pauses(&self, attempt: u32, until: Instant) -> bool {
        if attempt == 0 {
            return true;
        }
        let pause = jittered(FIRST_PAUSE_MS << (attempt - 1));
        if Instant::now() + pause >= until {
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }

    /// Makes these calls once: in a batch, or one by one where the node refuses batches.
    async fn attempt(
        &self,
        bounds: Bounds,
        calls: &[&Call],
        (attempt, one_by_one): (u32, &mut bool),
    ) -> Vec<Result<Value, Failure>> {
        if calls.len() > 1 && !*one_by_one {
            let failure = match self.post(bounds, calls).await {
                Ok(answers) => {
                    self.batches_failed.store(0, Ordering::Relaxed);
                    return answers;
                }
                Err(failure) => failure,
            };
            // Some nodes refuse batches as if there were too many calls.
            *one_by_one = !failure.is_limit() || attempt + 1 == REPEATS;
            if failure.kind != Kind::Refused {
                return calls.iter().map(|_| Err(failure.clone())).collect();
            }
            let answers = self.singly(bounds, calls).await;
            if answers.iter().any(Result::is_ok) {
                self.batches_failed
                    .store(BATCHES_REFUSED, Ordering::Relaxed);
                tracing::info!(
                    why = failure.message,
                    "the node refuses batches; calls are sent one by one"
                );
            }
            return answers;
        }
        let answers = self.singly(bounds, calls).await;
        if calls.len() > 1 && answers.iter().all(Result::is_ok) {
            self.batches_failed.fetch_add(1, Ordering::Relaxed);
        }
        answers
    }

    async fn singly(&self, bounds: Bounds, calls: &[&Call]) -> Vec<Result<Value, Failure>> {
        let calls = calls.iter().map(|call| async {
            let answers = self.post(bounds, std::slice::from_ref(call)).await?;
            let answer = answers.into_iter().next();
            answer.unwrap_or_else(|| Err(Failure::passing("it returned no result")))
        });
        join_all(calls).await
    }

    /// Sends one request. An error is one of the request as a whole.
    async fn post(
        &self,
        bounds: Bounds,
        calls: &[&Call],
    ) -> Result<Vec<Result<Value, Failure>>, Failure> {
        let count = u32::try_from(calls.len()).unwrap_or(u32::MAX);
        let permit = self.budget.enter(bounds.priority, count, bounds.until);
        let Some(permit) = permit.await else {
            return Err(Failure {
                kind: Kind::Limited(None),
                is_of_call: false,
                message: "it limits the rate of calls, and the time was over".to_owned(),
            });
        };
        let measured = metrics::node(&self.host);
        let answers = self.exchange(bounds, calls).await;
        measured.ended(outcome_of(&answers), None);
        let refusal = match &answers {
            Err(failure) => Some(failure).filter(|failure| failure.is_limit()),
            Ok(answers) => {
                let failures = answers.iter().filter_map(|answer| answer.as_ref().err());
                failures.into_iter().find(|failure| failure.is_limit())
            }
        };
        let refusal = refusal.map(|failure| failure.kind);
        let is_answered = match &answers {
            Ok(answers) => answers.iter().any(|answer| {
                !matches!(
                    answer,
                    Err(Failure {
                        kind: Kind::Passing,
                        ..
                    })
                )
            }),
            Err(failure) => failure.kind != Kind::Passing,
        };
        self.note_health(is_answered);
        match refusal {
            Some(Kind::Limited(wait)) => self.budget.note_refused(wait),
            _ if is_answered => self.budget.note_accepted(count),
            _ => {}
        }
        drop(permit);
        answers
    }

    async fn exchange(
        &self,
        bounds: Bounds,
        calls: &[&Call],
    ) -> Result<Vec<Result<Value, Failure>>, Failure> {
        let length = u64::try_from(calls.len()).unwrap_or(u64::MAX);
        let first = self.next_id.fetch_add(length, Ordering::Relaxed);
        let documents: Vec<Value> = calls
            .iter()
            .zip(first..)
            .map(|(call, id)| {
                json!({"jsonrpc": "2.0", "id": id, "method": call.method, "params": call.params})
            })
            .collect();
        let body = match documents.as_slice() {
            [one] => one.to_string(),
            many => Value::from(many).to_string(),
        };
        let left = bounds.until.saturating_duration_since(Instant::now());
        let reply = tokio::time::timeout(self.timeout.min(left), self.fetch(body)).await;
        let reply = reply.unwrap_or_else(|_| Err(Failure::passing("it did not answer in time")))?;
        let mut replies = match reply {
            Value::Array(replies) if calls.len() > 1 => replies,
            one if calls.len() == 1 => vec![one],
            // A refusal of the whole batch.
            one => {
                let failure = self.result_of(one, true).err();
                let failure = failure.unwrap_or_else(|| Failure::refused("it answered no batch"));
                return Err(match failure.kind {
                    Kind::Passing => Failure::refused(failure.message),
                    _ => failure,
                });
            }
        };
        let answers = calls.iter().zip(first..).map(|(call, id)| {
            // Some nodes return null as the id of a refusal.
            let is_its = |reply: &Value| {
                reply.get("id").and_then(Value::as_u64) == Some(id) || calls.len() == 1
            };
            match replies.iter().position(is_its) {
                Some(index) => self.result_of(replies.swap_remove(index), call.takes_null),
                None => Err(Failure::passing("its batch lacks a result")),
            }
        });
        Ok(answers.collect())
    }

    fn result_of(&self, mut reply: Value, takes_null: bool) -> Result<Value, Failure> {
        if let Some(error) = reply.get("error").filter(|error| !error.is_null()) {
            return Err(refusal::of_error(error, &self.secrets));
        }
        match reply.get_mut("result") {
            Some(Value::Null) if !takes_null => Err(Failure::passing("it returned null")),
            Some(result) => Ok(result.take()),
            None => Err(Failure::passing("its answer can't be decoded")),
        }
    }

    /// Sends a body and reads the JSON of the answer.
    async fn fetch(&self, body: String) -> Result<Value, Failure> {
        let request = self
            .client
            .post(self.url.clone())
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body);
        let unreachable = |error: reqwest::Error| {
            let why = error.without_url().to_string();
            Failure::passing(refusal::clean(&why, &self.secrets))
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let wait = response.headers().get(RETRY_AFTER);
        let wait = wait.and_then(|wait| wait.to_str().ok()?.trim().parse().ok());
        let wait = wait.map(Duration::from_secs);
        let mut bytes = Vec::new();
        while let Some(part) = response.chunk().await.map_err(unreachable)? {
            bytes.extend_from_slice(&part);
            if bytes.len() > MOST_BYTES {
                return Err(Failure::refused("its answer is too large"));
            }
        }
        let reply = serde_json::from_slice::<Value>(&bytes);
        if status.is_success() {
            return reply.map_err(|_| Failure::passing("its answer can't be decoded"));
        }
        let text = String::from_utf8_lossy(&bytes);
        let failure = refusal::of_status(status, wait, &text, &self.secrets);
        match reply {
            // The error of a single call says more than the status.
            Ok(reply)
                if !failure.is_limit() && reply.get("error").is_some_and(Value::is_object) =>
            {
                Ok(reply)
            }
            Ok(_) | Err(_) => Err(failure),
        }
    }

    /// The newest block.
    pub(super) async fn head(&self, bounds: Bounds) -> Result<Block, Failure> {
        let head = self.read::<Header>(bounds, Call::block("latest")).await?;
        let head = Block::from(head);
        self.keep_head(head);
        Ok(head)
    }

    /// A block by tag or number. `None`: the node doesn't know it.
    pub(super) async fn block(&self, bounds: Bounds, name: &str) -> Result<Option<Block>, Failure> {
        let header: Option<Header> = self.read(bounds, Call::block(name)).await?;
        Ok(header.map(Block::from))
    }

    /// The newest block of the last second, if it was read.
    pub(super) fn kept_head(&self) -> Option<Block> {
        let kept = self
            .kept_head
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        kept.filter(|(at, _)| at.elapsed() < HEAD_KEPT)
            .map(|(_, head)| head)
    }

    pub(super) fn keep_head(&self, head: Block) {
        let mut kept = self
            .kept_head
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *kept = Some((Instant::now(), head));
    }
}

/// How a request ended, as metrics name it: by the request as a whole, or by the worst of its answers.
fn outcome_of(answers: &Result<Vec<Result<Value, Failure>>, Failure>) -> &'static str {
    let kinds: Vec<Kind> = match answers {
        Err(failure) => vec![failure.kind],
        Ok(answers) => {
            let failures = answers.iter().filter_map(|answer| answer.as_ref().err());
            failures.map(|failure| failure.kind).collect()
        }
    };
    let any = |is: fn(&Kind) -> bool| kinds.iter().any(is);
    if any(|kind| matches!(kind, Kind::Passing)) {
        "failed"
    } else if any(|kind| matches!(kind, Kind::Limited(_))) {
        "limited"
    } else if kinds.is_empty() {
        "ok"
    } else {
        "refused"
    }
}

/// Reads a result.
pub(super) fn read<T: DeserializeOwned>(result: Value) -> Result<T, Failure> {
    serde_json::from_value(result).map_err(|_| Failure::passing("its answer can't be decoded"))
}

/// Reads a block that a batch returned.
pub(super) fn read_block(result: Value) -> Result<Block, Failure> {
    read::<Header>(result).map(Block::from)
}

/// At least half of this many milliseconds, by chance.
pub(super) fn jittered(millis: u64) -> Duration {
    let chance = u64::from(u16::from_be_bytes(Randomness::system().bytes::<2>()));
    let half = millis / 2;
    Duration::from_millis(half + half * chance / u64::from(u16::MAX))
}

/// Parts of a URL that may be a key.
fn secrets_in(url: &Url) -> Vec<String> {
    let path = url.path_segments().into_iter().flatten().map(str::to_owned);
    let query = url.query_pairs().map(|(_, value)| value.into_owned());
    let login = [
        Some(url.username()),
        url.password(),
        url.query(),
        Some(url.as_str()),
    ];
    let login = login.into_iter().flatten().map(str::to_owned);
    path.chain(query)
        .chain(login)
        .filter(|part| part.len() >= 8)
        .collect()
}
