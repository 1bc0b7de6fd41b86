use proptest::prelude::*;

use super::*;

/// Exif of a camera: a maker, an orientation and a position, followed by the directory of a
/// thumbnail.
pub(in crate::images::clean) fn camera_exif(order: [u8; 2], value: u16) -> Vec<u8> {
    let low = order == *b"II";
    let u16 = |value: u16| {
        if low {
            value.to_le_bytes()
        } else {
            value.to_be_bytes()
        }
    };
    let u32 = |value: u32| {
        if low {
            value.to_le_bytes()
        } else {
            value.to_be_bytes()
        }
    };
    let entry = |tag: u16, kind: u16, count: u32, value: [u8; 4]| {
        [&u16(tag)[..], &u16(kind), &u32(count), &value].concat()
    };
    let [high, low] = u16(value);
    [
        &order[..],
        &u16(42),
        &u32(8),
        &u16(3),
        &entry(0x010f, 2, 13, u32(50)),
        &entry(0x0112, 3, 1, [high, low, 0, 0]),
        &entry(0x8825, 4, 1, u32(63)),
        &u32(63),
        b"SecretCamera\0",
        &u16(0),
        &u32(0),
    ]
    .concat()
}

const SIZE: (u32, u32) = (64, 48);

/// The block that cleaning keeps of these bytes.
fn left(tiff: &[u8]) -> Option<Vec<u8>> {
    Exif::read(tiff, SIZE)?.to_tiff()
}

fn orientation(tiff: &[u8]) -> Option<Orientation> {
    Exif::read(tiff, SIZE)?.orientation
}

fn entry(tag: u16, kind: u16, count: u32, value: [u8; 4]) -> Vec<u8> {
    let head = [tag.to_be_bytes(), kind.to_be_bytes()].concat();
    [&head[..], &count.to_be_bytes(), &value].concat()
}

/// A block with one directory of these entries, and further bytes behind it.
fn block(entries: &[Vec<u8>], behind: &[u8]) -> Vec<u8> {
    let count = u16::try_from(entries.len()).unwrap().to_be_bytes();
    [
        b"MM\0*\0\0\0\x08",
        &count[..],
        &entries.concat(),
        &[0; 4],
        behind,
    ]
    .concat()
}

#[test]
fn each_orientation_is_read_in_both_byte_orders_and_written_alone() {
    for order in [*b"II", *b"MM"] {
        for value in 1..=8 {
            let exif = camera_exif(order, value.into());
            assert_eq!(orientation(&exif), Some(Orientation::Applied(value)));
            let Some(tiff) = left(&exif) else {
                assert_eq!(value, 1, "an upright image needs no Exif");
                continue;
            };
            assert_eq!(tiff.len(), 26);
            assert!(tiff.starts_with(&order));
            assert_eq!(left(&tiff), Some(tiff.clone()), "the block must not change");
            let orientation = Exif::read(&tiff, SIZE).unwrap().orientation();
            assert_eq!(orientation, value);
        }
    }
}

#[test]
fn the_written_block_has_the_layout_of_tiff() {
    let tiff = left(&camera_exif(*b"MM", 6)).unwrap();
    assert_eq!(
        tiff,
        *b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    );
}

