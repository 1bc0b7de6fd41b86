//! A wrong clock deletes nothing. After a start, or after its clock was set, the reaper waits until
//! an independent clock agrees, until the server has run for a day, or until the operator confirms
//! the clock.

use std::sync::Arc;
use std::time::Duration;

use pixtoll::app::{independent_clocks, reaper_lock};
use pixtoll::db::Db;
use pixtoll::retention::{End, ReapError, Reaped, Retention};
use pixtoll::store::Store;
use pixtoll::system::clock::{Clock, SystemClock, Timestamp};
use pixtoll::system::random::Randomness;

use crate::support::bucket::{Bucket, Manners};
use crate::support::database::{self, execute, texts};
use crate::support::process::{Deployment, Request, SandboxProcess, eventually};
use crate::support::proxy::{NodeFault, Proxy};
use crate::support::{Builder, TestApp, pictures};

const DAY: Duration = Duration::from_hours(24);
const MINUTE: Duration = Duration::from_mins(1);
/// A minute less than a day.
const ALMOST_A_DAY: Duration = Duration::from_mins(24 * 60 - 1);
const WRONG: Duration = Duration::from_hours(400 * 24);

impl TestApp {
    /// The reaper of a server that starts now with the settings of this one.
    pub(crate) fn started_reaper(&self) -> Arc<Retention> {
        let config = &self.app.config;
        let store = Store::at(&config.images.store).unwrap();
        let networks = self
            .app
            .checkout
            .as_ref()
            .map(|checkout| &checkout.networks);
        let clocks = independent_clocks(config, networks, self.db(), &store);
        let clock = Arc::new(self.clock.clone());
        let (db, records) = (self.db().clone(), config.retention.records);
        let reaper = Retention::new(db, store, clock, &Randomness::seeded(99), records);
        let reaper = reaper.locked_by(reaper_lock(&config.database));
        Arc::new(reaper.checked_by(clocks))
    }

    async fn states(&self) -> Vec<String> {
        texts(self.db(), "SELECT state FROM images ORDER BY id").await
    }

    /// Records the last run of the reaper at a time in the past.
    async fn reaped_before(&self, ago: Duration) {
        let ran = self.clock.now().minus(ago).millis();
        execute(
            self.db(),
            &format!("UPDATE jobs SET ran_ms = {ran} WHERE name = 'reaper'"),
        )
        .await;
    }
}

/// The reaper's message while it waits.
async fn waits(reaper: &Retention) -> String {
    match reaper.reap().await {
        Err(ReapError::Clock(doubt)) => doubt.to_string(),
        other => panic!("it doesn't wait: {other:?}"),
    }
}

/// A server with an image, whose clock is then set 400 days ahead, and the reaper of a server that
/// starts then. Asserts that nothing is deleted at first, and that the message contains the clock's
/// time.
async fn started_ahead(builder: Builder) -> (TestApp, Arc<Retention>, String) {
    let app = builder.spawn().await;
    // As at the first start.
    app.app.retention.check_clock().await.unwrap();
    let uploaded = app.upload_free(pictures::png(8, 8)).await;
    assert_eq!(app.app.retention.reap().await.unwrap(), Reaped::default());
    app.clock.jump(WRONG);
    let reaper = app.started_reaper();
    let text = waits(&reaper).await;
    assert!(text.contains("pixtoll reap --accept-clock"), "{text}");
    assert!(text.contains("the reaper last ran 1year 1month"), "{text}");
    assert_eq!(app.states().await, ["live"]);
    // The image has expired by this clock, so it isn't served.
    assert_eq!(app.get(&uploaded.field("url")).await.error(), "not_found");
    (app, reaper, text)
}

async fn deletes(retention: &Retention) {
    let reaped = retention.reap().await.unwrap();
    assert_eq!((reaped.images, reaped.end), (1, End::Done), "{reaped:?}");
}

#[tokio::test]
async fn the_newest_block_confirms_or_contradicts_the_clock() {
    let (app, reaper, text) = started_ahead(TestApp::builder()).await;
    let shows = "the newest block of base-sepolia shows 2027-01-15T08:00:00.000Z";
    assert!(text.contains(shows), "{text}");
    // The sandbox's facilitator is on loopback.
    let own = "the facilitator of base-sepolia is on this machine and does not count";
    assert!(text.contains(own), "{text}");
    app.chain_clock
        .advance(WRONG.checked_sub(Duration::from_mins(11)).unwrap());
    app.advance(MINUTE);
    assert!(waits(&reaper).await.contains("2028-02-19T07:50:00"));
    app.chain_clock.advance(MINUTE * 2);
    app.clock.advance(MINUTE);
    deletes(&reaper).await;
}

