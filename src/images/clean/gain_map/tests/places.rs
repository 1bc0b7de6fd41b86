use super::*;

#[test]
fn a_map_without_an_index_is_found_by_its_directory() {
    let preview = jpeg(&[xmp("", "")], 3);
    let map = gray(&[xmp(&format!("{GAIN_MAP} {PARAMETERS}"), "")]);
    let items = directory(&[
        ("Primary", 0),
        ("Preview", preview.len()),
        ("GainMap", map.len()),
        ("MotionPhoto", 9),
    ]);
    let front = xmp(&format!("{GAIN_MAP} {CONTAINER} {VERSION}"), &items);
    let file = [
        jpeg(std::slice::from_ref(&front), 3),
        preview.clone(),
        map.clone(),
    ]
    .concat();
    let out = kept(&file, &map);
    assert!(contains(&out, "MPF\0"), "the missing index must be written");
    assert!(contains(
        &kept(&photo(&[front], &[&preview, &map]), &map),
        "MPF\0"
    ));
}

#[test]
fn a_map_right_behind_the_photograph_is_found_without_any_directory() {
    let map = gray(&[xmp(&format!("{GAIN_MAP} {PARAMETERS}"), "")]);
    let mut file = photo(&[xmp(&format!("{GAIN_MAP} {VERSION}"), "")], &[&map]);
    assert!(contains(&kept(&file, &map), "MPF\0"));
    // Its offset counts from a place that has moved.
    let base = file
        .windows(8)
        .position(|window| window == b"II*\0\x08\0\0\0")
        .unwrap();
    file[base + INDEX_HEAD_LEN + 16 + 8] ^= 0x15;
    kept(&file, &map);
    // Bytes stand between the two images.
    let (_, end) = walk(&file);
    let between = [&file[..end], b"\0\xff\0", &file[end..]].concat();
    assert_eq!(kept(&between, &map), kept(&file, &map));
}

