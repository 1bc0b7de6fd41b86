//! `POST /mcp`: both eras of the protocol, what is refused before a tool runs, and paid tools. Whatever a model's
//! client sends, a payment is charged once.

use std::collections::BTreeSet;

use alloy_signer_local::PrivateKeySigner;
use pixtoll::system::clock::Clock as _;
use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::origin::{Origin, Reply};
use crate::support::proxy::Fault;
use crate::support::sign_in::answering;
use crate::support::{Payment, TestApp, pictures, signing};

const NEW: &str = "2026-07-28";
const OLD: [&str; 2] = ["2025-11-25", "2025-06-18"];

/// A message with its headers.
struct Message {
    headers: Vec<(&'static str, String)>,
    body: Value,
}

/// A request of the revision without handshake.
fn modern(method: &str, mut params: Value) -> Message {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": NEW,
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let sent = params["_meta"].take();
    params["_meta"] = meta;
    for (key, value) in sent.as_object().into_iter().flatten() {
        params["_meta"][key] = value.clone();
    }
    let mut headers = vec![
        ("mcp-protocol-version", NEW.to_owned()),
        ("mcp-method", method.to_owned()),
    ];
    if let Some(name) = params["name"].as_str() {
        headers.push(("mcp-name", name.to_owned()));
    }
    Message {
        headers,
        body: json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}),
    }
}

/// A request of a revision with handshake.
fn legacy(version: &str, method: &str, params: &Value) -> Message {
    Message {
        headers: vec![("mcp-protocol-version", version.to_owned())],
        body: json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}),
    }
}

/// A call of a tool.
fn call(name: &str, arguments: &Value) -> Message {
    modern("tools/call", json!({"name": name, "arguments": arguments}))
}

/// A call of a tool with a payment.
fn paying(name: &str, arguments: &Value, payment: &Payment) -> Message {
    let meta = json!({"x402/payment": payment.document()});
    modern(
        "tools/call",
        json!({"name": name, "arguments": arguments, "_meta": meta}),
    )
}

impl Message {
    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }
}

