//! Cleans JPEG files, by ITU-T T.81, JFIF 1.02 and Adobe Technical Note 5116.
//!
//! Tables, the frame, scans and their data are copied unchanged. Of the application segments, only
//! those are kept by which decoders choose colours, orientation and size: JFIF, Adobe, the ICC
//! profile, and the parts of Exif that viewers apply. Decoders read them up to the first scan, so
//! none is kept behind it. Everything behind the end of the image is removed, including further
//! images of multi-picture files. The gain map of an HDR photograph is kept, with new metadata.

use super::exif::{self, Exif};
use super::gain_map::{self, GainMap, Headers, Headroom};
use super::output::Output;
use super::{Cleaned, Content, icc, kinds};
use crate::images::format::FormatError;
use crate::images::format::jpeg::SOS;
use crate::model::metadata::{Kind, Kinds};

mod components;
mod parts;

use parts::{Part, Parts};

const JFIF: &[u8] = b"JFIF\0";
/// Length up to the size of the thumbnail. The cleaned segment has a thumbnail of 0 by 0 pixels.
const JFIF_LEN: usize = 14;
const ADOBE: &[u8] = b"Adobe";
/// The last byte tells how colours are transformed.
const ADOBE_LEN: usize = 12;
/// A fill byte follows. It is zero by the specification; browsers ignore its value.
const EXIF: &[u8] = b"Exif\0";
/// A block that only browsers accept. It makes them show the image upright.
const UPRIGHT: &[u8] =
    b"\xff\xe1\0\x22Exif\0\xffMM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x01\0\0\0\0\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/x";
const PHOTOSHOP: &[u8] = b"Photoshop 3.0\0";
const PICTURES: &[u8] = b"MPF\0";
const ICC: &[u8] = b"ICC_PROFILE\0";

/// Copies the parts of the picture up to the end of the image, and the gain map of an HDR
/// photograph behind it.
pub(super) fn clean(bytes: &[u8]) -> Result<Cleaned<'_>, FormatError> {
    let parts = Parts::read(bytes)?;
    let map = gain_map(bytes, &parts);
    // A gain map that can't be cleaned is removed; the photograph stays.
    let map = map.and_then(Map::clean);
    Ok(Walk::new(bytes, &parts).photograph(&parts, map.as_ref()))
}

/// Cleans the photograph and drops its gain map.
pub(super) fn clean_base(bytes: &[u8]) -> Result<Cleaned<'_>, FormatError> {
    let parts = Parts::read(bytes)?;
    Ok(Walk::new(bytes, &parts).photograph(&parts, None))
}

fn gain_map<'a>(bytes: &'a [u8], parts: &Parts<'a>) -> Option<GainMap<'a>> {
    let mut headers = Headers::default();
    for part in parts.before_scan() {
        headers.segment(part.code, part.body_at, part.body);
    }
    gain_map::find(&headers, bytes, parts.eoi.as_ref()?.end)
}

/// A gain map to keep.
struct Map<'a> {
    found: GainMap<'a>,
    /// The cleaned image of the map.
    image: Content<'a>,
    /// What was removed from the image of the map.
    removed: Kinds,
}

