//! Requests as real clients send them: checks of the head, edited links, forms of various
//! libraries, `curl -T`, and the parameters of a body beside its image.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pixtoll::system::clock::Clock as _;
use serde_json::{Value, json};

use crate::support::{Answer, Payment, TestApp, pictures};

const NONE: [(&str, &str); 0] = [];
/// Far below every deadline of the server, far above what a busy machine needs.
const AT_ONCE: Duration = Duration::from_secs(4);

/// Opens a connection and sends these bytes unchanged.
fn connect(app: &TestApp, sent: &[u8]) -> TcpStream {
    let mut line = TcpStream::connect(app.base.trim_start_matches("http://")).unwrap();
    line.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    line.write_all(sent).unwrap();
    line
}

/// Reads until the server closes the connection.
async fn read_to_end(mut line: TcpStream) -> String {
    let read = move || {
        let mut bytes = Vec::new();
        let _: std::io::Result<usize> = line.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

/// Sends these bytes unchanged. Returns the first complete response, and how long it took.
async fn raw(app: &TestApp, sent: &[u8]) -> (String, Duration) {
    let began = Instant::now();
    let mut line = connect(app, sent);
    let read = move || {
        let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
        while !is_whole(&bytes) {
            match line.read(&mut piece) {
                Ok(length) if length > 0 => bytes.extend_from_slice(&piece[..length]),
                _ => break,
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let answer = tokio::task::spawn_blocking(read).await.unwrap();
    (answer, began.elapsed())
}

/// Whether a response is complete by its content length.
fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| body.len() >= length.parse::<usize>().unwrap())
}

/// The JSON body of a complete response.
fn body_of(answer: &str) -> Value {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {head} {body}"))
}

#[tokio::test]
async fn errors_in_the_head_are_refused_before_100_continue() {
    let app = TestApp::builder()
        .set("limits.payments_per_address_per_minute", "8")
        .spawn()
        .await;
    for (line, headers, status) in [
        (
            "POST /api/free",
            "Content-Type: image/png\r\nContent-Length: 3000000",
            413,
        ),
        ("PUT /api/free/a.png", "Content-Length: 3000000", 413),
        (
            "POST /api/free",
            "Content-Type: text/plain\r\nContent-Length: 300",
            400,
        ),
        (
            "POST /api/free",
            "Content-Type: multipart/form-data\r\nContent-Length: 300",
            400,
        ),
        (
            "POST /api/free?count=5",
            "Content-Type: image/png\r\nContent-Length: 300",
            400,
        ),
        (
            "POST /api/free",
            "Content-Encoding: gzip\r\nContent-Length: 300",
            400,
        ),
        ("POST /api/nothing", "Content-Length: 300", 404),
        ("POST /api/tiers", "Content-Length: 300", 405),
        ("PUT /api/upload/year/a.png", "Content-Length: 300", 402),
        (
            "POST /api/upload",
            "Content-Type: image/png\r\nContent-Length: 300",
            402,
        ),
        (
            "POST /api/upload",
            "X-Upload-Token: x\r\nContent-Length: 300",
            401,
        ),
        (
            "POST /api/upload/year",
            "PAYMENT-SIGNATURE: x\r\nContent-Length: 300",
            400,
        ),
    ] {
        let request =
            format!("{line} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n{headers}\r\n\r\n");
        let (answer, took) = raw(&app, request.as_bytes()).await;
        let start = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&start), "{line} {headers}: {answer}");
        assert!(took < AT_ONCE, "{line} {headers}: {took:?}");
        let body = body_of(&answer);
        assert!(body["message"].is_string(), "{answer}");
    }
    // The limit of an address is also checked before the body.
    let request = b"POST /api/upload HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    for _ in 0..8 {
        let (answer, _) = raw(&app, request).await;
        if answer.starts_with("HTTP/1.1 429 ") {
            return;
        }
        assert!(answer.starts_with("HTTP/1.1 402 "), "{answer}");
    }
    panic!("no limit was met");
}

