//! What the program logs: lines that a request or a payment can be followed by, and no secrets at any level.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use pixtoll::system::clock::{Clock, SystemClock};
use serde_json::Value;
use tokio::sync::Notify;

use crate::support::process::{Deployment, SandboxProcess, eventually, free_port};
use crate::support::proxy::{Fault, Proxy};
use crate::support::signing::wallet;
use crate::support::{Answer, Payment, install_tls, pictures};

const ID: &str = "an-id-that-only-the-payer-knows";
const KEY: &str = "a-key-that-only-the-payer-knows";
const SECRET: &str = "5ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4";

/// The ways in which a text may stand in a log.
fn spellings(secret: &str) -> Vec<(&'static str, String)> {
    let bytes = secret.as_bytes();
    let mut all = vec![
        ("as it is", secret.to_owned()),
        (
            "in base64",
            STANDARD.encode(bytes).trim_end_matches('=').to_owned(),
        ),
        (
            "in base64url",
            URL_SAFE.encode(bytes).trim_end_matches('=').to_owned(),
        ),
        ("in hex", hex::encode(bytes)),
        (
            "as a list",
            format!("{bytes:?}").trim_matches(['[', ']']).to_owned(),
        ),
    ];
    let digits = secret.trim_start_matches("0x");
    if digits.len() >= 32
        && digits.len().is_multiple_of(2)
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
    {
        let raw: Vec<u8> = (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect();
        all.push(("without its prefix", digits.to_owned()));
        all.push((
            "its bytes in base64",
            STANDARD.encode(&raw).trim_end_matches('=').to_owned(),
        ));
        all.push((
            "its bytes as a list",
            format!("{raw:?}").trim_matches(['[', ']']).to_owned(),
        ));
    }
    all
}

/// How a secret stands in a text, if it does: in any spelling, in any case, or the start of it.
fn find(text: &str, secret: &str) -> Option<&'static str> {
    let lower = text.to_lowercase();
    let there = |part: &str| lower.contains(&part.to_lowercase());
    let whole = spellings(secret)
        .into_iter()
        .find_map(|(name, spelling)| there(&spelling).then_some(name));
    // A log that cuts a secret in the middle still tells most of it.
    let start = secret.trim_start_matches("0x").get(..24).is_some_and(there);
    whole.or(start.then_some("cut"))
}

#[test]
fn the_search_finds_a_secret_in_every_form() {
    let log = "INFO pixtoll::http: request request.id=\"0a\" method=POST status=200\n".repeat(50);
    for secret in [
        ID,
        SECRET,
        "127.0.0.1:54321",
        &format!("0x{}", "ab1c".repeat(33)),
    ] {
        assert_eq!(find(&log, secret), None);
        for (name, spelling) in spellings(secret) {
            let middle = log.len() / 2;
            for planted in [
                format!("{log}{spelling}"),
                format!(
                    "{}{}{}",
                    &log[..middle],
                    spelling.to_uppercase(),
                    &log[middle..]
                ),
            ] {
                assert!(find(&planted, secret).is_some(), "{secret} {name}");
            }
        }
    }
    assert_eq!(
        find(&format!("{log}{}…", &SECRET[..30]), SECRET),
        Some("cut")
    );
}

