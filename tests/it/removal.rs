//! Removal and restore by the operator (docs/trust.md): over the admin API, by the command beside a
//! running server, on every server and from memory, and against payments that are under way.

use std::time::Duration;

use serde_json::{Value, json};

use crate::accounting::{refund, repay};
use crate::backup::free;
use crate::hot::{SOON, dies_soon, from_memory, object_of, remembering};
use crate::support::database::{execute, texts};
use crate::support::expect::pending;
use crate::support::photos::Photo;
use crate::support::process::{Deployment, Request};
use crate::support::proxy::Fault;
use crate::support::{Answer, TestApp, pictures};

/// The token of the admin API in tests.
pub(crate) const ADMIN_TOKEN: &str = "an-admin-token-of-the-tests-0123456789";
const DAY: Duration = Duration::from_hours(24);

impl TestApp {
    /// Sends a request to the admin API with the token, and a JSON body.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: &Value) -> Answer {
        let url = format!("{}/admin/api{path}", self.admin);
        let bearer = format!("Bearer {ADMIN_TOKEN}");
        let headers = [("authorization", bearer)];
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.send(method, &url, &headers, body).await
    }

    /// Carries out an act on an image over the admin API, and returns the case.
    pub(crate) async fn acted(&self, id: &str, act: &str, extra: Value) -> Value {
        let answer = self.act(id, act, extra).await;
        assert_eq!(answer.status, 200, "{act}: {}", answer.text());
        answer.json()
    }

    /// Tries an act on an image over the admin API.
    pub(crate) async fn act(&self, id: &str, act: &str, extra: Value) -> Answer {
        let mut body = json!({"reason": "a test", "as": "ada"});
        if let (Some(body), Value::Object(extra)) = (body.as_object_mut(), extra) {
            body.extend(extra);
        }
        self.admin("POST", &format!("/images/{id}/{act}"), &body)
            .await
    }

    /// The facts of an image, as its owner receives them.
    async fn owners_facts(&self, image: &Answer) -> Answer {
        let path = format!("/api/images/{}", image.field("id"));
        let token = image.field("deleteToken");
        self.send("GET", &path, &[("X-Delete-Token", token)], "")
            .await
    }
}

/// A server with the admin API.
pub(crate) fn with_admin() -> crate::support::Builder {
    TestApp::builder().set("admin.token", ADMIN_TOKEN)
}

#[tokio::test]
async fn a_removed_image_is_not_served_even_from_memory_and_comes_back() {
    let app = with_admin().on_disk().spawn().await;
    let picture = pictures::png(30, 30);
    let image = app.upload_free(picture.clone()).await;
    let (id, url) = (image.field("id"), image.field("url"));
    let _watch = remembering(&app.app).await;
    let links = [url.clone()];
    let object = object_of(&app, &id);
    let served = from_memory(&app, &object, &links, async || app.get(&url).await).await;
    assert_eq!(served.status, 200);

    let case = app.acted(&id, "remove", json!({})).await;
    assert_eq!(case["image"]["state"], "removed");
    assert_eq!(case["image"]["removal"]["ground"], "policy");
    let gone = app.get(&url).await;
    assert_eq!((gone.status, gone.error()), (404, "not_found".to_owned()));
    assert_eq!(gone.header("cache-control").unwrap(), "public, max-age=60");
    assert_eq!(app.send("HEAD", &url, &[("x", "y")], "").await.status, 404);
    // Only the owner is told. The wallet's list and the repeated upload don't show it.
    let facts = app.get(&format!("/api/images/{id}")).await;
    assert_eq!((facts.status, facts.error()), (404, "not_found".to_owned()));
    let told = app.owners_facts(&image).await;
    let removed = (404, "image_removed".to_owned(), Some(false));
    assert_eq!(told.verdict(), removed, "{}", told.text());

    // The same again as a legal demand, for everybody.
    app.acted(&id, "remove", json!({"legal": true})).await;
    let legal = (451, "removed_for_legal_reasons".to_owned(), Some(false));
    for answer in [
        app.get(&url).await,
        app.get(&format!("/api/images/{id}")).await,
        app.owners_facts(&image).await,
    ] {
        assert_eq!(answer.verdict(), legal, "{}", answer.text());
    }

    std::fs::rename(object.with_extension("away"), &object).unwrap();
    let case = app.acted(&id, "restore", json!({})).await;
    assert_eq!(
        (&case["image"]["state"], &case["image"]["removal"]),
        (&json!("live"), &Value::Null)
    );
    let back = app.get(&url).await;
    assert_eq!((back.status, &back.bytes), (200, &picture));
    let acts: Vec<&str> = case["log"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["act"].as_str().unwrap())
        .collect();
    assert_eq!(acts, ["restore", "remove", "remove"]);
    assert_eq!(case["log"][0]["actor"], "ada");
}

