//! What the server must not keep: after a run of everything, no table, log line, metric, trace,
//! backup, object or sidecar holds a client's address, user agent, file name, cookie, referrer, or an
//! e-mail address that was not given in a report (docs/trust.md, docs/operations.md).

use std::path::{Path, PathBuf};

use alloy_primitives::U256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pixtoll::keys::secrets::sha256_hex;
use pixtoll::system::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::support::collector::Collector;
use crate::support::origin::{Origin, Reply};
use crate::support::process::{Deployment, SandboxProcess, eventually};
use crate::support::sign_in::sign_in;
use crate::support::signing::wallet;
use crate::support::{Answer, Payment, client_from, pictures};

/// The address from which clients connect, which is that of a trusted proxy.
const PROXY: &str = "127.0.0.77";
/// The client's own address, as the proxy states it.
const CLIENT: &str = "2001:db8:cafe:77::1:5";
/// A client that reports an image.
const REPORTER: &str = "203.0.113.77";
const AGENT: &str = "CanaryAgent/7.77";
const FILE: &str = "canary-holiday-photo";
const EMAIL: &str = "canary-person@example.net";
const COOKIE: &str = "canary-cookie-4711";
const REFERRER: &str = "canary-referrer.example";
/// The contact in a report: the one thing of a client that is kept, for the operator.
const CONTACT: &str = "canary-contact@example.org";

/// What nothing may hold.
const CANARIES: [&str; 8] = [
    PROXY, CLIENT, REPORTER, AGENT, FILE, EMAIL, COOKIE, REFERRER,
];

/// The ways in which a canary may stand in a place.
fn spellings(canary: &str) -> Vec<Vec<u8>> {
    let mut all = vec![
        canary.to_lowercase().into_bytes(),
        hex::encode(canary).into_bytes(),
        sha256_hex(canary.as_bytes()).into_bytes(),
    ];
    // Base64 at each place that the text may have in a longer one, without the characters that
    // depend on its neighbours. Letters are compared without case, as everywhere here.
    for pad in 0..3 {
        let padded = [&vec![b' '; pad], canary.as_bytes()].concat();
        let text = STANDARD.encode(&padded).to_lowercase();
        let end = padded.len() / 3 * 4;
        let start = if pad == 0 { 0 } else { 4 };
        all.push(text.as_bytes()[start..end].to_vec());
    }
    if let Ok(address) = canary.parse::<std::net::Ipv6Addr>() {
        all.push(address.octets().to_ascii_lowercase());
        let long = address.segments().map(|part| format!("{part:04x}"));
        all.push(long.join(":").into_bytes());
    }
    all
}

