//! Generated images for tests: valid, small, repeatable and free of rights. Each decodes with all
//! its frames, and equal arguments give equal bytes. Tests that need an invalid file change one of
//! these.

const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A PNG of RGB noise.
pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    png_seeded(width, height, 0)
}

/// A PNG of RGB noise. Another seed gives other pixels, and so other bytes of the same length.
pub(crate) fn png_seeded(width: u32, height: u32, seed: u64) -> Vec<u8> {
    png_with(width, height, seed, &[])
}

/// A PNG of exactly this many bytes: noise, and a private chunk where pixels don't fill the size.
/// That chunk is metadata, so cleaning may remove it. The smallest size is 84 bytes.
pub(crate) fn png_of_size(bytes: usize) -> Vec<u8> {
    const CHUNK_FRAME: usize = 12;
    assert!(
        bytes >= png(1, 1).len() + CHUNK_FRAME,
        "no PNG with room to fill has {bytes} bytes"
    );
    let fits = |side: &u32| png_len(*side) + CHUNK_FRAME <= bytes;
    let side = (1..=4_096).take_while(fits).last().unwrap_or(1);
    let filling = noise(bytes as u64)
        .take(bytes - png_len(side) - CHUNK_FRAME)
        .collect::<Vec<_>>();
    png_with(side, side, 0, &png_chunk(b"teSt", &filling))
}

/// An animated GIF, endless, of noise in 128 colours; every frame covers the canvas.
pub(crate) fn gif_animated(width: u16, height: u16, frames: u32) -> Vec<u8> {
    // A clear code well before the table is full keeps every code at 8 bits: codes are bytes.
    const CLEAR: u8 = 128;
    const END: u8 = 129;
    let sides = [width.to_le_bytes(), height.to_le_bytes()].concat();
    let colours: Vec<u8> = noise(128).take(3 * 128).collect();
    let mut gif = [b"GIF89a", &sides[..], &[0xf6, 0, 0], &colours].concat();
    gif.extend(b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0");
    for frame in 0..frames {
        let pixels: Vec<u8> = noise(u64::from(frame))
            .map(|byte| byte & 0x7f)
            .take(usize::from(width) * usize::from(height))
            .collect();
        let mut codes: Vec<u8> = pixels
            .chunks(100)
            .flat_map(|run| [&[CLEAR], run].concat())
            .collect();
        codes.push(END);
        gif.extend(b"!\xf9\x04\x04\x0a\0\0\0,\0\0\0\0");
        gif.extend(&sides);
        gif.extend(b"\0\x07");
        for block in codes.chunks(255) {
            gif.push(u8::try_from(block.len()).unwrap_or(u8::MAX));
            gif.extend(block);
        }
        gif.push(0);
    }
    gif.push(b';');
    gif
}

/// A GIF with one frame.
pub(crate) fn gif(width: u16, height: u16) -> Vec<u8> {
    gif_animated(width, height, 1)
}

/// A lossless WebP of one colour. Its length does not depend on its size.
pub(crate) fn webp(width: u32, height: u32) -> Vec<u8> {
    riff(&vp8l(width, height, 0))
}

/// An animated lossless WebP; every frame covers the canvas with another colour.
pub(crate) fn webp_animated(width: u32, height: u32, frames: u32) -> Vec<u8> {
    let sides = [le24(width - 1), le24(height - 1)].concat();
    let mut chunks = riff_chunk(b"VP8X", &[&[0x02, 0, 0, 0], &sides[..]].concat());
    chunks.extend(riff_chunk(b"ANIM", &[0; 6]));
    for frame in 0..frames {
        // Offsets of zero, 100 ms, replace what was there.
        let head = [&[0; 6], &sides[..], &le24(100), &[0x02]].concat();
        chunks.extend(riff_chunk(
            b"ANMF",
            &[head, vp8l(width, height, frame)].concat(),
        ));
    }
    riff(&chunks)
}

/// A lossy WebP of 16 by 16 pixels, with the same four squares as [`jpeg`].
pub(crate) fn webp_lossy() -> Vec<u8> {
    LOSSY_WEBP.to_vec()
}

/// A baseline JPEG of 16 by 16 pixels: squares of red, blue, yellow and green in reading order,
/// which show the orientation.
pub(crate) fn jpeg() -> Vec<u8> {
    BASELINE_JPEG.to_vec()
}

/// A text in every piece of metadata of [`with_metadata`].
pub(crate) const SECRET: &str = "S3CRET";

/// The number of bytes after the end of each image of [`with_metadata`].
pub(crate) const TRAILER_LEN: usize = 4 + SECRET.len();

/// An image of each format with metadata inside and bytes after its end: a name, the uploaded
/// bytes, and the cleaned bytes.
pub(crate) fn with_metadata() -> [(&'static str, Vec<u8>, Vec<u8>); 4] {
    const AFTER_IHDR: usize = 8 + 12 + 13;
    const AFTER_JFIF: usize = 2 + 2 + 16;
    let insert = |picture: &[u8], at: usize, metadata: &[u8]| {
        let (head, tail) = picture.split_at(at);
        [head, metadata, tail, b"PK\x03\x04", SECRET.as_bytes()].concat()
    };
    let (png, jpeg, gif, webp) = (png(6, 5), jpeg(), gif(6, 5), webp(6, 5));
    let text = png_chunk(b"tEXt", b"Author\0S3CRET");
    let comment = b"\xff\xfe\x00\x08S3CRET\xff\xe1\x00\x0eExif\0\0S3CRET";
    [
        ("PNG", insert(&png, AFTER_IHDR, &text), png),
        ("JPEG", insert(&jpeg, AFTER_JFIF, comment), jpeg),
        (
            "GIF",
            insert(&gif, gif.len() - 1, b"!\xfe\x06S3CRET\0"),
            gif,
        ),
        ("WebP", insert(&webp, webp.len(), b""), webp),
    ]
}

/// A PNG with metadata inside and nothing after its end, and its cleaned bytes.
pub(crate) fn with_text() -> (Vec<u8>, Vec<u8>) {
    let [(_, mut dirty, clean), ..] = with_metadata();
    dirty.truncate(dirty.len() - TRAILER_LEN);
    (dirty, clean)
}

/// An endless sequence of bytes that look random and depend on the seed only (splitmix64).
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(0xd134_2543_de82_ef95);
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    })
    .flatten()
}

