//! What the checks of an upload cost, for PNG: the walk over the structure, the removal of metadata,
//! and all of it with the decoding of every pixel.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails stops")]

#[path = "support/pictures.rs"]
mod pictures;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use pixtoll::images::clean::clean;
use pixtoll::images::format::{PixelLimits, probe};
use pixtoll::images::{Metadata, examine};
use pixtoll::model::format::Format;

use pictures::png;

/// The side of a square picture in pixels, for about 20 kB and 900 kB.
const SIDES: [u32; 2] = [82, 548];

fn main() {
    divan::main();
}

/// Walks the chunks, and compares their checksums.
#[divan::bench(args = SIDES)]
fn walk(bencher: Bencher<'_, '_>, side: u32) {
    let image = png(side, side);
    counting(bencher, &image)
        .bench_local(|| probe(black_box(&image), PixelLimits::default()).unwrap());
}

/// Finds the metadata, and cuts it out.
#[divan::bench(args = SIDES)]
fn remove_metadata(bencher: Bencher<'_, '_>, side: u32) {
    let image = png(side, side);
    counting(bencher, &image)
        .bench_local(|| clean(black_box(&image), Format::Png).unwrap().bytes.len());
}

/// All that a check does but the hashes.
#[divan::bench(args = SIDES)]
fn check(bencher: Bencher<'_, '_>, side: u32) {
    let image = png(side, side);
    let limits = PixelLimits::default();
    counting(bencher, &image)
        .bench_local(|| examine(black_box(&image), Metadata::Remove, limits).unwrap());
}

fn counting<'a, 'b>(bencher: Bencher<'a, 'b>, image: &[u8]) -> Bencher<'a, 'b> {
    bencher.counter(BytesCount::of_slice(image))
}
