//! Pixels in memory.

/// The meaning of the bytes of a pixel, 8 bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channels {
    /// Grey.
    Grey,
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue, alpha. The colours are not multiplied with alpha.
    Rgba,
    /// Cyan, magenta, yellow, black; 255 is full ink.
    Cmyk,
}

impl Channels {
    /// Bytes of a pixel.
    pub(super) const fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
            Self::Rgba | Self::Cmyk => 4,
        }
    }
}

/// A picture, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) channels: Channels,
    pub(super) bytes: Vec<u8>,
}

impl Picture {
    /// Bytes of a row.
    pub(super) const fn stride(&self) -> usize {
        self.width as usize * self.channels.count()
    }

    /// Adds an opaque alpha channel to a picture in grey or RGB.
    pub(super) fn with_alpha(self) -> Self {
        let bytes = match self.channels {
            Channels::Grey => self.bytes.iter().flat_map(|&g| [g, g, g, 255]).collect(),
            Channels::Rgb => {
                let (pixels, _) = self.bytes.as_chunks::<3>();
                pixels
                    .iter()
                    .flat_map(|&[r, g, b]| [r, g, b, 255])
                    .collect()
            }
            Channels::Rgba | Channels::Cmyk => return self,
        };
        Self {
            channels: Channels::Rgba,
            bytes,
            ..self
        }
    }

    /// Removes the alpha channel if every pixel is opaque.
    pub(super) fn without_useless_alpha(self) -> Self {
        let (pixels, _) = self.bytes.as_chunks::<4>();
        if self.channels != Channels::Rgba || pixels.iter().any(|&[_, _, _, a]| a < 255) {
            return self;
        }
        Self {
            bytes: pixels.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect(),
            channels: Channels::Rgb,
            ..self
        }
    }

    /// Puts a picture with an alpha channel on white.
    pub(super) fn on_white(self) -> Self {
        if self.channels != Channels::Rgba {
            return self;
        }
        let (pixels, _) = self.bytes.as_chunks::<4>();
        let pixel =
            |&[r, g, b, a]: &[u8; 4]| [over_white(r, a), over_white(g, a), over_white(b, a)];
        Self {
            bytes: pixels.iter().flat_map(pixel).collect(),
            channels: Channels::Rgb,
            ..self
        }
    }

    /// Grey as three equal channels.
    pub(super) fn in_colour(self) -> Self {
        if self.channels != Channels::Grey {
            return self;
        }
        Self {
            bytes: self.bytes.iter().flat_map(|&g| [g, g, g]).collect(),
            channels: Channels::Rgb,
            ..self
        }
    }
}

fn over_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    let sum = value * alpha + 255 * (255 - alpha);
    u8::try_from((sum + 127) / 255).unwrap_or(u8::MAX)
}

/// Multiplies the colours of RGBA pixels with alpha.
pub(super) fn premultiply(bytes: &mut [u8]) {
    let (pixels, _) = bytes.as_chunks_mut::<4>();
    for [r, g, b, a] in pixels {
        let alpha = u32::from(*a);
        for value in [r, g, b] {
            // The product divided by 255 and rounded, without a division.
            let product = u32::from(*value) * alpha + 128;
            *value = u8::try_from((product + (product >> 8)) >> 8).unwrap_or(u8::MAX);
        }
    }
}

/// Undoes [`premultiply`].
pub(super) fn unpremultiply(bytes: &mut [u8]) {
    let (pixels, _) = bytes.as_chunks_mut::<4>();
    for [r, g, b, a] in pixels {
        let alpha = u32::from(*a);
        if alpha == 255 {
            continue;
        }
        for value in [r, g, b] {
            let quotient = (u32::from(*value) * 255 + alpha / 2).checked_div(alpha);
            *value = u8::try_from(quotient.unwrap_or(0)).unwrap_or(u8::MAX);
        }
    }
}
