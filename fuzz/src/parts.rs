//! Finds the parts that make the picture, by a walk that is independent of pixtoll's. It also works
//! if a decoder fails, as most do on fuzzed files.
//!
//! The files were accepted before, so nothing is checked here. An index out of bounds is a bug in
//! one of the two walks.

use crate::model::format::Format;

type Parts<'a> = Vec<&'a [u8]>;

/// The parts of the picture. `by_order` leaves out the names of a JPEG's components.
pub(crate) fn of(bytes: &[u8], format: Format, by_order: bool) -> Parts<'_> {
    match format {
        Format::Png => png(bytes),
        Format::Jpeg if by_order => {
            let parts = jpeg(bytes).0;
            parts.iter().flat_map(|part| without_ids(part)).collect()
        }
        Format::Jpeg => jpeg(bytes).0,
        Format::Gif => gif(bytes),
        Format::Webp => webp(bytes),
    }
}

fn png(bytes: &[u8]) -> Parts<'_> {
    // All viewers ignore the palette of a grey image.
    let is_grey = matches!(bytes[25], 0 | 4);
    let mut parts = Vec::new();
    let mut rest = &bytes[8..];
    loop {
        let len = u32::from_be_bytes(rest[..4].try_into().expect("four bytes")) as usize;
        let (chunk, next) = rest.split_at(len + 12);
        match &chunk[4..8] {
            b"PLTE" if is_grey => {}
            b"IHDR" | b"PLTE" | b"IDAT" | b"acTL" | b"fcTL" | b"fdAT" => parts.push(chunk),
            b"IEND" => return parts,
            _ => {}
        }
        rest = next;
    }
}

/// Whether all components of a JPEG have the same name. Cleaning renames them. Decoders that use
/// the names then show another picture than those that use the order.
pub(crate) fn has_equal_ids(jpeg_file: &[u8]) -> bool {
    let parts = jpeg(jpeg_file).0;
    let header = parts.iter().find(|part| is_frame(part));
    header.is_some_and(|part| part[10..].chunks(3).all(|one| one[0] == part[10]))
}

fn is_frame(part: &[u8]) -> bool {
    matches!(part, [0xff, 0xc0..=0xc2, ..])
}

/// Splits frame header and scan headers into pieces without the names of components.
fn without_ids<'a>(part: &'a [u8]) -> Parts<'a> {
    match part {
        _ if is_frame(part) => {
            let components = part[10..].chunks(3).map(|one| &one[1..]);
            std::iter::once(&part[..10]).chain(components).collect()
        }
        [0xff, 0xda, _, _, count, ..] => {
            let end = (5 + 2 * usize::from(*count)).min(part.len());
            let components = part[5..end].chunks(2).map(|one| &one[1..]);
            std::iter::once(&part[..5])
                .chain(components)
                .chain([&part[end..]])
                .collect()
        }
        _ => vec![part],
    }
}

/// Whether metadata stands between the scans of a JPEG or behind the last one.
pub(crate) fn has_late_metadata(jpeg_file: &[u8]) -> bool {
    jpeg(jpeg_file).1
}

fn jpeg(bytes: &[u8]) -> (Parts<'_>, bool) {
    let mut parts = Vec::new();
    let (mut scanned, mut late, mut restarts) = (false, false, false);
    let mut at = 2;
    loop {
        // Fill bytes, and between them the marker.
        while bytes[at + 1] == 0xff {
            at += 1;
        }
        let code = bytes[at + 1];
        if code == 0xd9 {
            return (parts, late);
        }
        let len = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        let end = at + 2 + len;
        if matches!(code, 0xe0..=0xef | 0xfe) {
            late |= scanned;
        } else {
            parts.push(&bytes[at..end]);
        }
        if code == 0xdd {
            restarts = bytes[at + 4..at + 6] != [0, 0];
        }
        at = end;
        if code == 0xda {
            scanned = true;
            let data = &bytes[at..];
            // While they search for the next restart marker, decoders skip markers that are not
            // allowed in an image.
            let is_passed =
                |code: u8| matches!(code, 0 | 0xd0..=0xd7 | 0xff) || (restarts && code < 0xc0);
            let is_end = |pair: &[u8]| pair[0] == 0xff && !is_passed(pair[1]);
            let len = data.windows(2).position(is_end).expect("a scan ends");
            at += len;
            // Fill bytes at its end belong to the marker that follows.
            let fill = data[..len]
                .iter()
                .rev()
                .take_while(|byte| **byte == 0xff)
                .count();
            parts.push(&data[..len - fill]);
        }
    }
}

