//! Repeated requests that wait while another one drives the same payment. Their number and their
//! time are bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::model::payment::PaymentId;

/// How long a repeated request waits.
pub(super) const WAIT: Duration = Duration::from_secs(5);
/// How many requests may wait for one payment.
const MOST_PER_PAYMENT: usize = 8;
/// How many requests may wait for all payments together.
const MOST: usize = 256;
/// After how long a waiting request reads the row again, to see changes by other processes.
const POLL: Duration = Duration::from_millis(200);

/// The number of waiting requests of each payment.
#[derive(Debug, Default)]
pub(super) struct Waiters(Arc<Mutex<HashMap<PaymentId, usize>>>);

/// A waiting request. Dropping it makes room for another one.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Mutex<HashMap<PaymentId, usize>>>,
    id: PaymentId,
}

impl Waiters {
    /// Adds a waiting request. `None`: too many wait already.
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

/// Returns when this process has changed some payment, or when it is time to read the database
/// again.
pub(super) async fn for_change(changed: &Notify, left: Duration) {
    let nothing = tokio::time::timeout(POLL.min(left), changed.notified()).await;
    if nothing.is_err() {
        tracing::trace!("no payment changed in this process; the row is read again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_requests_of_a_payment_wait_and_256_in_total() {
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