#[tokio::test]
async fn the_command_removes_beside_a_running_server_within_two_seconds() {
    let deployment = Deployment::alone();
    let _server = deployment.start().await;
    let image = free(&deployment, 1).await;
    let (id, url) = (image.field("id"), image.field("url"));
    let ask = async || deployment.answer(&Request::get(&url)).await;
    // In memory now.
    for _ in 0..3 {
        assert_eq!(ask().await.status, 200);
    }
    let removed = deployment
        .run(&[
            "admin", "remove", &url, "--legal", "--reason", "a demand", "--as", "ada",
        ])
        .await;
    let start = std::time::Instant::now();
    assert_eq!(removed.code, Some(0), "{removed:?}");
    assert!(removed.out.contains("(legal): a demand"), "{removed:?}");
    loop {
        let asked = start.elapsed();
        if ask().await.status == 451 {
            break;
        }
        assert!(asked < SOON, "{url} is still served");
    }
    let listed = deployment
        .run(&["admin", "list", "--state", "removed", "--json"])
        .await;
    let listed: Value = serde_json::from_str(listed.out.trim()).unwrap();
    assert_eq!(listed["id"], id);
    let audit = deployment.run(&["admin", "audit", "--verify"]).await;
    assert!(audit.out.starts_with("the log is intact"), "{audit:?}");
    let nothing = deployment.run(&["admin", "find", "AAAAAAAAAAAA"]).await;
    assert_eq!((nothing.code, nothing.out.as_str()), (Some(1), ""));
    let restored = deployment
        .run(&["admin", "restore", &id, "--reason", "a mistake"])
        .await;
    assert_eq!(restored.code, Some(0), "{restored:?}");
    assert_eq!(ask().await.status, 200);
    // No reason, no act.
    let refused = deployment
        .run(&["admin", "remove", &id, "--reason", " "])
        .await;
    assert!(
        refused.err.contains("The reason has 0 characters"),
        "{refused:?}"
    );
    assert_eq!(ask().await.status, 200);
}

#[tokio::test]
async fn a_private_image_says_why_to_its_signed_link_alone() {
    let app = with_admin().spawn().await;
    let path = "/api/free?visibility=private";
    let image = app.upload_at(path, pictures::png(9, 9)).await;
    let url = image.field("url");
    let (plain, _) = url.split_once('?').unwrap();
    app.acted(&image.field("id"), "remove", json!({"legal": true}))
        .await;
    assert_eq!(app.get(&url).await.status, 451);
    assert_eq!(app.get(plain).await.error(), "not_found");
    let links = format!("/api/images/{}/links", image.field("id"));
    let token = [("X-Delete-Token", image.field("deleteToken"))];
    let no_link = app.send("POST", &links, &token, "{}").await;
    assert_eq!(no_link.status, 404, "{}", no_link.text());
}

