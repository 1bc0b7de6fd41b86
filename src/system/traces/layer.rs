//! Collects the spans of traces from `tracing`, and queues those that have ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Subscriber, subscriber::Interest};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::{ENDS, ROOT};
use crate::system::clock::Timestamp;
use crate::system::metrics;
use crate::system::random::Randomness;

/// A span that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) name: &'static str,
    pub(super) trace: u128,
    pub(super) id: u64,
    pub(super) parent: Option<u64>,
    /// Nanoseconds since 1970.
    pub(super) began: u128,
    pub(super) end: u128,
    pub(super) attributes: Vec<(&'static str, Value)>,
}

/// A span that has begun, kept in the registry of `tracing`. Spans of a request that is not sampled
/// have none.
struct Begun {
    trace: u128,
    id: u64,
    parent: Option<u64>,
    began: Instant,
    ended: Option<Instant>,
    attributes: Fields,
}

/// The layer. It never waits: a span that finds the queue full is dropped and counted.
pub struct Layer {
    queue: Sender<Ended>,
    percent: u64,
    requests: AtomicU64,
    randomness: Randomness,
    /// One instant by both clocks.
    start: (Instant, Timestamp),
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Layer")
    }
}

impl Layer {
    pub(super) fn new(queue: Sender<Ended>, percent: u64, now: Timestamp) -> Self {
        Self {
            queue,
            percent,
            requests: AtomicU64::new(0),
            randomness: Randomness::system(),
            start: (Instant::now(), now),
        }
    }

    /// Whether the next request is traced. The traced ones are spread evenly.
    fn samples(&self) -> bool {
        let before = self.requests.fetch_add(1, Ordering::Relaxed) % 100;
        (before + 1) * self.percent / 100 > before * self.percent / 100
    }

    /// Nanoseconds since 1970.
    fn time_of(&self, at: Instant) -> u128 {
        let (instant, wall) = self.start;
        let wall = u128::try_from(wall.millis()).unwrap_or(0) * 1_000_000;
        wall + at.saturating_duration_since(instant).as_nanos()
    }

    fn trace_id(&self) -> u128 {
        (u128::from(self.randomness.number()) << 64) | u128::from(self.randomness.number())
    }
}

impl<S> tracing_subscriber::Layer<S> for Layer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> Interest {
        Interest::always()
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else {
            return;
        };
        let parent = span.parent().and_then(|parent| {
            let extensions = parent.extensions();
            let begun: &Begun = extensions.get()?;
            Some((begun.trace, begun.id))
        });
        let (trace, parent) = match parent {
            Some((trace, parent)) => (trace, Some(parent)),
            None if span.name() == ROOT && self.samples() => (self.trace_id(), None),
            // Work of a background job, or of a request that is not sampled.
            None => return,
        };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(Begun {
            trace,
            id: self.randomness.number(),
            parent,
            began: Instant::now(),
            ended: None,
            attributes: fields,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else {
            return;
        };
        if let Some(begun) = span.extensions_mut().get_mut::<Begun>() {
            values.record(&mut begun.attributes);
            if begun.attributes.has_ended {
                begun.ended.get_or_insert_with(Instant::now);
            }
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else {
            return;
        };
        let Some(begun) = span.extensions_mut().remove::<Begun>() else {
            return;
        };
        let ended = Ended {
            name: span.name(),
            trace: begun.trace,
            id: begun.id,
            parent: begun.parent,
            began: self.time_of(begun.began),
            end: self.time_of(begun.ended.unwrap_or_else(Instant::now)),
            attributes: begun.attributes.values,
        };
        if self.queue.try_send(ended).is_err() {
            metrics::spans("dropped", 1);
        }
    }
}

/// The fields of a span as OTLP writes values.
#[derive(Default)]
struct Fields {
    values: Vec<(&'static str, Value)>,
    has_ended: bool,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.values
            .push((field.name(), json!({"stringValue": value})));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.has_ended |= field.name() == ENDS;
        // OTLP writes 64-bit integers as text.
        self.values
            .push((field.name(), json!({"intValue": value.to_string()})));
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {
        // The spans have texts and numbers only.
    }
}
