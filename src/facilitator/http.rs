//! The HTTP client for facilitators. It bounds time and size of answers, follows no redirects, and
//! decides how answers are read.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::{Address, B256};
use reqwest::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::refusals::{self, Proves};
use super::{Call, Facilitator, Kind, SettleOutcome, VerifyOutcome};
use crate::facilitator::coinbase::CdpKey;
use crate::system::breaker::Breaker;
use crate::system::clock::{Clock, Timestamp};
use crate::system::date_header::{cause_of, date_of};
use crate::system::metrics;
use crate::system::random::Randomness;
use crate::x402::wire::{SettlementResponse, VerifyResponse};

/// The largest answer that is read, in bytes. A larger one counts as none.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// How many calls run at the same time. Further calls wait.
const MAX_CALLS: usize = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How many codes that no source lists are reported in the log.
const MOST_REPORTED: usize = 32;

/// A facilitator with a base URL.
#[derive(Debug)]
pub struct HttpFacilitator {
    name: &'static str,
    base_url: String,
    /// The host of the URL, for metrics.
    host: Arc<str>,
    credentials: Credentials,
    client: reqwest::Client,
    calls: Semaphore,
    breaker: Breaker,
    reported: Mutex<BTreeSet<String>>,
    clock: Arc<dyn Clock>,
}

/// How requests to a facilitator are authenticated. `Debug` shows no secret.
pub enum Credentials {
    /// Not at all: the facilitator is public.
    None,
    /// The same bearer token with every request.
    Bearer(String),
    /// A new JWT for each request to Coinbase's facilitator.
    Cdp {
        /// The API key that signs the JWT.
        key: Arc<CdpKey>,
        /// The source of the JWT's nonce.
        randomness: Randomness,
    },
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Bearer(_) => "Bearer",
            Self::Cdp { .. } => "Cdp",
        })
    }
}

/// The answer to `GET /supported`. Other fields are ignored.
#[derive(Debug, Deserialize)]
struct Supported {
    kinds: Vec<Kind>,
}

/// Why a call returned no usable answer.
#[derive(Debug)]
struct NoAnswer(String);

impl HttpFacilitator {
    /// Creates a client for the facilitator at `base_url`, which the ledger records as `name`.
    ///
    /// # Errors
    /// No TLS client can be built.
    pub fn new(
        name: &'static str,
        base_url: &str,
        credentials: Credentials,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .user_agent(concat!("pixtoll/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let base_url = base_url.trim_end_matches('/').to_owned();
        Ok(Self {
            name,
            host: metrics::host_of(&base_url),
            base_url,
            credentials,
            client,
            calls: Semaphore::new(MAX_CALLS),
            breaker: Breaker::default(),
            reported: Mutex::default(),
            clock,
        })
    }

    /// The `Authorization` header of a request to `path`; `None` without credentials.
    fn authorization(&self, method: &Method, path: &str) -> Option<String> {
        match &self.credentials {
            Credentials::None => None,
            Credentials::Bearer(word) => Some(format!("Bearer {word}")),
            Credentials::Cdp { key, randomness } => {
                let (_, host_and_path) = self.base_url.split_once("://")?;
                let target = format!("{host_and_path}/{path}");
                let token = key.token(
                    method.as_str(),
                    &target,
                    self.clock.now(),
                    randomness.bytes(),
                );
                Some(format!("Bearer {token}"))
            }
        }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let authorization = self.authorization(&method, path);
        let request = self
            .client
            .request(method, format!("{}/{path}", self.base_url));
        match authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        }
    }

    /// Sends one call, and returns the status and the body of the answer.
    async fn post(
        &self,
        path: &str,
        body: &str,
        limit: Duration,
    ) -> Result<(u16, Vec<u8>), NoAnswer> {
        let deadline = tokio::time::Instant::now() + limit;
        let call = async {
            let _place = self
                .calls
                .acquire()
                .await
                .map_err(|_| NoAnswer("stopping".to_owned()))?;
            let response = self
                .request(Method::POST, path)
                .header("content-type", "application/json")
                .body(body.to_owned())
                .send()
                .await
                // The error may name the URL, which may hold an operator's key. It never holds the
                // body.
                .map_err(|error| NoAnswer(error.without_url().to_string()))?;
            let status = response.status().as_u16();
            read_bounded(response).await.map(|body| (status, body))
        };
        timeout_at(deadline, call)
            .await
            .unwrap_or_else(|_| Err(NoAnswer(format!("no answer within {limit:?}"))))
    }

    /// Sends one call and reads the JSON of its answer.
    async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &str,
        limit: Duration,
    ) -> Result<(u16, T), NoAnswer> {
        let (status, answer) = self.post(path, body, limit).await?;
        serde_json::from_slice(&answer)
            .map(|answer| (status, answer))
            .map_err(|_| {
                NoAnswer(format!(
                    "status {status} with a body that is not an answer to {path}"
                ))
            })
    }
}

