//! Reads a file with decoders that are independent of pixtoll.
//!
//! They are safe Rust and widely used. They fail on many fuzzed files, by an error or by a panic in
//! a build that checks arithmetic. Both are results here, see `compare`.

use std::cell::Cell;
use std::fmt::Debug;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::model::format::Format;
use crate::parts::{has_equal_ids, has_late_metadata, has_other_frame_sizes};

/// The largest Exif block after cleaning: an orientation, and in JPEG also a display size and the
/// headroom of a gain map.
const ORIENTATION_LEN: usize = 26;
const MOST_OF_EXIF: usize = 200;
/// The memory limit of a decoder, in bytes.
const MEMORY: usize = 1 << 24;

#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The pixels, places and times that are shown. The colour profile is left out: it is
    /// rewritten, and has tests of its own.
    pub(crate) picture: Vec<Vec<u8>>,
    /// The metadata that viewers do not show.
    pub(crate) metadata: Vec<String>,
    /// Why the decoder stopped early.
    pub(crate) failure: Option<String>,
}

thread_local! {
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Lets a panic of a decoder unwind, while any other panic ends the process.
pub(crate) fn forgive_decoders() {
    let abort = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !DECODING.get() {
            abort(info);
        }
    }));
}

/// Runs `work`; if `forgives`, a panic in it does not abort the process.
pub(crate) fn forgiven<T>(forgives: bool, work: impl FnOnce() -> T) -> T {
    DECODING.set(forgives);
    let result = work();
    DECODING.set(false);
    result
}

/// Decodes a file. Metadata of a gain map are not counted.
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
        // The checksum behind compressed data, which random changes can't get right.
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
        // Without pixel density and background: browsers do not show them, and this decoder reads
        // chunks that are too long.
        let rest = (&info.sbit, &info.animation_control);
        let facts = text((colours, bright, rest));
        self.shows(facts);
        let frames = info
            .animation_control
            .map_or(1, |control| control.num_frames);
        // The first image may not be a frame.
        for number in 0..=frames {
            let mut pixels = vec![0; reader.output_buffer_size().ok_or("too large")?.min(MEMORY)];
            let result = reader.next_frame(&mut pixels);
            if number == frames && matches!(result, Err(png::DecodingError::Parameter(_))) {
                break;
            }
            let info = result.map_err(text)?;
            self.picture.push(pixels);
            // Without an animation, the place and the time of a frame have no effect.
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
        // The decoder changes colours by them, and uses the marker behind a scan that is too short
        // as its data.
        if has_late_metadata(bytes) {
            return Err("late metadata".to_owned());
        }
        if has_equal_ids(bytes) {
            return Err("components of one name".to_owned());
        }
        // Otherwise it stops silently at unknown parts, and shows what it has read by then.
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
        // The decoder reads up to 22 bytes beyond the container.
        let len = bytes
            .get(4..8)
            .and_then(|len| Some(u32::from_le_bytes(len.try_into().ok()?)));
        let end = len.map_or(0, |len| len as usize + 8);
        let bytes = bytes.get(..end).unwrap_or(bytes);
        // The decoder uses the header of a frame.
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
