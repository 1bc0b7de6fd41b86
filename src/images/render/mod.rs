//! Makes the pixels of variants: decodes a stored image, turns, crops, resizes and encodes it.
//!
//! Works on the CPU alone, in one thread, without input or output. Decoders are in safe Rust; only
//! the encoder of WebP is in C, and it reads pixels that this module made.
//!
//! Rows go from the decoder through the resizer, so of a still PNG or JPEG no whole picture of the
//! source is in memory, unless it is interlaced, progressive, or keeps its size. What a source needs
//! in memory is known before its first row, and [`MEMORY`] bounds it.

mod animation;
mod colour;
mod encode;
mod look;
mod picture;
mod plan;
mod resize;
mod source;
mod stop;
mod turn;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::images::clean::clean;
use crate::images::decode::jpeg::pixels::{Side, Small};
use crate::images::decode::memory;
use crate::images::format::{PixelLimits, probe};
use crate::model::format::Format;
use crate::model::look::Look;
use crate::model::variant::{Output, Variant};
use colour::to_srgb;
use picture::{Channels, Picture, premultiply, unpremultiply};
use plan::{Plan, Rectangle};
use resize::Resizer;
use source::{Colours, Head, Sink};

pub use animation::MAX_PIXELS as MAX_ANIMATION_PIXELS;
pub use plan::{MAX_PIXELS, MAX_SIDE};
pub use stop::Stop;

/// The most bytes that the decoder of a source may keep in memory, beside the resizer and the
/// variant.
pub const MEMORY: u64 = 400 << 20;

/// A variant's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The file.
    pub bytes: Vec<u8>,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Number of frames; 1 for a still image.
    pub frames: u32,
}

/// Why there is no variant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The deadline has passed, or nobody waits for the variant.
    #[error("The variant was not finished in time. Request it again later, or a smaller one.")]
    Stopped,
    /// The variant has too many pixels.
    #[error(
        "The variant would have {pixels} pixels, but at most {limit} are allowed in this format. Request a smaller one with w or h."
    )]
    TooManyPixels {
        /// Pixels of the variant.
        pixels: u64,
        /// The most pixels of a variant in this format.
        limit: u64,
    },
    /// A side of the variant is longer than the format allows.
    #[error(
        "The variant would be {width} by {height} pixels, but a side has at most {limit} pixels in this format. Request a smaller one with w or h."
    )]
    SideTooLong {
        /// Width of the variant in pixels.
        width: u32,
        /// Height of the variant in pixels.
        height: u32,
        /// The longest side in this format, in pixels.
        limit: u32,
    },
    /// Decoding the source takes too much memory.
    #[error(
        "Decoding this image takes {bytes} bytes of memory, but at most {limit} are allowed for a variant. Use the original, or upload the image in a smaller size."
    )]
    TooLarge {
        /// Bytes that decoding takes.
        bytes: u64,
        /// The most bytes that it may take.
        limit: u64,
    },
    /// A decoder does not read the stored image. The text says why.
    #[error("The image can't be decoded for a variant: {0}. Use the original.")]
    Undecodable(String),
    /// An encoder failed. The text says why.
    #[error("The variant could not be encoded: {0}. Use the original, or another format.")]
    Failed(String),
}

/// The size of a variant of a picture that is shown as `shown` pixels, as width and height. `None`: it can't be made.
pub fn size_of(variant: &Variant, shown: (u32, u32)) -> Option<(u32, u32)> {
    Plan::new(variant, shown).ok().map(|plan| plan.canvas)
}

/// Renders a variant of a stored image. Blocks the thread until it is done.
///
/// # Errors
/// [`RenderError`].
pub fn render(
    source: &[u8],
    format: Format,
    variant: &Variant,
    stop: &Stop,
) -> Result<Rendered, RenderError> {
    unharmed(|| rendered(source, format, variant, stop))
}

/// The look of a stored image, from its first frame. `small` is what the check has gathered of a
/// JPEG, with its orientation; without it, the image is decoded.
///
/// # Errors
/// [`RenderError`].
pub(in crate::images) fn look(
    source: &[u8],
    format: Format,
    small: Option<(&Small, u8)>,
    stop: &Stop,
) -> Result<Look, RenderError> {
    unharmed(|| {
        if let Some((small, orientation)) = small.filter(|(small, _)| small.is_enough()) {
            return look::of_small(source, small, orientation);
        }
        let preview = look::preview();
        let (picture, _) = still(source, format, (&preview, Purpose::Check), stop)?;
        Ok(look::look_of(picture))
    })
}

