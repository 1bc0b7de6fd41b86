//! Serving images: links return harmless bytes, and return 404 after the end of the image.

use std::time::Duration;

use pixtoll::model::ids::ImageId;

use crate::support::{Answer, TestApp, pictures};

const NONE: [(&str, &str); 0] = [];
const DAY: u64 = 86_400;

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer
        .headers
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

/// The `Repr-Digest` of these bytes, computed by other code than the server's.
fn digest_of(bytes: &[u8]) -> String {
    use base64::Engine;
    use sha2::Digest;
    let digest = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(bytes));
    format!("sha-256=:{digest}:")
}

/// Checks the headers that every response of the image origin must have.
fn is_harmless(answer: &Answer, what: &str) {
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; sandbox"),
        ("cross-origin-resource-policy", "cross-origin"),
        ("access-control-allow-origin", "*"),
        ("set-cookie", ""),
    ] {
        assert_eq!(header(answer, name), value, "{what}: {name}");
    }
}

/// Uploads an image to a tier and returns its link.
async fn upload(app: &TestApp, tier: &str) -> String {
    let picture = pictures::png(6, 5);
    if tier == "free" {
        return app.upload_free(picture).await.field("url");
    }
    let payment = app.sign_at(&format!("/api/upload/{tier}")).await;
    app.pay_with(&payment, &picture).await.field("url")
}

#[tokio::test]
async fn an_image_is_served_with_headers_that_prevent_other_uses() {
    let app = TestApp::spawn().await;
    for (kind, picture) in [
        ("image/png", pictures::png(6, 5)),
        ("image/jpeg", pictures::jpeg()),
        ("image/gif", pictures::gif(6, 5)),
        ("image/webp", pictures::webp(6, 5)),
    ] {
        let uploaded = app.upload_free(picture.clone()).await;
        let url = uploaded.field("url");
        let without_extension = url.rsplit_once('.').unwrap().0;
        for url in [url.as_str(), without_extension] {
            for method in ["GET", "HEAD"] {
                let answer = app.send(method, url, &NONE, "").await;
                assert_eq!(answer.status, 200, "{method} {url}");
                if method == "GET" {
                    assert_eq!(answer.bytes, picture);
                } else {
                    assert_eq!(answer.bytes, b"");
                }
                let length = picture.len().to_string();
                for (name, value) in [
                    ("content-type", kind),
                    ("content-length", &length),
                    ("x-content-type-options", "nosniff"),
                    ("content-security-policy", "default-src 'none'; sandbox"),
                    ("cross-origin-resource-policy", "cross-origin"),
                    ("access-control-allow-origin", "*"),
                    ("etag", &format!("\"{}\"", uploaded.field("sha256"))),
                    ("last-modified", "Fri, 15 Jan 2027 08:00:00 GMT"),
                    ("accept-ranges", "bytes"),
                    ("repr-digest", &digest_of(&picture)),
                    ("vary", ""),
                    ("set-cookie", ""),
                    ("content-disposition", ""),
                    ("transfer-encoding", ""),
                ] {
                    assert_eq!(header(&answer, name), value, "{method} {url}: {name}");
                }
            }
        }
    }
}

