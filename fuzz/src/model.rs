//! `crate::model`, as far as the walkers know it.

#[path = "../../src/model/format.rs"]
pub mod format;

pub mod image {
    pub use super::format::Format;
}
