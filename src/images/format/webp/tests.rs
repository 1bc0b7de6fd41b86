//! Tests each rule of the WebP walk with the smallest file that breaks it.

use super::super::samples::{
    anim, animated_webp, anmf, probe, riff, riff_chunk, shape, vp8, vp8l, vp8x,
};
use super::super::{FormatError, limits};
use super::*;

fn assert_corrupt(bytes: &[u8], needle: &str) {
    match probe(bytes) {
        Err(FormatError::Corrupt {
            format: Format::Webp,
            what,
        }) if what.contains(needle) => {}
        other => panic!("expected '{needle}', got {other:?}"),
    }
}

fn alpha() -> Vec<u8> {
    riff_chunk(b"ALPH", b"\x01alpha")
}

#[test]
fn every_form_has_its_size() {
    let expected = |frames| (6, 5, frames);
    for image in [vp8(6, 5), vp8l(6, 5)] {
        assert_eq!(shape(&riff(std::slice::from_ref(&image))), Ok(expected(1)));
        let tail = riff_chunk(b"EXIF", b"odd");
        assert_eq!(shape(&riff(&[image.clone(), tail])), Ok(expected(1)));
        assert_eq!(shape(&riff(&[vp8x(0, 6, 5), image])), Ok(expected(1)));
    }
    assert_eq!(
        shape(&riff(&[vp8x(0x10, 6, 5), alpha(), vp8(6, 5)])),
        Ok(expected(1))
    );
    assert_eq!(shape(&animated_webp(6, 5, 4)), Ok(expected(4)));
    let frame = anmf([2, 2, 3, 3], &[alpha(), vp8(3, 3)].concat());
    assert_eq!(
        shape(&riff(&[vp8x(0x12, 6, 5), anim(), frame])),
        Ok(expected(1))
    );
}

#[test]
fn chunks_must_fill_the_riff_length_exactly() {
    let whole = riff(&[vp8(6, 5)]);
    let with_len = |len: usize| {
        let mut bytes = whole.clone();
        bytes[4..8].copy_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
        bytes
    };
    let len = whole.len() - 8;
    assert!(probe(&with_len(len)).is_ok());
    assert_corrupt(&with_len(len + 1), "RIFF container");
    assert_corrupt(&with_len(len - 1), "VP8  chunk");
    assert_corrupt(&with_len(4), "chunk type");
    assert_corrupt(&with_len(3), "WEBP signature");
    assert_corrupt(&with_len(u32::MAX as usize), "RIFF container");
    assert_corrupt(&riff(&[vp8(6, 5), b"ABC".to_vec()]), "chunk type");
    assert_corrupt(
        &riff(&[vp8(6, 5), b"ABCD\x01\0\0\0x".to_vec()]),
        "padding of the ABCD chunk",
    );
    assert!(probe(&riff(&[vp8(6, 5), b"A\n\0D\0\0\0\0".to_vec()])).is_ok());
}

#[test]
fn a_lossy_bitstream_begins_with_a_key_frame() {
    // Offset 8 of the chunk is the frame tag, 11 the start code, 14 the size.
    let cases = [
        (8, 0x51, "not a shown key frame"),
        (8, 0x58, "not a shown key frame"),
        (8, 0x40, "not a shown key frame"),
        (11, 0x9c, "not a shown key frame"),
        (8, 0x10, "partition of 0"),
        (8, 0x90, "partition of 4"),
        (14, 0x00, "side of zero"),
        (16, 0x00, "side of zero"),
    ];
    for (at, value, needle) in cases {
        let mut image = vp8(6, 5);
        image[at] = value;
        assert_corrupt(&riff(&[image]), needle);
    }
    let mut scaled = vp8(6, 5);
    scaled[15] |= 0x40;
    assert_eq!(probe(&riff(&[scaled])).map(|probe| probe.width), Ok(6));
}

#[test]
fn a_lossless_bitstream_needs_signature_version_and_data() {
    for (at, value) in [(8, 0x2e), (12, 0x20)] {
        let mut image = vp8l(6, 5);
        image[at] |= value | 0x80;
        assert_corrupt(&riff(&[image]), "not 2F and 0");
    }
    assert_corrupt(
        &riff(&[riff_chunk(b"VP8L", &[0x2f, 0, 0, 0, 0])]),
        "has no data",
    );
}