#[tokio::test]
async fn a_valid_head_receives_one_100_continue() {
    let app = TestApp::spawn().await;
    let picture = pictures::png(7, 6);
    for (line, kind) in [
        ("POST /api/free", "Content-Type: image/png\r\n"),
        ("PUT /api/free/photo.png", ""),
        ("PUT /api/check/photo.png", ""),
    ] {
        let head = format!(
            "{line} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nConnection: close\r\n{kind}Content-Length: {}\r\n\r\n",
            picture.len()
        );
        let mut client = connect(&app, head.as_bytes());
        let picture = picture.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let mut interim = [0; 25];
            client.read_exact(&mut interim).unwrap();
            assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
            client.write_all(&picture).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer
        });
        let answer = answer.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{line}: {answer}");
        assert_eq!(body_of(&answer)["width"], 7);
    }
}

/// A client that waits for `100 Continue` receives the response to its own request, whatever other
/// clients asked for before.
#[tokio::test]
async fn an_upload_that_waits_is_never_answered_with_an_image_of_others() {
    let app = TestApp::builder()
        .set("limits.free_per_address_per_hour", "0")
        .spawn()
        .await;
    let _watch = crate::hot::remembering(&app.app).await;
    let other = app.upload_free(pictures::png(5, 5)).await.json();
    let other = reqwest::Url::parse(other["url"].as_str().unwrap()).unwrap();
    for width in 10..20 {
        // Every worker has served the image last.
        for _ in 0..8 {
            let path = other.path();
            let get = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
            let mut client = connect(&app, get.as_bytes());
            let served = tokio::task::spawn_blocking(move || {
                let mut served = Vec::new();
                client.read_to_end(&mut served).unwrap();
                served
            });
            assert!(served.await.unwrap().starts_with(b"HTTP/1.1 200 "));
        }
        let picture = pictures::png(width, 6);
        let head = format!(
            "PUT /api/free/a.png HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            picture.len()
        );
        let mut client = connect(&app, head.as_bytes());
        let answer = tokio::task::spawn_blocking(move || {
            let mut interim = [0; 25];
            client.read_exact(&mut interim).unwrap();
            client.write_all(&picture).unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            String::from_utf8_lossy(&answer).into_owned()
        });
        let answer = answer.await.unwrap();
        assert_eq!(body_of(&answer)["width"], width, "{answer}");
    }
}

#[tokio::test]
async fn the_rest_of_a_body_is_not_read_for_long_after_a_response() {
    let app = TestApp::spawn().await;
    let head = b"POST /api/free HTTP/1.1\r\nHost: h\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = connect(&app, head);
    let mut writer = client.try_clone().unwrap();
    let began = Instant::now();
    // An endless body, sent faster than the least rate.
    let writing = tokio::task::spawn_blocking(move || {
        let chunk = [b"4000\r\n".as_slice(), &[0; 0x4000], b"\r\n"].concat();
        while writer.write_all(&chunk).is_ok() {
            if began.elapsed() > Duration::from_secs(25) {
                return false;
            }
        }
        true
    });
    let reading = tokio::task::spawn_blocking(move || {
        let mut start = [0; 13];
        client.read_exact(&mut start).unwrap();
        start
    });
    assert_eq!(&reading.await.unwrap(), b"HTTP/1.1 413 ");
    let answered = began.elapsed();
    assert!(writing.await.unwrap(), "the body was read for 25 s");
    let more = began.elapsed().saturating_sub(answered);
    assert!(more < Duration::from_secs(8), "read for {more:?} more");
}

#[tokio::test]
async fn a_body_of_malformed_chunks_receives_one_response() {
    let app = TestApp::spawn().await;
    for chunks in ["zz\r\nabc\r\n", "3\r\nabcdef\r\n", "-1\r\n"] {
        let request = format!(
            "POST /api/free HTTP/1.1\r\nHost: h\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
        );
        let began = Instant::now();
        let answer = read_to_end(connect(&app, request.as_bytes())).await;
        let took = began.elapsed();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{chunks}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert_eq!(body_of(&answer)["error"], "incomplete_body");
        assert!(took < AT_ONCE, "{chunks}: {took:?}");
    }
}

