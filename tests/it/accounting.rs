//! The operator's bookkeeping: statistics, the export of the ledger, and refunds, as commands beside
//! a server.

use std::collections::BTreeMap;

use alloy_primitives::{B256, Bytes, U256};
use futures_util::stream::{self, StreamExt};
use pixtoll::db::recovery::{self, Recovery};
use pixtoll::db::settlements::NewGrant;
use pixtoll::evm::exact::Authorization;
use pixtoll::model::client_kind::ClientKind;
use pixtoll::model::payment::{
    Event, Payment as Row, PaymentId, PaymentState, Product, ProductKind, Terms, Transfer,
    UNKNOWN_DIGEST, transition,
};
use pixtoll::pricing::money::AtomicAmount;
use pixtoll::pricing::networks::BASE_SEPOLIA;
use pixtoll::pricing::tiers::Keep;
use pixtoll::system::clock::{Clock, Timestamp};
use pixtoll::system::random::Randomness;
use pixtoll::x402::wire::{Offer, Version};
use serde_json::{Value, json};

use crate::removal::with_admin;
use crate::support::database::{execute, number, texts};
use crate::support::process::eventually;
use crate::support::{Answer, Payment, TestApp, pictures, signing};

/// Runs a command on the app's database, as an operator does. Returns its exit code, its output and
/// what it says on standard error.
async fn pixtoll(app: &TestApp, args: &[&str]) -> (i32, String, String) {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_pixtoll"))
        .env_clear()
        .current_dir(app.folder())
        .env("PIXTOLL_DATABASE__URL", app.database_url())
        .env("PIXTOLL_SECRETS__KEY", "42".repeat(32))
        .env("PIXTOLL_MONEY__FACILITATOR_FEE", "0.001")
        .env("PIXTOLL_MONEY__FREE_SETTLEMENTS", "1")
        .args(args)
        .arg("--sandbox")
        .output()
        .await
        .unwrap();
    let [out, log] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code().unwrap(), out, log)
}

/// Random payments that the chain moved, as the ledger records them.
struct Sales {
    /// What the chain moved in each month, in atomic units, and in how many transfers.
    by_month: BTreeMap<String, (U256, usize)>,
    rows: Vec<(Row, Transfer)>,
}

/// Moves random amounts on the chain, at random times in three months.
async fn random_sales(app: &TestApp, number: u32) -> Sales {
    let randomness = Randomness::seeded(11);
    let pay_to = app.app.checkout.as_ref().unwrap().catalog.pay_to();
    let begins = Timestamp::parse("2026-12-31T00:00:00Z").unwrap();
    let mut sales = Sales {
        by_month: BTreeMap::new(),
        rows: Vec::new(),
    };
    for count in 0..number {
        // Each account has 100 USDC.
        let payer = signing::wallet(1 + u8::try_from(count % 250).unwrap()).address();
        let units = 1 + randomness.number() % 4_000_000;
        let millis = i64::try_from(randomness.number() % (33 * 86_400_000)).unwrap();
        let at = Timestamp::from_millis(begins.millis() + millis);
        let sent = app.chain.send(payer, pay_to, U256::from(units));
        let transaction = sent.await.unwrap();
        let month = at.to_string().chars().take(7).collect();
        let of = sales.by_month.entry(month).or_default();
        *of = (of.0 + U256::from(units), of.1 + 1);
        let amount = AtomicAmount::from_units(u128::from(units));
        let nonce = B256::from(randomness.bytes::<32>());
        let authorization = Authorization {
            from: payer,
            to: pay_to,
            value: amount.as_u256(),
            valid_after: U256::ZERO,
            valid_before: U256::from(2_000_000_000),
            nonce,
        };
        let row = Row {
            id: PaymentId::of(&BASE_SEPOLIA, payer, nonce),
            authorization,
            digest: UNKNOWN_DIGEST,
            signature: Bytes::new(),
            state: PaymentState::Received,
            attempt: 1,
            lease_until: Timestamp::from_millis(0),
            product: Product {
                kind: ProductKind::Token,
                tier: if units.is_multiple_of(2) {
                    "year"
                } else {
                    "-cheap"
                }
                .to_owned(),
                uses: 1,
                target: None,
                days: None,
            },
            terms: Terms {
                offer: Offer {
                    network: &BASE_SEPOLIA,
                    amount,
                    pay_to,
                    max_timeout_seconds: 300,
                },
                keep: Keep::Forever,
                max_bytes: 1,
                confirmations: 0,
            },
            version: Version::V2,
            client: ClientKind::Other,
            request: String::new(),
            body_sha256: None,
            image_id: None,
            reason: None,
            first_seen: at,
            first_block: 0,
            transaction: Some(transaction),
            settled_at: Some(at),
            next_look: None,
            looks: 0,
            missing: None,
            voided_at: None,
        };
        let transfer = Transfer {
            transaction,
            log_index: Some(0),
        };
        sales.rows.push((row, transfer));
    }
    sales
}

