//! Sends ended spans to the collector, in batches and in the background.

use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::layer::{Ended, Layer};
use super::{ENDS, ROOT};
use crate::system::clock::Timestamp;
use crate::system::metrics;

/// The most spans that wait to be sent. Further ones are dropped.
const QUEUE: usize = 8192;
/// The most spans of one request to the collector.
const BATCH: usize = 512;
/// How long a span waits for others.
const EVERY: Duration = Duration::from_secs(1);
/// How long the collector may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long the last spans may take when the server stops.
const LAST: Duration = Duration::from_secs(2);

/// The sender of spans.
#[derive(Debug)]
pub struct Exporter {
    queue: Receiver<Ended>,
    url: String,
    client: reqwest::Client,
}

/// The running sender.
#[derive(Debug)]
#[must_use]
pub struct Sending {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Exporter {
    /// Creates the sender to the collector at `endpoint`, and the layer that fills its queue with
    /// the spans of `percent` in 100 requests.
    ///
    /// # Errors
    /// When no HTTP client can be built.
    pub fn new(endpoint: &str, percent: u64, now: Timestamp) -> anyhow::Result<(Layer, Self)> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(ANSWER)
            .build()
            .context("the client for traces can't be built")?;
        let (sender, queue) = channel(QUEUE);
        let exporter = Self {
            queue,
            url: format!("{}/v1/traces", endpoint.trim_end_matches('/')),
            client,
        };
        Ok((Layer::new(sender, percent, now), exporter))
    }

    /// Begins to send, in a task of its own.
    pub fn start(self) -> Sending {
        let (stop, stopped) = oneshot::channel();
        Sending {
            stop,
            task: tokio::spawn(self.run(stopped)),
        }
    }

    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        let mut was_sent = true;
        loop {
            let is_over = tokio::select! {
                _ = &mut stopped => true,
                _ = ticks.tick() => false,
                received = self.queue.recv_many(&mut batch, BATCH) => {
                    if received > 0 && batch.len() < BATCH {
                        continue;
                    }
                    received == 0
                }
            };
            if is_over {
                while let Ok(ended) = self.queue.try_recv() {
                    batch.push(ended);
                }
            }
            while !batch.is_empty() {
                let rest = batch.split_off(batch.len().min(BATCH));
                self.send(&batch, &mut was_sent).await;
                batch = rest;
            }
            if is_over {
                return;
            }
        }
    }

    /// Sends one batch. A batch that fails is lost: the next one may be newer than the fault.
    async fn send(&self, batch: &[Ended], was_sent: &mut bool) {
        let request = self.client.post(&self.url).json(&document(batch));
        let problem = match request.send().await {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it responded with {}", answer.status().as_u16())),
            Err(error) => Some(error.without_url().to_string()),
        };
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        metrics::spans(if problem.is_none() { "sent" } else { "failed" }, count);
        match &problem {
            Some(why) if *was_sent => {
                tracing::warn!(
                    why,
                    "the collector at traces.otlp_endpoint takes no traces; they are lost until it does"
                );
            }
            None if !*was_sent => tracing::warn!("the collector takes traces again"),
            _ => {}
        }
        *was_sent = problem.is_none();
    }
}

impl Sending {
    /// Sends the spans that are left, for at most two seconds.
    pub async fn finish(self) {
        let Self { stop, task } = self;
        let abort = task.abort_handle();
        if stop.send(()).is_err() {
            tracing::debug!("the sender of traces has ended already");
        }
        if timeout(LAST, task).await.is_err() {
            abort.abort();
            tracing::warn!("the last traces were not sent in time");
        }
    }
}

/// A batch as OTLP writes it in JSON.
pub(super) fn document(batch: &[Ended]) -> Value {
    let spans: Vec<Value> = batch.iter().map(span).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "pixtoll"}},
            {"key": "service.version", "value": {"stringValue": env!("CARGO_PKG_VERSION")}},
        ]},
        "scopeSpans": [{"scope": {"name": "pixtoll"}, "spans": spans}],
    }]})
}

/// The numbers by which OTLP writes the kinds and states of spans.
const KIND_INTERNAL: u8 = 1;
const KIND_SERVER: u8 = 2;
const KIND_CLIENT: u8 = 3;
const STATUS_UNSET: u8 = 0;
const STATUS_ERROR: u8 = 2;

fn span(ended: &Ended) -> Value {
    let attributes: Vec<Value> = ended
        .attributes
        .iter()
        .map(|(key, value)| json!({"key": key, "value": value}))
        .collect();
    let status = ended.attributes.iter().find(|(key, _)| *key == ENDS);
    let is_failed = status
        .and_then(|(_, value)| value.get("intValue")?.as_str())
        .is_some_and(|status| status.starts_with('5'));
    let kind = match ended.name {
        ROOT => KIND_SERVER,
        "payment" => KIND_INTERNAL,
        _ => KIND_CLIENT,
    };
    let mut span = json!({
        "traceId": format!("{:032x}", ended.trace),
        "spanId": format!("{:016x}", ended.id),
        "name": ended.name,
        "kind": kind,
        "startTimeUnixNano": ended.began.to_string(),
        "endTimeUnixNano": ended.end.to_string(),
        "attributes": attributes,
        "status": {"code": if is_failed { STATUS_ERROR } else { STATUS_UNSET }},
    });
    if let (Some(parent), Some(fields)) = (ended.parent, span.as_object_mut()) {
        fields.insert("parentSpanId".to_owned(), format!("{parent:016x}").into());
    }
    span
}