#[tokio::test]
async fn cache_control_ends_no_later_than_the_image() {
    let app = TestApp::spawn().await;
    let (free, year, permanent) = (
        upload(&app, "free").await,
        upload(&app, "year").await,
        upload(&app, "permanent").await,
    );
    let a_year = "public, max-age=31536000, immutable";
    let in_a_year = "Sat, 15 Jan 2028 08:00:00 GMT";
    for (url, control, expires) in [
        (
            &free,
            "public, max-age=604800, immutable",
            "Fri, 22 Jan 2027 08:00:00 GMT",
        ),
        (&year, a_year, in_a_year),
        (&permanent, a_year, in_a_year),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = app.send(method, url, &NONE, "").await;
            assert_eq!(header(&answer, "cache-control"), control);
            assert_eq!(header(&answer, "expires"), expires);
        }
    }
    let free_end = "Fri, 22 Jan 2027 08:00:00 GMT";
    for (advance, control) in [
        // The remaining half second is rounded down.
        (
            Duration::from_millis(500),
            "public, max-age=604799, immutable",
        ),
        (
            Duration::from_millis(500),
            "public, max-age=604799, immutable",
        ),
        (
            Duration::from_secs(6 * DAY - 2),
            "public, max-age=86401, immutable",
        ),
        (Duration::from_secs(1), "public, max-age=86400"),
        (Duration::from_secs(DAY - 1), "public, max-age=1"),
        (Duration::from_millis(1), "public, max-age=0"),
    ] {
        app.advance(advance);
        let answer = app.get(&free).await;
        assert_eq!(header(&answer, "cache-control"), control);
        assert!(header(&answer, "expires") <= free_end);
    }
    app.advance(Duration::from_secs(20 * 365 * DAY));
    let answer = app.get(&permanent).await;
    assert_eq!(
        (answer.status, header(&answer, "cache-control")),
        (200, a_year)
    );
}

#[tokio::test]
async fn an_image_is_not_found_from_the_moment_of_its_end() {
    let app = TestApp::spawn().await;
    let date = "Sat, 15 Jan 2028 08:00:00 GMT";
    for (tier, life) in [("free", 7 * DAY), ("year", 365 * DAY)] {
        let url = upload(&app, tier).await;
        let etag = header(&app.get(&url).await, "etag").to_owned();
        app.advance(Duration::from_millis(life * 1000 - 1));
        assert_eq!(app.get(&url).await.status, 200);
        app.advance(Duration::from_millis(1));
        let without_extension = url.rsplit_once('.').unwrap().0;
        for url in [url.as_str(), without_extension] {
            for method in ["GET", "HEAD"] {
                // Clients that still have it in a cache receive 404 as well.
                for headers in [
                    vec![],
                    vec![("if-none-match", etag.as_str())],
                    vec![("if-modified-since", date)],
                    vec![("range", "bytes=0-0"), ("if-range", etag.as_str())],
                    vec![("range", "bytes=999999-")],
                    vec![("if-match", "\"another\"")],
                ] {
                    let answer = app.send(method, url, &headers, "").await;
                    assert_eq!(answer.status, 404, "{method} {url}");
                    assert_eq!(header(&answer, "cache-control"), "public, max-age=60");
                    assert_eq!(header(&answer, "etag"), "");
                    assert_eq!(header(&answer, "expires"), "");
                }
            }
            assert_eq!(app.get(url).await.error(), "not_found");
        }
    }
}

#[tokio::test]
async fn a_matching_etag_returns_304() {
    let app = TestApp::spawn().await;
    let url = upload(&app, "free").await;
    let first = app.get(&url).await;
    let etag = header(&first, "etag").to_owned();
    let other = format!("\"{}\"", "0".repeat(64));
    for (sent, status) in [
        (etag.clone(), 304),
        (format!("W/{etag}"), 304),
        (format!("{other}, {etag}"), 304),
        ("*".to_owned(), 304),
        (other, 200),
        (etag.trim_matches('"').to_owned(), 200),
        (String::new(), 200),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = app
                .send(method, &url, &[("If-None-Match", &sent)], "")
                .await;
            assert_eq!(answer.status, status, "{method} {sent}");
            assert_eq!(header(&answer, "etag"), etag);
            assert_eq!(
                header(&answer, "cache-control"),
                "public, max-age=604800, immutable"
            );
            assert_eq!(header(&answer, "expires"), header(&first, "expires"));
            if status == 304 {
                assert_eq!(answer.bytes, b"");
            }
        }
    }
}

