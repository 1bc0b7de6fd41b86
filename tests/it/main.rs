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

mod accounting;
mod admin_log;
mod api;
mod architecture;
mod audit;
mod backup;
mod blocks;
mod buckets;
mod buyers;
mod by_size;
mod cdn;
mod challenges;
mod claims;
mod cleaning;
mod client;
mod coinbase;
mod console;
mod containers;
mod contract_audit;
mod contract_db;
mod contract_limits;
mod contract_refunds;
mod contract_store;
mod edge;
mod error_pages;
mod faults;
mod histories;
mod holds;
mod hot;
mod idempotency;
mod image_pages;
mod images;
mod imports;
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
mod metrics;
mod moving;
#[cfg(feature = "test-postgres")]
mod moving_postgres;
mod nodes;
mod oembed;
mod pages;
mod pay;
mod paying;
#[cfg(feature = "test-postgres")]
mod postgres;
#[cfg(feature = "test-postgres")]
mod postgres_faults;
mod privacy;
mod private;
mod processes;
mod promises;
mod proof;
mod real_pictures;
mod receipts;
mod recover;
mod refresh;
mod refusals;
mod removal;
mod renew;
#[cfg(feature = "test-postgres")]
mod replicas;
mod reports;
mod restore;
mod retention;
mod rotation;
#[cfg(feature = "test-s3")]
mod s3;
mod scanner;
mod serve;
mod slow;
mod states;
mod stopping;
mod store_copy;
mod strangers;
mod support;
mod texts;
mod tiers;
mod uploads;
mod variants;
mod version;
mod wallet;
mod wire;
mod wrong_clock;
