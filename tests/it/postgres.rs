//! Two servers with one PostgreSQL database and one image store: each can finish, once, what the
//! other one began.

use std::path::{Path, PathBuf};

use futures_util::future::join_all;

use crate::support::process::{Deployment, Request, SandboxProcess, says_to_repeat};
use crate::support::{database, pictures};

/// Two servers of one deployment, and the sandbox that they share.
struct Pair {
    sandbox: SandboxProcess,
    one: Deployment,
    other: Deployment,
    store: PathBuf,
    _folder: tempfile::TempDir,
}

impl Pair {
    /// Creates them with a new database.
    async fn new() -> Self {
        let server = std::env::var("PIXTOLL_TEST_POSTGRES").unwrap_or_default();
        assert!(
            !server.is_empty(),
            "PIXTOLL_TEST_POSTGRES names no PostgreSQL server; scripts/with-postgres starts one"
        );
        let sandbox = SandboxProcess::start().await;
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("images");
        let one = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url)
            .set("database.url", &database::create_postgres(&server).await)
            .set("images.store", store.to_str().unwrap())
            .set("secrets.key", &"42".repeat(32));
        Self {
            other: one.replica(),
            one,
            sandbox,
            store,
            _folder: folder,
        }
    }

    /// Returns the two in turn.
    fn each(&self, number: usize) -> &Deployment {
        [&self.one, &self.other][number % 2]
    }
}

/// Counts the objects below a folder, without their sidecars.
fn objects_in(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap();
    let count = |path: PathBuf| match path.extension() {
        _ if path.is_dir() => objects_in(&path),
        Some(kind) if kind == "json" => 0,
        _ => 1,
    };
    entries.map(|entry| count(entry.unwrap().path())).sum()
}

#[tokio::test]
async fn fifty_copies_of_a_payment_at_two_servers_buy_one_token() {
    let pair = Pair::new().await;
    // Both at the same time, on an empty database.
    let _servers = tokio::join!(pair.one.start(), pair.other.start());
    let (payment, request) = pair.one.sign("/api/upload/token/year", b"").await;
    let copies = (0..50).map(|number| pair.each(number).answer(&request));
    let answers = join_all(copies).await;
    let token = pair.other.last_word(&request).await.token();
    for answer in answers {
        match answer.status {
            200 => assert_eq!(answer.token(), token),
            409 => assert!(says_to_repeat(&answer), "{}", answer.text()),
            other => panic!("{other}: {}", answer.text()),
        }
    }
    let moved = pair.sandbox.transfers_to(payment.authorization.to).await;
    assert_eq!(moved, [10_000]);
    assert_eq!(pair.one.last_word(&request).await.token(), token);
    pair.one.check_ledger().await;
}

#[tokio::test]
async fn twenty_uploads_with_one_token_at_two_servers_publish_one_image() {
    let pair = Pair::new().await;
    let _servers = tokio::join!(pair.one.start(), pair.other.start());
    let (_, buy) = pair.one.sign("/api/upload/token/year", b"").await;
    let token = pair.one.last_word(&buy).await.token();
    let upload = |number: usize| {
        let picture = pictures::png_seeded(16, 16, u64::try_from(number).unwrap());
        Request::post("/api/upload")
            .with("X-Upload-Token", &token)
            .with_image(&picture)
    };
    let uploads = (0..20).map(async |number| pair.each(number).last_word(&upload(number)).await);
    let answers = join_all(uploads).await;
    let (published, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 200);
    assert_eq!(published.len(), 1);
    for answer in refused {
        let expected = (409, "token_used".to_owned(), Some(false));
        assert_eq!(answer.verdict(), expected);
    }
    // The uploads that lost the race leave no bytes behind.
    assert_eq!(objects_in(&pair.store.join("images")), 1);
    let link = published[0].field("url");
    let path = link.strip_prefix(&pair.one.base).unwrap();
    for server in [&pair.one, &pair.other] {
        let served = server.answer(&Request::get(path)).await;
        assert_eq!(served.status, 200, "{}", served.text());
    }
    pair.other.check_ledger().await;
}

#[tokio::test]
async fn a_server_finishes_work_of_a_killed_one_after_its_lease() {
    let points = [
        "payment.insert.after",
        "payment.verified.after",
        "payment.settling.after",
        "settle.call.after",
        "payment.settled.before",
        "payment.settled.after",
    ];
    join_all(points.map(async |point| {
        let pair = Pair::new().await;
        let _other = pair.other.start().await;
        let mut server = pair.one.start_to_die_at(point).await;
        let picture = pictures::png(8, 8);
        let (payment, request) = pair.one.sign("/api/upload/year", &picture).await;
        assert!(pair.one.send(&request).await.is_none(), "{point}");
        server.dies().await;

        let uploaded = pair.other.last_word(&request).await;
        assert_eq!(uploaded.status, 200, "{point}: {}", uploaded.text());
        let moved = pair.sandbox.transfers_to(payment.authorization.to).await;
        assert_eq!(moved, [10_000], "{point}");
        let _one = pair.one.start().await;
        let again = pair.one.last_word(&request).await;
        assert_eq!(again.field("id"), uploaded.field("id"), "{point}");
        pair.one.check_ledger().await;
    }))
    .await;
}
