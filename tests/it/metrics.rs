//! `/metrics`, traces and the access log: what they hold, and what they never hold.

use std::collections::BTreeSet;

use crate::support::collector::{Collector, attribute};
use crate::support::process::{Deployment, Request, SandboxProcess, eventually};
use crate::support::proxy::{Fault, Proxy};
use crate::support::{client_from, pictures};

/// What a server shows at `/metrics`.
struct Shown(String);

impl Shown {
    async fn by(deployment: &Deployment) -> Self {
        let answer = deployment
            .answer(&Request::get(&format!("{}/metrics", deployment.admin)))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let kind = answer.header("content-type").unwrap();
        assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"));
        Self(answer.text())
    }

    /// Every series, without its value.
    fn series(&self) -> BTreeSet<String> {
        let lines = self.0.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
            .collect()
    }

    /// The sum of a metric's series whose labels hold each of these parts.
    fn sum(&self, name: &str, parts: &[&str]) -> f64 {
        let of = |line: &&str| {
            let rest = line.strip_prefix(name);
            let is_it = rest.is_some_and(|rest| rest.starts_with(['{', ' ']));
            is_it && parts.iter().all(|part| line.contains(part))
        };
        let values = self.0.lines().filter(of);
        // The sum of nothing is minus zero.
        values
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
            .sum::<f64>()
            .abs()
    }

    /// Expects that sum, which is a whole number.
    #[track_caller]
    fn expect(&self, name: &str, parts: &[&str], value: u64) {
        let found = self.sum(name, parts);
        let is_it = format!("{found:.0}") == value.to_string();
        assert!(is_it, "{name} {parts:?} is {found}\n{}", self.0);
    }
}

async fn with_proxy() -> (SandboxProcess, Proxy, Deployment) {
    let sandbox = SandboxProcess::start().await;
    let facilitator = Proxy::before(&sandbox.facilitator_url);
    let deployment = Deployment::on(&facilitator.url, &sandbox.rpc_url);
    (sandbox, facilitator, deployment)
}

/// A facilitator that refuses at verify by this code.
fn unverified(code: &str) -> Fault {
    let answer = serde_json::json!({"isValid": false, "invalidReason": code});
    Fault::Instead(200, answer.to_string())
}

