//! The API describes itself: discovery documents that agree with the server, and errors that say what to send instead.

use alloy_primitives::U256;
use reqwest::Method;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::documented::DOCUMENT;
use crate::support::signing::wallet;
use crate::support::{Answer, Payment, TestApp, pictures};

/// The paths of the document with real values in the place of their names.
fn paths() -> Vec<(String, Vec<String>)> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    paths
        .iter()
        .map(|(path, item)| {
            let real = path
                .replace("{id}", "k3v9Qw2mZr7T")
                .replace("{tier}", "year")
                .replace("{file}", "photo.png")
                .replace("{page}", "x402.md");
            let methods = item.as_object().unwrap().keys();
            let methods = methods.filter(|name| *name != "parameters" && *name != "servers");
            (real, methods.map(|name| name.to_uppercase()).collect())
        })
        .collect()
}

async fn ask(app: &TestApp, method: &str, path: &str) -> reqwest::Response {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    app.http
        .request(method, app.url(path))
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn every_documented_method_exists_and_no_other() {
    let app = TestApp::spawn().await;
    for (path, mut methods) in paths() {
        // The router knows images by the form of their names.
        let options = ask(&app, "OPTIONS", &path).await;
        assert_eq!(options.status(), 204, "{path}");
        let allow = options.headers()["allow"].to_str().unwrap().to_owned();
        let mut allowed: Vec<String> = allow.split(", ").map(str::to_owned).collect();
        allowed.sort();
        methods.sort();
        assert_eq!(allowed, methods, "{path}");
        let other = ask(&app, "PATCH", &path).await;
        let expected = if methods == ["PUT"] { 404 } else { 405 };
        assert_eq!(other.status(), expected, "{path}");
    }
}

#[tokio::test]
async fn the_served_openapi_document_is_the_committed_one() {
    let app = TestApp::spawn().await;
    let served = app.get("/openapi.json").await.text();
    let committed = DOCUMENT
        .to_string()
        .replace("http://127.0.0.1:4020", &app.base);
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(parse(&served), parse(&committed));
}

#[tokio::test]
async fn the_base_url_leads_to_every_description() {
    let app = TestApp::spawn().await;
    for path in ["/", "/api"] {
        let answer = app.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        let link = answer.header("link").unwrap();
        for (rel, target) in [
            ("service-desc", "/openapi.json"),
            ("service-doc", "/docs"),
            ("describedby", "/llms.txt"),
            ("api-catalog", "/.well-known/api-catalog"),
        ] {
            let expected = format!("<{}{target}>; rel=\"{rel}\"", app.base);
            assert!(link.contains(&expected), "{link}");
            assert_eq!(app.get(target).await.status, 200, "{target}");
        }
    }
    let text = app.get("/").await.text();
    for expected in [
        "POST /api/upload/permanent",
        "1.00 USDC",
        &format!("curl -F image=@photo.png {}/api/free", app.base),
        "play USDC",
    ] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
    let routes = app.get("/api").await.json();
    let documented: usize = DOCUMENT["paths"].as_object().unwrap().len();
    let listed = routes["routes"].as_array().unwrap();
    let mut urls: Vec<&str> = listed
        .iter()
        .map(|route| route["url"].as_str().unwrap())
        .collect();
    urls.dedup();
    assert_eq!(urls.len(), documented);
}

#[tokio::test]
async fn markdown_is_plain_text_for_browsers() {
    let app = TestApp::spawn().await;
    for (accept, media) in [
        ("*/*", "text/markdown; charset=utf-8"),
        ("text/markdown", "text/markdown; charset=utf-8"),
        (
            "text/html,application/xhtml+xml",
            "text/plain; charset=utf-8",
        ),
    ] {
        let request = app
            .http
            .get(app.url("/docs/api.md"))
            .header("accept", accept);
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(
            answer.header("content-type").as_deref(),
            Some(media),
            "{accept}"
        );
        assert!(answer.text().contains(&format!("{}/api/free", app.base)));
        assert!(!answer.text().contains("127.0.0.1:4020"));
    }
}

#[tokio::test]
async fn the_skill_has_the_digest_that_the_index_names() {
    let app = TestApp::spawn().await;
    let index = app.get("/.well-known/agent-skills/index.json").await.json();
    let skill = &index["skills"][0];
    let file = app.get(skill["url"].as_str().unwrap()).await;
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&file.bytes)));
    assert_eq!(skill["digest"], digest);
    let text = file.text();
    assert!(text.starts_with("---\nname: pixtoll-image-hosting\n"));
    assert_eq!(skill["name"], "pixtoll-image-hosting");
    assert!(skill["description"].as_str().unwrap().len() > 100);
    assert!(!text.contains("{{"), "{text}");
}

#[tokio::test]
async fn every_listed_paid_route_answers_402() {
    let app = TestApp::spawn().await;
    let listed = app.get("/.well-known/x402").await.json();
    let resources = listed["resources"].as_array().unwrap();
    assert_eq!(resources.len(), 8);
    for url in resources {
        assert_eq!(app.post(url.as_str().unwrap()).await.status, 402, "{url}");
    }
    let free = TestApp::builder().without_facilitator().spawn().await;
    let listed = free.get("/.well-known/x402").await.json();
    assert_eq!(listed["resources"], serde_json::json!([]));
    let document = free.get("/openapi.json").await.text();
    assert!(!document.contains("x-payment-info"));
}

