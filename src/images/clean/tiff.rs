//! Reads directories of TIFF 6.0 as browsers read those of Exif, and writes new ones.

use std::slice::ChunksExact;

const HEADER_LEN: u32 = 8;
const ENTRY_LEN: usize = 12;

const SHORT: u16 = 3;
const LONG: u16 = 4;
const RATIONAL: u16 = 5;

/// The byte order of a file. It is kept, so that a block that needs no cleaning stays unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// `II`.
    LowFirst,
    /// `MM`.
    HighFirst,
}

/// TIFF bytes with a sound header.
pub(super) struct Tiff<'a> {
    bytes: &'a [u8],
    pub(super) order: Order,
    /// The offset of the first directory.
    pub(super) first: u32,
}

impl<'a> Tiff<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Option<Self> {
        let order = match bytes.get(..4)? {
            b"II*\0" => Order::LowFirst,
            b"MM\0*" => Order::HighFirst,
            _ => return None,
        };
        let first = order.u32_at(bytes, 4)?;
        Some(Self {
            bytes,
            order,
            first,
        })
    }

    /// The directory at this offset, as far as it is there.
    pub(super) fn directory(&self, at: u32) -> Option<Directory<'a>> {
        let bytes = self.bytes.get(usize::try_from(at).ok()?..)?;
        let count = usize::from(self.order.u16_at(bytes, 0)?);
        let rest = bytes.get(2..)?;
        let (entries, rest) = rest.split_at(rest.len().min(count * ENTRY_LEN));
        let next = self.order.u32_at(rest, 0).unwrap_or_default();
        Some(Directory {
            entries: entries.chunks_exact(ENTRY_LEN),
            order: self.order,
            next,
        })
    }

    /// The bytes of a value that is stored outside of the entry.
    fn far(&self, entry: &Entry<'_>, len: usize) -> Option<&'a [u8]> {
        let at = usize::try_from(self.order.u32_at(&entry.value(), 0)?).ok()?;
        self.bytes.get(at..)?.get(..len)
    }

    /// The value of an entry of one rational: numerator and denominator.
    pub(super) fn rational(&self, entry: &Entry<'_>) -> Option<[u32; 2]> {
        if entry.kind != RATIONAL || entry.count != 1 {
            return None;
        }
        let bytes = self.far(entry, 8)?;
        Some([self.order.u32_at(bytes, 0)?, self.order.u32_at(bytes, 4)?])
    }
}

/// The entries of a directory.
pub(super) struct Directory<'a> {
    entries: ChunksExact<'a, u8>,
    order: Order,
    /// The offset of the next directory; 0 if there is none.
    pub(super) next: u32,
}

impl<'a> Iterator for Directory<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.entries.next()?;
        Some(Entry {
            tag: self.order.u16_at(bytes, 0)?,
            kind: self.order.u16_at(bytes, 2)?,
            count: self.order.u32_at(bytes, 4)?,
            value: bytes.get(8..)?.first_chunk()?,
            order: self.order,
        })
    }
}

/// An entry of a directory.
pub(super) struct Entry<'a> {
    pub(super) tag: u16,
    /// The type, as TIFF numbers it.
    pub(super) kind: u16,
    pub(super) count: u32,
    value: &'a [u8; 4],
    order: Order,
}

impl Entry<'_> {
    /// The four bytes of the value, or of the offset to it.
    pub(super) const fn value(&self) -> [u8; 4] {
        *self.value
    }

    /// The value as a number of four bytes, whatever the type.
    pub(super) const fn number(&self) -> u32 {
        self.order.u32(*self.value)
    }

    /// The first half of the value as a number, whatever the type.
    pub(super) fn half(&self) -> u32 {
        u32::from(self.order.u16_at(self.value, 0).unwrap_or_default())
    }

    /// The value of an entry of one short number.
    pub(super) fn short(&self) -> Option<u16> {
        let is_short = self.kind == SHORT && self.count == 1;
        is_short.then(|| self.order.u16_at(self.value, 0)).flatten()
    }

    /// The value of an entry of one long number.
    pub(super) fn long(&self) -> Option<u32> {
        (self.kind == LONG && self.count == 1).then(|| self.number())
    }

    /// The value of an entry of one short or long number.
    pub(super) fn short_or_long(&self) -> Option<u32> {
        self.short().map(u32::from).or_else(|| self.long())
    }
}

