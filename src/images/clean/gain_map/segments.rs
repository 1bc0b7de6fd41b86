//! The JPEG segments that describe gain maps, and the walk through the segments of a gain map
//! image.

use super::{apple::Headroom, iso, mpf};

const EXIF: &[u8] = b"Exif\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
const MPF: &[u8] = b"MPF\0";
const ISO: &[u8] = b"urn:iso:std:iso:ts:21496:-1\0";

const SOI: [u8; 2] = [0xff, 0xd8];
const APP1: u8 = 0xe1;
const APP2: u8 = 0xe2;
const SOS: u8 = 0xda;
const EOI: u8 = 0xd9;

/// The information about gain maps in the segments before the first scan of a JPEG image. The first
/// segment of each kind counts, as in viewers.
#[derive(Debug, Default)]
pub(in crate::images::clean) struct Headers<'a> {
    pub(super) xmp: Option<&'a [u8]>,
    pub(super) iso: Option<&'a [u8]>,
    pub(super) pictures: Option<mpf::Pictures<'a>>,
    pub(super) headroom: Option<Headroom>,
}

impl<'a> Headers<'a> {
    /// Records a segment. `code` is the second byte of its marker, `body` the bytes behind its
    /// length, at `offset` in the file. Pass only segments before the first scan.
    pub(in crate::images::clean) fn segment(&mut self, code: u8, offset: usize, body: &'a [u8]) {
        match code {
            APP1 => {
                if let Some(packet) = body.strip_prefix(XMP) {
                    self.xmp.get_or_insert(packet);
                } else if let Some(exif) = body.strip_prefix(EXIF)
                    && self.headroom.is_none()
                {
                    // A byte of padding comes first, whose value viewers ignore.
                    self.headroom = exif.get(1..).and_then(Headroom::find_in_exif);
                }
            }
            APP2 => {
                if let Some(data) = body.strip_prefix(ISO) {
                    self.iso.get_or_insert(data);
                } else if let Some(tiff) = body.strip_prefix(MPF)
                    && self.pictures.is_none()
                {
                    self.pictures = mpf::Pictures::read(tiff, offset.saturating_add(MPF.len()));
                }
            }
            _ => {}
        }
    }
}

/// The beginning of a JPEG image inside of a file, up to its first scan.
#[derive(Debug)]
pub(super) struct Image<'a> {
    bytes: &'a [u8],
    pub(super) headers: Headers<'a>,
    /// Number of components of the frame; 0 without a frame.
    pub(super) components: u8,
    /// Where the data of the first scan begins.
    scan_at: usize,
}

impl<'a> Image<'a> {
    /// Reads the segments of the image at the start of `bytes`. Returns `None` if there is no
    /// image.
    pub(super) fn open(bytes: &'a [u8]) -> Option<Self> {
        let mut image = Self {
            bytes,
            headers: Headers::default(),
            components: 0,
            scan_at: bytes.starts_with(&SOI).then_some(SOI.len())?,
        };
        loop {
            let segment = Segment::read(bytes, image.scan_at)?;
            image.scan_at = segment.end;
            match segment.code {
                SOS => return Some(image),
                code if is_frame(code) && image.components == 0 => {
                    image.components = *segment.body.get(5)?;
                }
                code => image.headers.segment(code, segment.body_at, segment.body),
            }
        }
    }

    /// All bytes of the image, from its start to its end marker. Returns `None` if the end marker
    /// is missing.
    pub(super) fn whole(&self) -> Option<&'a [u8]> {
        let mut at = skip_entropy_coded(self.bytes, self.scan_at)?;
        loop {
            let (code, after) = next_marker(self.bytes, at)?;
            if code == EOI {
                return self.bytes.get(..after);
            }
            at = Segment::read(self.bytes, at)?.end;
            if code == SOS {
                at = skip_entropy_coded(self.bytes, at)?;
            }
        }
    }
}

/// A segment with a length field.
pub(super) struct Segment<'a> {
    pub(super) code: u8,
    body_at: usize,
    body: &'a [u8],
    pub(super) end: usize,
}

impl<'a> Segment<'a> {
    /// Reads the segment at `at`. Returns `None` if there is none, or if the image ends there.
    pub(super) fn read(bytes: &'a [u8], at: usize) -> Option<Self> {
        let (code, after) = next_marker(bytes, at)?;
        let len = bytes
            .get(after..)?
            .first_chunk()
            .copied()
            .map(u16::from_be_bytes)?;
        let end = after.checked_add(usize::from(len))?;
        let body = bytes.get(after..end)?.get(2..)?;
        (code != EOI).then_some(Self {
            code,
            body_at: after + 2,
            body,
            end,
        })
    }
}

const fn is_frame(code: u8) -> bool {
    matches!(code, 0xc0..=0xcf) && !matches!(code, 0xc4 | 0xc8 | 0xcc)
}

/// The code of the marker at `at`, behind any fill bytes, and the offset behind it.
fn next_marker(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    let rest = bytes.get(at..)?;
    let fill = rest.iter().position(|byte| *byte != 0xff)?;
    let code = *rest.get(fill)?;
    // Between segments, neither data nor a marker without a length may stand, other than the end of
    // the image.
    let is_marker = fill > 0 && !matches!(code, 0x00 | 0x01 | 0xd0..=0xd8);
    is_marker.then_some((code, at + fill + 1))
}

/// The offset of the next marker that is not a restart marker.
fn skip_entropy_coded(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let rest = bytes.get(at..)?;
        at += rest.iter().position(|byte| *byte == 0xff)?;
        match *bytes.get(at + 1)? {
            0xff => at += 1,
            0x00 | 0xd0..=0xd7 => at += 2,
            _ => return Some(at),
        }
    }
}

/// Appends a segment: its marker, its length, and the parts of its body. Returns `None` if it is
/// too long.
pub(super) fn write(out: &mut Vec<u8>, code: u8, parts: &[&[u8]]) -> Option<()> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let len = u16::try_from(len + 2).ok()?;
    out.extend_from_slice(&[0xff, code]);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&parts.concat());
    Some(())
}

pub(super) fn write_xmp(out: &mut Vec<u8>, packet: &str) -> Option<()> {
    write(out, APP1, &[XMP, packet.as_bytes()])
}

pub(super) fn write_iso(out: &mut Vec<u8>, data: &iso::Bytes) -> Option<()> {
    write(out, APP2, &[ISO, data.as_slice()])
}

pub(super) fn write_mpf(out: &mut Vec<u8>, tiff: &[u8]) -> Option<()> {
    write(out, APP2, &[MPF, tiff])
}
