//! `pixtoll ledger`: a correct ledger balances, each broken rule is found and reported, and an
//! operator can list and resolve owed goods.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy_primitives::U256;
use pixtoll::db::{Db, audit, statements};

use crate::support::database::{execute, texts};
use crate::support::proxy::Fault;
use crate::support::{Payment, TestApp, pictures, signing};

/// Runs the command on the app's database, as an operator does. Returns its exit code and its
/// output.
async fn pixtoll(app: &TestApp, args: &[&str]) -> (i32, String) {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_pixtoll"))
        .env_clear()
        .current_dir(app.folder())
        .env("PIXTOLL_DATABASE__URL", app.database_url())
        .env("PIXTOLL_SECRETS__KEY", "42".repeat(32))
        .args(["ledger", "--sandbox"])
        .args(args)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), format!("{text}{log}"))
}

/// The payments of a correct ledger, by name.
struct Ledger {
    app: TestApp,
    /// A token that was not used.
    token: String,
    /// Another token, with an idempotency key, that published an image.
    used: String,
    used_image: String,
    /// An upload that was paid directly.
    upload: String,
    upload_image: String,
    /// A payment of an expensive tier, which the chain proved.
    dear: String,
    /// A payment that is not verified yet.
    received: String,
    rejected: String,
    free_image: String,
}

async fn pay(app: &TestApp, payment: &Payment) -> String {
    let paid = app.pay(payment).await;
    assert_eq!(paid.status, 200, "{}", paid.text());
    payment.ledger_id().to_string()
}

/// Builds the ledger over HTTP.
async fn good_ledger() -> Ledger {
    let app = TestApp::builder().today().spawn().await;
    let token = pay(&app, &app.sign_for("year").await).await;
    let with_id = app.sign_for("year").await.with_id("an-id-of-16-chars");
    let used = pay(&app, &with_id).await;
    let secret = app.pay(&with_id).await.token();
    let used_image = app
        .upload_with(&secret, pictures::png(8, 8))
        .await
        .field("id");
    let direct = app.sign_at("/api/upload/year").await;
    let uploaded = app.pay_with(&direct, &pictures::png(9, 9)).await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    let dear = pay(&app, &app.sign_for("permanent").await).await;
    let waiting = app.sign_for("year").await;
    app.facilitator
        .always("verify", Fault::Instead(503, String::new()));
    assert_eq!(app.pay(&waiting).await.status, 503);
    app.facilitator.mend();
    let bad = app.sign_for("year").await;
    let refusal = r#"{"isValid": false, "invalidReason": "invalid_payload"}"#;
    app.facilitator
        .next("verify", Fault::Instead(200, refusal.to_owned()));
    assert_eq!(app.pay(&bad).await.status, 402);
    let free_image = app.upload_free(pictures::png(7, 7)).await.field("id");
    Ledger {
        token,
        used,
        used_image,
        upload: direct.ledger_id().to_string(),
        upload_image: uploaded.field("id"),
        dear,
        received: waiting.ledger_id().to_string(),
        rejected: bad.ledger_id().to_string(),
        free_image,
        app,
    }
}

/// A way to break one rule.
struct Case {
    rule: &'static str,
    /// The key that the command has to report.
    key: String,
    /// The table that is broken, and then restored from a copy.
    table: &'static str,
    sql: Vec<String>,
}

fn case(rule: &'static str, key: &str, table: &'static str, sql: &str) -> Case {
    Case {
        rule,
        key: key.to_owned(),
        table,
        sql: vec![sql.to_owned()],
    }
}

/// Sets columns of one payment.
fn of_payment(rule: &'static str, key: &str, set: &str) -> Case {
    let sql = format!("UPDATE payments SET {set} WHERE id = '{key}'");
    case(rule, key, "payments", &sql)
}

/// Sets columns of one grant.
fn of_grant(rule: &'static str, key: &str, set: &str) -> Case {
    let sql = format!("UPDATE grants SET {set} WHERE payment_id = '{key}'");
    case(rule, key, "grants", &sql)
}

fn of_image(rule: &'static str, key: &str, set: &str) -> Case {
    let sql = format!("UPDATE images SET {set} WHERE id = '{key}'");
    case(rule, key, "images", &sql)
}

