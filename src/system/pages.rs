//! Memory for large bodies, in separate pages that return to the system when the bytes are dropped.
//!
//! The C library's allocator keeps freed memory of this size. After 100 forms of 4.7 MB at once,
//! the server held 470 MB for as long as it ran. mimalloc gives memory back only after a while, and
//! took 360 to 400 MB where 256 MiB were in use.
//!
//! A few pages are kept for the next bodies: to map, fill and unmap 900 kB took an eighth of the CPU
//! time of an upload.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use memmap2::MmapMut;

/// Smaller bodies don't get pages of their own: the allocator reuses their memory.
const SMALL: usize = 64 * 1024;

/// At most this many bytes of pages are kept for the next bodies.
const MOST_SPARE: usize = 4 * 1024 * 1024;

/// A buffer that is filled from its beginning.
#[derive(Debug)]
pub struct Buffer {
    memory: Memory,
    length: usize,
}

#[derive(Debug)]
enum Memory {
    /// The allocator's memory, for few bytes, or if the system can't map pages.
    Heap(Vec<u8>),
    Pages(Pages),
}

/// Pages of a fixed length. Pages that were never written to take no memory. They may hold bytes of
/// an earlier body.
#[derive(Debug)]
struct Pages(Option<MmapMut>);

/// Pages for the next bodies, the last ones last.
static SPARE: Mutex<Vec<MmapMut>> = Mutex::new(Vec::new());

fn spare() -> MutexGuard<'static, Vec<MmapMut>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pages {
    /// Takes pages of at least `length` bytes.
    fn of(length: usize) -> std::io::Result<Self> {
        let mut spare = spare();
        // A body counts by its own length, so its pages are at most an eighth longer.
        let fits = |pages: &MmapMut| {
            let longest = length.saturating_add(length / 8);
            (length..=longest).contains(&pages.len())
        };
        if let Some(at) = spare.iter().rposition(fits) {
            return Ok(Self(Some(spare.remove(at))));
        }
        drop(spare);
        MmapMut::map_anon(length).map(|pages| Self(Some(pages)))
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let Some(pages) = self.0.take() else { return };
        let mut spare = spare();
        let kept: usize = spare.iter().map(|pages| pages.len()).sum();
        if kept.saturating_add(pages.len()) <= MOST_SPARE {
            spare.push(pages);
        }
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl AsMut<[u8]> for Pages {
    fn as_mut(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().unwrap_or_default()
    }
}

impl Buffer {
    /// Creates an empty buffer that takes `length` bytes without being moved.
    ///
    /// # Errors
    /// When the system can't map the pages.
    pub fn with_length(length: usize) -> std::io::Result<Self> {
        let memory = if length <= SMALL {
            Memory::Heap(Vec::with_capacity(length))
        } else {
            Memory::Pages(Pages::of(length)?)
        };
        Ok(Self { memory, length: 0 })
    }

    /// Creates an empty buffer that takes `length` bytes without being moved. If the system can't
    /// map pages, it takes the allocator's memory.
    pub fn with_length_or_heap(length: usize) -> Self {
        let pages = if length <= 2 * SMALL {
            None
        } else {
            Pages::of(length).ok()
        };
        Self {
            memory: pages.map_or_else(|| Memory::Heap(Vec::with_capacity(length)), Memory::Pages),
            length: 0,
        }
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
        if let Memory::Heap(heap) = &mut self.memory
            && (end <= SMALL || end <= heap.capacity())
        {
            heap.truncate(self.length);
            heap.extend_from_slice(bytes);
            self.length = end;
            return Ok(());
        }
        if self.pages(end).is_none() {
            let mut larger = Pages::of(most)?;
            if let Some(place) = larger.as_mut().get_mut(..self.length) {
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
    fn pages(&mut self, length: usize) -> Option<&mut [u8]> {
        match &mut self.memory {
            Memory::Pages(pages) if pages.as_ref().len() >= length => Some(pages.as_mut()),
            Memory::Pages(_) | Memory::Heap(_) => None,
        }
    }

    /// Appends `bytes`. A buffer that is too short for them is moved to the allocator's memory.
    pub fn append(&mut self, bytes: &[u8]) {
        let length = match &self.memory {
            Memory::Heap(heap) => heap.capacity(),
            Memory::Pages(pages) => pages.as_ref().len(),
        };
        if self.extend(bytes, length).is_err() {
            let moved = [self, bytes].concat();
            self.length = moved.len();
            self.memory = Memory::Heap(moved);
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
            Memory::Heap(heap) => Bytes::from(heap),
            Memory::Pages(pages) => Bytes::from_owner(pages),
        };
        all.slice(..length)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &self.memory {
            Memory::Heap(heap) => heap,
            Memory::Pages(pages) => pages.as_ref(),
        };
        all.get(..self.length).unwrap_or_default()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let all: &mut [u8] = match &mut self.memory {
            Memory::Heap(heap) => heap,
            Memory::Pages(pages) => pages.as_mut(),
        };
        all.get_mut(..self.length).unwrap_or_default()
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
    fn a_buffer_that_is_too_short_is_moved() {
        for length in [0, 5, 2 * SMALL, 2 * SMALL + 1, 4 * SMALL] {
            let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
            let mut buffer = Buffer::with_length_or_heap(length);
            buffer.append(&bytes);
            assert_eq!(*buffer, bytes);
            let place = buffer.as_ptr();
            buffer.truncate(length / 2);
            buffer.append(&bytes[length / 2..]);
            assert_eq!((&*buffer, buffer.as_ptr()), (&*bytes, place));
            buffer.append(&bytes);
            buffer.append(b"end");
            assert_eq!(buffer.freeze(), [&bytes, &bytes, &b"end"[..]].concat());
        }
    }

    #[test]
    fn reused_pages_show_nothing_of_earlier_bodies_and_are_few() {
        let long = vec![7; 4 * SMALL];
        for announced in [0, 2 * SMALL, 4 * SMALL] {
            // The pages return when the bytes are dropped.
            drop(filled(4 * SMALL, &[&long], 4 * SMALL));
            assert!(Buffer::with_length(announced).unwrap().is_empty());
            assert_eq!(filled(announced, &[b"next"], 4 * SMALL), b"next"[..]);
        }
        let all: Vec<Buffer> = (0..2 * MOST_SPARE / SMALL)
            .map(|_| Buffer::with_length(SMALL + 1).unwrap())
            .collect();
        drop(all);
        let kept: usize = spare().iter().map(|pages| pages.len()).sum();
        assert!((1..=MOST_SPARE).contains(&kept), "{kept}");
        // Large bodies don't take the place of many small ones.
        drop(Buffer::with_length(2 * MOST_SPARE).unwrap());
        assert!(spare().iter().all(|pages| pages.len() <= MOST_SPARE));
    }
}
