//! Reads WebP.

use std::io::Cursor;

use image_webp::{DecodingError, LoopCount, WebPDecoder};

use super::{Colours, Head, Sink};
use crate::images::render::RenderError;
use crate::images::render::picture::Channels;
use crate::images::render::stop::Stop;

fn failure(error: &DecodingError) -> RenderError {
    RenderError::Undecodable(error.to_string())
}

fn open(bytes: &[u8]) -> Result<WebPDecoder<Cursor<&[u8]>>, RenderError> {
    WebPDecoder::new(Cursor::new(bytes)).map_err(|error| failure(&error))
}

fn channels(decoder: &WebPDecoder<Cursor<&[u8]>>) -> Channels {
    if decoder.has_alpha() {
        Channels::Rgba
    } else {
        Channels::Rgb
    }
}

fn colours(decoder: &mut WebPDecoder<Cursor<&[u8]>>) -> Colours {
    match decoder.icc_profile() {
        Ok(Some(profile)) => Colours::Icc(profile),
        Ok(None) | Err(_) => Colours::Unknown,
    }
}

fn buffer(decoder: &WebPDecoder<Cursor<&[u8]>>) -> Result<Vec<u8>, RenderError> {
    let len = decoder.output_buffer_size();
    let len = len.ok_or_else(|| RenderError::Undecodable("the frame is too large".to_owned()))?;
    Ok(vec![0; len])
}

pub(super) fn read(bytes: &[u8], stop: &Stop, sink: &mut dyn Sink) -> Result<(), RenderError> {
    let mut decoder = open(bytes)?;
    let (width, height) = decoder.dimensions();
    let channels = channels(&decoder);
    let colours = colours(&mut decoder);
    sink.begin(Head {
        width,
        height,
        channels,
        colours,
        can_reduce: false,
        // The picture, and its planes or its lossless pixels, or the canvas of an animation.
        memory: u64::from(width) * u64::from(height) * 8,
    })?;
    let mut pixels = buffer(&decoder)?;
    stop.check()?;
    let read = decoder.read_image(&mut pixels);
    read.map_err(|error| failure(&error))?;
    for row in pixels.chunks_exact(width as usize * channels.count()) {
        stop.check()?;
        sink.row(row)?;
    }
    Ok(())
}

/// The frames of an animated WebP, as they are shown.
pub(in crate::images::render) struct Frames<'a> {
    decoder: WebPDecoder<Cursor<&'a [u8]>>,
    pixels: Vec<u8>,
    channels: Channels,
    colours: Colours,
    left: u32,
}

impl<'a> Frames<'a> {
    pub(in crate::images::render) fn new(bytes: &'a [u8]) -> Result<Self, RenderError> {
        let mut decoder = open(bytes)?;
        if !decoder.is_animated() {
            return Err(RenderError::Undecodable("it is no animation".to_owned()));
        }
        // Browsers ignore the background of the file.
        let cleared = decoder.set_background_color([0; 4]);
        cleared.map_err(|error| failure(&error))?;
        Ok(Self {
            pixels: buffer(&decoder)?,
            channels: channels(&decoder),
            colours: colours(&mut decoder),
            left: decoder.num_frames(),
            decoder,
        })
    }

    /// The size of the canvas.
    pub(in crate::images::render) fn size(&self) -> (u32, u32) {
        self.decoder.dimensions()
    }

    pub(in crate::images::render) const fn channels(&self) -> Channels {
        self.channels
    }

    pub(in crate::images::render) const fn colours(&self) -> &Colours {
        &self.colours
    }

    /// How often the animation plays; 0 for ever.
    pub(in crate::images::render) fn plays(&self) -> u16 {
        match self.decoder.loop_count() {
            LoopCount::Forever => 0,
            LoopCount::Times(times) => times.get(),
        }
    }

    /// Draws the next frame. Returns its duration in milliseconds, or `None` behind the last one.
    pub(in crate::images::render) fn next(&mut self) -> Result<Option<u32>, RenderError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let read = self.decoder.read_frame(&mut self.pixels);
        Ok(Some(read.map_err(|error| failure(&error))?))
    }

    /// The canvas.
    pub(in crate::images::render) fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}
