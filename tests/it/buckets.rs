//! Buckets that are set up wrongly or fail, and the requests that a bucket receives.

use std::sync::Arc;

use actix_web::http::Method;
use bytes::Bytes;
use pixtoll::app::{App, World};
use pixtoll::config::{Sources, load};
use pixtoll::model::ids::ImageId;
use pixtoll::model::image::{Format, Image, ImageState};
use pixtoll::model::sidecar::Sidecar;
use pixtoll::model::visibility::Visibility;
use pixtoll::pricing::tiers::Keep;
use pixtoll::store::{Store, StoreError, Unfit};
use pixtoll::system::clock::{SystemClock, Timestamp};
use pixtoll::system::disk::Disk;
use pixtoll::system::random::Randomness;

use crate::support::bucket::{Bucket, Manners};
use crate::support::process::PATIENCE;
use crate::support::store::{self, Settings};
use crate::support::{TestApp, install_tls, pictures};

fn id(number: u64) -> ImageId {
    ImageId::draw(&Randomness::seeded(number))
}

async fn put(store: &Store, id: &ImageId) -> Result<(), StoreError> {
    let image = Image {
        id: id.clone(),
        state: ImageState::Pending,
        format: Format::Png,
        size_bytes: 7,
        width: 1,
        height: 1,
        metadata: None,
        look: None,
        sha256: String::new(),
        upload_sha256: String::new(),
        tier: "free".to_owned(),
        payment_id: None,
        owner: None,
        created_at: Timestamp::from_seconds(0),
        published_at: None,
        expires_at: None,
        visibility: Visibility::Public,
        link_serial: 0,
        version: 0,
        refresh: None,
    };
    let sidecar = Sidecar::new(&image, Keep::Forever);
    store
        .put(id, Bytes::from_static(b"picture"), &sidecar)
        .await
}

/// Runs the part of a server's start before it listens.
async fn start(settings: &Settings) -> anyhow::Result<App> {
    install_tls();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pixtoll.toml");
    std::fs::write(&file, "").unwrap();
    let database = format!("sqlite:{}", folder.path().join("pixtoll.db").display());
    let env = settings.iter().cloned().chain([("database.url", database)]);
    let env = env.map(|(key, value)| {
        let name = format!("PIXTOLL_{}", key.to_uppercase().replace('.', "__"));
        (name, value)
    });
    let sources = Sources {
        file: Some(file),
        sandbox: false,
        env: env.collect(),
    };
    let config = load(&sources).unwrap_or_else(|problems| panic!("{problems}"));
    let world = World {
        clock: Arc::new(SystemClock),
        randomness: Randomness::seeded(1),
        disk: Disk::with_free(1 << 40),
    };
    App::build(config.config, world).await
}

#[tokio::test]
async fn a_public_bucket_is_rejected_at_start() {
    let private = Manners::default();
    for (manners, said) in [
        (
            Manners {
                shows_objects: true,
                ..private
            },
            "anybody can read the objects of the bucket pictures",
        ),
        (
            Manners {
                shows_list: true,
                ..private
            },
            "anybody can list the bucket pictures",
        ),
    ] {
        let bucket = Bucket::with(manners);
        let error = start(&bucket.settings()).await.unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains(said) && error.contains("make the bucket private"),
            "{error}"
        );
        // Nothing is left in the bucket, not even the mark of the database.
        assert_eq!(bucket.keys(), [""; 0]);
        bucket.behave(private);
        start(&bucket.settings()).await.unwrap();
        assert_eq!(bucket.keys(), ["some/database.json"]);
    }
}

#[tokio::test]
async fn a_missing_or_forbidden_bucket_is_rejected_at_start_with_instructions() {
    for (status, said) in [
        (
            404,
            "there is no bucket pictures: create it, or correct images.store",
        ),
        (
            403,
            "its keys need GetObject, PutObject, DeleteObject and ListBucket",
        ),
    ] {
        let bucket = Bucket::with(Manners {
            refuses: Some(status),
            ..Manners::default()
        });
        let error = start(&bucket.settings()).await.unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains(said), "{error}");
        assert!(!error.contains("not a secret"), "{error}");
    }
}

