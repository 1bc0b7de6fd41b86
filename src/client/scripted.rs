//! A server with scripted responses, for the tests of the client.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use alloy_primitives::address;
use bytes::Bytes;
use serde_json::{Value, json};
use url::Url;

use crate::pricing::money::AtomicAmount;
use crate::pricing::networks;
use crate::system::clock::Timestamp;
use crate::system::random::Randomness;
use crate::x402::challenge::{ChallengeTerms, Sale, challenge};
use crate::x402::header::PAYMENT_REQUIRED;
use crate::x402::siwx::ChallengeInfo;
use crate::x402::wire::{Offer, Resource};

/// One response.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    breaks_off: bool,
}

/// One request that the server received.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// The header `SIGN-IN-WITH-X`.
    pub(crate) sign_in: Option<String>,
    pub(crate) delete_token: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) payment: Option<String>,
    pub(crate) body: Bytes,
}

#[derive(Debug, Default)]
struct Script {
    /// The response of `/api/tiers`; `None` for a 404.
    table: Option<Step>,
    steps: VecDeque<Step>,
    seen: Vec<Seen>,
}

/// The running server. It stops with the runtime of the test.
#[derive(Clone)]
pub(crate) struct Scripted {
    script: Arc<Mutex<Script>>,
    handle: actix_web::dev::ServerHandle,
    pub(crate) url: String,
}

/// A response with a status and a JSON body.
pub(crate) fn answers(status: u16, body: &Value) -> Step {
    Step {
        status,
        headers: Vec::new(),
        body: body.to_string(),
        breaks_off: false,
    }
}

/// The response to a successful upload.
pub(crate) fn uploads(name: &str) -> Step {
    let url = format!("https://i.example.com/{name}.png");
    answers(200, &json!({"url": url, "id": name, "deleteToken": "d"}))
}

/// An error response in the form of the service.
pub(crate) fn refuses(status: u16, error: &str, charged: Option<bool>) -> Step {
    answers(
        status,
        &json!({"error": error, "message": format!("Sorry: {error}."), "charged": charged}),
    )
}

/// A 402 response that asks for this many atomic units.
pub(crate) fn asks(units: u128, play_money: bool) -> Step {
    let terms = ChallengeTerms {
        sale: Sale::Upload,
        tier: "year",
        resource: Resource {
            url: "https://img.example.com/api/upload/year".to_owned(),
            description: "one image".to_owned(),
            mime_type: "application/json".to_owned(),
        },
        signed: Vec::new(),
        offers: vec![Offer {
            network: networks::find("base-sepolia").unwrap(),
            amount: AtomicAmount::from_units(units),
            pay_to: address!("2222222222222222222222222222222222222222"),
            max_timeout_seconds: 60,
        }],
        reason: "payment_required",
        play_money,
    };
    refuses(402, "payment_required", Some(false)).with(
        PAYMENT_REQUIRED,
        challenge(&terms, &Randomness::seeded(3)).header,
    )
}

/// The challenge to sign in at this URL.
pub(crate) fn challenges(url: &str) -> Step {
    let url = Url::parse(url).unwrap();
    let domain = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let info = ChallengeInfo {
        domain: &domain,
        uri: url.as_str(),
        statement: "Sign in.",
        nonce: "0123456789abcdef0123456789abcdef",
        issued_at: Timestamp::from_seconds(1_800_000_000),
        expires_at: Timestamp::from_seconds(1_800_000_300),
    };
    let challenge = info.challenge(&[networks::find("base-sepolia").unwrap()]);
    let body = json!({"error": "sign_in_required", "message": "Sign in.", "extensions": challenge.extensions});
    answers(402, &body).with(PAYMENT_REQUIRED, challenge.header)
}

/// A response that breaks off in the middle of its body.
pub(crate) fn hangs_up() -> Step {
    Step {
        breaks_off: true,
        ..answers(200, &json!({}))
    }
}

impl Step {
    /// The same response with one more header.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Scripted {
    /// Starts a server that sends these responses, one per request, and status 599 after the last one.
    pub(crate) fn start(steps: impl IntoIterator<Item = Step>) -> Self {
        let script = Script {
            table: None,
            steps: steps.into_iter().collect(),
            seen: Vec::new(),
        };
        let script = Arc::new(Mutex::new(script));
        let shared = web::Data::from(Arc::clone(&script));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .app_data(web::PayloadConfig::new(1 << 20))
                .default_service(web::to(serve))
        })
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))
        .unwrap();
        let url = format!("http://{}", server.addrs()[0]);
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Self {
            script,
            handle,
            url,
        }
    }

    /// Sets the price table. Requests for it use none of the scripted responses.
    pub(crate) fn lists(&self, table: Step) {
        self.script.lock().unwrap().table = Some(table);
    }

    /// Adds responses.
    pub(crate) fn then(&self, steps: impl IntoIterator<Item = Step>) {
        self.script.lock().unwrap().steps.extend(steps);
    }

    /// Removes the responses that are left.
    pub(crate) fn clear(&self) {
        self.script.lock().unwrap().steps.clear();
    }

    /// Stops the server. Later connections are refused.
    pub(crate) async fn stop(&self) {
        self.handle.stop(false).await;
    }

    /// The requests received so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.script.lock().unwrap().seen.clone()
    }

    /// The distinct payment headers received so far.
    pub(crate) fn payments(&self) -> Vec<String> {
        let mut payments: Vec<_> = self
            .seen()
            .into_iter()
            .filter_map(|seen| seen.payment)
            .collect();
        payments.sort();
        payments.dedup();
        payments
    }
}

async fn serve(
    request: HttpRequest,
    body: Bytes,
    script: web::Data<Mutex<Script>>,
) -> HttpResponse {
    let header = |name| {
        let value = request.headers().get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let is_table = request.path() == "/api/tiers";
    let step = if is_table {
        let table = script.lock().unwrap().table.clone();
        table.unwrap_or_else(|| refuses(404, "not_found", Some(false)))
    } else {
        let mut script = script.lock().unwrap();
        script.seen.push(Seen {
            method: request.method().to_string(),
            path: request.path().to_owned(),
            query: request.query_string().to_owned(),
            sign_in: header("SIGN-IN-WITH-X"),
            delete_token: header("X-Delete-Token"),
            content_type: header("Content-Type"),
            payment: header("PAYMENT-SIGNATURE"),
            body,
        });
        script
            .steps
            .pop_front()
            .unwrap_or_else(|| answers(599, &json!({})))
    };
    let mut response = HttpResponse::build(StatusCode::from_u16(step.status).unwrap());
    for (name, value) in step.headers {
        response.insert_header((name, value));
    }
    if step.breaks_off {
        let broken = Err::<Bytes, _>(std::io::Error::other("the script hangs up"));
        return response.streaming(futures_util::stream::iter([
            Ok(Bytes::from_static(b"{")),
            broken,
        ]));
    }
    response.content_type("application/json").body(step.body)
}
