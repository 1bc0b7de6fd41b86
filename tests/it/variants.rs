//! Variants over HTTP: the links that name them, their headers, who sees them, and that they end with
//! their image. `src/images/variants/tests.rs` has the queue.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use pixtoll::images::variants::Counts;
use sha2::{Digest, Sha256};

use crate::hot::{dies_soon, object_of, remembering};
use crate::support::process::eventually;
use crate::support::{Answer, TestApp, database, pictures};

const NONE: [(&str, &str); 0] = [];
const DAY: Duration = Duration::from_hours(24);

/// The link of an image without its extension and query.
fn stem(answer: &Answer) -> String {
    let url = answer.field("url");
    url.split_once(".png").unwrap().0.to_owned()
}

async fn shown(app: &TestApp, url: &str) -> Answer {
    let answer = app.get(url).await;
    assert_eq!(answer.status, 200, "{url}: {}", answer.text());
    answer
}

fn counts(app: &TestApp) -> Counts {
    app.app.variants.counts()
}

/// Waits until so many variants are stored.
pub(crate) async fn until_stored(app: &TestApp, stored: u64) {
    eventually("storing variants", async || {
        (counts(app).stored == stored).then_some(())
    })
    .await;
}

/// The files of variants beside an image's object.
pub(crate) fn files(app: &TestApp, id: &str) -> BTreeSet<String> {
    let folder = object_of(app, id).parent().unwrap().to_owned();
    let names = std::fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let own = [id.to_owned(), format!("{id}.json")];
    names
        .filter(|name| name.starts_with(id) && !own.contains(name))
        .collect()
}

fn media_type(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, ..] => "image/jpeg",
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => "image/webp",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "image/avif",
        _ => "another",
    }
}

#[tokio::test]
async fn links_name_variants_by_extension_and_parameters() {
    let app = TestApp::on_disk().await;
    let picture = pictures::png(40, 20);
    let uploaded = app.upload_free(picture.clone()).await;
    let stem = stem(&uploaded);

    for (extension, kind) in [
        ("jpg", "image/jpeg"),
        ("jpeg", "image/jpeg"),
        ("webp", "image/webp"),
        ("avif", "image/avif"),
        ("png", "image/png"),
    ] {
        let answer = shown(&app, &format!("{stem}.{extension}?w=10")).await;
        assert_eq!(answer.header("content-type").as_deref(), Some(kind));
        assert_eq!(media_type(&answer.bytes), kind);
    }
    // Parameters in any order are one variant, and so are values that change nothing.
    let one = shown(&app, &format!("{stem}.webp?w=10&h=9&fit=cover&q=70")).await;
    for same in ["q=70&fit=cover&h=9&w=10", "fit=cover&w=10&q=70&h=9"] {
        let other = shown(&app, &format!("{stem}.webp?{same}")).await;
        assert_eq!(other.bytes, one.bytes);
        assert_eq!(other.header("etag"), one.header("etag"));
    }
    let made = counts(&app).made;
    for same in ["w=10", "w=10&fit=scale-down"] {
        shown(&app, &format!("{stem}.webp?{same}")).await;
    }
    assert_eq!(counts(&app).made, made);

    // What changes nothing is the image itself.
    for original in [
        ".png",
        "",
        ".png?w=40",
        "?w=4096",
        ".png?h=20&w=90",
        ".png?q=50",
        ".png?size=l",
        "?size=s",
    ] {
        let answer = shown(&app, &format!("{stem}{original}")).await;
        assert_eq!(answer.bytes, picture, "{original}");
    }
    assert_eq!(counts(&app).made, made);

    for (bad, allowed) in [
        (".webp?w=0", "1 to 4096"),
        (".png?h=4097", "1 to 4096"),
        (".png?q=0", "1 to 100"),
        (".png?w=9&fit=crop", "scale-down, contain, cover, pad"),
        ("?size=xxl", "s, m, l, social"),
        (".png?size=s&w=9", "Send size alone"),
        (".png?w=9&w=9", "once"),
    ] {
        let answer = app.get(&format!("{stem}{bad}")).await;
        assert_eq!(
            (answer.status, &*answer.error()),
            (400, "invalid_parameter"),
            "{bad}"
        );
        assert!(answer.text().contains(allowed), "{bad}: {}", answer.text());
    }
    for (other, target) in [
        (".webp?w=10&utm_source=x", ".webp?w=10"),
        (".WEBP?w=10", ".webp?w=10"),
        (".webp?w=10).", ".webp?w=10"),
        (".png?fbclid=1", ".png"),
        (".JPG)", ".jpg"),
    ] {
        let answer = app.send("GET", &format!("{stem}{other}"), &NONE, "").await;
        assert_eq!(answer.status, 308, "{other}");
        assert_eq!(answer.header("location"), Some(format!("{stem}{target}")));
    }
    let gif = app.get(&format!("{stem}.gif")).await;
    assert_eq!((gif.status, &*gif.error()), (404, "not_found"));
    assert!(gif.text().contains(".webp"), "{}", gif.text());
    for unknown in [".svg", ".bmp?w=9", ".jp"] {
        assert_eq!(app.get(&format!("{stem}{unknown}")).await.status, 404);
    }
    let animated = app.upload_free(pictures::gif_animated(6, 6, 3)).await;
    let url = animated.field("url");
    let gif = app.get(&format!("{url}?w=3")).await;
    assert_eq!((gif.status, &*gif.error()), (400, "invalid_parameter"));
    let webp = shown(&app, &format!("{}?w=3", url.trim_end_matches(".gif"))).await;
    assert_eq!(webp.header("content-type").as_deref(), Some("image/webp"));
}

