//! Legal holds (docs/trust.md): held content survives everything but a person's word.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pixtoll::system::clock::Clock;
use serde_json::{Value, json};

use crate::backup::{free, object, run};
use crate::hot::object_of;
use crate::removal::with_admin;
use crate::support::database::texts;
use crate::support::process::{Deployment, Request, SandboxProcess};
use crate::support::{TestApp, pictures};
use crate::variants::{files, until_stored};

const DAY: Duration = Duration::from_hours(24);

/// The path of sealed content in a local store.
fn sealed(store: &Path, id: &str) -> PathBuf {
    store.join("sealed").join(id)
}

impl TestApp {
    fn sealed(&self, id: &str) -> PathBuf {
        sealed(&self.folder().join("images"), id)
    }

    async fn reap_now(&self) {
        self.app.retention.accept_clock().await.unwrap();
        self.app.retention.reap().await.unwrap();
    }
}

#[tokio::test]
async fn held_content_survives_expiry_reaper_owner_and_renewal_and_waits_for_a_word() {
    let app = with_admin().on_disk().spawn().await;
    let picture = pictures::png(20, 20);
    let image = app.upload_free(picture.clone()).await;
    let id = image.field("id");
    let case = app.acted(&id, "hold", json!({"legal": true})).await;
    assert_eq!(case["image"]["removal"]["ground"], "legal");
    let end = app.clock_text(DAY * 365);
    assert_eq!(case["image"]["removal"]["holdUntil"], end);
    assert!(case["image"]["removal"]["sealedAt"].is_string());
    assert_eq!(std::fs::read(app.sealed(&id)).unwrap(), picture);
    assert!(app.sealed(&format!("{id}.json")).exists());
    assert!(!object_of(&app, &id).exists());
    assert_eq!(app.get(&image.field("url")).await.status, 451);

    let path = format!("/api/images/{id}");
    let token = [("X-Delete-Token", image.field("deleteToken"))];
    let deleted = app.send("DELETE", &path, &token, "").await;
    assert_eq!(
        deleted.verdict(),
        (409, "image_held".to_owned(), Some(false))
    );
    let renewed = app.post(&format!("{path}/renew?tier=year")).await;
    assert_eq!(
        renewed.verdict(),
        (409, "not_renewable".to_owned(), Some(false))
    );
    let restored = app.act(&id, "restore", json!({})).await;
    assert_eq!(
        (restored.status, restored.error()),
        (409, "held".to_owned())
    );
    assert!(!object_of(&app, &id).exists());
    let early = app.act(&id, "release", json!({"fate": "delete"})).await;
    assert_eq!((early.status, early.error()), (409, "too_early".to_owned()));
    let vague = app.act(&id, "release", json!({"early": true})).await;
    assert_eq!(
        (vague.status, vague.error()),
        (400, "bad_request".to_owned())
    );
    // A hold is never shortened, and may be longer.
    app.acted(&id, "hold", json!({"for": "1d"})).await;
    let case = app.acted(&id, "hold", json!({"for": "400d"})).await;
    assert_eq!(
        case["image"]["removal"]["holdUntil"],
        app.clock_text(DAY * 400)
    );
    assert_eq!(
        case["image"]["removal"]["ground"], "legal",
        "the ground stays"
    );

    // Expired long since, and so are its records.
    app.advance(DAY * 800);
    app.reap_now().await;
    app.app.trust.finish_holds().await.unwrap();
    assert_eq!(std::fs::read(app.sealed(&id)).unwrap(), picture);
    let waiting = app
        .admin("GET", "/images?state=waiting", &Value::Null)
        .await;
    assert_eq!(waiting.json()["images"][0]["removal"]["isWaiting"], true);
    let late = app.act(&id, "release", json!({"fate": "restore"})).await;
    assert_eq!(
        (late.status, late.error()),
        (409, "not_restorable".to_owned())
    );
    assert!(app.sealed(&id).exists());
    app.acted(&id, "release", json!({"fate": "delete"})).await;
    assert!(!app.sealed(&id).exists());
    assert!(!object_of(&app, &id).exists());
    app.reap_now().await;
    let case = app
        .admin("GET", &format!("/images/{id}"), &Value::Null)
        .await
        .json();
    assert_eq!(case["image"]["state"], "deleted");
    assert_eq!(app.send("DELETE", &path, &token, "").await.status, 200);
    // Its records are erased with the image's, and the removal by the run after that.
    app.advance(DAY * 366);
    app.reap_now().await;
    app.reap_now().await;
    assert_eq!(
        (app.rows("images").await, app.rows("removals").await),
        (0, 0)
    );
}

