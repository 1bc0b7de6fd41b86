//! Tests each rule with a JPEG of a few blocks, built bit by bit, that just keeps it or just breaks
//! it.

use std::time::{Duration, Instant};

use super::{Decoded, Fault, Limits, MAX_SCANS, Reason, decode, standard_tables};

/// A table of these symbols with the codes `0`, `10`, `110` … in order.
fn table(class_and_slot: u8, symbols: &[u8]) -> Vec<u8> {
    let mut counts = [0; 16];
    counts[..symbols.len()].fill(1);
    segment(0xc4, &[&[class_and_slot][..], &counts, symbols].concat())
}

fn segment(code: u8, contents: &[u8]) -> Vec<u8> {
    let length = u16::try_from(contents.len() + 2).unwrap().to_be_bytes();
    [&[0xff, code][..], &length, contents].concat()
}

fn quantization() -> Vec<u8> {
    segment(0xdb, &[&[0][..], &[1; 64]].concat())
}

/// A frame header with components 1, 2 … of these sampling factors (`0x21`: 2x1).
fn frame(code: u8, width: u16, height: u16, sampling: &[u8]) -> Vec<u8> {
    let mut contents = vec![8];
    contents.extend(height.to_be_bytes());
    contents.extend(width.to_be_bytes());
    contents.push(u8::try_from(sampling.len()).unwrap());
    for (id, &factors) in (1..).zip(sampling) {
        contents.extend([id, factors, 0]);
    }
    segment(code, &contents)
}

/// The header of a scan (tables 0) and its bits, filled up with ones and escaped.
fn scan(components: &[u8], band: [u8; 3], bits: &str) -> Vec<u8> {
    let mut contents = vec![u8::try_from(components.len()).unwrap()];
    contents.extend(components.iter().flat_map(|&id| [id, 0]));
    contents.extend(band);
    [segment(0xda, &contents), data(bits)].concat()
}

fn data(bits: &str) -> Vec<u8> {
    let bits: Vec<char> = bits.chars().filter(|bit| *bit != ' ').collect();
    let byte = |bits: &[char]| {
        (0..8).fold(0, |byte, at| {
            byte << 1 | u8::from(bits.get(at) != Some(&'0'))
        })
    };
    bits.chunks(8)
        .map(byte)
        .flat_map(|byte| {
            if byte == 0xff {
                vec![0xff, 0]
            } else {
                vec![byte]
            }
        })
        .collect()
}

/// An image of these parts behind its quantization table, with its end.
fn image(parts: &[Vec<u8>]) -> Vec<u8> {
    [
        vec![0xff, 0xd8],
        quantization(),
        parts.concat(),
        vec![0xff, 0xd9],
    ]
    .concat()
}

/// DC: `0` no difference, `10` one bit. AC: `0` end of block, `10` a coefficient of one bit, `110`
/// 16 zeros, `1110` an end of two or three blocks (progressive).
fn tables() -> Vec<u8> {
    [table(0x00, &[0, 1]), table(0x10, &[0x00, 0x01, 0xf0, 0x10])].concat()
}

const ALL: [u8; 3] = [0, 63, 0];

/// A gray image of `blocks` blocks in a row.
fn gray(blocks: u16, bits: &str) -> Vec<u8> {
    image(&[
        frame(0xc0, blocks * 8, 8, &[0x11]),
        tables(),
        scan(&[1], ALL, bits),
    ])
}

fn progressive(blocks: u16, scans: &[Vec<u8>]) -> Vec<u8> {
    image(&[
        frame(0xc2, blocks * 8, 8, &[0x11]),
        tables(),
        scans.concat(),
    ])
}

fn read(image: &[u8]) -> Result<Decoded, Fault> {
    decode(image, &Limits::default())
}

fn reason(image: &[u8]) -> Reason {
    read(image).expect_err("refused").reason
}

#[test]
fn a_sequential_image_is_read_to_its_last_bit() {
    let image = gray(3, "101 0  100 10 1 0  0 0");
    let decoded = read(&image).expect("sound");
    assert_eq!(
        (
            decoded.warnings,
            decoded.missing,
            decoded.total,
            decoded.scans
        ),
        (0, 0, 3, 1)
    );
    assert_eq!(decoded.end, image.len() - 2);
    assert_eq!(decoded.end_of_image, Some(image.len() - 2));
    assert_eq!(
        decoded
            .segments
            .iter()
            .map(|segment| segment.code)
            .collect::<Vec<_>>(),
        [0xdb, 0xc0, 0xc4, 0xc4, 0xda]
    );
}

