//! Pictures given by a formula, files that show them, and how alike two pictures are.

#![expect(
    clippy::float_arithmetic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the formula and the likeness are in floating point"
)]

use std::io::Cursor;

use super::super::picture::{Channels, Picture};
use crate::model::format::Format;
use crate::model::look::Look;
use crate::model::variant::Output;

/// A way to store a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Rgb,
    Rgba,
    Grey,
    GreyAlpha,
    Deep,
    Palette,
    Jpeg,
    Jpeg444,
    JpegProgressive,
    JpegGrey,
    JpegRestarts,
    JpegCmyk,
    Gif,
    WebP,
    WebPAlpha,
}

impl Kind {
    pub(super) const ALL: [Self; 15] = [
        Self::Rgb,
        Self::Rgba,
        Self::Grey,
        Self::GreyAlpha,
        Self::Deep,
        Self::Palette,
        Self::Jpeg,
        Self::Jpeg444,
        Self::JpegProgressive,
        Self::JpegGrey,
        Self::JpegRestarts,
        Self::JpegCmyk,
        Self::Gif,
        Self::WebP,
        Self::WebPAlpha,
    ];

    fn is_grey(self) -> bool {
        matches!(self, Self::Grey | Self::GreyAlpha | Self::JpegGrey)
    }

    fn has_alpha(self) -> bool {
        matches!(self, Self::Rgba | Self::GreyAlpha | Self::WebPAlpha)
    }
}

/// A file.
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) format: Format,
    pub(super) bytes: Vec<u8>,
}

/// The colour at a place, whose coordinates are between 0 and 1. All frequencies are low, so a
/// resized picture has the colours of the formula.
fn colour(kind: Kind, x: f64, y: f64) -> [u8; 4] {
    let level = |value: f64| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
    let red = level(0.1 + 0.8 * x);
    let green = level(0.1 + 0.8 * y);
    let blue = level(0.5 + 0.3 * (6.0 * x).sin() * (5.0 * y).cos());
    let alpha = if kind.has_alpha() {
        level(0.3 + 0.7 * (1.0 - x) + 0.1 * y)
    } else {
        255
    };
    if kind.is_grey() {
        let grey = level(0.2 + 0.5 * x + 0.2 * (5.0 * y).cos());
        return [grey, grey, grey, alpha];
    }
    if matches!(kind, Kind::Palette | Kind::Gif) {
        let [red, green, blue] = on_line(blue);
        return [red, green, blue, alpha];
    }
    [red, green, blue, alpha]
}

/// The picture in RGBA.
pub(super) fn picture(kind: Kind, width: u32, height: u32) -> Picture {
    let place = |at: u32, of: u32| (f64::from(at) + 0.5) / f64::from(of);
    let pixels = (0..height)
        .flat_map(|y| (0..width).map(move |x| colour(kind, place(x, width), place(y, height))));
    Picture {
        width,
        height,
        channels: Channels::Rgba,
        bytes: pixels.flatten().collect(),
    }
}

/// The picture in a file.
pub(super) fn sample(kind: Kind, width: u32, height: u32) -> Sample {
    let picture = picture(kind, width, height);
    let (format, bytes) = match kind {
        Kind::Rgb | Kind::Rgba | Kind::Grey | Kind::GreyAlpha | Kind::Deep | Kind::Palette => {
            (Format::Png, png_of(kind, &picture))
        }
        Kind::Gif => (Format::Gif, gif_of(&picture)),
        Kind::WebP | Kind::WebPAlpha => (
            Format::Webp,
            webp::Encoder::from_rgba(&picture.bytes, width, height)
                .encode(95.0)
                .to_vec(),
        ),
        _ => (Format::Jpeg, jpeg_of(kind, &picture)),
    };
    Sample {
        name: format!("{kind:?} {width}x{height}"),
        kind,
        format,
        bytes,
    }
}

/// Writes a PNG with raw pixels.
pub(super) fn png(size: (u32, u32), colour: png::ColorType, deep: bool, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, size.0, size.1);
    encoder.set_color(colour);
    encoder.set_depth(if deep {
        png::BitDepth::Sixteen
    } else {
        png::BitDepth::Eight
    });
    if colour == png::ColorType::Indexed {
        encoder.set_palette(palette().concat());
    }
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(bytes).unwrap();
    writer.finish().unwrap();
    out
}

