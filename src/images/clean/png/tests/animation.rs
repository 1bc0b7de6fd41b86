//! Which frames of an animation are kept: those that browsers play.

use super::*;
use crate::images::format::samples::png_chunk;

const WHOLE: [u32; 4] = [4, 4, 0, 0];

fn header() -> Vec<u8> {
    ihdr(4, 4, [8, 6])
}

/// Three frames with these chunks in place of the control.
fn animated(control: &[Vec<u8>]) -> Vec<u8> {
    png_of(&[
        header(),
        control.concat(),
        fctl(0, WHOLE),
        idat(),
        fctl(1, WHOLE),
        fdat(2),
        fctl(3, WHOLE),
        fdat(4),
        iend(),
    ])
}

fn still() -> Vec<u8> {
    png_of(&[header(), idat(), iend()])
}

fn frames(bytes: &[u8]) -> u32 {
    shape(&cleaned(bytes)).unwrap().2
}

#[test]
fn an_animation_has_the_announced_frames_that_are_there() {
    assert!(is_clean(&animated(&[actl(3)])));
    for announced in [4, 5, 1000, 1001, u32::MAX >> 1] {
        let bytes = animated(&[actl(announced)]);
        assert_eq!(cleaned(&bytes), animated(&[actl(3)]), "{announced}");
        assert_eq!(removed(&bytes), ["damage"], "{announced}");
    }
    assert_eq!(cleaned(&animated(&[actl(2)])), apng(4, 4, 2));
    assert_eq!(cleaned(&animated(&[actl(1)])), apng(4, 4, 1));
}

#[test]
fn an_impossible_number_of_frames_leaves_a_still_image() {
    for announced in [0, 1 << 31, u32::MAX] {
        let bytes = animated(&[actl(announced)]);
        assert_eq!(cleaned(&bytes), still(), "{announced}");
        assert_eq!(removed(&bytes), ["damage"], "{announced}");
    }
}

#[test]
fn a_control_that_browsers_ignore_leaves_a_still_image() {
    assert_eq!(cleaned(&animated(&[])), still(), "missing");
    let mut wrong = actl(3);
    *wrong.last_mut().unwrap() ^= 1;
    assert_eq!(cleaned(&animated(&[wrong])), still(), "checksum");
    assert_eq!(
        cleaned(&animated(&[chunk(b"acTL", &[0; 7])])),
        still(),
        "length"
    );
    let late = png_of(&[header(), idat(), actl(1), fctl(0, WHOLE), fdat(1), iend()]);
    assert_eq!(cleaned(&late), still(), "behind the image data");
    let no_frames = png_of(&[header(), actl(2), idat(), iend()]);
    assert_eq!(cleaned(&no_frames), still(), "no frames");
}

#[test]
fn the_first_of_two_controls_counts() {
    for second in [3, 2, 0, u32::MAX] {
        let bytes = animated(&[actl(3), actl(second)]);
        assert_eq!(cleaned(&bytes), animated(&[actl(3)]), "{second}");
    }
    assert_eq!(cleaned(&animated(&[actl(0), actl(3)])), still());
}

#[test]
fn a_last_frame_without_data_is_removed() {
    let bytes = png_of(&[
        header(),
        actl(3),
        fctl(0, WHOLE),
        idat(),
        fctl(1, WHOLE),
        fdat(2),
        fctl(3, WHOLE),
        iend(),
    ]);
    assert_eq!(cleaned(&bytes), apng(4, 4, 2));
    assert_eq!(removed(&bytes), ["damage"]);
}

#[test]
fn a_frame_without_data_ends_the_animation() {
    let bytes = png_of(&[
        header(),
        actl(3),
        fctl(0, WHOLE),
        idat(),
        fctl(1, WHOLE),
        fctl(2, WHOLE),
        fdat(3),
        iend(),
    ]);
    assert_eq!(cleaned(&bytes), first_frame_alone());
}

/// The result if the second frame is faulty.
fn first_frame_alone() -> Vec<u8> {
    png_of(&[header(), actl(1), fctl(0, WHOLE), idat(), iend()])
}

#[test]
fn a_frame_that_breaks_a_rule_ends_the_animation() {
    let [width, height, ..] = WHOLE;
    let second = |control: Vec<u8>| {
        png_of(&[
            header(),
            actl(2),
            fctl(0, WHOLE),
            idat(),
            control,
            fdat(2),
            iend(),
        ])
    };
    assert!(is_clean(&second(fctl(1, WHOLE))));
    let operations = |at: usize, value: u8| {
        let mut body = fctl(1, WHOLE)[8..34].to_vec();
        body[at] = value;
        png_chunk(b"fcTL", &body)
    };
    for control in [
        fctl(2, WHOLE),
        fctl(1, [width, height, 1, 0]),
        fctl(1, [width, height + 1, 0, 0]),
        fctl(1, [0, height, 0, 0]),
        operations(24, 3),
        operations(25, 2),
        png_chunk(b"fcTL", &fctl(1, WHOLE)[8..33]),
    ] {
        assert_eq!(cleaned(&second(control)), first_frame_alone());
    }
    // Browsers show nothing without a sound first frame.
    let first = png_of(&[header(), actl(1), fctl(1, WHOLE), idat(), iend()]);
    assert!(is_refused(&first));
}

#[test]
fn a_default_image_outside_the_animation_stays() {
    let of = |announced| {
        png_of(&[
            header(),
            actl(announced),
            idat(),
            fctl(0, WHOLE),
            fdat(1),
            iend(),
        ])
    };
    assert!(is_clean(&of(1)));
    assert_eq!(cleaned(&of(2)), of(1), "the default image was counted");
    assert_eq!(frames(&of(1)), 1);
}

#[test]
fn checksums_of_frame_data_are_repaired_but_not_of_controls() {
    let of = |data, control| {
        png_of(&[
            header(),
            actl(2),
            fctl(0, WHOLE),
            idat(),
            control,
            data,
            iend(),
        ])
    };
    let wrong = |mut chunk: Vec<u8>| {
        *chunk.last_mut().unwrap() ^= 1;
        chunk
    };
    let sound = of(fdat(2), fctl(1, WHOLE));
    assert!(is_clean(&sound));
    assert_eq!(cleaned(&of(wrong(fdat(2)), fctl(1, WHOLE))), sound);
    let wrong_control = of(fdat(2), wrong(fctl(1, WHOLE)));
    assert_eq!(cleaned(&wrong_control), first_frame_alone());
}

#[test]
fn frame_data_split_by_text_is_kept() {
    let bytes = png_of(&[
        header(),
        actl(2),
        fctl(0, WHOLE),
        idat(),
        idat(),
        fctl(1, WHOLE),
        fdat(2),
        chunk(b"tEXt", b"a\0b"),
        fdat(3),
        iend(),
    ]);
    assert_eq!(frames(&bytes), 2);
    assert_eq!(removed(&bytes), ["other"]);
}

#[test]
fn a_frame_control_before_the_animation_control_is_removed() {
    let bytes = png_of(&[
        header(),
        fctl(0, WHOLE),
        actl(1),
        idat(),
        fctl(0, WHOLE),
        fdat(1),
        iend(),
    ]);
    let wanted = png_of(&[header(), actl(1), idat(), fctl(0, WHOLE), fdat(1), iend()]);
    assert_eq!(cleaned(&bytes), wanted);
}
