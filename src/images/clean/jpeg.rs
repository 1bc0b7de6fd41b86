//! JPEG: which segments stay, by ITU-T T.81, JFIF 1.02 and Adobe Technical Note 5116.
//!
//! Tables, frame, scans and their data are copied as they are. Of the application segments only those
//! stay by which decoders choose colours and orientation: JFIF, Adobe, the ICC profile, and of Exif the
//! orientation alone. Decoders look at them up to the first scan, so none stays behind it. What follows
//! the end of the image goes, and with it the further images of multi-picture files: of an HDR
//! photograph the base image stays, which is what a viewer without HDR shows.

use std::borrow::Cow;
use std::ops::Range;

use super::exif::{FirstOrientation, TIFF_LEN};
use super::output::Output;
use crate::images::format::FormatError;
use crate::images::format::jpeg::{EOI, Marker, SOS, skip_entropy_coded};
use crate::images::format::reader::Reader;
use crate::model::image::Format;

const JFIF: &[u8] = b"JFIF\0";
/// Up to the size of the thumbnail, which is zero by zero in ours.
const JFIF_LEN: usize = 14;
const ADOBE: &[u8] = b"Adobe";
/// The last byte says how colours are transformed.
const ADOBE_LEN: usize = 12;
const EXIF: &[u8; 6] = b"Exif\0\0";
/// What comes before the bytes of a profile, with its part and their number.
const ICC: &[u8] = b"ICC_PROFILE\0";
const ICC_HEAD_LEN: usize = 14;

/// Copies what makes the picture, up to the end of the image.
pub(super) fn clean(bytes: &[u8]) -> Result<Cow<'_, [u8]>, FormatError> {
    let mut reader = Reader::new(Format::Jpeg, bytes);
    reader.take(2, "start of image")?;
    let mut walk = Walk {
        output: Output::new(bytes),
        orientation: FirstOrientation::default(),
        jfif: false,
        colour_transform: None,
        scanned: false,
    };
    walk.output.keep(0..reader.offset());
    loop {
        let marker = Marker::read(&mut reader)?;
        if marker.code == EOI {
            walk.output.keep(marker.offset..reader.offset());
            return Ok(walk.output.finish());
        }
        let body = marker.segment(&mut reader)?.rest();
        if marker.code == SOS {
            walk.scanned = true;
            skip_entropy_coded(&mut reader)?;
        }
        let whole = marker.offset..reader.offset();
        match marker.code {
            0xe0..=0xef | 0xfe if walk.scanned => {}
            0xe0 if body.starts_with(JFIF) => walk.jfif(whole, body),
            0xe1 if body.starts_with(EXIF) => walk.exif(whole, body),
            0xe2 if body.starts_with(ICC) && body.len() > ICC_HEAD_LEN => walk.output.keep(whole),
            0xee if body.starts_with(ADOBE) => walk.adobe(whole, body),
            0xe0..=0xef | 0xfe => {}
            _ => walk.output.keep(whole),
        }
    }
}

struct Walk<'a> {
    output: Output<'a>,
    orientation: FirstOrientation,
    /// A JFIF segment has been kept.
    jfif: bool,
    /// By the last Adobe segment that was kept.
    colour_transform: Option<u8>,
    scanned: bool,
}

impl Walk<'_> {
    /// Keeps the first, for what it says of colours and pixel density, without its thumbnail.
    fn jfif(&mut self, whole: Range<usize>, body: &[u8]) {
        // A shorter one is none to decoders.
        let Some(mut head) = body.first_chunk::<JFIF_LEN>().copied() else {
            return;
        };
        let [.., across, down] = &mut head;
        (*across, *down) = (0, 0);
        if !self.jfif {
            self.keep_or_write(whole, body, *b"\xff\xe0\0\x10", &head);
        }
        self.jfif = true;
    }

    /// Keeps one that changes the colour transform: some decoders go by the first, some by the last.
    fn adobe(&mut self, whole: Range<usize>, body: &[u8]) {
        let Some(head) = body.first_chunk::<ADOBE_LEN>() else {
            return;
        };
        let transform = head.last().copied();
        if self.colour_transform != transform {
            self.keep_or_write(whole, body, *b"\xff\xee\0\x0e", head);
        }
        self.colour_transform = transform;
    }

    fn exif(&mut self, whole: Range<usize>, body: &[u8]) {
        let tiff = body.get(EXIF.len()..).unwrap_or_default();
        let Some(tiff) = self.orientation.replacement(tiff) else {
            return;
        };
        let mut wanted = [0; EXIF.len() + TIFF_LEN];
        let (head, rest) = wanted.split_at_mut(EXIF.len());
        head.copy_from_slice(EXIF);
        rest.copy_from_slice(&tiff);
        self.keep_or_write(whole, body, *b"\xff\xe1\0\x22", &wanted);
    }

    /// `head` is marker and length for the bytes that are wanted in place of `body`.
    fn keep_or_write(&mut self, whole: Range<usize>, body: &[u8], head: [u8; 4], wanted: &[u8]) {
        if body == wanted {
            self.output.keep(whole);
        } else {
            self.output.write(&head);
            self.output.write(wanted);
        }
    }
}

#[cfg(test)]
mod tests;
