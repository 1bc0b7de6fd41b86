//! Several servers of one deployment in one process, with one PostgreSQL database: they share
//! counts, rejections and withdrawals.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pixtoll::db::Db;
use pixtoll::db::withdrawals::{Listener, find_since};
use pixtoll::model::ids::ImageId;

use crate::support::database::{execute, number, texts};
use crate::support::origin::{Origin, Reply};
use crate::support::process::eventually;
use crate::support::replica::Replica;
use crate::support::{Answer, TestApp, pictures};
use crate::{hot, refresh};

const HOUR: Duration = Duration::from_hours(1);

/// A server with this setting, and two replicas of it.
async fn three_with(key: &str, value: &str) -> (TestApp, [Replica; 2]) {
    // The limit for the first half of a day is tested elsewhere.
    let app = TestApp::builder()
        .set("limits.free_before_noon_percent", "100")
        .set(key, value)
        .spawn()
        .await;
    let replicas = [app.replica(1).await, app.replica(2).await];
    let [one, other] = &replicas;
    for app in [&app.app, &one.app, &other.app] {
        app.limits.wait_for_others(Duration::from_secs(30));
    }
    (app, replicas)
}

fn bases<'a>(app: &'a TestApp, replicas: &'a [Replica]) -> Vec<&'a str> {
    let replicas = replicas.iter().map(|replica| &*replica.base);
    std::iter::once(&*app.base).chain(replicas).collect()
}

/// Sends free uploads to all of them in turn, at the same time.
async fn upload_at_once(app: &TestApp, bases: &[&str], count: u64) -> Vec<Answer> {
    let uploads = (0..count).map(async |number| {
        let base = bases[usize::try_from(number).unwrap() % bases.len()];
        let picture = pictures::png_seeded(4, 4, number);
        app.upload_free_at(base, picture).await
    });
    join_all(uploads).await
}

/// The same, and repeats uploads whose response says that the others take too long.
async fn upload_patiently(app: &TestApp, bases: &[&str], count: u64) -> Vec<Answer> {
    let uploads = (0..count).map(async |number| {
        let base = bases[usize::try_from(number).unwrap() % bases.len()];
        let picture = pictures::png_seeded(4, 4, number);
        eventually("a turn", async || {
            let answer = app.upload_free_at(base, picture.clone()).await;
            (answer.status != 503).then_some(answer)
        })
        .await
    });
    join_all(uploads).await
}

fn count(answers: &[Answer], status: u16) -> usize {
    answers
        .iter()
        .filter(|answer| answer.status == status)
        .count()
}

#[tokio::test]
async fn three_servers_publish_exactly_the_free_uploads_of_a_day() {
    let (app, replicas) = three_with("limits.free_per_day", "20").await;
    let bases = bases(&app, &replicas);
    // An upload whose bytes are rejected takes no place on any server.
    for base in &bases {
        let refused = app.upload_free_at(base, b"no image".to_vec()).await;
        assert_eq!(refused.status, 415);
    }
    eventually("their places are free", async || {
        (app.rows("free_uploads").await == 0).then_some(())
    })
    .await;
    let answers = upload_patiently(&app, &bases, 60).await;
    assert_eq!((count(&answers, 200), count(&answers, 429)), (20, 40));
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!(
        (refused.error(), refused.charged()),
        ("daily_limit".to_owned(), Some(false))
    );
    assert_eq!(app.rows("images").await, 20);
    assert_eq!(app.rows("free_uploads").await, 0);

    app.advance(24 * HOUR);
    let answers = upload_patiently(&app, &bases, 21).await;
    assert_eq!(count(&answers, 200), 20);
    app.app.limits.forget().await;
    assert_eq!(app.rows("free_days").await, 2);
    app.advance(48 * HOUR);
    app.app.limits.forget().await;
    assert_eq!(app.rows("free_days").await, 0);
}

