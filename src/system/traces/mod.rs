//! Traces, sent to a collector by OTLP over HTTP (docs/operations.md).
//!
//! A trace begins with a request that reaches the router. Its spans are the stages of a payment,
//! calls to facilitators and nodes, operations of the store, and statements of the database. Their
//! attributes are those of the functions below and nothing else: no path, address or secret.
//!
//! The exporter is our own. OpenTelemetry for Rust (API, SDK, OTLP with its generated messages, and
//! the bridge to `tracing`) is nine more crates to compile, would not show dropped spans among our
//! metrics, and would need the same list of permitted attributes around it. The JSON form of OTLP
//! is a stable part of its specification.

use tracing::Span;
use tracing::field::Empty;

mod export;
mod layer;
#[cfg(test)]
mod tests;

pub use export::{Exporter, Sending};
pub use layer::Layer;

/// The target of the spans of traces. No log line shows them.
pub(super) const TARGET: &str = "otlp";
/// The name of spans that begin a trace.
const ROOT: &str = "request";
/// The name of the field that ends the span of a request: the response is there, even if a task of
/// the request goes on.
const ENDS: &str = "http.response.status_code";

/// The span of a request, which [`answered`] completes.
pub fn request(id: &str, method: &'static str) -> Span {
    tracing::trace_span!(
        target: TARGET,
        "request",
        request.id = id,
        http.request.method = method,
        http.route = Empty,
        pixtoll.tier = Empty,
        http.response.status_code = Empty,
    )
}

/// Adds the response to the span of its request.
pub fn answered(span: &Span, route: &str, tier: &str, status: u16) {
    span.record("http.route", route);
    span.record("pixtoll.tier", tier);
    span.record(ENDS, status);
}

/// The span of a stage of a payment: `admit`, `verify`, `store` or `settle`. It lasts until it is
/// dropped, and nobody may enter it: a task that is spawned in it would have no span for its log
/// lines.
pub fn payment(stage: &'static str) -> Span {
    tracing::trace_span!(target: TARGET, "payment", pixtoll.stage = stage)
}

pub(super) fn database(module: &'static str, kind: &'static str) -> Span {
    tracing::trace_span!(
        target: TARGET,
        "database",
        db.collection.name = module,
        db.operation.name = kind,
    )
}

pub(super) fn store(operation: &'static str) -> Span {
    tracing::trace_span!(target: TARGET, "store", pixtoll.operation = operation)
}

pub(super) fn facilitator(host: &str, call: &'static str) -> Span {
    tracing::trace_span!(
        target: TARGET,
        "facilitator",
        server.address = host,
        pixtoll.call = call,
    )
}

pub(super) fn node(host: &str) -> Span {
    tracing::trace_span!(target: TARGET, "node", server.address = host)
}
