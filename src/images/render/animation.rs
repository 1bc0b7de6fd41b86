//! Renders an animation as an animated WebP, one frame at a time.
//!
//! Of each frame, the rectangle is stored that differs from the frame before. Frames that differ in
//! nothing prolong the frame before.

use super::colour::to_srgb;
use super::encode::{quality, webp};
use super::picture::{Channels, Picture};
use super::plan::Plan;
use super::source::{Colours, gif, webp as webp_source};
use super::stop::Stop;
use super::{RenderError, Rendered, placed};
use crate::model::format::Format;
use crate::model::variant::{Output, Variant};

/// The most pixels of all frames of a variant together. Of a longer animation, the first frame is
/// shown.
pub const MAX_PIXELS: u64 = 40_000_000;
/// The longest duration of a frame in milliseconds.
const LONGEST: u32 = (1 << 24) - 1;

enum Frames<'a> {
    Gif(Box<gif::Frames<'a>>),
    WebP(Box<webp_source::Frames<'a>>),
}

impl Frames<'_> {
    fn next(&mut self) -> Result<Option<u32>, RenderError> {
        match self {
            Self::Gif(frames) => frames.next(),
            Self::WebP(frames) => frames.next(),
        }
    }

    fn size(&self) -> (u32, u32) {
        match self {
            Self::Gif(frames) => frames.size(),
            Self::WebP(frames) => frames.size(),
        }
    }

    fn plays(&self) -> u16 {
        match self {
            Self::Gif(frames) => frames.plays(),
            Self::WebP(frames) => frames.plays(),
        }
    }

    fn pixels(&self) -> &[u8] {
        match self {
            Self::Gif(frames) => frames.pixels(),
            Self::WebP(frames) => frames.pixels(),
        }
    }

    fn channels(&self) -> Channels {
        match self {
            Self::Gif(_) => Channels::Rgba,
            Self::WebP(frames) => frames.channels(),
        }
    }

    fn colours(&self) -> &Colours {
        match self {
            Self::Gif(_) => &Colours::Unknown,
            Self::WebP(frames) => frames.colours(),
        }
    }
}

/// Whether an animation of so many frames stays one as this variant.
pub(super) fn stays(format: Format, frames: u32, variant: &Variant, plan: &Plan) -> bool {
    let pixels = u64::from(plan.canvas.0) * u64::from(plan.canvas.1) * u64::from(frames);
    variant.output == Output::WebP
        && frames > 1
        && matches!(format, Format::Gif | Format::Webp)
        && pixels <= MAX_PIXELS
}

/// Renders all frames.
pub(super) fn render(
    bytes: &[u8],
    format: Format,
    variant: &Variant,
    plan: &Plan,
    stop: &Stop,
) -> Result<Rendered, RenderError> {
    let mut frames = match format {
        Format::Gif => Frames::Gif(Box::new(gif::Frames::new(bytes)?)),
        _ => Frames::WebP(Box::new(webp_source::Frames::new(bytes)?)),
    };
    let quality = quality(Output::WebP, variant.quality);
    let mut file = File::new(plan.canvas, frames.plays());
    let mut before: Option<Picture> = None;
    while let Some(milliseconds) = frames.next()? {
        stop.check()?;
        let picture = shown(&frames, plan)?;
        let changed = match &before {
            Some(before) => changed(before, &picture),
            None => Some(Area::whole(&picture)),
        };
        match changed {
            Some(area) => {
                let part = area.cut(&picture).without_useless_alpha();
                file.add(area, milliseconds, &webp::encode(&part, quality)?)?;
            }
            None => file.prolong(milliseconds),
        }
        before = Some(picture);
    }
    let frames = file.frames;
    if frames == 0 {
        return Err(RenderError::Undecodable("there is no frame".to_owned()));
    }
    Ok(Rendered {
        bytes: file.finish()?,
        width: plan.canvas.0,
        height: plan.canvas.1,
        frames,
    })
}

/// The current frame as the variant shows it, in RGBA.
fn shown(frames: &Frames<'_>, plan: &Plan) -> Result<Picture, RenderError> {
    let (width, height) = frames.size();
    let channels = frames.channels();
    let mut shrink = super::Shrink::new(*plan, channels, (width, height), plan.crop);
    for row in frames
        .pixels()
        .chunks_exact((width as usize * channels.count()).max(1))
    {
        shrink.row(row)?;
    }
    let picture = to_srgb(shrink.finish()?, frames.colours());
    Ok(placed(picture, plan).with_alpha())
}

/// A rectangle of the canvas whose corner has even coordinates, as the format demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Area {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

impl Area {
    const fn whole(picture: &Picture) -> Self {
        Self {
            left: 0,
            top: 0,
            width: picture.width,
            height: picture.height,
        }
    }

    /// The part of a picture in this area.
    fn cut(self, picture: &Picture) -> Picture {
        let count = picture.channels.count();
        let (start, len) = (self.left as usize * count, self.width as usize * count);
        let rows = picture.bytes.chunks_exact(picture.stride().max(1));
        let rows = rows.skip(self.top as usize).take(self.height as usize);
        Picture {
            width: self.width,
            height: self.height,
            channels: picture.channels,
            bytes: rows
                .filter_map(|row| row.get(start..start + len))
                .flatten()
                .copied()
                .collect(),
        }
    }
}

