//! Lossless WebP (RFC 9649, section 3): reads all symbols. Pixels are kept only of the image that
//! names the codes of blocks. Transforms can't fail, so they are read but not applied.

use super::super::deadline::Deadline;
use super::super::{Fault, array};
use super::coding::{Coding, GREENS, Group, LENGTHS, blocks};
use super::lossless::{Broken, Kept, Lossless};
use super::prefix::Bits;

/// Reads a `VP8L` chunk.
pub(super) fn decode(bytes: &[u8], deadline: &mut Deadline) -> Result<(), Fault> {
    let [signature, header @ ..] = array::<5>(bytes, 0).unwrap_or_default();
    let header = u32::from_le_bytes(header);
    if signature != 0x2f || header >> 29 != 0 {
        return Err(of_vp8l(&Broken::Header));
    }
    let size = ((header & 0x3fff) + 1, (header >> 14 & 0x3fff) + 1);
    decode_image(
        bytes.get(5..).unwrap_or_default(),
        zeros(bytes),
        size,
        deadline,
    )
}

/// Reads a bitstream without a header, of a known size.
pub(super) fn decode_alpha(
    bytes: &[u8],
    size: (u32, u32),
    deadline: &mut Deadline,
) -> Result<(), Fault> {
    decode_image(bytes, zeros(bytes), size, deadline)
}

/// libwebp loads eight bytes at once. A shorter bitstream is extended with zeros.
fn zeros(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).map_or(0, |len| 8_u32.saturating_sub(len))
}

fn decode_image(
    bytes: &[u8],
    zeros: u32,
    size: (u32, u32),
    deadline: &mut Deadline,
) -> Result<(), Fault> {
    let mut reader = Lossless {
        bits: Bits::new(bytes, zeros),
        deadline,
    };
    reader.image(size).map_err(|broken| of_vp8l(&broken))
}

fn of_vp8l(broken: &Broken) -> Fault {
    let what = match broken {
        Broken::Header => "its header is invalid".to_owned(),
        Broken::Short => "it ends too early".to_owned(),
        Broken::Transform => "it has the same transform twice".to_owned(),
        Broken::Cache(bits) => format!("its colour cache has {bits} bits, not 1 to 11"),
        Broken::Code => "it has an incomplete prefix code".to_owned(),
        Broken::TooManyCodes => "its tables of prefix codes are too large".to_owned(),
        Broken::Reference { at, of } => {
            format!("pixel {at} of {of} is copied from outside of the image")
        }
        Broken::Timeout => return Fault::Timeout,
    };
    Fault::Corrupt(format!("the lossless bitstream is broken: {what}"))
}

impl Lossless<'_, '_> {
    /// Reads the whole image: transforms, then its pixels.
    fn image(&mut self, (width, height): (u32, u32)) -> Result<(), Broken> {
        let mut width = width;
        let mut seen = [false; 4];
        while self.bits.read(1) == 1 {
            let kind = self.bits.read(2);
            match seen.get_mut(kind as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(Broken::Transform),
            }
            match kind {
                0 | 1 => {
                    let bits = self.bits.read(3) + 2;
                    self.part((blocks(width, bits), blocks(height, bits)), None)?;
                }
                3 => {
                    let colours = self.bits.read(8) + 1;
                    self.part((colours, 1), None)?;
                    let bits = match colours {
                        0..=2 => 3,
                        3..=4 => 2,
                        5..=16 => 1,
                        _ => 0,
                    };
                    width = blocks(width, bits);
                }
                _ => {}
            }
            self.check()?;
        }
        let cache_bits = self.cache()?;
        let coding = self.coding((width, height), cache_bits, true)?;
        self.pixels((width, height), &coding, None)
    }

    /// Reads an image inside of the image. Its pixels are stored in `kept`, if given.
    fn part(&mut self, size: (u32, u32), kept: Option<&mut Kept>) -> Result<(), Broken> {
        let cache_bits = self.cache()?;
        let coding = self.coding(size, cache_bits, false)?;
        self.pixels(size, &coding, kept)
    }

    pub(super) fn check(&self) -> Result<(), Broken> {
        if self.bits.over() {
            Err(Broken::Short)
        } else {
            Ok(())
        }
    }

    pub(super) fn cache(&mut self) -> Result<u32, Broken> {
        if self.bits.read(1) == 0 {
            return Ok(0);
        }
        match self.bits.read(4) {
            bits @ 1..=11 => Ok(bits),
            bits => Err(Broken::Cache(bits)),
        }
    }

