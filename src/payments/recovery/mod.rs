//! What becomes of payments that no request works on: the reconciler resolves open ones, the auditor
//! checks settled ones, orphans are looked for, lost payments are recovered, and the ledger is
//! checked.

mod auditor;
pub mod check;
pub mod orphans;
mod reconcile;
pub mod recover;
mod resolve;

use alloy_primitives::Address;

use crate::db::auditor::Incoming;
use crate::evm::chain::IncomingTransfer;
use crate::pricing::networks::Network;
pub(super) use resolve::Money;

/// A transfer to `recipient` in the ledger's spelling.
fn incoming(network: &Network, recipient: Address, transfer: &IncomingTransfer) -> Incoming {
    Incoming {
        network: network.caip2,
        transaction: transfer.transaction.to_string(),
        log_index: transfer.log_index,
        payer: transfer.from.to_string(),
        pay_to: recipient.to_string(),
        amount: transfer.value.to_string(),
        block: transfer.block,
    }
}