#[tokio::test]
async fn requests_payments_and_calls_are_counted() {
    let (_sandbox, facilitator, deployment) = with_proxy().await;
    let server = deployment.start().await;
    let picture = pictures::png(8, 8);
    let upload = Request::post("/api/free").with_image(&picture);
    let url = deployment.answer(&upload).await.field("url");
    let image = Request::get(&url);
    eventually("the image in memory", async || {
        assert_eq!(deployment.answer(&image).await.status, 200);
        let shown = Shown::by(&deployment).await;
        (shown.sum("pixtoll_cache_requests_total", &["\"hit\""]) >= 1.0).then_some(())
    })
    .await;
    let variant = Request::get(&format!("{url}?w=4"));
    assert_eq!(deployment.answer(&variant).await.status, 200);
    // A challenge by the router, and one that repeats it.
    let (_, buy) = deployment.sign("/api/upload/token/year", b"").await;
    let token = deployment.answer(&buy).await.token();
    deployment
        .answer(&Request::post("/api/upload/token/year"))
        .await;
    let with_token = Request::post("/api/upload").with("x-upload-token", &token);
    let with_token = with_token.with_image(&pictures::png(9, 9));
    assert_eq!(deployment.answer(&with_token).await.status, 200);
    let (_, direct) = deployment.sign("/api/upload/year", &picture).await;
    assert_eq!(deployment.answer(&direct).await.status, 200);
    facilitator.next("verify", unverified("kyt_risk_detected"));
    let (_, refused) = deployment.sign("/api/upload/token/year", b"").await;
    assert_eq!(deployment.answer(&refused).await.status, 402);
    // A code that nobody has published.
    facilitator.next("verify", unverified("someone_at_example_com"));
    let (_, refused) = deployment.sign("/api/upload/token/year", b"").await;
    assert_eq!(deployment.answer(&refused).await.status, 402);
    let missing = Request::get(&format!("{}/i/abcdefghijkl", deployment.base));
    assert_eq!(deployment.answer(&missing).await.status, 404);

    let shown = Shown::by(&deployment).await;
    shown.expect("pixtoll_variants_total", &["\"made\""], 1);
    let requests = "pixtoll_http_requests_total";
    shown.expect(
        requests,
        &[
            "route=\"/api/free\"",
            "method=\"POST\"",
            "status=\"200\"",
            "tier=\"free\"",
        ],
        1,
    );
    shown.expect(
        requests,
        &[
            "route=\"/api/upload/token/{tier}\"",
            "status=\"402\"",
            "tier=\"year\"",
        ],
        6,
    );
    shown.expect(
        requests,
        &[
            "route=\"/api/upload/token/{tier}\"",
            "status=\"200\"",
            "tier=\"year\"",
        ],
        1,
    );
    shown.expect(
        requests,
        &["route=\"/api/upload\"", "status=\"200\"", "tier=\"year\""],
        1,
    );
    shown.expect(
        requests,
        &["route=\"/i/{file}\"", "status=\"404\"", "tier=\"none\""],
        1,
    );
    let time = "pixtoll_http_request_duration_seconds_count";
    shown.expect(
        time,
        &["route=\"/api/upload/token/{tier}\"", "method=\"POST\""],
        7,
    );
    shown.expect("pixtoll_errors_total", &["\"not_found\""], 1);
    let payments = "pixtoll_payments_total";
    for (state, count) in [
        ("received", 4),
        ("verified", 2),
        ("settling", 2),
        ("settled", 2),
        ("rejected", 2),
    ] {
        let state = format!("state=\"{state}\"");
        shown.expect(
            payments,
            &[&state, "facilitator=\"sandbox\"", "eip155:84532"],
            count,
        );
    }
    shown.expect(
        "pixtoll_payment_refusals_total",
        &["\"kyt_risk_detected\"", "\"verify\""],
        1,
    );
    shown.expect(
        "pixtoll_payment_refusals_total",
        &["code=\"other\"", "\"verify\""],
        1,
    );
    shown.expect(
        "pixtoll_settled_atomic_total",
        &["tier=\"year\"", "asset=\"0x"],
        20_000,
    );
    shown.expect(
        "pixtoll_facilitator_calls_total",
        &["\"settle\"", "\"ok\"", "host=\"127.0.0.1:"],
        2,
    );
    shown.expect(
        "pixtoll_facilitator_call_duration_seconds_count",
        &["\"verify\""],
        4,
    );
    assert!(shown.sum("pixtoll_node_calls_total", &["\"ok\""]) >= 4.0);
    shown.expect("pixtoll_uploads_total", &["tier=\"year\""], 2);
    shown.expect("pixtoll_uploads_total", &["tier=\"free\""], 1);
    let bytes = u64::try_from(picture.len()).unwrap();
    shown.expect("pixtoll_upload_bytes_total", &["tier=\"free\""], bytes);
    shown.expect(
        "pixtoll_store_duration_seconds_count",
        &["operation=\"put\""],
        3,
    );
    assert!(
        shown.sum(
            "pixtoll_database_duration_seconds_count",
            &["kind=\"transaction\""]
        ) >= 2.0
    );
    assert!(shown.sum("pixtoll_check_wait_duration_seconds_count", &["\"begun\""]) >= 3.0);
    shown.expect(
        "pixtoll_build_info",
        &["database=\"sqlite\"", "store=\"directory\""],
        1,
    );
    for gauge in [
        "payments_unknown",
        "payments_owed",
        "orphan_transfers",
        "ledger_violations",
        "reaper_lag_seconds",
        "sales_paused",
    ] {
        shown.expect(&format!("pixtoll_{gauge}"), &[], 0);
    }
    assert!(shown.sum("pixtoll_cache_bytes", &[]) > 0.0);
    assert!(shown.sum("pixtoll_free_space_bytes", &[]) > 0.0);
    assert!(shown.sum("pixtoll_ledger_checked_timestamp_seconds", &[]) > 1e9);
    assert!(shown.0.ends_with("# EOF\n"));
    drop(server);
}

