//! A picture in RGBA on which frames are drawn.

/// The place and the size of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) left: u32,
    pub(super) top: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// A canvas, which begins transparent.
#[derive(Debug, Clone)]
pub(super) struct Canvas {
    width: u32,
    bytes: Vec<u8>,
}

impl Canvas {
    pub(super) fn new(width: u32, height: u32) -> Self {
        Self {
            width,
            bytes: vec![0; width as usize * height as usize * 4],
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The rows of the canvas, 4 bytes a pixel.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact((self.width as usize * 4).max(1))
    }

    /// Calls `draw` with each row of the frame that is on the canvas, and its number in the frame.
    /// The pixels right of the canvas are left out.
    pub(super) fn draw(&mut self, frame: Frame, mut draw: impl FnMut(usize, &mut [u8])) {
        let stride = self.width as usize * 4;
        let left = frame.left as usize * 4;
        let right = (left + frame.width as usize * 4).min(stride);
        let rows = self.bytes.chunks_exact_mut(stride.max(1));
        let rows = rows.skip(frame.top as usize).take(frame.height as usize);
        for (number, row) in rows.enumerate() {
            if let Some(pixels) = row.get_mut(left..right) {
                draw(number, pixels);
            }
        }
    }

    /// Makes the area of a frame transparent.
    pub(super) fn clear(&mut self, frame: Frame) {
        self.draw(frame, |_, pixels| pixels.fill(0));
    }
}
