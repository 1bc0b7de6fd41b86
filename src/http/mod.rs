//! The HTTP edge: routes, middleware, and nothing that decides. actix lives only in this folder.

use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::body::MessageBody;
use actix_web::dev::{HttpServiceFactory, Server, ServerHandle, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::middleware::{DefaultHeaders, Next, from_fn};
use actix_web::{App as Router, HttpRequest, HttpResponse, HttpServer, guard, web};
use tracing::Instrument;

use crate::app::App;
use crate::logs;
use crate::receipts::KEYS_PATH;

mod api;
mod base64_body;
mod body;
mod check;
mod conditions;
mod cors;
mod delete;
mod discovery;
#[cfg(test)]
mod documents;
mod drain;
mod error;
mod extract;
mod form;
mod free;
mod health;
mod images;
mod limits;
mod line;
mod link;
mod listener;
mod moving;
mod openapi;
mod pace;
mod paid;
mod payloads;
mod query;
mod receipts;
mod renew;
mod serve;
mod tiers;
mod views;
mod watch;

use error::ApiError;

/// The state of every handler.
type Site = web::Data<App>;

/// How long requests in flight may take after the server was told to stop, in seconds.
const STOP_SECONDS: u64 = 30;
/// How many clients may be connected at once; the next ones wait in the kernel.
const MAX_CONNECTIONS: usize = 4096;
/// How long a connection may lie idle.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a connection that is being closed is read from, so that its client gets to read the answer.
const LINGER: Duration = Duration::from_secs(2);
/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The two running servers: the public one and the operator's.
pub struct Servers {
    public: Server,
    admin: Server,
    watch: Arc<watch::Watch>,
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Servers")
    }
}

impl Servers {
    /// Serves the public routes on one listener and the operator's on another.
    ///
    /// # Errors
    /// When a listener can't be used.
    pub fn start(app: Arc<App>, public: TcpListener, admin: TcpListener) -> std::io::Result<Self> {
        let site = web::Data::from(app);
        let operators = site.clone();
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let patience = watch::Patience {
            next_head: (KEEP_ALIVE + HEAD_TIMEOUT).min(site.config.limits.body_timeout),
            reading: site.config.limits.body_timeout,
        };
        let watch = watch::Watch::new(patience);
        // The factory runs once a worker; everything is built before it.
        let bounds = listener::Bounds {
            workers,
            connections: MAX_CONNECTIONS,
            keep_alive: KEEP_ALIVE,
            head: HEAD_TIMEOUT,
            linger: LINGER,
            stop_seconds: STOP_SECONDS,
        };
        let made_once = web::Data::new(discovery::MadeOnce::default());
        let public = listener::serve(public, bounds, Arc::clone(&watch), move || {
            let site = site.clone();
            Router::new()
                .app_data(made_once.clone())
                .wrap(from_fn(moving::everything))
                .wrap(from_fn(drain::drain))
                .wrap(from_fn(cors::everywhere))
                .wrap(from_fn(log_request))
                .wrap(from_fn(watch::answers))
                .configure(move |config| public_routes(config, site))
        })?;
        let admin = HttpServer::new(move || {
            let site = operators.clone();
            Router::new().configure(move |config| admin_routes(config, site))
        })
        .workers(1)
        .shutdown_timeout(STOP_SECONDS)
        .disable_signals()
        .listen(admin)?
        .run();
        Ok(Self {
            public,
            admin,
            watch,
        })
    }

    /// What stops them.
    pub fn handles(&self) -> [ServerHandle; 2] {
        [self.public.handle(), self.admin.handle()]
    }

    /// Runs until `stop` is done, then lets the requests in flight finish.
    ///
    /// # Errors
    /// When a server failed.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> std::io::Result<()> {
        let handles = self.handles();
        let both = async { tokio::try_join!(self.public, self.admin).map(|_| ()) };
        let watched = self.watch.forever();
        let both = async {
            tokio::select! {
                ended = both => ended,
                () = watched => Ok(()),
            }
        };
        let mut both = std::pin::pin!(both);
        tokio::select! {
            ended = &mut both => return ended,
            () = stop => {}
        }
        let [public, admin] = handles;
        let stopped = async {
            tokio::join!(public.stop(true), admin.stop(true));
        };
        let (ended, ()) = tokio::join!(both, stopped);
        ended
    }
}

/// The routes of the public listener. Their methods are those of the table in `api.rs`.
fn public_routes(config: &mut web::ServiceConfig, site: Site) {
    let image_path = extract::path_of(&site.config.images.base_url);
    config
        .app_data(site)
        .service(api_scope())
        .service(resource(KEYS_PATH, receipts::keys))
        .configure(discovery::routes)
        // The last one: on a host of its own, the image origin is every path that is left.
        .service(
            web::scope(&image_path)
                .wrap(from_fn(limits::misses))
                .wrap(from_fn(serve::harden))
                .service(resource_at("/{file}", api::IMAGE_PATH, serve::image))
                .default_service(web::to(serve::no_image)),
        )
        .default_service(web::to(not_found));
}

