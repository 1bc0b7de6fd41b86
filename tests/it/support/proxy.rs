//! A proxy that injects faults, in front of the facilitator and in front of the chain's node.

use std::collections::{HashMap, VecDeque};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::http::header::{DATE, HeaderValue};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};

use super::process::PATIENCE;

/// A fault of one call.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// No response, and the call never arrives.
    SilentBefore,
    /// The call arrives, and its response is lost.
    SilentAfter,
    /// The call never arrives, and this response is returned.
    Instead(u16, String),
    /// The call arrives, and this response replaces its own.
    After(u16, String),
    /// The call arrives, and its response is delayed until the test allows it.
    Late(Arc<Notify>),
    /// The call is delayed until the test allows it.
    Held(Arc<Notify>),
    /// Each call is delayed until the test gives a permit. A refusal names this code instead.
    Gated(Arc<Semaphore>, &'static str),
}

impl Fault {
    /// A failed settlement as JSON, with this status, without forwarding the call.
    pub(crate) fn refusal(status: u16, reason: &str) -> Self {
        Self::Instead(status, refusal_body(reason))
    }

    /// The same, although the money moved.
    pub(crate) fn lie(status: u16, reason: &str) -> Self {
        Self::After(status, refusal_body(reason))
    }
}

fn refusal_body(reason: &str) -> String {
    json!({"success": false, "errorReason": reason, "transaction": "", "network": "eip155:84532"})
        .to_string()
}

/// How a node refuses a call.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    /// An HTTP status with this body.
    Http(u16, &'static str),
    /// A JSON-RPC error with this code and message.
    Rpc(i64, &'static str),
    /// The result `null`.
    Null,
}

impl Refusal {
    fn reply(&self, id: &Value) -> (u16, String) {
        match self {
            Self::Http(status, body) => (*status, (*body).to_owned()),
            Self::Rpc(code, message) => {
                let error = json!({"code": code, "message": message});
                let reply = json!({"jsonrpc": "2.0", "id": id, "error": error});
                (200, reply.to_string())
            }
            Self::Null => (200, result(id, &Value::Null)),
        }
    }
}

fn result(id: &Value, result: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
}

/// Faults of a node, for as long as they are set.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeFault {
    /// It refuses blocks by these tags.
    pub(crate) without_tags: Option<(&'static [&'static str], Refusal)>,
    /// It refuses to search more blocks than this for logs.
    pub(crate) log_blocks: Option<(u64, Refusal)>,
    /// It refuses this share of calls, in percent.
    pub(crate) fails: Option<(u64, Refusal)>,
    /// It refuses calls beyond this many a second.
    pub(crate) rate: Option<(u32, Refusal)>,
    /// It refuses batches.
    pub(crate) batches: Option<Refusal>,
    /// It shows every block so late.
    pub(crate) behind: Option<Duration>,
    /// Every second call is answered by a node that is not behind.
    pub(crate) is_balanced: bool,
    /// Receipts are null for so long after they were first asked for.
    pub(crate) receipts_after: Option<Duration>,
    /// Every call is answered 503.
    pub(crate) down: bool,
    /// It shows no logs.
    pub(crate) without_logs: bool,
    /// Its newest and its safe block are this one.
    pub(crate) stale_at: Option<u64>,
    /// Its safe block is this one.
    pub(crate) safe_at: Option<u64>,
    /// Added to every block's time, in seconds.
    pub(crate) skew: i64,
    /// What it answers about signatures of contract wallets.
    pub(crate) wallets: Wallets,
}

/// What a node answers about signatures of contract wallets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Wallets {
    /// What the chain's contracts say.
    #[default]
    Asked,
    /// Every wallet accepts every signature.
    AcceptAll,
    /// It executes no code of a caller, as a call without a recipient asks it to.
    OnlyDeployed,
}

