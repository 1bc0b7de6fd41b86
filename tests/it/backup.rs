//! `pixtoll backup` and `pixtoll restore` (docs/operations.md): a consistent copy of a running
//! deployment, its restore, and both killed at every kill point.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use crate::moving::database_in;
use crate::support::database::{count, execute, open, texts};
use crate::support::process::{Deployment, Ran, Request, SandboxProcess};
use crate::support::{Answer, pictures};

/// The kill points of `pixtoll backup` and `pixtoll restore`.
pub(crate) const POINTS: &[&str] = &[
    "backup.database.after",
    "backup.objects.after",
    "backup.manifest.before",
    "backup.manifest.after",
    "restore.mark.after",
    "restore.objects.after",
    "restore.database.after",
];

pub(crate) async fn free(deployment: &Deployment, seed: u64) -> Answer {
    let picture = pictures::png_seeded(16, 16, seed);
    let request = Request::post("/api/free").with_image(&picture);
    let answer = deployment.answer(&request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

pub(crate) async fn run(deployment: &Deployment, arguments: &[&str]) -> Ran {
    let ran = deployment.run(arguments).await;
    assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}");
    ran
}

async fn dies(deployment: &Deployment, arguments: &[&str], point: &str) {
    let mut command = deployment.command(arguments);
    let output = command.env("FAILPOINTS", format!("{point}=1*return"));
    let output = output.output().await.unwrap();
    assert_eq!(output.status.signal(), Some(9), "{point}: {output:?}");
}

/// The file of an image's object in a local store.
pub(crate) fn object(store: &Path, answer: &Answer) -> PathBuf {
    let id = answer.field("id");
    store.join("images").join(&id[..1]).join(&id[1..2]).join(id)
}

/// The path of an image's link, on any server.
fn path_of(deployment: &Deployment, answer: &Answer) -> String {
    let url = answer.field("url");
    url.strip_prefix(&deployment.base).unwrap().to_owned()
}

/// The copies of the database in a backup folder.
pub(crate) fn copies_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("pixtoll-")
        })
        .collect()
}

#[tokio::test]
async fn a_backup_is_restored_elsewhere_and_recovers_later_payments() {
    let sandbox = SandboxProcess::start().await;
    let deployment = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url);
    let running = deployment.start().await;
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("backup");
    let backup = ["backup", "--with-key", folder.to_str().unwrap()];
    let kept = free(&deployment, 1).await;
    let deleted = free(&deployment, 2).await;
    let (_, direct) = deployment
        .sign("/api/upload/year", &pictures::png(7, 7))
        .await;
    let bought = deployment.last_word(&direct).await;
    // The deployment is used meanwhile.
    let uploads = async {
        for seed in 10..30 {
            free(&deployment, seed).await;
        }
    };
    let ((), first) = tokio::join!(uploads, run(&deployment, &backup));
    assert!(first.out.contains(" 0 rows break a rule"), "{first:?}");
    assert!(object(&folder.join("images"), &deleted).exists());

    // A second backup copies new objects, and removes those that their owner deleted.
    let delete = Request::delete(&format!("/api/images/{}", deleted.field("id")))
        .with("X-Delete-Token", &deleted.field("deleteToken"));
    assert_eq!(deployment.answer(&delete).await.status, 200);
    run(&deployment, &backup).await;
    let late = free(&deployment, 40).await;
    let third = run(&deployment, &backup).await;
    assert!(third.out.contains("objects: 1 copied"), "{third:?}");
    assert!(!object(&folder.join("images"), &deleted).exists());
    assert_eq!(copies_in(&folder).len(), 1);
    let mode = folder
        .join("secrets.key")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    // Sold after the backup, and lost with the machine.
    let (payment, lost) = deployment.sign("/api/upload/token/year", b"").await;
    deployment.last_word(&lost).await.token();
    let lost_image = free(&deployment, 50).await;
    running.kill().await;

    let restored = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url);
    let restore = ["restore", folder.to_str().unwrap()];
    let ran = run(&restored, &restore).await;
    assert!(ran.out.contains("pixtoll ledger recover"), "{ran:?}");
    let again = restored.run(&restore).await;
    assert!(
        again.err.contains("files of a database exist already"),
        "{again:?}"
    );
    let (one, other) = (copies_in(&folder), database_in(restored.folder()).await);
    let one = open(&format!("sqlite:{}", one[0].display())).await;
    for (table, column) in [
        ("images", "id"),
        ("payments", "id"),
        ("grants", "token_hash"),
    ] {
        let sql = format!("SELECT {column} || '' FROM {table} ORDER BY 1");
        assert_eq!(texts(&one, &sql).await, texts(&other, &sql).await);
    }
    one.close().await;
    other.close().await;

    let _server = restored.start().await;
    for image in [&kept, &bought, &late] {
        let served = restored
            .answer(&Request::get(&path_of(&deployment, image)))
            .await;
        assert_eq!(served.status, 200);
    }
    for image in [&deleted, &lost_image] {
        let served = restored
            .answer(&Request::get(&path_of(&deployment, image)))
            .await;
        assert_eq!(served.status, 404);
    }
    let closed = restored
        .answer(&Request::post("/api/upload/token/year"))
        .await;
    assert_eq!(closed.error(), "recovery_required");
    let found = run(&restored, &["ledger", "recover"]).await;
    assert!(found.out.contains("added 1 payments"), "{found:?}");
    assert_eq!(
        restored.last_word(&direct).await.field("id"),
        bought.field("id")
    );
    assert_eq!(
        sandbox.transfers_to(payment.authorization.to).await.len(),
        2
    );
    let audit = run(&restored, &["store", "audit"]).await;
    assert!(audit.out.contains(" 0 differences remain"), "{audit:?}");
    restored.check_ledger().await;
}

