//! Upload links: `POST /api/links` sells them, and `/u/{secret}` takes uploads without a wallet.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use alloy_primitives::U256;
use pixtoll::model::token::UploadToken;
use serde_json::Value;

use crate::recover::lose_everything;
use crate::support::expect::{invalid, known};
use crate::support::sign_in::sign_in;
use crate::support::signing::wallet;
use crate::support::{Answer, TestApp, client_from, pictures};

const TWO: &str = "/api/links?images=2&days=7&tier=year";
const DAY: Duration = Duration::from_hours(24);

/// Buys a link at this route, and returns the response.
async fn buy(app: &TestApp, path: &str) -> Value {
    let payment = app.sign_at(path).await;
    let bought = app.pay(&payment).await;
    assert_eq!(bought.status, 200, "{}", bought.text());
    bought.json()
}

/// The path of a link, as the server's own address has it.
fn path_of(link: &Value) -> String {
    let url = link["url"].as_str().unwrap();
    format!("/u/{}", url.rsplit_once("/u/").unwrap().1)
}

async fn put(app: &TestApp, path: &str, bytes: Vec<u8>) -> Answer {
    app.send("PUT", path, &[("accept", "*/*")], bytes).await
}

async fn put_for_json(app: &TestApp, path: &str, bytes: Vec<u8>) -> Answer {
    let headers = [("accept", "application/json")];
    app.send("PUT", path, &headers, bytes).await
}

/// What the link says of itself.
async fn shown(app: &TestApp, path: &str) -> Value {
    let headers = [("accept", "application/json")];
    app.send("GET", path, &headers, "").await.json()
}

fn refusal(answer: &Answer) -> (u16, String, String) {
    let json = answer.json();
    let action = json["action"]["type"].as_str().unwrap().to_owned();
    (answer.status, answer.error(), action)
}

fn refused(status: u16, code: &str) -> (u16, String, String) {
    (status, code.to_owned(), "pay".to_owned())
}

/// The refusal of a free link, or of one that there is not: its holder is not asked to pay.
fn closed(status: u16, code: &str) -> (u16, String, String) {
    (status, code.to_owned(), "fix_request".to_owned())
}

