//! Uploads: every accepted and every refused form of a body, on every route. A refusal costs
//! nothing.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{Answer, TestApp, pictures};

const FORM: &str = "multipart/form-data; boundary=XX";
const FREE_LIMIT: usize = 1 << 20;
const YEAR_LIMIT: usize = 5 << 20;
const FREE_LIFE: Duration = Duration::from_hours(7 * 24);
const INSTANT: Duration = Duration::from_millis(1);
const ANSWER_FIELDS: [&str; 19] = [
    "url",
    "id",
    "contentType",
    "sizeBytes",
    "expiresAt",
    "width",
    "height",
    "sha256",
    "tier",
    "visibility",
    "pageUrl",
    "sizes",
    "thumbhash",
    "dominantColor",
    "deleteToken",
    "deleteUrl",
    "markdown",
    "metadata",
    "removed",
];

/// A body with the headers that describe it.
#[derive(Clone)]
struct Body {
    name: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    bytes: Vec<u8>,
}

fn body(name: &'static str, kind: &'static str, bytes: impl AsRef<[u8]>) -> Body {
    let headers = if kind.is_empty() {
        vec![]
    } else {
        vec![("content-type", kind)]
    };
    let bytes = bytes.as_ref().to_vec();
    Body {
        name,
        headers,
        bytes,
    }
}

/// A multipart form of parts: the text behind `form-data;`, and the content.
fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut form = Vec::new();
    for (disposition, content) in parts {
        form.extend(b"--XX\r\nContent-Disposition: form-data; ");
        form.extend(disposition.as_bytes());
        form.extend(b"\r\n\r\n");
        form.extend(*content);
        form.extend(b"\r\n");
    }
    form.extend(b"--XX--\r\n");
    form
}

fn json_of(field: &str, text: &str) -> Vec<u8> {
    json!({field: text}).to_string().into_bytes()
}

/// Every form in which `picture`, a PNG, can be sent.
fn good(picture: &[u8]) -> Vec<Body> {
    let text = STANDARD.encode(picture);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(76)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let note = b"a note that nobody reads".as_slice();
    vec![
        body("raw", "image/png", picture),
        body("raw, another type", "image/jpeg", picture),
        body("raw, any type", "image/*", picture),
        body("raw, capitals", "IMAGE/PNG", picture),
        body("raw, a dangerous type", "image/svg+xml", picture),
        body("raw, no type", "", picture),
        body("raw, bytes", "application/octet-stream", picture),
        body(
            "the field image",
            FORM,
            form(&[("name=\"image\"; filename=\"a.png\"", picture)]),
        ),
        body(
            "the field file",
            FORM,
            form(&[("name=\"file\"; filename=\"a.png\"", picture)]),
        ),
        body(
            "the field image, no name",
            FORM,
            form(&[("name=\"image\"", picture)]),
        ),
        body(
            "a name that lies",
            FORM,
            form(&[("name=\"image\"; filename=\"../../etc/x.html\"", picture)]),
        ),
        body(
            "the only file",
            FORM,
            form(&[
                ("name=\"caption\"", note),
                ("name=\"photo\"; filename=\"x\"", picture),
            ]),
        ),
        body(
            "image beside others",
            FORM,
            form(&[
                ("name=\"thumbnail\"; filename=\"t\"", note),
                ("name=\"image\"; filename=\"a\"", picture),
                ("name=\"file\"; filename=\"b\"", note),
            ]),
        ),
        body("JSON image", "application/json", json_of("image", &text)),
        body(
            "JSON file",
            "application/json; charset=utf-8",
            json_of("file", &text),
        ),
        body(
            "JSON with more",
            "application/json",
            json!({"image": text, "alt": [1]}).to_string(),
        ),
        body(
            "a data URL",
            "application/json",
            json_of("image", &format!("data:image/gif;base64,{text}")),
        ),
        body(
            "a data URL without a type",
            "application/json",
            json_of("file", &format!("data:;base64,{text}")),
        ),
        body(
            "broken lines",
            "application/json",
            json_of("image", &lines.join("\r\n")),
        ),
        body(
            "no padding",
            "application/json",
            json_of("image", text.trim_end_matches('=')),
        ),
    ]
}

const FILE: &str = "name=\"image\"; filename=\"photo.png\"";
const OTHER: &str = "name=\"a\"; filename=\"a.png\"";
const SVG: &[u8] = b"<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>";
const HTML: &[u8] = b"<!DOCTYPE html><html><script>alert(1)</script></html>";

