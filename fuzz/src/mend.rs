//! Repairs counts and checksums that random changes can't get right. Without this, most fuzzed
//! files would be refused at their first chunk, and the corpus would fill with wrong lengths.

use crate::model::format::Format;

const PNG: [&[u8; 4]; 27] = [
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT", b"tRNS", b"gAMA", b"cHRM",
    b"sRGB", b"iCCP", b"cICP", b"mDCV", b"mDCv", b"cLLI", b"cLLi", b"sBIT", b"bKGD", b"hIST",
    b"pHYs", b"sPLT", b"tIME", b"tEXt", b"zTXt", b"iTXt", b"eXIf",
];
const WEBP: [&[u8; 4]; 10] = [
    b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP ", b"what",
];

/// Writes a file of the same chunks. The length of each chunk is the distance to the next known
/// name. Returns `None` for formats that need no repair.
pub(crate) fn mended(bytes: &[u8], format: Format) -> Option<Vec<u8>> {
    match format {
        Format::Png => Some(png(bytes)),
        Format::Webp => Some(webp(bytes)),
        Format::Jpeg | Format::Gif => None,
    }
}

/// The chunks that begin with these names, each with the bytes up to the next name. `between` is
/// the number of bytes from the end of a body to the next name.
fn chunks<'a>(
    bytes: &'a [u8],
    names: &[&[u8; 4]],
    header: usize,
    between: usize,
) -> Vec<(&'a [u8], &'a [u8])> {
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(name) = bytes.get(at..at + 4) {
        if names.iter().any(|known| *known == name) {
            starts.push(at);
            at += header.max(4 + between);
        } else {
            at += 1;
        }
    }
    let ends = starts
        .iter()
        .skip(1)
        .map(|next| next - between)
        .chain([bytes.len()]);
    let chunk = |(start, end): (&usize, usize)| {
        let body = (start + header).min(end);
        (&bytes[*start..start + 4], &bytes[body..end])
    };
    starts.iter().zip(ends).map(chunk).collect()
}

/// Corrects the checksums of a PNG, and the frame count and sequence numbers of an animation.
fn png(bytes: &[u8]) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut sequence = 0_u32;
    let chunks = chunks(bytes, &PNG, 4, 8);
    let frames = chunks.iter().filter(|(name, _)| name == b"fcTL").count();
    for (name, body) in chunks {
        // Bytes behind the end of the image stay there.
        let (body, rest) = if name == b"IEND" {
            body.split_at(0)
        } else {
            (body, &[][..])
        };
        let mut chunk = [name, body].concat();
        match (name, chunk.get_mut(4..8)) {
            (b"acTL", Some(count)) => {
                count.copy_from_slice(&u32::try_from(frames).unwrap_or(0).to_be_bytes())
            }
            (b"fcTL" | b"fdAT", Some(number)) => {
                number.copy_from_slice(&sequence.to_be_bytes());
                sequence += 1;
            }
            _ => {}
        }
        png.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
        png.extend(&chunk);
        png.extend(crc32fast::hash(&chunk).to_be_bytes());
        png.extend(rest);
    }
    png
}

fn webp(bytes: &[u8]) -> Vec<u8> {
    const FRAME_HEADER: usize = 16;
    let mut riff = Vec::new();
    // Start of the frame whose parts are being written.
    let mut frame = None;
    for (name, body) in chunks(bytes, &WEBP, 8, 0) {
        if !matches!(name, b"VP8 " | b"VP8L" | b"ALPH" | b"what") {
            close(&mut riff, frame.take());
        }
        let start = riff.len();
        riff.extend([name, &[0; 4], body].concat());
        if name == b"ANMF" {
            riff.resize(start + 8 + FRAME_HEADER, 0);
            frame = Some(start);
        } else {
            close(&mut riff, Some(start));
        }
    }
    close(&mut riff, frame);
    let mut webp = b"RIFF\0\0\0\0WEBP".to_vec();
    webp.extend(riff);
    close(&mut webp, Some(0));
    webp
}

/// Writes the length of the chunk that began at `start` and ends here, and its padding.
fn close(bytes: &mut Vec<u8>, start: Option<usize>) {
    if let Some(start) = start {
        let len = bytes.len() - start - 8;
        bytes[start + 4..start + 8]
            .copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
        bytes.resize(bytes.len() + len % 2, 0);
    }
}