/// The instructions and the record of a proxy.
#[derive(Default)]
struct Script {
    next: HashMap<String, VecDeque<Fault>>,
    always: HashMap<String, Fault>,
    calls: HashMap<String, usize>,
    answers: HashMap<String, usize>,
    bodies: Vec<(String, Value)>,
    node: NodeFault,
    date: Option<String>,
    /// HTTP requests, of which a batch is one.
    requests: usize,
    /// The newest block at past times, while the node is behind.
    heads: Vec<(Instant, u64)>,
    /// The calls that the node's rate still allows, in thousandths, and since when.
    allowance: Option<(u64, Instant)>,
    /// When a receipt was first asked for.
    first_asked: HashMap<String, Instant>,
    draws: u64,
}

impl Script {
    /// Whether the node refuses this call by its rate or by chance.
    fn refusal(&mut self) -> Option<Refusal> {
        if let Some((rate, refusal)) = self.node.rate.clone() {
            let (full, now) = (u64::from(rate) * 1000, Instant::now());
            let (left, since) = self.allowance.unwrap_or((full, now));
            let earned = u64::try_from(now.duration_since(since).as_millis()).unwrap();
            let left = full.min(left + earned * u64::from(rate));
            if left < 1000 {
                self.allowance = Some((left, now));
                return Some(refusal);
            }
            self.allowance = Some((left - 1000, now));
        }
        let (percent, refusal) = self.node.fails.clone()?;
        self.draws = self
            .draws
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.draws >> 33) % 100 < percent).then_some(refusal)
    }

    /// The newest block that a node shows that is so far behind.
    fn shown(&self, behind: Duration) -> u64 {
        let old = self.heads.iter().rev();
        let mut old = old.filter(|(at, _)| at.elapsed() >= behind);
        old.next().unwrap_or(&self.heads[0]).1
    }
}

pub(crate) struct Proxy {
    pub(crate) url: String,
    script: Arc<Mutex<Script>>,
    arrivals: Arc<Notify>,
    forward: Arc<Forward>,
    handle: actix_web::dev::ServerHandle,
}

struct Forward {
    target: String,
    script: Arc<Mutex<Script>>,
    arrivals: Arc<Notify>,
    client: reqwest::Client,
}

