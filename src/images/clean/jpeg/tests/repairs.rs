//! Faults that viewers tolerate: bytes between segments, odd lengths, equal names of components, a
//! missing end.

use super::*;
use crate::images::format::samples;

/// The picture with bytes in front of its tables, between its scans, and in front of its end.
fn with(front: &[u8], between: &[u8], end: &[u8]) -> Vec<u8> {
    // The signature of a JPEG includes the first byte of its first segment.
    let bytes = jpeg(
        &[segment(0xe0, JFIF_72), front.to_vec()],
        &[between.to_vec()],
    );
    let (image, eoi) = bytes.split_at(bytes.len() - 2);
    [image, end, eoi].concat()
}

fn clean_jpeg() -> Vec<u8> {
    jpeg(&[segment(0xe0, JFIF_72)], &[])
}

#[test]
fn bytes_between_segments_are_removed() {
    for stray in [
        &b"\0"[..],
        b"stray",
        // An escaped byte, which is not a marker anywhere.
        b"\xff\0",
        b"\0\xff\0\xff\0",
        // Restart markers and TEM have no segment.
        b"\xff\xd0",
        b"\xff\xd7\xff\x01",
        // A segment of application data whose first byte was lost.
        b"\0\xe1\0\x08more",
        b"\xff\xff",
        b"\xff\xff\xff\xff\xff",
    ] {
        let name = stray.escape_ascii().to_string();
        let bytes = with(stray, b"", b"");
        assert_eq!(cleaned(&bytes), clean_jpeg(), "{name}");
        assert_eq!(removed(&bytes), ["damage"], "{name}");
    }
}

#[test]
fn bytes_at_the_end_of_a_scan_are_its_data() {
    for data in [&b"\0"[..], b"\0stray", b"\xff\0", b"\xff\xd0"] {
        assert!(is_clean(&with(b"", data, b"")), "{data:?}");
        assert!(is_clean(&with(b"", b"", data)), "{data:?}");
    }
    // Behind a segment that follows a scan, they are removed.
    let behind = [segment(0xdd, &[0, 4]), b"stray".to_vec()].concat();
    assert_eq!(
        cleaned(&with(b"", &behind, b"")),
        with(b"", &segment(0xdd, &[0, 4]), b"")
    );
}

#[test]
fn an_unknown_marker_behind_the_only_scan_ends_the_picture() {
    for marker in [&b"\xff\xf0\0\x04ab"[..], b"\xff\xfd\0\x04ab", b"\xff\xd8"] {
        let name = marker.escape_ascii().to_string();
        assert!(is_refused(&with(marker, b"", b"")), "{name}");
        // A decoder has to expect more scans.
        assert!(is_refused(&with(b"", b"", marker)), "{name}");
        let whole = samples::jpeg(0xc0, 16, 8, &[samples::scan(&[1, 2, 3], [0, 63, 0])]);
        let (image, eoi) = whole.split_at(whole.len() - 2);
        let bytes = [image, marker, eoi].concat();
        assert_eq!(cleaned(&bytes), cleaned(&whole), "{name}");
        assert!(removed(&bytes).contains(&"damage"), "{name}");
    }
}

#[test]
fn markers_skipped_in_search_of_a_restart_are_data() {
    for marker in [b"\xff\x02", b"\xff\xbf"] {
        let name = marker.escape_ascii().to_string();
        assert!(
            is_refused(&with(marker, b"", b"")),
            "{name}: before the first scan"
        );
        assert!(is_clean(&with(b"", marker, b"")), "{name}");
        // Without restarts, it ends the scan.
        let mut bytes = with(b"", marker, b"");
        let interval = bytes
            .windows(4)
            .position(|w| w == b"\xff\xdd\0\x04")
            .unwrap();
        bytes[interval + 5] = 0;
        assert!(is_refused(&bytes), "{name}");
    }
}

