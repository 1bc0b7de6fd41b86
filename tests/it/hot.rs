//! The cache of images: it returns the same responses as the store, and never an image that is not
//! public any more. A test knows that an image is cached if it is served although its object was
//! moved away.

use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::database::execute;
use crate::support::process::eventually;
use crate::support::{Answer, TestApp, pictures};

/// How long another server may still serve an image that was withdrawn.
pub(crate) const SOON: Duration = Duration::from_secs(2);

/// Keeps the list of withdrawn images up to date until the returned set is dropped.
pub(crate) async fn remembering(app: &pixtoll::app::App) -> JoinSet<()> {
    let mut watch = JoinSet::new();
    watch.spawn(Arc::clone(&app.images).watch_withdrawals());
    eventually("images are served from the cache", async || {
        app.images.serves_from_memory().then_some(())
    })
    .await;
    watch
}

/// The path of an image's object.
pub(crate) fn object_of(app: &TestApp, id: &str) -> PathBuf {
    let images = app.folder().join("images/images");
    images.join(&id[..1]).join(&id[1..2]).join(id)
}

/// Moves the object of an image away, so that only a cache can serve it.
pub(crate) fn take_away(object: &Path) {
    std::fs::rename(object, object.with_extension("away")).unwrap();
}

async fn ask(app: &TestApp, method: &str, url: &str, headers: &[(&str, &str)]) -> Answer {
    app.send(method, url, headers, Vec::new()).await
}

/// Waits until the link returns 404, which must happen within [`SOON`].
pub(crate) async fn dies_soon(app: &TestApp, url: &str) {
    let start = Instant::now();
    loop {
        // The time of the request counts, because the response may be late.
        let asked = start.elapsed();
        if app.get(url).await.status == 404 {
            return;
        }
        assert!(asked < SOON, "{url} is still served");
        tokio::task::yield_now().await;
    }
}

/// Waits for a response that only the cache can give, with the object moved away. If a slow query
/// of withdrawals cleared the cache meanwhile, puts the object back and tries again.
pub(crate) async fn from_memory(
    app: &TestApp,
    object: &Path,
    links: &[String],
    ask: impl AsyncFn() -> Answer,
) -> Answer {
    let away = object.with_extension("away");
    eventually("a response from the cache", async || {
        if away.exists() {
            std::fs::rename(&away, object).unwrap();
        }
        for link in links {
            assert_eq!(app.get(link).await.status, 200);
        }
        take_away(object);
        let answer = ask().await;
        (answer.status != 404).then_some(answer)
    })
    .await
}

#[tokio::test]
async fn the_cache_and_the_store_give_the_same_responses() {
    let app = TestApp::on_disk().await;
    let image = app.upload_free(pictures::png(40, 40)).await;
    let url = image.field("url");
    let etag = format!("\"{}\"", image.field("sha256"));
    let size = image.json()["sizeBytes"].as_u64().unwrap();
    let past_the_end = format!("bytes={size}-");
    let questions: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("GET", vec![]),
        ("HEAD", vec![]),
        ("GET", vec![("range", "bytes=5-20")]),
        ("GET", vec![("range", "bytes=-7")]),
        ("GET", vec![("range", &past_the_end)]),
        ("GET", vec![("if-none-match", &etag)]),
        ("GET", vec![("if-match", "\"another\"")]),
        ("GET", vec![("range", "bytes=0-0"), ("if-range", &etag)]),
    ];
    let mut cold = Vec::new();
    for (method, headers) in &questions {
        cold.push(ask(&app, method, &url, headers).await);
    }
    let _watch = remembering(&app.app).await;
    let object = object_of(&app, &image.field("id"));
    for ((method, headers), cold) in questions.iter().zip(cold) {
        let ask = async || ask(&app, method, &url, headers).await;
        let hot = from_memory(&app, &object, from_ref(&url), ask).await;
        assert_eq!(
            (hot.status, &hot.bytes),
            (cold.status, &cold.bytes),
            "{method} {headers:?}"
        );
        let lasting = |answer: &Answer| {
            let mut headers = answer.headers.clone();
            headers.remove("date");
            headers.remove("x-request-id");
            headers
        };
        assert_eq!(lasting(&hot), lasting(&cold), "{method} {headers:?}");
    }
}

