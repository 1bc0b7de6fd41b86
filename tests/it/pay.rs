//! Goods for payments: one purchase for one payment, however often and at however many routes it is
//! sent.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy_primitives::U256;
use pixtoll::db::{audit, images, offers};
use pixtoll::model::payment::{Product, ProductKind, Terms};
use pixtoll::pricing::money::AtomicAmount;
use pixtoll::pricing::tiers::Keep;
use pixtoll::system::clock::{Clock, Timestamp};
use serde_json::json;

use crate::support::database::execute;
use crate::support::expect::{conflict, failed, invalid, known, pending};
use crate::support::process::{eventually, says_to_repeat};
use crate::support::proxy::{Fault, NodeFault};
use crate::support::{Answer, Payment, TestApp, pictures, signing};

/// Longer than any payment's window and the margin after it.
const LONG: Duration = Duration::from_secs(400);
const KEY: &str = "order-7-of-2027-01-15";

/// The distinct values of this field in responses with status 200. Asserts that all others ask to
/// wait or report a known payment, and that none asks to pay again.
fn goods(answers: &[Answer], field: &str) -> BTreeSet<String> {
    let mut goods = BTreeSet::new();
    for answer in answers {
        if answer.status == 200 {
            goods.insert(answer.field(field));
        } else if answer.status == 503 {
            assert_eq!(answer.verdict(), pending());
        } else {
            assert_eq!(answer.status, 409, "{}", answer.text());
        }
    }
    goods
}

async fn published(app: &TestApp, payment: &Payment) -> usize {
    let id = payment.ledger_id();
    images::find_published_by_payment(app.db(), &id)
        .await
        .unwrap()
        .len()
}

async fn owed(app: &TestApp) -> usize {
    audit::find_owed(app.db()).await.unwrap().len()
}

/// The product and terms of a purchase of the tier `year`.
fn sold_by_the_year(app: &TestApp, kind: ProductKind) -> (Product, Terms) {
    let product = Product {
        kind,
        tier: "year".to_owned(),
        uses: 1,
        target: None,
        days: None,
    };
    let catalog = &app.app.checkout.as_ref().unwrap().catalog;
    let terms = catalog.terms(&product).remove(0);
    (product, terms)
}

#[tokio::test]
async fn fifty_copies_of_a_payment_get_one_token_for_one_transfer() {
    let app = TestApp::spawn().await;
    for (count, tier) in ["year", "permanent"].into_iter().enumerate() {
        let payment = app.sign_for(tier).await;
        let answers = app.pay_at_once(&vec![payment.clone(); 50], None).await;
        let tokens = goods(&answers, "token");
        assert_eq!(tokens.len(), 1, "{tokens:?}");
        assert_eq!(tokens, BTreeSet::from([app.pay(&payment).await.token()]));
        assert_eq!(
            (app.transfers().await.len(), app.facilitator.calls("settle")),
            (count + 1, count + 1)
        );
    }
}

