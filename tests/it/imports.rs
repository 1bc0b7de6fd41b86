//! Imports: the server fetches an image from a URL, stores it as an upload, and opens no connection
//! that the rules forbid. A payment buys one fetch, and a failed fetch costs nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use pixtoll::fetch::FETCH_TIME;
use pixtoll::system::clock::Clock;
use serde_json::{Value, json};

use crate::support::expect::{conflict, known};
use crate::support::origin::{Origin, Reply};
use crate::support::proxy::Fault;
use crate::support::{Answer, Payment, TestApp, pictures};

const PATH: &str = "/api/import";
const JSON: (&str, &str) = ("content-type", "application/json");

/// A server that may fetch from this host.
async fn beside(origin: &Origin) -> TestApp {
    origin.allowed(TestApp::builder(), &[]).spawn().await
}

async fn import(app: &TestApp, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut headers = headers.to_vec();
    headers.push(JSON);
    app.send("POST", PATH, &headers, body.to_string()).await
}

/// Imports into the free tier.
async fn import_free(app: &TestApp, url: &str) -> Answer {
    import(app, &[], &json!({"url": url, "tier": "free"})).await
}

/// Sends a payment for an import.
pub(crate) async fn pay(app: &TestApp, payment: &Payment, body: &Value) -> Answer {
    let headers = payment.headers();
    let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
    let headers: Vec<(&str, &str)> = headers.collect();
    import(app, &headers, body).await
}

async fn serves(app: &TestApp, answer: &Answer, picture: &[u8]) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let served = app.get(&answer.field("url")).await;
    assert_eq!((served.status, served.bytes.as_slice()), (200, picture));
}

fn refused(status: u16, error: &str, charged: Option<bool>) -> (u16, String, Option<bool>) {
    (status, error.to_owned(), charged)
}

#[tokio::test]
async fn an_image_is_imported_for_free_for_a_token_a_link_and_a_key() {
    let picture = pictures::png(8, 8);
    let origin = Origin::start(Reply::Image(picture.clone())).await;
    let app = beside(&origin).await;
    let url = origin.url();
    let free = import_free(&app, &url).await;
    serves(&app, &free, &picture).await;
    assert_eq!(free.field("tier"), "free");

    let payment = app.sign_for("year").await;
    let token = app.pay(&payment).await.token();
    let with_token = [("X-Upload-Token", token.as_str())];
    let bought = import(&app, &with_token, &json!({"url": url})).await;
    serves(&app, &bought, &picture).await;
    assert_eq!(bought.field("tier"), "year");
    // The same bytes with the spent token are the same image; other bytes are none of its.
    let again = import(&app, &with_token, &json!({"url": url})).await;
    assert_eq!(again.field("id"), bought.field("id"));
    origin.reply(Reply::Image(pictures::png(9, 9)));
    let other = import(&app, &with_token, &json!({"url": url})).await;
    assert_eq!(other.verdict(), refused(409, "token_used", Some(false)));
    let tier = import(&app, &with_token, &json!({"url": url, "tier": "year"})).await;
    assert_eq!(tier.verdict(), refused(400, "invalid_body", Some(false)));

    // An API key imports in the free tier, and against what its wallet bought.
    let made = app.as_wallet("POST", "/api/keys", "{}", &app.wallet).await;
    let bearer = format!("Bearer {}", made.field("key"));
    let by_key = [("authorization", bearer.as_str())];
    let imported = import(&app, &by_key, &json!({"url": url})).await;
    assert_eq!(imported.field("tier"), "free", "{}", imported.text());
    let unpaid = import(&app, &by_key, &json!({"url": url, "tier": "year"})).await;
    assert_eq!(unpaid.status, 402, "{}", unpaid.text());
    let second = app.sign_for("year").await;
    app.pay(&second).await.token();
    let bought = import(&app, &by_key, &json!({"url": url, "tier": "year"})).await;
    serves(&app, &bought, &pictures::png(9, 9)).await;
    assert_eq!(bought.field("tier"), "year");

    // The secret of a free link.
    let link = app.post("/api/links?tier=free").await.field("url");
    let secret = link.rsplit('/').next().unwrap();
    let by_link = import(&app, &[("X-Upload-Token", secret)], &json!({"url": url})).await;
    serves(&app, &by_link, &pictures::png(9, 9)).await;
    let spent = app.get(&link).await;
    assert!(spent.text().contains("is used"), "{}", spent.text());
}