async fn record(app: &TestApp, sales: &[(Row, Transfer)]) {
    let inserted = sales.iter().map(async |(payment, transfer)| {
        let recovery = Recovery {
            payment,
            facilitator: "unknown",
            step: transition(payment.state, Event::ChainPaid).unwrap(),
            transfer: *transfer,
            grant: NewGrant {
                token_hash: payment.id.to_string(),
                token_expires: payment.first_seen,
            },
            owed: "a test",
            next_look: payment.first_seen,
            now: payment.first_seen,
        };
        assert!(recovery::insert(app.db(), &recovery).await.unwrap());
    });
    // Not all at once: they would wait for a connection longer than one waits.
    stream::iter(inserted)
        .buffer_unordered(16)
        .collect::<()>()
        .await;
    execute(app.db(), "UPDATE payments SET owed = NULL").await;
}

/// The rows of an export as CSV, each with its fields by their names.
fn rows(text: &str) -> Vec<BTreeMap<&str, &str>> {
    let mut lines = text.split_terminator("\r\n");
    let heading: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            assert_eq!(fields.len(), heading.len(), "{line}");
            heading.iter().copied().zip(fields).collect()
        })
        .collect()
}

fn sum<'a>(numbers: impl Iterator<Item = &'a str>) -> U256 {
    numbers.fold(U256::ZERO, |sum, text| sum + text.parse::<U256>().unwrap())
}

#[tokio::test]
async fn the_export_of_5000_random_payments_equals_the_chain() {
    let app = TestApp::spawn().await;
    let sales = random_sales(&app, 5_000).await;
    record(&app, &sales.rows).await;
    assert_eq!(sales.by_month.len(), 3);
    let chain = app.transfers().await;
    let moved = chain
        .iter()
        .fold(U256::ZERO, |sum, transfer| sum + transfer.value);
    let mut exported = U256::ZERO;
    for (month, (expected, number)) in &sales.by_month {
        let (code, text, told) =
            pixtoll(&app, &["ledger", "export", "--month", month, "--csv"]).await;
        assert_eq!(code, 0, "{told}");
        let rows = rows(&text);
        assert_eq!(rows.len(), *number, "{month}");
        let gross = sum(rows.iter().map(|row| row["gross_atomic"]));
        assert_eq!(gross, *expected, "{month}");
        assert!(told.contains(&format!("{number} payments for ")), "{told}");
        assert!(
            told.contains(&format!(" {expected} atomic units")),
            "{told}"
        );
        exported += gross;
        // Each row is one transfer of the chain, once, in the order of settlement.
        assert!(rows.is_sorted_by_key(|row| (row["time"], row["id"])));
        for row in &rows {
            assert!(row["time"].starts_with(month.as_str()), "{row:?}");
            assert!(["year", "\"'-cheap\""].contains(&row["tier"]), "{row:?}");
            let decimal = AtomicAmount::from_decimal_usd(row["gross"]).unwrap();
            assert_eq!(decimal.to_string(), row["gross_atomic"]);
        }
        let (code, json, _) =
            pixtoll(&app, &["ledger", "export", "--month", month, "--json"]).await;
        assert_eq!(code, 0);
        let json: Value = serde_json::from_str(&json).unwrap();
        let payments = json["payments"].as_array().unwrap();
        assert_eq!(payments.len(), *number);
        let of_json = sum(payments
            .iter()
            .map(|row| row["grossAtomic"].as_str().unwrap()));
        assert_eq!(of_json, *expected);
        assert_eq!(json["totals"]["grossAtomic"], expected.to_string());
    }
    assert_eq!(exported, moved);
    assert_eq!(app.check_ledger().await.settled_sum, exported);
    let (_, text, told) = pixtoll(&app, &["ledger", "export", "--month", "2027-03", "--csv"]).await;
    assert_eq!(rows(&text).len(), 0);
    assert!(told.contains("0 payments for 0.00 USDC"), "{told}");
}

