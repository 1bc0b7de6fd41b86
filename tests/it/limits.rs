//! Rate limits and quotas: requests just under and just over each, which address counts, and that a
//! limit never costs money.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::support::{Answer, TestApp, pictures};

const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);
const FIFTY_MB: u64 = 50_000_000;

/// Sends a free upload with these headers.
async fn upload(app: &TestApp, headers: &[(&str, &str)]) -> Answer {
    let mut all = vec![("content-type", "image/png")];
    all.extend(headers);
    app.send("POST", "/api/free", &all, pictures::png(3, 3))
        .await
}

fn assert_limited(answer: &Answer, code: &str, charged: Option<bool>, seconds: u64) {
    let verdict = (429, code.to_owned(), charged);
    assert_eq!(answer.verdict(), verdict, "{}", answer.text());
    let action = json!({"type": "wait", "retryAfterSeconds": seconds});
    assert_eq!(answer.json()["action"], action);
    assert_eq!(answer.header("retry-after"), Some(seconds.to_string()));
}

/// Asserts that the free uploads are used up, and that the response offers the cheapest tier.
async fn assert_spent(app: &TestApp, answer: &Answer, code: &str, seconds: u64) {
    let verdict = (429, code.to_owned(), Some(false));
    assert_eq!(answer.verdict(), verdict, "{}", answer.text());
    let url = format!("{}/api/upload/year", app.base);
    let curl = format!("curl -F image=@image.png -H \"PAYMENT-SIGNATURE: $PAYMENT\" '{url}'");
    let action = json!({"type": "pay", "retryAfterSeconds": seconds, "url": url, "curl": curl});
    assert_eq!(answer.json()["action"], action);
    assert_eq!(answer.header("retry-after"), Some(seconds.to_string()));
    assert_eq!(app.post("/api/upload/year").await.status, 402);
}

#[tokio::test]
async fn an_address_has_its_free_uploads_and_then_waits() {
    let app = TestApp::builder()
        .set("limits.free_per_address_per_hour", "3")
        .spawn()
        .await;
    for _ in 0..3 {
        assert_eq!(upload(&app, &[]).await.status, 200);
    }
    let refused = upload(&app, &[]).await;
    assert_spent(&app, &refused, "rate_limited", 1200).await;
    let message = refused.field("message");
    assert!(message.contains("3 free uploads an hour"), "{message}");
    assert!(message.contains("Your address"), "{message}");
    assert_eq!(app.rows("images").await, 3);
    app.advance(Duration::from_secs(1199));
    assert_eq!(upload(&app, &[]).await.status, 429);
    app.advance(Duration::from_secs(1));
    assert_eq!(upload(&app, &[]).await.status, 200);
    assert_eq!(upload(&app, &[]).await.status, 429);
}

