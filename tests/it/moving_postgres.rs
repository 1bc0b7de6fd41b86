//! `pixtoll migrate --to`: a SQLite deployment moves to PostgreSQL, whatever fails meanwhile.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;

use pixtoll::db::Db;
use sqlx::AssertSqlSafe;
use tokio::sync::Notify;

use crate::moving::{POINTS, database_in, tables_of};
use crate::support::database::{count, create_postgres, execute, open, postgres_server, texts};
use crate::support::pictures;
use crate::support::process::{Deployment, Ran, Request, SandboxProcess, eventually};
use crate::support::proxy::{Fault, Proxy};

/// Creates an empty database that sorts text by language rules, not by bytes.
async fn empty() -> String {
    let server = postgres_server().unwrap();
    let url = create_postgres(&server).await;
    let (_, name) = url.rsplit_once('/').unwrap();
    let db = open(&server).await;
    execute(&db, &format!("DROP DATABASE {name}")).await;
    execute(
        &db,
        &format!(
            "CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en' LOCALE 'C'"
        ),
    )
    .await;
    db.close().await;
    url
}

async fn migrate(deployment: &Deployment, to: &str) -> Ran {
    deployment.run(&["migrate", "--to", to]).await
}

/// Runs a move that is killed at a kill point.
async fn dies(deployment: &Deployment, to: &str, point: &str) {
    let action = match point.split_once('#') {
        Some((name, passing)) => {
            let before: u32 = passing.parse::<u32>().unwrap() - 1;
            format!("{name}={before}*off->1*return")
        }
        None => format!("{point}=1*return"),
    };
    let mut command = deployment.command(&["migrate", "--to", to]);
    let output = command.env("FAILPOINTS", action).output().await.unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), Some(9), "{point}: {err}");
}

/// The deployment on the database that it moved to, with its own store and key, on other ports.
fn moved(deployment: &Deployment, url: &str) -> Deployment {
    let data = deployment.folder().join("data");
    deployment
        .replica()
        .set("database.url", url)
        .set("images.store", data.join("images").to_str().unwrap())
        .set(
            "secrets.key_file",
            data.join("secrets.key").to_str().unwrap(),
        )
}

/// Every value of a table as text, in an order that both databases agree on.
async fn dump(db: &Db, table: &str, columns: &[String]) -> Vec<String> {
    // The holders of these leases are gone.
    let ended = ["lease_until_ms", "reserved_until_ms", "until_ms"];
    let mut values = Vec::new();
    for column in columns {
        if ended.contains(&column.as_str()) {
            continue;
        }
        let sql = format!("SELECT COALESCE(CAST({column} AS TEXT), 'null') FROM {table}");
        let mut found = texts(db, &sql).await;
        found.sort();
        values.extend(found.into_iter().map(|value| format!("{column}: {value}")));
    }
    values
}

/// Compares both databases by plain SQL, column by column.
async fn judge(source: &Db, target: &Db) {
    for table in tables_of(source).await {
        let columns = texts(
            source,
            &format!("SELECT name FROM pragma_table_info('{table}')"),
        )
        .await;
        assert_eq!(
            count(source, &table).await,
            count(target, &table).await,
            "{table}"
        );
        let (own, copied) = (
            dump(source, &table, &columns).await,
            dump(target, &table, &columns).await,
        );
        assert_eq!(own, copied, "{table}");
    }
}

/// Inserts rows that fill more than one page, with keys that databases sort differently.
async fn fill(db: &Db) {
    execute(
        db,
        "INSERT INTO erased_payments (id, transfer_hash, erased_ms) \
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 2499) \
         SELECT CASE i % 4 WHEN 0 THEN 'a' WHEN 1 THEN 'B' WHEN 2 THEN 'é' ELSE '_' END || i, \
         CASE i % 3 WHEN 0 THEN NULL ELSE 'ü' || i END, -i * 1000000000000 FROM n",
    )
    .await;
    execute(
        db,
        "INSERT INTO payment_proofs (payment_id, kind, hash) \
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1499) \
         SELECT (SELECT MIN(id) FROM payments), CASE i % 2 WHEN 0 THEN 'aa' ELSE 'Z' END, 'h' || i FROM n",
    )
    .await;
    execute(
        db,
        "INSERT INTO replaced_secrets (hash, payment_id) SELECT 'replaced', MIN(id) FROM payments",
    )
    .await;
    execute(
        db,
        "INSERT INTO blocks (kind, value, source, reason, created_ms, expires_ms) \
         VALUES ('sha256', 'abababababababababababababababababababababababababababababababab', 'operator', 'é', 1, NULL)",
    )
    .await;
    execute(db, "INSERT INTO block_changes (id, version) VALUES (1, 7)").await;
}

