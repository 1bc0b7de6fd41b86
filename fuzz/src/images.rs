//! The part of `crate::images` that checks files, without storing them.

#[path = "../../src/images/clean/mod.rs"]
pub mod clean;
#[path = "../../src/images/decode/mod.rs"]
mod decode;
#[path = "../../src/images/format/mod.rs"]
pub mod format;
#[path = "../../src/images/pipeline.rs"]
mod pipeline;
#[path = "../../src/images/render/mod.rs"]
pub mod render;

pub(crate) use pipeline::cleaned;

/// The look of a checked image, as its upload makes it.
pub(crate) fn look(
    cleaned: &clean::Cleaned<'_>,
    format: crate::Format,
    stop: &render::Stop,
) -> Result<crate::model::look::Look, render::RenderError> {
    let small = cleaned.small.as_ref();
    let small = small.map(|small| (small, cleaned.orientation));
    render::look(&cleaned.bytes, format, small, stop)
}
