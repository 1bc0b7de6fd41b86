//! Reads the bits of one scan: removes escape bytes and stops at markers.

use super::tables::{LOOK, Table};

/// The first of the eight restart markers.
const RST0: u8 = 0xd0;

/// The bits that [`Bits::refill`] makes available: a code of at most 17 bits and the 15 bits behind
/// it.
const REFILL: u32 = 32;

/// Reads the entropy-coded data of one scan.
///
/// A marker ends the data. Behind it, the reader supplies zeros, as libjpeg does. [`Bits::overrun`]
/// tells whether some of them were used.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// The next byte to load. It is behind the marker if one was found.
    pos: usize,
    /// The loaded bits. The next one is in the highest place.
    buf: u64,
    /// Number of bits in `buf`, including the zeros supplied behind the end of the data.
    have: u32,
    /// Number of zeros that were supplied behind the end of the data.
    pad: u32,
    /// The marker that ended the data, and its offset.
    marker: Option<(u8, usize)>,
    /// Number of codes that the Huffman table does not have, and of restart markers out of
    /// sequence.
    pub(super) warnings: u32,
}

/// The result of [`Bits::restart`].
pub(super) enum Restart {
    /// The data of the next interval follows.
    Data,
    /// A marker of another kind follows: the rest of the scan is missing.
    Ended,
    /// The file ends before any marker.
    FileEnd,
}

impl<'a> Bits<'a> {
    /// Starts at `pos`, the first byte behind the header of a scan.
    pub(super) fn new(data: &'a [u8], pos: usize) -> Self {
        Self {
            data,
            pos,
            buf: 0,
            have: 0,
            pad: 0,
            marker: None,
            warnings: 0,
        }
    }

    /// Makes at least [`REFILL`] bits available.
    #[inline]
    pub(super) fn refill(&mut self) {
        if self.have >= REFILL {
            return;
        }
        if let Some(word) = self
            .data
            .get(self.pos..)
            .and_then(|rest| rest.first_chunk::<8>())
            && self.marker.is_none()
        {
            let word = u64::from_be_bytes(*word);
            if !has_ff(word) {
                self.buf |= word >> self.have;
                let bytes = (63 - self.have) >> 3;
                self.pos += bytes as usize;
                self.have += bytes << 3;
                return;
            }
        }
        self.refill_bytes();
    }

    /// [`Bits::refill`] byte by byte, near escaped bytes, markers and the end of the file.
    #[cold]
    #[inline(never)]
    fn refill_bytes(&mut self) {
        while self.have <= 56 {
            let Some(byte) = self.next_byte() else {
                self.pad = self.pad.saturating_add(64 - self.have);
                self.have = 64;
                return;
            };
            self.buf |= u64::from(byte) << (56 - self.have);
            self.have += 8;
        }
    }

    /// The next byte of data. Returns `None` at a marker, which is kept, and at the end of the
    /// file.
    fn next_byte(&mut self) -> Option<u8> {
        if self.marker.is_some() {
            return None;
        }
        let byte = *self.data.get(self.pos)?;
        if byte != 0xff {
            self.pos += 1;
            return Some(byte);
        }
        // Further FF bytes are padding. A zero behind them makes all of them one data byte FF.
        let rest = self.data.get(self.pos..)?;
        let padding = rest.iter().position(|&byte| byte != 0xff)?;
        let code = *rest.get(padding)?;
        self.pos += padding + 1;
        if code == 0 {
            return Some(0xff);
        }
        self.marker = Some((code, self.pos - 2));
        None
    }

    /// Returns the next `count` bits (1 to 32) without consuming them.
    #[inline]
    pub(super) fn peek(&self, count: u32) -> u32 {
        (self.buf >> 32) as u32 >> (32 - count)
    }

    /// Consumes `count` bits, at most those that [`Bits::refill`] made available.
    #[inline]
    pub(super) fn consume(&mut self, count: u32) {
        self.buf <<= count;
        self.have -= count;
    }

    /// Reads `count` bits, 0 to 16. Call [`Bits::refill`] first.
    #[inline]
    pub(super) fn take(&mut self, count: u32) -> u32 {
        let value = ((self.buf >> 32) >> (32 - count)) as u32;
        self.consume(count);
        value
    }

    /// Skips `count` bits.
    #[inline]
    pub(super) fn skip(&mut self, count: u32) {
        if count < REFILL && count <= self.have {
            self.consume(count);
        } else {
            self.skip_many(count);
        }
    }

