//! Expiry and deletion: expired images are deleted on time, others stay, and deleted images stay
//! deleted, whoever deletes them, however often, and whatever fails meanwhile.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::poll;
use pixtoll::app::{independent_clocks, reaper_lock};
use pixtoll::db::Db;
use pixtoll::retention::{End, Reaped, Retention};
use pixtoll::store::Store;
use pixtoll::system::clock::{Clock, SystemClock};
use pixtoll::system::random::Randomness;
use serde_json::json;

use crate::support::database::{execute, number, texts};
use crate::support::proxy::Fault;
use crate::support::{Answer, TestApp, pictures};

const DAY: Duration = Duration::from_hours(24);
const YEAR: Duration = Duration::from_hours(365 * 24);
const NO_HEADERS: [(&str, &str); 0] = [];

impl TestApp {
    async fn reap(&self) -> Reaped {
        self.app.retention.reap().await.unwrap()
    }

    /// The reaper of another process.
    fn other_reaper(&self, seed: u64) -> Arc<Retention> {
        let store = Store::open_local(&self.folder().join("images")).unwrap();
        let clock = Arc::new(self.clock.clone());
        let randomness = Randomness::seeded(seed);
        let config = &self.app.config;
        let networks = self
            .app
            .checkout
            .as_ref()
            .map(|checkout| &checkout.networks);
        let clocks = independent_clocks(config, networks, self.db(), &store);
        let reaper = Retention::new(self.db().clone(), store, clock, &randomness, YEAR);
        let reaper = reaper.locked_by(reaper_lock(&config.database));
        Arc::new(reaper.checked_by(clocks))
    }

    /// Records a run of the reaper at the system's time, which commands use.
    async fn note_run_today(&self) {
        let now = SystemClock.now();
        pixtoll::db::jobs::note_run(self.db(), "reaper", now)
            .await
            .unwrap();
    }

    /// The file of an image's object.
    fn object(&self, id: &str) -> PathBuf {
        object_in(self.folder(), id)
    }

    /// The file of an image's sidecar.
    fn sidecar(&self, id: &str) -> PathBuf {
        self.object(id).with_extension("json")
    }

    async fn state_of_image(&self, id: &str) -> String {
        let sql = format!("SELECT state FROM images WHERE id = '{id}'");
        texts(self.db(), &sql).await.pop().unwrap_or_default()
    }

    async fn count(&self, condition: &str) -> i64 {
        let sql = format!("SELECT COUNT(*) FROM images WHERE {condition}");
        number(self.db(), &sql).await
    }

    /// Inserts expired images with their objects. Returns their ids.
    async fn insert_expired(&self, count: u32) -> Vec<String> {
        let now = self.clock.now().millis();
        let ids: Vec<String> = (0..count).map(|index| format!("due{index:09}")).collect();
        for chunk in ids.chunks(200) {
            let rows: Vec<String> = chunk.iter().map(|id| row(id, "live", now)).collect();
            execute(self.db(), &insert(&rows)).await;
        }
        for id in &ids {
            self.put_object(id);
        }
        ids
    }

    fn put_object(&self, id: &str) {
        let path = self.object(id);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"picture").unwrap();
        std::fs::write(self.sidecar(id), b"{}").unwrap();
    }

    /// Deletes an image with its delete token.
    async fn delete(&self, id: &str, token: &str) -> Answer {
        let path = format!("/api/images/{id}");
        self.send("DELETE", &path, &[("X-Delete-Token", token)], "")
            .await
    }
}

fn object_in(folder: &Path, id: &str) -> PathBuf {
    let store = folder.join("images/images");
    store.join(&id[..1]).join(&id[1..2]).join(id)
}

/// The values of an image's row that expires at `millis`, or was made then.
fn row(id: &str, state: &str, millis: i64) -> String {
    let published = if state == "live" { "1" } else { "NULL" };
    format!(
        "('{id}', '{state}', 'png', 7, 1, 1, 'x', 'x', 'free', {millis}, {published}, {millis})"
    )
}

fn insert(rows: &[String]) -> String {
    format!(
        "INSERT INTO images (id, state, format, size_bytes, width, height, sha256, upload_sha256, \
         tier, created_ms, published_ms, expires_ms) VALUES {}",
        rows.join(", ")
    )
}

