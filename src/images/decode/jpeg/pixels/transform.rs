//! The inverse transform of a block to 8, 4, 2 or 1 pixels a side.
//!
//! Fewer than 8 pixels come from the transform of that many points over the lowest frequencies.
//! That is the block without the details which the smaller size can't show.

#![expect(
    clippy::float_arithmetic,
    reason = "the transform runs on lanes of f32, which the compiler turns into vectors"
)]

/// Natural position of each coefficient in zigzag order.
#[rustfmt::skip]
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55,
    62, 63,
];

/// The factors of the transform of 8 points by Arai, Agui and Nakajima.
const SCALES: [f32; 8] = [
    1.0,
    1.387_039_8,
    1.306_563,
    1.175_875_6,
    1.0,
    0.785_694_96,
    0.541_196_1,
    0.275_899_4,
];

/// How many pixels a block of 8 by 8 has on a side: 1, 2, 4 or 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::images) struct Side(u8);

impl Side {
    /// One pixel for each block.
    pub(in crate::images) const ONE: Self = Self(1);
    /// The full size.
    pub(in crate::images) const EIGHT: Self = Self(8);
    /// All sides, the smallest first.
    pub(in crate::images) const ALL: [Self; 4] = [Self(1), Self(2), Self(4), Self(8)];

    /// The number of pixels.
    pub(in crate::images) const fn pixels(self) -> u32 {
        self.0 as u32
    }

    /// The smallest width or height of an image whose full one is `full`.
    pub(in crate::images) fn of(self, full: u32) -> u32 {
        (full * self.pixels()).div_ceil(8)
    }

    /// This side for a component with `1 / ratio` of the resolution, at most [`Side::EIGHT`].
    pub(super) fn times(self, ratio: u8) -> Self {
        Self(self.0.saturating_mul(ratio).min(8))
    }

    /// How many coefficients the transform needs, in zigzag order.
    pub(super) const fn coefficients(self) -> usize {
        match self.0 {
            1 => 1,
            2 => 5,
            4 => 25,
            _ => 64,
        }
    }
}

/// The transform of a component's blocks.
#[derive(Clone, Debug)]
pub(super) struct Transform {
    side: Side,
    /// What each coefficient is multiplied with, in zigzag order.
    factors: [f32; 64],
    /// The quantization of the coefficients that two pixels a side need.
    steps: [i64; 4],
}

impl Transform {
    /// The transform to `side` pixels, for coefficients that were divided by `quantization`.
    pub(super) fn new(side: Side, quantization: &[u16; 64]) -> Self {
        let mut factors = [0.0; 64];
        for ((factor, &step), &place) in factors.iter_mut().zip(quantization).zip(&ZIGZAG) {
            *factor = f32::from(step) * scale(side, place & 7) * scale(side, place >> 3) / 8.0;
        }
        let [q0, q1, q2, _, q4, ..] = *quantization;
        Self {
            side,
            factors,
            steps: [q0, q1, q2, q4].map(i64::from),
        }
    }

    /// Writes the pixels of a block with these coefficients, in zigzag order, which are zero from
    /// `end` on. `out` begins at the first pixel of the block, and its rows are `stride` bytes apart.
    #[inline]
    pub(super) fn write(&self, coefficients: &[i16], end: usize, out: &mut [u8], stride: usize) {
        match coefficients {
            [dc, ..] if end == 1 => self.fill(*dc, out, stride, self.side.pixels() as usize),
            [dc, a, b, _, c] => self.two(out, stride, [*dc, *a, *b, *c]),
            _ => {
                let coefficients = coefficients.get(..end).unwrap_or(coefficients);
                if self.side == Side(4) {
                    self.many::<4>(coefficients, out, stride, four);
                } else {
                    self.many::<8>(coefficients, out, stride, eight);
                }
            }
        }
    }

    /// A block without details.
    #[inline]
    fn fill(&self, dc: i16, out: &mut [u8], stride: usize, side: usize) {
        let [step, ..] = self.steps;
        let value = whole_level(i64::from(dc) * step);
        for row in out.chunks_mut(stride).take(side) {
            if let Some(pixels) = row.get_mut(..side) {
                pixels.fill(value);
            }
        }
    }

    /// A block of 2 by 2 pixels, from the coefficients at (0, 0), (1, 0), (0, 1) and (1, 1).
    #[inline]
    fn two(&self, out: &mut [u8], stride: usize, coefficients: [i16; 4]) {
        let [c0, c1, c2, c3] = coefficients.map(i64::from);
        let [q0, q1, q2, q3] = self.steps;
        let (mean, x, y, xy) = (c0 * q0, c1 * q1, c2 * q2, c3 * q3);
        let mut rows = out.chunks_mut(stride);
        if let Some([left, right, ..]) = rows.next() {
            *left = whole_level(mean + x + y + xy);
            *right = whole_level(mean - x + y - xy);
        }
        if let Some([left, right, ..]) = rows.next() {
            *left = whole_level(mean + x - y - xy);
            *right = whole_level(mean - x - y + xy);
        }
    }

