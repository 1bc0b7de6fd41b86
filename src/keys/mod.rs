//! Keys of the deployment: the master keys, from which tokens and proofs are derived, and the keys
//! that sign receipts.

pub mod jws;
pub mod secrets;
pub mod signing;