#[tokio::test]
async fn the_date_of_a_facilitator_confirms_or_contradicts_the_clock() {
    let builder = TestApp::builder().set("retention.clocks", "facilitator");
    let (app, reaper, text) = started_ahead(builder).await;
    // It has the clock of the machine that the test runs on.
    assert!(
        text.contains("the facilitator of base-sepolia shows 20"),
        "{text}"
    );
    assert!(!text.contains("newest block"), "{text}");
    for (date, said) in [
        ("yesterday", "with an invalid Date header)"),
        (
            "Fri, 15 Jan 2027 08:00:00 GMT",
            "shows 2027-01-15T08:00:00.000Z",
        ),
    ] {
        app.facilitator.date(date);
        app.clock.advance(MINUTE);
        let text = waits(&reaper).await;
        assert!(text.contains(said), "{said} is not in {text}");
    }
    app.facilitator.date(&app.clock.now().http_date());
    app.clock.advance(MINUTE);
    deletes(&reaper).await;
}

/// A server that stores its images in this bucket.
fn storing_in(bucket: &Bucket) -> Builder {
    let settings = bucket.settings();
    let set = |builder: Builder, (key, value): &(&str, String)| builder.set(key, value);
    settings.iter().fold(TestApp::builder(), set)
}

#[tokio::test]
async fn the_date_of_the_image_store_confirms_or_contradicts_the_clock() {
    let bucket = Bucket::with(Manners::default());
    let builder = storing_in(&bucket).set("retention.clocks", "store");
    bucket.date("Fri, 15 Jan 2027 08:00:00 GMT");
    let (app, reaper, text) = started_ahead(builder).await;
    let shows = "the image store shows 2027-01-15T08:00:00.000Z";
    assert!(text.contains(shows), "{text}");
    bucket.date(&app.clock.now().http_date());
    app.clock.advance(MINUTE);
    deletes(&reaper).await;
}

#[tokio::test]
async fn a_bucket_on_this_machine_shares_its_clock() {
    let bucket = Bucket::with(Manners::default());
    let builder = storing_in(&bucket);
    bucket.date("Sat, 19 Feb 2028 08:00:00 GMT");
    let (_app, _reaper, text) = started_ahead(builder).await;
    let own = "the image store is on this machine and does not count";
    assert!(text.contains(own), "{text}");
}

/// On PostgreSQL the database's clock is asked; SQLite has none.
#[tokio::test]
async fn the_clock_of_the_database_confirms_or_contradicts_the_clock() {
    let builder = || {
        TestApp::builder()
            .today()
            .set("retention.clocks", "database")
    };
    let (app, reaper, text) = started_ahead(builder()).await;
    let is_postgres = matches!(app.db(), Db::Postgres(_));
    if !is_postgres {
        assert!(text.contains("No independent clock is available"), "{text}");
        return;
    }
    assert!(text.contains("PostgreSQL shows 20"), "{text}");
    assert!(waits(&reaper).await.contains("PostgreSQL shows 20"));

    let app = builder().spawn().await;
    app.upload_free(pictures::png(8, 8)).await;
    execute(app.db(), "UPDATE images SET expires_ms = 1000").await;
    app.app.retention.check_clock().await.unwrap();
    app.reaped_before(DAY * 2).await;
    deletes(&app.started_reaper()).await;

    // Without the setting it doesn't count: the tests' server is on this machine.
    let (_app, _reaper, text) = started_ahead(TestApp::builder().today()).await;
    let own = "PostgreSQL is on this machine and does not count";
    assert!(text.contains(own), "{text}");
}

#[tokio::test]
async fn one_clock_that_agrees_is_enough() {
    let builder = TestApp::builder().set("retention.clocks", "chain, facilitator");
    let (app, reaper, _) = started_ahead(builder).await;
    app.node.node(NodeFault {
        down: true,
        ..NodeFault::default()
    });
    app.clock.advance(MINUTE);
    let text = waits(&reaper).await;
    assert!(
        text.contains("the newest block of base-sepolia gives no time ("),
        "{text}"
    );
    app.node.mend();
    app.facilitator.date(&app.clock.now().http_date());
    app.clock.advance(MINUTE);
    deletes(&reaper).await;
}

