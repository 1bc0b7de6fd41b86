//! The commands that pay, as a user runs them: several files on one payment, and renewals.

use alloy_primitives::U256;

use crate::support::origin::{Origin, Reply};
use crate::support::pictures;
use crate::support::process::{Deployment, Ran, Request, SandboxProcess};

/// A user with an empty home directory, and a server that accepts play money.
struct User {
    sandbox: SandboxProcess,
    deployment: Deployment,
}

impl User {
    async fn new() -> Self {
        let sandbox = SandboxProcess::start().await;
        let deployment = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url);
        Self {
            sandbox,
            deployment,
        }
    }

    /// Runs `pixtoll COMMAND --server … ARGUMENTS`.
    async fn run(&self, command: &str, arguments: &[&str]) -> Ran {
        let mut ran = self
            .deployment
            .bare(&[command, "--server", &self.deployment.base]);
        let ran = ran.args(arguments).env("HOME", self.deployment.folder());
        Ran::of(ran.output().await.unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.deployment.folder().join(name), bytes).unwrap();
    }

    async fn moved(&self) -> Vec<U256> {
        let (payment, _) = self.deployment.sign("/api/upload/year", b"").await;
        let to = payment.authorization.to;
        self.sandbox.transfers_to(to).await
    }

    async fn served(&self, link: &str) -> Vec<u8> {
        let served = self.deployment.answer(&Request::get(link)).await;
        assert_eq!(served.status, 200, "{link}");
        served.bytes
    }

    async fn expiry(&self, id: &str) -> String {
        let path = format!("/api/images/{id}");
        let answer = self.deployment.answer(&Request::get(&path)).await;
        answer.json()["expiresAt"].to_string()
    }
}

#[tokio::test]
async fn several_files_are_uploaded_on_one_payment() {
    let user = User::new().await;
    let _server = user.deployment.start().await;
    let names = ["a.png", "b.png", "c.png"];
    for (width, name) in (8..).zip(names) {
        user.write(name, &pictures::png(width, 8));
    }
    user.write("notes.png", b"no image");
    let files = [&names[..2], &["notes.png"], &names[2..]].concat();
    let year = |more: &[&'static str]| [&["--tier", "year"], more, &files].concat();

    let dry = user.run("upload", &year(&["--dry-run"])).await;
    assert_eq!((dry.code, dry.out.as_str()), (Some(0), ""), "{dry:?}");
    assert!(
        dry.err
            .contains("3 files together: would pay 0.03 USDC of play money"),
        "{dry:?}"
    );
    let dear = user.run("upload", &year(&["--max-price", "0.009"])).await;
    assert_eq!((dear.code, dear.out.as_str()), (Some(4), ""), "{dear:?}");
    assert!(dear.err.contains("use --max-price 0.01."), "{dear:?}");
    assert!(user.moved().await.is_empty());

    let ran = user.run("upload", &year(&[])).await;
    // The invalid image was detected locally, and the server rejects it for free.
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.contains("notes.png: "), "{ran:?}");
    let links: Vec<&str> = ran.out.lines().collect();
    assert_eq!(links.len(), 3, "{ran:?}");
    for (width, link) in (8..).zip(&links) {
        assert_eq!(user.served(link).await, pictures::png(width, 8), "in order");
    }
    assert_eq!(user.moved().await, [U256::from(30_000)]);
    // Nothing is left open: the same command buys again.
    let again = user.run("upload", &year(&[])).await;
    assert_eq!(again.out.lines().count(), 3, "{again:?}");
    assert_ne!(again.out, ran.out);
    assert_eq!(user.moved().await, [U256::from(30_000); 2]);
    user.deployment.check_ledger().await;
}

#[tokio::test]
async fn an_import_is_paid_for_by_the_command_and_costs_nothing_where_it_fails() {
    let picture = pictures::png(8, 8);
    let origin = Origin::start(Reply::Head("404 Not Found".to_owned(), vec![])).await;
    let mut user = User::new().await;
    user.deployment = origin.allowed_in(user.deployment);
    let _server = user.deployment.start().await;
    let url = origin.url();
    let year = [url.as_str(), "--tier", "year"];
    let dry = user
        .run("import", &[&year[..], &["--dry-run"]].concat())
        .await;
    assert_eq!((dry.code, dry.out.as_str()), (Some(0), ""), "{dry:?}");
    assert!(dry.err.contains("0.01 USDC"), "{dry:?}");
    assert_eq!(origin.connections(), 0);
    let failed = user.run("import", &year).await;
    assert_eq!(failed.code, Some(3), "{failed:?}");
    assert!(failed.err.contains("status 404"), "{failed:?}");
    assert!(user.moved().await.is_empty());
    origin.reply(Reply::Image(picture.clone()));
    let bought = user.run("import", &year).await;
    assert_eq!(bought.code, Some(0), "{bought:?}");
    assert_eq!(user.served(bought.out.trim()).await, picture);
    assert_eq!(user.moved().await, [U256::from(10_000)]);
    let free = user.run("import", &[&url, "--private"]).await;
    assert_eq!(free.code, Some(0), "{free:?}");
    assert!(free.out.contains("sig="), "{free:?}");
    let local = user.run("import", &["http://127.0.0.2/a.png"]).await;
    assert_eq!(local.code, Some(3), "{local:?}");
    assert!(local.err.contains("Nothing was charged."), "{local:?}");
    user.deployment.check_ledger().await;
}

