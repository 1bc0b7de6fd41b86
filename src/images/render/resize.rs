//! Resizes a picture while its rows arrive, with the Lanczos kernel of three lobes.
//!
//! Rows are resized horizontally in strips by `fast_image_resize`. Each resulting row is added to
//! the rows of the result that it belongs to, of which only the unfinished ones are in memory.
//! Values are not linearised, as in libvips and in browsers.

#![expect(
    clippy::float_arithmetic,
    reason = "the weights of a kernel are fractions"
)]

use std::collections::VecDeque;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer as Horizontal};

use super::RenderError;
use super::picture::{Channels, Picture};
use super::plan::Rectangle;

/// Bytes of the rows that are resized horizontally at once. The weights are computed anew for each
/// strip.
const STRIP: usize = 2 << 20;
/// Half the width of the kernel, in pixels of the smaller one of both pictures.
const SUPPORT: f64 = 3.0;

/// Takes the rows of the source, and makes the resized picture.
pub(super) struct Resizer {
    channels: Channels,
    source_width: u32,
    crop: Rectangle,
    size: (u32, u32),
    /// Rows of the source that lie before the next one.
    row: u32,
    /// Rows that wait to be resized horizontally, one after the other.
    strip: Vec<u8>,
    /// The number of the first of them.
    strip_start: u32,
    rows_of_strip: usize,
    horizontal: Option<Box<Horizontal>>,
    vertical: Option<Vertical>,
    narrow: Vec<u8>,
    out: Vec<u8>,
}

impl Resizer {
    /// Resizes the part `crop` of a picture to `size`. The source has rows of `source_width` pixels.
    pub(super) fn new(
        channels: Channels,
        source_width: u32,
        crop: Rectangle,
        size: (u32, u32),
    ) -> Self {
        let stride = source_width as usize * channels.count();
        let keeps_width = is_whole(crop.left, crop.width, size.0) && crop.left < 0.5;
        let keeps_width = keeps_width && source_width == size.0;
        let keeps_height = is_whole(crop.top, crop.height, size.1);
        let out = size.0 as usize * size.1 as usize * channels.count();
        Self {
            channels,
            source_width,
            crop,
            size,
            row: 0,
            strip: Vec::new(),
            strip_start: 0,
            rows_of_strip: (STRIP / stride.max(1)).clamp(1, 1024),
            horizontal: (!keeps_width).then(Box::default),
            vertical: (!keeps_height).then(|| Vertical::new(crop.top, crop.height, size.1)),
            narrow: Vec::new(),
            out: Vec::with_capacity(out),
        }
    }

    /// Whether the picture keeps its pixels.
    pub(super) const fn is_copy(&self) -> bool {
        self.horizontal.is_none() && self.vertical.is_none()
    }

    /// Takes the next row of the source.
    pub(super) fn push(&mut self, row: &[u8]) -> Result<(), RenderError> {
        let at = self.row;
        self.row += 1;
        if !self.needs(at) {
            return Ok(());
        }
        if self.horizontal.is_none() {
            self.add(at, row);
            return Ok(());
        }
        if self.strip.is_empty() {
            self.strip_start = at;
        }
        self.strip.extend_from_slice(row);
        if self.strip.len() >= self.rows_of_strip * row.len() {
            self.flush()?;
        }
        Ok(())
    }

    /// Whether a row of the source contributes to the result.
    fn needs(&self, row: u32) -> bool {
        if let Some(vertical) = &self.vertical {
            return vertical.needs(row);
        }
        let centre = f64::from(row) + 0.5;
        centre > self.crop.top && centre < self.crop.top + self.crop.height
    }

    /// Resizes the rows that wait.
    fn flush(&mut self) -> Result<(), RenderError> {
        let Some(horizontal) = &mut self.horizontal else {
            return Ok(());
        };
        let count = self.channels.count();
        let stride = self.source_width as usize * count;
        let rows = self.strip.len() / stride.max(1);
        let (Ok(high), true) = (u32::try_from(rows), rows > 0) else {
            return Ok(());
        };
        let kind = match self.channels {
            Channels::Grey => PixelType::U8,
            Channels::Rgb => PixelType::U8x3,
            Channels::Rgba | Channels::Cmyk => PixelType::U8x4,
        };
        let (width, _) = self.size;
        let failed = |what: String| RenderError::Failed(what);
        let source = ImageRef::new(self.source_width, high, &self.strip, kind)
            .map_err(|error| failed(error.to_string()))?;
        self.narrow.clear();
        self.narrow.resize(width as usize * rows * count, 0);
        let mut target = Image::from_slice_u8(width, high, &mut self.narrow, kind)
            .map_err(|error| failed(error.to_string()))?;
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
            .use_alpha(false)
            .crop(self.crop.left, 0.0, self.crop.width, f64::from(high));
        horizontal
            .resize(&source, &mut target, &options)
            .map_err(|error| failed(error.to_string()))?;
        self.strip.clear();
        let narrow = std::mem::take(&mut self.narrow);
        for (number, row) in (self.strip_start..).zip(narrow.chunks_exact(width as usize * count)) {
            self.add(number, row);
        }
        self.narrow = narrow;
        Ok(())
    }

