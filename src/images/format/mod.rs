//! What an image is, told by its bytes alone: never by a name, never by a header.
//!
//! [`probe`] walks the container's structure to its end. It decodes no pixel, inflates text and profiles
//! only as far as they may go, and throws away what comes out, so a bomb costs no more than its own
//! bytes; and it bounds sides, pixels and frames from the container's headers before any decoder sees
//! the file.
//! What follows the end of the container is allowed here and cut by cleaning.
//!
//! The formats are read by PNG (Third Edition, with APNG), ITU-T T.81, `GIF89a` and RFC 9649. Where
//! decoders disagree about a file, or would have to repair it, it is refused as corrupt: the
//! uploader can save it again, a visitor can't.
//!
//! No decoder belongs here, and nothing that changes bytes.

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

/// The bounds on every image, whatever tier pays for it: they protect the decoder's memory.
pub mod limits {
    /// The longest side of a canvas or a frame, in pixels.
    pub const MAX_SIDE: u32 = 16_384;
    /// The most pixels in all frames together, and on the canvas.
    pub const MAX_PIXELS: u64 = 50_000_000;
    /// The most frames of an animation.
    pub const MAX_FRAMES: u32 = 1_000;
    /// The most scans of a JPEG. A decoder visits every block again for each scan, so that a few
    /// kilobytes of empty scans would keep it busy for minutes; encoders write 10 to 20.
    pub const MAX_SCANS: u32 = 100;
    /// The most bytes that all compressed text and profiles of a file inflate to.
    pub const MAX_INFLATED: usize = 1 << 20;
    /// The most bytes that they have before. An encoder's streams of so many are larger than
    /// [`MAX_INFLATED`] inside; those of an attacker may hold blocks without content, which cost a
    /// tenth of a second a megabyte to find out.
    pub const MAX_DEFLATED: usize = 1 << 19;
}

/// What the container says of itself, once its whole structure has been found sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The format of the bytes.
    pub format: Format,
    /// Width of the canvas in pixels as stored, before any Exif orientation is applied.
    pub width: u32,
    /// Height of the canvas in pixels as stored, before any Exif orientation is applied.
    pub height: u32,
    /// Frames that are shown: 1 for a still image.
    pub frames: u32,
}

/// Why bytes are not accepted as an image; the messages are fit for the sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// There are no bytes at all.
    #[error("The file is empty.")]
    Empty,
    /// The bytes begin like none of the formats: SVG, HTML, PDF, a cut signature.
    #[error("{0}")]
    Unsupported(Foreign),
    /// The bytes begin like an image and don't go on like one, or use a part of the format that
    /// browsers can't show.
    #[error("The {format} image is corrupt: {what}.")]
    Corrupt {
        /// The format that the first bytes announced.
        format: Format,
        /// What is wrong and at which byte: a sentence without its full stop.
        what: String,
    },
    /// The canvas, or all frames together, hold more pixels than [`limits::MAX_PIXELS`].
    #[error(
        "The image is {width} by {height} and its frames have {frames_pixels} pixels or more; \
         at most {limit} are accepted."
    )]
    TooManyPixels {
        /// Width of the canvas.
        width: u32,
        /// Height of the canvas.
        height: u32,
        /// Pixels counted up to the frame that was one too many.
        frames_pixels: u64,
        /// The limit that was exceeded.
        limit: u64,
    },
    /// A side of the canvas or of a frame is longer than [`limits::MAX_SIDE`].
    #[error("The image is {width} by {height} pixels; a side may have at most {limit}.")]
    SideTooLong {
        /// Width of the canvas, or the right edge of the offending frame.
        width: u32,
        /// Height of the canvas, or the lower edge of the offending frame.
        height: u32,
        /// The limit that was exceeded.
        limit: u32,
    },
    /// The animation has more frames than [`limits::MAX_FRAMES`].
    #[error("The image has {frames} frames or more; at most {limit} are accepted.")]
    TooManyFrames {
        /// Frames announced by the file, or counted up to the one too many.
        frames: u32,
        /// The limit that was exceeded.
        limit: u32,
    },
}