#[tokio::test]
async fn a_failed_import_spends_no_use_of_a_token() {
    let origin = Origin::start(Reply::Head("404 Not Found".to_owned(), vec![])).await;
    let app = beside(&origin).await;
    let payment = app.sign_for("year").await;
    let token = app.pay(&payment).await.token();
    let with_token = [("X-Upload-Token", token.as_str())];
    let failed = import(&app, &with_token, &json!({"url": origin.url()})).await;
    assert_eq!(failed.verdict(), refused(422, "fetch_failed", Some(false)));
    assert!(failed.text().contains("status 404"), "{}", failed.text());
    let picture = pictures::png(8, 8);
    origin.reply(Reply::Image(picture.clone()));
    let bought = import(&app, &with_token, &json!({"url": origin.url()})).await;
    serves(&app, &bought, &picture).await;
}

#[tokio::test]
async fn an_imported_image_is_cleaned_and_private_as_an_upload_is() {
    let (_, dirty, clean) = pictures::with_metadata().into_iter().next().unwrap();
    let origin = Origin::start(Reply::Image(dirty.clone())).await;
    let app = beside(&origin).await;
    let url = origin.url();
    serves(&app, &import_free(&app, &url).await, &clean).await;
    let kept = json!({"url": url, "tier": "free", "metadata": "keep"});
    let kept = import(&app, &[], &kept).await;
    assert_eq!(kept.status, 400, "{}", kept.text());
    let private = json!({"url": url, "tier": "free", "visibility": "private"});
    let private = import(&app, &[], &private).await;
    assert_eq!(private.field("visibility"), "private");
    for (field, value) in [
        ("metadata", "x"),
        ("visibility", "x"),
        ("tier", "X Y"),
        ("other", "x"),
    ] {
        let mut body = json!({"url": url, "tier": "free"});
        body[field] = json!(value);
        let bad = import(&app, &[], &body).await;
        assert_eq!(
            bad.verdict(),
            refused(400, "invalid_body", Some(false)),
            "{field}"
        );
    }
}

#[tokio::test]
async fn no_connection_is_opened_to_a_forbidden_address() {
    let canary = Origin::start_at("127.0.0.2:0", Reply::Image(pictures::png(8, 8))).await;
    let six = Origin::start_at("[::1]:0", Reply::Image(pictures::png(8, 8))).await;
    let origin = Origin::start(Reply::Image(pictures::png(8, 8))).await;
    let ports = [canary.port(), six.port()];
    let app = origin.allowed(TestApp::builder(), &ports).spawn().await;
    let (four, port_of_six) = (canary.port(), six.port());
    let forbidden = [
        format!("http://127.0.0.2:{four}/"),
        format!("http://127.2:{four}/"),
        format!("http://2130706434:{four}/"),
        format!("http://0x7f000002:{four}/"),
        format!("http://0177.0.0.2:{four}/"),
        format!("http://127\u{3002}0\u{3002}0\u{3002}2:{four}/"),
        format!("http://[::ffff:127.0.0.2]:{four}/"),
        format!("http://[::127.0.0.2]:{four}/"),
        format!("http://[64:ff9b::127.0.0.2]:{four}/"),
        format!("http://[::1]:{port_of_six}/"),
        format!("http://0.0.0.0:{four}/"),
        format!("http://[::]:{port_of_six}/"),
        format!("http://169.254.169.254:{four}/latest/meta-data/"),
        format!("http://no-such-host.invalid:{four}/"),
    ];
    let mut messages = BTreeSet::new();
    for url in &forbidden {
        let refused_url = import_free(&app, url).await;
        let expected = refused(400, "url_not_allowed", Some(false));
        assert_eq!(refused_url.verdict(), expected, "{url}");
        messages.insert(refused_url.json()["message"].as_str().unwrap().to_owned());
    }
    assert_eq!(messages.len(), 1, "{messages:?}");
    for url in &forbidden {
        origin.reply(Reply::Head(format!("302 Found\r\nLocation: {url}"), vec![]));
        // A URL in other letters than ASCII is no header value; the origin's would be broken.
        let redirected = import_free(&app, &origin.url()).await;
        if url.is_ascii() {
            let expected = refused(400, "url_not_allowed", Some(false));
            assert_eq!(redirected.verdict(), expected, "{url}");
        }
    }
    assert_eq!((canary.connections(), six.connections()), (0, 0));
    for (url, error) in [
        (
            format!("http://127.0.0.1:{}/", app.base.rsplit(':').next().unwrap()),
            "url_not_allowed",
        ),
        ("ftp://example.com/a.png".to_owned(), "url_not_allowed"),
        (
            origin.url().replace("http://", "http://u:p@"),
            "url_not_allowed",
        ),
        ("not a url".to_owned(), "url_not_allowed"),
    ] {
        assert_eq!(import_free(&app, &url).await.error(), error, "{url}");
    }
}

