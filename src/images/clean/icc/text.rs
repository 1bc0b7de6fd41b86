//! The two texts that a profile must have: its description and its copyright.

/// The names of common profiles. Tools show them, and recognise profiles by them.
pub(super) const KNOWN_NAMES: [&str; 34] = [
    "sRGB IEC61966-2.1",
    "sRGB IEC61966-2-1",
    "sRGB built-in",
    "sRGB",
    "sRGB2014",
    "sRGB v4 ICC preference perceptual intent beta",
    "c2",
    "c2ci",
    "GIMP built-in sRGB",
    "Display P3",
    "DCI-P3",
    "Adobe RGB (1998)",
    "Compatible with Adobe RGB (1998)",
    "ProPhoto RGB",
    "Wide Gamut RGB",
    "Apple RGB",
    "ColorMatch RGB",
    "Generic RGB Profile",
    "Generic Gray Profile",
    "Generic Gray Gamma 2.2 Profile",
    "Generic CMYK Profile",
    "Dot Gain 20%",
    "Gray Gamma 2.2",
    "Rec. ITU-R BT.709-5",
    "Rec. ITU-R BT.2020-1",
    "ITU-R BT.2020",
    "U.S. Web Coated (SWOP) v2",
    "Coated FOGRA39 (ISO 12647-2:2004)",
    "Japan Color 2001 Coated",
    // Written by libultrahdr.
    "sRGB Gamut with sRGB Transfer",
    "sRGB Gamut with Linear Transfer",
    "Display P3 Gamut with sRGB Transfer",
    "Display P3 Gamut with Linear Transfer",
    "Rec2020 Gamut with sRGB Transfer",
];
/// Replaces any other name of a profile.
const OTHER_NAME: &str = "Colour profile";
/// Replaces descriptions that are shorter than [`OTHER_NAME`].
const SHORT_NAME: &str = "ICC";
/// Replaces a copyright notice.
const NO_COPYRIGHT: &str = "-";

/// The bytes behind the ASCII part of a v2 description: no Unicode and no Macintosh text.
const REST_OF_DESCRIPTION: usize = 4 + 4 + 2 + 1 + 67;

/// The replacement of a description, of at most the same length. Returns `None` if the tag has to
/// be removed.
pub(super) fn description(tag: &[u8]) -> Option<Vec<u8>> {
    let name = read(tag).and_then(|text| KNOWN_NAMES.into_iter().find(|name| *name == text));
    [name, Some(OTHER_NAME), Some(SHORT_NAME)]
        .into_iter()
        .flatten()
        .filter_map(|name| write(tag, name))
        .find(|text| text.len() <= tag.len())
}

/// The replacement of a copyright notice, of at most the same length. Returns `None` if the tag has
/// to be removed.
pub(super) fn copyright(tag: &[u8]) -> Option<Vec<u8>> {
    write(tag, NO_COPYRIGHT).filter(|text| text.len() <= tag.len())
}

/// The text of a tag; the first text of a multilingual tag.
fn read(tag: &[u8]) -> Option<String> {
    let body = tag.get(8..)?;
    let text = match tag.first_chunk()? {
        b"text" => String::from_utf8(body.to_vec()).ok()?,
        b"desc" => {
            let len = usize::try_from(super::u32_at(body, 0)?).ok()?;
            String::from_utf8(body.get(4..)?.get(..len)?.to_vec()).ok()?
        }
        b"mluc" => {
            let len = usize::try_from(super::u32_at(tag, 20)?).ok()?;
            let start = usize::try_from(super::u32_at(tag, 24)?).ok()?;
            let units = tag.get(start..)?.get(..len)?.chunks_exact(2);
            let units: Vec<u16> = units
                .filter_map(|unit| Some(u16::from_be_bytes(*unit.first_chunk()?)))
                .collect();
            String::from_utf16(&units).ok()?
        }
        _ => return None,
    };
    Some(text.trim_end_matches('\0').to_owned())
}

/// Writes a tag of the same type with `text`. Returns `None` if the type is not a type of text.
fn write(tag: &[u8], text: &str) -> Option<Vec<u8>> {
    let kind: &[u8; 4] = tag.first_chunk()?;
    let mut out = [*kind, [0; 4]].concat();
    match kind {
        b"text" => {
            out.extend_from_slice(text.as_bytes());
            out.push(0);
        }
        b"desc" => {
            let len = u32::try_from(text.len()).ok()?.saturating_add(1);
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
            out.resize(out.len() + 1 + REST_OF_DESCRIPTION, 0);
        }
        b"mluc" => {
            // One record of 12 bytes, for US English; the text follows these 28 bytes.
            let len = u32::try_from(text.len()).ok()?.saturating_mul(2);
            out.extend_from_slice(&1_u32.to_be_bytes());
            out.extend_from_slice(&12_u32.to_be_bytes());
            out.extend_from_slice(b"enUS");
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(&28_u32.to_be_bytes());
            out.extend(text.encode_utf16().flat_map(u16::to_be_bytes));
        }
        _ => return None,
    }
    Some(out)
}
