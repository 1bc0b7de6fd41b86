//! Copies of a payment that wait for the one that is being driven: bounded in number and time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::model::payment::PaymentId;

/// How long a copy waits.
pub(super) const WAIT: Duration = Duration::from_secs(5);
/// How many copies of one payment wait.
const MOST_PER_PAYMENT: usize = 8;
/// How many copies of all payments wait.
const MOST: usize = 256;
/// How long until a change that another process made is seen.
const POLL: Duration = Duration::from_millis(200);

/// The places in the waiting room.
#[derive(Debug, Default)]
pub(super) struct Waiters(Arc<Mutex<HashMap<PaymentId, usize>>>);

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Mutex<HashMap<PaymentId, usize>>>,
    id: PaymentId,
}

impl Waiters {
    /// Takes a place, when there is one.
    pub(super) fn enter(&self, id: &PaymentId) -> Option<Place> {
        let mut room = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = room.values().sum::<usize>() >= MOST;
        if full || room.get(id).is_some_and(|count| *count >= MOST_PER_PAYMENT) {
            return None;
        }
        *room.entry(id.clone()).or_default() += 1;
        Some(Place {
            room: Arc::clone(&self.0),
            id: id.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = room.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                room.remove(&self.id);
            }
        }
    }
}

/// Returns when some payment changed here, or it is time to look at the database again.
pub(super) async fn for_change(changed: &Notify, left: Duration) {
    let nothing = tokio::time::timeout(POLL.min(left), changed.notified()).await;
    if nothing.is_err() {
        tracing::trace!("no change was heard of; the row is read again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_copies_of_a_payment_wait_and_256_in_all() {
        let waiters = Waiters::default();
        let id = |n: u32| PaymentId::parse(&format!("{n:064x}")).unwrap();
        let mut places = Vec::new();
        for _ in 0..8 {
            places.push(waiters.enter(&id(0)).unwrap());
        }
        assert!(waiters.enter(&id(0)).is_none());
        for n in 1..=31 {
            for _ in 0..8 {
                places.push(waiters.enter(&id(n)).unwrap());
            }
        }
        assert!(waiters.enter(&id(99)).is_none());
        places.clear();
        assert!(waiters.enter(&id(0)).is_some());
        assert!(waiters.0.lock().unwrap().len() <= 1);
    }
}
