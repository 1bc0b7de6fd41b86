//! The PDQ hash of a picture, after the reference implementation in ThreatExchange: luma is
//! blurred and shrunk to 64 by 64, of whose cosine transform the 16 by 16 lowest frequencies are
//! compared with their median. `scripts/check-pdq` compares it with the reference implementation.

#![expect(
    clippy::float_arithmetic,
    reason = "the hash is defined by sums in single precision"
)]

mod jarosz;
mod luma;

use std::f64::consts::PI;
use std::sync::LazyLock;

use crate::model::pdq::{BITS, Fingerprint, PdqHash};
use jarosz::{SIDE, Shrink, Small};
pub(in crate::images) use luma::fingerprint;

/// The side of the matrix of frequencies.
const FREQUENCIES: usize = 16;
/// Smaller pictures have no hash: their quality is 0.
const LEAST_SIDE: usize = 5;

type Matrix = [[f32; FREQUENCIES]; FREQUENCIES];

/// Computes the PDQ hash of a picture from its rows, in memory for some rows of it.
struct Pdq {
    shrink: Option<Shrink>,
}

impl Pdq {
    /// For a picture of this size.
    fn new(width: usize, height: usize) -> Self {
        let is_hashed = width >= LEAST_SIDE && height >= LEAST_SIDE;
        Self {
            shrink: is_hashed.then(|| Shrink::new(width, height)),
        }
    }

    /// Takes the luma of the next row, from 0 to 255.
    fn push(&mut self, row: &[f32]) {
        if let Some(shrink) = &mut self.shrink {
            shrink.push(row);
        }
    }

    /// The hash, after the last row.
    fn finish(self) -> Fingerprint {
        let Some(shrink) = self.shrink else {
            let hash = PdqHash::of_bits(&[false; BITS]);
            return Fingerprint {
                hash,
                all: [hash; 8],
                quality: 0,
            };
        };
        let small = shrink.finish();
        let frequencies = transform(&small);
        let all = positions(&frequencies).map(|matrix| hash(&matrix));
        let [hash, ..] = all;
        Fingerprint {
            hash,
            all,
            quality: quality(&small),
        }
    }
}

/// How much detail the picture has: the sum of its gradients, of which small ones count nothing.
fn quality(small: &Small) -> u32 {
    let across = small
        .iter()
        .flat_map(|row| row.iter().zip(row.iter().skip(1)));
    let down = (small.iter().zip(small.iter().skip(1)))
        .flat_map(|(row, next)| row.iter().zip(next.iter()));
    let sum: u32 = across
        .chain(down)
        .map(|(one, other)| step(one - other))
        .sum();
    (sum / 90).min(100)
}

/// A difference of luma in whole hundredths, rounded down.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the fraction is dropped on purpose, and the value is from 0 to 100"
)]
fn step(difference: f32) -> u32 {
    (difference * 100.0 / 255.0).abs() as u32
}

/// Rows 1 to 16 of the cosine transform of 64 values.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "the numbers are small, and the matrix is one of single precision"
)]
static COSINES: LazyLock<[[f32; SIDE]; FREQUENCIES]> = LazyLock::new(|| {
    let scale = f64::from((2.0 / SIDE as f64).sqrt() as f32);
    std::array::from_fn(|row| {
        std::array::from_fn(|column| {
            let angle = PI / 2.0 / SIDE as f64 * ((row + 1) * (2 * column + 1)) as f64;
            (scale * angle.cos()) as f32
        })
    })
});

/// The lowest frequencies of the picture but the constant one, rows first.
fn transform(small: &Small) -> Matrix {
    COSINES.each_ref().map(|row| {
        let mut half = [0.0_f32; SIDE];
        for (weight, values) in row.iter().zip(small) {
            for (sum, value) in half.iter_mut().zip(values) {
                *sum += weight * value;
            }
        }
        COSINES.each_ref().map(|column| {
            let products = half.iter().zip(column);
            products.fold(0.0, |sum, (value, weight)| sum + value * weight)
        })
    })
}

