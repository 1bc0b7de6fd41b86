//! What `pixtoll restore` doesn't overwrite and learns from a store that survived its database, the
//! folder mode of `pixtoll backup`, and what `pixtoll store audit --repair` rejects meanwhile.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use pixtoll::db::Db;
use pixtoll::moving::backup::Backup;
use pixtoll::moving::objects::NoRoom;
use pixtoll::store::Store;
use pixtoll::system::disk::Disk;

use crate::backup::{free, object, run};
use crate::moving::database_in;
use crate::support::database::{execute, texts};
use crate::support::process::{Deployment, Request};
use crate::support::{Answer, TestApp, pictures};

/// A database, and the files that SQLite keeps beside it.
const PARTS: [&str; 4] = [
    "pixtoll.db",
    "pixtoll.db-wal",
    "pixtoll.db-shm",
    "pixtoll.db-journal",
];

async fn refused(deployment: &Deployment, arguments: &[&str], why: &str) {
    let ran = deployment.run(arguments).await;
    assert_eq!(ran.code, Some(1), "{arguments:?}: {ran:?}");
    assert!(ran.err.contains(why), "{arguments:?}: {ran:?}");
}

fn data(deployment: &Deployment) -> PathBuf {
    deployment.folder().join("data")
}

/// Deletes the database, and nothing else.
fn lose_database(deployment: &Deployment) {
    for part in PARTS {
        let _ = std::fs::remove_file(data(deployment).join(part));
    }
}

/// The expiry of an image, as the server reports it.
async fn expiry(deployment: &Deployment, answer: &Answer) -> serde_json::Value {
    let path = format!("/api/images/{}", answer.field("id"));
    let said = deployment.answer(&Request::get(&path)).await;
    assert_eq!(said.status, 200, "{}", said.text());
    said.json()["expiresAt"].clone()
}