fn png_with(width: u32, height: u32, seed: u64, extra_chunk: &[u8]) -> Vec<u8> {
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, 2, 0, 0, 0]);
    let row_len = 3 * width as usize;
    let mut noise = noise(seed);
    let mut rows = Vec::with_capacity((1 + row_len) * height as usize);
    for _ in 0..height {
        rows.push(0); // no filter
        rows.extend(noise.by_ref().take(row_len));
    }
    let chunks = [
        PNG_SIGNATURE.to_vec(),
        png_chunk(b"IHDR", &header),
        extra_chunk.to_vec(),
        png_chunk(b"IDAT", &zlib_stored(&rows)),
        png_chunk(b"IEND", b""),
    ];
    chunks.concat()
}

/// The length of a square PNG without an extra chunk.
fn png_len(side: u32) -> usize {
    let rows = (1 + 3 * side as usize) * side as usize;
    let zlib = 2 + rows + 5 * rows.div_ceil(STORED_BLOCK) + 4;
    PNG_SIGNATURE.len() + (12 + 13) + (12 + zlib) + 12
}

fn png_chunk(kind: &[u8], body: &[u8]) -> Vec<u8> {
    let checked = [kind, body].concat();
    [
        &len_u32(body).to_be_bytes()[..],
        &checked,
        &crc32(&checked).to_be_bytes(),
    ]
    .concat()
}

const STORED_BLOCK: usize = 0xffff;

/// Deflate without compression, so that any length can be computed beforehand.
fn zlib_stored(bytes: &[u8]) -> Vec<u8> {
    let mut zlib = vec![0x78, 0x01];
    let mut blocks = bytes.chunks(STORED_BLOCK).peekable();
    while let Some(block) = blocks.next() {
        let len = u16::try_from(block.len()).unwrap_or(u16::MAX);
        zlib.push(u8::from(blocks.peek().is_none()));
        zlib.extend(len.to_le_bytes());
        zlib.extend((!len).to_le_bytes());
        zlib.extend(block);
    }
    zlib.extend(adler32(bytes).to_be_bytes());
    zlib
}

fn adler32(bytes: &[u8]) -> u32 {
    let (low, high) = bytes.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    (high << 16) | low
}

pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let table: [u32; 256] = std::array::from_fn(|byte| {
        let byte = u32::try_from(byte).unwrap_or_default();
        (0..8).fold(byte, |rest, _| (rest >> 1) ^ ((rest & 1) * 0xedb8_8320))
    });
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        crc >> 8
            ^ table
                .get(usize::from(low ^ byte))
                .copied()
                .unwrap_or_default()
    })
}

/// A `VP8L` chunk. Each of its five prefix codes has a single symbol, which costs no bits, so the
/// pixels take no space.
fn vp8l(width: u32, height: u32, seed: u32) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.push(0x2f, 8);
    bits.push(width - 1, 14);
    bits.push(height - 1, 14);
    bits.push(0, 1 + 3); // no alpha, version 0
    bits.push(0, 1 + 1 + 1); // no transform, no colour cache, one group of codes
    let colour: Vec<u8> = noise(u64::from(seed)).take(3).collect();
    for symbol in colour.into_iter().chain([255]) {
        bits.push(0b101, 3); // a simple code of one symbol of 8 bits
        bits.push(u32::from(symbol), 8);
    }
    bits.push(0b0001, 4); // distances: a simple code of the symbol 0 of 1 bit
    riff_chunk(b"VP8L", &bits.bytes)
}

/// Bits in the order of VP8L: the lowest first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn push(&mut self, value: u32, count: u32) {
        for bit in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= u8::from(value >> bit & 1 == 1) << (self.used % 8);
            }
            self.used += 1;
        }
    }
}

fn riff(chunks: &[u8]) -> Vec<u8> {
    let body = [b"WEBP", chunks].concat();
    [b"RIFF", &len_u32(&body).to_le_bytes()[..], &body].concat()
}

fn riff_chunk(kind: &[u8], body: &[u8]) -> Vec<u8> {
    let padding: &[u8] = if body.len().is_multiple_of(2) {
        b""
    } else {
        b"\0"
    };
    [kind, &len_u32(body).to_le_bytes(), body, padding].concat()
}

fn le24(value: u32) -> [u8; 3] {
    let [low, middle, high, _] = value.to_le_bytes();
    [low, middle, high]
}

fn len_u32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

const BASELINE_JPEG: &[u8] = b"\
    \xff\xd8\xff\xe0\x00\x10\x4a\x46\x49\x46\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xdb\x00\
    \x43\x00\x0d\x09\x0a\x0b\x0a\x08\x0d\x0b\x0a\x0b\x0e\x0e\x0d\x0f\x13\x20\x15\x13\x12\x12\x13\
    \x27\x1c\x1e\x17\x20\x2e\x29\x31\x30\x2e\x29\x2d\x2c\x33\x3a\x4a\x3e\x33\x36\x46\x37\x2c\x2d\
    \x40\x57\x41\x46\x4c\x4e\x52\x53\x52\x32\x3e\x5a\x61\x5a\x50\x60\x4a\x51\x52\x4f\xff\xdb\x00\
    \x43\x01\x0e\x0e\x0e\x13\x11\x13\x26\x15\x15\x26\x4f\x35\x2d\x35\x4f\x4f\x4f\x4f\x4f\x4f\x4f\
    \x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\
    \x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\x4f\xff\xc0\x00\
    \x11\x08\x00\x10\x00\x10\x03\x01\x11\x00\x02\x11\x01\x03\x11\x01\xff\xc4\x00\x17\x00\x00\x03\
    \x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x05\x06\x07\xff\xc4\x00\x14\x10\
    \x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xc4\x00\x16\x01\x01\
    \x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x06\x05\x07\xff\xc4\x00\x14\x11\
    \x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xda\x00\x0c\x03\x01\
    \x00\x02\x11\x03\x11\x00\x3f\x00\x44\x9c\x62\x18\xf1\x9f\xb5\x56\x3e\xba\x86\x28\x10\x7f\xff\
    \xd9";

const LOSSY_WEBP: &[u8] = b"\
    \x52\x49\x46\x46\x3e\x00\x00\x00\x57\x45\x42\x50\x56\x50\x38\x20\x32\x00\x00\x00\x70\x01\x00\
    \x9d\x01\x2a\x10\x00\x10\x00\x03\x80\x5a\x25\xa0\x02\x74\x01\x40\x00\x00\xfe\xcd\xef\xff\x8b\
    \x0f\xff\x73\xe1\xff\xf9\x74\x65\xc3\xbf\xe0\x57\xff\x1d\x01\xff\xe5\x9f\xd3\xd4\x16\x0e\x00\
    \x00";
