//! Answers requests for images in memory before they reach the router and its middleware.
//!
//! Most requests are of this kind, and the router costs several times as much as the answer. A
//! response is the same as that of `serve`; a request that this file doesn't understand whole goes
//! there.

use std::sync::Arc;
use std::time::Instant;

use actix_http::header::{
    CONTENT_LENGTH, HeaderMap, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE, TRANSFER_ENCODING, UPGRADE,
};
use actix_http::{HttpMessage, Method, Request, Response, StatusCode};
use actix_web::body::BoxBody;

use super::challenges::Challenges;
use super::deadlines::{Connection, timed};
use super::link::{Link, Spelling};
use super::serve;
use super::slices::Slices;
use super::{REQUEST_ID, Site, extract};
use crate::images::hot::Served;
use crate::moving::Service;
use crate::system::logs::RequestLine;

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
    /// How log lines name the route.
    route: String,
}

impl Express {
    pub(super) fn new(site: Site) -> Self {
        let path = extract::path_of(&site.config.images.base_url);
        Self {
            folder: format!("{path}/"),
            route: format!("{path}/{{file}}"),
            site,
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
        let has_query = request.uri().query().is_some();
        if has_query || self.site.moving.service() == Service::Nothing {
            return None;
        }
        let link = Link::parse(file)?;
        let served = self.site.images.peek(&link.id)?;
        if link.spelling(served.image.format) != Spelling::Canonical {
            return None;
        }
        let condition = condition(request.headers(), &served)?;
        let connection = request.conn_data::<Arc<Connection>>();
        let response = self.respond(served, condition, is_head, connection)?;
        let id = super::request_id(&self.site);
        let response = with_id(response, &id);
        let logged = RequestLine {
            id: &id,
            method: request.method().as_str(),
            route: &self.route,
            status: response.status().as_u16(),
            elapsed: started.elapsed(),
        };
        logged.log();
        Some(response)
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
                    Slices::announced(image.size_bytes)
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
