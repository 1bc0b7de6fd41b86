//! The steps that make the bytes to store from an upload: clean, walk, decode. Uploads and fuzz
//! targets share them.

use super::clean::{Cleaned, Content, clean, clean_base};
use super::decode;
use super::format::{FormatError, PixelLimits, Probe, probe};
use crate::model::format::Format;

/// Cleans an image, then walks and decodes the result to make sure that it is sound.
///
/// # Errors
/// [`FormatError`] if no viewer shows the image completely, if it exceeds a limit, or if decoding
/// it takes too much work.
pub(crate) fn cleaned(
    bytes: &[u8],
    format: Format,
    limits: PixelLimits,
) -> Result<(Probe, Cleaned<'_>), FormatError> {
    let mut cleaned = clean(bytes, format)?;
    let map = cleaned.gain_map_at.and_then(|at| cleaned.bytes.get(at..));
    let is_sound = |map| probe(map, limits).is_ok_and(|probe| decode::is_sound_map(map, &probe));
    if map.is_some_and(|map| !is_sound(map)) {
        cleaned = clean_base(bytes)?;
    }
    let probe = probe(&cleaned.bytes, limits)?;
    let mut decoded = decode::decode(cleaned, &probe)?;
    if decoded.is_moved {
        let again = clean(&decoded.bytes, format)?.bytes;
        if let Content::Changed(again) = again {
            decoded.bytes = Content::Changed(again);
        }
    }
    Ok((probe, decoded))
}
