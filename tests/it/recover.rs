//! A database that lost commits (docs/operations.md): the server notices and sells nothing,
//! recovery finds the payments on the chain, and payers get their goods once, for a fresh
//! signature.

use std::path::Path;
use std::time::Duration;

use alloy_primitives::{Address, B256, U256};
use alloy_signer_local::PrivateKeySigner;
use pixtoll::db::{Db, credits};
use pixtoll::payments::ledger::ChainSide;
use pixtoll::payments::recover::{Deed, Recovered, recover};
use pixtoll::retention::ReapError;
use pixtoll::system::clock::Clock;

use crate::support::database::{execute, number};
use crate::support::expect::{credited, known, no_node};
use crate::support::process::{Deployment, Request, SandboxProcess, eventually};
use crate::support::{Answer, Payment, TestApp, pictures, signing};

/// Statements that lose everything sold and set the database's epoch back.
const LOSE: [&str; 6] = [
    "DELETE FROM payment_proofs",
    "DELETE FROM payment_ids",
    "DELETE FROM images WHERE payment_id IS NOT NULL",
    "DELETE FROM grants",
    "DELETE FROM payments",
    "UPDATE deployment SET value = '1' WHERE name = 'epoch'",
];

/// Advances the store's mark, as a backup does.
async fn back_up(app: &TestApp) {
    app.app.epoch.advance().await.unwrap();
}

/// Restores the state before anything was sold.
async fn restore(app: &TestApp) {
    for sql in LOSE {
        execute(app.db(), sql).await;
    }
    app.app.epoch.look().await;
}

/// Runs the ledger part of `pixtoll ledger recover`.
async fn run(app: &TestApp, deed: Deed) -> (Recovered, Vec<B256>) {
    let checkout = app.app.checkout.as_ref().unwrap();
    let access = checkout.networks.iter().next().unwrap();
    let side = ChainSide {
        network: access.network,
        chain: &*access.chain,
        pay_to: checkout.catalog.pay_to(),
        first_block: 0,
    };
    let mut told = Vec::new();
    let recovered = recover(app.db(), &side, app.clock.now(), deed, |credit| {
        told.push(credit.transaction);
    })
    .await
    .unwrap();
    (recovered, told)
}

/// Runs all of `pixtoll ledger recover`.
async fn recovered(app: &TestApp) -> u64 {
    let (recovered, _) = run(app, Deed::Write).await;
    app.app.epoch.accept().await.unwrap();
    recovered.credits
}

/// A fresh payment by this wallet for the product of `path`.
async fn sign(app: &TestApp, path: &str, wallet: &PrivateKeySigner) -> Payment {
    let challenge = app.post(path).await;
    assert_eq!(challenge.status, 402, "{}", challenge.text());
    Payment::answering(&challenge, path, wallet, app.clock.now())
}

fn transaction_of(answer: &Answer) -> String {
    let receipt = answer.document("payment-response");
    receipt["transaction"].as_str().unwrap().to_owned()
}

fn closed(charged: Option<bool>) -> (u16, String, Option<bool>) {
    (503, "recovery_required".to_owned(), charged)
}

const TOKEN: &str = "/api/upload/token/year";
const UPLOAD: &str = "/api/upload/year";

