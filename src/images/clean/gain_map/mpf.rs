//! The index of a file with several pictures, by CIPA DC-007 (Multi-Picture Format).

use std::ops::Range;

use super::tiff::{Directory, Order};

const ENTRY_LEN: usize = 16;
/// The most pictures that are read. Real files have up to five, and the header of each is read.
const MAX_PICTURES: usize = 8;

/// The index, as far as it tells where pictures begin.
#[derive(Debug)]
pub(super) struct Pictures<'a> {
    entries: &'a [u8],
    order: Order,
    /// The offset in the file from which the index counts.
    base: usize,
}

impl<'a> Pictures<'a> {
    /// Reads the index at offset `base` of the file.
    pub(super) fn read(tiff: &'a [u8], base: usize) -> Option<Self> {
        let directory = Directory::first(tiff)?;
        Some(Self {
            entries: directory.undefined(0xb002)?,
            order: directory.order(),
            base,
        })
    }

    /// The offsets of all pictures but the first.
    pub(super) fn starts(&self) -> impl Iterator<Item = usize> {
        let entries = self
            .entries
            .chunks_exact(ENTRY_LEN)
            .skip(1)
            .take(MAX_PICTURES);
        entries.filter_map(|entry| {
            let offset = usize::try_from(self.order.u32_at(entry, 8)?).ok()?;
            // Zero stands for the first picture.
            (offset > 0).then(|| self.base.checked_add(offset))?
        })
    }
}

/// The length of [`index`], and of its segment with marker, length and name.
pub(super) const INDEX_LEN: usize = 82;
pub(super) const SEGMENT_LEN: usize = INDEX_LEN + 8;

/// Writes the index of a picture of `first_len` bytes and a second one right behind it. Its segment
/// begins at offset `segment` of the file.
pub(super) fn index(
    segment: usize,
    first_len: usize,
    second_len: usize,
) -> Option<[u8; INDEX_LEN]> {
    let base = segment + (SEGMENT_LEN - INDEX_LEN);
    let second_offset = first_len.checked_sub(base)?;
    let [first_len, second_len, second_offset] =
        [first_len, second_len, second_offset].map(|number| u32::try_from(number).ok());
    let fields: [&[u8]; 12] = [
        b"MM\0*\0\0\0\x08",
        // Three entries: version, number of pictures, and the list of pictures, which follows this
        // directory.
        b"\0\x03",
        b"\xb0\0\0\x07\0\0\0\x040100",
        b"\xb0\x01\0\x04\0\0\0\x01\0\0\0\x02",
        b"\xb0\x02\0\x07\0\0\0\x20\0\0\0\x32",
        b"\0\0\0\0",
        // The first picture is the "baseline primary", which viewers show that know no others.
        b"\0\x03\0\0",
        &first_len?.to_be_bytes(),
        b"\0\0\0\0\0\0\0\0\0\0\0\0",
        &second_len?.to_be_bytes(),
        &second_offset?.to_be_bytes(),
        b"\0\0\0\0",
    ];
    let mut index = [0; INDEX_LEN];
    for (place, byte) in index.iter_mut().zip(fields.into_iter().flatten()) {
        *place = *byte;
    }
    Some(index)
}

/// The place of the index in the file, for a segment at offset `segment`.
pub(super) const fn index_place(segment: usize) -> Range<usize> {
    segment + (SEGMENT_LEN - INDEX_LEN)..segment + SEGMENT_LEN
}
