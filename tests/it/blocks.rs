//! Blocks of content and wallets: what they refuse on every way, what they leave alone, and that
//! nothing is charged for what they refuse.

use std::sync::Arc;
use std::time::Duration;

use pixtoll::db::admin_log;
use pixtoll::images::hashes_of;
use pixtoll::model::block::{Block, Kind, OPERATOR, Target};
use pixtoll::system::clock::Clock;
use pixtoll::trust::blocks::{block, replace, unblock};
use serde_json::json;
use tokio::sync::Notify;

use crate::accounting::{refund, repay};
use crate::support::database::texts;
use crate::support::expect::{Verdict, pending};
use crate::support::photos::Photo;
use crate::support::process::{self, Deployment, Request};
use crate::support::proxy::Fault;
use crate::support::{Answer, Payment, TestApp, pictures};

fn content_blocked() -> Verdict {
    (422, "content_blocked".to_owned(), Some(false))
}

fn wallet_blocked() -> Verdict {
    (403, "wallet_blocked".to_owned(), Some(false))
}

/// The blocks of these targets by the operator.
fn blocks(app: &TestApp, targets: &[Target]) -> Vec<Block> {
    let made = |target: &Target| Block {
        target: *target,
        source: OPERATOR.to_owned(),
        reason: "a test".to_owned(),
        created_at: app.clock.now(),
        expires_at: None,
    };
    targets.iter().map(made).collect()
}

/// Blocks targets in the database, as a command beside the server does.
pub(crate) async fn block_beside(app: &TestApp, targets: &[Target]) {
    let made = blocks(app, targets);
    block(app.db(), "tester", &made, app.clock.now())
        .await
        .unwrap();
}

/// Blocks targets, and waits until the server knows.
pub(crate) async fn block_now(app: &TestApp, targets: &[Target]) {
    block_beside(app, targets).await;
    app.app.screening.blocks().read_again().await.unwrap();
}

pub(crate) async fn unblock_now(app: &TestApp, target: &Target) {
    let by = ("tester", "a test");
    let lifted = unblock(app.db(), target, None, by, app.clock.now()).await;
    assert_eq!(lifted.unwrap(), 1);
    app.app.screening.blocks().read_again().await.unwrap();
}

pub(crate) fn sha256(bytes: &[u8]) -> Target {
    Target::read(Kind::Sha256, &hashes_of(bytes).sha256).unwrap()
}

pub(crate) fn pdq(bytes: &[u8]) -> Target {
    Target::Pdq(hashes_of(bytes).fingerprint.unwrap().hash)
}