fn cases_of_grants(ledger: &Ledger) -> Vec<Case> {
    vec![
        case(
            "every settled payment has exactly one grant",
            &ledger.token,
            "grants",
            &format!("DELETE FROM grants WHERE payment_id = '{}'", ledger.token),
        ),
        of_payment(
            "every grant belongs to a settled payment",
            &ledger.token,
            "state = 'failed'",
        ),
        of_grant(
            "a grant's use count matches its published images and its renewal",
            &ledger.token,
            "used = 1",
        ),
        Case {
            rule: "every renewal belongs to exactly one grant of kind renewal",
            key: ledger.token.clone(),
            table: "renewals",
            sql: vec![
                format!(
                    "UPDATE grants SET used = 1 WHERE payment_id = '{}'",
                    ledger.token
                ),
                format!(
                    "INSERT INTO renewals (payment_id, image_id, from_ms, from_tier, to_tier, renewed_ms) \
                     VALUES ('{}', '{}', 1, 'free', 'year', 1)",
                    ledger.token, ledger.free_image
                ),
            ],
        },
        of_payment(
            "exactly the payments for renewals name an image to renew",
            &ledger.token,
            "target = 'neverexisted'",
        ),
        of_payment(
            "exactly the payments for links say for how many days",
            &ledger.rejected,
            "days = 7",
        ),
        of_image(
            "an image is held for each of its open renewals, and for no other",
            &ledger.free_image,
            "renewing = 1",
        ),
        of_grant(
            "a grant has the terms of its payment",
            &ledger.token,
            "max_bytes = max_bytes + 1",
        ),
        of_grant(
            "a token is derived from its payment",
            &ledger.token,
            "token_hash = 'another'",
        ),
        of_image(
            "every paid image names exactly one grant",
            &ledger.free_image,
            &format!(
                "payment_id = '{0}', owner = (SELECT payer FROM payments WHERE id = '{0}'), \
                 owner_network = (SELECT network FROM payments WHERE id = '{0}')",
                ledger.rejected
            ),
        ),
        of_image(
            "a paid image belongs to its payer",
            &ledger.used_image,
            "owner = '0x0000000000000000000000000000000000000000'",
        ),
        of_image(
            "a paid image belongs to its payer",
            &ledger.used_image,
            "owner_network = NULL",
        ),
        of_image(
            "exactly the images that are or were public have a publication time",
            &ledger.used_image,
            "state = 'discarded'",
        ),
        of_image(
            "a paid image keeps to the tier and size of its grant",
            &ledger.used_image,
            "tier = 'permanent'",
        ),
    ]
}

fn cases_of_payments(ledger: &Ledger) -> Vec<Case> {
    let free = &ledger.free_image;
    vec![
        of_payment(
            "a settled payment names its transaction",
            &ledger.token,
            "proven_by = NULL",
        ),
        of_payment(
            "no payment is open beyond its deadline",
            &ledger.received,
            "valid_before = '1000'",
        ),
        of_payment(
            "an open payment has a time for its next check",
            &ledger.received,
            "next_look_ms = NULL",
        ),
        of_payment(
            "every state is one that pixtoll writes",
            &ledger.received,
            "state = 'paid'",
        ),
        of_payment(
            "a payment is one that pixtoll wrote",
            &ledger.received,
            "digest = 'x'",
        ),
        of_payment(
            "a payment is one that pixtoll wrote",
            &ledger.token,
            "x402_version = 3",
        ),
        of_payment(
            "the image of a payment was made by that payment",
            &ledger.upload,
            &format!("image_id = '{free}'"),
        ),
        of_payment(
            "goods are owed for settled payments only",
            &ledger.rejected,
            "owed = 'x'",
        ),
        of_payment(
            "a facilitator's word proves only payments that it was asked to settle and that need no confirmation",
            &ledger.dear,
            "proven_by = 'facilitator'",
        ),
        of_payment(
            "a facilitator's word proves only payments that it was asked to settle and that need no confirmation",
            &ledger.token,
            "settle_called_ms = NULL",
        ),
        of_payment(
            "a payment that the chain proved names its transfer's log",
            &ledger.dear,
            "log_index = NULL",
        ),
        of_payment(
            "a settled upload is bound to the hash of its bytes",
            &ledger.upload,
            "body_sha256 = NULL",
        ),
        of_payment(
            "a settled payment is what its payer signed",
            &ledger.token,
            "valid_before = '1900000000'",
        ),
        of_payment(
            "a settled payment is what its payer signed",
            &ledger.used,
            "pay_to = '0x0000000000000000000000000000000000000001'",
        ),
    ]
}