/// Buys a token over HTTP, and lets the auditor see its transfer.
async fn bought(app: &TestApp) -> (Payment, String) {
    let payment = app.sign_for("year").await;
    let token = app.pay(&payment).await.token();
    (payment, token)
}

#[tokio::test]
async fn an_export_has_fees_values_and_receipts() {
    let app = TestApp::spawn().await;
    let (_, token) = bought(&app).await;
    let image = app
        .upload_with(&token, pictures::png(6, 6))
        .await
        .field("id");
    app.advance(std::time::Duration::from_secs(86_400));
    let (second, _) = bought(&app).await;
    let month = "2027-01";
    let file = app.folder().join("rates.csv");
    std::fs::write(&file, "date,EUR\n2027-01-01,0.9\n2027-01-16,0.915\n").unwrap();
    let rates = ["--rates", "rates.csv", "--currency", "EUR"];
    let csv = [&["ledger", "export", "--month", month, "--csv"], &rates[..]].concat();
    let (code, text, told) = pixtoll(&app, &csv).await;
    assert_eq!(code, 0, "{told}");
    let rows = rows(&text);
    assert_eq!(rows.len(), 2);
    let fields = |name: &str| rows.iter().map(|row| row[name]).collect::<Vec<_>>();
    // One settlement of the month is free.
    assert_eq!(fields("facilitator_fee"), ["0.00", "0.001"]);
    assert_eq!(fields("net"), ["0.01", "0.009"]);
    assert_eq!(fields("fiat_rate"), ["0.90", "0.915"]);
    assert_eq!(fields("fiat_gross"), ["0.009", "0.00915"]);
    assert_eq!(fields("fiat_currency"), ["EUR", "EUR"]);
    assert_eq!(fields("receipt_ids"), [image.as_str(), ""]);
    assert_eq!(fields("product"), ["token", "token"]);
    assert_eq!(fields("id")[1], second.ledger_id().as_str());
    assert_eq!(fields("payer")[1], app.wallet.address().to_string());
    assert_eq!(fields("network"), ["eip155:84532", "eip155:84532"]);
    let transfers = app.transfers().await;
    let paid: Vec<String> = transfers
        .iter()
        .map(|it| it.transaction.to_string())
        .collect();
    assert_eq!(fields("transaction"), paid);
    assert!(
        told.contains("(0.01815 EUR); fees 0.001, net 0.019"),
        "{told}"
    );
    // A file is written once, for its owner only.
    let to_file = [&csv[..], &["--out", "books.csv"]].concat();
    assert_eq!(pixtoll(&app, &to_file).await.0, 0);
    let books = app.folder().join("books.csv");
    assert_eq!(std::fs::read_to_string(&books).unwrap(), text);
    let mode = std::os::unix::fs::PermissionsExt::mode(&books.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let (code, _, told) = pixtoll(&app, &to_file).await;
    assert_eq!(code, 1, "{told}");
    // A day without a rate ends the export.
    std::fs::write(&file, "2027-01-16,0.9\n").unwrap();
    let (code, _, told) = pixtoll(&app, &csv).await;
    assert_eq!(code, 1);
    assert!(told.contains("there is no rate for 2027-01-15"), "{told}");
    for wrong in [
        &["--month", "2027-13", "--csv"][..],
        &["--month", month],
        &["--month", month, "--csv", "--rate", "1"],
        &[
            "--month",
            month,
            "--csv",
            "--rate",
            "-1",
            "--currency",
            "EUR",
        ],
    ] {
        let args = [&["ledger", "export"], wrong].concat();
        assert_eq!(pixtoll(&app, &args).await.0, 2, "{wrong:?}");
    }
}

/// Sends the amount of a payment to its payer, as the operator does, from an account of their own.
pub(crate) async fn repay(app: &TestApp, payment: &Payment, value: u64) -> B256 {
    let operator = signing::wallet(200).address();
    let to = payment.authorization.from;
    app.chain
        .send(operator, to, U256::from(value))
        .await
        .unwrap()
}

pub(crate) async fn refund(app: &TestApp, payment: &Payment, more: &[&str]) -> (i32, String) {
    let id = payment.ledger_id();
    let args = [&["ledger", "refund", id.as_str()], more].concat();
    let (code, out, log) = pixtoll(app, &args).await;
    (code, format!("{out}{log}"))
}

fn resolved(answer: &Answer) {
    let expected = (409, "payment_resolved".to_owned(), Some(true));
    assert_eq!(answer.verdict(), expected, "{}", answer.text());
}

#[tokio::test]
async fn a_refund_is_proved_on_the_chain_and_takes_the_goods_back() {
    let app = TestApp::spawn().await;
    let before = repay_before(&app).await;
    let payment = app.sign_at("/api/upload/token/year?images=3").await;
    let token = app.pay(&payment).await.token();
    let uploaded = app.upload_with(&token, pictures::png(7, 7)).await;
    let url = uploaded.field("url");
    // The transfer is printed, and what the payment bought stays for now.
    let (code, text) = refund(&app, &payment, &["--reason", "wrong picture"]).await;
    assert_eq!(code, 0, "{text}");
    let payer = payment.authorization.from;
    for part in [
        format!("to        {payer}"),
        "amount    0.03 USDC (30000 atomic units)".to_owned(),
        format!(
            "link      ethereum:{}@84532/transfer?address={payer}&uint256=30000",
            BASE_SEPOLIA.usdc
        ),
        "calldata  0xa9059cbb".to_owned(),
        "reason    wrong picture".to_owned(),
    ] {
        assert!(text.contains(&part), "{part} is not in {text}");
    }
    assert_eq!(app.get(&url).await.status, 200);
    let (_, owed, _) = pixtoll(&app, &["ledger", "owed"]).await;
    assert!(owed.contains("1 refunds are due"), "{owed}");
    // What does not repay the payer is refused.
    let own = app.transfers().await.last().unwrap().transaction;
    let short = repay(&app, &payment, 29_999).await;
    let elsewhere = app.chain.send(
        signing::wallet(200).address(),
        signing::wallet(201).address(),
        U256::from(30_000),
    );
    let to_itself = app.chain.send(payer, payer, U256::from(30_000));
    for (transaction, why) in [
        (before, "the transfer is older than the payment"),
        (own, "no transfer of at least 30000"),
        (short, "no transfer of at least 30000"),
        (elsewhere.await.unwrap(), "no transfer of at least 30000"),
        (to_itself.await.unwrap(), "no transfer of at least 30000"),
        (B256::repeat_byte(5), "does not show this transaction"),
    ] {
        let (code, text) =
            refund(&app, &payment, &["--transaction", &transaction.to_string()]).await;
        assert_eq!(code, 1, "{text}");
        assert!(text.contains(why), "{why} is not in {text}");
    }
    assert_eq!(app.get(&url).await.status, 200);
    // The transfer closes the refund, once, however many operators record it.
    let made = repay(&app, &payment, 30_000).await.to_string();
    let proof = ["--transaction", made.as_str()];
    let both = tokio::join!(
        refund(&app, &payment, &proof),
        refund(&app, &payment, &proof)
    );
    let mut codes = [both.0.0, both.1.0];
    codes.sort_unstable();
    assert_eq!(codes, [0, 1], "{both:?}");
    let (code, text) = refund(&app, &payment, &proof).await;
    assert_eq!(code, 1);
    assert!(text.contains("was refunded already"), "{text}");
    assert_eq!(refund(&app, &payment, &["--cancel"]).await.0, 1);
    // Nothing is left of what it bought.
    resolved(&app.upload_with(&token, pictures::png(8, 8)).await);
    resolved(&app.pay(&payment).await);
    eventually("the image to be gone", async || {
        (app.get(&url).await.status == 404).then_some(())
    })
    .await;
    // The same transfer repays no other payment.
    app.advance(std::time::Duration::from_secs(1));
    let (other, _) = bought(&app).await;
    let (code, text) = refund(&app, &other, &proof).await;
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("is older than the payment") || text.contains("made another refund"),
        "{text}"
    );
    assert_eq!(refund(&app, &other, &["--cancel"]).await.0, 0);
    // The books say so.
    let (code, text, log) = pixtoll(&app, &["ledger", "check"]).await;
    assert_eq!(code, 0, "{text}{log}");
    assert!(
        text.contains("2 payments settled for 40000 atomic units"),
        "{text}"
    );
    assert!(
        text.contains("1 payments are refunded for 30000 atomic units; 0 refunds"),
        "{text}"
    );
    let (_, text, _) = pixtoll(&app, &["ledger", "export", "--month", "2027-01", "--csv"]).await;
    let rows = rows(&text);
    let states: Vec<&str> = rows.iter().map(|row| row["state"]).collect();
    assert_eq!(states, ["refunded", "settled"]);
    assert_eq!(rows[0]["refunded"], "0.03");
    assert_eq!(rows[0]["refund_transaction"], made);
    let (_, shown, _) = pixtoll(&app, &["ledger", "show", payment.ledger_id().as_str()]).await;
    assert!(
        shown.contains(&format!("refund       made in {made}")),
        "{shown}"
    );
    let acts = texts(
        app.db(),
        "SELECT act || ' ' || subject FROM admin_log ORDER BY number",
    )
    .await;
    let act = |payment: &Payment| format!("refund {}", payment.ledger_id());
    assert_eq!(
        acts,
        [act(&payment), act(&payment), act(&other), act(&other)]
    );
}