#[tokio::test]
async fn a_malformed_request_receives_an_error_with_a_body() {
    let app = TestApp::spawn().await;
    for (sent, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET /api/tiers HTTP/1.1\r\n\r\n".to_owned(), 400),
        (
            format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(97)),
            431,
        ),
    ] {
        let (answer, took) = raw(&app, sent.as_bytes()).await;
        let start = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&start), "{sent}: {answer}");
        let body = body_of(&answer);
        let code = if status == 431 {
            "headers_too_large"
        } else {
            "bad_request"
        };
        assert_eq!(body["error"], code);
        assert_eq!(body["charged"], Value::Null);
        assert!(
            answer.contains("access-control-allow-origin: *"),
            "{answer}"
        );
        assert!(took < AT_ONCE, "{took:?}");
    }
}

#[tokio::test]
async fn upgrades_to_unsupported_protocols_are_ignored_at_once() {
    let app = TestApp::spawn().await;
    let picture = pictures::png(5, 4);
    for upgrade in ["websocket", "h2c", "TLS/1.0"] {
        let headers = format!("Host: h\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n");
        let request = format!("GET /api/tiers HTTP/1.1\r\n{headers}\r\n");
        let (answer, took) = raw(&app, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{upgrade}: {answer}");
        assert!(!answer.contains("connection: upgrade"), "{answer}");
        assert!(took < AT_ONCE, "{upgrade}: {took:?}");
        let mut request = format!(
            "POST /api/free HTTP/1.1\r\n{headers}Content-Type: image/png\r\nContent-Length: {}\r\n\r\n",
            picture.len()
        )
        .into_bytes();
        request.extend_from_slice(&picture);
        let (answer, took) = raw(&app, &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{upgrade}: {answer}");
        assert!(took < AT_ONCE, "{upgrade}: {took:?}");
    }
    let (answer, took) = raw(
        &app,
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(body_of(&answer)["message"].is_string());
    assert!(took < AT_ONCE, "{took:?}");
}

#[tokio::test]
async fn pages_of_any_origin_can_read_every_response_of_the_api() {
    let app = TestApp::builder()
        .set("limits.payments_per_address_per_minute", "3")
        .spawn()
        .await;
    let origin = ("Origin", "https://wallet.example");
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/nothing/here"),
        ("GET", "/api"),
        ("GET", "/api/nothing"),
        ("PATCH", "/api/free"),
        ("POST", "/api/free"),
        ("GET", "/.well-known/jwks.json"),
        ("GET", "/.well-known/nothing"),
        ("POST", "/api/upload"),
        ("POST", "/api/upload"),
        ("POST", "/api/upload"),
        ("POST", "/api/upload"),
        ("POST", "/api/upload"),
    ] {
        let answer = app.send(method, path, &[origin], "").await;
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed.as_deref(), Some("*"), "{method} {path}");
        let exposed = answer.header("access-control-expose-headers").unwrap();
        assert!(exposed.contains("payment-required"), "{method} {path}");
        assert!(
            !answer
                .header("vary")
                .is_some_and(|vary| vary.contains("rigin"))
        );
        let preflight = [
            origin,
            ("Access-Control-Request-Method", "PUT"),
            ("Access-Control-Request-Headers", "x-library, content-type"),
        ];
        let answer = app.send("OPTIONS", path, &preflight, "").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed.as_deref(), Some("*"), "{path}");
        let methods = answer.header("access-control-allow-methods").unwrap();
        assert!(methods.contains("PUT"), "{path}: {methods}");
        let headers = answer.header("access-control-allow-headers").unwrap();
        assert!(headers.contains("x-library"), "{path}: {headers}");
    }
    let limited = app.post("/api/upload").await;
    assert_eq!(limited.error(), "rate_limited");
}