#[tokio::test]
async fn answers_name_the_sizes_and_the_look_of_an_image() {
    let app = TestApp::spawn().await;
    let uploaded = app.upload_free(pictures::png(8, 4)).await;
    let stem = stem(&uploaded);
    let facts = app
        .get(&format!("/api/images/{}", uploaded.field("id")))
        .await;
    for answer in [&uploaded, &facts] {
        let sizes = &answer.json()["sizes"];
        for (name, extension, kind) in [
            ("s", "webp", "image/webp"),
            ("m", "webp", "image/webp"),
            ("l", "webp", "image/webp"),
            ("social", "jpg", "image/jpeg"),
        ] {
            let url = sizes[name].as_str().unwrap();
            assert_eq!(url, format!("{stem}.{extension}?size={name}"));
            let size = shown(&app, url).await;
            assert_eq!(size.header("content-type").as_deref(), Some(kind));
        }
        let thumbhash = answer.field("thumbhash");
        assert!((8..=36).contains(&thumbhash.len()), "{thumbhash}");
        let colour = answer.field("dominantColor");
        assert!(colour.starts_with('#') && colour.len() == 7, "{colour}");
    }
}

#[tokio::test]
async fn a_variant_has_the_headers_of_an_image() {
    let app = TestApp::on_disk().await;
    let uploaded = app.upload_free(pictures::png(30, 30)).await;
    let url = format!("{}.webp?w=12", stem(&uploaded));
    let head = app.send("HEAD", &url, &NONE, "").await;
    assert_eq!((head.status, head.bytes.len()), (200, 0));
    assert_eq!(counts(&app).made, 1);
    let whole = shown(&app, &url).await;
    assert_eq!(counts(&app).made, 1);
    let sha256 = Sha256::digest(&whole.bytes);
    let etag = format!("\"{}\"", hex::encode(sha256));
    assert_eq!(whole.header("etag").as_deref(), Some(&*etag));
    let length = whole.bytes.len().to_string();
    for name in [
        "content-type",
        "etag",
        "cache-control",
        "expires",
        "last-modified",
        "repr-digest",
    ] {
        assert!(whole.header(name).is_some(), "{name}");
        assert_eq!(head.header(name), whole.header(name), "{name}");
    }
    assert_eq!(head.header("content-length"), Some(length));
    assert_eq!(
        whole.header("content-security-policy").as_deref(),
        Some("default-src 'none'; sandbox")
    );
    let control = whole.header("cache-control").unwrap();
    let left = app
        .get(&uploaded.field("url"))
        .await
        .header("cache-control");
    assert_eq!(
        Some(control),
        left,
        "no cache keeps it longer than the image"
    );

    let ask = async |headers: &[(&str, &str)]| app.send("GET", &url, headers, "").await;
    let unchanged = ask(&[("if-none-match", &etag)]).await;
    assert_eq!((unchanged.status, unchanged.bytes.len()), (304, 0));
    let part = ask(&[("range", "bytes=5-20"), ("if-range", &etag)]).await;
    assert_eq!((part.status, &part.bytes[..]), (206, &whole.bytes[5..21]));
    let behind = format!("bytes={}-", whole.bytes.len());
    assert_eq!(ask(&[("range", &behind)]).await.status, 416);
    assert_eq!(ask(&[("if-match", "\"another\"")]).await.status, 412);
}

