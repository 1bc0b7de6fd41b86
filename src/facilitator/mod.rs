//! The interface to a facilitator, the service that verifies payments and moves the money.

use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes};

use crate::evm::exact;
use crate::system::clock::Timestamp;

pub mod coinbase;
pub mod http;
pub mod refusals;

/// The outcome of a verify call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyOutcome {
    /// The facilitator would settle the payment.
    Valid {
        /// The payer's address, if the answer names it.
        payer: Option<Address>,
    },
    /// The facilitator would not settle the payment. No money moved.
    Invalid {
        /// The facilitator's reason.
        reason: String,
    },
    /// There was no usable answer. No money moved.
    NoAnswer {
        /// What happened instead, for the log.
        why: String,
    },
}

/// The outcome of a settle call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleOutcome {
    /// The money moved in this transaction.
    Success {
        /// The hash of the transaction.
        transaction: B256,
    },
    /// The facilitator refused by a code that proves that no money moved, and named no transaction.
    Refused {
        /// The facilitator's reason.
        reason: String,
    },
    /// Anything else: the money may have moved.
    Unclear {
        /// What happened, for the log.
        why: String,
        /// The facilitator's reason, if it refused: it says that it won't bring the money any more,
        /// which only the chain can confirm. It may be the payer's doing alone.
        refusal: Option<String>,
        /// The transaction that the answer named, if any.
        transaction: Option<B256>,
    },
}

/// A call to a facilitator, ready to send.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The JSON body: `{x402Version, paymentPayload, paymentRequirements}`.
    pub body: &'a str,
    /// The network of the offer. The network in the answer must be its CAIP-2 id or its version 1
    /// name.
    pub network: &'static crate::pricing::networks::Network,
    /// The payer's address.
    pub payer: Address,
    /// The digest that the payer signed.
    pub digest: B256,
    /// The signature.
    pub signature: &'a Bytes,
}

impl Call<'_> {
    /// Whether the payer's own key made the signature. Otherwise a contract wallet accepted it.
    fn is_signed_by_key(&self) -> bool {
        exact::recover(&self.digest, self.signature) == Some(self.payer)
    }
}

/// A scheme and network that a facilitator supports.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kind {
    /// The protocol version; `None` if the answer names none.
    #[serde(default)]
    pub x402_version: Option<u32>,
    /// The scheme, such as `exact`.
    #[serde(default)]
    pub scheme: String,
    /// The network: a CAIP-2 id or a version 1 name.
    #[serde(default)]
    pub network: String,
}

impl Kind {
    /// Whether this is the scheme `exact` on `network`.
    pub fn is_exact_on(&self, network: &crate::pricing::networks::Network) -> bool {
        let named = self.network == network.caip2 || Some(self.network.as_str()) == network.v1_name;
        self.scheme == crate::x402::wire::SCHEME && named
    }

    /// Whether this is of version 1. An entry without a version counts as version 1.
    pub fn is_of_v1(&self) -> bool {
        self.x402_version.is_none_or(|version| version == 1)
    }

    /// Whether this is of version 2.
    pub fn is_of_v2(&self) -> bool {
        self.x402_version == Some(2)
    }
}

/// A facilitator, which verifies payments and moves the money.
#[async_trait::async_trait]
pub trait Facilitator: Send + Sync + std::fmt::Debug {
    /// The facilitator's name in the ledger.
    fn name(&self) -> &'static str;

    /// Asks whether the payment would settle. This moves no money and may be repeated.
    async fn verify(&self, call: Call<'_>, timeout: Duration) -> VerifyOutcome;

    /// Asks the facilitator to move the money. Never repeat it before the chain was asked.
    async fn settle(&self, call: Call<'_>, timeout: Duration) -> SettleOutcome;

    /// Asks what the facilitator supports. This moves no money, and a failure says nothing about
    /// payments.
    ///
    /// # Errors
    /// What was received instead, as a message for the operator.
    async fn supported(&self, timeout: Duration) -> Result<Vec<Kind>, String>;

    /// Reads the clock of the facilitator's server from the `Date` header of any answer, whatever
    /// its status.
    ///
    /// # Errors
    /// What was received instead, as a message for the operator.
    async fn date(&self, timeout: Duration) -> Result<Timestamp, String>;
}
