//! Imports that are kept up to date: new content of the origin appears under the same link, and the
//! image keeps its content whenever the origin returns none that the server takes.

use std::collections::BTreeSet;
use std::time::Duration;

use pixtoll::db::refreshes::{self as rows, Due, Ended, Steps};
use pixtoll::model::image::Image;
use pixtoll::model::refresh::Validators;
use pixtoll::moving::survived;
use pixtoll::retention::audit;
use pixtoll::system::clock::Clock;
use serde_json::{Value, json};

use crate::backup::run;
use crate::blocks::{block_beside, block_now, pdq, sha256};
use crate::hot::{object_of, remembering};
use crate::imports::pay;
use crate::moving::database_in;
use crate::removal::with_admin;
use crate::support::database::{execute, number, texts};
use crate::support::origin::{Origin, Reply};
use crate::support::photos::Photo;
use crate::support::process::{Deployment, Request, eventually};
use crate::support::{Answer, TestApp, pictures};
use crate::variants::until_stored;

const HOUR: Duration = Duration::from_hours(1);

pub(crate) async fn beside(origin: &Origin) -> TestApp {
    origin.allowed(with_admin().on_disk(), &[]).spawn().await
}

async fn import(app: &TestApp, body: &Value) -> Answer {
    let json = [("content-type", "application/json")];
    app.send("POST", "/api/import", &json, body.to_string())
        .await
}

/// Imports for free, to be compared every hour.
pub(crate) async fn hourly(app: &TestApp, origin: &Origin) -> Answer {
    let order = json!({"url": origin.url(), "tier": "free", "refresh": "1h"});
    let image = import(app, &order).await;
    assert_eq!(image.status, 200, "{}", image.text());
    image
}

impl TestApp {
    /// Compares what is due after this time.
    pub(crate) async fn refresh_after(&self, time: Duration) -> usize {
        self.advance(time);
        self.app.refresher.refresh_due().await.unwrap()
    }

    /// Deletes what was replaced, and checks that rows and objects agree.
    async fn clean(&self) {
        self.advance(Duration::from_mins(3));
        self.app.retention.clean_contents().await.unwrap();
        let mut found = Vec::new();
        let (db, store) = (self.db(), self.app_store());
        let now = self.clock.now();
        audit::audit(db, &store, now, false, |it| found.push(it))
            .await
            .unwrap();
        assert_eq!(found, []);
        self.check_ledger().await;
    }

    fn app_store(&self) -> pixtoll::store::Store {
        pixtoll::store::Store::open_local(&self.folder().join("images")).unwrap()
    }

    async fn shows(&self, image: &Answer, picture: &[u8]) -> Answer {
        let served = self.get(&image.field("url")).await;
        assert_eq!((served.status, served.bytes.as_slice()), (200, picture));
        served
    }

    async fn facts(&self, image: &Answer) -> Answer {
        self.get(&format!("/api/images/{}", image.field("id")))
            .await
    }
}

/// The files of an image.
fn files_of(app: &TestApp, id: &str) -> BTreeSet<String> {
    let folder = object_of(app, id).parent().unwrap().to_owned();
    let names = std::fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(id)).collect()
}

