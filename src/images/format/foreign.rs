//! Recognises files that are none of the accepted formats, so that an error message can name them.
//!
//! Only the first `LOOKED_AT` bytes are read. The file is refused in any case, so a wrong guess
//! only makes the message less helpful.

use std::fmt;

/// How many bytes at the start of a file are examined.
const LOOKED_AT: usize = 4096;
/// The longest text that is taken for a URL or a path, in bytes.
const LONGEST_PLACE: usize = 2048;
/// How PNG, JPEG, GIF and WebP files begin when they are encoded in base64.
const BASE64_STARTS: [&str; 4] = ["iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR"];
/// File name endings. A single line with one of them is taken for a file name.
const ENDINGS: [&str; 14] = [
    ".png", ".jpg", ".jpeg", ".gif", ".webp", ".heic", ".heif", ".avif", ".svg", ".bmp", ".tif",
    ".tiff", ".ico", ".pdf",
];

/// A kind of file or text that is not accepted as an image. Its `Display` is a message for the
/// client: what the bytes are, and what to send instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// A HEIC or HEIF photograph, the default format of iPhones.
    Heic,
    /// An AVIF image.
    Avif,
    /// A JPEG XL image, as a codestream or in a container.
    JpegXl,
    /// A JPEG 2000 image, as a codestream or in a container.
    Jpeg2000,
    /// A TIFF image, or a camera's raw photograph in a TIFF container.
    Tiff,
    /// A Windows bitmap.
    Bmp,
    /// A Windows icon or cursor.
    Ico,
    /// A Photoshop document.
    Photoshop,
    /// An SVG drawing.
    Svg,
    /// An HTML page.
    Html,
    /// An XML document that is not an SVG drawing.
    Xml,
    /// A PDF document.
    Pdf,
    /// A ZIP archive, or an office document, which is a ZIP archive inside.
    Zip,
    /// A gzip, bzip2, xz, Zstandard, 7z or RAR archive.
    Archive,
    /// An MP4 or `QuickTime` video.
    Mp4,
    /// A `WebM` or Matroska video.
    WebM,
    /// A RIFF file that is not a WebP image, such as AVI video or WAV sound.
    Riff,
    /// A JSON document.
    Json,
    /// A multipart form without its content type.
    Form,
    /// A `data:` URL.
    DataUrl,
    /// An image as base64 text.
    Base64,
    /// A URL.
    Url,
    /// The path or the name of a file.
    Path,
    /// None of these.
    Unknown,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentences())
    }
}

impl Foreign {
    const fn sentences(self) -> &'static str {
        match self {
            Self::Heic => {
                "This is a HEIC photograph, which most browsers do not show. Convert it to JPEG and send that."
            }
            Self::Avif => {
                "This is an AVIF image. Only PNG, JPEG, GIF and WebP are accepted; convert it to WebP, PNG or JPEG and send that."
            }
            Self::JpegXl => {
                "This is a JPEG XL image, which most browsers do not show. Convert it to JPEG or PNG and send that."
            }
            Self::Jpeg2000 => {
                "This is a JPEG 2000 image, which most browsers do not show. Convert it to JPEG or PNG and send that."
            }
            Self::Tiff => {
                "This is a TIFF image or a camera's raw photograph, which browsers do not show. Convert it to JPEG or PNG and send that."
            }
            Self::Bmp => {
                "This is a BMP image. Only PNG, JPEG, GIF and WebP are accepted; convert it to PNG and send that."
            }
            Self::Ico => {
                "This is a Windows icon or cursor. Only PNG, JPEG, GIF and WebP are accepted; convert it to PNG and send that."
            }
            Self::Photoshop => {
                "This is a Photoshop document, which browsers do not show. Export it as PNG or JPEG and send that."
            }
            other => other.sentences_of_documents(),
        }
    }

    /// The messages for files that are not single images: drawings, documents, video, and texts
    /// that stand for an image.
    const fn sentences_of_documents(self) -> &'static str {
        match self {
            Self::Svg => {
                "This is an SVG drawing, which may hold scripts and is not accepted. Render it to PNG and send that."
            }
            Self::Html => {
                "This is an HTML page, not an image. If it was downloaded from a link, open the link of the image itself; send the image's bytes."
            }
            Self::Xml => {
                "This is an XML document, not an image. Send the bytes of a PNG, JPEG, GIF or WebP image."
            }
            Self::Pdf => "This is a PDF document. Render its page to PNG or JPEG and send that.",
            Self::Zip => {
                "This is a ZIP archive or an office document. Unpack it and send one image a request."
            }
            Self::Archive => {
                "This is a compressed archive. Unpack it and send one image a request, without compression."
            }
            Self::Mp4 => {
                "This is an MP4 or QuickTime video. Only images are accepted; export a frame as JPEG or PNG, or convert the video to an animated WebP or GIF."
            }
            Self::WebM => {
                "This is a WebM or Matroska video. Only images are accepted; export a frame as JPEG or PNG, or convert the video to an animated WebP or GIF."
            }
            Self::Riff => {
                "This is a RIFF file without a WebP image in it, such as AVI video or WAV sound. Send the bytes of a PNG, JPEG, GIF or WebP image."
            }
            Self::Json => {
                "This is a JSON document. Send the image's bytes, or JSON {\"image\": \"<base64>\"} with Content-Type: application/json."
            }
            Self::Form => {
                "This is a multipart form. Send it with Content-Type: multipart/form-data and its boundary, or send the image's bytes alone."
            }
            Self::DataUrl => {
                "This is a data: URL as text. Send the image's bytes, or JSON {\"image\": \"data:…\"} with Content-Type: application/json."
            }
            Self::Base64 => {
                "This is an image as base64 text. Send the image's bytes, or JSON {\"image\": \"<base64>\"} with Content-Type: application/json."
            }
            Self::Url => {
                "This is a URL, and the server fetches no URLs. Download the image and send its bytes."
            }
            Self::Path => {
                "This is the path or name of a file, not the file. Send the image's bytes (curl: -T FILE, -F image=@FILE or --data-binary @FILE)."
            }
            _ => {
                "The bytes are not a PNG, JPEG, GIF or WebP image. Convert the image to one of these and send its bytes."
            }
        }
    }
}