/// A transfer to the test's payer that is older than every payment.
async fn repay_before(app: &TestApp) -> B256 {
    let operator = signing::wallet(200).address();
    let to = app.wallet.address();
    app.chain
        .send(operator, to, U256::from(30_000))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_payer_may_keep_the_goods_and_an_image_that_another_payment_renewed_stays() {
    let app = TestApp::spawn().await;
    // The goods stay.
    let (kept, token) = bought(&app).await;
    assert_eq!(refund(&app, &kept, &["--keep-goods"]).await.0, 0);
    let (code, text) = refund(&app, &kept, &[]).await;
    assert_eq!(code, 0);
    assert!(text.contains("The payer keeps what was bought"), "{text}");
    let made = repay(&app, &kept, 10_000).await.to_string();
    assert_eq!(refund(&app, &kept, &["--transaction", &made]).await.0, 0);
    let stays = app.upload_with(&token, pictures::png(6, 6)).await;
    assert_eq!(stays.status, 200, "{}", stays.text());
    // A payment that is refunded with its goods leaves what somebody else paid for.
    let (uploaded, token) = bought(&app).await;
    let image = app.upload_with(&token, pictures::png(7, 7)).await;
    let path = format!("/api/images/{}/renew", image.field("id"));
    let renewal = app.sign_by(&path, &signing::wallet(7)).await;
    assert_eq!(app.pay(&renewal).await.status, 200);
    assert_eq!(refund(&app, &uploaded, &[]).await.0, 0);
    let (code, text) = refund(&app, &uploaded, &["--keep-goods"]).await;
    assert_eq!(code, 1);
    assert!(text.contains("takes the goods back"), "{text}");
    let made = repay(&app, &uploaded, 10_000).await.to_string();
    let (code, text) = refund(&app, &uploaded, &["--transaction", &made]).await;
    assert_eq!(code, 0, "{text}");
    assert!(!text.contains("is not served any more"), "{text}");
    assert_eq!(app.get(&image.field("url")).await.status, 200);
    // The refund of the renewal takes its time back.
    let with_renewal = app.get(&format!("/api/images/{}", image.field("id"))).await;
    let made = repay(&app, &renewal, 10_000).await.to_string();
    let (code, text) = refund(&app, &renewal, &["--transaction", &made]).await;
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("the time of its renewal is taken back"),
        "{text}"
    );
    let without = app.get(&format!("/api/images/{}", image.field("id"))).await;
    assert!(without.field("expiresAt") < with_renewal.field("expiresAt"));
    // What moved no money is not refunded.
    let rejected = app.sign_for("year").await;
    let (code, text) = refund(&app, &rejected, &[]).await;
    assert_eq!(code, 1);
    assert!(text.contains("no payment has the ledger id"), "{text}");
    let report = app.check_ledger().await;
    assert!(report.is_balanced(), "{:?}", report.broken);
    assert_eq!((report.refunds.made, report.refunds.due), (3, 0));
    // Refunds that the chain forgets are found.
    let forged = format!("0x{}", "ab".repeat(32));
    let sql = format!("UPDATE refunds SET transaction_hash = '{forged}' WHERE keeps_goods = 1");
    assert_eq!(execute(app.db(), &sql).await, 1);
    let broken = app.check_ledger().await.broken;
    assert_eq!(broken.len(), 1);
    assert_eq!(broken[0].0, "every refund is a transfer on the chain");
}

