//! The prefix codes of lossless WebP (RFC 9649, section 3.7.2), and the bits that they are read
//! from.

use super::CODE_TABLES;

/// Reads bits, the least significant first. Behind the end it supplies zeros and records that.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    buffer: u64,
    count: u32,
    /// Number of zero bytes behind the last byte that still count as data.
    zeros: u32,
    over: bool,
}

impl<'a> Bits<'a> {
    pub(super) const fn new(bytes: &'a [u8], zeros: u32) -> Self {
        Self {
            bytes,
            zeros,
            buffer: 0,
            count: 0,
            over: false,
        }
    }

    /// Whether more bits were read than there are.
    pub(super) const fn over(&self) -> bool {
        self.over
    }

    /// Makes 56 bits available, or all that are left.
    #[inline]
    pub(super) fn fill(&mut self) {
        if let Some(eight) = self.bytes.first_chunk::<8>() {
            self.buffer |= u64::from_le_bytes(*eight) << self.count;
            // Loads as many whole bytes as fit: 56 to 63 bits are available then.
            let taken = (63 - self.count) >> 3;
            self.bytes = self.bytes.get(taken as usize..).unwrap_or_default();
            self.count |= 0x38;
        } else {
            self.fill_last();
        }
    }

    #[cold]
    fn fill_last(&mut self) {
        while self.count < 56
            && let Some((byte, rest)) = self.bytes.split_first()
        {
            self.buffer |= u64::from(*byte) << self.count;
            self.count += 8;
            self.bytes = rest;
        }
        while self.count < 56 && self.zeros > 0 {
            self.count += 8;
            self.zeros -= 1;
        }
    }

    #[inline]
    pub(super) fn drop(&mut self, bits: u32) {
        self.buffer >>= bits;
        if let Some(count) = self.count.checked_sub(bits) {
            self.count = count;
        } else {
            self.count = 0;
            self.over = true;
        }
    }

    /// Takes the next bits, at most 32, which a call of [`Self::fill`] made available.
    #[inline]
    pub(super) fn take(&mut self, bits: u32) -> u32 {
        let low = self.buffer & ((1 << bits) - 1);
        self.drop(bits);
        u32::try_from(low).unwrap_or(0)
    }

    /// Calls [`Self::fill`] and [`Self::take`].
    pub(super) fn read(&mut self, bits: u32) -> u32 {
        if self.count < bits {
            self.fill();
        }
        self.take(bits)
    }
}

/// Number of bits that are looked up at once.
const ROOT: u32 = 8;
const LONGEST: usize = 15;

/// The place of a code's table.
#[derive(Clone, Copy, Default)]
pub(super) struct Code {
    start: usize,
    /// Number of bits of the first look-up; 0 for a code of a single symbol.
    bits: u32,
}

impl Code {
    pub(super) const fn is_single(self) -> bool {
        self.bits == 0
    }
}

/// All tables. An entry has 12 bits for a symbol and 4 bits for the length of its code. A length
/// above [`ROOT`] points to a second table; the symbol is then its distance from the start of the
/// first table.
#[derive(Default)]
pub(super) struct Tables {
    entries: Vec<u16>,
}

/// Why a code can't be built.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// The lengths do not form a complete code.
    Code,
    /// The tables exceed [`CODE_TABLES`].
    TooMany,
}

impl Tables {
    /// Number of entries in all tables.
    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Reads the next symbol. Call [`Bits::fill`] first.
    #[inline]
    pub(super) fn symbol(&self, code: Code, bits: &mut Bits<'_>) -> u16 {
        let low = bits.buffer & ((1 << code.bits) - 1);
        let entry = self.entry(code.start, low);
        let len = u32::from(entry & 15);
        if len <= ROOT {
            bits.drop(len);
            return entry >> 4;
        }
        let high = bits.buffer >> ROOT & ((1 << (len - ROOT)) - 1);
        let entry = self.entry(code.start + usize::from(entry >> 4), high);
        bits.drop(u32::from(entry & 15));
        entry >> 4
    }

    #[inline]
    fn entry(&self, start: usize, offset: u64) -> u16 {
        let at = usize::try_from(offset).map_or(usize::MAX, |offset| start + offset);
        self.entries.get(at).copied().unwrap_or(0)
    }