/// Recognises the kind of `bytes` by their first bytes.
pub fn recognise(bytes: &[u8]) -> Foreign {
    let start = bytes.get(..LOOKED_AT).unwrap_or(bytes);
    by_signature(start)
        .or_else(|| by_boxes(start))
        .or_else(|| by_text(start, bytes.len()))
        .unwrap_or(Foreign::Unknown)
}

/// Recognises a text that is a URL, a `data:` URL or a path. Returns `None` for other texts.
pub fn recognise_place(text: &str) -> Option<Foreign> {
    let text = text.trim();
    let is_one_line = !text.is_empty() && !text.contains(['\n', '\r']);
    if begins(text, "data:") {
        return Some(Foreign::DataUrl);
    }
    if !is_one_line || text.len() > LONGEST_PLACE {
        return None;
    }
    let schemes = ["http://", "https://", "ftp://", "ipfs://", "s3://", "www."];
    if schemes.iter().any(|scheme| begins(text, scheme)) {
        return Some(Foreign::Url);
    }
    let is_path = ["file:", "@", "./", "../", "~/", "\\\\"]
        .iter()
        .any(|start| begins(text, start))
        || matches!(text.as_bytes(), [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic());
    let lower = text.to_ascii_lowercase();
    let is_name = ENDINGS.iter().any(|ending| lower.ends_with(ending));
    (is_path || is_name).then_some(Foreign::Path)
}

fn by_signature(start: &[u8]) -> Option<Foreign> {
    const SIGNATURES: [(&[u8], Foreign); 24] = [
        (b"\xff\x0a", Foreign::JpegXl),
        (b"\0\0\0\x0cJXL \r\n\x87\n", Foreign::JpegXl),
        (b"\0\0\0\x0cjP  \r\n\x87\n", Foreign::Jpeg2000),
        (b"\xff\x4f\xff\x51", Foreign::Jpeg2000),
        (b"II*\0", Foreign::Tiff),
        (b"MM\0*", Foreign::Tiff),
        (b"II+\0", Foreign::Tiff),
        (b"MM\0+", Foreign::Tiff),
        (b"IIU\0", Foreign::Tiff),
        (b"FUJIFILMCCD-RAW", Foreign::Tiff),
        (b"\0\0\x01\0", Foreign::Ico),
        (b"\0\0\x02\0", Foreign::Ico),
        (b"8BPS", Foreign::Photoshop),
        (b"%PDF-", Foreign::Pdf),
        (b"PK\x03\x04", Foreign::Zip),
        (b"PK\x05\x06", Foreign::Zip),
        (b"\x1f\x8b", Foreign::Archive),
        (b"BZh", Foreign::Archive),
        (b"\xfd7zXZ\0", Foreign::Archive),
        (b"\x28\xb5\x2f\xfd", Foreign::Archive),
        (b"7z\xbc\xaf\x27\x1c", Foreign::Archive),
        (b"Rar!\x1a\x07", Foreign::Archive),
        (b"\x1a\x45\xdf\xa3", Foreign::WebM),
        (b"RIFF", Foreign::Riff),
    ];
    let known = SIGNATURES
        .iter()
        .find(|(signature, _)| start.starts_with(signature));
    // The letters BM also begin ordinary texts. In a bitmap, four reserved bytes of zero follow the
    // length.
    let is_bitmap = start.starts_with(b"BM") && start.get(6..10) == Some(&[0; 4]);
    match known {
        Some((_, foreign)) => Some(*foreign),
        None => is_bitmap.then_some(Foreign::Bmp),
    }
}

/// Files of ISO base media boxes. The brands in the first box tell images from video.
fn by_boxes(start: &[u8]) -> Option<Foreign> {
    let kind = start.get(4..8)?;
    if matches!(kind, b"moov" | b"mdat" | b"wide" | b"free" | b"skip") {
        return Some(Foreign::Mp4);
    }
    if kind != b"ftyp" {
        return None;
    }
    let length = start.first_chunk().copied().map(u32::from_be_bytes)?;
    let end = usize::try_from(length).ok()?.min(start.len());
    let brands = start.get(8..end.max(8)).unwrap_or_default();
    // The box holds the major brand, a version, then compatible brands. The brand `mif1` does not
    // name a codec.
    let has = |wanted: &[&[u8; 4]]| {
        let (brands, _) = brands.as_chunks::<4>();
        brands.iter().any(|brand| wanted.contains(&brand))
    };
    if has(&[b"avif", b"avis"]) {
        return Some(Foreign::Avif);
    }
    if has(&[
        b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1",
    ]) {
        return Some(Foreign::Heic);
    }
    if has(&[b"jxl "]) {
        return Some(Foreign::JpegXl);
    }
    if has(&[b"crx "]) {
        return Some(Foreign::Tiff);
    }
    Some(Foreign::Mp4)
}

fn by_text(start: &[u8], length: usize) -> Option<Foreign> {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    // The end of the examined bytes may cut a character.
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(start.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    let text = text.trim_start();
    if BASE64_STARTS.iter().any(|known| text.starts_with(known)) && is_base64(text) {
        return Some(Foreign::Base64);
    }
    match text.as_bytes() {
        [b'<', ..] => return Some(markup(text)),
        [b'{', ..] => return Some(Foreign::Json),
        [b'-', b'-', ..] if contains(text, "content-disposition:") => return Some(Foreign::Form),
        _ => {}
    }
    if begins(text, "data:") {
        return Some(Foreign::DataUrl);
    }
    (length <= LONGEST_PLACE)
        .then(|| recognise_place(text.trim_matches(['"', '\''])))
        .flatten()
        .or_else(|| is_absolute_path(text).then_some(Foreign::Path))
}

/// Whether the text is one line that begins at the root of a file system. In JSON, base64 of a JPEG
/// may begin like this too.
fn is_absolute_path(text: &str) -> bool {
    let text = text.trim_end();
    text.len() > 1
        && text.len() <= LONGEST_PLACE
        && text.starts_with('/')
        && !text.contains(char::is_control)
}

fn markup(text: &str) -> Foreign {
    if contains(text, "<svg") {
        Foreign::Svg
    } else if [
        "<!doctype html",
        "<html",
        "<head",
        "<body",
        "<script",
        "<title",
    ]
    .iter()
    .any(|tag| contains(text, tag))
    {
        Foreign::Html
    } else {
        Foreign::Xml
    }
}

fn is_base64(text: &str) -> bool {
    text.bytes().all(|byte| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_')
            || byte.is_ascii_whitespace()
    })
}

fn begins(text: &str, start: &str) -> bool {
    let beginning = text.as_bytes().get(..start.len());
    beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(start.as_bytes()))
}

