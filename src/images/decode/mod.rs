//! Reads all compressed data of every frame once, to find out whether viewers show the whole
//! picture.
//!
//! The container was walked before: chunks, blocks and lengths are sound, and sides, pixels and
//! frames are within their limits. This module does not rely on it for its safety: anything
//! unexpected is a fault.
//!
//! No frame is held in memory as a whole, and pixels are made only where their values can make a
//! viewer fail. PNG passes through a window of rows. The other formats are parsed by their codes,
//! as libjpeg-turbo, Chromium and libwebp parse them. A feature that needs pixels can decode a file
//! again after this check.

mod deadline;
mod gif;
pub(in crate::images) mod jpeg;
pub(in crate::images) mod memory;
mod png;
mod webp;

use std::time::{Duration, Instant};

use super::clean::{Cleaned, Content};
use super::format::{FormatError, Probe};
use crate::model::format::Format;
use crate::model::metadata::Kind;
use crate::system::pages::Buffer;
use deadline::Deadline;

/// How long decoding may take on a busy machine. [`deadline::budget`] limits its work.
const TIME: Duration = Duration::from_secs(10);
const NANOSECONDS: u64 = 1_000_000_000;
/// The memory that decoding a JPEG takes, in addition to the masks of a progressive image.
const JPEG_MEMORY: u64 = 2 << 20;

/// Why viewers do not show the whole picture.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    /// The compressed pixels are broken. The text says where and how: a sentence without its full
    /// stop.
    Corrupt(String),
    /// The limit of work or time was reached before the last frame was decoded.
    Timeout,
}

impl Fault {
    fn of(self, format: Format, len: u64) -> FormatError {
        match self {
            Self::Corrupt(what) => FormatError::Corrupt { format, what },
            Self::Timeout => FormatError::TooSlow {
                seconds: deadline::budget(len).div_ceil(NANOSECONDS),
            },
        }
    }
}

/// Decodes all frames of a cleaned image that passed the walk. Blocks until memory for it is free.
///
/// Returns the image to store, which can differ: only a decoder finds where the data of a JPEG end.
///
/// # Errors
/// [`FormatError::Corrupt`] and [`FormatError::TooSlow`].
pub(super) fn decode<'a>(cleaned: Cleaned<'a>, probe: &Probe) -> Result<Cleaned<'a>, FormatError> {
    let format = probe.format;
    let _held = memory::take(memory_needed(&cleaned.bytes, probe));
    let end = Instant::now() + TIME;
    let len = u64::try_from(cleaned.bytes.len()).unwrap_or(u64::MAX);
    let mut deadline = Deadline::at(end, len);
    let decoded = match format {
        Format::Jpeg => jpeg(cleaned, end),
        _ => parse(&cleaned.bytes, format, &mut deadline).map(|()| cleaned),
    };
    decoded.map_err(|fault| fault.of(format, len))
}

/// Reads all frames of a PNG, GIF or WebP.
fn parse(bytes: &[u8], format: Format, deadline: &mut Deadline) -> Result<(), Fault> {
    match format {
        Format::Png => png::decode(bytes, deadline),
        Format::Gif => gif::decode(bytes, deadline),
        Format::Webp => webp::decode(bytes, deadline),
        Format::Jpeg => Ok(()),
    }
}

/// The most bytes that decoding takes at any time, in addition to the file itself.
fn memory_needed(bytes: &[u8], probe: &Probe) -> u64 {
    let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    match probe.format {
        // Eight bytes for each block of 64 pixels, in at most four components, and a picture of an
        // eighth, which is copied once or twice.
        Format::Jpeg => probe.total_pixels / 2 + probe.total_pixels / 4 + JPEG_MEMORY,
        Format::Png => png::MEMORY,
        Format::Gif => gif::MEMORY,
        Format::Webp => webp::memory_needed(len, probe.width, probe.height),
    }
}

/// Decodes a photograph without its gain map. Writes it without the bytes that belong to no scan,
/// and with the tables that decoders supply if a file has none.
fn jpeg(mut cleaned: Cleaned<'_>, end: Instant) -> Result<Cleaned<'_>, Fault> {
    let base_len = cleaned.gain_map_at.unwrap_or(cleaned.bytes.len());
    let base = cleaned.bytes.get(..base_len).unwrap_or_default();
    // The cleaner wrote this end marker itself, so it does not show that the data is complete.
    let without_end = base.len() - if cleaned.is_open { 2 } else { 0 };
    let limits = jpeg::Limits {
        deadline: Some(end),
        max_pixels: None,
        keeps_small: true,
    };
    let decoded = jpeg::decode(base.get(..without_end).unwrap_or_default(), &limits);
    let decoded = decoded.map_err(|fault| match fault.reason {
        jpeg::Reason::TimeLimit => Fault::Timeout,
        _ => Fault::Corrupt(fault.to_string()),
    })?;
    let finished = decoded.written(base);
    cleaned.small = decoded.small;
    let Some(finished) = finished else {
        return Ok(cleaned);
    };
    cleaned.removed.add(Kind::Damage);
    let map = cleaned.bytes.get(base_len..).unwrap_or_default();
    let moved = cleaned.gain_map_at.map(|_| finished.len());
    let mut whole = Buffer::with_length_or_heap(finished.len().saturating_add(map.len()));
    whole.append(&finished);
    whole.append(map);
    cleaned.bytes = Content::Changed(whole);
    cleaned.gain_map_at = moved;
    cleaned.is_moved = true;
    Ok(cleaned)
}

/// Waits until this many bytes are free for decoding pixels, and reserves them until the value is
/// dropped.
pub(super) fn hold_memory(bytes: u64) -> impl Drop {
    memory::take(bytes)
}

/// Whether decoders read the image of a gain map without changes. Its walk must have succeeded.
pub(super) fn is_sound_map(map: &[u8], probe: &Probe) -> bool {
    let limits = jpeg::Limits {
        deadline: Some(Instant::now() + TIME),
        max_pixels: None,
        keeps_small: false,
    };
    let _held = memory::take(memory_needed(map, probe));
    let decoded = jpeg::decode(map, &limits);
    decoded.is_ok_and(|decoded| decoded.written(map).is_none())
}

/// Returns `N` bytes at offset `at`, if they are there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests;