#[tokio::test]
async fn copies_in_both_x402_versions_are_one_payment() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let copies: Vec<Payment> = (0..20)
        .map(|n| {
            if n % 2 == 0 {
                payment.clone()
            } else {
                payment.as_v1()
            }
        })
        .collect();
    let answers = app.pay_at_once(&copies, None).await;
    assert_eq!(goods(&answers, "token").len(), 1);
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_version_1_payment_is_wrapped_for_a_version_2_facilitator() {
    let app = TestApp::spawn().await;
    let access = app
        .app
        .checkout
        .as_ref()
        .unwrap()
        .networks
        .iter()
        .next()
        .unwrap();
    let kind = |version: Option<u8>, network: &str| json!({"x402Version": version, "scheme": "exact", "network": network});
    let (new, old) = (kind(Some(2), "eip155:84532"), kind(Some(1), "base-sepolia"));
    let other = kind(Some(1), "base");
    let versions = [
        (json!([new, other]), 2),
        (json!([new, old]), 1),
        (json!([kind(None, "base-sepolia")]), 1),
        (json!([]), 1),
        (json!([new, kind(Some(3), "eip155:84532")]), 2),
        // The facilitator may still accept it, so it isn't rejected here.
        (json!([other]), 1),
    ];
    for (kinds, version) in versions {
        let listed = Fault::Instead(200, json!({"kinds": kinds}).to_string());
        app.facilitator.next("supported", listed);
        access.ask_supported(Duration::from_secs(30)).await.unwrap();
        let payment = app.sign_for("year").await.as_v1();
        let bought = app.pay(&payment).await;
        assert!(bought.header("x-payment-response").is_some());
        let token = bought.token();
        assert_eq!(app.pay(&payment).await.token(), token);
        for call in ["verify", "settle"] {
            let asked = app.facilitator.bodies(call).pop().unwrap();
            let network = asked["paymentRequirements"]["network"].as_str().unwrap();
            let spoken = [
                &asked["x402Version"],
                &asked["paymentPayload"]["x402Version"],
            ];
            assert_eq!(spoken, [version, version], "{kinds}");
            assert_eq!(network, ["base-sepolia", "eip155:84532"][version - 1]);
        }
    }
    assert_eq!(app.transfers().await.len(), 6);
}

#[tokio::test]
async fn twenty_uploads_with_one_token_publish_one_image() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let token = app.pay(&payment).await.token();
    let uploads = (0..20).map(|seed| app.upload_with(&token, pictures::png_seeded(8, 8, seed)));
    let answers = futures_util::future::join_all(uploads).await;
    assert_eq!(goods(&answers, "id").len(), 1);
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 200).count(),
        1
    );
    assert_eq!(published(&app, &payment).await, 1);
    // The payment is now answered with the image.
    let image = app.pay(&payment).await;
    assert_eq!(goods(&answers, "id"), BTreeSet::from([image.field("id")]));
}

#[tokio::test]
async fn twenty_uploads_of_the_same_bytes_with_one_token_are_one_image() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let token = app.pay(&payment).await.token();
    let picture = pictures::png(8, 8);
    let uploads = (0..20).map(async |_| {
        // On a slow disk a copy may not wait for as long as the first request takes.
        eventually("the image", async || {
            let answer = app.upload_with(&token, picture.clone()).await;
            (!says_to_repeat(&answer)).then_some(answer)
        })
        .await
    });
    let answers = futures_util::future::join_all(uploads).await;
    assert!(
        answers.iter().all(|answer| answer.status == 200),
        "{answers:?}"
    );
    assert_eq!(goods(&answers, "id").len(), 1);
    assert_eq!(published(&app, &payment).await, 1);
}

#[tokio::test]
async fn twenty_copies_of_a_paid_upload_are_one_image_and_one_transfer() {
    let app = TestApp::spawn().await;
    let picture = pictures::png(8, 8);
    for (count, path) in ["/api/upload/year", "/api/upload/permanent"]
        .into_iter()
        .enumerate()
    {
        let payment = app.sign_at(path).await;
        let answers = app
            .pay_at_once(&vec![payment.clone(); 20], Some(&picture))
            .await;
        let ids = goods(&answers, "id");
        assert_eq!(ids.len(), 1);
        assert_eq!(
            BTreeSet::from([app.pay_with(&payment, &picture).await.field("id")]),
            ids
        );
        assert_eq!(
            BTreeSet::from([app.pay(&payment).await.field("id")]),
            ids,
            "without the bytes"
        );
        let other = app.pay_with(&payment, &pictures::png(9, 9)).await;
        assert_eq!(other.verdict(), conflict(Some(true)));
        assert_eq!(published(&app, &payment).await, 1);
        assert_eq!(app.transfers().await.len(), count + 1);
    }
}