/// Ends the measure of a call that was answered: by success, by a refusal, or by neither.
fn end(measured: metrics::Call, is_success: bool, refusal: Option<&str>) {
    if is_success {
        measured.ended("ok", None);
    } else if let Some(text) = refusal {
        let known = refusals::find(&reason(Some(text)));
        measured.ended("refused", Some(known.map_or(metrics::OTHER, |it| it.code)));
    } else {
        measured.ended("failed", None);
    }
}

async fn read_bounded(mut response: reqwest::Response) -> Result<Vec<u8>, NoAnswer> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| NoAnswer(error.without_url().to_string()))?
    {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(NoAnswer(format!(
                "an answer of more than {MAX_ANSWER_BYTES} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[async_trait::async_trait]
impl Facilitator for HttpFacilitator {
    fn name(&self) -> &'static str {
        self.name
    }

    /// Calls verify, and repeats it once without an answer, since verify moves no money. While the
    /// circuit breaker is open, only one call a second is made.
    async fn verify(&self, call: Call<'_>, timeout: Duration) -> VerifyOutcome {
        let started = Instant::now();
        let mut why = "it counts as down after ten calls without an answer".to_owned();
        for _ in 0..2 {
            if !self.breaker.may_call(self.clock.uptime()) {
                break;
            }
            let left = timeout.saturating_sub(started.elapsed());
            let measured = metrics::facilitator(self.name, &self.host, "verify");
            match self.ask::<VerifyResponse>("verify", call.body, left).await {
                Ok((status, answer)) => {
                    let is_refusal = !answer.is_valid && status < 500;
                    let refusal = answer.invalid_reason.as_deref();
                    end(measured, answer.is_valid, refusal.filter(|_| is_refusal));
                    // Whatever it says: a facilitator that speaks the protocol is not down.
                    self.breaker.note_answer();
                    if answer.is_valid || status < 500 {
                        return self.read_verify(&answer);
                    }
                    // As with settle, a refusal with a 5xx status is a fault of the facilitator and
                    // no answer.
                    why = format!("isValid is false, but the status is {status}");
                }
                Err(NoAnswer(reason)) => {
                    measured.ended("failed", None);
                    why = reason;
                    self.note_silence(&call, &why);
                }
            }
        }
        VerifyOutcome::NoAnswer { why }
    }

    async fn settle(&self, call: Call<'_>, timeout: Duration) -> SettleOutcome {
        let measured = metrics::facilitator(self.name, &self.host, "settle");
        match self
            .ask::<SettlementResponse>("settle", call.body, timeout)
            .await
        {
            Ok((status, answer)) => {
                let refusal = answer.error_reason.as_deref();
                end(measured, answer.success, refusal.filter(|_| status < 500));
                self.breaker.note_answer();
                if !answer.success {
                    self.report("settle", &reason(answer.error_reason.as_deref()));
                }
                read_settle(status, &answer, &call)
            }
            Err(NoAnswer(why)) => {
                measured.ended("failed", None);
                self.note_silence(&call, &why);
                SettleOutcome::Unclear {
                    why,
                    refusal: None,
                    transaction: None,
                }
            }
        }
    }

    async fn supported(&self, timeout: Duration) -> Result<Vec<Kind>, String> {
        let deadline = Instant::now() + timeout;
        let mut pause = Duration::from_secs(1);
        loop {
            let answer = timeout_at(deadline, self.get_supported())
                .await
                .map_err(|_| format!("no answer within {timeout:?}"))??;
            match answer {
                Listed::Kinds(kinds) => return Ok(kinds),
                Listed::Later(asked) => {
                    let resume = Instant::now() + asked.unwrap_or(pause);
                    if resume >= deadline {
                        return Err("it responded with 429: too many requests".to_owned());
                    }
                    tokio::time::sleep_until(resume).await;
                    pause = pause.saturating_mul(2);
                }
            }
        }
    }

    async fn date(&self, timeout: Duration) -> Result<Timestamp, String> {
        let request = self.request(Method::GET, "supported").timeout(timeout);
        let answer = request.send().await.map_err(|error| cause_of(&error))?;
        date_of(&answer)
    }
}

/// The outcome of `GET /supported`.
enum Listed {
    Kinds(Vec<Kind>),
    /// 429, with the time of `Retry-After` if the answer has one.
    Later(Option<Duration>),
}

impl HttpFacilitator {
    /// Counts a call without an answer, unless the payment's signature is a contract's: a contract
    /// can answer the server's node and the facilitator differently, so it could make the
    /// facilitator fail at will.
    fn note_silence(&self, call: &Call<'_>, why: &str) {
        if call.is_signed_by_key() && self.breaker.note_silence(self.clock.uptime()) {
            tracing::error!(
                facilitator = self.name,
                why,
                "the facilitator is down: new payments are rejected without a charge, and it is called once a second"
            );
        }
    }

    fn read_verify(&self, answer: &VerifyResponse) -> VerifyOutcome {
        if answer.is_valid {
            let payer = answer
                .payer
                .as_deref()
                .and_then(|payer| Address::from_str(payer).ok());
            return VerifyOutcome::Valid { payer };
        }
        let reason = reason(answer.invalid_reason.as_deref());
        self.report("verify", &reason);
        VerifyOutcome::Invalid { reason }
    }

    /// Logs a code that no source lists, once, so that it can be added to the table.
    fn report(&self, call: &str, code: &str) {
        if code == UNSPECIFIED || refusals::is_known(code) {
            return;
        }
        let is_new = {
            let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            reported.len() < MOST_REPORTED && reported.insert(code.to_owned())
        };
        if is_new {
            tracing::warn!(
                facilitator = self.name,
                call,
                code,
                "the facilitator refused a payment by a code that pixtoll does not know; please report the code and the facilitator to pixtoll's authors"
            );
        }
    }

    async fn get_supported(&self) -> Result<Listed, String> {
        let response = self
            .request(Method::GET, "supported")
            .send()
            .await
            .map_err(|error| error.without_url().to_string())?;
        let status = response.status().as_u16();
        if status == 429 {
            let asked = response
                .headers()
                .get("retry-after")
                .and_then(|value| value.to_str().ok()?.parse().ok())
                .map(Duration::from_secs);
            return Ok(Listed::Later(asked));
        }
        let body = read_bounded(response).await.map_err(|error| error.0)?;
        if matches!(status, 401 | 403) {
            return Err(format!(
                "it responded with {status}: it rejects the credentials"
            ));
        }
        serde_json::from_slice::<Supported>(&body)
            .map(|supported| Listed::Kinds(supported.kinds))
            .map_err(|_| format!("status {status} with a body that lists no kinds"))
    }
}

/// Reads an answer to settle. Only an explicit success with a plausible transaction hash, or an
/// explicit refusal by a code that proves that nothing moved, is clear.
fn read_settle(status: u16, answer: &SettlementResponse, call: &Call<'_>) -> SettleOutcome {
    let transaction = B256::from_str(&answer.transaction)
        .ok()
        .filter(|hash| !hash.is_zero());
    let reason = reason(answer.error_reason.as_deref());
    if answer.success {
        let other_network = !answer.network.is_empty()
            && answer.network != call.network.caip2
            && Some(answer.network.as_str()) != call.network.v1_name;
        let other_payer = answer
            .payer
            .as_deref()
            .and_then(|payer| Address::from_str(payer).ok())
            .is_some_and(|payer| payer != call.payer);
        return match transaction {
            Some(transaction) if !other_network && !other_payer && status < 500 => {
                SettleOutcome::Success { transaction }
            }
            _ => SettleOutcome::Unclear {
                why: "success without a plausible transaction, network and payer".to_owned(),
                refusal: None,
                transaction,
            },
        };
    }
    let proves = refusals::find(&reason).map_or(Proves::Unclear, |known| known.proves);
    if proves == Proves::NothingMoved && answer.transaction.is_empty() && status < 500 {
        return SettleOutcome::Refused { reason };
    }
    SettleOutcome::Unclear {
        why: format!("success false, {reason}, status {status}"),
        refusal: (proves != Proves::Pending).then_some(reason),
        transaction,
    }
}

/// The reason of a refusal that names none.
const UNSPECIFIED: &str = "unspecified";

/// A facilitator's reason as it is logged, stored and returned: a short code, or a replacement for
/// anything else. Some facilitators append a message to a code, after a colon.
fn reason(text: Option<&str>) -> String {
    let text = text.unwrap_or(UNSPECIFIED);
    let head = text.split(':').next().unwrap_or(text).trim();
    let text = if refusals::is_known(head) { head } else { text };
    let code: String = text
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.'))
        .take(80)
        .collect();
    // A word this long could be a key or a signature that the facilitator sent back.
    let opaque = code.split(['_', '-', '.']).any(|word| word.len() > 24);
    if code.is_empty() || opaque {
        UNSPECIFIED.to_owned()
    } else {
        code
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Bytes;

    use super::*;
    use crate::pricing::networks::BASE_SEPOLIA;

    const HASH: &str = "0xcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";
    const ZERO: &str = "0x0000000000000000000000000000000000000000000000000000000000000000";
    const PAYER: Address = Address::repeat_byte(1);

    /// Names the outcome that [`read_settle`] reads from an answer.
    fn reads(status: u16, answer: &str) -> &'static str {
        let call = Call {
            body: "",
            network: &BASE_SEPOLIA,
            payer: PAYER,
            digest: B256::ZERO,
            signature: &Bytes::new(),
        };
        let Ok(answer) = serde_json::from_str(answer) else {
            return "unreadable";
        };
        match read_settle(status, &answer, &call) {
            SettleOutcome::Success { .. } => "success",
            SettleOutcome::Refused { .. } => "refused",
            SettleOutcome::Unclear {
                transaction: Some(_),
                ..
            } => "unclear with transaction",
            SettleOutcome::Unclear {
                transaction: None, ..
            } => "unclear",
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table, one answer a row")]
    fn only_a_plausible_success_and_a_listed_refusal_decide() {
        let other = Address::repeat_byte(2);
        let cases = [
            (
                200,
                format!(r#"{{"success":true,"transaction":"{HASH}"}}"#),
                "success",
            ),
            (
                200,
                format!(
                    r#"{{"success":true,"transaction":"{HASH}","network":"base-sepolia","payer":"{PAYER}"}}"#
                ),
                "success",
            ),
            (
                200,
                format!(r#"{{"success":true,"transaction":"{HASH}","network":"eip155:8453"}}"#),
                "unclear with transaction",
            ),
            (
                200,
                format!(r#"{{"success":true,"transaction":"{HASH}","payer":"{other}"}}"#),
                "unclear with transaction",
            ),
            (
                500,
                format!(r#"{{"success":true,"transaction":"{HASH}"}}"#),
                "unclear with transaction",
            ),
            (
                200,
                format!(r#"{{"success":true,"transaction":"{ZERO}"}}"#),
                "unclear",
            ),
            (
                200,
                r#"{"success":true,"transaction":""}"#.to_owned(),
                "unclear",
            ),
            (200, r#"{"success":true}"#.to_owned(), "unclear"),
            (
                200,
                r#"{"success":false,"errorReason":"insufficient_funds"}"#.to_owned(),
                "refused",
            ),
            (
                400,
                r#"{"success":false,"error_reason":"insufficient_funds","transaction":""}"#
                    .to_owned(),
                "refused",
            ),
            (
                500,
                r#"{"success":false,"errorReason":"insufficient_funds"}"#.to_owned(),
                "unclear",
            ),
            (
                200,
                format!(
                    r#"{{"success":false,"errorReason":"insufficient_funds","transaction":"{HASH}"}}"#
                ),
                "unclear with transaction",
            ),
            (
                200,
                r#"{"success":false,"errorReason":"invalid_exact_evm_nonce_already_used"}"#
                    .to_owned(),
                "unclear",
            ),
            (
                200,
                r#"{"success":false,"errorReason":"something_new"}"#.to_owned(),
                "unclear",
            ),
            (200, r#"{"success":false}"#.to_owned(), "unclear"),
            (
                200,
                format!(
                    r#"{{"success":false,"errorReason":"settlement_pending","transaction":"{HASH}"}}"#
                ),
                "unclear with transaction",
            ),
            (
                200,
                r#"{"success":"false","errorReason":"insufficient_funds"}"#.to_owned(),
                "unreadable",
            ),
        ];
        for (status, answer, expected) in cases {
            assert_eq!(reads(status, &answer), expected, "{status} {answer}");
        }
    }

    #[test]
    fn a_refusal_with_an_invalid_transaction_hash_is_unclear() {
        let answer = r#"{"success":false,"errorReason":"insufficient_funds","transaction":"0x12"}"#;
        assert_eq!(reads(200, answer), "unclear");
    }

    #[test]
    fn a_reason_is_a_short_code_or_nothing() {
        assert_eq!(reason(Some("insufficient_funds")), "insufficient_funds");
        assert_eq!(reason(None), "unspecified");
        let with_message = "invalid_exact_evm_transaction_failed: execution reverted";
        assert_eq!(
            reason(Some(with_message)),
            "invalid_exact_evm_transaction_failed"
        );
        assert_eq!(reason(Some("<b>no</b> 'funds'")), "bnobfunds");
        assert_eq!(
            reason(Some(&format!("0x{}", "ab".repeat(65)))),
            "unspecified"
        );
    }
}
