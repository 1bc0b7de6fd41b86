//! The parts of a JPEG as viewers find them. Like libjpeg (`next_marker` in its `jdmarker.c`), the
//! walk skips any bytes between two segments until it finds a marker. Skipped bytes belong to no
//! part.

use std::ops::Range;

use crate::images::format::FormatError;
use crate::images::format::jpeg::{DRI, EOI, SOS, is_in_scan};
use crate::model::image::Format;

/// The most segments of a file, because each is kept in memory. Pictures have a few dozen.
const MAX_PARTS: usize = 20_000;

/// A segment, with the data of its scan if it starts one.
pub(super) struct Part<'a> {
    pub(super) code: u8,
    /// From its marker to the end of its data.
    pub(super) whole: Range<usize>,
    /// The bytes behind its length.
    pub(super) body: &'a [u8],
    /// The offset of the body in the file.
    pub(super) body_at: usize,
}

/// All parts of a file.
pub(super) struct Parts<'a> {
    pub(super) list: Vec<Part<'a>>,
    /// The place of the end marker; `None` if it is missing.
    pub(super) eoi: Option<Range<usize>>,
    /// Some bytes belong to no part.
    pub(super) stray: bool,
    /// The file ends where data of a scan or another segment should follow.
    pub(super) is_open: bool,
}

fn corrupt<T>(what: String) -> Result<T, FormatError> {
    let format = Format::Jpeg;
    Err(FormatError::Corrupt { format, what })
}

impl<'a> Parts<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut parts = Self {
            list: Vec::new(),
            eoi: None,
            stray: false,
            is_open: true,
        };
        if !bytes.starts_with(b"\xff\xd8") {
            return corrupt("it does not begin with a start marker".to_owned());
        }
        let (mut at, mut scanned, mut restart) = (2, false, 0);
        while let Some(marker) = Marker::find(bytes, at) {
            parts.stray |= marker.start > at;
            let after = marker.start + 2;
            match marker.code {
                EOI => {
                    parts.is_open = false;
                    parts.eoi = Some(marker.start..after);
                    break;
                }
                // Markers without a segment.
                0x01 | 0xd0..=0xd7 => {
                    parts.stray = true;
                    at = after;
                    continue;
                }
                // A decoder stops here. It shows the picture if the only scan contains all of it.
                0x02..=0xbf | 0xd8 | 0xf0..=0xfd if parts.is_whole() => {
                    parts.stray = true;
                    parts.is_open = false;
                    break;
                }
                0x02..=0xbf | 0xd8 | 0xf0..=0xfd => {
                    let (code, start) = (marker.code, marker.start);
                    return corrupt(format!(
                        "the marker FF{code:02X} at byte {start} is not allowed in an image"
                    ));
                }
                _ => {}
            }
            let Some(part) = Part::read(bytes, &marker, restart > 0) else {
                if scanned {
                    parts.stray = true;
                    // The marker ended the scan, whatever follows it.
                    parts.is_open = !parts.is_whole();
                    break;
                }
                let (code, start) = (marker.code, marker.start);
                return corrupt(format!("the segment FF{code:02X} at byte {start} is cut"));
            };
            at = part.whole.end;
            scanned |= marker.code == SOS;
            if marker.code == DRI {
                restart = part
                    .body
                    .first_chunk()
                    .map_or(0, |interval| u16::from_be_bytes(*interval));
            }
            if parts.list.len() == MAX_PARTS {
                return corrupt(format!("it has more than {MAX_PARTS} segments"));
            }
            parts.list.push(part);
        }
        if !scanned {
            return corrupt("it ends before its image data".to_owned());
        }
        Ok(parts)
    }

    /// Whether a sequential image has one scan, with all of its components.
    fn is_whole(&self) -> bool {
        let mut scans = self.list.iter().filter(|part| part.code == SOS);
        let frame = self.list.iter().find(|part| is_frame(part.code));
        let components = frame
            .filter(|frame| frame.code != 0xc2)
            .and_then(|frame| frame.body.get(5));
        let scanned = scans.next().and_then(|scan| scan.body.first());
        components.is_some() && components == scanned && scans.next().is_none()
    }

    /// The parts before the first scan, where decoders look for metadata.
    pub(super) fn before_scan(&self) -> impl Iterator<Item = &Part<'a>> {
        self.list.iter().take_while(|part| part.code != SOS)
    }

    /// Width and height of the frame header; 0 by 0 without one.
    pub(super) fn size(&self) -> (u32, u32) {
        let header = self.list.iter().find(|part| is_frame(part.code));
        let sides = header.and_then(|part| part.body.get(1..)?.first_chunk::<4>());
        let Some([h1, h0, w1, w0]) = sides.copied() else {
            return (0, 0);
        };
        let side = |bytes| u32::from(u16::from_be_bytes(bytes));
        (side([w1, w0]), side([h1, h0]))
    }
}

/// Whether the code is that of a frame header.
pub(super) const fn is_frame(code: u8) -> bool {
    matches!(code, 0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf)
}

struct Marker {
    code: u8,
    /// The offset two bytes before the content of the marker.
    start: usize,
}

impl Marker {
    /// The next marker at or behind `at`.
    fn find(bytes: &[u8], mut at: usize) -> Option<Self> {
        loop {
            let first = at + bytes.get(at..)?.iter().position(|byte| *byte == 0xff)?;
            let code_at = first + bytes.get(first..)?.iter().position(|byte| *byte != 0xff)?;
            match bytes.get(code_at)? {
                0 => at = code_at + 1,
                code => {
                    return Some(Self {
                        code: *code,
                        // Fill bytes before it are removed.
                        start: code_at - 1,
                    });
                }
            }
        }
    }
}

impl<'a> Part<'a> {
    fn read(bytes: &'a [u8], marker: &Marker, is_restarted: bool) -> Option<Self> {
        let len_at = marker.start + 2;
        let len: [u8; 2] = bytes.get(len_at..)?.first_chunk().copied()?;
        // Decoders treat application data of length 0 or 1 as empty, like data of length 2.
        let len = usize::from(u16::from_be_bytes(len)).max(2);
        let end = len_at + len;
        let body = bytes.get(len_at + 2..end)?;
        let end = if marker.code == SOS {
            end + entropy_coded(bytes.get(end..)?, is_restarted)
        } else {
            end
        };
        Some(Self {
            code: marker.code,
            whole: marker.start..end,
            body,
            body_at: len_at + 2,
        })
    }
}

/// The length of a scan's data: up to the marker that ends it, or to the end of the file.
fn entropy_coded(bytes: &[u8], is_restarted: bool) -> usize {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(distance) = rest.iter().position(|byte| *byte == 0xff) else {
            return bytes.len();
        };
        at += distance;
        match bytes.get(at + 1) {
            Some(code) if is_in_scan(*code, is_restarted) => at += 2,
            // A fill byte.
            Some(0xff) => at += 1,
            Some(_) => return at,
            None => return bytes.len(),
        }
    }
}
