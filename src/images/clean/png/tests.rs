use crate::images::clean::exif::tests::camera_exif;
use crate::images::clean::icc::tests::carriers::chunk_body;
use crate::images::clean::icc::tests::sample;
use crate::images::clean::tests::{cleaned, is_clean, is_refused, is_turned, removed};
use crate::images::format::samples::{
    actl, apng, fctl, fdat, idat, iend, ihdr, png as plain, png_chunk as chunk, png_of, shape,
};

mod animation;
mod repairs;

/// Chunks before and behind the image data.
fn png(before: &[Vec<u8>], after: &[Vec<u8>]) -> Vec<u8> {
    png_of(&[
        ihdr(3, 2, [8, 2]),
        before.concat(),
        idat(),
        idat(),
        after.concat(),
        iend(),
    ])
}

fn metadata() -> Vec<Vec<u8>> {
    [
        (&b"tEXt"[..], &b"Author\0somebody"[..]),
        (b"zTXt", b"Comment\0\0compressed"),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>"),
        (b"tIME", b"\x07\xe8\x01\x01\0\0\0"),
        (b"eXIf", b"MM\0*\0\0\0\x08\0\0"),
        (b"sPLT", b"name\0\x08"),
        (b"hIST", b"\0\0"),
        (b"dSIG", b"signature"),
        (b"caBX", b"provenance"),
        (b"prVt", b"private"),
    ]
    .map(|(kind, body)| chunk(kind, body))
    .to_vec()
}

fn picture_chunks() -> Vec<Vec<u8>> {
    [
        (&b"gAMA"[..], &[0, 0, 0xb1, 0x8f][..]),
        (b"cHRM", &[0; 32]),
        (b"iCCP", &chunk_body("Display P3", &sample())),
        (b"cICP", &[9, 16, 0, 1]),
        (b"mDCV", &[0; 24]),
        (b"cLLI", &[0; 8]),
        (b"sBIT", &[8; 3]),
        (b"PLTE", &[0; 6]),
        (b"tRNS", &[0; 6]),
        (b"bKGD", &[0; 6]),
        (b"pHYs", &[0; 9]),
    ]
    .map(|(kind, body)| chunk(kind, body))
    .to_vec()
}

#[test]
fn a_png_without_metadata_stays_unchanged() {
    assert!(is_clean(&plain(3, 2)));
    assert!(is_clean(&apng(4, 4, 3)));
    assert!(is_clean(&png(&picture_chunks(), &[])));
}

#[test]
fn each_kind_of_metadata_is_removed_at_each_place() {
    for one in metadata() {
        let (before, after) = (png(std::slice::from_ref(&one), &[]), png(&[], &[one]));
        assert_eq!(cleaned(&before), plain(3, 2));
        assert_eq!(cleaned(&after), plain(3, 2));
    }
}

#[test]
fn all_metadata_is_removed_and_the_picture_stays() {
    let all = [&metadata()[..], &picture_chunks(), &metadata()].concat();
    assert_eq!(
        cleaned(&png(&all, &metadata())),
        png(&picture_chunks(), &[])
    );
}

#[test]
fn metadata_between_frames_of_an_animation_is_removed() {
    let bytes = apng(4, 4, 3);
    let at = bytes.windows(4).rposition(|w| w == b"fcTL").unwrap() - 4;
    let text = chunk(b"tEXt", b"Author\0somebody");
    assert_eq!(
        cleaned(&[&bytes[..at], &text, &bytes[at..]].concat()),
        bytes
    );
}

#[test]
fn only_the_orientation_of_an_exif_chunk_stays() {
    for order in [*b"II", *b"MM"] {
        for value in 2..=8 {
            let camera = chunk(b"eXIf", &camera_exif(order, value));
            let before = cleaned(&png(std::slice::from_ref(&camera), &[]));
            let after = cleaned(&png(&[], &[camera.clone(), camera]));
            assert_eq!(before.len(), plain(3, 2).len() + 38);
            assert_eq!(after.len(), before.len());
            assert_eq!(&before[37..41], b"eXIf");
            assert_eq!(&after[after.len() - 46..][..4], b"eXIf");
            assert!(is_clean(&before) && is_clean(&after));
        }
        let upright = chunk(b"eXIf", &camera_exif(order, 1));
        assert_eq!(cleaned(&png(&[upright], &[])), plain(3, 2));
    }
}

#[test]
fn exif_with_the_prefix_of_jpeg_is_removed() {
    let prefixed = [&b"Exif\0\0"[..], &camera_exif(*b"MM", 6)].concat();
    assert_eq!(
        cleaned(&png(&[chunk(b"eXIf", &prefixed)], &[])),
        plain(3, 2)
    );
}

#[test]
fn picture_chunks_of_a_wrong_length_are_removed() {
    let text = [b'x'; 300];
    for kind in [
        b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"mDCV", b"cLLI", b"sBIT", b"bKGD", b"pHYs",
    ] {
        assert_eq!(
            cleaned(&png(&[chunk(kind, &text)], &[])),
            plain(3, 2),
            "{}",
            kind.escape_ascii()
        );
    }
}

