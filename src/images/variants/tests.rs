use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use futures_util::future::join_all;

use super::*;
use crate::config::Variants as Settings;
use crate::db::{Db, images as image_rows, retention, variants as rows};
use crate::images::hot::Hot;
use crate::keys::secrets::{Keyring, SecretKey, sha256_hex};
use crate::model::ids::ImageId;
use crate::model::image::ImageState;
use crate::model::sidecar::Sidecar;
use crate::model::variant::{Fit, Output, Size};
use crate::model::visibility::Visibility;
use crate::pricing::tiers::Keep;
use crate::retention::variants::{SETTLED_AFTER, delete_again, delete_of};
use crate::store::Store;
use crate::system::clock::{Clock, ManualClock, Timestamp};
use crate::system::disk::{Disk, Floor};
use crate::system::random::Randomness;

const SOURCE: &[u8] = b"the bytes of an image";
const HOME: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));

fn settings() -> Settings {
    Settings {
        per_image: 4,
        timeout: Duration::from_secs(20),
        memory_bytes: 64 << 20,
    }
}

/// A deployment without HTTP.
struct World {
    images: Arc<Images>,
    limits: Arc<Limits>,
    db: Db,
    store: Store,
    clock: ManualClock,
    served: Served,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open_sqlite(&folder.path().join("db")).await.unwrap();
        db.migrate().await.unwrap();
        let store = Store::in_memory();
        let clock = ManualClock::at(Timestamp::from_seconds(1_800_000_000));
        let floor = Floor {
            disk: Disk::with_free(1 << 40),
            folder: None,
            min_free: 0,
        };
        let key = Keyring::new(SecretKey::from_bytes([1; 32]), Vec::new());
        let randomness = Randomness::seeded(1);
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let images = Images::new(
            db.clone(),
            store.clone(),
            floor,
            key,
            Arc::clone(&shared),
            randomness.clone(),
        );
        let images = Arc::new(images.kept_in(Arc::new(Hot::new(64 << 20))));
        let limits = Arc::new(Limits::new(config::Limits::default(), shared, randomness));
        let image = Image {
            id: ImageId::parse("k3v9Qw2mZr7T").unwrap(),
            state: ImageState::Pending,
            format: Format::Png,
            size_bytes: u64::try_from(SOURCE.len()).unwrap(),
            width: 2000,
            height: 1000,
            metadata: None,
            look: None,
            sha256: sha256_hex(SOURCE),
            upload_sha256: sha256_hex(SOURCE),
            tier: "free".to_owned(),
            payment_id: None,
            owner: None,
            created_at: clock.now(),
            published_at: None,
            expires_at: None,
            visibility: Visibility::Public,
            link_serial: 0,
            version: 0,
            refresh: None,
        };
        let sidecar = Sidecar::new(&image, Keep::Forever);
        let bytes = Bytes::from_static(SOURCE);
        store.put(&image.id, bytes, &sidecar).await.unwrap();
        image_rows::insert_pending(&db, &image, None).await.unwrap();
        image_rows::publish_free(&db, None, &image, clock.now(), None)
            .await
            .unwrap();
        let served = images.find_served(&image.id).await.unwrap().unwrap();
        Self {
            images,
            limits,
            db,
            store,
            clock,
            served,
            _folder: folder,
        }
    }

    fn variants(
        &self,
        settings: Settings,
        render: impl Fn(&Variant, &Stop) -> Result<Rendered, RenderError> + Send + Sync + 'static,
    ) -> Arc<Variants> {
        let renderer =
            move |_: &[u8], _: Format, variant: &Variant, stop: &Stop| render(variant, stop);
        let (images, limits) = (Arc::clone(&self.images), Arc::clone(&self.limits));
        Arc::new(Variants::new(images, limits, settings, Arc::new(renderer)))
    }

    async fn stored(&self) -> Vec<String> {
        let rows = rows::find_all(&self.db, &self.served.image.id)
            .await
            .unwrap();
        let mut names = Vec::new();
        for row in rows {
            let size = self
                .store
                .variant_size(&row.image, &row.sha256)
                .await
                .unwrap();
            assert_eq!(size, Some(row.size_bytes), "{}", row.name);
            names.push(row.name);
        }
        names
    }
}

