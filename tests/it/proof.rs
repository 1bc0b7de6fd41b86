//! The public proof: `/proof`, `/proof.json` and `pixtoll proof verify`. A library that shares no code
//! with pixtoll checks the signature.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::U256;
use futures_util::future::join_all;
use pixtoll::accounting::proof::{Issuer, Proofs};
use pixtoll::system::clock::Clock;
use serde_json::{Value, json};

use crate::receipts::{judged, key_of};
use crate::support::database::{count, execute};
use crate::support::proxy::Fault;
use crate::support::{Answer, TestApp, pictures, signing};

const DAY: Duration = Duration::from_hours(24);
/// For how long a proof is shown.
const MINUTE: Duration = Duration::from_mins(1);
/// A facilitator's refusal at verify.
const REFUSAL: &str = r#"{"isValid":false,"invalidReason":"insufficient_funds"}"#;
/// The names of the counts, in the order of the tests' arrays.
const NAMES: [&str; 6] = [
    "challenged",
    "presented",
    "settled",
    "refused",
    "expired",
    "deleted",
];

impl TestApp {
    async fn proof(&self) -> Value {
        let answer = self.get("/proof.json").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// The next proof, with what was counted in memory until now.
    async fn later_proof(&self) -> Value {
        self.app.funnel.record().await;
        self.advance(MINUTE);
        self.proof().await
    }

    async fn delete_with_token(&self, image: &Answer) {
        let path = format!("/api/images/{}", image.field("id"));
        let headers = [("X-Delete-Token", image.field("deleteToken"))];
        let deleted = self.send("DELETE", &path, &headers, "").await;
        assert_eq!(deleted.status, 200, "{}", deleted.text());
    }

    /// Runs `pixtoll proof verify` in the app's folder. Returns its exit code and its output.
    async fn verify_proof(&self, args: &[&str]) -> (i32, String) {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_pixtoll"))
            .env_clear()
            .current_dir(self.folder())
            .args(["proof", "verify"])
            .args(args)
            .output()
            .await
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), format!("{text}{log}"))
    }
}

fn counts(of: &Value) -> [i64; 6] {
    NAMES.map(|name| of[name].as_i64().unwrap())
}

fn day<'a>(proof: &'a Value, day: &str) -> &'a Value {
    let mut days = proof["days"].as_array().unwrap().iter();
    days.find(|it| it["day"] == day).unwrap()
}

#[tokio::test]
async fn the_proof_counts_what_happened_on_which_day() {
    let app = TestApp::spawn().await;
    let none = app.proof().await;
    assert_eq!(counts(&none["totals"]), [0; 6]);
    assert_eq!(none["since"], "2027-01-15");
    assert_eq!(none["playMoney"], true);
    let days = none["days"].as_array().unwrap();
    assert_eq!(days.len(), 30);
    assert_eq!(days[29]["day"], "2027-01-15");
    // Two settle, one is refused before the ledger has a row for it, and one by the facilitator.
    for _ in 0..2 {
        app.pay(&app.sign_for("year").await).await.token();
    }
    let mut forged = app.sign_for("year").await;
    forged.sign_by(&signing::wallet(2));
    assert_eq!(app.pay(&forged).await.status, 402);
    assert_eq!(app.state_of(&forged).await, None);
    let refused = app.sign_for("year").await;
    app.facilitator
        .next("verify", Fault::Instead(200, REFUSAL.to_owned()));
    assert_eq!(app.pay(&refused).await.status, 402);
    assert!(app.state_of(&refused).await.is_some());
    // The facilitator's refusal is final once the payment can't be used any more.
    app.advance(Duration::from_mins(10));
    app.reconcile().await;
    let [expires, deleted] = [5, 6].map(|side| pictures::png(side, side));
    app.upload_free(expires).await.field("id");
    let deleted = app.upload_free(deleted).await;
    app.delete_with_token(&deleted).await;
    let proof = app.later_proof().await;
    assert_eq!(counts(&proof["totals"]), [4, 4, 2, 2, 0, 1]);
    assert_eq!(counts(day(&proof, "2027-01-15")), [4, 4, 2, 2, 0, 1]);
    // The other image ends a week later. Its upload failed nothing, and its end is counted once.
    app.advance(DAY * 8);
    app.app.retention.reap().await.unwrap();
    let proof = app.later_proof().await;
    assert_eq!(counts(&proof["totals"]), [4, 4, 2, 2, 1, 1]);
    assert_eq!(counts(day(&proof, "2027-01-23")), [0, 0, 0, 0, 1, 0]);
    assert_eq!(proof["since"], "2027-01-15");
}