#[tokio::test]
async fn an_image_expires_on_time_and_its_object_at_the_next_run() {
    let app = TestApp::on_disk().await;
    let picture = pictures::png(8, 8);
    let uploaded = app.upload_free(picture.clone()).await;
    let (id, url) = (uploaded.field("id"), uploaded.field("url"));
    let token = app.pay(&app.sign_for("permanent").await).await.token();
    let permanent = app.upload_with(&token, picture.clone()).await;
    app.advance(Duration::from_secs(7 * 86_400 - 2));

    let served = app.get(&url).await;
    assert_eq!(served.status, 200);
    let end = "Fri, 22 Jan 2027 08:00:00 GMT";
    assert_eq!(served.header("cache-control").unwrap(), "public, max-age=2");
    assert_eq!(served.header("expires").unwrap(), end);
    app.advance(Duration::from_millis(1999));
    assert_eq!(app.reap().await, Reaped::default());
    let served = app.get(&url).await;
    assert_eq!(served.header("cache-control").unwrap(), "public, max-age=0");
    assert_eq!(
        served.header("expires").unwrap(),
        "Fri, 22 Jan 2027 07:59:59 GMT"
    );
    app.advance(Duration::from_millis(1));
    assert_eq!(app.get(&url).await.error(), "not_found");
    assert_eq!(app.get(&format!("/api/images/{id}")).await.status, 404);
    assert!(app.object(&id).exists(), "no reaper has run yet");

    assert_eq!(app.reap().await.images, 1);
    assert!(!app.object(&id).exists() && !app.sidecar(&id).exists());
    assert_eq!(app.state_of_image(&id).await, "deleted");
    assert_eq!(app.get(&url).await.error(), "not_found");
    app.advance(YEAR * 9);
    app.app.retention.accept_clock().await.unwrap();
    app.reap().await;
    let kept = app.get(&permanent.field("url")).await;
    assert_eq!((kept.status, kept.bytes), (200, picture));
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_stopped_reaper_leaves_the_rest_to_the_next_run() {
    let app = TestApp::on_disk().await;
    let ids = app.insert_expired(3000).await;
    let other = app.other_reaper(1);
    let mut run = Box::pin(other.reap());
    // The run continues only when it is polled.
    while app.count("state = 'deleted'").await == 0 {
        assert!(poll!(&mut run).is_pending(), "it was stopped too late");
        tokio::task::yield_now().await;
    }
    drop(run);
    let left = app.count("state <> 'deleted'").await;
    assert!(left > 0, "it was stopped too late");

    // On PostgreSQL its lease is still valid; the lock of a SQLite database ended with it.
    if matches!(app.db(), Db::Postgres(_)) {
        assert_eq!(app.reap().await.end, End::Elsewhere);
        app.advance(Duration::from_mins(1));
    }
    let reaped = app.reap().await.images;
    assert!(0 < reaped && reaped <= u64::try_from(left).unwrap());
    assert_eq!(app.count("state = 'deleted'").await, 3000);
    let is_left = |id: &String| app.object(id).exists() || app.sidecar(id).exists();
    assert!(!ids.iter().any(is_left));
}

#[tokio::test]
async fn two_concurrent_reapers_do_the_work_once() {
    let app = TestApp::on_disk().await;
    app.insert_expired(1200).await;
    let reapers = (2..6).map(|seed| app.other_reaper(seed));
    let runs = reapers.map(|other| tokio::spawn(async move { other.reap().await.unwrap() }));
    let runs = futures_util::future::join_all(runs.collect::<Vec<_>>()).await;
    let reaped: Vec<Reaped> = runs.into_iter().map(Result::unwrap).collect();
    let images: Vec<u64> = reaped.iter().map(|run| run.images).collect();
    assert_eq!(images.iter().sum::<u64>(), 1200, "{reaped:?}");
    assert_eq!(images.iter().filter(|count| **count > 0).count(), 1);
}

#[tokio::test]
async fn two_concurrent_reap_commands_succeed_after_a_kill() {
    let app = TestApp::on_disk().await;
    let ids = app.insert_expired(6000).await;
    // Expired by every clock, since commands use the system's.
    execute(app.db(), "UPDATE images SET expires_ms = 1000").await;
    app.note_run_today().await;
    let mut killed = command(&app, &["reap"]);
    killed.env("FAILPOINTS", "images.mark.after=2*off->1*return");
    let status = killed.output().await.unwrap().status;
    assert_eq!(status.signal(), Some(9), "{status}");
    let left = app.count("state <> 'deleted'").await;
    assert!(0 < left && left < 6000, "{left}");
    // On PostgreSQL, only the end of the lease shows that the holder is gone.
    if matches!(app.db(), Db::Postgres(_)) {
        execute(app.db(), "UPDATE jobs SET until_ms = 0").await;
    }

    let (one, other) = tokio::join!(pixtoll(&app, &["reap"]), pixtoll(&app, &["reap"]));
    let mut sum = 0;
    for (code, text) in [&one, &other] {
        assert_eq!(*code, 0, "{text}");
        assert!(!text.contains("another reaper"), "it waits: {text}");
        let count = text.split("deleted ").nth(1).unwrap();
        sum += count.split(' ').next().unwrap().parse::<i64>().unwrap();
    }
    assert_eq!(sum, left, "{one:?} {other:?}");
    assert_eq!(app.count("state = 'deleted'").await, 6000);
    assert!(ids.iter().all(|id| !app.object(id).exists()));
}

#[tokio::test]
async fn images_that_the_store_failed_to_delete_are_retried_later() {
    let app = TestApp::on_disk().await;
    let ids = app.insert_expired(3).await;
    // A folder in place of the object can't be deleted like a file.
    let stuck = app.object(&ids[1]);
    std::fs::remove_file(&stuck).unwrap();
    std::fs::create_dir(&stuck).unwrap();
    // A missing object is no failure.
    std::fs::remove_file(app.object(&ids[2])).unwrap();
    let reaped = app.reap().await;
    assert_eq!(
        (reaped.images, reaped.failed, reaped.end),
        (2, 1, End::StoreFailed)
    );
    assert_eq!(app.state_of_image(&ids[1]).await, "deleting");
    assert_eq!(app.get(&format!("/i/{}", ids[1])).await.status, 404);
    assert_eq!(app.reap().await, Reaped::default(), "too soon");

    app.advance(Duration::from_secs(30));
    assert_eq!(app.reap().await.failed, 1);
    std::fs::remove_dir(&stuck).unwrap();
    std::fs::write(&stuck, b"picture").unwrap();
    app.advance(Duration::from_secs(30));
    assert_eq!(app.reap().await.images, 0, "the second pause is longer");
    app.advance(Duration::from_secs(30));
    assert_eq!(app.reap().await.images, 1);
    assert!(!stuck.exists());
    assert_eq!(app.state_of_image(&ids[1]).await, "deleted");
}

#[tokio::test]
async fn an_expiry_changed_during_a_batch_deletes_or_keeps_the_whole_image() {
    let app = TestApp::on_disk().await;
    let ids = app.insert_expired(1500).await;
    let held = &ids[700];
    execute(
        app.db(),
        &format!("UPDATE images SET held_ms = 1 WHERE id = '{held}'"),
    )
    .await;
    let other = app.other_reaper(1);
    let run = tokio::spawn(async move { other.reap().await.unwrap() });
    let mut moved = Vec::new();
    for id in ids.iter().rev().step_by(10) {
        let sql = format!(
            "UPDATE images SET expires_ms = expires_ms + 86400000 WHERE id = '{id}' AND state = 'live'"
        );
        if execute(app.db(), &sql).await == 1 {
            moved.push(id.clone());
        }
    }
    run.await.unwrap();
    assert!(!moved.is_empty());
    for id in &ids {
        let stays = moved.contains(id) || id == held;
        let expected = if stays { "live" } else { "deleted" };
        assert_eq!(app.state_of_image(id).await, expected, "{id}");
        assert_eq!(app.object(id).exists(), stays, "{id}");
    }
}

#[tokio::test]
async fn after_a_corrected_clock_nothing_waits_for_the_wrong_time() {
    let app = TestApp::on_disk().await;
    let ids = app.insert_expired(2).await;
    // A process without another clock to compare with ran 400 days ahead, and stopped.
    let ahead = app.clock.now().plus(DAY * 400).millis();
    let sql = format!(
        "UPDATE images SET state = 'deleting', reap_after_ms = {ahead} WHERE id = '{}'",
        ids[0]
    );
    execute(app.db(), &sql).await;
    let sql = format!(
        "INSERT INTO jobs (name, holder, until_ms, ran_ms, slow_until_ms) \
         VALUES ('reaper', 'dead', {ahead}, {ahead}, {ahead} + 600000)"
    );
    execute(app.db(), &sql).await;
    let reaped = app.reap().await;
    assert_eq!((reaped.images, reaped.end), (2, End::Done));
}

#[tokio::test]
async fn abandoned_uploads_are_deleted_and_uploads_under_way_are_not() {
    let app = TestApp::on_disk().await;
    let now = app.clock.now().millis();
    let rows = [
        "lapsed000000",
        "running00000",
        "discarded000",
        "stray0000000",
    ];
    let states = ["pending", "pending", "discarded", "pending"];
    let values: Vec<String> = rows
        .iter()
        .zip(states)
        .map(|(id, state)| row(id, state, now))
        .collect();
    execute(app.db(), &insert(&values)).await;
    let reserve = |id: &str, until: i64| {
        format!(
            "UPDATE images SET expires_ms = NULL, reserved_until_ms = {until} WHERE id = '{id}'"
        )
    };
    execute(app.db(), &reserve("lapsed000000", now + 300_000)).await;
    execute(app.db(), &reserve("running00000", now + 7_200_000)).await;
    for id in rows {
        app.put_object(id);
    }
    // Its process stopped while it wrote the object.
    let draft = app.folder().join("images/images/l/a/lapsed000000#1");
    std::fs::write(&draft, b"pict").unwrap();
    app.advance(Duration::from_mins(59));
    assert_eq!(
        app.reap().await,
        Reaped::default(),
        "somebody may still write them"
    );
    assert!(draft.exists());
    app.advance(Duration::from_mins(1));
    let reaped = app.reap().await;
    assert_eq!((reaped.lapsed, reaped.images), (2, 3), "{reaped:?}");
    assert!(app.object("running00000").exists() && !draft.exists());
    for id in ["lapsed000000", "discarded000", "stray0000000"] {
        assert!(!app.object(id).exists(), "{id}");
        assert_eq!(app.state_of_image(id).await, "discarded");
    }
}

#[tokio::test]
async fn a_pending_image_is_deleted_only_after_its_payment_failed() {
    let app = TestApp::on_disk().await;
    app.facilitator
        .always("settle", Fault::Instead(500, "oops".to_owned()));
    let payment = app.sign_at("/api/upload/year").await;
    let unknown = app.pay_with(&payment, &pictures::png(8, 8)).await;
    assert_eq!(unknown.status, 503);
    let id = texts(app.db(), "SELECT id FROM images").await.remove(0);
    // The reconciler doesn't run for two hours.
    app.advance(Duration::from_hours(2));
    assert_eq!(app.reap().await, Reaped::default());
    assert!(app.object(&id).exists());
    app.reconcile_until(&payment, "failed").await;
    // The process stopped before it deleted the object.
    app.put_object(&id);
    assert_eq!(app.reap().await.images, 1);
    assert!(!app.object(&id).exists());
}

#[tokio::test]
async fn records_are_erased_on_time_and_erased_payments_never_buy_again() {
    let app = TestApp::on_disk().await;
    let free = app.upload_free(pictures::png(8, 8)).await.field("id");
    let paid = app.sign_for("year").await.with_id("an-id-of-16-chars");
    let token = app.pay(&paid).await.token();
    let image = app
        .upload_with(&token, pictures::png(9, 9))
        .await
        .field("id");
    let unused = app.sign_for("year").await;
    app.pay(&unused).await.token();
    let rejected = app.sign_for("year").await;
    let no = r#"{"isValid":false,"invalidReason":"invalid_payload"}"#;
    app.facilitator
        .next("verify", Fault::Instead(200, no.to_owned()));
    assert_eq!(app.pay(&rejected).await.status, 402);
    app.reconcile_until(&rejected, "rejected").await;
    app.advance(Duration::from_hours(1));
    app.reconcile().await;
    app.audit().await;

    app.advance(YEAR);
    let accept_and_reap = async || {
        app.app.retention.accept_clock().await.unwrap();
        app.reap().await
    };
    let reaped = accept_and_reap().await;
    // The rejected payment ended a year ago.
    assert_eq!(
        (reaped.images, reaped.erased_payments),
        (2, 1),
        "{reaped:?}"
    );
    assert_eq!(app.rows("images").await, 2, "rows outlive objects");
    app.advance(Duration::from_secs(365 * 86_400 - 1));
    let reaped = accept_and_reap().await;
    assert_eq!(
        (reaped.erased_images, reaped.erased_payments),
        (0, 0),
        "a second too early"
    );
    app.advance(Duration::from_secs(1));
    let reaped = accept_and_reap().await;
    assert_eq!(
        (reaped.erased_images, reaped.erased_payments),
        (1, 1),
        "{reaped:?}"
    );
    for id in [&free, &image] {
        assert_eq!(app.state_of_image(id).await, "");
    }
    // A paid upload that was never made is still owed to its payer.
    assert_eq!(app.state_of(&unused).await.as_deref(), Some("settled"));
    assert_eq!(
        [app.rows("payments").await, app.rows("payment_ids").await],
        [1, 0]
    );
    for (payment, charged) in [(&paid, true), (&rejected, false)] {
        assert_eq!(app.state_of(payment).await, None);
        let verdict = app.pay(payment).await.verdict();
        assert_eq!(verdict, (409, "payment_known".to_owned(), Some(charged)));
    }
    let report = app.check_ledger().await;
    assert!(report.is_balanced(), "{:?}", report.broken);
    let chain = &report.chains[0];
    assert_eq!((chain.erased, chain.orphans.len()), (1, 0));
}

#[tokio::test]
async fn an_owner_deletes_by_token_as_often_as_they_like() {
    let app = TestApp::on_disk().await;
    let uploaded = app.upload_free(pictures::png(8, 8)).await;
    let other = app.upload_free(pictures::png(9, 9)).await;
    let (id, token) = (uploaded.field("id"), uploaded.field("deleteToken"));
    let refused = (401, "bad_delete_token".to_owned(), Some(false));
    for wrong in ["", "0", &other.field("deleteToken"), &token[1..]] {
        assert_eq!(app.delete(&id, wrong).await.verdict(), refused, "{wrong}");
        assert_eq!(app.delete("neverexisted", wrong).await.verdict(), refused);
    }
    let path = format!("/api/images/{id}");
    // Without a token, the wallet that paid may sign in.
    let without = app.send("DELETE", &path, &NO_HEADERS, "").await;
    let sign_in = (402, "sign_in_required".to_owned(), Some(false));
    assert_eq!(without.verdict(), sign_in);
    assert!(without.text().contains("X-Delete-Token"));
    assert_eq!(app.get(&uploaded.field("url")).await.status, 200);
    assert_eq!(app.delete("not-an-id", &token).await.status, 404);

    for _ in 0..2 {
        let deleted = app.delete(&id, &token).await;
        assert_eq!(deleted.status, 200, "{}", deleted.text());
        assert_eq!(deleted.json(), json!({"deleted": [id]}));
        assert_eq!(deleted.header("cache-control").unwrap(), "no-store");
        assert!(!app.object(&id).exists() && !app.sidecar(&id).exists());
    }
    assert_eq!(app.get(&uploaded.field("url")).await.status, 404);
    assert_eq!(app.state_of_image(&id).await, "deleted");
    assert_eq!(app.get(&other.field("url")).await.status, 200);
    // Its row is erased one day; the image still counts as deleted.
    app.clock.advance(Duration::from_hours(24));
    execute(app.db(), &format!("DELETE FROM images WHERE id = '{id}'")).await;
    assert_eq!(app.delete(&id, &token).await.status, 200);
}

#[tokio::test]
async fn many_images_are_deleted_in_one_request_or_none() {
    let app = TestApp::on_disk().await;
    let mut uploads = Vec::new();
    for width in 1..=5 {
        uploads.push(app.upload_free(pictures::png(width, 8)).await);
    }
    let ids: Vec<String> = uploads.iter().map(|upload| upload.field("id")).collect();
    let tokens: Vec<String> = uploads.iter().map(|one| one.field("deleteToken")).collect();
    let send = async |body: String, headers: &[(&str, &str)]| {
        app.send("DELETE", "/api/images", headers, body).await
    };
    let wrong = json!({"ids": ids[..2], "deleteTokens": [tokens[0], tokens[0]]}).to_string();
    let refused = send(wrong, &NO_HEADERS).await;
    assert_eq!(
        refused.verdict(),
        (401, "bad_delete_token".to_owned(), Some(false))
    );
    assert!(refused.text().contains(&ids[1]) && !refused.text().contains(&tokens[0]));
    assert_eq!(app.count("state = 'live'").await, 5);

    // The upload responses can be sent as they are.
    let answers: Vec<_> = uploads[..2].iter().map(Answer::json).collect();
    let bodies = [
        json!({"images": answers}),
        json!({"ids": ids[..3], "deleteTokens": tokens[..3]}),
        json!({"images": [{"id": ids[0], "deleteToken": tokens[0]}], "ids": [ids[3]], "deleteTokens": [tokens[3]]}),
    ];
    for body in bodies {
        let deleted = send(body.to_string(), &NO_HEADERS).await;
        assert_eq!(deleted.status, 200, "{}", deleted.text());
    }
    let one = json!({"ids": [ids[4]]}).to_string();
    let deleted = send(one, &[("X-Delete-Token", &tokens[4])]).await;
    assert_eq!(deleted.json(), json!({"deleted": [ids[4]]}));
    assert_eq!(app.count("state = 'deleted'").await, 5);
    assert!(ids.iter().all(|id| !app.object(id).exists()));

    let hundred = |count: usize| json!({"ids": vec![&ids[0]; count], "deleteTokens": vec![&tokens[0]; count]});
    assert_eq!(
        send(hundred(100).to_string(), &NO_HEADERS).await.status,
        200
    );
    for bad in [
        hundred(101).to_string(),
        json!({"ids": []}).to_string(),
        json!({"ids": ["../../../etc"], "deleteTokens": ["x"]}).to_string(),
        json!({"ids": ids, "deleteTokens": tokens[..1]}).to_string(),
        "[]".to_owned(),
        String::new(),
        format!("{{\"ids\": [\"{}\"]}}", "x".repeat(300_000)),
    ] {
        let refused = send(bad, &NO_HEADERS).await;
        assert_eq!(
            refused.verdict(),
            (400, "invalid_body".to_owned(), Some(false))
        );
    }
}

#[tokio::test]
async fn a_delete_succeeds_only_after_the_object_is_gone() {
    let app = TestApp::on_disk().await;
    let uploaded = app.upload_free(pictures::png(8, 8)).await;
    let (id, token) = (uploaded.field("id"), uploaded.field("deleteToken"));
    let hold = |value: &str| format!("UPDATE images SET held_ms = {value} WHERE id = '{id}'");
    execute(app.db(), &hold("1")).await;
    let under_review = (409, "image_held".to_owned(), Some(false));
    assert_eq!(app.delete(&id, &token).await.verdict(), under_review);
    assert!(app.object(&id).exists());
    execute(app.db(), &hold("NULL")).await;

    let object = app.object(&id);
    std::fs::remove_file(&object).unwrap();
    std::fs::create_dir(&object).unwrap();
    let failed = (503, "store_unavailable".to_owned(), Some(false));
    for _ in 0..2 {
        assert_eq!(app.delete(&id, &token).await.verdict(), failed);
        assert_eq!(app.get(&uploaded.field("url")).await.status, 404);
    }
    std::fs::remove_dir(&object).unwrap();
    assert_eq!(app.delete(&id, &token).await.status, 200);
    assert_eq!(app.state_of_image(&id).await, "deleted");
    assert!(matches!(app.db(), Db::Sqlite(_) | Db::Postgres(_)));
}

fn command(app: &TestApp, args: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_pixtoll"));
    command
        .env_clear()
        .current_dir(app.folder())
        .env("PIXTOLL_DATABASE__URL", app.database_url())
        .env("PIXTOLL_IMAGES__STORE", "images")
        .env("PIXTOLL_SECRETS__KEY", "42".repeat(32))
        .args(args);
    command
}

/// Runs `pixtoll` beside the server, as an operator does. Returns its exit code and its output.
async fn pixtoll(app: &TestApp, args: &[&str]) -> (i32, String) {
    let output = command(app, args).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), format!("{text}{log}"))
}

