//! Boxes, crops, margins and orientations.

use super::*;

/// A picture of one colour for each quarter: red, green, blue, white.
fn quarters(width: u32, height: u32) -> Vec<u8> {
    let colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]];
    let pixel = |x: u32, y: u32| {
        let number = usize::from(y >= height / 2) * 2 + usize::from(x >= width / 2);
        colours[number]
    };
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| pixel(x, y)));
    let bytes: Vec<u8> = pixels.flatten().collect();
    pictures::png((width, height), png::ColorType::Rgb, false, &bytes)
}

fn made(bytes: &[u8], variant: &Variant) -> Picture {
    let format = crate::images::format::format_of(bytes).unwrap();
    let made = render(bytes, format, variant, &stop()).unwrap();
    let shown = decoded(&made.bytes, variant.output).unwrap();
    assert_eq!((made.width, made.height), (shown.width, shown.height));
    shown
}

fn pixel(picture: &Picture, x: u32, y: u32) -> [u8; 4] {
    let at = (y as usize * picture.width as usize + x as usize) * 4;
    picture.bytes[at..at + 4].try_into().unwrap()
}

#[test]
fn each_fit_has_the_size_that_the_box_gives() {
    let bytes = quarters(80, 40);
    let size = |w, h, fit| {
        let shown = made(&bytes, &variant(w, h, fit, Output::Png));
        (shown.width, shown.height)
    };
    let cases = [
        (Some(40), None, Fit::ScaleDown, (40, 20)),
        (None, Some(10), Fit::ScaleDown, (20, 10)),
        (Some(40), Some(40), Fit::ScaleDown, (40, 20)),
        (Some(10), Some(40), Fit::ScaleDown, (10, 5)),
        (Some(200), Some(200), Fit::ScaleDown, (80, 40)),
        (Some(160), None, Fit::ScaleDown, (80, 40)),
        (Some(160), None, Fit::Contain, (160, 80)),
        (Some(160), None, Fit::Cover, (160, 80)),
        (Some(160), None, Fit::Pad, (160, 80)),
        (Some(160), Some(160), Fit::Contain, (160, 80)),
        (Some(20), Some(20), Fit::Cover, (20, 20)),
        (Some(160), Some(20), Fit::Cover, (160, 20)),
        (Some(100), Some(100), Fit::Pad, (100, 100)),
        (Some(20), Some(30), Fit::Pad, (20, 30)),
        (Some(33), None, Fit::ScaleDown, (33, 17)),
    ];
    for (w, h, fit, expected) in cases {
        assert_eq!(size(w, h, fit), expected, "{w:?} {h:?} {fit:?}");
    }
}

#[test]
fn cover_keeps_the_middle_and_crops_both_sides_equally() {
    let shown = made(
        &quarters(80, 40),
        &variant(Some(20), Some(20), Fit::Cover, Output::Png),
    );
    // The middle half of the width is left, so the colours meet in the middle.
    assert_eq!(pixel(&shown, 4, 4), [255, 0, 0, 255]);
    assert_eq!(pixel(&shown, 15, 4), [0, 255, 0, 255]);
    assert_eq!(pixel(&shown, 4, 15), [0, 0, 255, 255]);
    assert_eq!(pixel(&shown, 15, 15), [255, 255, 255, 255]);
}

#[test]
fn pad_is_transparent_and_white_in_jpeg() {
    let bytes = quarters(80, 40);
    let pad = |output| made(&bytes, &variant(Some(40), Some(40), Fit::Pad, output));
    let shown = pad(Output::Png);
    assert_eq!(pixel(&shown, 20, 9), [0, 0, 0, 0]);
    assert_eq!(pixel(&shown, 2, 12), [255, 0, 0, 255]);
    assert_eq!(pixel(&shown, 38, 28), [255, 255, 255, 255]);
    assert_eq!(pixel(&shown, 20, 30), [0, 0, 0, 0]);
    let [r, g, b, _] = pixel(&pad(Output::Jpeg), 20, 2);
    assert!(r.min(g).min(b) > 225, "{r} {g} {b}");
    assert_eq!(pixel(&pad(Output::WebP), 20, 2)[3], 0);
}

