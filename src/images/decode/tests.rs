use std::io::Write;
use std::time::Duration;

use super::*;

fn judge(bytes: &[u8], format: Format) -> Result<(), String> {
    let mut deadline = Deadline::at(Instant::now() + Duration::from_mins(1), 0);
    parse(bytes, format, &mut deadline).map_err(|fault| match fault {
        Fault::Corrupt(what) => what,
        Fault::Timeout => "timeout".to_owned(),
    })
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn chunk(kind: &[u8], body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&len[..], kind, body, &[0; 4]].concat()
}

/// A grey image of 8 bits, with these chunks between header and end.
fn png_of(width: u8, height: u8, interlace: u8, chunks: &[Vec<u8>]) -> Vec<u8> {
    let header = [0, 0, 0, width, 0, 0, 0, height, 8, 0, 0, 0, interlace];
    let parts = [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &header),
        chunks.concat(),
    ];
    [parts.concat(), chunk(b"IEND", b"")].concat()
}

fn png(data: &[u8]) -> Result<(), String> {
    judge(&png_of(2, 3, 0, &[chunk(b"IDAT", data)]), Format::Png)
}

const ROWS: [u8; 9] = [0, 7, 7, 4, 1, 2, 3, 9, 9];

#[test]
fn png_needs_every_byte_of_every_row() {
    assert_eq!(png(&deflate(&ROWS)), Ok(()));
    assert_eq!(png(&deflate(&[&ROWS[..], b"more"].concat())), Ok(()));
    let fault = "the image data of frame 1 ends in row 2".to_owned();
    assert_eq!(png(&deflate(&ROWS[..8])), Err(fault));
    assert!(png(&deflate(b"")).is_err());
    assert!(png(b"").is_err());
    assert!(judge(&png_of(2, 3, 0, &[]), Format::Png).is_err());
}

#[test]
fn a_png_filter_above_4_is_refused() {
    for (row, at) in [0, 3, 6].into_iter().enumerate() {
        let mut rows = ROWS;
        rows[at] = 4;
        assert_eq!(png(&deflate(&rows)), Ok(()));
        rows[at] = 5;
        let fault = png(&deflate(&rows)).unwrap_err();
        assert!(
            fault.ends_with(&format!("has the unknown filter 5 in row {row}")),
            "{fault}"
        );
    }
}

#[test]
fn png_data_must_be_a_zlib_stream() {
    assert!(png(&[0x55; 500]).unwrap_err().contains("begins with 5555"));
    assert!(
        png(b"\x78\x9c\xff\xff\xff")
            .unwrap_err()
            .ends_with("can't be inflated")
    );
    let good = deflate(&ROWS);
    // CINFO 0 to 7 are accepted, whatever the stream uses; 8, FDICT and a wrong check are not.
    for (head, fits) in [
        (0x081d, true),
        (0x7801, true),
        (0x881c, false),
        (0x7820, false),
        (0x7802, false),
    ] {
        let head = u16::to_be_bytes(head);
        assert_eq!(
            png(&[&head, &good[2..]].concat()).is_ok(),
            fits,
            "{head:02x?}"
        );
    }
}

#[test]
fn png_ignores_adler_32_and_bytes_behind_the_last_row() {
    let good = deflate(&ROWS);
    let body = good.len() - 4;
    assert_eq!(png(&[&good[..body], b"\0\0\0\0 and more"].concat()), Ok(()));
    assert_eq!(png(&good[..body]), Ok(()));
    let parts: Vec<_> = good.iter().map(|byte| chunk(b"IDAT", &[*byte])).collect();
    assert_eq!(judge(&png_of(2, 3, 0, &parts), Format::Png), Ok(()));
    let garbage = [chunk(b"IDAT", &good), chunk(b"IDAT", &[0xff; 50])];
    assert_eq!(judge(&png_of(2, 3, 0, &garbage), Format::Png), Ok(()));
}

#[test]
fn an_interlaced_png_needs_every_pass() {
    // An image of 3 by 5 pixels has passes of 1, 0, 1, 2, 1, 3 and 2 rows with 1, 0, 1, 1, 2, 1 and
    // 3 pixels.
    let len = 2 + 2 + 2 * 2 + 3 + 3 * 2 + 2 * 4;
    let image = |len: usize| {
        let data = deflate(&vec![0; len]);
        judge(&png_of(3, 5, 1, &[chunk(b"IDAT", &data)]), Format::Png)
    };
    assert_eq!(image(len), Ok(()));
    assert!(image(len - 1).is_err());
}