fn in_form(name: &'static str, parts: &[(&str, &[u8])]) -> Body {
    body(name, FORM, form(parts))
}

fn in_json(name: &'static str, text: &str) -> Body {
    body(name, "application/json", text)
}

fn in_base64(name: &'static str, bytes: &[u8]) -> Body {
    let text = json_of("image", &STANDARD.encode(bytes));
    body(name, "application/json", text)
}

/// Every body that is refused, with the status and the error code.
fn refused(limit: usize) -> Vec<(u16, &'static str, Body)> {
    let groups = [
        (400, "no_file", without_a_file()),
        (400, "empty_file", empty()),
        (400, "corrupt_image", cut()),
        (415, "unsupported_format", of_other_formats()),
        (413, "file_too_large", too_large(limit)),
        (400, "invalid_body", unreadable()),
    ];
    let flat = groups.into_iter().flat_map(|(status, error, bodies)| {
        let each = move |body| (status, error, body);
        bodies.into_iter().map(each)
    });
    flat.collect()
}

fn without_a_file() -> Vec<Body> {
    let picture = pictures::png(6, 5);
    vec![
        body("nothing", "", b""),
        body("a picture as text", "text/plain", &picture),
        in_form("a form without a file", &[("name=\"alt\"", b"x")]),
        in_form("an empty form", &[]),
        in_json("an empty object", "{}"),
        in_json("null", "{\"image\": null}"),
    ]
}

fn empty() -> Vec<Body> {
    vec![
        body("an empty picture", "image/png", b""),
        in_form("an empty field", &[(FILE, b"")]),
        in_form("an empty only file", &[(OTHER, b"")]),
        in_base64("an empty text", b""),
    ]
}

fn cut() -> Vec<Body> {
    let picture = pictures::png(6, 5);
    // Cut before its first pixel: viewers accept a picture without its end.
    let cut = &picture[..40];
    vec![
        body("a cut picture", "image/png", cut),
        in_form("a cut picture in a form", &[(FILE, cut)]),
        in_base64("a cut picture in JSON", cut),
        body("a cut GIF", "image/gif", &pictures::gif(9, 9)[..40]),
        body("a cut JPEG", "image/jpeg", &pictures::jpeg()[..90]),
        body("a cut WebP", "image/webp", &pictures::webp(9, 9)[..20]),
    ]
}

fn of_other_formats() -> Vec<Body> {
    vec![
        body("SVG", "image/svg+xml", SVG),
        body("SVG as PNG", "image/png", SVG),
        in_form("SVG named PNG", &[(FILE, SVG)]),
        body("HTML", "image/png", HTML),
        in_base64("HTML in JSON", HTML),
        body("PDF", "image/png", b"%PDF-1.7 and so on"),
        body("BMP", "image/bmp", b"BM and so on and so on"),
    ]
}

fn too_large(limit: usize) -> Vec<Body> {
    let over = pictures::png_of_size(limit + 1);
    vec![
        body("a byte too much", "image/png", &over),
        in_form("a byte too much in a form", &[(FILE, &over)]),
        in_base64("a byte too much in JSON", &over),
    ]
}

fn unreadable() -> Vec<Body> {
    let picture = pictures::png(6, 5);
    let text = STANDARD.encode(&picture);
    let note: (&str, &[u8]) = ("name=\"note\"", b"x");
    let many = [vec![note; 69], vec![(FILE, &picture[..])]].concat();
    let whole = form(&[(FILE, &picture)]);
    let base64url = json!({"image": format!("{text}-_-_")}).to_string();
    let gzip = Body {
        headers: vec![("content-type", "image/png"), ("content-encoding", "gzip")],
        ..body("gzip", "", &picture)
    };
    vec![
        gzip,
        in_form("image twice", &[(FILE, &picture), (FILE, &picture)]),
        in_form("two other files", &[(OTHER, &picture), (OTHER, &picture)]),
        in_form("70 parts", &many),
        body("a form without an end", FORM, &whole[..80]),
        body("another boundary", FORM, b"--YY\r\n\r\n--YY--"),
        body("no boundary", "multipart/form-data", &whole),
        in_json("no JSON", "{\"image\""),
        in_json("a list", "[]"),
        in_json("a number", "{\"image\": 7}"),
        in_json("no base64", "{\"image\": \"not base64!\"}"),
        in_json("base64url", &base64url),
        in_json("a data URL in plain", "{\"image\": \"data:image/png,abc\"}"),
    ]
}