/// The smallest area that differs between two pictures of one size. `None`: nothing differs.
fn changed(before: &Picture, after: &Picture) -> Option<Area> {
    let stride = before.stride().max(1);
    let rows = before.bytes.chunks_exact(stride);
    let rows = rows.zip(after.bytes.chunks_exact(stride)).zip(0_u32..);
    let (mut top, mut bottom) = (None, 0);
    let (mut left, mut right) = (u32::MAX, 0);
    for ((old, new), y) in rows.filter(|((old, new), _)| old != new) {
        top = top.or(Some(y));
        bottom = y;
        let (old, _) = old.as_chunks::<4>();
        let (new, _) = new.as_chunks::<4>();
        let differs = |((old, new), _): &((&[u8; 4], &[u8; 4]), u32)| old != new;
        let mut columns = old.iter().zip(new).zip(0_u32..).filter(differs);
        if let Some((_, first)) = columns.next() {
            left = left.min(first);
            right = right.max(columns.last().map_or(first, |(_, last)| last));
        }
    }
    let (left, top) = (left & !1, top? & !1);
    Some(Area {
        left,
        top,
        width: right + 1 - left,
        height: bottom + 1 - top,
    })
}

/// An animated WebP that is being written.
struct File {
    body: Vec<u8>,
    canvas: (u32, u32),
    has_alpha: bool,
    frames: u32,
    /// Where the duration of the last frame is, and its value.
    duration: (usize, u32),
}

impl File {
    fn new(canvas: (u32, u32), plays: u16) -> Self {
        let mut body = Vec::new();
        body.extend_from_slice(b"ANIM");
        body.extend_from_slice(&6_u32.to_le_bytes());
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(&plays.to_le_bytes());
        Self {
            body,
            canvas,
            has_alpha: false,
            frames: 0,
            duration: (0, 0),
        }
    }

    /// Adds a frame from a file of one image.
    fn add(&mut self, area: Area, milliseconds: u32, still: &[u8]) -> Result<(), RenderError> {
        let image = self.image_chunks(still);
        let mut head = Vec::with_capacity(16);
        for value in [area.left / 2, area.top / 2, area.width - 1, area.height - 1] {
            head.extend(three_bytes(value));
        }
        let duration_at = self.body.len() + 8 + head.len();
        head.extend(three_bytes(0));
        // The frame replaces what is below it, and stays.
        head.push(0b10);
        let len = u32::try_from(head.len() + image.len())
            .map_err(|_| RenderError::Failed("a frame is too long".to_owned()))?;
        self.body.extend_from_slice(b"ANMF");
        self.body.extend_from_slice(&len.to_le_bytes());
        self.body.extend_from_slice(&head);
        self.body.extend_from_slice(&image);
        self.frames += 1;
        self.duration = (duration_at, 0);
        self.prolong(milliseconds);
        Ok(())
    }

    /// Shows the last frame longer.
    fn prolong(&mut self, milliseconds: u32) {
        let (at, duration) = self.duration;
        let duration = duration.saturating_add(milliseconds).min(LONGEST);
        self.duration = (at, duration);
        if let Some(place) = self.body.get_mut(at..at + 3) {
            place.copy_from_slice(&three_bytes(duration));
        }
    }

    /// The chunks of a file that hold its pixels, with their padding.
    fn image_chunks(&mut self, still: &[u8]) -> Vec<u8> {
        let mut chunks = Vec::with_capacity(still.len());
        let mut rest = still.get(12..).unwrap_or_default();
        while let Some((head, body)) = rest.split_first_chunk::<8>() {
            let [kind @ .., _, _, _, _] = head;
            let [_, _, _, _, len @ ..] = head;
            let len = u32::from_le_bytes(*len) as usize;
            let padded = len + len % 2;
            let end = padded.min(body.len());
            if matches!(kind, b"ALPH" | b"VP8 " | b"VP8L") {
                self.has_alpha |= kind != b"VP8 ";
                chunks.extend_from_slice(head);
                chunks.extend_from_slice(body.get(..end).unwrap_or_default());
            }
            rest = body.get(end..).unwrap_or_default();
        }
        chunks
    }

    fn finish(self) -> Result<Vec<u8>, RenderError> {
        let len = u32::try_from(self.body.len() + 22)
            .map_err(|_| RenderError::Failed("the animation is too long".to_owned()))?;
        let mut bytes = Vec::with_capacity(self.body.len() + 30);
        bytes.extend_from_slice(b"RIFF");
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(b"WEBPVP8X");
        bytes.extend_from_slice(&10_u32.to_le_bytes());
        let alpha = if self.has_alpha { 0x10 } else { 0 };
        bytes.extend_from_slice(&[0x02 | alpha, 0, 0, 0]);
        bytes.extend(three_bytes(self.canvas.0 - 1));
        bytes.extend(three_bytes(self.canvas.1 - 1));
        bytes.extend_from_slice(&self.body);
        Ok(bytes)
    }
}

/// The low three bytes of a value, the lowest first.
const fn three_bytes(value: u32) -> [u8; 3] {
    let [a, b, c, _] = value.to_le_bytes();
    [a, b, c]
}