/// The canaries that bytes hold, in any spelling and case.
fn found_in(bytes: &[u8], canaries: &[&'static str]) -> Vec<&'static str> {
    let lower = bytes.to_ascii_lowercase();
    let holds = |part: &Vec<u8>| memchr::memmem::find(&lower, part).is_some();
    let mut found = canaries.to_vec();
    found.retain(|canary| spellings(canary).iter().any(holds));
    found
}

/// A client behind the proxy, each of whose requests carries every canary that a header can.
struct Client<'a> {
    deployment: &'a Deployment,
    http: reqwest::Client,
}

impl Client<'_> {
    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: Vec<u8>,
    ) -> Answer {
        let url = if path.starts_with("http") {
            path.to_owned()
        } else {
            format!("{}{path}", self.deployment.base)
        };
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let forwarded = headers.iter().any(|(name, _)| *name == "x-forwarded-for");
        let mut request = self.http.request(method, url);
        if !forwarded {
            request = request.header("x-forwarded-for", CLIENT);
        }
        let request = request
            .header("user-agent", format!("{AGENT} ({EMAIL})"))
            .header("cookie", format!("session={COOKIE}"))
            .header("referer", format!("https://{REFERRER}/{FILE}"))
            .header("from", EMAIL);
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, value)
        });
        Answer::of(request.body(body).send().await.unwrap()).await
    }

    async fn ok(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: Vec<u8>,
    ) -> Answer {
        let answer = self.send(method, path, headers, body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer
    }

    async fn json(&self, method: &str, path: &str, body: Value) -> Answer {
        self.ok(method, path, &[of_json()], body.to_string().into_bytes())
            .await
    }

    /// Pays for what a request sells.
    async fn buy(
        &self,
        path: &str,
        headers: &[(&str, String)],
        body: Vec<u8>,
    ) -> (Payment, Answer) {
        let challenge = self.send("POST", path, headers, body.clone()).await;
        assert_eq!(challenge.status, 402, "{}", challenge.text());
        let now = SystemClock.now();
        let payment = Payment::answering(&challenge, path, &self.deployment.wallet, now);
        let all = [headers, &payment.headers()].concat();
        let answer = self.ok("POST", path, &all, body).await;
        (payment, answer)
    }

    /// A request of the wallet, signed in.
    async fn as_wallet(&self, method: &str, path: &str, body: &str) -> Answer {
        let challenge = self
            .send(method, path, &[of_json()], body.as_bytes().to_vec())
            .await;
        let message = sign_in(&challenge, &self.deployment.wallet);
        let headers = [of_json(), ("SIGN-IN-WITH-X", message.encode())];
        self.ok(method, path, &headers, body.as_bytes().to_vec())
            .await
    }

    async fn admin(&self, method: &str, path: &str, body: Value) -> Answer {
        let url = format!("{}/admin/api{path}", self.deployment.admin);
        let bearer = format!("Bearer {}", crate::removal::ADMIN_TOKEN);
        let headers = [of_json(), ("authorization", bearer)];
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        self.ok(method, &url, &headers, body).await
    }
}

fn of_json() -> (&'static str, String) {
    ("content-type", "application/json".to_owned())
}

