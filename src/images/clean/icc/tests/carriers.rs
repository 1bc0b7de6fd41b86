//! Profiles in JPEG segments and PNG chunks. The cases were compared with Chromium.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::super::jpeg::clean_segments;
use super::super::png::{Chunk, MAX_GROWTH, clean_chunk};
use super::*;

const LIMIT: usize = 1 << 20;

fn part(number: u8, count: u8, bytes: &[u8]) -> Vec<u8> {
    [b"ICC_PROFILE\0".as_slice(), &[number, count], bytes].concat()
}

fn segments(bodies: &[Vec<u8>]) -> Vec<u8> {
    clean_segments(bodies.iter().map(Vec::as_slice))
}

/// A profile with a secret, and its clean form.
fn given_and_clean() -> (Vec<u8>, Vec<u8>) {
    let given = profile(&[(b"rTRC", curve(2)), (b"mmod", b"SECRET".to_vec())]);
    let clean = rewritten(&given);
    (given, clean)
}

fn segment_of(profile: &[u8]) -> Vec<u8> {
    let body = part(1, 1, profile);
    let len = u16::try_from(body.len() + 2).unwrap().to_be_bytes();
    [[0xff, 0xe2].as_slice(), &len, &body].concat()
}

#[test]
fn parts_are_joined_in_order_and_later_parts_are_ignored() {
    let (given, clean) = given_and_clean();
    let (first, second) = given.split_at(150);
    for bodies in [
        vec![part(1, 1, &given)],
        vec![
            b"MPF\0".to_vec(),
            part(1, 2, first),
            b"ICC_PROFILE\0".to_vec(),
            part(2, 2, second),
        ],
        vec![part(2, 2, second), part(1, 2, first)],
        vec![part(1, 2, first), part(2, 2, second), part(1, 2, first)],
        vec![part(1, 2, first), part(2, 2, second), part(3, 3, b"SECRET")],
        vec![part(1, 1, b""), part(1, 1, &given)],
        vec![
            part(1, 1, &given),
            part(1, 1, &profile(&[(b"rTRC", curve(9))])),
        ],
    ] {
        assert_eq!(segments(&bodies), segment_of(&clean));
    }
    assert_eq!(segments(&[part(1, 1, &clean)]), segment_of(&clean));
}

#[test]
fn missing_or_contradicting_parts_are_not_a_profile() {
    let (given, _) = given_and_clean();
    let (first, second) = given.split_at(150);
    for bodies in [
        vec![],
        vec![part(1, 2, &given)],
        vec![part(1, 2, first), part(1, 2, first), part(2, 2, second)],
        vec![part(1, 2, first), part(2, 3, second)],
        vec![part(1, 0, &given)],
        vec![part(0, 1, &given)],
        vec![part(2, 1, &given)],
        vec![part(1, 2, &given), part(2, 2, b"")],
        vec![part(1, 1, b"no profile")],
    ] {
        assert_eq!(segments(&bodies), b"");
    }
}

#[test]
fn a_long_profile_is_split_into_as_few_segments_as_possible() {
    let long = profile(&[(b"A2B0", vec![7; 200_000]), (b"mmod", b"SECRET".to_vec())]);
    let bodies: Vec<Vec<u8>> = (1..=101)
        .zip(long.chunks(2000))
        .map(|(number, bytes)| part(number, 101, bytes))
        .collect();
    let out = segments(&bodies);
    let mut again = Vec::new();
    let mut rest = out.as_slice();
    while let Some((head, behind)) = rest.split_at_checked(4) {
        let len = usize::from(u16::from_be_bytes([head[2], head[3]])) - 2;
        again.push(behind[..len].to_vec());
        rest = &behind[len..];
    }
    assert_eq!(
        again.iter().map(Vec::len).collect::<Vec<_>>()[..3],
        [0xfffd; 3]
    );
    assert_eq!(again.len(), 4);
    assert_eq!(segments(&again), out);
    assert!(!holds(&out, b"SECRET"));
}

