//! Names what metadata contain, in the words of the API (see docs/images.md), from a quick look at
//! them.

use crate::model::metadata::{Kind, Kinds};

/// Names of XMP properties behind their prefix.
const PROPERTIES: [(&[u8], Kind); 26] = [
    (b"GPS", Kind::Location),
    (b"City", Kind::Location),
    (b"Country", Kind::Location),
    (b"Location", Kind::Location),
    (b"State", Kind::Location),
    (b"Make", Kind::Camera),
    (b"Model", Kind::Camera),
    (b"Lens", Kind::Camera),
    (b"SerialNumber", Kind::Camera),
    (b"ExposureTime", Kind::Camera),
    (b"creator", Kind::Author),
    (b"rights", Kind::Author),
    (b"Artist", Kind::Author),
    (b"OwnerName", Kind::Author),
    (b"Credit", Kind::Author),
    (b"CreateDate", Kind::Date),
    (b"ModifyDate", Kind::Date),
    (b"MetadataDate", Kind::Date),
    (b"DateTimeOriginal", Kind::Date),
    (b"DateCreated", Kind::Date),
    (b"CreatorTool", Kind::Software),
    (b"description", Kind::Comment),
    (b"title", Kind::Comment),
    (b"subject", Kind::Comment),
    (b"Headline", Kind::Comment),
    (b"Thumbnails", Kind::Thumbnail),
];

/// The kinds of metadata in an XMP packet.
pub(super) fn of_xmp(packet: &[u8]) -> Kinds {
    let names = packet.split(|byte| *byte == b':').skip(1);
    let found = names.filter_map(|name| {
        let property = PROPERTIES.iter().find(|(start, _)| name.starts_with(start));
        property.map(|(_, kind)| *kind)
    });
    or_other(found.collect())
}

/// The kinds of metadata in Photoshop resources (`8BIM`), which include the records of IPTC.
pub(super) fn of_photoshop(mut rest: &[u8]) -> Kinds {
    const IPTC: [u8; 2] = [0x04, 0x04];
    const THUMBNAILS: [[u8; 2]; 2] = [[0x04, 0x09], [0x04, 0x0c]];
    let mut kinds = Kinds::default();
    while let Some((id, data, next)) = resource(rest) {
        if id == IPTC {
            kinds.join(of_iptc(data));
        } else if THUMBNAILS.contains(&id) {
            kinds.add(Kind::Thumbnail);
        }
        rest = next;
    }
    or_other(kinds)
}

type Resource<'a> = ([u8; 2], &'a [u8], &'a [u8]);

/// The id and the data of the first resource, and the bytes that follow it.
fn resource(bytes: &[u8]) -> Option<Resource<'_>> {
    let (id, rest) = bytes.strip_prefix(b"8BIM")?.split_first_chunk::<2>()?;
    // The name with its length byte, padded to an even length.
    let name_len = usize::from(*rest.first()?) + 1;
    let rest = rest.get(name_len.next_multiple_of(2)..)?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    let data = rest.get(..len)?;
    let next = rest.get(len.next_multiple_of(2)..).unwrap_or_default();
    Some((*id, data, next))
}

/// The kinds of metadata in IPTC records (IIM 4.2, application record).
fn of_iptc(mut rest: &[u8]) -> Kinds {
    let mut kinds = Kinds::default();
    while let [0x1c, record, dataset, high, low, data @ ..] = rest {
        let kind = match (record, dataset) {
            (2, 26 | 27 | 90 | 92 | 95 | 100 | 101) => Some(Kind::Location),
            (2, 80 | 85 | 110 | 115 | 116 | 122) => Some(Kind::Author),
            (2, 55 | 60 | 62 | 63) => Some(Kind::Date),
            (2, 65 | 70) => Some(Kind::Software),
            (2, 5 | 15 | 20 | 25 | 40 | 105 | 120) => Some(Kind::Comment),
            _ => None,
        };
        if let Some(kind) = kind {
            kinds.add(kind);
        }
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        rest = data.get(len..).unwrap_or_default();
    }
    kinds
}

/// The kind of a PNG text, by its keyword.
pub(super) fn of_keyword(keyword: &[u8], text: &[u8]) -> Kinds {
    let kind = match keyword {
        b"Author" | b"Artist" | b"Copyright" => Kind::Author,
        b"Title" | b"Description" | b"Comment" | b"comment" | b"Disclaimer" | b"Warning" => {
            Kind::Comment
        }
        b"Creation Time" | b"date:create" | b"date:modify" | b"date:timestamp" => Kind::Date,
        b"Software" => Kind::Software,
        b"Source" => Kind::Camera,
        b"XML:com.adobe.xmp" => return of_xmp(text),
        _ => Kind::Other,
    };
    Kinds::from_iter([kind])
}

fn or_other(mut kinds: Kinds) -> Kinds {
    if kinds.is_empty() {
        kinds.add(Kind::Other);
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xmp_properties_are_recognised_by_their_names() {
        let kinds = |text: &str| of_xmp(text.as_bytes()).words();
        assert_eq!(
            kinds("<x exif:GPSLatitude='1' tiff:Make='Acme'/><dc:creator>"),
            ["location", "camera", "author"]
        );
        assert_eq!(kinds("<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"), ["other"]);
    }

    #[test]
    fn photoshop_resources_are_read_to_their_end() {
        let iptc = b"\x1c\x02\x5a\0\x05Paris\x1c\x02\x50\0\x02Me\x1c\x02\x00";
        let len = u32::try_from(iptc.len()).unwrap().to_be_bytes();
        let pad: &[u8] = if iptc.len().is_multiple_of(2) {
            b""
        } else {
            b"\0"
        };
        let bytes = [
            &b"8BIM\x04\x04\x03abc"[..],
            &len,
            iptc,
            pad,
            b"8BIM\x04\x0c\0\0\0\0\0\x04jpeg",
        ]
        .concat();
        assert_eq!(
            of_photoshop(&bytes).words(),
            ["location", "author", "thumbnail"]
        );
        for end in 0..bytes.len() {
            of_photoshop(&bytes[..end]);
        }
        assert_eq!(of_photoshop(b"").words(), ["other"]);
    }
}
