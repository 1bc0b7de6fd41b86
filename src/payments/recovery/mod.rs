//! What becomes of payments that no request works on: the reconciler resolves open ones, the auditor
//! checks settled ones, orphans are looked for, lost payments are recovered, and the ledger is
//! checked.

mod auditor;
pub mod check;
pub mod orphans;
mod reconcile;
pub mod recover;
mod resolve;

pub(super) use resolve::Money;
