use crate::images::clean::tests::{cleaned, is_clean, is_refused, removed};
use crate::images::format::samples::{gif as sample, gif_frame, gif_head};

const LOOP: &[u8] = b"!\xff\x0bNETSCAPE2.0\x03\x01\x05\0\0";
const PROFILE: &[u8] = b"!\xff\x0bICCRGBG1012\x04prof\x03ile\0";
const PLAIN_TEXT: &[u8] = b"!\x01\x0c\0\0\0\0\0\0\0\0\x08\x08\x01\0\x05hello\0";
const METADATA: [&[u8]; 5] = [
    b"!\xfe\x09a comment\x04more\0",
    b"!\xfe\0",
    b"!\xff\x0bSECRETSAPP1\x03abc\0",
    b"!\xff\x03abc\0",
    b"!\x77\x03abc\0",
];

/// XMP is text and not a series of sub-blocks; the bytes at its end lead every reader of sub-blocks
/// to the terminator.
fn xmp() -> Vec<u8> {
    let mut block = b"!\xff\x0bXMP DataXMP<x:xmpmeta><dc:creator>somebody".to_vec();
    block.push(1);
    block.extend((0..=255).rev());
    block.push(0);
    block
}

/// Blocks before the first frame, before the second, and before the trailer.
fn gif(blocks: [&[u8]; 3]) -> Vec<u8> {
    let frame = gif_frame([0, 0, 5, 4]);
    let [first, second, last] = blocks;
    [
        &gif_head(5, 4)[..],
        first,
        &frame,
        second,
        &frame,
        last,
        b";",
    ]
    .concat()
}

#[test]
fn a_gif_without_metadata_stays_unchanged() {
    assert!(is_clean(&sample(5, 4, 3)));
    assert!(is_clean(&gif([LOOP, b"", b""])));
    assert!(is_clean(&gif([
        b"!\xff\x0bANIMEXTS1.0\x03\x01\0\0\0",
        b"",
        b""
    ])));
}

#[test]
fn each_kind_of_metadata_is_removed_at_each_place() {
    for one in METADATA.into_iter().chain([PLAIN_TEXT, PROFILE, &xmp()]) {
        for blocks in [[one, b"", b""], [b"", one, b""], [b"", b"", one]] {
            assert_eq!(
                cleaned(&gif(blocks)),
                gif([b""; 3]),
                "{}",
                one.escape_ascii()
            );
        }
    }
}

#[test]
fn all_metadata_is_removed_and_the_picture_stays() {
    let all = [METADATA.concat(), xmp()].concat();
    let first = [&all[..], LOOP, &all, PROFILE].concat();
    assert_eq!(cleaned(&gif([&first, &all, &all])), gif([LOOP, b"", b""]));
}

#[test]
fn a_graphic_control_before_plain_text_stays_for_the_next_frame() {
    let control = b"!\xf9\x04\x05\x64\0\x01\0";
    let text = [&control[..], PLAIN_TEXT].concat();
    assert_eq!(cleaned(&gif([&text, b"", b""])), gif([control, b"", b""]));
}

#[test]
fn a_graphic_control_behind_the_last_frame_is_removed() {
    let control = b"!\xf9\x04\x05\x64\0\x01\0";
    let none = [&control[..], b"!\xff\x0bNETSCAPE2.0\x04text\0"].concat();
    assert_eq!(cleaned(&gif([b"", b"", &none])), gif([b""; 3]));
    assert_eq!(
        cleaned(&gif([b"", &none, b""])),
        gif([b"", control, b""]),
        "before a frame the control stays"
    );
    assert!(is_clean(&gif([b"", b"", &[&control[..], LOOP].concat()])));
}

