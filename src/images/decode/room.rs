//! The memory that all decodes of the process may take together.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// 256 MiB.
const ALL: u64 = 256 << 20;

static ROOM: Room = Room {
    free: Mutex::new(ALL),
    freed: Condvar::new(),
};

struct Room {
    free: Mutex<u64>,
    freed: Condvar,
}

/// Memory that a decode holds, given back on drop.
pub(super) struct Held(u64);

/// Waits until so many bytes are free, and takes them. A decode that wants more than there are waits until it is
/// alone. Decodes run on a bounded number of threads, so that waiting keeps nobody else from working.
pub(super) fn take(bytes: u64) -> Held {
    let bytes = bytes.min(ALL);
    let mut free = lock();
    while *free < bytes {
        free = ROOM
            .freed
            .wait(free)
            .unwrap_or_else(PoisonError::into_inner);
    }
    *free -= bytes;
    Held(bytes)
}

fn lock() -> MutexGuard<'static, u64> {
    ROOM.free.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Held {
    fn drop(&mut self) {
        *lock() += self.0;
        ROOM.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_decode_waits_for_those_before_it_and_a_small_one_does_not() {
        let large = take(ALL - 10);
        let (done, is_done) = std::sync::mpsc::channel();
        let second = std::thread::spawn(move || {
            let held = take(u64::MAX);
            done.send(()).unwrap();
            drop(held);
        });
        drop(take(10));
        assert!(is_done.try_recv().is_err());
        drop(large);
        is_done.recv().unwrap();
        second.join().unwrap();
        assert_eq!(*lock(), ALL);
    }
}
