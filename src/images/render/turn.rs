//! Turns and mirrors a picture by its Exif orientation.

use super::picture::Picture;

/// Returns the picture as it is shown. `orientation` is 1 to 8; anything else counts as 1.
pub(super) fn turned(picture: Picture, orientation: u8) -> Picture {
    let (mirrors_x, mirrors_y, exchanges) = match orientation {
        2 => (true, false, false),
        3 => (true, true, false),
        4 => (false, true, false),
        5 => (false, false, true),
        6 => (false, true, true),
        7 => (true, true, true),
        8 => (true, false, true),
        _ => return picture,
    };
    let count = picture.channels.count();
    let stride = picture.stride();
    let (width, height) = if exchanges {
        (picture.height, picture.width)
    } else {
        (picture.width, picture.height)
    };
    let mut bytes = Vec::with_capacity(picture.bytes.len());
    for y in 0..height {
        for x in 0..width {
            // The place in the stored picture.
            let (from_x, from_y) = if exchanges { (y, x) } else { (x, y) };
            let from_x = if mirrors_x {
                picture.width - 1 - from_x
            } else {
                from_x
            };
            let from_y = if mirrors_y {
                picture.height - 1 - from_y
            } else {
                from_y
            };
            let start = from_y as usize * stride + from_x as usize * count;
            let pixel = picture.bytes.get(start..start + count);
            bytes.extend_from_slice(pixel.unwrap_or_default());
        }
    }
    Picture {
        width,
        height,
        bytes,
        ..picture
    }
}

#[cfg(test)]
mod tests {
    use super::super::picture::Channels;
    use super::*;

    #[test]
    fn each_orientation_shows_the_corner_that_exif_names() {
        // Rows of the stored picture: 1 2 3 and 4 5 6.
        let stored = Picture {
            width: 3,
            height: 2,
            channels: Channels::Grey,
            bytes: vec![1, 2, 3, 4, 5, 6],
        };
        let expected: [(u8, (u32, u32), [u8; 6]); 8] = [
            (1, (3, 2), [1, 2, 3, 4, 5, 6]),
            (2, (3, 2), [3, 2, 1, 6, 5, 4]),
            (3, (3, 2), [6, 5, 4, 3, 2, 1]),
            (4, (3, 2), [4, 5, 6, 1, 2, 3]),
            (5, (2, 3), [1, 4, 2, 5, 3, 6]),
            (6, (2, 3), [4, 1, 5, 2, 6, 3]),
            (7, (2, 3), [6, 3, 5, 2, 4, 1]),
            (8, (2, 3), [3, 6, 2, 5, 1, 4]),
        ];
        for (orientation, size, bytes) in expected {
            let shown = turned(stored.clone(), orientation);
            assert_eq!((shown.width, shown.height), size, "{orientation}");
            assert_eq!(shown.bytes, bytes, "{orientation}");
        }
    }
}
