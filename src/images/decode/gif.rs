//! Decodes GIF: reads the codes of every frame, and tracks only their lengths, until all pixels are
//! there.
//!
//! As in Chromium, a frame needs all its pixels, including those outside of the screen, and no
//! more. The end code may be missing, and bytes behind the last pixel are not read. The first code
//! need not clear the table. Code sizes up to 8 are accepted. No browser shows code size 9, which
//! the format forbids.

use super::deadline::Deadline;
use super::{Fault, array};

/// The memory of the table of codes, in bytes.
pub(super) const MEMORY: u64 = 64 * 1024;
const COLOUR_TABLE: u8 = 0x80;
const CODES: usize = 4096;

pub(super) fn decode(bytes: &[u8], deadline: &mut Deadline) -> Result<(), Fault> {
    let cut = || Fault::Corrupt("it ends inside of a block".to_owned());
    let [flags] = array(bytes, 10).ok_or_else(cut)?;
    let mut at = 13 + colours(flags);
    let mut frames = 0_u32;
    let mut table = Box::new(Lzw::new());
    while let Some([kind]) = array(bytes, at) {
        at += 1;
        match kind {
            b'!' => {
                at += 1;
                while !next_block(bytes, &mut at).ok_or_else(cut)?.is_empty() {}
            }
            b',' => {
                frames = frames.saturating_add(1);
                let start = at;
                frame(bytes, &mut at, &mut table, deadline)
                    .ok_or_else(cut)?
                    .map_err(|fault| fault.of_frame(frames, start))?;
            }
            _ => break,
        }
    }
    if frames == 0 {
        return Err(Fault::Corrupt("there is no frame".to_owned()));
    }
    Ok(())
}

fn colours(flags: u8) -> usize {
    if flags & COLOUR_TABLE == 0 {
        return 0;
    }
    3 * (2_usize << (flags & 0x07))
}

/// The bytes of the next sub-block; empty for the terminator. Returns `None` at the end of the
/// file.
fn next_block<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let len = usize::from(*bytes.get(*at)?);
    let start = *at + 1;
    let block = bytes.get(start..start + len)?;
    *at = start + len;
    Some(block)
}

/// What is wrong with a frame.
enum Broken {
    Codes(String),
    Timeout,
}

impl Broken {
    fn of_frame(self, frame: u32, at: usize) -> Fault {
        match self {
            Self::Codes(what) => Fault::Corrupt(format!("frame {frame} at byte {at} {what}")),
            Self::Timeout => Fault::Timeout,
        }
    }
}

/// Reads one image. Returns `None` if the file ends inside of it.
fn frame(
    bytes: &[u8],
    at: &mut usize,
    table: &mut Lzw,
    deadline: &mut Deadline,
) -> Option<Result<(), Broken>> {
    let width = u16::from_le_bytes(array(bytes, *at + 4)?);
    let height = u16::from_le_bytes(array(bytes, *at + 6)?);
    let [flags] = array(bytes, *at + 8)?;
    *at += 9 + colours(flags);
    let [size] = array(bytes, *at)?;
    *at += 1;
    if size > 8 {
        return Some(Err(Broken::Codes(format!(
            "has LZW code size {size}, but the sizes are 1 to 8"
        ))));
    }
    let wanted = u64::from(width) * u64::from(height);
    table.begin(size, wanted);
    let mut state = State::More;
    loop {
        let block = next_block(bytes, at)?;
        if block.is_empty() {
            break;
        }
        if deadline.spend(2048).is_err() {
            return Some(Err(Broken::Timeout));
        }
        if state == State::More {
            state = table.read(block);
        }
    }
    let missing = table.missing;
    Some(match state {
        _ if missing == 0 => Ok(()),
        State::Broken(code) => Err(Broken::Codes(format!(
            "has code {code} where the table has {} codes, and {missing} of {wanted} pixels missing",
            table.next
        ))),
        _ => Err(Broken::Codes(format!(
            "ends with {missing} of {wanted} pixels missing"
        ))),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    More,
    Ended,
    Broken(u16),
}

/// The table of an LZW decoder. It stores of each code only how many pixels it stands for.
struct Lzw {
    lengths: [u32; CODES],
    clear: u16,
    next: u16,
    width: u32,
    first_width: u32,
    previous: Option<u16>,
    bits: u32,
    count: u32,
    missing: u64,
}

impl Lzw {
    const fn new() -> Self {
        Self {
            lengths: [1; CODES],
            clear: 0,
            next: 0,
            width: 0,
            first_width: 0,
            previous: None,
            bits: 0,
            count: 0,
            missing: 0,
        }
    }

    fn begin(&mut self, size: u8, pixels: u64) {
        self.clear = 1 << size;
        self.first_width = u32::from(size) + 1;
        (self.bits, self.count, self.missing) = (0, 0, pixels);
        self.reset();
    }

    const fn reset(&mut self) {
        self.width = self.first_width;
        self.next = self.clear + 2;
        self.previous = None;
    }

    fn length(&self, code: u16) -> u32 {
        // Codes below the clear code stand for one pixel, whatever an earlier frame with wider
        // codes left in the table.
        if code < self.clear {
            return 1;
        }
        self.lengths.get(usize::from(code)).copied().unwrap_or(1)
    }

    fn read(&mut self, block: &[u8]) -> State {
        for byte in block {
            self.bits |= u32::from(*byte) << self.count;
            self.count += 8;
            while self.count >= self.width {
                let [low, high, ..] = (self.bits & ((1 << self.width) - 1)).to_le_bytes();
                self.bits >>= self.width;
                self.count -= self.width;
                let state = self.code(u16::from_le_bytes([low, high]));
                if state != State::More {
                    return state;
                }
            }
        }
        State::More
    }

    fn code(&mut self, code: u16) -> State {
        if code == self.clear {
            self.reset();
            return State::More;
        }
        if code == self.clear + 1 {
            return State::Ended;
        }
        let known = code < self.clear || (code < self.next && code > self.clear);
        let length = match self.previous {
            _ if known => self.length(code),
            Some(previous) if code == self.next => self.length(previous).saturating_add(1),
            _ => return State::Broken(code),
        };
        if let Some(previous) = self.previous {
            let added = self.length(previous).saturating_add(1);
            if let Some(slot) = self.lengths.get_mut(usize::from(self.next)) {
                *slot = added;
                self.next += 1;
            }
        }
        // Also checked after the first code: with code size 1, the table begins full for its width.
        if self.next >> self.width != 0 && self.width < 12 {
            self.width += 1;
        }
        self.previous = Some(code);
        self.missing = self.missing.saturating_sub(u64::from(length));
        if self.missing == 0 {
            State::Ended
        } else {
            State::More
        }
    }
}
