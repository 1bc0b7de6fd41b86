pub(in crate::images::clean) mod carriers;

use proptest::prelude::*;

use super::*;

type Tag = (&'static [u8; 4], Vec<u8>);

const D50: [u8; 12] = *b"\0\0\xf6\xd6\0\x01\0\0\0\0\xd3\x2d";

/// A profile of these tags in a row, aligned to four bytes, with private values in the header.
fn profile(tags: &[Tag]) -> Vec<u8> {
    let mut out = header_with_secrets();
    out.extend_from_slice(&u32::try_from(tags.len()).unwrap().to_be_bytes());
    let mut at = TABLE_AT + tags.len() * ENTRY_LEN;
    for (signature, data) in tags {
        at = at.next_multiple_of(4);
        out.extend_from_slice(&entry(**signature, at, data.len()));
        at += data.len();
    }
    for (_, data) in tags {
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend_from_slice(data);
    }
    out.resize(out.len().next_multiple_of(4), 0);
    with_size(out)
}

fn header_with_secrets() -> Vec<u8> {
    let mut header = vec![0xee; HEADER_LEN];
    header[8..24].copy_from_slice(b"\x02\x10\xee\xeemntrRGB XYZ ");
    header[36..40].copy_from_slice(b"acsp");
    header[64..68].copy_from_slice(b"\0\0\0\x01");
    header[68..80].copy_from_slice(&D50);
    header
}

fn with_size(mut profile: Vec<u8>) -> Vec<u8> {
    let len = u32::try_from(profile.len()).unwrap();
    profile[..4].copy_from_slice(&len.to_be_bytes());
    profile
}

fn entry(signature: [u8; 4], at: usize, len: usize) -> Vec<u8> {
    let [at, len] = [at, len].map(|number| u32::try_from(number).unwrap().to_be_bytes());
    [signature, at, len].concat()
}

/// A profile without private parts, for the tests of the formats that carry profiles.
pub(in crate::images::clean) fn sample() -> Vec<u8> {
    rewritten(&profile(&[
        (b"rXYZ", xyz(1)),
        (b"rTRC", curve(2)),
        (b"mmod", b"SECRET".to_vec()),
    ]))
}

fn rewritten(profile: &[u8]) -> Vec<u8> {
    let Profile::Rewritten(out) = clean_profile(profile) else {
        panic!("not rewritten: {:?}", clean_profile(profile));
    };
    assert!(out.len() <= profile.len());
    assert_eq!(clean_profile(&out), Profile::Unchanged);
    out
}

/// The signatures and the data of all tags.
fn tags(profile: &[u8]) -> Vec<([u8; 4], Vec<u8>)> {
    let count = u32_at(profile, HEADER_LEN).unwrap() as usize;
    let table = &profile[TABLE_AT..TABLE_AT + count * ENTRY_LEN];
    let tag = |entry: &[u8]| {
        let [at, len] = [4, 8].map(|field| u32_at(entry, field).unwrap() as usize);
        (
            *entry.first_chunk().unwrap(),
            profile[at..at + len].to_vec(),
        )
    };
    table.chunks(ENTRY_LEN).map(tag).collect()
}

fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret)
}

fn v2_description(text: &str) -> Vec<u8> {
    let mut tag = b"desc\0\0\0\0".to_vec();
    tag.extend_from_slice(&u32::try_from(text.len() + 1).unwrap().to_be_bytes());
    tag.extend_from_slice(text.as_bytes());
    tag.extend_from_slice(&[0; 1 + 78]);
    tag
}

fn multilingual(texts: &[&str]) -> Vec<u8> {
    let mut tag = b"mluc\0\0\0\0".to_vec();
    tag.extend_from_slice(&u32::try_from(texts.len()).unwrap().to_be_bytes());
    tag.extend_from_slice(b"\0\0\0\x0c");
    let mut at = 16 + texts.len() * 12;
    for text in texts {
        tag.extend_from_slice(&entry(*b"enUS", text.len() * 2, at));
        at += text.len() * 2;
    }
    tag.extend(
        texts
            .iter()
            .flat_map(|text| text.encode_utf16())
            .flat_map(u16::to_be_bytes),
    );
    tag
}