#[tokio::test]
async fn forwarded_headers_of_untrusted_peers_are_ignored() {
    let app = TestApp::builder()
        .set("limits.free_per_address_per_hour", "2")
        .spawn()
        .await;
    let mut answers = Vec::new();
    for number in 0..4 {
        let client = format!("198.51.100.{number}");
        let forwarded = format!("for={client}");
        let headers = [("x-forwarded-for", &*client), ("forwarded", &*forwarded)];
        answers.push(upload(&app, &headers).await.status);
    }
    assert_eq!(answers, [200, 200, 429, 429]);
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_is_counted_by_its_real_address() {
    let app = TestApp::builder()
        .set("limits.free_per_address_per_hour", "1")
        .set("http.trusted_proxies", "127.0.0.0/8,10.0.0.0/8")
        .spawn()
        .await;
    for (forwarded, status) in [
        ("198.51.100.1", 200),
        ("198.51.100.1", 429),
        // The client wrote the leftmost address itself.
        ("203.0.113.1, 198.51.100.1", 429),
        ("198.51.100.1, 10.1.2.3", 429),
        ("198.51.100.2", 200),
        ("2001:db8::1", 200),
        ("2001:db8::2:3:4:5", 429),
        ("2001:db8:0:1::1", 200),
        ("nonsense", 200),
        ("", 429),
    ] {
        let answer = upload(&app, &[("x-forwarded-for", forwarded)]).await;
        assert_eq!(answer.status, status, "{forwarded}");
    }
}

#[tokio::test]
async fn the_addresses_of_one_network_share_four_times_the_uploads_of_one() {
    let app = TestApp::builder()
        .set("limits.free_per_address_per_hour", "2")
        .set("http.trusted_proxies", "127.0.0.0/8")
        .spawn()
        .await;
    let from = async |client: &str| upload(&app, &[("x-forwarded-for", client)]).await;
    for (network, outside) in [
        (
            [
                "198.51.100.1",
                "198.51.100.77",
                "198.51.100.200",
                "198.51.100.255",
                "198.51.100.3",
            ],
            "198.51.101.1",
        ),
        (
            [
                "2001:db8:7:1::1",
                "2001:db8:7:2::1",
                "2001:db8:7:ffff::1",
                "2001:db8:7::1",
                "2001:db8:7:3::1",
            ],
            "2001:db8:8:1::1",
        ),
    ] {
        let [first, .., last] = network;
        for client in &network[..4] {
            for _ in 0..2 {
                assert_eq!(from(client).await.status, 200, "{client}");
            }
        }
        for _ in 0..3 {
            let refused = from(last).await;
            assert_spent(&app, &refused, "rate_limited", 450).await;
            let message = refused.field("message");
            assert!(message.contains("8 free uploads an hour"), "{message}");
            assert!(message.contains("Your network"), "{message}");
        }
        assert!(from(first).await.field("message").contains("Your address"));
        assert_eq!(from(outside).await.status, 200);
        // An upload that the network's limit rejected costs the address nothing.
        app.advance(Duration::from_secs(900));
        for status in [200, 200, 429] {
            assert_eq!(from(last).await.status, status);
        }
        app.advance(HOUR);
    }
}

#[tokio::test]
async fn ten_rejected_files_count_as_one_upload() {
    let app = TestApp::builder()
        .set("limits.free_per_address_per_hour", "3")
        .spawn()
        .await;
    let form = [("content-type", "multipart/form-data; boundary=XX")];
    let json = [("content-type", "application/json")];
    let png = [("content-type", "image/png")];
    let none: [(&str, &str); 0] = [];
    let mut cut = pictures::png(9, 9);
    cut.truncate(50);
    let too_large = pictures::png_of_size((1 << 20) + 1);
    for path in ["/api/free", "/api/check"] {
        app.advance(HOUR);
        let refused = [
            app.send("POST", path, &png, b"no image".to_vec()).await,
            app.send("POST", path, &png, Vec::new()).await,
            app.send("POST", path, &png, cut.clone()).await,
            app.send("POST", path, &form, b"--XX\r\n".to_vec()).await,
            app.send("POST", path, &json, b"{}".to_vec()).await,
            app.send("POST", path, &json, b"{\"image\": \"?\"}".to_vec())
                .await,
            app.send("POST", path, &none, b"no type".to_vec()).await,
            app.send("POST", "/api/free", &png, too_large.clone()).await,
            app.send("POST", path, &png, b"GIF89a".to_vec()).await,
            app.send("POST", path, &png, b"\xff\xd8".to_vec()).await,
        ];
        for refused in refused {
            assert!(
                [400, 413, 415].contains(&refused.status),
                "{}",
                refused.text()
            );
        }
        for status in [200, 200, 429] {
            assert_eq!(upload(&app, &[]).await.status, status, "{path}");
        }
    }
    // 20 minutes restore one upload, which an attempt needs, and 2 minutes one refusal.
    app.advance(Duration::from_mins(20));
    assert_eq!(app.upload_free(b"no image".to_vec()).await.status, 415);
    assert_eq!(app.upload_free(b"no image".to_vec()).await.status, 429);
    app.advance(Duration::from_mins(2));
    assert_eq!(app.upload_free(b"no image".to_vec()).await.status, 415);
}

#[tokio::test]
async fn an_accepted_check_costs_an_upload_and_offers_no_purchase() {
    let app = TestApp::builder()
        .set("limits.free_per_address_per_hour", "2")
        .set("limits.free_refusals_per_upload", "1")
        .spawn()
        .await;
    let png = [("content-type", "image/png")];
    let check = async |bytes: Vec<u8>| app.send("POST", "/api/check", &png, bytes).await;
    assert_eq!(check(pictures::png(3, 3)).await.status, 200);
    // With this setting, a rejected file costs as much as an accepted one.
    assert_eq!(check(b"no image".to_vec()).await.status, 415);
    let refused = check(pictures::png(3, 3)).await;
    assert_limited(&refused, "rate_limited", Some(false), 1800);
}

#[tokio::test]
async fn requests_over_the_limit_are_rejected_before_their_body() {
    let app = TestApp::builder()
        .set("limits.free_per_address_per_hour", "1")
        .spawn()
        .await;
    assert_eq!(upload(&app, &[]).await.status, 200);
    for path in ["/api/free", "/api/check"] {
        let mut line = TcpStream::connect(app.base.trim_start_matches("http://")).unwrap();
        line.set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: image/png\r\nContent-Length: 1000000\r\n\r\n"
        );
        line.write_all(head.as_bytes()).unwrap();
        let mut status = [0; 12];
        line.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 429", "{path}");
    }
}

