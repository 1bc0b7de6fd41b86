//! Tests each rule of the JPEG walk with the smallest file that breaks it.

use super::super::FormatError;
use super::super::samples::{dqt, jpeg, probe, progressive_jpeg, scan, segment, shape, sof};
use crate::model::image::Format;

const ALL: [u8; 3] = [0, 63, 0];

fn assert_corrupt(bytes: &[u8], needle: &str) {
    match probe(bytes) {
        Err(FormatError::Corrupt {
            format: Format::Jpeg,
            what,
        }) if what.contains(needle) => {}
        other => panic!("expected '{needle}', got {other:?}"),
    }
}

fn image(parts: &[Vec<u8>]) -> Vec<u8> {
    [b"\xff\xd8", &parts.concat()[..], b"\xff\xd9"].concat()
}

#[test]
fn baseline_extended_and_progressive_images_have_their_size() {
    let expected = (16, 8, 1);
    for code in [0xc0, 0xc1] {
        let at_once = [scan(&[1, 2, 3], ALL)];
        assert_eq!(shape(&jpeg(code, 16, 8, &at_once)), Ok(expected));
        let apart = [scan(&[2], ALL), scan(&[1, 3], ALL)];
        assert_eq!(shape(&jpeg(code, 16, 8, &apart)), Ok(expected));
    }
    assert_eq!(shape(&progressive_jpeg(10)), Ok(expected));
}

#[test]
fn other_coding_processes_are_refused_by_name() {
    for code in [0xc3, 0xc5, 0xc6, 0xc7] {
        assert_corrupt(
            &image(&[dqt(), sof(code, 8, 8)]),
            "lossless or hierarchical",
        );
    }
    for code in [0xc9, 0xca, 0xcb, 0xcc, 0xcd, 0xce, 0xcf] {
        assert_corrupt(&image(&[dqt(), sof(code, 8, 8)]), "arithmetic");
    }
    let mut twelve_bits = sof(0xc1, 8, 8);
    twelve_bits[4] = 12;
    assert_corrupt(&image(&[dqt(), twelve_bits]), "12 bits a sample");
    assert_corrupt(&image(&[segment(0xdc, &[0, 8])]), "DNL");
    for code in [0x01, 0x02, 0xc8, 0xde, 0xdf, 0xf7, 0xfd] {
        assert_corrupt(&image(&[segment(code, &[0, 8])]), "the marker FF");
    }
    assert_corrupt(
        &image(&[b"\xff\xd8".to_vec()]),
        "FFD8 at byte 2 is not allowed here",
    );
    assert_corrupt(&image(&[b"\xff\xd0".to_vec()]), "not allowed here");
}

#[test]
fn a_height_or_width_of_zero_is_refused() {
    assert_corrupt(&jpeg(0xc0, 16, 0, &[scan(&[1, 2, 3], ALL)]), "is 16 by 0");
    assert_corrupt(&jpeg(0xc0, 0, 16, &[scan(&[1, 2, 3], ALL)]), "is 0 by 16");
}

#[test]
fn the_frame_header_is_checked() {
    // Offset 9 of the segment is the number of components.
    let cases: [(usize, u8, &str); 4] = [
        (9, 2, "with 2 components"),
        (9, 5, "with 5 components"),
        (9, 1, "6 bytes too many"),
        (9, 4, "needs 12 bytes and 9 are left"),
    ];
    for (at, value, needle) in cases {
        let mut frame = sof(0xc0, 8, 8);
        frame[at] = value;
        assert_corrupt(&image(&[dqt(), frame, scan(&[1, 2, 3], ALL)]), needle);
    }
    let twice = [
        dqt(),
        sof(0xc0, 8, 8),
        sof(0xc0, 8, 8),
        scan(&[1, 2, 3], ALL),
    ];
    assert_corrupt(&image(&twice), "second frame header");
    let late = [
        dqt(),
        sof(0xc0, 8, 8),
        scan(&[1, 2, 3], ALL),
        sof(0xc0, 9, 9),
    ];
    assert_corrupt(&image(&late), "second frame header");
    assert_corrupt(&image(&[scan(&[1], ALL)]), "has no frame header");
    assert_corrupt(&jpeg(0xc0, 16, 8, &[]), "without a scan");
    assert_corrupt(&image(&[]), "without a scan");
    assert_corrupt(&image(&[b"\xff\xe0\0\x01".to_vec()]), "has length 1");
}

#[test]
fn only_fill_bytes_may_precede_a_marker() {
    let rest = [sof(0xc0, 8, 8), scan(&[1, 2, 3], ALL)].concat();
    assert!(probe(&image(&[vec![0xff; 9], dqt(), rest.clone()])).is_ok());
    // A byte of 00 behind the fill bytes makes them data, which is not allowed here.
    assert_corrupt(
        &image(&[dqt(), vec![0], rest]),
        "should be a marker and is 00",
    );
}

#[test]
fn sides_pixels_and_scans_are_limited() {
    let with = |width, height| probe(&jpeg(0xc0, width, height, &[scan(&[1, 2, 3], ALL)]));
    assert!(with(32_768, 1).is_ok() && with(1, 32_768).is_ok() && with(10_000, 10_000).is_ok());
    for (width, height) in [(32_769, 1), (1, 32_769), (65_535, 65_535)] {
        assert!(matches!(
            with(width, height),
            Err(FormatError::SideTooLong { .. })
        ));
    }
    assert!(matches!(
        with(10_000, 10_001),
        Err(FormatError::TooManyPixels { .. })
    ));
    assert!(probe(&progressive_jpeg(99)).is_ok());
    assert_corrupt(&progressive_jpeg(100), "one more than the 99");
}
