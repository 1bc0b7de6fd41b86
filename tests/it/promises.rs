//! What the pages promise is what is configured and what the server does. docs/pages.md lists the promises.

use reqwest::StatusCode;
use serde_json::json;

use crate::support::{Answer, TestApp, pictures};

const BROWSER: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

/// The text of a page, without tags, its white space in one form.
async fn text_of(app: &TestApp, path: &str) -> String {
    let request = app.http.get(app.url(path)).header("accept", BROWSER);
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}");
    let mut is_tag = false;
    let visible: String = answer
        .text()
        .chars()
        .filter(|letter| {
            match letter {
                '<' => is_tag = true,
                '>' => {
                    is_tag = false;
                    return false;
                }
                _ => {}
            }
            !is_tag
        })
        .collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn assert_says(text: &str, sentences: &[&str]) {
    for sentence in sentences {
        assert!(text.contains(sentence), "{sentence:?} is not in: {text}");
    }
}

fn assert_keeps_silent(text: &str, sentences: &[&str]) {
    for sentence in sentences {
        assert!(!text.contains(sentence), "{sentence:?} is in: {text}");
    }
}

#[tokio::test]
async fn a_plain_server_promises_no_more_than_it_has() {
    let app = TestApp::spawn().await;
    let security = text_of(&app, "/security").await;
    assert_says(
        &security,
        &[
            "unless it was uploaded as private",
            "without its metadata",
            "the wallet that paid and the transaction",
            "Not kept: network addresses, file names.",
            "kept only where a report, a formal notice of copyright or an objection gives them",
            "sets no cookies and uses no analytics",
            "over HTTP without encryption",
            if cfg!(feature = "test-s3") {
                "Images lie in a bucket of 127.0.0.1"
            } else {
                "Images lie in a folder of the server. The operator has not stated that its disks are encrypted"
            },
            "no content delivery network",
            "No scanner for known pictures of sexual abuse of children is configured",
            "Nobody at the service looks at an image unless a system flagged it or somebody reported it",
            "kept for 365 days more",
            "delete token",
            "never a key",
            "once",
        ],
    );
    assert_keeps_silent(
        &security,
        &[
            "Everything is sent over HTTPS",
            "A scanner of the operator",
            "Cloudflare's scanner",
            "Not kept: names",
        ],
    );
    let terms = text_of(&app, "/terms").await;
    assert_says(
        &terms,
        &[
            "Its operator has given no name",
            "The licence ends when the image is deleted",
            "Sexual abuse of children. It is reported to the responsible authority at once",
            "Intimate pictures",
            "Terrorism and violent extremism",
            "infringes copyright",
            "Malware",
            "Phishing and deception",
            "Private facts about a person",
            "Made-up pictures of a real person",
            "Harassment",
            "without notice",
            "A wallet is blocked after 3 upheld cases",
            "at least 30 days",
            "at least 90 days before",
            "are personal",
            "at least 16 years old",
            "without warranty",
            "The operator has given no contact",
        ],
    );
    assert_keeps_silent(&terms, &["The law of", "sanctions list"]);
    let privacy = text_of(&app, "/privacy").await;
    assert_says(
        &privacy,
        &[
            "Article 6(1)(b)",
            "365 days after its deletion",
            "The service stores no network addresses",
            "only where a report, a formal notice of copyright or an objection gives them",
            "the full name, postal address and contact that its sender wrote",
            "a removed one 30 days",
            "You may ask what is stored of you",
        ],
    );
    assert_keeps_silent(&privacy, &["Cloudflare", "stores no names"]);
}

