//! Recognises the format of a file by its bytes and checks its structure. File names and headers
//! are ignored.
//!
//! [`probe`] walks the structure of the container to its end. It checks sides, pixels and frames
//! against their limits before any decoder reads the file. It decodes no pixels. It inflates text
//! and profiles only up to a limit and discards the result, so a decompression bomb costs little
//! more than reading its bytes.
//!
//! The rules are those of PNG (Third Edition, with APNG), ITU-T T.81, `GIF89a` and RFC 9649. Files
//! that break them but are shown by viewers are repaired by [`clean`](super::clean) first. The
//! result must be sound.
//!
//! This module contains no decoder and changes no bytes.

pub(super) mod crc32;
pub mod foreign;
pub(super) mod gif;
mod inflate;
pub(super) mod jpeg;
pub(super) mod png;
pub(super) mod reader;
#[cfg(test)]
pub(super) mod samples;
pub(super) mod webp;

use crate::model::image::Format;
use foreign::Foreign;

/// Limits of every image that are not configurable.
pub mod limits {
    /// The longest side of a canvas or a frame, in pixels.
    pub const MAX_SIDE: u32 = 32_768;
    /// The longest side in WebP, in pixels. libwebp reads nothing larger.
    pub const MAX_WEBP_SIDE: u32 = 16_383;
    /// The most frames of an animation.
    pub const MAX_FRAMES: u32 = 1_000;
    /// The most scans of a JPEG, as in browsers. A decoder visits every block in each scan, so a
    /// few kilobytes of empty scans would keep it busy for minutes. Encoders write 10 to 20 scans.
    pub const MAX_SCANS: u32 = 99;
    /// The most bytes that all compressed text and profiles of a file may inflate to. Profiles of
    /// printers have a few megabytes.
    pub const MAX_INFLATED: usize = 4 << 20;
    /// The most compressed bytes of text and profiles in a file. From an ordinary encoder, this
    /// many inflate to more than [`MAX_INFLATED`]. An attacker's may consist of blocks without
    /// content, which take a tenth of a second per megabyte to read.
    pub const MAX_DEFLATED: usize = 2 << 20;
}

/// The configurable limits on pixels. They bound the time and the memory of decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelLimits {
    /// The most pixels of the canvas and of each frame. The limit is half of it for WebP, whose
    /// decoder holds a whole frame.
    pub max_pixels: u64,
    /// The most pixels of all frames together.
    pub max_total_pixels: u64,
}

impl Default for PixelLimits {
    fn default() -> Self {
        Self {
            max_pixels: 100_000_000,
            max_total_pixels: 300_000_000,
        }
    }
}

/// What the container says about the image. Its whole structure was found sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The format of the bytes.
    pub format: Format,
    /// Width of the canvas in pixels as stored, before any Exif orientation is applied.
    pub width: u32,
    /// Height of the canvas in pixels as stored, before any Exif orientation is applied.
    pub height: u32,
    /// Pixels of all frames together, including frames that are decoded but not shown.
    pub total_pixels: u64,
    /// Number of frames that are shown; 1 for a still image.
    pub frames: u32,
}

/// Why bytes are not accepted as an image. The messages are written for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The file has no bytes.
    #[error("The file is empty (0 bytes). Send the bytes of a PNG, JPEG, GIF or WebP image.")]
    Empty,
    /// The first bytes are not those of an accepted format, such as SVG, HTML, PDF or a cut
    /// signature.
    #[error("{0}")]
    Unsupported(Foreign),
    /// The file begins like an image but breaks a rule of the format, or uses a part of the format
    /// that browsers don't support.
    #[error(
        "The {format} image is corrupt: {what}. Open it in an image program, save it as a new file and send that."
    )]
    Corrupt {
        /// The format that the first bytes announce.
        format: Format,
        /// What is wrong, and at which byte: a sentence without its full stop.
        what: String,
    },
    /// The canvas or a frame has more pixels than [`PixelLimits::max_pixels`].
    #[error(
        "The image is {width} by {height} pixels, {pixels} in all, but one frame of {format} may have at most {limit} \
         (images.max_pixels). Send a smaller image."
    )]
    TooManyPixels {
        /// The format of the image.
        format: Format,
        /// Width of the canvas or the frame, in pixels.
        width: u32,
        /// Height of the canvas or the frame, in pixels.
        height: u32,
        /// Width times height.
        pixels: u64,
        /// The limit, in pixels.
        limit: u64,
    },
    /// All frames together have more pixels than [`PixelLimits::max_total_pixels`].
    #[error(
        "The first {frames} frames of the image have {pixels} pixels together, but at most {limit} are accepted \
         (images.max_total_pixels). Send an animation with fewer or smaller frames."
    )]
    TooManyTotalPixels {
        /// Number of frames up to the one that exceeded the limit.
        frames: u32,
        /// The number of pixels of these frames together.
        pixels: u64,
        /// The limit, in pixels.
        limit: u64,
    },
    /// A side of the canvas or of a frame is longer than [`limits::MAX_SIDE`], in WebP [`limits::MAX_WEBP_SIDE`].
    #[error(
        "The image is {width} by {height} pixels, but a side may have at most {limit} pixels. Send a smaller image."
    )]
    SideTooLong {
        /// Width of the canvas, or the right edge of the frame, in pixels.
        width: u32,
        /// Height of the canvas, or the lower edge of the frame, in pixels.
        height: u32,
        /// The limit, in pixels.
        limit: u32,
    },
    /// The animation has more frames than [`limits::MAX_FRAMES`].
    #[error(
        "The image has {frames} frames or more, but at most {limit} are accepted. Send an animation with fewer frames."
    )]
    TooManyFrames {
        /// Number of frames that the file announces, or the number at which counting stopped.
        frames: u32,
        /// The limit, in frames.
        limit: u32,
    },
    /// Decoding the image takes more work than is allowed for a file of its length.
    #[error(
        "The image takes too long to decode: the limit for a file of this length is about {seconds} seconds of one processor. \
         Send a smaller image, or save it again with another program."
    )]
    TooSlow {
        /// The time limit in seconds, on the machine on which the limit was measured.
        seconds: u64,
    },
}

