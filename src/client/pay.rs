//! Chooses an offer of a challenge and signs a payment for it. No I/O: time, randomness and key are parameters.

use std::fmt;

use alloy_primitives::{Address, B256, U256};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::wallet::{Wallet, WalletError};
use crate::evm::exact::Authorization;
use crate::pricing::money::AtomicAmount;
use crate::pricing::networks::{self, Network};
use crate::system::clock::Timestamp;
use crate::system::random::Randomness;
use crate::x402::header;
use crate::x402::wire::{self, Version};

/// The accepted values of `maxTimeoutSeconds`. A shorter time ends before a server could settle. A longer one leaves
/// a signature that can be used long after this program has ended.
const TIMEOUT_SECONDS: std::ops::RangeInclusive<u64> = 8..=3600;

/// The offer that a server makes, with the fields that the payment has to repeat.
#[derive(Debug, Clone)]
pub struct Quote {
    /// The network, which determines the token.
    pub network: &'static Network,
    /// The price of the operation.
    pub amount: AtomicAmount,
    /// The recipient.
    pub pay_to: Address,
    /// Whether the server declares play money, on a test network.
    pub is_play_money: bool,
    timeout_seconds: u64,
    accepted: Value,
    resource: Value,
    extensions: Map<String, Value>,
}

/// A signed payment. Whoever has its header can take the money, so it is sent to the server, saved in a private file,
/// and shown nowhere else.
#[derive(Clone)]
pub struct SignedPayment {
    header: String,
    /// The payer.
    pub payer: Address,
    /// The amount.
    pub amount: AtomicAmount,
    /// The network, which determines the token.
    pub network: &'static Network,
}

/// Why a challenge isn't paid.
#[derive(Debug, thiserror::Error)]
pub enum Unpayable {
    /// No x402 challenge of version 2.
    #[error(
        "The server's price can't be read: its response holds no x402 challenge of version 2. Check that \
         --server names a pixtoll server."
    )]
    Unreadable,
    /// No offer that this client can pay.
    #[error(
        "The server offers no payment that this client can make. This client pays USDC on {known}, with the \
         scheme exact and EIP-3009."
    )]
    NoUsableOffer {
        /// The networks that this client knows.
        known: String,
    },
    /// The price is above the cap.
    #[error(
        "The price is {price} USDC per file, above the limit of {cap} (--max-price). To pay it, use --max-price {price}."
    )]
    AboveCap {
        /// The price per file in USD.
        price: String,
        /// The cap per file in USD.
        cap: String,
    },
    /// The wallet could not sign.
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

/// Chooses the first offer of a `PAYMENT-REQUIRED` header that this client can pay.
///
/// # Errors
/// [`Unpayable::Unreadable`] and [`Unpayable::NoUsableOffer`].
pub fn choose(challenge: &[u8]) -> Result<Quote, Unpayable> {
    let challenge: RawChallenge = header::decode(challenge).map_err(|_| Unpayable::Unreadable)?;
    if challenge.x402_version != u64::from(Version::V2.number()) {
        return Err(Unpayable::Unreadable);
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
            Unpayable::NoUsableOffer {
                known: known.join(" or "),
            }
        })
}

/// The network and price of an offer, when this client understands every field. The token comes from this program's
/// own table of networks, never from the server.
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

/// Rejects an amount above the cap. Both are the totals for this many files; the error names the amounts per file.
///
/// # Errors
/// [`Unpayable::AboveCap`].
pub fn check_cap(amount: AtomicAmount, cap: AtomicAmount, files: usize) -> Result<(), Unpayable> {
    if amount <= cap {
        return Ok(());
    }
    let files = u128::try_from(files).unwrap_or(u128::MAX).max(1);
    let each = |total: AtomicAmount| AtomicAmount::from_units(total.units().div_ceil(files));
    Err(Unpayable::AboveCap {
        price: each(amount).to_decimal_usd(),
        cap: each(cap).to_decimal_usd(),
    })
}

impl Quote {
    /// Signs a payment for this quote, with a new nonce and a new idempotency key. Everything else is repeated as the
    /// server sent it.
    ///
    /// # Errors
    /// [`Unpayable::Wallet`], and [`Unpayable::Unreadable`] when the challenge's extensions are malformed.
    pub fn sign(
        &self,
        wallet: &Wallet,
        now: Timestamp,
        randomness: &Randomness,
    ) -> Result<SignedPayment, Unpayable> {
        let until = now
            .seconds()
            .saturating_add(i64::try_from(self.timeout_seconds).unwrap_or(0));
        let authorization = Authorization {
            from: wallet.address(),
            to: self.pay_to,
            value: U256::from(self.amount.units()),
            // Zero rather than a recent time: a clock that runs ahead must not make the authorization invalid.
            valid_after: U256::ZERO,
            valid_before: U256::from(u64::try_from(until).unwrap_or(0)),
            nonce: B256::from(randomness.bytes::<32>()),
        };
        let signature = wallet.sign(&authorization.digest(self.network))?;
        let mut extensions = self.extensions.clone();
        set_idempotency_key(&mut extensions, hex::encode(randomness.bytes::<16>()))?;
        let mut document = json!({
            "x402Version": Version::V2.number(),
            "accepted": self.accepted,
            "payload": wire::payload(&authorization, &signature),
            "extensions": extensions,
        });
        if let (Value::Object(fields), false) = (&mut document, self.resource.is_null()) {
            fields.insert("resource".to_owned(), self.resource.clone());
        }
        SignedPayment::parse(header::encode(&document)).ok_or(Unpayable::Unreadable)
    }
}

/// Sets the idempotency key. It proves who sends the payment, because the signature becomes public on the chain, so it
/// is sent whether or not the server asks for one.
fn set_idempotency_key(extensions: &mut Map<String, Value>, id: String) -> Result<(), Unpayable> {
    extensions
        .entry("payment-identifier")
        .or_insert_with(|| json!({"info": {}}))
        .get_mut("info")
        .and_then(Value::as_object_mut)
        .ok_or(Unpayable::Unreadable)?
        .insert("id".to_owned(), Value::String(id));
    Ok(())
}

impl SignedPayment {
    /// Parses a header. `None` when it holds no payment that this client could have signed.
    pub fn parse(header: String) -> Option<Self> {
        let read = header::decode_payment(header.as_bytes()).ok()?;
        read.idempotency_key?;
        Some(Self {
            payer: read.authorization.from,
            amount: AtomicAmount::from_atomic(&read.authorization.value.to_string()).ok()?,
            network: read.network?,
            header,
        })
    }

    /// The nonce of the authorization, as the server spells it.
    pub fn nonce(&self) -> Option<String> {
        let read = header::decode_payment(self.header.as_bytes()).ok()?;
        Some(read.authorization.nonce.to_string())
    }

    /// The value of the `PAYMENT-SIGNATURE` header.
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