#[tokio::test]
async fn a_deployment_moves_completely_despite_kills_at_every_point() {
    let sandbox = SandboxProcess::start().await;
    let deployment = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url);
    let running = deployment.start().await;
    let picture = pictures::png(8, 8);
    let free = Request::post("/api/free").with_image(&picture);
    let uploaded = deployment.answer(&free).await;
    let (_, buy) = deployment.sign("/api/upload/token/year", b"").await;
    let token = deployment.last_word(&buy).await.token();
    let (paid, direct) = deployment.sign("/api/upload/year", &picture).await;
    let bought = deployment.last_word(&direct).await;
    let id = uploaded.field("id");
    let (_, renew) = deployment
        .sign(&format!("/api/images/{id}/renew?tier=year"), b"")
        .await;
    assert_eq!(deployment.last_word(&renew).await.status, 200);
    let source = database_in(deployment.folder()).await;
    fill(&source).await;

    let to = empty().await;
    for point in POINTS {
        dies(&deployment, &to, point).await;
        if point.starts_with("move.fence") {
            // The target is still an empty database.
            continue;
        }
        let new = moved(&deployment, &to)
            .run(&["ledger", "check", "--offline"])
            .await;
        let is_open = *point == "move.open.after";
        assert_eq!(new.code == Some(0), is_open, "{point}: {new:?}");
    }
    let again = migrate(&deployment, &to).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.out.contains("was moved to postgres://"), "{again:?}");
    let target = open(&to).await;
    judge(&source, &target).await;
    let held = "SELECT COUNT(*)::TEXT FROM payments WHERE lease_until_ms > 0";
    assert_eq!(texts(&target, held).await, ["0"]);
    execute(&target, "DELETE FROM payment_proofs WHERE hash LIKE 'h%'").await;

    // The old server answers nothing, and the new one has everything.
    let link = Request::get(&uploaded.field("url"));
    assert_eq!(deployment.answer(&link).await.status, 503);
    running.kill().await;
    let refused = deployment.run(&["serve"]).await;
    assert!(
        refused.err.contains("has moved to postgres://"),
        "{refused:?}"
    );
    let new = moved(&deployment, &to);
    let _server = new.start().await;
    let path = |answer: &crate::support::Answer| {
        let url = answer.field("url");
        url.strip_prefix(&deployment.base).unwrap().to_owned()
    };
    for answer in [&uploaded, &bought] {
        let image_answer = new.answer(&Request::get(&path(answer))).await;
        assert_eq!(
            (image_answer.status, image_answer.bytes),
            (200, picture.clone())
        );
    }
    assert_eq!(new.last_word(&buy).await.token(), token);
    assert_eq!(new.last_word(&direct).await.field("id"), bought.field("id"));
    let used = Request::post("/api/upload").with("X-Upload-Token", &token);
    assert_eq!(new.answer(&used.with_image(&picture)).await.status, 200);
    assert_eq!(
        new.last_word(&new.sign("/api/upload/token/year", b"").await.1)
            .await
            .status,
        200
    );
    let transfers = sandbox.transfers_to(paid.authorization.to).await;
    assert_eq!(transfers.len(), 4);
    new.check_ledger().await;
    source.close().await;
    target.close().await;
}

#[tokio::test]
async fn a_payment_open_at_the_fence_gets_its_goods_once_at_the_new_server() {
    let sandbox = SandboxProcess::start().await;
    let facilitator = Proxy::before(&sandbox.facilitator_url);
    let deployment = Deployment::on(&facilitator.url, &sandbox.rpc_url);
    let _old = deployment.start().await;
    let picture = pictures::png(9, 9);
    let (payment, request) = deployment.sign("/api/upload/year", &picture).await;
    let (_, unsent) = deployment.sign("/api/upload/token/year", b"").await;
    let release = Arc::new(Notify::new());
    facilitator.next("settle", Fault::Held(Arc::clone(&release)));
    let to = empty().await;
    let answer = async { deployment.answer(&request).await };
    let meanwhile = async {
        eventually("the call of settle", async || {
            (facilitator.calls("settle") == 1).then_some(())
        })
        .await;
        let ran = migrate(&deployment, &to).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        release.notify_one();
    };
    let (answer, ()) = tokio::join!(answer, meanwhile);
    // The money moved, and the old server can't record that: it reports an unknown outcome.
    assert_eq!(answer.charged(), None, "{}", answer.text());
    assert_ne!(answer.status, 200);
    assert_eq!(deployment.answer(&request).await.charged(), None);

    let new = moved(&deployment, &to);
    let _server = new.start().await;
    let goods = new.last_word(&request).await;
    assert_eq!(goods.status, 200, "{}", goods.text());
    assert_eq!(new.last_word(&request).await.field("id"), goods.field("id"));
    let served = new
        .answer(&Request::get(&format!("/i/{}.png", goods.field("id"))))
        .await;
    assert_eq!(served.bytes, picture);
    assert_eq!(
        sandbox.transfers_to(payment.authorization.to).await.len(),
        1
    );
    // An offer from before the move is sold after it.
    new.last_word(&unsent).await.token();
    assert_eq!(
        sandbox.transfers_to(payment.authorization.to).await.len(),
        2
    );
    new.check_ledger().await;
}

