//! The boolean entropy decoder of VP8 (RFC 6386, section 7). It detects the end of data as libwebp
//! does.

/// The cost of reading a predictable bool.
const STEPS_PER_BOOL: u32 = 3;
/// The additional cost of 56 bits: a processor mispredicts every second one.
const STEPS_PER_LOAD: u32 = 84;

/// Reads bools. All numbers are kept as in libwebp, so that the end is found at the same place.
pub(super) struct Bools<'a> {
    bytes: &'a [u8],
    value: u64,
    /// The range minus one.
    range: u64,
    /// Number of unused bits of the value, minus eight. If negative, a byte is needed.
    bits: i32,
    ended: bool,
    /// Steps of work since the last call of [`Self::take_steps`].
    steps: u32,
}

impl<'a> Bools<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let mut bools = Self {
            bytes,
            value: 0,
            range: 254,
            bits: -8,
            ended: false,
            steps: 0,
        };
        bools.load();
        bools
    }

    /// Whether a byte behind the last one was needed.
    pub(super) const fn ended(&self) -> bool {
        self.ended
    }

    /// Counts reading this number of bools as work.
    #[inline]
    pub(super) fn count(&mut self, bools: usize) {
        let steps = u32::try_from(bools).unwrap_or(u32::MAX);
        self.steps = self
            .steps
            .saturating_add(steps.saturating_mul(STEPS_PER_BOOL));
    }

    /// Returns and resets the counted work.
    pub(super) const fn take_steps(&mut self) -> u32 {
        let steps = self.steps;
        self.steps = 0;
        steps
    }

    #[inline(never)]
    fn load(&mut self) {
        if let Some((eight, _)) = self.bytes.split_first_chunk::<8>() {
            self.value = self.value << 56 | u64::from_be_bytes(*eight) >> 8;
            self.bits += 56;
            self.steps = self.steps.saturating_add(STEPS_PER_LOAD);
            self.bytes = self.bytes.get(7..).unwrap_or_default();
        } else {
            self.load_last();
        }
    }

    #[cold]
    fn load_last(&mut self) {
        if let Some((byte, rest)) = self.bytes.split_first() {
            self.value = self.value << 8 | u64::from(*byte);
            self.bits += 8;
            self.bytes = rest;
        } else if self.ended {
            self.bits = 0;
        } else {
            self.value <<= 8;
            self.bits += 8;
            self.ended = true;
        }
    }

    /// Reads one bool that is false with this probability (in 256).
    #[inline]
    pub(super) fn bit(&mut self, probability: u8) -> bool {
        if self.bits < 0 {
            self.load();
        }
        let split = (self.range * u64::from(probability)) >> 8;
        let bit = self.value >> self.bits > split;
        let range = if bit {
            self.value -= (split + 1) << self.bits;
            self.range - split
        } else {
            split + 1
        };
        let shift = range.leading_zeros().saturating_sub(56);
        self.range = (range << shift) - 1;
        self.bits -= shift.cast_signed();
        bit
    }

    /// Reads a number of `bits` bits.
    pub(super) fn number(&mut self, bits: u32) -> u32 {
        (0..bits).fold(0, |number, _| number << 1 | u32::from(self.bit(128)))
    }

    /// Reads a flag.
    pub(super) fn flag(&mut self) -> bool {
        self.bit(128)
    }

    /// Skips an optional number with its flag and its sign.
    pub(super) fn skip_signed(&mut self, bits: u32) {
        if self.flag() {
            self.number(bits + 1);
        }
    }
}
