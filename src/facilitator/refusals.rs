//! The codes by which facilitators refuse a payment: what each says, and what it proves about the
//! money. The tables in docs/x402.md are made from this one.

mod other_schemes;

pub use other_schemes::OTHER_SCHEMES;

/// What a refusal of the first settle call proves about the money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proves {
    /// The facilitator refused before it sent a transaction, so no money moved.
    NothingMoved,
    /// The facilitator says that the transfer failed, in a transaction or on the way into one. Only
    /// the chain can confirm that.
    TransferFailed,
    /// The nonce is used or cancelled. Only the chain can tell for what.
    NonceUsed,
    /// A transaction was sent, or may have been, and its outcome is not known yet.
    Pending,
    /// Nothing: the code names no cause, or no cause that this server's payments can have.
    Unclear,
}

/// Where a code is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// In the API of Coinbase's facilitator: the enums `X402VerifyInvalidReason` and
    /// `X402SettleErrorReason` of the npm package `@coinbase/cdp-sdk` 1.57.
    Coinbase,
    /// In the npm packages `@x402/core` and `@x402/evm` 2.27.
    Npm,
    /// In both.
    Both,
    /// In the npm package `x402` 1.2, which facilitators of version 1 use.
    NpmV1,
    /// In docs/x402.md: pixtoll's own reasons, which no facilitator sends.
    Pixtoll,
}

/// A code and its facts.
#[derive(Debug, Clone, Copy)]
pub struct Refusal {
    /// The code, as it is published.
    pub code: &'static str,
    /// What it proves about the money, if the first settle call is refused by it.
    pub proves: Proves,
    /// The publication that lists the code.
    pub source: Source,
    /// What it means for the payer and what the payer can do, as one or more sentences.
    pub meaning: &'static str,
}

/// Finds a code, with or without the prefix of its scheme: facilitators write
/// `invalid_exact_evm_nonce_already_used` and `nonce_already_used`. `None`: nobody has published it.
pub fn find(code: &str) -> Option<&'static Refusal> {
    let exact = REFUSALS.iter().find(|known| known.code == code);
    exact.or_else(|| {
        let bare = bare(code);
        REFUSALS.iter().find(|known| self::bare(known.code) == bare)
    })
}

/// Whether the code is published, for any scheme.
pub fn is_known(code: &str) -> bool {
    find(code).is_some() || OTHER_SCHEMES.iter().any(|(known, _)| *known == code)
}

/// What a code means, as a sentence. Every text has one.
pub fn meaning(code: &str) -> &'static str {
    match find(code) {
        Some(known) => known.meaning,
        None if is_known(code) => OTHER_SCHEME,
        None => NO_REASON,
    }
}

/// A code without the prefix of the scheme `exact` on EVM networks, the only one that is sold for.
fn bare(code: &str) -> &str {
    let mut bare = code;
    for prefix in ["invalid_", "exact_evm_", "payload_"] {
        bare = bare.strip_prefix(prefix).unwrap_or(bare);
    }
    bare
}

const fn row(code: &'static str, proves: Proves, source: Source, meaning: &'static str) -> Refusal {
    Refusal {
        code,
        proves,
        source,
        meaning,
    }
}

const FUNDS: &str =
    "The payer has less USDC than the price. Add USDC on this network, or pay from another wallet.";
const SIGNATURE: &str =
    "The signature is not one of the payer. Sign the authorization with the key of its `from`.";
const SIGNATURE_FORM: &str =
    "The facilitator could not read the signature. Send it as hexadecimal with the prefix 0x.";
const TYPED_DATA: &str = "The signature is not of the authorization that was sent. Sign exactly the authorization in the payment.";
const VALID_BEFORE: &str = "The authorization ends too soon, has ended, or ends too late. Sign a new one with validBefore = now + maxTimeoutSeconds.";
const VALID_AFTER: &str = "The authorization is not valid yet. Sign a new one with validAfter = 0.";
const VALUE: &str = "The authorization is not of the price. Sign exactly the amount of the offer.";
const VALUE_LOW: &str =
    "The authorization is below the price. Sign exactly the amount of the offer.";
const RECIPIENT: &str =
    "The authorization pays another address. Sign a transfer to `payTo` of the offer.";
const SELF: &str = "The payer is the recipient. Pay from another wallet.";
const NETWORK: &str =
    "The payment is for another network than the offer. Sign for the network of the offer.";
const NO_NETWORK: &str =
    "The facilitator does not take this network. Sign another offer of this route.";
const TOKEN_NAME: &str = "The payment was signed for another name of the token. Sign with the name in `extra` of the offer.";
const TOKEN_VERSION: &str = "The payment was signed for another version of the token. Sign with the version in `extra` of the offer.";
const TOKEN: &str = "The token of the payment takes no authorizations on this network. Sign for the asset of the offer.";
const DOMAIN: &str = "The offer named no EIP-712 domain. Take a fresh offer from this route.";
const FACTORY: &str = "The facilitator does not deploy this kind of contract wallet. Deploy the wallet first, or pay from another one.";
const UNDEPLOYED: &str = "The payer is a contract wallet that is not deployed. Deploy the wallet first, or pay from another one.";
const SCHEME: &str =
    "The facilitator does not take this scheme. Sign an offer of the scheme `exact`.";
