//! The image in a JSON body: base64 inside of a string.
//!
//! It is decoded where it lies, since the text and its bytes beside each other would take three times the
//! image's size, for whoever asks. So JSON's escapes are undone here as well: PHP writes `\/`, .NET
//! `\u002B`, and many tools break lines.

use std::ops::Range;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::images::format::foreign::{Foreign, recognise_place};
use crate::pages::Buffer;

/// Base64 with or without its padding: people's tools differ, and the bytes are checked anyway.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Digits that are decoded at once: a multiple of four.
const PIECE: usize = 4096;

/// Programs on Windows write it before JSON.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// The longest field `metadata` that is looked at, as JSON spells it.
const LONGEST_VALUE: usize = 256;
/// The longest text that may be a URL or a path.
const LONGEST_PLACE: usize = 2048;

/// Why there is no image.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotBase64 {
    /// The body is no such JSON.
    Shape,
    /// It names no image.
    Missing,
    /// The string isn't base64.
    Digits,
    /// It says where an image is: a URL or a path.
    Place(Foreign),
}

/// What a JSON body holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    /// The image.
    pub(super) image: Bytes,
    /// The string in the field `metadata`, if it is there.
    pub(super) metadata: Option<String>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    image: Option<&'a RawValue>,
    #[serde(borrow)]
    file: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    // What clients of other services send instead of the image.
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    #[serde(borrow)]
    image_url: Option<&'a RawValue>,
    #[serde(borrow, rename = "imageUrl")]
    camel_url: Option<&'a RawValue>,
    #[serde(borrow)]
    path: Option<&'a RawValue>,
}

/// The image in `{"image": "<base64>"}` or `{"file": "<base64>"}`; a `data:` URL is fine, and so is a byte order mark
/// before all.
pub(super) fn decode(mut body: Buffer) -> Result<Decoded, NotBase64> {
    let skipped = if body.starts_with(BYTE_ORDER_MARK) {
        BYTE_ORDER_MARK.len()
    } else {
        0
    };
    let (Range { start, end }, metadata) = find_strings(body.get(skipped..).unwrap_or_default())?;
    let (start, end) = (start + skipped, end + skipped);
    let written = decode_in_place(&mut body, start, end).ok_or(NotBase64::Digits)?;
    body.truncate(written);
    let image = body.freeze();
    Ok(Decoded { image, metadata })
}

/// Where the digits lie, as JSON spells them, and what is said about metadata.
fn find_strings(body: &[u8]) -> Result<(Range<usize>, Option<String>), NotBase64> {
    let fields: Fields<'_> = serde_json::from_slice(body).map_err(|_| NotBase64::Shape)?;
    let metadata = fields.metadata.map(|value| match value.get().len() {
        0..=LONGEST_VALUE => serde_json::from_str(value.get()).map_err(|_| NotBase64::Shape),
        _ => Err(NotBase64::Shape),
    });
    let metadata = metadata.transpose()?.flatten();
    // A field that is null is not there.
    let Some(value) = fields.image.or(fields.file) else {
        let url = fields.url.or(fields.image_url).or(fields.camel_url);
        return Err(match (url, fields.path) {
            (Some(_), _) => NotBase64::Place(Foreign::Url),
            (None, Some(_)) => NotBase64::Place(Foreign::Path),
            (None, None) => NotBase64::Missing,
        });
    };
    let text = value.get();
    // It borrows from the body, so this is its place there.
    let place = text.as_ptr().addr().checked_sub(body.as_ptr().addr());
    let place = place.ok_or(NotBase64::Shape)?;
    let digits = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .ok_or(NotBase64::Shape)?;
    let mut skipped = 1;
    let is_data = |start: &str| start.eq_ignore_ascii_case("data:");
    if digits.get(..5).is_some_and(is_data) {
        let (kind, _) = digits.split_once(";base64,").ok_or(NotBase64::Shape)?;
        skipped += kind.len() + ";base64,".len();
    } else if let Some(foreign) = pointed_to(digits) {
        return Err(NotBase64::Place(foreign));
    }
    Ok((place + skipped..place + text.len() - 1, metadata))
}

