//! Tests each rule of the GIF walk with the smallest file that breaks it.

use super::super::samples::{gif, gif_frame, gif_head, probe, shape};
use super::super::{FormatError, limits};
use super::*;

fn assert_corrupt(bytes: &[u8], needle: &str) {
    match probe(bytes) {
        Err(FormatError::Corrupt {
            format: Format::Gif,
            what,
        }) if what.contains(needle) => {}
        other => panic!("expected '{needle}', got {other:?}"),
    }
}

fn with(width: u16, height: u16, blocks: &[u8]) -> Vec<u8> {
    [&gif_head(width, height), blocks, b";"].concat()
}

#[test]
fn still_and_animated_gifs_of_both_versions_have_their_size() {
    for frames in [1, 7] {
        let expected = (5, 4, frames);
        let mut bytes = gif(5, 4, frames as usize);
        assert_eq!(shape(&bytes), Ok(expected));
        bytes[4] = b'7';
        assert_eq!(shape(&bytes), Ok(expected));
    }
}

#[test]
fn an_empty_screen_has_the_size_of_the_first_frame() {
    let frames = [gif_frame([1, 2, 3, 4]), gif_frame([0, 0, 9, 9])].concat();
    let expected = (4, 6, 2);
    assert_eq!(shape(&with(0, 0, &frames)), Ok(expected));
}

#[test]
fn only_the_first_frame_extends_the_screen() {
    let sized = |rect| shape(&with(2, 2, &gif_frame(rect)));
    assert_eq!(sized([1, 1, 9, 9]), Ok((10, 10, 1)));
    assert_eq!(sized([0, 1, 1, 9]), Ok((2, 10, 1)));
    assert!(sized([32_767, 0, 1, 1]).is_ok());
    for corner in [[32_768, 0, 1, 1], [0, 32_768, 1, 1], [65_535; 4]] {
        let found = sized(corner);
        assert!(
            matches!(found, Err(FormatError::SideTooLong { .. })),
            "{found:?}"
        );
    }
    let two = [gif_frame([0, 0, 1, 1]), gif_frame([50, 50, 9, 9])].concat();
    assert_eq!(shape(&with(2, 2, &two)), Ok((2, 2, 2)));
}

#[test]
fn a_frame_needs_data_and_the_image_a_size() {
    assert!(probe(&with(2, 2, &gif_frame([0, 0, 0, 1]))).is_ok());
    assert_corrupt(&with(2, 0, &gif_frame([0, 0, 1, 0])), "side of zero");
    assert_corrupt(&with(0, 2, &gif_frame([0, 0, 0, 1])), "side of zero");
    assert_corrupt(&with(2, 2, b""), "without a frame");
    let colourless = b"GIF89a\x02\0\x02\0\0\0\0,\0\0\0\0\x02\0\x02\0\0\x02\x02\x44\x01\0;";
    assert!(probe(colourless).is_ok());
    let mut local = colourless[..13].to_vec();
    local.extend(b",\0\0\0\0\x02\0\x02\0\x80\0\0\0\xff\xff\xff\x02\x02\x44\x01\0;");
    assert!(probe(&local).is_ok());
    for (size, known) in [(0, false), (1, true), (2, true), (11, true), (12, false)] {
        let mut frame = gif_frame([0, 0, 2, 2]);
        let at = frame.len() - 5;
        frame[at] = size;
        assert_eq!(
            probe(&with(2, 2, &frame)).is_ok(),
            known,
            "code size {size}"
        );
    }
    let mut empty = gif_frame([0, 0, 2, 2]);
    empty.truncate(empty.len() - 4);
    empty.push(0);
    assert_corrupt(&with(2, 2, &empty), "has no data");
}

#[test]
fn an_unknown_block_is_refused() {
    let frame = gif_frame([0, 0, 2, 2]);
    let after = |block: &[u8]| with(2, 2, &[block, &frame].concat());
    assert!(probe(&after(b"!\xfe\x02hi\0!\x01\x01x\x01y\0!\x77\0")).is_ok());
    assert_corrupt(
        &after(b"\0"),
        "at byte 19 should be a block or the trailer and is 00",
    );
    assert_corrupt(&after(b"!\xf9\x03\0\0\0\0"), "of 4 bytes but has 3");
    assert_corrupt(&after(b"!\xf9\x02\0\0\x02\0\0\0"), "of 4 bytes but has 4");
    assert_corrupt(&after(b"!\xf9\0"), "of 4 bytes but has 0");
}

#[test]
fn sides_pixels_and_frames_are_limited() {
    assert!(probe(&gif(16_384, 1, 1)).is_ok());
    assert!(probe(&gif(1, 16_384, 1)).is_ok());
    assert!(probe(&gif(10_000, 10_000, 1)).is_ok());
    let bomb = FormatError::SideTooLong {
        width: 65_535,
        height: 65_535,
        limit: limits::MAX_SIDE,
    };
    assert_eq!(probe(&gif(65_535, 65_535, 1)), Err(bomb));
    assert!(matches!(
        probe(&gif(32_769, 1, 1)),
        Err(FormatError::SideTooLong { .. })
    ));
    let canvas_alone = with(10_000, 10_001, &gif_frame([0, 0, 1, 1]));
    assert!(matches!(
        probe(&canvas_alone),
        Err(FormatError::TooManyPixels { .. })
    ));
    assert!(probe(&gif(2_000, 1_500, 100)).is_ok());
    let error = probe(&gif(2_000, 1_500, 101));
    assert!(matches!(
        error,
        Err(FormatError::TooManyTotalPixels {
            frames: 101,
            pixels: 303_000_000,
            ..
        })
    ));
    assert_eq!(
        probe(&gif(1, 1, 1_000)).map(|probe| probe.frames),
        Ok(1_000)
    );
    for frames in [1_001, 100_000] {
        let error = FormatError::TooManyFrames {
            frames: 1_001,
            limit: limits::MAX_FRAMES,
        };
        assert_eq!(probe(&gif(1, 1, frames)), Err(error));
    }
}
