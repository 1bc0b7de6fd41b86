//! Challenges that are sent again without the router: they differ only in their tickets, can be paid,
//! and end with what they say.

use std::time::Duration;

use pixtoll::system::clock::{Clock, SystemClock};
use serde_json::Value;

use crate::support::process::{Deployment, Request, eventually};
use crate::support::{Answer, Payment, TestApp, signing::wallet};

const TOKEN: &str = "/api/upload/token/year";

/// The challenge in a response, and its ticket, which is taken out of it.
fn challenge(answer: &Answer) -> (Value, String) {
    assert_eq!(answer.status, 402, "{}", answer.text());
    let mut document = answer.document("payment-required");
    let ticket = document["extensions"]["pixtoll"]["info"]["ticket"].take();
    (document, ticket.as_str().unwrap().to_owned())
}

fn lasting_headers(answer: &Answer) -> reqwest::header::HeaderMap {
    let mut headers = answer.headers.clone();
    for name in ["date", "x-request-id", "payment-required"] {
        assert!(headers.remove(name).is_some(), "{name}");
    }
    // GET may be answered with a page, POST never.
    headers.remove("vary");
    headers
}

#[tokio::test]
async fn challenges_of_one_minute_differ_in_their_tickets_alone() {
    let app = TestApp::spawn().await;
    for path in [
        TOKEN,
        "/api/upload/token",
        "/api/upload/token/year?images=3",
        "/api/upload",
        "/api/upload/permanent?metadata=keep",
    ] {
        let first = app.get(path).await;
        let (document, ticket) = challenge(&first);
        let mut tickets = vec![ticket];
        for _ in 0..20 {
            let again = app.post(path).await;
            let (same, ticket) = challenge(&again);
            assert_eq!(same, document, "{path}");
            assert_eq!(again.bytes, first.bytes, "{path}");
            assert_eq!(lasting_headers(&again), lasting_headers(&first), "{path}");
            assert_eq!(ticket.len(), 32);
            tickets.push(ticket);
        }
        tickets.sort();
        tickets.dedup();
        assert_eq!(tickets.len(), 21, "{path}");
    }
}

#[tokio::test]
async fn a_repeated_challenge_can_be_paid_and_its_ticket_proves_the_payer() {
    let app = TestApp::spawn().await;
    for _ in 0..20 {
        challenge(&app.post(TOKEN).await);
    }
    let payment = app.sign_at(TOKEN).await;
    let token = app.pay_at(TOKEN, &payment).await.token();
    assert_eq!(app.pay_at(TOKEN, &payment).await.token(), token);
    let stranger: Payment = payment.with_ticket(&"0".repeat(32));
    assert_eq!(app.pay_at(TOKEN, &stranger).await.error(), "payment_known");
    assert_eq!(app.transfers().await.len(), 1);
}

#[tokio::test]
async fn a_challenge_is_not_sent_again_after_its_minute() {
    let app = TestApp::spawn().await;
    let until = |answer: &Answer| {
        let (document, _) = challenge(answer);
        document["extensions"]["offer-receipt"].to_string()
    };
    let first = until(&app.get(TOKEN).await);
    app.advance(Duration::from_mins(1));
    for _ in 0..8 {
        assert_ne!(until(&app.get(TOKEN).await), first);
    }
}

#[tokio::test]
async fn what_a_request_carries_counts_although_its_url_has_a_challenge() {
    let app = TestApp::builder()
        .set("limits.payments_per_address_per_minute", "40")
        .spawn()
        .await;
    for _ in 0..10 {
        challenge(&app.post("/api/upload").await);
    }
    for (name, value, error) in [
        ("payment-signature", "nonsense", "bad_payment"),
        ("x-payment", "nonsense", "bad_payment"),
        ("idempotency-key", "\u{e4}", "invalid_header"),
        ("x-upload-token", "nonsense", "bad_token"),
    ] {
        let headers = [(name, value)];
        let answer = app.send("POST", "/api/upload", &headers, Vec::new()).await;
        assert_eq!(answer.error(), error, "{name}");
    }
    let picture = crate::support::pictures::png(4, 4);
    let payment = app.sign_by("/api/upload/year", &wallet(3)).await;
    assert_eq!(app.pay_with(&payment, &picture).await.status, 200);
    // Repeated challenges count like others.
    let mut answers = 0;
    while app.post("/api/upload").await.status == 402 {
        answers += 1;
        assert!(answers < 40);
    }
    let refused = app.post("/api/upload").await;
    assert_eq!(refused.error(), "rate_limited");
    assert!(refused.header("retry-after").is_some());
}