#[tokio::test]
async fn a_range_request_returns_that_part_of_an_image() {
    let app = TestApp::spawn().await;
    let url = upload(&app, "free").await;
    let whole = app.get(&url).await;
    let bytes = &whole.bytes;
    let length = bytes.len();
    let etag = header(&whole, "etag").to_owned();
    let date = header(&whole, "last-modified").to_owned();
    let another = "\"another\"".to_owned();
    for (range, part) in [
        ("bytes=0-0".to_owned(), 0..1),
        ("bytes=10-19".to_owned(), 10..20),
        (format!("bytes={}-", length - 3), length - 3..length),
        ("bytes=-5".to_owned(), length - 5..length),
        (format!("bytes=1-{length}000"), 1..length),
    ] {
        for same in [None, Some(&etag), Some(&date)] {
            let mut headers = vec![("range", range.as_str())];
            headers.extend(same.map(|same| ("if-range", same.as_str())));
            let answer = app.send("GET", &url, &headers, "").await;
            assert_eq!(answer.status, 206, "{headers:?}");
            assert_eq!(answer.bytes, bytes[part.clone()], "{headers:?}");
            let place = format!("bytes {}-{}/{length}", part.start, part.end - 1);
            assert_eq!(header(&answer, "content-range"), place);
            assert_eq!(header(&answer, "content-length"), part.len().to_string());
            for name in [
                "etag",
                "last-modified",
                "cache-control",
                "expires",
                "repr-digest",
                "content-type",
                "accept-ranges",
            ] {
                assert_eq!(header(&answer, name), header(&whole, name), "{name}");
            }
            is_harmless(&answer, &range);
            let head = app.send("HEAD", &url, &headers, "").await;
            assert_eq!(head.status, 200, "ranges apply to GET alone");
            assert_eq!(header(&head, "content-range"), "");
            assert_eq!(header(&head, "content-length"), length.to_string());
        }
        let headers = [("range", &range), ("if-range", &another)];
        let answer = app.send("GET", &url, &headers, "").await;
        assert_eq!((answer.status, &answer.bytes), (200, bytes), "{range}");
        assert_eq!(header(&answer, "content-range"), "");
    }
    for past in [format!("bytes={length}-"), "bytes=-0".to_owned()] {
        let answer = app.send("GET", &url, &[("range", &past)], "").await;
        assert_eq!(answer.verdict().0, 416, "{past}");
        assert_eq!(answer.error(), "range_not_satisfiable");
        let place = format!("bytes */{length}");
        assert_eq!(header(&answer, "content-range"), place);
        assert_eq!(header(&answer, "cache-control"), "no-store");
        is_harmless(&answer, &past);
    }
    for odd in ["bytes=0-1,4-5", "bytes=5-2", "bytes=x", "lines=0-1"] {
        let answer = app.send("GET", &url, &[("range", odd)], "").await;
        assert_eq!((answer.status, &answer.bytes), (200, bytes), "{odd}");
    }
}

#[tokio::test]
async fn if_modified_since_returns_304_without_an_etag() {
    let app = TestApp::spawn().await;
    // Half a second late, so that the date in the header is rounded.
    app.advance(Duration::from_millis(500));
    let url = upload(&app, "free").await;
    let (before, at, after) = (
        "Fri, 15 Jan 2027 07:59:59 GMT",
        "Fri, 15 Jan 2027 08:00:00 GMT",
        "Fri, 15 Jan 2027 08:00:01 GMT",
    );
    let another = "\"another\"";
    for (headers, status) in [
        (vec![("if-modified-since", at)], 304),
        (vec![("if-modified-since", after)], 304),
        (vec![("if-modified-since", before)], 200),
        (vec![("if-modified-since", "yesterday")], 200),
        (
            vec![("if-modified-since", at), ("if-none-match", another)],
            200,
        ),
        (vec![("if-unmodified-since", at)], 200),
        (vec![("if-unmodified-since", before)], 412),
        (vec![("if-match", another)], 412),
        (
            vec![("if-match", "*"), ("if-unmodified-since", before)],
            200,
        ),
        (vec![("if-match", another), ("if-none-match", "*")], 412),
        (vec![("if-match", "*"), ("if-none-match", "*")], 304),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = app.send(method, &url, &headers, "").await;
            assert_eq!(answer.status, status, "{method} {headers:?}");
            is_harmless(&answer, &format!("{method} {headers:?}"));
            if status == 412 {
                assert_eq!(header(&answer, "cache-control"), "no-store");
            }
            if (status, method) == (412, "GET") {
                assert_eq!(answer.error(), "precondition_failed");
            }
        }
    }
}