#[tokio::test]
async fn links_still_work_after_common_changes() {
    let app = TestApp::spawn().await;
    let uploaded = app.upload_free(pictures::jpeg()).await;
    let (url, id) = (uploaded.field("url"), uploaded.field("id"));
    let bent = [
        "ID.jpg?fbclid=IwAR0abc",
        "ID.jpg?utm_source=a&utm_medium=b",
        "ID.jpg?v=1",
        "ID.jpg?",
        "ID.jpg?width=100",
        "ID?fbclid=a",
        "ID.jpeg?fbclid=a",
        "ID.JPG",
        "ID.Jpeg",
        "ID.jpg)",
        "ID.jpg.",
        "ID.jpg,",
        "ID.jpg).",
        "ID.jpg%22",
        "ID.jpg%3E",
        "ID.jpg%29",
        "ID.jpg%22%3E",
        "ID.jpg'",
        "ID.jpg]",
        "ID.jpg*",
        "ID.jpg;",
        "ID.jpg!",
        "ID.JPG),?v=2",
    ];
    for path in bent {
        let path = format!("/i/{}", path.replace("ID", &id));
        for method in ["GET", "HEAD"] {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
            );
            let (answer, _) = raw(&app, request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 308 "), "{path}: {answer}");
            assert!(answer.contains(&format!("location: {url}\r\n")), "{answer}");
            assert!(
                answer.contains("cache-control: public, max-age=60\r\n"),
                "{answer}"
            );
            assert!(
                answer.contains("x-content-type-options: nosniff"),
                "{answer}"
            );
        }
    }
    // In another format, too.
    let converted = url.replace(".jpg", ".png");
    for path in ["ID.png?v=1", "ID.png)", "ID.PNG"] {
        let path = format!("/i/{}", path.replace("ID", &id));
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
        let (answer, _) = raw(&app, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 308 "), "{path}: {answer}");
        let location = format!("location: {converted}\r\n");
        assert!(answer.contains(&location), "{answer}");
    }
    for path in ["ID.html?v=1", "ID.jpg)a", "AAAAAAAAAAAA.jpg?v=1"] {
        let path = format!("/i/{}", path.replace("ID", &id));
        let answer = app.get(&path).await;
        assert_eq!(answer.error(), "not_found", "{path}");
        assert_eq!(answer.header("location"), None, "{path}");
    }
    let served = app.get(&url).await;
    assert_eq!(served.status, 200);
}

#[tokio::test]
async fn a_redirect_is_cached_no_longer_than_its_image() {
    let app = TestApp::spawn().await;
    let url = app.upload_free(pictures::png(4, 4)).await.field("url");
    let bent = format!("{url}?fbclid=a");
    let life = Duration::from_hours(7 * 24);
    app.advance(life.saturating_sub(Duration::from_secs(7)));
    let late = app.get(&bent).await;
    assert_eq!(late.status, 308);
    let control = late.header("cache-control").unwrap();
    let age: u64 = control
        .trim_start_matches("public, max-age=")
        .parse()
        .unwrap();
    assert!(age <= 7, "{control}");
    app.advance(Duration::from_secs(8));
    let gone = app.get(&bent).await;
    assert_eq!((gone.status, gone.header("location")), (404, None));
}

#[tokio::test]
async fn curl_can_put_a_file_to_every_upload_route() {
    let app = TestApp::spawn().await;
    let picture = pictures::png(6, 5);
    for path in [
        "/api/free",
        "/api/free/",
        "/api/free/photo.png",
        "/api/free/a%20b",
    ] {
        let answer = app.send("PUT", path, &NONE, picture.clone()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(app.get(&answer.field("url")).await.bytes, picture);
    }
    for path in ["/api/check", "/api/check/", "/api/check/photo.png"] {
        let answer = app.send("PUT", path, &NONE, picture.clone()).await;
        assert_eq!(answer.json()["width"], 6, "{path}: {}", answer.text());
    }
    for (path, product, tier) in [
        ("/api/upload", "/api/upload", "year"),
        ("/api/upload/", "/api/upload", "year"),
        ("/api/upload/photo.png", "/api/upload", "year"),
        (
            "/api/upload/permanent",
            "/api/upload/permanent",
            "permanent",
        ),
        (
            "/api/upload/permanent/",
            "/api/upload/permanent",
            "permanent",
        ),
        ("/api/upload/year/photo.png", "/api/upload/year", "year"),
    ] {
        let challenge = app.send("PUT", path, &NONE, picture.clone()).await;
        assert_eq!(challenge.status, 402, "{path}: {}", challenge.text());
        let resource = challenge.document("payment-required")["resource"]["url"].clone();
        assert_eq!(resource, format!("{}{product}", app.base), "{path}");
        let payment = Payment::answering(&challenge, path, &app.wallet, app.clock.now());
        let headers = payment.headers();
        let bought = app.send("PUT", path, &headers, picture.clone()).await;
        assert_eq!(bought.status, 200, "{path}: {}", bought.text());
        assert_eq!(bought.field("tier"), tier, "{path}");
        // The same request at the path of the tier is the same purchase.
        let again = app.send("POST", product, &headers, picture.clone()).await;
        assert_eq!(again.field("id"), bought.field("id"), "{path}");
    }
    // A file name that could be the name of a tier is not accepted.
    let other = app
        .send("PUT", "/api/upload/yaer", &NONE, picture.clone())
        .await;
    assert_eq!(other.error(), "unknown_tier");
    assert_eq!(app.transfers().await.len(), 6);
}

#[tokio::test]
async fn curl_can_put_a_file_with_a_token() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let token = app.pay(&payment).await.token();
    let header = [("X-Upload-Token", token.as_str())];
    let picture = pictures::png(6, 5);
    let refused = app
        .send("PUT", "/api/upload/year/a.png", &header, picture.clone())
        .await;
    assert_eq!(refused.error(), "invalid_parameter");
    let answer = app
        .send("PUT", "/api/upload/photo.png", &header, picture)
        .await;
    assert_eq!(answer.field("tier"), "year");
}

/// Checks that the response of a purchase has its settlement in these headers and in no other.
fn settled_in(answer: &Answer, headers: &[&str]) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    for name in ["payment-response", "x-payment-response"] {
        let is_there = answer.header(name).is_some();
        assert_eq!(is_there, headers.contains(&name), "{name}");
    }
    for name in headers {
        assert_eq!(answer.document(name)["success"], true);
    }
}

