//! Places for work on images, checks or variants: as many run at once as there are cores, and a bounded
//! queue waits for them. This file calls all of it checks.
//!
//! A check may take seconds of CPU time, and costs its sender only a small file. So a network never
//! has more checks ahead of other networks' than there are cores, and never more than a quarter of
//! the queue. Its own checks wait for each other first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Limited;
use super::rates::Bucket;
use crate::system::metrics;

/// How many checks may wait for each one that runs.
pub(super) const QUEUE_PER_CHECK: usize = 64;
/// One network may have at most this fraction of all places: 1/4.
pub(super) const PART_OF_ONE_NETWORK: usize = 4;

/// The places for checks of a server.
#[derive(Debug)]
pub(super) struct Checks {
    at_once: usize,
    /// How many checks of one network may run or be the next to run.
    of_one_network: usize,
    running: Arc<Semaphore>,
    running_and_queue: Arc<Semaphore>,
    networks: Arc<Mutex<HashMap<Bucket, Network>>>,
}

/// The checks of one network.
#[derive(Debug)]
struct Network {
    places: usize,
    in_front: Arc<Semaphore>,
}

/// A place among the checks that run now. Freed on drop.
#[derive(Debug)]
pub struct Check {
    _running: OwnedSemaphorePermit,
    _in_front: Option<OwnedSemaphorePermit>,
    _of_network: Option<OfNetwork>,
    _counted: OwnedSemaphorePermit,
}

/// A place that one network holds until this is dropped.
#[derive(Debug)]
struct OfNetwork {
    network: Bucket,
    networks: Arc<Mutex<HashMap<Bucket, Network>>>,
}

impl Checks {
    pub(super) fn new(at_once: usize, of_one_network: usize) -> Self {
        Self {
            at_once,
            of_one_network,
            running: Arc::new(Semaphore::new(at_once)),
            running_and_queue: Arc::new(Semaphore::new(at_once * (1 + QUEUE_PER_CHECK))),
            networks: Arc::default(),
        }
    }

    pub(super) async fn enter(&self, network: Option<Bucket>) -> Result<Check, Limited> {
        let asked = Instant::now();
        let entered = self.wait(network).await;
        metrics::check_waited(entered.is_ok(), asked.elapsed());
        entered
    }

    /// How many checks run, and how many wait.
    pub(super) fn count(&self) -> (usize, usize) {
        let running = self
            .at_once
            .saturating_sub(self.running.available_permits());
        let places = self.at_once * (1 + QUEUE_PER_CHECK);
        let taken = places.saturating_sub(self.running_and_queue.available_permits());
        (running, taken.saturating_sub(running))
    }

    async fn wait(&self, network: Option<Bucket>) -> Result<Check, Limited> {
        let counted = Arc::clone(&self.running_and_queue).try_acquire_owned();
        let counted = counted.map_err(|_| Limited::Busy)?;
        let (mut of_network, mut in_front) = (None, None);
        if let Some(network) = network {
            let (place, turns) = self.join(network).ok_or(Limited::Busy)?;
            of_network = Some(place);
            in_front = Some(turns.acquire_owned().await.map_err(|_| Limited::Busy)?);
        }
        let running = Arc::clone(&self.running).acquire_owned().await;
        Ok(Check {
            _running: running.map_err(|_| Limited::Busy)?,
            _in_front: in_front,
            _of_network: of_network,
            _counted: counted,
        })
    }

    /// Takes a place for a network, with the semaphore of its checks. `None`: the network has all
    /// the places that it may have.
    fn join(&self, network: Bucket) -> Option<(OfNetwork, Arc<Semaphore>)> {
        let most = self.at_once * (1 + QUEUE_PER_CHECK) / PART_OF_ONE_NETWORK;
        let mut networks = locked(&self.networks);
        let checks = networks.entry(network).or_insert_with(|| Network {
            places: 0,
            in_front: Arc::new(Semaphore::new(self.of_one_network)),
        });
        if checks.places >= most {
            return None;
        }
        checks.places += 1;
        let place = OfNetwork {
            network,
            networks: Arc::clone(&self.networks),
        };
        Some((place, Arc::clone(&checks.in_front)))
    }
}

impl Drop for OfNetwork {
    fn drop(&mut self) {
        let mut networks = locked(&self.networks);
        if let Some(checks) = networks.get_mut(&self.network) {
            checks.places = checks.places.saturating_sub(1);
            if checks.places == 0 {
                networks.remove(&self.network);
            }
        }
    }
}

fn locked(
    networks: &Mutex<HashMap<Bucket, Network>>,
) -> std::sync::MutexGuard<'_, HashMap<Bucket, Network>> {
    networks.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Option<Bucket> = Some([1; 16]);
    const OTHER: Option<Bucket> = Some([2; 16]);
    const CORES: usize = 2;

    #[tokio::test]
    async fn checks_beyond_the_queue_are_rejected_at_once() {
        let checks = Checks::new(CORES, CORES);
        let mut running = Vec::new();
        for _ in 0..CORES {
            running.push(checks.enter(None).await.unwrap());
        }
        let mut waiting: Vec<_> = (0..CORES * QUEUE_PER_CHECK)
            .map(|_| Box::pin(checks.enter(None)))
            .collect();
        for one in &mut waiting {
            assert!(futures_util::poll!(one).is_pending());
        }
        assert!(matches!(checks.enter(OTHER).await, Err(Limited::Busy)));
        running.pop();
        waiting.remove(0).await.unwrap();
        // A client that disconnects frees its place.
        waiting.clear();
        checks.enter(None).await.unwrap();
    }

    #[tokio::test]
    async fn one_network_fills_a_quarter_of_the_queue_and_waits_behind_others() {
        let checks = Checks::new(CORES, CORES);
        let mut running = Vec::new();
        for _ in 0..CORES {
            running.push(checks.enter(ONE).await.unwrap());
        }
        let most = CORES * (1 + QUEUE_PER_CHECK) / PART_OF_ONE_NETWORK;
        let mut waiting: Vec<_> = (CORES..most).map(|_| Box::pin(checks.enter(ONE))).collect();
        for one in &mut waiting {
            assert!(futures_util::poll!(one).is_pending());
        }
        assert!(matches!(checks.enter(ONE).await, Err(Limited::Busy)));
        // Another network's check comes before the earlier ones of the first network.
        let mut other = Box::pin(checks.enter(OTHER));
        assert!(futures_util::poll!(&mut other).is_pending());
        running.pop();
        let first = futures_util::poll!(&mut waiting[0]);
        assert!(first.is_pending(), "it waits behind the other network");
        let other = other.await.unwrap();
        drop(other);
        waiting.remove(0).await.unwrap();
        // The first network has a place again, and none of its checks is remembered when all are
        // gone.
        let mut another = Box::pin(checks.enter(ONE));
        assert!(futures_util::poll!(&mut another).is_pending());
        drop((another, waiting, running));
        assert!(locked(&checks.networks).is_empty());
    }
}