#[test]
fn a_length_of_0_or_1_counts_as_2() {
    for len in [0, 1, 2] {
        for code in [0xfe, 0xe1, 0xef] {
            let odd = [0xff, code, 0, len];
            assert_eq!(cleaned(&with(&odd, b"", b"")), clean_jpeg(), "{code} {len}");
        }
    }
    // A segment that exceeds the end of the file.
    let bytes = clean_jpeg();
    let scan = bytes.windows(2).position(|two| two == b"\xff\xda").unwrap();
    let cut = [&bytes[..scan], b"\xff\xfe\xff\xff", b"comment"].concat();
    assert!(is_refused(&cut), "before the image data");
    let cut = [&bytes[..bytes.len() - 2], b"\xff\xfe\xff\xff", b"comment"].concat();
    assert_eq!(cleaned(&cut), clean_jpeg());
}

#[test]
fn a_missing_end_is_written() {
    let whole = clean_jpeg();
    let open = &whole[..whole.len() - 2];
    let cleaned_open = clean(open).unwrap();
    assert!(cleaned_open.is_open);
    assert_eq!(cleaned(open), whole);
    assert_eq!(removed(open), ["damage"]);
    assert!(!clean(&whole).unwrap().is_open);
    // Zeros up to the end of the file may be data of the last scan.
    let zeros = [open, &[0; 100]].concat();
    assert_eq!(cleaned(&zeros), [&zeros[..], b"\xff\xd9"].concat());
    assert!(clean(&zeros).unwrap().is_open);
    // Half of the marker is there.
    let half = &whole[..whole.len() - 1];
    assert!(clean(half).unwrap().is_open);
    cleaned(half);
    let no_scan = whole.windows(2).position(|two| two == b"\xff\xda").unwrap();
    assert!(is_refused(&whole[..no_scan]));
    assert!(is_refused(&[&whole[..no_scan], b"\xff\xd9"].concat()));
}

/// A picture whose frame header gives its components these names, with these scans.
fn named(ids: [u8; 3], scans: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = sample_jpeg(0xc0, 16, 8, scans);
    let at = bytes.windows(2).position(|two| two == b"\xff\xc0").unwrap() + 10;
    for (number, id) in ids.into_iter().enumerate() {
        bytes[at + 3 * number] = id;
    }
    let comment = segment(0xfe, b"a comment");
    let at = bytes
        .windows(comment.len())
        .position(|part| part == comment)
        .unwrap();
    bytes.drain(at..at + comment.len());
    bytes
}

#[test]
fn components_of_one_name_are_renamed_by_their_order() {
    let whole = |ids: [u8; 3]| named(ids, &[scan(&ids, [0, 63, 0])]);
    for id in [0, 1, 7, 255] {
        let bytes = whole([id; 3]);
        assert_eq!(cleaned(&bytes), whole([1, 2, 3]), "{id}");
        assert_eq!(removed(&bytes), ["damage"], "{id}");
    }
    for ids in [[1, 2, 3], [0, 1, 2], [b'R', b'G', b'B'], [1, 1, 2]] {
        assert!(is_clean(&whole(ids)), "{ids:?}");
    }
}

#[test]
fn components_of_one_name_in_separate_scans_keep_it() {
    let apart = named([1; 3], &vec![scan(&[1], [0, 63, 0]); 3]);
    assert!(is_clean(&apart));
    let mixed = named([1; 3], &[scan(&[1; 3], [0, 63, 0]), scan(&[1], [0, 63, 0])]);
    assert!(is_clean(&mixed));
}

#[test]
fn parts_of_a_profile_are_joined_and_incomplete_ones_removed() {
    let profile = sample();
    let (first, second) = profile.split_at(100);
    let whole = jpeg(&[profile_part(1, 1, &profile)], &[]);
    for parts in [
        vec![profile_part(1, 2, first), profile_part(2, 2, second)],
        vec![profile_part(2, 2, second), profile_part(1, 2, first)],
        vec![profile_part(1, 1, &profile), profile_part(1, 1, &profile)],
    ] {
        let bytes = jpeg(&parts, &[]);
        assert_eq!(cleaned(&bytes), whole);
        assert!(!removed(&bytes).is_empty());
    }
    for parts in [
        vec![profile_part(1, 2, first)],
        vec![profile_part(2, 2, second)],
        vec![
            profile_part(1, 2, first),
            profile_part(1, 2, first),
            profile_part(2, 2, second),
        ],
        vec![profile_part(1, 2, first), profile_part(2, 3, second)],
        vec![profile_part(1, 1, b"profile")],
    ] {
        let bytes = jpeg(&parts, &[]);
        assert_eq!(cleaned(&bytes), jpeg(&[], &[]));
        assert_eq!(removed(&bytes), ["profile"]);
    }
}

