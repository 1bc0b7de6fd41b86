//! Renders pictures whose colours are known for every place, and compares.

mod animations;
mod fits;
mod pictures;
mod sources;

use std::time::Duration;

use super::*;
use crate::model::variant::Fit;
use pictures::{Kind, Sample, decoded, likeness, sample};

fn stop() -> Stop {
    Stop::after(Duration::from_mins(1))
}

fn variant(width: Option<u32>, height: Option<u32>, fit: Fit, output: Output) -> Variant {
    Variant {
        width,
        height,
        fit,
        quality: None,
        output,
    }
}

fn wide(width: u32, output: Output) -> Variant {
    variant(Some(width), None, Fit::ScaleDown, output)
}

/// Renders a sample, and compares the result with the picture that it was made from.
fn assert_alike(sample: &Sample, variant: &Variant, size: (u32, u32)) {
    let what = format!("{} as {variant:?}", sample.name);
    let made = render(&sample.bytes, sample.format, variant, &stop());
    let made = made.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((made.width, made.height), size, "{what}");
    assert_eq!(made.frames, 1, "{what}");
    let Some(shown) = decoded(&made.bytes, variant.output) else {
        assert_eq!(pictures::avif_size(&made.bytes), Some(size), "{what}");
        return;
    };
    assert_eq!((shown.width, shown.height), size, "{what}");
    let likeness = likeness(&shown, sample.kind);
    assert!(likeness > 0.98, "{what}: {likeness}");
}

#[test]
fn every_source_becomes_every_output() {
    for kind in Kind::ALL {
        let sample = sample(kind, 240, 160);
        for output in Output::all() {
            assert_alike(&sample, &wide(60, output), (60, 40));
        }
    }
}

#[test]
fn reductions_between_the_sizes_of_the_jpeg_decoder_are_alike() {
    let of = |kind| sample(kind, 400, 320);
    for kind in [Kind::Jpeg, Kind::JpegProgressive, Kind::JpegGrey] {
        for (width, height) in [
            (399, 319),
            (250, 200),
            (200, 160),
            (130, 104),
            (70, 56),
            (40, 32),
        ] {
            assert_alike(&of(kind), &wide(width, Output::Png), (width, height));
        }
    }
}

#[test]
fn without_a_size_the_picture_keeps_its_own() {
    for kind in Kind::ALL {
        let plain = variant(None, None, Fit::ScaleDown, Output::Png);
        assert_alike(&sample(kind, 97, 61), &plain, (97, 61));
    }
}

#[test]
fn one_pixel_and_a_line_are_rendered() {
    let dot = sample(Kind::Rgb, 1, 1);
    for output in Output::all() {
        let made = render(&dot.bytes, dot.format, &wide(800, output), &stop()).unwrap();
        assert_eq!((made.width, made.height), (1, 1));
    }
    let larger = variant(Some(64), Some(64), Fit::Contain, Output::Png);
    let made = render(&dot.bytes, dot.format, &larger, &stop()).unwrap();
    assert_eq!((made.width, made.height), (64, 64));
    let line = sample(Kind::Rgb, 16_384, 1);
    let made = render(&line.bytes, line.format, &wide(800, Output::Png), &stop()).unwrap();
    assert_eq!((made.width, made.height), (800, 1));
    let shown = decoded(&made.bytes, Output::Png).unwrap();
    assert!(likeness(&shown, Kind::Rgb) > 0.98);
    let upright = variant(None, Some(4096), Fit::Contain, Output::Png);
    let made = render(&line.bytes, line.format, &upright, &stop()).unwrap();
    assert_eq!(
        (made.width, made.height),
        (4096, 1),
        "never longer than 4096"
    );
}

#[test]
fn a_side_that_the_format_does_not_have_is_refused() {
    let line = sample(Kind::Rgb, 16_384, 1);
    let plain = |output| variant(None, None, Fit::ScaleDown, output);
    let refused = render(&line.bytes, line.format, &plain(Output::WebP), &stop());
    assert_eq!(
        refused,
        Err(RenderError::SideTooLong {
            width: 16_384,
            height: 1,
            limit: 16_383
        })
    );
    let made = render(&line.bytes, line.format, &plain(Output::Jpeg), &stop()).unwrap();
    assert_eq!(made.width, 16_384);
}

#[test]
fn quality_decides_the_length_and_png_ignores_it() {
    let photo = sample(Kind::Rgb, 128, 128);
    let len = |output, quality| {
        let variant = Variant {
            quality: Some(quality),
            ..wide(128, output)
        };
        let made = render(&photo.bytes, photo.format, &variant, &stop()).unwrap();
        made.bytes.len()
    };
    for output in [Output::Jpeg, Output::WebP, Output::Avif] {
        assert!(len(output, 1) < len(output, 95), "{output:?}");
    }
    assert_eq!(len(Output::Png, 1), len(Output::Png, 95));
}