fn cases_of_the_auditor(ledger: &Ledger) -> Vec<Case> {
    let (token, image) = (&ledger.token, &ledger.used_image);
    let voided = "voided_ms = 1, void_note = 'gone'";
    let grant = format!("UPDATE grants SET voided_ms = 1 WHERE payment_id = '{token}'");
    let mut of_void = of_payment(
        "a voided payment moved no money, or the operator made up for it",
        token,
        voided,
    );
    of_void.sql.push(grant.clone());
    let mut of_image = of_payment(
        "a voided payment has no public image",
        &ledger.used,
        &format!("{voided}, missing_reason = 'transfer_missing'"),
    );
    of_image.sql.push(format!(
        "UPDATE grants SET voided_ms = 1 WHERE payment_id = '{}'",
        ledger.used
    ));
    assert!(!image.is_empty());
    let whole = "exactly settled payments are voided, each with a note and with its grant";
    let mut without_note = of_payment(
        whole,
        token,
        "voided_ms = 1, missing_reason = 'transfer_missing'",
    );
    without_note.sql.push(grant);
    vec![
        of_payment(
            "the chain shows the transfer of a settled payment",
            token,
            "missing_reason = 'transfer_missing'",
        ),
        of_void,
        of_image,
        without_note,
        of_payment(
            whole,
            token,
            &format!("{voided}, missing_reason = 'transfer_missing'"),
        ),
        of_grant(whole, token, "voided_ms = 1"),
        of_payment(
            "a settled payment has its transfer's log, or a time to look for it",
            token,
            "next_look_ms = NULL",
        ),
    ]
}

fn cases_of_retention(ledger: &Ledger) -> Vec<Case> {
    vec![
        of_image(
            "exactly the rows of deleted images have a deletion time",
            &ledger.free_image,
            "deleted_ms = 1",
        ),
        of_image(
            "an image that is kept up to date has an origin, which counts the image's content",
            &ledger.free_image,
            "refresh_ms = 3600000",
        ),
        case(
            "the origin of an image is forgotten with the image",
            "neverexisted",
            "refreshes",
            "INSERT INTO refreshes (image_id, url, metadata, max_bytes) \
             VALUES ('neverexisted', 'https://origin.example/', 'remove', 1)",
        ),
        case(
            "a payment whose records are erased has no row",
            &ledger.token,
            "erased_payments",
            &format!(
                "INSERT INTO erased_payments (id, erased_ms) VALUES ('{}', 1)",
                ledger.token
            ),
        ),
    ]
}

/// Cases that need more than one statement, or another key than that of a row.
async fn odd_cases(ledger: &Ledger) -> Vec<Case> {
    let (db, used) = (ledger.app.db(), &ledger.used);
    let ids = texts(db, "SELECT id_hash FROM payment_ids").await;
    let mut twins = [&ledger.token, used];
    twins.sort();
    let without_check = match db {
        Db::Sqlite(_) => "PRAGMA ignore_check_constraints = ON",
        Db::Postgres(_) => "ALTER TABLE grants DROP CONSTRAINT grants_check",
    };
    vec![
        case(
            "a transfer settles one payment only",
            twins[0],
            "payments",
            &format!(
                "UPDATE payments SET transaction_hash = '0x{}', log_index = NULL WHERE id IN ('{}', '{used}')",
                "22".repeat(32),
                ledger.token
            ),
        ),
        Case {
            rule: "a grant has no more uploads than it allows",
            key: used.clone(),
            table: "grants",
            sql: vec![
                without_check.to_owned(),
                format!("UPDATE payments SET uses = 0 WHERE id = '{used}'"),
                format!("UPDATE grants SET uses = 0 WHERE payment_id = '{used}'"),
            ],
        },
        Case {
            rule: "a payment in a final state has no pending image",
            key: ledger.upload.clone(),
            table: "images",
            sql: vec![
                format!(
                    "UPDATE grants SET used = 0 WHERE payment_id = '{}'",
                    ledger.upload
                ),
                format!(
                    "UPDATE images SET state = 'pending', published_ms = NULL WHERE id = '{}'",
                    ledger.upload_image
                ),
            ],
        },
        case(
            "an idempotency key of a payer belongs to one payment",
            &ids[0],
            "payment_ids",
            "UPDATE payment_ids SET payer = '0x00'",
        ),
    ]
}

