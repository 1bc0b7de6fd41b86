//! The program as real processes: commands, files, signals and exit codes.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use pixtoll::db::Db;
use serde_json::Value;
use tokio::sync::Notify;

use crate::backup::copies_in;
use crate::support::process::{Deployment, Ran, Request, SandboxProcess, eventually};
use crate::support::proxy::{Fault, Proxy};
use crate::support::{database, pictures};

/// A sandbox in another process, a proxy in front of its facilitator, and a deployment that uses
/// both.
async fn with_proxy() -> (SandboxProcess, Proxy, Deployment) {
    let sandbox = SandboxProcess::start().await;
    let facilitator = Proxy::before(&sandbox.facilitator_url);
    let deployment = Deployment::on(&facilitator.url, &sandbox.rpc_url);
    (sandbox, facilitator, deployment)
}

#[tokio::test]
async fn the_first_start_creates_data_and_a_private_key_file() {
    let deployment = Deployment::alone();
    let server = deployment.start().await;
    let data = deployment.folder().join("data");
    let names: BTreeSet<String> = std::fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm"))
        // The lock of the reaper, which runs at the next full minute.
        .filter(|name| name != "pixtoll.reaper.lock")
        .collect();
    let expected = [
        "images",
        "pixtoll.db",
        "pixtoll.lock",
        "sandbox.db",
        "secrets.key",
    ];
    assert_eq!(names, expected.map(str::to_owned).into());
    let key = data.join("secrets.key");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let written = std::fs::read_to_string(&key).unwrap();
    assert_eq!(written.trim_end().len(), 64);

    server.kill().await;
    let _server = deployment.start().await;
    assert_eq!(std::fs::read_to_string(&key).unwrap(), written);
    let beside: BTreeSet<_> = std::fs::read_dir(deployment.folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(beside, ["data", "server.log"].map(str::to_owned).into());
}

#[tokio::test]
async fn a_second_server_on_the_same_file_does_not_start() {
    let first = Deployment::alone();
    let server = first.start().await;
    let file = first.folder().join("data/pixtoll.db");
    let second = Deployment::alone().set("database.url", &format!("sqlite:{}", file.display()));
    let refused = second.run(&["serve"]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    assert!(
        refused.err.contains("another pixtoll server uses"),
        "{}",
        refused.err
    );
    server.kill().await;
    second.start().await;
}

#[tokio::test]
async fn a_stopping_server_finishes_a_payment_under_way() {
    let (sandbox, facilitator, deployment) = with_proxy().await;
    let server = deployment.start().await;
    let (payment, request) = deployment.sign("/api/upload/token/year", b"").await;
    let release = Arc::new(Notify::new());
    facilitator.next("settle", Fault::Held(Arc::clone(&release)));
    let answer = async {
        let answer = deployment.answer(&request).await;
        assert_eq!(answer.token().len(), 40);
    };
    let stop = async {
        eventually("the call of settle", async || {
            (facilitator.calls("settle") == 1).then_some(())
        })
        .await;
        server.terminate();
        // The server accepts no new connections from now on, and still runs.
        eventually("the closed listener", async || {
            let request = Request::get("/api/tiers");
            deployment.send(&request).await.is_none().then_some(())
        })
        .await;
        release.notify_one();
    };
    tokio::join!(answer, stop);
    assert_eq!(server.end().await.code(), Some(0), "{}", deployment.log());
    let moved = sandbox.transfers_to(payment.authorization.to).await;
    assert_eq!(moved.len(), 1);
}

#[tokio::test]
async fn ledger_commands_work_beside_a_running_sandbox_without_flags() {
    let deployment = Deployment::alone().unset("payments.facilitator");
    let _server = deployment.start_by(&["serve", "--sandbox"]).await;
    let picture = pictures::png(8, 8);
    let (payment, request) = deployment.sign("/api/upload/year", &picture).await;
    let image = deployment.last_word(&request).await.field("id");

    let check = deployment.run_bare(&["ledger", "check"]).await;
    assert_eq!(check.code, Some(0), "{check:?}");
    assert!(
        check
            .out
            .starts_with("1 payments settled for 10000 atomic units; "),
        "{check:?}"
    );
    assert!(
        check
            .out
            .contains("\nbase-sepolia: received 10000 atomic units in blocks "),
        "{check:?}"
    );
    let offline = deployment.run_bare(&["ledger", "check", "--offline"]).await;
    assert!(offline.out.ends_with("no chain was asked\n"), "{offline:?}");

    let id = payment.ledger_id().to_string();
    let payer = payment.authorization.from.to_string();
    let by_id = deployment.run_bare(&["ledger", "show", &id]).await;
    assert_eq!(by_id.code, Some(0), "{by_id:?}");
    assert!(by_id.out.starts_with(&format!("payment {id}\n")));
    assert!(by_id.out.contains("state        settled"), "{by_id:?}");
    let transaction = by_id
        .out
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("transaction"))
        .and_then(|rest| rest.trim_start().split(',').next())
        .unwrap();
    for what in [&payer, &payer.to_lowercase(), &image, transaction] {
        let shown = deployment.run_bare(&["ledger", "show", what]).await;
        assert_eq!(shown.out, by_id.out, "{what}");
    }
    let nobody = deployment.run_bare(&["ledger", "show", "nobody"]).await;
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    let owed = deployment.run_bare(&["ledger", "owed"]).await;
    assert_eq!(
        (owed.code, owed.out.as_str()),
        (Some(0), "0 payments are owed\n")
    );
}

#[tokio::test]
async fn owed_goods_are_listed_until_an_operator_resolves_them() {
    let (_sandbox, facilitator, deployment) = with_proxy().await;
    let mut server = deployment.start_to_die_at("payment.failed.after").await;
    let (payment, request) = deployment.sign("/api/upload/token/year", b"").await;
    facilitator.next("settle", Fault::lie(200, "insufficient_funds"));
    assert!(deployment.send(&request).await.is_none());
    server.dies().await;
    let _server = deployment.start().await;
    // The reconciler finds the transfer, and no client fetches the goods.
    let owed = eventually("the debt", async || {
        let owed = deployment.run_bare(&["ledger", "owed"]).await;
        owed.out
            .contains("\n1 payments are owed\n")
            .then_some(owed.out)
    })
    .await;
    let id = payment.ledger_id().to_string();
    assert!(
        owed.starts_with(&format!("{id} 0.01 USDC tier year ")),
        "{owed}"
    );

    let resolve = async |id: &str, note: &str| {
        deployment
            .run_bare(&["ledger", "resolve", id, "--note", note])
            .await
    };
    assert_eq!(resolve(&id, " ").await.code, Some(1));
    assert_eq!(resolve("nobody", "refunded").await.code, Some(1));
    assert_eq!(resolve(&id, "refunded").await.code, Some(0));
    assert_eq!(resolve(&id, "refunded").await.code, Some(1));
    let owed = deployment.run_bare(&["ledger", "owed"]).await;
    assert_eq!(owed.out, "0 payments are owed\n");
    let shown = deployment.run_bare(&["ledger", "show", &id]).await;
    assert!(shown.out.contains("resolved     refunded"), "{shown:?}");
    deployment.check_ledger().await;
}

#[tokio::test]
async fn a_command_without_a_database_says_what_to_do() {
    let deployment = Deployment::alone();
    let ran = deployment.run(&["ledger", "check"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("start the server once"), "{ran:?}");
    assert!(!deployment.folder().join("data").exists());
}

#[tokio::test]
async fn config_check_reports_problems_before_a_start() {
    let deployment = Deployment::alone();
    let good = deployment.run(&["config", "check"]).await;
    assert_eq!(good.code, Some(0), "{good:?}");
    assert!(
        good.out.contains("ok: the server may start; problems: 0"),
        "{good:?}"
    );
    let deployment = deployment
        .set("http.listen", "nowhere")
        .set("payments.pay_to", "me");
    let bad = deployment.run(&["config", "check"]).await;
    assert_eq!(bad.code, Some(1), "{bad:?}");
    assert!(
        bad.out.contains("the server would not start; problems: 2"),
        "{bad:?}"
    );
    let serve = deployment.run(&["serve"]).await;
    assert_eq!(serve.code, Some(1), "{serve:?}");
    assert!(serve.err.contains("http.listen"), "{serve:?}");
    assert!(!deployment.folder().join("data").exists());
}

#[tokio::test]
async fn a_database_rejects_another_key_or_mode_and_a_missing_network() {
    let deployment = Deployment::alone();
    deployment.start().await.kill().await;

    let key = deployment.folder().join("data/secrets.key");
    let ours = std::fs::read_to_string(&key).unwrap();
    std::fs::write(&key, "42".repeat(32)).unwrap();
    refuses(&deployment, "another secrets.key").await;
    std::fs::write(&key, ours).unwrap();

    let deployment = deployment
        .set("payments.facilitator", "url")
        .set("payments.networks", "base-sepolia")
        .set("payments.facilitator_url", "http://127.0.0.1:9")
        .set("payments.rpc_url", "http://127.0.0.1:9")
        .set("payments.pay_to", &format!("0x{}", "11".repeat(20)));
    refuses(&deployment, "another kind of money").await;
    // An open payment on a network that isn't configured any more.
    let deployment = Deployment::alone();
    let server = deployment.start().await;
    let (_, buy) = deployment.sign("/api/upload/token/year", b"").await;
    deployment.last_word(&buy).await.token();
    server.kill().await;
    change(
        deployment.folder(),
        "UPDATE payments SET network = 'eip155:8453', next_look_ms = 1",
    )
    .await;
    refuses(&deployment, "payments on eip155:8453 are still open").await;
}

#[tokio::test]
async fn databases_and_key_are_readable_by_their_owner_only() {
    let deployment = Deployment::alone();
    let server = deployment.start().await;
    let upload = Request::post("/api/free").with_image(&pictures::png(8, 8));
    assert_eq!(deployment.answer(&upload).await.status, 200);
    let data = deployment.folder().join("data");
    for name in [
        "pixtoll.db",
        "pixtoll.db-wal",
        "pixtoll.db-shm",
        "sandbox.db",
        "sandbox.db-wal",
        "sandbox.db-shm",
        "secrets.key",
    ] {
        assert_eq!(mode(&data.join(name)), 0o600, "{name}");
    }
    let backup = deployment.folder().join("backup");
    let ran = deployment
        .run(&["backup", "--with-key", backup.to_str().unwrap()])
        .await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let copies = copies_in(&backup);
    assert_eq!(copies.len(), 1);
    assert_eq!(mode(&copies[0]), 0o600);
    server.kill().await;
    std::fs::remove_dir_all(&data).unwrap();
    let ran = deployment.run(&["restore", backup.to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(mode(&data.join("pixtoll.db")), 0o600);
    assert!(!deployment.log().contains("other users of this machine"));
}

#[tokio::test]
async fn a_database_that_others_can_read_keeps_its_mode_with_a_warning() {
    let deployment = Deployment::alone();
    deployment.start().await.kill().await;
    let file = deployment.folder().join("data/pixtoll.db");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    deployment.start().await.kill().await;
    let log = deployment.log();
    assert!(
        log.contains("other users of this machine may read the database"),
        "{log}"
    );
    assert_eq!(mode(&file), 0o644);
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_full_disk_is_logged_once_and_not_at_each_request() {
    let deployment = Deployment::alone().set("images.min_free", "1000000 GiB");
    let server = deployment.spawn(&["serve"], "");
    let warning = "the free space of images.store is below images.min_free";
    let warned = async || deployment.log().contains(warning).then_some(());
    // Before any upload.
    eventually("the warning", warned).await;
    let upload = Request::post("/api/free").with_image(&pictures::png(8, 8));
    for _ in 0..3 {
        let refused = eventually("an answer", async || deployment.send(&upload).await).await;
        assert_eq!(refused.status, 507);
    }
    let log = deployment.log();
    assert_eq!(log.matches(warning).count(), 1, "{log}");
    let line = log.lines().find(|line| line.contains(warning)).unwrap();
    assert!(
        line.contains("WARN") && line.contains("min_free="),
        "{line}"
    );
    server.kill().await;
}

#[tokio::test]
async fn a_newer_database_is_rejected_by_an_older_program() {
    let deployment = Deployment::alone();
    deployment.start().await.kill().await;
    change(
        deployment.folder(),
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', TRUE, x'00', 0)",
    )
    .await;
    refuses(&deployment, "9999").await;
    let ledger = deployment.run(&["ledger", "check"]).await;
    assert_eq!(ledger.code, Some(1), "{ledger:?}");
}

async fn refuses(deployment: &Deployment, why: &str) {
    let refused = deployment.run(&["serve"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains(why), "{refused:?}");
}

async fn change(folder: &Path, statement: &'static str) {
    let file = folder.join("data/pixtoll.db");
    let db = database::open(&format!("sqlite:{}", file.display())).await;
    let Db::Sqlite(sqlite) = &db else {
        panic!("it is SQLite")
    };
    let changed = sqlite.execute(sqlx::query(statement)).await.unwrap();
    assert_eq!(changed.rows_affected(), 1);
    db.close().await;
}

/// Runs `pixtoll upload …` as a user with an empty home directory.
async fn upload(deployment: &Deployment, arguments: &[&str]) -> Ran {
    let mut command = deployment.bare(&["upload", "--server", &deployment.base]);
    let command = command.args(arguments).env("HOME", deployment.folder());
    Ran::of(command.output().await.unwrap())
}

/// The only line that was printed.
fn link(ran: &Ran) -> &str {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let line = ran.out.strip_suffix('\n').unwrap();
    assert!(
        line.starts_with("http://127.0.0.1:") && !line.contains('\n'),
        "{ran:?}"
    );
    line
}

#[tokio::test]
async fn the_client_uploads_pays_and_prints_only_the_link() {
    let (sandbox, _facilitator, deployment) = with_proxy().await;
    let _server = deployment.start().await;
    let (payment, _) = deployment.sign("/api/upload/year", b"").await;
    let transfers = async || {
        let moved = sandbox.transfers_to(payment.authorization.to).await;
        moved.len()
    };
    std::fs::write(deployment.folder().join("a.png"), pictures::png(8, 8)).unwrap();

    let free = upload(&deployment, &["a.png"]).await;
    let free = link(&free).to_owned();
    let dry = upload(&deployment, &["a.png", "--tier", "year", "--dry-run"]).await;
    assert_eq!((dry.code, dry.out.as_str()), (Some(0), ""), "{dry:?}");
    assert!(
        dry.err.contains("would pay 0.01 USDC of play money"),
        "{dry:?}"
    );
    let dear = upload(&deployment, &["a.png", "--tier", "permanent"]).await;
    assert_eq!((dear.code, dear.out.as_str()), (Some(4), ""), "{dear:?}");
    assert_eq!(transfers().await, 0);

    let first = upload(&deployment, &["a.png", "--tier", "year"]).await;
    assert!(
        first.err.starts_with("Created a wallet for play money: 0x"),
        "{first:?}"
    );
    assert_eq!(transfers().await, 1);
    let second = upload(&deployment, &["a.png", "--tier", "year"]).await;
    assert_eq!(second.err, "");
    assert_eq!(transfers().await, 2);
    let json = upload(
        &deployment,
        &["a.png", "--tier", "year", "--format", "json"],
    )
    .await;
    let json: Value = serde_json::from_str(json.out.strip_suffix('\n').unwrap()).unwrap();
    let third = json["url"].as_str().unwrap();
    let cap = ["a.png", "--tier", "permanent", "--max-price", "1"];
    let fourth = upload(&deployment, &cap).await;
    assert_eq!(transfers().await, 4);

    let links = [&free, link(&first), link(&second), third, link(&fourth)];
    assert_eq!(BTreeSet::from(links).len(), links.len());
    for link in links {
        let served = deployment.answer(&Request::get(link)).await;
        assert_eq!(
            (served.status, served.bytes),
            (200, pictures::png(8, 8)),
            "{link}"
        );
    }
    deployment.check_ledger().await;
}

#[tokio::test]
async fn a_client_killed_after_paying_gets_its_link_by_the_same_command() {
    let (sandbox, facilitator, deployment) = with_proxy().await;
    let _server = deployment.start().await;
    let (payment, _) = deployment.sign("/api/upload/year", b"").await;
    std::fs::write(deployment.folder().join("a.png"), pictures::png(8, 8)).unwrap();
    let release = Arc::new(Notify::new());
    facilitator.next("settle", Fault::Late(Arc::clone(&release)));
    let mut command = deployment.bare(&["upload", "--server", &deployment.base]);
    let mut client = command
        .args(["a.png", "--tier", "year"])
        .env("HOME", deployment.folder())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("the transfer", async || {
        let moved = sandbox.transfers_to(payment.authorization.to).await;
        (!moved.is_empty()).then_some(())
    })
    .await;
    client.kill().await.unwrap();
    release.notify_one();

    let again = upload(&deployment, &["a.png", "--tier", "year"]).await;
    let served = deployment.answer(&Request::get(link(&again))).await;
    assert_eq!(served.bytes, pictures::png(8, 8));
    let moved = sandbox.transfers_to(payment.authorization.to).await;
    assert_eq!(moved.len(), 1);
    deployment.check_ledger().await;
}

#[tokio::test]
async fn images_without_metadata_are_served_byte_for_byte() {
    let deployment = Deployment::alone();
    let _server = deployment.start().await;
    let folder = deployment.folder();
    let mut files = Vec::new();
    for (name, bytes) in [
        ("large.png", pictures::png(1300, 1300)),
        ("moving.gif", pictures::gif_animated(16, 16, 12)),
        ("moving.webp", pictures::webp_animated(16, 16, 12)),
        ("lossy.webp", pictures::webp_lossy()),
        ("small.jpg", pictures::jpeg()),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        files.push(path);
    }
    let names: Vec<&str> = files.iter().map(|path| path.to_str().unwrap()).collect();
    let ran = upload(
        &deployment,
        &[&["--tier", "year"], names.as_slice()].concat(),
    )
    .await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.out.lines().count(), files.len());
    for (file, link) in files.iter().zip(ran.out.lines()) {
        let served = deployment.answer(&Request::get(link)).await;
        assert_eq!(served.status, 200, "{link}");
        // Without `assert_eq!`, which would print megabytes of difference.
        let same = served.bytes == std::fs::read(file).unwrap();
        assert!(same, "{} came back otherwise", file.display());
    }
    deployment.check_ledger().await;
}

#[tokio::test]
async fn a_killed_server_has_kept_every_sale_that_it_answered_among_many() {
    let (_sandbox, _facilitator, deployment) = with_proxy().await;
    let server = deployment.start().await;
    let mut requests = Vec::new();
    for _ in 0..16 {
        let (_, request) = deployment.sign("/api/upload/token/year", b"").await;
        requests.push(request);
    }
    let send = async |request| (request, deployment.send(request).await);
    let mut answers: FuturesUnordered<_> = requests.iter().map(send).collect();
    let mut sold = Vec::new();
    while sold.len() < 4 {
        let (request, answer) = answers.next().await.unwrap();
        sold.push((request, answer.unwrap().token()));
    }
    server.kill().await;
    while let Some((request, answer)) = answers.next().await {
        sold.extend(answer.map(|answer| (request, answer.token())));
    }
    let _server = deployment.start().await;
    for (request, token) in sold {
        assert_eq!(deployment.last_word(request).await.token(), token);
    }
    for request in &requests {
        deployment.last_word(request).await.token();
    }
    deployment.check_ledger().await;
}