/// Sends raw bytes to the endpoint.
async fn raw(app: &TestApp, headers: &[(&'static str, String)], body: String) -> Answer {
    let mut all = vec![
        ("content-type", "application/json".to_owned()),
        ("accept", "application/json, text/event-stream".to_owned()),
    ];
    all.retain(|(name, _)| headers.iter().all(|(given, _)| given != name));
    all.extend(headers.iter().cloned());
    app.send("POST", "/mcp", &all, body).await
}

async fn send(app: &TestApp, message: &Message) -> Answer {
    raw(app, &message.headers, message.body.to_string()).await
}

/// The result of a call that reached its tool.
async fn result(app: &TestApp, message: &Message) -> Value {
    let answer = send(app, message).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut body = answer.json();
    assert!(body["error"].is_null(), "{body}");
    body["result"].take()
}

/// The structured content of a result. Its first block of text says the same.
fn content(result: &Value) -> Value {
    let text = result["content"][0]["text"].as_str().unwrap();
    let same: Value = serde_json::from_str(text).unwrap();
    assert_eq!(same, result["structuredContent"]);
    same
}

/// What a tool returned that succeeded.
async fn returned(app: &TestApp, message: &Message) -> Value {
    let result = result(app, message).await;
    assert_eq!(result["isError"], false, "{result}");
    content(&result)
}

/// Status and JSON-RPC code of an answer that is no result.
fn refused(answer: &Answer) -> (u16, i64) {
    let body = answer.json();
    assert_eq!(body["jsonrpc"], "2.0", "{body}");
    (answer.status, body["error"]["code"].as_i64().unwrap())
}

async fn uploaded(app: &TestApp) -> Value {
    let answer = app.upload_free(pictures::png(8, 8)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Signs a payment for what a call without one asked for.
async fn signed(app: &TestApp, name: &str, arguments: &Value) -> Payment {
    let result = result(app, &call(name, arguments)).await;
    assert_eq!(result["isError"], true, "{result}");
    let asked = content(&result);
    assert_eq!(asked["x402Version"], 2, "{asked}");
    Payment::accepting(&asked, "/mcp", &app.wallet, app.clock.now())
}

#[tokio::test]
async fn the_new_revision_needs_no_handshake() {
    let app = TestApp::spawn().await;
    let discovered = result(&app, &modern("server/discover", json!({}))).await;
    let versions: BTreeSet<&str> = discovered["supportedVersions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    assert_eq!(versions, BTreeSet::from([NEW, OLD[0], OLD[1]]));
    assert_eq!(discovered["resultType"], "complete");
    assert!(
        discovered["instructions"]
            .as_str()
            .unwrap()
            .contains("x402/payment")
    );

    let listed = result(&app, &modern("tools/list", json!({}))).await;
    assert_eq!(listed["resultType"], "complete");
    assert_eq!(listed["cacheScope"], "public");
    assert!(listed["ttlMs"].as_u64().unwrap() > 0);
    for tool in listed["tools"].as_array().unwrap() {
        assert_eq!(tool["inputSchema"]["type"], "object");
        assert_eq!(tool["inputSchema"]["additionalProperties"], false);
        let properties = tool["inputSchema"]["properties"].as_object().unwrap();
        for bytes in ["bytes", "data", "base64", "content", "file"] {
            assert!(!properties.contains_key(bytes), "{tool}");
        }
    }
    let answer = send(&app, &modern("tools/list", json!({}))).await;
    assert_eq!(answer.header("mcp-session-id"), None);
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(
        answer.header("content-type").as_deref(),
        Some("application/json")
    );
}

#[tokio::test]
async fn clients_of_older_revisions_initialize_without_a_session() {
    let app = TestApp::spawn().await;
    for version in OLD {
        let hello = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}});
        let hello = legacy(version, "initialize", &hello).without("mcp-protocol-version");
        let answer = send(&app, &hello).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("mcp-session-id"), None);
        let body = answer.json();
        assert_eq!(body["result"]["protocolVersion"], version);
        assert_eq!(body["result"]["serverInfo"]["name"], "pixtoll");

        let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let headers = [("mcp-protocol-version", version.to_owned())];
        assert_eq!(raw(&app, &headers, ready.to_string()).await.status, 202);

        let listed = result(&app, &legacy(version, "tools/list", &json!({}))).await;
        assert!(listed.get("resultType").is_none(), "{listed}");
        let tiers = json!({"name": "list_tiers", "arguments": {}});
        let tiers = returned(&app, &legacy(version, "tools/call", &tiers)).await;
        assert_eq!(tiers, app.get("/api/tiers").await.json());
        let pinged = result(&app, &legacy(version, "ping", &json!({}))).await;
        assert_eq!(pinged, json!({}));
    }
    // A version that nobody knows is answered with one that the server speaks.
    let hello = json!({"protocolVersion": "1999-01-01", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}});
    let hello = legacy("", "initialize", &hello).without("mcp-protocol-version");
    assert_eq!(result(&app, &hello).await["protocolVersion"], OLD[0]);
}

#[tokio::test]
async fn headers_that_contradict_the_message_are_refused() {
    let app = TestApp::spawn().await;
    let asked = || call("list_tiers", &json!({}));
    for message in [
        asked().with("mcp-method", "tools/list"),
        asked().with("mcp-name", "delete_image"),
        asked().with("mcp-protocol-version", OLD[0]),
        asked().without("mcp-method"),
        asked().without("mcp-name"),
        asked().without("mcp-protocol-version"),
    ] {
        let answer = send(&app, &message).await;
        assert_eq!(refused(&answer), (400, -32020), "{}", answer.text());
    }
    let mut unknown = asked().with("mcp-protocol-version", "2027-01-01");
    unknown.body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] =
        json!("2027-01-01");
    let answer = send(&app, &unknown).await;
    assert_eq!(refused(&answer), (400, -32022), "{}", answer.text());
    let supported = answer.json()["error"]["data"]["supported"].to_string();
    assert!(
        supported.contains(NEW) && supported.contains(OLD[1]),
        "{supported}"
    );
    let mut bare = asked();
    bare.body["params"]["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": NEW});
    assert_eq!(refused(&send(&app, &bare).await), (400, -32602));
}