#[test]
fn the_end_of_data_is_found_without_an_end_marker() {
    let whole = gray(5, "00 00 00 00 10 1 0");
    for tail in [&[][..], &[0; 9], &[0xff], &[0xff, 0x00, 0x12]] {
        let image = [&whole[..whole.len() - 2], tail].concat();
        let decoded = read(&image).expect("complete");
        assert_eq!((decoded.end, decoded.end_of_image), (whole.len() - 2, None));
    }
    let cut = &whole[..whole.len() - 3];
    assert_eq!(reason(cut), Reason::Truncated(4, 5));
}

#[test]
fn an_image_with_bytes_outside_of_segments_is_rewritten() {
    let whole = gray(1, "00");
    let cut = whole.strip_suffix(b"\xff\xd9").unwrap().to_vec();
    let place = 2 + quantization().len();
    let stray = [&whole[..place], b"stray", &whole[place..]].concat();
    for (image, is_written) in [
        (whole.clone(), true),
        (cut, false),
        (stray, false),
        ([whole.as_slice(), b"more"].concat(), false),
    ] {
        let decoded = read(&image).unwrap();
        let written = decoded.written(&image);
        assert_eq!(written.is_none(), is_written, "{image:02x?}");
        assert_eq!(written.unwrap_or(image), whole);
    }
}

/// Only the second scan shows that names count; decoders need only the first.
#[test]
fn an_image_whose_later_scan_is_dropped_is_cleaned_again() {
    let mut header = frame(0xc0, 8, 8, &[0x11; 3]);
    for id in [10, 13, 16] {
        header[id] = 1;
    }
    let bytes = image(&[
        header,
        tables(),
        scan(&[1; 3], ALL, "00 00 00"),
        scan(&[1], ALL, "00"),
    ]);
    let stored = |bytes: &[u8]| {
        let limits = crate::images::format::PixelLimits::default();
        let examined = crate::images::examine(bytes, crate::images::Metadata::Remove, limits);
        examined.unwrap().changed.map(|changed| changed.to_vec())
    };
    let new = stored(&bytes).unwrap();
    let named = image(&[
        frame(0xc0, 8, 8, &[0x11; 3]),
        tables(),
        scan(&[1, 2, 3], ALL, "00 00 00"),
    ]);
    assert_eq!(new, named);
    assert_eq!(stored(&new), None);
}

#[test]
fn the_header_of_a_scan_without_data_is_kept_whole() {
    let image = image(&[
        frame(0xc0, 8, 8, &[0x11]),
        tables(),
        scan(&[1], [0xff; 3], ""),
    ]);
    let decoded = read(&image).unwrap();
    assert_eq!((decoded.missing, decoded.end), (1, image.len() - 2));
    assert_eq!(decoded.written(&image), None);
}

#[test]
fn data_that_a_marker_cuts_short_is_counted() {
    let decoded = read(&gray(9, "00 00 00 00")).expect("viewers show it");
    assert_eq!((decoded.warnings, decoded.missing), (1, 5));
}