#[tokio::test]
async fn free_uploads_waiting_for_the_days_count_block_no_connections() {
    let app = TestApp::builder()
        .set("limits.free_per_address_per_hour", "0")
        .set("limits.free_per_day", "1000")
        .spawn()
        .await;
    let image = app.upload_free(pictures::png(3, 3)).await.field("url");
    let Db::Postgres(pool) = app.db() else {
        panic!("it is PostgreSQL")
    };
    let mut holder = pool.begin().await.unwrap();
    let hold = "UPDATE free_days SET published = published";
    sqlx::query(hold).execute(&mut *holder).await.unwrap();
    let most = usize::try_from(pool.options().get_max_connections()).unwrap();
    // More uploads than there are connections, while none can get its turn.
    let base = [&*app.base];
    let throng = upload_at_once(&app, &base, 2 * u64::try_from(most).unwrap());
    let others = async {
        let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
                       AND wait_event_type = 'Lock'";
        eventually("the throng", async || {
            (number(app.db(), waiting).await == 2).then_some(())
        })
        .await;
        // Other requests get a connection at once.
        assert_eq!(app.get(&image).await.status, 200);
        let payment = app.sign_for("year").await;
        app.pay(&payment).await.token();
        holder.rollback().await.unwrap();
    };
    let (answers, ()) = tokio::join!(throng, others);
    let all = answers.len();
    // Two uploads may have waited for longer than the lock timeout.
    let failed = count(&answers, 500);
    assert!(failed <= 2, "{failed}");
    assert_eq!(count(&answers, 200) + count(&answers, 503) + failed, all);
    let busy = answers.iter().find(|answer| answer.status == 503);
    assert!(busy.is_none_or(|busy| busy.error() == "busy"));
}

