//! Huffman tables, as a DHT segment defines them and as the decoder uses them.

/// Number of bits of a code that are looked up at once.
pub(super) const LOOK: u32 = 11;

const SIZE: usize = 1 << LOOK;

/// The largest symbol of a DC table in a lossy JPEG.
const MAX_DC: u8 = 15;

/// The definition of a table: the number of codes of each length, and their symbols.
#[derive(Clone)]
pub(super) struct Spec {
    pub(super) counts: [u8; 16],
    pub(super) symbols: Vec<u8>,
}

impl Spec {
    fn new(counts: [u8; 16], symbols: &[u8]) -> Self {
        Self {
            counts,
            symbols: symbols.to_vec(),
        }
    }

    /// Whether the codes are possible and, in a DC table, stand for differences of at most 15 bits.
    pub(super) fn is_valid(&self, dc: bool) -> bool {
        let mut code = 0_u32;
        for (count, length) in self.counts.iter().zip(1..) {
            code = (code << 1) + u32::from(*count);
            // No code consists of ones alone, unless its length has no codes.
            if *count > 0 && code >= 1 << length {
                return false;
            }
        }
        !dc || self.symbols.iter().all(|&symbol| symbol <= MAX_DC)
    }
}

/// A table that is prepared for decoding.
pub(super) struct Table {
    /// Indexed by the next [`LOOK`] bits: length of the code and symbol, or 0 if the code is
    /// longer.
    short: [u16; SIZE],
    /// Indexed by the next [`LOOK`] bits: as many AC coefficients as these bits contain, see
    /// [`Run`].
    runs: [u32; SIZE],
    /// Indexed by length - 1: the end of the codes of this length, as 16 bits, and the number to
    /// add to a code to get the index of its symbol.
    ends: [(u32, u32); 16],
    symbols: [u8; 256],
}

/// A step through the coefficients of a sequential block.
#[derive(Clone, Copy)]
pub(super) struct Run(u32);

impl Run {
    /// Number of bits of codes and values. 0 if the first code is longer than [`LOOK`].
    #[inline]
    pub(super) fn bits(self) -> u32 {
        self.0 & 0xff
    }

    /// Number of coefficients that the step passes.
    #[inline]
    pub(super) fn coefficients(self) -> u32 {
        (self.0 >> 8) & 0xff
    }

    /// Number of coefficients before the last symbol. The step is not usable if the block ends
    /// among them.
    #[inline]
    pub(super) fn before_last(self) -> u32 {
        self.0 >> 16
    }
}

impl Table {
    /// Prepares the table of a valid `spec`. With `runs`, also the steps for [`Table::run`].
    pub(super) fn new(spec: &Spec, runs: bool) -> Box<Self> {
        let mut table = Box::new(Self {
            short: [0; SIZE],
            runs: [0; SIZE],
            ends: [(0, 0); 16],
            symbols: [0; 256],
        });
        for (to, from) in table.symbols.iter_mut().zip(&spec.symbols) {
            *to = *from;
        }
        let (mut code, mut index) = (0_u32, 0_u32);
        let mut symbols = spec.symbols.iter();
        for ((&count, end), length) in spec.counts.iter().zip(&mut table.ends).zip(1_u16..) {
            code <<= 1;
            let first = code;
            code += u32::from(count);
            if count > 0 {
                *end = (code << (16 - length), index.wrapping_sub(first));
            }
            index += u32::from(count);
            for (code, symbol) in (first..code).zip(&mut symbols) {
                let Some(spare) = LOOK.checked_sub(u32::from(length)) else {
                    break;
                };
                let at = (code << spare) as usize;
                if let Some(places) = table.short.get_mut(at..at + (1 << spare)) {
                    places.fill(length << 8 | u16::from(*symbol));
                }
            }
        }
        if runs {
            for window in 0..1 << LOOK {
                let run = table.longest_run(window);
                if let Some(place) = table.runs.get_mut(window as usize) {
                    *place = run;
                }
            }
        }
        table
    }

    /// Joins the symbols whose codes lie wholly in the [`LOOK`] bits of `window`. The value behind
    /// the last code need not, because it is only skipped.
    fn longest_run(&self, window: u32) -> u32 {
        let (mut bits, mut passed, mut before) = (0, 0, 0);
        while bits < LOOK && passed < 63 {
            let entry = self.short(window << bits);
            let length = entry >> 8;
            if length == 0 || bits + length > LOOK {
                break;
            }
            before = passed;
            bits += length + (entry & 15);
            passed += ac_step(entry & 0xff);
        }
        before << 16 | passed << 8 | bits
    }

    /// Length of the code (bits 8 and above) and symbol (bits 0 to 7) at the start of `window`.
    #[inline]
    pub(super) fn short(&self, window: u32) -> u32 {
        self.short
            .get(window as usize & (SIZE - 1))
            .map_or(0, |&entry| u32::from(entry))
    }

    /// The longest step at the start of `window`.
    #[inline]
    pub(super) fn run(&self, window: u32) -> Run {
        Run(self
            .runs
            .get(window as usize & (SIZE - 1))
            .copied()
            .unwrap_or(0))
    }

    /// Length and symbol of a code longer than [`LOOK`] at the start of the 16 bits of `window`.
    /// Returns `None` if the table has no such code.
    pub(super) fn long(&self, window: u32) -> Option<(u32, u32)> {
        let longer = self.ends.iter().zip(1..).skip(LOOK as usize);
        for (&(end, offset), length) in longer {
            if window < end {
                let index = (window >> (16 - length)).wrapping_add(offset);
                return self
                    .symbols
                    .get(index as usize)
                    .map(|&symbol| (length, u32::from(symbol)));
            }
        }
        None
    }
}

/// How many coefficients a symbol of a sequential AC table passes. The end of a block passes 64.
#[inline]
pub(super) fn ac_step(symbol: u32) -> u32 {
    match (symbol >> 4, symbol & 15) {
        (15, 0) => 16,
        (_, 0) => 64,
        (zeros, _) => zeros + 1,
    }
}

/// The standard tables (annex K.3), which motion JPEG leaves out: luminance, then chrominance.
pub(super) fn standard(dc: bool, slot: u8) -> Option<Spec> {
    match (dc, slot) {
        (true, 0) => Some(Spec::new(DC_COUNTS[0], &DC_SYMBOLS)),
        (true, 1) => Some(Spec::new(DC_COUNTS[1], &DC_SYMBOLS)),
        (false, 0) => Some(Spec::new(AC_COUNTS[0], &AC_LUMINANCE)),
        (false, 1) => Some(Spec::new(AC_COUNTS[1], &AC_CHROMINANCE)),
        _ => None,
    }
}

const DC_COUNTS: [[u8; 16]; 2] = [
    [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
    [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0],
];

const DC_SYMBOLS: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

const AC_COUNTS: [[u8; 16]; 2] = [
    [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d],
    [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77],
];

#[rustfmt::skip]
const AC_LUMINANCE: [u8; 162] = [
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71,
    0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72,
    0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37,
    0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59,
    0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83,
    0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3,
    0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
    0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
    0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];

#[rustfmt::skip]
const AC_CHROMINANCE: [u8; 162] = [
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22,
    0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1,
    0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36,
    0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58,
    0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a,
    0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a,
    0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba,
    0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
    0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];