#[tokio::test]
async fn without_an_independent_clock_the_server_has_to_run_for_a_day() {
    for builder in [
        TestApp::builder().set("retention.clocks", "none"),
        TestApp::builder().without_facilitator(),
    ] {
        let (app, reaper, text) = started_ahead(builder.on_disk()).await;
        let never = text.contains("No independent clock is available");
        assert!(
            never || text.contains("PostgreSQL is on this machine"),
            "{text}"
        );
        assert!(
            text.contains("until the server has run for another 1day"),
            "{text}"
        );
        app.advance(ALMOST_A_DAY);
        let text = waits(&reaper).await;
        assert!(
            text.contains("until the server has run for another 1m"),
            "{text}"
        );
        app.advance(MINUTE);
        deletes(&reaper).await;
        // From then on, a server that starts finds the recorded run, and doesn't wait.
        assert_eq!(
            app.started_reaper().reap().await.unwrap(),
            Reaped::default()
        );
    }
}

#[tokio::test]
async fn an_operator_who_accepts_the_clock_ends_the_wait_of_every_process() {
    let (app, reaper, _) = started_ahead(TestApp::builder()).await;
    app.started_reaper().accept_clock().await.unwrap();
    deletes(&reaper).await;
}

#[tokio::test]
async fn a_clock_set_while_the_server_runs_is_checked_like_at_a_start() {
    let app = TestApp::spawn().await;
    app.upload_free(pictures::png(8, 8)).await;
    let reaper = &app.app.retention;
    assert_eq!(reaper.reap().await.unwrap(), Reaped::default());
    app.advance(DAY * 3);
    app.clock.jump(Duration::from_secs(86_399));
    assert_eq!(
        reaper.reap().await.unwrap(),
        Reaped::default(),
        "that is within a day"
    );
    app.clock.jump(WRONG);
    assert!(
        waits(reaper)
            .await
            .contains("the newest block of base-sepolia shows 2027-01-18")
    );
    // The server's days of uptime don't count: it waits from when the clock was set.
    app.advance(ALMOST_A_DAY);
    waits(reaper).await;
    app.advance(MINUTE);
    deletes(reaper).await;
}

#[tokio::test]
async fn the_reaper_of_a_machine_with_an_old_date_waits_for_the_right_time() {
    let app = TestApp::builder()
        .set("retention.clocks", "none")
        .spawn()
        .await;
    app.upload_free(pictures::png(8, 8)).await;
    app.app.retention.accept_clock().await.unwrap();
    // The last recorded run is later than a clock that starts 400 days behind.
    let ahead = app.clock.now().plus(WRONG).millis();
    execute(
        app.db(),
        &format!("UPDATE jobs SET ran_ms = {ahead} WHERE name = 'reaper'"),
    )
    .await;
    let reaper = app.started_reaper();
    assert!(waits(&reaper).await.contains(", which is later"));
    app.clock.jump(WRONG);
    deletes(&reaper).await;
}

#[tokio::test]
async fn an_empty_database_trusts_its_first_clock_and_a_restored_one_does_not() {
    let app = TestApp::builder()
        .set("retention.clocks", "none")
        .spawn()
        .await;
    assert_eq!(app.rows("jobs").await, 0);
    app.app.retention.check_clock().await.unwrap();
    assert_eq!(app.rows("jobs").await, 1);
    app.upload_free(pictures::png(8, 8)).await;
    assert_eq!(
        app.started_reaper().reap().await.unwrap(),
        Reaped::default()
    );
    // A copy of a database without a recorded run of the reaper.
    execute(app.db(), "DELETE FROM jobs").await;
    let text = waits(&app.started_reaper()).await;
    assert!(
        text.contains("the database has no record of a run of the reaper"),
        "{text}"
    );
}

#[tokio::test]
async fn nothing_is_erased_by_time_while_the_clock_is_not_trusted() {
    let app = TestApp::builder()
        .set("retention.clocks", "none")
        .spawn()
        .await;
    let payment = app.sign_for("year").await;
    let token = app.pay(&payment).await.token();
    app.upload_with(&token, pictures::png(8, 8)).await;
    for width in 1..=4 {
        app.upload_free(pictures::png(width, 8)).await;
    }
    app.app.retention.accept_clock().await.unwrap();
    let free = "SELECT id FROM images WHERE tier = 'free' ORDER BY id";
    let ids = texts(app.db(), free).await;
    for (id, state) in ids.iter().zip([
        "state = 'deleting', reap_after_ms = 1000",
        "state = 'pending', published_ms = NULL, expires_ms = NULL, reserved_until_ms = 1000",
        "state = 'discarded', published_ms = NULL",
        "state = 'deleted', deleted_ms = 1000",
    ]) {
        execute(
            app.db(),
            &format!("UPDATE images SET {state} WHERE id = '{id}'"),
        )
        .await;
    }
    let proofs = "UPDATE payment_proofs SET expires_ms = 1000 WHERE kind = 'address'";
    execute(app.db(), proofs).await;
    let snapshot = async || {
        let images = texts(app.db(), "SELECT id || state FROM images ORDER BY id").await;
        let mut rows = vec![];
        for table in ["payments", "payment_proofs", "grants", "withdrawals"] {
            rows.push(app.rows(table).await);
        }
        (images, rows)
    };
    let before = snapshot().await;
    app.clock.jump(WRONG * 3);
    let reaper = app.started_reaper();
    waits(&reaper).await;
    assert_eq!(snapshot().await, before);
    app.started_reaper().accept_clock().await.unwrap();
    reaper.reap().await.unwrap();
    assert_ne!(snapshot().await, before);
}

