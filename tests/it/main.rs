//! The integration tests: scenarios over HTTP and the command line, against the real server.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::let_underscore_must_use,
    clippy::too_many_lines,
    clippy::duration_suboptimal_units,
    reason = "a test fails by panicking, reads its own environment, and tells its story in one piece"
)]

mod api;
mod architecture;
mod audit;
mod backup;
mod buckets;
mod buyers;
mod challenges;
mod claims;
mod cleaning;
mod client;
mod coinbase;
mod containers;
mod contract_audit;
mod contract_db;
mod contract_limits;
mod contract_store;
mod edge;
mod faults;
mod histories;
mod hot;
mod idempotency;
mod images;
mod junk;
mod keys;
mod kill;
mod ledger_check;
mod limits;
mod links;
mod logs;
mod lost;
mod many;
mod mcp;
mod mcp_local;
mod moving;
#[cfg(feature = "test-postgres")]
mod moving_postgres;
mod nodes;
mod pay;
mod paying;
#[cfg(feature = "test-postgres")]
mod postgres;
#[cfg(feature = "test-postgres")]
mod postgres_faults;
mod private;
mod processes;
mod real_pictures;
mod receipts;
mod recover;
mod refusals;
mod renew;
#[cfg(feature = "test-postgres")]
mod replicas;
mod restore;
mod retention;
mod rotation;
#[cfg(feature = "test-s3")]
mod s3;
mod serve;
mod slow;
mod states;
mod store_copy;
mod strangers;
mod support;
mod tiers;
mod uploads;
mod version;
mod wallet;
mod wire;
mod wrong_clock;
