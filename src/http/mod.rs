//! The HTTP edge: the routes and their middleware. It translates requests and decides nothing. Only
//! this folder uses actix.

use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{HttpServiceFactory, Server, ServerHandle};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName};
use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::{App as Router, HttpRequest, HttpResponse, HttpServer, guard, web};

use crate::app::App;
use crate::receipts::KEYS_PATH;

mod abuse;
mod accept;
mod admin;
mod api;
mod api_keys;
mod base64_body;
mod body;
mod challenges;
mod check;
mod claims;
mod client_stream;
mod conditions;
mod cors;
mod deadlines;
mod delete;
mod discovery;
#[cfg(test)]
mod documents;
mod drain;
mod error;
mod exposition;
mod express;
mod extract;
mod form;
mod free;
mod health;
mod images;
mod imports;
mod intake;
mod json_body;
mod limits;
mod link;
mod links;
mod list;
mod listener;
mod mcp;
mod moving;
mod observe;
mod oembed;
mod openapi;
mod pace;
mod pages;
mod paid;
mod paid_route;
mod payloads;
mod payment_headers;
mod proof;
mod query;
mod receipts;
mod renew;
mod serve;
mod sign_in;
mod signed_links;
mod slices;
mod tiers;
mod upload_limit;
mod variants;
mod views;

use error::ApiError;

/// The state that all handlers share.
type Site = web::Data<App>;

/// How long requests in flight may take after the server was told to stop, in seconds.
const STOP_SECONDS: u64 = 30;
/// The most clients that are connected at a time. Further ones wait in the kernel.
const MAX_CONNECTIONS: usize = 4096;
/// How long a connection may be idle between two requests.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long the server reads from a connection that it closes, so that the client can read the
/// response.
const LINGER: Duration = Duration::from_secs(2);
/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The response header that holds the request's id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The two running servers: the public one and the operator's.
pub struct Servers {
    public: Server,
    admin: Server,
    deadlines: Arc<deadlines::Deadlines>,
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Servers")
    }
}

impl Servers {
    /// Starts to serve the public routes on one listener and the operator's on another.
    ///
    /// # Errors
    /// If a listener can't be used.
    pub fn start(app: Arc<App>, public: TcpListener, admin: TcpListener) -> std::io::Result<Self> {
        let site = web::Data::from(app);
        let operators = site.clone();
        let monitor = web::Data::new(site.monitor());
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let timeouts = deadlines::Timeouts {
            next_head: (KEEP_ALIVE + HEAD_TIMEOUT).min(site.config.limits.body_timeout),
            reading: site.config.limits.body_timeout,
        };
        let deadlines = deadlines::Deadlines::new(timeouts);
        // The factory below runs once for each worker, so all shared state is built before it.
        let bounds = listener::ListenerLimits {
            workers,
            connections: MAX_CONNECTIONS,
            keep_alive: KEEP_ALIVE,
            head: HEAD_TIMEOUT,
            linger: LINGER,
            stop_seconds: STOP_SECONDS,
        };
        let made_once = web::Data::new(discovery::MadeOnce::default());
        let assets = web::Data::new(pages::Assets::new(&site.config.site));
        let library = web::Data::new(pages::Library::default());
        let express = express::Express::new(site.clone());
        let public = listener::serve(public, bounds, Arc::clone(&deadlines), express, move || {
            let site = site.clone();
            let assets = assets.clone();
            Router::new()
                .app_data(made_once.clone())
                .app_data(library.clone())
                .wrap(from_fn(moving::everything))
                .wrap(from_fn(pages::explain_errors))
                .wrap(from_fn(drain::drain))
                .wrap(from_fn(cors::everywhere))
                .wrap(from_fn(observe::request))
                .wrap(from_fn(deadlines::set_deadlines))
                .configure(move |config| public_routes(config, site, assets))
        })?;
        let admin = HttpServer::new(move || {
            let site = operators.clone();
            Router::new()
                .app_data(monitor.clone())
                .configure(move |config| admin_routes(config, site))
        })
        .workers(1)
        .shutdown_timeout(STOP_SECONDS)
        .disable_signals()
        .listen(admin)?
        .run();
        Ok(Self {
            public,
            admin,
            deadlines,
        })
    }

    /// The handles that stop the two servers.
    pub fn handles(&self) -> [ServerHandle; 2] {
        [self.public.handle(), self.admin.handle()]
    }

