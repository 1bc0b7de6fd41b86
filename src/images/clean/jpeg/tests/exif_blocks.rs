//! Which Exif block decides, and which parts of it are kept. The blocks are those of real files
//! that were shown turned.

use super::*;

/// Exif with these bytes as its TIFF file.
fn block(tiff: &[u8]) -> Vec<u8> {
    segment(0xe1, &[&b"Exif\0\0"[..], tiff].concat())
}

fn tiff(entries: &[[u8; 12]]) -> Vec<u8> {
    let count = u16::try_from(entries.len()).unwrap().to_be_bytes();
    [b"MM\0*\0\0\0\x08", &count[..], &entries.concat(), &[0; 4]].concat()
}

fn orientation(kind: u8, value: [u8; 4]) -> [u8; 12] {
    let [a, b, c, d] = value;
    [0x01, 0x12, 0, kind, 0, 0, 0, 1, a, b, c, d]
}

const TURNED: [u8; 4] = [0, 6, 0, 0];

fn turned() -> Vec<u8> {
    block(&tiff(&[orientation(3, TURNED)]))
}

#[test]
fn the_first_exif_block_decides_whatever_it_contains() {
    let make = [0x01, 0x0f, 0, 2, 0, 0, 0, 4, b'A', b'c', b'm', 0];
    for (what, first) in [
        ("no orientation", tiff(&[make])),
        ("an empty directory", tiff(&[])),
        ("orientation 0", tiff(&[orientation(3, [0; 4])])),
        ("orientation 1", tiff(&[orientation(3, [0, 1, 0, 0])])),
        ("orientation 9", tiff(&[orientation(3, [0, 9, 0, 0])])),
        ("no TIFF", b"no TIFF".to_vec()),
        ("a single byte", b"M".to_vec()),
    ] {
        let bytes = jpeg(&[block(&first), turned()], &[]);
        assert_eq!(cleaned(&bytes), jpeg(&[], &[]), "{what}");
        assert!(!is_turned(&bytes), "{what}");
        let other_way = jpeg(&[turned(), block(&first)], &[]);
        assert_eq!(cleaned(&other_way), jpeg(&[turned()], &[]), "{what}");
        assert!(is_turned(&other_way), "{what}");
    }
}

#[test]
fn a_segment_that_is_too_short_for_exif_decides_nothing() {
    for body in [&b"Exif\0\0"[..], b"Exif\0", b"Exif", b"Exif;\0MM"] {
        let bytes = jpeg(&[segment(0xe1, body), turned()], &[]);
        assert_eq!(cleaned(&bytes), jpeg(&[turned()], &[]), "{body:?}");
        assert!(is_turned(&bytes));
    }
}

#[test]
fn only_browsers_accept_a_block_with_another_fill_byte() {
    let odd = |value| {
        let tiff = tiff(&[orientation(3, [0, value, 0, 0])]);
        segment(0xe1, &[&b"Exif\0\xff"[..], &tiff].concat())
    };
    let bytes = jpeg(&[odd(6)], &[]);
    assert!(is_clean(&bytes) && is_turned(&bytes));
    // Libraries take the second block, so both are kept.
    let both = jpeg(&[odd(3), turned()], &[]);
    assert!(is_clean(&both));
    assert!(!is_turned(&both), "browsers take the first one");
    let three = jpeg(&[odd(6), turned(), odd(8), turned()], &[]);
    assert_eq!(cleaned(&three), jpeg(&[odd(6), turned()], &[]));
    // Browsers show these upright, and still do, although libraries turn them by the second block.
    for first in [odd(1), odd(0), segment(0xe1, b"Exif\0\xffno TIFF")] {
        let upright = jpeg(&[first, segment(0xfe, b"between"), turned()], &[]);
        assert!(!is_turned(&upright));
        assert_eq!(cleaned(&upright), jpeg(&[odd(1), turned()], &[]));
    }
    assert_eq!(cleaned(&jpeg(&[odd(1)], &[])), jpeg(&[], &[]));
}

#[test]
fn an_orientation_of_another_type_stays_without_effect() {
    for (kind, value) in [(4, [0, 0, 0, 6]), (9, [0, 0, 0, 6])] {
        let bytes = jpeg(&[block(&tiff(&[orientation(kind, value)]))], &[]);
        assert!(is_clean(&bytes), "{kind}");
        assert!(!is_turned(&bytes), "{kind}");
    }
}

#[test]
fn exif_behind_the_first_scan_has_no_effect() {
    let bytes = jpeg(&[], &[turned()]);
    assert_eq!(cleaned(&bytes), jpeg(&[], &[]));
    assert!(!is_turned(&bytes));
}

#[test]
fn half_of_the_orientations_exchange_width_and_height() {
    for value in 1..=8 {
        let exif = block(&tiff(&[orientation(3, [0, value, 0, 0])]));
        assert_eq!(is_turned(&jpeg(&[exif], &[])), value > 4, "{value}");
    }
}

/// Exif with 144 dots per inch, for a picture of this size.
fn dense(width: u8, height: u8) -> Vec<u8> {
    let [x, y] = [62_u8, 70].map(|at| [0, 5, 0, 0, 0, 1, 0, 0, 0, at]);
    let entry =
        |tag: [u8; 2], rest: &[u8]| -> [u8; 12] { [&tag[..], rest].concat().try_into().unwrap() };
    let root = tiff(&[
        entry([0x01, 0x1a], &x),
        entry([0x01, 0x1b], &y),
        [0x01, 0x28, 0, 3, 0, 0, 0, 1, 0, 2, 0, 0],
        [0x87, 0x69, 0, 4, 0, 0, 0, 1, 0, 0, 0, 78],
    ]);
    let inner = [
        &[0, 2, 0xa0, 2, 0, 4, 0, 0, 0, 1, 0, 0, 0, width][..],
        &[0xa0, 3, 0, 4, 0, 0, 0, 1, 0, 0, 0, height, 0, 0, 0, 0],
    ];
    let rational = [0, 0, 0, 144, 0, 0, 0, 1];
    block(&[&root[..], &rational, &rational, &inner.concat()].concat())
}

#[test]
fn a_display_size_that_browsers_apply_stays() {
    // The picture has 16 by 8 pixels.
    assert!(is_clean(&jpeg(&[dense(8, 4)], &[])));
    assert_eq!(cleaned(&jpeg(&[dense(9, 4)], &[])), jpeg(&[], &[]));
    // Only the display size of the deciding block counts.
    let second = jpeg(&[turned(), dense(8, 4)], &[]);
    assert_eq!(cleaned(&second), jpeg(&[turned()], &[]));
}
