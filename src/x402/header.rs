//! Payment headers: their base64 encoding, and the payment that a client's header describes.
//!
//! The base64 has the standard alphabet, padding and no line breaks. The protocol's clients write
//! this form, and some read no other.

use alloy_primitives::{Address, B256, Bytes, U256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::wire::{SCHEME, Version};
use crate::evm::exact::{self, Authorization, canonical_signature};
use crate::pricing::money::AtomicAmount;
use crate::pricing::networks::{self, Network};

/// The request header of a version 2 payment.
pub const PAYMENT_SIGNATURE: &str = "PAYMENT-SIGNATURE";
/// The request header of a version 1 payment.
pub const X_PAYMENT: &str = "X-PAYMENT";
/// The response header of a version 2 challenge.
pub const PAYMENT_REQUIRED: &str = "PAYMENT-REQUIRED";
/// The response header of a version 2 settlement.
pub const PAYMENT_RESPONSE: &str = "PAYMENT-RESPONSE";
/// The response header of a version 1 settlement.
pub const X_PAYMENT_RESPONSE: &str = "X-PAYMENT-RESPONSE";

/// The largest payment header that is read, in bytes. A larger one is rejected.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;
/// The longest signature that is read, in bytes. Signatures of contract wallets may be this long.
const MAX_SIGNATURE_BYTES: usize = 8 * 1024;

/// Why a payment header can't be read, and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The header is larger than [`MAX_HEADER_BYTES`].
    #[error("The payment header has {bytes} bytes, but at most {MAX_HEADER_BYTES} are allowed.")]
    TooLong {
        /// The header's length, in bytes.
        bytes: usize,
    },
    /// The header is not padded base64 in the standard alphabet.
    #[error(
        "The payment header is not base64. Encode the payment's JSON in the standard alphabet, with padding."
    )]
    NotBase64,
    /// The header's JSON is not an x402 payment.
    #[error("The payment header is not an x402 payment: {problem}.")]
    Shape {
        /// What is wrong, without the client's values.
        problem: String,
    },
}

/// A payment as a client sent it, with every value in canonical form.
#[derive(Debug, Clone)]
pub struct PaymentHeader {
    /// The protocol version of the document.
    pub version: Version,
    /// The network that the document names; `None` if it is not known here.
    pub network: Option<&'static Network>,
    /// The authorization.
    pub authorization: Authorization,
    /// The signature, in canonical form.
    pub signature: Bytes,
    /// Whether the payer's own key signed the authorization for the token of `network`. Otherwise
    /// the signature may be that of a contract wallet.
    pub is_signed: bool,
    /// Version 2: the offer that the client accepted.
    pub accepted: Option<Value>,
    /// Version 2: the URL of the resource that the client pays for. It is not signed.
    pub resource_url: Option<String>,
    /// Version 2: the ticket of the challenge.
    pub ticket: Option<String>,
    /// Version 2: the client's idempotency key, `info.id` of the `payment-identifier` extension.
    /// Empty if it is no string.
    pub idempotency_key: Option<String>,
    /// Version 2: whether the client returned the `bazaar` extension.
    pub echoes_bazaar: bool,
}

impl PaymentHeader {
    /// The amount that the payment accepts: that of its offer or, in version 1, that of its
    /// authorization. `None`: it exceeds 128 bits, or the offer has none.
    pub fn amount(&self) -> Option<AtomicAmount> {
        match &self.accepted {
            Some(offer) => AtomicAmount::from_atomic(offer.get("amount")?.as_str()?).ok(),
            None => AtomicAmount::from_atomic(&self.authorization.value.to_string()).ok(),
        }
    }