fn curve(gamma: u8) -> Vec<u8> {
    vec![b'c', b'u', b'r', b'v', 0, 0, 0, 0, 0, 0, 0, 1, gamma, 0]
}

fn xyz(value: u8) -> Vec<u8> {
    [b"XYZ \0\0\0\0".as_slice(), &[value; 12]].concat()
}

#[test]
fn colours_stay_bit_for_bit_and_everything_else_is_removed() {
    let secrets: [&'static [u8; 4]; 12] = [
        b"mmod", b"vcgt", b"ndin", b"meta", b"dscm", b"dmnd", b"dmdd", b"pseq", b"calt", b"targ",
        b"tech", b"zzzz",
    ];
    let mut all: Vec<Tag> = secrets
        .map(|name| (name, b"SECRET serial number".to_vec()))
        .into();
    let colours: Vec<Tag> = vec![
        (b"rXYZ", xyz(1)),
        (b"gXYZ", xyz(2)),
        (b"bXYZ", xyz(3)),
        (b"wtpt", xyz(4)),
        (b"rTRC", curve(2)),
        (b"cicp", b"cicp\0\0\0\0\x09\x10\0\x01".to_vec()),
        (b"A2B0", b"mft2 with a table".to_vec()),
        (b"chad", [b"sf32\0\0\0\0".as_slice(), &[7; 36]].concat()),
    ];
    for (place, tag) in colours.iter().enumerate() {
        all.insert(place * 2, tag.clone());
    }
    let out = rewritten(&profile(&all));

    assert!(!holds(&out, b"SECRET"));
    let expected: Vec<_> = colours
        .into_iter()
        .map(|(name, data)| (*name, data))
        .collect();
    assert_eq!(tags(&out), expected);
    for private in [4..8, 10..12, 24..36, 40..47, 48..63, 80..128] {
        assert!(out[private].iter().all(|byte| *byte == 0));
    }
    for (kept, value) in [
        (8..10, b"\x02\x10".as_slice()),
        (12..24, b"mntrRGB XYZ "),
        (64..68, b"\0\0\0\x01"),
    ] {
        assert_eq!(&out[kept], value);
    }
    // Of flags and attributes, the bits that the specification defines.
    assert_eq!((out[47], out[63]), (0x02, 0x0e));
}

#[test]
fn only_names_of_well_known_profiles_stay() {
    for (given, wanted) in [
        ("Display P3", "Display P3"),
        ("SECRET of Jane Doe", "Colour profile"),
    ] {
        for (description, text) in [
            (v2_description(given), wanted.as_bytes().to_vec()),
            (
                multilingual(&[given, "SECRET"]),
                wanted.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            ),
        ] {
            let copyright = b"text\0\0\0\0Copyright SECRET\0".to_vec();
            let out = rewritten(&profile(&[
                (b"desc", description),
                (b"cprt", copyright),
                (b"rTRC", curve(1)),
            ]));
            assert!(holds(&out, &text));
            assert!(!holds(&out, b"SECRET"));
            assert!(!holds(&out, b"S\0E\0C\0R\0E\0T"));
            let names: Vec<_> = tags(&out).into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, [*b"desc", *b"cprt", *b"rTRC"]);
        }
    }
    // Too short for any name, or a type that is not text.
    for broken in [
        b"text\0\0\0\0\0".to_vec(),
        b"sig SECRET".to_vec(),
        b"mluc".to_vec(),
    ] {
        let out = rewritten(&profile(&[(b"desc", broken), (b"rTRC", curve(1))]));
        assert_eq!(tags(&out), [(*b"rTRC", curve(1))]);
    }
}