/// Cases of refunds: each inserts one that is wrong.
fn cases_of_refunds(ledger: &Ledger) -> Vec<Case> {
    let refund = |rule, key: &str, values: &str| {
        let sql = format!(
            "INSERT INTO refunds (payment_id, network, amount, keeps_goods, due_ms, transaction_hash, log_index, \
             transfer_hash, refunded_ms) VALUES ('{key}', 'eip155:84532', {values})"
        );
        case(rule, key, "refunds", &sql)
    };
    let made = "'0x01', 1, 'hash', 1";
    let of_all = "a refund is for a settled payment, and for all of it";
    let named = "exactly the refunds that were made name their transfer";
    vec![
        refund(
            of_all,
            &ledger.token,
            "'9999', 0, 1, NULL, NULL, NULL, NULL",
        ),
        refund(
            of_all,
            &ledger.rejected,
            "'10000', 0, 1, NULL, NULL, NULL, NULL",
        ),
        refund(
            named,
            &ledger.token,
            "'10000', 1, 1, '0x01', 1, 'hash', NULL",
        ),
        refund(
            named,
            &ledger.token,
            "'10000', 1, 1, '0x01', NULL, 'hash', 1",
        ),
        refund(
            "a refunded payment buys nothing any more, unless its payer keeps the goods",
            &ledger.used,
            &format!("'10000', 0, 1, {made}"),
        ),
    ]
}

/// The tables that cases change, in the order in which they can be filled.
const TABLES: [&str; 9] = [
    "erased_payments",
    "payments",
    "payment_proofs",
    "payment_ids",
    "grants",
    "renewals",
    "images",
    "refreshes",
    "refunds",
];

async fn keep_copies(db: &Db) {
    for table in TABLES {
        execute(
            db,
            &format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}"),
        )
        .await;
    }
}

async fn put_back(db: &Db) {
    for table in TABLES.iter().rev() {
        execute(db, &format!("DELETE FROM {table}")).await;
    }
    for table in TABLES {
        execute(
            db,
            &format!("INSERT INTO {table} SELECT * FROM kept_{table}"),
        )
        .await;
    }
}

/// Executes statements on one connection, so that checks stay off for all of them.
async fn break_by(db: &Db, statements: &[String]) {
    let sql = sqlx::AssertSqlSafe(statements.join(";\n"));
    match db {
        Db::Sqlite(sqlite) => {
            // A separate connection, which does not return to the pool with its checks off.
            let mut connection = sqlite.readers().acquire().await.unwrap().detach();
            let write = sqlx::query("PRAGMA query_only = OFF");
            write.execute(&mut connection).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        }
        Db::Postgres(pool) => {
            sqlx::raw_sql(sql).execute(pool).await.unwrap();
        }
    }
}

#[tokio::test]
async fn each_broken_rule_is_found_with_its_row() {
    let ledger = good_ledger().await;
    let app = &ledger.app;
    let (code, good) = pixtoll(app, &["check", "--offline"]).await;
    assert_eq!(code, 0, "{good}");
    assert!(
        good.contains("4 payments settled for 1030000 atomic units"),
        "{good}"
    );
    assert!(good.contains("no chain was asked"), "{good}");
    keep_copies(app.db()).await;
    let mut cases = cases_of_grants(&ledger);
    cases.extend(cases_of_payments(&ledger));
    cases.extend(cases_of_retention(&ledger));
    cases.extend(cases_of_the_auditor(&ledger));
    cases.extend(cases_of_refunds(&ledger));
    cases.extend(odd_cases(&ledger).await);
    let mut tested = BTreeSet::new();
    for case in &cases {
        break_by(app.db(), &case.sql).await;
        let (code, text) = pixtoll(app, &["check", "--offline"]).await;
        assert_eq!(code, 1, "{}: {text}", case.rule);
        let broken: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("BROKEN"))
            .collect();
        let named = format!("BROKEN: {}: {}: ", case.rule, case.key);
        assert_eq!(broken.len(), 1, "{} in {}: {text}", case.rule, case.table);
        assert!(broken[0].starts_with(&named), "{named} is not in {text}");
        tested.insert(case.rule);
        put_back(app.db()).await;
    }
    let rules: BTreeSet<&str> = statements()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| !name.contains("::"))
        .collect();
    assert_eq!(rules.len(), audit::rule_count());
    let untested: Vec<_> = rules.difference(&tested).collect();
    assert!(
        untested.is_empty(),
        "rules that no case breaks: {untested:?}"
    );
    for table in TABLES {
        execute(app.db(), &format!("DROP TABLE kept_{table}")).await;
    }
    let (code, text) = pixtoll(app, &["check"]).await;
    assert_eq!(code, 0, "{text}");
}