fn png_of(kind: Kind, picture: &Picture) -> Vec<u8> {
    let size = (picture.width, picture.height);
    let (pixels, _) = picture.bytes.as_chunks::<4>();
    let rgb = || pixels.iter().flat_map(|&[r, g, b, _]| [r, g, b]);
    let (colour, bytes): (_, Vec<u8>) = match kind {
        Kind::Rgba => (png::ColorType::Rgba, picture.bytes.clone()),
        Kind::Grey => (
            png::ColorType::Grayscale,
            pixels.iter().map(|p| p[0]).collect(),
        ),
        Kind::GreyAlpha => (
            png::ColorType::GrayscaleAlpha,
            pixels.iter().flat_map(|p| [p[0], p[3]]).collect(),
        ),
        Kind::Deep => (
            png::ColorType::Rgb,
            rgb().flat_map(|value| [value, value]).collect(),
        ),
        Kind::Palette => (
            png::ColorType::Indexed,
            pixels.iter().map(|pixel| pixel[0]).collect(),
        ),
        _ => (png::ColorType::Rgb, rgb().collect()),
    };
    png(size, colour, kind == Kind::Deep, &bytes)
}

/// A palette of 256 colours along a line.
fn palette() -> Vec<[u8; 3]> {
    (0..=255).map(on_line).collect()
}

fn on_line(at: u8) -> [u8; 3] {
    [at, 255 - at, 128]
}

fn gif_of(picture: &Picture) -> Vec<u8> {
    let mut out = Vec::new();
    let (width, height) = (picture.width as u16, picture.height as u16);
    let mut encoder = gif::Encoder::new(&mut out, width, height, &palette().concat()).unwrap();
    let (pixels, _) = picture.bytes.as_chunks::<4>();
    let indices: Vec<u8> = pixels.iter().map(|pixel| pixel[0]).collect();
    let frame = gif::Frame::from_indexed_pixels(width, height, indices, None);
    encoder.write_frame(&frame).unwrap();
    drop(encoder);
    out
}

fn jpeg_of(kind: Kind, picture: &Picture) -> Vec<u8> {
    use jpeg_encoder::{ColorType, SamplingFactor};
    let mut out = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut out, 95);
    encoder.set_sampling_factor(if kind == Kind::Jpeg444 {
        SamplingFactor::F_1_1
    } else {
        SamplingFactor::F_2_2
    });
    encoder.set_progressive(kind == Kind::JpegProgressive);
    if kind == Kind::JpegRestarts {
        encoder.set_restart_interval(3);
    }
    let (width, height) = (picture.width as u16, picture.height as u16);
    let (pixels, _) = picture.bytes.as_chunks::<4>();
    let ink: Vec<u8> = pixels
        .iter()
        .flat_map(|&[r, g, b, _]| [255 - r, 255 - g, 255 - b, 0])
        .collect();
    let grey: Vec<u8> = pixels.iter().map(|pixel| pixel[0]).collect();
    let written = match kind {
        Kind::JpegCmyk => encoder.encode(&ink, width, height, ColorType::Cmyk),
        Kind::JpegGrey => encoder.encode(&grey, width, height, ColorType::Luma),
        _ => encoder.encode(&picture.bytes, width, height, ColorType::Rgba),
    };
    written.unwrap();
    out
}