    /// Builds the table of a code from the lengths of its symbols.
    pub(super) fn build(&mut self, lengths: &[u8]) -> Result<Code, Bad> {
        let shape = Shape::of(lengths)?;
        let start = self.entries.len();
        if shape.symbols == 1 {
            let symbol = lengths.iter().position(|len| *len > 0).unwrap_or(0);
            self.entries.push(u16::try_from(symbol).unwrap_or(0) << 4);
            return Ok(Code { start, bits: 0 });
        }
        let bits = shape.longest.min(ROOT);
        self.entries.resize(start + (1 << bits), 0);
        if shape.longest > ROOT {
            self.second_tables(start, &shape);
        }
        if self.entries.len() > CODE_TABLES / 2 {
            return Err(Bad::TooMany);
        }
        let table = self.entries.get_mut(start..).unwrap_or_default();
        fill(table, lengths, shape.first_codes(), bits);
        Ok(Code { start, bits })
    }

    /// Places second tables, each for the longest code that begins with the same bits.
    fn second_tables(&mut self, start: usize, shape: &Shape) {
        let mut offset = 1_u16 << ROOT;
        let mut code = 0_u32;
        // Codes with the same first bits are neighbours, and the last of them is the longest.
        let mut open: Option<(u32, u32)> = None;
        for (len, count) in (1_u32..).zip(shape.counts) {
            code <<= 1;
            for _ in 0..count {
                if len > ROOT {
                    let root = code >> (len - ROOT);
                    match open {
                        Some((before, _)) if before == root => open = Some((root, len)),
                        _ => {
                            self.second_table(start, open, &mut offset);
                            open = Some((root, len));
                        }
                    }
                }
                code += 1;
            }
        }
        self.second_table(start, open, &mut offset);
        self.entries.resize(start + usize::from(offset), 0);
    }

    fn second_table(&mut self, start: usize, table: Option<(u32, u32)>, offset: &mut u16) {
        let Some((root, longest)) = table else {
            return;
        };
        let at = start + (root.reverse_bits() >> (32 - ROOT)) as usize;
        if let Some(entry) = self.entries.get_mut(at) {
            *entry = *offset << 4 | u16::try_from(longest).unwrap_or(0);
        }
        *offset += 1 << (longest - ROOT);
    }
}

/// Writes the entries of all symbols.
fn fill(table: &mut [u16], lengths: &[u8], mut next: [u32; LONGEST + 1], bits: u32) {
    for (symbol, len) in (0_u16..).zip(lengths) {
        let Some(next) = next.get_mut(usize::from(*len)).filter(|_| *len > 0) else {
            continue;
        };
        let len = u32::from(*len);
        let code = next.reverse_bits() >> (32 - len);
        *next += 1;
        let entry = symbol << 4 | u16::try_from(len).unwrap_or(0);
        if len <= bits {
            let step = 1 << len;
            for slot in table
                .iter_mut()
                .take(1 << bits)
                .skip(code as usize)
                .step_by(step)
            {
                *slot = entry;
            }
        } else {
            let root = table
                .get((code & ((1 << ROOT) - 1)) as usize)
                .copied()
                .unwrap_or(0);
            let longest = u32::from(root & 15);
            let start = usize::from(root >> 4);
            let end = start + (1 << longest.saturating_sub(ROOT));
            let step = 1 << (len - ROOT);
            let second = table.get_mut(start..end).unwrap_or_default();
            for slot in second
                .iter_mut()
                .skip((code >> ROOT) as usize)
                .step_by(step)
            {
                *slot = entry;
            }
        }
    }
}

/// The number of codes of each length.
struct Shape {
    counts: [u32; LONGEST],
    symbols: u32,
    longest: u32,
}

impl Shape {
    /// Checks that the code is complete or has one symbol, as libwebp does.
    fn of(lengths: &[u8]) -> Result<Self, Bad> {
        let mut counts = [0_u32; LONGEST];
        for len in lengths {
            if let Some(count) = usize::from(*len)
                .checked_sub(1)
                .and_then(|at| counts.get_mut(at))
            {
                *count += 1;
            }
        }
        let symbols = counts.iter().sum();
        let mut longest = 0;
        let mut left = 1_u32;
        for (len, count) in (1_u32..).zip(counts) {
            left = (left << 1).checked_sub(count).ok_or(Bad::Code)?;
            if count > 0 {
                longest = len;
            }
        }
        if symbols != 1 && (left != 0 || symbols == 0) {
            return Err(Bad::Code);
        }
        Ok(Self {
            counts,
            symbols,
            longest,
        })
    }

    /// The first code of each length, including zero.
    fn first_codes(&self) -> [u32; LONGEST + 1] {
        let mut codes = [0; LONGEST + 1];
        let mut code = 0;
        for (slot, count) in codes.iter_mut().skip(1).zip(self.counts) {
            code <<= 1;
            *slot = code;
            code += count;
        }
        codes
    }
}

/// Checks the lengths only, for codes that no pixel uses.
pub(super) fn check(lengths: &[u8]) -> Result<(), Bad> {
    Shape::of(lengths).map(drop)
}
