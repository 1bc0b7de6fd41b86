//! Errors in a browser: pages for people who follow a link, and JSON for everybody else.

use reqwest::Method;
use serde_json::json;

use crate::removal::with_admin;
use crate::support::{TestApp, pictures};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const PICTURE: &str = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8";
const PAGE: &str = "text/html; charset=utf-8";

struct Seen {
    status: u16,
    headers: reqwest::header::HeaderMap,
    text: String,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    fn media(&self) -> &str {
        self.header("content-type")
    }
}

async fn ask(app: &TestApp, method: Method, path: &str, accept: &str) -> Seen {
    let request = app
        .http
        .request(method, app.url(path))
        .header("accept", accept);
    let response = request.send().await.unwrap();
    Seen {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.text().await.unwrap_or_default(),
    }
}

#[tokio::test]
async fn a_dead_link_is_a_page_for_people_and_json_for_pictures() {
    let app = TestApp::spawn().await;
    let path = "/i/AAAAAAAAAAAA.png";
    let page = ask(&app, Method::GET, path, BROWSER).await;
    assert_eq!((page.status, page.media()), (404, PAGE));
    for text in ["404 not_found", "There is no image here", "has expired"] {
        assert!(page.text.contains(text), "{text}: {}", page.text);
    }
    // Caches of images may not look at Accept.
    assert_eq!(page.header("cache-control"), "no-store");
    assert_eq!(page.header("vary"), "Accept");
    for accept in [PICTURE, "*/*", "application/json, text/html;q=0.9"] {
        let json = ask(&app, Method::GET, path, accept).await;
        assert_eq!(
            (json.status, json.media()),
            (404, "application/json"),
            "{accept}"
        );
        assert_eq!(json.header("cache-control"), "public, max-age=60");
        assert_eq!(json.header("vary"), "Accept");
    }
    let head = ask(&app, Method::HEAD, path, BROWSER).await;
    assert_eq!((head.status, head.media()), (404, PAGE));
}

/// The address of images shows what strangers uploaded, so its pages may do nothing but load styles of the pages' own address.
#[tokio::test]
async fn an_error_page_runs_nothing_and_is_styled_from_the_pages_address() {
    let app = TestApp::builder()
        .set("images.base_url", "http://images.example.com")
        .spawn()
        .await;
    let page = ask(&app, Method::GET, "/AAAAAAAAAAAA.png", BROWSER).await;
    assert_eq!((page.status, page.media()), (404, PAGE));
    let policy = page.header("content-security-policy");
    let base = &app.base;
    for rule in [
        "default-src 'none'",
        &format!("style-src {base};"),
        "form-action 'none'",
        "frame-ancestors 'none'",
        "sandbox",
    ] {
        assert!(policy.contains(rule), "{rule} is not in {policy}");
    }
    for never in ["unsafe", "allow-scripts", "script-src", "'self'"] {
        assert!(!policy.contains(never), "{never} is in {policy}");
    }
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let mut styles = 0;
    for link in page.text.split("href=\"").skip(1) {
        let target = link.split('"').next().unwrap();
        assert!(
            target.starts_with(base) || target.starts_with('#'),
            "{target} leads nowhere from another host"
        );
        if target.contains("/assets/") {
            styles += 1;
            assert_eq!(app.http.get(target).send().await.unwrap().status(), 200);
        }
    }
    assert!(styles >= 3, "{styles}");
}

#[tokio::test]
async fn an_image_is_the_same_for_browsers_and_programs() {
    let app = TestApp::spawn().await;
    let url = app.upload_free(pictures::png(8, 8)).await.field("url");
    // The first one comes from the store, the others from memory.
    for accept in ["*/*", BROWSER, PICTURE, BROWSER] {
        let image = ask(&app, Method::GET, &url, accept).await;
        assert_eq!((image.status, image.media()), (200, "image/png"));
        assert_eq!(image.header("vary"), "", "{accept}");
        let policy = image.header("content-security-policy");
        assert_eq!(policy, "default-src 'none'; sandbox");
    }
}

