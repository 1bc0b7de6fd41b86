//! The console and the requests of the admin API that only it needs (docs/trust.md): the content of
//! images, blocks and statistics.

use std::time::Duration;

use serde_json::{Value, json};

use crate::hot::object_of;
use crate::removal::with_admin;
use crate::support::database::texts;
use crate::support::{Answer, TestApp, pictures};

/// Files that the page loads, as its own text names them.
const FILES: [&str; 5] = ["", "index.html", "console.css", "app.js", "icon.svg"];
const MARKUP: &str = "<img src=x onerror=alert(1)><script>alert(2)</script>";

impl TestApp {
    async fn console(&self, file: &str) -> Answer {
        self.get(&format!("{}/console/{file}", self.admin)).await
    }

    async fn asked(&self, path: &str) -> Value {
        let answer = self.admin("GET", path, &Value::Null).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    async fn operated(&self, path: &str, extra: Value) -> Answer {
        let mut body = json!({"reason": "a test", "as": "ada"});
        if let (Some(body), Value::Object(extra)) = (body.as_object_mut(), extra) {
            body.extend(extra);
        }
        self.admin("POST", path, &body).await
    }
}

#[tokio::test]
async fn the_console_is_on_the_admin_listener_alone_and_only_with_a_token() {
    let app = with_admin().spawn().await;
    let root = app.get(&format!("{}/", app.admin)).await;
    assert_eq!(
        (root.status, root.header("location")),
        (303, Some("/console/".to_owned()))
    );
    for file in FILES {
        let answer = app.console(file).await;
        assert_eq!(answer.status, 200, "{file}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';"),
            "{policy}"
        );
        assert!(
            !policy.contains("unsafe") && policy.contains("trusted-types 'none'"),
            "{policy}"
        );
        assert_eq!(answer.header("x-content-type-options").unwrap(), "nosniff");
        assert_eq!(answer.header("x-frame-options").unwrap(), "DENY");
        assert_eq!(answer.header("cache-control").unwrap(), "no-store");
        assert_eq!(answer.header("set-cookie"), None);
        let public = app.get(&format!("/console/{file}")).await;
        assert_eq!(
            (public.status, public.error()),
            (404, "unknown_route".to_owned()),
            "{file}"
        );
    }
    assert_eq!(app.console("../../Cargo.toml").await.status, 404);
    assert_eq!(app.console("app.js/x").await.status, 404);
    let page = app.console("").await.text();
    assert!(
        !page.contains("style=") && !page.contains("<script>"),
        "{page}"
    );

    let off = TestApp::spawn().await;
    let page = off.console("").await;
    assert_eq!(
        (page.status, page.error()),
        (404, "unknown_route".to_owned())
    );
    assert!(
        page.field("message").contains("admin.token"),
        "{}",
        page.text()
    );
}

#[tokio::test]
async fn every_file_that_a_script_of_the_console_imports_is_served() {
    let app = with_admin().spawn().await;
    let (mut seen, mut left) = (Vec::new(), vec!["app.js".to_owned()]);
    while let Some(file) = left.pop() {
        if seen.contains(&file) {
            continue;
        }
        let answer = app.console(&file).await;
        assert_eq!(answer.status, 200, "{file}");
        let kind = answer.header("content-type");
        assert_eq!(kind.as_deref(), Some("text/javascript; charset=utf-8"));
        let text = answer.text();
        // Text of strangers would become markup.
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ] {
            assert!(!text.contains(word), "{file} holds {word}");
        }
        let names = text.split(" from \"./").skip(1);
        left.extend(names.map(|rest| rest.split('"').next().unwrap().to_owned()));
        seen.push(file);
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/console");
    let scripts = std::fs::read_dir(folder).unwrap();
    let scripts = scripts.filter(|it| it.as_ref().unwrap().path().extension().unwrap() == "js");
    assert_eq!(scripts.count(), seen.len(), "a script is never imported");
}

