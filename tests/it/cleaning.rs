//! Cleaning: the server stores the picture without metadata. These tests show which bytes limits
//! and hashes refer to; `scripts/check-images` examines stored files with other programs.

use pixtoll::keys::secrets::sha256_hex;
use serde_json::json;

use crate::support::{Answer, TestApp, expect, pictures};

const FREE_LIMIT: usize = 1 << 20;

/// Every file below a folder.
fn files(folder: &std::path::Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(std::fs::read(&path).unwrap());
        }
    }
    found
}

async fn is_stored_as(app: &TestApp, name: &str, answer: &Answer, stored: &[u8]) {
    assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    let hash = sha256_hex(stored);
    let metadata = app
        .get(&format!("/api/images/{}", answer.field("id")))
        .await;
    for said in [answer, &metadata] {
        assert_eq!(said.json()["sizeBytes"], stored.len(), "{name}");
        assert_eq!(said.field("sha256"), hash, "{name}");
    }
    let served = app.get(&answer.field("url")).await;
    assert_eq!(served.bytes, stored, "{name}");
    assert_eq!(served.header("etag"), Some(format!("\"{hash}\"")), "{name}");
}

#[tokio::test]
async fn metadata_is_neither_served_nor_stored() {
    let app = TestApp::on_disk().await;
    for (name, dirty, clean) in pictures::with_metadata() {
        let free = app.upload_free(dirty.clone()).await;
        is_stored_as(&app, name, &free, &clean).await;
        let removed = match name {
            "PNG" => json!(["author", "trailing"]),
            "JPEG" => json!(["comment", "trailing", "other"]),
            "GIF" => json!(["comment", "trailing"]),
            _ => json!(["trailing"]),
        };
        assert_eq!(free.json()["removed"], removed, "{name}");
        assert_eq!(free.json()["metadata"], "removed", "{name}");
        let payment = app.sign_at("/api/upload/year").await;
        let paid = app.pay_with(&payment, &dirty).await;
        is_stored_as(&app, name, &paid, &clean).await;
        let token = app.pay(&app.sign_for("year").await).await.token();
        let granted = app.upload_with(&token, dirty).await;
        is_stored_as(&app, name, &granted, &clean).await;
    }
    let objects = files(&app.folder().join("images"));
    assert!(objects.len() >= 12, "the objects were not found");
    for object in objects {
        let secret = pictures::SECRET.as_bytes();
        assert!(!object.windows(secret.len()).any(|part| part == secret));
    }
}

#[tokio::test]
async fn an_operator_can_turn_cleaning_off() {
    let app = TestApp::builder()
        .set("images.clean", "false")
        .spawn()
        .await;
    let (dirty, _) = pictures::with_text();
    let answer = app.upload_free(dirty.clone()).await;
    is_stored_as(&app, "PNG", &answer, &dirty).await;
    assert_eq!(answer.json()["metadata"], "kept");
    // Bytes behind an image are not metadata.
    for (name, dirty, _) in pictures::with_metadata() {
        let refused = (400, "metadata_not_kept".to_owned(), Some(false));
        assert_eq!(app.upload_free(dirty).await.verdict(), refused, "{name}");
    }
}

#[tokio::test]
async fn limits_count_the_uploaded_bytes() {
    let app = TestApp::spawn().await;
    let at_limit = pictures::png_of_size(FREE_LIMIT);
    let answer = app.upload_free(at_limit).await;
    assert_eq!(answer.status, 200);
    assert!(answer.json()["sizeBytes"].as_u64().unwrap() < FREE_LIMIT as u64);
    let answer = app.upload_free(pictures::png_of_size(FREE_LIMIT + 1)).await;
    assert_eq!(
        answer.verdict(),
        (413, "file_too_large".to_owned(), Some(false))
    );
}

#[tokio::test]
async fn uploads_are_compared_by_the_uploaded_bytes() {
    let app = TestApp::spawn().await;
    for (name, dirty, clean) in pictures::with_metadata() {
        let token = app.pay(&app.sign_for("year").await).await.token();
        let first = app.upload_with(&token, dirty.clone()).await;
        let again = app.upload_with(&token, dirty.clone()).await;
        assert_eq!(first.field("id"), again.field("id"), "{name}");
        let other = app.upload_with(&token, clean.clone()).await;
        assert_eq!(
            other.verdict(),
            (409, "token_used".to_owned(), Some(false)),
            "{name}"
        );
        let payment = app.sign_at("/api/upload/year").await;
        let first = app.pay_with(&payment, &dirty).await;
        let again = app.pay_with(&payment, &dirty).await;
        assert_eq!(first.field("id"), again.field("id"), "{name}");
        let other = app.pay_with(&payment, &clean).await;
        assert_eq!(other.verdict(), expect::conflict(Some(true)), "{name}");
    }
}

#[tokio::test]
async fn a_check_answers_like_an_upload_and_stores_nothing() {
    let app = TestApp::spawn().await;
    let check = async |bytes: Vec<u8>| {
        let headers = [("content-type", "image/png")];
        app.send("POST", "/api/check", &headers, bytes).await
    };
    for (kind, picture, _) in pictures::with_metadata() {
        let said = check(picture.clone()).await;
        assert_eq!(said.status, 200, "{kind}: {}", said.text());
        let uploaded = app.upload_free(picture.clone()).await.json();
        let body = said.json();
        for field in [
            "contentType",
            "width",
            "height",
            "sizeBytes",
            "sha256",
            "metadata",
            "removed",
        ] {
            assert_eq!(body[field], uploaded[field], "{kind}: {field}");
        }
        assert_eq!(body["uploadBytes"], picture.len());
        assert_ne!(body["sizeBytes"], body["uploadBytes"], "{kind} was cleaned");
    }
    let accepted = |body: &serde_json::Value| -> Vec<(String, bool)> {
        let tiers = body["tiers"].as_array().unwrap().iter();
        tiers
            .map(|tier| {
                (
                    tier["name"].as_str().unwrap().to_owned(),
                    tier["accepted"].as_bool().unwrap(),
                )
            })
            .collect()
    };
    let rows = app.rows("images").await;
    let large = check(pictures::png_of_size(FREE_LIMIT + 1)).await.json();
    let verdicts = [("free", false), ("year", true), ("permanent", true)];
    assert_eq!(
        accepted(&large),
        verdicts.map(|(name, verdict)| (name.to_owned(), verdict))
    );
    assert_eq!(large["tiers"][1]["price"]["usd"], "0.01");
    let too_large = check(pictures::png_of_size(5 * 1024 * 1024 + 1)).await;
    assert_eq!(
        too_large.verdict(),
        (413, "file_too_large".to_owned(), Some(false))
    );
    let junk = check(b"<svg/>".to_vec()).await;
    assert_eq!(
        junk.verdict(),
        (415, "unsupported_format".to_owned(), Some(false))
    );
    assert_eq!(check(Vec::new()).await.status, 400);
    assert_eq!(app.rows("images").await, rows, "nothing is stored");
    assert_eq!(app.calls(), [0, 0, app.calls()[2]]);
    let limited = TestApp::builder()
        .set("limits.free_per_address_per_hour", "1")
        .spawn()
        .await;
    let send = async || {
        limited
            .send(
                "POST",
                "/api/check",
                &[("content-type", "image/png")],
                pictures::png(2, 2),
            )
            .await
    };
    assert_eq!(send().await.status, 200);
    assert_eq!(send().await.error(), "rate_limited");
}