#[tokio::test]
async fn another_library_accepts_the_signature_and_a_changed_byte_is_noticed() {
    let app = TestApp::spawn().await;
    app.pay(&app.sign_for("year").await).await.token();
    let proof = app.later_proof().await;
    let keys = app.published_keys().await;
    let (header, claims) = judged(proof["jws"].as_str().unwrap(), key_of(&keys, "Ed25519"));
    assert_eq!(header["typ"], "pixtoll-proof");
    let mut shown = proof.clone();
    for unsigned in ["jws", "keysUrl"] {
        shown.as_object_mut().unwrap().remove(unsigned).unwrap();
    }
    assert_eq!(claims, shown);
    assert_eq!(claims["iss"], app.base);

    let save = |name: &str, text: String| std::fs::write(app.folder().join(name), text).unwrap();
    save("keys.json", keys.to_string());
    save("proof.json", proof.to_string());
    let (code, said) = app
        .verify_proof(&["proof.json", "--keys", "keys.json"])
        .await;
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("GOOD: "), "{said}");
    assert!(said.contains("1 settled"), "{said}");
    let (code, said) = app.verify_proof(&[&app.base]).await;
    assert!(code == 0 && said.starts_with("GOOD: "), "{said}");
    let (code, said) = app.verify_proof(&["proof.json"]).await;
    assert!(code == 1 && said.contains("NOT CHECKED"), "{said}");
    let mut changed = proof.clone();
    changed["totals"]["settled"] = json!(2);
    save("proof.json", changed.to_string());
    let (code, said) = app
        .verify_proof(&["proof.json", "--keys", "keys.json"])
        .await;
    assert!(code == 1 && said.contains("totals: "), "{said}");
    let jws = proof["jws"].as_str().unwrap();
    for at in [3, jws.find('.').unwrap() + 40, jws.len() - 20] {
        let mut bytes = jws.to_owned().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        save("jws", String::from_utf8(bytes).unwrap());
        let (code, said) = app.verify_proof(&["jws", "--keys", "keys.json"]).await;
        assert!(code == 1 && !said.contains("GOOD"), "{at}: {said}");
    }
    save("jws", "{}".to_owned());
    let (code, said) = app.verify_proof(&["jws", "--keys", "keys.json"]).await;
    assert!(code == 1 && said.contains("not a public proof"), "{said}");
}

#[tokio::test]
async fn a_proof_is_made_once_a_minute_and_is_the_same_on_every_replica() {
    let app = TestApp::spawn().await;
    let path = "/proof.json";
    let first = app.get(path).await;
    assert_eq!(
        first.header("cache-control").as_deref(),
        Some("public, max-age=60")
    );
    app.pay(&app.sign_for("year").await).await.token();
    app.app.funnel.record().await;
    app.advance(Duration::from_millis(59_999));
    for again in join_all((0..20).map(|_| app.get(path))).await {
        assert_eq!(again.text(), first.text());
    }
    app.advance(Duration::from_millis(1));
    let next = app.proof().await;
    assert_eq!(counts(&next["totals"]), [1, 1, 1, 0, 0, 0]);
    // Another replica with the same key signs the same at the same time.
    let clock: Arc<dyn Clock> = Arc::new(app.clock.clone());
    let issuer = Issuer {
        name: app.base.clone(),
        has_play_money: true,
        keys: Arc::clone(app.app.receipts.keys()),
    };
    let other = Proofs::new(app.db().clone(), clock, issuer);
    let theirs = other.current().await.unwrap();
    assert_eq!(theirs.jws, next["jws"].as_str().unwrap());
}

#[tokio::test]
async fn the_ledger_is_proven_by_its_rules_and_by_the_chain() {
    let app = TestApp::spawn().await;
    let payments = &app.app.checkout.as_ref().unwrap().payments;
    let ledger = app.proof().await["ledger"].clone();
    assert_eq!(ledger["rules"], Value::Null);
    assert_eq!(ledger["comparedAt"], Value::Null);
    assert_eq!(ledger["networks"][0]["lastBlock"], Value::Null);
    let page = app.get("/proof").await.text();
    assert!(
        page.contains("No comparison with the chain has run yet."),
        "{page}"
    );

    let payment = app.sign_for("year").await;
    let pay_to = payment.authorization.to;
    app.pay(&payment).await.token();
    app.advance(Duration::from_secs(2));
    let giver = signing::wallet(9).address();
    app.chain.send(giver, pay_to, U256::from(7)).await.unwrap();
    let ledger = app.later_proof().await["ledger"].clone();
    assert_eq!(ledger["unconfirmed"], 1);
    // The auditor confirms the payment, then the search reads the blocks.
    app.advance(Duration::from_mins(2));
    app.audit().await;
    assert_eq!(payments.look_for_orphans().await, 1);
    let (compared_at, head) = (app.clock.now().to_string(), app.chain_head().await);
    app.app.monitor().check_ledger().await;
    let ledger = app.later_proof().await["ledger"].clone();
    assert_eq!(ledger["comparedAt"], compared_at);
    assert_eq!(ledger["rules"]["brokenRows"], 0);
    assert!(ledger["rules"]["rules"].as_u64().unwrap() > 20, "{ledger}");
    let network = &ledger["networks"][0];
    assert_eq!(network["paid"], json!({"transfers": 1, "amount": "10000"}));
    assert_eq!(network["other"], json!({"transfers": 1, "amount": "7"}));
    assert_eq!(network["lastBlock"], head, "{network}");
    for doubt in ["unconfirmed", "missing", "unexplained"] {
        assert_eq!(ledger[doubt], 0, "{ledger}");
    }
    let page = app.get("/proof").await.text();
    assert!(page.contains("agrees with the chain"), "{page}");
    // Blocks that were read are not added again.
    app.advance(Duration::from_hours(1));
    app.pay(&app.sign_for("year").await).await.token();
    app.advance(Duration::from_mins(2));
    app.audit().await;
    payments.look_for_orphans().await;
    let network = app.later_proof().await["ledger"]["networks"][0].clone();
    assert_eq!(network["paid"], json!({"transfers": 2, "amount": "20000"}));
    assert_eq!(network["other"], json!({"transfers": 1, "amount": "7"}));
    // A broken rule is not hidden.
    execute(app.db(), "UPDATE grants SET used = 1").await;
    app.app.monitor().check_ledger().await;
    let ledger = app.later_proof().await["ledger"].clone();
    assert_eq!(ledger["rules"]["brokenRows"], 2, "{ledger}");
    let page = app.get("/proof").await.text();
    assert!(
        page.contains("something that the operator has to explain"),
        "{page}"
    );
    assert!(!page.contains("agrees with the chain"), "{page}");
    execute(app.db(), "UPDATE grants SET used = 0").await;
}

