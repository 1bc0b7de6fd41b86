//! `pixtoll mcp`: agents of the user's machine upload by path, and the wallet pays within its limits, once.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::support::proxy::Fault;
use crate::support::{TestApp, pictures};

/// The home directory of a user, with a folder that agents may upload from.
struct Home {
    dir: tempfile::TempDir,
}

/// A running `pixtoll mcp`.
struct Agent {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    last_id: u64,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("pictures")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Starts the command without a handshake: the revision 2026-07-28 needs none.
    fn start(&self, server: &str, arguments: &[&str]) -> Agent {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pixtoll"))
            .args(["mcp", "--server", server, "--root", "pictures"])
            .args(arguments)
            .env_clear()
            .env("HOME", self.dir.path())
            .current_dir(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Agent {
            stdin: child.stdin.take().unwrap(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
            last_id: 0,
        }
    }
}

impl Agent {
    async fn send(&mut self, message: &Value) {
        let line = format!("{message}\n");
        self.stdin.write_all(line.as_bytes()).await.unwrap();
    }

    /// The next message. Standard output holds nothing else.
    async fn next(&mut self) -> Value {
        let line = self.lines.next_line().await.unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    }

    async fn ask(&mut self, method: &str, mut params: Value) -> Value {
        self.last_id += 1;
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let id = self.last_id;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await;
        let mut answer = self.next().await;
        assert_eq!(answer["id"], id, "{answer}");
        assert!(answer["error"].is_null(), "{answer}");
        answer["result"].take()
    }

    async fn call(&mut self, name: &str, arguments: Value) -> Value {
        let params = json!({"name": name, "arguments": arguments});
        let result = self.ask("tools/call", params).await;
        let text = result["content"][0]["text"].as_str().unwrap();
        let same: Value = serde_json::from_str(text).unwrap();
        assert_eq!(same, result["structuredContent"]);
        result
    }

    async fn returned(&mut self, name: &str, arguments: Value) -> Value {
        let mut result = self.call(name, arguments).await;
        assert_eq!(result["isError"], false, "{result}");
        result["structuredContent"].take()
    }

    /// The error and the message of a call that fails.
    async fn fails(&mut self, name: &str, arguments: Value) -> (String, String) {
        let result = self.call(name, arguments).await;
        assert_eq!(result["isError"], true, "{result}");
        let content = &result["structuredContent"];
        let text = |name: &str| content[name].as_str().unwrap().to_owned();
        (text("error"), text("message"))
    }

    /// Closes standard input and waits for the end.
    async fn end(mut self) {
        drop(self.stdin);
        assert!(self.child.wait().await.unwrap().success());
    }
}

async fn server() -> TestApp {
    TestApp::builder()
        .today()
        .set("payments.timeout", "3s")
        .spawn()
        .await
}

fn pending(home: &Home) -> usize {
    let folder = home.path(".local/share/pixtoll/pending");
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn a_file_of_five_megabytes_is_uploaded_by_its_path() {
    let (app, home) = (server().await, Home::new());
    let picture = pictures::png_of_size(5 * 1024 * 1024);
    home.write("pictures/large.png", &picture);
    let mut agent = home.start(&app.base, &[]);
    let discovered = agent.ask("server/discover", json!({})).await;
    assert!(
        discovered["instructions"]
            .as_str()
            .unwrap()
            .contains("path")
    );
    let listed = agent.ask("tools/list", json!({})).await;
    assert_eq!(listed["tools"].as_array().unwrap().len(), 8);

    let large = json!({"path": "large.png", "tier": "year"});
    let image = agent.returned("upload_image", large.clone()).await;
    assert_eq!(image["tier"], "year");
    assert!(image.get("deleteToken").is_none(), "{image}");
    let served = app.get(image["url"].as_str().unwrap()).await;
    let size = served.bytes.len();
    assert_eq!((served.status, &image["sizeBytes"]), (200, &json!(size)));
    assert!(size > 4_000_000, "{size}");
    assert_eq!(app.transfers().await.len(), 1);
    // A client that lost the result calls again.
    assert_eq!(
        agent.returned("upload_image", large).await["url"],
        image["url"]
    );
    assert_eq!(app.transfers().await.len(), 1);
    let free = agent
        .fails("upload_image", json!({"path": "large.png"}))
        .await;
    assert!(free.1.contains("is larger than"), "{free:?}");

    let id = json!({"image": image["id"]});
    assert_eq!(
        agent.returned("image_info", id.clone()).await["sha256"],
        image["sha256"]
    );
    let mine = agent.returned("list_my_images", json!({})).await;
    assert_eq!(mine["images"][0]["id"], image["id"]);
    let deleted = agent.returned("delete_image", id.clone()).await;
    assert_eq!(deleted["deleted"][0], image["id"]);
    assert!(
        agent.call("image_info", id).await["isError"]
            .as_bool()
            .unwrap()
    );
    agent.end().await;
    assert_eq!(pending(&home), 0);
}

#[tokio::test]
async fn free_tools_need_no_wallet() {
    let (app, home) = (server().await, Home::new());
    home.write("pictures/a.png", &pictures::png(8, 8));
    let mut agent = home.start(&app.base, &[]);
    let tiers = agent.returned("list_tiers", json!({})).await;
    assert!(tiers["tiers"].as_array().unwrap().len() >= 3);
    let checked = agent
        .returned("check_image", json!({"path": "a.png"}))
        .await;
    assert_eq!(
        (&checked["width"], &checked["contentType"]),
        (&json!(8), &json!("image/png"))
    );
    let image = agent
        .returned("upload_image", json!({"path": "a.png"}))
        .await;
    assert_eq!(image["tier"], "free");
    let link = agent
        .returned("create_upload_link", json!({"images": 2}))
        .await;
    assert!(link["url"].as_str().unwrap().contains("/u/"), "{link}");
    // Uploaded from here, so its delete token was kept.
    let deleted = agent
        .returned("delete_image", json!({"image": image["url"]}))
        .await;
    assert_eq!(deleted["deleted"][0], image["id"]);
    agent.end().await;
    assert!(!home.path(".local/share/pixtoll/wallet.key").exists());
}

#[tokio::test]
async fn wrong_sources_are_refused_and_nothing_is_sent() {
    let (app, home) = (server().await, Home::new());
    let outside = home.write("outside.png", &pictures::png(8, 8));
    home.write("pictures/notes.txt", b"a secret\x1b[2J");
    std::fs::create_dir(home.path("pictures/folder")).unwrap();
    std::os::unix::fs::symlink(&outside, home.path("pictures/link.png")).unwrap();
    let mut agent = home.start(&app.base, &[]);
    for (source, said) in [
        (json!({"path": text(&outside)}), "outside of the folders"),
        (json!({"path": "../outside.png"}), "outside of the folders"),
        (json!({"path": "link.png"}), "outside of the folders"),
        (json!({"path": "none.png"}), "can't be read"),
        (json!({"path": "folder"}), "is a folder"),
        (json!({"path": "notes.txt"}), "not a PNG"),
        (json!({"url": "http://example.com/a.png"}), "only https"),
        (json!({"url": "file:///etc/passwd"}), "only https"),
        (json!({"url": "https://127.0.0.1/a.png"}), "private network"),
        (json!({"clipboard": true}), "no clipboard"),
        (json!({}), "0 sources"),
        (json!({"path": "a.png", "clipboard": true}), "2 sources"),
        (json!({"path": "a.png", "bytes": "iVBO"}), "`bytes`"),
        (
            json!({"path": "a.png", "tier": "No Tier\u{7}"}),
            "cannot be the name",
        ),
    ] {
        let (error, message) = agent.fails("upload_image", source.clone()).await;
        assert_eq!(error, "invalid_arguments", "{source}: {message}");
        assert!(message.contains(said), "{source}: {message}");
        assert!(
            !message.contains("secret") && !message.contains('\u{7}'),
            "{message}"
        );
    }
    let unknown = json!({"jsonrpc": "2.0", "id": 99, "method": "tools/call", "params": {"name": "rm", "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }}});
    agent.send(&unknown).await;
    assert_eq!(agent.next().await["error"]["code"], -32602);
    agent.end().await;
    assert_eq!(app.rows("images").await, 0);
    assert!(app.transfers().await.is_empty());
}

#[tokio::test]
async fn refusals_of_the_server_keep_their_code_and_their_advice() {
    let (app, home) = (server().await, Home::new());
    let mut agent = home.start(&app.base, &[]);
    let unknown = json!({"image": "k3v9Qw2mZr7T"});
    let refused = agent.call("image_info", unknown).await;
    let error = &refused["structuredContent"];
    assert_eq!(error["error"], "not_found", "{refused}");
    assert!(error["action"]["type"].is_string(), "{refused}");
    let strange = json!({"image": "https://example.com/i/k3v9Qw2mZr7T.png"});
    for tool in ["image_info", "delete_image", "renew_image"] {
        let (error, message) = agent.fails(tool, strange.clone()).await;
        assert_eq!(error, "invalid_arguments", "{tool}");
        assert!(message.contains("https://example.com"), "{tool}: {message}");
    }
    agent.end().await;
    assert!(app.transfers().await.is_empty());
}

#[tokio::test]
async fn a_line_that_is_no_message_is_answered_and_the_next_one_is_served() {
    let (app, home) = (server().await, Home::new());
    let mut agent = home.start(&app.base, &[]);
    agent.stdin.write_all(b"junk\n").await.unwrap();
    assert_eq!(agent.next().await["error"]["code"], -32700);
    agent.send(&json!([])).await;
    assert_eq!(agent.next().await["error"]["code"], -32600);
    agent.returned("list_tiers", json!({})).await;
    agent.end().await;
}

#[tokio::test]
async fn a_wallet_that_cannot_be_read_is_found_at_the_start() {
    let home = Home::new();
    let mut agent = home.start("http://127.0.0.1:9", &["--wallet", "/nonexistent"]);
    let ended = agent.child.wait().await.unwrap();
    assert_eq!(ended.code(), Some(1));
}

#[tokio::test]
async fn nothing_is_paid_above_the_limit_of_a_call_or_a_day() {
    let (app, home) = (server().await, Home::new());
    for width in 5..9 {
        home.write(&format!("pictures/{width}.png"), &pictures::png(width, 8));
    }
    let limits = ["--max-per-call", "0.01", "--max-per-day", "0.02"];
    let year = |width: u32| json!({"path": format!("{width}.png"), "tier": "year"});
    let mut agent = home.start(&app.base, &limits);
    let dear = agent
        .fails(
            "upload_image",
            json!({"path": "5.png", "tier": "permanent"}),
        )
        .await;
    assert_eq!(dear.0, "not_payable");
    assert!(dear.1.contains("--max-per-call"), "{dear:?}");
    let links = agent
        .fails("create_upload_link", json!({"images": 2, "tier": "year"}))
        .await;
    assert!(links.1.contains("--max-per-call"), "{links:?}");
    assert!(app.transfers().await.is_empty());

    agent.returned("upload_image", year(5)).await;
    agent.end().await;
    // The limit holds across restarts, and for two processes at once.
    let mut both = [
        home.start(&app.base, &limits),
        home.start(&app.base, &limits),
    ];
    let [first, second] = &mut both;
    let results = tokio::join!(
        first.call("upload_image", year(6)),
        second.call("upload_image", year(7)),
    );
    let paid = [&results.0, &results.1].map(|result| result["isError"] == false);
    assert_eq!(paid.iter().filter(|paid| **paid).count(), 1, "{results:?}");
    let spent = both[0].fails("upload_image", year(8)).await;
    assert_eq!(spent.0, "not_payable");
    assert!(spent.1.contains("--max-per-day"), "{spent:?}");
    let free = both[0]
        .returned("upload_image", json!({"path": "8.png"}))
        .await;
    assert_eq!(free["tier"], "free");
    assert_eq!(app.transfers().await.len(), 2);
}

#[tokio::test]
async fn an_unknown_outcome_is_resolved_by_the_same_call_with_one_charge() {
    let (app, home) = (server().await, Home::new());
    home.write("pictures/a.png", &pictures::png(8, 8));
    let limits = ["--max-per-day", "0.01"];
    let mut agent = home.start(&app.base, &limits);
    // The server waits for the facilitator's answer, which is lost.
    app.facilitator.always("settle", Fault::SilentAfter);
    let arguments = json!({"path": "a.png", "tier": "year"});
    let first = {
        let call = agent.fails("upload_image", arguments.clone());
        let mend = async {
            app.facilitator.reached("settle", 1).await;
        };
        tokio::pin!(call);
        tokio::select! {
            failed = &mut call => Some(failed),
            () = mend => None,
        }
    };
    assert_eq!(first, None, "the client waits for the outcome");
    // The user's program ends while the outcome is unknown.
    drop(agent);
    assert_eq!(pending(&home), 1);
    app.facilitator.mend();
    let mut agent = home.start(&app.base, &limits);
    let image = agent.returned("upload_image", arguments).await;
    assert_eq!(image["tier"], "year");
    assert_eq!(app.transfers().await.len(), 1);
    agent.end().await;
    assert_eq!(pending(&home), 0);
}

#[tokio::test]
async fn a_hundred_local_calls_at_once_are_all_answered() {
    let (app, home) = (server().await, Home::new());
    let mut agent = home.start(&app.base, &[]);
    agent.ask("server/discover", json!({})).await;
    for id in 1000..1100 {
        let message = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {
            "name": "list_tiers", "arguments": {}, "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        }});
        agent.send(&message).await;
    }
    let mut answered = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let answer = agent.next().await;
        assert_eq!(answer["result"]["isError"], false, "{answer}");
        answered.insert(answer["id"].as_u64().unwrap());
    }
    assert_eq!(answered.len(), 100);
    agent.end().await;
}

#[tokio::test]
async fn a_client_of_an_older_revision_shakes_hands() {
    let (app, home) = (server().await, Home::new());
    for version in ["2025-11-25", "2025-06-18"] {
        let mut agent = home.start(&app.base, &[]);
        let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "a", "version": "1"},
        }});
        agent.send(&hello).await;
        let answer = agent.next().await;
        assert_eq!(answer["result"]["protocolVersion"], version);
        agent
            .send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await;
        let list = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"});
        agent.send(&list).await;
        let listed = agent.next().await;
        assert_eq!(listed["result"]["tools"].as_array().unwrap().len(), 8);
        assert!(listed["result"].get("resultType").is_none());
        agent.end().await;
    }
}