#[tokio::test]
async fn the_sum_is_compared_with_the_chain_and_orphans_are_listed() {
    let ledger = good_ledger().await;
    let app = &ledger.app;
    let (code, good) = pixtoll(app, &["check"]).await;
    assert_eq!(code, 0, "{good}");
    assert!(
        good.contains("base-sepolia: received 1030000 atomic units in blocks"),
        "{good}"
    );
    assert!(!good.contains("orphan"), "{good}");
    // Somebody sends money that buys nothing: it is listed, and breaks no rule.
    let pay_to = app.app.checkout.as_ref().unwrap().catalog.pay_to();
    let giver = signing::wallet(9).address();
    let gift = app
        .chain
        .send(giver, pay_to, alloy_primitives::U256::from(7));
    let gift = gift.await.unwrap();
    let (code, text) = pixtoll(app, &["check"]).await;
    assert_eq!(code, 0, "{text}");
    let orphan = format!("orphan: 7 atomic units from {giver} in transaction {gift}");
    assert!(text.contains(&orphan), "{text}");
    assert!(text.contains("received 1030007 atomic units"), "{text}");
    // A settlement that the chain doesn't show. Each of these columns is another way to forge it.
    let forged = "0x".to_owned() + &"33".repeat(32);
    let token = &ledger.token;
    let was = texts(
        app.db(),
        &format!("SELECT transaction_hash FROM payments WHERE id = '{token}'"),
    )
    .await;
    for transaction in [forged, gift.to_string()] {
        let set = |hash: &str| {
            format!("UPDATE payments SET transaction_hash = '{hash}' WHERE id = '{token}'")
        };
        execute(app.db(), &set(&transaction)).await;
        let (code, text) = pixtoll(app, &["check"]).await;
        assert_eq!(code, 1, "{text}");
        let named = format!("BROKEN: every settled payment is a transfer on the chain: {token}: ");
        assert!(text.contains(&named), "{text}");
        execute(app.db(), &set(&was[0])).await;
    }
    app.node.node(crate::support::proxy::NodeFault {
        down: true,
        ..Default::default()
    });
    let (code, text) = pixtoll(app, &["check"]).await;
    assert_eq!(code, 1, "an unanswered question is no proof: {text}");
    app.node.mend();
}

