//! Renewals: `POST /api/images/{id}/renew`. Anyone may pay. A payer gets exactly the time of one
//! tier, or isn't charged.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::U256;
use pixtoll::system::clock::{Clock, Timestamp};
use serde_json::json;
use tokio::sync::Notify;

use crate::support::database::{execute, texts};
use crate::support::expect::{failed, known, pending};
use crate::support::proxy::Fault;
use crate::support::sign_in::only_token;
use crate::support::{Answer, Payment, START, TestApp, pictures, signing};

const DAY: Duration = Duration::from_hours(24);
const YEAR: Duration = Duration::from_hours(365 * 24);

fn renewal(id: &str) -> String {
    format!("/api/images/{id}/renew")
}

fn renewal_by(id: &str, tier: &str) -> String {
    format!("/api/images/{id}/renew?tier={tier}")
}

fn after(start: Duration) -> String {
    Timestamp::from_seconds(START).plus(start).to_string()
}

/// Asserts that a route rejects a request without asking for a payment. Returns the message.
fn refused(answer: &Answer, status: u16, code: &str) -> String {
    assert_eq!(
        answer.verdict(),
        (status, code.to_owned(), Some(false)),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("payment-required"), None);
    answer.field("message")
}

impl TestApp {
    /// A bought image of the tier `year`.
    async fn bought(&self) -> Answer {
        let payment = self.sign_at("/api/upload/year").await;
        let image = self.pay_with(&payment, &pictures::png(8, 8)).await;
        assert_eq!(image.status, 200, "{}", image.text());
        image
    }