impl<'a> Map<'a> {
    /// Viewers turn the map together with the photograph, so its own Exif is removed.
    fn clean(found: GainMap<'a>) -> Option<Self> {
        let parts = Parts::read(found.image()).ok()?;
        parts.eoi.as_ref()?;
        let mut walk = Walk::new(found.image(), &parts);
        walk.exif.for_browsers = true;
        walk.exif.for_libraries = true;
        walk.map_segments = found.image_segments();
        walk.front(&parts);
        walk.output.write(&found.image_segments());
        walk.rest(&parts);
        let (image, removed) = (walk.output.finish(), walk.removed);
        Some(Self {
            found,
            image,
            removed,
        })
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    output: Output<'a>,
    removed: Kinds,
    size: (u32, u32),
    exif: ExifBlocks,
    /// A block of Exif was kept.
    has_exif: bool,
    headroom: Option<Headroom>,
    /// A JFIF segment was kept.
    jfif: bool,
    /// The value of the last Adobe segment that was kept.
    colour_transform: Option<u8>,
    /// The segments of the profile, until they are written.
    profile: Option<Vec<u8>>,
    /// JFIF and Exif were written.
    has_front: bool,
    /// The segments that a gain map needs. The numbers in its index are still zero.
    map_segments: Vec<u8>,
}

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8], parts: &Parts<'a>) -> Self {
        Self {
            bytes,
            output: Output::new(bytes),
            removed: Kinds::default(),
            size: parts.size(),
            exif: ExifBlocks::default(),
            has_exif: false,
            headroom: None,
            jfif: false,
            colour_transform: None,
            profile: Some(icc::jpeg::clean_segments(
                parts
                    .before_scan()
                    .filter(|part| part.code == 0xe2)
                    .map(|part| part.body),
            )),
            has_front: false,
            map_segments: Vec::new(),
        }
    }

    fn photograph(mut self, parts: &Parts<'a>, map: Option<&Map<'_>>) -> Cleaned<'a> {
        let mut segments_end = None;
        if let Some(map) = map {
            self.headroom = map.found.headroom();
            self.map_segments = map.found.primary_segments(map.image.len());
            self.removed.join(map.removed);
            self.front(parts);
            self.output.write(&self.map_segments);
            segments_end = Some(self.output.len());
        } else {
            self.output.keep(0..2);
        }
        self.rest(parts);
        let end = self.output.len();
        if let (Some(map), Some(segments_end)) = (map, segments_end) {
            let index = GainMap::mpf_index(segments_end, end, map.image.len());
            if let Some((place, index)) = index {
                self.output.patch(place.start, &index);
            }
            self.output.write(&map.image);
        }
        self.count_behind(parts, map.map(|map| &map.found));
        let orientation = self.exif.orientation.unwrap_or(1);
        Cleaned {
            is_open: parts.is_open,
            gain_map_at: map.map(|_| end),
            ..self.output.cleaned(self.removed, orientation)
        }
    }

    /// Writes the start marker, JFIF and Exif first, so that segments inserted behind them have a
    /// fixed place.
    fn front(&mut self, parts: &Parts<'a>) {
        self.output.keep(0..2);
        for part in parts.before_scan().filter(|part| is_jfif(part)) {
            self.application(part);
        }
        for part in parts
            .before_scan()
            .filter(|part| part.code == 0xe1 && is_exif(part.body))
        {
            self.application(part);
        }
        self.has_front = true;
    }

    /// Writes everything else, up to the end marker.
    fn rest(&mut self, parts: &Parts<'a>) {
        if parts.stray {
            self.removed.add(Kind::Damage);
        }
        let ids = components::Ids::of(&parts.list);
        let mut scanned = false;
        for part in &parts.list {
            match part.code {
                0xe0..=0xef | 0xfe if scanned => self.removed.join(kinds_of(part)),
                0xe0 | 0xe1 if self.has_front && (is_jfif(part) || is_exif(part.body)) => {}
                0xe0..=0xef | 0xfe => self.application(part),
                // Arithmetic conditioning and a late height. Decoders of Huffman codes ignore both.
                0xcc if is_conditioning(part.body) => self.removed.add(Kind::Other),
                0xdc => self.removed.add(Kind::Other),
                _ => {
                    self.output.keep(part.whole.clone());
                    ids.patch(part, &mut self.output);
                }
            }
            scanned |= part.code == SOS;
        }
        match &parts.eoi {
            Some(eoi) => self.output.keep(eoi.clone()),
            None => self.output.write(b"\xff\xd9"),
        }
    }

    /// Records bytes behind the image that are not a gain map as removed.
    fn count_behind(&mut self, parts: &Parts<'_>, map: Option<&GainMap<'_>>) {
        let Some(end) = parts.eoi.as_ref().map(|eoi| eoi.end) else {
            return;
        };
        let mut len = self.bytes.len() - end;
        len -= map.map_or(0, |map| map.place().len());
        if len > 0 {
            self.removed.add(Kind::Trailing);
        }
    }
}

/// The Exif blocks that were found. The first block decides, whatever it contains. Browsers and
/// libraries may take different ones, because only browsers accept a block whose fill byte is not
/// zero.
#[derive(Default)]
struct ExifBlocks {
    for_browsers: bool,
    for_libraries: bool,
    /// The orientation that browsers apply.
    orientation: Option<u8>,
}

