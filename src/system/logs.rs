//! Logs: how lines are written, and the spans whose fields say what a line belongs to.
//!
//! | field | on every line of |
//! | --- | --- |
//! | `request.id` | a request on the public listener; the client receives the same id as `X-Request-Id` |
//! | `payment.ledger_id` | a payment, from when it is known: a request that carries it or its token, or a job that works on it |
//! | `job.name` | a background job, such as `reconciler` |
//!
//! Spans have the level `error`, so that a line carries these fields at every `--log` level. A task
//! that is spawned for a request carries the span of the request (`in_current_span`). No span and
//! no line holds a secret: no token, ticket, idempotency key, signature, payment header or client
//! address.

use std::fmt;
use std::io::{IsTerminal, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Empty, display};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Span, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, layer};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::traces;
use crate::model::payment::PaymentId;

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people, with colors on a terminal
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Starts logging to standard error, for the rest of the process.
///
/// Libraries log warnings and errors at every level: below that they print headers and statements,
/// which may hold secrets.
///
/// The lines of requests that are answered without the router are collected for at most 100 ms. The returned
/// value writes the last ones when it is dropped. `spans` takes the spans of traces.
pub fn start(level: Level, format: LogFormat, spans: Option<traces::Layer>) -> Lines {
    let filter = Targets::new()
        .with_default(LevelFilter::WARN.min(level.into()))
        // It logs each connection that doesn't speak HTTP as an error. No operator can act on that.
        .with_target("actix_http::h1::dispatcher", LevelFilter::OFF)
        // It logs what clients of `/mcp` send, and warns of their mistakes.
        .with_target("rmcp", LevelFilter::OFF)
        .with_target(traces::TARGET, LevelFilter::OFF)
        .with_target("pixtoll", level);
    let lines = match format {
        LogFormat::Text => layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .boxed(),
        LogFormat::Json => layer()
            .fmt_fields(JsonFields::new())
            .event_format(FlatJson)
            .with_writer(std::io::stderr)
            .boxed(),
    };
    let lines = lines.with_filter(filter);
    // Without traces, nothing may make a span that no layer shows: a `None` in the place of the second
    // layer would.
    if let Some(spans) = spans {
        let only = Targets::new().with_target(traces::TARGET, LevelFilter::TRACE);
        let both = lines.and_then(spans.with_filter(only));
        tracing_subscriber::registry().with(both).init();
    } else {
        tracing_subscriber::registry().with(lines).init();
    }
    if level >= Level::INFO && !std::io::stderr().is_terminal() {
        Collected::start(format);
    }
    Lines(())
}

/// How long the line of a request may be collected before it is written.
const COLLECT: Duration = Duration::from_millis(100);
/// Collected lines of this many bytes are written at once.
const MOST_COLLECTED: usize = 32 << 10;

/// The lines that are collected. `None`: they are not, but written one by one.
static COLLECTED: OnceLock<Collected> = OnceLock::new();

/// Logging, until it is dropped.
#[must_use]
pub struct Lines(());

impl Drop for Lines {
    fn drop(&mut self) {
        if let Some(collected) = COLLECTED.get() {
            Collected::write(&mut collected.lock());
        }
    }
}

/// Whether each request has a line.
static ACCESS: AtomicBool = AtomicBool::new(true);

/// Sets whether each request has a line (`log.access`).
pub fn log_access(is_on: bool) {
    ACCESS.store(is_on, Ordering::Relaxed);
}

/// The line of a request.
pub struct RequestLine<'a> {
    /// The request's id.
    pub id: &'a str,
    /// The method.
    pub method: &'a str,
    /// The pattern of the route.
    pub route: &'a str,
    /// The status of the response.
    pub status: u16,
    /// The tier that the request is about, or `none`.
    pub tier: &'a str,
    /// The bytes of the response's body, as far as they are known when it begins.
    pub bytes: u64,
    /// How long the response took to make.
    pub elapsed: Duration,
}