#[tokio::test]
async fn a_removed_image_expires_is_deleted_by_its_owner_or_after_its_time() {
    let app = with_admin().on_disk().spawn().await;
    let [expiring, owned, permanent] = [
        app.upload_free(pictures::png(5, 5)).await,
        app.upload_free(pictures::png(6, 6)).await,
        app.upload_free(pictures::png(7, 7)).await,
    ];
    for image in [&expiring, &owned, &permanent] {
        app.acted(&image.field("id"), "remove", json!({})).await;
    }
    execute(
        app.db(),
        &format!(
            "UPDATE images SET expires_ms = NULL WHERE id = '{}'",
            permanent.field("id")
        ),
    )
    .await;
    let path = format!("/api/images/{}", owned.field("id"));
    let token = [("X-Delete-Token", owned.field("deleteToken"))];
    assert_eq!(app.send("DELETE", &path, &token, "").await.status, 200);
    assert!(!object_of(&app, &owned.field("id")).exists());
    let reap = async || app.app.retention.reap().await.unwrap().images;
    assert_eq!(reap().await, 0);
    app.advance(DAY * 8);
    // It can't come back after its expiry.
    let late = app.act(&expiring.field("id"), "restore", json!({})).await;
    assert_eq!(
        (late.status, late.error()),
        (409, "not_restorable".to_owned())
    );
    app.app.retention.accept_clock().await.unwrap();
    assert_eq!(reap().await, 1);
    assert!(!object_of(&app, &expiring.field("id")).exists());
    assert!(object_of(&app, &permanent.field("id")).exists());
    app.advance(DAY * 23);
    app.app.retention.accept_clock().await.unwrap();
    assert_eq!(reap().await, 1);
    assert!(!object_of(&app, &permanent.field("id")).exists());
    let gone = app.act(&permanent.field("id"), "restore", json!({})).await;
    assert_eq!((gone.status, gone.error()), (409, "unfit_state".to_owned()));
}

#[tokio::test]
async fn a_removal_blocks_the_picture_and_the_wallet_with_it() {
    let app = with_admin().spawn().await;
    let picture = Photo::of(7, 480, 320).jpeg(92);
    let payment = app.sign_at("/api/upload/year").await;
    let image = app.pay_with(&payment, &picture).await;
    let transfers = app.transfers().await.len();
    let id = image.field("id");
    // A free image has no wallet, and an unknown word blocks nothing.
    let free = app.upload_free(pictures::png(4, 4)).await.field("id");
    let refused = app.act(&free, "remove", json!({"block": ["wallet"]})).await;
    assert_eq!(
        (refused.status, refused.error()),
        (409, "no_wallet".to_owned())
    );
    let unknown = app.act(&free, "remove", json!({"block": ["odd"]})).await;
    assert_eq!(unknown.status, 400, "{}", unknown.text());
    assert_eq!(
        (app.rows("blocks").await, app.rows("removals").await),
        (0, 0)
    );

    let block = json!({"block": ["content", "wallet"]});
    let case = app.acted(&id, "remove", block).await;
    let blocked = case["log"][0]["details"]["blocked"].as_array().unwrap();
    assert_eq!(
        app.rows("blocks").await,
        i64::try_from(blocked.len()).unwrap()
    );
    let acts = texts(app.db(), "SELECT act FROM admin_log ORDER BY number").await;
    assert_eq!(acts[0], "remove");
    assert!(acts[1..].iter().all(|act| act == "block"), "{acts:?}");
    assert_eq!(acts.len(), 1 + blocked.len());
    app.app.screening.blocks().read_again().await.unwrap();
    assert_eq!(app.get(&image.field("url")).await.status, 404);
    let half = Photo::of(7, 240, 160).jpeg(60);
    let content = (422, "content_blocked".to_owned(), Some(false));
    assert_eq!(app.upload_free(half).await.verdict(), content);
    let again = app.sign_at("/api/upload/year").await;
    let answer = app.pay_with(&again, &pictures::png(5, 5)).await;
    let wallet = (403, "wallet_blocked".to_owned(), Some(false));
    assert_eq!(answer.verdict(), wallet);
    assert_eq!(app.transfers().await.len(), transfers);
    assert!(app.check_ledger().await.is_balanced());
    // The image comes back, and the blocks stay.
    let blocks = app.rows("blocks").await;
    app.acted(&id, "restore", json!({})).await;
    assert_eq!(app.rows("blocks").await, blocks);
}

