//! Cleans PNG and APNG files, by PNG (Third Edition), <https://www.w3.org/TR/png-3/>, and as
//! browsers read them.
//!
//! Wrong checksums of removed chunks are ignored. Orientation in `eXIf` stays at its place:
//! browsers apply it if it precedes the image data, some libraries also behind it. Orientation in a
//! compressed text chunk of `ImageMagick` ("Raw profile type exif") is not read and is removed.

use std::ops::Range;

use super::exif::{self, Exif};
use super::output::Output;
use super::{Cleaned, icc, kinds};
use crate::images::format::FormatError;
use crate::images::format::crc32::crc32;
use crate::images::format::limits::MAX_INFLATED;
use crate::images::format::png::SIGNATURE;
use crate::model::metadata::{Kind, Kinds};

mod animation;
mod chunks;

use animation::Animation;
use chunks::{Chunk, Chunks};

/// The colour type of images with a palette.
const PALETTE: u8 = 3;
/// One byte for each colour of the largest palette.
const MAX_TRANSPARENCY: usize = 256;
/// The last of the four rendering intents of `sRGB`.
const LAST_INTENT: u8 = 3;
/// The bit that is set in the colour types other than grey.
const COLOUR: u8 = 2;

/// Copies the chunks that make the picture, up to `IEND`.
pub(super) fn clean(bytes: &[u8]) -> Result<Cleaned<'_>, FormatError> {
    let chunks = Chunks::read(bytes)?;
    let header = Header::of(&chunks.list);
    let animation = Animation::of(&chunks.list, header.size);
    let profile = Profile::of(&chunks.list);
    let mut walk = Walk {
        output: Output::new(bytes),
        removed: Kinds::default(),
        header,
        seen: Vec::new(),
        has_palette: false,
        has_profile: !matches!(profile, Profile::None),
        profile,
        has_data: false,
        orientation: 1,
    };
    walk.output.keep(0..SIGNATURE.len());
    for (number, chunk) in chunks.list.iter().enumerate() {
        match &chunk.kind {
            b"acTL" | b"fcTL" | b"fdAT" => walk.animation(&animation, number, chunk),
            _ => walk.chunk(chunk),
        }
    }
    match &chunks.end {
        Some(end) => walk.output.keep(end.clone()),
        None => walk.output.write(b"\0\0\0\0IEND\xae\x42\x60\x82"),
    }
    if chunks.has_trailing {
        walk.removed.add(Kind::Trailing);
    }
    let orientation = walk.orientation;
    Ok(Cleaned {
        is_open: chunks.end.is_none(),
        ..walk.output.cleaned(walk.removed, orientation)
    })
}

/// The fields by which later chunks are judged.
#[derive(Default)]
struct Header {
    size: (u32, u32),
    depth: u8,
    colour_type: u8,
}

