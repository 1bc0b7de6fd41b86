//! The integration tests: stories through the front door, against the real server.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and reads its own environment"
)]

mod architecture;
mod contract_db;
mod faults;
mod images;
mod junk;
mod kill;
mod ledger_check;
mod logs;
mod pay;
mod serve;
mod states;
mod strangers;
mod support;
mod uploads;
mod wire;