#[tokio::test]
async fn a_killed_backup_keeps_the_older_one_and_a_killed_restore_continues() {
    let deployment = Deployment::alone();
    let _server = deployment.start().await;
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("backup");
    let backup = ["backup", folder.to_str().unwrap(), "--with-key"];
    let restore = ["restore", folder.to_str().unwrap()];
    let first = free(&deployment, 1).await;
    dies(&deployment, &backup, "backup.objects.after").await;
    let nothing = Deployment::alone();
    let refused = nothing.run(&restore).await;
    assert!(refused.err.contains("was never finished"), "{refused:?}");
    run(&deployment, &backup).await;

    let points = POINTS.iter().filter(|point| point.starts_with("backup"));
    for (images, point) in (1..).zip(points) {
        free(&deployment, images + 1).await;
        dies(&deployment, &backup, point).await;
        let is_new = *point == "backup.manifest.after";
        let other = Deployment::alone();
        run(&other, &restore).await;
        let db = database_in(other.folder()).await;
        let expected = if is_new { images + 1 } else { 1 };
        assert_eq!(
            count(&db, "images").await,
            i64::try_from(expected).unwrap(),
            "{point}"
        );
        db.close().await;
    }
    run(&deployment, &backup).await;
    assert_eq!(copies_in(&folder).len(), 1);

    let other = Deployment::alone();
    for point in ["restore.mark.after", "restore.objects.after"] {
        dies(&other, &restore, point).await;
        assert!(!other.folder().join("data/pixtoll.db").exists());
    }
    dies(&other, &restore, "restore.database.after").await;
    let _restored = other.start().await;
    let served = other
        .answer(&Request::get(&path_of(&deployment, &first)))
        .await;
    assert_eq!(served.status, 200);
    let audit = run(&other, &["store", "audit"]).await;
    assert!(audit.out.contains(" 0 differences remain"), "{audit:?}");
}

#[tokio::test]
async fn damage_is_reported_and_existing_files_are_not_overwritten() {
    let deployment = Deployment::alone();
    let running = deployment.start().await;
    let good = free(&deployment, 1).await;
    let bad = free(&deployment, 2).await;
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("backup");
    let folder_text = folder.to_str().unwrap();
    run(&deployment, &["backup", folder_text, "--with-key"]).await;

    // A folder that holds something else, another database's backup, or another store's objects.
    let full = place.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("file"), "mine").unwrap();
    let refused = deployment.run(&["backup", full.to_str().unwrap()]).await;
    assert!(refused.err.contains("holds no backup"), "{refused:?}");
    let other = Deployment::alone();
    other.start().await.kill().await;
    let refused = other.run(&["backup", folder_text]).await;
    assert!(
        refused.err.contains("backup of another database"),
        "{refused:?}"
    );
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(other.folder().join(format!("data/pixtoll.db{end}")));
    }
    let refused = other.run(&["restore", folder_text]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.err.contains("not the key of the backup"),
        "{refused:?}"
    );
    std::fs::remove_file(other.folder().join("data/secrets.key")).unwrap();
    let refused = other.run(&["restore", folder_text]).await;
    assert!(
        refused.err.contains("belongs to another database"),
        "{refused:?}"
    );
    assert!(!other.folder().join("data/pixtoll.db").exists());
    let postgres = Deployment::alone()
        .set("database.url", "postgres://127.0.0.1:9/pixtoll")
        .set("secrets.key", &"42".repeat(32));
    for command in ["backup", "restore"] {
        let refused = postgres.run(&[command, folder_text]).await;
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.out.contains("pg_dump"), "{refused:?}");
    }

    // Changes an object's bytes, in the backup and in the store.
    let flip = |path: &Path| {
        let mut bytes = std::fs::read(path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    flip(&object(&folder.join("images"), &bad));
    let elsewhere = Deployment::alone();
    let ran = elsewhere.run(&["restore", folder_text]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let id = bad.field("id");
    assert!(
        ran.out.contains(&format!("LOST: image {id} is live")),
        "{ran:?}"
    );
    let _server = elsewhere.start().await;
    let served = elsewhere
        .answer(&Request::get(&path_of(&deployment, &good)))
        .await;
    assert_eq!(served.status, 200);
    let fresh = place.path().join("fresh");
    flip(&object(&deployment.folder().join("data/images"), &bad));
    let ran = deployment.run(&["backup", fresh.to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.out.contains(&format!("LOST: image {id} is live")),
        "{ran:?}"
    );

    // A copy of the database that was changed after it was written.
    flip(&copies_in(&folder)[0]);
    let ran = Deployment::alone().run(&["restore", folder_text]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("is damaged: its SHA-256"), "{ran:?}");
    // A database that lost commits must not replace a better backup.
    running.kill().await;
    let db = database_in(deployment.folder()).await;
    execute(
        &db,
        "UPDATE deployment SET value = '0' WHERE name = 'epoch'",
    )
    .await;
    db.close().await;
    let ran = deployment.run(&["backup", folder_text]).await;
    assert!(
        ran.err.contains("isn't the newest one of its store"),
        "{ran:?}"
    );
}
