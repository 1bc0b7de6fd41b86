//! Encodes AVIF by rav1e, at its fastest setting.
//!
//! Photographs have one colour sample for four pixels (4:2:0), as in nearly every JPEG file: that takes
//! two thirds of the time. Other pictures, such as screenshots, keep the colour of each pixel.

use rav1e::prelude::{
    BlockSize, ChromaSampling, ColorDescription, ColorPrimaries, Config, Context, EncoderConfig,
    EncoderStatus, Frame, MatrixCoefficients, PartitionRange, PixelRange, SceneDetectionSpeed,
    SpeedSettings, TransferCharacteristics,
};
use ravif::{BitDepth, Encoder, Img, RGB8, RGBA8};

use super::super::RenderError;
use super::super::picture::{Channels, Picture};

/// The most pixels. The encoder takes a second and 60 MiB for each million, and can't be stopped.
const MAX_PIXELS: u64 = 9_000_000;
/// The fastest setting.
const SPEED: u8 = 10;
/// From this quality on, photographs keep the colour of each pixel too.
const FINE: u8 = 90;

/// Encodes a picture in RGB or RGBA. `is_photograph`: it was made of a JPEG file.
pub(super) fn encode(
    picture: Picture,
    is_photograph: bool,
    quality: u8,
) -> Result<Vec<u8>, RenderError> {
    let pixels = u64::from(picture.width) * u64::from(picture.height);
    if pixels > MAX_PIXELS {
        return Err(RenderError::TooManyPixels {
            pixels,
            limit: MAX_PIXELS,
        });
    }
    if is_photograph && quality < FINE && picture.channels == Channels::Rgb {
        return photograph(&picture, quality);
    }
    let quality = f32::from(quality);
    let settings = Encoder::new()
        .with_quality(quality)
        .with_alpha_quality(quality)
        .with_speed(SPEED)
        .with_bit_depth(BitDepth::Eight)
        .with_num_threads(Some(1));
    let (width, height) = (picture.width as usize, picture.height as usize);
    let encoded = if picture.channels == Channels::Rgba {
        let (chunks, _) = picture.bytes.as_chunks::<4>();
        let pixels: Vec<RGBA8> = chunks
            .iter()
            .map(|&[r, g, b, a]| RGBA8 { r, g, b, a })
            .collect();
        drop(picture);
        settings.encode_rgba(Img::new(pixels.as_slice(), width, height))
    } else {
        let (chunks, _) = picture.bytes.as_chunks::<3>();
        let pixels: Vec<RGB8> = chunks.iter().map(|&[r, g, b]| RGB8 { r, g, b }).collect();
        drop(picture);
        settings.encode_rgb(Img::new(pixels.as_slice(), width, height))
    };
    match encoded {
        Ok(image) => Ok(image.avif_file),
        Err(error) => Err(RenderError::Failed(error.to_string())),
    }
}

/// Encodes an RGB picture as 4:2:0.
fn photograph(picture: &Picture, quality: u8) -> Result<Vec<u8>, RenderError> {
    let failed = |error: &dyn std::fmt::Display| RenderError::Failed(error.to_string());
    let (width, height) = (picture.width as usize, picture.height as usize);
    let config = Config::new()
        .with_encoder_config(EncoderConfig {
            width,
            height,
            chroma_sampling: ChromaSampling::Cs420,
            pixel_range: PixelRange::Full,
            color_description: Some(ColorDescription {
                color_primaries: ColorPrimaries::BT709,
                transfer_characteristics: TransferCharacteristics::SRGB,
                matrix_coefficients: MatrixCoefficients::BT601,
            }),
            still_picture: true,
            quantizer: quantizer(quality),
            speed_settings: speed(),
            ..EncoderConfig::default()
        })
        .with_threads(1);
    let mut context: Context<u8> = config.new_context().map_err(|error| failed(&error))?;
    let mut frame = context.new_frame();
    fill(&mut frame, picture);
    context.send_frame(frame).map_err(|error| failed(&error))?;
    context.flush();
    let mut av1 = Vec::new();
    loop {
        match context.receive_packet() {
            Ok(packet) => av1.extend_from_slice(&packet.data),
            Err(EncoderStatus::Encoded) => {}
            Err(EncoderStatus::LimitReached) => break,
            Err(error) => return Err(failed(&error)),
        }
    }
    Ok(avif_serialize::Aviffy::new()
        .set_chroma_subsampling((true, true))
        .matrix_coefficients(avif_serialize::constants::MatrixCoefficients::Bt601)
        .to_vec(&av1, None, picture.width, picture.height, 8))
}