/// Recognises the format by the first bytes.
///
/// # Errors
/// [`FormatError::Empty`] and [`FormatError::Unsupported`].
pub fn format_of(bytes: &[u8]) -> Result<Format, FormatError> {
    if bytes.is_empty() {
        return Err(FormatError::Empty);
    }
    format_by_magic(bytes).ok_or_else(|| FormatError::Unsupported(foreign::recognise(bytes)))
}

/// Recognises the format, checks the container to its end, and returns its dimensions.
///
/// # Errors
/// [`FormatError`] says what is wrong and what to send instead.
pub fn probe(bytes: &[u8], limits: PixelLimits) -> Result<Probe, FormatError> {
    let tally = |format| Tally::new(format, limits);
    match format_of(bytes)? {
        format @ Format::Png => png::probe(bytes, tally(format)),
        format @ Format::Jpeg => jpeg::probe(bytes, tally(format)),
        format @ Format::Gif => gif::probe(bytes, tally(format)),
        format @ Format::Webp => webp::probe(bytes, tally(format)),
    }
}

fn format_by_magic(bytes: &[u8]) -> Option<Format> {
    if bytes.starts_with(png::SIGNATURE) {
        return Some(Format::Png);
    }
    if bytes.starts_with(jpeg::SIGNATURE) {
        return Some(Format::Jpeg);
    }
    if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        return Some(Format::Gif);
    }
    // Four bytes of length stand between the two names. A RIFF file may also be sound or video.
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Some(Format::Webp);
    }
    None
}

/// Counts frames and pixels while a container is walked, and returns an error at the first one
/// above a limit.
struct Tally {
    format: Format,
    limits: PixelLimits,
    width: u32,
    height: u32,
    frames: u32,
    pixels: u64,
}

impl Tally {
    const fn new(format: Format, limits: PixelLimits) -> Self {
        Self {
            format,
            limits,
            width: 0,
            height: 0,
            frames: 0,
            pixels: 0,
        }
    }

    /// Sets the size of the canvas. A viewer allocates it even if the frames are small.
    fn canvas(&mut self, width: u32, height: u32) -> Result<(), FormatError> {
        (self.width, self.height) = (width, height);
        self.check_size(width, height)
    }

    /// Counts a frame that is shown.
    fn add_frame(&mut self, width: u32, height: u32) -> Result<(), FormatError> {
        self.frames = self.frames.saturating_add(1);
        check_frames(self.frames)?;
        self.add_pixels(width, height)
    }

    /// Counts pixels that must be decoded but do not belong to a frame that is shown.
    fn add_pixels(&mut self, width: u32, height: u32) -> Result<(), FormatError> {
        self.check_size(width, height)?;
        let area = u64::from(width).saturating_mul(u64::from(height));
        self.pixels = self.pixels.saturating_add(area);
        let (frames, pixels, limit) = (self.frames, self.pixels, self.limits.max_total_pixels);
        if pixels > limit {
            return Err(FormatError::TooManyTotalPixels {
                frames,
                pixels,
                limit,
            });
        }
        Ok(())
    }