#[tokio::test]
async fn owed_goods_are_listed_shown_and_resolved_once() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    // Rejected by settle, and executed nevertheless by an observer.
    app.facilitator
        .next("settle", Fault::refusal(200, "insufficient_funds"));
    assert_eq!(app.pay(&payment).await.status, 402);
    let (code, text) = pixtoll(&app, &["owed"]).await;
    assert_eq!((code, text.trim()), (0, "0 payments are owed"));
    let transaction = app
        .chain
        .execute(&payment.authorization, &payment.signature)
        .await
        .unwrap()
        .to_string();
    app.advance(Duration::from_secs(3));
    app.reconcile().await;
    let id = payment.ledger_id().to_string();
    let payer = payment.authorization.from.to_string();
    let (code, text) = pixtoll(&app, &["owed"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains(&format!("{id} 0.01 USDC tier year by {payer}")),
        "{text}"
    );
    assert!(text.contains("1 payments are owed"), "{text}");
    let upper = transaction.replace("0x", "").to_uppercase();
    for what in [
        id.clone(),
        id.to_uppercase(),
        transaction.clone(),
        format!("0x{upper}"),
        payer.clone(),
        payer.to_lowercase(),
        format!("0x{}", payer.replace("0x", "").to_uppercase()),
    ] {
        let (code, text) = pixtoll(&app, &["show", &what]).await;
        assert_eq!(code, 0, "{what}: {text}");
        for line in [
            format!("payment {id}"),
            "state        settled".to_owned(),
            format!("transaction  {transaction}, proven by chain"),
            "owed         the money moved after the payment was given up".to_owned(),
            "grant        0 of 1 uploads used".to_owned(),
        ] {
            assert!(text.contains(&line), "{what}: no {line:?} in {text}");
        }
        for secret in [payment.signature.to_string(), payment.header()] {
            assert!(!text.contains(&secret), "{text}");
        }
    }
    let (code, _) = pixtoll(&app, &["show", "nothing"]).await;
    assert_eq!(code, 1);
    for args in [
        &["resolve", &id][..],
        &["resolve", &id, "--note", " "],
        &["resolve", "nothing", "--note", "refunded"],
    ] {
        let (code, text) = pixtoll(&app, args).await;
        assert_ne!(code, 0, "{args:?}: {text}");
    }
    let resolve = ["resolve", &id, "--note", "refunded by hand"];
    assert_eq!(pixtoll(&app, &resolve).await.0, 0);
    assert_eq!(pixtoll(&app, &resolve).await.0, 1, "once");
    assert!(
        pixtoll(&app, &["owed"])
            .await
            .1
            .contains("0 payments are owed")
    );
    let (_, text) = pixtoll(&app, &["show", &id]).await;
    assert!(text.contains("resolved     refunded by hand"), "{text}");
    assert_eq!(pixtoll(&app, &["check"]).await.0, 0);
    // The payer must not get both the refund and the goods.
    let known = (409, "payment_resolved".to_owned(), Some(true));
    for _ in 0..2 {
        let refused = app.pay(&payment).await;
        assert_eq!(refused.verdict(), known, "{}", refused.text());
        assert_eq!(refused.json()["action"]["type"], "contact");
        assert!(refused.json()["token"].is_null());
        assert!(!refused.text().contains("refunded by hand"));
    }
    assert_eq!(pixtoll(&app, &["check"]).await.0, 0);
}

#[tokio::test]
async fn goods_that_the_payer_took_are_not_owed_and_can_not_be_resolved() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    app.facilitator
        .next("settle", Fault::refusal(200, "insufficient_funds"));
    assert_eq!(app.pay(&payment).await.status, 402);
    let executed = app
        .chain
        .execute(&payment.authorization, &payment.signature);
    executed.await.unwrap();
    let token = app.pay(&payment).await.token();
    let id = payment.ledger_id().to_string();
    let resolve = ["resolve", &id, "--note", "refunded by hand"];
    assert_eq!(pixtoll(&app, &resolve).await.0, 1);
    assert_eq!(app.pay(&payment).await.token(), token);
}

#[tokio::test]
async fn an_unreadable_row_does_not_delay_other_rows() {
    let app = TestApp::spawn().await;
    app.facilitator
        .always("settle", Fault::Instead(503, String::new()));
    let mut payments = Vec::new();
    for _ in 0..3 {
        let payment = app.sign_for("year").await;
        assert_eq!(app.pay(&payment).await.status, 503);
        // An observer executes what the facilitator doesn't.
        let executed = app
            .chain
            .execute(&payment.authorization, &payment.signature);
        executed.await.unwrap();
        payments.push(payment);
    }
    app.facilitator.mend();
    let [first, second, third] = payments.try_into().unwrap();
    let set = |payment: &Payment, column: &str, value: &str| {
        let id = payment.ledger_id();
        format!("UPDATE payments SET {column} = '{value}' WHERE id = '{id}'")
    };
    execute(app.db(), &set(&first, "digest", "nonsense")).await;
    execute(app.db(), &set(&third, "state", "nonsense")).await;
    app.reconcile_until(&second, "settled").await;
    let (code, text) = pixtoll(&app, &["check"]).await;
    assert_eq!(code, 1, "{text}");
    for (payment, says) in [
        (&first, "a payment is one that pixtoll wrote"),
        (&third, "every state is one that pixtoll writes"),
    ] {
        let named = format!("BROKEN: {says}: {}: ", payment.ledger_id());
        assert!(text.contains(&named), "{text}");
    }
    // An operator repairs the rows, and their payments continue.
    let digest = first.authorization.digest(first.network).to_string();
    execute(app.db(), &set(&first, "digest", &digest)).await;
    execute(app.db(), &set(&third, "state", "unknown")).await;
    app.reconcile_until(&first, "settled").await;
    app.reconcile_until(&third, "settled").await;
    assert_eq!(app.transfers().await.len(), 3);
    assert_eq!(pixtoll(&app, &["check"]).await.0, 0);
}