    /// A block of `N` by `N` pixels. `pass` transforms its columns.
    #[inline]
    fn many<const N: usize>(
        &self,
        coefficients: &[i16],
        out: &mut [u8],
        stride: usize,
        pass: impl Fn([[f32; N]; N]) -> [[f32; N]; N],
    ) {
        let mut block = [[0.0_f32; N]; N];
        let scaled = coefficients.iter().zip(&self.factors).zip(&ZIGZAG);
        for ((&value, factor), &place) in scaled {
            let row = block.get_mut(usize::from(place >> 3));
            if let Some(cell) = row.and_then(|row| row.get_mut(usize::from(place & 7))) {
                *cell = f32::from(value) * factor;
            }
        }
        let block = transposed(pass(transposed(pass(block))));
        for (row, values) in out.chunks_mut(stride).zip(&block) {
            for (pixel, &value) in row.iter_mut().zip(values) {
                *pixel = level(value);
            }
        }
    }
}

/// The factor of a frequency.
fn scale(side: Side, frequency: u8) -> f32 {
    let is_first = frequency == 0;
    match side.0 {
        8 => SCALES
            .get(usize::from(frequency))
            .copied()
            .unwrap_or_default(),
        // The product of two is side / 8 and the factors of an orthonormal transform, times 8.
        4 if frequency > 3 => 0.0,
        4 if is_first => 1.0,
        4 => std::f32::consts::SQRT_2,
        2 if frequency > 1 => 0.0,
        _ => 1.0,
    }
}

/// The value of a pixel. Samples are stored around 128.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is between 0 and 255"
)]
fn level(value: f32) -> u8 {
    (value + 128.5).clamp(0.0, 255.0) as u8
}

/// The value of a pixel, from 8 times the value that is stored.
#[inline]
fn whole_level(value: i64) -> u8 {
    u8::try_from((((value + 4) >> 3) + 128).clamp(0, 255)).unwrap_or(0)
}

#[inline]
fn each<const N: usize>(a: [f32; N], b: [f32; N], f: impl Fn(f32, f32) -> f32) -> [f32; N] {
    let mut out = a;
    for (out, b) in out.iter_mut().zip(b) {
        *out = f(*out, b);
    }
    out
}

#[inline]
fn add<const N: usize>(a: [f32; N], b: [f32; N]) -> [f32; N] {
    each(a, b, |a, b| a + b)
}

#[inline]
fn sub<const N: usize>(a: [f32; N], b: [f32; N]) -> [f32; N] {
    each(a, b, |a, b| a - b)
}

#[inline]
fn mul<const N: usize>(a: [f32; N], by: f32) -> [f32; N] {
    a.map(|a| a * by)
}

#[inline]
fn transposed<const N: usize>(block: [[f32; N]; N]) -> [[f32; N]; N] {
    let mut out = [[0.0; N]; N];
    for (y, row) in block.iter().enumerate() {
        for (column, &value) in out.iter_mut().zip(row) {
            if let Some(cell) = column.get_mut(y) {
                *cell = value;
            }
        }
    }
    out
}

/// The transform of 8 points, down each column.
#[inline]
fn eight([c0, c1, c2, c3, c4, c5, c6, c7]: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
    let (sum, difference) = (add(c0, c4), sub(c0, c4));
    let outer = add(c2, c6);
    let inner = sub(mul(sub(c2, c6), std::f32::consts::SQRT_2), outer);
    let (p0, p3) = (add(sum, outer), sub(sum, outer));
    let (p1, p2) = (add(difference, inner), sub(difference, inner));
    let (z13, z10) = (add(c5, c3), sub(c5, c3));
    let (z11, z12) = (add(c1, c7), sub(c1, c7));
    let q7 = add(z11, z13);
    let q11 = mul(sub(z11, z13), std::f32::consts::SQRT_2);
    let z5 = mul(add(z10, z12), 1.847_759_1);
    let q10 = sub(z5, mul(z12, 1.082_392_2));
    let q12 = sub(z5, mul(z10, 2.613_125_8));
    let q6 = sub(q12, q7);
    let q5 = sub(q11, q6);
    let q4 = sub(q10, q5);
    [
        add(p0, q7),
        add(p1, q6),
        add(p2, q5),
        add(p3, q4),
        sub(p3, q4),
        sub(p2, q5),
        sub(p1, q6),
        sub(p0, q7),
    ]
}

/// The transform of 4 points, down each column.
#[inline]
fn four([a, b, c, d]: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    const C1: f32 = 0.923_879_5;
    const C2: f32 = std::f32::consts::FRAC_1_SQRT_2;
    const C3: f32 = 0.382_683_43;
    let middle = mul(c, C2);
    let (even0, even1) = (add(a, middle), sub(a, middle));
    let odd0 = add(mul(b, C1), mul(d, C3));
    let odd1 = sub(mul(b, C3), mul(d, C1));
    [
        add(even0, odd0),
        add(even1, odd1),
        sub(even1, odd1),
        sub(even0, odd0),
    ]
}
