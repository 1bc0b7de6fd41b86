//! The JSON documents of x402, versions 1 and 2.
//!
//! What pixtoll writes is typed and strict. A facilitator's answers are read leniently: one boolean
//! decides, every other field is optional, and both spellings of `errorReason` are accepted.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::evm::exact::Authorization;
use crate::pricing::money::AtomicAmount;
use crate::pricing::networks::Network;

/// The scheme of every offer: exactly the price, by EIP-3009.
pub const SCHEME: &str = "exact";

/// The protocol version of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// Version 1: the offer is in the body, the payment in `X-PAYMENT`.
    V1,
    /// Version 2: the offer is in `PAYMENT-REQUIRED`, the payment in `PAYMENT-SIGNATURE`.
    V2,
}

impl Version {
    /// The network as this version writes it. Where version 1 has no name for it, its CAIP-2 id.
    pub fn spell(self, network: &Network) -> &'static str {
        match self {
            Self::V1 => network.v1_name.unwrap_or(network.caip2),
            Self::V2 => network.caip2,
        }
    }

    /// The number in `x402Version`.
    pub const fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// The version with this number; `None` for others.
    pub const fn parse(number: i64) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            _ => None,
        }
    }
}

/// The resource that is sold, one for all offers of a challenge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// The absolute URL, which begins with `http.base_url`.
    pub url: String,
    /// What the buyer gets, as a sentence.
    pub description: String,
    /// The content type of the response.
    pub mime_type: String,
}

/// The server's own offer, which a payment must match. Both versions are written from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The network, with its token.
    pub network: &'static Network,
    /// The price, in atomic units.
    pub amount: AtomicAmount,
    /// The recipient's address.
    pub pay_to: alloy_primitives::Address,
    /// For how many seconds clients sign. The offer stays valid for as long after a change of
    /// prices.
    pub max_timeout_seconds: u64,
}

impl Offer {
    /// The offer as `PaymentRequirements` of version 2.
    pub fn v2(&self) -> Value {
        json!({
            "scheme": SCHEME,
            "network": self.network.caip2,
            "amount": self.amount.to_string(),
            "asset": self.network.usdc.to_checksum(None),
            "payTo": self.pay_to.to_checksum(None),
            "maxTimeoutSeconds": self.max_timeout_seconds,
            "extra": self.extra(),
        })
    }

    /// The offer as `PaymentRequirements` of version 1, which repeats the resource in each offer.
    /// `None` where version 1 has no name for the network.
    pub fn v1(&self, resource: &Resource) -> Option<Value> {
        Some(json!({
            "scheme": SCHEME,
            "network": self.network.v1_name?,
            "maxAmountRequired": self.amount.to_string(),
            "resource": resource.url,
            "description": resource.description,
            "mimeType": resource.mime_type,
            "payTo": self.pay_to.to_checksum(None),
            "asset": self.network.usdc.to_checksum(None),
            "maxTimeoutSeconds": self.max_timeout_seconds,
            "extra": self.extra(),
        }))
    }

    fn extra(&self) -> Value {
        json!({"name": self.network.domain_name, "version": self.network.domain_version})
    }
}

/// The `payload` of a payment: the authorization and the signature, in canonical form.
pub fn payload(authorization: &Authorization, signature: &alloy_primitives::Bytes) -> Value {
    json!({
        "signature": signature.to_string(),
        "authorization": {
            "from": authorization.from.to_checksum(None),
            "to": authorization.to.to_checksum(None),
            "value": authorization.value.to_string(),
            "validAfter": authorization.valid_after.to_string(),
            "validBefore": authorization.valid_before.to_string(),
            "nonce": authorization.nonce.to_string(),
        },
    })
}

/// A facilitator's answer to verify.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyResponse {
    /// Whether the payment would settle. Only this field decides.
    pub is_valid: bool,
    /// Why it would not.
    #[serde(default, alias = "invalid_reason", deserialize_with = "text")]
    pub invalid_reason: Option<String>,
    /// The payer's address.
    #[serde(default, deserialize_with = "text")]
    pub payer: Option<String>,
}

/// A facilitator's answer to settle, and the receipt that pixtoll sends to its clients.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettlementResponse {
    /// Whether the money moved. Only this field decides.
    pub success: bool,
    /// Why it did not.
    #[serde(
        default,
        alias = "error_reason",
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub error_reason: Option<String>,
    /// The hash of the transaction; empty if there is none.
    #[serde(default, deserialize_with = "lenient_text")]
    pub transaction: String,
    /// The network, as the version spells it.
    #[serde(default, deserialize_with = "lenient_text")]
    pub network: String,
    /// The payer's address.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub payer: Option<String>,
    /// Extensions for our clients. Those of a facilitator are not passed on.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Value>,
}

/// Reads a text field of a facilitator. `null`, an empty string and any other type count as absent.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) if !text.is_empty() => Some(text),
        _ => None,
    })
}

fn lenient_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_facilitators_refusal_is_read_in_both_spellings() {
        for key in ["errorReason", "error_reason"] {
            let text =
                format!(r#"{{"success":false,"{key}":"insufficient_funds","network":null}}"#);
            let answer: SettlementResponse = serde_json::from_str(&text).unwrap();
            assert_eq!(answer.error_reason.as_deref(), Some("insufficient_funds"));
            assert_eq!((answer.transaction.as_str(), answer.payer), ("", None));
        }
    }

    #[test]
    fn extensions_of_a_facilitator_are_not_passed_on() {
        let text = r#"{"success":true,"transaction":"0x1","network":"base","extensions":{"a":1}}"#;
        let answer: SettlementResponse = serde_json::from_str(text).unwrap();
        assert_eq!(answer.extensions, None);
        assert!(
            !serde_json::to_string(&answer)
                .unwrap()
                .contains("extensions")
        );
    }

    #[test]
    fn only_the_boolean_of_an_answer_decides() {
        for bad in [
            r#"{"success":"true"}"#,
            r#"{"success":1}"#,
            r#"{"transaction":"0x"}"#,
            "[]",
            "true",
        ] {
            assert!(
                serde_json::from_str::<SettlementResponse>(bad).is_err(),
                "{bad}"
            );
        }
        for bad in [
            r#"{"isValid":"true"}"#,
            r#"{"valid":true}"#,
            r#"{"isValid":null}"#,
        ] {
            assert!(
                serde_json::from_str::<VerifyResponse>(bad).is_err(),
                "{bad}"
            );
        }
    }
}
