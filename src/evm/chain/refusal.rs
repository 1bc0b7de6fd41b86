//! What the refusal of a node means: to wait, to repeat the call, or to ask differently.
//!
//! Nodes word refusals as they like, so codes and words of the common providers decide. A refusal
//! that is not recognised counts as passing: the call is repeated twice.

use std::time::Duration;

use alloy_json_rpc::ErrorPayload;
use reqwest::StatusCode;
use serde_json::Value;

/// The most characters of a node's message that are kept.
const MOST_CHARACTERS: usize = 200;
/// Words by which nodes refuse calls beyond a rate, besides those that alloy knows.
const RATE_WORDS: [&str; 9] = [
    "rate limit",
    "rate-limit",
    "ratelimit",
    "per second",
    "too many",
    "throttl",
    "capacity",
    "quota",
    "credits",
];
/// Words by which nodes refuse searches for logs in too many blocks, or with too many results.
const RANGE_WORDS: [&str; 6] = [
    "range",
    "results",
    "logs",
    "response size",
    "blocks",
    "timed out",
];
/// Words by which nodes refuse what they don't offer.
const UNKNOWN_WORDS: [&str; 8] = [
    "revert",
    "not supported",
    "unsupported",
    "invalid",
    "unknown block",
    "safe block",
    "finalized block",
    "does not exist",
];

/// The beginning of a message about a call that the contract rejected.
const REVERTED: &str = "error 3: ";

/// The kind of a failure, which decides what is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The node has had too many calls. It may have said how long to wait.
    Limited(Option<Duration>),
    /// The same call may succeed in a moment.
    Passing,
    /// The same call will fail again.
    Refused,
}

/// Why a call brought no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    /// Whether the node answered this call with a JSON-RPC error.
    pub(super) is_of_call: bool,
    /// For the log: what the node said, without URLs and keys.
    pub(super) message: String,
}

impl Failure {
    pub(super) fn passing(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Passing,
            is_of_call: false,
            message: message.into(),
        }
    }

    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Refused,
            is_of_call: false,
            message: message.into(),
        }
    }

    /// Whether only the code of the refusal says that there were too many calls. Some nodes refuse
    /// ranges by the same code.
    pub(super) fn is_vague_limit(&self) -> bool {
        self.is_limit() && !contains(&self.message.to_ascii_lowercase(), &RATE_WORDS)
    }

    /// Whether the contract rejected the call.
    pub(super) fn is_revert(&self) -> bool {
        self.is_of_call && (self.message.contains("revert") || self.message.starts_with(REVERTED))
    }

    pub(super) fn is_limit(&self) -> bool {
        matches!(self.kind, Kind::Limited(_))
    }
}

/// Reads the `error` of a JSON-RPC answer.
pub(super) fn of_error(error: &Value, secrets: &[String]) -> Failure {
    let code = error.get("code").and_then(Value::as_i64).unwrap_or(0);
    let said = error.get("message").and_then(Value::as_str);
    let said = said.map_or_else(|| error.to_string(), str::to_owned);
    Failure {
        kind: kind_of_error(code, &said),
        is_of_call: true,
        message: format!("error {code}: {}", clean(&said, secrets)),
    }
}

/// Reads an HTTP answer without success, whose body is not a JSON-RPC answer.
pub(super) fn of_status(
    status: StatusCode,
    wait: Option<Duration>,
    body: &str,
    secrets: &[String],
) -> Failure {
    let lower = body.to_ascii_lowercase();
    let kind = match status.as_u16() {
        429 => Kind::Limited(wait),
        _ if contains(&lower, &RATE_WORDS) => Kind::Limited(wait),
        _ if status.is_server_error() && wait.is_some() => Kind::Limited(wait),
        408 | 425 => Kind::Passing,
        _ if status.is_client_error() => Kind::Refused,
        _ => Kind::Passing,
    };
    let said = clean(body, secrets);
    let message = if said.is_empty() {
        format!("HTTP status {}", status.as_u16())
    } else {
        format!("HTTP status {}: {said}", status.as_u16())
    };
    Failure {
        kind,
        is_of_call: false,
        message,
    }
}

