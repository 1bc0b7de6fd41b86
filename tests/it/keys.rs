//! API keys: made, listed, suspended and revoked by the wallet's sign-in, and used without it.

use std::time::Duration;

use alloy_signer_local::PrivateKeySigner;
use pixtoll::pricing::tiers::TierTable;
use serde_json::{Value, json};

use crate::support::database::texts;
use crate::support::sign_in::sign_in;
use crate::support::signing::wallet;
use crate::support::{Answer, TestApp, client_from, pictures};

const KEYS: &str = "/api/keys";

async fn make(app: &TestApp, by: &PrivateKeySigner, body: &str) -> Value {
    let made = app.as_wallet("POST", KEYS, body, by).await;
    assert_eq!(made.status, 200, "{}", made.text());
    made.json()
}

/// Uploads with a key as a bearer token.
async fn upload(app: &TestApp, key: &str, path: &str, bytes: Vec<u8>) -> Answer {
    let headers = [
        ("authorization", format!("Bearer {key}")),
        ("content-type", "image/png".to_owned()),
    ];
    app.send("POST", path, &headers, bytes).await
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

async fn only_key(app: &TestApp, by: &PrivateKeySigner) -> Value {
    let listed = app.as_wallet("GET", KEYS, "", by).await.json();
    let keys = listed["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys[0].clone()
}

#[tokio::test]
async fn a_key_uploads_to_the_free_tier_in_the_name_of_its_wallet() {
    let app = TestApp::spawn().await;
    let owner = wallet(3);
    let made = make(
        &app,
        &owner,
        r#"{"name": "CI of the shop", "uploadsPerDay": 3}"#,
    )
    .await;
    let key = text(&made["key"]);
    assert_eq!(made["wallet"], owner.address().to_checksum(None));
    assert_eq!(made["limits"]["uploadsPerDay"], 3);
    let image = upload(&app, &key, "/api/upload", pictures::png(8, 8)).await;
    assert_eq!(
        (image.status, image.field("tier")),
        (200, "free".to_owned())
    );
    let path = format!("/u/{key}");
    let other = app
        .send("PUT", &path, &[("accept", "*/*")], pictures::png(8, 9))
        .await;
    let link = other.text();
    assert_eq!(app.get(link.trim_end()).await.status, 200);
    let owners = "SELECT DISTINCT owner FROM images";
    let owners = crate::support::database::texts(app.db(), owners).await;
    assert_eq!(owners, [owner.address().to_string()]);
    let junk = upload(&app, &key, "/api/upload", b"no image".to_vec()).await;
    assert_eq!(junk.error(), "unsupported_format");
    let listed = only_key(&app, &owner).await;
    assert_eq!(listed.get("key"), None);
    assert_eq!(listed["name"], "CI of the shop");
    let usage = &listed["usage"];
    assert_eq!(
        (&usage["uploadsToday"], &usage["uploads"]),
        (&2.into(), &2.into())
    );
    assert!(usage["bytes"].as_u64().unwrap() > 0);
    assert_eq!(usage["lastUsedAt"], app.clock_text(Duration::ZERO));
    let stranger = app.as_wallet("GET", KEYS, "", &wallet(4)).await.json();
    assert_eq!(stranger["keys"], json!([]));
}

#[tokio::test]
async fn a_key_makes_no_more_uploads_a_day_than_its_limit() {
    let app = TestApp::spawn().await;
    let made = make(&app, &wallet(3), r#"{"uploadsPerDay": 3}"#).await;
    let key = text(&made["key"]);
    let uploads = (0..20).map(|number| {
        let picture = pictures::png_seeded(9, 9, number);
        upload(&app, &key, "/api/upload", picture)
    });
    let mut published = 0;
    for answer in futures_util::future::join_all(uploads).await {
        match answer.status {
            200 => published += 1,
            429 => assert_eq!(answer.error(), "key_limit"),
            _ => assert_eq!(answer.error(), "busy"),
        }
    }
    assert_eq!(published, 3);
    let over = upload(&app, &key, "/api/upload", pictures::png(8, 8)).await;
    assert_eq!(over.verdict(), (429, "key_limit".to_owned(), Some(false)));
    let wait: u64 = over.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&wait), "{wait}");
    app.advance(Duration::from_secs(wait));
    let next = upload(&app, &key, "/api/upload", pictures::png(8, 8)).await;
    assert_eq!(next.status, 200, "{}", next.text());
    let usage = only_key(&app, &wallet(3)).await["usage"].clone();
    assert_eq!(
        (&usage["uploadsToday"], &usage["uploads"]),
        (&1.into(), &4.into())
    );
}

#[tokio::test]
async fn free_uploads_by_key_count_against_the_limits_of_the_address() {
    let app = TestApp::builder()
        .set("limits.free_per_address_per_hour", "2")
        .set("limits.free_per_network_per_hour", "40")
        .spawn()
        .await;
    for number in 3..5 {
        let key = text(&make(&app, &wallet(number), "").await["key"]);
        let picture = pictures::png_seeded(8, 8, u64::from(number));
        assert_eq!(upload(&app, &key, "/api/upload", picture).await.status, 200);
    }
    let key = text(&make(&app, &wallet(5), "").await["key"]);
    let over = upload(&app, &key, "/api/upload", pictures::png(8, 8)).await;
    assert_eq!(
        (over.status, over.error()),
        (429, "rate_limited".to_owned())
    );
}

#[tokio::test]
async fn a_key_uses_what_its_wallet_bought_the_oldest_first() {
    let app = TestApp::spawn().await;
    let key = text(&make(&app, &app.wallet, "").await["key"]);
    let path = "/api/upload?tier=year";
    let ask = upload(&app, &key, path, pictures::png(8, 8)).await;
    assert_eq!(
        (ask.status, ask.error()),
        (402, "payment_required".to_owned())
    );
    let url = ask.json()["action"]["url"].clone();
    assert_eq!(url, app.url("/api/links?images=1&days=30&tier=year"));
    assert!(ask.field("message").contains("no upload left in tier year"));

    let token = app.sign_at("/api/upload/token/year?images=2").await;
    assert_eq!(app.pay(&token).await.status, 200);
    app.advance(Duration::from_mins(1));
    let link = app.sign_at("/api/links?images=1&days=1&tier=year").await;
    assert_eq!(app.pay(&link).await.status, 200);
    // What is left of an ended token or link belongs to the wallet all the same.
    app.advance(Duration::from_hours(48));
    let mut first = None;
    for number in 0..3 {
        let picture = pictures::png_seeded(8, 8, number);
        let answer = upload(&app, &key, path, picture.clone()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.field("tier"), "year");
        // A client that repeats an upload receives the same image.
        let again = upload(&app, &key, path, picture).await;
        assert_eq!(again.field("id"), answer.field("id"));
        first.get_or_insert(answer.field("id"));
    }
    let used = "SELECT kind || used FROM grants ORDER BY created_ms";
    let used = crate::support::database::texts(app.db(), used).await;
    assert_eq!(used, ["token2", "link1"]);
    let over = upload(&app, &key, path, pictures::png(9, 9)).await;
    assert_eq!(
        (over.status, over.error()),
        (402, "payment_required".to_owned())
    );
    let again = upload(&app, &key, path, pictures::png_seeded(8, 8, 0)).await;
    assert_eq!(Some(again.field("id")), first);
    // Another wallet's key has nothing of it, and another tier is another purchase.
    let other = text(&make(&app, &wallet(9), "").await["key"]);
    assert_eq!(
        upload(&app, &other, path, pictures::png(9, 9)).await.status,
        402
    );
    let permanent = "/api/upload/permanent";
    assert_eq!(
        upload(&app, &key, permanent, pictures::png(9, 9))
            .await
            .status,
        402
    );
    let unknown = upload(&app, &key, "/api/upload/none", pictures::png(9, 9)).await;
    assert_eq!(unknown.error(), "unknown_tier");
    let usage = only_key(&app, &app.wallet).await["usage"].clone();
    assert_eq!(usage["uploads"], 3);
    assert_eq!(app.transfers().await.len(), 2);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn parallel_uploads_by_key_share_the_grants_of_a_wallet_exactly() {
    let app = TestApp::spawn().await;
    let key = text(&make(&app, &app.wallet, "").await["key"]);
    for images in [2, 3] {
        let path = format!("/api/links?images={images}&days=1&tier=year");
        let payment = app.sign_at(&path).await;
        assert_eq!(app.pay(&payment).await.status, 200);
    }
    let mut published = 0;
    for round in 0..20 {
        let uploads = (0..12).map(|number| {
            let picture = pictures::png_seeded(9, 9, 12 * round + number);
            upload(&app, &key, "/api/upload?tier=year", picture)
        });
        for answer in futures_util::future::join_all(uploads).await {
            match answer.status {
                200 => published += 1,
                402 => assert_eq!(answer.error(), "payment_required"),
                409 => assert_eq!(answer.error(), "token_in_use"),
                _ => assert_eq!(answer.error(), "busy", "{}", answer.text()),
            }
        }
        if published >= 5 {
            break;
        }
    }
    assert_eq!(published, 5);
    assert_eq!(only_key(&app, &app.wallet).await["usage"]["uploads"], 5);
    assert!(app.check_ledger().await.is_balanced());
}

/// Buys links of `uploads` uploads each in tier year.
async fn buy_links(app: &TestApp, links: usize, uploads: u32) {
    for _ in 0..links {
        let path = format!("/api/links?images={uploads}&days=1&tier=year");
        let payment = app.sign_at(&path).await;
        assert_eq!(app.pay(&payment).await.status, 200);
    }
}

/// How many uses of all grants are published, and how many images are live.
async fn counts(app: &TestApp) -> [String; 2] {
    let sql = "SELECT CAST(SUM(used) AS TEXT) FROM grants UNION ALL \
        SELECT CAST(COUNT(*) AS TEXT) FROM images WHERE state = 'live'";
    texts(app.db(), sql).await.try_into().unwrap()
}

#[tokio::test]
async fn the_same_bytes_cost_one_use_however_many_grants_the_wallet_has() {
    let app = TestApp::spawn().await;
    let key = text(&make(&app, &app.wallet, "").await["key"]);
    buy_links(&app, 21, 1).await;
    let path = "/api/upload?tier=year";
    let first = upload(&app, &key, path, pictures::png(8, 8)).await;
    assert_eq!(first.status, 200, "{}", first.text());
    for _ in 0..2 {
        let again = upload(&app, &key, path, pictures::png(8, 8)).await;
        assert_eq!(again.field("id"), first.field("id"));
    }
    assert_eq!(counts(&app).await, ["1", "1"]);
    // For other eyes it is another upload.
    let private = format!("{path}&visibility=private");
    let hidden = upload(&app, &key, &private, pictures::png(8, 8)).await;
    assert_ne!(hidden.field("id"), first.field("id"));
    let again = upload(&app, &key, &private, pictures::png(8, 8)).await;
    assert_eq!(again.field("id"), hidden.field("id"));
    assert_eq!(counts(&app).await, ["2", "2"]);
    // All of them used up, the first image is found all the same.
    for seed in 0..19 {
        let picture = pictures::png_seeded(9, 9, seed);
        assert_eq!(upload(&app, &key, path, picture).await.status, 200);
    }
    let over = upload(&app, &key, path, pictures::png(9, 8)).await;
    assert_eq!(over.status, 402);
    let again = upload(&app, &key, path, pictures::png(8, 8)).await;
    assert_eq!((again.status, again.field("id")), (200, first.field("id")));
    assert_eq!(only_key(&app, &app.wallet).await["usage"]["uploads"], 21);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn parallel_uploads_of_the_same_bytes_by_key_cost_one_use() {
    let app = TestApp::spawn().await;
    let key = text(&make(&app, &app.wallet, "").await["key"]);
    buy_links(&app, 4, 1).await;
    buy_links(&app, 2, 50).await;
    for (round, count) in [(1, 4), (2, 50)] {
        let uploads = (0..count).map(|_| {
            let picture = pictures::png_seeded(9, 9, round);
            upload(&app, &key, "/api/upload?tier=year", picture)
        });
        let mut ids = std::collections::BTreeSet::new();
        for answer in futures_util::future::join_all(uploads).await {
            match answer.status {
                200 => {
                    ids.insert(answer.field("id"));
                }
                409 => assert_eq!(answer.error(), "token_in_use"),
                _ => assert_eq!(answer.error(), "busy", "{}", answer.text()),
            }
        }
        assert_eq!(ids.len(), 1, "{ids:?}");
        assert_eq!(counts(&app).await, [round.to_string(), round.to_string()]);
    }
    assert_eq!(only_key(&app, &app.wallet).await["usage"]["uploads"], 2);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn an_image_that_is_stored_is_returned_beyond_the_daily_limit_of_the_key() {
    let app = TestApp::spawn().await;
    let made = make(&app, &app.wallet, r#"{"uploadsPerDay": 1}"#).await;
    let key = text(&made["key"]);
    buy_links(&app, 1, 5).await;
    let path = "/api/upload?tier=year";
    let first = upload(&app, &key, path, pictures::png(8, 8)).await;
    let again = upload(&app, &key, path, pictures::png(8, 8)).await;
    assert_eq!((again.status, again.field("id")), (200, first.field("id")));
    for path in [path, "/api/upload", "/api/upload?tier=permanent"] {
        let other = upload(&app, &key, path, pictures::png(9, 8)).await;
        assert_eq!(other.verdict(), (429, "key_limit".to_owned(), Some(false)));
    }
    assert_eq!(counts(&app).await, ["1", "1"]);
}

#[tokio::test]
async fn a_key_is_not_told_to_buy_what_does_not_take_the_image() {
    let app = TestApp::spawn().await;
    let key = text(&make(&app, &app.wallet, "").await["key"]);
    let path = "/api/upload?tier=year";
    let (small, large) = (pictures::png(8, 8), pictures::png(40, 40));
    let lower = |most: &[u8]| {
        let tiers = app.app.tiers.now();
        let mut lowered: Vec<_> = tiers.iter().cloned().collect();
        for tier in &mut lowered {
            if tier.name.as_str() == "year" {
                tier.max_bytes = u64::try_from(most.len()).unwrap();
            }
        }
        let default = tiers.default_paid().map(|tier| tier.name.clone());
        let lowered = TierTable::new(lowered, default).unwrap();
        app.app.tiers.replace(lowered);
    };
    buy_links(&app, 1, 1).await;
    let first = upload(&app, &key, path, large.clone()).await;
    assert_eq!(first.status, 200, "{}", first.text());
    lower(&small);
    let is_too_large = async |bytes: Vec<u8>| {
        let answer = upload(&app, &key, path, bytes).await;
        assert_eq!(answer.error(), "file_too_large", "{}", answer.text());
        assert_eq!(answer.status, 413);
        let limit = format!("{} bytes", small.len());
        assert!(
            answer.field("message").contains(&limit),
            "{}",
            answer.text()
        );
    };
    is_too_large(pictures::png_seeded(40, 40, 3)).await;
    let again = upload(&app, &key, path, large.clone()).await;
    assert_eq!(again.field("id"), first.field("id"));
    // A link bought now takes small images alone.
    assert_eq!(upload(&app, &key, path, small.clone()).await.status, 402);
    // Earlier offers are kept for a while.
    app.advance(Duration::from_hours(48));
    buy_links(&app, 1, 2).await;
    is_too_large(pictures::png_seeded(40, 40, 3)).await;
    assert_eq!(upload(&app, &key, path, small.clone()).await.status, 200);
    let other = pictures::png_seeded(8, 8, 4);
    assert_eq!(upload(&app, &key, path, other).await.status, 200);
    // A link bought now takes a larger image than those that the wallet bought.
    lower(&pictures::png(60, 60));
    let larger = upload(&app, &key, path, pictures::png(50, 50)).await;
    assert_eq!(larger.status, 402, "{}", larger.text());
}

#[tokio::test]
async fn a_suspended_or_revoked_key_refuses_at_once() {
    let app = TestApp::spawn().await;
    let owner = wallet(3);
    let made = make(&app, &owner, "").await;
    let (id, key) = (text(&made["id"]), text(&made["key"]));
    let path = format!("/api/keys/{id}");
    let picture = || pictures::png(8, 8);
    let suspended = app
        .as_wallet("POST", &format!("{path}/suspend"), "", &owner)
        .await
        .json();
    assert_eq!(suspended["suspendedAt"], app.clock_text(Duration::ZERO));
    let refused = upload(&app, &key, "/api/upload", picture()).await;
    assert_eq!(
        refused.verdict(),
        (403, "key_suspended".to_owned(), Some(false))
    );
    app.advance(Duration::from_mins(1));
    let again = app
        .as_wallet("POST", &format!("{path}/suspend"), "", &owner)
        .await
        .json();
    assert_eq!(again["suspendedAt"], suspended["suspendedAt"]);
    let resumed = app
        .as_wallet("POST", &format!("{path}/resume"), "", &owner)
        .await
        .json();
    assert_eq!(resumed["suspendedAt"], Value::Null);
    assert_eq!(
        upload(&app, &key, "/api/upload", picture()).await.status,
        200
    );
    // Another wallet can't change it, and a message for one change makes no other.
    let stranger = app.as_wallet("DELETE", &path, "", &wallet(4)).await;
    assert_eq!(
        stranger.verdict(),
        (404, "not_found".to_owned(), Some(false))
    );
    let challenge = app.post(&format!("{path}/suspend")).await;
    let message = sign_in(&challenge, &owner).encode();
    let misused = app
        .send("DELETE", &path, &[("SIGN-IN-WITH-X", message)], "")
        .await;
    assert_eq!(misused.error(), "sign_in_invalid");
    let revoked = app.as_wallet("DELETE", &path, "", &owner).await.json();
    assert_eq!(revoked["revokedAt"], app.clock_text(Duration::ZERO));
    let refused = upload(&app, &key, "/api/upload", picture()).await;
    assert_eq!(
        refused.verdict(),
        (401, "key_revoked".to_owned(), Some(false))
    );
    let resumed = app
        .as_wallet("POST", &format!("{path}/resume"), "", &owner)
        .await;
    assert_eq!(resumed.error(), "key_revoked");
    let again = app.as_wallet("DELETE", &path, "", &owner).await.json();
    assert_eq!(again["revokedAt"], revoked["revokedAt"]);
    // Its record is kept as long as those of images.
    app.advance(Duration::from_hours(24 * 366));
    app.app.retention.reap().await.unwrap();
    assert_eq!(app.rows("api_keys").await, 0);
    let unknown = upload(&app, &key, "/api/upload", picture()).await;
    assert_eq!(unknown.error(), "key_unknown");
}

#[tokio::test]
async fn a_key_that_is_revoked_during_an_upload_does_not_publish_it() {
    let app = TestApp::spawn().await;
    let owner = wallet(3);
    let made = make(&app, &owner, "").await;
    let key = text(&made["key"]);
    let (sender, body) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let picture = pictures::png(8, 8);
    let (head, rest) = picture.split_at(20);
    let stream = futures_util::stream::unfold(body, async |mut body| {
        body.recv().await.map(|chunk| (chunk, body))
    });
    let headers = [("authorization", format!("Bearer {key}"))];
    let stream = reqwest::Body::wrap_stream(stream);
    let upload = app.send("PUT", "/api/upload", &headers, stream);
    let revoke = async {
        sender.send(Ok(head.to_vec())).await.unwrap();
        let path = format!("/api/keys/{}", text(&made["id"]));
        assert_eq!(app.as_wallet("DELETE", &path, "", &owner).await.status, 200);
        sender.send(Ok(rest.to_vec())).await.unwrap();
        drop(sender);
    };
    let (answer, ()) = tokio::join!(upload, revoke);
    assert_eq!(answer.error(), "key_revoked");
    let public = "SELECT id FROM images WHERE state = 'live'";
    assert!(
        crate::support::database::texts(app.db(), public)
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn a_wallet_has_as_many_keys_as_the_operator_allows() {
    let app = TestApp::builder()
        .set("keys.per_wallet", "2")
        .set("keys.uploads_per_day", "5")
        .spawn()
        .await;
    let owner = wallet(3);
    for body in [
        "no json",
        r#"{"name": ""}"#,
        r#"{"name": "a\nb"}"#,
        r#"{"name": "a\u202eb"}"#,
        r#"{"name": "a\u200bb"}"#,
        r#"["n", 5]"#,
        "null",
        &format!(r#"{{"name": "{}"}}"#, "x".repeat(65)),
        r#"{"uploadsPerDay": 0}"#,
        r#"{"uploadsPerDay": 6}"#,
        &" ".repeat(5000),
    ] {
        let answer = app
            .send("POST", KEYS, &[("accept", "*/*")], body.to_owned())
            .await;
        assert_eq!(answer.error(), "invalid_body", "{body}");
    }
    let name = format!(r#"{{"name": "{}"}}"#, "é".repeat(64));
    let first = make(&app, &owner, &name).await;
    assert_eq!(first["limits"]["uploadsPerDay"], 5);
    make(&app, &owner, r#"{"uploadsPerDay": 5}"#).await;
    let over = app.as_wallet("POST", KEYS, "", &owner).await;
    assert_eq!(
        over.verdict(),
        (409, "too_many_keys".to_owned(), Some(false))
    );
    make(&app, &wallet(4), "").await;
    let path = format!("/api/keys/{}", text(&first["id"]));
    assert_eq!(app.as_wallet("DELETE", &path, "", &owner).await.status, 200);
    make(&app, &owner, "").await;
}

#[tokio::test]
async fn wrong_keys_are_unknown_and_limited_by_address() {
    let app = TestApp::builder()
        .set("limits.payments_per_address_per_minute", "20")
        .spawn()
        .await;
    let key = text(&make(&app, &wallet(3), "").await["key"]);
    let other = if key.ends_with('0') { "1" } else { "0" };
    let wrong = format!("{}{other}", &key[..47]);
    let stranger = client_from("127.0.0.7");
    let mut refusals = 0;
    for number in 0..14 {
        let request = match number % 3 {
            0 => stranger.post(app.url("/api/upload")).bearer_auth(&wrong),
            1 => stranger.put(app.url(&format!("/u/{wrong}"))),
            _ => stranger.put(app.url(&format!("/u/{wrong}x"))),
        };
        let answer = Answer::of(request.body(pictures::png(8, 8)).send().await.unwrap()).await;
        match answer.status {
            429 => refusals += 1,
            _ => assert_eq!(
                answer.verdict(),
                (401, "key_unknown".to_owned(), Some(false))
            ),
        }
    }
    assert_eq!(refusals, 4);
    assert_eq!(
        upload(&app, &key, "/api/upload", pictures::png(8, 8))
            .await
            .status,
        200
    );
    // A header that is no key is not answered with a price.
    for (value, expected) in [
        ("Basic cGl4OnRvbGw=".to_owned(), (400, "invalid_header")),
        (key.clone(), (400, "invalid_header")),
        ("Bearer garbage".to_owned(), (401, "key_unknown")),
        ("Bearer".to_owned(), (401, "key_unknown")),
    ] {
        for path in ["/api/upload", "/api/upload/year"] {
            let headers = [("authorization", value.clone())];
            let answer = app.send("POST", path, &headers, pictures::png(8, 8)).await;
            assert_eq!(
                (answer.status, answer.error().as_str()),
                expected,
                "{value}"
            );
        }
    }
}

#[tokio::test]
async fn a_key_goes_with_no_other_credential() {
    let app = TestApp::spawn().await;
    let key = text(&make(&app, &wallet(3), "").await["key"]);
    let payment = app.sign_at("/api/upload/year").await;
    let mut headers: Vec<(&str, String)> = payment.headers();
    headers.push(("authorization", format!("Bearer {key}")));
    let both = app
        .send("POST", "/api/upload/year", &headers, pictures::png(8, 8))
        .await;
    assert_eq!(
        both.verdict(),
        (400, "conflicting_credentials".to_owned(), None)
    );
    let headers = [
        ("authorization", format!("Bearer {key}")),
        ("x-upload-token", "0".repeat(40)),
    ];
    let both = app
        .send("POST", "/api/upload", &headers, pictures::png(8, 8))
        .await;
    assert_eq!(both.error(), "conflicting_credentials");
    let shown = app.get(&format!("/u/{key}")).await;
    assert_eq!(
        (shown.status, shown.error()),
        (405, "method_not_allowed".to_owned())
    );
    assert_eq!(shown.header("allow").as_deref(), Some("PUT, POST"));
    assert!(app.transfers().await.is_empty());
}

#[tokio::test]
async fn what_a_key_is_told_to_buy_is_not_told_to_others() {
    let app = TestApp::spawn().await;
    let key = text(&make(&app, &wallet(3), "").await["key"]);
    let path = "/api/upload/year";
    for _ in 0..4 {
        let asked = upload(&app, &key, path, Vec::new()).await;
        assert_eq!(asked.status, 402, "{}", asked.text());
        assert!(asked.field("message").contains("API key"));
        let plain = app.post(path).await;
        assert_eq!(plain.status, 402);
        assert!(!plain.text().contains("API key"), "{}", plain.text());
    }
}

#[tokio::test]
async fn a_revoked_key_is_neither_resumed_nor_suspended() {
    let app = TestApp::spawn().await;
    let owner = wallet(3);
    let path = format!("{KEYS}/{}", text(&make(&app, &owner, "").await["id"]));
    for _ in 0..2 {
        let revoked = app.as_wallet("DELETE", &path, "", &owner).await;
        assert_eq!(revoked.status, 200, "{}", revoked.text());
    }
    for change in ["resume", "suspend"] {
        let changed = app
            .as_wallet("POST", &format!("{path}/{change}"), "", &owner)
            .await;
        let expected = (401, "key_revoked".to_owned(), Some(false));
        assert_eq!(changed.verdict(), expected, "{change}");
    }
    assert_eq!(only_key(&app, &owner).await["suspendedAt"], Value::Null);
}

#[tokio::test]
async fn a_repeated_upload_by_key_receives_no_delete_token() {
    let app = TestApp::spawn().await;
    let key = text(&make(&app, &app.wallet, "").await["key"]);
    let link = app.sign_at("/api/links?images=3&days=1&tier=year").await;
    assert_eq!(app.pay(&link).await.status, 200);
    let path = "/api/upload?tier=year";
    let first = upload(&app, &key, path, pictures::png(8, 8)).await.json();
    assert!(first.get("deleteToken").is_some(), "{first}");
    let again = upload(&app, &key, path, pictures::png(8, 8)).await.json();
    assert_eq!(again["id"], first["id"]);
    assert_eq!(again.get("deleteToken"), None, "{again}");
    let unknown = upload(&app, &key, "/api/upload?tier=nope", pictures::png(8, 8)).await;
    let message = unknown.field("message");
    assert!(message.contains("free, year, permanent"), "{message}");
}