/// The body of an `iCCP` chunk.
pub(in crate::images::clean) fn chunk_body(name: &str, profile: &[u8]) -> Vec<u8> {
    chunk(name, &compressed(profile))
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn chunk(name: &str, compressed: &[u8]) -> Vec<u8> {
    [name.as_bytes(), b"\0\0", compressed].concat()
}

#[test]
fn cleaning_a_clean_chunk_changes_nothing() {
    let (given, clean) = given_and_clean();
    let Chunk::Rewritten(out) = clean_chunk(&chunk("SECRET display", &compressed(&given)), LIMIT)
    else {
        panic!("not rewritten");
    };
    assert_eq!(clean_chunk(&out, LIMIT), Chunk::Unchanged);
    assert!(out.starts_with(b"icc\0\0"));
    // Compressed bytes of a clean profile are copied.
    let clean = compressed(&clean);
    for (name, wanted) in [
        ("Display P3", "Display P3"),
        ("ICC Profile", "ICC Profile"),
        ("SECRET", "icc"),
        ("x", "i"),
        (&"n".repeat(80), "icc"),
    ] {
        for tail in [b"".as_slice(), b"SECRET behind the compressed bytes"] {
            let body = [chunk(name, &clean).as_slice(), tail].concat();
            let wanted_body = chunk(wanted, &clean);
            let expected = if body == wanted_body {
                Chunk::Unchanged
            } else {
                Chunk::Rewritten(wanted_body)
            };
            assert_eq!(clean_chunk(&body, LIMIT), expected);
        }
    }
}

#[test]
fn a_chunk_that_chromium_ignores_is_removed() {
    let (given, _) = given_and_clean();
    let good = compressed(&given);
    let mut wrong_sum = good.clone();
    *wrong_sum.last_mut().unwrap() ^= 1;
    for (what, body) in [
        ("checksum", chunk("x", &wrong_sum)),
        ("no checksum", chunk("x", &good[..good.len() - 4])),
        ("cut off", chunk("x", &good[..good.len() / 2])),
        ("nothing compressed", chunk("x", b"")),
        (
            "shorter than it says",
            chunk("x", &compressed(&given[..given.len() - 4])),
        ),
        ("no name", chunk("", &good)),
        ("long name", chunk(&"n".repeat(81), &good)),
        ("other method", [b"x\0\x01".as_slice(), &good].concat()),
        ("no end of the name", b"x".to_vec()),
        ("empty", Vec::new()),
    ] {
        assert_eq!(clean_chunk(&body, LIMIT), Chunk::Invalid, "{what}");
    }
    // A profile of exactly the limit, and one that is a byte longer.
    let body = chunk("x", &good);
    assert!(matches!(
        clean_chunk(&body, given.len()),
        Chunk::Rewritten(_)
    ));
    assert_eq!(clean_chunk(&body, given.len() - 1), Chunk::Invalid);
    assert_eq!(
        clean_chunk(&chunk("x", &compressed(&vec![0; 50 << 20])), LIMIT),
        Chunk::Invalid
    );
}

/// Pseudo-random bytes.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// A zlib stream of bytes that repeat the data 32,768 bytes before, from `start` on, `matches`
/// times 258 bytes. The encoders of zlib do not search that far back.
fn with_far_matches(bytes: &[u8], start: usize, matches: usize) -> Vec<u8> {
    let stored = |last: u8, part: &[u8]| {
        let len = u16::try_from(part.len()).unwrap();
        [&[last][..], &len.to_le_bytes(), &(!len).to_le_bytes(), part].concat()
    };
    // A block of fixed codes: length 258, distance 24,577 and 8,191; then its end, and an empty
    // stored block.
    let far = ["11000101", "11101", "1111111111111"].concat();
    let bits = ["010", &far.repeat(matches), "0000000", "000"].concat();
    let fixed = bits.as_bytes().chunks(8).map(|byte| {
        let bit = |(place, bit): (usize, &u8)| (bit - b'0') << place;
        byte.iter().enumerate().map(bit).sum::<u8>()
    });
    let (low, high) = bytes.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    [
        &b"\x78\x01"[..],
        &stored(0, &bytes[..start]),
        &fixed.collect::<Vec<_>>(),
        &stored(0, b"")[1..],
        &stored(1, &bytes[start + 258 * matches..]),
        &(high << 16 | low).to_be_bytes(),
    ]
    .concat()
}

#[test]
fn a_chunk_shorter_than_any_encoder_writes_is_removed() {
    for (matches, stays) in [(100, true), (200, true), (300, false)] {
        let block = noise(32_768);
        let data: Vec<u8> = block
            .iter()
            .copied()
            .cycle()
            .take(32_768 + 258 * matches)
            .collect();
        let given = profile(&[(b"A2B0", data), (b"mmod", b"SECRET".to_vec())]);
        let start = TABLE_AT + 2 * ENTRY_LEN + 32_768;
        let body = chunk("icc", &with_far_matches(&given, start, matches));
        match clean_chunk(&body, LIMIT) {
            Chunk::Rewritten(out) => {
                assert!(stays, "{} bytes longer", out.len() - body.len());
                assert!(out.len() > body.len() && out.len() <= body.len() + MAX_GROWTH);
            }
            other => assert_eq!((other, stays), (Chunk::Invalid, false)),
        }
    }
}
