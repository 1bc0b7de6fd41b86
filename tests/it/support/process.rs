//! The program as a process: started, killed, and started again with the same files. Its sandbox is
//! another process, which survives.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use alloy_primitives::{Address, U256, keccak256};
use alloy_signer_local::PrivateKeySigner;
use pixtoll::pricing::networks::BASE_SEPOLIA;
use pixtoll::sandbox::{Location, Sandbox};
use pixtoll::system::clock::{Clock, SystemClock};
use pixtoll::system::random::Randomness;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{Answer, Payment, install_tls, signing};

/// The binary. Test builds have kill points.
const BINARY: &str = env!("CARGO_BIN_EXE_pixtoll");
/// The longest time that tests wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two checks while waiting.
const LOOK: Duration = Duration::from_millis(20);

/// Calls `look` repeatedly until it returns a value, for at most [`PATIENCE`].
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            Instant::now() < end,
            "{what} did not happen in {PATIENCE:?}"
        );
        tokio::time::sleep(LOOK).await;
    }
}

/// The binary with these arguments, and no environment but what the test sets.
fn binary(folder: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command
        .env_clear()
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// A free port, below those that systems give to outgoing connections, so that it stays free while
/// its server is down.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other test processes of this machine start with other ports.
    let begin = std::process::id().wrapping_mul(127) % u32::from(COUNT);
    let begin = u16::try_from(begin).unwrap();
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (begin + step % COUNT) % COUNT;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// `pixtoll sandbox`: a facilitator and a chain that outlive the servers.
pub(crate) struct SandboxProcess {
    pub(crate) facilitator_url: String,
    pub(crate) rpc_url: String,
    folder: tempfile::TempDir,
    _child: Child,
}

impl SandboxProcess {
    pub(crate) async fn start() -> Self {
        install_tls();
        let folder = tempfile::tempdir().unwrap();
        let mut child = binary(folder.path())
            .args([
                "sandbox",
                "--facilitator",
                "127.0.0.1:0",
                "--rpc",
                "127.0.0.1:0",
            ])
            .args(["--data", "chain.db", "--log", "error"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told: BTreeMap<String, String> = BTreeMap::new();
        while told.len() < 2 {
            let line = lines.next_line().await.unwrap();
            let line = line.unwrap_or_else(|| panic!("the sandbox ended without telling its URLs"));
            let mut words = line.split_whitespace();
            if let (Some(name @ ("facilitator" | "rpc")), Some(url)) = (words.next(), words.next())
            {
                told.insert(name.to_owned(), url.to_owned());
            }
        }
        // Its standard output is read on, so that it doesn't block or fail.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self {
            facilitator_url: told["facilitator"].clone(),
            rpc_url: told["rpc"].clone(),
            folder,
            _child: child,
        }
    }

    /// The chain itself, for changes that its RPC doesn't allow.
    pub(crate) async fn chain(&self) -> Sandbox {
        let file = Location::File(self.folder.path().join("chain.db"));
        let opened = Sandbox::open(file, Arc::new(SystemClock), &Randomness::system()).await;
        opened.unwrap()
    }

    /// The transfers to `recipient`, read from the chain's logs.
    pub(crate) async fn transfers_to(&self, recipient: Address) -> Vec<U256> {
        let query = json!({
            "address": BASE_SEPOLIA.usdc,
            "fromBlock": "0x0",
            "toBlock": "latest",
            "topics": [keccak256("Transfer(address,address,uint256)"), null, recipient.into_word()],
        });
        let logs = rpc(&self.rpc_url, "eth_getLogs", &json!([query])).await;
        let logs = logs.as_array().unwrap();
        logs.iter()
            .map(|log| log["data"].as_str().unwrap().parse().unwrap())
            .collect()
    }
}

async fn rpc(url: &str, method: &str, params: &Value) -> Value {
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    // Read-only, so the request is repeated when a slow machine breaks the connection.
    let reply = eventually("the node's answer", async || {
        let request = http().post(url).header("content-type", "application/json");
        let reply = request.body(call.to_string()).send().await.ok()?;
        reply.text().await.ok()
    });
    let reply: Value = serde_json::from_str(&reply.await).unwrap();
    assert!(reply.get("error").is_none(), "{method}: {reply}");
    reply["result"].clone()
}

/// A client without proxies and redirects.
pub(crate) fn http() -> reqwest::Client {
    install_tls();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(PATIENCE)
        // A kept connection could belong to a server that was killed.
        .pool_max_idle_per_host(0)
        .build()
        .unwrap()
}

/// A folder, its settings and its ports, which stay when a server is killed.
pub(crate) struct Deployment {
    pub(crate) base: String,
    pub(crate) admin: String,
    pub(crate) wallet: PrivateKeySigner,
    http: reqwest::Client,
    env: BTreeMap<String, String>,
    folder: tempfile::TempDir,
}

impl Deployment {
    /// Creates a deployment with a sandbox inside the server's process.
    pub(crate) fn alone() -> Self {
        let (listen, admin) = (free_address(), free_address());
        let base = format!("http://{listen}");
        let this = Self {
            admin: format!("http://{admin}"),
            wallet: signing::wallet(1),
            http: http(),
            env: BTreeMap::new(),
            folder: tempfile::tempdir().unwrap(),
            base: base.clone(),
        };
        // One address sends everything, and the disk may be small.
        this.set("limits.free_per_day", "0")
            .set("limits.free_per_address_per_hour", "0")
            .set("limits.payments_per_address_per_minute", "0")
            .set("images.min_free", "0")
            .set("http.listen", &listen)
            .set("http.admin_listen", &admin)
            .set("http.base_url", &base)
            .set("payments.facilitator", "sandbox")
            .set("payments.sandbox_listen", &free_address())
            .set("payments.sandbox_rpc_listen", &free_address())
    }

    /// Creates a deployment that uses an external facilitator and node.
    pub(crate) fn on(facilitator_url: &str, rpc_url: &str) -> Self {
        Self::alone()
            .set("payments.facilitator_url", facilitator_url)
            .set("payments.rpc_url", rpc_url)
    }

    /// Another server of the same deployment, with the same public address.
    #[cfg(feature = "test-postgres")]
    pub(crate) fn replica(&self) -> Self {
        let mut replica = Self::alone();
        let mut env = self.env.clone();
        for key in ["http.listen", "http.admin_listen"] {
            env.insert(variable(key), replica.env[&variable(key)].clone());
        }
        replica.env = env;
        replica
    }

    /// Sets a setting, as `section.key`, for the next start.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.env.insert(variable(key), value.to_owned());
        self
    }

    /// Removes a setting.
    pub(crate) fn unset(mut self, key: &str) -> Self {
        self.env.remove(&variable(key));
        self
    }

    /// The working folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The command `pixtoll …` in that folder with these settings.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(arguments);
        command.envs(&self.env);
        command
    }

    /// The command `pixtoll …` in that folder without any settings.
    pub(crate) fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = binary(self.folder());
        command.args(arguments);
        command
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().await.unwrap())
    }

    /// Runs a command without any settings to its end.
    pub(crate) async fn run_bare(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.bare(arguments).output().await.unwrap())
    }

    /// Starts a server, and waits until it is ready.
    pub(crate) async fn start(&self) -> Server {
        self.start_by(&["serve"]).await
    }

    /// Starts a server by this command, and waits until it is ready.
    pub(crate) async fn start_by(&self, arguments: &[&str]) -> Server {
        self.ready(self.spawn(arguments, "")).await
    }

    /// Starts a server that dies at a kill point; `point#2` is its second passing.
    pub(crate) async fn start_to_die_at(&self, point: &str) -> Server {
        let mut server = self.spawn(&["serve"], &failpoints(point));
        let ready = format!("{}/readyz", self.admin);
        eventually("the server is ready, or dead", async || {
            // Its reconciler may reach the kill point before the server is seen to be ready.
            if let Some(status) = server.ended() {
                assert_eq!(status.signal(), Some(9), "{status}\n{}", self.log());
                return Some(());
            }
            let answer = self.http.get(&ready).send().await.ok()?;
            (answer.status() == 200).then_some(())
        })
        .await;
        server
    }

    /// Runs a server that dies at a kill point without any request, possibly while it starts.
    pub(crate) async fn dies_by_itself_at(&self, point: &str) {
        self.spawn(&["serve"], &failpoints(point)).dies().await;
    }

    /// Starts a server with these flags, without waiting for it.
    pub(crate) fn spawn(&self, arguments: &[&str], failpoints: &str) -> Server {
        let log = self.folder().join("server.log");
        let log = std::fs::File::options().create(true).append(true).open(log);
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(log.unwrap());
        if !failpoints.is_empty() {
            command.env("FAILPOINTS", failpoints);
        }
        Server {
            child: command.spawn().unwrap(),
        }
    }

    /// Waits until the server is ready.
    async fn ready(&self, mut server: Server) -> Server {
        let ready = format!("{}/readyz", self.admin);
        eventually("the server is ready", async || {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("the server did not start: {status}\n{}", self.log());
            }
            let answer = self.http.get(&ready).send().await.ok()?;
            (answer.status() == 200).then_some(())
        })
        .await;
        server
    }

    /// All that its servers logged, in whole lines.
    pub(crate) fn whole_log(&self) -> String {
        let log = std::fs::read_to_string(self.folder().join("server.log")).unwrap_or_default();
        let end = log.rfind('\n').map_or(0, |end| end + 1);
        log[..end].to_owned()
    }

    /// The end of what its servers logged.
    pub(crate) fn log(&self) -> String {
        let log = self.whole_log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Sends a request; `None` when the server closed the connection without a response.
    pub(crate) async fn send(&self, request: &Request) -> Option<Answer> {
        let url = if request.path.starts_with("http") {
            request.path.clone()
        } else {
            format!("{}{}", self.base, request.path)
        };
        let mut call = self.http.request(request.method.clone(), url);
        for (name, value) in &request.headers {
            call = call.header(name, value);
        }
        let response = call.body(request.body.clone()).send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.ok()?.to_vec();
        Some(Answer {
            status,
            headers,
            bytes,
        })
    }

    /// Sends a request to a running server.
    pub(crate) async fn answer(&self, request: &Request) -> Answer {
        let answer = self.send(request).await;
        answer.unwrap_or_else(|| panic!("no answer from {}\n{}", request.path, self.log()))
    }

    /// Repeats a request while its response asks for that, and returns the last response.
    pub(crate) async fn last_word(&self, request: &Request) -> Answer {
        eventually("a last word", async || {
            let answer = self.answer(request).await;
            (!says_to_repeat(&answer)).then_some(answer)
        })
        .await
    }

    /// Signs a payment for the product of `path`. Returns it with the request that sends it with
    /// these bytes.
    pub(crate) async fn sign(&self, path: &str, body: &[u8]) -> (Payment, Request) {
        let challenge = self.answer(&Request::post(path)).await;
        assert_eq!(challenge.status, 402, "{}", challenge.text());
        self.sign_for(&challenge, path, body)
    }

    /// The same for a challenge that was received before.
    pub(crate) fn sign_for(
        &self,
        challenge: &Answer,
        path: &str,
        body: &[u8],
    ) -> (Payment, Request) {
        let payment = Payment::answering(challenge, path, &self.wallet, SystemClock.now());
        let mut request = Request::post(path).with_image(body);
        for (name, value) in payment.headers() {
            request = request.with(name, &value);
        }
        (payment, request)
    }

    /// Runs `pixtoll ledger check` beside the server, with the chain, and asserts that the ledger
    /// balances.
    pub(crate) async fn check_ledger(&self) {
        let ran = self.run(&["ledger", "check"]).await;
        assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        assert!(ran.out.contains(" 0 rows break a rule"), "{}", ran.out);
        assert!(!ran.out.contains("orphan"), "{}", ran.out);
    }
}

