//! Converts the colours of a picture to sRGB.

use moxcms::{ColorProfile, DataColorSpace, Layout, TransformOptions};

use super::picture::{Channels, Picture};
use super::source::Colours;

/// Converts a picture to sRGB. A profile that can't be read, or that is for other channels, is
/// ignored, as in browsers.
pub(super) fn to_srgb(picture: Picture, colours: &Colours) -> Picture {
    let profile = match colours {
        Colours::Unknown => None,
        Colours::Icc(bytes) => ColorProfile::new_from_slice(bytes).ok(),
        Colours::Cicp(points) => profile_of(*points),
    };
    let converted = profile.and_then(|profile| convert(&picture, &profile));
    match converted {
        Some(converted) => converted,
        None if picture.channels == Channels::Cmyk => without_profile(&picture),
        None => picture,
    }
}

/// The profile of the code points of ITU-T H.273 for primaries and transfer.
fn profile_of((primaries, transfer): (u8, u8)) -> Option<ColorProfile> {
    let profile = ColorProfile::new_from_cicp(moxcms::CicpProfile {
        color_primaries: moxcms::CicpColorPrimaries::try_from(primaries).ok()?,
        transfer_characteristics: moxcms::TransferCharacteristics::try_from(transfer).ok()?,
        matrix_coefficients: moxcms::MatrixCoefficients::Identity,
        full_range: true,
    });
    // Both must be known; the profile has no curve otherwise.
    profile.red_trc.is_some().then_some(profile)
}

fn convert(picture: &Picture, profile: &ColorProfile) -> Option<Picture> {
    let (from, to, channels) = match (picture.channels, profile.color_space) {
        (Channels::Grey, DataColorSpace::Gray) => (Layout::Gray, Layout::Rgb, Channels::Rgb),
        (Channels::Rgb, DataColorSpace::Rgb) => (Layout::Rgb, Layout::Rgb, Channels::Rgb),
        (Channels::Rgba, DataColorSpace::Rgb) => (Layout::Rgba, Layout::Rgba, Channels::Rgba),
        (Channels::Cmyk, DataColorSpace::Cmyk) => (Layout::Rgba, Layout::Rgb, Channels::Rgb),
        // Grey with transparency is decoded to RGBA.
        (Channels::Rgba, DataColorSpace::Gray) if is_grey(picture) => {
            (Layout::GrayAlpha, Layout::Rgba, Channels::Rgba)
        }
        _ => return None,
    };
    let srgb = ColorProfile::new_srgb();
    // The perceptual intent, without compensation of the black point, as in Chromium.
    let options = TransformOptions::default();
    let transform = profile.create_transform_8bit(from, &srgb, to, options);
    let pixels = picture.width as usize * picture.height as usize;
    let mut bytes = vec![0; pixels * channels.count()];
    let transform = transform.ok()?;
    if from == Layout::GrayAlpha {
        let (pixels, _) = picture.bytes.as_chunks::<4>();
        let grey: Vec<u8> = pixels.iter().flat_map(|&[g, _, _, a]| [g, a]).collect();
        transform.transform(&grey, &mut bytes).ok()?;
    } else {
        transform.transform(&picture.bytes, &mut bytes).ok()?;
    }
    Some(Picture {
        width: picture.width,
        height: picture.height,
        channels,
        bytes,
    })
}

/// Whether a picture in RGBA has no colour.
fn is_grey(picture: &Picture) -> bool {
    let (pixels, _) = picture.bytes.as_chunks::<4>();
    pixels.iter().all(|&[r, g, b, _]| r == g && g == b)
}

/// Mixes ink without a profile, as browsers do.
fn without_profile(picture: &Picture) -> Picture {
    let (pixels, _) = picture.bytes.as_chunks::<4>();
    let left = |ink: u8, black: u8| {
        let product = u32::from(255 - ink) * u32::from(255 - black);
        u8::try_from((product + 127) / 255).unwrap_or(u8::MAX)
    };
    let pixel = |&[c, m, y, k]: &[u8; 4]| [left(c, k), left(m, k), left(y, k)];
    Picture {
        width: picture.width,
        height: picture.height,
        channels: Channels::Rgb,
        bytes: pixels.iter().flat_map(pixel).collect(),
    }
}