#[test]
fn a_profile_has_the_place_of_its_first_part() {
    let profile = sample();
    let (first, second) = profile.split_at(100);
    let front = [
        segment(0xe0, JFIF_72),
        profile_part(1, 2, first),
        segment(0xfe, b"between"),
        segment(0xee, ADOBE_YCC),
        profile_part(2, 2, second),
    ];
    let wanted = [
        segment(0xe0, JFIF_72),
        profile_part(1, 1, &profile),
        segment(0xee, ADOBE_YCC),
    ];
    assert_eq!(cleaned(&jpeg(&front, &[])), jpeg(&wanted, &[]));
}

#[test]
fn parameters_that_decoders_reject_are_refused() {
    for body in [&[0][..], &[32, 0], &[0, 0x01]] {
        assert!(
            is_refused(&with(&segment(0xcc, body), b"", b"")),
            "{body:?}"
        );
    }
    for body in [&[31, 0xff][..], &[0, 0x10, 15, 0xff], &[]] {
        assert_eq!(cleaned(&with(&segment(0xcc, body), b"", b"")), clean_jpeg());
    }
}

#[test]
fn arithmetic_conditioning_and_a_late_height_are_removed() {
    for one in [segment(0xcc, &[0, 0]), segment(0xdc, &[0, 8])] {
        assert_eq!(cleaned(&with(&one, b"", b"")), clean_jpeg());
        assert_eq!(cleaned(&with(b"", &one, b"")), clean_jpeg());
        assert_eq!(cleaned(&with(b"", b"", &one)), clean_jpeg());
    }
}

#[test]
fn a_file_with_more_than_20000_segments_is_refused() {
    let comments = |count: usize| with(&segment(0xfe, b"").repeat(count), b"", b"");
    let own = parts::Parts::read(&clean_jpeg()).unwrap().list.len();
    assert_eq!(cleaned(&comments(20_000 - own)), clean_jpeg());
    assert!(is_refused(&comments(20_001 - own)));
}

#[test]
fn each_kind_of_metadata_is_named() {
    let iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x06\x1c\x02\x5a\0\x01A";
    for (front, words) in [
        (exif(*b"II", 1), vec!["camera", "thumbnail"]),
        (exif(*b"MM", 6), vec!["camera", "thumbnail"]),
        (segment(0xe1, b"Exif\0\0broken"), vec!["other"]),
        (
            segment(
                0xe1,
                b"http://ns.adobe.com/xap/1.0/\0<x exif:GPSLatitude='1'/>",
            ),
            vec!["location"],
        ),
        (
            segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0<x/>"),
            vec!["other"],
        ),
        (segment(0xe0, b"JFXX\0\x13thumbnail"), vec!["thumbnail"]),
        (segment(0xe2, b"MPF\0II*\0"), vec!["pictures"]),
        (segment(0xed, iptc), vec!["location"]),
        (segment(0xeb, b"JP\x01\0provenance"), vec!["c2pa"]),
        (segment(0xfe, b"a comment"), vec!["comment"]),
        (segment(0xe5, b"private"), vec!["other"]),
    ] {
        let name = front.escape_ascii().to_string();
        let bytes = jpeg(&[front], &[]);
        assert_eq!(removed(&bytes), words, "{name}");
    }
    let trailing = [&clean_jpeg()[..], b"more"].concat();
    assert_eq!(removed(&trailing), ["trailing"]);
    assert!(removed(&clean_jpeg()).is_empty());
    assert!(removed(&jpeg(&picture_segments(), &[])).is_empty());
}

#[test]
fn a_picture_without_one_frame_is_refused_by_the_probe() {
    assert!(shape(&clean_jpeg()).is_ok());
    let twice = with(&[dqt(), sof(0xc0, 8, 8)].concat(), b"", b"");
    assert!(clean(&twice).is_ok() && is_refused(&twice));
}
