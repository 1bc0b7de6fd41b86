use crate::images::clean::exif::tests::camera_exif;
use crate::images::clean::icc::tests::sample;
use crate::images::clean::tests::{cleaned, is_clean, is_refused, is_turned, removed};
use crate::images::format::samples::{anim, anmf, riff, riff_chunk as chunk, vp8, vp8l, vp8x};

const MINIMAL_EXIF: &[u8; 26] = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";

fn metadata() -> Vec<Vec<u8>> {
    [
        (b"EXIF", &b"broken"[..]),
        (b"EXIF", &camera_exif(*b"MM", 1)),
        (b"XMP ", b"<x:xmpmeta/>"),
        (b"ANIM", &[0; 6]),
        (b"what", b"?"),
    ]
    .map(|(kind, body)| chunk(kind, body))
    .to_vec()
}

/// An image with alpha and a profile, and chunks before and behind it.
fn still(flags: u8, before: &[Vec<u8>], after: &[Vec<u8>]) -> Vec<u8> {
    riff(&[
        vp8x(flags, 6, 5),
        if flags & 0x20 == 0 {
            Vec::new()
        } else {
            chunk(b"ICCP", &sample())
        },
        before.concat(),
        chunk(b"ALPH", b"\x01alpha"),
        vp8(6, 5),
        after.concat(),
    ])
}

fn animation(flags: u8, between: &[u8], inside: &[u8]) -> Vec<u8> {
    let frame = |image: Vec<u8>| anmf([0, 0, 6, 5], &[&image[..], inside].concat());
    let alpha = [chunk(b"ALPH", b"\x01a"), vp8(6, 5)].concat();
    riff(&[
        vp8x(flags, 6, 5),
        anim(),
        between.to_vec(),
        frame(vp8l(6, 5)),
        between.to_vec(),
        frame(alpha),
        between.to_vec(),
    ])
}

#[test]
fn a_webp_without_metadata_stays_unchanged() {
    for bytes in [
        riff(&[vp8(6, 5)]),
        riff(&[vp8l(6, 5)]),
        still(0x30, &[], &[]),
        animation(0x12, b"", b""),
        still(0x38, &[], &[chunk(b"EXIF", MINIMAL_EXIF)]),
    ] {
        assert!(is_clean(&bytes), "{}", bytes.escape_ascii());
    }
}

#[test]
fn each_kind_of_metadata_is_removed_at_each_place() {
    for one in metadata() {
        let name = one.escape_ascii().to_string();
        let wanted = still(0x30, &[], &[]);
        let (before, after) = (
            still(0x3c, std::slice::from_ref(&one), &[]),
            still(0x3c, &[], &[one]),
        );
        assert_eq!(cleaned(&before), wanted, "{name}");
        assert_eq!(cleaned(&after), wanted, "{name}");
    }
}

#[test]
fn all_metadata_is_removed_and_the_picture_stays() {
    assert_eq!(
        cleaned(&still(0x3c, &metadata(), &metadata())),
        still(0x30, &[], &[])
    );
    let between = [chunk(b"XMP ", b"<x/>"), chunk(b"what", b"?")].concat();
    let inside = chunk(b"text", b"behind the image of a frame");
    assert_eq!(
        cleaned(&animation(0x1e, &between, &inside)),
        animation(0x12, b"", b"")
    );
}

#[test]
fn of_the_simple_form_only_the_image_stays() {
    let mut chunks = vec![vp8l(6, 5)];
    chunks.extend([
        chunk(b"EXIF", MINIMAL_EXIF),
        chunk(b"ICCP", &sample()),
        chunk(b"XMP ", b"<x/>"),
    ]);
    assert_eq!(cleaned(&riff(&chunks)), riff(&[vp8l(6, 5)]));
}

