//! Calls to the ports, measured from their beginning to their end.

use std::sync::Arc;
use std::time::Instant;

use tracing::Span;

use super::{METRICS, OTHER, labels};
use crate::system::traces;

/// An operation that is measured from now until it is dropped or ended: for the histogram of its
/// kind, and as a span of the current trace.
#[derive(Debug)]
#[must_use]
pub struct Call {
    started: Instant,
    kind: Kind,
    _span: Span,
}

#[derive(Debug, Clone)]
enum Kind {
    Statement(labels::Statement),
    Store(labels::Operation),
    Facilitator(&'static str, Arc<str>, &'static str),
    Node(Arc<str>),
}

impl Call {
    fn new(kind: Kind, span: Span) -> Self {
        Self {
            started: Instant::now(),
            kind,
            _span: span,
        }
    }

    /// Ends an operation, and counts its failure.
    pub fn end(self, is_ok: bool) {
        if let (false, Kind::Store(operation), Some(metrics)) = (is_ok, &self.kind, METRICS.get()) {
            metrics.store_errors.get_or_create(operation).inc();
        }
    }

    /// Ends a call to a facilitator or a node. `refusal`: the published code by which a facilitator
    /// refused a payment.
    pub fn ended(self, outcome: &'static str, refusal: Option<&'static str>) {
        let Some(metrics) = METRICS.get() else {
            return;
        };
        let (family, host, call) = match &self.kind {
            Kind::Facilitator(facilitator, host, call) => {
                if let Some(code) = refusal {
                    let refused = labels::Refused {
                        facilitator,
                        call,
                        code,
                    };
                    metrics.refusals.get_or_create(&refused).inc();
                }
                (&metrics.facilitator_calls, host, *call)
            }
            Kind::Node(host) => (&metrics.node_calls, host, NODE_CALL),
            Kind::Statement(_) | Kind::Store(_) => return,
        };
        let ended = labels::Ended {
            host: host.to_string(),
            call,
            outcome,
        };
        family.get_or_create(&ended).inc();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Some(metrics) = METRICS.get() else {
            return;
        };
        let host = |host: &Arc<str>, call| labels::Host {
            host: host.to_string(),
            call,
        };
        let latency = match &self.kind {
            Kind::Statement(statement) => metrics.database_time.shared(statement),
            Kind::Store(operation) => metrics.store_time.shared(operation),
            Kind::Facilitator(_, of, call) => metrics.facilitator_time.shared(&host(of, call)),
            Kind::Node(of) => metrics.node_time.shared(&host(of, NODE_CALL)),
        };
        latency.observe(self.started.elapsed());
    }
}

/// The label `call` of requests to nodes.
const NODE_CALL: &str = "rpc";

/// Begins statements of the database. `module` is the path of the module that holds them.
pub fn statement(module: &'static str, kind: &'static str) -> Call {
    let module = module.rsplit("::").next().unwrap_or(module);
    let span = traces::database(module, kind);
    Call::new(Kind::Statement(labels::Statement { module, kind }), span)
}

/// Begins an operation of the store.
pub fn store(operation: &'static str) -> Call {
    let span = traces::store(operation);
    Call::new(Kind::Store(labels::Operation { operation }), span)
}

/// Begins a call to a facilitator at `host`.
pub fn facilitator(name: &'static str, host: &Arc<str>, call: &'static str) -> Call {
    let span = traces::facilitator(host, call);
    Call::new(Kind::Facilitator(name, Arc::clone(host), call), span)
}

/// Begins a request to the node at `host`.
pub fn node(host: &Arc<str>) -> Call {
    Call::new(Kind::Node(Arc::clone(host)), traces::node(host))
}

/// The host and port of a URL of the configuration, as a label. The rest of a URL may be a key.
pub fn host_of(url: &str) -> Arc<str> {
    let url = url::Url::parse(url).ok();
    let host = url.as_ref().and_then(|url| {
        let host = url.host_str()?;
        Some(
            url.port()
                .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
        )
    });
    host.map_or_else(|| Arc::from(OTHER), Arc::from)
}