#[tokio::test]
async fn a_link_costs_n_prices_and_takes_n_images_by_put() {
    let app = TestApp::spawn().await;
    let challenge = app.post(TWO).await;
    let offer = challenge.document("payment-required");
    assert_eq!(offer["accepts"][0]["amount"], "20000");
    assert_eq!(offer["resource"]["url"], app.url(TWO));
    let words = "Upload link: 2 images up to 5 MiB each, kept 365 days, valid 7 days (play money)";
    assert_eq!(offer["resource"]["description"], words);
    let payment = app.sign_at(TWO).await;
    let bought = app.pay(&payment).await;
    let link = bought.json();
    let expected = app.clock_text(7 * DAY);
    assert_eq!(
        (
            &link["tier"],
            &link["uploads"],
            &link["used"],
            &link["revokedAt"]
        ),
        (&"year".into(), &2.into(), &0.into(), &Value::Null)
    );
    assert_eq!(link["expiresAt"], expected);
    assert_eq!(link["createdAt"], app.clock_text(Duration::ZERO));
    assert_eq!(link["id"], payment.ledger_id().as_str());
    let url = link["url"].as_str().unwrap();
    assert_eq!(link["curl"], format!("curl -T image.png {url}"));
    let path = path_of(&link);
    let first = put(&app, &path, pictures::png(8, 8)).await;
    assert_eq!(
        first.header("content-type").unwrap(),
        "text/plain; charset=utf-8"
    );
    let text = first.text();
    let image = text.strip_suffix('\n').unwrap();
    assert_eq!(first.header("location").unwrap(), image);
    assert_eq!(app.get(image).await.status, 200);
    // A client that repeats an upload receives the same image.
    assert_eq!(put(&app, &path, pictures::png(8, 8)).await.text(), text);
    assert_eq!(shown(&app, &path).await["used"], 1);
    let junk = put(&app, &path, b"no image".to_vec()).await;
    assert_eq!(
        (junk.status, junk.error()),
        (415, "unsupported_format".to_owned())
    );
    assert_eq!(shown(&app, &path).await["used"], 1);
    let named = format!("{path}/a%20photo.png?metadata=keep");
    let second = put_for_json(&app, &named, pictures::png(8, 9)).await;
    assert_eq!(second.field("metadata"), "kept");
    assert_eq!(second.field("deleteToken").len(), 40);
    let more = put(&app, &path, pictures::png(8, 10)).await;
    assert_eq!(refusal(&more), refused(409, "link_used"));
    assert!(
        more.json()["action"]["url"]
            .as_str()
            .unwrap()
            .contains("/api/links?images=1&days=30")
    );
    assert_eq!(app.pay(&payment).await.json()["used"], 2);
    let sums: Vec<U256> = app.transfers().await.iter().map(|it| it.value).collect();
    assert_eq!(sums, [U256::from(20_000)]);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn fifty_parallel_uploads_use_a_paid_and_a_free_link_exactly() {
    let app = TestApp::spawn().await;
    let paid = buy(&app, "/api/links?images=5&days=1&tier=year").await;
    let free = app
        .post("/api/links?images=5&days=1&tier=free")
        .await
        .json();
    for (link, used_up) in [
        (paid, refused(409, "link_used")),
        (free, closed(409, "link_used")),
    ] {
        let path = path_of(&link);
        let mut published = BTreeSet::new();
        // An upload that finds every use held by others is repeated, as its response says.
        for round in 0..20 {
            let uploads = (0..50).map(|number| {
                let picture = pictures::png_seeded(9, 9, 50 * round + number);
                put_for_json(&app, &path, picture)
            });
            for answer in futures_util::future::join_all(uploads).await {
                match answer.status {
                    200 => {
                        published.insert(answer.field("id"));
                    }
                    409 => assert!(
                        ["link_used", "token_in_use"].contains(&answer.error().as_str()),
                        "{}",
                        answer.text()
                    ),
                    503 => assert_eq!(answer.error(), "busy"),
                    _ => panic!("{}", answer.text()),
                }
            }
            if published.len() >= 5 {
                break;
            }
        }
        assert_eq!(published.len(), 5);
        assert_eq!(shown(&app, &path).await["used"], 5);
        let more = put(&app, &path, pictures::png(20, 20)).await;
        assert_eq!(refusal(&more), used_up);
    }
    let report = app.check_ledger().await;
    assert!(report.is_balanced(), "{:?}", report.broken);
}

#[tokio::test]
async fn an_ended_or_revoked_link_takes_nothing_and_its_payer_gets_a_new_one() {
    let app = TestApp::spawn().await;
    let payment = app.sign_at(TWO).await;
    let first = path_of(&app.pay(&payment).await.json());
    assert_eq!(put(&app, &first, pictures::png(8, 8)).await.status, 200);
    app.advance(7 * DAY);
    let late = put(&app, &first, pictures::png(8, 9)).await;
    assert_eq!(refusal(&late), refused(410, "link_expired"));
    // A page says so to a person.
    let page = app
        .send("GET", &first, &[("accept", "text/html")], "")
        .await;
    assert!(
        page.text().contains("This upload link ended"),
        "{}",
        page.text()
    );
    let again = app.pay(&payment).await.json();
    let second = path_of(&again);
    assert_ne!(second, first);
    assert_eq!((&again["used"], &again["uploads"]), (&1.into(), &2.into()));
    assert_eq!(again["expiresAt"], app.clock_text(7 * DAY));
    let replaced = put(&app, &first, pictures::png(8, 9)).await;
    assert_eq!(refusal(&replaced), refused(410, "link_revoked"));
    assert_eq!(app.pay(&payment).await.json()["url"], again["url"]);

    let revoked = app
        .send("DELETE", &second, &[("accept", "application/json")], "")
        .await;
    assert_eq!(revoked.json()["revokedAt"], app.clock_text(Duration::ZERO));
    let again = app
        .send("DELETE", &second, &[("accept", "application/json")], "")
        .await;
    assert_eq!(again.json()["revokedAt"], revoked.json()["revokedAt"]);
    let refused_upload = put(&app, &second, pictures::png(8, 9)).await;
    assert_eq!(refusal(&refused_upload), refused(410, "link_revoked"));
    // What was paid and not used still belongs to the payer.
    let claimed = app.claim(&app.wallet).await;
    let [claim] = claimed.as_slice() else {
        panic!("{claimed:?}");
    };
    assert_eq!(claim["bought"], "link");
    let third = path_of(&claim["link"]);
    assert_ne!(third, second);
    assert_eq!(put(&app, &third, pictures::png(8, 9)).await.status, 200);
    let used = put(&app, &third, pictures::png(8, 10)).await;
    assert_eq!(refusal(&used), refused(409, "link_used"));
    assert!(app.claim(&app.wallet).await.is_empty());
    assert_eq!(app.transfers().await.len(), 1);
    assert!(app.check_ledger().await.is_balanced());
}

/// Asserts that this secret of a link is dead by every way, and that sales are open after it.
async fn is_dead(app: &TestApp, path: &str) {
    for method in ["GET", "PUT", "DELETE"] {
        let headers = [("accept", "application/json")];
        let body = pictures::png(8, 8);
        let answer = app.send(method, path, &headers, body).await;
        assert_eq!(refusal(&answer), refused(410, "link_revoked"), "{method}");
        assert_eq!(app.post(TWO).await.status, 402, "{method}");
    }
    let secret = path.strip_prefix("/u/").unwrap();
    let answer = app.upload_with(secret, pictures::png(8, 8)).await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (410, "link_revoked")
    );
    assert_eq!(app.post(TWO).await.status, 402);
    let noted = pixtoll::db::epoch::find_lost(app.db()).await.unwrap();
    assert_eq!(noted, None);
}

