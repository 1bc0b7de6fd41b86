//! Tests that need internals of the store: files beside objects, and file names that libraries
//! choose.

use super::keys::file;
use super::*;
use crate::config::{Addressing, Encryption, S3Credentials, S3Key};
use crate::model::image::{Format, Image, ImageState};
use crate::model::visibility::Visibility;
use crate::pricing::tiers::Keep;
use crate::system::random::Randomness;

#[tokio::test]
async fn drafts_of_a_stopped_writer_are_deleted_and_images_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_local(folder.path()).unwrap();
    let id = ImageId::draw(&Randomness::seeded(1));
    store
        .put(&id, Bytes::from_static(b"picture"), &sidecar(&id))
        .await
        .unwrap();
    let root: Arc<Path> = Arc::from(folder.path());
    let drafts = ["#1", ".json#0"].map(|end| root.join(format!("{}{end}", key(&id))));
    for draft in &drafts {
        std::fs::write(draft, b"pict").unwrap();
    }
    store
        .delete_drafts(&[id.clone(), id.clone()])
        .await
        .unwrap();
    assert!(drafts.iter().all(|draft| !draft.exists()));
    assert!(file(&root, &id).exists() && sidecar_file(&root, &id).exists());
}

/// `object_store` chooses the name of a draft. If the name changed, drafts would never be deleted.
#[tokio::test]
async fn a_draft_of_object_store_has_the_name_that_pixtoll_deletes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_local(folder.path()).unwrap();
    let id = ImageId::draw(&Randomness::seeded(1));
    let mut upload = store.objects.put_multipart(&key(&id)).await.unwrap();
    upload
        .put_part(PutPayload::from_static(b"pict"))
        .await
        .unwrap();
    let draft = folder.path().join(format!("{}#1", key(&id)));
    assert!(draft.exists());
    store
        .delete_drafts(std::slice::from_ref(&id))
        .await
        .unwrap();
    assert!(!draft.exists());
}

#[tokio::test]
async fn a_batch_is_deleted_with_its_sidecars_except_failures() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_local(folder.path()).unwrap();
    let randomness = Randomness::seeded(1);
    let ids: Vec<ImageId> = (0..300).map(|_| ImageId::draw(&randomness)).collect();
    for id in &ids {
        store
            .put(id, Bytes::from_static(b"picture"), &sidecar(id))
            .await
            .unwrap();
    }
    // A folder in a file's place makes its delete fail.
    let root: Arc<Path> = Arc::from(folder.path());
    std::fs::remove_file(file(&root, &ids[7])).unwrap();
    std::fs::remove_file(sidecar_file(&root, &ids[8])).unwrap();
    std::fs::create_dir(sidecar_file(&root, &ids[8])).unwrap();
    let deleted = store.delete_many(&ids[..299]).await;
    assert_eq!((deleted.gone.len(), deleted.missing), (298, 1));
    assert_eq!(deleted.left, [ids[8].clone()]);
    assert!(deleted.failure.is_some());
    assert!(store.is_there(&ids[299]).await.unwrap());
    let mut left = Vec::new();
    let mut listed = store.list();
    while let Some(object) = listed.next().await {
        left.push(object.unwrap());
    }
    let last = ids[299].clone();
    left.sort_by_key(|object| matches!(object, Listed::Sidecar(_)));
    assert_eq!(left, [Listed::Image(last.clone()), Listed::Sidecar(last)]);
}

fn sidecar(id: &ImageId) -> Sidecar {
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
    Sidecar::new(&image, Keep::Forever)
}

#[tokio::test]
async fn an_object_that_is_deleted_while_it_is_read_stays_readable() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open_local(folder.path()).unwrap();
    let id = ImageId::draw(&Randomness::seeded(1));
    let bytes = vec![7; 200_000];
    store.put(&id, bytes.into(), &sidecar(&id)).await.unwrap();
    let mut object = store.open(&id, 0, 0..200_000).await.unwrap().unwrap();
    let mut length = object.next().await.unwrap().unwrap().len();
    store.delete(&id).await.unwrap();
    while let Some(piece) = object.next().await.unwrap() {
        length += piece.len();
    }
    assert_eq!(length, 200_000);
}

#[test]
fn ids_that_differ_only_in_case_have_different_keys() {
    let upper = ImageId::parse("ABcdefghijkl").unwrap();
    let lower = ImageId::parse("abcdefghijkl").unwrap();
    assert_ne!(key(&upper), key(&lower));
}

/// The addresses at which the object and the listings are requested without a key, for each way to
/// address the bucket.
#[tokio::test]
async fn the_public_access_check_uses_the_addresses_of_the_bucket() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let settings = |endpoint: Option<&str>, addressing| S3Store {
        bucket: "pictures".to_owned(),
        prefix: "a/b".to_owned(),
        region: "eu-west-1".to_owned(),
        endpoint: endpoint.map(str::to_owned),
        addressing,
        credentials: S3Credentials::Key(S3Key {
            id: "GK1".to_owned(),
            secret: "not a secret".to_owned(),
            session_token: None,
        }),
        encryption: Encryption::Default,
        checksum: true,
        bulk_delete: true,
        timeout: Duration::from_secs(1),
    };
    let other = "https://s3.example.com";
    let of_bucket = "https://pictures.s3.example.com";
    let amazon = "https://pictures.s3.eu-west-1.amazonaws.com";
    for (endpoint, addressing, base) in [
        (
            Some(other),
            Addressing::Path,
            "https://s3.example.com/pictures",
        ),
        (Some(of_bucket), Addressing::Virtual, of_bucket),
        (None, Addressing::Virtual, amazon),
        (
            None,
            Addressing::Path,
            "https://s3.eu-west-1.amazonaws.com/pictures",
        ),
    ] {
        let (_, bucket) = s3::open(&settings(endpoint, addressing)).unwrap();
        let [object, listing, part] = bucket.of_strangers(&Key::from("probe/x")).await.unwrap();
        assert_eq!(object.as_str(), format!("{base}/a/b/probe/x"));
        let listing = listing.as_str().replace("/?", "?");
        assert_eq!(listing, format!("{base}?list-type=2&max-keys=1"));
        let part = part.as_str().replace("/?", "?");
        assert_eq!(part, format!("{listing}&prefix=a%2Fb%2F"));
    }
}

#[test]
fn a_store_error_shows_its_code_and_no_secret() {
    let document = "Server returned non-2xx status code: 403 Forbidden: <?xml?><Error><Code>SignatureDoesNotMatch</Code>\
        <AWSAccessKeyId>AKIA</AWSAccessKeyId><StringToSign>token</StringToSign></Error>";
    let told = said(document);
    assert!(
        told.contains("403") && told.ends_with("SignatureDoesNotMatch"),
        "{told}"
    );
    assert!(!told.contains("AKIA") && !told.contains("token"), "{told}");
    assert_eq!(said("connection refused"), "connection refused");
}