#[tokio::test]
async fn half_of_the_daily_uploads_are_kept_for_the_afternoon() {
    let app = TestApp::builder()
        .set("limits.free_per_day", "5")
        .spawn()
        .await;
    let start = u64::try_from(crate::support::START).unwrap();
    let noon = 43_200 - start % 86_400;
    for _ in 0..3 {
        assert_eq!(upload(&app, &[]).await.status, 200);
    }
    let refused = upload(&app, &[]).await;
    assert_spent(&app, &refused, "daily_limit", noon).await;
    let message = refused.field("message");
    assert!(
        message.contains("3 free uploads for the first half"),
        "{message}"
    );
    app.advance(Duration::from_millis(noon * 1000 - 1));
    assert_eq!(upload(&app, &[]).await.status, 429);
    app.advance(Duration::from_millis(1));
    for _ in 0..2 {
        assert_eq!(upload(&app, &[]).await.status, 200);
    }
    let refused = upload(&app, &[]).await;
    assert_spent(&app, &refused, "daily_limit", 43_200).await;
    assert!(refused.field("message").contains("5 free uploads of today"));
    // Uploads that were not used in the morning are available in the afternoon.
    app.advance(24 * HOUR);
    for _ in 0..5 {
        assert_eq!(upload(&app, &[]).await.status, 200);
    }
    let refused = upload(&app, &[]).await;
    assert_spent(&app, &refused, "daily_limit", 43_200).await;
}

#[tokio::test]
async fn without_paid_tiers_used_up_uploads_offer_no_purchase() {
    let limit = "limits.free_per_day";
    let app = TestApp::builder()
        .set(limit, "1")
        .without_facilitator()
        .spawn()
        .await;
    assert_eq!(upload(&app, &[]).await.status, 200);
    let midnight = 16 * 3600;
    assert_limited(
        &upload(&app, &[]).await,
        "daily_limit",
        Some(false),
        midnight,
    );
    // A client that sent a payment isn't asked to pay either.
    let app = TestApp::builder().set(limit, "1").spawn().await;
    assert_eq!(upload(&app, &[]).await.status, 200);
    assert_spent(&app, &upload(&app, &[]).await, "daily_limit", midnight).await;
    let payment = app.sign_at("/api/upload/year").await;
    let headers = payment.headers();
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let refused = upload(&app, &headers).await;
    assert_limited(&refused, "daily_limit", None, midnight);
    assert!(refused.field("message").contains("do not pay again"));
}

