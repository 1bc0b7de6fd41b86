//! Slow clients and clients that send too much: their connections are closed, and they delay no
//! others.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::support::process::eventually;
use crate::support::proxy::Fault;
use crate::support::{Answer, TestApp, pictures};

async fn upload(app: &TestApp) -> Answer {
    app.upload_free(pictures::png(3, 3)).await
}

/// Opens a connection and sends the beginning of a request.
fn begin(app: &TestApp, path: &str, length: usize, sent: &[u8]) -> TcpStream {
    let mut line = TcpStream::connect(app.base.trim_start_matches("http://")).unwrap();
    line.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: image/png\r\nContent-Length: {length}\r\n\r\n"
    );
    line.write_all(head.as_bytes()).unwrap();
    line.write_all(sent).unwrap();
    line
}

async fn read_to_end(line: TcpStream) -> String {
    String::from_utf8_lossy(&read_bytes(line).await).into_owned()
}

async fn read_bytes(mut line: TcpStream) -> Vec<u8> {
    let read = move || {
        let mut bytes = Vec::new();
        // A reset after the response is an end as well.
        let _: std::io::Result<usize> = line.read_to_end(&mut bytes);
        bytes
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

#[tokio::test]
async fn a_stalled_body_is_cut_off_and_nothing_is_stored() {
    let app = TestApp::builder()
        .set("limits.body_timeout", "300ms")
        .spawn()
        .await;
    for path in ["/api/free", "/api/upload/token"] {
        let began = Instant::now();
        let line = begin(&app, path, 1000, &pictures::png(3, 3)[..20]);
        let answer = read_to_end(line).await;
        assert!(began.elapsed() < Duration::from_secs(10), "{path}");
        let (status, said) = match path {
            "/api/free" => ("HTTP/1.1 400 ", "too slowly"),
            _ => ("HTTP/1.1 402 ", "payment_required"),
        };
        assert!(
            answer.starts_with(status) && answer.contains(said),
            "{answer}"
        );
    }
    assert_eq!(app.rows("images").await, 0);
}

#[tokio::test]
async fn two_hundred_slow_clients_do_not_block_others() {
    let app = TestApp::spawn().await;
    // The accepting thread must be running before, because connecting blocks this thread.
    assert_eq!(upload(&app).await.status, 200);
    let lines: Vec<TcpStream> = (0..200)
        .map(|number| {
            let path = if number % 2 == 0 {
                "/api/free"
            } else {
                "/api/upload/year"
            };
            begin(&app, path, 1_000_000, b"\x89PNG")
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(upload(&app).await.status, 200);
    }
    drop(lines);
}

#[tokio::test]
async fn uploads_over_the_memory_limit_of_bodies_receive_503() {
    let app = TestApp::builder()
        // Three quarters of it are for bodies.
        .set("limits.body_bytes", "21 MiB")
        // Stalled clients must stay connected during the test.
        .set("limits.body_timeout", "10m")
        .set("limits.free_per_address_per_hour", "0")
        .spawn()
        .await;
    let payment = app.sign_for("year").await;
    let token = app.pay(&payment).await.token();
    let direct = app.sign_at("/api/upload/year").await;
    let large = pictures::png(900, 900);
    assert!(large.len() > 1_500_000, "{}", large.len());
    // When this no longer fits, all clients have connected. A failed attempt takes no memory.
    let rest = (21 << 20) / 4 * 3 - 16 * 977 * 1024;
    // Most of each body has arrived, and the rest never comes.
    let part = vec![0; 1_000_000];
    let lines: Vec<TcpStream> = (0..16)
        .map(|_| begin(&app, "/api/free", 1_000_001, &part))
        .collect();
    let busy = |charged| (503, "busy".to_owned(), charged);
    eventually("the memory for bodies is full", async || {
        let room = app.app.limits.begin_body().grow(rest + 1);
        room.is_err().then_some(())
    })
    .await;
    let png = [("content-type", "image/png")];
    let looked = app.send("POST", "/api/check", &png, large.clone()).await;
    assert_eq!(looked.verdict(), busy(Some(false)));
    let refused = app.upload_with(&token, large.clone()).await;
    assert_eq!(refused.verdict(), busy(Some(false)));
    assert_eq!(refused.header("retry-after").as_deref(), Some("1"));
    let unpaid = app.pay_with(&direct, &large).await;
    assert_eq!(unpaid.verdict(), busy(None));
    // A small body still fits.
    assert_eq!(upload(&app).await.status, 200);
    drop(lines);
    let uploaded = eventually("the memory for bodies is free again", async || {
        let answer = app.upload_with(&token, large.clone()).await;
        (answer.status == 200).then_some(answer)
    });
    uploaded.await;
    assert_eq!(app.pay_with(&direct, &large).await.status, 200);
    assert_eq!(app.transfers().await.len(), 2);
}

#[tokio::test]
async fn an_image_counts_as_body_memory_until_its_payment_settles() {
    let app = TestApp::builder()
        .set("limits.body_bytes", "21 MiB")
        .spawn()
        .await;
    let payment = app.sign_for("year").await;
    let token = app.pay(&payment).await.token();
    let direct = app.sign_at("/api/upload/year").await;
    let picture = pictures::png(1250, 1250);
    assert!(
        (4 << 20..5 << 20).contains(&picture.len()),
        "{}",
        picture.len()
    );
    let form = [
        b"--XX\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n\r\n",
        picture.as_slice(),
        b"\r\n--XX--\r\n",
    ];
    let mut headers = direct.headers();
    headers.push((
        "content-type",
        "multipart/form-data; boundary=XX".to_owned(),
    ));
    // The memory that is left is enough for one body, not for two.
    let mut others = app.app.limits.begin_body();
    others.grow((21 << 20) / 4 * 3 - (7 << 20)).unwrap();
    let release = Arc::new(Notify::new());
    let held = Fault::Held(Arc::clone(&release));
    app.facilitator.next("verify", held);
    let sell = app.send("POST", "/api/upload/year", &headers, form.concat());
    let meanwhile = async {
        eventually("the call", async || {
            (app.facilitator.calls("verify") == 2).then_some(())
        })
        .await;
        let refused = app.upload_with(&token, picture.clone()).await;
        assert_eq!(refused.verdict(), (503, "busy".to_owned(), Some(false)));
        release.notify_one();
    };
    let (sold, ()) = tokio::join!(sell, meanwhile);
    assert_eq!(sold.status, 200, "{}", sold.text());
    assert_eq!(app.upload_with(&token, picture.clone()).await.status, 200);
}

/// Opens a connection and requests a path. The response must begin with 200.
fn ask(app: &TestApp, path: &str) -> TcpStream {
    let mut line = TcpStream::connect(app.base.trim_start_matches("http://")).unwrap();
    line.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let path = path.trim_start_matches(&app.base);
    line.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes())
        .unwrap();
    let mut status = [0; 12];
    line.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    line
}

/// Uploads an image of five megabytes and returns its link. That is more than the kernel buffers
/// for a client that does not read.
async fn large_image(app: &TestApp) -> String {
    let payment = app.sign_at("/api/upload/year").await;
    let uploaded = app.pay_with(&payment, &pictures::png(1300, 1300)).await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    uploaded.field("url")
}

// These tests block their thread, so the connection to PostgreSQL must be read on another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stalled_second_head_is_cut_off() {
    let app = TestApp::builder()
        .set("limits.body_timeout", "300ms")
        .spawn()
        .await;
    assert_eq!(upload(&app).await.status, 200);
    let mut line = ask(&app, "/api/tiers");
    line.write_all(b"GET /api/tiers HTTP/1.1\r\nX-Slow: ")
        .unwrap();
    let began = Instant::now();
    let rest = read_to_end(line).await;
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "the connection was not closed"
    );
    assert_eq!(rest.matches("HTTP/1.1 ").count(), 0, "{rest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_that_does_not_read_is_disconnected() {
    let app = TestApp::builder()
        .set("limits.body_timeout", "6s")
        .spawn()
        .await;
    let large = large_image(&app).await;
    let mut line = ask(&app, &large);
    // Writing to a closed connection fails. Bytes that are written before begin another request.
    eventually("the connection is closed", async || {
        line.write_all(b"G").err()
    })
    .await;
    let rest = read_bytes(line).await;
    assert!(rest.len() < 5_000_000, "{}", rest.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_slow_download_stops_when_the_image_expires() {
    let app = TestApp::spawn().await;
    let large = large_image(&app).await;
    let whole = app.get(&large).await.bytes;
    let line = ask(&app, &large);
    app.advance(Duration::from_secs(365 * 86_400 - 1));
    let second = ask(&app, &large);
    app.advance(Duration::from_secs(1));
    for line in [line, second] {
        let rest = read_bytes(line).await;
        assert!(rest.len() < whole.len(), "{}", rest.len());
    }
    assert_eq!(app.get(&large).await.status, 404);
}

#[tokio::test]
async fn heads_over_their_limits_never_reach_a_handler() {
    let app = TestApp::spawn().await;
    let many = |count: usize| "x-a: b\r\n".repeat(count);
    for (headers, status) in [
        (many(90), "HTTP/1.1 200 "),
        (many(97), "HTTP/1.1 431 "),
        (format!("x-a: {}\r\n", "b".repeat(200_000)), ""),
    ] {
        let mut line = TcpStream::connect(app.base.trim_start_matches("http://")).unwrap();
        line.set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let head =
            format!("GET /api/tiers HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n");
        let _: std::io::Result<()> = line.write_all(head.as_bytes());
        let answer = read_to_end(line).await;
        assert!(answer.starts_with(status), "{answer}");
        assert!(
            status.contains("200") || !answer.contains("maxBytes"),
            "{answer}"
        );
    }
    assert_eq!(app.get("/api/tiers").await.status, 200);
}
