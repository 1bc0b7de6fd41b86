//! The operator's scanner: a service that sees each new image before it is published, and before a
//! payment for it moves money (docs/blocks.md has its protocol).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::system::breaker::Breaker;
use crate::system::clock::Clock;
use crate::system::date_header::cause_of;

/// How many images are sent at the same time. Others wait, within their own time.
const MOST_AT_ONCE: usize = 16;
/// The largest answer that is read, in bytes.
const LARGEST_ANSWER: usize = 16 * 1024;
/// How much of a scanner's reason is logged, in characters.
const LONGEST_REASON: usize = 200;

/// What the scanner's silence means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSilence {
    /// The image is published.
    Publish,
    /// The image is refused, and nothing is charged.
    Refuse,
}

/// Where the scanner is, and how it is asked. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ScannerSettings {
    /// The URL of the scanner.
    pub url: String,
    /// The bearer token that is sent with each request.
    pub token: Option<String>,
    /// How long an upload waits for the scanner.
    pub timeout: Duration,
    /// What the scanner's silence means.
    pub on_silence: OnSilence,
}

impl std::fmt::Debug for ScannerSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a secret in its path or query.
        f.debug_struct("ScannerSettings")
            .field("timeout", &self.timeout)
            .field("on_silence", &self.on_silence)
            .finish_non_exhaustive()
    }
}

/// An image for the scanner.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The bytes that would be served.
    pub bytes: &'a Bytes,
    /// Their content type.
    pub content_type: &'static str,
    /// Their SHA-256, in hexadecimal.
    pub sha256: &'a str,
    /// The name of the tier.
    pub tier: &'a str,
}

/// What the scanner says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The image may be published.
    Allowed,
    /// The image is refused.
    Refused {
        /// Whether its content is to be blocked from now on.
        block: bool,
    },
    /// The scanner did not answer, and its silence means that the image is refused.
    Silent,
}

/// The answer of a scanner. Other fields are ignored.
#[derive(Debug, Deserialize)]
struct Answer {
    allow: bool,
    reason: Option<String>,
    #[serde(default)]
    block: bool,
}

/// The client of a scanner.
#[derive(Debug)]
pub struct Scanner {
    settings: ScannerSettings,
    client: reqwest::Client,
    places: Semaphore,
    breaker: Breaker,
    clock: Arc<dyn Clock>,
}

impl Scanner {
    /// Creates the client. Sends no request.
    ///
    /// # Errors
    /// When no TLS client can be built.
    pub fn new(settings: ScannerSettings, clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("pixtoll/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            settings,
            client,
            places: Semaphore::new(MOST_AT_ONCE),
            breaker: Breaker::default(),
            clock,
        })
    }

    /// Asks the scanner about an image, once. While the scanner is down, one image a second is sent
    /// to it, and no upload waits.
    pub async fn ask(&self, question: Question<'_>) -> Verdict {
        if !self.breaker.may_call(self.clock.uptime()) {
            return self.silent();
        }
        let asked = tokio::time::timeout(self.settings.timeout, self.send(question)).await;
        match asked.unwrap_or_else(|_| Err("it did not answer in time".to_owned())) {
            Ok(answer) => {
                self.breaker.note_answer();
                if answer.allow {
                    return Verdict::Allowed;
                }
                let reason = answer.reason.unwrap_or_default();
                let reason: String = reason.chars().take(LONGEST_REASON).collect();
                let (sha256, block) = (question.sha256, answer.block);
                tracing::info!(
                    image.sha256 = sha256,
                    reason,
                    block,
                    "the scanner refused an image"
                );
                Verdict::Refused { block }
            }
            Err(why) => {
                tracing::warn!(why, "the scanner gave no usable answer");
                if self.breaker.note_silence(self.clock.uptime()) {
                    tracing::error!(
                        on_silence = ?self.settings.on_silence,
                        "the scanner counts as down: one image a second is sent to it"
                    );
                }
                self.silent()
            }
        }
    }

    const fn silent(&self) -> Verdict {
        match self.settings.on_silence {
            OnSilence::Publish => Verdict::Allowed,
            OnSilence::Refuse => Verdict::Silent,
        }
    }

    async fn send(&self, question: Question<'_>) -> Result<Answer, String> {
        let closed = |_| "the server is stopping".to_owned();
        let _place = self.places.acquire().await.map_err(closed)?;
        let mut request = self
            .client
            .post(&self.settings.url)
            .header("content-type", question.content_type)
            .header("x-pixtoll-sha256", question.sha256)
            .header("x-pixtoll-tier", question.tier)
            .body(question.bytes.clone());
        if let Some(token) = &self.settings.token {
            request = request.bearer_auth(token);
        }
        let sent = request.send().await;
        let mut response = sent.map_err(|error| cause_of(&error.without_url()))?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(format!("its status is {status}, but 200 is needed"));
        }
        let mut body = Vec::new();
        while let Some(part) = response
            .chunk()
            .await
            .map_err(|error| cause_of(&error.without_url()))?
        {
            body.extend_from_slice(&part);
            if body.len() > LARGEST_ANSWER {
                return Err(format!("its answer has more than {LARGEST_ANSWER} bytes"));
            }
        }
        serde_json::from_slice(&body)
            .map_err(|error| format!("its answer is not {{\"allow\": true or false}}: {error}"))
    }
}
