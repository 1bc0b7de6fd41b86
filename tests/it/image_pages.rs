//! The pages of images: /view and its states, what chats read of it, /delete, and the pages that scripts fill.

use std::time::Duration;

use serde_json::json;

use crate::pages::page;
use crate::removal::with_admin;
use crate::support::{Answer, TestApp, pictures};

const BROWSER: (&str, &str) = ("accept", "text/html");

/// The path and query of a URL of this server.
fn path_of(url: &str) -> &str {
    let at = url.match_indices('/').nth(2).unwrap().0;
    &url[at..]
}

/// Sends the form of a deletion page.
async fn send_form(app: &TestApp, id: &str, body: String) -> Answer {
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        BROWSER,
    ];
    app.send("POST", &format!("/delete/{id}"), &headers, body)
        .await
}

#[tokio::test]
async fn uploads_name_their_pages_and_the_token_stays_behind_the_hash() {
    let app = TestApp::spawn().await;
    let image = app.upload_free(pictures::png(8, 8)).await;
    let (id, token) = (image.field("id"), image.field("deleteToken"));
    assert_eq!(image.field("pageUrl"), app.url(&format!("/view/{id}")));
    assert_eq!(
        image.field("deleteUrl"),
        app.url(&format!("/delete/{id}#{token}"))
    );
    let facts = app.get(&format!("/api/images/{id}")).await.json();
    assert_eq!(facts["pageUrl"], image.json()["pageUrl"]);
    assert_eq!(facts.get("deleteUrl"), None, "{facts}");
    let hidden = app
        .upload_at("/api/free?visibility=private", pictures::png(9, 9))
        .await;
    let query = hidden.field("url").split_once('?').unwrap().1.to_owned();
    assert!(hidden.field("pageUrl").ends_with(&query));
}

#[tokio::test]
async fn the_page_of_an_image_shows_it_to_people_and_to_chats() {
    let app = TestApp::spawn().await;
    let image = app.upload_free(pictures::png(64, 48)).await;
    let (id, url) = (image.field("id"), image.field("url"));
    let seen = page(&app, &format!("/view/{id}")).await;
    assert_eq!(seen.status, 200);
    assert_eq!(
        seen.header("referrer-policy").as_deref(),
        Some("no-referrer")
    );
    let html = seen.text();
    let social = image.json()["sizes"]["social"].as_str().unwrap().to_owned();
    let whole = app.url(&format!("/view/{id}"));
    let oembed = app.url("/oembed?url=");
    for part in [
        format!(
            "<img class=\"picture\" src=\"{url}\" width=\"64\" height=\"48\" alt=\"PNG image, 64 × 48\""
        ),
        "<meta name=\"robots\" content=\"noindex\">".to_owned(),
        format!("<meta property=\"og:url\" content=\"{whole}\">"),
        format!("<meta property=\"og:image\" content=\"{social}\">"),
        "<meta property=\"og:image:type\" content=\"image/jpeg\">".to_owned(),
        "<meta property=\"og:image:width\" content=\"1200\">".to_owned(),
        "<meta property=\"og:image:height\" content=\"630\">".to_owned(),
        "<meta name=\"twitter:card\" content=\"summary_large_image\">".to_owned(),
        format!(
            "<link rel=\"alternate\" type=\"application/json+oembed\" href=\"{oembed}http%3A%2F%2F"
        ),
        "7 days left".to_owned(),
        format!("<dd><code>{}</code></dd>", image.field("sha256")),
        format!("value=\"![]({url})\""),
        format!("value=\"[img]{url}[/img]\""),
        format!(
            "&#60;img src=&#34;{url}&#34; width=&#34;64&#34; height=&#34;48&#34; alt=&#34;&#34;&#62;"
        ),
        format!(
            "href=\"/abuse?image={}\"",
            url.replace(':', "%3A").replace('/', "%2F")
        ),
        "pixtoll renew --server".to_owned(),
    ] {
        assert!(html.contains(&part), "{part} is not in {html}");
    }
    assert!(!html.contains(&image.field("deleteToken")), "{html}");
    // The preview of the card is what it says.
    let card = app.get(&social).await;
    assert_eq!(
        (card.status, card.header("content-type").as_deref()),
        (200, Some("image/jpeg"))
    );
    // A program that shows previews may accept anything.
    let bot = app
        .send("GET", &format!("/view/{id}"), &[("accept", "*/*")], "")
        .await;
    assert!(bot.text().contains("og:image"), "{}", bot.text());
}

