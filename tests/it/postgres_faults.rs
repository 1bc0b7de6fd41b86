//! Failures of PostgreSQL: lost answers, broken connections, crashes, and a server that becomes
//! read-only. Nobody is charged for nothing, nobody gets goods for nothing, and the server recovers
//! by itself.

use std::time::Duration;

use futures_util::future::join_all;
use pixtoll::db::{Db, DbError, keys};
use pixtoll::keys::secrets::SecretKey;
use pixtoll::keys::signing::SigningKeys;
use pixtoll::system::clock::{Clock, Timestamp};

use crate::support::cluster::Cluster;
use crate::support::database::{create_postgres, execute, number, open, postgres_server};
use crate::support::line::Line;
use crate::support::process::{Deployment, SandboxProcess, eventually, says_to_repeat};
use crate::support::{Answer, Payment, TestApp, pictures};

/// More attempts than any of these faults needs.
const TRIES: usize = 400;

async fn database() -> String {
    create_postgres(&postgres_server().unwrap()).await
}

/// Whether the chain shows a transfer of this payment.
async fn has_moved(app: &TestApp, payment: &Payment) -> bool {
    let nonce = Some(payment.authorization.nonce);
    app.transfers()
        .await
        .iter()
        .any(|transfer| transfer.nonce == nonce)
}

/// Asserts that a response during a database failure asks to repeat the request, and says nothing
/// wrong about the money.
async fn assert_honest(app: &TestApp, payment: &Payment, answer: &Answer) {
    let told = answer.text();
    assert!(
        [409, 500, 503].contains(&answer.status),
        "{}: {told}",
        answer.status
    );
    let action = answer.json()["action"]["type"].clone();
    assert!(action == "retry" || action == "wait", "{told}");
    match answer.charged() {
        Some(false) => assert!(!has_moved(app, payment).await, "{told}"),
        Some(true) => assert!(has_moved(app, payment).await, "{told}"),
        None => {}
    }
}

/// Sends a payment again and again, while its leases expire, until it returns goods.
async fn until_sold(app: &TestApp, payment: &Payment, picture: Option<&[u8]>) -> Answer {
    until_sold_with(app, payment, picture, Duration::from_secs(6)).await
}

async fn until_sold_with(
    app: &TestApp,
    payment: &Payment,
    picture: Option<&[u8]>,
    pause: Duration,
) -> Answer {
    let begun = app.clock.now();
    for _ in 0..TRIES {
        let answer = match picture {
            Some(picture) => app.pay_with(payment, picture).await,
            None => app.pay(payment).await,
        };
        if answer.status == 200 {
            return answer;
        }
        assert_honest(app, payment, &answer).await;
        // Concurrent payers advance the clock, and must stay within their windows.
        if app.clock.now().since(begun) < Duration::from_secs(250) {
            app.clock.advance(pause);
        }
    }
    panic!("never sold: {:?}", app.state_of(payment).await);
}

/// A server whose connection to its database can be cut.
async fn behind_a_line() -> (TestApp, Line) {
    let url = database().await;
    let line = Line::to(&url).await;
    let app = TestApp::builder().on(&url, &line.url);
    (app.spawn().await, line)
}

