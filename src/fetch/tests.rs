use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A listener that answers each connection with the next of its scripted bytes, and counts them.
struct Origin {
    port: u16,
    seen: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    async fn start(at: &str, answers: Vec<String>) -> Self {
        let listener = TcpListener::bind((at, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, heads) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::default()));
        let (counted, kept): (_, Arc<Mutex<Vec<String>>>) = (Arc::clone(&seen), Arc::clone(&heads));
        tokio::spawn(async move {
            let mut answers = VecDeque::from(answers);
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                kept.lock().unwrap().push(head);
                let answer = answers.pop_front().unwrap_or_default();
                // A client that has read enough may have gone away.
                drop(stream.write_all(answer.as_bytes()).await);
            }
        });
        Self { port, seen, heads }
    }

    fn count(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }
}

fn answer(head: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

fn moved(to: &str) -> String {
    answer(&format!("302 Found\r\nLocation: {to}"), "")
}

/// A resolver that gives the next of its answers each time.
#[derive(Debug, Default)]
struct Scripted(Mutex<VecDeque<Vec<IpAddr>>>);

#[async_trait::async_trait]
impl Names for Scripted {
    async fn resolve(&self, _: &str) -> Vec<IpAddr> {
        self.0.lock().unwrap().pop_front().unwrap_or_default()
    }
}

fn names(answers: &[&[&str]]) -> Arc<dyn Names> {
    let parsed = |texts: &&[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Arc::new(Scripted(Mutex::new(answers.iter().map(parsed).collect())))
}

/// A fetcher that may connect to 127.0.0.1 beside public addresses, and to nothing else here.
fn fetcher(ports: &[u16], names: Arc<dyn Names>) -> Fetcher {
    drop(rustls::crypto::ring::default_provider().install_default());
    let rules = Rules {
        enabled: true,
        ports: ports.to_vec(),
        allow: vec!["127.0.0.1/32".parse().unwrap()],
        per_host_per_minute: 0,
    };
    Fetcher::new(rules, names, "https://pixtoll.example")
}

async fn fetch(fetcher: &Fetcher, url: &str) -> Result<Vec<u8>, FetchError> {
    let (target, unknown) = (fetcher.target(url)?, Validators::default());
    let Response::Image(mut image) = fetcher.open(&target, &unknown).await? else {
        panic!("the same as nothing");
    };
    let mut body = Vec::new();
    while let Some(chunk) = image.next().await? {
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[tokio::test]
async fn an_image_is_fetched_by_a_plain_request_that_names_this_server() {
    let origin = Origin::start("127.0.0.1", vec![answer("200 OK", "image")]).await;
    let fetcher = fetcher(&[origin.port], names(&[&["127.0.0.1"]]));
    let url = format!("http://img.example:{}/a?b#c", origin.port);
    assert_eq!(fetch(&fetcher, &url).await.unwrap(), b"image");
    let heads = origin.heads.lock().unwrap();
    let head = heads[0].to_ascii_lowercase();
    assert!(head.starts_with("get /a?b http/1.1\r\n"), "{head}");
    for line in [
        &format!("host: img.example:{}", origin.port),
        "accept-encoding: identity",
        "(+https://pixtoll.example)",
    ] {
        assert!(head.contains(line), "{head}");
    }
    for name in ["cookie", "referer", "authorization", "forwarded"] {
        assert!(!head.contains(name), "{head}");
    }
}

#[tokio::test]
async fn a_forbidden_address_is_never_connected_to() {
    // 127.0.0.2 is as local as 127.0.0.1, which the rules of this test allow.
    let canary = Origin::start("127.0.0.2", vec![answer("200 OK", "secret")]).await;
    let port = canary.port;
    let fetcher = fetcher(
        &[port],
        names(&[&["127.0.0.2"], &["127.0.0.1", "127.0.0.2"], &[]]),
    );
    let mut texts = Vec::new();
    for host in [
        "127.0.0.2",
        "127.2",
        "2130706434",
        "0x7f000002",
        "0x7f.2",
        "0177.0.0.2",
        "[::ffff:127.0.0.2]",
        "[::ffff:7f00:2]",
        "[::127.0.0.2]",
        "[64:ff9b::7f00:2]",
        "[2002:7f00:2::1]",
        "[::1]",
        "[::]",
        "0.0.0.0",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "10.0.0.1",
        // By name: a local address, a local one beside a good one, and no address at all.
        "local.example",
        "mixed.example",
        "unknown.example",
    ] {
        let error = fetch(&fetcher, &format!("http://{host}:{port}/")).await;
        let error = error.expect_err(host);
        assert_eq!(error, NotAllowed::Address.into(), "{host}");
        texts.push(error.to_string());
    }
    texts.dedup();
    assert_eq!(
        texts.len(),
        1,
        "each forbidden address has the same message"
    );
    assert_eq!(canary.count(), 0);
}

#[tokio::test]
async fn each_redirect_is_checked_anew() {
    let canary = Origin::start("127.0.0.2", vec![]).await;
    for to in [
        format!("http://127.0.0.2:{}/", canary.port),
        format!("http://0x7f000002:{}/", canary.port),
        format!("//[::ffff:127.0.0.2]:{}/", canary.port),
        format!("http://second.example:{}/", canary.port),
    ] {
        let origin = Origin::start("127.0.0.1", vec![moved(&to)]).await;
        let fetcher = fetcher(&[origin.port, canary.port], names(&[&["127.0.0.2"]]));
        let url = format!("http://127.0.0.1:{}/", origin.port);
        let error = fetch(&fetcher, &url).await.unwrap_err();
        assert_eq!(error, FetchError::after(1, NotAllowed::Address), "{to}");
        assert_eq!(origin.count(), 1);
    }
    assert_eq!(canary.count(), 0);
}

#[tokio::test]
async fn a_name_that_resolves_differently_the_second_time_is_checked_the_second_time() {
    let canary = Origin::start("127.0.0.2", vec![]).await;
    let port = canary.port;
    // The same port at the allowed address: the same URL leads to either.
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let to = format!("http://rebinding.example:{port}/again");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            drop(stream.write_all(moved(&to).as_bytes()).await);
        }
    });
    let fetcher = fetcher(&[port], names(&[&["127.0.0.1"], &["127.0.0.2"]]));
    let url = format!("http://rebinding.example:{port}/");
    let error = fetch(&fetcher, &url).await.unwrap_err();
    assert_eq!(error, FetchError::after(1, NotAllowed::Address));
    assert_eq!(canary.count(), 0);
}

#[tokio::test]
async fn a_name_is_resolved_once_for_each_connection() {
    let origin = Origin::start("127.0.0.1", vec![answer("200 OK", "image")]).await;
    // A second resolution of the same connection would find the forbidden address.
    let fetcher = fetcher(&[origin.port], names(&[&["127.0.0.1"], &["127.0.0.2"]]));
    let url = format!("http://rebinding.example:{}/", origin.port);
    assert_eq!(fetch(&fetcher, &url).await.unwrap(), b"image");
}

#[tokio::test]
async fn three_redirects_are_followed_and_four_are_not() {
    for (hops, is_followed) in [(3, true), (4, false)] {
        let mut answers: Vec<String> = (0..hops).map(|_| moved("/next")).collect();
        answers.push(answer("200 OK", "image"));
        let origin = Origin::start("127.0.0.1", answers).await;
        let fetcher = fetcher(&[origin.port], names(&[]));
        let got = fetch(&fetcher, &format!("http://127.0.0.1:{}/", origin.port)).await;
        match got {
            Ok(body) => assert!(is_followed && body == b"image", "{hops}"),
            Err(error) => {
                assert!(!is_followed, "{hops}: {error}");
                assert_eq!(error, FetchFailure::TooManyRedirects.into());
            }
        }
        assert_eq!(origin.count(), 4);
    }
}

#[tokio::test]
async fn a_response_that_is_no_plain_image_is_refused() {
    let long_head = format!("200 OK\r\nX-Long: {}", "x".repeat(64 * 1024));
    let many = format!("200 OK{}", "\r\nX-Many: 1".repeat(200));
    for (response, failure) in [
        (
            answer("200 OK\r\nContent-Encoding: gzip", "x"),
            FetchFailure::Encoded,
        ),
        (
            answer("200 OK\r\nContent-Encoding: br", "x"),
            FetchFailure::Encoded,
        ),
        (answer("404 Not Found", "x"), FetchFailure::Status(404)),
        (
            answer("206 Partial Content", "x"),
            FetchFailure::Status(206),
        ),
        (answer("503 Busy", "x"), FetchFailure::Status(503)),
        (answer("302 Found", ""), FetchFailure::BadRedirect),
        (answer(&long_head, "x"), FetchFailure::Broken),
        (answer(&many, "x"), FetchFailure::Broken),
        ("SSH-2.0-OpenSSH_9.9\r\n".to_owned(), FetchFailure::Broken),
        (String::new(), FetchFailure::Broken),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort".to_owned(),
            FetchFailure::Broken,
        ),
    ] {
        let origin = Origin::start("127.0.0.1", vec![response.clone()]).await;
        let fetcher = fetcher(&[origin.port], names(&[]));
        let got = fetch(&fetcher, &format!("http://127.0.0.1:{}/", origin.port)).await;
        let head: String = response.chars().take(40).collect();
        assert_eq!(got.expect_err(&head), failure.into(), "{head}");
    }
}