#[test]
fn a_chunk_with_refused_values_is_removed_and_the_next_counts() {
    for (kind, bad, good) in [
        (b"gAMA", &[0; 4][..], &[0, 0, 0xb1, 0x8f][..]),
        (b"sRGB", &[4], &[3]),
        (b"sRGB", &[255], &[0]),
        (b"cICP", &[9, 16, 1, 1], &[9, 16, 0, 1]),
        (b"cICP", &[9, 16, 0, 2], &[9, 16, 0, 0]),
        (b"sBIT", &[8, 9, 8], &[8, 1, 8]),
        (b"sBIT", &[8, 8, 0], &[8, 8, 8]),
    ] {
        let both = [chunk(kind, bad), chunk(kind, good)];
        assert_eq!(
            cleaned(&png(&both, &[])),
            png(&[chunk(kind, good)], &[]),
            "{} {bad:?}",
            kind.escape_ascii()
        );
    }
}

#[test]
fn significant_bits_of_a_palette_are_at_most_8() {
    let bytes = |bits: u8| {
        let picture = [
            ihdr(3, 2, [2, 3]),
            chunk(b"sBIT", &[bits; 3]),
            chunk(b"PLTE", &[0; 12]),
        ];
        png_of(&[picture.concat(), idat(), iend()])
    };
    assert!(is_clean(&bytes(8)));
    assert!(!is_clean(&bytes(9)));
}

#[test]
fn a_second_profile_is_never_used() {
    let bad = chunk(b"iCCP", b"");
    let good = chunk(b"iCCP", &chunk_body("icc", &sample()));
    let both = |first: &Vec<u8>, second: &Vec<u8>| png(&[first.clone(), second.clone()], &[]);
    assert_eq!(cleaned(&both(&bad, &good)), plain(3, 2));
    let one = png(std::slice::from_ref(&good), &[]);
    assert_eq!(cleaned(&both(&good, &bad)), one);
    assert_eq!(cleaned(&both(&good, &good)), one);
}

#[test]
fn a_profile_without_a_name_is_removed() {
    let named = |name: &str| png(&[chunk(b"iCCP", &chunk_body(name, &sample()))], &[]);
    assert!(is_clean(&named("ICC Profile")));
    // Other names may tell who made the file.
    assert_eq!(cleaned(&named(&"n".repeat(80))), named("icc"));
    assert_eq!(cleaned(&named("x")), named("i"));
    assert_eq!(cleaned(&named(&"n".repeat(81))), plain(3, 2));
    assert_eq!(cleaned(&named("")), plain(3, 2));
}

#[test]
fn each_kind_of_metadata_is_named() {
    for (kind, body, words) in [
        (b"tEXt", &b"Author\0somebody"[..], vec!["author"]),
        (b"tEXt", b"Comment\0text", vec!["comment"]),
        (b"tEXt", b"Software\0text", vec!["software"]),
        (b"tEXt", b"date:create\0now", vec!["date"]),
        (b"zTXt", b"Raw profile type exif\0\0", vec!["other"]),
        (
            b"iTXt",
            b"XML:com.adobe.xmp\0\0\0\0\0<x exif:GPSLatitude='1'/>",
            vec!["location"],
        ),
        (b"tIME", b"\x07\xe8\x01\x01\0\0\0", vec!["date"]),
        (
            b"eXIf",
            &camera_exif(*b"MM", 6),
            vec!["camera", "thumbnail"],
        ),
        (b"caBX", b"provenance", vec!["c2pa"]),
        (b"iCCP", &chunk_body("SECRET", &sample()), vec!["profile"]),
        (b"prVt", b"private", vec!["other"]),
    ] {
        let bytes = png(&[chunk(kind, body)], &[]);
        assert_eq!(removed(&bytes), words, "{}", body.escape_ascii());
    }
    assert_eq!(removed(&[&plain(3, 2)[..], b"more"].concat()), ["trailing"]);
    assert!(removed(&png(&picture_chunks(), &[])).is_empty());
}

#[test]
fn only_exif_before_the_image_data_exchanges_width_and_height() {
    for value in 1..=8 {
        let exif = chunk(b"eXIf", &camera_exif(*b"II", value));
        let before = png(std::slice::from_ref(&exif), &[]);
        assert_eq!(is_turned(&before), value > 4, "{value}");
        assert!(!is_turned(&png(&[], &[exif])), "{value}");
    }
    // The first one decides.
    let [upright, turned] = [1, 6].map(|value| chunk(b"eXIf", &camera_exif(*b"II", value)));
    assert!(!is_turned(&png(&[upright, turned], &[])));
}

#[test]
fn transparency_is_cut_to_the_length_that_browsers_read() {
    for (colour_type, least, most) in [(0, 2, 2), (2, 6, 6), (3, 1, 256)] {
        let of = |len: usize| {
            png_of(&[
                ihdr(3, 2, [8, colour_type]),
                if colour_type == 0 {
                    Vec::new()
                } else {
                    chunk(b"PLTE", &[0; 6])
                },
                if len == 0 {
                    Vec::new()
                } else {
                    chunk(b"tRNS", &vec![1; len])
                },
                idat(),
                iend(),
            ])
        };
        assert!(is_clean(&of(least)) && is_clean(&of(most)));
        for longer in [(most + 1).min(256), 256] {
            assert_eq!(cleaned(&of(longer)), of(most), "{colour_type} {longer}");
        }
        for too_long in [257, 556] {
            assert_eq!(cleaned(&of(too_long)), of(0), "{colour_type} {too_long}");
        }
        if least > 1 {
            assert_eq!(cleaned(&of(least - 1)), of(0), "{colour_type}");
        }
    }
    for colour_type in [4, 6] {
        let head = ihdr(3, 2, [8, colour_type]);
        let bytes = png_of(&[head.clone(), chunk(b"tRNS", &[1; 6]), idat(), iend()]);
        assert_eq!(cleaned(&bytes), png_of(&[head, idat(), iend()]));
    }
}