#[tokio::test]
async fn large_images_offer_smaller_ones_to_browsers() {
    let app = TestApp::spawn().await;
    let image = app.upload_free(pictures::png(400, 300)).await;
    assert_eq!(image.status, 200, "{}", image.text());
    let html = page(&app, path_of(&image.field("pageUrl"))).await.text();
    let (s, url) = (image.json()["sizes"]["s"].clone(), image.field("url"));
    let set = format!("srcset=\"{} 320w, {url} 400w\"", s.as_str().unwrap());
    assert!(html.contains(&set), "{set} is not in {html}");
}

#[tokio::test]
async fn a_page_of_an_image_that_is_not_served_says_so() {
    let app = with_admin().spawn().await;
    let image = app.upload_free(pictures::png(8, 8)).await;
    let path = format!("/view/{}", image.field("id"));
    for unknown in ["/view/zzzzzzzzzzzz", "/view/x", "/view/zzzzzzzzzzzz.png"] {
        let seen = page(&app, unknown).await;
        assert_eq!(seen.status, 404, "{unknown}");
        assert_eq!(seen.header("cache-control").as_deref(), Some("no-store"));
        assert!(seen.text().contains("There is no image here"));
        let program = app.get(unknown).await;
        assert_eq!((program.status, program.error()), (404, "not_found".into()));
    }
    app.acted(&image.field("id"), "remove", json!({})).await;
    assert_eq!(page(&app, &path).await.status, 404);
    app.acted(&image.field("id"), "remove", json!({"legal": true}))
        .await;
    let removed = page(&app, &path).await;
    assert_eq!(removed.status, 451);
    assert!(
        removed.text().contains("removed by law"),
        "{}",
        removed.text()
    );
    app.acted(&image.field("id"), "restore", json!({})).await;
    assert_eq!(page(&app, &path).await.status, 200);
    app.advance(Duration::from_hours(8 * 24));
    assert_eq!(page(&app, &path).await.status, 404);
}

#[tokio::test]
async fn the_page_of_a_private_image_needs_the_signed_link() {
    let app = TestApp::spawn().await;
    let image = app
        .upload_at("/api/free?visibility=private", pictures::png(8, 8))
        .await;
    let (signed, id) = (image.field("pageUrl"), image.field("id"));
    let seen = page(&app, path_of(&signed)).await;
    assert_eq!(seen.status, 200, "{}", seen.text());
    assert_eq!(seen.header("cache-control").as_deref(), Some("no-store"));
    let html = seen.text();
    let url = image.field("url").replace('&', "&#38;");
    assert!(html.contains(&format!("src=\"{url}\"")), "{html}");
    assert!(html.contains("This image is private"), "{html}");
    // No chat receives a copy, and the report names the signed link.
    for part in ["og:image", "oembed"] {
        assert!(!html.contains(part), "{part} is in {html}");
    }
    assert!(html.contains("/abuse?image=http%3A%2F%2F"), "{html}");

    let plain = format!("/view/{id}");
    let changed = format!("{}0", &path_of(&signed)[..path_of(&signed).len() - 1]);
    let unknown = page(&app, "/view/zzzzzzzzzzzz").await;
    for path in [plain, changed] {
        let refused = page(&app, &path).await;
        let expected = unknown.text().replace("zzzzzzzzzzzz", &id);
        assert_eq!((refused.status, refused.text()), (404, expected), "{path}");
    }
}

