//! Decodes WebP: parses the bitstreams of all frames to their last symbol, as libwebp does, which
//! all viewers use. No pixels are made, because none can make libwebp fail.
//!
//! An `ALPH` chunk is read if libwebp reads it: always in an animation, and in a still image only
//! if the flag announces alpha.

mod bools;
mod coding;
mod lossless;
mod prefix;
mod vp8;
mod vp8_tables;
mod vp8l;

use super::deadline::Deadline;
use super::{Fault, array};

/// The most bytes for tables of prefix codes. Files of libwebp's encoder stay far below.
const CODE_TABLES: usize = 32 * 1024 * 1024;

/// The memory that a lossless image may take: the image of codes with a 16th of its pixels, and the
/// codes.
pub(super) fn memory_needed(len: u64, width: u32, height: u32) -> u64 {
    let blocks = u64::from(width.div_ceil(4)).saturating_mul(u64::from(height.div_ceil(4)));
    let tables = u64::try_from(CODE_TABLES)
        .unwrap_or(u64::MAX)
        .min(len.saturating_mul(128));
    // A vector that grows is half empty, and its old copy exists while it is copied.
    blocks
        .saturating_mul(4)
        .saturating_add(tables.saturating_mul(3))
        .saturating_add(1 << 20)
}

pub(super) fn decode(bytes: &[u8], deadline: &mut Deadline) -> Result<(), Fault> {
    let mut image = Image::default();
    let mut frames = 0_u32;
    let mut alpha_flag = false;
    let mut at = 12_usize;
    while let Some(chunk) = Chunk::read(bytes, &mut at) {
        match &chunk.kind {
            b"VP8X" => alpha_flag = chunk.body.first().is_some_and(|flags| flags & 0x10 != 0),
            b"ANMF" => {
                let mut frame = Image::default();
                let mut inside = 16_usize;
                while let Some(part) = Chunk::read(chunk.body, &mut inside) {
                    frame.take(&part);
                }
                frames = frames.saturating_add(1);
                frame
                    .decode(true, deadline)
                    .map_err(|fault| of_frame(fault, frames, chunk.offset))?;
            }
            _ => image.take(&chunk),
        }
    }
    if image.bitstream.is_some() || frames == 0 {
        image.decode(alpha_flag, deadline)?;
    }
    Ok(())
}

fn of_frame(fault: Fault, frame: u32, offset: usize) -> Fault {
    match fault {
        Fault::Corrupt(what) => Fault::Corrupt(format!(
            "frame {frame} in the chunk at byte {offset}: {what}"
        )),
        Fault::Timeout => fault,
    }
}

struct Chunk<'a> {
    kind: [u8; 4],
    offset: usize,
    body: &'a [u8],
    /// The body with its padding, which libwebp reads as part of a bitstream.
    padded: &'a [u8],
}

impl<'a> Chunk<'a> {
    fn read(bytes: &'a [u8], at: &mut usize) -> Option<Self> {
        let offset = *at;
        let kind = array(bytes, offset)?;
        let len = u32::from_le_bytes(array(bytes, offset.checked_add(4)?)?) as usize;
        let start = offset.checked_add(8)?;
        let end = start.checked_add(len)?;
        let body = bytes.get(start..end)?;
        *at = end.checked_add(len % 2)?;
        let padded = bytes.get(start..*at).unwrap_or(body);
        Some(Self {
            kind,
            offset,
            body,
            padded,
        })
    }
}

/// The bitstreams of a still image or of one frame.
#[derive(Default)]
struct Image<'a> {
    alpha: Option<&'a [u8]>,
    bitstream: Option<(bool, &'a [u8])>,
}

impl<'a> Image<'a> {
    fn take(&mut self, chunk: &Chunk<'a>) {
        match &chunk.kind {
            b"ALPH" => self.alpha = self.alpha.or(Some(chunk.body)),
            b"VP8 " => self.bitstream = self.bitstream.or(Some((false, chunk.padded))),
            b"VP8L" => self.bitstream = self.bitstream.or(Some((true, chunk.padded))),
            _ => {}
        }
    }

    fn decode(&self, alpha_is_read: bool, deadline: &mut Deadline) -> Result<(), Fault> {
        let Some((lossless, body)) = self.bitstream else {
            return Err(Fault::Corrupt("there is no image data".to_owned()));
        };
        if lossless {
            return vp8l::decode(body, deadline);
        }
        let size = vp8::decode(body, deadline)?;
        match self.alpha {
            Some(alpha) if alpha_is_read => decode_alpha(alpha, size, deadline),
            _ => Ok(()),
        }
    }
}

/// Reads an `ALPH` chunk of an image of this size.
fn decode_alpha(body: &[u8], size: (u32, u32), deadline: &mut Deadline) -> Result<(), Fault> {
    let Some((head, data)) = body.split_first() else {
        return Err(Fault::Corrupt("the ALPH chunk is empty".to_owned()));
    };
    let (method, preprocessing, reserved) = (head & 3, head >> 4 & 3, head >> 6);
    if method > 1 || preprocessing > 1 || reserved > 0 || data.is_empty() {
        return Err(Fault::Corrupt(format!(
            "the ALPH chunk begins with {head:02X}, which decoders don't know, or has no data"
        )));
    }
    if method == 1 {
        return vp8l::decode_alpha(data, size, deadline);
    }
    let wanted = u64::from(size.0) * u64::from(size.1);
    if u64::try_from(data.len()).unwrap_or(u64::MAX) < wanted {
        return Err(Fault::Corrupt(format!(
            "the ALPH chunk has {} of {wanted} values",
            data.len()
        )));
    }
    Ok(())
}