impl Proxy {
    /// Starts a proxy in front of `target`.
    pub(crate) fn before(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(Script::default()));
        let arrivals = Arc::new(Notify::new());
        let forward = Arc::new(Forward {
            target: target.to_owned(),
            script: Arc::clone(&script),
            arrivals: Arc::clone(&arrivals),
            // A connection that was idle for the server's keep-alive time may be closed during a
            // request.
            client: reqwest::Client::builder()
                .no_proxy()
                .pool_max_idle_per_host(0)
                .build()
                .unwrap(),
        });
        let shared = web::Data::from(Arc::clone(&forward));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .app_data(web::PayloadConfig::new(1 << 20))
                .default_service(web::to(dated))
        })
        .workers(1)
        .keep_alive(PATIENCE * 10)
        .disable_signals()
        .listen(listener)
        .unwrap()
        .run();
        let handle = server.handle();
        tokio::spawn(server);
        Self {
            url,
            script,
            arrivals,
            forward,
            handle,
        }
    }

    /// Waits until `count` calls of this name have come.
    pub(crate) async fn reached(&self, call: &str, count: usize) {
        let waiting = async {
            loop {
                let mut arrival = std::pin::pin!(self.arrivals.notified());
                arrival.as_mut().enable();
                if self.calls(call) >= count {
                    return;
                }
                arrival.await;
            }
        };
        let reached = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        assert!(
            reached,
            "{call} came {} times, not {count}",
            self.calls(call)
        );
    }

    /// Queues a fault for the next call of this name.
    pub(crate) fn next(&self, call: &str, fault: Fault) {
        self.script
            .lock()
            .unwrap()
            .next
            .entry(call.to_owned())
            .or_default()
            .push_back(fault);
    }

    /// Applies a fault to every call of this name from now on.
    pub(crate) fn always(&self, call: &str, fault: Fault) {
        self.script
            .lock()
            .unwrap()
            .always
            .insert(call.to_owned(), fault);
    }

    /// Removes all faults.
    pub(crate) fn mend(&self) {
        let mut script = self.script.lock().unwrap();
        script.next.clear();
        script.always.clear();
        script.node = NodeFault::default();
    }

    /// Sets the faults of the node.
    pub(crate) fn node(&self, fault: NodeFault) {
        self.script.lock().unwrap().node = fault;
    }

    /// Shows every block of the node so late from now on.
    pub(crate) async fn lags(&self, fault: NodeFault) {
        let forward = Arc::clone(&self.forward);
        forward.note_head().await;
        self.node(fault);
        tokio::spawn(async move {
            while forward.script.lock().unwrap().node.behind.is_some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                forward.note_head().await;
            }
        });
    }

    /// Counts the HTTP requests, of which a batch is one.
    pub(crate) fn requests(&self) -> usize {
        self.script.lock().unwrap().requests
    }

    /// Sets the `Date` header of every response from now on.
    pub(crate) fn date(&self, text: &str) {
        self.script.lock().unwrap().date = Some(text.to_owned());
    }

    /// Counts the calls of this name: `verify`, `settle`, or a JSON-RPC method.
    pub(crate) fn calls(&self, call: &str) -> usize {
        self.script
            .lock()
            .unwrap()
            .calls
            .get(call)
            .copied()
            .unwrap_or(0)
    }

    /// Counts the calls of this name that were forwarded and answered.
    pub(crate) fn answers(&self, call: &str) -> usize {
        let script = self.script.lock().unwrap();
        script.answers.get(call).copied().unwrap_or(0)
    }

    /// Counts all calls.
    pub(crate) fn all_calls(&self) -> usize {
        self.script.lock().unwrap().calls.values().sum()
    }

    /// The bodies of the calls of this name, as they arrived.
    pub(crate) fn bodies(&self, call: &str) -> Vec<Value> {
        let script = self.script.lock().unwrap();
        script
            .bodies
            .iter()
            .filter(|(name, _)| name == call)
            .map(|(_, body)| body.clone())
            .collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The future stops the server even if it is dropped.
        drop(self.handle.stop(false));
    }
}

async fn dated(
    forward: web::Data<Forward>,
    request: HttpRequest,
    body: web::Bytes,
) -> HttpResponse {
    let mut answer = handle(forward.clone(), request, body).await;
    if let Some(date) = &forward.script.lock().unwrap().date {
        let value = HeaderValue::from_str(date).unwrap();
        answer.headers_mut().insert(DATE, value);
    }
    answer
}

async fn handle(
    forward: web::Data<Forward>,
    request: HttpRequest,
    body: web::Bytes,
) -> HttpResponse {
    let document: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let path = request.path().trim_start_matches('/').to_owned();
    let batches = {
        let mut script = forward.script.lock().unwrap();
        script.requests += 1;
        script.node.batches.clone()
    };
    let Value::Array(calls) = document else {
        return answer(reply(&forward, &path, document).await);
    };
    if let Some(refusal) = batches {
        return answer(refusal.reply(&Value::Null));
    }
    let mut replies = Vec::new();
    for call in calls {
        let (status, text) = reply(&forward, &path, call).await;
        if status != 200 {
            return answer((status, text));
        }
        replies.push(text);
    }
    answer((200, format!("[{}]", replies.join(","))))
}

