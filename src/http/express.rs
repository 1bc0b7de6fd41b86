//! Answers requests for images and variants in memory before they reach the router and its middleware.
//!
//! Most requests are of this kind, and the router costs several times as much as the answer. A
//! response is the same as that of `serve`; a request that this file doesn't understand whole goes
//! there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_http::header::{
    CONTENT_LENGTH, HeaderMap, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE, TRANSFER_ENCODING, UPGRADE,
};
use actix_http::{HttpMessage, Method, Request, Response, StatusCode};
use actix_web::body::BoxBody;

use super::challenges::Challenges;
use super::deadlines::{Connection, timed};
use super::link::{Asked, Link, canonical_query};
use super::serve;
use super::slices::Slices;
use super::variants::{Parameters, Wanted, wanted};
use super::{REQUEST_ID, Site, extract, observe};
use crate::images::hot::Served;
use crate::moving::Service;
use crate::system::logs::RequestLine;
use crate::system::metrics::{self, Count, Responses};

/// Headers of requests that need more than this file: conditions, ranges, and bodies.
const SPECIAL: [actix_http::header::HeaderName; 8] = [
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    RANGE,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Serves images from memory.
#[derive(Clone)]
pub(super) struct Express {
    site: Site,
    /// The path of the image origin, which ends in a slash.
    folder: String,
    /// How log lines and metrics name the route.
    route: String,
    /// What the worker counts.
    counted: Option<Arc<Counted>>,
}

/// The counters of one worker. No other worker writes to their memory.
struct Counted {
    hits: Arc<Count>,
    whole: Responses,
    head: Responses,
    not_modified: [Responses; 2],
}

impl Counted {
    /// The counters of a new worker. `None`: nothing is counted.
    fn new(route: &str) -> Option<Self> {
        let of = |method, status: StatusCode| {
            let (status, tier) = (status.as_u16(), metrics::NO_TIER);
            metrics::responses(route, method, status, tier, true)
        };
        Some(Self {
            hits: metrics::own_cache_hits()?,
            whole: of("GET", StatusCode::OK)?,
            head: of("HEAD", StatusCode::OK)?,
            not_modified: [
                of("GET", StatusCode::NOT_MODIFIED)?,
                of("HEAD", StatusCode::NOT_MODIFIED)?,
            ],
        })
    }

    fn count(&self, is_head: bool, condition: Condition, took: Duration) {
        self.hits.increase();
        let [get, head] = &self.not_modified;
        let responses = match (condition, is_head) {
            (Condition::None, false) => &self.whole,
            (Condition::None, true) => &self.head,
            (Condition::Fulfilled, false) => get,
            (Condition::Fulfilled, true) => head,
        };
        responses.count(took);
    }
}

impl Express {
    pub(super) fn new(site: Site) -> Self {
        let path = extract::path_of(&site.config.images.base_url);
        Self {
            folder: format!("{path}/"),
            route: format!("{path}/{{file}}"),
            counted: None,
            site,
        }
    }

    /// The same for one worker, which counts what it answers.
    pub(super) fn of_worker(&self) -> Self {
        Self {
            counted: Counted::new(&self.route).map(Arc::new),
            ..self.clone()
        }
    }

    /// The challenges of one worker.
    pub(super) fn challenges(&self) -> Challenges {
        Challenges::new(self.site.clone())
    }

    /// The response to a request for an image in memory. `None`: the router answers.
    pub(super) fn answer(&self, request: &Request) -> Option<Response<BoxBody>> {
        let started = Instant::now();
        let is_head = *request.method() == Method::HEAD;
        if !is_head && *request.method() != Method::GET {
            return None;
        }
        let file = request.path().strip_prefix(&self.folder)?;
        if self.site.moving.service() == Service::Nothing {
            return None;
        }
        let link = Link::parse(file)?;
        let found = self.site.images.peek(&link.id)?;
        let served = self.wanted(found, &link, request.uri().query())?;
        served.bytes.as_ref()?;
        let condition = condition(request.headers(), &served)?;
        let connection = request.conn_data::<Arc<Connection>>();
        let mut response = self.respond(served, condition, is_head, connection)?;
        if self.site.config.cdn.is_some()
            && let Some(tag) = serve::tag_of(&link.id)
        {
            response.headers_mut().insert(serve::CACHE_TAG, tag);
        }
        let id = observe::request_id(&self.site);
        let response = with_id(response, &id);
        let logged = RequestLine {
            id: &id,
            method: request.method().as_str(),
            route: &self.route,
            status: response.status().as_u16(),
            tier: metrics::NO_TIER,
            bytes: observe::bytes_of(response.body()),
            elapsed: started.elapsed(),
        };
        logged.log();
        if let Some(counted) = &self.counted {
            counted.count(is_head, condition, logged.elapsed);
        }
        Some(response)
    }

    /// The image or the variant that the link shows, if the link is canonical and it is in memory.
    fn wanted(&self, found: Served, link: &Link, query: Option<&str>) -> Option<Served> {
        if !link.is_canonical() {
            return None;
        }
        let asked = link.asked(found.image.format);
        let Some(query) = query else {
            if matches!(asked, Asked::Any | Asked::Own) {
                return Some(found);
            }
            return self.variant(found, asked, "");
        };
        if canonical_query(Some(query), None).is_some() {
            return None;
        }
        self.variant(found, asked, query)
    }

    fn variant(&self, found: Served, asked: Asked, query: &str) -> Option<Served> {
        let parameters = Parameters::read(query).ok()?;
        match wanted(asked, &parameters, &found.image).ok()? {
            Wanted::Original => Some(found),
            Wanted::Variant(variant) => self.site.variants.peek(&found, &variant),
        }
    }

    fn respond(
        &self,
        served: Served,
        condition: Condition,
        is_head: bool,
        connection: Option<&Arc<Connection>>,
    ) -> Option<Response<BoxBody>> {
        let now = self.site.clock.now();
        let Served {
            image,
            labels,
            bytes,
        } = served;
        let mut response = match condition {
            Condition::Fulfilled => {
                let mut response = Response::with_body(StatusCode::NOT_MODIFIED, BoxBody::new(()));
                serve::caching(response.headers_mut(), &image, &labels, None, now);
                response
            }
            Condition::None => {
                let body = if is_head {
                    Slices::announced(labels.size_bytes)
                } else {
                    serve::in_memory(&self.site, &image, bytes?)
                };
                let mut response = Response::with_body(StatusCode::OK, timed(body, connection));
                serve::describe(response.headers_mut(), &image, &labels, None, now);
                response
            }
        };
        serve::insert_harmless(response.headers_mut());
        Some(response)
    }
}

/// What the conditional headers of a request ask for.
#[derive(Clone, Copy)]
enum Condition {
    /// There are none.
    None,
    /// The client has this image: 304.
    Fulfilled,
}

/// Reads the conditional headers. `None`: they need the evaluation of `conditions`.
fn condition(headers: &HeaderMap, served: &Served) -> Option<Condition> {
    if SPECIAL.iter().any(|name| headers.contains_key(name)) {
        return None;
    }
    let mut tags = headers.get_all(IF_NONE_MATCH);
    match (tags.next(), tags.next()) {
        (None, _) => Some(Condition::None),
        (Some(tag), None) if tag.as_bytes() == served.labels.etag => Some(Condition::Fulfilled),
        _ => None,
    }
}

fn with_id(mut response: Response<BoxBody>, id: &str) -> Response<BoxBody> {
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}
