//! Values that are read when the metrics are shown.

use super::METRICS;

/// What the database says of its rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rows {
    /// Images that are served, and their bytes.
    pub live: i64,
    /// The bytes of these images.
    pub live_bytes: i64,
    /// Images that wait for the reaper.
    pub due: i64,
    /// How long the oldest of them has waited to be claimed, in seconds.
    pub reaper_lag: i64,
    /// When the reaper last ran, in seconds since 1970.
    pub reaper_ran: i64,
    /// Payments whose outcome is unknown.
    pub unknown: i64,
    /// Since when the oldest of them is, in seconds.
    pub unknown_age: i64,
    /// Payments whose goods are owed.
    pub owed: i64,
    /// Payments whose transfer is missing.
    pub missing: i64,
    /// Transfers without a payment.
    pub orphans: i64,
}

/// Shows what the database said at `now`, in seconds since 1970.
pub fn show_rows(rows: &Rows, now: i64) {
    if let Some(metrics) = METRICS.get() {
        let gauges = [
            (&metrics.live, rows.live),
            (&metrics.live_bytes, rows.live_bytes),
            (&metrics.due, rows.due),
            (&metrics.reaper_lag, rows.reaper_lag),
            (&metrics.reaper_ran, rows.reaper_ran),
            (&metrics.unknown, rows.unknown),
            (&metrics.unknown_age, rows.unknown_age),
            (&metrics.owed, rows.owed),
            (&metrics.missing, rows.missing),
            (&metrics.orphans, rows.orphans),
            (&metrics.sampled_at, now),
        ];
        for (gauge, value) in gauges {
            gauge.set(value);
        }
    }
}

/// Shows how many rows broke a rule of the ledger at `now`, in seconds since 1970.
pub fn show_ledger(violations: usize, now: i64) {
    if let Some(metrics) = METRICS.get() {
        metrics.violations.set(signed(violations));
        metrics.checked_at.set(now);
    }
}

/// What the process knows without asking anybody.
#[derive(Debug, Clone, Copy)]
pub struct Here {
    /// Images that are being checked.
    pub checks_running: usize,
    /// Images that wait for their check.
    pub checks_waiting: usize,
    /// The memory of the cache.
    pub cache_bytes: u64,
    /// The free space of the disk, and the least that must be free. 0: there is no such disk.
    pub free_space: u64,
    /// The least free space.
    pub min_free: u64,
    /// Whether sales are paused.
    pub is_paused: bool,
}

/// Shows what the process knows.
pub fn show_here(here: &Here) {
    if let Some(metrics) = METRICS.get() {
        metrics.checks_running.set(signed(here.checks_running));
        metrics.checks_waiting.set(signed(here.checks_waiting));
        metrics.cache_bytes.set(signed(here.cache_bytes));
        metrics.free_space.set(signed(here.free_space));
        metrics.min_free.set(signed(here.min_free));
        metrics.paused.set(i64::from(here.is_paused));
    }
}

fn signed(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
