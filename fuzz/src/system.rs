//! The part of `crate::system` that the walks use.

#[path = "../../src/system/pages.rs"]
pub mod pages;