#[tokio::test]
async fn new_content_of_the_origin_appears_under_the_same_link_with_its_variants() {
    let (first, second) = (pictures::png(40, 40), pictures::png(60, 30));
    let tagged = "200 OK\r\nETag: \"a\"".to_owned();
    let origin = Origin::start(Reply::Head(tagged, first.clone())).await;
    let app = beside(&origin).await;
    let _watch = remembering(&app.app).await;
    let image = hourly(&app, &origin).await;
    let (id, url) = (image.field("id"), image.field("url"));
    assert_eq!(image.json()["refreshSeconds"], 3600);
    let before = app.shows(&image, &first).await;
    assert_eq!(
        before.header("cache-control").unwrap(),
        "public, max-age=3600"
    );
    let small = format!("{url}?w=20");
    let old_variant = app.get(&small).await;
    until_stored(&app, 1).await;

    // The origin confirms the content by its tag.
    origin.reply(Reply::Head("304 Not Modified".to_owned(), Vec::new()));
    assert_eq!(app.refresh_after(Duration::from_secs(3599)).await, 0);
    assert_eq!(app.refresh_after(Duration::from_secs(1)).await, 1);
    assert!(origin.last_head().contains("if-none-match: \"a\""));
    let confirmed = app.facts(&image).await;
    assert_eq!(
        confirmed.field("refreshedAt"),
        app.clock_text(Duration::ZERO)
    );
    app.shows(&image, &first).await;

    origin.reply(Reply::Image(second.clone()));
    assert_eq!(app.refresh_after(HOUR).await, 1);
    let after = app.shows(&image, &second).await;
    assert_ne!(after.header("etag"), before.header("etag"));
    assert_ne!(
        after.header("last-modified"),
        before.header("last-modified")
    );
    let facts = app.facts(&image).await;
    assert_eq!(facts.json()["width"], 60);
    let new_variant = app.get(&small).await;
    assert_eq!(new_variant.status, 200);
    assert_ne!(new_variant.bytes, old_variant.bytes);
    until_stored(&app, 2).await;
    assert!(
        object_of(&app, &id).exists(),
        "for requests that began before"
    );
    app.clean().await;
    let left = files_of(&app, &id);
    assert!(!object_of(&app, &id).exists());
    assert_eq!(left.len(), 3, "{left:?}");
    app.shows(&image, &second).await;

    let delete = [("X-Delete-Token", image.field("deleteToken"))];
    let gone = app
        .send("DELETE", &format!("/api/images/{id}"), &delete, "")
        .await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert_eq!(files_of(&app, &id), BTreeSet::new());
    assert_eq!(texts(app.db(), "SELECT url FROM refreshes").await, [""]);
    app.advance(Duration::from_mins(10));
    app.clean().await;
    assert_eq!(app.rows("refreshes").await, 0);
    assert_eq!(app.refresh_after(HOUR).await, 0);
}

#[tokio::test]
async fn an_origin_without_an_image_leaves_the_image_and_is_asked_less_often() {
    let first = pictures::png(8, 8);
    let origin = Origin::start(Reply::Image(first.clone())).await;
    let app = beside(&origin).await;
    let image = hourly(&app, &origin).await;
    let fetched = app.facts(&image).await.field("refreshedAt");
    origin.reply(Reply::Head("404 Not Found".to_owned(), Vec::new()));
    assert_eq!(app.refresh_after(HOUR).await, 1);
    origin.reply(Reply::Image(b"no image".to_vec()));
    assert_eq!(app.refresh_after(HOUR).await, 1);
    assert_eq!(app.refresh_after(HOUR).await, 0);
    origin.reply(Reply::Image(vec![0x89; 6 << 20]));
    assert_eq!(app.refresh_after(HOUR).await, 1);
    app.shows(&image, &first).await;
    assert_eq!(app.facts(&image).await.field("refreshedAt"), fetched);
    let second = pictures::png(9, 9);
    origin.reply(Reply::Image(second.clone()));
    assert_eq!(app.refresh_after(4 * HOUR).await, 1);
    app.shows(&image, &second).await;
    assert_eq!(number(app.db(), "SELECT failures FROM refreshes").await, 0);
}

#[tokio::test]
async fn blocked_content_is_never_taken_and_ends_the_refresh() {
    let (first, second) = (pictures::png(8, 8), pictures::png(9, 9));
    let origin = Origin::start(Reply::Image(first.clone())).await;
    let app = beside(&origin).await;
    let image = hourly(&app, &origin).await;
    block_now(&app, &[sha256(&second)]).await;
    origin.reply(Reply::Image(second));
    assert_eq!(app.refresh_after(HOUR).await, 1);
    app.shows(&image, &first).await;
    assert_eq!(app.refresh_after(48 * HOUR).await, 0);
}

#[tokio::test]
async fn a_held_image_is_not_refreshed_and_its_latest_content_is_sealed() {
    let (first, second) = (pictures::png(8, 8), pictures::png(9, 9));
    let origin = Origin::start(Reply::Image(first)).await;
    let app = beside(&origin).await;
    let image = hourly(&app, &origin).await;
    let id = image.field("id");
    origin.reply(Reply::Image(second.clone()));
    assert_eq!(app.refresh_after(HOUR).await, 1);
    app.acted(&id, "hold", json!({})).await;
    let sealed = app.folder().join("images/sealed").join(&id);
    assert_eq!(std::fs::read(&sealed).unwrap(), second);
    origin.reply(Reply::Image(pictures::png(10, 10)));
    assert_eq!(app.refresh_after(HOUR).await, 0);
    app.clean().await;
    let released = json!({"fate": "restore", "early": true});
    app.acted(&id, "release", released).await;
    app.shows(&image, &second).await;
    assert_eq!(app.refresh_after(HOUR).await, 1);
    app.shows(&image, &pictures::png(10, 10)).await;
}

