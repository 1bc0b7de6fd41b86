use proptest::prelude::*;

use super::*;

/// Exif of a camera: a maker, an orientation and a position, with a thumbnail's directory behind.
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

fn read(tiff: &[u8]) -> Option<u8> {
    Orientation::read(tiff).map(|orientation| orientation.value)
}

#[test]
fn all_eight_orientations_are_read_in_both_byte_orders_and_written_alone() {
    for order in [*b"II", *b"MM"] {
        for value in 1..=8 {
            let found = Orientation::read(&camera_exif(order, value.into())).unwrap();
            assert_eq!((found.value, found.is_upright()), (value, value == 1));
            let tiff = found.to_tiff();
            assert!(tiff.starts_with(&order));
            assert_eq!(Orientation::read(&tiff), Some(found));
        }
    }
}

#[test]
fn the_written_block_is_the_published_layout() {
    let tiff = Orientation::read(&camera_exif(*b"MM", 6))
        .unwrap()
        .to_tiff();
    assert_eq!(
        tiff,
        *b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    );
}

#[test]
fn malformed_exif_has_no_orientation() {
    for value in [0, 9, 256, 0x0600, u16::MAX] {
        assert_eq!(read(&camera_exif(*b"II", value)), None, "{value}");
        assert_eq!(read(&camera_exif(*b"MM", value)), None, "{value}");
    }
    let sound = camera_exif(*b"MM", 6);
    let changes: [(usize, &[u8]); 8] = [
        (0, b"IM"),
        (2, b"*\0"),
        (4, &[0xff; 4]),
        (4, &[0, 0, 0, 6]),
        (4, &[0, 0, 0, 0]),
        (8, &[0, 1]),
        (24, &[0, 4]),
        (26, &[0, 0, 0, 2]),
    ];
    for (at, bytes) in changes {
        let mut tiff = sound.clone();
        tiff[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(read(&tiff), None, "{bytes:?} at {at}");
    }
    for end in 0..34 {
        assert_eq!(read(&sound[..end]), None, "cut at {end}");
    }
    assert_eq!(read(&sound[..34]), Some(6), "the entry is whole");
}

#[test]
fn the_first_block_that_names_an_orientation_decides() {
    let (upright, turned) = (camera_exif(*b"II", 1), camera_exif(*b"MM", 6));
    let mut first = FirstOrientation::default();
    assert_eq!(first.replacement(b"Exif of nobody"), None);
    assert_eq!(first.replacement(&upright), None);
    assert_eq!(first.replacement(&turned), None);

    let mut first = FirstOrientation::default();
    assert_eq!(
        first.replacement(&turned).as_ref().and_then(|t| read(t)),
        Some(6)
    );
    assert_eq!(first.replacement(&turned), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_exif_never_panics(
        start in prop::sample::select(vec![&b""[..], b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]),
        noise in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        prop_assert!(read(&[start, &noise].concat()).is_none_or(|value| (1..=8).contains(&value)));
    }
}
