//! Reads PNG. Of an animation, the first frame is read.

use std::io::Cursor;

use png::{ColorType, Decoder, DecodingError, Limits, Reader, Transformations};

use super::canvas::{Canvas, Frame};
use super::{Colours, Head, Sink};
use crate::images::render::RenderError;
use crate::images::render::picture::Channels;
use crate::images::render::stop::Stop;

/// The memory of the decoder itself: profiles, tables and windows.
const MEMORY: usize = 64 << 20;

pub(super) fn read(bytes: &[u8], stop: &Stop, sink: &mut dyn Sink) -> Result<(), RenderError> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: MEMORY });
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.set_ignore_text_chunk(true);
    // The check has compared the sums, and viewers ignore that of the pixels.
    decoder.ignore_checksums(true);
    let mut reader = decoder.read_info().map_err(|error| failure(&error))?;
    let info = reader.info();
    let (width, height, is_interlaced) = (info.width, info.height, info.interlaced);
    let colours = colours(info);
    // Viewers do not show the default image if it is not a frame of the animation.
    if info.animation_control.is_some() && info.frame_control.is_none() {
        reader.next_frame_info().map_err(|error| failure(&error))?;
    }
    let area = reader.info().frame_control.map(|control| Frame {
        left: control.x_offset,
        top: control.y_offset,
        width: control.width,
        height: control.height,
    });
    let area = area.filter(|area| (area.width, area.height) != (width, height));
    let (colour, _) = reader.output_color_type();
    let from = match colour {
        ColorType::Grayscale => Layout::Grey,
        ColorType::GrayscaleAlpha => Layout::GreyAlpha,
        ColorType::Rgba => Layout::Rgba,
        ColorType::Rgb | ColorType::Indexed => Layout::Rgb,
    };
    let pixels = u64::from(width) * u64::from(height);
    let head = Head {
        width,
        height,
        channels: if area.is_some() {
            Channels::Rgba
        } else {
            from.channels()
        },
        colours,
        can_reduce: false,
        memory: match (is_interlaced, area) {
            (_, Some(_)) => pixels * 8,
            (true, None) => pixels * from.bytes(),
            (false, None) => 0,
        },
    };
    sink.begin(head)?;
    match area {
        Some(area) => on_canvas(&mut reader, (width, height), area, from, sink),
        None if is_interlaced => whole(&mut reader, width, from, stop, sink),
        None => rows(&mut reader, from, stop, sink),
    }
}

fn failure(error: &DecodingError) -> RenderError {
    RenderError::Undecodable(error.to_string())
}

fn colours(info: &png::Info<'_>) -> Colours {
    if let Some(points) = &info.coding_independent_code_points {
        return Colours::Cicp((points.color_primaries, points.transfer_function));
    }
    match &info.icc_profile {
        Some(profile) => Colours::Icc(profile.to_vec()),
        None => Colours::Unknown,
    }
}

/// The bytes of a decoded pixel.
#[derive(Clone, Copy)]
enum Layout {
    Grey,
    GreyAlpha,
    Rgb,
    Rgba,
}

impl Layout {
    const fn channels(self) -> Channels {
        match self {
            Self::Grey => Channels::Grey,
            Self::Rgb => Channels::Rgb,
            Self::GreyAlpha | Self::Rgba => Channels::Rgba,
        }
    }

    const fn bytes(self) -> u64 {
        match self {
            Self::Grey => 1,
            Self::GreyAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// Writes a row as [`Layout::channels`].
    fn write(self, row: &[u8], out: &mut Vec<u8>) {
        out.clear();
        match self {
            Self::GreyAlpha => {
                let (pixels, _) = row.as_chunks::<2>();
                out.extend(pixels.iter().flat_map(|&[grey, a]| [grey, grey, grey, a]));
            }
            Self::Grey | Self::Rgb | Self::Rgba => out.extend_from_slice(row),
        }
    }

    /// Writes a row as RGBA.
    fn write_rgba(self, row: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Grey => {
                out.clear();
                out.extend(row.iter().flat_map(|&grey| [grey, grey, grey, 255]));
            }
            Self::Rgb => {
                out.clear();
                let (pixels, _) = row.as_chunks::<3>();
                out.extend(pixels.iter().flat_map(|&[r, g, b]| [r, g, b, 255]));
            }
            Self::GreyAlpha | Self::Rgba => self.write(row, out),
        }
    }
}

type File<'a> = Reader<Cursor<&'a [u8]>>;

/// Passes rows on as they are decoded.
fn rows(
    reader: &mut File<'_>,
    from: Layout,
    stop: &Stop,
    sink: &mut dyn Sink,
) -> Result<(), RenderError> {
    let mut out = Vec::new();
    while let Some(row) = reader.next_row().map_err(|error| failure(&error))? {
        stop.check()?;
        match from {
            Layout::GreyAlpha => {
                from.write(row.data(), &mut out);
                sink.row(&out)?;
            }
            Layout::Grey | Layout::Rgb | Layout::Rgba => sink.row(row.data())?,
        }
    }
    Ok(())
}

/// Decodes the whole picture first.
fn frame(reader: &mut File<'_>) -> Result<Vec<u8>, RenderError> {
    let len = reader.output_buffer_size();
    let len = len.ok_or_else(|| RenderError::Undecodable("the frame is too large".to_owned()))?;
    let mut bytes = vec![0; len];
    let info = reader.next_frame(&mut bytes);
    bytes.truncate(info.map_err(|error| failure(&error))?.buffer_size());
    Ok(bytes)
}

fn whole(
    reader: &mut File<'_>,
    width: u32,
    from: Layout,
    stop: &Stop,
    sink: &mut dyn Sink,
) -> Result<(), RenderError> {
    let bytes = frame(reader)?;
    let stride = bytes_of_row(width, from);
    let mut out = Vec::new();
    for row in bytes.chunks_exact(stride) {
        stop.check()?;
        from.write(row, &mut out);
        sink.row(&out)?;
    }
    Ok(())
}

fn bytes_of_row(width: u32, from: Layout) -> usize {
    usize::try_from(u64::from(width) * from.bytes()).unwrap_or(usize::MAX)
}

/// Draws the first frame of an animation at its place.
fn on_canvas(
    reader: &mut File<'_>,
    (width, height): (u32, u32),
    area: Frame,
    from: Layout,
    sink: &mut dyn Sink,
) -> Result<(), RenderError> {
    let bytes = frame(reader)?;
    let mut canvas = Canvas::new(width, height);
    let stride = bytes_of_row(area.width, from);
    let mut out = Vec::new();
    canvas.draw(area, |number, pixels| {
        let start = number * stride;
        from.write_rgba(
            bytes.get(start..start + stride).unwrap_or_default(),
            &mut out,
        );
        for (to, from) in pixels.iter_mut().zip(&out) {
            *to = *from;
        }
    });
    canvas.rows().try_for_each(|row| sink.row(row))
}
