//! Properties of rendering, for every file that the check accepts.
//!
//! A variant is chosen by the sum of the file's bytes. Rendering ends within its deadline, and its
//! file has the size that it announces, by decoders that share no code with it. The decoder of JPEG
//! is this program's own, so it must read every file that the check accepts. The decoders of the
//! other formats are not, so they may refuse a file, but neither panic nor return too few rows.

use std::io::Cursor;
use std::time::{Duration, Instant};

use crate::images::format::{PixelLimits, format_of};
use crate::images::render::{RenderError, Rendered, Stop, render};
use crate::model::format::Format;
use crate::model::variant::{Fit, Output, Variant};
use crate::{Depth, MAX_DECODED, MAX_TIME, count, images, seeds_only, seen};

/// Panics if the properties do not hold for these bytes.
pub fn holds(bytes: &[u8]) {
    let depth = judged(bytes);
    if seeds_only() {
        assert!(depth > Depth::Refused, "a seed must be rendered");
    }
    count(depth);
}

fn judged(bytes: &[u8]) -> Depth {
    let Ok(format) = format_of(bytes) else {
        return Depth::Refused;
    };
    let checked = images::cleaned(bytes, format, PixelLimits::default());
    let Ok((probe, cleaned)) = checked else {
        return Depth::Refused;
    };
    if probe
        .total_pixels
        .max(u64::from(probe.width) * u64::from(probe.height))
        > MAX_DECODED
    {
        return Depth::Cleaned;
    }
    let variant = variant_for(bytes);
    let began = Instant::now();
    // Panics of decoders that are not ours become an error, as in the server.
    let (made, look) = seen::forgiven(format != Format::Jpeg, || {
        let stop = Stop::after(MAX_TIME + Duration::from_secs(60));
        (
            render(&cleaned.bytes, format, &variant, &stop),
            images::look(&cleaned, format, &stop),
        )
    });
    assert!(began.elapsed() < MAX_TIME, "{:?}", began.elapsed());
    match (made, look) {
        (Ok(made), Ok(look)) => {
            assert!(look.thumbhash.len() <= 25);
            size_holds(&made, &variant);
            Depth::Decoded
        }
        (Err(RenderError::Undecodable(_)), _) | (_, Err(RenderError::Undecodable(_)))
            if format != Format::Jpeg =>
        {
            Depth::Cleaned
        }
        (made, look) => panic!("{format:?} as {variant:?}: {made:?} {look:?}"),
    }
}

/// One of many variants, by the sum of the bytes.
fn variant_for(bytes: &[u8]) -> Variant {
    let sum = bytes.iter().fold(0_u32, |sum, &byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(byte))
    });
    let side = |shift: u32| match sum >> shift & 0xff {
        value if value % 4 == 0 => None,
        value => Some(value % 64 + 1),
    };
    let fits = [Fit::ScaleDown, Fit::Contain, Fit::Cover, Fit::Pad];
    // AVIF is slow, and its encoder sees only what the other ones see.
    let outputs = [Output::Png, Output::Jpeg, Output::WebP];
    Variant {
        width: side(8),
        height: side(16),
        fit: fits[(sum >> 24) as usize % fits.len()],
        quality: Some((sum >> 4 & 63) as u8 + 1),
        output: outputs[sum as usize % outputs.len()],
    }
}

fn size_holds(made: &Rendered, variant: &Variant) {
    let size = match variant.output {
        Output::Png => {
            let reader = png::Decoder::new(Cursor::new(&made.bytes)).read_info();
            let reader = reader.expect("a variant is a PNG");
            (reader.info().width, reader.info().height)
        }
        Output::WebP => {
            let decoder = image_webp::WebPDecoder::new(Cursor::new(&made.bytes));
            let decoder = decoder.expect("a variant is a WebP");
            assert_eq!(decoder.num_frames().max(1), made.frames);
            decoder.dimensions()
        }
        _ => {
            let mut decoder = zune_jpeg::JpegDecoder::new(Cursor::new(&made.bytes));
            decoder.decode_headers().expect("a variant is a JPEG");
            let (width, height) = decoder.dimensions().expect("it has a size");
            (width as u32, height as u32)
        }
    };
    assert_eq!(size, (made.width, made.height));
    if variant.fit == Fit::ScaleDown {
        assert!(variant.width.is_none_or(|width| made.width <= width));
        assert!(variant.height.is_none_or(|height| made.height <= height));
    }
}