#[tokio::test]
async fn an_occupied_target_is_rejected_before_the_source_is_fenced() {
    let deployment = Deployment::alone();
    let _server = deployment.start().await;
    let free = Request::post("/api/free").with_image(&pictures::png(8, 8));
    let taken = empty().await;
    let other = Deployment::alone()
        .set("database.url", &taken)
        .set("secrets.key", &"42".repeat(32));
    other.start().await.kill().await;
    let refused = migrate(&deployment, &taken).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("is not empty"), "{refused:?}");
    let nowhere = migrate(&deployment, "postgres://user:KEY@127.0.0.1:9/nothing").await;
    assert_eq!(nowhere.code, Some(1), "{nowhere:?}");
    assert!(!nowhere.err.contains("KEY"), "{nowhere:?}");
    for wrong in ["postgres://user:KEY@127.0.0.1", "sqlite:KEY", "KEY"] {
        let wrong = migrate(&deployment, wrong).await;
        assert_eq!(wrong.code, Some(1), "{wrong:?}");
        assert!(!wrong.err.contains("KEY"), "{wrong:?}");
    }
    assert_eq!(deployment.answer(&free).await.status, 200);
}

#[tokio::test]
async fn a_restarted_move_copies_changes_made_after_it_was_cancelled() {
    let deployment = Deployment::alone();
    let _server = deployment.start().await;
    let free = Request::post("/api/free").with_image(&pictures::png(8, 8));
    assert_eq!(deployment.answer(&free).await.status, 200);
    let to = empty().await;
    dies(&deployment, &to, "move.ready.after").await;
    let elsewhere = migrate(&deployment, &empty().await).await;
    assert_eq!(elsewhere.code, Some(1), "{elsewhere:?}");
    assert!(
        elsewhere.err.contains("this database is being moved to"),
        "{elsewhere:?}"
    );
    assert_eq!(deployment.run(&["migrate", "--cancel"]).await.code, Some(0));
    // A server rejects the unfinished copy.
    let new = moved(&deployment, &to);
    let refused = new.run(&["serve"]).await;
    assert!(refused.err.contains("unfinished copy"), "{refused:?}");
    eventually("the service", async || {
        (deployment.answer(&free).await.status == 200).then_some(())
    })
    .await;
    let ran = migrate(&deployment, &to).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let (source, target) = (database_in(deployment.folder()).await, open(&to).await);
    assert!(count(&source, "images").await >= 2);
    judge(&source, &target).await;
    source.close().await;
    target.close().await;
}

#[tokio::test]
async fn a_changed_copy_is_reported_and_not_handed_over() {
    let deployment = Deployment::alone();
    let _server = deployment.start().await;
    let free = Request::post("/api/free").with_image(&pictures::png(8, 8));
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(deployment.answer(&free).await.field("id"));
    }
    ids.sort();
    let to = empty().await;
    dies(&deployment, &to, "move.compare.before").await;
    let target = open(&to).await;
    let Db::Postgres(pool) = &target else {
        panic!("{to}")
    };
    let changes = [
        format!(
            "UPDATE images SET size_bytes = size_bytes + 1 WHERE id = '{}'",
            ids[0]
        ),
        format!("DELETE FROM images WHERE id = '{}'", ids[1]),
        "INSERT INTO erased_payments (id, erased_ms) VALUES ('new', 1)".to_owned(),
    ];
    for change in changes {
        sqlx::query(AssertSqlSafe(change))
            .execute(pool)
            .await
            .unwrap();
    }
    let ran = migrate(&deployment, &to).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for line in [
        format!("DIFFERENT: images: {} differs", ids[0]),
        format!("DIFFERENT: images: {} is missing in the copy", ids[1]),
        "DIFFERENT: erased_payments: new is in the copy only".to_owned(),
        "the SQLite database stays the current one".to_owned(),
    ] {
        assert!(ran.out.contains(&line), "{line} in {ran:?}");
    }
    assert!(
        moved(&deployment, &to)
            .run(&["serve"])
            .await
            .err
            .contains("unfinished copy")
    );
    assert_eq!(deployment.run(&["migrate", "--cancel"]).await.code, Some(0));
    eventually("the service", async || {
        (deployment.answer(&free).await.status == 200).then_some(())
    })
    .await;
    target.close().await;
}
