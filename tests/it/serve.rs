//! Free uploads, and the images that links serve.

use crate::support::{TestApp, pictures};

#[tokio::test]
async fn a_free_upload_is_served_byte_for_byte() {
    let app = TestApp::spawn().await;
    let picture = pictures::png(8, 8);
    let uploaded = app.upload_free(picture.clone()).await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    let served = app.get(&uploaded.field("url")).await;
    assert_eq!((served.status, served.bytes), (200, picture));
}

#[tokio::test]
async fn a_paid_token_uploads_once() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let token = app.pay(&payment).await.token();
    assert_eq!(app.transfers().await.len(), 1);
    let picture = pictures::png(9, 9);
    let uploaded = app.upload_with(&token, picture.clone()).await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    let again = app.upload_with(&token, picture).await;
    assert_eq!(again.field("id"), uploaded.field("id"));
    let other = app.upload_with(&token, pictures::png(10, 10)).await;
    assert_eq!(other.verdict(), (409, "token_used".to_owned(), Some(false)));
}