#[test]
fn only_the_orientation_of_exif_stays_and_the_flags_match() {
    for order in [*b"II", *b"MM"] {
        for value in 2..=8 {
            let camera = camera_exif(order, value);
            let prefixed = [&b"Exif\0\0"[..], &camera].concat();
            for body in [camera, prefixed] {
                for flags in [0x38, 0x3c] {
                    let exif = chunk(b"EXIF", &body);
                    let out = cleaned(&still(flags, &[], &[exif.clone(), exif]));
                    assert_eq!(out.len(), still(0x30, &[], &[]).len() + 34);
                    assert_eq!(out[20], 0x38);
                    assert_eq!(&out[out.len() - 34..][..8], b"EXIF\x1a\0\0\0");
                    let tail = &out[out.len() - 26..];
                    assert!(tail.starts_with(&order));
                    let found = u16::from_be_bytes([tail[18], tail[19]]);
                    let found = if order == *b"II" {
                        found.swap_bytes()
                    } else {
                        found
                    };
                    assert_eq!(found, value);
                }
            }
        }
    }
}

#[test]
fn flags_without_a_chunk_are_cleared_and_others_stay() {
    assert_eq!(cleaned(&still(0x3c, &[], &[])), still(0x30, &[], &[]));
    for flags in [0x10, 0x30] {
        assert!(is_clean(&still(flags, &[], &[])));
    }
    // The alpha flag stays, whether or not there is alpha.
    for flags in [0x00, 0x10] {
        assert!(is_clean(&riff(&[vp8x(flags, 6, 5), vp8(6, 5)])));
        assert!(is_clean(&riff(&[vp8x(flags, 6, 5), vp8l(6, 5)])));
    }
}

#[test]
fn the_first_of_several_profiles_stays() {
    let second = chunk(b"ICCP", b"another");
    let good = chunk(b"ICCP", &sample());
    let after = riff(&[vp8x(0x20, 6, 5), vp8(6, 5), good]);
    let without = riff(&[vp8x(0x00, 6, 5), vp8(6, 5)]);
    assert_eq!(cleaned(&after), without, "behind the image");
    assert_eq!(
        cleaned(&still(
            0x30,
            std::slice::from_ref(&second),
            std::slice::from_ref(&second)
        )),
        still(0x30, &[], &[])
    );
}

#[test]
fn a_chunk_without_its_flag_is_removed() {
    let exif = || chunk(b"EXIF", MINIMAL_EXIF);
    let image = || vp8(6, 5);
    let profile = || chunk(b"ICCP", &sample());
    let opaque = riff(&[vp8x(0x00, 6, 5), image()]);
    assert_eq!(cleaned(&riff(&[vp8x(0x00, 6, 5), image(), exif()])), opaque);
    assert_eq!(
        cleaned(&riff(&[vp8x(0x00, 6, 5), profile(), image()])),
        opaque
    );
    let alpha = chunk(b"ALPH", b"\x01alpha");
    assert_eq!(cleaned(&riff(&[vp8x(0x00, 6, 5), alpha, image()])), opaque);
    for (flags, chunks) in [
        (0x08, [vec![], image(), exif()].concat()),
        (0x20, [profile(), image()].concat()),
    ] {
        assert!(is_clean(&riff(&[vp8x(flags, 6, 5), chunks])));
    }
}

#[test]
fn the_first_of_two_exif_chunks_decides() {
    let [upright, turned] = [1, 6].map(|value| chunk(b"EXIF", &camera_exif(*b"MM", value)));
    let minimal = chunk(b"EXIF", MINIMAL_EXIF);
    let first_upright = still(0x38, &[], &[upright.clone(), turned.clone()]);
    assert_eq!(cleaned(&first_upright), still(0x30, &[], &[]));
    let first_turned = still(0x38, &[], &[turned, upright]);
    assert_eq!(
        cleaned(&first_turned),
        still(0x38, &[], std::slice::from_ref(&minimal))
    );
    let broken = chunk(b"EXIF", b"broken");
    assert_eq!(
        cleaned(&still(0x38, &[], &[broken, minimal])),
        still(0x30, &[], &[])
    );
}