#[tokio::test]
async fn a_host_without_a_valid_certificate_is_refused() {
    let origin = Origin::start("127.0.0.1", vec![]).await;
    let fetcher = fetcher(&[origin.port], names(&[]));
    let got = fetch(&fetcher, &format!("https://127.0.0.1:{}/", origin.port)).await;
    assert!(matches!(got, Err(FetchError::Failed(_))), "{got:?}");
    // The first bytes were those of a TLS handshake, and no request in plain text.
    let heads = origin.heads.lock().unwrap();
    assert!(!heads[0].contains("GET"), "{heads:?}");
}

#[test]
fn nothing_is_fetched_where_imports_are_off() {
    let fetcher = fetcher(&[80], names(&[]));
    let rules = Rules {
        enabled: false,
        ..fetcher.rules.clone()
    };
    let off = Fetcher { rules, ..fetcher };
    assert_eq!(off.target("http://example.com/"), Err(FetchError::Disabled));
}

#[tokio::test]
async fn validators_are_sent_to_the_url_that_they_came_from_alone() {
    let with_tag = answer("200 OK\r\nETag: \"a\"\r\nLast-Modified: yesterday", "image");
    let same = answer("304 Not Modified", "");
    let answers = vec![
        moved("/one"),
        with_tag,
        moved("/one"),
        same.clone(),
        moved("/two"),
        same,
    ];
    let origin = Origin::start("127.0.0.1", answers).await;
    let fetcher = fetcher(&[origin.port], names(&[]));
    let target = format!("http://127.0.0.1:{}/", origin.port);
    let target = fetcher.target(&target).unwrap();
    let first = fetcher.open(&target, &Validators::default()).await.unwrap();
    let Response::Image(first) = first else {
        panic!("the same as nothing");
    };
    let known = first.validators.clone();
    assert_eq!(known.etag.as_deref(), Some("\"a\""));
    let again = fetcher.open(&target, &known).await.unwrap();
    assert!(matches!(again, Response::Same));
    // Another URL may have the same tag for other bytes, and a 304 that nobody asked for is an
    // error.
    let elsewhere = fetcher.open(&target, &known).await.unwrap_err();
    assert_eq!(elsewhere, FetchError::Failed(FetchFailure::Status(304)));
    let heads = origin.heads.lock().unwrap();
    let sent: Vec<bool> = heads
        .iter()
        .map(|head| {
            let has_tag = head.contains("if-none-match: \"a\"\r\n");
            assert_eq!(has_tag, head.contains("if-modified-since: yesterday\r\n"));
            has_tag
        })
        .collect();
    assert_eq!(sent, [false, false, false, true, false, false]);
}

#[tokio::test]
async fn validators_that_are_too_long_are_not_kept() {
    let tag = "x".repeat(LONGEST_VALIDATOR + 1);
    let date = "y".repeat(LONGEST_VALIDATOR);
    let head = format!("200 OK\r\nETag: {tag}\r\nLast-Modified: {date}");
    let origin = Origin::start("127.0.0.1", vec![answer(&head, "image")]).await;
    let fetcher = fetcher(&[origin.port], names(&[]));
    let target = format!("http://127.0.0.1:{}/", origin.port);
    let target = fetcher.target(&target).unwrap();
    let first = fetcher.open(&target, &Validators::default()).await.unwrap();
    let Response::Image(first) = first else {
        panic!("the same as nothing");
    };
    assert_eq!(first.validators.etag, None);
    assert_eq!(first.validators.last_modified, Some(date));
}