/// A URL or path that stands where the digits belong. Of all images only a JPEG's digits begin with a slash.
fn pointed_to(digits: &str) -> Option<Foreign> {
    if digits.len() > LONGEST_PLACE {
        return None;
    }
    let text = digits.replace("\\/", "/").replace("\\\\", "\\");
    let is_absolute = text.starts_with('/') && !text.starts_with("/9j/");
    let named = recognise_place(&text);
    named.or_else(|| is_absolute.then_some(Foreign::Path))
}

/// Writes what the digits from `start` to `end` say to the front of the body. What is written is always
/// behind what is read. `None`: they are no base64.
fn decode_in_place(body: &mut [u8], start: usize, end: usize) -> Option<usize> {
    let mut digits = [0; PIECE];
    let mut decoded = [0; PIECE];
    let (mut read, mut written, mut is_padded) = (start, 0, false);
    loop {
        let mut count = 0;
        let plain = body.get(read..end.min(read + PIECE))?;
        if !plain
            .iter()
            .any(|byte| *byte == b'\\' || byte.is_ascii_whitespace())
        {
            digits.get_mut(..plain.len())?.copy_from_slice(plain);
            (read, count) = (read + plain.len(), plain.len());
        }
        while read < end && count < PIECE {
            let (digit, length) = next_digit(body.get(read..end)?)?;
            read += length;
            if let Some(digit) = digit {
                *digits.get_mut(count)? = digit;
                count += 1;
            }
        }
        let piece = digits.get(..count)?;
        // Behind the padding there is nothing more; each piece alone wouldn't know.
        if count == 0 {
            return Some(written);
        }
        if is_padded {
            return None;
        }
        is_padded = piece.contains(&b'=');
        let length = BASE64.decode_slice(piece, &mut decoded).ok()?;
        let place = body.get_mut(written..written + length)?;
        place.copy_from_slice(decoded.get(..length)?);
        written += length;
    }
}

