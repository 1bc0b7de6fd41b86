//! Interprets a server's response: what it means for the file and for the payment. No I/O.

use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::Failure;
use crate::model::ids::ImageId;
use crate::model::token::UploadToken;
use crate::x402::header::{MAX_HEADER_BYTES, PAYMENT_REQUIRED};

/// The largest response body that is read.
pub(super) const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// The longest delete token that is kept.
const MAX_DELETE_TOKEN_BYTES: usize = 200;
/// The most characters of a server's message that are shown.
const MAX_MESSAGE_CHARS: usize = 600;

/// The result of one attempt.
#[derive(Debug)]
pub(super) enum Answer {
    /// A complete response.
    Reply(Reply),
    /// No connection: the server received nothing of the request.
    Unreached,
    /// The connection broke or the time was up: the server may have carried out the request.
    Lost,
}

/// What a client needs to know of a tier before it uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierFacts {
    /// The largest image, in bytes.
    pub max_bytes: u64,
    /// Whether the price depends on the size of the image.
    pub is_by_size: bool,
}

/// A complete response.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) challenge: Option<Vec<u8>>,
    text: String,
    body: Value,
}

/// An uploaded image, as the server described it.
#[derive(Debug, Clone)]
pub struct Uploaded {
    /// The image's link.
    pub url: Url,
    /// The server's JSON in one line.
    pub json: String,
}

impl Uploaded {
    /// The id of an uploaded image and its delete token. `None`: the response holds none, such as that to a renewal.
    pub fn delete_token(&self) -> Option<(ImageId, String)> {
        let body: Value = serde_json::from_str(&self.json).ok()?;
        let text = |name| body.get(name).and_then(Value::as_str);
        let token = text("deleteToken").filter(|token| token.len() <= MAX_DELETE_TOKEN_BYTES)?;
        Some((ImageId::parse(text("id")?)?, token.to_owned()))
    }
}

impl Reply {
    pub(super) fn new(status: u16, headers: &reqwest::header::HeaderMap, body: &[u8]) -> Self {
        let retry_after = headers
            .get(reqwest::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let challenge = headers
            .get(PAYMENT_REQUIRED)
            .map(|value| value.as_bytes().to_owned())
            .filter(|bytes| bytes.len() <= MAX_HEADER_BYTES);
        let text = String::from_utf8_lossy(body).into_owned();
        let body = serde_json::from_str(&text).unwrap_or_default();
        Self {
            status,
            retry_after,
            challenge,
            text,
            body,
        }
    }

    /// Whether the server states that the payment moved no money and will not because of this request.
    pub(super) fn says_not_charged(&self) -> bool {
        self.body.get("charged") == Some(&Value::Bool(false))
    }

    /// The error code; empty when there is none.
    pub(super) fn code(&self) -> &str {
        self.body
            .get("error")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The image, when this is the response to a successful upload or renewal.
    pub(super) fn uploaded(&self) -> Option<Uploaded> {
        let url = self
            .body
            .get("url")
            .and_then(Value::as_str)
            .filter(|_| self.status == 200)?;
        let url = Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))?;
        // JSON has line breaks between its tokens only, so a space in their place changes nothing.
        Some(Uploaded {
            url,
            json: self.text.trim().replace(['\n', '\r'], " "),
        })
    }

    /// The token and the number of uploads left on it, when this is the response to buying one.
    pub(super) fn bought(&self) -> Option<(UploadToken, u64)> {
        let token = self.body.get("token").and_then(Value::as_str);
        let token = token.filter(|_| self.status == 200)?;
        let left = self.body.get("uploads").and_then(Value::as_u64)?;
        Some((UploadToken::parse(token)?, left))
    }