#[tokio::test]
async fn the_free_uploads_of_a_day_are_counted_in_the_database() {
    let app = TestApp::builder()
        .set("limits.free_per_day", "3")
        .set("limits.free_before_noon_percent", "100")
        .spawn()
        .await;
    // Yesterday's uploads don't count today, and a rejected one doesn't count.
    assert_eq!(upload(&app, &[]).await.status, 200);
    app.advance(24 * HOUR);
    assert_eq!(app.upload_free(b"no image".to_vec()).await.status, 415);
    assert_eq!(upload(&app, &[]).await.status, 200);
    let payment = app.sign_for("year").await;
    let token = app.pay(&payment).await.token();
    assert_eq!(
        app.upload_with(&token, pictures::png(4, 4)).await.status,
        200
    );
    assert_eq!(upload(&app, &[]).await.status, 200);
    // A restarted server knows the earlier uploads.
    let again = pixtoll::limits::Limits::new(
        app.app.config.limits,
        std::sync::Arc::new(app.clock.clone()),
        pixtoll::system::random::Randomness::seeded(3),
    );
    let again = std::sync::Arc::new(again);
    let last = again.take_free(app.db()).await.unwrap();
    again.take_free(app.db()).await.unwrap_err();
    drop(last);
    again.take_free(app.db()).await.unwrap().spend();
    again.take_free(app.db()).await.unwrap_err();
    assert_eq!(upload(&app, &[]).await.status, 200);
    let refused = upload(&app, &[]).await;
    let start = u64::try_from(crate::support::START).unwrap();
    let midnight = 86_400 - start % 86_400;
    assert_spent(&app, &refused, "daily_limit", midnight).await;
    assert!(refused.field("message").contains("3 free uploads"));
    assert_eq!(app.sign_for("year").await.path, "/api/upload/token/year");
    app.advance(Duration::from_millis(midnight * 1000 - 1));
    assert_eq!(upload(&app, &[]).await.status, 429);
    app.advance(Duration::from_millis(1));
    assert_eq!(upload(&app, &[]).await.status, 200);
}

#[tokio::test]
async fn a_limited_payment_is_neither_lost_nor_paid_twice() {
    let app = TestApp::builder()
        .set("limits.payments_per_address_per_minute", "4")
        .spawn()
        .await;
    let first = app.sign_for("year").await;
    let second = app.sign_at("/api/upload/year").await;
    let token = app.pay(&first).await.token();
    assert_eq!(app.post("/api/upload/token").await.status, 402);
    let calls = app.calls();
    // The first payment moved money and the second didn't. The response doesn't say which, as
    // nobody looked.
    assert_limited(&app.pay(&first).await, "rate_limited", None, 15);
    let picture = pictures::png(5, 5);
    let refused = app.pay_with(&second, &picture).await;
    assert_limited(&refused, "rate_limited", None, 15);
    assert!(refused.field("message").contains("do not pay again"));
    assert!(refused.header("payment-required").is_none());
    let challenge = app.post("/api/upload/year").await;
    assert_limited(&challenge, "rate_limited", Some(false), 15);
    assert_eq!(app.calls(), calls);
    // A token is not a payment, so it can upload.
    let uploaded = app.upload_with(&token, pictures::png(4, 4)).await;
    assert_eq!(uploaded.status, 200);
    app.advance(Duration::from_secs(30));
    // The token is used up, so its payment is answered with the image.
    assert_eq!(app.pay(&first).await.field("id"), uploaded.field("id"));
    assert_eq!(app.pay_with(&second, &picture).await.status, 200);
    assert_eq!(app.transfers().await.len(), 2);
    app.advance(MINUTE);
    assert_eq!(app.pay_with(&second, &picture).await.status, 200);
    assert_eq!(app.transfers().await.len(), 2);
}

#[tokio::test]
async fn failed_uploads_with_a_token_are_limited_for_each_address() {
    let app = TestApp::builder()
        .set("limits.payments_per_address_per_minute", "120")
        .spawn()
        .await;
    let payment = app.sign_for("year").await;
    let token = app.pay(&payment).await.token();
    let spoilt = async |number: usize| match number % 2 {
        0 => app.upload_with(&token, b"no image".to_vec()).await,
        _ => app.upload_with(&"0".repeat(40), pictures::png(5, 5)).await,
    };
    for number in 0..60 {
        let status = spoilt(number).await.status;
        assert!([401, 415].contains(&status), "{status}");
    }
    let refused = spoilt(0).await;
    assert_limited(&refused, "rate_limited", Some(false), 1);
    let refused = app.upload_with(&token, pictures::png(5, 5)).await;
    assert_limited(&refused, "rate_limited", Some(false), 1);
    app.advance(Duration::from_secs(1));
    let uploaded = app.upload_with(&token, pictures::png(5, 5)).await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    // Successful uploads and repeated ones aren't counted.
    for _ in 0..3 {
        let again = app.upload_with(&token, pictures::png(5, 5)).await;
        assert_eq!(again.field("id"), uploaded.field("id"));
    }
}