#[tokio::test]
async fn the_database_says_what_is_unknown_due_and_owed() {
    let (_sandbox, facilitator, deployment) = with_proxy().await;
    let server = deployment.start().await;
    let upload = Request::post("/api/free").with_image(&pictures::png(8, 8));
    deployment.answer(&upload).await;
    facilitator.always("settle", Fault::Instead(500, "{}".to_owned()));
    let (_, buy) = deployment.sign("/api/upload/token/year", b"").await;
    assert_eq!(deployment.answer(&buy).await.status, 503);
    let shown = Shown::by(&deployment).await;
    shown.expect("pixtoll_payments_unknown", &[], 1);
    shown.expect("pixtoll_images_live", &[], 1);
    assert!(shown.sum("pixtoll_images_live_bytes", &[]) > 50.0);
    assert!(
        shown.sum(
            "pixtoll_facilitator_calls_total",
            &["\"settle\"", "\"failed\""]
        ) >= 1.0
    );
    facilitator.mend();
    deployment.last_word(&buy).await.token();
    drop(server);
}

/// Requests that only a stranger would send. `round` makes every text another one.
async fn send_junk(deployment: &Deployment, round: u32) {
    let http = client_from("127.0.0.77");
    for number in 0..40 {
        let word = format!("junk{round}x{number}someone-at-example");
        let method = reqwest::Method::from_bytes(format!("MK{round}X{number}").as_bytes()).unwrap();
        let paths = [
            format!("/{word}"),
            format!("/api/{word}"),
            format!("/api/upload/{word}"),
            format!("/api/upload/token/{word}?images={word}"),
            format!("/api/images/{word}?{word}={word}"),
            format!("/i/{word}.png"),
            format!("/u/{word}"),
            format!("/api/free/{word}.png"),
        ];
        for path in paths {
            let url = format!("{}{path}", deployment.base);
            let send = http
                .request(method.clone(), &url)
                .header("host", format!("{word}.example"));
            send.send().await.unwrap();
            let send = http.post(&url).header("user-agent", &word);
            let send = send.header("x-forwarded-for", format!("203.0.113.{number}"));
            send.body(word.clone()).send().await.unwrap();
        }
    }
}

#[tokio::test]
async fn strangers_add_no_series() {
    let deployment = Deployment::alone();
    let server = deployment.start().await;
    send_junk(&deployment, 1).await;
    let first = Shown::by(&deployment).await.series();
    send_junk(&deployment, 2).await;
    let second = Shown::by(&deployment).await;
    // The database and the jobs may have begun something new meanwhile.
    let of_clients = |series: &BTreeSet<String>| -> BTreeSet<String> {
        let names = [
            "pixtoll_http",
            "pixtoll_errors",
            "pixtoll_payment",
            "pixtoll_uploads",
        ];
        let is_it = |one: &&String| names.iter().any(|name| one.starts_with(name));
        series.iter().filter(is_it).cloned().collect()
    };
    assert_eq!(of_clients(&first), of_clients(&second.series()));
    assert!(second.series().len() < 2000, "{}", second.series().len());
    assert!(
        !second.0.contains("junk") && !second.0.contains("MK1X") && !second.0.contains("203.0.113")
    );
    assert!(second.sum("pixtoll_http_requests_total", &["method=\"other\""]) >= 600.0);
    drop(server);
}

