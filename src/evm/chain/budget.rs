//! Paces the calls to one node, so that sales come first and a node that limits its callers is asked
//! as fast as it allows.
//!
//! The rate is unlimited until the node refuses. From then on it is nine tenths of what the node
//! accepted within the last second, grows while nothing is refused, and is unlimited again after a
//! minute without a refusal.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Priority;

/// How long calls that the node accepted count for its rate.
const SECOND: Duration = Duration::from_secs(1);
/// Refusals within this time are one: they answer calls that were sent at the same rate.
const ONE_REFUSAL: Duration = Duration::from_millis(250);
/// How long the node must not have refused a call before background work goes on.
const BACKGROUND_YIELDS: Duration = Duration::from_secs(2);
/// Without a refusal for this long, the rate is unlimited again.
const FORGOTTEN: Duration = Duration::from_mins(1);
/// The longest pause that a node may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The thousandths in which calls are counted.
const ONE: u64 = 1000;

/// The calls that may be sent to a node.
#[derive(Debug)]
pub(super) struct Budget {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// Callers that wait, the most urgent first.
    waiting: BTreeSet<(Priority, u64)>,
    next: u64,
    in_flight: u32,
    /// Calls a second; `None`: no limit is known.
    rate: Option<u64>,
    /// Thousandths of calls that may be sent at once.
    allowed: u64,
    counted_at: Instant,
    grown_at: Instant,
    /// When the node accepted calls, within the last second.
    accepted: VecDeque<(Instant, u32)>,
    refused_at: Option<Instant>,
    closed_until: Option<Instant>,
}

/// Calls in flight. Dropping it makes room for others.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    budget: &'a Budget,
    calls: u32,
}

/// A place in the queue. Dropping it leaves the queue.
struct Place<'a> {
    budget: &'a Budget,
    key: (Priority, u64),
}

impl Budget {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            state: Mutex::new(State {
                waiting: BTreeSet::new(),
                next: 0,
                in_flight: 0,
                rate: None,
                allowed: 0,
                counted_at: now,
                grown_at: now,
                accepted: VecDeque::new(),
                refused_at: None,
                closed_until: None,
            }),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until this many calls may be sent. `None`: not before `until`.
    pub(super) async fn enter(
        &self,
        priority: Priority,
        calls: u32,
        until: Instant,
    ) -> Option<Permit<'_>> {
        let place = self.queue(priority);
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let now = Instant::now();
            let admission = self.state().admit(place.key, calls, now);
            let Err(wait) = admission else {
                return Some(Permit {
                    budget: self,
                    calls,
                });
            };
            let left = until.checked_duration_since(now)?;
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(wait.min(left)) => {}
            }
        }
    }

    fn queue(&self, priority: Priority) -> Place<'_> {
        let mut state = self.state();
        state.next = state.next.wrapping_add(1);
        let key = (priority, state.next);
        state.waiting.insert(key);
        Place { budget: self, key }
    }

    /// Notes calls that the node answered.
    pub(super) fn note_accepted(&self, calls: u32) {
        self.state().accept(calls, Instant::now());
    }

    /// Notes that the node refused calls because there were too many.
    pub(super) fn note_refused(&self, wait: Option<Duration>) {
        self.state().refuse(wait, Instant::now());
    }
}

impl State {
    /// Takes calls from the budget, or says how long to wait at most.
    fn admit(&mut self, key: (Priority, u64), calls: u32, now: Instant) -> Result<(), Duration> {
        if self.waiting.first() != Some(&key) {
            return Err(SECOND);
        }
        if let Some(left) = self
            .closed_until
            .and_then(|end| end.checked_duration_since(now))
            && !left.is_zero()
        {
            return Err(left);
        }
        let background = key.0 >= Priority::Audit;
        let since_refusal = self.refused_at.map(|at| now.duration_since(at));
        if let Some(since) = since_refusal
            && background
            && since < BACKGROUND_YIELDS
        {
            return Err(BACKGROUND_YIELDS.saturating_sub(since));
        }
        // A slow node holds calls up, and then background work waits for sales.
        let most = match key.0 {
            Priority::Sale => 96,
            Priority::Known => 48,
            Priority::Audit => 8,
            Priority::Orphans => 4,
        };
        if self.in_flight > 0 && self.in_flight.saturating_add(calls) > most {
            return Err(SECOND);
        }
        let needed = u64::from(calls) * ONE;
        if let Some(rate) = self.grown_rate(now) {
            let elapsed = now.duration_since(self.counted_at).as_millis();
            let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
            // A quarter of a second's calls may be sent at once.
            let most = (rate * ONE / 4).max(needed);
            let allowed = self.allowed.saturating_add(elapsed.saturating_mul(rate));
            self.counted_at = now;
            self.allowed = allowed.min(most);
            if let Some(missing) = needed.checked_sub(self.allowed).filter(|left| *left > 0) {
                return Err(Duration::from_millis(missing / rate + 1));
            }
            self.allowed -= needed;
        }
        self.in_flight = self.in_flight.saturating_add(calls);
        Ok(())
    }

