//! Finds the image in a multipart form, whichever field it is in.

use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use bytes::Bytes;

use super::payloads::{Payloads, Pieces};
use super::upload_limit::{Limit, Said, bad, length, metadata_named};
use crate::images::Refusal;
use crate::images::format::FormatError;

/// The most parts that a form may have.
const MAX_PARTS: usize = 64;
/// The longest accepted boundary, in bytes. RFC 2046 allows 70 characters.
const LONGEST_BOUNDARY: usize = 256;
/// How many bytes of a field that is not a file are read.
const LONGEST_VALUE: usize = 64;

/// The boundary in a `Content-Type` of `multipart/form-data`. `None`: it is missing, empty or too
/// long. Java's mail library writes a boundary that contains `=` without quotes. RFC 2045 forbids
/// this, but servers accept it.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let parameters = content_type.split_once(';')?.1;
    let (_, value) = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_boundary = name.trim().eq_ignore_ascii_case("boundary");
        is_boundary.then_some((name, value))
    })?;
    let value = value.trim();
    let value = match value.strip_prefix('"') {
        // A quoted boundary may contain semicolons, so it is read again from the whole header.
        Some(_) => {
            let start = content_type.find(value)? + 1;
            content_type.get(start..)?.split_once('"')?.0
        }
        None => value,
    };
    ((1..=LONGEST_BOUNDARY).contains(&value.len())).then(|| value.to_owned())
}

/// The contents of a form.
#[derive(Debug)]
pub(super) struct Form {
    /// The image.
    pub(super) image: Bytes,
    /// What its other fields say of the upload.
    pub(super) said: Said,
}

/// Finds the image of a form in memory: the field `image`, else `file`, else the only other part
/// that is a file. Browsers send an empty part for a file input without a file. An empty part is
/// ignored if another part has bytes.
pub(super) async fn read(body: Bytes, boundary: &str, limit: Limit<'_>) -> Result<Form, Refusal> {
    let mut form = multer::Multipart::new(Pieces::of(body.clone()), boundary);
    let mut payloads = Payloads::of(body, boundary);
    let malformed = || {
        bad(
            "The multipart body is incomplete or malformed. Let your HTTP client write the form, and send it again.",
        )
    };
    let mut found = Found::default();
    for _ in 0..=MAX_PARTS {
        let Some(field) = form.next_field().await.map_err(|_| malformed())? else {
            let said = std::mem::take(&mut found.said);
            let image = found.choose()?;
            return Ok(Form { image, said });
        };
        let slot = Slot::of(&field);
        let bytes = payloads.next(field).await.ok_or_else(malformed)?;
        let Some(slot) = slot else { continue };
        if length(&bytes) > limit.max_bytes {
            return Err(limit.refuse(length(&bytes), false));
        }
        found.put(slot, bytes)?;
    }
    Err(bad(&format!(
        "The form has more than {MAX_PARTS} parts, which is the limit. Send the image alone."
    )))
}

/// The role of a part of a form.
#[derive(Clone, Copy)]
enum Slot {
    /// The field `image`.
    Image,
    /// The field `file`.
    File,
    /// Another field that is a file.
    Other,
    /// The field `metadata`.
    Metadata,
    /// The field `visibility`.
    Visibility,
    /// The field `viewer`.
    Viewer,
}

impl Slot {
    /// The role of a part. `None`: the part is ignored.
    fn of(field: &multer::Field<'_>) -> Option<Self> {
        let headers = field.headers();
        let value = |name: &str| match headers.get(name) {
            Some(value) => value.as_bytes().to_ascii_lowercase(),
            None => Vec::new(),
        };
        // Clients write `filename*` alone for a name that isn't ASCII.
        let disposition = value(CONTENT_DISPOSITION.as_str());
        let names_a_file = [b"filename=".as_slice(), b"filename*=", b"filename ="]
            .iter()
            .any(|mark| disposition.windows(mark.len()).any(|part| part == *mark));
        let is_image = value(CONTENT_TYPE.as_str()).starts_with(b"image/");
        match field.name() {
            Some("image") => Some(Self::Image),
            Some("file") => Some(Self::File),
            Some("metadata") if !names_a_file => Some(Self::Metadata),
            Some("visibility") if !names_a_file => Some(Self::Visibility),
            Some("viewer") if !names_a_file => Some(Self::Viewer),
            _ => (names_a_file || is_image).then_some(Self::Other),
        }
    }
}

/// The parts of a form that may hold the image, and its other fields.
#[derive(Default)]
struct Found {
    image: Option<Bytes>,
    file: Option<Bytes>,
    other: Option<Bytes>,
    /// Whether a part that may hold the image was empty.
    is_empty: bool,
    said: Said,
}

impl Found {
    /// Stores the part, and refuses a second one with the same role.
    fn put(&mut self, slot: Slot, bytes: Bytes) -> Result<(), Refusal> {
        let place = match slot {
            Slot::Image => &mut self.image,
            Slot::File => &mut self.file,
            Slot::Other => &mut self.other,
            Slot::Metadata => {
                let named = metadata_named(&value_of(&bytes))?;
                return once("metadata", &mut self.said.metadata, named);
            }
            Slot::Visibility => {
                return once("visibility", &mut self.said.visibility, value_of(&bytes));
            }
            Slot::Viewer => return once("viewer", &mut self.said.viewer, value_of(&bytes)),
        };
        if bytes.is_empty() {
            self.is_empty = true;
        } else if place.replace(bytes).is_some() {
            return Err(bad(
                "The form has two files, and a request may hold only one. Send one image, in the field image, file or any other.",
            ));
        }
        Ok(())
    }

    /// The image, by the order of preference of [`read`].
    fn choose(self) -> Result<Bytes, Refusal> {
        let full = self.image.or(self.file).or(self.other);
        full.ok_or(if self.is_empty {
            FormatError::Empty.into()
        } else {
            Refusal::NoFile
        })
    }
}

/// The value of a field that is not a file.
fn value_of(bytes: &[u8]) -> String {
    let value = bytes.get(..LONGEST_VALUE).unwrap_or(bytes);
    String::from_utf8_lossy(value).trim().to_owned()
}

/// Stores the value of a field, and refuses a second value that differs.
fn once<T: PartialEq>(name: &str, place: &mut Option<T>, value: T) -> Result<(), Refusal> {
    match place {
        Some(first) if *first != value => Err(bad(&format!(
            "The form has the field {name} twice, with two values. Send one value."
        ))),
        _ => {
            *place = Some(value);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_are_parsed_as_clients_write_them() {
        for (kind, expected) in [
            ("multipart/form-data; boundary=XX", Some("XX")),
            ("multipart/form-data;boundary=\"X X\"", Some("X X")),
            (
                "multipart/form-data; charset=utf-8; Boundary=XX",
                Some("XX"),
            ),
            (
                "multipart/form-data; boundary=XX; charset=utf-8",
                Some("XX"),
            ),
            (
                "multipart/form-data; boundary=----=_Part_1_2.3",
                Some("----=_Part_1_2.3"),
            ),
            ("multipart/form-data; boundary=\"a;b\"", Some("a;b")),
            ("multipart/form-data; boundary=a/b:c", Some("a/b:c")),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; boundary=\"", None),
        ] {
            assert_eq!(boundary(kind).as_deref(), expected, "{kind}");
        }
    }
}
