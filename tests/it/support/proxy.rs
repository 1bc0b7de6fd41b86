//! A proxy that injects faults, in front of the facilitator and in front of the chain's node.

use std::collections::{HashMap, VecDeque};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

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

/// Faults of a node, for as long as they are set.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeFault {
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
    /// Whether contract wallets accept every signature.
    pub(crate) wallets_accept: bool,
    /// It executes no code of a caller, as a call without a recipient asks it to.
    pub(crate) only_calls_contracts: bool,
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
}

pub(crate) struct Proxy {
    pub(crate) url: String,
    script: Arc<Mutex<Script>>,
    arrivals: Arc<Notify>,
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
        let forward = web::Data::new(Forward {
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
        let server = HttpServer::new(move || {
            App::new()
                .app_data(forward.clone())
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
    let name = document["method"]
        .as_str()
        .map_or(path.clone(), str::to_owned);
    let (fault, node) = {
        let mut script = forward.script.lock().unwrap();
        *script.calls.entry(name.clone()).or_default() += 1;
        script.bodies.push((name.clone(), document.clone()));
        let next = script.next.get_mut(&name).and_then(VecDeque::pop_front);
        (
            next.or_else(|| script.always.get(&name).cloned()),
            script.node.clone(),
        )
    };
    forward.arrivals.notify_waiters();
    if node.down {
        return HttpResponse::ServiceUnavailable().finish();
    }
    match fault {
        None => answer(forward.carry_out(&path, &name, document, &node).await),
        Some(Fault::SilentBefore) => std::future::pending().await,
        Some(Fault::SilentAfter) => {
            forward.carry_out(&path, &name, document, &node).await;
            std::future::pending().await
        }
        Some(Fault::Instead(status, text)) => answer((status, text)),
        Some(Fault::After(status, text)) => {
            forward.carry_out(&path, &name, document, &node).await;
            answer((status, text))
        }
        Some(Fault::Late(release)) => {
            let reply = forward.carry_out(&path, &name, document, &node).await;
            release.notified().await;
            answer(reply)
        }
        Some(Fault::Held(release)) => {
            release.notified().await;
            answer(forward.carry_out(&path, &name, document, &node).await)
        }
        Some(Fault::Gated(gate, code)) => {
            gate.acquire().await.unwrap().forget();
            let (status, text) = forward.carry_out(&path, &name, document, &node).await;
            let mut reply: Value = serde_json::from_str(&text).unwrap();
            if reply["success"] == false {
                reply["errorReason"] = json!(code);
            }
            answer((status, reply.to_string()))
        }
    }
}

impl Forward {
    async fn carry_out(
        &self,
        path: &str,
        name: &str,
        mut document: Value,
        node: &NodeFault,
    ) -> (u16, String) {
        if let (Some(block), "eth_getBlockByNumber") = (node.stale_at, name) {
            document["params"][0] = json!(format!("{block:#x}"));
        }
        if let (Some(block), Some("safe")) = (node.safe_at, document["params"][0].as_str()) {
            document["params"][0] = json!(format!("{block:#x}"));
        }
        if node.without_logs && name == "eth_getLogs" {
            return (
                200,
                json!({"jsonrpc": "2.0", "id": document["id"], "result": []}).to_string(),
            );
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
        let response = self
            .client
            .post(format!("{}/{path}", self.target))
            .header("content-type", "application/json")
            .body(document.to_string())
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
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
    if to_none && node.only_calls_contracts {
        let error = json!({"code": -32602, "message": "missing field `to`"});
        return Some(Err(error));
    }
    (node.wallets_accept && (to_none || input.starts_with("0x1626ba7e")))
        .then(|| Ok(format!("0x1626ba7e{}", "0".repeat(56))))
}

fn answer((status, text): (u16, String)) -> HttpResponse {
    HttpResponse::build(StatusCode::from_u16(status).unwrap())
        .content_type("application/json")
        .body(text)
}