#[test]
fn malformed_exif_has_no_orientation() {
    for value in [0, 9, 256, 0x0600, u16::MAX] {
        assert_eq!(orientation(&camera_exif(*b"II", value)), None, "{value}");
        assert_eq!(orientation(&camera_exif(*b"MM", value)), None, "{value}");
    }
    let sound = camera_exif(*b"MM", 6);
    let changes: [(usize, &[u8]); 5] = [
        (0, b"IM"),
        (2, b"*\0"),
        (4, &[0xff; 4]),
        (8, &[0, 1]),
        (26, &[0, 0, 0, 2]),
    ];
    for (at, bytes) in changes {
        let mut tiff = sound.clone();
        tiff[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(orientation(&tiff), None, "{bytes:?} at {at}");
    }
    for end in 0..34 {
        assert_eq!(orientation(&sound[..end]), None, "cut at {end}");
    }
    let cut = orientation(&sound[..34]);
    assert_eq!(cut, Some(Orientation::Applied(6)), "the entry is whole");
}

#[test]
fn the_first_valid_orientation_counts_in_either_directory() {
    let value = |value: u8| entry(ORIENTATION, 3, 1, [0, value, 0, 0]);
    let of = |entries: &[Vec<u8>]| orientation(&block(entries, b""));
    assert_eq!(of(&[value(0), value(6)]), Some(Orientation::Applied(6)));
    assert_eq!(of(&[value(6), value(3)]), Some(Orientation::Applied(6)));
    let inner = [&[0, 1][..], &value(8), &[0; 4]].concat();
    let outer = block(&[entry(EXIF_DIRECTORY, 4, 1, [0, 0, 0, 26])], &inner);
    assert_eq!(orientation(&outer), Some(Orientation::Applied(8)));
}

#[test]
fn an_orientation_of_another_type_stays_without_effect() {
    for (kind, value) in [(4, [0, 0, 0, 6]), (9, [0, 0, 0, 8]), (8, [0, 5, 0, 0])] {
        let tiff = block(&[entry(ORIENTATION, kind, 1, value)], b"secret");
        assert_eq!(orientation(&tiff), Some(Orientation::Foreign(kind, value)));
        let tiff = left(&tiff).unwrap();
        assert_eq!(tiff, block(&[entry(ORIENTATION, kind, 1, value)], b""));
        assert_eq!(Exif::read(&tiff, SIZE).unwrap().orientation(), 1);
    }
    for (kind, count, value) in [
        (1, 1, [6, 0, 0, 0]),
        (2, 1, *b"6\0\0\0"),
        (3, 2, [0, 6, 0, 6]),
        (4, 1, [0, 0, 1, 6]),
        (9, 1, [0xff, 0xff, 0xff, 0xfa]),
    ] {
        let tiff = block(&[entry(ORIENTATION, kind, count, value)], b"");
        assert_eq!(left(&tiff), None, "{kind} {value:?}");
    }
}

/// A picture of 64 by 48 pixels at `x` and `y` dots per inch, with a display size of `width` by
/// `height`.
fn dense(unit: u8, [x, y]: [u32; 2], width: u8, height: u8) -> Vec<u8> {
    // 8 and 2 and 4 times 12 and 4 are 62.
    let inner_at = 62 + 16;
    let inner = [
        vec![0, 2],
        entry(PIXEL_WIDTH, 4, 1, [0, 0, 0, width]),
        entry(PIXEL_HEIGHT, 3, 1, [0, height, 0, 0]),
        vec![0; 4],
    ];
    let rational = |over: u32| [over.to_be_bytes(), 1_u32.to_be_bytes()].concat();
    block(
        &[
            entry(X_RESOLUTION, 5, 1, [0, 0, 0, 62]),
            entry(Y_RESOLUTION, 5, 1, [0, 0, 0, 70]),
            entry(RESOLUTION_UNIT, 3, 1, [0, unit, 0, 0]),
            entry(EXIF_DIRECTORY, 4, 1, [0, 0, 0, inner_at]),
        ],
        &[rational(x), rational(y), inner.concat(), b"secret".to_vec()].concat(),
    )
}

#[test]
fn a_display_size_stays_where_resolution_and_named_size_agree() {
    let tiff = left(&dense(2, [144, 144], 32, 24)).unwrap();
    assert!(!tiff.windows(6).any(|part| part == b"secret"));
    assert_eq!(left(&tiff), Some(tiff.clone()), "the block must not change");
    assert!(left(&dense(2, [36, 144], 128, 24)).is_some());
    for nothing in [
        dense(2, [144, 144], 33, 24),
        dense(2, [144, 0], 32, 24),
        dense(3, [144, 144], 32, 24),
        dense(2, [72, 72], 64, 48),
        dense(2, [300, 300], 64, 48),
    ] {
        assert_eq!(left(&nothing), None);
    }
}

#[test]
fn metadata_of_a_camera_is_named() {
    let words = |tiff: &[u8]| kinds::of(tiff).words();
    assert_eq!(words(&camera_exif(*b"II", 6)), ["camera", "thumbnail"]);
    let gps = [&[0, 1][..], &entry(2, 5, 3, [0; 4]), &[0; 4]].concat();
    let place = block(&[entry(0x8825, 4, 1, [0, 0, 0, 26])], &gps);
    assert_eq!(words(&place), ["location"]);
    let version = [&[0, 1][..], &entry(0, 1, 4, [2, 3, 0, 0]), &[0; 4]].concat();
    let no_place = block(&[entry(0x8825, 4, 1, [0, 0, 0, 26])], &version);
    assert!(words(&no_place).is_empty());
    let mut thumbnail = block(&[entry(0x0132, 2, 4, *b"now\0")], b"");
    let next = thumbnail.len() - 1;
    thumbnail[next] = 8;
    assert_eq!(words(&thumbnail), ["date", "thumbnail"]);
    assert_eq!(words(b"no TIFF"), ["other"]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_exif_never_panics_and_is_cleaned_in_one_pass(
        start in prop::sample::select(vec![&b""[..], b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]),
        noise in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let bytes = [start, &noise].concat();
        kinds::of(&bytes);
        if let Some(tiff) = left(&bytes) {
            prop_assert_eq!(left(&tiff), Some(tiff.clone()));
        }
    }
}