#[test]
fn a_still_webp_is_one_image_of_the_size_of_its_canvas() {
    let still = |chunks: &[Vec<u8>]| riff(&[&[vp8x(0, 6, 5)], chunks].concat());
    assert_corrupt(&still(&[]), "has no image");
    assert_corrupt(&still(&[vp8(6, 6)]), "is 6 by 6 where one image of 6 by 5");
    assert_corrupt(&still(&[vp8l(7, 5)]), "is 7 by 5 where one image of 6 by 5");
    assert_corrupt(&still(&[vp8(6, 5), vp8(6, 5)]), "where one image");
    assert_corrupt(&still(&[alpha(), vp8l(6, 5)]), "where one image");
    assert_corrupt(&still(&[alpha(), alpha(), vp8(6, 5)]), "not allowed here");
    assert_corrupt(&still(&[vp8(6, 5), alpha()]), "not allowed here");
    assert_corrupt(
        &still(&[riff_chunk(b"ALPH", b"\x02x"), vp8(6, 5)]),
        "unknown compression",
    );
    assert_corrupt(&still(&[vp8x(0, 6, 5), vp8(6, 5)]), "not allowed here");
    assert_corrupt(
        &still(&[vp8(6, 5), anmf([0, 0, 6, 5], &vp8(6, 5))]),
        "not allowed here",
    );
    for hidden in [vp8(1, 1), vp8l(1, 1), vp8x(0, 1, 1), alpha(), anim()] {
        assert_corrupt(&riff(&[vp8(6, 5), hidden]), "not allowed here");
    }
    assert_corrupt(
        &riff(&[riff_chunk(b"EXIF", b"II"), vp8(6, 5)]),
        "must be VP8, VP8L or VP8X",
    );
    let mut long = vp8x(0, 6, 5);
    long[4] = 12;
    long.extend([0, 0]);
    assert_corrupt(&riff(&[long, vp8(6, 5)]), "2 bytes too many");
}

#[test]
fn an_animation_needs_anim_and_frames_inside_the_canvas() {
    let frame = || anmf([0, 0, 6, 5], &vp8(6, 5));
    let moving = |chunks: &[Vec<u8>]| riff(&[&[vp8x(2, 6, 5)], chunks].concat());
    assert!(probe(&moving(&[anim(), frame(), riff_chunk(b"XMP ", b"<x/>")])).is_ok());
    assert_corrupt(&moving(&[anim()]), "animation without frames");
    assert_corrupt(&moving(&[frame()]), "before the ANIM chunk");
    assert_corrupt(&moving(&[anim(), anim(), frame()]), "second one");
    assert_corrupt(
        &moving(&[riff_chunk(b"ANIM", &[0; 5]), frame()]),
        "does not have 6 bytes",
    );
    assert_corrupt(&moving(&[vp8(6, 5)]), "outside of the animation's frames");
    assert_corrupt(
        &moving(&[anim(), anmf([2, 0, 6, 5], &vp8(6, 5))]),
        "puts a frame",
    );
    assert_corrupt(
        &moving(&[anim(), anmf([0, 2, 6, 5], &vp8(6, 5))]),
        "puts a frame",
    );
    assert_corrupt(
        &moving(&[anim(), anmf([0, 0, 5, 5], &vp8(6, 5))]),
        "is 6 by 5 where",
    );
    assert_corrupt(&moving(&[anim(), anmf([0, 0, 6, 5], b"")]), "has no image");
    let nested = anmf([0, 0, 6, 5], &frame());
    assert_corrupt(&moving(&[anim(), nested]), "not allowed here");
}

#[test]
fn sides_pixels_and_frames_are_limited() {
    assert!(probe(&riff(&[vp8l(16_383, 1)])).is_ok());
    assert!(probe(&riff(&[vp8l(16_384, 1)])).is_err());
    assert!(probe(&riff(&[vp8(1, 16_383)])).is_ok());
    let canvas = |width, height| probe(&riff(&[vp8x(0, width, height), vp8l(1, 1)]));
    let (width, height, limit) = (16_384, 1, limits::MAX_WEBP_SIDE);
    assert_eq!(
        canvas(width, height),
        Err(FormatError::SideTooLong {
            width,
            height,
            limit
        })
    );
    assert!(matches!(
        canvas(1 << 24, 1 << 24),
        Err(FormatError::SideTooLong { .. })
    ));
    assert!(probe(&riff(&[vp8l(10_000, 5_000)])).is_ok());
    let error = probe(&riff(&[vp8l(10_000, 5_001)]));
    assert!(matches!(
        error,
        Err(FormatError::TooManyPixels {
            pixels: 50_010_000,
            limit: 50_000_000,
            ..
        })
    ));
    assert!(probe(&animated_webp(2_000, 1_500, 100)).is_ok());
    let error = probe(&animated_webp(2_000, 1_500, 101));
    assert!(matches!(
        error,
        Err(FormatError::TooManyTotalPixels {
            frames: 101,
            pixels: 303_000_000,
            ..
        })
    ));
    assert_eq!(
        probe(&animated_webp(1, 1, 1_000)).map(|probe| probe.frames),
        Ok(1_000)
    );
    for frames in [1_001, 100_000] {
        let error = FormatError::TooManyFrames {
            frames: 1_001,
            limit: limits::MAX_FRAMES,
        };
        assert_eq!(probe(&animated_webp(1, 1, frames)), Err(error));
    }
}
