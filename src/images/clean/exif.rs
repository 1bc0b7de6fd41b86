//! Exif, as far as it changes how a picture looks: its orientation, by TIFF 6.0 and Exif 2.32.
//!
//! Browsers take the orientation from the first directory alone, and only as one short number. The
//! same is read here, and nothing malformed is an error: it means that there is no orientation.

/// The length of [`Orientation::to_tiff`].
pub(super) const TIFF_LEN: usize = 26;

const HEADER_LEN: usize = 8;
const ENTRY_LEN: usize = 12;

/// One of the eight ways to turn and mirror the stored pixels, with the byte order it was read in:
/// a block that holds nothing else is then written as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Orientation {
    value: u8,
    order: Order,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    LowFirst,
    HighFirst,
}

impl Orientation {
    /// The orientation in the first directory of these TIFF bytes, upright (1) included.
    pub(super) fn read(tiff: &[u8]) -> Option<Self> {
        let order = match tiff.get(..4)? {
            b"II*\0" => Order::LowFirst,
            b"MM\0*" => Order::HighFirst,
            _ => return None,
        };
        let offset = usize::try_from(order.u32_at(tiff, 4)?).ok()?;
        if offset < HEADER_LEN {
            return None;
        }
        let directory = tiff.get(offset..)?;
        let count = usize::from(order.u16_at(directory, 0)?);
        let entry = directory
            .get(2..)?
            .chunks_exact(ENTRY_LEN)
            .take(count)
            .find(|entry| entry.starts_with(&order.u16(0x0112)))?;
        if entry.get(2..8) != order.one_short().get(..) {
            return None;
        }
        let value = u8::try_from(order.u16_at(entry, 8)?).ok()?;
        (1..=8).contains(&value).then_some(Self { value, order })
    }

    /// Whether the pixels are shown as they are stored, as they are without Exif.
    pub(super) const fn is_upright(self) -> bool {
        self.value == 1
    }

    /// The smallest TIFF bytes that say this orientation and nothing else.
    pub(super) fn to_tiff(self) -> [u8; TIFF_LEN] {
        let Self { value, order } = self;
        let mut tiff = [0; TIFF_LEN];
        let signature = match order {
            Order::LowFirst => b"II*\0",
            Order::HighFirst => b"MM\0*",
        };
        let fields: [&[u8]; 6] = [
            signature,
            &order.u32(8),
            &order.u16(1),
            &order.u16(0x0112),
            &order.one_short(),
            &order.u16(u16::from(value)),
        ];
        // The rest stays zero: the second half of the value, and no further directory.
        for (place, byte) in tiff.iter_mut().zip(fields.into_iter().flatten()) {
            *place = *byte;
        }
        tiff
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
        let bytes = bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::LowFirst => u32::from_le_bytes(*bytes),
            Self::HighFirst => u32::from_be_bytes(*bytes),
        })
    }

    const fn u16(self, value: u16) -> [u8; 2] {
        match self {
            Self::LowFirst => value.to_le_bytes(),
            Self::HighFirst => value.to_be_bytes(),
        }
    }

    const fn u32(self, value: u32) -> [u8; 4] {
        match self {
            Self::LowFirst => value.to_le_bytes(),
            Self::HighFirst => value.to_be_bytes(),
        }
    }

    /// Type and count of a directory entry.
    const fn one_short(self) -> [u8; 6] {
        match self {
            Self::LowFirst => [3, 0, 1, 0, 0, 0],
            Self::HighFirst => [0, 3, 0, 0, 0, 1],
        }
    }
}

/// The orientation of an image that may hold several Exif blocks: the first to name one decides.
#[derive(Default)]
pub(super) struct FirstOrientation {
    decided: bool,
}

impl FirstOrientation {
    /// What is to stand in place of this block; `None`: it goes.
    pub(super) fn replacement(&mut self, tiff: &[u8]) -> Option<[u8; TIFF_LEN]> {
        if self.decided {
            return None;
        }
        let orientation = Orientation::read(tiff)?;
        self.decided = true;
        (!orientation.is_upright()).then(|| orientation.to_tiff())
    }
}

#[cfg(test)]
pub(super) mod tests;
