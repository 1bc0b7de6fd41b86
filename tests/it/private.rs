//! Private images: signed links alone show them, their owner and their viewer make the links, and
//! everybody else receives the response for an image that does not exist.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy_signer_local::PrivateKeySigner;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pixtoll::store::Store;
use pixtoll::system::clock::{Clock, Timestamp};
use serde_json::{Value, json};

use crate::hot::{object_of, remembering, take_away};
use crate::support::sign_in::sign_in;
use crate::support::signing::wallet;
use crate::support::{Answer, START, TestApp, database, pictures};

const DAY: Duration = Duration::from_hours(24);
const FREE: &str = "/api/free?visibility=private";
const NONE: [(&str, &str); 0] = [];

impl TestApp {
    /// Uploads a picture for free to this path, and expects success.
    pub(crate) async fn upload_at(&self, path: &str, picture: Vec<u8>) -> Answer {
        let kind = [("content-type", "image/png")];
        let answer = self.send("POST", path, &kind, picture).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    }

    /// Asks for a link to an image with this delete token and body.
    pub(crate) async fn link(&self, id: &str, token: &str, body: &str) -> Answer {
        let path = format!("/api/images/{id}/links");
        self.send("POST", &path, &[("X-Delete-Token", token)], body.to_owned())
            .await
    }

    /// Ends all links of an image with this delete token.
    async fn end_links(&self, id: &str, token: &str) -> Answer {
        let path = format!("/api/images/{id}/links");
        self.send("DELETE", &path, &[("X-Delete-Token", token)], "")
            .await
    }

    /// Sends a request about the links of an image, signed in with this wallet.
    async fn links_by(&self, method: &str, id: &str, wallet: &PrivateKeySigner) -> Answer {
        let path = format!("/api/images/{id}/links");
        let challenge = self.send(method, &path, &NONE, "").await;
        let message = sign_in(&challenge, wallet).encode();
        let headers = [("SIGN-IN-WITH-X", message)];
        self.send(method, &path, &headers, "").await
    }
}

/// The parts of a signed link: the plain link, `exp` and `sig`.
fn parts(url: &str) -> (&str, &str, &str) {
    let (plain, query) = url.split_once('?').unwrap();
    let (exp, sig) = query
        .strip_prefix("exp=")
        .and_then(|rest| rest.split_once("&sig="))
        .unwrap();
    (plain, exp, sig)
}

fn instant(exp: &str) -> Timestamp {
    Timestamp::from_seconds(exp.parse().unwrap())
}

/// All that a response says, without what differs from request to request.
fn seen(answer: &Answer) -> (u16, BTreeMap<String, String>, String) {
    let mut headers: BTreeMap<String, String> = answer
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.remove("date");
    headers.remove("x-request-id");
    (answer.status, headers, answer.text())
}

/// The URL with its last path segment replaced by an id that no image has.
fn unknown(url: &str) -> String {
    let (folder, rest) = url.rsplit_once('/').unwrap();
    format!("{folder}/zzzzzzzzzzzz{}", &rest[12..])
}