/// Sends a body to a route, with further headers.
async fn send(app: &TestApp, path: &str, more: &[(&'static str, String)], body: &Body) -> Answer {
    let mut headers = more.to_vec();
    for (name, value) in &body.headers {
        headers.push((name, (*value).to_owned()));
    }
    app.send("POST", path, &headers, body.bytes.clone()).await
}

/// Checks each field of the response to an upload.
fn is_upload_of(app: &TestApp, name: &str, answer: &Answer, tier: &str, picture: &[u8]) {
    assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    let text = answer.text();
    let places: Vec<usize> = ANSWER_FIELDS
        .iter()
        .map(|field| text.find(&format!("\"{field}\":")).unwrap())
        .collect();
    assert!(places.is_sorted(), "{name}: {text}");
    let body = answer.json();
    assert_eq!(
        body.as_object().unwrap().len(),
        ANSWER_FIELDS.len(),
        "{name}"
    );
    let id = answer.field("id");
    let url = format!("{}/i/{id}.png", app.base);
    let expected = json!({
        "url": url, "id": id, "contentType": "image/png", "sizeBytes": picture.len(),
        "width": 6, "height": 5, "tier": tier,
        "markdown": format!("![]({url})"), "metadata": "removed", "removed": [],
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(body[field], *value, "{name}: {field}");
    }
    assert_eq!(answer.header("location"), Some(url), "{name}");
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(answer.field("sha256").len(), 64);
    assert!(answer.field("deleteToken").len() >= 32);
    let expires = match tier {
        "free" => json!("2027-01-22T08:00:00.000Z"),
        "year" => json!("2028-01-15T08:00:00.000Z"),
        _ => Value::Null,
    };
    assert_eq!(body["expiresAt"], expires, "{name}");
}

fn is_refusal(name: &str, answer: &Answer, status: u16, error: &str) {
    let expected = (status, error.to_owned(), Some(false));
    assert_eq!(answer.verdict(), expected, "{name}: {}", answer.text());
    assert_eq!(answer.header("location"), None, "{name}");
    assert_eq!(answer.header("payment-response"), None, "{name}");
}

#[tokio::test]
async fn a_free_upload_accepts_every_form_of_body() {
    let app = TestApp::spawn().await;
    let picture = pictures::png(6, 5);
    for body in good(&picture) {
        let answer = send(&app, "/api/free", &[], &body).await;
        is_upload_of(&app, body.name, &answer, "free", &picture);
        let served = app.get(&answer.field("url")).await;
        assert_eq!(served.bytes, picture, "{}", body.name);
        assert_eq!(served.header("content-type").as_deref(), Some("image/png"));
    }
}

#[tokio::test]
async fn an_upload_with_a_token_accepts_every_form_of_body() {
    let app = TestApp::spawn().await;
    let picture = pictures::png(6, 5);
    for body in good(&picture) {
        let token = app.pay(&app.sign_for("year").await).await.token();
        let answer = send(&app, "/api/upload", &[("X-Upload-Token", token)], &body).await;
        is_upload_of(&app, body.name, &answer, "year", &picture);
    }
}

#[tokio::test]
async fn a_paid_upload_accepts_every_form_of_body() {
    let app = TestApp::spawn().await;
    let picture = pictures::png(6, 5);
    for (path, tier) in [
        ("/api/upload/year", "year"),
        ("/api/upload/permanent", "permanent"),
    ] {
        for body in good(&picture) {
            let payment = app.sign_at(path).await;
            let answer = send(&app, path, &payment.headers(), &body).await;
            is_upload_of(&app, body.name, &answer, tier, &picture);
            let again = send(&app, path, &payment.headers(), &body).await;
            assert_eq!(again.json(), answer.json(), "{}", body.name);
        }
    }
    assert_eq!(app.transfers().await.len(), 2 * good(&picture).len());
}

#[tokio::test]
async fn a_body_without_an_image_is_refused_for_free() {
    let app = TestApp::spawn().await;
    for (status, error, body) in refused(FREE_LIMIT) {
        let answer = send(&app, "/api/free", &[], &body).await;
        is_refusal(body.name, &answer, status, error);
    }
    assert_eq!(app.rows("images").await, 0);
}

#[tokio::test]
async fn a_refused_upload_costs_no_use_of_a_token() {
    let app = TestApp::spawn().await;
    let token = app.pay(&app.sign_for("year").await).await.token();
    for (status, error, body) in refused(YEAR_LIMIT) {
        let headers = [("X-Upload-Token", token.clone())];
        let answer = send(&app, "/api/upload", &headers, &body).await;
        is_refusal(body.name, &answer, status, error);
    }
    assert_eq!(app.rows("images").await, 0);
    let used = app.upload_with(&token, pictures::png(6, 5)).await;
    assert_eq!(used.status, 200, "{}", used.text());
}

#[tokio::test]
async fn a_refused_direct_upload_moves_no_money() {
    let app = TestApp::spawn().await;
    let payment = app.sign_at("/api/upload/year").await;
    let calls = app.calls();
    for (status, error, body) in refused(YEAR_LIMIT) {
        let answer = send(&app, "/api/upload/year", &payment.headers(), &body).await;
        is_refusal(body.name, &answer, status, error);
        assert_eq!(app.state_of(&payment).await, None, "{}", body.name);
    }
    assert_eq!(app.calls(), calls);
    let bought = app.pay_with(&payment, &pictures::png(6, 5)).await;
    assert_eq!(bought.status, 200, "{}", bought.text());
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_bad_body_does_not_make_a_used_payment_uncharged() {
    let app = TestApp::spawn().await;
    let payment = app.sign_at("/api/upload/year").await;
    let bought = app.pay_with(&payment, &pictures::png(6, 5)).await;
    for (_, error, body) in refused(YEAR_LIMIT) {
        let answer = send(&app, "/api/upload/year", &payment.headers(), &body).await;
        if error == "no_file" {
            // Without a body, the payer asks for the image that the payment bought.
            assert_eq!(answer.json(), bought.json(), "{}", body.name);
        } else {
            let expected = (409, "idempotency_conflict".to_owned(), Some(true));
            assert_eq!(answer.verdict(), expected, "{}", body.name);
        }
    }
}

#[tokio::test]
async fn an_image_of_exactly_the_limit_is_accepted() {
    let app = TestApp::spawn().await;
    for (path, limit) in [("/api/free", FREE_LIMIT), ("/api/upload/year", YEAR_LIMIT)] {
        let picture = pictures::png_of_size(limit);
        assert_eq!(picture.len(), limit);
        let file = form(&[("name=\"image\"; filename=\"a\"", &picture)]);
        let text = json_of("image", &STANDARD.encode(&picture));
        for body in [
            body("raw", "image/png", &picture),
            body("form", FORM, file),
            body("JSON", "application/json", text),
        ] {
            let headers = if path == "/api/free" {
                vec![]
            } else {
                app.sign_at(path).await.headers()
            };
            let answer = send(&app, path, &headers, &body).await;
            assert_eq!(
                answer.status,
                200,
                "{} at {path}: {}",
                body.name,
                answer.text()
            );
        }
    }
}

#[tokio::test]
async fn the_format_of_an_image_is_told_by_its_bytes_alone() {
    let app = TestApp::spawn().await;
    let kinds = [
        ("image/png", "png", pictures::png(4, 4)),
        ("image/jpeg", "jpg", pictures::jpeg()),
        ("image/gif", "gif", pictures::gif_animated(4, 4, 3)),
        ("image/webp", "webp", pictures::webp(4, 4)),
        ("image/webp", "webp", pictures::webp_animated(4, 4, 2)),
        ("image/webp", "webp", pictures::webp_lossy()),
    ];
    for (kind, extension, picture) in &kinds {
        for claimed in [
            "image/png",
            "image/jpeg",
            "image/gif",
            "image/webp",
            "image/avif",
            "image/x",
        ] {
            let name = format!(
                "name=\"image\"; filename=\"x.{}\"",
                claimed.replace("image/", "")
            );
            let part = form(&[(&name, picture)]);
            for body in [body("raw", claimed, picture), body("form", FORM, part)] {
                let answer = send(&app, "/api/free", &[], &body).await;
                assert_eq!(answer.status, 200, "{kind} as {claimed}: {}", answer.text());
                assert_eq!(answer.field("contentType"), *kind);
                assert!(answer.field("url").ends_with(&format!(".{extension}")));
                let served = app.get(&answer.field("url")).await;
                assert_eq!(served.header("content-type").as_deref(), Some(*kind));
                assert_eq!(served.bytes, *picture);
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_or_malformed_token_is_refused() {
    let app = TestApp::spawn().await;
    let token = app.pay(&app.sign_for("year").await).await.token();
    let picture = body("raw", "image/png", pictures::png(6, 5));
    for bad in [
        String::new(),
        "nonsense".to_owned(),
        token[1..].to_owned(),
        format!("{token}0"),
        "0".repeat(40),
        format!("Bearer {token}"),
    ] {
        let answer = send(
            &app,
            "/api/upload",
            &[("X-Upload-Token", bad.clone())],
            &picture,
        )
        .await;
        assert_eq!(
            answer.verdict(),
            (401, "bad_token".to_owned(), Some(false)),
            "{bad}"
        );
        assert!(bad.is_empty() || !answer.text().contains(&bad));
    }
    let twice = [
        ("X-Upload-Token", token.clone()),
        ("X-Upload-Token", token.clone()),
    ];
    let answer = send(&app, "/api/upload", &twice, &picture).await;
    is_refusal("twice", &answer, 400, "invalid_header");
    let once = [("X-Upload-Token", token.clone())];
    let answer = send(&app, "/api/upload/year", &once, &picture).await;
    is_refusal("at a tier's route", &answer, 400, "invalid_parameter");
    let answer = send(
        &app,
        "/api/upload",
        &[("X-Upload-Token", token.to_uppercase())],
        &picture,
    )
    .await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn an_interrupted_upload_costs_nothing() {
    let app = TestApp::spawn().await;
    let token = app.pay(&app.sign_for("year").await).await.token();
    let payment = app.sign_at("/api/upload/year").await;
    let picture = pictures::png(60, 50);
    for (name, value) in [
        ("X-Upload-Token", token.clone()),
        ("PAYMENT-SIGNATURE", payment.header()),
    ] {
        let path = if name == "X-Upload-Token" {
            "/api/upload"
        } else {
            "/api/upload/year"
        };
        let mut line = TcpStream::connect(app.base.trim_start_matches("http://")).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: image/png\r\nContent-Length: {}\r\n{name}: {value}\r\n\r\n",
            picture.len()
        );
        line.write_all(head.as_bytes()).unwrap();
        line.write_all(&picture[..picture.len() / 2]).unwrap();
        drop(line);
    }
    assert_eq!(
        app.upload_with(&token, pictures::png(6, 5)).await.status,
        200
    );
    assert_eq!(app.pay_with(&payment, &picture).await.status, 200);
    assert_eq!(app.transfers().await.len(), 2);
    assert_eq!(app.rows("images").await, 2);
}

#[tokio::test]
async fn public_metadata_names_no_wallet_and_no_secret() {
    let app = TestApp::spawn().await;
    let payment = app.sign_at("/api/upload/year").await;
    let picture = pictures::png(6, 5);
    let uploaded = app.pay_with(&payment, &picture).await;
    let id = uploaded.field("id");
    let answer = app.get(&format!("/api/images/{id}")).await;
    assert_eq!(answer.status, 200);
    let mut expected = uploaded.json();
    // Only the uploader learns what was removed.
    for secret in [
        "deleteToken",
        "deleteUrl",
        "markdown",
        "metadata",
        "removed",
    ] {
        expected.as_object_mut().unwrap().remove(secret);
    }
    expected["createdAt"] = json!("2027-01-15T08:00:00.000Z");
    assert_eq!(answer.json(), expected);
    let text = answer.text().to_lowercase();
    let wallet = app.wallet.address().to_string().to_lowercase();
    let secrets = [
        wallet,
        uploaded.field("deleteToken"),
        payment.signature.to_string(),
    ];
    assert!(secrets.iter().all(|secret| !text.contains(secret)));

    let permanent = app.sign_at("/api/upload/permanent").await;
    let id = app.pay_with(&permanent, &picture).await.field("id");
    let answer = app.get(&format!("/api/images/{id}")).await.json();
    assert_eq!(
        (&answer["expiresAt"], &answer["tier"]),
        (&Value::Null, &json!("permanent"))
    );

    let free = app.upload_free(picture).await.field("id");
    app.advance(FREE_LIFE.checked_sub(INSTANT).unwrap());
    assert_eq!(app.get(&format!("/api/images/{free}")).await.status, 200);
    app.advance(INSTANT);
    assert_eq!(
        app.get(&format!("/api/images/{free}")).await.error(),
        "not_found"
    );
}
