//! `crate::images`, without what stores them.

#[path = "../../src/images/clean/mod.rs"]
pub mod clean;
#[path = "../../src/images/decode/mod.rs"]
mod decode;
#[path = "../../src/images/format/mod.rs"]
pub mod format;

/// What an upload has to pass after its walk.
///
/// # Errors
/// What no viewer shows completely, and what takes too much work.
pub fn decoded<'a>(
    cleaned: clean::Cleaned<'a>,
    probe: &format::Probe,
) -> Result<clean::Cleaned<'a>, format::FormatError> {
    decode::decode(cleaned, probe)
}
