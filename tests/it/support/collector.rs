//! A collector of traces that keeps what it receives.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::Value;

/// A recording collector of OTLP over HTTP.
pub(crate) struct Collector {
    pub(crate) url: String,
    received: Arc<Mutex<Vec<String>>>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let received: Arc<Mutex<Vec<String>>> = Arc::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let keep = web::Data::new(Arc::clone(&received));
        let server = HttpServer::new(move || {
            let take = async |keep: web::Data<Arc<Mutex<Vec<String>>>>, body: String| {
                keep.lock().unwrap().push(body);
                HttpResponse::Ok().body("{}")
            };
            App::new()
                .app_data(keep.clone())
                .app_data(web::PayloadConfig::new(16 << 20))
                .route("/v1/traces", web::post().to(take))
        });
        tokio::spawn(server.workers(1).listen(listener).unwrap().run());
        Self { url, received }
    }

    /// Everything that arrived, as it arrived.
    pub(crate) fn text(&self) -> String {
        self.received.lock().unwrap().join("\n")
    }

    /// Every span that arrived.
    pub(crate) fn spans(&self) -> Vec<Value> {
        let received = self.received.lock().unwrap();
        let documents = received
            .iter()
            .map(|body| serde_json::from_str(body).unwrap());
        let spans = documents.flat_map(|document: Value| {
            let spans = &document["resourceSpans"][0]["scopeSpans"][0]["spans"];
            spans.as_array().unwrap().clone()
        });
        spans.collect()
    }
}

/// An attribute of a span, without its type.
pub(crate) fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a str> {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes
        .iter()
        .find(|attribute| attribute["key"] == key)?;
    let value = found["value"].as_object().unwrap().values().next().unwrap();
    value.as_str()
}
