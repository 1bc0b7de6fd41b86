//! What variants of a JPEG of 4000x3000 cost on one thread.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails stops")]

#[path = "support/pictures.rs"]
mod pictures;

use std::sync::LazyLock;
use std::time::Duration;

use divan::{Bencher, black_box};
use pixtoll::images::render::{Stop, render};
use pixtoll::model::format::Format;
use pixtoll::model::variant::{Fit, Output, Variant};

fn main() {
    divan::main();
}

/// A JPEG with the coarse grain of a small picture that was enlarged.
static PHOTOGRAPH: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let small = made(
        &pictures::png(400, 300),
        Format::Png,
        4000,
        Fit::Cover,
        Output::Jpeg,
    );
    assert!(small.starts_with(&[0xff, 0xd8]));
    small
});

/// Resizes the photograph to a width of 800.
#[divan::bench(args = [Output::Jpeg, Output::WebP, Output::Avif, Output::Png], sample_count = 10)]
fn resize(bencher: Bencher<'_, '_>, output: Output) {
    let source = &*PHOTOGRAPH;
    bencher.bench_local(|| made(black_box(source), Format::Jpeg, 800, Fit::ScaleDown, output));
}

fn made(source: &[u8], format: Format, width: u32, fit: Fit, output: Output) -> Vec<u8> {
    let variant = Variant {
        width: Some(width),
        height: (fit == Fit::Cover).then_some(width / 4 * 3),
        fit,
        quality: None,
        output,
    };
    let stop = Stop::after(Duration::from_mins(1));
    render(source, format, &variant, &stop).unwrap().bytes
}
