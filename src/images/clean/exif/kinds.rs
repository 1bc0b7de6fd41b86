//! Names what an Exif block contains, in the words of the API (see docs/images.md).

use super::EXIF_DIRECTORY;
use crate::images::clean::tiff::{Directory, Tiff};
use crate::model::metadata::{Kind, Kinds};

const GPS_DIRECTORY: u16 = 0x8825;
const GPS_VERSION: u16 = 0;

/// The kinds of metadata in these TIFF bytes. Unreadable parts are [`Kind::Other`].
pub(in crate::images::clean) fn of(tiff: &[u8]) -> Kinds {
    let mut kinds = Kinds::default();
    let root = Tiff::open(tiff).and_then(|tiff| Some((tiff.directory(tiff.first)?, tiff)));
    let Some((root, tiff)) = root else {
        kinds.add(Kind::Other);
        return kinds;
    };
    if root.next != 0 {
        kinds.add(Kind::Thumbnail);
    }
    add(&mut kinds, &tiff, root, true);
    kinds
}

fn add(kinds: &mut Kinds, tiff: &Tiff<'_>, directory: Directory<'_>, is_root: bool) {
    for entry in directory {
        let inner = || tiff.directory(entry.number());
        match entry.tag {
            GPS_DIRECTORY => {
                // Cameras without a GPS receiver write the version alone.
                if inner().is_some_and(|mut gps| gps.any(|entry| entry.tag != GPS_VERSION)) {
                    kinds.add(Kind::Location);
                }
            }
            EXIF_DIRECTORY if is_root => {
                if let Some(inner) = inner() {
                    add(kinds, tiff, inner, false);
                }
            }
            tag => {
                if let Some(kind) = kind_of(tag) {
                    kinds.add(kind);
                }
            }
        }
    }
}

/// The kind of a tag, by the tables of Exif 2.32. Returns `None` for tags that describe only the
/// picture's data.
const fn kind_of(tag: u16) -> Option<Kind> {
    Some(match tag {
        // Maker, model, serial numbers of body and lens, maker notes.
        0x010f | 0x0110 | 0x927c | 0xa431..=0xa435 | 0xc62f => Kind::Camera,
        // Exposure, sensitivity, aperture, flash, focal length and similar.
        0x829a | 0x829d | 0x8822 | 0x8827 | 0x9201..=0x920a | 0xa20e..=0xa217 | 0xa402..=0xa40c => {
            Kind::Camera
        }
        0x013b | 0x8298 | 0x9c9d | 0xa430 => Kind::Author,
        0x0132 | 0x9003 | 0x9004 | 0x9010..=0x9012 | 0x9290..=0x9292 => Kind::Date,
        0x000b | 0x0131 => Kind::Software,
        0x010e | 0x9286 | 0x9c9b | 0x9c9c | 0x9c9e | 0x9c9f => Kind::Comment,
        _ => return None,
    })
}