fn api_scope() -> impl HttpServiceFactory {
    web::scope("/api")
        .wrap(DefaultHeaders::new().add((header::CACHE_CONTROL, "no-store")))
        .wrap(from_fn(error::name_tiers))
        .service(api_resource("", discovery::index))
        .service(api_resource("/free", free::upload).wrap(from_fn(moving::changes)))
        .service(named("/free/{file}", free::upload).wrap(from_fn(moving::changes)))
        .service(api_resource("/check", check::check))
        .service(named("/check/{file}", check::check))
        .service(api_resource("/upload/token", paid::token).wrap(from_fn(moving::changes)))
        .service(api_resource("/upload/token/{tier}", paid::token).wrap(from_fn(moving::changes)))
        .service(api_resource("/upload", paid::upload).wrap(from_fn(moving::changes)))
        .service(api_resource("/upload/{tier}", paid::upload).wrap(from_fn(moving::changes)))
        .service(named("/upload/", paid::upload).wrap(from_fn(moving::changes)))
        .service(named("/upload/{tier}/{file}", paid::upload).wrap(from_fn(moving::changes)))
        .service(api_resource("/images", delete::many).wrap(from_fn(moving::changes)))
        .service(
            api_resource("/images/{id}", delete::read_or_delete)
                .wrap(from_fn(limits::misses))
                .wrap(from_fn(moving::deletes)),
        )
        .service(api_resource("/receipts/{id}", receipts::of_image).wrap(from_fn(limits::misses)))
        .service(
            api_resource("/images/{id}/renew", renew::renew)
                .wrap(from_fn(limits::misses))
                .wrap(from_fn(moving::changes)),
        )
        .service(api_resource("/tiers", tiers::table))
        .default_service(web::to(not_found))
}

/// What the operator's listener answers.
fn admin_routes(config: &mut web::ServiceConfig, site: Site) {
    config
        .app_data(site)
        .route("/healthz", web::get().to(health::alive))
        .route("/readyz", web::get().to(health::ready))
        .default_service(web::to(no_such_path));
}

async fn no_such_path() -> Result<HttpResponse, ApiError> {
    let message = "The admin listener has no such path. It has /healthz and /readyz.";
    Err(ApiError::bad(error::Code::UnknownRoute, message))
}

/// A resource under `/api`.
fn api_resource<F, Args>(path: &str, handler: F) -> actix_web::Resource
where
    F: actix_web::Handler<Args> + Copy,
    Args: actix_web::FromRequest + 'static,
    F::Output: actix_web::Responder + 'static,
{
    resource_at(path, &format!("/api{path}"), handler)
}

/// A resource at the path that the table describes.
fn resource<F, Args>(path: &str, handler: F) -> actix_web::Resource
where
    F: actix_web::Handler<Args> + Copy,
    Args: actix_web::FromRequest + 'static,
    F::Output: actix_web::Responder + 'static,
{
    resource_at(path, path, handler)
}

/// A resource with the methods that the table gives `described`. It names them to OPTIONS, and refuses every other.
fn resource_at<F, Args>(path: &str, described: &str, handler: F) -> actix_web::Resource
where
    F: actix_web::Handler<Args> + Copy,
    Args: actix_web::FromRequest + 'static,
    F::Output: actix_web::Responder + 'static,
{
    of_methods(path, &api::methods(described), handler)
}

fn of_methods<F, Args>(path: &str, methods: &[Method], handler: F) -> actix_web::Resource
where
    F: actix_web::Handler<Args> + Copy,
    Args: actix_web::FromRequest + 'static,
    F::Output: actix_web::Responder + 'static,
{
    let allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
    let allowed = allowed.join(", ");
    let other = move |request: HttpRequest| std::future::ready(other_method(&request, &allowed));
    methods
        .iter()
        .fold(web::resource(path.to_owned()), |resource, method| {
            resource.route(web::method(method.clone()).to(handler))
        })
        .default_service(web::to(other))
}

/// An upload's route with the name of a file in its last part, which may be empty, as `curl -T` appends it to a URL that ends in
/// a slash. There is no such route for other methods than PUT.
fn named<F, Args>(path: &str, handler: F) -> actix_web::Resource
where
    F: actix_web::Handler<Args> + Copy,
    Args: actix_web::FromRequest + 'static,
    F::Output: actix_web::Responder + 'static,
{
    let methods = guard::Any(guard::Put()).or(guard::Options());
    let path = path.replace("{file}", "{file:[^/]*}");
    of_methods(&path, &[Method::PUT], handler).guard(methods)
}

fn other_method(request: &HttpRequest, allowed: &str) -> Result<HttpResponse, ApiError> {
    if request.method() == Method::OPTIONS {
        let allow = (header::ALLOW, allowed.to_owned());
        return Ok(HttpResponse::NoContent().insert_header(allow).finish());
    }
    let error = ApiError::WrongMethod {
        allowed: allowed.to_owned(),
    };
    Err(error.of(request))
}

async fn not_found(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    Err(unknown_route(&request).unless_paid(&request))
}

/// The error for a path that is no route. It names the nearest ones.
fn unknown_route(request: &HttpRequest) -> ApiError {
    let base = request
        .app_data::<Site>()
        .map_or("", |site| site.config.http.base_url.as_str());
    ApiError::UnknownRoute {
        nearest: api::nearest(request.path()),
        openapi: format!("{base}/openapi.json"),
    }
}

/// Opens the span of a request, logs one line when it is answered, and sends the request's id as `X-Request-Id`.
/// The line names the route's pattern and not the path, since clients put secrets into paths by mistake.
async fn log_request(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let started = Instant::now();
    let method = request.method().clone();
    let id = request
        .app_data::<Site>()
        .map(|site| hex::encode(site.randomness.bytes::<8>()))
        .unwrap_or_default();
    let span = logs::request_span(&id);
    let mut response = next.call(request).instrument(span.clone()).await?;
    let _entered = span.enter();
    let route = response
        .request()
        .match_pattern()
        .unwrap_or_else(|| "unmatched".to_owned());
    let elapsed_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    tracing::info!(%method, route, status = response.status().as_u16(), elapsed_us, "request");
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    Ok(response)
}