#[test]
fn a_loop_extension_keeps_only_its_number_of_repetitions() {
    let told = |data: &[u8]| [b"!\xff\x0bNETSCAPE2.0", data, b"\0"].concat();
    let cases: [(&[u8], &[u8]); 6] = [
        (b"\x03\x01\x05\0\x04text", b"\x03\x01\x05\0"),
        // Chromium and others accept a loop only if it has three bytes and comes first.
        (b"\x07\x01\x05\0text", b"\x07\x01\x05\0\0\0\0\0"),
        (b"\x04text\x03\x01\x05\0", b"\x04\x02\0\0\0\x03\x01\x05\0"),
        (b"\x01t\x03\x01\x05\0\x01t", b"\x01\x02\x03\x01\x05\0"),
        (
            b"\x05\x02\0\0\0\x01\x03\x01\x05\0",
            b"\x05\x02\0\0\0\0\x03\x01\x05\0",
        ),
        // Firefox takes the last of several.
        (
            b"\x03\x01\x05\0\x03\x01\x06\0",
            b"\x03\x01\x05\0\x03\x01\x06\0",
        ),
    ];
    for (data, wanted) in cases {
        assert_eq!(
            cleaned(&gif([&told(data), b"", b""])),
            gif([&told(wanted), b"", b""]),
            "{}",
            data.escape_ascii()
        );
    }
    for without in [b"\x04text", &b"\x02\x01\x05"[..], b""] {
        assert_eq!(cleaned(&gif([&told(without), b"", b""])), gif([b""; 3]));
    }
}

/// The picture without its trailer.
fn open() -> Vec<u8> {
    let mut bytes = gif([b""; 3]);
    bytes.pop();
    bytes
}

#[test]
fn a_missing_trailer_is_written_and_junk_in_its_place_removed() {
    for instead in [
        &b""[..],
        b"\0",
        &[0; 20],
        b"junk",
        b"\0;",
        b"\0\0\0;",
        b"junk;",
        // Viewers search for no frames behind the trailer.
        b"junk;,more",
        // An extension that is cut by the end of the file.
        b"!",
        b"!\xfe",
        b"!\xfe\x09a comm",
        b"!\xf9\x04\0",
        b"!\xff\x0bNETSCAPE2.0\x03\x01",
    ] {
        let name = instead.escape_ascii().to_string();
        let bytes = [&open()[..], instead].concat();
        assert_eq!(cleaned(&bytes), gif([b""; 3]), "{name}");
        assert_eq!(removed(&bytes), ["damage"], "{name}");
    }
}

#[test]
fn junk_in_which_a_frame_may_hide_is_refused() {
    let frame = gif_frame([0, 0, 5, 4]);
    for junk in [
        &[b"\0", &frame[..], b";"].concat()[..],
        b"a, and so much more",
    ] {
        let bytes = [&open()[..], junk].concat();
        assert!(is_refused(&bytes), "{}", junk.escape_ascii());
    }
    // Too short for a frame.
    for junk in [&b"a, b"[..], b"\0,;"] {
        assert_eq!(cleaned(&[&open()[..], junk].concat()), gif([b""; 3]));
    }
}

#[test]
fn data_cut_by_the_end_of_the_file_is_terminated() {
    let bytes = gif([b""; 3]);
    // The terminator of the last frame, and the trailer.
    let without = &bytes[..bytes.len() - 2];
    assert_eq!(cleaned(without), bytes);
    assert_eq!(cleaned(&[without, b";"].concat()), bytes);
    // In the middle of its last sub-block.
    let cut = cleaned(&bytes[..bytes.len() - 3]);
    assert!(cut.ends_with(b"\0;"));
    assert_eq!(cut.len(), bytes.len() - 1);
}

#[test]
fn junk_before_the_first_frame_is_refused() {
    let frame = gif_frame([0, 0, 5, 4]);
    for junk in [&b"\0"[..], b"junk"] {
        let bytes = [&gif_head(5, 4)[..], junk, &frame, b";"].concat();
        assert!(is_refused(&bytes));
    }
    assert!(is_refused(&gif_head(5, 4)));
    assert!(is_refused(&[&gif_head(5, 4)[..], b";"].concat()));
}

#[test]
fn each_kind_of_metadata_is_named() {
    for (block, words) in [
        (&b"!\xfe\x09a comment\0"[..], vec!["comment"]),
        (PLAIN_TEXT, vec!["comment"]),
        (&xmp(), vec!["author"]),
        (PROFILE, vec!["profile"]),
        (b"!\xff\x0bSECRETSAPP1\x03abc\0", vec!["other"]),
        (b"!\x77\x03abc\0", vec!["other"]),
    ] {
        let name = block.escape_ascii().to_string();
        assert_eq!(removed(&gif([block, b"", b""])), words, "{name}");
    }
    assert_eq!(
        removed(&[&gif([b""; 3])[..], b"more"].concat()),
        ["trailing"]
    );
    assert!(removed(&gif([LOOP, b"", b""])).is_empty());
}