#[tokio::test]
async fn lost_payments_are_noticed_recovered_and_credited_once() {
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
    assert_eq!(refused.verdict(), closed(Some(false)));
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
    assert_eq!(run(&app, Deed::List).await.1, paid);
    assert_eq!(app.rows("credits").await, 0);
    assert_eq!(recovered(&app).await, 3);
    assert_eq!(recovered(&app).await, 0);
    let report = app.check_ledger().await;
    assert!(report.is_balanced(), "{:?}", report.broken);
    let chain = &report.chains[0];
    assert_eq!((chain.credits.len(), chain.orphans.len()), (3, 0));
    assert_eq!(credits::list_open(app.db()).await.unwrap().len(), 3);

    // Data that anybody can read on the chain gets no goods, whoever sends it.
    for payment in lost {
        for copy in [payment.clone(), payment.copied_from_the_chain()] {
            let answer = app.pay(&copy).await;
            assert_eq!(answer.verdict(), credited(), "{}", answer.text());
            assert!(answer.text().contains("is not charged"));
        }
    }
    // The signature of another payer pays.
    let stranger = sign(&app, TOKEN, &signing::wallet(9)).await;
    app.pay(&stranger).await.token();
    assert_eq!(app.transfers().await.len(), 4);
    // A payment for something at another price pays too.
    let dear = sign(&app, "/api/upload/token/permanent", &wallets[0]).await;
    app.pay(&dear).await.token();
    assert_eq!(app.transfers().await.len(), 5);

    // The payers sign again, and get the goods of the old transaction. No money moves.
    for (payment, wallet, transaction) in [
        (&unused, &wallets[0], paid[0]),
        (&used, &wallets[1], paid[1]),
        (&direct, &wallets[2], paid[2]),
    ] {
        let fresh = sign(&app, &payment.path, wallet).await;
        let picture = pictures::png(10, 10);
        let answer = app.pay_with(&fresh, &picture).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(transaction_of(&answer), transaction.to_string());
        let again = app.pay_with(&fresh, &picture).await;
        assert_eq!(transaction_of(&again), transaction.to_string());
        if payment.path == UPLOAD {
            assert_eq!(again.field("id"), answer.field("id"));
            assert_eq!(app.get(&answer.field("url")).await.bytes, picture);
            let other = app.pay_with(&fresh, &pictures::png(11, 11)).await;
            assert_eq!(
                other.verdict(),
                (409, "idempotency_conflict".to_owned(), Some(true))
            );
        } else {
            assert_eq!(again.token(), answer.token());
            let uploaded = app.upload_with(&answer.token(), picture).await;
            assert_eq!(uploaded.status, 200, "{}", uploaded.text());
        }
        let stranger = fresh.copied_from_the_chain();
        assert_eq!(app.pay(&stranger).await.verdict(), known(Some(true)));
        assert_eq!(app.pay(payment).await.verdict(), known(Some(true)));
    }
    assert_eq!(app.transfers().await.len(), 5);
    let report = app.check_ledger().await;
    assert!(report.is_balanced(), "{:?}", report.broken);
    let chain = &report.chains[0];
    assert_eq!((chain.credits.len(), chain.orphans.len()), (0, 0));
    assert_eq!(report.settled, 5);
    // Only once.
    assert_eq!(recovered(&app).await, 0);
    let next = sign(&app, TOKEN, &wallets[0]).await;
    app.pay(&next).await.token();
    assert_eq!(app.transfers().await.len(), 6);
    // The auditor checks the old transfers like any other, and finds them.
    app.advance(Duration::from_mins(5));
    app.audit().await;
    app.advance(Duration::from_mins(5));
    app.audit().await;
    let proven = "SELECT COUNT(*) FROM payments WHERE state = 'settled' AND proven_by = 'chain' \
                  AND next_look_ms IS NULL AND log_index IS NOT NULL";
    assert_eq!(number(app.db(), proven).await, 6);
}

/// An app that lost one payment of each of these wallets, and has recovered.
async fn after_a_loss(wallets: &[PrivateKeySigner]) -> (TestApp, Vec<Payment>) {
    let app = TestApp::spawn().await;
    back_up(&app).await;
    let mut lost = Vec::new();
    for wallet in wallets {
        let payment = sign(&app, TOKEN, wallet).await;
        app.pay(&payment).await.token();
        lost.push(payment);
    }
    restore(&app).await;
    assert!(!app.app.epoch.is_current());
    assert_eq!(recovered(&app).await, u64::try_from(wallets.len()).unwrap());
    assert!(app.app.epoch.is_current());
    (app, lost)
}

#[tokio::test]
async fn copies_of_one_new_payment_get_one_credit() {
    let (app, _) = after_a_loss(&[signing::wallet(1)]).await;
    let fresh = app.sign_for("year").await.with_id("an-id-of-16-chars");
    let copies = vec![fresh.clone(); 20];
    let answers = app.pay_at_once(&copies, None).await;
    let token = app.pay(&fresh).await.token();
    for answer in answers {
        match answer.status {
            200 => assert_eq!(answer.token(), token),
            _ => assert!(
                ["payment_in_progress", "payment_known", "payment_credited"]
                    .contains(&answer.error().as_str()),
                "{}",
                answer.text()
            ),
        }
    }
    // The idempotency key was used: another signature with it is neither charged nor credited.
    let second = app.sign_for("year").await.with_id("an-id-of-16-chars");
    assert_eq!(app.pay(&second).await.token(), token);
    assert_eq!(app.transfers().await.len(), 1);
    assert_eq!(app.rows("grants").await, 1);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn concurrent_new_payments_get_as_many_credits_as_were_lost() {
    let wallet = signing::wallet(1);
    let (app, _) = after_a_loss(&[wallet.clone(), wallet.clone()]).await;
    let mut fresh = Vec::new();
    for _ in 0..6 {
        fresh.push(sign(&app, TOKEN, &wallet).await);
    }
    app.pay_at_once(&fresh, None).await;
    let mut tokens = Vec::new();
    for payment in &fresh {
        tokens.push(app.pay(payment).await.token());
    }
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 6);
    assert_eq!(
        app.transfers().await.len(),
        6,
        "two lost ones, and four new"
    );
    let report = app.check_ledger().await;
    assert!(report.is_balanced(), "{:?}", report.broken);
    assert_eq!(report.settled, 6);
}

