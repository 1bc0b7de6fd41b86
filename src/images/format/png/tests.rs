//! Tests each rule of the PNG walk with the smallest file that breaks it.

use super::super::samples::{
    actl, apng, fctl, fdat, idat, iend, ihdr, png, png_chunk, png_of, probe, shape,
};
use super::super::{FormatError, limits};
use super::*;

fn assert_corrupt(bytes: &[u8], needle: &str) {
    match probe(bytes) {
        Err(FormatError::Corrupt {
            format: Format::Png,
            what,
        }) if what.contains(needle) => {}
        other => panic!("expected '{needle}', got {other:?}"),
    }
}

/// An animated image of 4 by 4 pixels with these chunks between header and end.
fn animated(frames: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    png_of(&[&[ihdr(4, 4, [8, 6]), actl(frames)], chunks, &[iend()]].concat())
}

#[test]
fn still_and_animated_pngs_have_their_size() {
    let still = (3, 2, 1);
    assert_eq!(shape(&png(3, 2)), Ok(still));
    let moving = (4, 5, 3);
    assert_eq!(shape(&apng(4, 5, 3)), Ok(moving));
}

#[test]
fn a_default_image_outside_the_animation_is_not_counted() {
    let bytes = animated(1, &[idat(), fctl(0, [2, 2, 2, 2]), fdat(1)]);
    assert_eq!(probe(&bytes).map(|probe| probe.frames), Ok(1));
}

#[test]
fn more_than_2147483647_repetitions_are_refused() {
    let of = |plays: u32| {
        let control = png_chunk(
            b"acTL",
            &[1_u32.to_be_bytes(), plays.to_be_bytes()].concat(),
        );
        let frame = fctl(0, [4, 4, 0, 0]);
        png_of(&[ihdr(4, 4, [8, 6]), control, frame, idat(), iend()])
    };
    assert!(probe(&of(u32::MAX >> 1)).is_ok());
    for plays in [1 << 31, u32::MAX] {
        assert_corrupt(&of(plays), "more than 2147483647 repetitions");
    }
}

#[test]
fn each_colour_type_has_its_bit_depths() {
    for colour in 0..=8 {
        for depth in 0..=17 {
            let palette = png_chunk(b"PLTE", &[0; 6]);
            let bytes = png_of(&[ihdr(1, 1, [depth, colour]), palette, idat(), iend()]);
            let known = match colour {
                0 => [1, 2, 4, 8, 16].contains(&depth),
                3 => [1, 2, 4, 8].contains(&depth),
                2 | 4 | 6 => [8, 16].contains(&depth),
                _ => false,
            };
            assert_eq!(
                probe(&bytes).is_ok(),
                known,
                "depth {depth}, colour {colour}"
            );
        }
    }
}

#[test]
fn the_header_is_checked() {
    assert_corrupt(&png(0, 1), "side of zero");
    assert_corrupt(&png(1, 0), "side of zero");
    assert_corrupt(
        &png_of(&[idat(), ihdr(1, 1, [8, 2]), iend()]),
        "which must be IHDR",
    );
    let short = png_chunk(b"IHDR", &[0; 12]);
    assert_corrupt(&png_of(&[short, idat(), iend()]), "has 12 bytes, not 13");
    for (at, value) in [(10, 1), (11, 1), (12, 2)] {
        let mut body = [0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0];
        body[at] = value;
        assert_corrupt(
            &png_of(&[png_chunk(b"IHDR", &body), idat(), iend()]),
            "one of which is unknown",
        );
    }
}

#[test]
fn checksums_of_skipped_chunks_are_verified_too() {
    let text = png_chunk(b"tEXt", b"Title\0x");
    let whole = png_of(&[ihdr(1, 1, [8, 2]), text, idat(), iend()]);
    assert!(probe(&whole).is_ok());
    for at in 8..whole.len() {
        let mut bent = whole.clone();
        bent[at] ^= 0x01;
        assert!(probe(&bent).is_err(), "a flipped bit at {at} was accepted");
    }
}

