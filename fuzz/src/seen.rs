//! What decoders that know nothing of pixtoll make of a file.
//!
//! They are safe Rust and widely used, and they fail on much that a fuzzer writes: by an error, or by a panic
//! in a build that checks arithmetic. Both are results here, see `compare`.

use std::cell::Cell;
use std::fmt::Debug;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::model::format::Format;
use crate::parts::{has_equal_ids, has_late_metadata, has_other_frame_sizes};

/// An Exif block with nothing in it but an orientation, in JPEG also a display size and the headroom of a gain map.
const ORIENTATION_LEN: usize = 26;
const MOST_OF_EXIF: usize = 200;
/// The bytes that a decoder may ask for.
const MEMORY: usize = 1 << 24;

#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// What is shown: pixels, places, times. A profile is rewritten, so its tests are pixtoll's own.
    pub(crate) picture: Vec<Vec<u8>>,
    /// What is of no concern to who looks at the picture.
    pub(crate) metadata: Vec<String>,
    /// Why the decoder stopped early.
    pub(crate) failure: Option<String>,
}

thread_local! {
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Lets a decoder's panic unwind, where any other ends the process.
pub(crate) fn forgive_decoders() {
    let abort = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !DECODING.get() {
            abort(info);
        }
    }));
}

/// The metadata of a gain map are none.
pub(crate) fn by_decoder(bytes: &[u8], format: Format, has_gain_map: bool) -> Seen {
    let mut seen = Seen::default();
    DECODING.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| match format {
        Format::Png => seen.png(bytes),
        Format::Jpeg => seen.jpeg(bytes, has_gain_map),
        Format::Gif => seen.gif(bytes),
        Format::Webp => seen.webp(bytes),
    }));
    DECODING.set(false);
    seen.failure = match result {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error),
        Err(_) => Some("a panic".to_owned()),
    };
    seen
}

fn text(what: impl Debug) -> String {
    format!("{what:?}")
}

impl Seen {
    fn shows(&mut self, what: impl Debug) {
        self.picture.push(text(what).into_bytes());
    }

    fn exif(&mut self, tiff: Option<&[u8]>, most: usize) {
        if let Some(tiff) = tiff.filter(|tiff| tiff.len() > most) {
            self.metadata.push(text(tiff));
        }
    }

    fn png(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut options = png::DecodeOptions::default();
        // The sum behind compressed data: chance finds none.
        options.set_ignore_adler32(true);
        let mut decoder = png::Decoder::new_with_options(Cursor::new(bytes), options);
        decoder.set_limits(png::Limits { bytes: MEMORY });
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().map_err(text)?;
        let info = reader.info();
        let colours = (&info.gama_chunk, &info.chrm_chunk, &info.srgb);
        let bright = (
            &info.coding_independent_code_points,
            &info.mastering_display_color_volume,
            &info.content_light_level,
        );
        // Neither pixel density nor background: no browser shows them, and this decoder reads chunks that are too long.
        let rest = (&info.sbit, &info.animation_control);
        let facts = text((colours, bright, rest));
        self.shows(facts);
        let frames = info
            .animation_control
            .map_or(1, |control| control.num_frames);
        // The first image may be no frame.
        for number in 0..=frames {
            let mut pixels = vec![0; reader.output_buffer_size().ok_or("too large")?.min(MEMORY)];
            let result = reader.next_frame(&mut pixels);
            if number == frames && matches!(result, Err(png::DecodingError::Parameter(_))) {
                break;
            }
            let info = result.map_err(text)?;
            self.picture.push(pixels);
            // Without an animation, a frame's place and time are nobody's.
            let control = reader.info().frame_control;
            self.shows((
                info,
                control.filter(|_| reader.info().animation_control.is_some()),
            ));
        }
        reader.finish().map_err(text)?;
        let info = reader.info();
        self.exif(info.exif_metadata.as_deref(), ORIENTATION_LEN);
        self.metadata
            .extend(info.uncompressed_latin1_text.iter().map(text));
        self.metadata
            .extend(info.compressed_latin1_text.iter().map(text));
        self.metadata.extend(info.utf8_text.iter().map(text));
        Ok(())
    }

    fn jpeg(&mut self, bytes: &[u8], has_gain_map: bool) -> Result<(), String> {
        // It changes colours by them, and fills up a scan that is too short by what marker ends it.
        if has_late_metadata(bytes) {
            return Err("late metadata".to_owned());
        }
        if has_equal_ids(bytes) {
            return Err("components of one name".to_owned());
        }
        // Otherwise it stops without a word at what it doesn't know, and shows what it has by then.
        let options = DecoderOptions::new_safe().set_strict_mode(true);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        let pixels = decoder.decode().map_err(text)?;
        self.shows(decoder.dimensions());
        self.picture.push(pixels);
        self.exif(decoder.exif().map(Vec::as_slice), MOST_OF_EXIF);
        if !has_gain_map {
            self.metadata.extend(decoder.xmp().map(text));
        }
        self.metadata.extend(decoder.iptc().map(text));
        Ok(())
    }

    fn gif(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        options.set_memory_limit(gif::MemoryLimit::Bytes(
            (MEMORY as u64).try_into().map_err(text)?,
        ));
        let mut decoder = options.read_info(bytes).map_err(text)?;
        self.shows((
            decoder.width(),
            decoder.height(),
            decoder.bg_color(),
            decoder.global_palette(),
        ));
        while let Some(frame) = decoder.read_next_frame().map_err(text)? {
            let when = (frame.delay, frame.dispose, frame.needs_user_input);
            let place = (frame.left, frame.top, frame.width, frame.height);
            self.shows((when, place, frame.transparent, frame.interlaced));
            self.picture.push(frame.buffer.to_vec());
        }
        self.shows(decoder.repeat());
        self.metadata.extend(decoder.icc_profile().map(text));
        self.metadata.extend(decoder.xmp_metadata().map(text));
        Ok(())
    }

    fn webp(&mut self, bytes: &[u8]) -> Result<(), String> {
        // It reads up to 22 bytes further than the container goes.
        let len = bytes
            .get(4..8)
            .and_then(|len| Some(u32::from_le_bytes(len.try_into().ok()?)));
        let end = len.map_or(0, |len| len as usize + 8);
        let bytes = bytes.get(..end).unwrap_or(bytes);
        // It goes by the header of a frame.
        if has_other_frame_sizes(bytes) {
            return Err("a frame of another size than its image".to_owned());
        }
        let mut decoder = image_webp::WebPDecoder::new(Cursor::new(bytes)).map_err(text)?;
        decoder.set_memory_limit(MEMORY);
        self.shows((
            decoder.dimensions(),
            decoder.has_alpha(),
            decoder.is_animated(),
            decoder.num_frames(),
        ));
        self.shows((
            decoder.loop_count(),
            decoder.loop_duration(),
            decoder.background_color_hint(),
        ));
        self.exif(
            decoder.exif_metadata().map_err(text)?.as_deref(),
            ORIENTATION_LEN,
        );
        self.metadata
            .extend(decoder.xmp_metadata().map_err(text)?.map(text));
        let len = decoder.output_buffer_size().ok_or("too large")?;
        let mut pixels = vec![0; len.min(MEMORY)];
        if !decoder.is_animated() {
            decoder.read_image(&mut pixels).map_err(text)?;
            self.picture.push(pixels);
            return Ok(());
        }
        for _ in 0..decoder.num_frames() {
            let duration = decoder.read_frame(&mut pixels).map_err(text)?;
            self.picture.push(pixels.clone());
            self.shows(duration);
        }
        Ok(())
    }
}