#[tokio::test]
async fn one_payment_in_both_headers_is_one_payment() {
    let app = TestApp::spawn().await;
    let both = ["payment-response", "x-payment-response"];
    // The same document in another form: fields in reverse order, and with white space.
    let spelt = |payment: &Payment| {
        let document = payment.document();
        let fields = document.as_object().unwrap().iter().rev();
        let fields: Vec<String> = fields
            .map(|(name, value)| format!(" {name:?} : {value}"))
            .collect();
        STANDARD.encode(format!("{{{}\n}}", fields.join(",")))
    };
    let good = app.sign_at("/api/upload/year").await;
    let picture = pictures::png(4, 3);
    for other in [good.header(), spelt(&good), good.as_v1().header()] {
        let headers = [
            ("PAYMENT-SIGNATURE", good.header()),
            ("X-PAYMENT", other),
            ("Content-Type", "image/png".to_owned()),
        ];
        let bought = app
            .send("POST", "/api/upload/year", &headers, picture.clone())
            .await;
        settled_in(&bought, &both);
    }
    assert_eq!(app.transfers().await.len(), 1);
    let (one, two) = (app.sign_for("year").await, app.sign_for("year").await);
    let ticket = one.with_ticket(&"0".repeat(32));
    for (second, first) in [
        (one.header(), two.header()),
        (one.header(), two.as_v1().header()),
        (one.header(), ticket.header()),
        (one.header(), "x".to_owned()),
        ("x".to_owned(), one.header()),
    ] {
        let headers = [("PAYMENT-SIGNATURE", second), ("X-PAYMENT", first)];
        let answer = app
            .send("POST", "/api/upload/token/year", &headers, "")
            .await;
        assert_eq!(
            answer.verdict(),
            (400, "conflicting_credentials".to_owned(), None)
        );
    }
    assert_eq!(app.transfers().await.len(), 1);
    assert_eq!(app.pay(&one).await.status, 200);
}

