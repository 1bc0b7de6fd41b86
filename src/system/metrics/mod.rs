//! What the server counts, for `/metrics` on the admin listener (docs/metrics.md).
//!
//! The metrics are the process's, like the log: one server runs in a process, and every layer counts
//! something, down to the macros of the database. So they are one value behind a lock that is written
//! once, and not a parameter of each constructor. A process that never calls [`start`], such as a
//! command or a server with `metrics.enabled = false`, counts nothing.
//!
//! No label has a value that a client or a facilitator chooses.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

mod calls;
mod gauges;
mod labels;
mod latency;
mod sharded;
#[cfg(test)]
mod tests;

pub use calls::{Call, facilitator, host_of, node, statement, store};
pub use gauges::{Here, Rows, show_here, show_ledger, show_rows};
pub use latency::Latency;
pub use sharded::Count;

use sharded::Sharded;

/// The content type of [`text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The value of the label `tier` for requests that are about no tier.
pub const NO_TIER: &str = "none";
/// The value of the label `facilitator` for payments of a network that is not configured any more.
pub const NO_FACILITATOR: &str = "none";
/// The value of a label for everything that has no value of its own.
pub const OTHER: &str = "other";

static METRICS: OnceLock<Metrics> = OnceLock::new();

/// A metric, for the documents.
#[derive(Debug, Clone, Copy)]
pub struct Described {
    /// The name as Prometheus shows it.
    pub name: &'static str,
    /// `counter`, `gauge`, `histogram` or `info`.
    pub kind: &'static str,
    /// The labels.
    pub labels: &'static [&'static str],
    /// What it counts, as a sentence without its full stop.
    pub help: &'static str,
}

/// Declares the metrics: field, type, kind, registered name and suffix, labels, help.
macro_rules! metrics {
    ($($field:ident: $type:ty, $kind:literal $name:literal $suffix:literal [$($label:literal),*] $help:literal;)+) => {
        /// Every metric.
        #[derive(Debug)]
        struct Metrics {
            registry: Registry,
            $($field: $type,)+
        }

        impl Metrics {
            fn new(build: labels::Build) -> Self {
                let mut registry = Registry::with_prefix("pixtoll");
                $(let $field = <$type>::default(); registry.register($name, $help, $field.clone());)+
                registry.register("build", "The build and its ports", Info::new(build));
                Self { registry, $($field,)+ }
            }
        }

        /// Every metric, in the order of the documents.
        pub const DESCRIBED: &[Described] = &[
            $(Described {
                name: concat!("pixtoll_", $name, $suffix),
                kind: $kind,
                labels: &[$($label),*],
                help: $help,
            },)+
            Described {
                name: "pixtoll_build_info",
                kind: "info",
                labels: &["version", "database", "store"],
                help: "The build and its ports",
            },
        ];
    };
}

