use serde_json::json;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt};

use super::export::document;
use super::layer::Ended;
use super::*;
use crate::system::clock::Timestamp;
use crate::system::logs;

/// Runs `work` with a layer whose queue has room for `room` spans, and returns what it holds.
fn traced(percent: u64, room: usize, work: impl FnOnce()) -> Vec<Ended> {
    let (sender, mut queue) = tokio::sync::mpsc::channel(room);
    let layer = Layer::new(sender, percent, Timestamp::from_seconds(1_800_000_000));
    let only = Targets::new().with_target(TARGET, tracing::Level::TRACE);
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(only));
    tracing::subscriber::with_default(subscriber, work);
    let mut ended = Vec::new();
    while let Ok(span) = queue.try_recv() {
        ended.push(span);
    }
    ended
}

#[test]
fn a_request_is_the_root_of_its_calls_and_jobs_have_no_trace() {
    let ended = traced(100, 10, || {
        drop(database("payments", "read"));
        let root = request("0a", "POST");
        root.in_scope(|| {
            let line = logs::request_span("0a");
            line.in_scope(|| {
                let stage = payment("settle");
                drop(facilitator("f.example", "settle"));
                drop(stage);
            });
            answered(&root, "/api/upload/{tier}", "year", 503);
        });
    });
    let names: Vec<&str> = ended.iter().map(|span| span.name).collect();
    assert_eq!(names, ["facilitator", "payment", "request"]);
    assert_eq!(ended[0].parent, Some(ended[2].id));
    assert_eq!(ended[1].parent, Some(ended[2].id));
    assert_eq!(ended[2].parent, None);
    assert!(ended.iter().all(|span| span.trace == ended[0].trace));
    assert!(ended[2].began <= ended[0].began && ended[2].began / 1_000_000_000 >= 1_800_000_000);

    let document = document(&ended);
    let spans = &document["resourceSpans"][0]["scopeSpans"][0]["spans"];
    assert_eq!(spans[0]["kind"], 3);
    assert_eq!(spans[0]["parentSpanId"], spans[2]["spanId"]);
    assert_eq!(spans[2]["kind"], 2);
    assert_eq!(spans[2]["status"], json!({"code": 2}));
    assert_eq!(spans[2]["traceId"].as_str().unwrap().len(), 32);
    let attributes = spans[2]["attributes"].as_array().unwrap();
    let status = json!({"key": "http.response.status_code", "value": {"intValue": "503"}});
    assert!(attributes.contains(&status), "{attributes:?}");
    let route = json!({"key": "http.route", "value": {"stringValue": "/api/upload/{tier}"}});
    assert!(attributes.contains(&route), "{attributes:?}");
}

#[test]
fn of_a_hundred_requests_as_many_are_traced_as_the_setting_says() {
    for percent in [1, 30, 99, 100] {
        let ended = traced(percent, 1000, || {
            for _ in 0..200 {
                request("0a", "GET").in_scope(|| drop(store("put")));
            }
        });
        let requests = ended.iter().filter(|span| span.name == "request").count();
        assert_eq!(requests, usize::try_from(percent).unwrap() * 2);
        assert_eq!(ended.len(), requests * 2);
    }
}

#[test]
fn a_full_queue_drops_spans_and_never_waits() {
    let ended = traced(100, 3, || {
        for _ in 0..10 {
            drop(request("0a", "GET"));
        }
    });
    assert_eq!(ended.len(), 3);
}
