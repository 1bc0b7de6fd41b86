//! Turns rows of blocks into rows of pixels.

use super::super::Reason;
use super::super::header::{Frame, Headers, ScanHeader};
use super::RowSink;
use super::colour::Conversion;
use super::transform::{Side, Transform};

/// The samples of one row of MCUs, for all components.
pub(super) struct Strips {
    parts: Vec<Part>,
    conversion: Conversion,
    mcus_wide: u32,
    mcus_high: u32,
    width: usize,
    /// Number of rows of pixels that were not passed on yet.
    rows_left: u32,
    rows_of_strip: u32,
    row: Vec<u8>,
    /// Whether the rows of a component are interpolated.
    mixes: bool,
    /// Whether a row of pixels waits for the next row of MCUs.
    is_held: bool,
}

/// One component.
pub(super) struct Part {
    /// Blocks of an MCU.
    h: u32,
    v: u32,
    side: Side,
    /// How many pixels of the image a sample is wide and high.
    wide: u32,
    high: u32,
    /// How many samples a pixel of the image is wide and high, where the resolution is higher in
    /// this direction.
    across: u32,
    down: u32,
    stride: usize,
    samples: Vec<u8>,
    transform: Option<Transform>,
    /// The last row of samples of the rows of MCUs before.
    before: Vec<u8>,
    /// The row of samples of the row of pixels that waits for the next row of MCUs.
    held: Vec<u8>,
    /// The samples of the row of pixels that is being made.
    row: Vec<u8>,
    mixed: Vec<u8>,
}

/// The blocks of each component in an MCU, wide and high. A single component has one.
pub(super) fn blocks_of_mcu(frame: &Frame) -> Vec<(u32, u32)> {
    if let [_] = frame.components.as_slice() {
        return vec![(1, 1)];
    }
    let factors = frame.components.iter();
    factors
        .map(|part| (u32::from(part.h), u32::from(part.v)))
        .collect()
}

/// The number of MCUs, wide and high.
pub(super) fn mcus(frame: &Frame) -> (u32, u32) {
    let blocks = blocks_of_mcu(frame);
    let h = blocks.iter().map(|part| part.0).max().unwrap_or(1);
    let v = blocks.iter().map(|part| part.1).max().unwrap_or(1);
    (
        u32::from(frame.width).div_ceil(h * 8),
        u32::from(frame.height).div_ceil(v * 8),
    )
}

/// The side of each component's blocks: larger where the resolution is lower.
pub(super) fn sides(frame: &Frame, side: Side) -> Vec<Side> {
    let (h, v) = frame.largest();
    let components = frame.components.iter();
    components
        .map(|part| {
            // A block has as many pixels in both directions, enough for the one that has fewer
            // samples. Further ones are averaged.
            match (h / part.h, v / part.v) {
                (3, _) | (_, 3) => side,
                (across, down) => side.times(across.max(down)),
            }
        })
        .collect()
}

impl Strips {
    pub(super) fn new(frame: &Frame, side: Side, conversion: Conversion) -> Self {
        let (mcus_wide, mcus_high) = mcus(frame);
        let blocks = blocks_of_mcu(frame);
        let h_max = blocks.iter().map(|part| part.0).max().unwrap_or(1);
        let v_max = blocks.iter().map(|part| part.1).max().unwrap_or(1);
        let sides = sides(frame, side);
        let parts = blocks.iter().zip(sides).map(|(&(h, v), of_part)| {
            let pixels = of_part.pixels();
            let stride = (mcus_wide * h * pixels) as usize;
            Part {
                h,
                v,
                side: of_part,
                wide: (h_max * side.pixels() / (h * pixels)).max(1),
                high: (v_max * side.pixels() / (v * pixels)).max(1),
                across: (h * pixels / (h_max * side.pixels())).max(1),
                down: (v * pixels / (v_max * side.pixels())).max(1),
                stride,
                samples: vec![0x80; stride * (v * pixels) as usize],
                transform: None,
                before: Vec::new(),
                held: Vec::new(),
                row: Vec::new(),
                mixed: Vec::new(),
            }
        });
        let parts: Vec<Part> = parts.collect();
        Self {
            mixes: parts.iter().any(|part| part.high == 2),
            is_held: false,
            parts,
            conversion,
            mcus_wide,
            mcus_high,
            width: side.of(u32::from(frame.width)) as usize,
            rows_left: side.of(u32::from(frame.height)),
            rows_of_strip: v_max * side.pixels(),
            row: Vec::new(),
        }
    }

