//! The wallet is the account: a wallet that signs in (sign-in-with-x) lists and deletes the images
//! that it paid for, and sees their receipts. No other wallet does.

use std::time::Duration;

use alloy_primitives::{Address, hex};
use alloy_signer_local::PrivateKeySigner;
use pixtoll::x402::siwx::SignedMessage;
use serde_json::{Value, json};

use crate::recover::{UPLOAD, back_up, restore, sign};
use crate::support::database::{execute, number, texts};
use crate::support::proxy::{NodeFault, Wallets};
use crate::support::sign_in::{sign_by, with_high_s};
use crate::support::{Answer, TestApp, pictures, signing};

const IMAGES: &str = "/api/images";
const NO_HEADERS: [(&str, &str); 0] = [];

type Verdict = (u16, String, Option<bool>);

fn verdict(status: u16, code: &str) -> Verdict {
    (status, code.to_owned(), Some(false))
}

fn not_signed_in() -> Verdict {
    verdict(401, "sign_in_invalid")
}

fn foreign() -> Verdict {
    verdict(403, "not_owner")
}

fn about(id: &str) -> String {
    format!("{IMAGES}/{id}")
}

fn of_ids(ids: &[&str]) -> String {
    json!({"ids": ids}).to_string()
}

/// The ids of the images in a list.
fn ids(list: &Answer) -> Vec<String> {
    assert_eq!(list.status, 200, "{}", list.text());
    let images = list.json()["images"].as_array().unwrap().clone();
    let id = |image: &Value| image["id"].as_str().unwrap().to_owned();
    images.iter().map(id).collect()
}

impl TestApp {
    /// Buys an image with a direct upload, a second after the one before. Returns its answer.
    async fn bought_by(&self, wallet: &PrivateKeySigner, seed: u64) -> Answer {
        self.advance(Duration::from_secs(1));
        let payment = sign(self, UPLOAD, wallet).await;
        let picture = pictures::png_seeded(6, 6, seed);
        let bought = self.pay_with(&payment, &picture).await;
        assert_eq!(bought.status, 200, "{}", bought.text());
        bought
    }

    /// Buys images. Returns their ids, the newest first.
    async fn many_bought_by(&self, wallet: &PrivateKeySigner, count: u64) -> Vec<String> {
        let mut ids = Vec::new();
        for seed in 0..count {
            ids.insert(0, self.bought_by(wallet, seed).await.field("id"));
        }
        ids
    }

    async fn list(&self, query: &str, wallet: &PrivateKeySigner) -> Answer {
        let path = format!("{IMAGES}{query}");
        self.as_wallet("GET", &path, "", wallet).await
    }

    async fn delete_by(&self, id: &str, wallet: &PrivateKeySigner) -> Answer {
        self.as_wallet("DELETE", &about(id), "", wallet).await
    }

    async fn is_served(&self, id: &str) -> bool {
        self.get(&about(id)).await.status == 200
    }
}

