//! `pixtoll store copy`: copies the objects of a running deployment to another store, a directory
//! or a bucket.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use pixtoll::moving::objects::Sum;
use pixtoll::moving::store::StoreCopy;
use pixtoll::store::Store;
use tokio::runtime::Handle;

use crate::backup::free;
use crate::moving::database_in;
use crate::support::process::{Deployment, Ran, Request};
use crate::support::store::{Settings, fresh, open as open_store};
use crate::support::{Answer, TestApp, database, pictures};

/// The kill points of `pixtoll store copy`.
pub(crate) const POINTS: &[&str] = &["copy.objects.after", "copy.mark.before"];

async fn copy(deployment: &Deployment, to: &str) -> Ran {
    deployment.run(&["store", "copy", "--to", to]).await
}

async fn dies(deployment: &Deployment, to: &str, point: &str) {
    let mut command = deployment.command(&["store", "copy", "--to", to]);
    let output = command.env("FAILPOINTS", format!("{point}=1*return"));
    let output = output.output().await.unwrap();
    assert_eq!(output.status.signal(), Some(9), "{point}: {output:?}");
}

/// The file of an image's object in a local store.
fn object(store: &Path, id: &str) -> PathBuf {
    store.join("images").join(&id[..1]).join(&id[1..2]).join(id)
}

