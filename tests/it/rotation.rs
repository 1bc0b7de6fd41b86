//! Replacement of `secrets.key`: secrets of the old key stay valid while it is listed after the new
//! one.

use pixtoll::db::grants;
use pixtoll::keys::secrets::SecretKey;
use pixtoll::model::token::UploadToken;
use pixtoll::system::clock::Clock;

use crate::support::process::{Deployment, Request, SandboxProcess};
use crate::support::{Payment, database, pictures};

const TOKEN: &str = "/api/upload/token/year";

fn keys(names: &[&str]) -> String {
    let keys: Vec<String> = names.iter().map(|name| name.repeat(32)).collect();
    keys.join("\n")
}

/// A request with this payment.
fn presenting(payment: &Payment) -> Request {
    let request = Request::post(&payment.path);
    let headers = payment.headers().into_iter();
    headers.fold(request, |request, (name, value)| request.with(name, &value))
}

fn deleting(id: &str, token: &str) -> Request {
    Request::delete(&format!("/api/images/{id}")).with("X-Delete-Token", token)
}

fn uploading(token: &str, seed: u64) -> Request {
    Request::post("/api/upload")
        .with("X-Upload-Token", token)
        .with_image(&pictures::png_seeded(6, 6, seed))
}

#[tokio::test]
async fn secrets_of_an_old_key_are_valid_while_it_is_listed() {
    let sandbox = SandboxProcess::start().await;
    let deployment = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url);
    let old = deployment.set("secrets.key", &keys(&["a1"]));
    let server = old.start().await;
    let free = Request::post("/api/free").with_image(&pictures::png(4, 4));
    let [free, other] = [old.answer(&free).await, old.answer(&free).await];
    let by_ticket = old.sign(TOKEN, b"").await.0;
    let by_id = old.sign(TOKEN, b"").await.0.copied_from_the_chain();
    let by_id = by_id.with_idempotency_key("an-order-of-mine-0001");
    let mut tokens = Vec::new();
    for payment in [&by_ticket, &by_id] {
        tokens.push(old.answer(&presenting(payment)).await.token());
    }
    server.kill().await;

    // The new key first, the old one after it.
    let both = old.set("secrets.key", &keys(&["b2", "a1"]));
    let server = both.start().await;
    for (payment, token) in [&by_ticket, &by_id].into_iter().zip(&tokens) {
        assert_eq!(&both.last_word(&presenting(payment)).await.token(), token);
    }
    // The idempotency key was charged, whichever key hashed it: another authorization with it moves
    // nothing.
    let again = both.sign(TOKEN, b"").await.0;
    let again = again.with_idempotency_key("an-order-of-mine-0001");
    assert_eq!(both.last_word(&presenting(&again)).await.token(), tokens[1]);
    let moved = sandbox.transfers_to(again.authorization.to).await;
    assert_eq!(moved, [10_000, 10_000]);
    let uploaded = both.answer(&uploading(&tokens[0], 1)).await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    let (id, token) = (free.field("id"), free.field("deleteToken"));
    assert_eq!(both.answer(&deleting(&id, &token)).await.status, 200);
    // New secrets are made by the new key alone.
    let new = both.sign(TOKEN, b"").await.0;
    let newest = both.answer(&presenting(&new)).await.token();
    both.check_ledger().await;
    server.kill().await;

    // Without the old key, its secrets prove nothing any more, and nobody is charged for that.
    let alone = both.set("secrets.key", &keys(&["b2"]));
    let server = alone.start().await;
    assert!(
        alone.log().contains("owners can't delete the images"),
        "{}",
        alone.log()
    );
    let unproven = alone.last_word(&presenting(&by_ticket)).await;
    assert_eq!(
        unproven.verdict(),
        (409, "payment_known".to_owned(), Some(true))
    );
    assert_eq!(alone.last_word(&presenting(&new)).await.token(), newest);
    let dead = alone.answer(&uploading(&tokens[1], 2)).await;
    assert_eq!(dead.verdict(), (401, "bad_token".to_owned(), Some(false)));
    let (id, token) = (other.field("id"), other.field("deleteToken"));
    assert_eq!(alone.answer(&deleting(&id, &token)).await.status, 401);
    let (id, token) = (uploaded.field("id"), uploaded.field("deleteToken"));
    assert_eq!(alone.answer(&deleting(&id, &token)).await.status, 200);
    server.kill().await;

    // A key that this database never used, and one that it doesn't use any more.
    for strange in [&["c3"][..], &["a1"], &["c3", "a1"]] {
        let strange = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url)
            .set("secrets.key", &keys(strange))
            .set(
                "database.url",
                &database::sqlite_url(&alone.folder().join("data")),
            );
        let refused = strange.run(&["serve"]).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.err.contains("another secrets.key"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_token_of_a_removed_key_is_replaced_for_its_payer() {
    let app = crate::support::TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let own = app.pay(&payment).await.token();
    // As if another replica had made it by a key that this one doesn't have.
    let key = SecretKey::from_bytes([9; 32]);
    let expires = app.clock.now().plus(app.app.config.token_ttl);
    let foreign = UploadToken::derive(&key, &payment.ledger_id(), 0, expires);
    let sql = format!("UPDATE grants SET token_hash = '{}'", foreign.hash());
    assert_eq!(database::execute(app.db(), &sql).await, 1);
    let fresh = app.pay(&payment).await.token();
    assert_ne!(fresh, own);
    let refused = app.upload_with(foreign.reveal(), pictures::png(5, 5)).await;
    assert_eq!(refused.status, 401, "{}", refused.text());
    // On the replica that has the key, a token that was replaced is no proof of a lost commit.
    let hash = UploadToken::parse(&own).unwrap().hash();
    let sql = format!("UPDATE grants SET replaced_hash = '{hash}'");
    assert_eq!(database::execute(app.db(), &sql).await, 1);
    let refused = app.upload_with(&own, pictures::png(5, 5)).await;
    assert_eq!(refused.status, 401, "{}", refused.text());
    let answer = app.upload_with(&fresh, pictures::png(5, 5)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(app.transfers().await.len(), 1);
    app.check_ledger().await;
}

#[tokio::test]
async fn a_valid_token_that_was_replaced_more_than_once_stops_no_sales() {
    let app = crate::support::TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let own = app.pay(&payment).await.token();
    // As replicas do that don't have the key of the token before.
    for byte in [7, 8] {
        let grant = grants::find(app.db(), &payment.ledger_id()).await;
        let grant = grant.unwrap().unwrap();
        let expires = app.clock.now().plus(app.app.config.token_ttl);
        let key = SecretKey::from_bytes([byte; 32]);
        let next = UploadToken::derive(&key, &grant.payment_id, grant.serial + 1, expires);
        let replaced = grants::replace_token(app.db(), &grant, &next.hash(), expires).await;
        assert!(replaced.unwrap());
    }
    let dead = app.upload_with(&own, pictures::png(5, 5)).await;
    assert_eq!(dead.verdict(), (401, "bad_token".to_owned(), Some(false)));
    assert_eq!(app.post(TOKEN).await.status, 402);
    let fresh = app.pay(&payment).await.token();
    let answer = app.upload_with(&fresh, pictures::png(5, 5)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    app.check_ledger().await;
}

#[tokio::test]
async fn the_token_of_a_used_up_payment_whose_key_is_gone_stops_no_sales() {
    let app = crate::support::TestApp::spawn().await;
    let payment = app.sign_at("/api/upload/token/year?images=2").await;
    let own = app.pay(&payment).await.token();
    for height in [5, 6] {
        let answer = app.upload_with(&own, pictures::png(5, height)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    // As if a replica had made it by a key that this one doesn't have.
    let key = SecretKey::from_bytes([9; 32]);
    let expires = app.clock.now().plus(app.app.config.token_ttl);
    let foreign = UploadToken::derive(&key, &payment.ledger_id(), 0, expires);
    let sql = format!("UPDATE grants SET token_hash = '{}'", foreign.hash());
    assert_eq!(database::execute(app.db(), &sql).await, 1);
    let shown = app.pay(&payment).await.token();
    let dead = app.upload_with(&shown, pictures::png(5, 7)).await;
    assert_eq!(
        dead.verdict(),
        (410, "token_expired".to_owned(), Some(false))
    );
    assert_eq!(app.post(TOKEN).await.status, 402);
}