    async fn metadata(&self, id: &str) -> serde_json::Value {
        let answer = self.get(&format!("/api/images/{id}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    async fn remove(&self, image: &Answer) -> Answer {
        let path = format!("/api/images/{}", image.field("id"));
        let token = image.field("deleteToken");
        self.send("DELETE", &path, &[("X-Delete-Token", token)], "")
            .await
    }

    async fn records_are_right(&self) {
        let report = self.check_ledger().await;
        assert!(report.is_balanced(), "{:?}", report.broken);
    }

    async fn moved(&self) -> Vec<u64> {
        let transfers = self.transfers().await;
        transfers.iter().map(|it| it.value.to::<u64>()).collect()
    }
}

#[tokio::test]
async fn a_renewal_extends_the_expiry_by_the_time_of_the_tier() {
    let app = TestApp::spawn().await;
    let image = app.bought().await;
    let id = image.field("id");
    app.advance(DAY);
    let challenge = app.post(&renewal(&id)).await;
    assert_eq!(challenge.status, 402, "{}", challenge.text());
    let offer = challenge.document("payment-required");
    assert_eq!(offer["accepts"][0]["amount"], "10000");
    assert_eq!(offer["resource"]["url"], app.url(&renewal(&id)));
    assert_eq!(
        offer["resource"]["description"],
        "Renewal: 365 days more (play money)"
    );
    assert!(
        challenge
            .field("message")
            .contains("0.01 USDC: 365 days more"),
        "{}",
        challenge.text()
    );
    for (round, as_v1) in [(2, false), (3, true)] {
        let payment = app.sign_at(&renewal(&id)).await;
        let payment = if as_v1 { payment.as_v1() } else { payment };
        let renewed = app.pay(&payment).await;
        assert_eq!(renewed.status, 200, "{}", renewed.text());
        let answer = renewed.json();
        assert_eq!(answer["expiresAt"], after(YEAR * round));
        assert_eq!(answer["previousExpiresAt"], after(YEAR * (round - 1)));
        for name in ["id", "url", "sha256", "tier", "contentType", "sizeBytes"] {
            assert_eq!(answer[name], image.json()[name], "{name}");
        }
        // The payer doesn't become the owner.
        assert!(answer.get("deleteToken").is_none());
        let receipt = if as_v1 {
            "x-payment-response"
        } else {
            "payment-response"
        };
        assert_eq!(renewed.document(receipt)["success"], true);
        assert_eq!(app.metadata(&id).await["expiresAt"], answer["expiresAt"]);
        // Repeated, also after everything that follows, the response is the same.
        let again = app.pay(&payment).await;
        assert_eq!(again.json(), answer);
    }
    let served = app.get(&image.field("url")).await;
    assert_eq!(served.status, 200);
    assert_eq!(app.moved().await, [10_000, 10_000, 10_000]);
    app.advance(DAY * (3 * 365 - 1));
    assert_eq!(app.get(&image.field("url")).await.status, 404);
    app.records_are_right().await;
}

#[tokio::test]
async fn a_renewal_lost_with_its_image_is_never_called_uncharged() {
    let app = TestApp::spawn().await;
    let image = app.upload_free(pictures::png(8, 8)).await;
    let id = image.field("id");
    let [paid, unpaid] = [(); 2].map(async |()| app.sign_at(&renewal_by(&id, "year")).await);
    let (paid, unpaid) = (paid.await, unpaid.await);
    assert_eq!(app.pay(&paid).await.status, 200);
    let tables = [
        "payment_proofs",
        "payment_ids",
        "grants",
        "renewals",
        "payments",
    ];
    for table in tables {
        execute(app.db(), &format!("DELETE FROM {table}")).await;
    }
    // The image exists, but its tier isn't sold any more.
    let gold = renewal_by(&id, "gold");
    assert_eq!(app.pay_at(&gold, &paid).await.verdict(), known(None));
    let no_such_tier = (404, "unknown_tier".to_owned(), None);
    assert_eq!(app.pay_at(&gold, &unpaid).await.verdict(), no_such_tier);
    execute(app.db(), "DELETE FROM images").await;
    assert_eq!(app.pay(&paid).await.verdict(), known(None));
    let nothing = (404, "not_found".to_owned(), Some(false));
    assert_eq!(app.pay(&unpaid).await.verdict(), nothing);
    assert_eq!(app.moved().await, [10_000]);
}

#[tokio::test]
async fn a_renewal_rewrites_the_sidecar() {
    let app = TestApp::builder().on_disk().spawn().await;
    let image = app.upload_free(pictures::png(8, 8)).await;
    let id = image.field("id");
    let payment = app.sign_at(&renewal_by(&id, "permanent")).await;
    let renewed = app.pay(&payment).await;
    let renewed = if renewed.status == 503 {
        // An expensive tier waits for the chain.
        app.pay(&payment).await
    } else {
        renewed
    };
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    assert_eq!(renewed.json()["expiresAt"], json!(null));
    let file = app.folder().join("images/images");
    let file = file
        .join(&id[..1])
        .join(&id[1..2])
        .join(format!("{id}.json"));
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(record["tier"], "permanent");
    assert_eq!(record["keepMs"], json!(null));
    let metadata = app.metadata(&id).await;
    assert_eq!(metadata["tier"], "permanent");
    app.advance(YEAR * 30);
    assert_eq!(app.get(&image.field("url")).await.status, 200);
    app.records_are_right().await;
}

#[tokio::test]
async fn a_sidecar_that_could_not_be_written_is_written_by_the_reaper() {
    let app = TestApp::builder().on_disk().spawn().await;
    let image = app.upload_free(pictures::png(8, 8)).await;
    let id = image.field("id");
    let file = app.folder().join("images/images");
    let file = file
        .join(&id[..1])
        .join(&id[1..2])
        .join(format!("{id}.json"));
    // A file can't be written in place of a folder.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let payment = app.sign_at(&renewal_by(&id, "year")).await;
    let renewed = app.pay(&payment).await;
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    app.app.retention.reap().await.unwrap();
    assert!(file.is_dir());
    std::fs::remove_dir(&file).unwrap();
    app.app.retention.reap().await.unwrap();
    let record = std::fs::read(&file).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["tier"], "year");
    // It is written once only.
    std::fs::remove_file(&file).unwrap();
    app.app.retention.reap().await.unwrap();
    assert!(!file.exists());
}

#[tokio::test]
async fn a_sidecar_that_can_not_be_written_does_not_delay_others() {
    let app = TestApp::builder().on_disk().spawn().await;
    let mut files = Vec::new();
    for number in 0..3 {
        let image = app.upload_free(pictures::png_seeded(8, 8, number)).await;
        let id = image.field("id");
        let file = app.folder().join("images/images");
        let file = file.join(&id[..1]).join(&id[1..2]);
        let file = file.join(format!("{id}.json"));
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        let payment = app.sign_at(&renewal_by(&id, "year")).await;
        assert_eq!(app.pay(&payment).await.status, 200);
        files.push((id, file));
    }
    files.sort();
    let [first, _, last] = [0, 1, 2].map(|number: usize| files[number].1.clone());
    std::fs::remove_dir(&last).unwrap();
    app.app.retention.reap().await.unwrap();
    assert!(last.is_file());
    std::fs::remove_dir(&first).unwrap();
    app.app.retention.reap().await.unwrap();
    assert!(first.is_file());
}

#[tokio::test]
async fn a_free_image_is_renewed_to_a_paid_tier_and_gets_that_tier() {
    let app = TestApp::spawn().await;
    let image = app.upload_free(pictures::png(8, 8)).await;
    let id = image.field("id");
    for path in [
        renewal(&id),
        renewal_by(&id, "free"),
        renewal_by(&id, "gold"),
    ] {
        let message = refused(&app.post(&path).await, 404, "unknown_tier");
        assert!(message.contains("year, permanent"), "{message}");
    }
    for query in ["?tier=year&tier=year", "?tier=", "?tier=A%20B"] {
        let path = format!("{}{query}", renewal(&id));
        refused(&app.post(&path).await, 400, "invalid_parameter");
    }
    let payment = app.sign_at(&renewal_by(&id, "year")).await;
    let renewed = app.pay(&payment).await;
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    let week = DAY * 7;
    assert_eq!(renewed.field("expiresAt"), after(week + YEAR));
    assert_eq!(renewed.field("tier"), "year");
    let metadata = app.metadata(&id).await;
    assert_eq!(
        (&metadata["tier"], &metadata["expiresAt"]),
        (&json!("year"), &json!(after(week + YEAR)))
    );
    // From now on, the image has the rules of that tier.
    let payment = app.sign_at(&renewal(&id)).await;
    assert_eq!(
        app.pay(&payment).await.field("expiresAt"),
        after(week + YEAR * 2)
    );
    // Its uploader still owns it.
    assert_eq!(app.remove(&image).await.status, 200);
    // The bought image is gone: the response says so, and doesn't just ask to pay again.
    assert_eq!(
        app.pay(&payment).await.verdict(),
        (404, "image_gone".to_owned(), Some(true))
    );
    assert_eq!(app.moved().await, [10_000, 10_000]);
    app.records_are_right().await;
}

#[tokio::test]
async fn images_that_can_not_be_renewed_are_rejected_before_a_challenge() {
    let app = TestApp::builder().spawn().await;
    let spare = app.bought().await.field("id");
    let signed = app.sign_at(&renewal(&spare)).await;
    let no_image = async |path: &str| {
        for answer in [
            app.post(path).await,
            app.get(path).await,
            app.pay_at(path, &signed).await,
        ] {
            refused(&answer, 404, "not_found");
        }
    };
    no_image(&renewal("neverexisted")).await;
    refused(
        &app.post(&renewal("not-an-id")).await,
        400,
        "invalid_parameter",
    );
    let unasked = app.pay_at(&renewal("not-an-id"), &signed).await;
    assert_eq!(
        unasked.verdict(),
        (400, "invalid_parameter".to_owned(), None)
    );
    let gone = app.bought().await;
    assert_eq!(app.remove(&gone).await.status, 200);
    no_image(&renewal(&gone.field("id"))).await;
    let expired = app.upload_free(pictures::png(9, 9)).await.field("id");
    execute(
        app.db(),
        &format!(
            "UPDATE images SET expires_ms = {} WHERE id = '{expired}'",
            START * 1000
        ),
    )
    .await;
    no_image(&renewal_by(&expired, "year")).await;

    let permanent = app.upload_free(pictures::png(7, 7)).await.field("id");
    let held = app.bought().await.field("id");
    let old = app.bought().await.field("id");
    let large = app.bought().await.field("id");
    let nearly = START * 1000 + i64::try_from((YEAR * 9 + DAY * 11).as_millis()).unwrap();
    for (id, set) in [
        (&permanent, "expires_ms = NULL".to_owned()),
        (&held, "held_ms = 1".to_owned()),
        (&old, format!("expires_ms = {nearly}")),
        (&large, "size_bytes = 5242881".to_owned()),
    ] {
        execute(
            app.db(),
            &format!("UPDATE images SET {set} WHERE id = '{id}'"),
        )
        .await;
    }
    let calls = app.calls();
    for (id, word) in [
        (&permanent, "until the service ends"),
        (&held, "under review"),
        (
            &old,
            "at most ten years ahead are allowed. Renew it on or after 2027-0",
        ),
        (
            &large,
            "has 5242881 bytes, but tier year allows at most 5242880",
        ),
    ] {
        let path = renewal_by(id, "year");
        let code = if *id == held {
            "image_held"
        } else {
            "not_renewable"
        };
        let unpaid = refused(&app.post(&path).await, 409, code);
        assert!(unpaid.contains(word), "{unpaid}");
        let mut payment = signed.clone();
        payment.resource["url"] = json!(app.url(&path));
        let paid = refused(&app.pay_at(&path, &payment).await, 409, code);
        assert!(paid.contains(word), "{paid}");
    }
    assert_eq!(app.calls(), calls, "nobody was asked");
    // It can still be kept for ever.
    assert_eq!(app.post(&renewal_by(&old, "permanent")).await.status, 402);
    // Reverts the test's change: the reaper deletes an expired image by its row.
    execute(
        app.db(),
        &format!("UPDATE images SET size_bytes = 70 WHERE id = '{large}'"),
    )
    .await;
}

#[tokio::test]
async fn an_image_is_not_deleted_while_its_renewal_is_open() {
    let app = TestApp::impatient().await;
    let image = app.upload_free(pictures::png(8, 8)).await;
    let id = image.field("id");
    app.advance(Duration::from_secs(7 * 86_400 - 60));
    let payment = app.sign_at(&renewal_by(&id, "year")).await;
    app.facilitator.next("settle", Fault::SilentBefore);
    assert_eq!(app.pay(&payment).await.verdict(), pending());
    let busy = app.remove(&image).await;
    assert_eq!(
        busy.verdict(),
        (409, "renewal_in_progress".to_owned(), Some(false))
    );
    assert!(
        busy.field("message").contains("payment for its renewal"),
        "{}",
        busy.text()
    );
    // It expires meanwhile: it isn't served, and it isn't deleted.
    app.advance(Duration::from_secs(61));
    assert_eq!(app.get(&image.field("url")).await.status, 404);
    let reaped = app.app.retention.reap().await.unwrap();
    assert_eq!(reaped.images, 0, "{reaped:?}");
    // The payment continues, and the image is available for a year from now.
    let renewed = app.pay(&payment).await;
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    let settled = app.clock.now().plus(YEAR).to_string();
    assert_eq!(renewed.field("expiresAt"), settled);
    assert_eq!(app.get(&image.field("url")).await.status, 200);
    assert_eq!(app.remove(&image).await.status, 200);
    app.records_are_right().await;
}

#[tokio::test]
async fn a_failed_renewal_releases_the_image() {
    let app = TestApp::impatient().await;
    let image = app.upload_free(pictures::png(8, 8)).await;
    let path = renewal_by(&image.field("id"), "year");
    let refused = app.sign_at(&path).await;
    app.facilitator
        .next("settle", Fault::refusal(200, "insufficient_funds"));
    assert_eq!(app.pay(&refused).await.verdict(), failed());
    // Another payment stays open, until its payer cancels it.
    let canceled = app.sign_at(&path).await;
    app.facilitator.next("settle", Fault::SilentBefore);
    assert_eq!(app.pay(&canceled).await.verdict(), pending());
    let authorization = &canceled.authorization;
    app.chain
        .cancel(authorization.from, authorization.nonce)
        .await
        .unwrap();
    app.advance(Duration::from_secs(6));
    app.reconcile_until(&canceled, "failed").await;
    assert_eq!(app.pay(&canceled).await.verdict(), failed());
    assert_eq!(
        app.metadata(&image.field("id")).await["expiresAt"],
        after(DAY * 7)
    );
    assert_eq!(app.remove(&image).await.status, 200);
    assert_eq!(app.moved().await, [0; 0]);
    app.records_are_right().await;
}

#[tokio::test]
async fn a_renewal_after_the_reaper_claimed_the_image_is_not_charged() {
    let app = TestApp::spawn().await;
    let image = app.upload_free(pictures::png(8, 8)).await;
    let id = image.field("id");
    let payment = app.sign_at(&renewal_by(&id, "year")).await;
    let release = Arc::new(Notify::new());
    app.facilitator
        .next("verify", Fault::Held(Arc::clone(&release)));
    let paying = app.pay(&payment);
    let deleting = async {
        app.facilitator.reached("verify", 1).await;
        let deleted = app.remove(&image).await;
        release.notify_one();
        deleted
    };
    let (paid, deleted) = tokio::join!(paying, deleting);
    assert_eq!(deleted.status, 200);
    refused(&paid, 404, "not_found");
    assert_eq!(app.state_of(&payment).await.as_deref(), Some("released"));
    assert_eq!(app.calls()[1], 0, "settle was not called");
    app.records_are_right().await;
}

#[tokio::test]
async fn a_renewal_of_an_image_removed_meanwhile_is_owed_as_an_upload() {
    let app = TestApp::impatient().await;
    let image = app.upload_free(pictures::png(8, 8)).await;
    let id = image.field("id");
    let payment = app.sign_at(&renewal_by(&id, "year")).await;
    app.facilitator.next("settle", Fault::SilentAfter);
    assert_eq!(app.pay(&payment).await.verdict(), pending());
    // A legal removal happens regardless of payments.
    execute(
        app.db(),
        &format!("UPDATE images SET state = 'deleted', deleted_ms = 1 WHERE id = '{id}'"),
    )
    .await;
    app.reconcile_until(&payment, "settled").await;
    let owed = texts(app.db(), "SELECT owed FROM payments WHERE owed IS NOT NULL").await;
    assert_eq!(
        owed,
        ["the image of this renewal is gone, or kept for ever"]
    );
    assert_eq!(
        app.pay(&payment.copied_from_the_chain()).await.verdict(),
        known(Some(true))
    );
    // The wallet's signature proves it as well.
    let claimed = app.claim(&app.wallet).await;
    assert_eq!(claimed[0]["bought"], "renewal");
    let (_, claimed) = only_token(&claimed);
    let token = app.pay(&payment).await.token();
    assert_eq!(token, claimed);
    let instead = app.upload_with(&token, pictures::png(9, 9)).await;
    assert_eq!(instead.status, 200, "{}", instead.text());
    assert_eq!(instead.field("tier"), "year");
    let again = app.pay(&payment).await;
    assert_eq!(again.field("url"), instead.field("url"));
    assert_eq!(app.moved().await, [10_000]);
    app.records_are_right().await;
}

#[tokio::test]
async fn a_late_transfer_of_a_failed_renewal_renews_if_the_image_exists() {
    let app = TestApp::spawn().await;
    let image = app.upload_free(pictures::png(8, 8)).await;
    let id = image.field("id");
    let payment = app.sign_at(&renewal_by(&id, "year")).await;
    app.facilitator
        .next("settle", Fault::refusal(200, "insufficient_funds"));
    assert_eq!(app.pay(&payment).await.verdict(), failed());
    let executed = app
        .chain
        .execute(&payment.authorization, &payment.signature);
    executed.await.unwrap();
    let renewed = app.pay(&payment).await;
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    assert_eq!(renewed.field("expiresAt"), after(DAY * 7 + YEAR));
    let owed = texts(app.db(), "SELECT owed FROM payments WHERE owed IS NOT NULL").await;
    assert!(owed.is_empty(), "{owed:?}");
    app.records_are_right().await;
}

#[tokio::test]
async fn a_renewal_buys_nothing_else_and_nothing_else_buys_a_renewal() {
    let app = TestApp::spawn().await;
    let (one, other) = (
        app.bought().await.field("id"),
        app.bought().await.field("id"),
    );
    let payment = app.sign_at(&renewal(&one)).await;
    let first = app.pay(&payment).await;
    assert_eq!(first.status, 200, "{}", first.text());
    for path in [
        renewal(&other),
        renewal_by(&other, "year"),
        renewal_by(&one, "permanent"),
        renewal("neverexisted"),
        "/api/upload/token/year".to_owned(),
        "/api/upload/year".to_owned(),
    ] {
        let answer = app.pay_at(&path, &payment).await;
        assert_eq!(answer.verdict(), known(Some(true)), "{path}");
    }
    // The full route of the same product sells the same.
    assert_eq!(
        app.pay_at(&renewal_by(&one, "year"), &payment).await.json(),
        first.json()
    );
    let token = app.sign_for("year").await;
    app.pay(&token).await.token();
    assert_eq!(
        app.pay_at(&renewal(&other), &token).await.verdict(),
        known(Some(true))
    );
    // A sender who copied it from the chain gets no answer.
    let copied = app.pay(&payment.copied_from_the_chain()).await;
    assert_eq!(copied.verdict(), known(Some(true)));
    assert!(!copied.text().contains("expiresAt"));
    assert_eq!(app.metadata(&other).await["expiresAt"], after(YEAR));
    app.records_are_right().await;
}

#[tokio::test]
async fn a_second_payment_with_the_same_idempotency_key_renews_once() {
    let app = TestApp::spawn().await;
    let image = app.bought().await.field("id");
    let path = renewal(&image);
    let first = app.sign_at(&path).await.with_id("one-id-of-16-chars");
    let second = app.sign_at(&path).await.with_id("one-id-of-16-chars");
    let answer = app.pay(&first).await;
    assert_eq!(app.pay(&second).await.json(), answer.json());
    let other = app.bought().await.field("id");
    let elsewhere = app
        .sign_at(&renewal(&other))
        .await
        .with_id("one-id-of-16-chars");
    assert_eq!(app.pay(&elsewhere).await.status, 409);
    assert_eq!(app.moved().await, [10_000; 3]);
    assert_eq!(app.metadata(&image).await["expiresAt"], after(YEAR * 2));
    app.records_are_right().await;
}

#[tokio::test]
async fn concurrent_copies_renew_once_and_concurrent_payers_once_each() {
    let app = TestApp::spawn().await;
    let image = app.bought().await.field("id");
    let path = renewal(&image);
    let mut payments = vec![app.sign_at(&path).await; 4];
    for wallet in 2..6_u8 {
        let challenge = app.post(&path).await;
        let wallet = signing::wallet(wallet);
        payments.push(Payment::answering(
            &challenge,
            &path,
            &wallet,
            app.clock.now(),
        ));
    }
    let mut last = Vec::new();
    // A request that finds another one under way is repeated, as its response says.
    for _ in 0..20 {
        last = app.pay_at_once(&payments, None).await;
        if last.iter().all(|answer| answer.status == 200) {
            break;
        }
    }
    for answer in &last {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(app.metadata(&image).await["expiresAt"], after(YEAR * 6));
    assert_eq!(app.moved().await, [10_000; 6]);
    let transfers = app.transfers().await;
    let sum: U256 = transfers.iter().map(|it| it.value).sum();
    assert_eq!(sum, U256::from(60_000));
    app.records_are_right().await;
}

#[tokio::test]
async fn open_renewals_stay_below_ten_years_and_one_for_ever_is_alone() {
    let app = TestApp::impatient().await;
    let image = app.bought().await.field("id");
    let nearly = START * 1000 + i64::try_from((YEAR * 8 + DAY * 11).as_millis()).unwrap();
    execute(
        app.db(),
        &format!("UPDATE images SET expires_ms = {nearly} WHERE id = '{image}'"),
    )
    .await;
    let (yearly, forever) = (renewal(&image), renewal_by(&image, "permanent"));
    let open = app.sign_at(&yearly).await;
    let (second, third) = (app.sign_at(&yearly).await, app.sign_at(&forever).await);
    app.facilitator.next("settle", Fault::SilentAfter);
    assert_eq!(app.pay(&open).await.verdict(), pending());
    let settles = app.calls()[1];
    for payment in [&second, &third] {
        let message = refused(&app.pay(payment).await, 409, "renewal_in_progress");
        assert!(message.contains("Another renewal"), "{message}");
        assert_eq!(app.state_of(payment).await.as_deref(), Some("released"));
    }
    assert_eq!(app.calls()[1], settles, "settle was not called for them");
    app.reconcile_until(&open, "settled").await;
    // There is no room for another year, so one for ever is bought now, with the payment that
    // waited.
    refused(&app.pay(&second).await, 409, "not_renewable");
    let kept = app.pay(&third).await;
    assert!([200, 503].contains(&kept.status), "{}", kept.text());
    app.reconcile_until(&third, "settled").await;
    assert_eq!(app.metadata(&image).await["expiresAt"], json!(null));
    refused(&app.post(&yearly).await, 409, "not_renewable");
    app.records_are_right().await;
}

#[tokio::test]
async fn records_of_a_renewal_are_erased_with_those_of_its_image() {
    let app = TestApp::spawn().await;
    let free = app.upload_free(pictures::png(8, 8)).await;
    let paid = app.bought().await;
    let mut payments = Vec::new();
    for image in [&free, &paid] {
        let payment = app.sign_at(&renewal_by(&image.field("id"), "year")).await;
        assert_eq!(app.pay(&payment).await.status, 200);
        payments.push(payment);
    }
    let reap = async || {
        app.app.retention.accept_clock().await.unwrap();
        app.app.retention.reap().await.unwrap()
    };
    // Their transfers are checked on the chain first.
    app.advance(Duration::from_mins(5));
    app.audit().await;
    // The age of the renewals' payments doesn't matter while the image exists.
    app.advance(YEAR);
    assert_eq!(reap().await.erased_payments, 0);
    for image in [&free, &paid] {
        assert_eq!(app.remove(image).await.status, 200);
    }
    app.advance(Duration::from_secs(365 * 86_400 - 1));
    let early = reap().await;
    assert_eq!((early.erased_images, early.erased_payments), (0, 0));
    app.advance(Duration::from_secs(1));
    let late = reap().await;
    assert_eq!(
        (late.erased_images, late.erased_payments),
        (1, 3),
        "{late:?}"
    );
    for table in ["images", "payments", "renewals", "grants"] {
        assert_eq!(app.rows(table).await, 0, "{table}");
    }
    for payment in &payments {
        assert_eq!(app.pay(payment).await.verdict(), known(Some(true)));
    }
    app.records_are_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_racing_reaper_and_owner_is_never_charged_for_nothing() {
    let app = TestApp::spawn().await;
    let mut outcomes = std::collections::BTreeMap::<&str, u32>::new();
    let mut paid = 0;
    for round in 0..12_u32 {
        let image = app.upload_free(pictures::png(8, 8 + round)).await;
        let id = image.field("id");
        app.advance(Duration::from_millis(7 * 86_400_000 - 1));
        let payment = app.sign_at(&renewal_by(&id, "year")).await;
        // Each of the three comes first sometimes.
        let (ended, end) = tokio::sync::watch::channel(false);
        let paying = async {
            let answer = app.pay(&payment).await;
            ended.send(true).unwrap();
            answer
        };
        let seen = async |call: &str, before: usize| {
            let mut end = end.clone();
            tokio::select! {
                () = app.facilitator.reached(call, before + 1) => {}
                ended = end.wait_for(|ended| *ended) => drop(ended.unwrap()),
            }
        };
        let [verified, settled, _] = app.calls();
        let reaping = async {
            if round % 3 == 0 {
                seen("settle", settled).await;
            }
            app.advance(Duration::from_millis(1));
            app.app.retention.reap().await.unwrap()
        };
        let deleting = async {
            if round % 2 == 0 {
                seen("verify", verified).await;
            }
            app.remove(&image).await
        };
        let (answer, _, deleted) = tokio::join!(paying, reaping, deleting);
        assert!([200, 409].contains(&deleted.status), "{}", deleted.text());
        if deleted.status == 200 {
            assert_eq!(
                app.get(&image.field("url")).await.status,
                404,
                "it was said to be gone"
            );
        }
        let state = app.state_of(&payment).await;
        let outcome = match (answer.status, state.as_deref()) {
            // Renewed; its owner may have deleted it since.
            (200, Some("settled")) => "renewed",
            (404, Some("settled")) => {
                assert_eq!(answer.charged(), Some(true), "{}", answer.text());
                "renewed"
            }
            (404, None | Some("released")) => {
                assert_eq!(answer.charged(), Some(false), "{}", answer.text());
                "refused"
            }
            other => panic!("{other:?} {}", answer.text()),
        };
        paid += u32::from(outcome == "renewed");
        *outcomes.entry(outcome).or_default() += 1;
        assert_eq!(app.transfers().await.len(), usize::try_from(paid).unwrap());
    }
    assert!(!outcomes.is_empty());
    let owed = texts(app.db(), "SELECT owed FROM payments WHERE owed IS NOT NULL").await;
    assert!(owed.is_empty(), "{owed:?}");
    app.records_are_right().await;
}