fn wide(width: u32) -> Variant {
    Variant {
        width: Some(width),
        height: None,
        fit: Fit::ScaleDown,
        quality: None,
        output: Output::WebP,
    }
}

fn rendered(bytes: Vec<u8>) -> Rendered {
    Rendered {
        bytes,
        width: 1,
        height: 1,
        frames: 1,
    }
}

/// The bytes that these tests' renderers make of a variant.
fn bytes_of(variant: &Variant) -> Vec<u8> {
    variant.name().into_bytes()
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let patience = std::time::Instant::now() + Duration::from_mins(1);
    while std::time::Instant::now() < patience {
        if is_so().await {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{what} never happened");
}

#[tokio::test]
async fn many_requests_for_one_variant_make_and_store_it_once() {
    let world = World::new().await;
    let variants = world.variants(settings(), |variant, _| Ok(rendered(bytes_of(variant))));
    let requests = (0..500).map(|_| variants.find(&world.served, wide(9), HOME));
    for found in join_all(requests).await {
        let found = found.unwrap();
        assert_eq!(found.bytes.unwrap(), "w9.webp");
        assert_eq!(found.labels.sha256, sha256_hex(b"w9.webp"));
        assert_eq!(found.labels.content_type, "image/webp");
    }
    until("storing it", async || variants.counts().stored == 1).await;
    assert_eq!(variants.counts().made, 1);
    assert_eq!(world.stored().await, ["w9.webp"]);
    // Another server, or this one after a restart, reads it.
    let other = world.variants(settings(), |_, _| panic!("it is stored"));
    let found = other.find(&world.served, wide(9), HOME).await.unwrap();
    assert_eq!(found.bytes.unwrap(), "w9.webp");
    assert_eq!(other.counts().loaded, 1);
}

#[tokio::test]
async fn a_missing_object_is_made_again_under_its_row() {
    let world = World::new().await;
    let first = world.variants(settings(), |variant, _| Ok(rendered(bytes_of(variant))));
    first.find(&world.served, wide(9), None).await.unwrap();
    until("storing it", async || first.counts().stored == 1).await;
    let object = [(world.served.image.id.clone(), sha256_hex(b"w9.webp"))];
    world.store.delete_variants(&object).await.unwrap();
    let second = world.variants(settings(), |variant, _| Ok(rendered(bytes_of(variant))));
    let found = second.find(&world.served, wide(9), None).await.unwrap();
    assert_eq!(found.bytes.unwrap(), "w9.webp");
    until("storing it", async || second.counts().stored == 1).await;
    assert_eq!(world.stored().await, ["w9.webp"]);
}

#[tokio::test]
async fn the_queue_is_bounded_and_one_network_leaves_room_for_others() {
    let world = World::new().await;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let at_once = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let seen = Arc::clone(&at_once);
    let variants = world.variants(settings(), move |variant, _| {
        let running = seen.0.fetch_add(1, Ordering::SeqCst) + 1;
        seen.1.fetch_max(running, Ordering::SeqCst);
        // It ends when the sender is dropped.
        gate.lock().unwrap().recv().unwrap_err();
        seen.0.fetch_sub(1, Ordering::SeqCst);
        Ok(rendered(bytes_of(variant)))
    });
    let places = cores * 65 / 4;
    let further = 8;
    let mut waiting = Vec::new();
    for width in 1..=u32::try_from(places + further).unwrap() {
        let (variants, served) = (Arc::clone(&variants), world.served.clone());
        let find = async move { variants.find(&served, wide(width), HOME).await };
        waiting.push(tokio::spawn(find));
    }
    // Further variants of the network are refused once its places are taken.
    until("refusals", async || {
        let is_over = |task: &&tokio::task::JoinHandle<_>| task.is_finished();
        waiting.iter().filter(is_over).count() == further
    })
    .await;
    // Another network still has a place.
    let elsewhere = Some(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)));
    let (this, served) = (Arc::clone(&variants), world.served.clone());
    let other = tokio::spawn(async move { this.find(&served, wide(1901), elsewhere).await });
    drop(release);
    other.await.unwrap().unwrap();
    let mut refused = 0;
    for one in waiting {
        match one.await.unwrap() {
            Ok(_) => {}
            Err(VariantError::Limited(error)) if matches!(*error, Limited::Busy) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(refused, further);
    assert!(at_once.1.load(Ordering::SeqCst) <= cores);
}

#[tokio::test]
async fn a_variant_that_nobody_waits_for_is_stopped() {
    let world = World::new().await;
    let (ended, end) = tokio::sync::oneshot::channel();
    let ended = Mutex::new(Some(ended));
    let (began, start) = tokio::sync::oneshot::channel();
    let began = Mutex::new(Some(began));
    let variants = world.variants(settings(), move |_, stop| {
        if let Some(began) = began.lock().unwrap().take() {
            began.send(()).unwrap();
        }
        while !stop.is_stopped() {
            std::thread::yield_now();
        }
        if let Some(ended) = ended.lock().unwrap().take() {
            ended.send(()).unwrap();
        }
        Err(RenderError::Stopped)
    });
    let mut request = Box::pin(variants.find(&world.served, wide(9), HOME));
    tokio::select! {
        _ = &mut request => panic!("nothing makes it"),
        began = start => began.unwrap(),
    }
    drop(request);
    end.await.unwrap();
}

#[tokio::test]
async fn a_variant_that_fails_or_takes_too_long_is_not_tried_again_at_once() {
    let world = World::new().await;
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let short = Settings {
        timeout: Duration::from_millis(50),
        ..settings()
    };
    let variants = world.variants(short, move |variant, stop| {
        counted.fetch_add(1, Ordering::SeqCst);
        if variant.width == Some(1) {
            return Err(RenderError::Undecodable("of a test".to_owned()));
        }
        while !stop.is_stopped() {
            std::thread::yield_now();
        }
        Err(RenderError::Stopped)
    });
    for _ in 0..3 {
        let failed = variants.find(&world.served, wide(1), HOME).await;
        assert!(matches!(failed, Err(VariantError::Impossible(_))));
        let late = variants.find(&world.served, wide(2), HOME).await;
        assert!(matches!(late, Err(VariantError::Late(_))));
    }
    assert_eq!(tries.load(Ordering::SeqCst), 2);
    assert_eq!(variants.counts().failed, 2);
}

#[tokio::test]
async fn an_image_stores_so_many_variants_and_its_named_sizes_always() {
    let world = World::new().await;
    let variants = world.variants(settings(), |variant, _| Ok(rendered(bytes_of(variant))));
    for width in 1..=6 {
        variants
            .find(&world.served, wide(width), None)
            .await
            .unwrap();
        let key = (world.served.image.id.clone(), wide(width).name());
        until("its end", async || !variants.flights.is_open(&key)).await;
    }
    assert_eq!(
        world.stored().await,
        ["w1.webp", "w2.webp", "w3.webp", "w4.webp"]
    );
    let small = Size::Small.variant(Output::WebP);
    variants.find(&world.served, small, None).await.unwrap();
    until("storing it", async || variants.counts().stored == 5).await;
    // Variants of many bytes: half of the image's share, which is 1 MiB at least.
    let large = world.variants(
        Settings {
            per_image: 100,
            ..settings()
        },
        |variant, _| {
            let mut bytes = vec![0; 400 << 10];
            bytes.extend(bytes_of(variant));
            Ok(rendered(bytes))
        },
    );
    for width in 11..=13 {
        large.find(&world.served, wide(width), None).await.unwrap();
        let key = (world.served.image.id.clone(), wide(width).name());
        until("its end", async || !large.flights.is_open(&key)).await;
    }
    assert_eq!(large.counts().stored, 1);
}

#[tokio::test]
async fn large_variants_that_are_not_stored_share_the_memory() {
    let world = World::new().await;
    let tight = Settings {
        per_image: 0,
        timeout: Duration::from_millis(200),
        memory_bytes: 20 << 20,
    };
    let variants = world.variants(tight, |variant, _| {
        let mut bytes = vec![7; 15 << 20];
        bytes.extend(bytes_of(variant));
        Ok(rendered(bytes))
    });
    let first = variants.find(&world.served, wide(1), HOME).await.unwrap();
    let key = (world.served.image.id.clone(), wide(1).name());
    until("its end", async || !variants.flights.is_open(&key)).await;
    // The next one waits for memory until a response is sent.
    let refused = variants.find(&world.served, wide(2), HOME).await;
    assert!(matches!(refused, Err(VariantError::Limited(_))));
    drop(first);
    variants.find(&world.served, wide(3), HOME).await.unwrap();
}

#[tokio::test]
async fn the_variants_of_a_deleted_image_are_deleted_also_one_that_is_stored_late() {
    let world = World::new().await;
    let variants = world.variants(settings(), |variant, _| Ok(rendered(bytes_of(variant))));
    variants.find(&world.served, wide(1), None).await.unwrap();
    until("storing it", async || variants.counts().stored == 1).await;
    let (id, now) = (world.served.image.id.clone(), world.clock.now());
    retention::claim_for_owner(&world.db, &id, false, now)
        .await
        .unwrap();
    // No variant is stored from now on.
    variants.find(&world.served, wide(2), None).await.unwrap();
    let key = (id.clone(), wide(2).name());
    until("its end", async || !variants.flights.is_open(&key)).await;
    assert_eq!(world.stored().await, ["w1.webp"]);

    let ids = [id.clone()];
    delete_of(&world.db, &world.store, &ids, now).await.unwrap();
    let sha256 = sha256_hex(b"w1.webp");
    let size = async || world.store.variant_size(&id, &sha256).await.unwrap();
    assert_eq!(size().await, None);
    // A server that had written its row writes the object afterwards.
    let late = Bytes::from_static(b"w1.webp");
    world.store.put_variant(&id, &sha256, late).await.unwrap();
    let again = async |at| delete_again(&world.db, &world.store, at).await.unwrap();
    assert_eq!(again(now).await, 0);
    assert_eq!(again(now.plus(SETTLED_AFTER)).await, 1);
    assert_eq!(size().await, None);
    assert_eq!(again(now.plus(SETTLED_AFTER)).await, 0);
}

#[tokio::test]
async fn an_address_may_have_so_many_new_variants_made() {
    let world = World::new().await;
    let few = config::Limits {
        variants_per_address_per_minute: 2,
        ..config::Limits::default()
    };
    world.limits.change_counts(few);
    let variants = world.variants(settings(), |variant, _| Ok(rendered(bytes_of(variant))));
    for width in 1..=2 {
        variants
            .find(&world.served, wide(width), HOME)
            .await
            .unwrap();
    }
    let refused = variants.find(&world.served, wide(3), HOME).await;
    assert!(
        matches!(refused, Err(VariantError::Limited(error)) if matches!(*error, Limited::Rate { .. }))
    );
    until("storing them", async || variants.counts().stored == 2).await;
    // Stored ones don't count.
    variants.find(&world.served, wide(2), HOME).await.unwrap();
    world.clock.advance(Duration::from_mins(1));
    variants.find(&world.served, wide(3), HOME).await.unwrap();
}

#[tokio::test]
async fn ten_thousand_variants_by_64_clients_leave_nothing_behind() {
    const CLIENTS: u32 = 64;
    const EACH: u32 = 157;
    let world = World::new().await;
    world.limits.change_counts(config::Limits {
        variants_per_address_per_minute: 0,
        ..config::Limits::default()
    });
    let variants = world.variants(settings(), |variant, _| Ok(rendered(bytes_of(variant))));
    let clients = (0..CLIENTS).map(|client| {
        let (variants, served) = (&variants, &world.served);
        async move {
            let (mut made, mut refused) = (0, 0);
            for step in 0..EACH {
                let variant = Variant {
                    width: Some(client + 1),
                    height: Some(step + 1),
                    ..wide(1)
                };
                match variants.find(served, variant, HOME).await {
                    Ok(found) => {
                        assert_eq!(found.bytes.unwrap(), variant.name());
                        made += 1;
                    }
                    Err(VariantError::Limited(error)) if matches!(*error, Limited::Busy) => {
                        refused += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            (made, refused)
        }
    });
    let outcomes = join_all(clients).await;
    let (made, refused) = outcomes
        .into_iter()
        .fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    assert_eq!(made + refused, u64::from(CLIENTS * EACH));
    assert!(made > 0 && refused > 0, "{made} made, {refused} refused");
    assert_eq!(variants.counts().made, made);
    until("the end of all", async || variants.flights.is_empty()).await;
    let all = making::permits(settings().memory_bytes);
    // The store of this test is in memory, and holds what is stored.
    assert_eq!(variants.memory.available_permits(), all - 4);
    assert_eq!(world.stored().await.len(), 4);
}
