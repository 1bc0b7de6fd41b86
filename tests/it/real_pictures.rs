//! Pictures as real cameras, phones and programs write them. An image is what browsers show of it.
//! Each rule has unit tests beside the code; these tests show what the client receives.
//! `scripts/check-viewers` compares real viewers.

use serde_json::json;

use crate::support::{Answer, TestApp, pictures};

/// The offset behind the header of a PNG.
const AFTER_IHDR: usize = 8 + 12 + 13;

fn png_chunk(kind: &[u8], body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    let crc = pictures::crc32(&[kind, body].concat()).to_be_bytes();
    [&len[..], kind, body, &crc].concat()
}

/// The picture with these bytes behind its header.
fn with(png: &[u8], chunks: &[u8]) -> Vec<u8> {
    let (head, tail) = png.split_at(AFTER_IHDR);
    [head, chunks, tail].concat()
}

/// Exif with one orientation.
fn tiff(orientation: u8) -> Vec<u8> {
    let mut tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    tiff.extend([orientation, 0, 0, 0, 0, 0, 0]);
    tiff
}

/// A JPEG of 16 by 8 pixels with these bodies of Exif segments, in order.
fn jpeg(exif: &[Vec<u8>]) -> Vec<u8> {
    let mut jpeg = pictures::jpeg();
    let frame = jpeg
        .windows(4)
        .position(|w| w == b"\xff\xc0\0\x11")
        .unwrap();
    jpeg[frame + 6] = 8;
    let segments = exif.iter().flat_map(|body| {
        let len = u16::try_from(body.len() + 2).unwrap().to_be_bytes();
        [b"\xff\xe1", &len[..], body].concat()
    });
    [&jpeg[..2], &segments.collect::<Vec<u8>>(), &jpeg[2..]].concat()
}

fn exif(orientation: u8) -> Vec<u8> {
    [&b"Exif\0\0"[..], &tiff(orientation)].concat()
}

fn size(answer: &Answer) -> (u64, u64) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let side = |name: &str| answer.json()[name].as_u64().unwrap();
    (side("width"), side("height"))
}

#[tokio::test]
async fn every_response_has_the_size_that_browsers_show() {
    let app = TestApp::spawn().await;
    let upright = (16, 8);
    let turned = (8, 16);
    for (name, picture, shown) in [
        ("turned", jpeg(&[exif(6)]), turned),
        ("mirrored", jpeg(&[exif(2)]), upright),
        (
            "the first block decides",
            jpeg(&[exif(1), exif(6)]),
            upright,
        ),
        (
            "even if it has no orientation",
            jpeg(&[b"Exif\0\0II".to_vec(), exif(6)]),
            upright,
        ),
        (
            "pad byte",
            jpeg(&[[&b"Exif\0\xff"[..], &tiff(6)].concat()]),
            turned,
        ),
        (
            "PNG",
            with(&pictures::png(16, 8), &png_chunk(b"eXIf", &tiff(8))),
            turned,
        ),
    ] {
        let uploaded = app.upload_free(picture.clone()).await;
        assert_eq!(size(&uploaded), shown, "{name}");
        let path = format!("/api/images/{}", uploaded.field("id"));
        assert_eq!(size(&app.get(&path).await), shown, "{name}");
        let headers = [("content-type", "image/png")];
        let checked = app.send("POST", "/api/check", &headers, picture).await;
        assert_eq!(size(&checked), shown, "{name}");
        // Uploading the served file again changes nothing.
        let served = app.get(&uploaded.field("url")).await.bytes;
        let again = app.upload_free(served).await;
        assert_eq!(again.field("sha256"), uploaded.field("sha256"), "{name}");
        assert_eq!(size(&again), shown, "{name}");
    }
    let mut gif = pictures::gif(12, 9);
    // The logical screen is smaller than the frame.
    gif[6] = 4;
    gif[8] = 3;
    assert_eq!(size(&app.upload_free(gif).await), (12, 9));
}

#[tokio::test]
async fn damage_that_viewers_tolerate_is_repaired() {
    let app = TestApp::spawn().await;
    let (png, jpeg, gif) = (pictures::png(6, 5), pictures::jpeg(), pictures::gif(6, 5));
    let text = png_chunk(b"tEXt", b"Comment\0hi");
    let mut wrong_sum = text.clone();
    *wrong_sum.last_mut().unwrap() ^= 1;
    let stray = [&jpeg[..20], b"\0\xe1stray\xff\0", &jpeg[20..]].concat();
    let zeros = [&jpeg[..jpeg.len() - 2], &[0; 300]].concat();
    for (name, damaged, sound, removed) in [
        (
            "no IEND",
            png[..png.len() - 12].to_vec(),
            &png,
            json!(["damage"]),
        ),
        (
            "wrong checksum",
            with(&png, &wrong_sum),
            &png,
            json!(["comment"]),
        ),
        ("stray bytes", stray, &jpeg, json!(["damage"])),
        ("zeros for the end", zeros, &jpeg, json!(["damage"])),
        (
            "no trailer",
            gif[..gif.len() - 1].to_vec(),
            &gif,
            json!(["damage"]),
        ),
    ] {
        let answer = app.upload_free(damaged).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        assert_eq!(answer.json()["removed"], removed, "{name}");
        let served = app.get(&answer.field("url")).await;
        assert_eq!(served.bytes, sound.as_slice(), "{name}");
        let answer = app.upload_free(sound.clone()).await;
        assert_eq!(answer.json()["removed"], json!([]), "{name}");
        assert_eq!(answer.json()["metadata"], "removed", "{name}");
    }
}

