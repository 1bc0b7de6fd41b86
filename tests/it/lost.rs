//! Lost commits (docs/payments.md): a database that was set back to before a sale is noticed by the
//! mark in its store, and by the first token that it doesn't know.

use std::time::Duration;

use pixtoll::db::epoch as rows;
use pixtoll::keys::secrets::SecretKey;
use pixtoll::model::mark::Age;
use pixtoll::model::token::UploadToken;
use pixtoll::moving::epoch::{self, Epoch};
use pixtoll::store::Store;
use pixtoll::system::clock::Clock;
use pixtoll::system::random::Randomness;

use crate::recover::lose_everything;
use crate::support::database::{execute, number, texts};
use crate::support::{Answer, TestApp, pictures};

/// The response to the bearer of something that the database lost.
fn lost() -> (u16, String, Option<bool>) {
    (503, "recovery_required".to_owned(), None)
}

/// Whether the paid routes take requests.
async fn is_selling(app: &TestApp) -> bool {
    let answer = app.post("/api/upload/token/year").await;
    assert!(matches!(answer.status, 402 | 503), "{}", answer.text());
    answer.status == 402
}

/// What a person does: recover what the chain knows, and accept the rest.
async fn accept(app: &TestApp) {
    let ttl = app.app.config.token_ttl;
    app.app.epoch.accept(app.clock.now(), ttl).await.unwrap();
}

/// Buys an upload token.
async fn buy_token(app: &TestApp) -> String {
    let payment = app.sign_for("year").await;
    app.pay(&payment).await.token()
}

async fn delete(app: &TestApp, image: &Answer) -> Answer {
    let path = format!("/api/images/{}", image.field("id"));
    let token = image.field("deleteToken");
    app.send("DELETE", &path, &[("x-delete-token", &*token)], "")
        .await
}

#[tokio::test]
async fn a_token_that_a_database_set_back_to_before_its_sale_does_not_know_pauses_sales() {
    let app = TestApp::on_disk().await;
    let store = Store::open_local(&app.folder().join("images")).unwrap();
    let other = Epoch::new(app.db().clone(), store.clone(), &Randomness::seeded(2));
    other.look().await;
    let token = buy_token(&app).await;
    // The mark was written at start: no other than the token knows of the sale.
    lose_everything(app.db()).await;
    app.app.epoch.look().await;
    assert!(app.app.epoch.is_current());
    assert!(is_selling(&app).await);
    let upload = app.upload_with(&token, pictures::png(8, 8)).await;
    assert_eq!(upload.verdict(), lost());
    assert_eq!(upload.json()["action"]["type"], "retry");
    assert!(upload.header("retry-after").is_some());
    // At once on this server, and at the next look on every other one.
    assert!(!is_selling(&app).await);
    assert!(other.is_current());
    other.look().await;
    assert!(!other.is_current());
    let age = epoch::age(app.db(), &store).await.unwrap();
    assert_eq!(age, Some(Age::Behind));
    let noted = rows::find_lost(app.db()).await.unwrap().unwrap();
    let hash = UploadToken::parse(&token).unwrap().hash();
    assert!(noted.contains(&hash) && !noted.contains(&token), "{noted}");
    // Nothing is deleted by such a database.
    assert!(app.app.retention.reap().await.is_err());
    // It stays so until a person has recovered what the chain shows.
    app.app.epoch.advance().await.unwrap();
    app.app.epoch.look().await;
    assert!(!is_selling(&app).await);
    assert_eq!(
        app.upload_with(&token, pictures::png(8, 8)).await.verdict(),
        lost()
    );
    accept(&app).await;
    other.look().await;
    assert!(other.is_current());
    assert!(is_selling(&app).await);
    // The same token is no news then, and its bearer isn't told that nothing was charged.
    let upload = app.upload_with(&token, pictures::png(8, 8)).await;
    let known = (409, "payment_known".to_owned(), Some(true));
    assert_eq!(upload.verdict(), known);
    assert!(is_selling(&app).await);
    // A second loss is noticed like the first one.
    app.clock.advance(Duration::from_mins(2));
    app.chain_clock.advance(Duration::from_mins(2));
    let second = buy_token(&app).await;
    lose_everything(app.db()).await;
    let upload = app.upload_with(&second, pictures::png(8, 8)).await;
    assert_eq!(upload.verdict(), lost());
    assert!(!is_selling(&app).await);
}

#[tokio::test]
async fn tokens_that_this_server_did_not_make_are_unknown_and_pause_nothing() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await.ledger_id();
    let expires = app.clock.now().plus(Duration::from_mins(5));
    let foreign = UploadToken::derive(&SecretKey::from_bytes([9; 32]), &payment, 0, expires);
    let own = buy_token(&app).await;
    let last = if own.ends_with('0') { "1" } else { "0" };
    let forged = format!("{}{last}", &own[..39]);
    for text in [foreign.reveal(), &forged, &"0".repeat(40), &"f".repeat(40)] {
        let upload = app.upload_with(text, pictures::png(8, 8)).await;
        let bad = (401, "bad_token".to_owned(), Some(false));
        assert_eq!(upload.verdict(), bad, "{text}");
    }
    assert!(is_selling(&app).await);
    assert_eq!(rows::find_lost(app.db()).await.unwrap(), None);
}