#[tokio::test]
async fn a_lost_database_answer_in_a_paid_upload_costs_no_money_or_goods() {
    let (app, line) = behind_a_line().await;
    for point in 0.. {
        let picture = pictures::png_seeded(4, 4, u64::try_from(point).unwrap());
        let payment = app.sign_at("/api/upload/year").await;
        line.lose_answer_after(point);
        let bought = until_sold(&app, &payment, Some(&picture)).await;
        let is_over = !line.has_lost();
        assert_eq!(app.get(&bought.field("url")).await.status, 200);
        // The purchase is still the same, and nothing moved twice.
        let again = app.pay_with(&payment, &picture).await;
        assert_eq!(again.field("id"), bought.field("id"));
        let moved = i64::try_from(app.transfers().await.len()).unwrap();
        assert_eq!(moved, point + 1, "after answer {point}");
        if is_over {
            // Reading, verify, settle and publish have more answers than these.
            assert!(point > 20, "{point}");
            break;
        }
    }
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_lost_database_answer_between_payment_and_upload_costs_nothing() {
    let (app, line) = behind_a_line().await;
    for point in 0.. {
        let picture = pictures::png_seeded(4, 4, u64::try_from(point).unwrap());
        let payment = app.sign_for("year").await;
        line.lose_answer_after(point);
        let token = until_sold(&app, &payment, None).await.token();
        let mut uploaded = app.upload_with(&token, picture.clone()).await;
        if [500, 503].contains(&uploaded.status) {
            // The failed attempt holds nothing, so the next one doesn't wait for it.
            assert_eq!(uploaded.charged(), Some(false), "{}", uploaded.text());
            uploaded = app.upload_with(&token, picture).await;
        }
        assert_eq!(
            uploaded.status,
            200,
            "after answer {point}: {}",
            uploaded.text()
        );
        let is_over = !line.has_lost();
        assert_eq!(app.get(&uploaded.field("url")).await.status, 200);
        assert_eq!(app.pay(&payment).await.field("id"), uploaded.field("id"));
        let moved = i64::try_from(app.transfers().await.len()).unwrap();
        assert_eq!(moved, point + 1, "after answer {point}");
        if is_over {
            assert!(point > 30, "{point}");
            break;
        }
    }
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_free_upload_with_a_lost_database_answer_is_published_or_absent() {
    let (app, line) = behind_a_line().await;
    let mut published = 0;
    for point in 0.. {
        line.lose_answer_after(point);
        let answer = app.upload_free(pictures::png(3, 3)).await;
        let is_over = !line.has_lost();
        match answer.status {
            200 => published += 1,
            500 | 503 => assert_eq!(answer.charged(), Some(false)),
            other => panic!("{other}: {}", answer.text()),
        }
        let live_rows = "SELECT COUNT(*) FROM images WHERE state = 'live'";
        assert_eq!(
            number(app.db(), live_rows).await,
            published,
            "after answer {point}"
        );
        if is_over {
            break;
        }
    }
    assert!(published > 1);
}

#[tokio::test]
async fn connections_that_end_under_load_cost_no_money_and_no_goods() {
    let url = database().await;
    let app = TestApp::builder().on(&url, &url).spawn().await;
    let mut payments = Vec::new();
    for number in 0..24_u64 {
        let path = ["/api/upload/token/year", "/api/upload/year"][usize::from(number % 2 == 1)];
        payments.push((number, app.sign_at(path).await));
    }
    let enemy = open(&url).await;
    let terminate = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity, pg_sleep(0.02) \
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let ended = async {
        let mut ended = 0;
        for _ in 0..60 {
            ended += number(&enemy, terminate).await;
        }
        ended
    };
    let sold = join_all(payments.iter().map(async |(number, payment)| {
        let picture = pictures::png_seeded(5, 5, *number);
        let picture = (number % 2 == 1).then_some(&*picture);
        let pause = Duration::from_millis(300);
        until_sold_with(&app, payment, picture, pause).await.json()
    }));
    let (ended, sold) = tokio::join!(ended, sold);
    assert!(ended > 60, "{ended}");
    assert_eq!(sold.len(), payments.len());
    assert_eq!(app.transfers().await.len(), payments.len());
    for ((number, payment), before) in payments.iter().zip(&sold) {
        let picture = pictures::png_seeded(5, 5, *number);
        let again = match number % 2 {
            1 => app.pay_with(payment, &picture).await,
            _ => app.pay(payment).await,
        };
        let again = again.json();
        assert_eq!(again["token"], before["token"]);
        assert_eq!(again["id"], before["id"]);
    }
    assert!(app.check_ledger().await.is_balanced());
    enemy.close().await;
}

#[tokio::test]
async fn a_database_crash_causes_retryable_errors_until_it_recovers() {
    let mut cluster = Cluster::start().await;
    let url = cluster.url();
    let app = TestApp::builder()
        .on(&url, &url)
        .set("database.acquire_timeout", "3s")
        .spawn()
        .await;
    let ready = format!("{}/readyz", app.admin);
    let jobs = app.app.start_jobs();
    let picture = pictures::png(6, 6);
    let before = app.sign_at("/api/upload/year").await;
    let during = app.sign_at("/api/upload/year").await;
    let bought = app.pay_with(&before, &picture).await;
    assert_eq!(app.get(&ready).await.status, 200);

    cluster.crash();
    let refused = app.pay_with(&during, &picture).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_honest(&app, &during, &refused).await;
    let refused = app.upload_free(picture.clone()).await;
    assert_eq!((refused.status, refused.charged()), (503, Some(false)));
    assert_eq!(app.get(&bought.field("url")).await.status, 503);
    let unready = eventually("readyz fails", async || {
        let answer = app.get(&ready).await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_eq!(unready.field("problem"), "the database does not answer");

    cluster.run().await;
    eventually("readyz recovers", async || {
        (app.get(&ready).await.status == 200).then_some(())
    })
    .await;
    // Everything that was committed before the crash is there.
    assert_eq!(
        app.pay_with(&before, &picture).await.field("id"),
        bought.field("id")
    );
    assert_eq!(until_sold(&app, &during, Some(&picture)).await.status, 200);
    assert_eq!(app.transfers().await.len(), 2);
    // The jobs continue as well: the auditor checks the payments that were just settled.
    eventually("the auditor has seen both", async || {
        // The auditor checks postponed payments again.
        app.advance(Duration::from_mins(5));
        let seen = "SELECT COUNT(*) FROM payments WHERE seen_block IS NOT NULL";
        (number(app.db(), seen).await == 2).then_some(())
    })
    .await;
    drop(jobs);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_standby_and_a_server_that_does_not_sync_are_rejected() {
    let primary = Cluster::start_with(&["wal_level=replica"]).await;
    let standby = primary.standby().await;
    let refused = Db::connect_postgres(&standby.url()).await.unwrap_err();
    assert!(matches!(refused, DbError::ReadOnly), "{refused}");
    assert!(refused.to_string().contains("is a standby"), "{refused}");
    open(&primary.url()).await.close().await;

    let forgetful = Cluster::start_with(&["fsync=off"]).await;
    let refused = Db::connect_postgres(&forgetful.url()).await.unwrap_err();
    assert!(matches!(refused, DbError::NotDurable { .. }), "{refused}");
    assert!(refused.to_string().contains("fsync = off"), "{refused}");
}

#[tokio::test]
async fn connections_to_a_server_that_became_read_only_are_dropped() {
    let cluster = Cluster::start().await;
    let url = cluster.url();
    let app = TestApp::builder()
        .on(&url, &url)
        .set("database.acquire_timeout", "3s")
        .spawn()
        .await;
    let ready = format!("{}/readyz", app.admin);
    let image = app.upload_free(pictures::png(3, 3)).await;
    assert_eq!(app.get(&ready).await.status, 200);

    cluster.set_read_only(true).await;
    // Like a connection to a standby, whose reads would miss the latest commits.
    eventually("readyz fails", async || {
        (app.get(&ready).await.status == 503).then_some(())
    })
    .await;
    assert_eq!(app.upload_free(pictures::png(3, 3)).await.status, 503);
    cluster.set_read_only(false).await;
    eventually("readyz recovers", async || {
        (app.get(&ready).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(app.upload_free(pictures::png(3, 3)).await.status, 200);
    assert_eq!(app.get(&image.field("url")).await.status, 200);
}

#[tokio::test]
async fn every_connection_syncs_commits_and_has_timeouts_despite_defaults() {
    let url = database().await;
    let db = open(&url).await;
    let name = url.rsplit_once('/').unwrap().1.to_owned();
    for setting in [
        "synchronous_commit = off",
        "statement_timeout = 0",
        "default_transaction_isolation = serializable",
    ] {
        execute(&db, &format!("ALTER DATABASE {name} SET {setting}")).await;
    }
    db.close().await;
    let db = open(&url).await;
    let Db::Postgres(pool) = &db else {
        panic!("no PostgreSQL")
    };
    let mut connections = Vec::new();
    for _ in 0..5 {
        connections.push(pool.acquire().await.unwrap());
    }
    for connection in &mut connections {
        let set: Vec<String> = sqlx::query_scalar(
            "SELECT current_setting(name) FROM unnest(ARRAY['synchronous_commit', 'statement_timeout', \
             'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_isolation', \
             'application_name']) AS name",
        )
        .fetch_all(&mut **connection)
        .await
        .unwrap();
        assert_eq!(
            set,
            ["on", "30s", "10s", "10s", "read committed", "pixtoll"]
        );
    }
    drop(connections);
    db.close().await;
}

#[tokio::test]
async fn a_transaction_that_a_deadlock_ended_is_run_again() {
    let url = database().await;
    let db = open(&url).await;
    db.migrate().await.unwrap();
    // Created early, so that both transactions wait for each other even on a slow machine.
    let name = url.rsplit_once('/').unwrap().1;
    let later = format!("ALTER DATABASE {name} SET deadlock_timeout = '5s'");
    execute(&db, &later).await;
    db.close().await;
    let db = open(&url).await;
    let keys = SigningKeys::derive(&SecretKey::from_bytes([7; 32])).unwrap();
    let keys = keys.public();
    keys::use_keys(&db, keys, Timestamp::from_seconds(1))
        .await
        .unwrap();
    let Db::Postgres(pool) = &db else {
        panic!("no PostgreSQL")
    };
    let mut other = pool.begin().await.unwrap();
    // Our server looks for deadlocks first, so its transaction is the one that is ended.
    let patient = "SET LOCAL deadlock_timeout = '1min'";
    sqlx::query(patient).execute(&mut *other).await.unwrap();
    let lock = "UPDATE signing_keys SET retired_ms = 5 WHERE id = $1";
    sqlx::query(lock)
        .bind(keys[1].id())
        .execute(&mut *other)
        .await
        .unwrap();
    let ours = keys::use_keys(&db, keys, Timestamp::from_seconds(2));
    let theirs = async {
        let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
            AND datname = current_database()";
        eventually("ours waits for theirs", async || {
            (number(&db, waiting).await == 1).then_some(())
        })
        .await;
        sqlx::query(lock)
            .bind(keys[0].id())
            .execute(&mut *other)
            .await
            .unwrap();
        other.commit().await.unwrap();
    };
    let (ours, ()) = tokio::join!(ours, theirs);
    ours.unwrap();
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    eventually("the server has counted it", async || {
        (number(&db, deadlocks).await == 1).then_some(())
    })
    .await;
    // It committed second, so its values are the final ones.
    let retired = "SELECT COUNT(*) FROM signing_keys WHERE retired_ms IS NOT NULL";
    assert_eq!(number(&db, retired).await, 0);
    db.close().await;
}

#[tokio::test]
async fn three_servers_can_start_at_once_on_an_empty_database() {
    let sandbox = SandboxProcess::start().await;
    let folder = tempfile::tempdir().unwrap();
    let url = database().await;
    let one = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url)
        .set("database.url", &url)
        .set(
            "images.store",
            folder.path().join("images").to_str().unwrap(),
        )
        .set("secrets.key", &"42".repeat(32));
    let (other, third) = (one.replica(), one.replica());
    let _servers = tokio::join!(one.start(), other.start(), third.start());
    let (_, request) = one.sign("/api/upload/token/year", b"").await;
    let token = one.last_word(&request).await.token();
    for server in [&other, &third] {
        let answer = server.answer(&request).await;
        assert!(!says_to_repeat(&answer), "{}", answer.text());
        assert_eq!(answer.token(), token);
    }
    one.check_ledger().await;
}

#[tokio::test]
async fn a_newer_database_is_rejected() {
    let url = database().await;
    let db = open(&url).await;
    db.migrate().await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
        VALUES (9999, 'from the future', TRUE, '', 0)";
    execute(&db, newer).await;
    let refused = db.migrate().await.unwrap_err();
    assert!(matches!(refused, DbError::Migrate(_)), "{refused}");
    assert!(!db.is_current().await.unwrap());
    db.close().await;
}