fn control(sequence: u8, width: u8, height: u8) -> Vec<u8> {
    let mut body = [0; 26];
    (body[3], body[7], body[11]) = (sequence, width, height);
    chunk(b"fcTL", &body)
}

#[test]
fn apng_needs_every_frame() {
    let idat = chunk(b"IDAT", &deflate(&ROWS));
    let fdat = |data: &[u8]| chunk(b"fdAT", &[&[0; 4], data].concat());
    let animation = |last: Vec<u8>| {
        let chunks = [control(0, 2, 3), idat.clone(), control(1, 1, 2), last];
        judge(&png_of(2, 3, 0, &chunks), Format::Png)
    };
    assert_eq!(animation(fdat(&deflate(&[0, 1, 0, 1]))), Ok(()));
    let fault = animation(fdat(&deflate(&[0, 1, 0]))).unwrap_err();
    assert_eq!(fault, "the image data of frame 2 ends in row 1");
    assert!(animation(Vec::new()).is_err());
    assert!(animation(fdat(b"garbage")).unwrap_err().contains("frame 2"));
}

/// Codes of these widths, the least significant bit first.
fn codes(codes: &[(u32, u32)]) -> Vec<u8> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u64, 0);
    for (code, width) in codes {
        bits |= u64::from(*code) << count;
        count += width;
        while count >= 8 {
            bytes.push(bits.to_le_bytes()[0]);
            bits >>= 8;
            count -= 8;
        }
    }
    bytes.push(bits.to_le_bytes()[0]);
    bytes
}

/// A frame of 2 by 2 pixels.
fn frame(size: u8, data: &[u8]) -> Vec<u8> {
    let len = u8::try_from(data.len()).unwrap();
    let head = [b',', 0, 0, 0, 0, 2, 0, 2, 0, 0, size];
    let end: &[u8] = if len == 0 { b"" } else { b"\0" };
    [&head[..], &[len], data, end].concat()
}

fn gif(frames: &[Vec<u8>]) -> Result<(), String> {
    let head = b"GIF89a\x02\0\x02\0\x80\0\0\0\0\0\xff\xff\xff";
    judge(&[&head[..], &frames.concat(), b";"].concat(), Format::Gif)
}

const PIXELS: [(u32, u32); 6] = [(4, 3), (0, 3), (1, 3), (0, 3), (1, 4), (5, 4)];

#[test]
fn gif_needs_every_pixel_and_no_more() {
    assert_eq!(gif(&[frame(2, &codes(&PIXELS))]), Ok(()));
    assert_eq!(gif(&[frame(2, &codes(&PIXELS[..5]))]), Ok(()));
    assert_eq!(gif(&[frame(2, &codes(&PIXELS[1..]))]), Ok(()));
    assert_eq!(
        gif(&[frame(2, &[codes(&PIXELS), vec![0xff; 9]].concat())]),
        Ok(())
    );
    let short = [&PIXELS[..4], &[(5, 4)]].concat();
    let fault = "frame 2 at byte 36 ends with 1 of 4 pixels missing".to_owned();
    assert_eq!(
        gif(&[frame(2, &codes(&PIXELS)), frame(2, &codes(&short))]),
        Err(fault)
    );
    assert!(gif(&[frame(2, b"")]).is_err());
    assert!(gif(&[]).is_err());
}

#[test]
fn a_gif_code_beyond_the_next_table_entry_is_refused() {
    // 0, then 6, the code that it adds: three pixels. Then 7, which is not in the table before the
    // fourth pixel.
    assert_eq!(
        gif(&[frame(2, &codes(&[(4, 3), (0, 3), (6, 3), (1, 3)]))]),
        Ok(())
    );
    assert!(
        gif(&[frame(2, &codes(&[(4, 3), (0, 3), (7, 3), (1, 3)]))])
            .unwrap_err()
            .contains("code 7")
    );
    assert!(
        gif(&[frame(2, &codes(&[(4, 3), (6, 3)]))])
            .unwrap_err()
            .contains("code 6")
    );
}