impl RequestLine<'_> {
    /// Logs the line of a request that was answered without the router, as [`RequestLine::log_now`]
    /// would, but maybe a little later.
    pub fn log(&self) {
        if !ACCESS.load(Ordering::Relaxed) {
            return;
        }
        let elapsed_us = u64::try_from(self.elapsed.as_micros()).unwrap_or(u64::MAX);
        let Some(collected) = COLLECTED.get() else {
            let _request = request_span(self.id).entered();
            self.log_now();
            return;
        };
        let mut lines = collected.lock();
        // Writing to a String does not fail.
        let added = match collected.format {
            LogFormat::Text => self.add_text(&mut lines, elapsed_us),
            LogFormat::Json => self.add_json(&mut lines, elapsed_us),
        };
        if added.is_err() || lines.len() >= MOST_COLLECTED {
            Collected::write(&mut lines);
        }
    }

    /// Logs the line in the current span.
    pub fn log_now(&self) {
        if !ACCESS.load(Ordering::Relaxed) {
            return;
        }
        let Self {
            method,
            route,
            status,
            tier,
            bytes,
            ..
        } = *self;
        let elapsed_us = u64::try_from(self.elapsed.as_micros()).unwrap_or(u64::MAX);
        tracing::info!(target: TARGET, %method, route, status, tier, bytes, elapsed_us, "request");
    }

    fn add_text(&self, lines: &mut String, elapsed_us: u64) -> fmt::Result {
        use fmt::Write;
        SystemTime.format_time(&mut Writer::new(lines))?;
        let Self {
            id,
            method,
            route,
            status,
            tier,
            bytes,
            ..
        } = self;
        writeln!(
            lines,
            "  INFO request{{request.id=\"{id}\"}}: {TARGET}: request method={method} route=\"{route}\" status={status} tier=\"{tier}\" bytes={bytes} elapsed_us={elapsed_us}"
        )
    }

    fn add_json(&self, lines: &mut String, elapsed_us: u64) -> fmt::Result {
        use fmt::Write;
        lines.push_str("{\"timestamp\":\"");
        SystemTime.format_time(&mut Writer::new(lines))?;
        let Self {
            id,
            method,
            route,
            status,
            tier,
            bytes,
            ..
        } = self;
        writeln!(
            lines,
            "\",\"level\":\"INFO\",\"target\":\"{TARGET}\",\"message\":\"request\",\"bytes\":{bytes},\"elapsed_us\":{elapsed_us},\"method\":\"{method}\",\"request.id\":\"{id}\",\"route\":\"{route}\",\"status\":{status},\"tier\":\"{tier}\"}}"
        )
    }
}

/// The target of the lines of requests.
const TARGET: &str = "pixtoll::http";

/// Lines that wait to be written together.
struct Collected {
    format: LogFormat,
    lines: Mutex<String>,
}

