//! Profiles in PNG files: compressed, behind a name, in the first `iCCP` chunk.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::text::KNOWN_NAMES;
use super::{Profile, clean_profile};

/// Chromium reads one byte more than the specification allows.
const MAX_NAME_LEN: usize = 80;
/// What encoders call every profile, and what replaces other names.
const COMMON_NAMES: [&str; 5] = [
    "ICC Profile",
    "ICC profile",
    "Photoshop ICC profile",
    OTHER_NAME,
    SHORT_NAME,
];
const OTHER_NAME: &str = "icc";
/// For names that are shorter than [`OTHER_NAME`].
const SHORT_NAME: &str = "i";
/// How much longer a chunk may become because its source was compressed by a better compressor. The best ones save a
/// twelfth, and the longest profile has [`MAX_INFLATED`](crate::images::format::limits::MAX_INFLATED) bytes.
pub(in crate::images::clean) const MAX_GROWTH: usize = 56 * 1024;

/// What becomes of an `iCCP` chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::images::clean) enum Chunk {
    /// The chunk stays as it is.
    Unchanged,
    /// The body of the chunk that replaces it. Compressed bytes are copied where the profile is unchanged.
    /// They are compressed anew where it isn't: then they can be longer than the source's, by at most
    /// [`MAX_GROWTH`], if a better compressor wrote that.
    Rewritten(Vec<u8>),
    /// To Chromium, this is no profile, or no encoder wrote it so short. The chunk goes.
    Invalid,
}

/// Cleans the body of an `iCCP` chunk. A profile that inflates to more than `max_len` bytes is invalid.
///
/// Only the first `iCCP` chunk counts, also if it is invalid: Chromium doesn't look at later ones.
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

/// A name that many files have, at most as long.
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

/// The inflated bytes, and how many compressed ones they took. `None`: too long, cut off, or damaged.
fn inflate(compressed: &[u8], max_len: usize) -> Option<(Vec<u8>, usize)> {
    let mut inflater = Decompress::new(true);
    let mut out = Vec::new();
    loop {
        let read = usize::try_from(inflater.total_in()).ok()?;
        let before = out.len();
        // Doubles, so that a short profile that inflates to much takes little memory before it is refused.
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
    // Deflate adds five bytes to each block that it can't compress, zlib six to all.
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 1000 + 64);
    let status = deflater
        .compress_vec(bytes, &mut out, FlushCompress::Finish)
        .ok()?;
    (status == Status::StreamEnd).then_some(out)
}