const VERSION: &str = "The facilitator does not take this version of x402. Use version 2.";
const PAYLOAD: &str =
    "The facilitator could not read the payment. Sign a new one for the offer of this route.";
const OFFER: &str = "The facilitator does not take the offer. Tell the operator of this server.";
const EXTENSION: &str = "An extension of the payment was changed. Send back the extensions of the challenge as they are.";
const SIMULATION: &str = "The transfer would fail on the chain. Check the balance of the payer, then sign a new payment.";
const CHECK: &str = "The facilitator could not check the payment. Sign a new payment later.";
const PAYER_KYT: &str =
    "The facilitator does not accept payments of this wallet. Pay from another wallet.";
const RECIPIENT_KYT: &str =
    "The facilitator does not accept payments to the recipient. Tell the operator of this server.";
const LOCATION: &str = "The facilitator does not accept payments from the location of the request.";
const FAILED: &str =
    "The transfer failed on the chain. Check the balance of the payer, then sign a new payment.";
const DEPLOYMENT: &str =
    "The contract wallet could not be deployed. Deploy the wallet first, or pay from another one.";
const NONCE: &str =
    "The nonce of the authorization is used. Sign a new authorization with a fresh nonce.";
const PENDING: &str = "The facilitator has not seen the outcome of the transfer yet.";
const DUPLICATE: &str = "The facilitator has received this payment more than once.";
const UNKNOWN: &str = "The facilitator failed and names no cause. Sign a new payment.";
const OTHER_SCHEME: &str = "The refusal is about another payment scheme than that of the offer. Take a fresh offer from this route, and sign an EIP-3009 authorization.";
const NO_REASON: &str = "The facilitator refused the payment and gave no reason that this server knows. Sign a new payment.";

use Proves::{NonceUsed, NothingMoved, Pending, TransferFailed, Unclear};
use Source::{Both as BOTH, Coinbase as CDP, Npm as NPM, NpmV1 as NPM1, Pixtoll as OWN};

