//! Reads directories of TIFF, as Exif, MPF and Apple's maker note contain them.

/// The byte order of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    LowFirst,
    HighFirst,
}

impl Order {
    pub(super) fn u16_at(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::LowFirst => u16::from_le_bytes(bytes),
            Self::HighFirst => u16::from_be_bytes(bytes),
        })
    }

    pub(super) fn u32_at(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::LowFirst => u32::from_le_bytes(bytes),
            Self::HighFirst => u32::from_be_bytes(bytes),
        })
    }
}

/// A directory inside of the block of bytes from which its offsets count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Directory<'a> {
    block: &'a [u8],
    order: Order,
    at: usize,
}

impl<'a> Directory<'a> {
    /// The first directory of TIFF bytes.
    pub(super) fn first(tiff: &'a [u8]) -> Option<Self> {
        let order = match tiff.get(..4)? {
            b"II*\0" => Order::LowFirst,
            b"MM\0*" => Order::HighFirst,
            _ => return None,
        };
        Self::at(tiff, order, usize::try_from(order.u32_at(tiff, 4)?).ok()?)
    }

    pub(super) fn at(block: &'a [u8], order: Order, at: usize) -> Option<Self> {
        order.u16_at(block, at)?;
        Some(Self { block, order, at })
    }

    /// The directory whose offset is the value of this entry.
    pub(super) fn sub(self, tag: u16) -> Option<Self> {
        Self::at(
            self.block,
            self.order,
            usize::try_from(self.long(tag)?).ok()?,
        )
    }

    /// The value of an entry of one unsigned number of 32 bits.
    pub(super) fn long(self, tag: u16) -> Option<u32> {
        let entry = self.entry(tag, 4)?;
        (self.order.u32_at(entry, 4)? == 1).then(|| self.order.u32_at(entry, 8))?
    }

    /// The value of an entry of type undefined that does not fit into the entry itself.
    pub(super) fn undefined(self, tag: u16) -> Option<&'a [u8]> {
        let entry = self.entry(tag, 7)?;
        let len = usize::try_from(self.order.u32_at(entry, 4)?).ok()?;
        (len > 4).then(|| self.value(entry, len))?
    }

    /// Numerator and denominator of an entry of one signed fraction.
    pub(super) fn fraction(self, tag: u16) -> Option<[u32; 2]> {
        let entry = self.entry(tag, 10)?;
        if self.order.u32_at(entry, 4)? != 1 {
            return None;
        }
        let value = self.value(entry, 8)?;
        Some([self.order.u32_at(value, 0)?, self.order.u32_at(value, 4)?])
    }

    pub(super) const fn order(self) -> Order {
        self.order
    }

    fn value(self, entry: &[u8], len: usize) -> Option<&'a [u8]> {
        let at = usize::try_from(self.order.u32_at(entry, 8)?).ok()?;
        self.block.get(at..)?.get(..len)
    }

    /// The twelve bytes of the first entry with this tag, if it has this type.
    fn entry(self, tag: u16, kind: u16) -> Option<&'a [u8]> {
        let count = usize::from(self.order.u16_at(self.block, self.at)?);
        let entry = self
            .block
            .get(self.at..)?
            .get(2..)?
            .chunks_exact(12)
            .take(count)
            .find(|entry| self.order.u16_at(entry, 0) == Some(tag))?;
        (self.order.u16_at(entry, 2)? == kind).then_some(entry)
    }
}
