//! Database moves (docs/operations.md), as far as they need no PostgreSQL: after the fence nothing
//! changes the database, servers notice, and their responses are correct.

use std::path::Path;

use pixtoll::db::{Db, layout, moves};
use pixtoll::system::clock::{Clock, SystemClock};

use crate::support::database::{execute, number, open, texts};
use crate::support::process::{Deployment, Request, eventually};
use crate::support::{Answer, TestApp, pictures};

/// The kill points of `pixtoll migrate`, used in `moving_postgres.rs`.
pub(crate) const POINTS: &[&str] = &[
    "move.fence.before",
    "move.fence.after",
    "move.receive.after",
    "move.page.before",
    "move.page.after#3",
    "move.compare.before",
    "move.ready.before",
    "move.ready.after",
    "move.leave.before",
    "move.leave.after",
    "move.open.before",
    "move.open.after",
];

/// Opens the database in a deployment's folder, beside its server.
pub(crate) async fn database_in(folder: &Path) -> Db {
    let file = folder.join("data/pixtoll.db");
    open(&format!("sqlite:{}", file.display())).await
}

/// Runs the first step of `pixtoll migrate`.
async fn fence(db: &Db) {
    let tables = layout::read(db).await.unwrap();
    let name = ("feed", "postgres://elsewhere:5432/pixtoll");
    let now = SystemClock.now();
    moves::fence(db, &tables, name, now).await.unwrap();
}

fn busy(charged: Option<bool>) -> (u16, String, Option<bool>) {
    (503, "maintenance".to_owned(), charged)
}

/// The tables that a move has to include, read from the database.
pub(crate) async fn tables_of(db: &Db) -> Vec<String> {
    let names = texts(
        db,
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' \
         AND name NOT IN ('moves', 'withdrawals', '_sqlx_migrations') ORDER BY name",
    )
    .await;
    assert!(names.len() > 10, "{names:?}");
    names
}

async fn until_refused(deployment: &Deployment) -> Answer {
    eventually("the notice of the move", async || {
        let request = Request::post("/api/free").with_image(&pictures::png(4, 4));
        let answer = deployment.answer(&request).await;
        (answer.status == 503 && answer.error() == "maintenance").then_some(answer)
    })
    .await
}

#[tokio::test]
async fn a_server_changes_nothing_while_its_database_is_moved() {
    let deployment = Deployment::alone();
    let _server = deployment.start().await;
    let picture = pictures::png(8, 8);
    let free = Request::post("/api/free").with_image(&picture);
    let uploaded = deployment.answer(&free).await;
    let (_, bought) = deployment.sign("/api/upload/token/year", b"").await;
    let token = deployment.last_word(&bought).await.token();
    let (_, fresh) = deployment.sign("/api/upload/year", &picture).await;
    let db = database_in(deployment.folder()).await;
    fence(&db).await;

    assert_eq!(
        until_refused(&deployment).await.verdict(),
        busy(Some(false))
    );
    let id = uploaded.field("id");
    let renew = format!("/api/images/{id}/renew?tier=year");
    for path in ["/api/upload/token/year", "/api/upload/year", &renew] {
        let challenge = deployment.answer(&Request::post(path)).await;
        assert_eq!(challenge.verdict(), busy(Some(false)), "{path}");
        assert!(challenge.header("retry-after").is_some());
    }
    // The responses leave open whether these moved money.
    for request in [&bought, &fresh] {
        let refused = deployment.answer(request).await;
        assert_eq!(refused.verdict(), busy(None));
        assert!(refused.text().contains("do not pay again"));
    }
    let with_token = Request::post("/api/upload")
        .with("X-Upload-Token", &token)
        .with_image(&picture);
    assert_eq!(
        deployment.answer(&with_token).await.verdict(),
        busy(Some(false))
    );
    let delete = Request::delete(&format!("/api/images/{id}"))
        .with("X-Delete-Token", &uploaded.field("deleteToken"));
    assert_eq!(
        deployment.answer(&delete).await.verdict(),
        busy(Some(false))
    );

    // A sign-in records its nonce.
    let receipts = format!("/api/receipts/{id}");
    for path in ["/api/images", &receipts] {
        let challenge = deployment.answer(&Request::get(path)).await;
        assert_eq!(challenge.verdict(), busy(Some(false)), "{path}");
    }

    for path in [
        uploaded.field("url"),
        format!("/api/images/{id}"),
        "/api/tiers".to_owned(),
        format!("{}/readyz", deployment.admin),
    ] {
        assert_eq!(
            deployment.answer(&Request::get(&path)).await.status,
            200,
            "{path}"
        );
    }
    let ready = Request::get(&format!("{}/readyz", deployment.admin));
    let ready = deployment.answer(&ready).await;
    assert!(ready.field("problem").contains("is being moved"));
    deployment.check_ledger().await;
    let again = Deployment::alone().set(
        "database.url",
        &format!(
            "sqlite:{}",
            deployment.folder().join("data/pixtoll.db").display()
        ),
    );
    let reap = again.run(&["reap", "--accept-clock"]).await;
    assert_eq!(reap.code, Some(1), "{reap:?}");

    let given_up = deployment.run(&["migrate", "--cancel"]).await;
    assert_eq!(given_up.code, Some(0), "{given_up:?}");
    let goods = deployment.last_word(&fresh).await;
    assert_eq!(goods.status, 200, "{}", goods.text());
    assert_eq!(deployment.last_word(&bought).await.token(), token);
    assert_eq!(deployment.answer(&with_token).await.status, 200);
    assert_eq!(deployment.answer(&delete).await.status, 200);
    let nothing = deployment.run(&["migrate", "--cancel"]).await;
    assert_eq!(nothing.code, Some(1), "{nothing:?}");
    assert!(nothing.err.contains("is not being moved"), "{nothing:?}");
    let left = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'moving%'";
    assert_eq!(number(&db, left).await, 0);
    db.close().await;
    deployment.check_ledger().await;
}