#[tokio::test]
async fn a_payment_is_found_by_its_image() {
    let ledger = good_ledger().await;
    for (image, payment) in [
        (&ledger.used_image, &ledger.used),
        (&ledger.upload_image, &ledger.upload),
    ] {
        let (code, text) = pixtoll(&ledger.app, &["show", image]).await;
        assert_eq!(code, 0, "{text}");
        assert!(text.contains(&format!("payment {payment}")), "{text}");
        assert!(
            text.contains(&format!("image        {image} (live)")),
            "{text}"
        );
        assert!(text.contains("grant        1 of 1 uploads used"), "{text}");
    }
    let (code, text) = pixtoll(&ledger.app, &["show", &ledger.free_image]).await;
    assert_eq!(code, 1, "{text}");
}

#[tokio::test]
async fn tokens_are_not_checked_with_a_different_master_key() {
    let app = TestApp::spawn().await;
    pay(&app, &app.sign_for("year").await).await;
    // Another key, and no key at all if the database is a file beside which one could be stored.
    for key in [Some("43".repeat(32)), None] {
        if key.is_none() && !app.database_url().starts_with("sqlite:") {
            continue;
        }
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_pixtoll"))
            .env_clear()
            .current_dir(app.folder())
            .env("PIXTOLL_DATABASE__URL", app.database_url())
            .envs(key.map(|key| ("PIXTOLL_SECRETS__KEY", key)))
            .args(["ledger", "--sandbox", "check", "--offline"])
            .output()
            .await
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
    }
    let made = app.folder().join("secrets.key").exists();
    assert!(!made, "a command makes no key");
}

#[tokio::test]
async fn a_missing_transfer_is_named_until_the_operator_decides() {
    let app = TestApp::builder().today().spawn().await;
    let payment = app.sign_for("year").await;
    app.pay(&payment).await.token();
    let id = payment.ledger_id().to_string();
    let void = ["void", &id, "--note", "gone since block 1"];
    let (code, text) = pixtoll(&app, &void).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("its transfer is not missing"), "{text}");
    let transaction = app.transfers().await[0].transaction;
    assert!(app.chain.reorganise(transaction).await.unwrap());
    let missing = "missing_reason = 'transfer_missing', missing_since_ms = 1000, missing_block = 1, \
                   missing_looks = 3";
    app.rewind(&payment, missing).await;
    for args in [&["check"] as &[&str], &["check", "--offline"]] {
        let (code, text) = pixtoll(&app, args).await;
        assert_eq!(code, 1, "{text}");
        let line = format!(
            "BROKEN: the chain shows the transfer of a settled payment: {id}: transfer_missing"
        );
        assert!(text.contains(&line), "{text}");
        assert!(text.contains("1 rows break a rule"), "{text}");
    }
    let (_, text) = pixtoll(&app, &["show", &id]).await;
    let line = "missing      the chain has not shown its transfer since 1970-01-01T00:00:01";
    assert!(text.contains(line), "{text}");
    for wrong in [["void", "x", "--note", "n"], ["void", &id, "--note", " "]] {
        assert_eq!(pixtoll(&app, &wrong).await.0, 1);
    }
    let (code, text) = pixtoll(&app, &void).await;
    assert_eq!((code, text.contains("void: ")), (0, true), "{text}");
    assert_eq!(pixtoll(&app, &void).await.0, 1, "once");
    let (code, text) = pixtoll(&app, &["check"]).await;
    assert_eq!(code, 0, "{text}");
    for line in [
        "0 payments settled for 0 atomic units",
        "1 payments are void",
    ] {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
    let (_, text) = pixtoll(&app, &["show", &id]).await;
    assert!(text.contains("gone since block 1"), "{text}");
}

#[tokio::test]
async fn a_lost_commit_is_named_until_it_is_recovered() {
    let app = TestApp::builder().today().spawn().await;
    let payment = app.sign_for("year").await;
    let token = app.pay(&payment).await.token();
    crate::recover::lose_everything(app.db()).await;
    let upload = app.upload_with(&token, pictures::png(8, 8)).await;
    assert_eq!(upload.status, 503, "{}", upload.text());
    let hash = pixtoll::model::token::UploadToken::parse(&token)
        .unwrap()
        .hash();
    for args in [&["check"] as &[&str], &["check", "--offline"], &["mark"]] {
        let (code, text) = pixtoll(&app, args).await;
        assert_eq!(code, 1, "{text}");
        let line = format!("STALE: the database does not know the upload token with hash {hash}");
        assert!(text.contains(&line), "{text}");
    }
}

