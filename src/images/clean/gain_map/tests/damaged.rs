use proptest::prelude::*;

use super::*;

#[test]
fn malformed_packets_are_ignored() {
    let good = format!(
        r#"<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description {GAIN_MAP} {PARAMETERS}/></rdf:RDF>"#
    );
    assert!(Packet::read(good.as_bytes()).has_version);
    let nested = format!("{}{good}{}", "<a>".repeat(30), "</a>".repeat(30));
    assert!(Packet::read(nested.as_bytes()).has_version);
    let prefixes: Vec<String> = (0..200)
        .map(|number| format!(r#" xmlns:p{number}="x""#))
        .collect();
    let prefixes = prefixes.concat();
    for broken in [
        good.replace("</rdf:RDF>", ""),
        good.replace("</rdf:RDF>", "</rdf:rdf>"),
        good.replace("hdrgm:Version=", "hdrgm:Version"),
        good.replace(r#""1.0""#, "1.0"),
        format!("<!DOCTYPE a [<!ENTITY b '1.0'>]>{good}"),
        format!("<a><![CDATA[x]]>{good}</a>"),
        format!("{}{good}{}", "<a>".repeat(31), "</a>".repeat(31)),
        format!("<a{prefixes}>{good}</a>"),
        format!("<a>{}{good}</a>", "<b/>".repeat(4096)),
    ] {
        assert!(
            !Packet::read(broken.as_bytes()).has_version,
            "{broken:.200}"
        );
    }
    assert!(!Packet::read(b"\xff\xfe<>").has_version);
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let map = gray(&[xmp(&format!("{GAIN_MAP} {PARAMETERS}"), "")]);
    let iso = gray(&[segment(0xe2, &iso_parameters(0x40, 14))]);
    let apple = gray(&[xmp(
        APPLE,
        &format!("{APPLE_MAP}<HDRGainMap:HDRGainMapVersion>1</HDRGainMap:HDRGainMapVersion>"),
    )]);
    prop::sample::select(vec![
        map,
        iso,
        apple,
        gray(&[]),
        jpeg(&[], 3),
        b"SECRET".to_vec(),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_damaged_file_is_cleaned_in_one_pass(
        pieces in prop::collection::vec(piece(), 1..4),
        described in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let items = directory(&[("Primary", 0), ("GainMap", pieces[0].len())]);
        let front = [
            xmp(&format!("{GAIN_MAP} {CONTAINER} {VERSION}"), &items),
            segment(0xe2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0"),
            apple_exif(*b"\0\0\x04\xb1\0\0\x03\xe8", b"Apple iOS\0\0\x01MM"),
        ];
        let mut file = photo(if described { &front } else { &[] }, &pieces);
        for (at, value) in damage {
            let at = at.index(file.len());
            file[at] = value;
        }
        let Some(end) = Image::open(&file).and_then(|image| Some(image.whole()?.len())) else {
            return Ok(());
        };
        if let Some(map) = found(&file) {
            prop_assert!(map.place().start >= end);
        }
        let out = cleaned(&file);
        prop_assert!(out.len() <= file.len() + MAX_SEGMENTS_LEN);
        prop_assert_eq!(cleaned(&out), out);
    }

    #[test]
    fn readers_never_panic_on_random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "[<>/=\"' a:rdfxmlns!?-]{0,200}") {
        let mut headers = Headers::default();
        for name in [b"Exif\0\0".as_slice(), b"MPF\0", b"http://ns.adobe.com/xap/1.0/\0", b"urn:iso:std:iso:ts:21496:-1\0"] {
            headers.segment(0xe1, 0, [name, &bytes].concat().leak());
            headers.segment(0xe2, usize::MAX, [name, &bytes].concat().leak());
        }
        let image = [b"\xff\xd8".as_slice(), &bytes].concat();
        prop_assert!(find(&headers, &image, bytes.len()).is_none());
        prop_assert!(find(&headers, &image, usize::MAX).is_none());
        prop_assert!(!Packet::read(text.as_bytes()).has_version);
    }
}
