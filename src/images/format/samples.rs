//! Builds minimal files of each format field by field, for tests that change single fields. Their
//! pixel data is a placeholder, which the walks never read.

use super::crc32::crc32;
use super::{FormatError, PixelLimits, Probe};
use crate::model::image::Format;

/// Walks the file with the default limits.
pub(in crate::images) fn probe(bytes: &[u8]) -> Result<Probe, FormatError> {
    super::probe(bytes, PixelLimits::default())
}

/// Width, height and number of frames.
pub(in crate::images) fn shape(bytes: &[u8]) -> Result<(u32, u32, u32), FormatError> {
    probe(bytes).map(|probe| (probe.width, probe.height, probe.frames))
}

/// One valid file of each kind, with a name for messages.
pub(in crate::images) fn all() -> Vec<(&'static str, Format, Vec<u8>)> {
    vec![
        ("png", Format::Png, png(3, 2)),
        ("apng", Format::Png, apng(4, 4, 3)),
        (
            "jpeg",
            Format::Jpeg,
            jpeg(0xc0, 16, 8, &[scan(&[1, 2, 3], [0, 63, 0])]),
        ),
        ("progressive jpeg", Format::Jpeg, progressive_jpeg(2)),
        ("gif", Format::Gif, gif(5, 4, 1)),
        ("animated gif", Format::Gif, gif(5, 4, 3)),
        ("lossy webp", Format::Webp, riff(&[vp8(6, 5)])),
        ("lossless webp", Format::Webp, riff(&[vp8l(6, 5)])),
        ("extended webp", Format::Webp, extended_webp()),
        ("animated webp", Format::Webp, animated_webp(8, 6, 3)),
    ]
}

pub(in crate::images) fn png_chunk(kind: &[u8], body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&len[..], kind, body, &crc32([kind, body]).to_be_bytes()].concat()
}

pub(in crate::images) fn png_of(chunks: &[Vec<u8>]) -> Vec<u8> {
    [super::png::SIGNATURE, &chunks.concat()].concat()
}

/// `kind` holds the bit depth and the colour type.
pub(in crate::images) fn ihdr(width: u32, height: u32, kind: [u8; 2]) -> Vec<u8> {
    let sides = [width.to_be_bytes(), height.to_be_bytes()].concat();
    png_chunk(b"IHDR", &[&sides[..], &kind, &[0, 0, 0]].concat())
}

pub(in crate::images) fn idat() -> Vec<u8> {
    png_chunk(b"IDAT", b"pixels")
}

pub(in crate::images) fn iend() -> Vec<u8> {
    png_chunk(b"IEND", b"")
}

pub(in crate::images) fn png(width: u32, height: u32) -> Vec<u8> {
    png_of(&[ihdr(width, height, [8, 2]), idat(), idat(), iend()])
}

pub(in crate::images) fn actl(frames: u32) -> Vec<u8> {
    png_chunk(b"acTL", &[frames.to_be_bytes(), [0; 4]].concat())
}

/// `rect` is width, height, left, top.
pub(in crate::images) fn fctl(sequence: u32, rect: [u32; 4]) -> Vec<u8> {
    let mut body = sequence.to_be_bytes().to_vec();
    body.extend(rect.into_iter().flat_map(u32::to_be_bytes));
    body.extend([0, 1, 0, 10, 0, 0]);
    png_chunk(b"fcTL", &body)
}

pub(in crate::images) fn fdat(sequence: u32) -> Vec<u8> {
    png_chunk(b"fdAT", &[&sequence.to_be_bytes()[..], b"pixels"].concat())
}

pub(in crate::images) fn apng(width: u32, height: u32, frames: u32) -> Vec<u8> {
    let whole = [width, height, 0, 0];
    let mut chunks = vec![
        ihdr(width, height, [8, 6]),
        actl(frames),
        fctl(0, whole),
        idat(),
    ];
    for frame in 1..frames {
        chunks.extend([fctl(2 * frame - 1, whole), fdat(2 * frame)]);
    }
    chunks.push(iend());
    png_of(&chunks)
}

pub(in crate::images) fn segment(code: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len() + 2).unwrap().to_be_bytes();
    [&[0xff, code][..], &len, body].concat()
}

/// A scan with data that contains an escaped byte, a restart marker and a fill byte.
pub(in crate::images) fn scan(components: &[u8], selection: [u8; 3]) -> Vec<u8> {
    let mut body = vec![u8::try_from(components.len()).unwrap()];
    body.extend(components.iter().flat_map(|id| [*id, 0x00]));
    body.extend(selection);
    [
        &segment(0xda, &body)[..],
        b"\x12\xff\x00\x34\xff\xd0\x56\xff",
    ]
    .concat()
}

/// Three components, the first sampled 2 by 2, all with quantisation table 0.
pub(in crate::images) fn sof(code: u8, width: u16, height: u16) -> Vec<u8> {
    let [h, w] = [height.to_be_bytes(), width.to_be_bytes()];
    segment(
        code,
        &[
            8, h[0], h[1], w[0], w[1], 3, 1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0,
        ],
    )
}

