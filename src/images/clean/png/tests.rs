use crate::images::clean::exif::tests::camera_exif;
use crate::images::clean::tests::{cleaned, is_clean};
use crate::images::format::samples::{
    apng, idat, iend, ihdr, png as plain, png_chunk as chunk, png_of,
};

/// Chunks before and after the image data.
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
        (&b"gAMA"[..], &[0; 4][..]),
        (b"cHRM", &[0; 32]),
        (b"sRGB", &[0]),
        (b"iCCP", b"Display P3\0\0compressed"),
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
fn a_png_without_metadata_is_not_touched() {
    assert!(is_clean(&plain(3, 2)));
    assert!(is_clean(&apng(4, 4, 3)));
    assert!(is_clean(&png(&picture_chunks(), &[])));
}

#[test]
fn each_kind_of_metadata_goes_wherever_it_stands() {
    for one in metadata() {
        let (before, after) = (png(std::slice::from_ref(&one), &[]), png(&[], &[one]));
        assert_eq!(cleaned(&before), plain(3, 2));
        assert_eq!(cleaned(&after), plain(3, 2));
    }
}

#[test]
fn all_metadata_together_goes_and_the_picture_stays() {
    let all = [&metadata()[..], &picture_chunks(), &metadata()].concat();
    assert_eq!(
        cleaned(&png(&all, &metadata())),
        png(&picture_chunks(), &[])
    );
}

#[test]
fn an_animation_loses_the_metadata_between_its_frames() {
    let bytes = apng(4, 4, 3);
    let at = bytes.windows(4).rposition(|w| w == b"fcTL").unwrap() - 4;
    let text = chunk(b"tEXt", b"Author\0somebody");
    assert_eq!(
        cleaned(&[&bytes[..at], &text, &bytes[at..]].concat()),
        bytes
    );
}

#[test]
fn orientation_stays_alone_where_it_was() {
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
fn exif_with_the_prefix_of_jpeg_is_none_to_browsers_and_goes() {
    let prefixed = [&b"Exif\0\0"[..], &camera_exif(*b"MM", 6)].concat();
    assert_eq!(
        cleaned(&png(&[chunk(b"eXIf", &prefixed)], &[])),
        plain(3, 2)
    );
}

#[test]
fn chunks_that_only_pretend_to_be_of_the_picture_go() {
    let text = [b'x'; 300];
    for kind in [
        b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"mDCV", b"cLLI", b"sBIT", b"bKGD", b"pHYs",
        b"tRNS",
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
fn a_second_profile_does_not_come_to_be_used() {
    let bad = chunk(b"iCCP", b"");
    let good = chunk(b"iCCP", b"a\0\0");
    let both = |first: &Vec<u8>, second: &Vec<u8>| png(&[first.clone(), second.clone()], &[]);
    assert_eq!(cleaned(&both(&bad, &good)), plain(3, 2));
    let one = png(std::slice::from_ref(&good), &[]);
    assert_eq!(cleaned(&both(&good, &bad)), one);
    assert_eq!(cleaned(&both(&good, &good)), one);
}

#[test]
fn a_profile_has_a_name() {
    let name = |len: usize| {
        let body = [&vec![b'n'; len][..], b"\0\0data"].concat();
        png(&[chunk(b"iCCP", &body)], &[])
    };
    assert!(is_clean(&name(79)));
    assert!(is_clean(&name(80)));
    assert_eq!(cleaned(&name(81)), plain(3, 2));
    assert_eq!(cleaned(&name(0)), plain(3, 2));
}