#[tokio::test]
async fn images_in_memory_are_served_while_all_connections_are_taken() {
    let app = TestApp::spawn().await;
    let _watch = hot::remembering(&app.app).await;
    let image = app.upload_free(pictures::png(3, 3)).await.field("url");
    let Db::Postgres(pool) = app.db() else {
        panic!("it is PostgreSQL")
    };
    let most = pool.options().get_max_connections();
    // If the machine stalled until the cache was cleared, the image is cached again.
    eventually("an image from memory", async || {
        assert_eq!(app.get(&image).await.status, 200);
        let taken = join_all((0..most).map(|_| pool.acquire())).await;
        // For longer than a cached image stays valid without news from the database.
        let begin = Instant::now();
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while begin.elapsed() < 2 * hot::SOON {
            look.tick().await;
            if !app.app.images.serves_from_memory() {
                return None;
            }
        }
        let served = app.get(&image).await.status == 200;
        drop(taken);
        served.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_place_that_a_killed_server_held_is_freed_after_its_timeout() {
    let (app, replicas) = three_with("limits.free_per_day", "2").await;
    let [one, other] = &replicas;
    assert_eq!(
        app.upload_free_at(&one.base, pictures::png(3, 3))
            .await
            .status,
        200
    );
    // A killed process gives nothing back.
    std::mem::forget(one.app.limits.take_free(app.db()).await.unwrap());
    assert_eq!(
        app.upload_free_at(&other.base, pictures::png(3, 3))
            .await
            .status,
        429
    );
    // Longer than a body and its check may take.
    app.advance(Duration::from_mins(8));
    let slow = app.app.limits.take_free(app.db()).await.unwrap();
    assert_eq!(
        app.upload_free_at(&other.base, pictures::png(3, 3))
            .await
            .status,
        429
    );
    // A slower upload has lost its place to another one, so that there are never more than two.
    app.advance(Duration::from_mins(8));
    assert_eq!(
        app.upload_free_at(&other.base, pictures::png(3, 3))
            .await
            .status,
        200
    );
    let tier = app.app.config.tiers.free().unwrap();
    let rules = pixtoll::images::Rules {
        tier: "free",
        max_bytes: 1 << 20,
        metadata: pixtoll::images::Metadata::Remove,
        limits: pixtoll::images::format::PixelLimits::default(),
    };
    let checked = pixtoll::images::check(pictures::png(3, 3).into(), rules)
        .await
        .unwrap();
    let late = app
        .app
        .images
        .upload_free(tier, checked, slow.place(), None)
        .await;
    assert!(late.is_err());
    drop(slow);
    let live = "SELECT COUNT(*) FROM images WHERE state = 'live'";
    assert_eq!(number(app.db(), live).await, 2);
}

#[tokio::test]
async fn an_interrupted_upload_gives_its_place_back() {
    let (app, [one, other]) = three_with("limits.free_per_day", "1").await;
    let place = one.app.limits.take_free(app.db()).await.unwrap();
    assert_eq!(
        app.upload_free_at(&other.base, pictures::png(3, 3))
            .await
            .status,
        429
    );
    drop(place);
    eventually("the place is free", async || {
        (app.rows("free_uploads").await == 0).then_some(())
    })
    .await;
    // Whether the day is used up is not asked again at once.
    app.advance(Duration::from_secs(1));
    assert_eq!(
        app.upload_free_at(&other.base, pictures::png(3, 3))
            .await
            .status,
        200
    );
    assert_eq!(
        app.upload_free_at(&one.base, pictures::png(3, 3))
            .await
            .status,
        429
    );
}

#[tokio::test]
async fn all_servers_share_the_rate_of_an_address() {
    let (app, replicas) = three_with("limits.free_per_address_per_hour", "6").await;
    let bases = bases(&app, &replicas);
    let answers = upload_at_once(&app, &bases, 18).await;
    assert_eq!((count(&answers, 200), count(&answers, 429)), (6, 12));
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!(refused.error(), "rate_limited");
    assert_eq!(refused.header("retry-after").unwrap(), "600");
    app.advance(Duration::from_secs(599));
    let answers = upload_at_once(&app, &bases, 3).await;
    assert_eq!(count(&answers, 429), 3);
    // A rejection costs nothing.
    app.advance(Duration::from_secs(1));
    let answers = upload_at_once(&app, &bases, 3).await;
    assert_eq!((count(&answers, 200), count(&answers, 429)), (1, 2));
    // Other addresses are counted separately, and so are payments.
    let challenge = app.post("/api/upload/token/year").await;
    assert_eq!(challenge.status, 402);
}

#[tokio::test]
async fn all_servers_share_the_rate_of_a_network() {
    let (app, replicas) = three_with("limits.free_per_network_per_hour", "6").await;
    let bases = bases(&app, &replicas);
    let answers = upload_at_once(&app, &bases, 18).await;
    assert_eq!((count(&answers, 200), count(&answers, 429)), (6, 12));
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert!(refused.field("message").contains("Your network"));
    assert_eq!(refused.header("retry-after").unwrap(), "600");
    app.advance(Duration::from_secs(600));
    let answers = upload_at_once(&app, &bases, 3).await;
    assert_eq!((count(&answers, 200), count(&answers, 429)), (1, 2));
}

#[tokio::test]
async fn a_file_that_one_server_rejected_counts_as_a_tenth_on_all() {
    let (app, replicas) = three_with("limits.free_per_address_per_hour", "3").await;
    let bases = bases(&app, &replicas);
    // In turn, so that each server finds what the one before gave back.
    for base in bases.repeat(4).iter().take(10) {
        let refused = app.upload_free_at(base, b"no image".to_vec()).await;
        assert_eq!(refused.status, 415);
    }
    let answers = upload_at_once(&app, &bases, 9).await;
    assert_eq!((count(&answers, 200), count(&answers, 429)), (2, 7));
    // Many attempts at once are limited to the number of uploads. A second later, each counts as a
    // tenth on all servers.
    app.advance(HOUR);
    let spoilt = bases.repeat(4);
    let spoilt = spoilt
        .iter()
        .map(|base| app.upload_free_at(base, b"no image".to_vec()));
    let answers = join_all(spoilt).await;
    let refused = count(&answers, 415);
    assert!(refused >= 3, "{refused}");
    assert_eq!(refused + count(&answers, 429), 12);
    app.advance(Duration::from_secs(1));
    let answers = upload_at_once(&app, &bases, 9).await;
    let uploads = if refused > 10 { 1 } else { 2 };
    assert_eq!(count(&answers, 200), uploads);
    assert_eq!(count(&answers, 429), 9 - uploads);
}

#[tokio::test]
async fn three_servers_keep_half_of_the_daily_uploads_for_the_afternoon() {
    let app = TestApp::builder()
        .set("limits.free_per_day", "10")
        .spawn()
        .await;
    let replicas = [app.replica(1).await, app.replica(2).await];
    let bases = bases(&app, &replicas);
    let answers = upload_patiently(&app, &bases, 12).await;
    assert_eq!((count(&answers, 200), count(&answers, 429)), (5, 7));
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!(refused.error(), "daily_limit");
    assert_eq!(refused.header("retry-after").unwrap(), "14400");
    app.advance(4 * HOUR);
    let answers = upload_patiently(&app, &bases, 12).await;
    assert_eq!((count(&answers, 200), count(&answers, 429)), (5, 7));
}

#[tokio::test]
async fn all_servers_share_the_count_of_challenges() {
    let (app, replicas) = three_with("limits.payments_per_address_per_minute", "5").await;
    let mut answers = Vec::new();
    for base in bases(&app, &replicas).repeat(4) {
        answers.push(app.post(&format!("{base}/api/upload/token/year")).await);
    }
    assert_eq!((count(&answers, 402), count(&answers, 429)), (5, 7));
}

#[tokio::test]
async fn each_server_counts_for_itself_while_the_database_is_silent() {
    let (app, replicas) = three_with("limits.payments_per_address_per_minute", "3").await;
    execute(app.db(), "ALTER TABLE rates RENAME TO gone").await;
    for base in bases(&app, &replicas) {
        let mut answers = Vec::new();
        for _ in 0..5 {
            answers.push(app.post(&format!("{base}/api/upload/token/year")).await);
        }
        assert_eq!(
            (count(&answers, 402), count(&answers, 429)),
            (3, 2),
            "{base}"
        );
    }
    execute(app.db(), "ALTER TABLE gone RENAME TO rates").await;
    eventually("it is asked again", async || {
        app.advance(Duration::from_mins(1));
        app.post("/api/upload/token/year").await;
        (app.rows("rates").await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn stored_hashes_do_not_reveal_addresses_and_are_erased() {
    let (app, [one, _other]) = three_with("limits.free_per_address_per_hour", "6").await;
    let buckets = "SELECT bucket FROM rates ORDER BY bucket";
    assert_eq!(app.upload_free(pictures::png(3, 3)).await.status, 200);
    let first = texts(app.db(), buckets).await;
    // The other server makes the same hash. Another key's hash is different, and so is tomorrow's.
    assert_eq!(
        app.upload_free_at(&one.base, pictures::png(3, 3))
            .await
            .status,
        200
    );
    assert_eq!(texts(app.db(), buckets).await, first);
    // The hash of the address, and that of its network.
    assert_eq!(first.len(), 2);
    assert!(first.iter().all(|bucket| bucket.len() == 32));
    app.advance(24 * HOUR);
    assert_eq!(app.upload_free(pictures::png(3, 3)).await.status, 200);
    assert_eq!(app.rows("rates").await, 4);
    app.app.limits.forget().await;
    let left = texts(app.db(), buckets).await;
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|bucket| !first.contains(bucket)));
    app.advance(HOUR);
    // One server at a time erases.
    one.app.limits.forget().await;
    assert_eq!(app.rows("rates").await, 0);
    // The table is unlogged: it is in no copy of the log, and needs no sync.
    let logged = "SELECT COUNT(*) FROM pg_class WHERE relname = 'rates' AND relpersistence <> 'u'";
    assert_eq!(number(app.db(), logged).await, 0);
}

/// An image that both servers have in memory, while its bytes are nowhere else. Returns its link at
/// each server.
async fn hot_at_both(app: &TestApp, other: &Replica, image: &Answer) -> [String; 2] {
    let path = format!("/i/{}", image.field("id"));
    let links = [&app.base, &other.base].map(|base| format!("{base}{path}"));
    let object = hot::object_of(app, &image.field("id"));
    hot::from_memory(app, &object, &links, async || {
        let here = app.get(&links[0]).await;
        match here.status {
            404 => here,
            _ => app.get(&links[1]).await,
        }
    })
    .await;
    links
}

async fn delete_at(app: &TestApp, base: &str, image: &Answer) {
    let path = format!("{base}/api/images/{}", image.field("id"));
    let token = image.field("deleteToken");
    let deleted = app
        .send("DELETE", &path, &[("x-delete-token", &*token)], "")
        .await;
    assert_eq!(deleted.status, 200, "{}", deleted.text());
}

#[tokio::test]
async fn a_signed_link_counts_on_every_server_and_ends_on_all_at_once() {
    let app = TestApp::on_disk().await;
    let other = app.replica(1).await;
    let _watches = (
        hot::remembering(&app.app).await,
        hot::remembering(&other.app).await,
    );
    for is_deleted in [false, true] {
        let path = format!("{}/api/free?visibility=private", other.base);
        let image = app.upload_at(&path, pictures::png(4, 4)).await;
        let (id, token) = (image.field("id"), image.field("deleteToken"));
        let links = format!("{}/api/images/{id}/links", app.base);
        let headers = [("X-Delete-Token", &*token)];
        let here = app.send("POST", &links, &headers, "").await.field("url");
        let there = here.replace(&app.base, &other.base);
        for url in [&here, &there, &image.field("url")] {
            for _ in 0..2 {
                assert_eq!(app.get(url).await.status, 200, "{url}");
            }
        }
        if is_deleted {
            delete_at(&app, &app.base, &image).await;
        } else {
            assert_eq!(app.send("DELETE", &links, &headers, "").await.status, 200);
        }
        // Not only soon: no server keeps a private image in memory.
        for url in [&there, &here, &image.field("url")] {
            assert_eq!(app.get(url).await.status, 404, "{url}");
        }
    }
}

const LISTENING: &str = "SELECT COUNT(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' \
    AND datname = current_database()";

#[tokio::test]
async fn a_withdrawn_image_is_not_served_by_others_two_seconds_later() {
    let app = TestApp::on_disk().await;
    let other = app.replica(1).await;
    let _watches = (
        hot::remembering(&app.app).await,
        hot::remembering(&other.app).await,
    );
    for _ in 0..3 {
        let image = app.upload_free(pictures::png(4, 4)).await;
        let [here, there] = hot_at_both(&app, &other, &image).await;
        delete_at(&app, &app.base, &image).await;
        assert_eq!(app.get(&here).await.status, 404);
        hot::dies_soon(&app, &there).await;
    }
    // The operator voids a payment.
    let payment = app.sign_at("/api/upload/year").await;
    let image = app.pay_with(&payment, &pictures::png(4, 4)).await;
    let [here, there] = hot_at_both(&app, &other, &image).await;
    app.rewind(&payment, "missing_reason = 'transfer_missing'")
        .await;
    app.void(&payment).await;
    hot::dies_soon(&app, &here).await;
    hot::dies_soon(&app, &there).await;
}

#[tokio::test]
async fn a_replaced_image_is_shown_by_every_server_two_seconds_later() {
    let (first, second) = (pictures::png(8, 8), pictures::png(9, 9));
    let origin = Origin::start(Reply::Image(first)).await;
    let app = refresh::beside(&origin).await;
    let other = app.replica(1).await;
    let _watches = (
        hot::remembering(&app.app).await,
        hot::remembering(&other.app).await,
    );
    let image = refresh::hourly(&app, &origin).await;
    let [here, there] = hot_at_both(&app, &other, &image).await;
    origin.reply(Reply::Image(second.clone()));
    app.advance(Duration::from_hours(1));
    // One of them compares the image.
    let compared = tokio::join!(
        app.app.refresher.refresh_due(),
        other.app.refresher.refresh_due()
    );
    assert_eq!(compared.0.unwrap() + compared.1.unwrap(), 1);
    let began = Instant::now();
    for url in [&here, &there] {
        loop {
            let asked = began.elapsed();
            if app.get(url).await.bytes == second {
                break;
            }
            assert!(asked < hot::SOON, "{url} still shows the earlier content");
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn withdrawals_are_polled_while_no_listener_is_connected() {
    let app = TestApp::on_disk().await;
    let other = app.replica(1).await;
    let _watches = (
        hot::remembering(&app.app).await,
        hot::remembering(&other.app).await,
    );
    eventually("both listen", async || {
        (number(app.db(), LISTENING).await == 2).then_some(())
    })
    .await;
    let image = app.upload_free(pictures::png(4, 4)).await;
    let [_, there] = hot_at_both(&app, &other, &image).await;
    let deaf = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' \
        AND datname = current_database()";
    assert_eq!(number(app.db(), deaf).await, 2);
    delete_at(&app, &app.base, &image).await;
    hot::dies_soon(&app, &there).await;
    eventually("both listen again", async || {
        (number(app.db(), LISTENING).await == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn withdrawals_are_notified_at_commit_and_found_in_any_order() {
    let app = TestApp::on_disk().await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(app.upload_free(pictures::png(4, 4)).await.field("id"));
    }
    let mut listener = Listener::open(app.db()).await.unwrap().unwrap();
    let Db::Postgres(pool) = app.db() else {
        panic!("no PostgreSQL")
    };
    let mut early = pool.begin().await.unwrap();
    let withdraw = "UPDATE images SET state = 'deleting', reap_after_ms = 0 WHERE id = $1";
    sqlx::query(withdraw)
        .bind(&ids[0])
        .execute(&mut *early)
        .await
        .unwrap();
    let start = find_since(app.db(), None).await.unwrap();
    assert_eq!(start.images, Some(Vec::new()));
    // The later one is committed first.
    sqlx::query(withdraw)
        .bind(&ids[1])
        .execute(pool)
        .await
        .unwrap();
    let spelled = |images: Option<Vec<ImageId>>| -> Vec<String> {
        images.unwrap().iter().map(ToString::to_string).collect()
    };
    let found = find_since(app.db(), Some(start.horizon)).await.unwrap();
    assert_eq!(spelled(found.images), [ids[1].clone()]);
    assert_eq!(listener.next().await.unwrap().unwrap().to_string(), ids[1]);
    early.commit().await.unwrap();
    assert_eq!(listener.next().await.unwrap().unwrap().to_string(), ids[0]);
    let found = find_since(app.db(), Some(found.horizon)).await.unwrap();
    assert!(spelled(found.images).contains(&ids[0]));
    // Once all are committed, nothing is listed again. Open transactions of other databases delay
    // that.
    eventually("nothing is named again", async || {
        let last = find_since(app.db(), Some(found.horizon)).await.unwrap();
        let after = find_since(app.db(), Some(last.horizon)).await.unwrap();
        (after.images == Some(Vec::new())).then_some(())
    })
    .await;
}

/// Puts an image to a path of one of the servers, and asks for JSON.
async fn put_at(app: &TestApp, base: &str, path: &str, bytes: Vec<u8>) -> Answer {
    let headers = [("accept", "application/json")];
    app.send("PUT", &format!("{base}{path}"), &headers, bytes)
        .await
}

#[tokio::test]
async fn three_servers_publish_exactly_the_uploads_of_a_link() {
    let (app, replicas) = three_with("limits.free_per_day", "0").await;
    let bases = bases(&app, &replicas);
    let paid = app.sign_at("/api/links?images=7&days=1&tier=year").await;
    let paid = app.pay(&paid).await.field("url");
    let free = app
        .post("/api/links?images=7&days=1&tier=free")
        .await
        .field("url");
    for url in [paid, free] {
        let path = url.strip_prefix(&app.base).unwrap();
        let mut published = BTreeSet::new();
        for round in 0..20 {
            let uploads = (0..50).map(async |number| {
                let base = bases[usize::try_from(number).unwrap() % bases.len()];
                let picture = pictures::png_seeded(9, 9, 50 * round + number);
                put_at(&app, base, path, picture).await
            });
            for answer in join_all(uploads).await {
                match answer.status {
                    200 => {
                        published.insert(answer.field("id"));
                    }
                    409 => {
                        let code = answer.error();
                        assert!(["link_used", "token_in_use"].contains(&&*code), "{code}");
                    }
                    _ => assert_eq!(answer.status, 503, "{}", answer.text()),
                }
            }
            if published.len() >= 7 {
                break;
            }
        }
        assert_eq!(published.len(), 7);
        for base in &bases {
            let more = put_at(&app, base, path, pictures::png(20, 20)).await;
            assert_eq!(more.error(), "link_used");
        }
    }
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_revoked_link_and_a_revoked_key_are_refused_by_every_server_at_once() {
    let (app, replicas) = three_with("limits.free_per_day", "0").await;
    let bases = bases(&app, &replicas);
    let payment = app.sign_at("/api/links?images=9&days=1&tier=year").await;
    let url = app.pay(&payment).await.field("url");
    let link = url.strip_prefix(&app.base).unwrap();
    let made = app
        .as_wallet("POST", "/api/keys", "", &app.wallet)
        .await
        .json();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let key = format!("/u/{}", text("key"));
    let own = format!("/api/keys/{}", text("id"));
    for (number, base) in bases.iter().enumerate() {
        let side = u32::try_from(number).unwrap() + 1;
        for path in [link, &*key] {
            let image = put_at(&app, base, path, pictures::png(8, side)).await;
            assert_eq!(image.status, 200, "{}", image.text());
        }
    }
    let expect = async |path: &str, code: &str| {
        for base in &bases {
            let answer = put_at(&app, base, path, pictures::png(9, 9)).await;
            assert_eq!(answer.error(), code, "{base}");
        }
    };
    let suspend = format!("{own}/suspend");
    let answer = app.as_wallet("POST", &suspend, "", &app.wallet).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    expect(&key, "key_suspended").await;
    let answer = app.as_wallet("DELETE", &own, "", &app.wallet).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    expect(&key, "key_revoked").await;
    let other = format!("{}{link}", replicas[1].base);
    let answer = app.send("DELETE", &other, &[("accept", "*/*")], "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    expect(link, "link_revoked").await;
}

#[tokio::test]
async fn three_servers_make_no_more_uploads_by_a_key_than_its_limit() {
    let (app, replicas) = three_with("limits.free_per_day", "0").await;
    let bases = bases(&app, &replicas);
    let body = r#"{"uploadsPerDay": 5}"#;
    let made = app
        .as_wallet("POST", "/api/keys", body, &app.wallet)
        .await
        .json();
    let path = format!("/u/{}", made["key"].as_str().unwrap());
    let mut published = 0;
    for round in 0..3 {
        let uploads = (0..30).map(async |number| {
            let base = bases[usize::try_from(number).unwrap() % bases.len()];
            let picture = pictures::png_seeded(9, 9, 30 * round + number);
            put_at(&app, base, &path, picture).await
        });
        let answers = join_all(uploads).await;
        published += count(&answers, 200);
        for answer in answers.iter().filter(|answer| answer.status == 429) {
            assert_eq!(answer.error(), "key_limit");
        }
    }
    assert_eq!(published, 5);
}
