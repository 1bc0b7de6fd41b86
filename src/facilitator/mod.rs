//! The port to a facilitator: who checks a payment and moves the money.

use std::time::Duration;

use alloy_primitives::{Address, B256};

use crate::clock::Timestamp;

mod breaker;
pub mod http;

/// What verify said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyOutcome {
    /// It would settle.
    Valid {
        /// Who pays, when it said so.
        payer: Option<Address>,
    },
    /// It would not. No money moved.
    Invalid {
        /// The facilitator's reason.
        reason: String,
    },
    /// Nothing that can be believed. No money moved.
    NoAnswer {
        /// What came instead, for the log.
        why: String,
    },
}

/// What settle said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleOutcome {
    /// The money moved in this transaction.
    Success {
        /// The transaction.
        transaction: B256,
    },
    /// A refusal of the kind that means that nothing moved, with no transaction.
    Refused {
        /// The facilitator's reason.
        reason: String,
    },
    /// Anything else: the money may have moved.
    Unclear {
        /// What came, for the log.
        why: String,
        /// The facilitator's reason, where it says that the transfer failed on the chain. Only the chain
        /// can bear that out, but its payer alone may be the cause.
        reverted: Option<String>,
        /// A transaction that was named.
        transaction: Option<B256>,
    },
}

/// A call to a facilitator, ready to send: `{x402Version, paymentPayload, paymentRequirements}`.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The body.
    pub body: &'a str,
    /// The network of the offer, to compare with the answer: CAIP-2 id and name of version 1.
    pub network: &'static crate::networks::Network,
    /// Who pays.
    pub payer: Address,
}

/// What a facilitator says it can settle.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kind {
    /// The protocol's version, where it says one.
    #[serde(default)]
    pub x402_version: Option<u32>,
    /// The scheme.
    #[serde(default)]
    pub scheme: String,
    /// The network, by its CAIP-2 id or its name of version 1.
    #[serde(default)]
    pub network: String,
}

impl Kind {
    /// Whether this is the scheme `exact` on `network`.
    pub fn is_exact_on(&self, network: &crate::networks::Network) -> bool {
        let named = self.network == network.caip2 || Some(self.network.as_str()) == network.v1_name;
        self.scheme == crate::x402::wire::SCHEME && named
    }

    /// Whether this is of version 1; a kind without a version is of its time.
    pub fn is_of_v1(&self) -> bool {
        self.x402_version.is_none_or(|version| version == 1)
    }

    /// Whether this is of version 2.
    pub fn is_of_v2(&self) -> bool {
        self.x402_version == Some(2)
    }
}

/// Who checks payments and moves the money.
#[async_trait::async_trait]
pub trait Facilitator: Send + Sync + std::fmt::Debug {
    /// The name in the ledger.
    fn name(&self) -> &'static str;

    /// Asks whether the payment would settle. Free of consequences; may be repeated.
    async fn verify(&self, call: Call<'_>, timeout: Duration) -> VerifyOutcome;

    /// Asks to move the money. Never repeated without asking the chain first.
    async fn settle(&self, call: Call<'_>, timeout: Duration) -> SettleOutcome;

    /// Asks what it can settle. Moves nothing, and a silence says nothing about payments.
    ///
    /// # Errors
    /// What came instead, for the operator.
    async fn supported(&self, timeout: Duration) -> Result<Vec<Kind>, String>;

    /// Asks for the time of the facilitator's server: the `Date` header of any answer, whatever its status.
    ///
    /// # Errors
    /// What came instead, for the operator.
    async fn date(&self, timeout: Duration) -> Result<Timestamp, String>;
}