#[tokio::test]
async fn security_txt_names_the_contact_of_the_operator() {
    let app = TestApp::builder()
        .set("operator.security_contact", "mailto:security@example.com")
        .spawn()
        .await;
    let text = app.get("/.well-known/security.txt").await.text();
    assert!(
        text.contains("Contact: mailto:security@example.com\n"),
        "{text}"
    );
    assert!(text.contains("\nExpires: 2027-"), "{text}");
    let without = TestApp::spawn()
        .await
        .get("/.well-known/security.txt")
        .await;
    assert_eq!(
        without.verdict(),
        (404, "not_found".to_owned(), Some(false))
    );
    assert!(without.field("message").contains("no contact"));
}

#[tokio::test]
async fn an_unknown_path_names_the_nearest_routes() {
    let app = TestApp::spawn().await;
    for (path, nearest) in [
        ("/upload", "POST /api/upload"),
        ("/api/v1/free", "POST /api/free"),
        ("/api/image/k3v9Qw2mZr7T", "GET /api/images/{id}"),
    ] {
        let answer = app.post(path).await;
        let expected = (404, "unknown_route".to_owned(), Some(false));
        assert_eq!(answer.verdict(), expected, "{path}");
        let message = answer.field("message");
        assert!(message.contains(nearest), "{message}");
        assert!(
            message.contains(&format!("{}/openapi.json", app.base)),
            "{message}"
        );
    }
}

#[tokio::test]
async fn an_unknown_tier_names_those_that_are_sold() {
    let app = TestApp::spawn().await;
    let answer = app.post("/api/upload/gold").await;
    assert_eq!(
        answer.verdict(),
        (404, "unknown_tier".to_owned(), Some(false))
    );
    let message = answer.field("message");
    assert!(
        message.contains("\"gold\"") && message.contains("year, permanent"),
        "{message}"
    );
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused_before_the_challenge() {
    let app = TestApp::builder()
        .set("limits.body_bytes", "512 MiB")
        .spawn()
        .await;
    let large = vec![0_u8; 6 * 1024 * 1024];
    let request = app
        .http
        .post(app.url("/api/upload/year"))
        .header("content-type", "image/png")
        .body(large);
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert_eq!(
        answer.verdict(),
        (413, "file_too_large".to_owned(), Some(false))
    );
    let message = answer.field("message");
    assert!(
        message.ends_with("No tier takes more than 5 MiB."),
        "{message}"
    );
    let mut free = pictures::png(8, 8);
    free.resize(2 * 1024 * 1024, 0);
    let message = app.upload_free(free).await.field("message");
    assert!(
        message.ends_with(
            "Or send it to a tier that takes it: year (POST /api/upload/year, up to 5 MiB, 0.01 USDC), \
             permanent (POST /api/upload/permanent, up to 5 MiB, 1.00 USDC)."
        ),
        "{message}"
    );
}

#[tokio::test]
async fn the_command_of_a_402_reads_the_payment_from_the_environment() {
    let app = TestApp::spawn().await;
    for (path, image) in [
        ("/api/upload/year", true),
        ("/api/upload/token/year", false),
    ] {
        let body = app.post(path).await.json();
        let curl = body["action"]["curl"].as_str().unwrap();
        assert!(
            curl.contains("-H \"PAYMENT-SIGNATURE: $PAYMENT\""),
            "{curl}"
        );
        assert_eq!(curl.contains("-F image=@image.png"), image, "{curl}");
        assert!(curl.ends_with(&format!("'{}{path}'", app.base)), "{curl}");
    }
    let body = app.post("/api/upload/year?metadata=keep").await.json();
    let curl = body["action"]["curl"].as_str().unwrap();
    assert!(curl.contains(" -F metadata=keep "), "{curl}");
}

#[tokio::test]
async fn a_refused_payment_names_the_field_and_both_values() {
    let app = TestApp::spawn().await;
    let payment = app.sign_for("year").await;
    let refused = (402, "payment_invalid".to_owned(), Some(false));
    let message = async |payment: &Payment| {
        let answer = app.pay(payment).await;
        assert_eq!(answer.verdict(), refused, "{}", answer.text());
        answer.field("message")
    };

    let mut cheap = payment.clone();
    cheap.authorization.value = U256::from(9_000);
    cheap.sign_by(&app.wallet);
    let said = message(&cheap).await;
    assert!(
        said.contains("9000 (0.009 USDC)") && said.contains("10000 (0.01 USDC)"),
        "{said}"
    );

    let mut forged = payment.clone();
    let stranger = wallet(9);
    forged.sign_by(&stranger);
    let said = message(&forged).await;
    for part in [
        &stranger.address().to_string(),
        &app.wallet.address().to_string(),
        "name \"USDC\", version \"2\", chainId 84532",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }

    let poor = wallet(10);
    app.chain.drain(poor.address()).await.unwrap();
    let mut broke = app.sign_for("year").await;
    broke.authorization.from = poor.address();
    broke.sign_by(&poor);
    let said = message(&broke).await;
    for part in [&poor.address().to_string(), "0 (0.00 USDC)", "base-sepolia"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}