#[tokio::test]
async fn a_client_stopped_between_two_files_continues_with_its_payment() {
    let user = User::new().await;
    let server = user
        .deployment
        .start_to_die_at("token.reserve.before#2")
        .await;
    for (width, name) in (8..).zip(["a.png", "b.png"]) {
        user.write(name, &pictures::png(width, 8));
    }
    let arguments = ["--tier", "year", "a.png", "b.png"];
    let mut client = user
        .deployment
        .bare(&["upload", "--server", &user.deployment.base]);
    let mut client = client
        .args(arguments)
        .env("HOME", user.deployment.folder())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut server = server;
    server.dies().await;
    client.kill().await.unwrap();

    let _server = user.deployment.start().await;
    let again = user.run("upload", &arguments).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    let links: Vec<&str> = again.out.lines().collect();
    assert_eq!(links.len(), 2, "{again:?}");
    for (width, link) in (8..).zip(&links) {
        assert_eq!(user.served(link).await, pictures::png(width, 8));
    }
    assert_eq!(user.moved().await, [U256::from(20_000)]);
    user.deployment.check_ledger().await;
}

#[tokio::test]
async fn a_user_renews_an_image() {
    let user = User::new().await;
    let _server = user.deployment.start().await;
    user.write("a.png", &pictures::png(8, 8));
    let link = user.run("upload", &["a.png"]).await.out.trim().to_owned();
    let name = link.rsplit('/').next().unwrap().to_owned();
    let id = name.trim_end_matches(".png").to_owned();
    let free = user.expiry(&id).await;
    for (arguments, code, says) in [
        (
            vec![link.as_str()],
            2,
            "Send ?tier= with one of: year, permanent",
        ),
        (
            vec![link.as_str(), "--tier", "year", "--max-price", "0.001"],
            4,
            "0.01",
        ),
        (vec!["neverexisted", "--tier", "year"], 2, "has no image"),
        (vec!["nonsense"], 2, "12 letters and digits"),
        (
            vec![link.as_str(), "--tier", "year", "--dry-run"],
            0,
            "would pay 0.01 USDC",
        ),
    ] {
        let ran = user.run("renew", &arguments).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{ran:?}");
        assert!(ran.err.contains(says), "{ran:?}");
    }
    assert_eq!(user.expiry(&id).await, free);
    let mut last = free;
    for arguments in [vec![link.as_str(), "--tier", "year"], vec![id.as_str()]] {
        let ran = user.run("renew", &arguments).await;
        assert_eq!(
            (ran.code, ran.out.trim()),
            (Some(0), link.as_str()),
            "{ran:?}"
        );
        let expiry = user.expiry(&id).await;
        assert!(expiry > last, "{expiry} after {last}");
        last = expiry;
    }
    assert_eq!(user.moved().await, [U256::from(10_000); 2]);
    let forever = [link.as_str(), "--tier", "permanent", "--max-price", "1"];
    let ran = user.run("renew", &forever).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(user.expiry(&id).await, "null");
    let ran = user.run("renew", &forever).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("nothing to renew"), "{ran:?}");
    user.deployment.check_ledger().await;
}

#[tokio::test]
async fn a_user_whose_payment_was_lost_gets_the_goods_by_the_same_command() {
    let user = User::new().await;
    let database = user.deployment.folder().join("data/pixtoll.db");
    let backup = user.deployment.folder().join("backup.db");
    user.write("a.png", &pictures::png(8, 8));
    let server = user.deployment.start().await;
    server.terminate();
    server.end().await;
    std::fs::copy(&database, &backup).unwrap();

    // The payment settles, and the server dies before the user receives a response.
    let point = "payment.settled.after";
    let mut server = user.deployment.start_to_die_at(point).await;
    let mut client = user
        .deployment
        .bare(&["upload", "--server", &user.deployment.base]);
    let mut client = client
        .args(["--tier", "year", "a.png"])
        .env("HOME", user.deployment.folder())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    server.dies().await;
    client.kill().await.unwrap();
    for left in ["pixtoll.db-wal", "pixtoll.db-shm"] {
        drop(std::fs::remove_file(database.with_file_name(left)));
    }
    std::fs::copy(&backup, &database).unwrap();
    let recovered = user.deployment.run(&["ledger", "recover"]).await;
    assert_eq!(recovered.code, Some(0), "{recovered:?}");

    // The same command signs in with the wallet, and uploads with the token that is owed.
    let _server = user.deployment.start().await;
    let claimed = user.run("claim", &[]).await;
    assert_eq!(claimed.code, Some(0), "{claimed:?}");
    assert!(claimed.out.contains("1 left for tier year"), "{claimed:?}");
    let arguments = ["--tier", "year", "a.png"];
    let uploaded = user.run("upload", &arguments).await;
    assert_eq!(uploaded.code, Some(0), "{uploaded:?}");
    assert_eq!(user.served(uploaded.out.trim()).await, pictures::png(8, 8));
    let nothing = user.run("claim", &["--json"]).await;
    assert_eq!((nothing.code, &*nothing.out), (Some(0), ""), "{nothing:?}");
    assert!(nothing.err.contains("Nothing is left"), "{nothing:?}");
    assert_eq!(user.moved().await, [U256::from(10_000)]);
    user.deployment.check_ledger().await;
}