#[tokio::test]
async fn a_payer_with_an_empty_wallet_gets_a_credit() {
    let wallet = signing::wallet(1);
    let (app, _) = after_a_loss(std::slice::from_ref(&wallet)).await;
    let left = U256::from(100_000_000 - 10_000);
    let elsewhere = Address::repeat_byte(8);
    app.chain
        .send(wallet.address(), elsewhere, left)
        .await
        .unwrap();
    let fresh = sign(&app, TOKEN, &wallet).await;
    app.pay(&fresh).await.token();
    assert_eq!(app.transfers().await.len(), 1);
    let next = sign(&app, TOKEN, &wallet).await;
    assert_eq!(app.pay(&next).await.status, 402, "it has nothing left");
}

#[tokio::test]
async fn a_signature_of_somebody_else_gets_no_credit() {
    let wallet = signing::wallet(1);
    let (app, _) = after_a_loss(std::slice::from_ref(&wallet)).await;
    let mut forged = sign(&app, TOKEN, &wallet).await;
    forged.sign_by(&signing::wallet(2));
    assert_eq!(app.pay(&forged).await.status, 402);
    // An observer of the new payment can't use its nonce without paying for it.
    let mut other = sign(&app, TOKEN, &wallet).await;
    other.authorization.nonce = forged.authorization.nonce;
    other.sign_by(&wallet);
    app.pay(&other).await.token();
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_credit_whose_transfer_left_the_chain_waits_without_a_charge() {
    let wallet = signing::wallet(1);
    let (app, lost) = after_a_loss(std::slice::from_ref(&wallet)).await;
    let transaction = app.transfers().await[0].transaction;
    assert!(app.chain.reorganise(transaction).await.unwrap());
    let fresh = sign(&app, TOKEN, &wallet).await;
    assert_eq!(app.pay(&fresh).await.verdict(), no_node());
    let (signed, signature) = (&lost[0].authorization, &lost[0].signature);
    app.chain.execute(signed, signature).await.unwrap();
    app.pay(&fresh).await.token();
    assert_eq!(app.transfers().await.len(), 1);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_credit_that_can_never_be_claimed_does_not_hide_later_ones() {
    let wallet = signing::wallet(1);
    let (app, lost) = after_a_loss(&[wallet.clone(), wallet.clone()]).await;
    let transaction = app.transfers().await[0].transaction;
    assert!(app.chain.reorganise(transaction).await.unwrap());
    // The later transfer is in another block now.
    let (signed, signature) = (&lost[1].authorization, &lost[1].signature);
    app.chain.execute(signed, signature).await.unwrap();
    let early = sign(&app, TOKEN, &wallet).await;
    assert_eq!(app.pay(&early).await.verdict(), no_node());
    // No accepted authorization is valid for so long: it can't be sent any more.
    app.advance(Duration::from_hours(25));
    app.reconcile_until(&early, "rejected").await;
    let [second, third] = [(); 2].map(async |()| {
        let fresh = sign(&app, TOKEN, &wallet).await;
        app.pay(&fresh).await.token()
    });
    assert_ne!(second.await, third.await);
    assert_eq!(app.transfers().await.len(), 2, "a lost one, and a new one");
    let open = credits::list_open(app.db()).await.unwrap();
    assert_eq!(open, []);
    let verdicts = [
        app.pay(&lost[0]).await.verdict(),
        app.pay(&lost[1]).await.verdict(),
    ];
    assert_eq!(verdicts, [known(Some(false)), known(Some(true))]);
    let report = app.check_ledger().await;
    assert!(report.is_balanced(), "{:?}", report.broken);
}

#[tokio::test]
async fn an_erased_credit_leaves_no_address() {
    let wallets = [1, 2].map(signing::wallet);
    let (app, lost) = after_a_loss(&wallets).await;
    let refunded = lost[1].ledger_id().to_string();
    let resolved = credits::resolve(app.db(), &refunded, "refunded", app.clock.now()).await;
    assert!(resolved.unwrap());
    let fresh = sign(&app, UPLOAD, &wallets[0]).await;
    let uploaded = app.pay_with(&fresh, &pictures::png(8, 8)).await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    let reap = async || {
        app.app.retention.accept_clock().await.unwrap();
        app.app.retention.reap().await.unwrap()
    };
    app.advance(Duration::from_hours(2));
    app.reconcile().await;
    app.audit().await;
    assert_eq!(app.rows("credits").await, 2);
    // The image is kept for a year, and then its records for another year.
    for days in [366, 366] {
        app.advance(Duration::from_hours(24 * days));
        reap().await;
        app.audit().await;
    }
    reap().await;
    let left = [app.rows("credits").await, app.rows("payments").await];
    assert_eq!(left, [0, 0]);
    for payment in [&lost[0], &lost[1]] {
        assert_eq!(app.pay(payment).await.verdict(), known(Some(true)));
    }
    let report = app.check_ledger().await;
    assert!(report.is_balanced(), "{:?} {:?}", report.broken, report);
}

#[tokio::test]
async fn a_credit_that_the_operator_resolved_is_not_given() {
    let wallet = signing::wallet(1);
    let (app, lost) = after_a_loss(std::slice::from_ref(&wallet)).await;
    let id = lost[0].ledger_id().to_string();
    let resolve = async || credits::resolve(app.db(), &id, "refunded", app.clock.now()).await;
    assert!(resolve().await.unwrap());
    assert!(!resolve().await.unwrap());
    let refused = app.pay(&lost[0]).await;
    assert_eq!(
        refused.verdict(),
        (409, "payment_resolved".to_owned(), Some(true))
    );
    assert_eq!(refused.json()["action"]["type"], "contact");
    let fresh = sign(&app, TOKEN, &wallet).await;
    app.pay(&fresh).await.token();
    assert_eq!(app.transfers().await.len(), 2);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_payment_that_moves_money_after_its_credit_is_owed_its_own_goods() {
    let wallet = signing::wallet(1);
    let (app, _) = after_a_loss(std::slice::from_ref(&wallet)).await;
    let fresh = sign(&app, TOKEN, &wallet).await;
    let token = app.pay(&fresh).await.token();
    // Only its payer could have sent it.
    let (signed, signature) = (&fresh.authorization, &fresh.signature);
    app.chain.execute(signed, signature).await.unwrap();
    app.reconcile_until(&fresh, "settled").await;
    assert_eq!(app.pay(&fresh).await.token(), token);
    let owed = "SELECT COUNT(*) FROM payments WHERE owed IS NOT NULL";
    assert_eq!(number(app.db(), owed).await, 1, "for a person to see");
    assert!(app.check_ledger().await.is_balanced());
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
    assert!(dry.out.contains("1 credits would be added"), "{}", dry.out);
    let payer = first.authorization.from.to_string();
    assert!(dry.out.contains(&format!("owed to {payer}")), "{}", dry.out);
    for new in [1, 0] {
        let ran = deployment.run(&["ledger", "recover"]).await;
        assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        assert!(
            ran.out.contains(&format!("added {new} credits")),
            "{}",
            ran.out
        );
    }
    let owed = deployment.run(&["ledger", "owed"]).await;
    assert!(owed.out.contains("1 credits are open"), "{}", owed.out);
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
    assert_eq!(sandbox.transfers_to(first.authorization.to).await.len(), 2);
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
        ran.out.contains("1 credits would be added"),
        "{}{}",
        ran.out,
        ran.err
    );
    let ran = deployment
        .run(&["ledger", "recover", "--from-block", "0"])
        .await;
    assert!(
        ran.out.contains("added 1 credits"),
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
    assert_eq!(sandbox.transfers_to(fresh.authorization.to).await.len(), 1);
    deployment.check_ledger().await;
}

/// Deletes the rows of the database only, for tests of kills.
pub(crate) async fn lose_everything(db: &Db) {
    for sql in LOSE.iter().filter(|sql| sql.starts_with("DELETE")) {
        execute(db, sql).await;
    }
}
