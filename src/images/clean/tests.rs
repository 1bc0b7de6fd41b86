use proptest::prelude::*;

use super::exif::tests::camera_exif;
use super::icc::tests::carriers::chunk_body;
use super::icc::tests::sample;
use super::*;
use crate::images::format::format_of;
use crate::images::format::samples::{self, probe, shape};

/// Cleans and checks what must hold for every image: the probe sees the same picture, the growth is
/// limited, and cleaning again changes nothing.
pub(super) fn cleaned(bytes: &[u8]) -> Vec<u8> {
    let format = format_of(bytes).unwrap();
    let out = clean(bytes, format).unwrap();
    let picture = shape(&out.bytes).unwrap();
    if let Ok(before) = shape(bytes) {
        assert_eq!(picture, before);
    }
    assert!(out.bytes.len() <= bytes.len() + GROWTH);
    assert_eq!(
        out.removed.is_empty(),
        matches!(out.bytes, Content::Unchanged(_))
    );
    if let Content::Changed(new) = &out.bytes {
        assert_ne!(**new, *bytes, "new bytes, though nothing was removed");
    }
    let again = clean(&out.bytes, format).unwrap();
    assert!(
        matches!(again.bytes, Content::Unchanged(again) if *again == *out.bytes),
        "cleaning twice differs: {}",
        out.bytes.escape_ascii()
    );
    assert_eq!(again.orientation, out.orientation);
    out.bytes.to_vec()
}

/// The words for what is removed from a file.
pub(super) fn removed(bytes: &[u8]) -> Vec<&'static str> {
    cleaned(bytes);
    clean(bytes, format_of(bytes).unwrap())
        .unwrap()
        .removed
        .words()
}

/// Whether viewers show width and height exchanged.
pub(super) fn is_turned(bytes: &[u8]) -> bool {
    clean(bytes, format_of(bytes).unwrap()).unwrap().is_turned()
}

/// Whether the file is refused, by the cleaner or by the probe of its result.
pub(super) fn is_refused(bytes: &[u8]) -> bool {
    let cleaned = clean(bytes, format_of(bytes).unwrap());
    cleaned.is_err() || probe(&cleaned.unwrap().bytes).is_err()
}

/// Whether cleaning returns the same bytes, without a copy.
pub(super) fn is_clean(bytes: &[u8]) -> bool {
    let format = probe(bytes).unwrap().format;
    let bytes_of = clean(bytes, format).map(|cleaned| cleaned.bytes);
    matches!(bytes_of, Ok(Content::Unchanged(same)) if std::ptr::eq(same, bytes))
}

#[test]
fn bytes_behind_the_end_of_every_sample_are_removed() {
    for (name, _, bytes) in samples::all() {
        let alone = cleaned(&bytes);
        let followed = [
            &bytes[..],
            b"PK\x03\x04<script>alert(1)</script>\xff\xd8\xff",
        ]
        .concat();
        assert_eq!(cleaned(&followed), alone, "{name}");
    }
}

#[test]
fn a_file_of_another_format_is_an_error() {
    for (name, format, bytes) in samples::all() {
        for other in Format::ALL.into_iter().filter(|other| *other != format) {
            assert!(clean(&bytes, other).is_err(), "{name} as {other}");
        }
        for end in 0..bytes.len() {
            drop(clean(&bytes[..end], format));
        }
    }
}

/// A block of metadata (or an empty one) as each format carries it.
fn block(format: Format, kind: usize, body: &[u8]) -> Vec<u8> {
    const PNG: [&[u8; 4]; 10] = [
        b"tEXt", b"eXIf", b"iCCP", b"gAMA", b"prVt", b"tIME", b"pHYs", b"tRNS", b"sRGB", b"eXIf",
    ];
    const WEBP: [&[u8; 4]; 6] = [b"EXIF", b"XMP ", b"ICCP", b"ANIM", b"what", b"EXIF"];
    const JPEG: [(u8, &[u8]); 10] = [
        (0xe0, b"JFIF\0"),
        (0xe0, b"JFXX\0"),
        (0xe1, b"Exif\0\0"),
        (0xe1, b"http://ns.adobe.com/xap/1.0/\0"),
        (0xe2, b"ICC_PROFILE\0"),
        (0xe2, b"MPF\0"),
        (0xed, b"Photoshop 3.0\0"),
        (0xee, b"Adobe"),
        (0xee, b"Adobe\0d\0\0\0\0"),
        (0xfe, b""),
    ];
    const GIF: [&[u8]; 7] = [
        b"!\xfe",
        b"!\x01",
        b"!\xff",
        b"!\xff\x0bXMP DataXMP",
        b"!\xff\x0bNETSCAPE2.0",
        b"!\xff\x0bNETSCAPE2.0\x03\x01\x02\x03",
        b"!\xff\x0bICCRGBG1012",
    ];
    let kind = kind % 10;
    match format {
        Format::Png => samples::png_chunk(PNG[kind], body),
        Format::Webp => samples::riff_chunk(WEBP[kind % 6], body),
        Format::Jpeg => {
            let (code, prefix) = JPEG[kind];
            samples::segment(code, &[prefix, body].concat())
        }
        Format::Gif => {
            let blocks = body
                .chunks(100)
                .flat_map(|part| [&[u8::try_from(part.len()).unwrap()], part].concat());
            [GIF[kind % 7], &blocks.collect::<Vec<_>>(), b"\0"].concat()
        }
    }
}