#[tokio::test]
async fn copies_of_a_paid_upload_with_other_bytes_publish_one_of_them() {
    let app = TestApp::spawn().await;
    let payment = app.sign_at("/api/upload/year").await;
    let pictures: Vec<Vec<u8>> = (0..20)
        .map(|seed| pictures::png_seeded(8, 8, seed))
        .collect();
    let requests = pictures
        .iter()
        .map(|picture| app.pay_with(&payment, picture));
    let answers = futures_util::future::join_all(requests).await;
    assert_eq!(goods(&answers, "id").len(), 1);
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 200).count(),
        1
    );
    assert_eq!(
        (published(&app, &payment).await, app.transfers().await.len()),
        (1, 1)
    );
    let served = app
        .get(
            &answers
                .iter()
                .find(|answer| answer.status == 200)
                .unwrap()
                .field("url"),
        )
        .await;
    assert!(pictures.contains(&served.bytes));
}

#[tokio::test]
async fn a_paid_upload_is_not_charged_again_after_its_image_expired() {
    let app = TestApp::spawn().await;
    let payment = app.sign_at("/api/upload/year").await;
    let picture = pictures::png(8, 8);
    let uploaded = app.pay_with(&payment, &picture).await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    app.advance(Duration::from_hours(24 * 364));
    assert_eq!(
        app.pay_with(&payment, &picture).await.field("id"),
        uploaded.field("id")
    );
    app.advance(Duration::from_hours(24 * 2));
    let gone = app.pay_with(&payment, &picture).await;
    assert_eq!(gone.verdict(), (404, "image_gone".to_owned(), Some(true)));
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn an_upload_with_an_invalid_file_is_rejected_without_charge() {
    let app = TestApp::spawn().await;
    let payment = app.sign_at("/api/upload/year").await;
    let refused = app.pay_with(&payment, b"no image").await;
    assert_eq!(
        refused.verdict(),
        (415, "unsupported_format".to_owned(), Some(false))
    );
    assert_eq!(
        app.pay(&payment).await.verdict(),
        (400, "no_file".to_owned(), Some(false))
    );
    assert_eq!(
        (app.facilitator.all_calls(), app.state_of(&payment).await),
        (0, None)
    );
    assert_eq!(
        app.pay_with(&payment, &pictures::png(8, 8)).await.status,
        200
    );
}

#[tokio::test]
async fn a_second_authorization_with_the_same_key_is_not_settled() {
    let app = TestApp::spawn().await;
    let by_id = |payment: Payment| payment.with_id(KEY);
    let by_key = |payment: Payment| payment.with_idempotency_key(KEY);
    let by_both = |payment: Payment| {
        let fresh = format!("drawn-for-{}", payment.authorization.nonce);
        payment
            .with_id(&fresh)
            .with_idempotency_key("a-key-that-is-repeated")
    };
    let ways: [&dyn Fn(Payment) -> Payment; 3] = [&by_id, &by_key, &by_both];
    let mut paid = 0;
    for (number, way) in ways.into_iter().enumerate() {
        let first = way(app.sign_for("year").await);
        let token = app.pay(&first).await.token();
        // The same idempotency key in the extension and in the header is one key; a third key is
        // another charge.
        paid += usize::from(number != 1);
        for _ in 0..2 {
            let again = way(app.sign_for("year").await);
            let answer = app.pay(&again).await;
            assert_eq!(answer.token(), token);
            let transaction = answer.document("payment-response")["transaction"].clone();
            let settled = app.transfers().await.last().unwrap().transaction;
            assert_eq!(transaction, json!(settled));
        }
        assert_eq!(
            (app.transfers().await.len(), app.facilitator.calls("settle")),
            (paid, paid)
        );
    }
}

#[tokio::test]
async fn a_late_second_authorization_gets_the_goods_of_the_first() {
    let app = TestApp::spawn().await;
    let first = app.sign_for("year").await.with_id(KEY);
    let second = app.sign_for("year").await.with_id(KEY);
    app.facilitator
        .always("settle", Fault::Instead(500, String::new()));
    assert_eq!(app.pay(&first).await.verdict(), pending());
    assert_eq!(app.pay(&second).await.verdict(), pending());
    app.clock.advance(LONG);
    assert_eq!(
        app.pay(&second).await.verdict(),
        pending(),
        "a 402 would be signed and paid"
    );
    app.facilitator.mend();
    app.chain
        .execute(&first.authorization, &first.signature)
        .await
        .unwrap();
    let token = app.pay(&second).await.token();
    assert_eq!(app.pay(&first).await.token(), token);
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn concurrent_authorizations_with_one_key_are_one_charge() {
    let app = TestApp::spawn().await;
    let mut payments = Vec::new();
    for _ in 0..10 {
        payments.push(app.sign_for("year").await.with_idempotency_key(KEY));
    }
    let answers = app.pay_at_once(&payments, None).await;
    assert_eq!(goods(&answers, "token").len(), 1);
    let mut tokens = BTreeSet::new();
    for payment in &payments {
        tokens.insert(app.pay(payment).await.token());
    }
    assert_eq!(tokens, goods(&answers, "token"));
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_key_reused_for_another_purchase_conflicts_and_charges_nothing() {
    let app = TestApp::spawn().await;
    let picture = pictures::png(8, 8);
    let first = app.sign_at("/api/upload/year").await.with_id(KEY);
    let uploaded = app.pay_with(&first, &picture).await;
    let same = app.sign_at("/api/upload/year").await.with_id(KEY);
    assert_eq!(
        app.pay_with(&same, &picture).await.field("id"),
        uploaded.field("id")
    );
    let other_body = app.sign_at("/api/upload/year").await.with_id(KEY);
    let answer = app.pay_with(&other_body, &pictures::png(9, 9)).await;
    assert_eq!(answer.verdict(), conflict(Some(false)));
    for path in ["/api/upload/token/year", "/api/upload/token/permanent"] {
        let other = app.sign_at(path).await.with_id(KEY);
        assert_eq!(
            app.pay(&other).await.verdict(),
            conflict(Some(false)),
            "{path}"
        );
    }
    let other_tier = app.sign_at("/api/upload/permanent").await.with_id(KEY);
    assert_eq!(
        app.pay_with(&other_tier, &picture).await.verdict(),
        conflict(Some(false))
    );
    assert_eq!(
        (app.transfers().await.len(), app.facilitator.calls("settle")),
        (1, 1)
    );
}

#[tokio::test]
async fn the_idempotency_key_of_a_failed_payment_can_be_used_again() {
    let app = TestApp::spawn().await;
    let first = app.sign_for("year").await.with_id(KEY);
    app.facilitator
        .next("settle", Fault::refusal(200, "insufficient_funds"));
    assert_eq!(app.pay(&first).await.verdict(), failed());
    let second = app.sign_for("permanent").await.with_id(KEY);
    let token = app.pay(&second).await.token();
    assert_eq!(app.pay(&second).await.token(), token);
    assert_eq!(app.pay(&first).await.verdict(), failed());
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_token_that_expired_unused_is_replaced_without_paying_again() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let old = app.pay(&payment).await.token();
    app.advance(Duration::from_secs(599));
    assert_eq!(app.pay(&payment).await.token(), old);
    app.advance(Duration::from_secs(1));
    let picture = pictures::png(8, 8);
    let expired = app.upload_with(&old, picture.clone()).await;
    assert_eq!(
        expired.verdict(),
        (410, "token_expired".to_owned(), Some(false))
    );
    assert_eq!(expired.json()["action"]["type"], "fix_request");
    let answers = app.pay_at_once(&vec![payment.clone(); 10], None).await;
    let fresh = goods(&answers, "token");
    assert_eq!(fresh.len(), 1);
    let fresh = fresh.into_iter().next().unwrap();
    assert_ne!(fresh, old);
    let dead = app.upload_with(&old, picture.clone()).await;
    assert_eq!(dead.verdict(), expired.verdict());
    assert_eq!(app.upload_with(&fresh, picture).await.status, 200);
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_token_that_was_replaced_several_times_is_expired_and_stops_no_sales() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let first = app.pay(&payment).await.token();
    let mut last = first.clone();
    for _ in 0..3 {
        app.advance(Duration::from_secs(600));
        let next = app.pay(&payment).await.token();
        assert_ne!(next, last);
        last = next;
    }
    let dead = app.upload_with(&first, pictures::png(8, 8)).await;
    assert_eq!(
        dead.verdict(),
        (410, "token_expired".to_owned(), Some(false))
    );
    assert_eq!(app.post("/api/upload/token/year").await.status, 402);
    let uploaded = app.upload_with(&last, pictures::png(8, 8)).await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    app.check_ledger().await;
}

#[tokio::test]
async fn a_charged_payment_that_the_ledger_lost_is_never_called_uncharged() {
    let app = TestApp::spawn().await;
    let [paid, unpaid] = [app.sign_for("year").await, app.sign_for("year").await];
    app.pay(&paid).await.token();
    for table in ["payment_proofs", "payment_ids", "grants", "payments"] {
        execute(app.db(), &format!("DELETE FROM {table}")).await;
    }
    assert_eq!(app.pay(&paid).await.verdict(), known(Some(true)));
    // The loss can't be noticed here, and the window has closed.
    app.advance(LONG);
    let calls = app.facilitator.calls("verify");
    assert_eq!(app.pay(&paid).await.verdict(), known(None));
    assert_eq!(app.pay(&unpaid).await.verdict(), invalid());
    app.node.node(NodeFault {
        down: true,
        ..NodeFault::default()
    });
    assert_eq!(app.pay(&paid).await.verdict(), pending());
    app.node.mend();
    // Neither at another price without an offer, nor with the signature of a contract.
    let mut odd = paid.clone();
    odd.accepted["amount"] = json!("9999");
    assert_eq!(app.pay(&odd).await.verdict(), known(None));
    let mut by_contract = paid.clone();
    by_contract.sign_by(&signing::wallet(2));
    assert_eq!(app.pay(&by_contract).await.verdict(), known(None));
    // Nor when its tier isn't sold any more.
    for path in ["/api/upload/token/gold", "/api/upload/gold"] {
        assert_eq!(app.pay_at(path, &paid).await.verdict(), known(None));
        let nothing = (404, "unknown_tier".to_owned(), Some(false));
        assert_eq!(app.pay_at(path, &unpaid).await.verdict(), nothing);
    }
    assert_eq!(app.facilitator.calls("verify"), calls);
}

#[tokio::test]
async fn of_two_offers_at_one_price_the_better_one_applies() {
    let app = TestApp::spawn().await;
    let (product, mut terms) = sold_by_the_year(&app, ProductKind::Upload);
    let days = |days: u64| Duration::from_hours(24 * days);
    for keep in [days(30), days(800)] {
        terms.keep = Keep::For(keep);
        let now = app.clock.now();
        offers::record(app.db(), &[(product.clone(), terms.clone())], now)
            .await
            .unwrap();
    }
    let began = app.clock.now();
    let payment = app.sign_at("/api/upload/year").await;
    let uploaded = app.pay_with(&payment, &pictures::png(8, 8)).await;
    let ends = Timestamp::parse(&uploaded.field("expiresAt")).unwrap();
    assert_eq!(ends, began.plus(days(800)));
}

#[tokio::test]
async fn an_offer_stays_valid_for_its_timeout_after_prices_changed() {
    let app = TestApp::spawn().await;
    let (product, mut terms) = sold_by_the_year(&app, ProductKind::Token);
    terms.offer.amount = AtomicAmount::from_units(5_000);
    offers::record(
        app.db(),
        &[(product.clone(), terms.clone())],
        app.clock.now(),
    )
    .await
    .unwrap();
    let old_price = |mut payment: Payment| {
        payment.accepted["amount"] = json!("5000");
        payment.authorization.value = U256::from(5_000);
        payment.sign_by(&app.wallet);
        payment
    };
    app.advance(Duration::from_secs(299));
    let payment = old_price(app.sign_for("year").await);
    app.pay(&payment).await.token();
    app.pay(&old_price(app.sign_for("year").await).as_v1())
        .await
        .token();
    let values: Vec<U256> = app
        .transfers()
        .await
        .iter()
        .map(|transfer| transfer.value)
        .collect();
    assert_eq!(values, [U256::from(5_000), U256::from(5_000)]);
    // The old price is valid only for the product that it was offered for.
    let mut elsewhere = old_price(app.sign_for("permanent").await);
    assert_eq!(app.pay(&elsewhere).await.verdict(), invalid());
    elsewhere.resource = payment.resource.clone();
    assert_eq!(app.pay(&elsewhere).await.verdict(), invalid());
    app.advance(Duration::from_secs(32));
    assert_eq!(
        app.pay(&old_price(app.sign_for("year").await))
            .await
            .verdict(),
        invalid()
    );
    // The payment keeps the price at which it was bought.
    app.pay(&payment).await.token();
    assert_eq!(app.transfers().await.len(), 2);
}

#[tokio::test]
async fn a_rejected_token_payment_that_moved_money_is_owed_and_granted() {
    let app = TestApp::spawn().await;
    for found_by_reconciler in [true, false] {
        let payment = app.sign_for("year").await;
        app.facilitator
            .next("settle", Fault::refusal(200, "insufficient_funds"));
        assert_eq!(app.pay(&payment).await.verdict(), failed());
        app.chain
            .execute(&payment.authorization, &payment.signature)
            .await
            .unwrap();
        if found_by_reconciler {
            app.reconcile_until(&payment, "settled").await;
            assert_eq!(owed(&app).await, 1);
            let stranger = payment.copied_from_the_chain();
            assert_eq!(app.pay(&stranger).await.verdict(), known(Some(true)));
            app.advance(LONG);
        }
        let token = app.pay(&payment).await.token();
        assert_eq!(owed(&app).await, 0);
        let uploaded = app.upload_with(&token, pictures::png(8, 8)).await;
        assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    }
    assert_eq!(
        (app.transfers().await.len(), app.facilitator.calls("settle")),
        (2, 2)
    );
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_rejected_upload_that_moved_money_grants_a_token() {
    let app = TestApp::spawn().await;
    let payment = app.sign_at("/api/upload/permanent").await;
    let picture = pictures::png(8, 8);
    app.facilitator
        .next("settle", Fault::refusal(200, "insufficient_funds"));
    assert_eq!(app.pay_with(&payment, &picture).await.verdict(), failed());
    app.chain
        .execute(&payment.authorization, &payment.signature)
        .await
        .unwrap();
    app.reconcile_until(&payment, "settled").await;
    assert_eq!((owed(&app).await, published(&app, &payment).await), (1, 0));
    let token = app.pay_with(&payment, &picture).await.token();
    assert_eq!(app.pay_with(&payment, &picture).await.token(), token);
    let uploaded = app.upload_with(&token, picture.clone()).await;
    assert_eq!(
        (uploaded.status, uploaded.field("tier")),
        (200, "permanent".to_owned())
    );
    assert_eq!(
        app.pay_with(&payment, &picture).await.field("id"),
        uploaded.field("id")
    );
    assert_eq!((owed(&app).await, published(&app, &payment).await), (0, 1));
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_transfer_denied_while_the_node_was_down_is_owed_later() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("permanent").await;
    let stop_node = async {
        app.facilitator.reached("verify", 1).await;
        app.node.node(NodeFault {
            down: true,
            ..NodeFault::default()
        });
    };
    app.facilitator
        .next("settle", Fault::lie(400, "insufficient_funds"));
    let (answer, ()) = tokio::join!(app.pay(&payment), stop_node);
    assert_eq!(answer.verdict(), failed());
    app.node.mend();
    app.reconcile_until(&payment, "settled").await;
    assert_eq!(owed(&app).await, 1);
    app.pay(&payment).await.token();
    assert_eq!((owed(&app).await, app.transfers().await.len()), (0, 1));
}

#[tokio::test]
async fn only_the_chain_proves_payments_of_an_expensive_tier() {
    let app = TestApp::spawn().await;
    let claim = json!({
        "success": true, "transaction": format!("0x{}", "11".repeat(32)), "network": "eip155:84532",
        "payer": app.wallet.address().to_string(),
    });
    app.facilitator
        .always("settle", Fault::Instead(200, claim.to_string()));
    let dear = app.sign_for("permanent").await;
    let picture = pictures::png(8, 8);
    let upload = app.sign_at("/api/upload/permanent").await;
    for _ in 0..2 {
        assert_eq!(app.pay(&dear).await.verdict(), pending());
        assert_eq!(app.pay_with(&upload, &picture).await.verdict(), pending());
        app.advance(Duration::from_secs(10));
        app.reconcile().await;
    }
    assert_eq!(
        (app.transfers().await.len(), published(&app, &upload).await),
        (0, 0)
    );
    app.facilitator.mend();
    app.pay(&dear).await.token();
    assert_eq!(app.pay_with(&upload, &picture).await.status, 200);
    assert_eq!(app.transfers().await.len(), 2);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_cheap_tier_trusts_the_facilitator_and_ledger_check_finds_gaps() {
    let app = TestApp::spawn().await;
    let claim = json!({
        "success": true, "transaction": format!("0x{}", "11".repeat(32)), "network": "eip155:84532",
    });
    app.facilitator
        .next("settle", Fault::Instead(200, claim.to_string()));
    let payment = app.sign_for("year").await;
    app.pay(&payment).await.token();
    assert_eq!(app.transfers().await.len(), 0);
    let report = app.check_ledger().await;
    let missing: Vec<String> = report
        .broken
        .iter()
        .map(|(_, row)| row.row_key.clone())
        .collect();
    assert_eq!(missing, [payment.ledger_id().to_string()]);
}

#[tokio::test]
async fn a_payment_that_was_not_looked_up_is_never_called_uncharged() {
    let app = TestApp::spawn().await;
    let bought = app.sign_for("year").await;
    let token = app.pay(&bought).await.token();
    // Routes that sell nothing: the ledger knows that the payment was charged.
    for path in [
        "/api/upload/token/gold",
        "/api/upload/gold",
        "/api/upload/token/gold?images=2",
    ] {
        let answer = app.pay_at(path, &bought).await;
        assert_eq!(answer.verdict(), known(Some(true)), "{path}");
        let fresh = app.sign_for("year").await;
        let answer = app.pay_at(path, &fresh).await;
        assert_eq!(
            answer.verdict(),
            (404, "unknown_tier".to_owned(), Some(false)),
            "{path}"
        );
        app.pay(&fresh).await.token();
    }
    // No tier can have these names.
    for path in [
        "/api/upload/token/Year",
        "/api/upload/gold_1",
        "/api/upload/token/*year",
    ] {
        assert_eq!(app.pay_at(path, &bought).await.verdict(), known(None));
        let fresh = app.sign_for("year").await;
        assert_eq!(app.pay_at(path, &fresh).await.charged(), Some(false));
    }
    // A missing route, or a method that the route doesn't have.
    let headers = bought.headers();
    for (method, path) in [
        ("POST", "/api/upload/token/"),
        ("PUT", "/api/upload/token/year"),
    ] {
        let answer = app.send(method, path, &headers, "").await;
        assert_eq!(answer.charged(), None, "{method} {path}");
        assert_eq!(answer.header("allow").is_some(), answer.status == 405);
    }
    // Rejected before the ledger was asked.
    let answer = app.pay_at("/api/upload/token/year?images=0", &bought).await;
    assert_eq!(
        answer.verdict(),
        (400, "invalid_parameter".to_owned(), None)
    );
    let off = TestApp::builder().without_facilitator().spawn().await;
    let answer = off.pay_at("/api/upload/token/year", &bought).await;
    assert_eq!(
        answer.verdict(),
        (503, "payments_disabled".to_owned(), None)
    );
    assert_eq!(off.post("/api/upload/token").await.charged(), Some(false));
    assert_eq!(app.pay(&bought).await.token(), token);
    assert_eq!(app.transfers().await.len(), 4);
}
