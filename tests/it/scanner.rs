//! The operator's scanner: it sees each new image before anything is charged, and its silence means
//! what the settings say.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::Notify;

use pixtoll::trust::csam;

use crate::support::expect::Verdict;
use crate::support::photos::Photo;
use crate::support::process::Deployment;
use crate::support::proxy::{Fault, Proxy};
use crate::support::{Builder, TestApp, pictures};

const ALLOW: &str = r#"{"allow": true, "score": 0.1}"#;

/// A scanner that answers whatever the test says.
fn scanner() -> Proxy {
    Proxy::before("http://127.0.0.1:1")
}

fn asking(scanner: &Proxy) -> Builder {
    let url = format!("{}/scan", scanner.url);
    TestApp::builder()
        .set("trust.scanner_url", &url)
        .set("trust.scanner_timeout", "300ms")
}

fn says(scanner: &Proxy, status: u16, text: &str) {
    scanner.always("scan", Fault::Instead(status, text.to_owned()));
}

fn unscanned() -> Verdict {
    (503, "scanner_unavailable".to_owned(), Some(false))
}

fn refused() -> Verdict {
    (422, "content_blocked".to_owned(), Some(false))
}

/// The ways in which a scanner gives no answer.
fn silences() -> [(&'static str, Fault); 5] {
    let instead = |status, text: &str| Fault::Instead(status, text.to_owned());
    [
        ("silent", Fault::SilentBefore),
        ("broken", instead(500, ALLOW)),
        ("no JSON", instead(200, "yes")),
        ("another document", instead(200, r#"{"allowed": true}"#)),
        (
            "too long",
            instead(
                200,
                &format!("{{\"allow\": true, \"x\": \"{}\"}}", "x".repeat(20_000)),
            ),
        ),
    ]
}

#[tokio::test]
async fn what_the_scanner_refuses_is_not_published_and_not_charged() {
    let scanner = scanner();
    says(&scanner, 200, ALLOW);
    let app = asking(&scanner).spawn().await;
    let token = app.pay(&app.sign_for("year").await).await.token();
    says(&scanner, 200, r#"{"allow": false, "reason": "a test"}"#);
    let image = pictures::png(6, 6);
    assert_eq!(app.upload_free(image.clone()).await.verdict(), refused());
    assert_eq!(
        app.upload_with(&token, image.clone()).await.verdict(),
        refused()
    );
    let payment = app.sign_at("/api/upload/year").await;
    let verified = app.facilitator.calls("verify");
    assert_eq!(app.pay_with(&payment, &image).await.verdict(), refused());
    assert_eq!(app.facilitator.calls("verify"), verified);
    assert_eq!(
        (app.state_of(&payment).await, app.transfers().await.len()),
        (None, 1)
    );
    assert_eq!(scanner.calls("scan"), 3);

    says(&scanner, 200, ALLOW);
    assert_eq!(app.pay_with(&payment, &image).await.status, 200);
    assert_eq!(app.upload_with(&token, image.clone()).await.status, 200);
    assert_eq!(scanner.calls("scan"), 5);
    // What was published already is not scanned again.
    assert_eq!(app.pay_with(&payment, &image).await.status, 200);
    assert_eq!(app.upload_with(&token, image).await.status, 200);
    assert_eq!(scanner.calls("scan"), 5);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn a_scanner_without_an_answer_charges_nobody_and_its_silence_is_a_setting() {
    for (on_silence, is_published) in [("refuse", false), ("publish", true)] {
        let scanner = scanner();
        let builder = asking(&scanner).set("trust.scanner_on_silence", on_silence);
        let app = builder.spawn().await;
        for (count, (name, fault)) in (0_u64..).zip(silences()) {
            scanner.always("scan", fault);
            let image = pictures::png_seeded(6, 6, count);
            let payment = app.sign_at("/api/upload/year").await;
            let before = app.transfers().await.len();
            let (free, paid) = (
                app.upload_free(image.clone()).await,
                app.pay_with(&payment, &image).await,
            );
            if is_published {
                assert_eq!((free.status, paid.status), (200, 200), "{name}");
                assert_eq!(app.transfers().await.len(), before + 1, "{name}");
            } else {
                assert_eq!(free.verdict(), unscanned(), "{name}");
                assert_eq!(paid.verdict(), unscanned(), "{name}");
                assert_eq!(app.transfers().await.len(), before, "{name}");
                says(&scanner, 200, ALLOW);
                assert_eq!(app.pay_with(&payment, &image).await.status, 200, "{name}");
            }
        }
        assert!(app.check_ledger().await.is_balanced());
    }
}

#[tokio::test]
async fn a_scanner_that_is_down_makes_nobody_wait() {
    let app = TestApp::builder()
        .set("trust.scanner_url", "http://127.0.0.1:1/scan")
        .set("trust.scanner_timeout", "1m")
        .without_facilitator()
        .spawn()
        .await;
    for _ in 0..12 {
        let answer = app.upload_free(pictures::png(3, 3)).await;
        assert_eq!(answer.verdict(), unscanned());
        assert!(answer.header("retry-after").is_some());
    }
}

#[tokio::test]
async fn a_slow_scanner_is_waited_for_within_its_time() {
    let quick = scanner();
    says(&quick, 200, ALLOW);
    let scanner = Proxy::before(&quick.url);
    let release = Arc::new(Notify::new());
    scanner.next("scan", Fault::Held(Arc::clone(&release)));
    let app = asking(&scanner)
        .set("trust.scanner_timeout", "30s")
        .without_facilitator()
        .spawn()
        .await;
    let upload = app.upload_free(pictures::png(3, 3));
    let allowed = async {
        scanner.reached("scan", 1).await;
        release.notify_one();
    };
    let (answer, ()) = tokio::join!(upload, allowed);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!((scanner.calls("scan"), quick.calls("scan")), (1, 1));
}

#[tokio::test]
async fn the_scanner_may_block_content_and_its_copies() {
    let scanner = scanner();
    says(&scanner, 200, r#"{"allow": false, "block": true}"#);
    let app = asking(&scanner).without_facilitator().spawn().await;
    let image = Photo::of(5, 240, 160).jpeg(90);
    assert_eq!(app.upload_free(image).await.verdict(), refused());
    says(&scanner, 200, ALLOW);
    let copy = Photo::of(5, 120, 80).jpeg(60);
    assert_eq!(app.upload_free(copy).await.verdict(), refused());
    assert_eq!(scanner.calls("scan"), 1, "the copy was not sent");
    assert_eq!(
        app.upload_free(Photo::of(6, 120, 80).jpeg(60)).await.status,
        200
    );
    let log = pixtoll::db::admin_log::page_from(app.db(), 1, 10)
        .await
        .unwrap();
    assert!(
        log.iter()
            .all(|entry| entry.actor == "scanner" && entry.act == "block")
    );
    assert_eq!(log.len(), 2, "{}", json!(log.len()));
}

#[tokio::test]
async fn the_state_of_the_scanner_of_a_cdn_is_read() {
    let api = scanner();
    let path = "zones/0123/settings/csam_scanner_third_party";
    let read = || csam::state(&api.url, "0123", "hidden-token");
    let answer = |enabled: bool, email: &str| {
        let value = json!({"enabled": enabled, "email_state": email});
        json!({"success": true, "result": {"id": "csam_scanner", "value": value}}).to_string()
    };
    let deployment = Deployment::alone()
        .set("cdn.cloudflare_zone", "0123")
        .set("cdn.cloudflare_token", "hidden-token")
        .set("cdn.api_url", &api.url);
    let check_online = async |line: &str| {
        let ran = deployment.run(&["config", "check", "--online"]).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.out.contains(line), "{line} in {ran:?}");
        assert!(!format!("{ran:?}").contains("hidden-token"), "{ran:?}");
    };
    let lines = [
        "online: cdn: the CSAM scanner is on\n",
        "warning: cdn: the CSAM scanner is on, but its reports reach nobody",
        "warning: cdn: the CSAM scanner is off",
    ];
    for ((enabled, email, state), line) in [
        (true, "valid", csam::State::On),
        (true, "pending", csam::State::Unconfirmed),
        (false, "valid", csam::State::Off),
    ]
    .into_iter()
    .zip(lines)
    {
        api.always(path, Fault::Instead(200, answer(enabled, email)));
        assert_eq!(read().await, Ok(state));
        check_online(line).await;
    }
    let failures = [
        (200, r#"{"success": false, "result": null}"#),
        (200, "no JSON"),
        (403, r#"{"success": false}"#),
        (500, ""),
    ];
    for (status, body) in failures {
        api.always(path, Fault::Instead(status, body.to_owned()));
        let why = read().await.unwrap_err();
        assert!(!why.contains("hidden-token"), "{why}");
    }
    check_online("warning: cdn: the CSAM scanner can't be asked: its status is 500").await;
}