#[test]
fn chunks_out_of_order_are_refused() {
    let head = || ihdr(1, 1, [8, 2]);
    let text = || png_chunk(b"tEXt", b"a\0b");
    let palette = || png_chunk(b"PLTE", &[0; 3]);
    assert_corrupt(&png_of(&[head(), iend()]), "before any image data");
    assert_corrupt(
        &png_of(&[head(), png_chunk(b"IDAT", b""), iend()]),
        "any image data",
    );
    assert_corrupt(
        &png_of(&[head(), idat(), text(), idat(), iend()]),
        "separated from",
    );
    assert_corrupt(
        &png_of(&[head(), head(), idat(), iend()]),
        "not allowed at this place",
    );
    assert_corrupt(
        &png_of(&[head(), png_chunk(b"ABCD", b""), idat(), iend()]),
        "critical but unknown",
    );
    assert_corrupt(
        &png_of(&[head(), idat(), palette(), iend()]),
        "after the image data",
    );
    assert_corrupt(
        &png_of(&[head(), palette(), palette(), idat(), iend()]),
        "second palette",
    );
    assert_corrupt(
        &png_of(&[head(), idat(), png_chunk(b"IEND", b"x")]),
        "has 1 bytes, not 0",
    );
    assert_corrupt(
        &png_of(&[ihdr(1, 1, [8, 3]), idat(), iend()]),
        "needs a palette",
    );
    for len in [0, 1, 4, 769, 771] {
        let palette = png_chunk(b"PLTE", &vec![0; len]);
        assert_corrupt(&png_of(&[head(), palette, idat(), iend()]), "a palette has");
    }
}

#[test]
fn bytes_that_are_not_a_chunk_are_refused_whatever_their_length() {
    let start = png_of(&[ihdr(1, 1, [8, 2])]);
    assert_corrupt(
        &[&start[..], b"\0\0\0\x01ID4T\0"].concat(),
        "should be a chunk",
    );
    assert_corrupt(
        &[&start[..], b"\xff\xff\xff\xffIDAT\0"].concat(),
        "length 4294967295",
    );
    assert_corrupt(
        &[&start[..], b"\x7f\xff\xff\xffIDAT\0"].concat(),
        "1 are left",
    );
}

#[test]
fn an_animation_must_have_exactly_the_frames_that_it_announces() {
    let whole = [4, 4, 0, 0];
    let first = || vec![fctl(0, whole), idat()];
    let with = |rest: &[Vec<u8>]| [&first()[..], rest].concat();
    assert_corrupt(&animated(0, &first()), "announces no frames");
    assert_corrupt(&animated(2, &first()), "comes after 1 frames");
    assert_corrupt(
        &animated(1, &with(&[fctl(1, whole), fdat(2)])),
        "comes after 2 frames",
    );
    assert_corrupt(
        &animated(2, &with(&[fctl(2, whole), fdat(3)])),
        "sequence number 2, not 1",
    );
    assert_corrupt(
        &animated(2, &with(&[fctl(1, whole), fdat(1)])),
        "sequence number 1, not 2",
    );
    assert_corrupt(
        &animated(1, &with(&[fdat(1)])),
        "does not follow a frame control",
    );
    assert_corrupt(
        &animated(2, &with(&[fctl(1, whole)])),
        "before any image data",
    );
    let hungry = [fctl(1, whole), fctl(2, whole), fdat(3)];
    assert_corrupt(
        &animated(3, &with(&hungry)),
        "follows an image or a frame without data",
    );
    assert_corrupt(
        &animated(2, &[fctl(0, whole), fctl(1, whole), idat()]),
        "default image",
    );
    assert_corrupt(
        &animated(1, &[fctl(0, [3, 4, 0, 0]), idat()]),
        "default image",
    );
    assert_corrupt(
        &animated(1, &[actl(1), fctl(0, whole), idat()]),
        "second one",
    );
    let unannounced = png_of(&[ihdr(4, 4, [8, 6]), fctl(0, whole), idat(), iend()]);
    assert_corrupt(&unannounced, "no acTL chunk");
    for rect in [
        [0, 1, 0, 0],
        [1, 0, 0, 0],
        [3, 4, 2, 0],
        [4, 3, 0, 2],
        [1, 1, u32::MAX, 0],
    ] {
        assert_corrupt(
            &animated(2, &with(&[fctl(1, rect), fdat(2)])),
            "puts a frame",
        );
    }
}

