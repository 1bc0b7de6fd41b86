//! HTTP as clients see it when they pay or look for a way to: challenges, receipts, errors.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use pixtoll::db::Db;
use serde_json::{Value, json};
use sqlx::Connection;

use crate::support::proxy::Fault;
use crate::support::{Answer, Payment, TestApp, pictures};

const SELLING: [&str; 6] = [
    "/api/upload/token",
    "/api/upload/token/year",
    "/api/upload/token/permanent",
    "/api/upload",
    "/api/upload/year",
    "/api/upload/permanent",
];
const NONE: [(&str, &str); 0] = [];
const USDC: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";

fn price_of(path: &str) -> &'static str {
    if path.ends_with("permanent") {
        "1000000"
    } else {
        "10000"
    }
}

fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

fn pay_to(app: &TestApp) -> String {
    let pay_to = app.app.checkout.as_ref().unwrap().catalog.pay_to();
    pay_to.to_checksum(None)
}

#[tokio::test]
async fn a_version_2_challenge_matches_the_specification() {
    let app = TestApp::spawn().await;
    for path in SELLING {
        let answer = app.post(path).await;
        assert_eq!(
            answer.verdict(),
            (402, "payment_required".to_owned(), Some(false))
        );
        let header = answer.header("payment-required").unwrap();
        // The strictest form that clients accept, and a size that passes through proxies.
        let body = header.trim_end_matches('=');
        assert!(header.len() - body.len() <= 2 && header.len().is_multiple_of(4));
        assert!(
            body.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
        );
        assert!(header.len() < 3 * 1024, "{path}: {} bytes", header.len());

        let challenge = answer.document("payment-required");
        assert_eq!(
            keys(&challenge),
            ["accepts", "error", "extensions", "resource", "x402Version"]
        );
        assert_eq!(challenge["x402Version"], 2);
        assert_eq!(challenge["error"], "Payment required");
        assert_eq!(
            keys(&challenge["resource"]),
            ["description", "mimeType", "url"]
        );
        assert_eq!(challenge["resource"]["url"], format!("{}{path}", app.base));
        assert_eq!(challenge["resource"]["mimeType"], "application/json");
        let description = challenge["resource"]["description"].as_str().unwrap();
        assert!((1..=500).contains(&description.len()) && description.contains("play money"));
        let offer = json!({
            "scheme": "exact", "network": "eip155:84532", "amount": price_of(path), "asset": USDC,
            "payTo": pay_to(&app), "maxTimeoutSeconds": 300,
            "extra": {"name": "USDC", "version": "2"},
        });
        assert_eq!(challenge["accepts"], json!([offer]));
        assert_eq!(
            keys(&challenge["extensions"]),
            ["bazaar", "offer-receipt", "payment-identifier", "pixtoll"]
        );
        let identifier = &challenge["extensions"]["payment-identifier"];
        assert_eq!(identifier["info"], json!({"required": false}));
        assert_eq!(
            challenge["extensions"]["pixtoll"]["info"]["playMoney"],
            true
        );
        let ticket = challenge["extensions"]["pixtoll"]["info"]["ticket"].clone();
        let ticket = ticket.as_str().unwrap();
        assert!(
            ticket.len() == 32
                && ticket
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        );
        for (name, extension) in challenge["extensions"].as_object().unwrap() {
            check_schema(&extension["info"], &extension["schema"], name);
        }
    }
}

