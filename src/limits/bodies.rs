//! The memory that the bodies of all requests may take together. Each is held whole until its image is stored, and
//! a connection costs a stranger nothing: only what came counts, so that whoever wants to fill it must send it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Limited;

/// What is counted: a semaphore's permits are 32-bit.
const UNIT_BYTES: u64 = 1024;

/// How much is left.
#[derive(Debug)]
pub(super) struct Bodies(Arc<Semaphore>);

impl Bodies {
    pub(super) fn new(bytes: u64) -> Self {
        let units = usize::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(Semaphore::MAX_PERMITS);
        Self(Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))))
    }

    pub(super) fn begin(&self) -> Room {
        Room {
            left: Arc::clone(&self.0),
            held: None,
        }
    }
}

/// The room of one body, given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    left: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Makes it hold so many bytes in all.
    ///
    /// # Errors
    /// [`Limited::Crowded`] when the others leave too little; what it holds stays held.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Limited> {
        let held = self
            .held
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = usize::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(usize::MAX);
        let more = u32::try_from(wanted.saturating_sub(held)).unwrap_or(u32::MAX);
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

    /// These bytes, which keep the room until the last of them is dropped.
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

    #[test]
    fn a_body_takes_what_came_and_gives_it_back_with_its_last_byte() {
        let bodies = Bodies::new(4 * UNIT_BYTES);
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
}