async fn renew(deployment: &Deployment, answer: &Answer, tier: &str) {
    let path = format!("/api/images/{}/renew?tier={tier}", answer.field("id"));
    let (_, renew) = deployment.sign(&path, b"").await;
    let said = deployment.last_word(&renew).await;
    assert_eq!(said.status, 200, "{}", said.text());
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_restore_does_not_overwrite_files_of_a_database() {
    let deployment = Deployment::alone();
    let server = deployment.start().await;
    let image = free(&deployment, 1).await;
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("backup");
    let restore = ["restore", folder.to_str().unwrap()];
    run(
        &deployment,
        &["backup", folder.to_str().unwrap(), "--with-key"],
    )
    .await;
    server.kill().await;

    let other = Deployment::alone();
    std::fs::create_dir(data(&other)).unwrap();
    for part in PARTS {
        std::fs::write(data(&other).join(part), b"left").unwrap();
        refused(&other, &restore, part).await;
        refused(&other, &restore, "Move all of these files away together").await;
        assert_eq!(std::fs::read(data(&other).join(part)).unwrap(), b"left");
        assert!(!data(&other).join("secrets.key").exists());
        lose_database(&other);
    }
    // As a killed server leaves it: its last writes are in a file beside the database.
    let crashed = Deployment::alone();
    let server = crashed.start().await;
    free(&crashed, 2).await;
    server.kill().await;
    let left = data(&crashed).join("pixtoll.db-wal");
    assert!(left.metadata().unwrap().len() > 0);
    std::fs::copy(left, data(&other).join("pixtoll.db-wal")).unwrap();
    refused(&other, &restore, "pixtoll.db-wal").await;
    lose_database(&other);
    run(&other, &restore).await;
    let db = database_in(other.folder()).await;
    assert_eq!(
        texts(&db, "SELECT id FROM images").await,
        [image.field("id")]
    );
    db.close().await;
}

#[tokio::test]
async fn a_restore_uses_a_store_in_use_only_with_store_survived() {
    let deployment = Deployment::alone();
    let server = deployment.start().await;
    let image = free(&deployment, 1).await;
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("backup");
    let restore = ["restore", folder.to_str().unwrap()];
    let store = data(&deployment).join("images");
    run(
        &deployment,
        &["backup", folder.to_str().unwrap(), "--with-key"],
    )
    .await;
    let mark = std::fs::read(store.join("database.json")).unwrap();

    // A trial restore that names the store of the server.
    std::fs::remove_file(object(&store, &image)).unwrap();
    let drill = Deployment::alone().set("images.store", store.to_str().unwrap());
    refused(&drill, &restore, "confirm that by --store-survived").await;
    assert!(!data(&drill).join("pixtoll.db").exists());
    assert!(!data(&drill).join("secrets.key").exists());
    assert!(!object(&store, &image).exists(), "nothing is written there");
    assert_eq!(std::fs::read(store.join("database.json")).unwrap(), mark);

    // A restore that was begun is recognised, until a server used the store.
    let other = Deployment::alone();
    let killed = async |point: &str| {
        let mut command = other.command(&restore);
        command.env("FAILPOINTS", format!("{point}=1*return"));
        let output = command.output().await.unwrap();
        assert_eq!(output.status.signal(), Some(9), "{point}: {output:?}");
    };
    killed("restore.mark.after").await;
    killed("restore.database.after").await;
    lose_database(&other);
    run(&other, &restore).await;
    lose_database(&other);
    refused(&other, &restore, "confirm that by --store-survived").await;
    run(&other, &[&restore[..], &["--store-survived"]].concat()).await;
    let third = Deployment::alone();
    killed_at_the_end(&third, &restore).await;
    let started = third.start().await;
    run(&third, &["ledger", "recover"]).await;
    started.kill().await;
    lose_database(&third);
    refused(&third, &restore, "confirm that by --store-survived").await;
    server.kill().await;
}

/// Runs a restore that is killed at its end, so that the note of an unfinished restore stays.
async fn killed_at_the_end(deployment: &Deployment, restore: &[&str]) {
    let mut command = deployment.command(restore);
    command.env("FAILPOINTS", "restore.database.after=1*return");
    let output = command.output().await.unwrap();
    assert_eq!(output.status.signal(), Some(9), "{output:?}");
    assert!(data(deployment).join("images/restore.json").exists());
}

#[tokio::test]
async fn renewals_since_the_backup_survive_in_the_store() {
    let deployment = Deployment::alone();
    let server = deployment.start().await;
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("backup");
    let store = data(&deployment).join("images");
    let plain = free(&deployment, 1).await;
    let renewed = free(&deployment, 2).await;
    let forever = free(&deployment, 3).await;
    let shorter = free(&deployment, 4).await;
    run(&deployment, &["backup", folder.to_str().unwrap()]).await;
    renew(&deployment, &renewed, "year").await;
    renew(&deployment, &forever, "permanent").await;
    let [end, none] = [
        expiry(&deployment, &renewed).await,
        expiry(&deployment, &forever).await,
    ];
    assert!(end.as_str().unwrap() > renewed.field("expiresAt").as_str() && none.is_null());
    let late = free(&deployment, 5).await;
    server.kill().await;
    lose_database(&deployment);
    // A sidecar with an earlier expiry than the row, and one of another image.
    let record = object(&store, &shorter).with_extension("json");
    let text = std::fs::read_to_string(&record).unwrap();
    let (before, _) = text.split_once("\"keepMs\":").unwrap();
    std::fs::write(&record, format!("{before}\"keepMs\":1}}\n")).unwrap();
    let foreign = std::fs::read(object(&store, &renewed).with_extension("json")).unwrap();
    std::fs::write(object(&store, &plain).with_extension("json"), foreign).unwrap();

    let restore = ["restore", folder.to_str().unwrap(), "--store-survived"];
    let mut command = deployment.command(&restore);
    command.env("FAILPOINTS", "restore.objects.after=1*return");
    assert_eq!(command.output().await.unwrap().status.signal(), Some(9));
    let ran = run(&deployment, &restore).await;
    assert!(
        ran.out
            .contains("2 images are kept longer than the backup says"),
        "{ran:?}"
    );
    // Objects without a row may be somebody's, until the chain was asked.
    let repair = ["store", "audit", "--repair"];
    refused(&deployment, &repair, "nothing is repaired").await;
    assert!(object(&store, &late).exists());
    let server = deployment.start().await;
    run(&deployment, &["ledger", "recover"]).await;
    run(&deployment, &["reap"]).await;
    assert_eq!(expiry(&deployment, &renewed).await, end);
    assert_eq!(expiry(&deployment, &forever).await, none);
    for image in [&plain, &shorter] {
        let end = expiry(&deployment, image).await;
        assert_eq!(end.as_str().unwrap(), image.field("expiresAt"));
    }
    deployment.check_ledger().await;
    let audit = run(&deployment, &repair).await;
    assert!(
        audit.out.contains("moved to quarantine") && audit.out.contains("4 live images"),
        "{audit:?}"
    );
    assert!(!audit.out.contains("NO RECORD"), "{audit:?}");

    // Moved out of quarantine by hand, as docs/operations.md says.
    let quarantined = std::fs::read_dir(store.join("quarantine")).unwrap();
    let quarantined = quarantined.last().unwrap().unwrap().path();
    for end in ["", ".json"] {
        let name = format!("{}{end}", late.field("id"));
        let to = object(&store, &late).with_file_name(&name);
        std::fs::rename(quarantined.join(name), to).unwrap();
    }
    let audit = deployment.run(&["store", "audit"]).await;
    let expected = format!("ROWLESS: object {} has no row", late.field("id"));
    assert!(audit.out.contains(&expected), "{audit:?}");
    server.kill().await;
}

#[tokio::test]
async fn renewals_survive_a_database_that_was_restored_by_other_means() {
    let deployment = Deployment::alone();
    let server = deployment.start().await;
    let image = free(&deployment, 1).await;
    let plain = free(&deployment, 2).await;
    server.kill().await;
    let older = tempfile::tempdir().unwrap();
    for part in PARTS {
        let _ = std::fs::copy(data(&deployment).join(part), older.path().join(part));
    }
    let server = deployment.start().await;
    renew(&deployment, &image, "year").await;
    let end = expiry(&deployment, &image).await;
    server.kill().await;
    lose_database(&deployment);
    for part in PARTS {
        let _ = std::fs::copy(older.path().join(part), data(&deployment).join(part));
    }

    let _server = deployment.start().await;
    let short = expiry(&deployment, &image).await;
    assert_eq!(short.as_str().unwrap(), image.field("expiresAt"));
    run(&deployment, &["ledger", "recover", "--dry-run"]).await;
    assert_eq!(expiry(&deployment, &image).await, short);
    let ran = run(&deployment, &["ledger", "recover"]).await;
    assert!(ran.out.contains("1 images are kept longer"), "{ran:?}");
    assert_eq!(expiry(&deployment, &image).await, end);
    let plain_end = expiry(&deployment, &plain).await;
    assert_eq!(plain_end.as_str().unwrap(), plain.field("expiresAt"));
    run(&deployment, &["reap"]).await;
    let again = run(&deployment, &["ledger", "recover"]).await;
    assert!(!again.out.contains("kept longer"), "{again:?}");
    let audit = run(&deployment, &["store", "audit"]).await;
    assert!(audit.out.contains(" 0 differences remain"), "{audit:?}");
    deployment.check_ledger().await;
}

#[tokio::test]
async fn a_database_of_another_store_repairs_nothing() {
    let deployment = Deployment::alone();
    let server = deployment.start().await;
    let image = free(&deployment, 1).await;
    let store = data(&deployment).join("images");
    let repair = ["store", "audit", "--repair"];
    run(&deployment, &repair).await;
    // Another deployment's database, and one that no server has used yet.
    let other = Deployment::alone();
    other.start().await.kill().await;
    let other = other.set("images.store", store.to_str().unwrap());
    refused(&other, &repair, "belongs to another database").await;
    let db = database_in(other.folder()).await;
    execute(&db, "DELETE FROM deployment").await;
    db.close().await;
    refused(&other, &repair, "no server has used this database").await;
    assert!(object(&store, &image).exists());
    let audit = other.run(&["store", "audit"]).await;
    assert!(audit.out.contains("ROWLESS"), "it still looks: {audit:?}");
    server.kill().await;
}

#[tokio::test]
async fn a_backup_without_its_objects_is_not_restored() {
    let deployment = Deployment::alone();
    let server = deployment.start().await;
    let image = free(&deployment, 1).await;
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("backup");
    let text = folder.to_str().unwrap();
    run(&deployment, &["backup", text, "--with-key"]).await;
    let other = Deployment::alone();
    let images = folder.join("images");
    std::fs::rename(&images, place.path().join("away")).unwrap();
    refused(&other, &["restore", text], "the backup is incomplete").await;
    assert!(!images.exists(), "nor is it touched");
    std::fs::create_dir(&images).unwrap();
    refused(&other, &["restore", text], "the backup is incomplete").await;
    assert!(!data(&other).join("pixtoll.db").exists());
    assert!(!data(&other).join("secrets.key").exists());
    // If the store survived, the objects are there.
    server.kill().await;
    lose_database(&deployment);
    run(&deployment, &["restore", text, "--store-survived"]).await;
    let _server = deployment.start().await;
    let link = deployment.answer(&Request::get(&image.field("url"))).await;
    assert_eq!(link.status, 200);
}

#[tokio::test]
async fn a_backup_is_readable_by_its_owner_only_in_an_existing_folder_too() {
    let deployment = Deployment::alone();
    let server = deployment.start().await;
    free(&deployment, 1).await;
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("backup");
    std::fs::create_dir(&folder).unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    for _ in 0..2 {
        std::fs::set_permissions(&folder, open.clone()).unwrap();
        run(&deployment, &["backup", folder.to_str().unwrap()]).await;
        assert_eq!(mode(&folder), 0o700);
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name.starts_with("pixtoll-") || name == "backup.json" {
                assert_eq!(mode(&path), 0o600, "{name}");
            }
        }
    }
    // A folder that holds something else stays as it is.
    let full = place.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::set_permissions(&full, open).unwrap();
    std::fs::write(full.join("file"), "mine").unwrap();
    refused(
        &deployment,
        &["backup", full.to_str().unwrap()],
        "holds no backup",
    )
    .await;
    assert_eq!(mode(&full), 0o755);
    assert_eq!(std::fs::read_dir(&full).unwrap().count(), 1);
    server.kill().await;
}