/// The program, running, and all that it has printed.
struct Program {
    child: Child,
    base: String,
    output: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Program {
    /// Starts `pixtoll serve --sandbox --log trace --log-format FORMAT` and waits until it listens.
    fn start(folder: &Path, format: &str) -> Self {
        let [public, admin, facilitator, rpc] =
            std::array::from_fn(|_| format!("127.0.0.1:{}", free_port()));
        let base = format!("http://{public}");
        let mut child = Command::new(env!("CARGO_BIN_EXE_pixtoll"))
            .args([
                "serve",
                "--sandbox",
                "--log",
                "trace",
                "--log-format",
                format,
            ])
            .current_dir(folder)
            .env_clear()
            .env("RUST_BACKTRACE", "1")
            .env("RUST_LOG", "trace")
            .env("PIXTOLL_HTTP__LISTEN", &public)
            .env("PIXTOLL_HTTP__ADMIN_LISTEN", &admin)
            .env("PIXTOLL_HTTP__BASE_URL", &base)
            .env("PIXTOLL_PAYMENTS__SANDBOX_LISTEN", &facilitator)
            .env("PIXTOLL_PAYMENTS__SANDBOX_RPC_LISTEN", &rpc)
            .env("PIXTOLL_SECRETS__KEY", SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let (listens, is_listening) = std::sync::mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        let stderr = child.stderr.take().unwrap();
        let readers = vec![
            collect(stdout, Arc::clone(&output), Some(listens)),
            collect(stderr, Arc::clone(&output), None),
        ];
        if is_listening.recv().is_err() {
            let said = String::from_utf8_lossy(&output.lock().unwrap()).into_owned();
            panic!("it did not start: {said}");
        }
        Self {
            child,
            base,
            output,
            readers,
        }
    }

    /// Stops it as an operator would; everything that it ever printed.
    fn stop(mut self) -> String {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        for reader in std::mem::take(&mut self.readers) {
            reader.join().unwrap();
        }
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already gone, unless a test failed.
        self.child.kill().ok();
    }
}

/// Keeps what a pipe says, and tells once the last line of the greeting has come.
fn collect(
    mut pipe: impl Read + Send + 'static,
    output: Arc<Mutex<Vec<u8>>>,
    greeted: Option<std::sync::mpsc::Sender<()>>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut greeted = greeted;
        let mut buffer = [0; 4096];
        loop {
            let length = pipe.read(&mut buffer).unwrap_or(0);
            if length == 0 {
                return;
            }
            let mut output = output.lock().unwrap();
            output.extend(&buffer[..length]);
            if String::from_utf8_lossy(&output).contains("/api/free\n")
                && let Some(greeted) = greeted.take()
            {
                greeted.send(()).unwrap();
            }
        }
    })
}

/// Somebody who pays, and remembers what nobody else may learn.
struct Client {
    base: String,
    http: reqwest::Client,
    secrets: Vec<(String, String)>,
}

impl Client {
    fn of(program: &Program) -> Self {
        Self {
            base: program.base.clone(),
            http: crate::support::client_from("127.0.0.1"),
            secrets: vec![
                ("the master key".to_owned(), SECRET.to_owned()),
                ("the extension's idempotency key".to_owned(), ID.to_owned()),
                ("the Idempotency-Key".to_owned(), KEY.to_owned()),
            ],
        }
    }

    fn learn(&mut self, what: &str, secret: impl Into<String>) {
        self.secrets.push((what.to_owned(), secret.into()));
    }

