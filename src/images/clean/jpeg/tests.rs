use super::*;
use crate::images::clean::exif::tests::camera_exif;
use crate::images::clean::icc::tests::sample;
use crate::images::clean::tests::{cleaned, is_clean, is_refused, is_turned, removed};
use crate::images::format::samples::{
    dqt, jpeg as sample_jpeg, progressive_jpeg, scan, segment, shape, sof,
};

mod exif_blocks;
mod repairs;

const JFIF_72: &[u8] = b"JFIF\0\x01\x02\x01\0\x48\0\x48\0\0";
const ADOBE_YCC: &[u8] = b"Adobe\0\x64\0\0\0\0\x01";

/// Segments behind the start of the image and before its last scan. The sample's own JFIF segment
/// and comment are left out.
fn jpeg(front: &[Vec<u8>], between: &[Vec<u8>]) -> Vec<u8> {
    let bytes = progressive_jpeg(3);
    let tables = bytes.windows(2).position(|w| w == [0xff, 0xdb]).unwrap();
    let scan = bytes.windows(2).rposition(|w| w == [0xff, 0xda]).unwrap();
    [
        &bytes[..2],
        &front.concat(),
        &bytes[tables..scan],
        &between.concat(),
        &bytes[scan..],
    ]
    .concat()
}

fn exif(order: [u8; 2], value: u16) -> Vec<u8> {
    segment(
        0xe1,
        &[&b"Exif\0\0"[..], &camera_exif(order, value)].concat(),
    )
}

fn profile_part(number: u8, count: u8, part: &[u8]) -> Vec<u8> {
    let head = [b"ICC_PROFILE\0", &[number, count][..]].concat();
    segment(0xe2, &[&head, part].concat())
}

fn metadata() -> Vec<Vec<u8>> {
    let mut list = vec![
        exif(*b"II", 1),
        segment(0xe1, b"Exif\0\0broken"),
        segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0<x/>"),
        segment(0xe1, b"http://ns.adobe.com/xmp/extension/\0"),
        segment(0xe0, b"JFXX\0\x13thumbnail"),
        segment(0xe0, b"JFIF\0short"),
        segment(0xe2, b"MPF\0II*\0"),
        segment(0xe2, b"ICC_PROFILE\0\x01\x01"),
        segment(0xe2, b"urn:iso:std:iso:ts:21496:-1\0"),
        segment(0xed, b"Photoshop 3.0\x008BIM"),
        segment(0xeb, b"JP\x01\0provenance"),
        segment(0xee, b"Adobe no more"[..11].into()),
        segment(0xfe, b"a comment"),
        segment(0xfe, b""),
    ];
    list.extend((0xe3..=0xef).map(|code| segment(code, b"private")));
    list
}

fn picture_segments() -> Vec<Vec<u8>> {
    vec![
        segment(0xe0, JFIF_72),
        segment(
            0xe1,
            b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x08\0\0\0\0\0\0\0",
        ),
        profile_part(1, 1, &sample()),
        segment(0xee, ADOBE_YCC),
    ]
}

#[test]
fn a_jpeg_without_metadata_stays_unchanged() {
    assert!(is_clean(&jpeg(&[], &[])));
    assert!(is_clean(&jpeg(&picture_segments(), &[])));
}

#[test]
fn each_kind_of_metadata_is_removed_at_each_place() {
    for one in metadata() {
        let name = one.escape_ascii().to_string();
        assert_eq!(
            cleaned(&jpeg(std::slice::from_ref(&one), &[])),
            jpeg(&[], &[]),
            "{name}"
        );
        assert_eq!(cleaned(&jpeg(&[], &[one])), jpeg(&[], &[]), "{name}");
    }
}

#[test]
fn all_metadata_is_removed_and_the_picture_stays() {
    // The first of several Exif blocks decides, and the first part of a profile decides its place.
    let mut before = metadata();
    before.retain(|one| !one[4..].starts_with(b"Exif") && !one[4..].starts_with(b"ICC"));
    let front = [&before[..], &picture_segments(), &metadata()].concat();
    assert_eq!(
        cleaned(&jpeg(&front, &metadata())),
        jpeg(&picture_segments(), &[])
    );
}

#[test]
fn application_segments_behind_the_first_scan_are_removed() {
    assert_eq!(cleaned(&jpeg(&[], &picture_segments())), jpeg(&[], &[]));
}

#[test]
fn the_jfif_thumbnail_is_removed() {
    let mut body = JFIF_72.to_vec();
    body[12..].copy_from_slice(&[2, 1]);
    body.extend(b"pixels");
    let whole = jpeg(&[segment(0xe0, JFIF_72)], &[]);
    assert_eq!(cleaned(&jpeg(&[segment(0xe0, &body)], &[])), whole);
    let trailing = segment(0xe0, &[JFIF_72, b"more"].concat());
    assert_eq!(cleaned(&jpeg(&[trailing.clone(), trailing], &[])), whole);
}

#[test]
fn only_the_orientation_of_an_exif_block_stays() {
    for order in [*b"II", *b"MM"] {
        for value in 2..=8 {
            let out = cleaned(&jpeg(&[exif(order, value), exif(order, 1)], &[]));
            assert_eq!(out.len(), jpeg(&[], &[]).len() + 36);
            assert_eq!(&out[2..12], b"\xff\xe1\0\x22Exif\0\0");
            assert_eq!(&out[12..14], order);
            let [high, low] = [out[30], out[31]];
            let found = u16::from_be_bytes([high, low]);
            let found = if order == *b"II" {
                found.swap_bytes()
            } else {
                found
            };
            assert_eq!(found, value);
            assert!(is_clean(&out));
        }
    }
}

#[test]
fn a_missing_end_mark_of_an_exif_block_is_written() {
    let tiff = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0";
    let bytes = jpeg(&[segment(0xe1, tiff)], &[]);
    assert_eq!(cleaned(&bytes).len(), bytes.len() + 4);
}

#[test]
fn the_colour_transform_stays_for_every_decoder() {
    let adobe = |transform: u8, rest: &[u8]| {
        let mut body = ADOBE_YCC.to_vec();
        body[11] = transform;
        segment(0xee, &[&body[..], rest].concat())
    };
    let front = [
        adobe(2, b"text"),
        adobe(2, b""),
        adobe(0, b"more"),
        adobe(0, b""),
        adobe(2, b""),
    ];
    assert_eq!(
        cleaned(&jpeg(&front, &[])),
        jpeg(&[adobe(2, b""), adobe(0, b""), adobe(2, b"")], &[])
    );
}

#[test]
fn further_images_behind_the_end_are_removed() {
    let main = jpeg(&picture_segments(), &[]);
    let both = [&main[..], &jpeg(&[exif(*b"II", 6)], &[])].concat();
    assert_eq!(cleaned(&both), main);
}
