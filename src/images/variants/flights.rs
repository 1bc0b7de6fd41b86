//! Computations that are under way, each shared by all requests that wait for it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tracing::Instrument;

use crate::images::hot::VariantKey;

/// The computations by the variant that they make.
#[derive(Debug)]
pub(super) struct Flights<T>(Arc<Open<T>>);

#[derive(Debug)]
struct Open<T>(Mutex<HashMap<VariantKey, Shared<T>>>);

/// A computation that requests wait for.
#[derive(Debug)]
struct Shared<T> {
    waiting: usize,
    outcome: watch::Receiver<Option<T>>,
    abandoned: Arc<Notify>,
}

/// The computation's own side. Requests join it until this is dropped.
#[derive(Debug)]
pub(super) struct Flight<T> {
    key: VariantKey,
    open: Arc<Open<T>>,
    outcome: watch::Sender<Option<T>>,
    abandoned: Arc<Notify>,
}

/// A request that waits.
struct Waiter<T> {
    key: VariantKey,
    open: Arc<Open<T>>,
    outcome: watch::Receiver<Option<T>>,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self(Arc::new(Open(Mutex::default())))
    }
}

#[cfg(test)]
impl<T> Flights<T> {
    /// Whether no computation is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.0.locked().is_empty()
    }
    /// Whether a computation for this key is under way.
    pub(super) fn is_open(&self, key: &VariantKey) -> bool {
        self.0.locked().contains_key(key)
    }
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    /// Waits for the outcome of the computation that is under way for this key. If there is none,
    /// starts `lead` in a task of its own. `None`: it ended without an outcome.
    pub(super) async fn join<F>(
        &self,
        key: VariantKey,
        lead: impl FnOnce(Flight<T>) -> F,
    ) -> Option<T>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut waiter = self.wait_for(key, lead);
        let outcome = waiter.outcome.wait_for(Option::is_some).await;
        outcome.ok()?.clone()
    }

    fn wait_for<F>(&self, key: VariantKey, lead: impl FnOnce(Flight<T>) -> F) -> Waiter<T>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut flights = self.0.locked();
        if let Some(shared) = flights.get_mut(&key) {
            shared.waiting += 1;
            let outcome = shared.outcome.clone();
            let open = Arc::clone(&self.0);
            return Waiter { key, open, outcome };
        }
        let (sender, outcome) = watch::channel(None);
        let abandoned = Arc::new(Notify::new());
        let shared = Shared {
            waiting: 1,
            outcome: outcome.clone(),
            abandoned: Arc::clone(&abandoned),
        };
        flights.insert(key.clone(), shared);
        drop(flights);
        let flight = Flight {
            key: key.clone(),
            open: Arc::clone(&self.0),
            outcome: sender,
            abandoned,
        };
        tokio::spawn(lead(flight).in_current_span());
        let open = Arc::clone(&self.0);
        Waiter { key, open, outcome }
    }
}

impl<T> Flight<T> {
    /// Completes when no request waits any more and there is no outcome yet.
    pub(super) async fn abandoned(&self) {
        self.abandoned.notified().await;
    }

    /// Hands the outcome to all requests that wait, and to those that join later.
    pub(super) fn deliver(&self, outcome: T) {
        self.outcome.send_replace(Some(outcome));
    }
}

impl<T> Open<T> {
    fn locked(&self) -> MutexGuard<'_, HashMap<VariantKey, Shared<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Flight<T> {
    fn drop(&mut self) {
        let mut flights = self.open.locked();
        // After an abandoned computation was removed, another one may have the same key.
        let is_this = |shared: &Shared<T>| Arc::ptr_eq(&shared.abandoned, &self.abandoned);
        if flights.get(&self.key).is_some_and(is_this) {
            flights.remove(&self.key);
        }
    }
}

impl<T> Drop for Waiter<T> {
    fn drop(&mut self) {
        let mut flights = self.open.locked();
        let Some(shared) = flights.get_mut(&self.key) else {
            return;
        };
        if !shared.outcome.same_channel(&self.outcome) {
            return;
        }
        shared.waiting = shared.waiting.saturating_sub(1);
        if shared.waiting == 0 && shared.outcome.borrow().is_none() {
            shared.abandoned.notify_one();
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use futures_util::poll;
    use tokio::sync::oneshot;

    use super::*;
    use crate::model::ids::ImageId;

    fn key() -> VariantKey {
        let id = ImageId::parse("k3v9Qw2mZr7T").unwrap();
        (id, "w320.webp".to_owned())
    }

    #[tokio::test]
    async fn all_that_wait_share_one_computation_and_its_outcome() {
        let flights: Flights<u8> = Flights::default();
        let started = AtomicUsize::new(0);
        let waiting = (0..100).map(|_| {
            flights.join(key(), |flight| {
                started.fetch_add(1, Ordering::SeqCst);
                async move {
                    tokio::task::yield_now().await;
                    flight.deliver(7);
                }
            })
        });
        let outcomes = join_all(waiting).await;
        assert!(outcomes.iter().all(|outcome| *outcome == Some(7)));
        assert_eq!(started.load(Ordering::SeqCst), 1);
        // Joining after its end begins a new one.
        let next = flights.join(key(), |flight| async move { flight.deliver(8) });
        let next = next.await;
        assert!(matches!(next, Some(7 | 8)));
    }

    #[tokio::test]
    async fn a_computation_is_abandoned_when_the_last_request_goes_away() {
        let flights: Flights<u8> = Flights::default();
        let (told, mut ended) = oneshot::channel();
        let mut first = Box::pin(flights.join(key(), |flight| async move {
            flight.abandoned().await;
            told.send(()).unwrap();
        }));
        assert!(poll!(&mut first).is_pending());
        let mut second = Box::pin(flights.join(key(), |_| async {
            panic!("it joins the first one");
        }));
        assert!(poll!(&mut second).is_pending());
        drop(first);
        tokio::task::yield_now().await;
        assert!(ended.try_recv().is_err(), "somebody still waits");
        drop(second);
        ended.await.unwrap();
        // A new request starts anew.
        let again = flights.join(key(), |flight| async move { flight.deliver(9) });
        assert_eq!(again.await, Some(9));
    }

    #[tokio::test]
    async fn a_computation_without_an_outcome_is_reported() {
        let flights: Flights<u8> = Flights::default();
        assert_eq!(flights.join(key(), |_| async {}).await, None);
        assert!(flights.0.locked().is_empty());
    }
}
