//! Limits the inflated size of compressed text and profiles in a file.
//!
//! Apart from pixels, only these parts can be much larger than the file. Some readers inflate them
//! without a limit, so a file with a decompression bomb is refused here, before any charge.

use flate2::{Decompress, FlushDecompress, Status};

use super::limits::{MAX_DEFLATED, MAX_INFLATED};

/// How many bytes are inflated at a time. They are discarded.
const WINDOW: usize = 16 * 1024;

/// The bytes that the compressed chunks of one file have used so far.
#[derive(Default)]
pub(super) struct Compressed {
    deflated: usize,
    inflated: usize,
    state: Option<Box<(Decompress, [u8; WINDOW])>>,
}

/// The file exceeds [`MAX_INFLATED`] or [`MAX_DEFLATED`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMuch;

impl Compressed {
    /// Adds a zlib stream. An error in the stream ends it, as in every reader.
    pub(super) fn add(&mut self, mut deflated: &[u8]) -> Result<(), TooMuch> {
        // The inflated size alone is no bound: blocks without content still have to be read.
        self.deflated = self.deflated.saturating_add(deflated.len());
        if self.deflated > MAX_DEFLATED {
            return Err(TooMuch);
        }
        let state = self
            .state
            .get_or_insert_with(|| Box::new((Decompress::new(true), [0; WINDOW])));
        let (decompress, window) = &mut **state;
        decompress.reset(true);
        loop {
            let (before_in, before_out) = (decompress.total_in(), decompress.total_out());
            let status = decompress.decompress(deflated, window, FlushDecompress::None);
            let moved = |before: u64, now: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
            let read = moved(before_in, decompress.total_in());
            let written = moved(before_out, decompress.total_out());
            self.inflated = self.inflated.saturating_add(written);
            if self.inflated > MAX_INFLATED {
                return Err(TooMuch);
            }
            deflated = deflated.get(read..).unwrap_or_default();
            match status {
                Ok(Status::Ok) if read > 0 || written > 0 => {}
                Ok(_) | Err(_) => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_limit_counts_all_streams_of_a_file_together() {
        let mut file = Compressed::default();
        assert_eq!(file.add(&deflate(&vec![0; MAX_INFLATED - 5])), Ok(()));
        assert_eq!(file.add(&deflate(b"12345")), Ok(()));
        assert_eq!(file.add(&deflate(b"")), Ok(()));
        assert_eq!(file.add(&deflate(b"6")), Err(TooMuch));
        let bomb = deflate(&vec![0; 20 * MAX_INFLATED]);
        assert_eq!(Compressed::default().add(&bomb), Err(TooMuch));
    }

    #[test]
    fn a_broken_stream_counts_up_to_its_fault() {
        let mut file = Compressed::default();
        for broken in [
            &b""[..],
            b"x",
            b"compressed",
            b"\x78\x9c",
            b"\x78\xbb\0\0\0\0",
        ] {
            assert_eq!(file.add(broken), Ok(()), "{}", broken.escape_ascii());
        }
        assert_eq!(file.inflated, 0);
        let mut cut = deflate(&vec![7; MAX_INFLATED]);
        cut.truncate(cut.len() - 20);
        assert_eq!(file.add(&cut), Ok(()));
        assert!(file.inflated > MAX_INFLATED / 2, "{}", file.inflated);
        cut.extend(b"behind its end, or in place of it");
        assert_eq!(Compressed::default().add(&cut), Ok(()));
    }

    #[test]
    fn a_stream_without_output_is_limited_by_its_input() {
        // Stored blocks without content.
        let mut empty = b"\x78\x01".to_vec();
        empty.extend(b"\0\0\0\xff\xff".iter().cycle().take(MAX_DEFLATED - 1));
        assert_eq!(Compressed::default().add(&empty), Err(TooMuch));
        empty.truncate(MAX_DEFLATED);
        assert_eq!(Compressed::default().add(&empty), Ok(()));
        let mut twice = Compressed::default();
        assert_eq!(twice.add(&empty[..MAX_DEFLATED / 2]), Ok(()));
        assert_eq!(twice.add(&empty[..MAX_DEFLATED / 2]), Ok(()));
        assert_eq!(twice.add(b"x"), Err(TooMuch));
    }
}