/// The next character of a JSON string, and how many bytes it takes; no character where it is a space.
fn next_digit(text: &[u8]) -> Option<(Option<u8>, usize)> {
    let (character, length) = match text {
        [b'\\', b'u', hex @ ..] => {
            let hex = std::str::from_utf8(hex.get(..4)?).ok()?;
            let code = u8::try_from(u16::from_str_radix(hex, 16).ok()?).ok()?;
            (code, 6)
        }
        [b'\\', b'n' | b'r' | b't' | b'f', ..] => (b' ', 2),
        [b'\\', b'/', ..] => (b'/', 2),
        // Nothing else that JSON escapes is base64.
        [b'\\', ..] => return None,
        [plain, ..] => (*plain, 1),
        [] => return None,
    };
    Some((
        (!character.is_ascii_whitespace()).then_some(character),
        length,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(body: &str) -> Buffer {
        let mut buffer = Buffer::with_length(body.len()).unwrap();
        buffer.extend(body.as_bytes(), body.len()).unwrap();
        buffer
    }

    fn decoded(body: &str) -> Result<Vec<u8>, NotBase64> {
        decode(buffer(body)).map(|found| found.image.to_vec())
    }

    #[test]
    fn what_people_send_is_decoded() {
        for body in [
            r#"{"image": "++//Pw=="}"#,
            r#"{"file": "++//Pw=="}"#,
            r#"{"image": "++//Pw"}"#,
            r#"{"image": "data:image/png;base64,++//Pw=="}"#,
            r#"{"image": "data:image\/png;base64,++\/\/Pw=="}"#,
            r#"{"image": "\u002b\u002B//Pw\u003d="}"#,
            r#"{"image": "++/\n/Pw==\r\n"}"#,
            r#"{"image": " ++//\t Pw= = "}"#,
            r#"{"image": null, "file": "++//Pw=="}"#,
            r#" {"name": {"a": ["b"]}, "image": "++//Pw==", "file": "AAAA"} "#,
            "\u{feff}{\"image\": \"++//Pw==\"}",
            r#"{"image": "DATA:image/png;base64,++//Pw=="}"#,
            r#"{"url": "https://example.com/a.png", "image": "++//Pw=="}"#,
        ] {
            assert_eq!(decoded(body).unwrap(), b"\xfb\xef\xff\x3f", "{body}");
        }
        assert_eq!(decoded(r#"{"image": ""}"#).unwrap(), b"");
    }

    #[test]
    fn what_is_said_of_metadata_comes_along() {
        let said = |body: &str| decode(buffer(body)).unwrap().metadata;
        assert_eq!(said(r#"{"image": "AAAA"}"#), None);
        assert_eq!(said(r#"{"image": "AAAA", "metadata": null}"#), None);
        let keep = said(r#"{"metadata": "\u006beep", "image": "AAAA"}"#);
        assert_eq!(keep.as_deref(), Some("keep"));
    }

    #[test]
    fn what_is_none_is_told_apart() {
        use NotBase64::{Digits, Missing, Place, Shape};
        for (body, error) in [
            ("", Shape),
            ("[]", Shape),
            (r#"{"image": "AAAA""#, Shape),
            (r#"{"image": "AAAA"} x"#, Shape),
            (r#"{"image": 5}"#, Shape),
            (r#"{"image": ["AAAA"]}"#, Shape),
            (r#"{"image": "data:image/png,AAAA"}"#, Shape),
            (r#"{"image": "AA", "image": "AA"}"#, Shape),
            ("{}", Missing),
            (r#"{"image": null}"#, Missing),
            (r#"{"other": "AAAA"}"#, Missing),
            (r#"{"url": "https://example.com/a"}"#, Place(Foreign::Url)),
            (r#"{"image_url": {"url": "x"}}"#, Place(Foreign::Url)),
            (r#"{"path": "/tmp/a"}"#, Place(Foreign::Path)),
            (
                r#"{"image": "https:\/\/example.com\/a"}"#,
                Place(Foreign::Url),
            ),
            (r#"{"file": "photo.png"}"#, Place(Foreign::Path)),
            (r#"{"file": "/home/me/photo"}"#, Place(Foreign::Path)),
            (r#"{"file": "C:\\me\\photo.bmp"}"#, Place(Foreign::Path)),
            (r#"{"image": "AAAA", "metadata": 5}"#, Shape),
            (r#"{"image": "A"}"#, Digits),
            (r#"{"image": "AA-_"}"#, Digits),
            (r#"{"image": "AA\\A"}"#, Digits),
            (r#"{"image": "AA\"A"}"#, Digits),
            (r#"{"image": "AA\b\b"}"#, Digits),
            (r#"{"image": "AA\u0141A"}"#, Digits),
            (r#"{"image": "AAé"}"#, Digits),
            (r#"{"image": "AA=="AA=="}"#, Shape),
            (r#"{"image": "AA==AA=="}"#, Digits),
        ] {
            assert_eq!(decoded(body), Err(error), "{body}");
        }
    }

    #[test]
    fn long_texts_come_in_pieces_that_nobody_sees() {
        let bytes: Vec<u8> = (0..=255).cycle().take(3 * PIECE + 1).collect();
        let text = BASE64.encode(&bytes);
        let broken = text
            .as_bytes()
            .chunks(76)
            .map(|line| String::from_utf8(line.to_vec()).unwrap())
            .collect::<Vec<_>>()
            .join("\\r\\n");
        for text in [&text, &text.replace('/', "\\/"), &broken] {
            let body = format!(r#"{{"image": "{text}"}}"#);
            assert_eq!(decoded(&body).unwrap(), bytes);
        }
        // Padding at the end of a piece, and more behind it.
        let piece = BASE64.encode(&bytes[..PIECE / 4 * 3 - 1]);
        assert!(piece.len() == PIECE && piece.ends_with('='));
        let body = format!(r#"{{"image": "{piece}AAAA"}}"#);
        assert_eq!(decoded(&body), Err(NotBase64::Digits));
    }
}