#[tokio::test]
async fn a_removed_image_stays_removed_when_its_payment_is_refunded() {
    let app = with_admin().spawn().await;
    let remove_and_refund = async |side: u32, more: &[&str]| {
        let (payment, token) = bought(&app).await;
        let image = app.upload_with(&token, pictures::png(side, side)).await;
        let id = image.field("id");
        app.acted(&id, "remove", json!({})).await;
        assert_eq!(refund(&app, &payment, more).await.0, 0);
        let made = repay(&app, &payment, 10_000).await.to_string();
        let (code, text) = refund(&app, &payment, &["--transaction", &made]).await;
        assert_eq!(code, 0, "{text}");
        app.advance(std::time::Duration::from_secs(1));
        (id, image.field("url"))
    };
    let (id, url) = remove_and_refund(7, &[]).await;
    let refused = app.act(&id, "restore", json!({})).await;
    assert_eq!(
        (refused.status, refused.error()),
        (409, "payment_refunded".to_owned())
    );
    assert!(
        refused.text().contains("its payment was refunded"),
        "{}",
        refused.text()
    );
    app.acted(&id, "hold", json!({})).await;
    let release = json!({"fate": "restore", "early": true});
    let refused = app.act(&id, "release", release).await;
    assert_eq!(refused.error(), "payment_refunded");
    assert_eq!(app.get(&url).await.status, 404);
    let report = app.check_ledger().await;
    assert!(report.is_balanced(), "{:?}", report.broken);
    // The payer kept this one.
    let (id, url) = remove_and_refund(8, &["--keep-goods"]).await;
    app.acted(&id, "restore", json!({})).await;
    assert_eq!(app.get(&url).await.status, 200);
    let report = app.check_ledger().await;
    assert!(report.is_balanced(), "{:?}", report.broken);
}