#[test]
fn a_gif_code_size_above_8_is_refused() {
    let pixels = |size: u32| {
        codes(&[
            (1 << size, size + 1),
            (0, size + 1),
            (0, size + 1),
            (0, size + 1),
            (0, size + 1),
        ])
    };
    assert_eq!(gif(&[frame(8, &pixels(8))]), Ok(()));
    assert!(
        gif(&[frame(9, &pixels(9))])
            .unwrap_err()
            .contains("LZW code size 9")
    );
    // With one bit, the table is full for its width after the first code.
    assert_eq!(
        gif(&[frame(1, &codes(&[(2, 2), (0, 2), (1, 3), (0, 3), (1, 3)]))]),
        Ok(())
    );
}

fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
    [b"RIFF\0\0\0\0WEBP".to_vec(), chunks.concat()].concat()
}

fn part(kind: &[u8], body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap().to_le_bytes();
    [kind, &len[..], body, &[0][..body.len() % 2]].concat()
}

/// 2 by 2 pixels in red, by `ImageMagick`; its last six bytes are not needed.
const LOSSY: [u8; 48] = [
    0xd0, 0x01, 0x00, 0x9d, 0x01, 0x2a, 0x02, 0x00, 0x02, 0x00, 0x02, 0x00, 0x34, 0x25, 0xa0, 0x02,
    0x74, 0xba, 0x01, 0xf8, 0x00, 0x03, 0xb0, 0x00, 0xfe, 0xf0, 0xc4, 0x0b, 0xff, 0x20, 0xb9, 0x61,
    0x75, 0xc8, 0xd7, 0xff, 0x20, 0x3f, 0xe4, 0x07, 0xfc, 0x80, 0xff, 0xf8, 0xf2, 0x00, 0x00, 0x00,
];

fn webp(chunks: &[Vec<u8>]) -> Result<(), String> {
    judge(&riff(chunks), Format::Webp)
}

#[test]
fn a_lossy_webp_needs_its_last_token() {
    let of = |len: usize| webp(&[part(b"VP8 ", &LOSSY[..len])]);
    assert_eq!(of(48), Ok(()));
    let shortest = (20..48).find(|len| of(*len).is_ok()).unwrap();
    assert!(shortest > 30, "{shortest}");
    assert!(
        of(shortest - 2)
            .unwrap_err()
            .contains("its tokens end in row 0")
    );
    assert!(of(20).unwrap_err().contains("partition"));
    assert!(of(9).is_err());
    let mut frame = LOSSY;
    frame[0] |= 1;
    assert!(
        webp(&[part(b"VP8 ", &frame)])
            .unwrap_err()
            .contains("not a shown key frame")
    );
}

/// 2 by 2 pixels: no transform, no cache, one group. Green has two symbols of one bit, the other
/// colours have one symbol.
fn lossless(pixels: &[(u32, u32)]) -> Vec<u8> {
    let one = [(1, 1), (0, 1), (0, 1), (0, 1)];
    let head = [(0x2f, 8), (1, 14), (1, 14), (0, 4), (0, 3)];
    let two = [(1, 1), (1, 1), (1, 1), (7, 8), (255, 8)];
    let all = [&head[..], &two, &one, &one, &one, &one, pixels].concat();
    let mut bytes = codes(&all);
    let bits: u32 = all.iter().map(|(_, width)| width).sum();
    bytes.truncate(usize::try_from(bits.div_ceil(8)).unwrap());
    bytes
}

#[test]
fn a_lossless_webp_needs_its_last_pixel() {
    // A head of 43 + 19 + 16 bits leaves two bits in the last byte; the third pixel needs another
    // byte.
    let head = lossless(&[]);
    assert_eq!(head.len(), 10);
    assert_eq!(webp(&[part(b"VP8L", &lossless(&[(5, 4)]))]), Ok(()));
    let short = webp(&[part(b"VP8L", &head)]);
    assert!(short.unwrap_err().contains("ends too early"));
    let mut cache = lossless(&[(5, 4)]);
    cache[0] = 0x2e;
    assert!(
        webp(&[part(b"VP8L", &cache)])
            .unwrap_err()
            .contains("header")
    );
}