/// Tells the format of the bytes, checks the container to its end and returns its dimensions.
pub fn probe(bytes: &[u8]) -> Result<Probe, FormatError> {
    if bytes.is_empty() {
        return Err(FormatError::Empty);
    }
    match format_by_magic(bytes) {
        Some(Format::Png) => png::probe(bytes),
        Some(Format::Jpeg) => jpeg::probe(bytes),
        Some(Format::Gif) => gif::probe(bytes),
        Some(Format::Webp) => webp::probe(bytes),
        None => Err(FormatError::Unsupported(foreign::recognise(bytes))),
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
    // Between the two names are four bytes of length; a RIFF file can also be sound or video.
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Some(Format::Webp);
    }
    None
}

/// Counts frames and pixels as a walker meets them, and stops it at the first excess.
struct Tally {
    width: u32,
    height: u32,
    frames: u32,
    pixels: u64,
}

impl Tally {
    /// Starts with a canvas, which a decoder allocates even where the frames are small.
    fn on_canvas(width: u32, height: u32) -> Result<Self, FormatError> {
        let mut tally = Self {
            width: 0,
            height: 0,
            frames: 0,
            pixels: 0,
        };
        tally.reach(width, height)?;
        Ok(tally)
    }

    /// Grows the canvas to this lower right corner; decoders do so for frames that stick out.
    fn reach(&mut self, right: u32, bottom: u32) -> Result<(), FormatError> {
        self.width = self.width.max(right);
        self.height = self.height.max(bottom);
        if self.width.max(self.height) > limits::MAX_SIDE {
            let limit = limits::MAX_SIDE;
            return Err(FormatError::SideTooLong {
                width: self.width,
                height: self.height,
                limit,
            });
        }
        self.check_pixels(u64::from(self.width) * u64::from(self.height))
    }

    /// Counts a frame that is shown.
    fn add_frame(&mut self, width: u32, height: u32) -> Result<(), FormatError> {
        self.frames = self.frames.saturating_add(1);
        check_frames(self.frames)?;
        self.add_pixels(width, height)
    }

    /// Counts pixels that have to be decoded and are no frame of their own.
    fn add_pixels(&mut self, width: u32, height: u32) -> Result<(), FormatError> {
        let area = u64::from(width).saturating_mul(u64::from(height));
        self.pixels = self.pixels.saturating_add(area);
        self.check_pixels(self.pixels)
    }

    fn check_pixels(&self, frames_pixels: u64) -> Result<(), FormatError> {
        let limit = limits::MAX_PIXELS;
        if frames_pixels > limit {
            let Self { width, height, .. } = *self;
            return Err(FormatError::TooManyPixels {
                width,
                height,
                frames_pixels,
                limit,
            });
        }
        Ok(())
    }
}

/// Refuses a number of frames above the limit, counted or merely announced.
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

    use super::*;

    #[test]
    fn nothing_is_empty() {
        assert_eq!(probe(b""), Err(FormatError::Empty));
    }

    #[test]
    fn other_things_are_unsupported_whatever_they_call_themselves() {
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
    fn every_sample_is_told_by_its_bytes_and_may_be_followed_by_anything() {
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
            probe(&samples::png(10_000, 5_001)).unwrap_err().to_string(),
            probe(&samples::gif(1, 1, 1_001)).unwrap_err().to_string(),
            probe(&samples::png(1, 1)[..40]).unwrap_err().to_string(),
        ];
        assert_eq!(
            messages,
            [
                "The image is 65535 by 65535 pixels; a side may have at most 16384.",
                "The image is 10000 by 5001 and its frames have 50010000 pixels or more; \
                 at most 50000000 are accepted.",
                "The image has 1001 frames or more; at most 1000 are accepted.",
                "The PNG image is corrupt: the chunk type at byte 37 needs 4 bytes and 3 are \
                 left.",
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
                prop_assert!(area <= limits::MAX_PIXELS);
            }
        }
    }
}