impl Header {
    fn of(chunks: &[Chunk<'_>]) -> Self {
        let body = chunks.first().map_or(&[][..], |chunk| chunk.body);
        let Some(([w3, w2, w1, w0, h3, h2, h1, h0, depth, colour_type], _)) =
            body.split_first_chunk::<10>()
        else {
            return Self::default();
        };
        Self {
            size: (
                u32::from_be_bytes([*w3, *w2, *w1, *w0]),
                u32::from_be_bytes([*h3, *h2, *h1, *h0]),
            ),
            depth: *depth,
            colour_type: *colour_type,
        }
    }

    /// Whether decoders accept these significant bits: one number for each channel, not above its
    /// depth.
    fn significant_bits_fit(&self, numbers: &[u8]) -> bool {
        let channels = match self.colour_type {
            0 => 1,
            4 => 2,
            6 => 4,
            _ => 3,
        };
        let depth = match self.colour_type {
            PALETTE => 8,
            _ => self.depth,
        };
        numbers.len() == channels && numbers.iter().all(|bits| (1..=depth).contains(bits))
    }
}

/// How the colour profile is treated. Viewers prefer it to `sRGB`.
enum Profile {
    Kept,
    Rewritten(Vec<u8>),
    None,
}

impl Profile {
    /// The first profile counts, if it precedes the image data and its checksum is right.
    fn of(chunks: &[Chunk<'_>]) -> Self {
        let before_data = chunks.iter().take_while(|chunk| &chunk.kind != b"IDAT");
        let mut profiles = before_data.filter(|chunk| &chunk.kind == b"iCCP" && chunk.is_sound);
        let Some(chunk) = profiles.next() else {
            return Self::None;
        };
        match icc::png::clean_chunk(chunk.body, MAX_INFLATED) {
            icc::png::Chunk::Unchanged => Self::Kept,
            icc::png::Chunk::Rewritten(body) => Self::Rewritten(body),
            icc::png::Chunk::Invalid => Self::None,
        }
    }
}

struct Walk<'a> {
    output: Output<'a>,
    removed: Kinds,
    header: Header,
    profile: Profile,
    has_profile: bool,
    has_palette: bool,
    /// The ancillary chunks that were kept or that decided something. Viewers take the first of
    /// several.
    seen: Vec<[u8; 4]>,
    has_data: bool,
    orientation: u8,
}

impl<'a> Walk<'a> {
    fn chunk(&mut self, chunk: &Chunk<'a>) {
        let is_first = !self.seen.contains(&chunk.kind);
        match &chunk.kind {
            b"IHDR" => self.output.keep(chunk.whole.clone()),
            b"IDAT" => {
                self.has_data = true;
                self.keep(chunk);
            }
            b"PLTE" if !self.has_data => self.palette(chunk),
            // Viewers refuse a picture with an unknown critical chunk before the image data, and so
            // does the probe.
            [b'A'..=b'Z', ..] if !self.has_data => self.output.keep(chunk.whole.clone()),
            // Viewers ignore an ancillary chunk with a wrong checksum.
            b"eXIf" if is_first && chunk.is_sound => self.exif(chunk),
            b"iCCP" if is_first && chunk.is_sound => self.profile(chunk),
            b"tRNS" if is_first && chunk.is_sound && !self.has_data => self.transparency(chunk),
            _ if is_first && chunk.is_sound && self.stays(chunk) => {
                self.seen.push(chunk.kind);
                self.output.keep(chunk.whole.clone());
            }
            _ => self.removed.join(kinds_of(chunk)),
        }
    }

    /// Keeps a chunk of image data, with the right length and checksum.
    fn keep(&mut self, chunk: &Chunk<'a>) {
        if chunk.is_sound {
            self.output.keep(chunk.whole.clone());
        } else {
            self.removed.add(Kind::Damage);
            self.write(chunk.kind, chunk.body);
        }
    }

    fn write(&mut self, kind: [u8; 4], body: &[u8]) {
        let len = u32::try_from(body.len()).unwrap_or_default();
        let crc = crc32([&kind, body]);
        self.output.write(&len.to_be_bytes());
        self.output.write(&kind);
        self.output.write(body);
        self.output.write(&crc.to_be_bytes());
    }

    fn animation(&mut self, animation: &Animation, number: usize, chunk: &Chunk<'a>) {
        match chunk.kind {
            _ if !animation.keeps(number) => self.removed.add(Kind::Damage),
            kind if &kind == b"acTL" => {
                let mut body = chunk.body.to_vec();
                for (place, byte) in body.iter_mut().zip(animation.frames().to_be_bytes()) {
                    *place = byte;
                }
                if body == chunk.body {
                    self.keep(chunk);
                } else {
                    self.removed.add(Kind::Damage);
                    self.write(kind, &body);
                }
            }
            // A frame control that is damaged stays as it is, and the probe refuses it.
            kind if &kind == b"fcTL" => self.output.keep(chunk.whole.clone()),
            _ => self.keep(chunk),
        }
    }

    fn exif(&mut self, chunk: &Chunk<'a>) {
        self.seen.push(chunk.kind);
        let exif = Exif::read(chunk.body, self.header.size);
        let exif = exif.map(Exif::orientation_alone);
        self.orientation = match &exif {
            Some(exif) if !self.has_data => exif.orientation(),
            _ => 1,
        };
        match exif.and_then(|exif| exif.to_tiff()) {
            Some(tiff) if tiff == chunk.body => self.output.keep(chunk.whole.clone()),
            wanted => {
                if let Some(tiff) = wanted {
                    self.write(chunk.kind, &tiff);
                }
                self.removed.join(exif::kinds::of(chunk.body));
            }
        }
    }

