//! Cleans WebP files, by RFC 9649 and as libwebp reads them, which browsers, Pillow and libvips
//! use.
//!
//! Browsers ignore the orientation in the Exif of WebP, but image viewers and libraries apply it.
//! It is kept alone, so that all of them show the same picture as before. The flags that announce
//! features are kept: a chunk without its flag is ignored by all readers, and is removed.

use super::exif::{self, Exif};
use super::output::Output;
use super::{Cleaned, icc, kinds};
use crate::images::format::FormatError;
use crate::images::format::reader::Reader;
use crate::images::format::webp::Chunk;
use crate::model::image::Format;
use crate::model::metadata::{Kind, Kinds};

const PROFILE_FLAG: u8 = 0x20;
const ALPHA_FLAG: u8 = 0x10;
const EXIF_FLAG: u8 = 0x08;
const XMP_FLAG: u8 = 0x04;
const ANIMATION_FLAG: u8 = 0x02;

/// Copies the chunks that make the picture, and updates the lengths.
pub(super) fn clean(bytes: &[u8]) -> Result<Cleaned<'_>, FormatError> {
    let mut reader = Reader::new(Format::Webp, bytes);
    reader.take(4, "RIFF signature")?;
    let len = reader.u32_le("RIFF length")?;
    let mut riff = reader.section(len as usize, "RIFF container")?;
    riff.take(4, "WEBP signature")?;
    let mut walk = Walk {
        output: Output::new(bytes),
        removed: Kinds::default(),
        flags: 0,
        left: 0,
        exif: false,
        image: false,
        controlled: false,
        ends_empty: false,
    };
    walk.output.keep(0..riff.offset());
    let mut first = Chunk::read(&mut riff)?;
    walk.keep(&first);
    // Readers of the simple form stop behind the first image.
    if &first.kind == b"VP8X" {
        let flags_at = first.body.offset();
        walk.flags = first.body.u8("VP8X flags")?;
        let size = canvas(&first);
        while riff.left() > 0 {
            let mut chunk = Chunk::read(&mut riff)?;
            walk.chunk(&mut chunk, size)?;
        }
        if walk.ends_empty {
            return Err(riff.corrupt(format_args!("its last frame is empty")));
        }
        // Flags of removed chunks are cleared; the flags of alpha and animation stay.
        let dropped = (PROFILE_FLAG | EXIF_FLAG | XMP_FLAG) & !walk.left;
        walk.output.patch(flags_at, &[walk.flags & !dropped]);
    } else {
        while riff.left() > 0 {
            let chunk = Chunk::read(&mut riff)?;
            walk.removed.join(kinds_of(&chunk));
        }
    }
    close_chunk(&mut walk.output, 0, &reader)?;
    if reader.left() > 0 {
        walk.removed.add(Kind::Trailing);
    }
    Ok(walk.output.cleaned(walk.removed, 1))
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one fact about the file so far"
)]
struct Walk<'a> {
    output: Output<'a>,
    removed: Kinds,
    /// The flags of `VP8X`.
    flags: u8,
    /// The flags of the chunks that were kept.
    left: u8,
    /// A block of Exif was found: the first one decides.
    exif: bool,
    /// The still image was found.
    image: bool,
    /// The parameters of the animation were found.
    controlled: bool,
    /// The last frame so far is empty.
    ends_empty: bool,
}