#[tokio::test]
async fn pages_of_other_origins_call_no_tools() {
    let app = TestApp::builder()
        .set("mcp.origins", "https://agent.example")
        .spawn()
        .await;
    let ours = app.app.config.http.base_url.clone();
    for origin in [
        ours.as_str(),
        "https://agent.example",
        "https://AGENT.example:443",
    ] {
        let message = call("list_tiers", &json!({})).with("origin", origin);
        assert_eq!(send(&app, &message).await.status, 200, "{origin}");
    }
    for origin in [
        "https://evil.example",
        "https://agent.example.evil.example",
        "https://agent.example:8443",
        "http://agent.example",
        "null",
        "",
    ] {
        let message = call("list_tiers", &json!({})).with("origin", origin);
        let answer = send(&app, &message).await;
        assert_eq!(
            (answer.status, answer.error()),
            (403, "origin_not_allowed".to_owned()),
            "{origin}"
        );
    }
}

#[tokio::test]
async fn other_methods_and_junk_are_refused() {
    let app = TestApp::spawn().await;
    for method in ["GET", "DELETE", "PUT"] {
        let answer = app.send::<&str, &str>(method, "/mcp", &[], "").await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow").as_deref(), Some("POST"));
    }
    let one = call("list_tiers", &json!({}));
    let batch = json!([one.body, one.body]);
    let mut nobody = one.body.clone();
    nobody["id"] = Value::Null;
    let mut bare = one.body.clone();
    bare.as_object_mut().unwrap().remove("jsonrpc");
    for (body, code, said) in [
        ("", -32700, "not JSON"),
        ("{", -32700, "not JSON"),
        ("\u{0}", -32700, "not JSON"),
        ("[]", -32600, "no batches"),
        (&*batch.to_string(), -32600, "no batches"),
        ("null", -32600, "no JSON object"),
        ("\"a\"", -32600, "no JSON object"),
        ("{}", -32600, "jsonrpc"),
        ("{\"jsonrpc\":\"1.0\"}", -32600, "jsonrpc"),
        (&*nobody.to_string(), -32600, "id is neither"),
        (&*bare.to_string(), -32600, "jsonrpc"),
    ] {
        let answer = raw(&app, &one.headers, body.to_owned()).await;
        assert_eq!(refused(&answer), (400, code), "{body:?}: {}", answer.text());
        assert_eq!(
            answer.header("content-type").as_deref(),
            Some("application/json")
        );
        let text = answer.json()["error"]["message"].to_string();
        assert!(text.contains(said), "{body:?}: {text}");
    }
    let old = legacy("2027-01-01", "tools/list", &json!({}));
    let answer = send(&app, &old).await;
    assert_eq!(refused(&answer), (400, -32022), "{}", answer.text());
    assert!(answer.text().contains(NEW), "{}", answer.text());
    let deep = "[".repeat(30_000);
    assert!((400..500).contains(&raw(&app, &one.headers, deep).await.status));
    // One byte too many.
    let limit = 64 * 1024;
    let mut long = one.body.to_string();
    long.push_str(&" ".repeat(limit - long.len()));
    assert_eq!(raw(&app, &one.headers, long.clone()).await.status, 200);
    long.push(' ');
    let answer = raw(&app, &one.headers, long).await;
    assert_eq!(
        (answer.status, answer.error()),
        (400, "invalid_body".to_owned())
    );
    for (name, value, status) in [
        ("accept", "text/html", 406),
        ("content-type", "text/plain", 415),
    ] {
        let answer = send(&app, &call("list_tiers", &json!({})).with(name, value)).await;
        assert_eq!(refused(&answer), (status, -32600));
        assert!(answer.text().contains("application/json"), "{name}");
    }
    let answer = send(&app, &modern("tools/everything", json!({}))).await;
    assert_eq!(refused(&answer), (404, -32601));
    assert!(answer.text().contains("Call one of"), "{}", answer.text());
    let answer = send(&app, &call("mint_money", &json!({}))).await;
    assert_eq!(refused(&answer), (200, -32602));
    assert!(answer.text().contains("list_tiers"));
}