/// A form with an image whose file has a name, and its header.
fn form(picture: &[u8]) -> ((&'static str, String), Vec<u8>) {
    let head = format!(
        "--b\r\ncontent-disposition: form-data; name=\"image\"; filename=\"{FILE}.png\"\r\n\
         content-type: image/png\r\n\r\n"
    );
    let body = [head.as_bytes(), picture, b"\r\n--b--\r\n"].concat();
    let kind = "multipart/form-data; boundary=b".to_owned();
    (("content-type", kind), body)
}

/// Uses every way into the server and out of it once, and some wrong ones.
async fn use_everything(client: &Client<'_>, sandbox: &SandboxProcess, origin: &Origin) {
    let mut seed = 0;
    let mut picture = || {
        seed += 1;
        pictures::png_seeded(24, 24, seed)
    };
    // Free uploads, in each form.
    let (kind, body) = form(&picture());
    let free = client.ok("POST", "/api/free", &[kind], body).await;
    let path = format!("/api/free/{FILE}.png");
    let other = client.ok("PUT", &path, &[], picture()).await;
    let encoded = json!({"image": STANDARD.encode(picture())});
    client.json("POST", "/api/free", encoded).await;
    client.ok("POST", "/api/check", &[], picture()).await;
    // A direct payment, a token, a link, a key, an import, and MCP.
    let (kind, body) = form(&picture());
    let (direct, bought) = client.buy("/api/upload/year", &[kind], body).await;
    let (_, token) = client.buy("/api/upload/token/year", &[], Vec::new()).await;
    let (kind, body) = form(&picture());
    let with_token = [kind, ("x-upload-token", token.token())];
    client.ok("POST", "/api/upload", &with_token, body).await;
    let path = "/api/links?tier=year&images=2&days=1";
    let (_, link) = client.buy(path, &[], Vec::new()).await;
    let url = link.field("url");
    let named = format!("{url}/{FILE}.png");
    client.send("PUT", &named, &[], picture()).await;
    let (kind, body) = form(&picture());
    client.ok("POST", &url, &[kind], body).await;
    client.send("GET", &url, &[], Vec::new()).await;
    let key = client.as_wallet("POST", "/api/keys", "{}").await;
    let bearer = ("authorization", format!("Bearer {}", key.field("key")));
    let (kind, body) = form(&picture());
    client
        .ok("POST", "/api/upload", &[kind, bearer], body)
        .await;
    client.as_wallet("GET", "/api/images", "").await;
    client.as_wallet("POST", "/api/claims", "").await;
    let import = json!({"url": origin.url(), "tier": "free"});
    client.json("POST", "/api/import", import).await;
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "import_image", "arguments": {"url": origin.url(), "tier": "free"}},
    });
    let headers = [
        of_json(),
        ("accept", "application/json, text/event-stream".to_owned()),
        ("mcp-protocol-version", "2025-06-18".to_owned()),
    ];
    let called = client
        .ok("POST", "/mcp", &headers, call.to_string().into_bytes())
        .await;
    assert_eq!(
        called.json()["result"]["isError"],
        false,
        "{}",
        called.text()
    );
    // Readers, variants and renewals.
    let shown = client
        .ok("GET", &bought.field("url"), &[], Vec::new())
        .await;
    assert!(!shown.bytes.is_empty());
    let id = bought.field("id");
    let variant = format!("/i/{id}.webp?w=320");
    client.send("GET", &variant, &[], Vec::new()).await;
    client
        .buy(&format!("/api/images/{id}/renew"), &[], Vec::new())
        .await;
    // A report with a contact, an objection to nothing, a removal and a hold.
    let report = json!({"image": free.field("id"), "reason": "harassment", "contact": CONTACT});
    let headers = [of_json(), ("x-forwarded-for", REPORTER.to_owned())];
    let body = report.to_string().into_bytes();
    client.ok("POST", "/api/abuse", &headers, body).await;
    let because = json!({"as": "ada", "reason": "looked at it"});
    for (id, act) in [(free.field("id"), "hold"), (other.field("id"), "remove")] {
        let path = format!("/images/{id}/{act}");
        client.admin("POST", &path, because.clone()).await;
    }
    client.admin("GET", "/images", Value::Null).await;
    // Wrong requests, which hold canaries in their URLs and bodies.
    for path in [
        format!("/{EMAIL}/{FILE}"),
        format!("/i/{FILE}.png"),
        format!("/api/tiers?{FILE}={EMAIL}"),
        format!("/u/{FILE}"),
        format!("/api/images/{EMAIL}"),
    ] {
        client.send("GET", &path, &[], Vec::new()).await;
        client.send("POST", &path, &[], EMAIL.into()).await;
    }
    for headers in [
        vec![("x-payment", EMAIL.to_owned())],
        vec![("authorization", format!("Bearer {EMAIL}"))],
        vec![("x-upload-token", EMAIL.to_owned())],
        vec![("idempotency-key", EMAIL.to_owned())],
    ] {
        client
            .send("POST", "/api/upload/year", &headers, picture())
            .await;
    }
    let broken = format!("{{\"image\": \"{EMAIL}\"}}").into_bytes();
    client.send("POST", "/api/free", &[of_json()], broken).await;
    // A refund takes back what the direct payment bought, and an owner deletes.
    let operator = wallet(200).address();
    let amount = direct.authorization.value;
    let chain = sandbox.chain().await;
    let payer = direct.authorization.from;
    let made = chain
        .send(operator, payer, U256::from(amount))
        .await
        .unwrap();
    let deployment = client.deployment;
    let refund = [
        "ledger",
        "refund",
        direct.ledger_id().as_str(),
        "--transaction",
        &made.to_string(),
    ]
    .map(str::to_owned);
    let refund: Vec<&str> = refund.iter().map(String::as_str).collect();
    let refunded = deployment.run(&refund).await;
    assert_eq!(refunded.code, Some(0), "{refunded:?}");
    client
        .send("DELETE", &format!("/api/images/{id}"), &[], Vec::new())
        .await;
}

/// Every file below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// What the server wrote somewhere, and where.
struct Place {
    name: String,
    bytes: Vec<u8>,
}

fn places_below(folder: &Path, what: &str) -> Vec<Place> {
    let place = |path: &PathBuf| Place {
        name: format!("{what}: {}", path.strip_prefix(folder).unwrap().display()),
        bytes: std::fs::read(path).unwrap(),
    };
    files_below(folder).iter().map(place).collect()
}