/// The bytes of a pixel in [`rows`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pixels {
    /// Grey.
    Grey,
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue, alpha.
    Rgba,
    /// Cyan, magenta, yellow, black; 255 is full ink.
    Cmyk,
}

/// Receives the width and the height of a picture, one of its rows, and the meaning of the bytes.
pub type EachRow<'a> = &'a mut dyn FnMut((u32, u32), &[u8], Pixels);

/// Decodes the first frame of a stored image and passes its rows to `each`, in order, as they are
/// stored: without orientation and profile. Each row comes with the width and the height of the
/// picture.
///
/// # Errors
/// [`RenderError`].
pub fn rows(
    source: &[u8],
    format: Format,
    stop: &Stop,
    each: EachRow<'_>,
) -> Result<(), RenderError> {
    struct Rows<'a> {
        size: (u32, u32),
        pixels: Pixels,
        each: EachRow<'a>,
    }
    impl Sink for Rows<'_> {
        fn begin(&mut self, head: Head) -> Result<Side, RenderError> {
            self.size = (head.width, head.height);
            self.pixels = match head.channels {
                Channels::Grey => Pixels::Grey,
                Channels::Rgb => Pixels::Rgb,
                Channels::Rgba => Pixels::Rgba,
                Channels::Cmyk => Pixels::Cmyk,
            };
            within_memory(head.memory)?;
            Ok(Side::EIGHT)
        }

        fn row(&mut self, row: &[u8]) -> Result<(), RenderError> {
            (self.each)(self.size, row, self.pixels);
            Ok(())
        }
    }
    unharmed(|| {
        let mut rows = Rows {
            size: (0, 0),
            pixels: Pixels::Rgb,
            each,
        };
        source::read(source, format, stop, &mut rows)
    })
}

/// What makes the variants of this build, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codecs {
    /// Whether rav1e was built with its assembly, by the feature `nasm`.
    pub has_assembly: bool,
}

/// Tells which codecs this build has.
pub const fn codecs() -> Codecs {
    Codecs {
        has_assembly: cfg!(feature = "nasm"),
    }
}

impl std::fmt::Display for Codecs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let avif = if self.has_assembly {
            "rav1e with assembly"
        } else {
            "rav1e without assembly (build with --features nasm for more speed)"
        };
        write!(
            f,
            "JPEG by jpeg-encoder, PNG by png, WebP by libwebp, AVIF by {avif}"
        )
    }
}

/// Turns a panic of a codec into an error.
fn unharmed<T>(work: impl FnOnce() -> Result<T, RenderError>) -> Result<T, RenderError> {
    // Nothing that the work has touched is used after a panic.
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(RenderError::Undecodable("a codec panicked".to_owned())))
}

fn within_memory(bytes: u64) -> Result<(), RenderError> {
    if bytes > MEMORY {
        return Err(RenderError::TooLarge {
            bytes,
            limit: MEMORY,
        });
    }
    Ok(())
}

fn rendered(
    source: &[u8],
    format: Format,
    variant: &Variant,
    stop: &Stop,
) -> Result<Rendered, RenderError> {
    if matches!(format, Format::Gif | Format::Webp) && variant.output == Output::WebP {
        let limits = PixelLimits {
            max_pixels: u64::MAX,
            max_total_pixels: u64::MAX,
        };
        let probe = probe(source, limits);
        let probe = probe.map_err(|error| RenderError::Undecodable(error.to_string()))?;
        let plan = Plan::new(variant, (probe.width, probe.height))?;
        if animation::stays(format, probe.frames, variant, &plan) {
            within_memory(u64::from(probe.width) * u64::from(probe.height) * 8)?;
            return animation::render(source, format, variant, &plan, stop);
        }
    }
    let (picture, plan) = still(source, format, (variant, Purpose::Variant), stop)?;
    stop.check()?;
    Ok(Rendered {
        bytes: encode::encode(picture, format, variant.output, variant.quality, stop)?,
        width: plan.canvas.0,
        height: plan.canvas.1,
        frames: 1,
    })
}

/// What a picture is decoded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The check of an upload, which shares its memory with other checks.
    Check,
    /// A variant, whose memory the caller has reserved.
    Variant,
}