#[test]
fn avif_of_a_photograph_halves_its_colours_up_to_quality_89() {
    let halves = |kind, quality| {
        // Sides that are odd: the last colours are those of one pixel.
        let sample = sample(kind, 129, 97);
        let variant = Variant {
            quality,
            ..wide(129, Output::Avif)
        };
        let made = render(&sample.bytes, sample.format, &variant, &stop()).unwrap();
        assert_eq!(pictures::avif_size(&made.bytes), Some((129, 97)));
        pictures::avif_halves_colours(&made.bytes)
    };
    assert!(halves(Kind::Jpeg, None));
    assert!(halves(Kind::Jpeg, Some(89)));
    assert!(!halves(Kind::Jpeg, Some(90)));
    assert!(!halves(Kind::Rgb, None));
    assert!(!halves(Kind::Rgba, None));
}

#[test]
fn a_stopped_rendering_ends_with_an_error() {
    for kind in Kind::ALL {
        let sample = sample(kind, 64, 64);
        let stopped = stop();
        stopped.clone().stop();
        let ended = render(
            &sample.bytes,
            sample.format,
            &wide(32, Output::Png),
            &stopped,
        );
        assert_eq!(ended, Err(RenderError::Stopped), "{}", sample.name);
        let late = Stop::after(Duration::ZERO);
        let ended = render(&sample.bytes, sample.format, &wide(32, Output::Png), &late);
        assert_eq!(ended, Err(RenderError::Stopped), "{}", sample.name);
    }
}

#[test]
fn bytes_that_are_no_image_are_an_error() {
    for format in Format::ALL {
        for bytes in [
            &b""[..],
            b"\xff\xd8\xff",
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"RIFF",
        ] {
            let ended = render(bytes, format, &wide(32, Output::Png), &stop());
            assert!(
                matches!(ended, Err(RenderError::Undecodable(_))),
                "{ended:?}"
            );
        }
    }
}

#[test]
fn the_look_is_that_of_the_picture() {
    for kind in Kind::ALL {
        let sample = sample(kind, 300, 200);
        let look = look(&sample.bytes, sample.format, None, &stop()).unwrap();
        let should = look::look_of(pictures::picture(kind, 100, 67));
        let far = pictures::difference(&look, &should);
        assert!(far < 8.0, "{}: {far}", sample.name);
    }
}

#[test]
fn rows_are_those_of_the_stored_picture() {
    for kind in [Kind::Rgb, Kind::Jpeg, Kind::Gif, Kind::WebP] {
        let sample = sample(kind, 40, 30);
        let mut seen = ((0, 0), 0, 0);
        rows(
            &sample.bytes,
            sample.format,
            &stop(),
            &mut |size, row, pixels| {
                let bytes = if pixels == Pixels::Rgba { 4 } else { 3 };
                seen = (size, seen.1 + 1, row.len() / bytes);
            },
        )
        .unwrap();
        assert_eq!(seen, ((40, 30), 30, 40), "{}", sample.name);
    }
}

#[test]
fn the_look_from_the_check_is_that_of_the_whole_picture() {
    let limits = PixelLimits::default();
    for kind in Kind::ALL {
        let sample = sample(kind, 500, 420);
        if sample.format != Format::Jpeg {
            continue;
        }
        let checked = crate::images::pipeline::cleaned(&sample.bytes, Format::Jpeg, limits);
        let (_, cleaned) = checked.unwrap();
        let small = cleaned.small.as_ref().unwrap();
        assert!(small.is_enough());
        let quick = look(&cleaned.bytes, Format::Jpeg, Some((small, 1)), &stop()).unwrap();
        let whole = look(&cleaned.bytes, Format::Jpeg, None, &stop()).unwrap();
        let far = pictures::difference(&quick, &whole);
        assert!(far < 8.0, "{}: {far}", sample.name);
    }
}

#[test]
fn the_dominant_colour_of_a_jpeg_is_found_by_its_check() {
    let bytes: Vec<u8> = (0..512 * 512)
        .flat_map(|at| {
            if at % 512 < 300 {
                [200, 40, 40]
            } else {
                [30, 60, 220]
            }
        })
        .collect();
    let mut file = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut file, 95);
    let colour = jpeg_encoder::ColorType::Rgb;
    encoder.encode(&bytes, 512, 512, colour).unwrap();
    let limits = PixelLimits::default();
    let checked = crate::images::pipeline::cleaned(&file, Format::Jpeg, limits);
    let small = checked.unwrap().1.small.unwrap();
    let look = look(&file, Format::Jpeg, Some((&small, 1)), &stop()).unwrap();
    let [r, g, b] = look.dominant;
    assert!(
        r.abs_diff(200) < 4 && g.abs_diff(40) < 4 && b.abs_diff(40) < 4,
        "{look:?}"
    );
}
