//! VP8 key frames (RFC 6386): reads headers, modes and tokens of all macroblocks, without
//! reconstructing pixels.

use super::super::deadline::Deadline;
use super::super::{Fault, array};
use super::bools::Bools;
use super::vp8_tables::{Coefficients, DEFAULTS, MODES, UPDATES};

/// Modes of subblocks, in the order of the tables. The first four are also those of whole
/// macroblocks.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    Dc,
    Tm,
    Ve,
    He,
    Ld,
    Rd,
    Vr,
    Vl,
    Hd,
    Hu,
}

/// Reads the whole bitstream. Returns width and height.
pub(super) fn decode(bytes: &[u8], deadline: &mut Deadline) -> Result<(u32, u32), Fault> {
    let (mut frame, size) = Frame::start(bytes).map_err(|what| of_vp8(&what))?;
    let columns = usize::try_from(size.0.div_ceil(16)).unwrap_or(usize::MAX);
    let mut above = vec![Above::default(); columns];
    let mut infos = vec![Info::default(); columns];
    for row in 0..size.1.div_ceil(16) {
        frame.modes(&mut above, &mut infos);
        deadline.spend(frame.bools.take_steps())?;
        if frame.bools.ended() {
            return Err(of_vp8(&format!(
                "its first partition ends in row {row} of macroblocks"
            )));
        }
        if !frame.tokens(row, &mut above, &infos, deadline)? {
            return Err(of_vp8(&format!(
                "its tokens end in row {row} of macroblocks"
            )));
        }
    }
    Ok(size)
}

fn of_vp8(what: &str) -> Fault {
    Fault::Corrupt(format!("the VP8 bitstream is broken: {what}"))
}

/// The state of a macroblock that the one below needs.
#[derive(Clone, Copy)]
struct Above {
    modes: [Mode; 4],
    /// Which blocks had coefficients: four of luma, two of each chroma, and the block of their
    /// means.
    luma: [bool; 4],
    chroma: [[bool; 2]; 2],
    means: bool,
}

impl Default for Above {
    fn default() -> Self {
        Self {
            modes: [Mode::Dc; 4],
            luma: [false; 4],
            chroma: [[false; 2]; 2],
            means: false,
        }
    }
}

/// The information about a macroblock in the first partition on which its tokens depend.
#[derive(Clone, Copy, Default)]
struct Info {
    skipped: bool,
    subblocks: bool,
}

struct Frame<'a> {
    bools: Bools<'a>,
    partitions: Vec<Bools<'a>>,
    /// Probabilities of the segments, if macroblocks name their segment.
    segments: Option<[u8; 3]>,
    skip: Option<u8>,
    coefficients: Box<Positions>,
}

impl<'a> Frame<'a> {
    fn start(bytes: &'a [u8]) -> Result<(Self, (u32, u32)), String> {
        let short = || "its header is cut".to_owned();
        let [low, middle, high] = array(bytes, 0).ok_or_else(short)?;
        let tag = u32::from_le_bytes([low, middle, high, 0]);
        let side = |at| array(bytes, at).map(|side| u32::from(u16::from_le_bytes(side) & 0x3fff));
        let (width, height) = (side(6).ok_or_else(short)?, side(8).ok_or_else(short)?);
        if tag & 1 != 0 || tag >> 1 & 7 > 3 || tag >> 4 & 1 == 0 || width == 0 || height == 0 {
            return Err(format!(
                "it begins with tag {tag:06X}, {width} by {height}, which is not a shown key frame"
            ));
        }
        let rest = bytes.get(10..).unwrap_or_default();
        let Some((first, rest)) = rest.split_at_checked((tag >> 5) as usize) else {
            return Err("its first partition is cut".to_owned());
        };
        let mut frame = Self {
            bools: Bools::new(first),
            partitions: Vec::new(),
            segments: None,
            skip: None,
            coefficients: by_position(&DEFAULTS),
        };
        frame.headers(rest)?;
        Ok((frame, (width, height)))
    }

    fn headers(&mut self, rest: &'a [u8]) -> Result<(), String> {
        let bools = &mut self.bools;
        bools.number(2);
        if bools.flag() {
            self.segments = segments(bools);
        }
        if bools.ended() {
            return Err("its segments are cut".to_owned());
        }
        bools.number(10);
        if bools.flag() && bools.flag() {
            (0..8).for_each(|_| bools.skip_signed(6));
        }
        if bools.ended() {
            return Err("its filter is cut".to_owned());
        }
        let count = 1_usize << bools.number(2);
        self.partitions = partitions(rest, count)?;
        bools.number(7);
        (0..5).for_each(|_| bools.skip_signed(4));
        bools.flag();
        let updates = UPDATES.as_flattened().as_flattened().as_flattened();
        let mut coefficients = DEFAULTS;
        let values = coefficients
            .as_flattened_mut()
            .as_flattened_mut()
            .as_flattened_mut();
        for (value, update) in values.iter_mut().zip(updates) {
            if bools.bit(*update) {
                *value = byte(bools);
            }
        }
        self.coefficients = by_position(&coefficients);
        if bools.flag() {
            self.skip = Some(byte(bools));
        }
        Ok(())
    }

