//! What is special in single formats: profiles, first frames, scans.

use moxcms::ColorProfile;

use super::*;
use crate::images::clean::clean;

/// One colour in a PNG with this profile.
fn with_profile(profile: &ColorProfile, colour: [u8; 3]) -> Vec<u8> {
    let mut info = png::Info::with_size(8, 8);
    info.color_type = png::ColorType::Rgb;
    info.bit_depth = png::BitDepth::Eight;
    info.icc_profile = Some(profile.encode().unwrap().into());
    let mut out = Vec::new();
    let encoder = png::Encoder::with_info(&mut out, info).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&colour.repeat(64)).unwrap();
    writer.finish().unwrap();
    out
}

fn first_pixel(bytes: &[u8]) -> [u8; 3] {
    let format = crate::images::format::format_of(bytes).unwrap();
    let plain = variant(None, None, Fit::ScaleDown, Output::Png);
    let made = render(bytes, format, &plain, &stop()).unwrap();
    assert!(
        !made.bytes.windows(4).any(|kind| kind == b"iCCP"),
        "a variant has no profile"
    );
    let shown = decoded(&made.bytes, Output::Png).unwrap();
    shown.bytes[..3].try_into().unwrap()
}

#[test]
fn a_wide_gamut_profile_is_converted_to_srgb() {
    let p3 = ColorProfile::new_display_p3();
    let [r, g, b] = first_pixel(&with_profile(&p3, [200, 100, 50]));
    // By the matrices of both spaces.
    assert!(
        r.abs_diff(215) <= 1 && g.abs_diff(93) <= 1 && b.abs_diff(31) <= 1,
        "{r} {g} {b}"
    );
    let srgb = ColorProfile::new_srgb();
    let [r, g, b] = first_pixel(&with_profile(&srgb, [200, 100, 50]));
    assert!(r.abs_diff(200) <= 1 && g.abs_diff(100) <= 1 && b.abs_diff(50) <= 1);
}

#[test]
fn a_profile_that_is_none_is_ignored() {
    let plain = sample(Kind::Jpeg, 32, 32);
    let mut broken = plain.bytes[..2].to_vec();
    broken.extend_from_slice(b"\xff\xe2\x00\x14ICC_PROFILE\0\x01\x01abcd");
    broken.extend_from_slice(&plain.bytes[2..]);
    assert_eq!(first_pixel(&broken), first_pixel(&plain.bytes));
}

#[test]
fn the_first_frame_of_a_png_is_the_one_that_browsers_show() {
    // The default image is red, and no frame of the animation; the first frame is green.
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, 4, 4);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_animated(1, 0).unwrap();
    encoder.set_sep_def_img(true).unwrap();
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[255, 0, 0].repeat(16)).unwrap();
    writer.write_image_data(&[0, 255, 0].repeat(16)).unwrap();
    writer.finish().unwrap();
    assert_eq!(first_pixel(&out), [0, 255, 0]);
}

#[test]
fn a_progressive_jpeg_has_the_pixels_of_a_sequential_one() {
    for side in Side::ALL {
        let decode = |kind| {
            let sample = sample(kind, 83, 59);
            let mut bytes = Vec::new();
            let cleaned = clean(&sample.bytes, Format::Jpeg).unwrap();
            let read = crate::images::decode::jpeg::pixels::read;
            let mut take = |row: &[u8]| {
                bytes.extend_from_slice(row);
                true
            };
            read(&cleaned.bytes, side, None, &mut take).unwrap();
            assert_eq!(bytes.len(), (side.of(83) * side.of(59) * 3) as usize);
            bytes
        };
        let (one, other) = (decode(Kind::Jpeg), decode(Kind::JpegProgressive));
        assert!(one == other, "{side:?}");
        let restarts = decode(Kind::JpegRestarts);
        assert!(one == restarts, "{side:?}");
    }
}
