//! Faults that viewers tolerate: checksums, the end, chunks in the wrong place.

use super::*;

/// The chunk with a wrong checksum.
fn damaged(mut chunk: Vec<u8>) -> Vec<u8> {
    *chunk.last_mut().unwrap() ^= 1;
    chunk
}

/// Signature, header and image data, without an end.
fn open() -> Vec<u8> {
    let whole = plain(3, 2);
    whole[..whole.len() - iend().len()].to_vec()
}

#[test]
fn the_checksum_of_a_removed_chunk_is_ignored() {
    for one in metadata() {
        let one = damaged(one);
        let before = png(std::slice::from_ref(&one), &[]);
        assert_eq!(cleaned(&before), plain(3, 2));
        assert_eq!(cleaned(&png(&[], &[one])), plain(3, 2));
    }
}

#[test]
fn an_ancillary_chunk_with_a_wrong_checksum_is_removed() {
    let exif = chunk(b"eXIf", &camera_exif(*b"MM", 6));
    for one in picture_chunks().into_iter().chain([exif]) {
        if one[4..].starts_with(b"PLTE") {
            continue;
        }
        let name = one[4..8].escape_ascii().to_string();
        let bytes = png(&[damaged(one.clone())], &[]);
        assert_eq!(cleaned(&bytes), plain(3, 2), "{name}");
        assert!(!is_turned(&bytes));
        // Viewers use the next one then.
        let both = png(&[damaged(one.clone()), one.clone()], &[]);
        assert_eq!(cleaned(&both), cleaned(&png(&[one], &[])), "{name}");
    }
}

#[test]
fn a_critical_chunk_before_the_image_data_needs_its_checksum() {
    let of = |header, palette| png_of(&[header, palette, idat(), iend()]);
    let header = || ihdr(3, 2, [8, 2]);
    let palette = || chunk(b"PLTE", &[0; 6]);
    assert!(is_clean(&of(header(), palette())));
    assert!(is_refused(&of(damaged(header()), palette())));
    assert!(is_refused(&of(header(), damaged(palette()))));
}

#[test]
fn a_chunk_before_the_header_is_refused() {
    for first in [chunk(b"tEXt", b"a\0b"), damaged(chunk(b"prVt", b""))] {
        assert!(is_refused(&png_of(&[
            first,
            ihdr(3, 2, [8, 2]),
            idat(),
            iend()
        ])));
    }
}

#[test]
fn the_checksum_of_the_last_image_data_is_repaired() {
    let of = |data: &[Vec<u8>]| png_of(&[ihdr(3, 2, [8, 2]), data.concat(), iend()]);
    let bytes = of(&[idat(), damaged(idat())]);
    assert_eq!(cleaned(&bytes), of(&[idat(), idat()]));
    assert_eq!(removed(&bytes), ["damage"]);
    assert_eq!(cleaned(&of(&[damaged(idat())])), of(&[idat()]));
    // Browsers ignore data behind it. Decoding tells whether the picture is complete by then.
    assert_eq!(cleaned(&of(&[damaged(idat()), idat()])), of(&[idat()]));
    let with_text = [idat(), damaged(idat()), chunk(b"tEXt", b"a\0b")];
    assert_eq!(cleaned(&of(&with_text)), of(&[idat(), idat()]));
}

#[test]
fn image_data_cut_by_the_end_of_the_file_is_kept() {
    let whole = open();
    let last = idat().len();
    let head = whole.len() - last;
    for end in head + 8..whole.len() {
        let body = &whole[head + 8..end.min(whole.len() - 4)];
        let wanted = [&whole[..head], &chunk(b"IDAT", body), &iend()].concat();
        let out = cleaned(&whole[..end]);
        assert_eq!(out, wanted, "cut at {end}");
        assert_eq!(removed(&whole[..end]), ["damage"]);
    }
    // A length and a name that are cut are ignored.
    for end in head..head + 8 {
        let wanted = [&whole[..head], &iend()].concat();
        assert_eq!(cleaned(&whole[..end]), wanted, "cut at {end}");
    }
    // A length that exceeds the end of the file.
    let mut long = whole.clone();
    long[head] = 1;
    let out = cleaned(&long);
    assert_eq!(
        out,
        [&whole[..head], &chunk(b"IDAT", &long[head + 8..]), &iend()].concat()
    );
}