#[tokio::test]
async fn endless_slow_and_compressed_bodies_end() {
    let origin = Origin::start(Reply::Endless).await;
    let app = beside(&origin).await;
    let url = origin.url();
    let endless = import_free(&app, &url).await;
    assert_eq!(
        endless.verdict(),
        refused(413, "file_too_large", Some(false))
    );
    let announced = "200 OK\r\nX-Ignored: 1".to_owned();
    origin.reply(Reply::Head(announced, vec![0; (1 << 20) + 1]));
    let large = import_free(&app, &url).await;
    assert_eq!(large.verdict(), refused(413, "file_too_large", Some(false)));
    let zipped = "200 OK\r\nContent-Encoding: gzip".to_owned();
    origin.reply(Reply::Head(zipped, pictures::png(8, 8)));
    let zipped = import_free(&app, &url).await;
    assert_eq!(zipped.verdict(), refused(422, "fetch_failed", Some(false)));
    origin.reply(Reply::Image(b"<html></html>".to_vec()));
    let page = import_free(&app, &url).await;
    assert_eq!(
        page.verdict(),
        refused(415, "unsupported_format", Some(false))
    );
    origin.reply(Reply::Image(vec![]));
    let empty = import_free(&app, &url).await;
    assert_eq!(empty.verdict(), refused(400, "empty_file", Some(false)));
    origin.reply(Reply::Silent);
    let began = std::time::Instant::now();
    let slow = import_free(&app, &url).await;
    assert_eq!(slow.verdict(), refused(422, "fetch_failed", Some(false)));
    assert!(
        slow.text().contains("longer than 10 seconds"),
        "{}",
        slow.text()
    );
    assert!(began.elapsed() < FETCH_TIME + Duration::from_secs(5));
    assert_eq!(app.rows("images").await, 0);
}

