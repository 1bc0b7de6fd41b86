//! Guarantees of every store: memory, a local directory and, with the feature `test-s3`, a real S3
//! server.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use pixtoll::model::ids::ImageId;
use pixtoll::model::image::{Format, Image, ImageState};
use pixtoll::model::mark::Mark;
use pixtoll::model::sidecar::Sidecar;
use pixtoll::model::visibility::Visibility;
use pixtoll::pricing::tiers::Keep;
use pixtoll::store::{Listed, Store};
use pixtoll::system::clock::Timestamp;
use pixtoll::system::random::Randomness;

use crate::support::store;

/// Each store, empty, with its name.
async fn stores(folder: &tempfile::TempDir) -> Vec<(&'static str, Store)> {
    let mut stores = vec![
        ("memory", Store::in_memory()),
        ("local", Store::open_local(folder.path()).unwrap()),
    ];
    if let Some(settings) = store::bucket() {
        stores.push(("s3", store::open(&settings)));
    }
    for (name, store) in &stores {
        store
            .check("contract")
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    stores
}

fn id(number: u64) -> ImageId {
    ImageId::draw(&Randomness::seeded(number))
}

fn sidecar(id: &ImageId, tier: &str) -> Sidecar {
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
        tier: tier.to_owned(),
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
    Sidecar::new(&image, Keep::Forever)
}

async fn put(store: &Store, id: &ImageId, bytes: impl Into<Bytes>) {
    let sidecar = sidecar(id, "free");
    store.put(id, bytes.into(), &sidecar).await.unwrap();
}

async fn read(store: &Store, id: &ImageId, part: Range<u64>) -> Vec<u8> {
    let mut object = store.open(id, 0, part).await.unwrap().unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = object.next().await.unwrap() {
        bytes.extend(piece);
    }
    bytes
}

async fn listed(store: &Store) -> Vec<String> {
    let mut listing = store.list();
    let mut found = Vec::new();
    while let Some(object) = listing.next().await {
        found.push(match object.unwrap() {
            Listed::Image(id) => id.to_string(),
            Listed::Sidecar(id) => format!("{id}.json"),
            Listed::Foreign(key) => panic!("{key}"),
            Listed::Content(id, version) => format!("{id}.v{version}"),
            Listed::Variant(id, digits) => panic!("{id}.{digits}"),
        });
    }
    found.sort();
    found
}

#[tokio::test]
async fn an_object_is_stored_found_and_deleted_and_can_be_deleted_twice() {
    let folder = tempfile::tempdir().unwrap();
    for (name, store) in stores(&folder).await {
        let id = id(1);
        assert!(store.open(&id, 0, 0..7).await.unwrap().is_none(), "{name}");
        assert_eq!(store.size(&id, 0).await.unwrap(), None, "{name}");
        put(&store, &id, "picture").await;
        assert_eq!(read(&store, &id, 0..7).await, b"picture", "{name}");
        assert_eq!(store.size(&id, 0).await.unwrap(), Some(7), "{name}");
        assert!(store.is_there(&id).await.unwrap(), "{name}");
        for _ in 0..2 {
            store.delete(&id).await.unwrap();
            assert!(store.open(&id, 0, 0..7).await.unwrap().is_none(), "{name}");
            assert!(!store.is_there(&id).await.unwrap(), "{name}");
        }
        store.ping().await.unwrap();
        assert_eq!(listed(&store).await, [""; 0], "{name}");
    }
}

#[tokio::test]
async fn a_sidecar_is_written_with_its_object_rewritten_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    for (name, store) in stores(&folder).await {
        let id = id(1);
        let (free, year) = (sidecar(&id, "free"), sidecar(&id, "year"));
        assert!(!store.is_described(&id, &free).await.unwrap(), "{name}");
        put(&store, &id, "picture").await;
        assert!(store.is_described(&id, &free).await.unwrap(), "{name}");
        store.describe(&id, &year).await.unwrap();
        assert!(store.is_described(&id, &year).await.unwrap(), "{name}");
        assert!(!store.is_described(&id, &free).await.unwrap(), "{name}");
        assert_eq!(
            listed(&store).await,
            [id.to_string(), format!("{id}.json")],
            "{name}"
        );
    }
}