#[tokio::test]
async fn a_page_says_what_to_do_next_and_keeps_the_headers() {
    let app = TestApp::spawn().await;
    for (path, status, code, next, header) in [
        (
            "/api/upload/year",
            402,
            "payment_required",
            "Ways to pay",
            "payment-required",
        ),
        (
            "/api/images",
            402,
            "sign_in_required",
            "Sign in with a wallet",
            "payment-required",
        ),
        ("/api/free", 405, "method_not_allowed", "POST, PUT", "allow"),
        ("/api/upload/gold", 404, "unknown_tier", "/docs", "vary"),
        ("/nothing", 404, "unknown_route", "Upload an image", "vary"),
        (
            "/docs/nothing",
            404,
            "unknown_route",
            "Upload an image",
            "vary",
        ),
        ("/abuse/000000", 404, "case_unknown", "/docs", "vary"),
    ] {
        let page = ask(&app, Method::GET, path, BROWSER).await;
        assert_eq!((page.status, page.media()), (status, PAGE), "{path}");
        assert!(page.text.contains(code), "{path}: {}", page.text);
        assert!(page.text.contains(next), "{path}: {}", page.text);
        assert!(!page.header(header).is_empty(), "{path}: no {header}");
        let json = ask(&app, Method::GET, path, "*/*").await;
        assert_eq!(
            (json.status, json.media()),
            (status, "application/json"),
            "{path}"
        );
        let body: serde_json::Value = serde_json::from_str(&json.text).unwrap();
        assert_eq!(body["error"], code, "{path}");
        // A form or a script that posts reads JSON.
        if status == 405 {
            let posted = ask(&app, Method::POST, path, BROWSER).await;
            assert_eq!(posted.media(), "application/json", "{path}");
        }
    }
}

/// A challenge is answered from memory once it was sent.
#[tokio::test]
async fn a_challenge_from_memory_is_for_programs_alone() {
    let app = TestApp::spawn().await;
    for accept in ["*/*", BROWSER, "*/*", BROWSER] {
        let seen = ask(&app, Method::GET, "/api/upload/year", accept).await;
        let media = if accept == BROWSER {
            PAGE
        } else {
            "application/json"
        };
        assert_eq!((seen.status, seen.media()), (402, media), "{accept}");
        assert_eq!(seen.header("vary"), "Accept");
        assert!(!seen.header("payment-required").is_empty());
    }
}

#[tokio::test]
async fn what_a_client_sent_is_text_in_an_error_page() {
    let app = TestApp::spawn().await;
    let url = app.upload_free(pictures::png(8, 8)).await.field("url");
    let page = ask(&app, Method::GET, &format!("{url}?w=<b>odd"), BROWSER).await;
    assert_eq!((page.status, page.media()), (400, PAGE));
    assert!(!page.text.contains("<b>odd"), "{}", page.text);
    assert!(page.text.contains("&#60;b&#62;odd"), "{}", page.text);
}

#[tokio::test]
async fn a_browser_over_a_limit_learns_when_to_come_back() {
    let app = TestApp::builder()
        .set("limits.payments_per_address_per_minute", "1")
        .spawn()
        .await;
    let path = "/api/upload/year";
    let first = ask(&app, Method::GET, path, BROWSER).await;
    assert_eq!((first.status, first.media()), (402, PAGE));
    let second = ask(&app, Method::GET, path, BROWSER).await;
    assert_eq!((second.status, second.media()), (429, PAGE));
    let seconds = second.header("retry-after").to_owned();
    let text = format!("Load this page again in {seconds} second");
    assert!(second.text.contains(&text), "{text}: {}", second.text);
}

#[tokio::test]
async fn a_removed_image_is_a_page_that_names_the_operator() {
    let app = with_admin()
        .set("operator.contact", "mailto:ada@example.com")
        .spawn()
        .await;
    let image = app.upload_free(pictures::png(9, 9)).await;
    app.acted(&image.field("id"), "remove", json!({"legal": true}))
        .await;
    let page = ask(&app, Method::GET, &image.field("url"), BROWSER).await;
    assert_eq!((page.status, page.media()), (451, PAGE));
    for text in [
        "This image was removed",
        "legal demand",
        "mailto:ada@example.com",
    ] {
        assert!(page.text.contains(text), "{text}: {}", page.text);
    }
}
