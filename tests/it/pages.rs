//! The pages for people: who receives them, what they load, and what the operator changes in them.

use reqwest::StatusCode;

use crate::support::{Answer, TestApp, pictures};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// A page as a browser receives it.
pub(crate) async fn page(app: &TestApp, path: &str) -> Answer {
    let request = app.http.get(app.url(path)).header("accept", BROWSER);
    Answer::of(request.send().await.unwrap()).await
}

/// The paths that a page loads from `/assets/`.
fn assets_of(html: &str) -> Vec<String> {
    html.split('"')
        .filter(|part| part.starts_with("/assets/"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn browsers_receive_the_front_page_and_programs_the_text() {
    let app = TestApp::spawn().await;
    let html = page(&app, "/").await;
    assert_eq!(html.status, StatusCode::OK);
    assert_eq!(
        html.header("content-type").as_deref(),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(html.header("vary").as_deref(), Some("Accept"));
    assert!(html.text().contains("<h1>"), "{}", html.text());
    for accept in [
        "*/*",
        "text/markdown, text/html;q=0.9",
        "application/json",
        "text/html;q=0",
    ] {
        let request = app.http.get(app.url("/")).header("accept", accept);
        let text = Answer::of(request.send().await.unwrap()).await;
        let media = text.header("content-type");
        assert_eq!(
            media.as_deref(),
            Some("text/markdown; charset=utf-8"),
            "{accept}"
        );
    }
}

#[tokio::test]
async fn a_page_loads_what_its_server_has_and_runs_nothing_else() {
    let app = TestApp::spawn().await;
    let html = page(&app, "/").await;
    let policy = html.header("content-security-policy").unwrap();
    for rule in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(rule), "{rule} is not in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    let assets = assets_of(&html.text());
    assert!(assets.len() >= 3, "{assets:?}");
    for path in assets {
        let asset = app.get(&path).await;
        assert_eq!(asset.status, StatusCode::OK, "{path}");
        let kept = asset.header("cache-control").unwrap();
        assert!(kept.contains("immutable"), "{path}: {kept}");
        assert_eq!(
            asset.header("x-content-type-options").as_deref(),
            Some("nosniff")
        );
    }
}

/// While a fleet is updated, a page of one server loads the assets of another.
#[tokio::test]
async fn assets_of_another_version_are_kept_shortly() {
    let app = TestApp::spawn().await;
    let asset = app.get("/assets/000000000000/site.css").await;
    assert_eq!(asset.status, StatusCode::OK);
    assert_eq!(
        asset.header("cache-control").as_deref(),
        Some("public, max-age=60")
    );
    for path in [
        "/assets/000000000000/none.css",
        "/assets/000000000000/../Cargo.toml",
    ] {
        assert_eq!(app.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn the_operator_names_and_colours_the_pages() {
    let folder = tempfile::tempdir().unwrap();
    let style = folder.path().join("own.css");
    std::fs::write(&style, ".own { color: teal }").unwrap();
    let app = TestApp::builder()
        .set("site.name", "Imago <b>")
        .set("site.accent", "#00695c")
        .set("site.stylesheet", style.to_str().unwrap())
        .set("operator.name", "Ada & Co")
        .set("operator.contact", "mailto:ada@example.com")
        .spawn()
        .await;
    let html = page(&app, "/").await;
    let text = html.text();
    assert!(text.contains("Imago &#60;b&#62;"), "{text}");
    assert!(text.contains("Operated by Ada &#38; Co"), "{text}");
    assert!(text.contains("mailto:ada@example.com"), "{text}");
    let theme = assets_of(&text)
        .into_iter()
        .find(|path| path.ends_with("theme.css"));
    let theme = app.get(&theme.unwrap()).await;
    assert!(theme.text().contains("#00695c"), "{}", theme.text());
    assert!(
        theme.text().contains(".own { color: teal }"),
        "{}",
        theme.text()
    );
}

/// The body of a form with an image, as a browser posts it.
fn form(image: &[u8]) -> Vec<u8> {
    let head =
        b"--XX\r\nContent-Disposition: form-data; name=\"image\"; filename=\"<b>.png\"\r\n\r\n";
    [&head[..], image, b"\r\n--XX--\r\n"].concat()
}

const POSTED: [(&str, &str); 2] = [
    ("accept", BROWSER),
    ("content-type", "multipart/form-data; boundary=XX"),
];

#[tokio::test]
async fn the_form_of_the_front_page_uploads_without_a_script() {
    let app = TestApp::spawn().await;
    let html = page(&app, "/").await.text();
    assert!(
        html.contains("method=\"post\" action=\"/upload\""),
        "{html}"
    );
    let image = pictures::png(8, 8);
    let uploaded = app.send("POST", "/upload", &POSTED, form(&image)).await;
    assert_eq!(uploaded.status, StatusCode::OK, "{}", uploaded.text());
    assert_eq!(
        uploaded.header("cache-control").as_deref(),
        Some("no-store")
    );
    let link = uploaded.header("location").unwrap();
    let text = uploaded.text();
    for shown in [
        format!("href=\"{link}\""),
        format!("value=\"![]({link})\""),
        format!("value=\"[img]{link}[/img]\""),
        "Delete token".to_owned(),
    ] {
        assert!(text.contains(&shown), "{shown} is not in {text}");
    }
    assert!(!text.contains("<b>.png"), "{text}");
    let path = link.strip_prefix(&app.base).unwrap();
    assert_eq!(app.get(path).await.status, StatusCode::OK);
    let refused = app
        .send("POST", "/upload", &POSTED, form(b"<script>"))
        .await;
    assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let text = refused.text();
    assert!(
        text.contains("Not uploaded") && !text.contains("<script"),
        "{text}"
    );
    let opened = app.send("GET", "/upload", &[("accept", BROWSER)], "").await;
    assert_eq!(opened.status, StatusCode::SEE_OTHER);
    assert_eq!(opened.header("location").as_deref(), Some("/"));
}

#[tokio::test]
async fn the_front_page_shows_prices_and_what_is_left_of_the_free_day() {
    let app = TestApp::builder()
        .set("limits.free_per_day", "2")
        .spawn()
        .await;
    let text = page(&app, "/").await.text();
    for shown in [
        "data-price=\"0.01 USDC\"",
        "data-url=\"/api/upload/permanent\"",
        "up to 5 MiB",
        "7 days",
        "1 of 1 are left until 12:00 UTC",
    ] {
        assert!(text.contains(shown), "{shown} is not in {text}");
    }
    let chosen = |text: &str, name: &str| {
        let radio = text
            .split("<input")
            .find(|part| part.contains(&format!("value=\"{name}\"")));
        radio.is_some_and(|radio| radio.split('>').next().unwrap().contains(" checked"))
    };
    assert!(chosen(&text, "free") && !chosen(&text, "year"), "{text}");
    let image = pictures::png(8, 8);
    let uploaded = app.send("POST", "/upload", &POSTED, form(&image)).await;
    assert_eq!(uploaded.status, StatusCode::OK);
    // Several servers count together, once a minute.
    app.advance(std::time::Duration::from_mins(1));
    // Where nothing free is left, the form starts with a tier that takes the image.
    let text = page(&app, "/").await.text();
    assert!(text.contains("0 of 1 are left until 12:00 UTC"), "{text}");
    assert!(chosen(&text, "year") && !chosen(&text, "free"), "{text}");
}

#[tokio::test]
async fn texts_are_compressed_for_clients_that_read_gzip() {
    let app = TestApp::spawn().await;
    let ask = |path: &'static str, accepted: &'static str| {
        let headers = [("accept-encoding", accepted)];
        let app = &app;
        async move { app.send("GET", path, &headers, "").await }
    };
    let style = "/assets/000000000000/site.css";
    let plain = ask(style, "br, gzip;q=0").await;
    let packed = ask(style, "deflate, gzip;q=0.5").await;
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(packed.header("content-encoding").as_deref(), Some("gzip"));
    for answer in [&plain, &packed] {
        assert_eq!(answer.header("vary").as_deref(), Some("Accept-Encoding"));
    }
    assert!(packed.bytes.len() * 2 < plain.bytes.len());
    let picture = ask("/assets/000000000000/card.png", "gzip").await;
    assert_eq!(picture.header("content-encoding"), None);
}

#[tokio::test]
async fn the_manifest_names_the_service() {
    let app = TestApp::builder().set("site.name", "Imago").spawn().await;
    let html = page(&app, "/").await.text();
    let manifest = assets_of(&html)
        .into_iter()
        .find(|path| path.ends_with(".webmanifest"));
    let manifest = app.get(&manifest.unwrap()).await;
    assert_eq!(
        manifest.header("content-type").as_deref(),
        Some("application/manifest+json")
    );
    assert_eq!(manifest.json()["name"], "Imago");
    let card = format!("property=\"og:image\" content=\"{}/assets/", app.base);
    assert!(html.contains(&card), "{html}");
}
