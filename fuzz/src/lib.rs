//! Properties that must hold for every file that pixtoll accepts, whatever its bytes. There is one
//! target per format; `scripts/fuzz` runs them.
//!
//! Cleaning repairs files that viewers accept, so it may accept a file that the probe refuses. If
//! the probe accepts its output, the output must be at most `GROWTH` bytes longer, and cleaning it
//! again must change nothing. If the probe accepts the original too, it must see the same picture.
//! A second, independent walk ([`parts`]) must find the same bytes. An independent decoder
//! ([`seen`]) must show the same pixels, colours and times if it can read the original, and no
//! metadata in the output.
//!
//! The file is then decoded like an upload: within its time limit, and with the same result and the
//! same bytes for the stored file. Every PNG that an independent decoder shows completely must be
//! accepted, except for broken codes behind the last row. The decoders for the other formats read
//! damaged data differently from browsers: the one for GIF shows frames with missing pixels.
//!
//! The target `render` takes files of every format ([`render`]).
//!
//! The sources of the walks are compiled without the rest of pixtoll, which has 400 crates whose
//! instrumentation would be useless. `make-seeds` writes `seeds/`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use images::clean::{Cleaned, Content, GROWTH, clean};
use images::format::{FormatError, PixelLimits, Probe, format_of, limits};
pub use model::format::Format;
use seen::Seen;

#[allow(dead_code, reason = "the program uses more of it")]
mod images;
mod mend;
#[allow(dead_code, reason = "the program uses more of it")]
mod model;
mod parts;
pub mod render;
mod seen;
#[allow(dead_code, reason = "the program uses more of it")]
mod system;

/// Set for the run over the seeds: each seed must be accepted.
const SEEDS_ONLY: &str = "PIXTOLL_FUZZ_SEEDS";
/// The most pixels, in all frames, that the independent decoder decodes. Larger pictures are slower
/// and find nothing more.
const MAX_DECODED: u64 = 1 << 16;
/// The most pixels that pixtoll decodes here. Larger pictures are slower and find nothing more.
const MAX_JUDGED: u64 = 1 << 22;
/// The time limit of decoding [`MAX_JUDGED`] pixels: a hundred times what it takes.
const MAX_TIME: Duration = Duration::from_secs(5);

/// Call this before the first input.
pub fn prepare() {
    seen::forgive_decoders();
}

/// Which checks a file reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    Refused,
    /// The file was cleaned and its parts were compared.
    Cleaned,
    /// All its pixels were compared as well.
    Decoded,
}