metrics! {
    responses: Sharded<labels::Response, Count>, "counter" "http_requests" "_total" ["route", "method", "status", "tier"]
        "Responses of the public listener, the admin API and the console, by the pattern of the route";
    request_time: Sharded<labels::Route, Latency>, "histogram" "http_request_duration_seconds" "" ["route", "method"]
        "Time from the head of a request to the head of its response";
    errors: Family<labels::Code, Counter>, "counter" "errors" "_total" ["code"]
        "Error responses by their code, see docs/api.md";
    moves: Family<labels::Moved, Counter>, "counter" "payments" "_total" ["state", "facilitator", "network"]
        "Payments that entered a state, see docs/payments.md";
    refusals: Family<labels::Refused, Counter>, "counter" "payment_refusals" "_total" ["facilitator", "call", "code"]
        "Refusals of facilitators by their published code, or other";
    settled: Family<labels::Money, Counter>, "counter" "settled_atomic" "_total" ["tier", "network", "asset"]
        "Money of settled payments in atomic units of the asset (USDC has 6 decimals)";
    unknown: Gauge, "gauge" "payments_unknown" "" []
        "Payments whose outcome is unknown";
    unknown_age: Gauge, "gauge" "payments_unknown_age_seconds" "" []
        "Time since settle was called for the oldest payment whose outcome is unknown, or 0";
    owed: Gauge, "gauge" "payments_owed" "" []
        "Settled payments whose goods are owed to the payer";
    missing: Gauge, "gauge" "payments_missing" "" []
        "Settled payments whose transfer the chain no longer shows";
    orphans: Gauge, "gauge" "orphan_transfers" "" []
        "Transfers that look like sales and belong to no payment";
    violations: Gauge, "gauge" "ledger_violations" "" []
        "Rows that broke a rule of the ledger at the last hourly check";
    checked_at: Gauge, "gauge" "ledger_checked_timestamp_seconds" "" []
        "When the ledger was last checked by this server, or 0";
    paused: Gauge, "gauge" "sales_paused" "" []
        "1 while sales are paused, because too many outcomes are unknown or the database is older than its store";
    facilitator_calls: Family<labels::Ended, Counter>, "counter" "facilitator_calls" "_total" ["host", "call", "outcome"]
        "Calls to a facilitator: ok, refused or failed";
    facilitator_time: Sharded<labels::Host, Latency>, "histogram" "facilitator_call_duration_seconds" "" ["host", "call"]
        "Time of a call to a facilitator";
    node_calls: Family<labels::Ended, Counter>, "counter" "node_calls" "_total" ["host", "call", "outcome"]
        "Requests to a node of a chain, single or batched: ok, limited, refused or failed";
    node_time: Sharded<labels::Host, Latency>, "histogram" "node_call_duration_seconds" "" ["host", "call"]
        "Time of a request to a node of a chain";
    uploads: Family<labels::Tier, Counter>, "counter" "uploads" "_total" ["tier"]
        "Images that were published";
    upload_bytes: Family<labels::Tier, Counter>, "counter" "upload_bytes" "_total" ["tier"]
        "Bytes of images that were published, as stored";
    live: Gauge, "gauge" "images_live" "" []
        "Images that are served";
    live_bytes: Gauge, "gauge" "images_live_bytes" "" []
        "Bytes of the images that are served";
    due: Gauge, "gauge" "images_due" "" []
        "Images that have expired or were deleted, and whose objects the reaper has not deleted yet";
    reaper_lag: Gauge, "gauge" "reaper_lag_seconds" "" []
        "Time since the expiry of the oldest image that the reaper has not claimed yet, or 0";
    reaper_ran: Gauge, "gauge" "reaper_last_run_timestamp_seconds" "" []
        "When a server last trusted its clock for the reaper, or 0";
    clock_doubted: Gauge, "gauge" "clock_doubted" "" []
        "1 while this machine's clock is not trusted, so that nothing is deleted";
    reaped: Counter, "counter" "reaped_images" "_total" []
        "Images whose objects the reaper of this server deleted";
    reap_failures: Counter, "counter" "reap_failures" "_total" []
        "Objects that the reaper of this server could not delete, counted at each try";
    cache: Sharded<labels::Outcome, Count>, "counter" "cache_requests" "_total" ["outcome"]
        "Requests for public images that were in memory (hit) or not (miss)";
    cache_bytes: Gauge, "gauge" "cache_bytes" "" []
        "Memory of the image cache";
    variants: Family<labels::Outcome, Counter>, "counter" "variants" "_total" ["outcome"]
        "Variants of images: made, failed, stored beside their image, or loaded from the store";
    refreshes: Family<labels::Outcome, Counter>, "counter" "refreshes" "_total" ["outcome"]
        "Comparisons of imported images with their origins: same, replaced, failed, put_off, blocked, or over (the image ended meanwhile)";
    checks_running: Gauge, "gauge" "checks_running" "" []
        "Images that are being checked and decoded now";
    checks_waiting: Gauge, "gauge" "checks_waiting" "" []
        "Images that wait for their check";
    check_wait: Sharded<labels::Outcome, Latency>, "histogram" "check_wait_duration_seconds" "" ["outcome"]
        "Time that an image waited for its check: begun, or refused because the queue was full";
    store_time: Sharded<labels::Operation, Latency>, "histogram" "store_duration_seconds" "" ["operation"]
        "Time of an operation of the image store";
    store_errors: Family<labels::Operation, Counter>, "counter" "store_errors" "_total" ["operation"]
        "Operations of the image store that failed";
    database_time: Sharded<labels::Statement, Latency>, "histogram" "database_duration_seconds" "" ["module", "kind"]
        "Time of a query, a statement that writes or a transaction, with the wait for a connection";
    database_errors: Counter, "counter" "database_errors" "_total" []
        "Statements that failed, those included that were repeated";
    free_space: Gauge, "gauge" "free_space_bytes" "" []
        "Free space on the disk of the images; absent values are 0 where a bucket holds them";
    min_free: Gauge, "gauge" "min_free_bytes" "" []
        "images.min_free: with less free space, uploads are refused; 0 where a bucket holds the images";
    spans: Family<labels::Outcome, Counter>, "counter" "trace_spans" "_total" ["outcome"]
        "Spans of traces that were sent, dropped because the queue was full, or failed to be sent";
    sampled_at: Gauge, "gauge" "sampled_timestamp_seconds" "" []
        "When the gauges of rows were last read from the database";
}

/// Begins to count, for the rest of the process. `database` and `store` name the kinds of ports.
pub fn start(database: &'static str, store: &'static str) {
    METRICS.get_or_init(|| {
        Metrics::new(labels::Build {
            version: env!("PIXTOLL_VERSION"),
            database,
            store,
        })
    });
}

/// Everything that was counted, as text of `OpenMetrics`. `None`: nothing is counted.
///
/// # Errors
/// None in practice: writing to a string does not fail.
pub fn text() -> Option<Result<String, std::fmt::Error>> {
    let metrics = METRICS.get()?;
    let mut text = String::with_capacity(64 << 10);
    let written = prometheus_client::encoding::text::encode(&mut text, &metrics.registry);
    Some(written.map(|()| text))
}