#[tokio::test]
async fn a_payment_is_read_by_its_own_version_in_either_header() {
    let app = TestApp::spawn().await;
    let path = "/api/upload/token/year";
    let second = app.sign_for("year").await;
    let answer = app
        .send("POST", path, &[("X-PAYMENT", second.header())], "")
        .await;
    settled_in(&answer, &["payment-response", "x-payment-response"]);
    assert_eq!(
        answer.document("payment-response")["network"],
        "eip155:84532"
    );
    // The idempotency key shows that it is the same payment, which a payment of version 1 could not
    // show.
    let same = app.pay(&second).await;
    settled_in(&same, &["payment-response"]);
    assert_eq!(same.token(), answer.token());
    let first = app.sign_for("year").await.as_v1();
    let answer = app
        .send("POST", path, &[("PAYMENT-SIGNATURE", first.header())], "")
        .await;
    settled_in(&answer, &["payment-response", "x-payment-response"]);
    assert_eq!(
        answer.document("x-payment-response")["network"],
        "base-sepolia"
    );
    settled_in(&app.pay(&first).await, &["x-payment-response"]);
    assert_eq!(app.transfers().await.len(), 2);
}

#[tokio::test]
async fn a_refused_validity_window_is_answered_with_its_limits() {
    let app = TestApp::spawn().await;
    let mut payment = app.sign_for("year").await;
    let now = u64::try_from(app.clock.now().seconds()).unwrap();
    for before in [now + 3600, now + 3] {
        payment.authorization.valid_before = alloy_primitives::U256::from(before);
        payment.sign_by(&app.wallet);
        let answer = app.pay(&payment).await;
        assert_eq!(
            answer.verdict(),
            (402, "payment_invalid".to_owned(), Some(false))
        );
        let message = answer.field("message");
        for part in [
            &before.to_string(),
            &now.to_string(),
            "8 to 360 seconds",
            "now + 300",
        ] {
            assert!(message.contains(part), "{part} is not in {message}");
        }
    }
}

const FORM: &str = "multipart/form-data; boundary=XX";

/// A multipart form of parts: the lines of their heads, and their content.
fn form(boundary: &str, parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut form = Vec::new();
    for (head, content) in parts {
        form.extend(
            format!("--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n").bytes(),
        );
        form.extend(*content);
        form.extend(b"\r\n");
    }
    form.extend(format!("--{boundary}--\r\n").bytes());
    form
}

