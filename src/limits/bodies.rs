//! The memory that the bodies of all requests may take together, from their first byte until their
//! image is stored.
//!
//! An open connection costs a stranger nothing, so only received bytes count: filling this memory
//! requires sending as much. A body is counted once, as received. During the check, a cleaned copy
//! of the image may exist beside it, and for a moment a second copy, in which decoding repairs a
//! JPEG. Copies have a quarter of the memory for themselves, so that bodies can't keep each other
//! from being checked.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Limited;
use super::memory::{PART_OF_COPIES, UNIT_BYTES, units};
use crate::images::clean::GROWTH;

/// How many copies of one image may exist at the same time.
const COPIES_OF_ONE: u64 = 2;

/// The memory that is left for bodies and for copies.
#[derive(Debug)]
pub(super) struct Bodies {
    arrived: Arc<Semaphore>,
    copies: Arc<Semaphore>,
    most_copies: u32,
}

/// Memory for a copy of an image, given back on drop.
#[derive(Debug)]
pub struct CopyRoom {
    _held: OwnedSemaphorePermit,
}

impl Bodies {
    pub(super) fn new(bytes: u64) -> Self {
        let all = bytes / UNIT_BYTES;
        let copies = all / PART_OF_COPIES;
        let permits = |units: u64| {
            let units = usize::try_from(units).unwrap_or(Semaphore::MAX_PERMITS);
            Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS)))
        };
        Self {
            arrived: permits(all - copies),
            copies: permits(copies),
            most_copies: u32::try_from(copies).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn begin(&self) -> Room {
        Room {
            left: Arc::clone(&self.arrived),
            held: None,
        }
    }

    /// Waits for memory for the cleaned copy of an image of `bytes` bytes. Holders of such memory
    /// wait for nothing.
    ///
    /// # Errors
    /// None, since the semaphore is never closed.
    pub(super) async fn copy(&self, bytes: u64) -> Result<CopyRoom, Limited> {
        let growth = u64::try_from(GROWTH).unwrap_or(u64::MAX);
        let one = units(bytes.saturating_add(growth));
        let wanted = u32::try_from(one.saturating_mul(COPIES_OF_ONE)).unwrap_or(u32::MAX);
        // Where the reserved memory is smaller than one of the largest copies, that copy gets all
        // of it.
        let wanted = wanted.min(self.most_copies);
        let room = Arc::clone(&self.copies).acquire_many_owned(wanted).await;
        room.map(|held| CopyRoom { _held: held })
            .map_err(|_| Limited::Crowded)
    }
}

/// The memory of one body, given back on drop.
#[derive(Debug)]
pub struct Room {
    left: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Grows the accounted memory to `bytes` bytes in all.
    ///
    /// # Errors
    /// [`Limited::Crowded`] when other bodies leave too little. The memory that is already held
    /// stays held.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Limited> {
        let wanted = usize::try_from(units(bytes)).unwrap_or(usize::MAX);
        let more = u32::try_from(wanted.saturating_sub(self.held())).unwrap_or(u32::MAX);
        if more == 0 {
            return Ok(());
        }
        let more = Arc::clone(&self.left).try_acquire_many_owned(more);
        let more = more.map_err(|_| Limited::Crowded)?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }

    fn held(&self) -> usize {
        let held = self.held.as_ref();
        held.map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Lowers the accounted memory to at most `bytes` bytes.
    #[must_use]
    pub fn lowered(mut self, bytes: u64) -> Self {
        let wanted = usize::try_from(units(bytes)).unwrap_or(usize::MAX);
        let excess = self.held().saturating_sub(wanted);
        // The part that is split off is dropped.
        let split = self.held.as_mut().and_then(|held| held.split(excess));
        drop(split);
        self
    }

    /// Returns the bytes, which keep the memory accounted until the last clone of them is dropped.
    pub fn fill(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Filled {
            bytes,
            _room: self.held,
        })
    }
}

struct Filled {
    bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::memory::least_body_bytes;

    /// Four units for bodies, one for copies (of at most 1,020 bytes), and one that is too few for
    /// another copy.
    fn bodies() -> Bodies {
        Bodies::new(5 * UNIT_BYTES + 100)
    }

    #[test]
    fn a_body_holds_memory_for_received_bytes_until_its_last_byte_is_dropped() {
        let bodies = bodies();
        let mut large = bodies.begin();
        large.grow(1).unwrap();
        large.grow(UNIT_BYTES).unwrap();
        large.grow(3 * UNIT_BYTES).unwrap();
        let mut other = bodies.begin();
        assert!(matches!(other.grow(UNIT_BYTES + 1), Err(Limited::Crowded)));
        other.grow(UNIT_BYTES).unwrap();
        assert!(matches!(bodies.begin().grow(1), Err(Limited::Crowded)));
        drop(other);
        bodies.begin().grow(1).unwrap();
        let bytes = large.fill(Bytes::from_static(b"an image"));
        let part = bytes.slice(3..);
        drop(bytes);
        assert_eq!(part, "image");
        assert!(bodies.begin().grow(2 * UNIT_BYTES).is_err());
        drop(part);
        bodies.begin().grow(4 * UNIT_BYTES).unwrap();
    }

    #[test]
    fn a_body_with_a_smaller_image_gives_the_rest_back() {
        let bodies = bodies();
        let mut room = bodies.begin();
        room.grow(4 * UNIT_BYTES).unwrap();
        let bytes = room.lowered(UNIT_BYTES + 1).fill(Bytes::from_static(b"1"));
        assert!(bodies.begin().grow(2 * UNIT_BYTES + 1).is_err());
        bodies.begin().grow(2 * UNIT_BYTES).unwrap();
        drop(bytes);
        bodies.begin().grow(4 * UNIT_BYTES).unwrap();
        // A body that holds less already, and one that holds nothing, stay unchanged.
        let mut small = bodies.begin();
        small.grow(UNIT_BYTES).unwrap();
        let small = small.lowered(9 * UNIT_BYTES);
        assert!(bodies.begin().grow(3 * UNIT_BYTES + 1).is_err());
        drop(small);
        drop(bodies.begin().lowered(0));
    }

    #[tokio::test]
    async fn copies_wait_for_each_other_but_not_for_bodies() {
        let bodies = bodies();
        let mut body = bodies.begin();
        body.grow(4 * UNIT_BYTES).unwrap();
        let first = bodies.copy(1).await.unwrap();
        let mut second = Box::pin(bodies.copy(1));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        drop(second.await.unwrap());
        // Larger than all the memory for copies.
        bodies.copy(u64::MAX).await.unwrap();
    }

    #[test]
    fn the_least_memory_accepts_the_longest_body_and_its_copy() {
        for (longest, largest) in [(7_000_000, 5 << 20), (100 << 20, 1), (1, 10 << 20), (1, 1)] {
            let bodies = Bodies::new(least_body_bytes(longest, largest));
            bodies.begin().grow(longest).unwrap();
            let copies = u64::from(bodies.most_copies) * UNIT_BYTES;
            assert!(copies >= largest + 4, "{copies}");
        }
    }
}
