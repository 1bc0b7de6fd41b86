//! The facilitator's HTTP interface, x402 versions 1 and 2. As in the npm reference implementation, a rejected payment
//! is a response of status 200 with a reason.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use actix_web::web::{self, Bytes, Data, ServiceConfig};
use alloy_primitives::{Address, B256, Bytes as Hex, U256};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Refusal, SUBMITTER, Sandbox};
use crate::evm::exact::Authorization;

/// The largest request body that is read.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// The time that must be left of an authorization's validity, as in the npm facilitator: time for a block.
const MIN_TIME_LEFT: Duration = Duration::from_secs(6);
const SCHEME: &str = "exact";

const INVALID_PAYLOAD: &str = "invalid_payload";
const INVALID_REQUIREMENTS: &str = "invalid_payment_requirements";
const VALID_BEFORE: &str = "invalid_exact_evm_payload_authorization_valid_before";
const VALID_AFTER: &str = "invalid_exact_evm_payload_authorization_valid_after";
const SIGNATURE: &str = "invalid_exact_evm_payload_signature";

pub(super) fn routes(cfg: &mut ServiceConfig) {
    cfg.app_data(web::PayloadConfig::new(MAX_BODY_BYTES))
        .route("/supported", web::get().to(supported))
        .route("/verify", web::post().to(verify))
        .route("/settle", web::post().to(settle));
}

async fn supported(sandbox: Data<Sandbox>) -> HttpResponse {
    let network = sandbox.network();
    let kind = |version: u8, network: &str| {
        json!({
            "x402Version": version,
            "scheme": SCHEME,
            "network": network,
            "extra": {"playMoney": true, "note": "pixtoll sandbox: play money, worth nothing"},
        })
    };
    let mut kinds = vec![kind(2, network.caip2)];
    kinds.extend(network.v1_name.map(|name| kind(1, name)));
    HttpResponse::Ok().json(json!({
        "kinds": kinds,
        "extensions": [],
        "signers": {"eip155:*": [SUBMITTER.to_checksum(None)]},
    }))
}

async fn verify(sandbox: Data<Sandbox>, body: Result<Bytes, actix_web::Error>) -> HttpResponse {
    let Some(request) = read(body) else {
        return HttpResponse::BadRequest().json(json!({
            "isValid": false,
            "invalidReason": INVALID_PAYLOAD,
            "invalidMessage": UNREADABLE,
        }));
    };
    let mut answer = Map::new();
    answer.extend(
        request
            .payer()
            .map(|payer| ("payer".to_owned(), json!(payer))),
    );
    match simulate(&sandbox, &request).await {
        Ok(()) => answer.insert("isValid".to_owned(), json!(true)),
        Err(Refused::Because(reason)) => {
            tracing::info!(
                reason,
                "the sandbox rejected a play-money payment at verify"
            );
            answer.insert("invalidReason".to_owned(), json!(reason));
            answer.insert("isValid".to_owned(), json!(false))
        }
        Err(Refused::Failed) => return failed("unexpected_verify_error"),
    };
    HttpResponse::Ok().json(answer)
}

async fn settle(sandbox: Data<Sandbox>, body: Result<Bytes, actix_web::Error>) -> HttpResponse {
    let Some(request) = read(body) else {
        return HttpResponse::BadRequest().json(json!({
            "success": false,
            "errorReason": INVALID_PAYLOAD,
            "errorMessage": UNREADABLE,
            "transaction": "",
            "network": "",
        }));
    };
    let mut answer = Map::new();
    let transaction = match execute(&sandbox, &request).await {
        Ok(transaction) => {
            tracing::info!(%transaction, "the sandbox settled a play-money payment");
            transaction.to_string()
        }
        Err(Refused::Because(reason)) => {
            tracing::info!(
                reason,
                "the sandbox rejected a play-money payment at settle"
            );
            answer.insert("errorReason".to_owned(), json!(reason));
            String::new()
        }
        Err(Refused::Failed) => return failed("unexpected_settle_error"),
    };
    answer.insert("success".to_owned(), json!(!transaction.is_empty()));
    answer.insert("transaction".to_owned(), json!(transaction));
    answer.insert(
        "network".to_owned(),
        json!(request.network().unwrap_or_default()),
    );
    answer.extend(
        request
            .payer()
            .map(|payer| ("payer".to_owned(), json!(payer))),
    );
    HttpResponse::Ok().json(answer)
}

async fn simulate(sandbox: &Sandbox, request: &Request) -> Result<(), Refused> {
    let (authorization, _) = judge(sandbox, request)?;
    let chain = sandbox.clone();
    let work = async move { chain.simulate(&authorization).await };
    Ok(sandbox.see_through(work).await.ok_or(Refused::Failed)??)
}

async fn execute(sandbox: &Sandbox, request: &Request) -> Result<B256, Refused> {
    let (authorization, signature) = judge(sandbox, request)?;
    let chain = sandbox.clone();
    let work = async move { chain.execute(&authorization, &signature).await };
    Ok(sandbox.see_through(work).await.ok_or(Refused::Failed)??)
}

const UNREADABLE: &str = "The body must be JSON with x402Version, paymentPayload and \
    paymentRequirements, of 256 KiB at most.";

/// A parsed request. [`judge`] checks the content of the two documents.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    x402_version: i64,
    payment_payload: Map<String, Value>,
    payment_requirements: Map<String, Value>,
}

impl Request {
    fn payer(&self) -> Option<String> {
        let from = self
            .payment_payload
            .get("payload")?
            .pointer("/authorization/from")?
            .as_str()?;
        Some(from.parse::<Address>().ok()?.to_checksum(None))
    }

