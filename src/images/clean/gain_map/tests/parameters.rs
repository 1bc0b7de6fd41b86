use super::super::tiff::Directory;
use super::*;

#[test]
fn ultra_hdr_keeps_its_map_and_its_parameters_and_nothing_else() {
    let map = gray(&[xmp(&format!("{GAIN_MAP} {PARAMETERS}"), "")]);
    let front = xmp(
        &format!("{GAIN_MAP} {CONTAINER} {VERSION}"),
        &directory(&[("Primary", 0), ("GainMap", map.len())]),
    );
    let out = kept(&photo(&[front], &[&map]), &map);

    let gain = found(&out).unwrap();
    assert!(gain.has_parameters());
    let fields = r#"hdrgm:Version="1.0" hdrgm:GainMapMin="-0.5" hdrgm:GainMapMax="2.25" hdrgm:Gamma="1" hdrgm:OffsetSDR="0.015625" hdrgm:HDRCapacityMax="2.25" hdrgm:BaseRenditionIsHDR="False">"#;
    assert!(contains(gain.image(), fields));
    assert!(contains(
        &out,
        &format!(r#"Item:Length="{}""#, gain.image().len())
    ));
    assert_eq!(count(&out, "<Container:Item "), 2);
}

#[test]
fn parameters_of_each_channel_stay_in_their_order() {
    let list = "<q:GainMapMax><rdf:Seq><rdf:li>1.5</rdf:li> <rdf:li>2</rdf:li><rdf:li>-3e0</rdf:li></rdf:Seq></q:GainMapMax><q:Gamma>1.25</q:Gamma>";
    let space = r#"xmlns:q="http://ns.adobe.com/hdr-gain-map/1.0/""#;
    let map = gray(&[xmp(&format!(r#"{space} q:Version="1.0""#), list)]);
    let front = xmp(space, "<q:Version>1.0</q:Version>");
    let out = kept(&photo(&[front], &[&map]), &map);
    assert!(contains(
        &out,
        "<hdrgm:GainMapMax><rdf:Seq><rdf:li>1.5</rdf:li><rdf:li>2</rdf:li><rdf:li>-3</rdf:li></rdf:Seq></hdrgm:GainMapMax>"
    ));
    assert!(contains(&out, r#" hdrgm:Gamma="1.25""#));
}

#[test]
fn only_a_parameter_that_is_not_a_number_is_removed() {
    let broken = [
        "SECRET", "1,5", "inf", "NaN", "", "1e999", "100000", "0x10", "1_0",
    ];
    for value in broken {
        let map = gray(&[xmp(
            &format!(r#"{GAIN_MAP} {VERSION} hdrgm:GainMapMax="1.5" hdrgm:GainMapMin="{value}""#),
            "",
        )]);
        let front = xmp(&format!("{GAIN_MAP} {VERSION}"), "");
        let out = kept(&photo(&[front], &[&map]), &map);
        assert!(
            contains(&out, r#"hdrgm:Version="1.0" hdrgm:GainMapMax="1.5">"#),
            "{value}"
        );
    }
    let map = gray(&[xmp(&format!(r#"{GAIN_MAP} {VERSION} hdrgm:Gamma="0""#), "")]);
    let front = xmp(&format!("{GAIN_MAP} {VERSION}"), "");
    assert!(!contains(&kept(&photo(&[front], &[&map]), &map), "Gamma"));
}

#[test]
fn iso_parameters_are_read_field_by_field() {
    let version = segment(0xe2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\x05SECRET");
    for (flags, words) in [(0x40, 14), (0xc0, 34), (0x48, 8), (0x88, 18), (0x04, 14)] {
        let data = iso_parameters(flags, words);
        let with_tail = segment(0xe2, &[data.as_slice(), b"SECRET"].concat());
        let map = gray(&[with_tail]);
        let out = kept(&photo(std::slice::from_ref(&version), &[&map]), &map);
        let gain = found(&out).unwrap();
        assert_eq!(gain.image_segments(), segment(0xe2, &data));
        assert!(!contains(&out, "http://ns.adobe.com/xap"));
        let incomplete = segment(0xe2, &data[..data.len() - 1]);
        assert!(
            found(&photo(
                std::slice::from_ref(&version),
                &[&gray(&[incomplete])]
            ))
            .is_none()
        );
        // All other flags are undefined so far.
        let mut unknown = data.clone();
        unknown[32] |= 0x33;
        let map = gray(&[segment(0xe2, &unknown)]);
        assert_eq!(
            cleaned(&photo(std::slice::from_ref(&version), &[&map])),
            out
        );
    }
    let base = "urn:iso:std:iso:ts:21496:-1\0".len();
    // The lowest version, a denominator, a gamma.
    for zeroed in [
        base + 5 + 4..base + 5 + 8,
        base + 5 + 13 * 4..base + 5 + 14 * 4,
        base + 5 + 8 * 4..base + 5 + 9 * 4,
    ] {
        let mut data = iso_parameters(0, 14);
        data[zeroed].fill(0);
        assert!(
            found(&photo(
                std::slice::from_ref(&version),
                &[&gray(&[segment(0xe2, &data)])]
            ))
            .is_none()
        );
    }
    let mut data = iso_parameters(0, 14);
    data[base] = 1;
    assert!(found(&photo(&[version], &[&gray(&[segment(0xe2, &data)])])).is_none());
}

#[test]
fn apple_maps_keep_the_two_numbers_of_the_maker_note() {
    let numbers = "<HDRGainMap:HDRGainMapVersion>65536</HDRGainMap:HDRGainMapVersion><HDRGainMap:HDRGainMapHeadroom>3.50</HDRGainMap:HDRGainMapHeadroom><apdi:NativeFormat>1278226488</apdi:NativeFormat><apdi:StoredFormat>SECRET</apdi:StoredFormat>";
    let map = gray(&[xmp(APPLE, &format!("{APPLE_MAP}{numbers}"))]);
    let note = b"Apple iOS\0\0\x01MM";
    let out = kept(
        &photo(&[apple_exif(*b"\0\0\x04\xb1\0\0\x03\xe8", note)], &[&map]),
        &map,
    );
    assert!(contains(
        &out,
        "<HDRGainMap:HDRGainMapHeadroom>3.5</HDRGainMap:HDRGainMapHeadroom><apdi:NativeFormat>1278226488</apdi:NativeFormat></rdf"
    ));
    let (headers, _) = walk(&out);
    let headroom = headers.headroom.unwrap();
    let exif_at = 4 + out.windows(4).position(|part| part == b"Exif").unwrap();
    let exif = &out[exif_at + 2..];
    assert_eq!(Headroom::find_in_exif(exif), Some(headroom));
    let directory = Directory::first(exif).unwrap().sub(0x8769).unwrap();
    assert_eq!(
        directory.undefined(0x927c).unwrap(),
        headroom.to_maker_note()
    );
    assert_eq!(headroom.to_maker_note().len(), 60);

    // A number is missing or divides by zero: the map stays, with the other parameters.
    for exif in [
        apple_exif(*b"\0\0\x04\xb1\0\0\0\0", note),
        apple_exif(*b"\0\0\x04\xb1\0\0\x03\xe8", b"Apple iOS\0\0\x01II"),
    ] {
        let file = photo(&[exif], &[&map]);
        assert!(found(&file).unwrap().headroom().is_none());
        kept(&file, &map);
    }
    // Other kinds of maps need no maker note.
    let other = gray(&[xmp(&format!("{GAIN_MAP} {PARAMETERS}"), "")]);
    let file = photo(&[apple_exif(*b"\0\0\x04\xb1\0\0\x03\xe8", note)], &[&other]);
    assert!(found(&file).unwrap().headroom().is_none());
}