#[tokio::test]
async fn metrics_are_for_the_admin_listener_and_can_be_switched_off() {
    let deployment = Deployment::alone().set("metrics.enabled", "false");
    let server = deployment.start().await;
    let off = deployment
        .answer(&Request::get(&format!("{}/metrics", deployment.admin)))
        .await;
    assert_eq!((off.status, off.error().as_str()), (404, "unknown_route"));
    assert!(off.text().contains("metrics.enabled"), "{}", off.text());
    let public = deployment.answer(&Request::get("/metrics")).await;
    assert_eq!(public.status, 404);
    drop(server);
}

/// The ways in which a canary is planted: each in a request's address, user agent, file name or
/// text.
const CANARIES: [&str; 5] = [
    "127.0.0.77",
    "203.0.113.77",
    "Canary-Agent/7",
    "canary-holiday-photo",
    "canary@example.com",
];

/// The canaries that a text holds.
fn found_in(text: &str) -> Vec<&'static str> {
    let text = text.to_lowercase();
    let all = CANARIES.into_iter();
    all.filter(|canary| text.contains(&canary.to_lowercase()))
        .collect()
}

#[tokio::test]
async fn traces_name_the_calls_of_a_request_and_nobody_is_in_them() {
    let collector = Collector::start();
    let (_sandbox, _facilitator, deployment) = with_proxy().await;
    let deployment = deployment
        .set("traces.otlp_endpoint", &collector.url)
        .set("http.trusted_proxies", "127.0.0.77")
        .set("log_format", "json")
        .set("log", "trace");
    let server = deployment.start().await;
    let http = client_from("127.0.0.77");
    let plant = |request: reqwest::RequestBuilder| {
        let request = request.header("user-agent", "Canary-Agent/7 (canary@example.com)");
        let request = request.header("x-forwarded-for", "203.0.113.77");
        request
            .header("from", "canary@example.com")
            .header("referer", "http://canary@example.com/")
    };
    let picture = pictures::png(8, 8);
    let put = http.put(format!(
        "{}/api/free/canary-holiday-photo.png",
        deployment.base
    ));
    let free = plant(put.body(picture.clone())).send().await.unwrap();
    assert_eq!(free.status(), 200);
    let file = "--b\r\ncontent-disposition: form-data; name=\"image\"; filename=\"canary-holiday-photo.png\"\r\n\
        content-type: image/png\r\n\r\n";
    let form = [file.as_bytes(), &picture, b"\r\n--b--\r\n"].concat();
    let posted = http
        .post(format!("{}/api/free?x=canary@example.com", deployment.base))
        .header("content-type", "multipart/form-data; boundary=b")
        .body(form.clone());
    assert_eq!(plant(posted).send().await.unwrap().status(), 400);
    let posted = http
        .post(format!("{}/api/free", deployment.base))
        .header("content-type", "multipart/form-data; boundary=b")
        .body(form);
    assert_eq!(plant(posted).send().await.unwrap().status(), 200);
    let page = http.get(format!(
        "{}/canary@example.com/canary-holiday-photo",
        deployment.base
    ));
    plant(page).send().await.unwrap();
    let (_, buy) = deployment.sign("/api/upload/year", &picture).await;
    let bought = deployment
        .answer(&buy.with("user-agent", "Canary-Agent/7"))
        .await;
    assert_eq!(bought.status, 200, "{}", bought.text());
    let id = bought.header("x-request-id").unwrap();
    let id = id.as_str();
    let is_whole = || {
        let spans = collector.spans();
        let mut roots = spans.iter();
        roots.any(|span| attribute(span, "request.id") == Some(id))
    };
    eventually("the trace", async || is_whole().then_some(())).await;

    let spans = collector.spans();
    let root = spans
        .iter()
        .find(|span| attribute(span, "request.id") == Some(id))
        .unwrap();
    assert_eq!(attribute(root, "http.route"), Some("/api/upload/{tier}"));
    assert_eq!(attribute(root, "http.response.status_code"), Some("200"));
    assert_eq!(attribute(root, "pixtoll.tier"), Some("year"));
    let of_trace: Vec<_> = spans
        .iter()
        .filter(|span| span["traceId"] == root["traceId"])
        .collect();
    let has = |name: &str, key: &str, value: &str| {
        let mut spans = of_trace.iter();
        spans.any(|span| span["name"] == name && attribute(span, key) == Some(value))
    };
    for stage in ["admit", "verify", "store", "settle"] {
        assert!(has("payment", "pixtoll.stage", stage), "{stage}");
    }
    assert!(
        has("facilitator", "pixtoll.call", "verify")
            && has("facilitator", "pixtoll.call", "settle")
    );
    assert!(
        has("store", "pixtoll.operation", "put")
            && of_trace.iter().any(|span| span["name"] == "node")
    );
    assert!(has("database", "db.operation.name", "transaction"));
    // Each span but the root is below another one of the trace.
    for span in &of_trace {
        let is_below = of_trace
            .iter()
            .any(|above| above["spanId"] == span["parentSpanId"]);
        assert!(is_below || span["spanId"] == root["spanId"], "{span}");
    }

    let shown = Shown::by(&deployment).await;
    assert!(shown.sum("pixtoll_trace_spans_total", &["\"sent\""]) >= 10.0);
    shown.expect("pixtoll_trace_spans_total", &["\"dropped\""], 0);
    server.terminate();
    assert!(server.end().await.success());
    let log = deployment.whole_log();
    assert!(
        log.contains("\"bytes\":") && log.contains("\"tier\":\"year\""),
        "{log}"
    );
    // The search finds what is there.
    let control = format!("{}\n{}\n{}\n", log, collector.text(), shown.0);
    assert_eq!(
        found_in(&format!("{control}{}", CANARIES.join(" ").to_uppercase())),
        CANARIES
    );
    for (what, text) in [
        ("log", &log),
        ("traces", &collector.text()),
        ("metrics", &shown.0),
    ] {
        // The server names the address that it trusts when it starts.
        let found = found_in(text);
        assert_eq!(found, Vec::<&str>::new(), "{what}");
    }
}

