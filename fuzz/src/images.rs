//! The part of `crate::images` that checks files, without storing them.

#[path = "../../src/images/clean/mod.rs"]
pub mod clean;
#[path = "../../src/images/decode/mod.rs"]
mod decode;
#[path = "../../src/images/format/mod.rs"]
pub mod format;
#[path = "../../src/images/pipeline.rs"]
mod pipeline;

pub(crate) use pipeline::cleaned;
