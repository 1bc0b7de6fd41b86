//! Why a request with a payment receives no goods. The messages are sent to the client.

use super::{BadKey, NotRenewable};
use crate::db::DbError;
use crate::facilitator::refusals;
use crate::images::UploadError;
use crate::imports::ImportError;
use crate::limits::Limited;

/// Why a request with a payment received no goods.
#[derive(Debug, thiserror::Error)]
pub enum PayError {
    /// The payment does not match the offer, or the facilitator rejected it. Nothing was charged.
    #[error("The payment was not accepted ({reason}). {}", if detail.is_empty() { refusals::meaning(reason) } else { detail })]
    Invalid {
        /// The reason, as the x402 protocol spells it.
        reason: String,
        /// Sentences with the received value, the limit, and what to sign instead; may be empty.
        detail: String,
    },
    /// Settling was tried. It moved no money and never will.
    #[error(
        "The payment moved no money and never will ({reason}). {}",
        refusals::meaning(reason)
    )]
    Failed {
        /// The reason, as the x402 protocol spells it.
        reason: String,
    },
    /// The ledger knows the payment, and the request has no proof that it comes from the payer or
    /// asks for another product.
    #[error(
        "The server knows this payment, and the request does not prove that it comes from the payer, or asks for something else. Repeat the request that first carried the payment, at the same route, with its idempotency key or the ticket of its challenge. Without them, sign in with the payer's wallet at POST /api/claims, which returns what it paid for."
    )]
    Known {
        /// Whether the payment moved money to us; `None`: unknown.
        charged: Option<bool>,
    },
    /// Another request is working on the same payment.
    #[error(
        "Another request with this payment is being processed. Repeat this request; do not pay again."
    )]
    InProgress,
    /// The payment or its idempotency key belongs to a request for something else.
    #[error(
        "This payment or its idempotency key belongs to a request with other content. Repeat exactly that request, or send a new payment with a new key."
    )]
    Conflict {
        /// Whether this payment moved money to us; `None`: unknown.
        charged: Option<bool>,
    },
    /// An idempotency key is malformed. Nothing was charged.
    #[error("{0} Nothing was charged.")]
    BadKey(#[from] BadKey),
    /// Settle was called, and it is unknown whether the money moved.
    #[error(
        "It is not known yet whether the payment moved money. Repeat the same request; do not pay again."
    )]
    Pending,
    /// A service that has to judge the payment did not answer before any money moved.
    #[error(
        "{0} did not answer, so the payment could not be checked. Nothing was charged. Repeat the same request."
    )]
    Silent(Silent),
    /// Sales are paused until earlier payments are resolved. Nothing was charged.
    #[error(
        "Sales are paused, because the outcome of too many earlier payments is unknown. Nothing was charged. Repeat the same request later."
    )]
    Paused,
    /// The client is over a rate limit, or the server is at capacity. Nothing was charged.
    #[error(transparent)]
    Limited(#[from] Limited),
    /// The image to renew does not exist, or not any more. Nothing was charged.
    #[error(
        "There is no such image to renew: it never existed, has expired or was deleted. Nothing was charged."
    )]
    NoImage,
    /// The image can't be renewed. Nothing was charged.
    #[error(transparent)]
    NotRenewable(#[from] NotRenewable),
    /// The image that the payment bought has expired or was deleted.
    #[error(
        "The image that this payment bought has expired or was deleted. Pay again for a new upload."
    )]
    Gone,
    /// The goods were owed, and the operator has made up for them otherwise, such as by a refund.
    #[error(
        "The operator has compensated the payer for this payment, by a refund or otherwise. The payment buys nothing any more. Ask the operator if something is missing."
    )]
    Resolved,
    /// The operator voided the payment, because the chain does not show its transfer.
    #[error(
        "The operator voided this payment, because the chain does not show its transfer. The payment buys nothing any more. {}",
        after_void(*charged)
    )]
    Voided {
        /// Whether the payment moved money to us, as far as the chain shows; `None`: unknown.
        charged: Option<bool>,
    },
    /// The upload was rejected. Nothing was charged.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The database failed. Whether money moved is read from it later.
    #[error(
        "The database did not answer, so the payment could not be recorded. Repeat the same request; do not pay again."
    )]
    Database(#[from] DbError),
}

impl From<ImportError> for PayError {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Upload(error) => Self::Upload(error),
            ImportError::Limited(error) => Self::Limited(error),
        }
    }
}

/// What the payer of a voided payment should do.
const fn after_void(charged: Option<bool>) -> &'static str {
    match charged {
        Some(true) => "It moved money after all: ask the operator for a refund.",
        Some(false) => "It never moved money and can't any more. Send a new payment.",
        None => "It may still move money: ask the operator, and do not pay again yet.",
    }
}

/// An external service that did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Silent {
    /// The facilitator, which was asked to verify.
    #[error("The facilitator")]
    Facilitator,
    /// The network's node (JSON-RPC).
    #[error("The network's node")]
    Node,
}

impl PayError {
    /// Whether the message says that nothing was charged, although the payment may be known to the
    /// ledger.
    pub(super) const fn denies_a_charge(&self) -> bool {
        matches!(
            self,
            Self::Invalid { .. }
                | Self::Conflict { .. }
                | Self::BadKey(_)
                | Self::Upload(_)
                | Self::Limited(_)
                | Self::NoImage
                | Self::NotRenewable(_)
                | Self::Silent(_)
                | Self::Paused
        )
    }
}