    /// Runs until `stop` completes, then lets the requests in flight finish for at most 30 seconds.
    ///
    /// # Errors
    /// If a server fails.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> std::io::Result<()> {
        let handles = self.handles();
        let both = async { tokio::try_join!(self.public, self.admin).map(|_| ()) };
        let enforced = self.deadlines.enforce_forever();
        let both = async {
            tokio::select! {
                ended = both => ended,
                () = enforced => Ok(()),
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

/// The routes of the public listener. The table in `api/routes.rs` defines their methods.
fn public_routes(config: &mut web::ServiceConfig, site: Site, assets: web::Data<pages::Assets>) {
    let image_path = extract::path_of(&site.config.images.base_url);
    config
        .app_data(site)
        .service(api_scope())
        .service(resource(KEYS_PATH, receipts::keys))
        .service(resource("/proof.json", proof::proof))
        .service(resource(mcp::PATH, mcp::call).wrap(from_fn(error::name_tiers)))
        .service(link_scope())
        .service(resource("/oembed", oembed::oembed).wrap(from_fn(limits::misses)))
        .configure(discovery::routes)
        .configure(|config| pages::routes(config, assets))
        // Registered last: an image origin without a path prefix takes every path that is left.
        .service(
            web::scope(&image_path)
                .wrap(from_fn(limits::misses))
                .wrap(from_fn(serve::harden))
                .service(resource_at("/{file}", api::IMAGE_PATH, serve::image))
                .default_service(web::to(serve::no_image)),
        )
        .default_service(web::to(not_found));
}

/// The routes under `/api`.
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
        .service(api_resource("/import", imports::import).wrap(from_fn(moving::changes)))
        .service(api_resource("/links", links::sell_or_list).wrap(from_fn(moving::changes)))
        .service(api_resource("/links/{id}", links::revoke_own).wrap(from_fn(moving::changes)))
        .service(api_resource("/keys", api_keys::collection).wrap(from_fn(moving::changes)))
        .service(api_resource("/keys/{id}", api_keys::revoke).wrap(from_fn(moving::changes)))
        .service(
            api_resource("/keys/{id}/suspend", api_keys::suspend).wrap(from_fn(moving::changes)),
        )
        .service(api_resource("/keys/{id}/resume", api_keys::resume).wrap(from_fn(moving::changes)))
        .service(api_resource("/claims", claims::claim).wrap(from_fn(moving::changes)))
        .service(api_resource("/abuse", abuse::report).wrap(from_fn(moving::changes)))
        .service(api_resource("/abuse/{case}", abuse::case).wrap(from_fn(moving::changes)))
        .service(api_resource("/images", delete::list_or_delete).wrap(from_fn(moving::changes)))
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
        .service(
            api_resource("/images/{id}/links", signed_links::sign_or_end)
                .wrap(from_fn(limits::misses))
                .wrap(from_fn(moving::changes)),
        )
        .service(api_resource("/tiers", tiers::table))
        .default_service(web::to(not_found))
}

/// The routes of upload links. Their paths are secret: no cache keeps a response, no page learns the
/// address from which it was linked to, and no search engine lists it.
fn link_scope() -> impl HttpServiceFactory {
    let headers = DefaultHeaders::new()
        .add((header::CACHE_CONTROL, "no-store"))
        .add((header::REFERRER_POLICY, "no-referrer"))
        .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add(("X-Robots-Tag", "noindex, nofollow"));
    web::scope("/u")
        .wrap(headers)
        .wrap(from_fn(error::name_tiers))
        .service(resource_at("/{secret}", "/u/{secret}", links::at).wrap(from_fn(moving::changes)))
        .service(named("/{secret}/{file}", links::at).wrap(from_fn(moving::changes)))
        .default_service(web::to(not_found))
}

/// The routes of the operator's listener.
fn admin_routes(config: &mut web::ServiceConfig, site: Site) {
    config
        .app_data(site)
        .route("/healthz", web::get().to(health::alive))
        .route("/readyz", web::get().to(health::ready))
        .route("/metrics", web::get().to(exposition::metrics))
        .service(admin::scope())
        .route("/", web::get().to(admin::console::to_page))
        .service(admin::console::scope())
        .default_service(web::to(no_such_path));
}

/// The error for an unknown path of the operator's listener.
async fn no_such_path() -> Result<HttpResponse, ApiError> {
    let message = "The admin listener has no such path. Send GET /healthz, GET /readyz or GET /metrics; /console and /admin/api need admin.token.";
    Err(ApiError::bad(error::Code::UnknownRoute, message))
}

/// A resource at `path` under `/api`, with the methods that the table gives it.
fn api_resource<F, Args>(path: &str, handler: F) -> actix_web::Resource
where
    F: actix_web::Handler<Args> + Copy,
    Args: actix_web::FromRequest + 'static,
    F::Output: actix_web::Responder + 'static,
{
    resource_at(path, &format!("/api{path}"), handler)
}

/// A resource at `path`, with the methods that the table gives it.
fn resource<F, Args>(path: &str, handler: F) -> actix_web::Resource
where
    F: actix_web::Handler<Args> + Copy,
    Args: actix_web::FromRequest + 'static,
    F::Output: actix_web::Responder + 'static,
{
    resource_at(path, path, handler)
}

/// A resource at `path`, with the methods that the table gives the path `described`.
fn resource_at<F, Args>(path: &str, described: &str, handler: F) -> actix_web::Resource
where
    F: actix_web::Handler<Args> + Copy,
    Args: actix_web::FromRequest + 'static,
    F::Output: actix_web::Responder + 'static,
{
    of_methods(path, &api::methods(described), handler)
}

/// A resource at `path` that takes `methods`. It lists them in the response to OPTIONS, and refuses
/// all others.
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

/// A route for uploads that takes PUT only and whose last segment is a file name. The name may be
/// empty. `curl -T` appends the name to a URL that ends in a slash.
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

/// The response to a method that the route doesn't take: the allowed methods for OPTIONS, an error
/// for others.
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

/// The response to a path that is no route.
async fn not_found(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    Err(unknown_route(&request).unless_paid(&request))
}

/// The error for a path that is no route. It names the nearest routes.
fn unknown_route(request: &HttpRequest) -> ApiError {
    let base = request
        .app_data::<Site>()
        .map_or("", |site| site.config.http.base_url.as_str());
    ApiError::UnknownRoute {
        nearest: api::nearest(request.path()),
        openapi: format!("{base}/openapi.json"),
    }
}
