//! `crate::images`, without what stores them.

#[path = "../../src/images/clean/mod.rs"]
pub mod clean;
#[path = "../../src/images/format/mod.rs"]
pub mod format;