/// Panics if the properties of cleaning do not hold for these bytes.
pub fn clean_holds(bytes: &[u8], format: Format) {
    let given = holds(bytes, format);
    let depth = match mend::mended(bytes, format) {
        Some(mended) if given == Depth::Refused => holds(&mended, format),
        _ => given,
    };
    if seeds_only() {
        assert!(
            given > Depth::Refused,
            "a seed must be accepted: {:?}",
            clean(bytes, format).and_then(|cleaned| probe(&cleaned.bytes))
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

/// Prints the counts. `scripts/fuzz` reads the last line and requires enough comparisons.
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

fn probe(bytes: &[u8]) -> Result<Probe, FormatError> {
    images::format::probe(bytes, PixelLimits::default())
}

fn holds(bytes: &[u8], format: Format) -> Depth {
    // Must never panic, whether or not the file is accepted.
    let cleaned = clean(bytes, format);
    let before = probe(bytes);
    let Ok(cleaned) = cleaned else {
        return Depth::Refused;
    };
    let Ok(after) = probe(&cleaned.bytes) else {
        return Depth::Refused;
    };
    if format_of(bytes) != Ok(format) || after.format != format {
        return Depth::Refused;
    }
    let limits = PixelLimits::default();
    let pixels = u64::from(after.width) * u64::from(after.height);
    assert!(
        after.width.max(after.height) <= limits::MAX_SIDE
            && after.width.min(after.height) > 0
            && pixels <= limits.max_pixels
            && after.total_pixels <= limits.max_total_pixels
            && (1..=limits::MAX_FRAMES).contains(&after.frames)
    );
    cleaned_for_good(bytes, &cleaned, format);
    if before.is_ok() {
        assert_eq!(
            before,
            Ok(after),
            "the probe sees another picture after cleaning"
        );
        let by_order = format == Format::Jpeg && parts::has_equal_ids(bytes);
        same(
            &parts::of(bytes, format, by_order),
            &parts::of(&cleaned.bytes, format, by_order),
            "our second walk",
        );
    }
    let is_small = after.total_pixels.max(pixels) <= MAX_DECODED;
    if after.total_pixels.max(pixels) <= MAX_JUDGED {
        decoding_holds(bytes, &after, format, is_small);
    }
    if !is_small {
        return Depth::Cleaned;
    }
    let has_gain_map = cleaned.gain_map_at.is_some();
    compare(
        &seen::by_decoder(bytes, format, has_gain_map),
        &seen::by_decoder(&cleaned.bytes, format, has_gain_map),
        before.is_ok(),
        format,
    )
}

/// Cleans and decodes a file like an upload.
fn decoding_holds(bytes: &[u8], probe_of: &Probe, format: Format, is_small: bool) {
    let began = Instant::now();
    let verdict = images::cleaned(bytes, format, PixelLimits::default());
    assert!(began.elapsed() < MAX_TIME, "{:?}", began.elapsed());
    let Ok((_, sound)) = &verdict else {
        let is_judged_alike = matches!(&verdict, Err(error) if !is_behind_rows(error));
        if is_small && format == Format::Png && is_judged_alike {
            let cleaned = clean(bytes, format).expect("it was cleaned before");
            let seen = seen::by_decoder(&cleaned.bytes, format, false);
            assert_ne!(seen.failure, None, "shown, but {:?}", verdict.err());
        }
        return;
    };
    let shape = |probe: Probe| (probe.width, probe.height, probe.frames);
    let (again, twice) = images::cleaned(&sound.bytes, format, PixelLimits::default())
        .expect("what is stored is accepted");
    assert_eq!(shape(again), shape(*probe_of), "another picture");
    assert_eq!(
        *twice.bytes, *sound.bytes,
        "decoding the stored file changes it again"
    );
}

/// Whether the fault may be behind the last row. Browsers and this decoder read nothing there,
/// while Pillow and libvips stop at a broken code.
fn is_behind_rows(error: &FormatError) -> bool {
    matches!(error, FormatError::Corrupt { what, .. } if what.ends_with("can't be inflated"))
}

/// Checks the properties of every cleaned file.
fn cleaned_for_good(bytes: &[u8], cleaned: &Cleaned<'_>, format: Format) {
    match &cleaned.bytes {
        Content::Changed(new) => {
            assert_ne!(**new, *bytes, "new bytes, though nothing was removed");
            assert!(
                !cleaned.removed.is_empty(),
                "a change that `removed` does not list"
            );
        }
        Content::Unchanged(same) => {
            assert_eq!(*same, bytes);
            assert!(cleaned.removed.is_empty(), "nothing was removed");
        }
    }
    assert!(cleaned.bytes.len() <= bytes.len() + GROWTH);
    let again = clean(&cleaned.bytes, format).expect("what was cleaned is cleaned again");
    assert!(
        matches!(&again.bytes, Content::Unchanged(same) if **same == *cleaned.bytes),
        "cleaning the result changes it again:\n{}\nand then\n{}",
        cleaned.bytes.escape_ascii(),
        again.bytes.escape_ascii()
    );
    assert_eq!(again.orientation, cleaned.orientation, "turned by cleaning");
    assert_eq!(again.gain_map_at, cleaned.gain_map_at, "the gain map moved");
    assert!(!again.is_open, "the end is missing");
}

/// Compares the results of an independent decoder before and after cleaning.
///
/// A decoder that fails on metadata may get further without them. One that fails on the pixels of a
/// sound file may not, and must show the same up to that point. A damaged file may become readable.
/// Decoders read damaged PNG and JPEG differently from browsers: the one for PNG ignores checksums
/// in a build for fuzzing, the one for JPEG skips markers at which browsers stop.
fn compare(before: &Seen, after: &Seen, is_sound: bool, format: Format) -> Depth {
    if !is_sound && matches!(format, Format::Png | Format::Jpeg) {
        assert!(after.metadata.is_empty(), "{:?}", after.metadata);
        return Depth::Cleaned;
    }
    if before.failure.is_none() {
        assert_eq!(after.failure, None, "a decoder fails since cleaning");
        same(&before.picture, &after.picture, "a decoder");
    } else if is_sound {
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