#[tokio::test]
async fn arguments_of_another_form_reach_no_tool() {
    let app = TestApp::spawn().await;
    for (name, arguments, said) in [
        ("list_tiers", json!({"tier": "year"}), "`tier`"),
        ("image_info", json!({}), "`image`"),
        ("image_info", json!({"image": 7}), "string"),
        (
            "image_info",
            json!({"image": "../etc/passwd\u{1b}[2J"}),
            "neither an image id",
        ),
        (
            "image_info",
            json!({"image": "https://example.com/i/k3v9Qw2mZr7T.png"}),
            "another server",
        ),
        ("check_image", json!({"sizeBytes": -1}), "-1"),
        (
            "renew_image",
            json!({"image": "k3v9Qw2mZr7T", "tier": "No Tier"}),
            "cannot be the name",
        ),
        (
            "delete_image",
            json!({"image": "k3v9Qw2mZr7T", "bytes": "iVBO"}),
            "`bytes`",
        ),
    ] {
        let result = result(&app, &call(name, &arguments)).await;
        assert_eq!(result["isError"], true, "{result}");
        let error = content(&result);
        let text = error["message"].as_str().unwrap();
        assert!(text.contains(said), "{name}: {text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert_eq!(error["charged"], false);
    }
}

#[tokio::test]
async fn free_tools_answer_what_the_routes_answer() {
    let app = TestApp::spawn().await;
    let image = uploaded(&app).await;
    let (id, token) = (image["id"].as_str().unwrap(), &image["deleteToken"]);
    let facts = app.get(&format!("/api/images/{id}")).await.json();
    for name in [id, image["url"].as_str().unwrap()] {
        let shown = returned(&app, &call("image_info", &json!({"image": name}))).await;
        assert_eq!(shown, facts);
    }
    let checked = |size: u64, media: &str| {
        call(
            "check_image",
            &json!({"sizeBytes": size, "contentType": media}),
        )
    };
    let fits = returned(&app, &checked(1000, "image/png")).await;
    assert_eq!(fits["accepted"], true);
    assert!(fits["curl"].as_str().unwrap().contains("/api/check/"));
    assert_eq!(
        returned(&app, &checked(1 << 40, "image/png")).await["accepted"],
        false
    );
    assert_eq!(
        returned(&app, &checked(1000, "image/svg+xml")).await["accepted"],
        false
    );

    for (wrong, error) in [
        (json!({"image": id}), "sign_in_required"),
        (
            json!({"image": id, "deleteToken": "0".repeat(40)}),
            "bad_delete_token",
        ),
    ] {
        let result = result(&app, &call("delete_image", &wrong)).await;
        assert_eq!(content(&result)["error"], error);
    }
    assert_eq!(app.get(&format!("/api/images/{id}")).await.status, 200);
    let right = json!({"image": id, "deleteToken": token});
    for _ in 0..2 {
        let deleted = returned(&app, &call("delete_image", &right)).await;
        assert_eq!(deleted, json!({"deleted": [id]}));
    }
    let gone = result(&app, &call("image_info", &json!({"image": id}))).await;
    assert_eq!(
        (&gone["isError"], &content(&gone)["error"]),
        (&json!(true), &json!("not_found"))
    );
}

#[tokio::test]
async fn a_renewal_is_paid_by_x402_over_mcp_and_only_once() {
    let app = TestApp::spawn().await;
    let image = uploaded(&app).await;
    let arguments = json!({"image": image["id"], "tier": "year"});
    let asked = result(&app, &call("renew_image", &arguments)).await;
    assert_eq!(asked["isError"], true);
    let required = content(&asked);
    assert_eq!(required["error"], "Payment required");
    let id = image["id"].as_str().unwrap();
    let url = format!(
        "{}/api/images/{id}/renew?tier=year",
        app.app.config.http.base_url
    );
    assert_eq!(required["resource"]["url"], url);
    assert!(
        asked["content"][1]["text"]
            .as_str()
            .unwrap()
            .contains("USDC")
    );
    assert!(app.transfers().await.is_empty());

    let payment = signed(&app, "renew_image", &arguments).await;
    let renewed = result(&app, &paying("renew_image", &arguments, &payment)).await;
    assert_eq!(renewed["isError"], false, "{renewed}");
    let settlement = &renewed["_meta"]["x402/payment-response"];
    assert_eq!(settlement["success"], true);
    let first = content(&renewed);
    assert_eq!((&first["id"], &first["tier"]), (&json!(id), &json!("year")));

    // The same payment again, by the tool and by the route, also 50 times at once.
    let again = (0..50)
        .map(|_| async { returned(&app, &paying("renew_image", &arguments, &payment)).await });
    for same in futures_util::future::join_all(again).await {
        assert_eq!(same, first);
    }
    let by_route = app
        .pay_at(&format!("/api/images/{id}/renew?tier=year"), &payment)
        .await;
    assert_eq!((by_route.status, by_route.json()), (200, first));
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_payment_that_is_refused_buys_nothing_and_says_so() {
    let app = TestApp::spawn().await;
    let image = uploaded(&app).await;
    let arguments = json!({"image": image["id"], "tier": "year"});
    let payment = signed(&app, "renew_image", &arguments).await;
    let mut forged = payment.clone();
    forged.sign_by(&signing::wallet(9));
    for payment in [
        json!("AAAA"),
        json!({}),
        json!([]),
        json!({"x402Version": 2}),
    ] {
        let mut message = call("renew_image", &arguments);
        message.body["params"]["_meta"]["x402/payment"] = payment;
        let refused = content(&result(&app, &message).await);
        assert_eq!(refused["error"], "bad_payment", "{refused}");
    }
    let refused = result(&app, &paying("renew_image", &arguments, &forged)).await;
    assert_eq!(refused["isError"], true, "{refused}");
    let again = content(&refused);
    assert_eq!(again["x402Version"], 2);
    assert_ne!(again["error"], "Payment required");
    assert!(refused["content"][1]["text"].as_str().unwrap().len() > 20);
    // Wrong arguments beside a payment say nothing of its charge.
    let wrong = paying("renew_image", &json!({"image": "no id"}), &payment);
    let wrong = content(&result(&app, &wrong).await);
    assert_eq!(
        (&wrong["error"], &wrong["charged"]),
        (&json!("invalid_arguments"), &Value::Null)
    );
    assert!(app.transfers().await.is_empty());
}

#[tokio::test]
async fn an_unknown_settlement_is_no_new_challenge_and_one_charge() {
    let app = TestApp::impatient().await;
    let image = uploaded(&app).await;
    let arguments = json!({"image": image["id"], "tier": "year"});
    let payment = signed(&app, "renew_image", &arguments).await;
    app.facilitator.next("settle", Fault::SilentAfter);
    let lost = result(&app, &paying("renew_image", &arguments, &payment)).await;
    let lost = content(&lost);
    assert_eq!(
        (&lost["error"], &lost["charged"]),
        (&json!("settlement_pending"), &Value::Null)
    );
    assert!(lost.get("accepts").is_none(), "{lost}");
    app.reconcile_until(&payment, "settled").await;
    let renewed = returned(&app, &paying("renew_image", &arguments, &payment)).await;
    assert_eq!(renewed["id"], image["id"]);
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_hundred_calls_at_once_are_all_answered() {
    let app = TestApp::spawn().await;
    let image = uploaded(&app).await;
    let message = call("image_info", &json!({"image": image["id"]}));
    let all = (0..100).map(|_| returned(&app, &message));
    for shown in futures_util::future::join_all(all).await {
        assert_eq!(shown["id"], image["id"]);
    }
}

#[tokio::test]
async fn paid_calls_count_against_the_limit_of_payments() {
    let app = TestApp::builder()
        .set("limits.payments_per_address_per_minute", "2")
        .spawn()
        .await;
    let image = uploaded(&app).await;
    let arguments = json!({"image": image["id"], "tier": "year"});
    for expected in [Value::Null, Value::Null, json!("rate_limited")] {
        let refused = content(&result(&app, &call("renew_image", &arguments)).await);
        if expected.is_null() {
            assert_eq!(refused["error"], "Payment required");
        } else {
            assert_eq!(refused["error"], expected);
        }
    }
}

/// Uploads by the command of a link, in its form for programs.
async fn upload_by_link(app: &TestApp, link: &Value, width: u32) -> Answer {
    let url = link["url"].as_str().unwrap();
    let path = url.strip_prefix(&app.app.config.http.base_url).unwrap();
    let headers = [
        ("accept", "application/json"),
        ("content-type", "image/png"),
    ];
    app.send("PUT", path, &headers, pictures::png(width, 9))
        .await
}

#[tokio::test]
async fn a_link_is_bought_by_a_tool_and_used_without_it() {
    let app = TestApp::spawn().await;
    let arguments = json!({"images": 2, "days": 3, "tier": "year"});
    let payment = signed(&app, "create_upload_link", &arguments).await;
    let bought = result(&app, &paying("create_upload_link", &arguments, &payment)).await;
    assert_eq!(
        bought["_meta"]["x402/payment-response"]["success"], true,
        "{bought}"
    );
    let link = content(&bought);
    assert_eq!(
        (&link["uploads"], &link["tier"]),
        (&json!(2), &json!("year"))
    );
    let same = returned(&app, &paying("create_upload_link", &arguments, &payment)).await;
    assert_eq!(same["url"], link["url"]);
    let by_route = app
        .pay_at("/api/links?images=2&days=3&tier=year", &payment)
        .await;
    assert_eq!(by_route.json()["url"], link["url"]);
    for (width, status) in [(5, 200), (6, 200), (7, 409)] {
        let answer = upload_by_link(&app, &link, width).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    assert_eq!(app.transfers().await.len(), 1);
    for (wrong, said) in [
        (json!({"images": 0}), "1 to 100"),
        (json!({"images": 101}), "1 to 100"),
        (json!({"days": 91}), "1 to 90"),
    ] {
        let refused = content(&result(&app, &call("create_upload_link", &wrong)).await);
        assert!(
            refused["message"].as_str().unwrap().contains(said),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn an_image_is_imported_by_a_tool_for_free_and_for_a_payment() {
    let origin = Origin::start(Reply::Image(pictures::png(8, 8))).await;
    let app = origin.allowed(TestApp::builder(), &[]).spawn().await;
    let url = origin.url();
    let free = json!({"url": url, "tier": "free"});
    let imported = returned(&app, &call("import_image", &free)).await;
    assert_eq!(
        (&imported["tier"], &imported["width"]),
        (&json!("free"), &json!(8))
    );
    assert!(imported["deleteToken"].is_string(), "{imported}");

    let order = json!({"url": url, "tier": "year"});
    let payment = signed(&app, "import_image", &order).await;
    assert_eq!(origin.connections(), 1);
    origin.reply(Reply::Head("404 Not Found".to_owned(), vec![]));
    let failed = content(&result(&app, &paying("import_image", &order, &payment)).await);
    assert_eq!(
        (&failed["error"], &failed["charged"]),
        (&json!("fetch_failed"), &json!(false))
    );
    origin.reply(Reply::Image(pictures::png(9, 9)));
    let bought = returned(&app, &paying("import_image", &order, &payment)).await;
    assert_eq!(
        (&bought["tier"], &bought["width"]),
        (&json!("year"), &json!(9))
    );
    let same = returned(&app, &paying("import_image", &order, &payment)).await;
    assert_eq!(same["id"], bought["id"]);
    assert_eq!((origin.connections(), app.transfers().await.len()), (3, 1));
    for (wrong, error) in [
        (
            json!({"url": "http://127.0.0.2/", "tier": "free"}),
            "url_not_allowed",
        ),
        (
            json!({"url": "http://127.0.0.2/", "tier": "year"}),
            "url_not_allowed",
        ),
        (json!({"tier": "free"}), "invalid_arguments"),
        (json!({"url": url, "metadata": "some"}), "invalid_arguments"),
        (json!({"url": url, "bytes": "AAAA"}), "invalid_arguments"),
    ] {
        let refused = content(&result(&app, &call("import_image", &wrong)).await);
        assert_eq!(refused["error"], error, "{wrong}");
    }
}

#[tokio::test]
async fn an_upload_is_a_command_for_the_users_machine() {
    let app = TestApp::spawn().await;
    let link = returned(&app, &call("upload_image", &json!({"tier": "free"}))).await;
    let (url, curl) = (
        link["url"].as_str().unwrap(),
        link["curl"].as_str().unwrap(),
    );
    assert_eq!(curl, format!("curl -T image.png {url}"));
    let answer = upload_by_link(&app, &link, 9).await;
    assert_eq!(
        (answer.status, answer.json()["tier"].as_str()),
        (200, Some("free"))
    );
    assert_eq!(upload_by_link(&app, &link, 8).await.status, 409);

    let paid = json!({"tier": "permanent"});
    let payment = signed(&app, "upload_image", &paid).await;
    let link = returned(&app, &paying("upload_image", &paid, &payment)).await;
    assert_eq!(
        upload_by_link(&app, &link, 9).await.json()["tier"],
        "permanent"
    );
    assert_eq!(app.transfers().await.len(), 1);
    let unknown = content(&result(&app, &call("upload_image", &json!({"tier": "gold"}))).await);
    assert_eq!(unknown["error"], "unknown_tier");
}

#[tokio::test]
async fn free_links_of_tools_count_against_the_free_uploads() {
    let app = TestApp::builder()
        .set("limits.free_per_address_per_hour", "2")
        .spawn()
        .await;
    let one = call("upload_image", &json!({"tier": "free"}));
    for _ in 0..2 {
        returned(&app, &one).await;
    }
    let spent = content(&result(&app, &one).await);
    assert_eq!(spent["error"], "rate_limited", "{spent}");
    assert_eq!(spent["action"]["type"], "wait");
}

/// The message of an error names arguments, and nothing of HTTP that a tool can't send.
fn speaks_of_arguments(error: &Value) {
    let text = error["message"].as_str().unwrap();
    for http in ["SIGN-IN-WITH-X", "X-Delete-Token", "header", "?after="] {
        assert!(!text.contains(http), "{text}");
    }
}

/// The same call with the message that its refusal asks the wallet to sign.
async fn sign_in_for(
    app: &TestApp,
    name: &str,
    arguments: &Value,
    wallet: &PrivateKeySigner,
) -> Message {
    let refused = result(app, &call(name, arguments)).await;
    assert_eq!(refused["isError"], true, "{refused}");
    let asked = content(&refused);
    assert_eq!(asked["error"], "sign_in_required", "{asked}");
    speaks_of_arguments(&asked);
    let message = answering(&asked["extensions"]["sign-in-with-x"], wallet);
    let mut arguments = arguments.clone();
    arguments["signIn"] = serde_json::to_value(&message).unwrap();
    call(name, &arguments)
}

/// Buys an upload of the tier `year` with the wallet of the test, and returns the image.
async fn paid_image(app: &TestApp, width: u32) -> Value {
    let payment = app.sign_at("/api/upload/year").await;
    let answer = app.pay_with(&payment, &pictures::png(width, 9)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn a_wallet_signs_in_to_list_and_delete_its_images() {
    let app = TestApp::spawn().await;
    let older = paid_image(&app, 5).await;
    // Images of the same millisecond have no order in time.
    app.advance(std::time::Duration::from_secs(1));
    let images = [older, paid_image(&app, 6).await];
    uploaded(&app).await;

    let first = sign_in_for(&app, "list_my_images", &json!({"limit": 1}), &app.wallet).await;
    let page = returned(&app, &first).await;
    assert_eq!(page["images"][0]["id"], images[1]["id"], "the newest first");
    let next = json!({"limit": 1, "after": page["next"]});
    let second = returned(&app, &call("list_my_images", &next)).await;
    assert_eq!(second["images"][0]["id"], images[0]["id"]);
    assert_eq!(second["next"], Value::Null);
    // A message signs in once.
    let again = content(&result(&app, &first).await);
    assert_eq!(again["error"], "sign_in_invalid", "{again}");
    let stranger = signing::wallet(9);
    let theirs = sign_in_for(&app, "list_my_images", &json!({}), &stranger).await;
    assert_eq!(returned(&app, &theirs).await["images"], json!([]));

    let image = json!({"image": images[0]["id"]});
    let theirs = sign_in_for(&app, "delete_image", &image, &stranger).await;
    let theirs = content(&result(&app, &theirs).await);
    assert_eq!(theirs["error"], "not_owner");
    speaks_of_arguments(&theirs);
    let wrong = json!({"image": images[0]["id"], "deleteToken": "0".repeat(40)});
    let wrong = content(&result(&app, &call("delete_image", &wrong)).await);
    assert!(
        wrong["message"]
            .to_string()
            .contains("argument deleteToken"),
        "{wrong}"
    );
    speaks_of_arguments(&wrong);
    let used = json!({"after": "nonsense"});
    let used = content(&result(&app, &call("list_my_images", &used)).await);
    speaks_of_arguments(&used);
    // The message names its image, so it deletes no other.
    let mut other = sign_in_for(&app, "delete_image", &image, &app.wallet).await;
    other.body["params"]["arguments"]["image"] = images[1]["id"].clone();
    assert_eq!(
        content(&result(&app, &other).await)["error"],
        "sign_in_invalid"
    );
    let mine = sign_in_for(&app, "delete_image", &image, &app.wallet).await;
    assert_eq!(
        returned(&app, &mine).await,
        json!({"deleted": [images[0]["id"]]})
    );
    for bad in [json!("AAAA"), json!({}), json!({"domain": 7})] {
        let refused = call("list_my_images", &json!({"signIn": bad}));
        let refused = content(&result(&app, &refused).await);
        assert_eq!(refused["error"], "invalid_arguments", "{refused}");
    }
}
