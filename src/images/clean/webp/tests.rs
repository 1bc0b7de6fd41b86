use crate::images::clean::exif::tests::camera_exif;
use crate::images::clean::tests::{cleaned, is_clean};
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

/// An image with alpha and profile; chunks before it and after.
fn still(flags: u8, before: &[Vec<u8>], after: &[Vec<u8>]) -> Vec<u8> {
    riff(&[
        vp8x(flags, 6, 5),
        chunk(b"ICCP", b"profile"),
        before.concat(),
        chunk(b"ALPH", b"\x01alpha"),
        vp8(6, 5),
        after.concat(),
    ])
}

fn animation(flags: u8, between: &[u8], inside: &[u8]) -> Vec<u8> {
    let frame = |image: Vec<u8>| anmf([0, 0, 6, 5], &[inside, &image, inside].concat());
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
fn a_webp_without_metadata_is_not_touched() {
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
fn each_kind_of_metadata_goes_wherever_it_stands() {
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
fn all_metadata_together_goes_and_the_picture_stays() {
    assert_eq!(
        cleaned(&still(0x3c, &metadata(), &metadata())),
        still(0x30, &[], &[])
    );
    let between = [chunk(b"XMP ", b"<x/>"), chunk(b"what", b"?")].concat();
    let inside = chunk(b"text", b"inside of a frame");
    assert_eq!(
        cleaned(&animation(0x1e, &between, &inside)),
        animation(0x12, b"", b"")
    );
}

#[test]
fn the_simple_form_keeps_the_image_alone() {
    let mut chunks = vec![vp8l(6, 5)];
    chunks.extend([
        chunk(b"EXIF", MINIMAL_EXIF),
        chunk(b"ICCP", b"profile"),
        chunk(b"XMP ", b"<x/>"),
    ]);
    assert_eq!(cleaned(&riff(&chunks)), riff(&[vp8l(6, 5)]));
}

#[test]
fn orientation_stays_alone_and_the_flags_say_so() {
    for order in [*b"II", *b"MM"] {
        for value in 2..=8 {
            let camera = camera_exif(order, value);
            let prefixed = [&b"Exif\0\0"[..], &camera].concat();
            for body in [camera, prefixed] {
                for flags in [0x30, 0x3c] {
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
fn announcements_without_content_are_withdrawn_and_the_others_are_the_uploaders() {
    assert_eq!(cleaned(&still(0x3c, &[], &[])), still(0x30, &[], &[]));
    for flags in [0x00, 0x10, 0x20, 0x30] {
        assert!(is_clean(&still(flags, &[], &[])));
    }
}

#[test]
fn of_several_profiles_the_first_stays() {
    let second = chunk(b"ICCP", b"another");
    assert_eq!(
        cleaned(&still(
            0x30,
            std::slice::from_ref(&second),
            std::slice::from_ref(&second)
        )),
        still(0x30, &[], &[])
    );
}
