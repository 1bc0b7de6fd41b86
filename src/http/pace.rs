//! Limits how slowly a body may arrive, by a time limit, a minimum rate and a longest pause. All
//! three count only the time that the server waits for the client. actix has a deadline for the
//! head of a request only.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::dev;
use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, Sleep};

/// The minimum average rate of a body, in bytes per second. A slower body is cut off.
const LEAST_PER_SECOND: u128 = 4096;
/// The rate is checked after 1/6 of the time limit.
const GRACE_PART: u32 = 6;
/// The longest pause is 1/3 of the time limit, however much of the body has arrived: the body takes
/// memory meanwhile.
const SILENCE_PART: u32 = 3;
/// How often the rate of a slow body is checked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A body that ends with an error if it arrives too slowly. [`is_too_slow`] recognises the error.
pub(super) struct Paced {
    payload: dev::Payload,
    /// The longest time, in all, that the server waits for the client.
    deadline: Duration,
    /// The number of bytes received so far.
    received: u128,
    /// How long the server waited for the client before `since`.
    waited: Duration,
    /// The start of the present pause, if the server is waiting.
    since: Option<Instant>,
    /// Wakes the task for the next check.
    timer: Pin<Box<Sleep>>,
    /// Whether the body was cut off. Nothing follows then.
    is_cut: bool,
}

impl Paced {
    /// Limits `payload` to `deadline` in all.
    pub(super) fn new(payload: dev::Payload, deadline: Duration) -> Self {
        Self {
            payload,
            deadline,
            received: 0,
            waited: Duration::ZERO,
            since: None,
            timer: Box::pin(tokio::time::sleep(deadline)),
            is_cut: false,
        }
    }

    /// When to check the client again. `waited` is how long the server waited in all, and `silent`
    /// how long the present pause is. `None`: the client is too slow.
    fn next_look(&self, waited: Duration, silent: Duration) -> Option<Duration> {
        let patience = (self.deadline / SILENCE_PART).checked_sub(silent)?;
        if patience.is_zero() {
            return None;
        }
        let grace = self.deadline / GRACE_PART;
        if let Some(left) = grace.checked_sub(waited).filter(|left| !left.is_zero()) {
            return Some(left);
        }
        let left = self.deadline.checked_sub(waited)?;
        let least = LEAST_PER_SECOND * waited.as_millis() / 1000;
        (!left.is_zero() && self.received >= least).then_some(left.min(LOOK_EVERY))
    }

    /// Cuts the body off, and returns the error for it.
    fn cut(&mut self) -> PayloadError {
        self.is_cut = true;
        PayloadError::Io(std::io::ErrorKind::TimedOut.into())
    }
}

impl Stream for Paced {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.is_cut {
            return Poll::Ready(None);
        }
        if let Poll::Ready(item) = Pin::new(&mut this.payload).poll_next(context) {
            this.waited += this.since.take().map_or(Duration::ZERO, |at| at.elapsed());
            if let Some(Ok(chunk)) = &item {
                this.received += u128::try_from(chunk.len()).unwrap_or(0);
                if this.waited >= this.deadline {
                    return Poll::Ready(Some(Err(this.cut())));
                }
            }
            return Poll::Ready(item);
        }
        let since = *this.since.get_or_insert_with(Instant::now);
        loop {
            let silent = since.elapsed();
            let Some(next) = this.next_look(this.waited + silent, silent) else {
                return Poll::Ready(Some(Err(this.cut())));
            };
            this.timer.as_mut().reset(Instant::now() + next);
            if this.timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

/// Whether a body was cut off because it arrived too slowly.
pub(super) fn is_too_slow(error: &PayloadError) -> bool {
    matches!(error, PayloadError::Io(cause) if cause.kind() == std::io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(bytes: u128) -> Paced {
        let mut body = Paced::new(dev::Payload::None, Duration::from_mins(1));
        body.received = bytes;
        body
    }

    #[tokio::test]
    async fn the_rate_applies_after_a_grace_period_the_deadline_always() {
        let look = |bytes: u128, seconds: u64| {
            let waited = Duration::from_secs(seconds);
            let next = received(bytes).next_look(waited, Duration::from_secs(1));
            next.map(|next| next.as_secs())
        };
        assert_eq!(look(0, 0), Some(10));
        assert_eq!(look(0, 9), Some(1));
        assert_eq!(look(10, 10), None);
        assert_eq!(look(40_959, 10), None);
        assert_eq!(look(40_960, 10), Some(1));
        assert_eq!(look(1 << 40, 59), Some(1));
        assert_eq!(look(1 << 40, 60), None);
    }

    #[tokio::test]
    async fn a_silent_client_is_cut_off_before_the_deadline() {
        let look = |silent: u64| {
            let silent = Duration::from_secs(silent);
            received(1 << 40).next_look(Duration::from_secs(30), silent)
        };
        assert_eq!(look(19), Some(Duration::from_secs(1)));
        assert_eq!(look(20), None);
        assert_eq!(look(21), None);
    }
}