#[tokio::test]
async fn what_was_paid_and_removed_is_not_handed_out_again() {
    let app = with_admin().spawn().await;
    let payment = app.sign_at("/api/upload/year").await;
    let picture = pictures::png(8, 8);
    let image = app.pay_with(&payment, &picture).await;
    let id = image.field("id");
    app.acted(&id, "remove", json!({})).await;
    let again = app.pay_with(&payment, &picture).await;
    assert_eq!(again.verdict(), (404, "image_gone".to_owned(), Some(true)));
    // It can't be renewed, and nothing is charged.
    let renewal = format!("/api/images/{id}/renew");
    let other = app.upload_free(pictures::png(3, 3)).await;
    let signed = app
        .sign_at(&format!(
            "/api/images/{}/renew?tier=year",
            other.field("id")
        ))
        .await;
    let mut moved = signed.clone();
    moved.resource["url"] = json!(app.url(&renewal));
    for answer in [app.post(&renewal).await, app.pay_at(&renewal, &moved).await] {
        let refused = (409, "not_renewable".to_owned(), Some(false));
        assert_eq!(answer.verdict(), refused, "{}", answer.text());
    }
    assert_eq!(app.transfers().await.len(), 1);
    let owed = texts(app.db(), "SELECT id FROM payments WHERE owed IS NOT NULL").await;
    assert_eq!(owed.len(), 0, "the terms owe nothing for a removal");
    // Found by what letters name.
    let transaction = texts(
        app.db(),
        "SELECT transaction_hash FROM payments WHERE transaction_hash IS NOT NULL",
    )
    .await;
    let payer = app.wallet.address().to_string();
    for what in [
        &id,
        &image.field("url"),
        &transaction[0],
        &payer,
        &payer.to_lowercase(),
        &payment.ledger_id().to_string(),
    ] {
        let found = app
            .admin("GET", &format!("/find?what={what}"), &Value::Null)
            .await;
        assert_eq!(
            found.json()["images"][0]["id"],
            id,
            "{what}: {}",
            found.text()
        );
    }
    let case = app
        .admin("GET", &format!("/images/{id}"), &Value::Null)
        .await
        .json();
    assert_eq!(case["payments"][0]["payer"], payer);
    assert_eq!(case["payments"][0]["transaction"], transaction[0]);
}

