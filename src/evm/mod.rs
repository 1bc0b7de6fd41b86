//! Payments on EVM chains: the authorizations of the scheme `exact` (EIP-3009), the signatures of
//! wallets, and the chain through its nodes. What another kind of chain needs fits beside this
//! folder.

pub mod chain;
pub mod exact;
pub mod transfer;
pub mod undeployed;
