//! `crate::images`, without what stores them.

#[path = "../../src/images/clean/mod.rs"]
pub mod clean;
#[path = "../../src/images/decode/mod.rs"]
mod decode;
#[path = "../../src/images/format/mod.rs"]
pub mod format;

use std::borrow::Cow;

use crate::model::format::Format;
use clean::{Cleaned, clean, clean_base};
use format::{FormatError, PixelLimits, Probe, probe};

/// What is stored of an upload: the steps of `check.rs`, in their order.
///
/// # Errors
/// What no viewer shows completely, and what takes too much work.
pub fn stored(bytes: &[u8], format: Format) -> Result<(Probe, Cleaned<'_>), FormatError> {
    let limits = PixelLimits::default();
    let mut cleaned = clean(bytes, format)?;
    let map = cleaned.gain_map_at.and_then(|at| cleaned.bytes.get(at..));
    let is_sound = |map| probe(map, limits).is_ok_and(|probe| decode::is_sound_map(map, &probe));
    if map.is_some_and(|map| !is_sound(map)) {
        cleaned = clean_base(bytes)?;
    }
    let probe = probe(&cleaned.bytes, limits)?;
    let mut decoded = decode::decode(cleaned, &probe)?;
    if decoded.is_moved {
        let again = clean(&decoded.bytes, format)?.bytes.into_owned();
        decoded.bytes = Cow::Owned(again);
    }
    Ok((probe, decoded))
}