#[test]
fn orientation_does_not_turn_a_webp() {
    for value in 1..=8 {
        let exif = chunk(b"EXIF", &camera_exif(*b"MM", value));
        assert!(!is_turned(&still(0x38, &[], &[exif])));
    }
}

#[test]
fn chunks_of_unknown_names_are_removed() {
    let image = || riff(&[vp8x(0x00, 6, 5), vp8(6, 5)]);
    for name in [b"XMP\0", b"abcd", b"\0\x01\x02\xff", b"xmp ", b"    "] {
        let one = chunk(name, b"<x exif:GPSLatitude='1'/>");
        let name = name.escape_ascii().to_string();
        let before = riff(&[vp8x(0x04, 6, 5), one.clone(), vp8(6, 5)]);
        let after = riff(&[vp8x(0x04, 6, 5), vp8(6, 5), one.clone()]);
        assert_eq!(cleaned(&before), image(), "{name}");
        assert_eq!(cleaned(&after), image(), "{name}");
        assert_eq!(
            cleaned(&riff(&[vp8(6, 5), one])),
            riff(&[vp8(6, 5)]),
            "{name}"
        );
    }
}

/// An animation of these frames.
fn frames(frames: &[Vec<u8>]) -> Vec<u8> {
    riff(&[vp8x(0x02, 6, 5), anim(), frames.concat()])
}

#[test]
fn the_first_of_two_animation_controls_stays() {
    let whole = || anmf([0, 0, 6, 5], &vp8l(6, 5));
    let second = chunk(b"ANIM", &[1; 6]);
    let one = frames(&[whole()]);
    assert!(is_clean(&one));
    assert_eq!(cleaned(&frames(&[second.clone(), whole()])), one);
    assert_eq!(cleaned(&frames(&[whole(), second])), one);
    assert!(is_refused(&riff(&[vp8x(0x02, 6, 5), whole(), anim()])));
    assert!(is_refused(&riff(&[vp8x(0x02, 6, 5), whole()])));
    assert!(is_refused(&riff(&[vp8x(0x00, 6, 5), anim(), whole()])));
}

#[test]
fn an_animation_control_is_cut_to_six_bytes() {
    let whole = || anmf([0, 0, 6, 5], &vp8l(6, 5));
    let of = |len: usize| riff(&[vp8x(0x02, 6, 5), chunk(b"ANIM", &vec![7; len]), whole()]);
    assert!(is_clean(&of(6)));
    assert_eq!(cleaned(&of(7)), of(6));
    assert_eq!(cleaned(&of(8)), of(6));
    assert!(is_refused(&of(5)));
}

#[test]
fn a_frame_gets_the_size_of_its_image() {
    for (said, image) in [([4, 5], [6, 5]), ([6, 5], [4, 3]), ([6, 5], [6, 4])] {
        let bytes = frames(&[anmf([0, 0, said[0], said[1]], &vp8l(image[0], image[1]))]);
        let wanted = frames(&[anmf([0, 0, image[0], image[1]], &vp8l(image[0], image[1]))]);
        assert_eq!(cleaned(&bytes), wanted);
        assert_eq!(removed(&bytes), ["damage"]);
    }
    let too_large = frames(&[anmf([0, 0, 6, 5], &vp8l(7, 5))]);
    assert!(is_refused(&too_large));
}

#[test]
fn a_frame_without_an_image_is_removed() {
    let whole = || anmf([0, 0, 6, 5], &vp8l(6, 5));
    let empty = anmf([0, 0, 6, 5], b"");
    let bytes = frames(&[whole(), empty.clone(), whole()]);
    assert_eq!(cleaned(&bytes), frames(&[whole(), whole()]));
    assert_eq!(removed(&bytes), ["damage"]);
    assert!(is_refused(&frames(&[empty])));
    let alpha_alone = anmf([0, 0, 6, 5], &chunk(b"ALPH", b"\x01a"));
    assert!(is_refused(&frames(&[whole(), alpha_alone])));
}

