//! HDR gain maps of JPEG photographs: Ultra HDR of Android, ISO 21496-1, and Apple's.
//!
//! Such a file is an ordinary photograph with a second JPEG image behind its end. The second image
//! tells how much brighter each place becomes on an HDR display. Metadata in both images tell where
//! the second image is and how to apply it. [`find`] looks for that image and its parameters. It
//! does not accept the second view of a stereo photograph, a preview, a depth map or a video.
//! [`GainMap`] then writes new metadata from the numbers alone.
//!
//! [`find`] ignores a gain map whose parameters are missing, because no viewer could apply it.

mod apple;
mod iso;
mod mpf;
mod segments;
mod tiff;
mod xml;
mod xmp;

use std::ops::Range;

pub(in crate::images::clean) use apple::Headroom;
pub(in crate::images::clean) use segments::Headers;

use segments::Image;
use xmp::Packet;

/// The most bytes that the segments of [`GainMap::primary_segments`] and
/// [`GainMap::image_segments`] have together.
pub(in crate::images::clean) const MAX_SEGMENTS_LEN: usize = 4096;

/// A gain map and the parameters that viewers need.
#[derive(Debug)]
pub(in crate::images::clean) struct GainMap<'a> {
    place: Range<usize>,
    image: &'a [u8],
    /// Whether the base image announces a gain map of Adobe's kind.
    has_version: bool,
    /// The version of ISO 21496-1 that the base image announces, if any.
    base_iso: Option<iso::Bytes>,
    parameters: Parameters,
    headroom: Option<Headroom>,
}

/// The parameters in the gain map image. One image may carry several kinds.
#[derive(Debug, Default)]
struct Parameters {
    adobe: Option<xmp::Adobe>,
    apple: Option<xmp::Apple>,
    iso: Option<iso::Bytes>,
}

/// Finds the gain map of a photograph. `primary` holds all segments before the first scan. `end` is
/// the offset behind the photograph's end marker. Only the image that is found influences the
/// result.
///
/// Candidates are the pictures of the MPF index, the item of the `GContainer` directory, and the
/// image right behind the photograph. The last one covers files whose offsets a program failed to
/// adjust.
pub(in crate::images::clean) fn find<'a>(
    primary: &Headers<'a>,
    file: &'a [u8],
    end: usize,
) -> Option<GainMap<'a>> {
    let packet = primary.xmp.map(Packet::read).unwrap_or_default();
    let indexed: Vec<usize> = primary
        .pictures
        .iter()
        .flat_map(mpf::Pictures::starts)
        .collect();
    let listed = packet
        .gain_map_at
        .and_then(|offset| end.checked_add(offset));
    // An image that overlaps the photograph is not an image of its own.
    let starts = indexed.into_iter().chain(listed).chain([end]);
    let described = starts
        .chain(next_image(file, end))
        .filter(|start| *start >= end)
        .find_map(|start| {
            let image = Image::open(file.get(start..)?)?;
            let parameters = Parameters::read(&image.headers, packet.has_version)?;
            Some((start, image.whole()?, parameters))
        });
    let (start, image, parameters) = described.or_else(|| {
        let start = listed.unwrap_or(end);
        let image = Image::open(file.get(start..)?)?;
        let is_lost = packet.has_version && is_bare(&image);
        Some((
            start,
            is_lost.then(|| image.whole())??,
            Parameters::default(),
        ))
    })?;
    Some(GainMap {
        place: start..start + image.len(),
        image,
        has_version: packet.has_version,
        base_iso: primary.iso.and_then(iso::Bytes::version),
        headroom: primary.headroom.filter(|_| parameters.apple.is_some()),
        parameters,
    })
}

/// Where the next image begins behind `end`, for files in which bytes were added or lost.
fn next_image(file: &[u8], end: usize) -> Option<usize> {
    const START: &[u8] = b"\xff\xd8\xff";
    let behind = file.get(end..)?;
    let found = behind
        .windows(START.len())
        .position(|window| window == START)?;
    Some(end + found)
}