#[tokio::test]
async fn every_other_spelling_of_an_image_path_is_not_found() {
    let app = TestApp::spawn().await;
    let url = upload(&app, "free").await;
    let file = url.rsplit_once('/').unwrap().1;
    let (id, _) = file.split_once('.').unwrap();
    let first = format!("%{:02x}{}", file.as_bytes()[0], &file[1..]);
    let dot = file.replace('.', "%2e");
    for path in [
        format!("/i/{first}"),
        format!("/i/{dot}"),
        format!("/%69/{file}"),
        format!("/i%2f{file}"),
        format!("/i/%2e%2e/i/{file}"),
        format!("/i/{file}%00"),
        format!("/i/{file}%20"),
        format!("/i//{file}"),
        format!("//i/{file}"),
        format!("/i/{file}/"),
        format!("/i/{id}..png"),
        format!("/i/.{file}"),
        format!("/i/./{file}"),
        format!("/i/{file};a"),
        format!("/i/{file}/x"),
        format!("/I/{file}"),
        format!("/i/{}", file.to_uppercase()),
        format!("/{file}"),
        "/i/".to_owned(),
        "/i".to_owned(),
    ] {
        for method in ["GET", "HEAD"] {
            // Sent without reqwest, which normalizes such paths.
            let answer = raw(&app, method, &path).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 404 "), "{method} {path}: {head}");
            let head = head.to_lowercase();
            assert!(head.contains("x-content-type-options: nosniff"), "{path}");
            if method == "GET" {
                let is_plain = ["not_found", "unknown_route"]
                    .iter()
                    .any(|code| body.contains(&format!("\"error\":\"{code}\"")));
                assert!(is_plain, "{path}: {body}");
            }
        }
    }
}