/// The first frame as the variant shows it, in sRGB.
fn still(
    source: &[u8],
    format: Format,
    (variant, purpose): (&Variant, Purpose),
    stop: &Stop,
) -> Result<(Picture, Plan), RenderError> {
    let cleaned = clean(source, format);
    let cleaned = cleaned.map_err(|error| RenderError::Undecodable(error.to_string()))?;
    let end = cleaned.gain_map_at.unwrap_or(cleaned.bytes.len());
    let bytes = cleaned.bytes.get(..end).unwrap_or(&cleaned.bytes);
    let mut still = Still {
        variant,
        purpose,
        orientation: cleaned.orientation,
        begun: None,
    };
    source::read(bytes, format, stop, &mut still)?;
    let Some(begun) = still.begun else {
        return Err(RenderError::Undecodable("there is no picture".to_owned()));
    };
    let picture = to_srgb(begun.shrink.finish()?, &begun.colours);
    let picture = turn::turned(picture, cleaned.orientation);
    Ok((placed(picture, &begun.plan), begun.plan))
}

/// Takes the rows of a still picture.
struct Still<'a> {
    variant: &'a Variant,
    purpose: Purpose,
    orientation: u8,
    begun: Option<Begun>,
}

/// A picture whose size is known.
struct Begun {
    plan: Plan,
    colours: Colours,
    shrink: Shrink,
    _held: Option<memory::Held>,
}

impl Sink for Still<'_> {
    fn begin(&mut self, head: Head) -> Result<Side, RenderError> {
        let is_turned = self.orientation > 4;
        let shown = if is_turned {
            (head.height, head.width)
        } else {
            (head.width, head.height)
        };
        let plan = Plan::new(self.variant, shown)?;
        let stored_plan = if is_turned { plan.turned() } else { plan };
        let side = if head.can_reduce {
            side_for(&stored_plan)
        } else {
            Side::EIGHT
        };
        let bytes = head.memory / 64 * u64::from(side.pixels() * side.pixels());
        within_memory(bytes)?;
        let crop = stored_plan.crop_of(side.pixels());
        let decoded = (side.of(head.width), side.of(head.height));
        self.begun = Some(Begun {
            plan,
            colours: head.colours,
            shrink: Shrink::new(stored_plan, head.channels, decoded, crop),
            _held: match self.purpose {
                Purpose::Check => Some(memory::take(bytes)),
                Purpose::Variant => None,
            },
        });
        Ok(side)
    }

    fn row(&mut self, row: &[u8]) -> Result<(), RenderError> {
        match &mut self.begun {
            Some(begun) => begun.shrink.row(row),
            None => Ok(()),
        }
    }
}

/// The fewest pixels of a block that are at least as many as the variant needs.
fn side_for(plan: &Plan) -> Side {
    let mut sides = Side::ALL.into_iter();
    let enough = sides.find(|side| plan.is_enough(side.pixels()));
    enough.unwrap_or(Side::EIGHT)
}

/// Crops and resizes the rows of a picture as it is stored.
struct Shrink {
    resizer: Resizer,
    is_premultiplied: bool,
    row: Vec<u8>,
}

impl Shrink {
    /// `plan` is for the picture as it is stored; the decoder returns pictures of `size`, of which
    /// `crop` is shown.
    fn new(plan: Plan, channels: Channels, size: (u32, u32), crop: Rectangle) -> Self {
        let resizer = Resizer::new(channels, size.0, crop, plan.size);
        Self {
            is_premultiplied: channels == Channels::Rgba && !resizer.is_copy(),
            resizer,
            row: Vec::new(),
        }
    }

    fn row(&mut self, row: &[u8]) -> Result<(), RenderError> {
        if !self.is_premultiplied {
            return self.resizer.push(row);
        }
        self.row.clear();
        self.row.extend_from_slice(row);
        premultiply(&mut self.row);
        self.resizer.push(&self.row)
    }

    fn finish(self) -> Result<Picture, RenderError> {
        let mut picture = self.resizer.finish()?;
        if self.is_premultiplied {
            unpremultiply(&mut picture.bytes);
        }
        Ok(picture)
    }
}

/// Puts a resized and turned picture on the canvas.
fn placed(picture: Picture, plan: &Plan) -> Picture {
    if plan.canvas == (picture.width, picture.height) {
        return picture;
    }
    let picture = picture.with_alpha();
    let (width, height) = plan.canvas;
    let stride = width as usize * 4;
    let mut bytes = vec![0; stride * height as usize];
    let left = plan.offset.0 as usize * 4;
    let rows = bytes.chunks_exact_mut(stride.max(1));
    let rows = rows.skip(plan.offset.1 as usize);
    for (to, from) in rows.zip(picture.bytes.chunks_exact(picture.stride().max(1))) {
        if let Some(to) = to.get_mut(left..left + from.len()) {
            to.copy_from_slice(from);
        }
    }
    Picture {
        width,
        height,
        channels: Channels::Rgba,
        bytes,
    }
}

#[cfg(test)]
mod tests;