#[tokio::test]
async fn a_server_whose_reaper_is_off_records_its_clock_for_the_command() {
    let deployment = Deployment::alone()
        .set("retention.schedule", "off")
        .set("retention.clocks", "none");
    let server = deployment.start().await;
    let db = open(&deployment).await;
    let ran = "SELECT CAST(ran_ms AS TEXT) FROM jobs WHERE name = 'reaper' AND ran_ms IS NOT NULL";
    let recorded = async || texts(&db, ran).await.pop();
    let recorded = eventually("the record of the clock", recorded).await;
    let recorded = Timestamp::from_millis(recorded.parse().unwrap());
    assert!(SystemClock.now().since(recorded) < MINUTE * 5);
    let uploaded = deployment
        .answer(&Request::post("/api/free").with_image(&pictures::png(8, 8)))
        .await;
    assert_eq!(uploaded.status, 200);
    execute(&db, "UPDATE images SET expires_ms = 1000").await;
    let reaped = deployment.run(&["reap"]).await;
    assert!(reaped.out.contains("deleted 1 images"), "{reaped:?}");
    server.kill().await;
    db.close().await;
}

/// For a process, a clock 400 days ahead is the same as data that is 400 days old.
#[tokio::test]
async fn a_server_started_400_days_ahead_deletes_nothing_and_logs_why() {
    let sandbox = SandboxProcess::start().await;
    let facilitator = Proxy::before(&sandbox.facilitator_url);
    let node = Proxy::before(&sandbox.rpc_url);
    let deployment =
        Deployment::on(&facilitator.url, &node.url).set("retention.schedule", "* * * * * *");
    let server = deployment.start().await;
    let uploaded = deployment
        .answer(&Request::post("/api/free").with_image(&pictures::png(8, 8)))
        .await;
    let link = uploaded.field("url");
    assert_eq!(deployment.answer(&Request::get(&link)).await.status, 200);
    let db = open(&deployment).await;
    let ran = "SELECT name FROM jobs WHERE name = 'reaper' AND ran_ms > 0";
    eventually("a run", async || texts(&db, ran).await.pop()).await;
    server.kill().await;

    let millis = i64::try_from(WRONG.as_millis()).unwrap();
    let back = |column: &str| format!("{column} = {column} - {millis}");
    let [created, published, expires, ran] =
        ["created_ms", "published_ms", "expires_ms", "ran_ms"].map(back);
    let images = format!("UPDATE images SET {created}, {published}, {expires}");
    assert_eq!(execute(&db, &images).await, 1);
    let jobs = format!("UPDATE jobs SET {ran} WHERE name = 'reaper'");
    assert_eq!(execute(&db, &jobs).await, 1);
    let skew = -millis / 1000;
    node.node(NodeFault {
        skew,
        ..NodeFault::default()
    });
    let server = deployment.start().await;
    let warned = async || {
        deployment
            .log()
            .contains("the newest block of base-sepolia shows 20")
            .then_some(())
    };
    eventually("the warning", warned).await;
    assert_eq!(deployment.answer(&Request::get(&link)).await.status, 404);
    let refused = deployment.run(&["reap"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for part in [
        "nothing is deleted",
        "pixtoll reap --accept-clock",
        "the newest block of base-sepolia shows 20",
    ] {
        assert!(refused.err.contains(part), "{part} is not in {refused:?}");
    }
    // The reaper runs every second, and logs it once.
    let told = deployment.log().matches("nothing is deleted").count();
    assert_eq!(told, 1, "{}", deployment.log());
    assert!(deployment.log().contains("WARN"), "{}", deployment.log());
    assert_eq!(texts(&db, "SELECT state FROM images").await, ["live"]);

    node.mend();
    let reaped = deployment.run(&["reap"]).await;
    assert!(reaped.out.contains("deleted 1 images"), "{reaped:?}");
    server.kill().await;
    db.close().await;
}

async fn open(deployment: &Deployment) -> Db {
    let file = deployment.folder().join("data/pixtoll.db");
    database::open(&format!("sqlite:{}", file.display())).await
}
