//! Animations that stay animations.

use super::*;

/// A GIF of a square that moves over a transparent canvas, and then stands still for a frame.
fn moving(frames: u16, dispose: gif::DisposalMethod) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = gif::Encoder::new(&mut out, 64, 48, &[255, 0, 0, 0, 0, 255]).unwrap();
    encoder.set_repeat(gif::Repeat::Finite(2)).unwrap();
    for number in 0..frames {
        let mut frame = gif::Frame::from_indexed_pixels(16, 16, vec![0; 256], None);
        frame.left = (number.min(frames - 2)) * 4;
        frame.top = 8;
        frame.delay = 5;
        frame.dispose = dispose;
        encoder.write_frame(&frame).unwrap();
    }
    drop(encoder);
    out
}

fn webp(width: u32) -> Variant {
    wide(width, Output::WebP)
}

fn frames_of(bytes: &[u8]) -> (Vec<u32>, Vec<Vec<u8>>, image_webp::LoopCount) {
    let mut decoder = image_webp::WebPDecoder::new(std::io::Cursor::new(bytes)).unwrap();
    assert!(decoder.is_animated());
    decoder.set_background_color([0; 4]).unwrap();
    let mut pixels = vec![0; decoder.output_buffer_size().unwrap()];
    let (mut times, mut frames) = (Vec::new(), Vec::new());
    for _ in 0..decoder.num_frames() {
        times.push(decoder.read_frame(&mut pixels).unwrap());
        frames.push(pixels.clone());
    }
    (times, frames, decoder.loop_count())
}

#[test]
fn a_gif_stays_animated_as_webp_and_loses_nothing() {
    let gif = moving(6, gif::DisposalMethod::Background);
    let made = render(&gif, Format::Gif, &webp(32), &stop()).unwrap();
    assert_eq!((made.width, made.height), (32, 24));
    let (times, frames, plays) = frames_of(&made.bytes);
    // The last two frames are equal, so they are one.
    assert_eq!(made.frames, 5);
    assert_eq!(times, [50, 50, 50, 50, 100]);
    assert!(matches!(plays, image_webp::LoopCount::Times(times) if times.get() == 3));
    for (number, frame) in frames.iter().enumerate() {
        let alpha = |x: usize| frame[(8 * 32 + x) * 4 + 3];
        assert!(
            alpha(number * 2 + 4) > 240,
            "the square is at its place in {number}"
        );
        assert!(alpha(28) < 16, "the rest is transparent in {number}");
        if number > 2 {
            assert!(alpha(1) < 16, "the old place is cleared in {number}");
        }
    }
}

#[test]
fn disposal_decides_what_is_left_of_a_frame() {
    for (dispose, is_left) in [
        (gif::DisposalMethod::Keep, true),
        (gif::DisposalMethod::Background, false),
        (gif::DisposalMethod::Previous, false),
    ] {
        let gif = moving(8, dispose);
        let made = render(&gif, Format::Gif, &webp(64), &stop()).unwrap();
        let (_, frames, _) = frames_of(&made.bytes);
        let last = frames.last().unwrap();
        let alpha = last[(16 * 64 + 2) * 4 + 3];
        assert_eq!(alpha > 128, is_left, "{dispose:?}: {alpha}");
    }
}

#[test]
fn other_outputs_show_the_first_frame() {
    let gif = moving(6, gif::DisposalMethod::Keep);
    for output in [Output::Png, Output::Jpeg, Output::Avif] {
        let made = render(&gif, Format::Gif, &wide(32, output), &stop()).unwrap();
        assert_eq!(made.frames, 1);
    }
    let made = render(&gif, Format::Gif, &wide(64, Output::Png), &stop()).unwrap();
    let shown = decoded(&made.bytes, Output::Png).unwrap();
    assert_eq!(shown.bytes[(16 * 64 + 2) * 4..][..4], [255, 0, 0, 255]);
    assert_eq!(shown.bytes[(16 * 64 + 40) * 4 + 3], 0);
}

#[test]
fn an_animated_webp_stays_animated() {
    let gif = moving(6, gif::DisposalMethod::Background);
    let first = render(&gif, Format::Gif, &webp(64), &stop()).unwrap();
    let made = render(&first.bytes, Format::Webp, &webp(16), &stop()).unwrap();
    assert_eq!((made.width, made.height, made.frames), (16, 12, 5));
    let (times, _, plays) = frames_of(&made.bytes);
    assert_eq!(times, [50, 50, 50, 50, 100]);
    assert!(matches!(plays, image_webp::LoopCount::Times(times) if times.get() == 3));
    let still = render(&first.bytes, Format::Webp, &wide(16, Output::Png), &stop()).unwrap();
    assert_eq!(still.frames, 1);
}

#[test]
fn an_animation_with_too_many_pixels_becomes_its_first_frame() {
    let plan = Plan::new(&webp(64), (64, 48)).unwrap();
    let most = u32::try_from(MAX_ANIMATION_PIXELS / (64 * 48)).unwrap();
    let stays = |frames| animation::stays(Format::Gif, frames, &webp(64), &plan);
    assert!(stays(2) && stays(most));
    assert!(!stays(most + 1) && !stays(1));
    assert!(!animation::stays(Format::Png, 2, &webp(64), &plan));
}

#[test]
fn an_animation_stops_between_frames() {
    let gif = moving(6, gif::DisposalMethod::Keep);
    let late = Stop::after(Duration::ZERO);
    let ended = render(&gif, Format::Gif, &webp(64), &late);
    assert_eq!(ended, Err(RenderError::Stopped));
}