#[test]
fn escaped_and_repeated_ff_bytes_are_one_byte_of_data() {
    let bits = "101 10 1 10 1 10 1 0".to_owned() + &" 101 10 1 10 1 10 1 0".repeat(2);
    let plain = gray(3, &bits);
    assert_eq!(read(&plain).expect("sound").warnings, 0);
    let stuffed = image(&[
        frame(0xc0, 16, 8, &[0x11]),
        table(0x00, &[0, 1]),
        segment(
            0xc4,
            &[
                &[0x10][..],
                &[0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
                &[0x0f, 0x00],
            ]
            .concat(),
        ),
        scan(&[1], ALL, ""),
        // DC 0; AC code 00 with 15 bits of value; the end as 010000000.
        data("0 00 111111111111111 010000000  0 010000000"),
    ]);
    let decoded = read(&stuffed).expect("sound");
    assert_eq!((decoded.warnings, decoded.missing), (0, 0));
    let mut padded = stuffed.clone();
    let ff = stuffed
        .windows(2)
        .rposition(|pair| pair == [0xff, 0x00])
        .expect("an escaped byte");
    padded.insert(ff, 0xff);
    let decoded = read(&padded).expect("sound");
    assert_eq!((decoded.warnings, decoded.missing), (0, 0));
}

#[test]
fn long_and_impossible_codes_are_read_as_in_libjpeg() {
    let symbols: Vec<u8> = (0..15).map(|symbol| u8::from(symbol != 14)).collect();
    let build = |bits: &str| {
        let tables = [table(0x00, &[0, 1]), table(0x10, &symbols)].concat();
        image(&[frame(0xc0, 16, 8, &[0x11]), tables, scan(&[1], ALL, bits)])
    };
    let end = "111111111111110";
    let decoded = read(&build(&format!("0 {end} 0 01 {end}"))).expect("sound");
    assert_eq!((decoded.warnings, decoded.missing), (0, 0));
    // libjpeg consumes 17 bits of an impossible code, and ends the block.
    let decoded = read(&build(&format!("0 {} 0 {end}", "1".repeat(17)))).expect("viewers show it");
    assert_eq!((decoded.warnings, decoded.missing), (1, 0));
}

#[test]
fn restart_markers_follow_libjpegs_rules() {
    let build = |parts: &[&[u8]]| {
        let interval = segment(0xdd, &[0, 1]);
        let mut all = vec![
            frame(0xc0, 32, 8, &[0x11]),
            tables(),
            interval,
            scan(&[1], ALL, ""),
        ];
        all.extend(parts.iter().map(|part| part.to_vec()));
        read(&image(&all)).map(|decoded| (decoded.warnings, decoded.missing))
    };
    let block = [0b0011_1111];
    let [r0, r1, r2, r5] = [0xd0, 0xd1, 0xd2, 0xd5].map(|code| [0xff, code]);
    assert_eq!(
        build(&[&block, &r0, &block, &r1, &block, &r2, &block]),
        Ok((0, 0))
    );
    // A lost marker: the interval behind it is empty, then the markers are in sequence again.
    assert_eq!(build(&[&block, &r1, &block, &r2, &block]), Ok((2, 1)));
    // Too far away: taken for the expected one.
    assert_eq!(
        build(&[&block, &r5, &block, &r1, &block, &r2, &block]),
        Ok((1, 0))
    );
    // An earlier marker is skipped.
    assert_eq!(
        build(&[&block, &r0, &block, &r0, &block, &r1, &block, &r2, &block]),
        Ok((2, 0))
    );
    // No further markers: the rest is missing, and libjpeg warns at each restart.
    assert_eq!(build(&[&block]), Ok((3, 3)));
}

#[test]
fn a_restart_marker_without_an_interval_ends_the_data() {
    let mut image = gray(4, "00 00 00 00");
    let at = image.len() - 2;
    image.splice(at..at, [0xff, 0xd0, 0x00]);
    assert_eq!(
        read(&image).expect("sound").end_of_image,
        Some(image.len() - 2)
    );
    image[at - 1..at + 2].copy_from_slice(&[0xff, 0xd0, 0x00]);
    assert_eq!(read(&image).expect("viewers show it").missing, 4);
}

#[test]
fn tables_must_be_defined_and_valid() {
    let build =
        |tables: Vec<u8>, code| image(&[frame(code, 8, 8, &[0x11]), tables, scan(&[1], ALL, "00")]);
    assert_eq!(
        reason(&build(Vec::new(), 0xc2)),
        Reason::Progression([0, 63, 0, 0])
    );
    let dc_scan = scan(&[1], [0, 0, 0], "0");
    let without = image(&[frame(0xc2, 8, 8, &[0x11]), dc_scan]);
    assert_eq!(reason(&without), Reason::NoHuffman(true, 0));
    // Sequential images use the standard tables if they have none. The cleaned file must define
    // them.
    let motion = |tables| {
        image(&[
            frame(0xc0, 8, 8, &[0x11]),
            tables,
            scan(&[1], ALL, "00 1010"),
        ])
    };
    let decoded = read(&motion(Vec::new())).expect("motion JPEG");
    assert_eq!(
        (decoded.warnings, &decoded.standard_tables[..]),
        (0, &[(false, 0), (true, 0)][..])
    );
    let decoded = read(&motion(standard_tables(&decoded.standard_tables))).expect("sound");
    assert_eq!((decoded.warnings, decoded.standard_tables), (0, Vec::new()));
    // Two codes of one bit would use the code of ones alone.
    let counts = |first| [&[0x00, first][..], &[0; 15], &[0, 1][..usize::from(first)]].concat();
    let ac = table(0x10, &[0]);
    assert!(
        read(&build(
            [segment(0xc4, &counts(1)), ac.clone()].concat(),
            0xc0
        ))
        .is_ok()
    );
    assert_eq!(
        reason(&build([segment(0xc4, &counts(2)), ac].concat(), 0xc0)),
        Reason::Huffman
    );
    let dc = |symbol| {
        build(
            [table(0x00, &[0, symbol]), table(0x10, &[0])].concat(),
            0xc0,
        )
    };
    assert!(read(&dc(15)).is_ok());
    assert_eq!(reason(&dc(16)), Reason::Huffman);
    assert!(read(&build(table(0x13, &[0]), 0xc0)).is_ok());
    assert_eq!(
        reason(&build(table(0x14, &[0]), 0xc0)),
        Reason::HuffmanSlot(4)
    );
    let unquantized = [
        vec![0xff, 0xd8],
        frame(0xc0, 8, 8, &[0x11]),
        scan(&[1], ALL, "00"),
    ]
    .concat();
    assert_eq!(reason(&unquantized), Reason::NoQuantization(0));
}

#[test]
fn scans_name_components_in_the_frames_order() {
    let build = |components: &[u8]| {
        image(&[
            frame(0xc0, 8, 8, &[0x11; 3]),
            tables(),
            scan(components, ALL, "00 00 00"),
        ])
    };
    assert!(read(&build(&[1, 2, 3])).is_ok());
    assert_eq!(reason(&build(&[2, 1, 3])), Reason::ScanComponent(1));
    assert_eq!(reason(&build(&[1, 2, 2])), Reason::ScanComponent(2));
    assert_eq!(reason(&build(&[1, 2, 4])), Reason::ScanComponent(4));
    // Three components with one id.
    let mut same = build(&[1, 1, 1]);
    let at = same
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0])
        .unwrap();
    (same[at + 13], same[at + 16]) = (1, 1);
    assert!(read(&same).is_ok());
}