#[test]
fn shared_and_overlapping_data_stays_shared() {
    let mut shared = header_with_secrets();
    shared.extend_from_slice(b"\0\0\0\x06");
    let at = TABLE_AT + 6 * ENTRY_LEN;
    shared.extend_from_slice(&entry(*b"mmod", at, 32));
    for (name, from, len) in [
        (b"rTRC", 32, 14),
        (b"gTRC", 32, 14),
        (b"bTRC", 36, 14),
        (b"desc", 40, 8),
        (b"kTRC", 52, 12),
    ] {
        shared.extend_from_slice(&entry(*name, at + from, len));
    }
    shared.extend((0..64).map(|number| number + 100));
    let shared = with_size(shared);
    let out = rewritten(&shared);

    let data = |from: usize, len: usize| shared[at + from..at + from + len].to_vec();
    // The description shares its bytes with curves. It can't be replaced, so it is removed.
    let expected = [
        (*b"rTRC", data(32, 14)),
        (*b"gTRC", data(32, 14)),
        (*b"bTRC", data(36, 14)),
        (*b"kTRC", data(52, 12)),
    ];
    assert_eq!(tags(&out), expected);
    assert_eq!(out.len(), TABLE_AT + 4 * ENTRY_LEN + 20 + 12);
}

#[test]
fn bytes_behind_the_numbers_of_a_tag_are_removed() {
    let parametric = |kind: u8, count: usize| {
        [
            b"para\0\0\0\0\0".as_slice(),
            &[kind, 0, 0],
            &vec![1; count * 4],
        ]
        .concat()
    };
    let whole: Vec<Tag> = vec![
        (b"rXYZ", xyz(1)),
        (b"rTRC", curve(2)),
        (
            b"gTRC",
            [b"curv\0\0\0\0\0\0\0\x03".as_slice(), &[9; 6]].concat(),
        ),
        (b"bTRC", parametric(0, 1)),
        (b"kTRC", parametric(1, 3)),
        (b"A2B0", parametric(2, 4)),
        (b"A2B1", parametric(3, 5)),
        (b"A2B2", parametric(4, 7)),
        (b"chad", [b"sf32\0\0\0\0".as_slice(), &[7; 36]].concat()),
        (b"cicp", b"cicp\0\0\0\0\x09\x10\0\x01".to_vec()),
    ];
    let longer: Vec<Tag> = whole
        .iter()
        .map(|(name, data)| (*name, [data.as_slice(), b"SECRET"].concat()))
        .collect();
    let expected: Vec<_> = whole
        .into_iter()
        .map(|(name, data)| (*name, data))
        .collect();
    assert_eq!(tags(&rewritten(&profile(&longer))), expected);
    // A tag that is shorter than its numbers stays, as do types of variable length.
    let odd: Vec<Tag> = vec![
        (b"rTRC", b"curv\0\0\0\0\xff\xff\xff\xff1".to_vec()),
        (b"gTRC", b"para\0\0\0\0\0\x09".to_vec()),
        (b"rXYZ", b"XYZ \0\0".to_vec()),
        (b"A2B0", b"mAB  and its tables".to_vec()),
    ];
    let expected: Vec<_> = odd
        .iter()
        .map(|(name, data)| (**name, data.clone()))
        .collect();
    assert_eq!(tags(&rewritten(&profile(&odd))), expected);
}

#[test]
fn two_texts_in_one_place_stay_shared() {
    let text = b"text\0\0\0\0Copyright SECRET\0";
    let at = TABLE_AT + 2 * ENTRY_LEN;
    let mut shared = header_with_secrets();
    shared.extend_from_slice(b"\0\0\0\x02");
    shared.extend_from_slice(&entry(*b"desc", at, text.len()));
    shared.extend_from_slice(&entry(*b"cprt", at, text.len()));
    shared.extend_from_slice(text);
    let out = rewritten(&with_size(shared));
    let wanted = b"text\0\0\0\0Colour profile\0".to_vec();
    assert_eq!(tags(&out), [(*b"desc", wanted.clone()), (*b"cprt", wanted)]);
    assert!(!holds(&out, b"SECRET"));
}

#[test]
fn bytes_that_belong_to_no_tag_are_removed() {
    let mut gap = header_with_secrets();
    gap.extend_from_slice(b"\0\0\0\x01");
    gap.extend_from_slice(&entry(*b"rTRC", TABLE_AT + ENTRY_LEN + 30, 14));
    gap.extend_from_slice(b"SECRET in front of the tag....");
    gap.extend_from_slice(&curve(5));
    gap.extend_from_slice(b"SECRET");
    let mut gap = with_size(gap);
    gap.extend_from_slice(b"SECRET behind the declared end");
    let out = rewritten(&gap);
    assert!(!holds(&out, b"SECRET"));
    assert_eq!(tags(&out), [(*b"rTRC", curve(5))]);
}

