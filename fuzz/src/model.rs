//! The part of `crate::model` that the walks use.

#[path = "../../src/model/format.rs"]
pub mod format;
#[path = "../../src/model/look.rs"]
pub mod look;
#[path = "../../src/model/metadata.rs"]
pub mod metadata;
#[path = "../../src/model/variant.rs"]
pub mod variant;

pub mod image {
    pub use super::format::Format;
}