/// The environment variable of a setting.
fn variable(key: &str) -> String {
    format!("PIXTOLL_{}", key.to_uppercase().replacen('.', "__", 1))
}

/// The value of the environment variable `FAILPOINTS` for a kill point.
fn failpoints(point: &str) -> String {
    match point.split_once('#') {
        Some((name, passing)) => {
            let before = passing.parse::<u32>().unwrap() - 1;
            format!("{name}={before}*off->1*return")
        }
        None => format!("{point}=1*return"),
    }
}

fn free_address() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// Whether a response asks to send the same request again.
pub(crate) fn says_to_repeat(answer: &Answer) -> bool {
    match answer.status {
        503 => true,
        409 => answer.error() == "payment_in_progress",
        _ => false,
    }
}

/// A request that can be sent repeatedly.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: reqwest::Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn post(path: &str) -> Self {
        Self {
            method: reqwest::Method::POST,
            path: path.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self {
            method: reqwest::Method::GET,
            ..Self::post(path)
        }
    }

    pub(crate) fn delete(path: &str) -> Self {
        Self {
            method: reqwest::Method::DELETE,
            ..Self::post(path)
        }
    }

    /// The same request at another route.
    pub(crate) fn at(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The request with an image as its body, or without a body if there are no bytes.
    pub(crate) fn with_image(mut self, bytes: &[u8]) -> Self {
        self.body = bytes.to_vec();
        if bytes.is_empty() {
            return self;
        }
        self.with("content-type", "image/png")
    }

    /// The same request with other bytes.
    pub(crate) fn with_other_image(mut self, bytes: &[u8]) -> Self {
        self.body = bytes.to_vec();
        self
    }
}

/// A running server. Killed on drop.
pub(crate) struct Server {
    child: Child,
}

impl Server {
    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it is killed by SIGKILL.
    pub(crate) async fn dies(&mut self) {
        let status = eventually("the server's death", async || self.ended()).await;
        assert_eq!(status.signal(), Some(9), "{status}");
    }

    /// Sends SIGKILL.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends SIGTERM: the server finishes its requests.
    pub(crate) fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Sends SIGHUP: the server reloads its settings.
    pub(crate) fn reload(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Waits until it ends, and returns how.
    pub(crate) async fn end(mut self) -> ExitStatus {
        eventually("the server's end", async || self.ended()).await
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
