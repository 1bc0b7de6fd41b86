//! ICC profiles in PNG files: compressed, behind a name, in the first `iCCP` chunk.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::text::KNOWN_NAMES;
use super::{Profile, clean_profile};

/// Chromium reads one byte more than the specification allows.
const MAX_NAME_LEN: usize = 80;
/// The names that encoders give every profile. Other names are replaced by one of them.
const COMMON_NAMES: [&str; 5] = [
    "ICC Profile",
    "ICC profile",
    "Photoshop ICC profile",
    OTHER_NAME,
    SHORT_NAME,
];
const OTHER_NAME: &str = "icc";
/// Replaces names that are shorter than [`OTHER_NAME`].
const SHORT_NAME: &str = "i";
/// How much longer a chunk may become if its source was compressed by a better compressor. The best
/// ones save a twelfth, and the longest profile has
/// [`MAX_INFLATED`](crate::images::format::limits::MAX_INFLATED) bytes.
pub(in crate::images::clean) const MAX_GROWTH: usize = 56 * 1024;

/// The result of cleaning an `iCCP` chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::images::clean) enum Chunk {
    /// The chunk stays as it is.
    Unchanged,
    /// The body of the chunk that replaces it. If the profile is unchanged, its compressed bytes
    /// are copied. Otherwise it is compressed again, and may be longer than its source by at most
    /// [`MAX_GROWTH`].
    Rewritten(Vec<u8>),
    /// Chromium does not accept the chunk as a profile, or no encoder could have written it so
    /// short. It is removed.
    Invalid,
}

/// Cleans the body of an `iCCP` chunk. A profile that inflates to more than `max_len` bytes is
/// invalid.
///
/// Only the first `iCCP` chunk counts, even if it is invalid: Chromium ignores later ones.
pub(in crate::images::clean) fn clean_chunk(body: &[u8], max_len: usize) -> Chunk {
    match rebuild(body, max_len) {
        Some(rebuilt) if rebuilt == body => Chunk::Unchanged,
        Some(rebuilt) => Chunk::Rewritten(rebuilt),
        None => Chunk::Invalid,
    }
}

fn rebuild(body: &[u8], max_len: usize) -> Option<Vec<u8>> {
    let name_len = body
        .iter()
        .take(MAX_NAME_LEN + 1)
        .position(|byte| *byte == 0)?;
    let (name, rest) = body.split_at_checked(name_len)?;
    let compressed = rest.strip_prefix(b"\0\0").filter(|_| !name.is_empty())?;
    let (profile, compressed_len) = inflate(compressed, max_len)?;
    let compressed = match clean_profile(&profile) {
        Profile::Unchanged => compressed.get(..compressed_len)?.to_vec(),
        Profile::Rewritten(profile) => {
            let most = body.len().saturating_add(MAX_GROWTH);
            // With a name and its end.
            deflate(&profile).filter(|compressed| compressed.len() + MAX_NAME_LEN + 2 <= most)?
        }
        Profile::Invalid => return None,
    };
    Some([clean_name(name), b"\0\0", &compressed].concat())
}

/// A common name of at most the same length.
fn clean_name(name: &[u8]) -> &'static [u8] {
    let mut known = KNOWN_NAMES.into_iter().chain(COMMON_NAMES);
    let known = known.find(|known| known.as_bytes() == name);
    let other = if name.len() < OTHER_NAME.len() {
        SHORT_NAME
    } else {
        OTHER_NAME
    };
    known.unwrap_or(other).as_bytes()
}

/// Inflates bytes. Also returns how many compressed bytes were used. Returns `None` if the result
/// is too long, truncated or damaged.
fn inflate(compressed: &[u8], max_len: usize) -> Option<(Vec<u8>, usize)> {
    let mut inflater = Decompress::new(true);
    let mut out = Vec::new();
    loop {
        let read = usize::try_from(inflater.total_in()).ok()?;
        let before = out.len();
        // Grows by doubling, so that a small chunk that inflates to a lot takes little memory
        // before it is refused.
        out.reserve_exact(out.len().clamp(4096, max_len.saturating_add(4096)));
        let rest = compressed.get(read..)?;
        let status = inflater
            .decompress_vec(rest, &mut out, FlushDecompress::None)
            .ok()?;
        let read_now = usize::try_from(inflater.total_in()).ok()?;
        if out.len() > max_len {
            return None;
        }
        if status == Status::StreamEnd {
            return Some((out, read_now));
        }
        if read_now == read && out.len() == before {
            return None;
        }
    }
}

fn deflate(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut deflater = Compress::new(Compression::best(), true);
    // Deflate adds five bytes to each block that it can't compress; zlib adds six bytes.
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 1000 + 64);
    let status = deflater
        .compress_vec(bytes, &mut out, FlushCompress::Finish)
        .ok()?;
    (status == Status::StreamEnd).then_some(out)
}