#[tokio::test]
async fn the_operator_sees_an_image_in_any_state_and_the_log_says_so() {
    let app = with_admin().on_disk().spawn().await;
    let picture = pictures::png(40, 30);
    let image = app
        .upload_at("/api/free?visibility=private", picture.clone())
        .await;
    let id = image.field("id");
    let view = format!("/images/{id}/view");
    for act in ["", "remove", "hold"] {
        if !act.is_empty() {
            app.acted(&id, act, json!({})).await;
        }
        let seen = app.operated(&view, json!({})).await;
        assert_eq!((seen.status, &seen.bytes), (200, &picture), "{act}");
        assert_eq!(seen.header("content-type").unwrap(), "image/png");
        assert_eq!(seen.header("cache-control").unwrap(), "no-store");
        assert_eq!(seen.header("x-content-type-options").unwrap(), "nosniff");
        assert_eq!(
            seen.header("content-security-policy").unwrap(),
            "default-src 'none'; sandbox"
        );
    }
    let log = app.asked(&format!("/log?about={id}")).await;
    let entries = log["entries"].as_array().unwrap();
    let views: Vec<&Value> = entries.iter().filter(|it| it["act"] == "view").collect();
    assert_eq!(views.len(), 3);
    assert_eq!(
        (&views[0]["actor"], &views[0]["reason"]),
        (&json!("ada"), &json!("a test"))
    );
    assert_eq!(
        views[0]["details"],
        json!({"state": "removed", "visibility": "private"})
    );
    assert_eq!(app.asked("/log/verify").await["isIntact"], true);

    // Nothing is shown without a reason or a token, and nothing is written into the log then.
    let entries = app.rows("admin_log").await;
    let silent = app.admin("POST", &view, &json!({"as": "ada"})).await;
    assert_eq!(silent.status, 400, "{}", silent.text());
    let url = format!("{}/admin/api{view}", app.admin);
    let none: [(&str, &str); 0] = [];
    let stranger = app
        .send("POST", &url, &none, r#"{"reason": "x", "as": "x"}"#)
        .await;
    assert_eq!(
        (stranger.status, stranger.error()),
        (401, "unauthorized".to_owned())
    );
    assert_eq!(stranger.header("cache-control").unwrap(), "no-store");
    assert_eq!(
        app.operated("/images/AAAAAAAAAAAA/view", json!({}))
            .await
            .status,
        404
    );
    assert_eq!(app.rows("admin_log").await, entries);

    // Content that is gone is said to be gone.
    let other = app.upload_free(pictures::png(3, 3)).await.field("id");
    std::fs::remove_file(object_of(&app, &other)).unwrap();
    let gone = app
        .operated(&format!("/images/{other}/view"), json!({}))
        .await;
    assert_eq!(
        (gone.status, gone.error()),
        (409, "content_missing".to_owned())
    );
}

#[tokio::test]
async fn blocks_are_made_listed_lifted_and_imported_over_the_admin_api() {
    let app = with_admin().spawn().await;
    let image = app.upload_free(pictures::png(31, 30)).await.field("id");
    let wallet = "0x52908400098527886E0F7030069857D2E4169EE7";
    let made = app
        .operated("/block", json!({"targets": [image, wallet], "for": "30d"}))
        .await;
    assert_eq!(made.status, 200, "{}", made.text());
    let made = made.json();
    assert_eq!(made["served"], json!([image]));
    let blocks = made["blocks"].as_array().unwrap();
    assert!(blocks.len() >= 2, "{made}");
    let newest = blocks.last().unwrap();
    assert_eq!(
        (&newest["kind"], &newest["value"]),
        (&json!("wallet"), &json!(wallet))
    );
    assert_eq!(
        newest["expiresAt"],
        app.clock_text(Duration::from_hours(24 * 30))
    );
    app.app.screening.blocks().read_again().await.unwrap();
    let refused = app.upload_free(pictures::png(31, 30)).await;
    assert_eq!(refused.error(), "content_blocked");

    // Page by page.
    let (mut listed, mut after) = (Vec::new(), String::new());
    loop {
        let page = app.asked(&format!("/blocks?limit=1{after}")).await;
        listed.extend(page["blocks"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }
    assert_eq!(listed.len(), blocks.len());
    let wallets = app.asked("/blocks?kind=wallet&source=operator").await;
    assert_eq!(wallets["blocks"], json!([newest]));

    let text = format!("HASH_PDQ,{}\nHASH_MD5,00\n", "0f".repeat(32));
    let body = json!({"list": text, "source": "partner"});
    let imported = app.operated("/blocks/import", body).await;
    let outcome = json!({"source": "partner", "blocks": 1, "added": 1, "updated": 0, "removed": 0, "skippedLines": 1});
    assert_eq!(imported.json(), outcome);
    let counts = app.asked("/blocks/count").await["counts"].clone();
    let partner = json!({"source": "partner", "kind": "pdq", "blocks": 1});
    assert!(counts.as_array().unwrap().contains(&partner), "{counts}");

    let freed = app.operated("/unblock", json!({"targets": [wallet]})).await;
    assert_eq!(
        freed.json()["lifted"],
        json!([{"target": format!("wallet:{wallet}"), "lifted": 1}])
    );
    let acts = texts(app.db(), "SELECT act FROM admin_log ORDER BY number").await;
    assert_eq!(acts.last().unwrap(), "unblock");
    assert!(acts.contains(&"import_blocks".to_owned()), "{acts:?}");
    let entries = app.rows("admin_log").await;
    for (path, body, word) in [
        ("/block", json!({}), "targets is missing"),
        (
            "/block",
            json!({"targets": ["odd"]}),
            "nothing that can be blocked",
        ),
        (
            "/block",
            json!({"targets": [wallet], "for": "soon"}),
            "no time",
        ),
        (
            "/unblock",
            json!({"targets": [wallet], "odd": 1}),
            "expected form",
        ),
        ("/blocks/import", json!({"list": "x"}), "source is missing"),
        (
            "/blocks/import",
            json!({"list": "x\ny", "source": "p"}),
            "line 1",
        ),
        (
            "/blocks/import",
            json!({"list": "x", "source": "a b"}),
            "is not allowed",
        ),
    ] {
        let bad = app.operated(path, body).await;
        assert_eq!(
            (bad.status, bad.error()),
            (400, "bad_request".to_owned()),
            "{path}"
        );
        assert!(bad.field("message").contains(word), "{}", bad.text());
    }
    for query in ["?limit=0", "?limit=1001", "?kind=odd", "?after=odd"] {
        let bad = app
            .admin("GET", &format!("/blocks{query}"), &Value::Null)
            .await;
        assert_eq!(bad.status, 400, "{query}");
    }
    assert_eq!(app.rows("admin_log").await, entries);
}

#[tokio::test]
async fn the_admin_api_has_the_statistics_of_the_command() {
    let app = with_admin().spawn().await;
    app.upload_free(pictures::png(8, 8)).await;
    let payment = app.sign_at("/api/upload/year").await;
    app.pay_with(&payment, &pictures::png(9, 9)).await;
    app.app.funnel.record().await;
    let stats = app.asked("/stats?days=7").await;
    let uploads: i64 = stats["days"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["uploads"].as_i64().unwrap())
        .sum();
    assert_eq!(uploads, 2);
    assert_eq!(stats["funnel"][0]["settled"], 1);
    assert_eq!(stats["storage"].as_array().unwrap().len(), 2);
    for query in ["?days=0", "?days=1101", "?days=x"] {
        let bad = app
            .admin("GET", &format!("/stats{query}"), &Value::Null)
            .await;
        assert_eq!(bad.status, 400, "{query}");
    }
}

#[tokio::test]
async fn markup_in_reports_stays_text_and_is_never_html() {
    let app = with_admin().spawn().await;
    let image = app.upload_free(pictures::png(8, 8)).await.field("id");
    let body = json!({"image": image, "reason": "other", "details": MARKUP, "contact": MARKUP});
    let headers = [("content-type", "application/json")];
    let filed = app
        .send("POST", "/api/abuse", &headers, body.to_string())
        .await;
    assert_eq!(filed.status, 200, "{}", filed.text());
    let path = format!("/cases/{}", filed.field("case"));
    let answer = app.admin("GET", &path, &Value::Null).await;
    assert_eq!(answer.header("content-type").unwrap(), "application/json");
    assert_eq!(answer.header("x-content-type-options").unwrap(), "nosniff");
    let words = &answer.json()["words"][0];
    assert_eq!(
        (&words["details"], &words["contact"]),
        (&json!(MARKUP), &json!(MARKUP))
    );
}
