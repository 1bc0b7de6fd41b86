//! From a challenge to a signed payment. Pure: time, randomness and key are given.

use std::fmt;

use alloy_primitives::{Address, B256, U256};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::wallet::{Wallet, WalletError};
use crate::clock::Timestamp;
use crate::money::AtomicAmount;
use crate::networks::{self, Network};
use crate::random::Randomness;
use crate::x402::evm::Authorization;
use crate::x402::header;
use crate::x402::wire::{self, Version};

/// A shorter time is over before a server could settle; a longer one leaves a signature about
/// that can be used long after this program has ended.
const TIMEOUT_SECONDS: std::ops::RangeInclusive<u64> = 8..=3600;

/// What a server asks, and all that has to be echoed to pay it.
#[derive(Debug, Clone)]
pub struct Quote {
    /// Chain and token.
    pub network: &'static Network,
    /// The price of this one upload.
    pub amount: AtomicAmount,
    /// Who gets it.
    pub pay_to: Address,
    /// Whether the server says that the money is worth nothing, on a network where that can be.
    pub is_play_money: bool,
    timeout_seconds: u64,
    accepted: Value,
    resource: Value,
    extensions: Map<String, Value>,
}

/// A signed payment. Its header is money: it is shown to the server and kept in a private file,
/// and nowhere else.
#[derive(Clone)]
pub struct SignedPayment {
    header: String,
    /// Who pays.
    pub payer: Address,
    /// How much.
    pub amount: AtomicAmount,
    /// Chain and token.
    pub network: &'static Network,
}