#[tokio::test]
async fn forms_of_common_libraries_are_accepted() {
    let app = TestApp::spawn().await;
    let picture = pictures::png(6, 5);
    let (full, empty) = (picture.as_slice(), b"".as_slice());
    let post = async |kind: &str, body: Vec<u8>| {
        app.send("POST", "/api/free", &[("Content-Type", kind)], body)
            .await
    };
    for parts in [
        &[("name=\"photo\"; filename*=utf-8''%C3%A9.png", full)][..],
        &[("name=\"files[]\"; filename=\"a.png\"", full)],
        &[("name=photo; filename=a.png", full)],
        &[("name=\"blob\"\r\nContent-Type: image/png", full)],
        &[
            ("name=\"image\"; filename=\"\"", empty),
            ("name=\"file\"; filename=\"a.png\"", full),
        ],
        &[
            ("name=\"image\"; filename=\"\"", empty),
            ("name=\"b\"; filename=\"a.png\"", full),
        ],
        &[
            ("name=\"a\"; filename=\"a.png\"", full),
            ("name=\"b\"; filename=\"\"", empty),
        ],
        &[
            ("name=\"image\"; filename=\"a.png\"", full),
            ("name=\"image\"; filename=\"\"", empty),
        ],
    ] {
        let answer = post(FORM, form("XX", parts)).await;
        assert_eq!(answer.status, 200, "{}: {}", parts[0].0, answer.text());
        assert_eq!(answer.json()["width"], 6);
    }
    let boundary = "----=_Part_1_2.3";
    let kind = format!("multipart/form-data; boundary={boundary}");
    let answer = post(
        &kind,
        form(boundary, &[("name=\"image\"; filename=\"a\"", full)]),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let twice = [("name=\"files[]\"; filename=\"a.png\"", full); 2];
    let answer = post(FORM, form("XX", &twice)).await;
    assert_eq!(
        answer.verdict(),
        (400, "invalid_body".to_owned(), Some(false))
    );
    assert!(
        answer.field("message").contains("two files"),
        "{}",
        answer.text()
    );
    let marked = format!("\u{feff}{}", json!({"image": STANDARD.encode(full)}));
    let answer = post("application/json", marked.into_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for kind in [
        "application/octet-stream",
        "application/x-www-form-urlencoded",
    ] {
        assert_eq!(post(kind, picture.clone()).await.status, 200, "{kind}");
    }
}

#[tokio::test]
async fn the_error_names_what_was_sent_instead_of_an_image() {
    let app = TestApp::spawn().await;
    let picture = pictures::png(6, 5);
    let text = STANDARD.encode(&picture);
    for (bytes, named) in [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec(), "HEIC"),
        (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf".to_vec(), "AVIF"),
        (
            b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_vec(),
            "SVG",
        ),
        (b"<!doctype html><p>".to_vec(), "HTML"),
        (b"https://example.com/a.png".to_vec(), "URL"),
        (b"/home/me/a.png".to_vec(), "path"),
        (b"%PDF-1.7".to_vec(), "PDF"),
        (text.clone().into_bytes(), "base64"),
        (
            format!("data:image/png;base64,{text}").into_bytes(),
            "data: URL",
        ),
    ] {
        for kind in ["image/png", "image/heic", ""] {
            let headers: Vec<_> = (!kind.is_empty())
                .then_some(("Content-Type", kind))
                .into_iter()
                .collect();
            let answer = app.send("POST", "/api/free", &headers, bytes.clone()).await;
            assert_eq!(answer.error(), "unsupported_format", "{named}");
            let message = answer.field("message");
            assert!(message.contains(named), "{named}: {message}");
        }
    }
    let kind = [("Content-Type", "application/json")];
    for (body, named) in [
        (json!({"url": "https://example.com/a.png"}), "URL"),
        (json!({"image": "https://example.com/a.png"}), "URL"),
        (json!({"image": "./photo.png"}), "path"),
        (json!({"path": "/home/me/photo.png"}), "path"),
    ] {
        let answer = app.send("POST", "/api/free", &kind, body.to_string()).await;
        assert_eq!(
            answer.verdict(),
            (400, "invalid_body".to_owned(), Some(false))
        );
        assert!(answer.field("message").contains(named), "{}", answer.text());
    }
    let data = json!({"image": format!("data:image/png;base64,{text}")}).to_string();
    assert_eq!(app.send("POST", "/api/free", &kind, data).await.status, 200);
}

#[tokio::test]
async fn unknown_parameters_are_refused_before_any_charge() {
    let app = TestApp::spawn().await;
    let picture = pictures::png(6, 5);
    let id = app.upload_free(picture.clone()).await.field("id");
    for (path, known) in [
        ("/api/free".to_owned(), "metadata"),
        ("/api/check".to_owned(), "metadata"),
        ("/api/upload/token".to_owned(), "images"),
        ("/api/upload/token/year".to_owned(), "images"),
        ("/api/upload".to_owned(), "metadata"),
        ("/api/upload/year".to_owned(), "metadata"),
        (format!("/api/images/{id}/renew"), "tier"),
    ] {
        for query in ["count=5", "images%20=2", "utm_source=a"] {
            let answer = app
                .send(
                    "POST",
                    &format!("{path}?{query}"),
                    &[("Content-Type", "image/png")],
                    picture.clone(),
                )
                .await;
            assert_eq!(
                answer.verdict(),
                (400, "unknown_parameter".to_owned(), Some(false)),
                "{path}?{query}"
            );
            let message = answer.field("message");
            let name = query.split_once('=').unwrap().0.replace("%20", " ");
            assert!(
                message.contains(&name) && message.contains(known),
                "{message}"
            );
        }
    }
    let payment = app.sign_for("year").await;
    let answer = app.pay_at("/api/upload/token/year?count=5", &payment).await;
    assert_eq!(
        answer.verdict(),
        (400, "unknown_parameter".to_owned(), None)
    );
    assert_eq!(app.transfers().await.len(), 0);
    assert_eq!(app.pay(&payment).await.status, 200);
}

#[tokio::test]
async fn every_way_to_request_metadata_keep_works() {
    let app = TestApp::spawn().await;
    let (whole, cleaned) = pictures::with_text();
    assert_ne!(whole, cleaned);
    let text = STANDARD.encode(&whole);
    let png = ("Content-Type", "image/png");
    let fields = [
        ("name=\"image\"; filename=\"a.png\"", whole.as_slice()),
        ("name=\"metadata\"", b"keep"),
    ];
    let form_type = ("Content-Type", FORM);
    let json_type = ("Content-Type", "application/json");
    let json = json!({"image": text, "metadata": "keep"}).to_string();
    for (query, header, body, stored) in [
        ("", png, whole.clone(), &cleaned),
        ("?metadata=remove", png, whole.clone(), &cleaned),
        ("?metadata=keep", png, whole.clone(), &whole),
        ("", form_type, form("XX", &fields), &whole),
        ("?metadata=keep", form_type, form("XX", &fields), &whole),
        ("", json_type, json.clone().into_bytes(), &whole),
    ] {
        let path = format!("/api/free{query}");
        let answer = app.send("POST", &path, &[header], body.clone()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(
            &app.get(&answer.field("url")).await.bytes,
            stored,
            "{query}"
        );
        let checked = app
            .send("POST", &format!("/api/check{query}"), &[header], body)
            .await;
        assert_eq!(checked.field("sha256"), answer.field("sha256"));
    }
    for (query, header, body) in [
        ("?metadata=strip", png, whole.clone()),
        ("?metadata=", png, whole.clone()),
        ("?metadata=keep&metadata=keep", png, whole.clone()),
        ("?metadata=remove", form_type, form("XX", &fields)),
        (
            "",
            json_type,
            json!({"image": text, "metadata": "all"})
                .to_string()
                .into_bytes(),
        ),
    ] {
        for route in ["free", "check", "upload"] {
            let path = format!("/api/{route}{query}");
            if route == "upload" && query.is_empty()
                || query == "?metadata=remove" && route != "free"
            {
                continue;
            }
            // A value that contradicts the query, or stands in the body alone, is the body's fault.
            let code = match query {
                "" | "?metadata=remove" => "invalid_body",
                _ => "invalid_parameter",
            };
            let answer = app.send("POST", &path, &[header], body.clone()).await;
            assert_eq!(
                answer.verdict(),
                (400, code.to_owned(), Some(false)),
                "{path}"
            );
            let message = answer.field("message");
            assert!(
                message.contains("keep") || message.contains("two values"),
                "{message}"
            );
        }
    }
}

#[tokio::test]
async fn a_paid_upload_with_metadata_keep_is_the_same_product() {
    let app = TestApp::spawn().await;
    let (whole, _) = pictures::with_text();
    let path = "/api/upload/year?metadata=keep";
    let payment = app.sign_at(path).await;
    let resource = format!("{}/api/upload/year", app.base);
    assert_eq!(payment.resource["url"], resource);
    let bought = app.pay_with(&payment, &whole).await;
    assert_eq!(bought.status, 200, "{}", bought.text());
    assert_eq!(app.get(&bought.field("url")).await.bytes, whole);
    let mut plain = payment.clone();
    plain.path = "/api/upload/year".to_owned();
    let again = app.pay_with(&plain, &whole).await;
    assert_eq!(again.field("id"), bought.field("id"));
    let token = app.pay(&app.sign_for("year").await).await.token();
    let headers = [("X-Upload-Token", token.as_str())];
    let uploaded = app
        .send("PUT", "/api/upload?metadata=keep", &headers, whole.clone())
        .await;
    assert_eq!(app.get(&uploaded.field("url")).await.bytes, whole);
    assert_eq!(app.transfers().await.len(), 2);
    let unclean = TestApp::builder()
        .set("images.clean", "false")
        .spawn()
        .await;
    let kept = unclean.upload_free(whole.clone()).await;
    assert_eq!(unclean.get(&kept.field("url")).await.bytes, whole);
    let headers = [("Content-Type", "image/png")];
    let removed = unclean
        .send("POST", "/api/free?metadata=remove", &headers, whole.clone())
        .await;
    assert_ne!(unclean.get(&removed.field("url")).await.bytes, whole);
}