    async fn post(&mut self, path: &str, headers: &[(&str, String)], body: Vec<u8>) -> Answer {
        let mut request = self.http.post(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let response = request.body(body).send().await.unwrap();
        let answer = Answer::of(response).await;
        let said: Value = serde_json::from_slice(&answer.bytes).unwrap_or_default();
        for field in ["token", "deleteToken", "url", "key"] {
            // Links of images are public, and those that upload are secrets.
            let is_public = |text: &str| field == "url" && !text.contains("/u/");
            if let Some(secret) = said[field].as_str().filter(|text| !is_public(text)) {
                self.learn(field, secret.rsplit('/').next().unwrap_or_default());
            }
        }
        answer
    }

    /// A payment for what `path` sells; all of it is secret.
    async fn sign(&mut self, path: &str, number: u8) -> Payment {
        let challenge = self.post(path, &[], vec![]).await;
        let payment = Payment::answering(&challenge, path, &wallet(number), SystemClock.now());
        let payment = payment
            .with_id(&format!("{ID}-{number}"))
            .with_idempotency_key(&format!("{KEY}-{number}"));
        let ticket = payment.extensions["pixtoll"]["info"]["ticket"]
            .as_str()
            .unwrap();
        self.learn("the ticket", ticket);
        self.learn("the signature", payment.signature.to_string());
        self.learn("the payer", payment.authorization.from.to_string());
        self.learn("the nonce", payment.authorization.nonce.to_string());
        self.learn("the header", payment.header());
        self.learn("the header of version 1", payment.as_v1().header());
        payment
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_logged_as_text_at_level_trace() {
    logs_no_secret("text").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_logged_as_json_at_level_trace() {
    logs_no_secret("json").await;
}

async fn logs_no_secret(format: &str) {
    install_tls();
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), format);
    let mut client = Client::of(&program);
    let (payment, token) = buys_and_uploads(&mut client).await;
    hands_out_links(&mut client).await;
    goes_wrong(&mut client, &token).await;
    uploads_by_link_and_key(&mut client).await;
    is_copied_from_the_chain(&mut client, &payment).await;
    let own_port = raw_request(&program.base);
    client.learn("the client's address", own_port);

    let output = program.stop();
    assert!(
        output.contains("a payment changed its state") && output.contains("request.id"),
        "{output}"
    );
    assert!(output.lines().count() > 40, "{output}");
    // Garbage is no error: whoever sends it would fill the log, and call somebody out.
    assert!(!output.contains("ERROR"), "{output}");
    for (what, secret) in &client.secrets {
        let found = find(&output, secret);
        assert_eq!(found, None, "{what} is in the log");
        let planted = format!("{output}\nDEBUG pixtoll: oops {secret}");
        assert!(find(&planted, secret).is_some());
    }
    assert!(client.secrets.len() > 25);
}

/// A free upload, one with a token, and one that is paid directly, each repeated rightly and wrongly.
async fn buys_and_uploads(client: &mut Client) -> (Payment, String) {
    let png = || ("content-type", "image/png".to_owned());
    let picture = pictures::png(6, 5);

    let free = client.post("/api/free", &[png()], picture.clone()).await;
    assert_eq!(free.status, 200, "{}", free.text());

    let payment = client.sign("/api/upload/token", 1).await;
    let bought = client.post(&payment.path, &payment.headers(), vec![]).await;
    let token = bought.token();
    let again = client.post(&payment.path, &payment.headers(), vec![]).await;
    assert_eq!(again.token(), token);
    let with_token = [png(), ("X-Upload-Token", token.clone())];
    let broken = client
        .post("/api/upload", &with_token, b"no image".to_vec())
        .await;
    assert_eq!(broken.status, 415);
    let used = client
        .post("/api/upload", &with_token, picture.clone())
        .await;
    assert_eq!(used.status, 200, "{}", used.text());
    let twice = client
        .post("/api/upload", &with_token, pictures::png(9, 9))
        .await;
    assert_eq!(twice.error(), "token_used");

    let direct = client.sign("/api/upload/permanent", 2).await;
    let mut headers = direct.headers();
    headers.push(png());
    let uploaded = client.post(&direct.path, &headers, picture.clone()).await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    let other = client
        .post(&direct.path, &headers, pictures::png(9, 9))
        .await;
    assert_eq!(other.error(), "idempotency_conflict");
    (payment, token)
}

/// A private image, whose signed links are shown, altered, refused and ended.
async fn hands_out_links(client: &mut Client) {
    let kind = [("content-type", "image/png".to_owned())];
    let picture = pictures::png(7, 5);
    let path = "/api/free?visibility=private";
    let image = client.post(path, &kind, picture).await;
    assert_eq!(image.status, 200, "{}", image.text());
    let (id, token) = (image.field("id"), image.field("deleteToken"));
    let owner = [("X-Delete-Token", token)];
    let links = format!("/api/images/{id}/links");
    let body = br#"{"expiresInSeconds": 3600}"#.to_vec();
    let link = client.post(&links, &owner, body).await;
    assert_eq!(link.status, 200, "{}", link.text());
    let http = client.http.clone();
    let get = async |url: String| http.get(url).send().await.unwrap().status().as_u16();
    let urls = [image.field("url"), link.field("url")];
    for url in &urls {
        let query = url.split_once('?').unwrap().1;
        let facts = format!("{}/api/images/{id}?{query}", client.base);
        for (url, status) in [
            (url.clone(), 200),
            (facts, 200),
            (format!("{url}&fbclid=x"), 308),
            (url.replace(&id, "zzzzzzzzzzzz"), 404),
            (url.replace("exp=", "exp=1"), 404),
            (format!("{}/no/such/route?{query}", client.base), 404),
        ] {
            assert_eq!(get(url.clone()).await, status, "{url}");
        }
    }
    let ended = client.http.delete(format!("{}{links}", client.base));
    let ended = ended.header("X-Delete-Token", &owner[0].1).send().await;
    assert_eq!(ended.unwrap().status(), 200);
    for url in urls {
        assert_eq!(get(url.clone()).await, 404);
        let signature = url.rsplit_once("sig=").unwrap().1;
        client.learn("the signature of a link", signature);
    }
}

/// Every kind of refusal, with the secrets where they belong and where they don't.
async fn goes_wrong(client: &mut Client, token: &str) {
    let spoilt = client.sign("/api/upload/token", 3).await;
    let mut forged = spoilt.clone();
    forged.sign_by(&wallet(4));
    client.learn("a forged signature", forged.signature.to_string());
    let header = spoilt.header();
    for (path, headers) in [
        (spoilt.path.as_str(), forged.headers()),
        ("/api/upload/token/permanent", spoilt.headers()),
        (
            "/api/upload/year",
            vec![("PAYMENT-SIGNATURE", header[..header.len() / 2].to_owned())],
        ),
        (
            "/api/upload/year",
            vec![("PAYMENT-SIGNATURE", spoilt.as_v1().header())],
        ),
        (
            "/api/upload/year",
            vec![
                ("X-PAYMENT", spoilt.as_v1().header()),
                ("PAYMENT-SIGNATURE", header.clone()),
            ],
        ),
        (
            "/api/upload",
            vec![
                ("X-Upload-Token", token.to_owned()),
                ("PAYMENT-SIGNATURE", header.clone()),
            ],
        ),
        ("/api/upload", vec![("X-Upload-Token", format!("{token}0"))]),
        (
            "/api/upload/token",
            vec![
                ("Idempotency-Key", format!("{KEY}{}", "x".repeat(300))),
                ("PAYMENT-SIGNATURE", header.clone()),
            ],
        ),
    ] {
        let answer = client.post(path, &headers, vec![]).await;
        assert!(answer.status >= 400, "{path}: {}", answer.text());
    }
    let secret_paths = [
        token.to_owned(),
        SECRET.to_owned(),
        spoilt.signature.to_string(),
    ];
    for secret in &secret_paths {
        for path in [
            format!("/api/upload/{secret}"),
            format!("/api/nothing/{secret}?token={secret}"),
            format!("/{secret}"),
            format!("/api/upload/token?images={secret}"),
        ] {
            assert!(client.post(&path, &[], vec![]).await.status >= 400);
        }
    }
}

/// Upload links and API keys, used rightly and wrongly: their secrets stand in paths and headers.
async fn uploads_by_link_and_key(client: &mut Client) {
    let payment = client.sign("/api/links?images=1&days=1", 6).await;
    let bought = client.post(&payment.path, &payment.headers(), vec![]).await;
    let link = bought.field("url");
    let free = client.post("/api/links?tier=free", &[], vec![]).await;
    let challenge = client.post("/api/keys", &[], vec![]).await;
    let message = crate::support::sign_in::sign_in(&challenge, &wallet(6));
    client.learn("the signed message", message.encode());
    let headers = [("SIGN-IN-WITH-X", message.encode())];
    let key = client
        .post("/api/keys", &headers, vec![])
        .await
        .field("key");
    let by_key = format!("{}/u/{key}", client.base);
    for url in [link, free.field("url"), by_key] {
        let path = url.strip_prefix(&client.base).unwrap().to_owned();
        for body in [
            pictures::png(7, 7),
            b"no image".to_vec(),
            pictures::png(7, 9),
        ] {
            client.post(&path, &[], body).await;
        }
        for path in [
            format!("{path}0"),
            format!("{path}/a/b"),
            format!("{path}?a=b"),
        ] {
            assert!(client.post(&path, &[], pictures::png(7, 8)).await.status >= 400);
        }
    }
    let bearer = [("Authorization", format!("Bearer {key}"))];
    let image = client
        .post("/api/upload", &bearer, pictures::png(5, 5))
        .await;
    assert_eq!(image.status, 200, "{}", image.text());
    let ended = [("Authorization", format!("Bearer {key}0"))];
    let refused = client
        .post("/api/upload", &ended, pictures::png(5, 5))
        .await;
    assert_eq!(refused.error(), "key_unknown");
}

async fn is_copied_from_the_chain(client: &mut Client, payment: &Payment) {
    let stranger = payment.copied_from_the_chain();
    let known = client
        .post("/api/upload/token", &stranger.headers(), vec![])
        .await;
    assert_eq!(known.error(), "payment_known");
    // And a client of version 1, whose address is its proof.
    let other = client.sign("/api/upload/token", 5).await;
    let bought = client
        .post(&other.path, &other.as_v1().headers(), vec![])
        .await;
    assert_eq!(bought.status, 200, "{}", bought.text());
}

/// A request over a connection whose end is known; the client's address.
fn raw_request(base: &str) -> String {
    use std::io::Write;
    let mut line = std::net::TcpStream::connect(base.trim_start_matches("http://")).unwrap();
    let address = line.local_addr().unwrap().to_string();
    line.write_all(
        b"POST /api/free HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    )
    .unwrap();
    let mut answer = String::new();
    line.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("no_file"), "{answer}");
    line = std::net::TcpStream::connect(base.trim_start_matches("http://")).unwrap();
    line.write_all(b"\x16\x03\x01 no HTTP\r\n\r\n").unwrap();
    line.read_to_string(&mut answer).ok();
    address
}

/// A log in JSON: every line, parsed.
struct Log(Vec<Value>);

impl Log {
    fn read(text: &str) -> Self {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        Self(text.lines().map(parse).collect())
    }

    /// The messages of the lines where a field has a value.
    fn messages(&self, field: &str, value: &str) -> Vec<&str> {
        let lines = self.0.iter().filter(|line| line[field] == value);
        lines
            .map(|line| line["message"].as_str().unwrap())
            .collect()
    }

    /// Asserts that every line about a payment names it, and every other one its request or its job.
    fn can_be_followed(&self) {
        for line in &self.0 {
            let target = line["target"].as_str().unwrap();
            let module = target.trim_start_matches("pixtoll::");
            let has = |field: &str| line.get(field).is_some();
            let is_followed = match module.split("::").next().unwrap() {
                // This job looks for transfers that belong to no payment.
                "payments" if line["job.name"] == "orphans" => true,
                "payments" | "facilitator" | "chain" => has("payment.ledger_id"),
                "http" | "images" | "db" => has("request.id") || has("job.name"),
                // Lines of the start and the end, and of the sandbox, which stands for another process.
                _ => true,
            };
            assert!(is_followed, "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_of_a_paid_upload_has_its_request_and_its_ledger_id() {
    let deployment = Deployment::alone();
    let serve = ["serve", "--log", "trace", "--log-format", "json"];
    let server = deployment.start_by(&serve).await;
    let (payment, request) = deployment
        .sign("/api/upload/year", &pictures::png(4, 4))
        .await;
    let answer = deployment.answer(&request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let request_id = answer.header("x-request-id").unwrap();
    let ledger_id = payment.ledger_id().to_string();
    server.terminate();
    assert!(server.end().await.success());

    let log = Log::read(&deployment.whole_log());
    log.can_be_followed();
    let of_request = log.messages("request.id", &request_id);
    let of_payment = log.messages("payment.ledger_id", &ledger_id);
    assert_eq!(of_request, of_payment);
    for message in [
        "a payment changed its state",
        "a payment is settled",
        "request",
    ] {
        assert!(of_request.contains(&message), "{of_request:?}");
    }
    let settled = log
        .0
        .iter()
        .find(|line| line["message"] == "a payment is settled");
    let transaction = &settled.unwrap()["transaction"];
    // The line of the sandbox is found by the transaction.
    let of_sandbox = log.messages("transaction", transaction.as_str().unwrap());
    assert_eq!(of_sandbox.len(), 2, "{of_sandbox:?}");
    let edge = log
        .0
        .iter()
        .find(|line| line["request.id"] == request_id && line["message"] == "request");
    let edge = edge.unwrap();
    assert_eq!(edge["route"], "/api/upload/{tier}");
    assert_eq!(edge["status"], 200);
    assert!(edge["elapsed_us"].is_u64());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settle_call_that_outlives_its_request_logs_under_its_ids() {
    let sandbox = SandboxProcess::start().await;
    let facilitator = Proxy::before(&sandbox.facilitator_url);
    let deployment = Deployment::on(&facilitator.url, &sandbox.rpc_url)
        .set("payments.timeout", "1s")
        .set("log", "trace")
        .set("log_format", "json");
    let server = deployment.start().await;
    let release = Arc::new(Notify::new());
    facilitator.next("settle", Fault::Late(Arc::clone(&release)));
    // The tier waits for a confirmation, so that a late success decides nothing.
    let (payment, request) = deployment
        .sign("/api/upload/permanent", &pictures::png(5, 4))
        .await;
    let answer = deployment.answer(&request).await;
    assert_eq!(answer.error(), "settlement_pending");
    let request_id = answer.header("x-request-id").unwrap();
    let ledger_id = payment.ledger_id().to_string();
    // The reconciler, which works for no request, finds the transfer on the chain.
    eventually("the reconciler's line", async || {
        let log = Log::read(&deployment.whole_log());
        let settled = |line: &&Value| line["message"] == "a payment is settled";
        let line = log.0.iter().find(settled)?;
        assert_eq!(line["job.name"], "reconciler");
        assert_eq!(line["payment.ledger_id"], ledger_id);
        Some(())
    })
    .await;
    release.notify_waiters();
    eventually("the late answer's line", async || {
        let log = Log::read(&deployment.whole_log());
        let late = |message: &&str| message.starts_with("a late answer of settle");
        let of_request = log.messages("request.id", &request_id);
        let of_payment = log.messages("payment.ledger_id", &ledger_id);
        let found = of_request.iter().any(late) && of_payment.iter().any(late);
        found.then_some(())
    })
    .await;
    // Sent again: another request, the same payment.
    let again = deployment.last_word(&request).await;
    assert_eq!(again.status, 200, "{}", again.text());
    server.terminate();
    assert!(server.end().await.success());

    let log = Log::read(&deployment.whole_log());
    log.can_be_followed();
    let again = again.header("x-request-id").unwrap();
    assert_ne!(again, request_id);
    let line = log
        .0
        .iter()
        .find(|line| line["request.id"] == again)
        .unwrap();
    assert_eq!(line["payment.ledger_id"], ledger_id);
}

/// A task has no span but the one that it is given.
#[test]
fn every_task_of_a_request_is_spawned_with_its_span() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut tasks = 0;
    for (path, text) in crate::architecture::sources(&root) {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
        if name.ends_with("/tests.rs") {
            continue;
        }
        let rooms = ["http/", "payments/", "images/", "limits/", "retention/"];
        if !rooms.iter().any(|room| name.starts_with(room)) {
            continue;
        }
        for (at, _) in text.match_indices("spawn(") {
            let call = &text[at..];
            if text[..at].ends_with("thread::") || text[..at].ends_with("thread.") {
                continue;
            }
            let end = call.find([';', '\n']).unwrap();
            assert!(
                call[..end].contains(".in_current_span()"),
                "{name}: {}",
                &call[..end]
            );
            tasks += 1;
        }
    }
    assert!(tasks > 8, "{tasks}");
}
