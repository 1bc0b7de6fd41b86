//! The x402 protocol on the wire, versions 1 and 2 (docs/x402.md). No I/O, and no decisions about
//! money.
//!
//! - [`wire`]: the JSON documents
//! - [`header`]: the base64 headers, and the payments that they carry
//! - [`challenge`]: the challenge of a 402 response
//! - [`offer_receipt`]: signed offers and receipts
//! - [`siwx`]: signing in with a wallet

pub mod challenge;
pub mod header;
pub mod offer_receipt;
pub mod siwx;
pub mod wire;
