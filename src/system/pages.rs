//! Memory for large bodies, in separate pages that return to the system when the bytes are dropped.
//!
//! The C library's allocator keeps freed memory of this size. After 100 forms of 4.7 MB at once,
//! the server held 470 MB for as long as it ran. mimalloc gives memory back only after a while, and
//! took 360 to 400 MB where 256 MiB were in use.

use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use memmap2::MmapMut;

/// Smaller bodies don't get pages of their own: the allocator reuses their memory.
const SMALL: usize = 64 * 1024;

/// A buffer that is filled from its beginning.
#[derive(Debug)]
pub struct Buffer {
    memory: Memory,
    length: usize,
}

#[derive(Debug)]
enum Memory {
    Small(Vec<u8>),
    /// Pages of a fixed length. Pages that were never written to take no memory.
    Pages(MmapMut),
}

impl Buffer {
    /// Creates an empty buffer that takes `length` bytes without being moved.
    ///
    /// # Errors
    /// When the system can't map the pages.
    pub fn with_length(length: usize) -> std::io::Result<Self> {
        let memory = if length <= SMALL {
            Memory::Small(Vec::with_capacity(length))
        } else {
            Memory::Pages(MmapMut::map_anon(length)?)
        };
        Ok(Self { memory, length: 0 })
    }

    /// Appends `bytes`. A buffer that is moved for that can take `most` bytes afterwards.
    ///
    /// # Errors
    /// When the system can't map the pages, or the buffer would exceed `most` bytes.
    pub fn extend(&mut self, bytes: &[u8], most: usize) -> std::io::Result<()> {
        let end = self.length.saturating_add(bytes.len());
        if end > most {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        if let Memory::Small(small) = &mut self.memory
            && end <= SMALL
        {
            small.extend_from_slice(bytes);
            self.length = end;
            return Ok(());
        }
        if self.pages(end).is_none() {
            let mut larger = MmapMut::map_anon(most)?;
            if let Some(place) = larger.get_mut(..self.length) {
                place.copy_from_slice(self);
            }
            self.memory = Memory::Pages(larger);
        }
        let start = self.length;
        let place = self.pages(end).and_then(|pages| pages.get_mut(start..end));
        let place = place.ok_or(std::io::ErrorKind::FileTooLarge)?;
        place.copy_from_slice(bytes);
        self.length = end;
        Ok(())
    }

    /// The buffer's pages, if they can hold `length` bytes.
    fn pages(&mut self, length: usize) -> Option<&mut MmapMut> {
        match &mut self.memory {
            Memory::Pages(pages) if pages.len() >= length => Some(pages),
            Memory::Pages(_) | Memory::Small(_) => None,
        }
    }

    /// Drops the bytes after the first `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Converts the buffer to bytes without copying.
    pub fn freeze(self) -> Bytes {
        let length = self.length;
        let all = match self.memory {
            Memory::Small(small) => Bytes::from(small),
            Memory::Pages(pages) => Bytes::from_owner(pages),
        };
        all.slice(..length)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &self.memory {
            Memory::Small(small) => small,
            Memory::Pages(pages) => pages,
        };
        all.get(..self.length).unwrap_or_default()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let all: &mut [u8] = match &mut self.memory {
            Memory::Small(small) => small,
            Memory::Pages(pages) => pages,
        };
        all.get_mut(..self.length).unwrap_or_default()
    }
}

/// Moves the bytes to pages of their own, if there are many and the system can map the pages.
pub fn own(bytes: Vec<u8>) -> Bytes {
    if bytes.len() <= SMALL {
        return Bytes::from(bytes);
    }
    let copied = Buffer::with_length(bytes.len()).and_then(|mut pages| {
        pages.extend(&bytes, bytes.len())?;
        Ok(pages)
    });
    match copied {
        Ok(pages) => pages.freeze(),
        Err(error) => {
            tracing::debug!(%error, "no pages for a cleaned image: it stays in the allocator's memory");
            Bytes::from(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(announced: usize, pieces: &[&[u8]], most: usize) -> Bytes {
        let mut buffer = Buffer::with_length(announced).unwrap();
        for piece in pieces {
            buffer.extend(piece, most).unwrap();
        }
        assert_eq!(*buffer, pieces.concat());
        buffer.freeze()
    }

    #[test]
    fn bytes_are_returned_unchanged_for_any_announced_length() {
        let piece: Vec<u8> = (0..=255).cycle().take(SMALL / 2 + 1).collect();
        let one = &piece[..];
        for announced in [0, 1, SMALL, SMALL + 1, 4 * SMALL] {
            for count in [0, 1, 2, 3, 7] {
                let pieces = vec![one; count];
                let most = 4 * SMALL;
                assert_eq!(filled(announced, &pieces, most), pieces.concat());
            }
        }
        assert!(filled(0, &[], 0).is_empty());
    }

    #[test]
    fn a_buffer_takes_at_most_its_limit() {
        for announced in [0, 2 * SMALL] {
            let mut buffer = Buffer::with_length(announced).unwrap();
            buffer.extend(&vec![1; 2 * SMALL], 2 * SMALL).unwrap();
            buffer.extend(b"", 2 * SMALL).unwrap();
            buffer.extend(b"2", 2 * SMALL).unwrap_err();
            assert_eq!(*buffer, vec![1; 2 * SMALL]);
        }
        let mut small = Buffer::with_length(3).unwrap();
        small.extend(b"1234", 3).unwrap_err();
        small.extend(b"123", 3).unwrap();
    }

    #[test]
    fn truncated_bytes_are_gone_and_the_rest_can_be_changed() {
        for count in [10, SMALL + 10] {
            let mut buffer = Buffer::with_length(0).unwrap();
            buffer.extend(&vec![7; count], 2 * SMALL).unwrap();
            buffer.truncate(5);
            buffer.truncate(9);
            buffer[4] = 8;
            assert_eq!(buffer.freeze(), [7, 7, 7, 7, 8][..]);
        }
    }

    #[test]
    fn own_pages_hold_the_same_bytes() {
        for count in [0, 5, SMALL, SMALL + 1, 3 * SMALL] {
            let bytes: Vec<u8> = (0..=250).cycle().take(count).collect();
            assert_eq!(own(bytes.clone()), bytes);
        }
    }
}