#[tokio::test]
async fn blocked_content_is_refused_on_every_way_and_costs_nothing() {
    let app = TestApp::spawn().await;
    let image = Photo::of(1, 96, 64).jpeg(90);
    let other = Photo::of(2, 96, 64).jpeg(90);
    let token = app.pay(&app.sign_for("year").await).await.token();
    let served = app.upload_with(&token, image.clone()).await;
    assert_eq!(served.status, 200, "{}", served.text());
    let token = app.pay(&app.sign_for("year").await).await.token();
    let transfers = app.transfers().await.len();
    let calls = app.facilitator.calls("verify");
    block_now(&app, &[sha256(&image)]).await;

    assert_eq!(
        app.upload_free(image.clone()).await.verdict(),
        content_blocked()
    );
    assert_eq!(
        app.upload_with(&token, image.clone()).await.verdict(),
        content_blocked()
    );
    let payment = app.sign_at("/api/upload/year").await;
    assert_eq!(
        app.pay_with(&payment, &image).await.verdict(),
        content_blocked()
    );
    let check = app.send(
        "POST",
        "/api/check",
        &[("content-type", "image/jpeg")],
        image.clone(),
    );
    assert_eq!(check.await.verdict(), content_blocked());
    // An image that is served already is not renewed.
    let path = format!("/api/images/{}/renew", served.field("id"));
    assert_eq!(app.post(&path).await.verdict(), content_blocked());

    assert_eq!(
        app.state_of(&payment).await,
        None,
        "no facilitator was asked"
    );
    assert_eq!(app.facilitator.calls("verify"), calls);
    assert_eq!(app.transfers().await.len(), transfers);
    // The same payment and the same token buy another image.
    assert_eq!(app.pay_with(&payment, &other).await.status, 200);
    assert_eq!(app.upload_with(&token, other.clone()).await.status, 200);
    unblock_now(&app, &sha256(&image)).await;
    assert_eq!(app.upload_free(image).await.status, 200);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn the_same_picture_smaller_and_compressed_or_mirrored_is_refused() {
    let app = TestApp::spawn().await;
    let known = Photo::of(7, 480, 320).jpeg(92);
    block_now(&app, &[pdq(&known)]).await;
    let half = Photo::of(7, 240, 160).jpeg(60);
    let mirrored = Photo::of(7, 480, 320).mirrored().jpeg(85);
    for copy in [half.clone(), mirrored] {
        assert_eq!(app.upload_free(copy).await.verdict(), content_blocked());
    }
    let payment = app.sign_at("/api/upload/year").await;
    assert_eq!(
        app.pay_with(&payment, &half).await.verdict(),
        content_blocked()
    );
    assert_eq!(app.transfers().await.len(), 0);
    for other in [Photo::of(8, 240, 160), Photo::flat(240, 160)] {
        assert_eq!(app.upload_free(other.jpeg(60)).await.status, 200);
    }
    // A flat picture has no quality, so that its hash says nothing.
    block_now(&app, &[pdq(&Photo::flat(240, 160).jpeg(60))]).await;
    assert_eq!(
        app.upload_free(Photo::flat(200, 160).jpeg(60)).await.status,
        200
    );
}

#[tokio::test]
async fn a_thousand_other_pictures_are_not_refused() {
    let app = TestApp::builder().without_facilitator().spawn().await;
    block_now(&app, &[pdq(&Photo::of(0, 128, 128).jpeg(90))]).await;
    let screening = Arc::clone(&app.app.screening);
    let threads = (0..2).map(|thread| {
        let screening = Arc::clone(&screening);
        std::thread::spawn(move || {
            let mut detailed = 0;
            for seed in (1..=1000).filter(|seed| seed % 2 == thread) {
                let hashes = hashes_of(&Photo::of(seed, 64, 64).jpeg(80));
                let found = hashes.fingerprint.unwrap();
                detailed += usize::from(found.quality >= 50);
                let blocked = screening
                    .blocks()
                    .find_content(&[&hashes.sha256], Some(&found));
                assert_eq!(blocked, None, "{seed}");
            }
            detailed
        })
    });
    let threads: Vec<_> = threads.collect();
    let detailed: usize = threads.into_iter().map(|it| it.join().unwrap()).sum();
    assert!(detailed > 950, "only {detailed} pictures were compared");
}

#[tokio::test]
async fn a_blocked_wallet_buys_and_uploads_nothing() {
    let app = TestApp::spawn().await;
    let token = app.pay(&app.sign_for("year").await).await.token();
    let wallet = app.wallet.address();
    let transfers = app.transfers().await.len();
    let calls = app.facilitator.calls("verify");
    block_now(&app, &[Target::Wallet(wallet)]).await;
    let payment = app.sign_for("year").await;
    assert_eq!(app.pay(&payment).await.verdict(), wallet_blocked());
    let upload = app.sign_at("/api/upload/year").await;
    let answer = app.pay_with(&upload, &pictures::png(4, 4)).await;
    assert_eq!(answer.verdict(), wallet_blocked());
    let answer = app.upload_with(&token, pictures::png(4, 4)).await;
    assert_eq!(answer.verdict(), wallet_blocked());
    assert_eq!(app.transfers().await.len(), transfers);
    assert_eq!(app.facilitator.calls("verify"), calls);
    // Others, and free uploads without a wallet, are not concerned.
    assert_eq!(app.upload_free(pictures::png(4, 4)).await.status, 200);
    unblock_now(&app, &Target::Wallet(wallet)).await;
    assert_eq!(app.pay(&payment).await.status, 200);
    assert_eq!(
        app.upload_with(&token, pictures::png(4, 4)).await.status,
        200
    );
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_wallet_of_the_sanctions_list_buys_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sdn.csv");
    let wallet = crate::support::signing::wallet(77);
    let text = format!(
        "1,\"X\",\"Digital Currency Address - USDC {};\"\n",
        wallet.address()
    );
    std::fs::write(&file, text.to_lowercase()).unwrap();
    let builder = TestApp::builder().set("trust.sanctions_file", file.to_str().unwrap());
    let app = builder.spawn().await;
    let payment = app.sign_by("/api/upload/token/year", &wallet).await;
    assert_eq!(app.pay(&payment).await.verdict(), wallet_blocked());
    assert_eq!(app.pay(&app.sign_for("year").await).await.status, 200);
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_block_between_settle_and_publish_withholds_the_image_and_it_is_owed() {
    let app = TestApp::spawn().await;
    let image = Photo::of(3, 64, 48).jpeg(90);
    let release = Arc::new(Notify::new());
    app.facilitator
        .next("settle", Fault::Late(Arc::clone(&release)));
    let payment = app.sign_at("/api/upload/year").await;
    let paid = async {
        let answer = app.pay_with(&payment, &image).await;
        // The payer keeps what was paid, as an upload of another image.
        let token = answer.token();
        assert_eq!(
            app.upload_with(&token, image.clone()).await.verdict(),
            content_blocked()
        );
        assert_eq!(
            app.upload_with(&token, pictures::png(4, 4)).await.status,
            200
        );
    };
    let blocked = async {
        app.facilitator.reached("settle", 1).await;
        block_beside(&app, &[sha256(&image)]).await;
        release.notify_one();
    };
    tokio::join!(paid, blocked);
    assert_eq!(app.transfers().await.len(), 1);
    assert!(app.check_ledger().await.is_balanced());
}

/// What the ledger owes, and why.
async fn owed(app: &TestApp) -> Vec<String> {
    let text = "SELECT owed FROM payments WHERE owed IS NOT NULL";
    texts(app.db(), text).await
}

/// Pays for an upload of `image`, and blocks `target` while the facilitator settles.
async fn pay_while_blocked(app: &TestApp, image: &[u8], target: Target) -> (Payment, Answer) {
    let release = Arc::new(Notify::new());
    app.facilitator
        .next("settle", Fault::Late(Arc::clone(&release)));
    let payment = app.sign_at("/api/upload/year").await;
    let settles = app.facilitator.calls("settle");
    let blocked = async {
        app.facilitator.reached("settle", settles + 1).await;
        block_beside(app, &[target]).await;
        release.notify_one();
    };
    let (answer, ()) = tokio::join!(app.pay_with(&payment, image), blocked);
    (payment, answer)
}

#[tokio::test]
async fn a_pdq_block_between_settle_and_publish_withholds_a_paid_image() {
    let app = TestApp::spawn().await;
    let image = Photo::of(31, 160, 120).jpeg(90);
    let half = Photo::of(31, 80, 60).jpeg(60);
    let (payment, answer) = pay_while_blocked(&app, &image, pdq(&half)).await;
    let token = answer.token();
    assert_eq!(
        texts(app.db(), "SELECT state FROM images").await,
        ["discarded"]
    );
    let refused = app.upload_with(&token, image.clone()).await;
    assert_eq!(refused.verdict(), content_blocked());
    // The payer got a token, so nothing is owed any more, until it is refunded.
    assert_eq!(app.transfers().await.len(), 1);
    let made = repay(&app, &payment, 10_000).await.to_string();
    let (code, text) = refund(&app, &payment, &["--transaction", &made]).await;
    assert_eq!(code, 0, "{text}");
    let again = app.pay_with(&payment, &image).await;
    let resolved = (409, "payment_resolved".to_owned(), Some(true));
    assert_eq!(again.verdict(), resolved, "{}", again.text());
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_refund_takes_back_what_a_wallet_paid_for_while_it_was_blocked() {
    let app = TestApp::spawn().await;
    let image = pictures::png(8, 8);
    let wallet = Target::Wallet(app.wallet.address());
    let (payment, answer) = pay_while_blocked(&app, &image, wallet).await;
    let token = answer.token();
    let refused = app.upload_with(&token, image.clone()).await;
    assert_eq!(refused.verdict().1, "wallet_blocked");
    let made = repay(&app, &payment, 10_000).await.to_string();
    let args = ["--as", "ada", "--transaction", &made];
    let (code, text) = refund(&app, &payment, &args).await;
    assert_eq!(code, 0, "{text}");
    let log = admin_log::page_from(app.db(), 1, 10).await.unwrap();
    let last = log.last().unwrap();
    assert_eq!((last.act.as_str(), last.actor.as_str()), ("refund", "ada"));
    // The refund outlasts the block.
    unblock_now(&app, &wallet).await;
    assert_ne!(app.upload_with(&token, image.clone()).await.status, 200);
    let again = app.pay_with(&payment, &image).await;
    let resolved = (409, "payment_resolved".to_owned(), Some(true));
    assert_eq!(again.verdict(), resolved, "{}", again.text());
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_block_of_another_picture_between_settle_and_publish_withholds_nothing() {
    let app = TestApp::spawn().await;
    let image = Photo::of(32, 160, 120).jpeg(90);
    let (_, answer) = pay_while_blocked(&app, &image, pdq(&Photo::of(33, 160, 120).jpeg(90))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let served = app.get(&answer.field("url")).await;
    assert_eq!(served.status, 200);
    // The next upload is screened against it, and published without another look.
    let payment = app.sign_at("/api/upload/year").await;
    let other = Photo::of(34, 160, 120).jpeg(90);
    assert_eq!(app.pay_with(&payment, &other).await.status, 200);
    assert!(owed(&app).await.is_empty());
}

#[tokio::test]
async fn a_pdq_block_while_the_outcome_is_unknown_withholds_a_paid_image() {
    let app = TestApp::builder()
        .set("payments.timeout", "3s")
        .spawn()
        .await;
    let image = Photo::of(35, 160, 120).jpeg(90);
    let payment = app.sign_at("/api/upload/year").await;
    app.facilitator.next("settle", Fault::SilentAfter);
    assert_eq!(app.pay_with(&payment, &image).await.verdict(), pending());
    let ids = texts(app.db(), "SELECT id FROM images WHERE state = 'pending'").await;
    block_beside(&app, &[pdq(&Photo::of(35, 80, 60).jpeg(60))]).await;
    // Another server, or this one after a restart, doesn't know what the image was compared with.
    let id = pixtoll::model::ids::ImageId::parse(&ids[0]).unwrap();
    app.app.images.forget_compared(&id);
    app.reconcile_until(&payment, "settled").await;
    assert_eq!(
        owed(&app).await,
        ["a block withholds the image of this upload"]
    );
    assert_eq!(app.get(&format!("/i/{}.jpg", ids[0])).await.status, 404);
    // The payer gets a token, for another image.
    let token = app.pay_with(&payment, &image).await.token();
    assert!(owed(&app).await.is_empty());
    let other = Photo::of(36, 160, 120).jpeg(90);
    assert_eq!(app.upload_with(&token, other).await.status, 200);
    assert_eq!(app.transfers().await.len(), 1);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_block_during_verify_releases_the_payment() {
    let app = TestApp::spawn().await;
    let image = Photo::of(4, 64, 48).jpeg(90);
    let release = Arc::new(Notify::new());
    app.facilitator
        .next("verify", Fault::Late(Arc::clone(&release)));
    let payment = app.sign_at("/api/upload/year").await;
    let paid = async {
        assert_eq!(
            app.pay_with(&payment, &image).await.verdict(),
            content_blocked()
        );
    };
    let blocked = async {
        app.facilitator.reached("verify", 1).await;
        block_now(&app, &[sha256(&image)]).await;
        release.notify_one();
    };
    tokio::join!(paid, blocked);
    assert_eq!(app.state_of(&payment).await.as_deref(), Some("released"));
    assert_eq!(
        (app.facilitator.calls("settle"), app.transfers().await.len()),
        (0, 0)
    );
    assert_eq!(
        app.pay_with(&payment, &pictures::png(4, 4)).await.status,
        200
    );
}

#[tokio::test]
async fn servers_follow_the_database_and_blocks_expire() {
    let app = TestApp::builder().without_facilitator().spawn().await;
    let image = pictures::png(5, 5);
    let mut made = blocks(&app, &[sha256(&image)]);
    made[0].expires_at = Some(app.clock.now().plus(Duration::from_secs(60)));
    block(app.db(), "tester", &made, app.clock.now())
        .await
        .unwrap();
    process::eventually("the block", async || {
        (app.upload_free(image.clone()).await.status == 422).then_some(())
    })
    .await;
    app.advance(Duration::from_secs(61));
    assert_eq!(app.upload_free(image).await.status, 200);
}

#[tokio::test]
async fn a_list_is_replaced_as_a_whole_and_logged_once() {
    let app = TestApp::builder().without_facilitator().spawn().await;
    let now = app.clock.now();
    let list = |numbers: std::ops::Range<u32>| -> Vec<Block> {
        let target = |number: u32| {
            let digits = format!("{number:064x}");
            if number.is_multiple_of(2) {
                Target::read(Kind::Sha256, &digits).unwrap()
            } else {
                Target::read(Kind::Pdq, &digits).unwrap()
            }
        };
        let targets: Vec<Target> = numbers.map(target).collect();
        let of_list = |block: Block| Block {
            source: "list".to_owned(),
            ..block
        };
        blocks(&app, &targets).into_iter().map(of_list).collect()
    };
    block_beside(
        &app,
        &[Target::read(Kind::Sha256, &"ab".repeat(32)).unwrap()],
    )
    .await;
    let by = ("tester", "monthly");
    let first = replace(app.db(), "list", &list(0..1203), by, now)
        .await
        .unwrap();
    assert_eq!((first.added, first.updated, first.removed), (1203, 0, 0));
    let again = replace(app.db(), "list", &list(0..1203), by, now)
        .await
        .unwrap();
    assert_eq!((again.added, again.updated, again.removed), (0, 0, 0));
    let next = replace(app.db(), "list", &list(3..1204), by, now)
        .await
        .unwrap();
    assert_eq!((next.added, next.updated, next.removed), (1, 0, 3));
    assert_eq!(app.rows("blocks").await, 1202, "with the operator's own");
    let log = admin_log::page_from(app.db(), 1, 10).await.unwrap();
    let acts: Vec<(&str, &str)> = log
        .iter()
        .map(|entry| (entry.act.as_str(), entry.subject.as_str()))
        .collect();
    let own = format!("sha256:{}", "ab".repeat(32));
    let expected = [
        ("block", own.as_str()),
        ("import_blocks", "list"),
        ("import_blocks", "list"),
    ];
    assert_eq!(acts, expected);
    let details: serde_json::Value = serde_json::from_str(&log[2].details).unwrap();
    assert_eq!(details, json!({"added": 1, "updated": 0, "removed": 3}));
}

#[tokio::test]
async fn the_commands_beside_a_server_block_import_export_and_hash() {
    let deployment = Deployment::alone();
    let _server = deployment.start().await;
    let image = Photo::of(9, 120, 80).jpeg(90);
    let file = deployment.folder().join("photo.jpg");
    std::fs::write(&file, &image).unwrap();
    let hashes = deployment
        .bare(&["admin", "hash", "photo.jpg"])
        .output()
        .await
        .unwrap();
    let hashes = String::from_utf8(hashes.stdout).unwrap();
    let words: Vec<&str> = hashes.split_whitespace().collect();
    assert_eq!(words[0], sha256(&image).to_string());
    assert_eq!(words[2], pdq(&image).to_string());

    let free = Request::post("/api/free").with_image(&image);
    let id = deployment.answer(&free).await.field("id");
    let because = ["--reason", "a test", "--as", "tester"];
    let with = |more: &[&str]| -> Vec<String> {
        let words = ["admin"].iter().chain(more).chain(&because);
        words.map(|word| (*word).to_owned()).collect()
    };
    let run = async |more: &[&str]| {
        let arguments = with(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        deployment.run(&arguments).await
    };
    let blocked = run(&["block", &id]).await;
    assert_eq!(blocked.code, Some(0), "{blocked:?}");
    assert!(
        blocked.out.contains(words[0]) && blocked.out.contains(words[2]),
        "{blocked:?}"
    );
    assert!(blocked.err.contains("is still served"), "{blocked:?}");
    process::eventually("the block", async || {
        (deployment.answer(&free).await.status == 422).then_some(())
    })
    .await;

    let list = format!(
        "# partner\ntype,indicator\nHASH_PDQ,{}\nHASH_MD5,00\n",
        "0f".repeat(32)
    );
    std::fs::write(deployment.folder().join("list.csv"), list).unwrap();
    let imported = run(&["import-blocks", "list.csv", "--source", "partner"]).await;
    let expected =
        "partner has 1 blocks: 1 added, 0 updated, 0 removed; 1 lines of other kinds skipped\n";
    assert_eq!(imported.out, expected, "{imported:?}");
    let counts = deployment.run(&["admin", "blocks", "--count"]).await;
    assert_eq!(
        counts.out,
        "operator  pdq  1\noperator  sha256  1\npartner  pdq  1\n"
    );
    let plain = [
        "admin",
        "export-blocks",
        "--source",
        "partner",
        "--kind",
        "pdq",
        "--format",
        "plain",
    ];
    assert_eq!(
        deployment.run(&plain).await.out,
        format!("{}\n", "0f".repeat(32))
    );
    let csv = deployment.run(&["admin", "export-blocks"]).await.out;
    std::fs::write(deployment.folder().join("export.csv"), &csv).unwrap();
    let again = run(&["import-blocks", "export.csv", "--source", "copy"]).await;
    assert!(
        again.out.starts_with("copy has 3 blocks: 3 added"),
        "{again:?}"
    );

    let lifted = run(&["unblock", &id, "--source", "operator"]).await;
    assert_eq!(lifted.code, Some(0), "{lifted:?}");
    let twice = run(&["unblock", &id, "--source", "operator"]).await;
    assert_eq!(twice.code, Some(1), "{twice:?}");
    for wrong in [
        &["block", "sha256:12"][..],
        &["import-blocks", "photo.jpg", "--source", "x y"],
    ] {
        let refused = run(wrong).await;
        assert_eq!(
            (refused.code, refused.out.as_str()),
            (Some(1), ""),
            "{refused:?}"
        );
    }
}