#[tokio::test]
async fn a_challenge_answers_its_own_method_alone() {
    let app = TestApp::spawn().await;
    let path = "/api/links?images=2";
    for _ in 0..8 {
        challenge(&app.post(path).await);
        assert_eq!(app.get(path).await.error(), "unknown_parameter");
        challenge(&app.post("/api/links").await);
        assert_eq!(app.get("/api/links").await.error(), "sign_in_required");
    }
}

#[tokio::test]
async fn a_bought_link_keeps_its_days_when_fewer_are_sold() {
    let path = "/api/links?images=1&days=60&tier=year";
    let many = Deployment::alone().set("links.max_days", "60");
    let server = many.start().await;
    let challenge = many.answer(&Request::post(path)).await;
    let now = SystemClock.now();
    let sign = |wallet| Payment::answering(&challenge, path, wallet, now);
    let (paid, unpaid) = (sign(&wallet(3)), sign(&wallet(4)));
    let with = |payment: &Payment| {
        let headers = payment.headers().into_iter();
        headers.fold(Request::post(path), |request, (name, value)| {
            request.with(name, &value)
        })
    };
    let bought = many.answer(&with(&paid)).await;
    assert_eq!(bought.status, 200, "{}", bought.text());
    server.terminate();
    assert!(server.end().await.success());
    let few = many.set("links.max_days", "7");
    let server = few.start().await;
    let again = few.answer(&with(&paid)).await;
    assert_eq!(again.field("url"), bought.field("url"), "{}", again.text());
    for refused in [&Request::post(path), &with(&unpaid)] {
        assert_eq!(few.answer(refused).await.error(), "invalid_parameter");
    }
    server.terminate();
    assert!(server.end().await.success());
}

#[tokio::test]
async fn a_closed_shop_sends_no_challenge_again() {
    let app = TestApp::on_disk().await;
    for _ in 0..8 {
        challenge(&app.get(TOKEN).await);
    }
    app.disk.set_free(0);
    app.get(&format!("{}/readyz", app.admin)).await;
    for _ in 0..4 {
        assert_eq!(app.get(TOKEN).await.error(), "storage_full");
    }
}

#[tokio::test]
async fn a_new_price_replaces_the_challenges_at_once() {
    let deployment = Deployment::alone();
    let file = deployment.folder().join("pixtoll.toml");
    let tiers = |price: &str| {
        format!(
            "[[tiers]]\nname = \"year\"\nprice = \"{price}\"\nmax_bytes = \"1 MiB\"\nkeep = \"365d\"\ndefault = true\n"
        )
    };
    std::fs::write(&file, tiers("0.01")).unwrap();
    let server = deployment.start().await;
    let amount = async || {
        let answer = deployment.answer(&Request::post(TOKEN)).await;
        let (document, _) = challenge(&answer);
        document["accepts"][0]["amount"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    for _ in 0..8 {
        assert_eq!(amount().await, "10000");
    }
    std::fs::write(&file, tiers("0.02")).unwrap();
    server.reload();
    eventually("the new price", async || {
        (amount().await == "20000").then_some(())
    })
    .await;
    for _ in 0..8 {
        assert_eq!(amount().await, "20000");
    }
    server.terminate();
    assert!(server.end().await.success());
}

/// The lines of requests, as JSON.
fn request_lines(log: &str) -> Vec<Value> {
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["message"] == "request").collect()
}

#[tokio::test]
async fn requests_without_the_router_are_logged_like_others() {
    let deployment = Deployment::alone().set("log_format", "json");
    let server = deployment.start().await;
    let mut ids = Vec::new();
    for path in [TOKEN, TOKEN, TOKEN, TOKEN, TOKEN, TOKEN] {
        let answer = deployment.answer(&Request::post(path)).await;
        ids.push(answer.header("x-request-id").unwrap());
    }
    server.terminate();
    assert!(server.end().await.success());
    let lines = request_lines(&deployment.whole_log());
    let keys = |line: &Value| {
        let fields = line.as_object().unwrap();
        fields.keys().cloned().collect::<Vec<_>>()
    };
    for id in ids {
        let own: Vec<_> = lines
            .iter()
            .filter(|line| line["request.id"] == id.as_str())
            .collect();
        assert_eq!(own.len(), 1, "{id}");
        let line = own[0];
        assert_eq!(keys(line), keys(&lines[0]));
        for (field, value) in [
            ("level", "INFO"),
            ("method", "POST"),
            ("route", "/api/upload/token/{tier}"),
            ("target", "pixtoll::http"),
        ] {
            assert_eq!(line[field], value, "{line}");
        }
        assert_eq!(line["status"], 402);
        assert!(line["elapsed_us"].is_u64());
    }
}