#[tokio::test]
async fn five_hundred_requests_for_a_cold_variant_make_it_once() {
    let app = TestApp::on_disk().await;
    let uploaded = app.upload_free(pictures::png(300, 300)).await;
    let url = format!("{}.jpg?w=200", stem(&uploaded));
    let answers = join_all((0..500).map(|_| app.get(&url))).await;
    let first = answers[0].clone();
    for answer in &answers {
        assert_eq!((answer.status, &answer.bytes), (200, &first.bytes));
    }
    assert_eq!(counts(&app).made, 1);
    until_stored(&app, 1).await;
    assert_eq!(app.rows("variants").await, 1);
    assert_eq!(files(&app, &uploaded.field("id")).len(), 1);
}

#[tokio::test]
async fn thousands_of_variants_are_refused_while_other_requests_are_served() {
    let app = TestApp::builder()
        .set("limits.variants_per_address_per_minute", "0")
        .on_disk()
        .spawn()
        .await;
    let uploaded = app.upload_free(pictures::png(500, 500)).await;
    let (stem, url) = (stem(&uploaded), uploaded.field("url"));
    let (mut served, mut refused) = (0, 0);
    // 64 connections, each with its own variants.
    let connections = (0..64_u32).map(|number| {
        let (app, stem) = (&app, &stem);
        async move {
            let mut statuses = Vec::new();
            for step in 0..6 {
                let (width, height) = (number + 1, step + 1);
                let url = format!("{stem}.png?w={width}&h={height}&fit=pad");
                let answer = app.get(&url).await;
                if answer.status == 503 {
                    assert_eq!(answer.error(), "busy");
                    assert!(answer.header("retry-after").is_some());
                }
                statuses.push(answer.status);
            }
            statuses
        }
    });
    let others = async {
        for _ in 0..50 {
            assert_eq!(app.get(&url).await.status, 200);
        }
    };
    let (statuses, ()) = tokio::join!(join_all(connections), others);
    for status in statuses.into_iter().flatten() {
        match status {
            200 => served += 1,
            503 => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!(
        served > 0 && refused > 0,
        "{served} served, {refused} refused"
    );
    assert_eq!(counts(&app).made, served);
    // What is stored is bounded.
    eventually("the end of all jobs", async || {
        (app.rows("variants").await == 32).then_some(())
    })
    .await;
    assert_eq!(files(&app, &uploaded.field("id")).len(), 32);
}

#[tokio::test]
async fn a_variant_ends_with_its_image_also_in_memory() {
    let app = TestApp::on_disk().await;
    let _watch = remembering(&app.app).await;
    let uploaded = app.upload_free(pictures::png(30, 30)).await;
    let id = uploaded.field("id");
    let url = format!("{}.webp?w=12", stem(&uploaded));
    shown(&app, &url).await;
    shown(&app, &uploaded.field("url")).await;
    until_stored(&app, 1).await;
    let before = counts(&app);
    shown(&app, &url).await;
    assert_eq!(counts(&app), before, "it is in memory");
    let token = uploaded.field("deleteToken");
    let delete = [("X-Delete-Token", &*token)];
    let deleted = app
        .send("DELETE", &format!("/api/images/{id}"), &delete, "")
        .await;
    assert_eq!(deleted.status, 200);
    assert_eq!(app.get(&url).await.status, 404);
    assert_eq!(files(&app, &id), BTreeSet::new());

    // Withdrawn by another server, and at its expiry.
    let uploaded = app.upload_free(pictures::png(31, 31)).await;
    let url = format!("{}.webp?w=12", stem(&uploaded));
    shown(&app, &url).await;
    until_stored(&app, 2).await;
    let id = uploaded.field("id");
    let withdraw =
        format!("UPDATE images SET state = 'deleting', reap_after_ms = 0 WHERE id = '{id}'");
    database::execute(app.db(), &withdraw).await;
    dies_soon(&app, &url).await;
    let uploaded = app.upload_free(pictures::png(32, 32)).await;
    let url = format!("{}.webp?w=12", stem(&uploaded));
    shown(&app, &url).await;
    until_stored(&app, 3).await;
    app.advance(7 * DAY);
    assert_eq!(app.get(&url).await.status, 404);
    app.app.retention.reap().await.unwrap();
    assert_eq!(files(&app, &uploaded.field("id")), BTreeSet::new());
    // Rows of settled variants are gone with them; those of young ones go ten minutes later.
    app.advance(Duration::from_mins(11));
    app.app.retention.reap().await.unwrap();
    assert_eq!(app.rows("variants").await, 0);
}

#[tokio::test]
async fn variants_of_a_private_image_need_its_signature() {
    let app = TestApp::on_disk().await;
    let _watch = remembering(&app.app).await;
    let picture = pictures::png(30, 30);
    let uploaded = app.upload_at("/api/free?visibility=private", picture).await;
    let url = uploaded.field("url");
    let (plain, signature) = url.split_once('?').unwrap();
    let stem = plain.trim_end_matches(".png");
    let link = format!("{stem}.webp?{signature}&w=9");
    assert_eq!(
        uploaded.json()["sizes"]["s"],
        format!("{stem}.webp?{signature}&size=s")
    );
    for _ in 0..2 {
        let answer = shown(&app, &link).await;
        let control = answer.header("cache-control").unwrap();
        assert!(control.starts_with("private, max-age="), "{control}");
    }
    let other_way = format!("{stem}.webp?w=9&{signature}");
    let redirected = app.send("GET", &other_way, &NONE, "").await;
    assert_eq!(redirected.status, 308);
    assert_eq!(redirected.header("location").as_deref(), Some(&*link));
    for hidden in [
        format!("{stem}.webp?w=9"),
        format!("{stem}.webp?size=s"),
        format!("{stem}.gif?{}", signature.replace("sig=", "sig=0")),
        format!("{stem}.webp?{}&w=0", signature.replace("sig=", "sig=0")),
    ] {
        let answer = app.get(&hidden).await;
        assert_eq!(
            (answer.status, &*answer.error()),
            (404, "not_found"),
            "{hidden}"
        );
        assert!(!answer.text().contains("GIF"));
    }
    // The owner ends all links: the variant ends at once.
    let id = uploaded.field("id");
    let token = uploaded.field("deleteToken");
    let path = format!("/api/images/{id}/links");
    let ended = app
        .send("DELETE", &path, &[("X-Delete-Token", token)], "")
        .await;
    assert_eq!(ended.status, 200);
    assert_eq!(app.get(&link).await.status, 404);
}

#[tokio::test]
async fn the_audit_knows_variants_and_repairs_what_differs() {
    let app = TestApp::on_disk().await;
    let uploaded = app.upload_free(pictures::png(30, 30)).await;
    let id = uploaded.field("id");
    for width in [5, 6] {
        shown(&app, &format!("{}.webp?w={width}", stem(&uploaded))).await;
    }
    until_stored(&app, 2).await;
    app.advance(Duration::from_mins(11));
    let store = pixtoll::store::Store::open_local(&app.folder().join("images")).unwrap();
    let audit = async |repair| {
        let mut found = Vec::new();
        let now = pixtoll::system::clock::Clock::now(&app.clock);
        let tell = |mismatch| found.push(format!("{mismatch:?}"));
        let audit = pixtoll::retention::audit::audit(app.db(), &store, now, repair, tell);
        let audit = audit.await.unwrap();
        (audit.variants, audit.open, found.join(" "))
    };
    assert_eq!(audit(false).await, (2, 0, String::new()));
    // One object is lost, and one has no row.
    let folder = object_of(&app, &id).parent().unwrap().to_owned();
    let first = files(&app, &id).into_iter().next().unwrap();
    let stray = format!("{id}.{}", "ab".repeat(16));
    std::fs::rename(folder.join(&first), folder.join(&stray)).unwrap();
    let (_, open, found) = audit(false).await;
    assert_eq!(open, 1, "{found}");
    assert!(
        found.contains("NoVariant") && found.contains("VariantLeft"),
        "{found}"
    );
    audit(true).await;
    assert!(!folder.join(&stray).exists());
    assert_eq!(audit(false).await, (1, 0, String::new()));
    for width in [5, 6] {
        shown(&app, &format!("{}.webp?w={width}", stem(&uploaded))).await;
    }
}