#[test]
fn frames_have_the_limits_of_viewers() {
    let build = |sampling: &[u8], bits: &str| {
        let ids: Vec<u8> = (1..).take(sampling.len()).collect();
        image(&[frame(0xc0, 8, 8, sampling), tables(), scan(&ids, ALL, bits)])
    };
    let blocks = |count| "00".repeat(count);
    assert!(read(&build(&[0x22, 0x11, 0x11], &blocks(6))).is_ok());
    assert!(read(&build(&[0x42, 0x11, 0x11], &blocks(10))).is_ok());
    assert_eq!(
        reason(&build(&[0x42, 0x21, 0x11], &blocks(11))),
        Reason::McuSize
    );
    assert_eq!(
        reason(&build(&[0x31, 0x21, 0x11], &blocks(6))),
        Reason::FractionalSampling
    );
    assert_eq!(reason(&build(&[0x51], &blocks(1))), Reason::Sampling(5, 1));
    assert_eq!(reason(&build(&[0x10], &blocks(1))), Reason::Sampling(1, 0));
    assert_eq!(
        reason(&build(&[0x11, 0x11], &blocks(2))),
        Reason::Components(2)
    );
    assert!(read(&build(&[0x11; 4], &blocks(4))).is_ok());
    let sized = |width| {
        image(&[
            frame(0xc0, width, 8, &[0x11]),
            tables(),
            scan(&[1], ALL, &blocks(8188)),
        ])
    };
    assert_eq!(read(&sized(65_500)).expect("sound").missing, 0);
    assert_eq!(reason(&sized(65_501)), Reason::Size(65_501, 8));
    assert_eq!(reason(&sized(0)), Reason::Size(0, 8));
    let limits = Limits {
        max_pixels: Some(63),
        ..Limits::default()
    };
    assert_eq!(
        decode(&gray(1, "00"), &limits)
            .expect_err("too large")
            .reason,
        Reason::Size(8, 8)
    );
}