impl Collected {
    /// Collects lines from now on. A thread writes them.
    fn start(format: LogFormat) {
        let collected = COLLECTED.get_or_init(|| Self {
            format,
            lines: Mutex::default(),
        });
        let writer = std::thread::Builder::new().name("log-lines".to_owned());
        let spawned = writer.spawn(|| {
            loop {
                std::thread::sleep(COLLECT);
                let mut lines = collected.lock();
                if !lines.is_empty() {
                    Collected::write(&mut lines);
                }
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "lines of requests are written only in groups of {MOST_COLLECTED} bytes");
        }
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(lines: &mut String) {
        // There is nowhere to report that standard error can't be written.
        drop(std::io::stderr().write_all(lines.as_bytes()));
        lines.clear();
    }
}

/// The span of a request. [`record_payment`] adds the payment's ledger id to it.
pub fn request_span(request_id: &str) -> Span {
    tracing::error_span!(
        "request",
        request.id = request_id,
        payment.ledger_id = Empty
    )
}

/// The span of a background job.
pub fn job_span(name: &'static str) -> Span {
    tracing::error_span!("job", job.name = name)
}

/// The span of a job's work on one payment.
pub fn payment_span(ledger_id: &str) -> Span {
    tracing::error_span!("payment", payment.ledger_id = ledger_id)
}

/// Adds a payment's ledger id to the span of the current request; does nothing outside of one. Of
/// several ids, a text line shows all and a JSON line the last.
pub fn record_payment(ledger_id: &PaymentId) {
    Span::current().record("payment.ledger_id", display(ledger_id));
}

/// Writes a line as one flat JSON object: `timestamp`, `level`, `target` and `message`, then the
/// fields of the line and of the spans around it, all at the top level and in alphabetical order.
/// Where two have one name, the innermost wins.
struct FlatJson;

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'static str,
    target: &'a str,
    message: Value,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl<S, N> FormatEvent<S, N> for FlatJson
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Map::new();
        if let Some(scope) = context.event_scope() {
            for span in scope.from_root() {
                if let Some(formatted) = span.extensions().get::<FormattedFields<N>>() {
                    add(&mut fields, &formatted.fields)?;
                }
            }
        }
        let mut own = String::new();
        context.format_fields(Writer::new(&mut own), event)?;
        add(&mut fields, &own)?;
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let line = Line {
            timestamp,
            level: event.metadata().level().as_str(),
            target: event.metadata().target(),
            message: fields.remove("message").unwrap_or_default(),
            fields,
        };
        let line = serde_json::to_string(&line).map_err(|_| fmt::Error)?;
        writeln!(writer, "{line}")
    }
}

/// Adds fields that [`JsonFields`] has written.
fn add(fields: &mut Map<String, Value>, written: &str) -> fmt::Result {
    if written.is_empty() {
        return Ok(());
    }
    let mut written: Map<String, Value> = serde_json::from_str(written).map_err(|_| fmt::Error)?;
    fields.append(&mut written);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use serde_json::json;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written_by(work: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        let json = layer()
            .fmt_fields(JsonFields::new())
            .event_format(FlatJson)
            .with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(json);
        tracing::subscriber::with_default(subscriber, work);
        let bytes = lines.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn id(digit: &str) -> PaymentId {
        PaymentId::parse(&digit.repeat(64)).unwrap()
    }

    #[test]
    fn a_json_line_has_the_fields_of_its_spans_at_the_top_level() {
        let lines = written_by(|| {
            tracing::info!("started");
            let _request = request_span("0a").entered();
            tracing::info!(count = 1, "a \"line\"\nof two");
            record_payment(&id("a"));
            let _payment = payment_span(id("b").as_str()).entered();
            tracing::warn!(payment.ledger_id = %id("c"), "named itself");
            tracing::warn!("named by the innermost span");
        });
        let known: Vec<Value> = lines
            .iter()
            .map(|line| {
                json!([
                    line["message"],
                    line["request.id"],
                    line["payment.ledger_id"]
                ])
            })
            .collect();
        assert_eq!(
            known,
            [
                json!(["started", null, null]),
                json!(["a \"line\"\nof two", "0a", null]),
                json!(["named itself", "0a", "c".repeat(64)]),
                json!(["named by the innermost span", "0a", "b".repeat(64)]),
            ]
        );
        assert_eq!(lines[1]["count"], 1);
        assert_eq!(lines[1]["level"], "INFO");
        assert_eq!(lines[1]["target"], "pixtoll::system::logs::tests");
        assert!(lines[1]["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn the_last_ledger_id_of_a_request_is_the_one_of_its_lines() {
        let lines = written_by(|| {
            record_payment(&id("d"));
            let _request = request_span("0a").entered();
            for digit in ["a", "b"] {
                record_payment(&id(digit));
                tracing::info!("known");
            }
        });
        assert_eq!(lines[0]["payment.ledger_id"], "a".repeat(64));
        assert_eq!(lines[1]["payment.ledger_id"], "b".repeat(64));
    }
}