#[tokio::test]
async fn a_removal_that_races_a_renewal_withholds_and_owes() {
    let app = with_admin().set("payments.timeout", "3s").spawn().await;
    let image = app.upload_free(pictures::png(8, 8)).await;
    let id = image.field("id");
    let payment = app
        .sign_at(&format!("/api/images/{id}/renew?tier=year"))
        .await;
    app.facilitator.next("settle", Fault::SilentBefore);
    assert_eq!(app.pay(&payment).await.verdict(), pending());
    app.acted(&id, "remove", json!({})).await;
    // A hold can't be released into a delete while the money is open.
    app.reconcile_until(&payment, "settled").await;
    let owed = texts(app.db(), "SELECT owed FROM payments WHERE owed IS NOT NULL").await;
    assert_eq!(owed.len(), 1, "{owed:?}");
    let paid = app.pay(&payment).await;
    assert_eq!(paid.status, 200, "{}", paid.text());
    paid.token();
    assert_eq!(app.get(&image.field("url")).await.status, 404);
    let case = app
        .admin("GET", &format!("/images/{id}"), &Value::Null)
        .await
        .json();
    assert_eq!(case["image"]["state"], "removed");
    assert_eq!(case["payments"][0]["kind"], "renewal");
    assert_eq!(app.transfers().await.len(), 1);
    let expires = texts(
        app.db(),
        &format!("SELECT CAST(expires_ms AS TEXT) FROM images WHERE id = '{id}'"),
    )
    .await;
    assert_eq!(expires.len(), 1);
    // The operator pays it back, and nothing of it is left.
    let made = repay(&app, &payment, 10_000).await.to_string();
    let (code, text) = refund(&app, &payment, &["--transaction", &made]).await;
    assert_eq!(code, 0, "{text}");
    let again = app.pay(&payment).await;
    let resolved = (409, "payment_resolved".to_owned(), Some(true));
    assert_eq!(again.verdict(), resolved, "{}", again.text());
    let token = paid.token();
    let refused = app.upload_with(&token, pictures::png(4, 4)).await;
    assert_eq!(refused.error(), "payment_resolved");
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_removal_between_settle_and_publication_withholds_and_owes() {
    let app = with_admin().set("payments.timeout", "3s").spawn().await;
    let payment = app.sign_at("/api/upload/year").await;
    let picture = pictures::png(8, 8);
    app.facilitator.next("settle", Fault::SilentAfter);
    assert_eq!(app.pay_with(&payment, &picture).await.verdict(), pending());
    let ids = texts(app.db(), "SELECT id FROM images WHERE state = 'pending'").await;
    // Its object may still be being written, so that it can't be sealed.
    let held = app.act(&ids[0], "hold", json!({})).await;
    assert_eq!((held.status, held.error()), (409, "unfit_state".to_owned()));
    app.acted(&ids[0], "remove", json!({})).await;
    app.reconcile_until(&payment, "settled").await;
    let owed = texts(app.db(), "SELECT owed FROM payments WHERE owed IS NOT NULL").await;
    assert_eq!(owed, ["the image of this upload is gone"]);
    let link = app.get(&format!("/i/{}.png", ids[0])).await;
    assert_eq!(link.status, 404);
    // The payer receives a token for another image.
    app.pay_with(&payment, &picture).await.token();
    // It was never public, so it can't be restored, and is deleted after its time.
    let restored = app.act(&ids[0], "restore", json!({})).await;
    assert_eq!(restored.status, 409, "{}", restored.text());
    app.advance(DAY * 31);
    app.app.retention.accept_clock().await.unwrap();
    app.app.retention.reap().await.unwrap();
    let state = texts(
        app.db(),
        &format!("SELECT state FROM images WHERE id = '{}'", ids[0]),
    )
    .await;
    assert_eq!(state, ["discarded"]);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn the_admin_api_needs_its_token_and_is_not_on_the_public_listener() {
    let app = with_admin().spawn().await;
    let image = app.upload_free(pictures::png(4, 4)).await.field("id");
    let paths = [
        ("GET", "/images".to_owned()),
        ("GET", format!("/images/{image}")),
        ("POST", format!("/images/{image}/remove")),
        ("POST", format!("/images/{image}/restore")),
        ("POST", format!("/images/{image}/hold")),
        ("POST", format!("/images/{image}/release")),
        ("POST", format!("/images/{image}/acknowledge")),
        ("GET", "/find?what=x".to_owned()),
        ("GET", "/log".to_owned()),
        ("GET", "/log/verify".to_owned()),
    ];
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    for (method, path) in &paths {
        let public = format!("/admin/api{path}");
        let headers = [("authorization", bearer.clone())];
        let answer = app.send(method, &public, &headers, "").await;
        assert_eq!(
            (answer.status, answer.error()),
            (404, "unknown_route".to_owned()),
            "{path}"
        );
    }
    let url = format!("{}/admin/api/images", app.admin);
    // A request without a token guesses nothing: a web page that sends some can't lock anybody out.
    let none: [(&str, &str); 0] = [];
    let wrong: [Vec<(&str, &str)>; 2] = [
        vec![("authorization", "Bearer wrong")],
        vec![("authorization", &bearer[7..])],
    ];
    let headers = std::iter::repeat_n(none.to_vec(), 20);
    for headers in headers.chain(wrong.into_iter().cycle().take(10)) {
        let answer = app.send("GET", &url, &headers, "").await;
        assert_eq!(
            (answer.status, answer.error()),
            (401, "unauthorized".to_owned())
        );
    }
    // Then even the right token has to wait.
    let limited = app.admin("GET", "/images", &Value::Null).await;
    assert_eq!(
        (limited.status, limited.error()),
        (429, "rate_limited".to_owned())
    );
    assert!(limited.header("retry-after").is_some());
    app.advance(Duration::from_mins(1));
    let listed = app
        .admin("GET", "/images?state=all&limit=1", &Value::Null)
        .await;
    assert_eq!(listed.json()["images"][0]["id"], image);
    for (query, word) in [
        ("?state=odd", "all, removed, held, waiting"),
        ("?limit=201", "1 to 200"),
        ("?limit=0", "1 to 200"),
        ("?limit=x", "no whole number"),
    ] {
        let bad = app
            .admin("GET", &format!("/images{query}"), &Value::Null)
            .await;
        assert_eq!(bad.status, 400, "{query}");
        assert!(bad.field("message").contains(word), "{}", bad.text());
    }
    for body in [
        json!({}),
        json!({"reason": "x"}),
        json!({"reason": "x", "as": "y", "odd": 1}),
    ] {
        let bad = app
            .admin("POST", &format!("/images/{image}/remove"), &body)
            .await;
        assert_eq!(
            (bad.status, bad.error()),
            (400, "bad_request".to_owned()),
            "{body}"
        );
    }
    let unknown = app.act("AAAAAAAAAAAA", "remove", json!({})).await;
    assert_eq!(
        (unknown.status, unknown.error()),
        (404, "unknown_image".to_owned())
    );
    assert_eq!(app.rows("admin_log").await, 0);

    let off = TestApp::spawn().await;
    let answer = off.admin("GET", "/images", &Value::Null).await;
    assert_eq!(
        (answer.status, answer.error()),
        (404, "unknown_route".to_owned())
    );
}

#[tokio::test]
async fn lists_show_pages_newest_first() {
    let app = with_admin().spawn().await;
    let mut ids = Vec::new();
    for side in 3..7 {
        app.advance(Duration::from_secs(1));
        ids.push(app.upload_free(pictures::png(side, side)).await.field("id"));
    }
    ids.reverse();
    let list = async |query: &str| -> Vec<String> {
        let answer = app
            .admin("GET", &format!("/images{query}"), &Value::Null)
            .await;
        let images = answer.json()["images"].as_array().unwrap().clone();
        images
            .iter()
            .map(|it| it["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(list("").await, ids);
    assert_eq!(list("?limit=2").await, ids[..2]);
    assert_eq!(list(&format!("?limit=2&after={}", ids[1])).await, ids[2..]);
    for id in [&ids[0], &ids[2]] {
        app.advance(Duration::from_secs(1));
        app.acted(id, "remove", json!({})).await;
    }
    app.acted(&ids[3], "hold", json!({"for": "2d"})).await;
    assert_eq!(list("?state=held").await, [ids[3].clone()]);
    assert_eq!(list("?state=waiting").await.len(), 0);
    app.advance(DAY * 2);
    assert_eq!(list("?state=waiting").await, [ids[3].clone()]);
    let removed = list("?state=removed").await;
    assert_eq!(removed.len(), 3);
    let next = list(&format!("?state=removed&after={}", removed[0])).await;
    assert_eq!(next, removed[1..]);
}

#[tokio::test]
async fn two_servers_stop_serving_a_removed_image() {
    let app = with_admin().on_disk().spawn().await;
    let image = app.upload_free(pictures::png(40, 40)).await;
    let _watch = remembering(&app.app).await;
    let url = image.field("url");
    assert_eq!(app.get(&url).await.status, 200);
    #[cfg(feature = "test-postgres")]
    let (replica, _watch_too) = {
        let replica = app.replica(1).await;
        let watch = remembering(&replica.app).await;
        (replica, watch)
    };
    #[cfg(feature = "test-postgres")]
    let there = url.replace(&app.base, &replica.base);
    #[cfg(feature = "test-postgres")]
    assert_eq!(app.get(&there).await.status, 200);
    app.acted(&image.field("id"), "remove", json!({})).await;
    dies_soon(&app, &url).await;
    #[cfg(feature = "test-postgres")]
    dies_soon(&app, &there).await;
}