#[tokio::test]
async fn a_link_that_its_payer_replaces_again_and_again_stops_no_sales() {
    let app = TestApp::spawn().await;
    let mut path = path_of(&buy(&app, TWO).await);
    let mut former = Vec::new();
    for _ in 0..3 {
        let revoked = app.send("DELETE", &path, &[("accept", "*/*")], "").await;
        assert_eq!(revoked.status, 200, "{}", revoked.text());
        let claimed = app.claim(&app.wallet).await;
        former.push(std::mem::replace(&mut path, path_of(&claimed[0]["link"])));
    }
    for path in &former {
        is_dead(&app, path).await;
    }
    assert_eq!(put(&app, &path, pictures::png(8, 8)).await.status, 200);
    let report = app.check_ledger().await;
    assert!(report.is_balanced(), "{:?}", report.broken);
}

#[tokio::test]
async fn a_link_that_was_replaced_several_times_after_its_end_is_still_known() {
    let app = TestApp::spawn().await;
    let payment = app.sign_at(TWO).await;
    let first = path_of(&app.pay(&payment).await.json());
    let mut last = first.clone();
    for _ in 0..3 {
        app.advance(7 * DAY);
        last = path_of(&app.pay(&payment).await.json());
    }
    is_dead(&app, &first).await;
    assert_eq!(put(&app, &last, pictures::png(8, 8)).await.status, 200);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_link_that_is_revoked_during_an_upload_does_not_publish_it() {
    let app = TestApp::spawn().await;
    let path = path_of(&buy(&app, TWO).await);
    let (sender, body) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let picture = pictures::png(8, 8);
    let (head, rest) = picture.split_at(20);
    let stream = futures_util::stream::unfold(body, async |mut body| {
        body.recv().await.map(|chunk| (chunk, body))
    });
    let upload = app.send(
        "PUT",
        &path,
        &[("accept", "application/json")],
        reqwest::Body::wrap_stream(stream),
    );
    let revoke = async {
        sender.send(Ok(head.to_vec())).await.unwrap();
        let revoked = app.send("DELETE", &path, &[("accept", "*/*")], "").await;
        assert!(revoked.text().contains("was revoked"), "{}", revoked.text());
        sender.send(Ok(rest.to_vec())).await.unwrap();
        drop(sender);
    };
    let (answer, ()) = tokio::join!(upload, revoke);
    assert_eq!(refusal(&answer), refused(410, "link_revoked"));
    assert_eq!(app.rows("images").await, 0);
}

#[tokio::test]
async fn a_payment_for_one_link_buys_no_other_product() {
    let app = TestApp::spawn().await;
    let payment = app.sign_at(TWO).await;
    let others = [
        "/api/links?images=2&days=8&tier=year",
        "/api/links?images=1&days=7&tier=year",
        "/api/upload/token/year?images=2",
    ];
    for other in others {
        assert_eq!(
            app.pay_at(other, &payment).await.verdict(),
            invalid(),
            "{other}"
        );
    }
    assert!(app.transfers().await.is_empty());
    let link = app.pay(&payment).await.json();
    for other in others {
        let answer = app.pay_at(other, &payment).await;
        assert_eq!(answer.verdict(), known(Some(true)), "{other}");
    }
    // The signature is on the chain: it is no proof of being the payer.
    let stranger = app.pay(&payment.copied_from_the_chain()).await;
    assert_eq!(stranger.verdict(), known(Some(true)));
    assert_eq!(app.pay(&payment).await.json(), link);
    // Under the same idempotency key, a link for other days is another product.
    let key = "an-idempotency-key-of-this-link";
    let keyed = app.sign_at(TWO).await.with_idempotency_key(key);
    assert_eq!(app.pay(&keyed).await.status, 200);
    let other = app.sign_at(others[0]).await.with_idempotency_key(key);
    assert_eq!(app.pay(&other).await.error(), "idempotency_conflict");
}

#[tokio::test]
async fn links_are_bought_within_their_bounds() {
    let app = TestApp::builder().set("links.max_days", "10").spawn().await;
    for (query, code) in [
        ("images=0", "invalid_parameter"),
        ("images=101", "invalid_parameter"),
        ("days=0", "invalid_parameter"),
        ("days=11", "invalid_parameter"),
        ("days=1.5", "invalid_parameter"),
        ("days=07", "invalid_parameter"),
        ("days=1&days=1", "invalid_parameter"),
        ("tier=Year", "invalid_parameter"),
        ("tier=none", "unknown_tier"),
        ("name=x", "unknown_parameter"),
    ] {
        let answer = app.post(&format!("/api/links?{query}")).await;
        assert_eq!(answer.error(), code, "{query}");
    }
    for (query, path) in [
        ("", "/api/links?images=1&days=10"),
        ("?days=10&images=100", "/api/links?images=100&days=10"),
        (
            "?tier=permanent",
            "/api/links?images=1&days=10&tier=permanent",
        ),
    ] {
        let challenge = app.post(&format!("/api/links{query}")).await;
        let resource = &challenge.document("payment-required")["resource"];
        assert_eq!(resource["url"], app.url(path));
        // The challenge of something that is sold offers no sign-in.
        assert!(!challenge.text().contains("sign-in-with-x"));
    }
    let unnamed = buy(&app, "/api/links?images=1&days=10").await;
    assert_eq!(unnamed["tier"], "year");
}

#[tokio::test]
async fn a_free_link_takes_its_uploads_from_the_addresss_hour_at_once() {
    let app = TestApp::builder()
        .set("limits.free_per_address_per_hour", "10")
        .set("limits.free_per_network_per_hour", "40")
        .spawn()
        .await;
    let too_many = app.post("/api/links?images=11&tier=free").await;
    assert_eq!(too_many.error(), "invalid_parameter");
    let link = app
        .post("/api/links?images=6&days=2&tier=free")
        .await
        .json();
    assert_eq!(
        (&link["tier"], &link["uploads"]),
        (&"free".into(), &6.into())
    );
    let over = app.post("/api/links?images=5&days=2&tier=free").await;
    let wait = (429, "rate_limited".to_owned(), "wait".to_owned());
    assert_eq!(refusal(&over), wait);
    assert_eq!(over.json()["action"].get("url"), None);
    let rest = app.post("/api/links?images=4&days=2&tier=free").await;
    assert_eq!(rest.status, 200);
    assert_eq!(app.upload_free(pictures::png(8, 8)).await.status, 429);
    // Its uploads cost the address that uses it nothing more.
    let path = path_of(&link);
    for side in 1..=6 {
        let image = put_for_json(&app, &path, pictures::png(8, side)).await;
        assert_eq!(
            (image.status, image.field("tier")),
            (200, "free".to_owned())
        );
    }
    let more = put(&app, &path, pictures::png(8, 7)).await;
    assert_eq!(refusal(&more), closed(409, "link_used"));
    let rest = path_of(&rest.json());
    app.advance(2 * DAY);
    let late = put(&app, &rest, pictures::png(8, 7)).await;
    assert_eq!(refusal(&late), closed(410, "link_expired"));
    // Its record is kept as long as those of images.
    app.advance(366 * DAY);
    app.app.retention.reap().await.unwrap();
    assert_eq!(app.rows("free_links").await, 0);
    assert_eq!(
        refusal(&put(&app, &rest, pictures::png(8, 7)).await),
        closed(404, "link_unknown")
    );
}

#[tokio::test]
async fn the_uploads_of_free_links_count_as_free_uploads_of_the_day() {
    let app = TestApp::builder()
        .without_facilitator()
        .set("limits.free_per_day", "2")
        .set("limits.free_before_noon_percent", "100")
        .spawn()
        .await;
    // Nothing is sold, so a link without a tier is free.
    let link = app.post("/api/links?images=3").await.json();
    assert_eq!(link["tier"], "free");
    let path = path_of(&link);
    for side in [1, 2] {
        assert_eq!(put(&app, &path, pictures::png(8, side)).await.status, 200);
    }
    let over = put(&app, &path, pictures::png(8, 3)).await;
    assert_eq!((over.status, over.error()), (429, "daily_limit".to_owned()));
    assert_eq!(shown(&app, &path).await["used"], 2);
    let revoked = app
        .send("DELETE", &path, &[("accept", "application/json")], "")
        .await;
    assert_eq!(revoked.json()["used"], 2);
    let gone = put(&app, &path, pictures::png(8, 3)).await;
    // Nothing is sold here, so the error names no route that sells.
    assert_eq!(gone.error(), "link_revoked");
    assert_eq!(gone.json()["action"].get("url"), None);
}

#[tokio::test]
async fn wrong_links_are_unknown_and_limited_by_address() {
    let app = TestApp::builder()
        .set("limits.payments_per_address_per_minute", "20")
        .spawn()
        .await;
    let link = buy(&app, TWO).await;
    let path = path_of(&link);
    let own = path.strip_prefix("/u/").unwrap();
    let other = if own.ends_with('0') { "1" } else { "0" };
    let forged = format!("/u/{}{other}", &own[..39]);
    let token = app.sign_for("year").await;
    let token = app.pay(&token).await.token();
    let wrong = [
        forged,
        format!("/u/{token}"),
        format!("/u/{}", "0".repeat(40)),
        "/u/short".to_owned(),
        format!("{path}0"),
    ];
    let stranger = client_from("127.0.0.7");
    for (number, method) in ["GET", "PUT", "POST", "DELETE"].into_iter().enumerate() {
        let wrong = &wrong[number];
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = stranger
            .request(method, app.url(wrong))
            .body(pictures::png(8, 8));
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(refusal(&answer), closed(404, "link_unknown"), "{wrong}");
    }
    let mut refusals = 0;
    for _ in 0..10 {
        let request = stranger.get(app.url(&wrong[4]));
        let answer = Answer::of(request.send().await.unwrap()).await;
        refusals += usize::from(answer.status == 429);
    }
    assert_eq!(refusals, 4);
    // Others are not affected.
    assert_eq!(put(&app, &path, pictures::png(8, 8)).await.status, 200);
}

#[tokio::test]
async fn a_link_that_the_database_lost_pauses_sales_until_its_payment_is_recovered() {
    let app = TestApp::on_disk().await;
    let path = path_of(&buy(&app, TWO).await);
    lose_everything(app.db()).await;
    let upload = put(&app, &path, pictures::png(8, 8)).await;
    assert_eq!(
        (upload.status, upload.error()),
        (503, "recovery_required".to_owned())
    );
    let secret = UploadToken::parse(path.strip_prefix("/u/").unwrap()).unwrap();
    let noted = pixtoll::db::epoch::find_lost(app.db())
        .await
        .unwrap()
        .unwrap();
    assert!(
        noted.contains(&secret.hash()) && !noted.contains(secret.reveal()),
        "{noted}"
    );
    assert_eq!(app.post(TWO).await.error(), "recovery_required");
    let (now, ttl) = (
        pixtoll::system::clock::Clock::now(&app.clock),
        app.app.config.token_ttl,
    );
    app.app.epoch.accept(now, ttl).await.unwrap();
    assert_eq!(app.post(TWO).await.status, 402);
    let upload = put(&app, &path, pictures::png(8, 8)).await;
    assert_eq!(upload.verdict(), known(Some(true)));
    // A link that is sold later is lost anew.
    app.advance(Duration::from_mins(2));
    let path = path_of(&buy(&app, TWO).await);
    lose_everything(app.db()).await;
    assert_eq!(
        put(&app, &path, pictures::png(8, 8)).await.error(),
        "recovery_required"
    );
    // The records of an old link may be erased, so it proves nothing.
    app.app
        .epoch
        .accept(pixtoll::system::clock::Clock::now(&app.clock), ttl)
        .await
        .unwrap();
    app.advance(2 * DAY);
    let old = put(&app, &path, pictures::png(8, 8)).await;
    assert_eq!(refusal(&old), closed(404, "link_unknown"));
}

#[tokio::test]
async fn a_link_opens_as_a_page_that_uploads_without_script() {
    let app = TestApp::spawn().await;
    let path = path_of(&buy(&app, TWO).await);
    let browser = [("accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
    let page = app.send("GET", &path, &browser, "").await;
    assert_eq!(
        page.header("content-type").unwrap(),
        "text/html; charset=utf-8"
    );
    let text = page.text();
    assert!(
        text.contains("2 of 2 uploads are left, in tier year, until"),
        "{text}"
    );
    assert!(
        text.contains(&format!("curl -T image.png {}{path}", app.base)),
        "{text}"
    );
    assert!(
        text.contains(&format!("method=\"post\" action=\"{path}\"")),
        "{text}"
    );
    for (name, value) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-robots-tag", "noindex, nofollow"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(page.header(name).as_deref(), Some(value));
    }
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"),
        "{policy}"
    );
    let form = [
        ("accept", "text/html"),
        ("content-type", "multipart/form-data; boundary=XX"),
    ];
    let body = |bytes: &[u8]| {
        let head =
            b"--XX\r\nContent-Disposition: form-data; name=\"image\"; filename=\"<b>.png\"\r\n\r\n";
        [&head[..], bytes, b"\r\n--XX--\r\n"].concat()
    };
    let uploaded = app
        .send("POST", &path, &form, body(&pictures::png(8, 8)))
        .await;
    let link = uploaded.header("location");
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    let link = link.unwrap_or_else(|| panic!("{}", uploaded.text()));
    assert!(
        uploaded.text().contains(&format!("href=\"{link}\"")),
        "{}",
        uploaded.text()
    );
    let junk = app.send("POST", &path, &form, body(b"<script>")).await;
    assert_eq!(junk.status, 415);
    assert!(junk.text().starts_with("<!doctype html>") && !junk.text().contains("<script"));
    let text = app
        .send("GET", &path, &[("accept", "*/*")], "")
        .await
        .text();
    assert!(text.starts_with("1 of 2 uploads are left"), "{text}");
    let head = app.send("HEAD", &path, &[("accept", "*/*")], "").await;
    assert_eq!((head.status, head.bytes.len()), (200, 0));
}

#[tokio::test]
async fn curl_uploads_with_a_link_and_nothing_else() {
    let app = TestApp::spawn().await;
    let path = path_of(&buy(&app, TWO).await);
    let file = app.folder().join("shot.png");
    std::fs::write(&file, pictures::png(8, 8)).unwrap();
    for url in [app.url(&path), format!("{}/", app.url(&path))] {
        let file = file.clone();
        let run = move || {
            Command::new("curl")
                .arg("-sST")
                .arg(&file)
                .arg(&url)
                .output()
        };
        let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let link = text.strip_suffix('\n').unwrap_or_else(|| panic!("{text}"));
        assert_eq!(app.get(link).await.status, 200);
    }
}

#[tokio::test]
async fn a_wallet_lists_and_revokes_its_links_by_sign_in() {
    let app = TestApp::spawn().await;
    let first = buy(&app, TWO).await;
    app.advance(Duration::from_secs(1));
    let second = buy(&app, TWO).await;
    let third = buy(&app, "/api/links?images=1&days=1").await;
    let other = app.sign_by(TWO, &wallet(9)).await;
    assert_eq!(app.pay(&other).await.status, 200);
    assert_eq!(
        put(&app, &path_of(&first), pictures::png(8, 8))
            .await
            .status,
        200
    );
    let page = app
        .as_wallet("GET", "/api/links?limit=2", "", &app.wallet)
        .await
        .json();
    let mut found = page["links"].as_array().unwrap().clone();
    assert_eq!(found.len(), 2);
    // The rest of the list needs no other sign-in.
    let next = page["next"].as_str().unwrap();
    let rest = app.get(&format!("/api/links?after={next}")).await.json();
    assert_eq!(rest["next"], Value::Null);
    found.extend(rest["links"].as_array().unwrap().clone());
    let mut used = first.clone();
    used["used"] = 1.into();
    assert_eq!(found.len(), 3);
    assert_eq!(found[2], used);
    for link in [&second, &third] {
        assert!(found[..2].contains(link), "{found:?}");
    }

    let own = format!("/api/links/{}", second["id"].as_str().unwrap());
    let stranger = app.as_wallet("DELETE", &own, "", &wallet(9)).await;
    assert_eq!(
        stranger.verdict(),
        (404, "not_found".to_owned(), Some(false))
    );
    // A message for the list, or for another link, revokes nothing.
    let elsewhere = format!("/api/links/{}", first["id"].as_str().unwrap());
    for other in ["/api/links", &elsewhere] {
        let method = if other == "/api/links" {
            "GET"
        } else {
            "DELETE"
        };
        let challenge = app.send(method, other, &[("accept", "*/*")], "").await;
        let message = sign_in(&challenge, &app.wallet).encode();
        let answer = app
            .send("DELETE", &own, &[("SIGN-IN-WITH-X", message)], "")
            .await;
        assert_eq!(answer.error(), "sign_in_invalid", "{other}");
    }
    assert_eq!(
        shown(&app, &path_of(&second)).await["revokedAt"],
        Value::Null
    );
    let revoked = app.as_wallet("DELETE", &own, "", &app.wallet).await.json();
    assert_eq!(revoked["revokedAt"], app.clock_text(Duration::ZERO));
    let late = put(&app, &path_of(&second), pictures::png(8, 9)).await;
    assert_eq!(refusal(&late), refused(410, "link_revoked"));
    let wrong = app
        .send("DELETE", "/api/links/0", &[("accept", "*/*")], "")
        .await;
    assert_eq!(wrong.error(), "invalid_parameter");
}

#[tokio::test]
async fn a_link_takes_no_payment() {
    let app = TestApp::spawn().await;
    let path = path_of(&buy(&app, TWO).await);
    let payment = app.sign_at("/api/upload/year").await;
    let answer = app.pay_at(&path, &payment).await;
    assert_eq!(
        answer.verdict(),
        (400, "conflicting_credentials".to_owned(), None)
    );
    let unknown = app.post(&format!("{path}?images=2")).await;
    assert_eq!(unknown.error(), "unknown_parameter");
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn the_same_bytes_by_a_free_link_are_one_image_and_one_use() {
    let app = TestApp::spawn().await;
    let path = path_of(&app.post("/api/links?images=2&tier=free").await.json());
    let first = put_for_json(&app, &path, pictures::png(8, 8)).await.json();
    let again = put_for_json(&app, &path, pictures::png(8, 8)).await.json();
    assert_eq!(again["id"], first["id"]);
    assert_eq!(shown(&app, &path).await["used"], 1);
    // Several at once, and for the last use.
    let uploads = (0..8).map(|_| put_for_json(&app, &path, pictures::png(8, 9)));
    let mut ids = BTreeSet::new();
    for answer in futures_util::future::join_all(uploads).await {
        match answer.status {
            200 => drop(ids.insert(answer.field("id"))),
            _ => assert_eq!(answer.error(), "busy"),
        }
    }
    assert_eq!(ids.len(), 1);
    assert_eq!(shown(&app, &path).await["used"], 2);
    // A link that is used up still returns its images, and nothing else.
    let late = put_for_json(&app, &path, pictures::png(8, 8)).await.json();
    assert_eq!(late["id"], first["id"]);
    let private = format!("{path}?visibility=private");
    for other in [
        put(&app, &path, pictures::png(8, 10)).await,
        put(&app, &private, pictures::png(8, 8)).await,
    ] {
        assert_eq!(refusal(&other), closed(409, "link_used"));
    }
    let live = "SELECT id FROM images WHERE state = 'live'";
    let live = crate::support::database::texts(app.db(), live).await;
    assert_eq!(live.len(), 2);
    // Another link publishes its own image.
    let other = path_of(&app.post("/api/links?tier=free").await.json());
    let own = put_for_json(&app, &other, pictures::png(8, 8)).await.json();
    assert_ne!(own["id"], first["id"]);
    // What has expired is published anew.
    let long = path_of(
        &app.post("/api/links?images=2&days=30&tier=free")
            .await
            .json(),
    );
    let before = put_for_json(&app, &long, pictures::png(8, 8)).await.json();
    app.advance(20 * DAY);
    let after = put_for_json(&app, &long, pictures::png(8, 8)).await.json();
    assert_ne!(after["id"], before["id"]);
    assert_eq!(shown(&app, &long).await["used"], 2);
}

#[tokio::test]
async fn only_the_upload_that_published_an_image_receives_its_delete_token() {
    let app = TestApp::spawn().await;
    let paid = path_of(&buy(&app, "/api/links?images=1&days=1&tier=year").await);
    let free = path_of(&app.post("/api/links?tier=free").await.json());
    for path in [&paid, &free] {
        let first = put_for_json(&app, path, pictures::png(8, 8)).await;
        assert_eq!(first.field("deleteToken").len(), 40);
        let other = put_for_json(&app, path, pictures::png(8, 8)).await.json();
        assert_eq!(other["id"], first.json()["id"]);
        assert_eq!(other.get("deleteToken"), None, "{other}");
        assert_eq!(other.get("deleteUrl"), None, "{other}");
        let page = app
            .send("PUT", path, &[("accept", "text/html")], pictures::png(8, 8))
            .await
            .text();
        assert!(!page.contains(&first.field("deleteToken")), "{page}");
    }
    // The link's secret is a token for the same holders.
    let secret = paid.strip_prefix("/u/").unwrap();
    let token = [("x-upload-token", secret)];
    let again = app
        .send("POST", "/api/upload", &token, pictures::png(8, 8))
        .await
        .json();
    assert_eq!(again.get("deleteToken"), None, "{again}");
    let used = app
        .send("POST", "/api/upload", &token, pictures::png(8, 9))
        .await;
    assert_eq!(refusal(&used), refused(409, "link_used"));
    let url = used.json()["action"]["url"].clone();
    assert_eq!(url, app.url("/api/links?images=1&days=30"));
    // Parallel uploads of the same bytes publish one image, and one of them receives the token.
    for path in [
        path_of(&buy(&app, "/api/links?images=9&days=1&tier=year").await),
        path_of(&app.post("/api/links?images=9&tier=free").await.json()),
    ] {
        let uploads = (0..8).map(|_| put_for_json(&app, &path, pictures::png(9, 9)));
        let answers = futures_util::future::join_all(uploads).await;
        let with_token = answers
            .iter()
            .filter(|answer| answer.json().get("deleteToken").is_some());
        assert_eq!(with_token.count(), 1);
    }
}

#[tokio::test]
async fn the_options_of_a_link_are_not_taken_from_a_body() {
    let app = TestApp::spawn().await;
    let options = r#"{"images": 2, "days": 1, "tier": "free"}"#;
    for body in [options, "images=2", "[]", "[1]", "null", "{", r#"{"a": 1}"#] {
        let json = [("content-type", "application/json")];
        let answer = app.send("POST", "/api/links", &json, body).await;
        assert_eq!(refusal(&answer), closed(400, "invalid_body"), "{body}");
        let message = answer.field("message");
        assert!(message.contains("?images=N&days=D&tier=T"), "{message}");
    }
    for body in ["", " ", "{}", " {}\n"] {
        let answer = app
            .send("POST", "/api/links", &[("accept", "*/*")], body)
            .await;
        assert_eq!(answer.error(), "payment_required", "{body}");
    }
    assert_eq!(app.rows("free_links").await, 0);
}

#[tokio::test]
async fn errors_about_links_name_what_holds_for_links() {
    let app = TestApp::spawn().await;
    let unknown = app.post("/api/links?tier=nope").await;
    assert_eq!(unknown.error(), "unknown_tier");
    let message = unknown.field("message");
    assert!(message.contains("free, year, permanent"), "{message}");
    let path = path_of(&app.post("/api/links?tier=free").await.json());
    let tier = put(&app, &format!("{path}?tier=free"), pictures::png(8, 8)).await;
    let message = tier.field("message");
    assert!(message.contains("An upload link has one tier"), "{message}");
    let limit = app.get("/api/links?limit=abc").await.field("message");
    assert!(limit.contains("1 to 100 upload links"), "{limit}");
    assert_eq!(put(&app, &path, pictures::png(8, 8)).await.status, 200);
    let text = app
        .send("GET", &path, &[("accept", "*/*")], "")
        .await
        .text();
    assert!(
        text.starts_with("The upload of this link is used."),
        "{text}"
    );
}

#[tokio::test]
async fn a_link_answers_in_the_form_that_accept_prefers() {
    let app = TestApp::spawn().await;
    let path = path_of(&app.post("/api/links?tier=free").await.json());
    for (accept, expected) in [
        (
            "application/json;q=0.1, text/html",
            "text/html; charset=utf-8",
        ),
        (
            "text/html;q=0.1, application/json;q=0.9",
            "application/json",
        ),
        (
            "text/html;q=0, text/plain;q=0.5",
            "text/plain; charset=utf-8",
        ),
        ("text/html; Q=0", "text/plain; charset=utf-8"),
        ("application/json, text/html", "application/json"),
        ("APPLICATION/JSON", "application/json"),
        ("*/*", "text/plain; charset=utf-8"),
    ] {
        let answer = app.send("GET", &path, &[("accept", accept)], "").await;
        let found = answer.header("content-type");
        assert_eq!(found.as_deref(), Some(expected), "{accept}");
    }
}
