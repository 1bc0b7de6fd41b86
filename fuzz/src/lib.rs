//! What holds for every file that the walkers of pixtoll accept, whatever its bytes: one target a format,
//! run by `scripts/fuzz`.
//!
//! Three things are asked of a cleaned file. Our own walkers see the same picture in it, and nothing left to
//! clean. A second, naive walk ([`parts`]) finds the same parts of the picture, byte for byte. And a decoder
//! that knows nothing of us ([`seen`]) shows the same pixels, colours and times, and no metadata.
//!
//! The walkers are built from their sources, without the rest of pixtoll: it would be 400 crates, instrumented
//! to no use. `seeds/` is written by `make-seeds`.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use images::clean::{GROWTH, clean};
use images::format::{limits, probe};
pub use model::format::Format;
use seen::Seen;

#[allow(dead_code, reason = "the program uses more of it")]
mod images;
mod mend;
#[allow(dead_code, reason = "the program uses more of it")]
mod model;
mod parts;
mod seen;

/// Set while the seeds are run: each has to be accepted, or it is no seed.
const SEEDS_ONLY: &str = "PIXTOLL_FUZZ_SEEDS";
/// The most pixels that are decoded, in all frames: larger pictures show nothing more, slower.
const MAX_DECODED: u64 = 1 << 16;

/// To be called before the first input.
pub fn prepare() {
    seen::forgive_decoders();
}

/// How far a file came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    Refused,
    /// Cleaned, and its parts were compared.
    Cleaned,
    /// Its pixels were compared as well, all of them.
    Decoded,
}

/// Fails if the promises of cleaning don't hold for these bytes.
pub fn clean_holds(bytes: &[u8], format: Format) {
    let given = holds(bytes, format);
    let depth = match mend::mended(bytes, format) {
        Some(mended) if given == Depth::Refused => holds(&mended, format),
        _ => given,
    };
    if seeds_only() {
        assert!(
            given > Depth::Refused,
            "a seed is accepted: {:?}",
            probe(bytes)
        );
    }
    count(depth);
}

#[allow(
    clippy::disallowed_methods,
    reason = "the configuration of the program isn't built here"
)]
fn seeds_only() -> bool {
    static SEEDS: OnceLock<bool> = OnceLock::new();
    *SEEDS.get_or_init(|| std::env::var_os(SEEDS_ONLY).is_some())
}

/// `scripts/fuzz` wants enough that was compared, and reads the last line of these.
fn count(depth: Depth) {
    static CLEANED: AtomicU64 = AtomicU64::new(0);
    static DECODED: AtomicU64 = AtomicU64::new(0);
    if depth == Depth::Refused {
        return;
    }
    let new = u64::from(depth == Depth::Decoded);
    let decoded = DECODED.fetch_add(new, Ordering::Relaxed) + new;
    let cleaned = CLEANED.fetch_add(1, Ordering::Relaxed) + 1;
    if cleaned.is_multiple_of(256) {
        eprintln!("cleaned: {cleaned} decoded: {decoded}");
    }
}

fn holds(bytes: &[u8], format: Format) -> Depth {
    // Never a panic, accepted or not.
    let cleaned = clean(bytes, format);
    let Ok(before) = probe(bytes) else {
        return Depth::Refused;
    };
    if before.format != format {
        return Depth::Refused;
    }
    assert!(
        before.width.max(before.height) <= limits::MAX_SIDE && before.width.min(before.height) > 0
    );
    assert!(u64::from(before.width) * u64::from(before.height) <= limits::MAX_PIXELS);
    assert!((1..=limits::MAX_FRAMES).contains(&before.frames));

    let cleaned = cleaned.expect("what was accepted is cleaned");
    if let Cow::Owned(new) = &cleaned {
        assert_ne!(new, bytes, "new bytes, though nothing was removed");
    }
    assert!(cleaned.len() <= bytes.len() + GROWTH);
    assert_eq!(
        probe(&cleaned),
        Ok(before),
        "our walkers see another picture"
    );
    assert!(
        matches!(clean(&cleaned, format), Ok(Cow::Borrowed(again)) if *again == *cleaned),
        "something is left to clean"
    );
    same(
        &parts::of(bytes, format),
        &parts::of(&cleaned, format),
        "our second walk",
    );
    let pixels = u64::from(before.width) * u64::from(before.height) * u64::from(before.frames);
    if pixels > MAX_DECODED {
        return Depth::Cleaned;
    }
    compare(
        &seen::by_decoder(bytes, format),
        &seen::by_decoder(&cleaned, format),
    )
}

/// A decoder that fails on metadata gets further without, and one that fails on pixels no further: what it
/// shows up to there is the same.
fn compare(before: &Seen, after: &Seen) -> Depth {
    if before.failure.is_none() {
        assert_eq!(after.failure, None, "a decoder fails since cleaning");
        same(&before.picture, &after.picture, "a decoder");
    } else {
        let shown = before.picture.len().min(after.picture.len());
        same(
            &before.picture[..shown],
            &after.picture[..shown],
            "a failing decoder",
        );
    }
    assert!(
        after.metadata.is_empty(),
        "a decoder finds {:?}",
        after.metadata
    );
    if before.failure.is_none() {
        Depth::Decoded
    } else {
        Depth::Cleaned
    }
}

fn same<T: AsRef<[u8]>>(before: &[T], after: &[T], whose: &str) {
    for (number, (old, new)) in before.iter().zip(after).enumerate() {
        let (old, new) = (old.as_ref().escape_ascii(), new.as_ref().escape_ascii());
        assert!(
            old.clone().eq(new.clone()),
            "{whose} sees in part {number} {old}\nand now {new}"
        );
    }
    assert_eq!(
        before.len(),
        after.len(),
        "{whose} sees more or fewer parts"
    );
}
