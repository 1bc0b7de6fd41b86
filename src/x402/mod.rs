//! The x402 protocol as it is on the wire, in versions 1 and 2. No I/O, no decisions about money.
//!
//! [`evm`] has the authorizations and their signatures, [`wire`] the JSON documents, [`header`] the
//! base64 headers and what a payment header says, [`challenge`] the answer 402.

pub mod challenge;
pub mod evm;
pub mod header;
pub mod offer_receipt;
pub mod wire;
