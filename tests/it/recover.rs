//! A database that lost commits (docs/operations.md): the server notices and sells nothing,
//! and recovery finds the payments on the chain. tests/it/claims.rs has what their payers receive.

use std::path::Path;
use std::time::Duration;

use alloy_primitives::{Address, B256};
use alloy_signer_local::PrivateKeySigner;
use pixtoll::db::{Db, audit, payments};
use pixtoll::keys::secrets::SecretKey;
use pixtoll::payments::recovery::check::ChainSide;
use pixtoll::payments::recovery::recover::{Deed, Found, Otherwise, Prices, Recovered, recover};
use pixtoll::pricing::money::AtomicAmount;
use pixtoll::pricing::tiers::{Tier, TierName, TierTable};
use pixtoll::retention::ReapError;
use pixtoll::system::clock::Clock;

use crate::support::database::{execute, number};
use crate::support::expect::known;
use crate::support::process::{Deployment, Request, SandboxProcess, eventually};
use crate::support::{Payment, TestApp, pictures, signing};

/// Statements that lose everything sold and set the database's epoch back.
const LOSE: [&str; 7] = [
    "DELETE FROM payment_proofs",
    "DELETE FROM payment_ids",
    "DELETE FROM images WHERE payment_id IS NOT NULL",
    "DELETE FROM grants",
    "DELETE FROM replaced_secrets",
    "DELETE FROM payments",
    "UPDATE deployment SET value = '1' WHERE name = 'epoch'",
];

/// Advances the store's mark, as a backup does.
pub(crate) async fn back_up(app: &TestApp) {
    app.app.epoch.advance().await.unwrap();
}

/// Restores the state before anything was sold.
pub(crate) async fn restore(app: &TestApp) {
    for sql in LOSE {
        execute(app.db(), sql).await;
    }
    app.app.epoch.look().await;
}

/// Runs the ledger part of `pixtoll ledger recover`.
async fn run(app: &TestApp, deed: Deed<'_>, prices: Prices<'_>) -> (Recovered, Vec<Found>) {
    let checkout = app.app.checkout.as_ref().unwrap();
    let access = checkout.networks.iter().next().unwrap();
    let side = ChainSide {
        network: access.network,
        chain: &*access.chain,
        pay_to: checkout.catalog.pay_to(),
        first_block: 0,
    };
    let mut told = Vec::new();
    let found = |found: Found| told.push(found);
    let recovered = recover(app.db(), &side, prices, app.clock.now(), deed, found)
        .await
        .unwrap();
    (recovered, told)
}

/// Runs all of `pixtoll ledger recover`.
pub(crate) async fn recovered(app: &TestApp) -> u64 {
    let table = app.app.checkout.as_ref().unwrap().catalog.tiers();
    let prices = Prices {
        table: &table,
        otherwise: None,
    };
    // The key of tests/it/support.
    let key = SecretKey::from_bytes([0x42; 32]);
    let (recovered, _) = run(app, Deed::Write(&key), prices).await;
    let ttl = app.app.config.token_ttl;
    app.app.epoch.accept(app.clock.now(), ttl).await.unwrap();
    recovered.payments
}

/// A fresh payment by this wallet for the product of `path`.
pub(crate) async fn sign(app: &TestApp, path: &str, wallet: &PrivateKeySigner) -> Payment {
    let challenge = app.post(path).await;
    assert_eq!(challenge.status, 402, "{}", challenge.text());
    Payment::answering(&challenge, path, wallet, app.clock.now())
}

fn closed(charged: Option<bool>) -> (u16, String, Option<bool>) {
    (503, "recovery_required".to_owned(), charged)
}

pub(crate) const TOKEN: &str = "/api/upload/token/year";
pub(crate) const UPLOAD: &str = "/api/upload/year";