#[tokio::test]
async fn a_time_without_a_hold_is_refused() {
    let app = with_admin().spawn().await;
    let image = app.upload_free(pictures::png(20, 20)).await;
    let id = image.field("id");
    let report = json!({"image": id, "reason": "other"}).to_string();
    let kind = [("content-type", "application/json")];
    let case = app.send("POST", "/api/abuse", &kind, report).await;
    let uphold = format!("/cases/{}/uphold", case.field("case"));
    for extra in [json!({"for": "1d"}), json!({"for": "1d", "hold": false})] {
        let mut body = json!({"reason": "a test", "as": "ada"});
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        for refused in [
            app.act(&id, "remove", extra).await,
            app.admin("POST", &uphold, &body).await,
        ] {
            assert_eq!(
                (refused.status, refused.error()),
                (400, "bad_request".to_owned())
            );
            let text = refused.json()["message"].to_string();
            assert!(text.contains("hold is missing or false"), "{text}");
        }
    }
    assert_eq!(app.get(&image.field("url")).await.status, 200);
}

#[tokio::test]
async fn a_released_image_is_served_again_with_the_same_bytes() {
    let app = with_admin().spawn().await;
    let picture = pictures::png(20, 20);
    let image = app.upload_free(picture.clone()).await;
    let id = image.field("id");
    app.acted(&id, "remove", json!({"hold": true, "for": "30d"}))
        .await;
    let release = json!({"fate": "restore", "early": true});
    let case = app.acted(&id, "release", release.clone()).await;
    assert_eq!(
        (&case["image"]["state"], &case["image"]["removal"]),
        (&json!("live"), &Value::Null)
    );
    let back = app.get(&image.field("url")).await;
    assert_eq!((back.status, back.bytes), (200, picture));
    assert_eq!(app.rows("removals").await, 0);
    let again = app.act(&id, "release", release).await;
    assert_eq!((again.status, again.error()), (409, "not_held".to_owned()));
    app.app.trust.finish_holds().await.unwrap();
    assert_eq!(app.get(&image.field("url")).await.status, 200);
}

#[tokio::test]
async fn variants_of_a_held_image_are_deleted() {
    let app = with_admin().on_disk().spawn().await;
    let image = app.upload_free(pictures::png(30, 30)).await;
    let (id, url) = (image.field("id"), image.field("url"));
    let link = url.replace(".png", ".webp?w=12");
    assert_eq!(app.get(&link).await.status, 200);
    until_stored(&app, 1).await;
    assert_eq!(files(&app, &id).len(), 1);
    app.acted(&id, "hold", json!({})).await;
    assert_eq!(files(&app, &id), BTreeSet::new());
    assert_eq!(app.get(&link).await.status, 404);
    let store = pixtoll::store::Store::open_local(&app.folder().join("images")).unwrap();
    app.advance(Duration::from_mins(11));
    let tell = |mismatch| panic!("{mismatch:?}");
    let audit = pixtoll::retention::audit::audit(app.db(), &store, app.clock.now(), false, tell);
    assert_eq!(audit.await.unwrap().open, 0);
    // Neither the seal nor the release brings one back.
    let release = json!({"fate": "restore", "early": true});
    app.acted(&id, "release", release).await;
    assert_eq!(files(&app, &id), BTreeSet::new());
    assert_eq!(app.get(&link).await.status, 200);
}