#[tokio::test]
async fn a_private_image_is_shown_by_its_signed_link_alone() {
    let app = TestApp::spawn().await;
    let picture = pictures::png(8, 8);
    let uploaded = app.upload_at(FREE, picture.clone()).await;
    let url = uploaded.field("url");
    let (plain, exp, sig) = parts(&url);
    assert_eq!(uploaded.field("visibility"), "private");
    assert_eq!(uploaded.header("location").as_deref(), Some(&*url));
    assert_eq!(uploaded.field("markdown"), format!("![]({url})"));
    // The image ends when the default life of a link does.
    let end = app.clock.now().plus(7 * DAY);
    assert_eq!(instant(exp), end);
    assert_eq!(uploaded.field("linkExpiresAt"), end.to_string());
    assert_eq!(sig.len(), 32);

    app.advance(Duration::from_millis(1500));
    for link in [url.clone(), url.replace(".png?", "?")] {
        let shown = app.get(&link).await;
        assert_eq!((shown.status, &shown.bytes), (200, &picture), "{link}");
        let left = 7 * 24 * 3600 - 2;
        let caching = format!("private, max-age={left}");
        assert_eq!(shown.header("cache-control"), Some(caching));
        let expires = app.clock.now().plus(Duration::from_secs(left)).http_date();
        assert_eq!(shown.header("expires"), Some(expires));
        let tag = [("if-none-match", shown.header("etag").unwrap())];
        let known = app.send("GET", &link, &tag, "").await;
        assert_eq!(known.status, 304);
        let caching = known.header("cache-control").unwrap();
        assert!(caching.starts_with("private, "), "{caching}");
        let part = app.send("GET", &link, &[("range", "bytes=1-3")], "").await;
        assert_eq!((part.status, &part.bytes[..]), (206, &picture[1..4]));
        assert!(part.header("cache-control").unwrap().contains("private"));
        let head = app.send("HEAD", &link, &NONE, "").await;
        assert_eq!(head.status, 200);
        assert!(head.header("cache-control").unwrap().contains("private"));
    }

    // Without the signature every request receives what it would receive for an unknown id.
    let etag = format!("\"{}\"", uploaded.field("sha256"));
    for link in [
        plain,
        &plain.replace(".png", ""),
        &plain.replace("png", "jpg"),
    ] {
        for (method, header) in [
            ("GET", ("accept", "*/*")),
            ("HEAD", ("accept", "*/*")),
            ("GET", ("range", "bytes=0-0")),
            ("GET", ("if-none-match", &*etag)),
            ("GET", ("if-match", "\"x\"")),
        ] {
            let refused = app.send(method, link, &[header], "").await;
            let missing = app.send(method, &unknown(link), &[header], "").await;
            assert_eq!(refused.status, 404, "{method} {link} {header:?}");
            assert_eq!(seen(&refused), seen(&missing), "{method} {link} {header:?}");
        }
    }
}

#[tokio::test]
async fn a_changed_cut_or_foreign_signature_shows_nothing() {
    let app = TestApp::spawn().await;
    let [one, other] = [1, 2].map(async |seed| {
        app.upload_at(FREE, pictures::png_seeded(4, 4, seed))
            .await
            .field("url")
    });
    let (one, other) = (one.await, other.await);
    let (plain, exp, sig) = parts(&one);
    let (_, _, foreign) = parts(&other);
    assert_eq!(app.get(&one).await.status, 200);
    let later: i64 = exp.parse::<i64>().unwrap() + 1;
    let flipped = format!(
        "{}{}",
        &sig[..31],
        if sig.ends_with('0') { '1' } else { '0' }
    );
    for query in [
        format!("exp={later}&sig={sig}"),
        format!("exp={}&sig={sig}", i64::MAX),
        format!("exp={exp}&sig={}", &sig[..31]),
        format!("exp={exp}&sig={sig}0"),
        format!("exp={exp}&sig={flipped}"),
        format!("exp={exp}&sig={foreign}"),
        format!("exp={exp}&sig={}", sig.to_uppercase()),
        format!("exp=0{exp}&sig={sig}"),
        format!("exp={exp}&sig={sig}&sig={sig}"),
        format!("exp={exp}&exp={exp}&sig={sig}"),
        format!("exp={exp}"),
        format!("sig={sig}"),
        "exp=&sig=".to_owned(),
        String::new(),
    ] {
        let link = format!("{plain}?{query}");
        let refused = app.get(&link).await;
        let missing = app.get(&unknown(&link)).await;
        assert_eq!(refused.status, 404, "{query}");
        assert_eq!(seen(&refused), seen(&missing), "{query}");
    }
    // The signature doesn't show the image under the extension of another format.
    let renamed = one.replace(".png?", ".gif?");
    assert_eq!(app.get(&renamed).await.status, 404);
}