#[tokio::test]
async fn statistics_count_the_funnel_by_kind_of_client_and_keep_no_user_agent() {
    let app = TestApp::spawn().await;
    let challenge = async |agent: &str| {
        let headers = [("User-Agent", agent)];
        let answer = app
            .send("POST", "/api/upload/token/year", &headers, "")
            .await;
        assert_eq!(answer.status, 402);
        answer
    };
    // The first comes from the router, the others from memory.
    for agent in [
        "curl/8.5.0 canary",
        "curl/8.5.0 canary",
        "python-requests/2 canary",
        "Lynx canary",
    ] {
        challenge(agent).await;
    }
    let answer = challenge("node canary").await;
    let path = "/api/upload/token/year";
    let payment = Payment::answering(&answer, path, &app.wallet, app.clock.now());
    let mut headers = payment.headers();
    headers.push(("User-Agent", "node canary".to_owned()));
    // Only the first of them is new.
    let paid = app.send("POST", path, &headers, "").await;
    let again = app.send("POST", path, &headers, "").await;
    assert_eq!(paid.token(), again.token());
    let image = app.upload_with(&paid.token(), pictures::png(6, 6)).await;
    let bytes = image.json()["sizeBytes"].as_u64().unwrap();
    assert_eq!(app.upload_free(pictures::png(5, 5)).await.status, 200);
    app.app.funnel.record().await;
    app.app.funnel.record().await;
    // Another server of the deployment adds to the same counts.
    let (db, clock) = (app.db().clone(), std::sync::Arc::new(app.clock.clone()));
    let second = pixtoll::accounting::funnel::Funnel::new(db, clock);
    second.of("year").add(
        pixtoll::accounting::funnel::Stage::Challenged,
        ClientKind::Curl,
    );
    second.record().await;

    let stats = pixtoll::accounting::stats::Stats::load(app.db(), 7, app.clock.now());
    let stats = serde_json::to_value(stats.await.unwrap()).unwrap();
    let funnel: Vec<(&str, [i64; 4])> = stats["funnel"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            assert_eq!(row["tier"], "year");
            let counts = ["challenged", "presented", "settled", "delivered"];
            (
                row["client"].as_str().unwrap(),
                counts.map(|name| row[name].as_i64().unwrap()),
            )
        })
        .collect();
    assert_eq!(
        funnel,
        [
            ("curl", [3, 0, 0, 0]),
            ("node", [1, 1, 1, 1]),
            ("other", [1, 0, 0, 0]),
            ("python", [1, 0, 0, 0]),
        ]
    );
    let year = stats["tiers"].as_array().unwrap();
    let year = year.iter().find(|row| row["tier"] == "year").unwrap();
    assert_eq!(
        (&year["uploads"], &year["bytes"]),
        (&1.into(), &bytes.into())
    );
    assert_eq!(
        (&year["payments"], &year["revenue"]),
        (&1.into(), &"0.01".into())
    );
    assert_eq!(stats["days"].as_array().unwrap().len(), 2);
    assert_eq!(stats["days"][0]["day"], "2027-01-15");
    assert_eq!(stats["storage"][0]["tier"], "free");
    assert_eq!(stats["storage"][0]["live"], 1);
    assert_eq!(stats["storage"][0]["dueInAWeek"], 1);
    assert_eq!(stats["waiting"]["owed"], 0);
    // Everything is older than one day, so only what is stored now is left.
    app.advance(std::time::Duration::from_secs(8 * 86_400));
    let later = pixtoll::accounting::stats::Stats::load(app.db(), 1, app.clock.now());
    let later = serde_json::to_value(later.await.unwrap()).unwrap();
    assert_eq!(later["funnel"], serde_json::json!([]));
    assert_eq!(later["days"], serde_json::json!([]));
    assert_eq!(later["storage"][0]["overdue"], 1);
    let (code, text, log) = pixtoll(&app, &["stats", "--days", "1100"]).await;
    assert_eq!(code, 0, "{log}");
    assert!(text.contains("Sales funnel"), "{text}");
    let (code, json, _) = pixtoll(&app, &["stats", "--json", "--days", "1100"]).await;
    assert_eq!(code, 0);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json["storage"].as_array().unwrap().len() == 2, "{json}");
    // The canary is in no row of the counts or of the ledger.
    for (table, column) in [
        ("funnel", "client"),
        ("funnel", "tier"),
        ("payments", "client"),
        ("payments", "request"),
    ] {
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE {column} LIKE '%canary%'");
        assert_eq!(number(app.db(), &sql).await, 0, "{table}.{column}");
    }
    assert_eq!(
        texts(app.db(), "SELECT client FROM payments").await,
        ["node"]
    );
}
