//! What `pixtoll restore` leaves alone, and what it knows of a store that survived its database; how `pixtoll backup`
//! closes its folder; what `pixtoll store audit --repair` refuses meanwhile.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use crate::moving::database_in;
use crate::support::database::{execute, texts};
use crate::support::process::{Deployment, Ran, Request};
use crate::support::{Answer, pictures};

/// A database, and what SQLite keeps beside it.
const PARTS: [&str; 4] = [
    "pixtoll.db",
    "pixtoll.db-wal",
    "pixtoll.db-shm",
    "pixtoll.db-journal",
];

async fn free(deployment: &Deployment, seed: u64) -> Answer {
    let picture = pictures::png_seeded(16, 16, seed);
    let request = Request::post("/api/free").with_image(&picture);
    let answer = deployment.answer(&request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

async fn run(deployment: &Deployment, arguments: &[&str]) -> Ran {
    let ran = deployment.run(arguments).await;
    assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}");
    ran
}

async fn refused(deployment: &Deployment, arguments: &[&str], why: &str) {
    let ran = deployment.run(arguments).await;
    assert_eq!(ran.code, Some(1), "{arguments:?}: {ran:?}");
    assert!(ran.err.contains(why), "{arguments:?}: {ran:?}");
}

fn data(deployment: &Deployment) -> PathBuf {
    deployment.folder().join("data")
}

/// Loses the database, and nothing else.
fn lose_database(deployment: &Deployment) {
    for part in PARTS {
        let _ = std::fs::remove_file(data(deployment).join(part));
    }
}

/// An image's object below a store.
fn object(store: &Path, answer: &Answer) -> PathBuf {
    let id = answer.field("id");
    store.join("images").join(&id[..1]).join(&id[1..2]).join(id)
}

/// What the server says of an image's end.
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
async fn a_database_that_is_not_the_stores_repairs_nothing_there() {
    let deployment = Deployment::alone();
    let server = deployment.start().await;
    let image = free(&deployment, 1).await;
    let store = data(&deployment).join("images");
    let repair = ["store", "audit", "--repair"];
    run(&deployment, &repair).await;
    // Another deployment's database, and one that nobody has used yet.
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