#[test]
fn a_missing_or_damaged_end_is_written() {
    let end = iend();
    for instead in [
        &b""[..],
        &end[..4],
        &end[..8],
        &end[..11],
        &damaged(end.clone()),
        &chunk(b"IEND", b"ab"),
        &[0; 12],
        &[0; 3],
        b"\0\0\0\x04IENDjunk",
        b"<html>instead of an end</html>",
        b"\x7f\xff\xff\xffteXt",
        b"\0\0\xff\xfftEXta\0b",
    ] {
        let name = instead.escape_ascii().to_string();
        let bytes = [&open()[..], instead].concat();
        assert_eq!(cleaned(&bytes), plain(3, 2), "{name}");
        assert!(removed(&bytes).contains(&"damage"), "{name}");
        assert!(super::super::clean(&bytes).unwrap().is_open, "{name}");
    }
    assert!(!super::super::clean(&plain(3, 2)).unwrap().is_open);
    for early in [damaged(end.clone()), b"\0\0\0\0????".to_vec(), Vec::new()] {
        let bytes = png_of(&[ihdr(3, 2, [8, 2]), early]);
        assert!(is_refused(&bytes), "no image data");
    }
}

#[test]
fn an_unknown_critical_chunk_is_removed_only_behind_the_data() {
    for kind in [b"CgBI", b"ABCD"] {
        let one = chunk(kind, b"what");
        assert!(is_refused(&png(std::slice::from_ref(&one), &[])));
        assert_eq!(cleaned(&png(&[], &[one])), plain(3, 2));
    }
}

#[test]
fn a_palette_behind_the_image_data_is_removed() {
    let palette = chunk(b"PLTE", &[0; 6]);
    let before = png(std::slice::from_ref(&palette), &[]);
    assert!(is_clean(&before));
    assert_eq!(
        cleaned(&png(&[], std::slice::from_ref(&palette))),
        plain(3, 2)
    );
    assert!(is_refused(&png(&[palette.clone(), palette], &[])));
}

#[test]
fn image_data_in_two_places_is_refused() {
    // Browsers show nothing of it, but would show it if the text were removed.
    for between in [chunk(b"tEXt", b"a\0b"), damaged(chunk(b"prVt", b""))] {
        assert!(is_refused(&png(&[], &[between, idat()])));
    }
    assert!(is_clean(&png(&[], &[idat()])));
}

#[test]
fn the_first_of_several_ancillary_chunks_stays() {
    for (kind, first, second) in [
        (b"gAMA", [1; 4].to_vec(), [2; 4].to_vec()),
        (b"pHYs", vec![1; 9], vec![2; 9]),
        (b"sBIT", vec![8; 3], vec![7; 3]),
        (b"tRNS", vec![0; 6], vec![1; 6]),
        (b"cICP", vec![1, 1, 0, 1], vec![9, 16, 0, 1]),
    ] {
        let (first, second) = (chunk(kind, &first), chunk(kind, &second));
        let one = png(std::slice::from_ref(&first), &[]);
        assert_eq!(cleaned(&png(&[first, second], &[])), one);
    }
}

#[test]
fn colour_chunks_behind_the_image_data_are_removed() {
    for one in picture_chunks() {
        assert_eq!(cleaned(&png(&[], &[one])), plain(3, 2));
    }
}

#[test]
fn colour_chunks_that_viewers_ignore_behind_a_palette_are_removed() {
    let palette = || chunk(b"PLTE", &[0; 6]);
    let space = || chunk(b"cICP", &[9, 16, 0, 1]);
    let late = [space(), chunk(b"mDCV", &[0; 24]), chunk(b"sBIT", &[8; 3])];
    for one in late {
        assert_eq!(
            cleaned(&png(&[palette(), one], &[])),
            png(&[palette()], &[])
        );
    }
    // The palette of a grey image goes as well, and the chunk must not count from then on.
    let grey = |chunks: &[Vec<u8>]| png_of(&[ihdr(3, 2, [8, 0]), chunks.concat(), idat(), iend()]);
    assert_eq!(cleaned(&grey(&[palette(), space()])), grey(&[]));
    assert_eq!(cleaned(&grey(&[space(), palette()])), grey(&[space()]));
}

#[test]
fn a_profile_that_inflates_to_more_than_4_mib_is_removed() {
    let mut large = sample();
    large.resize(5 << 20, 0);
    let bytes = png(&[chunk(b"iCCP", &chunk_body("icc", &large))], &[]);
    assert_eq!(cleaned(&bytes), plain(3, 2));
    // Text may inflate to any length, because it is removed.
    let bomb = [b"Comment\0\0", &chunk_body("", &vec![b' '; 9 << 20])[2..]].concat();
    assert_eq!(cleaned(&png(&[chunk(b"zTXt", &bomb)], &[])), plain(3, 2));
}

#[test]
fn a_file_with_more_than_65536_chunks_is_refused() {
    let texts = |count: usize| png(&[chunk(b"tEXt", b"").repeat(count)], &[]);
    assert_eq!(cleaned(&texts(65_536 - 3)), plain(3, 2));
    assert!(is_refused(&texts(65_536 - 2)));
}