#[tokio::test]
async fn an_orphan_that_looks_like_a_sale_waits_for_a_decision() {
    let app = TestApp::builder().today().spawn().await;
    let checkout = app.app.checkout.as_ref().unwrap();
    let pay_to = checkout.catalog.pay_to();
    // A payer sends the authorization to the chain without buying anything.
    let sale = app.sign_for("year").await;
    let (signed, signature) = (&sale.authorization, &sale.signature);
    let transaction = app.chain.execute(signed, signature).await.unwrap();
    // A price that nobody authorized, and an authorized amount that is no price.
    let giver = signing::wallet(9).address();
    let price = app.chain.send(giver, pay_to, U256::from(10_000));
    price.await.unwrap();
    let mut odd = app.sign_for("year").await;
    odd.authorization.value = U256::from(10_001);
    odd.sign_by(&app.wallet);
    let executed = app.chain.execute(&odd.authorization, &odd.signature).await;
    executed.unwrap();
    let line = format!("UNEXPLAINED: 10000 atomic units in transaction {transaction}");
    let (code, text) = pixtoll(&app, &["check"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(&line), "{text}");
    assert_eq!(text.matches("UNEXPLAINED").count(), 1, "{text}");
    assert_eq!(text.matches("orphan: ").count(), 3, "{text}");
    assert!(text.contains("0 rows break a rule"), "{text}");
    // Without the chain, only what the server's own search has found is known.
    assert_eq!(pixtoll(&app, &["check", "--offline"]).await.0, 0);
    assert_eq!(checkout.payments.look_for_orphans().await, 3);
    let (code, text) = pixtoll(&app, &["check", "--offline"]).await;
    assert_eq!((code, text.contains(&line)), (1, true), "{text}");
    // Nothing is closed: anybody can make one for the price of an upload.
    app.pay(&app.sign_for("year").await).await.token();
    let id = transaction.to_string();
    for wrong in [
        ["accept", &id, "--note", " "],
        ["accept", "0x12", "--note", "n"],
    ] {
        assert_eq!(pixtoll(&app, &wrong).await.0, 1);
    }
    let accept = ["accept", &id, "--note", "sent by hand"];
    let (code, text) = pixtoll(&app, &accept).await;
    assert_eq!((code, text.contains("accepted: ")), (0, true), "{text}");
    let (code, text) = pixtoll(&app, &accept).await;
    assert_eq!(code, 1, "once: {text}");
    for args in [&["check"] as &[&str], &["check", "--offline"]] {
        let (code, text) = pixtoll(&app, args).await;
        assert_eq!(code, 0, "{text}");
    }
    app.advance(std::time::Duration::from_hours(1));
    assert_eq!(checkout.payments.look_for_orphans().await, 0, "known");
}

#[tokio::test]
async fn an_orphan_that_the_search_has_not_found_yet_can_be_accepted_or_recovered() {
    let app = TestApp::builder().today().spawn().await;
    let [one, two] = [app.sign_for("year").await, app.sign_for("year").await];
    let mut ids = Vec::new();
    for payment in [&one, &two] {
        let (signed, signature) = (&payment.authorization, &payment.signature);
        let transaction = app.chain.execute(signed, signature).await.unwrap();
        ids.push(transaction.to_string());
    }
    let accept = ["accept", &ids[0], "--note", "sent by hand"];
    let (code, text) = pixtoll(&app, &accept).await;
    assert_eq!(code, 0, "{text}");
    let (code, text) = pixtoll(&app, &["check"]).await;
    assert_eq!(code, 1, "{text}");
    assert_eq!(text.matches("UNEXPLAINED").count(), 1, "{text}");
    // A payment that is open may account for a transfer of its payer and its price.
    let open = app.sign_for("year").await;
    app.facilitator
        .always("verify", Fault::Instead(503, String::new()));
    assert_eq!(app.pay(&open).await.status, 503);
    app.rewind(&open, "first_block = 0").await;
    let (code, text) = pixtoll(&app, &["check"]).await;
    assert_eq!(code, 0, "{text}");
}