    /// Fixes the quantization of the components of a scan, unless an earlier scan has.
    pub(super) fn quantize(&mut self, headers: &Headers, frame: &Frame, scan: &ScanHeader) {
        for part in &scan.components {
            let Some(component) = frame.components.get(part.index) else {
                continue;
            };
            let Some(strip) = self.parts.get_mut(part.index) else {
                continue;
            };
            if strip.transform.is_none() {
                let table = headers.quantization_of(component);
                strip.transform = table.map(|table| Transform::new(strip.side, &table));
            }
        }
    }

    /// Number of MCUs in the image.
    pub(super) const fn mcus(&self) -> u32 {
        self.mcus_wide * self.mcus_high
    }

    pub(super) const fn mcus_wide(&self) -> u32 {
        self.mcus_wide
    }

    pub(super) const fn mcus_high(&self) -> u32 {
        self.mcus_high
    }

    /// The blocks of an MCU of this component, wide and high.
    pub(super) fn blocks(&self, part: usize) -> (u32, u32) {
        self.parts.get(part).map_or((0, 0), |part| (part.h, part.v))
    }

    /// The samples of a component.
    #[inline]
    pub(super) fn part(&mut self, part: usize) -> Option<&mut Part> {
        self.parts.get_mut(part)
    }

    /// Passes the rows of this row of MCUs on. If rows are interpolated, the last one waits.
    pub(super) fn show(&mut self, sink: RowSink<'_>) -> Result<(), Reason> {
        if self.is_held {
            for part in &mut self.parts {
                part.take_held(true);
            }
            self.pass(sink)?;
        }
        let rows = self.rows_of_strip.min(self.rows_left);
        let now = if self.mixes { rows.max(1) - 1 } else { rows };
        for y in 0..now {
            for part in &mut self.parts {
                part.take_row(y);
            }
            self.pass(sink)?;
        }
        self.rows_left -= rows;
        self.is_held = self.mixes && rows > 0;
        if self.is_held {
            for part in &mut self.parts {
                part.hold(now);
            }
        }
        Ok(())
    }

    /// Passes the row on that waits, if there is one.
    pub(super) fn finish(&mut self, sink: RowSink<'_>) -> Result<(), Reason> {
        if !std::mem::take(&mut self.is_held) {
            return Ok(());
        }
        for part in &mut self.parts {
            part.take_held(false);
        }
        self.pass(sink)
    }

    /// Passes a row on whose samples were taken.
    fn pass(&mut self, sink: RowSink<'_>) -> Result<(), Reason> {
        for part in &mut self.parts {
            part.fit(self.width);
        }
        let samples = self.parts.iter().map(|part| part.row.as_slice());
        let samples: Vec<&[u8]> = samples
            .map(|row| row.get(..self.width).unwrap_or(row))
            .collect();
        self.row.clear();
        self.conversion.write(&samples, &mut self.row);
        if sink(&self.row) {
            Ok(())
        } else {
            Err(Reason::TimeLimit)
        }
    }
}

impl Part {
    /// How many coefficients the blocks need.
    pub(super) fn coefficients(&self) -> usize {
        self.side.coefficients()
    }

    /// Writes the pixels of a block, whose coefficients are zero from `end` on. `x` and `y` count
    /// blocks in the row of MCUs.
    #[inline]
    pub(super) fn write(&mut self, (x, y): (u32, u32), coefficients: &[i16], end: usize) {
        let pixels = self.side.pixels() as usize;
        let start = (y as usize * pixels * self.stride) + x as usize * pixels;
        if let (Some(transform), Some(out)) = (&self.transform, self.samples.get_mut(start..)) {
            transform.write(coefficients, end, out, self.stride);
        }
    }

