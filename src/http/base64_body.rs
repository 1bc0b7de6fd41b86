//! Reads an image from a JSON body: base64 inside a string.
//!
//! The base64 is decoded in place. The text and the decoded bytes beside each other would take two
//! to three times the image's size. So this module also undoes JSON's escapes: PHP writes `\/`,
//! .NET writes `\u002B`, and many tools insert line breaks.

use std::ops::Range;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::images::format::foreign::{Foreign, recognise_place};
use crate::system::pages::Buffer;

/// The standard alphabet, with or without padding. Tools differ in the padding, and the image is
/// checked after decoding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// How many base64 digits are decoded at once. A multiple of four, so that no piece ends inside a
/// group.
const PIECE: usize = 4096;

/// The UTF-8 byte order mark, which programs on Windows write before JSON.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// The longest accepted value of the fields beside the image, in bytes of JSON text.
const LONGEST_VALUE: usize = 256;
/// The longest string that is examined as a URL or a path, in bytes of JSON text.
const LONGEST_REFERENCE: usize = 2048;

/// Why a JSON body yields no image.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum JsonImageError {
    /// The body is not a JSON object of the expected form.
    WrongShape,
    /// No field holds an image or a reference to one.
    Missing,
    /// The string is not base64 of the standard alphabet.
    NotBase64,
    /// The body holds a URL or a path instead of the image.
    Reference(Foreign),
}

/// The contents of a JSON body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    /// The decoded image.
    pub(super) image: Bytes,
    /// The string in the field `metadata`, if the body has one.
    pub(super) metadata: Option<String>,
    /// The string in the field `visibility`, if the body has one.
    pub(super) visibility: Option<String>,
    /// The string in the field `viewer`, if the body has one.
    pub(super) viewer: Option<String>,
}

/// The fields of the body that are read. Other fields are ignored.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    image: Option<&'a RawValue>,
    #[serde(borrow)]
    file: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    visibility: Option<&'a RawValue>,
    #[serde(borrow)]
    viewer: Option<&'a RawValue>,
    // Fields that clients of other services send instead of the image.
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    #[serde(borrow)]
    image_url: Option<&'a RawValue>,
    #[serde(borrow, rename = "imageUrl")]
    camel_url: Option<&'a RawValue>,
    #[serde(borrow)]
    path: Option<&'a RawValue>,
}

/// Decodes the image in `{"image": "<base64>"}` or `{"file": "<base64>"}`. The string may be a
/// `data:` URL, and the body may start with a byte order mark.
pub(super) fn decode(mut body: Buffer) -> Result<Decoded, JsonImageError> {
    let skipped = if body.starts_with(BYTE_ORDER_MARK) {
        BYTE_ORDER_MARK.len()
    } else {
        0
    };
    let Found {
        digits: Range { start, end },
        metadata,
        visibility,
        viewer,
    } = find_strings(body.get(skipped..).unwrap_or_default())?;
    let (start, end) = (start + skipped, end + skipped);
    let written = decode_in_place(&mut body, start, end).ok_or(JsonImageError::NotBase64)?;
    body.truncate(written);
    let image = body.freeze();
    Ok(Decoded {
        image,
        metadata,
        visibility,
        viewer,
    })
}

/// The strings of a body.
struct Found {
    /// The range of the base64 digits in the body, still with JSON's escapes.
    digits: Range<usize>,
    metadata: Option<String>,
    visibility: Option<String>,
    viewer: Option<String>,
}

/// The string in a field beside the image. A field that is null counts as absent.
fn short(field: Option<&RawValue>) -> Result<Option<String>, JsonImageError> {
    let value = field.map(|value| match value.get().len() {
        0..=LONGEST_VALUE => {
            serde_json::from_str(value.get()).map_err(|_| JsonImageError::WrongShape)
        }
        _ => Err(JsonImageError::WrongShape),
    });
    Ok(value.transpose()?.flatten())
}

/// Finds the strings in `body`.
fn find_strings(body: &[u8]) -> Result<Found, JsonImageError> {
    let fields: Fields<'_> =
        serde_json::from_slice(body).map_err(|_| JsonImageError::WrongShape)?;
    let metadata = short(fields.metadata)?;
    let (visibility, viewer) = (short(fields.visibility)?, short(fields.viewer)?);
    // A field that is null counts as absent.
    let Some(value) = fields.image.or(fields.file) else {
        let url = fields.url.or(fields.image_url).or(fields.camel_url);
        return Err(match (url, fields.path) {
            (Some(_), _) => JsonImageError::Reference(Foreign::Url),
            (None, Some(_)) => JsonImageError::Reference(Foreign::Path),
            (None, None) => JsonImageError::Missing,
        });
    };
    let text = value.get();
    // `text` borrows from `body`, so the difference of their addresses is its offset.
    let place = text.as_ptr().addr().checked_sub(body.as_ptr().addr());
    let place = place.ok_or(JsonImageError::WrongShape)?;
    let digits = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .ok_or(JsonImageError::WrongShape)?;
    let mut skipped = 1;
    let is_data = |start: &str| start.eq_ignore_ascii_case("data:");
    if digits.get(..5).is_some_and(is_data) {
        let (kind, _) = digits
            .split_once(";base64,")
            .ok_or(JsonImageError::WrongShape)?;
        skipped += kind.len() + ";base64,".len();
    } else if let Some(foreign) = recognise_reference(digits) {
        return Err(JsonImageError::Reference(foreign));
    }
    Ok(Found {
        digits: place + skipped..place + text.len() - 1,
        metadata,
        visibility,
        viewer,
    })
}

