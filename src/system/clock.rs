//! Time. This is the only module that asks the operating system for it.
//!
//! Code that decides by time takes a [`Clock`], so that tests can set it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// An instant in UTC as milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The instant `seconds` seconds after the Unix epoch; saturates.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This instant moved by `duration` into the future; saturates.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// This instant moved by `duration` into the past; saturates.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// Parses RFC 3339, to the millisecond. `None`: the text is not a valid time.
    pub fn parse(text: &str) -> Option<Self> {
        let instant: jiff::Timestamp = text.parse().ok()?;
        Some(Self(instant.as_millisecond()))
    }

    /// The time from `earlier` to this instant; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The HTTP date (RFC 9110, section 5.6.7) of this instant, rounded down to the second.
    pub fn http_date(self) -> String {
        let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
        // A date before year 0 or after 9999 does not occur.
        printer
            .timestamp_to_rfc9110_string(&self.zoned())
            .unwrap_or_default()
    }

    /// Parses an HTTP date. `None`: the text is not one.
    pub fn parse_http_date(text: &str) -> Option<Self> {
        let parsed = jiff::fmt::rfc2822::parse(text).ok()?;
        Some(Self(parsed.timestamp().as_millisecond()))
    }

    /// The distance to `other`, whichever is earlier.
    pub fn distance(self, other: Self) -> Duration {
        self.since(other).max(other.since(self))
    }

    fn zoned(self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::MAX)
    }
}

/// RFC 3339 in UTC with milliseconds, as the API promises.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.zoned())
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A source of time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present instant.
    fn now(&self) -> Timestamp;

    /// Time since an unspecified instant in the past, unaffected by changes to the wall clock. It
    /// includes time in which the machine slept, where the system can tell.
    fn uptime(&self) -> Duration;
}

/// The operating system's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_millisecond())
    }

    // `Instant` stands still while a Linux machine sleeps: after a weekend, a laptop's wall clock
    // would look as if it had been set.
    #[cfg(target_os = "linux")]
    fn uptime(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0)).saturating_add(
            Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0)),
        )
    }

    #[cfg(not(target_os = "linux"))]
    fn uptime(&self) -> Duration {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }
}

/// A clock that stands still until it is advanced; for tests.
#[derive(Debug, Clone)]
pub struct ManualClock {
    now: Arc<AtomicI64>,
    uptime: Arc<AtomicI64>,
}

impl ManualClock {
    /// Creates a clock that shows `start`.
    pub fn at(start: Timestamp) -> Self {
        Self {
            now: Arc::new(AtomicI64::new(start.millis())),
            uptime: Arc::new(AtomicI64::new(0)),
        }
    }

    /// Advances the wall clock and the uptime.
    pub fn advance(&self, by: Duration) {
        self.jump(by);
        self.uptime.fetch_add(millis(by), Ordering::SeqCst);
    }

    /// Sets the wall clock back, but not the uptime.
    pub fn set_back(&self, by: Duration) {
        self.now.fetch_sub(millis(by), Ordering::SeqCst);
    }

    /// Sets the wall clock forward, but not the uptime.
    pub fn jump(&self, by: Duration) {
        self.now.fetch_add(millis(by), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    fn uptime(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.uptime.load(Ordering::SeqCst)).unwrap_or(0))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_as_rfc_3339_with_milliseconds() {
        assert_eq!(
            Timestamp::from_millis(1_795_860_000_000).to_string(),
            "2026-11-28T10:00:00.000Z"
        );
        assert_eq!(
            Timestamp::from_millis(1_795_860_000_007).to_string(),
            "2026-11-28T10:00:00.007Z"
        );
    }

    #[test]
    fn setting_the_wall_clock_leaves_the_uptime_unchanged() {
        let clock = ManualClock::at(Timestamp::from_seconds(5));
        clock.advance(Duration::from_secs(2));
        clock.jump(Duration::from_secs(3));
        assert_eq!(clock.now(), Timestamp::from_seconds(10));
        assert_eq!(clock.uptime(), Duration::from_secs(2));
        let before = SystemClock.uptime();
        assert!(SystemClock.uptime() >= before && before > Duration::ZERO);
    }

    #[test]
    fn an_http_date_has_the_fixed_form_of_rfc_9110() {
        assert_eq!(
            Timestamp::from_millis(1_795_860_000_999).http_date(),
            "Sat, 28 Nov 2026 10:00:00 GMT"
        );
        let parse = Timestamp::parse_http_date;
        let instant = Timestamp::from_seconds(1_795_860_000);
        assert_eq!(parse("Sat, 28 Nov 2026 10:00:00 GMT"), Some(instant));
        for text in [
            "",
            "now",
            "2026-11-28T10:00:00Z",
            "28 Nov 2026",
            "Sat, 28 Nov 2026",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
