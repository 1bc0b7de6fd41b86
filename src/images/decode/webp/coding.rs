//! How an image of lossless WebP is coded: groups of prefix codes, and the group of each block.

use super::lossless::{Broken, Kept, Lossless};
use super::prefix::{Bits, Code, Tables, check};

pub(super) const GREENS: u16 = 256;
pub(super) const LENGTHS: u16 = 24;
const DISTANCES: u16 = 40;

/// The codes of one group: green and lengths, red, blue, alpha, distances.
#[derive(Clone, Copy, Default)]
pub(super) struct Group {
    pub(super) green: Code,
    pub(super) red: Code,
    pub(super) blue: Code,
    pub(super) alpha: Code,
    pub(super) distance: Code,
    /// Whether red, blue and alpha take no bits.
    pub(super) plain: bool,
    /// Whether a literal takes no bits at all.
    pub(super) free: bool,
}

/// The coding of an image.
pub(super) struct Coding {
    pub(super) tables: Tables,
    groups: Vec<Group>,
    /// The group of each block; empty if there is only one group.
    blocks: Vec<u32>,
    pub(super) block_bits: u32,
    blocks_wide: usize,
    cache_bits: u32,
}

impl Coding {
    /// The index of the group with which a pixel is coded.
    pub(super) fn group_index(&self, column: usize, row: usize) -> u32 {
        let block = (row >> self.block_bits) * self.blocks_wide + (column >> self.block_bits);
        self.blocks.get(block).copied().unwrap_or(0)
    }

    /// The group with this index.
    pub(super) fn group(&self, index: u32) -> Group {
        self.groups.get(index as usize).copied().unwrap_or_default()
    }
}

impl Lossless<'_, '_> {
    /// Reads the codes of an image, and the groups of blocks if the image may have several groups.
    pub(super) fn coding(
        &mut self,
        (width, height): (u32, u32),
        cache_bits: u32,
        with_blocks: bool,
    ) -> Result<Coding, Broken> {
        let mut coding = Coding {
            tables: Tables::default(),
            groups: Vec::new(),
            blocks: Vec::new(),
            // Wider than any image, so that there is one block.
            block_bits: 31,
            blocks_wide: 1,
            cache_bits,
        };
        let mut count = 1;
        if with_blocks && self.bits.read(1) == 1 {
            coding.block_bits = self.bits.read(3) + 2;
            let wide = blocks(width, coding.block_bits);
            coding.blocks_wide = wide as usize;
            (coding.blocks, count) = self.blocks((wide, blocks(height, coding.block_bits)))?;
        }
        let used = used(&mut coding.blocks, count);
        let mut lengths = Vec::new();
        for used in used {
            self.group(&mut coding, used, &mut lengths)?;
        }
        Ok(coding)
    }

    /// Reads the image whose pixels name the group of each block. Returns the groups and their
    /// number.
    fn blocks(&mut self, size: (u32, u32)) -> Result<(Vec<u32>, usize), Broken> {
        let area = (size.0 as usize).saturating_mul(size.1 as usize);
        let cache_bits = self.cache()?;
        let mut kept = Kept {
            pixels: Vec::with_capacity(area),
            cache: vec![0; 1 << cache_bits],
            cache_bits,
        };
        let coding = self.coding(size, cache_bits, false)?;
        self.pixels(size, &coding, Some(&mut kept))?;
        let mut blocks = kept.pixels;
        let mut last = 0;
        for block in &mut blocks {
            *block = *block >> 8 & 0xffff;
            last = last.max(*block);
        }
        Ok((blocks, last as usize + 1))
    }

    /// Reads the five codes of a group. Builds their tables if a block uses it.
    fn group(
        &mut self,
        coding: &mut Coding,
        used: bool,
        lengths: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        let entries = coding.tables.len();
        let cache = if coding.cache_bits > 0 {
            1 << coding.cache_bits
        } else {
            0
        };
        let mut codes = [Code::default(); 5];
        let sizes = [GREENS + LENGTHS + cache, GREENS, GREENS, GREENS, DISTANCES];
        for (code, size) in codes.iter_mut().zip(sizes) {
            self.lengths(size, lengths)?;
            self.check()?;
            let lengths = lengths.get(..usize::from(size)).unwrap_or_default();
            if used {
                *code = coding.tables.build(lengths)?;
            } else {
                check(lengths)?;
            }
        }
        self.spend(sizes, coding.tables.len() - entries)?;
        let [green, red, blue, alpha, distance] = codes;
        if used {
            let plain = red.is_single() && blue.is_single() && alpha.is_single();
            let free = plain && green.is_single() && {
                coding.tables.symbol(green, &mut Bits::new(&[], 0)) < GREENS
            };
            coding.groups.push(Group {
                green,
                red,
                blue,
                alpha,
                distance,
                plain,
                free,
            });
        }
        Ok(())
    }