#[test]
fn sides_and_pixels_are_limited() {
    assert!(probe(&png(32_768, 1)).is_ok());
    assert!(probe(&png(1, 32_768)).is_ok());
    assert!(probe(&png(10_000, 10_000)).is_ok());
    for (width, height) in [(32_769, 1), (1, 32_769), (u32::MAX, u32::MAX)] {
        let error = FormatError::SideTooLong {
            width,
            height,
            limit: limits::MAX_SIDE,
        };
        assert_eq!(probe(&png(width, height)), Err(error));
    }
    let error = FormatError::TooManyPixels {
        format: Format::Png,
        width: 10_000,
        height: 10_001,
        pixels: 100_010_000,
        limit: 100_000_000,
    };
    assert_eq!(probe(&png(10_000, 10_001)), Err(error));
}

#[test]
fn the_number_of_frames_and_their_total_pixels_are_limited() {
    assert_eq!(
        probe(&apng(1, 1, 1_000)).map(|probe| probe.frames),
        Ok(1_000)
    );
    for frames in [1_001, 100_000] {
        let error = FormatError::TooManyFrames {
            frames,
            limit: limits::MAX_FRAMES,
        };
        assert_eq!(probe(&apng(1, 1, frames)), Err(error));
    }
    assert!(probe(&apng(2_000, 1_500, 100)).is_ok());
    let error = probe(&apng(2_000, 1_500, 101));
    assert!(matches!(
        error,
        Err(FormatError::TooManyTotalPixels {
            frames: 101,
            pixels: 303_000_000,
            ..
        })
    ));
    // The default image counts although it is never shown.
    let with = |last: u32| {
        let whole = [10_000, 10_000, 0, 0];
        png_of(&[
            ihdr(10_000, 10_000, [8, 6]),
            actl(3),
            idat(),
            fctl(0, whole),
            fdat(1),
            fctl(2, [10_000, 9_999, 0, 0]),
            fdat(3),
            fctl(4, [10_000, last, 0, 0]),
            fdat(5),
            iend(),
        ])
    };
    assert!(probe(&with(1)).is_ok());
    let error = probe(&with(2));
    assert!(matches!(
        error,
        Err(FormatError::TooManyTotalPixels {
            pixels: 300_010_000,
            ..
        })
    ));
}

#[test]
fn text_and_profiles_that_inflate_to_more_than_4_mib_are_refused() {
    let deflate = |len: usize| {
        use std::io::Write;
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; len]).unwrap();
        encoder.finish().unwrap()
    };
    let most = deflate(limits::MAX_INFLATED);
    let bomb = deflate(limits::MAX_INFLATED + 1);
    let with =
        |chunks: &[Vec<u8>]| png_of(&[&[ihdr(3, 2, [8, 2])], chunks, &[idat(), iend()]].concat());
    let heads: [(&[u8], &[u8]); 4] = [
        (b"zTXt", b"Comment\0\0"),
        (b"iCCP", b"name\0\0"),
        (b"iTXt", b"XML:com.adobe.xmp\0\x01\0\0\0"),
        (b"iTXt", b"Comment\0\x01\0de\0Kommentar\0"),
    ];
    for (kind, head) in heads {
        let chunk = |deflated: &[u8]| png_chunk(kind, &[head, deflated].concat());
        assert!(
            probe(&with(&[chunk(&most)])).is_ok(),
            "{}",
            head.escape_ascii()
        );
        assert_corrupt(&with(&[chunk(&bomb)]), "4194304 when inflated");
        // Behind the image as well, and in several chunks together.
        let behind = png_of(&[ihdr(3, 2, [8, 2]), idat(), chunk(&bomb), iend()]);
        assert_corrupt(&behind, "4194304 when inflated");
        assert_corrupt(
            &with(&[chunk(&most), chunk(&deflate(1))]),
            "exceeds the limit",
        );
    }
    // Text that is not compressed has no limit of its own.
    let plain: [(&[u8], &[u8]); 3] = [
        (b"iTXt", b"Comment\0\0\0\0\0"),
        (b"zTXt", b"Comment\0\x01"),
        (b"tEXt", b"Comment\0\0"),
    ];
    for (kind, head) in plain {
        let chunk = png_chunk(kind, &[head, &bomb].concat());
        assert!(probe(&with(&[chunk])).is_ok(), "{}", head.escape_ascii());
    }
}