#[tokio::test]
async fn requests_for_missing_images_are_limited_and_others_are_not() {
    let app = TestApp::spawn().await;
    let image = upload(&app, &[]).await;
    for number in 0..300 {
        let path = match number % 3 {
            0 => "/i/abcdefghijkl",
            1 => "/i/nonsense",
            _ => "/api/images/abcdefghijkl",
        };
        assert_eq!(app.get(path).await.status, 404);
    }
    for path in ["/i/abcdefghijkl", "/api/images/abcdefghijkl"] {
        let refused = app.get(path).await;
        assert_limited(&refused, "rate_limited", Some(false), 1);
        assert_eq!(refused.header("cache-control").unwrap(), "no-store");
    }
    assert_eq!(app.get(&image.field("url")).await.status, 200);
    app.advance(Duration::from_millis(200));
    assert_eq!(app.get("/i/abcdefghijkl").await.status, 404);
    assert_eq!(app.get("/i/abcdefghijkl").await.status, 429);
}

#[tokio::test]
async fn a_full_disk_stores_nothing_and_charges_nothing() {
    let app = TestApp::on_disk().await;
    let full = (507, "storage_full".to_owned(), Some(false));
    let picture = pictures::png(5, 5);
    let paid = app.sign_for("year").await;
    let token = app.pay(&paid).await.token();
    let (for_token, direct) = (
        app.sign_for("year").await,
        app.sign_at("/api/upload/year").await,
    );
    app.disk.set_free((1 << 30) - 1);
    app.get(&format!("{}/readyz", app.admin)).await;
    let (calls, images) = (app.calls(), app.rows("images").await);
    for refused in [
        upload(&app, &[]).await,
        app.post("/api/upload/token").await,
        app.post("/api/upload/permanent").await,
        app.upload_with(&token, picture.clone()).await,
        app.pay(&for_token).await,
        app.pay_with(&direct, &picture).await,
    ] {
        assert_eq!(refused.verdict(), full);
        assert_eq!(refused.header("retry-after").unwrap(), "60");
        assert!(refused.header("payment-required").is_none());
    }
    // A known payment is answered, since that needs no disk space.
    assert_eq!(app.pay(&paid).await.token(), token);
    assert_eq!((app.calls(), app.rows("images").await), (calls, images));
    assert_eq!(app.rows("payments").await, 1);
    let ready = app.get(&format!("{}/readyz", app.admin)).await;
    assert_eq!(ready.status, 503);
    assert_eq!(
        ready.field("problem"),
        "free space is below images.min_free"
    );
    app.disk.set_free(1 << 30);
    assert_eq!(app.get(&format!("{}/readyz", app.admin)).await.status, 200);
    assert_eq!(app.upload_with(&token, picture.clone()).await.status, 200);
    assert_eq!(app.pay_with(&direct, &picture).await.status, 200);
    app.pay(&for_token).await.token();
    assert_eq!(app.transfers().await.len(), 3);
}

#[tokio::test]
async fn fifty_free_megabytes_are_too_few_by_default_and_can_be_allowed() {
    for (min_free, status) in [
        ("1 GiB", 507),
        ("50 MB", 200),
        ("50000001", 507),
        ("0", 200),
    ] {
        let app = TestApp::builder()
            .on_disk()
            .set("images.min_free", min_free)
            .spawn()
            .await;
        app.disk.set_free(FIFTY_MB);
        assert_eq!(upload(&app, &[]).await.status, status, "{min_free}");
    }
}
