//! Why a presentation gets no goods, as its client hears it.

use super::{NotRenewable, refusals};
use crate::db::DbError;
use crate::images::UploadError;
use crate::limits::Limited;

/// Why a presentation got no goods.
#[derive(Debug, thiserror::Error)]
pub enum PayError {
    /// It doesn't fit the offer, or the facilitator refused it. Nothing was charged.
    #[error("The payment was not accepted ({reason}). {}", if detail.is_empty() { refusals::explain(reason) } else { detail })]
    Invalid {
        /// The protocol's code.
        reason: String,
        /// Sentences with the value that was received, the limit, and what to sign instead. They may be empty.
        detail: String,
    },
    /// It was tried and moved no money, and never will.
    #[error(
        "The payment moved no money and never will ({reason}). {}",
        refusals::explain(reason)
    )]
    Failed {
        /// The protocol's code.
        reason: String,
    },
    /// It is known, and this request doesn't prove to come from the payer, or asks elsewhere.
    #[error(
        "This payment is already known. Repeat the request that first carried it, at the same route, with its payment id, ticket or Idempotency-Key."
    )]
    Known {
        /// Whether it moved money to us.
        charged: Option<bool>,
    },
    /// It moved money to us, and the ledger has lost what it bought.
    #[error(
        "This payment moved money to us, and what it bought was lost here. Buy a token or an upload at exactly the same amount, on the same network and with the same wallet, without this payment: that is not charged. Anything else is, a renewal as well."
    )]
    Credited,
    /// Another request with the same payment is being worked on.
    #[error(
        "Another request with this payment is under way. Repeat this request; do not pay again."
    )]
    InProgress,
    /// The payment or its id was bound to another request.
    #[error(
        "This payment, or its id, already belongs to a request with other content. Send exactly that request, or pay for a new one."
    )]
    Conflict {
        /// Whether this payment moved money to us.
        charged: Option<bool>,
    },
    /// Settle was called, and nobody knows yet whether the money moved.
    #[error(
        "Whether the payment moved money is not known yet. Repeat the same request; do not pay again."
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
    /// It has to come again later. Nothing was charged.
    #[error(transparent)]
    Limited(#[from] Limited),
    /// The image that it was to renew isn't there, or not any more. Nothing was charged.
    #[error("There is no such image to renew, or not any more; nothing was charged.")]
    NoImage,
    /// The image gets no more time. Nothing was charged.
    #[error(transparent)]
    NotRenewable(#[from] NotRenewable),
    /// Its goods were delivered, and have expired or were deleted.
    #[error("The image that this payment bought is gone.")]
    Gone,
    /// Its goods were owed, and the operator has settled that otherwise: both would be one too many.
    #[error(
        "The operator has already made up for what this payment bought, by a refund or otherwise; it buys nothing any more."
    )]
    Resolved,
    /// The upload is refused; nothing was charged.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The database failed. Whether money moved is read from it later.
    #[error(
        "The payment could not be recorded just now. Repeat the same request; do not pay again."
    )]
    Database(#[from] DbError),
}

/// A service outside that did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Silent {
    /// The facilitator, asked to verify.
    #[error("The facilitator")]
    Facilitator,
    /// The network's node (JSON-RPC).
    #[error("The network's node")]
    Node,
}

impl PayError {
    /// Whether it says that nothing was charged, although the payment may be known.
    pub(super) const fn denies_a_charge(&self) -> bool {
        matches!(
            self,
            Self::Invalid { .. }
                | Self::Conflict { .. }
                | Self::Upload(_)
                | Self::Limited(_)
                | Self::NoImage
                | Self::NotRenewable(_)
                | Self::Silent(_)
                | Self::Paused
        )
    }
}