#[test]
fn the_search_finds_every_canary_in_every_spelling() {
    let text = b"INFO pixtoll::http: request method=POST status=200\n".repeat(40);
    assert!(found_in(&text, &CANARIES).is_empty());
    for canary in CANARIES {
        for spelling in spellings(canary) {
            let planted = [&text[..700], &spelling, &text[700..]].concat();
            assert_eq!(found_in(&planted, &CANARIES), [canary]);
            let shouted = planted.to_ascii_uppercase();
            assert_eq!(found_in(&shouted, &CANARIES), [canary]);
        }
        for pad in 0..3 {
            let longer = format!("{}{canary} and more", "x".repeat(pad));
            let planted = [&text[..], STANDARD.encode(longer).as_bytes()].concat();
            assert_eq!(found_in(&planted, &CANARIES), [canary], "{pad}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_client_is_kept_but_what_a_report_gives() {
    let collector = Collector::start();
    let sandbox = SandboxProcess::start().await;
    let origin = Origin::start(Reply::Image(pictures::png(9, 9))).await;
    let deployment = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url)
        .set("traces.otlp_endpoint", &collector.url)
        .set("http.trusted_proxies", PROXY)
        .set("admin.token", crate::removal::ADMIN_TOKEN)
        .set("log", "debug");
    let deployment = origin.allowed_in(deployment);
    let server = deployment.start().await;
    let client = Client {
        deployment: &deployment,
        http: client_from(PROXY),
    };
    use_everything(&client, &sandbox, &origin).await;
    let metrics = client.http.get(format!("{}/metrics", deployment.admin));
    let metrics = metrics.send().await.unwrap().bytes().await.unwrap();
    let backup = tempfile::tempdir().unwrap();
    let folder = backup.path().join("backup");
    let saved = deployment.run(&["backup", folder.to_str().unwrap()]).await;
    assert_eq!(saved.code, Some(0), "{saved:?}");
    let exported = deployment.run(&["ledger", "export", "--json"]).await;
    let stats = deployment.run(&["stats", "--json"]).await;
    eventually("the traces", async || {
        (collector.spans().len() > 50).then_some(())
    })
    .await;
    server.terminate();
    assert!(server.end().await.success());

    let mut places = places_below(deployment.folder(), "folder");
    places.extend(places_below(&folder, "backup"));
    let texts = [
        ("metrics", metrics.to_vec()),
        ("traces", collector.text().into_bytes()),
        ("log", deployment.whole_log().into_bytes()),
        ("export", exported.out.into_bytes()),
        ("statistics", stats.out.into_bytes()),
    ];
    places.extend(texts.map(|(name, bytes)| Place {
        name: name.to_owned(),
        bytes,
    }));
    let is_there = |name: &str| places.iter().any(|place| place.name.contains(name));
    for part in [
        "folder: data/images",
        "folder: data/pixtoll.db",
        "backup: images",
        "backup: pixtoll-",
    ] {
        let names: Vec<&str> = places.iter().map(|place| place.name.as_str()).collect();
        assert!(is_there(part), "{part} is not in {names:?}");
    }
    for Place { name, bytes } in &places {
        assert_eq!(found_in(bytes, &CANARIES), Vec::<&str>::new(), "{name}");
        // What is planted there is found.
        let middle = bytes.len() / 2;
        for canary in CANARIES {
            let planted = [&bytes[..middle], canary.as_bytes(), &bytes[middle..]].concat();
            assert_eq!(found_in(&planted, &CANARIES), [canary], "{name}");
        }
    }
    // The contact of a report is in the database and its backup, where the search finds it, and
    // nowhere else.
    let holds_contact = |place: &&Place| !found_in(&place.bytes, &[CONTACT]).is_empty();
    let holders: Vec<&str> = places
        .iter()
        .filter(holds_contact)
        .map(|place| place.name.as_str())
        .collect();
    let is_database = |name: &&str| {
        name.starts_with("folder: data/pixtoll.db") || name.starts_with("backup: pixtoll-")
    };
    assert!(
        holders.len() >= 2 && holders.iter().all(is_database),
        "{holders:?}"
    );
}
