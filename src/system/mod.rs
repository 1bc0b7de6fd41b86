//! What the process gets from its machine: time, randomness, disk, memory, threads; and what it tells its operator: logs,
//! metrics, traces.

pub mod addresses;
pub(crate) mod breaker;
pub mod clock;
pub mod date_header;
pub mod disk;
pub mod kill;
pub mod logs;
pub mod metrics;
pub mod pages;
pub mod random;
pub mod traces;
pub mod workers;