    /// Reads the modes of a row of macroblocks.
    fn modes(&mut self, above: &mut [Above], infos: &mut [Info]) {
        let bools = &mut self.bools;
        let mut left = [Mode::Dc; 4];
        for (above, info) in above.iter_mut().zip(infos) {
            if let Some([first, second, third]) = self.segments {
                let upper = bools.bit(first);
                bools.bit(if upper { third } else { second });
            }
            info.skipped = self.skip.is_some_and(|skip| bools.bit(skip));
            info.subblocks = !bools.bit(145);
            bools.count(if info.subblocks { 64 } else { 8 });
            if info.subblocks {
                for left in &mut left {
                    for above in &mut above.modes {
                        *left = subblock_mode(bools, *above, *left);
                        *above = *left;
                    }
                }
            } else {
                let mode = match (bools.bit(156), 128, 163) {
                    (true, tm, _) if bools.bit(tm) => Mode::Tm,
                    (true, ..) => Mode::He,
                    (false, _, ve) if bools.bit(ve) => Mode::Ve,
                    (false, ..) => Mode::Dc,
                };
                left = [mode; 4];
                above.modes = left;
            }
            // The mode of chroma.
            if bools.bit(142) && bools.bit(114) {
                bools.bit(183);
            }
        }
    }

    /// Reads the tokens of a row of macroblocks. Returns `false` if the partition ended.
    fn tokens(
        &mut self,
        row: u32,
        above: &mut [Above],
        infos: &[Info],
        deadline: &mut Deadline,
    ) -> Result<bool, Fault> {
        let index = row as usize % self.partitions.len().max(1);
        let Some(bools) = self.partitions.get_mut(index) else {
            return Ok(false);
        };
        let mut left = Above::default();
        for (above, info) in above.iter_mut().zip(infos) {
            if info.skipped {
                if !info.subblocks {
                    (above.means, left.means) = (false, false);
                }
                (above.luma, left.luma) = ([false; 4], [false; 4]);
                (above.chroma, left.chroma) = ([[false; 2]; 2], [[false; 2]; 2]);
            } else {
                macroblock(bools, &self.coefficients, info.subblocks, above, &mut left);
                deadline.spend(bools.take_steps())?;
            }
            if bools.ended() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Skips the changes of segments. Returns the probabilities of a macroblock's segment, if it is
/// named.
fn segments(bools: &mut Bools<'_>) -> Option<[u8; 3]> {
    let named = bools.flag();
    if bools.flag() {
        bools.flag();
        (0..4).for_each(|_| bools.skip_signed(7));
        (0..4).for_each(|_| bools.skip_signed(6));
    }
    named.then(|| [(); 3].map(|()| if bools.flag() { byte(bools) } else { 255 }))
}

fn byte(bools: &mut Bools<'_>) -> u8 {
    let [byte, ..] = bools.number(8).to_le_bytes();
    byte
}

/// The partitions of tokens, by the lengths in front of them. As in libwebp, the last ones may be
/// truncated, but the last one may not be empty.
fn partitions(bytes: &[u8], count: usize) -> Result<Vec<Bools<'_>>, String> {
    let cut = || format!("its {count} partitions are cut");
    let (sizes, mut rest) = bytes.split_at_checked(3 * (count - 1)).ok_or_else(cut)?;
    let mut partitions = Vec::with_capacity(count);
    for size in sizes.chunks_exact(3) {
        let [low, middle, high] = array(size, 0).ok_or_else(cut)?;
        let len = u32::from_le_bytes([low, middle, high, 0]) as usize;
        let (partition, behind) = rest.split_at(len.min(rest.len()));
        partitions.push(Bools::new(partition));
        rest = behind;
    }
    if rest.is_empty() {
        return Err(cut());
    }
    partitions.push(Bools::new(rest));
    Ok(partitions)
}

fn subblock_mode(bools: &mut Bools<'_>, above: Mode, left: Mode) -> Mode {
    let [dc, tm, ve, branch, he, rd, ld, vl, hd] = MODES
        .get(above as usize)
        .and_then(|modes| modes.get(left as usize))
        .copied()
        .unwrap_or_default();
    if !bools.bit(dc) {
        Mode::Dc
    } else if !bools.bit(tm) {
        Mode::Tm
    } else if !bools.bit(ve) {
        Mode::Ve
    } else if !bools.bit(branch) {
        match () {
            () if !bools.bit(he) => Mode::He,
            () if !bools.bit(rd) => Mode::Rd,
            () => Mode::Vr,
        }
    } else if !bools.bit(ld) {
        Mode::Ld
    } else if !bools.bit(vl) {
        Mode::Vl
    } else if !bools.bit(hd) {
        Mode::Hd
    } else {
        Mode::Hu
    }
}

/// Reads the coefficients of all blocks of a macroblock.
fn macroblock(
    bools: &mut Bools<'_>,
    [without_means, means, chroma, whole]: &Positions,
    subblocks: bool,
    above: &mut Above,
    left: &mut Above,
) {
    let (kind, first) = if subblocks {
        (whole, 0)
    } else {
        let context = usize::from(above.means) + usize::from(left.means);
        let any = block(bools, means, context, 0);
        (above.means, left.means) = (any, any);
        (without_means, 1)
    };
    for left in &mut left.luma {
        for above in &mut above.luma {
            *left = block(bools, kind, usize::from(*above) + usize::from(*left), first);
            *above = *left;
        }
    }
    for (above, left) in above.chroma.iter_mut().zip(&mut left.chroma) {
        for left in left {
            for above in &mut *above {
                *left = block(bools, chroma, usize::from(*above) + usize::from(*left), 0);
                *above = *left;
            }
        }
    }
}

/// The probabilities of the coefficients, by kind of block, position and context. There is one
/// position behind the last one.
type Positions = [[[[u8; 11]; 3]; 17]; 4];

fn by_position(coefficients: &Coefficients) -> Box<Positions> {
    let mut kinds = Box::new([[[[0; 11]; 3]; 17]; 4]);
    for (positions, [b0, b1, b2, b3, b4, b5, b6, b7]) in kinds.iter_mut().zip(coefficients) {
        let bands = [
            b0, b1, b2, b3, b6, b4, b5, b6, b6, b6, b6, b6, b6, b6, b6, b7, b0,
        ];
        for (position, band) in positions.iter_mut().zip(bands) {
            *position = *band;
        }
    }
    kinds
}

/// Reads the coefficients of one block from `first` on. Returns whether there are any.
fn block(
    bools: &mut Bools<'_>,
    positions: &[[[u8; 11]; 3]; 17],
    context: usize,
    first: usize,
) -> bool {
    // One for each coefficient, and one more. The others are counted with the coefficients that are
    // not zero.
    bools.count(17 - first);
    let mut at = first;
    let position = |at: usize| {
        let [first, ..] = positions;
        positions.get(at).unwrap_or(first)
    };
    let [zero, one, many] = position(at);
    let mut node = match context {
        0 => zero,
        1 => one,
        _ => many,
    };
    while at < 16 {
        let [end, is_zero, is_one, ..] = node;
        if !bools.bit(*end) {
            return at > first;
        }
        let mut is_zero = *is_zero;
        let mut is_one = *is_one;
        while !bools.bit(is_zero) {
            at += 1;
            if at == 16 {
                return true;
            }
            let [zero, ..] = position(at);
            node = zero;
            let [_, next_zero, next_one, ..] = node;
            (is_zero, is_one) = (*next_zero, *next_one);
        }
        at += 1;
        let [_, one, many] = position(at);
        bools.count(3);
        if bools.bit(is_one) {
            let more = large(bools, node);
            bools.count(more);
            node = many;
        } else {
            node = one;
        }
        // The sign.
        bools.bit(128);
    }
    true
}

/// Skips the value of a coefficient above one. Returns the number of bools that it took, or
/// slightly more.
fn large(bools: &mut Bools<'_>, [_, _, _, p3, p4, p5, p6, p7, p8, p9, p10]: &[u8; 11]) -> usize {
    if !bools.bit(*p3) {
        if bools.bit(*p4) {
            bools.bit(*p5);
        }
        3
    } else if !bools.bit(*p6) {
        if bools.bit(*p7) {
            bools.bit(165);
            bools.bit(145);
        } else {
            bools.bit(159);
        }
        5
    } else {
        let upper = bools.bit(*p8);
        let lower = bools.bit(if upper { *p10 } else { *p9 });
        let extra: &[u8] = match (upper, lower) {
            (false, false) => &[173, 148, 140],
            (false, true) => &[176, 155, 140, 135],
            (true, false) => &[180, 157, 141, 134, 130],
            (true, true) => &[254, 254, 243, 230, 196, 177, 153, 140, 133, 130, 129],
        };
        for probability in extra {
            bools.bit(*probability);
        }
        4 + extra.len()
    }
}