/// The method of a request as a label: one that HTTP defines, or `other`.
pub fn method(name: &str) -> &'static str {
    const METHODS: [&str; 8] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE",
    ];
    let known = METHODS.into_iter().find(|known| *known == name);
    known.unwrap_or(OTHER)
}

/// What is counted for responses of one kind.
#[derive(Debug, Clone)]
pub struct Responses {
    count: Arc<Count>,
    time: Arc<Latency>,
}

impl Responses {
    /// Counts a response that took this long.
    pub fn count(&self, took: Duration) {
        self.count.increase();
        self.time.observe(took);
    }
}

/// The counters of responses of one kind. `is_own`: counters that the caller keeps for itself, and
/// asks for once.
pub fn responses(
    route: &str,
    of_method: &str,
    status: u16,
    tier: &str,
    is_own: bool,
) -> Option<Responses> {
    let metrics = METRICS.get()?;
    let method = method(of_method);
    let response = labels::Response {
        route: route.to_owned(),
        method,
        status,
        tier: tier.to_owned(),
    };
    let route = labels::Route {
        route: route.to_owned(),
        method,
    };
    Some(if is_own {
        Responses {
            count: metrics.responses.own(&response),
            time: metrics.request_time.own(&route),
        }
    } else {
        Responses {
            count: metrics.responses.shared(&response),
            time: metrics.request_time.shared(&route),
        }
    })
}

/// A counter of cache hits that the caller keeps for itself, and asks for once.
pub fn own_cache_hits() -> Option<Arc<Count>> {
    let outcome = "hit";
    Some(METRICS.get()?.cache.own(&labels::Outcome { outcome }))
}

/// Counts a request for an image that may be in memory.
pub fn cached(is_hit: bool) {
    if let Some(metrics) = METRICS.get() {
        let outcome = if is_hit { "hit" } else { "miss" };
        metrics
            .cache
            .shared(&labels::Outcome { outcome })
            .increase();
    }
}

/// Counts a variant of an image that was made, stored or loaded, or could not be made.
pub fn variant(outcome: &'static str) {
    if let Some(metrics) = METRICS.get() {
        let outcome = labels::Outcome { outcome };
        metrics.variants.get_or_create(&outcome).inc();
    }
}

/// Counts a comparison of an imported image with its origin.
pub fn refresh(outcome: &'static str) {
    if let Some(metrics) = METRICS.get() {
        let outcome = labels::Outcome { outcome };
        metrics.refreshes.get_or_create(&outcome).inc();
    }
}

/// Counts an error response of the API.
pub fn error(code: &'static str) {
    if let Some(metrics) = METRICS.get() {
        metrics.errors.get_or_create(&labels::Code { code }).inc();
    }
}

/// Counts a payment that entered a state.
pub fn payment(state: &'static str, facilitator: &'static str, network: &'static str) {
    if let Some(metrics) = METRICS.get() {
        let moved = labels::Moved {
            state,
            facilitator,
            network,
        };
        metrics.moves.get_or_create(&moved).inc();
    }
}

/// Counts the money of a settled payment, in atomic units.
pub fn money(tier: &str, network: &'static str, asset: &str, units: u64) {
    if let Some(metrics) = METRICS.get() {
        let money = labels::Money {
            tier: tier.to_owned(),
            network,
            asset: asset.to_owned(),
        };
        metrics.settled.get_or_create(&money).inc_by(units);
    }
}

/// Counts a published image.
pub fn upload(tier: &str, bytes: u64) {
    if let Some(metrics) = METRICS.get() {
        let tier = labels::Tier {
            tier: tier.to_owned(),
        };
        metrics.uploads.get_or_create(&tier).inc();
        metrics.upload_bytes.get_or_create(&tier).inc_by(bytes);
    }
}

/// Counts what a run of the reaper has deleted, and what it could not delete.
pub fn reaped(images: u64, failed: u64) {
    if let Some(metrics) = METRICS.get() {
        metrics.reaped.inc_by(images);
        metrics.reap_failures.inc_by(failed);
    }
}

/// Notes whether this machine's clock is trusted.
pub fn clock(is_trusted: bool) {
    if let Some(metrics) = METRICS.get() {
        metrics.clock_doubted.set(i64::from(!is_trusted));
    }
}

/// Counts how long an image waited for its check.
pub fn check_waited(has_begun: bool, waited: Duration) {
    if let Some(metrics) = METRICS.get() {
        let outcome = if has_begun { "begun" } else { "refused" };
        let outcome = labels::Outcome { outcome };
        metrics.check_wait.shared(&outcome).observe(waited);
    }
}

/// Counts a statement of the database that failed.
pub fn database_error() {
    if let Some(metrics) = METRICS.get() {
        metrics.database_errors.inc();
    }
}

/// Counts spans of traces that ended in this way.
pub fn spans(outcome: &'static str, count: u64) {
    if let Some(metrics) = METRICS.get() {
        let outcome = labels::Outcome { outcome };
        metrics.spans.get_or_create(&outcome).inc_by(count);
    }
}
