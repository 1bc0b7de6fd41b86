//! The operator's bookkeeping: the sales funnel, statistics, the export of the ledger, and refunds.
//! Amounts are whole atomic units or exact decimals, never floating point.

pub mod balance;
pub mod csv;
pub mod decimal;
pub mod export;
pub mod funnel;
pub mod proof;
pub mod rates;
pub mod refunds;
pub mod stats;
pub mod totals;