pub(in crate::images) fn dqt() -> Vec<u8> {
    segment(0xdb, &[[0].as_slice(), &[1; 64]].concat())
}

pub(in crate::images) fn jpeg(code: u8, width: u16, height: u16, scans: &[Vec<u8>]) -> Vec<u8> {
    let mut dht = vec![0x10, 0, 2];
    dht.extend([0; 14]);
    dht.extend([1, 2]);
    let parts = [
        b"\xff\xd8".to_vec(),
        segment(0xe0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"),
        segment(0xfe, b"a comment"),
        dqt(),
        segment(0xc4, &dht),
        segment(0xdd, &[0, 4]),
        sof(code, width, height),
        scans.concat(),
        b"\xff\xd9".to_vec(),
    ];
    parts.concat()
}

pub(in crate::images) fn progressive_jpeg(scans: usize) -> Vec<u8> {
    let mut list = vec![scan(&[1], [1, 63, 0x02]); scans];
    list[0] = scan(&[1, 2, 3], [0, 0, 0x01]);
    jpeg(0xc2, 16, 8, &list)
}

/// The screen and two global colours; append frames and a trailer.
pub(in crate::images) fn gif_head(width: u16, height: u16) -> Vec<u8> {
    let sides = [width.to_le_bytes(), height.to_le_bytes()].concat();
    [
        b"GIF89a",
        &sides[..],
        &[0x80, 0, 0],
        &[0, 0, 0, 255, 255, 255],
    ]
    .concat()
}

/// `rect` is left, top, width, height.
pub(in crate::images) fn gif_frame(rect: [u16; 4]) -> Vec<u8> {
    let mut frame = b"!\xf9\x04\x04\x0a\0\0\0,".to_vec();
    frame.extend(rect.into_iter().flat_map(u16::to_le_bytes));
    frame.extend(b"\x00\x02\x02\x44\x01\x00");
    frame
}

pub(in crate::images) fn gif(width: u16, height: u16, frames: usize) -> Vec<u8> {
    let netscape = b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0";
    let body = gif_frame([0, 0, width, height]).repeat(frames);
    [&gif_head(width, height), &netscape[..], &body, b";"].concat()
}

pub(in crate::images) fn riff_chunk(kind: &[u8], body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap().to_le_bytes();
    let padding: &[u8] = if body.len().is_multiple_of(2) {
        b""
    } else {
        b"\0"
    };
    [kind, &len, body, padding].concat()
}

pub(in crate::images) fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
    let body = chunks.concat();
    let len = u32::try_from(body.len() + 4).unwrap().to_le_bytes();
    [b"RIFF", &len[..], b"WEBP", &body].concat()
}

pub(in crate::images) fn vp8(width: u16, height: u16) -> Vec<u8> {
    let (width, height) = (width.to_le_bytes(), height.to_le_bytes());
    let tag = [0x50, 0x00, 0x00, 0x9d, 0x01, 0x2a];
    riff_chunk(b"VP8 ", &[&tag[..], &width, &height, b"data"].concat())
}

pub(in crate::images) fn vp8l(width: u32, height: u32) -> Vec<u8> {
    let header = (width - 1) | (height - 1) << 14;
    riff_chunk(
        b"VP8L",
        &[&[0x2f][..], &header.to_le_bytes(), b"data"].concat(),
    )
}

pub(in crate::images) fn vp8x(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let (width, height) = ((width - 1).to_le_bytes(), (height - 1).to_le_bytes());
    riff_chunk(
        b"VP8X",
        &[&[flags, 0, 0, 0], &width[..3], &height[..3]].concat(),
    )
}

pub(in crate::images) fn anim() -> Vec<u8> {
    riff_chunk(b"ANIM", &[0; 6])
}

/// `rect` is left, top, width, height; the offsets are even.
pub(in crate::images) fn anmf(rect: [u32; 4], image: &[u8]) -> Vec<u8> {
    let [left, top, width, height] = rect;
    let mut body = Vec::new();
    for value in [left / 2, top / 2, width - 1, height - 1, 100] {
        body.extend_from_slice(&value.to_le_bytes()[..3]);
    }
    body.push(0);
    riff_chunk(b"ANMF", &[&body, image].concat())
}

pub(in crate::images) fn animated_webp(width: u32, height: u32, frames: usize) -> Vec<u8> {
    let mut chunks = vec![vp8x(0x02, width, height), anim()];
    chunks.resize(
        frames + 2,
        anmf([0, 0, width, height], &vp8l(width, height)),
    );
    riff(&chunks)
}

fn extended_webp() -> Vec<u8> {
    riff(&[
        vp8x(0x3c, 6, 5),
        riff_chunk(b"ICCP", b"profile"),
        riff_chunk(b"ALPH", b"\x01alpha"),
        vp8(6, 5),
        riff_chunk(b"EXIF", b"II*\0"),
        riff_chunk(b"XMP ", b"<x/>"),
        riff_chunk(b"what", b"?"),
    ])
}