    fn profile(&mut self, chunk: &Chunk<'a>) {
        self.seen.push(chunk.kind);
        // Viewers ignore profiles behind the image data.
        match std::mem::replace(&mut self.profile, Profile::None) {
            Profile::Kept if !self.has_data => {
                self.output.keep(chunk.whole.clone());
                return;
            }
            Profile::Rewritten(body) if !self.has_data => self.write(chunk.kind, &body),
            _ => {}
        }
        self.removed.add(Kind::Profile);
    }

    /// Viewers ignore the palette of a grey image, and an incomplete colour at its end.
    fn palette(&mut self, chunk: &Chunk<'a>) {
        let is_grey = self.header.colour_type & COLOUR == 0;
        let len = chunk.body.len() / 3;
        if is_grey {
            self.removed.add(Kind::Damage);
        } else if chunk.body.len().is_multiple_of(3) || !chunk.is_sound {
            self.output.keep(chunk.whole.clone());
        } else {
            self.removed.add(Kind::Damage);
            self.write(chunk.kind, chunk.body.get(..len * 3).unwrap_or_default());
        }
        self.has_palette = true;
    }

    /// Keeps as many bytes as browsers read. They ignore further bytes, and a chunk that is too
    /// long for any image.
    fn transparency(&mut self, chunk: &Chunk<'a>) {
        let (least, most) = match self.header.colour_type {
            0 => (2, 2),
            2 => (6, 6),
            // Viewers ignore it before the palette.
            PALETTE if self.has_palette => (1, 256),
            _ => (usize::MAX, 0),
        };
        match chunk.body.get(..chunk.body.len().min(most)) {
            Some(used) if used.len() >= least && chunk.body.len() <= MAX_TRANSPARENCY => {
                self.seen.push(chunk.kind);
                if used == chunk.body {
                    self.output.keep(chunk.whole.clone());
                } else {
                    self.removed.add(Kind::Damage);
                    self.write(chunk.kind, used);
                }
            }
            _ => self.removed.add(Kind::Other),
        }
    }

    /// Whether a chunk changes the picture, and viewers accept its form and its values. A chunk
    /// that they ignore is removed; they use a second chunk if they ignore the first. Suggested
    /// palettes and histograms (`sPLT`, `hIST`) are removed: only displays of 256 colours use them.
    fn stays(&self, chunk: &Chunk<'_>) -> bool {
        let len = chunk.body.len();
        let colour_type = self.header.colour_type;
        let fits = match &chunk.kind {
            b"gAMA" => len == 4 && chunk.body != [0; 4],
            b"cHRM" => len == 32,
            b"sRGB" => matches!(chunk.body, [0..=LAST_INTENT]) && !self.has_profile,
            b"cICP" => matches!(chunk.body, [_, _, 0, 0..=1]),
            // The spelling of drafts, which some encoders used.
            b"mDCV" | b"mDCv" => len == 24,
            b"cLLI" | b"cLLi" => len == 8,
            b"sBIT" => self.header.significant_bits_fit(chunk.body),
            b"bKGD" => match colour_type {
                0 | 4 => len == 2,
                PALETTE => len == 1,
                _ => len == 6,
            },
            b"pHYs" => len == 9,
            _ => false,
        };
        // Viewers ignore these behind a palette. The palette of a grey image is removed, and would
        // no longer keep them from it.
        let is_late =
            self.has_palette && matches!(&chunk.kind, b"cICP" | b"mDCV" | b"mDCv" | b"sBIT");
        fits && !self.has_data && !is_late
    }
}

fn kinds_of(chunk: &Chunk<'_>) -> Kinds {
    let kind = match &chunk.kind {
        b"tEXt" | b"zTXt" | b"iTXt" => {
            let end = chunk.body.iter().position(|byte| *byte == 0);
            let (keyword, text) = chunk.body.split_at(end.unwrap_or(chunk.body.len()));
            return kinds::of_keyword(keyword, text);
        }
        b"eXIf" => return exif::kinds::of(chunk.body),
        b"tIME" => Kind::Date,
        b"caBX" => Kind::C2pa,
        b"iCCP" => Kind::Profile,
        _ => Kind::Other,
    };
    Kinds::from_iter([kind])
}

/// The range of a chunk in the file.
type Whole = Range<usize>;

#[cfg(test)]
mod tests;