#[tokio::test]
async fn nothing_is_fetched_without_a_payment_and_one_payment_fetches_once() {
    let picture = pictures::png(8, 8);
    let origin = Origin::start(Reply::Image(picture.clone())).await;
    let app = beside(&origin).await;
    let order = json!({"url": origin.url(), "tier": "year"});
    let challenge = import(&app, &[], &order).await;
    assert_eq!(
        challenge.error(),
        "payment_required",
        "{}",
        challenge.text()
    );
    let text = challenge.text();
    assert!(text.contains("--json"), "{text}");
    assert!(text.contains(&origin.url()), "{text}");
    assert_eq!(origin.connections(), 0);
    let payment = Payment::answering(&challenge, PATH, &app.wallet, app.clock.now());
    let copies = (0..10).map(|_| pay(&app, &payment, &order));
    let answers = futures_util::future::join_all(copies).await;
    let ids: BTreeSet<String> = answers
        .iter()
        .filter(|answer| answer.status == 200)
        .map(|answer| answer.field("id"))
        .collect();
    assert_eq!(ids.len(), 1);
    let bought = pay(&app, &payment, &order).await;
    serves(&app, &bought, &picture).await;
    assert_eq!(BTreeSet::from([bought.field("id")]), ids);
    // A repeat without a body receives the image as well, when the tier is the default one.
    let bare = app.pay_at(PATH, &payment).await;
    assert_eq!(bare.field("id"), bought.field("id"));
    // Another URL is another purchase, and fetches nothing either.
    let other = json!({"url": format!("{}?other", origin.url()), "tier": "year"});
    assert_eq!(
        pay(&app, &payment, &other).await.verdict(),
        conflict(Some(true))
    );
    assert_eq!(origin.connections(), 1);
    assert_eq!(
        (app.facilitator.calls("settle"), app.transfers().await.len()),
        (1, 1)
    );
    let stranger = payment.copied_from_the_chain();
    assert_eq!(
        pay(&app, &stranger, &order).await.verdict(),
        known(Some(true))
    );
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn an_import_that_fails_costs_nothing_and_the_same_payment_buys_another_try() {
    let origin = Origin::start(Reply::Head("500 Broken".to_owned(), vec![])).await;
    let app = beside(&origin).await;
    let order = json!({"url": origin.url()});
    let payment = app.sign_at(PATH).await;
    let failed = pay(&app, &payment, &order).await;
    assert_eq!(failed.verdict(), refused(422, "fetch_failed", Some(false)));
    assert_eq!(app.state_of(&payment).await.as_deref(), Some("released"));
    let large = pictures::png_of_size((5 << 20) + 1);
    origin.reply(Reply::Image(large));
    let large = pay(&app, &payment, &order).await;
    assert_eq!(large.verdict(), refused(413, "file_too_large", Some(false)));
    origin.reply(Reply::Image(b"no image".to_vec()));
    let broken = pay(&app, &payment, &order).await;
    assert_eq!(
        broken.verdict(),
        refused(415, "unsupported_format", Some(false))
    );
    assert_eq!(
        (app.facilitator.calls("settle"), app.transfers().await.len()),
        (0, 0)
    );
    assert_eq!(app.rows("grants").await, 0);
    // Not even verify is called for a URL that is refused by its text.
    let verified = app.facilitator.calls("verify");
    let fresh = app.sign_at(PATH).await;
    let local = pay(&app, &fresh, &json!({"url": "http://127.0.0.2/"})).await;
    assert_eq!(
        local.verdict(),
        refused(400, "url_not_allowed", Some(false))
    );
    assert_eq!(app.facilitator.calls("verify"), verified);
    let picture = pictures::png(8, 8);
    origin.reply(Reply::Image(picture.clone()));
    let bought = pay(&app, &payment, &order).await;
    serves(&app, &bought, &picture).await;
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_payment_that_verify_refuses_fetches_nothing() {
    let origin = Origin::start(Reply::Image(pictures::png(8, 8))).await;
    let app = beside(&origin).await;
    let order = json!({"url": origin.url()});
    let payment = app.sign_at(PATH).await;
    let refusal = json!({"isValid": false, "invalidReason": "invalid_payload"});
    let refusal = Fault::Instead(200, refusal.to_string());
    app.facilitator.next("verify", refusal);
    let answer = pay(&app, &payment, &order).await;
    assert_eq!(answer.status, 402, "{}", answer.text());
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn an_unknown_settlement_keeps_what_was_fetched() {
    let picture = pictures::png(8, 8);
    let origin = Origin::start(Reply::Image(picture.clone())).await;
    let app = beside(&origin).await;
    let order = json!({"url": origin.url()});
    let payment = app.sign_at(PATH).await;
    app.facilitator
        .next("settle", Fault::After(500, String::new()));
    let first = pay(&app, &payment, &order).await;
    // The origin changes: what was bought is what was fetched before settle.
    origin.reply(Reply::Image(pictures::png(9, 9)));
    app.reconcile_until(&payment, "settled").await;
    assert!([200, 503].contains(&first.status), "{}", first.text());
    let bought = pay(&app, &payment, &order).await;
    serves(&app, &bought, &picture).await;
    assert_eq!((origin.connections(), app.transfers().await.len()), (1, 1));
}

#[tokio::test]
async fn an_idempotency_key_names_the_url_and_not_its_bytes() {
    let origin = Origin::start(Reply::Image(pictures::png(8, 8))).await;
    let app = beside(&origin).await;
    let order = json!({"url": origin.url()});
    let key = "import-7-of-2027-01-15";
    let first = app.sign_at(PATH).await.with_idempotency_key(key);
    let bought = pay(&app, &first, &order).await;
    origin.reply(Reply::Image(pictures::png(9, 9)));
    let second = app.sign_at(PATH).await.with_idempotency_key(key);
    let same = pay(&app, &second, &order).await;
    assert_eq!(same.field("id"), bought.field("id"));
    let third = app.sign_at(PATH).await.with_idempotency_key(key);
    let other = json!({"url": format!("{}?2", origin.url())});
    assert_eq!(
        pay(&app, &third, &other).await.verdict(),
        conflict(Some(false))
    );
    assert_eq!((origin.connections(), app.transfers().await.len()), (1, 1));
}

#[tokio::test]
async fn imports_are_limited_by_address_and_by_host_and_can_be_switched_off() {
    let picture = pictures::png(8, 8);
    let origin = Origin::start(Reply::Image(picture)).await;
    let url = origin.url();
    let limited = |key, value| origin.allowed(TestApp::builder(), &[]).set(key, value);
    let app = limited("limits.imports_per_address_per_minute", "2")
        .spawn()
        .await;
    for _ in 0..2 {
        assert_eq!(import_free(&app, &url).await.status, 200);
    }
    let refused_one = import_free(&app, &url).await;
    assert_eq!(
        refused_one.verdict(),
        refused(429, "rate_limited", Some(false))
    );
    drop(app);
    let app = limited("import.per_host_per_minute", "1").spawn().await;
    assert_eq!(import_free(&app, &url).await.status, 200);
    let busy = import_free(&app, &url).await;
    assert_eq!(busy.verdict(), refused(503, "busy", Some(false)));
    assert!(busy.header("retry-after").is_some());
    drop(app);
    let app = limited("import.enabled", "false").spawn().await;
    let off = import_free(&app, &url).await;
    assert_eq!(off.verdict(), refused(503, "import_disabled", Some(false)));
    let off = app.post(PATH).await;
    assert_eq!(off.verdict(), refused(503, "import_disabled", Some(false)));
    assert_eq!(origin.connections(), 3);
}