/// Recognises a URL or path in place of the base64 digits. A text that starts with a slash is an
/// absolute path, unless it starts like a JPEG in base64 (`/9j/`). No other image format in base64
/// starts with a slash.
fn recognise_reference(digits: &str) -> Option<Foreign> {
    if digits.len() > LONGEST_REFERENCE {
        return None;
    }
    let text = digits.replace("\\/", "/").replace("\\\\", "\\");
    let is_absolute = text.starts_with('/') && !text.starts_with("/9j/");
    let named = recognise_place(&text);
    named.or_else(|| is_absolute.then_some(Foreign::Path))
}

/// Decodes the digits from `start` to `end` to the front of `body`, and returns the decoded length.
/// Writing never overtakes reading, because the decoded bytes are fewer than the digits. `None`:
/// the text is not base64.
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
        // Nothing may follow the padding. The decoder sees one piece at a time, so it can't check
        // this.
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

/// Returns the next character of a JSON string, and the number of bytes that it takes there. White
/// space is returned as no character. `None`: the character can't occur in base64.
fn next_digit(text: &[u8]) -> Option<(Option<u8>, usize)> {
    let (character, length) = match text {
        [b'\\', b'u', hex @ ..] => {
            let hex = std::str::from_utf8(hex.get(..4)?).ok()?;
            let code = u8::try_from(u16::from_str_radix(hex, 16).ok()?).ok()?;
            (code, 6)
        }
        [b'\\', b'n' | b'r' | b't' | b'f', ..] => (b' ', 2),
        [b'\\', b'/', ..] => (b'/', 2),
        // No other escaped character is a base64 digit.
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

    fn decoded(body: &str) -> Result<Vec<u8>, JsonImageError> {
        decode(buffer(body)).map(|found| found.image.to_vec())
    }

    #[test]
    fn base64_is_decoded_in_each_form_that_clients_send() {
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
    fn the_metadata_field_is_returned_with_the_image() {
        let metadata = |body: &str| decode(buffer(body)).unwrap().metadata;
        assert_eq!(metadata(r#"{"image": "AAAA"}"#), None);
        assert_eq!(metadata(r#"{"image": "AAAA", "metadata": null}"#), None);
        let keep = metadata(r#"{"metadata": "\u006beep", "image": "AAAA"}"#);
        assert_eq!(keep.as_deref(), Some("keep"));
    }

    #[test]
    fn the_fields_about_who_may_see_the_image_are_returned_with_it() {
        let body = r#"{"image": "AAAA", "visibility": "private", "viewer": "0x1"}"#;
        let found = decode(buffer(body)).unwrap();
        assert_eq!(found.visibility.as_deref(), Some("private"));
        assert_eq!(found.viewer.as_deref(), Some("0x1"));
        let found = decode(buffer(r#"{"image": "AAAA", "viewer": null}"#)).unwrap();
        assert_eq!((found.visibility, found.viewer), (None, None));
    }

    #[test]
    fn each_malformed_body_has_its_own_error() {
        use JsonImageError::{Missing, NotBase64, Reference, WrongShape};
        for (body, error) in [
            ("", WrongShape),
            ("[]", WrongShape),
            (r#"{"image": "AAAA""#, WrongShape),
            (r#"{"image": "AAAA"} x"#, WrongShape),
            (r#"{"image": 5}"#, WrongShape),
            (r#"{"image": ["AAAA"]}"#, WrongShape),
            (r#"{"image": "data:image/png,AAAA"}"#, WrongShape),
            (r#"{"image": "AA", "image": "AA"}"#, WrongShape),
            ("{}", Missing),
            (r#"{"image": null}"#, Missing),
            (r#"{"other": "AAAA"}"#, Missing),
            (
                r#"{"url": "https://example.com/a"}"#,
                Reference(Foreign::Url),
            ),
            (r#"{"image_url": {"url": "x"}}"#, Reference(Foreign::Url)),
            (r#"{"path": "/tmp/a"}"#, Reference(Foreign::Path)),
            (
                r#"{"image": "https:\/\/example.com\/a"}"#,
                Reference(Foreign::Url),
            ),
            (r#"{"file": "photo.png"}"#, Reference(Foreign::Path)),
            (r#"{"file": "/home/me/photo"}"#, Reference(Foreign::Path)),
            (r#"{"file": "C:\\me\\photo.bmp"}"#, Reference(Foreign::Path)),
            (r#"{"image": "AAAA", "metadata": 5}"#, WrongShape),
            (r#"{"image": "AAAA", "visibility": true}"#, WrongShape),
            (r#"{"image": "AAAA", "viewer": ["0x1"]}"#, WrongShape),
            (r#"{"image": "A"}"#, NotBase64),
            (r#"{"image": "AA-_"}"#, NotBase64),
            (r#"{"image": "AA\\A"}"#, NotBase64),
            (r#"{"image": "AA\"A"}"#, NotBase64),
            (r#"{"image": "AA\b\b"}"#, NotBase64),
            (r#"{"image": "AA\u0141A"}"#, NotBase64),
            (r#"{"image": "AAé"}"#, NotBase64),
            (r#"{"image": "AA=="AA=="}"#, WrongShape),
            (r#"{"image": "AA==AA=="}"#, NotBase64),
        ] {
            assert_eq!(decoded(body), Err(error), "{body}");
        }
    }

    #[test]
    fn texts_longer_than_one_piece_are_decoded() {
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
        // Padding at the end of one piece, followed by more digits.
        let piece = BASE64.encode(&bytes[..PIECE / 4 * 3 - 1]);
        assert!(piece.len() == PIECE && piece.ends_with('='));
        let body = format!(r#"{{"image": "{piece}AAAA"}}"#);
        assert_eq!(decoded(&body), Err(JsonImageError::NotBase64));
    }
}