    /// Counts the work of reading codes of these sizes and of building `entries` table entries.
    fn spend(&mut self, sizes: [u16; 5], entries: usize) -> Result<(), Broken> {
        let symbols: u32 = sizes.into_iter().map(u32::from).sum();
        let entries = u32::try_from(entries).unwrap_or(u32::MAX);
        let steps = entries.saturating_mul(4).saturating_add(symbols / 2);
        self.deadline.spend(steps).map_err(|_| Broken::Timeout)
    }

    /// Reads the lengths of a code of `size` symbols.
    fn lengths(&mut self, size: u16, lengths: &mut Vec<u8>) -> Result<(), Broken> {
        const ORDER: [usize; 19] = [
            17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
        ];
        lengths.clear();
        // The simple form can name symbols that the code does not have. They have no effect.
        lengths.resize(usize::from(size.max(GREENS)), 0);
        if self.bits.read(1) == 1 {
            let two = self.bits.read(1) == 1;
            let wide = self.bits.read(1) == 1;
            let first = self.bits.read(if wide { 8 } else { 1 });
            let second = two.then(|| self.bits.read(8));
            for symbol in [Some(first), second].into_iter().flatten() {
                if let Some(slot) = lengths.get_mut(symbol as usize) {
                    *slot = 1;
                }
            }
            return Ok(());
        }
        let mut of_lengths = [0_u8; 19];
        let count = self.bits.read(4) as usize + 4;
        for at in ORDER.into_iter().take(count) {
            let len = self.bits.read(3);
            if let Some(slot) = of_lengths.get_mut(at) {
                *slot = u8::try_from(len).unwrap_or(0);
            }
        }
        self.coded_lengths(&of_lengths, size, lengths)
    }

    fn coded_lengths(
        &mut self,
        of_lengths: &[u8; 19],
        size: u16,
        lengths: &mut [u8],
    ) -> Result<(), Broken> {
        let mut tables = Tables::default();
        let code = tables.build(of_lengths)?;
        let mut symbols = u32::from(size);
        if self.bits.read(1) == 1 {
            let bits = 2 + 2 * self.bits.read(3);
            symbols = 2 + self.bits.read(bits);
            if symbols > u32::from(size) {
                return Err(Broken::Code);
            }
        }
        // Work for the table of lengths, and for each length that follows.
        let steps = symbols.saturating_mul(6).saturating_add(300);
        let size = usize::from(size);
        let mut previous = 8;
        let mut at = 0_usize;
        while at < size && symbols > 0 {
            symbols -= 1;
            self.bits.fill();
            let symbol = tables.symbol(code, &mut self.bits);
            let (len, repeat) = match symbol {
                16 => (previous, self.bits.take(2) + 3),
                17 => (0, self.bits.take(3) + 3),
                18 => (0, self.bits.take(7) + 11),
                len => (u8::try_from(len).unwrap_or(0), 1),
            };
            if symbol < 16 && len > 0 {
                previous = len;
            }
            let end = at + repeat as usize;
            if end > size {
                return Err(Broken::Code);
            }
            lengths.get_mut(at..end).unwrap_or_default().fill(len);
            at = end;
        }
        let steps = steps.saturating_sub(symbols.saturating_mul(6));
        self.deadline.spend(steps).map_err(|_| Broken::Timeout)
    }
}

/// The number of blocks of this size that cover a side.
pub(super) const fn blocks(side: u32, bits: u32) -> u32 {
    (side + (1 << bits) - 1) >> bits
}

/// Finds the groups that blocks use. If some are unused, renumbers the used ones in `blocks`.
fn used(blocks: &mut [u32], count: usize) -> Vec<bool> {
    if blocks.is_empty() {
        return vec![true; count];
    }
    let mut used = vec![false; count];
    for block in &*blocks {
        if let Some(used) = used.get_mut(*block as usize) {
            *used = true;
        }
    }
    let mut next = 0_u32;
    let places: Vec<u32> = used
        .iter()
        .map(|used| {
            let place = next;
            next += u32::from(*used);
            place
        })
        .collect();
    for block in blocks {
        *block = places.get(*block as usize).copied().unwrap_or(0);
    }
    used
}