#[tokio::test]
async fn a_server_finishes_holds_that_a_stopped_process_left() {
    let app = with_admin().on_disk().spawn().await;
    let picture = pictures::png(20, 20);
    let image = app.upload_free(picture.clone()).await;
    let id = image.field("id");
    // The store refuses: a file stands where the sealed prefix should be.
    let blocked = app.folder().join("images/sealed");
    std::fs::write(&blocked, "").unwrap();
    let case = app.acted(&id, "hold", json!({})).await;
    assert_eq!(case["image"]["removal"]["sealedAt"], Value::Null);
    assert_eq!(app.get(&image.field("url")).await.status, 404);
    app.advance(DAY * 30);
    app.reap_now().await;
    assert!(object_of(&app, &id).exists(), "held before it is sealed");
    std::fs::remove_file(&blocked).unwrap();
    assert_eq!(app.app.trust.finish_holds().await.unwrap(), 1);
    assert_eq!(std::fs::read(app.sealed(&id)).unwrap(), picture);
    assert!(!object_of(&app, &id).exists());
    assert_eq!(app.app.trust.finish_holds().await.unwrap(), 0);
    // Content that was left in the sealed prefix after a release is deleted later.
    app.acted(&id, "release", json!({"fate": "delete", "early": true}))
        .await;
    std::fs::write(app.sealed(&id), "left").unwrap();
    let leftover = format!("UPDATE removals SET sealed_ms = 1 WHERE image_id = '{id}'");
    crate::support::database::execute(app.db(), &leftover).await;
    assert_eq!(app.app.trust.finish_holds().await.unwrap(), 1);
    assert!(!app.sealed(&id).exists());
}

#[tokio::test]
async fn a_report_package_holds_file_and_facts_and_its_acknowledgement_is_recorded() {
    let app = with_admin().spawn().await;
    let payment = app.sign_at("/api/upload/year").await;
    let picture = pictures::png(8, 8);
    let image = app.pay_with(&payment, &picture).await;
    let id = image.field("id");
    app.acted(&id, "hold", json!({"legal": true})).await;
    let parsed = pixtoll::model::ids::ImageId::parse(&id).unwrap();
    let by = pixtoll::trust::By::new("ada", "a report").unwrap();
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("package");
    let package = app.app.trust.package(&parsed, &folder, &by).await.unwrap();
    assert_eq!(std::fs::read(&package.file).unwrap(), picture);
    assert_eq!(package.file, folder.join(format!("{id}.png")));
    for (path, mode) in [
        (&folder, 0o700),
        (&package.file, 0o600),
        (&package.facts, 0o600),
    ] {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode);
    }
    let facts: Value = serde_json::from_slice(&std::fs::read(&package.facts).unwrap()).unwrap();
    assert_eq!(facts["fileSha256"], image.field("sha256"));
    assert_eq!(facts["fileMatchesRecord"], true);
    assert_eq!(
        facts["payments"][0]["payer"],
        app.wallet.address().to_string()
    );
    assert!(facts["payments"][0]["transaction"].is_string());
    assert_eq!(facts["image"]["createdAt"], app.clock_text(Duration::ZERO));
    // An existing package is never replaced.
    let again = app.app.trust.package(&parsed, &folder, &by).await;
    assert!(
        again
            .unwrap_err()
            .to_string()
            .contains("Name another folder")
    );

    let empty = app.act(&id, "acknowledge", json!({})).await;
    assert_eq!(empty.status, 400, "{}", empty.text());
    let case = app
        .acted(&id, "acknowledge", json!({"reference": "CT 12345"}))
        .await;
    assert_eq!(case["image"]["removal"]["reportReference"], "CT 12345");
    let acts: Vec<&Value> = case["log"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["act"])
        .collect();
    assert_eq!(acts, ["acknowledge", "package", "hold"]);
}