#[tokio::test]
async fn a_link_ends_at_its_second_and_with_its_image() {
    let app = TestApp::spawn().await;
    let image = app.upload_at(FREE, pictures::png(4, 4)).await;
    let (id, token) = (image.field("id"), image.field("deleteToken"));
    let minute = app.link(&id, &token, r#"{"expiresInSeconds": 60}"#).await;
    assert_eq!(minute.status, 200, "{}", minute.text());
    let minute = minute.field("url");
    assert_eq!(
        instant(parts(&minute).1),
        Timestamp::from_seconds(START + 60)
    );
    app.advance(Duration::from_millis(59_999));
    let shown = app.get(&minute).await;
    let caching = shown.header("cache-control");
    assert_eq!(
        (shown.status, caching.as_deref()),
        (200, Some("private, max-age=0"))
    );
    app.advance(Duration::from_millis(1));
    assert_eq!(app.get(&minute).await.status, 404);
    assert_eq!(app.get(&image.field("url")).await.status, 200);

    // A link for a year to an image of a week ends with the image.
    let year = app
        .link(&id, &token, r#"{"expiresInSeconds": 31536000}"#)
        .await;
    assert_eq!(year.field("expiresAt"), image.field("expiresAt"));
    app.advance(7 * DAY);
    assert_eq!(app.get(&year.field("url")).await.status, 404);
    assert_eq!(app.link(&id, &token, "").await.status, 404);
}

#[tokio::test]
async fn a_link_to_a_permanent_image_lasts_a_year_at_most() {
    let app = TestApp::spawn().await;
    let payment = app
        .sign_at("/api/upload/permanent?visibility=private")
        .await;
    let image = app.pay_with(&payment, &pictures::png(4, 4)).await;
    let image = match image.status {
        503 => {
            app.advance(Duration::from_secs(5));
            app.reconcile_until(&payment, "settled").await;
            app.pay_with(&payment, &pictures::png(4, 4)).await
        }
        _ => image,
    };
    assert_eq!(image.status, 200, "{}", image.text());
    assert_eq!(image.json()["expiresAt"], Value::Null);
    let (id, token) = (image.field("id"), image.field("deleteToken"));
    let link = app.link(&id, &token, "{}").await;
    assert_eq!(
        link.field("expiresAt"),
        app.clock.now().plus(7 * DAY).to_string()
    );
    for (body, status) in [
        (r#"{"expiresInSeconds": 0}"#, 400),
        (r#"{"expiresInSeconds": 1}"#, 200),
        (r#"{"expiresInSeconds": 31536000}"#, 200),
        (r#"{"expiresInSeconds": 31536001}"#, 400),
        (r#"{"expiresInSeconds": -1}"#, 400),
        (r#"{"expiresInSeconds": "60"}"#, 400),
        (r#"{"expiresIn": 60}"#, 400),
        ("60", 400),
        ("[1]", 400),
        (r#"{"expiresInSeconds": null}"#, 200),
        (&*format!("{{{}}}", " ".repeat(1022)), 200),
        (&*format!("{{{}}}", " ".repeat(1023)), 400),
    ] {
        let answer = app.link(&id, &token, body).await;
        assert_eq!(answer.status, status, "{body} {}", answer.text());
        if status == 400 {
            assert_eq!(answer.error(), "invalid_body");
            assert!(answer.field("message").contains("expiresInSeconds"));
        }
    }
    let year = app
        .link(&id, &token, r#"{"expiresInSeconds": 31536000}"#)
        .await;
    let year = year.field("url");
    let (_, exp, _) = parts(&year);
    assert_eq!(
        instant(exp).seconds(),
        app.clock.now().seconds() + 31_536_000
    );
}

#[tokio::test]
async fn no_link_shows_an_image_after_its_deletion() {
    let app = TestApp::spawn().await;
    let image = app.upload_at(FREE, pictures::png(4, 4)).await;
    let (id, token, url) = (
        image.field("id"),
        image.field("deleteToken"),
        image.field("url"),
    );
    assert_eq!(app.get(&url).await.status, 200);
    let path = format!("/api/images/{id}");
    let headers = [("X-Delete-Token", &*token)];
    assert_eq!(app.send("DELETE", &path, &headers, "").await.status, 200);
    assert_eq!(app.get(&url).await.status, 404);
    assert_eq!(app.link(&id, &token, "").await.status, 404);
    assert_eq!(app.end_links(&id, &token).await.status, 404);
}

#[tokio::test]
async fn the_owner_ends_all_links_and_makes_new_ones() {
    let app = TestApp::on_disk().await;
    let image = app.upload_at(FREE, pictures::png(4, 4)).await;
    let other = app.upload_at(FREE, pictures::png(5, 4)).await;
    let (id, token) = (image.field("id"), image.field("deleteToken"));
    let old = [
        image.field("url"),
        app.link(&id, &token, "").await.field("url"),
        app.link(&id, &token, r#"{"expiresInSeconds": 60}"#)
            .await
            .field("url"),
    ];
    for url in &old {
        assert_eq!(app.get(url).await.status, 200);
    }
    for round in 1..3 {
        let ended = app.end_links(&id, &token).await;
        assert_eq!(ended.status, 200, "{}", ended.text());
        assert_eq!(
            ended.json(),
            json!({"id": id, "linksEndedAt": app.clock.now().to_string()})
        );
        for url in &old {
            assert_eq!(app.get(url).await.status, 404);
        }
        let new = app.link(&id, &token, "").await.field("url");
        assert_eq!(app.get(&new).await.status, 200);
        // The record beside the image holds the count, for a restore.
        let record = object_of(&app, &id).with_extension("json");
        let record: Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
        assert_eq!(record["linkSerial"], round);
        assert_eq!(record["visibility"], "private");
    }
    assert_eq!(app.get(&other.field("url")).await.status, 200);
}

#[tokio::test]
async fn a_restored_database_keeps_ended_links_ended() {
    let app = TestApp::on_disk().await;
    let image = app.upload_at(FREE, pictures::png(4, 4)).await;
    let (id, token) = (image.field("id"), image.field("deleteToken"));
    assert_eq!(app.end_links(&id, &token).await.status, 200);
    assert_eq!(app.get(&image.field("url")).await.status, 404);
    // The backup is older than the end of the links.
    let changed = database::execute(app.db(), "UPDATE images SET link_serial = 0").await;
    assert_eq!(changed, 1);
    assert_eq!(app.get(&image.field("url")).await.status, 200);
    let store = Store::open_local(&app.folder().join("images")).unwrap();
    pixtoll::moving::survived::keep_longer(app.db(), &store, app.clock.now())
        .await
        .unwrap();
    assert_eq!(app.get(&image.field("url")).await.status, 404);
}

#[tokio::test]
async fn links_need_the_delete_token_of_the_image() {
    let app = TestApp::spawn().await;
    let image = app.upload_at(FREE, pictures::png(4, 4)).await;
    let other = app.upload_at(FREE, pictures::png(5, 4)).await;
    let (id, token) = (image.field("id"), image.field("deleteToken"));
    for wrong in [other.field("deleteToken"), "0".repeat(40), String::new()] {
        for answer in [
            app.link(&id, &wrong, "").await,
            app.end_links(&id, &wrong).await,
            app.link("zzzzzzzzzzzz", &wrong, "").await,
        ] {
            assert_eq!(
                answer.verdict(),
                (401, "bad_delete_token".to_owned(), Some(false))
            );
        }
    }
    assert_eq!(app.get(&image.field("url")).await.status, 200);
    let path = format!("/api/images/{id}/links?expiresInSeconds=60");
    let headers = [("X-Delete-Token", token)];
    let unknown = app.send("POST", &path, &headers, "").await;
    assert_eq!(unknown.verdict().1, "unknown_parameter");
    let id = "not-an-id";
    assert_eq!(app.link(id, "", "").await.status, 404);
}

#[tokio::test]
async fn a_public_image_needs_no_signed_link_and_has_none() {
    let app = TestApp::spawn().await;
    for path in ["/api/free", "/api/free?visibility=public"] {
        let image = app.upload_at(path, pictures::png(4, 4)).await;
        assert_eq!(image.field("visibility"), "public");
        assert_eq!(image.json().get("linkExpiresAt"), None);
        let (id, token, url) = (
            image.field("id"),
            image.field("deleteToken"),
            image.field("url"),
        );
        for answer in [
            app.link(&id, &token, "").await,
            app.end_links(&id, &token).await,
        ] {
            assert_eq!(
                answer.verdict(),
                (409, "not_private".to_owned(), Some(false))
            );
            assert!(answer.field("message").contains(&url));
        }
        // A signature selects nothing, so no cache is filled with copies.
        let signed = format!("{url}?exp=1900000000&sig={}", "ab".repeat(16));
        let moved = app.get(&signed).await;
        assert_eq!(
            (moved.status, moved.header("location")),
            (308, Some(url.clone()))
        );
        assert!(moved.header("cache-control").unwrap().contains("public"));
    }
}

#[tokio::test]
async fn altered_signed_links_redirect_to_the_canonical_one() {
    let app = TestApp::spawn().await;
    let url = app.upload_at(FREE, pictures::png(4, 4)).await.field("url");
    let (plain, exp, sig) = parts(&url);
    for altered in [
        format!("{url}&fbclid=x"),
        format!("{plain}?sig={sig}&exp={exp}"),
        format!("{url})."),
        format!("{url}%29"),
        url.replace(".png?", ".PNG?"),
    ] {
        let moved = app.get(&altered).await;
        assert_eq!(moved.status, 308, "{altered}");
        assert_eq!(moved.header("location"), Some(url.clone()), "{altered}");
        assert_eq!(
            moved.header("cache-control").as_deref(),
            Some("private, max-age=60")
        );
    }
    // Without the signature nothing is redirected, which would show that the image exists.
    for altered in [format!("{plain}?fbclid=x"), plain.replace(".png", ".PNG")] {
        assert_eq!(app.get(&altered).await.status, 404, "{altered}");
    }
}

#[tokio::test]
async fn facts_about_a_private_image_are_shown_to_those_who_see_it() {
    let app = TestApp::spawn().await;
    let image = app.upload_at(FREE, pictures::png(4, 4)).await;
    let other = app.upload_at(FREE, pictures::png(5, 4)).await;
    let (id, url) = (image.field("id"), image.field("url"));
    let path = format!("/api/images/{id}");
    let (_, exp, sig) = parts(&url);
    let missing = app.get("/api/images/zzzzzzzzzzzz").await;
    let foreign = [("X-Delete-Token", other.field("deleteToken"))];
    for stranger in [
        app.get(&path).await,
        app.send("GET", &path, &foreign, "").await,
        app.get(&format!("{path}?exp={exp}&sig={}", "0".repeat(32)))
            .await,
    ] {
        assert_eq!(seen(&stranger), seen(&missing));
    }
    let by_link = app.get(&format!("{path}?exp={exp}&sig={sig}")).await;
    assert_eq!(by_link.status, 200, "{}", by_link.text());
    assert_eq!(by_link.field("visibility"), "private");
    assert_eq!(by_link.field("url"), url);
    assert_eq!(by_link.header("cache-control").as_deref(), Some("no-store"));

    // The holder of a link receives no longer one, and the owner does.
    app.advance(Duration::from_secs(60));
    let (token, minute) = (image.field("deleteToken"), r#"{"expiresInSeconds": 60}"#);
    let short = app.link(&id, &token, minute).await.field("url");
    let query = short.split_once('?').unwrap().1;
    let by_link = app.get(&format!("{path}?{query}")).await;
    assert_eq!(by_link.field("url"), short);
    let owner = [("X-Delete-Token", token)];
    let by_owner = app.send("GET", &path, &owner, "").await;
    assert_eq!(by_owner.field("linkExpiresAt"), image.field("expiresAt"));
    assert_eq!(app.get(&by_owner.field("url")).await.status, 200);
    let expired = format!("{path}?{query}");
    app.advance(Duration::from_secs(60));
    assert_eq!(app.get(&expired).await.status, 404);
}

#[tokio::test]
async fn visibility_and_viewer_are_read_from_the_query_a_form_and_json() {
    let app = TestApp::spawn().await;
    let viewer = wallet(5).address();
    let (checksummed, lower) = (viewer.to_checksum(None), viewer.to_string().to_lowercase());
    let text = STANDARD.encode(pictures::png(4, 4));
    let form = |fields: &[(&str, &str)]| {
        let mut form = Vec::new();
        for (name, value) in fields {
            form.extend(
                format!(
                    "--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
                )
                .as_bytes(),
            );
        }
        form.extend(
            b"--XX\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\n",
        );
        form.extend(pictures::png(4, 4));
        form.extend(b"\r\n--XX--\r\n");
        ("multipart/form-data; boundary=XX", form)
    };
    let json = |fields: Value| {
        let mut body = fields;
        body["image"] = json!(text);
        ("application/json", body.to_string().into_bytes())
    };
    let send = async |path: &str, (kind, body): (&str, Vec<u8>)| {
        app.send("POST", path, &[("content-type", kind)], body)
            .await
    };
    for (path, body, seen) in [
        ("/api/free", form(&[("visibility", "private")]), None),
        ("/api/free", json(json!({"visibility": "private"})), None),
        (FREE, form(&[("visibility", "private")]), None),
        (
            "/api/free",
            form(&[("visibility", "private"), ("viewer", &lower)]),
            Some(&checksummed),
        ),
        (
            "/api/free",
            json(json!({"visibility": "private", "viewer": checksummed})),
            Some(&checksummed),
        ),
        (
            &format!("{FREE}&viewer={lower}"),
            json(json!({})),
            Some(&checksummed),
        ),
    ] {
        let answer = send(path, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.field("visibility"), "private");
        let id = answer.field("id");
        let query = format!("SELECT COALESCE(viewer, '') FROM images WHERE id = '{id}'");
        let stored = database::texts(app.db(), &query).await;
        assert_eq!(stored, [seen.cloned().unwrap_or_default()]);
    }
    let wrong_checksum = checksummed.replacen(
        |character: char| character.is_ascii_lowercase() && character != 'x',
        "A",
        1,
    );
    let before = app.rows("images").await;
    for (path, body, part) in [
        ("/api/free?visibility=secret", json(json!({})), "public"),
        ("/api/free?visibility=Private", json(json!({})), "private"),
        (
            "/api/free?visibility=private&visibility=private",
            json(json!({})),
            "more than once",
        ),
        (
            &format!("/api/free?viewer={lower}"),
            json(json!({})),
            "visibility=private",
        ),
        (
            &format!("/api/free?visibility=public&viewer={lower}"),
            json(json!({})),
            "visibility=private",
        ),
        (
            &format!("{FREE}&viewer=0x12"),
            json(json!({})),
            "40 hexadecimal",
        ),
        (
            &format!("{FREE}&viewer="),
            json(json!({})),
            "40 hexadecimal",
        ),
        (
            &format!("{FREE}&viewer={}", &lower[2..]),
            json(json!({})),
            "40 hexadecimal",
        ),
        (
            &format!("{FREE}&viewer={wrong_checksum}"),
            json(json!({})),
            "checksum",
        ),
        (FREE, form(&[("visibility", "public")]), "say differently"),
        (
            &format!("{FREE}&viewer={lower}"),
            json(json!({"visibility": "private"})),
            "say differently",
        ),
        (
            "/api/free",
            form(&[("visibility", "private"), ("visibility", "public")]),
            "twice",
        ),
        (
            "/api/free",
            form(&[("visibility", "")]),
            "not a known value",
        ),
        (
            "/api/free",
            form(&[("viewer", &lower)]),
            "visibility=private",
        ),
        (
            "/api/free",
            json(json!({"viewer": lower})),
            "visibility=private",
        ),
    ] {
        let answer = send(path, body).await;
        assert_eq!(answer.status, 400, "{path} {}", answer.text());
        let message = answer.field("message");
        assert!(message.contains(part), "{path}: {message}");
    }
    assert_eq!(app.rows("images").await, before);
    let checked = send(
        &format!("/api/check?visibility=private&viewer={lower}"),
        json(json!({})),
    )
    .await;
    assert_eq!(checked.status, 200, "{}", checked.text());
}

#[tokio::test]
async fn an_operator_can_refuse_private_uploads() {
    let app = TestApp::builder()
        .set("images.private", "false")
        .spawn()
        .await;
    for path in [FREE, "/api/upload/year?visibility=private"] {
        let kind = [("content-type", "image/png")];
        let refused = app.send("POST", path, &kind, pictures::png(4, 4)).await;
        assert_eq!(
            refused.verdict(),
            (400, "invalid_parameter".to_owned(), Some(false))
        );
        assert!(refused.field("message").contains("public images only"));
    }
    let body = json!({"image": STANDARD.encode(pictures::png(4, 4)), "visibility": "private"});
    let kind = [("content-type", "application/json")];
    let refused = app.send("POST", "/api/free", &kind, body.to_string()).await;
    assert_eq!(refused.error(), "invalid_body");
    app.upload_at("/api/free?visibility=public", pictures::png(4, 4))
        .await;
}

#[tokio::test]
async fn a_payment_is_bound_to_who_may_see_the_image() {
    let app = TestApp::spawn().await;
    let viewer = wallet(5).address();
    let private = "/api/upload/year?visibility=private";
    let named = format!("{private}&viewer={viewer}");
    let challenge = app.post(&named).await;
    let curl = challenge.json()["action"]["curl"].clone();
    let fields = format!(" -F visibility=private -F viewer={viewer} ");
    assert!(curl.as_str().unwrap().contains(&fields), "{curl}");
    assert_eq!(
        challenge.document("payment-required")["resource"]["url"],
        app.url("/api/upload/year")
    );

    let payment = app.sign_at(&named).await;
    let picture = pictures::png(8, 8);
    let image = app.pay_with(&payment, &picture).await;
    assert_eq!(image.status, 200, "{}", image.text());
    assert_eq!(image.field("visibility"), "private");
    assert_eq!(app.get(&image.field("url")).await.status, 200);
    let send = async |path: &str| {
        let mut headers = payment.headers();
        headers.push(("content-type", "image/png".to_owned()));
        app.send("POST", path, &headers, picture.clone()).await
    };
    let again = send(&named).await;
    assert_eq!(again.field("id"), image.field("id"));
    for other in ["/api/upload/year", private] {
        let refused = send(other).await;
        assert_eq!(
            refused.verdict(),
            (409, "idempotency_conflict".to_owned(), Some(true)),
            "{other}"
        );
    }
    // A request without a body asks for the goods.
    let asked = app.pay_at(&named, &payment).await;
    assert_eq!(asked.field("id"), image.field("id"));
    assert_eq!(app.transfers().await.len(), 1);
    assert!(app.check_ledger().await.is_balanced());
}

#[tokio::test]
async fn the_same_bytes_for_other_eyes_are_another_upload_of_a_token() {
    let app = TestApp::spawn().await;
    let payment = app.sign_at("/api/upload/token/year?images=2").await;
    let token = app.pay(&payment).await.token();
    let picture = pictures::png(4, 4);
    let upload = async |query: &str| {
        let headers = [("content-type", "image/png"), ("X-Upload-Token", &token)];
        let path = format!("/api/upload{query}");
        app.send("POST", &path, &headers, picture.clone()).await
    };
    let public = upload("").await;
    let private = upload("?visibility=private").await;
    assert_eq!((public.status, private.status), (200, 200));
    assert_ne!(public.field("id"), private.field("id"));
    assert_eq!(private.field("visibility"), "private");
    for (query, first) in [("", &public), ("?visibility=private", &private)] {
        let again = upload(query).await;
        assert_eq!(again.field("id"), first.field("id"));
    }
    let viewer = wallet(5).address();
    let third = upload(&format!("?visibility=private&viewer={viewer}")).await;
    assert_eq!(third.error(), "token_used");
}

#[tokio::test]
async fn a_renewed_private_image_stays_private_and_its_links_may_last_longer() {
    let app = TestApp::spawn().await;
    let image = app.upload_at(FREE, pictures::png(4, 4)).await;
    let (id, token, url) = (
        image.field("id"),
        image.field("deleteToken"),
        image.field("url"),
    );
    let renew = format!("/api/images/{id}/renew?tier=year");
    let missing = app.post("/api/images/zzzzzzzzzzzz/renew?tier=year").await;
    assert_eq!(seen(&app.post(&renew).await), seen(&missing));
    let query = url.split_once('?').unwrap().1;
    let by_link = format!("{renew}&{query}");
    let challenge = app.post(&by_link).await;
    assert_eq!(challenge.status, 402, "{}", challenge.text());
    let offer = challenge.document("payment-required");
    assert_eq!(offer["resource"]["url"], app.url(&renew));

    // Somebody who has the link pays, and receives no longer link.
    let payment = app.sign_at(&by_link).await;
    let renewed = app.pay(&payment).await;
    assert_eq!(renewed.status, 200, "{}", renewed.text());
    assert_eq!(renewed.field("visibility"), "private");
    assert_eq!(renewed.field("url"), url);
    let plain = parts(&url).0;
    assert_eq!(app.get(plain).await.status, 404);
    let claimed = app.claim(&app.wallet).await;
    assert_eq!(claimed.len(), 0);

    let year = r#"{"expiresInSeconds": 31536000}"#;
    let longer = app.link(&id, &token, year).await.field("url");
    let owner = [("X-Delete-Token", &*token)];
    let by_owner = app.send("POST", &renew, &owner, "").await;
    assert_eq!(by_owner.status, 402, "{}", by_owner.text());
    app.advance(8 * DAY);
    assert_eq!(app.get(&url).await.status, 404);
    assert_eq!(app.get(&longer).await.status, 200);
}

#[tokio::test]
async fn a_private_image_is_never_kept_in_memory() {
    let app = TestApp::on_disk().await;
    let watch = remembering(&app.app).await;
    let private = app.upload_at(FREE, pictures::png(4, 4)).await;
    let public = app.upload_at("/api/free", pictures::png(4, 4)).await;
    for image in [&private, &public] {
        for _ in 0..3 {
            assert_eq!(app.get(&image.field("url")).await.status, 200);
        }
        take_away(&object_of(&app, &image.field("id")));
    }
    assert_eq!(app.get(&public.field("url")).await.status, 200);
    assert_eq!(app.get(&private.field("url")).await.status, 404);
    drop(watch);
}

#[tokio::test]
async fn the_viewer_gets_a_link_and_a_stranger_does_not() {
    let app = TestApp::spawn().await;
    let (viewer, stranger) = (wallet(5), wallet(6));
    let path = format!("{FREE}&viewer={}", viewer.address());
    let image = app.upload_at(&path, pictures::png(4, 4)).await;
    let id = image.field("id");
    let link = app.links_by("POST", &id, &viewer).await;
    assert_eq!(link.status, 200, "{}", link.text());
    assert_eq!(app.get(&link.field("url")).await.status, 200);
    let refused = app.links_by("POST", &id, &stranger).await;
    let missing = app.links_by("POST", "zzzzzzzzzzzz", &stranger).await;
    assert_eq!((refused.status, missing.status), (404, 404));
    assert_eq!(seen(&refused), seen(&missing));
    // The viewer can't take the links of others away.
    let refused = app.links_by("DELETE", &id, &viewer).await;
    assert_eq!(refused.status, 404, "{}", refused.text());
    assert_eq!(app.get(&link.field("url")).await.status, 200);

    // Each message signs in once, for one image and one deed.
    let links = |id: &str| format!("/api/images/{id}/links");
    let challenge = app.post(&links(&id)).await;
    assert_eq!(challenge.verdict().1, "sign_in_required");
    let message = sign_in(&challenge, &viewer).encode();
    let headers = [("SIGN-IN-WITH-X", message)];
    let other = app.upload_at(&path, pictures::png(5, 4)).await.field("id");
    let refused = app.send("POST", &links(&other), &headers, "").await;
    assert_eq!(refused.error(), "sign_in_invalid");
    let refused = app.send("DELETE", &links(&id), &headers, "").await;
    assert_eq!(refused.error(), "sign_in_invalid");
    let link = app.send("POST", &links(&id), &headers, "").await;
    assert_eq!(link.status, 200, "{}", link.text());
    let replayed = app.send("POST", &links(&id), &headers, "").await;
    assert_eq!(replayed.error(), "sign_in_invalid");
}

#[tokio::test]
async fn the_paying_wallet_owns_the_links_of_its_private_image() {
    let app = TestApp::spawn().await;
    let payment = app.sign_at("/api/upload/year?visibility=private").await;
    let image = app.pay_with(&payment, &pictures::png(4, 4)).await;
    assert_eq!(image.status, 200, "{}", image.text());
    let (id, old) = (image.field("id"), image.field("url"));
    let link = app.links_by("POST", &id, &app.wallet).await;
    assert_eq!(link.status, 200, "{}", link.text());
    let ended = app.links_by("DELETE", &id, &app.wallet).await;
    assert_eq!(ended.status, 200, "{}", ended.text());
    for url in [old, link.field("url")] {
        assert_eq!(app.get(&url).await.status, 404);
    }
    let stranger = wallet(6);
    for method in ["POST", "DELETE"] {
        let refused = app.links_by(method, &id, &stranger).await;
        assert_eq!(refused.status, 404, "{}", refused.text());
    }
}

#[tokio::test]
async fn an_upload_link_takes_private_images() {
    let app = TestApp::spawn().await;
    let link = app.post("/api/links?tier=free").await;
    assert_eq!(link.status, 200, "{}", link.text());
    let path = format!("{}?visibility=private", link.field("url"));
    let answer = app.send("PUT", &path, &NONE, pictures::png(4, 4)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.text();
    let url = text.trim_end();
    let (plain, _, _) = parts(url);
    assert_eq!(app.get(url).await.status, 200);
    assert_eq!(app.get(plain).await.status, 404);
}

#[tokio::test]
async fn an_api_key_uploads_private_images_whose_links_its_wallet_ends() {
    let app = TestApp::spawn().await;
    let owner = wallet(5);
    let challenge = app.post("/api/keys").await;
    let message = sign_in(&challenge, &owner).encode();
    let headers = [("SIGN-IN-WITH-X", message)];
    let key = app
        .send("POST", "/api/keys", &headers, "")
        .await
        .field("key");
    let headers = [("Authorization", format!("Bearer {key}"))];
    let path = "/api/upload?visibility=private";
    let image = app.send("POST", path, &headers, pictures::png(4, 4)).await;
    assert_eq!(image.status, 200, "{}", image.text());
    let url = image.field("url");
    assert_eq!(app.get(&url).await.status, 200);
    assert_eq!(app.get(parts(&url).0).await.status, 404);
    let ended = app.links_by("DELETE", &image.field("id"), &owner).await;
    assert_eq!(ended.status, 200, "{}", ended.text());
    assert_eq!(app.get(&url).await.status, 404);
}
