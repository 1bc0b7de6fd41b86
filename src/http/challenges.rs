//! Answers requests without a payment that repeat an earlier one, before they reach the router.
//!
//! A challenge is the same for all clients for a minute, except for its ticket. Building it costs
//! much more than sending it, and probes ask for it often.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_http::header::{
    AUTHORIZATION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
    UPGRADE,
};
use actix_http::{HttpMessage, Method, Request, Response, StatusCode, Uri};
use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use bytes::Bytes;

use super::deadlines::{Connection, timed};
use super::slices::Slices;
use super::{REQUEST_ID, Site, extract, observe, pages};
use crate::accounting::funnel::{Stage, TierCounts};
use crate::moving::Service;
use crate::pricing::tiers::TierTable;
use crate::system::logs::RequestLine;
use crate::system::metrics::{self, Responses};
use crate::x402::challenge::HeaderTemplate;

/// The header that holds the challenge of version 2.
const PAYMENT_REQUIRED_HEADER: HeaderName = HeaderName::from_static("payment-required");
/// The most challenges that one worker keeps, of under 10 KiB each.
const MOST: usize = 128;
/// Signed offers change every minute.
const PERIOD_SECONDS: i64 = 60;
/// The headers that can change the response to a request, besides `Content-Length`.
const SPECIAL: [HeaderName; 10] = [
    AUTHORIZATION,
    EXPECT,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("payment-signature"),
    HeaderName::from_static("sign-in-with-x"),
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("x-delete-token"),
    HeaderName::from_static("x-payment"),
    HeaderName::from_static("x-upload-token"),
];

/// The parts of a challenge that are the same for all requests to its URL. A response carries it in
/// its extensions.
#[derive(Debug, Clone)]
pub(super) struct ReusableChallenge {
    /// The header `PAYMENT-REQUIRED`.
    pub(super) header: HeaderTemplate,
    /// The body.
    pub(super) body: Bytes,
    /// The name of the tier that it sells.
    pub(super) tier: String,
}

/// The challenges that one worker sent in this minute.
#[derive(Clone)]
pub(super) struct Challenges {
    site: Site,
    sent: Rc<RefCell<Sent>>,
}

#[derive(Default)]
struct Sent {
    /// The minute, and the prices that applied.
    minute: i64,
    tiers: Option<Arc<TierTable>>,
    /// By method and URL: one path may sell by POST and do something else by GET.
    by_request: HashMap<String, Rc<Known>>,
}

struct Known {
    /// How log lines and metrics name the route, and the tier that it sells.
    route: String,
    tier: String,
    counted: Option<Responses>,
    headers: HeaderMap,
    challenge: ReusableChallenge,
    counts: Arc<TierCounts>,
}

impl Challenges {
    pub(super) fn new(site: Site) -> Self {
        Self {
            site,
            sent: Rc::default(),
        }
    }

    /// Whether a request asks for a challenge, if its URL sells something: whether nothing but the
    /// URL decides about the response. A browser receives a page in place of it.
    pub(super) fn may_answer(request: &Request) -> bool {
        let headers = request.headers();
        let is_empty = headers
            .get(CONTENT_LENGTH)
            .is_none_or(|length| length.as_bytes() == b"0");
        matches!(*request.method(), Method::GET | Method::POST)
            && request.path().starts_with("/api/")
            && is_empty
            && !SPECIAL.iter().any(|name| headers.contains_key(name))
            && !pages::prefers_page(headers)
    }

    /// The response to a request for a known challenge. `None`: the router answers.
    pub(super) async fn answer(&self, request: &Request) -> Option<Response<BoxBody>> {
        let started = Instant::now();
        let known = self.known(request)?;
        let config = &self.site.config.http;
        let client = extract::address_behind(request.peer_addr(), request.headers(), config);
        if let Some(client) = client {
            // The router counts again, and refuses.
            self.site.limits.count_payment(client).await.ok()?;
        }
        let kind = extract::client_kind(request.headers());
        known.counts.add(Stage::Challenged, kind);
        let connection = request.conn_data::<Arc<Connection>>();
        let body = Slices::of(known.challenge.body.clone(), || true);
        let status = StatusCode::PAYMENT_REQUIRED;
        let mut response = Response::with_body(status, timed(body, connection));
        *response.headers_mut() = known.headers.clone();
        let header = known.challenge.header.fill(&self.site.randomness);
        let header = HeaderValue::from_maybe_shared(Bytes::from(header)).ok()?;
        response
            .headers_mut()
            .insert(PAYMENT_REQUIRED_HEADER, header);
        let id = observe::request_id(&self.site);
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        let line = RequestLine {
            id: &id,
            method: request.method().as_str(),
            route: &known.route,
            status: status.as_u16(),
            tier: &known.tier,
            bytes: observe::bytes_of(response.body()),
            elapsed: started.elapsed(),
        };
        line.log();
        if let Some(counted) = &known.counted {
            counted.count(line.elapsed);
        }
        Some(response)
    }

    fn known(&self, request: &Request) -> Option<Rc<Known>> {
        if self.site.moving.service() != Service::Full {
            return None;
        }
        let sent = self.sent.borrow();
        let known = sent
            .by_request
            .get(&key(request.method(), request.uri())?)?;
        let is_current = sent.minute == self.minute() && self.is_priced_as(&sent);
        let is_open = self.site.checkout.as_ref()?.is_open().is_ok();
        (is_current && is_open).then(|| Rc::clone(known))
    }

    /// Keeps a challenge that the router sent to a request for which [`Challenges::may_answer`] is
    /// true.
    pub(super) fn keep<B>(&self, response: &mut ServiceResponse<B>) {
        let challenge = response.response_mut().extensions_mut().remove();
        let Some::<ReusableChallenge>(challenge) = challenge else {
            return;
        };
        let request = response.request();
        let key = key(request.method(), request.uri());
        let (Some(key), Some(route)) = (key, request.match_pattern()) else {
            return;
        };
        let (tier, method) = (observe::tier_of(request), request.method().as_str());
        let status = StatusCode::PAYMENT_REQUIRED.as_u16();
        let known = Known {
            counted: metrics::responses(&route, method, status, &tier, false),
            route,
            tier,
            headers: response.headers().clone(),
            counts: self.site.funnel.of(&challenge.tier),
            challenge,
        };
        let mut sent = self.sent.borrow_mut();
        if sent.minute != self.minute()
            || !self.is_priced_as(&sent)
            || sent.by_request.len() >= MOST
        {
            *sent = Sent {
                minute: self.minute(),
                tiers: Some(self.site.tiers.now()),
                by_request: HashMap::new(),
            };
        }
        sent.by_request.insert(key, Rc::new(known));
    }

    fn minute(&self) -> i64 {
        self.site.clock.now().seconds().div_euclid(PERIOD_SECONDS)
    }

    fn is_priced_as(&self, sent: &Sent) -> bool {
        let now = self.site.tiers.now();
        sent.tiers
            .as_ref()
            .is_some_and(|tiers| Arc::ptr_eq(tiers, &now))
    }
}

/// The name of a request among the challenges: its method, path and query.
fn key(method: &Method, uri: &Uri) -> Option<String> {
    Some(format!("{method} {}", uri.path_and_query()?))
}
