//! How other sites embed images (<https://oembed.com>).

use crate::support::{Answer, TestApp, pictures};

async fn embed(app: &TestApp, link: &str, more: &str) -> Answer {
    let link: String = url::form_urlencoded::byte_serialize(link.as_bytes()).collect();
    app.get(&format!("/oembed?url={link}{more}")).await
}

#[tokio::test]
async fn oembed_describes_an_image_by_its_link_and_by_its_page() {
    let app = TestApp::spawn().await;
    let image = app.upload_free(pictures::png(300, 200)).await;
    for link in [image.field("url"), image.field("pageUrl")] {
        let answer = embed(&app, &link, "").await;
        assert_eq!(answer.status, 200, "{link}: {}", answer.text());
        let body = answer.json();
        assert_eq!(body["version"], "1.0");
        assert_eq!(body["type"], "photo");
        assert_eq!(body["url"], image.field("url"));
        assert_eq!(
            (&body["width"], &body["height"]),
            (&300.into(), &200.into())
        );
        assert_eq!(body["provider_url"], app.base);
        assert_eq!(body["cache_age"], 300);
    }
    let xml = embed(&app, &image.field("url"), "&format=xml&maxwidth=100").await;
    assert_eq!(
        xml.header("content-type").as_deref(),
        Some("text/xml; charset=utf-8")
    );
    for expected in [
        "<version>1.0</version>",
        "<type>photo</type>",
        "<width>100</width>",
    ] {
        assert!(xml.text().contains(expected), "{}", xml.text());
    }
}

#[tokio::test]
async fn oembed_keeps_to_the_greatest_size_by_a_variant() {
    let app = TestApp::spawn().await;
    let png = app.upload_free(pictures::png(301, 200)).await.field("url");
    let gif = app.upload_free(pictures::gif_animated(60, 40, 3)).await;
    for (link, more, fits) in [
        (&png, "&maxwidth=100", (100, 66)),
        (&png, "&maxheight=50", (75, 50)),
        (&png, "&maxwidth=100&maxheight=20", (30, 20)),
        (&png, "&maxwidth=301&maxheight=99999999999", (301, 200)),
        (&gif.field("url"), "&maxwidth=30", (30, 20)),
    ] {
        let answer = embed(&app, link, more).await.json();
        let size = (
            answer["width"].as_u64().unwrap(),
            answer["height"].as_u64().unwrap(),
        );
        assert_eq!(size, fits, "{more}: {answer}");
        // The link shows a picture of the size that was named.
        let shown = app.get(answer["url"].as_str().unwrap()).await;
        assert_eq!(shown.status, 200, "{answer}");
        let picture = app.upload_free(shown.bytes).await.json();
        assert_eq!(picture["width"], size.0, "{more}: {answer}");
        assert_eq!(picture["height"], size.1, "{more}: {answer}");
    }
}

#[tokio::test]
async fn oembed_refuses_what_it_can_not_embed() {
    let app = TestApp::spawn().await;
    let image = app.upload_free(pictures::png(8, 8)).await.field("url");
    let foreign = image.replace(&app.base, "https://example.com");
    let private = app
        .send(
            "POST",
            "/api/free?visibility=private",
            &[("content-type", "image/png")],
            pictures::png(9, 9),
        )
        .await;
    let signed = private.field("url");
    let unsigned = signed.split('?').next().unwrap();
    let dead = format!("{}/i/AAAAAAAAAAAA.png", app.base);
    for (link, more, status, code) in [
        (&*image, "&format=yaml", 501, "unknown_format"),
        (&*image, "&maxwidth=0", 400, "invalid_parameter"),
        (&*image, "&maxheight=tall", 400, "invalid_parameter"),
        (&*image, "&url=twice", 400, "invalid_parameter"),
        (&*foreign, "", 404, "not_found"),
        ("no link", "", 404, "not_found"),
        (&*dead, "", 404, "not_found"),
        // Who has no signature does not learn that there is a private image.
        (unsigned, "", 404, "not_found"),
        (&*signed, "", 401, "not_public"),
    ] {
        let answer = embed(&app, link, more).await;
        let expected = (status, code.to_owned(), Some(false));
        assert_eq!(answer.verdict(), expected, "{link}{more}");
    }
    let missing = app.get("/oembed").await;
    assert_eq!(missing.error(), "invalid_parameter");
    assert!(missing.field("message").contains("names no image"));
}