#[tokio::test]
async fn each_content_of_an_image_has_an_object_and_is_deleted_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    for (name, store) in stores(&folder).await {
        let (id, other) = (id(1), id(2));
        put(&store, &id, "picture").await;
        put(&store, &other, "other").await;
        for (version, bytes) in [(1, "first"), (12, "twelfth")] {
            let bytes = Bytes::from_static(bytes.as_bytes());
            store.put_content(&id, version, bytes).await.unwrap();
        }
        let mut object = store.open(&id, 12, 0..7).await.unwrap().unwrap();
        assert_eq!(object.next().await.unwrap().unwrap(), "twelfth", "{name}");
        assert_eq!(store.size(&id, 1).await.unwrap(), Some(5), "{name}");
        assert_eq!(store.size(&id, 2).await.unwrap(), None, "{name}");
        let others = [other.to_string(), format!("{other}.json")];
        let with_others = |ends: &[&str]| {
            let own = ends.iter().map(|end| format!("{id}{end}"));
            let all: BTreeSet<String> = own.chain(others.clone()).collect();
            all.into_iter().collect::<Vec<_>>()
        };
        let all = with_others(&["", ".json", ".v1", ".v12"]);
        assert_eq!(listed(&store).await, all, "{name}");
        // Numbers that have no object count as deleted.
        let gone: Vec<_> = (0..12).map(|version| (id.clone(), version)).collect();
        store.delete_contents(&gone).await.unwrap();
        let left = with_others(&[".json", ".v12"]);
        assert_eq!(listed(&store).await, left, "{name}");
        assert_eq!(store.seal(&id, 12).await.unwrap(), Some(7), "{name}");
        assert_eq!(listed(&store).await, others, "{name}");
        assert!(store.copy_from_seal(&id, 12).await.unwrap(), "{name}");
        assert_eq!(listed(&store).await, left, "{name}");
    }
}

#[tokio::test]
async fn parts_of_an_object_are_read_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..=250).cycle().take(3_000_000).collect();
    for (name, store) in stores(&folder).await {
        let id = id(1);
        put(&store, &id, bytes.clone()).await;
        for part in [0..3_000_000, 0..1, 2_999_999..3_000_000, 65_535..131_073] {
            let place = usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap();
            assert!(read(&store, &id, part).await == bytes[place], "{name}");
        }
        assert!(store.open(&id, 0, 3_000_000..3_000_001).await.is_err());
        let mut object = store.open(&id, 0, 0..3_000_000).await.unwrap().unwrap();
        assert_eq!(object.size(), 3_000_000, "{name}");
        let first = object.next().await.unwrap().unwrap();
        assert!(first.len() <= 65_536, "{name}");
    }
}

#[tokio::test]
async fn a_large_bulk_delete_removes_exactly_its_images_and_their_sidecars() {
    let folder = tempfile::tempdir().unwrap();
    for (name, store) in stores(&folder).await {
        let ids: Vec<ImageId> = (0..520).map(id).collect();
        for some in ids.chunks(32) {
            join_all(some.iter().map(|id| put(&store, id, "picture"))).await;
        }
        let (last, others) = ids.split_last().unwrap();
        store.delete(&others[3]).await.unwrap();
        let deleted = store.delete_many(others).await;
        assert!(deleted.failure.is_none(), "{name}: {:?}", deleted.failure);
        assert_eq!(deleted.gone, others, "{name}");
        assert!(deleted.left.is_empty(), "{name}");
        assert_eq!(
            listed(&store).await,
            [last.to_string(), format!("{last}.json")],
            "{name}"
        );
    }
}

#[tokio::test]
async fn quarantined_objects_are_not_served_and_are_purged_later() {
    let folder = tempfile::tempdir().unwrap();
    for (name, store) in stores(&folder).await {
        let (one, other) = (id(1), id(2));
        let day = |number: i64| Timestamp::from_seconds(number * 86_400);
        put(&store, &one, "picture").await;
        put(&store, &other, "picture").await;
        store.quarantine(&one, 0, day(1)).await.unwrap();
        store.quarantine(&other, 0, day(9)).await.unwrap();
        store.quarantine(&id(3), 0, day(9)).await.unwrap();
        assert_eq!(listed(&store).await, [""; 0], "{name}");
        assert!(!store.is_there(&one).await.unwrap(), "{name}");
        assert_eq!(store.purge_quarantine(day(1)).await.unwrap(), 0, "{name}");
        assert_eq!(store.purge_quarantine(day(2)).await.unwrap(), 2, "{name}");
        assert_eq!(store.purge_quarantine(day(99)).await.unwrap(), 2, "{name}");
    }
}

#[tokio::test]
async fn the_mark_of_the_database_is_replaced_and_is_not_an_image() {
    let folder = tempfile::tempdir().unwrap();
    for (name, store) in stores(&folder).await {
        assert_eq!(store.find_mark().await.unwrap(), None, "{name}");
        for epoch in [3, 4] {
            let mark = Mark {
                database: "ab".repeat(16),
                epoch,
            };
            store.put_mark(&mark).await.unwrap();
            assert_eq!(store.find_mark().await.unwrap(), Some(mark), "{name}");
        }
        assert_eq!(listed(&store).await, [""; 0], "{name}");
    }
}