#[tokio::test]
async fn a_moved_database_is_not_served_and_no_server_starts_on_it() {
    let deployment = Deployment::alone();
    let server = deployment.start().await;
    let free = Request::post("/api/free").with_image(&pictures::png(8, 8));
    let uploaded = deployment.answer(&free).await;
    let (_, payment) = deployment.sign("/api/upload/token/year", b"").await;
    let db = database_in(deployment.folder()).await;
    fence(&db).await;
    let stopped = deployment.run(&["serve"]).await;
    assert_eq!(stopped.code, Some(1), "{stopped:?}");
    moves::leave(&db, "feed", SystemClock.now()).await.unwrap();

    let link = Request::get(&uploaded.field("url"));
    eventually("the end of service", async || {
        let answer = deployment.answer(&link).await;
        (answer.status == 503).then_some(())
    })
    .await;
    for path in ["/api/tiers", "/.well-known/jwks.json", "/nowhere"] {
        let answer = deployment.answer(&Request::get(path)).await;
        assert_eq!(answer.verdict(), busy(Some(false)), "{path}");
        assert_eq!(answer.header("access-control-allow-origin").unwrap(), "*");
    }
    assert_eq!(deployment.answer(&payment).await.verdict(), busy(None));
    let ready = Request::get(&format!("{}/readyz", deployment.admin));
    assert_eq!(deployment.answer(&ready).await.status, 503);

    server.kill().await;
    let says = "has moved to postgres://elsewhere:5432/pixtoll";
    for arguments in [
        &["serve"][..],
        &["ledger", "check"],
        &["store", "audit"],
        &["reap"],
        &["migrate", "--cancel"],
    ] {
        let refused = deployment.run(arguments).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.err.contains(says), "{arguments:?}: {refused:?}");
    }
    let online = deployment.run(&["config", "check", "--online"]).await;
    assert_eq!(online.code, Some(1), "{online:?}");
    assert!(online.out.contains(says), "{online:?}");
    db.close().await;
}

#[tokio::test]
async fn a_fenced_database_rejects_changes_to_all_tables_but_moves() {
    let folder = tempfile::tempdir().unwrap();
    let db = open(&crate::support::database::sqlite_url(folder.path())).await;
    db.migrate().await.unwrap();
    execute(&db, "INSERT INTO deployment VALUES ('database_id', 'aa')").await;
    fence(&db).await;
    let Db::Sqlite(sqlite) = &db else {
        panic!("it is SQLite")
    };
    for table in tables_of(&db).await {
        let triggers = format!(
            "SELECT COUNT(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = '{table}' AND name LIKE 'moving%'"
        );
        assert_eq!(number(&db, &triggers).await, 3, "{table}");
        let insert = sqlx::AssertSqlSafe(format!("INSERT INTO {table} DEFAULT VALUES"));
        let refused = sqlite.execute(sqlx::query(insert)).await.unwrap_err();
        assert!(
            refused.to_string().contains("is being moved"),
            "{table}: {refused}"
        );
    }
    for change in [
        "UPDATE deployment SET value = value",
        "DELETE FROM deployment",
    ] {
        let refused = sqlite.execute(sqlx::query(change)).await.unwrap_err();
        assert!(refused.to_string().contains("is being moved"), "{refused}");
    }
    db.close().await;
}

#[tokio::test]
async fn before_a_server_notices_a_move_failed_writes_are_reported_correctly() {
    // The server doesn't check the state of the move in this test.
    let app = TestApp::spawn().await;
    if matches!(app.db(), Db::Postgres(_)) {
        return;
    }
    let token = app.pay(&app.sign_for("year").await).await.token();
    let settled = app.sign_for("year").await;
    app.pay(&settled).await.token();
    let fresh = app.sign_for("year").await;
    fence(app.db()).await;

    let failed = |charged| (503, "database_unavailable".to_owned(), charged);
    assert_eq!(
        app.upload_free(pictures::png(4, 4)).await.verdict(),
        failed(Some(false))
    );
    let upload = app.upload_with(&token, pictures::png(4, 4)).await;
    assert_eq!(upload.verdict(), failed(Some(false)));
    let refused = app.pay(&fresh).await;
    assert_eq!(
        (refused.status, refused.charged()),
        (503, None),
        "{}",
        refused.text()
    );
    assert_eq!(app.transfers().await.len(), 2);
    // A token that is sold already is in the ledger, and needs no write.
    app.pay(&settled).await.token();
    assert_eq!(app.rows("images").await, 0);
}