/// The deployment with other settings.
fn with(deployment: Deployment, settings: &Settings) -> Deployment {
    settings
        .iter()
        .fold(deployment, |deployment, (key, value)| {
            deployment.set(key, value)
        })
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_store_in_use_is_copied_completely() {
    // To a bucket, if there is one.
    let place = tempfile::tempdir().unwrap();
    let settings = fresh(place.path());
    let to = settings[0].1.clone();
    // Only the settings of the bucket: the images are still in the directory.
    let deployment = with(Deployment::alone(), &settings).unset("images.store");
    let running = deployment.start().await;
    let data = deployment.folder().join("data/images");
    let kept = free(&deployment, 1).await;
    let deleted = free(&deployment, 2).await;
    let renewed = free(&deployment, 3).await;
    let quarantined = "AAAAAAAAAAAA";
    let rowless = "BBBBBBBBBBBB";
    for (id, repair) in [(quarantined, true), (rowless, false)] {
        std::fs::create_dir_all(object(&data, id).parent().unwrap()).unwrap();
        std::fs::write(object(&data, id), id).unwrap();
        if repair {
            deployment.run(&["store", "audit", "--repair"]).await;
        }
    }
    dies(&deployment, &to, "copy.objects.after").await;
    let first = copy(&deployment, &to).await;
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(
        first.out.contains("3 already there with the same SHA-256"),
        "{first:?}"
    );
    assert!(
        first
            .out
            .contains(&format!("ROWLESS: object {rowless} has no row")),
        "{first:?}"
    );
    assert!(first.out.contains("1 objects in quarantine"), "{first:?}");

    // The deployment is used meanwhile.
    let delete = Request::delete(&format!("/api/images/{}", deleted.field("id")))
        .with("X-Delete-Token", &deleted.field("deleteToken"));
    assert_eq!(deployment.answer(&delete).await.status, 200);
    let renew = format!("/api/images/{}/renew?tier=year", renewed.field("id"));
    let (_, renew) = deployment.sign(&renew, b"").await;
    assert_eq!(deployment.last_word(&renew).await.status, 200);
    let late = free(&deployment, 4).await;
    dies(&deployment, &to, "copy.mark.before").await;
    running.kill().await;
    let last = copy(&deployment, &to).await;
    assert_eq!(last.code, Some(0), "{last:?}");
    assert!(
        last.out.contains("2 compared by an earlier run"),
        "{last:?}"
    );
    assert!(
        last.out.contains("the other store has 3 objects of images"),
        "{last:?}"
    );

    std::fs::remove_file(object(&data, rowless)).unwrap();
    let deployment = deployment.set("images.store", &to);
    let _server = deployment.start().await;
    for image in [&kept, &renewed, &late] {
        let served = deployment.answer(&Request::get(&image.field("url"))).await;
        assert_eq!(served.status, 200);
    }
    assert_eq!(
        deployment
            .answer(&Request::get(&deleted.field("url")))
            .await
            .status,
        404
    );
    free(&deployment, 5).await;
    let audit = deployment.run(&["store", "audit"]).await;
    assert!(audit.out.contains(" 0 differences remain"), "{audit:?}");
    let (_, sold) = deployment
        .sign("/api/upload/year", &pictures::png(5, 5))
        .await;
    assert_eq!(deployment.last_word(&sold).await.status, 200);
    deployment.check_ledger().await;
    let mut found = Vec::new();
    let store = open_store(&settings);
    let mut listed = store.list_quarantine();
    while let Some(key) = futures_util::StreamExt::next(&mut listed).await {
        found.push(key.unwrap().0);
    }
    assert_eq!(found.len(), 1);
    assert!(found[0].ends_with(quarantined), "{found:?}");
}

#[tokio::test]
async fn damaged_objects_are_reported_or_rewritten_and_other_stores_rejected() {
    let deployment = Deployment::alone();
    let running = deployment.start().await;
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("other");
    let text = to.to_str().unwrap();
    let (good, bad) = (free(&deployment, 1).await, free(&deployment, 2).await);
    dies(&deployment, text, "copy.objects.after").await;
    // An earlier run wrote it, but did not finish its comparison.
    flip(&object(&to, &good.field("id")));
    let ran = copy(&deployment, text).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lies = |answer: &Answer| {
        let id = answer.field("id");
        let data = deployment.folder().join("data/images");
        let [one, other] = [data, to.clone()].map(|store| std::fs::read(object(&store, &id)).ok());
        one.is_some() && one == other
    };
    assert!(lies(&good) && lies(&bad));

    // Objects that the note covers are trusted; later ones are compared.
    let worse = free(&deployment, 3).await;
    flip(&object(
        &deployment.folder().join("data/images"),
        &worse.field("id"),
    ));
    let ran = copy(&deployment, text).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let id = worse.field("id");
    assert!(
        ran.out.contains(&format!(
            "LOST: image {id} is live, and its object has another SHA-256"
        )),
        "{ran:?}"
    );

    // After a restore, the copy also shows that commits are lost.
    let db = database_in(deployment.folder()).await;
    database::execute(
        &db,
        "UPDATE deployment SET value = '0' WHERE name = 'epoch'",
    )
    .await;
    db.close().await;
    let fresh = place.path().join("fresh");
    let ran = copy(&deployment, fresh.to_str().unwrap()).await;
    assert!(ran.out.contains("STALE"), "{ran:?}");
    assert!(ran.out.contains("objects: 2 copied"), "{ran:?}");
    let mark = std::fs::read_to_string(fresh.join("database.json")).unwrap();
    assert!(!mark.contains("\"epoch\":0"), "{mark}");

    let itself = deployment.folder().join("data/images");
    let ran = deployment.set("images.store", itself.to_str().unwrap());
    let refused = copy(&ran, itself.to_str().unwrap()).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let other = Deployment::alone();
    let _other = other.start().await;
    free(&other, 9).await;
    let refused = copy(&other, text).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.contains("belongs to another database"),
        "{refused:?}"
    );
    std::fs::remove_file(to.join("database.json")).unwrap();
    let refused = copy(&other, text).await;
    assert!(
        refused.err.contains("is a copy of another store"),
        "{refused:?}"
    );
    std::fs::remove_file(to.join("copy.json")).unwrap();
    let refused = copy(&other, text).await;
    assert!(refused.err.contains("isn't empty"), "{refused:?}");
    running.kill().await;
    let db = database_in(other.folder()).await;
    assert_eq!(database::count(&db, "images").await, 1);
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_deleted_during_the_copy_is_not_reported_as_lost() {
    let app = TestApp::on_disk().await;
    app.upload_free(pictures::png(7, 7)).await;
    let deleted = app.upload_free(pictures::png(8, 8)).await;
    let from = Store::open_local(&app.folder().join("images")).unwrap();
    let to = Store::in_memory();
    let copy = StoreCopy {
        db: app.db(),
        from: &from,
        to: &to,
        clock: &app.clock,
    };
    let token = deleted.field("deleteToken");
    let path = format!("/api/images/{}", deleted.field("id"));
    let headers = [("X-Delete-Token", token.as_str())];
    // Called after each page, when its objects are copied.
    let tell = |sum: &Sum, _| {
        assert_eq!(sum.copied, 2);
        let delete = app.send("DELETE", &path, &headers, "");
        let answer = tokio::task::block_in_place(|| Handle::current().block_on(delete));
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let copied = copy.run(tell, |finding| panic!("{finding:?}")).await;
    let copied = copied.unwrap();
    assert_eq!((copied.held, copied.there), (2, 1));
    assert!(copied.is_whole(), "{copied:?}");
}