    fn samples_of(&self, row: u32) -> &[u8] {
        let start = row as usize * self.stride;
        let samples = self.samples.get(start..start + self.stride);
        samples.unwrap_or_default()
    }

    /// Takes the samples for row `y` of the row of MCUs.
    fn take_row(&mut self, y: u32) {
        let mut row = std::mem::take(&mut self.row);
        row.clear();
        if self.down > 1 {
            let first = self.samples_of(y * self.down);
            let second = self.samples_of(y * self.down + 1);
            row.extend(first.iter().zip(second).map(|(a, b)| a.midpoint(*b)));
        } else if self.high == 2 {
            // The nearer row of samples, and the one on the other side of the pixels.
            let near = y / 2;
            let far: &[u8] = match near.checked_sub(1) {
                _ if y % 2 == 1 => self.samples_of(near + 1),
                Some(above) => self.samples_of(above),
                None if self.before.is_empty() => self.samples_of(near),
                None => &self.before,
            };
            mix_rows(self.samples_of(near), far, &mut row);
        } else {
            row.extend_from_slice(self.samples_of(y / self.high));
        }
        self.row = row;
    }

    /// Keeps what the last row `y` of a row of MCUs needs.
    fn hold(&mut self, y: u32) {
        if self.high == 2 {
            let mut held = std::mem::take(&mut self.held);
            held.clear();
            held.extend_from_slice(self.samples_of(y / 2));
            self.before.clone_from(&held);
            self.held = held;
        } else {
            self.take_row(y);
            std::mem::swap(&mut self.row, &mut self.held);
        }
    }

    /// Takes the samples of the row that waits. `has_next`: the next row of MCUs is there.
    fn take_held(&mut self, has_next: bool) {
        let mut row = std::mem::take(&mut self.row);
        row.clear();
        if self.high == 2 && has_next {
            mix_rows(&self.held, self.samples_of(0), &mut row);
        } else {
            row.extend_from_slice(&self.held);
        }
        self.row = row;
    }

    /// Makes the row as wide as the image.
    fn fit(&mut self, width: usize) {
        if self.wide > 1 {
            widen(&self.row, self.wide as usize, width, &mut self.mixed);
        } else if self.across > 1 {
            self.mixed.clear();
            let pairs = self.row.chunks_exact(self.across as usize);
            self.mixed.extend(pairs.map(|samples| match samples {
                [a, b, ..] => a.midpoint(*b),
                _ => 0x80,
            }));
        } else {
            return;
        }
        std::mem::swap(&mut self.row, &mut self.mixed);
    }
}

/// Three quarters of the nearer row and a quarter of the farther one.
fn mix_rows(near: &[u8], far: &[u8], out: &mut Vec<u8>) {
    let mix = |near: u8, far: u8| (3 * u16::from(near) + u16::from(far) + 2) >> 2;
    let mixed = near.iter().zip(far).map(|(&near, &far)| mix(near, far));
    out.extend(mixed.map(|value| u8::try_from(value).unwrap_or(u8::MAX)));
}

/// Widens a row `times` times to `width`. Twice is done as libjpeg does: each pixel is a quarter of
/// the farther sample and three quarters of the nearer one.
fn widen(samples: &[u8], times: usize, width: usize, out: &mut Vec<u8>) {
    out.clear();
    let count = width.div_ceil(times);
    let samples = samples.get(..count).unwrap_or(samples);
    if times != 2 {
        out.extend(
            samples
                .iter()
                .flat_map(|&sample| std::iter::repeat_n(sample, times)),
        );
        return;
    }
    let mix = |near: u8, far: u8, round: u16| {
        let sum = 3 * u16::from(near) + u16::from(far) + round;
        u8::try_from(sum >> 2).unwrap_or(u8::MAX)
    };
    let mut before = samples.first().copied().unwrap_or(0);
    for (at, &sample) in samples.iter().enumerate() {
        let behind = samples.get(at + 1).copied().unwrap_or(sample);
        out.push(mix(sample, before, 1));
        out.push(mix(sample, behind, 2));
        before = sample;
    }
}
