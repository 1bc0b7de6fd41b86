//! The part of `crate::model` that the walks use.

#[path = "../../src/model/format.rs"]
pub mod format;
#[path = "../../src/model/metadata.rs"]
pub mod metadata;

pub mod image {
    pub use super::format::Format;
}
