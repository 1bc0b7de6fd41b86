//! HDR gain maps of JPEG photographs: Ultra HDR of Android, ISO 21496-1, and Apple's.
//!
//! Such a file is an ordinary photograph, behind whose end a second JPEG image stands: how much brighter
//! each place becomes on an HDR display. Metadata in both images say where the second image is and how to
//! apply it. [`find`] looks for that image and its parameters. It takes nothing else for a gain map: not the
//! second view of a stereo photograph, no preview, depth map or video. [`GainMap`] then writes the metadata
//! anew from the numbers alone.
//!
//! A gain map that no viewer could apply, because its parameters are missing, is not found.

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

/// How many bytes the segments of [`GainMap::primary_segments`] and [`GainMap::image_segments`] have
/// together, at most.
pub(in crate::images::clean) const MAX_SEGMENTS_LEN: usize = 4096;

/// A gain map and what its viewers need to know.
#[derive(Debug)]
pub(in crate::images::clean) struct GainMap<'a> {
    place: Range<usize>,
    image: &'a [u8],
    /// The base image says that it has a gain map of Adobe's kind.
    has_version: bool,
    /// The base image says that it has a gain map by ISO 21496-1.
    base_iso: Option<iso::Bytes>,
    parameters: Parameters,
    headroom: Option<Headroom>,
}

/// What the gain map image says of itself. One image may do so by several conventions.
#[derive(Debug, Default)]
struct Parameters {
    adobe: Option<xmp::Adobe>,
    apple: Option<xmp::Apple>,
    iso: Option<iso::Bytes>,
}

/// Finds the gain map of a photograph. `primary` has all segments before its first scan, `end` is where the
/// byte behind its end marker stands in the file. Other bytes behind it have no influence.
///
/// Candidates are the pictures of the MPF index, the item of the `GContainer` directory, and the image right
/// behind the first one, for files whose offsets a program forgot to move.
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
    // An image that overlaps the photograph is none of its own.
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

/// Where the next image begins behind the end of the first one, for files in which bytes were added or lost.
fn next_image(file: &[u8], end: usize) -> Option<usize> {
    const START: &[u8] = b"\xff\xd8\xff";
    let behind = file.get(end..)?;
    let found = behind
        .windows(START.len())
        .position(|window| window == START)?;
    Some(end + found)
}

/// Whether this can only be a gain map whose parameters got lost: one channel, and not a word of what it is.
/// The base image must say that there is a gain map.
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
    /// `None`: this image doesn't say that it is a gain map. If the base image says that it has one of Adobe's
    /// kind, the version is enough: to Chromium and Android, all other parameters have default values.
    fn read(headers: &Headers<'_>, base_has_version: bool) -> Option<Self> {
        let packet = headers.xmp.map(Packet::read).unwrap_or_default();
        let parameters = Self {
            adobe: packet
                .adobe
                .filter(|adobe| base_has_version || adobe.is_complete()),
            apple: packet.apple,
            iso: headers.iso.and_then(iso::Bytes::parameters),
        };
        // A picture with a directory has a gain map, and is none.
        (parameters.are_there() && !packet.has_directory).then_some(parameters)
    }

    const fn are_there(&self) -> bool {
        let Self { adobe, apple, iso } = self;
        adobe.is_some() || apple.is_some() || iso.is_some()
    }
}

impl<'a> GainMap<'a> {
    /// The JPEG image of the gain map as it was uploaded, with its start and end. Check and clean it like any
    /// image: its pixels are untrusted, and only its first segments were looked at.
    pub(in crate::images::clean) const fn image(&self) -> &'a [u8] {
        self.image
    }

    /// Where in the file [`GainMap::image`] stands.
    pub(in crate::images::clean) fn place(&self) -> Range<usize> {
        self.place.clone()
    }

    /// Whether the gain map has parameters. Without any, no viewer applies it.
    #[cfg(test)]
    pub(in crate::images::clean) const fn has_parameters(&self) -> bool {
        self.parameters.are_there()
    }

    /// What the Exif of the base image must say, for a gain map of Apple's kind.
    pub(in crate::images::clean) const fn headroom(&self) -> Option<Headroom> {
        self.headroom
    }

    /// The segments that the cleaned gain map image must have, behind its JFIF segment.
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

    /// The segments that the base image must have, behind its JFIF and Exif segments, for a cleaned gain map
    /// image of `gain_map_len` bytes. The numbers of the MPF index are still zero: see
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

    /// The bytes of the MPF index, and where they belong in the output: `segments_end` is where the segments
    /// of [`GainMap::primary_segments`] end, `primary_len` the length of the whole base image with its end
    /// marker. The gain map image comes right behind it. `None`: the file is too long for an index.
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