#[test]
fn a_profile_that_chromium_ignores_is_invalid() {
    let good = profile(&[(b"rTRC", curve(1)), (b"zzzz", b"SECRET".to_vec())]);
    rewritten(&good);
    let changed = |at: usize, bytes: &[u8]| {
        let mut profile = good.clone();
        profile[at..at + bytes.len()].copy_from_slice(bytes);
        profile
    };
    let second_entry = TABLE_AT + ENTRY_LEN;
    for (what, broken) in [
        ("signature", changed(36, b"acsq")),
        ("version", changed(8, b"\x05")),
        ("connection space", changed(20, b"RGB ")),
        ("illuminant", changed(68, b"\0\0\xf3\x51")),
        ("longer than the bytes", changed(0, b"\0\0\x10\0")),
        ("more tags than fit", changed(HEADER_LEN, b"\0\0\x10\0")),
        (
            "tag count that overflows",
            changed(HEADER_LEN, b"\xff\xff\xff\xff"),
        ),
        (
            "offset of a removed tag",
            changed(second_entry + 4, b"\0\0\x10\0"),
        ),
        (
            "length of a removed tag",
            changed(second_entry + 8, b"\0\0\0\x03"),
        ),
        (
            "end that overflows",
            changed(second_entry + 8, b"\xff\xff\xff\xff"),
        ),
        ("empty", Vec::new()),
        ("header alone", good[..HEADER_LEN].to_vec()),
    ] {
        assert_eq!(clean_profile(&broken), Profile::Invalid, "{what}");
    }
    // Just inside of the tolerance for D50.
    rewritten(&changed(68, b"\0\0\xf4\x47"));
}

#[test]
fn a_profile_with_very_many_tags_keeps_its_colours() {
    let mut all: Vec<Tag> = vec![(b"zzzz", vec![1; 4]); 150];
    all.push((b"rTRC", curve(3)));
    assert_eq!(tags(&rewritten(&profile(&all))), [(*b"rTRC", curve(3))]);
}

#[test]
fn readers_take_the_first_of_two_equal_tags() {
    let twice = profile(&[(b"rTRC", curve(1)), (b"rTRC", curve(2))]);
    assert_eq!(tags(&rewritten(&twice)), [(*b"rTRC", curve(1))]);
}

fn signature() -> impl Strategy<Value = [u8; 4]> {
    let names = [
        *b"rTRC", *b"gTRC", *b"A2B0", *b"wtpt", *b"desc", *b"cprt", *b"mmod", *b"cicp",
    ];
    prop_oneof![prop::sample::select(names.to_vec()), any::<[u8; 4]>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_table_of_tags_is_cleaned_in_one_pass(
        entries in prop::collection::vec((signature(), 100_u32..400, 0_u32..80), 0..12),
        mut data in prop::collection::vec(any::<u8>(), 0..260),
        texts in prop::collection::vec((0_usize..250, prop::sample::select(vec![b"desc", b"text", b"mluc", b"curv", b"para", b"XYZ "])), 0..6),
        flipped in prop::option::of((0_usize..300, any::<u8>())),
    ) {
        for (at, kind) in texts {
            if let Some(place) = data.get_mut(at..at + 4) {
                place.copy_from_slice(kind);
            }
        }
        let mut bytes = header_with_secrets();
        bytes.extend_from_slice(&u32::try_from(entries.len()).unwrap().to_be_bytes());
        for (signature, at, len) in entries {
            bytes.extend_from_slice(&entry(signature, at as usize, len as usize));
        }
        bytes.extend_from_slice(&data);
        let mut bytes = with_size(bytes);
        if let Some((at, value)) = flipped && let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        if let Profile::Rewritten(out) = clean_profile(&bytes) {
            prop_assert!(out.len() <= bytes.len());
            prop_assert_eq!(clean_profile(&out), Profile::Unchanged);
        }
    }
}