#[tokio::test]
async fn a_wallet_lists_what_it_paid_for_newest_first() {
    let app = TestApp::spawn().await;
    let (wallet, other) = (signing::wallet(1), signing::wallet(2));
    app.upload_free(pictures::png(5, 5)).await;
    let direct = app.bought_by(&wallet, 1).await;
    let foreign = app.bought_by(&other, 2).await;
    // A token that the wallet bought may be used by anybody; the payer owns what it uploads.
    let token = app
        .pay(
            &sign(&app, "/api/upload/token/permanent?images=2", &wallet)
                .await
                .as_v1(),
        )
        .await
        .token();
    let mut expected = vec![direct.field("id")];
    for seed in [3, 4] {
        app.advance(Duration::from_secs(1));
        let uploaded = app
            .upload_with(&token, pictures::png_seeded(7, 8, seed))
            .await;
        expected.insert(0, uploaded.field("id"));
    }
    let list = app.list("", &wallet).await;
    assert_eq!(ids(&list), expected);
    assert_eq!(list.header("cache-control").unwrap(), "no-store");
    let body = list.json();
    assert_eq!(body["next"], Value::Null);
    // The same facts as everybody sees, and no secret.
    for image in body["images"].as_array().unwrap() {
        let public = app.get(&about(image["id"].as_str().unwrap())).await.json();
        assert_eq!(*image, public);
        assert!(image.get("deleteToken").is_none());
    }
    assert_eq!(body["images"][0]["tier"], "permanent");
    assert_eq!(ids(&app.list("", &other).await), [foreign.field("id")]);
    assert!(ids(&app.list("", &signing::wallet(9)).await).is_empty());

    // What is deleted or expired is not listed.
    assert_eq!(app.delete_by(&expected[0], &wallet).await.status, 200);
    assert_eq!(ids(&app.list("", &wallet).await), expected[1..]);
    app.advance(Duration::from_hours(365 * 24));
    assert_eq!(ids(&app.list("", &wallet).await), expected[1..2]);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn pages_hold_each_image_once_while_images_come_and_go() {
    let app = TestApp::spawn().await;
    let wallet = signing::wallet(1);
    let all = app.many_bought_by(&wallet, 7).await;
    // Images of the same millisecond are in the order of their ids.
    execute(app.db(), "UPDATE images SET created_ms = 1800000000000").await;
    let mut all = all;
    all.sort_unstable_by(|one, other| other.cmp(one));
    assert_eq!(ids(&app.list("", &wallet).await), all);

    let first = app.list("?limit=3", &wallet).await;
    assert_eq!(ids(&first), all[..3]);
    // The image at the border and one before it go, one on the next page too, and a new one comes.
    for id in [&all[0], &all[2], &all[4]] {
        assert_eq!(app.delete_by(id, &wallet).await.status, 200);
    }
    let new = app.bought_by(&wallet, 99).await.field("id");
    let next = first.field("next");
    let second = app.get(&format!("{IMAGES}?limit=2&after={next}")).await;
    assert_eq!(ids(&second), [all[3].clone(), all[5].clone()]);
    let next = second.field("next");
    let third = app.get(&format!("{IMAGES}?after={next}&limit=2")).await;
    assert_eq!(ids(&third), all[6..]);
    assert_eq!(third.json()["next"], Value::Null);
    // A page that ends with the last image is the last one.
    let exact = app.list("?limit=5", &wallet).await;
    let left = [&new, &all[1], &all[3], &all[5], &all[6]];
    assert_eq!(ids(&exact).iter().collect::<Vec<_>>(), left);
    assert_eq!(exact.json()["next"], Value::Null);
}

#[tokio::test]
async fn a_cursor_needs_no_sign_in_for_ten_minutes_and_goes_on_with_one() {
    let app = TestApp::spawn().await;
    let (wallet, other) = (signing::wallet(1), signing::wallet(2));
    let all = app.many_bought_by(&wallet, 4).await;
    app.bought_by(&other, 9).await;
    let list = app.list("?limit=1", &wallet).await;
    let page = |next: &str| format!("{IMAGES}?limit=1&after={next}");
    let first = page(&list.field("next"));
    let nonces = app.rows("used_nonces").await;
    app.advance(Duration::from_secs(599));
    let second = app.get(&first).await;
    assert_eq!(ids(&second), all[1..2]);
    // A page does not make the time longer.
    let next = page(&second.field("next"));
    app.advance(Duration::from_secs(1));
    for ended in [&first, &next] {
        let answer = app.get(ended).await;
        assert_eq!(answer.verdict(), verdict(402, "sign_in_required"));
    }
    assert_eq!(app.rows("used_nonces").await, nonces);
    let third = app.as_wallet("GET", &next, "", &wallet).await;
    assert_eq!(ids(&third), all[2..3]);
    let fourth = app.get(&page(&third.field("next"))).await;
    assert_eq!(ids(&fourth), all[3..]);

    // Another wallet can't go on with it, and nobody can change it.
    let stolen = app.as_wallet("GET", &next, "", &other).await;
    assert_eq!(stolen.verdict(), verdict(400, "invalid_parameter"));
    let cursor = third.field("next");
    let changed = format!("{}0", &cursor[..cursor.len() - 1]);
    let changed = if changed == cursor {
        format!("{}1", &cursor[..cursor.len() - 1])
    } else {
        changed
    };
    for bad in [changed.as_str(), "", "x", &cursor[1..], &"a".repeat(2000)] {
        let answer = app.get(&page(bad)).await;
        assert_eq!(answer.verdict(), verdict(400, "invalid_parameter"), "{bad}");
    }
    let twice = app
        .get(&format!("{IMAGES}?after={cursor}&after={cursor}"))
        .await;
    assert_eq!(twice.verdict(), verdict(400, "invalid_parameter"));
    for (limit, status) in [
        ("1", 402),
        ("100", 402),
        ("0", 400),
        ("101", 400),
        ("x", 400),
        ("-1", 400),
    ] {
        let answer = app.get(&format!("{IMAGES}?limit={limit}")).await;
        assert_eq!(answer.status, status, "{limit}");
    }
    assert_eq!(
        app.get(&format!("{IMAGES}?page=2")).await.error(),
        "unknown_parameter"
    );
}

#[tokio::test]
async fn a_wallet_deletes_its_own_image_and_no_other() {
    let app = TestApp::on_disk().await;
    let (wallet, other) = (signing::wallet(1), signing::wallet(2));
    let (mine, theirs) = (
        app.bought_by(&wallet, 1).await,
        app.bought_by(&other, 2).await,
    );
    let free = app.upload_free(pictures::png(5, 5)).await;
    let id = mine.field("id");
    for image in [&theirs.field("id"), &free.field("id"), "neverExisted"] {
        let refused = app.delete_by(image, &wallet).await;
        assert_eq!(refused.verdict(), foreign(), "{image}");
    }
    assert!(app.is_served(&theirs.field("id")).await && app.is_served(&free.field("id")).await);

    let challenge = app.send("DELETE", &about(&id), &NO_HEADERS, "").await;
    let action = &challenge.json()["action"];
    assert_eq!(
        (&action["type"], &action["url"]),
        (&json!("claim"), &json!(app.url(&about(&id))))
    );
    assert!(
        action["curl"]
            .as_str()
            .unwrap()
            .starts_with("curl -X DELETE ")
    );
    let deleted = app.delete_by(&id, &wallet).await;
    assert_eq!(
        (deleted.status, deleted.json()),
        (200, json!({"deleted": [id]}))
    );
    assert!(!app.is_served(&id).await);
    assert!(!app.folder().join(format!("images/{id}")).exists());
    // The same again is the same, as with a token.
    assert_eq!(
        app.delete_by(&id, &wallet).await.json(),
        json!({"deleted": [id]})
    );
    let path = about("not-an-id");
    let no_id = app.send("DELETE", &path, &NO_HEADERS, "").await;
    assert_eq!(no_id.verdict(), verdict(404, "not_found"));
}

/// A change to a signed message, and whether it is signed again.
type Change = (&'static str, bool, fn(&mut SignedMessage));

const CHANGES: &[Change] = &[
    ("invalid_siwx_domain_mismatch", true, |message| {
        "img.example.com".clone_into(&mut message.domain);
    }),
    ("invalid_siwx_uri_mismatch", true, |message| {
        message.uri.push('x');
    }),
    ("invalid_siwx_message", true, |message| {
        message.statement =
            Some("List the images of this wallet. Signing in costs nothing.".to_owned());
    }),
    ("invalid_siwx_nonce", true, |message| {
        message.nonce = "0".repeat(76);
    }),
    ("invalid_siwx_malformed_signature", false, |message| {
        *message = with_high_s(message);
    }),
    ("invalid_siwx_signature", false, |message| {
        message.address = signing::wallet(2).address().to_checksum(None);
    }),
    ("invalid_siwx_signature", false, |message| {
        message.resources = None;
    }),
];

#[tokio::test]
async fn a_message_that_is_not_for_this_delete_deletes_nothing() {
    let app = TestApp::spawn().await;
    let wallet = signing::wallet(1);
    let [one, two] = [
        app.bought_by(&wallet, 1).await,
        app.bought_by(&wallet, 2).await,
    ]
    .map(|it| it.field("id"));
    let right = app.message_for("DELETE", &about(&one), "", &wallet).await;
    for (number, (reason, again, change)) in CHANGES.iter().enumerate() {
        let mut message = right.clone();
        change(&mut message);
        if *again {
            sign_by(&mut message, &wallet);
        }
        let answer = app.signed("DELETE", &about(&one), "", &message).await;
        assert_eq!(
            answer.verdict(),
            not_signed_in(),
            "{number}: {}",
            answer.text()
        );
        assert!(
            answer.text().contains(reason),
            "{number}: {}",
            answer.text()
        );
    }
    // For another image, for the list, for the receipts, for claims; and for no path that begins alike.
    let elsewhere = [
        ("DELETE", about(&two), String::new()),
        ("DELETE", IMAGES.to_owned(), of_ids(&[&one])),
        ("GET", IMAGES.to_owned(), String::new()),
        ("GET", format!("/api/receipts/{one}"), String::new()),
        ("POST", "/api/claims".to_owned(), String::new()),
    ];
    for (method, path, body) in &elsewhere {
        let answer = app.signed(method, path, body, &right).await;
        assert_eq!(answer.verdict(), not_signed_in(), "{method} {path}");
        let message = app.message_for(method, path, body, &wallet).await;
        let answer = app.signed("DELETE", &about(&one), "", &message).await;
        assert_eq!(
            answer.verdict(),
            not_signed_in(),
            "a message of {method} {path}"
        );
    }
    // A message to list, at the route of the same URL that deletes.
    let list = app.message_for("GET", IMAGES, "", &wallet).await;
    let answer = app.signed("DELETE", IMAGES, &of_ids(&[&one]), &list).await;
    assert_eq!(answer.verdict(), not_signed_in());
    assert!(
        answer.text().contains("invalid_siwx_message"),
        "{}",
        answer.text()
    );
    assert!(app.is_served(&one).await && app.is_served(&two).await);

    // An old one, and one that was used before.
    let old = app.message_for("DELETE", &about(&two), "", &wallet).await;
    let deleted = app.signed("DELETE", &about(&one), "", &right).await;
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    let again = app.signed("DELETE", &about(&one), "", &right).await;
    assert_eq!(again.verdict(), not_signed_in());
    app.advance(Duration::from_mins(5));
    let late = app.signed("DELETE", &about(&two), "", &old).await;
    assert_eq!(late.verdict(), not_signed_in());
    assert!(app.is_served(&two).await);
}

#[tokio::test]
async fn a_batch_with_an_image_of_another_wallet_deletes_nothing() {
    let app = TestApp::spawn().await;
    let (wallet, other) = (signing::wallet(1), signing::wallet(2));
    let mine = app.many_bought_by(&wallet, 3).await;
    let theirs = app.bought_by(&other, 9).await;
    let free = app.upload_free(pictures::png(5, 5)).await;
    let (stranger, anonymous) = (theirs.field("id"), free.field("id"));
    let delete = async |body: &str, wallet| app.as_wallet("DELETE", IMAGES, body, wallet).await;
    for image in [&stranger, &anonymous, "neverExisted"] {
        let refused = delete(&of_ids(&[&mine[0], image]), &wallet).await;
        assert_eq!(refused.verdict(), foreign(), "{image}");
        assert!(refused.text().contains(image) && !refused.text().contains(&mine[0]));
    }
    // Tokens where the client has them, and the sign-in for the rest.
    let mixed = |token: &str| {
        json!({"images": [{"id": anonymous, "deleteToken": token}, {"id": mine[0]}], "ids": [mine[1]]}).to_string()
    };
    let token = free.field("deleteToken");
    let json = [("content-type", "application/json")];
    let wrong = app.send("DELETE", IMAGES, &json, mixed(&token)).await;
    assert_eq!(
        wrong.verdict(),
        verdict(401, "bad_delete_token"),
        "some tokens are missing"
    );
    let message = app
        .message_for("DELETE", IMAGES, &of_ids(&[&mine[0]]), &wallet)
        .await;
    let wrong = app
        .signed("DELETE", IMAGES, &mixed(&"0".repeat(40)), &message)
        .await;
    assert_eq!(wrong.verdict(), verdict(401, "bad_delete_token"));
    assert_eq!(
        number(app.db(), "SELECT COUNT(*) FROM images WHERE state = 'live'").await,
        5
    );
    // The wrong token was noticed before the message was used up.
    let deleted = app.signed("DELETE", IMAGES, &mixed(&token), &message).await;
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    assert_eq!(
        deleted.json(),
        json!({"deleted": [anonymous, mine[0], mine[1]]})
    );
    assert_eq!(ids(&app.list("", &wallet).await), mine[2..]);
    assert!(app.is_served(&stranger).await);
    // The body alone decides what is deleted, within the limits of a list.
    let none = app.send("DELETE", IMAGES, &json, "{}").await;
    assert_eq!(none.verdict(), verdict(400, "invalid_body"));
}

#[tokio::test]
async fn a_held_or_renewing_image_is_not_deleted_by_its_wallet() {
    let app = TestApp::spawn().await;
    let wallet = signing::wallet(1);
    let id = app.bought_by(&wallet, 1).await.field("id");
    for (column, code) in [
        ("held_ms", "image_held"),
        ("renewing", "renewal_in_progress"),
    ] {
        let reset = if column == "renewing" { "0" } else { "NULL" };
        execute(app.db(), &format!("UPDATE images SET {column} = 1")).await;
        assert_eq!(
            app.delete_by(&id, &wallet).await.verdict(),
            verdict(409, code)
        );
        let batch = app
            .as_wallet("DELETE", IMAGES, &of_ids(&[&id]), &wallet)
            .await;
        assert_eq!(batch.verdict(), verdict(409, code));
        execute(app.db(), &format!("UPDATE images SET {column} = {reset}")).await;
    }
    assert!(app.is_served(&id).await);
    assert_eq!(app.delete_by(&id, &wallet).await.status, 200);
}

#[tokio::test]
async fn receipts_are_shown_to_the_wallets_that_paid() {
    let app = TestApp::spawn().await;
    let (owner, renewer, stranger) = (signing::wallet(1), signing::wallet(2), signing::wallet(3));
    let bought = app.bought_by(&owner, 1).await;
    let id = bought.field("id");
    let renew = sign(&app, &format!("{}/renew", about(&id)), &renewer).await;
    assert_eq!(app.pay(&renew).await.status, 200);
    let path = format!("/api/receipts/{id}");
    let token = [("X-Delete-Token", bought.field("deleteToken"))];
    let all = app.send("GET", &path, &token, "").await;
    assert_eq!(all.json()["receipts"].as_array().unwrap().len(), 2);
    let see = async |wallet| app.as_wallet("GET", &path, "", wallet).await;
    assert_eq!(see(&owner).await.json(), all.json());
    let own = see(&renewer).await.json();
    let own = own["receipts"].as_array().unwrap();
    assert_eq!(own.len(), 1);
    assert_eq!(own[0], all.json()["receipts"][1]);
    assert_eq!(own[0]["payer"], renewer.address().to_checksum(None));
    assert_eq!(see(&stranger).await.verdict(), foreign());
    let never = app
        .as_wallet("GET", "/api/receipts/neverExisted", "", &stranger)
        .await;
    assert_eq!(never.verdict(), foreign());
    // A renewal makes nobody the owner.
    assert_eq!(app.delete_by(&id, &renewer).await.verdict(), foreign());
    let challenge = app.get(&path).await;
    assert!(
        challenge.text().contains("X-Delete-Token"),
        "{}",
        challenge.text()
    );
}

#[tokio::test]
async fn a_contract_wallet_owns_on_its_own_network_alone() {
    let app = TestApp::spawn().await;
    let (payer, other) = (Address::repeat_byte(0xc0).to_string(), signing::wallet(2));
    let ids_of = app.many_bought_by(&signing::wallet(1), 3).await;
    app.bought_by(&other, 9).await;
    let change = |id: &str, network: &str| {
        format!(
            "UPDATE images SET owner = '{payer}', owner_network = '{network}' WHERE id = '{id}'"
        )
    };
    for (id, network) in [
        (&ids_of[0], "eip155:84532"),
        (&ids_of[1], "eip155:8453"),
        (&ids_of[2], "eip155:84532"),
    ] {
        execute(app.db(), &change(id, network)).await;
    }
    app.node.node(NodeFault {
        wallets: Wallets::AcceptAll,
        ..NodeFault::default()
    });
    let send = async |method: &str, path: &str, body: &str| {
        let mut message = app
            .message_for(method, path, body, &signing::wallet(1))
            .await;
        message.address.clone_from(&payer);
        message.signature = hex::encode_prefixed([7; 100]);
        app.signed(method, path, body, &message).await
    };
    let first = send("GET", "/api/images?limit=1", "").await;
    assert_eq!(ids(&first), ids_of[..1]);
    // The cursor keeps the network.
    let second = app
        .get(&format!("{IMAGES}?after={}", first.field("next")))
        .await;
    assert_eq!(ids(&second), ids_of[2..]);
    assert_eq!(
        send("DELETE", &about(&ids_of[1]), "").await.verdict(),
        foreign()
    );
    let receipts = format!("/api/receipts/{}", ids_of[1]);
    assert_eq!(send("GET", &receipts, "").await.verdict(), foreign());
    assert_eq!(send("DELETE", &about(&ids_of[0]), "").await.status, 200);
    // What the contract rejects signs nobody in.
    app.node.node(NodeFault {
        wallets: Wallets::Asked,
        ..NodeFault::default()
    });
    assert_eq!(
        send("DELETE", &about(&ids_of[2]), "").await.verdict(),
        not_signed_in()
    );
    assert!(app.is_served(&ids_of[2]).await);
    // As the ledger has it, which is checked at the end.
    let payers = "UPDATE images SET owner = (SELECT payer FROM payments WHERE payments.id = payment_id), \
        owner_network = (SELECT network FROM payments WHERE payments.id = payment_id)";
    execute(app.db(), payers).await;
}

#[tokio::test]
async fn a_plain_wallet_signs_in_where_nothing_is_sold() {
    let app = TestApp::builder().without_facilitator().spawn().await;
    let wallet = signing::wallet(1);
    let free = app.upload_free(pictures::png(5, 5)).await;
    assert!(ids(&app.list("", &wallet).await).is_empty());
    assert_eq!(
        app.delete_by(&free.field("id"), &wallet).await.verdict(),
        foreign()
    );
    // An image of this wallet without a payment, as API keys make them.
    let own = format!(
        "UPDATE images SET owner = '{}'",
        wallet.address().to_checksum(None)
    );
    execute(app.db(), &own).await;
    assert_eq!(ids(&app.list("", &wallet).await), [free.field("id")]);
    // No node can be asked about a contract wallet.
    let mut message = app.message_for("GET", IMAGES, "", &wallet).await;
    message.signature = hex::encode_prefixed([7; 100]);
    let answer = app.signed("GET", IMAGES, "", &message).await;
    assert_eq!(answer.verdict(), not_signed_in());
    assert_eq!(app.post("/api/claims").await.error(), "payments_disabled");
    let receipts = format!("/api/receipts/{}", free.field("id"));
    let none = app.as_wallet("GET", &receipts, "", &wallet).await;
    assert_eq!(none.verdict(), verdict(404, "no_receipt"));
    assert_eq!(app.delete_by(&free.field("id"), &wallet).await.status, 200);
}

#[tokio::test]
async fn nobody_signs_in_to_a_database_that_lost_commits() {
    let app = TestApp::spawn().await;
    let wallet = signing::wallet(1);
    back_up(&app).await;
    let bought = app.bought_by(&wallet, 1).await;
    let list = app.list("?limit=1", &wallet).await;
    assert_eq!(list.status, 200);
    restore(&app).await;
    let closed = verdict(503, "recovery_required");
    assert_eq!(app.get(IMAGES).await.verdict(), closed);
    let gone = app
        .send("DELETE", &about(&bought.field("id")), &NO_HEADERS, "")
        .await;
    assert_eq!(gone.verdict(), closed);
}

#[tokio::test]
async fn requests_to_sign_in_are_limited() {
    let app = TestApp::builder()
        .set("limits.payments_per_address_per_minute", "5")
        .spawn()
        .await;
    for _ in 0..5 {
        assert_eq!(app.get(IMAGES).await.status, 402);
    }
    let path = about("neverExisted");
    for (method, path) in [("GET", IMAGES), ("DELETE", path.as_str())] {
        let answer = app.send(method, path, &NO_HEADERS, "").await;
        assert_eq!(answer.error(), "rate_limited", "{method} {path}");
    }
}

#[tokio::test]
async fn an_upgrade_gives_earlier_images_to_their_payers() {
    let app = TestApp::spawn().await;
    let wallet = signing::wallet(1);
    let paid = app.bought_by(&wallet, 1).await;
    app.upload_free(pictures::png(5, 5)).await;
    // The schema of the release before.
    let mut before = vec![
        "DROP INDEX images_owner",
        "DROP INDEX images_same",
        "ALTER TABLE images DROP COLUMN owner",
        "ALTER TABLE images DROP COLUMN owner_network",
        "DELETE FROM _sqlx_migrations WHERE version = 2",
    ];
    if matches!(app.db(), pixtoll::db::Db::Postgres(_)) {
        before.insert(0, "DROP FUNCTION note_owner");
        before.insert(0, "DROP TRIGGER images_owned ON images");
    }
    for sql in before {
        execute(app.db(), sql).await;
    }
    app.db().migrate().await.unwrap();
    assert_eq!(ids(&app.list("", &wallet).await), [paid.field("id")]);
    let owners = "SELECT owner || ' ' || owner_network FROM images WHERE owner IS NOT NULL";
    let expected = format!("{} eip155:84532", wallet.address().to_checksum(None));
    assert_eq!(
        texts(app.db(), owners).await,
        std::slice::from_ref(&expected)
    );
    if matches!(app.db(), pixtoll::db::Db::Postgres(_)) {
        // A server of that release, beside the new one.
        let insert = "INSERT INTO images (id, state, format, size_bytes, width, height, sha256, upload_sha256, tier, \
            payment_id, created_ms) SELECT 'aaaaaaaaaaaa', 'pending', format, size_bytes, width, height, sha256, \
            upload_sha256, tier, payment_id, created_ms FROM images WHERE owner IS NOT NULL";
        execute(app.db(), insert).await;
        assert_eq!(texts(app.db(), owners).await, [expected.clone(), expected]);
        execute(app.db(), "DELETE FROM images WHERE id = 'aaaaaaaaaaaa'").await;
    }
}

#[cfg(feature = "test-postgres")]
#[tokio::test]
async fn replicas_share_lists_cursors_and_nonces() {
    let app = TestApp::spawn().await;
    let replicas = [app.replica(1).await, app.replica(2).await];
    let wallet = signing::wallet(1);
    let all = app.many_bought_by(&wallet, 3).await;
    let message = app.message_for("GET", IMAGES, "", &wallet).await;
    let bases = [&app.base, &replicas[0].base, &replicas[1].base];
    let path = |base: &str| format!("{base}{IMAGES}?limit=2");
    let answers = bases.map(async |base| app.signed("GET", &path(base), "", &message).await);
    let answers = futures_util::future::join_all(answers).await;
    let listed: Vec<&Answer> = answers.iter().filter(|it| it.status == 200).collect();
    assert_eq!(listed.len(), 1, "a message signs in once between them");
    assert_eq!(ids(listed[0]), all[..2]);
    let next = format!(
        "{}&after={}",
        path(&replicas[1].base),
        listed[0].field("next")
    );
    assert_eq!(ids(&app.get(&next).await), all[2..]);
    let deletes =
        [&about(&all[0]), &about(&all[1])].map(|path| format!("{}{path}", replicas[0].base));
    for (id, url) in all.iter().zip(deletes) {
        let message = app.message_for("DELETE", &about(id), "", &wallet).await;
        let answer = app.signed("DELETE", &url, "", &message).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(ids(&app.list("", &wallet).await), all[2..]);
}