#[tokio::test]
async fn a_version_1_challenge_has_every_field_that_old_clients_need() {
    let app = TestApp::spawn().await;
    for path in SELLING {
        let answer = app.post(path).await;
        assert_eq!(
            answer.header("content-type").as_deref(),
            Some("application/json")
        );
        let body = answer.json();
        assert_eq!(body["x402Version"], 1);
        let accepts = body["accepts"].as_array().unwrap();
        assert_eq!(accepts.len(), 1);
        let offer = &accepts[0];
        assert_eq!(
            keys(offer),
            [
                "asset",
                "description",
                "extra",
                "maxAmountRequired",
                "maxTimeoutSeconds",
                "mimeType",
                "network",
                "outputSchema",
                "payTo",
                "resource",
                "scheme"
            ]
        );
        assert_eq!(offer["scheme"], "exact");
        assert_eq!(offer["network"], "base-sepolia");
        assert_eq!(offer["maxAmountRequired"], price_of(path));
        assert_eq!(offer["resource"], format!("{}{path}", app.base));
        assert_eq!(offer["mimeType"], "application/json");
        assert_eq!(offer["maxTimeoutSeconds"], 300);
        assert_eq!(offer["extra"], json!({"name": "USDC", "version": "2"}));
        assert_eq!(
            (&offer["asset"], &offer["payTo"]),
            (&json!(USDC), &json!(pay_to(&app)))
        );
        assert!(offer["description"].is_string() && offer["outputSchema"].is_object());
        assert_eq!(offer["outputSchema"]["input"]["method"], "POST");
        assert!(!body.to_string().contains("null"), "{body}");
    }
}

/// Checks a value by JSON Schema, as far as it is used here. An unknown keyword fails.
fn check_schema(value: &Value, schema: &Value, at: &str) {
    for (keyword, rule) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$schema" => assert_eq!(rule, "https://json-schema.org/draft/2020-12/schema"),
            "description" => {}
            "type" => {
                let is = match rule.as_str().unwrap() {
                    "object" => value.is_object(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    other => panic!("{at}: type {other}"),
                };
                assert!(is, "{at} is no {rule}: {value}");
            }
            "const" => assert_eq!(value, rule, "{at}"),
            "enum" => assert!(rule.as_array().unwrap().contains(value), "{at}: {value}"),
            "required" => {
                for name in rule.as_array().unwrap() {
                    assert!(
                        value.get(name.as_str().unwrap()).is_some(),
                        "{at} lacks {name}"
                    );
                }
            }
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        check_schema(value, rule, &format!("{at}.{name}"));
                    }
                }
            }
            "minLength" => assert!(value.as_str().unwrap().len() as u64 >= rule.as_u64().unwrap()),
            "maxLength" => assert!(value.as_str().unwrap().len() as u64 <= rule.as_u64().unwrap()),
            other => panic!("{at}: {other} is unknown here"),
        }
    }
}

#[tokio::test]
async fn the_bazaar_extension_describes_how_to_call_the_route() {
    let app = TestApp::spawn().await;
    for path in SELLING {
        let challenge = app.post(path).await.document("payment-required");
        let bazaar = &challenge["extensions"]["bazaar"];
        assert_eq!(keys(bazaar), ["info", "schema"]);
        let input = &bazaar["info"]["input"];
        assert_eq!(
            (&input["type"], &input["method"], &input["bodyType"]),
            (&json!("http"), &json!("POST"), &json!("json"))
        );
        assert_eq!(
            input["body"].get("image").is_some(),
            !path.contains("token")
        );
        assert!(bazaar["info"]["output"]["example"].is_object());
        assert!(!bazaar["schema"].to_string().contains("$ref"));
    }
}

#[tokio::test]
async fn every_challenge_has_its_own_ticket() {
    let app = TestApp::spawn().await;
    let mut tickets = std::collections::BTreeSet::new();
    for _ in 0..5 {
        for path in SELLING {
            let challenge = app.post(path).await.document("payment-required");
            let ticket = &challenge["extensions"]["pixtoll"]["info"]["ticket"];
            assert!(tickets.insert(ticket.as_str().unwrap().to_owned()));
        }
    }
    // A rejected payment is answered with a fresh ticket as well.
    let payment = app.sign_for("permanent").await;
    let refused = app.pay_at("/api/upload/token/year", &payment).await;
    let challenge = refused.document("payment-required");
    let ticket = &challenge["extensions"]["pixtoll"]["info"]["ticket"];
    assert!(tickets.insert(ticket.as_str().unwrap().to_owned()));
    assert_ne!(*ticket, payment.extensions["pixtoll"]["info"]["ticket"]);
}

