//! Reads GIF: draws frames on a canvas as browsers do.

use std::io::Cursor;

use gif::{ColorOutput, DecodeOptions, DecodingError, DisposalMethod, MemoryLimit, Repeat};

use super::canvas::{Canvas, Frame};
use super::{Colours, Head, Sink};
use crate::images::format::{PixelLimits, probe};
use crate::images::render::RenderError;
use crate::images::render::picture::Channels;
use crate::images::render::stop::Stop;

/// Delays up to this are shown as [`SLOW`].
const FASTEST: u16 = 1;
/// The delay that browsers use for animations that are too fast, in milliseconds.
const SLOW: u32 = 100;

/// The frames of a GIF, as they are shown.
pub(in crate::images::render) struct Frames<'a> {
    decoder: gif::Decoder<Cursor<&'a [u8]>>,
    canvas: Canvas,
    size: (u32, u32),
    /// What the last frame asks to be done before the next one.
    dispose: Option<(DisposalMethod, Frame)>,
    /// The canvas before the last frame, if that frame is to be undone.
    before: Option<Canvas>,
    /// The first frame, which was read in advance.
    indices: Vec<u8>,
}

fn failure(error: &DecodingError) -> RenderError {
    RenderError::Undecodable(error.to_string())
}

impl<'a> Frames<'a> {
    pub(in crate::images::render) fn new(bytes: &'a [u8]) -> Result<Self, RenderError> {
        let mut options = DecodeOptions::new();
        options.set_color_output(ColorOutput::Indexed);
        options.allow_unknown_blocks(true);
        // The limits on pixels bound it.
        options.set_memory_limit(MemoryLimit::Unlimited);
        let decoder = options.read_info(Cursor::new(bytes));
        let decoder = decoder.map_err(|error| failure(&error))?;
        let size = size(bytes)?;
        Ok(Self {
            decoder,
            canvas: Canvas::new(size.0, size.1),
            size,
            dispose: None,
            before: None,
            indices: Vec::new(),
        })
    }

    /// The size of the canvas.
    pub(in crate::images::render) const fn size(&self) -> (u32, u32) {
        self.size
    }

    /// How often the animation plays; 0 for ever.
    pub(in crate::images::render) fn plays(&self) -> u16 {
        match self.decoder.repeat() {
            Repeat::Infinite => 0,
            Repeat::Finite(again) => again.saturating_add(1),
        }
    }

    /// Draws the next frame. Returns its duration in milliseconds, or `None` behind the last one.
    pub(in crate::images::render) fn next(&mut self) -> Result<Option<u32>, RenderError> {
        match self.dispose.take() {
            Some((DisposalMethod::Background, area)) => self.canvas.clear(area),
            Some((DisposalMethod::Previous, _)) => {
                if let Some(before) = self.before.take() {
                    self.canvas = before;
                }
            }
            _ => {}
        }
        let info = self.decoder.next_frame_info();
        let Some(frame) = info.map_err(|error| failure(&error))? else {
            return Ok(None);
        };
        let area = Frame {
            left: u32::from(frame.left),
            top: u32::from(frame.top),
            width: u32::from(frame.width),
            height: u32::from(frame.height),
        };
        let (transparent, delay, dispose) = (frame.transparent, frame.delay, frame.dispose);
        self.indices.clear();
        self.indices.resize(self.decoder.buffer_size(), 0);
        self.decoder
            .read_into_buffer(&mut self.indices)
            .map_err(|error| failure(&error))?;
        if dispose == DisposalMethod::Previous {
            self.before = Some(self.canvas.clone());
        }
        // A frame without any table has no colours, and browsers show nothing of it.
        let palette = self.decoder.palette().unwrap_or_default();
        let (palette, _) = palette.as_chunks::<3>();
        let indices = &self.indices;
        let width = area.width as usize;
        self.canvas.draw(area, |number, pixels| {
            let row = indices.get(number * width..).unwrap_or_default();
            let (pixels, _) = pixels.as_chunks_mut::<4>();
            for (pixel, &index) in pixels.iter_mut().zip(row) {
                if Some(index) == transparent {
                    continue;
                }
                if let Some(&[r, g, b]) = palette.get(usize::from(index)) {
                    *pixel = [r, g, b, 255];
                }
            }
        });
        self.dispose = Some((dispose, area));
        Ok(Some(if delay <= FASTEST {
            SLOW
        } else {
            u32::from(delay) * 10
        }))
    }

    /// The canvas, 4 bytes a pixel.
    pub(in crate::images::render) fn pixels(&self) -> &[u8] {
        self.canvas.bytes()
    }
}

/// The size of the canvas, which the first frame can extend.
fn size(bytes: &[u8]) -> Result<(u32, u32), RenderError> {
    let limits = PixelLimits {
        max_pixels: u64::MAX,
        max_total_pixels: u64::MAX,
    };
    let probe =
        probe(bytes, limits).map_err(|error| RenderError::Undecodable(error.to_string()))?;
    Ok((probe.width, probe.height))
}

pub(super) fn read(bytes: &[u8], stop: &Stop, sink: &mut dyn Sink) -> Result<(), RenderError> {
    let (width, height) = size(bytes)?;
    sink.begin(Head {
        width,
        height,
        channels: Channels::Rgba,
        colours: Colours::Unknown,
        can_reduce: false,
        // The canvas, and the indices of a frame.
        memory: u64::from(width) * u64::from(height) * 5,
    })?;
    let mut frames = Frames::new(bytes)?;
    stop.check()?;
    if frames.next()?.is_none() {
        return Err(RenderError::Undecodable("there is no frame".to_owned()));
    }
    for row in frames.canvas.rows() {
        stop.check()?;
        sink.row(row)?;
    }
    Ok(())
}