fn gif(bytes: &[u8]) -> Parts<'_> {
    let table = |flags: u8| if flags < 0x80 { 0 } else { 6 << (flags & 7) };
    let sub_blocks = |mut at: usize| {
        while bytes[at] != 0 {
            at += 1 + usize::from(bytes[at]);
        }
        at + 1
    };
    let mut at = 13 + table(bytes[10]);
    let mut parts = vec![&bytes[..at]];
    loop {
        let (end, stays) = match (bytes[at], bytes[at + 1..].first()) {
            (b';', _) => {
                // Controls without a following frame have no effect.
                let controls = parts.iter().rev().take_while(|part| part[0] == b'!');
                parts.truncate(parts.len() - controls.count());
                return parts;
            }
            (b'!', label) => (sub_blocks(at + 2), label == Some(&0xf9)),
            _ => (sub_blocks(at + 11 + table(bytes[at + 9])), true),
        };
        if stays {
            parts.push(&bytes[at..end]);
        }
        at = end;
    }
}

fn webp(bytes: &[u8]) -> Parts<'_> {
    const ANIMATED: u8 = 0x02;
    const ALPHA: u8 = 0x10;
    // Readers of the simple form read only its first chunk.
    let extended = &bytes[12..16] == b"VP8X";
    let animated = extended && bytes[20] & ANIMATED != 0;
    let len = u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes")) as usize;
    let mut parts = Vec::new();
    let mut stack = vec![(&bytes[12..len + 8], false)];
    while let Some((rest, in_frame)) = stack.pop() {
        if rest.is_empty() {
            continue;
        }
        let len = u32::from_le_bytes(rest[4..8].try_into().expect("four bytes")) as usize;
        let (chunk, next) = rest.split_at(8 + len + len % 2);
        stack.push((next, in_frame));
        match &chunk[..4] {
            // Cleaning changes the flags, so only the bytes behind them are compared.
            b"VP8X" => parts.push(&chunk[12..]),
            b"ANMF" if animated => {
                // Cleaning changes its length too.
                parts.push(&chunk[8..24]);
                stack.push((&chunk[24..8 + len], true));
            }
            b"ANIM" if animated && !in_frame => parts.push(chunk),
            // In a still image, it needs its flag.
            b"ALPH" if extended && !animated && bytes[20] & ALPHA == 0 => {}
            // Cleaning sets padding to zero.
            b"VP8 " | b"VP8L" | b"ALPH" => parts.push(&chunk[..8 + len]),
            _ => {}
        }
    }
    parts
}

/// Whether a lossy frame of an animation has another size than its header says. Cleaning corrects
/// the header, because most readers use the size of the image.
pub(crate) fn has_other_frame_sizes(webp_file: &[u8]) -> bool {
    let is_other = |(name, frame): (&[u8], &[u8])| {
        let said = frame.get(6..12).filter(|_| name == b"ANMF");
        let images =
            chunks(frame.get(16..).unwrap_or_default()).filter(|(name, _)| name == b"VP8 ");
        let side = |bytes: &[u8]| u32::from(u16::from_le_bytes([bytes[0], bytes[1] & 0x3f]));
        let sizes =
            |(_, image): (&[u8], &[u8])| image.get(6..10).map(|at| (side(at), side(&at[2..])));
        said.is_some_and(|at| {
            let said = |at: &[u8]| u32::from_le_bytes([at[0], at[1], at[2], 0]) + 1;
            let said = (said(at), said(&at[3..]));
            images.filter_map(sizes).any(|size| size != said)
        })
    };
    chunks(webp_file.get(12..).unwrap_or_default()).any(is_other)
}

/// The names and bodies of chunks, up to one that is cut.
fn chunks(mut rest: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let len = u32::from_le_bytes(rest.get(4..8)?.try_into().ok()?) as usize;
        let chunk = (&rest[..4], rest.get(8..8 + len)?);
        rest = rest.get(8 + len + len % 2..).unwrap_or_default();
        Some(chunk)
    })
}