#[tokio::test]
async fn lost_payments_are_noticed_and_recovered_once() {
    let app = TestApp::spawn().await;
    let free = app.upload_free(pictures::png(5, 5)).await;
    back_up(&app).await;
    let wallets = [1, 2, 3].map(signing::wallet);
    let unused = sign(&app, TOKEN, &wallets[0]).await;
    app.pay(&unused).await.token();
    let used = sign(&app, TOKEN, &wallets[1]).await;
    let token = app.pay(&used).await.token();
    let uploaded = app.upload_with(&token, pictures::png(6, 6)).await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    let direct = sign(&app, UPLOAD, &wallets[2]).await;
    let sold = app.pay_with(&direct, &pictures::png(7, 7)).await;
    assert_eq!(sold.status, 200, "{}", sold.text());
    let lost = [&unused, &used, &direct];
    let paid: Vec<B256> = app
        .transfers()
        .await
        .iter()
        .map(|t| t.transaction)
        .collect();
    assert_eq!(paid.len(), 3);

    // Nothing is sold, and no response reveals whether payments are lost. Other requests work.
    restore(&app).await;
    for path in [TOKEN, UPLOAD] {
        assert_eq!(app.post(path).await.verdict(), closed(Some(false)));
    }
    let refused = app.upload_with(&token, pictures::png(6, 6)).await;
    assert_eq!(refused.verdict(), closed(None));
    assert!(refused.text().contains("pixtoll ledger recover"));
    assert!(refused.header("retry-after").is_some());
    for payment in lost {
        assert_eq!(app.pay(payment).await.verdict(), closed(None));
    }
    // Paid renewals may be lost as well: none is sold, and nothing is deleted.
    let id = free.field("id");
    let renew = format!("/api/images/{id}/renew?tier=year");
    assert_eq!(app.post(&renew).await.verdict(), closed(Some(false)));
    let reaped = app.app.retention.reap().await;
    assert!(matches!(reaped, Err(ReapError::Behind)), "{reaped:?}");
    assert_eq!(app.upload_free(pictures::png(4, 4)).await.status, 200);
    assert_eq!(app.get(&free.field("url")).await.status, 200);
    let ready = app.get(&format!("{}/readyz", app.admin)).await;
    assert_eq!(ready.status, 200);
    assert!(ready.field("problem").contains("older than its store"));

    // Recovery reports the payments that the chain shows, and records them once.
    assert_eq!(app.check_ledger().await.chains[0].orphans.len(), 3);
    let table = TierTable::default();
    let prices = Prices {
        table: &table,
        otherwise: None,
    };
    let (_, told) = run(&app, Deed::List, prices).await;
    let told: Vec<B256> = told.iter().map(transaction_found).collect();
    assert_eq!(told, paid);
    assert_eq!(app.rows("payments").await, 0);
    assert_eq!(recovered(&app).await, 3);
    assert_eq!(recovered(&app).await, 0);
    let report = app.check_ledger().await;
    assert!(report.is_balanced(), "{:?}", report.broken);
    assert_eq!((report.settled, report.chains[0].orphans.len()), (3, 0));
    let owed = audit::find_owed(app.db()).await.unwrap();
    assert_eq!(owed.len(), 3);
    assert!(owed.iter().all(|owed| owed.tier == "year"), "{owed:?}");
    // The rows have the time of their blocks, as the chain's clock counts it.
    for payment in lost {
        let row = payments::find(app.db(), &payment.ledger_id())
            .await
            .unwrap();
        let row = row.unwrap();
        assert!(row.is_recovered());
        assert_eq!(row.settled_at, Some(row.first_seen));
        assert_eq!(row.first_seen.seconds(), app.chain_clock.now().seconds());
    }

    // Data that anybody can read on the chain gets no goods, whoever sends it.
    for payment in lost {
        for copy in [payment.clone(), payment.copied_from_the_chain()] {
            let answer = app.pay(&copy).await;
            assert_eq!(answer.verdict(), known(Some(true)), "{}", answer.text());
        }
    }
    // New payments are new purchases.
    let next = sign(&app, TOKEN, &wallets[0]).await;
    app.pay(&next).await.token();
    assert_eq!(app.transfers().await.len(), 4);
    // The auditor checks the old transfers like any other, and finds them.
    app.advance(Duration::from_mins(5));
    app.audit().await;
    app.advance(Duration::from_mins(5));
    app.audit().await;
    let proven = "SELECT COUNT(*) FROM payments WHERE state = 'settled' AND proven_by = 'chain' \
                  AND next_look_ms IS NULL AND log_index IS NOT NULL";
    assert_eq!(number(app.db(), proven).await, 4);
}

fn transaction_found(found: &Found) -> B256 {
    match found {
        Found::Payment(payment) => payment.transaction.unwrap(),
        Found::Undecided { receipt, .. } => receipt.transaction,
    }
}

