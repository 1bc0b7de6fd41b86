//! The coefficients of an image whose components or frequencies stand in several scans.

use super::super::Reason;
use super::super::header::{Frame, ScanHeader};
use super::RowSink;
use super::rows::{Strips, blocks_of_mcu, mcus, sides};
use super::transform::Side;

/// The coefficients that the size needs, of all components.
pub(super) struct Planes {
    parts: Vec<Plane>,
    mcus: (u32, u32),
}

/// The coefficients of one component.
pub(super) struct Plane {
    /// Blocks in a row, including those that complete the last MCU.
    blocks_wide: u32,
    /// Blocks in a row and rows that belong to the component alone.
    own: (u32, u32),
    /// Blocks of an MCU.
    h: u32,
    v: u32,
    /// Coefficients that are kept of each block.
    pub(super) kept: usize,
    values: Vec<i16>,
    /// In a progressive image, a bit for each coefficient of each block that is not zero.
    pub(super) masks: Vec<u64>,
}

/// The blocks of the MCUs of a scan.
pub(super) struct Places {
    /// Number of MCUs.
    pub(super) total: u32,
    /// For each component of the scan: its index in the frame, and the layout of its blocks.
    pub(super) parts: Vec<Layout>,
}

/// Where the blocks of a component are in the MCUs of a scan.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) index: usize,
    mcus_wide: u32,
    h: u32,
    v: u32,
    blocks_wide: u32,
}

impl Layout {
    /// Number of blocks in an MCU.
    pub(super) const fn blocks(&self) -> u32 {
        self.h * self.v
    }

    /// The block `number` of the MCU `mcu`.
    #[inline]
    pub(super) const fn block(&self, mcu: u32, number: u32) -> usize {
        let x = (mcu % self.mcus_wide) * self.h + number % self.h;
        let y = (mcu / self.mcus_wide) * self.v + number / self.h;
        (y * self.blocks_wide + x) as usize
    }
}

impl Planes {
    pub(super) fn new(frame: &Frame, side: Side) -> Self {
        let (wide, high) = mcus(frame);
        let blocks = blocks_of_mcu(frame);
        let parts = frame.components.iter().zip(blocks).zip(sides(frame, side));
        let parts = parts.map(|((component, (h, v)), side)| {
            let blocks = (wide * h) as usize * (high * v) as usize;
            let kept = side.coefficients();
            Plane {
                blocks_wide: wide * h,
                own: (component.blocks_wide, component.blocks_high),
                h,
                v,
                kept,
                values: vec![0; blocks * kept],
                masks: if frame.progressive {
                    vec![0; blocks]
                } else {
                    Vec::new()
                },
            }
        });
        Self {
            parts: parts.collect(),
            mcus: (wide, high),
        }
    }

    /// The component at this index of the frame.
    pub(super) fn part(&mut self, index: usize) -> Option<&mut Plane> {
        self.parts.get_mut(index)
    }

    /// Where the blocks of a scan are.
    pub(super) fn places(&self, scan: &ScanHeader) -> Places {
        let is_alone = scan.components.len() == 1;
        let mut total = self.mcus.0 * self.mcus.1;
        let mut parts = Vec::with_capacity(scan.components.len());
        for part in &scan.components {
            let Some(plane) = self.parts.get(part.index) else {
                continue;
            };
            let blocks_wide = plane.blocks_wide;
            // The MCU of a component alone is one block, and its padding is not in the data.
            let (mcus_wide, h, v) = if is_alone {
                total = plane.own.0 * plane.own.1;
                (plane.own.0, 1, 1)
            } else {
                (self.mcus.0, plane.h, plane.v)
            };
            parts.push(Layout {
                index: part.index,
                mcus_wide,
                h,
                v,
                blocks_wide,
            });
        }
        Places { total, parts }
    }

    /// Passes all rows on.
    pub(super) fn show(&self, strips: &mut Strips, sink: RowSink<'_>) -> Result<(), Reason> {
        for mcu_row in 0..strips.mcus_high() {
            for (index, plane) in self.parts.iter().enumerate() {
                let Some(strip) = strips.part(index) else {
                    continue;
                };
                for y in 0..plane.v {
                    let row = (mcu_row * plane.v + y) * plane.blocks_wide;
                    for x in 0..plane.blocks_wide {
                        let block = plane.block((row + x) as usize);
                        let last = block.iter().rposition(|&value| value != 0);
                        strip.write((x, y), block, last.map_or(1, |last| last + 1));
                    }
                }
            }
            strips.show(sink)?;
        }
        strips.finish(sink)
    }
}

impl Plane {
    fn block(&self, number: usize) -> &[i16] {
        let start = number * self.kept;
        self.values
            .get(start..start + self.kept)
            .unwrap_or_default()
    }

    /// The coefficients of a block, in zigzag order.
    #[inline]
    pub(super) fn block_mut(&mut self, number: usize) -> &mut [i16] {
        let start = number * self.kept;
        self.values
            .get_mut(start..start + self.kept)
            .unwrap_or_default()
    }

    /// The coefficients and the mask of a block.
    #[inline]
    pub(super) fn both(&mut self, number: usize) -> (&mut [i16], Option<&mut u64>) {
        let start = number * self.kept;
        let values = self.values.get_mut(start..start + self.kept);
        (values.unwrap_or_default(), self.masks.get_mut(number))
    }
}
