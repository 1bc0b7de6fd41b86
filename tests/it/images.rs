//! What a link serves: bytes that are harmless wherever they are shown, and gone when they should be.

use std::time::Duration;

use crate::support::{Answer, TestApp, pictures};

const NONE: [(&str, &str); 0] = [];
const DAY: u64 = 86_400;

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer
        .headers
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

/// An image of this tier; its link.
async fn upload(app: &TestApp, tier: &str) -> String {
    let picture = pictures::png(6, 5);
    if tier == "free" {
        return app.upload_free(picture).await.field("url");
    }
    let payment = app.sign_at(&format!("/api/upload/{tier}")).await;
    app.pay_with(&payment, &picture).await.field("url")
}

#[tokio::test]
async fn an_image_is_served_so_that_no_browser_takes_it_for_anything_else() {
    let app = TestApp::patient().await;
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
async fn a_cache_may_keep_an_image_until_its_end_and_no_second_longer() {
    let app = TestApp::patient().await;
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
        // Half a second into a second, that second is not given away.
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
async fn an_image_is_gone_from_the_first_instant_after_its_end() {
    let app = TestApp::patient().await;
    for (tier, life) in [("free", 7 * DAY), ("year", 365 * DAY)] {
        let url = upload(&app, tier).await;
        let etag = header(&app.get(&url).await, "etag").to_owned();
        app.advance(Duration::from_millis(life * 1000 - 1));
        assert_eq!(app.get(&url).await.status, 200);
        app.advance(Duration::from_millis(1));
        let without_extension = url.rsplit_once('.').unwrap().0;
        for url in [url.as_str(), without_extension] {
            for method in ["GET", "HEAD"] {
                // Who still has it in a cache is told as well.
                for headers in [vec![], vec![("if-none-match", etag.as_str())]] {
                    let answer = app.send(method, url, &headers, "").await;
                    assert_eq!(answer.status, 404, "{method} {url}");
                    assert_eq!(header(&answer, "cache-control"), "no-store");
                    assert_eq!(header(&answer, "etag"), "");
                }
            }
            assert_eq!(app.get(url).await.error(), "not_found");
        }
    }
}

#[tokio::test]
async fn who_has_the_image_already_does_not_get_it_again() {
    let app = TestApp::patient().await;
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
async fn a_link_with_another_extension_is_no_link() {
    let app = TestApp::patient().await;
    let png = upload(&app, "free").await;
    let png = png.trim_end_matches(".png");
    for wrong in [
        "jpg", "gif", "webp", "html", "svg", "", "png.html", "png/", "pn",
    ] {
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
    assert_eq!(app.get(&format!("{jpeg}.png")).await.status, 404);
}

#[tokio::test]
async fn the_operators_routes_are_on_the_operators_listener_only() {
    let app = TestApp::patient().await;
    for path in ["/healthz", "/readyz"] {
        let answer = app.get(&format!("{}{path}", app.admin)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let answer = app.get(path).await;
        assert_eq!(
            answer.verdict(),
            (404, "not_found".to_owned(), Some(false)),
            "{path}"
        );
    }
    for path in ["/api/tiers", "/api/free", "/i/k3v9Qw2mZr7T", "/"] {
        let answer = app.get(&format!("{}{path}", app.admin)).await;
        assert_eq!(answer.error(), "not_found", "{path}");
    }
}