#[tokio::test]
async fn a_server_starts_without_its_bucket_and_stores_nothing_unchecked() {
    let bucket = Bucket::with(Manners {
        refuses: Some(500),
        ..Manners::default()
    });
    let builder = bucket
        .settings()
        .iter()
        .fold(TestApp::builder(), |builder, (key, value)| {
            builder.set(key, value)
        });
    // Requests to a failing bucket run into this timeout.
    let app = builder.set("images.s3_timeout", "3s").spawn().await;
    let refused = app.upload_free(pictures::png(4, 4)).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.json()["error"], "store_unavailable");
    assert_eq!(refused.json()["charged"], false);
    // The bucket answers again, and is public.
    bucket.behave(Manners {
        shows_objects: true,
        ..Manners::default()
    });
    app.until_ready(503, "the image store does not answer")
        .await;
    assert_eq!(app.upload_free(pictures::png(4, 4)).await.status, 503);
    bucket.behave(Manners::default());
    app.until_ready(200, "").await;
    let answer = app.upload_free(pictures::png(4, 4)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn requests_to_a_failing_store_are_retried_until_a_deadline() {
    let bucket = Bucket::with(Manners::default());
    let mut settings = bucket.settings();
    settings.push(("images.s3_timeout", "2s".to_owned()));
    let store = store::open(&settings);
    assert!(matches!(
        put(&store, &id(1)).await,
        Err(StoreError::Unchecked(_))
    ));
    store.check("one").await.unwrap();
    bucket.answer_next(&[503, 500]);
    put(&store, &id(1)).await.unwrap();
    assert_eq!(bucket.keys().len(), 2);
    bucket.behave(Manners {
        is_silent: true,
        ..Manners::default()
    });
    let started = std::time::Instant::now();
    let error = put(&store, &id(2)).await.unwrap_err();
    assert!(error.is_passing(), "{error}");
    assert!(matches!(store.check("two").await, Err(Unfit::Unknown(_))));
    let deleted = store.delete_many(&[id(1)]).await;
    assert_eq!((deleted.gone.len(), deleted.left.len()), (0, 1));
    assert!(deleted.failure.unwrap().is_passing());
    assert!(started.elapsed() < PATIENCE);
}

#[tokio::test]
async fn encryption_and_checksums_are_requested_as_configured() {
    let bucket = Bucket::with(Manners::default());
    let none = "none";
    for (set, kind, key) in [
        ("default", none, none),
        ("AES256", "AES256", none),
        ("aws:kms", "aws:kms", none),
        ("aws:kms:arn:1", "aws:kms", "arn:1"),
    ] {
        for has_checksum in [true, false] {
            let mut settings = bucket.settings();
            settings.push(("images.s3_encryption", set.to_owned()));
            settings.push(("images.s3_checksum", has_checksum.to_string()));
            let store = store::open(&settings);
            store.check("one").await.unwrap();
            put(&store, &id(1)).await.unwrap();
            let puts: Vec<_> = bucket
                .asked()
                .into_iter()
                .filter(|asked| asked.method == Method::PUT)
                .collect();
            // The probe, the object and its sidecar.
            assert_eq!(puts.len(), 3);
            for asked in puts {
                let header = |name: &str| asked.headers.get(name).map_or(none, String::as_str);
                assert_eq!(header("x-amz-server-side-encryption"), kind, "{set}");
                let id = "x-amz-server-side-encryption-aws-kms-key-id";
                assert_eq!(header(id), key, "{set}");
                let sum = asked.headers.get("x-amz-checksum-sha256");
                assert_eq!(sum.is_some(), has_checksum);
                assert!(asked.path.starts_with("/pictures/some/"), "{}", asked.path);
            }
        }
    }
}

#[tokio::test]
async fn images_are_deleted_in_bulk_where_the_store_supports_it() {
    let bucket = Bucket::with(Manners::default());
    let ids: Vec<ImageId> = (0..20).map(id).collect();
    for (has_bulk, method, requests) in [(true, Method::POST, 1), (false, Method::DELETE, 40)] {
        let mut settings = bucket.settings();
        settings.push(("images.s3_bulk_delete", has_bulk.to_string()));
        let store = store::open(&settings);
        store.check("one").await.unwrap();
        for id in &ids {
            put(&store, id).await.unwrap();
        }
        bucket.asked();
        let deleted = store.delete_many(&ids).await;
        assert_eq!(deleted.gone, ids);
        let asked = bucket.asked();
        assert!(asked.iter().all(|asked| asked.method == method));
        assert_eq!(asked.len(), requests);
        assert_eq!(asked[0].query.starts_with("delete"), has_bulk);
        assert_eq!(bucket.keys(), [""; 0]);
    }
}

#[tokio::test]
async fn images_that_a_bulk_delete_did_not_delete_stay_due() {
    let bucket = Bucket::with(Manners::default());
    let store = store::open(&bucket.settings());
    store.check("one").await.unwrap();
    let ids: Vec<ImageId> = (0..5).map(id).collect();
    for id in &ids {
        put(&store, id).await.unwrap();
    }
    let stuck = bucket
        .keys()
        .into_iter()
        .find(|key| key.ends_with(&format!("{}.json", ids[2])));
    bucket.hold(&stuck.unwrap());
    let deleted = store.delete_many(&ids).await;
    assert_eq!(deleted.left, [ids[2].clone()]);
    assert_eq!(deleted.gone.len(), 4);
    assert!(deleted.failure.unwrap().to_string().contains("stuck"));
}

#[tokio::test]
async fn a_missing_bucket_does_not_count_as_deleted_images() {
    for has_bulk in [true, false] {
        let bucket = Bucket::with(Manners::default());
        let mut settings = bucket.settings();
        settings.push(("images.s3_bulk_delete", has_bulk.to_string()));
        let store = store::open(&settings);
        store.check("one").await.unwrap();
        put(&store, &id(1)).await.unwrap();
        bucket.behave(Manners {
            refuses: Some(404),
            ..Manners::default()
        });
        let deleted = store.delete_many(&[id(1)]).await;
        assert_eq!((deleted.gone.len(), deleted.left.len()), (0, 1));
        assert!(deleted.failure.is_some());
        store.delete(&id(1)).await.unwrap_err();
        bucket.behave(Manners::default());
        store.delete(&id(1)).await.unwrap();
        assert_eq!(bucket.keys(), [""; 0]);
    }
}