impl Walk<'_> {
    /// Keeps the parts of an application segment that viewers need.
    fn application(&mut self, part: &Part<'_>) {
        let body = part.body;
        let stays = match part.code {
            0xe0 if body.starts_with(JFIF) => self.jfif(part),
            0xe1 if is_exif(body) => self.exif(part),
            0xe2 if body.starts_with(ICC) => self.profile(),
            0xee if body.starts_with(ADOBE) => self.adobe(part),
            _ => false,
        };
        if !stays && !self.is_of_map(part) {
            self.removed.join(kinds_of(part));
        }
    }

    /// Whether a segment is one of those that were written for the gain map.
    fn is_of_map(&self, part: &Part<'_>) -> bool {
        let bytes = self.bytes.get(part.whole.clone()).unwrap_or_default();
        let mut windows = self.map_segments.windows(bytes.len().max(1));
        let is_index = part.code == 0xe2 && part.body.starts_with(PICTURES);
        !self.map_segments.is_empty() && (is_index || windows.any(|window| window == bytes))
    }

    /// Keeps colours and pixel density of the first JFIF segment, without its thumbnail.
    fn jfif(&mut self, part: &Part<'_>) -> bool {
        // Decoders ignore a shorter one.
        let Some(mut head) = part.body.first_chunk::<JFIF_LEN>().copied() else {
            return false;
        };
        let [.., across, down] = &mut head;
        (*across, *down) = (0, 0);
        if std::mem::replace(&mut self.jfif, true) {
            return false;
        }
        self.keep_or_write(part, *b"\xff\xe0\0\x10", &head)
    }

    /// Keeps an Adobe segment that changes the colour transform. Some decoders use the first one,
    /// some the last.
    fn adobe(&mut self, part: &Part<'_>) -> bool {
        let Some(head) = part.body.first_chunk::<ADOBE_LEN>() else {
            return false;
        };
        let transform = head.last().copied();
        if std::mem::replace(&mut self.colour_transform, transform) == transform {
            return false;
        }
        self.keep_or_write(part, *b"\xff\xee\0\x0e", head)
    }

    fn exif(&mut self, part: &Part<'_>) -> bool {
        let Some((head, tiff)) = part.body.split_at_checked(EXIF.len() + 1) else {
            return false;
        };
        let is_sound = head.ends_with(b"\0\0");
        let decides = !self.exif.for_browsers || (is_sound && !self.exif.for_libraries);
        let for_browsers = !std::mem::replace(&mut self.exif.for_browsers, true);
        self.exif.for_libraries |= is_sound;
        let Some(exif) = Exif::read(tiff, self.size).filter(|_| decides) else {
            return false;
        };
        let exif = exif.with_headroom(self.headroom);
        if for_browsers {
            self.exif.orientation = Some(exif.orientation());
        }
        let Some(tiff) = exif.to_tiff() else {
            return false;
        };
        // Browsers used another block, which was empty. Without it, they would use this one.
        if !for_browsers && !self.has_exif {
            self.output.write(UPRIGHT);
        }
        self.has_exif = true;
        let body = [head, &tiff].concat();
        let Ok(len) = u16::try_from(body.len() + 2) else {
            return false;
        };
        let [high, low] = len.to_be_bytes();
        self.keep_or_write(part, [0xff, 0xe1, high, low], &body)
    }

    /// Writes the profile in place of its first part.
    fn profile(&mut self) -> bool {
        if let Some(segments) = self.profile.take() {
            self.output.write(&segments);
        }
        false
    }

    /// Keeps the part if its body is `wanted`. Otherwise writes `head` (marker and length) and
    /// `wanted` in its place, and returns that something was removed.
    fn keep_or_write(&mut self, part: &Part<'_>, head: [u8; 4], wanted: &[u8]) -> bool {
        let is_same = part.body == wanted;
        if is_same {
            self.output.keep(part.whole.clone());
        } else {
            self.output.write(&head);
            self.output.write(wanted);
        }
        is_same
    }
}

fn is_exif(body: &[u8]) -> bool {
    body.starts_with(EXIF) && body.len() > EXIF.len() + 1
}

/// Whether decoders accept these parameters of arithmetic coding. They check them without using
/// them (`get_dac` in libjpeg's `jdmarker.c`).
fn is_conditioning(body: &[u8]) -> bool {
    const TABLES: u8 = 16;
    let pairs = body.chunks_exact(2);
    let is_even = pairs.remainder().is_empty();
    let mut pairs = pairs.filter_map(|pair| pair.first_chunk::<2>());
    is_even
        && pairs.all(|[index, value]| match index {
            0..TABLES => value & 0x0f <= value >> 4,
            _ => *index < 2 * TABLES,
        })
}

fn is_jfif(part: &Part<'_>) -> bool {
    part.code == 0xe0 && part.body.starts_with(JFIF)
}

/// The kinds of metadata in a segment that is removed or changed.
fn kinds_of(part: &Part<'_>) -> Kinds {
    let body = part.body;
    match part.code {
        0xe0 => Kinds::from_iter([Kind::Thumbnail]),
        0xe1 if is_exif(body) => exif::kinds::of(body.get(EXIF.len() + 1..).unwrap_or_default()),
        0xe1 if body.starts_with(XMP) => kinds::of_xmp(body),
        0xe2 if body.starts_with(ICC) => Kinds::from_iter([Kind::Profile]),
        0xe2 if body.starts_with(PICTURES) => Kinds::from_iter([Kind::Pictures]),
        0xeb => Kinds::from_iter([Kind::C2pa]),
        0xed => kinds::of_photoshop(body.strip_prefix(PHOTOSHOP).unwrap_or_default()),
        0xfe => Kinds::from_iter([Kind::Comment]),
        _ => Kinds::from_iter([Kind::Other]),
    }
}

#[cfg(test)]
mod tests;