    /// Whether both headers carry the same payment: the same authorization and signature on the
    /// same network. Two documents of the same version must also agree in everything else.
    pub fn is_same_payment(&self, other: &Self) -> bool {
        let is_same = self.network == other.network
            && self.authorization == other.authorization
            && self.signature == other.signature;
        let agrees = self.accepted == other.accepted
            && self.resource_url == other.resource_url
            && self.ticket == other.ticket
            && self.idempotency_key == other.idempotency_key
            && self.echoes_bazaar == other.echoes_bazaar;
        is_same && (agrees || self.version != other.version)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPayment {
    x402_version: i64,
    scheme: Option<String>,
    network: Option<String>,
    accepted: Option<Value>,
    resource: Option<Value>,
    extensions: Option<Value>,
    payload: RawPayload,
}

#[derive(Deserialize)]
struct RawPayload {
    signature: String,
    authorization: Option<RawAuthorization>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAuthorization {
    from: String,
    to: String,
    value: String,
    valid_after: String,
    valid_before: String,
    nonce: String,
}

/// Reads a payment header. The version is the one in the document's `x402Version`, whichever header
/// carried it: some clients send a version 2 document in version 1's header.
///
/// # Errors
/// [`HeaderError`] for everything but a payment of the scheme `exact` by EIP-3009.
pub fn decode_payment(header: &[u8]) -> Result<PaymentHeader, HeaderError> {
    let raw: RawPayment = decode(header)?;
    let Some(version) = Version::parse(raw.x402_version) else {
        return shape(format!(
            "x402Version is {}, but only versions 1 and 2 are accepted",
            raw.x402_version
        ));
    };
    let (scheme, network) = match version {
        Version::V1 => (raw.scheme.as_deref(), raw.network.as_deref()),
        Version::V2 => (
            string_at(raw.accepted.as_ref(), "/scheme"),
            string_at(raw.accepted.as_ref(), "/network"),
        ),
    };
    if scheme != Some(SCHEME) {
        return shape(format!("the scheme must be \"{SCHEME}\""));
    }
    let Some(network) = network else {
        return shape("the network is missing".to_owned());
    };
    let Some(authorization) = raw.payload.authorization else {
        return shape(
            "payload.authorization is missing; only EIP-3009 authorizations are accepted"
                .to_owned(),
        );
    };
    let network = networks::find(network).filter(|known| match version {
        Version::V1 => known.v1_name == Some(network),
        Version::V2 => known.caip2 == network,
    });
    let extensions = raw.extensions.as_ref();
    let authorization = canonical_authorization(&authorization)?;
    let (signature, is_signed) = signature(&raw.payload.signature, &authorization, network)?;
    Ok(PaymentHeader {
        version,
        network,
        authorization,
        signature,
        is_signed,
        resource_url: string_at(raw.resource.as_ref(), "/url").map(str::to_owned),
        ticket: string_at(extensions, "/pixtoll/info/ticket").map(str::to_owned),
        idempotency_key: extensions
            .and_then(|known| known.pointer("/payment-identifier/info/id"))
            .filter(|id| !id.is_null())
            .map(|id| id.as_str().unwrap_or_default().to_owned()),
        echoes_bazaar: extensions.and_then(|known| known.get("bazaar")).is_some(),
        accepted: raw.accepted,
    })
}

/// The signature in the form that the token accepts from a plain wallet. A contract wallet checks
/// the exact bytes, so a signature that the payer's own key did not make is left unchanged
/// (EIP-1271). Also returns whether the payer's own key made it, since finding that out takes longer
/// than everything else about a header.
fn signature(
    text: &str,
    authorization: &Authorization,
    network: Option<&Network>,
) -> Result<(Bytes, bool), HeaderError> {
    let bytes = signature_bytes(text)?;
    let canonical = canonical_signature(&bytes);
    let Some(network) = network else {
        return Ok((canonical, false));
    };
    let signer = exact::recover(&authorization.digest(network), &canonical);
    let is_signed = signer == Some(authorization.from);
    Ok((if is_signed { canonical } else { bytes }, is_signed))
}

/// Encodes `document` as the value of a header.
pub fn encode(document: &impl Serialize) -> String {
    STANDARD.encode(serde_json::to_vec(document).unwrap_or_default())
}

/// Decodes the JSON document of a header.
///
/// # Errors
/// [`HeaderError`] says what is expected.
pub fn decode<T: for<'de> Deserialize<'de>>(header: &[u8]) -> Result<T, HeaderError> {
    if header.len() > MAX_HEADER_BYTES {
        return Err(HeaderError::TooLong {
            bytes: header.len(),
        });
    }
    let json = STANDARD
        .decode(header)
        .map_err(|_| HeaderError::NotBase64)?;
    serde_json::from_slice(&json).map_err(|error| HeaderError::Shape {
        problem: describe(&error),
    })
}

/// What serde found wrong, without the client's values, which may be signatures.
fn describe(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Data => {
            let text = error.to_string();
            match text
                .strip_prefix("missing field `")
                .and_then(|rest| rest.split_once('`'))
            {
                Some((field, _)) => format!("the field {field} is missing"),
                None => {
                    "a field has the wrong type; write the numbers of the authorization as strings"
                        .to_owned()
                }
            }
        }
        _ => "it is not JSON".to_owned(),
    }
}

fn shape<T>(problem: String) -> Result<T, HeaderError> {
    Err(HeaderError::Shape { problem })
}

fn string_at<'a>(document: Option<&'a Value>, pointer: &str) -> Option<&'a str> {
    document?.pointer(pointer)?.as_str()
}

fn canonical_authorization(raw: &RawAuthorization) -> Result<Authorization, HeaderError> {
    Ok(Authorization {
        from: address("from", &raw.from)?,
        to: address("to", &raw.to)?,
        value: number("value", &raw.value)?,
        valid_after: number("validAfter", &raw.valid_after)?,
        valid_before: number("validBefore", &raw.valid_before)?,
        nonce: fixed(&raw.nonce).map(B256::from).map_or_else(
            || {
                shape(
                    "authorization.nonce is not 32 bytes in hexadecimal with the prefix 0x"
                        .to_owned(),
                )
            },
            Ok,
        )?,
    })
}

fn address(field: &str, text: &str) -> Result<Address, HeaderError> {
    fixed(text).map(Address::from).map_or_else(
        || shape(format!("authorization.{field} is not an address: 20 bytes in hexadecimal with the prefix 0x")),
        Ok,
    )
}

/// Exactly `N` bytes in hexadecimal. The parsers of alloy's types would accept a second prefix.
fn fixed<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(prefixed(text)?, &mut bytes).ok()?;
    Some(bytes)
}

/// A 256-bit number in decimal digits. Leading zeros are allowed.
fn number(field: &str, text: &str) -> Result<U256, HeaderError> {
    let valid =
        !text.is_empty() && text.len() <= 100 && text.bytes().all(|byte| byte.is_ascii_digit());
    valid
        .then(|| U256::from_str_radix(text, 10).ok())
        .flatten()
        .map_or_else(
            || {
                shape(format!(
                    "authorization.{field} is not a decimal number below 2^256"
                ))
            },
            Ok,
        )
}

fn signature_bytes(text: &str) -> Result<Bytes, HeaderError> {
    prefixed(text)
        .filter(|digits| digits.len() <= 2 * MAX_SIGNATURE_BYTES)
        .and_then(|digits| hex::decode(digits).ok())
        .map_or_else(
            || shape("payload.signature is not hexadecimal with the prefix 0x".to_owned()),
            |bytes| Ok(bytes.into()),
        )
}

fn prefixed(text: &str) -> Option<&str> {
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))
}