/// The frequencies of the picture in its eight positions, the given one first. Turning and
/// mirroring only change signs and exchange rows with columns.
fn positions(matrix: &Matrix) -> [Matrix; 8] {
    let turned: Matrix =
        std::array::from_fn(|row| std::array::from_fn(|column| at(matrix, column, row)));
    let signs: [fn(usize, usize) -> bool; 4] = [
        |_, _| false,
        |row, _| row.is_multiple_of(2),
        |_, column| column.is_multiple_of(2),
        |row, column| !(row + column).is_multiple_of(2),
    ];
    let signed = |matrix: &Matrix, is_minus: fn(usize, usize) -> bool| -> Matrix {
        std::array::from_fn(|row| {
            std::array::from_fn(|column| {
                let value = at(matrix, row, column);
                if is_minus(row, column) { -value } else { value }
            })
        })
    };
    let [upright, turned] = [matrix, &turned].map(|matrix| signs.map(|sign| signed(matrix, sign)));
    let mut all = upright.into_iter().chain(turned);
    std::array::from_fn(|_| all.next().unwrap_or(*matrix))
}

fn at(matrix: &Matrix, row: usize, column: usize) -> f32 {
    let row = matrix.get(row);
    row.and_then(|row| row.get(column)).copied().unwrap_or(0.0)
}

/// One bit for each frequency: whether it is greater than the median.
fn hash(matrix: &Matrix) -> PdqHash {
    let mut values = [0.0_f32; BITS];
    for (value, entry) in values.iter_mut().zip(matrix.iter().flatten()) {
        *value = *entry;
    }
    let mut sorted = values;
    let (_, median, _) = sorted.select_nth_unstable_by(BITS / 2 - 1, f32::total_cmp);
    let median = *median;
    PdqHash::of_bits(&values.map(|value| value > median))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(width: usize, height: usize, luma: impl Fn(usize, usize) -> f32) -> Fingerprint {
        let mut pdq = Pdq::new(width, height);
        for y in 0..height {
            let row: Vec<f32> = (0..width).map(|x| luma(x, y)).collect();
            pdq.push(&row);
        }
        pdq.finish()
    }

    /// A picture without symmetry, whose values are the same at every size.
    fn blobs(x: f32, y: f32) -> f32 {
        let wave = (x * 13.0 + y * 3.0).sin() * (y * 17.0 - x * 5.0).cos() + (x * y * 40.0).sin();
        (127.0 + 60.0 * wave).clamp(0.0, 255.0).round()
    }

    fn sized(width: usize, height: usize) -> Fingerprint {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        fingerprint(width, height, |x, y| {
            blobs(
                (x as f32 + 0.5) / width as f32,
                (y as f32 + 0.5) / height as f32,
            )
        })
    }

    #[test]
    fn a_smaller_copy_is_near_and_a_flat_picture_has_no_quality() {
        let large = sized(512, 384);
        // As PyPI's pdqhash computes them for the same pictures.
        let [of_large, of_small] = [
            "52edad5555f5ad555aa9752a8b5a7692a93672630cc6b3bc0e1cf0e00fc1f803",
            "57e5a9715575a9555aaba56aca5af4928934b6630cc6b3bc0e1cf1e00fc1f807",
        ];
        assert_eq!(
            (large.hash.to_string().as_str(), large.quality),
            (of_large, 100)
        );
        let small = sized(256, 192);
        assert_eq!(
            (small.hash.to_string().as_str(), small.quality),
            (of_small, 100)
        );
        assert!(large.hash.is_near(&small.hash, 31));
        assert_eq!(fingerprint(300, 200, |_, _| 128.0).quality, 0);
        assert_eq!(sized(4, 400).quality, 0, "too narrow");
    }

    /// Where a pixel of a turned or mirrored copy comes from.
    type Place = fn(usize, usize) -> (usize, usize);

    #[test]
    fn turned_and_mirrored_copies_are_among_the_eight_positions() {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let at = |x: usize, y: usize| blobs((x as f32 + 0.5) / 640.0, (y as f32 + 0.5) / 640.0);
        let known = fingerprint(640, 640, at);
        let moved: [Place; 8] = [
            |x, y| (x, y),
            |x, y| (639 - x, y),
            |x, y| (x, 639 - y),
            |x, y| (639 - x, 639 - y),
            |x, y| (y, x),
            |x, y| (639 - y, x),
            |x, y| (y, 639 - x),
            |x, y| (639 - y, 639 - x),
        ];
        for (index, place) in moved.into_iter().enumerate() {
            let other = fingerprint(640, 640, |x, y| {
                let (x, y) = place(x, y);
                at(x, y)
            });
            let is_found = other.all.iter().any(|hash| hash.is_near(&known.hash, 31));
            assert!(is_found, "{index}");
        }
    }
}