#[test]
fn transparent_pixels_do_not_colour_their_neighbours() {
    let bytes: Vec<u8> = (0..64 * 64)
        .flat_map(|at| {
            if at % 64 < 32 {
                [0, 255, 0, 0]
            } else {
                [255, 0, 0, 255]
            }
        })
        .collect();
    let bytes = pictures::png((64, 64), png::ColorType::Rgba, false, &bytes);
    let shown = made(&bytes, &wide(17, Output::Png));
    for x in 0..17 {
        let [r, g, b, a] = pixel(&shown, x, 8);
        assert!(
            a < 8 || (r > 245 && g < 10 && b < 10),
            "{x}: {r} {g} {b} {a}"
        );
    }
    let white = made(
        &bytes,
        &variant(Some(16), None, Fit::ScaleDown, Output::Jpeg),
    );
    assert!(pixel(&white, 2, 8)[0] > 250 && pixel(&white, 2, 8)[1] > 250);
}

/// A JPEG of the quarters whose Exif has this orientation.
fn turned_jpeg(orientation: u8) -> Vec<u8> {
    let (width, height) = (64_u16, 32_u16);
    let picture = decoded(&quarters(64, 32), Output::Png).unwrap();
    let mut out = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut out, 95);
    let exif = [
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(),
        &[orientation],
        &[0; 6],
    ];
    encoder.add_exif_metadata(&exif.concat()).unwrap();
    let colour = jpeg_encoder::ColorType::Rgba;
    encoder
        .encode(&picture.bytes, width, height, colour)
        .unwrap();
    out
}

#[test]
fn every_orientation_is_applied() {
    let (red, green, blue, white) = ('r', 'g', 'b', 'w');
    // The corners as they are shown: top left, top right, bottom left, bottom right.
    let expected = [
        [red, green, blue, white],
        [green, red, white, blue],
        [white, blue, green, red],
        [blue, white, red, green],
        [red, blue, green, white],
        [blue, red, white, green],
        [white, green, blue, red],
        [green, white, red, blue],
    ];
    for (orientation, expected) in (1..=8).zip(expected) {
        let bytes = turned_jpeg(orientation);
        let is_turned = orientation > 4;
        for (w, h) in [(None, None), (Some(16), None)] {
            let shown = made(&bytes, &variant(w, h, Fit::ScaleDown, Output::Png));
            assert_eq!(shown.width < shown.height, is_turned, "{orientation}");
            let (right, bottom) = (shown.width - 3, shown.height - 3);
            let corners = [(2, 2), (right, 2), (2, bottom), (right, bottom)];
            let named = corners.map(|(x, y)| {
                let [r, g, b, _] = pixel(&shown, x, y).map(|value| value > 127);
                match (r, g, b) {
                    (true, true, true) => white,
                    (true, ..) => red,
                    (_, true, _) => green,
                    _ => blue,
                }
            });
            assert_eq!(named, expected, "orientation {orientation}, width {w:?}");
        }
    }
}

/// A picture whose rows become brighter from top to bottom, by one step for each row.
fn ramp(width: u32, height: u32) -> Vec<u8> {
    let row = |y: u32| vec![u8::try_from(y).unwrap(); width as usize];
    let bytes: Vec<u8> = (0..height).flat_map(row).collect();
    pictures::png((width, height), png::ColorType::Grayscale, false, &bytes)
}

#[test]
fn rows_above_and_below_a_crop_leave_the_others_at_their_place() {
    // Of 240 rows, the middle is shown: 120 rows, and 30.
    for (w, h, height) in [(40, 60, 120), (160, 60, 30)] {
        let cover = variant(Some(w), Some(h), Fit::Cover, Output::Png);
        let shown = made(&ramp(80, 240), &cover);
        for y in 0..h {
            // In quarters: the middle of the row in the source, less half a row.
            let expected = 2 * (240 - height) + (2 * y + 1) * 2 * height / h - 2;
            let [found, ..] = pixel(&shown, w / 2, y).map(u32::from);
            let off = (4 * found).abs_diff(expected);
            assert!(off <= 6, "row {y} of {h}: {found}, {expected} quarters");
        }
    }
}

#[test]
fn a_turned_picture_is_cropped_as_it_is_shown() {
    let shown = made(
        &turned_jpeg(6),
        &variant(Some(16), Some(16), Fit::Cover, Output::Png),
    );
    assert_eq!((shown.width, shown.height), (16, 16));
    let [r, g, b, _] = pixel(&shown, 2, 2);
    assert!(r < 60 && g < 60 && b > 200, "blue is top left: {r} {g} {b}");
}