#[tokio::test]
async fn the_amount_tells_what_a_lost_payment_bought() {
    let app = TestApp::spawn().await;
    let wallet = signing::wallet(1);
    for path in [
        "/api/upload/token/year?images=3",
        "/api/upload/token/permanent",
    ] {
        let payment = sign(&app, path, &wallet).await;
        app.pay(&payment).await.token();
    }
    restore(&app).await;
    let default = TierTable::default();
    let of = |found: &Found| match found {
        Found::Payment(payment) => {
            let product = &payment.product;
            format!("{} of {}", product.uses, product.tier)
        }
        Found::Undecided { tiers, .. } => format!("undecided {tiers:?}"),
    };
    let listed = async |table: &TierTable, otherwise: Option<Otherwise<'_>>| -> Vec<String> {
        let prices = Prices { table, otherwise };
        let (_, told) = run(&app, Deed::List, prices).await;
        told.iter().map(of).collect()
    };
    assert_eq!(
        listed(&default, None).await,
        ["3 of year", "1 of permanent"]
    );

    // Prices of another table: the recorded offers still tell the dear one, and nothing the other.
    let tier = |name: &str, price: u128| {
        let tier = default.find("year").unwrap().clone();
        let (name, price) = (
            TierName::parse(name).unwrap(),
            AtomicAmount::from_units(price),
        );
        Tier {
            name,
            price,
            ..tier
        }
    };
    let other = TierTable::new(vec![tier("year", 20_000)], None).unwrap();
    assert_eq!(
        listed(&other, None).await,
        ["undecided []", "1 of permanent"]
    );
    // In a tier with a price by size, the amount is the price of one of its sizes.
    let sized = Tier {
        price_per_mib: AtomicAmount::from_units(2_000),
        ..tier("year", 26_000)
    };
    let sized = TierTable::new(vec![sized], None).unwrap();
    assert_eq!(listed(&sized, None).await, ["1 of year", "1 of permanent"]);
    let year = other.find("year").unwrap();
    let all = |transactions| {
        Some(Otherwise {
            tier: year,
            transactions,
        })
    };
    assert_eq!(
        listed(&other, all(&[])).await,
        ["1 of year", "1 of permanent"]
    );
    let elsewhere = [B256::repeat_byte(1)];
    assert_eq!(listed(&other, all(&elsewhere)).await[0], "undecided []");
    let dear = TierTable::new(vec![tier("year", 50_000)], None).unwrap();
    let year = dear.find("year").unwrap();
    let all = |transactions| {
        Some(Otherwise {
            tier: year,
            transactions,
        })
    };
    assert_eq!(
        listed(&dear, all(&[])).await[0],
        "undecided []",
        "it paid less"
    );
    let transaction = [app.transfers().await[0].transaction];
    assert_eq!(listed(&dear, all(&transaction)).await[0], "1 of year");

    // Two tiers with one price.
    let twins = vec![tier("year", 30_000), tier("twin", 30_000)];
    let twins = TierTable::new(twins, Some(TierName::parse("year").unwrap())).unwrap();
    let found = listed(&twins, None).await;
    assert_eq!(found[0], "undecided [\"year\", \"twin\"]");
    let twin = twins.find("twin").unwrap();
    let otherwise = Some(Otherwise {
        tier: twin,
        transactions: &[],
    });
    assert_eq!(listed(&twins, otherwise).await[0], "1 of twin");
}