/// A picture with these blocks behind its head and before its end.
fn with_blocks(format: Format, front: &[u8], back: &[u8]) -> Vec<u8> {
    match format {
        Format::Png => samples::png_of(&[
            samples::ihdr(3, 2, [8, 2]),
            front.to_vec(),
            samples::idat(),
            back.to_vec(),
            samples::iend(),
        ]),
        Format::Jpeg => {
            let bytes = samples::progressive_jpeg(3);
            let scan = bytes.windows(2).rposition(|w| w == [0xff, 0xda]).unwrap();
            [&bytes[..2], front, &bytes[2..scan], back, &bytes[scan..]].concat()
        }
        Format::Gif => {
            let frame = samples::gif_frame([0, 0, 3, 2]);
            let head = samples::gif_head(3, 2);
            [&head, front, &frame, back, &frame, b";"].concat()
        }
        Format::Webp => samples::riff(&[
            samples::vp8x(0x3c, 6, 5),
            front.to_vec(),
            samples::riff_chunk(b"ALPH", b"\x01alpha"),
            samples::vp8(6, 5),
            back.to_vec(),
        ]),
    }
}

/// The fuzzer starts from the seeds. A seed that is refused, or a format whose seeds never need
/// cleaning, would be useless.
#[test]
fn fuzz_seeds_are_accepted_and_some_of_each_format_have_metadata() {
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for format in Format::ALL {
        let (mut clean, mut unclean) = (0, 0);
        for entry in std::fs::read_dir(seeds.join(format.as_str())).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(format_of(&bytes), Ok(format), "{path:?}");
            assert!(!is_refused(&bytes), "{path:?}");
            if cleaned(&bytes) == bytes {
                clean += 1;
            } else {
                unclean += 1;
            }
        }
        assert!(clean >= 4 && unclean >= 4, "{format}: {clean}, {unclean}");
    }
}

/// Any bytes: a file may be refused before or after it is cleaned.
fn cleaned_if_accepted(bytes: &[u8], format: Format) {
    if format_of(bytes) == Ok(format) && !is_refused(bytes) {
        cleaned(bytes);
    } else {
        drop(clean(bytes, format));
    }
}

fn some_body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        (any::<bool>(), 0_u16..10)
            .prop_map(|(low, value)| { camera_exif(if low { *b"II" } else { *b"MM" }, value) }),
        Just(b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0".to_vec()),
        Just(chunk_body("SECRET", &sample())),
        Just(sample()),
        Just(b"\x01\x02\x00\x48\x00\x48\x02\x01thumbs".to_vec()),
        Just([&b"\x01\x01"[..], &sample()].concat()),
        Just(vec![1, 2, 3, 4]),
        Just(vec![1]),
    ]
}

fn some_blocks() -> impl Strategy<Value = Vec<(usize, Vec<u8>)>> {
    proptest::collection::vec((0_usize..10, some_body()), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_metadata_blocks_are_removed_in_one_pass(
        format in prop::sample::select(Format::ALL.to_vec()),
        front in some_blocks(),
        back in some_blocks(),
    ) {
        let build = |blocks: Vec<(usize, Vec<u8>)>| -> Vec<u8> {
            blocks.iter().flat_map(|(kind, body)| block(format, *kind, body)).collect()
        };
        cleaned(&with_blocks(format, &build(front), &build(back)));
    }

    #[test]
    fn changed_bytes_never_panic_and_are_cleaned_if_they_are_accepted(
        format in prop::sample::select(Format::ALL.to_vec()),
        front in some_blocks(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let front: Vec<u8> = front.iter().flat_map(|(kind, body)| block(format, *kind, body)).collect();
        let mut bytes = with_blocks(format, &front, b"");
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        cleaned_if_accepted(&bytes, format);
    }

    #[test]
    fn changed_samples_never_panic_and_are_cleaned_if_they_are_accepted(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let samples = samples::all();
        let (_, format, mut bytes) = samples[which.index(samples.len())].clone();
        let at = at.index(bytes.len());
        bytes[at] = value;
        cleaned_if_accepted(&bytes, format);
    }

    #[test]
    fn random_bytes_never_panic(
        format in prop::sample::select(Format::ALL.to_vec()),
        start in 0_usize..5,
        noise in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let starts: [&[u8]; 5] =
            [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\x40\0\0\0WEBPVP8X"];
        drop(clean(&[starts[start], &noise].concat(), format));
    }
}