    /// A tier of the price table, when this is one.
    pub(super) fn tier(&self, tier: &str) -> Option<TierFacts> {
        let rows = self.body.get("tiers").and_then(Value::as_array)?;
        let row = rows
            .iter()
            .find(|row| row.get("name").and_then(Value::as_str) == Some(tier))?;
        Some(TierFacts {
            max_bytes: row.get("maxBytes").and_then(Value::as_u64)?,
            is_by_size: row.get("pricePerMib").is_some(),
        })
    }

    /// A value in the body, by its JSON pointer (RFC 6901).
    pub(super) fn get(&self, pointer: &str) -> Option<&Value> {
        self.body.pointer(pointer)
    }

    /// Whether the payment moved money, and the payer is asked to sign in for what it bought.
    pub(super) fn asks_to_claim(&self) -> bool {
        let action = self.body.pointer("/action/type").and_then(Value::as_str);
        self.code() == "payment_known"
            && self.body.get("charged") == Some(&Value::Bool(true))
            && action == Some("claim")
    }

    /// The failure for this refusal, which says `text`.
    pub(super) fn refused(&self, text: String) -> Failure {
        if self.code().is_empty() {
            return Failure::Usage(text);
        }
        Failure::Refused {
            code: plain(self.code()),
            action: self.body.get("action").cloned(),
            text,
        }
    }

    /// Whether the refusal is about the image: no other request with these bytes would succeed.
    pub(super) fn refuses_file(&self) -> bool {
        matches!(self.status, 400 | 403 | 413 | 415 | 422 | 451) && !self.refuses_payer()
    }

    /// Whether the refusal is about the payment or its payer.
    pub(super) fn refuses_payer(&self) -> bool {
        matches!(self.code(), "bad_payment" | "wallet_blocked") || self.status == 402
    }

    /// The server's message and its advice, without control characters.
    pub(super) fn explain(&self) -> String {
        let said = self
            .body
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let said = match plain(said) {
            said if said.is_empty() => {
                format!("The server responded with status {}.", self.status)
            }
            said => said,
        };
        match self.advice() {
            Some(advice) => format!("{said} {advice}"),
            None => said,
        }
    }

    /// The server's `action` as a sentence.
    fn advice(&self) -> Option<String> {
        let action = self.body.get("action")?;
        let link = action.get("url").and_then(Value::as_str).map(plain);
        match action.get("type").and_then(Value::as_str)? {
            "wait" => Some(
                match action.get("retryAfterSeconds").and_then(Value::as_u64) {
                    Some(seconds) => format!("Wait {seconds} s, then try again."),
                    None => "Try again later.".to_owned(),
                },
            ),
            "pay" if self.status == 429 => Some(match link {
                Some(link) => {
                    format!("Choose a paid tier with --tier ({link}), or try again later.")
                }
                None => "Try again later.".to_owned(),
            }),
            "retry" => Some("Run the same command again.".to_owned()),
            "resize" => Some("Make the image smaller.".to_owned()),
            "contact" => Some(match link {
                Some(link) => format!("Ask the operator: {link}"),
                None => "Ask the operator.".to_owned(),
            }),
            _ => link.map(|link| format!("See {link}")),
        }
    }
}

impl Answer {
    /// The response, when a complete one arrived.
    pub(super) fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Reply(reply) => Some(reply),
            Self::Unreached | Self::Lost => None,
        }
    }

    /// Whether the failure is temporary, so that the same request may succeed later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreached | Self::Lost => true,
            Self::Reply(reply) => {
                matches!(reply.status, 500 | 502 | 503 | 504)
                    // A limit without Retry-After may last for a day.
                    || (reply.status == 429 && reply.retry_after.is_some())
                    || matches!(reply.code(), "payment_in_progress" | "token_in_use" | "renewal_in_progress" | "incomplete_body")
            }
        }
    }

    /// How long the server asks to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Reply(reply) => reply.retry_after,
            Self::Unreached | Self::Lost => None,
        }
    }

    /// Whether the request's payment may have moved money. `before` says whether an earlier attempt may have. Only
    /// `charged: false` from the server settles that no money moved.
    pub(super) fn may_have_paid(&self, before: bool) -> bool {
        match self {
            Self::Unreached => before,
            Self::Lost => true,
            Self::Reply(reply) => !reply.says_not_charged(),
        }
    }

    /// [`Reply::explain`], or what happened instead of a response.
    pub(super) fn explain(&self) -> String {
        match self {
            Self::Reply(reply) => reply.explain(),
            Self::Unreached => "The server can't be reached.".to_owned(),
            Self::Lost => "The server did not respond in time, or the connection broke.".to_owned(),
        }
    }
}