impl Order {
    fn u16_at(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::LowFirst => u16::from_le_bytes(*bytes),
            Self::HighFirst => u16::from_be_bytes(*bytes),
        })
    }

    fn u32_at(self, bytes: &[u8], at: usize) -> Option<u32> {
        bytes.get(at..)?.first_chunk().map(|bytes| self.u32(*bytes))
    }

    const fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::LowFirst => u32::from_le_bytes(bytes),
            Self::HighFirst => u32::from_be_bytes(bytes),
        }
    }

    const fn u16_bytes(self, value: u16) -> [u8; 2] {
        match self {
            Self::LowFirst => value.to_le_bytes(),
            Self::HighFirst => value.to_be_bytes(),
        }
    }

    const fn u32_bytes(self, value: u32) -> [u8; 4] {
        match self {
            Self::LowFirst => value.to_le_bytes(),
            Self::HighFirst => value.to_be_bytes(),
        }
    }
}

/// Builds a directory. Entries must be added in the order of their tags, as TIFF requires.
pub(super) struct Writer {
    order: Order,
    entries: Vec<(u16, u16, u32, Value)>,
}

enum Value {
    Near([u8; 4]),
    Far(Vec<u8>),
    Directory(Writer),
}

impl Writer {
    pub(super) const fn new(order: Order) -> Self {
        Self {
            order,
            entries: Vec::new(),
        }
    }

    /// Adds an entry of one value that fits into it.
    pub(super) fn raw(&mut self, tag: u16, kind: u16, value: [u8; 4]) {
        self.entries.push((tag, kind, 1, Value::Near(value)));
    }

    pub(super) fn short(&mut self, tag: u16, value: u16) {
        let [first, second] = self.order.u16_bytes(value);
        self.raw(tag, SHORT, [first, second, 0, 0]);
    }

    pub(super) fn long(&mut self, tag: u16, value: u32) {
        self.raw(tag, LONG, self.order.u32_bytes(value));
    }

    pub(super) fn rational(&mut self, tag: u16, value: [u32; 2]) {
        let bytes = value.map(|part| self.order.u32_bytes(part)).concat();
        self.entries.push((tag, RATIONAL, 1, Value::Far(bytes)));
    }

    /// Adds an entry of more than four bytes.
    pub(super) fn bytes(&mut self, tag: u16, kind: u16, bytes: &[u8]) {
        let count = u32::try_from(bytes.len()).unwrap_or_default();
        self.entries
            .push((tag, kind, count, Value::Far(bytes.to_vec())));
    }

    /// Adds a directory, if it has entries.
    pub(super) fn directory(&mut self, tag: u16, directory: Self) {
        if !directory.entries.is_empty() {
            self.entries
                .push((tag, LONG, 1, Value::Directory(directory)));
        }
    }

    /// Writes a whole file: header, directory, values.
    pub(super) fn finish(self) -> Vec<u8> {
        let order = self.order;
        let signature = match order {
            Order::LowFirst => b"II*\0",
            Order::HighFirst => b"MM\0*",
        };
        let body = self.finish_at(8);
        [&signature[..], &order.u32_bytes(HEADER_LEN), &body].concat()
    }

    /// Writes directory and values. They begin `start` bytes behind the place from which offsets
    /// count.
    fn finish_at(self, start: usize) -> Vec<u8> {
        let Self { order, entries } = self;
        let count = u16::try_from(entries.len()).unwrap_or_default();
        let mut far_at = start + 2 + ENTRY_LEN * entries.len() + 4;
        let mut directory = order.u16_bytes(count).to_vec();
        let mut far = Vec::new();
        for (tag, kind, count, value) in entries {
            directory.extend(order.u16_bytes(tag));
            directory.extend(order.u16_bytes(kind));
            directory.extend(order.u32_bytes(count));
            let bytes = match value {
                Value::Near(bytes) => {
                    directory.extend(bytes);
                    continue;
                }
                Value::Far(bytes) => bytes,
                Value::Directory(inner) => inner.finish_at(far_at),
            };
            directory.extend(order.u32_bytes(u32::try_from(far_at).unwrap_or_default()));
            far_at += bytes.len();
            far.extend(bytes);
            // Offsets are even in TIFF.
            if !far_at.is_multiple_of(2) {
                far_at += 1;
                far.push(0);
            }
        }
        directory.extend([0; 4]);
        directory.extend(far);
        directory
    }
}