    #[cold]
    #[inline(never)]
    fn skip_many(&mut self, mut count: u32) {
        while count > 0 {
            self.refill();
            let step = count.min(REFILL);
            self.consume(step);
            count -= step;
        }
    }

    /// Reads one symbol. Call [`Bits::refill`] first; 15 bits remain available afterwards.
    #[inline]
    pub(super) fn symbol(&mut self, table: &Table) -> u32 {
        let entry = table.short(self.peek(LOOK));
        if entry == 0 {
            return self.long_symbol(table);
        }
        self.consume(entry >> 8);
        entry & 0xff
    }

    /// Reads a symbol whose code is longer than [`LOOK`] bits.
    #[cold]
    #[inline(never)]
    fn long_symbol(&mut self, table: &Table) -> u32 {
        if let Some((length, symbol)) = table.long(self.peek(16)) {
            self.consume(length);
            return symbol;
        }
        // libjpeg reads 17 bits before it gives up, and continues with symbol 0.
        self.consume(17);
        self.warnings += 1;
        0
    }

    /// How many bits were consumed behind the end of the data.
    #[inline]
    pub(super) fn overrun(&self) -> u32 {
        self.pad.saturating_sub(self.have)
    }

    /// Whether the data ended at the end of the file and not at a marker.
    pub(super) fn at_file_end(&self) -> bool {
        self.pad > 0 && self.marker.is_none()
    }

    /// Moves to the data behind restart marker `expected` (0 to 7), by libjpeg's rules for markers
    /// that are missing or out of sequence.
    pub(super) fn restart(&mut self, expected: u8) -> Restart {
        if self.have.saturating_sub(self.pad) >= 8 {
            self.warnings += 1;
        }
        (self.buf, self.have, self.pad) = (0, 0, 0);
        if self.marker.is_none() && !self.find_marker() {
            return Restart::FileEnd;
        }
        if self.marker.is_some_and(|(code, _)| code != RST0 + expected) {
            self.warnings += 1;
        }
        while let Some((code, _)) = self.marker {
            let ahead = code.wrapping_sub(RST0 + expected) & 7;
            match code {
                0xd0..=0xd7 if ahead == 1 || ahead == 2 => return Restart::Data,
                0xd0..=0xd7 if ahead < 6 => self.marker = None,
                0xc0..=0xcf | 0xd8.. => return Restart::Ended,
                _ => {
                    if !self.find_marker() {
                        return Restart::FileEnd;
                    }
                }
            }
        }
        Restart::Data
    }

    /// Moves to the next marker. Returns `false` if the file ends before it.
    fn find_marker(&mut self) -> bool {
        self.marker = None;
        match next_marker(self.data, self.pos) {
            Some(next) => {
                let passed = self.data.get(self.pos..next.at);
                if passed.is_some_and(|passed| passed.iter().any(|&byte| byte != 0xff)) {
                    self.warnings += 1;
                }
                self.pos = next.at + 2;
                self.marker = Some((next.code, next.at));
                true
            }
            None => false,
        }
    }

    /// The offset behind the last byte of which a bit was consumed.
    pub(super) fn used(&self) -> usize {
        let mut at = self.marker.map_or(self.pos, |(_, at)| at);
        let byte = |at: usize| self.data.get(at).copied();
        // The padding of the marker is not data.
        while self.marker.is_some() && at > 0 && byte(at - 1) == Some(0xff) {
            at -= 1;
        }
        for _ in 0..self.have.saturating_sub(self.pad) / 8 {
            if at < 2 {
                return at;
            }
            at -= 1;
            if byte(at) == Some(0) && byte(at - 1) == Some(0xff) {
                while at > 0 && byte(at - 1) == Some(0xff) {
                    at -= 1;
                }
            }
        }
        at
    }
}

/// A marker: its code, and the offset of the FF before it.
pub(super) struct Marker {
    pub(super) code: u8,
    pub(super) at: usize,
}

/// Finds the next marker at or behind `from`. Skips other bytes, and FF 00.
pub(super) fn next_marker(data: &[u8], mut from: usize) -> Option<Marker> {
    loop {
        let rest = data.get(from..)?;
        let first = from + rest.iter().position(|&byte| byte == 0xff)?;
        let rest = data.get(first..)?;
        let code_at = first + rest.iter().position(|&byte| byte != 0xff)?;
        match *data.get(code_at)? {
            0 => from = code_at + 1,
            code => {
                return Some(Marker {
                    code,
                    at: code_at - 1,
                });
            }
        }
    }
}

/// Whether one of the eight bytes is FF.
#[inline]
fn has_ff(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    (!word).wrapping_sub(ONES) & word & HIGH != 0
}
