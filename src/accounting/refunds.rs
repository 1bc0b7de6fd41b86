//! Refunds: the operator makes the transfer with a wallet of their own, and the chain proves it. The
//! server holds no keys, so it never moves money.

use alloy_primitives::{Address, B256, Bytes, U256};

use crate::db::refunds::{self, Closing, RefundTransfer};
use crate::db::{Db, DbError};
use crate::evm::chain::{Chain, ChainError, Mined, TokenTransfer};
use crate::evm::transfer;
use crate::model::payment::Payment;
use crate::pricing::networks::Network;
use crate::system::clock::Timestamp;

/// The transfer that makes a refund.
#[derive(Debug, Clone)]
pub struct Instruction {
    /// The network.
    pub network: &'static Network,
    /// The recipient: the payer.
    pub to: Address,
    /// The amount in atomic units: that of the payment.
    pub value: U256,
    /// The input of the call to the token contract.
    pub calldata: Bytes,
    /// The same transfer as a link (EIP-681).
    pub link: String,
}

impl Instruction {
    /// The transfer that refunds a payment.
    pub fn of(payment: &Payment) -> Self {
        let (network, to) = (payment.network(), payment.authorization.from);
        let value = payment.terms.offer.amount.as_u256();
        Self {
            network,
            to,
            value,
            calldata: transfer::calldata(to, value),
            link: transfer::link(network, to, value),
        }
    }
}

/// What the chain says about a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The chain shows the transfer, and the ledger was asked to record it.
    Shown(Closing),
    /// The chain doesn't show the transfer of the payment itself.
    PaymentMissing,
    /// The chain doesn't show the transaction, or it failed.
    NotMined,
    /// The transaction is not in a safe block yet.
    NotSafe {
        /// The height of its block.
        block: u64,
        /// The height of the newest safe block.
        safe: u64,
    },
    /// The transaction has no transfer to the payer of at least the amount.
    NoTransfer,
    /// Its transfers to the payer are older than the payment.
    TooEarly,
    /// Its transfers to the payer have made other refunds, or are payments.
    Used,
}

/// Why a refund could not be proved.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The node gave no answer.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Proves by the chain that `transaction` refunds a payment, and records it. Anybody may have made
/// the transfer. It must be in a safe block, later than the payment's own transfer, of at least the
/// amount, and have made no other refund. `actor` is named in the operator's log.
///
/// # Errors
/// [`ProofError`].
pub async fn prove(
    db: &Db,
    chain: &dyn Chain,
    payment: &Payment,
    transaction: B256,
    actor: &str,
    now: Timestamp,
) -> Result<Proof, ProofError> {
    let Some(paid) = place_of(chain, payment).await? else {
        return Ok(Proof::PaymentMissing);
    };
    let Some(mined) = chain.transfers_in(transaction).await? else {
        return Ok(Proof::NotMined);
    };
    let safe = chain.safe().await?.number;
    if mined.block > safe {
        return Ok(Proof::NotSafe {
            block: mined.block,
            safe,
        });
    }
    let mut refusal = Proof::NoTransfer;
    for found in mined
        .transfers
        .iter()
        .filter(|found| repays(payment, found))
    {
        if (mined.block, found.log_index) <= paid {
            refusal = Proof::TooEarly;
            continue;
        }
        let made = RefundTransfer {
            network: payment.network().caip2,
            transaction: transaction.to_string(),
            log_index: found.log_index,
        };
        if refunds::is_used(db, &made).await? {
            refusal = Proof::Used;
            continue;
        }
        match refunds::close(db, &payment.id, &made, actor, now).await? {
            Closing::Used => refusal = Proof::Used,
            closing => return Ok(Proof::Shown(closing)),
        }
    }
    Ok(refusal)
}

/// Whether a transfer repays the payer. One from the payer to the payer moves no money.
fn repays(payment: &Payment, transfer: &TokenTransfer) -> bool {
    let payer = payment.authorization.from;
    transfer.to == payer
        && transfer.from != payer
        && transfer.value >= payment.terms.offer.amount.as_u256()
}

/// The block and the log of a payment's own transfer; `None`: the chain doesn't show it.
async fn place_of(chain: &dyn Chain, payment: &Payment) -> Result<Option<(u64, u64)>, ChainError> {
    let Some(transaction) = payment.transaction else {
        return Ok(None);
    };
    let mined = chain.transfers_in(transaction).await?;
    Ok(mined.and_then(|Mined { block, transfers }| {
        let paid = transfers.iter().find(|transfer| {
            transfer.from == payment.authorization.from
                && transfer.to == payment.terms.offer.pay_to
                && transfer.value == payment.terms.offer.amount.as_u256()
        })?;
        Some((block, paid.log_index))
    }))
}

/// Whether the chain shows a transfer of this index in a transaction that repays the payer.
///
/// # Errors
/// [`ChainError`].
pub async fn is_shown(
    chain: &dyn Chain,
    payer: Address,
    value: U256,
    transaction: B256,
    log_index: u64,
) -> Result<bool, ChainError> {
    let mined = chain.transfers_in(transaction).await?;
    Ok(mined.is_some_and(|mined| {
        mined
            .transfers
            .iter()
            .any(|found| found.log_index == log_index && found.to == payer && found.value >= value)
    }))
}