    /// The network in the spelling of the request.
    fn network(&self) -> Option<&str> {
        self.payment_requirements.get("network")?.as_str()
    }
}

fn read(body: Result<Bytes, actix_web::Error>) -> Option<Request> {
    serde_json::from_slice(&body.ok()?).ok()
}

/// Checks everything that needs no chain, in the order of the npm facilitator.
fn judge(sandbox: &Sandbox, request: &Request) -> Result<(Authorization, Hex), &'static str> {
    let amount_field = judge_terms(sandbox, request)?;
    let requirements = &request.payment_requirements;
    let amount = text(requirements, amount_field)
        .and_then(decimal)
        .ok_or(INVALID_REQUIREMENTS)?;
    let pay_to: Address = parsed(requirements, "payTo").ok_or(INVALID_REQUIREMENTS)?;
    let (authorization, signature) = read_payload(request).ok_or(INVALID_PAYLOAD)?;
    if !sandbox.is_signed_by_payer(&authorization, &signature) {
        return Err(SIGNATURE);
    }
    if authorization.to != pay_to {
        return Err("invalid_exact_evm_recipient_mismatch");
    }
    let now = sandbox.now_seconds();
    if authorization.valid_before < U256::from(now.saturating_add(MIN_TIME_LEFT.as_secs())) {
        return Err(VALID_BEFORE);
    }
    if authorization.valid_after > U256::from(now) {
        return Err(VALID_AFTER);
    }
    if authorization.value != amount {
        return Err("invalid_exact_evm_payload_authorization_value_mismatch");
    }
    Ok((authorization, signature))
}

/// Checks version, scheme, network and token. Returns the name of the field with the amount, which differs by version.
fn judge_terms(sandbox: &Sandbox, request: &Request) -> Result<&'static str, &'static str> {
    let network = sandbox.network();
    let requirements = &request.payment_requirements;
    if request.payment_payload.get("x402Version") != Some(&json!(request.x402_version)) {
        return Err("invalid_x402_version");
    }
    // Version 1 has these fields in the payload itself, version 2 in the accepted offer.
    let (own_network, chosen, amount_field) = match request.x402_version {
        1 => (
            network.v1_name,
            Some(&request.payment_payload),
            "maxAmountRequired",
        ),
        2 => {
            let accepted = request
                .payment_payload
                .get("accepted")
                .and_then(Value::as_object);
            (Some(network.caip2), accepted, "amount")
        }
        _ => return Err("invalid_x402_version"),
    };
    let chosen = chosen.ok_or(INVALID_PAYLOAD)?;
    if [chosen, requirements]
        .iter()
        .any(|document| text(document, "scheme") != Some(SCHEME))
    {
        return Err("unsupported_scheme");
    }
    if text(chosen, "network") != text(requirements, "network") {
        return Err("invalid_exact_evm_network_mismatch");
    }
    if text(requirements, "network") != own_network {
        return Err("invalid_network");
    }
    let extra = requirements.get("extra").and_then(Value::as_object);
    let domain = extra.and_then(|extra| Some((text(extra, "name")?, text(extra, "version")?)));
    let Some((name, version)) = domain else {
        return Err("invalid_exact_evm_missing_eip712_domain");
    };
    if name != network.domain_name {
        return Err("invalid_exact_evm_token_name_mismatch");
    }
    if version != network.domain_version {
        return Err("invalid_exact_evm_token_version_mismatch");
    }
    match parsed::<Address>(requirements, "asset") {
        None => Err(INVALID_REQUIREMENTS),
        Some(asset) if asset != network.usdc => Err("asset_not_deployed_contract"),
        Some(_) => Ok(amount_field),
    }
}

/// Parses an EIP-3009 payload. `None` for another one, such as Permit2's.
fn read_payload(request: &Request) -> Option<(Authorization, Hex)> {
    let payload = request.payment_payload.get("payload")?.as_object()?;
    let document = payload.get("authorization")?.as_object()?;
    let number = |name| text(document, name).and_then(decimal);
    let authorization = Authorization {
        from: parsed(document, "from")?,
        to: parsed(document, "to")?,
        value: number("value")?,
        valid_after: number("validAfter")?,
        valid_before: number("validBefore")?,
        nonce: parsed::<B256>(document, "nonce")?,
    };
    Some((authorization, parsed(payload, "signature")?))
}

fn text<'a>(document: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    document.get(name)?.as_str()
}

/// Parses a hex value, which must begin with 0x.
fn parsed<T: std::str::FromStr>(document: &Map<String, Value>, name: &str) -> Option<T> {
    text(document, name)
        .filter(|text| text.starts_with("0x"))?
        .parse()
        .ok()
}

fn decimal(text: &str) -> Option<U256> {
    let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_decimal {
        U256::from_str_radix(text, 10).ok()
    } else {
        None
    }
}

enum Refused {
    Because(&'static str),
    /// The sandbox itself failed, so the outcome of the payment is unknown.
    Failed,
}

impl From<&'static str> for Refused {
    fn from(reason: &'static str) -> Self {
        Self::Because(reason)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Because(match refusal {
            Refusal::Signature => SIGNATURE,
            Refusal::NotYetValid => VALID_AFTER,
            Refusal::Expired => VALID_BEFORE,
            Refusal::NonceUsed => "invalid_exact_evm_nonce_already_used",
            Refusal::InsufficientFunds => "insufficient_funds",
            Refusal::Unavailable(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the sandbox failed"
                );
                return Self::Failed;
            }
        })
    }
}

fn failed(error: &'static str) -> HttpResponse {
    HttpResponse::InternalServerError()
        .content_type(ContentType::json())
        .body(json!({"error": error}).to_string())
}

#[cfg(test)]
mod tests;
