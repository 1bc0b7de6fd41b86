//! Slow clients, and clients that send more than is read: they are cut, and delay nobody.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Answer, TestApp, pictures};

async fn upload(app: &TestApp) -> Answer {
    app.upload_free(pictures::png(3, 3)).await
}

/// A connection on which a request was begun.
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

async fn read_to_end(mut line: TcpStream) -> String {
    let read = move || {
        let mut text = Vec::new();
        // A reset after the answer is an end as well.
        let _: std::io::Result<usize> = line.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

#[tokio::test]
async fn a_body_that_stops_is_cut_and_nothing_is_kept() {
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
async fn two_hundred_slow_clients_delay_nobody() {
    let app = TestApp::spawn().await;
    // The accepting thread is started by now: connecting blocks this one.
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
async fn heads_beyond_their_bounds_never_reach_a_handler() {
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
