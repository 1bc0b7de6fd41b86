//! The `offer-receipt` extension: offers and receipts that the server signs by EIP-712
//! (docs/x402.md, Signed offers and receipts).

use std::borrow::Cow;

use alloy_primitives::{B256, Bytes, U256};
use alloy_sol_types::{Eip712Domain, SolStruct as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::wire::{Offer, SCHEME};

/// The extension's name.
pub const OFFER_RECEIPT: &str = "offer-receipt";
/// The only signature format that is written and read here.
pub const FORMAT: &str = "eip712";
/// The extension's version.
const VERSION: u64 = 1;

/// The messages as EIP-712 types.
mod typed {
    alloy_sol_types::sol! {
        struct Offer {
            uint256 version;
            string resourceUrl;
            string scheme;
            string network;
            string asset;
            string payTo;
            string amount;
            uint256 validUntil;
        }

        struct Receipt {
            uint256 version;
            string network;
            string resourceUrl;
            string payer;
            uint256 issuedAt;
            string transaction;
        }
    }
}

/// An offer: this price for this resource, until a given time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OfferPayload {
    version: u64,
    resource_url: String,
    scheme: String,
    network: String,
    asset: String,
    pay_to: String,
    amount: String,
    valid_until: u64,
}

/// A receipt: this payer paid for this resource at a given time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReceiptPayload {
    /// The extension's version.
    pub version: u64,
    /// The network's CAIP-2 id, for clients of version 1 as well.
    pub network: String,
    /// The URL of the resource that was paid for.
    pub resource_url: String,
    /// The payer's address.
    pub payer: String,
    /// When the receipt was issued, in Unix seconds.
    pub issued_at: u64,
    /// The hash of the transaction; empty if it is not disclosed.
    pub transaction: String,
}

impl OfferPayload {
    /// Creates an offer of `resource_url`, spelled as in the challenge, so that clients can compare
    /// the two.
    pub fn new(offer: &Offer, resource_url: &str, valid_until: u64) -> Self {
        Self {
            version: VERSION,
            resource_url: resource_url.to_owned(),
            scheme: SCHEME.to_owned(),
            network: offer.network.caip2.to_owned(),
            asset: offer.network.usdc.to_checksum(None),
            pay_to: offer.pay_to.to_checksum(None),
            amount: offer.amount.to_string(),
            valid_until,
        }
    }

    /// The EIP-712 digest that is signed.
    pub fn digest(&self) -> B256 {
        typed::Offer {
            version: U256::from(self.version),
            resourceUrl: self.resource_url.clone(),
            scheme: self.scheme.clone(),
            network: self.network.clone(),
            asset: self.asset.clone(),
            payTo: self.pay_to.clone(),
            amount: self.amount.clone(),
            validUntil: U256::from(self.valid_until),
        }
        .eip712_signing_hash(&domain("x402 offer"))
    }
}

impl ReceiptPayload {
    /// Creates a receipt of the current version.
    pub fn new(
        network: &str,
        resource_url: &str,
        payer: &str,
        issued_at: u64,
        transaction: &str,
    ) -> Self {
        Self {
            version: VERSION,
            network: network.to_owned(),
            resource_url: resource_url.to_owned(),
            payer: payer.to_owned(),
            issued_at,
            transaction: transaction.to_owned(),
        }
    }

    /// The EIP-712 digest that is signed.
    pub fn digest(&self) -> B256 {
        typed::Receipt {
            version: U256::from(self.version),
            network: self.network.clone(),
            resourceUrl: self.resource_url.clone(),
            payer: self.payer.clone(),
            issuedAt: U256::from(self.issued_at),
            transaction: self.transaction.clone(),
        }
        .eip712_signing_hash(&domain("x402 receipt"))
    }
}

/// The EIP-712 domain of the extension's messages: chain 1 and no contract, whatever network is
/// paid on.
fn domain(name: &'static str) -> Eip712Domain {
    Eip712Domain {
        name: Some(Cow::Borrowed(name)),
        version: Some(Cow::Borrowed("1")),
        chain_id: Some(U256::ONE),
        verifying_contract: None,
        salt: None,
    }
}

/// A signed offer for the challenge's entry at `accept_index`.
pub fn signed_offer(payload: &OfferPayload, signature: &Bytes, accept_index: usize) -> Value {
    json!({
        "format": FORMAT, "acceptIndex": accept_index, "payload": payload,
        "signature": signature.to_string(),
    })
}

/// The extension's block in a challenge. Its schema is as short as allowed, since clients return
/// it.
pub fn offers_block(offers: &[Value]) -> Value {
    json!({
        "info": {"offers": offers},
        "schema": {"type": "object", "required": ["offers"]},
    })
}

/// The extension's block in a settlement. `keys_url` is where the signing keys are published, since
/// the format names no key.
pub fn receipt_block(payload: &ReceiptPayload, signature: &Bytes, keys_url: &str) -> Value {
    json!({
        "info": {
            "receipt": {"format": FORMAT, "payload": payload, "signature": signature.to_string()},
            "keysUrl": keys_url,
        },
        "schema": {"type": "object", "required": ["receipt"]},
    })
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{address, b256};

    use super::*;
    use crate::pricing::money::AtomicAmount;
    use crate::pricing::networks::BASE;

    const URL: &str = "https://img.example.com/api/upload/token";

    #[test]
    fn the_digests_are_those_of_the_reference() {
        let offer = Offer {
            network: &BASE,
            amount: AtomicAmount::from_units(10_000),
            pay_to: address!("2222222222222222222222222222222222222222"),
            max_timeout_seconds: 300,
        };
        assert_eq!(
            OfferPayload::new(&offer, URL, 1_900_000_000).digest(),
            b256!("37adca536bac362e4de6c9cb08285ef7ab387605af1997862ab13478dc41a798")
        );
        let payer = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A";
        assert_eq!(
            ReceiptPayload::new("eip155:8453", URL, payer, 1_800_000_000, "").digest(),
            b256!("fff3af708e8388d9b2bf3c385c3b27930f05d23e0c008d6a4b314dbc7bd71786")
        );
    }

    #[test]
    fn every_field_of_a_receipt_is_signed() {
        let receipt = ReceiptPayload::new("eip155:8453", URL, "0x19", 1_800_000_000, "0xcd");
        let whole = serde_json::to_value(&receipt).unwrap();
        for name in whole.as_object().unwrap().keys() {
            let mut changed = whole.clone();
            changed[name] = match &changed[name] {
                Value::Number(number) => json!(number.as_u64().unwrap() + 1),
                other => json!(format!("{}x", other.as_str().unwrap())),
            };
            let changed: ReceiptPayload = serde_json::from_value(changed).unwrap();
            assert_ne!(changed.digest(), receipt.digest(), "{name}");
        }
    }
}
