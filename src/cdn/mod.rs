//! Cloudflare's API, as far as it drops images from the caches of a zone: by their cache tags and by
//! their URLs.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::CdnConfig;

/// The most tags or URLs that one call may name, on every plan.
pub const MOST_NAMES: usize = 30;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The longest time that an answer may ask to wait.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// A zone of Cloudflare.
pub struct Cdn {
    url: String,
    token: String,
    client: reqwest::Client,
}

/// Why nothing is known to be purged. The text never holds the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PurgeError {
    /// What the CDN answered, or why it didn't.
    pub message: String,
    /// How long it asked to wait.
    pub wait: Option<Duration>,
}

/// The part of an answer that is read.
#[derive(Deserialize)]
struct Answer {
    success: bool,
    #[serde(default)]
    errors: Vec<AnswerError>,
}

#[derive(Deserialize)]
struct AnswerError {
    code: i64,
    message: String,
}

impl std::fmt::Debug for Cdn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cdn({:?})", self.url)
    }
}

impl Cdn {
    /// Creates a client for a zone.
    ///
    /// # Errors
    /// No TLS client can be built.
    pub fn new(settings: &CdnConfig) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(settings.timeout)
            .no_proxy()
            .user_agent(concat!("pixtoll/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            url: format!(
                "{}/zones/{}/purge_cache",
                settings.api_url.trim_end_matches('/'),
                settings.zone
            ),
            token: settings.token.clone(),
            client,
        })
    }

    /// Drops everything with one of these tags, and everything at one of these URLs. The tags also
    /// reach what has further parameters in its URL; the URLs also reach what was cached before
    /// responses had tags.
    ///
    /// # Errors
    /// [`PurgeError`] if one of the two calls was not confirmed. Both can be repeated.
    pub async fn purge(&self, tags: &[String], urls: &[String]) -> Result<(), PurgeError> {
        for chunk in tags.chunks(MOST_NAMES) {
            self.call(&json!({ "tags": chunk })).await?;
        }
        for chunk in urls.chunks(MOST_NAMES) {
            self.call(&json!({ "files": chunk })).await?;
        }
        Ok(())
    }

    async fn call(&self, body: &Value) -> Result<(), PurgeError> {
        let sent = self
            .client
            .post(&self.url)
            .bearer_auth(&self.token)
            .json(body)
            .send()
            .await;
        let response = sent.map_err(|error| unheard(&error.without_url()))?;
        let status = response.status();
        let wait = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
        let answer = read(response).await?;
        match answer {
            Some(answer) if status.is_success() && answer.success => Ok(()),
            answer => Err(PurgeError {
                message: refusal(status, answer.as_ref()),
                wait,
            }),
        }
    }
}

/// Reads an answer. `None`: it isn't of the form of Cloudflare's API.
async fn read(mut response: reqwest::Response) -> Result<Option<Answer>, PurgeError> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| unheard(&error.without_url()))?
    {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(serde_json::from_slice(&body).ok())
}

fn unheard(error: &reqwest::Error) -> PurgeError {
    PurgeError {
        message: format!("the CDN did not answer: {error}"),
        wait: None,
    }
}

/// What the CDN answered in place of success: the status and the first error, shortened.
fn refusal(status: StatusCode, answer: Option<&Answer>) -> String {
    match answer.and_then(|answer| answer.errors.first()) {
        Some(AnswerError { code, message }) => {
            let message: String = message.chars().take(200).collect();
            format!("the CDN answered {status}: {message} ({code})")
        }
        None => format!("the CDN answered {status} without saying why"),
    }
}
