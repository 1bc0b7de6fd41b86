//! A circuit breaker: a service that is down is called once a second, and not for every request.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// After this many calls in a row without an answer, the service counts as down.
const FAILURES: u32 = 10;
/// The interval of calls while the service is down.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Whether the service counts as down, and when it was called last.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    next_probe: Option<Duration>,
}

impl Breaker {
    /// Whether a call may be made at `now`, an uptime. While the service is down, one call per
    /// [`PROBE_EVERY`] may.
    pub(crate) fn may_call(&self, now: Duration) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.next_probe {
            None => true,
            Some(next) if now >= next => {
                state.next_probe = Some(now + PROBE_EVERY);
                true
            }
            Some(_) => false,
        }
    }

    /// Records an answer of any kind: the service is up.
    pub(crate) fn note_answer(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State::default();
    }

    /// Records a call without an answer. `true`: the service counts as down from this call on.
    pub(crate) fn note_silence(&self, now: Duration) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        if state.failures < FAILURES {
            return false;
        }
        let opened = state.next_probe.is_none();
        state.next_probe = Some(now + PROBE_EVERY);
        opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_ten_calls_without_an_answer_one_call_a_second_is_made() {
        let breaker = Breaker::default();
        let start = Duration::from_hours(1);
        let after = |millis| start + Duration::from_millis(millis);
        for _ in 0..9 {
            assert!(!breaker.note_silence(start));
        }
        breaker.note_answer();
        for _ in 0..9 {
            assert!(!breaker.note_silence(start) && breaker.may_call(start));
        }
        assert!(breaker.note_silence(start), "the tenth in a row");
        assert!(!breaker.may_call(after(999)));
        assert!(breaker.may_call(after(1000)), "the probe");
        assert!(!breaker.may_call(after(1001)), "one alone");
        assert!(!breaker.note_silence(after(1500)), "it was down already");
        assert!(!breaker.may_call(after(2000)));
        assert!(breaker.may_call(after(2500)));
        breaker.note_answer();
        assert!(breaker.may_call(after(2501)) && breaker.may_call(after(2502)));
    }
}
