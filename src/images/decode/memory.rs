//! Limits the memory that all decodes of the process use together.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The memory of all decodes together, in bytes.
const ALL: u64 = 256 << 20;

static POOL: Pool = Pool {
    free: Mutex::new(ALL),
    freed: Condvar::new(),
};

struct Pool {
    free: Mutex<u64>,
    freed: Condvar,
}

/// Memory that a decode holds. Dropping it frees the memory.
#[derive(Debug)]
pub(in crate::images) struct Held(u64);

/// Blocks until `bytes` are free, and reserves them. A decode that needs more than the whole limit
/// waits until it runs alone. Decodes run on a bounded number of threads of their own, so blocking
/// delays no other work.
pub(in crate::images) fn take(bytes: u64) -> Held {
    let bytes = bytes.min(ALL);
    let mut free = lock();
    while *free < bytes {
        free = POOL
            .freed
            .wait(free)
            .unwrap_or_else(PoisonError::into_inner);
    }
    *free -= bytes;
    Held(bytes)
}

fn lock() -> MutexGuard<'static, u64> {
    POOL.free.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Held {
    fn drop(&mut self) {
        *lock() += self.0;
        POOL.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_decode_waits_and_a_small_one_does_not() {
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