#[tokio::test]
async fn a_refresh_outside_of_the_range_is_refused() {
    let origin = Origin::start(Reply::Image(pictures::png(8, 8))).await;
    let app = beside(&origin).await;
    for refresh in ["", "x", "59min", "31days", "-1h"] {
        let order = json!({"url": origin.url(), "tier": "free", "refresh": refresh});
        let refused = import(&app, &order).await;
        assert_eq!(refused.verdict().1, "invalid_body", "{refresh}");
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_block_that_comes_while_the_origin_is_compared_withholds_its_content() {
    let (first, photo) = (pictures::png(8, 8), Photo::of(3, 160, 120).jpeg(90));
    // The copy in another size has other bytes, and the same picture.
    let copy = pdq(&Photo::of(3, 80, 60).jpeg(60));
    for target in [sha256(&photo), copy] {
        let origin = Origin::start(Reply::Image(first.clone())).await;
        let app = beside(&origin).await;
        let image = hourly(&app, &origin).await;
        origin.reply(Reply::Image(photo.clone()));
        // The server doesn't know the block yet.
        block_beside(&app, &[target]).await;
        assert_eq!(app.refresh_after(HOUR).await, 1);
        app.shows(&image, &first).await;
        app.app.screening.blocks().read_again().await.unwrap();
        assert_eq!(app.refresh_after(Duration::from_mins(3)).await, 1);
        assert_eq!(app.refresh_after(48 * HOUR).await, 0);
        app.shows(&image, &first).await;
        app.clean().await;
        assert_eq!(files_of(&app, &image.field("id")).len(), 2);
    }
}

#[tokio::test]
async fn a_paid_image_is_refreshed_at_no_charge_and_its_receipt_stays() {
    let (first, second) = (pictures::png(8, 8), pictures::png(9, 9));
    let origin = Origin::start(Reply::Image(first)).await;
    let app = beside(&origin).await;
    let payment = app.sign_at("/api/import").await;
    let order = json!({"url": origin.url(), "refresh": "6h"});
    let image = pay(&app, &payment, &order).await;
    assert_eq!(image.status, 200, "{}", image.text());
    assert_eq!(image.json()["refreshSeconds"], 6 * 3600);
    let receipts = app.receipts(&image).await.json();
    let paid_for = image.field("sha256");
    assert_eq!(receipts["receipts"][0]["sha256"], paid_for);
    origin.reply(Reply::Image(second.clone()));
    assert_eq!(app.refresh_after(5 * HOUR).await, 0);
    assert_eq!(app.refresh_after(HOUR).await, 1);
    app.shows(&image, &second).await;
    assert_ne!(app.facts(&image).await.field("sha256"), paid_for);
    assert_eq!(app.receipts(&image).await.json(), receipts);
    // The payment still buys this image alone, and nothing is fetched for it.
    let fetched = origin.connections();
    let again = pay(&app, &payment, &order).await;
    assert_eq!(again.field("id"), image.field("id"), "{}", again.text());
    let daily = json!({"url": origin.url(), "refresh": "1day"});
    assert_eq!(pay(&app, &payment, &daily).await.status, 409);
    assert_eq!(origin.connections(), fetched);
    assert_eq!(app.transfers().await.len(), 1);
    app.clean().await;
}

#[tokio::test]
async fn a_private_image_stays_private_when_it_is_replaced() {
    let (first, second) = (pictures::png(8, 8), pictures::png(9, 9));
    let origin = Origin::start(Reply::Image(first.clone())).await;
    let app = beside(&origin).await;
    let order =
        json!({"url": origin.url(), "tier": "free", "refresh": "1h", "visibility": "private"});
    let image = import(&app, &order).await;
    app.shows(&image, &first).await;
    origin.reply(Reply::Image(second.clone()));
    assert_eq!(app.refresh_after(HOUR).await, 1);
    let link = app
        .link(&image.field("id"), &image.field("deleteToken"), "")
        .await;
    app.shows(&link, &second).await;
    let url = image.field("url");
    let (plain, _) = url.split_once('?').unwrap();
    assert_eq!(app.get(plain).await.status, 404);
    app.clean().await;
}

#[tokio::test]
async fn an_image_of_another_format_has_another_link_and_the_old_one_leads_to_it() {
    let (first, second) = (pictures::gif(8, 8), pictures::png(9, 9));
    let origin = Origin::start(Reply::Image(first.clone())).await;
    let app = beside(&origin).await;
    let image = hourly(&app, &origin).await;
    app.shows(&image, &first).await;
    origin.reply(Reply::Image(second.clone()));
    assert_eq!(app.refresh_after(HOUR).await, 1);
    let old = app.get(&image.field("url")).await;
    assert_eq!(old.status, 308, "{}", old.text());
    let facts = app.facts(&image).await;
    assert_eq!(facts.field("contentType"), "image/png");
    assert!(
        facts
            .field("url")
            .ends_with(&old.header("location").unwrap())
    );
    app.shows(&facts, &second).await;
    app.clean().await;
}

impl TestApp {
    /// Takes the image that is due, as another server does.
    async fn take_due(&self) -> Due {
        let due = rows::take_due(self.db(), self.clock.now(), Duration::from_mins(4), 1);
        due.await.unwrap().pop().unwrap()
    }

    async fn claim_number(&self, due: &mut Due) -> Option<u32> {
        let lease = Duration::from_mins(2);
        let claimed = rows::claim_version(self.db(), due, self.clock.now(), lease);
        claimed.await.unwrap()
    }

    /// Whether content of this number becomes that of the image.
    async fn replaces(&self, due: &Due, version: u32) -> bool {
        let live = self.app.images.find_live(&due.image).await.unwrap();
        let image = Image {
            version,
            ..live.unwrap()
        };
        let now = self.clock.now();
        let steps = Steps {
            now,
            next: now.plus(HOUR),
            clean: now.plus(HOUR),
            blocks_version: None,
        };
        rows::replace(self.db(), due, &image, &Validators::default(), steps)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn a_server_that_lost_its_lease_replaces_nothing() {
    let (first, second) = (pictures::png(8, 8), pictures::png(9, 9));
    let origin = Origin::start(Reply::Image(first)).await;
    let app = beside(&origin).await;
    let image = hourly(&app, &origin).await;
    app.advance(HOUR);
    let mut slow = app.take_due().await;
    let mut copy = slow.clone();
    assert_eq!(app.claim_number(&mut slow).await, Some(1));
    assert_eq!(app.claim_number(&mut copy).await, None);
    // Another server replaces the image meanwhile.
    origin.reply(Reply::Image(second.clone()));
    assert_eq!(app.refresh_after(Duration::from_mins(2)).await, 1);
    assert!(!app.replaces(&slow, 1).await);
    let (failed, none) = ((Ended::Failed, None), Validators::default());
    let ended = rows::end(app.db(), &slow, failed, &none, app.clock.now());
    assert!(!ended.await.unwrap());
    app.shows(&image, &second).await;

    // Or another server deletes the objects that were not published in time.
    app.advance(HOUR);
    let mut slow = app.take_due().await;
    let version = app.claim_number(&mut slow).await.unwrap();
    app.advance(Duration::from_mins(3));
    assert_eq!(app.app.retention.clean_contents().await.unwrap(), 1);
    assert!(!app.replaces(&slow, version).await);
    app.shows(&image, &second).await;
    app.clean().await;
}

#[tokio::test]
async fn a_restored_database_finds_the_content_that_its_store_has() {
    let (first, second) = (pictures::png(8, 8), pictures::png(9, 9));
    let origin = Origin::start(Reply::Image(first.clone())).await;
    let app = beside(&origin).await;
    let image = hourly(&app, &origin).await;
    let older = texts(app.db(), "SELECT sha256 || size_bytes FROM images").await;
    origin.reply(Reply::Image(second.clone()));
    assert_eq!(app.refresh_after(HOUR).await, 1);
    app.clean().await;
    // The backup is older than the replacement.
    let (sha256, size) = older[0].split_at(64);
    let rewind = format!(
        "UPDATE images SET version = 0, width = 8, height = 8, sha256 = '{sha256}', size_bytes = {size}"
    );
    execute(app.db(), &rewind).await;
    let rewind = "UPDATE refreshes SET oldest = 0, newest = 0, clean_ms = NULL";
    execute(app.db(), rewind).await;
    assert_ne!(app.get(&image.field("url")).await.status, 200);
    let now = app.clock.now();
    survived::keep_longer(app.db(), &app.app_store(), now)
        .await
        .unwrap();
    app.shows(&image, &second).await;
    assert_eq!(app.facts(&image).await.json()["width"], 9);
    app.clean().await;
    // It is compared on.
    let third = pictures::png(10, 10);
    origin.reply(Reply::Image(third.clone()));
    assert_eq!(app.refresh_after(HOUR).await, 1);
    app.shows(&image, &third).await;
    app.clean().await;
}

#[tokio::test]
async fn the_ledger_check_finds_images_without_their_origin_and_origins_without_an_image() {
    let origin = Origin::start(Reply::Image(pictures::png(8, 8))).await;
    let app = beside(&origin).await;
    let image = hourly(&app, &origin).await;
    let broken = async |change: &str, back: &str| {
        execute(app.db(), change).await;
        let now = app.clock.now();
        let found = pixtoll::db::audit::find_broken(app.db(), now)
            .await
            .unwrap();
        execute(app.db(), back).await;
        let found = found.into_iter().map(|(_, row)| (row.row_key, row.detail));
        found.collect::<Vec<_>>()
    };
    let id = image.field("id");
    let found = |detail: &str| vec![(id.clone(), detail.to_owned())];
    let counted = broken(
        "UPDATE images SET version = 3",
        "UPDATE images SET version = 0",
    );
    assert_eq!(counted.await, found("content 3, but 0 to 0 are counted"));
    let gone = broken(
        "UPDATE refreshes SET is_gone = 1",
        "UPDATE refreshes SET is_gone = 0",
    );
    assert_eq!(gone.await, found("content 0, and no origin"));
    let back = format!("UPDATE refreshes SET image_id = '{id}'");
    let erased = broken("UPDATE refreshes SET image_id = 'AAAAAAAAAAAA'", &back);
    let kept = (
        "AAAAAAAAAAAA".to_owned(),
        "erased, and its URL is kept".to_owned(),
    );
    assert!(erased.await.contains(&kept));
    app.check_ledger().await;
}

#[tokio::test]
async fn backups_and_copies_of_a_store_hold_the_content_that_is_served() {
    let (first, second) = (pictures::png(8, 8), pictures::png(9, 9));
    let origin = Origin::start(Reply::Image(first)).await;
    let deployment = origin.allowed_in(Deployment::alone());
    let server = deployment.start().await;
    let order = json!({"url": origin.url(), "tier": "free", "refresh": "1h"});
    let import = Request::post("/api/import").with_other_image(order.to_string().as_bytes());
    let image = deployment.answer(&import).await;
    assert_eq!(image.status, 200, "{}", image.text());
    let (id, place) = (image.field("id"), tempfile::tempdir().unwrap());
    let [backup, copy] = ["backup", "copy"].map(|name| place.path().join(name));
    let [backup, copy] = [&backup, &copy].map(|path| path.to_str().unwrap());
    run(&deployment, &["backup", "--with-key", backup]).await;
    run(&deployment, &["store", "copy", "--to", copy]).await;
    server.kill().await;
    let db = database_in(deployment.folder()).await;
    execute(&db, "UPDATE refreshes SET next_ms = 1").await;
    db.close().await;
    origin.reply(Reply::Image(second.clone()));
    let server = deployment.start().await;
    let link = Request::get(&image.field("url"));
    let is_new = async |deployment: &Deployment| {
        let shown = deployment.answer(&link).await;
        (shown.status == 200 && shown.bytes == second).then_some(())
    };
    eventually("the new content", async || is_new(&deployment).await).await;
    run(&deployment, &["backup", "--with-key", backup]).await;
    server.kill().await;
    run(&deployment, &["store", "copy", "--to", copy]).await;
    for store in [&format!("{backup}/images"), copy] {
        let folder = std::path::Path::new(store).join("images");
        let folder = folder.join(&id[..1]).join(&id[1..2]);
        let names = std::fs::read_dir(folder).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names: BTreeSet<String> = names.collect();
        let expected = [format!("{id}.json"), format!("{id}.v1")];
        assert_eq!(names, BTreeSet::from(expected), "{store}");
    }
    let deployment = deployment.set("images.store", copy);
    let server = deployment.start().await;
    assert!(is_new(&deployment).await.is_some());
    server.kill().await;
    let restored = origin.allowed_in(Deployment::alone());
    run(&restored, &["restore", backup]).await;
    let db = database_in(restored.folder()).await;
    assert_eq!(
        texts(&db, "SELECT url FROM refreshes").await,
        [origin.url()]
    );
    db.close().await;
    let _server = restored.start().await;
    run(&restored, &["ledger", "recover"]).await;
    let path = image.field("url").replace(&deployment.base, "");
    let shown = restored.answer(&Request::get(&path)).await;
    assert_eq!((shown.status, shown.bytes), (200, second));
    restored.check_ledger().await;
}