#[test]
fn an_unknown_chunk_in_a_frame_is_allowed_only_behind_its_image() {
    let what = chunk(b"what", b"?");
    let before = anmf([0, 0, 6, 5], &[what.clone(), vp8l(6, 5)].concat());
    let after = anmf([0, 0, 6, 5], &[vp8l(6, 5), what].concat());
    assert!(is_refused(&frames(&[before])));
    let wanted = frames(&[anmf([0, 0, 6, 5], &vp8l(6, 5))]);
    assert_eq!(cleaned(&frames(&[after])), wanted);
}

#[test]
fn padding_becomes_zero() {
    let odd = riff(&[vp8x(0x20, 6, 5), chunk(b"ICCP", &sample()), vp8l(6, 5)]);
    assert!(is_clean(&odd));
    let mut bytes = odd.clone();
    *bytes.last_mut().unwrap() = 7;
    assert_eq!(cleaned(&bytes), odd);
    assert_eq!(removed(&bytes), ["damage"]);
    let mut simple = riff(&[vp8l(6, 5)]);
    let wanted = simple.clone();
    *simple.last_mut().unwrap() = 0xff;
    assert_eq!(cleaned(&simple), wanted);
    let mut inside = frames(&[anmf([0, 0, 6, 5], &vp8l(6, 5))]);
    let wanted = inside.clone();
    *inside.last_mut().unwrap() = 1;
    assert_eq!(cleaned(&inside), wanted);
}

#[test]
fn files_that_libwebp_refuses_stay_refused() {
    let image = || vp8(6, 5);
    let alpha = || chunk(b"ALPH", b"\x01alpha");
    for chunks in [
        vec![vp8x(0x10, 6, 5), image(), alpha()],
        vec![vp8x(0x10, 6, 5), alpha(), alpha(), image()],
        vec![vp8x(0x10, 6, 5), alpha(), vp8l(6, 5)],
        vec![vp8x(0x00, 6, 5), vp8x(0x00, 6, 5), image()],
        vec![vp8x(0x00, 6, 5), image(), image()],
        vec![vp8x(0x00, 7, 5), image()],
        vec![vp8x(0x01, 6, 5), image()],
        vec![vp8x(0x40, 6, 5), image()],
        vec![vp8x(0x80, 6, 5), image()],
        vec![vp8x(0x00, 6, 5)],
        vec![chunk(b"what", b"?"), image()],
        vec![vp8x(0x02, 6, 5), image()],
        vec![vp8x(0x02, 6, 5), anim(), image()],
    ] {
        let bytes = riff(&chunks);
        assert!(is_refused(&bytes), "{}", bytes.escape_ascii());
    }
    let mut long = riff(&[image()]);
    long[4] += 2;
    assert!(is_refused(&long), "longer than the file");
}

#[test]
fn each_kind_of_metadata_is_named() {
    for (name, body, words) in [
        (
            b"EXIF",
            &camera_exif(*b"MM", 6)[..],
            vec!["camera", "thumbnail"],
        ),
        (b"EXIF", b"broken", vec!["other"]),
        (b"XMP ", b"<x exif:GPSLatitude='1'/>", vec!["location"]),
        (b"XMP\0", b"<x tiff:Make='1'/>", vec!["camera"]),
        (b"C2PA", b"provenance", vec!["c2pa"]),
        (b"ICCP", b"profile", vec!["profile"]),
        (b"what", b"?", vec!["other"]),
    ] {
        let one = chunk(name, body);
        let bytes = riff(&[vp8x(0x2c, 6, 5), one, vp8(6, 5)]);
        assert_eq!(removed(&bytes), words, "{}", body.escape_ascii());
    }
    let trailing = [&riff(&[vp8(6, 5)])[..], b"more"].concat();
    assert_eq!(removed(&trailing), ["trailing"]);
    assert!(removed(&still(0x30, &[], &[])).is_empty());
}