#[tokio::test]
async fn a_backup_leaves_the_disk_space_that_its_server_needs() {
    let app = TestApp::on_disk().await;
    for seed in 1..=3 {
        app.upload_free(pictures::png_seeded(16, 16, seed)).await;
    }
    let store = Store::open_local(&app.folder().join("images")).unwrap();
    let place = tempfile::tempdir_in(app.folder()).unwrap();
    let folder = place.path().join("backup");
    let data = tempfile::NamedTempFile::new_in(app.folder()).unwrap();
    data.as_file().set_len(500).unwrap();
    let disk = Disk::with_free(1499);
    let Db::Sqlite(_) = app.db() else {
        return;
    };
    let backup = Backup {
        db: app.db(),
        store: &store,
        folder: &folder,
        clock: &app.clock,
        disk: disk.clone(),
        file: data.path(),
        min_free: 1000,
    };
    let refused = backup.begin().await.unwrap_err();
    assert!(refused.is::<NoRoom>(), "{refused}");
    // Another program fills the disk meanwhile.
    disk.set_free(1500);
    let draft = backup.begin().await.unwrap();
    disk.set_free(999);
    let refused = backup.finish(draft, |_, _| {}, |_, _| {}).await;
    assert!(refused.unwrap_err().is::<NoRoom>());
    disk.set_free(1500);
    let draft = backup.begin().await.unwrap();
    let sum = backup.finish(draft, |_, _| {}, |_, _| {}).await.unwrap();
    assert_eq!(sum.copied, 3);
}
