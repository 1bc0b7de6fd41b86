//! Apple's parameters of a gain map: two numbers in the maker note of the photograph's Exif.
//! Viewers compute from them how much brighter its highlights are ("headroom").

use super::tiff::{Directory, Order};

const SIGNATURE: &[u8; 14] = b"Apple iOS\0\0\x01MM";
const EXIF_DIRECTORY: u16 = 0x8769;
const MAKER_NOTE: u16 = 0x927c;
/// Tags of the maker note.
const HEADROOM: u16 = 33;
const GAIN: u16 = 48;

/// The signed fractions of the entries 33 and 48 of the maker note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::images::clean) struct Headroom {
    headroom: [u32; 2],
    gain: [u32; 2],
}

impl Headroom {
    /// Finds both numbers in the TIFF bytes of Exif. Returns `None` if one is missing or divides by
    /// zero.
    pub(super) fn find_in_exif(tiff: &[u8]) -> Option<Self> {
        let first = Directory::first(tiff)?;
        let note = first
            .sub(EXIF_DIRECTORY)
            .and_then(|exif| exif.undefined(MAKER_NOTE))
            .or_else(|| first.undefined(MAKER_NOTE))?;
        if !note.starts_with(SIGNATURE) {
            return None;
        }
        let note = Directory::at(note, Order::HighFirst, SIGNATURE.len())?;
        let (headroom, gain) = (note.fraction(HEADROOM)?, note.fraction(GAIN)?);
        let valid = [headroom, gain]
            .iter()
            .all(|[_, denominator]| *denominator != 0);
        valid.then_some(Self { headroom, gain })
    }

    /// Writes a maker note with this headroom and nothing else.
    pub(in crate::images::clean) fn to_maker_note(self) -> Vec<u8> {
        let mut note = SIGNATURE.to_vec();
        note.extend_from_slice(b"\0\x02");
        note.extend_from_slice(b"\0\x21\0\x0a\0\0\0\x01\0\0\0\x2c");
        note.extend_from_slice(b"\0\x30\0\x0a\0\0\0\x01\0\0\0\x34");
        note.extend_from_slice(b"\0\0\0\0");
        for number in self.headroom.into_iter().chain(self.gain) {
            note.extend_from_slice(&number.to_be_bytes());
        }
        note
    }
}