#[tokio::test]
async fn every_probe_of_a_paid_route_gets_a_challenge() {
    let app = TestApp::spawn().await;
    for path in SELLING {
        for method in ["GET", "POST", "HEAD"] {
            let answer = app.send(method, path, &NONE, "").await;
            assert_eq!(answer.status, 402, "{method} {path}");
            let challenge = answer.document("payment-required");
            assert_eq!(challenge["accepts"][0]["amount"], price_of(path));
            assert_eq!(answer.bytes.is_empty(), method == "HEAD", "{method} {path}");
        }
        let options = app.send("OPTIONS", path, &NONE, "").await;
        assert_eq!(options.status, 204, "OPTIONS {path}: {}", options.text());
        assert!(options.header("allow").unwrap().contains("POST"));
    }
    for (path, allowed) in [("/api/free", "POST"), ("/api/tiers", "GET")] {
        let options = app.send("OPTIONS", path, &NONE, "").await;
        assert_eq!(options.status, 204, "OPTIONS {path}");
        assert!(options.header("allow").unwrap().contains(allowed));
    }
    for path in ["/api/tiers", "/api/images/k3v9Qw2mZr7T"] {
        let (get, head) = (app.get(path).await, app.send("HEAD", path, &NONE, "").await);
        assert_eq!(
            (head.status, head.bytes.len()),
            (get.status, 0),
            "HEAD {path}"
        );
    }
}

#[tokio::test]
async fn a_paid_get_buys_as_a_post_does() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let path = payment.path.clone();
    let bought = app.send("GET", &path, &payment.headers(), "").await;
    assert_eq!(app.pay(&payment).await.token(), bought.token());
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn the_challenge_comes_before_the_body_is_examined() {
    let app = TestApp::spawn().await;
    let bodies: [(&str, &[u8]); 9] = [
        ("", b""),
        ("image/png", b"not a picture"),
        ("image/svg+xml", b"<svg/>"),
        ("application/json", b"{"),
        ("application/json", b"{\"image\": 7}"),
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"--y"),
        ("text/html", b"<html>"),
        ("no/such; thing", b"\0\0"),
    ];
    for path in SELLING {
        for (kind, body) in bodies {
            let headers = [("content-type", kind), ("content-encoding", "gzip")];
            let answer = app.send("POST", path, &headers, body.to_vec()).await;
            assert_eq!(answer.error(), "payment_required", "{kind} at {path}");
        }
    }
}