fn kind_of_error(code: i64, said: &str) -> Kind {
    let lower = said.to_ascii_lowercase();
    // Infura limits rates by this code, and others refuse ranges by it.
    if code == -32005 && !contains(&lower, &RATE_WORDS) && contains(&lower, &RANGE_WORDS) {
        return Kind::Refused;
    }
    let is_known = ErrorPayload::<Value> {
        code,
        message: lower.clone().into(),
        data: None,
    }
    .is_retry_err();
    if lower.contains("header not found") {
        return Kind::Passing;
    }
    if is_known || contains(&lower, &RATE_WORDS) {
        return Kind::Limited(None);
    }
    match code {
        3 | -32600 | -32601 | -32602 | -39001 => Kind::Refused,
        _ if contains(&lower, &UNKNOWN_WORDS) => Kind::Refused,
        _ => Kind::Passing,
    }
}

fn contains(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

/// What a node said, in one short line: without URLs, and without the parts of its own URL that may
/// be an operator's key.
pub(super) fn clean(said: &str, secrets: &[String]) -> String {
    let mut text = said.to_owned();
    for secret in secrets {
        text = text.replace(secret.as_str(), "…");
    }
    let words = text.split_whitespace();
    let words: Vec<&str> = words
        .map(|word| if word.contains("://") { "…" } else { word })
        .collect();
    let words = words.iter().map(|word| word.replace(char::is_control, ""));
    let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
    let short: String = words.join(" ").chars().take(MOST_CHARACTERS).collect();
    short
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_of_known_providers_are_recognised() {
        let limited = Kind::Limited(None);
        let table = [
            (-32005, "limit exceeded", limited),
            (
                -32005,
                "daily request count exceeded, request rate limited",
                limited,
            ),
            (
                429,
                "Your app has exceeded its compute units per second capacity.",
                limited,
            ),
            (
                -32007,
                "50/second request limit reached - reduce calls per second",
                limited,
            ),
            (-32016, "over rate limit", limited),
            (-32000, "Too Many Requests", limited),
            (
                -32005,
                "query returned more than 10000 results",
                Kind::Refused,
            ),
            (
                -32600,
                "You can make eth_getLogs requests with up to a 10 block range.",
                Kind::Refused,
            ),
            (-32602, "block range too large", Kind::Refused),
            (
                -32601,
                "the method eth_getBlockReceipts does not exist",
                Kind::Refused,
            ),
            (-39001, "Unknown block", Kind::Refused),
            (-32000, "safe block not found", Kind::Refused),
            (3, "execution reverted", Kind::Refused),
            (-32000, "execution reverted: paused", Kind::Refused),
            (-32000, "header not found", Kind::Passing),
            (-32603, "Internal error", Kind::Passing),
            (
                -32001,
                "Unable to complete request at this time",
                Kind::Passing,
            ),
        ];
        for (code, message, kind) in table {
            let failure = of_error(&json!({"code": code, "message": message}), &[]);
            assert_eq!(failure.kind, kind, "{code} {message}");
        }
        let wait = Some(Duration::from_secs(2));
        let statuses = [
            (429, wait, "", Kind::Limited(wait)),
            (503, wait, "", Kind::Limited(wait)),
            (503, None, "", Kind::Passing),
            (403, None, "rate limit reached", Kind::Limited(None)),
            (403, None, "", Kind::Refused),
            (413, None, "", Kind::Refused),
            (502, None, "<html>", Kind::Passing),
        ];
        for (status, wait, body, kind) in statuses {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(of_status(status, wait, body, &[]).kind, kind, "{status}");
        }
    }

    #[test]
    fn a_message_is_one_short_line_without_urls_and_keys() {
        let secrets = ["c0ffee11".to_owned()];
        let said = "Key c0ffee11 is unknown:\n see https://node.example/v2/c0ffee11 \u{7} now";
        assert_eq!(clean(said, &secrets), "Key … is unknown: see … now");
        assert_eq!(clean(&"x".repeat(500), &[]).len(), MOST_CHARACTERS);
    }
}