    fn check_size(&self, width: u32, height: u32) -> Result<(), FormatError> {
        let (limit, most_pixels) = match self.format {
            Format::Webp => (limits::MAX_WEBP_SIDE, self.limits.max_pixels / 2),
            Format::Png | Format::Jpeg | Format::Gif => (limits::MAX_SIDE, self.limits.max_pixels),
        };
        if width.max(height) > limit {
            return Err(FormatError::SideTooLong {
                width,
                height,
                limit,
            });
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels > most_pixels {
            return Err(FormatError::TooManyPixels {
                format: self.format,
                width,
                height,
                pixels,
                limit: most_pixels,
            });
        }
        Ok(())
    }

    /// The result, once the whole file was walked.
    const fn probe(&self) -> Probe {
        Probe {
            format: self.format,
            width: self.width,
            height: self.height,
            total_pixels: self.pixels,
            frames: self.frames,
        }
    }
}

/// Rejects a number of frames above the limit, whether counted or only announced.
fn check_frames(frames: u32) -> Result<(), FormatError> {
    let limit = limits::MAX_FRAMES;
    if frames > limit {
        return Err(FormatError::TooManyFrames { frames, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::samples::probe;
    use super::*;

    #[test]
    fn a_file_without_bytes_is_empty() {
        assert_eq!(probe(b""), Err(FormatError::Empty));
    }

    #[test]
    fn other_formats_are_unsupported_even_if_they_look_similar() {
        let others: [&[u8]; 14] = [
            b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
            b"<?xml version=\"1.0\"?><svg/>",
            b"<!doctype html><img src=a.png>",
            b"%PDF-1.7\n",
            b"BM\x3a\0\0\0\0\0\0\0",
            b"II*\0\x08\0\0\0",
            b"MM\0*\0\0\0\x08",
            b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf",
            b"PK\x03\x04\x14\0\0\0",
            b"\0\0\x01\0\x01\0\x10\x10",
            b"\xff\x0a\xfa\x1f",
            b"RIFF\x24\0\0\0WAVEfmt ",
            b"GIF88a\x01\0\x01\0\0\0\0",
            b"\x8aMNG\r\n\x1a\n",
        ];
        for other in others {
            assert!(
                matches!(probe(other), Err(FormatError::Unsupported(_))),
                "{}",
                other.escape_ascii()
            );
        }
    }

    #[test]
    fn a_cut_signature_is_unsupported() {
        for whole in [
            png::SIGNATURE,
            jpeg::SIGNATURE,
            b"GIF87a",
            b"GIF89a",
            b"RIFF\x04\0\0\0WEBP",
        ] {
            for end in 1..whole.len() {
                let refused = Err(FormatError::Unsupported(foreign::recognise(&whole[..end])));
                assert_eq!(probe(&whole[..end]), refused);
            }
            assert!(matches!(probe(whole), Err(FormatError::Corrupt { .. })));
        }
    }

    #[test]
    fn every_sample_is_recognised_whatever_follows_its_end() {
        for (name, format, mut bytes) in samples::all() {
            let alone = probe(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(alone.format, format, "{name}");
            bytes.extend_from_slice(b"PK\x03\x04<script>alert(1)</script>\xff\xd8\xff");
            assert_eq!(probe(&bytes), Ok(alone), "{name}");
        }
    }

    #[test]
    fn every_truncation_of_every_sample_is_refused() {
        for (name, _, bytes) in samples::all() {
            for end in 0..bytes.len() {
                assert!(
                    probe(&bytes[..end]).is_err(),
                    "{name} cut at {end} was accepted"
                );
            }
        }
    }

    #[test]
    fn messages_name_the_value_and_the_limit() {
        let messages = [
            probe(&samples::png(65_535, 65_535))
                .unwrap_err()
                .to_string(),
            probe(&samples::png(10_000, 10_001))
                .unwrap_err()
                .to_string(),
            probe(&samples::gif(1, 1, 1_001)).unwrap_err().to_string(),
            probe(&samples::png(1, 1)[..40]).unwrap_err().to_string(),
        ];
        assert_eq!(
            messages,
            [
                "The image is 65535 by 65535 pixels, but a side may have at most 32768 pixels. Send a smaller image.",
                "The image is 10000 by 10001 pixels, 100010000 in all, but one frame of PNG may have at most 100000000 \
                 (images.max_pixels). Send a smaller image.",
                "The image has 1001 frames or more, but at most 1000 are accepted. Send an animation with fewer frames.",
                "The PNG image is corrupt: the chunk type at byte 37 needs 4 bytes and 3 are \
                 left. Open it in an image program, save it as a new file and send that.",
            ]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn random_bytes_after_a_signature_never_panic(
            start in 0_usize..4,
            noise in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let starts: [&[u8]; 4] =
                [png::SIGNATURE, jpeg::SIGNATURE, b"GIF89a", b"RIFF\x40\0\0\0WEBPVP8X"];
            drop(probe(&noise));
            drop(probe(&[starts[start], &noise].concat()));
        }

        #[test]
        fn a_changed_byte_never_panics_and_never_breaks_a_limit(
            which in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            value in any::<u8>(),
        ) {
            let samples = samples::all();
            let (_, _, mut bytes) = samples[which.index(samples.len())].clone();
            let at = at.index(bytes.len());
            bytes[at] = value;
            if let Ok(probe) = probe(&bytes) {
                prop_assert!(probe.width.max(probe.height) <= limits::MAX_SIDE);
                prop_assert!(probe.width.min(probe.height) >= 1);
                prop_assert!((1..=limits::MAX_FRAMES).contains(&probe.frames));
                let area = u64::from(probe.width) * u64::from(probe.height);
                prop_assert!(area <= PixelLimits::default().max_pixels);
            }
        }
    }
}
