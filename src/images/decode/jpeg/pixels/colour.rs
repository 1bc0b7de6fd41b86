//! Converts the samples of a row to colours, by the rules of libjpeg.

use super::super::header::Frame;
use super::Channels;

/// How the components of an image become colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conversion {
    /// One component.
    Grey,
    /// Three components that are red, green and blue already.
    Rgb,
    /// Three components of luma and chroma.
    YCbCr,
    /// Four components of ink. Adobe stores how much is left out.
    Cmyk {
        /// Whether 255 stands for no ink.
        is_inverted: bool,
    },
    /// Luma and chroma of what is left of cyan, magenta and yellow, then black.
    Ycck,
}

impl Conversion {
    pub(super) fn of(frame: &Frame, has_jfif: bool, adobe: Option<u8>) -> Self {
        let ids: Vec<u8> = frame.components.iter().map(|part| part.id).collect();
        match (ids.as_slice(), adobe) {
            ([_], _) => Self::Grey,
            ([_, _, _], _) if has_jfif => Self::YCbCr,
            ([_, _, _], Some(0)) => Self::Rgb,
            ([_, _, _], Some(_)) => Self::YCbCr,
            ([b'R', b'G', b'B'], None) => Self::Rgb,
            ([_, _, _], None) => Self::YCbCr,
            (_, Some(2)) => Self::Ycck,
            (_, adobe) => Self::Cmyk {
                is_inverted: adobe.is_some(),
            },
        }
    }

    pub(super) const fn channels(self) -> Channels {
        match self {
            Self::Grey => Channels::Grey,
            Self::Rgb | Self::YCbCr => Channels::Rgb,
            Self::Cmyk { .. } | Self::Ycck => Channels::Cmyk,
        }
    }

    /// Writes a row of pixels from the samples of its components.
    pub(super) fn write(self, samples: &[&[u8]], out: &mut Vec<u8>) {
        match (self, samples) {
            (Self::Grey, [grey, ..]) => out.extend_from_slice(grey),
            (Self::Rgb, [r, g, b, ..]) => {
                for ((r, g), b) in r.iter().zip(*g).zip(*b) {
                    out.extend([*r, *g, *b]);
                }
            }
            (Self::YCbCr, [y, cb, cr, ..]) => {
                let start = out.len();
                out.resize(start + 3 * y.len(), 0);
                let pixels = out.get_mut(start..).unwrap_or_default();
                let (pixels, _) = pixels.as_chunks_mut::<3>();
                for (((pixel, &y), &cb), &cr) in pixels.iter_mut().zip(*y).zip(*cb).zip(*cr) {
                    *pixel = rgb(y, cb, cr);
                }
            }
            (Self::Cmyk { is_inverted }, [c, m, y, k, ..]) => {
                let flip = if is_inverted { 0xff } else { 0 };
                for (((c, m), y), k) in c.iter().zip(*m).zip(*y).zip(*k) {
                    out.extend([c ^ flip, m ^ flip, y ^ flip, k ^ flip]);
                }
            }
            (Self::Ycck, [y, cb, cr, k, ..]) => {
                for (((y, cb), cr), k) in y.iter().zip(*cb).zip(*cr).zip(*k) {
                    let [c, m, y] = rgb(*y, *cb, *cr);
                    out.extend([c, m, y, 255 - k]);
                }
            }
            _ => {}
        }
    }
}

/// Converts luma and chroma by the matrix of JFIF.
#[inline]
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    // Factors times 2^13, which keep each product in 32 bits of two numbers of 16 bits.
    const HALF: i32 = 1 << 12;
    let cb = i32::from(i16::from(cb) - 128);
    let cr = i32::from(i16::from(cr) - 128);
    let y = (i32::from(y) << 13) + HALF;
    let channel = |value: i32| u8::try_from((value >> 13).clamp(0, 255)).unwrap_or(0);
    [
        channel(y + 11_485 * cr),
        channel(y - 2_819 * cb - 5_850 * cr),
        channel(y + 14_516 * cb),
    ]
}