/// A PNG with sound chunks and meaningless image data.
fn garbage() -> Vec<u8> {
    let png = pictures::png(64, 64);
    let noise = png_chunk(b"IDAT", &pictures::png_seeded(60, 60, 7)[60..]);
    [&png[..AFTER_IHDR], &noise, &png_chunk(b"IEND", b"")].concat()
}

#[tokio::test]
async fn a_file_that_no_viewer_shows_is_refused_for_free() {
    let app = TestApp::spawn().await;
    let mut no_tables = pictures::jpeg();
    let tables = no_tables.windows(2).position(|w| w == b"\xff\xc4").unwrap();
    // A progressive JPEG without its Huffman tables.
    no_tables[tables + 1] = 0xfe;
    let frame = no_tables.windows(2).position(|w| w == b"\xff\xc0").unwrap();
    no_tables[frame + 1] = 0xc2;
    let png = pictures::png(20, 20);
    let cut = [&png[..png.len() / 2], &png_chunk(b"IEND", b"")].concat();
    let mut webp = pictures::webp_lossy();
    webp.truncate(40);
    let corrupt = (400, "corrupt_image".to_owned(), Some(false));
    for (name, picture) in [
        ("noise", garbage()),
        ("no tables", no_tables),
        ("half of the rows", cut),
        ("half of a WebP", webp),
    ] {
        assert_eq!(
            app.upload_free(picture.clone()).await.verdict(),
            corrupt,
            "{name}"
        );
        let payment = app.sign_at("/api/upload/year").await;
        assert_eq!(
            app.pay_with(&payment, &picture).await.verdict(),
            corrupt,
            "{name}"
        );
        let token = app.pay(&app.sign_for("year").await).await.token();
        assert_eq!(
            app.upload_with(&token, picture).await.verdict(),
            corrupt,
            "{name}"
        );
        // Neither the token nor the payment is used.
        assert_eq!(
            app.upload_with(&token, pictures::png(3, 3)).await.status,
            200
        );
        assert_eq!(
            app.pay_with(&payment, &pictures::png(3, 3)).await.status,
            200
        );
    }
    assert_eq!(
        app.transfers().await.len(),
        8,
        "one for each token and each good upload"
    );
}

#[tokio::test]
async fn the_removed_metadata_is_listed_again_on_a_repeat() {
    let app = TestApp::spawn().await;
    let chunks = [
        png_chunk(b"tEXt", b"Author\0me"),
        png_chunk(b"tIME", &[0; 7]),
        png_chunk(b"caBX", b"manifest"),
    ];
    let picture = [
        with(&pictures::png(6, 5), &chunks.concat()),
        b"more".to_vec(),
    ]
    .concat();
    let payment = app.sign_at("/api/upload/year").await;
    let wanted = json!(["author", "date", "c2pa", "trailing"]);
    for _ in 0..2 {
        let answer = app.pay_with(&payment, &picture).await.json();
        assert_eq!(answer["removed"], wanted);
        assert_eq!(answer["metadata"], "removed");
        assert!(answer.get("contains").is_none());
    }
}

#[tokio::test]
async fn metadata_keep_stores_the_file_and_names_what_it_contains() {
    let app = TestApp::spawn().await;
    let manifest = png_chunk(b"caBX", b"manifest");
    let picture = with(
        &pictures::png(6, 5),
        &[manifest, png_chunk(b"eXIf", &tiff(6))].concat(),
    );
    let keep = async |bytes: &[u8]| {
        let headers = [("content-type", "image/png")];
        app.send("POST", "/api/free?metadata=keep", &headers, bytes.to_vec())
            .await
    };
    let answer = keep(&picture).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["metadata"], "kept");
    assert_eq!(answer.json()["contains"], json!(["c2pa"]));
    assert_eq!(answer.json()["removed"], json!([]));
    assert_eq!(size(&answer), (5, 6));
    assert_eq!(app.get(&answer.field("url")).await.bytes, picture);
    let refused = (400, "metadata_not_kept".to_owned(), Some(false));
    let trailing = keep(&[&picture[..], b"more"].concat()).await;
    assert_eq!(trailing.verdict(), refused);
    assert!(
        trailing.text().contains("Bytes follow the end"),
        "{}",
        trailing.text()
    );
    assert_eq!(
        keep(&picture[..picture.len() - 12]).await.verdict(),
        refused
    );
    let corrupt = (400, "corrupt_image".to_owned(), Some(false));
    assert_eq!(keep(&garbage()).await.verdict(), corrupt);
}

#[tokio::test]
async fn messages_about_pixel_limits_name_the_setting() {
    let app = TestApp::builder()
        .set("images.max_pixels", "400")
        .set("images.max_total_pixels", "1000")
        .spawn()
        .await;
    let upload = async |picture: Vec<u8>| app.upload_free(picture).await;
    assert_eq!(upload(pictures::png(20, 20)).await.status, 200);
    assert_eq!(upload(pictures::gif_animated(20, 10, 5)).await.status, 200);
    let limited = (400, "too_many_pixels".to_owned(), Some(false));
    for (picture, words) in [
        (pictures::png(20, 21), ["420", "400", "images.max_pixels"]),
        (pictures::webp(20, 11), ["220", "200", "images.max_pixels"]),
        (
            pictures::gif_animated(20, 10, 6),
            ["1200", "1000", "images.max_total_pixels"],
        ),
    ] {
        let answer = upload(picture).await;
        assert_eq!(answer.verdict(), limited);
        for word in words {
            assert!(answer.text().contains(word), "{word}: {}", answer.text());
        }
    }
}