/// Every code of the scheme `exact` on EVM networks that the sources list, and pixtoll's own
/// reasons.
///
/// A code proves [`NothingMoved`] only if the published facilitators return it before they send the
/// transfer: while they check the payment, or when the chain rejects the transfer before it is
/// sent.
#[rustfmt::skip]
pub const REFUSALS: &[Refusal] = &[
    row("insufficient_funds", NothingMoved, CDP, FUNDS),
    row("invalid_exact_evm_insufficient_balance", NothingMoved, BOTH, FUNDS),
    row("invalid_exact_evm_insufficient_funds", NothingMoved, CDP, FUNDS),
    row("invalid_exact_evm_payload_signature", NothingMoved, CDP, SIGNATURE),
    row("invalid_exact_evm_payload_signature_address", NothingMoved, CDP, SIGNATURE),
    row("invalid_exact_evm_signature", NothingMoved, BOTH, SIGNATURE),
    row("invalid_exact_evm_failed_to_parse_signature", NothingMoved, BOTH, SIGNATURE_FORM),
    row("invalid_exact_evm_payload_missing_signature", NothingMoved, CDP, SIGNATURE_FORM),
    row("invalid_exact_evm_signature_format", NothingMoved, CDP, SIGNATURE_FORM),
    row("invalid_exact_evm_payload_authorization_typed_data_message", NothingMoved, CDP, TYPED_DATA),
    row("invalid_exact_evm_payload_authorization_valid_before", NothingMoved, BOTH, VALID_BEFORE),
    row("invalid_exact_evm_payload_authorization_valid_after", NothingMoved, BOTH, VALID_AFTER),
    row("invalid_exact_evm_authorization_value", NothingMoved, BOTH, VALUE),
    row("invalid_exact_evm_payload_authorization_value", NothingMoved, CDP, VALUE),
    row("invalid_exact_evm_payload_authorization_value_mismatch", NothingMoved, BOTH, VALUE),
    row("invalid_exact_evm_payload_authorization_value_too_low", NothingMoved, CDP, VALUE_LOW),
    row("invalid_exact_evm_payload_recipient_mismatch", NothingMoved, CDP, RECIPIENT),
    row("invalid_exact_evm_recipient_mismatch", NothingMoved, BOTH, RECIPIENT),
    row("self_send_not_allowed", NothingMoved, CDP, SELF),
    row("invalid_exact_evm_network_mismatch", NothingMoved, BOTH, NETWORK),
    row("invalid_exact_evm_failed_to_get_network_config", NothingMoved, CDP, NO_NETWORK),
    row("invalid_network", NothingMoved, CDP, NO_NETWORK),
    row("invalid_exact_evm_token_name_mismatch", NothingMoved, BOTH, TOKEN_NAME),
    row("invalid_exact_evm_token_version_mismatch", NothingMoved, BOTH, TOKEN_VERSION),
    row("asset_not_deployed_contract", NothingMoved, NPM, TOKEN),
    row("invalid_exact_evm_eip3009_not_supported", NothingMoved, BOTH, TOKEN),
    row("invalid_exact_evm_extra_field", NothingMoved, CDP, DOMAIN),
    row("invalid_exact_evm_missing_eip712_domain", NothingMoved, BOTH, DOMAIN),
    row("eip6492_factory_not_allowed", NothingMoved, NPM, FACTORY),
    row("invalid_exact_evm_payload_undeployed_smart_wallet", NothingMoved, CDP, UNDEPLOYED),
    row("invalid_exact_evm_scheme", NothingMoved, BOTH, SCHEME),
    row("invalid_exact_evm_unsupported_scheme", NothingMoved, CDP, SCHEME),
    row("invalid_scheme", NothingMoved, CDP, SCHEME),
    row("unsupported_scheme", NothingMoved, NPM1, SCHEME),
    row("invalid_x402_version", NothingMoved, CDP, VERSION),
    row("invalid_exact_evm_payload", NothingMoved, CDP, PAYLOAD),
    row("invalid_payload", NothingMoved, CDP, PAYLOAD),
    row("unsupported_payload_type", NothingMoved, BOTH, PAYLOAD),
    row("amount_too_low", NothingMoved, CDP, OFFER),
    row("invalid_amount", NothingMoved, CDP, OFFER),
    row("invalid_exact_evm_required_amount", NothingMoved, CDP, OFFER),
    row("invalid_payment_requirements", NothingMoved, CDP, OFFER),
    row("extension_echo_mismatch", NothingMoved, NPM, EXTENSION),
    row("invalid_bazaar_extension", NothingMoved, CDP, EXTENSION),
    row("invalid_exact_evm_transaction_simulation_failed", NothingMoved, BOTH, SIMULATION),
    row("preflight_validation_failed", NothingMoved, CDP, SIMULATION),
    row("invalid_exact_evm_failed_to_check_deployment", NothingMoved, CDP, CHECK),
    row("invalid_exact_evm_failed_to_check_nonce", NothingMoved, CDP, CHECK),
    row("invalid_exact_evm_failed_to_get_balance", NothingMoved, CDP, CHECK),
    row("invalid_exact_evm_failed_to_verify_signature", NothingMoved, CDP, CHECK),
    row("invalid_exact_evm_verification_failed", NothingMoved, CDP, CHECK),
    row("invalid_exact_evm_payload_authorization_from_address_kyt", NothingMoved, CDP, PAYER_KYT),
    row("kyt_risk_detected", NothingMoved, CDP, PAYER_KYT),
    row("invalid_exact_evm_payload_authorization_to_address_kyt", NothingMoved, CDP, RECIPIENT_KYT),
    row("request_blocked_by_location", NothingMoved, CDP, LOCATION),
    row("invalid_exact_evm_failed_to_execute_transfer", TransferFailed, CDP, FAILED),
    row("invalid_exact_evm_transaction_failed", TransferFailed, BOTH, FAILED),
    row("invalid_exact_evm_transaction_state", TransferFailed, CDP, FAILED),
    row("invalid_exact_evm_transfer_event_mismatch", TransferFailed, NPM, FAILED),
    row("invalid_transaction_state", TransferFailed, NPM, FAILED),
    row("settle_exact_failed_onchain", TransferFailed, CDP, FAILED),
    row("smart_wallet_deployment_failed", TransferFailed, BOTH, DEPLOYMENT),
    row("invalid_exact_evm_nonce_already_used", NonceUsed, BOTH, NONCE),
    row("invalid_exact_evm_failed_to_get_receipt", Pending, CDP, PENDING),
    row("settle_exact_evm_transaction_confirmation_timed_out", Pending, CDP, PENDING),
    row("settle_exact_node_failure", Pending, CDP, PENDING),
    row("settlement_pending", Pending, BOTH, PENDING),
    row("duplicate_settlement", Unclear, CDP, DUPLICATE),
    row("unexpected_settle_error", Unclear, NPM1, UNKNOWN),
    row("unexpected_verify_error", Unclear, NPM1, UNKNOWN),
    row("unknown_error", Unclear, CDP, UNKNOWN),
    row("No matching payment requirements", Unclear, OWN, "The payment accepts an offer that this route does not make. Take a fresh offer from this route."),
    row("resource_mismatch", Unclear, OWN, "The payment names another resource. Take a fresh offer from this route."),
    row("payer_mismatch", Unclear, OWN, "The facilitator names another payer than the authorization. Tell the operator of this server."),
    row("authorization_canceled", Unclear, OWN, "The payer cancelled the authorization. Sign a new payment."),
    row("authorization_spent_elsewhere", Unclear, OWN, "The nonce of the authorization paid another recipient or amount. Sign a new authorization with a fresh nonce."),
    row("authorization_expired", Unclear, OWN, "The authorization ended before it was executed. Sign a new payment."),
];

#[cfg(test)]
mod tests;