impl<'a> Walk<'a> {
    const fn announces(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Keeps a chunk with its padding, which is zero by the specification.
    fn keep(&mut self, chunk: &Chunk<'a>) {
        self.output.keep(chunk.whole.clone());
        if chunk.is_padded {
            self.output.patch(self.output.len() - 1, &[0]);
        }
    }

    /// Handles a chunk behind `VP8X`.
    fn chunk(&mut self, chunk: &mut Chunk<'a>, size: (u32, u32)) -> Result<(), FormatError> {
        let is_animated = self.announces(ANIMATION_FLAG);
        match &chunk.kind {
            b"VP8 " | b"VP8L" if !is_animated => {
                self.image = true;
                self.keep(chunk);
            }
            b"ALPH" if !is_animated && self.announces(ALPHA_FLAG) => self.keep(chunk),
            // Without its flag, all readers show the image opaque.
            b"ALPH" if !is_animated => self.removed.add(Kind::Other),
            b"VP8X" | b"VP8 " | b"VP8L" | b"ALPH" => self.keep(chunk),
            b"ANIM" if is_animated && !self.controlled => {
                self.controlled = true;
                self.animation_control(chunk);
            }
            b"ANMF" if is_animated => self.frame(chunk)?,
            b"ANMF" => self.keep(chunk),
            b"ICCP" if self.is_read(PROFILE_FLAG) && !self.image => self.profile(chunk),
            b"EXIF" if self.is_read(EXIF_FLAG) => self.exif(chunk, size),
            _ => self.removed.join(kinds_of(chunk)),
        }
        Ok(())
    }

    /// Keeps background and repetitions. Readers ignore further bytes.
    fn animation_control(&mut self, chunk: &Chunk<'a>) {
        match chunk.body.rest().split_at_checked(6) {
            Some((used, rest)) if !rest.is_empty() => {
                self.removed.add(Kind::Damage);
                self.write(*b"ANIM", used);
            }
            _ => self.keep(chunk),
        }
    }

    /// Whether a chunk of this kind is announced and is the first one. Readers take the first of
    /// several.
    const fn is_read(&self, flag: u8) -> bool {
        self.announces(flag) && self.left & flag == 0
    }

    fn profile(&mut self, chunk: &Chunk<'a>) {
        match icc::clean_profile(chunk.body.rest()) {
            icc::Profile::Unchanged => {
                self.left |= PROFILE_FLAG;
                self.keep(chunk);
                return;
            }
            icc::Profile::Rewritten(profile) => {
                self.left |= PROFILE_FLAG;
                self.write(*b"ICCP", &profile);
            }
            icc::Profile::Invalid => {}
        }
        self.removed.add(Kind::Profile);
    }

    fn exif(&mut self, chunk: &Chunk<'a>, size: (u32, u32)) {
        let body = chunk.body.rest();
        // Some encoders write the prefix of JPEG, and readers accept it.
        let tiff = body.strip_prefix(b"Exif\0\0").unwrap_or(body);
        let decides = !std::mem::replace(&mut self.exif, true);
        // No reader of WebP applies a display size.
        let exif = Exif::read(tiff, size).filter(|_| decides);
        let wanted = exif.and_then(|exif| exif.orientation_alone().to_tiff());
        if let Some(wanted) = wanted {
            self.left |= EXIF_FLAG;
            if body == wanted {
                self.keep(chunk);
                return;
            }
            self.write(*b"EXIF", &wanted);
        }
        self.removed.join(exif::kinds::of(tiff));
    }

    /// Copies a frame without unknown chunks. Readers take its size from its image.
    fn frame(&mut self, chunk: &mut Chunk<'a>) -> Result<(), FormatError> {
        let (start, head_at) = (self.output.len(), chunk.body.offset());
        chunk.body.take(16, "frame header")?;
        let head = chunk.whole.start..chunk.body.offset();
        let mut parts = Vec::new();
        while chunk.body.left() > 0 {
            parts.push(Chunk::read(&mut chunk.body)?);
        }
        let is_image = |part: &Chunk<'_>| matches!(&part.kind, b"VP8 " | b"VP8L" | b"ALPH");
        let image_at = parts.iter().position(is_image);
        self.ends_empty = parts.is_empty();
        if image_at.is_none() {
            // Readers ignore a frame without an image.
            self.removed.add(Kind::Damage);
            return Ok(());
        }
        if image_at.is_some_and(|at| at > 0) {
            return Err(chunk.corrupt("holds an unknown chunk before its image"));
        }
        self.output.keep(head.clone());
        let mut size = None;
        for part in &mut parts {
            match &part.kind {
                b"VP8 " | b"VP8L" => {
                    self.keep(part);
                    size = Some(part.bitstream_size()?);
                }
                b"ALPH" => self.keep(part),
                _ => self.removed.join(kinds_of(part)),
            }
        }
        if let Some((width, height)) = size {
            let at = start + (head_at - head.start) + 6;
            let [w0, w1, w2, _] = (width - 1).to_le_bytes();
            let [h0, h1, h2, _] = (height - 1).to_le_bytes();
            self.output.patch(at, &[w0, w1, w2, h0, h1, h2]);
        }
        close_chunk(&mut self.output, start, &chunk.body)
    }

    fn write(&mut self, kind: [u8; 4], body: &[u8]) {
        let len = u32::try_from(body.len()).unwrap_or_default();
        self.output.write(&kind);
        self.output.write(&len.to_le_bytes());
        self.output.write(body);
        if !body.len().is_multiple_of(2) {
            self.output.write(&[0]);
        }
    }
}

/// Width and height from `VP8X`.
fn canvas(header: &Chunk<'_>) -> (u32, u32) {
    let side = |at: usize| {
        let bytes = header.body.rest().get(at..).and_then(<[u8]>::first_chunk);
        let [low, middle, high] = bytes.copied().unwrap_or_default();
        u32::from_le_bytes([low, middle, high, 0]) + 1
    };
    (side(3), side(6))
}

fn kinds_of(chunk: &Chunk<'_>) -> Kinds {
    let body = chunk.body.rest();
    match &chunk.kind {
        b"EXIF" => exif::kinds::of(body.strip_prefix(b"Exif\0\0").unwrap_or(body)),
        // ImageMagick 6 and GraphicsMagick end the name with a zero.
        [b'X', b'M', b'P', _] => kinds::of_xmp(body),
        b"C2PA" => Kinds::from_iter([Kind::C2pa]),
        b"ICCP" => Kinds::from_iter([Kind::Profile]),
        _ => Kinds::from_iter([Kind::Other]),
    }
}

/// Writes the length of the chunk that began at `start` and ends here. It needs no padding, because
/// its parts are padded.
fn close_chunk(
    output: &mut Output<'_>,
    start: usize,
    reader: &Reader<'_>,
) -> Result<(), FormatError> {
    let len = output.len().saturating_sub(start + 8);
    let len = u32::try_from(len)
        .map_err(|_| reader.corrupt(format_args!("it has a chunk of more than 4 GiB")))?;
    output.patch(start + 4, &len.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests;