#[tokio::test]
async fn a_day_that_is_over_is_recorded_and_outlives_its_rows() {
    let app = TestApp::spawn().await;
    let totals = app.app.proofs.totals();
    app.pay(&app.sign_for("year").await).await.token();
    app.delete_with_token(&app.upload_free(pictures::png(5, 5)).await)
        .await;
    app.app.funnel.record().await;
    totals.record().await.unwrap();
    assert_eq!(
        count(app.db(), "daily_totals").await,
        0,
        "the day is not over"
    );
    app.advance(DAY);
    totals.record().await.unwrap();
    assert_eq!(count(app.db(), "daily_totals").await, 1);
    // Another day passes, in which nothing happens. Then the rows are erased.
    app.advance(DAY);
    totals.record().await.unwrap();
    assert_eq!(count(app.db(), "daily_totals").await, 2);
    for sql in [
        "DELETE FROM funnel",
        "DELETE FROM images",
        "UPDATE payments SET settled_ms = 0",
    ] {
        execute(app.db(), sql).await;
    }
    let proof = app.later_proof().await;
    assert_eq!(counts(&proof["totals"]), [1, 1, 1, 0, 0, 1]);
    assert_eq!(counts(day(&proof, "2027-01-15")), [1, 1, 1, 0, 0, 1]);
    assert_eq!(proof["since"], "2027-01-15");
    // What a wrong clock recorded of days to come is counted anew.
    execute(
        app.db(),
        "INSERT INTO daily_totals (day, challenged, presented, refused, settled, expired, deleted) \
         VALUES (30000, 9, 9, 9, 9, 9, 9)",
    )
    .await;
    let proof = app.later_proof().await;
    assert_eq!(counts(&proof["totals"]), [1, 1, 1, 0, 0, 1]);
    app.advance(DAY);
    totals.record().await.unwrap();
    assert_eq!(count(app.db(), "daily_totals").await, 3);
}

#[tokio::test]
async fn the_page_shows_the_signed_numbers_and_names_nobody() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    app.pay(&payment).await.token();
    let proof = app.later_proof().await;
    let html = app.get("/proof").await;
    assert_eq!(html.status, 200);
    let text = html.text();
    assert!(text.contains(proof["jws"].as_str().unwrap()), "{text}");
    for shown in [
        "<span data-of=\"/totals/settled\">1</span>",
        "data-of=\"/days/29/settled\">1</td>",
        "data-of=\"/days/0/settled\">0</td>",
        "play money",
        "/proof\" aria-current=\"page\"",
    ] {
        assert!(text.contains(shown), "{shown} is not in {text}");
    }
    assert!(text.contains(&format!("pixtoll proof verify {}", app.base)));
    assert!(!text.contains("style="), "{text}");
    let secrets = [payment.authorization.from, payment.authorization.to];
    for address in secrets.map(|address| address.to_checksum(None)) {
        assert!(!text.contains(&address), "{address}");
        assert!(!proof.to_string().contains(&address), "{address}");
    }
}

#[tokio::test]
async fn a_server_that_sells_nothing_proves_what_it_deletes() {
    let app = TestApp::builder().without_facilitator().spawn().await;
    app.delete_with_token(&app.upload_free(pictures::png(5, 5)).await)
        .await;
    app.app.monitor().check_ledger().await;
    let proof = app.later_proof().await;
    assert_eq!(counts(&proof["totals"]), [0, 0, 0, 0, 0, 1]);
    assert_eq!(proof["playMoney"], false);
    assert_eq!(proof["ledger"]["networks"], json!([]));
    let page = app.get("/proof").await.text();
    assert!(
        page.contains("The ledger keeps all of its rules."),
        "{page}"
    );
    assert!(!page.contains("agrees with the chain"), "{page}");
}