#[tokio::test]
async fn held_content_survives_restart_copy_backup_and_restore() {
    let sandbox = SandboxProcess::start().await;
    let deployment = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url);
    let server = deployment.start().await;
    let data = deployment.folder().join("data/images");
    let held = free(&deployment, 1).await;
    let kept = free(&deployment, 2).await;
    let id = held.field("id");
    let bytes = std::fs::read(object(&data, &held)).unwrap();
    let by = ["--reason", "a demand", "--as", "ada"];
    let place = tempfile::tempdir().unwrap();
    let backup = place.path().join("backup");
    let arguments = ["backup", "--with-key", backup.to_str().unwrap()];
    // Copied once before it is held.
    run(&deployment, &arguments).await;
    run(
        &deployment,
        &[&["admin", "hold", &id, "--legal"], &by[..]].concat(),
    )
    .await;
    assert_eq!(std::fs::read(sealed(&data, &id)).unwrap(), bytes);
    server.kill().await;
    let server = deployment.start().await;
    let link = Request::get(&held.field("url"));
    assert_eq!(deployment.answer(&link).await.status, 451);

    let ran = run(&deployment, &arguments).await;
    assert!(ran.out.contains("1 sealed under a hold"), "{ran:?}");
    let objects = backup.join("images");
    assert_eq!(std::fs::read(sealed(&objects, &id)).unwrap(), bytes);
    assert!(!object(&objects, &held).exists());
    let copy = place.path().join("copy");
    for _ in 0..2 {
        run(
            &deployment,
            &["store", "copy", "--to", copy.to_str().unwrap()],
        )
        .await;
        assert_eq!(std::fs::read(sealed(&copy, &id)).unwrap(), bytes);
        assert!(!object(&copy, &held).exists());
    }
    let audit = run(&deployment, &["store", "audit", "--repair"]).await;
    assert!(audit.out.contains(" 0 differences remain"), "{audit:?}");
    run(&deployment, &["reap", "--accept-clock"]).await;
    assert!(sealed(&data, &id).exists());

    let restored = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url);
    run(&restored, &["restore", backup.to_str().unwrap()]).await;
    let restored_data = restored.folder().join("data/images");
    assert_eq!(std::fs::read(sealed(&restored_data, &id)).unwrap(), bytes);
    let other = restored.start().await;
    let path = |url: String| url.strip_prefix(&deployment.base).unwrap().to_owned();
    let there = restored
        .answer(&Request::get(&path(held.field("url"))))
        .await;
    assert_eq!(there.status, 451);
    let there = restored
        .answer(&Request::get(&path(kept.field("url"))))
        .await;
    assert_eq!(there.status, 200);
    other.kill().await;

    // Deleted by a person's word, also from later backups.
    let release = ["admin", "release", &id, "--delete", "--early"];
    run(&deployment, &[&release, &by[..]].concat()).await;
    assert!(!sealed(&data, &id).exists());
    run(&deployment, &arguments).await;
    assert!(!sealed(&objects, &id).exists());
    server.kill().await;
}

#[tokio::test]
async fn content_that_was_sealed_after_the_backup_stays_removed() {
    let sandbox = SandboxProcess::start().await;
    let deployment = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url);
    let server = deployment.start().await;
    let held = free(&deployment, 1).await;
    let id = held.field("id");
    let place = tempfile::tempdir().unwrap();
    let backup = place.path().join("backup");
    run(
        &deployment,
        &["backup", "--with-key", backup.to_str().unwrap()],
    )
    .await;
    run(&deployment, &["admin", "hold", &id, "--reason", "a demand"]).await;
    server.kill().await;
    // The database is lost, and the store survives.
    for entry in std::fs::read_dir(deployment.folder().join("data")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    run(
        &deployment,
        &["restore", "--store-survived", backup.to_str().unwrap()],
    )
    .await;
    let server = deployment.start().await;
    let link = Request::get(&held.field("url"));
    assert_eq!(deployment.answer(&link).await.status, 404);
    let db = crate::moving::database_in(deployment.folder()).await;
    let states = texts(&db, "SELECT state FROM images").await;
    assert_eq!(states, ["removed"]);
    let actors = texts(&db, "SELECT actor FROM admin_log").await;
    assert_eq!(actors, ["pixtoll restore"]);
    db.close().await;
    server.kill().await;
}