type Headers = Vec<(&'static str, String)>;

/// A connection on which requests are written literally.
struct Line(TcpStream);

impl Line {
    fn to(app: &TestApp) -> Self {
        let stream = TcpStream::connect(app.base.trim_start_matches("http://")).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
            .set_write_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self(stream)
    }

    /// Sends the whole request before it reads anything, as clients without `Expect` do.
    fn post(&mut self, path: &str, headers: &[(&str, String)], body: &[u8]) -> (u16, String) {
        let mut head = format!("POST {path} HTTP/1.1\r\nHost: here\r\n");
        for (name, value) in headers {
            head.extend([*name, ": ", value, "\r\n"]);
        }
        let length = body.len().to_string();
        head.extend(["Content-Length: ", &length, "\r\n\r\n"]);
        self.0.write_all(head.as_bytes()).unwrap();
        self.0.write_all(body).unwrap();
        self.read()
    }

    fn read(&mut self) -> (u16, String) {
        let mut seen = Vec::new();
        let mut byte = [0];
        while !seen.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        let head = String::from_utf8(seen).unwrap();
        let length = head.lines().find_map(|line| {
            line.to_lowercase()
                .strip_prefix("content-length: ")?
                .parse()
                .ok()
        });
        let mut body = vec![0; length.unwrap_or(0)];
        self.0.read_exact(&mut body).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head + &String::from_utf8_lossy(&body))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpaid_request_with_a_body_is_answered_and_can_continue() {
    let app = TestApp::spawn().await;
    let picture = pictures::png_of_size(4 << 20);
    let png = || ("Content-Type", "image/png".to_owned());
    let signed = app.sign_at("/api/upload/year").await;
    let cases: [(&str, Headers, u16); 13] = [
        ("/api/upload", vec![], 402),
        ("/api/upload/year", vec![], 402),
        ("/api/upload/permanent", vec![], 402),
        ("/api/upload/token", vec![], 402),
        ("/api/free", vec![], 413),
        ("/api/upload/gold", vec![], 404),
        ("/api/upload?images=3", vec![], 400),
        ("/api/nothing", vec![], 404),
        ("/api/tiers", vec![], 405),
        (
            "/api/upload",
            vec![("X-Upload-Token", "nonsense".to_owned())],
            401,
        ),
        (
            "/api/upload",
            vec![("X-Upload-Token", "ab".repeat(20))],
            401,
        ),
        (
            "/api/upload/year",
            vec![("PAYMENT-SIGNATURE", "nonsense".to_owned())],
            400,
        ),
        (
            "/api/upload",
            vec![
                ("X-Upload-Token", "ab".repeat(20)),
                ("PAYMENT-SIGNATURE", signed.header()),
            ],
            400,
        ),
    ];
    for (path, mut headers, status) in cases {
        let beside_token = headers.len() == 2;
        headers.push(png());
        let paid = app.sign_at("/api/upload/year").await;
        let mut line = Line::to(&app);
        let (first, text) = line.post(path, &headers, &picture);
        assert_eq!(first, status, "{path} {text}");
        // The ledger was not asked about a payment beside a token.
        let charged = format!(
            "\"charged\":{}",
            if beside_token { "null" } else { "false" }
        );
        assert!(text.contains(&charged), "{path} {text}");
        // The same connection accepts the paid request.
        let mut headers = vec![png()];
        headers.extend(paid.headers());
        let (second, text) = line.post("/api/upload/year", &headers, &picture);
        assert_eq!(second, 200, "after {path}: {text}");
    }
}

#[tokio::test]
async fn a_browser_wallet_may_call_from_any_origin() {
    let app = TestApp::spawn().await;
    let asked = "payment-signature, x-payment, x-upload-token, content-type, \
                 access-control-expose-headers, idempotency-key";
    for path in SELLING.iter().chain(&["/api/free", "/api/tiers"]) {
        for method in ["POST", "GET"] {
            let preflight = [
                ("Origin", "https://wallet.example"),
                ("Access-Control-Request-Method", method),
                ("Access-Control-Request-Headers", asked),
            ];
            let answer = app.send("OPTIONS", path, &preflight, "").await;
            assert!(
                answer.status < 300,
                "{path}: {} {}",
                answer.status,
                answer.text()
            );
            assert_eq!(
                answer.header("access-control-allow-origin").as_deref(),
                Some("*")
            );
            let allowed = answer
                .header("access-control-allow-headers")
                .unwrap()
                .to_lowercase();
            for header in asked.split(", ") {
                assert!(allowed.contains(header), "{header} is not in {allowed}");
            }
            let methods = answer.header("access-control-allow-methods").unwrap();
            assert!(methods.contains(method), "{methods}");
            assert_eq!(answer.header("access-control-allow-credentials"), None);
        }
        let answer = app
            .send("POST", path, &[("Origin", "https://wallet.example")], "")
            .await;
        assert_eq!(
            answer.header("access-control-allow-origin").as_deref(),
            Some("*"),
            "{path}"
        );
        let exposed = answer
            .header("access-control-expose-headers")
            .unwrap()
            .to_lowercase();
        for header in [
            "payment-required",
            "payment-response",
            "x-payment-response",
            "retry-after",
        ] {
            assert!(exposed.contains(header), "{header} is not in {exposed}");
        }
    }
}

#[tokio::test]
async fn a_receipt_names_the_network_as_its_version_does() {
    let app = TestApp::spawn().await;
    for (ours, other, network) in [
        ("payment-response", "x-payment-response", "eip155:84532"),
        ("x-payment-response", "payment-response", "base-sepolia"),
    ] {
        let mut payment = app.sign_for("year").await;
        if network == "base-sepolia" {
            payment = payment.as_v1();
        }
        let answer = app.pay(&payment).await;
        assert_eq!(answer.status, 200);
        let transaction = app.transfers().await.pop().unwrap().transaction.to_string();
        let mut receipt = answer.document(ours);
        let extensions = receipt.as_object_mut().unwrap().remove("extensions");
        assert_eq!(keys(&extensions.unwrap()), ["offer-receipt", "pixtoll"]);
        assert_eq!(
            receipt,
            json!({"success": true, "transaction": transaction, "network": network,
                   "payer": app.wallet.address().to_checksum(None)})
        );
        assert_eq!(answer.header(other), None);
    }
}

#[tokio::test]
async fn a_failed_settlement_is_reported_with_the_next_offer() {
    let app = TestApp::spawn().await;
    let reason = "invalid_exact_evm_signature";
    for (ours, network) in [
        ("payment-response", "eip155:84532"),
        ("x-payment-response", "base-sepolia"),
    ] {
        let mut payment = app.sign_for("year").await;
        if network == "base-sepolia" {
            payment = payment.as_v1();
        }
        app.facilitator.next("settle", Fault::refusal(200, reason));
        let answer = app.pay(&payment).await;
        assert_eq!(
            answer.verdict(),
            (402, "payment_failed".to_owned(), Some(false))
        );
        let receipt = answer.document(ours);
        assert_eq!(
            (
                &receipt["success"],
                &receipt["transaction"],
                &receipt["network"]
            ),
            (&json!(false), &json!(""), &json!(network))
        );
        assert_eq!(receipt["errorReason"], reason);
        assert_eq!(answer.document("payment-required")["error"], reason);
    }
}

/// The state of the database as another connection sees it. Every commit changes it.
async fn state(app: &TestApp, watcher: &mut sqlx::SqliteConnection) -> String {
    match app.db() {
        Db::Sqlite(_) => {
            let sql = "PRAGMA data_version";
            let version: i64 = sqlx::query_scalar(sql).fetch_one(watcher).await.unwrap();
            version.to_string()
        }
        Db::Postgres(pool) => {
            // Every row with its transaction and location. The server's own counters include the
            // databases of other tests.
            let sql = "SELECT string_agg(query_to_xml(format( \
                       'SELECT xmin, xmax, ctid, * FROM %I', tablename), true, true, '')::text, '' \
                       ORDER BY tablename) FROM pg_tables WHERE schemaname = 'public'";
            sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
        }
    }
}

#[tokio::test]
async fn a_challenge_costs_no_call_and_no_write() {
    let app = TestApp::spawn().await;
    let path = app
        .database_url()
        .strip_prefix("sqlite:")
        .unwrap_or(":memory:");
    let mut watcher = sqlx::SqliteConnection::connect(path).await.unwrap();
    // A free upload changes the state, so the check works.
    let before = state(&app, &mut watcher).await;
    app.upload_free(pictures::png(2, 2)).await;
    let start = state(&app, &mut watcher).await;
    assert_ne!(before, start);
    let calls = app.calls();
    for path in SELLING {
        for method in ["GET", "POST", "HEAD", "OPTIONS"] {
            app.send(method, path, &NONE, vec![7; 100_000]).await;
        }
    }
    assert_eq!(app.calls(), calls);
    assert_eq!(state(&app, &mut watcher).await, start);
}

#[tokio::test]
async fn the_facilitator_gets_our_offer_and_no_secret_of_the_client() {
    let app = TestApp::spawn().await;
    let (id, key) = ("a-secret-id-of-the-payer", "a-secret-key-of-the-payer");
    for path in SELLING {
        let signed = app
            .sign_at(path)
            .await
            .with_idempotency_key(&format!("{key}{path}"));
        let mut payment = signed.with_id(&format!("{id}{}", path.replace('/', "_")));
        payment.accepted["extra"]["injected"] = json!("by the client");
        payment.accepted["payTo"] = json!(pay_to(&app).to_lowercase());
        payment.resource["description"] = json!("by the client");
        payment.extensions["bazaar"]["info"]["output"] = json!({"type": "by the client"});
        payment.extensions["foreign"] = json!("by the client");
        let answer = app.pay_with(&payment, &pictures::png(3, 3)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        is_ours(&app, path, &payment);
        let v1 = app.sign_at(path).await.as_v1();
        let answer = app.pay_with(&v1, &pictures::png(3, 4)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        is_ours(&app, path, &v1);
    }
    let sent = format!(
        "{:?}",
        [
            app.facilitator.bodies("verify"),
            app.facilitator.bodies("settle")
        ]
    );
    for secret in [
        id,
        key,
        "ticket",
        "payment-identifier",
        "by the client",
        "injected",
        "foreign",
    ] {
        assert!(!sent.contains(secret), "{secret}");
    }
}

fn is_ours(app: &TestApp, path: &str, payment: &Payment) {
    let [verify, settle] =
        ["verify", "settle"].map(|call| app.facilitator.bodies(call).pop().unwrap());
    assert_eq!(verify, settle);
    assert_eq!(
        keys(&settle),
        ["paymentPayload", "paymentRequirements", "x402Version"]
    );
    let (sent, asked) = (&settle["paymentPayload"], &settle["paymentRequirements"]);
    assert_eq!(sent["payload"], payment.document()["payload"]);
    assert_eq!(asked["payTo"], pay_to(app));
    assert_eq!(asked["extra"], json!({"name": "USDC", "version": "2"}));
    if payment.wire == crate::support::Wire::V1 {
        assert_eq!(settle["x402Version"], 1);
        assert_eq!(keys(sent), ["network", "payload", "scheme", "x402Version"]);
        assert_eq!(sent["network"], "base-sepolia");
        assert_eq!(asked["maxAmountRequired"], price_of(path));
        assert_eq!(asked["resource"], format!("{}{path}", app.base));
    } else {
        assert_eq!(settle["x402Version"], 2);
        assert_eq!(
            keys(sent),
            [
                "accepted",
                "extensions",
                "payload",
                "resource",
                "x402Version"
            ]
        );
        assert_eq!(sent["accepted"], *asked);
        assert_eq!(asked["amount"], price_of(path));
        assert_eq!(keys(&sent["extensions"]), ["bazaar"]);
        assert_eq!(sent["resource"]["url"], format!("{}{path}", app.base));
    }
}

#[tokio::test]
async fn the_price_table_says_what_is_sold_where() {
    let app = TestApp::spawn().await;
    let answer = app.get("/api/tiers").await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    let tiers = body["tiers"].as_array().unwrap();
    let names: Vec<_> = tiers
        .iter()
        .map(|tier| tier["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["free", "year", "permanent"]);
    let amounts: Vec<_> = tiers.iter().map(|tier| &tier["price"]["amount"]).collect();
    assert_eq!(amounts, ["0", "10000", "1000000"]);
    assert!(
        tiers
            .iter()
            .all(|tier| tier["price"]["decimals"] == 6 && tier["available"] == true)
    );
    let sizes: Vec<_> = tiers
        .iter()
        .map(|tier| tier["maxBytes"].as_u64().unwrap())
        .collect();
    assert_eq!(sizes, [1 << 20, 5 << 20, 5 << 20]);
    let kept: Vec<_> = tiers
        .iter()
        .map(|tier| tier["keepSeconds"].as_u64())
        .collect();
    assert_eq!(kept, [Some(7 * 86_400), Some(365 * 86_400), None]);
    assert_eq!(
        body["payments"],
        json!({"network": "eip155:84532", "asset": USDC, "payTo": pay_to(&app), "playMoney": true,
               "networks": [{"network": "eip155:84532", "asset": USDC}]})
    );
    for tier in tiers {
        for (what, url) in tier["routes"].as_object().unwrap() {
            let probe = app.send("POST", url.as_str().unwrap(), &NONE, "").await;
            let expected = if tier["name"] == "free" { 400 } else { 402 };
            assert_eq!(probe.status, expected, "{what} of {tier}");
        }
    }
}

/// Asserts that an error has the documented shape.
fn has_the_shape(answer: &Answer, name: &str) {
    let body = answer.json();
    assert!(
        body["error"].is_string() && body["message"].is_string(),
        "{name}: {body}"
    );
    assert!(
        body["charged"].is_boolean() || body["charged"].is_null(),
        "{name}: {body}"
    );
    assert!(body.get("charged").is_some(), "{name}: {body}");
    let action = body["action"]["type"].as_str().unwrap();
    let known = ["wait", "pay", "retry", "resize", "fix_request", "contact"];
    assert!(known.contains(&action), "{name}: {action}");
    let waits = matches!(action, "wait" | "retry");
    assert_eq!(answer.header("retry-after").is_some(), waits, "{name}");
    assert_eq!(
        body["action"]["retryAfterSeconds"].is_u64(),
        waits,
        "{name}"
    );
    if answer.status != 402 {
        assert!(
            body["message"].as_str().unwrap().ends_with(['.', ')']),
            "{name}: {body}"
        );
        assert!(
            body["message"].as_str().unwrap().len() > 20,
            "{name}: {body}"
        );
    }
    assert_eq!(
        answer.header("content-type").as_deref(),
        Some("application/json"),
        "{name}"
    );
    // Missing images are requested again and again; the response may be cached for a minute.
    let control = match (answer.status, name.contains(" /i/")) {
        (404, true) => "public, max-age=60",
        _ => "no-store",
    };
    assert_eq!(
        answer.header("cache-control").as_deref(),
        Some(control),
        "{name}"
    );
    assert!(answer.header("x-request-id").is_some(), "{name}");
}

#[tokio::test]
async fn every_error_has_the_same_shape_and_a_short_cache_time() {
    let app = TestApp::spawn().await;
    for (method, path, status, error) in [
        ("GET", "/admin", 404, "unknown_route"),
        ("GET", "/metrics", 404, "unknown_route"),
        ("POST", "/nothing/at/all", 404, "unknown_route"),
        ("GET", "/i/short", 404, "not_found"),
        ("GET", "/i/k3v9Qw2mZr7T", 404, "not_found"),
        ("GET", "/i/k3v9Qw2mZr7T.png", 404, "not_found"),
        ("GET", "/i/%ff%fe", 404, "not_found"),
        ("GET", "/i/..%2f..%2fetc%2fpasswd", 404, "not_found"),
        ("PUT", "/i/k3v9Qw2mZr7T", 405, "method_not_allowed"),
        ("GET", "/api/", 404, "unknown_route"),
        ("GET", "/api/nothing", 404, "unknown_route"),
        ("POST", "/api/upload/", 404, "unknown_route"),
        ("POST", "/api//upload", 404, "unknown_route"),
        ("POST", "/API/upload", 404, "unknown_route"),
        ("POST", "/api/upload%2Ftoken", 404, "unknown_route"),
        ("POST", "/api/upload/free", 404, "unknown_tier"),
        ("POST", "/api/upload/token/free", 404, "unknown_tier"),
        ("POST", "/api/upload/token/token", 404, "unknown_tier"),
        ("POST", "/api/upload/gold", 404, "unknown_tier"),
        ("POST", "/api/upload/%ff", 404, "unknown_tier"),
        ("POST", "/api/upload/token/gold", 404, "unknown_tier"),
        (
            "POST",
            "/api/upload/token?images=101",
            400,
            "invalid_parameter",
        ),
        (
            "POST",
            "/api/upload/token?images=+3",
            400,
            "invalid_parameter",
        ),
        (
            "POST",
            "/api/upload/token?images=03",
            400,
            "invalid_parameter",
        ),
        ("POST", "/api/upload?images=3", 400, "invalid_parameter"),
        (
            "POST",
            "/api/upload/token/year?images=0",
            400,
            "invalid_parameter",
        ),
        ("POST", "/api/upload?images=many", 400, "invalid_parameter"),
        (
            "POST",
            "/api/upload?images=1&images=2",
            400,
            "invalid_parameter",
        ),
        ("GET", "/api/images/nothing", 404, "not_found"),
        ("GET", "/api/images/%ff", 404, "not_found"),
        ("GET", "/api/images/k3v9Qw2mZr7T", 404, "not_found"),
        ("GET", "/api/free", 405, "method_not_allowed"),
        ("PATCH", "/api/upload", 405, "method_not_allowed"),
        ("POST", "/api/free/a.png", 404, "unknown_route"),
        ("POST", "/api/upload/year/a.png", 404, "unknown_route"),
        ("PATCH", "/api/upload/token", 405, "method_not_allowed"),
        ("POST", "/api/tiers", 405, "method_not_allowed"),
        ("POST", "/api/free", 400, "no_file"),
    ] {
        let answer = app.send(method, path, &NONE, "").await;
        let name = format!("{method} {path}");
        assert_eq!(answer.status, status, "{name} {}", answer.text());
        assert_eq!(answer.error(), error, "{name}");
        assert_eq!(answer.charged(), Some(false), "{name}");
        assert_eq!(answer.header("allow").is_some(), status == 405, "{name}");
        has_the_shape(&answer, &name);
    }
    for path in SELLING {
        has_the_shape(&app.post(path).await, path);
    }
    let one = app.post("/api/upload/token?images=1").await;
    assert_eq!(one.status, 402);
}

#[tokio::test]
async fn every_response_about_a_payment_has_the_same_shape() {
    let app = TestApp::builder()
        .set("payments.timeout", "2s")
        .spawn()
        .await;
    let payment = app.sign_for("year").await;
    app.facilitator
        .next("verify", Fault::Instead(500, "oops".to_owned()));
    app.facilitator
        .next("verify", Fault::Instead(500, "oops".to_owned()));
    let down = app.pay(&payment).await;
    assert_eq!(
        down.verdict(),
        (503, "facilitator_unavailable".to_owned(), Some(false))
    );
    has_the_shape(&down, "no verify");
    app.advance(Duration::from_secs(6));
    app.facilitator.next("settle", Fault::SilentAfter);
    let lost = app.pay(&payment).await;
    assert_eq!(lost.verdict(), (503, "settlement_pending".to_owned(), None));
    has_the_shape(&lost, "lost");
    let stranger = app.pay(&payment.copied_from_the_chain()).await;
    assert_eq!(stranger.verdict(), (409, "payment_known".to_owned(), None));
    has_the_shape(&stranger, "stranger");
    let bought = app.pay(&payment).await;
    assert_eq!(bought.status, 200);
    assert_eq!(bought.header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(
        app.get("/api/tiers")
            .await
            .header("cache-control")
            .as_deref(),
        Some("no-store")
    );
}

#[tokio::test]
async fn without_a_facilitator_paid_tiers_are_disabled_and_free_uploads_work() {
    let app = TestApp::builder().without_facilitator().spawn().await;
    for path in SELLING {
        for method in ["GET", "POST"] {
            let answer = app
                .send(method, path, &[("PAYMENT-SIGNATURE", "bm90aGluZw==")], "")
                .await;
            assert_eq!(
                answer.verdict(),
                // The payment may have been accepted before paid tiers were disabled.
                (503, "payments_disabled".to_owned(), None),
                "{path}"
            );
            assert!(answer.field("message").contains("sells nothing"));
            assert_eq!(answer.json()["action"]["type"], "contact");
            assert_eq!(answer.header("payment-required"), None);
        }
    }
    let body = app.get("/api/tiers").await.json();
    assert_eq!(body["payments"], Value::Null);
    for tier in body["tiers"].as_array().unwrap() {
        assert_eq!(tier["available"], tier["name"] == "free", "{tier}");
    }
    assert_eq!(app.upload_free(pictures::png(2, 2)).await.status, 200);
}