/// Removes control characters from a server's text, which could move the cursor or rewrite a line.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(MAX_MESSAGE_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply::new(status, &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn only_charged_false_means_that_nothing_was_charged() {
        let refused = |body| Answer::Reply(reply(402, body)).may_have_paid(true);
        assert!(!refused(r#"{"charged":false}"#));
        for body in [
            r#"{"charged":null}"#,
            r#"{"charged":"false"}"#,
            r#"{"charged":0}"#,
            "{}",
            "<html>",
        ] {
            assert!(refused(body), "{body}");
        }
        assert!(Answer::Lost.may_have_paid(false));
        assert!(Answer::Unreached.may_have_paid(true) && !Answer::Unreached.may_have_paid(false));
    }

    #[test]
    fn a_link_is_an_http_link_in_one_line() {
        let body = "{\n \"url\": \"https://i.example.com/a.png\",\r\n \"id\": \"a\\nb\"}\n";
        let uploaded = reply(200, body).uploaded().unwrap();
        assert_eq!(uploaded.url.as_str(), "https://i.example.com/a.png");
        assert_eq!(uploaded.json.lines().count(), 1);
        assert_eq!(
            serde_json::from_str::<Value>(&uploaded.json).unwrap()["id"],
            "a\nb"
        );
        for bad in [
            r#"{"url":"javascript:alert(1)"}"#,
            r#"{"url":"/a.png"}"#,
            "{}",
            "[]",
            "",
        ] {
            assert!(reply(200, bad).uploaded().is_none(), "{bad}");
        }
        assert!(reply(201, body).uploaded().is_none());
    }

    #[test]
    fn a_refusal_shows_the_message_and_the_advice() {
        let body = r#"{"message":"Too\u001b[2J big.","action":{"type":"resize"}}"#;
        assert_eq!(
            reply(413, body).explain(),
            "Too[2J big. Make the image smaller."
        );
        let body = r#"{"message":"Full.","action":{"type":"wait","retryAfterSeconds":30}}"#;
        assert_eq!(
            reply(429, body).explain(),
            "Full. Wait 30 s, then try again."
        );
        assert_eq!(
            reply(502, "<html>").explain(),
            "The server responded with status 502."
        );
        let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(5000));
        assert_eq!(reply(400, &long).explain().len(), MAX_MESSAGE_CHARS);
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        for (asked, got) in [
            ("3", Some(3)),
            ("10", Some(10)),
            ("3600", Some(3600)),
            ("-1", None),
            ("soon", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("Retry-After", asked.parse().unwrap());
            let waits = Reply::new(503, &headers, b"").retry_after;
            assert_eq!(waits, got.map(Duration::from_secs));
        }
    }

    #[test]
    fn only_temporary_failures_are_retried() {
        for status in [500, 502, 503, 504] {
            assert!(Answer::Reply(reply(status, "")).is_passing());
        }
        assert!(Answer::Reply(reply(409, r#"{"error":"payment_in_progress"}"#)).is_passing());
        let limited = Answer::Reply(Reply {
            retry_after: Some(Duration::from_secs(3)),
            ..reply(429, "")
        });
        assert!(limited.is_passing());
        for status in [200, 302, 400, 402, 404, 409, 413, 429, 507] {
            assert!(!Answer::Reply(reply(status, "")).is_passing(), "{status}");
        }
    }
}