#[tokio::test]
async fn the_reap_command_previews_and_then_deletes() {
    let app = TestApp::on_disk().await;
    let uploaded = app.upload_free(pictures::png(8, 8)).await;
    let id = uploaded.field("id");
    execute(
        app.db(),
        &format!("UPDATE images SET expires_ms = 1000 WHERE id = '{id}'"),
    )
    .await;
    app.note_run_today().await;
    let (code, text) = pixtoll(&app, &["reap", "--dry-run"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains(&format!(
            "would delete {id}, expired 1970-01-01T00:00:01.000Z"
        )),
        "{text}"
    );
    assert!(text.contains("would delete 1 images of "), "{text}");
    assert!(app.object(&id).exists());

    let (code, text) = pixtoll(&app, &["reap"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("deleted 1 images, discarded 0 abandoned uploads"),
        "{text}"
    );
    assert!(!app.object(&id).exists());

    execute(app.db(), "UPDATE jobs SET ran_ms = 1").await;
    let (code, text) = pixtoll(&app, &["reap"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("pixtoll reap --accept-clock"), "{text}");
    let (code, text) = pixtoll(&app, &["reap", "--accept-clock"]).await;
    assert_eq!(code, 0, "{text}");
    let (code, text) = pixtoll(&app, &["reap"]).await;
    assert_eq!(code, 0, "{text}");

    // A missing store directory is a mistake in the settings, and doesn't mean that all images are
    // gone.
    std::fs::rename(app.folder().join("images"), app.folder().join("elsewhere")).unwrap();
    let (code, text) = pixtoll(&app, &["reap"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("there is no image store at images"), "{text}");
}

#[tokio::test]
async fn a_sidecar_can_restore_its_row_and_has_no_data_of_the_uploader() {
    let app = TestApp::on_disk().await;
    let picture = pictures::png(8, 9);
    let free = app.upload_free(picture.clone()).await;
    let token = app.pay(&app.sign_for("year").await).await.token();
    let bought = app.upload_with(&token, picture.clone()).await;
    let direct = app.sign_at("/api/upload/permanent").await;
    let direct = app.pay_with(&direct, &picture).await;
    for (uploaded, tier, keep) in [
        (&free, "free", json!(7 * 86_400_000_u64)),
        (&bought, "year", json!(365 * 86_400_000_u64)),
        (&direct, "permanent", json!(null)),
    ] {
        let id = uploaded.field("id");
        let text = std::fs::read_to_string(app.sidecar(&id)).unwrap();
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        let answer = uploaded.json();
        for name in ["id", "sizeBytes", "width", "height", "sha256"] {
            assert_eq!(record[name], answer[name], "{name} of {tier}");
        }
        assert_eq!((&record["tier"], &record["keepMs"]), (&json!(tier), &keep));
        assert_eq!(record["format"], "png");
        assert_eq!(record["createdAt"], "2027-01-15T08:00:00.000Z");
        let payment = format!("SELECT COALESCE(payment_id, '') FROM images WHERE id = '{id}'");
        let payment = texts(app.db(), &payment).await.remove(0);
        assert_eq!(record["paymentId"].as_str().unwrap_or_default(), payment);
        let wallet = format!("{:x}", app.wallet.address());
        for secret in [
            wallet.as_str(),
            "127.0.0.1",
            &token,
            &answer["deleteToken"].to_string(),
        ] {
            assert!(
                !text.to_lowercase().contains(secret),
                "{secret} is in {text}"
            );
        }
        // The sidecar isn't served.
        let link = app.get(&format!("/i/{id}.json")).await;
        assert_eq!(link.status, 404);
    }
}

#[tokio::test]
async fn the_audit_compares_both_ways_and_quarantines_objects_without_rows() {
    let app = TestApp::builder().today().on_disk().spawn().await;
    let mut ids = Vec::new();
    for width in 1..=3 {
        let uploaded = app.upload_free(pictures::png(width, 8)).await;
        ids.push(uploaded.field("id"));
    }
    let (code, text) = pixtoll(&app, &["store", "audit"]).await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(
        text,
        "compared 3 live images with 3 objects; 0 differences remain\n"
    );

    std::fs::remove_file(app.object(&ids[0])).unwrap();
    std::fs::write(app.object(&ids[1]), b"short").unwrap();
    let written = std::fs::read(app.sidecar(&ids[2])).unwrap();
    std::fs::write(app.sidecar(&ids[2]), b"{}").unwrap();
    app.put_object("norow0000000");
    let gone = row("leftover0000", "live", 1);
    execute(app.db(), &insert(&[gone])).await;
    let marked = "UPDATE images SET state = 'deleted', deleted_ms = 1 WHERE id = 'leftover0000'";
    execute(app.db(), marked).await;
    app.put_object("leftover0000");
    let gone = row("recordonly00", "live", 1);
    execute(app.db(), &insert(&[gone])).await;
    let marked = "UPDATE images SET state = 'deleted', deleted_ms = 1 WHERE id = 'recordonly00'";
    execute(app.db(), marked).await;
    app.put_object("recordonly00");
    std::fs::remove_file(app.object("recordonly00")).unwrap();
    let stray = app.folder().join("images/images/notes.txt");
    std::fs::write(&stray, b"mine").unwrap();
    let lost = format!("LOST: image {} is live and has no object\n", ids[0]);
    let size = format!("LOST: image {} has ", ids[1]);
    let (code, text) = pixtoll(&app, &["store", "audit"]).await;
    assert_eq!(code, 1, "{text}");
    for expected in [
        lost.as_str(),
        &size,
        "ROWLESS: object norow0000000 has no row in the database\n",
        "LEFT OVER: object leftover0000 still exists, but its image is deleted\n",
        "LEFT OVER: object recordonly00 still exists, but its image is deleted\n",
        "FOREIGN: images/notes.txt was not written by pixtoll\n",
        &format!("NO RECORD: object {} has no record beside it, ", ids[2]),
        "compared 3 live images with 4 objects; 7 differences remain\n",
    ] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
    assert!(app.object("norow0000000").exists() && app.object("leftover0000").exists());

    let old = app.folder().join("images/quarantine/1000/old000000000");
    std::fs::create_dir_all(old.parent().unwrap()).unwrap();
    std::fs::write(&old, b"old").unwrap();
    // Only a clock, which may be wrong, shows that 30 days have passed.
    let (_, text) = pixtoll(&app, &["store", "audit", "--repair"]).await;
    let kept =
        "nothing was deleted from quarantine: no other clock confirms the time of this machine";
    assert!(
        text.contains(kept) && text.contains("--accept-clock"),
        "{text}"
    );
    assert!(old.exists());
    app.note_run_today().await;
    app.put_object("norow0000000");
    let (code, text) = pixtoll(&app, &["store", "audit", "--repair"]).await;
    assert_eq!(code, 1, "what is lost stays lost: {text}");
    assert!(
        text.contains("norow0000000 has no row in the database; moved to quarantine\n"),
        "{text}"
    );
    assert!(
        text.contains("; 3 differences remain\ndeleted 1 objects after 30 days in quarantine"),
        "{text}"
    );
    for id in ["norow0000000", "leftover0000", "recordonly00"] {
        assert!(!app.object(id).exists() && !app.sidecar(id).exists());
    }
    assert_eq!(std::fs::read(app.sidecar(&ids[2])).unwrap(), written);
    assert!(!old.exists() && stray.exists() && app.object(&ids[2]).exists());
    let moved = std::fs::read_dir(app.folder().join("images/quarantine")).unwrap();
    let moved: Vec<_> = moved
        .map(|entry| entry.unwrap().path().join("norow0000000"))
        .collect();
    let is_whole = |path: &PathBuf| path.exists() && path.with_extension("json").exists();
    assert!(moved.iter().any(is_whole), "{moved:?}");
    let (_, text) = pixtoll(&app, &["store", "audit"]).await;
    assert!(
        !text.contains("ROWLESS") && !text.contains("LEFT OVER") && !text.contains("NO RECORD"),
        "{text}"
    );
}
