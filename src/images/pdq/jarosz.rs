//! The blur of PDQ, row by row: two passes of a box filter along rows and columns, of which the
//! rows and columns of a 64 by 64 picture are kept. It keeps as many rows as its window is high,
//! and sums in the order of the reference implementation, so the results are the same bit for bit.

use std::collections::VecDeque;

/// The side of the picture that is kept.
pub(super) const SIDE: usize = 64;

/// The picture that PDQ compares: 64 by 64 values of luma from 0 to 255.
pub(super) type Small = [[f32; SIDE]; SIDE];

/// Receives the rows of a picture, and keeps 64 by 64 blurred values.
pub(super) struct Shrink {
    columns: Vec<usize>,
    rows: Vec<usize>,
    along: usize,
    first: ColumnBox,
    second: ColumnBox,
    /// The next row that comes out of the second pass.
    next: usize,
    small: Box<Small>,
    scratch: Vec<f32>,
    /// A picture of 64 by 64 is not blurred.
    is_small: bool,
}

impl Shrink {
    /// For a picture of this size, at least 1 by 1.
    pub(super) fn new(width: usize, height: usize) -> Self {
        let high = window(height);
        Self {
            columns: centres(width),
            rows: centres(height),
            along: window(width),
            first: ColumnBox::new(width, high),
            second: ColumnBox::new(width, high),
            next: 0,
            small: Box::new([[0.0; SIDE]; SIDE]),
            scratch: vec![0.0; width],
            is_small: (width, height) == (SIDE, SIDE),
        }
    }

    /// Takes the next row.
    pub(super) fn push(&mut self, row: &[f32]) {
        if self.is_small {
            self.keep(row);
            return;
        }
        box_along(row, &mut self.scratch, self.along);
        self.first.push(&self.scratch);
        self.drain();
    }

    /// The blurred picture, after the last row.
    pub(super) fn finish(mut self) -> Box<Small> {
        if !self.is_small {
            self.first.end();
            self.drain();
            self.second.end();
            self.drain();
        }
        self.small
    }

    /// Passes on what came out of the first pass, and keeps what came out of the second.
    fn drain(&mut self) {
        while let Some(row) = self.first.out.pop_front() {
            box_along(&row, &mut self.scratch, self.along);
            self.first.spare.push(row);
            self.second.push(&self.scratch);
        }
        while let Some(row) = self.second.out.pop_front() {
            self.keep(&row);
            self.second.spare.push(row);
        }
    }

    fn keep(&mut self, row: &[f32]) {
        for (kept, _) in (self.small.iter_mut().zip(&self.rows)).filter(|(_, at)| **at == self.next)
        {
            for (value, column) in kept.iter_mut().zip(&self.columns) {
                *value = row.get(*column).copied().unwrap_or_default();
            }
        }
        self.next += 1;
    }
}

/// Half the size of the block of pixels that becomes one value, rounded up.
const fn window(side: usize) -> usize {
    side.div_ceil(2 * SIDE)
}

/// How many values stand before a window's middle when its first result is written.
const fn half(window: usize) -> usize {
    window.midpoint(2)
}

/// The rows or columns that are kept: the centres of 64 blocks.
fn centres(side: usize) -> Vec<usize> {
    (0..SIDE)
        .map(|index| (2 * index + 1) * side / (2 * SIDE))
        .collect()
}

/// A number of summands as a divisor.
#[expect(
    clippy::cast_precision_loss,
    reason = "a window is at most 512 values wide"
)]
const fn divisor(count: usize) -> f32 {
    count as f32
}

/// The box filter along one row. At the ends the window is cut off.
fn box_along(row: &[f32], out: &mut [f32], window: usize) {
    let (mut sum, mut count) = (0.0_f32, 0_usize);
    let mut adds = row.iter();
    let mut subtracts = row.iter();
    for value in adds.by_ref().take(half(window) - 1) {
        sum += value;
        count += 1;
    }
    for result in out {
        if let Some(value) = adds.next() {
            sum += value;
            if count < window {
                count += 1;
            } else if let Some(gone) = subtracts.next() {
                sum -= gone;
            }
        } else if let Some(gone) = subtracts.next() {
            sum -= gone;
            count -= 1;
        }
        *result = sum / divisor(count);
    }
}

/// The box filter along all columns at once, which takes and returns rows.
struct ColumnBox {
    window: usize,
    sums: Vec<f32>,
    count: usize,
    received: usize,
    /// The rows inside the window.
    held: VecDeque<Vec<f32>>,
    /// The rows that came out and were not fetched yet.
    out: VecDeque<Vec<f32>>,
    /// Rows to reuse.
    spare: Vec<Vec<f32>>,
}

impl ColumnBox {
    fn new(width: usize, window: usize) -> Self {
        Self {
            window,
            sums: vec![0.0; width],
            count: 0,
            received: 0,
            held: VecDeque::new(),
            out: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    fn push(&mut self, row: &[f32]) {
        for (sum, value) in self.sums.iter_mut().zip(row) {
            *sum += value;
        }
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(row);
        self.held.push_back(copy);
        self.received += 1;
        if self.received <= self.window {
            self.count += 1;
        } else {
            self.subtract();
        }
        if self.received >= half(self.window) {
            self.emit();
        }
    }

    /// The last rows, for which nothing is added any more.
    fn end(&mut self) {
        for _ in 1..half(self.window) {
            self.subtract();
            self.count -= 1;
            self.emit();
        }
    }

    fn subtract(&mut self) {
        let Some(gone) = self.held.pop_front() else {
            return;
        };
        for (sum, value) in self.sums.iter_mut().zip(&gone) {
            *sum -= value;
        }
        self.spare.push(gone);
    }

    fn emit(&mut self) {
        let divisor = divisor(self.count);
        let mut row = self.spare.pop().unwrap_or_default();
        row.clear();
        row.extend(self.sums.iter().map(|sum| sum / divisor));
        self.out.push_back(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_cut_off_at_the_ends() {
        let row: Vec<f32> = (0..16_u8).map(f32::from).collect();
        // The table of the reference implementation for 16 values and a window of 7.
        let sums: [u8; 16] = [
            6, 10, 15, 21, 28, 35, 42, 49, 56, 63, 70, 77, 84, 75, 65, 54,
        ];
        let counts: [u8; 16] = [4, 5, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 5, 4];
        let expected: Vec<f32> = (sums.iter().zip(counts))
            .map(|(sum, count)| f32::from(*sum) / f32::from(count))
            .collect();
        let mut out = vec![0.0; 16];
        box_along(&row, &mut out, 7);
        assert_eq!(out, expected);
        let mut columns = ColumnBox::new(1, 7);
        for value in &row {
            columns.push(&[*value]);
        }
        columns.end();
        let out: Vec<f32> = columns.out.iter().map(|row| row[0]).collect();
        assert_eq!(out, expected);
    }

    #[test]
    fn a_picture_of_any_size_becomes_64_by_64() {
        for (width, height) in [(5, 5), (64, 64), (65, 7), (300, 1), (1, 1), (129, 1000)] {
            let mut shrink = Shrink::new(width, height);
            (0..height).for_each(|_| shrink.push(&vec![7.0; width]));
            let small = shrink.finish();
            assert!(
                small
                    .iter()
                    .flatten()
                    .all(|value| (value - 7.0).abs() < 1e-3)
            );
        }
    }
}