    /// Reads the symbols of all pixels of an image.
    pub(super) fn pixels(
        &mut self,
        (width, height): (u32, u32),
        coding: &Coding,
        mut kept: Option<&mut Kept>,
    ) -> Result<(), Broken> {
        let (width, height) = (width as usize, height as usize);
        let total = width.saturating_mul(height);
        let block = 1_usize << coding.block_bits;
        let mut at = 0_usize;
        let mut column = 0_usize;
        let mut row = 0_usize;
        let mut current = u32::MAX;
        while at < total {
            let index = coding.group_index(column, row);
            // The tables of another group are in no cache of the processor.
            let mut steps = if index == current { 10 } else { 50 };
            current = index;
            let group = coding.group(index);
            // The group stays the same up to the end of the block or of the row.
            let end = at + (block - (column & (block - 1))).min(width - column);
            let start = at;
            if group.free && kept.is_none() {
                at = end;
            }
            while at < end {
                steps += 16;
                at += self.pixel(coding, &group, (at, total, width), kept.as_deref_mut())?;
            }
            self.deadline.spend(steps).map_err(|_| Broken::Timeout)?;
            self.check()?;
            column += at - start;
            if column >= width {
                row += column / width;
                column %= width;
            }
        }
        Ok(())
    }

    /// Reads a literal, a colour of the cache or a reference. Returns how many pixels it stands
    /// for.
    #[inline]
    fn pixel(
        &mut self,
        coding: &Coding,
        group: &Group,
        (at, total, width): (usize, usize, usize),
        kept: Option<&mut Kept>,
    ) -> Result<usize, Broken> {
        let (tables, bits) = (&coding.tables, &mut self.bits);
        bits.fill();
        let green = tables.symbol(group.green, bits);
        if green < GREENS {
            if let Some(kept) = kept {
                let red = u32::from(tables.symbol(group.red, bits));
                bits.fill();
                let blue = u32::from(tables.symbol(group.blue, bits));
                let alpha = u32::from(tables.symbol(group.alpha, bits));
                kept.push(alpha << 24 | red << 16 | u32::from(green) << 8 | blue);
            } else if !group.plain {
                tables.symbol(group.red, bits);
                bits.fill();
                tables.symbol(group.blue, bits);
                tables.symbol(group.alpha, bits);
            }
            return Ok(1);
        }
        if let Some(index) = green.checked_sub(GREENS + LENGTHS) {
            if let Some(kept) = kept {
                kept.cached(index);
            }
            return Ok(1);
        }
        let length = value(bits, green - GREENS);
        let distance = tables.symbol(group.distance, bits);
        bits.fill();
        let distance = distance_of(value(bits, distance), width);
        if distance > at || length > total - at {
            return Err(if bits.over() {
                Broken::Short
            } else {
                Broken::Reference { at, of: total }
            });
        }
        if let Some(kept) = kept {
            kept.copy(distance, length);
        }
        Ok(length)
    }
}

/// Reads a length or a distance, by its symbol and the bits that follow.
fn value(bits: &mut Bits<'_>, symbol: u16) -> usize {
    if symbol < 4 {
        return usize::from(symbol) + 1;
    }
    let extra = u32::from((symbol - 2) >> 1);
    let offset = (2 + usize::from(symbol & 1)) << extra;
    offset + bits.take(extra) as usize + 1
}

/// The distance in pixels. Small codes mean neighbours in the rows above.
fn distance_of(code: usize, width: usize) -> usize {
    /// High four bits: rows up. Low four bits: eight minus the columns to the left.
    const NEIGHBOURS: [u8; 120] = [
        0x18, 0x07, 0x17, 0x19, 0x28, 0x06, 0x27, 0x29, 0x16, 0x1a, 0x26, 0x2a, 0x38, 0x05, 0x37,
        0x39, 0x15, 0x1b, 0x36, 0x3a, 0x25, 0x2b, 0x48, 0x04, 0x47, 0x49, 0x14, 0x1c, 0x35, 0x3b,
        0x46, 0x4a, 0x24, 0x2c, 0x58, 0x45, 0x4b, 0x34, 0x3c, 0x03, 0x57, 0x59, 0x13, 0x1d, 0x56,
        0x5a, 0x23, 0x2d, 0x44, 0x4c, 0x55, 0x5b, 0x33, 0x3d, 0x68, 0x02, 0x67, 0x69, 0x12, 0x1e,
        0x66, 0x6a, 0x22, 0x2e, 0x54, 0x5c, 0x43, 0x4d, 0x65, 0x6b, 0x32, 0x3e, 0x78, 0x01, 0x77,
        0x79, 0x53, 0x5d, 0x11, 0x1f, 0x64, 0x6c, 0x42, 0x4e, 0x76, 0x7a, 0x21, 0x2f, 0x75, 0x7b,
        0x31, 0x3f, 0x63, 0x6d, 0x52, 0x5e, 0x00, 0x74, 0x7c, 0x41, 0x4f, 0x10, 0x20, 0x62, 0x6e,
        0x30, 0x73, 0x7d, 0x51, 0x5f, 0x40, 0x72, 0x7e, 0x61, 0x6f, 0x50, 0x71, 0x7f, 0x60, 0x70,
    ];
    let Some(neighbour) = NEIGHBOURS.get(code - 1) else {
        return code - 120;
    };
    let up = usize::from(neighbour >> 4) * width + 8;
    up.saturating_sub(usize::from(neighbour & 15)).max(1)
}