/// Answers one call.
async fn reply(forward: &Forward, path: &str, document: Value) -> (u16, String) {
    let name = document["method"]
        .as_str()
        .map_or(path.to_owned(), str::to_owned);
    let (fault, node, refusal) = {
        let mut script = forward.script.lock().unwrap();
        *script.calls.entry(name.clone()).or_default() += 1;
        script.bodies.push((name.clone(), document.clone()));
        let next = script.next.get_mut(&name).and_then(VecDeque::pop_front);
        (
            next.or_else(|| script.always.get(&name).cloned()),
            script.node.clone(),
            script.refusal(),
        )
    };
    forward.arrivals.notify_waiters();
    if node.down {
        return (503, String::new());
    }
    if let Some(refusal) = refusal {
        return refusal.reply(&document["id"]);
    }
    let carried = || forward.carry_out(path, &name, document.clone(), &node);
    match fault {
        None => carried().await,
        Some(Fault::SilentBefore) => std::future::pending().await,
        Some(Fault::SilentAfter) => {
            carried().await;
            std::future::pending().await
        }
        Some(Fault::Instead(status, text)) => (status, text),
        Some(Fault::After(status, text)) => {
            carried().await;
            (status, text)
        }
        Some(Fault::Late(release)) => {
            let reply = carried().await;
            release.notified().await;
            reply
        }
        Some(Fault::Held(release)) => {
            release.notified().await;
            carried().await
        }
        Some(Fault::Gated(gate, code)) => {
            gate.acquire().await.unwrap().forget();
            let (status, text) = carried().await;
            let mut reply: Value = serde_json::from_str(&text).unwrap();
            if reply["success"] == false {
                reply["errorReason"] = json!(code);
            }
            (status, reply.to_string())
        }
    }
}

fn number(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}

