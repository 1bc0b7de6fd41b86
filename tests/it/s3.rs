//! A server with its images in a bucket of a real S3 server, and what happens while that can't be
//! reached.

use std::time::Duration;

use pixtoll::retention::{End, ReapError};

use crate::support::cable::Cable;
use crate::support::proxy::Fault;
use crate::support::{TestApp, pictures, store};

const YEAR: &str = "/api/upload/year";

/// A server, and the cuttable connection to its bucket.
async fn cabled() -> (TestApp, Cable) {
    let settings = store::bucket().unwrap();
    let endpoint = settings
        .iter()
        .find(|(key, _)| *key == "images.s3_endpoint");
    let cable = Cable::to(&endpoint.unwrap().1).await;
    let builder = settings
        .iter()
        .fold(TestApp::builder(), |builder, (key, value)| {
            builder.set(key, value)
        });
    let builder = builder.set("images.s3_endpoint", &cable.url);
    // Requests to a failing bucket run into this timeout.
    let builder = builder.set("images.s3_timeout", "3s");
    (builder.spawn().await, cable)
}

#[tokio::test]
async fn while_the_store_is_unreachable_nobody_is_charged() {
    let (app, cable) = cabled().await;
    let picture = pictures::png(6, 6);
    let before = app.upload_free(picture.clone()).await;
    assert_eq!(before.status, 200, "{}", before.text());
    let link = before.field("url");
    let [direct, late] = [app.sign_at(YEAR).await, app.sign_at(YEAR).await];
    let token = app.sign_for("year").await;
    cable.pull();
    app.until_ready(503, "the image store does not answer")
        .await;
    for answer in [
        app.upload_free(picture.clone()).await,
        app.pay_with(&direct, &picture).await,
        app.pay(&token).await,
    ] {
        let busy = (503, "store_unavailable".to_owned(), Some(false));
        assert_eq!(answer.verdict(), busy, "{}", answer.text());
        assert_eq!(answer.header("retry-after").unwrap(), "5");
    }
    assert_eq!(app.get(&link).await.status, 503);
    assert_eq!(app.transfers().await, []);
    assert_eq!(app.facilitator.calls("settle"), 0);
    cable.plug();
    app.until_ready(200, "").await;
    assert_eq!(app.get(&link).await.bytes, picture);
    for payment in [&direct, &late] {
        let answer = app.pay_with(payment, &picture).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(app.get(&answer.field("url")).await.bytes, picture);
    }
    let token = app.pay(&token).await.token();
    let answer = app.upload_with(&token, picture).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(app.transfers().await.len(), 3);
    app.check_ledger().await;
}

#[tokio::test]
async fn a_store_that_fails_after_verify_costs_nothing() {
    let (app, cable) = cabled().await;
    let picture = pictures::png(6, 6);
    let payment = app.sign_at(YEAR).await;
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    app.facilitator
        .next("verify", Fault::Held(std::sync::Arc::clone(&gate)));
    let upload = app.pay_with(&payment, &picture);
    let meanwhile = async {
        app.facilitator.reached("verify", 1).await;
        cable.pull();
        gate.notify_one();
    };
    let (answer, ()) = tokio::join!(upload, meanwhile);
    let busy = (503, "store_unavailable".to_owned(), Some(false));
    assert_eq!(answer.verdict(), busy, "{}", answer.text());
    assert_eq!(app.facilitator.calls("settle"), 0);
    cable.plug();
    app.until_ready(200, "").await;
    let answer = app.pay_with(&payment, &picture).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(app.transfers().await.len(), 1);
    app.check_ledger().await;
}

#[tokio::test]
async fn the_reaper_retries_images_that_it_could_not_delete() {
    let (app, cable) = cabled().await;
    let mut links = Vec::new();
    for seed in 0..5 {
        let answer = app.upload_free(pictures::png_seeded(6, 6, seed)).await;
        links.push(answer.field("url"));
    }
    app.advance(Duration::from_secs(8 * 24 * 3600));
    cable.pull();
    let refused = app.app.retention.reap().await.unwrap_err();
    assert!(matches!(refused, ReapError::Unmarked(_)), "{refused}");
    assert_eq!(app.get(&links[0]).await.status, 404);
    cable.plug();
    app.advance(Duration::from_secs(3600));
    let reaped = app.app.retention.reap().await.unwrap();
    assert_eq!((reaped.end, reaped.images), (End::Done, 5));
}
