//! Several uploads on one payment: `POST /api/upload/token?images=N`.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy_primitives::U256;
use pixtoll::db::offers;
use pixtoll::model::payment::{Product, ProductKind};
use pixtoll::pricing::money::AtomicAmount;
use pixtoll::system::clock::Clock;
use serde_json::json;

use crate::support::database::texts;
use crate::support::expect::{invalid, known};
use crate::support::{Payment, TestApp, pictures};

const ONE: &str = "/api/upload/token/year";
const THREE: &str = "/api/upload/token/year?images=3";

fn uploads_left(answer: &crate::support::Answer) -> u64 {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["uploads"].as_u64().unwrap()
}

#[tokio::test]
async fn n_uploads_cost_n_prices_and_publish_n_images() {
    let app = TestApp::spawn().await;
    let challenge = app.post(THREE).await;
    let offer = challenge.document("payment-required");
    assert_eq!(offer["accepts"][0]["amount"], "30000");
    let resource = &offer["resource"];
    assert_eq!(resource["url"], app.url(THREE));
    let words = "Upload token: 3 images up to 5 MiB each, kept 365 days (play money)";
    assert_eq!(resource["description"], words);
    let message = challenge.field("message");
    assert!(message.contains("0.03 USDC: 3 images"), "{message}");
    let payment = app.sign_at(THREE).await;
    let bought = app.pay(&payment).await;
    assert_eq!(uploads_left(&bought), 3);
    let token = bought.token();
    let picture = |number: u64| pictures::png_seeded(8, 8, number);
    let mut links = BTreeSet::new();
    for number in 0..3 {
        let junk = app.upload_with(&token, b"no image".to_vec()).await;
        assert_eq!((junk.status, junk.charged()), (415, Some(false)));
        let image = app.upload_with(&token, picture(number)).await;
        assert_eq!(image.status, 200, "{}", image.text());
        let again = app.upload_with(&token, picture(number)).await;
        assert_eq!(again.field("url"), image.field("url"));
        links.insert(image.field("url"));
        let presented = app.pay(&payment).await;
        assert_eq!(
            (uploads_left(&presented), presented.token()),
            (2 - number, token.clone())
        );
    }
    assert_eq!(links.len(), 3);
    let more = app.upload_with(&token, picture(3)).await;
    assert_eq!(more.verdict(), (409, "token_used".to_owned(), Some(false)));
    app.advance(Duration::from_mins(11));
    let late = app.pay(&payment).await;
    assert_eq!((uploads_left(&late), late.token()), (0, token.clone()));
    for link in &links {
        assert_eq!(app.get(link).await.status, 200);
    }
    let values: Vec<U256> = app.transfers().await.iter().map(|it| it.value).collect();
    assert_eq!(values, [U256::from(30_000)]);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn concurrent_uploads_never_exceed_the_paid_number() {
    let app = TestApp::spawn().await;
    let payment = app.sign_at("/api/upload/token/year?images=5").await;
    let token = app.pay(&payment).await.token();
    let mut published = BTreeSet::new();
    // A request that finds every use reserved is repeated, as its response says.
    for _ in 0..20 {
        let uploads =
            (0..12).map(|number| app.upload_with(&token, pictures::png_seeded(9, 9, number)));
        for answer in futures_util::future::join_all(uploads).await {
            match answer.status {
                200 => {
                    published.insert(answer.field("id"));
                }
                409 => assert!(
                    ["token_used", "busy", "payment_in_progress"]
                        .contains(&answer.error().as_str()),
                    "{}",
                    answer.text()
                ),
                _ => panic!("{}", answer.text()),
            }
        }
        if published.len() == 5 {
            break;
        }
    }
    assert_eq!(published.len(), 5);
    assert_eq!(app.rows("images").await, 5);
    assert_eq!(uploads_left(&app.pay(&payment).await), 0);
    let report = app.check_ledger().await;
    assert!(report.is_balanced(), "{:?}", report.broken);
}

#[tokio::test]
async fn an_expensive_total_waits_for_the_block() {
    let app = TestApp::spawn().await;
    let catalog = &app.app.checkout.as_ref().unwrap().catalog;
    for (uses, confirmations) in [(1, 0), (9, 0), (10, 1), (100, 1)] {
        let product = Product {
            kind: ProductKind::Token,
            tier: "year".to_owned(),
            uses,
            target: None,
            days: None,
        };
        assert_eq!(
            catalog.terms(&product)[0].confirmations,
            confirmations,
            "{uses}"
        );
    }
    let payment = app.sign_at("/api/upload/token/year?images=10").await;
    let first = app.pay(&payment).await;
    let bought = if first.status == 503 {
        app.pay(&payment).await
    } else {
        first
    };
    assert_eq!(uploads_left(&bought), 10);
    let proof = "SELECT proven_by FROM payments WHERE proven_by IS NOT NULL";
    assert_eq!(texts(app.db(), proof).await, ["chain"]);
}

#[tokio::test]
async fn a_concurrent_repeat_of_an_upload_costs_no_second_use() {
    let app = TestApp::spawn().await;
    let payment = app.sign_at(THREE).await;
    let token = app.pay(&payment).await.token();
    let mut links = BTreeSet::new();
    // A request that finds another one under way is repeated, as its response says.
    for _ in 0..20 {
        links.clear();
        let uploads = (0..9).map(|number| {
            let picture = pictures::png_seeded(9, 9, number % 3);
            app.upload_with(&token, picture)
        });
        let answers = futures_util::future::join_all(uploads).await;
        for answer in &answers {
            let used = answer.text().contains("token_used");
            assert!(!used, "{}", answer.text());
            if answer.status == 200 {
                links.insert(answer.field("url"));
            }
        }
        if answers.iter().all(|answer| answer.status == 200) {
            break;
        }
    }
    assert_eq!(links.len(), 3);
    assert_eq!(app.rows("images").await, 3);
    assert_eq!(uploads_left(&app.pay(&payment).await), 0);
}

#[tokio::test]
async fn unused_uploads_of_an_expired_token_are_granted_again() {
    let app = TestApp::spawn().await;
    let payment = app.sign_at(THREE).await;
    let old = app.pay(&payment).await.token();
    assert_eq!(app.upload_with(&old, pictures::png(7, 7)).await.status, 200);
    app.advance(Duration::from_mins(10));
    let expired = app.upload_with(&old, pictures::png(7, 8)).await;
    assert_eq!(
        expired.verdict(),
        (410, "token_expired".to_owned(), Some(false))
    );
    let again = app.pay(&payment).await;
    assert_eq!(uploads_left(&again), 2);
    let fresh = again.token();
    assert_ne!(fresh, old);
    for side in [8, 9] {
        let image = app.upload_with(&fresh, pictures::png(7, side)).await;
        assert_eq!(image.status, 200, "{}", image.text());
    }
    let more = app.upload_with(&fresh, pictures::png(7, 10)).await;
    assert_eq!(more.error(), "token_used");
    assert_eq!(
        (app.rows("images").await, app.transfers().await.len()),
        (3, 1)
    );
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_payment_for_one_upload_does_not_buy_several_or_the_reverse() {
    let app = TestApp::spawn().await;
    for (bought, other) in [
        (ONE, THREE),
        (THREE, ONE),
        (THREE, "/api/upload/token/year?images=2"),
    ] {
        for as_v1 in [false, true] {
            let signed = app.sign_at(bought).await;
            let payment = if as_v1 { signed.as_v1() } else { signed };
            let before = app.transfers().await.len();
            assert_eq!(
                app.pay_at(other, &payment).await.verdict(),
                invalid(),
                "{other}"
            );
            assert_eq!(app.transfers().await.len(), before);
            let token = app.pay(&payment).await.token();
            assert_eq!(
                app.pay_at(other, &payment).await.verdict(),
                known(Some(true))
            );
            assert_eq!(app.pay(&payment).await.token(), token);
        }
    }
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn several_uploads_are_sold_at_a_recently_changed_price() {
    let app = TestApp::spawn().await;
    let product = Product {
        kind: ProductKind::Token,
        tier: "year".to_owned(),
        uses: 1,
        target: None,
        days: None,
    };
    let catalog = &app.app.checkout.as_ref().unwrap().catalog;
    let mut terms = catalog.terms(&product).remove(0);
    terms.offer.amount = AtomicAmount::from_units(4_000);
    offers::record(
        app.db(),
        &[(product.clone(), terms.clone())],
        app.clock.now(),
    )
    .await
    .unwrap();
    let at_the_old_price = |mut payment: Payment| {
        payment.accepted["amount"] = json!("12000");
        payment.authorization.value = U256::from(12_000);
        payment.sign_by(&app.wallet);
        payment
    };
    let payment = at_the_old_price(app.sign_at(THREE).await);
    assert_eq!(uploads_left(&app.pay(&payment).await), 3);
    let elsewhere = at_the_old_price(app.sign_at("/api/upload/token/year?images=4").await);
    assert_eq!(app.pay(&elsewhere).await.verdict(), invalid());
    assert_eq!(app.transfers().await.len(), 1);
}