    /// The rate, after it has grown for the time without a refusal.
    fn grown_rate(&mut self, now: Instant) -> Option<u64> {
        let rate = self.rate?;
        let since = now.duration_since(self.refused_at?);
        if since >= FORGOTTEN {
            self.rate = None;
        } else if since >= SECOND && now.duration_since(self.grown_at) >= SECOND {
            self.grown_at = now;
            self.rate = Some(rate + (rate / 8).max(2));
        }
        self.rate
    }

    fn accept(&mut self, calls: u32, now: Instant) {
        while self
            .accepted
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at) > SECOND)
        {
            self.accepted.pop_front();
        }
        if self.accepted.len() < 10_000 {
            self.accepted.push_back((now, calls));
        }
    }

    fn refuse(&mut self, wait: Option<Duration>, now: Instant) {
        if let Some(wait) = wait {
            self.closed_until = Some(now + wait.min(LONGEST_PAUSE));
        }
        let last = self.refused_at.replace(now);
        if last.is_some_and(|last| now.duration_since(last) < ONE_REFUSAL) {
            return;
        }
        let recent = self.accepted.iter();
        let recent = recent.filter(|(at, _)| now.duration_since(*at) <= SECOND);
        let accepted: u64 = recent.map(|(_, calls)| u64::from(*calls)).sum();
        let most = self.rate.map_or(accepted, |rate| accepted.min(rate));
        self.rate = Some((most * 9 / 10).max(2));
        self.allowed = 0;
        self.counted_at = now;
        self.grown_at = now;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        state.in_flight = state.in_flight.saturating_sub(self.calls);
        drop(state);
        self.budget.changed.notify_waiters();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.budget.state().waiting.remove(&self.key);
        self.budget.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(state: &mut State, priority: Priority) -> (Priority, u64) {
        state.next += 1;
        let key = (priority, state.next);
        state.waiting.insert(key);
        key
    }

    #[test]
    fn sales_go_first_and_background_waits_after_a_refusal() {
        let budget = Budget::new();
        let mut state = budget.state();
        let now = Instant::now();
        let audit = waiting(&mut state, Priority::Audit);
        let sale = waiting(&mut state, Priority::Sale);
        assert!(state.admit(audit, 1, now).is_err());
        assert_eq!(state.admit(sale, 1, now), Ok(()));
        state.waiting.remove(&sale);
        state.in_flight = 0;
        assert_eq!(state.admit(audit, 1, now), Ok(()));
        state.refuse(None, now);
        let later = now + Duration::from_secs(1);
        assert!(state.admit(audit, 1, later).is_err());
        assert_eq!(state.admit(audit, 1, later + SECOND), Ok(()));
    }

    #[test]
    fn the_rate_follows_what_the_node_accepts() {
        let budget = Budget::new();
        let mut state = budget.state();
        let start = Instant::now();
        for call in 0..40 {
            state.accept(1, start + Duration::from_millis(call * 25));
        }
        let now = start + Duration::from_secs(1);
        state.refuse(None, now);
        assert_eq!(state.rate, Some(36));
        // The refusals of calls that were on their way don't count again.
        state.refuse(None, now + Duration::from_millis(100));
        assert_eq!(state.rate, Some(36));
        let sale = waiting(&mut state, Priority::Sale);
        assert!(state.admit(sale, 3, now).is_err());
        assert_eq!(
            state.admit(sale, 3, now + Duration::from_millis(100)),
            Ok(())
        );
        assert_eq!(state.grown_rate(now + Duration::from_secs(2)), Some(40));
        assert_eq!(state.grown_rate(now + Duration::from_mins(2)), None);
    }

    #[test]
    fn a_node_that_names_a_pause_is_left_alone() {
        let budget = Budget::new();
        let mut state = budget.state();
        let now = Instant::now();
        let sale = waiting(&mut state, Priority::Sale);
        state.refuse(Some(Duration::from_secs(3)), now);
        assert!(state.admit(sale, 1, now + Duration::from_secs(2)).is_err());
        assert_eq!(state.admit(sale, 1, now + Duration::from_secs(4)), Ok(()));
    }
}