#[test]
fn alpha_of_a_webp_is_read_only_if_it_is_shown() {
    let still = |flags: u8, alpha: &[u8]| {
        let header = part(b"VP8X", &[flags, 0, 0, 0, 1, 0, 0, 1, 0, 0]);
        webp(&[header, part(b"ALPH", alpha), part(b"VP8 ", &LOSSY)])
    };
    assert_eq!(still(0x10, &[0, 1, 2, 3, 4]), Ok(()));
    assert!(
        still(0x10, &[0, 1, 2, 3])
            .unwrap_err()
            .contains("3 of 4 values")
    );
    assert_eq!(still(0, &[0, 1, 2, 3]), Ok(()));
    for head in [0x02, 0x20, 0x40, 0x80] {
        assert!(still(0x10, &[head, 1, 2, 3, 4]).is_err(), "{head:02x}");
    }
    assert!(still(0x10, &[]).is_err());
}

#[test]
fn webp_animations_need_every_frame() {
    let frame = |chunks: &[Vec<u8>]| {
        let head = [0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 9, 0, 0, 0];
        part(b"ANMF", &[&head[..], &chunks.concat()].concat())
    };
    let animation = |second: &[Vec<u8>]| {
        let header = part(b"VP8X", &[2, 0, 0, 0, 1, 0, 0, 1, 0, 0]);
        webp(&[
            header,
            part(b"ANIM", &[0; 6]),
            frame(&[part(b"VP8 ", &LOSSY)]),
            frame(second),
        ])
    };
    assert_eq!(animation(&[part(b"VP8L", &lossless(&[(5, 4)]))]), Ok(()));
    assert!(animation(&[]).unwrap_err().contains("frame 2"));
    assert!(
        animation(&[part(b"VP8 ", &LOSSY[..30])])
            .unwrap_err()
            .contains("frame 2")
    );
    let short = [part(b"ALPH", &[0, 1, 2, 3]), part(b"VP8 ", &LOSSY)];
    assert!(
        animation(&short).unwrap_err().contains("3 of 4"),
        "also without the flag"
    );
}

#[test]
fn a_deadline_in_the_past_stops_a_large_decode() {
    let header = [0, 0, 0x0f, 0xa0, 0, 0, 0x0f, 0xa0, 8, 0, 0, 0, 0];
    let data = deflate(&vec![0; 4_001 * 4_000]);
    let file = [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &header),
        chunk(b"IDAT", &data),
        chunk(b"IEND", b""),
    ]
    .concat();
    assert_eq!(judge(&file, Format::Png), Ok(()));
    assert_eq!(
        parse(&file, Format::Png, &mut Deadline::at(Instant::now(), 0)),
        Err(Fault::Timeout)
    );
}

#[test]
fn the_memory_of_a_decode_is_known_in_advance() {
    let needed = |format, len: usize, width: u32, height: u32| {
        let total_pixels = u64::from(width) * u64::from(height);
        let frames = 1;
        let probe = Probe {
            format,
            width,
            height,
            total_pixels,
            frames,
        };
        memory_needed(&vec![0; len], &probe)
    };
    for format in [Format::Png, Format::Gif] {
        assert!(needed(format, 5 << 20, 32_768, 3_000) <= 256 * 1024);
    }
    assert!(needed(Format::Webp, 5 << 20, 16_383, 3_052) < 128 << 20);
    assert!(needed(Format::Webp, 20_000, 640, 480) < 10 << 20);
    assert!(needed(Format::Jpeg, 5 << 20, 10_000, 10_000) < 80 << 20);
}

#[test]
fn cut_and_changed_files_never_panic() {
    let idat = chunk(b"IDAT", &deflate(&ROWS));
    let files = [
        (png_of(2, 3, 0, &[control(0, 2, 3), idat]), Format::Png),
        (
            [
                &b"GIF89a\x02\0\x02\0\0\0\0"[..],
                &frame(2, &codes(&PIXELS)),
                b";",
            ]
            .concat(),
            Format::Gif,
        ),
        (riff(&[part(b"VP8 ", &LOSSY)]), Format::Webp),
        (riff(&[part(b"VP8L", &lossless(&[(5, 4)]))]), Format::Webp),
    ];
    for (file, format) in files {
        assert_eq!(judge(&file, format), Ok(()));
        for at in 0..file.len() {
            drop(judge(&file[..at], format));
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = file.clone();
                changed[at] ^= value;
                drop(judge(&changed, format));
            }
        }
    }
}