#[test]
fn contradicting_progressive_parameters_are_refused() {
    let dc = scan(&[1], [0, 0, 0], "0");
    let build = |band: [u8; 3]| progressive(1, &[dc.clone(), scan(&[1], band, "0")]);
    for band in [
        [1, 63, 0],
        [1, 1, 13],
        [63, 63, 0],
        [1, 63, 0x10],
        [5, 9, 0xdc],
        [0, 0, 0x10],
    ] {
        assert!(read(&build(band)).is_ok(), "{band:?}");
    }
    for [ss, se, approximation] in [
        [0, 1, 0],
        [2, 1, 0],
        [1, 64, 0],
        [1, 63, 14],
        [1, 63, 0x20],
        [1, 63, 0x11],
    ] {
        let [ah, al] = [approximation >> 4, approximation & 15];
        assert_eq!(
            reason(&build([ss, se, approximation])),
            Reason::Progression([ss, se, ah, al])
        );
    }
    // An AC scan has one component.
    let two = [
        frame(0xc2, 8, 8, &[0x11; 3]),
        tables(),
        scan(&[1, 2], [1, 63, 0], "0 0"),
    ];
    assert_eq!(reason(&image(&two)), Reason::Progression([1, 63, 0, 0]));
}

#[test]
fn later_scans_have_a_bit_for_each_nonzero_coefficient() {
    let dc = scan(&[1], [0, 0, 1], "0 0 0");
    // Coefficients 1 and 2 of block 0; coefficient 1 of block 2, whose band ends in a run with
    // block 1.
    let first = scan(&[1], [1, 63, 1], "101 101 0  0  101 0");
    // Block 0: two old coefficients and a new one behind them, then the end. A run of two ends the
    // other blocks, with one bit for the coefficient of block 2.
    let refined = "10 1 1 1  0  1110 0  1";
    let last = scan(&[1], [0, 0, 0x10], "0 1 0");
    let whole = progressive(
        3,
        &[
            dc.clone(),
            first.clone(),
            scan(&[1], [1, 63, 0x10], refined),
            last.clone(),
        ],
    );
    let decoded = read(&whole).expect("sound");
    assert_eq!(
        (decoded.warnings, decoded.missing, decoded.total),
        (0, 0, 12)
    );
    assert!(
        read(&whole[..whole.len() - 2]).is_ok(),
        "no further scan can be missing"
    );
    assert_eq!(reason(&whole[..whole.len() - 3]), Reason::Truncated(0, 3));
    let unfinished = progressive(3, &[dc, first, last]);
    assert!(read(&unfinished).is_ok());
    assert_eq!(
        reason(&unfinished[..unfinished.len() - 2]),
        Reason::ScansMissing
    );
}

#[test]
fn the_bits_of_a_later_scan_are_counted_exactly() {
    let dc = scan(&[1], [0, 0, 0], &"0".repeat(8));
    let first = scan(&[1], [1, 63, 1], &"101 101 101 0 ".repeat(8));
    // Eight blocks end at once, with three bits each: exactly 32 bits.
    let refine = |bits: usize| {
        scan(
            &[1],
            [1, 63, 0x10],
            &("0".to_owned() + &"0".repeat(bits)).repeat(8),
        )
    };
    let exact = progressive(8, &[dc.clone(), first.clone(), refine(3)]);
    assert_eq!(read(&exact).expect("sound").missing, 0);
    let short = progressive(8, &[dc, first, refine(2)]);
    assert_eq!(read(&short).expect("viewers show it").missing, 2);
}

#[test]
fn damage_is_accepted_once_every_component_was_seen() {
    let three = |parts: &[Vec<u8>], code| {
        image(&[&[frame(code, 8, 8, &[0x11; 3]), tables()][..], parts].concat())
    };
    let part = |id, bits: &str| scan(&[id], ALL, bits);
    assert!(read(&three(&[part(1, "00"), part(2, "00"), part(3, "00")], 0xc0)).is_ok());
    assert_eq!(
        reason(&three(&[part(1, "00"), part(2, "00"), part(3, "")], 0xc0)),
        Reason::DamagedScan
    );
    let dc = scan(&[1, 2, 3], [0, 0, 0], "0 0 0");
    let damaged = scan(&[1], [1, 63, 0], "");
    assert!(read(&three(&[dc.clone(), damaged.clone()], 0xc2)).is_ok());
    assert_eq!(reason(&three(&[damaged, dc], 0xc2)), Reason::DamagedScan);
    let one = scan(&[1], [0, 0, 0], "0");
    assert_eq!(reason(&three(&[one], 0xc2)), Reason::ScansMissing);
}