#[tokio::test]
async fn a_cached_image_expires_in_time_and_can_be_renewed() {
    let app = TestApp::on_disk().await;
    let _watch = remembering(&app.app).await;
    let image = app.upload_free(pictures::png(4, 4)).await;
    let (url, id) = (image.field("url"), image.field("id"));
    let week = Duration::from_hours(7 * 24);
    assert_eq!(app.get(&url).await.status, 200);
    app.advance(week.saturating_sub(Duration::from_millis(1)));
    let last = app.get(&url).await;
    assert_eq!(last.header("cache-control").unwrap(), "public, max-age=0");
    app.advance(Duration::from_millis(1));
    assert_eq!(app.get(&url).await.status, 404);
    // The expiry moves without a notification to the cache.
    let later = format!("UPDATE images SET expires_ms = expires_ms + 60000 WHERE id = '{id}'");
    execute(app.db(), &later).await;
    assert_eq!(app.get(&url).await.status, 200);
}

#[tokio::test]
async fn a_deleted_image_is_not_found_at_once() {
    let app = TestApp::on_disk().await;
    let _watch = remembering(&app.app).await;
    let image = app.upload_free(pictures::png(4, 4)).await;
    let url = image.field("url");
    assert_eq!(app.get(&url).await.status, 200);
    let token = image.field("deleteToken");
    let path = format!("/api/images/{}", image.field("id"));
    let deleted = app
        .send("DELETE", &path, &[("x-delete-token", &*token)], "")
        .await;
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    assert_eq!(app.get(&url).await.status, 404);
}

#[tokio::test]
async fn withdrawals_by_other_processes_apply_within_two_seconds() {
    let app = TestApp::on_disk().await;
    let _watch = remembering(&app.app).await;
    for (withdraw, restore) in [
        (
            "UPDATE images SET state = 'discarded'",
            "UPDATE images SET state = 'live'",
        ),
        (
            "UPDATE images SET expires_ms = 5",
            "UPDATE images SET expires_ms = 9000000000000",
        ),
    ] {
        let payment = app.sign_at("/api/upload/year").await;
        let image = app.pay_with(&payment, &pictures::png(4, 4)).await;
        let (url, id) = (image.field("url"), image.field("id"));
        let object = object_of(&app, &id);
        from_memory(&app, &object, from_ref(&url), async || app.get(&url).await).await;
        execute(app.db(), withdraw).await;
        dies_soon(&app, &url).await;
        execute(app.db(), restore).await;
        std::fs::rename(object.with_extension("away"), object).unwrap();
        assert_eq!(app.get(&url).await.status, 200, "{withdraw}");
    }
}

#[tokio::test]
async fn nothing_is_served_from_the_cache_without_the_withdrawals() {
    let app = TestApp::on_disk().await;
    let image = app.upload_free(pictures::png(4, 4)).await;
    let url = image.field("url");
    let watch = remembering(&app.app).await;
    let object = object_of(&app, &image.field("id"));
    from_memory(&app, &object, from_ref(&url), async || app.get(&url).await).await;
    drop(watch);
    dies_soon(&app, &url).await;
    // The old content of the cache is not used either: images may have been withdrawn meanwhile.
    let _watch = remembering(&app.app).await;
    assert_eq!(app.get(&url).await.status, 404);
}

#[tokio::test]
async fn an_image_of_many_slices_is_served_whole_from_the_cache() {
    let app = TestApp::on_disk().await;
    let _watch = remembering(&app.app).await;
    let image = app.upload_free(pictures::png_of_size(900_000)).await;
    let url = image.field("url");
    let stored = app.get(&url).await;
    let object = object_of(&app, &image.field("id"));
    let ask = async || app.get(&url).await;
    let cached = from_memory(&app, &object, from_ref(&url), ask).await;
    assert_eq!(cached.bytes, stored.bytes);
    assert_eq!(
        u64::try_from(cached.bytes.len()).ok(),
        image.json()["sizeBytes"].as_u64()
    );
}

#[tokio::test]
async fn large_images_and_a_cache_of_0_bytes_are_not_cached() {
    let app = TestApp::on_disk().await;
    let _watch = remembering(&app.app).await;
    let payment = app.sign_at("/api/upload/year").await;
    let large = app
        .pay_with(&payment, &pictures::png_of_size(3_000_000))
        .await;
    assert!(
        large.json()["sizeBytes"].as_u64().unwrap() > 2 << 20,
        "{}",
        large.text()
    );
    assert_eq!(app.get(&large.field("url")).await.status, 200);
    take_away(&object_of(&app, &large.field("id")));
    assert_eq!(app.get(&large.field("url")).await.status, 404);

    let off = TestApp::builder()
        .on_disk()
        .set("images.cache_bytes", "0")
        .spawn()
        .await;
    let _jobs = off.app.start_jobs();
    let image = off.upload_free(pictures::png(4, 4)).await;
    assert_eq!(off.get(&image.field("url")).await.status, 200);
    take_away(&object_of(&off, &image.field("id")));
    assert_eq!(off.get(&image.field("url")).await.status, 404);
    assert!(!off.app.images.serves_from_memory());
}