/// Decodes a variant to RGBA. `None`: an AVIF, for which there is no decoder here.
pub(super) fn decoded(bytes: &[u8], output: Output) -> Option<Picture> {
    let picture = |width, height, channels, bytes| Picture {
        width,
        height,
        channels,
        bytes,
    };
    let picture = match output {
        Output::Avif => return None,
        Output::Png => {
            let mut decoder = png::Decoder::new(Cursor::new(bytes));
            decoder.set_transformations(png::Transformations::EXPAND);
            let mut reader = decoder.read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            let info = reader.next_frame(&mut pixels).unwrap();
            let channels = match info.color_type {
                png::ColorType::Grayscale => Channels::Grey,
                png::ColorType::Rgb => Channels::Rgb,
                _ => Channels::Rgba,
            };
            picture(info.width, info.height, channels, pixels)
        }
        Output::Jpeg => {
            let mut rows = Vec::new();
            let stop = super::stop();
            let mut channels = Channels::Rgb;
            let mut size = (0, 0);
            let mut take = |of: (u32, u32), row: &[u8], pixels| {
                if pixels == super::Pixels::Grey {
                    channels = Channels::Grey;
                }
                size = of;
                rows.extend_from_slice(row);
            };
            super::rows(bytes, Format::Jpeg, &stop, &mut take).unwrap();
            let (width, height) = size;
            picture(width, height, channels, rows)
        }
        Output::WebP => {
            let mut decoder = image_webp::WebPDecoder::new(Cursor::new(bytes)).unwrap();
            let (width, height) = decoder.dimensions();
            let mut pixels = vec![0; decoder.output_buffer_size().unwrap()];
            decoder.read_image(&mut pixels).unwrap();
            let channels = if decoder.has_alpha() {
                Channels::Rgba
            } else {
                Channels::Rgb
            };
            picture(width, height, channels, pixels)
        }
    };
    Some(picture.with_alpha())
}

/// Width and height in the property `ispe` of an AVIF.
pub(super) fn avif_size(bytes: &[u8]) -> Option<(u32, u32)> {
    assert_eq!(&bytes[4..12], b"ftypavif");
    let at = bytes.windows(4).position(|kind| kind == b"ispe")? + 8;
    let side = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    Some((side(at), side(at + 4)))
}

/// Whether an AVIF says in its property `av1C` that it has one colour sample for four pixels.
pub(super) fn avif_halves_colours(bytes: &[u8]) -> bool {
    let at = bytes.windows(4).position(|kind| kind == b"av1C").unwrap();
    let both = 0b1100;
    bytes[at + 6] & both == both
}

/// The structural similarity of a picture on white to the formula, in luma.
pub(super) fn likeness(shown: &Picture, kind: Kind) -> f64 {
    let should = picture(kind, shown.width, shown.height);
    similarity(&luma(shown), &luma(&should), shown.width as usize)
}

fn luma(picture: &Picture) -> Vec<f64> {
    let picture = picture.clone().on_white();
    let (pixels, _) = picture.bytes.as_chunks::<3>();
    let luma = |pixel: &[u8; 3]| {
        let [r, g, b] = pixel.map(f64::from);
        0.299 * r + 0.587 * g + 0.114 * b
    };
    pixels.iter().map(luma).collect()
}

/// The mean difference of the pixels that two looks show.
pub(super) fn difference(one: &Look, other: &Look) -> f64 {
    let shown = |look: &Look| thumbhash::thumb_hash_to_rgba(&look.thumbhash).unwrap();
    let ((w, h, one), (w2, h2, other)) = (shown(one), shown(other));
    assert_eq!((w, h), (w2, h2));
    let sum: f64 = one
        .iter()
        .zip(&other)
        .map(|(a, b)| f64::from(a.abs_diff(*b)))
        .sum();
    sum / one.len() as f64
}

/// The mean structural similarity over blocks of up to 8 by 8 values.
pub(super) fn similarity(a: &[f64], b: &[f64], width: usize) -> f64 {
    const C1: f64 = 6.5025;
    const C2: f64 = 58.5225;
    let height = a.len() / width;
    let (mut sum, mut blocks) = (0.0, 0.0);
    for top in (0..height).step_by(8) {
        for left in (0..width).step_by(8) {
            let places = (top..(top + 8).min(height))
                .flat_map(|y| (left..(left + 8).min(width)).map(move |x| y * width + x));
            let pairs: Vec<(f64, f64)> = places.map(|at| (a[at], b[at])).collect();
            let count = pairs.len() as f64;
            let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / count;
            let (ma, mb) = (mean(|p| p.0), mean(|p| p.1));
            let (aa, bb, ab) = (
                mean(|p| p.0 * p.0) - ma * ma,
                mean(|p| p.1 * p.1) - mb * mb,
                mean(|p| p.0 * p.1) - ma * mb,
            );
            sum += (2.0 * ma * mb + C1) * (2.0 * ab + C2)
                / ((ma * ma + mb * mb + C1) * (aa + bb + C2));
            blocks += 1.0;
        }
    }
    sum / blocks
}