/// Sends exactly this path and returns the response.
async fn raw(app: &TestApp, method: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = app.base.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn errors_of_the_image_origin_are_harmless_and_cached_briefly() {
    let app = TestApp::spawn().await;
    let url = upload(&app, "free").await;
    for (method, path, status, control) in [
        ("GET", "/i/k3v9Qw2mZr7T.png", 404, "public, max-age=60"),
        ("HEAD", "/i/k3v9Qw2mZr7T", 404, "public, max-age=60"),
        ("GET", "/i/no", 404, "public, max-age=60"),
        ("GET", "/i/a/b", 404, "public, max-age=60"),
        ("POST", &url, 405, "no-store"),
        ("DELETE", &url, 405, "no-store"),
    ] {
        let answer = app.send(method, path, &NONE, "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(header(&answer, "cache-control"), control, "{method} {path}");
        is_harmless(&answer, &format!("{method} {path}"));
        if method != "HEAD" {
            assert_eq!(answer.charged(), Some(false));
        }
    }
    let preflight = app.send("OPTIONS", &url, &NONE, "").await;
    assert_eq!(
        (preflight.status, header(&preflight, "allow")),
        (204, "GET, HEAD")
    );
    is_harmless(&preflight, "OPTIONS");
}

#[tokio::test]
async fn an_image_whose_object_is_missing_or_cut_is_not_served() {
    let app = TestApp::builder().on_disk().spawn().await;
    let uploaded = app.upload_free(pictures::png(6, 5)).await;
    let (id, url) = (uploaded.field("id"), uploaded.field("url"));
    let object = app
        .folder()
        .join("images/images")
        .join(&id[..1])
        .join(&id[1..2])
        .join(&id);
    let bytes = std::fs::read(&object).unwrap();
    std::fs::write(&object, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(app.get(&url).await.status, 404);
    std::fs::remove_file(&object).unwrap();
    assert_eq!(app.get(&url).await.status, 404);
}

#[tokio::test]
async fn the_image_origin_may_be_a_host_of_its_own() {
    let app = TestApp::builder()
        .set("images.base_url", "http://images.test")
        .spawn()
        .await;
    let picture = pictures::png(6, 5);
    let uploaded = app.upload_free(picture.clone()).await;
    let url = uploaded.field("url");
    let file = url.strip_prefix("http://images.test/").unwrap();
    let served = app.get(&format!("/{file}")).await;
    assert_eq!(
        (served.status, served.bytes.as_slice()),
        (200, &picture[..])
    );
    is_harmless(&served, "the image");
    for path in ["/favicon.ico", "/a/b", "/i/k3v9Qw2mZr7T.png"] {
        let answer = app.get(path).await;
        assert_eq!(
            answer.verdict(),
            (404, "unknown_route".to_owned(), Some(false))
        );
        is_harmless(&answer, path);
    }
    assert_eq!(app.get("/api/tiers").await.status, 200);
    assert_eq!(app.get("/api/nothing").await.error(), "unknown_route");
}

#[tokio::test]
async fn a_link_with_an_extension_of_no_variant_is_not_found() {
    let app = TestApp::spawn().await;
    let png = upload(&app, "free").await;
    let png = png.trim_end_matches(".png");
    for wrong in ["gif", "html", "svg", "png.html", "png/", "pn"] {
        let answer = app.get(&format!("{png}.{wrong}")).await;
        assert_eq!(
            answer.verdict(),
            (404, "not_found".to_owned(), Some(false)),
            "{wrong}"
        );
    }
    let jpeg = app.upload_free(pictures::jpeg()).await.field("url");
    let jpeg = jpeg.trim_end_matches(".jpg");
    for right in ["jpg", "jpeg"] {
        assert_eq!(
            app.get(&format!("{jpeg}.{right}")).await.status,
            200,
            "{right}"
        );
    }
    let converted = app.get(&format!("{jpeg}.png")).await;
    assert_eq!(converted.status, 200, "{}", converted.text());
    let kind = converted.header("content-type");
    assert_eq!(kind.as_deref(), Some("image/png"));
}

#[tokio::test]
async fn operator_routes_exist_only_on_the_operator_listener() {
    let app = TestApp::spawn().await;
    for path in ["/healthz", "/readyz"] {
        let answer = app.get(&format!("{}{path}", app.admin)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let answer = app.get(path).await;
        assert_eq!(
            answer.verdict(),
            (404, "unknown_route".to_owned(), Some(false)),
            "{path}"
        );
    }
    for path in ["/api/tiers", "/api/free", "/i/k3v9Qw2mZr7T", "/docs"] {
        let answer = app.get(&format!("{}{path}", app.admin)).await;
        assert_eq!(answer.error(), "unknown_route", "{path}");
    }
}

#[tokio::test]
async fn a_published_image_is_not_discarded() {
    let app = TestApp::spawn().await;
    let image = app.upload_free(pictures::png(6, 5)).await;
    // As an upload does whose commit seemed to be lost but succeeded.
    let id = ImageId::parse(&image.field("id")).unwrap();
    app.app.images.discard(&id).await;
    assert_eq!(app.get(&image.field("url")).await.status, 200);
}

#[tokio::test]
async fn the_facts_of_a_files_name_are_refused_with_the_path_of_its_id() {
    let app = TestApp::spawn().await;
    let id = app.upload_free(pictures::png(8, 8)).await.field("id");
    let named = app.get(&format!("/api/images/{id}.png")).await;
    assert_eq!((named.status, named.error()), (404, "not_found".to_owned()));
    let message = named.field("message");
    assert!(
        message.ends_with(&format!("/api/images/{id}.")),
        "{message}"
    );
}