/// Whether the image can only be a gain map that lost its parameters: it has one channel and no
/// description. The base image must announce a gain map.
fn is_bare(image: &Image<'_>) -> bool {
    let Headers {
        xmp,
        iso,
        pictures,
        headroom,
        ..
    } = &image.headers;
    image.components == 1
        && xmp.is_none()
        && iso.is_none()
        && pictures.is_none()
        && headroom.is_none()
}

impl Parameters {
    /// Reads the parameters. Returns `None` if the image does not describe itself as a gain map. If
    /// the base image announces one of Adobe's kind, the version is enough: Chromium and Android
    /// have default values for all other parameters.
    fn read(headers: &Headers<'_>, base_has_version: bool) -> Option<Self> {
        let packet = headers.xmp.map(Packet::read).unwrap_or_default();
        let parameters = Self {
            adobe: packet
                .adobe
                .filter(|adobe| base_has_version || adobe.is_complete()),
            apple: packet.apple,
            iso: headers.iso.and_then(iso::Bytes::parameters),
        };
        // A picture with a directory has a gain map and is not one itself.
        (parameters.are_there() && !packet.has_directory).then_some(parameters)
    }

    const fn are_there(&self) -> bool {
        let Self { adobe, apple, iso } = self;
        adobe.is_some() || apple.is_some() || iso.is_some()
    }
}

impl<'a> GainMap<'a> {
    /// The JPEG image of the gain map as it was uploaded, from its start to its end marker. Only
    /// its first segments were checked: check and clean it like any image.
    pub(in crate::images::clean) const fn image(&self) -> &'a [u8] {
        self.image
    }

    /// The range of [`GainMap::image`] in the file.
    pub(in crate::images::clean) fn place(&self) -> Range<usize> {
        self.place.clone()
    }

    /// Whether the gain map has parameters. Without them, no viewer applies it.
    #[cfg(test)]
    pub(in crate::images::clean) const fn has_parameters(&self) -> bool {
        self.parameters.are_there()
    }

    /// The value that the Exif of the base image must carry for a gain map of Apple's kind.
    pub(in crate::images::clean) const fn headroom(&self) -> Option<Headroom> {
        self.headroom
    }

    /// The segments that the cleaned gain map image needs behind its JFIF segment.
    pub(in crate::images::clean) fn image_segments(&self) -> Vec<u8> {
        let Parameters { adobe, apple, iso } = &self.parameters;
        let mut out = Vec::new();
        if adobe.is_some() || apple.is_some() {
            let packet = xmp::write_parameters(adobe.as_ref(), apple.as_ref());
            packet.and_then(|packet| segments::write_xmp(&mut out, &packet));
        }
        if let Some(iso) = iso {
            segments::write_iso(&mut out, iso);
        }
        out
    }

    /// The segments that the base image needs behind its JFIF and Exif segments, for a cleaned gain
    /// map image of `gain_map_len` bytes. The numbers of the MPF index are still zero: see
    /// [`GainMap::mpf_index`].
    pub(in crate::images::clean) fn primary_segments(&self, gain_map_len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        if self.has_version {
            let packet = xmp::write_directory(gain_map_len);
            packet.and_then(|packet| segments::write_xmp(&mut out, &packet));
        }
        if let Some(iso) = &self.base_iso {
            segments::write_iso(&mut out, iso);
        }
        segments::write_mpf(&mut out, &[0; mpf::INDEX_LEN]);
        out
    }

    /// The bytes of the MPF index and their place in the output. `segments_end` is the end of the
    /// segments of [`GainMap::primary_segments`], `primary_len` the length of the whole base image
    /// with its end marker. The gain map image must follow at once. Returns `None` if the file is
    /// too long for an index.
    pub(in crate::images::clean) fn mpf_index(
        segments_end: usize,
        primary_len: usize,
        gain_map_len: usize,
    ) -> Option<(Range<usize>, [u8; mpf::INDEX_LEN])> {
        let segment = segments_end.checked_sub(mpf::SEGMENT_LEN)?;
        let index = mpf::index(segment, primary_len, gain_map_len)?;
        Some((mpf::index_place(segment), index))
    }
}

#[cfg(test)]
mod tests;