#[tokio::test]
async fn another_databases_mark_and_a_lost_mark_are_distinguished() {
    let app = TestApp::on_disk().await;
    let mark = app.folder().join("images/database.json");
    assert!(mark.exists());
    // A lost mark: there is nothing to compare with, and it is written again.
    std::fs::remove_file(&mark).unwrap();
    app.app.epoch.look().await;
    assert!(app.app.epoch.is_current());
    back_up(&app).await;
    assert!(mark.exists());
    // The mark of another database.
    std::fs::write(&mark, r#"{"database":"another","epoch":1}"#).unwrap();
    app.app.epoch.look().await;
    assert!(app.app.epoch.is_behind());
    assert_eq!(app.post(TOKEN).await.verdict(), closed(Some(false)));
    back_up(&app).await;
    assert!(app.app.epoch.is_behind(), "only a person decides that");
    assert_eq!(recovered(&app).await, 0);
    assert_eq!(app.post(TOKEN).await.status, 402);
    // An unreadable mark is ignored, and the last known state stands.
    std::fs::write(&mark, "nonsense").unwrap();
    app.app.epoch.look().await;
    assert!(app.app.epoch.is_current());
    assert!(app.app.epoch.advance().await.is_err());
}

/// Copies the files of a database that no server has open.
fn copy_database(from: &Path, to: &Path) {
    for end in ["", "-wal", "-shm"] {
        let name = format!("pixtoll.db{end}");
        let _ = std::fs::remove_file(to.join(&name));
        if from.join(&name).exists() {
            std::fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_restored_backup_is_noticed_at_start_and_recovered_by_the_command() {
    let sandbox = SandboxProcess::start().await;
    let deployment = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url);
    let server = deployment.start().await;
    let (first, request) = deployment.sign(TOKEN, b"").await;
    deployment.last_word(&request).await.token();
    server.terminate();
    assert!(server.end().await.success());
    let (data, backup) = (
        deployment.folder().join("data"),
        tempfile::tempdir().unwrap(),
    );
    copy_database(&data, backup.path());
    let server = deployment.start().await;
    let (_, lost) = deployment.sign(TOKEN, b"").await;
    deployment.last_word(&lost).await.token();
    server.terminate();
    assert!(server.end().await.success());
    copy_database(backup.path(), &data);

    let _server = deployment.start().await;
    assert!(deployment.log().contains("older than its store"));
    let closed = deployment.answer(&lost).await;
    assert_eq!(
        closed.verdict(),
        (503, "recovery_required".to_owned(), None)
    );
    let check = deployment.run(&["ledger", "check"]).await;
    assert_eq!(check.code, Some(1));
    assert!(check.out.contains("STALE"), "{}", check.out);
    let online = deployment.run(&["config", "check", "--online"]).await;
    assert_eq!((online.code, online.out.contains("STALE")), (Some(1), true));
    let mark = deployment.run(&["ledger", "mark"]).await;
    assert_eq!(mark.code, Some(1), "{}", mark.out);

    let dry = deployment.run(&["ledger", "recover", "--dry-run"]).await;
    assert_eq!(dry.code, Some(0), "{}{}", dry.out, dry.err);
    assert!(dry.out.contains("1 payments would be added"), "{}", dry.out);
    let payer = first.authorization.from.to_string();
    assert!(dry.out.contains(&format!("by {payer}")), "{}", dry.out);
    for new in [1, 0] {
        let ran = deployment.run(&["ledger", "recover"]).await;
        assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        assert!(
            ran.out.contains(&format!("added {new} payments")),
            "{}",
            ran.out
        );
    }
    let owed = deployment.run(&["ledger", "owed"]).await;
    assert!(owed.out.contains("1 payments are owed"), "{}", owed.out);
    // The running server notices.
    eventually("paid routes are open", async || {
        let challenge = deployment.answer(&Request::post(TOKEN)).await;
        (challenge.status == 402).then_some(())
    })
    .await;
    let (_, fresh) = deployment.sign(TOKEN, b"").await;
    let token = deployment.last_word(&fresh).await.token();
    let upload = Request::post("/api/upload").with("X-Upload-Token", &token);
    let uploaded = deployment
        .last_word(&upload.with_image(&pictures::png(8, 8)))
        .await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    assert_eq!(sandbox.transfers_to(first.authorization.to).await.len(), 3);
    deployment.check_ledger().await;
    let mark = deployment.run(&["ledger", "mark"]).await;
    assert_eq!(mark.code, Some(0), "{}{}", mark.out, mark.err);
}

#[tokio::test]
async fn a_new_database_recovers_from_the_block_that_is_given() {
    let sandbox = SandboxProcess::start().await;
    let recipient = Address::repeat_byte(0x77).to_string();
    let deployment = Deployment::on(&sandbox.facilitator_url, &sandbox.rpc_url)
        .set("payments.pay_to", &recipient);
    let server = deployment.start().await;
    let (_, lost) = deployment.sign(TOKEN, b"").await;
    deployment.last_word(&lost).await.token();
    server.terminate();
    assert!(server.end().await.success());
    let none = tempfile::tempdir().unwrap();
    copy_database(none.path(), &deployment.folder().join("data"));
    let _server = deployment.start().await;
    let check = deployment.run(&["ledger", "check"]).await;
    assert!(check.out.contains("another database"), "{}", check.out);
    let dry = ["ledger", "recover", "--dry-run", "--from-block", "0"];
    let ran = deployment.run(&dry).await;
    assert!(
        ran.out.contains("1 payments would be added"),
        "{}{}",
        ran.out,
        ran.err
    );
    let ran = deployment
        .run(&["ledger", "recover", "--from-block", "0"])
        .await;
    assert!(
        ran.out.contains("added 1 payments"),
        "{}{}",
        ran.out,
        ran.err
    );
    eventually("paid routes are open", async || {
        let challenge = deployment.answer(&Request::post(TOKEN)).await;
        (challenge.status == 402).then_some(())
    })
    .await;
    let (fresh, request) = deployment.sign(TOKEN, b"").await;
    deployment.last_word(&request).await.token();
    assert_eq!(sandbox.transfers_to(fresh.authorization.to).await.len(), 2);
    deployment.check_ledger().await;
}

/// Deletes the rows of the database only, for tests of kills.
pub(crate) async fn lose_everything(db: &Db) {
    for sql in LOSE.iter().filter(|sql| sql.starts_with("DELETE")) {
        execute(db, sql).await;
    }
}
