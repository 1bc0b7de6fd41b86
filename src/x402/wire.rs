//! The JSON documents of x402, versions 1 and 2.
//!
//! What pixtoll writes is typed and strict; what a facilitator answers is read tolerantly: one
//! boolean decides, everything else is optional, and both spellings of `errorReason` are known.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::evm::Authorization;
use crate::money::AtomicAmount;
use crate::networks::Network;

/// The scheme that pixtoll sells by: exactly the price, by EIP-3009.
pub const SCHEME: &str = "exact";

/// The protocol's version, as a client spoke it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// Offer in the body, payment in `X-PAYMENT`.
    V1,
    /// Offer in `PAYMENT-REQUIRED`, payment in `PAYMENT-SIGNATURE`.
    V2,
}

impl Version {
    /// The network as this version writes it; by its CAIP-2 id where version 1 has no name for it.
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

    /// The version with this number.
    pub const fn parse(number: i64) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            2 => Some(Self::V2),
            _ => None,
        }
    }
}

/// The resource that is sold: one for all offers of a challenge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// Absolute URL, from `http.base_url`.
    pub url: String,
    /// What one gets.
    pub description: String,
    /// Content type of the answer.
    pub mime_type: String,
}

/// What one payment must be: the server's own offer, from which both versions are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Chain and token.
    pub network: &'static Network,
    /// Price in atomic units.
    pub amount: AtomicAmount,
    /// Recipient.
    pub pay_to: alloy_primitives::Address,
    /// Clients sign for so long; the offer is honoured for so long after a change of prices.
    pub max_timeout_seconds: u64,
}

impl Offer {
    /// `PaymentRequirements` of version 2.
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

    /// `PaymentRequirements` of version 1, which names the resource in each offer; `None` on a
    /// network for which version 1 has no name.
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

/// The scheme's part of a payment: what was authorized, and the signature, in canonical spelling.
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

/// What a facilitator answered to verify.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyResponse {
    /// The one field that decides.
    pub is_valid: bool,
    /// Why not.
    #[serde(default, alias = "invalid_reason", deserialize_with = "text")]
    pub invalid_reason: Option<String>,
    /// Who pays.
    #[serde(default, deserialize_with = "text")]
    pub payer: Option<String>,
}

/// What a facilitator answered to settle, and what pixtoll tells its clients of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettlementResponse {
    /// The one field that decides.
    pub success: bool,
    /// Why not.
    #[serde(
        default,
        alias = "error_reason",
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub error_reason: Option<String>,
    /// The hash of the transaction; the empty string where there is none.
    #[serde(default, deserialize_with = "lenient_text")]
    pub transaction: String,
    /// Network, in the spelling of the version.
    #[serde(default, deserialize_with = "lenient_text")]
    pub network: String,
    /// Who paid.
    #[serde(
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub payer: Option<String>,
    /// What we add for our clients; what a facilitator adds is not passed on.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Value>,
}

/// A text field of a facilitator: `null`, `""` and any other type are the same as absent.
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
    fn what_a_facilitator_adds_is_not_passed_on() {
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
    fn only_a_boolean_decides() {
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