#[tokio::test]
async fn a_dead_collector_stops_nothing() {
    // It accepts connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let deployment = Deployment::alone().set("traces.otlp_endpoint", &url);
    let server = deployment.start().await;
    let began = std::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(
            deployment.answer(&Request::get("/api/tiers")).await.status,
            200
        );
    }
    // Each would wait for the collector's five seconds otherwise.
    assert!(began.elapsed() < std::time::Duration::from_secs(20));
    server.terminate();
    assert!(server.end().await.success());

    // Nobody listens.
    drop(silent);
    let server = deployment.start().await;
    eventually("lost spans", async || {
        assert_eq!(
            deployment.answer(&Request::get("/api/tiers")).await.status,
            200
        );
        let shown = Shown::by(&deployment).await;
        (shown.sum("pixtoll_trace_spans_total", &["\"failed\""]) >= 1.0).then_some(())
    })
    .await;
    assert_eq!(deployment.whole_log().matches("takes no traces").count(), 1);
    drop(server);
}

#[tokio::test]
async fn the_access_log_can_be_switched_off() {
    let deployment = Deployment::alone()
        .set("log.access", "false")
        .set("log.format", "json");
    let server = deployment.start().await;
    let upload = Request::post("/api/free").with_image(&pictures::png(8, 8));
    let url = deployment.answer(&upload).await.field("url");
    for _ in 0..3 {
        assert_eq!(deployment.answer(&Request::get(&url)).await.status, 200);
    }
    server.terminate();
    assert!(server.end().await.success());
    let log = deployment.whole_log();
    assert!(!log.contains("elapsed_us"), "{log}");
    // The lines that are left are JSON, as the setting says.
    assert!(
        log.lines().all(|line| line.starts_with('{')) && log.contains("stop signal"),
        "{log}"
    );
}