#[test]
fn markers_that_libjpeg_refuses_are_refused() {
    let build = |part: Vec<u8>| {
        image(&[
            part,
            frame(0xc0, 8, 8, &[0x11]),
            tables(),
            scan(&[1], ALL, "00"),
        ])
    };
    for code in [0xe0, 0xef, 0xfe, 0xdc, 0xdd] {
        assert!(read(&build(segment(code, &[0, 0]))).is_ok(), "{code:x}");
    }
    for code in [0x02, 0xbf, 0xc3, 0xc8, 0xc9, 0xde, 0xf0, 0xfd] {
        assert_eq!(reason(&build(segment(code, &[0, 0]))), Reason::Marker(code));
    }
    for stray in [
        &[0x00, 0xe1][..],
        &[0xff, 0x00],
        &[0xff, 0xff],
        &[0xff, 0x01],
        b"abc",
    ] {
        assert!(read(&build(stray.to_vec())).is_ok(), "{stray:?}");
    }
    assert!(
        read(&build(vec![0xff, 0xe1, 0, 0])).is_ok(),
        "a length of 0 counts as 2"
    );
    assert_eq!(reason(&build(vec![0xff, 0xd8])), Reason::SecondStart);
    assert_eq!(reason(&build(vec![0xff, 0xd9])), Reason::NoScan);
    assert_eq!(
        reason(&build(frame(0xc0, 8, 8, &[0x11]))),
        Reason::SecondFrame
    );
    assert_eq!(reason(&build(segment(0xdd, &[0]))), Reason::Length(0xdd));
    assert_eq!(reason(&build(segment(0xdb, &[0, 1]))), Reason::Length(0xdb));
    assert_eq!(reason(b"\xff\xd8"), Reason::NoStart);
    assert_eq!(reason(&image(&[scan(&[1], ALL, "00")])), Reason::NoFrame);
}

#[test]
fn bytes_behind_the_only_scan_are_ignored() {
    let whole = gray(1, "00");
    let body = &whole[..whole.len() - 2];
    let comment = segment(0xfe, b"hi");
    let image = [body, &comment, &[0xff, 0xd9]].concat();
    assert_eq!(
        read(&image).expect("sound").end_of_image,
        Some(image.len() - 2)
    );
    for tail in [
        scan(&[1], ALL, "00"),
        vec![0xff, 0x02, 0, 2],
        vec![0xff, 0xd8],
        vec![0xff, 0xe1, 0xff, 0xff],
    ] {
        let decoded = read(&[body, &tail, &[0xff, 0xd9]].concat()).expect("viewers show it");
        assert_eq!((decoded.end, decoded.end_of_image), (body.len(), None));
    }
}

#[test]
fn a_hundred_scans_of_a_large_image_cost_few_steps() {
    let side = 5_000;
    let blocks = 625_u32 * 625;
    // DC: symbol 0 is 0. AC: 0 ends a block, 10 is a run of 16384 blocks and 14 bits more.
    let tables = [table(0x00, &[0]), table(0x10, &[0x00, 0xe0])].concat();
    let dc = scan(&[1], [0, 0, 0], &"0".repeat(blocks as usize));
    let run = "10".to_owned() + &"1".repeat(14);
    let band = scan(&[1], [1, 63, 0], &run.repeat(12));
    let build = |scans| {
        let mut parts = vec![frame(0xc2, side, side, &[0x11]), tables.clone(), dc.clone()];
        parts.extend(std::iter::repeat_n(band.clone(), scans));
        image(&parts)
    };
    let most = MAX_SCANS as usize - 1;
    let decoded = read(&build(most)).expect("sound");
    assert_eq!((decoded.scans, decoded.missing), (MAX_SCANS, 0));
    assert!(
        decoded.steps < u64::from(blocks) + 10_000,
        "{} steps",
        decoded.steps
    );
    assert_eq!(reason(&build(most + 1)), Reason::Scans(MAX_SCANS));
}

#[test]
fn decoding_stops_at_the_time_limit() {
    let image = gray(4, "00 00 00 00");
    let at = |deadline| {
        decode(
            &image,
            &Limits {
                deadline: Some(deadline),
                keeps_small: false,
                max_pixels: None,
            },
        )
    };
    assert!(at(Instant::now() + Duration::from_mins(10)).is_ok());
    assert_eq!(
        at(Instant::now()).expect_err("too late").reason,
        Reason::TimeLimit
    );
}

#[test]
fn messages_of_faults_name_values_and_offsets() {
    let image = gray(9, "00 00 00 00");
    let cut = image.len() - 2;
    let fault = read(&image[..cut]).expect_err("cut");
    let expected = format!(
        "image data is missing: the file ends after 4 of 9 MCUs of the scan (at byte {cut})"
    );
    assert_eq!(fault.to_string(), expected);
}