    /// Adds a row that has its final width.
    fn add(&mut self, number: u32, row: &[u8]) {
        match &mut self.vertical {
            Some(vertical) => vertical.add(number, row, &mut self.out),
            None => self.out.extend_from_slice(row),
        }
    }

    /// The resized picture, after the last row.
    pub(super) fn finish(mut self) -> Result<Picture, RenderError> {
        self.flush()?;
        let stride = self.size.0 as usize * self.channels.count();
        if let Some(vertical) = &mut self.vertical {
            vertical.finish(stride, &mut self.out);
        }
        let len = stride * self.size.1 as usize;
        if self.out.len() != len {
            return Err(RenderError::Undecodable(format!(
                "the decoder returned {} of {len} bytes",
                self.out.len()
            )));
        }
        Ok(Picture {
            width: self.size.0,
            height: self.size.1,
            channels: self.channels,
            bytes: self.out,
        })
    }
}

/// Whether a side keeps its pixels.
fn is_whole(start: f64, length: f64, size: u32) -> bool {
    let is_same = (length - f64::from(size)).abs() < 1e-9;
    is_same && (start - start.round()).abs() < 1e-9
}

/// Resizes vertically.
struct Vertical {
    start: f64,
    end: f64,
    /// Rows of the source for each row of the result.
    step: f64,
    /// Half the width of the kernel in rows of the source.
    support: f64,
    rows: u32,
    /// The first row of the result that is not written yet.
    next: u32,
    /// The rows from `next` on that have begun.
    open: VecDeque<Open>,
    values: Vec<f32>,
    spare: Vec<Vec<f32>>,
}

/// A row of the result: the sum of its weighted rows, and of their weights.
struct Open {
    sum: Vec<f32>,
    weight: f32,
}

impl Vertical {
    fn new(start: f64, length: f64, rows: u32) -> Self {
        let step = length / f64::from(rows);
        Self {
            start,
            end: start + length,
            step,
            support: SUPPORT * step.max(1.0),
            rows,
            next: 0,
            open: VecDeque::new(),
            values: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// The centre of a row of the result, in rows of the source.
    fn centre(&self, row: u32) -> f64 {
        self.start + (f64::from(row) + 0.5) * self.step
    }

    fn needs(&self, row: u32) -> bool {
        // A row counts if its centre lies in the crop, or the crop lies in one row.
        let (top, bottom) = (f64::from(row), f64::from(row) + 1.0);
        bottom > self.start && top < self.end
    }

    /// Adds row `number` of the source, and writes the rows that are complete.
    fn add(&mut self, number: u32, row: &[u8], out: &mut Vec<u8>) {
        let centre = f64::from(number) + 0.5;
        while self.next < self.rows && self.centre(self.next) + self.support <= centre {
            self.write(row.len(), out);
        }
        self.values.clear();
        self.values
            .extend(row.iter().map(|&value| f32::from(value)));
        let mut index = 0;
        let mut target = self.next;
        while target < self.rows && self.centre(target) - self.support < centre {
            if index == self.open.len() {
                let mut sum = self.spare.pop().unwrap_or_default();
                sum.clear();
                sum.resize(row.len(), 0.0);
                self.open.push_back(Open { sum, weight: 0.0 });
            }
            let weight = lanczos((centre - self.centre(target)) * SUPPORT / self.support);
            if let Some(open) = self.open.get_mut(index) {
                open.weight += weight;
                for (sum, value) in open.sum.iter_mut().zip(&self.values) {
                    *sum += weight * value;
                }
            }
            index += 1;
            target += 1;
        }
    }

    /// Writes the next row of the result.
    fn write(&mut self, len: usize, out: &mut Vec<u8>) {
        self.next += 1;
        let Some(open) = self.open.pop_front() else {
            // No row of the source lies near; a crop inside of one row can't come here.
            out.resize(out.len() + len, 0);
            return;
        };
        let scale = if open.weight.abs() > 1e-6 {
            open.weight.recip()
        } else {
            0.0
        };
        out.extend(open.sum.iter().map(|sum| level(sum * scale)));
        self.spare.push(open.sum);
    }

    fn finish(&mut self, len: usize, out: &mut Vec<u8>) {
        while self.next < self.rows {
            self.write(len, out);
        }
    }
}

#[inline]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is between 0 and 255"
)]
fn level(value: f32) -> u8 {
    (value + 0.5).clamp(0.0, 255.0) as u8
}

/// The kernel at a distance of `x` pixels.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a weight needs no more than 24 bits"
)]
fn lanczos(x: f64) -> f32 {
    let sinc = |x: f64| {
        let x = x * std::f64::consts::PI;
        if x.abs() < 1e-9 { 1.0 } else { x.sin() / x }
    };
    if x.abs() < SUPPORT {
        (sinc(x) * sinc(x / SUPPORT)) as f32
    } else {
        0.0
    }
}
