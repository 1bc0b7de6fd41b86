//! The chunks of a PNG as viewers find them. The picture may be complete even if the end of the
//! file is damaged.

use super::Whole;
use crate::images::format::FormatError;
use crate::images::format::crc32::crc32;
use crate::images::format::png::SIGNATURE;
use crate::model::image::Format;

/// The most chunks of a file, because each is kept in memory. The longest pictures have a few
/// thousand.
const MAX_CHUNKS: usize = 65_536;

pub(super) struct Chunk<'a> {
    pub(super) kind: [u8; 4],
    pub(super) body: &'a [u8],
    /// Includes length and checksum, as far as they are there.
    pub(super) whole: Whole,
    /// Length and checksum are right.
    pub(super) is_sound: bool,
}

/// The chunks before the end.
pub(super) struct Chunks<'a> {
    pub(super) list: Vec<Chunk<'a>>,
    /// The range of `IEND`, if it is valid.
    pub(super) end: Option<Whole>,
    /// Bytes follow `IEND`.
    pub(super) has_trailing: bool,
}

fn corrupt<T>(what: String) -> Result<T, FormatError> {
    let format = Format::Png;
    Err(FormatError::Corrupt { format, what })
}

impl<'a> Chunks<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut chunks = Self {
            list: Vec::new(),
            end: None,
            has_trailing: false,
        };
        let mut at = SIGNATURE.len();
        let mut has_data = false;
        while let Some(chunk) = Chunk::read(bytes, at) {
            let is_cut = !chunk.is_sound && chunk.whole.end == bytes.len();
            match &chunk.kind {
                b"IEND" if chunk.is_sound && chunk.body.is_empty() => {
                    chunks.has_trailing = chunk.whole.end < bytes.len();
                    chunks.end = Some(chunk.whole);
                    break;
                }
                b"IEND" if has_data => break,
                // The picture may be complete nevertheless.
                b"IDAT" | b"fdAT" => {}
                kind if has_data && (is_cut || !is_name(*kind)) => break,
                // Readers skip a chunk that is marked as ancillary.
                [first, ..] if !is_name(chunk.kind) && first & 0x20 == 0 => {
                    let kind = chunk.kind;
                    let (name, at) = (kind.escape_ascii(), chunk.whole.start);
                    return corrupt(format!(
                        "at byte {at} should be a chunk, but its name is '{name}'"
                    ));
                }
                _ => {}
            }
            if has_data && &chunk.kind == b"IDAT" && chunks.is_late(&chunk)? {
                at = chunk.whole.end;
                continue;
            }
            // Viewers refuse a file with a chunk before the header, so this chunk must not be
            // removed.
            if chunks.list.is_empty() && &chunk.kind != b"IHDR" {
                return corrupt("it does not begin with an IHDR chunk".to_owned());
            }
            if chunks.list.len() == MAX_CHUNKS {
                return corrupt(format!("it has more than {MAX_CHUNKS} chunks"));
            }
            has_data |= &chunk.kind == b"IDAT";
            at = chunk.whole.end;
            chunks.list.push(chunk);
        }
        if !has_data {
            return corrupt("it ends before its image data".to_owned());
        }
        chunks.order_controls();
        Ok(chunks)
    }

    /// Moves `acTL` before the control of the first frame, where it belongs. Readers accept it
    /// behind that as well. A frame control is dropped if the sequence numbers do not continue from
    /// it.
    fn order_controls(&mut self) {
        let at = |kind: &[u8; 4]| self.list.iter().position(|chunk| &chunk.kind == kind);
        let (Some(frame), Some(control)) = (at(b"fcTL"), at(b"acTL")) else {
            return;
        };
        // Viewers ignore it behind the image data.
        if at(b"IDAT").is_some_and(|data| data < control) {
            return;
        }
        let behind = self.list.iter().skip(control);
        let next = behind
            .clone()
            .find(|chunk| matches!(&chunk.kind, b"fcTL" | b"fdAT"));
        let goes_on = next.is_none_or(|chunk| chunk.body.starts_with(&1_u32.to_be_bytes()));
        if frame < control
            && goes_on
            && let Some(both) = self.list.get_mut(frame..=control)
        {
            both.rotate_right(1);
        }
    }

    /// Whether image data comes too late. Browsers ignore image data behind a chunk with a wrong
    /// checksum, so the picture must be complete by then. They show nothing if image data stands in
    /// two places.
    fn is_late(&self, next: &Chunk<'_>) -> Result<bool, FormatError> {
        match self.list.last() {
            Some(before) if &before.kind != b"IDAT" => {
                let at = next.whole.start;
                corrupt(format!(
                    "the IDAT chunk at byte {at} is separated from the other image data by another chunk"
                ))
            }
            before => Ok(before.is_some_and(|before| !before.is_sound)),
        }
    }
}

fn is_name(kind: [u8; 4]) -> bool {
    kind.iter().all(u8::is_ascii_alphabetic)
}

impl<'a> Chunk<'a> {
    /// Reads the chunk at `at`. One that is cut by the end of the file ends with it.
    fn read(bytes: &'a [u8], at: usize) -> Option<Self> {
        let (head, rest) = bytes.get(at..)?.split_first_chunk::<8>()?;
        let [l3, l2, l1, l0, kind @ ..] = *head;
        let len = usize::try_from(u32::from_be_bytes([l3, l2, l1, l0])).ok()?;
        let body = rest.get(..len).unwrap_or(rest);
        let checksum = rest.get(body.len()..).and_then(<[u8]>::first_chunk::<4>);
        let end = at + head.len() + body.len() + 4;
        Some(Self {
            kind,
            body,
            whole: at..end.min(bytes.len()),
            is_sound: checksum.is_some_and(|sum| u32::from_be_bytes(*sum) == crc32([&kind, body])),
        })
    }
}
