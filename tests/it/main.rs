//! The integration tests: stories through the front door, against the real server.

mod architecture;
mod serve;
mod support;