/// What ravif sets for its speed 10.
fn speed() -> SpeedSettings {
    let mut speed = SpeedSettings::from_preset(SPEED);
    speed.scene_detection_mode = SceneDetectionSpeed::None;
    speed.rdo_lookahead_frames = 1;
    speed.cdef = false;
    speed.transform.tx_domain_rate = true;
    speed.prediction.fine_directional_intra = false;
    let side = BlockSize::BLOCK_16X16;
    speed.partition.partition_range = PartitionRange::new(side, side);
    speed
}

/// The quantizer of rav1e for a quality below [`FINE`], as ravif counts it.
fn quantizer(quality: u8) -> usize {
    let quality = usize::from(quality);
    // In thousandths of the range.
    let part = match quality {
        82.. => (100 - quality) * 26,
        26.. => 875 - quality * 5,
        _ => (100 - quality) * 10,
    };
    (part * 255 + 500) / 1000
}

/// Writes an RGB picture into the planes of a frame, by the matrix of BT.601 in its full range.
fn fill(frame: &mut Frame<u8>, picture: &Picture) {
    let width = picture.width.max(1) as usize;
    let (pixels, _) = picture.bytes.as_chunks::<3>();
    let luma = |&[r, g, b]: &[u8; 3]| sample([19_595, 38_470, 7471], [r, g, b].map(i32::from), 0);
    let luma: Vec<u8> = pixels.iter().map(luma).collect();
    let (mut blue, mut red) = (Vec::new(), Vec::new());
    for pair in pixels.chunks(width * 2) {
        let (above, below) = pair.split_at(width.min(pair.len()));
        // Under the last row of an odd number is none.
        let below = if below.is_empty() { above } else { below };
        for (above, below) in above.chunks(2).zip(below.chunks(2)) {
            let mean = mean(above, below);
            blue.push(sample([-11_058, -21_710, 32_768], mean, 128));
            red.push(sample([32_768, -27_439, -5329], mean, 128));
        }
    }
    let half = width.div_ceil(2);
    let planes = [(luma, width), (blue, half), (red, half)];
    for (plane, (samples, width)) in frame.planes.iter_mut().zip(planes) {
        plane.copy_from_raw_u8(&samples, width, 1);
    }
}

/// The mean colour of two or four pixels. At the right edge a pixel counts twice.
fn mean(above: &[[u8; 3]], below: &[[u8; 3]]) -> [i32; 3] {
    let corners = [above.first(), above.last(), below.first(), below.last()];
    let mut sum = [2; 3];
    for [r, g, b] in corners.into_iter().flatten() {
        for (sum, value) in sum.iter_mut().zip([r, g, b]) {
            *sum += i32::from(*value);
        }
    }
    sum.map(|sum| sum / 4)
}

/// A sample of a plane. The weights are in 65,536ths.
fn sample(weights: [i32; 3], colour: [i32; 3], zero: i32) -> u8 {
    let products = weights
        .into_iter()
        .zip(colour)
        .map(|(weight, value)| weight * value);
    let value = ((products.sum::<i32>() + 32_768) >> 16) + zero;
    u8::try_from(value.clamp(0, 255)).unwrap_or(u8::MAX)
}