impl Forward {
    async fn post(&self, path: &str, document: &Value) -> (u16, String) {
        let request = self
            .client
            .post(format!("{}/{path}", self.target))
            .header("content-type", "application/json");
        let response = request.body(document.to_string()).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.text().await.unwrap())
    }

    async fn ask(&self, method: &str, params: Value) -> Value {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let reply: Value = serde_json::from_str(&self.post("", &call).await.1).unwrap();
        reply["result"].clone()
    }

    async fn note_head(&self) {
        let head = number(&self.ask("eth_blockNumber", json!([])).await).unwrap();
        let mut script = self.script.lock().unwrap();
        script.heads.push((Instant::now(), head));
    }

    /// The newest block that the node shows to this call; `None`: all of them.
    fn newest(&self, node: &NodeFault) -> Option<u64> {
        let behind = node.behind?;
        let mut script = self.script.lock().unwrap();
        script.draws += 1;
        (!node.is_balanced || script.draws.is_multiple_of(2)).then(|| script.shown(behind))
    }

    /// Changes a call to what the node sees of it, or refuses it.
    async fn obstruct(
        &self,
        name: &str,
        document: &mut Value,
        node: &NodeFault,
    ) -> Option<(u16, String)> {
        let id = document["id"].clone();
        let newest = self.newest(node);
        let block = match name {
            "eth_getBlockByNumber" => 0,
            "eth_call" | "eth_getCode" => 1,
            "eth_getLogs" => {
                let filter = &mut document["params"][0];
                let (first, last) = (number(&filter["fromBlock"]), number(&filter["toBlock"]));
                if let (Some((most, refusal)), Some(first), Some(last)) =
                    (&node.log_blocks, first, last)
                    && last + 1 - first > *most
                {
                    return Some(refusal.reply(&id));
                }
                if let (Some(newest), Some(last)) = (newest, last) {
                    filter["toBlock"] = json!(format!("{:#x}", last.min(newest)));
                }
                return None;
            }
            _ => return None,
        };
        let named = document["params"][block].clone();
        if let Some((tags, refusal)) = &node.without_tags
            && tags.iter().any(|tag| named == *tag)
        {
            return Some(refusal.reply(&id));
        }
        let newest = newest?;
        let hash = named.get("blockHash").unwrap_or(&named);
        if hash.as_str().is_some_and(|hash| hash.len() == 66) {
            let found = self.ask("eth_getBlockByHash", json!([hash, false])).await;
            let refusal = Refusal::Rpc(-32000, "header not found");
            return (number(&found["number"])? > newest).then(|| refusal.reply(&id));
        }
        if number(&named).is_none_or(|number| number > newest) {
            document["params"][block] = json!(format!("{newest:#x}"));
        }
        None
    }

    /// Hides receipts that the node does not show yet.
    fn hide(&self, name: &str, document: &Value, node: &NodeFault, text: String) -> String {
        if name != "eth_getTransactionReceipt" {
            return text;
        }
        let newest = self.newest(node).or(node.stale_at);
        let mut reply: Value = serde_json::from_str(&text).unwrap();
        let mut script = self.script.lock().unwrap();
        let hash = document["params"][0].to_string();
        let first = *script.first_asked.entry(hash).or_insert_with(Instant::now);
        let is_early = node
            .receipts_after
            .is_some_and(|after| first.elapsed() < after);
        let block = number(&reply["result"]["blockNumber"]);
        if is_early || newest.is_some_and(|newest| block > Some(newest)) {
            return result(&document["id"], &Value::Null);
        }
        if node.without_logs && block.is_some() {
            reply["result"]["logs"] = json!([]);
        }
        reply.to_string()
    }

    async fn carry_out(
        &self,
        path: &str,
        name: &str,
        mut document: Value,
        node: &NodeFault,
    ) -> (u16, String) {
        let block = match name {
            "eth_getBlockByNumber" => Some(0),
            "eth_call" | "eth_getCode" if document["params"][1].is_string() => Some(1),
            _ => None,
        };
        if let (Some(stale), Some(block)) = (node.stale_at, block) {
            document["params"][block] = json!(format!("{stale:#x}"));
        }
        if let (Some(block), Some("safe")) = (node.safe_at, document["params"][0].as_str()) {
            document["params"][0] = json!(format!("{block:#x}"));
        }
        if node.without_logs && name == "eth_getLogs" {
            return (200, result(&document["id"], &json!([])));
        }
        if let Some(result) = asked_of_wallet(name, &document, node) {
            let reply = json!({"jsonrpc": "2.0", "id": document["id"]});
            let mut reply = reply.as_object().unwrap().clone();
            match result {
                Ok(result) => reply.insert("result".to_owned(), json!(result)),
                Err(error) => reply.insert("error".to_owned(), error),
            };
            return (200, Value::Object(reply).to_string());
        }
        if let Some(refused) = self.obstruct(name, &mut document, node).await {
            return refused;
        }
        let (status, text) = self.post(path, &document).await;
        let text = self.hide(name, &document, node, text);
        {
            let mut script = self.script.lock().unwrap();
            *script.answers.entry(name.to_owned()).or_default() += 1;
        }
        if node.skew == 0 || name != "eth_getBlockByNumber" {
            return (status, text);
        }
        let mut reply: Value = serde_json::from_str(&text).unwrap();
        let time = reply["result"]["timestamp"].as_str().unwrap();
        let time = i64::from_str_radix(time.trim_start_matches("0x"), 16).unwrap();
        reply["result"]["timestamp"] = json!(format!("{:#x}", time + node.skew));
        (status, reply.to_string())
    }
}

/// What the node answers to a question to a contract wallet, if a fault says so.
fn asked_of_wallet(
    name: &str,
    document: &Value,
    node: &NodeFault,
) -> Option<Result<String, Value>> {
    if name != "eth_call" {
        return None;
    }
    let call = &document["params"][0];
    let to_none = call["to"].is_null();
    let input = call["input"].as_str().unwrap_or_default();
    if to_none && node.wallets == Wallets::OnlyDeployed {
        let error = json!({"code": -32602, "message": "missing field `to`"});
        return Some(Err(error));
    }
    (node.wallets == Wallets::AcceptAll && (to_none || input.starts_with("0x1626ba7e")))
        .then(|| Ok(format!("0x1626ba7e{}", "0".repeat(56))))
}

fn answer((status, text): (u16, String)) -> HttpResponse {
    HttpResponse::build(StatusCode::from_u16(status).unwrap())
        .content_type("application/json")
        .body(text)
}