#[tokio::test]
async fn another_server_promises_what_it_is_configured_to_do() {
    let app = TestApp::builder()
        .set("images.private", "false")
        .set("images.clean", "false")
        .set("retention.records", "730d")
        .set("trust.restorable", "14d")
        .set("trust.strikes", "1")
        .set("trust.scanner_url", "https://scanner.example.com/")
        .set("cdn.cloudflare_zone", "0123456789abcdef0123456789abcdef")
        .set(
            "cdn.cloudflare_token",
            "a-token-of-a-zone-that-does-not-exist",
        )
        .set("cdn.csam_scanner", "true")
        .set("operator.name", "Ada Byron")
        .set("operator.contact", "mailto:ada@example.com")
        .set("operator.abuse_contact", "mailto:abuse@example.com")
        .set("operator.jurisdiction", "Iceland")
        .set("operator.csam_authority", "the CyberTipline of NCMEC")
        .set("operator.minimum_age", "18")
        .set("operator.encrypted_disks", "true")
        .without_facilitator()
        .spawn()
        .await;
    let security = text_of(&app, "/security").await;
    assert_says(
        &security,
        &[
            "This service takes no private images",
            "The operator states that its disks are encrypted",
            "The content delivery network of Cloudflare",
            "Cloudflare's scanner compares images",
            "A scanner of the operator sees each image before it is published",
            "reported to the CyberTipline of NCMEC",
            "kept for 730 days more",
            "This service sells nothing",
        ],
    );
    assert_keeps_silent(&security, &["without its metadata", "the wallet that paid"]);
    let terms = text_of(&app, "/terms").await;
    assert_says(
        &terms,
        &[
            "operated by Ada Byron",
            "after 1 upheld case about",
            "The law of Iceland applies",
            "at least 18 years old",
            "Write to the operator",
        ],
    );
    assert_keeps_silent(&terms, &["USDC"]);
    let privacy = text_of(&app, "/privacy").await;
    assert_says(
        &privacy,
        &[
            "Cloudflare delivers the images",
            "a removed one 14 days",
            "Ada Byron is responsible",
        ],
    );
    assert_keeps_silent(&privacy, &["The wallet that paid"]);
    let request = app.http.get(app.url("/abuse")).header("accept", BROWSER);
    let abuse = Answer::of(request.send().await.unwrap()).await.text();
    assert!(abuse.contains("mailto:abuse@example.com"), "{abuse}");
}

/// The form of the page follows the rules of the API, and loses nothing that was typed.
#[tokio::test]
async fn the_form_reports_an_image_without_a_script() {
    let app = TestApp::spawn().await;
    let image = app
        .send(
            "POST",
            "/api/free",
            &[("content-type", "image/png")],
            pictures::png(3, 3),
        )
        .await;
    let id = image.json()["id"].as_str().unwrap().to_owned();
    let prefilled = app.get(&format!("/abuse?image={id}")).await;
    assert!(
        prefilled.text().contains(&format!("value=\"{id}\"")),
        "{}",
        prefilled.text()
    );
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let wrong = format!("image={id}&reason=other&details=look+%3Cb%3E+here&contact=x");
    let refused = app.send("POST", "/abuse", &form, wrong).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    for kept in [
        "The report was not sent",
        "look &#60;b&#62; here",
        &id,
        "value=\"other\" required checked",
    ] {
        assert!(
            refused.text().contains(kept),
            "{kept:?} is not in: {}",
            refused.text()
        );
    }
    let filed = app
        .send(
            "POST",
            "/abuse",
            &form,
            format!("image={id}&reason=harassment&details=&contact="),
        )
        .await;
    assert_eq!(filed.status, StatusCode::OK, "{}", filed.text());
    let text = filed.text();
    let case = text.split("/abuse/").nth(1).unwrap().get(..16).unwrap();
    let shown = app.get(&format!("/abuse/{case}")).await;
    assert!(
        shown.text().contains("Waits for the operator's decision"),
        "{}",
        shown.text()
    );
    let api = app.get(&format!("/api/abuse/{case}")).await;
    assert_eq!(api.json()["image"], json!(id));
    assert_eq!(
        app.get("/abuse/0000000000000000").await.status,
        StatusCode::NOT_FOUND
    );
}

/// A notice needs each of its parts, also in the form.
#[tokio::test]
async fn a_notice_in_the_form_is_sworn() {
    let app = TestApp::spawn().await;
    let image = app
        .send(
            "POST",
            "/api/free",
            &[("content-type", "image/png")],
            pictures::png(4, 4),
        )
        .await;
    let id = image.json()["id"].as_str().unwrap().to_owned();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let notice = format!(
        "image={id}&reason=copyright&contact=a%40example.com&name=Ada&work=My+photo&address=1+Road"
    );
    let unsworn = app.send("POST", "/abuse", &form, notice.clone()).await;
    assert_eq!(unsworn.status, StatusCode::BAD_REQUEST);
    assert!(unsworn.text().contains("My photo"), "{}", unsworn.text());
    let sworn = app
        .send("POST", "/abuse", &form, notice + "&sworn=yes")
        .await;
    assert_eq!(sworn.status, StatusCode::OK, "{}", sworn.text());
    assert!(
        !sworn.text().contains("formal notice, report"),
        "{}",
        sworn.text()
    );
}