/// Whether the text contains a word, in any case. `word` is in lower case.
fn contains(text: &str, word: &str) -> bool {
    let mut windows = text.as_bytes().windows(word.len());
    windows.any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_other_formats_are_recognised() {
        use Foreign::{
            Archive, Avif, Bmp, Heic, Ico, Jpeg2000, JpegXl, Mp4, Pdf, Photoshop, Riff, Tiff,
            Unknown, WebM, Zip,
        };
        let cases: [(&[u8], Foreign); 32] = [
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", Heic),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", Heic),
            (b"\0\0\0\x18ftypheix\0\0\0\0mif1heix", Heic),
            (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf", Avif),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", Avif),
            (b"\0\0\0\x14ftypavis\0\0\0\0msf1", Avif),
            (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1", Mp4),
            (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", Mp4),
            // Bytes behind the first box are not brands.
            (b"\0\0\0\x10ftypisom\0\0\0\0heicavif", Mp4),
            (b"\0\0\0\x08wide\0\0\0\x08mdat", Mp4),
            (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", Tiff),
            (b"\xff\x0a\xfa\x1f", JpegXl),
            (b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl ", JpegXl),
            (b"\0\0\0\x0cjP  \r\n\x87\n", Jpeg2000),
            (b"\xff\x4f\xff\x51\0\x29", Jpeg2000),
            (b"II*\0\x08\0\0\0", Tiff),
            (b"MM\0*\0\0\0\x08", Tiff),
            (b"II+\0\x08\0\0\0", Tiff),
            (b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0", Bmp),
            (b"\0\0\x01\0\x01\0\x10\x10", Ico),
            (b"\0\0\x02\0\x01\0\x10\x10", Ico),
            (b"8BPS\0\x01", Photoshop),
            (b"%PDF-1.7\n", Pdf),
            (b"PK\x03\x04\x14\0\0\0", Zip),
            (b"\x1f\x8b\x08\0", Archive),
            (b"Rar!\x1a\x07\x01\0", Archive),
            (b"\x1a\x45\xdf\xa3\x01\0\0\0", WebM),
            (b"RIFF\x24\0\0\0WAVEfmt ", Riff),
            (b"BM and so on and so on", Unknown),
            (b"\x8aMNG\r\n\x1a\n", Unknown),
            (b"GIF88a\x01\0\x01\0\0\0\0", Unknown),
            (b"\0\0\0\x08ftyp", Mp4),
        ];
        for (bytes, foreign) in cases {
            assert_eq!(recognise(bytes), foreign, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn texts_that_stand_for_an_image_are_recognised() {
        use Foreign::{Base64, DataUrl, Form, Html, Json, Path, Svg, Unknown, Url, Xml};
        for (text, foreign) in [
            ("<svg xmlns=\"http://www.w3.org/2000/svg\"/>", Svg),
            ("\u{feff}<?xml version=\"1.0\"?>\n<!-- a --><SVG/>", Svg),
            ("<!doctype html><img src=a.png>", Html),
            ("  \n<HTML><body>", Html),
            ("<script>alert(1)</script>", Html),
            ("<?xml version=\"1.0\"?><note/>", Xml),
            ("{\"image\": \"iVBORw0KGgo\"}", Json),
            ("https://example.com/a.png", Url),
            ("HTTP://example.com/", Url),
            ("www.example.com/a", Url),
            ("\"https://example.com/a.png\"\n", Url),
            ("@photo.png", Path),
            ("/home/me/photo", Path),
            ("C:\\Users\\me\\photo.jpg", Path),
            ("file:///home/me/photo.png", Path),
            ("holiday photo.JPG\n", Path),
            ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB", Base64),
            ("/9j/4AAQSkZJRgABAQEASABIAAD/\r\n2wBD", Base64),
            ("R0lGODlhAQABAIAAAAAAAP", Base64),
            ("UklGRiIAAABXRUJQVlA4", Base64),
            ("data:image/png;base64,iVBORw0KGgo", DataUrl),
            (
                "--XX\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\n",
                Form,
            ),
            ("hello", Unknown),
            ("a note.\nwith lines.png", Unknown),
            ("", Unknown),
        ] {
            assert_eq!(recognise(text.as_bytes()), foreign, "{text}");
        }
    }

    #[test]
    fn a_character_cut_at_the_end_of_the_examined_bytes_is_ignored() {
        let mut page = b"<html>".to_vec();
        page.resize(LOOKED_AT - 1, b'a');
        page.extend_from_slice("é and so on".as_bytes());
        assert_eq!(recognise(&page), Foreign::Html);
        page.splice(7..8, [0xff]);
        assert_eq!(recognise(&page), Foreign::Unknown);
    }

    #[test]
    fn every_message_says_what_to_send_instead() {
        for foreign in [
            Foreign::Heic,
            Foreign::Avif,
            Foreign::Svg,
            Foreign::Html,
            Foreign::Url,
            Foreign::Path,
            Foreign::Base64,
            Foreign::Unknown,
        ] {
            let message = foreign.to_string();
            assert!(message.ends_with('.'), "{message}");
            let orders = ["Convert", "convert", "end ", "Render"];
            assert!(
                orders.iter().any(|order| message.contains(order)),
                "{message}"
            );
        }
    }
}