#[test]
fn other_images_behind_a_photograph_are_not_gain_maps() {
    let version = xmp(&format!("{GAIN_MAP} {VERSION}"), "");
    let apple_depth = APPLE_MAP.replace("hdrgainmap", "depth");
    let complete = format!("{GAIN_MAP} {CONTAINER} {PARAMETERS}");
    for (what, front, image) in [
        ("a second view", vec![], jpeg(&[xmp("", "")], 3)),
        ("a preview in gray", vec![], gray(&[])),
        (
            "a photograph with a map of its own",
            vec![version.clone()],
            jpeg(
                &[xmp(
                    &complete,
                    &directory(&[("Primary", 0), ("GainMap", 9)]),
                )],
                3,
            ),
        ),
        (
            "a version in a map that nothing announces",
            vec![],
            gray(std::slice::from_ref(&version)),
        ),
        (
            "Apple's depth map",
            vec![],
            gray(&[xmp(
                APPLE,
                &format!(
                    "{apple_depth}<HDRGainMap:HDRGainMapVersion>65536</HDRGainMap:HDRGainMapVersion>"
                ),
            )]),
        ),
        (
            "Apple's map without a version",
            vec![],
            gray(&[xmp(APPLE, APPLE_MAP)]),
        ),
        (
            "another version",
            vec![version.clone()],
            gray(&[xmp(
                &format!(r#"{GAIN_MAP} hdrgm:Version="2.0" hdrgm:GainMapMax="1""#),
                "",
            )]),
        ),
        (
            "another namespace",
            vec![version.clone()],
            gray(&[xmp(
                r#"xmlns:hdrgm="SECRET" hdrgm:Version="1.0" hdrgm:GainMapMax="1""#,
                "",
            )]),
        ),
        (
            "a second view of what should have a map",
            vec![version.clone()],
            jpeg(&[], 3),
        ),
    ] {
        let file = photo(&front, &[&image]);
        assert!(found(&file).is_none(), "{what}");
        assert!(!contains(&cleaned(&file), "SECRET"));
    }
    let map = gray(&[xmp(&format!("{GAIN_MAP} {PARAMETERS}"), "")]);
    let unfinished = &map[..map.len() - 2];
    assert!(found(&photo(&[version], &[unfinished])).is_none());
}

#[test]
fn an_announced_gray_image_without_parameters_stays() {
    let map = gray(&[]);
    let file = photo(&[xmp(&format!("{GAIN_MAP} {VERSION}"), "")], &[&map]);
    let out = kept(&file, &map);
    assert!(!found(&out).unwrap().has_parameters());
    assert!(contains(&out, "MPF\0"));
    let with_secret = gray(&[xmp("", "")]);
    assert!(
        found(&photo(
            &[xmp(&format!("{GAIN_MAP} {VERSION}"), "")],
            &[&with_secret]
        ))
        .is_none()
    );
}

#[test]
fn an_image_inside_of_the_photograph_is_not_a_gain_map() {
    let map = gray(&[xmp(&format!("{GAIN_MAP} {PARAMETERS}"), "")]);
    let version = xmp(&format!("{GAIN_MAP} {VERSION}"), "");
    let base = index_base(std::slice::from_ref(&version));
    // The index points to a thumbnail in the segment that follows it.
    let thumbnail_at = base - 8 + index(&[(0, 0)]).len() + 4;
    let front = [
        version,
        index(&[(thumbnail_at - base, map.len())]),
        segment(0xef, &map),
    ];
    let file = jpeg(&front, 3);
    let thumbnail = Image::open(&file[thumbnail_at..]).unwrap();
    assert_eq!(thumbnail.whole(), Some(map.as_slice()));
    assert!(found(&file).is_none());
}

/// JFIF, Exif with orientation 6, and a profile, in another order than the cleaner writes.
fn picture_front() -> Vec<Vec<u8>> {
    let profile = [b"ICC_PROFILE\0\x01\x01".as_slice(), &sample()].concat();
    let exif = [b"Exif\0\0".as_slice(), &camera_exif(*b"MM", 6)].concat();
    vec![
        segment(0xe2, &profile),
        segment(0xfe, b"SECRET"),
        segment(0xe1, &exif),
        segment(0xe0, b"JFIF\0\x01\x02\x01\0\x48\0\x48\0\0"),
        segment(0xee, b"Adobe\0\x64\0\0\0\0\x01"),
    ]
}

#[test]
fn a_map_stays_with_all_segments_of_the_picture_in_front() {
    let map = gray(&[
        xmp(&format!("{GAIN_MAP} {PARAMETERS}"), ""),
        segment(0xfe, b"SECRET"),
    ]);
    let version = xmp(&format!("{GAIN_MAP} {VERSION}"), "");
    let front = [picture_front(), vec![version.clone()]].concat();
    let out = cleaned(&photo(&front, &[&map]));
    assert!(!contains(&out, "SECRET"));
    let codes = |file: &[u8]| -> Vec<u8> {
        let mut at = 2;
        let mut codes = Vec::new();
        while let Some(segment) = segments::Segment::read(file, at) {
            codes.push(segment.code);
            at = segment.end;
            if segment.code == 0xda {
                break;
            }
        }
        codes
    };
    // JFIF, Exif, XMP and the index, then the rest in its order.
    assert_eq!(
        codes(&out),
        [0xe0, 0xe1, 0xe1, 0xe2, 0xe2, 0xee, 0xdb, 0xc2, 0xda]
    );
    let first = clean(&out, Format::Jpeg).unwrap();
    assert!(first.removed.is_empty(), "the file must not change");
    assert!(first.is_turned());
    let (_, end) = walk(&out);
    assert_eq!(first.gain_map_at, Some(end));
    assert_eq!(found(&out).unwrap().place(), end..out.len());
    // The map may turn out to be damaged: then the photograph is stored without it.
    let base = clean_base(&out).unwrap();
    assert_eq!(base.gain_map_at, None);
    assert!(base.removed.has(Kind::Trailing) && base.removed.has(Kind::Pictures));
    let without = [picture_front(), vec![version]].concat();
    assert_eq!(base.bytes.to_vec(), {
        let alone = cleaned(&jpeg(&without, 3));
        // In a photograph with a map, JFIF and Exif come first.
        let mut ours = picture_front();
        ours.swap(0, 3);
        ours.swap(1, 2);
        ours.swap(2, 3);
        assert_ne!(alone, cleaned(&jpeg(&ours, 3)));
        cleaned(&jpeg(&ours, 3))
    });
}

#[test]
fn all_that_is_removed_beside_the_map_is_named() {
    let removed = |file: &[u8]| clean(file, Format::Jpeg).unwrap().removed.words();
    let map = gray(&[xmp(&format!("{GAIN_MAP} {PARAMETERS}"), "")]);
    let version = xmp(&format!("{GAIN_MAP} {VERSION}"), "");
    let out = cleaned(&photo(std::slice::from_ref(&version), &[&map]));
    assert!(removed(&out).is_empty());
    let followed = [&out[..], b"\0\0\0\x18ftypmp42"].concat();
    assert_eq!(removed(&followed), ["trailing"]);
    assert_eq!(cleaned(&followed), out);
    // Metadata in the image of the map are named too.
    let map = gray(&[
        xmp(&format!("{GAIN_MAP} {PARAMETERS}"), ""),
        segment(0xfe, b"SECRET"),
    ]);
    let words = removed(&photo(&[version], &[&map]));
    assert!(words.contains(&"comment"), "{words:?}");
    // Pictures that are not gain maps, with their index.
    let preview = jpeg(&[], 3);
    let previews = photo(&[], &[&preview]);
    assert_eq!(removed(&previews), ["pictures", "trailing"]);
    assert_eq!(cleaned(&previews), jpeg(&[], 3));
    assert!(
        clean(&previews, Format::Jpeg)
            .unwrap()
            .gain_map_at
            .is_none()
    );
}
