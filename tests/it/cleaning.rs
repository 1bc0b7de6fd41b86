//! What is stored of an upload: the picture, and nothing of who took it where. Here it is about what
//! counts by which bytes; `scripts/check-images` has other programs look for what was left.

use pixtoll::secrets::sha256_hex;

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
    let app = TestApp::spawn().await;
    for (name, dirty, clean) in pictures::with_metadata() {
        let free = app.upload_free(dirty.clone()).await;
        is_stored_as(&app, name, &free, &clean).await;
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
async fn an_operator_may_keep_what_came() {
    let app = TestApp::builder()
        .set("images.clean", "false")
        .spawn()
        .await;
    for (name, dirty, _) in pictures::with_metadata() {
        let answer = app.upload_free(dirty.clone()).await;
        is_stored_as(&app, name, &answer, &dirty).await;
    }
}

#[tokio::test]
async fn limits_count_what_came_not_what_is_left_of_it() {
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
async fn the_same_bytes_are_the_uploaded_ones() {
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