#[tokio::test]
async fn tokens_that_were_replaced_or_whose_records_were_erased_are_expired_and_pause_nothing() {
    let app = TestApp::builder()
        .set("payments.token_ttl", "7d")
        .set("retention.records", "1d")
        .spawn()
        .await;
    // Replaced by a server whose clock is half a minute ahead.
    let payment = app.sign_for("year").await;
    let token = app.pay(&payment).await.token();
    let week = Duration::from_hours(7 * 24);
    app.clock.advance(week);
    let fresh = app.pay(&payment).await.token();
    assert_ne!(fresh, token);
    for back in [0, 30] {
        app.clock.set_back(Duration::from_secs(back));
        let upload = app.upload_with(&token, pictures::png(8, 8)).await;
        assert_eq!(upload.verdict().1, "token_expired", "{back}");
    }
    // Used, and its image deleted: the records stay until the token has expired.
    let uploaded = app.upload_with(&fresh, pictures::png(8, 8)).await;
    assert_eq!(delete(&app, &uploaded).await.status, 200);
    for days in [3, 3, 3] {
        app.clock.advance(Duration::from_hours(days * 24));
        app.app.retention.accept_clock().await.unwrap();
        app.audit().await;
        app.app.retention.reap().await.unwrap();
        let upload = app.upload_with(&fresh, pictures::png(8, 8)).await;
        assert!(
            ["token_used", "token_expired"].contains(&&*upload.verdict().1),
            "{:?}",
            upload.verdict()
        );
    }
    assert_eq!(number(app.db(), "SELECT COUNT(*) FROM grants").await, 0);
    assert_eq!(delete(&app, &uploaded).await.status, 200, "again");
    assert_eq!(rows::find_lost(app.db()).await.unwrap(), None);
}

#[tokio::test]
async fn a_delete_token_of_an_image_that_the_database_lost_pauses_sales() {
    let app = TestApp::spawn().await;
    let image = app.upload_free(pictures::png(8, 8)).await;
    let kept = app.upload_free(pictures::png(9, 9)).await;
    execute(
        app.db(),
        &format!("DELETE FROM images WHERE id = '{}'", image.field("id")),
    )
    .await;
    assert_eq!(delete(&app, &image).await.verdict(), lost());
    assert!(!is_selling(&app).await);
    let noted = rows::find_lost(app.db()).await.unwrap().unwrap();
    assert!(noted.contains(&image.field("id")), "{noted}");
    let path = format!("/api/receipts/{}", image.field("id"));
    let token = image.field("deleteToken");
    let headers = [("x-delete-token", &*token)];
    let receipts = app.send("GET", &path, &headers, "").await;
    assert_eq!(receipts.verdict(), lost());
    accept(&app).await;
    assert!(is_selling(&app).await);
    assert_eq!(delete(&app, &image).await.status, 200, "it is gone");
    assert_eq!(delete(&app, &kept).await.status, 200);
    assert!(is_selling(&app).await);
}

#[tokio::test]
async fn the_delete_token_of_an_image_whose_record_may_be_erased_pauses_nothing() {
    let app = TestApp::spawn().await;
    let image = app.upload_free(pictures::png(8, 8)).await;
    app.advance(Duration::from_hours(23));
    execute(app.db(), "DELETE FROM images").await;
    assert_eq!(delete(&app, &image).await.status, 200);
    assert!(is_selling(&app).await);
}

#[tokio::test]
async fn the_mark_is_renewed_in_every_minute_in_which_something_was_sold() {
    let app = TestApp::spawn().await;
    let epoch = async || {
        let sql = "SELECT value FROM deployment WHERE name = 'epoch'";
        texts(app.db(), sql).await.remove(0)
    };
    let before = epoch().await;
    assert!(!app.app.epoch.watch(false).await);
    assert_eq!(epoch().await, before, "nothing was sold");
    buy_token(&app).await;
    assert!(app.app.epoch.watch(false).await);
    let after = epoch().await;
    assert_ne!(after, before);
    assert!(!app.app.epoch.watch(false).await, "once");
    assert_eq!(epoch().await, after);
    // Set back to just before the sale, within the hour of the mark.
    lose_everything(app.db()).await;
    let set_back = format!("UPDATE deployment SET value = '{before}' WHERE name = 'epoch'");
    execute(app.db(), &set_back).await;
    assert!(!app.app.epoch.watch(false).await);
    assert!(!is_selling(&app).await);
}