/// Why a challenge isn't paid.
#[derive(Debug, thiserror::Error)]
pub enum PayError {
    /// No challenge of version 2.
    #[error("The server's price can't be read: it sent no x402 challenge of version 2.")]
    Unreadable,
    /// Nothing that this client knows how to pay.
    #[error(
        "The server offers no payment that this client makes: USDC on {known}, exact, by EIP-3009."
    )]
    NoUsableOffer {
        /// The networks that would do.
        known: String,
    },
    /// Too dear.
    #[error(
        "The price is {price} USDC a file and the cap is {cap}. To pay it, say --max-price {price}."
    )]
    AboveCap {
        /// What is asked.
        price: String,
        /// What is allowed.
        cap: String,
    },
    /// The key did not sign.
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawChallenge {
    x402_version: u64,
    #[serde(default)]
    resource: Value,
    accepts: Vec<Value>,
    #[serde(default)]
    extensions: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawOffer {
    scheme: String,
    network: String,
    amount: String,
    asset: Address,
    pay_to: Address,
    max_timeout_seconds: u64,
    extra: RawExtra,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawExtra {
    name: String,
    version: String,
    asset_transfer_method: Option<String>,
    payment_flow: Option<String>,
}

/// The first offer of a `PAYMENT-REQUIRED` header that this client can pay.
pub fn choose(challenge: &[u8]) -> Result<Quote, PayError> {
    let challenge: RawChallenge = header::decode(challenge).map_err(|_| PayError::Unreadable)?;
    if challenge.x402_version != u64::from(Version::V2.number()) {
        return Err(PayError::Unreadable);
    }
    let says_play = challenge
        .extensions
        .get("pixtoll")
        .and_then(|ours| ours.pointer("/info/playMoney"))
        .is_some_and(|flag| *flag == Value::Bool(true));
    let usable = |offer: Value| {
        let raw = RawOffer::deserialize(&offer).ok()?;
        let (network, amount) = payable(&raw)?;
        Some(Quote {
            network,
            amount,
            pay_to: raw.pay_to,
            is_play_money: says_play && network.is_test,
            timeout_seconds: raw.max_timeout_seconds,
            accepted: offer,
            resource: challenge.resource.clone(),
            extensions: challenge.extensions.clone(),
        })
    };
    challenge
        .accepts
        .into_iter()
        .find_map(usable)
        .ok_or_else(|| {
            let known: Vec<_> = networks::all()
                .iter()
                .map(|network| network.name())
                .collect();
            PayError::NoUsableOffer {
                known: known.join(" or "),
            }
        })
}

/// Network and price of an offer, when every field is one that this client understands: it signs
/// for what it knows, never for what a server says that a token is.
fn payable(offer: &RawOffer) -> Option<(&'static Network, AtomicAmount)> {
    let network = networks::find(&offer.network).filter(|known| known.caip2 == offer.network)?;
    let amount = AtomicAmount::from_atomic(&offer.amount).ok()?;
    let extra = &offer.extra;
    let usable = offer.scheme == wire::SCHEME
        && offer.asset == network.usdc
        && extra.name == network.domain_name
        && extra.version == network.domain_version
        && extra
            .asset_transfer_method
            .as_deref()
            .is_none_or(|method| method == "eip3009")
        && extra
            .payment_flow
            .as_deref()
            .is_none_or(|flow| flow == "authorization")
        && TIMEOUT_SECONDS.contains(&offer.max_timeout_seconds)
        && offer.pay_to != Address::ZERO
        && !amount.is_zero();
    usable.then_some((network, amount))
}

/// Refuses an amount above the cap.
pub fn check_cap(amount: AtomicAmount, cap: AtomicAmount) -> Result<(), PayError> {
    if amount <= cap {
        return Ok(());
    }
    Err(PayError::AboveCap {
        price: amount.to_decimal_usd(),
        cap: cap.to_decimal_usd(),
    })
}

impl Quote {
    /// Signs this quote: a fresh nonce, a fresh payment id, everything else echoed as it came.
    pub fn sign(
        &self,
        wallet: &Wallet,
        now: Timestamp,
        randomness: &Randomness,
    ) -> Result<SignedPayment, PayError> {
        let until = now
            .seconds()
            .saturating_add(i64::try_from(self.timeout_seconds).unwrap_or(0));
        let authorization = Authorization {
            from: wallet.address(),
            to: self.pay_to,
            value: U256::from(self.amount.units()),
            // Zero and not "ten minutes ago": a clock that runs ahead must not make it invalid.
            valid_after: U256::ZERO,
            valid_before: U256::from(u64::try_from(until).unwrap_or(0)),
            nonce: B256::from(randomness.bytes::<32>()),
        };
        let signature = wallet.sign(&authorization.digest(self.network))?;
        let mut extensions = self.extensions.clone();
        set_payment_id(&mut extensions, hex::encode(randomness.bytes::<16>()))?;
        let mut document = json!({
            "x402Version": Version::V2.number(),
            "accepted": self.accepted,
            "payload": wire::payload(&authorization, &signature),
            "extensions": extensions,
        });
        if let (Value::Object(fields), false) = (&mut document, self.resource.is_null()) {
            fields.insert("resource".to_owned(), self.resource.clone());
        }
        SignedPayment::parse(header::encode(&document)).ok_or(PayError::Unreadable)
    }
}

/// The id is the proof of who presents the payment (the signature becomes public on the chain), so
/// it is sent whether or not the server asks for one.
fn set_payment_id(extensions: &mut Map<String, Value>, id: String) -> Result<(), PayError> {
    extensions
        .entry("payment-identifier")
        .or_insert_with(|| json!({"info": {}}))
        .get_mut("info")
        .and_then(Value::as_object_mut)
        .ok_or(PayError::Unreadable)?
        .insert("id".to_owned(), Value::String(id));
    Ok(())
}

impl SignedPayment {
    /// The payment that a header holds; `None` for what can't be a payment of ours.
    pub fn parse(header: String) -> Option<Self> {
        let read = header::decode_payment(header.as_bytes()).ok()?;
        read.payment_id?;
        Some(Self {
            payer: read.authorization.from,
            amount: AtomicAmount::from_atomic(&read.authorization.value.to_string()).ok()?,
            network: read.network?,
            header,
        })
    }

    /// The value of `PAYMENT-SIGNATURE`.
    pub fn header(&self) -> &str {
        &self.header
    }
}

impl fmt::Debug for SignedPayment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedPayment({} units by {})", self.amount, self.payer)
    }
}

#[cfg(test)]
mod tests;