#[tokio::test]
async fn the_deletion_page_asks_and_deletes_by_post_alone() {
    let app = TestApp::spawn().await;
    let image = app.upload_free(pictures::png(8, 8)).await;
    let (id, url, token) = (
        image.field("id"),
        image.field("url"),
        image.field("deleteToken"),
    );
    let path = format!("/delete/{id}");
    for tried in [path.clone(), format!("{path}?token={token}")] {
        let asked = page(&app, &tried).await;
        assert_eq!(asked.status, 200);
        assert_eq!(asked.header("cache-control").as_deref(), Some("no-store"));
        assert!(asked.text().contains(&url), "{}", asked.text());
    }
    assert_eq!(app.get(&url).await.status, 200);

    for wrong in [
        String::new(),
        "token=".into(),
        format!("token={}", "0".repeat(40)),
    ] {
        let refused = send_form(&app, &id, wrong).await;
        assert_eq!(refused.status, 401);
        assert!(
            refused.text().contains("The token is not the one"),
            "{}",
            refused.text()
        );
    }
    let long = send_form(&app, &id, format!("token={}", "0".repeat(2000))).await;
    assert_eq!(long.status, 400, "{}", long.text());
    assert_eq!(app.get(&url).await.status, 200);

    // As people paste it.
    let pasted = format!("token=+{}%0A", token.to_uppercase());
    for _ in 0..2 {
        let deleted = send_form(&app, &id, pasted.clone()).await;
        assert_eq!(deleted.status, 200, "{}", deleted.text());
        assert!(
            deleted.text().contains("The image is deleted"),
            "{}",
            deleted.text()
        );
        assert_eq!(app.get(&url).await.status, 404);
    }
    let gone = page(&app, &path).await;
    assert!(
        gone.text().contains("is not here any more"),
        "{}",
        gone.text()
    );
}

#[tokio::test]
async fn the_deletion_page_does_not_tell_whether_a_private_image_exists() {
    let app = TestApp::spawn().await;
    let image = app
        .upload_at("/api/free?visibility=private", pictures::png(8, 8))
        .await;
    let id = image.field("id");
    let unknown = page(&app, "/delete/zzzzzzzzzzzz").await;
    let seen = page(&app, &format!("/delete/{id}")).await;
    assert_eq!(seen.status, unknown.status);
    assert_eq!(seen.text(), unknown.text().replace("zzzzzzzzzzzz", &id));
}

#[tokio::test]
async fn an_image_under_review_is_not_deleted_and_the_page_says_why() {
    let app = with_admin().spawn().await;
    let image = app.upload_free(pictures::png(8, 8)).await;
    let (id, token) = (image.field("id"), image.field("deleteToken"));
    app.acted(&id, "hold", json!({})).await;
    let held = send_form(&app, &id, format!("token={token}")).await;
    let api = app
        .send(
            "DELETE",
            &format!("/api/images/{id}"),
            &[("X-Delete-Token", token)],
            "",
        )
        .await;
    assert_eq!(held.status, api.status, "{}", held.text());
    assert!(api.status >= 400, "{}", api.text());
    let message = api.field("message").replace('\'', "&#39;");
    assert!(held.text().contains(&message), "{}", held.text());
}

#[tokio::test]
async fn the_pages_of_own_images_hold_nothing_about_anybody() {
    let app = TestApp::spawn().await;
    app.upload_free(pictures::png(8, 8)).await;
    for path in ["/mine", "/wallet"] {
        let first = page(&app, path).await;
        assert_eq!(first.status, 200, "{path}");
        let again = app
            .send("GET", path, &[BROWSER, ("cookie", "who=me")], "")
            .await;
        assert_eq!(first.text(), again.text(), "{path}");
        assert_eq!(first.header("set-cookie"), None);
        assert!(first.text().contains("noindex"), "{path}");
    }
    let text = page(&app, "/mine").await.text();
    assert!(text.contains("aria-current=\"page\">My uploads"), "{text}");
}
